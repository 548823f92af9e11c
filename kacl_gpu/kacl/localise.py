"""Boxes from heatmaps, on their device, all images at once and without a value that the host waits for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.levels import aligned, half_offsets

FIXED = 2**20  # activations are summed as integers, so that their sums do not depend on an order
SHRUNK = (24 / 224, 200 / 224)  # what the authors' code makes of a box that is the whole image, of each side


class Boxes(NamedTuple):
    """One box an image, and where it is none that the heatmap shows."""

    boxes: Tensor  # (B, 4) float32: x1, y1, x2, y2 in pixels of the heatmap, the far edge exclusive
    fallback: Tensor  # (B,) bool: the whole image, for want of a pixel above the threshold
    whole: Tensor  # (B,) bool: the box is the whole image, fallback or not


class Components(NamedTuple):
    """What lies above the threshold, largest first; unused places have NaN boxes and a total of 0."""

    boxes: Tensor  # (B, M, 4) float32, as those of Boxes
    total: Tensor  # (B, M) float32: the activations of the component, each 0 to 1, summed


def components(heatmaps: Tensor, threshold: float = 0.5, most: int = 16) -> Components:
    """The connected components above a threshold, by their total activation, with tight boxes.

    Pixels that touch by a corner are connected. Of components with equal totals the one that begins further up, then
    further left, comes first.

    Args:
        heatmaps: (B, H, W), each on a scale of its own; at most 2^21 pixels. What is not finite is below any threshold.
        threshold: of a map's range from its smallest to its largest value; pixels above it belong to components.
        most: M, components an image at most; the smallest are left out.

    Raises:
        ValueError: another shape, an empty or too large map, a threshold outside [0, 1), ``most`` below 1.
    """
    if heatmaps.ndim != 3 or not 0 < heatmaps.shape[1] * heatmaps.shape[2] <= 2**21:
        raise ValueError(f"heatmaps must be (B, H, W) of 1 to 2^21 pixels, got {tuple(heatmaps.shape)}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be at least 0 and below 1, got {threshold}")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    number, height, width = heatmaps.shape
    pixels, device = height * width, heatmaps.device
    activation = _unit(heatmaps.detach().float()).reshape(number, pixels)
    above = activation > threshold
    roots = _roots(above, height, width)

    # Where a pixel is below the threshold, it adds nothing to the component of pixel 0 and leaves its extent alone.
    root = roots.clamp(min=0).long()
    fixed = torch.where(above, (activation * FIXED).round().long(), 0)
    total = torch.zeros((number, pixels), dtype=torch.int64, device=device).scatter_add_(1, root, fixed)
    place = torch.arange(pixels, device=device)
    # a number for each total and place, so that no two components tie
    order = torch.where(roots == place, total * pixels + (pixels - 1 - place), -1)
    best = order.topk(min(most, pixels), dim=1)
    there = best.values >= 0

    def extreme(coordinate: Tensor, beyond: int, reduce: str) -> Tensor:
        start = torch.full((number, pixels), beyond, device=device)
        values = torch.where(above, coordinate, beyond)
        return start.scatter_reduce_(1, root, values, reduce).gather(1, best.indices)

    y, x = place // width, place % width
    x1, y1 = extreme(x, width, "amin"), extreme(y, height, "amin")
    x2, y2 = extreme(x, -1, "amax") + 1, extreme(y, -1, "amax") + 1
    boxes = torch.stack([x1, y1, x2, y2], 2).float().masked_fill(~there[..., None], torch.nan)
    return Components(boxes, torch.where(there, total.gather(1, best.indices) / FIXED, 0.0).float())


def heatmap_boxes(heatmaps: Tensor, threshold: float = 0.5, shrink_whole_image: bool = False) -> Boxes:
    """The box of the largest component of each heatmap, or the whole image where there is none.

    Args:
        heatmaps, threshold: as of :func:`components`. A constant map, and one without a finite value, has no component.
        shrink_whole_image: a box that is the whole image becomes its middle part, ``SHRUNK``, as in the authors' code.
    """
    height, width = heatmaps.shape[-2:]
    found = components(heatmaps, threshold, most=1).boxes[:, 0]
    zero = found.new_zeros(())  # on the device: a copy from the host would wait
    image = torch.stack([zero, zero, zero + width, zero + height])
    fallback = found[:, 0].isnan()
    boxes = torch.where(fallback[:, None], image, found)
    whole = (boxes == image).all(1)
    if shrink_whole_image:
        (low, high), side = SHRUNK, image[2:].repeat(2)
        shrunk = torch.cat([side[:2] * low, side[2:] * high])
        boxes = torch.where(whole[:, None], shrunk, boxes)
    return Boxes(boxes, fallback, whole)


def has_box(boxes: Tensor) -> Tensor:
    """Which of boxes (..., 4) there are: NaN stands for one that is not."""
    return ~boxes.isnan().any(-1)


def _unit(heatmaps: Tensor) -> Tensor:
    """Each map (H, W) from its smallest value, 0, to its largest, 1; constant maps and what is not finite become 0."""
    finite = heatmaps.isfinite()
    low = torch.where(finite, heatmaps, torch.inf).amin((1, 2), keepdim=True)
    high = torch.where(finite, heatmaps, -torch.inf).amax((1, 2), keepdim=True)
    return torch.where(finite & (high > low), (heatmaps - low) / (high - low), 0.0)


def _roots(above: Tensor, height: int, width: int) -> Tensor:
    """The first pixel of each pixel's component, (B, H * W) int32, -1 for what is not ``above`` (B, H * W)."""
    number, pixels = above.shape
    block = aligned(pixels)
    levels = torch.nn.functional.pad(above.to(torch.uint8), (0, block - pixels)).reshape(-1)
    start = torch.arange(0, number * block, block, device=above.device)
    one = torch.ones((number, 1), dtype=torch.int64, device=above.device)
    size = torch.cat([one, one * height, one * width], 1)
    return ops.zone_roots(levels, start, size, half_offsets((1,))).reshape(number, block)[:, :pixels]
