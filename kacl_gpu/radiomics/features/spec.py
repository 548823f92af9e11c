"""What a feature is, and what the classes share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .. import ops

S = TypeVar("S")


@dataclass(frozen=True)
class FeatureSpec(Generic[S]):
    """A feature: PyRadiomics' name, its formula over the class's sums, and its identifier in the IBSI reference manual.

    The formulas are PyRadiomics' own (documentation of ``radiomics.<class>``); IBSI's differs where ``ibsi`` is empty.
    """

    name: str
    formula: Callable[[S], Tensor]  # -> (K,), or (K, A) a direction
    ibsi: str = ""


def evaluate(features: Sequence[FeatureSpec[S]], sums: S, names: Sequence[str]) -> Tensor:
    """The named features side by side: (..., len(names)) float64."""
    formulas = {feature.name: feature.formula for feature in features}
    return torch.stack([formulas[name](sums) for name in names], -1)


def mean_over_directions(values: Tensor, present: Tensor) -> Tensor:
    """(K, A, F) -> (K, F): the mean over the directions present (K, A); NaN where there is none."""
    values = torch.where(present[..., None], values, 0.0).transpose(1, 2)
    ones = torch.ones((1, 1, values.shape[2]), dtype=values.dtype, device=values.device)
    return ops.weighted_sums(values.contiguous(), ones)[..., 0] / present.sum(1, keepdim=True)


def inner(rows: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """Inner products of rows (K, A, n) with each of the weights, (n,) or (K, n): as many tensors (K, A)."""
    stacked = torch.stack(torch.broadcast_tensors(*(torch.atleast_2d(w) for w in weights)), 1)
    return ops.weighted_sums(rows.contiguous(), stacked.contiguous()).unbind(-1)


def central_moments(rows: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """Mean and central moments 2, 3, 4 of histograms (K, A, n) over ``values`` (n,) or (K, n): four of (K, A).

    NaN of an empty histogram; of a single value the moments are exactly 0.
    """
    n, first = inner(rows, torch.ones_like(values), values)
    mean = first / n
    d = torch.atleast_2d(values)[:, None] - mean[..., None]
    square = d * d
    powers = torch.stack([square, square * d, square * square], 2).flatten(0, 1)
    moments = ops.weighted_sums(rows.reshape(-1, 1, rows.shape[2]), powers).reshape(*mean.shape, 3) / n[..., None]
    one = (rows > 0).sum(-1) == 1
    return mean, *torch.where(one[..., None], 0.0, moments).unbind(-1)


def squares(rows: Tensor) -> Tensor:
    """Sum of squares of each row of (K, A, n): (K, A)."""
    regions, directions, n = rows.shape
    rows = rows.reshape(-1, 1, n)
    return ops.weighted_sums(rows, rows).reshape(regions, directions)


def numbers(first: int, count: int, like: Tensor) -> Tensor:
    """first, first + 1, ... : (count,) float64."""
    return torch.arange(first, first + count, dtype=torch.float64, device=like.device)


def lengths(offsets: Sequence[int], spacing: Tensor, norm: str | None) -> Tensor:
    """(K, A) length of each offset (z, y, x triples) in units of the spacing (K, 2); empty without a norm."""
    if norm is None:
        return spacing.new_empty((0, 0))
    steps = torch.tensor(offsets, dtype=torch.float64, device=spacing.device).reshape(-1, 3)[:, 1:].abs()
    y, x = (steps * spacing[:, None]).unbind(-1)
    if norm == "manhattan":
        return y + x
    if norm == "euclidean":
        return torch.sqrt(y * y + x * x)
    return torch.maximum(y, x) if norm == "infinity" else torch.ones_like(y)
