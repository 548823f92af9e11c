"""Boxes that nobody trained, and boxes of a map that knows the true ones, by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("lightning")

from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.kacl.evaluation.baselines import (
    coverage,
    knowing_boxes,
    mean_training_boxes,
    untrained_boxes,
)
from kacl_gpu.kacl.evaluation.measures import overlaps

SIZE = 64


def boxes_of(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Return a table of true boxes from rows of image, disease, x1, y1, x2, y2."""
    table = pd.DataFrame(rows, columns=["image", "disease", *BOX_COLUMNS])
    table.insert(1, "patient", 1)
    return table


TRUTH = boxes_of(
    ("a", "Mass", 0, 0, 32, 64),
    ("a", "Mass", 40, 40, 48, 48),
    ("a", "Nodule", 16, 16, 48, 48),
    ("b", "Hernia", 0, 0, 64, 64),
)
TRAINING = boxes_of(
    ("c", "Mass", 0, 0, 20, 20),
    ("d", "Mass", 10, 30, 30, 60),
    ("d", "Nodule", 1, 2, 3, 4),
    ("e", "Edema", 9, 9, 19, 19),
)


def test_boxes_that_need_no_image() -> None:
    boxes = untrained_boxes(TRUTH, TRAINING, SIZE)
    assert [*boxes] == ["whole image", "middle half", "mean training box"]
    expected = {
        "whole image": [[0, 0, 64, 64]] * 3,
        "middle half": [[16, 16, 48, 48]] * 3,
        # Hernia has no training box: the mean of all four
        "mean training box": [[5, 15, 25, 40], [1, 2, 3, 4], [5, 10.25, 18, 25.75]],
    }
    for name, places in expected.items():
        assert boxes[name][["image", "disease"]].to_numpy().tolist() == [
            ["a", "Mass"],
            ["a", "Nodule"],
            ["b", "Hernia"],
        ]
        assert boxes[name][[*BOX_COLUMNS]].to_numpy().tolist() == places
    iou = {name: overlaps(TRUTH, table)["top"].tolist() for name, table in boxes.items()}
    assert iou["whole image"] == pytest.approx([1 / 2, 64 / 4096, 1 / 4, 1])
    assert iou["middle half"] == pytest.approx([512 / (2048 + 1024 - 512), 64 / 1024, 1, 1 / 4])
    assert iou["mean training box"][0] == pytest.approx(500 / 2048)


def test_a_disease_without_training_boxes_is_named() -> None:
    means: Any
    means, words = mean_training_boxes(TRAINING, ["Mass", "Hernia", "Fibrosis"], SIZE)
    assert words.startswith("No training image has a box of Hernia, Fibrosis: the mean over the boxes of all diseases")
    assert means.loc["Mass"].tolist() == [5, 15, 25, 40]
    means, words = mean_training_boxes(TRAINING[:0], ["Mass"], SIZE)
    assert words == "No training image has a box of Mass: the middle half of the image stands in."
    assert means.loc["Mass"].tolist() == [16, 16, 48, 48]
    assert mean_training_boxes(TRAINING, ["Mass", "Nodule"], SIZE)[1] == ""


@pytest.mark.parametrize("grid", [(4, 4), (2, 8), (7, 7)])
def test_coverage_by_counting_pixels(grid: tuple[int, int]) -> None:
    """Boxes on a grid of 1/7 pixel, so that every cell and every box is a whole number of counted squares."""
    fine, size = 7, 8
    random = np.random.default_rng(0)
    for _ in range(20):
        x1, x2 = sorted(random.choice(fine * size + 1, 2, replace=False))
        y1, y2 = sorted(random.choice(fine * size + 1, 2, replace=False))
        squares = np.zeros((fine * size, fine * size))
        squares[y1:y2, x1:x2] = 1
        h, w = fine * size // grid[0], fine * size // grid[1]
        expected = squares.reshape(grid[0], h, grid[1], w).mean((1, 3))
        box = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float64) / fine
        assert coverage(box, grid, size)[0].numpy() == pytest.approx(expected, abs=1e-12)


