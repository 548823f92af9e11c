"""The smallest box around each label of label maps."""

import numpy as np

from ..columns import BOX
from ._compile import jit
from ._regions import Array
from ._threads import for_each


def label_boxes(masks: Array, image_index: Array, box: Array, labels: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.label_boxes`."""
    out = np.zeros((len(box), labels.shape[1], len(BOX)), np.int64)
    if masks.dtype in (np.bool_, np.float16):  # Numba reads neither
        masks = masks.view(np.uint8) if masks.dtype == np.bool_ else masks.astype(np.float32)

    def task(k: int) -> None:
        z0, y0, x0, z1, y1, x1 = box[k].tolist()
        part = masks[image_index[k], z0:z1, y0:y1, x0:x1]
        extend_boxes(part, labels[k % len(labels)], out[k])
        out[k][out[k, :, BOX.x1] > 0] += (z0, y0, x0, z0, y0, x0)

    for_each(task, len(box), len(box) * masks[:1].size)
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
