"""BYOP, Bootstrap Your Own Positive samples: from what the network looks at to the radiomic features of that place."""

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

# Of a fixed number of levels: no value needs to go to the host, and a box of any exposure fills its histogram.
SETTINGS = RadiomicsSettings(bin_count=32)


class Positives(NamedTuple):
    """Each image's positive view, and how it came about."""

    features: Tensor  # (B, F) float32; NaN rows where there is none
    boxes: Tensor  # (B, 4) float32: x1, y1, x2, y2 in pixels of the image, the far edge exclusive
    annotated: Tensor  # (B,) bool: the box is a true one
    fallback: Tensor  # (B,) bool: the box is the whole image, for the heatmap shows none
    whole: Tensor  # (B,) bool: the box is the whole image, fallback or not
    valid: Tensor  # (B,) bool: the features could be computed


@torch.no_grad()
def look(
    activations: Tensor,
    weight: Tensor,
    disease: Tensor,
    size: tuple[int, int],
    threshold: float,
    shrink_whole_image: bool,
) -> tuple[Tensor, Boxes]:
    """Where a network with a pooled linear head sees a disease: heatmaps (B, H, W) of this size, and their boxes.

    Args and errors: see `kacl_gpu.kacl.cam.head_cam` and `kacl_gpu.kacl.boxes.heatmap_boxes`.
    """
    maps = heatmaps(head_cam(activations, weight, disease), size)
    return maps, heatmap_boxes(maps, threshold, shrink_whole_image)


def untimed(part: str) -> AbstractContextManager[None]:
    """What is used where nobody asks how long the parts take."""
    return nullcontext()


class BYOP(nn.Module):
    """Boxes of diseases, true ones where there are, else from Grad-CAM, and the radiomic features inside.

    For networks that end in global average pooling and a linear layer. It has no parameters, and nothing is
    differentiated: the features are data. On a GPU no value goes to the host.

    Args:
        threshold: of a heatmap's range; what lies above it can be in the box.
        shrink_whole_image: take the middle of the image where the box is all of it, as the authors' code does.
        settings: of the features. They are computed on the intensities as they are stored, not on the network's
            normalised input, of which bins of a fixed width would leave one or two levels.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        shrink_whole_image: bool = False,
        settings: RadiomicsSettings = SETTINGS,
    ) -> None:
        super().__init__()
        self.threshold, self.shrink_whole_image, self.settings = threshold, shrink_whole_image, settings

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the F columns."""
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
        """Boxes and features of one disease an image.

        Args:
            images: (B, 1, H, W) raw intensities, any real dtype.
            activations: (B, C, h, w), what the network pools.
            weight: (D, C), of its linear layer.
            disease: (B,) int64, a row of ``weight``; -1 for an image without one, which gets NaN features.
            true_boxes: (B, D, 4) in pixels of the image, NaN where there is none.
            timed: called with "gradcam" and "radiomics" for contexts around these parts.
        """
        with timed("gradcam"):
            ill, row = disease >= 0, disease.clamp(min=0)
            size = images.shape[-2], images.shape[-1]
            _, found = look(activations, weight, row, size, self.threshold, self.shrink_whole_image)
            boxes, fallback, whole = found
            annotated = torch.zeros_like(ill)
            if true_boxes is not None:
                true = true_boxes.gather(1, row[:, None, None].expand(-1, 1, 4))[:, 0].to(boxes.dtype)
                annotated = ill & has_box(true)
                boxes = torch.where(annotated[:, None], true, boxes)
            fallback, whole = fallback & ill & ~annotated, whole & ill & ~annotated
        with timed("radiomics"):
            # an image without a disease gets a box without a pixel, on which no time is spent
            asked = torch.where(ill[:, None], boxes, torch.zeros_like(boxes))
            features = gpu_radiomics(images, asked, settings=self.settings, invalid="nan")
        return Positives(features, boxes, annotated, fallback, whole, ~features.isnan().all(1))

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, shrink_whole_image={self.shrink_whole_image}, {self.settings}"
