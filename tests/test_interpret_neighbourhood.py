"""``neighbourhood`` and ``ngtdm_sums`` under Triton's interpreter against the CPU implementation."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.neighbourhood import neighbourhood, ngtdm_sums
from kacl_gpu.radiomics import ops
from tests.interpreting import FAR, LAYOUTS, NEAR, SPACE, awkward, close, pack, same


@pytest.mark.parametrize("ng, dtype", [(1, torch.uint8), (6, torch.uint8), (255, torch.uint8), (300, torch.int16)])
@pytest.mark.parametrize("offsets, gldm_a", [(NEAR, 0), (FAR, 1), (FAR, 40)], ids=["near", "far", "alike"])
def test_interpret_neighbourhood(ng: int, dtype: torch.dtype, offsets: Sequence[int], gldm_a: int) -> None:
    for slots in LAYOUTS:
        where = pack(awkward(ng), slots, dtype)
        for ours, twin in zip(
            neighbourhood(*where, offsets, ng, gldm_a), ops.neighbourhood(*where, offsets, ng, gldm_a)
        ):
            assert torch.equal(ours, twin)


def test_interpret_neighbourhood_of_volumes() -> None:
    rng = np.random.default_rng(1)
    where = pack([rng.integers(0, 5, shape) for shape in ((3, 9, 11), (5, 1, 4), (1, 8, 8), (4, 17, 17))])
    for ours, twin in zip(neighbourhood(*where, SPACE, 4, 0), ops.neighbourhood(*where, SPACE, 4, 0)):
        assert torch.equal(ours, twin)


@pytest.mark.parametrize("ng, spare", [(1, 0), (1, 3), (6, 0), (40, 30), (255, 0), (300, 1)])
def test_interpret_ngtdm_sums(ng: int, spare: int) -> None:
    where = pack(awkward(ng), dtype=torch.int16)
    histogram = ops.level_histogram(*where, ng + spare)
    differences = ops.neighbourhood(*where, NEAR, ng + spare, 0)[1]
    ours = ngtdm_sums(histogram, differences)
    close(ours, ops.ngtdm_sums(histogram, differences))
    tight = ngtdm_sums(histogram[:, :ng].contiguous(), differences[:, :ng].contiguous())
    same(ours, tight)
    alone = ngtdm_sums(histogram[4:5], differences[4:5])
    same(alone, ours[4:5])


def test_interpret_neighbourhood_of_nothing() -> None:
    where = pack([])
    gldm, ngtdm = neighbourhood(*where, NEAR, 3, 0)
    assert gldm.shape == ngtdm.shape == (0, 3, 9)
    assert ngtdm_sums(ops.level_histogram(*where, 3), ngtdm).shape == (0, 8)
