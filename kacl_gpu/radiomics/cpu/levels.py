"""Grey-level discretisation: from intensities to level volumes, edge by edge as PyRadiomics compares them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..columns import MOMENTS
from ..status import Status
from ._compile import jit
from ._regions import Array, at, volume
from ._threads import for_each


def image_moments(images: Array, image_size: Array | None) -> Array:
    """Return mean and deviation of each whole image, as ``SimpleITK.Normalize`` has them: (B, D, H, W) -> (B, 2)."""
    out = np.empty((len(images), len(MOMENTS)))

    def task(b: int) -> None:
        depth, height, width = images.shape[1:] if image_size is None else image_size[b]
        pixels = images[b, :depth, :height, :width].astype(np.float64).ravel()
        with np.errstate(all="ignore"):
            n, s, q = pixels.size, np.add.reduce(pixels), np.add.reduce(pixels * pixels)
            out[b] = s / n, np.sqrt((q - s * s / n) / (n - 1))
        if n and pixels.min() == pixels.max():  # a flat image has no deviation, whatever rounding says
            out[b] = pixels[0], 0.0

    for_each(task, len(images), images.size)
    return out


def cut(images: Array, b: int, box: Array) -> Array:
    """Return the voxels of a box of image b, as a view of shape (D, H, W)."""
    z0, y0, x0, z1, y1, x1 = box.tolist()
    return images[b, z0:z1, y0:y1, x0:x1]


def intensities(
    images: Array, moments: Array | None, b: int, box: Array, normalize_scale: float, remove_outliers: float
) -> Array:
    """Return the pixels of a box in float64.

    They are normalised if ``moments`` are given and clipped if the limit is above 0.
    """
    values = cut(images, b, box).astype(np.float64)
    if moments is None:
        return values
    mean, sd = moments[b]
    with np.errstate(all="ignore"):  # a flat image has sd 0: its regions become NaN and are reported as not finite
        values = (values + -mean) * (1.0 / sd)
    if remove_outliers > 0:
        values = np.clip(values, -remove_outliers, remove_outliers)
    return values * normalize_scale


def small_integers(images: Array, moments: Array | None) -> Array | None:
    """Return the images, if their intensities are integers of at most 32 bits, which can be counted by value."""
    if moments is not None or images.dtype.kind not in "iub" or images.dtype.itemsize > 4:
        return None
    return images.view(np.uint8) if images.dtype.kind == "b" else images


@jit
def count(values: Array, first: int, out: Array) -> None:
    """Add to ``out`` how often each of the integers first, first + 1, ... occurs in ``values`` (n,)."""
    for v in values:
        out[at(np.int64(v) - first)] += 1


def discretise(
    images: Array,
    masks: Array | None,
    moments: Array | None,
    image_index: Array,
    box: Array,
    status: Array,
    start: Array,
    size: Array,
    *,
    labels: Array | None,
    total: int,
    narrow: bool,
    bin_width: float,
    bin_count: int,
    max_levels: int,
    normalize_scale: float,
    remove_outliers: float,
    resegment_range: Sequence[float],
    resegment_mode: str,
    resegment_shape: bool,
    minimum_roi_dimensions: int,
    minimum_roi_size: int,
    distances: Sequence[int],
    force2d_dimension: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.discretise`."""
    levels = np.zeros(total, np.uint8 if narrow else np.int16)
    shape_mask = np.zeros(total if resegment_range else 0, np.uint8)
    n_levels, span = np.zeros(len(box), np.int64), np.zeros(len(box))
    status = status.copy()
    integers, distance = small_integers(images, moments), min(distances, default=0)

    def task(k: int) -> None:
        if status[k] != Status.OK:
            return
        b = image_index[k]
        if integers is None or resegment_range:
            values = intensities(images, moments, b, box[k], normalize_scale, remove_outliers)
        else:
            values = cut(integers, b, box[k])
        inside = None if masks is None or labels is None else cut(masks, b, box[k]) == labels[k]
        inside = None if inside is None or inside.all() else inside  # None: all of the box
        checks = force2d_dimension, minimum_roi_dimensions, minimum_roi_size
        status[k] = extent_status(values.shape, inside, 0 if resegment_range else distance, *checks)
        if status[k] == Status.OK and resegment_range:
            region = np.ones(values.shape, np.bool_) if inside is None else inside
            inside = resegment(values, region, resegment_range, resegment_mode)
            few = np.count_nonzero(inside) <= 1
            status[k] = Status.RESEGMENTED_AWAY if few else extent_status(values.shape, inside, distance, *checks)
            if status[k] == Status.OK:
                # PyRadiomics crops the mask of the shape features to the box of the resegmented one; so do we.
                shape_inside = inside if resegment_shape else region & bounding_box(inside)
                volume(shape_mask, start, size, k)[:] = shape_inside
        if status[k] != Status.OK:
            return
        pixels = values if inside is None else values[inside]
        lo, hi = float(pixels.min()), float(pixels.max())
        if not (math.isfinite(lo) and math.isfinite(hi)):
            status[k] = Status.NOT_FINITE
        # before its edges are laid out in memory; intensities near the largest float64 have none beyond them
        elif bin_width and not ((hi - lo) / bin_width <= 2 * max_levels and hi + 2 * bin_width < math.inf):
            status[k] = Status.TOO_MANY_LEVELS
        else:
            if bin_count:
                edges = edges_by_count(lo, hi, bin_count)
            else:
                edges = edges_by_width(lo, hi, bin_width) if bin_width else np.array([lo, np.inf])
            ng = int(np.searchsorted(edges, hi, "right"))
            if edges.size < 2 or ng < 1 or (np.diff(edges) <= 0).any():  # numpy.histogram refuses these
                status[k] = Status.TOO_NARROW
            elif ng > max_levels:
                status[k] = Status.TOO_MANY_LEVELS
            else:
                block = volume(levels, start, size, k)
                region = np.ones(values.shape, np.bool_) if inside is None else inside
                if integers is not None and hi - lo < pixels.size:  # each value once, and then a table
                    table = np.searchsorted(edges, np.arange(lo, hi + 1), "right").astype(block.dtype)
                    look_up(cut(integers, b, box[k]), region, int(lo), table, block)
                else:
                    digitise(values.astype(np.float64, copy=False), region, edges, block)
                n_levels[k], span[k] = ng, hi - lo

    for_each(task, len(box), total if integers is None else total // 4)  # counting takes a quarter of the time
    return levels, shape_mask, n_levels, span, status


def extent_status(
    box: tuple[int, ...],
    inside: Array | None,
    distance: int,
    force2d_dimension: int,
    minimum_dimensions: int,
    minimum_size: int,
) -> Status:
    """Check a mask as PyRadiomics does: more than a pixel, enough dimensions and pixels, room for ``distance``."""
    extent, pixels = box, int(np.prod(box))
    if inside is not None:
        bounds = bounds_of(inside)
        if bounds is None:
            return Status.EMPTY
        extent, pixels = tuple(last - first for first, last in bounds), int(np.count_nonzero(inside))
    dimensions = sum(int(n > 1) for n in extent)
    if dimensions == 0:
        return Status.SINGLE_PIXEL
    if dimensions < minimum_dimensions:
        return Status.TOO_FEW_DIMENSIONS
    if minimum_size and pixels <= minimum_size:
        return Status.TOO_SMALL
    in_plane = [n for axis, n in enumerate(extent) if axis != force2d_dimension]
    return Status.DISTANCES if distance >= max(in_plane) else Status.OK


def bounds_of(inside: Array) -> list[tuple[int, int]] | None:
    """Return the first index and the one past the last of True along each axis; None if there is none."""
    bounds = []
    for axis in range(inside.ndim):
        places = np.flatnonzero(inside.any(tuple(other for other in range(inside.ndim) if other != axis)))
        if len(places) == 0:
            return None
        bounds.append((int(places[0]), int(places[-1]) + 1))
    return bounds


@np.errstate(over="ignore", invalid="ignore")
def resegment(values: Array, inside: Array, thresholds: Sequence[float], mode: str) -> Array:
    """Return the pixels of the region within one or two thresholds.

    The thresholds are absolute, times the maximum, or in sigma from the mean.
    """
    limits: list[Any] = sorted(thresholds)
    if mode == "relative":
        limits = [values[inside].max() * t for t in limits]
    elif mode == "sigma":
        pixels = values[inside]  # NumPy's own mean and deviation: a pixel may lie exactly on the threshold
        limits = [np.mean(pixels) + np.std(pixels) * t for t in limits]
    above = inside & (values >= limits[0])
    return above if len(limits) == 1 else above & (values <= limits[1])


def bounding_box(inside: Array) -> Array:
    """Return True in the smallest box that holds all of ``inside``."""
    box_mask = np.zeros_like(inside)
    box_mask[tuple(slice(*bounds) for bounds in bounds_of(inside) or ())] = True
    return box_mask


@np.errstate(over="ignore", invalid="ignore")
def edges_by_count(lo: float, hi: float, count: int) -> Array:
    """Return ``numpy.histogram``'s edges of ``count`` equal bins, the last moved up by 1: the maximum is inside."""
    if lo == hi:
        lo, hi = lo - 0.5, hi + 0.5
    edges = np.arange(count + 1) * ((hi - lo) / count) + lo
    edges[-1] = hi + 1
    return edges


def edges_by_width(lo: float, hi: float, width: float) -> Array:
    """Return edges at multiples of the width from below the minimum to beyond the maximum.

    They are rounded as by ``numpy.arange``.
    """
    return np.arange(lo - np.float64(lo) % width, hi + 2 * width, width)


@jit
def digitise(values: Array, inside: Array, edges: Array, levels: Array) -> None:
    """Write how many edges are <= each pixel inside: ``numpy.digitize``, by a guess that the edges then correct."""
    first, per_step, highest = edges[0], 1.0 / (edges[1] - edges[0]), float(edges.size)
    depth, height, width = values.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if inside[z, y, x]:
                    v = values[z, y, x]
                    guess = (v - first) * per_step + 1.0  # NaN if the range is infinite
                    level = int(min(guess, highest)) if guess >= 1.0 else 1
                    while level < edges.size and v >= edges[level]:
                        level += 1
                    while v < edges[level - 1]:
                        level -= 1
                    levels[z, y, x] = level


@jit
def look_up(values: Array, inside: Array, first: int, table: Array, levels: Array) -> None:
    """Write table[value - first] for each pixel inside."""
    depth, height, width = values.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if inside[z, y, x]:
                    levels[z, y, x] = table[at(np.int64(values[z, y, x]) - first)]


def level_histogram(levels: Array, start: Array, size: Array, ng: int) -> Array:
    """Return pixels per grey level: (K, ng) int32."""
    counts = np.zeros((len(start), ng + 1), np.int64)

    def task(k: int) -> None:
        count(volume(levels, start, size, k).ravel(), 0, counts[k])

    for_each(task, len(start), len(levels))
    return counts[:, 1:].astype(np.int32)
