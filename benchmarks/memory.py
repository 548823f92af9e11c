"""Peak memory of one call at each point of the scaling curves: ``python -m benchmarks.memory``, a line of JSON.

On the CPU each point is a child of its own, whose peak the system tells; on a GPU torch tells it. What a call with one
region of 8 x 8 takes is what the process needs anyway, and is taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import torch

from benchmarks.workloads import Workload, synthetic_radiographs
from kacl_gpu import RadiomicsSettings, gpu_radiomics

CURVES: dict[str, tuple[int, ...]] = {
    "batch": (1, 4, 16, 64, 256, 1024),
    "region": (8, 16, 32, 64, 128, 256, 512, 1024, 2048),
    "levels": (2, 4, 8, 16, 32, 64, 128, 255),
    "distances": (1, 2, 3),
}
POINTS = [(curve, value) for curve, values in CURVES.items() for value in values]


def workload(curve: str, value: int) -> Workload:
    """Return regions of 100 x 110, 16 of them, 32 levels, distance 1, but for what the curve changes."""
    count = value if curve == "batch" else 4 if curve == "region" and value > 512 else 16
    height, width = (value, value) if curve == "region" else (110, 100)
    settings = RadiomicsSettings(
        bin_count=value if curve == "levels" else 32,
        distances=tuple(range(1, value + 1)) if curve == "distances" else (1,),
    )
    samples = synthetic_radiographs(min(count, 16), max(height, 64))
    images = samples.repeat(-(-count // len(samples)), 1, 1)[:count]
    rows = torch.tensor([0.0, 0.0, 0.0, width, height]).repeat(count, 1).double()
    rows[:, 0] = torch.arange(count)
    return Workload(f"{curve} {value}", images, rows, settings)


def peak(curve: str, value: int, device: str) -> int:
    """Return the most bytes that were in use, with those in use anyway."""
    if device.startswith("cuda"):
        work = workload(curve, value)
        images, rows = work.images.to(device), work.rows.to(device)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        gpu_radiomics(images, rows, settings=work.settings, invalid="nan")
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated()) - images.nbytes
    child = os.fork()
    if child == 0:
        work = workload(curve, value)
        gpu_radiomics(work.images, work.rows, settings=work.settings)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    if device.startswith("cuda"):
        anyway = 0
        gpu_radiomics(torch.zeros(1, 8, 8).to(device), torch.tensor([[0, 0, 8, 8]]).to(device), invalid="nan")
    else:
        peak("region", 8, device)  # compiles
        anyway = peak("region", 8, device)
    points = [(curve, value, max(peak(curve, value, device) - anyway, 0)) for curve, value in POINTS]
    print(json.dumps(points))


if __name__ == "__main__":
    main()
