"""Measures of an epoch against scikit-learn, with labels that are uncertain."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

pytest.importorskip("torchmetrics", reason="the extra train is not installed")

from kacl_gpu.kacl.evaluation.validation import epoch_measures, first_boxes

NAMES = ["Mass", "Edema", "Hernia"]


def test_uncertain_labels_are_left_out_of_the_auc() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (80, 3), generator=generator).float()
    labels[:, 2] = torch.where(labels[:, 2] == 0, -1, labels[:, 2])  # no certain negative
    logits = torch.randn(80, 3, generator=generator) + labels
    boxes = torch.full((80, 3, 4), torch.nan)
    ours = epoch_measures({"logits": logits, "labels": labels, "boxes": boxes, "true_boxes": boxes}, NAMES)
    expected = [
        roc_auc_score(known[known >= 0], column[known >= 0]) for column, known in zip(logits.T[:2], labels.T[:2])
    ]
    assert ours.keys() == {"auc_Mass", "auc_Edema", "auc"}
    assert [float(ours[f"auc_{name}"]) for name in NAMES[:2]] == pytest.approx(expected, abs=1e-6)
    assert float(ours["auc"]) == pytest.approx(sum(expected) / 2, abs=1e-6)
    assert (
        epoch_measures({"logits": logits, "labels": -torch.ones(80, 3), "boxes": boxes, "true_boxes": boxes}, NAMES)
        == {}
    )


def test_first_boxes_are_of_certain_labels_with_a_predicted_box() -> None:
    """Not of an uncertain label, nor of a class without boxes, as No Finding is, nor of a true box without a label."""
    nan, box = [torch.nan] * 4, [0.0, 0.0, 1.0, 1.0]
    boxes = torch.tensor([[box, [2.0, 2, 3, 3], nan], [nan, nan, nan], [box, nan, nan]])
    labels = torch.tensor([[-1.0, 1, 1], [0, 0, 1], [0, 0, 0]])
    rows, first = first_boxes({"index": torch.tensor([4, 5, 6]), "labels": labels, "boxes": boxes})
    assert rows.tolist() == [4] and first.tolist() == [[2.0, 2, 3, 3]]
