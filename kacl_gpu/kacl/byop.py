"""BYOP, Bootstrap Your Own Positive samples: radiomic features of the region that Grad-CAM shows for a disease."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from kacl_gpu.errors import check_choice
from kacl_gpu.radiomics.api import feature_names, gpu_radiomics
from kacl_gpu.radiomics.checks import check_tensor
from kacl_gpu.radiomics.settings import RadiomicsSettings

from .boxes import Boxes, has_box, heatmap_boxes
from .cam import head_cam
from .cam import heatmaps as scale
from .distributed import AllGather, is_distributed
from .losses import random_bits

PositiveBoxes = Literal["gradcam", "whole", "random", "middle", "annotated"]
PositiveFeatures = Literal["real", "shuffled", "constant"]

# Streams of `random_bits`; that of number 0 draws the disease
WIDTH, LEFT, HEIGHT, TOP, SHUFFLE = 1, 2, 3, 4, 5

# With a fixed number of levels no value needs to go to the host, and a box of any exposure fills its histogram
BYOP_SETTINGS = RadiomicsSettings(bin_count=32)


class Positives(NamedTuple):
    """The positive view of each image, and how it came about."""

    features: Tensor  # (B, F) float32; NaN rows if there is none
    boxes: Tensor  # (B, 4) float32: x1, y1, x2, y2 in pixels of the image, the far edge exclusive; NaN: no box
    annotated: Tensor  # (B,) bool: the box is a true one
    fallback: Tensor  # (B,) bool: the box is the whole image, because the heatmap shows none
    covers_image: Tensor  # (B,) bool: the box is the whole image, fallback or not
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
    maps = scale(head_cam(activations, weight, disease), size)
    return maps, heatmap_boxes(maps, threshold, shrink_whole_image)


def control_boxes(kind: PositiveBoxes, size: tuple[int, int], index: Tensor, epoch: int | Tensor, seed: int) -> Tensor:
    """Return a box for each image that no network has looked for: a control for the boxes of Grad-CAM.

    Args:
        kind: whole: the whole image; middle: the middle half of both sides, a quarter of the area; random: both sides
            uniform over the whole pixels from a quarter to three quarters of the image's side, so that the mean area
            is that of the middle, anywhere inside the image with equal probability, by (seed, epoch, index) alone.
        size: height and width of the images in pixels.
        index: (B,) int64, the number of each image in the data set.
        epoch, seed: see `kacl_gpu.kacl.losses.random_bits`.

    Returns:
        (B, 4) float32, x1, y1, x2, y2 in pixels, the far edge exclusive.

    Example:
        >>> control_boxes("middle", (224, 224), torch.tensor([0]), 0, 0)
        tensor([[ 56.,  56., 168., 168.]])
    """
    boxes = torch.zeros((len(index), 4), device=index.device)
    for low, high, side, length_stream, start_stream in ((0, 2, size[1], WIDTH, LEFT), (1, 3, size[0], HEIGHT, TOP)):
        if kind == "random":
            shortest, longest = max(side // 4, 1), max(3 * side // 4, 1)
            length = shortest + _draw(longest - shortest + 1, index, epoch, seed, length_stream)
            start = _draw(side - length + 1, index, epoch, seed, start_stream)
            boxes[:, low], boxes[:, high] = start, start + length
        else:
            margin = side / 4 if kind == "middle" else 0.0
            boxes[:, low], boxes[:, high] = margin, side - margin
    return boxes


def _draw(count: int | Tensor, index: Tensor, epoch: int | Tensor, seed: int, stream: int) -> Tensor:
    """Return a whole number from 0 to count - 1 for each image, all with the same probability, up to count / 2^32."""
    return ((random_bits(index, epoch, seed, stream) >> 32 & (2**32 - 1)) * count) >> 32


@torch.no_grad()
def control_features(
    kind: PositiveFeatures,
    features: Tensor,
    valid: Tensor,
    *,
    index: Tensor,
    epoch: int | Tensor,
    seed: int,
    gather: bool = False,
) -> Tensor:
    """Return the features that images get as their positives: their own, or those of a control.

    Shuffled rows are those of other images of the same step. (Features of images outside of it are not known: they
    depend on boxes that the present network would have to look for.) The valid rows of the step are put in an order
    that (seed, epoch, index) alone decide, and each image gets the row of the next one in it, the last that of the
    first. So no image has its own row, if two are valid; each row is used once; and neither the order of the images in
    the batch nor the number of processes matters.

    Args:
        kind: real: the features as they are; shuffled: see above; constant: zeros in all valid rows.
        features: (B, F), standardised, so that zero is the mean; rows that are not valid stay.
        valid: (B,) bool, True if the features of the image could be computed.
        index: (B,) int64, the number of each image in the data set, once each.
        epoch, seed: see `kacl_gpu.kacl.losses.random_bits`.
        gather: shuffle over the images of all processes of the default process group, if there is one; B must be the
            same in each.

    Returns:
        (B, F), of the same dtype.

    Raises:
        ValueError: another kind.

    Example:
        >>> features, index = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([7, 8, 9])
        >>> valid = torch.tensor([True, True, False])
        >>> control_features("shuffled", features, valid, index=index, epoch=0, seed=0)
        tensor([[2.],
                [1.],
                [3.]])
    """
    check_choice("positive_features", kind, PositiveFeatures)
    if kind == "real":
        return features
    if kind == "constant":
        return torch.where(valid[:, None], 0, features)
    images, first = len(features), 0
    if gather and is_distributed():
        first = dist.get_rank() * images
        features, index = AllGather.apply(features), AllGather.apply(index)
        valid = AllGather.apply(valid.byte()).bool()  # not every backend takes bool
    order = random_bits(index, epoch, seed, SHUFFLE).argsort()
    order = order[(~valid)[order].byte().argsort(stable=True)]  # the valid rows first
    place = torch.arange(len(order), device=order.device)
    count = valid.sum()
    following = torch.where(place < count, (place + 1) % count.clamp(min=1), place)
    source = torch.empty_like(order).scatter_(0, order, order[following])
    return features[source[first : first + images]]


def untimed(stage: str) -> AbstractContextManager[None]:
    """Measure nothing: the default of those that are measured."""
    return nullcontext()


class BYOP(nn.Module):
    """Compute the radiomic features inside boxes of diseases: true boxes if there are any, else boxes from Grad-CAM.

    For networks that end in global average pooling and a linear layer, which
    `kacl_gpu.kacl.cam.check_head_cam` checks once before training; and for any other with heatmaps of your own. It has
    no parameters, and nothing is differentiated: the features are data. On a GPU no value goes to the host.

    Args:
        threshold: share of a heatmap's range above which a pixel can belong to the box, at least 0 and below 1.
        shrink_whole_image: replace a box that covers the whole image by the middle of the image, as the authors' code
            does.
        settings: settings of the features. They are computed on the intensities as they are stored, not on the
            network's standardised input, of which bins of a fixed width would leave one or two levels.
        positive_boxes: source of the boxes. gradcam: true boxes if there are any, else Grad-CAM; annotated: true boxes
            alone, so that other images have no features; whole, middle, random: those of `control_boxes`, for images
            with a true box too.
        seed: seed of the random boxes.

    Raises:
        ValueError: another source of boxes.

    Example:
        >>> byop = BYOP(settings=RadiomicsSettings(bin_count=32, feature_class={"firstorder": ["Mean"]}))
        >>> images, activations = torch.full((2, 1, 32, 32), 7), torch.rand(2, 3, 4, 4)
        >>> byop(images, activations, torch.ones(1, 3), torch.tensor([0, -1])).features
        tensor([[7.],
                [nan]])
        >>> attention = torch.rand(2, 14, 14)  # of a transformer, say
        >>> byop(images, None, None, torch.tensor([0, -1]), heatmaps=attention).features
        tensor([[7.],
                [nan]])
    """

    def __init__(
        self,
        threshold: float = 0.5,
        shrink_whole_image: bool = False,
        settings: RadiomicsSettings = BYOP_SETTINGS,
        *,
        positive_boxes: PositiveBoxes = "gradcam",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("positive_boxes", positive_boxes, PositiveBoxes)
        self.positive_boxes, self.seed = positive_boxes, seed
        self.threshold, self.shrink_whole_image, self.settings = threshold, shrink_whole_image, settings

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the F columns."""
        return feature_names(self.settings)

    @torch.no_grad()
    def forward(
        self,
        images: Tensor,
        activations: Tensor | None,
        weight: Tensor | None,
        disease: Tensor,
        true_boxes: Tensor | None = None,
        timed: Callable[[str], AbstractContextManager[None]] = untimed,
        *,
        heatmaps: Tensor | None = None,
        index: Tensor | None = None,
        epoch: int | Tensor = 0,
    ) -> Positives:
        """Return the box and the features of one disease per image.

        Args:
            images: (B, 1, H, W) raw intensities, any real dtype.
            activations: (B, C, h, w), the input of the network's pooling; None with ``heatmaps``.
            weight: (D, C), of its linear layer; None with ``heatmaps``.
            disease: (B,) int64, a row of ``weight``; -1 for an image without a disease, which gets NaN features.
            true_boxes: (B, D, 4) in pixels of the image, NaN if there is none.
            heatmaps: (B, h, w), floating, of any size and range: maps of your own in place of Grad-CAM's, larger where
                the network sees the disease, such as a transformer's attention or those of another method.
            timed: called with "gradcam" and "radiomics" for contexts around these stages.
            index: (B,) int64, the number of each image in the data set; random boxes need it.
            epoch: the epoch, of which random boxes depend.

        Raises:
            ValueError: random boxes without ``index``; neither or both of activations with weight and heatmaps;
                heatmaps of another shape.
        """
        if self.positive_boxes == "random" and index is None:
            raise ValueError("random boxes need the index of each image")
        if heatmaps is not None:
            check_tensor("heatmaps", heatmaps, "floating point", (len(images), "h", "w"), images.device)
        if (activations is None) != (weight is None) or (activations is None) == (heatmaps is None):
            raise ValueError("BYOP needs either activations and weight, or heatmaps")
        with timed("gradcam"):
            ill, row = disease >= 0, disease.clamp(min=0)
            size = images.shape[-2], images.shape[-1]
            if activations is not None and weight is not None:
                heatmaps = head_cam(activations, weight, row)
            assert heatmaps is not None
            maps = scale(heatmaps, size)
            if self.positive_boxes == "gradcam":
                boxes, fallback, covers_image = heatmap_boxes(maps, self.threshold, self.shrink_whole_image)
            else:
                numbers = row if index is None else index
                boxes = control_boxes(self.positive_boxes, size, numbers, epoch, self.seed)
                fallback, covers_image = torch.zeros_like(ill), torch.full_like(ill, self.positive_boxes == "whole")
            annotated = torch.zeros_like(ill)
            if true_boxes is not None and self.positive_boxes in ("gradcam", "annotated"):
                true = true_boxes.gather(1, row[:, None, None].expand(-1, 1, 4))[:, 0].to(boxes.dtype)
                annotated = ill & has_box(true)
                boxes = torch.where(annotated[:, None], true, boxes)
            boxed = ill
            if self.positive_boxes == "annotated":
                boxed, boxes = annotated, boxes.masked_fill(~annotated[:, None], torch.nan)
            fallback, covers_image = fallback & ill & ~annotated, covers_image & ill & ~annotated
        with timed("radiomics"):
            # An image without a box gets one without a pixel, on which no time is spent
            regions = torch.where(boxed[:, None], boxes, torch.zeros_like(boxes))
            features = gpu_radiomics(images, regions, settings=self.settings, invalid="nan")
        return Positives(features, boxes, annotated, fallback, covers_image, ~features.isnan().all(1), maps)

    def extra_repr(self) -> str:
        boxes = f"threshold={self.threshold}, shrink_whole_image={self.shrink_whole_image}"
        return f"{boxes}, positive_boxes={self.positive_boxes}, {self.settings}"
