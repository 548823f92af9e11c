"""Outline of a mask by marching squares, its diameter, and the moments of its pixels.

Every square of four pixels that touches the region is looked at once: by the pixel at its lower right corner, and, past
the last row and column of the block, by the last pixels there. All counts are integers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import SHAPE2D, number_of_columns

from .common import (
    HEIGHT,
    SIZE_COLUMNS,
    SPACING_COLUMNS,
    SPACING_X,
    SPACING_Y,
    TILE,
    WIDTH,
    cdiv,
    constants,
    kernel,
    launch,
    position,
    tile_of,
    tiles,
)

LINES = 32  # half lines whose outermost vertices are compared at once
PARTS = 16  # programs that share a region's half lines
BLOCK = 32  # boxes

# Columns of the result; the first five are those of the sums of a region's tiles too
N, VERTICAL, HORIZONTAL, DIAGONAL = constants(SHAPE2D.n, SHAPE2D.vertical, SHAPE2D.horizontal, SHAPE2D.diagonal)
EIGHT_AREAS, DIAMETER, YY, XX = constants(SHAPE2D.eight_areas, SHAPE2D.diameter, SHAPE2D.yy, SHAPE2D.xx)
YX = tl.constexpr(SHAPE2D.yx)
COLUMNS = tl.constexpr(number_of_columns(SHAPE2D))
# and behind them: sums of y, x, y^2, x^2, y x
SUM_Y, SUM_X, SUM_YY, SUM_XX, SUM_YX = (tl.constexpr(SHAPE2D.diameter + n) for n in range(5))
SUMS = tl.constexpr(SHAPE2D.diameter + 5)


@triton.jit
def pieces(a, b, c, d, valid):
    """Return vertical, horizontal, diagonal pieces and eighths of area of squares with corners a, b, c, d.

    Corners are listed clockwise from the top left. The outline passes the middles of the sides; in a saddle it cuts off
    each corner on its own.
    """
    corners = a + b + c + d
    saddle = (a == c) & (b == d) & (a != b)
    side = (corners == 2) & (a != c)  # two neighbours
    vertical = (valid & side & (a == d)).to(tl.int32)
    horizontal = (valid & side & (a == b)).to(tl.int32)
    diagonal = tl.where(saddle, 2, tl.where((corners == 1) | (corners == 3), 1, 0))
    eighths = tl.where(saddle, 2, tl.where(corners == 1, 1, tl.where(corners == 2, 4, tl.where(corners == 3, 7, 0))))
    eighths = tl.where(corners == 4, 8, eighths)
    return vertical, horizontal, tl.where(valid, diagonal, 0), tl.where(valid, eighths, 0)


@triton.jit
def inside_of(mask, base, y, x, height, width):
    """Return 1 where a pixel of a region's block is in the mask, 0 outside of the mask and of the block."""
    valid = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (tl.load(mask + base + (y * width + x), mask=valid, other=0) > 0).to(tl.int32)


@triton.jit
def place_of(start, k):
    """Return the place of region k's first half line in the buffer of all half lines.

    A block of n pixels has at most 2 sqrt(n) + 1 lines along its longer side, which is at most n / 16 + 1, since n is a
    multiple of 1024. So the memory needed follows from the buffer's length alone.
    """
    return tl.load(start + k) // 16 + k


@triton.jit
def add_vertices(lines, y, x, height, width, mask):
    """Keep the outermost vertices of each half line, in half pixels, along the longer side of the block.

    For vertices at place s of a line, the maxima of 2 * side - s + 1 and of s + 1 are kept; 0 stands for no vertex.
    """
    wide = height <= width
    line = tl.where(wide, y, x)
    s = tl.where(wide, x, y)
    side = tl.maximum(height, width)
    tl.atomic_max(lines + 2 * line, 2 * side - s + 1, mask=mask, sem="relaxed")
    tl.atomic_max(lines + 2 * line + 1, s + 1, mask=mask, sem="relaxed")


