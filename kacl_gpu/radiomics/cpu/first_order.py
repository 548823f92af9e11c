"""First-order statistics of the intensities inside each region."""

import numpy as np

from ._regions import Array, for_each, volume
from .levels import intensities

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
    normalize_scale: float,
    remove_outliers: float,
    shift: float,
) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.first_order`."""
    out = np.full((len(box), 15), np.nan)

    def task(k: int) -> None:
        inside = volume(levels, start, size, k)[0] > 0
        if not inside.any():
            return
        values = intensities(images, moments, image_index[k], box[k], normalize_scale, remove_outliers)
        pixels = values.ravel() if inside.all() else values[inside]
        out[k] = statistics_of(pixels, shift)

    for_each(task, len(box))
    return out


def statistics_of(pixels: Array, shift: float) -> list[float]:
    """The columns, of one region's pixels. NumPy sums pairwise, which is accurate, and what the reference does."""
    n = pixels.size
    lo, hi = pixels.min(), pixels.max()
    # the mean of equal numbers, free of rounding: a flat region has moments of exactly zero
    mean = lo if lo == hi else np.add.reduce(pixels) / n
    percentiles = exact_percentiles(pixels, lo, hi)
    shifted = pixels + shift if shift else pixels
    d = pixels - mean
    square = d * d
    m1, m2, m3, m4 = (np.add.reduce(v) / n for v in (d, square, square * d, square * square))
    # The mean was rounded; far from zero that shifts the centre, and m1 puts it back.
    moments = m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3, m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    middle = d[(pixels >= percentiles[0]) & (pixels <= percentiles[-1])]
    robust = np.nan  # no pixel lies between the percentiles of two distinct ones
    if middle.size:
        robust = np.add.reduce(np.abs(middle - np.add.reduce(middle) / middle.size)) / middle.size
    energy = np.add.reduce(shifted * shifted)
    return [n, energy, lo, hi, mean, np.add.reduce(np.abs(d)) / n, robust, *moments, *percentiles]


def exact_percentiles(pixels: Array, lo: float, hi: float) -> Array:
    """NumPy's linear interpolation between the two nearest order statistics, found by selection.

    Only the pixels that share a slice of the range with a wanted rank need an order among themselves.
    """
    if lo == hi:
        return np.full(len(PERCENTILES), lo)
    position = np.array(PERCENTILES) * (pixels.size - 1)
    below = np.floor(position).astype(np.int64)
    ranks = np.unique([below, np.minimum(below + 1, pixels.size - 1)])
    slices = np.minimum((pixels - lo) * (SLICES / (hi - lo)), SLICES - 1).astype(np.int32)
    counts = np.bincount(slices, minlength=SLICES)
    of_rank = np.searchsorted(np.cumsum(counts), ranks, "right")
    wanted = np.zeros(SLICES, np.bool_)
    wanted[of_rank] = True
    among_wanted = ranks - np.cumsum(np.where(wanted, 0, counts))[of_rank]
    ordered = np.partition(pixels[wanted[slices]], among_wanted)[among_wanted]
    a, b = ordered[np.searchsorted(ranks, below)], ordered[np.searchsorted(ranks, np.minimum(below + 1, ranks[-1]))]
    t, step = position - below, b - a
    return np.where(t < 0.5, a + step * t, b - step * (1 - t))
