"""Grey-level co-occurrence, dependence and neighbouring grey-tone difference: all look at the same neighbours."""

import numpy as np

from ..columns import NGTDM
from ._compile import jit
from ._regions import Array, Padded, at, volume, with_margin
from ._sums import central_moments, weighted_sums
from ._threads import COMPILED, for_each
from .glcm import count_pairs


def neighbourhood(
    levels: Array, start: Array, size: Array, offsets: Array, ng: int, *, gldm_a: int, pairs: bool, differences: bool
) -> tuple[Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.neighbourhood`."""
    columns = 1 + 2 * len(offsets)
    glcm = np.zeros((len(start) * pairs, len(offsets), ng, ng), np.int32)
    gldm = np.zeros((len(start) * differences, ng, columns), np.int32)
    ngtdm = np.zeros(gldm.shape, np.int64)

    def task(k: int) -> None:
        region = volume(levels, start, size, k)
        padded = with_margin(region, offsets)
        if pairs:
            table = np.zeros((len(offsets), ng + 1, ng + 1), np.int32)  # with level 0, so that no pair needs a test
            count_pairs(*padded, table)
            glcm[k] = table[:, 1:, 1:]
        if differences:
            space = np.empty((3, padded.width), np.int32)
            count_neighbours(padded, gldm_a, *space, gldm[k], ngtdm[k])

    for_each(task, len(start), len(levels) * COMPILED)
    return glcm, gldm, ngtdm


@jit
def count_neighbours(
    padded: Padded,
    gldm_a: int,
    count: Array,
    total: Array,
    dependent: Array,
    gldm: Array,
    ngtdm: Array,
) -> None:
    """Count the neighbours of each pixel of level i.

    c are inside, S is the sum of their levels, and some differ by at most ``gldm_a``.

    |i - S / c| is |c * i - S| / c, so the sums per level and c are integers. ``count``, ``total`` and ``dependent`` are
    space for a row.
    """
    levels, rows, width, steps = padded
    for first in rows:
        here = levels[first : first + width]
        for x in range(width):
            count[x], total[x], dependent[x] = 0, 0, 0
        for step in steps:
            for there in (first + step, first - step):
                gather(here, levels[there : there + width], gldm_a, count, total, dependent)
        for x in range(width):
            i = np.int64(here[x])
            if i > 0:
                gldm[at(i - 1), at(dependent[x])] += 1
                ngtdm[at(i - 1), at(count[x])] += abs(count[x] * i - total[x])


@jit
def gather(here: Array, there: Array, gldm_a: int, count: Array, total: Array, dependent: Array) -> None:
    """Add one neighbour of each pixel of a row: on its own, so that the compiler turns it into vector instructions."""
    for x in range(here.size):
        i, j = np.int32(here[x]), np.int32(there[x])
        inside = np.int32(j > 0)
        count[x] += inside
        total[x] += j
        dependent[x] += inside & np.int32(abs(j - i) <= gldm_a)


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
