"""Grey-level co-occurrence: the counts, and what the features need of each direction's matrix.

Sums run over blocks of fixed shape, up to the region's highest level: how many levels others have does not show.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import GLCM

from .common import EPSILON, cdiv, constants, kernel, launch

ROWS, COLUMNS = tl.constexpr(8), tl.constexpr(32)
SMALL = COLUMNS  # levels: a matrix of up to so many stays in registers, a larger one in memory
HIGH, WIDE = tl.constexpr(32), tl.constexpr(64)  # of a matrix in memory, at once
TALL = tl.constexpr(16)  # of marginals, at once
SHIFTS = tl.constexpr(32)  # of the search for a singular value, at once
ROUNDS = tl.constexpr(11)  # 33^11 is beyond 2^55

# Columns of the table of sums
TOTAL, ENERGY, HXY, HXY1 = constants(GLCM.total, GLCM.energy, GLCM.hxy, GLCM.hxy1)
HXY2, MAXIMUM, COVARIANCE, MCC_SQUARE = constants(GLCM.hxy2, GLCM.maximum, GLCM.covariance, GLCM.mcc_square)
HX, HY, H_SUM, H_DIFFERENCE = constants(GLCM.hx, GLCM.hy, GLCM.h_sum, GLCM.h_difference)
MEAN_X, MEAN_Y, VARIANCE_X, VARIANCE_Y = constants(GLCM.mean_x, GLCM.mean_y, GLCM.variance_x, GLCM.variance_y)
SUM_MEAN, SUM_M2, SUM_M3, SUM_M4 = constants(GLCM.sum_mean, GLCM.sum_m2, GLCM.sum_m3, GLCM.sum_m4)
DIFFERENCE_MEAN, DIFFERENCE_M2 = constants(GLCM.difference_mean, GLCM.difference_m2)
CONTRAST, INVERSE = constants(GLCM.contrast, GLCM.inverse)
INVERSE_SQUARE, INVERSE_NORMALISED = constants(GLCM.inverse_square, GLCM.inverse_normalised)
INVERSE_SQUARE_NORMALISED, INVERSE_VARIANCE = constants(GLCM.inverse_square_normalised, GLCM.inverse_variance)
FLAT = tl.constexpr(GLCM.flat)
COLUMNS_OF_SUMS = tl.constexpr(len(GLCM))


@triton.jit
def total_of(counts, matrix, ng, top):
    """Return the sum of one matrix up to level ``top``."""
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    for i in range(0, top, ROWS):
        for j in range(0, top, COLUMNS):
            row, column = i + tl.arange(0, ROWS), j + tl.arange(0, COLUMNS)
            total += cells(counts, matrix, ng, top, row[:, None], column[None, :], False)
    return tl.sum(tl.sum(total, 1))


@triton.jit
def cells(counts, matrix, ng, top, i, j, SYMMETRIC: tl.constexpr):
    """Return the counts at (i, j), from 0, of one matrix (plus its transpose), float64; 0 beyond level ``top``."""
    inside = (i >= 0) & (i < top) & (j >= 0) & (j < top)
    table = counts + matrix * ng * ng
    count = tl.load(table + (i.to(tl.int64) * ng + j), mask=inside, other=0).to(tl.float64)
    if SYMMETRIC:
        count += tl.load(table + (j.to(tl.int64) * ng + i), mask=inside, other=0).to(tl.float64)
    return count


@kernel
def set_weights(
    # inputs
    counts, n_levels, log_weights,
    # outputs
    weights,
    # shapes
    directions, ng,
):  # fmt: skip
    """Write exp(log weight) of each direction, scaled so that the heaviest one with pairs has 1; 0 without pairs."""
    k = tl.program_id(0).to(tl.int64)
    top = tl.minimum(tl.load(n_levels + k), ng).to(tl.int32)
    heaviest = tl.min(tl.zeros((1,), tl.float64)) - float("inf")
    for a in range(directions):
        weight = tl.load(log_weights + k * directions + a)
        filled = total_of(counts, k * directions + a, ng, top) > 0
        tl.store(weights + k * directions + a, tl.where(filled, weight, -float("inf")))
        heaviest = tl.where(filled, tl.maximum(heaviest, weight), heaviest)
    tl.debug_barrier()
    for a in range(directions):
        weight = tl.load(weights + k * directions + a)
        tl.debug_barrier()  # a slower warp must not load what is stored below
        filled = weight > -float("inf")
        tl.store(weights + k * directions + a, tl.where(filled, tl.exp(tl.where(filled, weight - heaviest, 0.0)), 0.0))


@kernel
def combine(
    # inputs
    counts, n_levels, weights,
    # outputs
    out,
    # shapes
    directions, ng,
):  # fmt: skip
    """Write the weighted sum (K, ng, ng) float64 of a region's matrices, up to its highest level."""
    k = tl.program_id(0).to(tl.int64)
    top = tl.minimum(tl.load(n_levels + k), ng).to(tl.int32)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    for j in range(0, top, COLUMNS):
        column = j + tl.arange(0, COLUMNS)
        total = tl.zeros((ROWS, COLUMNS), tl.float64)
        for a in range(directions):
            weight = tl.load(weights + k * directions + a)
            total += weight * cells(counts, k * directions + a, ng, top, row[:, None], column[None, :], False)
        inside = (row < top)[:, None] & (column < top)[None, :]
        tl.store(out + k * ng * ng + (row.to(tl.int64)[:, None] * ng + column[None, :]), total, mask=inside)


