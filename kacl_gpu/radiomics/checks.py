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
CORNERS_3D = "x1, y1, z1, x2, y2, z2"
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


def check_images(images: Tensor, name: str) -> tuple[Tensor, int]:
    """Return images or label maps as (B, D, H, W), D = 1 in 2D, and their number of dimensions, 2 or 3.

    They come without a gradient and without bfloat16.

    Args:
        images: (B, H, W) or (B, 1, H, W) images, (B, 1, D, H, W) volumes, any real dtype.
        name: of the argument, for the message.

    Raises:
        TypeError: no dense tensor of real numbers.
        ValueError: another shape.
    """
    _check_dense(images, name)
    if images.ndim in (4, 5) and images.shape[1] != 1:
        hint = "; volumes are (B, 1, D, H, W)" if images.ndim == 4 else ""
        raise ValueError(f"{name} of shape {tuple(images.shape)} have {images.shape[1]} channels, expected 1{hint}")
    if images.ndim not in (3, 4, 5):
        raise ValueError(
            f"{name} must have shape (B, H, W) or (B, 1, H, W), volumes (B, 1, D, H, W), got {tuple(images.shape)}"
        )
    dimensions = 3 if images.ndim == 5 else 2
    images = images[:, None] if images.ndim == 3 else images[:, 0] if images.ndim == 5 else images
    return _plain(images), dimensions


def check_image_list(images: Sequence[Tensor], name: str) -> tuple[list[Tensor], int]:
    """Return images or label maps of any sizes as a list of (D, H, W), D = 1 in 2D, and their number of dimensions.

    Args:
        images: (H, W) images, or (D, H, W) volumes, all of one dtype and on one device.
        name: of the argument, for the message.

    Raises:
        TypeError, ValueError: see :func:`check_images`; an empty list; images that differ in rank, dtype or device.
    """
    if not len(images):
        raise ValueError(f"{name} is an empty list: pass at least one image, or a tensor of shape (0, 1, H, W)")
    first = images[0]
    for place, image in enumerate(images):
        _check_dense(image, f"{name}[{place}]")
        if image.ndim not in (2, 3):
            raise ValueError(
                f"{name}[{place}] must have shape (H, W), or of a volume (D, H, W), got {tuple(image.shape)}"
            )
        for what, own, other in (
            ("dimensions", image.ndim, first.ndim),
            ("the dtype", image.dtype, first.dtype),
            ("the device", image.device, first.device),
        ):
            if own != other:
                raise ValueError(
                    f"{name}[{place}] has {what} {own}, {name}[0] {other}: expected the same of all images"
                )
    return [_plain(image if image.ndim == 3 else image[None]) for image in images], first.ndim


def _check_dense(images: Tensor, name: str) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(images).__name__}")
    if images.is_complex():
        raise TypeError(f"{name} must be real, got {images.dtype}")
    if images.dtype not in REAL_DTYPES or images.layout != torch.strided:
        raise TypeError(f"{name} must be dense integers or floating-point numbers, got {images.dtype}, {images.layout}")


def _plain(images: Tensor) -> Tensor:
    """Return images without a gradient; NumPy has no bfloat16, which float32 holds exactly."""
    return (images.float() if images.dtype == torch.bfloat16 else images).detach()


def check_label_values(masks: Tensor, dimensions: int, image: int | None = None) -> None:
    """Raise a ValueError if label maps (B, D, H, W), or the one (D, H, W) of ``image``, hold NaN.

    It is looked for on the CPU only, for a device would be waited for (there NaN is no label).
    """
    if masks.device.type != "cpu" or not masks.is_floating_point() or not bool((wrong := masks.isnan()).any()):
        return
    *index, z, y, x = wrong.nonzero()[0].tolist()
    place = f"image {index[0] if image is None else image}, {f'slice {z}, ' * (dimensions == 3)}row {y}, column {x}"
    raise ValueError(
        f"masks hold NaN ({int(wrong.sum())} pixels, the first in {place}): a label map holds whole numbers, 0 "
        "outside; see torch.nan_to_num"
    )


def check_same_shape(masks: Tensor, images: Tensor, rank: int, dimensions: int, place: str = "") -> None:
    """Raise a ValueError unless masks have the shape, the number of dimensions and the device of the images.

    ``rank`` and ``dimensions``: 2 or 3, the dimensions of the masks and of the images.
    """
    if masks.shape != images.shape or rank != dimensions:
        extents = []
        for tensor, number in ((masks, rank), (images, dimensions)):
            *count, depth, height, width = tensor.shape
            extents.append((*count, height, width) if number == 2 else (*count, depth, height, width))
        of_masks, of_images = extents
        raise ValueError(f"masks{place} have shape {of_masks}, expected that of the images {of_images}")
    check_device(f"masks{place}", masks, images)


def check_device(name: str, tensor: Tensor, images: Tensor) -> None:
    """Raise a ValueError if a tensor does not lie on the device of the images."""
    if tensor.device != images.device:
        raise ValueError(f"{name} are on {tensor.device}, images on {images.device}: move them to one device")


