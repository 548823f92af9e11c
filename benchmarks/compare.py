"""Ours beside PyRadiomics in one run: ``python -m benchmarks.compare [--out FOLDER]`` writes comparison.json and .md.

Each round times both peers one after the other on the same regions, so that a machine whose speed drifts slows both.
PyRadiomics gets SimpleITK images that are ready in memory, one thread (it knows no more), its log off, and as many of
the regions as ``--regions`` says. Ours gets all regions in one call, on one thread and on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from benchmarks.workloads import Workload, workloads
from kacl_gpu import gpu_radiomics

ROOT = Path(__file__).parents[1]
FIRST_CALL = """
import time, torch
from kacl_gpu import gpu_radiomics
images, boxes = (torch.rand(4, 64, 64) * 255).to(torch.uint8), torch.tensor([[3, 4, 40, 50]] * 4)
start = time.perf_counter()
gpu_radiomics(images, boxes)
print(time.perf_counter() - start)
"""


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"lower": float(low), "median": float(middle), "upper": float(high)}


def time_ours(workload: Workload, threads: int) -> float:
    """Milliseconds a region."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    gpu_radiomics(workload.images, workload.rows, settings=workload.settings)
    return 1e3 * (time.perf_counter() - start) / len(workload.rows)


def pyradiomics_timer(workload: Workload, regions: int) -> Any:
    """A function that returns PyRadiomics' milliseconds a region over some of the regions; None without it."""
    try:
        import radiomics
        import SimpleITK as sitk
        from radiomics.featureextractor import RadiomicsFeatureExtractor

        from reference.pyradiomics import to_pyradiomics
    except ImportError:
        return None
    radiomics.setVerbosity(60)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings, features = to_pyradiomics(workload.settings)
    extractor = RadiomicsFeatureExtractor(**settings)
    extractor.enabledFeatures = features
    chosen = np.linspace(0, len(workload.rows) - 1, min(regions, len(workload.rows))).astype(int)
    pairs = []
    for index, x1, y1, x2, y2 in workload.rows[chosen].tolist():
        image = workload.images[int(index)].numpy().astype(np.float64)
        mask = np.zeros(image.shape, np.uint8)
        mask[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))] = 1
        if mask.all():  # refused by PyRadiomics
            image, mask = np.pad(image, 1), np.pad(mask, 1)
        pairs.append((sitk.GetImageFromArray(image), sitk.GetImageFromArray(mask)))

    def timed() -> float:
        start = time.perf_counter()
        for image, mask in pairs:
            extractor.execute(image, mask)
        return 1e3 * (time.perf_counter() - start) / len(pairs)

    return timed


def first_call(cache: str) -> float:
    """Seconds of the first call in a fresh process whose compiled code lies in ``cache``."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FIRST_CALL]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def compare(workload: Workload, rounds: int, regions: int) -> dict[str, Any]:
    """One workload's row."""
    threads = torch.get_num_threads()
    theirs = pyradiomics_timer(workload, regions)
    time_ours(workload, threads)  # compiles, and fills the caches
    one, all_threads, reference = [], [], []
    for _ in range(rounds):
        one.append(time_ours(workload, 1))
        all_threads.append(time_ours(workload, threads))
        if theirs:
            reference.append(theirs())
    row: dict[str, Any] = {
        "workload": workload.name,
        "mean_pixels": workload.mean_pixels,
        "ours_one_thread_ms": quartiles(one),
        f"ours_{threads}_threads_ms": quartiles(all_threads),
    }
    if theirs:
        row["pyradiomics_ms"] = quartiles(reference)
        row["ratio_one_thread"] = statistics.median(r / o for r, o in zip(reference, one))
        row[f"ratio_{threads}_threads"] = statistics.median(r / o for r, o in zip(reference, all_threads))
    torch.set_num_threads(threads)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--regions", type=int, default=12, help="regions that PyRadiomics computes in each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        seconds = {"compiling": first_call(cache), "from_cache": min(first_call(cache) for _ in range(3))}
    rows = [compare(w, options.rounds, options.regions) for w in workloads()]
    report = {
        "date": date.today().isoformat(),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "first_call_s": seconds,
        "workloads": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "comparison.json").write_text(json.dumps(report, indent=2) + "\n")
    text = as_markdown(report)
    (options.out / "comparison.md").write_text(text)
    print(text)


def processor() -> str:
    """Its name and the number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def as_markdown(report: dict[str, Any]) -> str:
    """A short table: milliseconds a region, median (quartiles)."""

    def cell(times: dict[str, float]) -> str:
        return f"{times['median']:.2f} ({times['lower']:.2f} to {times['upper']:.2f})"

    versions = f"Python {report['python']}, torch {report['torch']}, numpy {report['numpy']}, numba {report['numba']}"
    lines = [f"{report['date']}, {report['processor']}; {versions}. Milliseconds a region, median (quartiles).", ""]
    for row in report["workloads"]:
        times = {key.removesuffix("_ms").replace("_", " "): cell(v) for key, v in row.items() if key.endswith("_ms")}
        ratios = {key.replace("_", " "): f"{v:.0f}" for key, v in row.items() if key.startswith("ratio")}
        columns = {"workload": row["workload"], "mean pixels": f"{row['mean_pixels']:.0f}", **times, **ratios}
        if len(lines) == 2:
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines.append("| " + " | ".join(columns.values()) + " |")
    first = report["first_call_s"]
    lines += ["", f"First call: {first['compiling']:.1f} s compiling, {first['from_cache']:.2f} s from the cache.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
