"""The smallest box around each label of label maps, all labels in one pass."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import BOX_COLUMNS, TILE, X0, X1, Y0, Y1, Z0, Z1, cdiv, kernel, launch, position
from .intensity import corner_of, elements_of, readable

LOWEST = -(2**31)
PROGRAMS = 1024  # at least, of each region that has as many tiles
ALL_PROGRAMS = 8192  # enough to fill a device


@triton.jit
def order_of(value):
    """Return labels as numbers that compare as they do: int64, or float64 in a map of floating-point numbers."""
    return value.to(tl.float64) if value.dtype.is_floating() else value.to(tl.int64)


@triton.jit
def place_among(labels, count, value, mask):
    """Return how many of the ``count`` ascending labels are smaller than each value, 0 where not ``mask``."""
    step = count * 0 + 1
    while step * 2 <= count:
        step = step * 2
    below = mask.to(tl.int32) * 0
    while step > 0:
        candidate = below + step
        fits = mask & (candidate <= count)
        smaller = tl.load(labels + candidate - 1, mask=fits, other=0).to(value.dtype) < value
        below = tl.where(fits & smaller, candidate, below)
        step = step // 2
    return below


@kernel
def extend_boxes(
    # inputs
    masks, mask_b, mask_z, mask_y, mask_x, image_index, box, labels, labels_k,
    # shapes
    count, programs,
    # outputs
    extents,
    TILE: tl.constexpr,
):  # fmt: skip
    """Extend ``extents`` (K, count, 6) int32: the largest -z0, -y0, -x0, z1, y1, x1 of the voxels of each label.

    Only the ends of runs along a row are looked up in ``labels`` (K, count) int64, ascending. Those of the tile's first
    label go to the table together, since most tiles hold one.
    """
    k, share = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    corner = box + BOX_COLUMNS * k
    z0, y0, x0 = tl.load(corner + Z0).to(tl.int32), tl.load(corner + Y0).to(tl.int32), tl.load(corner + X0).to(tl.int32)
    depth = tl.load(corner + Z1).to(tl.int32) - z0
    height = tl.load(corner + Y1).to(tl.int32) - y0
    width = tl.load(corner + X1).to(tl.int32) - x0
    voxels = depth * height * width
    masks += tl.load(image_index + k) * mask_b + corner_of(box, k, mask_z, mask_y, mask_x)
    row = labels + k * labels_k
    for tile in range(share, (voxels + TILE - 1) // TILE, programs):
        index = tile * TILE + tl.arange(0, TILE)
        inside = index < voxels
        z, y, x = position(index, depth, height, width)
        here = masks + elements_of(mask_z, mask_y, mask_x, z, y, x, depth)
        value = order_of(tl.load(here, mask=inside, other=0))
        before = order_of(tl.load(here - mask_x, mask=inside & (x > 0), other=0))
        after = order_of(tl.load(here + mask_x, mask=inside & (x < width - 1), other=0))
        border = inside & ((x == 0) | (x == width - 1) | (before != value) | (after != value))
        below = place_among(row, count, value, border)
        found = border & (below < count)
        found = found & (tl.load(row + below, mask=found, other=0).to(value.dtype) == value)
        first = tl.min(tl.where(found, below, count))
        if first < count:
            of_first = found & (below == first)
            extent = extents + (k * count + first) * BOX_COLUMNS
            tl.atomic_max(extent + Z0, tl.max(tl.where(of_first, -z, -depth)) - z0, sem="relaxed")
            tl.atomic_max(extent + Y0, tl.max(tl.where(of_first, -y, -height)) - y0, sem="relaxed")
            tl.atomic_max(extent + X0, tl.max(tl.where(of_first, -x, -width)) - x0, sem="relaxed")
            tl.atomic_max(extent + Z1, tl.max(tl.where(of_first, z, 0)) + z0 + 1, sem="relaxed")
            tl.atomic_max(extent + Y1, tl.max(tl.where(of_first, y, 0)) + y0 + 1, sem="relaxed")
            tl.atomic_max(extent + X1, tl.max(tl.where(of_first, x, 0)) + x0 + 1, sem="relaxed")
            others = found & (below != first)
            extent = extents + (k * count + below) * BOX_COLUMNS
            tl.atomic_max(extent + Z0, -(z0 + z), mask=others, sem="relaxed")
            tl.atomic_max(extent + Y0, -(y0 + y), mask=others, sem="relaxed")
            tl.atomic_max(extent + X0, -(x0 + x), mask=others, sem="relaxed")
            tl.atomic_max(extent + Z1, z0 + z + 1, mask=others, sem="relaxed")
            tl.atomic_max(extent + Y1, y0 + y + 1, mask=others, sem="relaxed")
            tl.atomic_max(extent + X1, x0 + x + 1, mask=others, sem="relaxed")


def label_boxes(masks: Tensor, image_index: Tensor, box: Tensor, labels: Tensor) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.label_boxes`."""
    masks, labels = readable(masks), labels.contiguous()
    regions, count = len(box), labels.shape[1]
    tiles = cdiv(math.prod(masks.shape[1:]), TILE)
    programs = min(tiles, max(PROGRAMS, cdiv(ALL_PROGRAMS, max(regions, 1))))
    extents = torch.full((regions, count, BOX_COLUMNS.value), LOWEST, dtype=torch.int32, device=masks.device)
    launch(
        extend_boxes,
        (regions * programs * (count > 0),),
        # inputs
        *(masks, *masks.stride(), image_index, box, labels, count if len(labels) > 1 else 0),
        # shapes
        *(count, programs),
        # outputs
        extents,
        TILE=TILE,
    )
    sides = extents.to(torch.int64)
    sides[..., : Z1.value] = -sides[..., : Z1.value]
    return sides.masked_fill(extents[..., Z1.value, None] == LOWEST, 0)
