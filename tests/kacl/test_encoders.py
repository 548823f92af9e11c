"""The encoders against torchvision's networks, the normaliser against NumPy, two processes against one."""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch import distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.spawn import spawn

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.errors import InputError
from kacl_gpu.io.pictures import find_images, read_image
from kacl_gpu.kacl.encoders import (
    ENCODERS,
    GREY_MEAN,
    GREY_STD,
    FeatureNormaliser,
    ImageEncoder,
    Projector,
    RadiomicEncoder,
    SynchronisedBatchNorm2d,
    normalise,
    synchronise_batchnorm,
)

# The image encoder


def colour_network(name: str) -> nn.Module:
    """torchvision's network with random weights, its running statistics not the initial ones."""
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


def test_files_that_hold_no_such_weights(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with pytest.raises(InputError, match=r"no such file of weights: .*weights.pth"):
        ImageEncoder("resnet18", file)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"cannot read the weights in .*weights.pth"):
        ImageEncoder("resnet18", file)
    torch.save(colour_network("resnet18"), file)  # a pickled network, which would run code
    with pytest.raises(InputError, match=r"cannot read the weights in .*weights.pth"):
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
        found = normalise(torch.from_numpy(raw).to(dtype))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), want, atol=1e-6)
        assert torch.equal(normalise(torch.from_numpy(raw[:, None]).to(dtype)), found)
    np.testing.assert_allclose(normalise(torch.from_numpy(raw * 16), 4080).numpy(), want, atol=1e-6)
    # what torchvision's own transformation would give in each colour
    transform = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms(crop_size=16, resize_size=16)
    colours = transform(torch.from_numpy(raw).byte().expand(3, -1, -1))
    assert 0.1 < np.abs(colours.numpy() - want[0]).max() < 0.21
    np.testing.assert_allclose((GREY_MEAN, GREY_STD), (np.mean(transform.mean), np.mean(transform.std)), atol=1e-9)
    for wrong in (torch.zeros(4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"images must be \(B, H, W\)"):
            normalise(wrong)
    for kind in (torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=str(kind)):
            normalise(torch.zeros((1, 4, 4), dtype=kind))
    with pytest.raises(ValueError, match="max_value must be positive, got 0"):
        normalise(torch.zeros(1, 4, 4), 0)


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


# The normaliser of features


def batches(seed: int, sizes: tuple[int, ...] = (7, 1, 0, 12), features: int = 5) -> list[Tensor]:
    """Rows over many orders of magnitude, of both signs; one row is NaN and so is a single value of another."""
    rng = np.random.default_rng(seed)
    made = []
    for size in sizes:
        x = rng.normal(size=(size, features)) * 10.0 ** np.linspace(-8, 8, features)
        if size > 3:
            x[1] = np.nan
            x[3, 2] = np.inf
        made.append(torch.from_numpy(x))
    return made


def plain(history: list[Tensor], rows: Tensor, horizon: float = np.inf) -> np.ndarray:
    """The normaliser's definition, each row seen with a weight that fades when the weights would pass the horizon."""
    log = [np.sign(x) * np.log1p(np.abs(x)) for x in (b.numpy() for b in history)]
    out = np.zeros((len(rows), rows.shape[1] + 1))
    for f in range(rows.shape[1]):
        values, weights = np.zeros(0), np.zeros(0)
        for batch in log:
            new = batch[np.isfinite(batch[:, f]), f]
            values, weights = np.append(values, new), np.append(weights, np.ones(len(new)))
            if weights.sum() > horizon:
                weights *= horizon / weights.sum()
        mean = np.average(values, weights=weights)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=weights))
        for k, x in enumerate(rows[:, f].tolist()):
            if np.isfinite(x):
                out[k, f] = np.clip((np.sign(x) * np.log1p(abs(x)) - mean) / deviation, -10, 10)
            else:
                out[k, -1] += 1 / rows.shape[1]
    return out


@pytest.mark.parametrize("horizon", [1e9, 15, 2])
def test_the_normaliser_is_its_definition(horizon: float) -> None:
    module = FeatureNormaliser(5, horizon=horizon)
    assert module.out_features == 6
    seen: list[Tensor] = []
    for batch in batches(0):
        seen.append(batch)
        found = module(batch)
        np.testing.assert_allclose(found.numpy(), plain(seen, batch, horizon), rtol=1e-9, atol=1e-9)
        assert torch.equal(module.eval()(batch), found)  # one map, and evaluation learns nothing
        assert torch.equal(module.train().count.clamp(max=horizon), module.count)
    assert found[1].tolist() == [0] * 5 + [1]
    assert found[3, 2] == 0 and found[3, -1] == pytest.approx(1 / 5)
    other = FeatureNormaliser(5)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.eval()(batch), found)
    # a row does not depend on the others, nor on how many there are
    assert torch.equal(module.eval()(batch[4:5]), found[4:5])


