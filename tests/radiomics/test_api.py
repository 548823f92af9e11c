"""The call itself: forms of input, bad input, invariance, selection, memory."""

import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kacl_gpu import GpuRadiomics, RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.radiomics import api, memory, ops
from kacl_gpu.radiomics.names import CLASSES, FEATURES
from kacl_gpu.radiomics.regions import make_regions, reasons
from kacl_gpu.radiomics.status import Status
from kacl_gpu.radiomics.volumes import aligned, discretise, half_offsets

ROOT = Path(__file__).parents[2]
F64 = torch.float64


def noise(*shape: int, seed: int = 0, top: int = 256) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, top, shape).astype(np.float32))


@pytest.fixture
def images() -> Tensor:
    return noise(3, 40, 50)


BOXES = torch.tensor([[3.0, 4.0, 20.0, 30.0], [0.0, 0.0, 50.0, 40.0], [10.5, 7.2, 33.1, 8.9]])
ROWS = torch.cat([torch.arange(3.0)[:, None], BOXES], 1)


def compute(images: Tensor, boxes: Any = None, **options: Any) -> Tensor:
    return gpu_radiomics(images, boxes, dtype=F64, **options)


# --- forms of input


def test_three_forms_of_boxes_agree(images: Tensor) -> None:
    expected = compute(images, BOXES)
    assert expected.shape == (3, 102) and expected.dtype == F64 and bool(expected.isfinite().all())
    assert torch.equal(compute(images, ROWS), expected)
    assert torch.equal(compute(images, list(BOXES[:, None])), expected)
    assert torch.equal(compute(images, ROWS[[2, 0, 0]]), expected[[2, 0, 0]])
    ragged = [BOXES[[0, 1]], BOXES[:0], BOXES[[2]]]
    assert torch.equal(compute(images, ragged)[2], expected[2])
    assert len(compute(images, ragged)) == 3


def test_fractions_grow_outward_and_what_lies_beyond_the_image_is_cut_off(images: Tensor) -> None:
    whole = torch.tensor([[10.0, 7.0, 34.0, 9.0]]).expand(3, 4)
    assert torch.equal(compute(images, whole)[2], compute(images, BOXES)[2])
    outside = torch.tensor([[-7.0, -0.5, 50.5, 1e9]]).expand(3, 4)
    assert torch.equal(compute(images, outside), compute(images, torch.tensor([[0, 0, 50, 40]]).expand(3, 4)))


def test_masks_boxes_and_both_mean_the_same_pixels(images: Tensor) -> None:
    masks = torch.zeros(3, 40, 50, dtype=torch.int32)
    for b, (x0, y0, x1, y1) in enumerate([(3, 4, 20, 30), (0, 0, 50, 40), (10, 7, 34, 9)]):
        masks[b, y0:y1, x0:x1] = 7
    settings = RadiomicsSettings(label=7)
    expected = compute(images, BOXES)
    assert torch.equal(compute(images, masks=masks, settings=settings), expected)
    assert torch.equal(compute(images, masks=masks[:, None].double(), settings=settings), expected)
    whole = torch.tensor([[0, 0, 50, 40]]).expand(3, 4)
    assert torch.equal(compute(images, whole, masks=masks, settings=settings), expected)
    assert torch.equal(compute(images, BOXES, masks=torch.full_like(masks, 7), settings=settings), expected)


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, F64],
)
def test_dtypes_of_equal_values_give_equal_bits(dtype: torch.dtype) -> None:
    values = noise(2, 20, 24, top=100) - (0 if dtype == torch.uint8 else 50)  # integers that every type holds exactly
    boxes = torch.tensor([[0, 0, 24, 20], [2, 3, 20, 15]])
    assert torch.equal(compute(values.to(dtype), boxes), compute(values.double(), boxes))


def test_integers_far_apart_are_exact_too() -> None:
    """Fewer pixels than values between them, and values that only 64 bits hold."""
    values = torch.tensor([[[-(2**31), 2**31 - 1, 7], [0, 5, 2**30], [9, 9, 12]]])
    for dtype in (torch.int32, torch.int64):
        ours = compute(values.to(dtype), torch.tensor([[0, 0, 3, 3]]), settings=RadiomicsSettings(bin_count=8))
        assert torch.equal(
            ours, compute(values.double(), torch.tensor([[0, 0, 3, 3]]), settings=RadiomicsSettings(bin_count=8))
        )


def test_layout_does_not_matter(images: Tensor) -> None:
    expected = compute(images, BOXES)
    assert torch.equal(compute(images[:, None], BOXES), expected)
    assert torch.equal(compute(images[:, None].contiguous(memory_format=torch.channels_last), BOXES), expected)
    wide = torch.stack([images, -images], -1)
    assert torch.equal(compute(wide[..., 0], BOXES), expected)
    assert torch.equal(compute(images.transpose(1, 2).contiguous().transpose(1, 2), BOXES), expected)
    assert torch.equal(compute(images.flip(0).flip(0), BOXES), expected)


