"""From intensities to grey levels, compared edge by edge; and the histogram of the levels.

Tiles of pixels and regions take turns: tiles measure (extent, number of pixels, least and largest intensity, by integer
atomics), regions judge what they measured and lay out their edges, tiles write the levels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.constants import MAX_NARROW_LEVELS
from kacl_gpu.radiomics.status import Status

from .common import (
    DEPTH,
    MOMENT_COLUMNS,
    MOMENT_DEVIATION,
    MOMENT_MEAN,
    SIZE_COLUMNS,
    TILE,
    cdiv,
    constants,
    extent_of,
    kernel,
    launch,
    position,
    tile_of,
    tiles,
    tiles_of,
)
from .intensity import (
    bits_of,
    corner_of,
    elements_of,
    float_of,
    intensity,
    key_of,
    normalisation,
    readable,
    value_of,
)

LOWEST = tl.constexpr(-(2**63))
TILES = tl.constexpr(128)
EDGES = 1024  # at once

EMPTY, SINGLE_PIXEL = tl.constexpr(int(Status.EMPTY)), tl.constexpr(int(Status.SINGLE_PIXEL))
TOO_FEW_DIMENSIONS, TOO_SMALL = tl.constexpr(int(Status.TOO_FEW_DIMENSIONS)), tl.constexpr(int(Status.TOO_SMALL))
RESEGMENTED_AWAY, DISTANCES = tl.constexpr(int(Status.RESEGMENTED_AWAY)), tl.constexpr(int(Status.DISTANCES))
NOT_FINITE, TOO_NARROW = tl.constexpr(int(Status.NOT_FINITE)), tl.constexpr(int(Status.TOO_NARROW))
TOO_MANY_LEVELS = tl.constexpr(int(Status.TOO_MANY_LEVELS))

MODES = {"absolute": 0, "relative": 1, "sigma": 2}

# Columns of a region's measures (K, 10) int64, which begin at LOWEST: the largest -y, y, -x, x, key of the
# intensity and of its negative that the tiles saw; the number of voxels, counted up; the largest -z, z, but in a plane.
# The last column is free: so the rows of one phase begin at a multiple of 16 bytes, as those of the other do.
LARGEST_NEGATIVE_Y, LARGEST_Y, LARGEST_NEGATIVE_X, LARGEST_X = constants(0, 1, 2, 3)
LARGEST_KEY, LARGEST_NEGATIVE_KEY, PIXELS = constants(4, 5, 6)
LARGEST_NEGATIVE_Z, LARGEST_Z, MEASURE_COLUMNS = constants(7, 8, 10)
# Columns of its parameters (K, 4) float64: the thresholds, where the lower one holds the mean before; the first edge
# and the step between edges. Columns of its edges (K, 2) float64: the last one, and how many they are.
LOWER, UPPER, FIRST_EDGE, STEP, PARAMETER_COLUMNS = constants(0, 1, 2, 3, 4)
LAST_EDGE, EDGE_COUNT, EDGE_COLUMNS = constants(0, 1, 2)


@kernel
def image_sums(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, image_size,
    # outputs
    partial,
    # shapes
    depth, height, width, tiles,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write sum, sum of squares, least and largest value of each tile of each image: ``partial`` (B, 4, tiles)."""
    b, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    depth, height, width = extent_of(image_size, b, depth, height, width, True)
    index = tile * TILE + tl.arange(0, TILE)
    inside = index < depth * height * width
    z, y, x = position(index, depth, tl.maximum(height, 1), tl.maximum(width, 1))
    at = b * stride_b + elements_of(stride_z, stride_y, stride_x, z, y, x, depth)
    value = intensity(images, images, 0, 0, b, at, inside, False, False)
    row = partial + b * 4 * tiles + tile
    tl.store(row, tl.sum(value))
    tl.store(row + tiles, tl.sum(value * value))
    tl.store(row + 2 * tiles, tl.min(tl.where(inside, value, float("inf"))))
    tl.store(row + 3 * tiles, tl.max(tl.where(inside, value, -float("inf"))))


