"""The sums of matrices of counts by grey level i and size j: runs and dependences."""

import math

import numpy as np

from ..columns import SIZES
from ..constants import EPS
from ._compile import jit
from ._regions import Array
from ._sums import central_moments, mixed, sum_of_squares
from ._threads import for_each


def size_sums(counts: Array, n_levels: Array, weights: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.size_sums`."""
    regions, directions, ng, sizes = counts.shape
    rows = 1 if len(weights) else directions
    by_level, by_size = np.zeros((regions, rows, ng)), np.zeros((regions, rows, sizes))
    out, each_size = np.zeros((regions, rows, len(SIZES))), np.arange(1.0, sizes + 1)

    def task(k: int) -> None:
        matrices = counts[k, :, : n_levels[k]]  # levels above are empty
        if len(weights):
            matrices = mixed(matrices, weights[k])
        add_sizes(matrices, by_level[k], by_size[k], out[k])
        write_marginal_sums(by_level[k], by_size[k], each_size, out[k])

    for_each(task, regions, counts.size)
    return out


@jit
def write_marginal_sums(by_level: Array, by_size: Array, sizes: Array, out: Array) -> None:
    """Write the columns of (A, 15) that follow from the marginals by level (A, ng) and by size (A, S).

    ``sizes``: the sizes (S,) that the latter stand for; 0 in unused rows of a table of zones.
    """
    levels, squares = np.empty(by_level.shape[1]), np.empty(by_level.shape[1])
    for i in range(levels.size):
        levels[i] = i + 1.0
        squares[i] = levels[i] * levels[i]
    for a in range(out.shape[0]):
        sums = out[a]
        for i in range(levels.size):
            count = by_level[a, i]
            if count != 0.0:
                sums[SIZES.n] += count
                sums[SIZES.low] += count * (1.0 / squares[i])
                sums[SIZES.high] += count * squares[i]
        for j in range(sizes.size):
            count, square = by_size[a, j], sizes[j] * sizes[j]
            if count != 0.0:
                sums[SIZES.pixels] += count * sizes[j]
                sums[SIZES.small] += count * (1.0 / square)
                sums[SIZES.large] += count * square
        sums[SIZES.level_squares], sums[SIZES.size_squares] = sum_of_squares(by_level[a]), sum_of_squares(by_size[a])
        sums[SIZES.level_variance] = central_moments(by_level[a], levels)[1]
        sums[SIZES.size_variance] = central_moments(by_size[a], sizes)[1]


@jit
def add_sizes(matrices: Array, by_level: Array, by_size: Array, out: Array) -> None:
    """Add the matrices (A, n, S) of one region to its marginals and joint sums."""
    directions, levels, sizes = matrices.shape
    for a in range(directions):
        total = 0.0
        for i in range(levels):
            for j in range(sizes):
                count = float(matrices[a, i, j])
                if count != 0.0:  # few are not
                    by_level[a, i] += count
                    by_size[a, j] += count
                    total += count
        for i in range(levels):
            for j in range(sizes):
                count = float(matrices[a, i, j])
                if count != 0.0:
                    add_joint(count, total, i + 1.0, j + 1.0, out[a])


@jit
def add_joint(count: float, total: float, level: float, size: float, out: Array) -> None:
    """Add a cell to the joint sums: the entropy, and the emphases of small or large sizes at low or high levels."""
    p, i2, j2 = count / total, level * level, size * size
    out[SIZES.entropy] -= p * math.log2(p + EPS)
    out[SIZES.small_low] += count / (i2 * j2)
    out[SIZES.small_high] += count * i2 / j2
    out[SIZES.large_low] += count * j2 / i2
    out[SIZES.large_high] += count * (i2 * j2)
