"""``glrlm`` under Triton's interpreter against the CPU implementation."""

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.glrlm import glrlm
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.volumes import half_offsets
from tests.kernels.interpreting import NEAR, SIDEWAYS, SPACE, awkward, pack

pytestmark = pytest.mark.interpreted


def lone_lines() -> list[np.ndarray]:
    """Return pixels of which no two, or two that are not neighbours, lie on one line of some direction."""
    regions = []
    for pixels in ([(0, 0), (1, 2)], [(0, 0), (5, 0)], [(0, 1), (4, 5)], [(6, 0), (0, 6)], [(3, 0), (3, 6)], [(2, 3)]):
        region = np.zeros((1, 7, 7), np.int64)
        for y, x in pixels:
            region[0, y, x] = 1 + x % 2
        regions.append(region)
    return regions


@pytest.mark.parametrize(
    "ng, dtype, slots",
    [(1, torch.uint8, False), (3, torch.uint8, True), (255, torch.uint8, False), (300, torch.int16, True)],
)
def test_glrlm(ng: int, dtype: torch.dtype, slots: bool) -> None:
    where = pack(awkward(ng), slots, dtype)
    assert torch.equal(glrlm(*where, NEAR, ng, 1025), ops.glrlm(*where, NEAR, ng, 1025))


def test_glrlm_of_lone_lines() -> None:
    where = pack(lone_lines())
    twin = ops.glrlm(*where, NEAR, 2, 7)
    assert bool((twin.sum((2, 3)) == 0).any()) and bool((twin.sum((2, 3)) > 0).any())
    assert torch.equal(glrlm(*where, NEAR, 2, 7), twin)


def test_glrlm_of_volumes() -> None:
    rng = np.random.default_rng(1)
    where = pack([rng.integers(0, 3, shape) for shape in ((3, 9, 11), (5, 1, 4), (1, 8, 8), (4, 17, 17))])
    for offsets in (SPACE, NEAR):
        assert torch.equal(glrlm(*where, offsets, 2, 17), ops.glrlm(*where, offsets, 2, 17))


@pytest.mark.slow
def test_glrlm_of_long_and_lone_lines_in_space() -> None:
    """Lines of every length up to three times what is read at once, along each axis; voxels of which few share one."""
    rng = np.random.default_rng(3)
    shapes = [*((n, 3, 4) for n in range(1, 25, 3)), *((3, n, 2) for n in range(2, 25, 3)), (2, 3, 65), (65, 2, 3)]
    volumes = [rng.integers(0, 3, shape) for shape in shapes]
    for voxels in ([(0, 0, 0), (1, 2, 4)], [(0, 0, 0), (6, 6, 6)], [(6, 0, 3), (0, 6, 3)], [(0, 2, 2), (5, 2, 2)]):
        lone = np.zeros((7, 7, 7), np.int64)
        for z, y, x in voxels:
            lone[z, y, x] = 1 + x % 2
        volumes.append(lone)
    for offsets in (SPACE, SIDEWAYS, half_offsets((1,), dimensions=3, flat=1)):
        for slots in (False, True):
            where = pack(volumes, slots)
            assert torch.equal(glrlm(*where, offsets, 2, 65), ops.glrlm(*where, offsets, 2, 65))


def test_glrlm_around_each_edge() -> None:
    """Lines of every number of steps up to three times what is read at once, of a few lanes and around 64."""
    rng = np.random.default_rng(2)
    shapes = [*((n, 5) for n in range(1, 25)), *((5, n) for n in range(6, 25)), (63, 9), (64, 9), (65, 9), (9, 65)]
    where = pack([rng.integers(0, 3, (1, *shape)) for shape in shapes])
    assert torch.equal(glrlm(*where, NEAR, 2, 70), ops.glrlm(*where, NEAR, 2, 70))
    flat = pack([np.full((1, *shape), 2) for shape in shapes[::5]])
    assert torch.equal(glrlm(*flat, NEAR, 2, 70), ops.glrlm(*flat, NEAR, 2, 70))


def test_glrlm_refuses_distant_pixels() -> None:
    with pytest.raises(ValueError, match="neighbouring pixels"):
        glrlm(*pack([]), (0, 0, 2), 3, 4)


def test_glrlm_of_nothing() -> None:
    assert glrlm(*pack([]), NEAR, 3, 4).shape == (0, 4, 3, 4)
