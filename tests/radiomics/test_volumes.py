"""Volumes: ours against PyRadiomics, live and frozen, and against ourselves: batches, lists, labels, planes.

Matrices are equal exactly, features within :mod:`reference.tolerance`.
"""

import dataclasses
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from torch import Tensor

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from reference import regions
from reference.check import (
    definition_misses,
    definition_row,
    expect,
    feature_misses,
    matrix_misses,
    names_of,
    our_matrices,
    ours,
)
from reference.definition import RegionInvalid, count_matrices, cube_triangles, prepare
from reference.frozen import FILES, digests, load
from reference.regions import Region, seeded_volume
from reference.tolerance import deviations

try:
    import SimpleITK as sitk

    from reference.pyradiomics import pyradiomics_features
except ModuleNotFoundError:
    sitk = None  # type: ignore[assignment, unused-ignore]

live = pytest.mark.skipif(sitk is None, reason="PyRadiomics is not installed: the frozen values stand for it")
DATA = Path(os.environ.get("KACL_GPU_DATA", "nowhere")) / "volumes"
F64 = torch.float64
SEED = 30
CHUNK = 15
USUAL, ALL = 10, 77  # chunks: 150 volumes, and 1005 more in the slow ones
FROZEN = load(3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    if sitk:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the images are tiny


def table(images: Any, boxes: Any = None, **options: Any) -> Tensor:
    """Return features in float64; one grey level is a case like others here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "bin_width = ")
        return gpu_radiomics(images, boxes, dtype=F64, **options)


def equal_bits(ours: Tensor, other: Tensor) -> bool:
    return torch.equal(ours.view(torch.int64), other.view(torch.int64))


def check(region: Region) -> list[str]:
    expected = expect(region)
    misses = feature_misses(region, expected, ours(region)) + matrix_misses(region, expected)
    return [str(miss) for miss in misses]


# --- PyRadiomics


@live
@pytest.mark.parametrize(
    "chunk", [*range(USUAL), *(pytest.param(n, marks=pytest.mark.slow) for n in range(USUAL, ALL))]
)
def test_generated_volumes(chunk: int) -> None:
    report = []
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        region = seeded_volume(SEED, index)
        if misses := check(region):
            report += [f"volume {index} of seed {SEED}: {region.describe()}", *misses]
    assert not report, "\n".join(report)


def test_generated_volumes_are_of_every_kind() -> None:
    """The volumes above: how many can be computed, and that every kind and setting is among them, often enough."""
    counts: Counter[str] = Counter()
    for index in range(ALL * CHUNK):
        region = seeded_volume(SEED, index)
        counts["not finite"] += "not finite" in region.kind
        try:
            prepared = prepare(region.image.astype(np.float64), region.pixels(), region.settings)
        except RegionInvalid:
            counts["invalid"] += 1
            continue
        content, form = region.kind.split(", ")
        sides = prepared.mask.shape
        settings = region.settings
        counts.update(
            ["computed", content, *form.rsplit(" by ", 1), str(region.image.dtype)]
            + [
                f"{field.name} {value}" if isinstance(value, str | bool | None) else f"{field.name} set"
                for field in dataclasses.fields(settings)
                if (value := getattr(settings, field.name)) != field.default or isinstance(value, bool)
            ]
            + [f"force2d across {settings.force2d_dimension}"] * settings.force2d
            + [f"one along {axis}" for axis in range(3) if sides[axis] == 1]
            + [what for what, so in {
                "a line": sorted(sides)[:2] == [1, 1], "whole volume": region.pixels().all(),
                "several distances": len(settings.distances) > 1, "two voxels": prepared.mask.sum() == 2,
                "one level": len(np.unique(prepared.levels[prepared.mask])) == 1, "spacing": region.spacing is not None,
                "255 levels and more": prepared.levels.max() >= 255, "a side of 20": max(sides) >= 20,
                "touches each border": all(
                    np.take(region.pixels(), end, axis).any() for axis in range(3) for end in (0, -1)
                ),
            }.items() if so]
        )  # fmt: skip
    assert counts["computed"] > 0.7 * ALL * CHUNK
    assert counts["invalid"] > 0.05 * ALL * CHUNK
    wanted = """
        mask box both uint8 uint16 int16 int32 int64 float16 float32 float64
        one along 0, one along 1, one along 2, a line, whole volume, several distances, two voxels, one level
        255 levels and more, spacing, a side of 20, touches each border, not finite
        force2d across 0, force2d across 1, force2d across 2
        symmetrical_glcm False, normalize True, resegment_shape True, resegment_mode relative, resegment_mode sigma
        weighting_norm manhattan, weighting_norm euclidean, weighting_norm infinity, weighting_norm no_weighting
        bin_width set, bin_count set, gldm_a set, label set, voxel_array_shift set, remove_outliers set
        normalize_scale set, resegment_range set, minimum_roi_dimensions set, minimum_roi_size set, feature_class set
    """
    first, *others = wanted.strip().splitlines()
    kinds = [*regions.CONTENTS, *regions.VOLUME_FORMS, *first.split()]
    kinds += [kind for line in others for kind in line.strip().split(", ")]
    assert not {what: counts[what] for what in kinds if counts[what] < 10}


@live
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(regions.volumes())
def test_drawn_volumes(region: Region) -> None:
    assert not check(region), region.describe()


@live
@pytest.mark.parametrize("chunk", range(4))
def test_definition_agrees_with_pyradiomics(chunk: int) -> None:
    """The long double oracle itself: where PyRadiomics is defined they are the same, and so are all matrices."""
    for index in range(chunk * 15, (chunk + 1) * 15):
        region = seeded_volume(SEED + 1, index)
        expected = expect(region)
        misses = feature_misses(region, expected, definition_row(region, expected))
        misses += definition_misses(region, expected)
        assert not misses, "\n".join([region.describe(), *map(str, misses)])


@live
@pytest.mark.parametrize(
    "wanted",
    [
        {"bin_width": 40.0},
        {"bin_count": 64, "distances": (1, 2), "weighting_norm": "euclidean"},
        {"bin_width": 100.0, "force2d": True, "force2d_dimension": 2},
    ],
    ids=str,
)
def test_large_volume(wanted: dict[str, Any]) -> None:
    """Counts, runs, zones and a surface as large as in practice: a shell of 30,000 voxels."""
    rng = np.random.default_rng(7)
    z, y, x = np.indices((30, 44, 50))
    image = 2000 + 800 * np.sin(y / 9) * np.cos(x / 7 + z / 5) + rng.normal(0, 60, z.shape)
    from_centre = np.sqrt(((z - 15) / 14) ** 2 + ((y - 22) / 20) ** 2 + ((x - 24) / 24) ** 2)
    mask = ((from_centre < 1) & (from_centre > 0.25)).astype(np.uint8)
    assert 25_000 < mask.sum() < 35_000
    assert not check(Region(image.astype(np.int16), None, mask, (3.0, 0.7, 0.9), RadiomicsSettings(**wanted), "large"))


@live
@pytest.mark.parametrize("batch", range(8))
def test_batch(batch: int) -> None:
    """Several volumes of one size, boxes that name their volume, label maps, all under the settings of one draw."""
    rng = np.random.default_rng([SEED, batch])
    template = next(
        region for index in range(100 * batch, 100 * batch + 100)
        if min((region := seeded_volume(SEED + 2, index)).image.shape) > 3 and region.image.size < 1000
        and region.settings.feature_class is None and np.isfinite(region.image.astype(np.float64)).all()
    )  # fmt: skip
    shape = template.image.shape
    count, label = 3, template.settings.label
    images = np.stack([rng.permutation(template.image.ravel()).reshape(shape) for _ in range(count)])
    masks = np.where(rng.random(images.shape) < 0.8, label, rng.integers(0, 2, images.shape)).astype(np.int32)
    corners = rng.uniform(-1, 3, (6, 3)), rng.uniform(2, max(shape) + 2, (6, 3))
    boxes = np.column_stack([rng.integers(0, count, 6), *corners])
    rows = table(
        torch.from_numpy(images)[:, None], torch.from_numpy(boxes), masks=torch.from_numpy(masks)[:, None],
        settings=template.settings, spacing=template.spacing, invalid="nan",
    ).numpy()  # fmt: skip
    report = []
    for (index, *box), row in zip(boxes.tolist(), rows, strict=True):
        region = Region(images[int(index)], tuple(box), masks[int(index)], template.spacing, template.settings, "batch")
        if misses := feature_misses(region, expect(region), row):
            report += [region.describe(), *map(str, misses)]
    assert not report, "\n".join(report)


# --- stored values


@pytest.mark.parametrize("index", range(FILES[3].regions))
def test_frozen_volume(index: int) -> None:
    region, expected, digest = FROZEN[index]
    misses = [str(miss) for miss in feature_misses(region, expected, ours(region))]
    assert not misses, "\n".join([region.describe(), *misses])
    if digest:
        assert digests(our_matrices(region)) == digest, region.describe()


def test_frozen_file_is_small_and_complete() -> None:
    assert len(FROZEN) == FILES[3].regions
    assert sum(expected.invalid is None for _, expected, _ in FROZEN) > 0.6 * len(FROZEN)
    assert FILES[3].path.stat().st_size < 300_000
    finite = np.isfinite([expected.values for _, expected, _ in FROZEN]).sum(0)
    assert finite.min() > 30, dict(zip(feature_names(dimensions=3), finite, strict=True))


# --- the sample volumes of PyRadiomics


def sample(name: str) -> tuple[NDArray[Any], NDArray[np.uint8], tuple[float, ...]]:
    """Return image, label map and spacing; the region's farther half has label 2, a corner of the volume label 5."""
    if not (DATA / f"{name}_image.nrrd").exists():
        pytest.skip("KACL_GPU_DATA does not name a folder with the sample volumes")
    reader = pytest.importorskip("SimpleITK", reason="SimpleITK reads the volumes, and is not installed")
    image, labels = (reader.ReadImage(str(DATA / f"{name}_{what}.nrrd")) for what in ("image", "label"))
    mask = reader.GetArrayFromImage(labels).astype(np.uint8)
    middle = int(np.median(np.nonzero(mask)[2]))
    mask[..., middle:] *= 2
    mask[:3, :9, :8] = 5
    return reader.GetArrayFromImage(image), mask, tuple(image.GetSpacing()[::-1])


SAMPLES = [
    ("brain1", {}),
    ("brain1", {"bin_count": 32, "weighting_norm": "no_weighting"}),
    ("brain1", {"force2d": True, "weighting_norm": "euclidean"}),
    (
        "brain1",
        {"normalize": True, "normalize_scale": 100.0, "bin_width": 5.0, "force2d": True, "force2d_dimension": 1},
    ),
    ("brain1", {"resegment_range": (-3, 1.5), "resegment_mode": "sigma", "resegment_shape": True, "distances": (1, 2)}),
    ("lung1", {}),
    ("lung1", {"normalize": True, "bin_width": 0.1, "force2d": True, "force2d_dimension": 2}),
]


@live
@pytest.mark.parametrize(("name", "wanted"), SAMPLES, ids=str)
def test_sample_volume(name: str, wanted: dict[str, Any]) -> None:
    image, mask, spacing = sample(name)
    chosen = RadiomicsSettings(**wanted)
    names = feature_names(chosen, dimensions=3)
    assert len(names) == 107
    rows = table(
        torch.from_numpy(image)[None, None], masks=torch.from_numpy(mask)[None, None], labels="all", settings=chosen,
        spacing=spacing,
    ).numpy()  # fmt: skip
    assert len(rows) == 3
    for label, row in zip((1, 2, 5), rows, strict=True):
        of_label = dataclasses.replace(chosen, label=label)
        expected = pyradiomics_features([image], masks=[mask], settings=of_label, spacing=spacing)[0]
        far = deviations(names, row, expected, np.zeros(len(names)))
        missed = {names[k]: (row[k], expected[k], far[k]) for k in np.flatnonzero(far > 1)}
        assert not missed, (label, missed)


# --- by ourselves: batches, lists, labels


def lesions(count: int, dtype: torch.dtype = torch.int16, side: int = 40) -> tuple[Tensor, Tensor]:
    """Return a volume (1, 1, D, H, W) and rows (K, 7) of boxes of all sizes in it, single planes and lines too."""
    rng = np.random.default_rng(count)
    volume = torch.from_numpy(rng.integers(0, 60, (1, 1, 20, side, side + 3))).to(dtype)
    size = rng.integers(1, (13, 13, 12), (count, 3))
    size[:, 0] = np.maximum(size[:, 0], 2)
    first = rng.integers(0, np.array([side + 3, side, 20]) - size)
    return volume, torch.from_numpy(np.column_stack([np.zeros(count, int), first, first + size])).double()


@pytest.mark.parametrize(
    "wanted",
    [
        {"bin_width": 5},
        {"bin_count": 16, "force2d": True, "force2d_dimension": 1},
        {"bin_width": 3, "weighting_norm": "manhattan", "distances": (1, 2), "resegment_range": (5.0, 50.0)},
        {"bin_count": 8, "normalize": True},
    ],
    ids=str,
)
def test_a_row_has_the_same_bits_alone_and_among_64(wanted: dict[str, Any]) -> None:
    volume, boxes = lesions(64)
    chosen = RadiomicsSettings(minimum_roi_dimensions=1, **wanted)
    mask = (torch.rand(volume.shape, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8)
    options = {"settings": chosen, "spacing": (2.0, 0.5, 0.7), "invalid": "nan"}
    for masks in (None, mask):
        many = table(volume, boxes, masks=masks, **options)
        assert int(many.isnan().all(1).sum()) < 20
        alone = torch.cat([table(volume, row[None], masks=masks, **options) for row in boxes])
        assert equal_bits(many, alone)
        small = dataclasses.replace(chosen, memory_limit=2**21)  # in many parts
        assert equal_bits(many, table(volume, boxes, masks=masks, **{**options, "settings": small}))


def test_a_list_has_the_same_bits_as_a_batch() -> None:
    volumes = [lesions(n)[0] for n in range(3, 7)]
    boxes = lesions(4)[1][:, 1:]
    batch, images = torch.cat(volumes), [volume[0, 0] for volume in volumes]
    for chosen in (RadiomicsSettings(bin_width=5), RadiomicsSettings(bin_count=8, normalize=True)):
        whole = table(batch, boxes, settings=chosen, spacing=(2.0, 0.5, 0.7))
        assert equal_bits(whole, table(images, boxes, settings=chosen, spacing=(2.0, 0.5, 0.7)))
        assert equal_bits(whole, table(images, [box[None] for box in boxes], settings=chosen, spacing=(2.0, 0.5, 0.7)))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
def test_a_ragged_list_has_the_same_bits_as_its_images_one_by_one(dtype: torch.dtype, normalize: bool) -> None:
    rng = np.random.default_rng(5)
    shapes = [(3, 9, 7), (1, 12, 5), (20, 22, 30), (8, 8, 8), (3, 9, 7), (40, 6, 6), (2, 70, 3), (9, 8, 8)]
    images = [torch.from_numpy(rng.integers(0, 40, shape)).to(dtype) for shape in shapes]
    masks = [torch.from_numpy((rng.random(shape) < 0.7) * rng.integers(1, 4, shape)) for shape in shapes]
    spacing = torch.from_numpy(rng.uniform(0.5, 3, (len(shapes), 3)))
    chosen = RadiomicsSettings(bin_count=12, normalize=normalize, minimum_roi_dimensions=1, weighting_norm="euclidean")

    def single(n: int, **options: Any) -> Tensor:
        return table(images[n][None, None], settings=chosen, spacing=tuple(spacing[n].tolist()), **options)

    whole = [torch.tensor([[0.0, 0, 0, *shape[::-1]]]) for shape in shapes]
    # boxes, one of them the whole volume; in rows that name the images in another order
    lists = [torch.cat([box, box * 0.8]) for box in whole]
    expected = [torch.cat([single(n, boxes=row[None]) for row in rows]) for n, rows in enumerate(lists)]
    options: dict[str, Any] = {"settings": chosen, "spacing": spacing}
    assert equal_bits(table(images, lists, **options), torch.cat(expected))
    rows = torch.cat([torch.cat([torch.full((2, 1), float(n)), lists[n]], 1) for n in (5, 2, 7, 0, 1, 6, 4, 3)])
    assert equal_bits(table(images, rows, **options), torch.cat([expected[n] for n in (5, 2, 7, 0, 1, 6, 4, 3)]))
    # label maps: one label, several, all
    for labels in (2, [1, 3], "all"):
        each = [single(n, masks=masks[n][None, None], labels=labels) for n in range(len(images))]
        assert equal_bits(table(images, masks=masks, labels=labels, **options), torch.cat(each))
    # and both
    each = [single(n, boxes=whole[n] * 0.9, masks=masks[n][None, None]) for n in range(len(images))]
    assert equal_bits(table(images, [box * 0.9 for box in whole], masks=masks, **options), torch.cat(each))
    # one label per image, or per box
    own = torch.arange(len(images)) % 3 + 1
    each = [single(n, masks=masks[n][None, None], labels=int(own[n])) for n in range(len(images))]
    assert equal_bits(table(images, masks=masks, labels=own, **options), torch.cat(each))
    turned = torch.tensor([5, 2, 7, 0, 1, 6, 4, 3])
    rows = torch.cat([torch.cat([torch.tensor([[float(n)]]), whole[n]], 1) for n in turned])
    by_row = table(images, rows, masks=masks, labels=own[turned], **options)
    assert equal_bits(by_row, torch.cat([each[n] for n in turned]))
    for wrong in (own[:3], own.repeat(2)):
        with pytest.raises(ValueError, match=rf"labels of shape \({len(wrong)},\) for 8 regions"):
            table(images, masks=masks, labels=wrong, **options)


def test_a_list_of_images_is_a_batch_of_images() -> None:
    rng = np.random.default_rng(6)
    images = [torch.from_numpy(rng.integers(0, 40, shape)).to(torch.uint8) for shape in ((9, 7), (12, 30), (9, 7))]
    boxes = [torch.tensor([[1.0, 1.0, 6.0, 8.0]])] * 3
    chosen = RadiomicsSettings(bin_count=8, normalize=True)
    each = [table(image[None], box, settings=chosen) for image, box in zip(images, boxes, strict=True)]
    assert equal_bits(table(images, boxes, settings=chosen), torch.cat(each))


def test_every_label_of_volumes() -> None:
    """Rows by image, then by label; each is what the label alone gives, whatever box is around it."""
    rng = np.random.default_rng(1)
    volumes = torch.from_numpy(rng.integers(0, 90, (2, 1, 9, 10, 11)).astype(np.int16))
    masks = torch.zeros(volumes.shape, dtype=torch.int32)
    masks[0, 0, 1:6, 2:9, 3:7] = 4
    masks[0, 0, 7:, 2:9, 8:] = 1000
    masks[1, 0] = torch.from_numpy(rng.integers(0, 3, (9, 10, 11)))
    chosen = RadiomicsSettings(bin_width=10)
    rows = table(volumes, masks=masks, labels="all", settings=chosen)
    assert len(rows) == 4
    for row, (image, label) in zip(rows, ((0, 4), (0, 1000), (1, 1), (1, 2)), strict=True):
        alone = table(volumes[[image]], masks=masks[[image]], labels=label, settings=chosen)
        assert equal_bits(row[None], alone)
    box = torch.tensor([[0.0, 3, 2, 1, 7, 9, 6]])  # image, x, y, z, x, y, z around label 4
    assert equal_bits(rows[:1], table(volumes, box, settings=chosen))


# --- planes


@pytest.mark.parametrize("axis", range(3))
def test_planes_are_added_up(axis: int) -> None:
    """With force2d the matrices of a volume are the sums of those of its slices as images."""
    rng = np.random.default_rng(axis)
    volume = rng.integers(1, 5, (4, 5, 6)).astype(np.uint8)
    mask = (rng.random(volume.shape) < 0.85).astype(np.uint8)
    chosen = RadiomicsSettings(bin_width=1, force2d=True, force2d_dimension=axis, distances=(1, 2))
    matrices = our_matrices(Region(volume, None, mask, None, chosen, "planes"))
    levels = volume * mask.astype(np.int64)
    sums: dict[str, NDArray[np.int64]] = {}
    for plane in np.moveaxis(levels, axis, 0):
        for what, counts in count_matrices(plane, dataclasses.replace(chosen, force2d=False)).items():
            name, *steps = what.split()
            if steps:
                steps.insert(axis, "0")
            wide = np.zeros((4, 30) if counts.ndim == 2 else 4, np.int64)
            wide[tuple(map(slice, counts.shape))] = counts
            key = " ".join([name, *steps])
            sums[key] = sums.get(key, 0) + wide
    assert sums.keys() == matrices.keys() - {"levels"}
    for what, counts in sums.items():
        used = counts if counts.ndim == 1 else counts[:, : matrices[what].shape[1]]
        assert np.array_equal(matrices[what], used), what
        assert counts.sum() == used.sum()


@pytest.mark.parametrize("force2d", [False, True])
def test_a_volume_of_one_slice_is_an_image(force2d: bool) -> None:
    """All classes but shape are those of the image, to the bit; energy is that of voxels instead of pixels."""
    rng = np.random.default_rng(2)
    image = torch.from_numpy(rng.integers(0, 200, (1, 1, 23, 19)).astype(np.uint8))
    mask = torch.from_numpy((rng.random((1, 1, 23, 19)) < 0.8).astype(np.uint8))
    for wanted in ({}, {"weighting_norm": "infinity", "distances": (1, 3)}, {"normalize": True, "bin_count": 16}):
        chosen = RadiomicsSettings(**wanted)
        flat = table(image, masks=mask, settings=chosen, spacing=(0.5, 0.7))[0]
        deep = table(
            image[:, None], masks=mask[:, None], spacing=(4.0, 0.5, 0.7),
            settings=dataclasses.replace(chosen, force2d=force2d),
        )[0]  # fmt: skip
        of_image = dict(zip(feature_names(chosen), flat.tolist(), strict=True))
        of_volume = dict(zip(feature_names(chosen, dimensions=3), deep.tolist(), strict=True))
        of_image["original_firstorder_TotalEnergy"] *= 4
        common = {name for name in of_image if "shape" not in name}
        assert common == {name for name in of_volume if "shape" not in name}
        assert {name: of_volume[name] for name in common} == pytest.approx(
            {name: of_image[name] for name in common}, rel=1e-14
        )
        assert of_volume["original_shape_VoxelVolume"] == 4 * of_image["original_shape2D_PixelSurface"]


def test_force2d_does_nothing_to_images() -> None:
    image = torch.arange(63).reshape(1, 7, 9) % 11
    box = torch.tensor([[1, 1, 8, 6]])
    plain = table(image, box, settings=RadiomicsSettings(bin_width=2))
    assert equal_bits(plain, table(image, box, settings=RadiomicsSettings(bin_width=2, force2d=True)))


def test_a_column_across_the_planes_has_no_textures() -> None:
    """No plane holds two of its voxels: PyRadiomics raises, ours is invalid; first order and shape are defined."""
    volume = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    column = torch.tensor([[1, 1, 0, 2, 2, 3]])
    options: dict[str, Any] = {"force2d": True, "minimum_roi_dimensions": 1, "bin_width": 1}
    for name in ("glcm", "glrlm", "glszm", "ngtdm", "gldm"):
        chosen = RadiomicsSettings(feature_class=[name], **options)
        assert bool(table(volume, column, settings=chosen, invalid="nan").isnan().all())
        across = dataclasses.replace(chosen, force2d_dimension=2)
        assert bool(table(volume, column, settings=across, invalid="nan").isfinite().any())
    defined = RadiomicsSettings(feature_class=["firstorder", "shape"], **options)
    assert bool(table(volume, column, settings=defined).isfinite().all())


# --- the rules of the mesh, of which reference/ has its own code


def test_the_table_of_cubes() -> None:
    """792 triangles of 18 kinds, 0 to 5 in a cube; PyRadiomics' own table has as many."""
    corners = [(z, y, x) for z in (0, 2) for y in (0, 2) for x in (0, 2)]
    triangles = [
        cube_triangles(frozenset(corner for bit, corner in enumerate(corners) if case >> bit & 1))
        for case in range(256)
    ]  # fmt: skip
    assert sum(map(len, triangles)) == 792
    assert {len(of_case) for of_case in triangles} == set(range(6))
    edges = np.concatenate(triangles)
    kinds = np.unique(abs(np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])), axis=0)
    assert len(kinds) == 18


