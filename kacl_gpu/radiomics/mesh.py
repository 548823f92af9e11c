"""The triangles that marching cubes puts into each of the 256 cases of eight voxels, made from rules.

A cube joins the centres of 2 x 2 x 2 voxels. Bit 4 z + 2 y + x of its *case* says whether the voxel at z, y, x is
inside. Vertices are the middles of the cube's edges, so in units of half a voxel everything about a mesh is an integer:
the normal (b - a) x (c - a) of a triangle a, b, c, twice its area long, is one of eighteen vectors up to signs.

The rules give PyRadiomics' surface (that of Lorensen and Cline, 1987): a case and its complement have one surface, so
that the mesh is open where an ambiguous face lies between two cubes that see it differently.
"""

import itertools
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = tuple[int, int, int]
Loop = list[tuple[Vector, Vector]]  # edges of the cube in order, each as its corner inside and its corner outside
Triangle = tuple[Vector, Vector, Vector]

CASES = 256
CORNERS: list[Vector] = [(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
PIVOT: Vector = (1, 1, 0)  # a case in which this corner is inside has the surface of its complement
# |normal| of a triangle z, y, x in half voxels: everything that occurs
NORMALS: tuple[Vector, ...] = (
    *((1, 1, 1), (2, 2, 2), (3, 3, 3), (0, 0, 4), (0, 4, 0), (4, 0, 0), (0, 2, 2), (2, 0, 2), (2, 2, 0)),
    *((1, 1, 3), (1, 3, 1), (3, 1, 1), (0, 2, 4), (0, 4, 2), (2, 0, 4), (4, 0, 2), (2, 4, 0), (4, 2, 0)),
)


class Mesh(NamedTuple):
    """Integers of each case, in half voxels."""

    triangles: NDArray[np.int64]  # (256, 18) how many there are of each of NORMALS
    determinant: NDArray[np.int64]  # (256,) sum of det(a, b, c), from the centre of the voxel 0, 0, 0
    normal: NDArray[np.int64]  # (256, 3) sum of the normals z, y, x, which point outward


def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: Vector, b: Vector) -> int:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _sum(vectors: Iterable[Vector]) -> Vector:
    z = y = x = 0
    for a, b, c in vectors:
        z, y, x = z + a, y + b, x + c
    return z, y, x


def normal_of(triangle: Triangle) -> Vector:
    """Return (b - a) x (c - a) of a triangle a, b, c."""
    a, b, c = triangle
    return _cross(_minus(b, a), _minus(c, a))


def fan_of(way: list[Vector]) -> list[Triangle]:
    """Return the triangles from the first vertex of a loop to all others."""
    return [(way[0], b, c) for b, c in itertools.pairwise(way[1:])]


def _around(axis: int, side: int) -> list[Vector]:
    """Return the four corners of a face, around it."""
    a, b, c, d = (corner for corner in CORNERS if corner[axis] == side)
    return [a, b, d, c]


def loops_of(inside: set[Vector]) -> list[Loop]:
    """Return the closed loops of crossed edges, each turning so that its surface looks away from the inside."""
    joined: dict[Vector, list[Vector]] = {}  # edges, named by their middles, that follow each other on a face
    for face in FACES:
        states = [corner in inside for corner in face]
        crossed = [_sum((face[n - 1], face[n])) for n in range(4) if states[n - 1] != states[n]]
        if len(crossed) == 4 and not states[0]:  # two opposite corners are inside: cut off each
            crossed = crossed[1:] + crossed[:1]
        for a, b in zip(crossed[::2], crossed[1::2]):
            joined.setdefault(a, []).append(b)
            joined.setdefault(b, []).append(a)
    edges = {_sum((a, b)): (a, b) if a in inside else (b, a) for a, b in EDGES if (a in inside) != (b in inside)}
    loops = []
    while edges:
        way = [next(iter(edges))]
        while following := [n for n in joined[way[-1]] if n not in way]:
            way.append(following[0])
        loop = [edges.pop(place) for place in way]
        area = _sum(map(normal_of, fan_of(way)))
        outward = _sum(_minus(o, i) for i, o in loop)
        loops.append(loop if _dot(area, outward) > 0 else loop[::-1])
    return loops


def _first_of_fan(loop: Loop) -> int:
    """Return from which edge of a loop that does not lie in a plane its triangles fan out."""
    corners_in, corners_out = ({edge[side] for edge in loop} for side in (0, 1))
    if len(loop) == 5:  # around three corners in an L: an edge at one of its ends, perpendicular to its plane
        corner = corners_in if len(corners_in) == 3 else corners_out
        plane = next(axis for axis in range(3) if len({c[axis] for c in corner}) == 1)
        middle = next(c for c in corner if all(_dot(_minus(c, d), _minus(c, d)) <= 1 for d in corner))
        return next(
            n
            for n, edge in enumerate(loop)
            if edge[0][plane] != edge[1][plane] and corner & {*edge} and middle not in edge
        )
    # around outside corners that meet over an ambiguous face: an edge of one that stands alone, perpendicular to it
    single = next(c for c in sorted(corners_out) if all(_dot(_minus(c, d), _minus(c, d)) != 1 for d in corners_out))
    opposite = next(d for d in corners_out if _dot(_minus(single, d), _minus(single, d)) == 2)
    face = next(axis for axis in range(3) if single[axis] == opposite[axis])
    return next(n for n, (i, o) in enumerate(loop) if o == single and i[face] != o[face])


def triangles_of(loop: Loop) -> list[Triangle]:
    """Return the triangles of a loop, in half voxels."""
    way = [_sum(edge) for edge in loop]
    fan = fan_of(way)
    if any(_cross(normal_of(fan[0]), normal_of(triangle)) != (0, 0, 0) for triangle in fan):
        if len(loop) == 6 and len({edge[1] for edge in loop}) == 4:  # around a path of four corners: three ears
            ears = [(way[n], way[n + 1], way[(n + 2) % 6]) for n in (0, 2, 4)]
            return [*ears, (way[0], way[2], way[4])]
        first = _first_of_fan(loop)
        return fan_of(way[first:] + way[:first])
    return fan


FACES = [_around(axis, side) for axis, side in itertools.product(range(3), (0, 1))]
EDGES = [(a, b) for a, b in itertools.combinations(CORNERS, 2) if _dot(_minus(a, b), _minus(a, b)) == 1]


@cache
def mesh() -> Mesh:
    """Return the integers of all cases, made once."""
    triangles = np.zeros((CASES, len(NORMALS)), np.int64)
    determinant, normal = np.zeros(CASES, np.int64), np.zeros((CASES, 3), np.int64)
    bit = {corner: 1 << n for n, corner in enumerate(CORNERS)}
    number = {vector: n for n, vector in enumerate(NORMALS)}
    for case in range(CASES):
        inside = {corner for corner in CORNERS if case & bit[corner]}
        if PIVOT in inside:
            continue
        other = CASES - 1 - case
        for triangle in itertools.chain.from_iterable(map(triangles_of, loops_of(inside))):
            vector = normal_of(triangle)
            kind = number[abs(vector[0]), abs(vector[1]), abs(vector[2])]
            triangles[case, kind] += 1
            triangles[other, kind] += 1
            product = _dot(triangle[0], _cross(triangle[1], triangle[2]))
            determinant[case] += product
            determinant[other] -= product
            normal[case] += vector
            normal[other] -= vector
    return Mesh(triangles, determinant, normal)
