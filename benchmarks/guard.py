"""Have we become slower? ``python -m benchmarks.guard``: status 1 where a ratio to PyRadiomics has fallen by a third.

PyRadiomics and ours are timed anew in one run, on the workloads that matter most, and the ratios compared with those of
benchmarks/results/cpu.json. Ratios and not times, for a slow machine slows both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import PROJECT, REFERENCE, RESULTS, ROOT, ratios, shorten_cases

FALL = 1 / 3
SUITE = "benchmarks/test_suite.py::test_workload"


def falls(current: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Return the workloads of both whose ratio has fallen by a third or more.

    Raises:
        ValueError: they have no workload in common, so that nothing would be compared.
    """
    works = current.keys() & recorded.keys()
    if not works:
        raise ValueError(f"no workload in common: {sorted(current)} and {sorted(recorded)}")
    return sorted(work for work in works if current[work] <= (1 - FALL) * recorded[work])


def measure(works: list[str]) -> dict[str, float]:
    """Return the ratios of a run of these cases.

    Raises:
        RuntimeError: a case failed or was not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        cases = [f"{SUITE}[{library}-{work}]" for work in works for library in (PROJECT, REFERENCE)]
        command = [sys.executable, "-m", "pytest", "-q", *cases, "--rounds=10", f"--benchmark-json={out}"]
        process = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if process.returncode:
            raise RuntimeError(f"the suite ended with status {process.returncode}")
        return ratios(shorten_cases(json.loads(out.read_text())))


def main() -> int:
    recorded = ratios(json.loads((RESULTS / "cpu.json").read_text())["cases"])
    works = [work for work in recorded if not work.startswith(("2 whole", "8 whole", "16 whole"))]
    current = measure(works)
    slower = falls(current, recorded)
    for work, ratio in current.items():
        print(
            f"{work}: {ratio:.0f} times PyRadiomics, {recorded[work]:.0f} before{'  FALLEN' if work in slower else ''}"
        )
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