@triton.jit
def sum_marginals(counts, matrix, out, ng, top, SYMMETRIC: tl.constexpr):
    """Write counts of one matrix by i, by j, by i + j and by |i - j|, all from 0, one after the other: (5 ng,)."""
    lane, step = tl.arange(0, COLUMNS)[None, :], tl.arange(0, TALL)[:, None]
    for first in range(0, top, COLUMNS):
        by_i = tl.zeros((TALL, COLUMNS), tl.float64)
        by_j = tl.zeros((TALL, COLUMNS), tl.float64)
        by_difference = tl.zeros((TALL, COLUMNS), tl.float64)
        line = first + lane
        for other in range(0, top, TALL):
            o = other + step
            by_j += cells(counts, matrix, ng, top, o, line, SYMMETRIC)
            if not SYMMETRIC:
                by_i += cells(counts, matrix, ng, top, line, o, SYMMETRIC)
            by_difference += cells(counts, matrix, ng, top, o, o + line, SYMMETRIC)
            by_difference += tl.where(line > 0, cells(counts, matrix, ng, top, o, o - line, SYMMETRIC), 0.0)
        if SYMMETRIC:
            by_i = by_j
        index = first + tl.arange(0, COLUMNS)
        tl.store(out + index, tl.sum(by_i, 0), mask=index < top)
        tl.store(out + ng + index, tl.sum(by_j, 0), mask=index < top)
        tl.store(out + 4 * ng + index, tl.sum(by_difference, 0), mask=index < top)
    for first in range(0, 2 * top, COLUMNS):
        by_sum = tl.zeros((TALL, COLUMNS), tl.float64)
        for other in range(0, top, TALL):
            o = other + step
            by_sum += cells(counts, matrix, ng, top, o, first + lane - o, SYMMETRIC)
        index = first + tl.arange(0, COLUMNS)
        tl.store(out + 2 * ng + index, tl.sum(by_sum, 0), mask=index < 2 * top)


@triton.jit
def moments_of(rows, count, total, first_value):
    """Return entropy, mean, central moments 2, 3, 4 of a histogram over ``first_value``, ``first_value`` + 1, ..."""
    entropy = tl.zeros((COLUMNS,), tl.float64)
    weighted = tl.zeros((COLUMNS,), tl.float64)
    present = tl.zeros((COLUMNS,), tl.int32)
    for first in range(0, count, COLUMNS):
        index = first + tl.arange(0, COLUMNS)
        n = tl.load(rows + index, mask=index < count, other=0.0)
        p = n / total
        entropy -= tl.where(n > 0, p * tl.log2(p + EPSILON), 0.0)
        weighted += n * (index + first_value)
        present += (n > 0).to(tl.int32)
    mean = tl.sum(weighted) / total
    m2 = tl.zeros((COLUMNS,), tl.float64)
    m3 = tl.zeros((COLUMNS,), tl.float64)
    m4 = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, count, COLUMNS):
        index = first + tl.arange(0, COLUMNS)
        n = tl.load(rows + index, mask=index < count, other=0.0)
        d = (index + first_value).to(tl.float64) - mean
        m2 += n * (d * d)
        m3 += n * (d * d * d)
        m4 += n * ((d * d) * (d * d))
    several = tl.where(tl.sum(present) == 1, 0.0, 1.0)  # a single value has no deviation
    return (
        tl.sum(entropy), mean, several * (tl.sum(m2) / total), several * (tl.sum(m3) / total),
        several * (tl.sum(m4) / total),
    )  # fmt: skip


