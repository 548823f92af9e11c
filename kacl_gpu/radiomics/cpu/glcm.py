"""Grey-level co-occurrence: pairs, and what the features need of each direction's matrix."""

import math

import numpy as np

from ..columns import GLCM
from ..constants import EPS
from ._compile import jit
from ._regions import Array, at
from ._sums import central_moments, entropy, mixed, weighted_sum
from ._threads import COMPILED, for_each

TOGETHER = 4  # regions that a thread computes between two returns to Python, where it waits for the others


@jit
def count_pairs(levels: Array, rows: Array, steps: Array, out: Array) -> None:
    """Add each pair, pairs with level 0 (outside) among them, to (A, ng + 1, ng + 1)."""
    for row in range(rows.shape[0]):
        for p in range(rows[row, 0], rows[row, 1]):
            i = levels[at(p)]
            for a in range(steps.size):
                out[a, at(i), at(levels[at(p + steps[a])])] += 1


def glcm_sums(
    counts: Array, histogram: Array, n_levels: Array, log_weights: Array, *, symmetric: bool, mcc: bool
) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glcm_sums`."""
    marginals, diagonals, out = statistics_of_directions(counts, log_weights, symmetric, mcc)
    for k, top in enumerate(n_levels.tolist()):
        write_marginal_sums(marginals[k], diagonals[k], float(top), out[k])
    out[..., GLCM.hx], out[..., GLCM.hy] = entropy(marginals).transpose(2, 0, 1)
    out[..., GLCM.h_sum], out[..., GLCM.h_difference] = entropy(diagonals).transpose(2, 0, 1)
    empty = out[..., GLCM.total] == 0
    out[empty] = np.nan
    out[empty, GLCM.total] = 0
    out[..., GLCM.flat] = ((histogram > 0).sum(1) == 1)[:, None]
    return out


def statistics_of_directions(
    counts: Array, log_weights: Array, symmetric: bool, mcc: bool
) -> tuple[Array, Array, Array]:
    """Return p_x, p_y (K, A, 2, ng); p_{x+y} from sum 2, p_{x-y} from 0 (K, A, 2, 2 ng); the table of sums (K, A, 29).

    Of the table are filled the total, the sums over pairs of levels and MCC; the other columns are 0.
    """
    regions, directions, ng = counts.shape[:3]
    rows = 1 if len(log_weights) else directions
    marginals = np.zeros((regions, rows, 2, ng))
    diagonals = np.zeros((regions, rows, 2, 2 * ng))
    out = np.zeros((regions, rows, len(GLCM)))

    def task(k: int) -> None:
        group = slice(k * TOGETHER, (k + 1) * TOGETHER)
        matrices = counts[group]
        if len(log_weights):
            matrices = np.stack([mixed(one, weights(one, logs)) for one, logs in zip(matrices, log_weights[group])])
        filled = np.add.reduce(matrices, 1) > 0
        filled = filled.any(1) | filled.any(2)  # many levels below the greatest may be empty too, above it all are
        present, levels = np.argsort(~filled, 1, kind="stable"), filled.sum(1)
        scaled = np.empty((*matrices.shape[:2], levels.max(), levels.max()))
        logs = np.empty((2, *scaled.shape[2:]))
        tables = marginals[group], diagonals[group], out[group]
        sums_of_pairs(matrices, present, levels, symmetric, tables, scaled, logs)
        if not mcc:
            out[group, :, GLCM.mcc_square] = np.nan
            return
        if not symmetric:
            for matrix, n in zip(scaled, levels):
                matrix[:, :n, :n] = np.einsum("aio,ajo->aij", matrix[:, :n, :n], matrix[:, :n, :n])
        u, w = np.empty((2, scaled.shape[-1]))
        diagonal, beside = np.zeros((2, *matrices.shape[:2], scaled.shape[-1] + 1))
        tridiagonalise(scaled, levels, u, w, diagonal, beside)
        second_eigenvalues(diagonal, beside, levels, symmetric, out[group])

    for_each(task, -(-regions // TOGETHER), counts.size * COMPILED)
    return marginals, diagonals, out


def weights(counts: Array, log_weights: Array) -> Array:
    """Return exp(log weight) of each direction, scaled so that the heaviest one with pairs has weight 1.

    The features do not see a common factor, and so a large spacing does not underflow to an empty matrix.
    """
    filled = counts.any((1, 2))
    heaviest = log_weights[filled].max(initial=-np.inf)
    return np.exp(np.where(filled, log_weights - heaviest, -np.inf))


@jit
def write_marginal_sums(marginals: Array, diagonals: Array, top: float, out: Array) -> None:
    """Write the columns of (A, 29) that follow from p_x, p_y (A, 2, n) and p_{x+y}, p_{x-y} (A, 2, 2 n)."""
    n = marginals.shape[2]
    levels, sums, weights = np.empty(n), np.empty(2 * n), np.empty((6, 2 * n))
    for i in range(n):
        levels[i] = i + 1.0
    for i in range(2 * n):
        k = float(i)
        sums[i] = k + 2.0
        weights[0, i] = k * k
        weights[1, i] = 1.0 / (1.0 + k)
        weights[2, i] = 1.0 / (1.0 + k * k)
        weights[3, i] = 1.0 / (1.0 + k / top)
        weights[4, i] = 1.0 / (1.0 + (k * k) / (top * top))
        weights[5, i] = 1.0 / (k * k) if i > 0 else 0.0
    differences = np.empty(2 * n)
    for i in range(2 * n):
        differences[i] = i
    for a in range(out.shape[0]):
        row, subtracted = out[a], diagonals[a, 1]
        row[GLCM.contrast] = weighted_sum(subtracted, weights[0])
        row[GLCM.inverse] = weighted_sum(subtracted, weights[1])
        row[GLCM.inverse_square] = weighted_sum(subtracted, weights[2])
        row[GLCM.inverse_normalised] = weighted_sum(subtracted, weights[3])
        row[GLCM.inverse_square_normalised] = weighted_sum(subtracted, weights[4])
        row[GLCM.inverse_variance] = weighted_sum(subtracted, weights[5])
        mean, m2, m3, m4 = central_moments(diagonals[a, 0], sums)
        row[GLCM.sum_mean], row[GLCM.sum_m2], row[GLCM.sum_m3], row[GLCM.sum_m4] = mean, m2, m3, m4
        mean, m2, m3, m4 = central_moments(marginals[a, 0], levels)
        row[GLCM.mean_x], row[GLCM.variance_x] = mean, m2
        mean, m2, m3, m4 = central_moments(marginals[a, 1], levels)
        row[GLCM.mean_y], row[GLCM.variance_y] = mean, m2
        mean, m2, m3, m4 = central_moments(subtracted, differences)
        row[GLCM.difference_mean], row[GLCM.difference_m2] = mean, m2


@jit
def sums_of_pairs(
    counts: Array,
    present: Array,
    levels: Array,
    symmetric: bool,
    tables: tuple[Array, Array, Array],
    scaled: Array,
    logs: Array,
) -> None:
    """Fill p_x, p_y; p_{x+y}, p_{x-y}; total and sums over pairs of levels of each direction; 0 without pairs.

    Of ``counts`` (K, A, n, n) only ``levels`` (K,) levels have pairs, of which ``present`` (K, n) begins with a list.
    Among these, ``scaled`` becomes p / sqrt(px py + eps): PyRadiomics adds eps there, which shows where a part of the
    region holds few pixels. ``logs`` (2, n, n) is scratch.
    """
    marginals, diagonals, out = tables
    for k in range(counts.shape[0]):
        for a in range(counts.shape[1]):
            count, p_xy, sums = counts[k, a], scaled[k, a], out[k, a]
            (p_x, p_y), (added, subtracted) = marginals[k, a], diagonals[k, a]
            for m in range(levels[k]):
                for n in range(levels[k]):
                    i, j = present[k, m], present[k, n]
                    p_xy[m, n] = count[i, j] + (count[j, i] if symmetric else 0)
                    sums[GLCM.total] += p_xy[m, n]
            if sums[GLCM.total] == 0.0:
                continue
            for m in range(levels[k]):
                for n in range(levels[k]):
                    i, j = present[k, m], present[k, n]
                    p_xy[m, n] /= sums[GLCM.total]
                    p_x[i] += p_xy[m, n]
                    p_y[j] += p_xy[m, n]
                    added[i + j] += p_xy[m, n]
                    subtracted[abs(i - j)] += p_xy[m, n]
            mean_x, mean_y = 0.0, 0.0
            for m in range(levels[k]):
                i = present[k, m]
                mean_x += p_x[i] * (i + 1.0)
                mean_y += p_y[i] * (i + 1.0)
            for m in range(levels[k]):
                for n in range(levels[k]):
                    i, j = present[k, m], present[k, n]
                    p, independent = p_xy[m, n], p_x[i] * p_y[j]
                    if symmetric and n < m:  # the other half, to the last bit
                        log, log_independent = logs[0, n, m], logs[1, n, m]
                        p_xy[m, n] = p_xy[n, m]
                    else:
                        log_independent = math.log2(independent + EPS)
                        log = math.log2(p + EPS) if p > 0.0 else 0.0
                        logs[0, m, n], logs[1, m, n] = log, log_independent
                        p_xy[m, n] = p / math.sqrt(independent + EPS)
                    sums[GLCM.hxy2] -= independent * log_independent
                    if p > 0.0:
                        sums[GLCM.energy] += p * p
                        sums[GLCM.hxy] -= p * log
                        sums[GLCM.hxy1] -= p * log_independent
                        sums[GLCM.maximum] = max(sums[GLCM.maximum], p)
                        sums[GLCM.covariance] += p * (i + 1.0 - mean_x) * (j + 1.0 - mean_y)


@jit
def tridiagonalise(matrices: Array, sizes: Array, u: Array, w: Array, diagonals: Array, besides: Array) -> None:
    """Bring matrices (n, n) in place to tridiagonal form by Householder's reflections.

    The diagonal is (n,), and ``besides[..., 1:n]`` the numbers beside it.

    LAPACK would do, but its threads fight with those over the regions.
    """
    for which in range(matrices.shape[0] * matrices.shape[1]):
        row, a = which // matrices.shape[1], which % matrices.shape[1]
        matrix, beside, n = matrices[row, a], besides[row, a], sizes[row]
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
            reflection, product = u[k + 1 : n], w[k + 1 : n]
            fourth = k + 1 + (n - k - 1) // 4 * 4
            for j in range(k + 1, fourth, 4):
                add_rows(matrix[j : j + 4, k + 1 : n], u[j : j + 4], product)
            for j in range(fourth, n):
                add_row(matrix[j, k + 1 : n], u[j], product)
            projection = 0.0
            for i in range(k + 1, n):
                w[i] *= 2.0 / square
                projection += u[i] * w[i]
            for j in range(k + 1, n):
                w[j] -= projection / square * u[j]
            for j in range(k + 1, n):
                subtract_products(matrix[j, k + 1 : n], u[j], product, w[j], reflection)
        for i in range(n):
            diagonals[row, a, i] = matrix[i, i]


# Loops over few arrays, which the compiler turns into vector instructions; sums keep their order


@jit
def add_rows(rows: Array, factors: Array, out: Array) -> None:
    """Add four rows (4, n), the first first, each times its factor."""
    one, two, three, four = rows[0], rows[1], rows[2], rows[3]
    a, b, c, d = factors[0], factors[1], factors[2], factors[3]
    for i in range(out.size):
        out[i] = (((out[i] + one[i] * a) + two[i] * b) + three[i] * c) + four[i] * d


@jit
def add_row(row: Array, factor: float, out: Array) -> None:
    """Add a row times a factor."""
    for i in range(out.size):
        out[i] += row[i] * factor


@jit
def subtract_products(row: Array, a: float, x: Array, b: float, y: Array) -> None:
    """Subtract a x + b y from a row."""
    for i in range(row.size):
        row[i] -= a * x[i] + b * y[i]


@jit
def second_eigenvalues(diagonals: Array, besides: Array, sizes: Array, absolute: bool, out: Array) -> None:
    """Write the second largest eigenvalue of each tridiagonal matrix (n, n) as the square of its MCC.

    If ``absolute``, the square of the second largest absolute one: the largest is near 1, so that is the second, or the
    lowest. Eigenvalues are found by Sturm counts. Eight shifts at once cut the interval to a ninth each time: their
    divisions do not wait for each other.
    """
    shifts = np.empty(16)  # for each the last pivot, and how many were above 0
    for which in range(out.shape[0] * out.shape[1]):
        row, a = which // out.shape[1], which % out.shape[1]
        diagonal, beside, n, second = diagonals[row, a], besides[row, a], sizes[row], 0.0
        bound = 0.0
        for i in range(n):  # Gershgorin
            bound = max(bound, abs(diagonal[i]) + abs(beside[i]) + abs(beside[i + 1]))
        for sign, rank in ((1.0, 2), (-1.0, 1)):
            if sign < 0.0 and not (absolute and some_below(diagonal, beside, n, -second)):
                break
            low, high = 0.0, bound
            for _ in range(20):
                step = (high - low) / 9.0
                for s in range(8):
                    shifts[s], shifts[8 + s] = 1.0, 0.0
                for i in range(n):
                    centre, square = sign * diagonal[i], beside[i] * beside[i]
                    for s in range(8):
                        q = centre - (low + (s + 1) * step) - square / shifts[s]
                        q = 1e-300 if q == 0.0 else q
                        shifts[s] = q
                        shifts[8 + s] += 1.0 if q > 0.0 else 0.0
                parts = 0
                for s in range(8):
                    parts += shifts[8 + s] >= rank
                low += parts * step
                high = low + step
            second = max(second, low)
        out[row, a, GLCM.mcc_square] = second * second if absolute else second


@jit
def some_below(diagonal: Array, beside: Array, n: int, limit: float) -> bool:
    """Return True if a tridiagonal matrix has an eigenvalue below a limit: else none is found there."""
    pivot, number = 1.0, 0
    for i in range(n):
        pivot = -diagonal[i] + limit - beside[i] * beside[i] / pivot
        pivot = 1e-300 if pivot == 0.0 else pivot
        number += pivot > 0.0
    return number > 0
