"""Grey-level size zones: labels by union-find, a table of zones by size and level, and its sums.

Indices of pixels count from the first pixel of their region; a zone's root is its first pixel.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import NEAREST, TILE, kernel, larger, launch, neighbour, offsets_on, position, tile_of, tiles

SMALL = tl.constexpr(64)  # pixels: zones below are counted in a table, the others, few by their size, are sorted
SLOTS = tl.constexpr(16)  # of large zones that a tile of 1024 pixels can have
BLOCK = 1024  # cells of the table of small zones, at once
ROWS = 256  # of the table of zones, at once
EPS = tl.constexpr(2.0**-52)


@kernel
def begin_zones(levels, start, size, regions, parent, pixels, TILE: tl.constexpr):
    """Each pixel's parent is the first one of its run along the row, in this tile; no pixels counted yet.

    -1 outside of the regions.
    """
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    level = tl.load(levels + base + index, mask=inside, other=0)
    before = tl.load(levels + base + index - 1, mask=inside & (lane > 0) & (index % width > 0), other=0)
    run = tl.associative_scan(tl.where((level > 0) & (level == before), 0, index), 0, larger)
    tl.store(parent + base + index, tl.where(level > 0, run, -1), mask=inside)
    tl.store(pixels + base + index, tl.zeros((TILE,), tl.int32), mask=inside)


@triton.jit
def root_of(parent, index, mask, HALVE: tl.constexpr):
    """The roots (TILE,) of pixels; read past the first cache, which does not see what others join meanwhile.

    Where HALVE, each pixel that is passed gets its parent's parent for a parent, so that long ways become short. What
    is not a root never becomes one again, and whoever took it from another parent meanwhile joins that one himself.
    """
    above = tl.load(parent + index, mask=mask, other=0, cache_modifier=".cg")
    waiting = tl.max((mask & (above != index)).to(tl.int32))
    while waiting > 0:
        top = tl.load(parent + above, mask=mask, other=0, cache_modifier=".cg")
        if HALVE:
            tl.store(parent + index, top, mask=mask & (top != above))
        index = tl.where(mask, top, index)
        above = tl.load(parent + index, mask=mask, other=0, cache_modifier=".cg")
        waiting = tl.max((mask & (above != index)).to(tl.int32))
    return index


@triton.jit
def join(parent, a, b, joining):
    """Makes one zone of those of pixels a and b, where ``joining``.

    The greater root gets the smaller one for its parent. Where it had another by then, that one is to be joined too;
    each time round the roots in question become smaller, so it ends.
    """
    a, b = tl.where(joining, a, 0), tl.where(joining, b, 0)
    waiting = tl.max(joining.to(tl.int32))
    while waiting > 0:
        a = root_of(parent, a, joining, True)
        b = root_of(parent, b, joining, True)
        greater, smaller = tl.maximum(a, b), tl.minimum(a, b)
        joining = joining & (greater != smaller)
        before = tl.atomic_min(parent + greater, smaller, mask=joining, sem="relaxed")
        joining = joining & (before != greater)  # else it was a root until now: joined
        a = tl.where(joining, before, 0)
        b = tl.where(joining, smaller, 0)
        waiting = tl.max(joining.to(tl.int32))


@kernel
def join_nearest(levels, start, size, regions, parent, TILE: tl.constexpr):
    """``join_zones`` for NEAREST: of its four neighbours before it a pixel needs to be joined with two at most.

    Equal pixels side by side are of one run, within a tile from the beginning, across its edge by the tile's first
    pixel. So the pixel above serves for those beside that one; and where it is another's, those are served by the
    pixels beside this one, if equal.
    """
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    x = index % width
    below = inside & (index % (height * width) >= width)
    here = levels + base + index
    level = tl.load(here, mask=inside, other=0).to(tl.int32)
    west = tl.load(here - 1, mask=inside & (x > 0), other=0).to(tl.int32) == level
    east = tl.load(here + 1, mask=inside & (x < width - 1), other=0).to(tl.int32) == level
    above = here - width
    north = tl.load(above, mask=below, other=0).to(tl.int32) == level
    north_west = tl.load(above - 1, mask=below & (x > 0), other=0).to(tl.int32) == level
    north_east = tl.load(above + 1, mask=below & (x < width - 1), other=0).to(tl.int32) == level
    inside = level > 0
    to_north = inside & north & ~(west & north_west)
    to_north_west = inside & north_west & ~north & ~west
    to_north_east = inside & north_east & ~north & ~east
    to_west = inside & west & (lane == 0)
    up = index - width
    # one that goes west goes nowhere else, or only north, or only north east
    first_of_two = tl.where(to_north, up, tl.where(to_north_west, up - 1, index - 1))
    second_of_two = tl.where(to_north_east, up + 1, index - 1)
    join(parent + base, index, first_of_two, to_north | to_north_west | to_west)
    join(parent + base, index, second_of_two, to_north_east | (to_west & to_north))


@kernel
def join_zones(levels, start, size, regions, offsets, directions, parent, TILE: tl.constexpr):
    """Joins each pixel with equal neighbours before it, where the pixel on its left has not joined the same runs."""
    _, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    volume = depth * height * width
    if first >= volume:
        return
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < volume
    z, y, x = position(index, height, width)
    level = tl.load(levels + base + index, mask=inside, other=0).to(tl.int32)
    inside = level > 0
    left = neighbour(levels, base, index, z, y, x, 0, 0, -1, depth, height, width, inside)
    for n in range(directions):
        dz = tl.load(offsets + 3 * n)
        dy = tl.load(offsets + 3 * n + 1)
        dx = tl.load(offsets + 3 * n + 2)
        there = neighbour(levels, base, index, z, y, x, -dz, -dy, -dx, depth, height, width, inside)
        left_there = neighbour(levels, base, index, z, y, x, -dz, -dy, -dx - 1, depth, height, width, inside)
        joining = inside & (there == level) & ((left != level) | (left_there != level))
        if (dz == 0) & (dy == 0):  # within a tile a run is joined
            joining = inside & (there == level) & (lane == 0)
        join(parent + base, index, index - ((dz * height + dy) * width + dx), joining)


@kernel
def count_zones(levels, start, size, regions, parent, pixels, TILE: tl.constexpr):
    """Each pixel's root becomes its parent, where the pixels are counted.

    Those that share the tile's first root are counted at once: a large zone fills most of its tiles. Others are counted
    a run at a time, as its last place less the one before its first.
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
    before = tl.load(levels + base + index - 1, mask=inside & (lane > 0) & (x > 0), other=0)
    after = tl.load(levels + base + index + 1, mask=inside & (lane < TILE - 1) & (x < width - 1), other=0)
    inside = level > 0
    # Nothing is shortened here: a way that another tile shortens meanwhile could overwrite a root written below.
    root = root_of(parent + base, tl.where(inside, index, 0), inside, False)
    tl.store(parent + base + index, root, mask=inside)
    least = tl.min(tl.where(inside, root, 2147483647))
    shared = inside & (root == least)
    together = tl.sum(shared.to(tl.int32))
    if together > 0:
        tl.atomic_add(pixels + base + least, together, sem="relaxed")
    number = tl.where(level != after, lane + 1, 0) - tl.where(level != before, lane, 0)
    ends = (level != after) | (level != before)
    tl.atomic_add(pixels + base + root, number, mask=inside & (root != least) & ends, sem="relaxed")


