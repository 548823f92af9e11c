"""The kernels of runs, dependences and neighbouring differences, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.glrlm import glrlm
from kacl_gpu.kernels.neighbourhood import neighbourhood, ngtdm_sums
from kacl_gpu.kernels.sizes import size_sums
from tests.compiling import TARGETS, check, meta
from tests.interpreting import FAR, NEAR, SPACE

WHERE = [(meta(4096, dtype=dtype), meta(3), meta(3, 3)) for dtype in (torch.uint8, torch.int16)]
FLAGS = (True, True), (True, False), (False, True)
COUNTS = meta(3, 4, 32, 64, dtype=torch.int32)
CALLS = [
    *(
        partial(neighbourhood, *where, offsets, 32, 0, *flags)
        for where in WHERE
        for offsets in (NEAR, FAR)
        for flags in FLAGS
    ),
    *(partial(glrlm, *where, offsets, 32, 64) for where in WHERE for offsets in (NEAR, SPACE)),
    lambda: ngtdm_sums(meta(3, 32, dtype=torch.int32), meta(3, 32, 9)),
    lambda: size_sums(COUNTS, meta(3), meta(0, 0, dtype=torch.float64)),
    lambda: size_sums(COUNTS, meta(3), meta(3, 4, dtype=torch.float64)),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_neighbourhood_and_sizes(target: int) -> None:
    check(CALLS, target)
