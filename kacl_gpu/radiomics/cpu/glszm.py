"""Grey-level size zones: connected pixels of one level, counted by level and size."""

import numpy as np

from ._regions import Array, Padded, at, for_each, jit, volume, with_margin
from .sums import statistics_of_triples, sums_of_marginals

SMALL = 64  # pixels: below it, zones are counted in a table, not sorted


def glszm(levels: Array, start: Array, size: Array, offsets: Array, ng: int, max_zones: int) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.glszm`."""
    out = np.zeros((len(start), max_zones, 3), np.int32)
    ordered, joined = in_order_of_use(offsets)

    def task(k: int) -> None:
        padded, _, pixels, first = zones_of(volume(levels, start, size, k), ordered, joined)
        # one number a zone, size before level, so that equal zones can be counted and sizes come in ascending order
        zones, counts = count_equal(pixels[first].astype(np.int64) * ng + padded.levels[first] - 1, SMALL * ng)
        out[k, : len(zones)] = np.stack([zones % ng + 1, zones // ng, counts], 1)

    for_each(task, len(start), len(levels))
    return out


def zones_of(region: Array, ordered: Array, joined: Array) -> tuple[Padded, Array, Array, Array]:
    """The zones of (D, H, W) in a padded copy: that, each pixel's root, the pixels at each root, and the roots."""
    padded = with_margin(region, ordered)
    parent, pixels, roots = np.zeros((3, padded.levels.size), np.int32)
    return padded, parent, pixels, roots[: find_zones(*padded, joined, parent, pixels, roots)]


def count_equal(numbers: Array, small: int) -> tuple[Array, Array]:
    """The different ones of these numbers, ascending, and how often each occurs; most of them are below ``small``."""
    few = numbers < small
    of_small = np.bincount(numbers[few])
    different = np.flatnonzero(of_small)
    large, of_large = np.unique(numbers[~few], return_counts=True)
    return np.concatenate([different, large]), np.concatenate([of_small[different], of_large])


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
    row, n = np.nonzero(zones[..., 2])
    level, size, count = zones[row, n].T
    # the zones of one size stand together: the first of them carries their sum
    new = np.ones(len(n), np.bool_)
    new[1:] = (size[1:] != size[:-1]) | (row[1:] != row[:-1])
    by_level, joint = statistics_of_triples(row, level - 1, size - 1, count.astype(np.float64), regions, ng)
    by_size = np.zeros((regions, rows))
    by_size[row[new], n[new]] = np.add.reduceat(count, np.flatnonzero(new))
    sums = sums_of_marginals(by_level[:, None], by_size[:, None], zones[..., 1].astype(np.float64), joint[:, None])
    return sums[:, 0]
