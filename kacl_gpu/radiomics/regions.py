"""From images, boxes and masks to checked regions, and from a region's status to words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import ops
from .settings import RadiomicsSettings
from .status import Status

Boxes = Tensor | Sequence[Tensor]
Spacing = Tensor | Sequence[float]

REAL_DTYPES = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
WORDS = {
    Status.IMAGE_INDEX: "the image index is not one of 0 ... {last_image}",
    Status.BOX_NOT_FINITE: "the box is not finite",
    Status.BOX_INVERTED: "the box is empty or inverted, expected x2 > x1 and y2 > y1",
    Status.BOX_OUTSIDE: "the box lies outside its image of {height} x {width} (height x width)",
    Status.EMPTY: "no pixel of label {s.label} in it",
    Status.SINGLE_PIXEL: "it is a single pixel",
    Status.TOO_FEW_DIMENSIONS: "it extends over fewer than minimum_roi_dimensions = {s.minimum_roi_dimensions}",
    Status.TOO_SMALL: "it has no more pixels than minimum_roi_size = {s.minimum_roi_size}",
    Status.RESEGMENTED_AWAY: "resegment_range = {s.resegment_range} leaves fewer than two pixels of it",
    Status.DISTANCES: "every one of distances = {s.distances} reaches beyond it",
    Status.NOT_FINITE: "it holds NaN or infinite intensities",
    Status.TOO_MANY_LEVELS: "it needs more than {max_levels} grey levels: widen the bins, or raise max_levels or "
    "memory_limit",
    Status.TOO_NARROW: "float64 cannot tell its bins apart: bin_count = {s.bin_count}, bin_width = {s.bin_width}",
}


@dataclass(frozen=True)
class Regions:
    """K regions of B images, on the images' device."""

    images: Tensor  # (B, H, W)
    masks: Tensor | None  # (B, H, W) label maps
    image_index: Tensor  # (K,) int64
    box: Tensor  # (K, 4) int64: y0, x0, y1, x1, whole pixels, far edge exclusive, inside the image; 0 where invalid
    spacing: Tensor  # (K, 2) float64: y, x
    status: Tensor  # (K,) int32, see Status
    given: Tensor  # (K, 5) float64: image index and box as the caller gave them

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, part: slice) -> Regions:
        rows = self.image_index[part], self.box[part], self.spacing[part], self.status[part], self.given[part]
        return Regions(self.images, self.masks, *rows)


def make_regions(
    images: Tensor, boxes: Boxes | None, masks: Tensor | None, spacing: Spacing | None, check_values: bool = True
) -> Regions:
    """Checks shapes, types and devices (ValueError, TypeError) and marks each region that has no pixels to look at.

    ``check_values``: look at the spacing also where that waits for a device.
    """
    images = _checked_images(images, "images")
    count, height, width = images.shape
    if masks is not None:
        masks = _checked_images(masks, "masks")
        if masks.shape != images.shape:
            raise ValueError(
                f"masks have shape {tuple(masks.shape)}, expected that of the images {(count, height, width)}"
            )
        _check_device("masks", masks, images)
    if boxes is not None:
        given = _as_rows(boxes, images)
    elif masks is not None:
        given = torch.zeros((count, 5), dtype=torch.float64, device=images.device)
        given[:, 0] = torch.arange(count, device=images.device)
        given[:, 3], given[:, 4] = width, height
    else:
        raise ValueError("neither boxes nor masks given: pass boxes, masks or both")

    image_index, box, status = ops.region_boxes(given, count, height, width)
    spacing_of_image = _checked_spacing(spacing, images, check_values)
    # K regions of no image at all (B = 0) are none of them valid, and have no row of spacings to take
    rows = spacing_of_image[image_index] if count else spacing_of_image.new_ones((len(given), 2))
    return Regions(images, masks, image_index, box, rows, status, given)


def describe(regions: Regions, status: Tensor, settings: RadiomicsSettings, max_levels: int) -> str:
    """One message that names each region that cannot be computed, and why."""
    last_image, height, width = (n for n in (len(regions.images) - 1, *regions.images.shape[1:]))
    facts = {"last_image": last_image, "height": height, "width": width, "s": settings, "max_levels": max_levels}
    bad = status.nonzero().flatten().tolist()
    lines = []
    for row in bad:
        index, *box = regions.given[row].tolist()
        why = WORDS[Status(int(status[row]))].format(**facts)
        lines.append(f"row {row} (image {index:g}, box [{', '.join(f'{v:g}' for v in box)}]): {why}")
    return f"{len(bad)} of {len(regions)} regions cannot be computed: " + "; ".join(lines)


