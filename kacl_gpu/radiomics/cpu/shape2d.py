"""The outline of a mask by marching squares, its diameter, and the moments of its pixels."""

import math

import numpy as np

from ..columns import SHAPE2D, SIZE, SPACING, number_of_columns
from ._compile import jit
from ._regions import Array, volume
from ._threads import for_each

# Contribution of each case of marching squares. Bit 0 of a case is the square's top left corner, the others follow
# clockwise; the outline passes the middles of the sides, and in the saddles 5 and 10 it cuts off each corner alone.
VERTICAL = np.array([0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])  # pieces of outline one pixel long
HORIZONTAL = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
DIAGONAL = np.array([0, 1, 1, 0, 1, 2, 0, 1, 1, 0, 2, 1, 0, 1, 1, 0])  # half a pixel's diagonal long
EIGHTHS = np.array([0, 1, 1, 4, 1, 2, 4, 7, 1, 4, 2, 7, 4, 7, 7, 8])  # of the square inside the outline


def shape2d(mask: Array | None, start: Array, size: Array, spacing: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.shape2d`."""
    columns = number_of_columns(SHAPE2D)
    if mask is None:
        rows = [box_sums(h, w, *voxel[SPACING.y :]) for (_, h, w), voxel in zip(size.tolist(), spacing)]
        return np.array(rows).reshape(-1, columns)
    out = np.zeros((len(start), columns))

    def task(k: int) -> None:
        block = volume(mask, start, size, k)
        region = block.reshape(block.shape[SIZE.height :])
        pixel = spacing[k, SPACING.y :]
        out[k] = box_sums(*region.shape, *pixel) if region.all() else mask_sums(region > 0, *pixel)

    for_each(task, len(start), len(mask))
    return out


def box_sums(height: int, width: int, spacing_y: float, spacing_x: float) -> list[float]:
    """Return the sums of a full box in closed form: four sides, four cut corners."""
    n = height * width
    diagonals = (((height - i) * spacing_y, (width - 1 + i) * spacing_x) for i in (0, 1))
    covariances = n * n * (height * height - 1) / 12, n * n * (width * width - 1) / 12, 0.0
    outline = 2 * (height - 1), 2 * (width - 1), 4, 8 * n - 4
    return [n, *outline, max(math.hypot(*d) for d in diagonals), *covariances]


def mask_sums(inside: Array, spacing_y: float, spacing_x: float) -> list[float]:
    """Return the sums of a mask (H, W)."""
    inside = np.pad(inside, 1)
    corners = inside[:-1, :-1], inside[:-1, 1:], inside[1:, 1:], inside[1:, :-1]
    cases = sum(corner.astype(np.uint8) << bit for bit, corner in enumerate(corners))
    counts = np.bincount(np.ravel(cases), minlength=16)
    outline = [counts @ table for table in (VERTICAL, HORIZONTAL, DIAGONAL, EIGHTHS)]
    distance = diameter(outermost_vertices(inside), spacing_y, spacing_x)
    return [np.count_nonzero(inside), *outline, distance, *second_moments(inside)]


def second_moments(inside: Array) -> tuple[float, float, float]:
    """Return n^2 times the covariances yy, xx, yx of the pixels' indices, from integers."""
    y, x = (np.arange(n) - n // 2 for n in inside.shape)
    rows, columns = inside.sum(1), inside.sum(0)
    n, sy, sx = (float(s) for s in (rows.sum(), rows @ y, columns @ x))
    yy, xx, yx = (float(s) for s in (rows @ (y * y), columns @ (x * x), y @ (inside @ x)))
    return n * yy - sy * sy, n * xx - sx * sx, n * yx - sy * sx


def outermost_vertices(inside: Array) -> Array:
    """Return the leftmost and the rightmost vertex of the outline in each half row that has any: (R, 3) y, left, right.

    In half pixels. A vertex lies between two neighbours of which one is inside; ``inside`` has a border of False.
    """
    rows = []
    for half, changes in enumerate((inside[:, 1:] != inside[:, :-1], inside[1:] != inside[:-1])):
        y = np.flatnonzero(changes.any(1))
        left, right = changes[y].argmax(1), changes.shape[1] - 1 - changes[y, ::-1].argmax(1)
        rows.append(np.stack([2 * y + half, 2 * left + 1 - half, 2 * right + 1 - half], 1))
    vertices = np.concatenate(rows)
    return vertices[np.argsort(vertices[:, 0])].astype(np.float64)


@jit
def diameter(vertices: Array, spacing_y: float, spacing_x: float) -> float:
    """Return the largest distance between two vertices: it joins two corners of their convex hull."""
    corners = np.empty((2 * vertices.shape[0], 2))
    n = 0
    for side in range(1, 3):  # the left chain and the right one, from top to bottom
        first = n
        for row in range(vertices.shape[0]):
            y, x = vertices[row, 0], vertices[row, side]
            while n - first >= 2:  # drop the last corner while it does not stick out of the line that passes it
                dy, dx = corners[n - 1, 0] - corners[n - 2, 0], corners[n - 1, 1] - corners[n - 2, 1]
                turn = dx * (y - corners[n - 2, 0]) - dy * (x - corners[n - 2, 1])
                if (turn < 0.0) if side == 1 else (turn > 0.0):
                    break
                n -= 1
            corners[n, 0], corners[n, 1] = y, x
            n += 1
    furthest = 0.0
    for a in range(n):
        for b in range(a):
            dy = 0.5 * (corners[a, 0] - corners[b, 0]) * spacing_y
            dx = 0.5 * (corners[a, 1] - corners[b, 1]) * spacing_x
            furthest = max(furthest, dy * dy + dx * dx)
    return math.sqrt(furthest)
