"""``features`` under Triton's interpreter against torch's evaluation of the same formulas."""

import pytest
import torch

from kacl_gpu.kernels.features import features
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.features import CLASSES
from tests.interpreting import close


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("directions", [1, 3])
def test_interpret_features(class_name: str, directions: int) -> None:
    specs, kind = CLASSES[class_name]
    width = len(kind._fields) - 2 * ("spacing_y" in kind._fields)
    generator = torch.Generator().manual_seed(0)
    sums = torch.rand((37, directions, width), dtype=torch.float64, generator=generator)
    sums[5, 0, 0] = 0  # a direction without anything
    sums[6, :, 0] = 0  # a region without anything
    sums[7] = 0
    sums[6:9, :, -1] = 1  # flat, of the GLCM
    sums[9, :, 1:] = torch.nan
    sums[10:20][torch.rand(sums[10:20].shape, generator=generator) < 0.3] = 0  # what the formulas make exceptions of
    sums[10:20, :, 0] = 1
    spacing = torch.rand((37, 2), dtype=torch.float64, generator=generator) + 0.5
    all_names = [spec.name for spec in specs]
    for names in (all_names, all_names[::-2]):
        arguments = sums, spacing, class_name, ",".join(names)
        twin = ops.features(*arguments)
        assert bool(twin.isfinite().any(0).all())
        close(features(*arguments), twin, relative=1e-14, absolute=0)
        assert features(sums[:0], spacing[:0], *arguments[2:]).shape == (0, len(names))
