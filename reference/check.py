"""Ours against the reference, region by region: what is expected, and where ours misses it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kacl_gpu import feature_names, gpu_radiomics
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.memory import Bounds, max_levels, zone_bound
from kacl_gpu.radiomics.regions import make_regions
from kacl_gpu.radiomics.volumes import discretise, flat_axis, half_offsets
from reference.definition import Definition, PreparedRegion, RegionInvalid, count_matrices, define
from reference.regions import Region
from reference.tolerance import deviations

if TYPE_CHECKING:
    from reference.pyradiomics import Matrices


class Expected(NamedTuple):
    """Hold what ours must return for a region.

    invalid : why there are no features, or None
    values : (F,) of PyRadiomics, or of the definition where ``undefined`` has the feature; NaN where invalid
    scale : (F,) sums of absolute terms, for the tolerance
    undefined : feature name -> why PyRadiomics' value is not the reference
    matrices : of PyRadiomics, as :func:`our_matrices` gives ours; empty where it counts none
    """

    invalid: str | None
    values: NDArray[np.float64]
    scale: NDArray[np.float64]
    undefined: Mapping[str, str]
    matrices: Mapping[str, NDArray]


class Miss(NamedTuple):
    """A disagreement; ``deviation`` is a multiple of what is tolerated."""

    what: str
    ours: object
    expected: object
    deviation: float

    def __str__(self) -> str:
        return f"{self.what}: {self.ours} for {self.expected} ({self.deviation:.3g} times the tolerance)"


def defined(region: Region) -> tuple[PreparedRegion, Definition]:
    """Return the definition of ``region``.

    Raises
    ------
    RegionInvalid
        It has none.
    """
    image = region.image.astype(np.float64)
    return define(image, region.pixels(), region.settings, region.spacing)


def names_of(region: Region) -> tuple[str, ...]:
    """Return the names of the features of a region."""
    return feature_names(region.settings, region.dimensions)


def expect(region: Region) -> Expected:
    """Return what PyRadiomics says of ``region``, and where it is undefined the definition.

    Raises
    ------
    AssertionError
        One computes what the other refuses.
    """
    from reference.pyradiomics import RegionRefused, pyradiomics_region

    names = names_of(region)
    try:
        values, matrices = pyradiomics_region(
            region.image, region.box, mask=region.mask, settings=region.settings, spacing=region.spacing
        )
        refused = None
    except RegionRefused as error:
        refused = str(error)
    try:
        _, definition = defined(region)
    except RegionInvalid as error:
        # Of a flat image rounding errors decide whether PyRadiomics finds a standard deviation to normalise by, and
        # shape alone it computes without looking at the values
        flat = region.settings.normalize and np.ptp(region.image) == 0
        only_shape = region.settings.by_class(region.dimensions).keys() <= {"shape", "shape2D"}
        # beside numbers PyRadiomics takes NaN for the highest level
        finite = np.isfinite(region.image.astype(np.float64)).all()
        if refused is None and not flat and not only_shape and finite:
            raise AssertionError(f"PyRadiomics computes what the definition refuses: {error}") from error
        return Expected(str(error), np.full(len(names), np.nan), np.zeros(len(names)), {}, {})
    if refused is not None:
        raise AssertionError(f"PyRadiomics refuses what the definition computes: {refused}")
    undefined = {name: reason for name, reason in definition.undefined.items() if name in names}
    for name in undefined:
        values[names.index(name)] = definition.values[name]
    scale = np.array([definition.scale.get(name, 0) for name in names], np.float64)
    return Expected(None, values, scale, undefined, {} if matrices is None else _their_matrices(matrices, region))


def definition_row(region: Region, expected: Expected) -> NDArray[np.float64]:
    """Return the features (F,) of the definition, NaN where the region is invalid; its grey levels are PyRadiomics'."""
    names = names_of(region)
    if expected.invalid is not None:
        return np.full(len(names), np.nan)
    prepared, definition = defined(region)
    if expected.matrices:
        assert np.array_equal(prepared.levels, expected.matrices["levels"])
    return np.array([definition.values[name] for name in names], np.float64)


def ours(region: Region, device: str = "cpu") -> NDArray[np.float64]:
    """Return the row (F,) of ``gpu_radiomics`` in float64, all NaN where the region is invalid."""
    images, boxes, masks = _tensors(region, device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "bin_width = ")  # one grey level is a case like others here
        return gpu_radiomics(
            images, boxes, masks=masks, settings=region.settings, spacing=region.spacing, invalid="nan",
            dtype=torch.float64,
        ).numpy(force=True)[0]  # fmt: skip


def feature_misses(region: Region, expected: Expected, row: NDArray[np.float64]) -> list[Miss]:
    """Return where the row (F,) of ours is further from what is expected than tolerated."""
    names = names_of(region)
    if expected.invalid is not None:
        return [] if np.isnan(row).all() else [Miss("features", "computed", f"invalid: {expected.invalid}", np.inf)]
    far = deviations(names, row, expected.values, expected.scale)
    against = {name: f" (definition: {reason})" for name, reason in expected.undefined.items()}
    return [
        Miss(name + against.get(name, ""), row[at], expected.values[at], far[at])
        for at, name in enumerate(names)
        if far[at] > 1
    ]


def matrix_misses(region: Region, expected: Expected) -> list[Miss]:
    """Return which of our integer matrices differs from PyRadiomics' in any element."""
    if not expected.matrices:
        return []
    matrices = our_matrices(region)
    assert matrices.keys() == expected.matrices.keys()
    return [
        Miss(what, matrix, expected.matrices[what], np.inf)
        for what, matrix in matrices.items()
        if not np.array_equal(matrix, expected.matrices[what])
    ]


