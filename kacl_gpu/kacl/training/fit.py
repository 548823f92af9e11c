"""``kacl-gpu fit``: settings from files and flags, checkpoints that are always whole, runs that can be resumed."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import lightning
import pandas as pd
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib.figure import Figure
from torch import Tensor

from kacl_gpu.errors import InputError, OutputError, one_line
from kacl_gpu.io.journal import lock
from kacl_gpu.io.tables import atomic_file, write_table

from ..boxes import has_box
from ..checkpoints import SETTINGS_OF_DATA, SETTINGS_OF_MODEL, read_checkpoint
from ..data.datamodule import ChestXrays
from ..data.dataset import check_root
from ..data.diseases import NO_FINDING
from ..evaluation.figures import curves, panels, save_figure
from ..model import KACL
from .clock import StepTimes
from .parser import FitParser, NamedConfig

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of ModelCheckpoint
# settings of the data that a resumed run may have of its own; what they lead to is compared when the data is open
FREE = ("root", "workers", "split_file", "batch_size")


class WholeFiles(TorchCheckpointIO):
    """Write checkpoints that take their names only when they are complete and on the disk.

    Example:
        >>> WholeFiles().save_checkpoint({"epoch": 3}, "checkpoints/last.ckpt")
        >>> torch.load("checkpoints/last.ckpt", weights_only=True)
        {'epoch': 3}
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        # First into memory, for torch.save hides the reason why a file cannot be written
        content = BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(Path(path)) as file:
            file.write(content.getbuffer())


class Best(ModelCheckpoint):
    """Keep the checkpoint with the best AUC of those epochs in which every loss was trained.

    An epoch of the warm-up is never the best: BYOP had no part in it. There is no such checkpoint if training ends in
    the warm-up, or if no disease has positives and negatives in the validation.

    Example:
        >>> Best(dirpath="checkpoints").monitor
        'val/auc'
    """

    def __init__(self, dirpath: Path | str, **options: Any) -> None:
        super().__init__(dirpath, filename="best", monitor="val/auc", mode="max", **options)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Warn if training is to end in the warm-up, before BYOP and the best checkpoint."""
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, KACL)
        epochs = -1 if trainer.max_epochs is None else trainer.max_epochs  # -1: without an end
        if epochs > 0 and not pl_module.has_all_losses(epochs - 1):
            rank_zero_warn(
                f"all {epochs} epochs (trainer.max_epochs) are of the warm-up, model.warmup_epochs "
                f"{pl_module.settings.warmup_epochs}: BYOP will have no part in this training, and there will be a "
                "last.ckpt but no best.ckpt; train for more epochs, or with a shorter warm-up"
            )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, KACL)
        validated = pl_module.is_validated_with_all_losses(trainer.current_epoch)
        if validated and self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, also if the folder of the run was moved, which Lightning takes for another run."""
        saved_folder, folder = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(path: str) -> str:
            return str(Path(folder) / Path(path).name) if path else path

        if saved_folder != folder:
            best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
            paths = {name: moved(state_dict[name]) for name in PATHS}
            state_dict = {**state_dict, **paths, "best_k_models": best, "dirpath": folder}
        super().load_state_dict(state_dict)


class FiniteWeights(Callback):
    """End a run whose weights or statistics became NaN or infinite, before its checkpoint is overwritten by them.

    Example:
        >>> model = torch.nn.BatchNorm2d(1)
        >>> _ = model.running_var.fill_(torch.inf)
        >>> FiniteWeights().on_train_epoch_end(lightning.Trainer(logger=False, accelerator="cpu"), model)
        Traceback (most recent call last):
            ...
        kacl_gpu.errors.InputError: the training diverged in epoch 0: running_var is NaN or infinite; ...
    """

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for name, value in pl_module.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                raise InputError(
                    f"the training diverged in epoch {trainer.current_epoch}: {name} is NaN or infinite; the "
                    "checkpoints are those of earlier epochs; begin anew in another --out with a lower "
                    "--model.learning_rate"
                )


class Restored(Callback):
    """Record that a trainer has restored its checkpoint and begun to train.

    Example:
        >>> Restored().done
        False
    """

    done = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.done = True


