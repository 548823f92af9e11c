"""The package: what importing it costs, and what its wheel holds."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tarfile
import zipfile
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(code: str) -> Any:
    """Return what the code prints, as JSON, in a Python of its own."""
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


IMPORT = """
import json, sys, time
{statement}
import torch
loaded = set(sys.modules)
start = time.perf_counter()
import kacl_gpu
for name in kacl_gpu.__all__: getattr(kacl_gpu, name)
print(json.dumps([time.perf_counter() - start, sorted(set(sys.modules) - loaded), kacl_gpu.__version__]))
"""


def test_importing_takes_under_half_a_second_on_top_of_torch() -> None:
    # Any of three tries: the others may have waited for the processor or the disk
    assert any(run(IMPORT.format(statement=""))[0] < 0.5 for _ in range(3))


@pytest.mark.parametrize("statement", ["", "sys.modules['triton'] = None"], ids=["as installed", "without triton"])
def test_importing_loads_nothing_that_the_first_call_can_load(statement: str) -> None:
    _, modules, version = run(IMPORT.format(statement=statement))
    packages = {name.partition(".")[0] for name in modules}
    assert "kacl_gpu" in packages
    assert version == "0.1.0"
    heavy = {
        "numba",
        "llvmlite",
        "triton",
        "SimpleITK",
        "radiomics",
        "matplotlib",
        "pandas",
        "pyarrow",
        "scipy",
        "yaml",
    }
    assert not packages & heavy


def test_the_call_needs_the_core_dependencies_alone() -> None:
    features = run("""
import json, sys
for name in ("triton", "SimpleITK", "radiomics", "matplotlib", "pandas", "pyarrow", "yaml", "tqdm", "PIL", "pydicom"):
    sys.modules[name] = None
import torch, kacl_gpu
image = torch.arange(64.0).reshape(1, 8, 8)
print(json.dumps(kacl_gpu.gpu_radiomics(image, torch.tensor([[1, 2, 6, 7]])).tolist()))
""")
    assert [len(row) for row in features] == [102]


SOURCES = (
    "kacl_gpu", "kernels", "reference", "tests", "benchmarks", "docs", "examples", "setup.py", "pyproject.toml",
    "MANIFEST.in", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff",
)  # fmt: skip
BUILD_OUTPUTS = ("__pycache__", ".nbi", ".nbc", ".pyc")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a copy of the sources, so that a build leaves nothing behind in the repository."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools, which builds the package, is not installed")
    pytest.importorskip("wheel", reason="wheel is not installed")
    copy = tmp_path_factory.mktemp("build") / "tree"
    copy.mkdir()
    # -a keeps the link kacl_gpu/kernels a link
    subprocess.run(["cp", "-a", *(str(ROOT / name) for name in SOURCES), str(copy)], check=True)
    return copy


def build(tree: pathlib.Path, kind: str) -> pathlib.Path:
    """Build a wheel or an sdist with the build backend, and return its path."""
    code = f"import setuptools.build_meta as backend; print(backend.build_{kind}('../dist'))"
    finished = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return tree.parent / "dist" / finished.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tree: pathlib.Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(build(tree, "wheel"))


@pytest.fixture(scope="module")
def unpacked(tree: pathlib.Path) -> pathlib.Path:
    """Return the folder of an unpacked source distribution."""
    with tarfile.open(build(tree, "sdist")) as archive:
        archive.extractall(tree.parent / "unpacked")
    (folder,) = (tree.parent / "unpacked").iterdir()
    return folder


def test_the_source_distribution_holds_what_its_tests_need(unpacked: pathlib.Path) -> None:
    for name in SOURCES:
        path = ROOT / name
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        files = [file for file in files if not any(word in str(file.relative_to(ROOT)) for word in BUILD_OUTPUTS)]
        assert [file for file in files if not (unpacked / file.relative_to(ROOT)).is_file()] == []
    # the link of the repository is a copy, as tests import kacl_gpu.kernels from the folder
    assert {path.name for path in (ROOT / "kernels").glob("*.py")} <= {
        path.name for path in (unpacked / "kacl_gpu" / "kernels").iterdir()
    }
    assert not [path for path in unpacked.rglob("*") if path.name.endswith(BUILD_OUTPUTS)]


@pytest.mark.slow
def test_the_tests_of_the_source_distribution_can_be_collected(unpacked: pathlib.Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    finished = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:]


def test_the_installed_command_works_outside_the_repository(wheel: zipfile.ZipFile, tmp_path: pathlib.Path) -> None:
    """Configurations by name, with nothing of the repository on the path."""
    pytest.importorskip("lightning")
    wheel.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import kacl_gpu; "
        "from kacl_gpu.kacl.training.fit import command; "
        "made = command(['--config', 'nih', '--config', 'base', '--data.root=x', '--model.weights=null']); "
        "assert made.config.model.loss == 'cross_entropy' and made.config.trainer.max_epochs == 30; "
        "print(kacl_gpu.__file__)"
    )
    finished = subprocess.run([sys.executable, "-P", "-c", code] if sys.version_info >= (3, 11) else
                              [sys.executable, "-c", code], cwd=tmp_path, env={"PATH": ""},
                              capture_output=True, text=True, check=False)  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split()[-1] == str(tmp_path / "site" / "kacl_gpu" / "__init__.py")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    members = set(wheel.namelist())
    in_tree = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kacl_gpu").rglob("*.py")}
    in_tree |= {f"kacl_gpu/kernels/{path.name}" for path in (ROOT / "kernels").glob("*.py")}
    assert "kacl_gpu/radiomics/settings.py" in in_tree
    in_tree |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "kacl_gpu" / "configs").rglob("*.yaml")}
    in_tree |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "kacl_gpu").rglob("*.csv")}
    assert "kacl_gpu/kacl/evaluation/paper/table1_auc.csv" in in_tree
    assert in_tree <= members
    assert "kacl_gpu/py.typed" in members and "kacl_gpu/configs/variants/base.yaml" in members
    assert any(name.startswith("kacl_gpu/kernels/") for name in members)
    assert {name.partition("/")[0] for name in members} == {"kacl_gpu", "kacl_gpu-0.1.0.dist-info"}
    assert not any(name.endswith((".nbi", ".nbc", ".pyc")) for name in members)


def test_the_wheel_names_the_command_and_the_extras(wheel: zipfile.ZipFile) -> None:
    commands = wheel.read("kacl_gpu-0.1.0.dist-info/entry_points.txt").decode()
    assert "kacl-gpu = kacl_gpu.cli.main:main" in commands
    metadata = wheel.read("kacl_gpu-0.1.0.dist-info/METADATA").decode().splitlines()
    assert "Requires-Python: >=3.10" in metadata
    for extra in ("io", "reference", "train", "bench", "dev"):
        assert f"Provides-Extra: {extra}" in metadata
    core = [line.removeprefix("Requires-Dist: ") for line in metadata if line.startswith("Requires-Dist:")]
    core = [requirement for requirement in core if "extra ==" not in requirement]
    assert sorted(core) == ["numba>=0.61", "numpy>=1.26", "torch>=2.11", 'triton>=3.6; platform_system == "Linux"']


def test_the_version_stands_in_one_release(wheel: zipfile.ZipFile) -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert "\nversion: 0.1.0\n" in citation
    assert "## [0.1.0]" in (ROOT / "CHANGELOG.md").read_text()
    assert wheel.filename is not None
    assert "kacl_gpu-0.1.0" in wheel.filename
