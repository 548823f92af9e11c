"""GLCM, GLDM and NGTDM, which look at the same neighbours, and the sums of the NGTDM."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import NEAREST, cdiv, kernel, launch, offsets_on, share_of, tiles

ROWS, LANES = 16, 64  # of pixels, taken at once
OUTSIDE = tl.constexpr(-(2**20))  # far from every level
SUM_BITS, ONE = tl.constexpr(20), tl.constexpr(2**20)  # nine levels of at most 32767 add up to less
MOST_APART = 2**16  # further apart than this no levels are
BLOCK = 32  # levels


@triton.jit
def extend(table, cell, amount, new, more):
    """One pixel further down each column: what falls into the same cell again is added up before it goes to the table.

    Cells are negative where there is none. Neighbouring pixels are alike, so the table's few busy cells are spared.
    """
    same = new == cell
    tl.atomic_add(table + cell, amount.to(table.dtype.element_ty), mask=(cell >= 0) & (new != cell), sem="relaxed")
    return new, tl.where(same, amount, 0) + more


@triton.jit
def cell_of_pair(i, j, ng):
    return tl.where((i > 0) & (j > 0), (i - 1) * ng + (j - 1), -1)


@triton.jit
def three_of_row(plane, x, y, height, width):
    """The levels (LANES,) of row y of a plane at x - 1, x and x + 1, OUTSIDE beyond its borders; and their sum, with
    how many there are in the bits from SUM_BITS up."""
    edge = tl.where((y >= 0) & (y < height), width, 0)
    here = plane + (y * width + x)
    left = tl.load(here - 1, mask=(x > 0) & (x <= edge), other=0).to(tl.int32)
    middle = tl.load(here, mask=x < edge, other=0).to(tl.int32)
    right = tl.load(here + 1, mask=x + 1 < edge, other=0).to(tl.int32)
    total = tl.where(left > 0, left + ONE, 0) + tl.where(middle > 0, middle + ONE, 0)
    total += tl.where(right > 0, right + ONE, 0)
    left, middle = tl.where(left > 0, left, OUTSIDE), tl.where(middle > 0, middle, OUTSIDE)
    return left, middle, tl.where(right > 0, right, OUTSIDE), total


@triton.jit
def depends(i, j, gldm_a):
    """1 where a neighbour's level j, or OUTSIDE, is at most ``gldm_a`` from i; a single comparison, of unsigned."""
    return ((j - i + gldm_a).to(tl.uint32, bitcast=True) <= (2 * gldm_a).to(tl.uint32)).to(tl.int32)


