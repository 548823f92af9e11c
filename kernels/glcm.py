"""Grey-level co-occurrence: the counts, and what the features need of each direction's matrix.

Sums run over blocks of fixed shape, up to the region's highest level: how many levels others have does not show.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import TILE, launch, neighbour, offsets_on, position, tile_of, tiles

ROWS, COLUMNS = tl.constexpr(8), tl.constexpr(32)
SHIFTS = tl.constexpr(64)  # of the search for an eigenvalue, at once
ROUNDS = tl.constexpr(10)  # 65^10 is beyond 2^60
EPS = tl.constexpr(2.0**-52)


@triton.jit
def count_pairs(levels, start, size, regions, offsets, directions, out, ng, TILE: tl.constexpr):
    """Adds the pairs whose first pixel lies in a tile to (K, A, ng, ng) int32."""
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    index = first + tl.arange(0, TILE)
    inside = index < pixels
    z, y, x = position(index, height, width)
    level = tl.load(levels + base + index, mask=inside, other=0).to(tl.int32)
    inside = level > 0
    one = tl.full((TILE,), 1, tl.int32)
    for a in range(directions):
        dz = tl.load(offsets + 3 * a)
        dy = tl.load(offsets + 3 * a + 1)
        dx = tl.load(offsets + 3 * a + 2)
        there = neighbour(levels, base, index, z, y, x, dz, dy, dx, depth, height, width, inside)
        cell = ((k.to(tl.int64) * directions + a) * ng + (level - 1)) * ng + (there - 1)
        tl.atomic_add(out + cell, one, mask=inside & (there > 0), sem="relaxed")


def glcm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.glcm`."""
    regions, directions = len(start), len(offsets) // 3
    out = torch.zeros((regions, directions, ng, ng), dtype=torch.int32, device=levels.device)
    where = levels, start, size, regions, offsets_on(offsets, levels.device), directions
    launch(count_pairs, (tiles(levels),), *where, out, ng, TILE=TILE)
    return out


@triton.jit
def total_of(counts, matrix, ng, top):
    """The sum of one matrix up to level ``top``."""
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    for i in range(0, top, ROWS):
        for j in range(0, top, COLUMNS):
            row, column = i + tl.arange(0, ROWS), j + tl.arange(0, COLUMNS)
            total += cells(counts, matrix, ng, top, row[:, None], column[None, :], False)
    return tl.sum(tl.sum(total, 1))


@triton.jit
def cells(counts, matrix, ng, top, i, j, SYMMETRIC: tl.constexpr):
    """The count at (i, j), from 0, of one matrix (with its transpose), float64; 0 beyond the levels up to ``top``."""
    inside = (i >= 0) & (i < top) & (j >= 0) & (j < top)
    here = counts + matrix * ng * ng
    count = tl.load(here + (i.to(tl.int64) * ng + j), mask=inside, other=0).to(tl.float64)
    if SYMMETRIC:
        count += tl.load(here + (j.to(tl.int64) * ng + i), mask=inside, other=0).to(tl.float64)
    return count


@triton.jit
def set_weights(counts, n_levels, log_weights, weights, directions, ng):
    """exp(log weight) of each direction, such that the heaviest one with pairs has 1; 0 of one without pairs."""
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
        filled = weight > -float("inf")
        tl.store(weights + k * directions + a, tl.where(filled, tl.exp(tl.where(filled, weight - heaviest, 0.0)), 0.0))


