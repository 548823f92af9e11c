"""The kernel of the formulas, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.features import features
from kacl_gpu.radiomics.features import CLASSES
from tests.compiling import TARGETS, check, meta

NAMES = [f"{name}:{','.join(spec.name for spec in specs)}" for name, (specs, _) in CLASSES.items()]
WIDTHS = [len(kind._fields) - 2 * ("spacing_y" in kind._fields) for _, kind in CLASSES.values()]
SUMS = [meta(64, 4, width, dtype=torch.float64) for width in WIDTHS]
REST = meta(64, 2, dtype=torch.float64), meta(64, dtype=torch.int32)
CALLS = [
    *(partial(features, SUMS, *REST, ";".join(NAMES), dtype) for dtype in (torch.float32, torch.float64)),
    *(partial(features, [sums], *REST, names, torch.float32) for sums, names in zip(SUMS, NAMES)),
]


@pytest.mark.parametrize("target", TARGETS)
def test_compile_features(target: int) -> None:
    check(CALLS, target)
