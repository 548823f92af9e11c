"""``kacl-gpu fit``: settings from files and flags, checkpoints that are always whole, runs that can be resumed."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from kacl_gpu.errors import InputError, OutputError, one_line
from kacl_gpu.io.journal import lock
from kacl_gpu.io.tables import atomic_file, write_table

from ..boxes import has_box
from ..checkpoints import SETTINGS_OF_DATA, SETTINGS_OF_MODEL, read_checkpoint
from ..data.datamodule import ChestXrays
from ..data.dataset import check_root
from ..evaluation.figures import curves, panels, save_figure
from ..model import KACL
from .clock import StepTimes
from .parser import FitParser, NamedConfig

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of ModelCheckpoint
# settings of the data that a resumed run may have of its own; what they lead to is compared when the data is open
FREE = ("root", "workers", "split_file", "batch_size")


class WholeFiles(TorchCheckpointIO):
    """Write checkpoints that take their names only when they are complete and on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        # First into memory, for torch.save hides the reason why a file cannot be written
        content = BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(Path(path)) as file:
            file.write(content.getbuffer())


class Best(ModelCheckpoint):
    """Keep the checkpoint with the best AUC; there is none if no disease has positives and negatives in validation."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, also if the folder of the run was moved, which Lightning takes for another run."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(path: str) -> str:
            return str(Path(now) / Path(path).name) if path else path

        if before != now:
            best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
            paths = {name: moved(state_dict[name]) for name in PATHS}
            state_dict = {**state_dict, **paths, "best_k_models": best, "dirpath": now}
        super().load_state_dict(state_dict)


class FiniteWeights(Callback):
    """End a run whose weights became NaN or infinite, before its checkpoint is overwritten by them."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not all(bool(parameter.isfinite().all()) for parameter in pl_module.parameters()):
            raise InputError(
                f"the training diverged in epoch {trainer.current_epoch}: weights are NaN or infinite; the checkpoints "
                "are those of earlier epochs; begin anew in another --out with a lower --model.learning_rate"
            )


class Restored(Callback):
    """Tell whether a trainer has restored its checkpoint and begun to train."""

    done = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.done = True


