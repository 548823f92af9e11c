"""The kernel of every class's formulas, compiled ahead of time."""

from functools import partial

import pytest
import torch

from kacl_gpu.kernels.features import features
from kacl_gpu.radiomics.features import CLASSES
from tests.compiling import TARGETS, check, meta


@pytest.mark.parametrize("target", TARGETS)
def test_compile_features(target: int) -> None:
    calls = []
    spacing, status = meta(64, 2, dtype=torch.float64), meta(64, dtype=torch.int32)
    for several in (False, True):  # one class a kernel with one direction, region and feature; all classes in one
        sums, names = [], []
        for class_name, (specs, kind) in CLASSES.items():
            width = len(kind._fields) - 2 * ("spacing_y" in kind._fields)
            sums.append(meta(64, 4, width, dtype=torch.float64))
            names.append(f"{class_name}:{','.join(spec.name for spec in specs)}")
            if not several:
                one = [sums[-1][:1, 0]], spacing[:1], status[:1], f"{class_name}:{specs[0].name}"
                calls.append(partial(features, *one, torch.float64))
        if several:
            for dtype in (torch.float32, torch.float64):
                calls.append(partial(features, sums, spacing, status, ";".join(names), dtype))
    check(calls, target)
