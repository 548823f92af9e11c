"""``shape2d`` under Triton's interpreter against the CPU implementation."""

import numpy as np
import pytest
import torch

from kacl_gpu.kernels.common import launch
from kacl_gpu.kernels.shape2d import LINES, PARTS, compare_lines, shape2d
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import LAYOUTS, awkward, close, pack, same

pytestmark = pytest.mark.interpreted


def shapes() -> list[np.ndarray]:
    """Full boxes of every proportion, the awkward regions, a disc, a ring, all 2 x 2 masks, two far corners."""
    y, x = np.indices((35, 41))
    distance = np.hypot(y - 17, x - 20)
    squares = [np.array([n & 1, n >> 1 & 1, n >> 2 & 1, n >> 3 & 1]).reshape(1, 2, 2) for n in range(1, 16)]
    tall = np.zeros((1, 40, 3), np.int64)
    tall[0, 2, 0] = tall[0, 39, 2] = tall[0, 20:25, 1] = 1
    boxes = [np.ones((1, h, w), np.int64) for h, w in ((1, 1), (1, 9), (9, 1), (30, 40), (5, 300))]
    return [*boxes, *awkward(3), (distance < 15)[None], ((distance < 16) & (distance > 9))[None], *squares, tall]


def test_shape2d() -> None:
    volumes = [v.astype(np.int64) for v in shapes()]
    spacing = torch.from_numpy(np.random.default_rng(0).uniform(0.3, 3, (len(volumes), 3)))
    for dtype in (torch.uint8, torch.int16):
        rows = []
        for slots in LAYOUTS:
            where = pack(volumes, slots, dtype)
            rows.append(shape2d(*where, spacing))
        twin = ops.shape2d(*where, spacing)
        same(rows[0], rows[1])
        whole = [0, 1, 2, 3, 4, 6, 7, 8]
        same(rows[0][:, whole], twin[:, whole])
        close(rows[0], twin, relative=1e-15, absolute=0)


def test_shape2d_of_boxes() -> None:
    """Without a mask, the bits that a full one gives."""
    shapes = [(1, 1), (1, 9), (9, 1), (30, 40), (5, 300), *((n, 7) for n in range(1, 40))]
    volumes = [np.ones((1, h, w), np.int64) for h, w in shapes]
    spacing = torch.from_numpy(np.random.default_rng(0).uniform(0.3, 3, (len(volumes), 3)))
    mask, start, size = pack(volumes)
    ours, twin = (f(None, start, size, spacing) for f in (shape2d, ops.shape2d))
    same(ours, shape2d(mask, start, size, spacing))
    same(twin, ops.shape2d(mask, start, size, spacing))
    close(ours, twin, relative=1e-15, absolute=0)
    assert shape2d(None, start[:0], size[:0], spacing[:0]).shape == (0, 9)


def test_shape2d_alone_and_of_nothing() -> None:
    volumes = [v.astype(np.int64) for v in shapes()]
    spacing = torch.full((len(volumes), 3), 0.7, dtype=torch.float64)
    together = shape2d(*pack(volumes), spacing)
    for k in (3, 9, 18):
        same(shape2d(*pack(volumes[k : k + 1]), spacing[:1]), together[k : k + 1])
    assert shape2d(*pack([]), spacing[:0]).shape == (0, 9)


def test_compare_more_lines_than_the_programs_take_at_once() -> None:
    """The two vertices furthest apart lie on the last half line, which a program comes to the second time round."""
    side = 257
    number = LINES * PARTS + 1
    assert number == 2 * 256 + 1
    extremes = torch.zeros((number, 2), dtype=torch.int32)  # as ``add_vertices`` leaves them
    first, last = torch.full((number,), 200), torch.full((number,), 310)
    first[-1], last[-1] = 3, 511
    extremes[::3] = torch.stack([2 * side + 1 - first, last + 1], 1)[::3].to(torch.int32)
    extremes[-1] = torch.tensor([2 * side + 1 - 3, 511 + 1], dtype=torch.int32)
    sums = torch.ones((1, 10), dtype=torch.int64)  # a pixel: not the full box
    size, spacing = torch.tensor([[1, 256, side]]), torch.tensor([[2.0, 0.1, 1.5]], dtype=torch.float64)
    longest = torch.empty((1, PARTS), dtype=torch.float64)
    start = torch.zeros(1, dtype=torch.int64)
    launch(compare_lines, (1, PARTS), start, size, sums, extremes, spacing, longest, PARTS, LINES=LINES)
    assert longest.max() == (0.5 * (511 - 3) * 1.5) ** 2
    assert (longest > 0).all() and (longest[0, 1:] < longest[0, 0]).all()
