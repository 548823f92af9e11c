"""Place of each region: box, size and spacing, and why it has none."""

from collections.abc import Sequence

import numpy as np

from ..columns import BOX, SIZE, SPACING
from ..status import Status
from ._regions import Array


def locate(
    images: Array, boxes: Array | None, spacing: Array | None, *, pair: Sequence[float]
) -> tuple[Array, Array, Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.locate`."""
    count, height, width = images.shape
    rows = np.array([[0.0, 0.0, width, height]]).repeat(count, 0) if boxes is None else boxes.astype(np.float64)
    if rows.shape[1] == len(BOX):  # one box per image
        rows = np.concatenate([np.arange(count, dtype=np.float64)[:, None], rows], 1)
    index, x1, y1, x2, y2 = rows.T
    corners = np.nan_to_num(np.stack([np.floor(y1), np.floor(x1), np.ceil(y2), np.ceil(x2)], 1))
    clipped = corners.clip(0, [height, width, height, width])
    known = (index >= 0) & (index < count) & (index == np.floor(index))

    pixel = np.broadcast_to(np.array(pair, np.float64), (len(rows), len(SPACING)))
    if spacing is not None and count > 0:
        pixel = spacing[np.where(known, index, 0).astype(np.int64)]
    is_size = np.logical_and.reduce(np.isfinite(pixel) & (pixel > 0), 1)
    status = np.zeros(len(rows), np.int32)
    for bad, code in (
        (~is_size, Status.SPACING),
        ((clipped[:, BOX.y0] >= clipped[:, BOX.y1]) | (clipped[:, BOX.x0] >= clipped[:, BOX.x1]), Status.BOX_OUTSIDE),
        ((x2 <= x1) | (y2 <= y1), Status.BOX_INVERTED),
        (~np.isfinite(rows[:, 1:]).all(1), Status.BOX_NOT_FINITE),
        (~known, Status.IMAGE_INDEX),
    ):
        status[bad] = code
    valid = status == Status.OK
    box = np.where(valid[:, None], clipped, 0).astype(np.int64)
    size = np.ones((len(rows), len(SIZE)), np.int64)
    size[:, SIZE.height] = box[:, BOX.y1] - box[:, BOX.y0]
    size[:, SIZE.width] = box[:, BOX.x1] - box[:, BOX.x0]
    return np.where(valid, index, 0).astype(np.int64), box, size, np.where(is_size[:, None], pixel, 1.0), status
