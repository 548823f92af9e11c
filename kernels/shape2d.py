"""The outline of a mask by marching squares, its diameter, and the moments of its pixels.

Every square of four pixels that touches the region is looked at once: by the pixel at its lower right corner, and, past
the last row and column of the block, by the last pixels there. All counts are integers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .common import TILE, cdiv, kernel, launch, position, tile_of, tiles

LINES = 32  # half lines whose outermost vertices are compared at once
PARTS = 16  # programs that share a region's half lines
BLOCK = 32  # boxes
SUMS = tl.constexpr(10)  # pixels; vertical, horizontal, diagonal pieces, eighths; sums of y, x, y^2, x^2, y x


@triton.jit
def pieces(a, b, c, d, seen):
    """Vertical, horizontal, diagonal pieces and eighths of squares with these corners, clockwise from the top left.

    The outline passes the middles of the sides; in a saddle it cuts off each corner on its own.
    """
    corners = a + b + c + d
    saddle = (a == c) & (b == d) & (a != b)
    side = (corners == 2) & (a != c)  # two neighbours
    vertical = (seen & side & (a == d)).to(tl.int32)
    horizontal = (seen & side & (a == b)).to(tl.int32)
    diagonal = tl.where(saddle, 2, tl.where((corners == 1) | (corners == 3), 1, 0))
    eighths = tl.where(saddle, 2, tl.where(corners == 1, 1, tl.where(corners == 2, 4, tl.where(corners == 3, 7, 0))))
    eighths = tl.where(corners == 4, 8, eighths)
    return vertical, horizontal, tl.where(seen, diagonal, 0), tl.where(seen, eighths, 0)


@triton.jit
def inside_of(mask, base, y, x, height, width):
    there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (tl.load(mask + base + (y * width + x), mask=there, other=0) > 0).to(tl.int32)


@triton.jit
def place_of(start, k):
    """Where the half lines of region k begin.

    A block of n pixels has no more than 2 sqrt(n) + 1 lines along its longer side, and, n being a multiple of 1024,
    that is n / 16 + 1 at most. So the buffer's length alone says how much memory serves.
    """
    return tl.load(start + k) // 16 + k


@triton.jit
def add_vertices(lines, y, x, height, width, mask):
    """Keeps the outermost vertices of each half line, in half pixels, along the longer side of the block.

    Of a vertex at place s of its line, the largest of s + 1 and of 2 * side - s + 1, which are 0 where there is none.
    """
    wide = height <= width
    line = tl.where(wide, y, x)
    s = tl.where(wide, x, y)
    side = tl.maximum(height, width)
    tl.atomic_max(lines + 2 * line, 2 * side - s + 1, mask=mask, sem="relaxed")
    tl.atomic_max(lines + 2 * line + 1, s + 1, mask=mask, sem="relaxed")


@kernel
def trace(mask, start, size, regions, sums, extremes, TILE: tl.constexpr):
    """Adds a tile to (K, SUMS) int64, and its vertices to those of the half lines (lines, 2) int32.

    A vertex lies between two neighbouring pixels of which one is inside. Pixel y, x is centred at
    2 y + 1, 2 x + 1.
    """
    k, base, first, depth, height, width = tile_of(start, size, regions, TILE)
    pixels = depth * height * width
    if first >= pixels:
        return
    index = first + tl.arange(0, TILE)
    seen = index < pixels
    _, y, x = position(index, height, width)
    here = inside_of(mask, base, y, x, height, width) * seen.to(tl.int32)
    lines = extremes + 2 * place_of(start, k)

    vertical = tl.zeros((TILE,), tl.int32)
    horizontal = tl.zeros((TILE,), tl.int32)
    diagonal = tl.zeros((TILE,), tl.int32)
    eighths = tl.zeros((TILE,), tl.int32)
    for n in range(4):  # the square that ends at this pixel; past the last column; past the last row; past both
        right, down = n % 2, n // 2
        mine = seen & ((right == 0) | (x == width - 1)) & ((down == 0) | (y == height - 1))
        yb, xb = y + down, x + right
        a = inside_of(mask, base, yb - 1, xb - 1, height, width)
        b = inside_of(mask, base, yb - 1, xb, height, width)
        c = inside_of(mask, base, yb, xb, height, width)
        d = inside_of(mask, base, yb, xb - 1, height, width)
        v, h, s, e = pieces(a, b, c, d, mine)
        vertical += v
        horizontal += h
        diagonal += s
        eighths += e
        add_vertices(lines, 2 * yb + 1, 2 * xb, height, width, mine & (c != d))
        add_vertices(lines, 2 * yb, 2 * xb + 1, height, width, mine & (c != b))

    out = sums + k.to(tl.int64) * SUMS
    yc, xc = (y - height // 2).to(tl.int64), (x - width // 2).to(tl.int64)
    one = here.to(tl.int64)
    tl.atomic_add(out, tl.sum(one), sem="relaxed")
    tl.atomic_add(out + 1, tl.sum(vertical).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 2, tl.sum(horizontal).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 3, tl.sum(diagonal).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 4, tl.sum(eighths).to(tl.int64), sem="relaxed")
    tl.atomic_add(out + 5, tl.sum(one * yc), sem="relaxed")
    tl.atomic_add(out + 6, tl.sum(one * xc), sem="relaxed")
    tl.atomic_add(out + 7, tl.sum(one * yc * yc), sem="relaxed")
    tl.atomic_add(out + 8, tl.sum(one * xc * xc), sem="relaxed")
    tl.atomic_add(out + 9, tl.sum(one * yc * xc), sem="relaxed")


@triton.jit
def vertices(lines, line, number, side):
    """Both outermost vertices of half lines, in half pixels, and which of the lines have any."""
    near = tl.load(lines + 2 * line, mask=line < number, other=0)
    far = tl.load(lines + 2 * line + 1, mask=line < number, other=0)
    return (2 * side + 1 - near).to(tl.float64), (far - 1).to(tl.float64), far > 0


@triton.jit
def squares(line, s, other_line, other_s, across, along):
    """Squared distances of all pairs of two lists of vertices; a line's own spacing is ``along``."""
    d_line = 0.5 * (line[:, None] - other_line[None, :]) * across
    d_s = 0.5 * (s[:, None] - other_s[None, :]) * along
    return d_line * d_line + d_s * d_s


