"""Grey-level co-occurrence features (``radiomics.glcm``), each the mean over the directions that have pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .spec import FeatureSpec, lengths

EPS = 2.0**-52


class Sums(NamedTuple):
    """Each (K, A) float64, the columns of ``ops.glcm_sums``.

    x and y are the levels of a pair's two pixels; h are entropies in bits.
    """

    total: Tensor
    energy: Tensor
    hxy: Tensor
    hxy1: Tensor
    hxy2: Tensor
    maximum: Tensor
    covariance: Tensor
    mcc_square: Tensor
    hx: Tensor
    hy: Tensor
    h_sum: Tensor
    h_difference: Tensor
    mean_x: Tensor
    mean_y: Tensor
    variance_x: Tensor
    variance_y: Tensor
    sum_mean: Tensor
    sum_m2: Tensor
    sum_m3: Tensor
    sum_m4: Tensor
    difference_mean: Tensor
    difference_m2: Tensor
    contrast: Tensor
    inverse: Tensor
    inverse_square: Tensor
    inverse_normalised: Tensor
    inverse_square_normalised: Tensor
    inverse_variance: Tensor
    flat: Tensor  # 1 where the whole region has one grey level, else 0


def _correlation(s: Sums) -> Tensor:
    """1 where one of the marginals has a single level."""
    deviations = torch.sqrt(s.variance_x) * torch.sqrt(s.variance_y)
    return torch.where(deviations == 0, 1.0, s.covariance / (deviations + EPS))


def _imc1(s: Sums) -> Tensor:
    """0 where the marginals have one level, or all but one weigh next to nothing: their entropy is above 1e-5 else."""
    larger = torch.maximum(s.hx, s.hy)
    return torch.where(larger < 1e-7, 0.0, (s.hxy - s.hxy1) / larger)


def _imc2(s: Sums) -> Tensor:
    """0 where rounding leaves HXY above HXY2."""
    return torch.sqrt(torch.clamp(1 - torch.exp(-2 * (s.hxy2 - s.hxy)), min=0.0))


FEATURES: tuple[FeatureSpec[Sums], ...] = (
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
        lambda s: torch.where(s.flat > 0, 1.0, torch.sqrt(s.mcc_square)),
        otherwise=lambda s: torch.where(s.flat > 0, 1.0, torch.nan),
    ),
    FeatureSpec("MaximumProbability", lambda s: s.maximum, "GYBY"),
    FeatureSpec("SumAverage", lambda s: s.sum_mean, "ZGXS"),
    FeatureSpec("SumEntropy", lambda s: s.h_sum, "P6QZ"),
    FeatureSpec("SumSquares", lambda s: s.variance_x, "UR99"),
)


def log_weights(offsets: Sequence[int], spacing: Tensor, norm: str | None) -> Tensor:
    """(K, A) minus the squared length of each offset; 0 for "no_weighting"; empty without a norm."""
    length = lengths(offsets, spacing, norm)
    if norm is None:
        return length
    return torch.zeros_like(length) if norm == "no_weighting" else -(length * length)
