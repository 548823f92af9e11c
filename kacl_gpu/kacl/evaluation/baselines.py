"""Boxes that no network was trained for, and those of a heatmap that knows the true box, as tables of `predictions`.

A network localises only if its boxes are better than boxes that need no image. What it can reach is bounded by the
resolution of its maps: a box that is smaller than a cell of the last layer cannot be drawn on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kacl_gpu.io.boxes import BOX_COLUMNS

from ..boxes import heatmap_boxes
from ..cam import heatmaps
from .predictions import component_boxes

WHOLE_IMAGE, MIDDLE_HALF, MEAN_BOX = "whole image", "middle half", "mean training box"
KNOWING = "map that knows the box"
MIDDLE = (0.25, 0.75)  # of each side
KEYS = ["image", "patient", "disease"]


def baseline_boxes(
    truth: pd.DataFrame,
    training: pd.DataFrame,
    grid: tuple[int, int],
    size: int,
    threshold: float = 0.5,
    shrink_whole_image: bool = False,
) -> tuple[dict[str, pd.DataFrame], str]:
    """Return the boxes of :func:`untrained_boxes`, and after them those of :func:`knowing_boxes`, by name.

    Args:
        truth, training, size: see :func:`untrained_boxes`.
        grid, threshold, shrink_whole_image: see :func:`knowing_boxes`.

    Returns:
        The tables, and the sentence of :func:`mean_training_boxes`.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=16, y2=32)
        >>> [*baseline_boxes(truth, truth, (2, 2), 32)[0]]
        ['whole image', 'middle half', 'mean training box', 'map that knows the box (2 x 2)']
    """
    boxes = untrained_boxes(truth, training, size)
    boxes[knowing_name(grid)] = knowing_boxes(truth, grid, size, threshold, shrink_whole_image)
    return boxes, mean_training_boxes(training, [*truth["disease"].unique()], size)[1]


def knowing_name(grid: tuple[int, int]) -> str:
    """Return the name of the map that knows the box, with its resolution.

    Example:
        >>> knowing_name((8, 8))
        'map that knows the box (8 x 8)'
    """
    return f"{KNOWING} ({grid[0]} x {grid[1]})"


def untrained_boxes(truth: pd.DataFrame, training: pd.DataFrame, size: int) -> dict[str, pd.DataFrame]:
    """Return a box that no network was trained for in place of each prediction, of three kinds.

    The whole image; its middle half, which is `MIDDLE` of each side; and :func:`mean_training_boxes`.

    Args:
        truth: true boxes: image, patient, disease, x1, y1, x2, y2, in pixels.
        training: true boxes of the training images, likewise.
        size: side of the images in pixels.

    Returns:
        The name of each kind, and its table for `measures.overlaps`: image, patient, disease, rank, x1, y1, x2, y2; a
        row for each image and disease of ``truth``.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=2, y2=2)
        >>> untrained_boxes(truth, truth, 8)["middle half"][["x1", "y1", "x2", "y2"]].to_numpy().tolist()
        [[2.0, 2.0, 6.0, 6.0]]
    """
    cases = truth[KEYS].drop_duplicates().reset_index(drop=True)
    means = mean_training_boxes(training, [*cases["disease"].unique()], size)[0]
    corners = {
        WHOLE_IMAGE: np.tile([0.0, 0.0, size, size], (len(cases), 1)),
        MIDDLE_HALF: np.tile(_middle(size), (len(cases), 1)),
        MEAN_BOX: means.loc[cases["disease"]].to_numpy(float).reshape(-1, 4),
    }
    return {name: cases.assign(rank=0, **dict(zip(BOX_COLUMNS, places.T))) for name, places in corners.items()}


def mean_training_boxes(training: pd.DataFrame, diseases: Sequence[str], size: int) -> tuple[pd.DataFrame, str]:
    """Return the mean of the training boxes of each disease, edge by edge, and what stands in for it, in words.

    A disease without a training box gets the mean over all training boxes; without any, the middle half of the image.

    Args:
        training: disease, x1, y1, x2, y2; a row for each box.
        diseases: names.
        size: side of the images in pixels.

    Returns:
        x1, y1, x2, y2 by disease; and a sentence on the diseases without a training box, empty if each has one.

    Example:
        >>> training = pd.DataFrame({"disease": ["Mass", "Mass"], "x1": [0, 2], "y1": 0, "x2": 4, "y2": 8})
        >>> table, words = mean_training_boxes(training, ["Mass", "Nodule"], 8)
        >>> table.loc["Mass"].tolist()
        [1.0, 0.0, 4.0, 8.0]
        >>> words
        'No training image has a box of Nodule: the mean over the boxes of all diseases stands in.'
    """
    columns = [*BOX_COLUMNS]
    means = training.groupby("disease")[columns].mean().reindex([*diseases])
    lacking = [str(name) for name in means.index[means["x1"].isna()]]
    fallback = training[columns].mean().to_numpy(float) if len(training) else _middle(size)
    means.loc[lacking] = fallback
    if not lacking:
        return means, ""
    substitute = "the mean over the boxes of all diseases" if len(training) else "the middle half of the image"
    return means, f"No training image has a box of {', '.join(lacking)}: {substitute} stands in."


def coverage(boxes: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Return the share of each cell of a grid over the image that lies inside a box.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels, inside the image.
        grid: (h, w), number of cells.
        size: side of the image in pixels.

    Returns:
        (N, h, w), float64, from 0 to 1.

    Example:
        >>> coverage(torch.tensor([[0.0, 2.0, 3.0, 4.0]]), (2, 2), 4)
        tensor([[[0.0000, 0.0000],
                 [1.0000, 0.5000]]], dtype=torch.float64)
    """
    boxes = boxes.double()
    shares = []
    for cells, low, high in ((grid[0], 1, 3), (grid[1], 0, 2)):
        edges = torch.arange(cells + 1, dtype=torch.float64) * (size / cells)
        common = torch.minimum(boxes[:, high, None], edges[1:]) - torch.maximum(boxes[:, low, None], edges[:-1])
        shares.append(common.clamp(min=0) * (cells / size))
    return shares[0][:, :, None] * shares[1][:, None, :]