@kernel
def sum_pairs(
    # inputs
    counts, histogram, n_levels,
    # scratch
    marginals,
    # outputs
    scaled, out,
    # shapes
    directions, ng,
    SYMMETRIC: tl.constexpr, MCC: tl.constexpr,
):  # fmt: skip
    """Compute all columns of one direction but the maximal correlation coefficient, which is NaN unless ``MCC``.

    ``marginals``: (K, A, 5 ng). With ``MCC``, ``scaled`` becomes p / sqrt(px py + eps). Each result is stored at once,
    to free its registers.
    """
    matrix = tl.program_id(0).to(tl.int64)
    k = matrix // directions
    level_count = tl.load(n_levels + k)
    top = tl.minimum(level_count, ng).to(tl.int32)
    row = out + matrix * COLUMNS_OF_SUMS
    px, py = marginals + matrix * 5 * ng, marginals + matrix * 5 * ng + ng
    p_sum, p_difference = px + 2 * ng, px + 4 * ng
    sum_marginals(counts, matrix, px, ng, top, SYMMETRIC)
    tl.debug_barrier()

    levels = tl.zeros((COLUMNS,), tl.int32)
    for first in range(0, ng, COLUMNS):
        index = first + tl.arange(0, COLUMNS)
        levels += (tl.load(histogram + k * ng + index, mask=index < ng, other=0) > 0).to(tl.int32)
    flat = tl.where(tl.sum(levels) == 1, 1.0, 0.0)
    added = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, top, COLUMNS):
        index = first + tl.arange(0, COLUMNS)
        added += tl.load(px + index, mask=index < top, other=0.0)
    total = tl.sum(added)
    column = tl.arange(0, 32)
    if total == 0:
        empty = tl.where(column == TOTAL, 0.0, tl.where(column == FLAT, flat, float("nan")))
        tl.store(row + column, empty.to(tl.float64), mask=column < COLUMNS_OF_SUMS)
        return

    entropy, mean_x, variance, _, _ = moments_of(px, top, total, 1)
    tl.store(row + HX, entropy)
    tl.store(row + MEAN_X, mean_x)
    tl.store(row + VARIANCE_X, variance)
    entropy, mean_y, variance, _, _ = moments_of(py, top, total, 1)
    tl.store(row + HY, entropy)
    tl.store(row + MEAN_Y, mean_y)
    tl.store(row + VARIANCE_Y, variance)
    entropy, mean, m2, m3, m4 = moments_of(p_sum, 2 * top, total, 2)
    tl.store(row + H_SUM, entropy)
    tl.store(row + SUM_MEAN, mean)
    tl.store(row + SUM_M2, m2)
    tl.store(row + SUM_M3, m3)
    tl.store(row + SUM_M4, m4)
    entropy, mean, m2, _, _ = moments_of(p_difference, top, total, 0)
    tl.store(row + H_DIFFERENCE, entropy)
    tl.store(row + DIFFERENCE_MEAN, mean)
    tl.store(row + DIFFERENCE_M2, m2)

    contrast = tl.zeros((COLUMNS,), tl.float64)
    inverse = tl.zeros((COLUMNS,), tl.float64)
    inverse_square = tl.zeros((COLUMNS,), tl.float64)
    normalised = tl.zeros((COLUMNS,), tl.float64)
    square_normalised = tl.zeros((COLUMNS,), tl.float64)
    inverse_variance = tl.zeros((COLUMNS,), tl.float64)
    highest = level_count.to(tl.float64)
    for first in range(0, top, COLUMNS):
        index = first + tl.arange(0, COLUMNS)
        p = tl.load(p_difference + index, mask=index < top, other=0.0) / total
        d = index.to(tl.float64)
        square = d * d
        contrast += p * square
        inverse += p / (1 + d)
        inverse_square += p / (1 + square)
        normalised += p / (1 + d / highest)
        square_normalised += p / (1 + square / (highest * highest))
        inverse_variance += tl.where(index > 0, p / tl.where(index > 0, square, 1.0), 0.0)
    tl.store(row + CONTRAST, tl.sum(contrast))
    tl.store(row + INVERSE, tl.sum(inverse))
    tl.store(row + INVERSE_SQUARE, tl.sum(inverse_square))
    tl.store(row + INVERSE_NORMALISED, tl.sum(normalised))
    tl.store(row + INVERSE_SQUARE_NORMALISED, tl.sum(square_normalised))
    tl.store(row + INVERSE_VARIANCE, tl.sum(inverse_variance))
    tl.store(row + FLAT, flat)

    energy = tl.zeros((ROWS, COLUMNS), tl.float64)
    hxy = tl.zeros((ROWS, COLUMNS), tl.float64)
    hxy1 = tl.zeros((ROWS, COLUMNS), tl.float64)
    hxy2 = tl.zeros((ROWS, COLUMNS), tl.float64)
    largest = tl.zeros((ROWS, COLUMNS), tl.float64)
    covariance = tl.zeros((ROWS, COLUMNS), tl.float64)
    for i in range(0, top, ROWS):
        x = i + tl.arange(0, ROWS)
        p_i = tl.load(px + x, mask=x < top, other=0.0) / total
        for j in range(0, top, COLUMNS):
            y = j + tl.arange(0, COLUMNS)
            p_j = tl.load(py + y, mask=y < top, other=0.0) / total
            p = cells(counts, matrix, ng, top, x[:, None], y[None, :], SYMMETRIC) / total
            independent = p_i[:, None] * p_j[None, :]
            log_independent = tl.log2(independent + EPSILON)
            energy += p * p
            hxy -= tl.where(p > 0, p * tl.log2(p + EPSILON), 0.0)
            hxy1 -= p * log_independent
            hxy2 -= independent * log_independent
            largest = tl.maximum(largest, p)
            covariance += p * ((x + 1).to(tl.float64) - mean_x)[:, None] * ((y + 1).to(tl.float64) - mean_y)[None, :]
            if MCC:
                cell = scaled + matrix * ng * ng + (x.to(tl.int64)[:, None] * ng + y[None, :])
                tl.store(cell, p / tl.sqrt(independent + EPSILON), mask=(x < top)[:, None] & (y < top)[None, :])
    tl.store(row + TOTAL, total)
    tl.store(row + ENERGY, tl.sum(tl.sum(energy, 1)))
    tl.store(row + HXY, tl.sum(tl.sum(hxy, 1)))
    tl.store(row + HXY1, tl.sum(tl.sum(hxy1, 1)))
    tl.store(row + HXY2, tl.sum(tl.sum(hxy2, 1)))
    tl.store(row + MAXIMUM, tl.max(tl.max(largest, 1)))
    tl.store(row + COVARIANCE, tl.sum(tl.sum(covariance, 1)))
    if not MCC:
        tl.store(row + MCC_SQUARE, float("nan"))


