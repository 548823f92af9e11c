"""The kernel of every class's formulas, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.features import features
from kacl_gpu.radiomics.features import CLASSES
from tests.compiling import TARGETS, check


@pytest.mark.parametrize("target", TARGETS)
def test_compile_features(target: int) -> None:
    calls = []
    for class_name, (specs, kind) in CLASSES.items():
        names = ",".join(spec.name for spec in specs)
        sums = torch.empty((64, 4, len(kind._fields)), dtype=torch.float64, device="meta")
        spacing = torch.empty((64, 2), dtype=torch.float64, device="meta")
        calls.append(partial(features, sums, spacing, class_name, names))
        calls.append(partial(features, sums[:1, :1], spacing[:1], class_name, specs[0].name))
    check(calls, target)
