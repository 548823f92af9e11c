"""What every kernel shares: how it is launched, and how a tile of pixels finds its region.

The work is cut into tiles of ``TILE`` pixels of the packed level buffer. Each region's block begins at a multiple of
``TILE``, so a tile belongs to one region; the grid depends on the length of the buffer alone, never on a value that
lies on the device.

Rules for all kernels: integer atomics only, floating-point sums in an order that depends on nothing but the region
itself, no fused multiply-add (a formula's product is rounded before it is added, as on the CPU), nothing above sm_70.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024

# Called instead of the kernel where set: (kernel, grid, arguments, constexprs with num_warps). Lets the tests list
# every configuration that the launchers choose, without a GPU.
recorder: Callable[..., None] | None = None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, **constexprs: Any) -> None:
    """Runs ``kernel[grid]``; a grid without programs is none."""
    if 0 in grid:
        return
    if recorder is not None:
        recorder(kernel, grid, arguments, {**constexprs, "num_warps": num_warps})
        return
    kernel[grid](*arguments, **constexprs, num_warps=num_warps, enable_fp_fusion=False)


@lru_cache(maxsize=64)
def _offsets_on(offsets: tuple[int, ...], device: torch.device) -> Tensor:
    # Not blocking: a copy that waits would stop the host.
    return torch.tensor(offsets, dtype=torch.int32).reshape(-1, 3).to(device, non_blocking=True)


def offsets_on(offsets: Sequence[int], device: torch.device) -> Tensor:
    """(A, 3) int32 z, y, x of a flat list of offsets; the same tensor at each call, so that graphs may hold it."""
    return _offsets_on(tuple(offsets), device)


def tiles(buffer: Tensor) -> int:
    """How many tiles a packed buffer has."""
    return triton.cdiv(buffer.shape[0], TILE)


@triton.jit
def region_of(start_ptr, regions, first):
    """The last region whose block begins at or before ``first``.

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