def definition_misses(region: Region, expected: Expected) -> list[Miss]:
    """Return which of PyRadiomics' matrices differs in any element from the definition's."""
    if not expected.matrices:
        return []
    prepared, _ = defined(region)
    counted = count_matrices(prepared.levels, region.settings)
    assert {"levels", *counted} == expected.matrices.keys()
    return [
        Miss(what, matrix, expected.matrices[what], np.inf)
        for what, matrix in counted.items()
        if not np.array_equal(matrix if what == "ngtdm" else _trim(matrix), expected.matrices[what])
    ]


def our_matrices(region: Region, device: str = "cpu") -> dict[str, NDArray]:
    """Return levels and matrices of the operators, as int64 and without empty columns at the end.

    "levels" (h, w) or (d, h, w) in the bounding box of the region; "glcm y x" (Ng, Ng) and "glrlm y x" (Ng, L) of the
    direction with that offset, "glcm z y x" and "glrlm z y x" of a volume; "glszm" (Ng, S); "gldm" (Ng, D); "ngtdm"
    (Ng,), the pixels of each level.
    """
    settings = region.settings
    regions = make_regions(*_tensors(region, device), region.spacing, labels=settings.label)
    moments = ops.image_moments(regions.images, regions.image_size) if settings.normalize else None
    volumes = discretise(regions, moments, settings, max_levels(regions, settings))
    where = volumes.levels, volumes.start, volumes.size
    near, far = (_half_offsets(region, distances) for distances in ((1,), settings.distances))
    bounds = Bounds.of_values(volumes.size, volumes.n_levels)
    ng = bounds.ng
    levels = volumes.levels.numpy(force=True)[: bounds.pixels].reshape(volumes.size[0].tolist())
    levels = levels[tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(levels))]
    zones = ops.glszm(*where, near, ng, zone_bound(bounds.pixels, ng))[0].numpy(force=True)
    glszm = np.zeros((ng, zones[:, 1].max()), np.int64)
    for level, size, count in zones[zones[:, 2] > 0]:
        glszm[level - 1, size - 1] += count
    matrices = ops.neighbourhood(
        *where, far, ng, gldm_a=settings.gldm_a, pairs=True, dependences=True, differences=True
    )
    glcm, dependence, _ = (matrix[0].numpy(force=True) for matrix in matrices)
    runs = ops.glrlm(*where, near, ng, bounds.longest)[0].numpy(force=True)
    return {
        "levels": levels[(0,) * (3 - region.dimensions)].astype(np.int64),
        **_by_direction("glcm", _steps(far, region.dimensions), glcm),
        **_by_direction("glrlm", _steps(near, region.dimensions), runs),
        "glszm": _trim(glszm),
        "gldm": _trim(dependence),
        "ngtdm": dependence.sum(1),
    }


def _their_matrices(theirs: Matrices, region: Region) -> dict[str, NDArray]:
    """Return PyRadiomics' matrices in the form of :func:`our_matrices`."""
    given = {
        **_by_direction("glcm", theirs.offsets, theirs.glcm),
        **_by_direction("glrlm", theirs.run_offsets, theirs.glrlm),
    }
    # Directions longer than the box are not among PyRadiomics'
    ng = len(theirs.ngtdm)
    offsets = [("glcm", _half_offsets(region, region.settings.distances)), ("glrlm", _half_offsets(region, (1,)))]
    empty = {
        what: matrix
        for name, steps in offsets
        for what, matrix in _by_direction(
            name, _steps(steps, region.dimensions), np.zeros((len(steps) // 3, ng, ng), np.int64)
        ).items()
    }
    assert given.keys() <= empty.keys()
    return {
        "levels": theirs.levels,
        **empty,
        **given,
        "glszm": _trim(theirs.glszm),
        "gldm": _trim(theirs.gldm),
        "ngtdm": theirs.ngtdm[:, 0].astype(np.int64),
    }


def _half_offsets(region: Region, distances: tuple[int, ...]) -> list[int]:
    """Return the directions of a region at these distances, as flat z, y, x triples."""
    return half_offsets(distances, region.dimensions, flat_axis(region.dimensions, region.settings))


def _steps(offsets: list[int], dimensions: int) -> NDArray[np.int64]:
    """Return flat z, y, x triples as (A, 2) y, x or (A, 3) z, y, x."""
    return np.reshape(offsets, (-1, 3))[:, 3 - dimensions :]


def _by_direction(name: str, offsets: NDArray, matrices: NDArray) -> dict[str, NDArray]:
    """Return (A, 2) or (A, 3) offsets and (A, Ng, n) matrices as a dictionary."""
    return {
        " ".join([name, *map(str, offset)]): _trim(matrix)
        for offset, matrix in zip(offsets.tolist(), matrices, strict=True)
    }


def _trim(matrix: NDArray) -> NDArray[np.int64]:
    """Remove the empty columns at the end, whose number no definition gives."""
    used = np.flatnonzero(matrix.any(0))
    return matrix[:, : used[-1] + 1 if len(used) else 0].astype(np.int64)


def _tensors(region: Region, device: str) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    boxes = None if region.box is None else torch.tensor([region.box], dtype=torch.float64, device=device)
    masks = None if region.mask is None else torch.from_numpy(region.mask)[None, None].to(device)
    return torch.from_numpy(np.ascontiguousarray(region.image))[None, None].to(device), boxes, masks
