"""Surface of a mask by marching cubes, its diameters, and the axes of its voxels.

Every cube of eight voxels that touches the block is looked at once; all that is added up is an integer. Diameters are
those of the first and the last vertex of each row: a program takes a plane, finds them, and compares all pairs. Within
all of the region only points far from the middle of its box can be furthest apart, and few are.

Half voxels are counted from the middle of the voxel before the block, so that voxel i of a side lies at 2 i + 2. A
vertex is the middle of two neighbouring voxels of which one is inside.
"""

import itertools
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import SHAPE, number_of_columns
from kacl_gpu.radiomics.mesh import CASES, NORMALS, mesh

from .common import (
    DEPTH,
    HEIGHT,
    SIZE_COLUMNS,
    SPACING_COLUMNS,
    SPACING_X,
    SPACING_Y,
    SPACING_Z,
    TILE,
    WIDTH,
    cdiv,
    constants,
    kernel,
    launch,
    position,
    share_of,
    tiles,
)

LINES = 32  # rows of a plane, or points, that are compared at once
RUN = 32  # voxels of a row that are looked at at once
POINTS = 256  # ends of rows that are looked at at once
BLOCK = 32  # regions of a program at the end, and boxes
ROTATIONS = tl.constexpr(24)  # of Jacobi: eight sweeps of three
PRIME = tl.constexpr(2147483647)  # products of two residues fit into 63 bits
BELOW = tl.constexpr(1 - 1e-9)  # what is compared with a bound may be wrong by roundings
TINY = tl.constexpr(1e-9)
NO_PLACE = tl.constexpr(1 << 30)

# Columns of the result
OUT_N, OUT_AREA, OUT_VOLUMES, OUT_DIAMETER = constants(SHAPE.n, SHAPE.area, SHAPE.volumes, SHAPE.diameter)
OUT_SLICE, OUT_COLUMN, OUT_ROW = constants(SHAPE.diameter_slice, SHAPE.diameter_column, SHAPE.diameter_row)
OUT_MAJOR, OUT_MINOR, OUT_LEAST = constants(SHAPE.major, SHAPE.minor, SHAPE.least)
COLUMNS = tl.constexpr(number_of_columns(SHAPE))
# Columns of the table of cases: triangles of each kind of normal, determinant, normal
KINDS = tl.constexpr(len(NORMALS))
CASE_COLUMNS = tl.constexpr(len(NORMALS) + 4)
NORMALS_AT = tl.constexpr(CASES * (len(NORMALS) + 4))  # where in the table the normals themselves are
STEPS_AT = tl.constexpr(NORMALS_AT.value + 3 * len(NORMALS))  # and the 27 numbers of three digits from 0 to 2
# Columns of the sums (K, SUMS) int64: voxels, sums of their places, of squares, of products; along each axis the
# largest side less place, and place plus one; the table's columns, and normals times places; bits of squared diameters
# across z, y, x and of all, of the largest distance from the middle, and of 26 projections; number of points listed
N, SUM_Z, SUM_Y, SUM_X, SUM_ZZ, SUM_YY, SUM_XX, SUM_YX, SUM_ZX, SUM_ZY = constants(*range(10))
LOW, HIGH, TABLE = constants(10, 13, 16)
DETERMINANT, NORMAL, PLACES = constants(TABLE.value + KINDS.value, TABLE.value + KINDS.value + 1, TABLE.value + 22)
SQUARES, SQUARE_Y, SQUARE_X, SQUARE_OF_ALL, REACH, PROJECTIONS = constants(*(PLACES.value + n for n in range(1, 7)))
DIRECTIONS = tl.constexpr(13)  # and their opposites
LISTED = tl.constexpr(PROJECTIONS.value + 2 * DIRECTIONS.value)
SUMS = tl.constexpr(LISTED.value + 1)


@cache
def _table_on(device: torch.device) -> Tensor:
    parts = mesh()
    rows = torch.cat([torch.from_numpy(part).reshape(CASES, -1) for part in parts], 1).ravel()
    steps = itertools.product(range(3), repeat=3)
    table = torch.cat([rows, torch.tensor(NORMALS).ravel(), torch.tensor([*steps]).ravel()]).to(torch.int32)
    return table.to(device, non_blocking=True)


