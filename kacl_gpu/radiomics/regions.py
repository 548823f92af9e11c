"""From images, boxes and label maps to located regions, and from the status of a region to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from . import ops
from .checks import (
    Boxes,
    Spacing,
    check_boxes,
    check_images,
    check_label_values,
    check_same_shape,
    check_spacing,
    check_tensor,
)
from .columns import BOX
from .memory import max_levels
from .settings import RadiomicsSettings
from .status import Status

Images: TypeAlias = Tensor | Sequence[Tensor]
Labels: TypeAlias = int | Sequence[int] | Tensor | Literal["all"]
NAMED_LABELS = 10  # that a message lists
WIDEST_TABLE = 1 << 16  # labels up to this are found by a table, larger ones by sorting


@dataclass(frozen=True)
class Regions:
    """K regions of B images, on the images' device."""

    images: Tensor  # (B, D, H, W), D = 1 in 2D
    masks: Tensor | None  # (B, D, H, W) label maps
    labels: Tensor | None  # (K,) int64: which label of its map is the region
    image_index: Tensor  # (K,) int64
    box: Tensor  # (K, 6) int64: z0, y0, x0, z1, y1, x1, far edge exclusive, inside the image; 0 where invalid
    size: Tensor  # (K, 3) int64: depth, height, width
    spacing: Tensor  # (K, 3) float64: z, y, x
    status: Tensor  # (K,) int32, see Status
    dimensions: int  # 2 or 3
    image_size: Tensor | None = None  # (B, 3) int64: depth, height, width of each image of a padded batch

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, part: slice | Tensor) -> Regions:
        labels = None if self.labels is None else self.labels[part]
        names = "image_index", "box", "size", "spacing", "status"
        return replace(self, labels=labels, **{name: getattr(self, name)[part] for name in names})


class LabelRegions(NamedTuple):
    """The labels that label maps hold, one row per image and label: arguments of :func:`kacl_gpu.gpu_radiomics`."""

    boxes: Tensor  # (K, 5) int64: image index, x1, y1, x2, y2, or (K, 7) with z1, z2: the smallest box around the label
    labels: Tensor  # (K,) int64


def find_labels(masks: Tensor, labels: Sequence[int] | Literal["all"] = "all") -> LabelRegions:
    """Find the labels of label maps and the box around each, reading each map once.

    The rows are those of ``gpu_radiomics(images, masks=masks, labels=labels)``: by image, then by label, ascending. A
    label that an image does not have makes no row.

    Args:
        masks: (B, H, W) or (B, 1, H, W) label maps, or (B, 1, D, H, W) of volumes, of any real dtype.
        labels: which ones, at least 1; "all": every number above 0.

    Raises:
        TypeError, ValueError: another shape or dtype, a label below 1, or with "all" a value that is no whole number.

    Example:
        >>> masks = torch.tensor([[[0, 2, 2], [0, 2, 0], [7, 0, 0]]])
        >>> boxes, labels = find_labels(masks)
        >>> labels.tolist(), boxes.tolist()
        ([2, 7], [[0, 1, 0, 3, 2], [0, 0, 2, 1, 3]])
    """
    masks, dimensions = check_images(masks, "masks")
    check_label_values(masks, dimensions)
    whole_maps = locate(masks, None, masks, None, None, dimensions=dimensions, voxel=(1.0, 1.0, 1.0))
    regions = _split_labels(whole_maps, labels)
    assert regions.labels is not None
    near, far = (BOX.x0, BOX.y0, BOX.z0)[:dimensions], (BOX.x1, BOX.y1, BOX.z1)[:dimensions]
    return LabelRegions(torch.cat([regions.image_index[:, None], regions.box[:, [*near, *far]]], 1), regions.labels)