def test_statistics_keep_their_dtype() -> None:
    normaliser = FeatureNormaliser(3)
    normaliser(torch.tensor([[1.0, 2, 3], [1.1, 2.2, 3.3]]))
    mean = normaliser.mean.clone()
    for convert in ("half", "bfloat16", "float"):
        getattr(normaliser, convert)()
        assert torch.equal(normaliser.mean, mean) and normaliser.mean.dtype == torch.float64
    assert normaliser.to("meta", torch.float16).squares.device.type == "meta"


def test_degenerate_features() -> None:
    module = FeatureNormaliser(4, limit=3)
    x = torch.zeros(1000, 4)
    x[:, 0] = 12345.678
    x[:, 1] = 12345.678 * (1 + torch.randn(1000) * 1e-7)  # constant but for the last bit of a float32
    x[:, 2] = torch.linspace(0, 1e-8, 1000)  # small, and not constant
    x[0, 3] = 1e8  # one wild value
    found = module(x)
    assert (found[:, [0, 1]] == 0).all() and x[:, 1].std() > 0
    assert found[:, 2].std(correction=0) == pytest.approx(1, abs=1e-4)
    assert found[0, 3] == 3 and found[:, 3].abs().max() == 3
    assert (module.eval()(torch.full((1, 4), 1e30)).abs() <= 3).all()


def test_the_normaliser_before_any_valid_row() -> None:
    module = FeatureNormaliser(3)
    nothing = torch.tensor([[0.0, 0, 0, 1]]).expand(2, 4)
    assert torch.equal(module(torch.full((2, 3), torch.nan)), nothing)
    assert torch.equal(module.eval()(torch.ones(1, 3)), torch.zeros(1, 4))
    assert module.state_dict().keys() == {"count", "mean", "squares"}


def test_what_the_normaliser_refuses() -> None:
    for wrong in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3).int()):
        with pytest.raises(ValueError, match=r"features must be floating \(K, 3\), got torch"):
            FeatureNormaliser(3)(wrong)
    for arguments in ((0,), (3, 0), (3, 10, -1)):
        with pytest.raises(ValueError, match="not positive"):
            FeatureNormaliser(*arguments)


def test_no_value_goes_to_the_host() -> None:
    with FakeTensorMode(), torch.device("cuda"):
        module, rows = FeatureNormaliser(7), torch.empty(4, 7)
        assert module(rows).device.type == "cuda"
        torch._dynamo.reset()
        assert torch.compile(module, fullgraph=True, backend="eager")(rows).shape == (4, 8)


def test_radiomic_features_of_real_images() -> None:
    folder = os.environ.get("KACL_GPU_DATA")
    if not folder:
        pytest.skip("KACL_GPU_DATA does not name a folder of real X-rays")
    files = list(find_images(Path(folder, "nih_mini")).values())[:24]
    images = torch.stack([torch.from_numpy(np.array(read_image(file)[0])) for file in files])
    corner = torch.arange(24)[:, None] * torch.tensor([4, 3])
    boxes = torch.cat([corner, corner + 60 + corner.flip(0)], 1).float()
    boxes[5] = 0  # an empty box
    features = gpu_radiomics(images, boxes, settings=RadiomicsSettings(bin_count=32), invalid="nan")
    found = FeatureNormaliser(features.shape[1])(features)
    valid = torch.arange(24) != 5
    assert found[5].tolist() == [0] * 102 + [1]
    # every feature tells something, and none dominates
    torch.testing.assert_close(found[valid, :-1].std(0, correction=0), torch.ones(102), rtol=0, atol=1e-4)
    assert found[:, :-1].mean(0).abs().max() < 1e-5 and found.abs().max() < 10


# Several processes


def inputs() -> dict[str, Tensor]:
    generator = torch.manual_seed(4)
    shape = (6, 3, 5, 4)
    return {
        "x": torch.randn(shape, generator=generator) * 3 + 20,
        "cotangent": torch.randn(shape, generator=generator),
        "second": torch.randn(shape, generator=generator),
    }