@kernel
def end_moments(
    # inputs
    partial, image_size,
    # outputs
    out,
    # shapes
    depth, height, width, tiles,
):  # fmt: skip
    """Compute mean and standard deviation of each image from the sums of its tiles."""
    b = tl.program_id(0).to(tl.int64)
    depth, height, width = extent_of(image_size, b, depth, height, width, True)
    s = tl.zeros((TILES,), tl.float64)
    q = tl.zeros((TILES,), tl.float64)
    minimum = tl.full((TILES,), float("inf"), tl.float64)
    maximum = tl.full((TILES,), -float("inf"), tl.float64)
    for first in range(0, tiles, TILES):  # beyond the image there is nothing to add
        tile = first + tl.arange(0, TILES)
        row, inside = partial + b * 4 * tiles + tile, tile < tiles
        s += tl.load(row, mask=inside, other=0.0)
        q += tl.load(row + tiles, mask=inside, other=0.0)
        minimum = tl.minimum(minimum, tl.load(row + 2 * tiles, mask=inside, other=float("inf")))
        maximum = tl.maximum(maximum, tl.load(row + 3 * tiles, mask=inside, other=-float("inf")))
    n = tl.sum(tl.zeros((1,), tl.float64)) + depth * height * width
    total, low = tl.sum(s), tl.min(minimum)
    mean = total / n
    deviation = tl.sqrt((tl.sum(q) - total * total / n) / (n - 1))
    flat = (low == tl.max(maximum)) & (total == total)  # equal values have no deviation, whatever rounding says
    tl.store(out + MOMENT_COLUMNS * b + MOMENT_MEAN, tl.where(flat, low, mean))
    tl.store(out + MOMENT_COLUMNS * b + MOMENT_DEVIATION, tl.where(flat, 0.0, deviation))


def image_moments(images: Tensor, image_size: Tensor | None) -> Tensor:
    """Compute moments of images; see :func:`kacl_gpu.radiomics.ops.image_moments`."""
    images = readable(images)
    count, *sides = images.shape
    tile_count = cdiv(math.prod(sides), TILE)
    out = torch.full((count, MOMENT_COLUMNS.value), torch.nan, dtype=torch.float64, device=images.device)
    if tile_count == 0:
        return out
    partial = out.new_empty((count, 4, tile_count))
    # inputs, outputs, shapes; a grid of one dimension, since the others end at 65535
    grid = (count * tile_count,)
    launch(image_sums, grid, *(images, *images.stride(), image_size), partial, *(*sides, tile_count), TILE=TILE)
    launch(end_moments, (count,), *(partial, image_size), out, *(*sides, tile_count))
    return out


