"""First-order statistics of the intensities inside each region."""

from typing import Any

import numpy as np

from ._regions import Array, for_each, volume
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

    integers = small_integers(images, moments)

    def task(k: int) -> None:
        inside = volume(levels, start, size, k)[0] > 0
        if not inside.any():
            return
        if integers is None:
            values = intensities(images, moments, image_index[k], box[k], normalize_scale, remove_outliers)
        else:
            y0, x0, y1, x1 = box[k]
            values = integers[image_index[k], y0:y1, x0:x1]
        pixels = values.ravel() if inside.all() else values[inside]
        out[k, :15] = statistics_of(*integer_histogram(pixels), shift)
        out[k, 15:] = entropy(of_levels[k, None])[0, 0], squares(of_levels[k, None])[0, 0]

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


def statistics_of(values: Array, counts: Array | None, shift: float) -> list[float]:
    """The first fifteen columns, of one region's pixels, or of its distinct values in ascending order and their counts.

    NumPy sums pairwise, which is accurate, and what the reference does.
    """
    n = values.size if counts is None else int(counts.sum())

    def sum_of(terms: Array) -> Any:
        return np.add.reduce(terms if counts is None else terms * counts)

    lo, hi = values.min(), values.max()
    # the mean of equal numbers, free of rounding: a flat region has moments of exactly zero
    mean = lo if lo == hi else sum_of(values) / n
    percentiles = exact_percentiles(values, counts, n, lo, hi)
    shifted = values + shift if shift else values
    d = values - mean
    square = d * d
    m1, m2, m3, m4 = (sum_of(v) / n for v in (d, square, square * d, square * square))
    # The mean was rounded; far from zero that shifts the centre, and m1 puts it back.
    moments = m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3, m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    middle = (values >= percentiles[0]) & (values <= percentiles[-1])
    robust = np.nan  # no pixel lies between the percentiles of two distinct ones
    if middle.any():
        d_middle = d[middle]
        weight = np.ones(1) if counts is None else counts[middle]
        n_middle = d_middle.size if counts is None else weight.sum()
        about = np.add.reduce(d_middle * weight) / n_middle
        robust = np.add.reduce(np.abs(d_middle - about) * weight) / n_middle
    return [n, sum_of(shifted * shifted), lo, hi, mean, sum_of(np.abs(d)) / n, robust, *moments, *percentiles]


def exact_percentiles(values: Array, counts: Array | None, n: int, lo: float, hi: float) -> Array:
    """NumPy's linear interpolation between the two nearest order statistics."""
    if lo == hi:
        return np.full(len(PERCENTILES), lo)
    position = np.array(PERCENTILES) * (n - 1)
    below = np.floor(position).astype(np.int64)
    ranks = np.stack([below, np.minimum(below + 1, n - 1)])
    if counts is None:
        a, b = select(values, ranks, lo, hi)
    else:
        a, b = values[np.searchsorted(np.cumsum(counts), ranks, "right")]
    t, step = position - below, b - a
    return np.where(t < 0.5, a + step * t, b - step * (1 - t))


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
