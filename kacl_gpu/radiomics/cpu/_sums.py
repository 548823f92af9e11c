"""Sums over matrices and their marginals, in an order that neither the batch nor further empty levels change.

torch's reductions, and NumPy's, regroup with the shape of the tensor; a cumulative sum adds one row's terms one after
the other, so that a region's features have the same bits alone and among others.
"""

from typing import Any

import numpy as np

from ..constants import EPS
from ._compile import jit
from ._regions import Array


def total(terms: Array) -> Any:
    """Return the sum over the last axis, first term first."""
    return np.cumsum(terms, axis=-1)[..., -1] if terms.shape[-1] else np.zeros(terms.shape[:-1])


def weighted_sums(rows: Array, *weights: Array) -> Array:
    """Return inner products of rows (K, A, n) with each of M weights, (n,) or (K, n): (M, K, A); zeros add nothing."""
    stacked = np.stack(np.broadcast_arrays(*(np.atleast_2d(w) for w in weights)), 1)
    out = np.zeros((*rows.shape[:2], len(weights)))
    inner_products(np.ascontiguousarray(rows), stacked, out)  # one layout: compiled once; too little work for threads
    return np.moveaxis(out, 2, 0)


@jit
def inner_products(rows: Array, weights: Array, out: Array) -> None:
    """Add the inner products of rows (K, A, n) with weights (K or 1, M, n) to ``out`` (K, A, M)."""
    for k in range(rows.shape[0]):
        w = k % weights.shape[0]
        for a in range(rows.shape[1]):
            for i in range(rows.shape[2]):
                v = rows[k, a, i]
                if v != 0.0:  # an empty level adds nothing, whatever its weight (1 / 0 among them)
                    for m in range(weights.shape[1]):
                        out[k, a, m] += v * weights[w, m, i]


def mixed(matrices: Array, weights: Array) -> Array:
    """Return the directions of one region, (A, n, m), weighted by (A,) and added, first to last, to one: (1, n, m)."""
    return np.add.reduce(weights[:, None, None] * matrices)[None]


def entropy(rows: Array) -> Array:
    """Return -sum p log2(p + eps) of histograms (K, A, n), p normalised: (K, A), NaN where empty."""
    with np.errstate(invalid="ignore"):
        p = rows / total(rows)[..., None]
    return -total(p * np.log2(p + EPS))


def squares(rows: Array) -> Array:
    """Return the sum of squares of each row of (K, A, n): (K, A)."""
    flat = rows.reshape(-1, rows.shape[-1])
    return weighted_sums(flat[:, None], flat)[0].reshape(rows.shape[:-1])


def central_moments(rows: Array, values: Array) -> tuple[Array, ...]:
    """Return mean and central moments 2, 3, 4 of histograms (K, A, n) over ``values`` (n,) or (K, n): four of (K, A).

    NaN of an empty histogram; of a single value the moments are exactly 0.
    """
    n, first = weighted_sums(rows, np.ones_like(values), values)
    with np.errstate(invalid="ignore"):
        mean = first / n
    d = (np.atleast_2d(values)[:, None] - mean[..., None]).reshape(-1, rows.shape[-1])
    square = d * d
    powers = weighted_sums(rows.reshape(-1, 1, rows.shape[-1]), square, square * d, square * square)
    is_single = (rows > 0).sum(-1) == 1
    with np.errstate(invalid="ignore"):
        return mean, *(np.where(is_single, 0.0, p.reshape(mean.shape) / n) for p in powers)
