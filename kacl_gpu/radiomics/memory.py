"""Bounds on memory: how many regions are computed at once, and how many grey levels a region may have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .constants import MAX_LEVELS, small_zones
from .settings import RadiomicsSettings
from .volumes import aligned, flat_axis, half_offsets, largest_region

if TYPE_CHECKING:
    from .regions import Regions

# Types whose values are all below 2^53, so that float64 tells each from the next integer
NARROW = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.int8, torch.int16, torch.int32, torch.float16),
}


class Bounds(NamedTuple):
    """Upper bounds over all regions of a call; matrices are allocated at these sizes."""

    ng: int  # grey levels
    longest: int  # side of a box, and so the longest run
    pixels: int  # of a box

    @classmethod
    def of_values(cls, size: Tensor, n_levels: Tensor) -> Bounds:
        """Return the bounds of boxes of ``size`` (K, 3) and highest levels (K,)."""
        if not len(size):
            return cls(1, 1, 1)
        return cls(*(max(int(bound), 1) for bound in (n_levels.max(), size.max(), size.prod(1).max())))

    @classmethod
    def of_shape(cls, regions: Regions, levels: int, settings: RadiomicsSettings) -> Bounds:
        """Return the bounds of any region in images of this shape, which need no value of a device."""
        sides = largest_region(regions, settings)
        return cls(levels, max(*sides, 1), max(math.prod(sides), 1))


def fitting(distances: tuple[int, ...], longest_side: int) -> tuple[int, ...]:
    """Return the distances at which a box of this side can hold pairs, or else 1."""
    return tuple(d for d in distances if d < longest_side) or (1,)


def zone_bound(pixels: int, ng: int) -> int:
    """Return the most pairs of level and size that zones can have.

    n zones that all differ in level or size hold at least n^2 / (2 ng) pixels: sizes 1, 2, ... at every level.
    """
    return max(min(pixels, math.isqrt(2 * pixels * ng)), 1)


def matrix_bytes(bounds: Bounds, settings: RadiomicsSettings, dimensions: int, on_cpu: bool) -> int:
    """Return an upper bound in bytes on the matrices of one region and what is computed from them."""
    ng, max_run, pixels = bounds
    plane = flat_axis(dimensions, settings)
    near = len(half_offsets((1,), dimensions, plane)) // 3
    directions = len(half_offsets(fitting(settings.distances, max_run), dimensions, plane)) // 3
    selected = settings.by_class(dimensions)
    cells = 0
    if "glcm" in selected:
        present = min(ng, pixels)  # levels, of which the CPU takes one direction at a time to float64
        cells += 4 * directions * ng * ng + 8 * directions * 16 * ng
        cells += 8 * 6 * present * present if on_cpu else 8 * 2 * directions * ng * ng
    if "glrlm" in selected:
        cells += 4 * near * ng * max_run + 8 * 4 * near * (ng + max_run)
    if "glszm" in selected:
        cells += (12 + 8 * 6) * zone_bound(pixels, ng)
        cells += 0 if on_cpu else 4 * small_zones(pixels, ng) * ng
    cells += 16 * ng * (1 + 2 * directions) * (("ngtdm" in selected) + ("gldm" in selected))
    return cells + 128 * ng + 8 * 102 * 4


def most_of_bins(regions: Regions, settings: RadiomicsSettings) -> int:
    """Return the most grey levels that the bins can make.

    One a bin; the last edge, the largest intensity plus 1, is beyond every pixel. But from 2^53 up float64 may round
    the sum to that intensity again, whose pixels then have a level of their own, as in PyRadiomics.
    """
    if settings.bin_count is None:
        return MAX_LEVELS
    return settings.bin_count + int(settings.normalize or regions.images.dtype not in NARROW)


def max_levels(regions: Regions, settings: RadiomicsSettings) -> int:
    """Return the most grey levels a region may have: the least of what is asked for, what bins make and what fits.

    What fits is what the storage and half the memory limit hold. It follows from types, shapes and settings alone.
    """
    if not settings.needs_levels:
        return 1
    sides, on_cpu = largest_region(regions, settings), regions.images.device.type == "cpu"
    low, high = 1, min(settings.max_levels or MAX_LEVELS, most_of_bins(regions, settings), MAX_LEVELS)
    while low < high:  # the largest that fits, by bisection
        middle = (low + high + 1) // 2
        bounds = Bounds(middle, max(sides), math.prod(sides))
        if matrix_bytes(bounds, settings, regions.dimensions, on_cpu) <= settings.memory_limit // 2:
            low = middle
        else:
            high = middle - 1
    return low


def split(costs: list[int], limit: int) -> Iterator[slice]:
    """Yield consecutive slices whose costs add up to at most ``limit``, or of one item; of nothing one empty slice."""
    first, total = 0, 0
    for k, cost in enumerate(costs):
        if k > first and total + cost > limit:
            yield slice(first, k)
            first, total = k, 0
        total += cost
    yield slice(first, len(costs))


def chunks(regions: Regions, settings: RadiomicsSettings, static: bool) -> Iterator[Regions]:
    """Yield the regions in parts whose level volumes (int16), masks and scratch take a quarter of the limit at most."""
    if static:  # each as large as a region may be
        costs = [3 * aligned(math.prod(largest_region(regions, settings))) + 256] * len(regions)
    else:
        costs = (3 * aligned(regions.size.prod(1)) + 256).tolist()
    for rows in split(costs, settings.memory_limit // 4):
        yield regions[rows]


def pixel_bytes(pixels: int, settings: RadiomicsSettings, dimensions: int, on_cpu: bool) -> int:
    """Return an upper bound in bytes on the scratch of one region's operators, beside that of the CPU's threads.

    Union-find takes two numbers a pixel and the lists of zones; the selection of percentiles, histograms of digits; the
    diameter of a mask, the outermost vertices of its half lines.
    """
    selected, block = settings.by_class(dimensions), aligned(pixels)
    of_class = {"glszm": 9 * block, "firstorder": 2**14 + block // 16, "shape2D": block // 2 + 256, "shape": 8 * block}
    return 0 if on_cpu else sum(bytes_ for name, bytes_ in of_class.items() if name in selected)


def matrix_chunks(regions: Regions, bounds: Bounds, settings: RadiomicsSettings) -> Iterator[slice]:
    """Yield the rows of these regions in parts whose matrices take at most half the memory limit."""
    on_cpu = regions.images.device.type == "cpu"
    cost = matrix_bytes(bounds, settings, regions.dimensions, on_cpu)
    cost += pixel_bytes(bounds.pixels, settings, regions.dimensions, on_cpu)
    return split([cost] * len(regions), settings.memory_limit // 2)
