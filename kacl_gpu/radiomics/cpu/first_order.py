"""First-order statistics of the intensities inside each region."""

import math
from collections.abc import Callable

import numpy as np

from ..columns import FIRST_ORDER, number_of_columns
from ._compile import jit
from ._regions import Array, volume
from ._sums import entropy, sum_of_squares
from ._threads import for_each
from .levels import count, cut, intensities, small_integers

PERCENTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
SLICES = 1024
CENTRAL_MOMENTS = slice(FIRST_ORDER.m2, FIRST_ORDER.m4 + 1)
RANKED = slice(FIRST_ORDER.p10, FIRST_ORDER.p90 + 1)


def first_order(
    images: Array,
    moments: Array | None,
    image_index: Array,
    box: Array,
    levels: Array,
    start: Array,
    size: Array,
    histogram: Array,
    *,
    normalize_scale: float,
    remove_outliers: float,
    shift: float,
) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.first_order`."""
    out = np.full((len(box), number_of_columns(FIRST_ORDER)), np.nan)
    pixels_of_levels = histogram.astype(np.float64)[:, None]
    out[:, FIRST_ORDER.entropy] = entropy(pixels_of_levels)[:, 0]
    for k, pixels in enumerate(pixels_of_levels):
        out[k, FIRST_ORDER.level_squares] = sum_of_squares(pixels[0])
    integers = small_integers(images, moments)

    def task(k: int) -> None:
        inside = volume(levels, start, size, k) > 0
        if not inside.any():
            out[k] = np.nan
            return
        if integers is None:
            values = intensities(images, moments, image_index[k], box[k], normalize_scale, remove_outliers)
        else:
            values = cut(integers, image_index[k], box[k])
        pixels = values.ravel() if inside.all() else values[inside]
        values, counts = integer_histogram(pixels)
        if counts is None:
            out[k, : FIRST_ORDER.entropy] = statistics_of(values, shift)
            return
        cumulative = np.cumsum(counts)
        n = cumulative[-1]
        out[k, RANKED] = percentiles(n, lambda ranks: values[np.searchsorted(cumulative, ranks, "right")])
        sums, terms = np.zeros((9, 2)), np.empty(6)
        statistics_of_counts(values, counts, n, shift, sums, terms, out[k])
        out[k, CENTRAL_MOMENTS] = centred(*sums[2:6, 0].tolist())

    for_each(task, len(box), len(levels) if integers is None else len(levels) // 4)  # as in discretise
    return out


def integer_histogram(pixels: Array) -> tuple[Array, Array | None]:
    """Return the distinct values, ascending, and their counts, of pixels that are integers close together.

    Other pixels are returned as they are.

    It is the values that decide, not the dtype that they came in, so that equal values give equal bits.
    """
    lo, hi = float(pixels.min()), float(pixels.max())
    if hi - lo >= pixels.size:
        return pixels.astype(np.float64), None
    if pixels.dtype.kind == "f":
        if any(np.any(sample != np.rint(sample)) for sample in (pixels[:64], pixels)):
            return pixels, None
        pixels, first = (pixels - lo).astype(np.intp), 0
    else:
        first = int(lo)
    counts = np.zeros(int(hi - lo) + 1, np.int64)
    count(pixels, first, counts)
    present = np.flatnonzero(counts)
    return present + lo, counts[present]


@np.errstate(over="ignore", invalid="ignore")  # squares of large intensities are infinite, as in PyRadiomics
def statistics_of(values: Array, shift: float) -> list[float]:
    """Return the columns up to the percentiles, of one region's pixels.

    NumPy sums pairwise: accurate, and what the reference does.
    """
    n, lo, hi = values.size, values.min(), values.max()
    # the mean of equal numbers, free of rounding: a flat region has moments of exactly zero
    mean = lo if lo == hi else np.add.reduce(values) / n
    ranked = percentiles(n, lambda ranks: select(values, ranks, lo, hi)) if lo < hi else [lo] * len(PERCENTILES)
    shifted = values + shift if shift else values
    d = values - mean
    square = d * d
    m1, m2, m3, m4 = (np.add.reduce(v) / n for v in (d, square, square * d, square * square))
    middle = d[(values >= ranked[0]) & (values <= ranked[-1])]
    robust = np.nan  # no pixel lies between the percentiles of two distinct ones
    if middle.size:
        robust = np.add.reduce(np.abs(middle - np.add.reduce(middle) / middle.size)) / middle.size
    mad = np.add.reduce(np.abs(d)) / n
    energy = np.add.reduce(shifted * shifted)
    return [n, energy, lo, hi, mean, mad, robust, *centred(m1, m2, m3, m4), *ranked]


def percentiles(n: int, order_statistics: Callable[[Array], Array]) -> list[float]:
    """Return NumPy's linear interpolation between the two nearest of n order statistics, looked up by their ranks."""
    positions = [share * (n - 1) for share in PERCENTILES]
    below = [math.floor(position) for position in positions]
    lower, upper = order_statistics(np.array([below, [min(rank + 1, n - 1) for rank in below]])).tolist()
    return [interpolated(a, b, position - rank) for a, b, position, rank in zip(lower, upper, positions, below)]


def interpolated(a: float, b: float, t: float) -> float:
    """Interpolate from a at t = 0 to b at t = 1, rounded as by ``numpy.percentile``."""
    return a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t)


def centred(m1: float, m2: float, m3: float, m4: float) -> tuple[float, float, float]:
    """Return moments 2 to 4 about the mean, of those about a number near it.

    The mean was rounded; far from zero that shifts the centre, and m1 puts it back.
    """
    square = m1 * m1
    return m2 - square, m3 - 3 * m1 * m2 + 2 * square * m1, m4 - 4 * m1 * m3 + 6 * square * m2 - 3 * square * square


@jit
def statistics_of_counts(
    values: Array, counts: Array, n: int, shift: float, sums: Array, terms: Array, out: Array
) -> None:
    """Write the columns up to the mean absolute deviations, of distinct values, ascending, and how often each occurs.

    ``out`` holds the percentiles already. ``sums`` (9, 2) of zeros and ``terms`` (6,) are scratch; the moments about
    the mean stay in ``sums[2:6, 0]``.
    """
    lo, hi, p10, p90 = values[0], values[values.size - 1], out[FIRST_ORDER.p10], out[FIRST_ORDER.p90]
    for place in range(values.size):
        v, times = values[place], counts[place]
        terms[0], terms[1] = v * times, (v + shift) * (v + shift) * times
        add(sums[:2], terms)
    mean = lo if lo == hi else (sums[0, 0] + sums[0, 1]) / n
    between = 0
    for place in range(values.size):
        v, times = values[place], counts[place]
        inside = p10 <= v <= p90
        between += times * inside
        power = d = v - mean
        for m in range(4):
            terms[m] = power * times
            power *= d
        terms[4], terms[5] = abs(d) * times, d * times * inside
        add(sums[2:8], terms)
    mean_between = (sums[7, 0] + sums[7, 1]) / between
    for place in range(values.size):
        v, times = values[place], counts[place]
        terms[0] = abs(v - mean - mean_between) * times * (p10 <= v <= p90)
        add(sums[8:], terms)
    for m in range(2, 7):
        sums[m, 0] = (sums[m, 0] + sums[m, 1]) / n
    out[FIRST_ORDER.n], out[FIRST_ORDER.energy], out[FIRST_ORDER.mean] = n, sums[1, 0] + sums[1, 1], mean
    out[FIRST_ORDER.minimum], out[FIRST_ORDER.maximum] = lo, hi
    out[FIRST_ORDER.mad], out[FIRST_ORDER.robust_mad] = sums[6, 0], (sums[8, 0] + sums[8, 1]) / between


@jit
def add(sums: Array, terms: Array) -> None:
    """Add to each sum and to what rounding took from it: (M, 2), where both together are the sum (Neumaier, 1974)."""
    for m in range(len(sums)):
        total, term = sums[m, 0], terms[m]
        new = total + term
        sums[m, 1] += (total - new) + term if abs(total) >= abs(term) else (term - new) + total
        sums[m, 0] = new


def select(values: Array, ranks: Array, lo: float, hi: float) -> Array:
    """Return the order statistics of these ranks.

    Only the values that share a slice of the range with one of the ranks need an order among themselves.
    """
    if hi - lo == math.inf:
        return np.sort(values)[ranks]
    slices = ((values - lo) * min((SLICES - 1) / (hi - lo), 1e300)).astype(np.int32)
    counts = np.bincount(slices, minlength=SLICES)
    of_rank = np.searchsorted(np.cumsum(counts), ranks, "right")
    selected = np.zeros(SLICES, np.bool_)
    selected[of_rank] = True
    among_selected = ranks - np.cumsum(np.where(selected, 0, counts))[of_rank]
    return np.partition(values[selected[slices]], np.unique(among_selected))[among_selected]
