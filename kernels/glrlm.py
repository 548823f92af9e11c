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

    Each pixel walks back to the one before it; the tile stops at the first find, in most regions after one step, and
    where another tile has found it.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    here = first + tl.arange(0, TILE)
    z_here, y_here, x_here = position(here, height, width)
    inside = tl.load(levels + base + here, mask=here < pixels, other=0) > 0
    for a in range(directions):
        flag = holds_two + k * directions + a
        dz = tl.load(offsets + 3 * a)
        dy = tl.load(offsets + 3 * a + 1)
        dx = tl.load(offsets + 3 * a + 2)
        index, z, y, x, going = here, z_here, y_here, x_here, inside
        found = tl.max(index * 0)
        # Other tiles write the flag meanwhile, and warps may read it before and after. So it is read by every lane and
        # agreed on by the reduction: a branch on it alone would send the warps of one program different ways.
        set_already = tl.load(flag + index * 0) != 0
        waiting = tl.max((going & ~set_already).to(tl.int32))
        while waiting > 0:
            index -= (dz * height + dy) * width + dx
            z -= dz
            y -= dy
            x -= dx
            going = going & (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            there = tl.load(levels + base + index, mask=going, other=0)
            found = tl.max((there > 0).to(tl.int32))
            waiting = tl.where(found > 0, 0, tl.max(going.to(tl.int32)))
        if found > 0:
            tl.store(flag, 1)


@triton.jit
def sideways(place, step, extent):
    """A coordinate one step on, and where it left the plane and came in on the other side."""
    place += step
    left = (place < 0) | (place >= extent)
    return tl.where(place < 0, extent - 1, tl.where(place >= extent, 0, place)), left


@triton.jit
def advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE: tl.constexpr):
    """One step on: where the pixel lies, its coordinates across, and whether another line begins there."""
    v, new = sideways(v, dv, size_v)
    place += by
    if IN_SPACE:
        u, new_u = sideways(u, du, size_u)
        new = new | new_u
    return place + (u * by_u + v * by_v), place, u, v, new


@triton.jit
def step(table, max_run, level, run, next_, new_line):
    """Takes each lane's next pixel; a run that ends goes to (ng, max_run)."""
    next_ = next_.to(tl.int32)
    same = (next_ == level) & ~new_line
    cell = (level - 1) * max_run + (run - 1)
    tl.atomic_add(table + cell, level * 0 + 1, mask=(level > 0) & ~same, sem="relaxed")
    return next_, tl.where(same, run, 0) + 1


@kernel
def count_runs(
    levels, start, size, regions, programs, offsets, directions, holds_two, out, ng, max_run,
    IN_SPACE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Adds the runs of a region's lines, LANES of them at a time, to (K, A, ng, max_run).

    Some direction changes z (IN_SPACE), or none does.
    """
    k, base, depth, height, width, rank, number = share_of(start, size, regions, programs)
    a = tl.program_id(1)
    if tl.load(holds_two + k * directions + a) == 0:
        return
    table = out + (k * directions + a) * ng * max_run
    levels += base
    dz = tl.load(offsets + 3 * a)
    dy = tl.load(offsets + 3 * a + 1)
    dx = tl.load(offsets + 3 * a + 2)
    plane = height * width
    # the axis that is followed, and the two across it, of which v is the nearer in memory
    along_y = dy != 0
    steps, by = tl.where(along_y, height, width), tl.where(along_y, width, 1)
    size_u, by_u, du = depth, plane, 0 * dx
    size_v, by_v, dv = tl.where(along_y, width, height), tl.where(along_y, 1, width), tl.where(along_y, dx, 0)
    if IN_SPACE:
        along_z = dz != 0
        steps, by = tl.where(along_z, depth, steps), tl.where(along_z, plane, by)
        size_u, by_u = tl.where(along_z, height, size_u), tl.where(along_z, width, by_u)
        size_v, by_v = tl.where(along_z, width, size_v), tl.where(along_z, 1, by_v)
        du, dv = tl.where(along_z, dy, du), tl.where(along_z, dx, dv)
    lines = size_u * size_v
    for block in range(rank, (lines + LANES - 1) // LANES, number):
        line = block * LANES + tl.arange(0, LANES)
        u = line // size_v
        v = line - u * size_v
        level, run, new = line * 0, line * 0, line < 0
        place = 0 * dx
        at0 = u * by_u + v * by_v
        for first in range(0, steps, 8):  # eight at a time, all read before any of them is looked at
            left = tl.where(line < lines, steps - first, 0)
            at1, place, u, v, new1 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            at2, place, u, v, new2 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            at3, place, u, v, new3 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            at4, place, u, v, new4 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            at5, place, u, v, new5 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            at6, place, u, v, new6 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            at7, place, u, v, new7 = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
            next0 = tl.load(levels + at0, mask=left > 0, other=0)
            next1 = tl.load(levels + at1, mask=left > 1, other=0)
            next2 = tl.load(levels + at2, mask=left > 2, other=0)
            next3 = tl.load(levels + at3, mask=left > 3, other=0)
            next4 = tl.load(levels + at4, mask=left > 4, other=0)
            next5 = tl.load(levels + at5, mask=left > 5, other=0)
            next6 = tl.load(levels + at6, mask=left > 6, other=0)
            next7 = tl.load(levels + at7, mask=left > 7, other=0)
            level, run = step(table, max_run, level, run, next0, new)
            level, run = step(table, max_run, level, run, next1, new1)
            level, run = step(table, max_run, level, run, next2, new2)
            level, run = step(table, max_run, level, run, next3, new3)
            level, run = step(table, max_run, level, run, next4, new4)
            level, run = step(table, max_run, level, run, next5, new5)
            level, run = step(table, max_run, level, run, next6, new6)
            level, run = step(table, max_run, level, run, next7, new7)
            at0, place, u, v, new = advance(place, u, v, du, dv, size_u, size_v, by, by_u, by_v, IN_SPACE)
        step(table, max_run, level, run, level * 0, new)


def glrlm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_run: int) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.glrlm`. Offsets have steps of -1, 0 and 1."""
    if any(abs(n) > 1 for n in offsets):
        raise ValueError(f"runs are of neighbouring pixels, got the offsets {list(offsets)}")
    if ng * max_run >= 2**31:
        raise ValueError(f"a matrix of {ng} levels and runs of up to {max_run} has too many cells")
    regions, directions = len(start), len(offsets) // 3
    out = torch.zeros((regions, directions, ng, max_run), dtype=torch.int32, device=levels.device)
    holds_two = torch.zeros((regions, directions), dtype=torch.int32, device=levels.device)
    where, programs = offsets_on(offsets, levels.device), tiles(levels)
    launch(find_lines, (programs,), levels, start, size, regions, where, directions, holds_two, TILE=TILE)
    arguments = levels, start, size, regions, programs, where, directions, holds_two, out, ng, max_run
    launch(count_runs, (programs, directions), *arguments, IN_SPACE=any(offsets[::3]), LANES=LANES, num_warps=2)
    return out
