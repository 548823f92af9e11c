"""Grey-level size zones (GLSZM): labels by union-find, a table of zones by size and level, and its sums.

Indices of pixels count from the first pixel of their region; a zone's root is its first pixel.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import OFFSET, ZONE
from kacl_gpu.radiomics.constants import small_zones

from .common import (
    EPSILON,
    NEAREST,
    NEAREST_IN_SPACE,
    OFFSET_COLUMNS,
    TILE,
    X_STEP,
    Y_STEP,
    Z_STEP,
    constants,
    kernel,
    larger,
    launch,
    neighbour,
    offsets_on,
    position,
    share_of,
    tile_of,
    tiles,
)
from .sizes import (
    SUM_COLUMNS,
    SUM_ENTROPY,
    SUM_HIGH,
    SUM_LARGE,
    SUM_LARGE_HIGH,
    SUM_LARGE_LOW,
    SUM_LEVEL_SQUARES,
    SUM_LEVEL_VARIANCE,
    SUM_LOW,
    SUM_N,
    SUM_PIXELS,
    SUM_SIZE_SQUARES,
    SUM_SIZE_VARIANCE,
    SUM_SMALL,
    SUM_SMALL_HIGH,
    SUM_SMALL_LOW,
)

SLOTS = 16  # of large zones that a program sorts at once
BLOCK = 1024  # cells of the table of small zones, at once
ROWS = 256  # of the table of zones, at once
ZONE_LEVEL, ZONE_SIZE, ZONE_COUNT, ZONE_COLUMNS = constants(ZONE.level, ZONE.size, ZONE.count, len(ZONE))


@kernel
def begin_zones(
    # inputs
    levels, start, size,
    # outputs
    parent, pixels,
    # shapes
    regions,
    RUNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Make the first pixel of each run along a row, within the tile, the parent of the run; set all counts to 0.

    The parent is -1 outside of the regions. Without ``RUNS``, where equal pixels side by side are no neighbours, each
    pixel is its own parent.
    """
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    level = tl.load(levels + base + index, mask=inside, other=0)
    run = index
    if RUNS:
        previous = tl.load(levels + base + index - 1, mask=inside & (lane > 0) & (index % width > 0), other=0)
        run = tl.associative_scan(tl.where((level > 0) & (level == previous), 0, index), 0, larger)
    tl.store(parent + base + index, tl.where(level > 0, run, -1), mask=inside)
    tl.store(pixels + base + index, tl.zeros((TILE,), tl.int32), mask=inside)


@triton.jit
def root_of(parent, index, mask, HALVE: tl.constexpr):
    """Return the roots (TILE,) of pixels, reading past the first-level cache, which misses concurrent unions.

    HALVE makes the grandparent of each pixel on the path its parent, so that paths become short. A root only ever loses
    root status; a concurrent writer re-joins the parent that it displaced, so no union is lost.
    """
    parent_index = tl.load(parent + index, mask=mask, other=0, cache_modifier=".cg")
    pending = tl.max((mask & (parent_index != index)).to(tl.int32))
    while pending > 0:
        top = tl.load(parent + parent_index, mask=mask, other=0, cache_modifier=".cg")
        if HALVE:
            tl.store(parent + index, top, mask=mask & (top != parent_index))
        index = tl.where(mask, top, index)
        parent_index = tl.load(parent + index, mask=mask, other=0, cache_modifier=".cg")
        pending = tl.max((mask & (parent_index != index)).to(tl.int32))
    return index


@triton.jit
def join(parent, a, b):
    """Unite the zones of pixels a and b, unless b is negative.

    The smaller root becomes the parent of the greater one. If that had got another parent meanwhile, the displaced
    parent is joined in the next round. Roots become smaller in each round, so the loop ends.
    """
    joining = b >= 0
    a, b = tl.where(joining, a, 0), tl.where(joining, b, 0)
    pending = tl.max(joining.to(tl.int32))
    while pending > 0:
        a = root_of(parent, a, joining, True)
        b = root_of(parent, b, joining, True)
        greater, smaller = tl.maximum(a, b), tl.minimum(a, b)
        joining = joining & (greater != smaller)
        previous = tl.atomic_min(parent + greater, smaller, mask=joining, sem="relaxed")
        joining = joining & (previous != greater)  # otherwise it was a root until now, and is joined
        a = tl.where(joining, previous, 0)
        b = tl.where(joining, smaller, 0)
        pending = tl.max(joining.to(tl.int32))


