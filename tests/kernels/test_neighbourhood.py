"""``neighbourhood`` and ``ngtdm_sums`` under Triton's interpreter against the CPU implementation."""

from typing import Any

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.common import NEAREST, NEAREST_IN_SPACE
from kacl_gpu.kernels.neighbourhood import neighbourhood, ngtdm_sums
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.volumes import half_offsets
from tests.kernels.interpreting import FAR, NEAR, SIDEWAYS, SPACE, awkward, close, pack, same

pytestmark = pytest.mark.interpreted

FAR_IN_SPACE = half_offsets((2,), dimensions=3)
TILES = [(15, 63), (16, 64), (17, 65), (16, 65), (17, 64)]  # around what is taken at once


EVERYTHING: dict[str, Any] = {"gldm_a": 0, "pairs": True, "dependences": True, "differences": True}
MATRICES = ("pairs", "dependences", "differences")
SELECTIONS = [{name: name == alone for name in MATRICES} for alone in (*MATRICES, None)]


def agree(*arguments: Any, **changes: Any) -> tuple[torch.Tensor, ...]:
    """Compare all three matrices bit for bit, and return the CPU's."""
    options = {**EVERYTHING, **changes}
    twins = ops.neighbourhood(*arguments, **options)
    for ours, twin in zip(neighbourhood(*arguments, **options), twins, strict=True):
        assert torch.equal(ours, twin) and ours.dtype == twin.dtype
    return twins


@pytest.mark.parametrize(
    "ng, dtype, slots",
    [(1, torch.uint8, False), (6, torch.uint8, True), (255, torch.uint8, False), (300, torch.int16, True)],
)
def test_neighbourhood(ng: int, dtype: torch.dtype, slots: bool) -> None:
    agree(*pack(awkward(ng), slots, dtype), NEAR, ng)


@pytest.mark.parametrize("gldm_a", [1, 40])
def test_neighbourhood_of_several_distances(gldm_a: int) -> None:
    agree(*pack(awkward(60)[:8]), FAR, 60, gldm_a=gldm_a)


def test_neighbourhood_of_parts() -> None:
    """Each of the three alone, and none; sizes around each edge; columns of one level with gaps."""
    rng = np.random.default_rng(2)
    stripes = np.repeat(rng.integers(0, 4, (1, 1, 70)), 40, 1)
    stripes[0, 20] = 0
    where = *pack([*(rng.integers(0, 4, (1, *shape)) for shape in TILES), stripes]), NEAR, 3
    whole = agree(*where)
    where = *pack([stripes]), NEAR, 3
    for matrices in SELECTIONS:
        for (name, asked), twin, full in zip(matrices.items(), agree(*where, **matrices), whole, strict=True):
            assert torch.equal(twin, full[-1:] if asked else full[:0]), name


@pytest.mark.slow
def test_neighbourhood_of_volumes() -> None:
    rng = np.random.default_rng(1)
    where = pack([rng.integers(0, 5, shape) for shape in ((3, 9, 11), (5, 1, 4), (1, 8, 8), (4, 17, 17))])
    for offsets in (SPACE, NEAR, SIDEWAYS, FAR_IN_SPACE):  # neighbours in all planes, in planes along each axis
        agree(*where, offsets, 4)


def volumes_around_edges() -> list[np.ndarray]:
    """Return volumes whose planes across y are wider and narrower than what is taken at once, and lines and planes."""
    rng = np.random.default_rng(4)
    shapes = [(3, 16, 21), (4, 17, 16), (2, 15, 32), (1, 18, 65), (65, 18, 1), (1, 3, 1), (5, 1, 14), (7, 33, 9)]
    volumes = [rng.integers(0, 4, shape) for shape in shapes]
    layers = np.repeat(rng.integers(0, 4, (6, 1, 13)), 40, 1)  # columns of one level, with gaps
    layers[2, 20] = 0
    return [*volumes, layers, np.full((4, 18, 17), 3), np.zeros((2, 3, 4), np.int64)]


