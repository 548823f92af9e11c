"""Pictures: heatmaps over radiographs with true and predicted boxes; the curves of a run; the figures of an
evaluation. They are not pyplot's: no display is asked for, and none needs to be closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from kacl_gpu.io.tables import atomic_file

TRUE, PREDICTED = "#ffd400", "#e5262b"  # yellow and red, as in the paper's figure

# Titles of the pictures of `curves` and the columns of metrics.csv that each shows, the contrastive branch's last
CURVES = (
    ("classification loss", ("train/classification", "val/loss")),
    ("contrastive loss", ("train/contrastive",)),
    ("AUC of the validation", ("val/auc",)),
    ("cosine of radiomic embeddings", ("train/radiomic_cosine",)),
    (
        "images that find their own radiomics",
        ("train/nearest", "train/chance", "train/nearest_10", "train/chance_10"),
    ),
    ("anchors and negatives", ("train/anchors", "train/without_negatives", "train/negatives")),
)


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
        title: of the figure.

    Example:
        >>> import torch
        >>> maps, box = torch.rand(2, 8, 8), torch.tensor([[1.0, 1.0, 4.0, 5.0]] * 2)
        >>> len(panels(maps[:, None], maps, box, box, ["Mass", "Nodule"]).axes)
        4
    """
    count = len(images)
    figure = Figure(figsize=(2.6 * max(count, 1), 6.0), layout="constrained")
    axes = figure.subplots(2, max(count, 1), squeeze=False)
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
    figure.legend(*_boxes_of_legend(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def curves(table: pd.DataFrame) -> Figure:
    """Draw a run's metrics.csv over the epochs: losses, AUC, and what the contrastive loss does, if there is one.

    Chance is dotted: the share of images that would find their own radiomic embedding in a random order.

    Args:
        table: columns epoch, train/classification, val/auc and, if they exist, the others of `CURVES`.

    Example:
        >>> len(curves(pd.DataFrame({"epoch": [0, 1], "val/auc": [0.6, 0.7]})).axes)
        3
        >>> len(curves(pd.DataFrame({"epoch": [0, 1], "train/nearest": [0.1, 0.2]})).axes)
        6
    """
    contrastive = any(name in table for _, names in CURVES[3:] for name in names)
    rows = 2 if contrastive else 1
    figure = Figure(figsize=(11, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, 3).flat
    for axis, (title, names) in zip(axes, CURVES):
        for name in names:
            if name in table:
                dotted = {"linestyle": ":", "color": "0.5"} if name.startswith("train/chance") else {"marker": "."}
                axis.plot(table["epoch"] + 1, table[name], label=name, **dotted)
                axis.legend(frameon=False, fontsize=8)
        axis.set(title=title, xlabel="epoch", xlim=(0.5, len(table) + 0.5))
    return figure


def comparison(
    images: Tensor,
    rows: Sequence[tuple[str, Tensor, Tensor]],
    true_boxes: Sequence[np.ndarray],
    titles: Sequence[str],
) -> Figure:
    """Draw the paper's Figure 5: the radiographs with true boxes, and below what each model makes of them.

    Args:
        images: (N, 1, H, W).
        rows: of each model its name, heatmaps (N, H', W'), 0 to 1, and boxes (N, 4) in pixels of these heatmaps.
        true_boxes: of each image (K, 4) in its pixels.
        titles: of each image.

    Example:
        >>> import torch
        >>> maps, boxes = torch.rand(1, 8, 8), torch.tensor([[1.0, 1.0, 4.0, 5.0]])
        >>> len(comparison(maps[:, None], [("full", maps, boxes)], [boxes.numpy()], ["Mass"]).axes)
        2
    """
    count, (height, width) = len(images), images.shape[-2:]
    size = (2.1 * count + 0.4, 2.25 * (len(rows) + 1) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows) + 1, count, squeeze=False)
    for k, title in enumerate(titles):
        for axis in axes[:, k]:
            axis.imshow(images[k, 0].cpu().numpy(), cmap="gray")
            for box in true_boxes[k]:
                _box(axis, box, TRUE)
            axis.set(xticks=[], yticks=[])
        axes[0, k].set_title(title, fontsize=9)
    axes[0, 0].set_ylabel("original", fontsize=10)
    for line, (name, maps, boxes) in zip(axes[1:], rows):
        line[0].set_ylabel(name, fontsize=10)
        scale = np.array([width / maps.shape[2], height / maps.shape[1]] * 2)
        for axis, heatmap, box in zip(line, maps.cpu().numpy(), boxes.cpu().numpy()):
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axis.imshow(heatmap, cmap="jet", alpha=0.4, vmin=0, vmax=1, extent=extent)
            _box(axis, box * scale, PREDICTED)
    figure.legend(*_boxes_of_legend(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def roc_curves(
    curves: Mapping[str, pd.DataFrame], points: pd.DataFrame, values: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Draw receiver operating curves, an axis for each disease, with the first model's points at the thresholds.

    Args:
        curves: of each model, by its name, disease, fpr and tpr.
        points: disease, sensitivity, specificity.
        values: of each model the AUC of each disease, for the legend.

    Example:
        >>> curve = pd.DataFrame({"disease": "Mass", "fpr": [0.0, 0.0, 1.0], "tpr": [0.0, 1.0, 1.0]})
        >>> point = pd.DataFrame({"disease": ["Mass"], "sensitivity": [1.0], "specificity": [1.0]})
        >>> len(roc_curves({"full": curve}, point, {"full": {"Mass": 1.0}}).axes)
        1
    """
    names = [*dict.fromkeys(next(iter(curves.values()))["disease"])]
    columns = min(4, max(len(names), 1))
    lines = -(-len(names) // columns) or 1
    figure = Figure(figsize=(2.7 * columns, 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names):
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for (model, table), style in zip(curves.items(), ("-", "--")):
            part = table[table["disease"] == name]
            if len(part):
                axis.plot(part["fpr"], part["tpr"], style, label=f"{model} {values[model][name]:.3f}")
        for point in points[points["disease"] == name].itertuples():
            axis.plot(1 - point.specificity, point.sensitivity, "o", color="black", markersize=4)
        axis.set(title=name, xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
        axis.legend(frameon=False, fontsize=8, loc="lower right")
    figure.supxlabel("1 - specificity", fontsize=10)
    figure.supylabel("sensitivity", fontsize=10)
    return figure


def localisation_curves(lines: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the accuracy of boxes over the overlap that counts as right.

    Args:
        lines: by their name in the legend: threshold, value and, where there are intervals, low and high.

    Example:
        >>> line = pd.DataFrame({"threshold": [0.1, 0.3], "value": [0.7, 0.4]})
        >>> localisation_curves({"whole image": line}).axes[0].get_ylabel()
        'accuracy'
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    for k, (name, table) in enumerate(lines.items()):
        has_interval = "low" in table
        # different styles, so that two lines of one course are both visible
        style: dict[str, Any] = {"marker": "osDv"[k % 4], "linestyle": ("-", "--")[k % 2]}
        style = style if has_interval else {"marker": ".", "linestyle": ":", "color": "0.4"}
        (line,) = axis.plot(table["threshold"], table["value"], label=name, **style)
        if has_interval and table["low"].notna().any():
            band: dict[str, Any] = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0}
            axis.fill_between(table["threshold"], table["low"], table["high"], **band)
    axis.set(xlabel="overlap (IoU) above which a box is right", ylabel="accuracy", ylim=(0, 1))
    axis.legend(frameon=False, fontsize=9)
    return figure


def box_confusion(table: pd.DataFrame) -> Figure:
    """Draw a matrix of mean overlaps.

    Args:
        table: rows are the diseases of the true boxes, columns those that the network was asked for.

    Example:
        >>> len(box_confusion(pd.DataFrame([[0.5, 0.1]], index=["Mass"], columns=["Mass", "Nodule"])).axes)
        1
    """
    size = (0.72 * table.shape[1] + 2.4, 0.5 * table.shape[0] + 2.0)
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    values = table.to_numpy(float)
    top = max(float(np.nanmax(values)), 1e-9)
    axis.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        own = table.index[y] == table.columns[x]
        colour = "white" if value > 0.6 * top else "black"
        axis.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour, fontweight="bold" if own else "normal")
    axis.set_xticks(range(table.shape[1]), [*table.columns], rotation=40, ha="right")
    axis.set_yticks(range(table.shape[0]), [*table.index])
    axis.set(xlabel="disease asked for", ylabel="disease of the true box")
    return figure


def effect_map(table: pd.DataFrame) -> Figure:
    """Draw effect sizes of features (rows) over diseases (columns), a map for each kind of boxes.

    Args:
        table: boxes, disease, feature, delta and p_adjusted; a p below 0.05 gets a dot.

    Example:
        >>> row = {"boxes": "true boxes", "disease": "Mass", "feature": "original_glcm_Contrast"}
        >>> len(effect_map(pd.DataFrame([{**row, "delta": 0.4, "p_adjusted": 0.01}])).axes)
        2
    """
    kinds = [*dict.fromkeys(table["boxes"])]
    features = [*dict.fromkeys(table["feature"])]
    counts = [table.loc[table["boxes"] == kind, "disease"].nunique() for kind in kinds]
    counts = [max(count, 4) for count in counts]  # room for the titles
    size = (3.4 + 0.42 * sum(counts), 0.165 * len(features) + 2.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True, width_ratios=counts)
    for axis, kind in zip(axes[0], kinds):
        part = table[table["boxes"] == kind]
        names = [*dict.fromkeys(part["disease"])]
        delta, p = (
            part.pivot(index="feature", columns="disease", values=v).loc[features, names]
            for v in ("delta", "p_adjusted")
        )
        shown = axis.imshow(delta.to_numpy(float), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        y, x = np.nonzero(p.to_numpy(float) < 0.05)
        axis.plot(x, y, ".", color="black", markersize=2.5)
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axis.set_title(kind, fontsize=10)
    axes[0, 0].set_yticks(range(len(features)), [name.removeprefix("original_") for name in features], fontsize=6.5)
    bar = figure.colorbar(shown, ax=axes[0].tolist(), location="top", shrink=0.7, aspect=30, pad=0.01)
    bar.set_label("Cliff's delta; dot: adjusted p below 0.05", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture, completely or not at all.

    Args:
        path: file to write; its suffix is the format.
        dpi: pixels per inch of the figure's size.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "empty.png")
        >>> save_figure(Figure(figsize=(1, 1)), path, dpi=20)
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    with atomic_file(path) as file:
        figure.savefig(file, dpi=dpi, format=path.suffix.removeprefix("."))


def _boxes_of_legend() -> tuple[list[Rectangle], tuple[str, str]]:
    """Return the handles and the words of a legend of boxes."""
    handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=2) for colour in (TRUE, PREDICTED)]
    return handles, ("true box", "predicted box")


def _box(axis: Axes, box: np.ndarray, colour: str) -> None:
    """Draw the outline of a box around its pixels; a box of NaN is none."""
    if not np.isnan(box).any():
        x1, y1, x2, y2 = box
        axis.add_patch(
            Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2, clip_on=False)
        )
