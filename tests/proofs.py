"""Write docs/proofs.md: which oracle each feature was compared with, and where it was computed.

``python -m tests.proofs`` writes it; a test compares what it would write with what is there. All but the prose is read
from the stored values of PyRadiomics, from the tests and from the kernels.
"""

import ast
from collections import Counter
from pathlib import Path

import numpy as np

from kacl_gpu import feature_names
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.features import CLASSES
from reference.frozen import load
from tests.radiomics.test_ibsi import compared_features

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "proofs.md"

# The operators between the images and a class's sums, beside those of every feature (EVERYWHERE)
OPERATORS = {
    "firstorder": ("level_histogram", "first_order"),
    "shape": ("shape",),
    "shape2D": ("shape2d",),
    "glcm": ("level_histogram", "neighbourhood", "glcm_sums"),
    "glrlm": ("glrlm", "size_sums"),
    "glszm": ("glszm", "zone_sums"),
    "ngtdm": ("level_histogram", "neighbourhood", "ngtdm_sums"),
    "gldm": ("neighbourhood", "size_sums"),
}
EVERYWHERE = ("locate", "image_moments", "discretise", "features")
WITHOUT_FEATURES = ("label_boxes", "largest_components")

HEAD = """# What proves the numbers

Written by `python -m tests.proofs` from the tests, the stored values and the kernels; not to be edited.

## Oracles

| oracle | what is compared with it | where |
|---|---|---|
| PyRadiomics 3.0.1, live, images | all 102 features within 1e-6, and every matrix exactly, on 2000 generated regions, 150 drawn by hypothesis, four of 150 x 180 pixels and 15 batches; Python 3.10 and 3.11 only, where PyRadiomics installs | `tests/radiomics/test_exactness.py` |
| PyRadiomics 3.0.1, live, volumes | all 107 features within 1e-6, and every matrix exactly, on 150 generated regions of 1 to 24 voxels a side (1005 more with `make test-all`), 60 drawn by hypothesis, three of 30,000 voxels, eight batches, each cube of 2 x 2 x 2, and, with KACL_GPU_DATA, three labels of the volumes brain1 and lung1 under seven settings | `tests/radiomics/test_volumes.py` |
| PyRadiomics 3.0.1, frozen | the stored values of 150 regions of up to 130 pixels and of 100 in volumes of up to 250 voxels, with digests of their matrices; everywhere | `tests/radiomics/test_frozen.py`, `tests/radiomics/test_volumes.py` |
| definition | all features in long double, and all matrices, written from PyRadiomics' documentation and sharing nothing with the implementation, with a mesh built of polygons by rules; itself compared with PyRadiomics on 300 regions and 60 volumes; the oracle where PyRadiomics returns a rounding error ([differences.md](differences.md)) | `reference/definition.py`, `tests/radiomics/test_differences.py` |
| IBSI | 395 of the 487 reference values of the digital phantom, in 3D, 2.5D and 2D, averaged and merged, within the tolerance of the IBSI or three digits; the other 92, with the reasons, are listed in the test; with KACL_GPU_DATA | `tests/radiomics/test_ibsi.py` |
| by hand | the five matrices of images of 4 x 4 pixels and of a volume of 2 x 3 x 3 voxels, and features that follow from them as fractions | `tests/radiomics/test_by_hand.py` |
| NumPy | percentiles to the bit; Imc1 of a nearly flat image of 11 million pixels in closed form | `tests/radiomics/test_corners.py` |
| scikit-image | the labels of zones, in the plane and in volumes | `tests/kernels/test_glszm.py`, `tests/radiomics/test_api.py` |

## Features

Frozen: stored regions, of images and of volumes, in which PyRadiomics' value is a number and is compared. Definition: those
in which the long double value takes its place. Interpreter: how many of both Triton's interpreter computes too, with the
kernels. IBSI: compared with the digital phantom. Also: tests that look at this feature alone (`test_by_hand.py`,
`test_corners.py`, `test_differences.py`). Every feature is compared with live PyRadiomics too, and its translation for the
GPU with torch's evaluation of the formula (`tests/kernels/test_features.py`).

"""

ENGINES = """
## Engines

The operators by the engines that run them in the tests. The CPU's results are compared with the oracles above, the kernels'
with the CPU's: integers exactly, floating-point sums to 1e-11 or better. `tests/kernels/test_compile.py` compiles every kernel
of each file in every configuration that its launcher chooses. `make ptx` runs whole calls in an emulator of PTX.

"""

