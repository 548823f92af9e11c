"""First-order statistics: exact order statistics by selection, sums tile by tile in a fixed order.

Images of 8 bits take two launches: one makes a histogram of their 256 values, the other computes everything from it.
Others are cast to float64, whose bits order like integers. Their twelve order statistics (minimum, maximum, two
neighbours for each of five percentiles) are found digit by digit from the top, as many digits as the type can fill.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import FIRST_ORDER, number_of_columns

from .common import EPSILON, TILE, constants, kernel, launch, position, tile_of, tiles, tiles_of
from .intensity import (
    bits_of,
    corner_of,
    elements_of,
    float_of,
    intensity,
    key_of,
    normalisation,
    readable,
    value_of,
)

DIGITS = tl.constexpr(256)
RANKS = tl.constexpr(16)  # 0: minimum, 1 to 5 and 6 to 10: below and above each percentile, 11 and so on: maximum
TILES = tl.constexpr(128)  # whose sums are added in one step
LOWEST = tl.constexpr(-(2**63))

# Columns of the result
N, ENERGY, MINIMUM, MAXIMUM = constants(FIRST_ORDER.n, FIRST_ORDER.energy, FIRST_ORDER.minimum, FIRST_ORDER.maximum)
MEAN, MAD, ROBUST_MAD, M2 = constants(FIRST_ORDER.mean, FIRST_ORDER.mad, FIRST_ORDER.robust_mad, FIRST_ORDER.m2)
M3, M4, P10, P25 = constants(FIRST_ORDER.m3, FIRST_ORDER.m4, FIRST_ORDER.p10, FIRST_ORDER.p25)
P50, P75, P90, ENTROPY = constants(FIRST_ORDER.p50, FIRST_ORDER.p75, FIRST_ORDER.p90, FIRST_ORDER.entropy)
LEVEL_SQUARES = tl.constexpr(FIRST_ORDER.level_squares)
COLUMNS = tl.constexpr(number_of_columns(FIRST_ORDER))

# Digits of 8 bits, from the top, that hold all bits that a value of the type can set in float64
PASSES = {
    **dict.fromkeys((torch.uint8, torch.int8, torch.float16), 3),
    **dict.fromkeys((torch.uint16, torch.int16), 4),
    torch.float32: 5,
    **dict.fromkeys((torch.uint32, torch.int32), 6),
    **dict.fromkeys((torch.uint64, torch.int64, torch.float64), 8),
}


@triton.jit
def pixels_of(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, moments, image_index, box, levels,
    # shapes
    k, base, first, depth, height, width,
    # settings
    scale, limit,
    TILE: tl.constexpr, NORMALISE: tl.constexpr, CLIP: tl.constexpr,
):  # fmt: skip
    """Return the intensities (TILE,) of a tile, and whether they belong to the region."""
    index = first + tl.arange(0, TILE)
    inside = index < depth * height * width
    inside = tl.load(levels + base + index, mask=inside, other=0) > 0
    z, y, x = position(index, depth, height, width)
    b = tl.load(image_index + k)
    at = b * stride_b + corner_of(box, k, stride_z, stride_y, stride_x)
    at += elements_of(stride_z, stride_y, stride_x, z, y, x, depth)
    value = intensity(images, moments, scale, limit, b, at, inside, NORMALISE, CLIP)
    return value, inside


@triton.jit
def quantile(column):
    """Return 0.10, 0.25, 0.50, 0.75, 0.90 for columns 0 to 4, 5 to 9; as quotients, since constants may be rounded."""
    column = column % 5
    percent = tl.where(column == 0, 10, tl.where(column == 1, 25, tl.where(column == 2, 50, 75)))
    return tl.where(column == 4, 90, percent).to(tl.float64) / 100


@triton.jit
def rank_of(n):
    """Return the ranks (RANKS,) of the order statistics among n values, from 0."""
    rank = tl.arange(0, RANKS)
    lower = (quantile(rank + 4) * (n - 1).to(tl.float64)).to(tl.int32)
    target = tl.where(rank > 5, tl.minimum(lower + 1, n - 1), lower)
    target = tl.where(rank == 0, 0, target)
    return tl.where(rank > 10, n - 1, target)


@triton.jit
def interpolate(rank_values, n, column):
    """Return percentile ``column`` by NumPy's linear interpolation between the order statistics (RANKS,) around it."""
    rank = tl.arange(0, RANKS)
    below = tl.sum(tl.where(rank == column + 1, rank_values, 0.0))
    above = tl.sum(tl.where(rank == column + 6, rank_values, 0.0))
    place = quantile(tl.zeros((1,), tl.int32) + column) * (n - 1).to(tl.float64)
    t = place - place.to(tl.int32).to(tl.float64)
    step = above - below
    return tl.sum(tl.where(t < 0.5, below + step * t, above - step * (1 - t)))


