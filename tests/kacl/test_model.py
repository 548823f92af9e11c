"""Settings of KACL that change how it is trained: the first bias, averages, early ends, decay, and speed."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logit
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("lightning")

import lightning
from lightning.pytorch.callbacks import Callback

from kacl_gpu.kacl import model as model_module
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.model import KACL, log_odds
from kacl_gpu.kacl.training.fit import fit

SMALL: dict[str, Any] = {"weights": None, "hidden": 16, "projection": 8}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    make_phantoms(folder, images=160, size=64, seed=3, boxed=0.4, workers=1)
    return folder


def data(phantoms: Path) -> ChestXrays:
    return ChestXrays(phantoms, size=64, batch_size=16, workers=0)


def trainer(**options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(**{"accelerator": "cpu", "enable_checkpointing": False, **quiet, **options})


def arguments(phantoms: Path, out: Path, **options: object) -> list[str]:
    settings = {
        "data.root": phantoms, "data.size": 64, "data.batch_size": 16, "data.workers": 0, "model.weights": "null",
        "model.hidden": 16, "model.projection": 8, "model.warmup_epochs": 0, "trainer.limit_train_batches": 2,
        "trainer.limit_val_batches": 1, "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false", "trainer.logger": "false", "panels_every": 0, "out": out,
    }  # fmt: skip
    settings |= {name.replace("__", "."): value for name, value in options.items()}
    return [f"--{name}={value}" for name, value in settings.items()]


# --- the first bias


def test_log_odds() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 4)) < [0.5, 0.1, 0.02, 0.3]).astype(float)
    labels[rng.random((200, 4)) < 0.2] = -1
    expected = [logit(column[column >= 0].mean()) for column in labels.T]
    np.testing.assert_allclose(log_odds(torch.from_numpy(labels)), expected, rtol=1e-12)
    edges = torch.tensor([[0, 1, -1]] * 100)  # never, always, never known
    np.testing.assert_allclose(log_odds(edges), [np.log(0.5 / 100), np.log(100 / 0.5), 0])


def test_the_bias_begins_at_the_log_odds_of_the_training_images(phantoms: Path, tmp_path: Path) -> None:
    """Once: neither a checkpoint nor a second call of fit begins anew."""
    images, quick = data(phantoms), {"max_epochs": 1, "limit_train_batches": 0}
    model = KACL(**SMALL, diseases=["Mass", "Effusion"])
    images = ChestXrays(phantoms, size=64, batch_size=16, workers=0, diseases=["Mass", "Effusion"])
    assert (model.classifier.bias == 0).all()
    trainer(**quick).fit(model, images)
    shares = images.train.table[["Mass", "Effusion"]].mean()
    np.testing.assert_allclose(model.classifier.bias.detach(), logit(shares.to_numpy()), rtol=1e-6)
    with torch.no_grad():
        model.classifier.bias.fill_(7)
    again = trainer(**quick)
    again.fit(model, images)
    assert (model.classifier.bias == 7).all()
    again.save_checkpoint(tmp_path / "a.ckpt")
    loaded = KACL.load_from_checkpoint(tmp_path / "a.ckpt", map_location="cpu", weights_only=True)
    trainer(**quick).fit(loaded, images)
    assert (loaded.classifier.bias == 7).all()
    zero = KACL(**SMALL, diseases=["Mass", "Effusion"], bias="zero")
    trainer(**quick).fit(zero, images)
    assert (zero.classifier.bias == 0).all()


def test_without_the_data_the_bias_begins_at_zero(phantoms: Path) -> None:
    images = data(phantoms)
    images.setup()
    model = KACL(**SMALL)
    with pytest.warns(UserWarning, match="bias begins at 0"):
        trainer(max_epochs=1, limit_train_batches=0).fit(model, images.train_dataloader())
    assert (model.classifier.bias == 0).all()


# --- averages of the weights


class Recorder(Callback):
    """Keep the state after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: lightning.LightningModule, *_: Any) -> None:
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def test_moving_average(phantoms: Path, tmp_path: Path) -> None:
    """Against a loop over the states of all steps; counts are those of the last step."""
    recorder = Recorder()
    options = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
    run = trainer(**options, callbacks=[recorder])
    run.fit(KACL(**SMALL, warmup_epochs=1, ema=0.75), data(phantoms))
    average = recorder.states[0]
    for state in recorder.states[1:]:
        average = {name: 0.75 * value + 0.25 * state[name] for name, value in average.items()}
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert len(recorder.states) == 4 and saved.keys() == average.keys()
    for name, value in saved.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[name].to(value.dtype), rtol=1e-5, atol=1e-7, msg=name)
        else:
            assert torch.equal(value, recorder.states[-1][name]), name
    assert (saved["classifier.weight"] - recorder.states[-1]["classifier.weight"]).abs().max() > 1e-5


def test_an_average_goes_on_where_it_was_interrupted(phantoms: Path, tmp_path: Path) -> None:
    fit(arguments(phantoms, tmp_path / "one", model__ema=0.75, trainer__max_epochs=2))
    fit(arguments(phantoms, tmp_path / "two", model__ema=0.75, trainer__max_epochs=1))
    fit([*arguments(phantoms, tmp_path / "two", model__ema=0.75, trainer__max_epochs=2), "--resume"])
    one, two = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("one", "two"))
    for part in ("state_dict", "current_model_state"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), (part, name)


