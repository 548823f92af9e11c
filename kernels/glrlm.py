"""Grey-level run length matrices (GLRLM), all directions at once.

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

from .common import (
    OFFSET_COLUMNS,
    TILE,
    X_STEP,
    Y_STEP,
    Z_STEP,
    kernel,
    launch,
    offsets_on,
    position,
    share_of,
    tile_of,
    tiles,
)

LANES = 64


@kernel
def find_lines(
    # inputs
    levels, start, size, offsets,
    # outputs
    holds_two,
    # shapes
    regions, directions,
    TILE: tl.constexpr,
):  # fmt: skip
    """Set ``holds_two`` (K, A) where a line of the direction holds two pixels of the region, however far apart.

    Each pixel walks back along its line; the tile stops at its first find, in most regions after one step, or once
    another tile has found one.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    pixel = first + tl.arange(0, TILE)
    z0, y0, x0 = position(pixel, depth, height, width)
    inside = tl.load(levels + base + pixel, mask=pixel < pixels, other=0) > 0
    for a in range(directions):
        flag = holds_two + k * directions + a
        dz = tl.load(offsets + OFFSET_COLUMNS * a + Z_STEP)
        dy = tl.load(offsets + OFFSET_COLUMNS * a + Y_STEP)
        dx = tl.load(offsets + OFFSET_COLUMNS * a + X_STEP)
        index, z, y, x, active = pixel, z0, y0, x0, inside
        hit = tl.max(index * 0)
        # Other tiles write the flag meanwhile, so warps may read different values. A reduction over all lanes makes the
        # warps of a program agree; a branch on the flag alone could send them different ways.
        flag_set = tl.load(flag + index * 0) != 0
        pending = tl.max((active & ~flag_set).to(tl.int32))
        while pending > 0:
            index -= (dz * height + dy) * width + dx
            z -= dz
            y -= dy
            x -= dx
            active = active & (z >= 0) & (z < depth) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            level = tl.load(levels + base + index, mask=active, other=0)
            hit = tl.max((level > 0).to(tl.int32))
            pending = tl.where(hit > 0, 0, tl.max(active.to(tl.int32)))
        if hit > 0:
            tl.store(flag, 1)


@triton.jit
def sideways(coordinate, step, extent):
    """Return a coordinate after one step, and where it left the plane and came in on the other side."""
    coordinate += step
    wrapped = (coordinate < 0) | (coordinate >= extent)
    return tl.where(coordinate < 0, extent - 1, tl.where(coordinate >= extent, 0, coordinate)), wrapped


@triton.jit
def advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE: tl.constexpr):
    """Return the pixel after one step, its position along and across the lines, and whether another line begins."""
    v, new_line = sideways(v, dv, size_v)
    pos += stride
    if IN_SPACE:
        u, new_u = sideways(u, du, size_u)
        new_line = new_line | new_u
    return pos + (u * stride_u + v * stride_v), pos, u, v, new_line


@triton.jit
def step(table, max_run, level, run, next_level, new_line):
    """Take each lane's next pixel, and count the runs that end in ``table`` (ng, max_run)."""
    next_level = next_level.to(tl.int32)
    continues = (next_level == level) & ~new_line
    cell = (level - 1) * max_run + (run - 1)
    tl.atomic_add(table + cell, level * 0 + 1, mask=(level > 0) & ~continues, sem="relaxed")
    return next_level, tl.where(continues, run, 0) + 1


