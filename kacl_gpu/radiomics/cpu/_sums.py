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


@jit
def weighted_sum(row: Array, weights: Array) -> float:
    """Return the inner product of a row (n,) with weights; an empty level adds nothing, whatever its weight."""
    sum_ = 0.0
    for i in range(row.size):
        if row[i] != 0.0:
            sum_ += row[i] * weights[i]
    return sum_


@jit
def sum_of_squares(row: Array) -> float:
    """Return the sum of the squares of a row (n,)."""
    sum_ = 0.0
    for i in range(row.size):
        if row[i] != 0.0:
            sum_ += row[i] * row[i]
    return sum_


@jit
def central_moments(row: Array, values: Array) -> tuple[float, float, float, float]:
    """Return mean and central moments 2, 3, 4 of a histogram (n,) over ``values`` (n,).

    NaN of an empty histogram; of a single value the moments are exactly 0.
    """
    n, first, filled = 0.0, 0.0, 0
    for i in range(row.size):
        if row[i] != 0.0:
            n += row[i]
            first += row[i] * values[i]
            filled += row[i] > 0.0
    mean = first / n
    m2, m3, m4 = 0.0, 0.0, 0.0
    for i in range(row.size):
        if row[i] != 0.0:
            d = values[i] - mean
            square = d * d
            m2 += row[i] * square
            m3 += row[i] * (square * d)
            m4 += row[i] * (square * square)
    if filled == 1:
        return mean, 0.0, 0.0, 0.0
    return mean, m2 / n, m3 / n, m4 / n


def mixed(matrices: Array, weights: Array) -> Array:
    """Return the directions of one region, (A, n, m), weighted by (A,) and added, first to last, to one: (1, n, m)."""
    return np.add.reduce(weights[:, None, None] * matrices)[None]


def entropy(rows: Array) -> Array:
    """Return -sum p log2(p + eps) of histograms (K, A, n), p normalised: (K, A), NaN where empty."""
    with np.errstate(invalid="ignore"):
        p = rows / total(rows)[..., None]
    return -total(p * np.log2(p + EPS))