def test_nothing_at_all(images: Tensor) -> None:
    for boxes in (torch.zeros(0, 5), [torch.zeros(0, 4)] * 3):
        assert compute(images, boxes).shape == (0, 102)
    assert compute(images[:0], torch.zeros(0, 4)).shape == (0, 102)
    assert compute(images[:0], masks=images[:0]).shape == (0, 102)
    settings = RadiomicsSettings(weighting_norm="euclidean", normalize=True, resegment_range=(0.0, 1.0))
    assert compute(images, torch.zeros(0, 5), settings=settings).shape == (0, 102)


def test_result_is_float32_by_default_and_carries_no_gradient(images: Tensor) -> None:
    result = gpu_radiomics(images.requires_grad_(), BOXES)
    assert result.dtype == torch.float32 and not result.requires_grad
    assert torch.equal(result, compute(images, BOXES).float())


def test_inputs_are_left_as_they_were(images: Tensor) -> None:
    before, boxes = images.clone(), BOXES.clone()
    compute(images, boxes, settings=RadiomicsSettings(normalize=True, resegment_range=(-1.0, 1.0)))
    assert torch.equal(images, before) and torch.equal(boxes, BOXES)


def test_spacing_one_pair_or_one_an_image(images: Tensor) -> None:
    pairs = torch.tensor([[0.5, 2.0], [1.0, 1.0], [3.0, 0.1]])
    together = compute(images, BOXES, spacing=pairs)
    for b, pair in enumerate(pairs.tolist()):
        assert torch.equal(together[b], compute(images, BOXES, spacing=tuple(pair))[b])
    names = feature_names()
    assert together[0, names.index("original_shape2D_PixelSurface")] == 17 * 26 * 0.5 * 2.0


def test_module_is_the_function(images: Tensor) -> None:
    settings = RadiomicsSettings(bin_count=16, feature_class=("glcm",))
    module = GpuRadiomics(settings, dtype=F64)
    assert torch.equal(module(images, BOXES), compute(images, BOXES, settings=settings))
    assert module.feature_names == feature_names(settings) and not list(module.parameters())
    masks = (images > 100).long()
    assert torch.equal(module(images, None, masks), compute(images, masks=masks, settings=settings))
    table, status = module(images, BOXES, return_status=True)
    assert torch.equal(table, module(images, BOXES)) and status.tolist() == [0] * len(BOXES)
    nan, status = GpuRadiomics(settings, invalid="nan")(images, BOXES.flip(1), return_status=True)
    assert bool((status > 0).all())
    assert bool(nan.isnan().all()) and nan.dtype == torch.float32


# --- selection


def test_selected_columns_are_those_of_the_whole_table(images: Tensor) -> None:
    full, names = compute(images, BOXES), feature_names()
    for name in CLASSES[2]:
        features = FEATURES[name]
        one_class = RadiomicsSettings(feature_class=(name,))
        chosen = [names.index(n) for n in feature_names(one_class)]
        assert len(chosen) == len(features)
        assert torch.equal(compute(images, BOXES, settings=one_class), full[:, chosen])
        for feature in features:
            single = RadiomicsSettings(feature_class={name: [feature]})
            assert feature_names(single) == (f"original_{name}_{feature}",)
            column = names.index(feature_names(single)[0])
            assert torch.equal(compute(images, BOXES, settings=single), full[:, [column]])