@live
def test_every_cube() -> None:
    """The 255 cubes that have a voxel of the mask, each as a region of 2 x 2 x 2."""
    chosen = RadiomicsSettings(feature_class=["shape"], minimum_roi_dimensions=1)
    for case in range(1, 256):
        mask = np.array([case >> bit & 1 for bit in range(8)], np.uint8).reshape(2, 2, 2)
        if mask.sum() > 1:  # a single voxel is refused
            region = Region(np.zeros((2, 2, 2)), None, mask, (2.5, 0.7, 1.3), chosen, "a cube")
            assert not feature_misses(region, expect(region), ours(region))


def test_deprecated_shape_features_only_when_named() -> None:
    volume = torch.arange(125.0).reshape(1, 1, 5, 5, 5)
    box = torch.tensor([[0, 0, 0, 5, 4, 3]])
    named = RadiomicsSettings(feature_class={"shape": ["Compactness2", "Sphericity", "SphericalDisproportion"]})
    assert not {"Compactness1", "Compactness2"} & {name.split("_")[-1] for name in feature_names(dimensions=3)}
    row = dict(zip(feature_names(named, dimensions=3), table(volume, box, settings=named)[0].tolist(), strict=True))
    sphericity = row["original_shape_Sphericity"]
    assert row["original_shape_Compactness2"] == pytest.approx(sphericity**3, rel=1e-12)
    assert row["original_shape_SphericalDisproportion"] == pytest.approx(1 / sphericity, rel=1e-12)


def test_names() -> None:
    names = feature_names(dimensions=3)
    assert len(names) == len(set(names)) == 107
    classes = list(dict.fromkeys(name.split("_")[1] for name in names))
    assert classes == ["firstorder", "shape", "glcm", "glrlm", "glszm", "ngtdm", "gldm"]
    assert names_of(seeded_volume(SEED, 0)) == feature_names(seeded_volume(SEED, 0).settings, 3)
