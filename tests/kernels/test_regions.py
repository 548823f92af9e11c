"""``locate`` under Triton's interpreter against torch."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.regions import locate
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.status import Status

pytestmark = pytest.mark.interpreted

IMAGES = torch.empty((3, 1, 10, 12))
BAD_SPACINGS = [
    *((0.0, 1.0, 1.0), (1.0, 1.0, -2.0), (1.0, np.nan, 1.0), (np.nan, 1.0, 1.0), (1.0, 1.0, np.inf)),
    *((1.0, 1.0, 1e-310), (1.0, 2.0, 3.0)),
]
SPACINGS = torch.tensor([[1.0, 0.5, 1.0], [2.5, 0.25, 3.0], [1.0, 2.0, 7.0]], dtype=torch.float64)
UNIT = [1.0, 1.0, 1.0]


def odd_rows() -> torch.Tensor:
    odd = [-np.inf, np.nan, -5.0, -0.5, 0.0, 0.5, 3.0, 9.7, 10.0, 1e300, np.inf]
    rows = [(0, *box) for box in itertools.product(odd, repeat=4)]
    rows += [(index, 1.0, 2.0, 3.0, 4.0) for index in (-1, 0.5, 1, 2, 3, np.nan, np.inf, 1e30)]
    rows += [(7, np.nan, 2.0, 1.0, 4.0), (0, 20.0, 2.0, 10.0, 4.0)]
    return torch.tensor(rows, dtype=torch.float64)


def agree(
    images: Any, boxes: Any, spacing: Any, sizes: Any = None, voxel: Sequence[float] = UNIT
) -> tuple[torch.Tensor, ...]:
    twin = ops.locate(images, boxes, spacing, sizes, voxel=voxel)
    for ours, expected in zip(locate(images, boxes, spacing, sizes, voxel=voxel), twin):
        assert torch.equal(ours, expected) and ours.dtype == expected.dtype
    return twin


@pytest.mark.parametrize("spacing", [None, SPACINGS, SPACINGS[:1].expand(3, 3)], ids=["voxel", "images", "expanded"])
def test_locate(spacing: torch.Tensor | None) -> None:
    status = agree(IMAGES, odd_rows(), spacing, voxel=[1.0, 0.1, 0.7])[-1]
    assert len(set(status.tolist())) == 5  # fine, and each of the four problems


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64])
def test_locate_boxes_of_each_type(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1, 2, 3, 7, 8], [0, 0, 0, 12, 10], [5, 1, 1, 2, 2]]).to(dtype)
    agree(IMAGES, rows, SPACINGS)
    agree(IMAGES, rows[:, 1:], None)
    agree(IMAGES, rows[:, [0, 3, 2, 1, 4]][:, 1:], None)


def test_locate_in_volumes() -> None:
    """Each side of a box beyond each face, inverted along each axis, not finite; images of a padded batch."""
    images = torch.empty((3, 5, 10, 12))
    sizes = torch.tensor([[5, 10, 12], [1, 3, 12], [4, 10, 2]])
    rows: list[tuple[float, ...]] = [
        (0, 1, 2, 1, 5, 6, 4),
        (1, 13, 2, 1, 15, 6, 4),
        (2, 1, -4, 1, 5, 0, 4),
        (0, 1, 2, 5, 5, 6, 9),
    ]
    for axis, value in itertools.product(range(6), (-np.inf, np.nan, -3.0, 0.5, 2.0, 4.2, 11.0, 1e300)):
        changed = [*rows[0]]
        changed[1 + axis] = value
        rows += [(image, *changed[1:]) for image in range(3)]
    boxes = torch.tensor(rows, dtype=torch.float64)
    for spacing, of_images in itertools.product((None, SPACINGS), (None, sizes)):
        status = agree(images, boxes, spacing, of_images, voxel=[3.0, 0.5, 0.7])[-1]
        assert len(set(status.tolist())) == 4
        agree(images, boxes[1:4, 1:], spacing, of_images)
        agree(images, None, spacing, of_images)
    agree(images[:, :0], None, None)
    agree(images[:, :0], boxes, None)


def test_locate_where_spacings_are_no_sizes() -> None:
    """A region of such an image is invalid, unless it has a worse problem."""
    images, spacing = torch.empty((7, 1, 10, 12)), torch.tensor(BAD_SPACINGS, dtype=torch.float64)
    rows = torch.tensor([(index, 1, 2, 8, 9) for index in range(8)] + [(0, 8, 2, 1, 9), (6, 8, 2, 1, 9)]).double()
    *_, of_region, status = agree(images, rows, spacing)
    expected = [*[Status.SPACING] * 5, Status.OK, Status.OK, Status.IMAGE_INDEX, *[Status.BOX_INVERTED] * 2]
    assert status.tolist() == expected
    assert of_region[:7].tolist() == [UNIT] * 5 + [[1.0, 1.0, 1e-310], [1.0, 2.0, 3.0]]
    turned = spacing.T.contiguous().T
    agree(images, None, turned)


def test_locate_whole_images_and_nothing() -> None:
    agree(IMAGES, None, SPACINGS)
    agree(IMAGES[:, :, :0], None, None, voxel=[1.0, 2.0, 1.0])
    agree(IMAGES[:1, :, :1, :1], odd_rows()[:1], None)
    agree(IMAGES[:0], odd_rows(), SPACINGS[:0])
    agree(IMAGES, odd_rows()[:0], SPACINGS)
    agree(IMAGES[:0], None, None)