def test_a_map_that_knows_boxes_of_whole_cells_finds_them() -> None:
    """Half the image on a grid of 4: the map falls from 1 to 0 between the middles of cells, half way at the edge."""
    halves = boxes_of(("a", "Mass", 0, 0, 32, 64), ("b", "Mass", 0, 32, 64, 64))
    table = knowing_boxes(halves, (4, 4), SIZE)
    assert table[[*BOX_COLUMNS]].to_numpy().tolist() == halves[[*BOX_COLUMNS]].to_numpy().tolist()
    assert overlaps(halves, table)["top"].tolist() == [1, 1] and not table["fallback"].any()


def test_a_map_cannot_draw_what_is_smaller_than_a_cell() -> None:
    """A box of 4 pixels in the middle of a cell of 16: the map is that of the whole cell, on any scale."""
    small, cell = (boxes_of(("a", "Mass", *box)) for box in ((22, 22, 26, 26), (16, 16, 32, 32)))
    drawn = knowing_boxes(small, (4, 4), SIZE)[[*BOX_COLUMNS]].to_numpy()
    assert drawn.tolist() == knowing_boxes(cell, (4, 4), SIZE)[[*BOX_COLUMNS]].to_numpy().tolist()
    x1, y1, x2, y2 = drawn[0]
    # the product of two ramps is above 1/2 within 16 (1 - 1/2) pixels of the middle, and less far off the axes
    assert (x1, y1, x2, y2) == (16, 16, 32, 32)
    assert overlaps(small, knowing_boxes(small, (4, 4), SIZE))["top"].tolist() == [16 / 256]
    # ... and a finer grid comes closer
    assert overlaps(small, knowing_boxes(small, (16, 16), SIZE))["top"][0] > 0.2


def test_several_boxes_of_a_disease_are_one_map() -> None:
    two = boxes_of(("a", "Mass", 0, 0, 16, 16), ("a", "Mass", 32, 32, 64, 64), ("a", "Nodule", 0, 0, 64, 64))
    table = knowing_boxes(two, (4, 4), SIZE)
    mass = table[table["disease"] == "Mass"]
    assert mass["rank"].tolist() == [0, 1]
    compared = overlaps(two, table)
    assert compared["best"].min() == compared["best"][0] > 0.5 and compared["top"][0] == 0
    # a box that covers everything is a constant map, which shows nothing: the whole image, as in training
    assert compared["top"][2] == 1 and table.loc[table["disease"] == "Nodule", "fallback"].all()


def test_a_box_inside_another_adds_nothing_to_the_map() -> None:
    outer = ("a", "Mass", 0, 0, 32, 64)
    alone, nested = boxes_of(outer), boxes_of(outer, ("a", "Mass", 0, 0, 16, 16))
    expected = knowing_boxes(alone, (4, 4), SIZE)[[*BOX_COLUMNS]].to_numpy().tolist()
    assert knowing_boxes(nested, (4, 4), SIZE, 0.6)[[*BOX_COLUMNS]].to_numpy().tolist() == (
        knowing_boxes(alone, (4, 4), SIZE, 0.6)[[*BOX_COLUMNS]].to_numpy().tolist()
    )
    assert knowing_boxes(nested, (4, 4), SIZE)[[*BOX_COLUMNS]].to_numpy().tolist() == expected


def test_threshold_and_shrinking_are_those_of_the_model() -> None:
    one = boxes_of(("a", "Mass", 16, 16, 32, 32))
    areas = []
    for threshold in (0.2, 0.5, 0.8):
        x1, y1, x2, y2 = knowing_boxes(one, (4, 4), SIZE, threshold)[[*BOX_COLUMNS]].to_numpy()[0]
        areas.append((x2 - x1) * (y2 - y1))
    assert areas[0] > areas[1] > areas[2]
    everything = boxes_of(("a", "Mass", 0, 0, 64, 64))
    box = knowing_boxes(everything, (4, 4), SIZE, shrink_whole_image=True)[[*BOX_COLUMNS]].to_numpy()[0]
    assert box == pytest.approx([64 * 24 / 224] * 2 + [64 * 200 / 224] * 2)


def test_more_cases_than_fit_at_once_and_none() -> None:
    many = boxes_of(*((f"{k}", "Mass", 0, 0, 32, 64) for k in range(70)))
    table = knowing_boxes(many, (4, 4), SIZE)
    assert table["image"].tolist() == many["image"].tolist()
    assert overlaps(many, table)["top"].eq(1).all()
    assert overlaps(many[:0], knowing_boxes(many[:0], (4, 4), SIZE)).empty
