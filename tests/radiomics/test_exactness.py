"""Ours against live PyRadiomics: integer matrices equal, features within :mod:`reference.tolerance`."""

import dataclasses
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

pytest.importorskip("radiomics", reason="PyRadiomics is not installed: test_frozen.py has stored values of it")

import SimpleITK as sitk

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from reference import regions
from reference.check import definition_row, expect, feature_misses, matrix_misses, ours
from reference.definition import RegionInvalid, prepare
from reference.regions import Region, seeded

SEED = 20
CHUNKS, CHUNK = 20, 100


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the images are tiny


def check(region: Region) -> list[str]:
    expected = expect(region)
    misses = feature_misses(region, expected, ours(region)) + matrix_misses(region, expected)
    return [str(miss) for miss in misses]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_generated_regions(chunk: int) -> None:
    report = []
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        region = seeded(SEED, index)
        if misses := check(region):
            report += [f"region {index} of seed {SEED}: {region.describe()}", *misses]
    assert not report, "\n".join(report)


def test_generated_regions_are_of_every_kind() -> None:
    """The regions above: how many can be computed, and that every kind and setting is among them, often enough."""
    counts: Counter[str] = Counter()
    for index in range(CHUNKS * CHUNK):
        region = seeded(SEED, index)
        try:
            prepared = prepare(region.image.astype(np.float64), region.pixels(), region.settings)
        except RegionInvalid:
            counts["invalid"] += 1
            continue
        content, form = region.kind.split(", ")
        height, width = prepared.mask.shape
        counts.update(
            ["computed", content, *form.rsplit(" by ", 1), str(region.image.dtype)]
            + [
                f"{field.name} {value}" if isinstance(value, str | bool | None) else f"{field.name} set"
                for field in dataclasses.fields(region.settings)
                if (value := getattr(region.settings, field.name)) != field.default or isinstance(value, bool)
            ]
            + [what for what, so in {
                "one row": height == 1, "one column": width == 1, "whole image": region.pixels().all(),
                "several distances": len(region.settings.distances) > 1, "two pixels": prepared.mask.sum() == 2,
                "one level": len(np.unique(prepared.levels[prepared.mask])) == 1, "spacing": region.spacing is not None,
                "more than 60 levels": prepared.levels.max() > 60,
            }.items() if so]
        )  # fmt: skip
    assert counts["computed"] > 0.7 * CHUNKS * CHUNK
    assert counts["invalid"] > 0.05 * CHUNKS * CHUNK
    wanted = """
        mask box both uint8 int16 float16 float32 float64
        one row, one column, whole image, several distances, two pixels, one level, more than 60 levels, spacing
        symmetrical_glcm False, normalize True, resegment_shape True, resegment_mode relative, resegment_mode sigma
        weighting_norm manhattan, weighting_norm euclidean, weighting_norm infinity, weighting_norm no_weighting
        bin_width set, bin_count set, gldm_a set, label set, voxel_array_shift set, remove_outliers set
        normalize_scale set, resegment_range set, minimum_roi_dimensions set, minimum_roi_size set, feature_class set
    """
    first, *others = wanted.strip().splitlines()
    kinds = [*regions.CONTENTS, *regions.FORMS, *first.split()]
    kinds += [kind for line in others for kind in line.strip().split(", ")]
    assert not {what: counts[what] for what in kinds if counts[what] < 10}


@pytest.mark.parametrize(
    ("bits", "smooth", "wanted"),
    [
        (8, True, {"bin_width": 25.0}),
        (8, False, {"bin_count": 32, "distances": (1, 5)}),
        (12, True, {"bin_count": 255, "symmetrical_glcm": False}),
        (12, True, {"bin_width": 40.0, "weighting_norm": "euclidean"}),
    ],
)
def test_large_region(bits: int, smooth: bool, wanted: dict[str, Any]) -> None:
    """Counts, runs and zones as large as in practice: an ellipse with a hole in an image of 150 x 180."""
    rng = np.random.default_rng(bits)
    y, x = np.mgrid[:150, :180]
    image = 0.5 + 0.4 * np.sin(y / 31) * np.cos(x / 23) if smooth else 0.5
    image = np.clip((image + rng.normal(0, 0.02 if smooth else 0.2, y.shape)) * 2**bits, 0, 2**bits - 1).astype(
        np.int16
    )
    from_centre = np.hypot((y - 80) / 65, (x - 85) / 80)
    mask = ((from_centre < 1) & (from_centre > 0.2)).astype(np.uint8)
    assert not check(Region(image, None, mask, (0.5, 0.7), RadiomicsSettings(**wanted), "large"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(regions.regions())
def test_drawn_regions(region: Region) -> None:
    assert not check(region), region.describe()


@pytest.mark.parametrize("batch", range(15))
def test_batch(batch: int) -> None:
    """Several images of one size, boxes that name their image, label maps, all under the settings of one draw."""
    rng = np.random.default_rng([SEED, batch])
    template = next(
        region for index in range(100 * batch, 100 * batch + 100)
        if min((region := seeded(SEED + 1, index)).image.shape) > 5 and region.settings.feature_class is None
    )  # fmt: skip
    height, width = template.image.shape
    count, label = 4, template.settings.label
    images = np.stack([rng.permutation(template.image.ravel()).reshape(height, width) for _ in range(count)])
    masks = np.where(rng.random(images.shape) < 0.8, label, rng.integers(0, 2, images.shape)).astype(np.int32)
    corners = rng.uniform(-1, 4, (9, 2)), rng.uniform(3, max(height, width) + 2, (9, 2))
    boxes = np.column_stack([rng.integers(0, count, 9), *corners])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "bin_width = ")
        rows = gpu_radiomics(
            torch.from_numpy(images), torch.from_numpy(boxes), masks=torch.from_numpy(masks),
            settings=template.settings, spacing=template.spacing, invalid="nan", dtype=torch.float64,
        ).numpy()  # fmt: skip
    report = []
    for (index, x1, y1, x2, y2), row in zip(boxes.tolist(), rows, strict=True):
        of_image = images[int(index)], (x1, y1, x2, y2), masks[int(index)]
        region = Region(*of_image, template.spacing, template.settings, "batch")
        if misses := feature_misses(region, expect(region), row):
            report += [region.describe(), *map(str, misses)]
    assert not report, "\n".join(report)


@pytest.mark.parametrize("chunk", range(5))
def test_definition_agrees_with_pyradiomics(chunk: int) -> None:
    """The long double oracle itself: where PyRadiomics is defined they are the same."""
    for index in range(chunk * 60, (chunk + 1) * 60):
        region = seeded(SEED + 2, index)
        expected = expect(region)
        misses = feature_misses(region, expected, definition_row(region, expected))
        assert not misses, "\n".join([region.describe(), *map(str, misses)])
