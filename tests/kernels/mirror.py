"""Run kernels on copies of their tensors, each with a guard around it: on a device, to repeat the interpreted tests on
hardware, or on the CPU, where tensors of one launch may lie side by side in one storage."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

GUARD, CANARY = 4096, 0xA5  # bytes on either side of each tensor, and what they hold
ALIGNMENT = 16  # bytes: as a tensor is aligned to these, so is its copy


def extent(tensor: Tensor) -> tuple[int, int]:
    """Return the address of a tensor's first byte, and the one after its last."""
    # that of a tensor without elements too, whose data_ptr() is 0
    first = tensor.untyped_storage().data_ptr() + int(tensor.storage_offset()) * tensor.element_size()
    if tensor.numel() == 0:
        return first, first
    steps = sum((n - 1) * int(stride) for n, stride in zip(tensor.shape, tensor.stride()))
    return first, first + (steps + 1) * tensor.element_size()


def apart(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the extents with overlapping ones united."""
    parts: list[tuple[int, int]] = []
    for first, end in sorted(extents):
        if parts and first < parts[-1][1]:
            parts[-1] = parts[-1][0], max(end, parts[-1][1])
        else:
            parts.append((first, end))
    return parts


def mirrored(launch: Callable[..., None], device: str) -> Callable[..., None]:
    """Return a ``common.launch`` that copies its tensors there and back; overlapping ones lie in one copy.

    It fails where a kernel has written beside them.
    """

    def on_device(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        tensors = [a for a in arguments if isinstance(a, Tensor) and not a.is_meta]
        copies = []  # address of the first byte, the bytes themselves, where they lie in the copy, the copy
        for first, end in apart(map(extent, tensors)):
            storage = next(t for t in tensors if extent(t)[0] == first).untyped_storage()
            content = torch.empty(0, dtype=torch.uint8)
            content.set_(storage, first - storage.data_ptr(), (end - first,), (1,))
            begin = GUARD + first % ALIGNMENT
            buffer = torch.full((begin + len(content) + GUARD,), CANARY, dtype=torch.uint8, device=device)
            buffer[begin : begin + len(content)] = content.to(device)
            copies.append((first, content, begin, buffer))

        def mirror(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.is_meta:
                return value
            place, last = extent(value)
            first, _, begin, buffer = next(c for c in copies if c[0] <= place and last <= c[0] + len(c[1]))
            offset = (begin + place - first) // value.element_size()
            copy = torch.empty(0, dtype=value.dtype, device=device)
            return copy.set_(buffer.untyped_storage(), offset, value.shape, value.stride())

        launch(kernel, grid, *map(mirror, arguments), **options)
        for _, content, begin, buffer in copies:
            end = begin + len(content)
            beside = torch.cat([buffer[:begin], buffer[end:]])
            assert bool((beside == CANARY).all()), f"{kernel.__name__} writes beside a tensor of {len(content)} bytes"
            content.copy_(buffer[begin:end])

    return on_device
