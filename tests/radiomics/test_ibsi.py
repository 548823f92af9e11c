"""The digital phantom of the Image Biomarker Standardisation Initiative, against its reference values and tolerances.

The values are those of the IBSI reference manual. Each line of their table is either compared with one of our features
or listed here with the reason why PyRadiomics' definitions, which are ours, cannot give it. Needs KACL_GPU_DATA.
"""

import csv
import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics

FOLDER = Path(os.environ.get("KACL_GPU_DATA", "nowhere")) / "ibsi"
TABLE = FOLDER / "ibsi_1_digital_phantom.csv"

pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="KACL_GPU_DATA does not name a folder with the IBSI phantom")

COOCCURRENCE = {
    "joint_max": "MaximumProbability", "joint_avg": "JointAverage", "joint_var": "SumSquares",
    "joint_entr": "JointEntropy", "diff_avg": "DifferenceAverage", "diff_var": "DifferenceVariance",
    "diff_entr": "DifferenceEntropy", "sum_avg": "SumAverage", "sum_var": "ClusterTendency",
    "sum_entr": "SumEntropy", "energy": "JointEnergy", "contrast": "Contrast", "dissimilarity": "DifferenceAverage",
    "inv_diff": "Id", "inv_diff_norm": "Idn", "inv_diff_mom": "Idm", "inv_diff_mom_norm": "Idmn",
    "inv_var": "InverseVariance", "corr": "Correlation", "auto_corr": "Autocorrelation",
    "clust_tend": "ClusterTendency", "clust_shade": "ClusterShade", "clust_prom": "ClusterProminence",
    "info_corr1": "Imc1", "info_corr2": "Imc2",
}  # fmt: skip
RUNS = {
    "sre": "ShortRunEmphasis", "lre": "LongRunEmphasis", "lgre": "LowGrayLevelRunEmphasis",
    "hgre": "HighGrayLevelRunEmphasis", "srlge": "ShortRunLowGrayLevelEmphasis",
    "srhge": "ShortRunHighGrayLevelEmphasis", "lrlge": "LongRunLowGrayLevelEmphasis",
    "lrhge": "LongRunHighGrayLevelEmphasis", "glnu": "GrayLevelNonUniformity",
    "glnu_norm": "GrayLevelNonUniformityNormalized", "rlnu": "RunLengthNonUniformity",
    "rlnu_norm": "RunLengthNonUniformityNormalized", "r_perc": "RunPercentage", "gl_var": "GrayLevelVariance",
    "rl_var": "RunVariance", "rl_entr": "RunEntropy",
}  # fmt: skip
ZONES = {
    "sze": "SmallAreaEmphasis", "lze": "LargeAreaEmphasis", "lgze": "LowGrayLevelZoneEmphasis",
    "hgze": "HighGrayLevelZoneEmphasis", "szlge": "SmallAreaLowGrayLevelEmphasis",
    "szhge": "SmallAreaHighGrayLevelEmphasis", "lzlge": "LargeAreaLowGrayLevelEmphasis",
    "lzhge": "LargeAreaHighGrayLevelEmphasis", "glnu": "GrayLevelNonUniformity",
    "glnu_norm": "GrayLevelNonUniformityNormalized", "zsnu": "SizeZoneNonUniformity",
    "zsnu_norm": "SizeZoneNonUniformityNormalized", "z_perc": "ZonePercentage", "gl_var": "GrayLevelVariance",
    "zs_var": "ZoneVariance", "zs_entr": "ZoneEntropy",
}  # fmt: skip
DEPENDENCES = {
    "lde": "SmallDependenceEmphasis", "hde": "LargeDependenceEmphasis", "lgce": "LowGrayLevelEmphasis",
    "hgce": "HighGrayLevelEmphasis", "ldlge": "SmallDependenceLowGrayLevelEmphasis",
    "ldhge": "SmallDependenceHighGrayLevelEmphasis", "hdlge": "LargeDependenceLowGrayLevelEmphasis",
    "hdhge": "LargeDependenceHighGrayLevelEmphasis", "glnu": "GrayLevelNonUniformity",
    "dcnu": "DependenceNonUniformity", "dcnu_norm": "DependenceNonUniformityNormalized",
    "gl_var": "GrayLevelVariance", "dc_var": "DependenceVariance", "dc_entr": "DependenceEntropy",
}  # fmt: skip
DIFFERENCES = {name.lower(): name for name in ("Coarseness", "Contrast", "Busyness", "Complexity", "Strength")}
TEXTURES = {
    "cm": ("glcm", COOCCURRENCE), "rlm": ("glrlm", RUNS), "szm": ("glszm", ZONES), "ngt": ("ngtdm", DIFFERENCES),
    "ngl": ("gldm", DEPENDENCES),
}  # fmt: skip
INTENSITIES = {
    "mean": "Mean", "var": "Variance", "skew": "Skewness", "median": "Median", "min": "Minimum", "max": "Maximum",
    "p10": "10Percentile", "p90": "90Percentile", "iqr": "InterquartileRange", "range": "Range",
    "mad": "MeanAbsoluteDeviation", "rmad": "RobustMeanAbsoluteDeviation", "energy": "Energy",
    "rms": "RootMeanSquared", "entropy": "Entropy", "uniformity": "Uniformity",
}  # fmt: skip
OUTLINE = {
    "volume": "MeshVolume", "vol_approx": "VoxelVolume", "area_mesh": "SurfaceArea", "av": "SurfaceVolumeRatio",
    "comp_1": "Compactness1", "comp_2": "Compactness2", "sph_dispr": "SphericalDisproportion",
    "sphericity": "Sphericity", "diam": "Maximum3DDiameter", "pca_elongation": "Elongation",
    "pca_flatness": "Flatness",
}  # fmt: skip