def make_regions(
    images: Tensor,
    boxes: Boxes | None,
    masks: Tensor | None,
    spacing: Spacing | None,
    *,
    labels: Labels | None = None,
    check_values: bool = True,
) -> Regions:
    """Locate the regions of a call on a batch of images; mark each that has no pixel.

    A region of a label map is cut to the smallest box around its label.

    Args:
        images, boxes, masks, spacing: as those of :func:`kacl_gpu.gpu_radiomics`, which also takes lists of images.
        labels: one label for all regions, a tensor with one per region (K,), or, without boxes, several labels or
            "all": a region for each that an image has.
        check_values: wait for a device to look at values there. Without it, labels and a spacing on the device of the
            images are not looked at here: a label below 1 is in no mask, a spacing that is wrong makes its regions
            invalid. A spacing that lies elsewhere is refused.

    Raises:
        TypeError, ValueError: shapes, types, devices or numbers that are not as expected.

    Example:
        >>> regions = make_regions(torch.zeros(2, 9, 9), torch.tensor([[1.0, 2.0, 5.5, 6.0]] * 2), None, (0.5, 2.0))
        >>> regions.image_index.tolist(), regions.box[0].tolist(), regions.spacing[0].tolist()
        ([0, 1], [0, 2, 1, 1, 6, 6], [1.0, 0.5, 2.0])
    """
    images, dimensions = check_images(images, "images")
    if masks is not None:
        masks, rank = check_images(masks, "masks")
        check_same_shape(masks, images, rank, dimensions)
        check_label_values(masks, dimensions)
    if boxes is None and masks is None:
        raise ValueError("neither boxes nor masks given: pass boxes, masks or both")
    rows = None if boxes is None else check_boxes(boxes, len(images), images.device, dimensions)
    of_images, voxel = check_spacing(spacing, len(images), images.device, dimensions, check_values)
    regions = locate(images, rows, masks, of_images, None, dimensions=dimensions, voxel=voxel)
    return cut_to_labels(regions, rows, labels, check_values)


def locate(
    images: Tensor,
    rows: Tensor | None,
    masks: Tensor | None,
    spacing: Tensor | None,
    image_size: Tensor | None,
    *,
    dimensions: int,
    voxel: Sequence[float],
) -> Regions:
    """Return the regions of checked arguments before any label is looked for: of boxes, or of whole images."""
    located = ops.locate(images, rows, spacing, image_size, voxel=voxel)
    return Regions(images, masks, None, *located, dimensions=dimensions, image_size=image_size)


def cut_to_labels(regions: Regions, rows: Tensor | None, labels: Labels | None, check_values: bool) -> Regions:
    """Return the regions of ``labels``, each cut to the box around its label: see :func:`make_regions`."""
    if regions.masks is None:
        return regions
    if labels is None:
        raise ValueError("masks given without labels: say which of their labels are regions")
    if isinstance(labels, str) or (isinstance(labels, Sequence) and not isinstance(labels, Tensor)):
        if rows is not None:
            raise ValueError(f"labels={labels!r} with boxes: give one label, or a tensor with one per box, or no boxes")
        if not check_values:
            raise ValueError(
                f"labels={labels!r} would wait for the device: give one label, or a tensor, see find_labels"
            )
        return _split_labels(regions, labels)
    if isinstance(labels, Tensor):
        labels = check_label_rows(labels, len(regions), regions.images.device, check_values)
    else:
        labels = regions.image_index.new_full((len(regions),), _check_label(labels))
    return _cut(regions, labels)


def limit_size(regions: Regions, max_region: tuple[int, ...] | None) -> Regions:
    """Give regions whose box is larger than ``max_region`` in any dimension the status TOO_LARGE, and no box."""
    if max_region is None:
        return regions
    too_large = torch.zeros_like(regions.status, dtype=torch.bool)
    for axis, side in enumerate(max_region):
        too_large |= regions.size[:, axis] > side
    too_large &= regions.status == Status.OK
    return replace(
        regions,
        box=regions.box.masked_fill(too_large[:, None], 0),
        size=regions.size.masked_fill(too_large[:, None], 0),
        status=regions.status.masked_fill(too_large, int(Status.TOO_LARGE)),
    )


def _cut(regions: Regions, labels: Tensor) -> Regions:
    """Cut each region to the box around its label (K,); one without a pixel of it gets the status EMPTY."""
    assert regions.masks is not None
    box = ops.label_boxes(regions.masks, regions.image_index, regions.box, labels[:, None])[:, 0]
    valid = regions.status == Status.OK
    box = box.masked_fill((labels < 1)[:, None], 0)  # which nobody has looked at where the call must not wait
    absent = valid & (box[:, BOX.y1] <= box[:, BOX.y0])
    status = regions.status.masked_fill(absent, int(Status.EMPTY))
    return replace(regions, labels=labels, box=box, size=_size_of(box), status=status)


def _split_labels(regions: Regions, labels: Sequence[int] | str) -> Regions:
    """Return a region for each label that the map of a whole image holds, by image, then by label, ascending."""
    assert regions.masks is not None
    chosen = _present_labels(regions.masks) if labels == "all" else _check_label_list(labels)
    candidates = torch.tensor(chosen, dtype=torch.int64, device=regions.box.device)
    boxes = ops.label_boxes(regions.masks, regions.image_index, regions.box, candidates[None])
    row, place = (boxes[..., BOX.y1] > boxes[..., BOX.y0]).nonzero().unbind(1)
    box = boxes[row, place]
    return replace(regions[row], labels=candidates[place], box=box, size=_size_of(box))


def _size_of(box: Tensor) -> Tensor:
    """Return depth, height and width (K, 3) of boxes (K, 6)."""
    return box[:, BOX.z1 :] - box[:, : BOX.z1]


