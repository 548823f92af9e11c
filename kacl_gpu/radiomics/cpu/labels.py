"""The smallest box around each label of label maps."""

from typing import Any

import numpy as np

from ..columns import BOX
from ._compile import jit
from ._regions import Array
from ._threads import COMPILED, for_each, for_each_region

AT_ONCE = 128  # voxels that are compared with one value
LARGEST = np.iinfo(np.int64).max


def label_boxes(masks: Array, image_index: Array, box: Array, labels: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.label_boxes`."""
    out = np.zeros((len(box), labels.shape[1], len(BOX)), np.int64)
    if masks.dtype in (np.bool_, np.float16):  # Numba reads neither
        masks = masks.view(np.uint8) if masks.dtype == np.bool_ else masks.astype(np.float32)

    def task(k: int, parts: int) -> None:
        z0, y0, x0, z1, y1, x1 = box[k].tolist()
        of_parts = np.zeros((parts, *out[k].shape), np.int64)
        begin = [z0 + (z1 - z0) * part // parts for part in range(parts + 1)]

        def extend(part: int) -> None:
            volume = masks[image_index[k], begin[part] : begin[part + 1], y0:y1, x0:x1]
            corners = of_parts[part]
            extend_boxes(volume, labels[k % len(labels)], corners)
            corners[corners[:, BOX.x1] > 0] += (begin[part], y0, x0, begin[part], y0, x0)

        for_each(extend, parts, (z1 - z0) * (y1 - y0) * (x1 - x0) * COMPILED)
        near, far = of_parts[:, :, : BOX.z1], of_parts[:, :, BOX.z1 :]
        empty = far[:, :, -1:] == 0
        out[k, :, BOX.z1 :] = far.max(0)
        out[k, :, : BOX.z1] = np.where(empty.all(0), 0, np.where(empty, LARGEST, near).min(0))

    side = box[:, BOX.z1 :] - box[:, : BOX.z1]
    for_each_region(task, side.prod(1).tolist())
    return out


@jit
def extend_boxes(mask: Array, labels: Array, boxes: Array) -> None:
    """Extend the boxes (L, 6) of ``labels`` (L,), ascending, by each run of one of them along a row of (D, H, W)."""
    depth, height, width = mask.shape
    for z in range(depth):
        for y in range(height):
            x = 0
            while x < width:
                value, first = mask[z, y, x], x
                x += 1
                while x + AT_ONCE <= width and is_constant(mask[z, y, x : x + AT_ONCE], value):
                    x += AT_ONCE
                while x < width and mask[z, y, x] == value:
                    x += 1
                low, high = 0, labels.size
                while low < high:
                    middle = (low + high) // 2
                    if labels[middle] < value:
                        low = middle + 1
                    else:
                        high = middle
                if low < labels.size and labels[low] == value:
                    corners = boxes[low]
                    if corners[BOX.x1] == 0:  # nothing of it so far
                        corners[BOX.z0], corners[BOX.y0], corners[BOX.x0] = z, y, first
                    corners[BOX.y0], corners[BOX.x0] = min(corners[BOX.y0], y), min(corners[BOX.x0], first)
                    corners[BOX.z1] = z + 1
                    corners[BOX.y1], corners[BOX.x1] = max(corners[BOX.y1], y + 1), max(corners[BOX.x1], x)


@jit
def is_constant(values: Array, value: Any) -> bool:
    """Return True if all of some values are equal to one, by a loop without a branch, which takes many at once."""
    differs = np.uint8(0)
    for x in range(values.size):
        differs |= np.uint8(values[x] != value)
    return bool(differs == 0)
