"""Grad-CAM against the ``grad-cam`` package, and its parts against NumPy and scikit-image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import pytorch_grad_cam
import skimage.transform
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from kacl_gpu.kacl.cam import GradCAM, head_cam, heatmaps, resize, scale_to_unit
from kacl_gpu.kacl.encoders import ImageEncoder

TOLERANCE = {"resnet18": 1e-5, "resnet50": 1e-5, "densenet121": 1e-4}
SIZES = ((64, 64), (95, 70), (64, 96))


class Classifier(nn.Module):
    """KACL's image branch: the encoder and a linear head on what it pools."""

    def __init__(self, name: str, diseases: int = 8) -> None:
        super().__init__()
        self.encoder = ImageEncoder(name)
        self.head = nn.Linear(self.encoder.channels, diseases)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images)[1])
        return logits


class Small(nn.Module):
    """A CNN whose head is not linear, so that its gradients differ from pixel to pixel and from image to image."""

    def __init__(self, channels: int, stride: int, diseases: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(channels, channels + 1, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(9 * (channels + 1), 7), nn.Tanh(), nn.Linear(7, diseases))

    def forward(self, images: Tensor) -> Tensor:
        x = torch.tanh(self.second(self.relu(self.first(images))))
        logits: Tensor = self.head(nn.functional.adaptive_avg_pool2d(x, 3).flatten(1))
        return logits


def expected(module: nn.Module, layer: nn.Module, images: Tensor, disease: Tensor) -> np.ndarray:
    """Return what the package returns, (B, H, W) float32."""
    with pytorch_grad_cam.GradCAM(module, [layer]) as cam:
        return cam(images, [ClassifierOutputTarget(index) for index in disease.tolist()])


def general(module: nn.Module, layer: nn.Module, images: Tensor, disease: Tensor) -> Tensor:
    with GradCAM(module, layer) as grad_cam:
        return grad_cam.cam(images, disease)


def check(found: Tensor, want: np.ndarray, tolerance: float) -> None:
    assert found.shape == want.shape
    np.testing.assert_allclose(found.numpy(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", TOLERANCE)
@pytest.mark.parametrize("seed", [0, 1])
def test_both_forms_equal_the_package_on_random_networks(name: str, seed: int) -> None:
    # In float64: float32 networks round differently with other numbers of threads, by up to 1e-5 of a heatmap.
    torch.manual_seed(seed)
    module = Classifier(name).double().eval()
    told = 0  # maps that are not constant
    for height, width in SIZES:
        images, disease = 255 * torch.rand((3, 1, height, width)), torch.randint(0, 8, (3,))
        want = expected(module, module.encoder.features, images, disease)
        with torch.no_grad():
            activations, _ = module.encoder(images)
        closed = head_cam(activations, module.head.weight, disease)
        hooked = general(module, module.encoder.features, images, disease)
        check(heatmaps(closed, (height, width)), want, 1e-6)
        check(heatmaps(hooked, (height, width)), want, 1e-6)
        torch.testing.assert_close(closed, hooked * closed[0].numel())
        # the same activations in float32, as in training
        single = head_cam(activations.float(), module.head.weight.float(), disease)
        check(heatmaps(single, (height, width)), want, TOLERANCE[name])
        told += int((closed.amax((1, 2)) > closed.amin((1, 2))).sum())
    assert told >= 4


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 5),
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(9, 24), st.integers(9, 24)),
    disease=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    which=st.sampled_from(["first", "second"]),
)
def test_the_general_form_equals_the_package_on_a_small_network(
    seed: int, channels: int, stride: int, size: tuple[int, int], disease: list[int], which: str
) -> None:
    generator = torch.manual_seed(seed)
    module = Small(channels, stride, 4).double().eval()
    module.relu.inplace = False  # the package would read what the ReLU writes over the layer's output
    images = torch.randn((len(disease), 1, *size), generator=generator, dtype=torch.float64)
    cam = general(module, module.get_submodule(which), images, torch.tensor(disease))
    extent = cam.amax((1, 2)) - cam.amin((1, 2))
    assume(bool(((extent == 0) | (extent > 1e-6)).all()))  # between, the package fades out: tested below
    check(heatmaps(cam, size), expected(module, module.get_submodule(which), images, torch.tensor(disease)), 1e-5)


def test_inner_layers_of_torchvisions_own_network() -> None:
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=5).double().eval()
    images, disease = torch.randn((2, 3, 48, 64), dtype=torch.float64), torch.tensor([4, 1])
    for layer in (module.layer2, module.layer3[1].conv1, module.layer4):
        check(
            heatmaps(general(module, layer, images, disease), (48, 64)), expected(module, layer, images, disease), 1e-5
        )