def _present_labels(masks: Tensor) -> list[int]:
    """Return the numbers above 0 in label maps, ascending.

    Raises:
        ValueError: one of them is no whole number.
    """
    if masks.numel() == 0:
        return []
    if not masks.is_floating_point():
        masks = masks.view(torch.int64) if masks.dtype == torch.uint64 else masks
        masks = (
            masks if masks.dtype == torch.int64 else masks.to(torch.int32 if masks.element_size() < 4 else torch.int64)
        )
        low, high = (int(value) for value in torch.aminmax(masks))
        if low >= 0 and high < WIDEST_TABLE:
            is_present = torch.zeros(high + 1, dtype=torch.bool, device=masks.device)
            for mask in masks:
                is_present[mask.flatten()] = True
            return [int(label) for label in is_present[1:].nonzero().flatten() + 1]
    values = torch.unique(masks)
    values = values[values > 0]
    if values.is_floating_point() and bool((odd := (values != values.floor()) | (values >= 2.0**63)).any()):
        odd = float(values[odd][0])
        raise ValueError(f'labels="all": masks hold {odd:g}, which is no whole number')
    return [int(value) for value in values.tolist()]


def _check_label(label: object) -> int:
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise TypeError(f'labels must be an integer, several, or "all", got {label!r}')
    number = int(label.__index__())
    if not 1 <= number < 2**63:
        raise ValueError(f"labels must be at least 1, got {number}")
    return number


def _check_label_list(labels: Sequence[int] | str) -> list[int]:
    if isinstance(labels, str):
        raise ValueError(f'labels must be an integer, several, or "all", got {labels!r}')
    return sorted({_check_label(label) for label in labels})


def check_label_rows(labels: Tensor, count: int, device: torch.device, check_values: bool) -> Tensor:
    """Return labels (K,), one for each of ``count`` regions on this device, as int64.

    Raises:
        TypeError, ValueError: another dtype, number or device; with ``check_values`` a label below 1.
    """
    if labels.shape != (count,):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} for {count} regions: give one per region, or a list of "
            "labels to look for in each"
        )
    check_tensor("labels", labels, "integer", (count,), device)
    labels = labels.to(torch.int64)
    if check_values and bool((wrong := labels < 1).any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(f"labels must be at least 1, got {int(labels[row])} in row {row}: 0 is outside of all regions")
    return labels


def reasons(
    regions: Regions, status: Tensor, settings: RadiomicsSettings, *, last_image: int | None = None
) -> dict[int, str]:
    """Return why each region that cannot be computed cannot: row -> words, with the facts of the call.

    Args:
        regions: the K regions.
        status: (K,) codes of :class:`Status`.
        settings: those of the call.
        last_image: the highest index of an image; None: that of the regions' images.
    """
    facts: dict[str, object] = {"last_image": len(regions.images) - 1 if last_image is None else last_image}
    in_space = regions.dimensions == 3
    facts |= {"s": settings, "and_z": " and z2 > z1" * in_space, "sides": "depth x " * in_space + "height x width"}
    facts["max_levels"] = max_levels(regions, settings)
    words = {}
    present: dict[int, list[float]] = {}  # per image, for many regions may lack their label
    for row in status.nonzero().flatten().tolist():
        code, image = Status(int(status[row])), int(regions.image_index[row])
        facts["extent"] = " x ".join(map(str, size_of_image(regions, image)))
        if code == Status.EMPTY and regions.masks is not None and regions.labels is not None:
            label = int(regions.labels[row])
            if image not in present:
                present[image] = torch.unique(regions.masks[image].to(torch.float64)).tolist()
            facts["label"], facts["others"] = label, _other_labels(present[image], label)
        words[row] = code.detailed(**facts)
    return words


def size_of_image(regions: Regions, image: int) -> list[int]:
    """Return height and width of an image, of a volume depth before them."""
    size = [*regions.images.shape[1:]] if regions.image_size is None else regions.image_size[image].tolist()
    return size[-regions.dimensions :]


def _other_labels(present: Sequence[float], label: int) -> str:
    """Return what a label map with these values holds instead of a label, in words; nothing where it holds it."""
    if label in present:
        return ""
    return f": label {label} is not in the mask, which has {list_labels(present) or 'none'}"


def list_labels(present: Sequence[float]) -> str:
    """Return the values of a label map but 0 in words: at most ten, then how many more; empty if there are none."""
    labels = [value for value in present if value != 0]
    listed = ", ".join(f"{value:.17g}" for value in labels[:NAMED_LABELS])
    return f"{listed} and {len(labels) - NAMED_LABELS} more" if len(labels) > NAMED_LABELS else listed
