"""``glszm``, ``label`` and ``zone_sums`` under Triton's interpreter against the CPU implementation and scikit-image."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from kacl_gpu.kernels import glszm as kernels
from kacl_gpu.kernels.common import TILE, launch
from kacl_gpu.kernels.glszm import BLOCK, SLOTS, glszm, label, sort_zones, write_zones, zone_sums
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.memory import zone_bound
from kacl_gpu.radiomics.volumes import half_offsets
from tests.kernels.interpreting import ALONG_AXES, LAYOUTS, NEAR, SIDEWAYS, SPACE, awkward, close, pack, same

pytestmark = pytest.mark.interpreted


def spiral(n: int) -> np.ndarray:
    """Return one winding path of level 1, a pixel wide, in a square of level 2."""
    out = np.full((1, n, n), 2)
    y, x, dy, dx = 0, 0, 0, 1
    out[0, 0, 0] = 1
    for _ in range(n * n):
        ahead = (y + 2 * dy, x + 2 * dx)
        if not (0 <= y + dy < n and 0 <= x + dx < n) or (
            0 <= ahead[0] < n and 0 <= ahead[1] < n and out[0, ahead[0], ahead[1]] == 1
        ):
            dy, dx = dx, -dy
            if not (0 <= y + dy < n and 0 <= x + dx < n) or out[0, y + dy, x + dx] == 1:
                break
        y, x = y + dy, x + dx
        out[0, y, x] = 1
    return out


def mazes() -> list[np.ndarray]:
    """Return zones that meet late.

    They are spiral, comb, rings; stripes of exactly 63, 64 and 65 pixels; noise of two levels.
    """
    y, x = np.indices((37, 39))
    comb = np.where((y == 36) | (x % 2 == 0), 1, 2)[None]
    rings = (np.maximum(abs(y - 18), abs(x - 19)) % 3 + 1)[None]
    stripes = np.repeat(np.arange(6) % 2 + 1, 64).reshape(1, 6, 64)
    uneven = stripes.copy()
    uneven[0, 0, 63], uneven[0, 5, 0] = 0, 1
    noise = np.random.default_rng(0).integers(1, 3, (1, 37, 39))
    return [spiral(37), comb, rings, stripes, uneven, noise, np.ones((1, 40, 40), np.int64)]


def compare(volumes: Sequence[np.ndarray], offsets: Sequence[int], ng: int, dtype: torch.dtype = torch.uint8) -> None:
    most = zone_bound(max(v.size for v in volumes), ng) + 3
    twin = ops.glszm(*pack(volumes, dtype=dtype), offsets, ng, most)
    for slots in LAYOUTS:
        assert torch.equal(glszm(*pack(volumes, slots, dtype), offsets, ng, most), twin)
    ours = zone_sums(twin, ng)
    close(ours, ops.zone_sums(twin, ng))
    same(zone_sums(torch.nn.functional.pad(twin, (0, 0, 0, 300)), ng + 9), ours)
    same(zone_sums(twin[1:2], ng), ours[1:2])


@pytest.mark.parametrize("ng, dtype", [(1, torch.uint8), (6, torch.uint8), (255, torch.uint8), (300, torch.int16)])
def test_glszm(ng: int, dtype: torch.dtype) -> None:
    compare(awkward(ng), NEAR, ng, dtype)


def test_glszm_of_mazes() -> None:
    compare(mazes(), NEAR, 3)
    compare(mazes(), ALONG_AXES, 3)


def winding(shape: tuple[int, int, int]) -> np.ndarray:
    """Return one path of level 1 through a volume of level 2, a voxel wide and away from itself."""
    out = np.full(shape, 2)
    depth, height, width = shape
    for z in range(0, depth, 2):
        for y in range(0, height, 2):
            out[z, y] = 1
            x = 0 if (y // 2 + z // 2 * (height // 2 + 1)) % 2 else width - 1
            if y + 2 < height:
                out[z, y + 1, x] = 1
            elif z + 2 < depth:
                out[z + 1, y, x] = 1
    return out


def adversarial_volumes() -> list[np.ndarray]:
    """Return zones whose parts meet late, straight, at edges or at corners of voxels, across tiles or inside one."""
    rng = np.random.default_rng(3)
    z, y, x = np.indices((11, 13, 15))
    corners = ((z + y) % 2 == 0) & ((y + x) % 2 == 0)  # voxels that touch at corners alone
    comb = (z == 10) | ((y % 2 == 0) & (x % 2 == 0))  # columns that meet in the last plane
    shells = np.maximum(np.maximum(abs(z - 5), abs(y - 6)), abs(x - 7)) % 3 + 1
    return [
        np.where(corners, 1, 2),
        np.where(comb, 1, 2),
        comb[::-1] * 1,
        shells,
        winding((7, 9, 35)),
        np.swapaxes(winding((7, 9, 15)), 0, 2).copy(),
        (z + 2 * y + 3 * x) % 5 % 3,
        *(rng.integers(1, 3, (9, 12, 13)) * (rng.random((9, 12, 13)) < share) for share in (0.1, 0.25, 0.5, 1)),
        np.ones((3, 20, 30), np.int64),
        rng.integers(0, 3, (1, 40, 40)),
        rng.integers(0, 3, (40, 1, 40)),
        rng.integers(0, 3, (40, 40, 1)),
        rng.integers(0, 3, (1030, 1, 1)),
        rng.integers(0, 3, (2, 2, 600)),
    ]


def small_patterns() -> np.ndarray:
    """Return a volume of many small ones, apart from each other: random patterns of every density."""
    rng = np.random.default_rng(4)
    patterns = np.zeros((24, 60, 60), np.int64)
    for z, y, x in itertools.product(range(0, 24, 4), range(0, 60, 5), range(0, 60, 6)):
        shape = 3, 4, 5
        levels = rng.integers(1, 3, shape) if rng.random() < 0.5 else np.ones(shape, np.int64)
        patterns[z : z + 3, y : y + 4, x : x + 5] = levels * (rng.random(shape) < rng.choice([0.2, 0.35, 0.5, 0.7]))
    return patterns


def test_glszm_of_volumes() -> None:
    rng = np.random.default_rng(1)
    volumes = [rng.integers(0, 3, shape) for shape in ((3, 9, 11), (5, 1, 4), (1, 8, 8), (4, 17, 17))]
    compare(volumes, SPACE, 2)
    for flat in range(3):
        compare(volumes, half_offsets((1,), dimensions=3, flat=flat), 2)


def test_glszm_of_adversarial_volumes() -> None:
    compare(adversarial_volumes(), SPACE, 3)


def test_glszm_of_small_patterns() -> None:
    compare([small_patterns()], SPACE, 2)


def test_glszm_without_neighbours_along_rows() -> None:
    compare(adversarial_volumes()[:8], SIDEWAYS, 3)
    compare(mazes(), (0, 1, 0), 3)


@pytest.mark.parametrize("least", [64, 1024])
def test_many_large_zones(least: int) -> None:
    """More than a program sorts, than it compares at once, and than are written at once; some of them alike."""
    ng, count = 3, BLOCK + 76
    rng = np.random.default_rng(0)
    keys = torch.from_numpy(rng.integers(least, least + 100, count) * ng + rng.integers(0, ng, count))
    # of the second of two regions; the first one is a tile without any
    tile_count = 1 + count // (TILE // least) + 1
    start, size = torch.tensor([0, TILE]), torch.tensor([[1, 32, 32], [1, tile_count - 1, TILE]])
    large, ordered = torch.empty((2, tile_count * TILE // least), dtype=torch.int64)
    begin = TILE // least
    large[begin : begin + count] = keys
    number = torch.tensor([0, count], dtype=torch.int32)
    launch(
        sort_zones, (tile_count,), start, size, large, number, ordered, 2, tile_count,
        SMALL=least, SLOTS=SLOTS, num_warps=1,
    )  # fmt: skip
    assert torch.equal(ordered[begin : begin + count], keys.sort().values)
    small = torch.zeros((2, least * ng), dtype=torch.int32)
    small[1, [5, least * ng - 2]] = torch.tensor([7, 1], dtype=torch.int32)
    table = torch.zeros((2, 400, 3), dtype=torch.int32)
    launch(write_zones, (2,), start, small, ordered, number, table, ng, 400, SMALL=least, BLOCK=BLOCK)
    different, often = keys.unique(return_counts=True)
    different, often = (
        torch.cat([torch.tensor([5, least * ng - 2]), different]),
        torch.cat([torch.tensor([7, 1]), often]),
    )
    expected = torch.stack([different % ng + 1, different // ng, often], 1).to(torch.int32)
    assert torch.equal(table[1, : len(expected)], expected)
    assert not table[0].any() and not table[1, len(expected) :].any()


def test_zones_of_a_long_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of small zones that regions of millions of voxels have gives the same rows."""
    monkeypatch.setattr(kernels, "small_zones", lambda pixels, ng: 1024)
    compare(mazes(), NEAR, 3)


