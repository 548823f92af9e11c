"""``label_boxes`` under Triton's interpreter against the CPU implementation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu.kernels import labels as kernels
from kacl_gpu.kernels.labels import label_boxes
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import same

pytestmark = pytest.mark.interpreted

DTYPES = [torch.bool, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64, torch.float32, torch.float64]
BOXES = torch.tensor(
    [
        *([0, 0, 0, 1, 37, 41], [0, 3, 5, 1, 37, 6], [0, 0, 0, 0, 0, 0]),
        *([0, 30, 2, 1, 31, 41], [0, 1, 40, 1, 2, 41], [0, 5, 7, 1, 25, 33]),
    ]
)
IMAGES = torch.tensor([0, 1, 0, 1, 0, 1])


def label_map(dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Return two maps (2, 1, 37, 41) of blocks and dots of labels up to 9."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 10, (2, 8, 6)), np.ones((5, 7), int))[:, :37, :41]
    dots = rng.integers(0, 10, blocks.shape)
    return torch.from_numpy(np.where(rng.random(blocks.shape) < 0.1, dots, blocks)[:, None]).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_label_boxes(dtype: torch.dtype) -> None:
    masks = label_map(dtype)
    for labels in ([[1]], [[1, 2, 5, 9]], [[4]] * 6, [[n, n + 2, n + 300] for n in range(1, 7)], [[300, 2**40]]):
        arguments = masks, IMAGES, BOXES, torch.tensor(labels)
        same(label_boxes(*arguments), ops.label_boxes(*arguments))


def test_label_boxes_of_parts_and_nothing() -> None:
    masks = label_map(torch.int32).transpose(2, 3)[:, :, 1:, 2:]
    box = torch.tensor([[0, 0, 0, 1, 40, 35], [0, 2, 3, 1, 9, 4]])
    for arguments in (
        (masks, torch.tensor([1, 0]), box, torch.tensor([[3, 7]])),
        (masks, torch.tensor([1, 0])[:0], box[:0], torch.tensor([[3, 7]])),
        (masks, torch.tensor([1, 0]), box, torch.zeros((1, 0), dtype=torch.int64)),
        (masks[:, :, :0], torch.tensor([0, 1]), box * 0, torch.tensor([[3]])),
    ):
        same(label_boxes(*arguments), ops.label_boxes(*arguments))


def test_label_boxes_beyond_a_tile_and_of_values_that_are_no_labels() -> None:
    masks = torch.zeros((1, 1, 80, 70))
    masks[0, 0, 20:71, 1:69], masks[0, 0, 0, 0], masks[0, 0, 30] = 3.0, torch.nan, 3.5
    masks[0, 0, 31, 5], masks[0, 0, 79, 69], masks[0, 0, 40, 40] = -torch.inf, 2.0**24 + 2, torch.inf
    box, labels = torch.tensor([[0, 0, 0, 1, 80, 70]]), torch.tensor([[2, 3, 2**24 + 1, 2**24 + 2]])
    arguments = masks, torch.tensor([0]), box, labels
    nothing = [0] * 6
    expected = torch.tensor([[nothing, [0, 20, 1, 1, 71, 69], nothing, [0, 79, 69, 1, 80, 70]]])
    same(label_boxes(*arguments), expected)
    same(ops.label_boxes(*arguments), expected)


def test_label_boxes_of_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that touch each face or none, several in a tile, and more tiles than programs."""
    monkeypatch.setattr(kernels, "PROGRAMS", 2)
    monkeypatch.setattr(kernels, "ALL_PROGRAMS", 2)
    rng = np.random.default_rng(2)
    masks = torch.zeros((2, 13, 20, 23), dtype=torch.int16)
    masks[0, 2:11, 3:17, 4:20] = 3
    masks[0, 5, 6:9] = torch.from_numpy(rng.integers(0, 4, (3, 23)))
    masks[1] = torch.from_numpy(rng.integers(0, 3, (13, 20, 23)) * (rng.random((13, 20, 23)) < 0.01))
    masks[1, 12, 19, 22] = 7
    box = torch.tensor([[0, 0, 0, 13, 20, 23], [0, 0, 0, 13, 20, 23], [1, 4, 5, 13, 20, 21], [4, 0, 2, 5, 20, 3]])
    for index in (torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0, 1, 0])):
        for labels in ([[3]], [[1, 2, 3, 7]], [[n] for n in (1, 2, 3, 7)]):
            for map_ in (masks, masks.transpose(1, 3).contiguous().transpose(1, 3)):
                arguments = map_, index, box, torch.tensor(labels)
                same(label_boxes(*arguments), ops.label_boxes(*arguments))
