"""The kernels of co-occurrence, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.glcm import glcm_sums
from tests.compiling import TARGETS, check, meta

COUNTS, HISTOGRAM = meta(3, 4, 64, 64, dtype=torch.int32), meta(3, 64, dtype=torch.int32)
CALLS = [  # more than SMALL levels launch both kernels of the maximal correlation coefficient
    *(
        partial(glcm_sums, COUNTS, HISTOGRAM, meta(3), meta(*weights, dtype=torch.float64), symmetric)
        for weights in ((0, 0), (3, 4))
        for symmetric in (False, True)
    ),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_glcm(target: int) -> None:
    check(CALLS, target)