@pytest.mark.parametrize("name", ["glcm", "gldm", "ngtdm"])
def test_a_matrix_that_nobody_reads_is_neither_counted_nor_stored(
    name: str, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops, matrices = import_module("kacl_gpu.radiomics.cpu.neighbourhood"), {}
    names, operator = (
        {"glcm": "count_pairs", "gldm": "count_neighbours", "ngtdm": "count_neighbours"},
        ops.neighbourhood,
    )
    for loop in {*names.values()} - {names[name]}:
        monkeypatch.delattr(loops, loop)

    def count(*arguments: Any, **selection: bool) -> tuple[Tensor, ...]:
        matrices.update(zip(names, tables := operator(*arguments, **selection)))
        return tables

    monkeypatch.setattr(ops, "neighbourhood", count)
    gpu_radiomics(images, torch.tensor([[2, 3, 9, 9]] * len(images)), settings=RadiomicsSettings(feature_class=[name]))
    assert [key for key, table in matrices.items() if table.numel()] == [name]


def test_order_of_columns_is_frozen_whatever_the_order_asked_for(images: Tensor) -> None:
    settings = RadiomicsSettings(feature_class={"gldm": ["LargeDependenceEmphasis"], "firstorder": ["Mean", "Energy"]})
    expected = ("original_firstorder_Energy", "original_firstorder_Mean", "original_gldm_LargeDependenceEmphasis")
    assert feature_names(settings) == expected
    names = feature_names()
    assert torch.equal(
        compute(images, BOXES, settings=settings), compute(images, BOXES)[:, list(map(names.index, expected))]
    )


def test_a_feature_beyond_float32_is_said_in_words() -> None:
    huge, boxes = torch.tensor([[[3e38, -3e38], [1e38, 2e38]]]), torch.tensor([[0, 0, 2, 2]])
    settings = RadiomicsSettings(bin_count=4, feature_class={"firstorder": ["Mean", "Energy"]})
    with pytest.warns(UserWarning, match=r"1 feature values \(of firstorder/Energy.*float32.*dtype=torch.float64"):
        narrow = gpu_radiomics(huge, boxes, settings=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide = compute(huge, boxes, settings=settings)
    assert bool(wide.isfinite().all()) and narrow.isinf().sum() == 1


# --- the call that reads no value, with the operators of the CPU

EVERYTHING = torch.tensor([[0, 0, 20, 20]])


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """``compute`` as on a device that nothing may wait for; elsewhere that layout is not used."""

    def call(*arguments: Any, **options: Any) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(api, "_is_static", lambda *_: True)
            return compute(*arguments, invalid="nan", **options)

    return call


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("size", [1e3, 1e16, 1e17, -1e17])
def test_static_equals_packed_whatever_the_size_of_intensities(
    dtype: torch.dtype, size: float, static: Callable[..., Tensor]
) -> None:
    """From 2^53 up the largest intensity plus 1 is itself, and its pixels are one level above the bins."""
    images = ((torch.rand((1, 20, 20), generator=torch.Generator().manual_seed(0), dtype=F64) + 1) * size).to(dtype)
    settings = RadiomicsSettings(bin_count=8)
    packed = compute(images, EVERYTHING, settings=settings)
    same = static(images, EVERYTHING, settings=settings)
    assert torch.equal(same.nan_to_num(7), packed.nan_to_num(7)) and bool(packed.isfinite().any())
    regions = make_regions(images, EVERYTHING, None, None)
    highest = discretise(regions, None, settings, memory.max_levels(regions, settings)).n_levels
    assert highest.item() == 8 + (abs(size) > 2**53)


def test_a_normalised_image_scaled_beyond_2_to_the_53(images: Tensor, static: Callable[..., Tensor]) -> None:
    settings = RadiomicsSettings(bin_count=8, normalize=True, normalize_scale=1e17)
    packed = compute(images.to(torch.uint8), BOXES, settings=settings)
    assert torch.equal(static(images.to(torch.uint8), BOXES, settings=settings), packed)
    assert bool(packed.isfinite().all())


@pytest.mark.parametrize("dtype", sorted(memory.NARROW, key=str), ids=str)
def test_narrow_types_need_no_level_above_the_bins(dtype: torch.dtype) -> None:
    """So their matrices are no larger than the number of bins."""
    most = 1 if dtype == torch.bool else (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max
    assert float(most) + 1 > float(most)
    regions = make_regions(torch.zeros((1, 9, 9), dtype=dtype), torch.tensor([[0, 0, 9, 9]]), None, None)
    assert memory.max_levels(regions, RadiomicsSettings(bin_count=32)) == 32
    assert memory.max_levels(regions, RadiomicsSettings(bin_count=32, normalize=True)) == 33


@pytest.mark.parametrize("pair", [(-1.0, 2.0), (1.0, 0.0), (torch.nan, 1.0), (1.0, torch.inf)])
def test_a_spacing_that_is_not_looked_at_makes_its_regions_invalid(
    images: Tensor, pair: tuple[float, float], static: Callable[..., Tensor]
) -> None:
    settings = RadiomicsSettings(bin_count=8, weighting_norm="euclidean")
    rows = torch.tensor([[2, 4.0, 4, 20, 20], [1, 0, 0, 50, 40], [0, 2, 2, 30, 30], [1, 3, 3, 9, 9]])
    spacing = torch.tensor([[0.5, 2.0], pair, [1.0, 1.0]])
    with pytest.raises(ValueError, match="spacing must be finite and above 0"):
        compute(images, rows, settings=settings, spacing=spacing, invalid="nan")
    table = static(images, rows, settings=settings, spacing=spacing)
    assert bool(table[[1, 3]].isnan().all())
    spacing[1] = 1.0
    assert torch.equal(table[[0, 2]], compute(images, rows, settings=settings, spacing=spacing)[[0, 2]])
    assert bool(static(images, rows, settings=settings, spacing=torch.tensor(pair)).isnan().all())
    words = reasons(make_regions(images, rows, None, None), torch.tensor([0, Status.SPACING, 0, 0]), settings)
    assert words == {1: "the spacing of its image is not finite and above 0"}


def test_every_status_has_words() -> None:
    for status in Status:
        assert bool(status.words) == (status != Status.OK) and not set(status.words) & set("[]{}")


# --- bit-identical from run to run, and whatever else is in the batch

SETTINGS = {
    "default": RadiomicsSettings(),
    "count": RadiomicsSettings(bin_count=32, distances=(1, 3), symmetrical_glcm=False),
    "weighted": RadiomicsSettings(bin_count=200, weighting_norm="manhattan", gldm_a=2),
    "prepared": RadiomicsSettings(
        bin_width=0.1, normalize=True, remove_outliers=2.0, resegment_range=(-1.5, 1.5), resegment_mode="sigma"
    ),
}


@pytest.fixture(scope="module")
def mixed() -> tuple[Tensor, Tensor]:
    """64 boxes of very different size and content on 16 images."""
    generator = np.random.default_rng(5)
    smooth = torch.nn.functional.interpolate(noise(8, 1, 12, 12, seed=1), size=(160, 120), mode="bicubic")[:, 0]
    images = torch.cat([noise(8, 160, 120, seed=2), smooth])
    first = generator.integers(0, (100, 140), (64, 2))
    side = generator.integers(2, (120, 160), (64, 2))
    rows = np.concatenate([generator.integers(0, 16, (64, 1)), first, first + side], 1)
    return images, torch.from_numpy(rows)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_region_has_the_same_bits_alone_and_among_64(
    mixed: tuple[Tensor, Tensor], settings: RadiomicsSettings
) -> None:
    images, rows = mixed
    together = compute(images, rows, settings=settings, invalid="nan")
    assert bool(together.isfinite().all(1).any())
    for k, row in enumerate(rows):
        alone = compute(images, row[None], settings=settings, invalid="nan")
        assert torch.equal(alone[0].view(torch.int64), together[k].view(torch.int64)), k
    backwards = compute(images, rows.flip(0), settings=settings, invalid="nan").flip(0)
    assert torch.equal(backwards.view(torch.int64), together.view(torch.int64))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_runs_threads_and_memory_limits_do_not_change_a_bit(
    mixed: tuple[Tensor, Tensor], settings: RadiomicsSettings
) -> None:
    images, rows = mixed
    expected = compute(images, rows, settings=settings, invalid="nan").view(torch.int64)
    for _ in range(5):
        assert torch.equal(compute(images, rows, settings=settings, invalid="nan").view(torch.int64), expected)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3, 8):
            torch.set_num_threads(count)
            assert torch.equal(compute(images, rows, settings=settings, invalid="nan").view(torch.int64), expected)
    finally:
        torch.set_num_threads(threads)
    little = replace(settings, memory_limit=30 * 2**20)
    assert torch.equal(compute(images, rows, settings=little, invalid="nan").view(torch.int64), expected)


def test_an_image_apart_from_the_regions_changes_nothing(images: Tensor) -> None:
    more = torch.cat([torch.full((1, 40, 50), torch.nan), images])
    assert torch.equal(compute(more, torch.cat([ROWS[:, :1] + 1, BOXES], 1)), compute(images, BOXES))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_computes_too(images: Tensor) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        many = ROWS.repeat(8, 1)
        expected = compute(images, many)  # the threads of this process are running
        loader = torch.utils.data.DataLoader(
            [0], batch_size=1, num_workers=1, collate_fn=lambda _: _compute_on_two_threads(images, many), timeout=60
        )  # fmt: skip
        for result in loader:  # RuntimeError after a minute
            assert torch.equal(result, expected)
    finally:
        torch.set_num_threads(before)


def _compute_on_two_threads(images: Tensor, boxes: Tensor) -> Tensor:
    torch.set_num_threads(2)  # a worker of a DataLoader begins with one
    return compute(images, boxes)


# --- bad input

BAD_ARGUMENTS: dict[str, tuple[Callable[[Tensor], tuple[Any, ...]], dict[str, Any], type[Exception], str]] = {
    "rank": (lambda i: (i[0], BOXES), {}, ValueError, r"images must have shape .*\(40, 50\)"),
    "channels": (lambda i: (i[:, None].expand(3, 3, 40, 50), BOXES), {}, ValueError, "3 channels, expected 1"),
    "no tensor": (
        lambda i: (i.numpy(), BOXES),
        {},
        TypeError,
        "images must be a torch.Tensor or a list of them, got ndarray",
    ),
    "complex": (lambda i: (i.to(torch.complex64), BOXES), {}, TypeError, "images must be real, got torch.complex64"),
    "shape of boxes": (lambda i: (i, BOXES[:, :3]), {}, ValueError, r"boxes must have shape .*\(3, 3\)"),
    "number of boxes": (lambda i: (i, BOXES[:2]), {}, ValueError, "2 boxes .* for 3 images"),
    "number of lists": (lambda i: (i, [BOXES, BOXES]), {}, ValueError, "2 images for 3 images"),
    "shape in a list": (lambda i: (i, [BOXES, BOXES[0], BOXES]), {}, ValueError, r"boxes\[1\] must have shape"),
    "type of boxes": (lambda i: (i, "boxes"), {}, TypeError, "boxes must be a tensor or a list"),
    "type in a list": (lambda i: (i, [BOXES, 1, BOXES]), {}, TypeError, r"boxes\[1\] must be a torch.Tensor, got int"),
    "complex boxes": (lambda i: (i, BOXES.to(torch.complex64)), {}, TypeError, "boxes must be real"),
    "device of boxes": (lambda i: (i, BOXES.to("meta")), {}, ValueError, "boxes are on meta, images on cpu"),
    "device of masks": (
        lambda i: (i,),
        {"masks": torch.ones(3, 40, 50, device="meta")},
        ValueError,
        "masks are on meta",
    ),
    "size of masks": (lambda i: (i,), {"masks": torch.ones(3, 50, 40)}, ValueError, r"\(3, 50, 40\).*\(3, 40, 50\)"),
    "complex masks": (lambda i: (i,), {"masks": torch.ones(3, 40, 50) * 1j}, TypeError, "masks must be real"),
    "float8": (lambda i: (i.to(torch.float8_e4m3fn), BOXES), {}, TypeError, "images must be dense .*float8_e4m3fn"),
    "sparse": (lambda i: (i.to_sparse(), BOXES), {}, TypeError, "images must be dense .*torch.sparse_coo"),
    "complex spacing": (lambda i: (i, BOXES), {"spacing": torch.ones(2) * 1j}, TypeError, "spacing must be numbers"),
    "no regions": (lambda i: (i,), {}, ValueError, "neither boxes nor masks"),
    "zero spacing": (lambda i: (i, BOXES), {"spacing": (0.0, 1.0)}, ValueError, "spacing must be finite and above 0"),
    "negative spacing": (lambda i: (i, BOXES), {"spacing": -torch.ones(3, 2)}, ValueError, "spacing must be"),
    "shape of spacing": (lambda i: (i, BOXES), {"spacing": (1.0, 1.0, 1.0)}, ValueError, r"shape \(2,\) or \(3, 2\)"),
    "type of spacing": (lambda i: (i, BOXES), {"spacing": "1 mm"}, TypeError, "spacing must be numbers"),
    "settings": (lambda i: (i, BOXES), {"settings": {"binWidth": 25}}, TypeError, "from_pyradiomics"),
    "invalid": (lambda i: (i, BOXES), {"invalid": "skip"}, ValueError, "invalid must be"),
    "dtype": (lambda i: (i, BOXES), {"dtype": torch.float16}, ValueError, "dtype must be"),
}


@pytest.mark.parametrize("what", BAD_ARGUMENTS)
@pytest.mark.parametrize("invalid", ["raise", "nan"])
def test_bad_arguments_raise_whatever_invalid_says(images: Tensor, what: str, invalid: str) -> None:
    arguments, options, error, message = BAD_ARGUMENTS[what]
    with pytest.raises(error, match=message):
        gpu_radiomics(*arguments(images), **{"invalid": invalid, **options})


def with_value(images: Tensor, value: float) -> Tensor:
    images = images.clone()
    images[1, 10, 10] = value
    return images


BAD_REGIONS: dict[str, tuple[list[float], dict[str, Any], str]] = {
    "inverted": ([9.0, 9.0, 5.0, 20.0], {}, "empty or inverted"),
    "empty": ([9.0, 9.0, 9.0, 20.0], {}, "empty or inverted"),
    "outside": ([50.0, 0.0, 60.0, 20.0], {}, r"outside its image of 40 x 50"),
    "not finite": ([0.0, torch.nan, 60.0, 20.0], {}, "box is not finite"),
    "infinite": ([0.0, 0.0, torch.inf, 20.0], {}, "box is not finite"),
    "pixel": ([5.0, 5.0, 6.0, 6.0], {}, "single pixel"),
    "row": ([5.0, 5.0, 20.0, 6.0], {}, "minimum_roi_dimensions = 2"),
    "small": ([5.0, 5.0, 7.0, 7.0], {"minimum_roi_size": 4}, "minimum_roi_size = 4"),
    "resegmented": ([5.0, 5.0, 30.0, 30.0], {"resegment_range": (1e6,)}, r"resegment_range = \(1000000.0,\)"),
    "distance": ([5.0, 5.0, 8.0, 8.0], {"distances": (3, 4)}, r"distances = \(3, 4\) reaches beyond"),
    "levels": ([0.0, 0.0, 50.0, 40.0], {"bin_width": 1.0, "max_levels": 8}, "more than 8 grey levels"),
    "untold width": ([0.0, 0.0, 3.0, 3.0], {"bin_width": 1e-12, "max_levels": 5}, "cannot tell its bins apart"),
    "tiny width": ([0.0, 0.0, 50.0, 40.0], {"bin_width": 1e-300}, "more than .* grey levels"),
}


@pytest.mark.parametrize("what", BAD_REGIONS)
def test_a_bad_region_is_named_or_becomes_nan_and_disturbs_no_other(images: Tensor, what: str) -> None:
    box, changes, message = BAD_REGIONS[what]
    settings = RadiomicsSettings(**changes)
    images = images.clone()
    images[0], images[2] = images[0].clamp(100, 107), images[2].clamp(100, 107)
    if "resegment_range" in changes:
        images[0, 4:20, 4:20], images[2, 4:20, 4:20] = 2e6, 2e6
    rows = torch.tensor([[0, 2.0, 2, 30, 30], [1, *box], [2, 4.0, 4, 20, 20]])
    if what in ("tiny width", "untold width"):
        images[0], images[2] = 0.0, 0.0
    if what == "untold width":
        images[1] = 1e5
    with pytest.raises(ValueError, match=r"1 of 3 regions .*: row 1 \(image 1, box .*" + message):
        compute(images, rows, settings=settings)
    table = compute(images, rows, settings=settings, invalid="nan")
    assert bool(table[1].isnan().all())
    assert torch.equal(table[[0, 2]].nan_to_num(), compute(images, rows[[0, 2]], settings=settings).nan_to_num())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_intensities_that_are_not_finite(images: Tensor, value: float) -> None:
    bad = with_value(images, value)
    with pytest.raises(ValueError, match=r"row 1 \(image 1.*NaN or infinite"):
        compute(bad, BOXES)
    table = compute(bad, BOXES, invalid="nan")
    assert bool(table[1].isnan().all())
    assert torch.equal(table[[0, 2]], compute(images, BOXES)[[0, 2]])
    beside = torch.tensor([[1.0, 11.0, 0.0, 50.0, 40.0]])
    assert torch.equal(compute(bad, beside), compute(images, beside))


@pytest.mark.parametrize("index", [-1.0, 3.0, 0.5, torch.nan, torch.inf])
def test_image_index_out_of_range(images: Tensor, index: float) -> None:
    rows = ROWS.clone()
    rows[1, 0] = index
    with pytest.raises(ValueError, match=r"row 1 .*image index is not one of 0 \.\.\. 2"):
        compute(images, rows)
    table = compute(images, rows, invalid="nan")
    assert bool(table[1].isnan().all()) and torch.equal(table[[0, 2]], compute(images, ROWS[[0, 2]]))


def test_absent_label(images: Tensor) -> None:
    masks = torch.ones(3, 40, 50)
    masks[1] = 2
    with pytest.raises(ValueError, match=r"row 1 .*no pixel of label 1"):
        compute(images, masks=masks)
    assert compute(images, masks=masks, invalid="nan").isnan().all(1).tolist() == [False, True, False]


def test_every_bad_row_is_named(images: Tensor) -> None:
    rows = torch.tensor([[0.0, 5, 5, 4, 9], [9.0, 0, 0, 5, 5], [1.0, 0, 0, 9, 9], [2.0, 0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"3 of 4.*row 0 .*inverted.*row 1 .*index.*row 3 .*single pixel"):
        compute(images, rows)


def test_distances_far_beyond_the_box_cost_nothing(images: Tensor) -> None:
    near = RadiomicsSettings(distances=(1, 2))
    far = replace(near, distances=(1, 5000, 2, 10**9))
    assert torch.equal(
        compute(images, BOXES[[0, 0, 0]], settings=far), compute(images, BOXES[[0, 0, 0]], settings=near)
    )


# --- one grey level


def test_bins_wider_than_the_image_warn_once() -> None:
    images, whole = (
        torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[0, 0, 16, 16]] * 2),
    )
    with pytest.warns(UserWarning, match="bin_width = 25 leaves one grey level.*bin_count"):
        compute(images, whole)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            compute(images, whole)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute(images * 255, whole)  # several levels
        one_each = RadiomicsSettings(feature_class=("firstorder",), memory_limit=2**14)  # region by region
        compute(torch.cat([images[:1], images[1:] * 255]), whole, settings=one_each, invalid="nan")
        compute(torch.ones_like(images), whole)  # flat: no bin width would help
        compute(images, whole, settings=RadiomicsSettings(bin_count=1))


def test_flat_region() -> None:
    table = dict(zip(feature_names(), compute(torch.full((1, 9, 9), 3.7), torch.tensor([[0, 0, 9, 9]]))[0].tolist()))
    expected = {"Variance": 0, "Skewness": 0, "Kurtosis": 0, "Entropy": 0, "Uniformity": 1, "Range": 0}
    assert all(table[f"original_firstorder_{name}"] == pytest.approx(v, abs=1e-15) for name, v in expected.items())
    assert table["original_glcm_MCC"] == 1 and table["original_glcm_Correlation"] == 1
    assert table["original_ngtdm_Coarseness"] == 1e6 and table["original_glszm_LargeAreaEmphasis"] == 81**2


# --- operators


def test_offsets_are_half_of_the_neighbourhood() -> None:
    assert half_offsets((1,)) == [0, 1, 1, 0, 1, 0, 0, 1, -1, 0, 0, 1]
    for distances, dimensions in itertools.product([(1,), (2,), (1, 3)], (2, 3)):
        triples = np.array(half_offsets(distances, dimensions)).reshape(-1, 3)
        everything = {
            o for o in itertools.product(range(-3, 4), repeat=3)
            if max(map(abs, o)) in distances and (dimensions == 3 or o[0] == 0)
        }  # fmt: skip
        assert {*map(tuple, triples), *map(tuple, -triples)} == everything and 2 * len(triples) == len(everything)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_operators_pass_opcheck(dtype: torch.dtype) -> None:
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 6, 7 * 8 + 5 * 3)).to(dtype)
    start, size = torch.tensor([0, 56]), torch.tensor([[1, 7, 8], [1, 5, 3]])
    near, ng, n_levels = half_offsets((1,)), 5, torch.tensor([5, 5])
    where = levels, start, size
    images, spacing = noise(2, 9, 9)[:, None], torch.ones((2, 3), dtype=F64)
    index, box = torch.tensor([0, 1]), torch.tensor([[0, 0, 0, 1, 7, 8], [0, 1, 2, 1, 6, 5]])
    everything = {"gldm_a": 0, "pairs": True, "dependences": True, "differences": True}
    glcm, _, ngtdm = ops.neighbourhood(*where, near, ng, **everything)
    glrlm, zones = ops.glrlm(*where, near, ng, 8), ops.glszm(*where, near, ng, 24)
    histogram = ops.level_histogram(*where, ng)
    moments = ops.image_moments(images, None)
    status = torch.zeros(2, dtype=torch.int32)
    rows = torch.tensor([[0, 1, 2, 5.5, 6], [7, 0, 0, 1, 1]], dtype=F64)
    names = ["glrlm/RunEntropy", "glrlm/RunVariance", "shape2D/Perimeter"]
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "image_moments": ((images, torch.tensor([[1, 9, 9], [1, 7, 5]])), {}),
        "label_boxes": ((images, index, box, torch.tensor([[3, 9]])), {}),
        "discretise": (
            (images, (images > 9).to(torch.uint8), moments, index, box, status, start, size),
            {
                "labels": index + 1,
                "total": 71, "narrow": dtype == torch.uint8, "bin_width": 25.0, "bin_count": 0, "max_levels": 300,
                "normalize_scale": 1.0, "remove_outliers": 0.0, "resegment_range": [0.5],
                "resegment_mode": "absolute", "resegment_shape": False, "minimum_roi_dimensions": 2,
                "minimum_roi_size": 0, "distances": [1], "force2d_dimension": -1,
            },
        ),
        "largest_components": ((torch.rand(2, 9, 8),), {"threshold": 0.5, "max_components": 3}),
        "level_histogram": ((*where, ng), {}),
        "first_order": (
            (images, None, index, box, *where, histogram),
            {"normalize_scale": 1.0, "remove_outliers": 0.0, "shift": 0.0},
        ),
        "shape": ((levels, start, torch.tensor([[2, 4, 7], [3, 5, 1]]), spacing), {}),
        "shape2d": ((*where, spacing), {}),
        "glcm_sums": ((glcm, histogram, n_levels, torch.zeros((2, 4), dtype=F64)), {"symmetric": True, "mcc": True}),
        "glrlm": ((*where, near, ng, 8), {}),
        "glszm": ((*where, near, ng, 24), {}),
        "neighbourhood": ((*where, near, ng), {**everything, "gldm_a": 1}),
        "ngtdm_sums": ((histogram, ngtdm), {}),
        "size_sums": ((glrlm, n_levels, torch.empty((0, 0), dtype=F64)), {}),
        "zone_sums": ((zones, ng), {}),
        "features": (
            ([torch.ones((2, 4, 15), dtype=F64), torch.ones((2, 9), dtype=F64)], spacing, status),
            {"names": names, "dtype": torch.float32},
        ),
        "locate": ((images, rows, None, None), {"voxel": [1.0, 0.5, 2.0]}),
    }  # fmt: skip
    assert set(calls) == set(ops.KERNELS)
    for name, (arguments, settings) in calls.items():
        torch.library.opcheck(getattr(torch.ops.kacl_gpu, name).default, arguments, settings)


