"""The kernels of first order in every type of image, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.first_order import PASSES, first_order
from tests.compiling import TARGETS, check, meta

WHERE = meta(5), meta(5, 4), meta(8192, dtype=torch.uint8), meta(5), meta(5, 3), meta(5, 32, dtype=torch.int32)
WIDE = *WHERE[:2], meta(8192, dtype=torch.int16), *WHERE[3:]
IMAGES = {dtype: meta(3, 64, 64, dtype=dtype) for dtype in PASSES}
MOMENTS = meta(3, 2, dtype=torch.float64)
CALLS = [
    *(partial(first_order, images, None, *WHERE, 1.0, 0.0, 0.0) for images in IMAGES.values()),
    *(partial(first_order, IMAGES[dtype], None, *WIDE, 1.0, 0.0, 0.0) for dtype in (torch.uint8, torch.float32)),
    *(
        partial(first_order, IMAGES[dtype], MOMENTS, *WHERE, 1.0, outliers, 0.0)
        for dtype in (torch.uint8, torch.float32, torch.float64)
        for outliers in (0.0, 3.0)
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_first_order(target: int) -> None:
    check(CALLS, target)
