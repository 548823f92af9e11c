"""How KACL's pieces are put together: a step's loss, and what is logged of it, computed once more from the pieces."""

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

pytest.importorskip("lightning")

import lightning
import torchvision
from torchmetrics import Metric

from kacl_gpu.errors import InputError
from kacl_gpu.kacl.boxes import has_box
from kacl_gpu.kacl.byop import BYOP, BYOP_SETTINGS, Positives, look
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.dataset import NIHChestXray14
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, BODY_PART, DISEASES
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.losses import ContrastiveLoss, contrastive_loss, draw_disease
from kacl_gpu.kacl.model import KACL
from kacl_gpu.kacl.training.clock import StepClock
from kacl_gpu.radiomics.api import gpu_radiomics

EPOCH = 3
# nothing at its default
GIVEN: dict[str, Any] = {
    "alpha": 0.4, "gamma": 1.5, "contrastive_weight": 0.3, "temperature": 0.2,
    "threshold": 0.3, "shrink_whole_image": True, "projection": 16, "hidden": 24, "warmup_epochs": EPOCH, "seed": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    make_phantoms(folder, images=160, size=64, seed=3, boxed=0.4, workers=1)
    return folder


@pytest.fixture(scope="module")
def batch(phantoms: Path) -> dict[str, Tensor]:
    """Annotated images, ill ones without boxes, normal ones; one box beside its image, whose features are invalid."""
    data = NIHChestXray14(phantoms)
    ill = data.table[list(data.diseases)].sum(axis=1)
    annotated, normal = data.table["annotated"], data.table["normal"]
    kinds = (annotated, ~annotated & (ill > 1), ~annotated & (ill == 1), normal)
    rows = [row for kind in kinds for row in data.table.index[kind][:8]]
    batch = {name: torch.stack([data[row][name] for row in rows]) for name in data[0]}
    one = batch["labels"][:8].sum(1).argmin()  # with a single disease, which is drawn for sure
    batch["boxes"][one, batch["labels"][one].argmax()] = torch.tensor([-9.0, -9, -2, -2])
    # Of the normal images, some have a finding that is not classified, and some may have one that is
    batch["normal"][-8:-4] = False
    batch["findings"][-8:-6, ALL_DISEASES.index("Edema")] = 1
    batch["findings"][-6:-4, ALL_DISEASES.index("Hernia")] = 1
    for name in ("labels", "findings"):
        batch[name][-3:, :4] = -1
    return batch


def logged_by(model: KACL, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    logged: dict[str, float] = {}

    def log(name: str, value: Any, **_: Any) -> None:
        logged[name] = float(value.compute() if isinstance(value, Metric) else value)

    monkeypatch.setattr(KACL, "current_epoch", EPOCH)
    monkeypatch.setattr(model, "log", log)
    return logged


@pytest.mark.parametrize(
    ("contrastive", "attend", "hard_negatives", "loss"),
    [
        ("printed", "image", True, "focal"),
        ("include_positive", "heatmap", False, "cross_entropy"),
        ("symmetric", "box", True, "cross_entropy"),
        ("symmetric", "heatmap", True, "focal"),
        ("printed", "box", False, "focal"),
    ],
)
def test_a_step(
    batch: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    contrastive: str,
    attend: str,
    hard_negatives: bool,
    loss: str,
) -> None:
    torch.manual_seed(0)
    chosen = {"contrastive": contrastive, "attend": attend, "hard_negatives": hard_negatives, "loss": loss}
    model = KACL(weights=None, **GIVEN, **chosen)
    other = copy.deepcopy(model)
    logged = logged_by(model, monkeypatch)
    total = model.training_step(batch, 0)

    images, labels = batch["image"], batch["labels"]
    activations = other.encoder.features((images / 255 - 0.449) / 0.226)
    pooled = activations.mean((2, 3))
    p = other.classifier(pooled).sigmoid().double()
    if loss == "focal":
        each = torch.where(labels > 0, 0.4 * (1 - p) ** 1.5 * p.log(), 0.6 * p**1.5 * (1 - p).log())
    else:
        each = torch.where(labels > 0, p.log(), (1 - p).log())
    classification = -each[labels >= 0].mean()

    disease = draw_disease(labels, batch["index"], EPOCH, 5)
    assert any((disease != draw_disease(labels, batch["index"], *another)).any() for another in ((EPOCH, 0), (0, 5)))
    maps, (boxes, fallback, whole) = look(
        activations, other.classifier.weight, disease.clamp(min=0), (64, 64), threshold=0.3, shrink_whole_image=True
    )
    ill = disease >= 0
    true = batch["boxes"][torch.arange(len(disease)), disease]
    annotated = ill & ~true.isnan().any(1)
    features = torch.full((len(images), len(model.byop.feature_names)), torch.nan)
    asked = torch.where(annotated[:, None], true, boxes)[ill]
    features[ill] = gpu_radiomics(images[ill], asked, settings=BYOP_SETTINGS, invalid="nan")
    valid = ~features.isnan().any(1)
    assert annotated.sum() == 8 and valid.sum() == ill.sum() - 1 and (~annotated & ill).sum() == 16

    compared = pooled.clone()
    for v in valid.nonzero()[:, 0].tolist():
        region = annotated[v], true[v], boxes[v]
        if attend == "heatmap":
            weights = maps[v].reshape(2, 32, 2, 32).mean((1, 3))
            weights = weights / weights.sum() if weights.sum() > 0 else torch.full((2, 2), 0.25)
            compared[v] = (activations[v] * weights).sum((1, 2))
        elif attend == "box":
            box = torch.where(*region)[None]
            compared[v] = torchvision.ops.roi_align(activations[v : v + 1], [box], 1, 1 / 32, aligned=True)[0, :, 0, 0]
    assert (compared[valid] == pooled[valid]).all() == (attend == "image")
    z_image = other.image_projector(compared)
    z_radiomic = other.radiomic_projector(other.radiomic_encoder(other.normaliser(features)))

    def similar(a: Tensor, b: Tensor) -> Tensor:
        return (torch.nn.functional.cosine_similarity(a, b, dim=0) / 0.2).double().exp()

    terms, counts = [], []
    names, findings = list(ALL_DISEASES), batch["findings"]
    anchors = valid.nonzero()[:, 0].tolist()
    for v in anchors:
        d = names.index(model.diseases[int(disease[v])])
        negatives = []
        for n in range(len(images)):
            others = [BODY_PART[names[k]] for k in range(len(names)) if findings[n, k] > 0]
            alike = BODY_PART[names[d]] in others or (others and not hard_negatives)
            if n != v and findings[n, d] == 0 and (alike or batch["normal"][n]):
                negatives.append(similar(z_image[v], z_image[n]))
        counts.append(len(negatives))
        positive = similar(z_image[v], z_radiomic[v])
        denominator = torch.stack(negatives).sum()
        if contrastive == "include_positive":
            denominator = denominator + positive
        elif contrastive == "symmetric":
            forth = sum(similar(z_image[v], z_radiomic[u]) for u in anchors) + denominator
            denominator = (forth * sum(similar(z_radiomic[v], z_image[u]) for u in anchors)).sqrt()
        terms.append(-(positive / denominator).log())
    contrast = torch.stack(terms).mean()

    expected = 0.3 * contrast + 0.7 * classification
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    total.backward()
    expected.backward()
    for (name, ours), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)
    unit_image, unit_radiomic = (torch.nn.functional.normalize(z[valid]) for z in (z_image, z_radiomic))
    cosines, across = unit_radiomic @ unit_radiomic.T, unit_image @ unit_radiomic.T
    ranks = (across > across.diagonal()[:, None]).sum(1)
    shares = {
        "annotated": annotated.sum() / ill.sum(),
        "fallback": (fallback & ill & ~annotated).sum() / ill.sum(),
        "whole": (whole & ill & ~annotated).sum() / ill.sum(),
        "invalid": 1 / ill.sum(),
        "anchors": valid.sum(),
        "without_negatives": 0,
        "classification": classification,
        "contrastive": contrast,
        "negatives": sum(counts) / len(counts),
        "radiomic_cosine": (cosines.sum() - len(anchors)) / (len(anchors) * (len(anchors) - 1)),
        "nearest": (ranks < 1).double().mean(),
        "nearest_10": (ranks < 10).double().mean(),
        "chance": 1 / len(anchors),
        "chance_10": 10 / len(anchors),
        "loss": total,
    }
    for name, value in shares.items():
        assert logged[f"train/{name}"] == pytest.approx(torch.as_tensor(value).item(), rel=1e-5), name


def test_a_step_of_the_warmup(batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The classification's loss alone, and no feature is looked at."""
    torch.manual_seed(0)
    model = KACL(weights=None, **{**GIVEN, "warmup_epochs": EPOCH + 1})
    logged = logged_by(model, monkeypatch)
    assert model.training_step(batch, 0).item() == logged["train/classification"]
    assert "train/contrastive" not in logged and model.normaliser.count.sum() == 0


def test_no_finding_as_a_class(batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is classified, and neither stands for an image in the contrastive loss nor gets a box."""
    torch.manual_seed(0)
    model = KACL(weights=None, diseases=["No Finding", *DISEASES], **GIVEN)
    assert model.finding_of_class.tolist() == [-1, *range(8)]
    nine = batch | {
        "labels": torch.cat([batch["normal"][:, None].float(), batch["labels"]], 1),
        "boxes": torch.nn.functional.pad(batch["boxes"], (0, 0, 1, 0), value=torch.nan),
    }
    logged_by(model, monkeypatch)
    drawn: list[Tensor] = []
    model.byop.register_forward_pre_hook(lambda _, arguments: drawn.append(arguments[3]))
    compared: list[Tensor] = []

    def loss(*arguments: Any, **options: Any) -> ContrastiveLoss:
        compared.append(arguments[3])
        return contrastive_loss(*arguments, **options)

    monkeypatch.setattr("kacl_gpu.kacl.model.contrastive_loss", loss)
    assert model.training_step(nine, 0).isfinite()
    plain = draw_disease(batch["labels"], batch["index"], EPOCH, 5)
    assert torch.equal(drawn[0], torch.where(plain < 0, -1, plain + 1))
    assert torch.equal(compared[0], plain)  # a column of the findings, the first of which are the eight diseases
    model.eval()
    model.validation_step(nine, 0)
    boxes = model.epoch_predictions.boxes[0]
    assert (
        boxes[:, 0].isnan().all() and (has_box(boxes[:, 1:]) == ((batch["labels"] > 0) | has_box(batch["boxes"]))).all()
    )


def test_body_parts_of_ones_own() -> None:
    model = KACL(
        weights=None, diseases=["Scoliosis"], findings=["Scoliosis", "Mass", "Nodule"], body_parts={"Scoliosis": "lung"}
    )
    assert len({*model.body_parts.tolist()}) == 1
    with pytest.raises(InputError, match="no body part is known of Scoliosis"):
        KACL(weights=None, diseases=["Mass"], findings=["Scoliosis", "Mass"])


@pytest.mark.parametrize(
    "name",
    ["stride", "loss", "bias", "contrastive", "attend", "positive_boxes", "positive_features", "schedule"],
)
def test_choices_that_a_setting_does_not_have(name: str) -> None:
    """They end a training before it begins, and none is taken for another."""
    wrong: dict[str, Any] = {name: "typo"}
    with pytest.raises(InputError, match=f"{name} must be one of .*, got typo"):
        KACL(weights=None, **wrong)


def test_rates_that_adam_cannot_take() -> None:
    """Beyond float32 they would end the first step of a training in an OverflowError."""
    wrong: dict[str, float]
    for wrong in ({"learning_rate": 1e38}, {"decay": 1.5}):
        with pytest.raises(InputError, match=r"learning_rate must be at most 1e30 .* decay at most 1, got"):
            KACL(weights=None, **wrong)


def test_a_collapse_is_named_once_an_epoch(phantoms: Path) -> None:
    """With features that are the same for all images; the averages over two steps are logged with their chance."""

    class Constant(BYOP):
        def forward(self, *arguments: Any, **options: Any) -> Positives:
            positives = super().forward(*arguments, **options)
            same = torch.where(positives.valid[:, None], 1.0, torch.nan).expand_as(positives.features)
            return positives._replace(features=same)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    for contrastive, remedy in (("printed", "model.contrastive=symmetric"), ("symmetric", "model.temperature")):
        torch.manual_seed(0)
        model = KACL(weights=None, warmup_epochs=1, contrastive=contrastive)
        model.byop = Constant()
        data = ChestXrays(phantoms, size=32, batch_size=16, workers=0)
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=3, limit_train_batches=2, limit_val_batches=0, enable_checkpointing=False,
            **quiet,
        )  # fmt: skip
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            trainer.fit(model, data)
        words = [str(one.message) for one in raised if "collapsed" in str(one.message)]
        assert [w.split(":")[0].split()[-1] for w in words] == ["1", "2"] and all(remedy in w for w in words)
        metrics = trainer.callback_metrics
        assert metrics["train/radiomic_cosine"] == pytest.approx(1, abs=1e-5)
        for name, chance in (("nearest", "chance"), ("nearest_10", "chance_10")):
            assert 0 < metrics[f"train/{chance}"] == pytest.approx(float(metrics[f"train/{name}"]), abs=1e-6)
        assert 0 < metrics["train/chance"] < 1 and metrics["train/negatives"] > 1


def test_how_boxes_drift(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against boxes looked up image by image, before and after the classifier was changed."""
    torch.manual_seed(0)
    model, data = KACL(weights=None, threshold=0.3), ChestXrays(phantoms, size=64, batch_size=16, workers=0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", enable_checkpointing=False, **quiet)
    (first,) = trainer.validate(model, data, verbose=False)
    assert "val/box_drift" not in first

    def boxes() -> list[list[float]]:
        model.eval()
        found = []
        for sample in (data.validation[row] for row in range(len(data.validation))):
            if sample["labels"].any():
                activations, _ = model.encoder(sample["image"][None])
                disease = sample["labels"].argmax()[None]
                _, (box, _, _) = look(activations, model.classifier.weight, disease, (64, 64), 0.3, False)
                found.append(box[0].tolist())
        return found

    before = boxes()
    with torch.no_grad():
        model.classifier.weight.normal_()
    after = boxes()
    overlaps = []
    for a, b in zip(before, after, strict=True):
        common = math.prod(max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0) for k in (0, 1))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        overlaps.append(common / (sum(areas) - common))
    (second,) = trainer.validate(model, data, verbose=False)
    assert second["val/box_drift"] == pytest.approx(1 - sum(overlaps) / len(overlaps), abs=1e-6)
    assert 0.05 < second["val/box_drift"] < 1


def test_training_learns(phantoms: Path) -> None:
    """Its own training images by heart, with both losses."""
    lightning.seed_everything(0, verbose=False)
    data = ChestXrays(phantoms, size=64, batch_size=16, workers=0)
    model = KACL(weights=None, warmup_epochs=1, schedule="decay_after_warmup", decay_epochs=9)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=6, enable_checkpointing=False, limit_val_batches=0, **quiet
    )
    trainer.fit(model, data)
    (known,) = trainer.test(model, DataLoader(data.train, 16), verbose=False)
    assert known["test/auc"] > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_on_a_gpu_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, boxes, radiomics, both losses and backward, in half precision, and the loss that the CPU finds."""
    torch.manual_seed(0)
    model = KACL(weights=None, **GIVEN)
    labels = (torch.rand(32, 8) < 0.2).float()
    batch = {
        "image": torch.randint(0, 256, (32, 1, 96, 96), dtype=torch.uint8),
        "labels": labels,
        "findings": torch.nn.functional.pad(labels, (0, 6)),
        "normal": labels.sum(1) == 0,
        "boxes": torch.full((32, 8, 4), torch.nan),
        "index": torch.arange(32),
    }
    batch["boxes"][:6] = torch.tensor([10.0, 20, 40, 50])
    monkeypatch.setattr(KACL, "current_epoch", EPOCH)
    monkeypatch.setattr(KACL, "log", lambda *_, **__: None)
    expected = copy.deepcopy(model).training_step(batch, 0).item()

    there = {name: value.cuda() for name, value in batch.items()}
    on_gpu = copy.deepcopy(model).cuda()
    assert on_gpu.training_step(there, 0).item() == pytest.approx(expected, rel=1e-2)  # TF32, other orders of sums
    half = copy.deepcopy(model).cuda()
    half.timed = StepClock(torch.device("cuda")).stage
    for waits in ("default", "error"):  # what is compiled in the first step may wait
        torch.cuda.set_sync_debug_mode(waits)
        try:
            with torch.autocast("cuda", torch.float16):
                loss = half.training_step(there, 0)
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_in_half_precision_on_a_gpu(phantoms: Path) -> None:
    """With a scaler of gradients, the weights stay finite, and the network learns."""
    lightning.seed_everything(0, verbose=False)
    data = ChestXrays(phantoms, size=64, batch_size=16, workers=0)
    model = KACL(weights=None, warmup_epochs=1, schedule="decay_after_warmup", decay_epochs=9)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="gpu", devices=1, precision="16-mixed", max_epochs=6, enable_checkpointing=False,
        limit_val_batches=0, **quiet,
    )  # fmt: skip
    trainer.fit(model, data)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    (known,) = trainer.test(model, DataLoader(data.train, 16), verbose=False)
    assert known["test/auc"] > 0.9
