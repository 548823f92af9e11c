"""Run the kernels in an emulator of PTX: ``python -m tests.kernels.ptx FOLDER``, which ``make ptx`` calls.

The folder holds ``ptxsim.py``, which executes on the CPU the PTX of each launch and reports data races, and ``run.py``,
which compares whole calls with the CPU implementation. This module runs both, and the interpreted tests in the same
emulator; it exits with 1 after a failure and after a race that the tool does not know to be deliberate. As a plugin of
pytest (``-p ptxsim -p tests.kernels.ptx``) it fails a session in which such a race was seen.
"""

import argparse
import inspect
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ("70", "80", "90")
MODES = ("lockstep", "backwards", "random", "stale", "priorities")  # schedules that the interpreted tests run under
# Union-find of a kernel that is younger than the tool, which takes these conflicts of join_nearest for deliberate:
# parents only become smaller members of one zone, and roots change by atomics alone
DELIBERATE = {"join_nearest_in_space"}
# Where the tool looks for modules of this project, and where they are
MODULES = {
    "tests.interpreting": "tests.kernels.interpreting",
    "tests.test_gpu": "tests.kernels.test_gpu",
    "tests.test_interpret_glszm": "tests.kernels.test_glszm",
    "tests.test_interpret_pipeline": "tests.kernels.test_pipeline",
    "tests.tolerance": "reference.tolerance",
}


def by_position(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operator with its keyword-only settings taken by position too, in the order of the signature."""
    names = list(inspect.signature(operator).parameters)

    @wraps(operator)
    def call(*arguments: Any, **options: Any) -> Any:
        return operator(**dict(zip(names, arguments)), **options)

    return call


def adapt_project() -> None:
    """Offer modules and operators as they were when the tool was written: old names, settings by position."""
    from kacl_gpu.radiomics import ops

    interpreting = import_module("tests.kernels.interpreting")

    def serve_by_position(patch: pytest.MonkeyPatch) -> None:
        # for the tool one setting, the last, asks for both dependences and differences
        patch.setattr(ops, "neighbourhood", partial(ops.neighbourhood, differences=True))
        for name in ops.KERNELS:
            patch.setattr(ops, name, by_position(getattr(ops, name)))

    def serve_by_kernels(patch: pytest.MonkeyPatch) -> None:
        interpreting.serve_by_kernels(patch)
        serve_by_position(patch)

    for old, new in MODULES.items():
        sys.modules[old] = ModuleType(old)
        vars(sys.modules[old]).update(vars(import_module(new)))
    vars(sys.modules["tests.interpreting"])["serve_by_kernels"] = serve_by_kernels
    serve_by_position(pytest.MonkeyPatch())


def unexpected_races() -> list[tuple[str, ...]]:
    """Return kernel, kind and both places of each race so far that the tool does not know to be deliberate."""
    deliberate = import_module("run").DELIBERATE | DELIBERATE
    races = import_module("ptxsim").LOG.races
    return [race for race in races if race[0] not in deliberate or race[1].startswith("shared")]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in which an unexpected race was seen."""
    for kernel, *race in unexpected_races():
        print(f"\nFAILED: a race in {kernel}: {' | '.join(race)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def run_checks(folder: Path, target: str, options: Sequence[str]) -> bool:
    """Return True if the tool's own checks pass on a target, without an unexpected race. Call once in a process."""
    sys.path.insert(0, str(folder))
    import_module("ptxsim")  # before Triton, whose cache it moves
    tool = import_module("run")
    adapt_project()
    sys.argv = [str(folder / "run.py"), *options, "--project", str(ROOT), "--target", target]
    failed = tool.main()
    for kernel, *race in unexpected_races():
        print(f"FAILED: a race in {kernel} on sm_{target}: {' | '.join(race)}")
    return not failed and not unexpected_races()


def test_command() -> list[str]:
    """Return the command that runs the interpreted tests in the emulator, with a check for races."""
    plugins = ["-p", "no:cacheprovider", "-p", "ptxsim", "-p", "tests.kernels.ptx", "--kernels-on", "cpu"]
    return [sys.executable, "-m", "pytest", "-q", *plugins, "-m", "interpreted", "tests/kernels"]


def jobs(folder: Path, quick: bool) -> list[tuple[list[str], dict[str, str]]]:
    """Return commands, each with the variables of its environment, that together are the whole check or a quick one."""
    checks = [sys.executable, "-m", "tests.kernels.ptx", str(folder), "--checks"]
    schedules = [("90", "backwards")] if quick else list(itertools.product(TARGETS, MODES))
    tests = [
        (test_command(), {"PTXSIM_TARGET": target, "PTXSIM_MODE": mode, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"})
        for target, mode in schedules
    ]
    if quick:
        return [([*checks, "70", "selftest", "checks", "--modes", "random"], {}), *tests]
    return [*(([*checks, target, "selftest", "checks", "regions"], {}) for target in TARGETS), *tests]


def run_job(job: tuple[list[str], dict[str, str]]) -> bool:
    """Run one command, print what it says, and return True if it passed."""
    command, variables = job
    title = " ".join([*(f"{name}={value}" for name, value in variables.items() if "PTXSIM" in name), *command[1:]])
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(f"== {title}\n{done.stdout}== {'FAILED' if done.returncode else 'passed'}", flush=True)
    return not done.returncode


def main() -> int:
    """Run all jobs, as many at once as there are processors, and return the status to exit with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the emulator, which holds ptxsim.py and run.py")
    parser.add_argument("--quick", action="store_true", help="one schedule for checks and one for tests: some minutes")
    parser.add_argument("--checks", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # one job
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    missing = [name for name in ("ptxsim.py", "run.py") if not (folder / name).is_file()]
    if missing:
        parser.error(f"an emulator of PTX is expected in {folder}, which has no {' and no '.join(missing)}")
    if arguments.checks:
        target, *options = arguments.checks
        return int(not run_checks(folder, target, options))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return int(not all(list(pool.map(run_job, jobs(folder, arguments.quick)))))


if __name__ == "__main__":
    sys.exit(main())
