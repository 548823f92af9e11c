"""``largest_components`` under Triton's interpreter against the CPU implementation: to the bit."""

import pytest
import torch
from torch import Tensor

from kacl_gpu.kernels.components import largest_components
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import awkward_maps, check_overflow, same

pytestmark = pytest.mark.interpreted


def compare(maps: Tensor, threshold: float, most: int) -> None:
    expected = ops.largest_components(maps, threshold=threshold, max_components=most)
    results = largest_components(maps, threshold=threshold, max_components=most)
    for ours, twin in zip(results, expected, strict=True):
        same(ours, twin)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_components_of_awkward_maps(threshold: float) -> None:
    """Among them one with more components than are read at once, and one without a map."""
    for n, maps in enumerate(awkward_maps()):
        compare(maps, threshold, (1, 3)[n % 2])


def test_components_beyond_a_block() -> None:
    """A map that is measured in several parts, its extremes in the last; most of it one component. No sum overflows."""
    maps = torch.rand((2, 90, 95), generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    maps[:, -1, -2:] = torch.tensor([0.0, 1.0])
    with check_overflow(True):
        compare(maps, 0.3, 3)


def test_components_that_follow_each_other() -> None:
    """All that there are, and what follows where there are no more; equal ones in the order of their first pixels."""
    maps = (torch.rand((3, 9, 9), generator=torch.Generator().manual_seed(1)) < 0.2).float()
    maps[2] = 1
    compare(maps, 0.5, 30)
