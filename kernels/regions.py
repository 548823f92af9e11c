"""Boxes of the caller, brought to whole voxels inside their image."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.status import Status

from .common import (
    BOX_COLUMNS,
    DEPTH,
    HEIGHT,
    SIZE_COLUMNS,
    SPACING_COLUMNS,
    SPACING_X,
    SPACING_Y,
    SPACING_Z,
    WIDTH,
    X0,
    X1,
    Y0,
    Y1,
    Z0,
    Z1,
    cdiv,
    extent_of,
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


@triton.jit
def is_finite(a, b):
    """Return whether both values are neither infinite nor NaN."""
    return (tl.abs(a) < float("inf")) & (tl.abs(b) < float("inf"))


@kernel
def clip_boxes(
    # inputs
    boxes, spacing, spacing_b, spacing_d, voxel_z, voxel_y, voxel_x, image_size,
    # outputs
    index_out, box, size, region_spacing, status,
    # shapes
    regions, count, depth, height, width,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Clip the boxes of regions, one per lane; of several problems the most fundamental one becomes the status.

    ``boxes`` has COLUMNS: the image's index if their number is odd, else region k lies in image k; then x1, y1, x2, y2
    in images and x1, y1, z1, x2, y2, z2 in volumes. Of 0 COLUMNS region k is the whole image k. Without ``spacing``
    every image has the voxel; without ``image_size`` (B, 3) the same extent.
    """
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = k < regions
    if COLUMNS % 2 == 1:
        index = tl.load(boxes + COLUMNS * k, mask=valid, other=0).to(tl.float64)
    else:
        index = k.to(tl.float64)
    known = (index >= 0) & (index < count) & (index == tl.floor(index))
    image = tl.where(known, index, 0.0).to(tl.int64)
    has_image = valid & (image < count)  # without images there is no first one to load from
    depth, height, width = extent_of(image_size, image, depth, height, width, has_image)
    x1 = index * 0
    y1, z1, x2, y2, z2 = x1, x1, x1 + width, x1 + height, x1 + depth
    if COLUMNS > 0:
        sides: tl.constexpr = COLUMNS // 2
        near = boxes + COLUMNS * k + COLUMNS % 2
        far = near + sides
        x1 = tl.load(near, mask=valid, other=0).to(tl.float64)
        y1 = tl.load(near + 1, mask=valid, other=0).to(tl.float64)
        x2 = tl.load(far, mask=valid, other=0).to(tl.float64)
        y2 = tl.load(far + 1, mask=valid, other=0).to(tl.float64)
        if sides == 3:
            z1 = tl.load(near + 2, mask=valid, other=0).to(tl.float64)
            z2 = tl.load(far + 2, mask=valid, other=0).to(tl.float64)
    if spacing is None:
        sz = tl.zeros((BLOCK,), tl.float64) + float_of(voxel_z)
        sy = tl.zeros((BLOCK,), tl.float64) + float_of(voxel_y)
        sx = tl.zeros((BLOCK,), tl.float64) + float_of(voxel_x)
    else:
        of_image = spacing + image * spacing_b
        sz = tl.load(of_image + SPACING_Z * spacing_d, mask=has_image, other=1.0)
        sy = tl.load(of_image + SPACING_Y * spacing_d, mask=has_image, other=1.0)
        sx = tl.load(of_image + SPACING_X * spacing_d, mask=has_image, other=1.0)
    least, largest = tl.minimum(sz, tl.minimum(sy, sx)), tl.maximum(sz, tl.maximum(sy, sx))
    fit = (least > 0) & (largest < float("inf")) & (sz == sz) & (sy == sy) & (sx == sx)
    of_region = region_spacing + SPACING_COLUMNS * k
    tl.store(of_region + SPACING_Z, tl.where(fit, sz, 1.0), mask=valid)
    tl.store(of_region + SPACING_Y, tl.where(fit, sy, 1.0), mask=valid)
    tl.store(of_region + SPACING_X, tl.where(fit, sx, 1.0), mask=valid)
    front, top, left = clip(tl.floor(z1), depth), clip(tl.floor(y1), height), clip(tl.floor(x1), width)
    back, bottom, right = clip(tl.ceil(z2), depth), clip(tl.ceil(y2), height), clip(tl.ceil(x2), width)
    code = tl.where(fit, 0, BAD_SPACING)
    code = tl.where((front >= back) | (top >= bottom) | (left >= right), BOX_OUTSIDE, code)
    code = tl.where((x2 <= x1) | (y2 <= y1) | (z2 <= z1), BOX_INVERTED, code)
    code = tl.where(is_finite(x1, x2) & is_finite(y1, y2) & is_finite(z1, z2), code, BOX_NOT_FINITE)
    code = tl.where(known, code, IMAGE_INDEX)
    good = code == 0
    tl.store(status + k, code, mask=valid)
    tl.store(index_out + k, tl.where(good, image, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + Z0, tl.where(good, front, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + Y0, tl.where(good, top, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + X0, tl.where(good, left, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + Z1, tl.where(good, back, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + Y1, tl.where(good, bottom, 0), mask=valid)
    tl.store(box + BOX_COLUMNS * k + X1, tl.where(good, right, 0), mask=valid)
    tl.store(size + SIZE_COLUMNS * k + DEPTH, tl.where(good, back - front, 0), mask=valid)
    tl.store(size + SIZE_COLUMNS * k + HEIGHT, tl.where(good, bottom - top, 0), mask=valid)
    tl.store(size + SIZE_COLUMNS * k + WIDTH, tl.where(good, right - left, 0), mask=valid)


def locate(
    images: Tensor,
    boxes: Tensor | None,
    spacing: Tensor | None,
    image_size: Tensor | None,
    *,
    voxel: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clip boxes to their images; see :func:`kacl_gpu.radiomics.ops.locate`."""
    count, *sides = images.shape
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
        *(*map(bits_of, voxel), image_size),
        # outputs
        *(index, box, size, region_spacing, status),
        # shapes
        *(regions, count, *sides),
        COLUMNS=columns,
        BLOCK=BLOCK,
    )
    return index, box, size, region_spacing, status
