"""Neighbouring grey-tone difference features (``radiomics.ngtdm``)."""

from typing import NamedTuple

import torch
from torch import Tensor

from .spec import FeatureSpec


class Sums(NamedTuple):
    """Each (K, 1) float64, the columns of ``ops.ngtdm_sums``; n_i pixels and s_i differences of level i."""

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
