"""The kernels of zones, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.glszm import glszm, zone_sums
from tests.compiling import TARGETS, check, meta
from tests.interpreting import NEAR, SPACE

CALLS = [
    *(
        partial(glszm, meta(8192, dtype=dtype), meta(3), meta(3, 3), offsets, 32, 80)
        for dtype in (torch.uint8, torch.int16)
        for offsets in (NEAR, SPACE)
    ),
    partial(zone_sums, meta(3, 80, 3, dtype=torch.int32), 32),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_glszm(target: int) -> None:
    check(CALLS, target)
