"""What a feature is, and how the features of a class are evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


@dataclass(frozen=True)
class FeatureSpec(Generic[S]):
    """A feature: PyRadiomics' name, its formula over the class's sums, and its identifier in the IBSI reference manual.

    The formulas are PyRadiomics' own (documentation of ``radiomics.<class>``); IBSI's differs where ``ibsi`` is empty.
    They are evaluated by torch, and translated for the GPU (``kernels/features.py``), which knows arithmetic,
    comparisons and torch's where, sqrt, exp, maximum and clamp(min=).
    """

    name: str
    formula: Callable[[S], Tensor]  # -> (K, A)
    ibsi: str = ""
    otherwise: Callable[[S], Tensor] | None = None  # the same where no direction has anything, else NaN


def evaluate(
    features: Sequence[FeatureSpec[Any]], kind: Any, sums: Tensor, spacing: Tensor, names: list[str]
) -> Tensor:
    """See :func:`kacl_gpu.radiomics.ops.features`; ``kind`` is the named tuple that the formulas see."""
    by_name = {feature.name: feature for feature in features}
    extra = spacing.unbind(1) if "spacing_y" in kind._fields else ()
    seen = kind(*sums.unbind(-1), *(s[:, None] for s in extra))
    present = sums[..., 0] > 0
    number = present.sum(1)
    values = torch.stack([by_name[name].formula(seen) for name in names], -1)
    values = torch.where(present[..., None], values, 0.0)
    mean = values[:, 0]
    for a in range(1, values.shape[1]):  # one after the other: torch's sum has an order for each shape
        mean = mean + values[:, a]
    mean = mean / number[:, None]
    for column, name in enumerate(names):
        if otherwise := by_name[name].otherwise:
            mean[:, column] = torch.where(number == 0, otherwise(seen)[:, 0], mean[:, column])
    return mean


def lengths(offsets: Sequence[int], spacing: Tensor, norm: str | None) -> Tensor:
    """(K, A) length of each offset (z, y, x triples) in units of the spacing (K, 2); empty without a norm."""
    if norm is None:
        return spacing.new_empty((0, 0))
    columns = []
    for step_y, step_x in zip(offsets[1::3], offsets[2::3]):  # numbers of Python: a tensor of them would be a copy
        y, x = spacing[:, 0] * abs(step_y), spacing[:, 1] * abs(step_x)
        if norm == "manhattan":
            columns.append(y + x)
        elif norm == "euclidean":
            columns.append(torch.sqrt(y * y + x * x))
        else:
            columns.append(torch.maximum(y, x) if norm == "infinity" else torch.ones_like(y))
    return torch.stack(columns, 1)
