"""Grey-level volumes of regions: where each lies in memory, and their discretisation."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from . import ops
from .constants import MAX_NARROW_LEVELS, TILE
from .settings import RadiomicsSettings

if TYPE_CHECKING:
    from .regions import Regions

P = TypeVar("P", int, Tensor)


class LevelVolumes(NamedTuple):
    """Hold one block of D x H x W levels per region in a packed buffer: see :mod:`kacl_gpu.radiomics.ops`."""

    levels: Tensor  # (total,) uint8 or int16
    shape_mask: Tensor | None  # (total,), above 0 where the shape features see the region; None: in all of the box
    start: Tensor  # (K,) int64
    size: Tensor  # (K, 3) int64: depth, height, width
    n_levels: Tensor  # (K,) int64: the highest level present, 0 for a region that cannot be computed
    span: Tensor  # (K,) float64: largest less smallest intensity
    status: Tensor  # (K,) int32
    begin: list[int]  # K + 1: start, and the end of the last block, as the host knows them

    def part(self, k: slice) -> LevelVolumes:
        """Return the volumes of consecutive regions, with their part of the buffer."""
        first, last = self.begin[k.start], self.begin[k.stop]
        if last - first == len(self.levels):
            return self
        mask = None if self.shape_mask is None else self.shape_mask[first:last]
        begin = [n - first for n in self.begin[k.start : k.stop + 1]]
        rows = self.size[k], self.n_levels[k], self.span[k], self.status[k]
        return LevelVolumes(self.levels[first:last], mask, self.start[k] - first, *rows, begin)


def discretise(
    regions: Regions, image_moments: Tensor | None, settings: RadiomicsSettings, max_levels: int, static: bool = False
) -> LevelVolumes:
    """Return the grey levels of each region, at most ``max_levels``.

    Args:
        regions: K regions.
        image_moments: (B, 2) float64, mean and deviation by which the images are normalised first; None: they are not.
        settings, max_levels: how intensities become levels, and how many of them a region may have.
        static: make each block as large as a region may be; else blocks are as large as the boxes, which the host must
            know.
    """
    if static:
        block = aligned(max(math.prod(largest_region(regions, settings)), 1))
        start = torch.arange(0, len(regions) * block, block, device=regions.size.device)
        begin = [n * block for n in range(len(regions) + 1)]
    else:
        end = torch.cumsum(aligned(regions.size.prod(1)), 0)
        begin = [0, *end.tolist()]
        start = torch.cat([end.new_zeros(1), end])[:-1]
    classes = settings.by_class(regions.dimensions)
    plane = flat_axis(regions.dimensions, settings)
    distances: tuple[int, ...] = settings.distances if classes.keys() & {"glcm", "ngtdm", "gldm"} else ()
    if plane >= 0 and not distances and classes.keys() & {"glrlm", "glszm"}:
        distances = (1,)  # in a plane a region may be a single voxel wide
    levels, shape_mask, n_levels, span, status = ops.discretise(
        regions.images,
        regions.masks,
        image_moments,
        regions.image_index,
        regions.box,
        regions.status,
        start,
        regions.size,
        labels=regions.labels,
        total=begin[-1],
        narrow=max_levels <= MAX_NARROW_LEVELS,
        bin_width=(settings.bin_width or 0.0) if settings.needs_levels else 0.0,
        bin_count=(settings.bin_count or 0) if settings.needs_levels else 0,
        max_levels=max_levels,
        normalize_scale=settings.normalize_scale,
        remove_outliers=settings.remove_outliers or 0.0,
        resegment_range=settings.resegment_range or (),
        resegment_mode=settings.resegment_mode,
        resegment_shape=settings.resegment_shape,
        minimum_roi_dimensions=settings.minimum_roi_dimensions,
        minimum_roi_size=settings.minimum_roi_size or 0,
        distances=distances,
        force2d_dimension=plane,
    )
    mask = shape_mask if settings.resegment_range else None if regions.masks is None else levels
    return LevelVolumes(levels, mask, start, regions.size, n_levels, span, status, begin)


def aligned(pixels: P) -> P:
    """Return the next multiple of the tile."""
    return (pixels + TILE - 1) // TILE * TILE


def largest_region(regions: Regions, settings: RadiomicsSettings) -> tuple[int, ...]:
    """Return depth, height and width that no region exceeds: those of the images, or of ``settings.max_region``."""
    sides = regions.images.shape[1:]
    if settings.max_region is None:
        return tuple(sides)
    return tuple(min(side, bound) for side, bound in zip(sides, settings.max_region))


def flat_axis(dimensions: int, settings: RadiomicsSettings) -> int:
    """Return the axis across which textures have no neighbours, -1 if there is none."""
    return settings.force2d_dimension if settings.force2d and dimensions == 3 else -1


def half_offsets(distances: tuple[int, ...], dimensions: int = 2, flat: int = -1) -> list[int]:
    """Return one of each pair of opposite offsets at these distances (infinity norm), as flat z, y, x triples.

    Without those that have a step along the axis ``flat``, if that is not -1. In the order of
    ``radiomics.cMatrices.generate_angles``: 4 in two dimensions at distance 1, 13 in three.
    """
    make = _half_offsets if torch.compiler.is_compiling() else _half_offsets_once  # tracing warns of a cache
    return list(make(distances, dimensions, flat))


def _half_offsets(distances: tuple[int, ...], dimensions: int, flat: int) -> tuple[int, ...]:
    offsets = []
    for d in distances:
        steps = range(-d, d + 1)
        for z, y in itertools.product(steps if dimensions == 3 else (0,), steps):
            offsets += [(z, y, x) for x in (steps if d in (abs(z), abs(y)) else (-d, d))]
    offsets = [offset for offset in offsets if flat < 0 or offset[flat] == 0]
    half = sorted(offsets, reverse=True)[: len(offsets) // 2]  # the second half holds the opposites
    return tuple(step for offset in half for step in offset)


_half_offsets_once = cache(_half_offsets)
