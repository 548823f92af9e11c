"""``shape`` under Triton's interpreter against the CPU implementation."""

import itertools

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.common import launch
from kacl_gpu.kernels.shape import (
    LINES,
    LISTED,
    RUN,
    SQUARE_OF_ALL,
    SQUARES,
    SUMS,
    compare_points,
    measure_planes,
    shape,
)
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.columns import SHAPE
from kacl_gpu.radiomics.constants import TILE
from tests.kernels.interpreting import LAYOUTS, pack, same

pytestmark = pytest.mark.interpreted


def masks() -> list[np.ndarray]:
    """Return full boxes, one voxel wide masks, noise, a ball, a shell, far corners, an oblique plane, and nothing."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((7, 8, 9))
    distance = np.sqrt((z - 3) ** 2 + (y - 4) ** 2 + (x - 4) ** 2)
    apart = np.zeros((9, 4, 10), bool)
    apart[0, 0, 0] = apart[8, 3, 9] = apart[8, 0, 2] = True
    inner = np.zeros((9, 9, 9), bool)
    inner[3:5, 4:6, 2:8] = True
    boxes = [np.ones(shape, bool) for shape in ((1, 1, 1), (3, 4, 5), (1, 1, 20), (12, 1, 1), (1, 9, 2))]
    noise = [rng.random(shape) < 0.5 for shape in ((7, 6, 5), (1, 16, 33), (10, 11, 10), (9, 2, 3))]
    solid = [distance < 3.5, (distance < 3.5) & (distance > 2), z + y - x == 3, (z == y) & (y == x)]
    return [*boxes, *noise, *solid, apart, inner, np.zeros((3, 4, 4), bool)]


def spacing_of(number: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(0.3, 3, (number, 3)))


def test_shape() -> None:
    """The bits of the CPU, in both layouts and types."""
    volumes = [mask.astype(np.int64) for mask in masks()]
    spacing = spacing_of(len(volumes))
    for dtype, slots, some in zip((torch.uint8, torch.int16), LAYOUTS, (slice(None), slice(5, None, 3))):
        where = pack(volumes[some], slots, dtype)
        chosen = spacing[some].contiguous()
        same(shape(*where, chosen), ops.shape(*where, chosen))


def test_shape_of_boxes() -> None:
    """Without a mask, the bits that a full one gives on the CPU."""
    shapes = [*itertools.product((1, 2, 5), repeat=3), (30, 1, 1), (2, 40, 9), (6, 7, 8), (9, 4, 3), (8, 8, 8)]
    volumes = [np.ones(one, np.int64) for one in shapes]
    spacing = spacing_of(len(volumes))
    mask, start, size = pack(volumes)
    same(shape(None, start, size, spacing), ops.shape(mask, start, size, spacing))
    size[3] = 0  # a region that cannot be computed
    same(shape(None, start, size, spacing), ops.shape(None, start, size, spacing))
    assert shape(None, start[:0], size[:0], spacing[:0]).shape == (0, 10)


def test_shape_alone_and_of_nothing() -> None:
    volumes = [mask.astype(np.int64) for mask in masks()]
    spacing = spacing_of(len(volumes))
    together = ops.shape(*pack(volumes), spacing)
    for k in (5, 9, 15):
        same(shape(*pack(volumes[k : k + 1]), spacing[k : k + 1]), together[k : k + 1])
    assert shape(*pack([]), spacing[:0]).shape == (0, 10)


def test_ends_of_rows_fit_into_the_block() -> None:
    """Each region's part of the scratch memory is as large as its block, whatever its proportions."""
    for shortest in range(1, 130):
        for middle in range(shortest, 1500):
            block = -(-shortest * middle * middle // TILE) * TILE  # the smallest one of these sides
            assert 2 * (2 * shortest + 1) * (2 * middle + 1) <= block
            assert 4 * shortest + 2 <= TILE * max(1, block // TILE)


def test_planes_need_more_than_a_tile_each() -> None:
    """Then some of the programs have none; with tiles as small as this one, two of four."""
    z, y, x = np.indices((11, 16, 18))
    mask, start, size = pack([((z - 5) ** 2 / 30 + (y - 8) ** 2 / 60 + (x - 9) ** 2 / 75 <= 1).astype(np.int64)])
    spacing = torch.tensor([[1.5, 1.0, 0.7]], dtype=torch.float64)
    sums, ends = torch.zeros((1, SUMS.value), dtype=torch.int64), torch.empty(2 * len(mask), dtype=torch.int32)
    assert 40 < 4 * 11 + 2 <= 80 and len(mask) == 4 * TILE
    options = {"TILE": 40, "LINES": LINES, "RUN": RUN}
    launch(measure_planes, (4,), mask, start, size, spacing, ends, sums, 1, 4, len(mask), **options)
    squares = sums[0, SQUARES.value : SQUARE_OF_ALL.value].view(torch.float64)
    columns = [SHAPE.diameter_slice, SHAPE.diameter_column, SHAPE.diameter_row]
    same(squares.sqrt(), ops.shape(mask, start, size, spacing)[0, columns])


def test_compare_more_points_than_the_programs_take_at_once() -> None:
    """The two points furthest apart are in the last blocks of the list."""
    volume = np.ones((8, 16, 16), np.int64)  # two programs
    _, start, size = pack([volume])
    number = 2 * (2 * 8 + 1) * (2 * 16 + 1)
    ends = torch.full((2 * volume.size,), 16, dtype=torch.int32)
    count = 5 * LINES
    listed = torch.arange(count, dtype=torch.int32)
    ends[count - 1], ends[count - LINES - 1] = 2, 33
    sums = torch.zeros((1, SUMS.value), dtype=torch.int64)
    sums[0, LISTED.value] = count
    spacing = torch.tensor([[1e-3, 1e-3, 2.0]], dtype=torch.float64)
    assert number > count
    launch(compare_points, (2,), start, size, spacing, ends[: volume.size], listed, sums, 1, 2, LINES=LINES)
    square = sums[0, SQUARE_OF_ALL.value].view(torch.float64)
    assert 31**2 <= square < 31**2 + 0.01
