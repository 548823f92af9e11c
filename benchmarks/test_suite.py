"""The suite: ours and its peers on the same work in the same run. ``make bench``; on a GPU ``benchmarks/on_gpu.sh``.

A round of ours is one call with all regions of a workload; its inputs come in turn from several sets. A round of a peer
is a few regions, others each time and each time some of every size, for a hundred times slower peers could not compute
all of them twenty times in ten minutes. A case that would take too long all the same has fewer rounds, which the report
shows. Everything is computed once before it is timed, and compared with PyRadiomics: ours must agree to the tests'
tolerance in every feature, else the case fails; of a peer the number of features that agree is kept.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import memory, workloads
from benchmarks.peers import ALL, PEERS, Peer, PeerError, available
from benchmarks.workloads import Workload
from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.devices import count_processors
from kacl_gpu.radiomics.names import FEATURES
from reference.tolerance import deviations

TOLERANCE = 1e-3  # relative: a peer's value that agrees with PyRadiomics'
SETS = 4  # of inputs, of ours
PROJECT = "kacl_gpu"
LONGEST = {"PyRadiomics": 8.0}  # seconds that a case may take; others:
LONG = 3.0
WARM = 1.5  # seconds of a call beside which what a first call takes longer is little
FIRST_CALL = """
import time
from benchmarks.memory import workload
from kacl_gpu import gpu_radiomics
work = workload("batch", 1)
started = time.perf_counter()
gpu_radiomics(work.images, work.rows, settings=work.settings)
print(time.perf_counter() - started)
"""
WORKLOADS = {work.name: work for work in workloads.workloads()}
BOXES, REAL, *_ = WORKLOADS
POOLED = [BOXES, REAL, "64 whole images of 224 x 224"]  # what many processes are tried on


@cache
def ibsi() -> dict[str, str]:
    """Return the code of the IBSI -> class_Feature."""
    codes = {}
    for kind in FEATURES:
        for feature in importlib.import_module(f"kacl_gpu.radiomics.features.{kind.lower()}").FEATURES:
            codes[feature.ibsi] = f"{kind}_{feature.name}"
    codes.pop("", None)
    return codes


@pytest.fixture(scope="session")
def peers(device: str) -> Iterator[Callable[..., Peer]]:
    """Return peers by name and classes, each started once."""
    started: dict[tuple[str, tuple[str, ...]], Peer] = {}
    names = [name.removeprefix("original_") for name in feature_names()]

    def peer(name: str, classes: tuple[str, ...] = ALL) -> Peer:
        if reason := available()[name]:
            pytest.skip(f"{name}: {reason}")
        if not set(classes) & set(PEERS[name].classes):
            pytest.skip(f"{name} has no {classes[0]}")
        if (name, classes) not in started or started[name, classes].process.poll() is not None:
            settings = {"bins": 32, "distances": [1], "ibsi": ibsi(), "names": names}
            started[name, classes] = Peer(name, count_processors(), device, settings, classes)
        return started[name, classes]

    yield peer
    for one in started.values():
        one.close()


def pick_regions(work: Workload) -> list[int]:
    """Return two regions to compare values on: the smallest, and one of middling size. Of huge images one."""
    order = work.pixels.argsort().tolist()
    return [order[0]] if work.mean_pixels > 1e6 else [order[0], order[len(order) // 2]]


@pytest.fixture(scope="session")
def reference(peers: Callable[..., Peer]) -> Callable[[Workload], list[dict[str, float]]]:
    """Return PyRadiomics' values of the chosen regions; without it ours on the CPU, which the frozen values hold."""

    @cache
    def values(name: str) -> list[dict[str, float]]:
        work = WORKLOADS[name]
        if available()["PyRadiomics"]:
            rows = table(work._replace(rows=work.rows[pick_regions(work)]), "cpu")
            names = [name.removeprefix("original_") for name in feature_names()]
            return [dict(zip(names, row)) for row in rows.tolist()]
        return try_out(peers("PyRadiomics"), work)[0]

    return lambda work: values(work.name)


