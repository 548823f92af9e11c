"""With bounded levels and ``invalid="nan"`` no value of the device goes to the host.

Fake CUDA tensors have no values: whatever asks for one fails, also on a machine without a GPU.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from kacl_gpu import RadiomicsSettings, gpu_radiomics

SETTINGS = {
    "count": RadiomicsSettings(bin_count=32),
    "width": RadiomicsSettings(bin_width=25.0, max_levels=64),
    "everything": RadiomicsSettings(
        bin_count=16,
        normalize=True,
        remove_outliers=3.0,
        resegment_range=(-2.0, 2.0),
        resegment_mode="sigma",
        weighting_norm="euclidean",
        distances=(1, 2),
        symmetrical_glcm=False,
    ),
}


def calls(settings: RadiomicsSettings, invalid: Any = "nan") -> list[Callable[[], torch.Tensor]]:
    """Calls with boxes, rows, masks, both; with each kind of spacing. To be made under a FakeTensorMode."""
    images = torch.empty((4, 64, 48), device="cuda")
    boxes, rows = torch.empty((4, 4), device="cuda"), torch.empty((9, 5), device="cuda")
    masks = torch.empty((4, 64, 48), dtype=torch.uint8, device="cuda")
    options: dict[str, Any] = {"settings": settings, "invalid": invalid}
    spacing = torch.empty((4, 2), device="cuda")
    return [
        lambda: gpu_radiomics(images, boxes, **options),
        lambda: gpu_radiomics(images[:, None], rows, spacing=(0.5, 0.7), **options),
        lambda: gpu_radiomics(images, masks=masks, spacing=spacing, **options),
        lambda: gpu_radiomics(images, [boxes[:2], boxes[:0], boxes, boxes[1:]], masks=masks, **options),
    ]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_value_goes_to_the_host(settings: RadiomicsSettings) -> None:
    with FakeTensorMode():
        for call, k in zip(calls(settings), (4, 9, 4, 9), strict=True):
            table = call()
            assert table.shape == (k, 102)
            assert table.device.type == "cuda"


def test_the_check_can_fail() -> None:
    """Without a bound for the levels, or with errors to raise, the host must look."""
    with FakeTensorMode():
        for call in (calls(RadiomicsSettings(bin_width=25.0))[0], calls(SETTINGS["count"], "raise")[0]):
            with pytest.raises(DataDependentOutputException):
                call()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_call_traces_as_one_graph(settings: RadiomicsSettings) -> None:
    torch._dynamo.reset()
    with FakeTensorMode():
        for call in calls(settings)[:3]:
            assert torch.compile(call, fullgraph=True, backend="eager")().shape[1] == 102