@triton.jit
def join_in_plane(parent, index, lane, width, level, west, east, north, north_west, north_east):
    """Join each pixel of a level above 0 with equal neighbours in its plane: at most two of the four before it.

    Equal pixels side by side belong to one run: within a tile from the beginning, across tiles by the tile's first
    pixel. So joining the pixel above also joins its equal neighbours in the row; where the pixel above has another
    level, the equal pixels beside this one join those.
    """
    inside = level > 0
    to_north = inside & north & ~(west & north_west)
    to_north_west = inside & north_west & ~north & ~west
    to_north_east = inside & north_east & ~north & ~east
    to_west = inside & west & (lane == 0)
    up = index - width
    # a pixel joined to the west is joined with at most one more, north or north east
    first_of_two = tl.where(to_north, up, tl.where(to_north_west, up - 1, tl.where(to_west, index - 1, -1)))
    second_of_two = tl.where(to_north_east, up + 1, tl.where(to_west & to_north, index - 1, -1))
    join(parent, index, first_of_two)
    join(parent, index, second_of_two)


@kernel
def join_nearest(
    # inputs
    levels, start, size,
    # outputs
    parent,
    # shapes
    regions,
    TILE: tl.constexpr,
):  # fmt: skip
    """Join each pixel with equal neighbours, for the offsets NEAREST."""
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    x = index % width
    below = inside & (index % (height * width) >= width)
    pointer = levels + base + index
    level = tl.load(pointer, mask=inside, other=0).to(tl.int32)
    west = tl.load(pointer - 1, mask=inside & (x > 0), other=0).to(tl.int32) == level
    east = tl.load(pointer + 1, mask=inside & (x < width - 1), other=0).to(tl.int32) == level
    pointer_above = pointer - width
    north = tl.load(pointer_above, mask=below, other=0).to(tl.int32) == level
    north_west = tl.load(pointer_above - 1, mask=below & (x > 0), other=0).to(tl.int32) == level
    north_east = tl.load(pointer_above + 1, mask=below & (x < width - 1), other=0).to(tl.int32) == level
    join_in_plane(parent + base, index, lane, width, level, west, east, north, north_west, north_east)


@triton.jit
def three_equal(pointer, level, x, width, mask):
    """Return whether the pixels on the left, in the middle and on the right have the given levels (TILE,)."""
    left = tl.load(pointer - 1, mask=mask & (x > 0), other=0).to(tl.int32) == level
    middle = tl.load(pointer, mask=mask, other=0).to(tl.int32) == level
    right = tl.load(pointer + 1, mask=mask & (x < width - 1), other=0).to(tl.int32) == level
    return left, middle, right


