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
_BOX_DTYPES = {torch.float32, torch.float64, torch.int32, torch.int64}
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
    Status.SPACING: "the spacing of its image is not finite and above 0",
    Status.TOO_NARROW: "float64 cannot tell its bins apart: bin_count = {s.bin_count}, bin_width = {s.bin_width}",
}


@dataclass(frozen=True)
class Regions:
    """K regions of B images, on the images' device."""

    images: Tensor  # (B, H, W)
    masks: Tensor | None  # (B, H, W) label maps
    image_index: Tensor  # (K,) int64
    box: Tensor  # (K, 4) int64: y0, x0, y1, x1, whole pixels, far edge exclusive, inside the image; 0 where invalid
    size: Tensor  # (K, 3) int64: 1, height, width
    spacing: Tensor  # (K, 2) float64: y, x
    status: Tensor  # (K,) int32, see Status

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, part: slice) -> Regions:
        rows = self.image_index, self.box, self.size, self.spacing, self.status
        return Regions(self.images, self.masks, *(row[part] for row in rows))


def make_regions(
    images: Tensor, boxes: Boxes | None, masks: Tensor | None, spacing: Spacing | None, check_values: bool = True
) -> Regions:
    """Checks shapes, types and devices (ValueError, TypeError) and marks each region that has no pixels to look at.

    Without ``check_values`` nothing waits for a device: a spacing on that of the images is not looked at here, and one
    that lies elsewhere is refused.
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
    if boxes is None and masks is None:
        raise ValueError("neither boxes nor masks given: pass boxes, masks or both")
    rows = None if boxes is None else _checked_rows(boxes, images)
    of_image, pair = _checked_spacing(spacing, images, check_values)
    return Regions(images, masks, *ops.locate(images, rows, of_image, pair=pair))


def describe(
    regions: Regions, boxes: Boxes | None, status: Tensor, settings: RadiomicsSettings, max_levels: int
) -> str:
    """One message that names each region that cannot be computed, with its box as it was given, and why."""
    last_image, height, width = (n for n in (len(regions.images) - 1, *regions.images.shape[1:]))
    facts = {"last_image": last_image, "height": height, "width": width, "s": settings, "max_levels": max_levels}
    bad = status.nonzero().flatten().tolist()
    given = regions.images.new_tensor([[0, 0, width, height]], dtype=torch.float64).expand(last_image + 1, 4)
    given = given if boxes is None else _checked_rows(boxes, regions.images).to(torch.float64)
    lines = []
    for row in bad:
        index, *box = [row] * (given.shape[1] == 4) + given[row].tolist()
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


def _checked_rows(boxes: Boxes, images: Tensor) -> Tensor:
    """Any of the three forms of boxes as (B, 4), one an image, or as (K, 5) rows of image index, x1, y1, x2, y2."""
    count = len(images)
    if isinstance(boxes, Tensor):
        boxes = _checked_boxes("boxes", boxes, images)
        if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
            raise ValueError(f"boxes must have shape (B, 4) or (K, 5), got {tuple(boxes.shape)}")
        if boxes.shape[1] == 4 and len(boxes) != count:
            raise ValueError(
                f"{len(boxes)} boxes of shape (B, 4) for {count} images: give one an image, or (K, 5) rows"
            )
        return boxes
    if not isinstance(boxes, Sequence) or isinstance(boxes, str):
        raise TypeError(f"boxes must be a tensor or a list of tensors, got {type(boxes).__name__}")
    if len(boxes) != count:
        raise ValueError(f"a list of boxes of {len(boxes)} images for {count} images")
    rows = [torch.empty((0, 5), dtype=torch.float64, device=images.device)]
    for b, of_image in enumerate(boxes):
        if not isinstance(of_image, Tensor):
            raise TypeError(f"boxes[{b}] must be a torch.Tensor, got {type(of_image).__name__}")
        of_image = _checked_boxes(f"boxes[{b}]", of_image, images).to(torch.float64)
        if of_image.ndim != 2 or of_image.shape[1] != 4:
            raise ValueError(f"boxes[{b}] must have shape (L, 4), got {tuple(of_image.shape)}")
        rows.append(torch.cat([of_image.new_full((len(of_image), 1), float(b)), of_image], 1))
    return torch.cat(rows)


def _checked_boxes(name: str, boxes: Tensor, images: Tensor) -> Tensor:
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers, got {boxes.dtype}")
    _check_device(name, boxes, images)
    # exact in any type that kernels read; others are converted
    return boxes.detach() if boxes.dtype in _BOX_DTYPES else boxes.detach().to(torch.float64)


def _checked_spacing(
    spacing: Spacing | None, images: Tensor, check_values: bool
) -> tuple[Tensor | None, tuple[float, float]]:
    """(B, 2) float64 y, x of each image, or None and one pair for all: numbers of the host need no copy to a device."""
    count = len(images)
    if spacing is None:
        return None, (1.0, 1.0)
    if isinstance(spacing, tuple | list) and len(spacing) == 2 and all(isinstance(s, float | int) for s in spacing):
        y, x = (float(s) for s in spacing)  # without a tensor: tracing has none with values
        if not (0 < y < math.inf and 0 < x < math.inf):
            raise ValueError(f"spacing must be finite and above 0, got {list(spacing)}")
        return None, (y, x)
    try:
        if isinstance(spacing, Tensor) and spacing.is_complex():
            raise TypeError("complex numbers")
        device = spacing.device if isinstance(spacing, Tensor) else "cpu"
        rows = torch.as_tensor(spacing, dtype=torch.float64, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"spacing must be numbers (y, x), one pair or one an image, got {spacing!r}") from error
    if rows.shape not in ((2,), (count, 2)):
        raise ValueError(f"spacing must have shape (2,) or ({count}, 2), y before x, got {tuple(rows.shape)}")
    if not check_values:
        if rows.device != images.device:
            raise ValueError(
                f"spacing is on {rows.device}, images on {images.device}, and copying it would wait: give two numbers "
                f"(y, x), or move it with .to({str(images.device)!r}) beforehand"
            )
        return rows.expand(count, 2), (1.0, 1.0)
    if not bool((rows.isfinite() & (rows > 0)).all()):
        raise ValueError(f"spacing must be finite and above 0, got {rows.tolist()}")
    if rows.device.type == "cpu" and rows.ndim == 1:
        y, x = rows.tolist()
        return None, (y, x)
    return rows.to(images.device).expand(count, 2), (1.0, 1.0)
