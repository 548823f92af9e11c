"""Helpers of the tests that run kernels under Triton's interpreter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings
from kacl_gpu.radiomics import api, ops
from kacl_gpu.radiomics.constants import TILE
from kacl_gpu.radiomics.volumes import half_offsets
from tests.kernels.mirror import extent

LAYOUTS = (False, True)  # packed by region, or slots as large as the largest one


def pack(
    volumes: Sequence[np.ndarray], slots: bool = False, dtype: torch.dtype = torch.uint8
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a packed level buffer of (D, H, W) volumes: levels (total,), start (K,), size (K, 3); garbage in gaps."""
    blocks = np.array([-(-v.size // TILE) * TILE for v in volumes], np.int64)
    if slots:
        blocks[:] = blocks.max(initial=0) + TILE
    start = np.cumsum(blocks) - blocks
    garbage = np.random.default_rng(0).integers(1, 100, int(blocks.sum()))
    for first, volume in zip(start, volumes):
        garbage[first : first + volume.size] = volume.ravel()
    size = np.array([v.shape for v in volumes], np.int64).reshape(-1, 3)
    return torch.from_numpy(garbage).to(dtype), torch.from_numpy(start), torch.from_numpy(size)


def serve_by_kernels(patch: pytest.MonkeyPatch) -> None:
    """Send operators to the kernels' launchers, whatever the device of their tensors."""
    for name, file in ops.KERNELS.items():
        patch.setattr(ops, name, getattr(import_module(f"kacl_gpu.kernels.{file}"), name))


def without_synchronisation(
    images: Any,
    boxes: Any,
    masks: Any,
    settings: RadiomicsSettings,
    spacing: Any = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Return ``gpu_radiomics`` with ``invalid="nan"``, computed as for tensors of a device whatever their device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "_is_static", lambda *_: True)
        options: Any = {"settings": settings, "spacing": spacing, "dtype": dtype}
        return api.gpu_radiomics(images, boxes, masks=masks, invalid="nan", **options)


@contextmanager
def check_pointers() -> Iterator[None]:
    """Make it an error for an interpreted kernel to read or write beside the tensors of its launch.

    A place beside a tensor counts even within its storage: :func:`tests.kernels.mirror.mirrored` must part them before.
    """
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
            ranges[:] = [extent(a) for a in (*arguments, *options.values()) if isinstance(a, Tensor)]
            return call(self, *arguments, **options)

        call = executor.__call__
        patch.setattr(executor, "__call__", run)
        yield


@contextmanager
def check_overflow(check: bool) -> Iterator[None]:
    """Make integer overflow in an interpreted kernel an error, or not; the check doubles the time."""
    from triton.runtime.interpreter import interpreter_builder

    before = interpreter_builder.options
    interpreter_builder.options = replace(before, sanitize_overflow=check)
    yield
    interpreter_builder.options = before


def awkward(ng: int, seed: int = 0) -> list[np.ndarray]:
    """Return regions of 1 x H x W levels up to ``ng`` that reach the corner cases of kernels; the last one is empty."""
    rng = np.random.default_rng(seed)
    holes = rng.integers(1, ng + 1, (1, 20, 30)) * (rng.random((1, 20, 30)) < 0.7)
    sparse = rng.integers(1, ng + 1, (1, 12, 12)) * (rng.random((1, 12, 12)) < 0.05)
    checkers = np.indices((9, 9)).sum(0)[None] % 2 * ng
    apart = np.zeros((1, 9, 9), np.int64)
    apart[0, 0, 0] = apart[0, 8, 8] = 1
    return [
        np.full((1, 1, 1), ng),
        rng.integers(1, ng + 1, (1, 1, 7)),
        rng.integers(1, ng + 1, (1, 7, 1)),
        np.full((1, 5, 6), (ng + 1) // 2),
        holes,
        sparse,
        checkers,
        apart,
        *(rng.integers(1, ng + 1, (1, h, w)) for h, w in ((31, 33), (32, 32), (1, 1025), (33, 32))),
        np.zeros((1, 4, 4), np.int64),
    ]


def awkward_maps() -> list[Tensor]:
    """Return maps (B, H, W) that reach the corner cases of components: sizes around a tile's, values not finite."""
    generator = torch.Generator().manual_seed(0)
    nan, inf = torch.nan, torch.inf
    y, x = torch.meshgrid(torch.arange(34), torch.arange(63), indexing="ij")
    noise = torch.rand((3, 34, 63), generator=generator)
    ring = torch.maximum((y - 17).abs(), (x - 31).abs()) % 3 == 0
    comb = (y == 33) | (x % 2 == 0)
    late = (x % 4 == 0) | ((y == 33) & (x % 8 < 5))  # arms that meet at their ends, in pairs
    dots = (torch.arange(70)[:, None] % 2 + torch.arange(63) % 2 == 0).float()  # a thousand components, all alike
    spoilt = noise.clone()
    spoilt[noise > 0.9] = torch.tensor([nan, inf, -inf])[:, None, None].expand_as(noise)[noise > 0.9]
    smooth = torch.nn.functional.interpolate(torch.rand((3, 1, 7, 7), generator=generator), (41, 40), mode="bilinear")
    scale = torch.tensor([1e-30, -1e30, 3e38])[:, None, None]
    return [
        torch.tensor([[[3.0]], [[nan]], [[-inf]]]),
        torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[2.0, 2.0]], [[nan, 1.0]], [[inf, -inf]], [[-3e38, 3e38]]]),
        torch.stack([torch.full((4, 6), 7.0), torch.full((4, 6), nan), torch.eye(6)[:4], torch.eye(6)[2:] * inf]),
        torch.stack([ring, comb, late, (x + y) % 2 == 0]).float(),
        ring * noise,
        spoilt,
        smooth[:, 0] * scale,
        dots[None],
        1 - dots[None],  # one component with a thousand holes
        torch.rand((2, 1, 1500), generator=generator),
        torch.rand((2, 1500, 1), generator=generator),
        torch.rand((2, 32, 32), generator=generator),  # a tile
        torch.rand((2, 41, 25), generator=generator),  # and one pixel more
        torch.cat([torch.ones((1, 33, 64)), torch.zeros((1, 1, 64))], 1),
        torch.rand((3, 33, 40), generator=generator)[1:, 1:, 1:],  # parts of a tensor
        torch.rand((0, 5, 5)),
    ]


def close(ours: Tensor, twin: Tensor, relative: float = 1e-12, absolute: float = 1e-12) -> None:
    """Fail unless both are float64, have NaN at the same places, and agree elsewhere."""
    assert ours.dtype == twin.dtype == torch.float64
    torch.testing.assert_close(ours, twin, rtol=relative, atol=absolute, equal_nan=True)


def same(ours: Tensor, twin: Tensor) -> None:
    """Fail unless both have the same bits, NaN being equal."""
    torch.testing.assert_close(ours, twin, rtol=0, atol=0, equal_nan=True)


NEAR, FAR, SPACE = half_offsets((1,)), half_offsets((1, 2)), half_offsets((1,), dimensions=3)
SIDEWAYS = half_offsets((1,), dimensions=3, flat=2)  # no neighbours along rows
ALONG_AXES = [0, 0, 1, 0, 1, 0]