def normalise_batches(module: nn.BatchNorm2d, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Two batches through a module, and the gradients of the first."""
    with torch.no_grad():
        if module.affine:
            module.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
            module.bias.copy_(torch.tensor([0.1, -3.0, 0.0]))
    x = data["x"].clone().requires_grad_()
    out = module(x)
    (out * data["cotangent"]).sum().backward()
    result = {"out": out.detach(), "gradient": torch.as_tensor(x.grad), "second": module(data["second"]).detach()}
    result |= {f"gradient of {key}": torch.as_tensor(p.grad) for key, p in module.named_parameters()}
    result |= {f"state {key}": value for key, value in module.state_dict().items()}
    return result | {"evaluation": module.eval()(data["x"]).detach()}


MODULES: dict[str, dict[str, Any]] = {
    "default": {},
    "cumulative": {"momentum": None, "eps": 1e-3},
    "bare": {"affine": False, "track_running_stats": False},
}


def one_of_two(rank: int, folder: str) -> None:
    """What each process does with its part: 4 images of 6, or 2; 11 rows of features, or 8."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = slice(0, 4) if rank == 0 else slice(4, 6)
    data = {key: value[part] for key, value in inputs().items()}
    results: dict[str, Any] = {}
    for name, options in MODULES.items():
        module = synchronise_batchnorm(nn.BatchNorm2d(3, **options))
        assert type(module) is SynchronisedBatchNorm2d
        results[name] = normalise_batches(module, data)
    rough = synchronise_batchnorm(nn.BatchNorm2d(3))(data["x"].bfloat16())
    assert rough.dtype == torch.bfloat16
    results["rough"] = rough.float()
    normaliser = FeatureNormaliser(5, horizon=20)
    rows = torch.cat(batches(5)), torch.cat(batches(6))
    results["features"] = [normaliser(x[:11] if rank == 0 else x[11:]) for x in rows]
    results["statistics"] = normaliser.state_dict()
    torch.save(results, f"{folder}/{rank}.pth")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    spawn(one_of_two, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", MODULES)
def test_two_processes_normalise_as_one(name: str, two_processes: list[dict[str, Any]]) -> None:
    want = normalise_batches(nn.BatchNorm2d(3, **MODULES[name]), inputs())
    first, second = (result[name] for result in two_processes)
    assert first.keys() == want.keys()
    for key, value in want.items():
        if key.startswith("state"):
            assert torch.equal(first[key], second[key])
            found = first[key]
        elif key.startswith("gradient of"):
            found = first[key] + second[key]
        else:
            # without running statistics each process evaluates with those of its own batch, as BatchNorm2d does
            if key == "evaluation" and name == "bare":
                continue
            found = torch.cat([first[key], second[key]])
        torch.testing.assert_close(found, value, rtol=1e-6, atol=2e-6)
    if name == "default":
        # bfloat16 has 8 bits: half a unit in the last place is 0.4 %
        rough = torch.cat([result["rough"] for result in two_processes])
        torch.testing.assert_close(rough, nn.BatchNorm2d(3)(inputs()["x"].bfloat16().float()), rtol=1e-2, atol=1e-2)


def test_two_processes_learn_the_same_statistics(two_processes: list[dict[str, Any]]) -> None:
    module = FeatureNormaliser(5, horizon=20)
    for index, rows in enumerate((torch.cat(batches(5)), torch.cat(batches(6)))):
        found = torch.cat([result["features"][index] for result in two_processes])
        # one process merges other parts, in float64
        torch.testing.assert_close(found, module(rows), rtol=1e-12, atol=1e-12)
    for key, value in module.state_dict().items():
        assert torch.equal(*(result["statistics"][key] for result in two_processes))
        torch.testing.assert_close(two_processes[0]["statistics"][key], value, rtol=1e-12, atol=1e-12)


def test_synchronised_batch_normalisation_alone() -> None:
    """Without torch.distributed nothing changes; parameters and keys stay."""
    torch.manual_seed(7)
    plain_one, made = ImageEncoder(), ImageEncoder()
    made.load_state_dict(plain_one.state_dict())
    parameters = list(made.parameters())
    assert synchronise_batchnorm(made) is made
    kinds = [type(part) for part in made.modules() if isinstance(part, nn.BatchNorm2d)]
    assert kinds == [SynchronisedBatchNorm2d] * 20
    assert all(a is b for a, b in zip(parameters, made.parameters(), strict=True))
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(made(images)[1], plain_one(images)[1])
    for key, value in plain_one.state_dict().items():
        assert torch.equal(made.state_dict()[key], value)
    converted = synchronise_batchnorm(plain_one, "cuda")
    assert sum(isinstance(part, nn.SyncBatchNorm) for part in converted.modules()) == 20
    assert converted.state_dict().keys() == made.state_dict().keys()
