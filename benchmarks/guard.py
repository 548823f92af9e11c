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

from benchmarks.report import OURS, REFERENCE, RESULTS, ROOT, ratios, shorten_cases

FALL = 1 / 3
SUITE = "benchmarks/test_suite.py::test_workload"


def fallen(now: Mapping[str, float], then: Mapping[str, float]) -> list[str]:
    """Return the workloads of both whose ratio has fallen by a third or more.

    Raises:
        ValueError: they have no workload in common, so that nothing would be compared.
    """
    both = now.keys() & then.keys()
    if not both:
        raise ValueError(f"no workload in common: {sorted(now)} and {sorted(then)}")
    return sorted(work for work in both if now[work] <= (1 - FALL) * then[work])


def measure(works: list[str]) -> dict[str, float]:
    """Return the ratios of a run of these cases.

    Raises:
        RuntimeError: a case failed or was not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        cases = [f"{SUITE}[{who}-{work}]" for work in works for who in (OURS, REFERENCE)]
        command = [sys.executable, "-m", "pytest", "-q", *cases, "--rounds=10", f"--benchmark-json={out}"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if done.returncode:
            raise RuntimeError(f"the suite ended with status {done.returncode}")
        return ratios(shorten_cases(json.loads(out.read_text())))


def main() -> int:
    then = ratios(json.loads((RESULTS / "cpu.json").read_text())["cases"])
    works = [work for work in then if not work.startswith(("2 whole", "8 whole", "16 whole"))]
    now = measure(works)
    bad = fallen(now, then)
    for work, ratio in now.items():
        print(f"{work}: {ratio:.0f} times PyRadiomics, {then[work]:.0f} before{'  FALLEN' if work in bad else ''}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