def _checked_images(images: Tensor, name: str) -> Tensor:
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(images).__name__}")
    if images.is_complex():
        raise TypeError(f"{name} must be real, got {images.dtype}")
    if images.dtype not in REAL_DTYPES or images.layout != torch.strided:
        raise TypeError(f"{name} must be dense integers or floating-point numbers, got {images.dtype}, {images.layout}")
    if images.ndim == 4:
        if images.shape[1] != 1:
            raise ValueError(f"{name} of shape {tuple(images.shape)} have {images.shape[1]} channels, expected 1")
        images = images[:, 0]
    if images.ndim != 3:
        raise ValueError(f"{name} must have shape (B, H, W) or (B, 1, H, W), got {tuple(images.shape)}")
    if images.dtype == torch.bfloat16:  # NumPy has no such type; float32 holds it exactly
        images = images.float()
    return images.detach()


def _check_device(name: str, tensor: Tensor, images: Tensor) -> None:
    if tensor.device != images.device:
        raise ValueError(f"{name} are on {tensor.device}, images on {images.device}: move them to one device")


def _as_rows(boxes: Boxes, images: Tensor) -> Tensor:
    """Any of the three forms of boxes as (K, 5) float64 rows of image index, x1, y1, x2, y2."""
    count = len(images)
    if isinstance(boxes, Tensor):
        boxes = _checked_boxes("boxes", boxes, images)
        if boxes.ndim == 2 and boxes.shape[1] == 5:
            return boxes
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must have shape (B, 4) or (K, 5), got {tuple(boxes.shape)}")
        if len(boxes) != count:
            raise ValueError(
                f"{len(boxes)} boxes of shape (B, 4) for {count} images: give one an image, or (K, 5) rows"
            )
        index = torch.arange(count, dtype=torch.float64, device=images.device)
        return torch.cat([index[:, None], boxes], 1)
    if not isinstance(boxes, Sequence) or isinstance(boxes, str):
        raise TypeError(f"boxes must be a tensor or a list of tensors, got {type(boxes).__name__}")
    if len(boxes) != count:
        raise ValueError(f"a list of boxes of {len(boxes)} images for {count} images")
    rows = [torch.empty((0, 5), dtype=torch.float64, device=images.device)]
    for b, of_image in enumerate(boxes):
        if not isinstance(of_image, Tensor):
            raise TypeError(f"boxes[{b}] must be a torch.Tensor, got {type(of_image).__name__}")
        of_image = _checked_boxes(f"boxes[{b}]", of_image, images)
        if of_image.ndim != 2 or of_image.shape[1] != 4:
            raise ValueError(f"boxes[{b}] must have shape (L, 4), got {tuple(of_image.shape)}")
        rows.append(torch.cat([of_image.new_full((len(of_image), 1), float(b)), of_image], 1))
    return torch.cat(rows)


def _checked_boxes(name: str, boxes: Tensor, images: Tensor) -> Tensor:
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers, got {boxes.dtype}")
    _check_device(name, boxes, images)
    return boxes.detach().to(torch.float64)


def _checked_spacing(spacing: Spacing | None, images: Tensor, check_values: bool) -> Tensor:
    """(B, 2) float64 y, x of each image."""
    count = len(images)
    if spacing is None:
        return torch.ones((count, 2), dtype=torch.float64, device=images.device)
    if isinstance(spacing, tuple | list) and [type(s) for s in spacing] == [float, float]:
        if not all(0 < s < math.inf for s in spacing):
            raise ValueError(f"spacing must be finite and above 0, got {list(spacing)}")
        # filled in on the device: a copy would wait for it
        return torch.stack([torch.full((count,), s, dtype=torch.float64, device=images.device) for s in spacing], 1)
    try:
        if isinstance(spacing, Tensor) and spacing.is_complex():
            raise TypeError("complex numbers")
        device = spacing.device if isinstance(spacing, Tensor) else "cpu"
        rows = torch.as_tensor(spacing, dtype=torch.float64, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"spacing must be numbers (y, x), one pair or one an image, got {spacing!r}") from error
    if rows.shape not in ((2,), (count, 2)):
        raise ValueError(f"spacing must have shape (2,) or ({count}, 2), y before x, got {tuple(rows.shape)}")
    on_host = rows.device.type == "cpu"
    if (check_values or on_host) and not bool((rows.isfinite() & (rows > 0)).all()):
        raise ValueError(f"spacing must be finite and above 0, got {rows.tolist()}")
    return rows.to(images.device).expand(count, 2)
