"""From intensities to levels, under Triton's interpreter against the CPU implementation."""

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.kernels.common import launch
from kacl_gpu.kernels.intensity import bits_of, float_of
from kacl_gpu.kernels.levels import add_tiles, discretise, end_moments, image_moments, level_histogram, remainder
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.status import Status
from tests.kernels.interpreting import LAYOUTS, awkward, pack, same

pytestmark = pytest.mark.interpreted

OK = int(Status.OK)
# z0, y0, x0, z1, y1, x1: several tiles, a plane or a line along each axis, a voxel, one that came in invalid
SPACE_BOXES = [
    *((0, 0, 0, 7, 12, 15), (1, 2, 3, 6, 11, 15), (3, 0, 0, 4, 12, 15), (0, 5, 0, 7, 6, 15), (0, 0, 6, 7, 12, 7)),
    *((1, 3, 3, 7, 4, 4), (1, 3, 3, 2, 11, 4), (1, 3, 3, 2, 4, 11), (2, 2, 2, 3, 3, 3), (0, 0, 0, 0, 0, 0)),
]
# y0, x0, y1, x1; the fourth region is one that came in invalid
BOXES = [(0, 0, 36, 40), (2, 3, 3, 20), (5, 5, 30, 6), (0, 0, 0, 0), (7, 7, 8, 8), (1, 2, 33, 34), (4, 4, 24, 25)]


