"""Largest components of maps above a threshold, labelled by the union-find of zones, and summed.

Each map has a block of whole tiles, whose pixels are counted from its first one. ``totals`` int64 and ``extents`` int32
(3,) x1, x2, y2 have an entry for each pixel of the blocks and are used at the roots of components alone. A root is the
component's first pixel, so y1 is its row.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.constants import FIXED_POINT

from .common import (
    CORNER_COLUMNS,
    CORNER_X1,
    CORNER_X2,
    CORNER_Y1,
    CORNER_Y2,
    DEPTH,
    HEIGHT,
    SIZE_COLUMNS,
    TILE,
    WIDTH,
    cdiv,
    constants,
    kernel,
    larger,
    launch,
)
from .glszm import join_nearest, root_of
from .intensity import bits_of, float_of

FIXED = tl.constexpr(FIXED_POINT)  # values are summed as integers
ROUND = tl.constexpr(2.0**23)  # added and subtracted, it rounds smaller floats to integers, halves to even
RANGE_LOW, RANGE_HIGH, RANGE_COLUMNS = constants(0, 1, 2)  # of the values of a part of a map
EXTENT_X1, EXTENT_X2, EXTENT_Y2, EXTENT_COLUMNS = constants(0, 1, 2, 3)  # of a component, at its root
BLOCK = 4096  # pixels of a map that a program takes
PARTS = tl.constexpr(512)  # at most, of a map of up to 2^21 pixels
ROOTS = 1024  # of a map that a program takes at once


@triton.jit
def is_finite(value):
    """Return whether values are neither infinite nor NaN."""
    return tl.abs(value) < float("inf")  # false for NaN


@triton.jit
def unit(value, low, high):
    """Return values scaled so that ``low`` becomes 0 and ``high`` 1; not finite ones become 0, equal ones NaN.

    The quotient is rounded to nearest, as on the CPU, which Triton's own division of float32 is not.
    """
    return tl.where(is_finite(value), tl.div_rn(value - low, high - low), 0.0)


@kernel
def measure_maps(
    # inputs
    maps,
    # outputs
    ranges, start, size, root_counts,
    # shapes
    height, width, block, parts,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the least and the largest finite value of each part of each map: ``ranges`` (B, parts, 2).

    Also write where each map's block begins, its size, and a count of 0 components.
    """
    b, part = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(0) % parts
    pixels = height * width
    index = part * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(maps + b * pixels + index, mask=index < pixels, other=float("inf"))
    row = ranges + RANGE_COLUMNS * (b * parts + part)
    tl.store(row + RANGE_LOW, tl.min(tl.where(is_finite(value), value, float("inf"))))
    tl.store(row + RANGE_HIGH, tl.max(tl.where(is_finite(value), value, -float("inf"))))
    if part == 0:
        tl.store(start + b, b * block)
        tl.store(size + SIZE_COLUMNS * b + DEPTH, 1)
        tl.store(size + SIZE_COLUMNS * b + HEIGHT, height)
        tl.store(size + SIZE_COLUMNS * b + WIDTH, width)
        tl.store(root_counts + b, 0)


