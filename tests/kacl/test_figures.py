"""The curves of a run: which columns are drawn, and where."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib", reason="the extra train is not installed")

from kacl_gpu.kacl.evaluation.figures import curves

COLUMNS = {
    "train/classification": 0,
    "val/loss": 0,
    "train/contrastive": 1,
    "val/auc": 2,
    "train/radiomic_cosine": 3,
    "train/nearest": 4,
    "train/chance_10": 4,
    "train/negatives": 5,
}


def table(names: list[str]) -> pd.DataFrame:
    values = np.random.default_rng(0).random((3, len(names)))
    values[0] = np.nan  # the warm-up
    return pd.DataFrame({"epoch": [0, 1, 2], **dict(zip(names, values.T))})


@pytest.mark.parametrize("names", [[*COLUMNS], ["train/classification", "val/auc"]])
def test_every_column_is_drawn_over_its_epochs(names: list[str]) -> None:
    rows = table(names)
    axes = curves(rows).axes
    assert len(axes) == (6 if "train/negatives" in names else 3)
    drawn = {str(line.get_label()): (k, line) for k, axis in enumerate(axes) for line in axis.get_lines()}
    assert drawn.keys() == {*names}
    for name in names:
        axis, line = drawn[name]
        assert axis == COLUMNS[name]
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), rows[name])
    assert all(line.get_linestyle() == (":" if "chance" in name else "-") for name, (_, line) in drawn.items())