TAIL = """
## What nothing proves

- **No kernel has run on a GPU.** `tests/kernels/test_gpu.py` is written for that and is skipped without one. The interpreter runs
  one program after the other and sees no race; the emulator of PTX (`make ptx`) sees races, but executes what the compiler emits
  as PTX, not what the driver makes of it. Speed and peak memory on a GPU are predictions.
- Regions with more pixels than 150 x 180, or more voxels than 35,000, are not compared with PyRadiomics by the suite. Larger
  ones have closed forms for Imc1 and zones, and are compared between engines on a GPU.
- IBSI's reference values of its CT phantom (configurations A to E) are not compared: they need its resampling and its levels.
  PyRadiomics' formula wins where the two differ (Kurtosis, the axis lengths).
- Intensities farther than 1e7 from zero, where PyRadiomics' own Skewness is noise, are covered by single cases only.
- Windows, macOS and processors other than x86-64: the suite has not run there.
- float32 results are the float64 ones rounded; only the latter are compared.
"""


def literal(path: str, name: str) -> tuple[int, ...]:
    """Return a constant of a test module, without importing it."""
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return tuple(ast.literal_eval(node.value))
    raise LookupError(f"{path} has no {name}")


def looked_up(path: str) -> set[str]:
    """Return the features that a test module looks up: ``glcm["Contrast"]``, ``row["glcm_Contrast"]``."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            key = str(node.slice.value)
            found.add(key if "_" in key else f"{getattr(node.value, 'id', '')}_{key}")
    return found


def kernels_in(file: str) -> list[str]:
    """Return the kernels of a file of kernels/, by name."""
    tree = ast.parse((ROOT / "kernels" / f"{file}.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if any(getattr(d, "id", "") == "kernel" for d in f.decorator_list)]


def interpreted(file: str) -> bool:
    """Return whether a test module of the same name runs the file's kernels in the interpreter."""
    test = ROOT / "tests" / "kernels" / f"test_{file}.py"
    return test.exists() and "pytestmark = pytest.mark.interpreted" in test.read_text(encoding="utf-8")


def feature_rows() -> list[str]:
    """Return the rows of the table of features, images and volumes side by side."""
    counts: dict[str, dict[int, Counter[str]]] = {}
    for dimensions, constant in ((2, "CHOSEN"), (3, "CHOSEN_VOLUMES")):
        chosen = literal("tests/kernels/test_frozen.py", constant)
        names = [name.removeprefix("original_") for name in feature_names(dimensions=dimensions)]
        for name in names:
            counts.setdefault(name, {})[dimensions] = Counter()
        for index, (_, expected, _) in enumerate(load(dimensions)):
            for name, value in zip(names, expected.values, strict=True):
                if np.isfinite(value):
                    of_feature = counts[name][dimensions]
                    of_feature["definition" if f"original_{name}" in expected.undefined else "frozen"] += 1
                    of_feature["interpreter"] += index in chosen
    by_hand, corners = looked_up("tests/radiomics/test_by_hand.py"), looked_up("tests/radiomics/test_corners.py")
    differences, phantom = looked_up("tests/radiomics/test_differences.py"), compared_features()
    ibsi = {f"{name}_{spec.name}": spec.ibsi for name, (specs, _) in CLASSES.items() for spec in specs}
    kinds = ("frozen", "definition", "interpreter")
    heads = [f"{of}: {kind}" for of in ("images", "volumes") for kind in kinds]
    rows = [f"| feature | IBSI | {' | '.join(heads)} | phantom | also |", "|---" * 10 + "|"]
    of_class = {class_name: place for place, class_name in enumerate(OPERATORS)}
    for name in sorted(counts, key=lambda name: of_class[name.split("_")[0]]):
        sources = {"by hand": by_hand, "a corner": corners, "differences": differences}
        also = ", ".join(words for words, features in sources.items() if name in features)
        numbers = [counts[name][d][kind] if d in counts[name] else "-" for d in (2, 3) for kind in kinds]
        cells = (ibsi[name], *numbers, "yes" if name in phantom else "", also)
        rows.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return rows


def operator_rows() -> list[str]:
    """Return the rows of the table of operators: on which engine each runs in the tests."""
    rows = [
        "| operator | for | CPU (Numba) | Triton's interpreter | compiled for sm_70, 80, 90 | GPU |",
        "|---|---|---|---|---|---|",
    ]
    for operator, file in sorted(ops.KERNELS.items()):
        users = [name for name, used in OPERATORS.items() if operator in used]
        use = "every feature" if operator in EVERYWHERE else ", ".join(users)
        if operator in WITHOUT_FEATURES:
            use = "no feature: regions of label maps, boxes of heatmaps"
        number = len(kernels_in(file)) or 1  # the kernel of the formulas is translated from them
        kernels = f"{number} kernel{'s' * (number > 1)}"
        tested = f"`tests/kernels/test_{file}.py`" if interpreted(file) else "no"
        rows.append(f"| `{operator}` | {use} | yes | {tested} | {kernels} | not yet |")
    return rows


def document() -> str:
    """Return the text of docs/proofs.md."""
    return HEAD + "\n".join(feature_rows()) + "\n" + ENGINES + "\n".join(operator_rows()) + "\n" + TAIL


if __name__ == "__main__":
    OUT.write_text(document(), encoding="utf-8")
