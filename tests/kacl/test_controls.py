"""Controls of BYOP: other boxes, other images' features, and a step in which nothing else changes."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("lightning")

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.kacl.byop import BYOP, PositiveBoxes, control_boxes, control_features
from kacl_gpu.kacl.model import KACL

SETTINGS = RadiomicsSettings(bin_count=32, feature_class={"firstorder": None})


# --- boxes


def random_box(seed: int, epoch: int, index: int, height: int, width: int) -> list[int]:
    """Return the box by SplitMix64 as it is published, in Python's own integers."""

    def splitmix(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        return state ^ state >> 31

    bits = splitmix(splitmix(splitmix(seed) + epoch) + index)

    def below(count: int, stream: int) -> int:
        return (splitmix(bits + stream) >> 32) * count >> 32

    w = width // 4 + below(3 * width // 4 - width // 4 + 1, 1)
    x = below(width - w + 1, 2)
    h = height // 4 + below(3 * height // 4 - height // 4 + 1, 3)
    y = below(height - h + 1, 4)
    return [x, y, x + w, y + h]


def test_random_boxes() -> None:
    index = torch.tensor([0, 5, 112_119, 2**40])
    boxes = control_boxes("random", (30, 50), index, epoch=7, seed=3)
    assert boxes.tolist() == [random_box(3, 7, k, 30, 50) for k in index.tolist()]
    assert torch.equal(boxes[[2, 0]], control_boxes("random", (30, 50), index[[2, 0]], torch.tensor(7), seed=3))
    for epoch, seed in ((8, 3), (7, 4)):
        assert not torch.equal(boxes, control_boxes("random", (30, 50), index, epoch, seed))


def test_sizes_and_places_of_random_boxes() -> None:
    """Every side and every place that is allowed occurs, and the mean area is that of the middle half."""
    boxes = control_boxes("random", (64, 64), torch.arange(20_000), epoch=0, seed=0)
    assert boxes.min() == 0 and boxes.max() == 64
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.unique().tolist() == list(range(16, 49))
    area = sides.prod(1) / 64**2
    assert area.mean().item() == pytest.approx(0.25, abs=0.005)
    assert abs(torch.corrcoef(torch.cat([sides, boxes[:, :2] / (64 - sides)], 1).T).triu(1)).max() < 0.03


def test_boxes_that_are_always_the_same() -> None:
    index = torch.arange(2)
    assert control_boxes("whole", (30, 50), index, 0, 0).tolist() == [[0, 0, 50, 30]] * 2
    assert control_boxes("middle", (30, 50), index, 0, 0).tolist() == [[12.5, 7.5, 37.5, 22.5]] * 2


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    true = torch.full((4, 3, 4), torch.nan)
    true[1, 2] = torch.tensor([5.0, 7.5, 30.25, 41.0])
    true[2, 0] = torch.tensor([0.0, 0.0, 10.0, 10.0])  # of a disease that is not drawn
    return {
        "images": torch.randint(0, 256, (4, 1, 60, 60), dtype=torch.uint8, generator=generator),
        "activations": torch.randn((4, 12, 4, 4), generator=generator).relu(),
        "weight": torch.randn((3, 12), generator=generator),
        "disease": torch.tensor([0, 2, 1, -1]),
        "true_boxes": true,
        "index": torch.tensor([9, 3, 4, 1]),
    }


@pytest.mark.parametrize("kind", ["whole", "middle", "random", "annotated"])
def test_features_are_those_of_the_boxes(kind: PositiveBoxes) -> None:
    """Images with a true box included, whose boxes only ``true`` may use."""
    given = batch()
    positives = BYOP(settings=SETTINGS, positive_boxes=kind, seed=2)(**given, epoch=5)
    boxes: dict[str, list[list[float] | None]] = {
        "whole": [[0.0, 0, 60, 60]] * 3,
        "middle": [[15.0, 15, 45, 45]] * 3,
        "random": [[float(x) for x in random_box(2, 5, index, 60, 60)] for index in (9, 3, 4)],
        "annotated": [None, [5.0, 7.5, 30.25, 41.0], None],
    }
    for k, box in enumerate(boxes[kind]):
        assert positives.valid[k] == (box is not None)
        if box is None:
            assert positives.boxes[k].isnan().all() and positives.features[k].isnan().all()
        else:
            assert positives.boxes[k].tolist() == box
            alone = gpu_radiomics(given["images"][k : k + 1], torch.tensor([box]), settings=SETTINGS)
            assert torch.equal(positives.features[k : k + 1], alone)
    assert not positives.valid[3] and positives.features[3].isnan().all()
    assert positives.annotated.tolist() == [False, kind == "annotated", False, False]
    assert positives.covers_image.tolist() == [kind == "whole"] * 3 + [False]
    assert not positives.fallback.any()


def test_boxes_that_cannot_be() -> None:
    with pytest.raises(
        ValueError, match="positive_boxes must be one of gradcam, whole, random, middle, annotated, got all"
    ):
        BYOP(positive_boxes="all")
    with pytest.raises(ValueError, match="index"):
        BYOP(positive_boxes="random")(**batch() | {"index": None})


# --- features


def shuffle(features: Tensor, valid: Tensor, index: Tensor, epoch: int = 0, seed: int = 0) -> Tensor:
    return control_features("shuffled", features, valid, index=index, epoch=epoch, seed=seed)


@pytest.mark.parametrize("number", [2, 3, 17])
def test_no_image_keeps_its_features(number: int) -> None:
    """All valid rows are used once, each for another image; those that are not valid stay."""
    generator = torch.Generator().manual_seed(number)
    rows = torch.arange(40, dtype=torch.float64)[:, None].expand(-1, 3)
    index = torch.randperm(1000, generator=generator)[:40]
    valid = torch.zeros(40, dtype=torch.bool)
    valid[torch.randperm(40, generator=generator)[:number]] = True
    orders = set()
    for epoch in range(20):
        shuffled = shuffle(rows, valid, index, epoch)
        assert shuffled.dtype == rows.dtype and torch.equal(shuffled[~valid], rows[~valid])
        assert sorted(shuffled[valid, 0].tolist()) == rows[valid, 0].tolist()
        assert (shuffled[valid] != rows[valid]).all()
        assert torch.equal(shuffled, shuffle(rows, valid, index, epoch))
        orders.add(tuple(shuffled[:, 0].tolist()))
    assert len(orders) == {2: 1, 3: 2, 17: 20}[number]
    assert number == 2 or any(
        (shuffle(rows, valid, index, 0, seed) != shuffle(rows, valid, index)).any() for seed in range(1, 9)
    )


def test_the_order_of_the_images_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    rows, index, valid = torch.rand((30, 2), generator=generator), torch.arange(30) * 7, torch.arange(30) % 4 > 0
    order = torch.randperm(30, generator=generator)
    assert torch.equal(shuffle(rows, valid, index)[order], shuffle(rows[order], valid[order], index[order]))


def test_a_single_image_has_none_to_swap_with() -> None:
    rows = torch.rand(4, 2)
    for valid in (torch.tensor([False, True, False, False]), torch.zeros(4, dtype=torch.bool)):
        assert torch.equal(shuffle(rows, valid, torch.arange(4)), rows)


def test_constant_and_real_features() -> None:
    rows, valid = torch.rand(3, 2) + 1, torch.tensor([True, False, True])
    settings: dict[str, Any] = {"index": torch.arange(3), "epoch": 0, "seed": 0}
    constant = control_features("constant", rows, valid, **settings)
    assert (constant[valid] == 0).all() and torch.equal(constant[~valid], rows[~valid])
    assert torch.equal(control_features("real", rows, valid, **settings), rows)
    with pytest.raises(ValueError, match="positive_features must be one of real, shuffled, constant, got none"):
        control_features("none", rows, valid, **settings)


# --- the step


@pytest.fixture(scope="module")
def steps() -> dict[tuple[str, str], dict[str, Any]]:
    """Return what one step of each control does, all from the same seed and batch."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand((12, 8), generator=generator) < 0.25).float()
    labels[:3] = 0
    labels[3:, 0] = 1
    boxes = torch.full((12, 8, 4), torch.nan)
    boxes[5:8] = torch.tensor([10.0, 20, 40, 50])
    images: dict[str, Tensor] = {
        "image": torch.randint(0, 256, (12, 1, 64, 64), dtype=torch.uint8, generator=generator),
        "labels": labels,
        "findings": torch.cat([labels, torch.zeros(12, 6)], 1),
        "normal": labels.sum(1) == 0,
        "boxes": boxes,
        "index": torch.arange(12) * 3,
    }
    controls: list[tuple[Any, Any]] = [("gradcam", features) for features in ("real", "shuffled", "constant")]
    controls += [(kind, "real") for kind in ("whole", "random", "middle", "annotated")]
    steps = {}
    for kind, features in controls:
        torch.manual_seed(0)
        model = KACL(
            weights=None, warmup_epochs=0, hidden=16, projection=8, positive_boxes=kind, positive_features=features
        )
        before = copy.deepcopy(model.state_dict())
        logged: dict[str, Tensor] = {}
        rows: list[Tensor] = []
        model.log = lambda name, value, logged=logged, **_: logged.__setitem__(name, value.clone())  # type: ignore[method-assign]
        model.radiomic_encoder.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(inputs[0].clone()))
        model.training_step(images, 0).backward()
        statistics = {name: value for name, value in model.state_dict().items() if name.startswith("normaliser")}
        steps[kind, features] = {"before": before, "logged": logged, "rows": rows[0], "statistics": statistics}
    return steps


def test_controls_change_nothing_else(steps: dict[tuple[str, str], dict[str, Any]]) -> None:
    """First weights, classification, and statistics of the features have the same bits; the contrastive loss not."""
    paper = steps["gradcam", "real"]
    for control, step in steps.items():
        for name, value in step["before"].items():
            assert torch.equal(value, paper["before"][name]), name
        assert torch.equal(step["logged"]["train/classification"], paper["logged"]["train/classification"])
        same = torch.equal(step["logged"]["train/contrastive"], paper["logged"]["train/contrastive"])
        assert same == (control == ("gradcam", "real")), control
        if control[0] == "gradcam":
            for name, value in step["statistics"].items():
                assert torch.equal(value, paper["statistics"][name]), name
    assert steps["gradcam", "real"]["logged"]["train/annotated"] > 0
    assert steps["annotated", "real"]["logged"]["train/anchors"] < steps["middle", "real"]["logged"]["train/anchors"]


def test_what_the_radiomic_encoder_sees(steps: dict[tuple[str, str], dict[str, Any]]) -> None:
    real, shuffled, constant = (steps["gradcam", name]["rows"] for name in ("real", "shuffled", "constant"))
    assert torch.equal(shuffled[:3], real[:3]) and torch.equal(constant[:3], real[:3])  # without a disease
    assert (shuffled[3:] != real[3:]).any(1).all() and (constant[3:] == 0).all()
    assert sorted(map(tuple, shuffled[3:].tolist())) == sorted(map(tuple, real[3:].tolist()))