def test_a_relu_in_place_does_not_overwrite_the_layer() -> None:
    torch.manual_seed(1)
    module = Small(3, 1, 4).double().eval()
    images, disease = torch.randn((2, 1, 12, 9), dtype=torch.float64), torch.tensor([0, 3])
    found = general(module, module.first, images, disease)
    module.relu.inplace = False
    assert torch.equal(found, general(module, module.first, images, disease))
    assert (module.first(images) < 0).any()


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(2)
    module = Small(3, 2, 4).double().eval()
    images, disease = torch.randn((4, 1, 15, 11), dtype=torch.float64), torch.tensor([2, 0, 2, 1])
    together = general(module, module.second, images, disease)
    alone = [general(module, module.second, images[i : i + 1], disease[i : i + 1]) for i in range(4)]
    # float64 convolutions of another batch size may sum in another order
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_hooks_and_gradients_are_left_as_they_were() -> None:
    torch.manual_seed(3)
    module = Small(2, 1, 4).eval()
    images, disease = torch.randn(2, 1, 12, 12), torch.tensor([1, 1])
    module(images).sum().backward()
    before = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    assert len(before) == len(list(module.parameters()))
    with GradCAM(module, module.second) as grad_cam:
        first = grad_cam.cam(images, disease)
        assert torch.equal(first, grad_cam.cam(images, disease))
        assert not first.requires_grad
        for parameter, gradient in zip(module.parameters(), before, strict=True):
            assert torch.equal(torch.as_tensor(parameter.grad), gradient)
        # another pass of the module is not cut at the layer
        module.zero_grad()
        module(images).sum().backward()
        assert torch.equal(torch.as_tensor(module.first.weight.grad), before[0])
        assert module.second._forward_hooks
    assert not module.second._forward_hooks
    with pytest.raises(RuntimeError), GradCAM(module, module.second) as grad_cam:
        grad_cam.cam(torch.zeros(2, 5, 12, 12), disease)  # the convolution refuses five channels
    assert not module.second._forward_hooks


def test_without_gradients_around_it() -> None:
    torch.manual_seed(4)
    module = Small(2, 1, 4).eval()
    images, disease = torch.randn(2, 1, 12, 12), torch.tensor([1, 2])
    want = general(module, module.second, images, disease)
    assert (want > 0).any()
    with torch.no_grad():
        assert torch.equal(general(module, module.second, images, disease), want)
    with torch.inference_mode():
        assert torch.equal(general(module, module.second, images * 1, disease), want)
    module.requires_grad_(False)
    assert torch.equal(general(module, module.second, images, disease), want)
    with torch.autocast("cpu", torch.bfloat16):
        rough = general(module, module.second, images, disease)
    assert rough.dtype == torch.float32
    # two layers and their gradient in bfloat16, which has 8 bits
    torch.testing.assert_close(rough, want, rtol=0.1, atol=0.1 * float(want.max()))


def test_the_closed_form_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, w, d = rng.normal(size=(3, 5, 2, 4)), rng.normal(size=(6, 5)), np.array([5, 0, 3])
    want = np.zeros((3, 2, 4))
    for b in range(3):
        for y in range(2):
            for x in range(4):
                want[b, y, x] = max(0.0, sum(w[d[b], k] * a[b, k, y, x] for k in range(5)))
    found = head_cam(torch.from_numpy(a), torch.from_numpy(w).requires_grad_(), torch.from_numpy(d))
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-12)  # five products, summed in another order
    assert not found.requires_grad


def test_half_precision() -> None:
    torch.manual_seed(5)
    activations, weight = torch.rand(2, 64, 3, 3) * 6e4, torch.randn(4, 64) * 100
    disease = torch.tensor([0, 3])
    half, wanted = activations.half(), head_cam(activations.half().float(), weight, disease)
    assert wanted.max() > torch.finfo(torch.float16).max
    assert torch.equal(head_cam(half, weight, disease), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head_cam(half, weight, disease), wanted)
        assert torch.equal(heatmaps(wanted, (9, 9)), heatmaps(head_cam(half, weight, disease), (9, 9)))
    assert scale_to_unit(half[:, 0]).dtype == torch.float32


def test_normalise() -> None:
    x = np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32)
    want = np.stack([(m - m.min()) / (m.max() - m.min()) for m in x])
    maps = torch.from_numpy(x)
    np.testing.assert_allclose(scale_to_unit(maps).numpy(), want, rtol=1e-6)
    for value in (float("nan"), float("inf"), float("-inf")):
        spoilt = maps.clone()
        spoilt[1, 2, 0] = value
        spoilt[2] = value  # all of it
        assert torch.equal(scale_to_unit(spoilt)[[1, 2]], torch.zeros(2, 3, 5))
        assert torch.equal(scale_to_unit(spoilt)[[0, 3]], scale_to_unit(maps)[[0, 3]])
    for value in (0.0, 0.1, -3e30):
        assert torch.equal(scale_to_unit(torch.full((1, 3, 5), value)), torch.zeros(1, 3, 5))
    # also the smallest extent there is
    assert scale_to_unit(torch.tensor([[[1.0, 1 + 2**-23]]])).tolist() == [[[0, 1]]]


@pytest.mark.parametrize("size", [(7, 7), (64, 40), (3, 5), (2, 4), (1, 1)])
def test_resize(size: tuple[int, int]) -> None:
    x = np.random.default_rng(2).random((3, 3, 5))
    want = [skimage.transform.resize(m, size, order=1, mode="edge", anti_aliasing=False) for m in x]
    np.testing.assert_allclose(resize(torch.from_numpy(x), size).numpy(), want, atol=1e-12)