@kernel
def join_nearest_in_space(
    # inputs
    levels, start, size,
    # outputs
    parent,
    # shapes
    regions,
    TILE: tl.constexpr,
):  # fmt: skip
    """Join each voxel with equal neighbours, for the offsets NEAREST_IN_SPACE: within planes, then with the one before.

    The voxel straight before is a neighbour of all others before, so it stands for them; and it is not joined where a
    neighbour in the plane is joined with one beside it. Where it differs, an equal voxel at a side is needed unless the
    neighbour in the plane at that side joins it straight, one at a corner unless an equal voxel beside it, in either
    plane, is joined with it.
    """
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    z, y, x = position(index, depth, height, width)
    in_north, in_south, has_before = inside & (y > 0), inside & (y < height - 1), inside & (z > 0)
    pointer = levels + base + index
    level = tl.load(pointer, mask=inside, other=0).to(tl.int32)
    west = tl.load(pointer - 1, mask=inside & (x > 0), other=0).to(tl.int32) == level
    east = tl.load(pointer + 1, mask=inside & (x < width - 1), other=0).to(tl.int32) == level
    north_west, north, north_east = three_equal(pointer - width, level, x, width, in_north)
    join_in_plane(parent + base, index, lane, width, level, west, east, north, north_west, north_east)
    if depth > 1:
        south = tl.load(pointer + width, mask=in_south, other=0).to(tl.int32) == level
        before = pointer - height * width
        # of the plane before: rows y - 1, y, y + 1
        a0, a1, a2 = three_equal(before - width, level, x, width, has_before & (y > 0))
        b0, b1, b2 = three_equal(before, level, x, width, has_before)
        c0, c1, c2 = three_equal(before + width, level, x, width, has_before & (y < height - 1))
        zone = level > 0
        straight = zone & b1 & ~(west & b0) & ~(north & a1)
        beside = zone & ~b1
        to_a1 = beside & a1 & ~north & ~(west & a0)
        side = beside & ~a1
        to_b0 = side & b0 & ~west & ~(north & a0)
        to_b2 = side & b2 & ~east & ~(north & a2)
        to_c1 = beside & c1 & ~south & ~b0 & ~b2 & ~(west & c0)
        to_a0 = side & a0 & ~b0 & ~west & ~north & ~north_west
        to_a2 = side & a2 & ~b2 & ~east & ~north & ~north_east
        side = beside & ~c1 & ~south
        to_c0 = side & c0 & ~b0 & ~west
        to_c2 = side & c2 & ~b2 & ~east
        # of the voxels before that are needed no two are in one group
        here = index - height * width
        up, down = here - width, here + width
        group1 = tl.where(straight, here, tl.where(to_a1, up, tl.where(to_a0, up - 1, tl.where(to_b0, here - 1, -1))))
        group2 = tl.where(to_b2, here + 1, tl.where(to_a2, up + 1, -1))
        group3 = tl.where(to_c1, down, tl.where(to_c0, down - 1, -1))
        group4 = tl.where(to_c2, down + 1, -1)
        join(parent + base, index, group1)
        join(parent + base, index, group2)
        join(parent + base, index, group3)
        join(parent + base, index, group4)


