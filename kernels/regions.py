"""Boxes of the caller, brought to whole pixels inside their image."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.status import Status

from .common import (
    BOX_COLUMNS,
    CORNER_X1,
    CORNER_X2,
    CORNER_Y1,
    CORNER_Y2,
    DEPTH,
    HEIGHT,
    SIZE_COLUMNS,
    SPACING_COLUMNS,
    SPACING_X,
    SPACING_Y,
    WIDTH,
    X0,
    X1,
    Y0,
    Y1,
    cdiv,
    kernel,
    launch,
)
from .intensity import bits_of, float_of

BLOCK = 128
IMAGE_INDEX, BOX_NOT_FINITE = tl.constexpr(int(Status.IMAGE_INDEX)), tl.constexpr(int(Status.BOX_NOT_FINITE))
BOX_INVERTED, BOX_OUTSIDE = tl.constexpr(int(Status.BOX_INVERTED)), tl.constexpr(int(Status.BOX_OUTSIDE))
BAD_SPACING = tl.constexpr(int(Status.SPACING))


@triton.jit
def clip(value, upper):
    """Return values between 0 and ``upper``, as integers; 0 for NaN."""
    value = tl.where(value > 0, value, 0.0)
    return tl.where(value < upper, value, upper).to(tl.int64)


@kernel
def clip_boxes(
    # inputs
    boxes, spacing, spacing_b, spacing_d, pair_y, pair_x,
    # outputs
    index_out, box, size, region_spacing, status,
    # shapes
    regions, count, height, width,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Clip the boxes of regions, one per lane; of several problems the most fundamental one becomes the status.

    ``boxes`` has 5 COLUMNS, or 4 if region k lies in image k, or 0 if region k is the whole image k. Without
    ``spacing`` every image has the pair.
    """
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = k < regions
    if COLUMNS == BOX_COLUMNS + 1:
        index = tl.load(boxes + COLUMNS * k, mask=valid, other=0).to(tl.float64)
    else:
        index = k.to(tl.float64)
    if COLUMNS == 0:
        x1 = index * 0
        y1 = x1
        x2 = x1 + width
        y2 = x1 + height
    else:
        corner = boxes + COLUMNS * k + (COLUMNS - BOX_COLUMNS)
        x1 = tl.load(corner + CORNER_X1, mask=valid, other=0).to(tl.float64)
        y1 = tl.load(corner + CORNER_Y1, mask=valid, other=0).to(tl.float64)
        x2 = tl.load(corner + CORNER_X2, mask=valid, other=0).to(tl.float64)
        y2 = tl.load(corner + CORNER_Y2, mask=valid, other=0).to(tl.float64)
    known = (index >= 0) & (index < count) & (index == tl.floor(index))
    image = tl.where(known, index, 0.0).to(tl.int64)
    if spacing is None:
        sy = tl.zeros((BLOCK,), tl.float64) + float_of(pair_y)
        sx = tl.zeros((BLOCK,), tl.float64) + float_of(pair_x)
    else:
        has_image = valid & (image < count)  # without images there is no first one to load from
        sy = tl.load(spacing + image * spacing_b, mask=has_image, other=1.0)
        sx = tl.load(spacing + image * spacing_b + spacing_d, mask=has_image, other=1.0)
    fit = (sy > 0) & (sy < float("inf")) & (sx > 0) & (sx < float("inf"))
    tl.store(region_spacing + SPACING_COLUMNS * k + SPACING_Y, tl.where(fit, sy, 1.0), mask=valid)
    tl.store(region_spacing + SPACING_COLUMNS * k + SPACING_X, tl.where(fit, sx, 1.0), mask=valid)
    top, left = clip(tl.floor(y1), height), clip(tl.floor(x1), width)  # fractions grow outward
    bottom, right = clip(tl.ceil(y2), height), clip(tl.ceil(x2), width)
    code = tl.where(fit, 0, BAD_SPACING)
    code = tl.where((top >= bottom) | (left >= right), BOX_OUTSIDE, code)
    code = tl.where((x2 <= x1) | (y2 <= y1), BOX_INVERTED, code)
    largest = tl.maximum(tl.maximum(tl.abs(x1), tl.abs(y1)), tl.maximum(tl.abs(x2), tl.abs(y2)))
    not_nan = (x1 == x1) & (y1 == y1) & (x2 == x2) & (y2 == y2)
    code = tl.where(not_nan & (largest < float("inf")), code, BOX_NOT_FINITE)
    code = tl.where(known, code, IMAGE_INDEX)
    good = code == 0
    tl.store(status + k, code, mask=valid)
    tl.store(index_out + k, tl.where(good, image, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + Y0, tl.where(good, top, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + X0, tl.where(good, left, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + Y1, tl.where(good, bottom, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + X1, tl.where(good, right, 0), mask=valid)
    tl.store(size + SIZE_COLUMNS * k + DEPTH, tl.full((BLOCK,), 1, tl.int64), mask=valid)
    tl.store(size + SIZE_COLUMNS * k + HEIGHT, tl.where(good, bottom - top, 0), mask=valid)
    tl.store(size + SIZE_COLUMNS * k + WIDTH, tl.where(good, right - left, 0), mask=valid)


def locate(
    images: Tensor, boxes: Tensor | None, spacing: Tensor | None, *, pair: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clip boxes to their images; see :func:`kacl_gpu.radiomics.ops.locate`."""
    count, height, width = images.shape
    regions, columns = (count, 0) if boxes is None else boxes.shape
    index = torch.empty(regions, dtype=torch.int64, device=images.device)
    box, size = index.new_empty((regions, BOX_COLUMNS.value)), index.new_empty((regions, SIZE_COLUMNS.value))
    region_spacing, status = (
        index.new_empty((regions, SPACING_COLUMNS.value), dtype=torch.float64),
        torch.empty_like(index, dtype=torch.int32),
    )
    launch(
        clip_boxes,
        (cdiv(regions, BLOCK),),
        # inputs
        *(None if boxes is None else boxes.contiguous(), spacing, *((0, 0) if spacing is None else spacing.stride())),
        *map(bits_of, pair),
        # outputs
        *(index, box, size, region_spacing, status),
        # shapes
        *(regions, count, height, width),
        COLUMNS=columns,
        BLOCK=BLOCK,
    )
    return index, box, size, region_spacing, status
