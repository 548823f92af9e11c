"""The whole call with every operator served by its kernel, under Triton's interpreter."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.volumes import LevelVolumes
from tests.kernels.interpreting import check_overflow, same, serve_by_kernels, without_synchronisation

pytestmark = pytest.mark.interpreted

SETTINGS = {
    "count": RadiomicsSettings(bin_count=8),
    "width": RadiomicsSettings(bin_width=20.0, max_levels=40, weighting_norm="manhattan", distances=(1, 3), gldm_a=1),
    "resegmented": RadiomicsSettings(
        bin_count=8, normalize=True, resegment_range=(-1.0, 1.5), resegment_mode="sigma", symmetrical_glcm=False
    ),
}


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let operators of CPU tensors go to the kernels' launchers."""
    serve_by_kernels(monkeypatch)
    return monkeypatch


def regions() -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 255, (2, 36, 30)).astype(np.uint8))
    images[1] //= 40
    boxes = torch.tensor([[0, 0, 0, 30, 36], [1, 2, 3, 20, 24.5], [0, 4, 4, 5, 5], [1, 0, 0, 9, 1], [1, 40, 0, 50, 9]])
    return images, boxes, torch.from_numpy((rng.random((2, 36, 30)) < 0.8).astype(np.uint8))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_whole_call(settings: RadiomicsSettings, kernels: pytest.MonkeyPatch) -> None:
    images, boxes, masks = regions()
    options: dict[str, Any] = {"masks": masks, "settings": settings, "dtype": torch.float64, "invalid": "nan"}
    ours = gpu_radiomics(images, boxes, **options)
    static = without_synchronisation(images, boxes, masks, settings)
    with pytest.raises(ValueError, match=r"row 2 .* it is a single pixel"):
        gpu_radiomics(images, boxes, **{**options, "invalid": "raise"})
    kernels.undo()
    twin = gpu_radiomics(images, boxes, **options)
    assert bool(twin[:2].isfinite().all()) and bool(twin[[2, 4]].isnan().all())
    torch.testing.assert_close(ours, twin, rtol=1e-9, atol=1e-11, equal_nan=True)
    same(static, ours)


IN_VOLUMES = {
    "count": {"bin_count": 6},
    "across x": {"bin_count": 6, "force2d": True, "force2d_dimension": 2, "distances": (1, 2)},
    "across y": {"bin_count": 6, "force2d": True, "force2d_dimension": 1, "weighting_norm": "euclidean"},
    "resegmented": {
        "bin_width": 0.4,
        "max_levels": 30,
        "normalize": True,
        "resegment_range": (-1.0, 1.5),
        "resegment_mode": "sigma",
        "distances": (2,),
    },
}
OF_VOLUMES = ["firstorder", "glcm", "glrlm", "glszm", "ngtdm", "gldm"]


def volumes() -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return images of two sizes, their label maps, and boxes of both, some of them wrong or a voxel."""
    rng = np.random.default_rng(1)
    images = [rng.normal(60, 20, shape).round() for shape in ((7, 11, 13), (6, 12, 9))]
    maps = [(rng.random(image.shape) < 0.8) * 1 for image in images]
    boxes = [[0, 0, 0, 0, 13, 11, 7], [1, 1, 2, 1, 8.5, 9, 6], [0, 3, 3, 2, 4, 4, 3], [1, 0, 0, 9, 9, 12, 10]]
    tensors = [[torch.from_numpy(array).to(torch.int16) for array in arrays] for arrays in (images, maps)]
    return tensors[0], tensors[1], torch.tensor(boxes)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[pytest.mark.slow] * (name in ("resegmented", "across x")))
        for name, changes in IN_VOLUMES.items()
    ],
)
def test_the_whole_call_on_volumes(changes: dict[str, Any], kernels: pytest.MonkeyPatch) -> None:
    images, masks, boxes = volumes()
    settings = RadiomicsSettings(feature_class=OF_VOLUMES, **changes)
    options: dict[str, Any] = {"settings": settings, "spacing": (2.5, 0.7, 0.8)}
    options |= {"dtype": torch.float64, "invalid": "nan"}
    ours = gpu_radiomics(images, boxes, masks=masks, **options)
    alone = gpu_radiomics(images[1][None, None], boxes[1:2, 1:], masks=masks[1][None, None], **options)
    bounded = replace(settings, max_region=(7, 12, 13))
    static = without_synchronisation(images, boxes, masks, bounded, spacing=options["spacing"])
    kernels.undo()
    twin = gpu_radiomics(images, boxes, masks=masks, **options)
    assert bool(twin[:2].isfinite().all()) and bool(twin[2:].isnan().all())
    torch.testing.assert_close(ours, twin, rtol=1e-9, atol=1e-11, equal_nan=True)
    same(static, ours)
    same(alone, ours[1:2])


def test_parts_of_a_buffer(kernels: pytest.MonkeyPatch) -> None:
    """A memory limit that splits the buffer of levels leaves the bits of regions unchanged, without overflow."""
    images, boxes, masks = regions()
    options: dict[str, Any] = {"masks": masks, "dtype": torch.float64}
    rows = boxes[[0, 1, 1]]
    settings = RadiomicsSettings(bin_count=8, feature_class=["firstorder", "glrlm", "glszm"])
    expected = gpu_radiomics(images, rows, settings=settings, **options)
    begins, original = [], LevelVolumes.part

    def part(volumes: LevelVolumes, k: slice) -> LevelVolumes:
        begins.append(volumes.begin[k.start])
        return original(volumes, k)

    kernels.setattr(LevelVolumes, "part", part)
    with check_overflow(True):
        same(gpu_radiomics(images, rows, settings=replace(settings, memory_limit=2**16), **options), expected)
    assert max(begins) > 0


def test_the_static_layout_changes_no_bit() -> None:
    """The CPU's own operators give the same without synchronisation: larger tables change nothing."""
    for settings in SETTINGS.values():
        images, boxes, masks = regions()
        expected = gpu_radiomics(images, boxes, masks=masks, settings=settings, dtype=torch.float64, invalid="nan")
        same(without_synchronisation(images, boxes, masks, settings), expected)


def test_every_operator_has_a_kernel() -> None:
    assert set(ops.KERNELS) == {n for n in vars(ops) if not n.startswith("_") and hasattr(torch.ops.kacl_gpu, n)}
