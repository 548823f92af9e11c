"""Compiles kernels ahead of time for GPUs that are not there, and reads what they need.

``python -m tests.compiling`` writes the table of docs/kernels.md anew.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas

from kacl_gpu.kernels import common

DOCS = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- written by python -m tests.compiling -->", "<!-- end -->"
TARGETS = (70, 80, 90)
MOST_SPILLED = 40  # bytes a thread, stored and loaded: a few registers around a loop
MOST_SHARED = 48 * 1024  # bytes a program

TYPES = {
    torch.bool: "i1",
    torch.uint8: "u8",
    torch.uint16: "u16",
    torch.uint32: "u32",
    torch.uint64: "u64",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}


class Needs(NamedTuple):
    """What one kernel in one configuration takes on one target."""

    kernel: str
    configuration: str
    target: int
    registers: int  # a thread
    shared: int  # bytes a program
    spilled: int  # bytes a thread, stored to local memory and loaded


def meta(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """A tensor of which only shape and type exist."""
    return torch.empty(shape, dtype=dtype, device="meta")


def launches_of(calls: Sequence[Callable[[], Any]]) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Kernel, arguments and constexprs of each launch, nothing of which runs: give the calls tensors on "meta"."""
    found: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    common.recorder = lambda kernel, grid, arguments, options: found.append((kernel, arguments, options))
    try:
        for call in calls:
            call()
    finally:
        common.recorder = None
    assert found
    return found


def _signature(kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
    """Types and constants as Triton's launcher specialises them: None and constexprs are constants."""
    types, constants, divisible = {}, {}, []
    for n, (parameter, value) in enumerate(zip(kernel.params, arguments)):
        name = parameter.name
        if type(value) is int:
            assert parameter.do_not_specialize, f"{name} of {kernel.__name__} is not among the NUMBERS"
        if parameter.is_constexpr or value is None:
            types[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            types[name] = f"*{TYPES[value.dtype]}"
            divisible.append(n)
        elif isinstance(value, bool):
            types[name] = "i1"
        elif isinstance(value, int):
            types[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        else:
            types[name] = "fp32"
    for name, value in options.items():
        if name != "num_warps":
            types[name], constants[name] = "constexpr", value
    order = [p.name for p in kernel.params]
    return (
        tuple((name, types[name]) for name in order if name in types),
        tuple((name, constants[name]) for name in order if name in constants),
        tuple(divisible),
        options["num_warps"],
    )


@cache
def _compiled(kernel: Any, signature: tuple[Any, ...], target: int) -> Needs:
    types, constants, divisible, num_warps = signature
    code = triton.compiler.ASTSource(
        kernel,
        dict(types),
        constexprs=dict(constants),
        attrs={(n,): [["tt.divisibility", 16]] for n in divisible},
    )
    compiled = triton.compile(
        code,
        target=GPUTarget("cuda", target, 32),
        options={"num_warps": num_warps, "enable_fp_fusion": False},
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(compiled.asm["ptx"])
        name = f"sm_{target}a" if target >= 90 else f"sm_{target}"  # as Triton calls it
        command = [
            get_ptxas(target).path,
            "-v",
            "--fmad=false",
            f"--gpu-name={name}",
            source,
            "-o",
            source.with_suffix(".cubin"),
        ]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.findall(r"Used (\d+) registers", usage)
    spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", usage)
    assert len(registers) == len(spilled) == 1, usage
    configuration = ", ".join(
        [f"{name}={value}" for name, value in constants if name.isupper()]
        + [kind[1:] for name, kind in types if name in ("images", "levels", "mask")]
    )
    return Needs(
        kernel.__name__,
        f"{configuration}; {num_warps} warps" if configuration else f"{num_warps} warps",
        target,
        int(registers[0]),
        int(compiled.metadata.shared),
        sum(map(int, spilled[0])),
    )


def needs_of(calls: Sequence[Callable[[], Any]], target: int) -> list[Needs]:
    """Every different kernel and configuration that these calls launch, compiled for the target."""
    different = dict.fromkeys((kernel, _signature(kernel, *rest)) for kernel, *rest in launches_of(calls))
    return [_compiled(kernel, signature, target) for kernel, signature in different]


def check(calls: Sequence[Callable[[], Any]], target: int) -> None:
    """Fails where a kernel spills registers or wants more shared memory than sm_70 has."""
    for needs in needs_of(calls, target):
        assert needs.spilled <= MOST_SPILLED, needs
        assert needs.shared <= MOST_SHARED, needs
        assert needs.registers > 0, needs


def table() -> list[str]:
    """What each kernel needs on each target, the most of its configurations, in the lines of a table."""
    modules = [import_module(f"tests.{path.stem}") for path in sorted(Path(__file__).parent.glob("test_compile_*.py"))]
    calls = [call for module in modules for call in getattr(module, "CALLS", ())]
    lines = [
        f"Triton {triton.__version__} and its ptxas; the most of any configuration.",
        "",
        "| kernel | target | configurations | registers a thread | shared, bytes a program | spilled, bytes a thread |",
        "|---|---|---|---|---|---|",
    ]
    rows = {(needs.kernel, target): [] for target in TARGETS for needs in needs_of(calls, target)}
    for target in TARGETS:
        for needs in needs_of(calls, target):
            rows[needs.kernel, target].append(needs)
    for (name, target), found in sorted(rows.items()):
        most = (max(getattr(needs, what) for needs in found) for what in ("registers", "shared", "spilled"))
        lines.append(f"| `{name}` | sm_{target} | {len(found)} | {' | '.join(map(str, most))} |")
    return lines


def table_in_docs() -> tuple[str, list[str], str]:
    """What stands before the table of docs/kernels.md, its lines, and what stands after it."""
    before, rest = DOCS.read_text().split(f"{BEGIN}\n")
    lines, after = rest.split(f"{END}\n")
    return f"{before}{BEGIN}\n", lines.splitlines(), f"{END}\n{after}"


if __name__ == "__main__":
    first, _, last = table_in_docs()
    DOCS.write_text(first + "\n".join(table()) + "\n" + last)
