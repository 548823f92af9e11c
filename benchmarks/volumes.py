"""Ours and its peers on regions of volumes, on the CPU: ``python -m benchmarks.volumes`` (KACL_GPU_DATA=folder).

Every library computes all original features of the same regions with bins of width 25, on one thread. Before speed
comes agreement: ours must equal PyRadiomics by the rules of the tests in every feature, or the workload fails; of a
peer the features within 1e-3 of PyRadiomics are counted. The figure is the least time of several rounds: other
processes only add to it. Peers stand in environments of their own, which ``python -m benchmarks.peers`` makes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import processor
from benchmarks.peers import available, interpreter
from benchmarks.volume_peers import BIN_WIDTH, PEERS
from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.devices import count_processors
from kacl_gpu.radiomics.features import CLASSES
from reference.tolerance import deviations

DATA = Path(os.environ.get("KACL_GPU_DATA", "nowhere"))
SETTINGS = RadiomicsSettings(bin_width=BIN_WIDTH)
TOLERANCE = 1e-3  # relative: a peer's value that agrees with PyRadiomics'
LIMIT = 540  # seconds that a peer may take with a workload
NAMES = [name.removeprefix("original_") for name in feature_names(dimensions=3)]


class Work(NamedTuple):
    """Regions with a margin of one voxel: intensities and masks (D, H, W) each, and one spacing z, y, x."""

    name: str
    values: list[NDArray[np.int16]]
    inside: list[NDArray[np.uint8]]
    spacing: tuple[float, ...]
    of: int  # how many regions the peers compute

    @property
    def voxels(self) -> int:
        return sum(int(mask.sum()) for mask in self.inside)


def read_volume(name: str, image: Path, mask: Path) -> Work | None:
    """Return the region of a file with a margin of one voxel, or None where there is none."""
    if not (image.exists() and mask.exists()):
        return None
    sitk = importlib.import_module("SimpleITK")
    file = sitk.ReadImage(str(image))
    values, labels = sitk.GetArrayFromImage(file), sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(labels))
    inside = (labels[box] > 0).astype(np.uint8)
    name = f"{name}, {int(inside.sum()):,} voxels"
    spacing = tuple(file.GetSpacing()[::-1])
    return Work(name, [np.pad(values[box].astype(np.int16), 1)], [np.pad(inside, 1)], spacing, 1)


def lesions(count: int = 1000, side: int = 16) -> Work:
    """Draw balls with ragged borders in smooth noise."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((side, side, side)) - (side - 1) / 2
    radius = np.sqrt(z * z + y * y + x * x)
    values, inside = [], []
    for _ in range(count):
        waves = rng.normal(size=(3, 3)) * 0.4
        field = sum(np.sin(a * z + b * y + c * x) for a, b, c in waves)
        values.append(np.pad((120 * field + 40 * rng.normal(size=z.shape) + 300).astype(np.int16), 1))
        inside.append(np.pad((radius + rng.normal(size=z.shape) < side / 2).astype(np.uint8), 1))
    return Work(f"{count:,} lesions of {side} x {side} x {side}", values, inside, (1.0, 1.0, 1.0), 20)


def workloads() -> list[Work]:
    """Return the regions that every peer gets, those of real files where KACL_GPU_DATA names them."""
    samples, ibsi = DATA / "volumes", DATA / "ibsi" / "ct_phantom"
    real = [
        read_volume("brain1 (MR)", samples / "brain1_image.nrrd", samples / "brain1_label.nrrd"),
        read_volume("lung1 (CT)", samples / "lung1_image.nrrd", samples / "lung1_label.nrrd"),
        read_volume("IBSI CT phantom", ibsi / "phantom.nii.gz", ibsi / "mask.nii.gz"),
    ]
    return [*(work for work in real if work is not None), lesions()]


def least(action: Any, rounds: int) -> tuple[float, float]:
    """Return the least wall and CPU time of several rounds in seconds."""
    wall, cpu = [], []
    for _ in range(rounds):
        started, begun = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - begun)
    return min(wall), min(cpu)


def compute(work: Work) -> torch.Tensor:
    """Return our features (K, 107) of all regions in one call."""
    images, masks = ([torch.from_numpy(array) for array in arrays] for arrays in (work.values, work.inside))
    return gpu_radiomics(images, masks=masks, settings=SETTINGS, spacing=work.spacing, dtype=torch.float64)


