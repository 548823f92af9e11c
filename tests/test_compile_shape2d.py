"""The kernels of shape and of boxes, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.regions import locate
from kacl_gpu.kernels.shape2d import shape2d
from tests.compiling import TARGETS, check, meta

IMAGES, SPACING = meta(5, 64, 64), meta(5, 2, dtype=torch.float64)
CALLS = [
    *(
        partial(shape2d, meta(8192, dtype=dtype), meta(5), meta(5, 3), meta(5, 2, dtype=torch.float64))
        for dtype in (torch.uint8, torch.int16)
    ),
    partial(shape2d, None, meta(5), meta(5, 3), SPACING),
    *(partial(locate, IMAGES, None, spacing, [1.0, 1.0]) for spacing in (None, SPACING)),
    *(
        partial(locate, IMAGES, meta(5, columns, dtype=dtype), spacing, [1.0, 1.0])
        for columns in (4, 5)
        for spacing in (None, SPACING)
        for dtype in (torch.float32, torch.float64, torch.int32, torch.int64)
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_shape2d_and_regions(target: int) -> None:
    check(CALLS, target)