def images_of(dtype: torch.dtype) -> Tensor:
    """Noise, few values, flat, and for floating point one image with NaN in it and one with an infinity."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 120, (5, 36, 40)) * 1.0)
    if dtype.is_floating_point:
        images = images * 1.7 - 60.3
    images[1] = torch.from_numpy(rng.integers(0, 3, (36, 40)))
    images[2] = 7
    images = images.to(dtype)
    if dtype.is_floating_point:
        images[3, 10, 10], images[4, 10, 10] = torch.nan, -torch.inf
    return images[:, None]


def masks_of(dtype: torch.dtype) -> Tensor:
    rng = np.random.default_rng(1)
    masks = torch.from_numpy(rng.integers(0, 3, (5, 36, 40)))
    masks[1] = 0
    masks[1, 20, 20] = 1  # a single pixel
    masks[2] = 2  # no pixel of the label
    return masks[:, None].to(dtype)


def regions(images: Tensor, slots: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int]:
    """image_index, box, status, start, total of every box in every image."""
    planes = [(0, *box[:2], int(box[2] > 0), *box[2:]) for box in BOXES]
    box = torch.tensor((planes if images.shape[1] == 1 else SPACE_BOXES) * len(images))
    index = torch.arange(len(images)).repeat_interleave(len(box) // len(images))
    status = torch.where(box[:, 4] > 0, 0, int(Status.BOX_OUTSIDE)).to(torch.int32)
    size = box[:, 3:] - box[:, :3]
    blocks = (size.prod(1) + 1023) // 1024 * 1024
    if slots:
        blocks[:] = blocks.max() + 1024
    start = torch.cumsum(blocks, 0) - blocks
    return index, box, status, start, size, int(blocks.sum())


def agree(
    images: Tensor, masks: Tensor | None, moments: Tensor | None, slots: bool = False, label: int = 1, **changes: Any
) -> Tensor:
    """Compare all that discretise returns, and return the status; each second region is of label 1."""
    options: dict[str, Any] = {
        "narrow": False, "bin_width": 25.0, "bin_count": 0, "max_levels": 300, "normalize_scale": 1.0,
        "remove_outliers": 0.0, "resegment_range": [], "resegment_mode": "absolute", "resegment_shape": False,
        "minimum_roi_dimensions": 2, "minimum_roi_size": 0, "distances": [1], "force2d_dimension": -1, **changes,
    }  # fmt: skip
    where = regions(images, slots)
    options["labels"] = None if masks is None else torch.tensor([label, 1]).repeat(len(where[0]))[: len(where[0])]
    ours = discretise(images, masks, moments, *where[:-1], total=where[-1], **options)
    twin = ops.discretise(images, masks, moments, *where[:-1], total=where[-1], **options)
    status = twin[4]
    assert torch.equal(ours[4], status)
    for n in (0, 2, 3):
        same(ours[n], twin[n])
    for k in (status == OK).nonzero().flatten().tolist() if len(twin[1]) else []:
        first, voxels = int(where[3][k]), int(where[4][k].prod())
        block = slice(first, first + voxels)
        assert torch.equal(ours[1][block], twin[1][block])
    return status


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float32, torch.float64, torch.bool])
@pytest.mark.parametrize("bins", [{"bin_width": w} for w in (25.0, 0.7, 0.0)] + [{"bin_count": n} for n in (32, 1)])
def test_discretise(dtype: torch.dtype, bins: dict[str, Any]) -> None:
    images = images_of(torch.uint8).to(torch.bool) if dtype == torch.bool else images_of(dtype)
    statuses = agree(images, None, None, **bins)
    assert bool((statuses == OK).any())
    assert (int(Status.NOT_FINITE) in statuses.tolist()) == dtype.is_floating_point
    assert int(Status.SINGLE_PIXEL) in statuses.tolist()


@pytest.mark.parametrize("slots", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.uint64])
def test_discretise_in_masks(dtype: torch.dtype, slots: bool) -> None:
    images, masks = images_of(torch.float32)[:3], masks_of(dtype)[:3]
    statuses = agree(images, masks, None, slots, narrow=True).tolist()
    assert {int(Status.EMPTY), int(Status.SINGLE_PIXEL)} <= set(statuses)
    agree(images, masks, None, slots, label=2, minimum_roi_size=100, minimum_roi_dimensions=1, distances=[])


@pytest.mark.parametrize("mode", ["absolute", "relative", "sigma"])
@pytest.mark.parametrize("limits", [[0.5], [0.9, 0.2], [-1.0, 1.5], [30.0, 90.0]])
@pytest.mark.parametrize("masked", [False, True])
def test_resegment(mode: str, limits: list[float], masked: bool) -> None:
    images = images_of(torch.int16)[:3]
    images[2, :, 3:, 3:] = -4
    masks = masks_of(torch.uint8)[:3] if masked else None
    where, changes = (images, masks, None), {"resegment_range": limits, "resegment_mode": mode}
    for shape in (False, True):
        statuses = agree(*where, resegment_shape=shape, **changes).tolist()
        if mode == "absolute" and not masked:
            assert (OK in statuses) == (limits != [0.9, 0.2])
            assert int(Status.RESEGMENTED_AWAY) in statuses or limits[0] < 0.6
    agree(images_of(torch.float32)[[0, 3, 4]], masks, None, **{**changes, "resegment_mode": "absolute"})


def test_discretise_normalised() -> None:
    images = images_of(torch.uint8)[:2]
    moments = ops.image_moments(images, None)
    for outliers in (0.0, 1.2):
        agree(images, None, moments, bin_width=0.3, remove_outliers=outliers)
        agree(images, None, moments, bin_count=16, normalize_scale=100.0, remove_outliers=outliers)
        for masks in (None, masks_of(torch.uint8)[:2]):
            agree(images, masks, moments, bin_width=0.3, resegment_range=[-1.0, 1.3], resegment_mode="sigma")


@pytest.mark.parametrize(
    "values, bins, expected",
    [
        ([0, 1e-300], {"bin_count": 8}, Status.OK),
        ([1.0, np.nextafter(1.0, 2)], {"bin_count": 8}, Status.TOO_NARROW),
        ([1e17, 1e17 + 16], {"bin_width": 3.0}, Status.TOO_NARROW),
        ([0.0, 1e6], {"bin_width": 1.0}, Status.TOO_MANY_LEVELS),
        ([0.0, 450.0], {"bin_width": 1.0}, Status.TOO_MANY_LEVELS),
        ([-0.1, -0.1], {"bin_count": 8}, Status.OK),
        ([-100.0, 199.0], {"bin_width": 33.3}, Status.OK),
        ([-1e307, 1e307], {"bin_width": 1.0}, Status.TOO_MANY_LEVELS),
        ([12345.678, 12400.1], {"bin_width": 0.1}, Status.TOO_MANY_LEVELS),
        ([12345.678, 12370.1], {"bin_width": 0.1}, Status.OK),
    ],
)
def test_edges_at_their_limits(values: list[float], bins: dict[str, Any], expected: Status) -> None:
    image = torch.tensor(np.linspace(values[0], values[1], 36 * 40).reshape(1, 1, 36, 40))
    image.view(-1)[-1] = values[1]
    assert int(agree(image, None, None, **bins)[0]) == expected


@pytest.mark.parametrize(
    "bins, narrow",
    [
        ({"bin_width": 1.0}, False),
        ({"bin_count": 2000}, False),
        ({"bin_count": 255}, True),
        ({"bin_width": 12.0}, True),
    ],
)
def test_many_edges(bins: dict[str, Any], narrow: bool) -> None:
    """More than are looked at at once; and as many levels as 8 bits hold."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 3000, (1, 1, 36, 40)).astype(np.int16))
    image[0, 0, 0, 0], image[0, 0, 30, 30] = 0, 3049
    statuses = agree(image, None, None, narrow=narrow, max_levels=255 if narrow else 5000, **bins)
    assert statuses[0] == OK


