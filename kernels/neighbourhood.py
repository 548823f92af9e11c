"""GLCM, GLDM and NGTDM, counted together because they look at the same neighbours, and the sums of the NGTDM."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import NGTDM

from .common import (
    NEAREST,
    NEAREST_IN_SPACE,
    OFFSET_COLUMNS,
    X_STEP,
    Y_STEP,
    Z_STEP,
    cdiv,
    constants,
    kernel,
    launch,
    offsets_on,
    share_of,
    tiles,
)

ROWS, LANES = 16, 64  # of pixels that a program takes at once
OUTSIDE = tl.constexpr(-(2**20))  # far from every level
SUM_BITS, ONE = tl.constexpr(20), tl.constexpr(2**20)  # 27 levels of at most 32767 add up to less
LARGEST_DIFFERENCE = 2**16  # beyond that of any two levels
BLOCK = 32  # levels

# Columns of the sums of the NGTDM
N, LEVELS, VARIANCE, S = constants(NGTDM.n, NGTDM.levels, NGTDM.variance, NGTDM.s)
NS, PRODUCTS, COMPLEXITY, STRENGTH = constants(NGTDM.ns, NGTDM.products, NGTDM.complexity, NGTDM.strength)
COLUMNS = tl.constexpr(len(NGTDM))


@triton.jit
def extend(table, cell, amount, next_cell, next_amount):
    """Take one pixel further down each column; amounts for one cell are summed before they go to the table.

    A negative cell is none. Neighbouring pixels are alike, so this saves many atomics on the table's few busy cells.
    """
    unchanged = next_cell == cell
    tl.atomic_add(
        table + cell, amount.to(table.dtype.element_ty), mask=(cell >= 0) & (next_cell != cell), sem="relaxed"
    )
    return next_cell, tl.where(unchanged, amount, 0) + next_amount


@triton.jit
def cell_of_pair(i, j, ng):
    """Return the cell of a pair of levels in a matrix (ng, ng), -1 if one of them is 0."""
    return tl.where((i > 0) & (j > 0), (i - 1) * ng + (j - 1), -1)


@triton.jit
def three_of_row(plane, x, y, height, width):
    """Return the levels (LANES,) of row y of a plane at x - 1, x, x + 1, OUTSIDE beyond its borders, and their sum.

    The bits of the sum from SUM_BITS up count the levels. A lane may have a plane of its own, of height 0 if outside.
    """
    edge = tl.where((y >= 0) & (y < height), width, 0)
    pointer = plane + (y * width + x)
    left = tl.load(pointer - 1, mask=(x > 0) & (x <= edge), other=0).to(tl.int32)
    middle = tl.load(pointer, mask=x < edge, other=0).to(tl.int32)
    right = tl.load(pointer + 1, mask=x + 1 < edge, other=0).to(tl.int32)
    total = tl.where(left > 0, left + ONE, 0) + tl.where(middle > 0, middle + ONE, 0)
    total += tl.where(right > 0, right + ONE, 0)
    left, middle = tl.where(left > 0, left, OUTSIDE), tl.where(middle > 0, middle, OUTSIDE)
    return left, middle, tl.where(right > 0, right, OUTSIDE), total


@triton.jit
def depends(i, j, gldm_a):
    """Return 1 where a neighbour's level j is at most ``gldm_a`` from i, by a single unsigned comparison."""
    return ((j - i + gldm_a).to(tl.uint32, bitcast=True) <= (2 * gldm_a).to(tl.uint32)).to(tl.int32)