def test_label() -> None:
    measure = pytest.importorskip("skimage.measure")
    for slots in LAYOUTS:
        volumes = [*mazes(), *awkward(4)]
        levels, start, size = pack(volumes, slots)
        parent, pixels = label(levels, start, size, NEAR)
        for volume, first in zip(volumes, start.tolist()):
            ours = parent[first : first + volume.size].numpy().reshape(volume.shape)
            labels = measure.label(volume[0], connectivity=2, background=0)[None]
            for number in range(1, labels.max() + 1):
                zone = np.flatnonzero(labels == number)
                assert (ours.ravel()[zone] == zone[0]).all()
                assert int(pixels[first + zone[0]]) == len(zone)
            assert (ours[volume == 0] == -1).all()


def test_label_of_volumes() -> None:
    measure = pytest.importorskip("skimage.measure")
    volumes = [*adversarial_volumes(), small_patterns()]
    levels, start, size = pack(volumes)
    parent, pixels = label(levels, start, size, SPACE)
    for volume, first in zip(volumes, start.tolist()):
        ours = parent[first : first + volume.size].numpy()
        labels = measure.label(volume, connectivity=3, background=0).ravel()
        numbers, roots, sizes = np.unique(labels, return_index=True, return_counts=True)
        expected = np.zeros(numbers.max() + 1, np.int64)
        expected[numbers] = roots
        assert (ours == np.where(labels == 0, -1, expected[labels])).all()
        inside = numbers > 0
        assert (pixels[first + roots[inside]].numpy() == sizes[inside]).all()


def test_glszm_of_nothing() -> None:
    zones = glszm(*pack([]), NEAR, 3, 4)
    assert zones.shape == (0, 4, 3)
    assert zone_sums(zones, 3).shape == (0, 15)
