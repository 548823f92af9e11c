"""First-order features (``radiomics.firstorder``)."""

from torch import Tensor

from ..columns import FirstOrderSums
from .spec import FeatureSpec, sqrt, where


def _standardised(moment: Tensor, m2: Tensor, power: Tensor) -> Tensor:
    """Return moment / power; 0 in a flat region."""
    return where(m2 == 0, 0.0, moment / where(m2 == 0, 1.0, power))


FEATURES: tuple[FeatureSpec[FirstOrderSums], ...] = (
    FeatureSpec("10Percentile", lambda s: s.p10, "QG58"),
    FeatureSpec("90Percentile", lambda s: s.p90, "8DWT"),
    FeatureSpec("Energy", lambda s: s.energy, "N8CA"),
    FeatureSpec("Entropy", lambda s: s.entropy, "TLU2"),
    FeatureSpec("InterquartileRange", lambda s: s.p75 - s.p25, "SALO"),
    FeatureSpec("Kurtosis", lambda s: _standardised(s.m4, s.m2, s.m2 * s.m2)),  # IBSI's is less 3
    FeatureSpec("Maximum", lambda s: s.maximum, "84IY"),
    FeatureSpec("MeanAbsoluteDeviation", lambda s: s.mad, "4FUA"),
    FeatureSpec("Mean", lambda s: s.mean, "Q4LE"),
    FeatureSpec("Median", lambda s: s.p50, "Y12H"),
    FeatureSpec("Minimum", lambda s: s.minimum, "1GSF"),
    FeatureSpec("Range", lambda s: s.maximum - s.minimum, "2OJQ"),
    FeatureSpec("RobustMeanAbsoluteDeviation", lambda s: s.robust_mad, "1128"),
    FeatureSpec("RootMeanSquared", lambda s: sqrt(s.energy / s.n), "5ZWQ"),
    FeatureSpec("Skewness", lambda s: _standardised(s.m3, s.m2, s.m2 * sqrt(s.m2)), "KE2M"),
    FeatureSpec("TotalEnergy", lambda s: s.energy * (s.spacing_z * s.spacing_y * s.spacing_x)),
    FeatureSpec("Uniformity", lambda s: s.level_squares / (s.n * s.n), "BJ5W"),
    FeatureSpec("Variance", lambda s: s.m2, "ECT3"),
)