@triton.jit
def add_some(partial, out, begin, count):
    tl.store(out, add_tiles(partial, begin, count))


def test_sums_of_many_tiles() -> None:
    """More than are added at once."""
    out = torch.empty((1, 2), dtype=torch.float64)
    numbers = torch.arange(400, dtype=torch.float64)
    launch(add_some, (1,), numbers, out, 60, 300)
    assert out[0, 0] == numbers[60:360].sum()
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(-99, 99, 300 * 4).astype(np.float64))
    of_tile = image.reshape(300, 4)
    partial = torch.stack([of_tile.sum(1), (of_tile**2).sum(1), of_tile.amin(1), of_tile.amax(1)])
    launch(end_moments, (1,), partial[None], None, out, 2, 2, 300, 300)
    torch.testing.assert_close(out[0], torch.stack([image.mean(), image.std()]), rtol=1e-13, atol=0)
    # flat but for the last tile
    partial = torch.tensor([7.0, 49, 7, 7], dtype=torch.float64)[:, None].repeat(1, 300)
    launch(end_moments, (1,), partial[None], None, out, 1, 1, 300, 300)
    assert out.tolist() == [[7.0, 0.0]]
    partial[:, -1] = torch.tensor([8, 64, 8, 8])
    launch(end_moments, (1,), partial[None], None, out, 1, 1, 300, 300)
    assert out[0, 1] > 0


@triton.jit
def remainders(values, divisors, out):
    n = tl.program_id(0)
    tl.store(out + n, remainder(tl.load(values + n), tl.load(divisors + n)))


def test_remainder_is_exact() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 300) * 10.0 ** rng.integers(-12, 13, 300), [0, 50, -50, 1e300, -7]])
    divisors = np.concatenate([10.0 ** rng.uniform(-6, 6, 300), [25, 25, 25, 0.7, 1e300]])
    out = torch.empty(len(values), dtype=torch.float64)
    launch(remainders, (len(values),), torch.from_numpy(values), torch.from_numpy(divisors), out)
    assert np.array_equal(out.numpy(), values % divisors)


@triton.jit
def same_bits(bits, out):
    tl.store(out + tl.arange(0, 1), float_of(bits))


@pytest.mark.parametrize("value", [0.0, 0.1, -2.5, 1e300, float("inf")])
def test_float_arguments_are_exact(value: float) -> None:
    out = torch.empty(1, dtype=torch.float64)
    launch(same_bits, (1,), bits_of(value), out)
    assert out.item() == value


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float64])
def test_image_moments(dtype: torch.dtype) -> None:
    images = images_of(dtype)
    ours, twin = image_moments(images.transpose(2, 3), None), ops.image_moments(images, None)
    exact = 0 if not dtype.is_floating_point else 1e-13
    torch.testing.assert_close(ours, twin, rtol=exact, atol=0, equal_nan=True)
    assert torch.equal(ours[2], torch.tensor([7.0, 0.0], dtype=torch.float64))
    same(image_moments(images[1:2].transpose(2, 3), None), ours[1:2])
    assert image_moments(images[:0], None).shape == (0, 2)
    same(image_moments(images[:1, :, :1, :1], None), ops.image_moments(images[:1, :, :1, :1], None))


