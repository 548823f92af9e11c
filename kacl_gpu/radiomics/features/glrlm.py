"""Grey-level run-length features (``radiomics.glrlm``), each the mean over the directions that have runs."""

from ..columns import SizeSums
from .spec import FeatureSpec

FEATURES: tuple[FeatureSpec[SizeSums], ...] = (
    FeatureSpec("GrayLevelNonUniformity", lambda s: s.level_squares / s.n, "R5YN"),
    FeatureSpec("GrayLevelNonUniformityNormalized", lambda s: s.level_squares / (s.n * s.n), "OVBL"),
    FeatureSpec("GrayLevelVariance", lambda s: s.level_variance, "8CE5"),
    FeatureSpec("HighGrayLevelRunEmphasis", lambda s: s.high / s.n, "G3QZ"),
    FeatureSpec("LongRunEmphasis", lambda s: s.large / s.n, "W4KF"),
    FeatureSpec("LongRunHighGrayLevelEmphasis", lambda s: s.large_high / s.n, "3KUM"),
    FeatureSpec("LongRunLowGrayLevelEmphasis", lambda s: s.large_low / s.n, "IVPO"),
    FeatureSpec("LowGrayLevelRunEmphasis", lambda s: s.low / s.n, "V3SW"),
    FeatureSpec("RunEntropy", lambda s: s.entropy, "HJ9O"),
    FeatureSpec("RunLengthNonUniformity", lambda s: s.size_squares / s.n, "W92Y"),
    FeatureSpec("RunLengthNonUniformityNormalized", lambda s: s.size_squares / (s.n * s.n), "IC23"),
    FeatureSpec("RunPercentage", lambda s: s.n / s.pixels, "9ZK5"),
    FeatureSpec("RunVariance", lambda s: s.size_variance, "SXLW"),
    FeatureSpec("ShortRunEmphasis", lambda s: s.small / s.n, "22OV"),
    FeatureSpec("ShortRunHighGrayLevelEmphasis", lambda s: s.small_high / s.n, "GD3A"),
    FeatureSpec("ShortRunLowGrayLevelEmphasis", lambda s: s.small_low / s.n, "HTZT"),
)
