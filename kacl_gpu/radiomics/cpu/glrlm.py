"""Grey-level run lengths."""

import numpy as np

from ._regions import COMPILED, Array, at, for_each, jit, volume, with_margin


def glrlm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_run: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glrlm`."""
    out = np.zeros((len(start), len(offsets), ng, max_run), np.int32)

    def task(k: int) -> None:
        region = volume(levels, start, size, k)
        for a in np.flatnonzero(~runs_of(region, offsets, ng, max_run, out[k])):
            if not some_line_holds_two(region, offsets[a]):
                out[k, a] = 0

    for_each(task, len(start), len(levels) * COMPILED)
    return out


@jit
def runs_of(region: Array, offsets: Array, ng: int, max_run: int, out: Array) -> Array:
    """Counts the runs of one region in each direction; true where two of its pixels are neighbours there."""
    padded = with_margin(region, offsets)
    neighbours = np.empty(len(offsets), np.bool_)
    length, cell = np.zeros(padded.levels.size, np.int32), np.empty(padded.width, np.int64)
    for a in range(len(offsets)):
        table = np.zeros((ng + 1) * max_run, np.int32)
        neighbours[a] = count_runs(
            padded.levels, padded.rows, padded.width, padded.steps[a], max_run, length, cell, table
        )
        out[a] = table.reshape(ng + 1, max_run)[1:]
    return neighbours


@jit
def count_runs(
    levels: Array, rows: Array, width: int, step: int, max_run: int, length: Array, cell: Array, out: Array
) -> bool:
    """Counts each run where it ends; true if two pixels of the region are neighbours in this direction.

    A pixel in which no run ends counts in the row of level 0, which nobody reads: no branch waits for the data.
    ``length`` (as many as levels, zeros in the margin) and ``cell`` (a row) are space.
    """
    neighbours = False
    for p in rows:
        here, before, after = levels[p : p + width], levels[p - step : p - step + width], levels[p + step :]
        run, run_before = length[p : p + width], length[p - step : p - step + width]
        for x in range(width):
            i = here[x]
            n = run_before[x] * (before[x] == i) + 1
            run[x] = n
            neighbours |= (before[x] > 0) & (i > 0)
            cell[x] = (i * max_run + (n - 1)) * ((after[x] != i) & (i > 0))
        for x in range(width):
            out[at(cell[x])] += 1
    return neighbours


def some_line_holds_two(region: Array, offset: Array) -> bool:
    """True if two pixels of the region, however far apart, lie on one line of this direction (of steps 0, 1, -1)."""
    pixels = np.argwhere(region > 0)
    axis = np.flatnonzero(offset)[0]
    lines = pixels - np.outer(pixels[:, axis] * offset[axis], offset)  # where the line passes 0 on that axis
    return len(np.unique(lines, axis=0)) < len(lines)
