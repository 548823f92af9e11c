"""What the benchmarks compute themselves, as far as it shows without a GPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

from benchmarks import gpu, guard, model, peers, report, sanitize
from benchmarks.workloads import THIRTY_TWO_BINS, Workload, heatmap_boxes_224, scattered, spiral_order, whole_images
from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.kernels import common
from kacl_gpu.radiomics import api
from tests.kernels.compiling import KERNELS
from tests.kernels.interpreting import serve_by_kernels


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the kernels that launchers start, which serve the operators; none of them runs."""
    names: set[str] = set()
    serve_by_kernels(monkeypatch)
    monkeypatch.setattr(common, "recorder", lambda kernel, *_: names.add(kernel.__name__))
    return names


def test_the_sanitizer_sees_every_kernel(launched: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(len(table) for table in sanitize.tables("meta")) == 24
    sanitize.textures_of_a_volume("meta")
    monkeypatch.setattr(api, "_is_static", lambda *_: True)
    sanitize.shapes_of_volumes("meta")
    sanitize.components_of_maps("meta")
    assert len(KERNELS) > 30
    assert launched == set(KERNELS)


def test_the_model_has_every_kernel() -> None:
    rows = [*model.WORK, *(work for _, work in model.ELSEWHERE)]
    assert {work.name.split()[0] for work in rows} - {"fills"} == set(KERNELS)
    for work in rows:
        assert all(work.traffic(load) > 0 and work.floor(load, model.H200) > 0 for load in model.LOADS)
        assert work.name == "fills" or work.executed(model.LOADS[0]) > 0


def test_the_tables_in_the_docs_are_the_model() -> None:
    assert model.table_in_docs()[1] == model.table(), "python -m benchmarks.model writes them"


class Filling(TorchDispatchMode):
    """Adds up the bytes that torch itself writes, operation by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ in ("zeros", "full", "arange"):
            self.bytes.append(result.nbytes)
        return result


@pytest.mark.parametrize("load", model.LOADS, ids=lambda load: load.name)
def test_the_model_counts_the_fills_of_a_call(load: model.Load, launched: set[str]) -> None:
    images = torch.empty((64, load.image, load.image), dtype=torch.uint8, device="meta")
    boxes = torch.empty((64, 4), device="meta")
    with Filling() as filling:
        gpu_radiomics(images, boxes, settings=RadiomicsSettings(bin_count=32), invalid="nan")
    fills = model.WORK[0]
    assert len(filling.bytes) == fills.launches
    assert sum(filling.bytes) == fills.traffic(load)
    assert launched == {work.name.split()[0] for work in model.WORK} - {"fills"}


@pytest.mark.parametrize("image_bytes", [64 * 224**2, 38 * 2**20, 64 * 2**20, 2**30])
def test_sets_of_inputs_pass_twice_the_cache(image_bytes: int) -> None:
    for cache in (6 * 2**20, 50 * 2**20, gpu.CACHE):
        sets = gpu.number_of_sets(image_bytes, cache)
        assert sets >= 2 and sets * image_bytes > 2 * cache >= (sets - 2) * image_bytes


# --- the suite


def case(library: str, seconds: float, **extra: Any) -> dict[str, Any]:
    """Return a case of pytest-benchmark, a workload of two regions, unless something else is said."""
    stats = {"median": seconds, "q1": 0.9 * seconds, "q3": 1.1 * seconds, "rounds": 20, "data": [seconds] * 20}
    info = {"part": "workload", "who": library, "workload": "boxes", "pixels": 100.0, "regions": 2, "agree": 90}
    stated = {"computes": 91, "version": "1.2.3", "stated": "in memory", "loading": 0.5}
    return {"stats": stats, "extra_info": {**info, **stated, **extra}}


def run(*cases: dict[str, Any], failed: tuple[str, ...] = (), changed: tuple[str, ...] = ()) -> dict[str, Any]:
    growth = [case("kacl_gpu", 0.01 * n, part="scaling", curve="batch", value=n, regions=n) for n in (1, 2, 4, 8)]
    memory = case("", 1.0, part="memory", points=[["batch", n, n * 2**20] for n in (1, 2, 4, 8)])
    kind = case("kacl_gpu", 0.004, part="class", kind="glcm", agree=24, computes=24)
    machine = {"device": "cpu", "processor": "some", "threads": 2, "driver": None, "versions": {"torch": "2.9"}}
    return {
        "datetime": "2026-01-02T03:04:05",
        "machine_info": {"kacl_gpu": machine, "git": {"commit": "abc", "changed": list(changed)}},
        "failed": list(failed),
        "skipped": {
            "test_workload[Slow-Er-boxes]": "does not install",
            "test_workload[Slow-masks]": "no answer within 20 s",
            "test_class[Slow-glcm]": "Slow has no glcm",
        },
        "benchmarks": [*cases, *growth, memory, kind],
    }


def test_the_report_shows_who_is_ahead(tmp_path: Path) -> None:
    first = {"compiling": [4.0, 6.5, 5.5], "from the cache": [0.25, 0.5, 0.75]}
    result = run(case("", 7.0, part="first call", times=first),
               case("kacl_gpu", 0.010), case("PyRadiomics", 0.250), case("Quick", 0.004), case("Slow", 1.0),
               case("kacl_gpu", 0.02, workload="masks"),
               case("Quick", 0.002, part="class", kind="glcm", agree=3, computes=4))  # fmt: skip
    short = report.shorten(result)
    assert report.ratios(short["cases"]) == {"boxes": pytest.approx(25)}
    report.write({"cpu": short}, tmp_path)
    text = (tmp_path / "performance.md").read_text()
    cells = [
        "boxes",
        "100",
        "5.00 (4.50 to 5.50)",
        "125 (112 to 138)",
        "**2.00 (1.80 to 2.20)**",
        "500 (450 to 550)",
        "25",
    ]
    assert f"| {' | '.join(cells)} |" in text
    assert "Ours is behind: Quick on boxes, 2.5 times (bold)." in text
    assert "| ahead of every peer on every workload | 2 of 3 cases | **no** |" in text
    assert "Not measured: Slow on masks (no answer within 20 s); Slow-Er on boxes (does not install)." in text
    assert "| Quick | 1.2.3 | 90 of 91 | 0.5 | in memory |" in text
    assert "| regions, 1 to 8 | 10.0 to 80.0 a call | 1.00 | 1 to 8 a call | 1.00 |" in text
    assert "| glcm | **1.00** (3 of 4) | 2.00 (24 of 24) |" in text
    assert "compiling 5.50 (4.75 to 6.00); from the cache 0.50 (0.38 to 0.62)." in text
    assert "| first call, compiling: 5 s | 5.50 s | **no** |" in text
    assert "| first call, from the cache: 1 s | 0.50 s | yes |" in text
    assert "| ahead of every peer on every class alone | 0 of 1 cases | **no** |" in text
    assert len(json.dumps(short)) < len(json.dumps(result))
    for name in ("workloads", "scaling"):
        with Image.open(tmp_path / "figures" / f"perf_cpu_{name}.png") as picture:
            assert min(picture.size) > 150


@pytest.mark.parametrize(("change", "words"), [
    ({"failed": ("test_workload[kacl_gpu-boxes]",)}, "1 cases failed, first test_workload"),
    ({"changed": ("kacl_gpu/kacl/byop.py",)}, "not in the commit: kacl_gpu/kacl/byop.py"),
])  # fmt: skip
def test_a_run_that_is_not_right_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run(case("kacl_gpu", 0.01), **change)))
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "run.json"), f"--docs={tmp_path}"])
    assert report.main() == 1
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_what_is_published_can_be_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run(case("kacl_gpu", 0.01), case("PyRadiomics", 0.25))))
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    texts = []
    for arguments in ([str(tmp_path / "run.json")], []):
        monkeypatch.setattr("sys.argv", ["report", *arguments, f"--docs={tmp_path}"])
        assert report.main() == 0
        texts.append((tmp_path / "performance.md").read_text())
    assert texts[0] == texts[1]


def test_fitted_exponent() -> None:
    x = [1.0, 2, 4, 8, 16, 32]
    assert report.fitted_exponent(x, [3 * v**1.7 for v in x]) == pytest.approx(1.7)
    assert report.fitted_exponent(x, [50.0, 50, 50, *(3 * v**1.7 for v in x[3:])]) == pytest.approx(1.7)


def test_the_guard_sees_a_third() -> None:
    recorded = {"a": 30.0, "b": 30.0, "c": 5.0}
    assert guard.falls({"a": 20.1, "b": 19.9}, recorded) == ["b"]
    assert guard.falls({"a": 60.0, "c": 5.0}, recorded) == []
    with pytest.raises(ValueError, match="no workload in common"):
        guard.falls({"x": 1.0}, recorded)


def test_regions_for_peers() -> None:
    images = np.arange(2 * 6 * 7, dtype=np.uint8).reshape(2, 6, 7)
    masks = (images % 3 == 0).astype(np.uint8)
    rows = np.array([[1, 1.5, 2.0, 4.2, 5.0], [0, 0, 0, 7, 6]])
    for region_masks in (None, masks):
        parts = peers.parts_of(images, rows, region_masks)
        assert np.array_equal(parts[0].pixels, images[1, 2:5, 1:5]) and np.array_equal(parts[1].pixels, images[0])
        inside = np.ones((3, 4)) if region_masks is None else masks[1, 2:5, 1:5]
        assert np.array_equal(parts[0].inside, inside)
    padded = parts[0].padded()
    assert padded.pixels.shape == padded.inside.shape == (5, 6) and not padded.inside[0].any()


def test_a_peer_in_its_process() -> None:
    pytest.importorskip("radiomics")
    work = heatmap_boxes_224(3)
    peer = peers.Peer("PyRadiomics", 1, "cpu", {"bins": 32, "distances": [1]}, ("glcm", "shape2D"))
    try:
        peer.prepare(work.images.numpy(), work.rows.numpy(), None, [[0, 2], [1]])
        peer.run(0)
        rows = peer.values()
        with pytest.raises(peers.PeerError, match="PyRadiomics: IndexError"):
            peer.run(5)
    finally:
        peer.close()
    settings = RadiomicsSettings(bin_count=32, feature_class={"glcm": None, "shape2D": None})
    names = [name.removeprefix("original_") for name in feature_names(settings)]
    table = gpu_radiomics(work.images, work.rows, settings=settings, dtype=torch.float64)[[0, 2]]
    assert [sorted(row) for row in rows] == [sorted(names)] * 2
    np.testing.assert_allclose([[row[name] for name in names] for row in rows], table.numpy(), rtol=1e-6, atol=1e-9)


def test_names_of_peers_are_features() -> None:
    names = {name.removeprefix("original_") for name in feature_names()}
    nyxus_names = {f"{kind}_{name}" for kind, table in peers.Nyxus.NAMES.items() for name in table.values()}
    assert nyxus_names <= names and len(nyxus_names) == sum(map(len, peers.Nyxus.NAMES.values()))


def test_workloads_are_what_they_are_called() -> None:
    order = spiral_order(32)
    inside = order >= 0
    numbers = np.sort(order[inside])
    assert np.array_equal(numbers, np.arange(len(numbers))) and 0.45 < inside.mean() < 0.6
    places = np.argwhere(inside)[np.argsort(order[inside])]
    assert (np.abs(np.diff(places, axis=0)).sum(1) == 1).all()  # a line
    frame = np.pad(inside, 1).astype(int)
    neighbours = np.sum([np.roll(frame, step, axis) for step in (1, -1) for axis in (0, 1)], 0)
    assert (neighbours[1:-1, 1:-1][inside] <= 2).all()  # that does not touch itself
    work = scattered(64, 2)
    assert work.masks is not None and 0.4 < work.masks.float().mean() < 0.6
    assert work.pixels.tolist() == work.masks.sum((1, 2)).tolist()
    assert whole_images(32, 3).pixels.tolist() == [1024.0] * 3
    masked = Workload("w", work.images, work.rows, THIRTY_TWO_BINS, work.masks)
    for sample in (masked, heatmap_boxes_224(2)):
        turned = sample.turned(2)
        assert torch.equal(turned[0].images, sample.images) and not torch.equal(turned[1].images, sample.images)


def test_the_docs_are_those_of_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["report", f"--docs={tmp_path}"])
    assert report.main() == 0
    assert (tmp_path / "performance.md").read_text() == (report.DOCS / "performance.md").read_text()


@pytest.mark.parametrize(("slower", "status"), [(1.0, 0), (2.0, 1)])
def test_the_guard_compares_with_what_is_committed(monkeypatch: pytest.MonkeyPatch, slower: float, status: int) -> None:
    recorded = report.ratios(json.loads((report.RESULTS / "cpu.json").read_text())["cases"])
    assert len(recorded) == 8 and min(recorded.values()) > 5
    monkeypatch.setattr(guard, "measure", lambda works: {work: recorded[work] / slower for work in works})
    assert guard.main() == status