def table(work: Workload, device: str, settings: RadiomicsSettings | None = None) -> torch.Tensor:
    """Return our table, in float64."""
    masks = None if work.masks is None else work.masks.to(device)
    return gpu_radiomics(
        work.images.to(device), work.rows.to(device), masks=masks, settings=settings or work.settings, invalid="nan",
        dtype=torch.float64,
    ).cpu()  # fmt: skip


def prepare(peer: Peer, work: Workload, rounds: list[list[int]]) -> None:
    masks = None if work.masks is None else work.masks.numpy()
    peer.prepare(work.images.numpy(), work.rows.numpy(), masks, rounds)


def try_out(peer: Peer, work: Workload) -> tuple[list[dict[str, float]], float]:
    """Return the values of the chosen regions, and seconds per region.

    The seconds are those of a second, warm call, unless the first takes long.
    """
    regions = pick_regions(work)
    prepare(peer, work, [regions])
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        peer.run(0)
        seconds = time.perf_counter() - started
        if seconds > WARM:
            break
    peer.seconds_a_pixel = seconds / float(work.pixels[regions].sum())
    return peer.values(), seconds / len(regions)


def agreeing(values: list[dict[str, float]], reference: list[dict[str, float]], classes: tuple[str, ...]) -> list[str]:
    """Return the features that a peer computes and that agree with the reference in every region."""
    names = [name for name in reference[0] if name.split("_")[0] in classes and name in values[0]]
    pairs = list(zip(values, reference))
    return [
        name for name in names if all(abs(a[name] - b[name]) <= TOLERANCE * abs(b[name]) + 1e-9 for a, b in pairs)
    ]  # fmt: skip


def check_ours(work: Workload, device: str, reference: list[dict[str, float]], classes: tuple[str, ...]) -> int:
    """Return how many features are right, which must be all of them."""
    settings = RadiomicsSettings(bin_count=32, feature_class=dict.fromkeys(classes))
    names = feature_names(settings)
    rows = table(work._replace(rows=work.rows[pick_regions(work)]), device, settings).numpy()
    for row, values in zip(rows, reference):
        expected = np.array([values[name.removeprefix("original_")] for name in names])
        # sums that cancel are allowed more by their terms, which nobody knows here; those of texture have many
        misses = deviations(names, row, expected, np.zeros(len(names)))
        errors = [f"{n}: {a} for {b}" for n, a, b, d in zip(names, row, expected, misses) if not d <= 1]
        assert not errors, errors
    return len(names)


def time_rounds(benchmark: Any, action: Callable[[int], object], rounds: int) -> None:
    """Call once per round, each with another number."""
    numbers = itertools.count()
    benchmark.pedantic(action, setup=lambda: ((next(numbers),), {}), rounds=rounds, iterations=1)


def spread(work: Workload, count: int, rounds: int) -> list[list[int]]:
    """Return the regions of every round: in order of size, every so-manieth, beginning with another each time."""
    order = work.pixels.argsort().tolist()
    step = len(order) / count
    return [[order[int(n + i * step) % len(order)] for i in range(count)] for n in range(rounds)]


