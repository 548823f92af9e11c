"""What is measured: images, boxes and settings, the same for every peer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kacl_gpu import RadiomicsSettings


class Workload(NamedTuple):
    """K regions: images (B, H, W) uint8, rows (K, 5) of image index and box, masks (B, H, W) uint8 or none."""

    name: str
    images: Tensor
    rows: Tensor
    settings: RadiomicsSettings
    masks: Tensor | None = None

    @property
    def pixels(self) -> Tensor:
        """Return the pixels (K,) of each region."""
        if self.masks is not None:
            return self.masks.sum((1, 2))[self.rows[:, 0].long()].double()
        return (self.rows[:, 3:].ceil() - self.rows[:, 1:3].floor()).prod(1)

    @property
    def mean_pixels(self) -> float:
        """Return the mean number of pixels per region."""
        return float(self.pixels.mean())

    def turned(self, count: int) -> list[Workload]:
        """Return the workload several times, so that no two begin with the same pixels.

        Images rolled, or images in turn.
        """
        if self.masks is None:
            return [self._replace(images=self.images.roll(7 * n, -1)) for n in range(count)]
        return [self._replace(images=self.images.roll(n, 0), masks=self.masks.roll(n, 0)) for n in range(count)]


THIRTY_TWO_BINS = RadiomicsSettings(bin_count=32)


def synthetic_radiographs(count: int, size: int, seed: int = 0) -> Tensor:
    """Draw 8-bit images with the texture of a radiograph: a smooth field and noise of several scales."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(count, 1, size, size)
    for cells, weight in ((4, 1.0), (16, 0.4), (64, 0.15), (size, 0.06)):
        field = torch.randn(count, 1, cells, cells, generator=generator) * weight
        image += torch.nn.functional.interpolate(field, size=(size, size), mode="bilinear")
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return ((image - low) / (high - low) * 255).to(torch.uint8)[:, 0]


def heatmap_boxes_224(count: int = 64, seed: int = 0) -> Workload:
    """Return 64 images of 224 x 224 with boxes of the size that Grad-CAM gives, 100 x 110 in the mean."""
    generator = np.random.default_rng(seed)
    side = generator.integers((40, 50), (161, 171), (count, 2))
    first = generator.integers(0, 225 - side)
    rows = torch.from_numpy(np.concatenate([np.arange(count)[:, None], first, first + side], 1)).double()
    return Workload("64 Grad-CAM boxes in 224 x 224", synthetic_radiographs(count, 224), rows, THIRTY_TWO_BINS)


def whole_images(size: int, count: int) -> Workload:
    """Return whole images."""
    images = synthetic_radiographs(min(count, 8), size)
    copies = torch.stack([images[n % 8].roll(n // 8, -1) for n in range(count)])
    rows = torch.tensor([0.0, 0.0, 0.0, size, size]).repeat(count, 1).double()
    rows[:, 0] = torch.arange(count)
    return Workload(f"{count} whole images of {size} x {size}", copies, rows, THIRTY_TWO_BINS)


def whole_1024(count: int = 64) -> Workload:
    """Return whole images of 1024 x 1024."""
    return whole_images(1024, count)


def scattered(size: int = 256, count: int = 8) -> Workload:
    """Return half of the pixels, drawn one by one: as many zones as there can be."""
    generator = torch.Generator().manual_seed(0)
    work = whole_images(size, count)
    masks = (torch.rand(count, size, size, generator=generator) < 0.5).to(torch.uint8)
    noise = torch.randint(0, 256, (count, size, size), generator=generator).to(torch.uint8)
    return work._replace(name=f"{count} scattered masks in {size} x {size}", images=noise, masks=masks)


def spiral(size: int = 256, count: int = 8) -> Workload:
    """Return a line of one pixel that winds inward, with grey levels that change every few thousand pixels along it.

    Its zones are as long as they can be, so that their labels have the longest way to go.
    """
    order = torch.from_numpy(spiral_order(size))
    images = torch.stack([((order + 701 * n) // 4096 * 50 % 256).to(torch.uint8) for n in range(count)])
    masks = (order >= 0).to(torch.uint8).expand(count, -1, -1).contiguous()
    return whole_images(size, count)._replace(
        name=f"{count} spirals in {size} x {size}", images=images * masks, masks=masks
    )


def spiral_order(size: int) -> NDArray[np.int64]:
    """Number the pixels (size, size) along a spiral one pixel wide, with one pixel between its turns; else -1."""
    order = np.full((size, size), -1, np.int64)
    y = x = number = 0
    order[0, 0] = 0
    dy, dx = 0, 1
    lengths = [size - 1] * 3 + [length for step in range(3, size - 1, 2) for length in (size - step, size - step)]
    for length in lengths:
        for _ in range(length):
            y, x, number = y + dy, x + dx, number + 1
            order[y, x] = number
        dy, dx = dx, -dy
    return order


def boxes_1024(count: int = 64, seed: int = 0) -> Workload:
    """Return drawn images with boxes of about the size of NIH's official ones, 91,000 pixels in the mean."""
    generator = np.random.default_rng(seed)
    side = generator.integers(150, 453, (count, 2))
    first = generator.integers(0, 1025 - side)
    rows = np.concatenate([np.arange(count)[:, None], first, first + side], 1)
    images = synthetic_radiographs(8, 1024)
    copies = torch.stack([images[n % 8].roll(n // 8, -1) for n in range(count)])
    name = f"{count} drawn boxes on images of 1024 x 1024"
    return Workload(name, copies, torch.from_numpy(rows).double(), THIRTY_TWO_BINS)


def official_boxes_1024(regions: int | None = None) -> Workload | None:
    """Return real chest X-rays of 1024 x 1024 with their official boxes, as many as asked for, some of them twice.

    None where KACL_GPU_DATA does not name them.
    """
    folder = Path(os.environ.get("KACL_GPU_DATA", ".")) / "nih_boxed_1024"
    if not folder.is_dir():
        return None
    import pandas as pd
    from PIL import Image

    table = pd.read_csv(folder / "BBox_List_2017.csv", header=0, usecols=range(6))
    table.columns = pd.Index(["image", "label", "x", "y", "w", "h"])
    if regions:
        table = pd.concat([table] * (regions // len(table) + 1)).iloc[:regions]
    names = sorted(table["image"].unique())
    images = np.stack([np.asarray(Image.open(folder / "images" / name).convert("L")) for name in names])
    x, y, w, h = table[["x", "y", "w", "h"]].to_numpy().T
    rows = np.stack([table["image"].map(names.index), x, y, x + w, y + h], 1).astype(np.float64)
    name = f"{len(rows)} official boxes on {len(names)} X-rays of 1024 x 1024"
    return Workload(name, torch.from_numpy(images), torch.from_numpy(rows), THIRTY_TWO_BINS)


def workloads() -> list[Workload]:
    """Return those that every peer gets, the two that matter most first."""
    real = official_boxes_1024() or boxes_1024(43)
    sizes = [whole_images(size, count) for size, count in ((224, 64), (512, 16), (1024, 8), (2048, 2))]
    return [heatmap_boxes_224(), real, *sizes, scattered(), spiral()]