@pytest.mark.parametrize(
    "ng, dtype, slots",
    [(1, torch.uint8, False), (7, torch.uint8, True), (255, torch.uint8, False), (300, torch.int16, True)],
)
def test_neighbourhood_in_space(ng: int, dtype: torch.dtype, slots: bool) -> None:
    rng = np.random.default_rng(5)
    volumes = [volume * rng.integers(0, max(ng // 3, 1) + 1, volume.shape) for volume in volumes_around_edges()]
    volumes = [np.minimum(volume, ng) for volume in volumes]
    for gldm_a in (0, 2**20) if ng == 7 else (1,):
        agree(*pack(volumes, slots, dtype), SPACE, ng, gldm_a=gldm_a)


def test_neighbourhood_in_space_of_parts() -> None:
    """Each of the three alone, and none."""
    where = *pack(volumes_around_edges()), SPACE, 3
    whole = agree(*where)
    for matrices in SELECTIONS:
        for (name, asked), twin, full in zip(matrices.items(), agree(*where, **matrices), whole, strict=True):
            assert torch.equal(twin, full if asked else full[:0]), name


def test_sums_of_the_highest_levels() -> None:
    """The levels of 26 neighbours add up beside their number."""
    rng = np.random.default_rng(6)
    highest = 2**15 - 1
    volume = rng.choice([0, 1, highest], (3, 4, 5), p=[0.1, 0.1, 0.8])
    volume[1, 1:3, 1:4] = [[1, highest, 1], [highest, 1, highest]]
    options = {"pairs": False, "dependences": True}
    for offsets in (SPACE, NEAR):
        agree(*pack([volume, np.full((3, 3, 3), highest)], dtype=torch.int16), offsets, highest, gldm_a=5, **options)


def test_offsets_known_by_heart() -> None:
    assert tuple(NEAR) == NEAREST and tuple(SPACE) == NEAREST_IN_SPACE


@pytest.mark.parametrize("offsets", [FAR, FAR_IN_SPACE], ids=["distances", "volumes"])
def test_neighbourhood_of_any_offsets_in_parts(offsets: list[int]) -> None:
    """Each of the three alone, and none, in rows wider than what is taken at once."""
    rng = np.random.default_rng(3)
    where = *pack([rng.integers(0, 4, (2, 3, 66))]), offsets, 3
    everything = agree(*where)
    for matrices in SELECTIONS:
        for (name, asked), twin, full in zip(matrices.items(), agree(*where, **matrices), everything, strict=True):
            assert torch.equal(twin, full if asked else full[:0]), name


@pytest.mark.parametrize("ng, spare", [(1, 0), (1, 3), (6, 0), (40, 30), (255, 0), (300, 1)])
def test_ngtdm_sums(ng: int, spare: int) -> None:
    where = pack(awkward(ng), dtype=torch.int16)
    histogram = ops.level_histogram(*where, ng + spare)
    differences = ops.neighbourhood(
        *where, NEAR, ng + spare, gldm_a=0, pairs=False, dependences=False, differences=True
    )[2]
    ours = ngtdm_sums(histogram, differences)
    close(ours, ops.ngtdm_sums(histogram, differences))
    tight = ngtdm_sums(histogram[:, :ng].contiguous(), differences[:, :ng].contiguous())
    same(ours, tight)
    alone = ngtdm_sums(histogram[4:5], differences[4:5])
    same(alone, ours[4:5])


def test_neighbourhood_of_nothing() -> None:
    where = pack([])
    glcm, gldm, ngtdm = neighbourhood(*where, NEAR, 3, **EVERYTHING)
    assert glcm.shape == (0, 4, 3, 3) and gldm.shape == ngtdm.shape == (0, 3, 9)
    assert ngtdm_sums(ops.level_histogram(*where, 3), ngtdm).shape == (0, 8)
