"""The surface of a mask by marching cubes, its diameters, and the moments of its voxels, all from integers.

A region becomes rows of bits first, so that one operation looks at 64 voxels. Only where a cube of eight voxels is
neither full nor empty is it looked at by itself. Of the vertices only the corners of convex hulls can be furthest
apart; those of each plane are found from the first and the last vertex of its rows.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..columns import SHAPE, number_of_columns
from ..mesh import CASES, NORMALS, mesh
from ._compile import jit
from ._regions import Array, at
from ._threads import COMPILED, for_each

COLUMNS = number_of_columns(SHAPE)
CELLS_IN_PARTS = 1 << 20  # voxels of a region whose planes are shared among threads
SLABS = 32  # parts of such a region; more would only help if there were more processors
FEW = 64  # points of which all pairs are compared at once
MANY = 4096  # points above which pairs are compared by cells
IN_CELL = 24  # points of a surface in a cell, roughly
ROTATIONS = 24  # of Jacobi: eight sweeps of three
PRIME = 2147483647  # products of two residues fit into 63 bits

# Columns of the integers of a slab's voxels: how many, sums of coordinates and of their products, and where they begin
N, Z, Y, X, ZZ, YY, XX, YX, ZX, ZY, LEAST_Z, LEAST_Y, LEAST_X, INTEGERS = range(14)
KINDS = np.array(NORMALS)
# Cases of the 27 kinds of cubes of a full box: along each side the second voxel is inside, both are, or the first is
CASES_OF_BOX = [
    sum((z >> (bit >> 2) & y >> (bit >> 1 & 1) & x >> (bit & 1) & 1) << bit for bit in range(8))
    for z, y, x in product((2, 3, 1), repeat=3)
]
FAR = 1 << 30  # beyond every coordinate

# Vertices are the middles of pairs of neighbouring voxels of which one is inside: pairs along x, y or z
ALONG_X, ALONG_Y, ALONG_Z = range(3)

ONE, NONE, ALL = np.uint64(1), np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
TOP = np.uint64(63)
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)  # the six bits that begin at each of its bits are all different
BIT_OF = np.empty(64, np.uint64)
BIT_OF[[((0x03F79D71B4CB0A89 << bit) & 0xFFFFFFFFFFFFFFFF) >> 58 for bit in range(64)]] = range(64)


class Planes(NamedTuple):
    """Planes across one axis: through voxels, with rows of two kinds of vertices in turn, and half way between."""

    ends: (
        Array  # (3 * number of rows * 2,) first and last place in half voxels of the three kinds of vertices; -1: none
    )
    kind_step: int  # rows of one kind
    number: int  # planes through voxels
    rows: int  # in each of them
    plane_step: int  # from a row to the one in the next plane
    row_step: int
    kinds: tuple[int, int, int]  # in planes through voxels at whole places and at half ones; in planes between voxels
    spacing: tuple[float, float]  # from row to row, and along a row


class Scratch(NamedTuple):
    """What is found of a region, in a block with a border of one voxel on each side."""

    words: Array  # (D + 2, H + 2, words) uint64: its voxels as bits
    ends_x: Array  # (3, D + 2, H + 2, 2) int32: first and last x of the vertices along x, y, z from z, y; -1: none
    ends_y: Array  # (3, D + 2, W + 2, 2) int32: first and last y of those from z, x


def shape(mask: Array | None, start: Array, size: Array, spacing: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.shape`."""
    out = np.zeros((len(start), COLUMNS))
    if mask is None:
        for k in range(len(start)):
            out[k] = box_sums(size[k].tolist(), spacing[k])
        return out
    voxels = size.prod(1)
    large = np.flatnonzero(voxels >= CELLS_IN_PARTS).tolist()
    small = np.flatnonzero((voxels > 0) & (voxels < CELLS_IN_PARTS)).tolist()

    def measure(k: int, sums_of: Callable[..., Array]) -> None:
        first = int(start[k])
        out[k] = sums_of(mask[first : first + int(voxels[k])], size[k].tolist(), spacing[k])

    for_each(lambda n: measure(small[n], mask_sums), len(small), int(voxels[small].sum()) * COMPILED)
    for k in large:
        measure(k, shared_sums)
    return out