@pytest.mark.parametrize("dtype", [torch.int16, torch.float64])
def test_image_moments_of_volumes(dtype: torch.dtype) -> None:
    """Padding changes no bit; an image with nothing in it has none."""
    rng = np.random.default_rng(0)
    sizes = [(7, 12, 15), (6, 5, 4), (1, 12, 2), (3, 1, 15), (1, 1, 1), (0, 3, 3)]
    batch = torch.full((len(sizes), 7, 12, 15), 99, dtype=dtype)
    own = [torch.from_numpy(rng.normal(0, 50, size)).to(dtype) for size in sizes]
    for image, (d, h, w), voxels in zip(batch, sizes, own):
        image[:d, :h, :w] = voxels
    image_size = torch.tensor(sizes)
    ours, twin = image_moments(batch, image_size), ops.image_moments(batch[:-1], image_size[:-1])
    torch.testing.assert_close(ours[:-1], twin, rtol=1e-13 if dtype == torch.float64 else 0, atol=0, equal_nan=True)
    assert bool(ours[-1].isnan().all())
    for n, voxels in enumerate(own[:-1]):
        same(image_moments(voxels[None], None), ours[n : n + 1])
    same(image_moments(batch.transpose(1, 3).contiguous().transpose(1, 3), image_size), ours)


def volumes_of(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return volumes of noise, of few values, and flat ones, and their masks of two labels."""
    rng = np.random.default_rng(5)
    images = torch.from_numpy(rng.integers(0, 120, (3, 7, 12, 15)) * 1.0)
    images[1] = torch.from_numpy(rng.integers(0, 3, (7, 12, 15)))
    images[2] = 7
    masks = torch.from_numpy(rng.integers(0, 3, images.shape))
    masks[1], masks[1, 3, 5:7, 6], masks[2, :, 0], masks[2, 5:], masks[2, :, :, 13:] = 0, 1, 0, 0, 0
    return images.to(dtype), masks.to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_discretise_volumes(dtype: torch.dtype, masked: bool) -> None:
    """In each layout and of other strides; checks of the extent along each axis, textures in each plane."""
    images, masks = volumes_of(dtype)
    where: Any = (images, masks if masked else None, None)
    seen = set(agree(*where).tolist())
    turned: Any = [t if t is None else t.transpose(1, 3).contiguous().transpose(1, 3) for t in where]
    agree(turned[0], turned[1], turned[2], slots=True, bin_width=0.0, bin_count=16)
    for least in (1, 3):
        seen |= set(agree(*where, minimum_roi_dimensions=least, minimum_roi_size=6).tolist())
    for flat in (-1, 0, 1, 2):
        for distance in (1, 7, 12):
            changes: dict[str, Any] = {"minimum_roi_dimensions": 1, "force2d_dimension": flat, "distances": [distance]}
            seen |= set(agree(*where, **changes).tolist())
    expected = {Status.OK, Status.SINGLE_PIXEL, Status.TOO_FEW_DIMENSIONS, Status.TOO_SMALL, Status.DISTANCES}
    assert {int(code) for code in expected | ({Status.EMPTY} if masked else set())} <= seen


@pytest.mark.parametrize("mode", ["absolute", "relative", "sigma"])
@pytest.mark.parametrize("masked", [False, True])
def test_resegment_volumes(mode: str, masked: bool) -> None:
    images, masks = volumes_of(torch.int16)
    images[2, 3:, 3:, 3:] = -4
    moments = ops.image_moments(images, None)
    for shape in (False, True):
        changes: dict[str, Any] = {"resegment_mode": mode, "resegment_shape": shape}
        for limits in ([0.5], [-1.0, 1.5], [30.0, 90.0]):
            agree(images, masks if masked else None, None, resegment_range=limits, **changes)
    if mode == "sigma":
        agree(images, masks if masked else None, moments, bin_width=0.3, resegment_range=[-1.0, 1.3], **changes)


@pytest.mark.parametrize("ng, dtype", [(1, torch.uint8), (40, torch.uint8), (255, torch.uint8), (300, torch.int16)])
def test_level_histogram(ng: int, dtype: torch.dtype) -> None:
    for slots in LAYOUTS:
        where = pack(awkward(ng), slots, dtype)
        assert torch.equal(level_histogram(*where, ng), ops.level_histogram(*where, ng))