def test_a_zone_of_many_pixels_at_a_high_level() -> None:
    """Size times number of levels passes 31 bits."""
    where = torch.full((800 * 800,), 4000, dtype=torch.int16), torch.tensor([0]), torch.tensor([[1, 800, 800]])
    assert ops.glszm(*where, half_offsets((1,)), 4096, 2).tolist() == [[[4000, 640000, 1], [0, 0, 0]]]


def test_three_dimensional_volumes_go_through_the_same_operators() -> None:
    """A volume against sums over its pairs of voxels and scikit-image's labelling, by definition."""
    measure = pytest.importorskip("skimage.measure")
    volume = np.random.default_rng(3).integers(0, 4, (4, 5, 6))
    where = torch.from_numpy(volume.ravel()).to(torch.uint8), torch.tensor([0]), torch.tensor([[4, 5, 6]])
    near = half_offsets((1,), 3)
    glcm, gldm, ngtdm = (
        m[0].numpy()
        for m in ops.neighbourhood(*where, near, 3, gldm_a=1, pairs=True, dependences=True, differences=True)
    )
    pairs, dependence, difference = np.zeros_like(glcm), np.zeros_like(gldm), np.zeros_like(ngtdm)
    padded = np.pad(volume, 1)
    offsets = np.array(near).reshape(-1, 3)
    for p in np.ndindex(volume.shape):
        i = volume[p]
        if i == 0:
            continue
        for a, o in enumerate(offsets):
            if j := padded[tuple(np.add(p, o) + 1)]:
                pairs[a, i - 1, j - 1] += 1
        block = padded[tuple(slice(c, c + 3) for c in p)].ravel()
        around = np.delete(block, 13)
        around = around[around > 0]
        dependence[i - 1, np.count_nonzero(abs(around - i) <= 1)] += 1
        difference[i - 1, len(around)] += abs(len(around) * i - around.sum())
    assert (glcm == pairs).all() and (gldm == dependence).all() and (ngtdm == difference).all()
    zones = ops.glszm(*where, near, 3, 60)[0].numpy()
    expected = {}
    for level in (1, 2, 3):
        for zone in measure.regionprops(measure.label(volume == level, connectivity=3)):
            expected[level, int(zone.area)] = expected.get((level, int(zone.area)), 0) + 1
    assert {(int(i), int(j)): int(n) for i, j, n in zones if n} == expected
    runs = ops.glrlm(*where, near, 3, 6)[0].numpy()
    assert (runs.sum(1) @ np.arange(1, 7) == np.count_nonzero(volume)).all()
    for a, o in enumerate(offsets):  # a run ends where the next voxel differs
        ends = sum(padded[tuple(np.add(p, o) + 1)] != volume[p] for p in np.ndindex(volume.shape) if volume[p])
        assert runs[a].sum() == ends


