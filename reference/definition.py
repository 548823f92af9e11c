"""All features of one region of an image or a volume in long double, from their definitions: slow, meant to be read.

Sources: the documentation of PyRadiomics 3.0.1 ("Radiomic Features"), whose notation is used, and the order of float64
operations that decides which pixel gets which grey level. This is the oracle where PyRadiomics itself returns the sign
of a rounding error, overflows or is wrong; :class:`Definition` says where that is, by conditions on the region alone.
Nothing here is shared with the implementation but the settings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kacl_gpu.radiomics.settings import RadiomicsSettings

Real = np.longdouble
Array = NDArray[np.longdouble]

EPS = Real(2.0) ** -52  # the epsilon in PyRadiomics' logarithms and divisions
PI = Real("3.14159265358979323846264338327950288")
_NAN = Real("nan")

Offset = tuple[int, ...]  # y, x or z, y, x


class RegionInvalid(ValueError):
    """No features are defined for this region; the message says why."""


class PreparedRegion(NamedTuple):
    """Hold one region, ready for its features.

    All are (h, w), or (d, h, w) of a volume.

    values : float64 intensities, after normalisation
    levels : int64 grey levels, 0 outside the region
    mask : bool, the region
    shape_mask : bool, the region that shape features describe
    """

    values: NDArray[np.float64]
    levels: NDArray[np.int64]
    mask: NDArray[np.bool_]
    shape_mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Definition:
    """Hold the features of one region.

    Attributes
    ----------
    values : mapping of feature name to long double
        All 102 of an image, or 107 and the deprecated ones of shape of a volume, under PyRadiomics' names.
    scale : mapping of feature name to long double
        Sum of the absolute terms of the sums that cancel: glcm ClusterShade and Imc1, firstorder Skewness.
    undefined : mapping of feature name to str
        Features whose value in PyRadiomics is made of rounding errors, or differs on purpose, with the reason.
    """

    values: Mapping[str, Real]
    scale: Mapping[str, Real]
    undefined: Mapping[str, str]


def define(
    image: NDArray[np.float64],
    mask: NDArray[np.bool_],
    settings: RadiomicsSettings,
    spacing: Sequence[float] | None = None,
) -> tuple[PreparedRegion, Definition]:
    """Return the region and features of the pixels of ``image`` (H, W) or (D, H, W) that ``mask`` holds.

    Raises
    ------
    RegionInvalid
        As PyRadiomics refuses it.
    """
    region = prepare(image, mask, settings)
    return region, compute_features(region, settings, (1.0,) * image.ndim if spacing is None else spacing)


# From the image to grey levels, in float64: here the order of operations is the definition


def prepare(image: NDArray[np.float64], mask: NDArray[np.bool_], settings: RadiomicsSettings) -> PreparedRegion:
    """Normalise, check, resegment, crop and discretise.

    Raises
    ------
    RegionInvalid
        Region empty, too small, not finite, its range too narrow for the bins, or no distance fits into it.
    """
    values = np.asarray(image, np.float64)
    if settings.normalize:
        values = _normalise(values, settings)
    mask = np.asarray(mask, bool)
    _check(mask, settings)
    whole = mask
    if settings.resegment_range is not None:
        mask = _resegment(values, mask, settings)
        if mask.sum() <= 1:
            raise RegionInvalid("resegmentation left too few pixels")
        _check(mask, settings)
    box = _box(mask)
    values, mask, whole = values[box], mask[box], whole[box]
    if not np.isfinite(values[mask]).all():
        raise RegionInvalid("not finite")
    classes = settings.by_class(mask.ndim).keys()
    longest = max(size for axis, size in enumerate(mask.shape) if axis != _flat_axis(mask.ndim, settings))
    if classes & {"glcm", "ngtdm", "gldm"} and min(settings.distances) >= longest:
        raise RegionInvalid("no distance fits into the region")
    if longest == 1 and classes & {"glcm", "glrlm", "glszm", "ngtdm", "gldm"}:
        raise RegionInvalid("no plane holds two pixels")
    levels = np.zeros(mask.shape, np.int64)
    levels[mask] = grey_levels(values[mask], settings)
    return PreparedRegion(values, levels, mask, mask if settings.resegment_shape else whole)


def grey_levels(x: NDArray[np.float64], settings: RadiomicsSettings) -> NDArray[np.int64]:
    """Return the grey levels, from 1, of intensities ``x`` (N,) of one region, by comparison with NumPy's edges."""
    low, high = x.min(), x.max()
    if settings.bin_count is not None:
        n = settings.bin_count
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.arange(n + 1) * ((high - low) / n) + low
        edges[-1] = high
        if (edges[:-1] >= edges[1:]).any():
            raise RegionInvalid("range narrower than the bins")
        edges[-1] = high + 1
    else:
        width = np.float64(settings.bin_width)
        low = low - low % width
        count = math.ceil((high + 2 * width - low) / width)
        edges = low + np.arange(count) * ((low + width) - low)
    return np.searchsorted(edges, x, side="right")


def _normalise(image: NDArray[np.float64], settings: RadiomicsSettings) -> NDArray[np.float64]:
    n = image.size
    if image.min() == image.max():
        raise RegionInvalid("the image is flat: no variance to normalise by")
    total, squares = math.fsum(image.ravel()), math.fsum((image * image).ravel())
    variance = (squares - total * total / n) / (n - 1)
    with np.errstate(invalid="ignore"):  # of images that are not finite
        values = (image + -(total / n)) * (1 / math.sqrt(variance))
    if settings.remove_outliers is not None:
        values = np.clip(values, -settings.remove_outliers, settings.remove_outliers)
    return values * settings.normalize_scale


def _check(mask: NDArray[np.bool_], settings: RadiomicsSettings) -> None:
    if not mask.any():
        raise RegionInvalid("empty")
    dimensions = sum(size > 1 for size in mask[_box(mask)].shape)
    if dimensions == 0:
        raise RegionInvalid("a single pixel")
    if dimensions < settings.minimum_roi_dimensions:
        raise RegionInvalid("too few dimensions")
    if settings.minimum_roi_size is not None and mask.sum() <= settings.minimum_roi_size:
        raise RegionInvalid("too few pixels")


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    return tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(mask))


