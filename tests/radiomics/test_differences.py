"""A test for each line of docs/differences.md: ours equals the long double definition, and PyRadiomics differs.

Without PyRadiomics its side is left out.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from reference.check import defined, our_matrices, ours
from reference.definition import RegionInvalid
from reference.regions import Region
from reference.tolerance import deviations

try:
    import SimpleITK as sitk
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    from reference.pyradiomics import RegionRefused, pyradiomics_region
except ModuleNotFoundError:
    sitk = None  # type: ignore[assignment, unused-ignore]

Features = dict[str, float]


def region(
    image: ArrayLike, mask: ArrayLike | None = None, spacing: tuple[float, float] | None = None, **settings: Any
) -> Region:
    """Return the pixels of ``mask``, or the whole image, in bins of width 1 unless settings differ."""
    image = np.asarray(image)
    if "bin_count" not in settings:
        settings.setdefault("bin_width", 1)
    settings.setdefault("minimum_roi_dimensions", 1)
    height, width = image.shape
    box = (0, 0, width, height) if mask is None else None
    labels = None if mask is None else np.asarray(mask, np.uint8)
    return Region(image, box, labels, spacing, RadiomicsSettings(**settings), "written by hand")


def agreed(of: Region) -> Features:
    """Return our features, which must all agree with the definition."""
    names = feature_names(of.settings)
    _, definition = defined(of)
    row = ours(of)
    values, scale = ([float(source.get(name, 0)) for name in names] for source in (definition.values, definition.scale))
    far = deviations(names, row, np.array(values), np.array(scale))
    assert (far <= 1).all(), [(names[k], row[k], values[k], far[k]) for k in np.flatnonzero(far > 1)]
    return _named(of, row)


def _named(of: Region, row: NDArray[np.float64]) -> Features:
    names = (name.removeprefix("original_") for name in feature_names(of.settings))
    return dict(zip(names, row.tolist(), strict=True))


def theirs(of: Region) -> Features | None:
    """Return PyRadiomics' features; None where it is not installed."""
    if sitk is None:
        return None
    row, _ = pyradiomics_region(of.image, of.box, mask=of.mask, settings=of.settings, spacing=of.spacing)
    return _named(of, row)


def executed(image: NDArray, mask: ArrayLike, spacing: tuple[float, ...] = (1.0, 1.0), **settings: Any) -> Features:
    """Return PyRadiomics' features of the image as it is, without the precautions of the reference."""
    images = sitk.GetImageFromArray(image), sitk.GetImageFromArray(np.asarray(mask, np.uint8))
    for one in images:
        one.SetSpacing(spacing)
    extractor = RadiomicsFeatureExtractor(additionalInfo=False, **settings)
    extractor.enabledFeatures = {"firstorder": [], "shape2D": [], "glcm": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name.removeprefix("original_"): float(value) for name, value in extractor.execute(*images).items()}


def invalid(of: Region) -> bool:
    """Return True if ours and the definition both refuse the region."""
    with pytest.raises(RegionInvalid):
        defined(of)
    return bool(np.isnan(ours(of)).all())


def pairs(*rows: tuple[int, int], **settings: Any) -> Region:
    """Return a region of horizontal pairs of pixels that do not touch each other: its GLCM counts exactly these."""
    image = np.zeros((2 * len(rows) - 1, 2))
    image[::2] = rows
    return region(image, image > 0, symmetrical_glcm=False, **settings)


# Intensities


def test_flat_region() -> None:
    flat = region(np.full((5, 5), 0.1))
    features = agreed(flat)
    zero = ("Skewness", "Kurtosis", "Variance", "MeanAbsoluteDeviation", "RobustMeanAbsoluteDeviation")
    assert [features[f"firstorder_{name}"] for name in zero] == [0] * 5
    if reference := theirs(flat):
        assert abs(reference["firstorder_Skewness"]) == pytest.approx(1)
        assert reference["firstorder_Kurtosis"] == pytest.approx(1)