def knowing_boxes(
    truth: pd.DataFrame, grid: tuple[int, int], size: int, threshold: float = 0.5, shrink_whole_image: bool = False
) -> pd.DataFrame:
    """Return the boxes of maps that know the true boxes: the ceiling that the resolution of a network's maps sets.

    For each image and disease the true boxes are drawn on the network's grid by :func:`coverage`, summed, and cut at 1;
    the rest is what happens to a Grad-CAM map: it is scaled and resized, and thresholded into boxes.

    Args:
        truth: true boxes: image, patient, disease, x1, y1, x2, y2, in pixels.
        grid: (h, w) of the network's last activations.
        size: side of the images in pixels.
        threshold: as of `kacl_gpu.kacl.boxes.heatmap_boxes`.
        shrink_whole_image: likewise.

    Returns:
        The table ``boxes`` of `kacl_gpu.kacl.evaluation.predictions.Predictions`.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=16, y2=32)
        >>> knowing_boxes(truth, (2, 2), 32)[["x1", "y1", "x2", "y2"]].iloc[0].tolist()
        [0.0, 0.0, 16.0, 32.0]
    """
    cases = truth[KEYS].drop_duplicates().reset_index(drop=True)
    drawn = coverage(torch.tensor(truth[[*BOX_COLUMNS]].to_numpy(float)), grid, size)
    codes = truth[KEYS].merge(cases.reset_index(names="case"), on=KEYS)["case"].to_numpy()
    maps = torch.zeros(len(cases), *grid, dtype=torch.float64)
    maps.index_add_(0, torch.tensor(codes), drawn)
    parts = []
    for chunk in range(0, len(cases), 64):
        enlarged = heatmaps(maps[chunk : chunk + 64].clamp(max=1), (size, size))
        top = heatmap_boxes(enlarged, threshold, shrink_whole_image)
        row, rank, total, fallback, boxes = component_boxes(enlarged, top, threshold)
        table = cases.iloc[chunk + row].assign(rank=rank, total=total, fallback=fallback)
        parts.append(table.assign(**dict(zip(BOX_COLUMNS, boxes.T))))
    return pd.concat(parts, ignore_index=True) if parts else cases.reindex(columns=[*KEYS, "rank", *BOX_COLUMNS])


def _middle(size: int) -> np.ndarray:
    """Return the middle half of an image: x1, y1, x2, y2."""
    low, high = MIDDLE
    return np.array([low, low, high, high]) * size
