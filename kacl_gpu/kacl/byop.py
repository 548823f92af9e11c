"""BYOP, Bootstrap Your Own Positive samples: radiomic features of the region that Grad-CAM shows for a disease."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kacl_gpu.radiomics.api import feature_names, gpu_radiomics
from kacl_gpu.radiomics.settings import RadiomicsSettings

from .boxes import Boxes, has_box, heatmap_boxes
from .cam import head_cam, heatmaps

# With a fixed number of levels no value needs to go to the host, and a box of any exposure fills its histogram
BYOP_SETTINGS = RadiomicsSettings(bin_count=32)


class Positives(NamedTuple):
    """The positive view of each image, and how it came about."""

    features: Tensor  # (B, F) float32; NaN rows if there is none
    boxes: Tensor  # (B, 4) float32: x1, y1, x2, y2 in pixels of the image, the far edge exclusive
    annotated: Tensor  # (B,) bool: the box is a true one
    fallback: Tensor  # (B,) bool: the box is the whole image, because the heatmap shows none
    whole: Tensor  # (B,) bool: the box is the whole image, fallback or not
    valid: Tensor  # (B,) bool: the features could be computed
    heatmaps: Tensor  # (B, H, W) in [0, 1], of the disease; of no meaning for an image without one


@torch.no_grad()
def look(
    activations: Tensor,
    weight: Tensor,
    disease: Tensor,
    size: tuple[int, int],
    threshold: float,
    shrink_whole_image: bool,
) -> tuple[Tensor, Boxes]:
    """Return heatmaps (B, H, W) and boxes of the region in which a network with a pooled linear head sees a disease.

    Args and errors: see `kacl_gpu.kacl.cam.head_cam` and `kacl_gpu.kacl.boxes.heatmap_boxes`.

    Example:
        >>> activations, disease = torch.rand(2, 3, 7, 7), torch.tensor([0, 1])
        >>> maps, boxes = look(activations, torch.ones(2, 3), disease, (224, 224), 0.5, False)
        >>> maps.shape, boxes.boxes.shape
        (torch.Size([2, 224, 224]), torch.Size([2, 4]))
    """
    maps = heatmaps(head_cam(activations, weight, disease), size)
    return maps, heatmap_boxes(maps, threshold, shrink_whole_image)


def untimed(stage: str) -> AbstractContextManager[None]:
    """Measure nothing: the default of those that are measured."""
    return nullcontext()


class BYOP(nn.Module):
    """Compute the radiomic features inside boxes of diseases: true boxes if there are any, else boxes from Grad-CAM.

    For networks that end in global average pooling and a linear layer. It has no parameters, and nothing is
    differentiated: the features are data. On a GPU no value goes to the host.

    Args:
        threshold: share of a heatmap's range above which a pixel can belong to the box, at least 0 and below 1.
        shrink_whole_image: replace a box that covers the whole image by the middle of the image, as the authors' code
            does.
        settings: settings of the features. They are computed on the intensities as they are stored, not on the
            network's standardised input, of which bins of a fixed width would leave one or two levels.

    Example:
        >>> byop = BYOP(settings=RadiomicsSettings(bin_count=32, feature_class={"firstorder": ["Mean"]}))
        >>> images, activations = torch.full((2, 1, 32, 32), 7), torch.rand(2, 3, 4, 4)
        >>> byop(images, activations, torch.ones(1, 3), torch.tensor([0, -1])).features
        tensor([[7.],
                [nan]])
    """

    def __init__(
        self,
        threshold: float = 0.5,
        shrink_whole_image: bool = False,
        settings: RadiomicsSettings = BYOP_SETTINGS,
    ) -> None:
        super().__init__()
        self.threshold, self.shrink_whole_image, self.settings = threshold, shrink_whole_image, settings

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the F columns."""
        return feature_names(self.settings)

    @torch.no_grad()
    def forward(
        self,
        images: Tensor,
        activations: Tensor,
        weight: Tensor,
        disease: Tensor,
        true_boxes: Tensor | None = None,
        timed: Callable[[str], AbstractContextManager[None]] = untimed,
    ) -> Positives:
        """Return the box and the features of one disease per image.

        Args:
            images: (B, 1, H, W) raw intensities, any real dtype.
            activations: (B, C, h, w), the input of the network's pooling.
            weight: (D, C), of its linear layer.
            disease: (B,) int64, a row of ``weight``; -1 for an image without a disease, which gets NaN features.
            true_boxes: (B, D, 4) in pixels of the image, NaN if there is none.
            timed: called with "gradcam" and "radiomics" for contexts around these stages.
        """
        with timed("gradcam"):
            ill, row = disease >= 0, disease.clamp(min=0)
            size = images.shape[-2], images.shape[-1]
            maps, predicted = look(activations, weight, row, size, self.threshold, self.shrink_whole_image)
            boxes, fallback, whole = predicted
            annotated = torch.zeros_like(ill)
            if true_boxes is not None:
                true = true_boxes.gather(1, row[:, None, None].expand(-1, 1, 4))[:, 0].to(boxes.dtype)
                annotated = ill & has_box(true)
                boxes = torch.where(annotated[:, None], true, boxes)
            fallback, whole = fallback & ill & ~annotated, whole & ill & ~annotated
        with timed("radiomics"):
            # An image without a disease gets a box without a pixel, on which no time is spent
            regions = torch.where(ill[:, None], boxes, torch.zeros_like(boxes))
            features = gpu_radiomics(images, regions, settings=self.settings, invalid="nan")
        return Positives(features, boxes, annotated, fallback, whole, ~features.isnan().all(1), maps)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, shrink_whole_image={self.shrink_whole_image}, {self.settings}"
