"""Place of each region: box, size and spacing, and why it has none."""

from collections.abc import Sequence

import numpy as np

from ..columns import SPACING
from ..status import Status
from ._regions import Array


def locate(
    images: Array, boxes: Array | None, spacing: Array | None, image_size: Array | None, *, voxel: Sequence[float]
) -> tuple[Array, Array, Array, Array, Array]:
    """See :func:`kacl_gpu.radiomics.ops.locate`."""
    count = len(images)
    sizes = np.array([images.shape[1:]]).repeat(count, 0) if image_size is None else image_size
    number = np.arange(count, dtype=np.float64)[:, None]
    if boxes is None:
        rows = np.concatenate([number, np.zeros_like(sizes), sizes[:, ::-1]], 1)
    else:
        rows = boxes.astype(np.float64)
        if rows.shape[1] % 2 == 0:  # one box per image
            rows = np.concatenate([number, rows], 1)
    index, corners = rows[:, 0], rows[:, 1:]
    x1, y1, *z1 = corners[:, : corners.shape[1] // 2].T
    x2, y2, *z2 = corners[:, corners.shape[1] // 2 :].T
    near = np.stack([*z1, y1, x1] if z1 else [np.zeros_like(x1), y1, x1], 1)
    far = np.stack([*z2, y2, x2] if z2 else [np.ones_like(x1), y2, x2], 1)
    known = (index >= 0) & (index < count) & (index == np.floor(index))
    image = np.where(known, index, 0).astype(np.int64)
    limits = sizes[image] if count > 0 else np.zeros_like(near)
    first = np.nan_to_num(np.floor(near)).clip(0, limits)
    last = np.nan_to_num(np.ceil(far)).clip(0, limits)

    side = np.broadcast_to(np.array(voxel, np.float64), (len(rows), len(SPACING)))
    if spacing is not None and count > 0:
        side = spacing[image]
    is_side = np.logical_and.reduce(np.isfinite(side) & (side > 0), 1)
    status = np.zeros(len(rows), np.int32)
    for bad, code in (
        (~is_side, Status.SPACING),
        ((first >= last).any(1), Status.BOX_OUTSIDE),
        ((far <= near).any(1), Status.BOX_INVERTED),
        (~np.isfinite(corners).all(1), Status.BOX_NOT_FINITE),
        (~known, Status.IMAGE_INDEX),
    ):
        status[bad] = code
    valid = (status == Status.OK)[:, None]
    first, last = (np.where(valid, corner, 0).astype(np.int64) for corner in (first, last))
    box = np.concatenate([first, last], 1)
    return np.where(valid[:, 0], image, 0), box, last - first, np.where(is_side[:, None], side, 1.0), status