class EpochTable(Callback):
    """Write metrics.csv, one row per complete epoch, also over interruptions.

    Args:
        path: file to write.

    Example:
        >>> EpochTable(Path("metrics.csv")).path.exists()
        False
    """

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

    Example:
        >>> _ = Path("metrics.csv").write_text("epoch,val/auc\\n0,0.6\\n")
        >>> read_epochs(Path("metrics.csv"))["val/auc"].tolist()
        [0.6]
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

    Example:
        >>> Panels(Path("panels"), every=5).images
        8
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
        diseases = [name for name in data.diseases if name != NO_FINDING]  # which has no region
        ill = data.validation.table.index[(data.validation.table[diseases] > 0).any(axis=1)]
        return [data.train[row] for row in annotated] + [
            data.validation[row] for row in ill[: self.images - len(annotated)]
        ]


@torch.no_grad()
def draw(model: KACL, samples: Sequence[dict[str, Tensor]], title: str) -> Figure:
    """Draw heatmaps and boxes of samples, of an annotated disease, else of the first that an image has.

    Args:
        model: its mode, training or evaluation, stays.
        samples: items of `kacl_gpu.kacl.data.dataset.NIHChestXray14`.
        title: title of the picture.

    Example:
        >>> sample = {"image": torch.zeros(1, 64, 64), "labels": torch.tensor([0.0, 1.0]), "boxes": torch.zeros(2, 4)}
        >>> figure = draw(KACL(weights=None, diseases=["Mass", "Nodule"]), [sample], "at the beginning")
        >>> figure.get_suptitle()
        'at the beginning'
    """
    images = torch.stack([sample["image"] for sample in samples]).to(model.device)
    labels = torch.stack([sample["labels"] for sample in samples])
    true = torch.stack([sample["boxes"] for sample in samples])
    annotated = has_box(true)
    labels[:, [k for k, name in enumerate(model.diseases) if name == NO_FINDING]] = -torch.inf  # it has no region
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
    """Lightning's command line with an output folder, resumption, and our checkpoints and tables.

    Made by `command`, whose example shows its parts.
    """

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
        weights = self.config.model.weights
        if weights is not None:
            check_root(Path(self.config.data.root))  # before weights are downloaded
        if self.config.resume and _last(self.config).exists():
            self.config.model.weights = None
        super().instantiate_classes()
        self.config.model.weights = self.model.hparams["initial_weights"] = weights

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Return the Trainer that the settings describe, with the callbacks and files of every run."""
        config, out = self.config_init, Path(self.config_init.out)
        settings = config.trainer
        checkpoints: dict[str, Any] = {
            "dirpath": _last(config).parent, "enable_version_counter": False, "save_on_train_epoch_end": True,
        }  # fmt: skip
        options: dict[str, Any] = {
            "callbacks": [
                # before the last one, which then holds what is the best by now
                Best(**checkpoints),
                ModelCheckpoint(filename="last", **checkpoints),
                StepTimes(),
                FiniteWeights(),
                EpochTable(out / "metrics.csv"),
                Panels(out / "panels", config.panels_every),
                *_listed(settings.callbacks),
                *progress_bar(settings),
            ],
            "plugins": [WholeFiles(), *_listed(settings.plugins)],
            "default_root_dir": settings.default_root_dir or out,
        }
        if settings.logger is False:
            options["logger"] = False
        else:
            loggers = [] if settings.logger is True else _listed(settings.logger)
            options["logger"] = [TensorBoardLogger(out, name="", version=""), *loggers]  # OUT itself is the log_dir
            options["callbacks"].append(LearningRateMonitor("epoch"))
        if settings.precision is None and not settings.plugins:  # which may be a precision
            # into config.yaml too, so that it says what was done
            options["precision"] = self.config.trainer.precision = default_precision(settings.accelerator)
        if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun's; it started the processes, and Lightning is to count them so
            on_each = int(os.environ["LOCAL_WORLD_SIZE"])
            options |= {"devices": on_each, "num_nodes": int(os.environ["WORLD_SIZE"]) // on_each}
        return super().instantiate_trainer(**options, **kwargs)


def _last(config: Any) -> Path:
    return Path(config.out) / "checkpoints" / "last.ckpt"


def _listed(items: Any) -> list[Any]:
    """Return one, several or none, as the Trainer takes them, as a list."""
    return [] if items is None else list(items) if isinstance(items, (list, tuple)) else [items]


def progress_bar(trainer: Any) -> list[Callback]:
    """Return a progress bar that reads losses only when they are logged, for each reading waits for the device.

    Args:
        trainer: settings of the Trainer, by name.

    Returns:
        One callback; none if the settings have a bar already, or want none.

    Example:
        >>> from types import SimpleNamespace
        >>> settings = SimpleNamespace(callbacks=None, enable_progress_bar=None, log_every_n_steps=10)
        >>> [type(bar).__name__ for bar in progress_bar(settings)]
        ['TQDMProgressBar']
    """
    has_bar = any(isinstance(callback, ProgressBar) for callback in _listed(trainer.callbacks))
    if has_bar or trainer.enable_progress_bar is False:
        return []
    return [TQDMProgressBar(refresh_rate=trainer.log_every_n_steps or 50)]


def default_precision(accelerator: str) -> Literal["bf16-mixed", "32-true"]:
    """Return the precision of a run that names none: bfloat16 on GPUs that compute in it, from capability 8.0 on.

    Example:
        >>> default_precision("cpu")
        '32-true'
    """
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.get_device_capability() >= (8, 0) else "32-true"


def command(argv: Sequence[str]) -> Command:
    """Read the settings and make the model, the data and the trainer.

    Args:
        argv: as for `fit`.

    Raises:
        ValueError, MisconfigurationException: of a setting that cannot be.
        SystemExit: of the argument parser, with its words on stderr.

    Example:
        >>> run = command(["--config=nih", "--data.root=nih256", "--model.weights=null", "--trainer.accelerator=cpu"])
        >>> run.model.hparams["warmup_epochs"], run.datamodule.batch_size, run.trainer.max_epochs
        (10, 64, 30)
    """
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

    Example:
        >>> fit(["--data.root=nowhere", "--model.weights=null"])
        Traceback (most recent call last):
            ...
        kacl_gpu.errors.InputError: no such folder: nowhere
    """
    try:
        run = command(argv)
    except (ValueError, MisconfigurationException) as error:  # of a setting that cannot be
        raise InputError(str(error)) from error
    out, last = Path(run.config.out), _last(run.config)
    if last.exists() and not run.config.resume:
        raise InputError(f"{out} holds a run already: go on with --resume, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with lock(out) if run.trainer.is_global_zero else nullcontext():
            _train(run, out, last)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise OutputError(f"cannot write {error.filename or out}: {error.strerror}; {_kept(last)}") from error
    except OutputError as error:
        raise OutputError(f"{error}; {_kept(last)}") from error
    return run


def _train(run: Command, out: Path, last: Path) -> None:
    """Train, from the last checkpoint if there is one, and draw the curves."""
    resumed = last.exists()
    if resumed:
        _check_same_run(last, run)
        if (out / "metrics.csv").exists():
            read_epochs(out / "metrics.csv")
    restored = Restored()
    run.trainer.callbacks.append(restored)  # type: ignore[attr-defined]
    try:
        run.trainer.fit(run.model, run.datamodule, ckpt_path=last if resumed else None)
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
    if run.trainer.is_global_zero and (out / "metrics.csv").exists():
        save_figure(curves(read_epochs(out / "metrics.csv")), out / "curves.png", dpi=100)


def _kept(last: Path) -> str:
    """Return what is left of a run that could not write, and how to go on."""
    if last.exists():
        return f"{last} is kept: make room, and the same command with --resume goes on"
    return "no checkpoint was written yet: make room, or choose another --out"


def _check_same_run(last: Path, run: Command) -> None:
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
    for callback in run.trainer.checkpoint_callbacks:
        state = states.get(callback.state_key) if isinstance(states, dict) else None
        if isinstance(callback, Best) and not (isinstance(state, dict) and {*PATHS, "best_k_models"} <= state.keys()):
            raise InputError(
                f"cannot go on from {last}: it has no state of the best checkpoint, so it is damaged or was edited; "
                "begin anew in another --out"
            )
    differ = []
    for key, settings in ((SETTINGS_OF_MODEL, run.model.hparams), (SETTINGS_OF_DATA, run.datamodule.hparams)):
        saved = checkpoint[key]
        names = sorted((saved.keys() | settings.keys()) - {"_instantiator", *(FREE if key.startswith("data") else ())})
        differ += [
            f"{name}: {saved.get(name)!r}, now {settings.get(name)!r}"
            for name in names
            if saved.get(name) != settings.get(name)
        ]
    if differ:
        raise InputError(f"{last} was trained with other settings: {'; '.join(differ)}")