@kernel
def compare_lines(start, size, sums, extremes, spacing, longest, parts, LINES: tl.constexpr):
    """The largest squared distance of some of the blocks of half lines to all that follow: (K, parts)."""
    k = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    height, width = tl.load(size + 3 * k + 1).to(tl.int32), tl.load(size + 3 * k + 2).to(tl.int32)
    side = tl.maximum(height, width)
    full = tl.load(sums + k * SUMS) == height.to(tl.int64) * width
    number = tl.where(full, 0, 2 * tl.minimum(height, width) + 1)  # of a full box the diameter is known
    lines = extremes + 2 * place_of(start, k)
    sy, sx = tl.load(spacing + 2 * k), tl.load(spacing + 2 * k + 1)
    across, along = tl.where(height <= width, sy, sx), tl.where(height <= width, sx, sy)
    found = tl.zeros((LINES, LINES), tl.float64)
    for block in range(part * LINES, number, parts * LINES):
        line = block + tl.arange(0, LINES)
        near, far, some = vertices(lines, line, number, side)
        p = line.to(tl.float64)
        for first in range(block, number, LINES):
            other = first + tl.arange(0, LINES)
            other_near, other_far, other_some = vertices(lines, other, number, side)
            both = some[:, None] & other_some[None, :]
            q = other.to(tl.float64)
            for n in range(4):
                mine = tl.where(n % 2 == 0, near, far)
                others = tl.where(n < 2, other_near, other_far)
                found = tl.maximum(found, tl.where(both, squares(p, mine, q, others, across, along), 0.0))
    tl.store(longest + k * parts + part, tl.max(tl.max(found, 1)))


