"""With bounded levels and ``invalid="nan"`` no value of the device goes to the host.

Fake CUDA tensors have no values: whatever asks for one fails, also on a machine without a GPU.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from benchmarks.sanitize import EVERYTHING
from kacl_gpu import GpuRadiomics, RadiomicsSettings, gpu_radiomics

SETTINGS = {
    "count": RadiomicsSettings(bin_count=32),
    "width": RadiomicsSettings(bin_width=25.0, max_levels=64),
    "everything": replace(EVERYTHING, bin_count=16),
}


def empty(*shape: int, **options: Any) -> Tensor:
    """Return an empty tensor on a GPU that does not exist."""
    return torch.empty(shape, device="cuda", **options)


def calls(settings: RadiomicsSettings, invalid: Any = "nan") -> list[Callable[[], Tensor]]:
    """Return calls with boxes, rows, masks, lists; with each kind of spacing. To be made under a FakeTensorMode."""
    images, boxes, rows, masks = empty(4, 64, 48), empty(4, 4), empty(9, 5), empty(4, 64, 48, dtype=torch.uint8)
    options: dict[str, Any] = {"settings": settings, "invalid": invalid}
    return [
        lambda: gpu_radiomics(images, boxes, spacing=empty(2), **options),
        lambda: gpu_radiomics(images[:, None], rows, spacing=(0.5, 0.7), **options),
        lambda: gpu_radiomics(images, masks=masks, spacing=empty(4, 2), **options),
        lambda: gpu_radiomics(images, [boxes[:2], boxes[:0], boxes, boxes[1:]], masks=masks, **options),
        lambda: gpu_radiomics(images.bfloat16(), boxes, masks=masks.bool(), **options),
    ]


def volume_calls(settings: RadiomicsSettings, invalid: Any = "nan") -> list[Callable[[], Tensor]]:
    """Return calls on volumes as :func:`calls` on images, one of them on a list of several sizes."""
    images, boxes, rows = empty(4, 1, 30, 64, 48), empty(4, 6), empty(9, 7)
    masks = empty(4, 1, 30, 64, 48, dtype=torch.uint8)
    options: dict[str, Any] = {"settings": settings, "invalid": invalid}
    ragged = [empty(depth, 64, 48) for depth in (20, 9, 20, 4)]
    return [
        lambda: gpu_radiomics(images, boxes, spacing=empty(3), **options),
        lambda: gpu_radiomics(images, rows, spacing=(2.5, 0.5, 0.7), **options),
        lambda: gpu_radiomics(images, masks=masks, spacing=empty(4, 3), **options),
        lambda: gpu_radiomics(images, [boxes[:2], boxes[:0], boxes, boxes[1:]], masks=masks, **options),
        lambda: gpu_radiomics(ragged, rows, spacing=empty(4, 3), **options),
    ]


VOLUME_SETTINGS = {name: replace(settings, max_region=(16, 32, 32)) for name, settings in SETTINGS.items()}
VOLUME_SETTINGS["plane"] = replace(VOLUME_SETTINGS["count"], force2d=True, force2d_dimension=1)


@pytest.mark.parametrize("settings", VOLUME_SETTINGS.values(), ids=VOLUME_SETTINGS)
def test_no_value_of_a_volume_goes_to_the_host(settings: RadiomicsSettings) -> None:
    with FakeTensorMode():
        for call, k in zip(volume_calls(settings), (4, 9, 4, 9, 9), strict=True):
            assert call().shape == (k, 107)


def test_volumes_of_which_any_part_may_be_a_region_are_waited_for() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        volume_calls(SETTINGS["count"])[0]()


@pytest.mark.parametrize("settings", VOLUME_SETTINGS.values(), ids=VOLUME_SETTINGS)
def test_a_call_on_volumes_traces_as_one_graph(settings: RadiomicsSettings) -> None:
    torch._dynamo.reset()
    with FakeTensorMode():
        for call in volume_calls(settings):
            assert torch.compile(call, fullgraph=True, backend="eager")().shape[1] == 107


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_value_goes_to_the_host(settings: RadiomicsSettings) -> None:
    with FakeTensorMode():
        for call, k in zip(calls(settings), (4, 9, 4, 9, 4), strict=True):
            table = call()
            assert table.shape == (k, 102)
            assert table.device.type == "cuda"


def test_the_check_can_fail() -> None:
    """Without a bound for the levels, or with errors to raise, the host must look."""
    with FakeTensorMode():
        for call in (calls(RadiomicsSettings(bin_width=25.0))[0], calls(SETTINGS["count"], "raise")[0]):
            with pytest.raises(DataDependentOutputException):
                call()


@pytest.mark.parametrize(
    "spacing",
    [lambda: torch.ones(4, 2), lambda: torch.ones(2), lambda: [[1.0, 1.0]] * 4],
    ids=["an image", "a pair", "a list"],
)
def test_a_spacing_that_would_be_copied_is_refused(spacing: Callable[[], Any]) -> None:
    """A copy from the host's memory waits, and a graph would hold its address."""
    message = r"spacing is on cpu, images on cuda:0.*2 numbers.*\.to\('cuda:0'\)"
    with FakeTensorMode(), pytest.raises(ValueError, match=message):
        gpu_radiomics(empty(4, 64, 48), empty(4, 4), spacing=spacing(), settings=SETTINGS["count"], invalid="nan")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_call_traces_as_one_graph(settings: RadiomicsSettings) -> None:
    torch._dynamo.reset()
    with FakeTensorMode():
        for call in calls(settings):
            assert torch.compile(call, fullgraph=True, backend="eager")().shape[1] == 102


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_one_compiled_call_serves_other_numbers_of_regions_and_images(backend: str) -> None:
    """Tensors as arguments, as in a training step whose last batch is smaller."""
    torch._dynamo.reset()
    module = GpuRadiomics(SETTINGS["count"], invalid="nan")
    with FakeTensorMode():
        compiled = torch.compile(module, fullgraph=True, backend=backend)
        for regions in (9, 7, 5, 0):
            assert compiled(empty(4, 64, 48), empty(regions, 5)).shape == (regions, 102)
        for images in (4, 3):
            assert compiled(empty(images, 64, 48), empty(images, 4)).shape == (images, 102)
            ragged = [empty(n, 4) for n in range(images)]
            assert compiled(empty(images, 64, 48), ragged).shape == (sum(range(images)), 102)
