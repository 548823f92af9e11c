"""Grey-level co-occurrence: the counts, and what the features need of each direction's matrix."""

import math

import numpy as np

from ._regions import Array, at, for_each, jit, volume, with_margin
from .sums import EPS


def glcm(levels: Array, start: Array, size: Array, offsets: Array, ng: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glcm`."""
    out = np.zeros((len(start), len(offsets), ng, ng), np.int32)

    def task(k: int) -> None:
        table = np.zeros((len(offsets), ng + 1, ng + 1), np.int32)  # with level 0, so that no pair needs a test
        count_pairs(*with_margin(volume(levels, start, size, k), offsets), table)
        out[k] = table[:, 1:, 1:]

    for_each(task, len(start))
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
        present = np.flatnonzero(matrices.any((0, 1)) | matrices.any((0, 2)))  # and many below may be
        matrices = matrices[:, present[:, None], present]
        if len(log_weights):
            matrices = np.einsum("a,aij->ij", weights(matrices, log_weights[k]), matrices)[None]
        if symmetric:
            matrices = matrices + matrices.swapaxes(1, 2)
        total = matrices.sum((1, 2))
        joint[k, :, 0], joint[k, :, 1:] = total, np.nan
        for a in np.flatnonzero(total):
            p = matrices[a] / float(total[a])
            px, py = p.sum(1), p.sum(0)
            marginals[k, a, 0, present], marginals[k, a, 1, present] = px, py
            for side, line in enumerate((present[:, None] + present, abs(present[:, None] - present))):
                diagonals[k, a, side] = np.bincount(line.ravel(), p.ravel(), 2 * ng)
            level, scaled = present + 1.0, np.empty_like(p)
            joint_sums(p, px, py, level - np.sum(px * level), level - np.sum(py * level), scaled, joint[k, a])
            joint[k, a, 7] = second_singular_value_square(scaled, symmetric)

    for_each(task, regions)
    return marginals, diagonals, joint


def weights(counts: Array, log_weights: Array) -> Array:
    """exp(log weight) of each direction, scaled so that the heaviest one with pairs has weight 1.

    The features do not see a common factor, and so a large spacing does not underflow to an empty matrix.
    """
    filled = counts.any((1, 2))
    heaviest = log_weights[filled].max(initial=-np.inf)
    return np.exp(np.where(filled, log_weights - heaviest, -np.inf))


@jit
def joint_sums(p: Array, px: Array, py: Array, x: Array, y: Array, scaled: Array, out: Array) -> None:
    """Joint columns 1 to 6 of one direction's p over levels ``x``, ``y`` from their means; and p / sqrt(px py)."""
    energy, hxy, hxy1, hxy2, maximum, covariance = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(px.size):
        for j in range(py.size):
            v, independent = p[i, j], px[i] * py[j]
            log_independent = math.log2(independent + EPS)
            hxy2 -= independent * log_independent
            if v > 0.0:
                energy += v * v
                hxy -= v * math.log2(v + EPS)
                hxy1 -= v * log_independent
                maximum = max(maximum, v)
                covariance += v * x[i] * y[j]
            # PyRadiomics adds eps here, which shows where a part of the region holds few pixels.
            scaled[i, j] = v / math.sqrt(independent + EPS)
    out[1], out[2], out[3], out[4], out[5], out[6] = energy, hxy, hxy1, hxy2, maximum, covariance


def second_singular_value_square(scaled: Array, symmetric: bool) -> float:
    """Of p / sqrt(px py): the square of the maximal correlation coefficient."""
    matrix = scaled if symmetric else np.einsum("ik,jk->ij", scaled, scaled)
    n = len(matrix)
    diagonal, beside = np.empty(n), np.zeros(n + 1)
    tridiagonalise(matrix, np.empty(n), np.empty(n), diagonal, beside)
    second = bisect_eigenvalue(diagonal, beside, 1.0, 2)
    # Singular values are absolute eigenvalues of a symmetric matrix: the largest is near 1, the second may be negative.
    return max(second, bisect_eigenvalue(diagonal, beside, -1.0, 1)) ** 2 if symmetric else second


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
def bisect_eigenvalue(diagonal: Array, beside: Array, sign: float, rank: int) -> float:
    """Of ``sign`` times a tridiagonal matrix, the rank-th largest eigenvalue, or 0 if it is below, by Sturm counts."""
    low, high = 0.0, 0.0
    n = diagonal.size
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