@triton.jit
def of_a_box(height, width, sy, sx):
    """Squared diameter and n^2 times the variances yy, xx of a full box: four sides, four cut corners."""
    h, w = height.to(tl.float64), width.to(tl.float64)
    steep_y, steep_x, flat_y, flat_x = h * sy, (w - 1) * sx, (h - 1) * sy, w * sx
    square = tl.maximum(steep_y * steep_y + steep_x * steep_x, flat_y * flat_y + flat_x * flat_x)
    n = height * width
    squares = (n * n).to(tl.float64)
    yy, xx = squares * (height * height - 1).to(tl.float64) / 12, squares * (width * width - 1).to(tl.float64) / 12
    return square, yy, xx


@kernel
def end_shape(size, sums, spacing, longest, out, PARTS: tl.constexpr):
    """The nine columns of one region."""
    k = tl.program_id(0).to(tl.int64)
    height, width = tl.load(size + 3 * k + 1), tl.load(size + 3 * k + 2)
    square = tl.max(tl.load(longest + k * PARTS + tl.arange(0, PARTS)))
    here = sums + k * SUMS
    n = tl.load(here)
    yy, xx, yx = tl.load(here + 7).to(tl.float64), tl.load(here + 8).to(tl.float64), tl.load(here + 9).to(tl.float64)
    y, x, count = tl.load(here + 5).to(tl.float64), tl.load(here + 6).to(tl.float64), n.to(tl.float64)
    yy, xx, yx = count * yy - y * y, count * xx - x * x, count * yx - y * x
    if (n == height * width) & (n > 0):
        square, yy, xx = of_a_box(height, width, tl.load(spacing + 2 * k), tl.load(spacing + 2 * k + 1))
        yx = count * 0
    row = out + 9 * k
    tl.store(row, count)
    for column in range(1, 5):
        tl.store(row + column, tl.load(here + column).to(tl.float64))
    tl.store(row + 5, tl.sqrt(square))
    tl.store(row + 6, yy)
    tl.store(row + 7, xx)
    tl.store(row + 8, yx)


@kernel
def measure_boxes(size, spacing, out, regions, BLOCK: tl.constexpr):
    """The nine columns of full boxes, one a lane."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = k < regions
    height, width = tl.load(size + 3 * k + 1, mask=there, other=1), tl.load(size + 3 * k + 2, mask=there, other=1)
    sy, sx = tl.load(spacing + 2 * k, mask=there, other=1.0), tl.load(spacing + 2 * k + 1, mask=there, other=1.0)
    square, yy, xx = of_a_box(height, width, sy, sx)
    row = out + 9 * k
    tl.store(row, (height * width).to(tl.float64), mask=there)
    tl.store(row + 1, (2 * height - 2).to(tl.float64), mask=there)
    tl.store(row + 2, (2 * width - 2).to(tl.float64), mask=there)
    tl.store(row + 3, (height * 0 + 4).to(tl.float64), mask=there)
    tl.store(row + 4, (8 * height * width - 4).to(tl.float64), mask=there)
    tl.store(row + 5, tl.sqrt(square), mask=there)
    tl.store(row + 6, yy, mask=there)
    tl.store(row + 7, xx, mask=there)
    tl.store(row + 8, sx * 0, mask=there)


def shape2d(mask: Tensor | None, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.shape2d`."""
    regions = len(start)
    out = spacing.new_empty((regions, 9))
    if mask is None:
        launch(measure_boxes, (cdiv(regions, BLOCK),), size, spacing, out, regions, BLOCK=BLOCK, num_warps=1)
        return out
    # of the sums, int64, and the lines, int32
    first = 2 * regions * SUMS.value
    zeros = torch.zeros(first + 2 * (len(mask) // 16 + regions + 1), dtype=torch.int32, device=mask.device)
    sums, extremes = zeros[:first].view(torch.int64), zeros[first:]
    longest = out.new_empty((regions, PARTS))
    launch(trace, (tiles(mask),), mask, start, size, regions, sums, extremes, TILE=TILE)
    launch(compare_lines, (regions, PARTS), start, size, sums, extremes, spacing, longest, PARTS, LINES=LINES)
    launch(end_shape, (regions,), size, sums, spacing, longest, out, PARTS=PARTS, num_warps=1)
    return out
