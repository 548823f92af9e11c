"""Neighbouring grey-tone difference features (``radiomics.ngtdm``)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ops
from .spec import FeatureSpec, central_moments, evaluate, inner, numbers


class Sums(NamedTuple):
    """Each (K,) float64; n_i pixels and s_i differences of level i, p_i = n_i / n."""

    n: Tensor
    levels: Tensor  # how many levels occur
    variance: Tensor  # of the levels
    s: Tensor  # sum of s_i
    ns: Tensor  # sum of n_i s_i
    products: Tensor  # over pairs, |i n_i - j n_j|
    complexity: Tensor  # over pairs, |i - j| (n_i s_i + n_j s_j) / (n_i + n_j)
    strength: Tensor  # over pairs, (n_i + n_j) (i - j)^2


def _ratio(numerator: Tensor, denominator: Tensor, otherwise: float) -> Tensor:
    return torch.where(denominator == 0, otherwise, numerator / denominator)


FEATURES: tuple[FeatureSpec[Sums], ...] = (
    FeatureSpec("Busyness", lambda s: _ratio(s.ns, s.products, 0.0), "NQ30"),
    FeatureSpec("Coarseness", lambda s: _ratio(s.n, s.ns, 1e6), "QCDE"),
    FeatureSpec("Complexity", lambda s: s.complexity / s.n, "HDEZ"),
    # the sum over pairs of p_i p_j (i - j)^2 is twice the variance
    FeatureSpec("Contrast", lambda s: _ratio(2 * s.variance * s.s / s.n, s.levels * (s.levels - 1), 0.0), "65HE"),
    FeatureSpec("Strength", lambda s: _ratio(s.strength / s.n, s.s, 0.0), "1X9X"),
)


def ngtdm(histogram: Tensor, differences: Tensor, names: Sequence[str]) -> Tensor:
    """Pixels per level (K, ng); sums of |c i - S| by level and neighbour count (K, ng, 1 + neighbours) -> (K, F)."""
    counts = numbers(0, differences.shape[-1], differences)
    (s,) = inner(differences.to(torch.float64), 1 / counts.clamp(min=1))  # no neighbours, no difference
    n = histogram.to(torch.float64)
    total, ns = inner(n[:, None], torch.ones_like(s), s)
    (s_total,) = inner(s[:, None], s.new_ones(s.shape[1]))
    variance = central_moments(n[:, None], numbers(1, n.shape[1], n))[1][:, 0]
    pairs = ops.ngtdm_pair_sums(histogram, s).unbind(1)
    present = (histogram > 0).sum(1).to(torch.float64)
    return evaluate(FEATURES, Sums(total[:, 0], present, variance, s_total[:, 0], ns[:, 0], *pairs), names)