@triton.jit
def store_level_statistics(histogram, out, k, ng, BLOCK: tl.constexpr):
    """Write entropy and sum of squares of a row of the histogram."""
    total = tl.zeros((BLOCK,), tl.float64)
    squares = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, ng, BLOCK):
        level = first + tl.arange(0, BLOCK)
        count = tl.load(histogram + k * ng + level, mask=level < ng, other=0).to(tl.float64)
        total += count
        squares += count * count
    n = tl.sum(total)
    entropy = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, ng, BLOCK):
        level = first + tl.arange(0, BLOCK)
        p = tl.load(histogram + k * ng + level, mask=level < ng, other=0).to(tl.float64) / n
        entropy -= tl.where(p > 0, p * tl.log2(p + EPSILON), 0.0)
    tl.store(out + ENTROPY, tl.sum(entropy))
    tl.store(out + LEVEL_SQUARES, tl.sum(squares))


@triton.jit
def central(m1, m2, m3, m4, out):
    """Write central moments 2 to 4; m1 corrects the centre, which the rounded mean shifts where it is far from zero."""
    square = m1 * m1
    tl.store(out + M2, m2 - square)
    tl.store(out + M3, m3 - 3 * m1 * m2 + 2 * square * m1)
    tl.store(out + M4, m4 - 4 * m1 * m3 + 6 * square * m2 - 3 * square * square)


@triton.jit
def fill_nan(out):
    """Fill a row of the result with NaN."""
    column = tl.arange(0, 32)
    tl.store(out + column, tl.full((32,), float("nan"), tl.float64), mask=column < COLUMNS)


# Images of 8 bits


