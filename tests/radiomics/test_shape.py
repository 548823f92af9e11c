"""3D shape: against PyRadiomics, against plain definitions, and by hand."""

import itertools
import math
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kacl_gpu.radiomics import mesh as meshes
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.columns import SHAPE, number_of_columns
from kacl_gpu.radiomics.constants import TILE
from kacl_gpu.radiomics.features import CLASSES
from kacl_gpu.radiomics.features.shape import _cube_root
from kacl_gpu.radiomics.mesh import CASES, NORMALS, mesh

cpu: Any = import_module("kacl_gpu.radiomics.cpu.shape")
FEATURES, _ = CLASSES["shape"]
NAMES = [f"shape/{feature.name}" for feature in FEATURES]
ROOTS = {"Elongation", "Flatness", "LeastAxisLength", "MinorAxisLength"}  # of what may be 0 but for rounding
DIAMETERS = ("diameter", "diameter_slice", "diameter_column", "diameter_row")
UNIT = (1.0, 1.0, 1.0)
Spacing = tuple[float, float, float]


def pack(masks: list[np.ndarray], dtype: Any = np.uint8) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks as a packed buffer, with garbage between the blocks."""
    ends = np.cumsum([-(-mask.size // TILE) * TILE for mask in masks])
    start = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    buffer = np.ones(ends[-1], dtype)
    for first, mask in zip(start, masks):
        buffer[first : first + mask.size] = mask.ravel()
    return torch.from_numpy(buffer), torch.from_numpy(start), torch.tensor([mask.shape for mask in masks])


def sums(mask: np.ndarray, spacing: Spacing = UNIT) -> np.ndarray:
    """Return the columns of one mask."""
    row: np.ndarray = ops.shape(*pack([mask]), torch.tensor([spacing], dtype=torch.float64)).numpy()[0]
    return row


def features(mask: np.ndarray, spacing: Spacing = UNIT) -> dict[str, float]:
    """Return the features of one mask, the deprecated ones too."""
    table = torch.from_numpy(sums(mask, spacing))[None]
    spacings, status = torch.tensor([spacing], dtype=torch.float64), torch.zeros(1, dtype=torch.int32)
    row = ops.features([table], spacings, status, names=NAMES, dtype=torch.float64)[0].tolist()
    return dict(zip((feature.name for feature in FEATURES), row))


def pyradiomics(mask: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """Return PyRadiomics' features of a mask cropped to its box; of complex values the real part."""
    shape = pytest.importorskip("radiomics.shape", reason="PyRadiomics is not installed")
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(cropped(mask).astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    reference = shape.RadiomicsShape(image, image, label=1)
    for feature in FEATURES:
        reference.enableFeatureByName(feature.name)
    return {name: float(np.real(value)) for name, value in reference.execute().items()}


def cropped(mask: np.ndarray) -> np.ndarray:
    places = np.argwhere(mask)
    part: np.ndarray = mask[tuple(map(slice, places.min(0), places.max(0) + 1))]
    return part


def check(mask: np.ndarray, spacing: Spacing) -> None:
    ours, theirs = features(mask, spacing), pyradiomics(mask, spacing)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        value = ours[name]
        if name in ROOTS:  # near 0 as squares, in units of the largest
            unit = theirs["MajorAxisLength"] if name.endswith("Length") else 1.0
            near = value == pytest.approx(expected, rel=1e-9, abs=0, nan_ok=True)
            assert near or abs(value**2 - expected**2) <= 1e-14 * unit**2, (name, mask.shape, spacing)
        else:
            assert value == pytest.approx(expected, rel=1e-11, abs=1e-300), (name, mask.shape, spacing)


def smooth(rng: np.random.Generator, size: Any) -> np.ndarray:
    """Return a mask of some parts with holes: noise added up over neighbours, above its median."""
    noise = np.pad(rng.random(size), 1, mode="edge")
    for axis in range(3):
        noise = noise.take(range(noise.shape[axis] - 2), axis) + noise.take(range(2, noise.shape[axis]), axis)
    mask: np.ndarray = noise > np.median(noise) - 1e-9
    return mask


def ball(size: Any) -> np.ndarray:
    """Return an ellipsoid that touches the borders."""
    half = np.reshape(size, (3, 1, 1, 1)) / 2
    mask: np.ndarray = (((np.indices(size) + 0.5 - half) / half) ** 2).sum(0) <= 1
    return mask


def random_mask(rng: np.random.Generator) -> tuple[np.ndarray, Spacing]:
    """Return a mask of more than one voxel, sides of 1 to 24, and a spacing."""
    size = tuple(rng.integers(1, 25, 3).tolist())
    if rng.random() < 0.2:
        size = tuple(rng.permutation([1, *size[1:]]).tolist())
    kind = rng.integers(6)
    if kind == 0:
        mask = rng.random(size) < rng.random()
    elif kind == 1:
        mask = smooth(rng, size)
    elif kind == 2:
        mask = np.ones(size, bool)
    elif kind == 3:
        mask = ball(size)
    elif kind == 4:  # hollow
        mask = ball(size)
        mask[tuple(slice(n // 4, n - n // 4) for n in size)] = False
    else:  # boxes apart, and a block larger than what is in it
        mask = np.zeros(size, bool)
        for _ in range(3):
            low = rng.integers(0, size)
            mask[tuple(map(slice, low, low + rng.integers(1, 6, 3)))] = True
    z, y, x = rng.uniform(0.3, 4, 3).tolist() if rng.random() < 0.8 else (1.0, 1.0, 1.0)
    return (mask, (z, y, x)) if mask.sum() > 1 else random_mask(rng)


@pytest.mark.parametrize("chunk", range(10))
def test_random_masks(chunk: int) -> None:
    rng = np.random.default_rng([18, chunk])
    for _ in range(30):
        check(*random_mask(rng))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_drawn_masks(data: st.DataObject) -> None:
    size = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    bits = data.draw(st.lists(st.booleans(), min_size=math.prod(size), max_size=math.prod(size)).filter(any))
    spacing = data.draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    if sum(bits) > 1:
        check(np.reshape(bits, size), spacing)


@pytest.mark.parametrize("spacing", [UNIT, (2.5, 0.7, 0.9), (0.3, 4.0, 1.1), (3.0, 2.0, 1.0)])
def test_single_cubes(spacing: Spacing) -> None:
    """The 256 cases, alone: neither a border nor another cube beside them."""
    coefficients = pytest.importorskip("radiomics", reason="PyRadiomics is not installed").cShape.calculate_coefficients
    sz, sy, sx = spacing
    areas = np.sqrt((np.multiply(NORMALS, (sy * sx, sz * sx, sz * sy)) ** 2).sum(1)) / 8
    for case in range(1, CASES):
        voxels = np.array([case >> bit & 1 for bit in range(8)]).reshape(2, 2, 2).astype(bool)
        area, volume, _ = coefficients(voxels, np.array(spacing))
        assert mesh().triangles[case] @ areas == pytest.approx(area, rel=1e-13), case
        assert mesh().determinant[case] * (sz * sy * sx / 48) == pytest.approx(volume, rel=1e-13, abs=1e-13), case


def test_mesh_has_the_properties_of_a_surface() -> None:
    table = mesh()
    assert table.triangles.sum() == 792 and table.triangles.sum(1).max() == 5 and (table.triangles[[0, 255]] == 0).all()
    assert {tuple(sorted(normal)) for normal in NORMALS} == {
        *((1, 1, 1), (2, 2, 2), (3, 3, 3), (0, 0, 4), (0, 2, 2), (0, 2, 4), (1, 1, 3))
    }
    for case in range(CASES):
        other = CASES - 1 - case
        assert (table.triangles[case] == table.triangles[other]).all()
        assert table.determinant[case] == -table.determinant[other]
        assert (table.normal[case] == -table.normal[other]).all()
        inside = {corner for bit, corner in enumerate(meshes.CORNERS) if case >> bit & 1}
        loops = meshes.loops_of(inside)
        crossed = sum((a in inside) != (b in inside) for a, b in meshes.EDGES)
        assert sum(map(len, loops)) == crossed and {len(loop) for loop in loops} <= set(range(3, 8))
        for loop in loops:  # neighbours in a loop lie on one face; triangles keep within the loop, turned as it is
            middles = [np.add(*edge) for edge in loop]
            for a, b in zip(middles, middles[1:] + middles[:1]):
                assert any(a[axis] == b[axis] != 1 for axis in range(3))
            whole = np.sum([meshes.normal_of(t) for t in meshes.triangles_of(loop)], 0)
            assert (whole == np.sum([np.cross(a, b) for a, b in zip(middles, middles[1:] + middles[:1])], 0)).all()
            assert whole @ np.sum([np.subtract(o, i) for i, o in loop], 0) > 0


def test_by_hand() -> None:
    # A voxel: an octahedron, whose corners are the middles of six pairs of neighbours
    voxel = sums(np.ones((1, 1, 1)))
    assert voxel[SHAPE.n] == 1 and voxel[SHAPE.volumes] / 48 == 1 / 6 and voxel[SHAPE.area] == math.sqrt(3)
    assert voxel[[SHAPE.diameter_slice, SHAPE.diameter_column, SHAPE.diameter_row, SHAPE.diameter]].tolist() == [
        1,
        1,
        1,
        1,
    ]
    # Two along x: both pyramids, and between them a prism of diagonal 1, with sides of sqrt(1/2)
    two = features(np.ones((1, 1, 2)))
    assert two["MeshVolume"] == pytest.approx(1 / 6 + 1 / 2, rel=1e-15)
    assert two["SurfaceArea"] == pytest.approx(math.sqrt(3) + 4 * math.sqrt(1 / 2), rel=1e-15)
    assert two["Maximum3DDiameter"] == 2 and two["Maximum2DDiameterRow"] == 1 and two["VoxelVolume"] == 2
    assert two["MajorAxisLength"] == 4 * 0.5 and two["MinorAxisLength"] == two["Flatness"] == 0
    # A plus of seven voxels, 2 mm from slice to slice
    plus = ball((3, 3, 3)) & (np.abs(np.indices((3, 3, 3)) - 1).sum(0) <= 1)
    assert plus.sum() == 7
    seven = features(plus, (2.0, 1.0, 1.0))
    assert seven["Maximum3DDiameter"] == seven["Maximum2DDiameterRow"] == 6 and seven["Maximum2DDiameterSlice"] == 3
    assert seven["MajorAxisLength"] == pytest.approx(4 * math.sqrt(2 * 4 / 7), rel=1e-15)
    assert seven["LeastAxisLength"] == pytest.approx(4 * math.sqrt(2 / 7), rel=1e-15)


def brute_diameters(mask: np.ndarray, spacing: Spacing) -> dict[str, float]:
    """Return the four diameters from all pairs of vertices."""
    padded = np.pad(mask.astype(bool), 1)
    points = []
    for axis in range(3):
        low, high = padded.take(range(padded.shape[axis] - 1), axis), padded.take(range(1, padded.shape[axis]), axis)
        points.append(2 * np.argwhere(low != high) + np.eye(3, dtype=int)[axis])
    places = np.concatenate(points)
    step = places[:, None] - places[None]
    squares = ((0.5 * step * spacing) ** 2).cumsum(-1)[..., -1]
    names = {0: "diameter_slice", 1: "diameter_column", 2: "diameter_row"}
    found = {name: math.sqrt(squares[step[..., axis] == 0].max()) for axis, name in names.items()}
    return {**found, "diameter": math.sqrt(squares.max())}


def test_diameters_are_those_of_all_pairs() -> None:
    """Equal to the last bit."""
    rng = np.random.default_rng(3)
    for _ in range(25):
        mask, spacing = random_mask(rng)
        mask = mask[:9, :9, :9]
        if not mask.any():
            continue
        row = sums(mask, spacing)
        assert {name: row[getattr(SHAPE, name)] for name in DIAMETERS} == brute_diameters(mask, spacing)


def reuleaux(side: int) -> np.ndarray:
    """Return the points that are within one length of each corner of a tetrahedron: many pairs are that far apart."""
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * (0.9 / math.sqrt(2)) + 0.18
    places = np.indices((side,) * 3).reshape(3, -1).T / side
    mask: np.ndarray = np.all([((places - c) ** 2).sum(1) <= 0.81 for c in corners], 0).reshape((side,) * 3)
    return mask


@pytest.mark.parametrize("in_cell", [3, 24])
def test_pairs_by_cells_are_all_pairs(in_cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "IN_CELL", in_cell)
    rng = np.random.default_rng(5)
    for mask in (reuleaux(40), ball((9, 30, 20)), np.ones((5, 5, 5)), rng.random((20, 20, 20)) < 0.05):
        points, scale = (2 * np.argwhere(mask) + 1).astype(np.int32), (0.9, 1.0, 1.2)
        points = rng.permutation(points)[:3000]
        expected = cpu.all_pairs(points, scale, 0.0)
        assert cpu.furthest_by_cells(points, scale, 0.0) == expected > 0


def test_diameter_of_many_points_that_are_far_apart() -> None:
    """Thousands are left after those near the middle: all pairs of them, and by cells, in a call."""
    mask = cropped(reuleaux(150))
    scale = (1.1, 1.0, 0.9)
    points = []
    for axis in range(3):  # the first and the last vertex of each row
        along = np.moveaxis(np.pad(mask, 1), axis, 2)
        ends = along.argmax(2) * 2 - 1, (along.shape[2] - along[..., ::-1].argmax(2)) * 2 - 1
        rows = np.argwhere(along.any(2))
        for end in ends:
            places = np.insert(2 * rows, 2, end[tuple(rows.T)], 1)
            points.append(places[:, np.argsort([*[n for n in range(3) if n != axis], axis])])
    places = np.concatenate(points).astype(np.int32)
    corners = places.copy()
    _, left = cpu.furthest_of_few(corners, len(corners), scale, 0.0)
    assert left > cpu.MANY
    assert sums(mask, scale)[SHAPE.diameter] == math.sqrt(cpu.furthest_by_cells(places, scale, 0.0))


def test_full_boxes_have_closed_forms() -> None:
    """Without a mask, the bits that a full one gives."""
    rng = np.random.default_rng(0)
    shapes = [*itertools.product((1, 2, 3), repeat=3), (40, 1, 1), (1, 65, 64), (30, 20, 129), (7, 9, 63)]
    spacing = torch.from_numpy(rng.uniform(0.3, 3, (len(shapes), 3)))
    packed = pack([np.ones(shape) for shape in shapes])
    ours, masked = ops.shape(None, *packed[1:], spacing), ops.shape(*packed, spacing)
    assert (ours == masked).all()


def test_a_region_has_the_same_bits_alone_and_among_others() -> None:
    """Alone, in a batch, in another type, in a block that is larger, and shared among threads."""
    rng = np.random.default_rng(1)
    masks, spacings = zip(*(random_mask(rng) for _ in range(64)))
    spacing = torch.tensor(spacings, dtype=torch.float64)
    together = ops.shape(*pack(list(masks)), spacing).numpy()
    for mask, one, row in zip(masks, spacings, together):
        assert (sums(mask, one) == row).all()
        assert (sums(cropped(mask), one) == row).all()
        assert (sums(np.pad(mask, ((2, 1), (0, 3), (5, 70))), one) == row).all()
    assert (ops.shape(*pack([mask * 300 for mask in masks], np.int16), spacing).numpy() == together).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_of_a_region_have_the_bits_of_the_whole(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    drawn = [random_mask(rng) for _ in range(20)]
    expected = [sums(*one) for one in drawn]
    monkeypatch.setattr(cpu, "CELLS_IN_PARTS", 1)
    monkeypatch.setattr("kacl_gpu.radiomics.cpu._threads.CELLS_FOR_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for one, row in zip(drawn, expected):
            assert (sums(*one) == row).all()
    finally:
        torch.set_num_threads(before)


def test_flat_and_collinear_masks_have_axes_of_length_0() -> None:
    z, y, x = np.indices((13, 14, 15))
    rng = np.random.default_rng(4)
    planes = [z == 6, y == 3, z == y, z + y == 9, z + y - x == 4, 2 * z - y == 3, z + 2 * y + 3 * x == 30]
    lines = [(z == 6) & (y == 3), (z == y) & (y == x), (z + y == 9) & (x == z), (2 * z == y) & (x == 4)]
    for number, masks in ((1, planes), (2, lines)):
        for mask in masks:
            for _ in range(4):
                some = mask & (rng.random(mask.shape) < rng.choice([0.5, 1.0]))
                if some.sum() > 5:
                    row = sums(some, tuple(rng.uniform(0.3, 3, 3).tolist()))
                    assert row[SHAPE.least] == 0 and (row[SHAPE.minor] == 0) == (number == 2) and row[SHAPE.major] > 0
    nearly = z == y
    nearly[0, 5, 5] = True
    assert sums(nearly)[SHAPE.least] > 0


def test_nothing() -> None:
    assert (sums(np.zeros((3, 4, 5))) == 0).all()
    mask, start, size = pack([np.ones((1, 1, 1))])
    empty = ops.shape(mask, start[:0], size[:0], torch.ones((0, 3), dtype=torch.float64))
    assert empty.shape == (0, number_of_columns(SHAPE))


def test_cube_root() -> None:
    """To two units in the last place, over more than any compactness."""
    values = np.concatenate([10.0 ** np.linspace(-40, 40, 4001), [0.0]])
    roots = _cube_root(torch.from_numpy(values)).numpy()
    assert (np.abs(roots - np.cbrt(values)) <= 2 * np.spacing(np.cbrt(values))).all()
    assert roots[-1] == 0
