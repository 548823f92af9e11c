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
        if len(log_weights):
            matrices = np.add.reduce(weights(matrices, log_weights[k])[:, None, None] * matrices)[None]
        pairs = np.add.reduce(matrices) > 0
        present = np.flatnonzero(pairs.any(0) | pairs.any(1))  # many levels below the greatest may be empty too
        scaled = np.empty((rows, len(present), len(present)))
        sums_of_pairs(matrices, present, symmetric, marginals[k], diagonals[k], joint[k], scaled)
        if not symmetric:
            scaled = np.einsum("aio,ajo->aij", scaled, scaled)
        u, w = np.empty((2, len(present)))
        diagonal, beside = np.empty(scaled.shape[:2]), np.zeros((rows, len(present) + 1))
        tridiagonalise(scaled, u, w, diagonal, beside)
        second_eigenvalues(diagonal, beside, symmetric, joint[k])

    for_each(task, regions, counts.size * COMPILED)
    return marginals, diagonals, joint


def weights(counts: Array, log_weights: Array) -> Array:
    """exp(log weight) of each direction, scaled so that the heaviest one with pairs has weight 1.

    The features do not see a common factor, and so a large spacing does not underflow to an empty matrix.
    """
    filled = counts.any((1, 2))
    heaviest = log_weights[filled].max(initial=-np.inf)
    return np.exp(np.where(filled, log_weights - heaviest, -np.inf))


@jit
def sums_of_pairs(
    matrices: Array, present: Array, symmetric: bool, marginals: Array, diagonals: Array, joint: Array, scaled: Array
) -> None:
    """Of each direction: fills p_x, p_y; p_{x+y}, p_{x-y}; joint columns 0 to 6. One without pairs stays 0.

    Of ``matrices`` (A, n, n) only the m levels ``present`` have pairs. ``scaled`` (A, m, m) becomes
    p / sqrt(px py + eps): PyRadiomics adds eps there, which shows where a part of the region holds few pixels.
    """
    for a in range(len(matrices)):
        total = 0.0
        for m in range(present.size):
            for n in range(present.size):
                i, j = present[m], present[n]
                scaled[a, m, n] = matrices[a, i, j] + (matrices[a, j, i] if symmetric else 0)
                total += scaled[a, m, n]
        joint[a, 0] = total
        if total == 0.0:
            continue
        for m in range(present.size):
            for n in range(present.size):
                i, j = present[m], present[n]
                p = scaled[a, m, n] / total
                scaled[a, m, n] = p
                marginals[a, 0, i] += p
                marginals[a, 1, j] += p
                diagonals[a, 0, i + j] += p
                diagonals[a, 1, abs(i - j)] += p
        mean_x, mean_y = 0.0, 0.0
        for i in present:
            mean_x += marginals[a, 0, i] * (i + 1.0)
            mean_y += marginals[a, 1, i] * (i + 1.0)
        for m in range(present.size):
            for n in range(present.size):
                i, j = present[m], present[n]
                p, independent = scaled[a, m, n], marginals[a, 0, i] * marginals[a, 1, j]
                log_independent = math.log2(independent + EPS)
                joint[a, 4] -= independent * log_independent
                if p > 0.0:
                    joint[a, 1] += p * p
                    joint[a, 2] -= p * math.log2(p + EPS)
                    joint[a, 3] -= p * log_independent
                    joint[a, 5] = max(joint[a, 5], p)
                    joint[a, 6] += p * (i + 1.0 - mean_x) * (j + 1.0 - mean_y)
                scaled[a, m, n] = p / math.sqrt(independent + EPS)


@jit
def tridiagonalise(matrices: Array, u: Array, w: Array, diagonals: Array, besides: Array) -> None:
    """Householder's reflections, in place; what stands beside the diagonal (A, n) goes to ``besides[:, 1:-1]``.

    LAPACK would do, but its threads fight with those over the regions.
    """
    n = u.size
    for a in range(len(matrices)):
        matrix, beside = matrices[a], besides[a]
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
            diagonals[a, i] = matrix[i, i]


@jit
def second_eigenvalues(diagonals: Array, besides: Array, absolute: bool, joint: Array) -> None:
    """Of tridiagonal matrices (A, n), the second largest eigenvalue to joint column 7.

    If ``absolute``, the square of the second largest absolute one: the largest is near 1, so that is the second, or the
    lowest. Eigenvalues are found by Sturm counts. Eight shifts at once cut the interval to a ninth each time: their
    divisions do not wait for each other.
    """
    pivot, above = np.empty(8), np.empty(8, np.int64)
    for a in range(len(diagonals)):
        diagonal, beside = diagonals[a], besides[a]
        bound = 0.0
        for i in range(diagonal.size):  # Gershgorin
            bound = max(bound, abs(diagonal[i]) + abs(beside[i]) + abs(beside[i + 1]))
        for sign, rank in ((1.0, 2), (-1.0, 1)):
            if not absolute and sign < 0.0:
                break
            low, high = 0.0, bound
            for _ in range(20):
                step = (high - low) / 9.0
                for s in range(8):
                    pivot[s], above[s] = 1.0, 0
                for i in range(diagonal.size):
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
            joint[a, 7] = max(joint[a, 7], low)
        if absolute:
            joint[a, 7] *= joint[a, 7]
