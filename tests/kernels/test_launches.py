"""Count the work that one call starts on a device, without a device, on tensors that have no values."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kacl_gpu import RadiomicsSettings
from kacl_gpu.kacl.byop import look
from kacl_gpu.kernels import common
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import serve_by_kernels, without_synchronisation

# What torch does to a tensor without starting anything
FREE = {
    *("empty", "empty_like", "new_empty", "empty_strided", "view", "select", "slice", "expand", "unsqueeze", "detach"),
    *("unbind", "alias", "_unsafe_view", "as_strided", "promote_types"),
}


class Counting(TorchDispatchMode):
    """Notes the operations of torch that start work on a device."""

    def __init__(self, started: list[str]) -> None:
        super().__init__()
        self.started = started

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := function.overloadpacket.__name__) not in FREE:
            self.started.append(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the kernels and operations of torch that are started, the operators being served by their launchers."""
    names: list[str] = []
    serve_by_kernels(monkeypatch)
    monkeypatch.setattr(common, "recorder", lambda kernel, *_: names.append(kernel.__name__))
    with Counting(names):
        yield names


def launches(started: list[str], size: int, dtype: torch.dtype, settings: RadiomicsSettings) -> int:
    """Return the number of launches of one call, the offsets being on the device since an earlier one."""
    images = torch.empty((64, size, size), dtype=dtype, device="meta")
    boxes = torch.empty((64, 4), device="meta")
    for _ in range(2):
        started.clear()
        assert without_synchronisation(images, boxes, None, settings, dtype=torch.float32).shape[0] == 64
    return len(started)


def test_a_call_takes_a_few_tens_of_launches(started: list[str]) -> None:
    """All 102 features of 64 regions of 8-bit images, as in the README; no more for larger images or more levels."""
    count = RadiomicsSettings(bin_count=32)
    assert launches(started, 224, torch.uint8, count) <= 37, started
    assert launches(started, 1024, torch.uint8, count) <= 37, started
    width = RadiomicsSettings(bin_width=25.0, max_levels=32, weighting_norm="manhattan")
    assert launches(started, 224, torch.uint8, width) <= 67, started  # torch computes the weights of directions
    assert launches(started, 224, torch.float32, count) <= 51, started  # percentiles digit by digit


def test_a_call_on_volumes_takes_about_a_hundred_launches(started: list[str]) -> None:
    """All 107 features of 8 volumes of 16 bits with masks, with and without weights; of lists of volumes too."""
    for norm, most in ((None, 83), ("euclidean", 119)):
        settings = RadiomicsSettings(bin_count=32, max_region=(8, 32, 32), weighting_norm=norm)
        volumes, masks = (torch.empty((8, 1, 8, 40, 40), dtype=torch.int16, device="meta") for _ in range(2))
        for images, maps in ((volumes, masks), ([*volumes[:, 0]], [*masks[:, 0]])):
            for _ in range(2):
                started.clear()
                table = without_synchronisation(images, None, maps, settings, dtype=torch.float32)
            assert table.shape == (8, 107) and len(started) <= most, (len(started), started)


def test_one_class_takes_less(started: list[str]) -> None:
    for name, most in (("firstorder", 15), ("shape2D", 12), ("glcm", 17), ("ngtdm", 17)):
        settings = RadiomicsSettings(bin_count=32, feature_class=[name])
        assert launches(started, 224, torch.uint8, settings) <= most, (name, started)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_where_a_network_looks_takes_few_launches(started: list[str], dtype: torch.dtype) -> None:
    """Grad-CAM, heatmaps and boxes of a batch, as in a training step."""
    activations = torch.empty((64, 512, 7, 7), dtype=dtype, device="meta")
    weight, disease = torch.empty((8, 512), device="meta"), torch.empty(64, dtype=torch.int64, device="meta")
    maps, found = look(activations, weight, disease, (224, 224), 0.5, False)
    assert maps.shape == (64, 224, 224) and found.boxes.shape == (64, 4)
    assert len(started) <= 26, started


@pytest.mark.parametrize(("name", "file"), sorted(ops.KERNELS.items()))
def test_an_operator_has_one_file_name(name: str, file: str) -> None:
    """An operator's launcher, its twin on the CPU and their tests stand in files of the same name."""
    for package in ("kacl_gpu.kernels", "kacl_gpu.radiomics.cpu"):
        assert callable(getattr(import_module(f"{package}.{file}"), name))
    assert Path(__file__).with_name(f"test_{file}.py").is_file()
