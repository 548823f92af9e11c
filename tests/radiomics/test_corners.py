"""Corners at which a small slip in the code would go unseen by random regions."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings, Status, feature_names, gpu_radiomics
from kacl_gpu.radiomics import memory
from kacl_gpu.radiomics.regions import make_regions
from kacl_gpu.radiomics.volumes import aligned, discretise

F64 = torch.float64


def features(images: Any, boxes: Any = None, **options: Any) -> dict[str, float]:
    """Return the features of one region, the whole image if there are no boxes, by names without ``original_``."""
    images = torch.as_tensor(np.asarray(images))[None]
    if boxes is None and "masks" not in options:
        boxes = torch.tensor([[0, 0, images.shape[2], images.shape[1]]])
    row = gpu_radiomics(images, boxes, dtype=F64, **options)[0].tolist()
    names = feature_names(options.get("settings", RadiomicsSettings()))
    return {name.removeprefix("original_"): value for name, value in zip(names, row, strict=True)}


# --- levels


@pytest.mark.parametrize(("levels", "dtype"), [(255, torch.uint8), (256, torch.int16)])
def test_level_256_needs_more_than_a_byte(levels: int, dtype: torch.dtype) -> None:
    image = torch.arange(levels).reshape(1, -1, 1).expand(1, levels, 3).contiguous().to(torch.uint8)
    box = torch.tensor([[0, 0, 3, levels]])
    regions = make_regions(image, box, None, None)
    settings = RadiomicsSettings(bin_width=1, max_levels=levels)
    volumes = discretise(regions, None, settings, memory.max_levels(regions, settings))
    assert volumes.levels.dtype == dtype
    assert volumes.levels[: levels * 3].reshape(levels, 3)[:, 0].tolist() == list(range(1, levels + 1))
    unbounded = gpu_radiomics(image, box, settings=RadiomicsSettings(bin_width=1), dtype=F64)
    assert torch.equal(gpu_radiomics(image, box, settings=settings, dtype=F64), unbounded)


def test_one_level_is_said_only_where_no_region_has_several() -> None:
    narrow = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = {"narrow": narrow, "wide": narrow * 255, "flat": torch.ones_like(narrow)}
    cases = [
        (("narrow", "wide"), False),
        (("wide", "narrow"), False),
        (("flat", "wide"), False),
        (("flat", "narrow"), True),
        (("narrow", "flat"), True),
        (("flat", "flat"), False),
    ]
    for kinds, expected in cases:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            batch = torch.cat([images[kind] for kind in kinds])
            gpu_radiomics(batch, torch.tensor([[0, 0, 8, 8]] * 2), invalid="nan")
        assert bool(caught) == expected, kinds


# --- GLCM


def test_weights_of_a_single_row_are_relative_to_its_own_direction() -> None:
    """The other directions, of lighter steps, have no pairs: exp(-40^2) against theirs would be 0."""
    row = np.array([[1.0, 3.0, 2.0, 2.0, 1.0, 4.0, 4.0]])
    plain = {"bin_width": 1, "minimum_roi_dimensions": 1, "feature_class": ("glcm",)}
    expected = features(row, settings=RadiomicsSettings(**plain))
    settings = RadiomicsSettings(**plain, weighting_norm="euclidean")
    for image, spacing in ((row, (1.0, 40.0)), (row.T, (40.0, 1.0))):
        assert features(image, settings=settings, spacing=spacing) == pytest.approx(expected, rel=1e-12)


def test_imc1_of_four_pixels_in_millions() -> None:
    """Its entropies, below 1e-5, are small but real: only below 1e-7 are they rounding."""
    side = 3400
    image = np.zeros((side, side), np.uint8)
    image[1000:1002, 1000:1002] = 200
    expected = []
    straight, diagonal = side * (side - 1), (side - 1) ** 2
    # Pairs, each counted from both ends: within the four pixels (4 or 2), and from one of them to another pixel
    for pairs, within, across in ((straight, 4, 4), (straight, 4, 4), (diagonal, 2, 6), (diagonal, 2, 6)):
        counts = np.array([[2 * pairs - within - 2 * across, across], [across, within]])
        p = counts / np.longdouble(2 * pairs)
        marginal, eps = p.sum(1), np.longdouble(2) ** -52
        entropy = -(marginal * np.log2(marginal + eps)).sum()
        joint = -(p * np.log2(p + eps)).sum()
        joint1 = -(p * np.log2(np.outer(marginal, marginal) + eps)).sum()
        expected.append((joint - joint1) / entropy)
        assert 1e-7 < entropy < 1e-5
    settings = RadiomicsSettings(feature_class={"glcm": ["Imc1"]})
    value = features(image, settings=settings)["glcm_Imc1"]
    assert value == pytest.approx(float(sum(expected) / 4), rel=1e-6)
    assert value < -0.1


# --- shape


@pytest.mark.parametrize("step", [(1, 2), (2, 1), (1, -3), (3, 2), (5, -3), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3), (1000.0, 0.001)])
def test_pixels_on_one_line_have_no_minor_axis(step: tuple[int, int], spacing: tuple[float, float]) -> None:
    for count in range(2, 9):
        y, x = (np.arange(count) * abs(s) for s in step)
        mask = np.zeros((y.max() + 1, x.max() + 1), np.int64)
        mask[y, x[::-1] if step[1] < 0 else x] = 1
        settings = RadiomicsSettings(feature_class=("shape2D",), minimum_roi_dimensions=1)
        shape = features(
            mask.astype(np.float64), masks=torch.from_numpy(mask)[None], settings=settings, spacing=spacing
        )
        assert shape["shape2D_MinorAxisLength"] == 0
        assert shape["shape2D_Elongation"] == 0
        assert shape["shape2D_MajorAxisLength"] > 0


# --- first order


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8])
def test_percentiles_are_numpys_to_the_bit(dtype: type) -> None:
    settings = RadiomicsSettings(
        feature_class={"firstorder": ["10Percentile", "90Percentile", "InterquartileRange"]},
        bin_count=8,
        minimum_roi_dimensions=1,
    )
    rng = np.random.default_rng(0)
    for columns in range(2, 60):  # the place between two pixels takes every tenth and every quarter
        values = rng.random((1, columns)) * 255 if np.issubdtype(dtype, np.floating) else rng.integers(0, 99, columns)
        image = values.reshape(1, columns).astype(dtype)
        row = features(image, settings=settings)
        low, q1, q3, high = np.percentile(image.astype(np.float64), [10, 25, 75, 90])
        assert row["firstorder_10Percentile"] == low
        assert row["firstorder_90Percentile"] == high
        assert row["firstorder_InterquartileRange"] == q3 - q1


# --- memory


def parts(parted: Iterator[Any], costs: list[int], limit: int) -> int:
    """Check that each part costs at most the limit, and that none could take the next region too; return how many."""
    first, sums = 0, []
    for part in parted:
        length = part.stop - part.start if isinstance(part, slice) else len(part)
        sums.append(sum(costs[first : first + length]))
        first += length
        assert sums[-1] <= limit
        assert first == len(costs) or sums[-1] + costs[first] > limit
    assert first == len(costs)
    return len(sums)


@pytest.fixture
def many() -> Tensor:
    """Return rows of 200 boxes of many sizes in an image of 64 x 64."""
    rng = np.random.default_rng(0)
    corner, size = rng.integers(0, 20, (200, 2)), rng.integers(2, 44, (200, 2))
    return torch.from_numpy(np.concatenate([np.zeros((200, 1)), corner, corner + size], 1))


def test_level_volumes_take_a_quarter_of_the_limit(many: Tensor) -> None:
    settings = RadiomicsSettings(memory_limit=2**18)
    regions = make_regions(torch.zeros((1, 64, 64), dtype=torch.uint8), many, None, None)
    # two bytes a pixel for levels, one for the mask of shape
    costs = [3 * aligned(int(size)) + 256 for size in regions.size.prod(1)]
    assert parts(memory.chunks(regions, settings, False), costs, 2**18 // 4) > 5
    static = [3 * aligned(64 * 64) + 256] * 200
    assert parts(memory.chunks(regions, settings, True), static, 2**18 // 4) > 5


def test_matrices_take_half_of_the_limit(many: Tensor) -> None:
    settings = RadiomicsSettings(bin_count=32, memory_limit=2**22)
    regions = make_regions(torch.zeros((1, 64, 64), dtype=torch.uint8), many, None, None)
    bounds = memory.Bounds(32, 44, 44 * 44)
    each = memory.matrix_bytes(memory.Bounds(32, 44, 44 * 44), settings, 2, True)
    directions, ng = 4, 32
    assert each >= 4 * (directions * ng * ng + 4 * ng * 44) + 8 * 6 * ng * ng  # of GLCM and GLRLM alone
    assert parts(memory.matrix_chunks(regions, bounds, settings), [each] * 200, 2**22 // 2) > 5


def test_levels_are_limited_by_half_of_the_memory(many: Tensor) -> None:
    regions = make_regions(torch.zeros((1, 64, 64)), many, None, None)
    settings = RadiomicsSettings(memory_limit=2**24)
    most = memory.max_levels(regions, settings)
    fits, not_any_more = (
        memory.matrix_bytes(memory.Bounds(ng, 64, 64 * 64), settings, 2, True) for ng in (most, most + 1)
    )
    assert fits <= 2**24 // 2 < not_any_more


# --- a bad region beside others


def test_spacing_of_each_image_beside_a_bad_region() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 9, 11)).astype(np.float32))
    spacing = torch.tensor([[1.0, 1.0], [0.5, 2.0], [3.0, 0.25], [0.7, 0.7]], dtype=F64)
    rows = torch.tensor([[b, 0, 0, 9, 8] for b in range(4)], dtype=F64)
    settings = RadiomicsSettings(weighting_norm="euclidean")
    good = gpu_radiomics(images, rows, spacing=spacing, settings=settings, dtype=F64)
    for bad in range(4):
        broken = rows.clone()
        broken[bad, 3] = math.nan
        table = gpu_radiomics(images, broken, spacing=spacing, settings=settings, dtype=F64, invalid="nan")
        assert bool(table[bad].isnan().all())
        others = [b for b in range(4) if b != bad]
        assert torch.equal(table[others], good[others])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [
    {"feature_class": {"firstorder": ["Mean", "Median", "Minimum", "Maximum", "Variance"]}},
    {"bin_count": 16},
    {"bin_width": 1e307},
    {"bin_count": 16, "normalize": True},
    {"bin_count": 16, "resegment_range": (-3.0, 3.0), "resegment_mode": "sigma"},
], ids=["no levels", "count", "width", "normalised", "resegmented"])  # fmt: skip
@pytest.mark.parametrize("low", [0.0, -1.7e308])
def test_intensities_near_the_largest_float64(low: float, options: dict[str, Any]) -> None:
    """Their range is infinite: order statistics are right, squares infinite, and no warning or wild index occurs."""
    image = torch.full((1, 6, 6), low, dtype=torch.float64)
    image[0, 2:] = 1.7e308
    image[0, 4, 4] = 1e308
    settings = RadiomicsSettings(**options)
    box = torch.tensor([[0, 0, 6, 6]])
    table, status = gpu_radiomics(
        image, box, settings=settings, dtype=torch.float64, invalid="nan", return_status=True
    )  # fmt: skip
    if settings.feature_class is not None:
        values = dict(zip(feature_names(settings), table[0].tolist()))
        assert status.tolist() == [0]
        expected = [low, 1.7e308, 1.7e308]
        assert [values[f"original_firstorder_{n}"] for n in ("Minimum", "Median", "Maximum")] == expected
    else:
        assert status[0] in (0, Status.NOT_FINITE, Status.TOO_MANY_LEVELS, Status.TOO_NARROW, Status.RESEGMENTED_AWAY)