def time_ours(
    benchmark: Any, work: Workload, device: str, rounds: int, threads: int, settings: RadiomicsSettings | None = None
) -> None:
    """Time all regions per round, synchronised."""
    sets = []
    for turned in work.turned(min(SETS, max(2, 2**28 // work.images.nbytes))):
        masks = None if turned.masks is None else turned.masks.to(device)
        sets.append((turned.images.to(device), turned.rows.to(device), masks))

    def call(number: int) -> None:
        images, rows, masks = sets[number % len(sets)]
        gpu_radiomics(images, rows, masks=masks, settings=settings or work.settings, invalid="nan")
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    default_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        call(0)
        started = time.perf_counter()
        call(1)
        longest = LONGEST["PyRadiomics"] / max(time.perf_counter() - started, 1e-6)
        time_rounds(benchmark, call, int(min(rounds, max(longest, 3))))
    finally:
        torch.set_num_threads(default_threads)
    benchmark.extra_info.update(regions=len(work.rows), threads=threads)


def time_peer(benchmark: Any, peer: Peer, work: Workload, rounds: int, one: float) -> None:
    """Time a few regions per round, each of which takes some ``one`` seconds."""
    regions = len(work.rows)
    longest = LONGEST.get(peer.name, LONG) / (1 if len(peer.classes) > 1 else 4)
    count = max(1, min(regions, 8, int(longest / (20 * one))))
    if "all cores" in peer.name:
        count = min(regions, max(count, 2 * count_processors()))
    repeats = int(max(1, min(rounds, longest / (count * one))))
    prepare(peer, work, spread(work, count, repeats))
    if one < WARM:
        peer.run(0)
    time_rounds(benchmark, peer.run, repeats)
    benchmark.extra_info.update(regions=count, threads=count_processors())


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("library", [PROJECT, f"{PROJECT}, 1 thread", *PEERS])
def test_workload(
    benchmark: Any, library: str, name: str, device: str, rounds: int, peers: Any, reference: Any
) -> None:
    work = WORKLOADS[name]
    info = {"part": "workload", "who": library, "workload": name, "pixels": work.mean_pixels, "of": len(work.rows)}
    if library.startswith(PROJECT):
        if device.startswith("cuda") and library != PROJECT:
            pytest.skip("threads are of the CPU")
        info |= {"agree": check_ours(work, device, reference(work), ALL), "computes": len(feature_names())}
        time_ours(benchmark, work, device, rounds, count_processors() if library == PROJECT else 1)
    else:
        if "all cores" in library and name not in POOLED:
            pytest.skip("many processes are tried on the first three workloads")
        peer = peers(library)
        seconds = peer.seconds_a_pixel * work.mean_pixels
        if seconds > LONGEST.get(library, LONG):
            pytest.skip(f"some {seconds:.0f} s a region, by its time on smaller ones")
        try:
            values, one = try_out(peer, work)
        except PeerError as error:
            pytest.skip(str(error).removeprefix(f"{library}: "))
        info |= {"agree": len(agreeing(values, reference(work), ALL)), "computes": computes(values)}
        info |= {"version": peer.version, "stated": peer.stated, "loading": peer.loading}
        time_peer(benchmark, peer, work, rounds, one)
    benchmark.extra_info.update(info)


def computes(values: list[dict[str, float]], classes: tuple[str, ...] = ALL) -> int:
    names = [name.removeprefix("original_") for name in feature_names()]
    return sum(name in values[0] and name.split("_")[0] in classes for name in names)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("library", [PROJECT, *(name for name in PEERS if "all cores" not in name)])
def test_class(benchmark: Any, library: str, kind: str, device: str, rounds: int, peers: Any, reference: Any) -> None:
    work = WORKLOADS[BOXES]
    settings = RadiomicsSettings(bin_count=32, feature_class={kind: None})
    if library == PROJECT:
        agree = check_ours(work, device, reference(work), (kind,))
        info = {"agree": agree, "computes": agree}
        time_ours(benchmark, work, device, rounds, count_processors(), settings)
    else:
        peer = peers(library, (kind,))
        values, one = try_out(peer, work)
        info = {"agree": len(agreeing(values, reference(work), (kind,))), "computes": computes(values, (kind,))}
        time_peer(benchmark, peer, work, rounds, one)
    benchmark.extra_info.update(part="class", who=library, workload=BOXES, kind=kind, **info)


@pytest.mark.parametrize("curve,value", memory.POINTS, ids=str)
def test_scaling(benchmark: Any, curve: str, value: int, device: str, rounds: int) -> None:
    work = memory.workload(curve, value)
    time_ours(benchmark, work, device, rounds, count_processors())
    benchmark.extra_info.update(part="scaling", who=PROJECT, curve=curve, value=value)


def test_memory(benchmark: Any, device: str) -> None:
    """Measure the peak memory of every point of the curves; the time of this one means nothing."""
    command = [sys.executable, "-m", "benchmarks.memory", "--device", device]
    points = benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    benchmark.extra_info.update(part="memory", points=json.loads(points))


def test_first_call(benchmark: Any, device: str) -> None:
    """Time a process's first call, whose kernels nobody has compiled yet, and that of the next process."""
    if device.startswith("cuda"):
        pytest.skip("compiling again and again has no room in the nine minutes of a GPU")
    times: dict[str, list[float]] = {"compiling": [], "from the cache": []}

    def measure() -> None:
        with tempfile.TemporaryDirectory() as name:
            command, place = [sys.executable, "-c", FIRST_CALL], os.environ | {"NUMBA_CACHE_DIR": name}
            for seconds in times.values():
                process = subprocess.run(command, capture_output=True, text=True, check=True, env=place)
                seconds.append(float(process.stdout))

    benchmark.pedantic(measure, rounds=2)
    benchmark.extra_info.update(part="first call", who=PROJECT, times=times)


@pytest.mark.parametrize("radiomics", [PROJECT, "PyRadiomics"])
def test_training_step(benchmark: Any, radiomics: str, device: str, rounds: int) -> None:
    """Time steps of KACL, and the same with PyRadiomics image by image; each part of a step as a list of seconds."""
    training = pytest.importorskip("benchmarks.training")
    if radiomics != PROJECT and available()["PyRadiomics"]:
        pytest.skip(f"PyRadiomics: {available()['PyRadiomics']}")
    gpu = device.startswith("cuda")
    batch = 64 if gpu else 16
    # each reading waits for the GPU: not at every step there
    every = training.EVERY if gpu and radiomics == PROJECT else 1
    settings = {"one_by_one": radiomics != PROJECT, "every": every}
    steps: list[dict[str, float]] = benchmark.pedantic(training.measure, (batch, rounds * every), settings)
    parts = {part: [step.get(part, 0.0) for step in steps] for part in training.STAGES}
    benchmark.extra_info.update(part="training", who=radiomics, batch=batch, seconds=parts)


def pictures() -> list[tuple[str, Path, int]]:
    """Return folders of images: title, path, how many a round."""
    data = Path(os.environ.get("KACL_GPU_DATA", "nowhere"))
    folders = [
        ("X-rays of 256 x 256", data / "nih_mini" / "images", 64),
        ("X-rays of 1024 x 1024", data / "nih_boxed_1024" / "images", 12),
    ]
    return [one for one in folders if one[1].is_dir()]


@pytest.mark.parametrize("stage", ["decoding alone", "features of decoded images", "to a Parquet file"])
@pytest.mark.parametrize("title", ["X-rays of 256 x 256", "X-rays of 1024 x 1024"])
def test_extraction(benchmark: Any, title: str, stage: str, device: str, rounds: int) -> None:
    """Time the way from a folder of PNGs to a Parquet file, other files each round, beside its two halves alone."""
    extraction, images = (pytest.importorskip(f"kacl_gpu.{name}") for name in ("extract.folder", "io.pictures"))
    sources = [(folder, count) for name, folder, count in pictures() if name == title]
    if not sources:
        pytest.skip("KACL_GPU_DATA names no folder of X-rays")
    (folder, count), settings = sources[0], RadiomicsSettings(bin_count=32)
    files = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as name:
        folders = []
        for n in range(len(files) // count):
            (Path(name) / str(n)).mkdir()
            folders.append([Path(name) / str(n) / file.name for file in files[n * count : (n + 1) * count]])
            for link, file in zip(folders[-1], files[n * count :]):
                link.symlink_to(file)

        def extract_files(number: int) -> None:
            os.environ["TQDM_DISABLE"] = "1"
            source = folders[number % len(folders)][0].parent
            extraction.extract(source, Path(name) / "out.parquet", settings=settings, device=device)

        def decode(number: int) -> None:
            with ThreadPoolExecutor(count_processors()) as pool:
                list(pool.map(images.read_image, folders[number % len(folders)]))

        batches = [torch.stack([torch.from_numpy(images.read_image(file)[0]) for file in files]) for files in folders]

        def compute_features(number: int) -> None:
            pixels = batches[number % len(batches)].to(device)
            for batch in pixels.split(64 if device.startswith("cuda") else 16):
                height, width = batch.shape[1:]
                boxes = torch.tensor([[0.0, 0.0, width, height]]).repeat(len(batch), 1)
                gpu_radiomics(batch, boxes.to(device), settings=settings, dtype=torch.float64).cpu()

        action = {"decoding alone": decode, "features of decoded images": compute_features}.get(stage, extract_files)
        action(0)
        time_rounds(benchmark, action, rounds)
    benchmark.extra_info.update(part="extraction", who=PROJECT, title=title, what=stage, images=count)
