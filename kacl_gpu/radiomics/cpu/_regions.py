"""What every CPU operator shares: the compiler's options, threads over regions, a region's volume with a margin."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


def jit(function: Callable[..., Any]) -> Any:
    """Compiled by Numba at its first call, and kept on disk where a folder can be written (see NUMBA_CACHE_DIR).

    No fastmath: sums keep the order they are written in, and a * b + c is rounded twice, as in NumPy. What is compiled
    is loops over numbers: NumPy's functions, reductions and assignments of arrays take up to a second each to compile.
    """
    try:
        return numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # no folder to keep it in
        return numba.njit(function, nogil=True, error_model="numpy")


# An index of this type is never negative, which spares each access the test for Python's meaning of negative ones.
at = np.uintp
CELLS_FOR_A_THREAD = 1 << 14
COMPILED = 16  # times as many cells a task counts for that is compiled as a whole: hardly any of its time is Python's


@cache
def _pool(pid: int, workers: int) -> ThreadPoolExecutor:
    """The threads of one process: keyed by its id, for a forked child inherits the object but not its threads."""
    return ThreadPoolExecutor(workers, thread_name_prefix="kacl_gpu")


def for_each(task: Callable[[int], None], count: int, cells: int) -> None:
    """Runs ``task(k)`` for k in 0 ... count - 1 on torch's number of threads, each k in one of them.

    Tasks on few ``cells`` (in all) spend their time in Python, where threads only wait for each other.
    """
    workers = min(torch.get_num_threads(), count) if cells >= CELLS_FOR_A_THREAD * count else 1
    indices = itertools.count()  # next() of it is atomic, so whoever is free takes the next region

    def work() -> None:
        while (k := next(indices)) < count:
            task(k)

    if workers <= 1:
        work()
        return
    helpers = [_pool(os.getpid(), workers - 1).submit(work) for _ in range(workers - 1)]
    work()
    for helper in helpers:
        helper.result()


def volume(levels: Array, start: Array, size: Array, k: int) -> Array:
    """Region k of a packed buffer, as a view of shape (D, H, W)."""
    first, (depth, height, width) = int(start[k]), size[k].tolist()
    return levels[first : first + depth * height * width].reshape(depth, height, width)


class Padded(NamedTuple):
    """A region's volume with a border of zeros as wide as the offsets reach, in flat memory.

    Level 0 means outside, so no loop over neighbours looks at the borders of the box.
    """

    levels: Array  # (voxels,)
    rows: Array  # where each row of the box begins
    width: int  # of the box
    steps: Array  # (A,) the offsets as distances in memory, all above 0


def with_margin(region: Array, offsets: Array) -> Padded:
    """A padded copy of (D, H, W) for neighbours at ``offsets`` (A, 3) and their opposites."""
    depth, height, width = region.shape
    z, y, x = np.abs(offsets).max(0, initial=0).tolist()
    padded = np.zeros((depth + 2 * z, height + 2 * y, width + 2 * x), region.dtype)
    padded[z : z + depth, y : y + height, x : x + width] = region
    row = padded.shape[2]
    plane = padded.shape[1] * row
    rows = np.arange(z, z + depth)[:, None] * plane + (np.arange(y, y + height) * row + x)
    return Padded(padded.ravel(), rows.ravel(), width, offsets @ np.array((plane, row, 1)))
