"""Every kernel, in every way that the launchers ask for it, compiled ahead of time."""

import random
from functools import partial
from typing import Any

import pytest
import torch
import triton

from kacl_gpu import RadiomicsSettings
from kacl_gpu.kernels.common import kernel, launch
from kacl_gpu.kernels.first_order import PASSES
from kacl_gpu.kernels.levels import image_moments
from tests.kernels.compiling import (
    KERNELS,
    MOST_REGISTERS,
    MOST_SHARED,
    MOST_SPILLED,
    TARGETS,
    binaries,
    call,
    choices,
    launches_of,
    meta,
    most_spilled,
    needs_of,
)
from tests.kernels.interpreting import without_synchronisation


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_compile(name: str, target: int) -> None:
    """Compile without many spilled registers, and with no more shared memory than sm_70 has."""
    for needs in needs_of(name, target):
        assert needs.spilled <= most_spilled(triton.__version__), needs
        assert needs.shared <= MOST_SHARED, needs
        assert 0 < needs.registers <= MOST_REGISTERS, needs


def test_compile_is_strict_under_recorded_versions_of_triton() -> None:
    """Another version of the compiler must not fail the suite for a few bytes."""
    assert most_spilled("3.8.0") == MOST_SPILLED["3.8"] < most_spilled("3.80.1") == most_spilled("4.0") == 256


def random_call(rng: random.Random) -> partial[None]:
    """Return a call with settings and types of any kind."""
    types = [torch.bool, torch.bfloat16, *PASSES]
    changes: dict[str, Any] = {
        **rng.choice([{"bin_count": rng.randint(1, 400)}, {"bin_width": 0.7, "max_levels": rng.randint(2, 400)}]),
        "normalize": rng.random() < 0.5,
        "normalize_scale": rng.choice([1.0, 100.0, 2.0]),
        "remove_outliers": rng.choice([None, 1.0, 3.0]),
        "resegment_range": rng.choice([None, (0.5,), (0.0, 0.9), (-1.0, 0.7)]),
        "resegment_mode": rng.choice(["absolute", "relative", "sigma"]),
        "resegment_shape": rng.random() < 0.5,
        "weighting_norm": rng.choice([None, "manhattan", "no_weighting"]),
        "symmetrical_glcm": rng.random() < 0.5,
        "distances": rng.choice([(1,), (2,), (1, 3)]),
        "gldm_a": rng.choice([0, 7, 2**40]),
        "voxel_array_shift": rng.choice([0.0, 300.0]),
        "label": rng.choice([1, 255, 2**40]),
        "minimum_roi_size": rng.choice([None, 5, 2**40]),
        "memory_limit": rng.choice([2**20, 2**26, 2**31]),
    }
    if changes["resegment_mode"] == "relative" and (changes["resegment_range"] or (0,))[0] < 0:
        changes["resegment_mode"] = "absolute"
    boxes = (rng.choice([4, 5]), rng.choice([torch.float32, torch.float64, torch.int32, torch.int64, torch.int16]))
    masks = rng.choice([None, *types])
    return partial(
        call,
        RadiomicsSettings(**changes),
        rng.choice(types),
        masks,
        None if masks is not None and rng.random() < 0.3 else boxes,
        rng.random() < 0.5,
        rng.choice([torch.float32, torch.float64]),
        rng.choice([8, 64, 300]),
    )


def test_compile_leaves_nothing_out() -> None:
    """Random calls make no choice that is not compiled: constants together, and types beside each constant."""
    rng = random.Random(0)
    compiled = {choice for found in binaries().values() for binary in found for choice in choices(binary)}
    for binary in launches_of(random_call(rng) for _ in range(300)):
        assert choices(binary) <= compiled, binary
    assert sorted(binaries()) == KERNELS


def test_compile_notices_grids_that_are_too_large() -> None:
    """Beyond what CUDA takes; those of images of 8192 x 8192 are not."""
    settings = RadiomicsSettings(bin_count=32, normalize=True)
    large = meta(1, 8192, 8192, dtype=torch.uint8)
    launches_of([partial(without_synchronisation, large, meta(9, 5, dtype=torch.float32), None, settings)])
    launches_of([partial(image_moments, meta(70_000, 1, 32, 32, dtype=torch.uint8), None)])
    for grid in ((2**31,), (1, 2**16), (1, 1, 2**16)):
        with pytest.raises(AssertionError, match="a grid of"):
            launches_of([partial(launch, nothing, grid)])


@kernel
def nothing() -> None:
    pass


@kernel
def pointed(pointer, regions) -> None:
    pass


def test_compile_notices_what_would_be_another_binary() -> None:
    """Tensors that begin elsewhere, numbers beyond 31 bits, those that would be specialised."""
    good = meta(4)
    launches_of([partial(launch, pointed, (1,), good[2:], 1)])
    for arguments, problem in (((good[1:], 1), "ANYWHERE"), ((good, 2**31), "WIDE")):
        with pytest.raises(AssertionError, match=problem):
            launches_of([partial(launch, pointed, (1,), *arguments)])