@kernel
def count_runs(
    # inputs
    levels, start, size, offsets, holds_two,
    # outputs
    out,
    # shapes
    regions, programs, directions, ng, max_run,
    IN_SPACE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Add the runs of a region's lines, LANES of them at a time, to ``out`` (K, A, ng, max_run).

    ``IN_SPACE``: whether any direction changes z.
    """
    k, base, depth, height, width, share, shares = share_of(start, size, regions, programs)
    a = tl.program_id(1)
    if tl.load(holds_two + k * directions + a) == 0:
        return
    table = out + (k * directions + a) * ng * max_run
    levels += base
    dz = tl.load(offsets + OFFSET_COLUMNS * a + Z_STEP)
    dy = tl.load(offsets + OFFSET_COLUMNS * a + Y_STEP)
    dx = tl.load(offsets + OFFSET_COLUMNS * a + X_STEP)
    plane = height * width
    # the axis along the lines, and the axes u and v across it, v being the nearer one in memory
    along_y = dy != 0
    steps, stride = tl.where(along_y, height, width), tl.where(along_y, width, 1)
    size_u, stride_u, du = depth, plane, 0 * dx
    size_v, stride_v, dv = tl.where(along_y, width, height), tl.where(along_y, 1, width), tl.where(along_y, dx, 0)
    if IN_SPACE:
        along_z = dz != 0
        steps, stride = tl.where(along_z, depth, steps), tl.where(along_z, plane, stride)
        size_u, stride_u = tl.where(along_z, height, size_u), tl.where(along_z, width, stride_u)
        size_v, stride_v = tl.where(along_z, width, size_v), tl.where(along_z, 1, stride_v)
        du, dv = tl.where(along_z, dy, du), tl.where(along_z, dx, dv)
    lines = size_u * size_v
    for block in range(share, (lines + LANES - 1) // LANES, shares):
        line = block * LANES + tl.arange(0, LANES)
        u = line // size_v
        v = line - u * size_v
        level, run, new_line = line * 0, line * 0, line < 0
        pos = 0 * dx
        at0 = u * stride_u + v * stride_v
        for first in range(0, steps, 8):  # eight pixels at a time, so that their loads overlap
            remaining = tl.where(line < lines, steps - first, 0)
            at1, pos, u, v, new1 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            at2, pos, u, v, new2 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            at3, pos, u, v, new3 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            at4, pos, u, v, new4 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            at5, pos, u, v, new5 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            at6, pos, u, v, new6 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            at7, pos, u, v, new7 = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
            next0 = tl.load(levels + at0, mask=remaining > 0, other=0)
            next1 = tl.load(levels + at1, mask=remaining > 1, other=0)
            next2 = tl.load(levels + at2, mask=remaining > 2, other=0)
            next3 = tl.load(levels + at3, mask=remaining > 3, other=0)
            next4 = tl.load(levels + at4, mask=remaining > 4, other=0)
            next5 = tl.load(levels + at5, mask=remaining > 5, other=0)
            next6 = tl.load(levels + at6, mask=remaining > 6, other=0)
            next7 = tl.load(levels + at7, mask=remaining > 7, other=0)
            level, run = step(table, max_run, level, run, next0, new_line)
            level, run = step(table, max_run, level, run, next1, new1)
            level, run = step(table, max_run, level, run, next2, new2)
            level, run = step(table, max_run, level, run, next3, new3)
            level, run = step(table, max_run, level, run, next4, new4)
            level, run = step(table, max_run, level, run, next5, new5)
            level, run = step(table, max_run, level, run, next6, new6)
            level, run = step(table, max_run, level, run, next7, new7)
            at0, pos, u, v, new_line = advance(pos, u, v, du, dv, size_u, size_v, stride, stride_u, stride_v, IN_SPACE)
        step(table, max_run, level, run, level * 0, new_line)


def glrlm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_run: int) -> Tensor:
    """Count runs; see :func:`kacl_gpu.radiomics.ops.glrlm`. Offsets have steps of -1, 0 and 1."""
    if any(abs(n) > 1 for n in offsets):
        raise ValueError(f"runs are of neighbouring pixels, got the offsets {list(offsets)}")
    if ng * max_run >= 2**31:
        raise ValueError(f"a matrix of {ng} levels and runs of up to {max_run} has too many cells")
    regions, directions = len(start), len(offsets) // OFFSET_COLUMNS.value
    out = torch.zeros((regions, directions, ng, max_run), dtype=torch.int32, device=levels.device)
    holds_two = torch.zeros((regions, directions), dtype=torch.int32, device=levels.device)
    triples, programs = offsets_on(offsets, levels.device), tiles(levels)
    launch(
        find_lines,
        (programs,),
        # inputs
        *(levels, start, size, triples),
        # outputs
        holds_two,
        # shapes
        *(regions, directions),
        TILE=TILE,
    )
    launch(
        count_runs,
        (programs, directions),
        # inputs
        *(levels, start, size, triples, holds_two),
        # outputs
        out,
        # shapes
        *(regions, programs, directions, ng, max_run),
        IN_SPACE=any(offsets[::3]),
        LANES=LANES,
        num_warps=2,
    )
    return out