# What PyRadiomics gives by another formula: its feature, and how the value of the IBSI follows from it
VOXELS = 74
CONVERTED = {
    "stat_kurt": ("firstorder_Kurtosis", lambda value: value - 3),  # the excess
    "ih_kurt": ("firstorder_Kurtosis", lambda value: value - 3),
    # covariance over N - 1 instead of N
    "morph_pca_maj_axis": ("shape_MajorAxisLength", lambda value: value * math.sqrt(VOXELS / (VOXELS - 1))),
    "morph_pca_min_axis": ("shape_MinorAxisLength", lambda value: value * math.sqrt(VOXELS / (VOXELS - 1))),
    "morph_pca_least_axis": ("shape_LeastAxisLength", lambda value: value * math.sqrt(VOXELS / (VOXELS - 1))),
}
# What PyRadiomics has no counterpart of: tag, or the beginning of tags -> reason
WITHOUT = {
    "dzm_": "no distance zone matrix",
    "loc_peak_": "no local intensity",
    "ivh_": "no intensity-volume histogram",
    "ih_mode": "no mode", "ih_medad": "no median absolute deviation", "stat_medad": "no median absolute deviation",
    "ih_cov": "no coefficient of variation", "stat_cov": "no coefficient of variation",
    "ih_qcod": "no quartile coefficient of dispersion", "stat_qcod": "no quartile coefficient of dispersion",
    "ih_max_grad": "no gradient of the histogram", "ih_min_grad": "no gradient of the histogram",
    "morph_asphericity": "no asphericity", "morph_com": "no centre of mass shift",
    "morph_vol_dens_": "no volume densities", "morph_area_dens_": "no area densities",
    "morph_integ_int": "no integrated intensity", "morph_moran_i": "no spatial autocorrelation",
    "morph_geary_c": "no spatial autocorrelation",
    "ngl_glnu_norm_": "deprecated in PyRadiomics: equals firstorder Uniformity",
    "ngl_dc_perc_": "deprecated in PyRadiomics: 1 on every region", "ngl_dc_energy_": "no dependence count energy",
}  # fmt: skip

PLAIN = RadiomicsSettings(bin_width=1, minimum_roi_dimensions=1)
# Aggregation -> settings of a volume; None: of each slice by itself, whose features are averaged
VOLUME = {
    "3D_avg": PLAIN,
    "3D_comb": replace(PLAIN, weighting_norm="no_weighting"),
    "2_5D_avg": replace(PLAIN, force2d=True),  # slices are added up in one matrix per direction
    "2_5D_comb": replace(PLAIN, force2d=True, weighting_norm="no_weighting"),
}
SLICES = {"2D_avg": PLAIN, "2D_comb": replace(PLAIN, weighting_norm="no_weighting")}


