"""The largest components of maps: what lies above a threshold, labelled by the union-find of zones, and summed.

Each map has a block of whole tiles, in which pixels are counted from its first one. Per pixel of the blocks, `totals`
int64 and `extents` int32 (3,) x1, x2, y2 are used at the roots of components alone: a root is the first pixel, so y1 is
its own row.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import TILE, cdiv, kernel, larger, launch
from .glszm import join_nearest, root_of
from .intensity import bits_of, float_of

FIXED = tl.constexpr(2.0**20)  # values are summed as integers
ROUND = tl.constexpr(2.0**23)  # added and taken away, it rounds floats below it to whole numbers, halves to even ones
BLOCK = 4096  # pixels of a map, at once
PARTS = tl.constexpr(512)  # of a map, which has 2^21 pixels at most
ROOTS = 1024  # of a map, at once


@triton.jit
def is_finite(value):
    return tl.abs(value) < float("inf")  # false for NaN


@triton.jit
def unit(value, low, high):
    """Where values lie between the least, 0, and the largest, 1; 0 for what is not finite, NaN where all are alike.

    The quotient is rounded to the nearest, as on the CPU: Triton's own division of float32 is not.
    """
    return tl.where(is_finite(value), tl.div_rn(value - low, high - low), 0.0)


@kernel
def measure_maps(maps, ranges, start, size, number, height, width, block, parts, BLOCK: tl.constexpr):
    """The least and the largest finite value of each part of each map: (B, parts, 2).

    And per map where its block begins, and its size; no component counted yet.
    """
    b, part = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(0) % parts
    pixels = height * width
    index = part * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(maps + b * pixels + index, mask=index < pixels, other=float("inf"))
    here = ranges + 2 * (b * parts + part)
    tl.store(here, tl.min(tl.where(is_finite(value), value, float("inf"))))
    tl.store(here + 1, tl.max(tl.where(is_finite(value), value, -float("inf"))))
    if part == 0:
        tl.store(start + b, b * block)
        tl.store(size + 3 * b, 1)
        tl.store(size + 3 * b + 1, height)
        tl.store(size + 3 * b + 2, width)
        tl.store(number + b, 0)


@triton.jit
def map_of(maps, ranges, height, width, block, parts, TILE: tl.constexpr):
    """This program's map, where that and its block begin, its range, and the first pixel of the tile."""
    tile = tl.program_id(0)
    tiles = block // TILE
    b = (tile // tiles).to(tl.int64)
    part = tl.arange(0, PARTS)
    of_parts = ranges + 2 * (b * parts + part)
    low = tl.min(tl.load(of_parts, mask=part < parts, other=float("inf")))
    high = tl.max(tl.load(of_parts + 1, mask=part < parts, other=-float("inf")))
    return b, maps + b * height * width, b * block, low, high, (tile % tiles) * TILE


@kernel
def begin_components(
    maps, ranges, limit, levels, parent, totals, extents, height, width, block, parts, TILE: tl.constexpr
):
    """Level 1 above the threshold, the bits of a float64, else 0; runs along the rows of a tile, as of `begin_zones`.

    Nothing is summed yet where a run begins: only there can a root be.
    """
    _, map_, base, low, high, first = map_of(maps, ranges, height, width, block, parts, TILE)
    lane = tl.arange(0, TILE)
    index = first + lane
    inside = index < height * width
    goes_on = inside & (lane > 0) & (index % width > 0)
    threshold = float_of(limit).to(tl.float32)
    value = tl.load(map_ + index, mask=inside, other=0.0)
    before = tl.load(map_ + index - 1, mask=goes_on, other=0.0)
    above = inside & (unit(value, low, high) > threshold)
    begins = above & ~(goes_on & (unit(before, low, high) > threshold))
    run = tl.associative_scan(tl.where(above & ~begins, 0, index), 0, larger)
    tl.store(levels + base + index, above.to(tl.uint8), mask=inside)
    tl.store(parent + base + index, tl.where(above, run, -1), mask=inside)
    tl.store(totals + base + index, tl.zeros((TILE,), tl.int64), mask=begins)
    extent = extents + 3 * (base + index)
    tl.store(extent, tl.zeros((TILE,), tl.int32) + width, mask=begins)
    tl.store(extent + 1, tl.zeros((TILE,), tl.int32), mask=begins)
    tl.store(extent + 2, tl.zeros((TILE,), tl.int32), mask=begins)


@kernel
def sum_components(
    maps, ranges, levels, parent, totals, extents, number, roots, height, width, block, parts, TILE: tl.constexpr
):
    """Totals and extents at the roots, and a list of these for each map, in any order.

    The component with the tile's first root, a large one fills most of its tiles, is added up before it goes there;
    others run by run, as what there is up to its end less what there is before it.
    """
    b, map_, base, low, high, first = map_of(maps, ranges, height, width, block, parts, TILE)
    lane = tl.arange(0, TILE)
    index = first + lane
    x, y = index % width, index // width
    level = tl.load(levels + base + index, mask=index < height * width, other=0)
    above = level > 0
    if tl.max(level.to(tl.int32)) == 0:
        return
    before = tl.load(levels + base + index - 1, mask=above & (lane > 0) & (x > 0), other=0)
    after = tl.load(levels + base + index + 1, mask=above & (lane < TILE - 1) & (x < width - 1), other=0)
    begins, ends = above & (before == 0), above & (after == 0)
    root = root_of(parent + base, tl.where(above, index, 0), above, False)
    value = unit(tl.load(map_ + index, mask=above, other=0.0), low, high)
    fixed = tl.where(above, ((value * FIXED + ROUND) - ROUND).to(tl.int32), 0)

    least = tl.min(tl.where(above, root, 2147483647))
    shared = above & (root == least)
    to_least = extents + 3 * (base + least)
    tl.atomic_add(totals + base + least, tl.sum(tl.where(shared, fixed, 0)).to(tl.int64), sem="relaxed")
    tl.atomic_min(to_least, tl.min(tl.where(shared, x, width)), sem="relaxed")
    tl.atomic_max(to_least + 1, tl.max(tl.where(shared, x + 1, 0)), sem="relaxed")
    tl.atomic_max(to_least + 2, tl.max(tl.where(shared, y + 1, 0)), sem="relaxed")

    begins, ends = begins & ~shared, ends & ~shared
    up_to = tl.cumsum(fixed, 0)  # of a tile, less than 2^31
    of_run = tl.where(ends, up_to, 0) - tl.where(begins, up_to - fixed, 0)
    extent = extents + 3 * (base + root)
    tl.atomic_add(totals + base + root, of_run.to(tl.int64), mask=begins | ends, sem="relaxed")
    tl.atomic_min(extent, x, mask=begins, sem="relaxed")
    tl.atomic_max(extent + 1, x + 1, mask=ends, sem="relaxed")
    tl.atomic_max(extent + 2, y + 1, mask=begins, sem="relaxed")

    is_root = (above & (root == index)).to(tl.int32)
    place = tl.cumsum(is_root, 0) - 1
    count = tl.sum(is_root)
    if count > 0:
        place += tl.atomic_add(number + b, count, sem="relaxed")
        tl.store(roots + base + place, index, mask=is_root > 0)


@kernel
def pick_components(totals, extents, number, roots, boxes, out, height, width, block, most, ROOTS: tl.constexpr):
    """Per map: the largest, then each time the largest of those after it, by total, then by the root."""
    b = tl.program_id(0).to(tl.int64)
    pixels = height * width
    base = b * block
    count = tl.load(number + b)
    before = tl.max(tl.full((1,), 0x7FFFFFFFFFFFFFFF, tl.int64))
    for m in range(most):
        best = tl.max(tl.full((1,), -1, tl.int64))
        for begin in range(0, count, ROOTS):
            place = begin + tl.arange(0, ROOTS)
            root = tl.load(roots + base + place, mask=place < count, other=0)
            total = tl.load(totals + base + root, mask=place < count, other=0)
            key = total * pixels + (pixels - 1 - root)  # no two are alike
            best = tl.maximum(best, tl.max(tl.where((place < count) & (key < before), key, -1)))
        there = best >= 0
        root = pixels - 1 - best % pixels
        extent = extents + 3 * (base + root)
        box = boxes + 4 * (b * most + m)
        tl.store(box, tl.load(extent, mask=there, other=0).to(tl.float32))
        tl.store(box + 1, tl.where(there, root // width, 0).to(tl.float32))
        tl.store(box + 2, tl.load(extent + 1, mask=there, other=width).to(tl.float32))
        tl.store(box + 3, tl.load(extent + 2, mask=there, other=height).to(tl.float32))
        tl.store(out + b * most + m, tl.where(there, (best // pixels).to(tl.float32) * (1 / FIXED), -1.0))
        before = best


def largest_components(maps: Tensor, *, threshold: float, max_components: int) -> tuple[Tensor, Tensor]:
    """See :func:`kacl_gpu.radiomics.ops.largest_components`: one pass over the components of each map for each."""
    maps, device = maps.contiguous(), maps.device
    count, height, width = maps.shape
    tiles, parts = cdiv(height * width, TILE), cdiv(height * width, BLOCK)
    pixels, of_map = count * tiles * TILE, (height, width, tiles * TILE)
    ranges = torch.empty((count, parts, 2), dtype=torch.float32, device=device)
    start, size = (torch.empty((count, n), dtype=torch.int64, device=device) for n in (1, 3))
    number = torch.empty(count, dtype=torch.int32, device=device)
    levels = torch.empty(pixels, dtype=torch.uint8, device=device)
    parent, roots = torch.empty((2, pixels), dtype=torch.int32, device=device)
    totals = torch.empty(pixels, dtype=torch.int64, device=device)
    extents = torch.empty((pixels, 3), dtype=torch.int32, device=device)
    boxes, out = (
        torch.empty((count, max_components, *four), dtype=torch.float32, device=device) for four in ((4,), ())
    )

    launch(measure_maps, (count * parts,), maps, ranges, start, size, number, *of_map, parts, BLOCK=BLOCK, num_warps=8)
    grid, values, sums = (count * tiles,), (maps, ranges), (totals, extents)
    launch(begin_components, grid, *values, bits_of(threshold), levels, parent, *sums, *of_map, parts, TILE=TILE)
    launch(join_nearest, grid, levels, start, size, count, parent, TILE=TILE, num_warps=8)
    launch(sum_components, grid, *values, levels, parent, *sums, number, roots, *of_map, parts, TILE=TILE)
    launch(pick_components, (count,), *sums, number, roots, boxes, out, *of_map, max_components, ROOTS=ROOTS)
    return boxes, out
