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
        table = components_of(maps[k], np.float32(threshold))
        largest = table[np.argsort(-table[:, 0], kind="stable")[:max_components]]
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
    table = np.empty((height * ((width + 1) // 2), 5), np.int64)  # of runs, in the end of components
    parent = np.empty(len(table), np.int64)
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for y in range(height):
        for value in values[y]:
            if np.isfinite(value):
                low, high = min(low, value), max(high, value)
    if not high > low:
        return table[:0]
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
            table[runs] = total, x1, y, x, y + 1
            parent[runs] = runs
            while above < begin and table[above, 3] < x1:
                above += 1
            other = above
            while other < begin and table[other, 1] <= x:
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
            table[components] = table[run]
            components += 1
            continue
        place = parent[parent[run]]  # a parent comes before its children
        parent[run] = place
        table[place, 0] += table[run, 0]
        table[place, 1] = min(table[place, 1], table[run, 1])
        table[place, 3] = max(table[place, 3], table[run, 3])
        table[place, 4] = table[run, 4]
    return table[:components]
