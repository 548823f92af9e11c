"""``neighbourhood`` and ``ngtdm_sums`` under Triton's interpreter against the CPU implementation."""

from typing import Any

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.neighbourhood import neighbourhood, ngtdm_sums
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import FAR, NEAR, SPACE, awkward, close, pack, same

pytestmark = pytest.mark.interpreted

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


def test_neighbourhood_of_volumes() -> None:
    rng = np.random.default_rng(1)
    where = pack([rng.integers(0, 5, shape) for shape in ((3, 9, 11), (5, 1, 4), (1, 8, 8), (4, 17, 17))])
    for offsets in (SPACE, NEAR):  # neighbours in all planes, in the pixel's own
        agree(*where, offsets, 4)


@pytest.mark.parametrize("offsets", [FAR, SPACE], ids=["distances", "volumes"])
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
