"""What the tests of kernels under Triton's interpreter share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

TILE = 1024
LAYOUTS = (False, True)  # packed by region, or slots as large as the largest one


def pack(
    volumes: Sequence[np.ndarray], slots: bool = False, dtype: torch.dtype = torch.uint8
) -> tuple[Tensor, Tensor, Tensor]:
    """A packed level buffer of (D, H, W) volumes: levels (total,), start (K,), size (K, 3); garbage in the gaps."""
    blocks = np.array([-(-v.size // TILE) * TILE for v in volumes], np.int64)
    if slots:
        blocks[:] = blocks.max(initial=0) + TILE
    start = np.cumsum(blocks) - blocks
    garbage = np.random.default_rng(0).integers(1, 100, int(blocks.sum()))
    for first, volume in zip(start, volumes):
        garbage[first : first + volume.size] = volume.ravel()
    size = np.array([v.shape for v in volumes], np.int64).reshape(-1, 3)
    return torch.from_numpy(garbage).to(dtype), torch.from_numpy(start), torch.from_numpy(size)


@contextmanager
def check_pointers() -> Iterator[None]:
    """While it lasts, an interpreted kernel that reads or writes beside the tensors of its launch is an error."""
    from triton.runtime import interpreter

    ranges: list[tuple[int, int]] = []

    def check(pointers: Any, mask: Any) -> None:
        address = np.ravel(pointers.data)
        address = address[np.broadcast_to(np.ravel(mask.data), address.shape)] if mask is not None else address
        width = pointers.get_element_ty().primitive_bitwidth // 8 or 1
        inside = np.zeros(address.shape, bool)
        for first, end in ranges:
            inside |= (address >= first) & (address + width <= end)
        if not inside.all():
            raise IndexError(f"{np.count_nonzero(~inside)} pointers lie outside the tensors of the launch")

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    with pytest.MonkeyPatch.context() as patch:

        def watch(name: str, mask_at: int | None) -> None:
            original = getattr(builder, name)

            def watched(self: Any, *arguments: Any, **options: Any) -> Any:
                pointers = arguments[1] if name == "create_atomic_rmw" else arguments[0]
                check(pointers, None if mask_at is None else arguments[mask_at])
                return original(self, *arguments, **options)

            patch.setattr(builder, name, watched)

        # create_load and create_store go through the masked ones
        for name, mask_at in (
            *(("create_masked_load", 1), ("create_masked_store", 2)),
            *(("create_atomic_rmw", 3), ("create_atomic_cas", None)),
        ):
            watch(name, mask_at)

        def run(self: Any, *arguments: Any, **options: Any) -> Any:
            ranges[:] = [
                (s.data_ptr(), s.data_ptr() + s.nbytes())
                for s in (a.untyped_storage() for a in (*arguments, *options.values()) if isinstance(a, Tensor))
            ]
            return call(self, *arguments, **options)

        call = executor.__call__
        patch.setattr(executor, "__call__", run)
        yield