@kernel
def count_nearest(
    # inputs
    levels, start, size,
    # outputs
    glcm, gldm, ngtdm,
    # shapes
    regions, programs, ng,
    # settings
    gldm_a,
    PAIRS: tl.constexpr, DEPENDENCES: tl.constexpr, DIFFERENCES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Do what ``count_neighbourhood`` does, for NEAREST: three rows stay in registers while the next one is loaded."""
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    across = tl.maximum((width + LANES - 1) // LANES, 1)
    in_plane = (height + ROWS - 1) // ROWS * across
    zeros = tl.zeros((LANES,), tl.int32)
    ones, no_cell = zeros + 1, zeros - 1
    first, second = glcm + 4 * k * ng * ng, glcm + (4 * k + 1) * ng * ng
    third, fourth = glcm + (4 * k + 2) * ng * ng, glcm + (4 * k + 3) * ng * ng
    dependence, difference = gldm + k * ng * 9, ngtdm + k * ng * 9
    for tile in range(share, depth * in_plane, shares):
        plane = levels + base + (tile // in_plane) * height * width
        top = tile % in_plane // across * ROWS
        x = tile % across * LANES + tl.arange(0, LANES)
        cell1, n1, cell2, n2, cell3, n3, cell4, n4 = no_cell, zeros, no_cell, zeros, no_cell, zeros, no_cell, zeros
        cell5, n5, cell6, n6 = no_cell, zeros, no_cell, zeros
        l0, c0, r0, sum0 = three_of_row(plane, x, top - 1, height, width)
        l1, c1, r1, sum1 = three_of_row(plane, x, top, height, width)
        l2, c2, r2, sum2 = three_of_row(plane, x, top + 1, height, width)
        for y in range(top, tl.minimum(top + ROWS, height)):
            l3, c3, r3, sum3 = three_of_row(plane, x, y + 2, height, width)
            if PAIRS:
                cell1, n1 = extend(first, cell1, n1, cell_of_pair(c1, r2, ng), ones)
                cell2, n2 = extend(second, cell2, n2, cell_of_pair(c1, c2, ng), ones)
                cell3, n3 = extend(third, cell3, n3, cell_of_pair(c1, l2, ng), ones)
                cell4, n4 = extend(fourth, cell4, n4, cell_of_pair(c1, r1, ng), ones)
            if DEPENDENCES:
                dependent = depends(c1, l0, gldm_a) + depends(c1, c0, gldm_a) + depends(c1, r0, gldm_a)
                dependent += depends(c1, l1, gldm_a) + depends(c1, r1, gldm_a)
                dependent += depends(c1, l2, gldm_a) + depends(c1, c2, gldm_a) + depends(c1, r2, gldm_a)
                cell5, n5 = extend(dependence, cell5, n5, tl.where(c1 > 0, (c1 - 1) * 9 + dependent, -1), ones)
            if DIFFERENCES:
                total = sum0 + sum1 + sum2 - c1 - ONE
                neighbours, total = total >> SUM_BITS, total & (ONE - 1)
                next_cell = tl.where(c1 > 0, (c1 - 1) * 9 + neighbours, -1)
                cell6, n6 = extend(difference, cell6, n6, next_cell, tl.abs(neighbours * c1 - total))
            l0, c0, r0, sum0 = l1, c1, r1, sum1
            l1, c1, r1, sum1 = l2, c2, r2, sum2
            l2, c2, r2, sum2 = l3, c3, r3, sum3
        if PAIRS:
            extend(first, cell1, n1, no_cell - 1, ones)
            extend(second, cell2, n2, no_cell - 1, ones)
            extend(third, cell3, n3, no_cell - 1, ones)
            extend(fourth, cell4, n4, no_cell - 1, ones)
        if DEPENDENCES:
            extend(dependence, cell5, n5, no_cell - 1, ones)
        if DIFFERENCES:
            extend(difference, cell6, n6, no_cell - 1, ones)


@triton.jit
def depend_on_row(i, left, middle, right, gldm_a):
    """Return how many of three levels in a row are at most ``gldm_a`` from i."""
    return depends(i, left, gldm_a) + depends(i, middle, gldm_a) + depends(i, right, gldm_a)


@kernel
def count_nearest_in_space(
    # inputs
    levels, start, size,
    # outputs
    glcm, gldm, ngtdm,
    # shapes
    regions, programs, ng,
    # settings
    gldm_a,
    PAIRS: tl.constexpr, DEPENDENCES: tl.constexpr, DIFFERENCES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Do what ``count_neighbourhood`` does, for NEAREST_IN_SPACE.

    Three rows of the voxel's plane and of the next one, and for all neighbours of the one before, stay in registers.
    Each lane goes down y at its own z and x, the lanes side by side in that plane: so none is idle in narrow regions.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    strips = tl.maximum((height + ROWS - 1) // ROWS, 1)
    columns = depth * width
    zeros = tl.zeros((LANES,), tl.int32)
    ones, no_cell = zeros + 1, zeros - 1
    pairs = (k * 0 + ng) * ng  # in 64 bits
    table = glcm + 13 * k * pairs
    dependence, difference = gldm + k * ng * 27, ngtdm + k * ng * 27
    for tile in range(share, (columns + LANES - 1) // LANES * strips, shares):
        top = tile % strips * ROWS
        column = tile // strips * LANES + tl.arange(0, LANES)
        z = column // width
        x = column - z * width
        here = tl.where(column < columns, height, 0)
        behind, beyond = tl.where(z > 0, here, 0), tl.where(z + 1 < depth, here, 0)
        plane = levels + base + z * (height * width)
        after, before = plane + height * width, plane - height * width
        cell1, n1, cell2, n2, cell3, n3, cell4, n4 = no_cell, zeros, no_cell, zeros, no_cell, zeros, no_cell, zeros
        cell5, n5, cell6, n6, cell7, n7, cell8, n8 = no_cell, zeros, no_cell, zeros, no_cell, zeros, no_cell, zeros
        cell9, n9, cell10, n10, cell11, n11 = no_cell, zeros, no_cell, zeros, no_cell, zeros
        cell12, n12, cell13, n13 = no_cell, zeros, no_cell, zeros
        cell14, n14, cell15, n15 = no_cell, zeros, no_cell, zeros
        # levels on the left, in the middle, on the right and their sums; in rows y - 1, y, y + 1
        l0, c0, r0, sum0 = three_of_row(plane, x, top - 1, here, width)
        l1, c1, r1, sum1 = three_of_row(plane, x, top, here, width)
        after_l0, after_c0, after_r0, after_sum0 = three_of_row(after, x, top - 1, beyond, width)
        after_l1, after_c1, after_r1, after_sum1 = three_of_row(after, x, top, beyond, width)
        if DEPENDENCES or DIFFERENCES:
            before_l0, before_c0, before_r0, before_sum0 = three_of_row(before, x, top - 1, behind, width)
            before_l1, before_c1, before_r1, before_sum1 = three_of_row(before, x, top, behind, width)
        for y in range(top, tl.minimum(top + ROWS, height)):
            l2, c2, r2, sum2 = three_of_row(plane, x, y + 1, here, width)
            after_l2, after_c2, after_r2, after_sum2 = three_of_row(after, x, y + 1, beyond, width)
            if DEPENDENCES or DIFFERENCES:
                before_l2, before_c2, before_r2, before_sum2 = three_of_row(before, x, y + 1, behind, width)
            if PAIRS:
                cell1, n1 = extend(table, cell1, n1, cell_of_pair(c1, after_r2, ng), ones)
                cell2, n2 = extend(table + pairs, cell2, n2, cell_of_pair(c1, after_c2, ng), ones)
                cell3, n3 = extend(table + 2 * pairs, cell3, n3, cell_of_pair(c1, after_l2, ng), ones)
                cell4, n4 = extend(table + 3 * pairs, cell4, n4, cell_of_pair(c1, after_r1, ng), ones)
                cell5, n5 = extend(table + 4 * pairs, cell5, n5, cell_of_pair(c1, after_c1, ng), ones)
                cell6, n6 = extend(table + 5 * pairs, cell6, n6, cell_of_pair(c1, after_l1, ng), ones)
                cell7, n7 = extend(table + 6 * pairs, cell7, n7, cell_of_pair(c1, after_r0, ng), ones)
                cell8, n8 = extend(table + 7 * pairs, cell8, n8, cell_of_pair(c1, after_c0, ng), ones)
                cell9, n9 = extend(table + 8 * pairs, cell9, n9, cell_of_pair(c1, after_l0, ng), ones)
                cell10, n10 = extend(table + 9 * pairs, cell10, n10, cell_of_pair(c1, r2, ng), ones)
                cell11, n11 = extend(table + 10 * pairs, cell11, n11, cell_of_pair(c1, c2, ng), ones)
                cell12, n12 = extend(table + 11 * pairs, cell12, n12, cell_of_pair(c1, l2, ng), ones)
                cell13, n13 = extend(table + 12 * pairs, cell13, n13, cell_of_pair(c1, r1, ng), ones)
            if DEPENDENCES:
                dependent = depends(c1, l1, gldm_a) + depends(c1, r1, gldm_a)
                dependent += depend_on_row(c1, l0, c0, r0, gldm_a) + depend_on_row(c1, l2, c2, r2, gldm_a)
                dependent += depend_on_row(c1, after_l0, after_c0, after_r0, gldm_a)
                dependent += depend_on_row(c1, after_l1, after_c1, after_r1, gldm_a)
                dependent += depend_on_row(c1, after_l2, after_c2, after_r2, gldm_a)
                dependent += depend_on_row(c1, before_l0, before_c0, before_r0, gldm_a)
                dependent += depend_on_row(c1, before_l1, before_c1, before_r1, gldm_a)
                dependent += depend_on_row(c1, before_l2, before_c2, before_r2, gldm_a)
                next_cell = tl.where(c1 > 0, (c1 - 1) * 27 + dependent, -1)
                cell14, n14 = extend(dependence, cell14, n14, next_cell, ones)
            if DIFFERENCES:
                total = sum0 + sum1 + sum2 - c1 - ONE
                total += after_sum0 + after_sum1 + after_sum2 + before_sum0 + before_sum1 + before_sum2
                neighbours, total = total >> SUM_BITS, total & (ONE - 1)
                next_cell = tl.where(c1 > 0, (c1 - 1) * 27 + neighbours, -1)
                cell15, n15 = extend(difference, cell15, n15, next_cell, tl.abs(neighbours * c1 - total))
            l0, c0, r0, sum0 = l1, c1, r1, sum1
            l1, c1, r1, sum1 = l2, c2, r2, sum2
            after_l0, after_c0, after_r0, after_sum0 = after_l1, after_c1, after_r1, after_sum1
            after_l1, after_c1, after_r1, after_sum1 = after_l2, after_c2, after_r2, after_sum2
            if DEPENDENCES or DIFFERENCES:
                before_l0, before_c0, before_r0, before_sum0 = before_l1, before_c1, before_r1, before_sum1
                before_l1, before_c1, before_r1, before_sum1 = before_l2, before_c2, before_r2, before_sum2
        if PAIRS:
            extend(table, cell1, n1, no_cell - 1, ones)
            extend(table + pairs, cell2, n2, no_cell - 1, ones)
            extend(table + 2 * pairs, cell3, n3, no_cell - 1, ones)
            extend(table + 3 * pairs, cell4, n4, no_cell - 1, ones)
            extend(table + 4 * pairs, cell5, n5, no_cell - 1, ones)
            extend(table + 5 * pairs, cell6, n6, no_cell - 1, ones)
            extend(table + 6 * pairs, cell7, n7, no_cell - 1, ones)
            extend(table + 7 * pairs, cell8, n8, no_cell - 1, ones)
            extend(table + 8 * pairs, cell9, n9, no_cell - 1, ones)
            extend(table + 9 * pairs, cell10, n10, no_cell - 1, ones)
            extend(table + 10 * pairs, cell11, n11, no_cell - 1, ones)
            extend(table + 11 * pairs, cell12, n12, no_cell - 1, ones)
            extend(table + 12 * pairs, cell13, n13, no_cell - 1, ones)
        if DEPENDENCES:
            extend(dependence, cell14, n14, no_cell - 1, ones)
        if DIFFERENCES:
            extend(difference, cell15, n15, no_cell - 1, ones)


@triton.jit
def neighbour_in_row(levels, base, row, x, dz, dy, dx, depth, height, width):
    """Return the levels (LANES,) at an offset from a row's pixels ``x``, 0 beyond the borders of the volume."""
    z = row // height
    y = row - z * height
    in_volume = (z + dz >= 0) & (z + dz < depth) & (y + dy >= 0) & (y + dy < height)
    valid = (x + dx >= 0) & (x + dx < tl.where(in_volume, width, 0))
    shift = (dz * height + dy) * width + dx
    return tl.load(levels + base + (row * width + shift + x), mask=valid, other=0).to(tl.int32)


@kernel
def count_neighbourhood(
    # inputs
    levels, start, size, offsets,
    # outputs
    glcm, gldm, ngtdm,
    # shapes
    regions, programs, directions, ng,
    # settings
    gldm_a,
    PAIRS: tl.constexpr, DEPENDENCES: tl.constexpr, DIFFERENCES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Add a region's pixels, ROWS x LANES at a time, to its tables.

    ``glcm`` (A, ng, ng) counts pairs of levels; ``gldm`` (ng, 1 + 2 A) counts pixels by level and number of dependent
    neighbours; ``ngtdm`` (ng, 1 + 2 A) sums |c * i - S| by level i and number c of neighbours, whose levels sum to S.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    rows = depth * height
    across = tl.maximum((width + LANES - 1) // LANES, 1)
    columns = 2 * directions + 1
    zeros = tl.zeros((LANES,), tl.int32)
    ones, no_cell = zeros + 1, zeros - 1
    for tile in range(share, (rows + ROWS - 1) // ROWS * across, shares):
        top = tile // across * ROWS
        bottom = tl.minimum(top + ROWS, rows)
        x = tile % across * LANES + tl.arange(0, LANES)
        if PAIRS:
            for a in range(directions):
                dz = tl.load(offsets + OFFSET_COLUMNS * a + Z_STEP)
                dy = tl.load(offsets + OFFSET_COLUMNS * a + Y_STEP)
                dx = tl.load(offsets + OFFSET_COLUMNS * a + X_STEP)
                table = glcm + (k * directions + a) * ng * ng
                cell, count = no_cell, zeros
                for row in range(top, bottom):
                    i = neighbour_in_row(levels, base, row, x, 0, 0, 0, depth, height, width)
                    j = neighbour_in_row(levels, base, row, x, dz, dy, dx, depth, height, width)
                    cell, count = extend(table, cell, count, cell_of_pair(i, j, ng), ones)
                extend(table, cell, count, no_cell - 1, ones)
        if DEPENDENCES or DIFFERENCES:
            dependence, difference = gldm + k * ng * columns, ngtdm + k * ng * columns
            cell, count, cell_of_sum, amount = no_cell, zeros, no_cell, zeros
            for row in range(top, bottom):
                i = neighbour_in_row(levels, base, row, x, 0, 0, 0, depth, height, width)
                neighbours, total, dependent = zeros, zeros, zeros
                for n in range(2 * directions):  # the offsets, then their opposites
                    a = n % directions
                    sign = tl.where(n < directions, 1, -1)
                    dz = tl.load(offsets + OFFSET_COLUMNS * a + Z_STEP) * sign
                    dy = tl.load(offsets + OFFSET_COLUMNS * a + Y_STEP) * sign
                    dx = tl.load(offsets + OFFSET_COLUMNS * a + X_STEP) * sign
                    j = neighbour_in_row(levels, base, row, x, dz, dy, dx, depth, height, width)
                    if DEPENDENCES:
                        dependent += depends(i, tl.where(j > 0, j, OUTSIDE), gldm_a)
                    if DIFFERENCES:
                        neighbours += (j > 0).to(tl.int32)
                        total += j
                row_cell = (i - 1) * columns
                if DEPENDENCES:
                    cell, count = extend(dependence, cell, count, tl.where(i > 0, row_cell + dependent, -1), ones)
                if DIFFERENCES:
                    next_cell = tl.where(i > 0, row_cell + neighbours, -1)
                    difference_sum = tl.abs(neighbours * i - total)
                    cell_of_sum, amount = extend(difference, cell_of_sum, amount, next_cell, difference_sum)
            if DEPENDENCES:
                extend(dependence, cell, count, no_cell - 1, ones)
            if DIFFERENCES:
                extend(difference, cell_of_sum, amount, no_cell - 1, ones)


def neighbourhood(
    levels: Tensor,
    start: Tensor,
    size: Tensor,
    offsets: Sequence[int],
    ng: int,
    *,
    gldm_a: int,
    pairs: bool,
    dependences: bool,
    differences: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Count pairs and dependences, sum differences; see :func:`kacl_gpu.radiomics.ops.neighbourhood`."""
    regions, directions, device = len(start), len(offsets) // OFFSET_COLUMNS.value, levels.device
    columns = 1 + 2 * directions
    glcm = torch.zeros((regions * pairs, directions, ng, ng), dtype=torch.int32, device=device)
    gldm = torch.zeros((regions * dependences, ng, columns), dtype=torch.int32, device=device)
    ngtdm = torch.zeros((regions * differences, ng, columns), dtype=torch.int64, device=device)
    programs, gldm_a = tiles(levels), min(gldm_a, LARGEST_DIFFERENCE)
    constants: dict[str, Any] = {"PAIRS": pairs, "DEPENDENCES": dependences, "DIFFERENCES": differences}
    constants |= {"ROWS": ROWS, "LANES": LANES, "num_warps": 2}
    known = {NEAREST: count_nearest, NEAREST_IN_SPACE: count_nearest_in_space}.get(tuple(offsets))
    if known is not None:
        launch(
            known,
            (programs,),
            # inputs
            *(levels, start, size),
            # outputs
            *(glcm, gldm, ngtdm),
            # shapes
            *(regions, programs, ng),
            # settings
            gldm_a,
            **constants,
        )
    else:
        launch(
            count_neighbourhood,
            (programs,),
            # inputs
            *(levels, start, size, offsets_on(offsets, device)),
            # outputs
            *(glcm, gldm, ngtdm),
            # shapes
            *(regions, programs, directions, ng),
            # settings
            gldm_a,
            **constants,
        )
    return glcm, gldm, ngtdm


@triton.jit
def difference_of(differences, row, inside, columns, BLOCK: tl.constexpr):
    """Return s_i of levels (BLOCK,) at ``row`` of (..., columns): the sum over c of differences / c, 0 without any."""
    total = tl.zeros((BLOCK,), tl.float64)
    for c in range(1, columns):
        reciprocal = tl.full((BLOCK,), 1.0, tl.float64) / c
        total += tl.load(differences + row * columns + c, mask=inside, other=0).to(tl.float64) * reciprocal
    return total


@kernel
def pair_sums(
    # inputs
    histogram, differences,
    # outputs
    partial,
    # shapes
    ng, columns, blocks,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum over one block of levels i and all levels j: ``partial`` (K, blocks, COLUMNS.value).

    Its columns are those of the result, but for the third, which is the sum of i here.
    """
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
            pixels = n_i[:, None] + n_j[None, :]
            distance = (i[:, None] - j[None, :]).to(tl.float64)
            product = tl.abs(n_i[:, None] * (i[:, None] + 1) - n_j[None, :] * (j[None, :] + 1))
            weighted = n_i[:, None] * s_i[:, None] + n_j[None, :] * s_j[None, :]
            products += tl.where(pair, product, 0.0)
            complexity += tl.where(pair, tl.abs(distance) * weighted / pixels, 0.0)
            strength += tl.where(pair, pixels * distance * distance, 0.0)
    out = partial + (k * blocks + block) * COLUMNS
    tl.store(out + N, n)
    tl.store(out + LEVELS, tl.sum((n_i > 0).to(tl.float64)))
    tl.store(out + VARIANCE, tl.sum(n_i * (i + 1)))
    tl.store(out + S, tl.sum(s_i))
    tl.store(out + NS, tl.sum(n_i * s_i))
    tl.store(out + PRODUCTS, tl.sum(tl.sum(products, 1)))
    tl.store(out + COMPLEXITY, tl.sum(tl.sum(complexity, 1)))
    tl.store(out + STRENGTH, tl.sum(tl.sum(strength, 1)))


@kernel
def add_blocks(
    # inputs
    histogram, partial,
    # outputs
    out,
    # shapes
    ng, blocks,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add up the blocks of one region in order, and compute the variance of its levels about their mean."""
    k = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float64)
    for block in range(blocks):
        total += tl.load(partial + (k * blocks + block) * COLUMNS + column)
    n = tl.sum(tl.where(column == N, total, 0.0))
    present = tl.sum(tl.where(column == LEVELS, total, 0.0))
    mean = tl.sum(tl.where(column == VARIANCE, total, 0.0)) / n
    squares = tl.zeros((BLOCK,), tl.float64)
    for block in range(blocks):
        i = block * BLOCK + tl.arange(0, BLOCK)
        n_i = tl.load(histogram + k * ng + i, mask=i < ng, other=0).to(tl.float64)
        d = (i + 1).to(tl.float64) - mean
        squares += n_i * (d * d)
    variance = tl.where(present == 1, 0.0, tl.sum(squares) / n)
    tl.store(out + k * COLUMNS + column, tl.where(column == VARIANCE, variance, total))


def ngtdm_sums(histogram: Tensor, differences: Tensor) -> Tensor:
    """Sum the NGTDM; see :func:`kacl_gpu.radiomics.ops.ngtdm_sums`."""
    regions, ng, columns = differences.shape
    blocks = cdiv(ng, BLOCK)
    partial = torch.empty((regions, blocks, COLUMNS.value), dtype=torch.float64, device=histogram.device)
    out = partial.new_empty((regions, COLUMNS.value))
    # each: inputs, outputs, shapes
    launch(pair_sums, (regions, blocks), *(histogram, differences), partial, *(ng, columns, blocks), BLOCK=BLOCK)
    launch(add_blocks, (regions,), *(histogram, partial), out, *(ng, blocks), BLOCK=BLOCK, num_warps=1)
    return out
