"""The sums of matrices of counts by grey level i and size j: runs and dependences."""

import math

import numpy as np

from ..columns import SIZES
from ..constants import EPS
from ._compile import jit
from ._regions import Array
from ._sums import central_moments, mixed, squares, weighted_sums
from ._threads import for_each


def size_sums(counts: Array, n_levels: Array, weights: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.size_sums`."""
    regions, directions, ng, sizes = counts.shape
    rows = 1 if len(weights) else directions
    by_level, by_size = np.zeros((regions, rows, ng)), np.zeros((regions, rows, sizes))
    out = np.zeros((regions, rows, len(SIZES)))

    def task(k: int) -> None:
        matrices = counts[k, :, : n_levels[k]]  # levels above are empty
        if len(weights):
            matrices = mixed(matrices, weights[k])
        add_sizes(matrices, by_level[k], by_size[k], out[k])

    for_each(task, regions, counts.size)
    write_marginal_sums(by_level, by_size, np.arange(1.0, sizes + 1), out)
    return out


def write_marginal_sums(by_level: Array, by_size: Array, sizes: Array, out: Array) -> None:
    """Write the columns of (K, A, 15) that follow from the marginals by level (K, A, ng) and by size (K, A, S).

    ``sizes``: the sizes (S,) or (K, S) that the latter stand for.
    """
    i = np.arange(1.0, by_level.shape[-1] + 1)
    with np.errstate(divide="ignore"):  # unused rows of a table of zones have size 0
        small = 1 / (sizes * sizes)
    n, low, high = weighted_sums(by_level, np.ones_like(i), 1 / (i * i), i * i)
    out[..., SIZES.n], out[..., SIZES.low], out[..., SIZES.high] = n, low, high
    pixels, small, large = weighted_sums(by_size, sizes, small, sizes * sizes)
    out[..., SIZES.pixels], out[..., SIZES.small], out[..., SIZES.large] = pixels, small, large
    out[..., SIZES.level_squares], out[..., SIZES.size_squares] = squares(by_level), squares(by_size)
    out[..., SIZES.level_variance] = central_moments(by_level, i)[1]
    out[..., SIZES.size_variance] = central_moments(by_size, sizes)[1]


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
