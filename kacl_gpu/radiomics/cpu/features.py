"""Features: their formulas, evaluated on arrays."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from ..features import CLASSES, evaluate, group_by_class
from ._regions import Array

OVERFLOW = (
    "{} feature values (of {}, among others) are beyond the range of float32 and became infinite: ask for "
    "dtype=torch.float64, or scale the images"
)


def features(
    sums: Sequence[Array], spacing: Array, status: Array, *, names: Sequence[str], dtype: torch.dtype
) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.features`."""
    columns = []
    for table, (class_name, selected) in zip(sums, group_by_class(names)):
        rows = table if table.ndim == 3 else table[:, None]
        columns.append(evaluate(*CLASSES[class_name], rows, spacing, selected))
    result = np.concatenate(columns, 1)
    result[status != 0] = np.nan
    if dtype == torch.float64:
        return result
    with np.errstate(over="ignore"):
        narrow = result.astype(np.float32)
    if (overflown := np.isinf(narrow) & np.isfinite(result)).any():
        feature = names[int(overflown.any(0).argmax())]
        warnings.warn(OVERFLOW.format(overflown.sum(), feature), stacklevel=2)
    return narrow
