"""Runs kernels on a device for tensors that lie on the CPU: repeats the tests of the interpreter on hardware."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

GUARD, CANARY = 4096, 0xA5  # bytes on either side of each storage, and what they hold


def mirrored(launch: Callable[..., None], device: str) -> Callable[..., None]:
    """A ``common.launch`` that copies the storages of its tensors there and back.

    Fails where a kernel has written beside them.
    """

    def on_device(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        mirrors: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

        def mirror(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.is_meta:
                return value
            storage = value.untyped_storage()
            key, n = (storage.data_ptr(), storage.nbytes()), storage.nbytes()
            if key not in mirrors:
                content = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (n,), (1,))
                buffer = torch.full((n + 2 * GUARD,), CANARY, dtype=torch.uint8, device=device)
                buffer[GUARD : GUARD + n] = content.to(device)
                mirrors[key] = content, buffer
            there = mirrors[key][1].untyped_storage()
            offset = GUARD // value.element_size() + value.storage_offset()
            return torch.empty(0, dtype=value.dtype, device=device).set_(there, offset, value.shape, value.stride())

        launch(kernel, grid, *(mirror(a) for a in arguments), **options)
        for content, buffer in mirrors.values():
            n = len(content)
            beside = torch.cat([buffer[:GUARD], buffer[GUARD + n :]])
            assert bool((beside == CANARY).all()), f"{kernel.__name__} writes beside a tensor of {n} bytes"
            content.copy_(buffer[GUARD : GUARD + n])

    return on_device
