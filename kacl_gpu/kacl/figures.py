"""Pictures: what the network looks at, heatmaps over radiographs with true and predicted boxes; how a run went."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib

matplotlib.use("agg")  # no display needed
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

TRUE, PREDICTED = "#ffd400", "#e5262b"  # yellow and red, as in the paper's figure


def panels(
    images: Tensor,
    heatmaps: Tensor,
    true_boxes: Tensor,
    boxes: Tensor,
    titles: Sequence[str],
    title: str = "",
) -> Figure:
    """Draw images in columns: above the radiograph with its boxes, below the heatmap over it.

    Args:
        images: (N, 1, H, W), drawn from black at each one's smallest value to white at its largest.
        heatmaps: (N, H, W), 0 to 1.
        true_boxes: (N, 4) x1, y1, x2, y2, drawn in yellow; NaN where there is none.
        boxes: (N, 4), drawn in red; NaN where there is none.
        titles: of each column.
        title: of the whole.

    Returns:
        The figure; close it (`matplotlib.pyplot.close`) after use.
    """
    count = len(images)
    figure, axes = plt.subplots(
        2, max(count, 1), figsize=(2.6 * max(count, 1), 6.0), layout="constrained", squeeze=False
    )
    rows = zip(images.cpu().numpy()[:, 0], heatmaps.cpu().numpy(), true_boxes.cpu().numpy(), boxes.cpu().numpy())
    for column, (image, heatmap, true, predicted), words in zip(axes.T, rows, titles):
        for axis in column:
            axis.imshow(image, cmap="gray")
            _box(axis, true, TRUE)
            _box(axis, predicted, PREDICTED)
        column[1].imshow(heatmap, cmap="jet", alpha=0.4, vmin=0, vmax=1)
        column[0].set_title(words, fontsize=10)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=12)
    handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=2) for colour in (TRUE, PREDICTED)]
    figure.legend(handles, ("true box", "predicted box"), loc="outside lower center", ncols=2, frameon=False)
    return figure


def curves(table: pd.DataFrame) -> Figure:
    """Draw a run's metrics.csv: the losses of training, and the AUC of the validation, over the epochs.

    Args:
        table: columns epoch, train/classification, val/auc and, where they are, train/contrastive and val/loss.

    Returns:
        The figure; close it after use.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    kinds = (
        ("classification loss", ("train/classification", "val/loss")),
        ("contrastive loss", ("train/contrastive",)),
    )
    for axis, (title, names) in zip(axes, (*kinds, ("AUC of the validation", ("val/auc",)))):
        for name in names:
            if name in table:
                axis.plot(table["epoch"] + 1, table[name], marker=".", label=name)
                axis.legend(frameon=False)
        axis.set(title=title, xlabel="epoch", xlim=(0.5, len(table) + 0.5))
    return figure


def _box(axis: Axes, box: np.ndarray, colour: str) -> None:
    if not np.isnan(box).any():
        x1, y1, x2, y2 = box
        axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2))
