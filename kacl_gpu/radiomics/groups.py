"""The regions of a call in groups, each on images that form one tensor: lists of images may have any sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import Boxes, Spacing, check_boxes, check_image_list, check_label_values, check_same_shape, check_spacing
from .columns import SIZE
from .regions import Images, Labels, Regions, cut_to_labels, limit_size, locate, make_regions, reasons
from .settings import RadiomicsSettings

PADDING = 2  # times their own voxels that images of several sizes may take together
FEW_VOXELS = 1 << 16  # that padding may always take


@dataclass(frozen=True)
class Group:
    """Regions of images that form one tensor, and their places in the call."""

    regions: Regions
    images: tuple[int, ...] | None  # the number of each image in the call; None: as it is
    keys: Tensor | None  # (K,) by which the rows of all groups are ordered; None: the only group


@dataclass(frozen=True)
class Groups:
    """The regions of a call."""

    groups: list[Group]
    count: int  # images of the call
    boxes: Tensor | None  # as they were passed: one per image, or rows with an image index

    def join(self, tables: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return features and status of the call from those of each group."""
        if len(tables) == 1 and self.groups[0].keys is None:
            return tables[0]
        order = self._order()
        features, status = (torch.cat(parts)[order] for parts in zip(*tables))
        return features, status

    def _order(self) -> Tensor:
        return torch.argsort(torch.cat([group.keys for group in self.groups if group.keys is not None]), stable=True)

    def describe(self, status: Tensor, settings: RadiomicsSettings) -> str:
        """Return one message that names each region that cannot be computed, with its box as it was passed, and why."""
        order = self._order().argsort() if self.groups[0].keys is not None else torch.arange(len(status))
        order = order.to(status.device)
        passed = None if self.boxes is None else self.boxes.to(torch.float64)
        lines, first = {}, 0
        for group in self.groups:
            regions = group.regions
            rows = order[first : first + len(regions)].tolist()
            first += len(regions)
            codes = status[rows] if group.keys is not None else status
            for place, why in reasons(regions, codes, settings, last_image=self.count - 1).items():
                row, of_group = rows[place], int(regions.image_index[place])
                image = float(of_group if group.images is None else group.images[of_group])
                if passed is None:
                    depth, height, width = regions.images.shape[1:] if regions.image_size is None else (
                        regions.image_size[of_group].tolist()
                    )  # fmt: skip
                    near, far = [0, 0, 0], [width, height, depth]
                    box = [*near[: regions.dimensions], *far[: regions.dimensions]]
                elif passed.shape[1] % 2:
                    image, *box = passed[row].tolist()
                else:
                    image, box = float(row), passed[row].tolist()
                label = "" if passed is not None or regions.labels is None else f", label {int(regions.labels[place])}"
                box_text = ", ".join(f"{v:g}" for v in box)
                lines[row] = f"row {row} (image {image:g}, box [{box_text}]{label}): {why}"
        return f"{len(lines)} of {len(status)} regions cannot be computed: " + "; ".join(
            lines[k] for k in sorted(lines)
        )


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
        rows = None if boxes is None else check_boxes(boxes, len(images), images.device, regions.dimensions)
        return Groups([Group(limit_size(regions, settings.max_region), None, None)], len(images), rows)
    if not isinstance(images, Sequence) or isinstance(images, str):
        raise TypeError(f"images must be a torch.Tensor or a list of them, got {type(images).__name__}")
    volumes, dimensions = check_image_list(images, "images")
    maps = None if masks is None else _check_mask_list(masks, volumes, dimensions)
    if boxes is None and maps is None:
        raise ValueError("neither boxes nor masks given: pass boxes, masks or both")
    device = volumes[0].device
    rows = None if boxes is None else check_boxes(boxes, len(volumes), device, dimensions)
    of_images, voxel = check_spacing(spacing, len(volumes), device, dimensions, check_values)
    members = [*range(len(volumes))]
    parts = [members] if not check_values else [*_batches(volumes, settings.memory_limit // 8)]
    places = None if len(parts) == 1 or rows is None else _places(rows, len(volumes))
    groups = []
    for part in parts:
        batch, size = _stack([volumes[b] for b in part])
        batch_masks = None if maps is None else _stack([maps[b] for b in part])[0]
        own_rows, own_labels, keys = rows, labels, None
        if len(parts) > 1:
            index = torch.tensor(part, device=device)
            if places is not None:
                keys, own_rows = _rows_of(part, places, rows, is_first=part is parts[0])
                if isinstance(labels, Tensor) and labels.shape == (len(places),):
                    own_labels = labels[keys]
        own_spacing = of_images if of_images is None or len(parts) == 1 else of_images[part]
        regions = locate(*(batch, own_rows, batch_masks, own_spacing, size), dimensions=dimensions, voxel=voxel)
        regions = limit_size(cut_to_labels(regions, own_rows, own_labels, check_values), settings.max_region)
        if len(parts) > 1 and keys is None:
            keys = index[regions.image_index]
        groups.append(Group(regions, tuple(part), keys))
    return Groups(groups, len(volumes), rows)


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


def _places(rows: Tensor, count: int) -> list[int]:
    """Return the image of each row of boxes, -1 for an index that is none."""
    if rows.shape[1] % 2 == 0:
        return [*range(len(rows))]
    index = rows[:, 0].to(torch.float64).tolist()
    return [int(b) if 0 <= b < count and b == int(b) else -1 for b in index]


def _rows_of(part: list[int], places: list[int], rows: Tensor | None, *, is_first: bool) -> tuple[Tensor, Tensor]:
    """Return which rows of boxes are those of these images, and the rows with the image's number among them.

    Rows whose image does not exist belong to the first part.
    """
    assert rows is not None
    number = {image: n for n, image in enumerate(part)} | ({-1: -1} if is_first else {})
    chosen = [row for row, image in enumerate(places) if image in number]
    keys = torch.tensor(chosen, dtype=torch.int64, device=rows.device)
    corners = rows[keys][:, rows.shape[1] % 2 :].to(torch.float64)
    index = torch.tensor([number[places[row]] for row in chosen], dtype=torch.float64, device=rows.device)
    return keys, torch.cat([index[:, None], corners], 1)
