"""All 102 features of one region in long double, from their definitions: slow, independent, meant to be read.

Sources: the documentation of PyRadiomics 3.0.1 ("Radiomic Features"), whose notation is used, and the order of float64
operations that decides which pixel gets which grey level. This is the oracle where PyRadiomics itself returns the sign
of a rounding error, overflows or is wrong; :class:`Definition` says where that is, by conditions on the region alone.
Nothing here is shared with the implementation but the settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kacl_gpu.radiomics.settings import RadiomicsSettings

Real = np.longdouble
Array = NDArray[np.longdouble]

EPS = Real(2.0) ** -52  # the epsilon in PyRadiomics' logarithms and divisions
_NAN = Real("nan")


class RegionInvalid(ValueError):
    """No features are defined for this region; the message says why."""


class PreparedRegion(NamedTuple):
    """Hold one region, ready for its features.

    values : (h, w) float64 intensities, after normalisation
    levels : (h, w) int64 grey levels, 0 outside the region
    mask : (h, w) bool, the region
    shape_mask : (h, w) bool, the region that shape features describe
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
        All 102, under PyRadiomics' names.
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
    spacing: tuple[float, float] = (1.0, 1.0),
) -> tuple[PreparedRegion, Definition]:
    """Return the region and features of the pixels of ``image`` (H, W) that ``mask`` (H, W) holds.

    Raises
    ------
    RegionInvalid
        As PyRadiomics refuses it.
    """
    region = prepare(image, mask, settings)
    return region, compute_features(region, settings, spacing)


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
    looks_afar = {class_name for class_name, _ in settings.selected()} & {"glcm", "ngtdm", "gldm"}
    if looks_afar and min(settings.distances) >= max(mask.shape):
        raise RegionInvalid("no distance fits into the region")
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


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


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


def compute_features(
    region: PreparedRegion, settings: RadiomicsSettings, spacing: tuple[float, float] = (1.0, 1.0)
) -> Definition:
    """Return all 102 features of ``region``; ``spacing`` is the size of a pixel (y, x)."""
    levels, mask = region.levels, region.mask
    values: dict[str, Real] = {}
    scale: dict[str, Real] = {}
    undefined: dict[str, str] = {}

    def add(class_name: str, *results: Mapping[str, object]) -> None:
        for collected, result in zip((values, scale, undefined), results, strict=False):
            collected.update({f"original_{class_name}_{name}": result[name] for name in result})  # type: ignore

    add("firstorder", *_first_order(region.values[mask], levels[mask], settings, spacing))
    shape, shape_undefined = _shape(region.shape_mask, spacing)
    add("shape2D", shape, {}, shape_undefined)
    add("glcm", *_glcm(levels, settings, spacing))
    glrlm, glrlm_undefined = _glrlm(levels, settings, spacing)
    add("glrlm", glrlm, {}, glrlm_undefined)
    add("glszm", _glszm(levels))
    ngtdm, ngtdm_undefined = _ngtdm(levels, settings)
    add("ngtdm", ngtdm, {}, ngtdm_undefined)
    add("gldm", _gldm(levels, settings))
    return Definition(values, scale, undefined)


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
    x: NDArray[np.float64], levels: NDArray[np.int64], settings: RadiomicsSettings, spacing: tuple[float, float]
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
        "TotalEnergy": energy * Real(spacing[0]) * Real(spacing[1]),
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


