"""Shared by all kernels: how they are launched, and which part of which region a program works on.

There is a program for each ``TILE`` pixels of the packed level buffer, and each region's block begins at a multiple of
``TILE``: so a program belongs to one region, and the grid depends on the length of the buffer alone, never on a value
that lies on the device. Kernels that look at one pixel at a time take the program's own tile (``tile_of``). Kernels
that follow rows or lines divide a region's work among all of its programs (``share_of``).

Rules for all kernels: integer atomics only, floating-point sums in an order that depends on nothing but the region
itself, no fused multiply-add (a formula's product is rounded before it is added, as on the CPU), nothing above sm_70.

The parameters of a kernel stand in groups: inputs, scratch, outputs, shapes, settings, constants of the compiler.
Their names decide how Triton specialises them: see NUMBERS, WIDE and ANYWHERE.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.radiomics.columns import BOX, CORNERS, MOMENTS, OFFSET, SIZE, SPACING
from kacl_gpu.radiomics.constants import EPS
from kacl_gpu.radiomics.constants import TILE as TILE


def constants(*numbers: int) -> tuple[Any, ...]:
    """Return numbers as constants that kernels can read."""
    return tuple(map(tl.constexpr, numbers))


# Columns of tables that several kernels read, and how many these have
Z0, Y0, X0, Z1, Y1, X1, BOX_COLUMNS = constants(BOX.z0, BOX.y0, BOX.x0, BOX.z1, BOX.y1, BOX.x1, len(BOX))
DEPTH, HEIGHT, WIDTH, SIZE_COLUMNS = constants(SIZE.depth, SIZE.height, SIZE.width, len(SIZE))
Z_STEP, Y_STEP, X_STEP, OFFSET_COLUMNS = constants(OFFSET.z, OFFSET.y, OFFSET.x, len(OFFSET))
CORNER_X1, CORNER_Y1, CORNER_X2, CORNER_Y2 = constants(CORNERS.x1, CORNERS.y1, CORNERS.x2, CORNERS.y2)
CORNER_COLUMNS = tl.constexpr(len(CORNERS))
SPACING_Z, SPACING_Y, SPACING_X, SPACING_COLUMNS = constants(SPACING.z, SPACING.y, SPACING.x, len(SPACING))
MOMENT_MEAN, MOMENT_DEVIATION, MOMENT_COLUMNS = constants(MOMENTS.mean, MOMENTS.deviation, len(MOMENTS))
EPSILON = tl.constexpr(EPS)

# The offsets of images and of volumes at distance 1, which some kernels know by heart
NEAREST = (0, 1, 1, 0, 1, 0, 0, 1, -1, 0, 0, 1)
NEAREST_IN_SPACE = (
    *(1, 1, 1, 1, 1, 0, 1, 1, -1, 1, 0, 1, 1, 0, 0, 1, 0, -1, 1, -1, 1, 1, -1, 0, 1, -1, -1),
    *NEAREST,
)
BLOCK_OF_PROGRAM = tl.constexpr(TILE)

# Parameters that are numbers. One binary serves all values below 2^31; otherwise Triton would compile another one for a
# number that is 1 or a multiple of 16, for example in the middle of a training whose last batch is smaller.
NUMBERS = (
    *("regions", "programs", "tiles", "parts", "block", "blocks", "directions", "columns", "count", "labels_k"),
    *("ng", "max_levels", "max_run", "max_components", "max_zones", "sizes", "bin_count", "gldm_a", "bit", "flat"),
    *("depth", "height", "width", "has_upper", "least_dimensions"),
)
# Numbers that are always passed in 64 bits, because some values need them and would ask for another binary: the bits of
# a float64, strides, and settings without an upper bound.
WIDE = (
    *("bin_width", "scale", "limit", "shift", "lower", "upper", "voxel_z", "voxel_y", "voxel_x"),
    *("stride_b", "stride_z", "stride_y", "stride_x", "mask_b", "mask_z", "mask_y", "mask_x"),
    *("spacing_b", "spacing_d"),
    *("total", "least_pixels", "distance"),
)
# Tensors of the caller, and rows of regions, which may begin at any element: one binary serves them whether or not they
# begin at a multiple of 16 bytes. They are read element by element.
ANYWHERE = (
    *("images", "masks", "labels", "maps", "boxes", "spacing"),
    *("image_index", "image_size", "box", "size", "first_status", "status", "n_levels"),
)


def kernel(function: Callable[..., None]) -> Any:
    """Make a Triton kernel that needs as few binaries as possible: see NUMBERS, WIDE and ANYWHERE."""
    names = inspect.signature(function).parameters
    function.__annotations__.update((name, tl.int64) for name in WIDE if name in names)
    return triton.jit(function, do_not_specialize=(*NUMBERS, *WIDE), do_not_specialize_on_alignment=ANYWHERE)


# Called instead of the kernel if set: (kernel, grid, arguments, constexprs with num_warps). Lets the tests list every
# configuration that the launchers choose, without a GPU.
recorder: Callable[..., None] | None = None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, **constexprs: Any) -> None:
    """Run ``kernel[grid]``, unless the grid has no programs."""
    if 0 in grid:
        return
    if recorder is not None:
        recorder(kernel, grid, arguments, {**constexprs, "num_warps": num_warps})
        return
    kernel[grid](*arguments, **constexprs, num_warps=num_warps, enable_fp_fusion=False)


@cache
def _offsets_on(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    # A blocking copy would stop the host.
    return torch.tensor(offsets, dtype=torch.int32).reshape(-1, len(OFFSET)).to(device, non_blocking=True)


def offsets_on(offsets: Sequence[int], device: torch.device) -> Tensor:
    """Return offsets as (A, 3) int32 z, y, x: the same tensor each time, never freed, for CUDA graphs."""
    return _offsets_on(tuple(offsets), device)


def cdiv(a: int, b: int) -> int:
    """Return a / b, rounded up. (Triton's own function takes microseconds.)"""
    return -(-a // b)


def tiles(buffer: Tensor) -> int:
    """Return the number of tiles of a packed buffer."""
    return cdiv(buffer.shape[0], TILE)


@triton.jit
def larger(a, b):
    """Return the larger value, as a function for scans."""
    return tl.maximum(a, b)


@triton.jit
def region_of(start_ptr, regions, first):
    """Return the last region whose block begins at or before pixel ``first``.

    A region without pixels may share its start with the next one.
    ``start_ptr``: (K,) int64, ascending; ``regions`` is K.
    """
    low = first * 0  # a tensor of first's type also where an argument of 1 has become a constant
    high = low + regions
    while high - low > 1:
        middle = (low + high) // 2
        below = tl.load(start_ptr + middle) <= first
        low = tl.where(below, middle, low)
        high = tl.where(below, high, middle)
    return low


@triton.jit
def tile_of(start_ptr, size_ptr, regions, TILE: tl.constexpr):
    """Return a program's region, the region's first pixel in the buffer, the tile's first pixel in the region, D, H, W.

    ``size_ptr``: (K, 3) int64. A tile whose first pixel lies beyond the region's last one is empty.
    """
    first = tl.program_id(0).to(tl.int64) * TILE
    k = region_of(start_ptr, regions, first)
    base = tl.load(start_ptr + k)
    depth = tl.load(size_ptr + SIZE_COLUMNS * k + DEPTH).to(tl.int32)
    height = tl.load(size_ptr + SIZE_COLUMNS * k + HEIGHT).to(tl.int32)
    width = tl.load(size_ptr + SIZE_COLUMNS * k + WIDTH).to(tl.int32)
    return k, base, (first - base).to(tl.int32), depth, height, width


@triton.jit
def tiles_of(size_ptr, k, TILE: tl.constexpr):
    """Return the number of tiles that the voxels of region k fill."""
    row = size_ptr + SIZE_COLUMNS * k
    voxels = tl.load(row + DEPTH) * tl.load(row + HEIGHT) * tl.load(row + WIDTH)
    return ((voxels + TILE - 1) // TILE).to(tl.int32)


@triton.jit
def share_of(start_ptr, size_ptr, regions, programs):
    """Return a program's region, the region's first pixel, D, H, W, the program's rank and how many there are."""
    program = tl.program_id(0).to(tl.int64)
    k = region_of(start_ptr, regions, program * BLOCK_OF_PROGRAM)
    base = tl.load(start_ptr + k)
    end = tl.load(start_ptr + tl.minimum(k + 1, regions - 1))
    first = base // BLOCK_OF_PROGRAM
    last = tl.where(k + 1 < regions, end // BLOCK_OF_PROGRAM, programs)
    depth = tl.load(size_ptr + SIZE_COLUMNS * k + DEPTH).to(tl.int32)
    height = tl.load(size_ptr + SIZE_COLUMNS * k + HEIGHT).to(tl.int32)
    width = tl.load(size_ptr + SIZE_COLUMNS * k + WIDTH).to(tl.int32)
    return k, base, depth, height, width, (program - first).to(tl.int32), (last - first).to(tl.int32)


@triton.jit
def extent_of(image_size, b, depth, height, width, mask):
    """Return D, H, W of image b: its row of ``image_size`` (B, 3) int64, or without one those of all images."""
    if image_size is not None:
        row = image_size + SIZE_COLUMNS * b
        depth = tl.load(row + DEPTH, mask=mask, other=0).to(tl.int32)
        height = tl.load(row + HEIGHT, mask=mask, other=0).to(tl.int32)
        width = tl.load(row + WIDTH, mask=mask, other=0).to(tl.int32)
    return depth, height, width


@triton.jit
def position(index, depth, height, width):
    """Return z, y, x of voxels (TILE,) of a volume whose planes are height x width, both above 0."""
    row = index // width
    z = row * 0
    y = row
    if depth > 1:  # one division is enough in a plane
        z = row // height
        y = row - z * height
    return z, y, index - row * width


@triton.jit
def neighbour(levels, base, index, z, y, x, dz, dy, dx, depth, height, width, inside):
    """Return the levels (TILE,) int32 at an offset from each pixel ``inside``, 0 beyond the borders of the volume."""
    valid = inside & (z + dz >= 0) & (z + dz < depth) & (y + dy >= 0) & (y + dy < height)
    valid = valid & (x + dx >= 0) & (x + dx < width)
    shift = (dz * height + dy) * width + dx
    return tl.load(levels + base + (index + shift), mask=valid, other=0).to(tl.int32)