@triton.jit
def inside_of(mask, base, z, y, x, depth, height, width, valid):
    """Return 1 where a voxel of a region's block is in the mask, 0 outside of the mask and of the block."""
    valid = valid & (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (tl.load(mask + base + ((z * height + y) * width + x), mask=valid, other=0) > 0).to(tl.int32)


@triton.jit
def add_products(row, ones, z, y, x):
    """Add the voxels of a tile, 1 or 0 each, their places and products of them to a row of sums."""
    z, y, x = z.to(tl.int64), y.to(tl.int64), x.to(tl.int64)
    tl.atomic_add(row + N, tl.sum(ones), sem="relaxed")
    tl.atomic_add(row + SUM_Z, tl.sum(ones * z), sem="relaxed")
    tl.atomic_add(row + SUM_Y, tl.sum(ones * y), sem="relaxed")
    tl.atomic_add(row + SUM_X, tl.sum(ones * x), sem="relaxed")
    tl.atomic_add(row + SUM_ZZ, tl.sum(ones * z * z), sem="relaxed")
    tl.atomic_add(row + SUM_YY, tl.sum(ones * y * y), sem="relaxed")
    tl.atomic_add(row + SUM_XX, tl.sum(ones * x * x), sem="relaxed")
    tl.atomic_add(row + SUM_YX, tl.sum(ones * y * x), sem="relaxed")
    tl.atomic_add(row + SUM_ZX, tl.sum(ones * z * x), sem="relaxed")
    tl.atomic_add(row + SUM_ZY, tl.sum(ones * z * y), sem="relaxed")


@triton.jit
def add_extent(row, axis, inside, place, side):
    """Keep the first and the last place of voxels along an axis in a row of sums."""
    tl.atomic_max(row + LOW + axis, tl.max(tl.where(inside, side - place, 0)).to(tl.int64), sem="relaxed")
    tl.atomic_max(row + HIGH + axis, tl.max(tl.where(inside, place + 1, 0)).to(tl.int64), sem="relaxed")


@kernel
def count_cubes(
    # inputs
    mask, start, size, table,
    # outputs
    sums,
    # shapes
    regions, programs,
    TILE: tl.constexpr,
):  # fmt: skip
    """Add the cubes of a region, a tile of them at a time, and their last voxels to ``sums`` (K, SUMS).

    A cube is named by its last voxel: there is one more along each axis than there are voxels.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    row = sums + k.to(tl.int64) * SUMS
    cubes = tl.where(depth * height * width > 0, (depth + 1) * (height + 1) * (width + 1), 0)
    for first in range(share * TILE, cubes, shares * TILE):
        index = first + tl.arange(0, TILE)
        valid = index < cubes
        z, y, x = position(index, depth + 1, height + 1, width + 1)
        case = tl.zeros((TILE,), tl.int32)
        for bit in tl.static_range(8):
            dz, dy, dx = bit // 4, bit // 2 % 2, bit % 2
            here = inside_of(mask, base, z + dz - 1, y + dy - 1, x + dx - 1, depth, height, width, valid)
            case += here << bit
        inside = case >= 128
        if tl.max(case) >= 128:
            add_products(row, inside.to(tl.int64), z, y, x)
            add_extent(row, 0, inside, z, depth)
            add_extent(row, 1, inside, y, height)
            add_extent(row, 2, inside, x, width)
        mixed = (case > 0) & (case < 255)
        if tl.max(mixed.to(tl.int32)) > 0:
            for column in range(CASE_COLUMNS):
                entry = tl.load(table + case * CASE_COLUMNS + column, mask=mixed, other=0)
                tl.atomic_add(row + TABLE + column, tl.sum(entry).to(tl.int64), sem="relaxed")
            normal = table + case * CASE_COLUMNS + KINDS + 1
            places = tl.load(normal, mask=mixed, other=0).to(tl.int64) * z
            places += tl.load(normal + 1, mask=mixed, other=0).to(tl.int64) * y
            places += tl.load(normal + 2, mask=mixed, other=0).to(tl.int64) * x
            tl.atomic_add(row + PLACES, tl.sum(places), sem="relaxed")


@triton.jit
def of_axis(axis, z, y, x):
    """Return the value of an axis."""
    return tl.where(axis == 0, z, tl.where(axis == 1, y, x))


@triton.jit
def axes_of(across, depth, height, width):
    """Return the axis from row to row and that along a row, the longer one, of planes across an axis."""
    first = tl.where(across == 0, 1, 0)
    second = tl.where(across == 2, 1, 2)
    is_first = of_axis(first, depth, height, width) > of_axis(second, depth, height, width)
    along = tl.where(is_first, first, second)
    return first + second - along, along


@triton.jit
def thinnest(depth, height, width):
    """Return the axis across whose planes there are the fewest rows in all: the shortest side."""
    return tl.where((depth <= height) & (depth <= width), 0, tl.where(height <= width, 1, 2))


@triton.jit
def find_ends(
    mask, row, plane, sides, steps,
    LINES: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Return the first and the last vertex of rows (LINES,) of a plane; NO_PLACE and -1 where there is none.

    Row, plane and vertices are in half voxels, so that odd ones lie between voxels. ``mask`` points to a region's first
    voxel; ``sides`` and ``steps`` are voxels, and distances in memory, from plane to plane, row to row and along a row.
    """
    planes, rows, length = sides
    plane_step, row_step, step = steps
    a, r = plane // 2 - 1, row // 2 - 1  # the voxel of the plane and of the row, or the one before
    # the second voxel of a vertex lies in the next plane, in the next row, or further along the row
    da = plane % 2
    dr = row % 2 * (1 - da)
    ds = (1 - row % 2) * (1 - da)
    exists = (row < 2 * rows + 2) & (row % 2 + da < 2)
    low_row = exists & (tl.minimum(r, a) >= 0)
    high_row = exists & (r + dr < rows) & (row * 0 + (a + da) < planes)
    first = tl.full((LINES,), NO_PLACE, tl.int32)
    last = tl.full((LINES,), -1, tl.int32)
    for begin in range(-1, length, RUN):
        s = begin + tl.arange(0, RUN)
        s2 = s[None, :] + ds[:, None]
        low = low_row[:, None] & (s >= 0)[None, :] & (s < length)[None, :]
        high = high_row[:, None] & (s2 >= 0) & (s2 < length)
        place = a * plane_step + r[:, None] * row_step + s[None, :] * step
        second = place + (da * plane_step + dr * row_step + ds * step)[:, None]
        changes = (tl.load(mask + place, mask=low, other=0) > 0) != (tl.load(mask + second, mask=high, other=0) > 0)
        vertex = s[None, :] + s2 + 2
        first = tl.minimum(first, tl.min(tl.where(changes, vertex, NO_PLACE), 1))
        last = tl.maximum(last, tl.max(tl.where(changes, vertex, -1), 1))
    return first, last


@triton.jit
def load_ends(ends, row, rows):
    """Return the first and the last vertex of rows of a plane, and whether there is any."""
    valid = row < 2 * rows + 2
    first = tl.load(ends + 2 * (row - 1), mask=valid, other=0)
    last = tl.load(ends + 2 * (row - 1) + 1, mask=valid, other=-1)
    return first, last, last >= 0


@triton.jit
def squares(row, s, other_row, other_s, across, along):
    """Return squared distances of all pairs of two lists of vertices in half voxels, of these spacings."""
    d_row = 0.5 * (row[:, None] - other_row[None, :]).to(tl.float64) * across
    d_s = 0.5 * (s[:, None] - other_s[None, :]).to(tl.float64) * along
    return d_row * d_row + d_s * d_s


@triton.jit
def largest_square(ends, rows, across, along, LINES: tl.constexpr):
    """Return the largest squared distance of two ends of the rows of a plane."""
    largest = tl.zeros((LINES, LINES), tl.float64)
    for begin in range(1, 2 * rows + 2, LINES):
        row = begin + tl.arange(0, LINES)
        first, last, present = load_ends(ends, row, rows)
        for begin_other in range(begin, 2 * rows + 2, LINES):
            other = begin_other + tl.arange(0, LINES)
            other_first, other_last, other_present = load_ends(ends, other, rows)
            valid = present[:, None] & other_present[None, :]
            for n in range(4):
                s = tl.where(n % 2 == 0, first, last)
                other_s = tl.where(n < 2, other_first, other_last)
                largest = tl.maximum(largest, tl.where(valid, squares(row, s, other, other_s, across, along), 0.0))
    return tl.max(tl.max(largest, 1))


@triton.jit
def keep_largest(pointer, value):
    """Keep the largest of values of at least 0, whose bits have their order."""
    tl.atomic_max(pointer, value.to(tl.int64, bitcast=True), sem="relaxed")


@kernel
def measure_planes(
    # inputs
    mask, start, size, spacing,
    # outputs
    ends, sums,
    # shapes
    regions, programs, total,
    TILE: tl.constexpr, LINES: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Keep the largest squared distances within planes, a plane at a time, in ``sums``.

    The ends of the rows of all planes across the shortest side stay in ``ends`` (2 * total,), in the region's part of
    it. Those of other planes lie in as many tiles of the second half as they need, so some programs may have no plane.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    row_of_sums = sums + k.to(tl.int64) * SUMS
    shortest = thinnest(depth, height, width)
    shortest_side = of_axis(shortest, depth, height, width)
    tiles_each = (4 * shortest_side + 2 + TILE - 1) // TILE  # planes across other sides have 2 * shortest_side + 1 rows
    scratch = total + base + share.to(tl.int64) * TILE
    end = tl.where(depth * height * width > 0, 2 * (depth + height + width) + 3, 0)
    end = tl.where((share % tiles_each == 0) & (share + tiles_each <= shares), end, 0)
    for number in range(share // tiles_each, end, tl.maximum(shares // tiles_each, 1)):
        across = (number > 2 * depth).to(tl.int32) + (number > 2 * (depth + height) + 1).to(tl.int32)
        plane = 1 + number - of_axis(across, 0, 2 * depth + 1, 2 * (depth + height) + 2)
        by_row, along = axes_of(across, depth, height, width)
        rows, length = of_axis(by_row, depth, height, width), of_axis(along, depth, height, width)
        sides = of_axis(across, depth, height, width), rows, length
        steps = (
            of_axis(across, height * width, width, 1),
            of_axis(by_row, height * width, width, 1),
            of_axis(along, height * width, width, 1),
        )
        kept = base + (plane - 1).to(tl.int64) * (4 * rows + 2)
        here = ends + tl.where(across == shortest, kept, scratch)
        for begin in range(1, 2 * rows + 2, LINES):
            row = begin + tl.arange(0, LINES)
            first, last = find_ends(mask + base, row, plane, sides, steps, LINES, RUN)
            valid = row < 2 * rows + 2
            tl.store(here + 2 * (row - 1), first, mask=valid)
            tl.store(here + 2 * (row - 1) + 1, last, mask=valid)
        tl.debug_barrier()
        voxel = spacing + SPACING_COLUMNS * k
        square = largest_square(here, rows, tl.load(voxel + by_row), tl.load(voxel + along), LINES)
        keep_largest(row_of_sums + SQUARES + across, square)
        tl.debug_barrier()  # a slower warp must not load what the next plane stores


@triton.jit
def points_of(ends, base, index, points, depth, height, width):
    """Return z, y, x in half voxels of the ends of all rows that ``measure_planes`` kept, and whether they exist."""
    shortest = thinnest(depth, height, width)
    by_row, _ = axes_of(shortest, depth, height, width)
    rows = 2 * of_axis(by_row, depth, height, width) + 1
    s = tl.load(ends + base + index, mask=index < points, other=-1)
    before = index // 2
    plane = before // rows + 1
    row = before % rows + 1
    present = (s >= 0) & (s < NO_PLACE)
    z = tl.where(shortest == 0, plane, tl.where(by_row == 0, row, s))
    y = tl.where(shortest == 1, plane, tl.where(by_row == 1, row, s))
    x = tl.where(shortest == 2, plane, tl.where(by_row == 2, row, s))
    return z, y, x, present


@triton.jit
def number_of_points(depth, height, width):
    """Return the number of ends of rows that ``measure_planes`` keeps."""
    shortest = thinnest(depth, height, width)
    by_row, _ = axes_of(shortest, depth, height, width)
    planes, rows = of_axis(shortest, depth, height, width), of_axis(by_row, depth, height, width)
    return tl.where(depth * height * width > 0, 2 * (2 * planes + 1) * (2 * rows + 1), 0)


@triton.jit
def middle_and_extent(row, axis, side, voxel):
    """Return the sum of the first and the last place of the mask along an axis, in half voxels, and its extent."""
    low, high = side - tl.load(row + LOW + axis), tl.load(row + HIGH + axis)  # the far one exclusive
    return (2 * (low + high) + 2).to(tl.float64), (high - low).to(tl.float64) * voxel


@triton.jit
def from_middle(place, middle, voxel):
    """Return the distance of places in half voxels from a middle along one axis."""
    return 0.25 * (2.0 * place.to(tl.float64) - middle) * voxel


@kernel
def find_reach(
    # inputs
    start, size, spacing, table, ends,
    # outputs
    sums,
    # shapes
    regions, programs,
    POINTS: tl.constexpr,
):  # fmt: skip
    """Keep how far the mask reaches from the middle of its box, and its projections along diagonals of the box.

    A projection is kept together with half the sum of the direction's parts, so that it is at least 0.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    row = sums + k.to(tl.int64) * SUMS
    voxel = spacing + SPACING_COLUMNS * k
    sz, sy, sx = tl.load(voxel + SPACING_Z), tl.load(voxel + SPACING_Y), tl.load(voxel + SPACING_X)
    middle_z, extent_z = middle_and_extent(row, 0, depth, sz)
    middle_y, extent_y = middle_and_extent(row, 1, height, sy)
    middle_x, extent_x = middle_and_extent(row, 2, width, sx)
    points = number_of_points(depth, height, width)
    for begin in range(share * POINTS, points, shares * POINTS):
        index = begin + tl.arange(0, POINTS)
        z, y, x, present = points_of(ends, base, index, points, depth, height, width)
        dz, dy, dx = from_middle(z, middle_z, sz), from_middle(y, middle_y, sy), from_middle(x, middle_x, sx)
        keep_largest(row + REACH, tl.max(tl.where(present, tl.sqrt(dz * dz + dy * dy + dx * dx), 0.0)))
        if tl.max(present.to(tl.int32)) > 0:
            for n in range(DIRECTIONS):
                uz, uy, ux = direction(table, n, extent_z, extent_y, extent_x)
                least = projection_limit(uz, uy, ux, extent_z, extent_y, extent_x)
                along = uz * dz + uy * dy + ux * dx
                keep_largest(row + PROJECTIONS + 2 * n, tl.max(tl.where(present, least + along, 0.0)))
                keep_largest(row + PROJECTIONS + 2 * n + 1, tl.max(tl.where(present, least - along, 0.0)))


@triton.jit
def digits(table, n):
    """Return the three digits of a number to the base 3."""
    place = table + STEPS_AT + 3 * n
    return tl.load(place), tl.load(place + 1), tl.load(place + 2)


@triton.jit
def direction(table, n, extent_z, extent_y, extent_x):
    """Return one of 13 directions: sides, diagonals of sides, and diagonals of a box."""
    z, y, x = digits(table, n + DIRECTIONS + 1)  # of the 27 steps to neighbours, those behind the middle one
    return (z - 1) * extent_z, (y - 1) * extent_y, (x - 1) * extent_x


@triton.jit
def projection_limit(uz, uy, ux, extent_z, extent_y, extent_x):
    """Return what is added to projections of vertices, which lie in the box, so that they are above 0."""
    return tl.abs(uz) * extent_z + tl.abs(uy) * extent_y + tl.abs(ux) * extent_x


@kernel
def list_points(
    # inputs
    start, size, spacing, table, ends,
    # outputs
    sums, listed,
    # shapes
    regions, programs,
    POINTS: tl.constexpr,
):  # fmt: skip
    """List the numbers of the points that can belong to a pair which is the furthest apart.

    No two points are further apart than both are from the middle; some are as far apart as within a plane, and as the
    mask is long in any direction. The order of the list is free, its members are not.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    row = sums + k.to(tl.int64) * SUMS
    voxel = spacing + SPACING_COLUMNS * k
    sz, sy, sx = tl.load(voxel + SPACING_Z), tl.load(voxel + SPACING_Y), tl.load(voxel + SPACING_X)
    middle_z, extent_z = middle_and_extent(row, 0, depth, sz)
    middle_y, extent_y = middle_and_extent(row, 1, height, sy)
    middle_x, extent_x = middle_and_extent(row, 2, width, sx)
    apart = sz * 0
    for across in range(3):
        apart = tl.maximum(apart, tl.sqrt(tl.load(row + SQUARES + across).to(tl.float64, bitcast=True)))
    for n in range(DIRECTIONS):
        uz, uy, ux = direction(table, n, extent_z, extent_y, extent_x)
        least = projection_limit(uz, uy, ux, extent_z, extent_y, extent_x)
        there = tl.load(row + PROJECTIONS + 2 * n).to(tl.float64, bitcast=True) - least
        back = tl.load(row + PROJECTIONS + 2 * n + 1).to(tl.float64, bitcast=True) - least
        norm = tl.sqrt(uz * uz + uy * uy + ux * ux)
        apart = tl.maximum(apart, tl.where(norm > 0, (there + back) / norm, 0.0))
    least_reach = apart * BELOW - tl.load(row + REACH).to(tl.float64, bitcast=True)
    points = number_of_points(depth, height, width)
    for begin in range(share * POINTS, points, shares * POINTS):
        index = begin + tl.arange(0, POINTS)
        z, y, x, present = points_of(ends, base, index, points, depth, height, width)
        dz, dy, dx = from_middle(z, middle_z, sz), from_middle(y, middle_y, sy), from_middle(x, middle_x, sx)
        chosen = present & (tl.sqrt(dz * dz + dy * dy + dx * dx) >= least_reach)
        ones = chosen.to(tl.int32)
        count = tl.sum(ones)
        if count > 0:
            slot = tl.atomic_add(row + LISTED, count.to(tl.int64), sem="relaxed")
            tl.store(listed + base + slot + (tl.cumsum(ones, 0) - 1), index, mask=chosen)


@triton.jit
def listed_points(listed, ends, base, begin, count, points, depth, height, width, LINES: tl.constexpr):
    """Return z, y, x of some of the points listed, and whether they exist."""
    n = begin + tl.arange(0, LINES)
    index = tl.load(listed + base + n, mask=n < count, other=0)
    z, y, x, present = points_of(ends, base, index, points, depth, height, width)
    return z, y, x, present & (n < count)


@triton.jit
def differences(a, b, voxel):
    """Return the distances along one axis of all pairs of two lists of places in half voxels."""
    return 0.5 * (a[:, None] - b[None, :]).to(tl.float64) * voxel


@kernel
def compare_points(
    # inputs
    start, size, spacing, ends, listed,
    # outputs
    sums,
    # shapes
    regions, programs,
    LINES: tl.constexpr,
):  # fmt: skip
    """Keep the largest squared distance of two points listed."""
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    row = sums + k.to(tl.int64) * SUMS
    voxel = spacing + SPACING_COLUMNS * k
    sz, sy, sx = tl.load(voxel + SPACING_Z), tl.load(voxel + SPACING_Y), tl.load(voxel + SPACING_X)
    points = number_of_points(depth, height, width)
    count = tl.load(row + LISTED).to(tl.int32)
    largest = tl.zeros((LINES, LINES), tl.float64)
    for begin in range(share * LINES, count, shares * LINES):
        z, y, x, valid = listed_points(listed, ends, base, begin, count, points, depth, height, width, LINES)
        for begin_other in range(begin, count, LINES):
            z2, y2, x2, valid2 = listed_points(
                listed, ends, base, begin_other, count, points, depth, height, width, LINES
            )
            dz, dy, dx = differences(z, z2, sz), differences(y, y2, sy), differences(x, x2, sx)
            square = dz * dz + dy * dy + dx * dx
            largest = tl.maximum(largest, tl.where(valid[:, None] & valid2[None, :], square, 0.0))
    if share * LINES < count:
        keep_largest(row + SQUARE_OF_ALL, tl.max(tl.max(largest, 1)))


@kernel
def sum_boxes(
    # inputs
    size, spacing, table,
    # outputs
    sums,
    # shapes
    regions,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the sums of full boxes, one box per lane: their cubes are alike along each side."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = k < regions
    depth = tl.load(size + SIZE_COLUMNS * k + DEPTH, mask=valid, other=1)
    height = tl.load(size + SIZE_COLUMNS * k + HEIGHT, mask=valid, other=1)
    width = tl.load(size + SIZE_COLUMNS * k + WIDTH, mask=valid, other=1)
    valid = valid & (depth * height * width > 0)
    row = sums + k * SUMS
    z, y, x = sum_of(depth), sum_of(height), sum_of(width)
    tl.store(row + N, depth * height * width, mask=valid)
    tl.store(row + SUM_Z, z * height * width, mask=valid)
    tl.store(row + SUM_Y, y * depth * width, mask=valid)
    tl.store(row + SUM_X, x * depth * height, mask=valid)
    tl.store(row + SUM_ZZ, sum_of_squares(depth) * height * width, mask=valid)
    tl.store(row + SUM_YY, sum_of_squares(height) * depth * width, mask=valid)
    tl.store(row + SUM_XX, sum_of_squares(width) * depth * height, mask=valid)
    tl.store(row + SUM_YX, depth * y * x, mask=valid)
    tl.store(row + SUM_ZX, height * z * x, mask=valid)
    tl.store(row + SUM_ZY, width * z * y, mask=valid)
    for axis in range(3):
        tl.store(row + LOW + axis, of_axis(axis, depth, height, width), mask=valid)
    places = tl.zeros((BLOCK,), tl.int64)
    for column in range(CASE_COLUMNS):
        total = tl.zeros((BLOCK,), tl.int64)
        for n in range(27):
            part_z, part_y, part_x = digits(table, n)
            case = case_of(part_z, part_y, part_x)
            nz, ny, nx = alike(part_z, depth), alike(part_y, height), alike(part_x, width)
            entry = tl.load(table + case * CASE_COLUMNS + column)
            total += entry * (nz * ny * nx)
            axis = column - KINDS - 1
            place_z = place_of(part_z, depth) * ny * nx
            place_y = place_of(part_y, height) * nz * nx
            place_x = place_of(part_x, width) * nz * ny
            places += tl.where(axis >= 0, entry * of_axis(axis, place_z, place_y, place_x), 0)
        tl.store(row + TABLE + column, total, mask=valid)
    tl.store(row + PLACES, places, mask=valid)
    voxel = spacing + SPACING_COLUMNS * k
    sz = tl.load(voxel + SPACING_Z, mask=valid, other=1.0)
    sy = tl.load(voxel + SPACING_Y, mask=valid, other=1.0)
    sx = tl.load(voxel + SPACING_X, mask=valid, other=1.0)
    dz, dy, dx = depth.to(tl.float64) * sz, height.to(tl.float64) * sy, width.to(tl.float64) * sx
    ez, ey, ex = (depth - 1).to(tl.float64) * sz, (height - 1).to(tl.float64) * sy, (width - 1).to(tl.float64) * sx
    dz, dy, dx, ez, ey, ex = dz * dz, dy * dy, dx * dx, ez * ez, ey * ey, ex * ex
    across_z, across_y = tl.maximum(dy + ex, ey + dx), tl.maximum(dz + ex, ez + dx)
    across_x = tl.maximum(dz + ey, ez + dy)
    whole = tl.maximum(tl.maximum(dz + ey + ex, ez + dy + ex), ez + ey + dx)
    tl.store(row + SQUARES, across_z.to(tl.int64, bitcast=True), mask=valid)
    tl.store(row + SQUARE_Y, across_y.to(tl.int64, bitcast=True), mask=valid)
    tl.store(row + SQUARE_X, across_x.to(tl.int64, bitcast=True), mask=valid)
    tl.store(row + SQUARE_OF_ALL, whole.to(tl.int64, bitcast=True), mask=valid)


@triton.jit
def sum_of(n):
    """Return 1 + 2 + ... + n."""
    return n * (n + 1) // 2


@triton.jit
def sum_of_squares(n):
    """Return 1 + 4 + ... + n^2."""
    return n * (n + 1) * (2 * n + 1) // 6


@triton.jit
def alike(part, n):
    """Return how many of the cubes along n voxels are the first one (part 0), between voxels (1), the last one (2)."""
    return tl.where(part == 1, n - 1, 1)


@triton.jit
def place_of(part, n):
    """Return the sum of the places of such cubes."""
    return tl.where(part == 0, 0, tl.where(part == 1, n * (n - 1) // 2, n))


@triton.jit
def half_of(part):
    """Return which voxels of such a cube are inside: bit 0 the first, bit 1 the second."""
    return tl.where(part == 0, 2, tl.where(part == 1, 3, 1))


@triton.jit
def case_of(part_z, part_y, part_x):
    """Return the case of such a cube."""
    z, y, x = half_of(part_z), half_of(part_y), half_of(part_x)
    row = (y & 1) * x + (y >> 1) * (x << 2)
    return (z & 1) * row + (z >> 1) * (row << 4)


@triton.jit
def residue(x):
    """Return an integer modulo PRIME, from 0."""
    return (x % PRIME + PRIME) % PRIME


@triton.jit
def covariance(n, a, b, ab):
    """Return the covariance of two coordinates, and n^2 times it modulo PRIME: 0 if it is 0, and hardly ever else."""
    # relative to places next to the means, so that the products are small
    ca, cb = (2 * a + n) // (2 * n), (2 * b + n) // (2 * n)
    da, db = a - n * ca, b - n * cb
    product = ab - ca * b - cb * a + n * ca * cb
    rest = residue(residue(n) * residue(product) - residue(residue(da) * residue(db)))
    count = n.to(tl.float64)
    return (count * product.to(tl.float64) - da.to(tl.float64) * db.to(tl.float64)) / (count * count), rest


@triton.jit
def minor_of(aa, bb, ab):
    """Return aa bb - ab ab modulo PRIME."""
    return residue(residue(aa * bb) - residue(ab * ab))


@triton.jit
def eigenvalues(a, b, c, ab, ac, bc):
    """Return the eigenvalues of a symmetric matrix by Jacobi's rotations, a fixed number of them, in no order."""
    for _ in range(ROTATIONS):
        ratio = tl.where(ab != 0.0, (b - a) / tl.where(ab != 0.0, 2.0 * ab, 1.0), 0.0)
        t = 1.0 / (tl.abs(ratio) + tl.sqrt(ratio * ratio + 1.0))
        t = tl.where(ab != 0.0, tl.where(ratio < 0.0, -t, t), 0.0)
        cosine = 1.0 / tl.sqrt(t * t + 1.0)
        sine = t * cosine
        # the next rotation is that of the second and the third axis
        a, b, c = b + t * ab, c, a - t * ab
        ab, ac, bc = sine * ac + cosine * bc, ac * 0.0, cosine * ac - sine * bc
    return a, b, c


@kernel
def end_shape(
    # inputs
    size, sums, spacing, table,
    # outputs
    out,
    # shapes
    regions,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the columns of regions from their sums, one region per lane."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = k < regions
    row_in, row = sums + k * SUMS, out + k * COLUMNS
    voxel = spacing + SPACING_COLUMNS * k
    sz = tl.load(voxel + SPACING_Z, mask=valid, other=1.0)
    sy = tl.load(voxel + SPACING_Y, mask=valid, other=1.0)
    sx = tl.load(voxel + SPACING_X, mask=valid, other=1.0)
    count = tl.load(row_in + N, mask=valid, other=0)
    tl.store(row + OUT_N, count.to(tl.float64), mask=valid)

    area = tl.zeros((BLOCK,), tl.float64)
    for kind in range(KINDS):
        normal = table + NORMALS_AT + 3 * kind
        z = tl.load(normal).to(tl.float64) * (sy * sx)
        y = tl.load(normal + 1).to(tl.float64) * (sz * sx)
        x = tl.load(normal + 2).to(tl.float64) * (sz * sy)
        number = tl.load(row_in + TABLE + kind, mask=valid, other=0).to(tl.float64)
        area += number * tl.sqrt(z * z + y * y + x * x)
    tl.store(row + OUT_AREA, area / 8, mask=valid)

    volume = tl.load(row_in + PLACES, mask=valid, other=0)
    for axis in tl.static_range(3):  # places count from the first cube of the mask's own box
        low = tl.load(size + SIZE_COLUMNS * k + axis, mask=valid, other=0)
        low -= tl.load(row_in + LOW + axis, mask=valid, other=0)
        volume -= low * tl.load(row_in + NORMAL + axis, mask=valid, other=0)
    volume = 2 * volume + tl.load(row_in + DETERMINANT, mask=valid, other=0)
    tl.store(row + OUT_VOLUMES, volume.to(tl.float64), mask=valid)

    bits = tl.load(row_in + SQUARES, mask=valid, other=0)
    tl.store(row + OUT_SLICE, tl.sqrt(bits.to(tl.float64, bitcast=True)), mask=valid)
    bits = tl.load(row_in + SQUARE_Y, mask=valid, other=0)
    tl.store(row + OUT_COLUMN, tl.sqrt(bits.to(tl.float64, bitcast=True)), mask=valid)
    bits = tl.load(row_in + SQUARE_X, mask=valid, other=0)
    tl.store(row + OUT_ROW, tl.sqrt(bits.to(tl.float64, bitcast=True)), mask=valid)
    bits = tl.load(row_in + SQUARE_OF_ALL, mask=valid, other=0)
    tl.store(row + OUT_DIAMETER, tl.sqrt(bits.to(tl.float64, bitcast=True)), mask=valid)

    n = tl.maximum(count, 1)
    z, y, x = (
        tl.load(row_in + SUM_Z, mask=valid, other=0),
        tl.load(row_in + SUM_Y, mask=valid, other=0),
        tl.load(row_in + SUM_X, mask=valid, other=0),
    )
    a, zz = covariance(n, z, z, tl.load(row_in + SUM_ZZ, mask=valid, other=0))
    b, yy = covariance(n, y, y, tl.load(row_in + SUM_YY, mask=valid, other=0))
    c, xx = covariance(n, x, x, tl.load(row_in + SUM_XX, mask=valid, other=0))
    ab, zy = covariance(n, z, y, tl.load(row_in + SUM_ZY, mask=valid, other=0))
    ac, zx = covariance(n, z, x, tl.load(row_in + SUM_ZX, mask=valid, other=0))
    bc, yx = covariance(n, y, x, tl.load(row_in + SUM_YX, mask=valid, other=0))
    a, b, c = eigenvalues(a * (sz * sz), b * (sy * sy), c * (sx * sx), ab * (sz * sy), ac * (sz * sx), bc * (sy * sx))
    major = tl.maximum(tl.maximum(a, b), c)
    minor = tl.maximum(tl.maximum(tl.minimum(a, b), tl.minimum(tl.maximum(a, b), c)), 0.0)
    least = tl.maximum(tl.minimum(tl.minimum(a, b), c), 0.0)
    # Whether voxels lie in a plane or on a line is decided by integers: there an eigenvalue is exactly 0.
    is_line = (minor_of(zz, yy, zy) == 0) & (minor_of(zz, xx, zx) == 0) & (minor_of(yy, xx, yx) == 0)
    determinant = residue(zz * minor_of(yy, xx, yx))
    determinant -= residue(zy * residue(residue(zy * xx) - residue(yx * zx)))
    determinant += residue(zx * residue(residue(zy * yx) - residue(yy * zx)))
    is_flat = is_line | (residue(determinant) == 0)
    tiny = major * TINY
    tl.store(row + OUT_MAJOR, major, mask=valid)
    tl.store(row + OUT_MINOR, tl.where(is_line & (minor < tiny), 0.0, minor), mask=valid)
    tl.store(row + OUT_LEAST, tl.where(is_flat & (least < tiny), 0.0, least), mask=valid)


def shape(mask: Tensor | None, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    """Measure the shape; see :func:`kacl_gpu.radiomics.ops.shape`."""
    regions = len(start)
    out = spacing.new_empty((regions, COLUMNS.value))
    table = _table_on(spacing.device)
    sums = torch.zeros((regions, SUMS.value), dtype=torch.int64, device=spacing.device)
    blocks = cdiv(regions, BLOCK)
    # each: inputs, scratch, outputs, shapes
    if mask is None:
        launch(sum_boxes, (blocks,), *(size, spacing, table), sums, regions, BLOCK=BLOCK, num_warps=1)
    else:
        # of n voxels in a block, n a multiple of TILE, the planes across the shortest side have at most n / 2 rows
        scratch = torch.empty(2 * len(mask), dtype=torch.int32, device=mask.device)
        ends, listed = scratch[: len(mask)], scratch[len(mask) :]
        grid, number = (tiles(mask),), tiles(mask)
        where = start, size
        launch(count_cubes, grid, *(mask, *where, table), sums, *(regions, number), TILE=TILE)
        launch(
            measure_planes, grid, *(mask, *where, spacing), *(scratch, sums), *(regions, number, len(mask)),
            TILE=TILE, LINES=LINES, RUN=RUN,
        )  # fmt: skip
        launch(find_reach, grid, *(*where, spacing, table, ends), sums, *(regions, number), POINTS=POINTS)
        launch(list_points, grid, *(*where, spacing, table, ends), *(sums, listed), *(regions, number), POINTS=POINTS)
        launch(compare_points, grid, *(*where, spacing, ends, listed), sums, *(regions, number), LINES=LINES)
    launch(end_shape, (blocks,), *(size, sums, spacing, table), out, regions, BLOCK=BLOCK, num_warps=1)
    return out
