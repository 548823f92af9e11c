"""The regions of a call in groups, each on images that form one tensor: lists of images may have any sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import Boxes, Spacing, check_boxes, check_image_list, check_label_values, check_same_shape, check_spacing
from .columns import SIZE
from .regions import (
    Images,
    Labels,
    Regions,
    check_label_rows,
    cut_to_labels,
    limit_size,
    locate,
    make_regions,
    reasons,
    size_of_image,
)
from .settings import RadiomicsSettings

PADDING = 2  # times their own voxels that images of several sizes may take together
FEW_VOXELS = 1 << 16  # that padding may always take


@dataclass(frozen=True)
class Groups:
    """The regions of a call."""

    groups: list[Regions]
    images: list[list[int]] | None  # the number in the call of each image of a group; None: one group, as they are
    order: (
        Tensor | None
    )  # (K,) which row of the groups, one after the other, is each row of the call; None: as they are
    count: int  # images of the call
    boxes: Boxes | None  # as they were passed

    def join(self, tables: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return features and status of the call from those of each group."""
        if self.order is None:
            return tables[0]
        features, status = (torch.cat(parts)[self.order] for parts in zip(*tables))
        return features, status

    def describe(self, status: Tensor, settings: RadiomicsSettings) -> str:
        """Return one message that names each region that cannot be computed, with its box as it was passed, and why."""
        rows = torch.arange(len(status), device=status.device) if self.order is None else self.order.argsort()
        first = self.groups[0]
        passed = None
        if self.boxes is not None:
            passed = check_boxes(self.boxes, self.count, first.images.device, first.dimensions).tolist()
        lines: dict[int, str] = {}
        for number, (regions, places) in enumerate(zip(self.groups, rows.split([len(r) for r in self.groups]))):
            words = reasons(regions, status[places], settings, last_image=self.count - 1)
            for row, why in words.items():
                place, index = int(places[row]), int(regions.image_index[row])
                image = index if self.images is None else self.images[number][index]
                if passed is None:
                    box = [0] * regions.dimensions + size_of_image(regions, index)[::-1]
                elif len(passed[place]) % 2:
                    image, *box = passed[place]
                else:
                    image, box = place, passed[place]
                label = "" if passed or regions.labels is None else f", label {int(regions.labels[row])}"
                sides = ", ".join(f"{side:g}" for side in box)
                lines[place] = f"row {place} (image {image:g}, box [{sides}]{label}): {why}"
        found = "; ".join(lines[place] for place in sorted(lines))
        return f"{len(lines)} of {len(status)} regions cannot be computed: {found}"


