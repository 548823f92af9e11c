"""Grey-level run lengths."""

import threading

import numpy as np

from ._compile import jit
from ._regions import BLOCK, Array, Padded, at, block_end, for_each_part, volume, with_margin
from ._threads import for_each_region

ONE_PIXEL = 0  # the column of runs of one pixel


def glrlm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_run: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glrlm`."""
    out = np.zeros((len(start), len(offsets), ng, max_run), np.int32)
    lock = threading.Lock()

    def task(k: int, parts: int) -> None:
        region = volume(levels, start, size, k)
        padded = with_margin(region, offsets, parts)
        pixels, neighbours = np.zeros(ng, np.int64), np.zeros(len(offsets), np.bool_)

        def count(part: Padded) -> None:
            own, inside = np.zeros_like(out[k]), np.zeros(ng + 1, np.int64)
            found, ends = np.zeros(len(offsets), np.bool_), np.zeros(BLOCK, np.uint8)
            places = np.empty(BLOCK + 1, np.int64)
            count_long_runs(part, ends, ends.view(np.uint64), places, found, own)
            count_pixels(part.levels, part.rows, inside)
            with lock:
                out[k] += own
                pixels[:] += inside[1:]
                neighbours[:] |= found

        for_each_part(padded, parts, count)
        lines = [bool(near) or some_line_holds_two(region, o) for near, o in zip(neighbours, offsets)]
        add_single_pixels(pixels, np.array(lines, np.bool_), out[k])

    for_each_region(task, size.prod(1).tolist())
    return out


@jit
def count_long_runs(padded: Padded, ends: Array, words: Array, places: Array, neighbours: Array, out: Array) -> None:
    """Count each run of two pixels or more by level and length: (A, ng, max_run).

    Note in which directions two pixels are neighbours. ``ends`` and ``places`` are scratch for a block, and
    ``words`` the memory of ``ends``, eight pixels at a time: many hold no end of such a run.
    """
    levels, rows, steps = padded.levels, padded.rows, padded.steps
    first, last = 0, len(rows)
    while first < last:
        end = block_end(rows, first, last)
        begin = rows[first, 0]
        n = rows[end - 1, 1] - begin
        pixels, first = levels[begin : begin + n], end
        for x in range(n, min(n + 8, ends.size)):
            ends[x] = 0
        for a in range(steps.size):
            step = steps[a]
            before = levels[begin - step : begin - step + n]
            if not neighbours[a]:
                neighbours[a] = some_neighbours(pixels, before)
                if not neighbours[a]:
                    continue
            mark_ends(pixels, before, levels[begin + step : begin + step + n], ends[:n])
            listed = 0
            for w in range((n + 7) // 8):
                if words[at(w)] != 0:
                    for x in range(8 * w, 8 * w + 8):  # no branch waits for each of them
                        places[at(listed)] = x
                        listed += ends[at(x)]
            for place in range(listed):
                x = places[at(place)]
                i, p, length = pixels[at(x)], begin + x - 2 * step, 2
                while levels[at(p)] == i:
                    p -= step
                    length += 1
                out[a, at(i - 1), at(length - 1)] += 1


@jit
def mark_ends(pixels: Array, before: Array, after: Array, ends: Array) -> None:
    """Mark the pixels that end a run of two or more."""
    for x in range(ends.size):
        i = pixels[x]
        ends[x] = np.uint8((i > 0) & (before[x] == i) & (after[x] != i))


@jit
def some_neighbours(pixels: Array, before: Array) -> bool:
    """Return True if a pixel and its neighbour are both inside."""
    some = np.uint8(0)
    for x in range(pixels.size):
        some |= np.uint8((pixels[x] > 0) & (before[x] > 0))
    return bool(some > 0)


@jit
def count_pixels(levels: Array, rows: Array, out: Array) -> None:
    """Add the pixels of each level, from 0, in some rows."""
    for row in range(rows.shape[0]):
        for p in range(rows[row, 0], rows[row, 1]):
            out[at(levels[at(p)])] += 1


@jit
def add_single_pixels(pixels: Array, lines: Array, out: Array) -> None:
    """Add the runs of one pixel to the longer ones (A, ng, max_run): a pixel of each level that is in none of these.

    Only in the directions of which some line holds two pixels.
    """
    for a in range(out.shape[0]):
        if lines[a]:
            for i in range(out.shape[1]):
                single = pixels[i]
                for length in range(1, out.shape[2]):
                    single -= (length + 1) * np.int64(out[a, i, length])
                out[a, i, ONE_PIXEL] = single


def some_line_holds_two(region: Array, offset: Array) -> bool:
    """Return True if two pixels, however far apart, lie on one line of this direction (of steps 0, 1, -1)."""
    size, steps = region.shape, offset.tolist()
    moved = [d for d, step in enumerate(steps) if step]
    if min(size[d] for d in moved) == 1:  # each step leaves the box
        return False
    axis = moved[0]
    margin = [size[axis] if d in moved else 0 for d in range(3)]
    lines = np.zeros([1 if d == axis else size[d] + 2 * margin[d] for d in range(3)], np.bool_)
    return bool(line_holds_two(region, axis, *(step * steps[axis] for step in steps), lines))


@jit
def line_holds_two(region: Array, axis: int, dz: int, dy: int, dx: int, lines: Array) -> bool:
    """Return True if two pixels lie on one line of steps (dz, dy, dx), of which that along ``axis`` is 1.

    ``lines`` is scratch, False, for the places where lines pass 0 on that axis, with a margin of that axis' length on
    both sides of the other axes along which they move.
    """
    depth, height, width = region.shape
    length = region.shape[axis]
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if region[z, y, x] > 0:
                    n = z if axis == 0 else y if axis == 1 else x
                    line_z = 0 if axis == 0 else z - n * dz + (length if dz else 0)
                    line_y = 0 if axis == 1 else y - n * dy + (length if dy else 0)
                    line_x = 0 if axis == 2 else x - n * dx + (length if dx else 0)
                    if lines[at(line_z), at(line_y), at(line_x)]:
                        return True
                    lines[at(line_z), at(line_y), at(line_x)] = True
    return False