@kernel
def count_nearest(
    levels, start, size, regions, programs, glcm, gldm, ngtdm, ng, gldm_a,
    PAIRS: tl.constexpr, DIFFERENCES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """``count_neighbourhood`` for NEAREST, with three rows in registers and the one after them on its way."""
    k, base, depth, height, width, rank, number = share_of(start, size, regions, programs)
    across = tl.maximum((width + LANES - 1) // LANES, 1)
    in_plane = (height + ROWS - 1) // ROWS * across
    nothing = tl.zeros((LANES,), tl.int32)
    one, none = nothing + 1, nothing - 1
    first, second = glcm + 4 * k * ng * ng, glcm + (4 * k + 1) * ng * ng
    third, fourth = glcm + (4 * k + 2) * ng * ng, glcm + (4 * k + 3) * ng * ng
    dependence, difference = gldm + k * ng * 9, ngtdm + k * ng * 9
    for tile in range(rank, depth * in_plane, number):
        plane = levels + base + (tile // in_plane) * height * width
        top = tile % in_plane // across * ROWS
        x = tile % across * LANES + tl.arange(0, LANES)
        cell1, n1, cell2, n2, cell3, n3, cell4, n4 = none, nothing, none, nothing, none, nothing, none, nothing
        cell5, n5, cell6, n6 = none, nothing, none, nothing
        l0, c0, r0, sum0 = three_of_row(plane, x, top - 1, height, width)
        l1, c1, r1, sum1 = three_of_row(plane, x, top, height, width)
        l2, c2, r2, sum2 = three_of_row(plane, x, top + 1, height, width)
        for y in range(top, tl.minimum(top + ROWS, height)):
            l3, c3, r3, sum3 = three_of_row(plane, x, y + 2, height, width)
            if PAIRS:
                cell1, n1 = extend(first, cell1, n1, cell_of_pair(c1, r2, ng), one)
                cell2, n2 = extend(second, cell2, n2, cell_of_pair(c1, c2, ng), one)
                cell3, n3 = extend(third, cell3, n3, cell_of_pair(c1, l2, ng), one)
                cell4, n4 = extend(fourth, cell4, n4, cell_of_pair(c1, r1, ng), one)
            if DIFFERENCES:
                dependent = depends(c1, l0, gldm_a) + depends(c1, c0, gldm_a) + depends(c1, r0, gldm_a)
                dependent += depends(c1, l1, gldm_a) + depends(c1, r1, gldm_a)
                dependent += depends(c1, l2, gldm_a) + depends(c1, c2, gldm_a) + depends(c1, r2, gldm_a)
                total = sum0 + sum1 + sum2 - c1 - ONE
                around, total = total >> SUM_BITS, total & (ONE - 1)
                row = (c1 - 1) * 9
                cell5, n5 = extend(dependence, cell5, n5, tl.where(c1 > 0, row + dependent, -1), one)
                new = tl.where(c1 > 0, row + around, -1)
                cell6, n6 = extend(difference, cell6, n6, new, tl.abs(around * c1 - total))
            l0, c0, r0, sum0 = l1, c1, r1, sum1
            l1, c1, r1, sum1 = l2, c2, r2, sum2
            l2, c2, r2, sum2 = l3, c3, r3, sum3
        if PAIRS:
            extend(first, cell1, n1, none - 1, one)
            extend(second, cell2, n2, none - 1, one)
            extend(third, cell3, n3, none - 1, one)
            extend(fourth, cell4, n4, none - 1, one)
        if DIFFERENCES:
            extend(dependence, cell5, n5, none - 1, one)
            extend(difference, cell6, n6, none - 1, one)


@triton.jit
def neighbour_in_row(levels, base, row, x, dz, dy, dx, depth, height, width):
    """The levels (LANES,) at an offset from a row's pixels ``x``, 0 beyond the borders of the volume."""
    z = row // height
    y = row - z * height
    in_volume = (z + dz >= 0) & (z + dz < depth) & (y + dy >= 0) & (y + dy < height)
    there = (x + dx >= 0) & (x + dx < tl.where(in_volume, width, 0))
    shift = (dz * height + dy) * width + dx
    return tl.load(levels + base + (row * width + shift + x), mask=there, other=0).to(tl.int32)


@kernel
def count_neighbourhood(
    levels, start, size, regions, programs, offsets, directions, glcm, gldm, ngtdm, ng, gldm_a,
    PAIRS: tl.constexpr, DIFFERENCES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Adds a region's pixels, ROWS x LANES at a time, to its tables.

    Pairs to (A, ng, ng). To (ng, 1 + 2 A), at each pixel's level: dependent neighbours; |c * i - S| by neighbours c.
    """
    k, base, depth, height, width, rank, number = share_of(start, size, regions, programs)
    rows = depth * height
    across = tl.maximum((width + LANES - 1) // LANES, 1)
    columns = 2 * directions + 1
    nothing = tl.zeros((LANES,), tl.int32)
    one, none = nothing + 1, nothing - 1
    for tile in range(rank, (rows + ROWS - 1) // ROWS * across, number):
        top = tile // across * ROWS
        bottom = tl.minimum(top + ROWS, rows)
        x = tile % across * LANES + tl.arange(0, LANES)
        if PAIRS:
            for a in range(directions):
                dz = tl.load(offsets + 3 * a)
                dy = tl.load(offsets + 3 * a + 1)
                dx = tl.load(offsets + 3 * a + 2)
                table = glcm + (k * directions + a) * ng * ng
                cell, count = none, nothing
                for row in range(top, bottom):
                    i = neighbour_in_row(levels, base, row, x, 0, 0, 0, depth, height, width)
                    j = neighbour_in_row(levels, base, row, x, dz, dy, dx, depth, height, width)
                    cell, count = extend(table, cell, count, cell_of_pair(i, j, ng), one)
                extend(table, cell, count, none - 1, one)
        if DIFFERENCES:
            dependence, difference = gldm + k * ng * columns, ngtdm + k * ng * columns
            cell, count, cell_of_sum, amount = none, nothing, none, nothing
            for row in range(top, bottom):
                i = neighbour_in_row(levels, base, row, x, 0, 0, 0, depth, height, width)
                around, total, dependent = nothing, nothing, nothing
                for n in range(2 * directions):  # the offsets, then their opposites
                    a = n % directions
                    sign = tl.where(n < directions, 1, -1)
                    dz = tl.load(offsets + 3 * a) * sign
                    dy = tl.load(offsets + 3 * a + 1) * sign
                    dx = tl.load(offsets + 3 * a + 2) * sign
                    j = neighbour_in_row(levels, base, row, x, dz, dy, dx, depth, height, width)
                    around += (j > 0).to(tl.int32)
                    total += j
                    dependent += depends(i, tl.where(j > 0, j, OUTSIDE), gldm_a)
                here = (i - 1) * columns
                cell, count = extend(dependence, cell, count, tl.where(i > 0, here + dependent, -1), one)
                new = tl.where(i > 0, here + around, -1)
                cell_of_sum, amount = extend(difference, cell_of_sum, amount, new, tl.abs(around * i - total))
            extend(dependence, cell, count, none - 1, one)
            extend(difference, cell_of_sum, amount, none - 1, one)


def neighbourhood(
    levels: Tensor,
    start: Tensor,
    size: Tensor,
    offsets: Sequence[int],
    ng: int,
    *,
    gldm_a: int,
    pairs: bool,
    differences: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`kacl_gpu.radiomics.ops.neighbourhood`."""
    regions, directions, device = len(start), len(offsets) // 3, levels.device
    shape = regions * differences, ng, 1 + 2 * directions
    glcm = torch.zeros((regions * pairs, directions, ng, ng), dtype=torch.int32, device=device)
    gldm = torch.zeros(shape, dtype=torch.int32, device=device)
    ngtdm = torch.zeros(shape, dtype=torch.int64, device=device)
    programs = tiles(levels)
    tables = glcm, gldm, ngtdm, ng, min(gldm_a, MOST_APART)
    shape_of_work = {"PAIRS": pairs, "DIFFERENCES": differences, "ROWS": ROWS, "LANES": LANES, "num_warps": 2}
    of_levels = levels, start, size, regions, programs
    if tuple(offsets) == NEAREST:
        launch(count_nearest, (programs,), *of_levels, *tables, **shape_of_work)
    else:
        where = offsets_on(offsets, device), directions
        launch(count_neighbourhood, (programs,), *of_levels, *where, *tables, **shape_of_work)
    return glcm, gldm, ngtdm


@triton.jit
def difference_of(differences, row, inside, columns, BLOCK: tl.constexpr):
    """s_i of levels (BLOCK,) at ``row`` of (..., columns): the sum over c of differences / c; of none without any."""
    total = tl.zeros((BLOCK,), tl.float64)
    for c in range(1, columns):
        reciprocal = tl.full((BLOCK,), 1.0, tl.float64) / c
        total += tl.load(differences + row * columns + c, mask=inside, other=0).to(tl.float64) * reciprocal
    return total


@kernel
def pair_sums(histogram, differences, partial, ng, columns, blocks, BLOCK: tl.constexpr):
    """Of one block of levels i and all levels j: the terms of (K, blocks, 8), columns as in the result but for 2, i."""
    k = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    i = block * BLOCK + tl.arange(0, BLOCK)
    n_i = tl.load(histogram + k * ng + i, mask=i < ng, other=0).to(tl.float64)
    s_i = difference_of(differences, k * ng + i, i < ng, columns, BLOCK)
    products = tl.zeros((BLOCK, BLOCK), tl.float64)
    complexity = tl.zeros((BLOCK, BLOCK), tl.float64)
    strength = tl.zeros((BLOCK, BLOCK), tl.float64)
    n = tl.sum(n_i)
    if n > 0:
        for other in range(blocks):
            j = other * BLOCK + tl.arange(0, BLOCK)
            n_j = tl.load(histogram + k * ng + j, mask=j < ng, other=0).to(tl.float64)
            s_j = difference_of(differences, k * ng + j, j < ng, columns, BLOCK)
            pair = (n_i > 0)[:, None] & (n_j > 0)[None, :]
            both = n_i[:, None] + n_j[None, :]
            distance = (i[:, None] - j[None, :]).to(tl.float64)
            product = tl.abs(n_i[:, None] * (i[:, None] + 1) - n_j[None, :] * (j[None, :] + 1))
            weighted = n_i[:, None] * s_i[:, None] + n_j[None, :] * s_j[None, :]
            products += tl.where(pair, product, 0.0)
            complexity += tl.where(pair, tl.abs(distance) * weighted / both, 0.0)
            strength += tl.where(pair, both * distance * distance, 0.0)
    out = partial + (k * blocks + block) * 8
    tl.store(out, n)
    tl.store(out + 1, tl.sum((n_i > 0).to(tl.float64)))
    tl.store(out + 2, tl.sum(n_i * (i + 1)))
    tl.store(out + 3, tl.sum(s_i))
    tl.store(out + 4, tl.sum(n_i * s_i))
    tl.store(out + 5, tl.sum(tl.sum(products, 1)))
    tl.store(out + 6, tl.sum(tl.sum(complexity, 1)))
    tl.store(out + 7, tl.sum(tl.sum(strength, 1)))


@kernel
def add_blocks(histogram, partial, out, ng, blocks, BLOCK: tl.constexpr):
    """The blocks of one region, one after the other; the variance of the levels about their mean."""
    k = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, 8)
    total = tl.zeros((8,), tl.float64)
    for block in range(blocks):
        total += tl.load(partial + (k * blocks + block) * 8 + column)
    n = tl.sum(tl.where(column == 0, total, 0.0))
    present = tl.sum(tl.where(column == 1, total, 0.0))
    mean = tl.sum(tl.where(column == 2, total, 0.0)) / n
    squares = tl.zeros((BLOCK,), tl.float64)
    for block in range(blocks):
        i = block * BLOCK + tl.arange(0, BLOCK)
        n_i = tl.load(histogram + k * ng + i, mask=i < ng, other=0).to(tl.float64)
        d = (i + 1).to(tl.float64) - mean
        squares += n_i * (d * d)
    variance = tl.where(present == 1, 0.0, tl.sum(squares) / n)
    tl.store(out + k * 8 + column, tl.where(column == 2, variance, total))


def ngtdm_sums(histogram: Tensor, differences: Tensor) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.ngtdm_sums`."""
    regions, ng, columns = differences.shape
    blocks = cdiv(ng, BLOCK)
    partial = torch.empty((regions, blocks, 8), dtype=torch.float64, device=histogram.device)
    out = partial.new_empty((regions, 8))
    launch(pair_sums, (regions, blocks), histogram, differences, partial, ng, columns, blocks, BLOCK=BLOCK)
    launch(add_blocks, (regions,), histogram, partial, out, ng, blocks, BLOCK=BLOCK, num_warps=1)
    return out
