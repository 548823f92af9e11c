"""Take a region's levels from the packed buffer, and give them a margin."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..columns import OFFSET
from ._compile import jit
from ._threads import COMPILED, for_each

Array = NDArray[Any]

BLOCK = 4096  # voxels that vector loops take at once: their scratch stays in the fastest memory
GAP = 64  # voxels: rows no further apart belong to one block


# An index of this type is never negative, which spares each access the test for Python's meaning of negative ones.
at = np.uintp


def volume(levels: Array, start: Array, size: Array, k: int) -> Array:
    """Return region k of a packed buffer, as a view of shape (D, H, W)."""
    first, (depth, height, width) = int(start[k]), size[k].tolist()
    return levels[first : first + depth * height * width].reshape(depth, height, width)


class Padded(NamedTuple):
    """A region's volume with a border of zeros as wide as the offsets reach, in flat memory.

    Level 0 means outside, so no loop over neighbours looks at the borders of the box.
    """

    levels: Array  # (voxels,)
    rows: Array  # (R, 2) where the levels of each row begin and end, in pieces of a block; rows without any left out
    steps: Array  # (A,) the offsets as distances in memory, all above 0
    lines: Array  # (A,) the offsets as distances in rows
    width: int  # of a row with its margin

    def part(self, first: int, last: int) -> "Padded":
        """Return the same memory with some of the rows."""
        return self._replace(rows=self.rows[first:last])


def with_margin(region: Array, offsets: Array, parts: int = 1) -> Padded:
    """Return a padded copy of (D, H, W) for neighbours at ``offsets`` (A, 3) and their opposites.

    ``parts`` of it are copied by as many threads.
    """
    depth, height, width = region.shape
    z, y, x = np.abs(offsets).max(0, initial=0).tolist()
    row = width + 2 * x
    plane = (height + 2 * y) * row
    levels = np.zeros((depth + 2 * z) * plane, region.dtype)  # memory that nobody writes to is not taken
    rows = np.empty((depth, height * -(-width // BLOCK), 2), np.int64)
    counts = np.zeros(parts, np.int64)
    begin = [depth * part // parts for part in range(parts + 1)]

    def copy(part: int) -> None:
        planes = slice(begin[part], begin[part + 1])
        first = (z + planes.start) * plane + y * row + x
        counts[part] = copy_rows(region[planes], levels, first, plane, row, rows[planes].reshape(-1, 2))

    for_each(copy, parts, region.size)
    listed = [rows[begin[part] :].reshape(-1, 2)[: counts[part]] for part in range(parts)]
    lines = offsets @ np.array((height + 2 * y, 1, 0))
    return Padded(
        levels, listed[0] if parts == 1 else np.concatenate(listed), lines * row + offsets[:, OFFSET.x], lines, row
    )


@jit
def copy_rows(region: Array, levels: Array, first: int, plane: int, row: int, rows: Array) -> int:
    """Copy the rows of (D, H, W) that hold levels to flat memory, where the first begins at ``first``.

    List where each begins and ends, and return how many are listed.
    """
    depth, height, width = region.shape
    n = 0
    for z in range(depth):
        for y in range(height):
            values, left, right = region[z, y], 0, width
            while left < right and values[left] == 0:
                left += 1
            if left == right:
                continue
            while values[right - 1] == 0:
                right -= 1
            to = first + z * plane + y * row
            copied = levels[to : to + width]
            for x in range(left, right):
                copied[x] = values[x]
            while left < right:
                end = min(left + BLOCK, right)
                rows[n, 0], rows[n, 1] = to + left, to + end
                left = end
                n += 1
    return n


def split_rows(padded: Padded, parts: int) -> list[int]:
    """Return where each of so many parts of the listed rows begins, and the end; none divides a row of the box."""
    rows = padded.rows
    if parts == 1 or not len(rows):
        return [0] * parts + [len(rows)]
    lines, total = rows[:, 0] // padded.width, np.cumsum(rows[:, 1] - rows[:, 0])
    cuts = np.searchsorted(total, total[-1] * np.arange(1, parts) // parts)
    return [0, *np.searchsorted(lines, lines[cuts]).tolist(), len(rows)]


def for_each_part(padded: Padded, parts: int, task: Callable[[Padded], None]) -> None:
    """Run ``task(part)`` for each of so many parts of the listed rows, which hold about as many voxels."""
    cuts = split_rows(padded, parts)
    for_each(lambda part: task(padded.part(cuts[part], cuts[part + 1])), parts, padded.levels.size * COMPILED)


@jit
def block_end(rows: Array, first: int, last: int) -> int:
    """Return the end of the rows that one block of memory holds together with row ``first``."""
    begin, end = rows[first, 0], rows[first, 1]
    row = first + 1
    while row < last and rows[row, 0] - end < GAP and rows[row, 1] - begin <= BLOCK:
        end = rows[row, 1]
        row += 1
    return row