def test_where_the_package_fades_a_map_out() -> None:
    cam = torch.rand((1, 4, 4), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    cam = cam - cam.min()
    whole = heatmaps(cam, (32, 32)).numpy()
    for extent, close in ((1e-3, True), (1e-8, True), (1e-10, False)):
        faint = cam / cam.max() * extent
        scaled = scale_cam_image(scale_cam_image(faint.numpy(), (32, 32)))
        assert (np.abs(scaled - whole).max() < 1e-5) == close
        np.testing.assert_allclose(heatmaps(faint, (32, 32)).numpy(), whole, atol=1e-12)


def test_no_value_goes_to_the_host() -> None:
    with FakeTensorMode():
        activations, weight = torch.empty((4, 16, 7, 5), device="cuda"), torch.empty((8, 16), device="cuda")
        disease = torch.empty(4, dtype=torch.int64, device="cuda")

        def call() -> Tensor:
            return heatmaps(head_cam(activations, weight, disease), (224, 160))

        assert call().shape == (4, 224, 160)
        torch._dynamo.reset()
        assert torch.compile(call, fullgraph=True, backend="eager")().device.type == "cuda"
        with pytest.raises(DataDependentOutputException):  # the check can fail
            call().amax().item()


class Tuple(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Broken(nn.Module):
    """Modules that Grad-CAM cannot serve, by name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = Tuple() if kind == "tuple" else nn.Linear(6, 6) if kind == "flat" else nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.kind == "flat":
            return self.layer(x.flatten(1)[:, :6])
        if self.kind == "unrun":
            return x.mean((2, 3))
        y = self.layer(x)
        if self.kind == "twice":
            y = y + self.layer(x)
        if self.kind == "unused":
            return x.mean((2, 3))
        if self.kind == "tuple":
            return y[0].mean((2, 3))
        return y if self.kind == "maps" else (y, y) if self.kind == "several" else y.mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unrun", r"the layer \(Conv2d\) must run once, and ran 0 times"),
        ("twice", "ran 2 times"),
        ("flat", r"must give \(3, C, h, w\), and gave \(3, 6\)"),
        ("tuple", r"must give \(3, C, h, w\), and gave tuple"),
        ("unused", "do not depend on the layer"),
        ("maps", r"logits \(3, D\), and gave \(3, 2, 4, 5\)"),
        ("several", r"logits \(3, D\), and gave tuple"),
    ],
)
def test_modules_that_it_cannot_serve(kind: str, message: str) -> None:
    module = Broken(kind).eval()
    with pytest.raises(ValueError, match=message):
        general(module, module.layer, torch.rand(3, 1, 4, 5), torch.zeros(3, dtype=torch.int64))


def test_wrong_calls_of_grad_cam() -> None:
    module, images, disease = Broken("good").eval(), torch.rand(3, 1, 4, 5), torch.tensor([0, 1, 0])
    assert general(module, module.layer, images, disease).shape == (3, 4, 5)
    with pytest.raises(ValueError, match=r"the layer \(ReLU\) is not part of the module \(Broken\)"):
        GradCAM(module, nn.ReLU())
    with pytest.raises(ValueError, match="inside `with"):
        GradCAM(module, module.layer).cam(images, disease)
    with pytest.raises(ValueError, match=r"from 0 to 1, got \[2, -1\]"):
        general(module, module.layer, images, torch.tensor([2, 1, -1]))
    module.layer.train()
    with pytest.raises(ValueError, match="training mode"):
        general(module, module.layer, images, disease)


A, W, D = torch.rand(2, 3, 4, 5), torch.rand(6, 3), torch.tensor([5, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head_cam(A[0], W, D), r"activations .* \(3, 4, 5\)"),
        (lambda: head_cam(A.int(), W, D), "activations .* torch.int32"),
        (lambda: head_cam(A, W[:, :2], D), r"weight must have the shape \(D, 3\), got \(6, 2\)"),
        (lambda: head_cam(A, W, D[:1]), r"disease must have the shape \(2\), got \(1,\)"),
        (lambda: head_cam(A, W, D.int()), "disease must be int64, got torch.int32"),
        (lambda: head_cam(A, W, D + 1), r"from 0 to 5, got \[6\]"),
        (lambda: head_cam(A, W, -D), r"got \[-5\]"),
        (lambda: scale_to_unit(A), r"heatmap must have the shape \(B, h, w\)"),
        (lambda: scale_to_unit(A[0, :, :0]), "heatmap .* at least one pixel"),
        (lambda: scale_to_unit(A[0].int()), "heatmap must be floating point, got torch.int32"),
        (lambda: resize(A, (4, 4)), "heatmap"),
        (lambda: resize(A[0], (0, 4)), r"size .* got \(0, 4\)"),
    ],
)
def test_wrong_arguments(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_an_empty_batch() -> None:
    assert heatmaps(head_cam(A[:0], W, D[:0]), (8, 8)).shape == (0, 8, 8)
