"""Sums of matrices of counts by grey level i and size j: GLRLM and GLDM."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import SIZES as SIZE_SUMS

from .common import EPSILON, constants, kernel, launch

LEVELS, SIZES = 4, 128

# Columns of the table of sums, for runs and dependences here and for zones
SUM_N, SUM_ENTROPY = constants(SIZE_SUMS.n, SIZE_SUMS.entropy)
SUM_SMALL_LOW, SUM_SMALL_HIGH = constants(SIZE_SUMS.small_low, SIZE_SUMS.small_high)
SUM_LARGE_LOW, SUM_LARGE_HIGH = constants(SIZE_SUMS.large_low, SIZE_SUMS.large_high)
SUM_LOW, SUM_HIGH = constants(SIZE_SUMS.low, SIZE_SUMS.high)
SUM_PIXELS, SUM_SMALL = constants(SIZE_SUMS.pixels, SIZE_SUMS.small)
SUM_LARGE, SUM_LEVEL_SQUARES = constants(SIZE_SUMS.large, SIZE_SUMS.level_squares)
SUM_SIZE_SQUARES, SUM_LEVEL_VARIANCE = constants(SIZE_SUMS.size_squares, SIZE_SUMS.level_variance)
SUM_SIZE_VARIANCE = tl.constexpr(SIZE_SUMS.size_variance)
SUM_COLUMNS = tl.constexpr(len(SIZE_SUMS))


@triton.jit
def cells(counts, weights, k, directions, matrix, ng, sizes, i, j, WEIGHTED: tl.constexpr):
    """Return a block (LEVELS, SIZES) float64 of one matrix, or of the weighted sum of a region's matrices."""
    inside = (i < ng)[:, None] & (j < sizes)[None, :]
    cell = i.to(tl.int64)[:, None] * sizes + j[None, :]
    if WEIGHTED:
        total = tl.zeros(cell.shape, tl.float64)
        for a in range(directions):
            row = k * directions + a
            count = tl.load(counts + row * ng * sizes + cell, mask=inside, other=0).to(tl.float64)
            total += tl.load(weights + row) * count
        return total
    else:
        return tl.load(counts + matrix * ng * sizes + cell, mask=inside, other=0).to(tl.float64)


