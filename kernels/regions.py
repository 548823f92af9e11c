"""Boxes as they are given, brought to whole pixels inside their image."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.status import Status

from .common import launch

BLOCK = 128
IMAGE_INDEX, BOX_NOT_FINITE = tl.constexpr(int(Status.IMAGE_INDEX)), tl.constexpr(int(Status.BOX_NOT_FINITE))
BOX_INVERTED, BOX_OUTSIDE = tl.constexpr(int(Status.BOX_INVERTED)), tl.constexpr(int(Status.BOX_OUTSIDE))


@triton.jit
def clip(value, most):
    """Between 0 and ``most``, as an integer; 0 for what is not a number."""
    value = tl.where(value > 0, value, 0.0)
    return tl.where(value < most, value, most).to(tl.int64)


@triton.jit
def clip_boxes(given, index_of, box, status, regions, count, height, width, BLOCK: tl.constexpr):
    """One region a lane; the more fundamental a problem, the later it is written, over the others."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = k < regions
    index = tl.load(given + 5 * k, mask=there, other=0.0)
    x1 = tl.load(given + 5 * k + 1, mask=there, other=0.0)
    y1 = tl.load(given + 5 * k + 2, mask=there, other=0.0)
    x2 = tl.load(given + 5 * k + 3, mask=there, other=0.0)
    y2 = tl.load(given + 5 * k + 4, mask=there, other=0.0)
    top, left = clip(tl.floor(y1), height), clip(tl.floor(x1), width)  # fractions grow outward
    bottom, right = clip(tl.ceil(y2), height), clip(tl.ceil(x2), width)
    code = tl.where((top >= bottom) | (left >= right), BOX_OUTSIDE, 0)
    code = tl.where((x2 <= x1) | (y2 <= y1), BOX_INVERTED, code)
    largest = tl.maximum(tl.maximum(tl.abs(x1), tl.abs(y1)), tl.maximum(tl.abs(x2), tl.abs(y2)))
    number = (x1 == x1) & (y1 == y1) & (x2 == x2) & (y2 == y2)
    code = tl.where(number & (largest < float("inf")), code, BOX_NOT_FINITE)
    code = tl.where((index >= 0) & (index < count) & (index == tl.floor(index)), code, IMAGE_INDEX)
    good = code == 0
    tl.store(status + k, code, mask=there)
    tl.store(index_of + k, tl.where(good, index, 0.0).to(tl.int64), mask=there)
    tl.store(box + 4 * k, tl.where(good, top, 0), mask=there)
    tl.store(box + 4 * k + 1, tl.where(good, left, 0), mask=there)
    tl.store(box + 4 * k + 2, tl.where(good, bottom, 0), mask=there)
    tl.store(box + 4 * k + 3, tl.where(good, right, 0), mask=there)


def region_boxes(given: Tensor, count: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`kacl_gpu.radiomics.ops.region_boxes`."""
    given, regions = given.contiguous(), len(given)
    index = torch.empty(regions, dtype=torch.int64, device=given.device)
    box, status = index.new_empty((regions, 4)), index.new_empty(regions, dtype=torch.int32)
    grid = (triton.cdiv(regions, BLOCK),)
    launch(clip_boxes, grid, given, index, box, status, regions, count, height, width, BLOCK=BLOCK)
    return index, box, status
