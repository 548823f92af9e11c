"""What the suite needs beside its cases: the device, what its JSON says of the machine, that the numbers are right."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.machine import processor


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where ours and the peers that can compute: cpu or cuda")
    parser.addoption("--rounds", type=int, default=20, help="of every case; fewer only to try the suite out")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Write hardware, driver and versions into the JSON of pytest-benchmark."""
    packages = ("torch", "triton", "numba", "numpy", "lightning", "pillow", "pyarrow", "pytest-benchmark")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = config.getoption("device")
    machine_info["kacl_gpu"] = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "cuda": torch.version.cuda if device.startswith("cuda") else None,
        "driver": driver() if device.startswith("cuda") else None,
        "rounds": config.getoption("rounds"),
    }
    machine_info["git"] = git()


failures: list[str] = []
skips: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.split("::")[-1]
    if report.failed:
        failures.append(name)
    elif report.skipped and isinstance(report.longrepr, tuple):
        skips[name] = report.longrepr[2].removeprefix("Skipped: ")


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Add what failed, for `benchmarks.report` to refuse, and what was not measured, and why."""
    output_json.update(failed=failures, skipped=skips)


def driver() -> str | None:
    """Return the version of NVIDIA's driver."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def git() -> dict[str, Any]:
    """Return the commit, and which files that are measured or measure differ from it."""
    root = Path(__file__).parents[1]

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True).stdout.strip()

    changes = ask("diff", "--name-only", "HEAD", "--", "kacl_gpu", "kernels", "benchmarks").split()
    return {"commit": ask("rev-parse", "--short=10", "HEAD") or None, "changed": changes}


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("device"))


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("rounds"))


@pytest.fixture(scope="session", autouse=True)
def agreement(device: str) -> None:
    """Compare with PyRadiomics' frozen values first: where ours differ, nothing is timed."""
    from reference.check import feature_misses, ours
    from reference.frozen import load

    for region, expected, _ in load():
        misses = feature_misses(region, expected, ours(region, device))
        assert not misses, f"not PyRadiomics' values, so not timed: {misses[0]}"
