"""Grey-level co-occurrence: pairs, and what the features need of each direction's matrix."""

import math

import numpy as np

from ._regions import COMPILED, Array, at, for_each, jit
from .sums import EPS, central_moments, entropy, weighted_sums


@jit
def count_pairs(levels: Array, rows: Array, width: int, steps: Array, out: Array) -> None:
    """Adds each pair, pairs with level 0 (outside) among them, to (A, ng + 1, ng + 1)."""
    for first in rows:
        for p in range(first, first + width):
            i = levels[at(p)]
            for a in range(steps.size):
                out[a, at(i), at(levels[at(p + steps[a])])] += 1


def glcm_sums(counts: Array, histogram: Array, n_levels: Array, log_weights: Array, symmetric: bool) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glcm_sums`."""
    marginals, diagonals, joint = statistics_of_directions(counts, n_levels, log_weights, symmetric)
    ng = counts.shape[-1]
    (x, y), (added, subtracted) = marginals.transpose(2, 0, 1, 3), diagonals.transpose(2, 0, 1, 3)
    level, k, top = np.arange(1.0, ng + 1), np.arange(2.0 * ng), n_levels[:, None].astype(np.float64)
    (mean_x, variance_x, *_), (mean_y, variance_y, *_) = central_moments(x, level), central_moments(y, level)
    with np.errstate(divide="ignore", invalid="ignore"):  # a region without levels has no top
        of_differences = weighted_sums(
            subtracted,
            *(k * k, 1 / (1 + k), 1 / (1 + k * k), 1 / (1 + k / top), 1 / (1 + (k * k) / (top * top))),
            1 / np.where(k == 0, np.inf, k * k),
        )
    sums = [
        *(entropy(rows) for rows in (x, y, added, subtracted)),
        *(mean_x, mean_y, variance_x, variance_y),
        *central_moments(added, k + 2),
        *central_moments(subtracted, k)[:2],
        *of_differences,
    ]
    flat = np.broadcast_to(((histogram > 0).sum(1) == 1)[:, None], joint.shape[:2])
    table = np.stack([*np.moveaxis(joint, 2, 0), *sums, flat], 2)
    table[..., 1:-1][joint[..., 0] == 0] = np.nan
    return table


def statistics_of_directions(
    counts: Array, n_levels: Array, log_weights: Array, symmetric: bool
) -> tuple[Array, Array, Array]:
    """Marginals p_x, p_y (K, A, 2, ng); p_{x+y} from sum 2 and p_{x-y} from 0 (K, A, 2, 2 ng); columns 0 to 7."""
    regions, directions, ng = counts.shape[:3]
    rows = 1 if len(log_weights) else directions
    marginals = np.zeros((regions, rows, 2, ng))
    diagonals = np.zeros((regions, rows, 2, 2 * ng))
    joint = np.zeros((regions, rows, 8))

    def task(k: int) -> None:
        matrices = counts[k, :, : n_levels[k], : n_levels[k]]  # levels above are empty
        mix = weights(matrices, log_weights[k]) if len(log_weights) else np.empty(0)
        statistics_of_region(matrices, mix, symmetric, marginals[k], diagonals[k], joint[k])

    for_each(task, regions, counts.size * COMPILED)
    return marginals, diagonals, joint


@jit
def statistics_of_region(
    matrices: Array, mix: Array, symmetric: bool, marginals: Array, diagonals: Array, joint: Array
) -> None:
    """Of the directions (A, n, n) of one region, each alone or all mixed by weights (A,) if there are any."""
    present, levels = np.empty(matrices.shape[1], np.int64), 0
    for i in range(matrices.shape[1]):
        if matrices[:, i].any() or matrices[:, :, i].any():  # many levels below the greatest may be empty too
            present[levels] = i
            levels += 1
    present = present[:levels]
    counts, scaled, square = np.empty((levels, levels)), np.empty((levels, levels)), np.empty((levels, levels))
    space = np.zeros((4, levels + 1))
    for row in range(len(joint)):
        for m in range(levels):
            for n in range(levels):
                i, j = present[m], present[n]
                if mix.size:
                    counts[m, n] = 0.0
                    for a in range(len(mix)):
                        counts[m, n] += mix[a] * matrices[a, i, j]
                else:
                    counts[m, n] = matrices[row, i, j]
        if not sums_of_pairs(counts, present, symmetric, marginals[row], diagonals[row], joint[row], scaled):
            continue
        if symmetric:
            square[:] = scaled
        else:
            for m in range(levels):
                for n in range(levels):
                    square[m, n] = 0.0
                    for o in range(levels):
                        square[m, n] += scaled[m, o] * scaled[n, o]
        tridiagonalise(square, space[0], space[1], space[2], space[3])
        second = eigenvalue(levels, space[2], space[3], 1.0, 2)
        if symmetric:  # it has the absolute eigenvalues: the largest near 1, the second maybe of one below 0
            second = max(second, eigenvalue(levels, space[2], space[3], -1.0, 1)) ** 2
        joint[row, 7] = second


def weights(counts: Array, log_weights: Array) -> Array:
    """exp(log weight) of each direction, scaled so that the heaviest one with pairs has weight 1.

    The features do not see a common factor, and so a large spacing does not underflow to an empty matrix.
    """
    filled = counts.any((1, 2))
    heaviest = log_weights[filled].max(initial=-np.inf)
    return np.exp(np.where(filled, log_weights - heaviest, -np.inf))


@jit
def sums_of_pairs(
    counts: Array, present: Array, symmetric: bool, marginals: Array, diagonals: Array, joint: Array, scaled: Array
) -> bool:
    """Of one direction: fills p_x, p_y; p_{x+y}, p_{x-y}; joint columns 0 to 6; false if it has no pairs.

    ``counts`` (m, m) are of the m levels ``present`` only. ``scaled`` (m, m) becomes p / sqrt(px py + eps): PyRadiomics
    adds eps there, which shows where a part of the region holds few pixels.
    """
    total = 0.0
    for m in range(len(present)):
        for n in range(len(present)):
            scaled[m, n] = counts[m, n] + counts[n, m] if symmetric else counts[m, n]
            total += scaled[m, n]
    joint[0] = total
    if total == 0.0:
        joint[1:] = np.nan
        return False
    mean_x, mean_y = 0.0, 0.0
    for m, i in enumerate(present):
        for n, j in enumerate(present):
            p = scaled[m, n] / total
            scaled[m, n] = p
            marginals[0, i] += p
            marginals[1, j] += p
            diagonals[0, i + j] += p
            diagonals[1, abs(i - j)] += p
    for i in present:
        mean_x += marginals[0, i] * (i + 1.0)
        mean_y += marginals[1, i] * (i + 1.0)
    for m, i in enumerate(present):
        for n, j in enumerate(present):
            p, independent = scaled[m, n], marginals[0, i] * marginals[1, j]
            log_independent = math.log2(independent + EPS)
            joint[4] -= independent * log_independent
            if p > 0.0:
                joint[1] += p * p
                joint[2] -= p * math.log2(p + EPS)
                joint[3] -= p * log_independent
                joint[5] = max(joint[5], p)
                joint[6] += p * (i + 1.0 - mean_x) * (j + 1.0 - mean_y)
            scaled[m, n] = p / math.sqrt(independent + EPS)
    return True


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
            beside[k + 1] = 0.0
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
def eigenvalue(n: int, diagonal: Array, beside: Array, sign: float, rank: int) -> float:
    """Of ``sign`` times a tridiagonal matrix, the rank-th largest eigenvalue, or 0 if it is below, by Sturm counts.

    Eight shifts at once cut the interval to a ninth each time: their divisions do not wait for each other.
    """
    low, high = 0.0, 0.0
    for i in range(n):  # Gershgorin
        high = max(high, abs(diagonal[i]) + abs(beside[i]) + abs(beside[i + 1]))
    pivot, above = np.empty(8), np.empty(8, np.int64)
    for _ in range(20):
        step = (high - low) / 9.0
        for s in range(8):
            pivot[s], above[s] = 1.0, 0
        for i in range(n):
            square = beside[i] * beside[i]
            for s in range(8):
                q = sign * diagonal[i] - (low + (s + 1) * step) - square / pivot[s]
                q = 1e-300 if q == 0.0 else q
                pivot[s] = q
                above[s] += q > 0.0
        parts = 0
        for s in range(8):
            parts += above[s] >= rank
        low += parts * step
        high = low + step
    return low
