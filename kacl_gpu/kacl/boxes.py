"""Boxes from heatmaps, on their device, all images at once, without a value that the host waits for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kacl_gpu.radiomics import ops

SHRUNK = (24 / 224, 200 / 224)  # of each side: the box that the authors' code puts in place of the whole image


class Boxes(NamedTuple):
    """Hold one box per image, and whether the heatmap shows it."""

    boxes: Tensor  # (B, 4) float32: x1, y1, x2, y2 in pixels of the heatmap, the far edge exclusive
    fallback: Tensor  # (B,) bool: the box is the whole image, for no pixel is above the threshold
    covers_image: Tensor  # (B,) bool: the box is the whole image, fallback or not


class Components(NamedTuple):
    """Hold connected components above a threshold, the largest first; unused places have NaN boxes and a total of 0."""

    boxes: Tensor  # (B, M, 4) float32, as those of Boxes
    total: Tensor  # (B, M) float32: the activations of the component, each 0 to 1, summed


def components(heatmaps: Tensor, threshold: float = 0.5, max_components: int = 16) -> Components:
    """Return the connected components above a threshold, by descending total activation, with tight boxes.

    Pixels that touch by a corner are connected. Of components with equal totals the one that begins further up, then
    further left, comes first.

    Args:
        heatmaps: (B, H, W), each on a scale of its own; at most 2^21 pixels. Values that are not finite are below any
            threshold.
        threshold: share of a map's range, from its smallest to its largest value, above which pixels belong to
            components.
        max_components: M, the largest number of components per image; the smallest are left out.

    Raises:
        ValueError: another shape, an empty or too large map, a threshold outside [0, 1), ``max_components`` below 1.

    Example:
        >>> heatmap = torch.tensor([[[0.0, 0.2, 0.0], [0.0, 1.0, 1.0]]])
        >>> components(heatmap, max_components=1).boxes
        tensor([[[1., 1., 3., 2.]]])
    """
    boxes, total = _largest(heatmaps, threshold, max_components)
    return Components(boxes.masked_fill((total < 0)[..., None], torch.nan), total.clamp(min=0))


def heatmap_boxes(heatmaps: Tensor, threshold: float = 0.5, shrink_whole_image: bool = False) -> Boxes:
    """Return the box of the largest component of each heatmap, or the whole image if there is none.

    Args:
        heatmaps, threshold: as of :func:`components`. A constant map, and one without a finite value, has no component.
        shrink_whole_image: replace a box that is the whole image by its middle, `SHRUNK`, as the authors' code does.

    Example:
        >>> heatmap_boxes(torch.tensor([[[0.0, 0.2, 0.0], [0.0, 1.0, 1.0]]])).boxes
        tensor([[1., 1., 3., 2.]])
    """
    every_box, total = _largest(heatmaps, threshold, max_components=1)
    boxes, sides = every_box[:, 0], every_box[:, 0, 2:]
    fallback = total[:, 0] < 0
    # by its area: a tensor of the image's sides would have to be made on the device
    covers_image = (sides - boxes[:, :2]).prod(1) == heatmaps.shape[1] * heatmaps.shape[2]
    if shrink_whole_image:
        low, high = SHRUNK
        boxes = torch.where(covers_image[:, None], torch.cat([sides * low, sides * high], 1), boxes)
    return Boxes(boxes, fallback, covers_image)


def has_box(boxes: Tensor) -> Tensor:
    """Return True for each of the boxes (..., 4) that exists: NaN stands for one that does not.

    Example:
        >>> has_box(torch.tensor([[0.0, 0.0, 1.0, 1.0], [torch.nan] * 4]))
        tensor([ True, False])
    """
    return ~boxes.isnan().any(-1)


def _largest(heatmaps: Tensor, threshold: float, max_components: int) -> tuple[Tensor, Tensor]:
    """Check the arguments and call :func:`kacl_gpu.radiomics.ops.largest_components`."""
    if heatmaps.ndim != 3 or not 0 < heatmaps.shape[1] * heatmaps.shape[2] <= 2**21:
        raise ValueError(f"heatmaps must be (B, H, W) of 1 to 2^21 pixels, got {tuple(heatmaps.shape)}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be at least 0 and below 1, got {threshold}")
    if max_components < 1:
        raise ValueError(f"max_components must be at least 1, got {max_components}")
    pixels = heatmaps.shape[1] * heatmaps.shape[2]
    return ops.largest_components(
        heatmaps.detach().float(), threshold=threshold, max_components=min(max_components, pixels)
    )
