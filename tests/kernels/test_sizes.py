"""``size_sums`` under Triton's interpreter against the CPU implementation."""

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.sizes import SIZES, size_sums
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import NEAR, awkward, close, pack, same

pytestmark = pytest.mark.interpreted

NONE = torch.empty((0, 0), dtype=torch.float64)


@pytest.mark.parametrize("ng, regions", [(1, slice(8)), (6, slice(13)), (255, slice(3, 7))])
def test_size_sums(ng: int, regions: slice) -> None:
    volumes = [v for v in awkward(ng)[regions] if v.shape[-1] < 40]
    n_levels = torch.tensor([int(v.max()) for v in volumes])
    weights = torch.from_numpy(np.random.default_rng(0).random((len(n_levels), 4)))
    counts = ops.glrlm(*pack(volumes), NEAR, ng, 33)
    for w in (NONE, weights):
        ours = size_sums(counts, n_levels, w)
        close(ours, ops.size_sums(counts, n_levels, w))
        roomy = torch.nn.functional.pad(counts[1:3], (0, 100, 0, 5))
        same(size_sums(roomy, n_levels[1:3], w[1:3]), ours[1:3])
        same(size_sums(counts[2:3], n_levels[2:3], w[2:3]), ours[2:3])


def test_size_sums_of_long_runs() -> None:
    """Longer than the sizes that are looked at at once."""
    volume = np.ones((1, 3, 300), np.int64)
    volume[0, 1, 5] = volume[0, 2, 140] = 2
    counts, n_levels = ops.glrlm(*pack([volume]), NEAR, 2, 300), torch.tensor([2])
    assert int(counts[..., 2 * SIZES :].sum()) == 2 and int(counts[..., SIZES : 2 * SIZES].sum()) == 2
    close(size_sums(counts, n_levels, NONE), ops.size_sums(counts, n_levels, NONE))


def test_size_sums_of_dependences() -> None:
    where = pack(awkward(7))
    counts = ops.neighbourhood(*where, NEAR, 7, gldm_a=0, pairs=False, dependences=True, differences=False)[1][:, None]
    n_levels = torch.tensor([int(v.max()) for v in awkward(7)])
    close(size_sums(counts, n_levels, NONE), ops.size_sums(counts, n_levels, NONE))


def test_size_sums_of_nothing() -> None:
    empty = torch.empty((0, 4, 3, 5), dtype=torch.int32)
    assert size_sums(empty, torch.empty(0, dtype=torch.int64), NONE).shape == (0, 4, 15)
