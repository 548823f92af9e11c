"""Names of the classes and features, in the frozen order of the output, and PyRadiomics' spelling of the settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

# The order of the output for images and for volumes, frozen: classes in this order, and inside a class PyRadiomics' own
# order. That one is ASCII order of its method names (getMeanAbsoluteDeviationFeatureValue before getMeanFeatureValue),
# hence MeanAbsoluteDeviation before Mean and MCC before MaximumProbability.
CLASSES: Mapping[int, tuple[str, ...]] = {
    2: ("firstorder", "shape2D", "glcm", "glrlm", "glszm", "ngtdm", "gldm"),
    3: ("firstorder", "shape", "glcm", "glrlm", "glszm", "ngtdm", "gldm"),
}

FEATURES: Mapping[str, tuple[str, ...]] = {
    "firstorder": (
        "10Percentile",
        "90Percentile",
        "Energy",
        "Entropy",
        "InterquartileRange",
        "Kurtosis",
        "Maximum",
        "MeanAbsoluteDeviation",
        "Mean",
        "Median",
        "Minimum",
        "Range",
        "RobustMeanAbsoluteDeviation",
        "RootMeanSquared",
        "Skewness",
        "TotalEnergy",
        "Uniformity",
        "Variance",
    ),
    "shape": (
        "Elongation",
        "Flatness",
        "LeastAxisLength",
        "MajorAxisLength",
        "Maximum2DDiameterColumn",
        "Maximum2DDiameterRow",
        "Maximum2DDiameterSlice",
        "Maximum3DDiameter",
        "MeshVolume",
        "MinorAxisLength",
        "Sphericity",
        "SurfaceArea",
        "SurfaceVolumeRatio",
        "VoxelVolume",
    ),
    "shape2D": (
        "Elongation",
        "MajorAxisLength",
        "MaximumDiameter",
        "MeshSurface",
        "MinorAxisLength",
        "Perimeter",
        "PerimeterSurfaceRatio",
        "PixelSurface",
        "Sphericity",
    ),
    "glcm": (
        "Autocorrelation",
        "ClusterProminence",
        "ClusterShade",
        "ClusterTendency",
        "Contrast",
        "Correlation",
        "DifferenceAverage",
        "DifferenceEntropy",
        "DifferenceVariance",
        "Id",
        "Idm",
        "Idmn",
        "Idn",
        "Imc1",
        "Imc2",
        "InverseVariance",
        "JointAverage",
        "JointEnergy",
        "JointEntropy",
        "MCC",
        "MaximumProbability",
        "SumAverage",
        "SumEntropy",
        "SumSquares",
    ),
    "glrlm": (
        "GrayLevelNonUniformity",
        "GrayLevelNonUniformityNormalized",
        "GrayLevelVariance",
        "HighGrayLevelRunEmphasis",
        "LongRunEmphasis",
        "LongRunHighGrayLevelEmphasis",
        "LongRunLowGrayLevelEmphasis",
        "LowGrayLevelRunEmphasis",
        "RunEntropy",
        "RunLengthNonUniformity",
        "RunLengthNonUniformityNormalized",
        "RunPercentage",
        "RunVariance",
        "ShortRunEmphasis",
        "ShortRunHighGrayLevelEmphasis",
        "ShortRunLowGrayLevelEmphasis",
    ),
    "glszm": (
        "GrayLevelNonUniformity",
        "GrayLevelNonUniformityNormalized",
        "GrayLevelVariance",
        "HighGrayLevelZoneEmphasis",
        "LargeAreaEmphasis",
        "LargeAreaHighGrayLevelEmphasis",
        "LargeAreaLowGrayLevelEmphasis",
        "LowGrayLevelZoneEmphasis",
        "SizeZoneNonUniformity",
        "SizeZoneNonUniformityNormalized",
        "SmallAreaEmphasis",
        "SmallAreaHighGrayLevelEmphasis",
        "SmallAreaLowGrayLevelEmphasis",
        "ZoneEntropy",
        "ZonePercentage",
        "ZoneVariance",
    ),
    "ngtdm": (
        "Busyness",
        "Coarseness",
        "Complexity",
        "Contrast",
        "Strength",
    ),
    "gldm": (
        "DependenceEntropy",
        "DependenceNonUniformity",
        "DependenceNonUniformityNormalized",
        "DependenceVariance",
        "GrayLevelNonUniformity",
        "GrayLevelVariance",
        "HighGrayLevelEmphasis",
        "LargeDependenceEmphasis",
        "LargeDependenceHighGrayLevelEmphasis",
        "LargeDependenceLowGrayLevelEmphasis",
        "LowGrayLevelEmphasis",
        "SmallDependenceEmphasis",
        "SmallDependenceHighGrayLevelEmphasis",
        "SmallDependenceLowGrayLevelEmphasis",
    ),
}

# The first-order features of grey levels; the others are of intensities
FIRST_ORDER_OF_LEVELS = ("Entropy", "Uniformity")

# Deprecated in PyRadiomics 3.0.1 and computed where they are named, as there
NAMED_ONLY: Mapping[str, tuple[str, ...]] = {"shape": ("Compactness1", "Compactness2", "SphericalDisproportion")}

# Deprecated in PyRadiomics 3.0.1 and not computed here: what to use instead.
DEPRECATED: Mapping[str, Mapping[str, str]] = {
    "firstorder": {"StandardDeviation": "take the square root of firstorder Variance"},
    "shape2D": {"SphericalDisproportion": "take the reciprocal of shape2D Sphericity"},
    "glcm": {
        "Dissimilarity": "use glcm DifferenceAverage, which equals it",
        "Homogeneity1": "use glcm Id, which equals it",
        "Homogeneity2": "use glcm Idm, which equals it",
        "SumVariance": "use glcm ClusterTendency, which equals it",
    },
    "gldm": {
        "DependencePercentage": "leave it out, it is 1 on every region",
        "GrayLevelNonUniformityNormalized": "use firstorder Uniformity, which equals it",
    },
}

# PyRadiomics' spelling of each setting that is honoured, and ours.
SPELLING: Mapping[str, str] = {
    "binWidth": "bin_width",
    "binCount": "bin_count",
    "distances": "distances",
    "symmetricalGLCM": "symmetrical_glcm",
    "weightingNorm": "weighting_norm",
    "gldm_a": "gldm_a",
    "voxelArrayShift": "voxel_array_shift",
    "label": "label",
    "force2D": "force2d",
    "force2Ddimension": "force2d_dimension",
    "resegmentRange": "resegment_range",
    "resegmentMode": "resegment_mode",
    "resegmentShape": "resegment_shape",
    "normalize": "normalize",
    "normalizeScale": "normalize_scale",
    "removeOutliers": "remove_outliers",
    "minimumROIDimensions": "minimum_roi_dimensions",
    "minimumROISize": "minimum_roi_size",
}


def unknown(what: str, name: object, known: Sequence[str]) -> ValueError:
    """Return the error for a name that is not known, with the nearest one that is."""
    return ValueError(f"unknown {what} {name!r}; the nearest known one is {nearest(name, known)!r}")


def nearest(name: object, known: Sequence[str]) -> str:
    """Return the known name most like this one, whatever its case and underscores."""
    word = str(name).lower().replace("_", "")

    def likeness(candidate: str) -> tuple[float, int]:
        plain = candidate.lower().replace("_", "")
        # Shared letters break ties: "gclm" is "glcm" with two letters swapped, not "gldm"
        return difflib.SequenceMatcher(None, word, plain).ratio(), len(set(word) & set(plain))

    return max(known, key=likeness)
