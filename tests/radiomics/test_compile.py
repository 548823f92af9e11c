"""The cache of compiled loops: never stale, never fatal, and no larger than a few versions of the code."""

import errno
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

import kacl_gpu
from kacl_gpu.radiomics.cpu import _compile
from kacl_gpu.radiomics.cpu._compile import FOLDER, KEPT, digest_sources, jit

CALLEE = "from ._compile import jit\n\n\n@jit\ndef value() -> float:\n    return 1.0\n"
CALLER = (
    "from ._callee import value\nfrom ._compile import jit\n\n\n@jit\ndef twice() -> float:\n    return 2 * value()\n"
)
RUN = """
from kacl_gpu.radiomics.cpu._caller import twice
print(twice(), sum(twice.stats.cache_hits.values()))
"""


def double(x: float) -> float:
    return 2 * x


def triple(x: float) -> float:
    return 3 * x


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder that Numba is told to use, in a process that has not warned yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_compile, "_warned", [])
    yield tmp_path / "cache"


def run(function: Callable[[float], float], value: float) -> tuple[float, int, list[str]]:
    """Return the result of a newly decorated function, how often it came from the cache, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = jit(function)
        result = compiled(value)
    return result, sum(compiled.stats.cache_hits.values()), [str(warning.message) for warning in caught]


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.rglob(f"*.{suffix}"))


def test_compiled_code_is_kept(folder: Path) -> None:
    assert run(double, 2.0) == (4.0, 0, [])
    assert run(double, 3.0) == (6.0, 1, [])
    assert [len(files(folder, suffix)) for suffix in ("nbi", "nbc")] == [1, 1]


def test_a_change_in_another_file_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "kacl_gpu"
    shutil.copytree(Path(kacl_gpu.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    callee = package / "radiomics/cpu/_callee.py"
    callee.with_name("_caller.py").write_text(CALLER)
    outputs = []
    for text in (CALLEE, CALLEE, CALLEE.replace("1.0", "5.0")):
        callee.write_text(text)
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", RUN]
        done = subprocess.run(
            command, env={**env, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout.strip())
    assert outputs == ["2.0 0", "2.0 1", "10.0 0"]


def test_the_digest_depends_on_every_source_and_on_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest() -> str:
        digest_sources.cache_clear()
        return digest_sources(tmp_path)

    for name in ("a.py", "below/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("EPS = 1\n")
    seen = [digest(), digest()]
    assert seen[0] == seen[1]
    (tmp_path / "below/b.py").write_text("EPS = 2\n")
    seen.append(digest())
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    seen.append(digest())
    monkeypatch.setattr(numba, "__version__", "0.0")
    seen.append(digest())
    assert len(set(seen)) == 4
    with pytest.raises(FileNotFoundError, match="no sources"):
        digest_sources(tmp_path / "nothing")
    digest_sources.cache_clear()


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"neither ours nor Numba's",
        lambda content: content[:400] + b"\0" * 400 + content[800:],
    ],
    ids=["empty", "half", "a byte less", "foreign", "zeros within"],
)
def test_a_damaged_file_is_named_once_and_replaced(folder: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    run(double, 2.0)
    run(triple, 2.0)
    for file in files(folder, suffix):
        file.write_bytes(damage(file.read_bytes()))
    result, hits, said = run(double, 2.0)
    assert (result, hits) == (4.0, 0)
    assert len(said) == 1
    assert str(folder) in said[0]
    assert run(triple, 2.0) == (6.0, 0, [])
    assert run(double, 2.0) == (4.0, 1, [])


def test_the_code_of_another_function_does_not_run(folder: Path) -> None:
    run(double, 2.0)
    run(triple, 2.0)
    ours, other = files(folder, "nbc")
    assert "double" in ours.name
    shutil.copy(other, ours)
    result, hits, said = run(double, 2.0)
    assert (result, hits, len(said)) == (4.0, 0, 1)


def test_a_foreign_pickle_does_not_run(folder: Path) -> None:
    run(double, 2.0)
    files(folder, "nbc")[0].write_bytes(pickle.dumps((print, "x")))
    assert run(double, 2.0)[:2] == (4.0, 0)


def test_a_full_disk_is_named_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        result, hits, said = run(double, 2.0)
        assert (result, hits, len(said)) == (4.0, 0, 1)
        assert str(folder) in said[0]
        assert "No space left on device" in said[0]
        assert run(triple, 2.0) == (6.0, 0, [])
    assert list(folder.rglob("*.tmp*")) == []
    run(double, 2.0)
    assert run(double, 2.0)[1] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_a_full_disk_in_a_process_of_its_own(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))\n"
        "import torch\n"
        "from kacl_gpu.radiomics.cpu._sums import sum_of_squares\n"
        "print(sum_of_squares(torch.ones(3, dtype=torch.float64).numpy()))\n"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3.0\n"), done.stderr
    assert done.stderr.count("RuntimeWarning") == 1
    assert str(tmp_path) in done.stderr


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    folder.write_text("a file where a folder should be")
    result, _, said = run(double, 2.0)
    assert result == 4.0
    assert len(said) == 1
    assert str(folder) in said[0]
    assert "NUMBA_CACHE_DIR" in said[0]
    assert run(double, 2.0)[::2] == (4.0, [])


def test_files_that_may_not_be_read_are_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(double, 2.0)

    def load(self: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_compile.CheckedFile, "_load_index", load)
    result, hits, said = run(double, 2.0)
    assert (result, hits, len(said)) == (4.0, 0, 1)
    assert "Permission denied" in said[0]


def test_no_folder_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    result, hits, said = run(double, 2.0)
    assert (result, hits, len(said)) == (4.0, 0, 1)


def test_old_caches_are_removed(folder: Path) -> None:
    run(double, 2.0)
    parent = files(folder, "nbi")[0].parents[1]
    shutil.rmtree(files(folder, "nbi")[0].parent)
    for age in range(KEPT + 3):
        old = parent / f"{FOLDER}{age}"
        old.mkdir()
        os.utime(old, (1e9 - age, 1e9 - age))
    (parent / "of somebody else").mkdir()
    run(double, 2.0)
    left = {path.name for path in parent.iterdir()}
    assert left == {
        *(f"{FOLDER}{age}" for age in range(KEPT - 1)),
        FOLDER + digest_sources(_compile.SOURCES),
        "of somebody else",
    }