@triton.jit
def combine(counts, n_levels, weights, out, directions, ng):
    """The weighted sum (K, ng, ng) float64 of a region's matrices, up to its highest level."""
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
def sum_marginals(counts, n_levels, marginals, directions, ng, SYMMETRIC: tl.constexpr):
    """Counts of each direction by i, by j, by i + j and by |i - j|, all from 0: (K, A, 5 ng), one after the other."""
    matrix = tl.program_id(0).to(tl.int64)
    top = tl.minimum(tl.load(n_levels + matrix // directions), ng).to(tl.int32)
    out = marginals + matrix * 5 * ng
    lane, step = tl.arange(0, COLUMNS)[None, :], tl.arange(0, ROWS)[:, None]
    for first in range(0, top, COLUMNS):
        by_i = tl.zeros((ROWS, COLUMNS), tl.float64)
        by_j = tl.zeros((ROWS, COLUMNS), tl.float64)
        by_difference = tl.zeros((ROWS, COLUMNS), tl.float64)
        here = first + lane
        for other in range(0, top, ROWS):
            o = other + step
            by_j += cells(counts, matrix, ng, top, o, here, SYMMETRIC)
            if not SYMMETRIC:
                by_i += cells(counts, matrix, ng, top, here, o, SYMMETRIC)
            by_difference += cells(counts, matrix, ng, top, o, o + here, SYMMETRIC)
            by_difference += tl.where(here > 0, cells(counts, matrix, ng, top, o, o - here, SYMMETRIC), 0.0)
        if SYMMETRIC:
            by_i = by_j
        place = first + tl.arange(0, COLUMNS)
        tl.store(out + place, tl.sum(by_i, 0), mask=place < top)
        tl.store(out + ng + place, tl.sum(by_j, 0), mask=place < top)
        tl.store(out + 4 * ng + place, tl.sum(by_difference, 0), mask=place < top)
    for first in range(0, 2 * top, COLUMNS):
        by_sum = tl.zeros((ROWS, COLUMNS), tl.float64)
        for other in range(0, top, ROWS):
            o = other + step
            by_sum += cells(counts, matrix, ng, top, o, first + lane - o, SYMMETRIC)
        place = first + tl.arange(0, COLUMNS)
        tl.store(out + 2 * ng + place, tl.sum(by_sum, 0), mask=place < 2 * top)


@triton.jit
def moments_of(rows, count, total, first_value):
    """Entropy, mean and central moments 2, 3, 4 of a histogram over ``first_value``, ``first_value`` + 1, ..."""
    entropy = tl.zeros((COLUMNS,), tl.float64)
    weighted = tl.zeros((COLUMNS,), tl.float64)
    present = tl.zeros((COLUMNS,), tl.int32)
    for first in range(0, count, COLUMNS):
        place = first + tl.arange(0, COLUMNS)
        n = tl.load(rows + place, mask=place < count, other=0.0)
        p = n / total
        entropy -= tl.where(n > 0, p * tl.log2(p + EPS), 0.0)
        weighted += n * (place + first_value)
        present += (n > 0).to(tl.int32)
    mean = tl.sum(weighted) / total
    m2 = tl.zeros((COLUMNS,), tl.float64)
    m3 = tl.zeros((COLUMNS,), tl.float64)
    m4 = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, count, COLUMNS):
        place = first + tl.arange(0, COLUMNS)
        n = tl.load(rows + place, mask=place < count, other=0.0)
        d = (place + first_value).to(tl.float64) - mean
        m2 += n * (d * d)
        m3 += n * (d * d * d)
        m4 += n * ((d * d) * (d * d))
    several = tl.where(tl.sum(present) == 1, 0.0, 1.0)  # of a single value there is no deviation
    return (
        tl.sum(entropy), mean, several * (tl.sum(m2) / total), several * (tl.sum(m3) / total),
        several * (tl.sum(m4) / total),
    )  # fmt: skip


@triton.jit
def sum_pairs(
    counts, histogram, n_levels, marginals, scaled, out, directions, ng, SYMMETRIC: tl.constexpr
):  # fmt: skip
    """All columns of one direction but the maximal correlation coefficient.

    ``scaled`` becomes p / sqrt(px py + eps). What is done is stored at once, so that no register holds it.
    """
    matrix = tl.program_id(0).to(tl.int64)
    k = matrix // directions
    level_count = tl.load(n_levels + k)
    top = tl.minimum(level_count, ng).to(tl.int32)
    row = out + matrix * 29
    px, py = marginals + matrix * 5 * ng, marginals + matrix * 5 * ng + ng
    p_sum, p_difference = px + 2 * ng, px + 4 * ng

    levels = tl.zeros((COLUMNS,), tl.int32)
    for first in range(0, ng, COLUMNS):
        place = first + tl.arange(0, COLUMNS)
        levels += (tl.load(histogram + k * ng + place, mask=place < ng, other=0) > 0).to(tl.int32)
    flat = tl.where(tl.sum(levels) == 1, 1.0, 0.0)
    added = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, top, COLUMNS):
        place = first + tl.arange(0, COLUMNS)
        added += tl.load(px + place, mask=place < top, other=0.0)
    total = tl.sum(added)
    column = tl.arange(0, 32)
    if total == 0:
        nothing = tl.where(column == 0, 0.0, tl.where(column == 28, flat, float("nan")))
        tl.store(row + column, nothing.to(tl.float64), mask=column < 29)
        return

    entropy, mean_x, variance, _, _ = moments_of(px, top, total, 1)
    tl.store(row + 8, entropy)
    tl.store(row + 12, mean_x)
    tl.store(row + 14, variance)
    entropy, mean_y, variance, _, _ = moments_of(py, top, total, 1)
    tl.store(row + 9, entropy)
    tl.store(row + 13, mean_y)
    tl.store(row + 15, variance)
    entropy, mean, m2, m3, m4 = moments_of(p_sum, 2 * top, total, 2)
    tl.store(row + 10, entropy)
    tl.store(row + 16, mean)
    tl.store(row + 17, m2)
    tl.store(row + 18, m3)
    tl.store(row + 19, m4)
    entropy, mean, m2, _, _ = moments_of(p_difference, top, total, 0)
    tl.store(row + 11, entropy)
    tl.store(row + 20, mean)
    tl.store(row + 21, m2)

    contrast = tl.zeros((COLUMNS,), tl.float64)
    inverse = tl.zeros((COLUMNS,), tl.float64)
    inverse_square = tl.zeros((COLUMNS,), tl.float64)
    normalised = tl.zeros((COLUMNS,), tl.float64)
    square_normalised = tl.zeros((COLUMNS,), tl.float64)
    inverse_variance = tl.zeros((COLUMNS,), tl.float64)
    highest = level_count.to(tl.float64)
    for first in range(0, top, COLUMNS):
        place = first + tl.arange(0, COLUMNS)
        p = tl.load(p_difference + place, mask=place < top, other=0.0) / total
        d = place.to(tl.float64)
        square = d * d
        contrast += p * square
        inverse += p / (1 + d)
        inverse_square += p / (1 + square)
        normalised += p / (1 + d / highest)
        square_normalised += p / (1 + square / (highest * highest))
        inverse_variance += tl.where(place > 0, p / tl.where(place > 0, square, 1.0), 0.0)
    tl.store(row + 22, tl.sum(contrast))
    tl.store(row + 23, tl.sum(inverse))
    tl.store(row + 24, tl.sum(inverse_square))
    tl.store(row + 25, tl.sum(normalised))
    tl.store(row + 26, tl.sum(square_normalised))
    tl.store(row + 27, tl.sum(inverse_variance))
    tl.store(row + 28, flat)

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
            log_independent = tl.log2(independent + EPS)
            energy += p * p
            hxy -= tl.where(p > 0, p * tl.log2(p + EPS), 0.0)
            hxy1 -= p * log_independent
            hxy2 -= independent * log_independent
            largest = tl.maximum(largest, p)
            covariance += p * ((x + 1).to(tl.float64) - mean_x)[:, None] * ((y + 1).to(tl.float64) - mean_y)[None, :]
            cell = scaled + matrix * ng * ng + (x.to(tl.int64)[:, None] * ng + y[None, :])
            tl.store(cell, p / tl.sqrt(independent + EPS), mask=(x < top)[:, None] & (y < top)[None, :])
    tl.store(row, total)
    tl.store(row + 1, tl.sum(tl.sum(energy, 1)))
    tl.store(row + 2, tl.sum(tl.sum(hxy, 1)))
    tl.store(row + 3, tl.sum(tl.sum(hxy1, 1)))
    tl.store(row + 4, tl.sum(tl.sum(hxy2, 1)))
    tl.store(row + 5, tl.max(tl.max(largest, 1)))
    tl.store(row + 6, tl.sum(tl.sum(covariance, 1)))


