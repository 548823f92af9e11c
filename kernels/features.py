"""One kernel for the formulas of ``kacl_gpu/radiomics/features/``, made from the formulas themselves.

Each formula is called once with symbols in place of tensors (``torch.fx``), and the operations on them become the
source of a Triton kernel. So a formula stands in one place, and all of them take one launch.
"""

import linecache
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl  # noqa: F401 - the kernels are compiled with this module's names
from torch import Tensor, fx

from kacl_gpu.radiomics.columns import COUNT, SPACING, names_of
from kacl_gpu.radiomics.features import CLASSES, group_by_class

from .common import ANYWHERE, cdiv, launch

BLOCK = 32  # regions

OPERATORS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "eq": "==", "gt": ">", "lt": "<"}


def _number(value: Any) -> str:
    """Return an argument of an operation, in Triton's words."""
    if isinstance(value, fx.Node):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def _expression(node: fx.Node) -> str:
    """Return one operation of a formula, in Triton's words."""
    name: str = node.target if isinstance(node.target, str) else node.target.__name__
    arguments = [_number(a) for a in node.args]
    if name in OPERATORS:
        left, right = arguments
        return f"{left} {OPERATORS[name]} {right}"
    if name in ("where", "sqrt", "exp"):
        return f"tl.{name}({', '.join(arguments)})"
    if name == "maximum":  # this one and clamp propagate NaN, as torch's do
        left, right = arguments
        return f"tl.where(({left} > {right}) | ({left} != {left}), {left}, {right})"
    if name == "clamp" and set(node.kwargs) == {"min"}:
        (value,), least = arguments, _number(node.kwargs["min"])
        return f"tl.where({value} < {least}, {least}, {value})"
    # at the first compilation, so that a new formula is never translated wrongly in silence
    raise NotImplementedError(f"a formula uses {name}, which this file does not translate")


def _lines(formula: Any, kind: Any, suffix: str) -> tuple[list[str], str]:
    """Return the assignments that compute a formula from variables named like the sums, and the name of its result."""
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    result = formula(kind(*(fx.Proxy(graph.placeholder(field), tracer) for field in kind._fields))).node
    lines = []
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        node.name = f"{node.name}_{suffix}"
        lines.append(f"{node.name} = {_expression(node)}")
    return lines, result.name


def _branch(number: int, class_name: str, wanted: list[str]) -> tuple[list[str], int]:
    """Return the lines of one class, whose sums are ``sums<number>``, and the number of columns that they fill."""
    features, kind = CLASSES[class_name]
    by_name = {feature.name: feature for feature in features}
    columns = names_of(kind)
    pixel = kind._fields[len(columns) :]
    inside, after = [], []
    for n, name in enumerate(wanted):
        lines, result = _lines(by_name[name].formula, kind, f"f{n}")
        inside += [*lines, f"mean{n} += tl.where(present, {result}, 0.0)"]
        if otherwise := by_name[name].otherwise:
            lines, result = _lines(otherwise, kind, f"o{n}")
            after += [*lines, f"mean{n} = tl.where(number == 0, {result}, mean{n} / number)"]
        else:
            after.append(f"mean{n} = mean{n} / number")
        after.append(f"tl.store(row_out + {n}, tl.where(good, mean{n}, nan).to(out.dtype.element_ty), mask=valid)")
    # After the loop the columns are those of the last direction; a formula without directions reads only columns that
    # are equal in all of them.
    lines = [
        *(f"{s} = tl.load(spacing + {len(SPACING)} * k + {n}, mask=valid, other=1.0)" for n, s in enumerate(pixel)),
        "number = tl.zeros((BLOCK,), tl.float64)",
        *(f"mean{n} = tl.zeros((BLOCK,), tl.float64)" for n in range(len(wanted))),
        *(f"{c} = tl.zeros((BLOCK,), tl.float64)" for c in columns),
        f"for a in range(directions{number}):",
        f"    row = sums{number} + (k * directions{number} + a) * {len(columns)}",
        *(f"    {c} = tl.load(row + {n}, mask=valid, other=0.0)" for n, c in enumerate(columns)),
        f"    present = {columns[COUNT]} > 0",
        "    number += present.to(tl.float64)",
        *(f"    {line}" for line in inside),
        *after,
    ]
    return lines, len(wanted)


def source_of(names: tuple[str, ...]) -> str:
    """Return the source of the kernel ``evaluate`` of features; a program takes some regions and one of the classes."""
    branches = [_branch(n, *selected) for n, selected in enumerate(group_by_class(names))]
    total = sum(count for _, count in branches)
    arguments = ", ".join(f"sums{n}, directions{n}" for n in range(len(branches)))
    body = [
        "k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)",
        "valid = k < regions",
        "good = tl.load(status + k, mask=valid, other=0) == 0",
        'nan = float("nan")',
        f"out += k * {total}",
    ]
    before = 0
    for n, (lines, count) in enumerate(branches):
        body += [f"if tl.program_id(1) == {n}:", *(f"    {line}" for line in (f"row_out = out + {before}", *lines))]
        before += count
    head = f"def evaluate({arguments}, spacing, status, out, regions, BLOCK: tl.constexpr):"
    return "\n".join([head, *(f"    {line}" for line in body)]) + "\n"


@cache
def kernel_of(names: tuple[str, ...]) -> Any:
    """Return the kernel of these features, made once."""
    source = source_of(names)
    file = f"<features {hash(names)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # triton.jit reads it there
    scope = dict(globals())
    exec(compile(source, file, "exec"), scope)
    numbers = "regions", *(f"directions{n}" for n in range(len(group_by_class(names))))
    return triton.jit(scope["evaluate"], do_not_specialize=numbers, do_not_specialize_on_alignment=ANYWHERE)


def features(
    sums: Sequence[Tensor], spacing: Tensor, status: Tensor, *, names: Sequence[str], dtype: torch.dtype
) -> Tensor:
    """Evaluate the formulas; see :func:`kacl_gpu.radiomics.ops.features`."""
    regions = len(spacing)
    out = torch.empty((regions, len(names)), dtype=dtype, device=spacing.device)
    grid = cdiv(regions, BLOCK), len(sums)
    sums_and_directions = [n for s in sums for n in (s, s.shape[1] if s.ndim == 3 else 1)]
    launch(
        kernel_of(tuple(names)),
        grid,
        # inputs
        *(*sums_and_directions, spacing, status),
        # outputs
        out,
        # shapes
        regions,
        BLOCK=BLOCK,
        num_warps=1,
    )
    return out
