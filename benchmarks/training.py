"""What radiomics costs in a training step of KACL: ``python -m benchmarks.training [--out FILE.json]``.

Steps of ``kacl-gpu fit`` on random labels: ResNet-18, batches of 64 images of 224 x 224, in mixed precision on a GPU.
The network is not trained, so that many of its boxes are the whole image: more pixels than later on. Ends with status 1
where radiomics and boxes take more than 5 % of a step on a GPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.workloads import synthetic_radiographs
from kacl_gpu import RadiomicsSettings
from kacl_gpu.kacl import byop
from kacl_gpu.kacl.data.diseases import DISEASES
from kacl_gpu.kacl.model import KACL
from kacl_gpu.kacl.training.clock import STAGES, StepTimes

WARMUP = 5  # steps that compile, and are left out
EVERY = 5  # steps from one reading of the clock to the next: each one waits for the device
LIMIT = 0.05  # of a step on a GPU, for radiomics and boxes


class KeptTimes(StepTimes):
    """Keep the mean seconds of the stages of every few steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.steps: list[dict[str, float]] = []

    def is_time_to_read(self, trainer: Any, batch_idx: int) -> bool:
        return (batch_idx + 1) % self.every == 0

    def keep(self, pl_module: lightning.LightningModule, seconds: dict[str, float]) -> None:
        self.steps.append(seconds)


class Images(Dataset[dict[str, Tensor]]):
    """Radiographs with one to three diseases each, or none."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(0)
        self.images = synthetic_radiographs(min(count, 256), 224)
        self.labels = torch.from_numpy(random.random((count, len(DISEASES))) < 0.12).float()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "image": self.images[index % len(self.images)][None],
            "labels": self.labels[index],
            "normal": ~self.labels[index].any(),
            "boxes": torch.full((len(DISEASES), 4), torch.nan),
            "index": torch.tensor(index),
        }


def by_pyradiomics(images: Tensor, boxes: Tensor, *, settings: RadiomicsSettings, invalid: str) -> Tensor:
    """Run PyRadiomics in the place of ours, as the paper's authors call it: on the host, an image after another."""
    from reference.pyradiomics import pyradiomics_features

    rows = pyradiomics_features(images.cpu(), boxes.cpu(), settings=settings, invalid=invalid)
    return torch.from_numpy(rows).float().to(images.device)


def measure(batch: int, steps: int, one_by_one: bool = False, every: int = EVERY) -> list[dict[str, float]]:
    """Return the mean seconds of the parts of every few steps after the first ones.

    Args:
        one_by_one: the radiomic features from PyRadiomics, image by image.
        every: steps from one reading of the clock to the next.
    """
    with patch.object(byop, "gpu_radiomics", by_pyradiomics) if one_by_one else nullcontext():
        return _measure(batch, steps, every)


def _measure(batch: int, steps: int, every: int) -> list[dict[str, float]]:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    model, times = KACL(weights=None, warmup_epochs=0), KeptTimes(every)
    trainer = lightning.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=1,
        precision="16-mixed" if gpu else "32-true",
        max_epochs=1,
        callbacks=[times],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(Images(batch * (WARMUP + steps)), batch, num_workers=2, pin_memory=gpu)
    trainer.fit(model, loader)
    return times.steps[WARMUP // every :]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100 if torch.cuda.is_available() else 15)
    arguments = parser.parse_args()
    steps = measure(arguments.batch, arguments.steps)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    seconds = {part: np.array([step.get(part, 0.0) for step in steps]) for part in STAGES}
    # data waits beside the device's work: not a part of the step's time there
    total = sum(values for part, values in seconds.items() if part != "data")
    description = f"{EVERY * len(steps)} steps, read every {EVERY}"
    print(f"{device}, PyTorch {torch.__version__}, batch {arguments.batch}, {description}")
    for part, values in seconds.items():
        low, median, high = np.percentile(values, (25, 50, 75)) * 1000
        print(f"  {part:<12} {median:9.2f} ms ({low:.2f} to {high:.2f})")
    share = float(np.median((seconds["gradcam"] + seconds["radiomics"]) / total))
    print(f"  boxes and radiomics: {100 * share:.1f} % of the step")
    if arguments.out:
        result = {
            "device": device,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "batch": arguments.batch,
            "seconds": {part: values.tolist() for part, values in seconds.items()},
            "share": share,
        }
        arguments.out.write_text(json.dumps(result, indent=1))
    return int(torch.cuda.is_available() and share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