# --- when training ends, and its best epoch


def test_patience_and_the_best_epoch(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of the warm-up count for neither, and a run that has ended does not go on."""
    scores = iter([0.9, 0.95, 0.5, 0.6, 0.55, 0.58, 0.7, 0.8])
    monkeypatch.setattr(model_module, "epoch_measures", lambda *_: {"auc": torch.tensor(next(scores))})
    options = {"model__warmup_epochs": 2, "model__patience": 2, "trainer__max_epochs": 8}
    command = arguments(phantoms, tmp_path / "out", **options, trainer__limit_train_batches=1)
    for words in (command, [*command, "--resume"]):
        fit(words)
        best, last = (
            torch.load(tmp_path / "out" / "checkpoints" / f"{name}.ckpt", weights_only=True)
            for name in ("best", "last")
        )
        assert best["epoch"] == 3 and last["epoch"] == 5
    assert next(scores) == 0.7


def test_an_epoch_without_validation_is_not_the_best(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 2 would take over the AUC of epoch 1, which was of the warm-up."""
    scores = iter([0.9, 0.5])
    monkeypatch.setattr(model_module, "epoch_measures", lambda *_: {"auc": torch.tensor(next(scores))})
    options = {"model__warmup_epochs": 2, "trainer__max_epochs": 4, "trainer__check_val_every_n_epoch": 2}
    fit(arguments(phantoms, tmp_path / "out", **options, trainer__limit_train_batches=1))
    best = torch.load(tmp_path / "out" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 3


@pytest.mark.parametrize("epochs, byop, words", [(2, True, "no best.ckpt"), (2, False, None), (3, True, None)])
def test_a_training_that_ends_in_the_warm_up_says_so(
    phantoms: Path, tmp_path: Path, epochs: int, byop: bool, words: str | None
) -> None:
    """BYOP has no part in it; without BYOP nothing is missing."""
    options = {"model__warmup_epochs": 2, "trainer__max_epochs": epochs, "model__byop": byop}
    command = arguments(phantoms, tmp_path / "out", **options, trainer__limit_train_batches=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit([word.replace("limit_val_batches=1", "limit_val_batches=1.0") for word in command])
    said = [str(warning.message) for warning in caught if "best.ckpt" in str(warning.message)]
    assert len(said) == bool(words)
    assert (tmp_path / "out" / "checkpoints" / "best.ckpt").exists() == (words is None)


def test_without_byop_every_epoch_can_be_the_best() -> None:
    with_byop, without = KACL(**SMALL, warmup_epochs=3), KACL(**SMALL, warmup_epochs=3, byop=False)
    assert [with_byop.has_all_losses(epoch) for epoch in (0, 2, 3)] == [False, False, True]
    assert without.has_all_losses(0)


# --- the optimiser


def test_weight_decay() -> None:
    """Check that matrices and convolutions alone decay, and that each parameter stands once."""
    model = KACL(**SMALL, weight_decay=0.1)
    made: Any = model.configure_optimizers()
    optimizer = made["optimizer"]
    assert type(optimizer) is torch.optim.AdamW
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters())) == len(decays)
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (
            0.0 if name.endswith("bias") or ".bn" in name or ".downsample.1" in name else 0.1
        )
    plain: Any = KACL(**SMALL).configure_optimizers()
    assert type(plain["optimizer"]) is torch.optim.Adam and len(plain["optimizer"].param_groups) == 1


def test_adam_is_fused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless gradients are clipped, which it cannot do while they are scaled."""
    model: Any = KACL(**SMALL)
    assert model.configure_optimizers()["optimizer"].param_groups[0]["fused"] is None
    with FakeTensorMode():
        parameters = [torch.nn.Parameter(torch.empty(3, device="cuda"))]
        monkeypatch.setattr(model, "parameters", lambda: parameters)
        for clip, fused in ((None, True), (1.0, None)):
            model._trainer = SimpleNamespace(gradient_clip_val=clip)
            assert model.configure_optimizers()["optimizer"].param_groups[0]["fused"] is fused


# --- speed


def test_channels_last() -> None:
    """Compare with the same network, but for rounding; its activations have the other memory format."""
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    torch.manual_seed(0)
    plain = KACL(**SMALL).eval()
    torch.manual_seed(0)
    other = KACL(**SMALL, channels_last=True).eval()
    with torch.no_grad():
        (expected, _), (activations, _) = plain.encoder(images), other.encoder(images)
    assert activations.is_contiguous(memory_format=torch.channels_last)
    assert not expected.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(activations, expected, rtol=1e-4, atol=1e-5)


def test_compile(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that changes nothing the weights have the same bits, and their names stay."""
    compiled: list[object] = []
    make = torch.compile

    def eagerly(function: Any, **options: Any) -> Any:
        compiled.append(function)
        return make(function, **options, backend="eager")

    monkeypatch.setattr(torch, "compile", eagerly)
    states = []
    for number, setting in enumerate(("false", "true")):
        fit(arguments(phantoms, tmp_path / setting, model__compile=setting, trainer__max_epochs=1))
        assert len(compiled) == number
        path = tmp_path / setting / "checkpoints" / "last.ckpt"
        states.append(torch.load(path, weights_only=True)["state_dict"])
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
