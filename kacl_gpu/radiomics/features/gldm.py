"""Grey-level dependence features (``radiomics.gldm``)."""

from ..columns import SizeSums
from .spec import FeatureSpec

FEATURES: tuple[FeatureSpec[SizeSums], ...] = (
    FeatureSpec("DependenceEntropy", lambda s: s.entropy, "FCBV"),
    FeatureSpec("DependenceNonUniformity", lambda s: s.size_squares / s.n, "Z87G"),
    FeatureSpec("DependenceNonUniformityNormalized", lambda s: s.size_squares / (s.n * s.n), "OKJI"),
    FeatureSpec("DependenceVariance", lambda s: s.size_variance, "DNX2"),
    FeatureSpec("GrayLevelNonUniformity", lambda s: s.level_squares / s.n, "FP8K"),
    FeatureSpec("GrayLevelVariance", lambda s: s.level_variance, "1PR1"),
    FeatureSpec("HighGrayLevelEmphasis", lambda s: s.high / s.n, "OAE7"),
    FeatureSpec("LargeDependenceEmphasis", lambda s: s.large / s.n, "IMOQ"),
    FeatureSpec("LargeDependenceHighGrayLevelEmphasis", lambda s: s.large_high / s.n, "9QMG"),
    FeatureSpec("LargeDependenceLowGrayLevelEmphasis", lambda s: s.large_low / s.n, "NBZI"),
    FeatureSpec("LowGrayLevelEmphasis", lambda s: s.low / s.n, "TL9H"),
    FeatureSpec("SmallDependenceEmphasis", lambda s: s.small / s.n, "SODN"),
    FeatureSpec("SmallDependenceHighGrayLevelEmphasis", lambda s: s.small_high / s.n, "JA6D"),
    FeatureSpec("SmallDependenceLowGrayLevelEmphasis", lambda s: s.small_low / s.n, "EQ3F"),
)
