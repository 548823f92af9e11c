"""Features: their formulas, evaluated by torch."""

from collections.abc import Sequence

import numpy as np
import torch

from ..features import CLASSES, evaluate, group_by_class
from ._regions import Array


def features(
    sums: Sequence[Array], spacing: Array, status: Array, *, names: Sequence[str], dtype: torch.dtype
) -> Array:
    """See :func:`kacl_gpu.radiomics.ops.features`."""
    columns = []
    for table, (class_name, selected) in zip(sums, group_by_class(names)):
        rows = torch.from_numpy(table if table.ndim == 3 else table[:, None])
        columns.append(evaluate(*CLASSES[class_name], rows, torch.from_numpy(spacing), selected))
    result = torch.cat(columns, 1).numpy()
    result[status != 0] = np.nan
    return result.astype(np.float32 if dtype == torch.float32 else np.float64, copy=False)
