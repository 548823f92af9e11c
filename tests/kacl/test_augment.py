"""Augmentations: boxes follow the pixels, and the draws depend on seed, epoch and index alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

pytest.importorskip("pandas", reason="the extra io is not installed")
pytest.importorskip("torchvision", reason="the extra train is not installed")
pytest.importorskip("lightning")

from torchvision.transforms import v2

from kacl_gpu.kacl.data.augment import Augmented, EpochSampler, augment, make_augmentation
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.phantom import make_phantoms

SIDE = 96


def rectangle(box: tuple[int, int, int, int], dtype: torch.dtype = torch.uint8, white: int = 255) -> dict[str, Tensor]:
    """Return a sample of three diseases; the second one has a box, the bright rectangle in the image."""
    image = torch.zeros((1, SIDE, SIDE), dtype=dtype)
    x1, y1, x2, y2 = box
    image[0, max(y1, 0) : y2, max(x1, 0) : x2] = white
    boxes = torch.full((3, 4), torch.nan)
    boxes[1] = torch.tensor(box, dtype=torch.float32)
    return {"image": image, "boxes": boxes, "index": torch.tensor(0)}


def bright(image: Tensor) -> Tensor:
    """Return the box of the pixels above half of the maximum."""
    y, x = (image[0].numpy() > float(image.max()) / 2).nonzero()
    return torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=torch.float32)


@pytest.mark.parametrize(("dtype", "white"), [(torch.uint8, 255), (torch.float32, 65535)])
@pytest.mark.parametrize("name", ["light", "strong"])
def test_boxes_follow_the_pixels(name: Any, dtype: torch.dtype, white: int) -> None:
    transform = make_augmentation(name)
    sample = rectangle((30, 24, 62, 40), dtype, white)
    moved = []
    for bits in range(60):
        result = augment(sample, transform, bits)
        assert torch.equal(result["image"], result["image"].round())
        assert result["image"].dtype == dtype and result["image"].shape == (1, SIDE, SIDE)
        assert type(result["image"]) is type(result["boxes"]) is Tensor
        assert result["boxes"][[0, 2]].isnan().all()
        box = result["boxes"][1]
        assert (box - bright(result["image"])).abs().max() <= 1.5, bits
        moved.append(box)
        assert sample["boxes"][1].tolist() == [30, 24, 62, 40]
    places = torch.stack(moved)
    assert places.std(0).min() > 1  # they do move
    assert len(places.unique(dim=0)) == 60
    assert result["image"].max() <= white
    assert result["index"] is sample["index"]


def test_the_check_above_can_fail() -> None:
    sample = rectangle((30, 24, 62, 40))
    image = augment(sample, make_augmentation("light"), 1)["image"]
    mirrored = augment({**sample, "image": image}, v2.RandomHorizontalFlip(1), 0)
    assert (mirrored["boxes"][1] - bright(image)).abs().max() > 1.5


def test_boxes_are_cut_to_the_image_and_vanish() -> None:
    def shift(x: int) -> v2.Transform:
        return v2.Lambda(lambda value: v2.functional.affine(value, 0, [x, 0], 1.0, [0.0]))

    sample = rectangle((60, 10, 90, 20))
    assert augment(sample, shift(16), 0)["boxes"][1].tolist() == [76, 10, 96, 20]
    assert augment(sample, shift(16), 0)["image"][0, 10:20, 76:].min() == 255
    assert augment(sample, shift(35), 0)["boxes"][1].tolist() == [95, 10, 96, 20]
    for far in (36, 60):
        assert augment(sample, shift(far), 0)["boxes"].isnan().all()


def test_without_a_box() -> None:
    sample = {**rectangle((30, 24, 62, 40)), "boxes": torch.full((3, 4), torch.nan)}
    with_box = augment(rectangle((30, 24, 62, 40)), make_augmentation("light"), 7)
    result = augment(sample, make_augmentation("light"), 7)
    assert result["boxes"].isnan().all()
    assert torch.equal(result["image"], with_box["image"])


class Slope(Dataset):
    """Return samples that differ."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {**rectangle((10 + 4 * index, 20, 30 + 4 * index, 50)), "index": torch.tensor(index)}


def epoch_of(seed: int, epoch: int, workers: int, batch: int = 4, draw: int = 0) -> dict[int, Tensor]:
    images = Augmented(Slope(), "strong", seed)
    sampler = EpochSampler(images, num_replicas=1, rank=0, shuffle=True, seed=draw)
    sampler.set_epoch(epoch)
    loader = DataLoader(images, batch, sampler=sampler, num_workers=workers)
    return {int(i): image for one in loader for i, image in zip(one["index"], one["image"])}


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    first = epoch_of(0, 3, 0)
    torch.manual_seed(99)
    for other in (epoch_of(0, 3, 0, batch=3, draw=5), epoch_of(0, 3, 2)):
        assert all(torch.equal(first[k], other[k]) for k in range(12))
    for other in (epoch_of(1, 3, 0), epoch_of(0, 4, 0)):
        assert not any(torch.equal(first[k], other[k]) for k in range(12))


def test_the_state_of_the_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    augment(rectangle((30, 24, 62, 40)), make_augmentation("strong"), 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_images_alone_are_augmented(tmp_path: Path) -> None:
    make_phantoms(tmp_path / "phantoms", images=60, size=48, seed=1, boxed=1.0, workers=1)

    def opened(**options: Any) -> ChestXrays:
        module = ChestXrays(tmp_path / "phantoms", size=48, batch_size=8, **{"workers": 0} | options)
        module.setup()
        return module

    plain, light = opened(), opened(augment="light")
    batches = [next(iter(module.train_dataloader())) for module in (plain, light)]
    assert torch.equal(batches[0]["index"], batches[1]["index"])  # the same order
    assert torch.equal(batches[0]["labels"], batches[1]["labels"])
    assert not torch.equal(batches[0]["image"], batches[1]["image"])
    for a, b in zip(plain.val_dataloader(), light.val_dataloader()):
        assert torch.equal(a["image"], b["image"])
    assert torch.equal(plain.train[0]["image"], light.train[0]["image"])

    loader = opened(augment="light", workers=2).train_dataloader()  # persistent workers learn of the epoch
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    first = next(iter(loader))
    assert torch.equal(first["image"], batches[1]["image"])
    for epoch in (1, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        again = next(iter(loader))
        assert torch.equal(first["image"], again["image"]) == (epoch == 0)