def test_far_from_zero() -> None:
    far = region(np.array([[3, 1, 0], [1, 1, 3]]) / 128 + 0.2 + 1e7)
    features = agreed(far)
    assert features["firstorder_Kurtosis"] == pytest.approx(1.64, abs=1e-9)
    if reference := theirs(far):
        assert abs(reference["firstorder_Skewness"] - features["firstorder_Skewness"]) > 5e-7
    # of two pixels there is no skewness at all
    assert abs(agreed(region([[-10001.176218409342, -10001.175820608607]]))["firstorder_Skewness"]) < 1e-12


def test_integer_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    image[3, 3], image[4, 4] = 0, 255
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    features = agreed(region(image, mask, bin_width=25))
    assert features == agreed(region(image.astype(np.float64), mask, bin_width=25))
    if sitk:
        same = executed(image.astype(np.float64), mask)
        assert same["glcm_Contrast"] == pytest.approx(features["glcm_Contrast"], rel=1e-9)
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            try:
                assert executed(image, mask)["glcm_Contrast"] != pytest.approx(features["glcm_Contrast"], rel=1e-3)
            except ValueError as refused:  # the wrapped edges may not even be in order
                assert "bins" in str(refused)


def test_float32_image() -> None:
    image = (np.arange(64).reshape(8, 8) / 10).astype(np.float32)
    mask = np.zeros((8, 8), bool)
    mask[1:7, 1:7] = True
    features = agreed(region(image, mask, bin_width=0.1))
    assert features == agreed(region(image.astype(np.float64), mask, bin_width=0.1))
    narrow = region(1000 + np.linspace(0, 0.002, 64, dtype=np.float32).reshape(8, 8), mask, bin_count=128)
    agreed(narrow)
    if sitk:
        rounded = executed(image, mask, binWidth=0.1)
        assert rounded["glcm_JointEntropy"] != pytest.approx(features["glcm_JointEntropy"], rel=1e-3)
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            with pytest.raises(ValueError, match="Too many bins"):
                executed(narrow.image, mask, binCount=128)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    image = np.arange(25.0).reshape(5, 5)
    image[2, 2] = value
    assert invalid(region(image))
    assert invalid(region(image, feature_class=["shape2D"]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        gpu_radiomics(torch.from_numpy(image)[None], torch.tensor([[0, 0, 5, 5]]))
    if sitk:
        assert theirs(region(image, feature_class=["shape2D"]))
        if np.isnan(value):
            assert np.isfinite(theirs(region(image))["glcm_Contrast"])  # type: ignore[index]


def test_flat_image_normalised() -> None:
    mask = np.ones((5, 6), bool)
    mask[0] = False
    values = (0.1, 7.3, -11.04036203295026, -70.4760694934063, 99.04822945807054)
    flat = [
        region(np.full((5, 6), value), mask, normalize=True, remove_outliers=outliers)
        for value in values
        for outliers in (None, 3.0)
    ]
    assert all(invalid(one) for one in flat)
    if sitk:
        outcomes = []
        for one in flat:
            try:
                outcomes.append(bool(theirs(one)))
            except RegionRefused:
                outcomes.append(False)
        assert any(outcomes)


# Regions


def test_whole_image() -> None:
    image = np.arange(30.0).reshape(5, 6) % 7
    features = agreed(region(image, np.ones((5, 6))))
    assert features == agreed(region(image))
    assert features["shape2D_PixelSurface"] == 30
    if sitk:
        with pytest.raises(ValueError, match="No labels found"):
            executed(image, np.ones((5, 6)))


def test_one_slice_volume() -> None:
    image = np.arange(64.0).reshape(8, 8) % 11
    column = np.zeros((8, 8), bool)
    column[2:6, 3] = True
    features = agreed(region(image, column, bin_width=25))
    assert features["firstorder_TotalEnergy"] == features["firstorder_Energy"]
    assert features["shape2D_PixelSurface"] == 4
    if sitk:
        volume = executed(image[None], column[None], (1.0, 1.0, 5.0), force2D=True, minimumROIDimensions=1)
        assert volume["firstorder_TotalEnergy"] == 5 * features["firstorder_TotalEnergy"]
        assert not any(name.startswith("shape2D") for name in volume)


def test_repeated_distance() -> None:
    with pytest.raises(ValueError, match="distances"):
        RadiomicsSettings(distances=(1, 1))
    if sitk:
        image = np.random.default_rng(0).integers(0, 5, (6, 6)).astype(np.float64)
        mask = np.zeros((6, 6), bool)
        mask[1:5, 1:5] = True
        once, twice = (
            executed(image, mask, binWidth=1, symmetricalGLCM=False, distances=distances) for distances in ([1], [1, 1])
        )
        assert twice["glcm_JointAverage"] != pytest.approx(once["glcm_JointAverage"], rel=1e-6)


def test_collinear_region() -> None:
    lengths = []
    for size in (3, 5, 7, 9, 11):
        for spacing in ((1.0, 1.0), (1000.0, 700.0)):
            line = region(np.ones((size, size)), np.eye(size), spacing)
            features = agreed(line)
            assert features["shape2D_MinorAxisLength"] == features["shape2D_Elongation"] == 0
            if reference := theirs(line):
                lengths.append(reference["shape2D_MinorAxisLength"])
    assert not lengths or any(length != 0 for length in lengths)  # 8e-8, NaN


def volume_features(mask: NDArray[Any], spacing: tuple[float, float, float]) -> dict[str, float]:
    """Return our features of a volume's shape, by name."""
    settings = RadiomicsSettings(feature_class=["shape"], minimum_roi_dimensions=1)
    image = torch.from_numpy(np.ascontiguousarray(mask).astype(np.uint8))[None, None]
    options: Any = {"masks": image, "settings": settings, "spacing": spacing, "dtype": torch.float64}
    row = gpu_radiomics(image, None, **options)[0].tolist()
    names = (name.removeprefix("original_shape_") for name in feature_names(settings, dimensions=3))
    return dict(zip(names, row, strict=True))


def theirs_of_volume(mask: NDArray[Any], spacing: tuple[float, float, float]) -> dict[str, Any]:
    """Return PyRadiomics' features of a volume's shape as they are, or nothing without PyRadiomics."""
    if not sitk:
        return {}
    from radiomics.shape import RadiomicsShape

    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    shape = RadiomicsShape(image, image, label=1)
    shape.enableAllFeatures()
    return dict(shape.execute())


def test_flat_volume() -> None:
    z, y, x = np.indices((5, 5, 5))
    lengths = []
    for spacing in ((1.0, 1.0, 1.0), (2.5, 0.7, 0.9), (3.0, 0.3, 1.1)):
        plane, line = volume_features(2 * z == y + 1, spacing), volume_features((z == y) & (y == x), spacing)
        assert plane["LeastAxisLength"] == plane["Flatness"] == 0 < plane["MinorAxisLength"]
        assert line["LeastAxisLength"] == line["Flatness"] == line["MinorAxisLength"] == line["Elongation"] == 0
        for mask in (2 * z == y + 1, (z == y) & (y == x)):
            if reference := theirs_of_volume(mask, spacing):
                lengths.append(reference["LeastAxisLength"])
    assert not lengths or any(length != 0 for length in lengths)  # 1e-8


def test_symmetric_volume() -> None:
    cuboid, spacing = np.ones((5, 5, 5)), (2.5, 0.7, 0.7)
    ours_of = volume_features(cuboid, spacing)
    assert ours_of["MajorAxisLength"] == pytest.approx(4 * 2.5 * 2**0.5, rel=1e-14)  # n^2 - 1 over 12 is 2
    assert ours_of["Elongation"] == pytest.approx(0.7 / 2.5, rel=1e-14)
    if reference := theirs_of_volume(cuboid, spacing):  # complex or not, which depends on LAPACK
        assert np.real(reference["Elongation"]) == pytest.approx(ours_of["Elongation"], rel=1e-12)


# GLCM and GLRLM


def test_one_level_on_one_side() -> None:
    one = pairs((1, 6), (1, 2), (1, 2), (1, 3), (1, 3), (1, 4))
    assert agreed(one)["glcm_Correlation"] == 1
    if reference := theirs(one):
        assert abs(reference["glcm_Correlation"]) < 1e-6


def test_independent_levels_mcc() -> None:
    of = region([[2.0, 3.0, 2.0, 1.0], [2.0, 2.0, 2.0, 2.0]], symmetrical_glcm=False)
    features = agreed(of)
    if reference := theirs(of):
        # One of four directions is out
        assert reference["glcm_MCC"] == pytest.approx(features["glcm_MCC"] * 4 / 3, rel=1e-6)
    product = pairs(*[(i, j) for i in (1, 2, 2) for j in (1, 3, 3, 5)])
    assert abs(agreed(product)["glcm_MCC"]) < 1e-7


def test_independent_levels_imc2() -> None:
    of = pairs(*[(i, j) for i in (1, 2, 3, 1) for j in (1, 2, 3)])
    assert abs(agreed(of)["glcm_Imc2"]) < 1e-7
    if reference := theirs(of):
        assert np.isnan(reference["glcm_Imc2"])


def test_outweighed_levels() -> None:
    image = np.array([[0, 0, 0, 1], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    of = region(
        image, image > 0, (0.36, 1.64), symmetrical_glcm=False, distances=(1, 3), weighting_norm="euclidean"
    )  # fmt: skip
    assert agreed(of)["glcm_Imc1"] == 0
    if reference := theirs(of):
        assert reference["glcm_Imc1"] < -0.1


def test_vanishing_weights() -> None:
    image = np.arange(9.0).reshape(3, 3) % 4
    contrast = agreed(region(image, spacing=(5, 5), weighting_norm="euclidean"))["glcm_Contrast"]
    far = region(image, spacing=(30, 30), weighting_norm="euclidean")
    assert agreed(far)["glcm_Contrast"] == pytest.approx(contrast, rel=1e-9)
    if reference := theirs(far):
        assert np.isnan(reference["glcm_Contrast"])


@pytest.mark.parametrize("norm", [None, "no_weighting", "euclidean"])
@pytest.mark.parametrize("positions", [((0, 0), (1, 2)), ((0, 0), (0, 2))])
def test_flat_region_without_pairs(norm: str | None, positions: tuple[tuple[int, int], ...]) -> None:
    mask = np.zeros((2, 3), bool)
    mask[tuple(zip(*positions, strict=True))] = True
    of = region(np.ones((2, 3)), mask, weighting_norm=norm)
    glcm = {name: value for name, value in agreed(of).items() if name.startswith("glcm")}
    assert glcm.pop("glcm_MCC") == 1
    assert np.isnan(list(glcm.values())).all()
    if reference := theirs(of):
        several = norm is None and len({y for y, _ in positions}) > 1
        assert (reference["glcm_MCC"] == 1) == several
        assert (reference["glcm_InverseVariance"] == 0) != several


def test_no_runs() -> None:
    mask = np.zeros((2, 3), bool)
    mask[0, 0] = mask[1, 2] = True
    for norm in (None, "euclidean"):
        of = region(np.arange(6.0).reshape(2, 3), mask, weighting_norm=norm)
        assert np.isnan([value for name, value in agreed(of).items() if name.startswith("glrlm")]).all()
        if reference := theirs(of):
            zeros = {name for name, value in reference.items() if name.startswith("glrlm") and value == 0}
            assert zeros == (set() if norm is None else {"glrlm_RunEntropy", "glrlm_RunVariance"})


# NGTDM


def test_equal_level_shares() -> None:
    of = region([[1.0, 1, 1, 1, 1, 5]])
    assert agreed(of)["ngtdm_Busyness"] == 0
    if reference := theirs(of):
        assert reference["ngtdm_Busyness"] > 1e12


# Code over documentation


def same_as_pyradiomics(of: Region) -> Features:
    """Return our features, which must agree with the definition and with PyRadiomics, NaN where it has NaN."""
    features = agreed(of)
    reference = theirs(of)
    if reference:
        assert features == pytest.approx(reference, rel=1e-6, abs=1e-9, nan_ok=True)
    return features


def test_bin_edges() -> None:
    image = np.array([[2.0, 2.5, 3.4], [0.1, 1.0, 1.2], [0.0, 0.3, 0.7]])
    of = region(image, bin_width=0.1)
    same_as_pyradiomics(of)
    assert our_matrices(of)["levels"].tolist() == [[21, 26, 34], [2, 11, 12], [1, 3, 7]]
    documented = np.floor(image / 0.1) - np.floor(image.min() / 0.1) + 1
    assert documented[0, 2] == 35


def test_one_pass_deviation() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4096, (9, 8)).astype(np.int16)
    exact = ("firstorder_Minimum", "firstorder_Maximum", "firstorder_Median", "firstorder_10Percentile")
    for settings in ({}, {"normalize_scale": 33.3, "remove_outliers": 1.5}):
        of = region(image, bin_width=0.1, normalize=True, **settings)
        features = same_as_pyradiomics(of)
        if reference := theirs(of):
            assert [features[name] for name in exact] == [reference[name] for name in exact]
    far = region(1e4 + 0.1 * rng.random((5, 4)), bin_width=0.1, normalize=True)
    sample = np.std(far.image, ddof=1) / np.std(far.image)
    for variance in [values["firstorder_Variance"] for values in (_named(far, ours(far)), theirs(far)) if values]:
        assert 1e-9 < abs(variance * sample**2 - 1) < 1e-3


def test_flat_level() -> None:
    for value, count, level in ((0.0, 8, 5), (0.3, 7, 4), (-0.1, 8, 4)):
        of = region(np.full((3, 3), value), bin_count=count)
        agreed(of)
        assert (our_matrices(of)["levels"] == level).all()
        if sitk:
            _, matrices = pyradiomics_region(of.image, of.box, settings=of.settings)
            assert matrices is not None
            assert (matrices.levels == level).all()


def test_level_above_the_bins() -> None:
    image = np.random.default_rng(0).random((6, 6))
    image[2, 3] = 1.0
    for largest, above in ((1e15, 0), (2.0**54 - 2, 0), (2.0**54 - 4, 1), (1e17, 1)):
        assert (largest + 1 == largest) == bool(above)
        of = region(image * largest, bin_count=8)
        same_as_pyradiomics(of)
        levels = our_matrices(of)["levels"]
        assert levels.max() == 8 + above and (levels == 9).sum() == above


def test_pixels_without_neighbours() -> None:
    # Two neighbours of levels 1 and 3, each 2 from the other, and a pixel of level 3 apart
    features = same_as_pyradiomics(region([[1.0, 3.0, 0.0, 0.0, 3.0]], [[1, 1, 0, 0, 1]]))
    counted, left_out = (2 * p * (1 - p) * 2**2 / (2 * 1) * (2 + 2) / pixels for p, pixels in ((1 / 3, 3), (1 / 2, 2)))
    assert features["ngtdm_Contrast"] == pytest.approx(counted)
    assert counted != pytest.approx(left_out)


def test_resegmented_shape() -> None:
    image = np.ones((6, 6))
    image[1:3, 1:4] = [[9, 1, 9], [1, 9, 9]]
    of = region(image, np.pad(np.ones((4, 4)), 1), resegment_range=(5,))
    features = same_as_pyradiomics(of)
    assert features["shape2D_PixelSurface"] == 6  # of 16 before and 4 after resegmentation
    assert features["firstorder_Energy"] == 4 * 81
    whole = same_as_pyradiomics(region(image, np.pad(np.ones((4, 4)), 1), resegment_range=(5,), resegment_shape=True))
    assert whole["shape2D_PixelSurface"] == 4


def test_open_mesh() -> None:
    """The same voxels, once with another one far before them: only the volume of that one should be added."""
    rng = np.random.default_rng(0)
    noise = np.pad(rng.random((6, 6, 6)) < 0.5, ((8, 0), (9, 0), (7, 0)))
    noise[0, 0, 0] = False
    both = noise.copy()
    both[0, 0, 0] = True
    unit = (1.0, 1.0, 1.0)
    added = volume_features(both, unit)["MeshVolume"] - volume_features(noise, unit)["MeshVolume"]
    assert added != pytest.approx(1 / 6, rel=1e-3)
    for mask in (noise, both):
        places = np.argwhere(mask)
        cropped = mask[tuple(map(slice, places.min(0), places.max(0) + 1))]
        if reference := theirs_of_volume(cropped, unit):
            assert volume_features(mask, unit)["MeshVolume"] == pytest.approx(reference["MeshVolume"], rel=1e-12)


def test_single_pixel_lines() -> None:
    # On a diagonal line only one direction holds two pixels: two runs, of lengths 2 and 1
    of = region(np.diag([1.0, 1.0, 2.0]), np.eye(3))
    features = same_as_pyradiomics(of)
    assert features["glrlm_RunPercentage"] == pytest.approx(2 / 3)
    assert features["glrlm_LongRunEmphasis"] == pytest.approx((4 + 1) / 2)


def test_highest_level() -> None:
    # Levels 1 and 9, every pair of them different: p(8) = 1
    of = pairs((1, 9), (1, 9), feature_class=["glcm"])
    assert same_as_pyradiomics(of)["glcm_Idn"] == pytest.approx(1 / (1 + 8 / 9))
    assert agreed(of)["glcm_Idmn"] == pytest.approx(1 / (1 + 64 / 81))


def test_dependence_emphasis() -> None:
    # One row of 1 1 1 5: dependences 2, 3, 2 and 1
    of = region([[1.0, 1.0, 1.0, 5.0]])
    assert same_as_pyradiomics(of)["gldm_SmallDependenceEmphasis"] == pytest.approx((1 / 4 + 1 / 9 + 1 / 4 + 1) / 4)


def test_entropy_sign() -> None:
    features = same_as_pyradiomics(pairs((1, 2), (1, 1), feature_class=["glcm"]))
    assert features["glcm_DifferenceEntropy"] == pytest.approx(1)
    assert features["glcm_SumEntropy"] == pytest.approx(1)


def test_epsilon() -> None:
    # Weights 1 and 1e-11: without epsilon the two pairs of the far one would be a part of their own, and MCC 1
    image = np.array([[0, 0, 7, 8, 0, 1, 0, 7, 7, 0, 0, 8]])
    of = region(
        image, image > 0, (2.4, 2.9), symmetrical_glcm=False, distances=(1, 2), weighting_norm="euclidean"
    )  # fmt: skip
    assert same_as_pyradiomics(of)["glcm_MCC"] < 0.01
    near = agreed(region(image, image > 0, symmetrical_glcm=False, distances=(1, 2), weighting_norm="no_weighting"))
    assert near["glcm_MCC"] == pytest.approx(1)


def test_minimum_size() -> None:
    image = np.arange(6.0).reshape(2, 3)
    same_as_pyradiomics(region(image, minimum_roi_size=5))
    assert invalid(region(image, minimum_roi_size=6))
    if sitk:
        with pytest.raises(RegionRefused, match="too small"):
            theirs(region(image, minimum_roi_size=6))


def test_distances_beyond_the_box() -> None:
    image = np.arange(12.0).reshape(3, 4)
    near = same_as_pyradiomics(region(image, distances=(3,)))
    assert near == same_as_pyradiomics(region(image, distances=(3, 4)))
    assert invalid(region(image, distances=(4,)))
    classes = ["firstorder", "shape2D", "glrlm", "glszm"]
    apart = same_as_pyradiomics(region(image, distances=(4,), feature_class=classes))
    assert apart == {name: near[name] for name in apart}
    if sitk:
        with pytest.raises(RegionRefused, match="angle count"):
            theirs(region(image, distances=(4,), feature_class=["gldm"]))


def test_every_line_has_a_test() -> None:
    text = (Path(__file__).parents[2] / "docs" / "differences.md").read_text(encoding="utf-8")
    lines = re.findall(r"^- \*\*([a-z0-9-]+)\*\*:", text, re.MULTILINE)
    assert len(lines) == len(set(lines)) == text.count("\n- ")
    tests = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    assert tests - {"every-line-has-a-test"} == set(lines)
