"""The kernels of shape and of boxes, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.regions import region_boxes
from kacl_gpu.kernels.shape2d import shape2d
from tests.compiling import TARGETS, check, meta

CALLS = [
    *(
        partial(shape2d, meta(8192, dtype=dtype), meta(5), meta(5, 3), meta(5, 2, dtype=torch.float64))
        for dtype in (torch.uint8, torch.int16)
    ),
    partial(shape2d, meta(1024, dtype=torch.uint8), meta(1), meta(1, 3), meta(1, 2, dtype=torch.float64)),
    partial(region_boxes, meta(1, 5, dtype=torch.float64), 1, 1, 1),
    partial(region_boxes, meta(5, 5, dtype=torch.float64), 3, 64, 64),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_shape2d_and_regions(target: int) -> None:
    check(CALLS, target)
