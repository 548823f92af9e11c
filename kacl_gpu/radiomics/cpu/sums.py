"""Sums over matrices and their marginals, in an order that neither the batch nor further empty levels change.

torch's reductions, and NumPy's, regroup with the shape of the tensor; a cumulative sum adds one row's terms one after
the other, so that a region's features have the same bits alone and among others.
"""

import math
from typing import Any

import numpy as np

from ._compile import jit
from ._regions import Array
from ._threads import for_each

EPS = np.spacing(1.0)


def total(terms: Array) -> Any:
    """The sum over the last axis, first term first."""
    return np.cumsum(terms, axis=-1)[..., -1] if terms.shape[-1] else np.zeros(terms.shape[:-1])


def weighted_sums(rows: Array, *weights: Array) -> Array:
    """Inner products of rows (K, A, n) with each of M weights, (n,) or (K, n): (M, K, A); zeros add nothing."""
    stacked = np.stack(np.broadcast_arrays(*(np.atleast_2d(w) for w in weights)), 1)
    out = np.zeros((*rows.shape[:2], len(weights)))
    inner_products(np.ascontiguousarray(rows), stacked, out)  # one layout: compiled once; too little work for threads
    return np.moveaxis(out, 2, 0)


@jit
def inner_products(rows: Array, weights: Array, out: Array) -> None:
    for k in range(rows.shape[0]):
        w = k % weights.shape[0]
        for a in range(rows.shape[1]):
            for i in range(rows.shape[2]):
                v = rows[k, a, i]
                if v != 0.0:  # an empty level adds nothing, whatever its weight (1 / 0 among them)
                    for m in range(weights.shape[1]):
                        out[k, a, m] += v * weights[w, m, i]


def mixed(matrices: Array, weights: Array) -> Array:
    """The directions of one region, (A, n, m), weighted by (A,) and added, first to last, to one: (1, n, m)."""
    return np.add.reduce(weights[:, None, None] * matrices)[None]


def entropy(rows: Array) -> Array:
    """-sum p log2(p + eps) of histograms (K, A, n), p normalised: (K, A), NaN where empty."""
    with np.errstate(invalid="ignore"):
        p = rows / total(rows)[..., None]
    return -total(p * np.log2(p + EPS))


def squares(rows: Array) -> Array:
    """Sum of squares of each row of (K, A, n): (K, A)."""
    flat = rows.reshape(-1, rows.shape[-1])
    return weighted_sums(flat[:, None], flat)[0].reshape(rows.shape[:-1])


def central_moments(rows: Array, values: Array) -> tuple[Array, ...]:
    """Mean and central moments 2, 3, 4 of histograms (K, A, n) over ``values`` (n,) or (K, n): four of (K, A).

    NaN of an empty histogram; of a single value the moments are exactly 0.
    """
    n, first = weighted_sums(rows, np.ones_like(values), values)
    with np.errstate(invalid="ignore"):
        mean = first / n
    d = (np.atleast_2d(values)[:, None] - mean[..., None]).reshape(-1, rows.shape[-1])
    square = d * d
    powers = weighted_sums(rows.reshape(-1, 1, rows.shape[-1]), square, square * d, square * square)
    one = (rows > 0).sum(-1) == 1
    with np.errstate(invalid="ignore"):
        return mean, *(np.where(one, 0.0, p.reshape(mean.shape) / n) for p in powers)


def size_sums(counts: Array, n_levels: Array, weights: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.size_sums`."""
    by_level, by_size, joint = size_statistics(counts, n_levels, weights)
    return sums_of_marginals(by_level, by_size, np.arange(1.0, by_size.shape[-1] + 1), joint)


def sums_of_marginals(by_level: Array, by_size: Array, sizes: Array, joint: Array) -> Array:
    """Marginals (K, A, ng) and (K, A, S), the sizes (S,) or (K, S) they stand for, joint sums (K, A, 5): (K, A, 15)."""
    i = np.arange(1.0, by_level.shape[-1] + 1)
    with np.errstate(divide="ignore"):  # unused rows of a table of zones have size 0
        small = 1 / (sizes * sizes)
    n, low, high = weighted_sums(by_level, np.ones_like(i), 1 / (i * i), i * i)
    rest = (
        *weighted_sums(by_size, sizes, small, sizes * sizes),
        *(squares(by_level), squares(by_size)),
        *(central_moments(by_level, i)[1], central_moments(by_size, sizes)[1]),
    )
    return np.stack([n, *np.moveaxis(joint, 2, 0), low, high, *rest], 2)


def size_statistics(counts: Array, n_levels: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Marginals (K, A, ng) by level and (K, A, S) by size of the counts, and joint sums (K, A, 5)."""
    regions, directions, ng, sizes = counts.shape
    rows = 1 if len(weights) else directions
    by_level, by_size = np.zeros((regions, rows, ng)), np.zeros((regions, rows, sizes))
    joint = np.zeros((regions, rows, 5))

    def task(k: int) -> None:
        matrices = counts[k, :, : n_levels[k]]  # levels above are empty
        if len(weights):
            matrices = mixed(matrices, weights[k])
        add_sizes(matrices, by_level[k], by_size[k], joint[k])

    for_each(task, regions, counts.size)
    return by_level, by_size, joint


@jit
def add_sizes(matrices: Array, by_level: Array, by_size: Array, joint: Array) -> None:
    """Of the matrices (A, n, S) of one region."""
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
                    add_joint(count, total, i + 1.0, j + 1.0, joint[a])


@jit
def add_joint(count: float, total: float, level: float, size: float, joint: Array) -> None:
    """Adds a cell to the joint sums: the entropy, and the emphases of small or large sizes at low or high levels.

    The emphases are not divided by the total.
    """
    p, i2, j2 = count / total, level * level, size * size
    joint[0] -= p * math.log2(p + EPS)
    joint[1] += count / (i2 * j2)
    joint[2] += count * i2 / j2
    joint[3] += count * j2 / i2
    joint[4] += count * (i2 * j2)