@kernel
def count_values(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, image_index, box, levels, start, size,
    # outputs
    counts,
    # shapes
    regions,
    LOW: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add the values of a tile to ``counts`` (K, 256) int32, the lowest possible value first."""
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    value, inside = pixels_of(
        images, stride_b, stride_z, stride_y, stride_x, images, image_index, box, levels,
        k, base, first, depth, height, width, 0, 0, TILE, False, False,
    )  # fmt: skip
    # pixels outside of the region count as 0, and are subtracted again
    bin = tl.arange(0, DIGITS)
    count = tl.histogram(value.to(tl.int32) - LOW, DIGITS)
    count -= tl.where(bin == -LOW, TILE - tl.sum(inside.to(tl.int32)), 0)
    tl.atomic_add(counts + k.to(tl.int64) * DIGITS + bin, count, mask=count > 0, sem="relaxed")


@kernel
def summarise_counts(
    # inputs
    counts, histogram,
    # outputs
    out,
    # shapes
    ng,
    # settings
    shift,
    LOW: tl.constexpr,
):  # fmt: skip
    """Compute all columns of one region from the counts of its 256 possible values."""
    k = tl.program_id(0).to(tl.int64)
    out += k * COLUMNS
    bin = tl.arange(0, DIGITS)
    count = tl.load(counts + k * DIGITS + bin)
    cumulative = tl.cumsum(count, 0)
    n = tl.sum(count)
    if n == 0:
        fill_nan(out)
        return
    # a rank lies in the bin whose number is the count of bins that are full up to the rank
    target = rank_of(n)
    rank_values = tl.sum((cumulative[:, None] <= target[None, :]).to(tl.int32), 0).to(tl.float64) + LOW
    minimum, maximum = tl.min(rank_values), tl.max(rank_values)
    total = n.to(tl.float64)
    c = count.to(tl.float64)
    v = (bin + LOW).to(tl.float64)
    mean = tl.where(minimum == maximum, minimum, tl.sum(v * c) / total)
    shifted = v + float_of(shift)
    d = v - mean
    square = d * d
    central(
        tl.sum(d * c) / total, tl.sum(square * c) / total, tl.sum(square * d * c) / total,
        tl.sum(square * square * c) / total, out,
    )  # fmt: skip
    low, high = interpolate(rank_values, n, 0), interpolate(rank_values, n, 4)
    middle = tl.where((v >= low) & (v <= high), c, 0.0)
    n_middle = tl.sum(middle)  # of two distinct values none is between: 0 / 0
    middle_mean = tl.sum(d * middle) / n_middle
    tl.store(out + N, total)
    tl.store(out + ENERGY, tl.sum(shifted * shifted * c))
    tl.store(out + MINIMUM, minimum)
    tl.store(out + MAXIMUM, maximum)
    tl.store(out + MEAN, mean)
    tl.store(out + MAD, tl.sum(tl.abs(d) * c) / total)
    tl.store(out + ROBUST_MAD, tl.sum(tl.abs(d - middle_mean) * middle) / n_middle)
    for column in range(5):
        tl.store(out + P10 + column, interpolate(rank_values, n, column))
    store_level_statistics(histogram, out, k, ng, 128)


# Other images


@kernel
def count_digits(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, moments, image_index, box, levels, start, size, prefix, leader,
    # outputs
    counts, partial,
    # shapes
    regions, tiles,
    # settings
    scale, limit, shift, bit,
    FIRST: tl.constexpr, NORMALISE: tl.constexpr, CLIP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add the digits at ``bit`` of the keys that begin with a rank's ``prefix`` to ``counts`` (K, RANKS, 256) int32.

    Of the ranks with the same prefix the first one, their leader, counts. The FIRST time all keys count, for rank 0,
    and ``partial`` (2, tiles) gets the sums that need no mean, of x and of (x + shift)^2.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    value, inside = pixels_of(
        images, stride_b, stride_z, stride_y, stride_x, moments, image_index, box, levels,
        k, base, first, depth, height, width, scale, limit, TILE, NORMALISE, CLIP,
    )  # fmt: skip
    key = key_of(value) ^ LOWEST  # from 0 up, read as unsigned
    digit = ((key >> bit) & 255).to(tl.int32)
    ones = tl.full((TILE,), 1, tl.int32)
    table = counts + k.to(tl.int64) * (RANKS * DIGITS)
    if FIRST:
        tl.atomic_add(table + digit, ones, mask=inside, sem="relaxed")
        shifted = value + float_of(shift)
        tl.store(partial + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0)))
        tl.store(partial + tiles + tl.program_id(0), tl.sum(tl.where(inside, shifted * shifted, 0.0)))
    else:
        higher = key >> (bit + 8)
        for rank in range(12):
            if tl.load(leader + k * RANKS + rank) == rank:
                matches = inside & (higher == (tl.load(prefix + k * RANKS + rank) >> (bit + 8)))
                tl.atomic_add(table + rank * DIGITS + digit, ones, mask=matches, sem="relaxed")


@kernel
def pick_digits(
    # inputs
    histogram,
    # outputs, read before unless FIRST
    prefix, remaining, leader,
    # scratch
    counts,
    # shapes
    ng,
    # settings
    bit,
    FIRST: tl.constexpr,
):  # fmt: skip
    """Choose the digit of each rank of a region from its leader's counts, and reset these to 0."""
    k = tl.program_id(0).to(tl.int64)
    rank = tl.arange(0, RANKS)
    bin = tl.arange(0, DIGITS)
    if FIRST:
        total = tl.zeros((DIGITS,), tl.int32)
        for first in range(0, ng, DIGITS):
            total += tl.load(histogram + k * ng + first + bin, mask=first + bin < ng, other=0)
        local_rank = rank_of(tl.sum(total))
        key_prefix = rank.to(tl.int64) * 0
        leader_rank = rank * 0
    else:
        local_rank = tl.load(remaining + k * RANKS + rank)
        key_prefix = tl.load(prefix + k * RANKS + rank)
        leader_rank = tl.load(leader + k * RANKS + rank)
    digit = rank * 0
    smaller = rank * 0
    for r in range(12):
        table = counts + (k * RANKS + r) * DIGITS + bin
        count = tl.load(table)
        cumulative = tl.cumsum(count, 0)
        follows = leader_rank == r
        # the digits that are full before the rank's own, and the keys in them
        is_lower = cumulative[None, :] <= local_rank[:, None]
        digit = tl.where(follows, tl.sum(is_lower.to(tl.int32), 1), digit)
        smaller = tl.where(follows, tl.sum(tl.where(is_lower, count[None, :], 0), 1), smaller)
    for r in range(12):
        tl.store(counts + (k * RANKS + r) * DIGITS + bin, tl.zeros((DIGITS,), tl.int32))
    digit = tl.minimum(digit, 255)  # in a region without pixels
    key_prefix = key_prefix | (digit.to(tl.int64) << bit)
    equal = key_prefix[:, None] == key_prefix[None, :]
    first_equal = tl.min(tl.where(equal, rank[None, :], RANKS), 1)
    tl.store(remaining + k * RANKS + rank, local_rank - smaller)
    tl.store(prefix + k * RANKS + rank, key_prefix)
    tl.store(leader + k * RANKS + rank, tl.minimum(first_equal, 11))


@triton.jit
def add_tiles(partial, row, tiles, begin, count):
    """Return the sum of a row of (rows, tiles) from tile ``begin`` on, TILES tiles at a time."""
    total = tl.zeros((TILES,), tl.float64)
    for first in range(0, count, TILES):
        tile = first + tl.arange(0, TILES)
        total += tl.load(partial + row * tiles + begin + tile, mask=tile < count, other=0.0)
    return tl.sum(total)


@kernel
def begin_columns(
    # inputs
    start, size, histogram, prefix, partial,
    # outputs
    out,
    # shapes
    tiles, ng,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write a region's columns that need no mean: order statistics and plain sums; NaN without pixels."""
    k = tl.program_id(0).to(tl.int64)
    out += k * COLUMNS
    count = tiles_of(size, k, TILE)
    begin = tl.load(start + k) // TILE
    total = tl.zeros((128,), tl.int32)
    for first in range(0, ng, 128):
        level = first + tl.arange(0, 128)
        total += tl.load(histogram + k * ng + level, mask=level < ng, other=0)
    n = tl.sum(total)
    if n == 0:
        fill_nan(out)
        return
    rank_values = value_of(tl.load(prefix + k * RANKS + tl.arange(0, RANKS)) ^ LOWEST)
    minimum, maximum = tl.min(rank_values), tl.max(rank_values)
    tl.store(out + N, n.to(tl.float64))
    tl.store(out + ENERGY, add_tiles(partial, 1, tiles, begin, count))
    tl.store(out + MINIMUM, minimum)
    tl.store(out + MAXIMUM, maximum)
    # the mean of equal numbers, free of rounding: a flat region has moments of exactly zero
    tl.store(out + MEAN, tl.where(minimum == maximum, minimum, add_tiles(partial, 0, tiles, begin, count) / n))
    for column in range(5):
        tl.store(out + P10 + column, interpolate(rank_values, n, column))
    store_level_statistics(histogram, out, k, ng, 128)


@kernel
def sum_deviations(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, moments, image_index, box, levels, start, size, out,
    # outputs
    partial,
    # shapes
    regions, tiles,
    # settings
    scale, limit,
    SECOND: tl.constexpr, NORMALISE: tl.constexpr, CLIP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Sum a tile's deviations d from the mean: d, d^2, d^3, d^4, |d|; number and sum of d between the percentiles.

    The ``SECOND`` time, sum |d - m| between the percentiles, whose mean m stands in the column ROBUST_MAD.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    value, inside = pixels_of(
        images, stride_b, stride_z, stride_y, stride_x, moments, image_index, box, levels,
        k, base, first, depth, height, width, scale, limit, TILE, NORMALISE, CLIP,
    )  # fmt: skip
    row = out + k.to(tl.int64) * COLUMNS
    d = tl.where(inside, value - tl.load(row + MEAN), 0.0)
    middle = inside & (value >= tl.load(row + P10)) & (value <= tl.load(row + P90))
    entry = partial + tl.program_id(0)
    if SECOND:
        tl.store(entry, tl.sum(tl.where(middle, tl.abs(d - tl.load(row + ROBUST_MAD)), 0.0)))
    else:
        square = d * d
        tl.store(entry, tl.sum(d))
        tl.store(entry + tiles, tl.sum(square))
        tl.store(entry + 2 * tiles, tl.sum(square * d))
        tl.store(entry + 3 * tiles, tl.sum(square * square))
        tl.store(entry + 4 * tiles, tl.sum(tl.abs(d)))
        tl.store(entry + 5 * tiles, tl.sum(middle.to(tl.float64)))
        tl.store(entry + 6 * tiles, tl.sum(tl.where(middle, d, 0.0)))


@kernel
def end_columns(
    # inputs
    start, size, partial,
    # outputs
    out,
    # shapes
    tiles,
    SECOND: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Write a region's columns that are sums of deviations."""
    k = tl.program_id(0).to(tl.int64)
    out += k * COLUMNS
    count = tiles_of(size, k, TILE)
    begin = tl.load(start + k) // TILE
    n = tl.load(out + N)
    if n != n:  # no pixels
        return
    n_middle = add_tiles(partial, 5, tiles, begin, count)  # of two distinct values none is between: 0 / 0
    if SECOND:
        tl.store(out + ROBUST_MAD, add_tiles(partial, 0, tiles, begin, count) / n_middle)
    else:
        central(
            add_tiles(partial, 0, tiles, begin, count) / n,
            add_tiles(partial, 1, tiles, begin, count) / n,
            add_tiles(partial, 2, tiles, begin, count) / n,
            add_tiles(partial, 3, tiles, begin, count) / n,
            out,
        )
        tl.store(out + MAD, add_tiles(partial, 4, tiles, begin, count) / n)
        tl.store(out + ROBUST_MAD, add_tiles(partial, 6, tiles, begin, count) / n_middle)


def first_order(
    images: Tensor,
    moments: Tensor | None,
    image_index: Tensor,
    box: Tensor,
    levels: Tensor,
    start: Tensor,
    size: Tensor,
    histogram: Tensor,
    *,
    normalize_scale: float,
    remove_outliers: float,
    shift: float,
) -> Tensor:
    """Compute first-order statistics; see :func:`kacl_gpu.radiomics.ops.first_order`."""
    images = readable(images)
    regions, ng = histogram.shape
    out = torch.empty((regions, COLUMNS.value), dtype=torch.float64, device=images.device)
    tile_count = tiles(levels)
    grid = (tile_count,)
    regions_in = image_index, box, levels, start, size
    if moments is None and images.dtype in (torch.uint8, torch.int8):
        low = torch.iinfo(images.dtype).min
        counts = torch.zeros((regions, 256), dtype=torch.int32, device=images.device)
        # inputs, outputs, shapes, settings
        launch(count_values, grid, *(images, *images.stride(), *regions_in), counts, regions, LOW=low, TILE=TILE)
        launch(summarise_counts, (regions,), *(counts, histogram), out, ng, bits_of(shift), LOW=low)
        return out

    counts = torch.zeros((regions, 16, 256), dtype=torch.int32, device=images.device)
    prefix, remaining, leader = torch.empty((3, regions, 16), dtype=torch.int64, device=images.device)
    partial = out.new_empty((7, tile_count))
    normal = normalisation(moments, remove_outliers)
    pixels_in = images, *images.stride(), moments, *regions_in
    scales = bits_of(normalize_scale), bits_of(remove_outliers)
    for n in range(PASSES[images.dtype] if moments is None else 8):
        bit, first = 56 - 8 * n, n == 0
        launch(
            count_digits,
            grid,
            # inputs
            *(*pixels_in, prefix, leader),
            # outputs
            *(counts, partial),
            # shapes
            *(regions, tile_count),
            # settings
            *(*scales, bits_of(shift), bit),
            FIRST=first,
            TILE=TILE,
            **normal,
        )
        # inputs, outputs, scratch, shapes, settings
        launch(pick_digits, (regions,), histogram, *(prefix, remaining, leader), counts, ng, bit, FIRST=first)
    # inputs, outputs, shapes
    launch(begin_columns, (regions,), *(start, size, histogram, prefix, partial), out, *(tile_count, ng), TILE=TILE)
    for second in (False, True):
        # the second sums go to row 0, and leave the number of middle pixels in row 5
        launch(
            sum_deviations,
            grid,
            # inputs
            *(*pixels_in, out),
            # outputs
            partial,
            # shapes
            *(regions, tile_count),
            # settings
            *scales,
            SECOND=second,
            TILE=TILE,
            **normal,
        )
        # inputs, outputs, shapes
        launch(end_columns, (regions,), *(start, size, partial), out, tile_count, SECOND=second, TILE=TILE)
    return out
