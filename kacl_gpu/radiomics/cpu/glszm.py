"""Grey-level size zones: connected pixels of one level, counted by level and size."""

import numpy as np

from ._regions import COMPILED, Array, at, for_each, jit, volume, with_margin
from .sums import add_joint, sums_of_marginals

SMALL = 64  # pixels: below it, zones are counted in a table, not sorted


def glszm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_zones: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glszm`."""
    out = np.zeros((len(start), max_zones, 3), np.int32)
    ordered, joined = in_order_of_use(offsets)

    def task(k: int) -> None:
        zones_of(volume(levels, start, size, k), ordered, joined, ng, out[k])

    for_each(task, len(start), len(levels) * COMPILED)
    return out


@jit
def zones_of(region: Array, ordered: Array, joined: Array, ng: int, out: Array) -> None:
    """Level, size and number of the zones of one region that are equal in both, in ascending order of size."""
    padded = with_margin(region, ordered)
    space = np.zeros((3, padded.levels.size), np.int32)
    parent, pixels, roots = space[0], space[1], space[2]
    zones = find_zones(padded.levels, padded.rows, padded.width, padded.steps, joined, parent, pixels, roots)
    # one number a zone, size before level, so that equal zones can be counted and sizes come in ascending order
    table, large, several = np.zeros(SMALL * ng, np.int32), np.empty(zones, np.int64), 0
    for root in roots[:zones]:
        number = np.int64(pixels[root]) * ng + padded.levels[root] - 1
        if number < table.size:
            table[number] += 1
        else:
            large[several] = number
            several += 1
    row = 0
    for number in range(table.size):
        if table[number]:
            out[row, 0], out[row, 1], out[row, 2] = number % ng + 1, number // ng, table[number]
            row += 1
    last = np.int64(-1)
    for number in np.sort(large[:several]):
        if number == last:
            out[row - 1, 2] += 1
            continue
        out[row, 0], out[row, 1], out[row, 2] = number % ng + 1, number // ng, 1
        row, last = row + 1, number


def in_order_of_use(offsets: Array) -> tuple[Array, Array]:
    """The offsets, those first that spare most of the others, and for each a bit set of the others it spares.

    Two neighbours of a pixel that are neighbours themselves are joined already if all three have one level.
    """
    neighbours = {tuple(o) for o in np.concatenate([offsets, -offsets]).tolist()}
    adjacent = np.array([[tuple(o) in neighbours for o in (a - offsets).tolist()] for a in offsets])
    order = np.argsort(-adjacent.sum(1), kind="stable")
    return offsets[order], adjacent[order][:, order] @ (1 << np.arange(len(offsets)))


@jit
def find_zones(
    levels: Array, rows: Array, width: int, steps: Array, joined: Array, parent: Array, pixels: Array, roots: Array
) -> int:
    """Counts the pixels of each zone at its first pixel, its root in a union-find; ``parent`` is space.

    Lists the roots, and returns their number.
    """
    for first in rows:
        for p in range(first, first + width):
            i = levels[at(p)]
            if i == 0:
                continue
            root, spared = p, 0
            for a in range(steps.size):
                q = p - steps[a]
                if levels[at(q)] != i or (spared >> a) & 1:
                    continue
                spared |= joined[a]
                above = np.int64(parent[at(q)])
                while above != q:  # halving the path on the way to the root
                    parent[at(q)] = parent[at(above)]
                    q = np.int64(parent[at(q)])
                    above = np.int64(parent[at(q)])
                if q < root:
                    parent[at(root)] = q
                    root = q
                else:
                    parent[at(q)] = root
            parent[at(p)] = root
    zones = 0
    for first in rows:
        for p in range(first, first + width):
            if levels[at(p)] > 0:
                zone = np.int64(parent[at(parent[at(p)])])  # a parent comes before its children: its own is the root
                parent[at(p)] = zone
                pixels[at(zone)] += 1
                if zone == p:
                    roots[at(zones)] = p
                    zones += 1
    return zones


def zone_sums(zones: Array, ng: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.zone_sums`."""
    regions, rows = zones.shape[:2]
    by_level, by_size, joint = np.zeros((regions, 1, ng)), np.zeros((regions, 1, rows)), np.zeros((regions, 1, 5))
    for_each(lambda k: add_zones(zones[k], by_level[k, 0], by_size[k, 0], joint[k, 0]), regions, zones.size)
    return sums_of_marginals(by_level, by_size, zones[..., 1].astype(np.float64), joint)[:, 0]


@jit
def add_zones(zones: Array, by_level: Array, by_size: Array, joint: Array) -> None:
    """Marginals and joint sums of one region's zones. Those of one size stand together: the first carries their sum."""
    total, first = 0.0, 0
    for n in range(len(zones)):
        level, size, count = zones[n]
        if count > 0:
            if size != zones[first, 1]:
                first = n
            by_level[level - 1] += count
            by_size[first] += count
            total += count
    for level, size, count in zones:
        if count > 0:
            add_joint(float(count), total, float(level), float(size), joint)
