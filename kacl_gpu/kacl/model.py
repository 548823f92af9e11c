"""KACL as a Lightning module: the training step, the schedules, and the validation."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from kacl_gpu.errors import InputError, check_choice

from .attention import Attend, pool_box, pool_heatmap
from .boxes import Boxes, has_box
from .byop import BYOP, PositiveBoxes, PositiveFeatures, Positives, control_features, look, untimed
from .data.datamodule import ChestXrays
from .data.diseases import ALL_DISEASES, DISEASES, check_diseases
from .data.diseases import body_parts as part_numbers
from .distributed import is_distributed, synchronise_batchnorm
from .encoders import OWN_MODULE, Encoder, ImageEncoder, Projector, RadiomicEncoder, make_encoder
from .evaluation.validation import EpochPredictions, WeightedMean, epoch_measures, first_boxes, iou
from .losses import (
    Alignment,
    ContrastiveLoss,
    Form,
    alignment,
    contrastive_loss,
    cross_entropy,
    draw_disease,
    focal_loss,
)
from .normaliser import FeatureNormaliser

Batch = dict[str, Tensor]
Loss = Literal["focal", "cross_entropy"]
Bias = Literal["log_odds", "zero"]
Schedule = Literal["decay_after_warmup", "literal"]
Stride = Literal[32, 16]

COLLAPSED = 0.95  # mean cosine between the radiomic embeddings of different images from which on there is a warning
EPOCH_MEANS = ("radiomic_cosine", "nearest", "nearest_10", "chance", "chance_10", "negatives")


class KACL(lightning.LightningModule):
    """Classify chest X-rays, with a contrastive loss against radiomic features of the regions that the network uses.

    Han et al., WACV 2022. Choices that the paper leaves open are settings, with the reason for each default. At test
    time only the image encoder and the classifier are used.

    Args:
        diseases: names of the diseases to classify; taken from the data.
        findings: names of all findings that the data knows, of which the diseases are some; taken from the data.
        max_value: intensity of white in the images, by which the input of an encoder by name is divided; taken from the
            data.
        encoder: image encoder, by the name of a network of torchvision or timm that ends in global average pooling and
            a linear layer: resnet18 (the paper's), densenet121 (CheXNet's), tf_efficientnet_lite0 (its ImageNet weights
            need no network), timm/NAME, ... In Python also a module, see `kacl_gpu.kacl.encoders.OwnEncoder`; a
            checkpoint does not hold it: ``KACL.load_from_checkpoint(path, encoder=module)``.
        weights: initial weights of the encoder: imagenet (the paper's), the file of a state dict, or none. A checkpoint
            holds its own weights and needs none; ``initial_weights`` in its hyperparameters names those of its run.
        stride: pixels of the image for each pixel of the heatmap before it is enlarged: 32, as the networks are, or 16,
            by dilation in the last stage, which costs time and leaves the weights unchanged. At 128 x 128 pixels the
            heatmap has 4 x 4 or 8 x 8 pixels.
        last_layer: name of the encoder's layer whose output is pooled and classified, as layer3 of resnet18 or blocks.4
            of tf_efficientnet_lite0; the layers after it are dropped. The last layers of a network made for images of
            224 pixels look at all of a small image from each place, and its heatmaps show no region. None: all layers,
            as in the paper.
        last_frozen: name of the encoder's last layer that keeps its initial weights, as do all before it. A step takes
            less than half the time, and few images cannot spoil pretrained weights. None: all are trained, as in the
            paper.
        loss: classification loss: focal (the paper's) or cross_entropy.
        alpha: weight of positive labels in the focal loss, from 0 to 1; negatives weigh 1 - alpha. 0.25 is the number
            of the authors' later code, where it multiplies both classes and so only scales the loss.
        bias: initial bias of the classifier. log_odds: the log-odds of each class in the training split, uncertain
            labels left out, so that training begins at the frequency of each class; it is set when training begins,
            from the trainer's datamodule. zero: 0, from which rare classes are learned by making all weights negative:
            16 to 29 % of heatmaps were then negative everywhere, with log-odds none. (The constant that minimises the
            focal loss is higher, -1.9 and not -3.9 for a class of 2 %; to begin below it only raises the weights.)
        gamma: focusing exponent of the focal loss, at least 0; larger values give less weight to labels that are
            already classified well. 2 is the value of the authors' later code.
        byop: train with the contrastive loss of BYOP (Bootstrap Your Own Positive samples) as well.
        hard_negatives: compare an image only with normal images and with other findings of the same body part; if
            false, with normal images and with any other finding.
        body_parts: body parts of findings, by name, beside or in place of those of the chest knowledge graph
            (`kacl_gpu.kacl.data.diseases.BODY_PART`), as in ``{Fracture: bone}``. Any words; equal words are one part.
        contrastive_weight: lambda in lambda L_contrastive + (1 - lambda) L_classification, at least 0 and below 1. The
            paper gives no value. The focal loss is about a hundredth of the contrastive loss, so 0.01 weighs them
            equally; with 0.1 the classification stopped improving on phantoms.
        temperature: tau, the temperature of the contrastive loss, above 0. 0.5 is one of two values in the authors'
            later code (the other is 0.05).
        contrastive: form of the contrastive loss. printed: the paper's, whose denominator has only image negatives;
            nothing keeps the radiomic embeddings of different images apart. include_positive: with the positive pair
            in the denominator too. symmetric: NT-Xent in both directions, with the other images' radiomic embeddings in
            the denominator, so that they cannot collapse.
        attend: region whose image features are compared with the radiomic ones. image: the whole image, as the authors'
            later code does; heatmap: weighted by the Grad-CAM heatmap of the disease, as the paper's section 3.1 says;
            box: inside the box that the radiomic features are of. Images without a disease are taken whole.
        threshold: share of a heatmap's range above which a pixel can belong to the box, at least 0 and below 1. Half of
            the range is the value of the authors' later code.
        shrink_whole_image: replace a box that covers the whole image by the middle of the image, as the authors' later
            code does.
        positive_boxes: source of the boxes in which the positives' radiomic features are computed. gradcam: true boxes
            of annotated images, else Grad-CAM, as the paper has it. The others are controls: whole: the whole image;
            middle: the middle half of both sides; random: drawn anew for each image in each epoch, each side from a
            quarter to three quarters of the image's; annotated: true boxes alone, other images have no positive.
        positive_features: radiomic features that an image gets as its positive. real: its own, as the paper has it. The
            others are controls: shuffled: those of another ill image of the same step; constant: zeros, the mean.
        projection: width of the space in which images and radiomic features are compared.
        hidden: width of the hidden layers of the projectors and of the radiomic encoder.
        learning_rate: learning rate of Adam after the warm-up.
        warmup_epochs: number of epochs in which the learning rate rises linearly and only classification is trained.
        schedule: epoch from which the decay of the learning rate counts. decay_after_warmup: from the end of the
            warm-up. literal: from the first one, as the paper reads: the rate is down to 1e-5 when the contrastive loss
            begins, and 2.8 % of its sum comes after that.
        decay: factor of the learning rate after every ``decay_epochs`` epochs.
        decay_epochs: number of epochs between two decays of the learning rate.
        weight_decay: decoupled weight decay per step (AdamW), times the learning rate, of weights but not of biases and
            normalisations; 0: plain Adam, the paper's.
        ema: decay per step of an exponential moving average of the weights, 0 or more and below 1, such as 0.999. The
            average is validated and saved as the model; the checkpoint has the current weights too. 0: none, as in the
            paper.
        patience: number of epochs without a better val/auc after which training ends; epochs of the warm-up do not
            count. 0: train all epochs, as in the paper.
        channels_last: keep the encoder's weights and activations in the memory format in which tensor cores work; the
            results change by rounding.
        compile: compile the encoder with torch.compile, which takes about a minute in each run; the results change by
            rounding.
        seed: seed of the disease that is drawn for each image in each epoch.

    Example:
        >>> model = KACL(weights=None, diseases=["Mass", "Effusion"]).eval()
        >>> model(torch.zeros(3, 1, 64, 64, dtype=torch.uint8)).shape
        torch.Size([3, 2])
    """

    body_parts: Tensor
    finding_of_class: Tensor

    def __init__(
        self,
        *,
        diseases: list[str] = list(DISEASES),  # noqa: B006 - never changed
        findings: list[str] = list(ALL_DISEASES),  # noqa: B006 - never changed
        max_value: float = 255.0,
        encoder: Encoder = "resnet18",
        weights: str | None = "imagenet",
        stride: Stride = 32,
        last_layer: str | None = None,
        last_frozen: str | None = None,
        loss: Loss = "focal",
        alpha: float = 0.25,
        gamma: float = 2.0,
        bias: Bias = "log_odds",
        byop: bool = True,
        hard_negatives: bool = True,
        body_parts: dict[str, str] | None = None,
        contrastive_weight: float = 0.01,
        temperature: float = 0.5,
        contrastive: Form = "printed",
        attend: Attend = "image",
        threshold: float = 0.5,
        shrink_whole_image: bool = False,
        positive_boxes: PositiveBoxes = "gradcam",
        positive_features: PositiveFeatures = "real",
        projection: int = 128,
        hidden: int = 512,
        learning_rate: float = 0.001,
        warmup_epochs: int = 10,
        schedule: Schedule = "decay_after_warmup",
        decay: float = 0.1,
        decay_epochs: int = 5,
        weight_decay: float = 0.0,
        ema: float = 0.0,
        patience: int = 0,
        channels_last: bool = False,
        compile: bool = False,
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
        if learning_rate > 1e30 or decay > 1:  # Adam's first step is ten learning rates, and must stay a float32
            raise InputError(
                f"learning_rate must be at most 1e30 (0.001 is usual) and decay at most 1, got {learning_rate}, {decay}"
            )
        for name, value, choices in (
            ("stride", stride, Stride),
            ("loss", loss, Loss),
            ("bias", bias, Bias),
            ("contrastive", contrastive, Form),
            ("attend", attend, Attend),
            ("positive_boxes", positive_boxes, PositiveBoxes),
            ("positive_features", positive_features, PositiveFeatures),
            ("schedule", schedule, Schedule),
        ):
            check_choice(name, value, choices)
        if not 0 <= weight_decay < math.inf or not 0 <= ema < 1:
            raise InputError(
                f"weight_decay must be at least 0 and finite, ema at least 0 and below 1; got {weight_decay}, {ema}"
            )
        for name, number in (("warmup_epochs", warmup_epochs), ("patience", patience)):
            if number < 0:
                raise InputError(f"{name} must be at least 0, got {number}")
        for name, number in (("decay_epochs", decay_epochs), ("projection", projection), ("hidden", hidden)):
            if number < 1:
                raise InputError(f"{name} must be at least 1, got {number}")
        own = isinstance(encoder, nn.Module)
        if own and (weights not in (None, "imagenet") or stride != 32 or last_layer or last_frozen):
            raise InputError(
                "weights, stride, last_layer and last_frozen are of encoders by name: a module has its own"
            )
        self.save_hyperparameters(ignore=["weights", "encoder"])
        # A checkpoint brings the weights of its training, so loading it must not ask for others
        self.save_hyperparameters({"weights": None, "initial_weights": None if own else weights})
        self.save_hyperparameters({"encoder": f"{OWN_MODULE} ({type(encoder).__name__})" if own else encoder})
        self.settings: Any = self.hparams
        self.diseases, self.findings = list(diseases), list(findings)
        check_diseases(self.diseases, self.findings)
        numbers = part_numbers(self.findings, body_parts)
        # One body part for all makes every other finding a negative
        parts = numbers if hard_negatives else torch.zeros_like(numbers)
        self.register_buffer("body_parts", parts, persistent=False)
        columns = [self.findings.index(name) if name in self.findings else -1 for name in self.diseases]
        self.register_buffer("finding_of_class", torch.tensor(columns), persistent=False)  # -1: No Finding
        self.encoder = make_encoder(encoder, weights, stride, last_layer, last_frozen)
        if isinstance(self.encoder, ImageEncoder):
            self.encoder.max_value = max_value
        if channels_last:
            self.encoder.to(memory_format=torch.channels_last)
        self.classifier = nn.Linear(self.encoder.channels, len(diseases))
        nn.init.zeros_(self.classifier.bias)
        self.is_new = True  # neither trained nor loaded: the bias may be set
        if byop:
            self.byop = BYOP(threshold, shrink_whole_image, positive_boxes=positive_boxes, seed=seed)
            features = len(self.byop.feature_names)
            self.normaliser = FeatureNormaliser(features)
            self.radiomic_encoder = RadiomicEncoder(self.normaliser.out_features, hidden, hidden)
            self.image_projector = Projector(self.encoder.channels, hidden, projection)
            self.radiomic_projector = Projector(hidden, hidden, projection)
            self.epoch_means = nn.ModuleDict({name: WeightedMean() for name in EPOCH_MEANS})
        # The callback StepTimes replaces it
        self.timed: Callable[[str], AbstractContextManager[None]] = untimed
        self.epoch_predictions = EpochPredictions()
        self.predictions: Batch = {}  # tables of the last evaluation, in the order of the data
        self.grid: tuple[int, int] | None = None  # height and width of the last activations of an evaluation
        self.validated_epoch = -1  # the last one, for the trainer keeps its AUC in epochs without a validation
        self.previous_boxes: tuple[Tensor, Tensor] | None = None  # rows and boxes of the last validation, for the drift

    # --- the training step

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, D) of raw images (B, 1, H, W)."""
        return self.classifier(self.encoder(images)[1])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of samples of `kacl_gpu.kacl.data.dataset.NIHChestXray14`."""
        settings, timed = self.settings, self.timed
        images, labels = batch["image"], batch["labels"]
        with timed("forward"):
            activations, pooled = self.encoder(images)
            logits = self.classifier(pooled)
            loss = classification = self.classification_loss(logits, labels, gather=True)
        if settings.byop and self.has_all_losses(self.current_epoch):
            is_disease = self.finding_of_class >= 0  # No Finding has no region
            candidates = torch.where(is_disease, labels, 0)
            disease = draw_disease(candidates, batch["index"], self.current_epoch, settings.seed)
            counter: dict[str, Any] = {"index": batch["index"], "epoch": self.current_epoch}
            positives = self.byop(
                images, activations, self.classifier.weight, disease, true_boxes=batch["boxes"], timed=timed, **counter
            )
            with timed("contrastive"):
                z_image = self.image_projector(
                    self.image_features(activations, pooled, positives, (images.shape[-2], images.shape[-1]))
                )
                # The normaliser sees the real features, so that a control has the same statistics
                features = control_features(
                    settings.positive_features, self.normaliser(positives.features), positives.valid,
                    **counter, seed=settings.seed, gather=True,
                ).to(self.classifier.weight.dtype)  # fmt: skip
                z_radiomic = self.radiomic_projector(self.radiomic_encoder(features))
                contrast = contrastive_loss(
                    z_image,
                    z_radiomic,
                    batch["findings"],
                    torch.where(disease >= 0, self.finding_of_class[disease.clamp(min=0)], -1),
                    batch["normal"],
                    self.body_parts,
                    temperature=settings.temperature,
                    form=settings.contrastive,
                    valid=positives.valid,
                    gather=True,
                )
                weight = settings.contrastive_weight
                loss = weight * contrast.loss + (1 - weight) * classification
                agreement = alignment(z_image, z_radiomic, contrast.is_anchor, gather=True)
            self._log_positives(positives, disease)
            counts = {"anchors": contrast.anchors.float(), "without_negatives": contrast.without_negatives.float()}
            self._log({"contrastive": contrast.loss, **counts})
            self._log_means(agreement, contrast)
        self._log({"loss": loss, "classification": classification})
        if is_distributed() and not self.has_all_losses(self.current_epoch):
            # DistributedDataParallel waits for a gradient of each parameter
            loss = loss + 0 * torch.stack([parameter.sum() for parameter in self._contrastive_branch()]).sum()
        return loss

    def has_all_losses(self, epoch: int) -> bool:
        """Return True if every loss is trained in an epoch, counted from 0: with BYOP those after the warm-up.

        Example:
            >>> KACL(weights=None, warmup_epochs=3).has_all_losses(2), KACL(weights=None, byop=False).has_all_losses(2)
            (False, True)
        """
        return not self.settings.byop or epoch >= self.settings.warmup_epochs

    def is_validated_with_all_losses(self, epoch: int) -> bool:
        """Return True if an epoch, counted from 0, can be the best one: every loss was trained, and there is an AUC."""
        return self.has_all_losses(epoch) and self.validated_epoch == epoch

    def on_after_backward(self) -> None:
        """Drop the contrastive branch's gradients of the warm-up, zeros that Adam would count as steps."""
        if not self.has_all_losses(self.current_epoch):
            for parameter in self._contrastive_branch():
                parameter.grad = None

    def _contrastive_branch(self) -> list[nn.Parameter]:
        """Return the parameters that only the contrastive loss trains."""
        modules = (self.radiomic_encoder, self.image_projector, self.radiomic_projector)
        return [parameter for module in modules for parameter in module.parameters()]

    def image_features(
        self, activations: Tensor, pooled: Tensor, positives: Positives, size: tuple[int, int]
    ) -> Tensor:
        """Return the features (B, C) that z_i is made of; the pooled ones for an image without a region."""
        if self.settings.attend == "image":
            return pooled
        if self.settings.attend == "heatmap":
            features = pool_heatmap(activations, positives.heatmaps)
        else:
            boxes = torch.where(positives.valid[:, None], positives.boxes, 0)
            features = pool_box(activations, boxes, size)
        return torch.where(positives.valid[:, None], features.to(pooled.dtype), pooled)

    def classification_loss(self, logits: Tensor, labels: Tensor, *, gather: bool = False) -> Tensor:
        """Return the focal loss or the cross-entropy, averaged over the labels that are certain (of all processes)."""
        if self.settings.loss == "focal":
            return focal_loss(logits, labels, alpha=self.settings.alpha, gamma=self.settings.gamma, gather=gather)
        return cross_entropy(logits, labels, gather=gather)

    def _log(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.log(f"train/{name}", value.detach(), on_step=False, on_epoch=True, sync_dist=True)
            # The steps' values are of this process alone, for averaging in each step would cost time
            if name in ("loss", "contrastive", "classification"):
                shown = name != "classification"
                self.log(f"step/{name}", value.detach(), on_step=True, on_epoch=False, prog_bar=shown)

    def _log_positives(self, positives: Positives, disease: Tensor) -> None:
        """Log the shares of ill images whose box is a true one, a fallback, the whole image, or without features."""
        ill = disease >= 0
        number = ill.sum().clamp(min=1)
        kinds = {
            "annotated": positives.annotated,
            "fallback": positives.fallback,
            "whole": positives.covers_image,
            "invalid": ill & ~positives.valid,
        }
        self._log({name: kind.sum() / number for name, kind in kinds.items()})

    def _log_means(self, agreement: Alignment, contrast: ContrastiveLoss) -> None:
        """Log what is averaged over the anchors of the epoch, not over its steps."""
        anchors = agreement.anchors
        means = {
            "radiomic_cosine": (agreement.cosine, agreement.pairs),
            **{name: (getattr(agreement, name), anchors) for name in ("nearest", "nearest_10", "chance", "chance_10")},
            "negatives": (contrast.negatives / anchors.clamp(min=1), anchors),
        }
        for name, (value, weight) in means.items():
            mean: Any = self.epoch_means[name]
            mean.update(value, weight)
            self.log(f"train/{name}", mean, on_step=False, on_epoch=True)

    def on_train_epoch_end(self) -> None:
        """Warn if the radiomic embeddings have collapsed."""
        settings, cosine = self.settings, self.trainer.callback_metrics.get("train/radiomic_cosine")
        if cosine is not None and cosine > COLLAPSED:
            remedy = (
                f"train with model.contrastive=symmetric, which keeps them apart as {settings.contrastive} does not"
            )
            if settings.contrastive == "symmetric":
                remedy = "try a lower model.temperature or a larger model.contrastive_weight"
            rank_zero_warn(
                f"the radiomic embeddings have collapsed in epoch {self.current_epoch}: those of different images have "
                f"a mean cosine of {float(cosine):.3f} (above {COLLAPSED}), so an image is compared with much the same "
                "vector as any other, and its radiomic features teach the network next to nothing. New networks begin "
                f"like this; if it stays so after a few epochs of the contrastive loss, {remedy}"
            )

    # --- validation and test

    def on_validation_epoch_start(self) -> None:
        self.epoch_predictions.reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the logits, and a Grad-CAM box of each disease that an image is labelled with or has a true box of."""
        images, labels, true_boxes = batch["image"], batch["labels"], batch["boxes"]
        size = images.shape[-2], images.shape[-1]
        activations, pooled = self.encoder(images)
        self.grid = activations.shape[2], activations.shape[3]
        logits = self.classifier(pooled).float()
        boxes = torch.full_like(true_boxes, torch.nan)
        has_region = ((labels > 0) | has_box(true_boxes)) & (self.finding_of_class >= 0)  # No Finding has no region
        image, disease = has_region.nonzero(as_tuple=True)
        boxes[image, disease] = self.look(activations[image], disease, size)[1].boxes.to(boxes.dtype)
        self.epoch_predictions.update(batch["index"], logits, labels, boxes, true_boxes)

    test_step = validation_step

    def look(self, activations: Tensor, disease: Tensor, size: tuple[int, int]) -> tuple[Tensor, Boxes]:
        """Return the heatmaps (B, H, W) and boxes of one disease per image, for images of this size."""
        settings = self.settings
        weight, shrink = self.classifier.weight, settings.shrink_whole_image
        return look(activations, weight, disease, size, settings.threshold, shrink)

    def on_validation_epoch_end(self) -> None:
        stage = "test" if self.trainer.testing else "val"
        self.predictions = tables = self.epoch_predictions.compute()
        self.epoch_predictions.reset()
        measures = {"loss": self.classification_loss(tables["logits"], tables["labels"])}
        measures |= epoch_measures(tables, self.diseases)
        if stage == "val" and not self.trainer.sanity_checking:
            self.validated_epoch = self.current_epoch
            rows, boxes = first_boxes(tables)
            if self.previous_boxes is not None and len(rows) and torch.equal(rows, self.previous_boxes[0]):
                measures["box_drift"] = 1 - iou(boxes, self.previous_boxes[1]).mean()
            self.previous_boxes = rows, boxes
        self.log_dict({f"{stage}/{name}": value for name, value in measures.items()}, rank_zero_only=False)
        if stage == "val" and "auc" in measures:
            self.log("auc", measures["auc"], prog_bar=True, logger=False)

    on_test_epoch_end = on_validation_epoch_end

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the last validation's boxes, so that a resumed run measures their drift in its first epoch too."""
        if self.previous_boxes is not None:
            checkpoint["boxes_before"] = [*self.previous_boxes]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.is_new = False
        if "boxes_before" in checkpoint:
            rows, boxes = checkpoint["boxes_before"]
            self.previous_boxes = rows, boxes

    # --- optimisation

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            synchronise_batchnorm(self.encoder, self.trainer.strategy.root_device)
        if stage == "fit":
            if self.settings.bias == "log_odds" and self.is_new:
                self._set_bias()
            self.is_new = False
            if self.settings.compile:
                self.encoder.compile()

    def _set_bias(self) -> None:
        """Set the classifier's bias to the log-odds of each class in the training split, the same in all processes."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ChestXrays):
            rank_zero_warn(
                "the classifier's bias begins at 0: the log-odds of the classes are known of ChestXrays alone"
            )
            return
        labels = torch.from_numpy(data.train.table[self.diseases].to_numpy(float))
        with torch.no_grad():
            self.classifier.bias.copy_(log_odds(labels))

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that average the weights and that end the training early, if the settings say so."""
        callbacks: list[Callback] = []
        if self.settings.ema:
            callbacks.append(WeightAveraging(avg_fn=moving_average(self.settings.ema)))
        if self.settings.patience:
            callbacks.append(Patience(self.settings.patience))
        return callbacks

    def rate(self, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch, counted from 0."""
        warmup = self.settings.warmup_epochs
        counted = epoch if self.settings.schedule == "literal" else max(epoch - warmup, 0)
        return min((epoch + 1) / max(warmup, 1), 1.0) * self.settings.decay ** (counted // self.settings.decay_epochs)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam or AdamW, and a learning rate that changes between epochs."""
        settings, parameters = self.settings, list(self.parameters())
        options: dict[str, Any] = {"lr": settings.learning_rate}
        # One kernel for all parameters; while gradients are scaled it cannot clip them
        if parameters[0].is_cuda and not self.trainer.gradient_clip_val:
            options["fused"] = True
        optimizer: torch.optim.Optimizer
        if settings.weight_decay:
            matrices = [parameter for parameter in parameters if parameter.ndim > 1]
            vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
            groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
            optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, **options)
        else:
            optimizer = torch.optim.Adam(parameters, **options)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)}


class Patience(EarlyStopping):
    """End the training when the validation's AUC has not improved for some epochs in which every loss was trained.

    Args:
        patience: number of such epochs.

    Example:
        >>> Patience(3).monitor
        'val/auc'
    """

    def __init__(self, patience: int) -> None:
        # Without positives and negatives of a disease there is no AUC, and no end either
        super().__init__("val/auc", mode="max", patience=patience, strict=False, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Train no further if the run had ended before it was resumed."""
        trainer.should_stop = trainer.should_stop or self.stopped_epoch > 0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, KACL)
        if pl_module.is_validated_with_all_losses(trainer.current_epoch):
            super().on_train_epoch_end(trainer, pl_module)


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return a function that moves an average towards a tensor, for ``torch.optim.swa_utils.AveragedModel``.

    Other than torch's own it copies integers, such as counts, which rounding would change.

    Example:
        >>> moving_average(0.75)(torch.tensor(1.0), torch.tensor(3.0), 1)
        tensor(1.5000)
    """

    def move(average: Tensor, current: Tensor, number: Tensor | int) -> Tensor:
        return average.lerp(current, 1 - decay) if average.is_floating_point() else current

    return move


def log_odds(labels: Tensor) -> Tensor:
    """Return the log-odds of each class: the logarithm of its positives over its negatives.

    Args:
        labels: (N, C), 1, 0, or -1 for an uncertain label, which does not count.

    Returns:
        (C,) float64. No positives, or no negatives, count as half a one, so that all values are finite.

    Example:
        >>> log_odds(torch.tensor([[1, 0], [0, 0], [0, -1], [0, 0], [-1, 0]])).exp()
        tensor([0.3333, 0.1250], dtype=torch.float64)
    """
    positives, negatives = ((labels == value).sum(0).double().clamp(min=0.5) for value in (1, 0))
    return (positives / negatives).log()
