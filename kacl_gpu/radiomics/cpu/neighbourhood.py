"""Grey-level co-occurrence, dependence and neighbouring grey-tone difference: all look at the same neighbours."""

import threading

import numpy as np

from ..columns import NGTDM
from ._compile import jit
from ._regions import BLOCK, Array, Padded, at, block_end, for_each_part, volume, with_margin
from ._sums import central_moments, weighted_sum
from ._threads import for_each_region
from .glcm import count_pairs


def neighbourhood(
    levels: Array,
    start: Array,
    size: Array,
    offsets: Array,
    ng: int,
    *,
    gldm_a: int,
    pairs: bool,
    dependences: bool,
    differences: bool,
) -> tuple[Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.neighbourhood`."""
    regions, columns = len(start), 1 + 2 * len(offsets)
    glcm = np.zeros((regions * pairs, len(offsets), ng, ng), np.int32)
    gldm = np.zeros((regions * dependences, ng, columns), np.int32)
    ngtdm = np.zeros((regions * differences, ng, columns), np.int64)
    narrow = columns <= np.iinfo(np.uint8).max, columns * ng <= np.iinfo(np.uint16).max
    top, lock = int(np.iinfo(levels.dtype).max), threading.Lock()

    def task(k: int, parts: int) -> None:
        padded = with_margin(volume(levels, start, size, k), offsets, parts)

        def count(part: Padded) -> None:
            if pairs:
                table = np.zeros((len(offsets), ng + 1, ng + 1), np.int32)  # with level 0: no pair needs a test
                count_pairs(part.levels, part.rows, part.steps, table)
                with lock:
                    glcm[k] += table[:, 1:, 1:]
            if dependences or differences:
                limits = np.empty((2, BLOCK), levels.dtype)
                numbers = np.empty((2, BLOCK), np.uint8 if narrow[0] else np.uint16)
                scratch = limits, numbers, np.empty(BLOCK, np.uint16 if narrow[1] else np.int32)
                own_gldm, own_ngtdm = np.zeros_like(gldm[k : k + 1]), np.zeros_like(ngtdm[k : k + 1])
                count_neighbours(part, gldm_a, top, scratch, own_gldm, own_ngtdm)
                with lock:
                    gldm[k : k + 1] += own_gldm
                    ngtdm[k : k + 1] += own_ngtdm

        for_each_part(padded, parts, count)

    for_each_region(task, size.prod(1).tolist())
    return glcm, gldm, ngtdm


@jit
def count_neighbours(
    padded: Padded, gldm_a: int, top: int, scratch: tuple[Array, Array, Array], gldm: Array, ngtdm: Array
) -> None:
    """Count the pixels of one region for GLDM and NGTDM; (1, ng, C); an empty table is not asked for.

    A pixel of level i has c neighbours inside, whose levels sum to S, and of which some are dependent: they differ from
    it by at most ``gldm_a``; ``top`` is the greatest number of the levels' type. |i - S / c| is |c * i - S| / c, so the
    sums per level and c are integers. ``scratch``: for a block, limits (2,) of the levels' type, numbers (2,), totals.
    """
    levels, rows = padded.levels, padded.rows
    limits, numbers, totals = scratch
    first, last = 0, len(rows)
    dependences, differences = len(gldm) > 0, len(ngtdm) > 0
    while first < last:
        end = block_end(rows, first, last)
        begin = rows[first, 0]
        n = rows[end - 1, 1] - begin
        low, high, total = limits[0, :n], limits[1, :n], totals[:n]
        dependent, number = numbers[0, :n], numbers[1, :n]
        for x in range(n):
            dependent[x] = 0
        for x in range(n):
            number[x] = 0
        for x in range(n):
            total[x] = 0
        if dependences:
            write_limits(levels[begin : begin + n], gldm_a, top, low, high)
        for step in padded.steps:
            after, before = levels[begin + step : begin + step + n], levels[begin - step : begin - step + n]
            if dependences:
                add_dependent(low, high, after, before, dependent)
            if differences:
                add_inside(after, before, number)
                add_levels(after, before, total)
        for row in range(first, end):
            for p in range(rows[row, 0], rows[row, 1]):
                i, x = np.int64(levels[at(p)]), p - begin
                if i > 0 and dependences:
                    gldm[0, at(i - 1), at(dependent[at(x)])] += 1
                if i > 0 and differences:
                    c = np.int64(number[at(x)])
                    ngtdm[0, at(i - 1), at(c)] += abs(c * i - np.int64(total[at(x)]))
        first = end


# Two neighbours of each pixel of a block, few arrays at a time and each as narrow as it can be, so that the compiler
# turns the loops into vector instructions


@jit
def write_limits(levels: Array, gldm_a: int, top: int, low: Array, high: Array) -> None:
    """Write the least and the greatest level of a dependent neighbour: nothing of it is outside."""
    for x in range(levels.size):
        low[x] = max(np.int64(levels[x]) - gldm_a, 1)
    for x in range(levels.size):
        high[x] = min(np.int64(levels[x]) + gldm_a, top)


@jit
def add_dependent(low: Array, high: Array, after: Array, before: Array, dependent: Array) -> None:
    """Add how many of two neighbours are within limits."""
    for x in range(dependent.size):
        i, j = after[x], before[x]
        dependent[x] += np.uint8((i >= low[x]) & (i <= high[x])) + np.uint8((j >= low[x]) & (j <= high[x]))


@jit
def add_inside(after: Array, before: Array, number: Array) -> None:
    """Add how many of two neighbours are inside."""
    for x in range(number.size):
        number[x] += np.uint8(after[x] > 0) + np.uint8(before[x] > 0)


@jit
def add_levels(after: Array, before: Array, total: Array) -> None:
    """Add the levels of two neighbours."""
    for x in range(total.size):
        total[x] += np.uint16(after[x]) + np.uint16(before[x])


def ngtdm_sums(histogram: Array, differences: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.ngtdm_sums`."""
    levels = np.arange(1.0, histogram.shape[1] + 1)
    weights = 1 / np.maximum(np.arange(differences.shape[-1], dtype=np.float64), 1)  # no neighbours, no difference
    out = np.zeros((len(histogram), len(NGTDM)))
    for k, pixels in enumerate(histogram):
        s = np.zeros(len(pixels))
        add_differences(pixels.astype(np.float64), differences[k], weights, levels, s, out[k])
        add_pairs(pixels, s, np.flatnonzero(pixels), out[k])
    return out


@jit
def add_differences(pixels: Array, differences: Array, weights: Array, levels: Array, s: Array, out: Array) -> None:
    """Write the differences ``s`` of each level, (ng,), and the sums over levels of one region's row."""
    for i in range(pixels.size):
        s[i] = weighted_sum(differences[i], weights)
        if pixels[i] != 0.0:
            out[NGTDM.n] += pixels[i]
            out[NGTDM.ns] += pixels[i] * s[i]
            out[NGTDM.levels] += 1
        if s[i] != 0.0:
            out[NGTDM.s] += s[i]
    out[NGTDM.variance] = central_moments(pixels, levels)[1]


@jit
def add_pairs(pixels: Array, differences: Array, present: Array, out: Array) -> None:
    """Add the sums over all pairs of the levels ``present`` to one region's row."""
    for i in present:
        for j in present:
            n_i, n_j = np.int64(pixels[i]), np.int64(pixels[j])
            out[NGTDM.products] += abs((i + 1) * n_i - (j + 1) * n_j)  # integers: exactly 0 where all products agree
            out[NGTDM.complexity] += abs(i - j) * (n_i * differences[i] + n_j * differences[j]) / (n_i + n_j)
            out[NGTDM.strength] += (n_i + n_j) * (i - j) * (i - j)