def _shape(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> tuple[dict[str, Real], dict[str, str]]:
    """Return the shape features; the outline joins the middles of the edges between a pixel inside and one outside.

    Square by square.
    """
    sy, sx = Real(spacing[0]), Real(spacing[1])
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
        "Sphericity": 2 * np.sqrt(Real("3.14159265358979323846") * area) / perimeter,
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


def half_neighbourhood(distances: Iterable[int]) -> list[tuple[int, int]]:
    """Return the y, x offsets whose larger component is one of ``distances``, one of each opposite pair."""
    distances = set(distances)
    reach = range(-max(distances), max(distances) + 1)
    return [(dy, dx) for dy in reach for dx in reach if (dy, dx) > (0, 0) and max(abs(dy), abs(dx)) in distances]


def _shifted(levels: NDArray[np.int64], dy: int, dx: int) -> NDArray[np.int64]:
    """Return at each pixel the level at that pixel + (dy, dx), 0 beyond the edge."""
    height, width = levels.shape
    shifted = np.zeros_like(levels)
    y, x = slice(max(0, -dy), max(0, height - dy)), slice(max(0, -dx), max(0, width - dx))
    source = levels[max(0, dy) : max(0, height + dy), max(0, dx) : max(0, width + dx)]
    if source.size:
        shifted[y, x] = source
    return shifted


def _distance(offset: tuple[int, int], norm: str, spacing: tuple[float, float]) -> Real:
    y, x = (abs(step) * Real(size) for step, size in zip(offset, spacing, strict=True))
    return {
        "manhattan": y + x,
        "euclidean": np.sqrt(y * y + x * x),
        "infinity": max(y, x),
        "no_weighting": Real(0),
    }[norm]


def _merged(weights: Mapping[tuple[int, int], Real], matrices: Mapping[tuple[int, int], NDArray]) -> Array:
    """Return the weighted sum of the directions."""
    return np.sum([weights[offset] * matrices[offset] for offset in matrices], axis=0)


def _average(of_directions: list[dict[str, Real]], names: Iterable[str]) -> dict[str, Real]:
    if not of_directions:
        return dict.fromkeys(names, _NAN)
    return {name: sum(one[name] for one in of_directions) / Real(len(of_directions)) for name in names}


def _glcm(
    levels: NDArray[np.int64], settings: RadiomicsSettings, spacing: tuple[float, float]
) -> tuple[dict[str, Real], dict[str, Real], dict[str, str]]:
    ng = int(levels.max())
    flat = len(np.unique(levels[levels > 0])) == 1
    matrices = {}
    for offset in half_neighbourhood(settings.distances):
        neighbour = _shifted(levels, *offset)
        pair = (levels > 0) & (neighbour > 0)
        counts = np.zeros((ng, ng), np.int64)
        np.add.at(counts, (levels[pair] - 1, neighbour[pair] - 1), 1)
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


def _glrlm(
    levels: NDArray[np.int64], settings: RadiomicsSettings, spacing: tuple[float, float]
) -> tuple[dict[str, Real], dict[str, str]]:
    names = {"small": "ShortRun", "large": "LongRun", "size": "RunLength", "unit": "Run", "level": "Run"}
    ng, longest = int(levels.max()), max(levels.shape)
    matrices = {}
    for dy, dx in half_neighbourhood([1]):
        counts = np.zeros((ng, longest), Real)
        lines: dict[int, int] = {}
        before = _shifted(levels, -dy, -dx)
        for y, x in np.argwhere(levels > 0).tolist():
            line = y * dx - x * dy
            lines[line] = lines.get(line, 0) + 1
            if before[y, x] != levels[y, x]:  # a run begins
                length, level = 0, levels[y, x]
                while 0 <= y < levels.shape[0] and 0 <= x < levels.shape[1] and levels[y, x] == level:
                    length, y, x = length + 1, y + dy, x + dx
                counts[level - 1, length - 1] += 1
        if max(lines.values()) > 1:  # no line holds two pixels: the direction is dropped
            matrices[dy, dx] = counts
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
    run = np.arange(1, longest + 1, dtype=Real)
    results = [_sizes(counts, (counts * run).sum(), names) for counts in merged]
    undefined = {} if matrices else dict.fromkeys(("RunEntropy", "RunVariance"), "no line holds two pixels")
    return _average(results, _sizes(np.ones((1, 1), Real), Real(1), names)), undefined


def _glszm(levels: NDArray[np.int64]) -> dict[str, Real]:
    names = {"small": "SmallArea", "large": "LargeArea", "size": "SizeZone", "unit": "Zone", "level": "Zone"}
    left = np.pad(levels, 1)
    pixels = int((levels > 0).sum())
    zones = []
    for y, x in np.argwhere(left > 0).tolist():
        level = left[y, x]
        if level == 0:
            continue  # belongs to an earlier zone
        size, frontier = 0, [(y, x)]
        left[y, x] = 0
        while frontier:
            size, (y, x) = size + 1, frontier.pop()
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if left[y + dy, x + dx] == level:
                        left[y + dy, x + dx] = 0
                        frontier.append((y + dy, x + dx))
        zones.append((level - 1, size - 1))
    counts = np.zeros((int(levels.max()), 1 + max(size for _, size in zones)), Real)
    np.add.at(counts, tuple(np.array(zones).T), 1)
    return _sizes(counts, Real(pixels), names)


def _gldm(levels: NDArray[np.int64], settings: RadiomicsSettings) -> dict[str, Real]:
    size = "Dependence"
    names = {"small": f"Small{size}", "large": f"Large{size}", "size": size, "unit": size, "level": ""}
    dependent = np.ones(levels.shape, np.int64)
    half = half_neighbourhood(settings.distances)
    for dy, dx in half + [(-dy, -dx) for dy, dx in half]:
        neighbour = _shifted(levels, dy, dx)
        dependent += (neighbour > 0) & (abs(levels - neighbour) <= settings.gldm_a)
    counts = np.zeros((int(levels.max()), 1 + 2 * len(half)), Real)
    np.add.at(counts, (levels[levels > 0] - 1, dependent[levels > 0] - 1), 1)
    features = _sizes(counts, counts.sum(), names)
    del features["DependencePercentage"], features["GrayLevelNonUniformityNormalized"]  # deprecated: 1, and Uniformity
    return features


def _ngtdm(levels: NDArray[np.int64], settings: RadiomicsSettings) -> tuple[dict[str, Real], dict[str, str]]:
    count = np.zeros(levels.shape, np.int64)
    total = np.zeros(levels.shape, np.int64)
    half = half_neighbourhood(settings.distances)
    for dy, dx in half + [(-dy, -dx) for dy, dx in half]:
        neighbour = _shifted(levels, dy, dx)
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