class EpochTable(Callback):
    """Write metrics.csv, one row per complete epoch, also over interruptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rate = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]  # at the end it is the next epoch's already

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        names = sorted(name for name in metrics if "/" in name and not name.startswith("step/"))
        row = {"epoch": trainer.current_epoch, "rate": self.rate} | {name: float(metrics[name]) for name in names}
        table = pd.DataFrame([row])
        if self.path.exists():
            earlier = read_epochs(self.path)
            table = pd.concat([earlier[earlier["epoch"] < trainer.current_epoch], table])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, self.path)


def read_epochs(path: Path) -> pd.DataFrame:
    """Read metrics.csv.

    Raises:
        InputError: it is damaged.
    """
    try:
        table = pd.read_csv(path)
        if not pd.api.types.is_numeric_dtype(table["epoch"]):
            raise ValueError("an epoch is no number")
    except (OSError, ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
        raise InputError(
            f"cannot read {path}: it is cut off or damaged ({one_line(error)}); move it away, and --resume goes on"
        ) from error
    return table


class Panels(Callback):
    """Draw heatmaps with boxes of a few images every few epochs, to TensorBoard and to a folder.

    Args:
        folder: folder of the pictures.
        every: number of epochs from one picture to the next; 0: none.
        images: number of images; half of them annotated ones of training, half of validation, as far as there are.
    """

    def __init__(self, folder: Path, every: int, images: int = 8) -> None:
        self.folder, self.every, self.images = folder, every, images

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero or self.every == 0 or (trainer.current_epoch + 1) % self.every:
            return
        assert isinstance(pl_module, KACL)
        data: Any = trainer
        samples = self.samples(data.datamodule)
        if not samples:
            return
        epoch = trainer.current_epoch + 1
        figure = draw(pl_module, samples, f"after epoch {epoch}")
        self.folder.mkdir(parents=True, exist_ok=True)
        save_figure(figure, self.folder / f"epoch_{epoch:03d}.png", dpi=100)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("panels", figure, epoch)

    def samples(self, data: ChestXrays) -> list[dict[str, Tensor]]:
        """Return the images to draw: the first of each kind, the same each time."""
        annotated = data.train.table.index[data.train.table["annotated"]][: self.images // 2]
        ill = data.validation.table.index[(data.validation.table[list(data.diseases)] > 0).any(axis=1)]
        return [data.train[row] for row in annotated] + [
            data.validation[row] for row in ill[: self.images - len(annotated)]
        ]


@torch.no_grad()
def draw(model: KACL, samples: Sequence[dict[str, Tensor]], title: str) -> Figure:
    """Draw heatmaps and boxes of samples, of an annotated disease, else of the first that an image has."""
    images = torch.stack([sample["image"] for sample in samples]).to(model.device)
    labels = torch.stack([sample["labels"] for sample in samples])
    true = torch.stack([sample["boxes"] for sample in samples])
    annotated = has_box(true)
    disease = torch.where(annotated.any(1), annotated.int().argmax(1), labels.argmax(1))
    size = images.shape[-2], images.shape[-1]
    training, _ = model.training, model.eval()
    activations, pooled = model.encoder(images)
    maps, (boxes, _, _) = model.look(activations, disease.to(model.device), size)
    probability = model.classifier(pooled).sigmoid().cpu()
    model.train(training)
    rows = torch.arange(len(samples))
    titles = [f"{model.diseases[d]}\n{p:.2f}" for d, p in zip(disease.tolist(), probability[rows, disease].tolist())]
    return panels(images, maps, true[rows, disease], boxes, titles, title)


class Command(LightningCLI):
    """Lightning's command line with an output folder, resumption, and our checkpoints and tables."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return the parser, in which ``--config`` also takes the name of a shipped configuration."""
        parser = FitParser(**kwargs)
        parser.add_argument(
            "-c", "--config", metavar="NAME", action=NamedConfig, help="a shipped configuration, or a YAML file"
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", default="runs/kacl", help="folder to write")
        parser.add_argument(
            "--resume", action="store_true", help="go on from OUT/checkpoints/last.ckpt, if it is there"
        )
        parser.add_argument("--panels_every", type=int, default=5, help="epochs between pictures of heatmaps; 0: none")
        parser.link_arguments("data", "model.diseases", lambda data: list(data.diseases), apply_on="instantiate")
        parser.link_arguments("data", "model.findings", lambda data: list(data.findings), apply_on="instantiate")
        parser.link_arguments("data", "model.max_value", lambda data: data.max_value, apply_on="instantiate")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def instantiate_classes(self) -> None:
        """Make model, data and trainer; a model that is resumed has its weights in the checkpoint."""
        given = self.config.model.weights
        if given is not None:
            check_root(Path(self.config.data.root))  # before weights are downloaded
        if self.config.resume and _last(self.config).exists():
            self.config.model.weights = None
        super().instantiate_classes()
        self.config.model.weights = self.model.hparams["initial_weights"] = given

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Return the Trainer that the settings describe, with the callbacks and files of every run."""
        config, out = self.config_init, Path(self.config_init.out)
        asked = config.trainer
        whole: dict[str, Any] = {
            "dirpath": _last(config).parent, "enable_version_counter": False, "save_on_train_epoch_end": True,
        }  # fmt: skip
        ours: dict[str, Any] = {
            "callbacks": [
                # before the last one, which then holds what is the best by now
                Best(filename="best", monitor="val/auc", mode="max", **whole),
                ModelCheckpoint(filename="last", **whole),
                StepTimes(),
                FiniteWeights(),
                EpochTable(out / "metrics.csv"),
                Panels(out / "panels", config.panels_every),
                *_listed(asked.callbacks),
                *progress_bar(asked),
            ],
            "plugins": [WholeFiles(), *_listed(asked.plugins)],
            "default_root_dir": asked.default_root_dir or out,
        }
        if asked.logger is False:
            ours["logger"] = False
        else:
            given = [] if asked.logger is True else _listed(asked.logger)
            ours["logger"] = [TensorBoardLogger(out, name="", version=""), *given]  # OUT itself is the log_dir
            ours["callbacks"].append(LearningRateMonitor("epoch"))
        if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun's; it started the processes, and Lightning is to count them so
            on_each = int(os.environ["LOCAL_WORLD_SIZE"])
            ours |= {"devices": on_each, "num_nodes": int(os.environ["WORLD_SIZE"]) // on_each}
        devices, nodes = ours.get("devices", asked.devices), ours.get("num_nodes", asked.num_nodes)
        if asked.strategy == "auto" and processes(asked.accelerator, devices) * nodes > 1:
            # in the warm-up the radiomic branch has no gradient, which DistributedDataParallel must be told
            ours["strategy"] = "ddp_find_unused_parameters_true"
        return super().instantiate_trainer(**ours, **kwargs)


def _last(config: Any) -> Path:
    return Path(config.out) / "checkpoints" / "last.ckpt"


def _listed(given: Any) -> list[Any]:
    """Return one, several or none, as the Trainer takes them, as a list."""
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def progress_bar(trainer: Any) -> list[Callback]:
    """Return a progress bar that reads losses only when they are logged, for each reading waits for the device."""
    given = any(isinstance(callback, ProgressBar) for callback in _listed(trainer.callbacks))
    if given or trainer.enable_progress_bar is False:
        return []
    return [TQDMProgressBar(refresh_rate=trainer.log_every_n_steps or 50)]


def processes(accelerator: str, devices: Any) -> int:
    """Return the number of processes that the Trainer will start on each node, before there is a Trainer.

    Example:
        >>> processes("cpu", 2)
        2
    """
    if devices in ("auto", -1, "-1"):
        return max(torch.cuda.device_count(), 1) if accelerator in ("auto", "gpu", "cuda") else 1
    if isinstance(devices, str):
        devices = [device for device in devices.split(",") if device.strip()] if "," in devices else int(devices)
    return devices if isinstance(devices, int) else len(devices)


def command(argv: Sequence[str]) -> Command:
    """Read the settings and make the model, the data and the trainer."""
    # Lightning warns of arguments that are not the process's own: these are, less the name of the subcommand
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    return Command(
        KACL,
        ChestXrays,
        args=list(argv),
        run=False,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        trainer_defaults={"max_epochs": 30, "num_sanity_val_steps": 0, "log_every_n_steps": 10},
        auto_configure_optimizers=False,  # it is the model's: no --optimizer, no --lr_scheduler
    )


def fit(argv: Sequence[str]) -> Command:
    """Train.

    Args:
        argv: the command's arguments: ``--config FILE``, ``--out FOLDER``, ``--resume``, and all settings by name.

    Returns:
        The command, with its model, data and trainer.

    Raises:
        InputError: the settings or the folders cannot be used, or OUT holds a run that would be lost or is another.
        KeyboardInterrupt: interrupted; the last checkpoint is that of the last epoch.
        SystemExit: of the argument parser, with its words on stderr.
    """
    try:
        made = command(argv)
    except (ValueError, MisconfigurationException) as error:  # of a setting that cannot be
        raise InputError(str(error)) from error
    out, last = Path(made.config.out), _last(made.config)
    if last.exists() and not made.config.resume:
        raise InputError(f"{out} holds a run already: go on with --resume, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with lock(out) if made.trainer.is_global_zero else nullcontext():
            _train(made, out, last)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise OutputError(f"cannot write {error.filename or out}: {error.strerror}; {_kept(last)}") from error
    except OutputError as error:
        raise OutputError(f"{error}; {_kept(last)}") from error
    return made


def _train(made: Command, out: Path, last: Path) -> None:
    """Train, from the last checkpoint if there is one, and draw the curves."""
    resumed = last.exists()
    if resumed:
        _check_same_run(last, made)
        if (out / "metrics.csv").exists():
            read_epochs(out / "metrics.csv")
    restored = Restored()
    made.trainer.callbacks.append(restored)  # type: ignore[attr-defined]
    try:
        made.trainer.fit(made.model, made.datamodule, ckpt_path=last if resumed else None)
    except (InputError, OSError):
        raise
    except MisconfigurationException as error:
        raise InputError(str(error)) from error
    except SystemExit as error:  # Lightning shuts down and ends so after an interruption
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    except Exception as error:  # a damaged checkpoint raises whatever its missing parts are used for
        if not resumed or restored.done:
            raise
        kind = f"{type(error).__name__}: " if isinstance(error, (KeyError, IndexError)) else ""
        raise InputError(
            f"cannot go on from {last}: it is damaged or was edited ({kind}{one_line(error)}); "
            "begin anew in another --out"
        ) from error
    if made.trainer.is_global_zero and (out / "metrics.csv").exists():
        save_figure(curves(read_epochs(out / "metrics.csv")), out / "curves.png", dpi=100)


def _kept(last: Path) -> str:
    """Return what is left of a run that could not write, and how to go on."""
    if last.exists():
        return f"{last} is kept: make room, and the same command with --resume goes on"
    return "no checkpoint was written yet: make room, or choose another --out"


def _check_same_run(last: Path, made: Command) -> None:
    """Raise if a checkpoint is damaged, or comes from other settings of model or data."""
    checkpoint = read_checkpoint(last)
    # Without one of these Lightning would begin anew with the weights
    needed = ("loops", "optimizer_states", "lr_schedulers", "callbacks", ChestXrays.__name__)
    if lacking := [name for name in needed if not checkpoint.get(name)]:
        raise InputError(
            f"cannot go on from {last}: it lacks {', '.join(lacking)}, so it is no checkpoint of an interrupted run; "
            "begin anew in another --out, with the file as --model.weights"
        )
    states = checkpoint["callbacks"]
    for callback in made.trainer.checkpoint_callbacks:
        state = states.get(callback.state_key) if isinstance(states, dict) else None
        if isinstance(callback, Best) and not (isinstance(state, dict) and {*PATHS, "best_k_models"} <= state.keys()):
            raise InputError(
                f"cannot go on from {last}: it has no state of the best checkpoint, so it is damaged or was edited; "
                "begin anew in another --out"
            )
    differ = []
    for key, now in ((SETTINGS_OF_MODEL, made.model.hparams), (SETTINGS_OF_DATA, made.datamodule.hparams)):
        before = checkpoint[key]
        names = sorted((before.keys() | now.keys()) - {"_instantiator", *(FREE if key.startswith("data") else ())})
        differ += [
            f"{name}: {before.get(name)!r}, now {now.get(name)!r}"
            for name in names
            if before.get(name) != now.get(name)
        ]
    if differ:
        raise InputError(f"{last} was trained with other settings: {'; '.join(differ)}")