def _flat_axis(dimensions: int, settings: RadiomicsSettings) -> int | None:
    """Return the axis across which no neighbour is looked for, if there is one."""
    return settings.force2d_dimension if settings.force2d and dimensions == 3 else None


def _resegment(values: NDArray[np.float64], mask: NDArray[np.bool_], settings: RadiomicsSettings) -> NDArray[np.bool_]:
    assert settings.resegment_range is not None
    thresholds = [np.float64(threshold) for threshold in sorted(settings.resegment_range)]
    x = values[mask]
    if settings.resegment_mode == "relative":
        thresholds = [x.max() * threshold for threshold in thresholds]
    elif settings.resegment_mode == "sigma":
        # NumPy's own mean and deviation, to the bit: a value may lie on the threshold
        thresholds = [x.mean() + x.std() * threshold for threshold in thresholds]
    kept = mask & (values >= thresholds[0])
    if len(thresholds) == 2:
        kept &= values <= thresholds[1]
    return kept


# From grey levels to features, in long double


def compute_features(region: PreparedRegion, settings: RadiomicsSettings, spacing: Sequence[float]) -> Definition:
    """Return all features of ``region``; ``spacing`` is the size of a pixel (y, x) or of a voxel (z, y, x)."""
    levels, mask = region.levels, region.mask
    values: dict[str, Real] = {}
    scale: dict[str, Real] = {}
    undefined: dict[str, str] = {}

    def add(class_name: str, *results: Mapping[str, object]) -> None:
        for collected, result in zip((values, scale, undefined), results, strict=False):
            collected.update({f"original_{class_name}_{name}": result[name] for name in result})  # type: ignore

    sides = tuple(Real(side) for side in spacing)
    add("firstorder", *_first_order(region.values[mask], levels[mask], settings, Real(math.prod(sides))))
    if mask.ndim == 2:
        shape, shape_undefined = _shape2d(region.shape_mask, *sides)
        add("shape2D", shape, {}, shape_undefined)
    else:
        shape, shape_undefined = _shape(region.shape_mask, sides)
        add("shape", shape, {}, shape_undefined)
    near, far = _half_neighbourhoods(settings, mask.ndim)
    add("glcm", *_glcm(levels, settings, far, sides))
    glrlm, glrlm_undefined = _glrlm(levels, settings, near, sides)
    add("glrlm", glrlm, {}, glrlm_undefined)
    add("glszm", _glszm(levels, near))
    ngtdm, ngtdm_undefined = _ngtdm(levels, far)
    add("ngtdm", ngtdm, {}, ngtdm_undefined)
    add("gldm", _gldm(levels, settings, far))
    return Definition(values, scale, undefined)


def count_matrices(levels: NDArray[np.int64], settings: RadiomicsSettings) -> dict[str, NDArray[np.int64]]:
    """Return the matrices of grey levels (h, w) or (d, h, w), counted from their definitions.

    Returns
    -------
    dict
        "glcm dz dy dx" (Ng, Ng), not symmetrised, and "glrlm dz dy dx" (Ng, longest side) of each direction, without dz
        in an image; "glszm" (Ng, S); "gldm" (Ng, 1 + neighbours); "ngtdm" (Ng,), the pixels of each level. A direction
        without a pair, or in which no line holds two pixels, is all 0.
    """
    near, far = _half_neighbourhoods(settings, levels.ndim)
    ng = int(levels.max())
    pairs = {offset: _pairs(levels, offset) for offset in far}
    runs = {offset: _runs(levels, offset) for offset in near}
    empty = np.zeros((ng, max(levels.shape)), np.int64)
    return {
        **{" ".join(["glcm", *map(str, offset)]): counts for offset, counts in pairs.items()},
        **{
            " ".join(["glrlm", *map(str, offset)]): empty if counts is None else counts
            for offset, counts in runs.items()
        },
        "glszm": _zones(levels, near),
        "gldm": _dependences(levels, settings.gldm_a, far),
        "ngtdm": np.bincount(levels[levels > 0], minlength=ng + 1)[1:],
    }


def percentile(x: NDArray[np.float64], q: int) -> np.float64:
    """Return the q-th percentile of ``x`` (N,), interpolated as NumPy does, to the bit.

    It decides which pixels count.
    """
    x = np.sort(x)
    position = (len(x) - 1) * np.float64(q / 100)
    below = int(position)
    if below >= len(x) - 1:
        return x[-1]
    weight = position - below
    a, b = x[below], x[below + 1]
    return b - (b - a) * (1 - weight) if weight >= 0.5 else a + (b - a) * weight


def _entropy(p: Array) -> Real:
    return -(p * np.log2(p + EPS)).sum()


def _first_order(
    x: NDArray[np.float64], levels: NDArray[np.int64], settings: RadiomicsSettings, volume: Real
) -> tuple[dict[str, Real], dict[str, Real], dict[str, str]]:
    wide, n = x.astype(Real), len(x)
    flat = x.min() == x.max()
    mean = wide[0] if flat else wide.sum() / n
    centred = wide - mean
    m2, m3, m4 = ((centred**order).sum() / n for order in (2, 3, 4))
    p = np.bincount(levels).astype(Real) / n
    energy = ((wide + Real(settings.voxel_array_shift)) ** 2).sum()
    p10, p25, p75, p90 = (percentile(x, q) for q in (10, 25, 75, 90))
    robust = wide[(x >= p10) & (x <= p90)]
    features = {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": _entropy(p),
        "InterquartileRange": p75 - p25,
        "Kurtosis": Real(0) if flat else m4 / m2**2,
        "Maximum": x.max(),
        "MeanAbsoluteDeviation": abs(centred).sum() / n,
        "Mean": mean,
        "Median": percentile(x, 50),
        "Minimum": x.min(),
        "Range": x.max() - x.min(),
        # Of two pixels none lies between the percentiles
        "RobustMeanAbsoluteDeviation": _mean_deviation(robust),
        "RootMeanSquared": np.sqrt(energy / n),
        "Skewness": Real(0) if flat else m3 / m2 ** Real(1.5),
        "TotalEnergy": energy * volume,
        "Uniformity": (p * p).sum(),
        "Variance": m2,
    }
    scale = {"Skewness": Real(0) if flat else (abs(centred) ** 3).sum() / n / m2 ** Real(1.5)}
    undefined = {}
    if flat:
        zero = ("MeanAbsoluteDeviation", "RobustMeanAbsoluteDeviation", "Variance", "Skewness", "Kurtosis")
        undefined = dict.fromkeys(zero, "flat region")
    elif abs(mean) > 1e5 * np.sqrt(m2):  # a mean off by some 1e-16 of itself moves Skewness by 1e-10 there
        centred_on_mean = ("MeanAbsoluteDeviation", "RobustMeanAbsoluteDeviation", "Skewness", "Kurtosis")
        undefined = dict.fromkeys(centred_on_mean, "the mean's rounding error counts beside the standard deviation")
    return features, scale, undefined


