"""Take a region's levels from the packed buffer, and give them a margin."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


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
    rows: Array  # where each row of the box begins
    width: int  # of the box
    steps: Array  # (A,) the offsets as distances in memory, all above 0


def with_margin(region: Array, offsets: Array) -> Padded:
    """Return a padded copy of (D, H, W) for neighbours at ``offsets`` (A, 3) and their opposites."""
    depth, height, width = region.shape
    z, y, x = np.abs(offsets).max(0, initial=0).tolist()
    padded = np.zeros((depth + 2 * z, height + 2 * y, width + 2 * x), region.dtype)
    padded[z : z + depth, y : y + height, x : x + width] = region
    row = padded.shape[2]
    plane = padded.shape[1] * row
    rows = np.arange(z, z + depth)[:, None] * plane + (np.arange(y, y + height) * row + x)
    return Padded(padded.ravel(), rows.ravel(), width, offsets @ np.array((plane, row, 1)))
