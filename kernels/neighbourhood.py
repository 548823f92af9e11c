"""GLDM and NGTDM, which look at the same neighbours, and the sums of the NGTDM."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import TILE, launch, neighbour, offsets_on, position, tile_of, tiles

BLOCK = 32  # levels


@triton.jit
def count_neighbours(
    levels, start, size, regions, offsets, directions, gldm, ngtdm, ng, columns, gldm_a, TILE: tl.constexpr
):
    """Adds each pixel of a tile to (K, ng, columns) at its level: dependent neighbours; |c * i - S| by neighbours c."""
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    index = first + tl.arange(0, TILE)
    inside = index < pixels
    z, y, x = position(index, height, width)
    level = tl.load(levels + base + index, mask=inside, other=0).to(tl.int32)
    inside = level > 0
    count = tl.zeros((TILE,), tl.int32)
    total = tl.zeros((TILE,), tl.int32)
    dependent = tl.zeros((TILE,), tl.int32)
    for n in range(2 * directions):  # the offsets, then their opposites
        a = n % directions
        sign = tl.where(n < directions, 1, -1)
        dz = tl.load(offsets + 3 * a) * sign
        dy = tl.load(offsets + 3 * a + 1) * sign
        dx = tl.load(offsets + 3 * a + 2) * sign
        there = neighbour(levels, base, index, z, y, x, dz, dy, dx, depth, height, width, inside)
        count += (there > 0).to(tl.int32)
        total += there
        dependent += ((there > 0) & (tl.abs(there - level) <= gldm_a)).to(tl.int32)
    row = (k.to(tl.int64) * ng + (level - 1)) * columns
    tl.atomic_add(gldm + row + dependent, tl.full((TILE,), 1, tl.int32), mask=inside, sem="relaxed")
    difference = tl.abs(count.to(tl.int64) * level - total)
    tl.atomic_add(ngtdm + row + count, difference, mask=inside, sem="relaxed")


def neighbourhood(
    levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, gldm_a: int
) -> tuple[Tensor, Tensor]:
    """See :func:`kacl_gpu.radiomics.ops.neighbourhood`."""
    regions, directions = len(start), len(offsets) // 3
    shape = regions, ng, 1 + 2 * directions
    gldm = torch.zeros(shape, dtype=torch.int32, device=levels.device)
    ngtdm = torch.zeros(shape, dtype=torch.int64, device=levels.device)
    launch(
        count_neighbours,
        (tiles(levels),),
        *(levels, start, size, regions, offsets_on(offsets, levels.device), directions),
        *(gldm, ngtdm, ng, shape[2], gldm_a),
        TILE=TILE,
    )
    return gldm, ngtdm


@triton.jit
def level_differences(differences, s, ng, columns, BLOCK: tl.constexpr):
    """s_i (K, ng): the sum over c of differences (K, ng, columns) / c; without neighbours there is none."""
    k = tl.program_id(0).to(tl.int64)
    level = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = level < ng
    row = k * ng + level
    total = tl.zeros((BLOCK,), tl.float64)
    for c in range(1, columns):
        reciprocal = tl.full((BLOCK,), 1.0, tl.float64) / c
        total += tl.load(differences + row * columns + c, mask=inside, other=0).to(tl.float64) * reciprocal
    tl.store(s + row, total, mask=inside)


@triton.jit
def pair_sums(histogram, s, partial, ng, blocks, BLOCK: tl.constexpr):
    """Of one block of levels i and all levels j: the terms of (K, blocks, 8), columns as in the result but for 2, i."""
    k = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    i = block * BLOCK + tl.arange(0, BLOCK)
    n_i = tl.load(histogram + k * ng + i, mask=i < ng, other=0).to(tl.float64)
    s_i = tl.load(s + k * ng + i, mask=i < ng, other=0.0)
    products = tl.zeros((BLOCK, BLOCK), tl.float64)
    complexity = tl.zeros((BLOCK, BLOCK), tl.float64)
    strength = tl.zeros((BLOCK, BLOCK), tl.float64)
    n = tl.sum(n_i)
    if n > 0:
        for other in range(blocks):
            j = other * BLOCK + tl.arange(0, BLOCK)
            n_j = tl.load(histogram + k * ng + j, mask=j < ng, other=0).to(tl.float64)
            s_j = tl.load(s + k * ng + j, mask=j < ng, other=0.0)
            pair = (n_i > 0)[:, None] & (n_j > 0)[None, :]
            both = n_i[:, None] + n_j[None, :]
            distance = (i[:, None] - j[None, :]).to(tl.float64)
            product = tl.abs(n_i[:, None] * (i[:, None] + 1) - n_j[None, :] * (j[None, :] + 1))
            weighted = n_i[:, None] * s_i[:, None] + n_j[None, :] * s_j[None, :]
            products += tl.where(pair, product, 0.0)
            complexity += tl.where(pair, tl.abs(distance) * weighted / both, 0.0)
            strength += tl.where(pair, both * distance * distance, 0.0)
    out = partial + (k * blocks + block) * 8
    tl.store(out, n)
    tl.store(out + 1, tl.sum((n_i > 0).to(tl.float64)))
    tl.store(out + 2, tl.sum(n_i * (i + 1)))
    tl.store(out + 3, tl.sum(s_i))
    tl.store(out + 4, tl.sum(n_i * s_i))
    tl.store(out + 5, tl.sum(tl.sum(products, 1)))
    tl.store(out + 6, tl.sum(tl.sum(complexity, 1)))
    tl.store(out + 7, tl.sum(tl.sum(strength, 1)))


@triton.jit
def add_blocks(histogram, partial, out, ng, blocks, BLOCK: tl.constexpr):
    """The blocks of one region, one after the other; the variance of the levels about their mean."""
    k = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, 8)
    total = tl.zeros((8,), tl.float64)
    for block in range(blocks):
        total += tl.load(partial + (k * blocks + block) * 8 + column)
    n = tl.sum(tl.where(column == 0, total, 0.0))
    present = tl.sum(tl.where(column == 1, total, 0.0))
    mean = tl.sum(tl.where(column == 2, total, 0.0)) / n
    squares = tl.zeros((BLOCK,), tl.float64)
    for block in range(blocks):
        i = block * BLOCK + tl.arange(0, BLOCK)
        n_i = tl.load(histogram + k * ng + i, mask=i < ng, other=0).to(tl.float64)
        d = (i + 1).to(tl.float64) - mean
        squares += n_i * (d * d)
    variance = tl.where(present == 1, 0.0, tl.sum(squares) / n)
    tl.store(out + k * 8 + column, tl.where(column == 2, variance, total))


def ngtdm_sums(histogram: Tensor, differences: Tensor) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.ngtdm_sums`."""
    regions, ng, columns = differences.shape
    blocks = triton.cdiv(ng, BLOCK)
    s = torch.empty((regions, ng), dtype=torch.float64, device=histogram.device)
    partial = s.new_empty((regions, blocks, 8))
    out = s.new_empty((regions, 8))
    launch(level_differences, (regions, blocks), differences, s, ng, columns, BLOCK=BLOCK, num_warps=1)
    launch(pair_sums, (regions, blocks), histogram, s, partial, ng, blocks, BLOCK=BLOCK)
    launch(add_blocks, (regions,), histogram, partial, out, ng, blocks, BLOCK=BLOCK, num_warps=1)
    return out
