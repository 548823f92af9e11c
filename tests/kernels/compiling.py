"""Compile kernels ahead of time for GPUs that are absent, and read the registers and memory that they need.

Calls with every setting that chooses a kernel or a constant of one, and with every type of image, mask and box, on
tensors without values, tell what to compile. ``python -m tests.kernels.compiling`` writes the table of
docs/kernels.md anew.
"""

import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as backend

from benchmarks.model import split_document
from kacl_gpu import RadiomicsSettings
from kacl_gpu.kernels import common
from kacl_gpu.kernels.components import largest_components
from kacl_gpu.kernels.first_order import PASSES
from kacl_gpu.kernels.glcm import glcm_sums
from kacl_gpu.kernels.glrlm import glrlm
from kacl_gpu.kernels.glszm import glszm
from kacl_gpu.kernels.levels import level_histogram
from kacl_gpu.kernels.neighbourhood import neighbourhood
from kacl_gpu.kernels.shape import shape
from kacl_gpu.kernels.sizes import size_sums
from tests.kernels.interpreting import ALONG_AXES, FAR, NEAR, SIDEWAYS, SPACE, serve_by_kernels, without_synchronisation

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- written by python -m tests.kernels.compiling -->", "<!-- end -->"
TARGETS = (70, 80, 90)
# Spilled registers, bytes a thread stored and loaded: recorded for a version of Triton, a few registers around a loop,
# which its assembler spills for the sake of more warps at once; under any other version only what would harm. Every
# thread can have 255 registers.
MOST_SPILLED = {"3.8": 68}
HARMFUL_SPILLS = 256
MOST_REGISTERS = 254
MOST_SHARED = 48 * 1024  # bytes a program
ALIGNMENT = 16  # bytes: Triton makes another binary for a tensor that begins elsewhere
MOST_PROGRAMS = 2**31, 2**16, 2**16  # of each dimension of a grid, less than this
SOURCE = "\n".join(file.read_text() for file in sorted((ROOT / "kernels").glob("*.py")))
KERNELS = sorted({"evaluate", *re.findall(r"^@kernel\ndef (\w+)", SOURCE, re.MULTILINE)})  # every name there is

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
    """Registers and memory of one kernel in one configuration on one target."""

    kernel: str
    configuration: str
    target: int
    registers: int  # a thread
    shared: int  # bytes a program
    spilled: int  # bytes a thread, stored to local memory and loaded


