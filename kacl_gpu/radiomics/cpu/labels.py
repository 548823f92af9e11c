"""The smallest box around each label of label maps."""

import numpy as np

from ..columns import BOX
from ._compile import jit
from ._regions import Array
from ._threads import for_each


def label_boxes(masks: Array, image_index: Array, box: Array, labels: Array) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.label_boxes`."""
    out = np.zeros((len(box), labels.shape[1], 4), np.int64)
    if masks.dtype in (np.bool_, np.float16):  # Numba reads neither
        masks = masks.view(np.uint8) if masks.dtype == np.bool_ else masks.astype(np.float32)

    def task(k: int) -> None:
        extend_boxes(masks[image_index[k]], *box[k], labels[k % len(labels)], out[k])

    for_each(task, len(box), len(box) * masks[:1].size)
    return out


@jit
def extend_boxes(mask: Array, y0: int, x0: int, y1: int, x1: int, labels: Array, boxes: Array) -> None:
    """Extend the boxes (L, 4) of ``labels`` (L,), ascending, by each run of one of them along a row of a box."""
    for y in range(y0, y1):
        x = x0
        while x < x1:
            value, first = mask[y, x], x
            x += 1
            while x < x1 and mask[y, x] == value:
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
                if corners[BOX.y1] == 0:  # nothing of it so far
                    corners[BOX.y0], corners[BOX.x0] = y, first
                corners[BOX.x0], corners[BOX.x1] = min(corners[BOX.x0], first), max(corners[BOX.x1], x)
                corners[BOX.y1] = y + 1
