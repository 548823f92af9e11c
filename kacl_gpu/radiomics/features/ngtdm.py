"""Neighbouring grey-tone difference features (``radiomics.ngtdm``)."""

from torch import Tensor

from ..columns import NgtdmSums
from .spec import FeatureSpec, where


def _ratio(numerator: Tensor, denominator: Tensor, otherwise: float) -> Tensor:
    """Return the quotient; ``otherwise`` where the denominator is 0."""
    return where(denominator == 0, otherwise, numerator / denominator)


FEATURES: tuple[FeatureSpec[NgtdmSums], ...] = (
    FeatureSpec("Busyness", lambda s: _ratio(s.ns, s.products, 0.0), "NQ30"),
    FeatureSpec("Coarseness", lambda s: _ratio(s.n, s.ns, 1e6), "QCDE"),
    FeatureSpec("Complexity", lambda s: s.complexity / s.n, "HDEZ"),
    # the sum over pairs of p_i p_j (i - j)^2 is twice the variance
    FeatureSpec("Contrast", lambda s: _ratio(2 * s.variance * s.s / s.n, s.levels * (s.levels - 1), 0.0), "65HE"),
    FeatureSpec("Strength", lambda s: _ratio(s.strength / s.n, s.s, 0.0), "1X9X"),
)
