"""Grey-level size-zone features (``radiomics.glszm``)."""

from ..columns import SizeSums
from .spec import FeatureSpec

FEATURES: tuple[FeatureSpec[SizeSums], ...] = (
    FeatureSpec("GrayLevelNonUniformity", lambda s: s.level_squares / s.n, "JNSA"),
    FeatureSpec("GrayLevelNonUniformityNormalized", lambda s: s.level_squares / (s.n * s.n), "Y1RO"),
    FeatureSpec("GrayLevelVariance", lambda s: s.level_variance, "BYLV"),
    FeatureSpec("HighGrayLevelZoneEmphasis", lambda s: s.high / s.n, "5GN9"),
    FeatureSpec("LargeAreaEmphasis", lambda s: s.large / s.n, "48P8"),
    FeatureSpec("LargeAreaHighGrayLevelEmphasis", lambda s: s.large_high / s.n, "J17V"),
    FeatureSpec("LargeAreaLowGrayLevelEmphasis", lambda s: s.large_low / s.n, "YH51"),
    FeatureSpec("LowGrayLevelZoneEmphasis", lambda s: s.low / s.n, "XMSY"),
    FeatureSpec("SizeZoneNonUniformity", lambda s: s.size_squares / s.n, "4JP3"),
    FeatureSpec("SizeZoneNonUniformityNormalized", lambda s: s.size_squares / (s.n * s.n), "VB3A"),
    FeatureSpec("SmallAreaEmphasis", lambda s: s.small / s.n, "5QRC"),
    FeatureSpec("SmallAreaHighGrayLevelEmphasis", lambda s: s.small_high / s.n, "HW1V"),
    FeatureSpec("SmallAreaLowGrayLevelEmphasis", lambda s: s.small_low / s.n, "5RAI"),
    FeatureSpec("ZoneEntropy", lambda s: s.entropy, "GU8N"),
    FeatureSpec("ZonePercentage", lambda s: s.n / s.pixels, "P30P"),
    FeatureSpec("ZoneVariance", lambda s: s.size_variance, "3NSA"),
)