@triton.jit
def square_rows(scaled, n_levels, out, directions, ng):
    """The product of each matrix with its own transpose: a program makes ROWS rows of it."""
    matrix = tl.program_id(0).to(tl.int64)
    top = tl.minimum(tl.load(n_levels + matrix // directions), ng).to(tl.int32)
    here = scaled + matrix * ng * ng
    lane = tl.arange(0, COLUMNS)
    for n in range(ROWS):
        i = tl.program_id(1) * ROWS + n
        if i < top:
            for j in range(0, top, COLUMNS):
                column = j + lane
                total = tl.zeros((COLUMNS, ROWS), tl.float64)
                for first in range(0, top, ROWS):
                    other = first + tl.arange(0, ROWS)
                    a = tl.load(here + i.to(tl.int64) * ng + other, mask=other < top, other=0.0)
                    inside = (column < top)[:, None] & (other < top)[None, :]
                    b = tl.load(here + column.to(tl.int64)[:, None] * ng + other[None, :], mask=inside, other=0.0)
                    total += a[None, :] * b
                cell = out + matrix * ng * ng + i.to(tl.int64) * ng + column
                tl.store(cell, tl.sum(total, 1), mask=column < top)


@triton.jit
def reflection(square, beyond):
    """Of a vector with this squared length and first entry: what it becomes, and half its reflector's squared length.

    Next to nothing, beside entries near 1, is taken for nothing: smaller squares would lose their digits.
    """
    some = square >= 1e-36
    length = tl.where(some, tl.sqrt(square), 0.0)
    beside = tl.where(beyond > 0, -length, length)
    return some, beside, tl.where(some, length * (length + tl.abs(beyond)), 1.0)


@triton.jit
def tridiagonalise_small(here, ng, n, diagonal, beside):
    """Householder's reflections on a symmetric matrix of up to COLUMNS rows, which stays in registers."""
    i, j = tl.arange(0, COLUMNS)[:, None], tl.arange(0, COLUMNS)[None, :]
    index = tl.arange(0, COLUMNS)
    a = tl.load(here + i * ng + j, mask=(i < n) & (j < n), other=0.0)
    for k in range(n - 1):
        row = tl.sum(tl.where(i == k, a, 0.0), 0)
        u = tl.where(index > k, row, 0.0)
        some, next_, half = reflection(tl.sum(u * u), tl.sum(tl.where(index == k + 1, u, 0.0)))
        u = tl.where(index == k + 1, u - next_, u)
        u = tl.where(some, u, 0.0)
        across = tl.sum(tl.where(i == j, u[None, :], 0.0), 1)  # the same, along the rows
        w = tl.where(index > k, tl.sum(a * across[:, None], 0) / half, 0.0)
        w -= tl.sum(u * w) / (2 * half) * u
        w_across = tl.sum(tl.where(i == j, w[None, :], 0.0), 1)
        a -= across[:, None] * w[None, :] + w_across[:, None] * u[None, :]
        tl.store(beside + k + 1, next_)
    tl.store(diagonal + index, tl.sum(tl.where(i == j, a, 0.0), 0), mask=index < n)


@triton.jit
def tridiagonalise_large(here, ng, n, diagonal, beside, u_space, w_space):
    """The same in memory, for any number of rows."""
    lane, step = tl.arange(0, COLUMNS), tl.arange(0, ROWS)
    for k in range(n - 1):
        row = here + (n.to(tl.int64) * 0 + k) * ng
        square = tl.zeros((COLUMNS,), tl.float64)
        begin = (k + 1) // COLUMNS * COLUMNS
        for first in range(begin, n, COLUMNS):
            i = first + lane
            value = tl.load(row + i, mask=(i > k) & (i < n), other=0.0)
            square += value * value
        beyond = tl.load(row + k + 1)
        some, next_, half = reflection(tl.sum(square), beyond)
        tl.store(beside + k + 1, next_)
        if some:
            for first in range(begin, n, COLUMNS):
                i = first + lane
                value = tl.load(row + i, mask=(i > k) & (i < n), other=0.0)
                tl.store(u_space + i, tl.where(i == k + 1, value - next_, value), mask=(i > k) & (i < n))
            tl.debug_barrier()
            dot = tl.zeros((COLUMNS,), tl.float64)
            for first in range(begin, n, COLUMNS):
                i = first + lane
                product = tl.zeros((ROWS, COLUMNS), tl.float64)
                for other in range((k + 1) // ROWS * ROWS, n, ROWS):
                    j = other + step
                    u = tl.load(u_space + j, mask=(j > k) & (j < n), other=0.0)
                    inside = ((j > k) & (j < n))[:, None] & (i < n)[None, :]
                    cell = here + j.to(tl.int64)[:, None] * ng + i[None, :]
                    product += u[:, None] * tl.load(cell, mask=inside, other=0.0)
                w = tl.sum(product, 0) / half
                dot += w * tl.load(u_space + i, mask=(i > k) & (i < n), other=0.0)
                tl.store(w_space + i, w, mask=(i > k) & (i < n))
            projection = tl.sum(dot) / (2 * half)
            tl.debug_barrier()
            for first in range(begin, n, COLUMNS):
                i = first + lane
                inside = (i > k) & (i < n)
                w = tl.load(w_space + i, mask=inside, other=0.0)
                tl.store(w_space + i, w - projection * tl.load(u_space + i, mask=inside, other=0.0), mask=inside)
            tl.debug_barrier()
            for other in range((k + 1) // ROWS * ROWS, n, ROWS):
                j = other + step
                of_j = (j > k) & (j < n)
                u_j, w_j = tl.load(u_space + j, mask=of_j, other=0.0), tl.load(w_space + j, mask=of_j, other=0.0)
                for first in range(begin, n, COLUMNS):
                    i = first + lane
                    of_i = (i > k) & (i < n)
                    u_i, w_i = tl.load(u_space + i, mask=of_i, other=0.0), tl.load(w_space + i, mask=of_i, other=0.0)
                    cell = here + j.to(tl.int64)[:, None] * ng + i[None, :]
                    inside = of_j[:, None] & of_i[None, :]
                    change = u_j[:, None] * w_i[None, :] + w_j[:, None] * u_i[None, :]
                    tl.store(cell, tl.load(cell, mask=inside, other=0.0) - change, mask=inside)
            tl.debug_barrier()
    for first in range(0, n, COLUMNS):
        i = first + lane
        tl.store(diagonal + i, tl.load(here + i.to(tl.int64) * (ng + 1), mask=i < n, other=0.0), mask=i < n)


@triton.jit
def eigenvalue(n, diagonal, beside, sign, rank):
    """Of ``sign`` times a tridiagonal matrix, the rank-th largest eigenvalue, or 0 if it is below, by Sturm counts.

    SHIFTS shifts at once cut the interval to one part in SHIFTS + 1 each time.
    """
    bound = tl.zeros((COLUMNS,), tl.float64)
    for first in range(0, n, COLUMNS):  # Gershgorin
        i = first + tl.arange(0, COLUMNS)
        around = tl.abs(tl.load(diagonal + i, mask=i < n, other=0.0)) + tl.abs(
            tl.load(beside + i, mask=i < n, other=0.0)
        )
        bound = tl.maximum(bound, around + tl.abs(tl.load(beside + i + 1, mask=i < n, other=0.0)))
    low = tl.max(bound) * 0
    high = tl.max(bound)
    for _ in range(ROUNDS):
        step = (high - low) / (SHIFTS + 1)
        shift = low + (tl.arange(0, SHIFTS) + 1).to(tl.float64) * step
        pivot = tl.full((SHIFTS,), 1.0, tl.float64)
        above = tl.zeros((SHIFTS,), tl.int32)
        for i in range(n):
            next_ = tl.load(beside + i)
            q = sign * tl.load(diagonal + i) - shift - next_ * next_ / pivot
            pivot = tl.where(q == 0, 1e-300, q)
            above += (pivot > 0).to(tl.int32)
        low += tl.sum((above >= rank).to(tl.int32)).to(tl.float64) * step
        high = low + step
    return low


@triton.jit
def correlate(scaled, n_levels, space, out, directions, ng, SYMMETRIC: tl.constexpr):
    """Column 7: the square of the second singular value of each ``scaled`` matrix, which is lost.

    A symmetric matrix has its absolute eigenvalues: the largest near 1, the second maybe of one below 0. Another
    was multiplied by its transpose before.
    """
    matrix = tl.program_id(0).to(tl.int64)
    n = tl.minimum(tl.load(n_levels + matrix // directions), ng).to(tl.int32)
    row = out + matrix * 29
    if tl.load(row) == 0:
        return
    here = scaled + matrix * ng * ng
    diagonal = space + matrix * 4 * (ng + 1)
    beside = diagonal + ng + 1
    tl.store(beside, tl.sum(tl.zeros((1,), tl.float64)))
    tl.store(beside + n, tl.sum(tl.zeros((1,), tl.float64)))
    if n <= COLUMNS:
        tridiagonalise_small(here, ng, n, diagonal, beside)
    else:
        tridiagonalise_large(here, ng, n, diagonal, beside, beside + ng + 1, beside + 2 * (ng + 1))
    tl.debug_barrier()
    second = eigenvalue(n, diagonal, beside, 1.0, 2)
    if SYMMETRIC:
        second = tl.maximum(second, eigenvalue(n, diagonal, beside, -1.0, 1))
        second = second * second
    tl.store(row + 7, second)


def glcm_sums(counts: Tensor, histogram: Tensor, n_levels: Tensor, log_weights: Tensor, symmetric: bool) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.glcm_sums`.

    Takes 8 bytes a cell of ``counts`` as space, twice that if not ``symmetric``.
    """
    regions, directions, ng = counts.shape[:3]
    space = torch.empty(0, dtype=torch.float64, device=counts.device)  # for its type and device
    blocks = triton.cdiv(ng, ROWS.value)
    if len(log_weights):
        weights = space.new_empty((regions, directions))
        combined = space.new_empty((regions, 1, ng, ng))
        launch(set_weights, (regions,), counts, n_levels, log_weights, weights, directions, ng)
        launch(combine, (regions, blocks), counts, n_levels, weights, combined, directions, ng)
        counts, directions = combined, 1
    matrices = regions * directions
    out = space.new_empty((regions, directions, 29))
    marginals = space.new_empty((matrices, 5 * ng))
    scaled = space.new_empty((matrices, ng, ng))
    tridiagonal = space.new_empty((matrices, 4, ng + 1))
    launch(sum_marginals, (matrices,), counts, n_levels, marginals, directions, ng, SYMMETRIC=symmetric)
    launch(
        sum_pairs,
        (matrices,),
        *(counts, histogram, n_levels, marginals, scaled, out, directions, ng),
        SYMMETRIC=symmetric,
    )
    if not symmetric:
        squares = torch.empty_like(scaled)
        launch(square_rows, (matrices, blocks), scaled, n_levels, squares, directions, ng)
        scaled = squares
    launch(correlate, (matrices,), scaled, n_levels, tridiagonal, out, directions, ng, SYMMETRIC=symmetric)
    return out
