"""``region_boxes`` under Triton's interpreter against torch."""

import itertools

import numpy as np
import torch

from kacl_gpu.kernels.regions import region_boxes
from kacl_gpu.radiomics import ops


def test_interpret_region_boxes() -> None:
    odd = [-np.inf, np.nan, -5.0, -0.5, 0.0, 0.5, 3.0, 9.7, 10.0, 1e300, np.inf]
    rows = [(0, *box) for box in itertools.product(odd, repeat=4)]
    rows += [(index, 1.0, 2.0, 3.0, 4.0) for index in (-1, 0.5, 1, 2, 3, np.nan, np.inf, 1e30)]
    rows += [(7, np.nan, 2.0, 1.0, 4.0), (0, 20.0, 2.0, 10.0, 4.0)]
    given = torch.tensor(rows, dtype=torch.float64)
    twin = ops.region_boxes(given, 3, 10, 12)
    assert len(set(twin[2].tolist())) == 5  # fine, and each of the four problems
    for ours, expected in zip(region_boxes(given, 3, 10, 12), twin):
        assert torch.equal(ours, expected)
    for ours, expected in zip(region_boxes(given[:1], 1, 1, 1), ops.region_boxes(given[:1], 1, 1, 1)):
        assert torch.equal(ours, expected)
    assert [len(t) for t in region_boxes(given[:0], 3, 10, 12)] == [0, 0, 0]