@triton.jit
def tile_values(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, masks, mask_b, mask_z, mask_y, mask_x, labels, moments,
    image_index, box,
    # shapes
    k, first, depth, height, width,
    # settings
    scale, limit,
    MASKED: tl.constexpr, NORMALISE: tl.constexpr, CLIP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Return z, y, x in the box, intensities, and membership in the region of a tile's voxels; all (TILE,)."""
    index = first + tl.arange(0, TILE)
    inside = index < depth * height * width
    z, y, x = position(index, depth, tl.maximum(height, 1), tl.maximum(width, 1))
    b = tl.load(image_index + k)
    if MASKED:
        label = tl.load(labels + k)
        of_mask = b * mask_b + corner_of(box, k, mask_z, mask_y, mask_x)
        of_mask += elements_of(mask_z, mask_y, mask_x, z, y, x, depth)
        mask_value = tl.load(masks + of_mask, mask=inside, other=0)
        if mask_value.dtype.is_floating():
            inside = inside & (mask_value.to(tl.float64) == label.to(tl.float64))
        else:
            inside = inside & (mask_value.to(tl.int64) == label)
    at = b * stride_b + corner_of(box, k, stride_z, stride_y, stride_x)
    at += elements_of(stride_z, stride_y, stride_x, z, y, x, depth)
    value = intensity(images, moments, scale, limit, b, at, inside, NORMALISE, CLIP)
    return z, y, x, value, inside


@triton.jit
def within(value, parameters, k):
    """Return whether values are between the thresholds of the region, which NaN is not."""
    row = parameters + PARAMETER_COLUMNS * k
    return (value >= tl.load(row + LOWER)) & (value <= tl.load(row + UPPER))


@kernel
def measure(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, masks, mask_b, mask_z, mask_y, mask_x, labels, moments,
    image_index, box, status, start, size, parameters,
    # outputs
    measures, partial,
    # shapes
    regions,
    # settings
    scale, limit,
    SUM: tl.constexpr, RESEGMENTED: tl.constexpr,
    MASKED: tl.constexpr, NORMALISE: tl.constexpr, CLIP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add a tile to its region's ``measures`` (K, 10): all pixels, or those between the thresholds if RESEGMENTED.

    ``SUM`` 1: the sum of the intensities also goes to ``partial`` (tiles,). ``SUM`` 2: only the sum of their squared
    distances from the mean goes there, the mean being the region's first parameter.
    """
    k, _, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    if tl.load(status + k) != 0:
        return
    z, y, x, value, inside = tile_values(
        images, stride_b, stride_z, stride_y, stride_x, masks, mask_b, mask_z, mask_y, mask_x, labels, moments,
        image_index, box, k, first, depth, height, width, scale, limit, MASKED, NORMALISE, CLIP, TILE,
    )  # fmt: skip
    if SUM == 2:
        d = value - tl.load(parameters + PARAMETER_COLUMNS * k + LOWER)
        tl.store(partial + tl.program_id(0), tl.sum(tl.where(inside, d * d, 0.0)))
        return
    if SUM == 1:
        tl.store(partial + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0)))
    if RESEGMENTED:
        inside = inside & within(value, parameters, k)
    n = tl.sum(inside.to(tl.int32))
    if n > 0:
        row = measures + MEASURE_COLUMNS * k
        tl.atomic_add(row + PIXELS, n.to(tl.int64), sem="relaxed")
        tl.atomic_max(row + LARGEST_NEGATIVE_Y, tl.max(tl.where(inside, -y, -height)).to(tl.int64), sem="relaxed")
        tl.atomic_max(row + LARGEST_Y, tl.max(tl.where(inside, y, 0)).to(tl.int64), sem="relaxed")
        tl.atomic_max(row + LARGEST_NEGATIVE_X, tl.max(tl.where(inside, -x, -width)).to(tl.int64), sem="relaxed")
        tl.atomic_max(row + LARGEST_X, tl.max(tl.where(inside, x, 0)).to(tl.int64), sem="relaxed")
        if depth > 1:
            tl.atomic_max(row + LARGEST_NEGATIVE_Z, tl.max(tl.where(inside, -z, -depth)).to(tl.int64), sem="relaxed")
            tl.atomic_max(row + LARGEST_Z, tl.max(tl.where(inside, z, 0)).to(tl.int64), sem="relaxed")
        tl.atomic_max(row + LARGEST_KEY, tl.max(tl.where(inside, key_of(value), LOWEST)), sem="relaxed")
        tl.atomic_max(row + LARGEST_NEGATIVE_KEY, tl.max(tl.where(inside, key_of(-value), LOWEST)), sem="relaxed")


@triton.jit
def number_of(measures, k):
    """Return the number of pixels of a region."""
    return tl.load(measures + MEASURE_COLUMNS * k + PIXELS) - LOWEST


@triton.jit
def extent_status(measures, size, k, n, least_dimensions, least_pixels, distance, flat):
    """Return the status by PyRadiomics' checks of a mask: voxels, dimensions, size, room for ``distance``.

    Room along the axis ``flat``, if that is not -1, is none.
    """
    row = measures + MEASURE_COLUMNS * k
    depth = tl.load(size + SIZE_COLUMNS * k + DEPTH)
    if depth > 1:
        depth = tl.load(row + LARGEST_NEGATIVE_Z) + tl.load(row + LARGEST_Z) + 1
    height = tl.load(row + LARGEST_NEGATIVE_Y) + tl.load(row + LARGEST_Y) + 1
    width = tl.load(row + LARGEST_NEGATIVE_X) + tl.load(row + LARGEST_X) + 1
    dimensions = (depth > 1).to(tl.int32) + (height > 1).to(tl.int32) + (width > 1).to(tl.int32)
    room = tl.maximum(tl.where(flat == 1, 0, height), tl.where(flat == 2, 0, width))
    code = tl.where(distance >= tl.maximum(tl.where(flat == 0, 0, depth), room), DISTANCES, 0)
    code = tl.where((least_pixels > 0) & (n <= least_pixels), TOO_SMALL, code)
    code = tl.where(dimensions < least_dimensions, TOO_FEW_DIMENSIONS, code)
    code = tl.where(dimensions == 0, SINGLE_PIXEL, code)
    return tl.where(n == 0, EMPTY, code)


@triton.jit
def span_of(measures, k):
    """Return least and largest intensity of a region that has pixels; one of them is NaN if any pixel is."""
    row = measures + MEASURE_COLUMNS * k
    return -value_of(tl.load(row + LARGEST_NEGATIVE_KEY)), value_of(tl.load(row + LARGEST_KEY))


@triton.jit
def add_tiles(partial, begin, count):
    """Return the sum of ``count`` tiles from tile ``begin`` on, in a fixed order."""
    total = tl.zeros((TILES,), tl.float64)
    for first in range(0, count, TILES):
        tile = first + tl.arange(0, TILES)
        total += tl.load(partial + begin + tile, mask=tile < count, other=0.0)
    return tl.sum(total)


@kernel
def set_thresholds(
    # inputs
    start, size, measures, partial,
    # outputs
    status, parameters,
    # settings
    lower, upper, has_upper, least_dimensions, least_pixels,
    MODE: tl.constexpr, MEAN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Check whether a region can be resegmented, and set its thresholds; with ``MEAN``, only its mean, for sigma."""
    k = tl.program_id(0).to(tl.int64)
    earlier = tl.load(status + k)
    tl.debug_barrier()  # a slower warp must not load what is stored below
    if earlier != 0:
        return
    n = number_of(measures, k)
    code = extent_status(measures, size, k, n, least_dimensions, least_pixels, 0, -1)
    if code != 0:
        tl.store(status + k, code)
        return
    row = parameters + PARAMETER_COLUMNS * k
    tile_count = tiles_of(size, k, TILE)
    if MEAN:
        tl.store(row + LOWER, add_tiles(partial, tl.load(start + k) // TILE, tile_count) / n)
        return
    low = tl.sum(float_of(lower))
    high = tl.sum(float_of(upper))
    if MODE == 1:
        minimum, maximum = span_of(measures, k)
        maximum = tl.where(minimum != minimum, minimum, maximum)
        low = maximum * low
        high = maximum * high
    if MODE == 2:
        mean = tl.load(row + LOWER)
        deviation = tl.sqrt(add_tiles(partial, tl.load(start + k) // TILE, tile_count) / n)
        low = mean + deviation * low
        high = mean + deviation * high
    tl.store(row + LOWER, low)
    tl.store(row + UPPER, tl.where(has_upper != 0, high, float("inf")))


@triton.jit
def remainder(value, divisor):
    """Return Python's ``value % divisor`` exactly, for a divisor above 0.

    The largest divisor * 2^n that fits is subtracted from the magnitude repeatedly, each time without rounding.
    """
    rest = tl.abs(value)
    bits = divisor.to(tl.int64, bitcast=True)
    while rest >= divisor:
        steps = (rest.to(tl.int64, bitcast=True) >> 52) - (bits >> 52)
        part = (bits + (steps << 52)).to(tl.float64, bitcast=True)
        rest -= tl.where(part > rest, part * 0.5, part)
    return tl.where((value < 0) & (rest > 0), divisor - rest, rest)


@triton.jit
def edge(k, first, step, last, edge_count, BY_COUNT: tl.constexpr):
    """Return edge k, as ``numpy.histogram`` makes edges BY_COUNT, or else as ``numpy.arange`` does."""
    if BY_COUNT:
        return tl.where(k == edge_count - 1, last, k.to(tl.float64) * step + first)
    else:
        distance = (first + step) - first
        return tl.where(k == 1, first + step, first + k.to(tl.float64) * distance)


@kernel
def set_edges(
    # inputs
    first_status, size, measures,
    # outputs
    status, parameters, edges, n_levels, span,
    # settings
    bin_width, bin_count, max_levels, least_dimensions, least_pixels, distance, flat,
    RESEGMENTED: tl.constexpr, BY_COUNT: tl.constexpr, EDGES: tl.constexpr,
):  # fmt: skip
    """Write a region's status (``first_status``, unless that is 0), its edges, highest level and span."""
    k = tl.program_id(0).to(tl.int64)
    code = tl.load(first_status + k)
    n = number_of(measures, k)
    levels = code * 0
    if code == 0:
        code = extent_status(measures, size, k, n, least_dimensions, least_pixels, distance, flat)
        if RESEGMENTED:
            code = tl.where(n <= 1, RESEGMENTED_AWAY, code)
    if code == 0:
        low, high = span_of(measures, k)
        difference = high - low
        step = tl.sum(float_of(bin_width))
        if (tl.abs(low) < float("inf")) & (tl.abs(high) < float("inf")):
            too_many = difference != difference
            if not BY_COUNT:  # before their edges are laid out
                too_many = difference / step > 2 * max_levels
            if too_many:
                code = code * 0 + TOO_MANY_LEVELS
            else:
                first = low
                last = high
                edge_count = tl.maximum(bin_count, 1) + 1 + code * 0
                if BY_COUNT:
                    first = tl.where(low == high, low - 0.5, low)
                    top = tl.where(low == high, high + 0.5, high)
                    step = (top - first) / tl.maximum(bin_count, 1)
                    last = top + 1
                    if bin_count == 0:  # one level, whatever the intensities
                        step = tl.full((), 1.0, tl.float64)
                        last = tl.full((), float("inf"), tl.float64)
                else:
                    first = low - remainder(low, step)
                    edge_count = tl.ceil((high + 2 * step - first) / step).to(tl.int32)
                ascending = tl.full((EDGES,), 1, tl.int32)
                for begin in range(0, edge_count, EDGES):
                    e = begin + tl.arange(0, EDGES)
                    this_edge = edge(e, first, step, last, edge_count, BY_COUNT)
                    next_edge = edge(e + 1, first, step, last, edge_count, BY_COUNT)
                    levels += tl.sum(((e < edge_count) & (this_edge <= high)).to(tl.int32))
                    ascending = tl.where((e + 1 < edge_count) & (next_edge <= this_edge), 0, ascending)
                refused = (edge_count < 2) | (levels < 1) | (tl.min(ascending) == 0)
                code = tl.where(refused, TOO_NARROW, tl.where(levels > max_levels, TOO_MANY_LEVELS, 0))
                tl.store(parameters + PARAMETER_COLUMNS * k + FIRST_EDGE, first)
                tl.store(parameters + PARAMETER_COLUMNS * k + STEP, step)
                tl.store(edges + EDGE_COLUMNS * k + LAST_EDGE, last)
                tl.store(edges + EDGE_COLUMNS * k + EDGE_COUNT, edge_count.to(tl.float64))
                tl.store(span + k, tl.where(code == 0, difference, 0.0))
        else:
            code = code * 0 + NOT_FINITE
    if code != 0:
        tl.store(span + k, 0.0)
    tl.store(status + k, code)
    tl.store(n_levels + k, tl.where(code == 0, levels, 0).to(tl.int64))


@kernel
def write_levels(
    # inputs
    images, stride_b, stride_z, stride_y, stride_x, masks, mask_b, mask_z, mask_y, mask_x, labels, moments,
    image_index, box, status, start, size, parameters, measures, edges,
    # outputs
    levels, shape_mask,
    # shapes
    regions, total,
    # settings
    scale, limit,
    WHOLE_SHAPE: tl.constexpr, RESEGMENTED: tl.constexpr, BY_COUNT: tl.constexpr,
    MASKED: tl.constexpr, NORMALISE: tl.constexpr, CLIP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Write the levels of a tile, 0 outside of the region; and the mask of the shape features if RESEGMENTED.

    A pixel's level is the number of edges up to it: guessed by division, and corrected by comparison with the edges.
    """
    k, _, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    index = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    zeros = tl.zeros((TILE,), tl.int32)
    good = tl.load(status + k) == 0
    if (first >= pixels) | (not good):
        tl.store(levels + index, zeros.to(levels.dtype.element_ty), mask=index < total)
        if RESEGMENTED:
            tl.store(shape_mask + index, zeros.to(tl.uint8), mask=index < total)
        return
    z, y, x, value, inside = tile_values(
        images, stride_b, stride_z, stride_y, stride_x, masks, mask_b, mask_z, mask_y, mask_x, labels, moments,
        image_index, box, k, first, depth, height, width, scale, limit, MASKED, NORMALISE, CLIP, TILE,
    )  # fmt: skip
    if RESEGMENTED:
        region = inside
        inside = inside & within(value, parameters, k)
        shape = inside
        if WHOLE_SHAPE:  # cropped to the box of what is kept, as PyRadiomics does
            row = measures + MEASURE_COLUMNS * k
            shape = region & (y >= -tl.load(row + LARGEST_NEGATIVE_Y)) & (y <= tl.load(row + LARGEST_Y))
            shape = shape & (x >= -tl.load(row + LARGEST_NEGATIVE_X)) & (x <= tl.load(row + LARGEST_X))
            if depth > 1:
                shape = shape & (z >= -tl.load(row + LARGEST_NEGATIVE_Z)) & (z <= tl.load(row + LARGEST_Z))
        tl.store(shape_mask + index, shape.to(tl.uint8), mask=index < total)
    row = parameters + PARAMETER_COLUMNS * k
    begin, step = tl.load(row + FIRST_EDGE), tl.load(row + STEP)
    last, edge_count = tl.load(edges + EDGE_COLUMNS * k + LAST_EDGE), tl.load(edges + EDGE_COLUMNS * k + EDGE_COUNT)
    value = tl.where(inside, value, begin)
    guess = (value - begin) * (1.0 / step) + 1.0
    guess = tl.where(guess > 1.0, guess, 1.0)  # also where it is not a number
    level = tl.minimum(guess, edge_count).to(tl.int32)
    edge_count = edge_count.to(tl.int32)
    wrong = tl.max((level > 0).to(tl.int32))
    while wrong > 0:
        up = (level < edge_count) & (value >= edge(level, begin, step, last, edge_count, BY_COUNT))
        down = value < edge(level - 1, begin, step, last, edge_count, BY_COUNT)
        level += tl.where(up, 1, tl.where(down, -1, 0))
        wrong = tl.max((up | down).to(tl.int32))
    level = tl.where(inside, level, 0)
    tl.store(levels + index, level.to(levels.dtype.element_ty), mask=index < total)


def discretise(
    images: Tensor,
    masks: Tensor | None,
    moments: Tensor | None,
    image_index: Tensor,
    box: Tensor,
    status: Tensor,
    start: Tensor,
    size: Tensor,
    *,
    labels: Tensor | None,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Check regions and write their levels; see :func:`kacl_gpu.radiomics.ops.discretise`."""
    images, device, regions = readable(images), images.device, len(start)
    resegmented = len(resegment_range) > 0
    first_status = status.clone() if resegmented else status  # which set_thresholds adds to
    status = torch.empty_like(status)
    levels = torch.empty(total, dtype=torch.uint8 if narrow else torch.int16, device=device)
    shape_mask = torch.empty(total if resegmented else 0, dtype=torch.uint8, device=device)
    n_levels, span = torch.empty_like(start), torch.empty(regions, dtype=torch.float64, device=device)
    measures = torch.full((1 + resegmented, regions, MEASURE_COLUMNS.value), -(2**63), dtype=torch.int64, device=device)
    parameters = span.new_empty((regions, PARAMETER_COLUMNS.value))
    edges = span.new_empty((regions, EDGE_COLUMNS.value))
    grid = (tiles(levels),)
    partial = span.new_empty(grid if resegment_mode == "sigma" and resegmented else 0)

    masks = None if masks is None else readable(masks)
    strides = (0, 0, 0, 0) if masks is None else masks.stride()
    scales = bits_of(normalize_scale), bits_of(remove_outliers)
    pixels_in = images, *images.stride(), masks, *strides, labels, moments, image_index, box
    kind = {"MASKED": masks is not None, "TILE": TILE, **normalisation(moments, remove_outliers)}
    checks = minimum_roi_dimensions, minimum_roi_size

    in_sigma = resegmented and resegment_mode == "sigma"

    def measure_into(table: Tensor, **constants: Any) -> None:
        launch(
            measure,
            grid,
            # inputs
            *(*pixels_in, first_status, start, size, parameters),
            # outputs
            *(table, partial),
            # shapes
            regions,
            # settings
            *scales,
            **constants,
            **kind,
        )

    def set_limits(mean: bool) -> None:
        limits = sorted(resegment_range)
        launch(
            set_thresholds,
            (regions,),
            # inputs
            *(start, size, measures[0], partial),
            # outputs
            *(first_status, parameters),
            # settings
            *(bits_of(limits[0]), bits_of(limits[-1]), len(limits) - 1, *checks),
            MODE=MODES[resegment_mode],
            MEAN=mean,
            TILE=TILE,
        )

    measure_into(measures[0], SUM=int(in_sigma), RESEGMENTED=False)
    if in_sigma:
        set_limits(mean=True)
        measure_into(measures[0], SUM=2, RESEGMENTED=False)
    if resegmented:
        set_limits(mean=False)
        measure_into(measures[1], SUM=0, RESEGMENTED=True)
    phase = int(resegmented)
    launch(
        set_edges,
        (regions,),
        # inputs
        *(first_status, size, measures[phase]),
        # outputs
        *(status, parameters, edges, n_levels, span),
        # settings
        *(bits_of(bin_width), bin_count, max_levels, *checks, min(distances, default=0), force2d_dimension),
        RESEGMENTED=resegmented,
        BY_COUNT=bin_count > 0 or bin_width == 0,
        EDGES=EDGES,
    )
    launch(
        write_levels,
        grid,
        # inputs
        *(*pixels_in, status, start, size, parameters, measures[phase], edges),
        # outputs
        *(levels, shape_mask),
        # shapes
        *(regions, total),
        # settings
        *scales,
        WHOLE_SHAPE=resegmented and not resegment_shape,
        RESEGMENTED=resegmented,
        BY_COUNT=bin_count > 0 or bin_width == 0,
        **kind,
    )
    return levels, shape_mask, n_levels, span, status


@kernel
def count_levels(
    # inputs
    levels, start, size,
    # outputs
    out,
    # shapes
    regions, ng,
    BINS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add the levels of a tile to ``out`` (K, ng) int32; with ``BINS`` from a histogram of the tile, 0 included."""
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    index = first + tl.arange(0, TILE)
    level = tl.load(levels + base + index, mask=index < pixels, other=0).to(tl.int32)
    row = out + k.to(tl.int64) * ng
    if BINS:
        bin = tl.arange(0, BINS)
        n = tl.histogram(level, BINS)
        tl.atomic_add(row + bin - 1, n, mask=(bin > 0) & (bin <= ng) & (n > 0), sem="relaxed")
    else:
        tl.atomic_add(row + level - 1, tl.full((TILE,), 1, tl.int32), mask=level > 0, sem="relaxed")


def level_histogram(levels: Tensor, start: Tensor, size: Tensor, ng: int) -> Tensor:
    """Count levels; see :func:`kacl_gpu.radiomics.ops.level_histogram`."""
    out = torch.zeros((len(start), ng), dtype=torch.int32, device=levels.device)
    bins = max(triton.next_power_of_2(ng + 1), 32) if ng <= MAX_NARROW_LEVELS else 0
    # inputs, outputs, shapes
    launch(count_levels, (tiles(levels),), *(levels, start, size), out, *(len(start), ng), BINS=bins, TILE=TILE)
    return out
