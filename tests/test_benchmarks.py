"""What the benchmarks say of themselves, as far as it shows without a GPU."""

import re
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

from benchmarks import gpu, model, sanitize
from benchmarks.workloads import boxes_1024, heatmap_boxes_224
from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.kernels import common
from tests.compiling import KERNELS
from tests.interpreting import serve_by_kernels


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The kernels that launchers start, which serve the operators; none of them runs."""
    names: set[str] = set()
    serve_by_kernels(monkeypatch)
    monkeypatch.setattr(common, "recorder", lambda kernel, *_: names.add(kernel.__name__))
    return names


def test_the_sanitizer_sees_every_kernel(launched: set[str]) -> None:
    assert sum(len(table) for table in sanitize.tables("meta")) == 24
    sanitize.zones_of_a_volume("meta")
    sanitize.components_of_maps("meta")
    assert len(KERNELS) > 30
    assert launched == set(KERNELS)


def test_the_model_has_every_kernel() -> None:
    rows = [*model.WORK, *(work for _, work in model.ELSEWHERE)]
    assert {work.name.split()[0] for work in rows} - {"fills"} == set(KERNELS)
    for work in rows:
        assert all(work.moved(load) > 0 and work.floor(load, model.H200) > 0 for load in model.LOADS)
        assert work.name == "fills" or work.executed(model.LOADS[0]) > 0


def test_the_tables_in_the_docs_are_the_model() -> None:
    assert model.table_in_docs()[1] == model.table(), "python -m benchmarks.model writes them"


class Filling(TorchDispatchMode):
    """Adds up the bytes that torch itself writes, operation by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ in ("zeros", "full", "arange"):
            self.bytes.append(made.nbytes)
        return made


@pytest.mark.parametrize("load", model.LOADS, ids=lambda load: load.name)
def test_the_model_counts_the_fills_of_a_call(load: model.Load, launched: set[str]) -> None:
    images = torch.empty((64, load.image, load.image), dtype=torch.uint8, device="meta")
    boxes = torch.empty((64, 4), device="meta")
    with Filling() as filling:
        gpu_radiomics(images, boxes, settings=RadiomicsSettings(bin_count=32), invalid="nan")
    fills = model.WORK[0]
    assert len(filling.bytes) == fills.launches
    assert sum(filling.bytes) == fills.moved(load)
    assert launched == {work.name.split()[0] for work in model.WORK} - {"fills"}


def test_what_pyradiomics_takes_is_what_the_readme_says() -> None:
    stated = gpu.stated_ms()
    for name, title in gpu.STATED.items():
        (found,) = re.findall(rf"(?m)^\| [^|]*{title}[^|]*\| [\d,]+ \| ([\d.]+) \|", gpu.README.read_text())
        assert stated[name] == float(found) > 1
    for workload in (heatmap_boxes_224(1), boxes_1024(1)):
        assert sum(name in workload.name for name in stated) == 1


@pytest.mark.parametrize("image_bytes", [64 * 224**2, 38 * 2**20, 64 * 2**20, 2**30])
def test_sets_of_inputs_pass_twice_the_cache(image_bytes: int) -> None:
    for cache in (6 * 2**20, 50 * 2**20, gpu.CACHE):
        sets = gpu.number_of_sets(image_bytes, cache)
        assert sets >= 2 and sets * image_bytes > 2 * cache >= (sets - 2) * image_bytes
