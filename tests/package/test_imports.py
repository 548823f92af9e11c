"""The directions of dependency in the package, read from its imports; and what importing it loads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"kacl_gpu": ROOT / "kacl_gpu", "kacl_gpu.kernels": ROOT / "kernels"}  # the link is not followed

# Part of the package -> what it may import of the package beside itself. radiomics/ops.py loads the kernels by name, at
# the first call on CUDA: an import statement would be wrong there too.
MAY_IMPORT = {
    "errors": (),
    "devices": ("errors",),
    "radiomics": ("errors", "devices"),
    "kernels": ("radiomics.status", "radiomics.columns", "radiomics.constants", "radiomics.features", "radiomics.mesh"),
    "io": ("errors", "devices"),
    "extract": ("", "radiomics", "io", "errors", "devices"),
    "kacl": ("", "radiomics", "extract", "io", "errors", "devices"),
    "cli": ("", "radiomics", "kacl", "extract", "io", "errors", "devices"),
    "": ("radiomics", "extract"),  # kacl_gpu/__init__.py
    "__main__": ("cli",),
}
COMPUTES_WITH = {"numba", "numpy", "torch", "triton"}
READS_PARAMETERS = {"kacl_gpu.radiomics.pyradiomics": {"yaml"}}


def modules() -> dict[str, Path]:
    """Return the file of each module of the package, by its name."""
    modules = {}
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if package == "kacl_gpu" and parts[0] == "kernels":
                continue
            name = ".".join((package, *parts)).removesuffix(".__init__")
            modules[name] = file
    return modules


MODULES = modules()


def imports(name: str, text: str, modules: dict[str, Path]) -> Iterator[str]:
    """Yield the full name of each module that a module imports anywhere in its text."""
    is_package = name in modules and modules[name].name == "__init__.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                path = f"{base}.{alias.name}"
                yield path if path in modules else base


def part(name: str) -> str:
    """Return the part of the package that a module belongs to: "" is the package itself."""
    return name.split(".")[1] if "." in name else ""


def wrong_arrows(modules: dict[str, Path], texts: dict[str, str]) -> list[str]:
    errors = []
    for name, text in texts.items():
        own = part(name)
        targets = MAY_IMPORT[own]
        for target in imports(name, text, modules):
            if target.split(".")[0] in ("reference", "tests", "benchmarks"):
                errors.append(f"{name} -> {target}")
            if target.split(".")[0] != "kacl_gpu" or part(target) == own:
                continue
            path = target.removeprefix("kacl_gpu").removeprefix(".")
            if not any(path == one or (one and path.startswith(one + ".")) for one in targets):
                errors.append(f"{name} -> {target}")
    return errors


def foreign_imports(modules: dict[str, Path], texts: dict[str, str]) -> list[str]:
    """Return imports of libraries, beside the few with which features are computed, where features are computed."""
    errors = []
    for name, text in texts.items():
        if part(name) not in ("radiomics", "kernels"):
            continue
        targets = COMPUTES_WITH | READS_PARAMETERS.get(name, set())
        for target in imports(name, text, modules):
            root = target.split(".")[0]
            if root not in targets and root not in sys.stdlib_module_names and root not in ("kacl_gpu", ""):
                errors.append(f"{name} -> {target}")
    return errors


TEXTS = {name: file.read_text(encoding="utf-8") for name, file in MODULES.items()}


def test_every_part_has_a_rule() -> None:
    assert {part(name) for name in MODULES} == set(MAY_IMPORT)


def test_dependencies_run_one_way() -> None:
    assert wrong_arrows(MODULES, TEXTS) == []


def test_features_are_computed_without_pyradiomics_simpleitk_and_scipy() -> None:
    assert foreign_imports(MODULES, TEXTS) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("kacl_gpu.errors", "import kacl_gpu.devices"),
        ("kacl_gpu.radiomics.memory", "from kacl_gpu.io import tables"),
        ("kacl_gpu.radiomics.memory", "from ..extract.folder import extract"),
        ("kacl_gpu.radiomics.memory", "from .. import kernels"),
        ("kacl_gpu.kernels.glcm", "from kacl_gpu.radiomics import ops"),
        ("kacl_gpu.kernels.glcm", "from kacl_gpu.radiomics.settings import RadiomicsSettings"),
        ("kacl_gpu.io.tables", "from kacl_gpu.extract.folder import extract"),
        ("kacl_gpu.io.tables", "from kacl_gpu.radiomics import api"),
        ("kacl_gpu.extract.folder", "def f():\n    import kacl_gpu.kacl.model"),
        ("kacl_gpu.kacl.model", "from kacl_gpu.cli.main import main"),
        ("kacl_gpu.radiomics.api", "from reference.definition import define"),
        ("kacl_gpu.cli.main", "import tests.conftest"),
    ],
)
def test_a_wrong_arrow_is_seen(name: str, line: str) -> None:
    assert len(wrong_arrows(MODULES, {name: line})) == 1


@pytest.mark.parametrize("line", ["import SimpleITK", "from scipy.ndimage import label", "from radiomics import glcm"])
@pytest.mark.parametrize("name", ["kacl_gpu.radiomics.api", "kacl_gpu.kernels.glcm", "kacl_gpu.radiomics.pyradiomics"])
def test_a_foreign_library_is_seen(name: str, line: str) -> None:
    assert len(foreign_imports(MODULES, {name: line})) == 1


def test_importing_the_package_loads_neither_compilers_nor_extras() -> None:
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"  # what torch itself loads is not ours
        "import kacl_gpu\n"
        "kacl_gpu.gpu_radiomics, kacl_gpu.feature_names(kacl_gpu.RadiomicsSettings())\n"
        "names = ('numba', 'triton', 'matplotlib', 'pandas', 'PIL', 'pyarrow', 'pydicom', 'yaml', 'tqdm', 'lightning',"
        " 'jsonargparse', 'torchvision', 'torchmetrics', 'scipy', 'sklearn', 'SimpleITK', 'radiomics')\n"
        "print([name for name in names if name in sys.modules and name not in before])\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
