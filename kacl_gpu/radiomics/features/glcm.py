"""Grey-level co-occurrence features (``radiomics.glcm``), each the mean over the directions that have pairs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..columns import GlcmSums
from ..constants import EPS
from .spec import FeatureSpec, clamp, exp, lengths, maximum, sqrt, where


def _correlation(s: GlcmSums) -> Tensor:
    """Return the correlation; 1 where one of the marginals has a single level."""
    deviations = sqrt(s.variance_x) * sqrt(s.variance_y)
    return where(deviations == 0, 1.0, s.covariance / (deviations + EPS))


def _imc1(s: GlcmSums) -> Tensor:
    """Return Imc1; 0 where one level has next to all of both marginals, whose entropy is above 1e-5 elsewhere."""
    larger = maximum(s.hx, s.hy)
    return where(larger < 1e-7, 0.0, (s.hxy - s.hxy1) / larger)


def _imc2(s: GlcmSums) -> Tensor:
    """Return Imc2; 0 where rounding leaves HXY above HXY2."""
    return sqrt(clamp(1 - exp(-2 * (s.hxy2 - s.hxy)), min=0.0))


FEATURES: tuple[FeatureSpec[GlcmSums], ...] = (
    FeatureSpec("Autocorrelation", lambda s: s.covariance + s.mean_x * s.mean_y, "QWB0"),
    FeatureSpec("ClusterProminence", lambda s: s.sum_m4, "AE86"),
    FeatureSpec("ClusterShade", lambda s: s.sum_m3, "7NFM"),
    FeatureSpec("ClusterTendency", lambda s: s.sum_m2, "DG8W"),
    FeatureSpec("Contrast", lambda s: s.contrast, "ACUI"),
    FeatureSpec("Correlation", _correlation, "NI2N"),
    FeatureSpec("DifferenceAverage", lambda s: s.difference_mean, "TF7R"),
    FeatureSpec("DifferenceEntropy", lambda s: s.h_difference, "NTRS"),
    FeatureSpec("DifferenceVariance", lambda s: s.difference_m2, "D3YU"),
    FeatureSpec("Id", lambda s: s.inverse, "IB1Z"),
    FeatureSpec("Idm", lambda s: s.inverse_square, "WF0Z"),
    FeatureSpec("Idmn", lambda s: s.inverse_square_normalised, "1QCO"),
    FeatureSpec("Idn", lambda s: s.inverse_normalised, "NDRX"),
    FeatureSpec("Imc1", _imc1, "R8DG"),
    FeatureSpec("Imc2", _imc2, "JN9H"),
    FeatureSpec("InverseVariance", lambda s: s.inverse_variance, "E8JP"),
    FeatureSpec("JointAverage", lambda s: s.mean_x, "60VM"),
    FeatureSpec("JointEnergy", lambda s: s.energy, "8ZQL"),
    FeatureSpec("JointEntropy", lambda s: s.hxy, "TU9B"),
    # 1 on one level, also without any pairs: PyRadiomics returns before it looks at a direction
    FeatureSpec(
        "MCC",
        lambda s: where(s.flat > 0, 1.0, sqrt(s.mcc_square)),
        otherwise=lambda s: where(s.flat > 0, 1.0, math.nan),
    ),
    FeatureSpec("MaximumProbability", lambda s: s.maximum, "GYBY"),
    FeatureSpec("SumAverage", lambda s: s.sum_mean, "ZGXS"),
    FeatureSpec("SumEntropy", lambda s: s.h_sum, "P6QZ"),
    FeatureSpec("SumSquares", lambda s: s.variance_x, "UR99"),
)


def log_weights(offsets: Sequence[int], spacing: Tensor, norm: str | None) -> Tensor:
    """Return minus the squared length of each offset (K, A); 0 for "no_weighting"; empty without a norm."""
    length = lengths(offsets, spacing, norm)
    if norm is None:
        return length
    return torch.zeros_like(length) if norm == "no_weighting" else -(length * length)
