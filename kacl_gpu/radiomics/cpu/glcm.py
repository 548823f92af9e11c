"""Grey-level co-occurrence: the counts, and what the features need of each direction's matrix."""

import math

import numpy as np

from ._regions import CELLS_AT_ONCE, Array, at, for_each, jit, volume, with_margin
from .sums import EPS


def glcm(levels: Array, start: Array, size: Array, offsets: Array, ng: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glcm`."""
    out = np.zeros((len(start), len(offsets), ng, ng), np.int32)

    def task(k: int) -> None:
        table = np.zeros((len(offsets), ng + 1, ng + 1), np.int32)  # with level 0, so that no pair needs a test
        count_pairs(*with_margin(volume(levels, start, size, k), offsets), table)
        out[k] = table[:, 1:, 1:]

    for_each(task, len(start), len(levels))
    return out


@jit
def count_pairs(levels: Array, rows: Array, width: int, steps: Array, out: Array) -> None:
    for first in rows:
        for p in range(first, first + width):
            i = levels[at(p)]
            for a in range(steps.size):
                out[a, at(i), at(levels[at(p + steps[a])])] += 1


def glcm_statistics(counts: Array, n_levels: Array, log_weights: Array, symmetric: bool) -> tuple[Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.glcm_statistics`."""
    regions, directions, ng = counts.shape[:3]
    rows = 1 if len(log_weights) else directions
    marginals = np.zeros((regions, rows, 2, ng))
    diagonals = np.zeros((regions, rows, 2, 2 * ng))
    joint = np.zeros((regions, rows, 8))

    def task(k: int) -> None:
        matrices = counts[k, :, : n_levels[k], : n_levels[k]]  # levels above are empty
        pairs = matrices.sum(0)
        present = np.flatnonzero(pairs.any(0) | pairs.any(1))  # and many below may be
        matrices = matrices[:, present[:, None], present]
        if len(log_weights):
            matrices = np.einsum("a,aij->ij", weights(matrices, log_weights[k]), matrices)[None]
        if symmetric:
            matrices = matrices + matrices.swapaxes(1, 2)
        several = max(CELLS_AT_ONCE // max(matrices[0].size, 1), 1)
        for first in range(0, rows, several):
            a = slice(first, first + several)
            statistics_of(matrices[a], present, symmetric, marginals[k, a], diagonals[k, a], joint[k, a])

    for_each(task, regions, counts.size)
    return marginals, diagonals, joint


def weights(counts: Array, log_weights: Array) -> Array:
    """exp(log weight) of each direction, scaled so that the heaviest one with pairs has weight 1.

    The features do not see a common factor, and so a large spacing does not underflow to an empty matrix.
    """
    filled = counts.any((1, 2))
    heaviest = log_weights[filled].max(initial=-np.inf)
    return np.exp(np.where(filled, log_weights - heaviest, -np.inf))


def statistics_of(
    counts: Array, present: Array, symmetric: bool, marginals: Array, diagonals: Array, joint: Array
) -> None:
    """Of A directions (A, m, m) over the m levels present, from 0: fills p_x, p_y; p_{x+y}, p_{x-y}; joint columns."""
    total = counts.sum((1, 2))
    p = counts / np.where(total == 0, 1, total)[:, None, None]
    px, py = p.sum(2), p.sum(1)
    marginals[:, 0, present], marginals[:, 1, present] = px, py
    lines, direction = diagonals.shape[2], np.arange(len(p))[:, None, None]
    for side, line in enumerate((present[:, None] + present, abs(present[:, None] - present))):
        sums = np.bincount((direction * lines + line).ravel(), p.ravel(), len(p) * lines)
        diagonals[:, side] = sums.reshape(len(p), lines)
    x, y = (present + 1.0 - (m * (present + 1.0)).sum(1, keepdims=True) for m in (px, py))
    joint_sums(p, px, py, x, y, joint)
    # PyRadiomics adds eps here, which shows where a part of the region holds few pixels.
    second_singular_value_squares(p / np.sqrt(px[:, :, None] * py[:, None] + EPS), symmetric, joint)
    joint[:, 0], joint[total == 0, 1:] = total, np.nan


@jit
def joint_sums(p: Array, px: Array, py: Array, x: Array, y: Array, out: Array) -> None:
    """Joint columns 1 to 6 of each direction's p (A, m, m) over levels whose distances from their means are x and y."""
    for a in range(p.shape[0]):
        for i in range(p.shape[1]):
            for j in range(p.shape[2]):
                v, independent = p[a, i, j], px[a, i] * py[a, j]
                log_independent = math.log2(independent + EPS)
                out[a, 4] -= independent * log_independent
                if v > 0.0:
                    out[a, 1] += v * v
                    out[a, 2] -= v * math.log2(v + EPS)
                    out[a, 3] -= v * log_independent
                    out[a, 5] = max(out[a, 5], v)
                    out[a, 6] += v * x[a, i] * y[a, j]


def second_singular_value_squares(scaled: Array, symmetric: bool, out: Array) -> None:
    """Of p / sqrt(px py) (A, m, m): the squares of the maximal correlation coefficient, to joint column 7."""
    matrices = scaled if symmetric else np.einsum("aik,ajk->aij", scaled, scaled)
    for a, matrix in enumerate(matrices):
        u, w, diagonal, beside = np.zeros((4, len(matrix) + 1))
        tridiagonalise(matrix, u, w, diagonal, beside)
        out[a, 7] = bisect_eigenvalue(len(matrix), diagonal, beside, 1.0, 2)
        if symmetric:  # singular values are absolute eigenvalues: the largest is near 1, the second may be negative
            out[a, 7] = max(out[a, 7], bisect_eigenvalue(len(matrix), diagonal, beside, -1.0, 1)) ** 2


@jit
def tridiagonalise(matrix: Array, u: Array, w: Array, diagonal: Array, beside: Array) -> None:
    """Householder's reflections, in place; what stands beside the diagonal goes to ``beside[1:-1]``.

    LAPACK would do, but its threads fight with those over the regions.
    """
    n = matrix.shape[0]
    for k in range(n - 1):
        square = 0.0
        for i in range(k + 1, n):
            u[i], w[i] = matrix[k, i], 0.0
            square += u[i] * u[i]
        if square < 1e-36:  # nothing, beside entries near 1; smaller squares would lose their digits
            continue
        length = math.sqrt(square)
        beside[k + 1] = -length if u[k + 1] > 0.0 else length
        square = 2.0 * length * (length + abs(u[k + 1]))  # of the reflection's vector
        u[k + 1] -= beside[k + 1]
        for j in range(k + 1, n):
            for i in range(k + 1, n):
                w[i] += matrix[j, i] * u[j]
        projection = 0.0
        for i in range(k + 1, n):
            w[i] *= 2.0 / square
            projection += u[i] * w[i]
        for j in range(k + 1, n):
            w[j] -= projection / square * u[j]
        for j in range(k + 1, n):
            for i in range(k + 1, n):
                matrix[j, i] -= u[j] * w[i] + w[j] * u[i]
    for i in range(n):
        diagonal[i] = matrix[i, i]


@jit
def bisect_eigenvalue(n: int, diagonal: Array, beside: Array, sign: float, rank: int) -> float:
    """Of ``sign`` times a tridiagonal matrix, the rank-th largest eigenvalue, or 0 if it is below, by Sturm counts."""
    low, high = 0.0, 0.0
    for i in range(n):  # Gershgorin
        high = max(high, abs(diagonal[i]) + abs(beside[i]) + abs(beside[i + 1]))
    for _ in range(64):
        middle = 0.5 * (low + high)
        above, pivot = 0, 1.0
        for i in range(n):
            pivot = sign * diagonal[i] - middle - beside[i] * beside[i] / pivot
            if pivot == 0.0:
                pivot = 1e-300
            above += pivot > 0.0
        if above >= rank:
            low = middle
        else:
            high = middle
    return low
