"""The kernels of levels in every way that they are asked for, compiled ahead of time."""

from functools import partial
from typing import Any

import pytest
import torch

from kacl_gpu.kernels.first_order import PASSES
from kacl_gpu.kernels.levels import discretise, image_moments, level_histogram
from tests.compiling import TARGETS, check, meta

REGIONS = meta(5), meta(5, 4), meta(5, dtype=torch.int32), meta(5), meta(5, 3), 8192
IMAGES = {dtype: meta(3, 64, 64, dtype=dtype) for dtype in PASSES}
MOMENTS = meta(3, 2, dtype=torch.float64)


def call(
    images: Any = IMAGES[torch.uint8], masks: Any = None, moments: Any = None, narrow: bool = True, count: int = 32,
    outliers: float = 0.0, limits: tuple[float, ...] = (), mode: str = "absolute", shape: bool = False,
) -> Any:  # fmt: skip
    fixed = narrow, 25.0, count, 255, 1, 1.0, outliers, list(limits), mode, shape, 2, 0, [1]
    return partial(discretise, images, masks, moments, *REGIONS, *fixed)


CALLS = [
    *(call(images) for images in IMAGES.values()),
    *(call(images, count=0, narrow=False) for images in IMAGES.values()),
    *(call(masks=images) for images in IMAGES.values()),
    *(call(masks=m, moments=MOMENTS, outliers=o, count=0) for m in (None, IMAGES[torch.int32]) for o in (0.0, 3.0)),
    *(
        call(masks=masks, limits=(0.5,), mode=mode, shape=shape, moments=moments, outliers=outliers, count=count)
        for masks in (None, IMAGES[torch.int32])
        for moments, outliers in ((None, 0.0), (MOMENTS, 0.0), (MOMENTS, 3.0))
        for mode, shape, count in (("absolute", False, 0), ("relative", True, 0), ("sigma", True, 32))
    ),
    *(partial(image_moments, images) for images in IMAGES.values()),
    *(
        partial(level_histogram, meta(8192, dtype=dtype), meta(5), meta(5, 3), ng)
        for dtype, ng in (
            (torch.uint8, 20),
            (torch.uint8, 63),
            (torch.uint8, 100),
            (torch.int16, 255),
            (torch.int16, 300),
        )
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_levels(target: int) -> None:
    check(CALLS, target)
