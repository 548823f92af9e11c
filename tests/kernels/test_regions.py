"""``locate`` under Triton's interpreter against torch."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.regions import locate
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.status import Status

pytestmark = pytest.mark.interpreted

IMAGES = torch.empty((3, 10, 12))
BAD_SPACINGS = [(0.0, 1.0), (1.0, -2.0), (np.nan, 1.0), (1.0, np.inf), (1.0, 1e-310), (2.0, 3.0)]
SPACINGS = torch.tensor([[0.5, 1.0], [0.25, 3.0], [2.0, 7.0]], dtype=torch.float64)


def odd_rows() -> torch.Tensor:
    odd = [-np.inf, np.nan, -5.0, -0.5, 0.0, 0.5, 3.0, 9.7, 10.0, 1e300, np.inf]
    rows = [(0, *box) for box in itertools.product(odd, repeat=4)]
    rows += [(index, 1.0, 2.0, 3.0, 4.0) for index in (-1, 0.5, 1, 2, 3, np.nan, np.inf, 1e30)]
    rows += [(7, np.nan, 2.0, 1.0, 4.0), (0, 20.0, 2.0, 10.0, 4.0)]
    return torch.tensor(rows, dtype=torch.float64)


def agree(*tensors: Any, pair: list[float]) -> tuple[torch.Tensor, ...]:
    twin = ops.locate(*tensors, pair=pair)
    for ours, expected in zip(locate(*tensors, pair=pair), twin):
        assert torch.equal(ours, expected) and ours.dtype == expected.dtype
    return twin


@pytest.mark.parametrize("spacing", [None, SPACINGS, SPACINGS[:1].expand(3, 2)], ids=["pair", "images", "expanded"])
def test_locate(spacing: torch.Tensor | None) -> None:
    status = agree(IMAGES, odd_rows(), spacing, pair=[0.1, 0.7])[-1]
    assert len(set(status.tolist())) == 5  # fine, and each of the four problems


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64])
def test_locate_boxes_of_each_type(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1, 2, 3, 7, 8], [0, 0, 0, 12, 10], [5, 1, 1, 2, 2]]).to(dtype)
    agree(IMAGES, rows, SPACINGS, pair=[1.0, 1.0])
    agree(IMAGES, rows[:, 1:], None, pair=[1.0, 1.0])
    agree(IMAGES, rows[:, [0, 3, 2, 1, 4]][:, 1:], None, pair=[1.0, 1.0])


def test_locate_where_spacings_are_no_sizes() -> None:
    """A region of such an image is invalid, unless it has a worse problem."""
    images, spacing = torch.empty((6, 10, 12)), torch.tensor(BAD_SPACINGS, dtype=torch.float64)
    rows = torch.tensor([(index, 1, 2, 8, 9) for index in range(7)] + [(0, 8, 2, 1, 9), (5, 8, 2, 1, 9)]).double()
    *_, of_region, status = agree(images, rows, spacing, pair=[1.0, 1.0])
    bad = Status.SPACING
    expected = [bad, bad, bad, bad, Status.OK, Status.OK, Status.IMAGE_INDEX, *[Status.BOX_INVERTED] * 2]
    assert status.tolist() == expected
    assert of_region[:6].tolist() == [[1.0, 1.0]] * 4 + [[1.0, 1e-310], [2.0, 3.0]]
    turned = spacing.T.contiguous().T
    agree(images, None, turned, pair=[1.0, 1.0])


def test_locate_whole_images_and_nothing() -> None:
    agree(IMAGES, None, SPACINGS, pair=[1.0, 1.0])
    agree(IMAGES[:, :0], None, None, pair=[2.0, 1.0])
    agree(IMAGES[:1, :1, :1], odd_rows()[:1], None, pair=[1.0, 1.0])
    agree(IMAGES[:0], odd_rows(), SPACINGS[:0], pair=[1.0, 1.0])
    agree(IMAGES, odd_rows()[:0], SPACINGS, pair=[1.0, 1.0])
    agree(IMAGES[:0], None, None, pair=[1.0, 1.0])
