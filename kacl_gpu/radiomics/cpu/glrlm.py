"""Grey-level run lengths."""

import numpy as np

from ._compile import jit
from ._regions import Array, Padded, at, volume, with_margin
from ._threads import COMPILED, for_each


def glrlm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_run: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glrlm`."""
    out = np.zeros((len(start), len(offsets), ng, max_run), np.int32)

    def task(k: int) -> None:
        region = volume(levels, start, size, k)
        padded = with_margin(region, offsets)
        length, cell = np.zeros(padded.levels.size, np.int32), np.empty(padded.width, np.int64)
        table, neighbours = np.zeros((len(offsets), ng + 1, max_run), np.int32), np.zeros(len(offsets), np.bool_)
        count_runs(padded, max_run, length, cell, neighbours, table.reshape(len(offsets), -1))
        out[k] = table[:, 1:]
        for a in np.flatnonzero(~neighbours):
            if not some_line_holds_two(region, offsets[a]):
                out[k, a] = 0

    for_each(task, len(start), len(levels) * COMPILED)
    return out


@jit
def count_runs(
    padded: Padded,
    max_run: int,
    length: Array,
    cell: Array,
    neighbours: Array,
    out: Array,
) -> None:
    """Count each run of each direction where it ends; note in which directions two pixels are neighbours.

    A pixel in which no run ends counts in the row of level 0, which nobody reads: no branch waits for the data.
    ``length`` (as many as levels, zeros in the margin) and ``cell`` (a row) are scratch.
    """
    levels, rows, width, steps = padded
    for a in range(steps.size):
        step, has_neighbours = steps[a], False
        for p in rows:
            row, previous, following = levels[p : p + width], levels[p - step : p - step + width], levels[p + step :]
            run, previous_run = length[p : p + width], length[p - step : p - step + width]
            for x in range(width):
                i = row[x]
                n = previous_run[x] * (previous[x] == i) + 1
                run[x] = n
                has_neighbours |= (previous[x] > 0) & (i > 0)
                cell[x] = (i * max_run + (n - 1)) * ((following[x] != i) & (i > 0))
            for x in range(width):
                out[a, at(cell[x])] += 1
        neighbours[a] = has_neighbours


def some_line_holds_two(region: Array, offset: Array) -> bool:
    """Return True if two pixels, however far apart, lie on one line of this direction (of steps 0, 1, -1)."""
    pixels = np.argwhere(region > 0)
    axis = np.flatnonzero(offset)[0]
    lines = pixels - np.outer(pixels[:, axis] * offset[axis], offset)  # where the line passes 0 on that axis
    return len(np.unique(lines, axis=0)) < len(lines)
