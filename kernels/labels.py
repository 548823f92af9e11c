"""The smallest box around each label of label maps, all labels in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import BOX_COLUMNS, TILE, X0, X1, Y0, Y1, cdiv, kernel, launch
from .intensity import readable

LOWEST = -(2**31)


@triton.jit
def order_of(value):
    """Return labels as numbers that compare as they do: int64, or float64 in a map of floating-point numbers."""
    return value.to(tl.float64) if value.dtype.is_floating() else value.to(tl.int64)


@kernel
def extend_boxes(
    # inputs
    masks, mask_b, mask_y, mask_x, image_index, box, labels, labels_k,
    # shapes
    count, tiles,
    # outputs
    extents,
    TILE: tl.constexpr,
):  # fmt: skip
    """Extend ``extents`` (K, count, 4) int32: the largest -y0, -x0, y1, x1 of the pixels of each label.

    Only the ends of runs along a row are looked up in ``labels`` (K, count) int64, ascending.
    """
    k, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    top, left = tl.load(box + BOX_COLUMNS * k + Y0).to(tl.int32), tl.load(box + BOX_COLUMNS * k + X0).to(tl.int32)
    height = tl.load(box + BOX_COLUMNS * k + Y1).to(tl.int32) - top
    width = tl.load(box + BOX_COLUMNS * k + X1).to(tl.int32) - left
    first = tile * TILE
    if first >= height * width:
        return
    index = first + tl.arange(0, TILE)
    inside = index < height * width
    y = index // width
    x = index - y * width
    here = masks + tl.load(image_index + k) * mask_b + (top + y) * mask_y + (left + x) * mask_x
    value = order_of(tl.load(here, mask=inside, other=0))
    before = order_of(tl.load(here - mask_x, mask=inside & (x > 0), other=0))
    after = order_of(tl.load(here + mask_x, mask=inside & (x < width - 1), other=0))
    border = inside & ((x == 0) | (x == width - 1) | (before != value) | (after != value))
    row = labels + k * labels_k
    step = count * 0 + 1
    while step * 2 <= count:
        step = step * 2
    below = index * 0  # how many labels are smaller
    while step > 0:
        candidate = below + step
        fits = border & (candidate <= count)
        smaller = tl.load(row + candidate - 1, mask=fits, other=0).to(value.dtype) < value
        below = tl.where(fits & smaller, candidate, below)
        step = step // 2
    found = border & (below < count)
    found = found & (tl.load(row + below, mask=found, other=0).to(value.dtype) == value)
    extent = extents + (k * count + below) * BOX_COLUMNS
    tl.atomic_max(extent + Y0, -(top + y), mask=found, sem="relaxed")
    tl.atomic_max(extent + X0, -(left + x), mask=found, sem="relaxed")
    tl.atomic_max(extent + Y1, top + y + 1, mask=found, sem="relaxed")
    tl.atomic_max(extent + X1, left + x + 1, mask=found, sem="relaxed")


def label_boxes(masks: Tensor, image_index: Tensor, box: Tensor, labels: Tensor) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.label_boxes`."""
    masks, labels = readable(masks), labels.contiguous()
    regions, count = len(box), labels.shape[1]
    tiles = cdiv(masks.shape[1] * masks.shape[2], TILE)
    extents = torch.full((regions, count, BOX_COLUMNS.value), LOWEST, dtype=torch.int32, device=masks.device)
    launch(
        extend_boxes,
        (regions * tiles * (count > 0),),
        *(masks, *masks.stride(), image_index, box, labels, count if len(labels) > 1 else 0),
        *(count, tiles),
        extents,
        TILE=TILE,
    )
    sides = extents.to(torch.int64)
    sides[..., : Y1.value] = -sides[..., : Y1.value]
    return sides.masked_fill(extents[..., Y1.value, None] == LOWEST, 0)
