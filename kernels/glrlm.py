"""Grey-level run lengths, all directions at once."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import TILE, launch, neighbour, offsets_on, position, tile_of, tiles


@triton.jit
def find_lines(levels, start, size, regions, offsets, directions, holds_two, TILE: tl.constexpr):
    """Sets (K, A) where some line of the direction holds two pixels of the region, however far apart.

    Each pixel walks back to the one before it; the tile stops at the first find, in most regions after one step.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    a = tl.program_id(1)
    pixels = depth * height * width
    if first >= pixels:
        return
    index = first + tl.arange(0, TILE)
    inside = index < pixels
    z, y, x = position(index, height, width)
    going = tl.load(levels + base + index, mask=inside, other=0) > 0
    dz = tl.load(offsets + 3 * a)
    dy = tl.load(offsets + 3 * a + 1)
    dx = tl.load(offsets + 3 * a + 2)
    shift = (dz * height + dy) * width + dx
    found = tl.max(index * 0)
    waiting = tl.max(going.to(tl.int32))
    while waiting > 0:
        index -= shift
        z -= dz
        y -= dy
        x -= dx
        going = going & (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        there = tl.load(levels + base + index, mask=going, other=0)
        found = tl.max((there > 0).to(tl.int32))
        waiting = tl.where(found > 0, 0, tl.max(going.to(tl.int32)))
    if found > 0:
        tl.store(holds_two + k * directions + a, 1)


@triton.jit
def count_runs(
    levels, start, size, regions, offsets, directions, holds_two, out, ng, max_run, TILE: tl.constexpr
):  # fmt: skip
    """Adds each run that begins in a tile to (K, A, ng, max_run): its first pixel walks to the end of it."""
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    a = tl.program_id(1)
    pixels = depth * height * width
    if first >= pixels:
        return
    matrix = k.to(tl.int64) * directions + a
    if tl.load(holds_two + matrix) == 0:
        return
    index = first + tl.arange(0, TILE)
    inside = index < pixels
    z, y, x = position(index, height, width)
    level = tl.load(levels + base + index, mask=inside, other=0).to(tl.int32)
    dz = tl.load(offsets + 3 * a)
    dy = tl.load(offsets + 3 * a + 1)
    dx = tl.load(offsets + 3 * a + 2)
    inside = level > 0
    before = neighbour(levels, base, index, z, y, x, -dz, -dy, -dx, depth, height, width, inside)
    begins = inside & (before != level)
    run = tl.zeros((TILE,), tl.int32)
    going = begins
    while tl.max(going.to(tl.int32)) > 0:
        run += going.to(tl.int32)
        shift = run * ((dz * height + dy) * width + dx)
        zn, yn, xn = z + run * dz, y + run * dy, x + run * dx
        going = going & (zn >= 0) & (zn < depth) & (yn >= 0) & (yn < height) & (xn >= 0) & (xn < width)
        there = tl.load(levels + base + (index + shift), mask=going, other=0).to(tl.int32)
        going = going & (there == level)
    cell = (matrix * ng + (level - 1)) * max_run + (run - 1)
    tl.atomic_add(out + cell, tl.full((TILE,), 1, tl.int32), mask=begins, sem="relaxed")


def glrlm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_run: int) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.glrlm`."""
    regions, directions = len(start), len(offsets) // 3
    out = torch.zeros((regions, directions, ng, max_run), dtype=torch.int32, device=levels.device)
    holds_two = torch.zeros((regions, directions), dtype=torch.int32, device=levels.device)
    where = levels, start, size, regions, offsets_on(offsets, levels.device), directions
    grid = tiles(levels), directions
    launch(find_lines, grid, *where, holds_two, TILE=TILE)
    launch(count_runs, grid, *where, holds_two, out, ng, max_run, TILE=TILE)
    return out