def _mean_deviation(x: Array) -> Real:
    if len(x) == 0:
        return _NAN
    return Real(0) if x.min() == x.max() else abs(x - x.mean()).mean()


def _shape2d(mask: NDArray[np.bool_], sy: Real, sx: Real) -> tuple[dict[str, Real], dict[str, str]]:
    """Return the shape features of an image's region.

    The outline joins the middles of the edges between a pixel inside and one outside, square by square.
    """
    padded = np.pad(mask, 1).astype(int)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]  # corners of the squares
    inside = a + b + c + d
    level, upright = (inside == 2) & (a == b), (inside == 2) & (a == c)
    # Of two opposite corners each is cut off for itself: diagonal neighbours do not join
    opposite = (inside == 2) & (a == d)
    cuts = (inside == 1).sum() + (inside == 3).sum() + 2 * opposite.sum()
    eighths = np.array([0, 1, 4, 7, 8])[inside].sum() - 2 * opposite.sum()
    area = Real(eighths) / 8 * sy * sx
    perimeter = level.sum() * sx + upright.sum() * sy + cuts * np.sqrt(sy * sy + sx * sx) / 2

    y, x = (index.tolist() for index in np.nonzero(mask))
    n = len(y)
    # n squared times the covariances of the pixels' indices, exact
    yy = n * sum(a * a for a in y) - sum(y) ** 2
    xx = n * sum(b * b for b in x) - sum(x) ** 2
    yx = n * sum(a * b for a, b in zip(y, x, strict=True)) - sum(y) * sum(x)
    variance_y, variance_x, covariance = (Real(v) / (n * n) for v in (yy, xx, yx))
    variance_y, variance_x, covariance = variance_y * sy * sy, variance_x * sx * sx, covariance * sy * sx
    half_trace = (variance_y + variance_x) / 2
    major = half_trace + np.sqrt(((variance_y - variance_x) / 2) ** 2 + covariance**2)
    determinant = Real(yy * xx - yx * yx) / Real(n) ** 4 * (sy * sx) ** 2
    minor = determinant / major if major > 0 else _NAN
    features = {
        "Elongation": np.sqrt(minor / major),
        "MajorAxisLength": 4 * np.sqrt(major),
        "MaximumDiameter": _diameter(padded, sy, sx),
        "MeshSurface": area,
        "MinorAxisLength": 4 * np.sqrt(minor),
        "Perimeter": perimeter,
        "PerimeterSurfaceRatio": perimeter / area,
        "PixelSurface": n * sy * sx,
        "Sphericity": 2 * np.sqrt(PI * area) / perimeter,
    }
    collinear = yy * xx == yx * yx
    return features, dict.fromkeys(("Elongation", "MinorAxisLength"), "collinear pixels") if collinear else {}