def check_boxes(boxes: Boxes, count: int, device: torch.device, dimensions: int) -> Tensor:
    """Return any form of boxes as one per image, or as rows that begin with an image index.

    Args:
        boxes: x1, y1, x2, y2 in 2D, x1, y1, z1, x2, y2, z2 in 3D: (B, 4), (K, 5), in 3D (B, 6), (K, 7), or a list.
        count, device: the number B of images, and where they are.
        dimensions: 2 or 3.
    """
    sides = 2 * dimensions
    shapes, corners = ("(B, 4) or (K, 5)", "x1, y1, x2, y2") if dimensions == 2 else ("(B, 6) or (K, 7)", CORNERS_3D)
    kind = "2D images" if dimensions == 2 else "volumes"
    if isinstance(boxes, Tensor):
        boxes = _check_numbers("boxes", boxes, device)
        if boxes.ndim != 2 or boxes.shape[1] not in (sides, sides + 1):
            raise ValueError(f"boxes must have shape {shapes} of {kind}, {corners}, got {tuple(boxes.shape)}")
        if boxes.shape[1] == sides and len(boxes) != count:
            raise ValueError(
                f"{len(boxes)} boxes of shape (B, {sides}) for {count} images: give one an image, or "
                f"(K, {sides + 1}) rows"
            )
        return boxes
    if not isinstance(boxes, Sequence) or isinstance(boxes, str):
        raise TypeError(f"boxes must be a tensor or a list of tensors, got {type(boxes).__name__}")
    if len(boxes) != count:
        raise ValueError(f"a list of boxes of {len(boxes)} images for {count} images")
    rows = [torch.empty((0, sides + 1), dtype=torch.float64, device=device)]
    for b, boxes_of_image in enumerate(boxes):
        if not isinstance(boxes_of_image, Tensor):
            raise TypeError(f"boxes[{b}] must be a torch.Tensor, got {type(boxes_of_image).__name__}")
        places = _check_numbers(f"boxes[{b}]", boxes_of_image, device).to(torch.float64)
        if places.ndim != 2 or places.shape[1] != sides:
            raise ValueError(f"boxes[{b}] must have shape (L, {sides}) of {kind}, got {tuple(places.shape)}")
        rows.append(torch.cat([places.new_full((len(places), 1), float(b)), places], 1))
    return torch.cat(rows)


def _check_numbers(name: str, boxes: Tensor, device: torch.device) -> Tensor:
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers, got {boxes.dtype}")
    if boxes.device != device:
        raise ValueError(f"{name} are on {boxes.device}, images on {device}: move them to one device")
    # exact in any type that kernels read; others are converted
    return boxes.detach() if boxes.dtype in _BOX_DTYPES else boxes.detach().to(torch.float64)


def check_spacing(
    spacing: Spacing | None, count: int, device: torch.device, dimensions: int, check_values: bool
) -> tuple[Tensor | None, tuple[float, ...]]:
    """Return the spacing of each image (B, 3) float64 z, y, x, or None and one triple for all images; z is 1 in 2D.

    Numbers of the host stay a triple, since they need no copy to a device. Without ``check_values`` nothing waits for a
    device: a spacing on that of the images is not looked at, and one that lies elsewhere is refused.
    """
    order = "(y, x)" if dimensions == 2 else "(z, y, x)"
    lifted = (1.0,) * (3 - dimensions)
    if spacing is None:
        return None, (1.0, 1.0, 1.0)
    if (
        isinstance(spacing, (tuple, list))
        and len(spacing) == dimensions
        and all(isinstance(s, (float, int)) for s in spacing)
    ):
        sides = tuple(float(s) for s in spacing)  # without a tensor: tracing has none with values
        if not all(0 < side < math.inf for side in sides):
            raise ValueError(f"spacing must be finite and above 0, got {list(spacing)}")
        return None, lifted + sides
    try:
        if isinstance(spacing, Tensor) and spacing.is_complex():
            raise TypeError("complex numbers")
        place = spacing.device if isinstance(spacing, Tensor) else "cpu"
        rows = torch.as_tensor(spacing, dtype=torch.float64, device=place).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"spacing must be numbers {order}, for all or one row an image, got {spacing!r}") from error
    if rows.shape not in ((dimensions,), (count, dimensions)):
        kind = "2D images" if dimensions == 2 else "volumes"
        raise ValueError(
            f"spacing of {kind} must have shape ({dimensions},) or ({count}, {dimensions}), in the order {order}, "
            f"got {tuple(rows.shape)}"
        )
    if not check_values:
        if rows.device != device:
            raise ValueError(
                f"spacing is on {rows.device}, images on {device}, and copying it would wait: give "
                f"{dimensions} numbers {order}, or move it with .to({str(device)!r}) beforehand"
            )
        return _lift(rows.expand(count, dimensions)), (1.0, 1.0, 1.0)
    if not bool((rows.isfinite() & (rows > 0)).all()):
        raise ValueError(f"spacing must be finite and above 0, got {rows.tolist()}")
    if rows.device.type == "cpu" and rows.ndim == 1:
        return None, lifted + tuple(rows.tolist())
    return _lift(rows.to(device).expand(count, dimensions)), (1.0, 1.0, 1.0)


def _lift(rows: Tensor) -> Tensor:
    """Return spacings (B, 2) with z = 1 before them; (B, 3) as they are."""
    return rows if rows.shape[1] == 3 else torch.cat([torch.ones_like(rows[:, :1]), rows], 1)
