"""First-order statistics of the intensities inside each region."""

import math

import numpy as np

from ._regions import Array, for_each, jit, volume
from .levels import count, intensities, small_integers
from .sums import entropy, squares

PERCENTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
SLICES = 1024


def first_order(
    images: Array,
    moments: Array | None,
    image_index: Array,
    box: Array,
    levels: Array,
    start: Array,
    size: Array,
    histogram: Array,
    normalize_scale: float,
    remove_outliers: float,
    shift: float,
) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.first_order`."""
    out = np.full((len(box), 17), np.nan)
    of_levels = histogram.astype(np.float64)[:, None]
    out[:, 15], out[:, 16] = entropy(of_levels)[:, 0], squares(of_levels)[:, 0]
    integers = small_integers(images, moments)

    def task(k: int) -> None:
        inside = volume(levels, start, size, k)[0] > 0
        if not inside.any():
            out[k] = np.nan
            return
        if integers is None:
            values = intensities(images, moments, image_index[k], box[k], normalize_scale, remove_outliers)
        else:
            y0, x0, y1, x1 = box[k]
            values = integers[image_index[k], y0:y1, x0:x1]
        pixels = values.ravel() if inside.all() else values[inside]
        values, counts = integer_histogram(pixels)
        out[k, :15] = statistics_of(values, shift) if counts is None else statistics_of_counts(values, counts, shift)

    for_each(task, len(box), len(levels) if integers is None else len(levels) // 4)  # as in discretise
    return out


def integer_histogram(pixels: Array) -> tuple[Array, Array | None]:
    """The distinct values, ascending, and their counts, of pixels that are integers close together; else the pixels.

    It is the values that decide, not the dtype that they came in, so that equal values give equal bits.
    """
    lo, hi = float(pixels.min()), float(pixels.max())
    if hi - lo >= pixels.size:
        return pixels.astype(np.float64), None
    if pixels.dtype.kind == "f":
        if any(np.any(some != np.rint(some)) for some in (pixels[:64], pixels)):
            return pixels, None
        pixels, first = (pixels - lo).astype(np.intp), 0
    else:
        first = int(lo)
    counts = np.zeros(int(hi - lo) + 1, np.int64)
    count(pixels, first, counts)
    present = np.flatnonzero(counts)
    return present + lo, counts[present]


def statistics_of(values: Array, shift: float) -> list[float]:
    """The first fifteen columns, of one region's pixels. NumPy sums pairwise: accurate, and what the reference does."""
    n, lo, hi = values.size, values.min(), values.max()
    # the mean of equal numbers, free of rounding: a flat region has moments of exactly zero
    mean = lo if lo == hi else np.add.reduce(values) / n
    percentiles = percentiles_of(values, lo, hi)
    shifted = values + shift if shift else values
    d = values - mean
    square = d * d
    m1, m2, m3, m4 = (np.add.reduce(v) / n for v in (d, square, square * d, square * square))
    middle = d[(values >= percentiles[0]) & (values <= percentiles[-1])]
    robust = np.nan  # no pixel lies between the percentiles of two distinct ones
    if middle.size:
        robust = np.add.reduce(np.abs(middle - np.add.reduce(middle) / middle.size)) / middle.size
    mad = np.add.reduce(np.abs(d)) / n
    energy = np.add.reduce(shifted * shifted)
    return [n, energy, lo, hi, mean, mad, robust, *centred(m1, m2, m3, m4), *percentiles]


def percentiles_of(values: Array, lo: float, hi: float) -> list[float]:
    """NumPy's linear interpolation between the two nearest order statistics."""
    if lo == hi:
        return [lo] * len(PERCENTILES)
    positions = [share * (values.size - 1) for share in PERCENTILES]
    below = [math.floor(position) for position in positions]
    a, b = select(values, np.array([below, [min(rank + 1, values.size - 1) for rank in below]]), lo, hi)
    return [interpolated(*ends, position - rank) for *ends, position, rank in zip(a, b, positions, below)]


@jit
def interpolated(a: float, b: float, t: float) -> float:
    """From a at t = 0 to b at t = 1, rounded as by ``numpy.percentile``."""
    return a + (b - a) * t if t < 0.5 else b - (b - a) * (1 - t)


@jit
def centred(m1: float, m2: float, m3: float, m4: float) -> tuple[float, float, float]:
    """Moments 2 to 4 about the mean, of those about a number near it.

    The mean was rounded; far from zero that shifts the centre, and m1 puts it back.
    """
    return m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3, m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4


@jit
def statistics_of_counts(values: Array, counts: Array, shift: float) -> Array:
    """The same of the distinct values, in ascending order, and how often each occurs."""
    out, cumulative = np.empty(15), np.cumsum(counts)
    n, lo, hi = cumulative[-1], values[0], values[-1]
    for m, share in enumerate(PERCENTILES):
        position = share * (n - 1)
        below = np.int64(position)
        a = values[np.searchsorted(cumulative, below, "right")]
        b = values[np.searchsorted(cumulative, min(below + 1, n - 1), "right")]
        out[10 + m] = interpolated(a, b, position - below)
    sums = np.zeros((9, 2))
    for v, times in zip(values, counts):
        add(sums[0], v * times)
        add(sums[1], (v + shift) * (v + shift) * times)
    mean = lo if lo == hi else sums[0].sum() / n
    between = 0
    for v, times in zip(values, counts):
        d = v - mean
        square = d * d
        for m, term in enumerate((d, square, square * d, square * square, abs(d))):
            add(sums[2 + m], term * times)
        if out[10] <= v <= out[14]:
            add(sums[7], d * times)
            between += times
    for v, times in zip(values, counts):
        if out[10] <= v <= out[14]:
            add(sums[8], abs(v - mean - sums[7].sum() / between) * times)
    total = sums.sum(1)
    m1, m2, m3, m4, mad = total[2:7] / n
    out[:7] = np.array([n, total[1], lo, hi, mean, mad, total[8] / between])
    out[7:10] = np.array(centred(m1, m2, m3, m4))
    return out


@jit
def add(total: Array, term: float) -> None:
    """Adds to a sum and to what rounding took from it: (2,), whose sum is the sum (Neumaier, 1974)."""
    new = total[0] + term
    if abs(total[0]) >= abs(term):
        total[1] += (total[0] - new) + term
    else:
        total[1] += (term - new) + total[0]
    total[0] = new


def select(values: Array, ranks: Array, lo: float, hi: float) -> Array:
    """The order statistics of these ranks.

    Only the values that share a slice of the range with a wanted rank need an order among themselves.
    """
    slices = ((values - lo) * min((SLICES - 1) / (hi - lo), 1e300)).astype(np.int32)
    counts = np.bincount(slices, minlength=SLICES)
    of_rank = np.searchsorted(np.cumsum(counts), ranks, "right")
    wanted = np.zeros(SLICES, np.bool_)
    wanted[of_rank] = True
    among_wanted = ranks - np.cumsum(np.where(wanted, 0, counts))[of_rank]
    return np.partition(values[wanted[slices]], np.unique(among_wanted))[among_wanted]
