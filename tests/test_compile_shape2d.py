"""The kernels of shape and of boxes, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.regions import locate
from kacl_gpu.kernels.shape2d import shape2d
from tests.compiling import TARGETS, check, meta

ONE, MANY, SPACING = meta(1, 1, 1), meta(5, 64, 64), meta(5, 2, dtype=torch.float64)
CALLS = [
    *(
        partial(shape2d, meta(8192, dtype=dtype), meta(5), meta(5, 3), meta(5, 2, dtype=torch.float64))
        for dtype in (torch.uint8, torch.int16)
    ),
    partial(shape2d, meta(1024, dtype=torch.uint8), meta(1), meta(1, 3), meta(1, 2, dtype=torch.float64)),
    *(partial(shape2d, None, meta(n), meta(n, 3), meta(n, 2, dtype=torch.float64)) for n in (1, 5)),
    *(partial(locate, images, None, spacing, [1.0, 1.0]) for images in (ONE, MANY) for spacing in (None, SPACING)),
    *(
        partial(locate, images, meta(rows, columns, dtype=dtype), spacing, [1.0, 1.0])
        for images, rows in ((ONE, 1), (MANY, 5))
        for columns in (4, 5)
        for spacing in (None, SPACING)
        for dtype in (torch.float32, torch.float64, torch.int32, torch.int64)
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_shape2d_and_regions(target: int) -> None:
    check(CALLS, target)
