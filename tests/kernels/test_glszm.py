"""``glszm``, ``label`` and ``zone_sums`` under Triton's interpreter against the CPU implementation and scikit-image."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.common import TILE, launch
from kacl_gpu.kernels.glszm import BLOCK, glszm, label, sort_zones, write_zones, zone_sums
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.memory import zone_bound
from tests.kernels.interpreting import LAYOUTS, NEAR, SPACE, awkward, close, pack, same

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
    compare(mazes(), (0, 0, 1, 0, 1, 0), 3)  # neighbours along the axes alone


def test_glszm_of_volumes() -> None:
    rng = np.random.default_rng(1)
    volumes = [rng.integers(0, 3, shape) for shape in ((3, 9, 11), (5, 1, 4), (1, 8, 8), (4, 17, 17))]
    compare(volumes, SPACE, 2)
    compare(volumes, NEAR, 2)


def test_many_large_zones() -> None:
    """More than a program sorts, than it compares at once, and than are written at once; some of them alike."""
    ng, count = 3, BLOCK + 76
    rng = np.random.default_rng(0)
    keys = torch.from_numpy(rng.integers(64, 164, count) * ng + rng.integers(0, ng, count))
    # of the second of two regions; the first one is a tile without any
    start, size = torch.tensor([0, TILE]), torch.tensor([[1, 32, 32], [1, count, 64]])
    tile_count = 1 + count // 16 + 1
    large, ordered = torch.empty((2, tile_count * 16), dtype=torch.int64)
    large[16 : 16 + count] = keys
    number = torch.tensor([0, count], dtype=torch.int32)
    launch(sort_zones, (tile_count,), start, size, large, number, ordered, 2, TILE=TILE, num_warps=1)
    assert torch.equal(ordered[16 : 16 + count], keys.sort().values)
    small = torch.zeros((2, 64 * ng), dtype=torch.int32)
    small[1, [5, 190]] = torch.tensor([7, 1], dtype=torch.int32)
    table = torch.zeros((2, 400, 3), dtype=torch.int32)
    launch(write_zones, (2,), start, small, ordered, number, table, ng, 400, BLOCK=BLOCK)
    different, often = keys.unique(return_counts=True)
    different, often = torch.cat([torch.tensor([5, 190]), different]), torch.cat([torch.tensor([7, 1]), often])
    expected = torch.stack([different % ng + 1, different // ng, often], 1).to(torch.int32)
    assert torch.equal(table[1, : len(expected)], expected)
    assert not table[0].any() and not table[1, len(expected) :].any()


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


def test_label_refuses_zones_without_rows() -> None:
    with pytest.raises(ValueError, match="along rows"):
        label(*pack([]), (0, 1, 0))


def test_glszm_of_nothing() -> None:
    zones = glszm(*pack([]), NEAR, 3, 4)
    assert zones.shape == (0, 4, 3)
    assert zone_sums(zones, 3).shape == (0, 15)
