"""Features: name, formula and IBSI identifier together; evaluation of those of a class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..columns import COUNT, OFFSET, SPACING, number_of_columns

S = TypeVar("S")
Array = NDArray[Any]


@dataclass(frozen=True)
class FeatureSpec(Generic[S]):
    """A feature: PyRadiomics' name, its formula over the class's sums, and its IBSI identifier.

    The formulas are PyRadiomics' own (documentation of ``radiomics.<class>``); IBSI's differs where ``ibsi`` is empty.
    They are evaluated on arrays, and translated for the GPU (``kernels/features.py``), which knows arithmetic,
    comparisons, and this file's where, sqrt, exp, maximum and clamp(min=).
    """

    name: str
    formula: Callable[[S], Tensor]  # -> (K, A)
    ibsi: str = ""
    otherwise: Callable[[S], Tensor] | None = None  # the same where no direction has anything, else NaN


# What formulas use beside arithmetic and comparisons, of tensors, of symbols (torch.fx), and of arrays. Of arrays,
# square roots and exponentials are torch's, so that their bits are those of tensors.


def where(condition: Any, value: Any, otherwise: Any) -> Any:
    """Return one value where the condition holds, and the other where it does not."""
    if isinstance(condition, np.ndarray):
        return np.where(condition, value, otherwise)
    return torch.where(condition, value, otherwise)


def sqrt(x: Any) -> Any:
    """Return the square root."""
    return torch.sqrt(torch.from_numpy(x)).numpy() if isinstance(x, np.ndarray) else torch.sqrt(x)


def exp(x: Any) -> Any:
    """Return the exponential."""
    return torch.exp(torch.from_numpy(x)).numpy() if isinstance(x, np.ndarray) else torch.exp(x)


def maximum(x: Any, y: Any) -> Any:
    """Return the larger of two; NaN if one is."""
    return np.maximum(x, y) if isinstance(x, np.ndarray) else torch.maximum(x, y)


def clamp(x: Any, *, min: float) -> Any:
    """Return what is below a limit as the limit; NaN stays."""
    return np.maximum(x, min) if isinstance(x, np.ndarray) else torch.clamp(x, min=min)


def evaluate(
    features: Sequence[FeatureSpec[Any]], kind: Any, sums: Array, spacing: Array, names: Sequence[str]
) -> Array:
    """Return the named features (K, F) of one class, see :func:`kacl_gpu.radiomics.ops.features`.

    ``kind``: the table of the class in :mod:`kacl_gpu.radiomics.columns`; ``sums``: its columns (K, A, C); ``spacing``:
    (K, 3) z, y, x. NumPy takes a fraction of torch's time for a call, of which there are hundreds.
    """
    by_name = {feature.name: feature for feature in features}
    pixel = spacing.T[:, :, None] if len(kind._fields) > number_of_columns(kind) else ()
    columns = kind(*sums.transpose(2, 0, 1), *pixel)
    present = columns[COUNT] > 0
    number = present.sum(1)
    values = np.empty((*present.shape, len(names)))
    with np.errstate(all="ignore"):  # a direction without anything
        for n, name in enumerate(names):
            values[..., n] = by_name[name].formula(columns)
        values[~present] = 0.0
        mean = values[:, 0].copy()
        for a in range(1, values.shape[1]):  # one after the other: NumPy's sum has an order for each shape
            mean += values[:, a]
        mean /= number[:, None]
        for column, name in enumerate(names):
            if otherwise := by_name[name].otherwise:
                mean[:, column] = np.where(number == 0, otherwise(columns)[:, 0], mean[:, column])
    return mean


def lengths(offsets: Sequence[int], spacing: Tensor, norm: str | None) -> Tensor:
    """Return the length (K, A) of each offset (z, y, x triples) in units of the spacing (K, 3), or nothing (0, 0)."""
    if norm is None:
        return spacing.new_empty((0, 0))
    # Numbers of Python, since a tensor of them would be a copy; equal sides and equal lengths are computed once.
    steps = list(zip(*(map(abs, offsets[axis :: len(OFFSET)]) for axis in OFFSET)))
    places = dict.fromkeys((axis, n) for step in steps for axis, n in zip(SPACING, step) if n)
    sides = {(axis, n): spacing[:, axis] * n if n > 1 else spacing[:, axis] for axis, n in places}
    if norm == "euclidean":
        sides = {place: side * side for place, side in sides.items()}
    by_step = {
        step: _length([sides[axis, n] for axis, n in zip(SPACING, step) if n], norm) for step in dict.fromkeys(steps)
    }
    return torch.stack([by_step[step] for step in steps], 1)


def _length(sides: list[Tensor], norm: str) -> Tensor:
    """Return the length of an offset from its extent along each axis where it has one, squared if euclidean."""
    if norm == "no_weighting":
        return torch.ones_like(sides[0])
    length = sides[0]
    for side in sides[1:]:
        length = torch.maximum(length, side) if norm == "infinity" else length + side
    return torch.sqrt(length) if norm == "euclidean" else length
