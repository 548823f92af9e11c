"""How many regions are worked on at once, and how many grey levels one may have, so that the memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .settings import RadiomicsSettings
from .volumes import aligned

if TYPE_CHECKING:
    from .regions import Regions

MOST_LEVELS = 32767  # of int16
# Types whose values are all below 2^53, so that float64 tells each from the next integer
NARROW = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.int8, torch.int16, torch.int32, torch.float16),
}


class Bounds(NamedTuple):
    """What no region of a call passes: the matrices are as large as these."""

    ng: int  # grey levels
    longest: int  # side of a box, and so the longest run
    pixels: int  # of a box

    @classmethod
    def of_values(cls, size: Tensor, n_levels: Tensor) -> Bounds:
        """Of boxes (K, 3) and highest levels (K,), as tight as they are."""
        if not len(size):
            return cls(1, 1, 1)
        return cls(max(int(n_levels.max()), 1), int(size.max()), int(size.prod(1).max()))

    @classmethod
    def of_shape(cls, regions: Regions, levels: int) -> Bounds:
        """Of whatever may lie in images of this shape, without a look at a value."""
        height, width = regions.images.shape[1:]
        return cls(levels, max(height, width, 1), max(height * width, 1))


def fitting(distances: tuple[int, ...], longest_side: int) -> tuple[int, ...]:
    """The distances at which a box of this side can hold pairs; one of them at least."""
    return tuple(d for d in distances if d < longest_side) or (1,)


def zone_bound(pixels: int, ng: int) -> int:
    """n zones that all differ in level or size hold at least n^2 / (2 ng) pixels: sizes 1, 2, ... at every level."""
    return max(min(pixels, math.isqrt(2 * pixels * ng)), 1)


def matrix_bytes(ng: int, max_run: int, pixels: int, settings: RadiomicsSettings, on_cpu: bool) -> int:
    """An upper bound on the memory that the matrices of one region take, and what is computed from them."""
    directions = 4 * sum(fitting(settings.distances, max_run))
    selected = settings.by_class
    cells = 0
    if "glcm" in selected:
        present = min(ng, pixels)  # levels, of which the CPU takes one direction at a time to float64
        cells += 4 * directions * ng * ng + 8 * directions * 16 * ng
        cells += 8 * 6 * present * present if on_cpu else 8 * 2 * directions * ng * ng
    if "glrlm" in selected:
        cells += 4 * 4 * ng * max_run + 8 * 4 * 4 * (ng + max_run)
    if "glszm" in selected:
        cells += (12 + 8 * 6) * zone_bound(pixels, ng)
        cells += 0 if on_cpu else 4 * 64 * ng
    if "ngtdm" in selected or "gldm" in selected:
        cells += 32 * ng * (1 + 2 * directions)
    return cells + 128 * ng + 8 * 102 * 4


def most_of_bins(regions: Regions, settings: RadiomicsSettings) -> int:
    """The most grey levels that the bins can make.

    One a bin; the last edge, the largest intensity plus 1, is beyond every pixel. But from 2^53 up float64 may round
    the sum to that intensity again, whose pixels then have a level of their own, as in PyRadiomics.
    """
    if settings.bin_count is None:
        return MOST_LEVELS
    return settings.bin_count + int(settings.normalize or regions.images.dtype not in NARROW)


def max_levels(regions: Regions, settings: RadiomicsSettings) -> int:
    """The most grey levels a region may have: as asked, as the bins make, as fit the storage and half the memory limit.

    Follows from types, shapes and settings alone.
    """
    if not settings.needs_levels:
        return 1
    height, width = regions.images.shape[1:]
    on_cpu = regions.images.device.type == "cpu"
    low, high = 1, min(settings.max_levels or MOST_LEVELS, most_of_bins(regions, settings), MOST_LEVELS)
    while low < high:  # the largest that fits, by bisection
        middle = (low + high + 1) // 2
        if matrix_bytes(middle, max(height, width), height * width, settings, on_cpu) <= settings.memory_limit // 2:
            low = middle
        else:
            high = middle - 1
    return low


def split(costs: list[int], limit: int) -> Iterator[slice]:
    """Consecutive slices whose costs add up to at most ``limit``, or of one item; one empty slice of nothing."""
    first, total = 0, 0
    for k, cost in enumerate(costs):
        if k > first and total + cost > limit:
            yield slice(first, k)
            first, total = k, 0
        total += cost
    yield slice(first, len(costs))


def chunks(regions: Regions, settings: RadiomicsSettings, static: bool) -> Iterator[Regions]:
    """The regions in parts whose level volumes (int16), masks and measures take at most a quarter of the limit."""
    if static:  # each as large as an image
        height, width = regions.images.shape[1:]
        costs = [3 * aligned(height * width) + 256] * len(regions)
    else:
        costs = (3 * aligned(regions.size.prod(1)) + 256).tolist()
    for rows in split(costs, settings.memory_limit // 4):
        yield regions[rows]


def pixel_bytes(pixels: int, settings: RadiomicsSettings, on_cpu: bool) -> int:
    """An upper bound on what the operators of one region need beside the matrices, without those of the CPU's threads.

    Union-find takes two numbers a pixel and the lists of zones; the selection of percentiles, histograms of digits; the
    diameter of a mask, the outermost vertices of its half lines.
    """
    selected, block = settings.by_class, aligned(pixels)
    of_class = {"glszm": 9 * block, "firstorder": 2**14 + block // 16, "shape2D": block // 2 + 256}
    return 0 if on_cpu else sum(bytes_ for name, bytes_ in of_class.items() if name in selected)


def matrix_chunks(regions: Regions, bounds: Bounds, settings: RadiomicsSettings) -> Iterator[slice]:
    """The rows of these regions in parts whose matrices take at most half the memory limit."""
    on_cpu = regions.images.device.type == "cpu"
    each = matrix_bytes(*bounds, settings, on_cpu) + pixel_bytes(bounds.pixels, settings, on_cpu)
    return split([each] * len(regions), settings.memory_limit // 2)
