"""``first_order`` under Triton's interpreter against the CPU implementation."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.kernels.common import launch
from kacl_gpu.kernels.first_order import PASSES, add_tiles, first_order
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import LAYOUTS, close, pack, same

pytestmark = pytest.mark.interpreted

PLAIN = {"normalize_scale": 1.0, "remove_outliers": 0.0, "shift": 0.0}

BOXES = [(0, 0, 1, 1), (2, 3, 3, 20), (5, 5, 30, 6), (0, 0, 36, 40), (1, 2, 33, 34), (4, 4, 24, 25), (0, 0, 5, 5)]
EXACT = [0, 2, 3, *range(10, 15)]  # n, minimum, maximum, percentiles


def images_of(dtype: torch.dtype) -> Tensor:
    """Three images: noise over much of the type's range, few values of both signs, flat."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (3, 36, 40)) * 10.0 ** rng.integers(-3, 4, (3, 36, 40))
    if dtype.is_floating_point:
        images = torch.from_numpy(noise).to(dtype)
    else:
        info = torch.iinfo(dtype)
        low, high = max(info.min, -(2**62)), min(info.max, 2**62)
        images = torch.from_numpy(rng.integers(low, high, noise.shape, endpoint=True)).to(dtype)
    few = torch.from_numpy(rng.integers(0, 3, noise.shape[1:]))
    images[1] = (few - (1 if images.dtype.is_signed else 0)).to(dtype)
    images[2] = torch.tensor(7, dtype=dtype)
    return images[:, None]


def arguments(
    images: Tensor, slots: bool = False, which: slice = slice(None)
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return regions of every image: full boxes, masks with holes, two pixels, and one without any."""
    rng = np.random.default_rng(1)
    index, boxes, volumes = [], [], []
    for b in range(len(images)):
        for n, (y0, x0, y1, x1) in enumerate(BOXES):
            volume = rng.integers(1, 6, (1, y1 - y0, x1 - x0))
            if n == 5:
                volume *= rng.random(volume.shape) < 0.6
            if n == 6:
                volume[:] = 0
                volume[0, 0, 0] = volume[0, 4, 4] = 1
            index.append(b)
            boxes.append((0, y0, x0, 1, y1, x1))
            volumes.append(volume)
    index, boxes, volumes = [*index, 0], [*boxes, (0, 0, 0, 1, 3, 3)], [*volumes, np.zeros((1, 3, 3), np.int64)]
    levels, start, size = pack(volumes[which], slots)
    histogram = ops.level_histogram(levels, start, size, 5)
    return torch.tensor(index)[which], torch.tensor(boxes)[which], levels, start, size, histogram


def check(ours: Tensor, twin: Tensor) -> None:
    same(ours[:, EXACT], twin[:, EXACT])
    scale = (twin[:, 3] - twin[:, 2]).abs() + twin[:, 2:4].abs().amax(1)
    powers = torch.stack([torch.ones_like(scale), scale, scale**2, scale**3, scale**4], 1)
    power_of = torch.tensor([0, 2, 1, 1, 1, 1, 1, 2, 3, 4, 1, 1, 1, 1, 1, 0, 0])
    unit = powers[:, power_of]
    unit[:, 1] *= twin[:, 0]
    close(ours / unit, twin / unit, relative=0, absolute=1e-13)


@pytest.mark.parametrize("dtype", [*PASSES, torch.bool], ids=str)
def test_first_order(dtype: torch.dtype) -> None:
    images = images_of(torch.uint8).to(torch.bool) if dtype == torch.bool else images_of(dtype)
    where = arguments(images)
    ours, twin = (f(images, None, *where, **{**PLAIN, "shift": 3.7}) for f in (first_order, ops.first_order))
    check(ours, twin)


@pytest.mark.parametrize("outliers", [0.0, 1.1])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_first_order_normalised(dtype: torch.dtype, outliers: float) -> None:
    images = images_of(dtype)[:2]
    where, moments = arguments(images), ops.image_moments(images, None)
    options = {"normalize_scale": 100.0, "remove_outliers": outliers, "shift": 0.0}
    twin = ops.first_order(images, moments, *where, **options)
    check(first_order(images, moments, *where, **options), twin)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_first_order_alone_and_among_others(dtype: torch.dtype) -> None:
    images = images_of(dtype)[:1]
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)  # other strides
    rows = [first_order(i, None, *arguments(images, slots), **PLAIN) for i in (images, turned) for slots in LAYOUTS]
    for other in rows[1:]:
        same(other, rows[0])
    for k in (3, 5):
        alone = first_order(images, None, *arguments(images, which=slice(k, k + 1)), **PLAIN)
        same(alone, rows[0][k : k + 1])
    nothing = arguments(images, which=slice(0))
    assert first_order(images, None, *nothing, **PLAIN).shape == (0, 17)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_first_order_of_many_levels(dtype: torch.dtype) -> None:
    """More than are added up at once, by any of the kernels."""
    rng = np.random.default_rng(2)
    images = torch.from_numpy(rng.integers(0, 200, (1, 1, 20, 24))).to(dtype)
    levels, start, size = pack([rng.integers(1, 301, (1, 18, 24))], dtype=torch.int16)
    histogram = ops.level_histogram(levels, start, size, 300)
    assert bool(histogram[0, 256:].any())
    where = torch.tensor([0]), torch.tensor([[0, 2, 0, 1, 20, 24]]), levels, start, size, histogram
    ours, twin = (f(images, None, *where, **{**PLAIN, "shift": 0.5}) for f in (first_order, ops.first_order))
    check(ours, twin)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32], ids=str)
def test_first_order_of_volumes(dtype: torch.dtype) -> None:
    """Regions of several planes, of several tiles, of a row along each axis; also of images with other strides."""
    rng = np.random.default_rng(4)
    images = torch.from_numpy(rng.normal(100, 30, (2, 9, 14, 17)).clip(0, 255)).to(dtype)
    boxes = [(0, 0, 0, 9, 14, 17), (2, 3, 1, 7, 12, 16), (1, 2, 3, 9, 3, 4), (1, 2, 3, 2, 9, 4), (8, 13, 0, 9, 14, 17)]
    volumes = [rng.integers(0, 6, (b[3] - b[0], b[4] - b[1], b[5] - b[2])) for b in boxes]
    index, box = torch.tensor([0, 1, 0, 1, 1]), torch.tensor(boxes)
    for slots in LAYOUTS:
        levels, start, size = pack(volumes, slots)
        where = index, box, levels, start, size, ops.level_histogram(levels, start, size, 5)
        ours, twin = (f(images, None, *where, **{**PLAIN, "shift": 0.5}) for f in (first_order, ops.first_order))
        check(ours, twin)
        turned = images.transpose(1, 3).contiguous().transpose(1, 3)
        same(first_order(turned, None, *where, **{**PLAIN, "shift": 0.5}), ours)
        moments = ops.image_moments(images, None)
        check(first_order(images, moments, *where, **PLAIN), ops.first_order(images, moments, *where, **PLAIN))


@triton.jit
def add_row(partial, out, tiles, begin, count):
    tl.store(out, add_tiles(partial, 1, tiles, begin, count))


def test_sums_of_many_tiles() -> None:
    """More than are added at once."""
    partial, out = torch.arange(2 * 400, dtype=torch.float64).reshape(2, 400), torch.empty(1, dtype=torch.float64)
    launch(add_row, (1,), partial, out, 400, 60, 300)
    assert out.item() == partial[1, 60:360].sum()
