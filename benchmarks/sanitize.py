"""Every kernel, on small inputs, for compute-sanitizer: ``compute-sanitizer python -m benchmarks.sanitize``."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.volumes import half_offsets

EVERYTHING = RadiomicsSettings(
    bin_count=40,
    normalize=True,
    remove_outliers=3.0,
    resegment_range=(-2.0, 2.0),
    resegment_mode="sigma",
    weighting_norm="euclidean",
    distances=(1, 2),
    symmetrical_glcm=False,
)
SETTINGS = RadiomicsSettings(bin_count=16), EVERYTHING


def tables(device: str) -> Iterator[Tensor]:
    """Return features of three regions, with and without masks, of both kinds of images."""
    for dtype in (torch.uint8, torch.float32):
        images = (torch.rand(3, 70, 60) * 250).to(dtype)
        images[2] = images[2] // 60
        boxes = torch.tensor([[0.0, 0.0, 60.0, 70.0], [3.0, 5.0, 40.0, 41.0], [10.0, 10.0, 60.0, 12.0]]).to(device)
        masks = (torch.rand(3, 70, 60) < 0.8).to(torch.uint8).to(device)
        for settings in SETTINGS:
            for region_masks in (None, masks):
                yield gpu_radiomics(images.to(device), boxes, masks=region_masks, settings=settings, invalid="nan")


def textures_of_a_volume(device: str) -> list[Tensor]:
    """Return matrices of a volume: with all 26 neighbours, and with those in planes across x alone."""
    levels = torch.randint(0, 4, (3072,), dtype=torch.uint8).to(device)
    start, size = torch.tensor([0, 2048]).to(device), torch.tensor([[10, 12, 14], [4, 15, 16]]).to(device)
    where = levels, start, size
    tables: list[Tensor] = []
    for flat in (-1, 2):
        offsets = half_offsets((1,), dimensions=3, flat=flat)
        tables += ops.neighbourhood(*where, offsets, 3, gldm_a=0, pairs=True, dependences=True, differences=True)
        tables += [ops.glszm(*where, offsets, 3, 200), ops.glrlm(*where, offsets, 3, 16)]
    return tables


def shapes_of_volumes(device: str) -> Tensor:
    """Return the shape of boxes, and of masks in them."""
    images = torch.rand(2, 1, 9, 12, 14).to(device)
    boxes = torch.tensor([[0.0, 0.0, 0.0, 14.0, 12.0, 9.0], [1.0, 2.0, 3.0, 9.0, 11.0, 8.0]]).to(device)
    masks = (torch.rand(images.shape) < 0.8).to(torch.uint8).to(device)
    settings = RadiomicsSettings(feature_class=["shape"])
    return torch.cat([gpu_radiomics(images, boxes, masks=m, settings=settings, invalid="nan") for m in (None, masks)])


def components_of_maps(device: str) -> tuple[Tensor, Tensor]:
    """Return components of noise, in a map of several tiles."""
    return ops.largest_components(torch.rand(3, 90, 61).to(device), threshold=0.5, max_components=4)


def main() -> None:
    torch.manual_seed(0)
    for table in tables("cuda"):
        assert bool(table.isfinite().any(1).all())
    assert all(int(table.sum()) > 0 for table in textures_of_a_volume("cuda"))
    assert bool(shapes_of_volumes("cuda").isfinite().all())
    assert bool((components_of_maps("cuda")[1] > 0).all())
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
