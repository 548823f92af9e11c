"""KACL as a Lightning module: the step, the schedules, and what is measured on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from kacl_gpu.errors import InputError

from .boxes import Boxes, has_box
from .byop import BYOP, Positives, look
from .data.diseases import DISEASES, body_parts
from .encoders import FeatureNormaliser, ImageEncoder, Projector, RadiomicEncoder, normalise, synchronise_batchnorm
from .losses import contrastive_loss, draw_disease, focal_loss

IOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # the paper's, of localisation
PARTS = ("data", "forward", "gradcam", "radiomics", "contrastive", "backward", "optimizer")  # of a step

Batch = dict[str, Tensor]


class KACL(lightning.LightningModule):
    """Classification of chest X-rays, helped by a contrastive loss against radiomic features of where it looks.

    Han et al., WACV 2022. What the paper leaves open is a setting here, with the reason for its default. At test time
    only the image encoder and the classifier are used.

    Args:
        diseases: that are told apart; the data's.
        encoder: resnet18 (the paper's), resnet50 or densenet121 (CheXNet's).
        weights: of the encoder to begin with: imagenet (the paper's), a file of a state dict, or none. A checkpoint has
            none, for it has its own: what its run began with is its hyperparameter ``initial_weights``.
        loss: of the classification: focal (the paper's) or cross_entropy.
        alpha: of the focal loss, weight of the positives. 0.25 is what the authors' later code takes.
        gamma: of the focal loss, how much less the well classified weigh. 2 is what the authors' later code takes.
        byop: train with the contrastive loss too.
        hard_negatives: an image's negatives are the normal ones and those of another disease of the same body part;
            if not, all normal ones and those of any other disease.
        contrastive_weight: lambda in lambda L_contrastive + (1 - lambda) L_classification. The paper has none. The
            focal loss is about a hundredth of the contrastive one, so 0.01 weighs them equally; with 0.1 the
            classification stopped improving on phantoms.
        temperature: tau of the contrastive loss. 0.5 is one of two values in the authors' later code (the other, 0.05).
        include_positive: have the positive in the denominator too, which the paper prints without.
        threshold: of a heatmap's range, for boxes. Half of it is what the authors' later code takes.
        shrink_whole_image: take the middle of the image where a box is all of it, as the authors' later code does.
        projection: width of the space in which images and features are compared.
        hidden: width of the layers in the projectors and in the radiomic encoder.
        learning_rate: of Adam.
        warmup_epochs: in which the rate rises linearly and only the classification is trained.
        schedule: literal: the rate decays from the first epoch on, while it warms up, which is how the paper reads: it
            is at 1e-5 when the contrastive loss begins. decay_after_warmup: steps are counted from the end of the
            warm-up.
        decay: factor of the rate every ``decay_epochs``.
        decay_epochs: see decay.
        seed: of the draws of diseases.
    """

    parts: Tensor

    def __init__(
        self,
        diseases: list[str] = list(DISEASES),  # noqa: B006  (never changed)
        encoder: Literal["resnet18", "resnet50", "densenet121"] = "resnet18",
        weights: str | None = "imagenet",
        loss: Literal["focal", "cross_entropy"] = "focal",
        alpha: float = 0.25,
        gamma: float = 2.0,
        byop: bool = True,
        hard_negatives: bool = True,
        contrastive_weight: float = 0.01,
        temperature: float = 0.5,
        include_positive: bool = False,
        threshold: float = 0.5,
        shrink_whole_image: bool = False,
        projection: int = 128,
        hidden: int = 512,
        learning_rate: float = 0.001,
        warmup_epochs: int = 10,
        schedule: Literal["literal", "decay_after_warmup"] = "literal",
        decay: float = 0.1,
        decay_epochs: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= contrastive_weight < 1:
            raise InputError(f"contrastive_weight must be at least 0 and below 1, got {contrastive_weight}")
        if not 0 <= threshold < 1:
            raise InputError(f"threshold must be at least 0 and below 1, got {threshold}")
        if not 0 <= alpha <= 1 or not 0 <= gamma < math.inf:
            raise InputError(f"alpha must be from 0 to 1, gamma at least 0 and finite; got {alpha}, {gamma}")
        for name, number in (("learning_rate", learning_rate), ("temperature", temperature), ("decay", decay)):
            if not 0 < number < math.inf:
                raise InputError(f"{name} must be above 0 and finite, got {number}")
        if warmup_epochs < 0:
            raise InputError(f"warmup_epochs must be at least 0, got {warmup_epochs}")
        for name, number in (("decay_epochs", decay_epochs), ("projection", projection), ("hidden", hidden)):
            if number < 1:
                raise InputError(f"{name} must be at least 1, got {number}")
        self.save_hyperparameters(ignore="weights")
        # so that what loads a checkpoint, with the weights of its training, needs no others before
        self.save_hyperparameters({"weights": None, "initial_weights": weights})
        self.settings: Any = self.hparams
        self.diseases = list(diseases)
        parts = body_parts(diseases)
        self.register_buffer("parts", parts if hard_negatives else torch.zeros_like(parts), persistent=False)
        self.encoder = ImageEncoder(encoder, weights)
        self.classifier = nn.Linear(self.encoder.channels, len(diseases))
        if byop:
            self.byop = BYOP(threshold, shrink_whole_image)
            features = len(self.byop.feature_names)
            self.normaliser = FeatureNormaliser(features)
            self.radiomic_encoder = RadiomicEncoder(self.normaliser.out_features, hidden, hidden)
            self.image_projector = Projector(self.encoder.channels, hidden, projection)
            self.radiomic_projector = Projector(hidden, hidden, projection)
        self.clock = StepClock(torch.device("cpu"))
        self.kept: list[Batch] = []  # of each batch of an evaluation
        self.predictions: Batch = {}  # of the last evaluation, in the order of the data
        self.boxes_before: tuple[Tensor, Tensor] | None = None  # of the last validation, to see how they drift

    # --- the step

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, D) of raw images (B, 1, H, W)."""
        return self.classifier(self.encoder(normalise(images))[1])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch of `kacl_gpu.kacl.data.dataset.NIHChestXray14`'s samples."""
        settings, timed = self.settings, self.clock.part
        images, labels = batch["image"], batch["labels"]
        with timed("forward"):
            activations, pooled = self.encoder(normalise(images))
            logits = self.classifier(pooled)
            loss = classification = self.classification_loss(logits, labels)
        if settings.byop and self.current_epoch >= settings.warmup_epochs:
            disease = draw_disease(labels, batch["index"], self.current_epoch, settings.seed)
            positives = self.byop(images, activations, self.classifier.weight, disease, batch["boxes"], timed)
            with timed("contrastive"):
                features = self.normaliser(positives.features).to(self.classifier.weight.dtype)
                contrast = contrastive_loss(
                    self.image_projector(pooled),
                    self.radiomic_projector(self.radiomic_encoder(features)),
                    labels,
                    disease,
                    batch["normal"],
                    self.parts,
                    temperature=settings.temperature,
                    include_positive=settings.include_positive,
                    valid=positives.valid,
                    gather=True,
                )
                weight = settings.contrastive_weight
                loss = weight * contrast.loss + (1 - weight) * classification
            self._log_positives(positives, disease)
            counts = {"anchors": contrast.anchors.float(), "without_negatives": contrast.without_negatives.float()}
            self._log({"contrastive": contrast.loss, **counts})
        self._log({"loss": loss, "classification": classification})
        return loss

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The focal loss or the cross-entropy, the mean over images and diseases."""
        if self.settings.loss == "focal":
            return focal_loss(logits, labels, alpha=self.settings.alpha, gamma=self.settings.gamma)
        return F.binary_cross_entropy_with_logits(logits.float(), labels)

    def _log(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.log(f"train/{name}", value.detach(), on_step=False, on_epoch=True, sync_dist=True)
            if name in ("loss", "contrastive", "classification"):  # of this process: to average each step would cost
                self.log(
                    f"step/{name}", value.detach(), on_step=True, on_epoch=False, prog_bar=name != "classification"
                )

    def _log_positives(self, positives: Positives, disease: Tensor) -> None:
        """Shares of the images with a disease whose box is a true one, the whole image, or a fallback to it."""
        ill = disease >= 0
        number = ill.sum().clamp(min=1)
        shares = {name: getattr(positives, name).sum() / number for name in ("annotated", "fallback", "whole")}
        self._log({**shares, "invalid": (ill & ~positives.valid).sum() / number})

    # --- how long the parts of a step take

    def on_train_epoch_start(self) -> None:
        self.clock = StepClock(self.device)
        self.clock.begin("data")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.clock.end("data")

    def on_before_backward(self, loss: Tensor) -> None:
        self.clock.begin("backward")

    def on_after_backward(self) -> None:
        self.clock.end("backward")

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.clock.begin("optimizer")

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.clock.end("optimizer")
        trainer: Any = self.trainer
        if (batch_idx + 1) % trainer.log_every_n_steps == 0 or batch_idx + 1 == trainer.num_training_batches:
            for name, seconds in self.clock.read().items():
                self.log(f"seconds/{name}", seconds, on_step=False, on_epoch=True)
        self.clock.begin("data")

    # --- evaluation

    def on_validation_epoch_start(self) -> None:
        self.kept = []

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps logits, and a Grad-CAM box of each image's first disease and of each annotated one."""
        images, labels, true = batch["image"], batch["labels"], batch["boxes"]
        size = images.shape[-2], images.shape[-1]
        activations, pooled = self.encoder(normalise(images))
        logits = self.classifier(pooled).float()
        boxes = torch.full_like(true, torch.nan)
        image, disease = ((labels > 0) | has_box(true)).nonzero(as_tuple=True)
        boxes[image, disease] = self.look(activations[image], disease, size)[1].boxes.to(boxes.dtype)
        self.kept.append(
            {"index": batch["index"], "logits": logits, "labels": labels, "boxes": boxes, "true_boxes": true}
        )

    test_step = validation_step

    def look(self, activations: Tensor, disease: Tensor, size: tuple[int, int]) -> tuple[Tensor, Boxes]:
        """Heatmaps (B, H, W) and boxes of one disease an image, where Grad-CAM sees it in an image of this size."""
        settings = self.settings
        weight, shrink = self.classifier.weight, settings.shrink_whole_image
        return look(activations, weight, disease, size, settings.threshold, shrink)

    def on_validation_epoch_end(self) -> None:
        stage, found = self._stage(), self._gathered()
        self.predictions = found
        metrics = {f"{stage}/{name}": value for name, value in self.measures(found).items()}
        if stage == "val" and not self.trainer.sanity_checking:
            first = found["labels"].argmax(1)  # the first disease of each image that has one
            ill = found["labels"].sum(1) > 0
            boxes = found["boxes"][torch.arange(len(first)), first][ill]
            rows = found["index"][ill]
            if self.boxes_before is not None and len(rows) and torch.equal(rows, self.boxes_before[0]):
                metrics["val/box_drift"] = 1 - iou(boxes, self.boxes_before[1]).mean()
            self.boxes_before = rows, boxes
        self.log_dict(metrics, rank_zero_only=False)
        if stage == "val" and "val/auc" in metrics:
            self.log("auc", metrics["val/auc"], prog_bar=True, logger=False)

    on_test_epoch_end = on_validation_epoch_end

    def _stage(self) -> str:
        return "test" if self.trainer.testing else "val"

    def _gathered(self) -> Batch:
        """What was kept, of all processes, each image once, in the order of the data, on the CPU."""
        together = {name: torch.cat([batch[name] for batch in self.kept]) for name in self.kept[0]}
        self.kept = []
        if self.trainer.world_size > 1:
            together = {name: torch.cat([*self.all_gather(value)]) for name, value in together.items()}
        together = {name: value.cpu() for name, value in together.items()}
        rows = together["index"]
        order = rows.argsort(stable=True)
        once = order[torch.cat([torch.ones(1, dtype=torch.bool), rows[order].diff() != 0])]  # processes pad with images
        return {name: value[once] for name, value in together.items()}

    def measures(self, found: Batch) -> dict[str, Tensor]:
        """Loss; AUC of each disease that has both positives and negatives, and its mean; accuracy of boxes, if any.

        A box is right where its intersection over union with the true one, the largest of its image and disease, is
        above the threshold.
        """
        aucs = {
            f"auc_{name}": binary_auroc(logits, labels.int())
            for name, logits, labels in zip(self.diseases, found["logits"].T, found["labels"].T)
            if 0 < labels.sum() < len(labels)
        }
        out = {"loss": self.classification_loss(found["logits"], found["labels"]), **aucs}
        if aucs:
            out["auc"] = torch.stack(list(aucs.values())).mean()
        annotated = has_box(found["true_boxes"])
        if annotated.any():
            overlap = iou(found["boxes"][annotated], found["true_boxes"][annotated])
            out["iou"] = overlap.mean()
            out |= {f"localisation_{t}": (overlap > t).float().mean() for t in IOU_THRESHOLDS}
        return out

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the last validation's boxes, so that a resumed run sees how they drift in its first epoch too."""
        if self.boxes_before is not None:
            checkpoint["boxes_before"] = [*self.boxes_before]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "boxes_before" in checkpoint:
            rows, boxes = checkpoint["boxes_before"]
            self.boxes_before = rows, boxes

    # --- how it is trained

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            synchronise_batchnorm(self.encoder, self.trainer.strategy.root_device)

    def rate(self, epoch: int) -> float:
        """Factor of the learning rate in an epoch, counted from 0."""
        warmup = self.settings.warmup_epochs
        counted = epoch if self.settings.schedule == "literal" else max(epoch - warmup, 0)
        return min((epoch + 1) / max(warmup, 1), 1.0) * self.settings.decay ** (counted // self.settings.decay_epochs)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, with the rate changing between epochs."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.settings.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)}


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (N,) of boxes (N, 4) and (N, 4), pair by pair."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    return common / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - common)


class StepClock:
    """Seconds of the parts of a step, read now and then.

    On CUDA by events, which are only waited for when they are read; waiting for data is the host's time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.open: dict[str, Any] = {}
        self.spans: list[tuple[str, Any, Any]] = []

    def begin(self, name: str) -> None:
        """A part begins."""
        self.open[name] = self._now(name)

    def end(self, name: str) -> None:
        """A part that began ends; others are ignored."""
        if name in self.open:
            self.spans.append((name, self.open.pop(name), self._now(name)))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The part inside this context."""
        self.begin(name)
        yield
        self.end(name)

    def read(self) -> dict[str, float]:
        """Mean seconds of each part since the last time."""
        seconds: dict[str, list[float]] = {}
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        for name, begin, end in self.spans:
            lasted = end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000
            seconds.setdefault(name, []).append(lasted)
        self.spans = []
        return {name: sum(values) / len(values) for name, values in seconds.items()}

    def _now(self, name: str) -> Any:
        if self.device.type != "cuda" or name == "data":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