@triton.jit
def map_of(maps, ranges, height, width, block, parts, TILE: tl.constexpr):
    """Return a program's map, where the map and its block begin, the map's range, and the first pixel of the tile."""
    tile = tl.program_id(0)
    tiles = block // TILE
    b = (tile // tiles).to(tl.int64)
    part = tl.arange(0, PARTS)
    part_range = ranges + RANGE_COLUMNS * (b * parts + part)
    low = tl.min(tl.load(part_range + RANGE_LOW, mask=part < parts, other=float("inf")))
    high = tl.max(tl.load(part_range + RANGE_HIGH, mask=part < parts, other=-float("inf")))
    return b, maps + b * height * width, b * block, low, high, (tile % tiles) * TILE


@kernel
def begin_components(
    # inputs
    maps, ranges,
    # outputs
    levels, parent, totals, extents,
    # shapes
    height, width, block, parts,
    # settings
    limit,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write level 1 above the threshold ``limit`` (the bits of a float64), 0 elsewhere, and runs as `begin_zones` does.

    Set the sums to 0 where runs begin, since only there can a root be.
    """
    _, map_, base, low, high, first = map_of(maps, ranges, height, width, block, parts, TILE)
    lane = tl.arange(0, TILE)
    index = first + lane
    in_map = index < height * width
    continues = in_map & (lane > 0) & (index % width > 0)
    threshold = float_of(limit).to(tl.float32)
    value = tl.load(map_ + index, mask=in_map, other=0.0)
    predecessor = tl.load(map_ + index - 1, mask=continues, other=0.0)
    foreground = in_map & (unit(value, low, high) > threshold)
    begins = foreground & ~(continues & (unit(predecessor, low, high) > threshold))
    run = tl.associative_scan(tl.where(foreground & ~begins, 0, index), 0, larger)
    tl.store(levels + base + index, foreground.to(tl.uint8), mask=in_map)
    tl.store(parent + base + index, tl.where(foreground, run, -1), mask=in_map)
    tl.store(totals + base + index, tl.zeros((TILE,), tl.int64), mask=begins)
    extent = extents + EXTENT_COLUMNS * (base + index)
    tl.store(extent + EXTENT_X1, tl.zeros((TILE,), tl.int32) + width, mask=begins)
    tl.store(extent + EXTENT_X2, tl.zeros((TILE,), tl.int32), mask=begins)
    tl.store(extent + EXTENT_Y2, tl.zeros((TILE,), tl.int32), mask=begins)


@kernel
def sum_components(
    # inputs
    maps, ranges, levels, parent,
    # outputs
    totals, extents, root_counts, roots,
    # shapes
    height, width, block, parts,
    TILE: tl.constexpr,
):  # fmt: skip
    """Sum totals and extents at the roots, and list the roots of each map in any order.

    The pixels of the tile's first root are summed before they go there, since a large component fills most of its
    tiles. Others are summed run by run, as the difference of running totals at the run's ends.
    """
    b, map_, base, low, high, first = map_of(maps, ranges, height, width, block, parts, TILE)
    lane = tl.arange(0, TILE)
    index = first + lane
    x, y = index % width, index // width
    level = tl.load(levels + base + index, mask=index < height * width, other=0)
    foreground = level > 0
    if tl.max(level.to(tl.int32)) == 0:
        return
    predecessor = tl.load(levels + base + index - 1, mask=foreground & (lane > 0) & (x > 0), other=0)
    successor = tl.load(levels + base + index + 1, mask=foreground & (lane < TILE - 1) & (x < width - 1), other=0)
    begins, ends = foreground & (predecessor == 0), foreground & (successor == 0)
    root = root_of(parent + base, tl.where(foreground, index, 0), foreground, False)
    value = unit(tl.load(map_ + index, mask=foreground, other=0.0), low, high)
    fixed = tl.where(foreground, ((value * FIXED + ROUND) - ROUND).to(tl.int32), 0)

    least_root = tl.min(tl.where(foreground, root, 2147483647))
    shared = foreground & (root == least_root)
    least_extent = extents + EXTENT_COLUMNS * (base + least_root)
    tl.atomic_add(totals + base + least_root, tl.sum(tl.where(shared, fixed, 0)).to(tl.int64), sem="relaxed")
    tl.atomic_min(least_extent + EXTENT_X1, tl.min(tl.where(shared, x, width)), sem="relaxed")
    tl.atomic_max(least_extent + EXTENT_X2, tl.max(tl.where(shared, x + 1, 0)), sem="relaxed")
    tl.atomic_max(least_extent + EXTENT_Y2, tl.max(tl.where(shared, y + 1, 0)), sem="relaxed")

    begins, ends = begins & ~shared, ends & ~shared
    running_total = tl.cumsum(fixed, 0)  # less than 2^31 in a tile
    run_total = tl.where(ends, running_total, 0) - tl.where(begins, running_total - fixed, 0)
    extent = extents + EXTENT_COLUMNS * (base + root)
    tl.atomic_add(totals + base + root, run_total.to(tl.int64), mask=begins | ends, sem="relaxed")
    tl.atomic_min(extent + EXTENT_X1, x, mask=begins, sem="relaxed")
    tl.atomic_max(extent + EXTENT_X2, x + 1, mask=ends, sem="relaxed")
    tl.atomic_max(extent + EXTENT_Y2, y + 1, mask=begins, sem="relaxed")

    is_root = (foreground & (root == index)).to(tl.int32)
    slot = tl.cumsum(is_root, 0) - 1
    count = tl.sum(is_root)
    if count > 0:
        slot += tl.atomic_add(root_counts + b, count, sem="relaxed")
        tl.store(roots + base + slot, index, mask=is_root > 0)


@kernel
def pick_components(
    # inputs
    totals, extents, root_counts, roots,
    # outputs
    boxes, out,
    # shapes
    height, width, block, max_components,
    ROOTS: tl.constexpr,
):  # fmt: skip
    """Write a map's largest components by descending total, then by ascending root, each found by a pass over all."""
    b = tl.program_id(0).to(tl.int64)
    pixels = height * width
    base = b * block
    count = tl.load(root_counts + b)
    bound = tl.max(tl.full((1,), 0x7FFFFFFFFFFFFFFF, tl.int64))
    for m in range(max_components):
        best_key = tl.max(tl.full((1,), -1, tl.int64))
        for begin in range(0, count, ROOTS):
            slot = begin + tl.arange(0, ROOTS)
            root = tl.load(roots + base + slot, mask=slot < count, other=0)
            total = tl.load(totals + base + root, mask=slot < count, other=0)
            key = total * pixels + (pixels - 1 - root)  # no two are alike
            best_key = tl.maximum(best_key, tl.max(tl.where((slot < count) & (key < bound), key, -1)))
        valid = best_key >= 0
        root = pixels - 1 - best_key % pixels
        extent = extents + EXTENT_COLUMNS * (base + root)
        box = boxes + CORNER_COLUMNS * (b * max_components + m)
        tl.store(box + CORNER_X1, tl.load(extent + EXTENT_X1, mask=valid, other=0).to(tl.float32))
        tl.store(box + CORNER_Y1, tl.where(valid, root // width, 0).to(tl.float32))
        tl.store(box + CORNER_X2, tl.load(extent + EXTENT_X2, mask=valid, other=width).to(tl.float32))
        tl.store(box + CORNER_Y2, tl.load(extent + EXTENT_Y2, mask=valid, other=height).to(tl.float32))
        tl.store(out + b * max_components + m, tl.where(valid, (best_key // pixels).to(tl.float32) * (1 / FIXED), -1.0))
        bound = best_key


def largest_components(maps: Tensor, *, threshold: float, max_components: int) -> tuple[Tensor, Tensor]:
    """Find components; see :func:`kacl_gpu.radiomics.ops.largest_components`.

    Each component takes a pass over all components of its map.
    """
    maps, device = maps.contiguous(), maps.device
    count, height, width = maps.shape
    tiles, parts = cdiv(height * width, TILE), cdiv(height * width, BLOCK)
    pixels, shape = count * tiles * TILE, (height, width, tiles * TILE, parts)
    ranges = torch.empty((count, parts, RANGE_COLUMNS.value), dtype=torch.float32, device=device)
    start, size = (torch.empty((count, n), dtype=torch.int64, device=device) for n in (1, SIZE_COLUMNS.value))
    root_counts = torch.empty(count, dtype=torch.int32, device=device)
    levels = torch.empty(pixels, dtype=torch.uint8, device=device)
    parent, roots = torch.empty((2, pixels), dtype=torch.int32, device=device)
    totals = torch.empty(pixels, dtype=torch.int64, device=device)
    extents = torch.empty((pixels, EXTENT_COLUMNS.value), dtype=torch.int32, device=device)
    boxes, out = (
        torch.empty((count, max_components, *four), dtype=torch.float32, device=device) for four in ((4,), ())
    )

    grid = (count * tiles,)
    launch(
        measure_maps,
        (count * parts,),
        # inputs
        maps,
        # outputs
        *(ranges, start, size, root_counts),
        # shapes
        *shape,
        BLOCK=BLOCK,
        num_warps=8,
    )
    launch(
        begin_components,
        grid,
        # inputs
        *(maps, ranges),
        # outputs
        *(levels, parent, totals, extents),
        # shapes
        *shape,
        # settings
        bits_of(threshold),
        TILE=TILE,
    )
    launch(
        join_nearest,
        grid,
        # inputs
        *(levels, start, size),
        # outputs
        parent,
        # shapes
        count,
        TILE=TILE,
        num_warps=8,
    )
    launch(
        sum_components,
        grid,
        # inputs
        *(maps, ranges, levels, parent),
        # outputs
        *(totals, extents, root_counts, roots),
        # shapes
        *shape,
        TILE=TILE,
    )
    launch(
        pick_components,
        (count,),
        # inputs
        *(totals, extents, root_counts, roots),
        # outputs
        *(boxes, out),
        # shapes
        *(*shape[:3], max_components),
        ROOTS=ROOTS,
    )
    return boxes, out
