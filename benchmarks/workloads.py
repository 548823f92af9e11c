"""What is measured: images, boxes and settings, the same for every peer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings


class Workload(NamedTuple):
    """K regions: images (B, H, W) uint8, rows (K, 5) of image index and box."""

    name: str
    images: Tensor
    rows: Tensor
    settings: RadiomicsSettings

    @property
    def mean_pixels(self) -> float:
        """Of a region."""
        sides = self.rows[:, 3:].ceil() - self.rows[:, 1:3].floor()
        return float(sides.prod(1).mean())


THIRTY_TWO_BINS = RadiomicsSettings(bin_count=32)


def synthetic_radiographs(count: int, size: int, seed: int = 0) -> Tensor:
    """8-bit images with the texture of a radiograph: a smooth field and noise of several scales."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(count, 1, size, size)
    for cells, weight in ((4, 1.0), (16, 0.4), (64, 0.15), (size, 0.06)):
        field = torch.randn(count, 1, cells, cells, generator=generator) * weight
        image += torch.nn.functional.interpolate(field, size=(size, size), mode="bilinear")
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return ((image - low) / (high - low) * 255).to(torch.uint8)[:, 0]


def whole_224(count: int = 64) -> Workload:
    """64 whole images of 224 x 224."""
    rows = torch.tensor([0.0, 0.0, 0.0, 224.0, 224.0]).repeat(count, 1)
    rows[:, 0] = torch.arange(count)
    return Workload("64 whole images of 224 x 224", synthetic_radiographs(count, 224), rows, THIRTY_TWO_BINS)


def heatmap_boxes_224(count: int = 64, seed: int = 0) -> Workload:
    """64 images of 224 x 224 with boxes of the size that Grad-CAM gives, 100 x 110 in the mean."""
    generator = np.random.default_rng(seed)
    side = generator.integers((40, 50), (161, 171), (count, 2))
    first = generator.integers(0, 225 - side)
    rows = torch.from_numpy(np.concatenate([np.arange(count)[:, None], first, first + side], 1)).double()
    return Workload("64 Grad-CAM boxes in 224 x 224", synthetic_radiographs(count, 224), rows, THIRTY_TWO_BINS)


def whole_1024(count: int = 64) -> Workload:
    """Whole images of 1024 x 1024."""
    images = synthetic_radiographs(8, 1024)
    several = torch.stack([images[n % 8].roll(n // 8, -1) for n in range(count)])
    rows = torch.tensor([0.0, 0.0, 0.0, 1024.0, 1024.0]).repeat(count, 1)
    rows[:, 0] = torch.arange(count)
    return Workload(f"{count} whole images of 1024 x 1024", several, rows, THIRTY_TWO_BINS)


def boxes_1024(count: int = 64, seed: int = 0) -> Workload:
    """Drawn images with boxes of about the size of NIH's official ones, 91,000 pixels in the mean."""
    generator = np.random.default_rng(seed)
    side = generator.integers(150, 453, (count, 2))
    first = generator.integers(0, 1025 - side)
    rows = np.concatenate([np.arange(count)[:, None], first, first + side], 1)
    images = synthetic_radiographs(8, 1024)
    several = torch.stack([images[n % 8].roll(n // 8, -1) for n in range(count)])
    name = f"{count} drawn boxes on images of 1024 x 1024"
    return Workload(name, several, torch.from_numpy(rows).double(), THIRTY_TWO_BINS)


def official_boxes_1024(regions: int | None = None) -> Workload | None:
    """Real chest X-rays of 1024 x 1024 with their official boxes, as many as asked for, some of them twice.

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
    """All that can be measured here."""
    official = official_boxes_1024()
    return [whole_224(), heatmap_boxes_224(), *([official] if official else [])]
