"""Boxes from heatmaps against scikit-image's labels, and on what is degenerate."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch._subclasses.fake_tensor import FakeTensorMode

from kacl_gpu.kacl.boxes import SHRUNK, Boxes, Components, components, heatmap_boxes
from tests.kernels.interpreting import awkward_maps

measure = pytest.importorskip("skimage.measure")

# values of which sums are exact, so that an oracle may add them in any order
VALUES = st.sampled_from([0, 0.25, 0.5, 0.625, 0.75, 1])
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
MAPS = arrays(np.float32, SHAPES, elements=VALUES)
ANY_MAPS = arrays(
    np.float32,
    SHAPES,
    elements=st.floats(width=32) | st.sampled_from([0.0, float(np.float32(0.3)), 1.0, np.inf, np.nan]),
)


def by_scikit_image(heatmap: np.ndarray, threshold: float) -> list[tuple[float, list[float]]]:
    """Total and box of each component above the threshold, largest first, those above and left before their equals."""
    span = np.ptp(heatmap)
    unit = (heatmap - heatmap.min()) / span if span > 0 else np.zeros_like(heatmap)
    found = []
    for region in measure.regionprops(measure.label(unit > threshold, connectivity=2), unit):
        y1, x1, y2, x2 = region.bbox
        found.append((-unit[tuple(region.coords.T)].sum(), *region.coords[0], [x1, y1, x2, y2]))
    return [(-total, box) for total, _, _, box in sorted(found)]


def by_scatters(heatmaps: torch.Tensor, threshold: float, max_components: int) -> Components:
    """Do the same in torch, by scattering each pixel to the first one of its component: to the bit."""
    number, height, width = heatmaps.shape
    pixels = height * width
    finite = heatmaps.isfinite()
    low = torch.where(finite, heatmaps, torch.inf).amin((1, 2), keepdim=True)
    high = torch.where(finite, heatmaps, -torch.inf).amax((1, 2), keepdim=True)
    unit = torch.where(finite & (high > low), (heatmaps - low) / (high - low), 0.0).reshape(number, pixels)
    above, place = unit > threshold, torch.arange(pixels)
    root = torch.zeros((number, pixels), dtype=torch.int64)
    for image, inside in zip(root, above):
        labels = measure.label(inside.reshape(height, width).numpy(), connectivity=2).ravel()
        _, first, which = np.unique(labels, return_index=True, return_inverse=True)
        image[:] = torch.from_numpy(first[which.ravel()])
    fixed = torch.where(above, (unit * 2**20).round().long(), 0)
    total = torch.zeros_like(root).scatter_add_(1, root, fixed)
    order = torch.where(above & (root == place), total * pixels + (pixels - 1 - place), -1)
    best = order.topk(min(max_components, pixels), dim=1)
    there = best.values >= 0

    def extreme(coordinate: torch.Tensor, beyond: int, reduce: str) -> torch.Tensor:
        values = torch.where(above, coordinate, beyond)
        return torch.full_like(root, beyond).scatter_reduce_(1, root, values, reduce).gather(1, best.indices)

    y, x = place // width, place % width
    least = [extreme(x, width, "amin"), extreme(y, height, "amin")]
    largest = [extreme(x, -1, "amax") + 1, extreme(y, -1, "amax") + 1]
    boxes = torch.stack([*least, *largest], 2).float().masked_fill(~there[..., None], torch.nan)
    return Components(boxes, torch.where(there, total.gather(1, best.indices) / 2**20, 0.0).float())


def check_bits(maps: torch.Tensor, threshold: float, max_components: int) -> None:
    for ours, theirs in zip(components(maps, threshold, max_components), by_scatters(maps, threshold, max_components)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(MAPS | ANY_MAPS, st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 90))
def test_components_are_those_of_scatters(maps: np.ndarray, threshold: float, max_components: int) -> None:
    check_bits(torch.from_numpy(maps), threshold, max_components)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.999])
def test_components_of_awkward_maps(threshold: float) -> None:
    for maps in awkward_maps():
        for max_components in (1, 16, 5000):
            check_bits(maps, threshold, max_components)


@settings(max_examples=200, deadline=None)
@given(MAPS, st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 90))
def test_components_are_those_of_scikit_image(maps: np.ndarray, threshold: float, max_components: int) -> None:
    found = components(torch.from_numpy(maps), threshold, max_components)
    assert found.boxes.shape == (len(maps), min(max_components, maps[0].size), 4)
    for heatmap, boxes, totals in zip(maps, found.boxes, found.total):
        expected = by_scikit_image(heatmap, threshold)[:max_components]
        there = ~boxes[:, 0].isnan()
        assert there.sum() == len(expected) and there[: len(expected)].all()
        assert (totals[len(expected) :] == 0).all()
        for (total, box), ours, sum_ in zip(expected, boxes.tolist(), totals.tolist()):
            assert ours == box
            assert sum_ == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("side", [7, 33, 224, 300])
def test_components_of_smooth_maps(side: int) -> None:
    """Maps as Grad-CAM draws them, larger than a tile of the kernels, of several scales in a batch."""
    coarse = torch.rand((6, 1, 7, 7), generator=torch.Generator().manual_seed(side)) ** 3
    maps = torch.nn.functional.interpolate(coarse, (side, side + 5), mode="bilinear")[:, 0]
    scale, shift = torch.tensor([[1, 1e-6, 1e6, -1, 1, 3], [0, 0, 5, 0, -8, 0]])[:, :, None, None]
    maps = maps * scale + shift
    found = components(maps, 0.5)
    for heatmap, boxes, totals in zip(maps.numpy(), found.boxes, found.total):
        expected = by_scikit_image(heatmap, 0.5)[:16]
        assert boxes[: len(expected)].tolist() == [box for _, box in expected]
        np.testing.assert_allclose(totals[: len(expected)], [total for total, _ in expected], rtol=1e-4)
    first = heatmap_boxes(maps)
    assert torch.equal(first.boxes, found.boxes[:, 0]) and not first.fallback.any()
    for k in range(len(maps)):  # whatever else is in the batch
        alone = components(maps[k : k + 1])
        torch.testing.assert_close(alone.boxes[0], found.boxes[k], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(alone.total[0], found.total[k])


def test_boxes_of_degenerate_maps() -> None:
    maps = torch.zeros((6, 4, 6))
    maps[1] = 3  # constant
    maps[2, 1, 2] = torch.nan
    maps[3] = torch.nan
    maps[4, 1:3, 2:5] = 7
    maps[4, 0, 0] = torch.inf  # not finite: not there
    maps[5] = 1
    maps[5, 2, 3] = 0  # a hole: all around it is the whole image
    found = heatmap_boxes(maps)
    image = [0, 0, 6, 4]
    assert found.boxes.tolist() == [image, image, image, image, [2, 1, 5, 3], image]
    assert found.fallback.tolist() == [True, True, True, True, False, False]
    assert found.covers_image.tolist() == [True, True, True, True, False, True]
    shrunk = heatmap_boxes(maps, shrink_whole_image=True)
    assert shrunk.covers_image.tolist() == found.covers_image.tolist()
    low, high = SHRUNK
    torch.testing.assert_close(shrunk.boxes[5], torch.tensor([6 * low, 4 * low, 6 * high, 4 * high]))
    assert shrunk.boxes[4].tolist() == [2, 1, 5, 3]
    assert components(maps).total[:4].tolist() == [[0.0] * 16] * 4


def test_boxes_of_no_image_and_in_half_precision() -> None:
    assert heatmap_boxes(torch.zeros((0, 5, 5))).boxes.shape == (0, 4)
    maps = torch.rand((3, 20, 20), generator=torch.Generator().manual_seed(0)).half()
    assert torch.equal(heatmap_boxes(maps).boxes, heatmap_boxes(maps.float()).boxes)
    maps = maps.float().requires_grad_()
    assert not heatmap_boxes(maps).boxes.requires_grad


def test_boxes_are_found_without_waiting_for_the_device() -> None:
    """Tensors without values, which nothing could be read from, in one graph."""

    def find(maps: torch.Tensor) -> tuple[Boxes, torch.Tensor]:
        return heatmap_boxes(maps, 0.4, True), components(maps).boxes

    with FakeTensorMode():
        first, all_ = find(torch.empty((64, 224, 224), device="cuda"))
        assert first.boxes.device.type == all_.device.type == "cuda"
        assert first.boxes.shape == (64, 4) and all_.shape == (64, 16, 4)
    maps = torch.rand((2, 30, 30), generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(find, fullgraph=True, backend="eager")(maps)
    assert torch.equal(compiled[0].boxes, find(maps)[0].boxes)


@pytest.mark.parametrize(
    "shape, options, words",
    [
        ((4, 4), {}, r"\(B, H, W\).*\(4, 4\)"),
        ((1, 0, 4), {}, "1 to 2"),
        ((1, 2048, 1025), {}, "1 to 2"),
        ((1, 4, 4), {"threshold": 1.0}, "threshold.*1.0"),
        ((1, 4, 4), {"threshold": -0.1}, "threshold"),
        ((1, 4, 4), {"max_components": 0}, "max_components"),
    ],
)
def test_what_cannot_be_is_refused(shape: tuple[int, ...], options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        components(torch.zeros(shape), **options)