def make_groups(
    images: Images,
    boxes: Boxes | None,
    masks: Images | None,
    spacing: Spacing | None,
    *,
    labels: Labels,
    settings: RadiomicsSettings,
    check_values: bool = True,
) -> Groups:
    """Locate the regions of a call on a batch or on a list of images.

    Images of a list that have one size, or nearly so, are stacked, with padding that no region sees.

    Args, Raises: see :func:`kacl_gpu.radiomics.regions.make_regions`.
    """
    if isinstance(images, Tensor):
        if masks is not None and not isinstance(masks, Tensor):
            raise TypeError(f"masks must be a torch.Tensor as the images are, got {type(masks).__name__}")
        regions = make_regions(images, boxes, masks, spacing, labels=labels, check_values=check_values)
        return Groups([limit_size(regions, settings.max_region)], None, None, len(images), boxes)
    if not isinstance(images, Sequence) or isinstance(images, str):
        raise TypeError(f"images must be a torch.Tensor or a list of them, got {type(images).__name__}")
    volumes, dimensions = check_image_list(images, "images")
    maps = None if masks is None else _check_mask_list(masks, volumes, dimensions)
    if boxes is None and maps is None:
        raise ValueError("neither boxes nor masks given: pass boxes, masks or both")
    count, device = len(volumes), volumes[0].device
    rows = None if boxes is None else check_boxes(boxes, count, device, dimensions)
    if isinstance(labels, Tensor):
        labels = check_label_rows(labels, count if rows is None else len(rows), device, check_values)
    of_images, voxel = check_spacing(spacing, count, device, dimensions, check_values)
    parts = [*_batches(volumes, settings.memory_limit // 8)] if check_values else [[*range(count)]]
    places = [] if len(parts) == 1 else _places(rows, count)
    groups, keys = [], []
    for part in parts:
        batch, size = _stack([volumes[b] for b in part])
        batch_masks = None if maps is None else _stack([maps[b] for b in part])[0]
        own_rows, own_labels, own_spacing = rows, labels, of_images
        if len(parts) > 1:
            key, own_rows = _rows_of(part, places, rows, device, takes_unknown=part is parts[0])
            own_labels = labels[key] if isinstance(labels, Tensor) else labels
            own_spacing = None if of_images is None else of_images[part]
        regions = locate(batch, own_rows, batch_masks, own_spacing, size, dimensions=dimensions, voxel=voxel)
        regions = limit_size(cut_to_labels(regions, own_rows, own_labels, check_values), settings.max_region)
        groups.append(regions)
        if len(parts) > 1:  # without boxes a map may hold several of the labels
            keys.append(key if rows is not None else torch.tensor(part, device=device)[regions.image_index])
    order = torch.argsort(torch.cat(keys), stable=True) if keys else None
    return Groups(groups, parts, order, count, boxes)


def _check_mask_list(masks: Images, volumes: Sequence[Tensor], dimensions: int) -> list[Tensor]:
    if isinstance(masks, Tensor) or not isinstance(masks, Sequence) or len(masks) != len(volumes):
        got = f"{len(masks)} of them" if isinstance(masks, Sequence) else type(masks).__name__
        raise ValueError(f"masks must be a list of one label map for each of {len(volumes)} images, got {got}")
    maps, rank = check_image_list(masks, "masks")
    for place, (one, volume) in enumerate(zip(maps, volumes)):
        check_same_shape(one, volume, rank, dimensions, f"[{place}]")
        check_label_values(one, dimensions, place)
    return maps


def _batches(volumes: Sequence[Tensor], limit: int) -> Iterator[list[int]]:
    """Yield the numbers of images that are computed together: of one size, or whose padding is small.

    Args:
        volumes: (D, H, W) each.
        limit: bytes that a copy of several may take.
    """
    by_size = sorted(range(len(volumes)), key=lambda b: (volumes[b].numel(), *volumes[b].shape))
    members: list[int] = []
    voxels, extent = 0, (0, 0, 0)
    for b in by_size:
        larger = tuple(max(side, own) for side, own in zip(extent, volumes[b].shape))
        padded = (len(members) + 1) * larger[0] * larger[1] * larger[2]
        total = voxels + volumes[b].numel()
        if members and (
            padded > max(PADDING * total, FEW_VOXELS) or padded * volumes[b].element_size() > max(limit, 1)
        ):
            yield sorted(members)
            members, voxels, larger, total = [], 0, tuple(volumes[b].shape), volumes[b].numel()
        members.append(b)
        voxels, extent = total, larger  # type: ignore[assignment]
    yield sorted(members)


def _stack(volumes: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return images (D, H, W) as one (B, D, H, W), and, where they were padded, the own size of each (B, 3)."""
    if len(volumes) == 1:
        return volumes[0][None], None
    sizes = tuple(tuple(volume.shape) for volume in volumes)
    if len(set(sizes)) == 1:
        return torch.stack([*volumes]), None
    batch = volumes[0].new_zeros((len(volumes), *map(max, zip(*sizes))))
    for place, (volume, (depth, height, width)) in enumerate(zip(volumes, sizes)):
        batch[place, :depth, :height, :width] = volume
    return batch, _sizes_on(sizes, batch.device)


def _sizes_on(sizes: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """Return sizes as a tensor (B, 3) int64; filled on a device, for a copy to it might wait."""
    if device.type == "cpu":
        return torch.tensor(sizes, dtype=torch.int64)
    rows = torch.empty((len(sizes), len(SIZE)), dtype=torch.int64, device=device)
    for row, size in zip(rows, sizes):
        for axis in SIZE:
            row[axis] = size[axis]
    return rows


def _places(rows: Tensor | None, count: int) -> list[int]:
    """Return the image of each row of boxes, -1 for an index that is none; without boxes, of each whole image."""
    if rows is None or rows.shape[1] % 2 == 0:
        return [*range(count)]
    index = rows[:, 0].to(torch.float64).tolist()
    return [int(b) if 0 <= b < count and b == int(b) else -1 for b in index]


def _rows_of(
    part: list[int], places: list[int], rows: Tensor | None, device: torch.device, *, takes_unknown: bool
) -> tuple[Tensor, Tensor | None]:
    """Return which rows are those of these images, and their boxes, if any, with the image's number in the part.

    Args:
        part: the numbers of the images.
        places: the image of each row, -1 where it does not exist.
        rows, device: boxes as checked, and where images and boxes are.
        takes_unknown: rows whose image does not exist belong to this part.
    """
    number = {image: n for n, image in enumerate(part)} | ({-1: -1} if takes_unknown else {})
    chosen = [row for row, image in enumerate(places) if image in number]
    key = torch.tensor(chosen, dtype=torch.int64, device=device)
    if rows is None:
        return key, None
    corners = rows[key][:, rows.shape[1] % 2 :].to(torch.float64)
    index = torch.tensor([number[places[row]] for row in chosen], dtype=torch.float64, device=device)
    return key, torch.cat([index[:, None], corners], 1)