# --- time and memory


def test_first_call_imports_no_tracer() -> None:
    """torch._dynamo takes seconds to import; a call must not need it."""
    code = (
        "import sys, torch; from kacl_gpu import gpu_radiomics; assert 'numba' not in sys.modules;"
        "gpu_radiomics(torch.rand(1, 8, 8) * 255, torch.tensor([[0, 0, 8, 8]]));"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_split_covers_every_row_once() -> None:
    assert list(memory.split([], 10)) == [slice(0, 0)]
    assert list(memory.split([4, 4, 4, 40, 1, 1], 10)) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]


@pytest.mark.parametrize("side", [1, 33, 1000])
@pytest.mark.parametrize("name", ["firstorder", "shape2D", "glszm", "gldm", "ngtdm"])
def test_what_kernels_take_is_counted(name: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare what the launchers of a class ask for, on tensors without memory, with the bound for its regions."""
    common = pytest.importorskip("kacl_gpu.kernels.common")
    from kacl_gpu.kernels import first_order, glszm, neighbourhood, shape2d, sizes

    regions, ng, block = 5, 4, aligned(side * side)
    meta: dict[str, Any] = {"device": "meta"}
    levels, spacing = torch.empty(regions * block, **meta).byte(), torch.empty((regions, 2), **meta).double()
    where = levels, torch.empty(regions, **meta).long(), torch.empty((regions, 3), **meta).long()
    box, histogram = torch.empty((regions, 4), **meta).long(), torch.empty((regions, ng), **meta).int()
    images, zones = torch.empty((1, side, side), **meta).double(), memory.zone_bound(side * side, ng)
    monkeypatch.setattr(common, "recorder", lambda *_: None)
    with Allocating() as taken:
        if name == "firstorder":
            first_order.first_order(
                *(images, None, where[1], box, *where, histogram),
                normalize_scale=1.0,
                remove_outliers=0.0,
                shift=0.0,
            )
        elif name == "shape2D":
            shape2d.shape2d(levels, *where[1:], spacing)
        elif name == "glszm":
            glszm.zone_sums(glszm.glszm(*where, half_offsets((1,)), ng, zones), ng)
        else:
            selection = {"pairs": False, "dependences": name == "gldm", "differences": name == "ngtdm"}
            _, gldm, ngtdm = neighbourhood.neighbourhood(*where, half_offsets((1,)), ng, gldm_a=0, **selection)
            if name == "gldm":
                sizes.size_sums(gldm[:, None], where[1], torch.empty((0, 0), **meta).double())
            else:
                neighbourhood.ngtdm_sums(histogram, ngtdm)
    settings = RadiomicsSettings(feature_class=[name])
    each = memory.matrix_bytes(memory.Bounds(ng, side, side * side), settings, 2, False)
    assert 0 < taken.bytes <= (each + memory.pixel_bytes(side * side, settings, 2, False)) * regions


class Allocating(TorchDispatchMode):
    """Adds up the bytes of new tensors."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ in ("empty", "new_empty", "empty_like", "zeros", "full", "empty_strided"):
            self.bytes += made.nbytes
        return made


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_stays_under_the_limit() -> None:
    """Far more regions than fit at once: the peak over what the process held before stays under the limit."""
    limit = 64 * 2**20
    code = f"""
import re, torch
from kacl_gpu import RadiomicsSettings, gpu_radiomics
settings = RadiomicsSettings(bin_count=128, memory_limit={limit})
def status(key): return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
torch.manual_seed(0)
images = (torch.rand(2, 400, 400) * 255).to(torch.uint8)
rows = torch.cat([torch.randint(0, 2, (300, 1)), torch.zeros(300, 2), torch.full((300, 2), 400)], 1)
rows[:, 1:3] = torch.randint(0, 100, (300, 2)); rows[:, 3:] = rows[:, 1:3] + torch.randint(20, 300, (300, 2))
gpu_radiomics(images, rows[:2], settings=settings)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
gpu_radiomics(images, rows, settings=settings)
print(status("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert int(done.stdout) < limit, f"{int(done.stdout) / 2**20:.0f} MiB"


def test_one_region_too_large_for_the_limit_is_invalid_not_a_crash() -> None:
    images = torch.rand(1, 60, 60, generator=torch.Generator().manual_seed(0)) * 1e6
    settings = RadiomicsSettings(bin_width=1.0, memory_limit=2**20)
    with pytest.raises(ValueError, match=r"more than .* grey levels.*memory_limit"):
        compute(images, torch.tensor([[0, 0, 60, 60]]), settings=settings)
