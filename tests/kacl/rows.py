"""Rows of features that the tests of the normaliser share."""

import numpy as np
import torch
from torch import Tensor


def batches(seed: int, sizes: tuple[int, ...] = (7, 1, 0, 12), features: int = 5) -> list[Tensor]:
    """Return rows over many orders of magnitude, of both signs; one row is NaN and so is a single value of another."""
    rng = np.random.default_rng(seed)
    made = []
    for size in sizes:
        x = rng.normal(size=(size, features)) * 10.0 ** np.linspace(-8, 8, features)
        if size > 3:
            x[1] = np.nan
            x[3, 2] = np.inf
        made.append(torch.from_numpy(x))
    return made
