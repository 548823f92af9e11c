"""Seconds of the stages of a training step, measured by a callback and logged as ``seconds/STAGE``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

STAGES = ("data", "forward", "gradcam", "radiomics", "contrastive", "backward", "optimizer")


class StepClock:
    """Measure the seconds of the stages of a step, to be read now and then.

    On CUDA by events, for which the host waits only when the clock is read; waiting for data is the host's own time.

    Args:
        device: the device that computes.

    Example:
        >>> clock = StepClock(torch.device("cpu"))
        >>> with clock.stage("forward"):
        ...     _ = torch.ones(3).sum()
        >>> list(clock.read())
        ['forward']
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started: dict[str, Any] = {}
        self.spans: list[tuple[str, Any, Any]] = []

    def begin(self, name: str) -> None:
        """Begin a stage."""
        self.started[name] = self._now(name)

    def end(self, name: str) -> None:
        """End a stage; one that did not begin is ignored."""
        if name in self.started:
            self.spans.append((name, self.started.pop(name), self._now(name)))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the body of the ``with`` statement as a stage."""
        self.begin(name)
        yield
        self.end(name)

    def read(self) -> dict[str, float]:
        """Return the mean seconds of each stage since the last reading."""
        seconds: dict[str, list[float]] = {}
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        for name, begin, end in self.spans:
            duration = end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000
            seconds.setdefault(name, []).append(duration)
        self.spans = []
        return {name: sum(values) / len(values) for name, values in seconds.items()}

    def _now(self, name: str) -> Any:
        if self.device.type != "cuda" or name == "data":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class StepTimes(Callback):
    """Log the mean seconds of each stage of a step, as often as the trainer logs.

    The stages inside ``training_step`` are measured by the model, through its attribute ``timed``.
    """

    clock: StepClock

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.clock = StepClock(pl_module.device)
        pl_module.timed = self.clock.stage  # type: ignore[assignment]
        self.clock.begin("data")

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.clock.end("data")

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: torch.Tensor
    ) -> None:
        self.clock.begin("backward")

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.clock.end("backward")

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.clock.begin("optimizer")

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.clock.end("optimizer")
        if self.is_time_to_read(trainer, batch_idx):
            self.keep(pl_module, self.clock.read())
        self.clock.begin("data")

    def is_time_to_read(self, trainer: Any, batch_idx: int) -> bool:
        """Return True after each ``log_every_n_steps`` steps and at the end of an epoch."""
        return (batch_idx + 1) % trainer.log_every_n_steps == 0 or batch_idx + 1 == trainer.num_training_batches

    def keep(self, pl_module: lightning.LightningModule, seconds: dict[str, float]) -> None:
        """Log the mean seconds of the stages."""
        for name, value in seconds.items():
            pl_module.log(f"seconds/{name}", value, on_step=False, on_epoch=True)
