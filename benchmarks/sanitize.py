"""Every kernel once, on small inputs, for compute-sanitizer: ``compute-sanitizer python -m benchmarks.sanitize``."""

import torch

from kacl_gpu import RadiomicsSettings, gpu_radiomics

SETTINGS = (
    RadiomicsSettings(bin_count=16),
    RadiomicsSettings(
        bin_count=40,
        normalize=True,
        remove_outliers=3.0,
        resegment_range=(-2.0, 2.0),
        resegment_mode="sigma",
        weighting_norm="euclidean",
        distances=(1, 2),
        symmetrical_glcm=False,
    ),
)


def main() -> None:
    torch.manual_seed(0)
    for dtype in (torch.uint8, torch.float32):
        images = (torch.rand(3, 70, 60) * 250).to(dtype)
        images[2] = images[2] // 60
        boxes = torch.tensor([[0.0, 0.0, 60.0, 70.0], [3.0, 5.0, 40.0, 41.0], [10.0, 10.0, 60.0, 12.0]])
        masks = (torch.rand(3, 70, 60) < 0.8).to(torch.uint8)
        for settings in SETTINGS:
            for given in (None, masks.cuda()):
                table = gpu_radiomics(images.cuda(), boxes.cuda(), masks=given, settings=settings, invalid="nan")
                assert bool(table.isfinite().any(1).all())
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
