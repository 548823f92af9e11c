"""Grey-level co-occurrence, dependence and neighbouring grey-tone difference: all look at the same neighbours."""

import numpy as np

from ..columns import NGTDM
from ._compile import jit
from ._regions import Array, Padded, at, volume, with_margin
from ._sums import central_moments, weighted_sums
from ._threads import COMPILED, for_each
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

    def task(k: int) -> None:
        region = volume(levels, start, size, k)
        padded = with_margin(region, offsets)
        if pairs:
            table = np.zeros((len(offsets), ng + 1, ng + 1), np.int32)  # with level 0, so that no pair needs a test
            count_pairs(*padded, table)
            glcm[k] = table[:, 1:, 1:]
        if dependences or differences:
            scratch = np.empty((3, padded.width), np.int32)
            tables = (table[k] if len(table) else table[:, 0] for table in (gldm, ngtdm))
            count_neighbours(padded, gldm_a, *scratch, *tables)

    for_each(task, regions, len(levels) * COMPILED)
    return glcm, gldm, ngtdm


@jit
def count_neighbours(
    padded: Padded, gldm_a: int, count: Array, total: Array, dependent: Array, gldm: Array, ngtdm: Array
) -> None:
    """Count the pixels of one region for GLDM and NGTDM; a table without rows is not asked for.

    A pixel of level i has c neighbours inside, whose levels sum to S, and of which some are dependent: they differ from
    it by at most ``gldm_a``. |i - S / c| is |c * i - S| / c, so the sums per level and c are integers. ``count``,
    ``total`` and ``dependent`` are scratch for a row.
    """
    levels, rows, width, steps = padded
    dependences, differences = len(gldm) > 0, len(ngtdm) > 0
    for first in rows:
        centre = levels[first : first + width]
        for x in range(width):
            count[x], total[x], dependent[x] = 0, 0, 0
        for step in steps:
            for shifted in (first + step, first - step):
                neighbours = levels[shifted : shifted + width]
                if dependences and differences:
                    add_neighbour(centre, neighbours, gldm_a, count, total, dependent)
                elif dependences:
                    add_dependent(centre, neighbours, gldm_a, dependent)
                else:
                    add_levels(neighbours, count, total)
        for x in range(width):
            i = np.int64(centre[x])
            if i > 0 and dependences:
                gldm[at(i - 1), at(dependent[x])] += 1
            if i > 0 and differences:
                ngtdm[at(i - 1), at(count[x])] += abs(count[x] * i - total[x])


# One neighbour of each pixel of a row, each on its own, so that the compiler turns the loop into vector instructions


@jit
def add_neighbour(centre: Array, neighbours: Array, gldm_a: int, count: Array, total: Array, dependent: Array) -> None:
    """Add one neighbour of each pixel to both matrices, which read it once."""
    for x in range(centre.size):
        i, j = np.int32(centre[x]), np.int32(neighbours[x])
        inside = np.int32(j > 0)
        count[x] += inside
        total[x] += j
        dependent[x] += inside & np.int32(abs(j - i) <= gldm_a)


@jit
def add_dependent(centre: Array, neighbours: Array, gldm_a: int, dependent: Array) -> None:
    """Add one neighbour of each pixel to the dependences alone."""
    for x in range(centre.size):
        i, j = np.int32(centre[x]), np.int32(neighbours[x])
        dependent[x] += np.int32(j > 0) & np.int32(abs(j - i) <= gldm_a)


@jit
def add_levels(neighbours: Array, count: Array, total: Array) -> None:
    """Add one neighbour of each pixel to the differences alone."""
    for x in range(neighbours.size):
        j = np.int32(neighbours[x])
        count[x] += np.int32(j > 0)
        total[x] += j


def ngtdm_sums(histogram: Array, differences: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.ngtdm_sums`."""
    counts = np.maximum(np.arange(differences.shape[-1], dtype=np.float64), 1)  # no neighbours, no difference
    (s,) = weighted_sums(differences.astype(np.float64), 1 / counts)
    n = histogram.astype(np.float64)[:, None]
    total, ns = weighted_sums(n, np.ones_like(s), s)
    out = np.zeros((len(s), len(NGTDM)))
    out[:, NGTDM.n], out[:, NGTDM.ns] = total[:, 0], ns[:, 0]
    out[:, NGTDM.s] = weighted_sums(s[:, None], np.ones(s.shape[1]))[0, :, 0]
    out[:, NGTDM.variance] = central_moments(n, np.arange(1.0, n.shape[-1] + 1))[1][:, 0]
    out[:, NGTDM.levels] = (histogram > 0).sum(1)
    for k in range(len(s)):
        add_pairs(histogram[k], s[k], np.flatnonzero(histogram[k]), out[k])
    return out


@jit
def add_pairs(pixels: Array, differences: Array, present: Array, out: Array) -> None:
    """Add the sums over all pairs of the levels ``present`` to one region's row."""
    for i in present:
        for j in present:
            n_i, n_j = np.int64(pixels[i]), np.int64(pixels[j])
            out[NGTDM.products] += abs((i + 1) * n_i - (j + 1) * n_j)  # integers: exactly 0 where all products agree
            out[NGTDM.complexity] += abs(i - j) * (n_i * differences[i] + n_j * differences[j]) / (n_i + n_j)
            out[NGTDM.strength] += (n_i + n_j) * (i - j) * (i - j)