def ask_peer(name: str, work: Work, rounds: int) -> dict[str, Any]:
    """Return what a peer answers on the first regions of a workload; its error under "error"."""
    ibsi = {spec.ibsi: f"{kind}_{spec.name}" for kind, (specs, _) in CLASSES.items() for spec in specs if spec.ibsi}
    options = {"threads": 1, "rounds": rounds, "regions": work.of, "ibsi": ibsi, "names": NAMES}
    command, environment = interpreter(name)
    environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        arrays: dict[str, NDArray[Any]] = {f"values{n}": work.values[n] for n in range(work.of)}
        arrays |= {f"inside{n}": work.inside[n] for n in range(work.of)}
        np.savez(file.name, options=json.dumps(options), spacing=np.array(work.spacing), **arrays)  # type: ignore[arg-type]
        script = str(Path(__file__).with_name("volume_peers.py"))
        try:
            answer = subprocess.run(
                [*command, script, name, file.name], capture_output=True, text=True, env=environment, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no answer within {LIMIT} s"}
    if answer.returncode:
        return {"error": (answer.stderr.strip().splitlines() or ["its process ended"])[-1]}
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def agreeing(found: list[dict[str, float]], reference: list[dict[str, float]]) -> int:
    """Return the number of features that agree with the reference in every region."""
    pairs = [*zip(found, reference, strict=True)]
    return sum(
        all(name in a and abs(a[name] - b[name]) <= TOLERANCE * abs(b[name]) + 1e-9 for a, b in pairs) for name in NAMES
    )


def check_ours(work: Work, reference: list[dict[str, float]]) -> None:
    """Raise an AssertionError unless every feature of ours is PyRadiomics' by the rules of the tests."""
    names = feature_names(dimensions=3)
    for row, there in zip(compute(work).numpy(), reference, strict=False):
        expected = np.array([there[name] for name in NAMES])
        far = deviations(names, row, expected, np.zeros(len(names)))
        missed = [f"{name}: {a} for {b}" for name, a, b, d in zip(NAMES, row, expected, far, strict=True) if not d <= 1]
        assert not missed, (work.name, missed)


def measure(work: Work, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each library: milliseconds of all regions on one thread, and what agrees."""
    rows = []
    reference = ask_peer("PyRadiomics", work, max(1, rounds // 3)) if not available()["PyRadiomics"] else None
    if reference is None or "error" in reference:
        raise RuntimeError(f"nothing to compare with: {reference and reference['error']}")
    check_ours(work, reference["values"])
    torch.set_num_threads(1)
    wall, cpu = least(lambda: compute(work), rounds)
    torch.set_num_threads(count_processors())
    every_core, _ = least(lambda: compute(work), rounds)
    rows.append({"who": "kacl_gpu", "wall": wall, "cpu": cpu, "all cores": every_core, "agree": len(NAMES)})
    for name in PEERS:
        if name != "PyRadiomics" and available()[name]:
            rows.append({"who": name, "error": available()[name]})
            continue
        answer = reference if name == "PyRadiomics" else ask_peer(name, work, max(1, rounds // 3))
        if "error" in answer:
            rows.append({"who": name, "error": answer["error"]})
            continue
        scale = len(work.values) / work.of
        rows.append({
            "who": f"{name} {answer['version']}",
            "wall": min(answer["wall"]) * scale, "cpu": min(answer["cpu"]) * scale,
            "agree": agreeing(answer["values"], reference["values"]), "stated": answer["stated"],
        })  # fmt: skip
    return rows


LARGE = """
import json, resource, sys, time
import numpy as np, torch
from kacl_gpu import RadiomicsSettings, gpu_radiomics
shape = tuple(map(int, sys.argv[1:4]))
rng = np.random.default_rng(0)
z, y, x = (np.arange(n, dtype=np.float32) - n / 2 for n in shape)
distance = (z[:, None, None] / shape[0]) ** 2 + (y[:, None] / shape[1]) ** 2 + (x / shape[2]) ** 2
mask = torch.from_numpy((distance < 0.082).astype(np.uint8))[None, None]
image = np.empty(shape, np.int16)
for k in range(shape[0]):
    noise = 40 * rng.standard_normal(shape[1:], np.float32)
    image[k] = 200 * np.sin(y[:, None] / 9 + z[k] / 7) * np.cos(x / 11) + noise
image = torch.from_numpy(image)[None, None]
settings = RadiomicsSettings(bin_width=25)
small = gpu_radiomics(image[..., :20, :20, :20], torch.tensor([[0, 0, 0, 20, 20, 20]]), settings=settings)  # compiles
del distance
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started, begun = time.perf_counter(), time.process_time()
row = gpu_radiomics(image, masks=mask, settings=settings, spacing=(1.0, 0.7, 0.7))
wall, cpu = time.perf_counter() - started, time.process_time() - begun
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"voxels": int(mask.sum()), "wall": wall, "cpu": cpu, "finite": bool(row.isfinite().all()),
                  "inputs MiB": (image.nbytes + mask.nbytes) >> 20, "more MiB": (after - before) >> 10}))
"""


def measure_large(shape: tuple[int, int, int] = (400, 512, 512)) -> dict[str, Any]:
    """Return time and memory of one call on a large CT, in a process of its own, on all cores."""
    command = [sys.executable, "-c", LARGE, *map(str, shape)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    return {"shape": list(shape), **result}


def report(results: dict[str, Any]) -> str:
    """Return the results as text."""
    lines = [f"{results['processor']}; milliseconds of the fastest round, one thread; 107 features, bin width 25"]
    for name, rows in results["workloads"].items():
        lines.append(f"\n{name}")
        reference = next(row["wall"] for row in rows if row["who"].startswith("PyRadiomics"))
        for row in rows:
            if "error" in row:
                lines.append(f"  {row['who']:24} not measured: {row['error']}")
                continue
            speed = reference / row["wall"]
            cores = f", all cores {1e3 * row['all cores']:.2f}" if "all cores" in row else ""
            lines.append(
                f"  {row['who']:24} {1e3 * row['wall']:10.2f} ({1e3 * row['cpu']:.2f} of the processor{cores}), "
                f"{speed:.1f} times PyRadiomics, {row['agree']} of 107 agree"
            )
    if large := results.get("large"):
        lines.append(f"\na CT of {large['shape']}, one label: {large}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.volumes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="of ours; peers have a third of it (default 12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument("--only", metavar="WORD", default="", help="workloads whose name holds this")
    parser.add_argument(
        "--large", action="store_true", help="a CT of 400 x 512 x 512 voxels with a label of 10 million"
    )
    options = parser.parse_args()
    results: dict[str, Any] = {"processor": processor(), "workloads": {}}
    for work in workloads():
        if options.only in work.name:
            results["workloads"][work.name] = measure(work, options.rounds)
    if options.large:
        results["large"] = measure_large()
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
