"""Grey-level run lengths, all directions at once.

A direction's lines are followed side by side: each lane takes one position of the plane across the axis that the
direction follows (z, else y, else x) and goes down that axis, shifting sideways with the direction. Where it leaves the
plane on one side it comes in on the other, on another line; so every lane has the same number of steps, and every pixel
is read once.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import TILE, kernel, launch, offsets_on, position, share_of, tile_of, tiles

LANES = 64


@kernel
def find_lines(levels, start, size, regions, offsets, directions, holds_two, TILE: tl.constexpr):
    """Sets (K, A) where some line of the direction holds two pixels of the region, however far apart.

    Each pixel walks back to the one before it; the tile stops at the first find, in most regions after one step.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    a = tl.program_id(1)
    pixels = depth * height * width
    if first >= pixels:
        return
    if tl.load(holds_two + k * directions + a) != 0:  # another tile has found it
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
def sideways(place, step, extent):
    """A coordinate one step on, and where it left the plane and came in on the other side."""
    place += step
    left = (place < 0) | (place >= extent)
    return tl.where(place < 0, extent - 1, tl.where(place >= extent, 0, place)), left


@triton.jit
def four_steps(here, u, v, du, dv, extent_u, extent_v, stride, stride_u, stride_v, left):
    """The levels of the next four steps, read before any of them is looked at, and whether a line begins with each.

    ``left``: how many steps remain to each lane.
    """
    level0 = tl.load(here + (u * stride_u + v * stride_v), mask=left > 0, other=0).to(tl.int32)
    u, out_u = sideways(u, du, extent_u)
    v, out_v = sideways(v, dv, extent_v)
    new1 = out_u | out_v
    level1 = tl.load(here + (stride + u * stride_u + v * stride_v), mask=left > 1, other=0).to(tl.int32)
    u, out_u = sideways(u, du, extent_u)
    v, out_v = sideways(v, dv, extent_v)
    new2 = out_u | out_v
    level2 = tl.load(here + (2 * stride + u * stride_u + v * stride_v), mask=left > 2, other=0).to(tl.int32)
    u, out_u = sideways(u, du, extent_u)
    v, out_v = sideways(v, dv, extent_v)
    new3 = out_u | out_v
    level3 = tl.load(here + (3 * stride + u * stride_u + v * stride_v), mask=left > 3, other=0).to(tl.int32)
    u, out_u = sideways(u, du, extent_u)
    v, out_v = sideways(v, dv, extent_v)
    return u, v, level0, level1, level2, level3, new1, new2, new3, out_u | out_v


@triton.jit
def step(table, max_run, level, run, next_, new_line):
    """Takes each lane's next pixel; a run that ends goes to (ng, max_run)."""
    same = (next_ == level) & ~new_line
    cell = (level.to(tl.int64) - 1) * max_run + (run - 1)
    tl.atomic_add(table + cell, level * 0 + 1, mask=(level > 0) & ~same, sem="relaxed")
    return next_, tl.where(same, run, 0) + 1


@kernel
def count_runs(
    levels, start, size, regions, programs, offsets, directions, holds_two, out, ng, max_run, LANES: tl.constexpr
):  # fmt: skip
    """Adds the runs of a region's lines, LANES of them at a time, to (K, A, ng, max_run)."""
    k, base, depth, height, width, rank, number = share_of(start, size, regions, programs)
    a = tl.program_id(1)
    if tl.load(holds_two + k * directions + a) == 0:
        return
    table = out + (k * directions + a) * ng * max_run
    dz = tl.load(offsets + 3 * a)
    dy = tl.load(offsets + 3 * a + 1)
    dx = tl.load(offsets + 3 * a + 2)
    plane = height * width
    # the axis that is followed, and the two across it, of which v is the nearer in memory
    steps = tl.where(dz != 0, depth, tl.where(dy != 0, height, width))
    stride = tl.where(dz != 0, plane, tl.where(dy != 0, width, 1))
    extent_u = tl.where(dz != 0, height, depth)
    stride_u = tl.where(dz != 0, width, plane)
    du = tl.where(dz != 0, dy, 0)
    extent_v = tl.where((dz != 0) | (dy != 0), width, height)
    stride_v = tl.where((dz != 0) | (dy != 0), 1, width)
    dv = tl.where((dz != 0) | (dy != 0), dx, 0)
    lines = extent_u * extent_v
    for block in range(rank, (lines + LANES - 1) // LANES, number):
        line = block * LANES + tl.arange(0, LANES)
        there = line < lines
        u = line // extent_v
        v = line - u * extent_v
        level = line * 0
        run = line * 0
        new = line < 0
        for first in range(0, steps, 8):
            here = levels + base + first * stride
            left = tl.where(there, steps - first, 0)
            u, v, l0, l1, l2, l3, new1, new2, new3, new4 = four_steps(
                here, u, v, du, dv, extent_u, extent_v, stride, stride_u, stride_v, left
            )
            u, v, l4, l5, l6, l7, new5, new6, new7, new8 = four_steps(
                here + 4 * stride, u, v, du, dv, extent_u, extent_v, stride, stride_u, stride_v, left - 4
            )
            level, run = step(table, max_run, level, run, l0, new)
            level, run = step(table, max_run, level, run, l1, new1)
            level, run = step(table, max_run, level, run, l2, new2)
            level, run = step(table, max_run, level, run, l3, new3)
            level, run = step(table, max_run, level, run, l4, new4)
            level, run = step(table, max_run, level, run, l5, new5)
            level, run = step(table, max_run, level, run, l6, new6)
            level, run = step(table, max_run, level, run, l7, new7)
            new = new8
        step(table, max_run, level, run, level * 0, new)


def glrlm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_run: int) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.glrlm`. Offsets have steps of -1, 0 and 1."""
    if any(abs(n) > 1 for n in offsets):
        raise ValueError(f"runs are of neighbouring pixels, got the offsets {list(offsets)}")
    regions, directions = len(start), len(offsets) // 3
    out = torch.zeros((regions, directions, ng, max_run), dtype=torch.int32, device=levels.device)
    holds_two = torch.zeros((regions, directions), dtype=torch.int32, device=levels.device)
    where, programs = offsets_on(offsets, levels.device), tiles(levels)
    grid = programs, directions
    launch(find_lines, grid, levels, start, size, regions, where, directions, holds_two, TILE=TILE)
    arguments = levels, start, size, regions, programs, where, directions, holds_two, out, ng, max_run
    launch(count_runs, grid, *arguments, LANES=LANES, num_warps=2)
    return out
