"""The emulator of PTX is asked as it expects, and what it reports decides; with a stand-in for it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.kernels.ptx import unexpected_races

ROOT = Path(__file__).parents[2]
EMULATOR = """
class LOG:
    races = {RACES}
"""
CHECKS = """
import argparse
import ptxsim
DELIBERATE = {"find_lines"}
def main():
    from kacl_gpu.radiomics import ops
    from tests.interpreting import pack
    from tests.test_gpu import SEED
    from tests.tolerance import deviations
    import numpy as np
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*")
    parser.add_argument("--project")
    parser.add_argument("--target", type=int)
    options = parser.parse_args()
    assert (options.what, options.target) == (["checks"], 80)
    counts = ops.level_histogram(*pack([np.ones((1, 2, 3), np.int64)]), 4)
    print("counts", counts.tolist())
    return 0
"""


def check(folder: Path, races: dict[tuple[str, ...], int]) -> subprocess.CompletedProcess[str]:
    """Return what became of the checks with a tool that reports these races."""
    (folder / "ptxsim.py").write_text(EMULATOR.replace("{RACES}", repr(races)))
    (folder / "run.py").write_text(CHECKS)
    command = [sys.executable, "-m", "tests.kernels.ptx", str(folder), "--checks", "80", "checks"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_checks_pass_without_races_and_with_deliberate_ones(tmp_path: Path) -> None:
    done = check(tmp_path, {("find_lines", "within a block write, read", "a:1", "b:2"): 1})
    assert done.returncode == 0, done.stderr
    assert "counts [[6, 0, 0, 0]]" in done.stdout


def test_checks_fail_after_a_race(tmp_path: Path) -> None:
    done = check(tmp_path, {("set_edges", "within a block write, read", "a:1", "b:2"): 1})
    assert done.returncode == 1, done.stderr
    assert "FAILED: a race in set_edges on sm_80: within a block write, read | a:1 | b:2" in done.stdout


def test_races_in_shared_memory_are_never_deliberate(monkeypatch: pytest.MonkeyPatch) -> None:
    races = [("find_lines", kind, "a:1", "b:2") for kind in ("within a block write, read", "shared write, read")]
    monkeypatch.setitem(sys.modules, "ptxsim", SimpleNamespace(LOG=SimpleNamespace(races=dict.fromkeys(races))))
    monkeypatch.setitem(sys.modules, "run", SimpleNamespace(DELIBERATE={"find_lines"}))
    assert unexpected_races() == races[1:]


def test_a_folder_without_the_tool_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kernels.ptx", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path}, which has no ptxsim.py and no run.py" in done.stderr
