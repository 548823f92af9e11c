"""``features`` under Triton's interpreter against torch's evaluation of the same formulas."""

import pytest
import torch

from kacl_gpu.kernels.features import features
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.columns import number_of_columns
from kacl_gpu.radiomics.features import CLASSES
from tests.kernels.interpreting import close, same

pytestmark = pytest.mark.interpreted


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("directions", [1, 3])
def test_features(class_name: str, directions: int) -> None:
    specs, kind = CLASSES[class_name]
    width = number_of_columns(kind)
    generator = torch.Generator().manual_seed(0)
    sums = torch.rand((37, directions, width), dtype=torch.float64, generator=generator)
    sums[5, 0, 0] = 0  # a direction without anything
    sums[6, :, 0] = 0  # a region without anything
    sums[7] = 0
    sums[6:9, :, -1] = 1  # flat, of the GLCM
    sums[9, :, 1:] = torch.nan
    sums[10:20][torch.rand(sums[10:20].shape, generator=generator) < 0.3] = 0  # what the formulas make exceptions of
    sums[10:20, :, 0] = 1
    spacing = torch.rand((37, 3), dtype=torch.float64, generator=generator) + 0.5
    status = torch.zeros(37, dtype=torch.int32)
    status[11] = 3
    all_names = [spec.name for spec in specs]
    for names in (all_names, all_names[::-2]):
        options = {"names": [f"{class_name}/{name}" for name in names], "dtype": torch.float64}
        twin = ops.features([sums], spacing, status, **options)
        assert bool(twin.isfinite().any(0).all()) and bool(twin[11].isnan().all())
        close(features([sums], spacing, status, **options), twin, relative=1e-14, absolute=0)
        assert features([sums[:0]], spacing[:0], status[:0], **options).shape == (0, len(names))
    if directions == 1:
        same(*(features([table], spacing, status, **options) for table in (sums[:, 0], sums)))


def test_features_of_several_classes() -> None:
    """In the order that is asked for, in either type; a region alone has the same bits."""
    generator = torch.Generator().manual_seed(0)
    sums = [torch.rand((40, *shape), dtype=torch.float64, generator=generator) for shape in ((4, 15), (8,), (9,))]
    spacing, status = torch.ones((40, 3), dtype=torch.float64), torch.zeros(40, dtype=torch.int32)
    names = ["glrlm/RunEntropy", "glrlm/RunVariance", "ngtdm/Busyness"]
    names += ["shape2D/Elongation", "shape2D/Perimeter", "shape2D/MeshSurface"]
    for dtype in (torch.float32, torch.float64):
        ours, twin = (f(sums, spacing, status, names=names, dtype=dtype) for f in (features, ops.features))
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, twin, rtol=1e-6 if dtype == torch.float32 else 1e-14, atol=0)
        alone = features([s[33:34] for s in sums], spacing[:1], status[:1], names=names, dtype=dtype)
        same(alone, ours[33:34])