@kernel
def join_zones(
    # inputs
    levels, start, size, offsets,
    # outputs
    parent,
    # shapes
    regions, directions,
    RUNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Join each pixel with equal neighbours before it, unless the pixel on its left joins the same two runs."""
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    z, y, x = position(index, depth, height, width)
    level = tl.load(levels + base + index, mask=inside, other=0).to(tl.int32)
    inside = level > 0
    left_level = neighbour(levels, base, index, z, y, x, 0, 0, -1, depth, height, width, inside)
    for n in range(directions):
        dz = tl.load(offsets + OFFSET_COLUMNS * n + Z_STEP)
        dy = tl.load(offsets + OFFSET_COLUMNS * n + Y_STEP)
        dx = tl.load(offsets + OFFSET_COLUMNS * n + X_STEP)
        neighbour_level = neighbour(levels, base, index, z, y, x, -dz, -dy, -dx, depth, height, width, inside)
        joining = inside & (neighbour_level == level)
        if RUNS:
            left_neighbour = neighbour(levels, base, index, z, y, x, -dz, -dy, -dx - 1, depth, height, width, inside)
            new = (left_level != level) | (left_neighbour != level)
            if (dz == 0) & (dy == 0):  # within a tile begin_zones has joined the run
                new = lane == 0
            joining = joining & new
        join(parent + base, index, tl.where(joining, index - ((dz * height + dy) * width + dx), -1))


@kernel
def count_zones(
    # inputs
    levels, start, size,
    # outputs
    parent, pixels,
    # shapes
    regions,
    RUNS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Make each pixel's root its parent, and count the pixels of a zone at its root.

    Pixels of the tile's first root are counted together, since a large zone fills most of its tiles. Other pixels are
    counted run by run, as the difference of the run's ends; without ``RUNS`` one by one.
    """
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    x = index % width
    level = tl.load(levels + base + index, mask=inside, other=0)
    if RUNS:
        previous = tl.load(levels + base + index - 1, mask=inside & (lane > 0) & (x > 0), other=0)
        following = tl.load(levels + base + index + 1, mask=inside & (lane < TILE - 1) & (x < width - 1), other=0)
    inside = level > 0
    # Paths are not halved here: another tile's halving could overwrite a root that is stored below.
    root = root_of(parent + base, tl.where(inside, index, 0), inside, False)
    tl.store(parent + base + index, root, mask=inside)
    first_root = tl.min(tl.where(inside, root, 2147483647))
    shared = inside & (root == first_root)
    shared_count = tl.sum(shared.to(tl.int32))
    if shared_count > 0:
        tl.atomic_add(pixels + base + first_root, shared_count, sem="relaxed")
    counted = inside & (root != first_root)
    count = lane * 0 + 1
    if RUNS:
        count = tl.where(level != following, lane + 1, 0) - tl.where(level != previous, lane, 0)
        counted = counted & ((level != following) | (level != previous))
    tl.atomic_add(pixels + base + root, count, mask=counted, sem="relaxed")


def label(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Label connected pixels of one level in a packed level buffer, see :mod:`kacl_gpu.radiomics.ops`.

    Returns: each pixel's root (total,) int32, the zone's first pixel counted from the region's first, -1 outside of the
    regions; and at each root the number of pixels of its zone (total,) int32. Both are garbage in gaps.
    """
    parent, pixels = torch.empty((2, len(levels)), dtype=torch.int32, device=levels.device)
    grid, regions, directions = (tiles(levels),), len(start), len(offsets) // OFFSET_COLUMNS.value
    constants: dict[str, Any] = {"RUNS": (0, 0, 1) in zip(*(offsets[axis :: len(OFFSET)] for axis in OFFSET))}
    constants["TILE"] = TILE
    # each: inputs, outputs, shapes
    launch(begin_zones, grid, *(levels, start, size), *(parent, pixels), regions, **constants)
    if tuple(offsets) == NEAREST:
        launch(join_nearest, grid, *(levels, start, size), parent, regions, TILE=TILE, num_warps=8)
    elif tuple(offsets) == NEAREST_IN_SPACE:  # with fewer warps registers are spilled
        launch(join_nearest_in_space, grid, *(levels, start, size), parent, regions, TILE=TILE, num_warps=16)
    else:
        triples = offsets_on(offsets, levels.device)
        launch(
            join_zones, grid, *(levels, start, size, triples), parent, *(regions, directions), **constants, num_warps=8
        )
    launch(count_zones, grid, *(levels, start, size), *(parent, pixels), regions, **constants)
    return parent, pixels


@kernel
def list_zones(
    # inputs
    levels, start, size, parent, pixels,
    # outputs
    small, large, list_lengths,
    # shapes
    regions, ng,
    SMALL: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Count small zones in ``small`` (K, SMALL, ng) int32, and append the keys of large ones to their region's list.

    A key is size * ng + level - 1, which orders by size, then level. A region's list begins at 1 / SMALL of the
    region's place in the buffer, since large zones have at least SMALL pixels.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    index = first + tl.arange(0, TILE)
    inside = index < volume
    root = inside & (tl.load(parent + base + index, mask=inside, other=-1) == index)
    n = tl.load(pixels + base + index, mask=root, other=0)
    level = tl.load(levels + base + index, mask=root, other=0).to(tl.int64)
    key = n.to(tl.int64) * ng + level - 1
    is_small = root & (n < SMALL)
    ones = tl.full((TILE,), 1, tl.int32)
    tl.atomic_add(small + k.to(tl.int64) * SMALL * ng + key, ones, mask=is_small, sem="relaxed")
    is_large = root & (n >= SMALL)
    if tl.max(is_large.to(tl.int32)) > 0:
        slot = tl.atomic_add(list_lengths + k + index * 0, ones, mask=is_large, sem="relaxed")
        tl.store(large + base // SMALL + slot, key, mask=is_large)


@kernel
def sort_zones(
    # inputs
    start, size, large, list_lengths,
    # outputs
    ordered,
    # shapes
    regions, programs,
    SMALL: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Copy large zones to their place by key, equal ones in the order of the list; a program takes SLOTS at a time."""
    k, base, _, _, _, share, shares = share_of(start, size, regions, programs)
    count = tl.load(list_lengths + k)
    keys = large + base // SMALL
    for first in range(share * SLOTS, count, shares * SLOTS):
        slot = first + tl.arange(0, SLOTS)
        key = tl.load(keys + slot, mask=slot < count, other=0)
        rank = tl.zeros((SLOTS,), tl.int32)
        for begin in range(0, count, 64):
            other = begin + tl.arange(0, 64)
            other_key = tl.load(keys + other, mask=other < count, other=0x7FFFFFFFFFFFFFFF)
            precedes = (other_key[None, :] < key[:, None]) | (
                (other_key[None, :] == key[:, None]) & (other[None, :] < slot[:, None])
            )
            rank += tl.sum(precedes.to(tl.int32), 1)
        tl.store(ordered + base // SMALL + rank, key, mask=slot < count)


@kernel
def write_zones(
    # inputs
    start, small, ordered, list_lengths,
    # outputs
    out,
    # shapes
    ng, max_zones,
    SMALL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write a region's small zones, then its large ones, equal ones as one row of ``out`` (K, max_zones, 3)."""
    k = tl.program_id(0).to(tl.int64)
    out += k * max_zones * ZONE_COLUMNS
    rows = tl.min(tl.zeros((1,), tl.int32))
    table = ng * SMALL
    for begin in range(0, table, BLOCK):
        key = begin + tl.arange(0, BLOCK)
        n = tl.load(small + k * table + key, mask=key < table, other=0)
        valid = n > 0
        row = rows + tl.cumsum(valid.to(tl.int32), 0) - 1
        tl.store(out + ZONE_COLUMNS * row + ZONE_LEVEL, key % ng + 1, mask=valid)
        tl.store(out + ZONE_COLUMNS * row + ZONE_SIZE, key // ng, mask=valid)
        tl.store(out + ZONE_COLUMNS * row + ZONE_COUNT, n, mask=valid)
        rows += tl.sum(valid.to(tl.int32))
    count = tl.load(list_lengths + k)
    keys = ordered + tl.load(start + k) // SMALL
    for begin in range(0, count, BLOCK):
        slot = begin + tl.arange(0, BLOCK)
        valid = slot < count
        key = tl.load(keys + slot, mask=valid, other=0)
        is_new = valid & ((slot == 0) | (key != tl.load(keys + slot - 1, mask=valid & (slot > 0), other=0)))
        row = rows + tl.cumsum(is_new.to(tl.int32), 0) - 1
        tl.store(out + ZONE_COLUMNS * row + ZONE_LEVEL, (key % ng + 1).to(tl.int32), mask=is_new)
        tl.store(out + ZONE_COLUMNS * row + ZONE_SIZE, (key // ng).to(tl.int32), mask=is_new)
        tl.atomic_add(out + ZONE_COLUMNS * row + ZONE_COUNT, tl.full((BLOCK,), 1, tl.int32), mask=valid, sem="relaxed")
        rows += tl.sum(is_new.to(tl.int32))


def glszm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_zones: int) -> Tensor:
    """Make the table of zones; see :func:`kacl_gpu.radiomics.ops.glszm`.

    Large zones are sorted by counting those before each: n^2 / 16 steps of 64 comparisons for n of them in a region,
    which has at most one for each ``small_zones`` of its pixels.
    """
    regions, device, programs = len(start), levels.device, tiles(levels)
    largest_small = small_zones(len(levels) // max(regions, 1), ng)
    parent, pixels = label(levels, start, size, offsets)
    zeros = torch.zeros(regions * (largest_small * ng + 1), dtype=torch.int32, device=device)
    small, list_lengths = zeros[:-regions], zeros[-regions:]
    large, ordered = torch.empty((2, programs * TILE // largest_small), dtype=torch.int64, device=device)
    out = torch.zeros((regions, max_zones, ZONE_COLUMNS.value), dtype=torch.int32, device=device)
    # each: inputs, outputs, shapes
    launch(
        list_zones,
        (programs,),
        *(levels, start, size, parent, pixels),
        *(small, large, list_lengths),
        *(regions, ng),
        SMALL=largest_small,
        TILE=TILE,
    )
    launch(
        sort_zones,
        (programs,),
        *(start, size, large, list_lengths),
        ordered,
        *(regions, programs),
        SMALL=largest_small,
        SLOTS=SLOTS,
        num_warps=1,
    )
    launch(
        write_zones,
        (regions,),
        *(start, small, ordered, list_lengths),
        out,
        *(ng, max_zones),
        SMALL=largest_small,
        BLOCK=BLOCK,
    )
    return out


@kernel
def sum_zones(
    # inputs
    zones,
    # scratch
    scratch,
    # outputs
    out,
    # shapes
    ng, max_zones,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Compute the fifteen columns of one region's table.

    ``scratch``: (K, ng + max_zones) int32 of zeros, for sums by level and by size.
    """
    k = tl.program_id(0).to(tl.int64)
    zones += k * max_zones * ZONE_COLUMNS
    by_level = scratch + k * (ng + max_zones)
    by_size = by_level + ng
    n_at = tl.zeros((ROWS,), tl.int64)
    levels_at = tl.zeros((ROWS,), tl.int64)
    pixels_at = tl.zeros((ROWS,), tl.int64)
    groups = tl.min(tl.zeros((1,), tl.int32))
    rows_read = groups
    remaining = groups + 1
    while remaining > 0:  # exact integer sums; zones of one size stand together, unused rows at the end
        row = rows_read + tl.arange(0, ROWS)
        i = tl.load(zones + ZONE_COLUMNS * row + ZONE_LEVEL, mask=row < max_zones, other=0)
        j = tl.load(zones + ZONE_COLUMNS * row + ZONE_SIZE, mask=row < max_zones, other=0)
        c = tl.load(zones + ZONE_COLUMNS * row + ZONE_COUNT, mask=row < max_zones, other=0)
        previous = tl.load(
            zones + ZONE_COLUMNS * row + (ZONE_SIZE - ZONE_COLUMNS), mask=(row > 0) & (row < max_zones), other=0
        )
        valid = c > 0
        group = groups + tl.cumsum((valid & (j != previous)).to(tl.int32), 0) - 1
        groups += tl.sum((valid & (j != previous)).to(tl.int32))
        tl.atomic_add(by_level + i - 1, c, mask=valid, sem="relaxed")
        tl.atomic_add(by_size + group, c, mask=valid, sem="relaxed")
        n_at += c.to(tl.int64)
        levels_at += c.to(tl.int64) * i
        pixels_at += c.to(tl.int64) * j
        rows_read += ROWS
        remaining = tl.where(rows_read < max_zones, tl.max(c), 0)
    n, pixels = tl.sum(n_at).to(tl.float64), tl.sum(pixels_at).to(tl.float64)
    mean_level, mean_size = tl.sum(levels_at).to(tl.float64) / n, pixels / n
    tl.debug_barrier()

    entropy = tl.zeros((ROWS,), tl.float64)
    small = tl.zeros((ROWS,), tl.float64)
    large = tl.zeros((ROWS,), tl.float64)
    small_low = tl.zeros((ROWS,), tl.float64)
    small_high = tl.zeros((ROWS,), tl.float64)
    large_low = tl.zeros((ROWS,), tl.float64)
    large_high = tl.zeros((ROWS,), tl.float64)
    size_variance = tl.zeros((ROWS,), tl.float64)
    size_squares = tl.zeros((ROWS,), tl.float64)
    for first in range(0, rows_read, ROWS):
        row = first + tl.arange(0, ROWS)
        c = tl.load(zones + ZONE_COLUMNS * row + ZONE_COUNT, mask=row < max_zones, other=0).to(tl.float64)
        i = tl.load(zones + ZONE_COLUMNS * row + ZONE_LEVEL, mask=row < max_zones, other=1).to(tl.float64)
        j = tl.load(zones + ZONE_COLUMNS * row + ZONE_SIZE, mask=row < max_zones, other=1).to(tl.float64)
        i2, j2 = tl.where(c > 0, i * i, 1.0), tl.where(c > 0, j * j, 1.0)
        p = c * (1 / n)
        d = j - mean_size
        entropy -= tl.where(c > 0, p * tl.log2(p + EPSILON), 0.0)
        small_term, large_term = c / j2, c * j2
        small += small_term
        large += large_term
        small_low += small_term / i2
        small_high += small_term * i2
        large_low += large_term / i2
        large_high += large_term * i2
        size_variance += c * (d * d)
        group = tl.load(by_size + row, mask=row < max_zones, other=0, cache_modifier=".cg").to(tl.float64)
        size_squares += group * group
    low = tl.zeros((ROWS,), tl.float64)
    high = tl.zeros((ROWS,), tl.float64)
    level_squares = tl.zeros((ROWS,), tl.float64)
    level_variance = tl.zeros((ROWS,), tl.float64)
    present = tl.zeros((ROWS,), tl.int32)
    for first in range(0, ng, ROWS):
        level = first + tl.arange(0, ROWS)
        c = tl.load(by_level + level, mask=level < ng, other=0, cache_modifier=".cg").to(tl.float64)
        i = (level + 1).to(tl.float64)
        d = i - mean_level
        low += c / (i * i)
        high += c * (i * i)
        level_squares += c * c
        level_variance += tl.where(c > 0, c * (d * d), 0.0)
        present += (c > 0).to(tl.int32)

    out += k * SUM_COLUMNS
    tl.store(out + SUM_N, n)
    tl.store(out + SUM_ENTROPY, tl.sum(entropy))
    tl.store(out + SUM_SMALL_LOW, tl.sum(small_low))
    tl.store(out + SUM_SMALL_HIGH, tl.sum(small_high))
    tl.store(out + SUM_LARGE_LOW, tl.sum(large_low))
    tl.store(out + SUM_LARGE_HIGH, tl.sum(large_high))
    tl.store(out + SUM_LOW, tl.sum(low))
    tl.store(out + SUM_HIGH, tl.sum(high))
    tl.store(out + SUM_PIXELS, pixels)
    tl.store(out + SUM_SMALL, tl.sum(small))
    tl.store(out + SUM_LARGE, tl.sum(large))
    tl.store(out + SUM_LEVEL_SQUARES, tl.sum(level_squares))
    tl.store(out + SUM_SIZE_SQUARES, tl.sum(size_squares))
    tl.store(out + SUM_LEVEL_VARIANCE, tl.where(tl.sum(present) == 1, 0.0, tl.sum(level_variance) / n))
    tl.store(out + SUM_SIZE_VARIANCE, tl.where(groups == 1, 0.0, tl.sum(size_variance) / n))


def zone_sums(zones: Tensor, ng: int) -> Tensor:
    """Sum a table of zones; see :func:`kacl_gpu.radiomics.ops.zone_sums`."""
    regions, max_zones = zones.shape[:2]
    scratch = torch.zeros((regions, ng + max_zones), dtype=torch.int32, device=zones.device)
    out = torch.empty((regions, SUM_COLUMNS.value), dtype=torch.float64, device=zones.device)
    launch(
        sum_zones,
        (regions,),
        # inputs
        zones,
        # scratch
        scratch,
        # outputs
        out,
        # shapes
        *(ng, max_zones),
        ROWS=ROWS,
    )
    return out