def lines() -> list[dict[str, str]]:
    if not TABLE.exists():
        return []
    with open(TABLE, encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


@cache
def phantom() -> tuple[NDArray[np.float64], NDArray[np.uint8], tuple[float, ...]]:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK reads the phantom, and is not installed")
    image, mask = (sitk.ReadImage(str(FOLDER / name)) for name in ("phantom.nii.gz", "phantom_mask.nii.gz"))
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    return values, sitk.GetArrayFromImage(mask).astype(np.uint8), tuple(image.GetSpacing()[::-1])


@cache
def features(aggregation: str) -> dict[str, float]:
    """Return the features of the phantom by class and name, aggregated in one of the ways of the IBSI."""
    image, mask, spacing = phantom()
    if aggregation in VOLUME:
        settings = replace(VOLUME[aggregation], feature_class=_everything())
        table = gpu_radiomics(
            torch.from_numpy(image)[None, None], masks=torch.from_numpy(mask)[None, None], spacing=spacing,
            settings=settings, dtype=torch.float64,
        )  # fmt: skip
        names = feature_names(settings, dimensions=3)
    else:
        settings = SLICES[aggregation]
        table = gpu_radiomics(
            torch.from_numpy(image), masks=torch.from_numpy(mask), spacing=spacing[1:], settings=settings,
            dtype=torch.float64,
        )  # fmt: skip
        names = feature_names(settings, dimensions=2)
    values = table.mean(0).tolist()
    return {name.removeprefix("original_"): value for name, value in zip(names, values, strict=True)}


def _everything() -> dict[str, list[str] | None]:
    """Return every class, and of shape the deprecated features too."""
    textures = dict.fromkeys(("firstorder", "glcm", "glrlm", "glszm", "ngtdm", "gldm"))
    default = [name.removeprefix("original_shape_") for name in feature_names(dimensions=3) if "_shape_" in name]
    return {**textures, "shape": [*default, "Compactness1", "Compactness2", "SphericalDisproportion"]}


def counterpart(tag: str) -> tuple[str, str, object] | None:
    """Return aggregation, feature and conversion of a tag of the table; None if PyRadiomics gives no such value."""
    if tag in CONVERTED:
        return ("3D_avg", *CONVERTED[tag])
    family, _, name = tag.partition("_")
    if family in TEXTURES:
        class_name, known = TEXTURES[family]
        for aggregation in (*VOLUME, *SLICES, "3D", "2_5D", "2D"):
            feature = name.removesuffix(f"_{aggregation}")
            if feature != name and feature in known:
                wanted = aggregation if aggregation in (*VOLUME, *SLICES) else f"{aggregation}_avg"
                return wanted, f"{class_name}_{known[feature]}", None
    elif family in ("stat", "ih") and name in INTENSITIES:
        return "3D_avg", f"firstorder_{INTENSITIES[name]}", None
    elif family == "morph" and name in OUTLINE:
        return "3D_avg", f"shape_{OUTLINE[name]}", None
    return None


def compared_features() -> set[str]:
    """Return the features, as class and name, that the table has a value of."""
    textures = {f"{class_name}_{name}" for class_name, known in TEXTURES.values() for name in known.values()}
    others = {f"firstorder_{name}" for name in INTENSITIES.values()} | {f"shape_{name}" for name in OUTLINE.values()}
    return textures | others | {name for name, _ in CONVERTED.values()}


def tolerance(value: float, stated: float) -> float:
    """Return the tolerance of the IBSI, at least half a unit in the third digit, in which the values are given."""
    third = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 0.01
    return max(stated, third / 2 * (1 + 1e-9))


@pytest.mark.parametrize("line", lines(), ids=lambda line: line["tag"])
def test_value(line: dict[str, str]) -> None:
    found = counterpart(line["tag"])
    if found is None:
        reason = next((why for tag, why in WITHOUT.items() if line["tag"].startswith(tag)), None)
        assert reason, f"{line['tag']} is neither compared nor listed"
        return
    aggregation, name, convert = found
    value = features(aggregation)[name]
    value = convert(value) if callable(convert) else value
    expected = float(line["value"])
    assert abs(value - expected) <= tolerance(expected, float(line["tolerance"])), f"{name}: {value} for {expected}"


def test_most_values_are_compared() -> None:
    """Of 487 lines 395 are compared; the rest has its reason, five of them no value."""
    tags = [line["tag"] for line in lines()]
    compared = [tag for tag in tags if counterpart(tag)]
    listed = [tag for tag in tags if not counterpart(tag) and any(tag.startswith(known) for known in WITHOUT)]
    assert len(compared) + len(listed) == len(tags) == 487
    assert len(compared) == 395
    assert all(any(tag.startswith(known) for tag in listed) for known in WITHOUT)
    assert compared_features() == {found[1] for tag in tags if (found := counterpart(tag))}
