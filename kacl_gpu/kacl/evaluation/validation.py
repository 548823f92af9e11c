"""Predictions of a validation or test epoch, gathered over all processes, and the measures computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from ..boxes import has_box

IOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of localisation, as in the paper

NAMES = ("index", "logits", "labels", "boxes", "true_boxes")


class EpochPredictions(Metric):
    """Collect the predictions of an epoch, over all processes, and return each image once, in the order of the data.

    Example:
        >>> predictions = EpochPredictions()
        >>> box = torch.tensor([[[0.0, 0.0, 2.0, 2.0]]]).expand(2, 1, 4)
        >>> predictions.update(torch.tensor([1, 0]), torch.tensor([[3.0], [4.0]]), torch.ones(2, 1), box, box)
        >>> predictions.compute()["logits"]
        tensor([[4.],
                [3.]])
    """

    full_state_update = False
    index: list[Tensor]
    logits: list[Tensor]
    labels: list[Tensor]
    boxes: list[Tensor]
    true_boxes: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in NAMES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, logits: Tensor, labels: Tensor, boxes: Tensor, true_boxes: Tensor) -> None:
        """Add a batch.

        Args:
            index: (B,) int64, row of the data set.
            logits: (B, D).
            labels: (B, D), 1, 0, or below 0 for uncertain.
            boxes: (B, D, 4), predicted, x1, y1, x2, y2; NaN if there is none.
            true_boxes: (B, D, 4); NaN if there is none.
        """
        for name, value in zip(NAMES, (index, logits, labels, boxes, true_boxes), strict=True):
            getattr(self, name).append(value)

    def compute(self) -> dict[str, Tensor]:
        """Return the predictions of all processes by name, each image once, sorted by index, on the CPU."""
        # Lists in one process; torchmetrics concatenates them when it gathers
        tables = {name: dim_zero_cat(getattr(self, name)).cpu() for name in NAMES}
        rows = tables["index"]
        order = rows.argsort(stable=True)
        # The sampler pads with images, so that all processes have equally many
        first = order[torch.cat([torch.ones(1, dtype=torch.bool), rows[order].diff() != 0])]
        return {name: table[first] for name, table in tables.items()}


class WeightedMean(Metric):
    """Average values with weights over an epoch and over all processes; NaN if all weights are 0.

    ``torchmetrics.MeanMetric`` either reads whether a value is NaN, for which the host waits, or drops the weights.

    Example:
        >>> mean = WeightedMean()
        >>> mean.update(torch.tensor(1.0), torch.tensor(3.0))
        >>> mean.update(torch.tensor(2.0), torch.tensor(1.0))
        >>> mean.compute()
        tensor(1.2500)
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("total", "weight"):
            self.add_state(name, default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Add a value, 0-dim, with its weight."""
        self.total = self.total + value * weight
        self.weight = self.weight + weight

    def compute(self) -> Tensor:
        """Return the mean, 0-dim."""
        return self.total / self.weight


def epoch_measures(predictions: dict[str, Tensor], diseases: Sequence[str]) -> dict[str, Tensor]:
    """Return the AUC of each disease that has both positives and negatives, their mean, and the accuracy of boxes.

    Labels below 0 are uncertain and left out of the AUC of their disease. A box is right if its intersection
    over union with the true one, the largest of its image and disease, is above the threshold. Without any AUC, or any
    true box, there is no mean of it.

    Args:
        predictions: tables of :meth:`EpochPredictions.compute`.
        diseases: names of the D columns.

    Example:
        >>> box = torch.tensor([[[0.0, 0.0, 2.0, 2.0]]]).expand(2, 1, 4)
        >>> tables = {"logits": torch.tensor([[2.0], [-2.0]]), "labels": torch.tensor([[1.0], [0.0]])}
        >>> epoch_measures({**tables, "boxes": box, "true_boxes": box}, ["Mass"])["auc_Mass"]
        tensor(1.)
    """
    measures = {}
    for name, logits, labels in zip(diseases, predictions["logits"].T, predictions["labels"].T):
        is_certain = labels >= 0
        if 0 < labels[is_certain].sum() < is_certain.sum():
            measures[f"auc_{name}"] = binary_auroc(logits[is_certain], labels[is_certain].int())
    if measures:
        measures["auc"] = torch.stack(list(measures.values())).mean()
    annotated = has_box(predictions["true_boxes"])
    if annotated.any():
        overlap = iou(predictions["boxes"][annotated], predictions["true_boxes"][annotated])
        measures["iou"] = overlap.mean()
        measures |= {f"localisation_{t}": (overlap > t).float().mean() for t in IOU_THRESHOLDS}
    return measures


def first_boxes(predictions: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the rows (n,) of the images with a predicted box of a label, and the first such box (n, 4) of each.

    Args:
        predictions: tables of :meth:`EpochPredictions.compute`.

    Example:
        >>> boxes = torch.arange(16.0).reshape(2, 2, 4)
        >>> first_boxes({"index": torch.tensor([5, 6]), "labels": torch.tensor([[0, 0], [0, 1]]), "boxes": boxes})
        (tensor([6]), tensor([[12., 13., 14., 15.]]))
    """
    has_prediction = (predictions["labels"] > 0) & has_box(predictions["boxes"])
    is_ill = has_prediction.any(1)
    first = predictions["boxes"][torch.arange(len(is_ill)), has_prediction.int().argmax(1)]
    return predictions["index"][is_ill], first[is_ill]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union (N,) of boxes (N, 4) and (N, 4), pair by pair.

    Example:
        >>> iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
        tensor([0.3333])
    """
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    return common / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - common)
