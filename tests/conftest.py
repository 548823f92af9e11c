"""Runs the tests marked ``interpreted`` in a process of their own, for Triton's interpreter is chosen at import.

In that process (``TRITON_INTERPRET=1``) every tensor that is made empty is filled with garbage, each tensor of a launch
lies apart from the others, and every pointer that a kernel reads or writes through is compared with them. With
``--kernels-on cuda`` the same tests run on a GPU instead.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

# Threads that spin while they wait take the processors from the other processes of the suite, for ten times the time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
CHILDREN = 2  # that share the interpreted tests
RUNNING = pytest.StashKey[list[tuple[subprocess.Popen, Path]]]()
OUTCOMES = pytest.StashKey[dict[str, tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels-on", metavar="DEVICE", help="run the interpreted tests there instead")


def pytest_configure(config: pytest.Config) -> None:
    """Before a test module takes ``launch`` from where it stands."""
    if device := config.getoption("kernels_on") or ("cpu" if INTERPRETING else None):
        from kacl_gpu.kernels import common
        from tests.kernels.mirror import mirrored

        setattr(common, "launch", mirrored(common.launch, device))  # noqa: B010 - mypy takes functions for fixed
    if INTERPRETING:
        _convert_arrays_of_one_element()


def _convert_arrays_of_one_element() -> None:
    """Let a kernel's scalar be a bound of `range`.

    NumPy 2.5 refuses `int` of an array with a dimension, which the interpreter of Triton 3.6 calls for it.
    """
    interpreter = import_module("triton.runtime.interpreter")
    original = interpreter._patch_lang_tensor

    def patch(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    setattr(interpreter, "_patch_lang_tensor", patch)  # noqa: B010


def _is_interpreted(item: pytest.Item) -> bool:
    return item.get_closest_marker("interpreted") is not None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the children beside the tests of this process."""
    chosen = [item.nodeid for item in session.items if _is_interpreted(item)]
    if INTERPRETING or session.config.option.collectonly or session.config.getoption("kernels_on"):
        return
    running = session.config.stash[RUNNING] = []
    for part in filter(None, (chosen[n::CHILDREN] for n in range(CHILDREN))):
        folder = Path(tempfile.mkdtemp(prefix="interpret"))
        Path(folder, "chosen").write_text("\n".join(part))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "",
        ]  # all that were chosen here
        with open(folder / "output", "w") as output:
            child = subprocess.Popen(
                [*command, f"--junit-xml={folder / 'results.xml'}", f"@{folder / 'chosen'}"],
                env={**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""},
                cwd=session.config.rootpath,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running.append((child, folder))


def outcomes_in(results: Path) -> dict[str, tuple[str, str]]:
    """Name of each test in a file that pytest wrote: passed, failure, error or skipped; and what it says about that."""
    outcomes = {}
    for case in ElementTree.parse(results).iter("testcase"):
        name = f"{str(case.get('classname')).split('.')[-1]}.{case.get('name')}"
        found = [(part.tag, part.text or str(part.get("message"))) for part in case]
        bad = [part for part in found if part[0] in ("failure", "error")]
        outcomes[name] = (bad or [part for part in found if part[0] == "skipped"] or [("passed", "")])[0]
    return outcomes


def _outcomes(config: pytest.Config) -> dict[str, tuple[str, str]]:
    """Return the outcomes of the tests of all children, once they have ended."""
    if OUTCOMES not in config.stash:
        outcomes = config.stash[OUTCOMES] = {}
        for child, folder in config.stash[RUNNING]:
            child.wait()
            results = folder / "results.xml"
            if not results.exists():
                raise RuntimeError(Path(folder, "output").read_text())
            outcomes.update(outcomes_in(results))
    return config.stash[OUTCOMES]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if INTERPRETING or not _is_interpreted(pyfuncitem) or pyfuncitem.config.getoption("kernels_on"):
        return None
    outcome, words = _outcomes(pyfuncitem.config)[f"{pyfuncitem.path.stem}.{pyfuncitem.name}"]
    if outcome == "skipped":  # there, for the reason that the test gave
        pytest.skip(words)
    if outcome != "passed":
        pytest.fail(words, pytrace=False)
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    for child, folder in config.stash.get(RUNNING, []):
        child.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _hostile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make memory hostile where kernels are tested.

    There is garbage in empty tensors; in the interpreter no pointer outside those of a launch.
    """
    if not (INTERPRETING or request.config.getoption("kernels_on")):
        yield
        return
    settings: Any = torch.utils.deterministic
    before = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = True
    assert int(torch.empty(1, dtype=torch.int32)) == torch.iinfo(torch.int32).max
    with ExitStack() as stack:
        if INTERPRETING:
            from tests.kernels.interpreting import check_overflow, check_pointers

            stack.enter_context(check_pointers())
            stack.enter_context(check_overflow(False))
        yield
    torch.use_deterministic_algorithms(False)
    settings.fill_uninitialized_memory = before