def meta(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return a tensor that has a shape and a type but no values."""
    return torch.empty(shape, dtype=dtype, device="meta")


def call(
    settings: RadiomicsSettings,
    images: torch.dtype = torch.uint8,
    masks: torch.dtype | None = None,
    boxes: tuple[int, torch.dtype] | None = (4, torch.float32),
    spacing: bool = False,
    dtype: torch.dtype = torch.float32,
    height: int = 64,
    depth: int | None = None,
) -> None:
    """Make one call for three images, of volumes if ``depth`` is given.

    None of its tensors begins at a multiple of 16 bytes.
    """
    shape = (4, height + 1, 66) if depth is None else (4, 1, depth, height + 1, 66)
    without_synchronisation(
        meta(*shape, dtype=images)[1:, ..., 1:, 1:],
        None if boxes is None else meta(4, boxes[0], dtype=boxes[1])[1:],
        None if masks is None else meta(*shape, dtype=masks)[1:, ..., 1:, 1:],
        settings,
        meta(4, 2 if depth is None else 3, dtype=torch.float64)[1:] if spacing else None,
        dtype,
    )


def call_list(settings: RadiomicsSettings) -> None:
    """Make one call for a list of images of two sizes."""
    without_synchronisation([meta(64, 65), meta(60, 65)], [meta(1, 4)] * 2, None, settings)


BINS: list[dict[str, Any]] = [  # levels of 8 bits and of 16, of both kinds of bins
    *({"bin_count": count} for count in (32, 300)),
    *({"bin_width": 25.0, "max_levels": most} for most in (64, 300)),
]
NORMALISED: list[dict[str, Any]] = [{}, {"normalize": True}, {"normalize": True, "remove_outliers": 3.0}]
RESEGMENTED: list[dict[str, Any]] = [
    {},
    *({"resegment_range": (0.5,), "resegment_mode": mode} for mode in ("absolute", "relative", "sigma")),
    {"resegment_range": (0.5,), "resegment_shape": True},
]
CLASSES = ("firstorder", "shape2D", "glcm", "glrlm", "glszm", "ngtdm", "gldm")
TEXTURES = CLASSES[2:]


def calls() -> Iterator[Callable[[], Any]]:
    """Yield calls that make every choice that the launchers can make; run them while a recorder is set."""
    types = list(PASSES)  # of images, and of masks
    for n, (bins, normalised, resegmented) in enumerate(itertools.product(BINS, NORMALISED, RESEGMENTED)):
        settings = RadiomicsSettings(feature_class=["firstorder", "shape2D"], **bins, **normalised, **resegmented)
        for at, images in enumerate(types):
            yield partial(call, settings, images)
            yield partial(call, settings, images, types[(at + n) % len(types)])
    for bins, distances, symmetric, norm in itertools.product(BINS, ((1,), (1, 2)), (True, False), (None, "euclidean")):
        matrices: dict[str, Any] = {**bins, "distances": distances, "symmetrical_glcm": symmetric}
        for name in (None, *CLASSES):
            selected = RadiomicsSettings(
                weighting_norm=norm, feature_class=None if name is None else [name], **matrices
            )
            yield partial(call, selected)
    for dtype in (torch.float32, torch.float64):
        yield partial(call, RadiomicsSettings(bin_count=32), dtype=dtype)
    shapes = RadiomicsSettings(bin_count=32, feature_class=["shape2D"])
    for spacing in (False, True):
        yield partial(call, shapes, torch.uint8, torch.uint8, None, spacing)
        for boxes in itertools.product((4, 5), (torch.float32, torch.float64, torch.int32, torch.int64)):
            yield partial(call, shapes, boxes=boxes, spacing=spacing)
    for normalised in NORMALISED:
        yield partial(call_list, RadiomicsSettings(bin_count=32, feature_class=["firstorder"], **normalised))
    for boxes in itertools.product((6, 7), (torch.float32, torch.float64, torch.int32, torch.int64)):
        yield partial(call, RadiomicsSettings(bin_count=32, feature_class=["firstorder"]), boxes=boxes, depth=5)
    for flat in (None, 0, 1, 2):
        plane: dict[str, Any] = {} if flat is None else {"force2d": True, "force2d_dimension": flat}
        for name in TEXTURES:
            selected = RadiomicsSettings(bin_count=32, feature_class=[name], **plane)
            yield partial(call, selected, boxes=(6, torch.float32), depth=5)
    for levels in (torch.uint8, torch.int16):
        where = meta(4096, dtype=levels), meta(3), meta(3, 3)
        for mask in (where[0], None):
            yield partial(shape, mask, *where[1:], meta(3, 3, dtype=torch.float64))
        for ng in (20, 40, 80, 200, *([300] if levels == torch.int16 else [])):  # as many as the host has read back
            yield partial(level_histogram, *where, ng)
        for offsets in (NEAR, FAR, SPACE):
            for chosen in itertools.product((True, False), repeat=3):
                tables = dict(zip(("pairs", "dependences", "differences"), chosen))
                yield partial(neighbourhood, *where, offsets, 32, gldm_a=0, **tables)
        for offsets in (NEAR, SPACE, SIDEWAYS, ALONG_AXES):
            yield partial(glrlm, *where, offsets, 32, 64)
            yield partial(glszm, *where, offsets, 32, 80)
            yield partial(glszm, meta(2**24, dtype=levels), *where[1:], offsets, 32, 80)
    yield partial(largest_components, meta(4, 65, 66, dtype=torch.float32)[1:], threshold=0.5, max_components=3)
    counts = meta(3, 4, 70, 70, dtype=torch.int32), meta(3, 70, dtype=torch.int32), meta(3)
    for symmetric in (True, False):
        none = meta(0, 0, dtype=torch.float64)
        yield partial(glcm_sums, *counts, none, symmetric=symmetric, mcc=False)
    for rows in (0, 3):
        yield partial(
            size_sums, meta(3, 4, 32, 64, dtype=torch.int32), meta(3), meta(rows, 4 if rows else 0, dtype=torch.float64)
        )


Signature = tuple[Any, ...]
Binary = tuple[Any, Signature]  # a kernel, and what makes Triton compile it


def launches_of(calls: Iterable[Callable[[], Any]]) -> list[Binary]:
    """Return the different binaries that calls on tensors of the device "meta" ask for; nothing runs."""
    found: dict[Binary, None] = {}

    def record(kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        assert all(n < most for n, most in zip(grid, MOST_PROGRAMS)), f"a grid of {grid} for {kernel.__name__}"
        found[kernel, _signature(kernel, arguments, options)] = None

    with pytest.MonkeyPatch.context() as patch:
        serve_by_kernels(patch)
        patch.setattr(common, "recorder", record)
        for one in calls:
            one()
    assert found
    return list(found)


def choices(binary: Binary) -> set[Hashable]:
    """Return the choices behind a binary: all its constants together; each type; each type beside each constant.

    Types of different arguments are not combined, since no code depends on, say, the types of a pixel and of its mask.
    """
    kernel, (types, constants, _, num_warps) = binary
    given = [("num_warps", num_warps), *constants]
    chosen = [(name, kind) for name, kind in types if kind != "constexpr"]
    together = ((kernel, *pair) for pair in itertools.product(given, chosen))
    return {(kernel, tuple(given)), *((kernel, kind) for kind in chosen), *together}


def covering(binaries: Iterable[Binary]) -> list[Binary]:
    """Return some of the binaries that together make every choice that any makes, each adding the most new ones."""
    bits: dict[Hashable, int] = {}
    left: dict[Binary, int] = {}
    for binary in binaries:
        left[binary] = sum(1 << bits.setdefault(choice, len(bits)) for choice in choices(binary))
    found, seen = [], 0
    while left:
        best = max(left, key=lambda binary: (left[binary] & ~seen).bit_count())
        found.append(best)
        seen |= left[best]
        left = {binary: those for binary, those in left.items() if those & ~seen}
    return found


@cache
def binaries() -> dict[str, list[Binary]]:
    """Return the binaries to compile, by name of the kernel."""
    by_name: dict[str, list[Binary]] = {}
    for kernel, signature in launches_of(calls()):
        by_name.setdefault(kernel.__name__, []).append((kernel, signature))
    return {name: covering(found) for name, found in by_name.items()}


def _signature(kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Signature:
    """Return types and constants as Triton's launcher specialises them: None and constexprs are constants."""
    types, constants, divisible = {}, {}, []
    for n, (parameter, value) in enumerate(zip(kernel.params, arguments)):
        name = parameter.name
        if type(value) is int:
            assert parameter.do_not_specialize, f"{name} of {kernel.__name__} is not among the NUMBERS"
        if parameter.is_constexpr or value is None:
            types[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            types[name] = f"*{TYPES[value.dtype]}"
            if not parameter.do_not_specialize_on_alignment:
                begins = value.storage_offset() * value.element_size()
                assert begins % ALIGNMENT == 0, f"{name} of {kernel.__name__} is not among those that lie ANYWHERE"
                divisible.append(n)
        elif parameter.annotation_type:
            types[name] = parameter.annotation_type
        else:
            assert type(value) is int and abs(value) < 2**31, f"{name} of {kernel.__name__} is not among the WIDE"
            types[name] = "i32"
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


def most_spilled(version: str) -> int:
    """Return how many bytes a thread may spill under a version of Triton."""
    return MOST_SPILLED.get(".".join(version.split(".")[:2]), HARMFUL_SPILLS)


def ptxas_of(target: int) -> str:
    """Return the path of the assembler that Triton takes for a target; 3.3 has the path and a version, later a tool."""
    tool = backend.get_ptxas(target)
    return str(tool[0] if isinstance(tool, tuple) else tool.path)


@cache
def _compiled(kernel: Any, signature: tuple[Any, ...], target: int) -> Needs:
    types, constants, divisible, num_warps = signature
    code = triton.compiler.ASTSource(
        kernel,
        dict(types),
        constexprs=dict(constants),
        attrs={(n,): [["tt.divisibility", ALIGNMENT]] for n in divisible},
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
            ptxas_of(target),
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


def needs_of(name: str, target: int) -> list[Needs]:
    """Return the needs of each binary of a kernel on a target."""
    return [_compiled(kernel, signature, target) for kernel, signature in binaries()[name]]


def table() -> list[str]:
    """Return the lines of a table: the largest needs of each kernel over its configurations, on each target."""
    lines = [
        f"Triton {triton.__version__} and its ptxas; the most of any configuration: the constants in every combination "
        "that a call can ask for, and beside each of them every type of images, masks, boxes and levels.",
        "",
        "| kernel | target | configurations | registers a thread | shared, bytes a program | spilled, bytes a thread |",
        "|---|---|---|---|---|---|",
    ]
    for name, target in itertools.product(sorted(binaries()), TARGETS):
        found = needs_of(name, target)
        most = (max(getattr(needs, what) for needs in found) for what in ("registers", "shared", "spilled"))
        lines.append(f"| `{name}` | sm_{target} | {len(found)} | {' | '.join(map(str, most))} |")
    return lines


def table_in_docs() -> tuple[str, list[str], str]:
    """Return the table of docs/kernels.md, with the text before and after it."""
    return split_document(DOCS, BEGIN, END)


if __name__ == "__main__":
    lines = table()  # takes minutes, in which the rest of the page may change
    first, _, last = table_in_docs()
    DOCS.write_text(first + "\n".join(lines) + "\n" + last)
