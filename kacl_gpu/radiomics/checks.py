"""Checks of tensors that callers pass in, for the whole package: a TypeError or ValueError names the argument."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Boxes = Tensor | Sequence[Tensor]
Spacing = Tensor | Sequence[float]

REAL_DTYPES = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
_BOX_DTYPES = {torch.float32, torch.float64, torch.int32, torch.int64}


def check_tensor(
    name: str, tensor: Tensor, kind: str, shape: tuple[int | str, ...], device: torch.device | None = None
) -> None:
    """Raise unless a tensor has a kind of dtype, a shape and a device.

    Args:
        name: of the argument, for the message.
        tensor: of any shape.
        kind: "bool", "floating point", "integer", "int64" or "real" (neither is a bool an integer).
        shape: a size per dimension; -1, or a name that the message shows, is any size.
        device: None: any.

    Raises:
        TypeError: another dtype.
        ValueError: another shape or device.

    Example:
        >>> check_tensor("logits", torch.zeros(4, 2), "floating point", (4, "D"))
        >>> check_tensor("disease", torch.zeros(3, dtype=torch.int64), "integer", (4,))
        Traceback (most recent call last):
            ...
        ValueError: disease must have the shape (4), got (3,)
    """
    is_bool, is_floating = tensor.dtype == torch.bool, tensor.is_floating_point()
    kinds = {
        "bool": is_bool,
        "floating point": is_floating,
        "integer": not (is_bool or is_floating or tensor.is_complex()),
        "int64": tensor.dtype == torch.int64,
        "real": not tensor.is_complex(),
    }
    if not kinds[kind]:
        raise TypeError(f"{name} must be {kind}, got {tensor.dtype}")
    any_size = (-1, *(size for size in shape if isinstance(size, str)))
    if tensor.ndim != len(shape) or any(e not in any_size and e != size for e, size in zip(shape, tensor.shape)):
        expected = ", ".join("any" if size == -1 else str(size) for size in shape)
        raise ValueError(f"{name} must have the shape ({expected}), got {tuple(tensor.shape)}")
    if device is not None and tensor.device != device:
        raise ValueError(f"{name} must be on {device}, got {tensor.device}")


def check_images(images: Tensor, name: str) -> Tensor:
    """Return images or label maps as (B, H, W), without a gradient and without bfloat16.

    Args:
        images: (B, H, W) or (B, 1, H, W), any real dtype.
        name: of the argument, for the message.

    Raises:
        TypeError: no dense tensor of real numbers.
        ValueError: another shape.
    """
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


def check_label_maps(masks: Tensor) -> Tensor:
    """Return label maps as (B, H, W).

    Raises:
        TypeError, ValueError: see :func:`check_images`; a value is NaN, which is looked at on the CPU only, for a
            device would be waited for (there NaN is no label).
    """
    masks = check_images(masks, "masks")
    if masks.device.type == "cpu" and masks.is_floating_point() and bool((wrong := masks.isnan()).any()):
        image, y, x = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"masks hold NaN ({int(wrong.sum())} pixels, the first in image {image}, row {y}, column {x}): a label map "
            "holds whole numbers, 0 outside; see torch.nan_to_num"
        )
    return masks


def check_masks(masks: Tensor, images: Tensor) -> Tensor:
    """Return label maps as (B, H, W), of the shape and on the device of the images (B, H, W)."""
    masks = check_label_maps(masks)
    if masks.shape != images.shape:
        raise ValueError(f"masks have shape {tuple(masks.shape)}, expected that of the images {tuple(images.shape)}")
    check_device("masks", masks, images)
    return masks


def check_device(name: str, tensor: Tensor, images: Tensor) -> None:
    """Raise a ValueError if a tensor does not lie on the device of the images."""
    if tensor.device != images.device:
        raise ValueError(f"{name} are on {tensor.device}, images on {images.device}: move them to one device")


def check_boxes(boxes: Boxes, images: Tensor) -> Tensor:
    """Return any form of boxes as (B, 4), one per image, or as (K, 5) rows of image index, x1, y1, x2, y2."""
    count = len(images)
    if isinstance(boxes, Tensor):
        boxes = _check_numbers("boxes", boxes, images)
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
    for b, boxes_of_image in enumerate(boxes):
        if not isinstance(boxes_of_image, Tensor):
            raise TypeError(f"boxes[{b}] must be a torch.Tensor, got {type(boxes_of_image).__name__}")
        corners = _check_numbers(f"boxes[{b}]", boxes_of_image, images).to(torch.float64)
        if corners.ndim != 2 or corners.shape[1] != 4:
            raise ValueError(f"boxes[{b}] must have shape (L, 4), got {tuple(corners.shape)}")
        rows.append(torch.cat([corners.new_full((len(corners), 1), float(b)), corners], 1))
    return torch.cat(rows)


def _check_numbers(name: str, boxes: Tensor, images: Tensor) -> Tensor:
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers, got {boxes.dtype}")
    check_device(name, boxes, images)
    # exact in any type that kernels read; others are converted
    return boxes.detach() if boxes.dtype in _BOX_DTYPES else boxes.detach().to(torch.float64)


def check_spacing(
    spacing: Spacing | None, images: Tensor, check_values: bool
) -> tuple[Tensor | None, tuple[float, float]]:
    """Return the spacing of each image (B, 2) float64 y, x, or None and one pair for all images.

    Numbers of the host stay a pair, since they need no copy to a device. Without ``check_values`` nothing waits for a
    device: a spacing on that of the images is not looked at, and one that lies elsewhere is refused.
    """
    count = len(images)
    if spacing is None:
        return None, (1.0, 1.0)
    if isinstance(spacing, (tuple, list)) and len(spacing) == 2 and all(isinstance(s, (float, int)) for s in spacing):
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