def _diameter(padded: NDArray[np.bool_], sy: Real, sx: Real) -> Real:
    """Return the largest distance between two points of the outline."""
    across = np.argwhere(padded[:, 1:] != padded[:, :-1]) + (0, 0.5)
    down = np.argwhere(padded[1:] != padded[:-1]) + (0.5, 0)
    points = np.concatenate([across, down])
    # In each row the two outermost points suffice
    rows = {y: points[points[:, 0] == y, 1] for y in np.unique(points[:, 0])}
    extremes = [(y, end) for y, row in rows.items() for end in (row.min(), row.max())]
    y, x = np.array(extremes, Real).T * np.array([[sy], [sx]])
    return np.sqrt(((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2).max())


# Shape of volumes: a mesh, cube by cube. All corners and vertices are in half voxels, so whole numbers.

_CORNERS = [*itertools.product((0, 2), repeat=3)]  # of a cube, z, y, x
_FACES = [(axis, side) for axis in range(3) for side in (0, 2)]
Edge = frozenset[tuple[int, ...]]  # its two corners


@cache
def cube_triangles(inside: frozenset[tuple[int, ...]]) -> NDArray[np.int64]:
    """Return the triangles (T, 3, 3) of the surface in a cube whose corners ``inside`` are in the mask.

    Vertices are the middles of the cube's edges, z, y, x in half voxels; a triangle is turned so that
    (b - a) x (c - a) points away from the inside. The rules are those that PyRadiomics' table follows.
    """
    if (2, 2, 0) in inside:  # a case and its complement share a surface
        return cube_triangles(frozenset(_CORNERS) - inside)[:, ::-1]
    triangles = [triangle for loop in _loops(inside) for triangle in _triangulated(loop, inside)]
    return np.array(triangles, np.int64).reshape(-1, 3, 3)


def _steps(corner: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many half voxels lie between two corners, along the axes."""
    return sum(abs(a - b) for a, b in zip(corner, other, strict=True))


def _crossed(inside: frozenset[tuple[int, ...]], corners: Sequence[tuple[int, ...]]) -> list[Edge]:
    """Return the edges between these corners that lead from the inside to the outside."""
    pairs = itertools.combinations(corners, 2)
    return [frozenset((a, b)) for a, b in pairs if _steps(a, b) == 2 and (a in inside) != (b in inside)]


def _face(axis: int, side: int) -> list[tuple[int, ...]]:
    return [corner for corner in _CORNERS if corner[axis] == side]


def _is_ambiguous(inside: frozenset[tuple[int, ...]], axis: int, side: int) -> bool:
    return len(_crossed(inside, _face(axis, side))) == 4


def _loops(inside: frozenset[tuple[int, ...]]) -> list[list[Edge]]:
    """Return the closed loops in which the surface crosses the edges of the cube."""
    joined: dict[Edge, list[Edge]] = {}
    for axis, side in _FACES:
        face = _face(axis, side)
        edges = _crossed(inside, face)
        # of an ambiguous face each corner inside is cut off for itself
        pairs = (
            [edges] if len(edges) == 2 else [[e for e in edges if corner in e] for corner in face if corner in inside]
        )
        for first, second in pairs if edges else ():
            joined.setdefault(first, []).append(second)
            joined.setdefault(second, []).append(first)
    loops = []
    while joined:
        first = next(iter(joined))
        loop, following = [first], joined.pop(first)[0]
        while following != first:
            before, loop = loop[-1], [*loop, following]
            one, other = joined.pop(following)
            following = other if one == before else one
        loops.append(loop)
    return loops


def _middle(edge: Edge) -> NDArray[np.int64]:
    return np.sum([*edge], axis=0) // 2


def _triangulated(loop: list[Edge], inside: frozenset[tuple[int, ...]]) -> list[list[NDArray[np.int64]]]:
    vertices = [_middle(edge) for edge in loop]
    # Turn the loop so that its normal points along its edges, from the inside to the outside
    normal = sum(np.cross(a, b) for a, b in zip(vertices, vertices[1:] + vertices[:1], strict=True))
    outward = sum(np.array(corner) * (-1 if corner in inside else 1) for edge in loop for corner in edge)
    if np.dot(normal, outward) < 0:
        loop, vertices = loop[::-1], vertices[::-1]
    n = len(loop)
    is_planar = all(
        np.dot(np.cross(vertices[1] - vertices[0], vertices[2] - vertices[0]), v - vertices[0]) == 0 for v in vertices
    )
    # An ambiguous face over which the loop joins corners outside has two pieces of it
    bridges = [
        (axis, side) for axis, side in _FACES
        if _is_ambiguous(inside, axis, side) and sum(vertex[axis] == side for vertex in vertices) == 4
    ]  # fmt: skip
    if n == 6 and not is_planar and not bridges:  # a skew path of four corners
        ears = [[vertices[k], vertices[k + 1], vertices[(k + 2) % n]] for k in (0, 2, 4)]
        return [*ears, [vertices[0], vertices[2], vertices[4]]]
    start = 0
    if bridges:
        ((axis, side),) = bridges
        start = next(k for k, edge in enumerate(loop) if _leaves(edge, axis, side, inside))
    elif n == 5:
        start = _end_of_three(loop, inside)
    fan = vertices[start:] + vertices[:start]
    return [[fan[0], fan[k], fan[k + 1]] for k in range(1, n - 1)]


def _leaves(edge: Edge, axis: int, side: int, inside: frozenset[tuple[int, ...]]) -> bool:
    """Return whether an edge leads from a corner outside on a face perpendicularly away from it."""
    (corner,) = (corner for corner in edge if corner not in inside)
    (other,) = edge - {corner}
    return corner[axis] == side != other[axis]


def _end_of_three(loop: list[Edge], inside: frozenset[tuple[int, ...]]) -> int:
    """Return which edge of a loop around an L of three corners leaves an end of the L perpendicular to its plane."""
    for corners in (
        {c for edge in loop for c in edge if c in inside},
        {c for edge in loop for c in edge if c not in inside},
    ):
        if len(corners) == 3:
            axis = next(axis for axis in range(3) if len({corner[axis] for corner in corners}) == 1)
            # the middle of the L is one step from both others, an end from one
            ends = [a for a in corners if sum(_steps(a, b) == 2 for b in corners) == 1]
            return next(
                k for k, edge in enumerate(loop)
                if edge & {ends[0]} and len({corner[axis] for corner in edge}) == 2
            )  # fmt: skip
    raise AssertionError(loop)


def _mesh(mask: NDArray[np.bool_], spacing: Sequence[Real]) -> tuple[Real, Real]:
    """Return area and volume of the mesh; the volume is that between the triangles and the padded box's first voxel.

    The mesh is open where an ambiguous face lies between a cube and one that was taken for its complement, so the
    volume depends on that place.
    """
    padded = np.pad(mask, 1)
    case = np.zeros([size - 1 for size in padded.shape], np.int64)
    for bit, corner in enumerate(_CORNERS):
        case |= padded[tuple(slice(c // 2, c // 2 + n) for c, n in zip(corner, case.shape, strict=True))] << np.int64(
            bit
        )
    scale = np.array(spacing) / 2
    area, six_volumes = Real(0), 0
    for kind in np.unique(case).tolist():
        triangles = cube_triangles(frozenset(corner for bit, corner in enumerate(_CORNERS) if kind >> bit & 1))
        cubes = 2 * np.argwhere(case == kind)
        a, b, c = np.moveaxis(triangles, 1, 0)
        normal = np.cross(b - a, c - a)
        # the normal of the stretched triangle
        stretched = normal * (scale[[1, 2, 0]] * scale[[2, 0, 1]])
        area += len(cubes) * np.sqrt((stretched**2).sum(1)).sum() / 2
        # det(o + a, o + b, o + c) with the place o of the cube
        six_volumes += int((normal * a).sum()) * len(cubes) + int((cubes @ normal.sum(0)).sum())
    return area, Real(six_volumes) / 6 * math.prod(scale)


def _eigenvalues(matrix: Array) -> list[Real]:
    """Return the eigenvalues of a symmetric (3, 3) matrix, the smallest first, by Jacobi's rotations."""
    matrix = matrix.copy()
    for _ in range(20):
        for p, q in ((0, 1), (0, 2), (1, 2)):
            if matrix[p, q] == 0:
                continue
            with np.errstate(over="ignore"):  # infinite: no rotation
                theta = (matrix[q, q] - matrix[p, p]) / (2 * matrix[p, q])
            t = (1 if theta >= 0 else -1) / (abs(theta) + np.hypot(theta, Real(1)))
            rotation = np.eye(3, dtype=Real)
            rotation[p, p] = rotation[q, q] = 1 / np.sqrt(t * t + 1)
            rotation[p, q] = t * rotation[p, p]
            rotation[q, p] = -rotation[p, q]
            matrix = rotation.T @ matrix @ rotation
    return sorted(matrix.diagonal())


def _shape(mask: NDArray[np.bool_], spacing: Sequence[Real]) -> tuple[dict[str, Real], dict[str, str]]:
    """Return the shape features of a volume's region, the deprecated ones too."""
    area, volume = _mesh(mask, spacing)
    index = [[int(n) for n in places] for places in np.nonzero(mask)]
    n = len(index[0])
    # n squared times the covariances of the voxels' indices, exact
    exact = [
        [n * sum(a * b for a, b in zip(one, other, strict=True)) - sum(one) * sum(other) for other in index]
        for one in index
    ]
    (zz, zy, zx), (_, yy, yx), (_, _, xx) = exact
    minors = zz * yy - zy * zy, zz * xx - zx * zx, yy * xx - yx * yx
    determinant = zz * (yy * xx - yx * yx) - zy * (zy * xx - yx * zx) + zx * (zy * yx - yy * zx)
    covariance = np.array([[Real(value) / (n * n) for value in row] for row in exact], Real)
    least, minor, major = _eigenvalues(covariance * np.outer(spacing, spacing))
    undefined = {}
    if determinant == 0:
        least = Real(0)
        undefined = dict.fromkeys(("LeastAxisLength", "Flatness"), "voxels in one plane")
    if minors == (0, 0, 0):  # determinants of a matrix without negative eigenvalues: their sum is 0 only if all are
        minor = Real(0)
        lengths = "LeastAxisLength", "Flatness", "MinorAxisLength", "Elongation"
        undefined = dict.fromkeys(lengths, "voxels on one line")
    if volume == 0:
        of_volume = (
            "SurfaceVolumeRatio",
            "Sphericity",
            "MeshVolume",
            "Compactness1",
            "Compactness2",
            "SphericalDisproportion",
        )
        undefined |= dict.fromkeys(of_volume, "an open mesh without volume")
    with np.errstate(divide="ignore"):
        sphericity = np.cbrt(36 * PI * volume * volume) / area
        features = {
            "Compactness1": volume / (np.sqrt(PI) * area ** Real(1.5)),
            "Compactness2": 36 * PI * volume**2 / area**3,
            "Elongation": np.sqrt(minor / major),
            "Flatness": np.sqrt(least / major),
            "LeastAxisLength": 4 * np.sqrt(least),
            "MajorAxisLength": 4 * np.sqrt(major),
            **_diameters(mask, spacing),
            "MeshVolume": volume,
            "MinorAxisLength": 4 * np.sqrt(minor),
            "SphericalDisproportion": 1 / sphericity,
            "Sphericity": sphericity,
            "SurfaceArea": area,
            "SurfaceVolumeRatio": area / volume,
            "VoxelVolume": n * math.prod(spacing),
        }
    return features, undefined


def _diameters(mask: NDArray[np.bool_], spacing: Sequence[Real]) -> dict[str, Real]:
    """Return the largest distances between vertices of the mesh, in space and in planes through them.

    Planes between two slices, rows or columns of voxels count too.
    """
    padded = np.pad(mask, 1)
    points = []
    for axis in range(3):
        crossed = np.argwhere(np.diff(padded, axis=axis)) * 2
        crossed[:, axis] += 1
        points.append(crossed)
    vertices = np.concatenate(points)
    planes = {"Slice": 0, "Column": 1, "Row": 2}
    features = {"Maximum3DDiameter": _farthest(vertices, 2, spacing)}
    for name, axis in planes.items():
        within = [vertices[vertices[:, axis] == place] for place in np.unique(vertices[:, axis])]
        features[f"Maximum2DDiameter{name}"] = max(_farthest(plane, 1 if axis == 2 else 2, spacing) for plane in within)
    return features


def _farthest(points: NDArray[np.int64], axis: int, spacing: Sequence[Real]) -> Real:
    """Return the largest distance of two of the points (n, 3), which are in half voxels.

    On each line along ``axis`` the two outermost points suffice.
    """
    others = [other for other in range(3) if other != axis]
    order = np.lexsort((points[:, axis], points[:, others[0]], points[:, others[1]]))
    points = points[order]
    begins = np.append(True, (np.diff(points[:, others], axis=0) != 0).any(1))
    extremes = points[begins | np.append(begins[1:], True)] * (np.array(spacing) / 2)
    largest = Real(0)
    for part in np.array_split(extremes, 1 + len(extremes) // 500):
        largest = max(largest, ((part[:, None] - extremes) ** 2).sum(-1).max())
    return np.sqrt(largest)


# Textures


def half_neighbourhood(distances: Iterable[int], dimensions: int = 2, flat: int | None = None) -> list[Offset]:
    """Return the offsets whose largest component is one of ``distances``, one of each opposite pair.

    Those with a step along the axis ``flat`` are left out.
    """
    distances = set(distances)
    reach = range(-max(distances), max(distances) + 1)
    offsets = itertools.product(reach, repeat=dimensions)
    return [
        offset for offset in offsets
        if offset > (0,) * dimensions
        and max(map(abs, offset)) in distances
        and (flat is None or offset[flat] == 0)
    ]  # fmt: skip


def _half_neighbourhoods(settings: RadiomicsSettings, dimensions: int) -> tuple[list[Offset], list[Offset]]:
    """Return the directions at distance 1, and those at the distances of the settings."""
    flat = _flat_axis(dimensions, settings)
    return half_neighbourhood([1], dimensions, flat), half_neighbourhood(settings.distances, dimensions, flat)


def _shifted(levels: NDArray[np.int64], offset: Offset) -> NDArray[np.int64]:
    """Return at each pixel the level at that pixel + offset, 0 beyond the edge."""
    shifted = np.zeros_like(levels)
    steps = [*zip(offset, levels.shape, strict=True)]
    if all(abs(step) < size for step, size in steps):
        to = tuple(slice(max(0, -step), min(size, size - step)) for step, size in steps)
        source = tuple(slice(max(0, step), min(size, size + step)) for step, size in steps)
        shifted[to] = levels[source]
    return shifted


def _distance(offset: Offset, norm: str, spacing: Sequence[Real]) -> Real:
    steps = [abs(step) * size for step, size in zip(offset, spacing, strict=True)]
    return {
        "manhattan": sum(steps),
        "euclidean": np.sqrt(sum(step * step for step in steps)),
        "infinity": max(steps),
        "no_weighting": Real(0),
    }[norm]


def _merged(weights: Mapping[Offset, Real], matrices: Mapping[Offset, NDArray]) -> Array:
    """Return the weighted sum of the directions."""
    return np.sum([weights[offset] * matrices[offset] for offset in matrices], axis=0)


def _average(of_directions: list[dict[str, Real]], names: Iterable[str]) -> dict[str, Real]:
    if not of_directions:
        return dict.fromkeys(names, _NAN)
    return {name: sum(one[name] for one in of_directions) / Real(len(of_directions)) for name in names}


def _pairs(levels: NDArray[np.int64], offset: Offset) -> NDArray[np.int64]:
    """Return the number (Ng, Ng) of pairs: level at p, level at p + offset."""
    ng = int(levels.max())
    neighbour = _shifted(levels, offset)
    pair = (levels > 0) & (neighbour > 0)
    counts = np.zeros((ng, ng), np.int64)
    np.add.at(counts, (levels[pair] - 1, neighbour[pair] - 1), 1)
    return counts


def _glcm(
    levels: NDArray[np.int64], settings: RadiomicsSettings, offsets: Sequence[Offset], spacing: Sequence[Real]
) -> tuple[dict[str, Real], dict[str, Real], dict[str, str]]:
    flat = len(np.unique(levels[levels > 0])) == 1
    matrices = {}
    for offset in offsets:
        counts = _pairs(levels, offset)
        if settings.symmetrical_glcm:
            counts = counts + counts.T
        if counts.any():
            matrices[offset] = counts

    undefined: dict[str, str] = {}
    if not matrices:
        features = dict.fromkeys(_GLCM, _NAN)
        if flat:
            features["MCC"] = Real(1)
            undefined = dict.fromkeys(("MCC", "InverseVariance"), "flat region without a pair")
        return features, {}, undefined

    one_level = [_one_side(counts) for counts in matrices.values()]
    if settings.weighting_norm is None:
        weighted = [counts.astype(Real) for counts in matrices.values()]
    else:
        distances = {offset: _distance(offset, settings.weighting_norm, spacing) for offset in matrices}
        nearest = min(distances.values())
        # Relative to the largest weight: that keeps the ratios, and does not underflow
        weights = {offset: Real(np.float64(np.exp(nearest**2 - distances[offset] ** 2))) for offset in matrices}
        weighted = [_merged(weights, matrices)]
        one_level = [_one_side(weighted[0])]
        # exp(-650) is 1e-282: the weights that count beside it, or 100 farther down, begin to lose digits
        if nearest**2 > 650:
            undefined = dict.fromkeys(_GLCM, "weights below the smallest float64")
        elif max(distances.values()) ** 2 > 650:
            affected = ("Correlation", "Imc1", "Imc2", "MCC")
            undefined = dict.fromkeys(affected, "some weights below the smallest float64")

    results = [_glcm_direction(counts, flat) for counts in weighted]
    names = _GLCM
    features = _average(results, names)
    scale = {name: _average(results, [f"|{name}|"])[f"|{name}|"] for name in ("ClusterShade", "Imc1")}
    if any(one_level):
        undefined["Correlation"] = "one level on one side"
    if any(one["max entropy"] < 1e-7 and one["levels"] > 1 for one in results):
        undefined["Imc1"] = "one level outweighs all others"
    # Their squares are then 0 but for rounding errors (of 1e-16, and more from many levels), whose sign decides in
    # PyRadiomics between a number and NaN, that is whether the direction counts
    for name in ("MCC", "Imc2"):
        if not flat and any(one[name] ** 2 < 1e-12 for one in results):
            undefined[name] = "independent levels"
    return features, scale, undefined


def _one_side(matrix: NDArray) -> bool:
    """Return True if one marginal has a single level, and the other has more."""
    fewer, more = sorted((int(matrix.any(0).sum()), int(matrix.any(1).sum())))
    return fewer == 1 < more


_GLCM = (
    "Autocorrelation", "ClusterProminence", "ClusterShade", "ClusterTendency", "Contrast", "Correlation",
    "DifferenceAverage", "DifferenceEntropy", "DifferenceVariance", "Id", "Idm", "Idmn", "Idn", "Imc1", "Imc2",
    "InverseVariance", "JointAverage", "JointEnergy", "JointEntropy", "MCC", "MaximumProbability", "SumAverage",
    "SumEntropy", "SumSquares",
)  # fmt: skip


def _glcm_direction(matrix: Array, flat: bool) -> dict[str, Real]:
    """Return the features of one matrix (Ng, Ng), and the sums of absolute terms as "|name|"."""
    ng = len(matrix)
    rows, columns = np.nonzero(matrix)  # every sum runs over the pairs that occur
    i, j = rows + Real(1), columns + Real(1)
    p = matrix[rows, columns] / matrix.sum()
    px, py, difference, total = np.zeros(ng, Real), np.zeros(ng, Real), np.zeros(ng, Real), np.zeros(2 * ng + 1, Real)
    np.add.at(px, rows, p)
    np.add.at(py, columns, p)
    np.add.at(difference, abs(rows - columns), p)
    np.add.at(total, rows + columns + 2, p)
    mean_x, mean_y = (i * p).sum(), (j * p).sum()
    variance_x, variance_y = ((i - mean_x) ** 2 * p).sum(), ((j - mean_y) ** 2 * p).sum()
    cluster = i + j - mean_x - mean_y
    k, s = np.arange(ng, dtype=Real), np.arange(2 * ng + 1, dtype=Real)
    difference_average = (k * difference).sum()

    hx, hy, hxy = _entropy(px), _entropy(py), _entropy(p)
    hxy1 = -(p * np.log2(px[rows] * py[columns] + EPS)).sum()
    hxy2 = _entropy(px[px > 0][:, None] * py[py > 0])
    levels_x, levels_y = (px > 0).sum(), (py > 0).sum()
    if levels_x == 1 or levels_y == 1:
        correlation = Real(1)
    else:
        covariance = ((i - mean_x) * (j - mean_y) * p).sum()
        correlation = covariance / (np.sqrt(variance_x * variance_y) + EPS)
    # Both entropies are 0 where there is one level; where weights leave the others next to nothing, epsilon's own
    if max(hx, hy) < 1e-7:
        imc1 = imc1_scale = Real(0)
    else:
        imc1, imc1_scale = (hxy - hxy1) / max(hx, hy), (abs(hxy) + abs(hxy1)) / max(hx, hy)
    return {
        "Autocorrelation": (i * j * p).sum(),
        "ClusterProminence": (cluster**4 * p).sum(),
        "ClusterShade": (cluster**3 * p).sum(),
        "|ClusterShade|": (abs(cluster) ** 3 * p).sum(),
        "ClusterTendency": (cluster**2 * p).sum(),
        "Contrast": ((i - j) ** 2 * p).sum(),
        "Correlation": correlation,
        "DifferenceAverage": difference_average,
        "DifferenceEntropy": _entropy(difference),
        "DifferenceVariance": ((k - difference_average) ** 2 * difference).sum(),
        "Id": (difference / (1 + k)).sum(),
        "Idm": (difference / (1 + k**2)).sum(),
        "Idmn": (difference / (1 + k**2 / Real(ng) ** 2)).sum(),
        "Idn": (difference / (1 + k / ng)).sum(),
        "Imc1": imc1,
        "|Imc1|": imc1_scale,
        "max entropy": max(hx, hy),
        "levels": Real(max(levels_x, levels_y)),
        "Imc2": np.sqrt(max(Real(0), 1 - np.exp(-2 * (hxy2 - hxy)))),
        "InverseVariance": (difference[1:] / k[1:] ** 2).sum(),
        "JointAverage": mean_x,
        "JointEnergy": (p * p).sum(),
        "JointEntropy": hxy,
        "MCC": Real(1) if flat else _maximal_correlation(matrix / matrix.sum(), px, py),
        "MaximumProbability": p.max(),
        "SumAverage": (s * total).sum(),
        "SumEntropy": _entropy(total),
        "SumSquares": variance_x,
    }


def _maximal_correlation(p: Array, px: Array, py: Array) -> Real:
    """Return the root of the second largest eigenvalue of Q(i, j) = sum over k of p(i, k) p(j.

    K) / (px(i) py(k) + eps).

    That is the second singular value of p / sqrt(px py + eps), which float64 knows to its last digits also near 0: the
    root of an eigenvalue has lost half of them there.
    """
    # The others are rows and columns of zeros
    p, px, py = p[px > 0][:, py > 0], px[px > 0], py[py > 0]
    values = np.linalg.svd((p / np.sqrt(px[:, None] * py + EPS)).astype(np.float64), compute_uv=False)
    return Real(values[1]) if len(values) > 1 else Real(0)


def _sizes(counts: Array, pixels: Real, names: Mapping[str, str]) -> dict[str, Real]:
    """Return the features that GLRLM, GLSZM and GLDM share.

    ``counts`` (Ng, S): runs, zones or pixels by grey level and size, both from 1. ``names`` turns the documentation's
    parts of names: S(mall), L(arge), size and the word in the percentage.
    """
    n = counts.sum()
    p = counts / n
    i = np.arange(1, counts.shape[0] + 1, dtype=Real)[:, None]
    j = np.arange(1, counts.shape[1] + 1, dtype=Real)
    of_level, of_size = p.sum(1), p.sum(0)
    mean_level, mean_size = (i * p).sum(), (j * p).sum()
    features = {
        "{small}Emphasis": (p / j**2).sum(),
        "{large}Emphasis": (p * j**2).sum(),
        "GrayLevelNonUniformity": (of_level**2).sum() * n,
        "GrayLevelNonUniformityNormalized": (of_level**2).sum(),
        "{size}NonUniformity": (of_size**2).sum() * n,
        "{size}NonUniformityNormalized": (of_size**2).sum(),
        "{unit}Percentage": n / pixels,
        "GrayLevelVariance": ((i - mean_level) ** 2 * p).sum(),
        "{unit}Variance": ((j - mean_size) ** 2 * p).sum(),
        "{unit}Entropy": _entropy(p),
        "LowGrayLevel{level}Emphasis": (p / i**2).sum(),
        "HighGrayLevel{level}Emphasis": (p * i**2).sum(),
        "{small}LowGrayLevelEmphasis": (p / (i**2 * j**2)).sum(),
        "{small}HighGrayLevelEmphasis": (p * i**2 / j**2).sum(),
        "{large}LowGrayLevelEmphasis": (p * j**2 / i**2).sum(),
        "{large}HighGrayLevelEmphasis": (p * i**2 * j**2).sum(),
    }
    return {name.format(**names): value for name, value in features.items()}


def _runs(levels: NDArray[np.int64], offset: Offset) -> NDArray[np.int64] | None:
    """Return the number (Ng, longest) of runs by level and length; None if no line holds two pixels."""
    counts = np.zeros((int(levels.max()), max(levels.shape)), np.int64)
    places = np.argwhere(levels > 0)
    along = next(axis for axis, step in enumerate(offset) if step)
    lines = places - places[:, along : along + 1] * offset  # where each line crosses the edge
    if np.unique(lines, axis=0, return_counts=True)[1].max() < 2:
        return None
    running = (levels > 0) & (_shifted(levels, tuple(-step for step in offset)) != levels)  # where a run begins
    for length in range(1, max(levels.shape) + 1):
        following = _shifted(levels, tuple(length * step for step in offset))
        ends = running & (following != levels)
        np.add.at(counts, (levels[ends] - 1, length - 1), 1)
        running &= ~ends
    assert not running.any()
    return counts


def _glrlm(
    levels: NDArray[np.int64], settings: RadiomicsSettings, offsets: Sequence[Offset], spacing: Sequence[Real]
) -> tuple[dict[str, Real], dict[str, str]]:
    names = {"small": "ShortRun", "large": "LongRun", "size": "RunLength", "unit": "Run", "level": "Run"}
    counted = {offset: _runs(levels, offset) for offset in offsets}
    matrices = {offset: counts.astype(Real) for offset, counts in counted.items() if counts is not None}
    if settings.weighting_norm is not None and matrices:
        weights = {
            offset: Real(1)
            if settings.weighting_norm == "no_weighting"
            else _distance(offset, settings.weighting_norm, spacing)
            for offset in matrices
        }
        merged = [_merged(weights, matrices)]
    else:
        merged = list(matrices.values())
    run = np.arange(1, max(levels.shape) + 1, dtype=Real)
    results = [_sizes(counts, (counts * run).sum(), names) for counts in merged]
    undefined = {} if matrices else dict.fromkeys(("RunEntropy", "RunVariance"), "no line holds two pixels")
    return _average(results, _sizes(np.ones((1, 1), Real), Real(1), names)), undefined


def _zones(levels: NDArray[np.int64], offsets: Sequence[Offset]) -> NDArray[np.int64]:
    """Return the number (Ng, largest) of zones by level and size."""
    padded = np.pad(levels, 1)
    # a step is a distance in the flattened array, whose border is never entered
    strides = np.array(padded.strides) // padded.itemsize
    steps = [sign * int(np.dot(offset, strides)) for offset in offsets for sign in (1, -1)]
    left = padded.ravel().tolist()
    zones = []
    for first in np.flatnonzero(padded).tolist():
        level = left[first]
        if level == 0:
            continue  # belongs to an earlier zone
        size, frontier = 0, [first]
        left[first] = 0
        while frontier:
            size, place = size + 1, frontier.pop()
            for step in steps:
                if left[place + step] == level:
                    left[place + step] = 0
                    frontier.append(place + step)
        zones.append((level - 1, size - 1))
    counts = np.zeros((int(levels.max()), 1 + max(size for _, size in zones)), np.int64)
    np.add.at(counts, tuple(np.array(zones).T), 1)
    return counts


def _glszm(levels: NDArray[np.int64], offsets: Sequence[Offset]) -> dict[str, Real]:
    names = {"small": "SmallArea", "large": "LargeArea", "size": "SizeZone", "unit": "Zone", "level": "Zone"}
    return _sizes(_zones(levels, offsets).astype(Real), Real((levels > 0).sum()), names)


def _both_ways(offsets: Sequence[Offset]) -> list[Offset]:
    return [*offsets, *(tuple(-step for step in offset) for offset in offsets)]


def _dependences(levels: NDArray[np.int64], alpha: int, offsets: Sequence[Offset]) -> NDArray[np.int64]:
    """Return the number (Ng, 1 + neighbours) of pixels by level and by dependent neighbours, from 0."""
    dependent = np.zeros(levels.shape, np.int64)
    for offset in _both_ways(offsets):
        neighbour = _shifted(levels, offset)
        dependent += (neighbour > 0) & (abs(levels - neighbour) <= alpha)
    counts = np.zeros((int(levels.max()), 1 + 2 * len(offsets)), np.int64)
    np.add.at(counts, (levels[levels > 0] - 1, dependent[levels > 0]), 1)
    return counts


def _gldm(levels: NDArray[np.int64], settings: RadiomicsSettings, offsets: Sequence[Offset]) -> dict[str, Real]:
    size = "Dependence"
    names = {"small": f"Small{size}", "large": f"Large{size}", "size": size, "unit": size, "level": ""}
    counts = _dependences(levels, settings.gldm_a, offsets).astype(Real)
    features = _sizes(counts, counts.sum(), names)
    del features["DependencePercentage"], features["GrayLevelNonUniformityNormalized"]  # deprecated: 1, and Uniformity
    return features


def _ngtdm(levels: NDArray[np.int64], offsets: Sequence[Offset]) -> tuple[dict[str, Real], dict[str, str]]:
    count = np.zeros(levels.shape, np.int64)
    total = np.zeros(levels.shape, np.int64)
    for offset in _both_ways(offsets):
        neighbour = _shifted(levels, offset)
        count += neighbour > 0
        total += neighbour
    present = np.unique(levels[levels > 0])
    pixels = np.array([(levels == level).sum() for level in present])
    # A pixel without neighbours counts, with difference 0
    divisor = np.maximum(count, 1)
    difference = np.where(count > 0, abs(count * levels - total), 0).astype(Real) / divisor
    s = np.array([difference[levels == level].sum() for level in present])
    i, p = present.astype(Real), pixels.astype(Real) / pixels.sum()

    ps, n, ng = (p * s).sum(), Real(pixels.sum()), len(present)
    steps = (i[:, None] - i) ** 2
    # Zero exactly where level times pixels is the same for all levels
    busy = np.array([[abs(a - b) for a in present * pixels] for b in present * pixels]).sum()
    either = p[:, None] + p
    features = {
        "Busyness": ps * n / Real(busy) if busy else Real(0),
        "Coarseness": 1 / ps if ps else Real(10) ** 6,
        "Complexity": (abs(i[:, None] - i) * (p * s + (p * s)[:, None]) / either).sum() / n,
        "Contrast": (p[:, None] * p * steps).sum() * s.sum() / n / (ng * (ng - 1)) if ng > 1 else Real(0),
        "Strength": (either * steps).sum() / s.sum() if s.sum() else Real(0),
    }
    return features, {"Busyness": "level times pixels the same for all levels"} if ng > 1 and not busy else {}
