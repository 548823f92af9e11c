"""Grey-level size zones: connected pixels of one level, counted by level and size."""

import numpy as np

from ..columns import SIZES, ZONE
from ._compile import jit
from ._regions import Array, Padded, at, volume, with_margin
from ._threads import COMPILED, for_each
from .sizes import add_joint, write_marginal_sums

SMALL = 64  # pixels: below it, zones are counted in a table, not sorted


def glszm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_zones: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glszm`."""
    out = np.zeros((len(start), max_zones, len(ZONE)), np.int32)
    ordered, joined = in_order_of_use(offsets)

    def task(k: int) -> None:
        padded = with_margin(volume(levels, start, size, k), ordered)
        pixels = padded.levels.size
        space, small = np.zeros((3, pixels), np.int32), np.zeros(SMALL * ng, np.int32)
        large = np.empty(pixels // SMALL, np.int64)
        listed = find_zones(padded, joined, ng, *space, small, large)
        number = np.flatnonzero(small)
        count = small[number]
        if listed:
            numbers, counts = np.unique(large[:listed], return_counts=True)
            number, count = np.append(number, numbers), np.append(count, counts)
        zones = out[k, : len(number)]
        zones[:, ZONE.level], zones[:, ZONE.size], zones[:, ZONE.count] = number % ng + 1, number // ng, count

    for_each(task, len(start), len(levels) * COMPILED)
    return out


def in_order_of_use(offsets: Array) -> tuple[Array, Array]:
    """Return the offsets, those first that spare most of the others, and for each a bit set of the others it spares.

    Two neighbours of a pixel that are neighbours themselves are joined already if all three have one level.
    """
    neighbours = {tuple(o) for o in np.concatenate([offsets, -offsets]).tolist()}
    adjacent = np.array([[tuple(o) in neighbours for o in (a - offsets).tolist()] for a in offsets])
    order = np.argsort(-adjacent.sum(1), kind="stable")
    return offsets[order], adjacent[order][:, order] @ (1 << np.arange(len(offsets)))


@jit
def find_zones(
    padded: Padded,
    joined: Array,
    ng: int,
    parent: Array,
    pixels: Array,
    roots: Array,
    small: Array,
    large: Array,
) -> int:
    """Number each zone by its size, then its level; count the zones of each small number, list the large ones.

    Return the number of large ones. ``parent``, a union-find, ``pixels``, counted at a zone's first pixel, which is its
    root there, and ``roots`` are scratch, zeros.
    """
    levels, rows, width, steps = padded
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
    listed = 0
    for n in range(zones):
        root = roots[at(n)]
        number = np.int64(pixels[at(root)]) * ng + levels[at(root)] - 1
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
    out = np.zeros((regions, len(SIZES)))
    for_each(lambda k: add_zones(zones[k], by_level[k, 0], by_size[k, 0], out[k]), regions, zones.size)
    write_marginal_sums(by_level, by_size, zones[..., ZONE.size].astype(np.float64), out[:, None])
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
