"""8-connected components of maps above a threshold, with their totals and extents."""

import numpy as np

from ..constants import FIXED_POINT
from ._compile import jit
from ._regions import Array
from ._threads import for_each


def largest_components(maps: Array, *, threshold: float, max_components: int) -> tuple[Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.largest_components`."""
    number, height, width = maps.shape
    boxes = np.empty((number, max_components, 4), np.float32)
    boxes[:] = 0, 0, width, height
    total = np.full((number, max_components), -1, np.float32)

    def task(k: int) -> None:
        found = components_of(maps[k], np.float32(threshold))
        largest = found[np.argsort(-found[:, 0], kind="stable")[:max_components]]
        boxes[k, : len(largest)] = largest[:, 1:]
        total[k, : len(largest)] = largest[:, 0].astype(np.float32) / np.float32(FIXED_POINT)

    for_each(task, number, maps.size)
    return boxes, total


@jit
def components_of(values: Array, threshold: np.float32) -> Array:
    """Return the components of one map (H, W): total, x1, y1, x2, y2 of each, in the order of their first pixels.

    Runs along the rows are joined with those of the row above that touch them, also by a corner.
    """
    height, width = values.shape
    found = np.empty((height * ((width + 1) // 2), 5), np.int64)  # of runs, in the end of components
    parent = np.empty(len(found), np.int64)
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for y in range(height):
        for value in values[y]:
            if np.isfinite(value):
                low, high = min(low, value), max(high, value)
    if not high > low:
        return found[:0]
    unit = np.empty(width, np.float32)
    runs = begin = 0
    for y in range(height):
        for x in range(width):
            value = values[y, x]
            unit[x] = (value - low) / (high - low) if np.isfinite(value) else np.float32(0)
        above, begin, x = begin, runs, 0
        while x < width:
            if not unit[x] > threshold:
                x += 1
                continue
            x1, total = x, np.int64(0)
            while x < width and unit[x] > threshold:
                total += np.int64(np.rint(unit[x] * np.float32(FIXED_POINT)))
                x += 1
            found[runs] = total, x1, y, x, y + 1
            parent[runs] = runs
            while above < begin and found[above, 3] < x1:
                above += 1
            other = above
            while other < begin and found[other, 1] <= x:
                a, b = runs, other
                while parent[a] != a:
                    parent[a] = parent[parent[a]]  # halving the path on the way to the root
                    a = parent[a]
                while parent[b] != b:
                    parent[b] = parent[parent[b]]
                    b = parent[b]
                parent[max(a, b)] = min(a, b)
                other += 1
            runs += 1
    components = 0
    for run in range(runs):
        if parent[run] == run:
            parent[run] = components  # from here on: the place of its component
            found[components] = found[run]
            components += 1
            continue
        place = parent[parent[run]]  # a parent comes before its children
        parent[run] = place
        found[place, 0] += found[run, 0]
        found[place, 1] = min(found[place, 1], found[run, 1])
        found[place, 3] = max(found[place, 3], found[run, 3])
        found[place, 4] = found[run, 4]
    return found[:components]
