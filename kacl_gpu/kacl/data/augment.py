"""Augmentations of training images, by name, in which the boxes move with the pixels.

Needs the extra ``train`` (torchvision).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from kacl_gpu.kacl.boxes import has_box
from kacl_gpu.kacl.losses import random_bits

Augment = Literal["none", "light", "strong"]

STREAM = 100  # of `random_bits`, apart from the draws of the training step


def make_augmentation(name: Augment) -> v2.Transform:
    """Return the transform of a name.

    light: a rotation by up to 5 degrees, a shift by up to 5 % of the side, and a scale from 0.95 to 1.05. strong: twice
    of each, and every second image is mirrored, the heart with it. Intensities are only interpolated, since radiomics
    are computed on them; what comes in from outside the image is 0.

    Example:
        >>> make_augmentation("light")
        RandomAffine(...)
    """
    strength = {"none": 0, "light": 1, "strong": 2}[name]
    move = v2.RandomAffine(
        degrees=5.0 * strength,
        translate=(0.05 * strength, 0.05 * strength),
        scale=(1 - 0.05 * strength, 1 + 0.05 * strength),
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    return {"none": v2.Identity(), "light": move, "strong": v2.Compose([v2.RandomHorizontalFlip(), move])}[name]


def augment(sample: dict[str, Tensor], transform: v2.Transform, bits: int) -> dict[str, Tensor]:
    """Return a sample whose image and boxes are transformed together.

    Args:
        sample: as of `kacl_gpu.kacl.data.dataset.ChestXrayImages`.
        transform: of torchvision; its random numbers are those of torch's default generator.
        bits: seed of that generator, whose state is restored.

    Returns:
        The sample with another image, and with boxes cut to it; NaN where no pixel of a box is left.

    Example:
        >>> image, boxes = torch.arange(16).reshape(1, 4, 4), torch.tensor([[0.0, 0, 1, 2], [torch.nan] * 4])
        >>> augment({"image": image, "boxes": boxes}, v2.RandomHorizontalFlip(1), 0)["boxes"]
        tensor([[3., 0., 4., 2.],
                [nan, nan, nan, nan]])
    """
    image, boxes = sample["image"], sample["boxes"]
    present = has_box(boxes)
    canvas: Any = tuple(image.shape[-2:])
    # The devices' generators are left alone, which torch.manual_seed would seed too
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(bits)
        # A box of the whole image keeps the call the same for images without a box
        placed = torch.cat([boxes[present], boxes.new_tensor([[0, 0, canvas[1], canvas[0]]])])
        moved = transform(
            {
                "image": tv_tensors.Image(image),
                "boxes": tv_tensors.BoundingBoxes(placed, format="XYXY", canvas_size=canvas),
            }
        )
    corners = moved["boxes"].as_subclass(Tensor)[:-1]
    limit = corners.new_tensor([canvas[1], canvas[0], canvas[1], canvas[0]])
    corners = corners.clamp(min=0).minimum(limit)
    # Less than a pixel holds no region
    is_left = ((corners[:, 2:] - corners[:, :2]) >= 1).all(1, keepdim=True)
    result = torch.full_like(boxes, torch.nan)
    result[present] = torch.where(is_left, corners, torch.nan)
    pixels = moved["image"].as_subclass(Tensor).contiguous()
    if image.is_floating_point() and torch.equal(image, image.round()):
        pixels = pixels.round()  # as those of 8 bits are
    return {**sample, "image": pixels, "boxes": result}


class Augmented(Dataset[dict[str, Tensor]]):
    """Augment images anew in each epoch, a pure function of (seed, epoch, index).

    Args:
        images: the dataset.
        name: augmentation, see `make_augmentation`.
        seed: an integer.
    """

    def __init__(self, images: Dataset[dict[str, Tensor]], name: Augment, seed: int) -> None:
        self.images, self.transform, self.seed = images, make_augmentation(name), seed

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        """Return an image of an epoch, both counted from 0."""
        index, epoch = key
        bits = int(random_bits(torch.tensor([index]), epoch, self.seed, STREAM))
        return augment(self.images[index], self.transform, bits & (2**63 - 1))


class EpochSampler(DistributedSampler[Any]):
    """Tell each image's epoch with its index, so that workers need no state of their own."""

    def __iter__(self) -> Iterator[Any]:
        return ((index, self.epoch) for index in super().__iter__())