@kernel
def trace(
    # inputs
    mask, start, size,
    # outputs
    sums, extremes,
    # shapes
    regions,
    TILE: tl.constexpr,
):  # fmt: skip
    """Add a tile to ``sums`` (K, SUMS) int64, and its vertices to the half lines ``extremes`` (lines, 2) int32.

    A vertex lies between two neighbouring pixels of which one is inside. Pixel y, x is centred at 2 y + 1, 2 x + 1.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    index = first + tl.arange(0, TILE)
    valid = index < pixels
    _, y, x = position(index, depth, height, width)
    inside = inside_of(mask, base, y, x, height, width) * valid.to(tl.int32)
    lines = extremes + 2 * place_of(start, k)

    vertical = tl.zeros((TILE,), tl.int32)
    horizontal = tl.zeros((TILE,), tl.int32)
    diagonal = tl.zeros((TILE,), tl.int32)
    eighths = tl.zeros((TILE,), tl.int32)
    for n in range(4):  # the square that ends at this pixel; past the last column; past the last row; past both
        right, down = n % 2, n // 2
        counted = valid & ((right == 0) | (x == width - 1)) & ((down == 0) | (y == height - 1))
        yb, xb = y + down, x + right
        a = inside_of(mask, base, yb - 1, xb - 1, height, width)
        b = inside_of(mask, base, yb - 1, xb, height, width)
        c = inside_of(mask, base, yb, xb, height, width)
        d = inside_of(mask, base, yb, xb - 1, height, width)
        v, h, s, e = pieces(a, b, c, d, counted)
        vertical += v
        horizontal += h
        diagonal += s
        eighths += e
        add_vertices(lines, 2 * yb + 1, 2 * xb, height, width, counted & (c != d))
        add_vertices(lines, 2 * yb, 2 * xb + 1, height, width, counted & (c != b))

    out = sums + k.to(tl.int64) * SUMS
    yc, xc = (y - height // 2).to(tl.int64), (x - width // 2).to(tl.int64)
    ones = inside.to(tl.int64)
    tl.atomic_add(out + N, tl.sum(ones), sem="relaxed")
    tl.atomic_add(out + VERTICAL, tl.sum(vertical).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + HORIZONTAL, tl.sum(horizontal).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + DIAGONAL, tl.sum(diagonal).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + EIGHT_AREAS, tl.sum(eighths).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + SUM_Y, tl.sum(ones * yc), sem="relaxed")
    tl.atomic_add(out + SUM_X, tl.sum(ones * xc), sem="relaxed")
    tl.atomic_add(out + SUM_YY, tl.sum(ones * yc * yc), sem="relaxed")
    tl.atomic_add(out + SUM_XX, tl.sum(ones * xc * xc), sem="relaxed")
    tl.atomic_add(out + SUM_YX, tl.sum(ones * yc * xc), sem="relaxed")


@triton.jit
def vertices(lines, line, line_count, side):
    """Return both outermost vertices of half lines, in half pixels, and whether a line has any."""
    near = tl.load(lines + 2 * line, mask=line < line_count, other=0)
    far = tl.load(lines + 2 * line + 1, mask=line < line_count, other=0)
    return (2 * side + 1 - near).to(tl.float64), (far - 1).to(tl.float64), far > 0


@triton.jit
def squares(line, s, other_line, other_s, across, along):
    """Return squared distances of all pairs of two lists of vertices; ``along`` is the spacing along a line."""
    d_line = 0.5 * (line[:, None] - other_line[None, :]) * across
    d_s = 0.5 * (s[:, None] - other_s[None, :]) * along
    return d_line * d_line + d_s * d_s


@kernel
def compare_lines(
    # inputs
    start, size, sums, extremes, spacing,
    # outputs
    longest,
    # shapes
    parts,
    LINES: tl.constexpr,
):  # fmt: skip
    """Write the largest squared distance between a part of the blocks of half lines and all later blocks.

    ``longest`` is (K, parts) float64.
    """
    k = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    height = tl.load(size + SIZE_COLUMNS * k + HEIGHT).to(tl.int32)
    width = tl.load(size + SIZE_COLUMNS * k + WIDTH).to(tl.int32)
    side = tl.maximum(height, width)
    is_full = tl.load(sums + k * SUMS + N) == height.to(tl.int64) * width
    line_count = tl.where(is_full, 0, 2 * tl.minimum(height, width) + 1)  # the diameter of a full box has a closed form
    lines = extremes + 2 * place_of(start, k)
    sy, sx = tl.load(spacing + SPACING_COLUMNS * k + SPACING_Y), tl.load(spacing + SPACING_COLUMNS * k + SPACING_X)
    across, along = tl.where(height <= width, sy, sx), tl.where(height <= width, sx, sy)
    largest = tl.zeros((LINES, LINES), tl.float64)
    for block in range(part * LINES, line_count, parts * LINES):
        line = block + tl.arange(0, LINES)
        near, far, present = vertices(lines, line, line_count, side)
        p = line.to(tl.float64)
        for first in range(block, line_count, LINES):
            other = first + tl.arange(0, LINES)
            other_near, other_far, other_present = vertices(lines, other, line_count, side)
            valid = present[:, None] & other_present[None, :]
            q = other.to(tl.float64)
            for n in range(4):
                vertex = tl.where(n % 2 == 0, near, far)
                other_vertex = tl.where(n < 2, other_near, other_far)
                largest = tl.maximum(largest, tl.where(valid, squares(p, vertex, q, other_vertex, across, along), 0.0))
    tl.store(longest + k * parts + part, tl.max(tl.max(largest, 1)))


@triton.jit
def box_moments(height, width, sy, sx):
    """Return squared diameter and n^2 times the variances yy, xx of a full box, whose outline cuts off the corners."""
    h, w = height.to(tl.float64), width.to(tl.float64)
    steep_y, steep_x, flat_y, flat_x = h * sy, (w - 1) * sx, (h - 1) * sy, w * sx
    square = tl.maximum(steep_y * steep_y + steep_x * steep_x, flat_y * flat_y + flat_x * flat_x)
    n = height * width
    squares = (n * n).to(tl.float64)
    yy, xx = squares * (height * height - 1).to(tl.float64) / 12, squares * (width * width - 1).to(tl.float64) / 12
    return square, yy, xx


@kernel
def end_shape(
    # inputs
    size, sums, spacing, longest,
    # outputs
    out,
    PARTS: tl.constexpr,
):  # fmt: skip
    """Compute the nine columns of one region."""
    k = tl.program_id(0).to(tl.int64)
    height, width = tl.load(size + SIZE_COLUMNS * k + HEIGHT), tl.load(size + SIZE_COLUMNS * k + WIDTH)
    square = tl.max(tl.load(longest + k * PARTS + tl.arange(0, PARTS)))
    row_in = sums + k * SUMS
    n = tl.load(row_in + N)
    yy, xx = tl.load(row_in + SUM_YY).to(tl.float64), tl.load(row_in + SUM_XX).to(tl.float64)
    yx = tl.load(row_in + SUM_YX).to(tl.float64)
    y, x, count = tl.load(row_in + SUM_Y).to(tl.float64), tl.load(row_in + SUM_X).to(tl.float64), n.to(tl.float64)
    yy, xx, yx = count * yy - y * y, count * xx - x * x, count * yx - y * x
    if (n == height * width) & (n > 0):
        square, yy, xx = box_moments(
            height,
            width,
            tl.load(spacing + SPACING_COLUMNS * k + SPACING_Y),
            tl.load(spacing + SPACING_COLUMNS * k + SPACING_X),
        )
        yx = count * 0
    row = out + COLUMNS * k
    tl.store(row + N, count)
    for column in range(VERTICAL, EIGHT_AREAS + 1):
        tl.store(row + column, tl.load(row_in + column).to(tl.float64))
    tl.store(row + DIAMETER, tl.sqrt(square))
    tl.store(row + YY, yy)
    tl.store(row + XX, xx)
    tl.store(row + YX, yx)


@kernel
def measure_boxes(
    # inputs
    size, spacing,
    # outputs
    out,
    # shapes
    regions,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Compute the nine columns of full boxes, one box per lane."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = k < regions
    height = tl.load(size + SIZE_COLUMNS * k + HEIGHT, mask=valid, other=1)
    width = tl.load(size + SIZE_COLUMNS * k + WIDTH, mask=valid, other=1)
    sy = tl.load(spacing + SPACING_COLUMNS * k + SPACING_Y, mask=valid, other=1.0)
    sx = tl.load(spacing + SPACING_COLUMNS * k + SPACING_X, mask=valid, other=1.0)
    square, yy, xx = box_moments(height, width, sy, sx)
    row = out + COLUMNS * k
    tl.store(row + N, (height * width).to(tl.float64), mask=valid)
    tl.store(row + VERTICAL, (2 * height - 2).to(tl.float64), mask=valid)
    tl.store(row + HORIZONTAL, (2 * width - 2).to(tl.float64), mask=valid)
    tl.store(row + DIAGONAL, (height * 0 + 4).to(tl.float64), mask=valid)
    tl.store(row + EIGHT_AREAS, (8 * height * width - 4).to(tl.float64), mask=valid)
    tl.store(row + DIAMETER, tl.sqrt(square), mask=valid)
    tl.store(row + YY, yy, mask=valid)
    tl.store(row + XX, xx, mask=valid)
    tl.store(row + YX, sx * 0, mask=valid)


def shape2d(mask: Tensor | None, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    """Measure the shape; see :func:`kacl_gpu.radiomics.ops.shape2d`."""
    regions = len(start)
    out = spacing.new_empty((regions, COLUMNS.value))
    if mask is None:
        # inputs, outputs, shapes
        launch(measure_boxes, (cdiv(regions, BLOCK),), *(size, spacing), out, regions, BLOCK=BLOCK, num_warps=1)
        return out
    # one buffer of zeros for the sums, int64, and the lines, int32
    first = 2 * regions * SUMS.value
    zeros = torch.zeros(first + 2 * (len(mask) // 16 + regions + 1), dtype=torch.int32, device=mask.device)
    sums, extremes = zeros[:first].view(torch.int64), zeros[first:]
    longest = out.new_empty((regions, PARTS))
    # each: inputs, outputs, shapes
    launch(trace, (tiles(mask),), *(mask, start, size), *(sums, extremes), regions, TILE=TILE)
    launch(compare_lines, (regions, PARTS), *(start, size, sums, extremes, spacing), longest, PARTS, LINES=LINES)
    launch(end_shape, (regions,), *(size, sums, spacing, longest), out, PARTS=PARTS, num_warps=1)
    return out
