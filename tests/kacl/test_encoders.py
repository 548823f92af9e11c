"""The encoders against torchvision's networks, and every form of a file of weights."""

from __future__ import annotations

import argparse
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from kacl_gpu.errors import InputError
from kacl_gpu.kacl.encoders import (
    ENCODERS,
    GREY_MEAN,
    GREY_STD,
    ImageEncoder,
    Projector,
    RadiomicEncoder,
    standardise,
)

# The image encoder


def colour_network(name: str) -> nn.Module:
    """Return torchvision's network with random weights, its running statistics not the initial ones."""
    torch.manual_seed(1)
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=7)
    network(torch.randn(2, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("name", ENCODERS)
def test_grey_is_the_colour_network_on_grey(name: str, tmp_path: Path) -> None:
    network = colour_network(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = ImageEncoder(name, tmp_path / "weights.pth").double().eval()
    network.double()
    images = torch.randn((2, 1, 64, 96), dtype=torch.float64)
    with torch.no_grad():
        activations, pooled = encoder(images)
        classifier = network.get_submodule("classifier" if name == "densenet121" else "fc")
        # the sum over the colours was rounded to float32
        torch.testing.assert_close(classifier(pooled), network(images.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-6)
    assert activations.shape == (2, encoder.channels, 2, 3)
    assert torch.equal(pooled, activations.mean((2, 3)))
    assert torch.equal(activations, encoder.features(images))
    assert (activations >= 0).all()
    assert not any(isinstance(part, nn.Linear) for part in encoder.modules())


def test_without_weights_the_initialisation_is_torchvisions() -> None:
    torch.manual_seed(2)
    network = torchvision.models.resnet18(weights=None)
    torch.manual_seed(2)
    encoder = ImageEncoder()
    own = encoder.state_dict()
    assert torch.equal(own["features.conv1.weight"], network.conv1.weight.sum(1, keepdim=True))
    assert torch.equal(own["features.layer4.1.conv2.weight"], network.layer4[1].conv2.weight)
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_every_form_of_a_state_dict(tmp_path: Path) -> None:
    state = colour_network("resnet18").state_dict()
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    grey = state | {"conv1.weight": state["conv1.weight"].sum(1, keepdim=True)}
    torch.save(state, tmp_path / "whole.pth")
    wanted = ImageEncoder("resnet18", str(tmp_path / "whole.pth")).state_dict()
    assert torch.equal(wanted["features.layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    for form in (headless, old, grey, wanted):
        torch.save(form, tmp_path / "form.pth")
        found = ImageEncoder("resnet18", tmp_path / "form.pth").state_dict()
        assert found.keys() == wanted.keys()
        for key in wanted:
            if form is not old or not key.endswith("num_batches_tracked"):
                assert torch.equal(found[key], wanted[key]), key


def test_the_old_names_of_the_published_densenet(tmp_path: Path) -> None:
    state = colour_network("densenet121").state_dict()
    torch.save(state, tmp_path / "new.pth")
    parts = [(part, f"{part[:-1]}.{part[-1]}") for kind in ("norm", "conv") for part in (f"{kind}1", f"{kind}2")]
    old = {}
    for key, value in state.items():
        for new_part, old_part in parts:
            key = key.replace(f".{new_part}.", f".{old_part}.") if "denselayer" in key else key
        old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    new, found = (ImageEncoder("densenet121", tmp_path / f"{name}.pth").state_dict() for name in ("new", "old"))
    assert all(torch.equal(found[key], new[key]) for key in new)


def wrapped(state: dict[str, Tensor], name: str) -> dict[str, dict[str, object]]:
    """Return files of weights as public reimplementations of CheXNet and training frameworks save them."""
    head = {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
    chexnet = {f"module.{name}.{key}": value for key, value in head.items()}
    chexnet[f"module.{name}.classifier.0.weight"] = torch.zeros(14, 3)
    lightning = {f"encoder.features.{key.removeprefix('features.')}": value for key, value in head.items()}
    return {
        "DataParallel": {f"module.{key}": value for key, value in state.items()},
        "CheXNet": {"epoch": 7, "best_loss": 0.2, "state_dict": chexnet, "optimizer": {"state": {}}},
        "two wrappers": {"model": {"state_dict": state}, "arch": name},
        "model_state_dict": {"model_state_dict": {f"backbone.{key}": value for key, value in state.items()}},
        "a run of ours": {"state_dict": lightning | {"classifier.weight": torch.zeros(8, 3)}, "epoch": 2},
        "half precision": {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
    }


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_weights_of_reimplementations(name: str, tmp_path: Path) -> None:
    state = colour_network(name).state_dict()
    torch.save(state, tmp_path / "plain.pth")
    wanted = ImageEncoder(name, tmp_path / "plain.pth").state_dict()
    for form, content in wrapped(state, name).items():
        torch.save(content, tmp_path / "model.pth.tar")
        loaded = ImageEncoder(name, tmp_path / "model.pth.tar").state_dict()
        for key, value in wanted.items():
            if form == "half precision":
                torch.testing.assert_close(loaded[key], value, rtol=1e-2, atol=1e-2, msg=f"{form}: {key}")
            else:
                assert torch.equal(loaded[key], value), f"{form}: {key}"


def test_the_first_chexnet(tmp_path: Path) -> None:
    """Prefix, wrapper and the names of an old torchvision at once."""
    state = colour_network("densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    torch.save(
        {"state_dict": {f"module.densenet121.{key}": value for key, value in old.items()}}, tmp_path / "m.pth.tar"
    )
    torch.save(state, tmp_path / "plain.pth")
    loaded, wanted = (ImageEncoder("densenet121", tmp_path / name).state_dict() for name in ("m.pth.tar", "plain.pth"))
    assert any(".norm.1." in key for key in old) and all(torch.equal(loaded[key], wanted[key]) for key in wanted)


def test_two_networks_in_one_file(tmp_path: Path) -> None:
    state = colour_network("resnet18").state_dict()
    both = {f"encoder_{letter}.{key}": value for letter in "qk" for key, value in state.items()}
    torch.save(both, tmp_path / "moco.pth")
    with pytest.raises(InputError, match=r"several networks, under the prefixes encoder_q\., encoder_k\.: save one"):
        ImageEncoder("resnet18", tmp_path / "moco.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    state = colour_network("resnet18").state_dict()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = value
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth has NaN or infinite values in 1 tensor \(layer1\.0\.conv1\."):
        ImageEncoder("resnet18", tmp_path / "weights.pth")


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    """At any place: one line, with the remedy."""
    file = tmp_path / "weights.pth"
    torch.save(colour_network("resnet18").state_dict(), file)
    content = file.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"cannot read the file of weights .*(empty|cut off|damaged)") as caught:
            ImageEncoder("resnet18", file)
        assert "\n" not in str(caught.value)


def test_a_pickled_network_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=1), "state_dict": {}}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"would run code from the file; .*torch\.save\(model\.state_dict\(\), FILE\)"):
        ImageEncoder("resnet18", tmp_path / "weights.pth")


def test_files_that_hold_no_such_weights(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with pytest.raises(InputError, match=r"no such file of weights: .*weights.pth"):
        ImageEncoder("resnet18", file)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"cannot read the file of weights .*weights.pth"):
        ImageEncoder("resnet18", file)
    torch.save(colour_network("resnet18"), file)  # a pickled network, which would run code
    with pytest.raises(InputError, match=r"cannot read the file of weights .*weights.pth"):
        ImageEncoder("resnet18", file)
    for wrong in ({"state_dict": {}}, [1, 2]):
        torch.save(wrong, file)
        with pytest.raises(InputError, match=r"no state dict \(names to tensors\) in .*weights.pth"):
            ImageEncoder("resnet18", file)
    state = colour_network("resnet18").state_dict()
    torch.save(state, file)
    with pytest.raises(InputError, match=r"weights.pth does not fit resnet50: \d+ tensors missing \(features.*of anot"):
        ImageEncoder("resnet50", file)
    with pytest.raises(InputError, match=r"does not fit densenet121: .* missing .* unknown \(features.conv1.weight"):
        ImageEncoder("densenet121", file)
    torch.save(state | {"conv1.weight": torch.zeros(64, 2, 7, 7)}, file)
    with pytest.raises(InputError, match=r"resnet18: 1 tensors of another shape \(features.conv1.weight, ...\)$"):
        ImageEncoder("resnet18", file)
    with pytest.raises(InputError, match="unknown encoder: vgg; known are resnet18, resnet50, densenet121"):
        ImageEncoder("vgg")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("problem", [urllib.error.URLError("no route"), TimeoutError("no route")])
def test_imagenet_without_network(
    name: str, problem: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> NoReturn:
        raise problem

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(
        InputError, match=rf"{name} .*no route.*: download https://\S+/{name}-\w+\.pth .* path"
    ) as caught:
        ImageEncoder(name, "imagenet")
    assert "\n" not in str(caught.value)


def test_imagenet_from_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = colour_network("resnet18").state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(state, cache / "resnet18-f37072fd.pth")
    found = ImageEncoder("resnet18", "imagenet").state_dict()["features.conv1.weight"]
    assert torch.equal(found, state["conv1.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 64, 64), torch.zeros(2, 64, 64), torch.zeros(2, 1, 64, 64).byte()]
)
def test_images_that_are_not_grey_input(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be floating \(B, 1, H, W\), got torch\.\w+ \(2, "):
        ImageEncoder()(images)


def test_normalise() -> None:
    raw = np.arange(256).reshape(1, 16, 16)
    want = ((raw / 255 - GREY_MEAN) / GREY_STD)[:, None]
    for dtype in (torch.uint8, torch.int16, torch.float32, torch.float64):
        found = standardise(torch.from_numpy(raw).to(dtype))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), want, atol=1e-6)
        assert torch.equal(standardise(torch.from_numpy(raw[:, None]).to(dtype)), found)
    np.testing.assert_allclose(standardise(torch.from_numpy(raw * 16), 4080).numpy(), want, atol=1e-6)
    # what torchvision's own transformation would give in each colour
    transform = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=16, resize_size=16)
    colours = transform(torch.from_numpy(raw).byte().expand(3, -1, -1))
    assert 0.1 < np.abs(colours.numpy() - want[0]).max() < 0.21
    np.testing.assert_allclose((GREY_MEAN, GREY_STD), (np.mean(transform.mean), np.mean(transform.std)), atol=1e-9)
    for wrong in (torch.zeros(4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"images must be \(B, H, W\)"):
            standardise(wrong)
    for kind in (torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=str(kind)):
            standardise(torch.zeros((1, 4, 4), dtype=kind))
    with pytest.raises(ValueError, match="max_value must be positive, got 0"):
        standardise(torch.zeros(1, 4, 4), 0)


# The MLPs


@pytest.mark.parametrize(
    ("make", "widths", "last"),
    [(Projector, (5, 512, 128), False), (RadiomicEncoder, (5, 512, 512, 512), True)],
)
def test_the_mlps(make: Callable[[int], nn.Sequential], widths: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(3)
    module = make(5).double()
    weights, biases = list(module.parameters())[::2], list(module.parameters())[1::2]
    assert tuple(weight.shape for weight in weights) == tuple(zip(widths[1:], widths))
    rows = np.random.default_rng(0).normal(size=(4, 5))
    want = rows
    for index, (weight, bias) in enumerate(zip(weights, biases)):
        want = want @ weight.detach().numpy().T + bias.detach().numpy()
        if last or index < len(weights) - 1:
            want = np.maximum(want, 0)
    np.testing.assert_allclose(module(torch.from_numpy(rows)).detach().numpy(), want, atol=1e-12)


def test_widths() -> None:
    assert Projector(3, hidden=4, out=2)(torch.zeros(5, 3)).shape == (5, 2)
    encoder = RadiomicEncoder(3, hidden=4, out=6)
    assert encoder(torch.zeros(5, 3)).shape == (5, 6) and encoder.channels == 6
