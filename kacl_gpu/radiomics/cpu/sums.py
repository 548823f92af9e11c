"""Sums over matrices and their marginals, in an order that neither the batch nor further empty levels change.

torch's reductions, and NumPy's, regroup with the shape of the tensor; a cumulative sum adds one row's terms one after
the other, so that a region's features have the same bits alone and among others.
"""

from typing import Any

import numpy as np

from ._regions import Array, for_each_group, jit

EPS = np.spacing(1.0)


def total(terms: Array) -> Any:
    """The sum over the last axis, first term first."""
    return np.cumsum(terms, axis=-1)[..., -1] if terms.shape[-1] else np.zeros(terms.shape[:-1])


def weighted_sums(rows: Array, weights: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.weighted_sums`."""
    out = np.zeros((*rows.shape[:2], weights.shape[1]))
    inner_products(rows, weights, out)  # too little work for threads
    return out


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


def entropy(rows: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.entropy`."""
    with np.errstate(invalid="ignore"):
        p = rows / total(rows)[..., None]
    return -total(p * np.log2(p + EPS))


def size_statistics(counts: Array, n_levels: Array, weights: Array) -> tuple[Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.size_statistics`."""
    regions, directions, ng, sizes = counts.shape
    rows = 1 if len(weights) else directions
    by_level, by_size = np.zeros((regions, rows, ng)), np.zeros((regions, rows, sizes))
    joint = np.zeros((regions, rows, 5))

    def task(k: slice) -> None:
        matrices: Any = counts[k, :, : int(n_levels[k].max(initial=0))]  # levels above are empty
        if len(weights):
            matrices = sum(weights[k, a, None, None] * matrices[:, a] for a in range(directions))[:, None]
        flat = matrices.reshape(len(matrices) * rows, *matrices.shape[2:])
        row, level, size = np.nonzero(flat)
        count = flat[row, level, size].astype(np.float64)
        by_size[k] = np.bincount(row * sizes + size, count, len(flat) * sizes).reshape(len(matrices), rows, sizes)
        sums = statistics_of_triples(row, level, size, count, len(flat), ng)
        by_level[k], joint[k] = (s.reshape(len(matrices), rows, s.shape[1]) for s in sums)

    for_each_group(task, regions, directions * ng * sizes)
    return by_level, by_size, joint


def statistics_of_triples(
    row: Array, level: Array, size: Array, count: Array, rows: int, ng: int
) -> tuple[Array, Array]:
    """Of the cells of R matrices, level and size from 0: sums by level (R, ng), and the joint sums (R, 5).

    Those are the entropy, and the emphases of small or large sizes at low or high levels, not divided by the total.
    ``bincount`` adds in the order of the cells.
    """
    by_level = np.bincount(row * ng + level, count, rows * ng).reshape(rows, ng)
    p = count / np.bincount(row, count, rows)[row]
    i2, j2 = (level + 1.0) ** 2, (size + 1.0) ** 2
    terms = -p * np.log2(p + EPS), count / (i2 * j2), count * i2 / j2, count * j2 / i2, count * (i2 * j2)
    return by_level, np.stack([np.bincount(row, term, rows) for term in terms], 1)