def scratch_of(size: list[int]) -> Scratch:
    """Return scratch memory for a region, without a voxel in it."""
    depth, height, width = size
    words = np.zeros((depth + 2, height + 2, width // 64 + 1), np.uint64)
    ends_x = np.full((3, depth + 2, height + 2, 2), -1, np.int32)
    return Scratch(words, ends_x, np.full((3, depth + 2, width + 2, 2), -1, np.int32))


def mask_sums(mask: Array, size: list[int], spacing: Array) -> Array:
    """Return the columns of a mask, the flat block (D * H * W,)."""
    cubes, integers, squares = np.zeros((CASES, 4), np.int64), np.zeros(INTEGERS, np.int64), np.zeros(4)
    integers[LEAST_Z:] = FAR
    depth, height, width = size
    corners = np.empty((8 * (depth + 2) * (height + 2), 3), np.int32)
    scale = tuple(spacing.tolist())
    number = measure(mask, width, scratch_of(size), scale, cubes, integers, squares, corners)
    if number > MANY:
        squares[3] = furthest_by_cells(corners[:number], scale, squares[3])
    return table_row(cubes, integers, squares, spacing)


@jit
def measure(
    mask: Array, width: int, scratch: Scratch, scale: tuple[float, float, float],
    cubes: Array, integers: Array, squares: Array, corners: Array,
) -> int:  # fmt: skip
    """Find everything of a mask but the diameter of many points; return how many points near its end are left."""
    words, ends_x, ends_y = scratch
    layers = words.shape[0] - 1
    pack(mask, width, 0, layers - 1, words)
    count_cubes(words, 0, layers, cubes)
    add_rows(words, 0, layers, integers, ends_x)
    add_columns(words, 0, layers, ends_y)
    across_z, across_y, across_x = planes_of(ends_x, ends_y, scale)
    squares[0], number = plane_diameter(across_z, 0, 2 * across_z.number, corners)
    squares[1], _ = plane_diameter(across_y, 0, 2 * across_y.number, corners[:0])
    squares[2], _ = plane_diameter(across_x, 0, 2 * across_x.number, corners[:0])
    largest = max(squares[0], squares[1], squares[2])
    squares[3], left = furthest_of_few(corners, number, scale, largest)
    return left


@jit
def planes_of(ends_x: Array, ends_y: Array, scale: tuple[float, float, float]) -> tuple[Planes, Planes, Planes]:
    """Return the planes across z, y and x."""
    z, y, x = scale
    depth, height, width = ends_x.shape[1], ends_x.shape[2], ends_y.shape[2]
    along_x, along_y = ends_x.reshape(-1), ends_y.reshape(-1)
    return (
        Planes(along_x, depth * height, depth, height, height, 1, (ALONG_X, ALONG_Y, ALONG_Z), (y, x)),
        Planes(along_x, depth * height, height, depth, 1, height, (ALONG_X, ALONG_Z, ALONG_Y), (z, x)),
        Planes(along_y, depth * width, width, depth, 1, width, (ALONG_Y, ALONG_Z, ALONG_X), (z, y)),
    )


def parts_of(count: int) -> list[tuple[int, int]]:
    """Return consecutive ranges that cover ``count`` planes, at most SLABS."""
    parts = max(1, min(SLABS, count))
    return [(count * n // parts, count * (n + 1) // parts) for n in range(parts)]


def shared_sums(mask: Array, size: list[int], spacing: Array) -> Array:
    """Return the columns of a large mask, whose planes are shared among threads."""
    depth, _, width = size
    cells = len(mask)
    scratch = scratch_of(size)
    slabs = parts_of(depth)
    for_each(lambda n: pack(mask, width, *slabs[n], scratch.words), len(slabs), cells)
    layers = parts_of(depth + 1)
    cubes = np.zeros((len(layers), CASES, 4), np.int64)
    integers = np.zeros((len(layers), INTEGERS), np.int64)
    integers[:, LEAST_Z:] = FAR

    def trace(n: int) -> None:
        count_cubes(scratch.words, *layers[n], cubes[n])
        add_rows(scratch.words, *layers[n], integers[n], scratch.ends_x)
        add_columns(scratch.words, *layers[n], scratch.ends_y)

    for_each(trace, len(layers), cells)
    total = integers.sum(0)
    total[LEAST_Z:] = integers[:, LEAST_Z:].min(0)
    scale = tuple(spacing.tolist())
    across_z, across_y, across_x = planes_of(scratch.ends_x, scratch.ends_y, scale)
    squares = np.zeros(4)
    squares[0], corners = shared_planes(across_z, True)
    squares[1], _ = shared_planes(across_y, False)
    squares[2], _ = shared_planes(across_x, False)
    squares[3], number = furthest_of_few(corners, len(corners), scale, squares.max())
    if number > MANY:
        squares[3] = furthest_by_cells(corners[:number], scale, squares[3])
    return table_row(cubes.sum(0), total, squares, spacing)


def shared_planes(planes: Planes, collect: bool) -> tuple[float, Array]:
    """Return the largest squared distance within a plane, and, if asked for, the corners (n, 3) of all planes."""
    parts = parts_of(2 * planes.number)
    largest = np.zeros(len(parts))
    corners = [np.empty((0, 3), np.int32)] * len(parts)

    def task(part: int) -> None:
        begin, end = parts[part]
        found = np.empty((4 * planes.rows * (end - begin) if collect else 0, 3), np.int32)
        largest[part], number = plane_diameter(planes, begin, end, found)
        corners[part] = found[:number]

    for_each(task, len(parts), len(planes.ends) * COMPILED)
    return largest.max(), np.concatenate(corners)


@jit
def pack(mask: Array, width: int, begin: int, end: int, words: Array) -> None:
    """Write planes ``begin`` to ``end`` of a block as bits: voxel z, y, x is bit x of row z + 1, y + 1."""
    height = words.shape[1] - 2
    for z in range(begin, end):
        for y in range(height):
            first = (z * height + y) * width
            for m in range(words.shape[2]):
                word: Any = NONE
                count = min(64, width - 64 * m)
                if count == 64:
                    for bit in range(64):
                        word |= np.uint64(mask[at(first + 64 * m + bit)] > 0) << np.uint64(bit)
                else:
                    for bit in range(count):
                        word |= np.uint64(mask[at(first + 64 * m + bit)] > 0) << np.uint64(bit)
                words[z + 1, y + 1, m] = word


@jit
def lowest(word: Any) -> Any:
    """Return the number of the lowest bit that is set."""
    return BIT_OF[((word & (~word + ONE)) * DE_BRUIJN) >> np.uint64(58)]


@jit
def highest(word: Any) -> Any:
    """Return the number of the highest bit that is set."""
    for shift in range(6):
        word |= word >> (ONE << np.uint64(shift))
    return BIT_OF[((word ^ (word >> ONE)) * DE_BRUIJN) >> np.uint64(58)]


@jit
def count_cubes(words: Array, begin: int, end: int, cubes: Array) -> None:
    """Count the cubes of each case between planes ``begin`` to ``end`` and those above, and add up where they are.

    ``cubes`` (256, 4): how many, and sums of their z, y, x. A cube is named by its first voxel, from 0 with the border.
    Those that are empty or full are left out.
    """
    for z in range(begin, end):
        for y in range(words.shape[1] - 1):
            pa = pb = pc = pd = NONE
            for m in range(words.shape[2]):
                a, b, c, d = words[z, y, m], words[z, y + 1, m], words[z + 1, y, m], words[z + 1, y + 1, m]
                # bits of the voxels before
                e, f, g, h = a << ONE | pa >> TOP, b << ONE | pb >> TOP, c << ONE | pc >> TOP, d << ONE | pd >> TOP
                pa, pb, pc, pd = a, b, c, d
                mixed = (a | b | c | d | e | f | g | h) & ~(a & b & c & d & e & f & g & h)
                while mixed:
                    bit = lowest(mixed)
                    mixed &= mixed - ONE
                    case = e >> bit & ONE | (a >> bit & ONE) << ONE
                    case |= (f >> bit & ONE | (b >> bit & ONE) << ONE) << np.uint64(2)
                    case |= (g >> bit & ONE | (c >> bit & ONE) << ONE) << np.uint64(4)
                    case |= (h >> bit & ONE | (d >> bit & ONE) << ONE) << np.uint64(6)
                    cubes[case, at(0)] += 1
                    cubes[case, at(1)] += z
                    cubes[case, at(2)] += y
                    cubes[case, at(3)] += 64 * m + np.int64(bit)


@jit
def add_rows(words: Array, begin: int, end: int, integers: Array, ends: Array) -> None:
    """Add up the voxels of planes ``begin`` to ``end``, and find the first and the last vertex of each row."""
    for z in range(begin, end):
        for y in range(words.shape[1] - 1):
            n = sx = sxx = 0
            sign = -1
            first: Any
            p: Any
            before = NONE
            for kind in range(3):
                first, last = -1, -1
                last_word = NONE
                for m in range(words.shape[2]):
                    word = words[z, y, m]
                    if kind == ALONG_X:
                        changes = word ^ (word << ONE | before >> TOP)
                        before = word
                    elif kind == ALONG_Y:
                        changes = word ^ words[z, y + 1, m]
                    else:
                        changes = word ^ words[z + 1, y, m]
                    if changes == NONE:
                        continue
                    if first < 0:
                        first = 64 * m + np.int64(lowest(changes))
                    last, last_word = m, changes
                    if kind == ALONG_X:  # sums up to where a run ends less those up to where it begins
                        while changes:
                            p = 64 * m + np.int64(lowest(changes))
                            changes &= changes - ONE
                            n += sign * p
                            sx += sign * (p * (p - 1) // 2)
                            sxx += sign * (p * (p - 1) * (2 * p - 1) // 6)
                            sign = -sign
                if first >= 0:
                    shift = 1 if kind == ALONG_X else 2
                    ends[kind, z, y, 0] = 2 * first + shift
                    ends[kind, z, y, 1] = 2 * (64 * last + np.int64(highest(last_word))) + shift
                    if kind == ALONG_X:
                        integers[LEAST_X] = min(integers[LEAST_X], first)
            if n:
                integers[N] += n
                integers[Z] += n * z
                integers[Y] += n * y
                integers[X] += sx
                integers[ZZ] += n * z * z
                integers[YY] += n * y * y
                integers[XX] += sxx
                integers[YX] += y * sx
                integers[ZX] += z * sx
                integers[ZY] += n * z * y
                integers[LEAST_Z] = min(integers[LEAST_Z], z - 1)
                integers[LEAST_Y] = min(integers[LEAST_Y], y - 1)


@jit
def add_columns(words: Array, begin: int, end: int, ends: Array) -> None:
    """Find the first and the last y of the vertices at each x of planes ``begin`` to ``end``."""
    height, n_words = words.shape[1], words.shape[2]
    for z in range(begin, end):
        for kind in range(3):
            for m in range(n_words):
                for side in range(2):
                    seen = NONE
                    for step in range(height - 1):
                        y = step if side == 0 else height - 2 - step
                        word = words[z, y, m]
                        if kind == ALONG_X:
                            before = words[z, y, m - 1] if m else NONE
                            changes = word ^ (word << ONE | before >> TOP)
                        elif kind == ALONG_Y:
                            changes = word ^ words[z, y + 1, m]
                        else:
                            changes = word ^ words[z + 1, y, m]
                        new = changes & ~seen
                        seen |= changes
                        while new:
                            x = 64 * m + np.int64(lowest(new))
                            new &= new - ONE
                            ends[kind, z, x, side] = 2 * y + 1 if kind == ALONG_Y else 2 * y


@jit
def plane_diameter(planes: Planes, begin: int, end: int, found: Array) -> tuple[float, int]:
    """Return the largest squared distance within a plane, and the number of corners of hulls of planes.

    Plane p is half way between voxels where p is odd. ``found`` gets the corners p, row, place in half voxels; nothing
    is written into one of no rows.
    """
    lines = np.empty((2 * planes.rows, 3), np.int64)
    corners = np.empty((4 * planes.rows, 2), np.int64)
    largest, number = 0.0, 0
    for p in range(begin, end):
        count = 0
        for row in range(2 * planes.rows):
            if p % 2 and row % 2:
                continue
            kind = planes.kinds[2] if p % 2 else planes.kinds[row % 2]
            place = 2 * (kind * planes.kind_step + p // 2 * planes.plane_step + row // 2 * planes.row_step)
            if planes.ends[at(place)] >= 0:
                lines[count, 0] = row
                lines[count, 1] = planes.ends[at(place)]
                lines[count, 2] = planes.ends[at(place + 1)]
                count += 1
        if count == 0:
            continue
        n = hull(lines, count, corners)
        largest = max(largest, plane_square(corners, n, planes.spacing, largest))
        if len(found):
            for i in range(n):
                found[number, 0], found[number, 1], found[number, 2] = p, corners[i, 0], corners[i, 1]
                number += 1
    return largest, number


@jit
def hull(lines: Array, count: int, corners: Array) -> int:
    """Write the corners of the convex hull of both ends of rows (R, 3) row, first, last; return their number."""
    n = 0
    for side in range(1, 3):  # the chain of first places and that of last ones, by ascending row
        begin = n
        for i in range(count):
            row, s = lines[i, 0], lines[i, side]
            while n - begin >= 2:  # drop the last corner while it does not stick out of the line that passes it
                d_row, d_s = corners[n - 1, 0] - corners[n - 2, 0], corners[n - 1, 1] - corners[n - 2, 1]
                turn = d_s * (row - corners[n - 2, 0]) - d_row * (s - corners[n - 2, 1])
                if (turn < 0) if side == 1 else (turn > 0):
                    break
                n -= 1
            corners[n, 0], corners[n, 1] = row, s
            n += 1
    return n


@jit
def plane_square(corners: Array, n: int, scale: tuple[float, float], largest: float) -> float:
    """Return the largest squared distance of two of n corners, or ``largest`` if none is larger."""
    low, high = corners[0, 1], corners[0, 1]
    bottom, top = corners[0, 0], corners[0, 0]
    for i in range(n):
        low, high = min(low, corners[i, 1]), max(high, corners[i, 1])
        bottom, top = min(bottom, corners[i, 0]), max(top, corners[i, 0])
    reach = np.empty(n)  # twice the distances from the middle, a little more: two corners are no further apart
    most = 0.0
    for i in range(n):
        d_row = 0.5 * (2 * corners[i, 0] - bottom - top) * scale[0]
        d_s = 0.5 * (2 * corners[i, 1] - low - high) * scale[1]
        reach[i] = 0.5 * math.sqrt(d_row * d_row + d_s * d_s) * (1 + 1e-12)
        most = max(most, reach[i])
    limit = math.sqrt(largest)
    for i in range(n):
        if reach[i] + most < limit:
            continue
        for j in range(i):
            d_row = 0.5 * (corners[i, 0] - corners[j, 0]) * scale[0]
            d_s = 0.5 * (corners[i, 1] - corners[j, 1]) * scale[1]
            square = d_row * d_row + d_s * d_s
            if square > largest:
                largest, limit = square, math.sqrt(square)
    return largest


@jit
def furthest_of_few(points: Array, number: int, scale: tuple[float, float, float], largest: float) -> tuple[float, int]:
    """Return the largest squared distance of two of so many points (n, 3) z, y, x in half voxels; ``largest`` is one.

    Of many points those that may be furthest apart come first, and their number is returned: of few, pairs have been
    compared, and otherwise remain to be.
    """
    if number > FEW:
        # no pair is further apart than both are from one place; the middle of a pair far apart leaves few
        reach = np.empty(number)
        largest = reach_of(points[:number], scale, largest, reach)
        most = 0.0
        for i in range(number):
            most = max(most, reach[i])
        near = math.sqrt(largest) * (1 - 1e-12)
        left = 0
        for i in range(number):
            if reach[i] + most >= near:
                for axis in range(3):
                    points[left, axis] = points[i, axis]
                left += 1
        number = left
    if number <= MANY:
        largest = all_pairs(points[:number], scale, largest)
    return largest, number


def furthest_by_cells(points: Array, scale: tuple[float, float, float], largest: float) -> float:
    """Return the largest squared distance of two of many points, or ``largest``, from pairs of cells far apart."""
    low = points.min(0)
    side = max(1, int((points.max(0) - low).max() / math.sqrt(len(points) / IN_CELL)))
    cells = ((points - low) // side).astype(np.int64)
    key = np.ravel_multi_index(tuple(cells.T), tuple(cells.max(0) + 1))
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    points = points[order]
    bounds = np.stack([np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)], 1)
    return cell_pairs(points, np.append(first, len(points)), bounds, scale, largest)


@jit
def square_of(points: Array, i: int, j: int, scale: tuple[float, float, float]) -> float:
    """Return the squared distance of two points in half voxels, in units of the scale."""
    dz = 0.5 * (points[i, 0] - points[j, 0]) * scale[0]
    dy = 0.5 * (points[i, 1] - points[j, 1]) * scale[1]
    dx = 0.5 * (points[i, 2] - points[j, 2]) * scale[2]
    return dz * dz + dy * dy + dx * dx


@jit
def reach_of(points: Array, scale: tuple[float, float, float], largest: float, reach: Array) -> float:
    """Write how far points are from the middle of two that are far apart; return the squared distance of these."""
    a = b = 0
    for step in range(6):  # the point furthest from the last one
        best, square = b, 0.0
        for i in range(points.shape[0]):
            other = square_of(points, i, b, scale)
            if other > square:
                best, square = i, other
        if step and square <= largest:
            break
        largest = max(largest, square)
        a, b = b, best
    middle = np.empty((1, 3), np.int64)
    for axis in range(3):
        middle[0, axis] = points[a, axis] + points[b, axis]
    for i in range(points.shape[0]):
        dz = 0.25 * (2 * points[i, 0] - middle[0, 0]) * scale[0]
        dy = 0.25 * (2 * points[i, 1] - middle[0, 1]) * scale[1]
        dx = 0.25 * (2 * points[i, 2] - middle[0, 2]) * scale[2]
        reach[i] = math.sqrt(dz * dz + dy * dy + dx * dx)
    return largest


@jit
def all_pairs(points: Array, scale: tuple[float, float, float], largest: float) -> float:
    """Return the largest squared distance of two points, or ``largest``."""
    for i in range(points.shape[0]):
        for j in range(i):
            largest = max(largest, square_of(points, i, j, scale))
    return largest


@jit
def cell_pairs(points: Array, first: Array, bounds: Array, scale: tuple[float, float, float], largest: float) -> float:
    """Do the same with points sorted by cells (C + 1,) and the cells' bounds (C, 2, 3): pairs of cells that are near
    each other are left out."""
    for a in range(bounds.shape[0]):
        for b in range(a + 1):
            bound = 0.0
            for axis in range(3):
                d = max(bounds[a, 1, axis] - bounds[b, 0, axis], bounds[b, 1, axis] - bounds[a, 0, axis])
                d = 0.5 * d * scale[axis]
                bound += d * d
            if bound * (1 + 1e-12) >= largest:
                for i in range(first[a], first[a + 1]):
                    for j in range(first[b], first[b + 1]):
                        largest = max(largest, square_of(points, i, j, scale))
    return largest


def box_sums(size: list[int], spacing: Array) -> Array:
    """Return the columns of a full box: its cubes are alike along each side, and its moments have closed forms."""
    depth, height, width = size
    sides = (side_of(n) for n in size)
    alike = [(nz * ny * nx, z * ny * nx, nz * y * nx, nz * ny * x) for (nz, z), (ny, y), (nx, x) in product(*sides)]
    cubes = np.zeros((CASES, 4), np.int64)
    cubes[CASES_OF_BOX] = alike
    n = depth * height * width
    z, y, x = (side * (side + 1) // 2 for side in size)  # sums of places from 1
    zz, yy, xx = (side * (side + 1) * (2 * side + 1) // 6 for side in size)
    integers = np.zeros(INTEGERS, np.int64)
    integers[N], integers[Z], integers[Y], integers[X] = n, z * height * width, y * depth * width, x * depth * height
    integers[ZZ], integers[YY], integers[XX] = zz * height * width, yy * depth * width, xx * depth * height
    integers[YX], integers[ZX], integers[ZY] = depth * y * x, height * z * x, width * z * y
    sz, sy, sx = spacing.tolist()
    dz, dy, dx = depth * sz, height * sy, width * sx
    ez, ey, ex = (depth - 1) * sz, (height - 1) * sy, (width - 1) * sx
    squares = (
        max(dy * dy + ex * ex, ey * ey + dx * dx),
        max(dz * dz + ex * ex, ez * ez + dx * dx),
        max(dz * dz + ey * ey, ez * ez + dy * dy),
        max(dz * dz + ey * ey + ex * ex, ez * ez + dy * dy + ex * ex, ez * ez + ey * ey + dx * dx),
    )
    return table_row(cubes, integers, np.array(squares), spacing)


def side_of(n: int) -> list[tuple[int, int]]:
    """Return how many cubes along n voxels are the first, between voxels, and the last, and sums of their places."""
    return [(1, 0), (n - 1, n * (n - 1) // 2), (1, n)]


def table_row(cubes: Array, integers: Array, squares: Array, spacing: Array) -> Array:
    """Return the columns from the cubes (256, 4), the voxels' integers and the squared diameters."""
    out = np.zeros(COLUMNS)
    if integers[N]:
        table = mesh()
        sums = cubes, integers, squares, tuple(spacing.tolist())
        write_row(sums, (table.triangles, table.determinant, table.normal), KINDS, out)
    return out


@jit
def write_row(sums: tuple[Any, ...], table: tuple[Array, ...], normals: Array, out: Array) -> None:
    """Compute the columns of one region."""
    cubes, integers, squares, (sz, sy, sx) = sums
    triangles, determinant, normal = table
    area = 0.0
    for kind in range(triangles.shape[1]):
        count = 0
        for case in range(cubes.shape[0]):
            count += cubes[case, 0] * triangles[case, kind]
        z = normals[kind, 0] * (sy * sx)
        y = normals[kind, 1] * (sz * sx)
        x = normals[kind, 2] * (sz * sy)
        area += count * math.sqrt(z * z + y * y + x * x)
    volume = 0
    for case in range(cubes.shape[0]):
        volume += cubes[case, 0] * determinant[case]
        for axis in range(3):
            # places count from the first cube of the mask's own box
            volume += 2 * normal[case, axis] * (cubes[case, 1 + axis] - integers[LEAST_Z + axis] * cubes[case, 0])
    out[SHAPE.n] = integers[N]
    out[SHAPE.area] = area / 8
    out[SHAPE.volumes] = volume
    out[SHAPE.diameter_slice] = math.sqrt(squares[0])
    out[SHAPE.diameter_column] = math.sqrt(squares[1])
    out[SHAPE.diameter_row] = math.sqrt(squares[2])
    out[SHAPE.diameter] = math.sqrt(squares[3])
    write_axes(integers, sz, sy, sx, out)


@jit
def covariance(integers: Array, a: int, b: int, ab: int) -> tuple[float, int]:
    """Return the covariance of two coordinates, and n^2 times it modulo PRIME: 0 if it is 0, and hardly ever else."""
    n = integers[N]
    # relative to places next to the means, so that the products are small
    ca, cb = (2 * integers[a] + n) // (2 * n), (2 * integers[b] + n) // (2 * n)
    da, db = integers[a] - n * ca, integers[b] - n * cb
    product = integers[ab] - ca * integers[b] - cb * integers[a] + n * ca * cb
    residue = (n % PRIME * (product % PRIME) - da % PRIME * (db % PRIME) % PRIME) % PRIME
    count = float(n)
    return (count * float(product) - float(da) * float(db)) / (count * count), residue


@jit
def minor_of(aa: int, bb: int, ab: int) -> int:
    """Return aa bb - ab ab modulo PRIME."""
    return (aa * bb % PRIME - ab * ab % PRIME) % PRIME


@jit
def write_axes(integers: Array, sz: float, sy: float, sx: float, out: Array) -> None:
    """Write the eigenvalues of the covariance of the voxels' centres, by Jacobi's rotations, a fixed number of them.

    Whether voxels lie in a plane or on a line is decided by integers: there an eigenvalue is exactly 0.
    """
    a, zz = covariance(integers, Z, Z, ZZ)
    b, yy = covariance(integers, Y, Y, YY)
    c, xx = covariance(integers, X, X, XX)
    ab, zy = covariance(integers, Z, Y, ZY)
    ac, zx = covariance(integers, Z, X, ZX)
    bc, yx = covariance(integers, Y, X, YX)
    a, b, c = a * (sz * sz), b * (sy * sy), c * (sx * sx)
    ab, ac, bc = ab * (sz * sy), ac * (sz * sx), bc * (sy * sx)
    for _ in range(ROTATIONS):
        t = 0.0
        if ab != 0.0:
            ratio = (b - a) / (2 * ab)
            t = 1.0 / (abs(ratio) + math.sqrt(ratio * ratio + 1.0))
            t = -t if ratio < 0.0 else t
        cosine = 1.0 / math.sqrt(t * t + 1.0)
        sine = t * cosine
        # the next rotation is that of the second and the third axis
        a, b, c = b + t * ab, c, a - t * ab
        ab, ac, bc = sine * ac + cosine * bc, 0.0, cosine * ac - sine * bc
    least = max(min(a, b, c), 0.0)
    major = max(a, b, c)
    minor = max(max(min(a, b), min(max(a, b), c)), 0.0)
    tiny = major * 1e-9
    is_line = minor_of(zz, yy, zy) == 0 and minor_of(zz, xx, zx) == 0 and minor_of(yy, xx, yx) == 0
    determinant = zz * minor_of(yy, xx, yx) % PRIME
    determinant -= zy * ((zy * xx % PRIME - yx * zx % PRIME) % PRIME) % PRIME
    determinant += zx * ((zy * yx % PRIME - yy * zx % PRIME) % PRIME) % PRIME
    is_flat = is_line or determinant % PRIME == 0
    out[SHAPE.major] = major
    out[SHAPE.minor] = 0.0 if is_line and minor < tiny else minor
    out[SHAPE.least] = 0.0 if is_flat and least < tiny else least
