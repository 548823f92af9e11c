"""On a GPU: ``python -m benchmarks.gpu --out FOLDER`` writes gpu.json and gpu.md.

Every time is of all 102 features of all regions of a workload, the device's work included: an eager call from its start
until the device is done; a replay of a CUDA graph by the device's own clock. Both go round several sets of inputs,
together more than twice the second cache of the device, so that no input waits there. test_suite.py has the peers.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from benchmarks.machine import processor
from benchmarks.workloads import (
    THIRTY_TWO_BINS,
    Workload,
    boxes_1024,
    heatmap_boxes_224,
    official_boxes_1024,
    whole_1024,
)
from kacl_gpu import RadiomicsSettings, gpu_radiomics

CACHE = 50 * 2**20  # bytes, of an H200


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"lower": float(low), "median": float(middle), "upper": float(high)}


def number_of_sets(image_bytes: int, cache: int) -> int:
    """Return how many sets of inputs are needed so that together they are more than twice the cache."""
    return max(2, 2 * cache // image_bytes + 1)


def call(images: Tensor, rows: Tensor, settings: RadiomicsSettings) -> Tensor:
    return gpu_radiomics(images, rows, settings=settings, invalid="nan")


def input_sets(workload: Workload) -> list[tuple[Tensor, Tensor]]:
    """Return the workload on the GPU, several times, its images rolled so that they differ."""
    cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", CACHE)
    sets = number_of_sets(workload.images.nbytes, cache)
    rows = workload.rows.cuda()
    return [(workload.images.roll(7 * n, -1).cuda(), rows) for n in range(sets)]


def eager_ms(sets: list[tuple[Tensor, Tensor]], settings: RadiomicsSettings, rounds: int) -> list[float]:
    times = []
    for n in range(rounds + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call(*sets[n % len(sets)], settings)
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return times[3:]


def captured(sets: list[tuple[Tensor, Tensor]], settings: RadiomicsSettings) -> list[torch.cuda.CUDAGraph]:
    graphs = []
    for images, rows in sets:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call(images, rows, settings)
        graphs.append(graph)
    return graphs


def device_ms(actions: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Time each action by events around it, the actions in turn."""
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds + 3)]
    for n, (start, stop) in enumerate(events):
        start.record()
        actions[n % len(actions)]()
        stop.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(stop) for start, stop in events][3:]


def kernel_us(sets: list[tuple[Tensor, Tensor]], settings: RadiomicsSettings) -> dict[str, dict[str, float]]:
    """Return launches per call and microseconds per launch of each kernel, from the profiler."""
    calls = 10
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for n in range(calls):
            call(*sets[n % len(sets)], settings)
        torch.cuda.synchronize()
    kernels = {}
    for event in profile.key_averages():
        total = getattr(event, "device_time_total", 0.0)
        if total > 0:
            kernels[event.key] = {"launches": event.count / calls, "us": total / event.count}
    return dict(sorted(kernels.items(), key=lambda item: -item[1]["launches"] * item[1]["us"]))


def measure(workload: Workload, rounds: int) -> dict[str, Any]:
    """Return one workload's row."""
    sets, settings = input_sets(workload), workload.settings
    regions = len(workload.rows)
    first = time.perf_counter()
    call(*sets[0], settings)
    torch.cuda.synchronize()
    first = time.perf_counter() - first
    images = sets[0][0]
    destination = torch.empty_like(images)
    copies = [lambda i=i: destination.copy_(i) for i, _ in sets]
    row: dict[str, Any] = {
        "workload": workload.name,
        "sets_of_inputs": len(sets),
        "regions": regions,
        "pixels": int(workload.mean_pixels * regions),
        "first_call_s": first,
        "eager_ms": quartiles(eager_ms(sets, settings, rounds)),
        "copy_of_input_ms": quartiles(device_ms(copies, rounds)),
        "kernels": kernel_us(sets, settings),
    }
    graphs = captured(sets, settings)
    row["graph_ms"] = quartiles(device_ms([graph.replay for graph in graphs], rounds))
    row["over_copy"] = row["graph_ms"]["median"] / row["copy_of_input_ms"]["median"]
    del graphs
    torch.cuda.empty_cache()
    return row


def slope(rounds: int) -> dict[str, Any]:
    """Time graph replays from 10^7 to 10^8 pixels.

    Returns: milliseconds per replay, and nanoseconds per pixel between neighbouring sizes.
    """
    points = []
    for count in (10, 20, 48, 96):
        workload = whole_1024(count)
        sets = input_sets(workload)
        call(*sets[0], workload.settings)
        graphs = captured(sets, workload.settings)
        times = device_ms([graph.replay for graph in graphs], rounds)
        points.append({"pixels": count * 2**20, "ms": statistics.median(times)})
        del graphs
        torch.cuda.empty_cache()
    slopes = [1e6 * (b["ms"] - a["ms"]) / (b["pixels"] - a["pixels"]) for a, b in pairwise(points)]
    return {"points": points, "ns_a_pixel": slopes, "steepest_over_flattest": max(slopes) / min(slopes)}


def workloads() -> list[Workload]:
    """Return Grad-CAM boxes; the real X-rays with official boxes where they are, drawn ones else; whole images."""
    return [heatmap_boxes_224(), official_boxes_1024(64) or boxes_1024(), whole_1024()]


def as_markdown(report: dict[str, Any]) -> str:
    """Return a short table."""

    def cell(times: dict[str, float]) -> str:
        return f"{times['median']:.3f} ({times['lower']:.3f} to {times['upper']:.3f})"

    lines = [
        f"{report['date']}, {report['device']}, {report['processor']}; torch {report['torch']}, Triton "
        f"{report['triton']}, CUDA {report['cuda']}. Milliseconds a call, median (quartiles).",
        "",
        "| workload | pixels | eager | graph | input copied | graph / copy |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["workloads"]:
        times = [cell(row[key]) for key in ("eager_ms", "graph_ms", "copy_of_input_ms")]
        lines.append(f"| {row['workload']} | {row['pixels']} | {' | '.join(times)} | {row['over_copy']:.1f} |")
    line = report["slope"]
    steps = ", ".join(f"{ns:.4f}" for ns in line["ns_a_pixel"])
    lines += [
        "",
        f"From 10^7 to 10^8 pixels: {steps} ns a pixel; {line['steepest_over_flattest']:.2f} times apart.",
        "",
    ]
    for row in report["workloads"]:
        lines += [f"Kernels of {row['workload']}:", "", "| kernel | launches a call | us a launch |", "|---|---|---|"]
        kernels = list(row["kernels"].items())
        lines += [f"| `{name[:60]}` | {k['launches']:g} | {k['us']:.1f} |" for name, k in kernels]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "numpy": np.__version__,
        "settings": repr(THIRTY_TWO_BINS),
        "workloads": [measure(workload, options.rounds) for workload in workloads()],
        "slope": slope(options.rounds),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
    text = as_markdown(report)
    (options.out / "gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
