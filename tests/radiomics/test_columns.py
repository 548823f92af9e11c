"""Columns of tables are addressed by name, and operators have the same file names on every device."""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from kacl_gpu.radiomics import columns, ops
from kacl_gpu.radiomics.features import CLASSES

ROOT = Path(__file__).parents[2]
FILES = [
    *(ROOT / "kacl_gpu" / "radiomics").glob("*.py"),
    *(ROOT / "kacl_gpu" / "radiomics" / "cpu").glob("*.py"),
    *(ROOT / "kacl_gpu" / "radiomics" / "features").glob("*.py"),
    *(ROOT / "kernels").glob("*.py"),
]
# Names of tables and of their rows; in kernels also of those that one file keeps for itself
TABLES = {
    *("box", "boxes", "size", "spacing", "region_spacing", "offsets", "moments", "zones", "clipped"),
    *("corner", "extent", "extents", "least_extent", "out", "row", "row_in"),
}
SCRATCH_TABLES = {"measures", "parameters", "edges"}
ROWS = {"out", "row", "row_in"}  # of matrices too, where a number beside a variable is a step to a neighbour
POINTERS = {"load", "store", "atomic_add", "atomic_max", "atomic_min"}


def literals_in(node: ast.AST) -> Iterator[int]:
    """Yield the integers written in an expression, those with a sign too; without those of nested calls."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield node.value
    elif isinstance(node, ast.BinOp):
        yield from literals_in(node.left)
        yield from literals_in(node.right)
    elif isinstance(node, ast.UnaryOp):
        yield from literals_in(node.operand)
    elif isinstance(node, ast.Slice):
        for part in (node.lower, node.upper):
            if part is not None:
                yield from literals_in(part)


def names_in(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def literal_columns(source: str) -> list[int]:
    """Return the lines on which a table is addressed by a number: as an array, or by a pointer in a kernel."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in TABLES:
            index = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else node.slice
            if list(literals_in(index)):
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in POINTERS:
            names = names_in(node.args[0]) if node.args else set()
            variables = {name for name in names - ROWS if name.islower()}
            if (
                names & (TABLES | SCRATCH_TABLES)
                and list(literals_in(node.args[0]))
                and not (names & ROWS and variables)
            ):
                lines.append(node.lineno)
        elif isinstance(node, ast.Assign | ast.AugAssign) and isinstance(node.value, ast.BinOp):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            base = node.value.left if isinstance(node, ast.Assign) else node.target
            while isinstance(base, ast.BinOp):
                base = base.left
            known = TABLES | SCRATCH_TABLES
            is_row = any(isinstance(target, ast.Name) and target.id in known for target in targets)
            if is_row and isinstance(base, ast.Name) and base.id in known and list(literals_in(node.value)):
                lines.append(node.lineno)
    return sorted(lines)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_table_is_addressed_by_a_literal_number(file: Path) -> None:
    lines = [] if file.name == "columns.py" else literal_columns(file.read_text())
    assert lines == [], f"{file}: name the columns in kacl_gpu/radiomics/columns.py, or at the top of this file"


@pytest.mark.parametrize(
    "source",
    [
        "out[..., 7] = 1",
        "x = zones[:, 1]",
        "size[k, 1:]",
        "spacing[:, -1]",
        "tl.store(row + 3, total)",
        "n = tl.load(size + 3 * k + HEIGHT)",
        "tl.atomic_max(extent + 1, x)",
        "row = out + matrix * 29",
        "zones += k * most * 3",
    ],
)
def test_literal_columns_are_noticed(source: str) -> None:
    assert literal_columns(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "out[..., GLCM.total] = counts[0]",
        "tl.store(row + TOTAL, total)",
        "n = tl.load(size + SIZE_COLUMNS * k + HEIGHT)",
        "pivot = tl.load(row + k + 1)",
        "right = tl.load(levels + index + 1)",
    ],
)
def test_names_and_neighbours_are_left_alone(source: str) -> None:
    assert literal_columns(source) == []


def test_tables_have_no_other_columns() -> None:
    """Each constant numbers the columns of its table from 0, and what formulas see beside them is the spacing."""
    tables = [t for t in vars(columns).values() if isinstance(t, tuple) and hasattr(t, "_fields")]
    assert len(tables) == 13
    for table in tables:
        names = columns.names_of(table)
        assert table[: len(names)] == tuple(range(len(names)))
        assert table._fields[len(names) :] in ((), ("spacing_z", "spacing_y", "spacing_x"))
        assert set(table[len(names) :]) <= {None}
    assert {kind for _, kind in CLASSES.values()} <= {type(table) for table in tables}


@pytest.mark.parametrize("name", ops.KERNELS)
def test_an_operator_has_one_file_name(name: str) -> None:
    """In cpu/, kernels/ and tests/kernels/; and everywhere the same parameters."""
    pytest.importorskip("triton")
    file = ops.KERNELS[name]
    parameters = inspect.signature(getattr(ops, name)).parameters
    for package in ("kacl_gpu.radiomics.cpu", "kacl_gpu.kernels"):
        body = getattr(import_module(f"{package}.{file}"), name)
        assert body.__module__ == f"{package}.{file}"
        assert [(p.name, p.kind) for p in inspect.signature(body).parameters.values()] == [
            (p.name, p.kind) for p in parameters.values()
        ]
    assert (ROOT / "tests" / "kernels" / f"test_{file}.py").exists()
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 8


def test_files_of_operators_hold_operators() -> None:
    """Others begin with an underscore in cpu/, and are common.py and intensity.py in kernels/."""
    files = set(ops.KERNELS.values())
    cpu = {file.stem for file in (ROOT / "kacl_gpu" / "radiomics" / "cpu").glob("*.py")}
    assert {name for name in cpu if not name.startswith("_")} == files
    assert {file.stem for file in (ROOT / "kernels").glob("*.py")} == {*files, "common", "intensity"}