@kernel
def sum_cells(
    # inputs
    counts, n_levels, weights,
    # outputs
    out,
    # shapes
    directions, ng, sizes,
    WEIGHTED: tl.constexpr, LEVELS: tl.constexpr, SIZES: tl.constexpr,
):  # fmt: skip
    """Compute the fifteen columns of one matrix.

    The first pass, by level, gives the total, both means and the largest size; the second, by size up to the largest
    one, gives the sums that need them.
    """
    matrix = tl.program_id(0).to(tl.int64)
    k = matrix
    if not WEIGHTED:
        k = matrix // directions
    top = tl.minimum(tl.load(n_levels + k), ng).to(tl.int32)

    n_at = tl.zeros((LEVELS,), tl.float64)  # summed for each place in the block, and over the block at the end
    i_at = tl.zeros((LEVELS,), tl.float64)
    low_at = tl.zeros((LEVELS,), tl.float64)
    high_at = tl.zeros((LEVELS,), tl.float64)
    squares_at = tl.zeros((LEVELS,), tl.float64)
    levels_at = tl.zeros((LEVELS,), tl.int32)
    pixels_at = tl.zeros((LEVELS, SIZES), tl.float64)
    largest = tl.zeros((LEVELS, SIZES), tl.int32)
    for first in range(0, top, LEVELS):
        level = first + tl.arange(0, LEVELS)
        i = (level + 1).to(tl.float64)
        row_counts = tl.zeros((LEVELS, SIZES), tl.float64)
        for beginning in range(0, sizes, SIZES):
            size = beginning + tl.arange(0, SIZES)
            c = cells(counts, weights, k, directions, matrix, ng, sizes, level, size, WEIGHTED)
            row_counts += c
            pixels_at += c * (size + 1).to(tl.float64)[None, :]
            largest = tl.where(c > 0, tl.maximum(largest, (size + 1)[None, :]), largest)
        by_level = tl.sum(row_counts, 1)
        n_at += by_level
        i_at += by_level * i
        low_at += by_level / (i * i)
        high_at += by_level * (i * i)
        squares_at += by_level * by_level
        levels_at += (by_level > 0).to(tl.int32)
    n = tl.sum(n_at)
    pixels = tl.sum(tl.sum(pixels_at, 1))
    mean_level = tl.sum(i_at) / n
    mean_size = pixels / n
    one_level = tl.sum(levels_at) == 1
    longest = tl.max(tl.max(largest, 1))

    entropy_at = tl.zeros((SIZES,), tl.float64)
    small_low_at = tl.zeros((SIZES,), tl.float64)
    small_high_at = tl.zeros((SIZES,), tl.float64)
    large_low_at = tl.zeros((SIZES,), tl.float64)
    large_high_at = tl.zeros((SIZES,), tl.float64)
    level_variance_at = tl.zeros((SIZES,), tl.float64)
    small_at = tl.zeros((SIZES,), tl.float64)
    large_at = tl.zeros((SIZES,), tl.float64)
    size_squares_at = tl.zeros((SIZES,), tl.float64)
    size_variance_at = tl.zeros((SIZES,), tl.float64)
    sizes_at = tl.zeros((SIZES,), tl.int32)
    for beginning in range(0, longest, SIZES):
        size = beginning + tl.arange(0, SIZES)
        j = (size + 1).to(tl.float64)
        by_size = tl.zeros((SIZES,), tl.float64)
        low = tl.zeros((SIZES,), tl.float64)
        high = tl.zeros((SIZES,), tl.float64)
        for first in range(0, top, LEVELS):
            level = first + tl.arange(0, LEVELS)
            c = cells(counts, weights, k, directions, matrix, ng, sizes, level, size, WEIGHTED)
            i = (level + 1).to(tl.float64)
            i2 = i * i
            d = i - mean_level
            p = c * (1 / n)
            by_size += tl.sum(c, 0)
            low += tl.sum(c * (1 / i2)[:, None], 0)
            high += tl.sum(c * i2[:, None], 0)
            entropy_at += tl.sum(tl.where(c > 0, -p * tl.log2(p + EPSILON), 0.0), 0)
            level_variance_at += tl.sum(c * (d * d)[:, None], 0)
        j2 = j * j
        d = j - mean_size
        small_at += by_size / j2
        large_at += by_size * j2
        small_low_at += low / j2
        small_high_at += high / j2
        large_low_at += low * j2
        large_high_at += high * j2
        size_squares_at += by_size * by_size
        size_variance_at += by_size * (d * d)
        sizes_at += (by_size > 0).to(tl.int32)
    one_size = tl.sum(sizes_at) == 1

    row = out + matrix * SUM_COLUMNS
    tl.store(row + SUM_N, n)
    tl.store(row + SUM_ENTROPY, tl.sum(entropy_at))
    tl.store(row + SUM_SMALL_LOW, tl.sum(small_low_at))
    tl.store(row + SUM_SMALL_HIGH, tl.sum(small_high_at))
    tl.store(row + SUM_LARGE_LOW, tl.sum(large_low_at))
    tl.store(row + SUM_LARGE_HIGH, tl.sum(large_high_at))
    tl.store(row + SUM_LOW, tl.sum(low_at))
    tl.store(row + SUM_HIGH, tl.sum(high_at))
    tl.store(row + SUM_PIXELS, pixels)
    tl.store(row + SUM_SMALL, tl.sum(small_at))
    tl.store(row + SUM_LARGE, tl.sum(large_at))
    tl.store(row + SUM_LEVEL_SQUARES, tl.sum(squares_at))
    tl.store(row + SUM_SIZE_SQUARES, tl.sum(size_squares_at))
    tl.store(row + SUM_LEVEL_VARIANCE, tl.where(one_level, 0.0, tl.sum(level_variance_at) / n))
    tl.store(row + SUM_SIZE_VARIANCE, tl.where(one_size, 0.0, tl.sum(size_variance_at) / n))


def size_sums(counts: Tensor, n_levels: Tensor, weights: Tensor) -> Tensor:
    """Sum matrices by level and size; see :func:`kacl_gpu.radiomics.ops.size_sums`."""
    regions, directions, ng, sizes = counts.shape
    weighted = len(weights) > 0
    rows = 1 if weighted else directions
    out = torch.empty((regions, rows, SUM_COLUMNS.value), dtype=torch.float64, device=counts.device)
    launch(
        sum_cells,
        (regions * rows,),
        # inputs
        *(counts, n_levels, weights),
        # outputs
        out,
        # shapes
        *(directions, ng, sizes),
        WEIGHTED=weighted,
        LEVELS=LEVELS,
        SIZES=SIZES,
    )
    return out