@kernel
def square_rows(
    # inputs
    scaled, n_levels,
    # outputs
    out,
    # shapes
    directions, ng,
):  # fmt: skip
    """Write the product of each matrix with its own transpose; a program writes ROWS rows of it."""
    matrix = tl.program_id(0).to(tl.int64)
    top = tl.minimum(tl.load(n_levels + matrix // directions), ng).to(tl.int32)
    table = scaled + matrix * ng * ng
    lane = tl.arange(0, COLUMNS)
    for n in range(ROWS):
        i = tl.program_id(1) * ROWS + n
        if i < top:
            for j in range(0, top, COLUMNS):
                column = j + lane
                total = tl.zeros((COLUMNS, ROWS), tl.float64)
                for first in range(0, top, ROWS):
                    other = first + tl.arange(0, ROWS)
                    a = tl.load(table + i.to(tl.int64) * ng + other, mask=other < top, other=0.0)
                    inside = (column < top)[:, None] & (other < top)[None, :]
                    b = tl.load(table + column.to(tl.int64)[:, None] * ng + other[None, :], mask=inside, other=0.0)
                    total += a[None, :] * b
                cell = out + matrix * ng * ng + i.to(tl.int64) * ng + column
                tl.store(cell, tl.sum(total, 1), mask=column < top)


@triton.jit
def reflection(square, pivot):
    """Return the reflection of a vector with a squared length and first entry, for Householder's method.

    Returns: whether the vector is more than rounding, which squares below 1e-36 beside entries near 1 are not;
    the first entry of its reflection; half the squared length of the reflector.
    """
    nonzero = square >= 1e-36
    length = tl.where(nonzero, tl.sqrt(square), 0.0)
    reflected = tl.where(pivot > 0, -length, length)
    return nonzero, reflected, tl.where(nonzero, length * (length + tl.abs(pivot)), 1.0)


@triton.jit
def tridiagonalise_small(table, ng, n, diagonal, off_diagonal):
    """Make a symmetric matrix of up to SMALL rows tridiagonal by Householder's reflections, in registers."""
    i, j = tl.arange(0, SMALL)[:, None], tl.arange(0, SMALL)[None, :]
    index = tl.arange(0, SMALL)
    a = tl.load(table + i * ng + j, mask=(i < n) & (j < n), other=0.0)
    for k in range(n - 1):
        row = tl.sum(tl.where(i == k, a, 0.0), 0)
        u = tl.where(index > k, row, 0.0)
        nonzero, reflected, half = reflection(tl.sum(u * u), tl.sum(tl.where(index == k + 1, u, 0.0)))
        u = tl.where(index == k + 1, u - reflected, u)
        u = tl.where(nonzero, u, 0.0)
        w = tl.where(index > k, tl.sum(a * u[:, None], 0) / half, 0.0)
        w -= tl.sum(u * w) / (2 * half) * u
        a -= u[:, None] * w[None, :] + w[:, None] * u[None, :]
        tl.store(off_diagonal + k + 1, reflected)
    tl.store(diagonal + index, tl.sum(tl.where(i == j, a, 0.0), 0), mask=index < n)


@triton.jit
def tridiagonalise_large(table, ng, n, diagonal, off_diagonal, u_scratch, w_scratch):
    """Make a symmetric matrix of any number of rows tridiagonal by Householder's reflections, in memory."""
    lane, step = tl.arange(0, WIDE), tl.arange(0, HIGH)
    for k in range(n - 1):
        row = table + (n.to(tl.int64) * 0 + k) * ng
        square = tl.zeros((WIDE,), tl.float64)
        begin = (k + 1) // WIDE * WIDE
        for first in range(begin, n, WIDE):
            i = first + lane
            value = tl.load(row + i, mask=(i > k) & (i < n), other=0.0)
            square += value * value
        pivot = tl.load(row + k + 1)
        nonzero, reflected, half = reflection(tl.sum(square), pivot)
        tl.store(off_diagonal + k + 1, reflected)
        if nonzero:
            for first in range(begin, n, WIDE):
                i = first + lane
                value = tl.load(row + i, mask=(i > k) & (i < n), other=0.0)
                tl.store(u_scratch + i, tl.where(i == k + 1, value - reflected, value), mask=(i > k) & (i < n))
            tl.debug_barrier()
            dot = tl.zeros((WIDE,), tl.float64)
            for first in range(begin, n, WIDE):
                i = first + lane
                product = tl.zeros((HIGH, WIDE), tl.float64)
                for other in range((k + 1) // HIGH * HIGH, n, HIGH):
                    j = other + step
                    u = tl.load(u_scratch + j, mask=(j > k) & (j < n), other=0.0)
                    inside = ((j > k) & (j < n))[:, None] & (i < n)[None, :]
                    cell = table + j.to(tl.int64)[:, None] * ng + i[None, :]
                    product += u[:, None] * tl.load(cell, mask=inside, other=0.0)
                w = tl.sum(product, 0) / half
                dot += w * tl.load(u_scratch + i, mask=(i > k) & (i < n), other=0.0)
                tl.store(w_scratch + i, w, mask=(i > k) & (i < n))
            projection = tl.sum(dot) / (2 * half)
            tl.debug_barrier()
            for first in range(begin, n, WIDE):
                i = first + lane
                inside = (i > k) & (i < n)
                w = tl.load(w_scratch + i, mask=inside, other=0.0)
                tl.store(w_scratch + i, w - projection * tl.load(u_scratch + i, mask=inside, other=0.0), mask=inside)
            tl.debug_barrier()
            for other in range((k + 1) // HIGH * HIGH, n, HIGH):
                j = other + step
                valid_j = (j > k) & (j < n)
                u_j, w_j = (
                    tl.load(u_scratch + j, mask=valid_j, other=0.0),
                    tl.load(w_scratch + j, mask=valid_j, other=0.0),
                )
                for first in range(begin, n, WIDE):
                    i = first + lane
                    valid_i = (i > k) & (i < n)
                    u_i, w_i = (
                        tl.load(u_scratch + i, mask=valid_i, other=0.0),
                        tl.load(w_scratch + i, mask=valid_i, other=0.0),
                    )
                    cell = table + j.to(tl.int64)[:, None] * ng + i[None, :]
                    inside = valid_j[:, None] & valid_i[None, :]
                    change = u_j[:, None] * w_i[None, :] + w_j[:, None] * u_i[None, :]
                    tl.store(cell, tl.load(cell, mask=inside, other=0.0) - change, mask=inside)
            tl.debug_barrier()
    for first in range(0, n, WIDE):
        i = first + lane
        tl.store(diagonal + i, tl.load(table + i.to(tl.int64) * (ng + 1), mask=i < n, other=0.0), mask=i < n)


@triton.jit
def minor(p, previous, difference, square):
    """Return the next leading minor of a shifted tridiagonal matrix, the last one, and whether their signs agree.

    A minor of 0 is replaced by a tiny one.
    """
    value = difference * p - square * previous
    value = tl.where(value == 0, p * 2.0**-200, value)
    return value, p, ((value > 0) == (p > 0)).to(tl.int32)


@triton.jit
def rescale(p, previous):
    """Return two minors times a common factor, so that in the next two steps neither overflows nor vanishes."""
    magnitude = tl.maximum(tl.abs(p), tl.abs(previous))
    factor = tl.where(magnitude < 2.0**-300, 2.0**300, tl.where(magnitude > 2.0**300, 2.0**-300, 1.0))
    return p * factor, previous * factor


@triton.jit
def second_value(n, diagonal, off_diagonal, SYMMETRIC: tl.constexpr):
    """Return the second largest eigenvalue of a tridiagonal matrix, in magnitude if some may be negative (SYMMETRIC).

    By Sturm's theorem the number of eigenvalues above a shift is the number of leading minors that keep the sign of the
    one before. Each round tries SHIFTS shifts and cuts the interval to one part in SHIFTS + 1.
    """
    bound = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, n, COLUMNS):  # Gershgorin
        i = first + tl.arange(0, COLUMNS)
        left, right = (
            tl.load(off_diagonal + i, mask=i < n, other=0.0),
            tl.load(off_diagonal + i + 1, mask=i < n, other=0.0),
        )
        radius = tl.abs(tl.load(diagonal + i, mask=i < n, other=0.0)) + tl.abs(left) + tl.abs(right)
        bound = tl.maximum(bound, radius)
    low = tl.max(bound) * 0
    high = tl.max(bound)
    for _ in range(ROUNDS):
        step = (high - low) / (SHIFTS + 1)
        shift = low + (tl.arange(0, SHIFTS) + 1).to(tl.float64) * step
        agreements = tl.zeros((SHIFTS,), tl.int32)
        p = tl.full((SHIFTS,), 1.0, tl.float64)
        previous = tl.zeros((SHIFTS,), tl.float64)
        q = p
        previous_q = previous
        for i in range(0, n, 2):
            d, side = tl.load(diagonal + i), tl.load(off_diagonal + i)
            next_d, next_side = (
                tl.load(diagonal + i + 1),
                tl.load(off_diagonal + i + 1),
            )  # past the last row there is space
            square, next_square = side * side, next_side * next_side
            p, previous, agrees = minor(p, previous, d - shift, square)
            p, previous, next_agrees = minor(p, previous, next_d - shift, next_square)
            p, previous = rescale(p, previous)
            agreements += agrees + tl.where(i + 1 < n, next_agrees, 0)
            if SYMMETRIC:  # and those of the matrix with the opposite sign
                q, previous_q, agrees = minor(q, previous_q, -d - shift, square)
                q, previous_q, next_agrees = minor(q, previous_q, -next_d - shift, next_square)
                q, previous_q = rescale(q, previous_q)
                agreements += agrees + tl.where(i + 1 < n, next_agrees, 0)
        low += tl.sum((agreements >= 2).to(tl.int32)).to(tl.float64) * step
        high = low + step
    return low


@kernel
def correlate(
    # inputs, overwritten
    scaled,
    # inputs
    n_levels,
    # scratch
    scratch,
    # outputs
    out,
    # shapes
    directions, ng,
    SYMMETRIC: tl.constexpr, IN_MEMORY: tl.constexpr,
):  # fmt: skip
    """Write MCC_SQUARE, the square of the second singular value of each ``scaled`` matrix.

    The singular values of a symmetric matrix are its absolute eigenvalues; any other matrix was multiplied by its
    transpose before. One launch takes matrices of up to SMALL levels, another one the larger ones, ``IN_MEMORY``.
    """
    matrix = tl.program_id(0).to(tl.int64)
    n = tl.minimum(tl.load(n_levels + matrix // directions), ng).to(tl.int32)
    row = out + matrix * COLUMNS_OF_SUMS
    if IN_MEMORY:
        if n <= SMALL:
            return
    else:
        if n > SMALL:
            return
    if tl.load(row + TOTAL) == 0:
        return
    table = scaled + matrix * ng * ng
    diagonal = scratch + matrix * 4 * (ng + 1)
    off_diagonal = diagonal + ng + 1
    zero = tl.sum(tl.zeros((1,), tl.float64))
    tl.store(off_diagonal, zero)
    tl.store(off_diagonal + n, zero)
    if IN_MEMORY:
        tridiagonalise_large(table, ng, n, diagonal, off_diagonal, off_diagonal + ng + 1, off_diagonal + 2 * (ng + 1))
    else:
        tridiagonalise_small(table, ng, n, diagonal, off_diagonal)
    tl.debug_barrier()
    second = second_value(n, diagonal, off_diagonal, SYMMETRIC)
    if SYMMETRIC:
        second = second * second
    tl.store(row + MCC_SQUARE, second)


def glcm_sums(
    counts: Tensor, histogram: Tensor, n_levels: Tensor, log_weights: Tensor, *, symmetric: bool, mcc: bool
) -> Tensor:
    """Sum the GLCM; see :func:`kacl_gpu.radiomics.ops.glcm_sums`.

    Takes 8 bytes of scratch per cell of ``counts``, twice that if not ``symmetric``, none without ``mcc``.
    """
    regions, directions, ng = counts.shape[:3]
    empty = torch.empty(0, dtype=torch.float64, device=counts.device)  # for its type and device
    blocks = cdiv(ng, ROWS.value)
    if len(log_weights):
        weights = empty.new_empty((regions, directions))
        combined = empty.new_empty((regions, 1, ng, ng))
        # each: inputs, outputs, shapes
        launch(set_weights, (regions,), *(counts, n_levels, log_weights), weights, *(directions, ng))
        launch(combine, (regions, blocks), *(counts, n_levels, weights), combined, *(directions, ng))
        counts, directions = combined, 1
    matrices = regions * directions
    out = empty.new_empty((regions, directions, len(GLCM)))
    marginals = empty.new_empty((matrices, 5 * ng))
    scaled = empty.new_empty((matrices, ng, ng)) if mcc else None
    launch(
        sum_pairs,
        (matrices,),
        # inputs
        *(counts, histogram, n_levels),
        # scratch
        marginals,
        # outputs
        *(scaled, out),
        # shapes
        *(directions, ng),
        SYMMETRIC=symmetric,
        MCC=mcc,
    )
    if scaled is None:
        return out
    tridiagonal = empty.new_empty((matrices, 4, ng + 1))
    if not symmetric:
        squares = torch.empty_like(scaled)
        # inputs, outputs, shapes
        launch(square_rows, (matrices, blocks), *(scaled, n_levels), squares, *(directions, ng))
        scaled = squares
    arguments = *(scaled, n_levels), tridiagonal, out, *(directions, ng)  # inputs, scratch, outputs, shapes
    launch(correlate, (matrices,), *arguments, SYMMETRIC=symmetric, IN_MEMORY=False, num_warps=1)
    if ng > SMALL.value:
        launch(correlate, (matrices,), *arguments, SYMMETRIC=symmetric, IN_MEMORY=True, num_warps=4)
    return out
