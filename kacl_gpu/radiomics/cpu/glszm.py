"""Grey-level size zones: connected pixels of one level, counted by level and size."""

from functools import cache
from typing import Any

import numpy as np

from ..columns import OFFSET, SIZES, ZONE
from ._compile import jit
from ._regions import BLOCK, Array, Padded, at, block_end, split_rows, volume, with_margin
from ._threads import COMPILED, for_each, for_each_region
from .sizes import add_joint, write_marginal_sums

SMALL = 64  # pixels: below it, zones are counted in a table, not sorted


def glszm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_zones: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glszm`."""
    out = np.zeros((len(start), max_zones, len(ZONE)), np.int32)
    offsets, groups = groups_of_neighbours(tuple(offsets.ravel().tolist()))

    def task(k: int, parts: int) -> None:
        padded = with_margin(volume(levels, start, size, k), offsets, parts)
        places = np.zeros(padded.levels.size // max(padded.width, 1), np.int64)
        pixels = place_rows(padded.rows, padded.width, places)
        parent = np.empty(pixels, np.int32)
        forest, cuts = (padded, groups, places, parent), split_rows(padded, parts)

        def join(part: int) -> None:
            join_rows(*forest, cuts[part], cuts[part + 1], np.empty(BLOCK, np.uint16))

        lists: dict[int, tuple[Array, Array]] = {}

        def sort(part: int) -> None:
            small, large = np.zeros(SMALL * ng, np.int64), np.empty(pixels // SMALL, np.int64)
            listed = list_zones(padded.part(cuts[part], cuts[part + 1]), places, parent, ng, small, large)
            lists[part] = small, large[:listed].copy()

        for_each(join, parts, padded.levels.size * COMPILED)
        for part in range(1, parts):
            join_parts(*forest, cuts[part], np.empty(BLOCK, np.uint16))
        for_each(sort, parts, padded.levels.size * COMPILED)
        small = np.add.reduce([small for small, _ in lists.values()])
        number = np.flatnonzero(small)
        count = small[number]
        large = np.concatenate([large for _, large in lists.values()])
        if len(large):
            numbers, counts = np.unique(large, return_counts=True)
            number, count = np.append(number, numbers), np.append(count, counts)
        zones = out[k, : len(number)]
        zones[:, ZONE.level], zones[:, ZONE.size], zones[:, ZONE.count] = number % ng + 1, number // ng, count

    for_each_region(task, size.prod(1).tolist())
    return out


@cache
def groups_of_neighbours(offsets: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the offsets, the nearest in memory first, and for each set of them one neighbour of each group.

    The neighbours of a pixel that lie before it are joined already if they are neighbours themselves and all of one
    level. So of each group, connected in this sense, one has to be joined with the pixel. Sets are numbers of as many
    bits as there are offsets (A, 3), and their groups hexadecimal digits, 1 + the number of the offset, from the last.
    """
    rows = np.array(offsets, np.int64).reshape(-1, len(OFFSET))[::-1]  # descending in lexicographic order
    neighbours = {tuple(o) for o in np.concatenate([rows, -rows]).tolist()}
    adjacent = np.array([[tuple(o) in neighbours for o in (a - rows).tolist()] for a in rows], np.int64)
    groups = np.zeros(1 << len(rows), np.uint32)
    write_groups(adjacent.reshape(len(rows), -1) @ (1 << np.arange(len(rows))), groups)
    return np.ascontiguousarray(rows), groups


@jit
def write_groups(adjacent: Array, groups: Array) -> None:
    """Write the groups of each set of neighbours, given for each the set of those it is adjacent to."""
    for mask in range(groups.size):
        left, listed = mask, 0
        while left:
            first = 0
            while not (left >> first) & 1:
                first += 1
            group, before = 1 << first, 0
            while group != before:
                before = group
                for a in range(adjacent.size):
                    if (group >> a) & 1:
                        group |= adjacent[a] & left
            left &= ~group
            groups[mask] |= np.uint32((first + 1) << (4 * listed))
            listed += 1


@jit
def place_rows(rows: Array, width: int, places: Array) -> int:
    """Write for each row what makes a place in flat memory one in the list of all pixels of the rows; return how many.

    The list holds no row's zeros before and after its levels.
    """
    pixels = 0
    for row in range(rows.shape[0]):
        begin, end = rows[row, 0], rows[row, 1]
        places[begin // width] = pixels - begin
        pixels += end - begin
    return pixels


@jit
def mark_equal(pixels: Array, before: Array, bit: int, sets: Array) -> None:
    """Add a bit to the set of each pixel whose neighbour has its level."""
    for x in range(sets.size):
        sets[x] |= np.uint16(pixels[x] == before[x]) << np.uint16(bit)


@jit
def root_of(parent: Array, p: Any) -> Any:
    """Return the root of a pixel, halving the path to it."""
    above = np.int64(parent[at(p)])
    while above >= 0:
        further = np.int64(parent[at(above)])
        if further < 0:
            return above
        parent[at(p)] = further
        p, above = further, np.int64(parent[at(further)])
    return p


@jit
def join_rows(padded: Padded, groups: Array, places: Array, parent: Array, first: int, last: int, sets: Array) -> None:
    """Make a union-find of the pixels of some rows and their neighbours in these rows.

    A root's ``parent`` is minus the number of its pixels; that of a pixel outside is 0. ``sets`` is scratch for a
    block.
    """
    levels, rows, steps, lines = padded.levels, padded.rows, padded.steps, padded.lines
    if first == last:
        return
    top = rows[first, 0] // padded.width
    while first < last:
        end = block_end(rows, first, last)
        begin = rows[first, 0]
        n = rows[end - 1, 1] - begin
        for x in range(n):
            sets[x] = 0
        for a in range(steps.size):
            before = levels[begin - steps[a] : begin - steps[a] + n]
            mark_equal(levels[begin : begin + n], before, a, sets[:n])
        for row in range(first, end):
            line = rows[row, 0] // padded.width
            place, allowed = places[line], 0
            for a in range(steps.size):
                if line - lines[a] >= top:
                    allowed |= 1 << a
            for p in range(rows[row, 0], rows[row, 1]):
                if levels[at(p)] == 0:
                    parent[at(p + place)] = 0
                    continue
                group = int(groups[at(int(sets[at(p - begin)]) & allowed)])
                if group == 0:
                    parent[at(p + place)] = -1
                    continue
                a = (group & 15) - 1
                root = root_of(parent, p - steps[at(a)] + places[at(line - lines[at(a)])])
                group >>= 4
                while group:
                    a = (group & 15) - 1
                    root = join(parent, root, p - steps[at(a)] + places[at(line - lines[at(a)])])
                    group >>= 4
                parent[at(root)] -= 1
                parent[at(p + place)] = root
        first = end


@jit
def join(parent: Array, root: Any, p: Any) -> Any:
    """Join a root and the tree of a pixel, the smaller to the larger, and return their root."""
    other = root_of(parent, p)
    if other == root:
        return root
    if parent[at(other)] < parent[at(root)]:
        root, other = other, root
    parent[at(root)] += parent[at(other)]
    parent[at(other)] = root
    return root


@jit
def join_parts(padded: Padded, groups: Array, places: Array, parent: Array, first: int, sets: Array) -> None:
    """Join the pixels from row ``first`` on with those of their neighbours that lie before it."""
    levels, rows, steps, lines = padded.levels, padded.rows, padded.steps, padded.lines
    row = first
    while row < len(rows):
        begin, end = rows[row, 0], rows[row, 1]
        line, n = begin // padded.width, end - begin
        if line - lines[steps.size - 1] >= rows[first, 0] // padded.width:
            break
        for x in range(n):
            sets[x] = 0
        for a in range(steps.size):
            if line - lines[a] < rows[first, 0] // padded.width:
                before = levels[begin - steps[a] : begin - steps[a] + n]
                mark_equal(levels[begin:end], before, a, sets[:n])
        for p in range(begin, end):
            group = int(groups[at(sets[at(p - begin)])]) if levels[at(p)] > 0 else 0
            if group:
                root = root_of(parent, p + places[line])
                while group:
                    a = (group & 15) - 1
                    root = join(parent, root, p - steps[at(a)] + places[at(line - lines[at(a)])])
                    group >>= 4
        row += 1


@jit
def list_zones(padded: Padded, places: Array, parent: Array, ng: int, small: Array, large: Array) -> int:
    """Number each zone whose root is in these rows by its size, then its level.

    Count the zones of each small number, list the large ones, and return how many these are.
    """
    levels, rows, listed = padded.levels, padded.rows, 0
    for row in range(rows.shape[0]):
        place = places[rows[row, 0] // padded.width]
        for p in range(rows[row, 0], rows[row, 1]):
            size = -np.int64(parent[at(p + place)])
            if size > 0:
                number = size * ng + levels[at(p)] - 1
                if number < small.size:
                    small[at(number)] += 1
                else:
                    large[at(listed)] = number
                    listed += 1
    return listed


def zone_sums(zones: Array, ng: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.zone_sums`."""
    regions, rows = zones.shape[:2]
    by_level, by_size = np.zeros((regions, 1, ng)), np.zeros((regions, 1, rows))
    out, sizes = np.zeros((regions, len(SIZES))), zones[..., ZONE.size].astype(np.float64)

    def task(k: int) -> None:
        add_zones(zones[k], by_level[k, 0], by_size[k, 0], out[k])
        write_marginal_sums(by_level[k], by_size[k], sizes[k], out[k, None])

    for_each(task, regions, zones.size)
    return out


@jit
def add_zones(zones: Array, by_level: Array, by_size: Array, out: Array) -> None:
    """Return marginals and joint sums of one region's zones.

    Zones of one size stand together, and the first carries their sum.
    """
    total, first = 0.0, 0
    for n in range(len(zones)):
        level, size, count = zones[n, ZONE.level], zones[n, ZONE.size], zones[n, ZONE.count]
        if count > 0:
            if size != zones[first, ZONE.size]:
                first = n
            by_level[level - 1] += count
            by_size[first] += count
            total += count
    for n in range(len(zones)):
        level, size, count = zones[n, ZONE.level], zones[n, ZONE.size], zones[n, ZONE.count]
        if count > 0:
            add_joint(float(count), total, float(level), float(size), out)