def label(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Connected pixels of one level in a packed level buffer, see :mod:`kacl_gpu.radiomics.ops`.

    Returns: for each pixel its root (total,) int32, the zone's first pixel counted from the region's first, -1 outside
    of the regions; and at each root how many pixels its zone has (total,) int32. Both are garbage in gaps.
    """
    if (0, 0, 1) not in zip(offsets[::3], offsets[1::3], offsets[2::3]):
        raise ValueError(f"zones are connected along rows, (0, 0, 1), which is not among {list(offsets)}")
    parent, pixels = torch.empty((2, len(levels)), dtype=torch.int32, device=levels.device)
    grid, of_levels = (tiles(levels),), (levels, start, size, len(start))
    launch(begin_zones, grid, *of_levels, parent, pixels, TILE=TILE)
    if tuple(offsets) == NEAREST:
        launch(join_nearest, grid, *of_levels, parent, TILE=TILE, num_warps=8)
    else:
        where = offsets_on(offsets, levels.device), len(offsets) // 3
        launch(join_zones, grid, *of_levels, *where, parent, TILE=TILE, num_warps=8)
    launch(count_zones, grid, *of_levels, parent, pixels, TILE=TILE)
    return parent, pixels


@kernel
def list_zones(levels, start, size, regions, parent, pixels, small, large, number, ng, TILE: tl.constexpr):
    """Counts small zones in (K, SMALL, ng) int32, and appends the keys of large ones to their region's list.

    A key is size * ng + level - 1, which orders by size, then level. A region's list begins at 1 / 64 of its place in
    the buffer: large zones have 64 pixels.
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
    few = root & (n < SMALL)
    one = tl.full((TILE,), 1, tl.int32)
    tl.atomic_add(small + k.to(tl.int64) * SMALL * ng + key, one, mask=few, sem="relaxed")
    many = root & (n >= SMALL)
    if tl.max(many.to(tl.int32)) > 0:
        place = tl.atomic_add(number + k + index * 0, one, mask=many, sem="relaxed")
        tl.store(large + base // SMALL + place, key, mask=many)


@kernel
def sort_zones(start, size, regions, large, number, ordered, TILE: tl.constexpr):
    """Large zones to their place by key; equal ones in the order of the list. A program places those of 16 slots."""
    k, base, first, _, _, _ = tile_of(start, size, regions, TILE)
    count = tl.load(number + k)
    mine = first // SMALL + tl.arange(0, SLOTS)
    if first // SMALL >= count:
        return
    list_ = large + base // SMALL
    key = tl.load(list_ + mine, mask=mine < count, other=0)
    before = tl.zeros((SLOTS,), tl.int32)
    for begin in range(0, count, 64):
        other = begin + tl.arange(0, 64)
        those = tl.load(list_ + other, mask=other < count, other=0x7FFFFFFFFFFFFFFF)
        first_of = (those[None, :] < key[:, None]) | (
            (those[None, :] == key[:, None]) & (other[None, :] < mine[:, None])
        )
        before += tl.sum(first_of.to(tl.int32), 1)
    tl.store(ordered + base // SMALL + before, key, mask=mine < count)


@kernel
def write_zones(start, small, ordered, number, out, ng, most, BLOCK: tl.constexpr):
    """Per region: the small zones that occur, then the large ones, equal ones as one row of (K, most, 3)."""
    k = tl.program_id(0).to(tl.int64)
    out += k * most * 3
    rows = tl.min(tl.zeros((1,), tl.int32))
    table = ng * SMALL
    for begin in range(0, table, BLOCK):
        key = begin + tl.arange(0, BLOCK)
        n = tl.load(small + k * table + key, mask=key < table, other=0)
        there = n > 0
        row = rows + tl.cumsum(there.to(tl.int32), 0) - 1
        tl.store(out + 3 * row, key % ng + 1, mask=there)
        tl.store(out + 3 * row + 1, key // ng, mask=there)
        tl.store(out + 3 * row + 2, n, mask=there)
        rows += tl.sum(there.to(tl.int32))
    count = tl.load(number + k)
    list_ = ordered + tl.load(start + k) // SMALL
    for begin in range(0, count, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        there = place < count
        key = tl.load(list_ + place, mask=there, other=0)
        new = there & ((place == 0) | (key != tl.load(list_ + place - 1, mask=there & (place > 0), other=0)))
        row = rows + tl.cumsum(new.to(tl.int32), 0) - 1
        tl.store(out + 3 * row, (key % ng + 1).to(tl.int32), mask=new)
        tl.store(out + 3 * row + 1, (key // ng).to(tl.int32), mask=new)
        tl.atomic_add(out + 3 * row + 2, tl.full((BLOCK,), 1, tl.int32), mask=there, sem="relaxed")
        rows += tl.sum(new.to(tl.int32))


def glszm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_zones: int) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.glszm`.

    Large zones are sorted by counting those before each: n^2 / 16 steps for n zones of 64 pixels or more in a region.
    """
    regions, device, grid = len(start), levels.device, (tiles(levels),)
    parent, pixels = label(levels, start, size, offsets)
    zeros = torch.zeros(regions * (SMALL.value * ng + 1), dtype=torch.int32, device=device)
    small, number = zeros[:-regions], zeros[-regions:]
    large, ordered = torch.empty((2, grid[0] * SLOTS.value), dtype=torch.int64, device=device)
    out = torch.zeros((regions, max_zones, 3), dtype=torch.int32, device=device)
    where = start, size, regions
    launch(list_zones, grid, levels, *where, parent, pixels, small, large, number, ng, TILE=TILE)
    launch(sort_zones, grid, *where, large, number, ordered, TILE=TILE, num_warps=1)
    launch(write_zones, (regions,), start, small, ordered, number, out, ng, max_zones, BLOCK=BLOCK)
    return out


@kernel
def sum_zones(zones, space, out, ng, most, ROWS: tl.constexpr):
    """The fifteen columns of one region's table; ``space`` (K, ng + most) int32, zeros, for sums by level and size."""
    k = tl.program_id(0).to(tl.int64)
    zones += k * most * 3
    by_level = space + k * (ng + most)
    by_size = by_level + ng
    n_at = tl.zeros((ROWS,), tl.int64)
    levels_at = tl.zeros((ROWS,), tl.int64)
    pixels_at = tl.zeros((ROWS,), tl.int64)
    groups = tl.min(tl.zeros((1,), tl.int32))
    used = groups
    going = groups + 1
    while going > 0:  # exact, in integers; zones of one size stand together, unused rows at the end
        row = used + tl.arange(0, ROWS)
        i = tl.load(zones + 3 * row, mask=row < most, other=0)
        j = tl.load(zones + 3 * row + 1, mask=row < most, other=0)
        c = tl.load(zones + 3 * row + 2, mask=row < most, other=0)
        before = tl.load(zones + 3 * row - 2, mask=(row > 0) & (row < most), other=0)
        some = c > 0
        group = groups + tl.cumsum((some & (j != before)).to(tl.int32), 0) - 1
        groups += tl.sum((some & (j != before)).to(tl.int32))
        tl.atomic_add(by_level + i - 1, c, mask=some, sem="relaxed")
        tl.atomic_add(by_size + group, c, mask=some, sem="relaxed")
        n_at += c.to(tl.int64)
        levels_at += c.to(tl.int64) * i
        pixels_at += c.to(tl.int64) * j
        used += ROWS
        going = tl.where(used < most, tl.max(c), 0)
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
    for first in range(0, used, ROWS):
        row = first + tl.arange(0, ROWS)
        c = tl.load(zones + 3 * row + 2, mask=row < most, other=0).to(tl.float64)
        i = tl.load(zones + 3 * row, mask=row < most, other=1).to(tl.float64)
        j = tl.load(zones + 3 * row + 1, mask=row < most, other=1).to(tl.float64)
        i2, j2 = tl.where(c > 0, i * i, 1.0), tl.where(c > 0, j * j, 1.0)
        p = c * (1 / n)
        d = j - mean_size
        entropy -= tl.where(c > 0, p * tl.log2(p + EPS), 0.0)
        of_small, of_large = c / j2, c * j2
        small += of_small
        large += of_large
        small_low += of_small / i2
        small_high += of_small * i2
        large_low += of_large / i2
        large_high += of_large * i2
        size_variance += c * (d * d)
        group = tl.load(by_size + row, mask=row < most, other=0, cache_modifier=".cg").to(tl.float64)
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

    out += k * 15
    tl.store(out, n)
    tl.store(out + 1, tl.sum(entropy))
    tl.store(out + 2, tl.sum(small_low))
    tl.store(out + 3, tl.sum(small_high))
    tl.store(out + 4, tl.sum(large_low))
    tl.store(out + 5, tl.sum(large_high))
    tl.store(out + 6, tl.sum(low))
    tl.store(out + 7, tl.sum(high))
    tl.store(out + 8, pixels)
    tl.store(out + 9, tl.sum(small))
    tl.store(out + 10, tl.sum(large))
    tl.store(out + 11, tl.sum(level_squares))
    tl.store(out + 12, tl.sum(size_squares))
    tl.store(out + 13, tl.where(tl.sum(present) == 1, 0.0, tl.sum(level_variance) / n))
    tl.store(out + 14, tl.where(groups == 1, 0.0, tl.sum(size_variance) / n))


def zone_sums(zones: Tensor, ng: int) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.zone_sums`."""
    regions, most = zones.shape[:2]
    space = torch.zeros((regions, ng + most), dtype=torch.int32, device=zones.device)
    out = torch.empty((regions, 15), dtype=torch.float64, device=zones.device)
    launch(sum_zones, (regions,), zones, space, out, ng, most, ROWS=ROWS)
    return out
