"""Image features of the region that the network looks at, in place of those of the whole image."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

Attend = Literal["image", "heatmap", "box"]


def pool_heatmap(activations: Tensor, heatmaps: Tensor) -> Tensor:
    """Return the mean of activations, weighted by a heatmap; the plain mean for a heatmap of zeros.

    The gradient flows through the activations, not through the heatmap. Source: Han et al., WACV 2022, section 3.1,
    where "the image features focuses on local regions highlighted by the attention map".

    Args:
        activations: (B, C, h, w), floating point.
        heatmaps: (B, H, W), not negative; averaged over the pixels of each activation.

    Returns:
        (B, C), the dtype of the activations.

    Example:
        >>> activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> pool_heatmap(activations, torch.tensor([[[0.0, 1.0], [0.0, 3.0]]]))
        tensor([[3.5000]])
    """
    with torch.no_grad():
        height, width = activations.shape[-2:]
        weights = F.adaptive_avg_pool2d(heatmaps.float(), (height, width))
        total = weights.sum((1, 2), keepdim=True)
        weights = torch.where(total > 0, weights / total, 1 / (height * width))
    return (activations * weights[:, None].to(activations.dtype)).sum((2, 3))


def pool_box(activations: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean of activations inside a box, by ``torchvision.ops.roi_align`` with one bin.

    Args:
        activations: (B, C, h, w), floating point.
        boxes: (B, 4), x1, y1, x2, y2 in pixels of the image, the far edge exclusive; finite. Parts outside the image
            count as zeros.
        size: height and width of the image.

    Returns:
        (B, C), float32 (float64 for float64 activations).

    Example:
        >>> activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> pool_box(activations, torch.tensor([[32.0, 0.0, 64.0, 64.0]]), (64, 64))
        tensor([[3.]])
    """
    activations = activations.to(torch.promote_types(activations.dtype, torch.float32))
    height, width = (cells / pixels for cells, pixels in zip(activations.shape[-2:], size, strict=True))
    # Sides that the stride does not divide have a scale of their own, of which roi_align takes one
    columns = [boxes[:, k] * scale for k, scale in enumerate((width, height, width, height))]
    image = torch.arange(len(boxes), device=boxes.device)
    regions = torch.stack([image, *columns], 1).to(activations.dtype)
    return roi_align(activations, regions, output_size=1, aligned=True)[:, :, 0, 0]
