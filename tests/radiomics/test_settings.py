"""RadiomicsSettings: the frozen names, the checks, and PyRadiomics' parameters, compared with PyRadiomics itself."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import math
import pathlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kacl_gpu.radiomics.names import CLASSES, DEPRECATED, FEATURES, NAMED_ONLY, SPELLING
from kacl_gpu.radiomics.settings import RadiomicsSettings

from_pyradiomics = RadiomicsSettings.from_pyradiomics
PAIRS = [(name, feature) for name in CLASSES[2] for feature in FEATURES[name]]


@pytest.fixture(scope="module")
def radiomics() -> Any:
    """Return PyRadiomics, quiet; the test is skipped where it is not installed."""
    module = pytest.importorskip("radiomics", reason="PyRadiomics is not installed")
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    logging.getLogger("pykwalify").setLevel(logging.CRITICAL)
    return module


def extractor(*args: Any, **kwargs: Any) -> Any:
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    return RadiomicsFeatureExtractor(*copy.deepcopy(args), **copy.deepcopy(kwargs))


# Names


def test_names_are_frozen() -> None:
    assert CLASSES[2] == ("firstorder", "shape2D", "glcm", "glrlm", "glszm", "ngtdm", "gldm")
    assert CLASSES[3] == ("firstorder", "shape", "glcm", "glrlm", "glszm", "ngtdm", "gldm")
    assert tuple(FEATURES) == ("firstorder", "shape", "shape2D", "glcm", "glrlm", "glszm", "ngtdm", "gldm")
    assert [len(features) for features in FEATURES.values()] == [18, 14, 9, 24, 16, 16, 5, 14]
    digest = hashlib.sha256(" ".join(f"{name}_{feature}" for name, feature in PAIRS).encode()).hexdigest()
    assert digest == "d28768d9cae53c7d6075185e75375082bf725eb02bc5fc208c2698d32f2577ad"


def test_names_and_order_are_those_that_pyradiomics_emits(radiomics: Any) -> None:
    import SimpleITK as sitk

    for dimensions, number in ((2, 102), (3, 107)):
        image = np.arange(8.0**dimensions).reshape((8,) * dimensions)
        mask = np.zeros(image.shape, np.uint8)
        mask[(slice(2, 6),) * dimensions] = 1
        every_class = extractor(additionalInfo=False)
        if dimensions == 2:
            every_class.enableFeatureClassByName("shape2D")
        emitted = every_class.execute(sitk.GetImageFromArray(image), sitk.GetImageFromArray(mask))
        for name in CLASSES[dimensions]:
            prefix = f"original_{name}_"
            assert tuple(key[len(prefix) :] for key in emitted if key.startswith(prefix)) == FEATURES[name]
        assert len(emitted) == len(RadiomicsSettings().selected(dimensions)) == number


def test_deprecated_features_are_those_of_pyradiomics(radiomics: Any) -> None:
    classes = radiomics.getFeatureClasses()
    for name in FEATURES:
        deprecated = {feature for feature, is_deprecated in classes[name].getFeatureNames().items() if is_deprecated}
        assert deprecated == {*DEPRECATED.get(name, ()), *NAMED_ONLY.get(name, ())}


def test_deprecated_shape_features_are_computed_where_they_are_named() -> None:
    named = RadiomicsSettings(feature_class={"shape": ["Sphericity", "SphericalDisproportion", "Compactness1"]})
    expected = ["Compactness1", "SphericalDisproportion", "Sphericity"]  # the order of PyRadiomics' methods
    assert named.selected(3) == tuple(("shape", feature) for feature in expected)
    assert len(RadiomicsSettings(feature_class=["shape"]).selected(3)) == 14
    everything = [*FEATURES["shape"], *NAMED_ONLY["shape"]]
    assert len(RadiomicsSettings(feature_class={"shape": everything}).selected(3)) == 17


@pytest.mark.parametrize(("dimensions", "wrong", "right"), [(2, "shape", "shape2D"), (3, "shape2D", "shape")])
def test_a_class_of_the_other_dimensions_is_refused(dimensions: int, wrong: str, right: str) -> None:
    selection = RadiomicsSettings(feature_class=["glcm", wrong])
    with pytest.raises(ValueError, match=f"feature class '{wrong}' describes regions of .*: use '{right}' for"):
        selection.selected(dimensions)
    assert len(selection.selected(5 - dimensions)) > 24
    with pytest.raises(ValueError, match=r"dimensions must be 2 .* or 3 .*, got 4"):
        selection.selected(4)


# Construction


def test_defaults() -> None:
    defaults = RadiomicsSettings()
    assert (defaults.bin_width, defaults.bin_count) == (25.0, None)
    assert defaults.distances == (1,)
    assert defaults.symmetrical_glcm is True
    assert defaults.weighting_norm is None
    assert (defaults.gldm_a, defaults.voxel_array_shift, defaults.label) == (0, 0, 1)
    assert (defaults.resegment_range, defaults.resegment_mode, defaults.resegment_shape) == (None, "absolute", False)
    assert (defaults.normalize, defaults.normalize_scale, defaults.remove_outliers) == (False, 1, None)
    assert (defaults.minimum_roi_dimensions, defaults.minimum_roi_size) == (2, None)
    assert (defaults.force2d, defaults.force2d_dimension, defaults.max_region) == (False, 0, None)
    assert (defaults.feature_class, defaults.max_levels, defaults.memory_limit) == (None, None, 2**31)
    assert defaults.selected() == tuple(PAIRS)


def test_a_bin_count_takes_the_place_of_the_bin_width() -> None:
    assert RadiomicsSettings(bin_count=32).bin_width is None
    assert dataclasses.replace(RadiomicsSettings(), bin_count=32, bin_width=None).bin_count == 32
    assert dataclasses.replace(RadiomicsSettings(bin_count=32), bin_width=5, bin_count=None).bin_width == 5


@pytest.mark.parametrize("change", [{"bin_count": 32, "bin_width": 25}, {"bin_count": 32, "bin_width": 25.0}])
def test_both_bin_width_and_bin_count(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bin_width=25.*bin_count=32.*both given"):
        RadiomicsSettings(**change)


def test_replacing_the_bin_width_says_how() -> None:
    with pytest.raises(ValueError, match=r"both given.*dataclasses\.replace.*bin_width=None"):
        dataclasses.replace(RadiomicsSettings(), bin_count=32)


def test_settings_are_frozen_hashable_and_survive_pickling() -> None:
    some = RadiomicsSettings(distances=[2, 1], feature_class={"glcm": ["MCC"]}, resegment_range=[9, 3])
    same = RadiomicsSettings(distances=(2, 1), feature_class=[("glcm", ("MCC",))], resegment_range=(3.0, 9.0))
    assert some == same
    assert hash(some) == hash(same)
    assert some != RadiomicsSettings()
    assert pickle.loads(pickle.dumps(some)) == some
    assert dataclasses.replace(some) == some
    with pytest.raises(dataclasses.FrozenInstanceError):
        some.label = 2  # type: ignore[misc]


def test_values_are_stored_as_plain_python_objects() -> None:
    stored = RadiomicsSettings(
        bin_count=np.int64(32),
        distances=np.array([1, 3]),
        symmetrical_glcm=np.False_,
        voxel_array_shift=np.float32(0.5),
        resegment_range=np.array([1.5]),
        normalize_scale=3,
    )
    assert (type(stored.bin_count), stored.bin_count) == (int, 32)
    assert stored.distances == (1, 3) and all(type(distance) is int for distance in stored.distances)
    assert stored.symmetrical_glcm is False
    assert (type(stored.voxel_array_shift), stored.voxel_array_shift) == (float, 0.5)
    assert stored.resegment_range == (1.5,) and type(stored.resegment_range[0]) is float
    assert type(stored.normalize_scale) is float


NAN, INFINITY = math.nan, math.inf
OUT_OF_RANGE: list[tuple[str, list[Any]]] = [
    ("bin_width", [0, -1, 0.0, -0.0, NAN, INFINITY, -INFINITY, 10**400, np.float32("nan")]),
    ("bin_count", [0, -1, 32768, 10**400, np.int8(-1)]),
    ("distances", [(), [], (0,), (1, 0), (-1,), (1, 1), (2, 1, 2), np.array([], int)]),
    ("weighting_norm", ["", "Manhattan", "euclid", "none"]),
    ("gldm_a", [-1]),
    ("voxel_array_shift", [NAN, INFINITY, -INFINITY]),
    ("label", [0, -1]),
    ("resegment_range", [(), [], (1, 2, 3), (NAN,), (0, INFINITY), (-INFINITY, 0)]),
    ("resegment_mode", ["", "Absolute", "relativ"]),
    ("normalize_scale", [0, -1, NAN, INFINITY]),
    ("remove_outliers", [0, -3, NAN, INFINITY]),
    ("minimum_roi_dimensions", [0, 4, -1]),
    ("minimum_roi_size", [0, -1]),
    ("max_levels", [0, -1, 32768]),
    ("memory_limit", [0, -1]),
]
INTEGERS = ["gldm_a", "label", "minimum_roi_dimensions", "memory_limit"]
OPTIONAL_INTEGERS = ["bin_count", "minimum_roi_size", "max_levels"]
NUMBERS = ["voxel_array_shift", "normalize_scale"]
FLAGS = ["symmetrical_glcm", "resegment_shape", "normalize"]
WRONG_TYPE: list[tuple[str, list[Any]]] = [
    *[(name, [None, True, np.True_, 1.0, np.float64(2), "1", b"1", 1j, [1], (1,), object()]) for name in INTEGERS],
    *[(name, [False, True, 32.0, np.float32(32), "32", [32]]) for name in OPTIONAL_INTEGERS],
    *[(name, [None, True, "1", 1j, [1.0], {}]) for name in NUMBERS],
    *[(name, [True, "25", 25j, [25], b"25"]) for name in ("bin_width", "remove_outliers")],
    *[(name, [None, 0, 1, 1.0, "true", "False", []]) for name in FLAGS],
    (
        "distances",
        [None, 1, 1.0, "1", b"1", (1.0,), ("1",), (True,), {1, 2}, {1: 2}, np.array(1), np.ones((1, 1), int)],
    ),
    ("resegment_range", [1, 1.0, "12", {1, 2}, ("1",), (None,), (True, 2), np.array(1.0), {1: 2}]),
    ("weighting_norm", [0, True, ["manhattan"], b"manhattan"]),
    ("resegment_mode", [None, 0, ["absolute"]]),
]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(ValueError, name, value) for name, values in OUT_OF_RANGE for value in values]
    + [(TypeError, name, value) for name, values in WRONG_TYPE for value in values],
    ids=lambda value: value.__name__ if isinstance(value, type) else repr(value)[:40],
)
def test_a_wrong_value_is_named_with_what_was_expected(kind: type[Exception], name: str, value: Any) -> None:
    with pytest.raises(kind, match="expected") as caught:
        RadiomicsSettings(**{name: value})
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(name)
    if isinstance(value, (int, float, str)):
        assert repr(value) in message
    theirs = {ours: theirs for theirs, ours in SPELLING.items()}.get(name, name)
    assert theirs in message


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(CLASSES[2]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(name=st.sampled_from([field.name for field in dataclasses.fields(RadiomicsSettings)]), value=junk)
def test_any_value_is_taken_or_refused_by_type_or_value_error(name: str, value: Any) -> None:
    try:
        taken = RadiomicsSettings(**{name: value})
    except (TypeError, ValueError):
        return
    assert hash(taken) == hash(dataclasses.replace(taken))
    assert taken == dataclasses.replace(taken)


# Selection


@settings(deadline=None)
@given(data=st.data(), classes=st.lists(st.sampled_from(CLASSES[2]), unique=True, min_size=1))
def test_any_selection_comes_out_in_the_frozen_order(data: st.DataObject, classes: list[str]) -> None:
    chosen = {
        name: data.draw(st.none() | st.lists(st.sampled_from(FEATURES[name]), max_size=6), label=name)
        for name in classes
    }
    selection = RadiomicsSettings(feature_class=chosen)
    expected = tuple(
        (name, feature)
        for name, feature in PAIRS
        if name in chosen and (not chosen[name] or feature in (chosen[name] or ()))
    )
    assert selection.selected() == expected
    assert dataclasses.replace(selection) == selection
    in_another_order = {name: (chosen[name] or [])[::-1] for name in reversed(classes)}
    assert RadiomicsSettings(feature_class=in_another_order) == selection
    assert hash(RadiomicsSettings(feature_class=in_another_order)) == hash(selection)


@pytest.mark.parametrize(
    "everything",
    [
        *(None, {}, [], (), CLASSES[2], CLASSES[2][::-1], dict.fromkeys(CLASSES[2])),
        {name: FEATURES[name] for name in CLASSES[2]},
        {name: [] for name in CLASSES[2]},
    ],
    ids=repr,
)
def test_everything_selected_is_the_default(everything: Any) -> None:
    assert RadiomicsSettings(feature_class=everything) == RadiomicsSettings()


@pytest.mark.parametrize(
    ("selection", "kind", "message"),
    [
        ({"gclm": None}, ValueError, r"unknown feature class 'gclm'; the nearest known one is 'glcm'"),
        (["GLSZM"], ValueError, r"unknown feature class 'GLSZM'; the nearest known one is 'glszm'"),
        (["first_order"], ValueError, r"nearest known one is 'firstorder'"),
        ([""], ValueError, r"unknown feature class ''"),
        ({"glcm": ["contrast"]}, ValueError, r"unknown glcm feature 'contrast'; the nearest known one is 'Contrast'"),
        ({"firstorder": ["Kurtosi"]}, ValueError, r"nearest known one is 'Kurtosis'"),
        ({"glrlm": ["SRE", "RunEntropie"]}, ValueError, r"unknown glrlm feature 'SRE'"),
        (
            {"glcm": ["SumVariance"]},
            ValueError,
            r"'SumVariance' of glcm is known to PyRadiomics, but .*ClusterTendency",
        ),
        (["glcm", "glcm"], ValueError, r"feature_class: the class 'glcm' stands twice"),
        ("glcm", TypeError, r"feature_class: expected .*got 'glcm'"),
        ({"glcm": "MCC"}, TypeError, r"feature_class\['glcm'\]: expected .*got 'MCC'"),
        ({"glcm": ["MCC", 3]}, TypeError, r"feature_class\['glcm'\]: expected names of features"),
        ({"glcm": True}, TypeError, r"feature_class\['glcm'\]: expected .*got True"),
        ({3: None}, TypeError, r"feature_class: expected"),
        ({"firstorder", "glcm"}, TypeError, r"feature_class: expected"),
        ([["glcm", None]], TypeError, r"feature_class: expected"),
        (7, TypeError, r"feature_class: expected"),
    ],
)
def test_a_wrong_selection_is_named(selection: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        RadiomicsSettings(feature_class=selection)


# PyRadiomics' parameters

PARAMETERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "binWidth": (10, {"bin_width": 10.0}),
    "binCount": (32, {"bin_count": 32, "bin_width": None}),
    "distances": ([1, 2], {"distances": (1, 2)}),
    "symmetricalGLCM": (False, {"symmetrical_glcm": False}),
    "weightingNorm": ("infinity", {"weighting_norm": "infinity"}),
    "gldm_a": (1, {"gldm_a": 1}),
    "voxelArrayShift": (300, {"voxel_array_shift": 300.0}),
    "label": (2, {"label": 2}),
    "force2D": (True, {"force2d": True}),
    "force2Ddimension": (2, {"force2d_dimension": 2}),
    "resegmentRange": ([3, -3], {"resegment_range": (-3.0, 3.0)}),
    "resegmentMode": ("sigma", {"resegment_mode": "sigma"}),
    "resegmentShape": (True, {"resegment_shape": True}),
    "normalize": (True, {"normalize": True}),
    "normalizeScale": (100, {"normalize_scale": 100.0}),
    "removeOutliers": (3, {"remove_outliers": 3.0}),
    "minimumROIDimensions": (1, {"minimum_roi_dimensions": 1}),
    "minimumROISize": (50, {"minimum_roi_size": 50}),
}
WITHOUT_EFFECT: dict[str, Any] = {
    "geometryTolerance": 1e-3,
    "correctMask": True,
    "additionalInfo": False,
    "preCrop": True,
    "padDistance": 10,
    "interpolator": "sitkLinear",
    "sigma": [1.0, 3.0],
    "wavelet": "haar",
    "level": 2,
    "start_level": 1,
    "gradientUseSpacing": False,
    "lbp2DRadius": 2.0,
    "lbp2DSamples": 9,
    "lbp2DMethod": "ror",
    "lbp3DLevels": 3,
    "lbp3DIcosphereRadius": 2.0,
    "lbp3DIcosphereSubdivision": 2,
    "resampledPixelSpacing": None,
    "label_channel": 0,
}
OVERRIDABLE = ["binWidth", "binCount", "distances", "symmetricalGLCM", "weightingNorm", "gldm_a", "voxelArrayShift"]


@pytest.mark.parametrize("theirs", PARAMETERS)
@pytest.mark.parametrize("form", ["flat", "nested", "image type"])
def test_each_parameter_reaches_its_setting(theirs: str, form: str) -> None:
    value, expected = PARAMETERS[theirs]
    if form == "image type" and theirs not in OVERRIDABLE:
        with pytest.raises(ValueError, match=rf"'{theirs}' of image type 'Original' is known to PyRadiomics, but"):
            from_pyradiomics({"imageType": {"Original": {theirs: value}}})
        return
    params: dict[str, Any] = {
        "flat": {theirs: value},
        "nested": {"setting": {theirs: value}},
        "image type": {"imageType": {"Original": {theirs: value}}},
    }[form]
    changed = from_pyradiomics(params)
    assert {name: getattr(changed, name) for name in expected} == expected
    assert changed == RadiomicsSettings(**{name: new for name, new in expected.items() if new is not None})


def test_every_setting_of_pyradiomics_is_known(radiomics: Any) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    schema = yaml.safe_load(pathlib.Path(radiomics.getParameterValidationFiles()[0]).read_text())
    in_schema = schema["mapping"]["setting"]["mapping"]
    assert set(in_schema) == {*PARAMETERS, *WITHOUT_EFFECT}
    for key in schema["mapping"]["voxelSetting"]["mapping"]:
        with pytest.raises(ValueError, match=rf"'{key}' is known to PyRadiomics, but"):
            from_pyradiomics({key: 1})


def test_settings_without_effect_are_accepted() -> None:
    assert from_pyradiomics(WITHOUT_EFFECT) == RadiomicsSettings()
    assert from_pyradiomics({"setting": WITHOUT_EFFECT}) == RadiomicsSettings()
    assert from_pyradiomics({"setting": {"resampledPixelSpacing": [2, 2], "interpolator": None}}) == RadiomicsSettings()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"setting": {}},
        {"setting": None, "featureClass": None, "imageType": None, "voxelSetting": None},
        {"featureClass": {}},
        {"imageType": {}},
        {"imageType": {"Original": {}}},
        {"imageType": {"Original": None}},
        {"voxelSetting": {}},
        {"featureClass": dict.fromkeys(CLASSES[2])},
        {"setting": dict.fromkeys(["binWidth", "binCount", "weightingNorm", "resegmentRange", "removeOutliers"])},
        {"minimumROISize": None, "normalize": None, "resegmentShape": None, "resampledPixelSpacing": None},
    ],
    ids=repr,
)
def test_nothing_chosen_means_the_defaults(params: dict[str, Any]) -> None:
    assert from_pyradiomics(params) == RadiomicsSettings()


def test_a_null_means_what_it_does_in_pyradiomics() -> None:
    assert from_pyradiomics({"symmetricalGLCM": None}).symmetrical_glcm is False
    for theirs in ("distances", "gldm_a", "label", "resegmentMode", "normalizeScale", "minimumROIDimensions"):
        with pytest.raises(TypeError, match=rf"{theirs}.*got None"):
            from_pyradiomics({theirs: None})


def test_the_image_type_overrides_the_setting() -> None:
    params = {
        "setting": {"binWidth": 5, "distances": [1, 2], "label": 3},
        "imageType": {"Original": {"binWidth": 10, "sigma": [1.0]}},
        "featureClass": {"glcm": [], "ngtdm": None, "firstorder": ["Mean", "Energy"]},
    }
    expected = RadiomicsSettings(
        bin_width=10,
        distances=(1, 2),
        label=3,
        feature_class={"firstorder": ["Energy", "Mean"], "glcm": None, "ngtdm": None},
    )
    assert from_pyradiomics(params) == expected
    another = {"setting": {"binWidth": 5}, "imageType": {"Original": {"binWidth": None, "binCount": 8}}}
    assert from_pyradiomics(another) == RadiomicsSettings(bin_count=8)


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ({"binwidth": 1}, ValueError, r"unknown setting 'binwidth'; the nearest known one is 'binWidth'"),
        ({"bin_width": 1}, ValueError, r"unknown setting 'bin_width'; the nearest known one is 'binWidth'"),
        ({"settings": {"binWidth": 1}}, ValueError, r"unknown setting 'settings'; the nearest known one is 'setting'"),
        ({"setting": {"Distance": [1]}}, ValueError, r"unknown setting 'Distance'; .* 'distances'"),
        ({"setting": {}, "featureclass": {}}, ValueError, r"unknown section 'featureclass'; .* 'featureClass'"),
        ({"setting": {}, "binWidth": 1}, ValueError, r"'binWidth' stands beside .*inside 'setting'"),
        ({"setting": {1: 2}}, ValueError, r"unknown setting 1;"),
        ({"imageType": {"original": {}}}, ValueError, r"unknown image type 'original'; .* 'Original'"),
        (
            {"imageType": {"Original": {"binwidth": 1}}},
            ValueError,
            r"unknown setting of image type 'Original' 'binwidth'",
        ),
        ({"featureClass": {"glmc": []}}, ValueError, r"unknown feature class 'glmc'; .* 'glcm'"),
        ({"featureClass": {"glcm": ["Contrst"]}}, ValueError, r"unknown glcm feature 'Contrst'; .* 'Contrast'"),
        ({"voxelSetting": {"kernelradius": 2}}, ValueError, r"unknown setting of voxelSetting .* 'kernelRadius'"),
        ({"binWidth": 0}, ValueError, r"binWidth in PyRadiomics\): expected a finite number above 0, got 0"),
        ({"binWidth": "25"}, TypeError, r"binWidth in PyRadiomics\): expected .*got '25'"),
        ({"binWidth": 5, "binCount": 8}, ValueError, r"binWidth and binCount in PyRadiomics\) are both given"),
        ({"setting": {"binWidth": 5}, "imageType": {"Original": {"binCount": 8}}}, ValueError, r"both given"),
        ({"setting": [1]}, TypeError, r"setting: expected a mapping, got list"),
        ({"featureClass": ["glcm"]}, TypeError, r"featureClass: expected a mapping, got list"),
        ({"imageType": "Original"}, TypeError, r"imageType: expected a mapping, got str"),
        ({"imageType": {"Original": 25}}, TypeError, r"Original: expected a mapping, got int"),
        (None, TypeError, r"params: expected a mapping or the path"),
        (["binWidth"], TypeError, r"params: expected a mapping or the path"),
        (b"params.yaml", TypeError, r"params: expected a mapping or the path"),
    ],
)
def test_wrong_parameters_are_named(params: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        from_pyradiomics(params)


CANNOT_HONOUR: list[tuple[dict[str, Any], str]] = [
    ({"setting": {"resampledPixelSpacing": [2.0, 2.0]}}, "resample images and masks first"),
    ({"setting": {"label_channel": 1}}, "pass that channel"),
    ({"voxelSetting": {"kernelRadius": 2}}, "voxel-based"),
    ({"voxelSetting": {"maskedKernel": False}}, "voxel-based"),
    ({"voxelSetting": {"initValue": 0.0}}, "voxel-based"),
    ({"voxelSetting": {"voxelBatch": 100}}, "voxel-based"),
    *[
        ({"imageType": {"Original": {}, image_type: {}}}, "filter the images first")
        for image_type in (
            "Exponential",
            "Gradient",
            "LBP2D",
            "LBP3D",
            "LoG",
            "Logarithm",
            "Square",
            "SquareRoot",
            "Wavelet",
        )
    ],
    *[
        ({"featureClass": {name: [feature]}}, remedy)
        for name, remedies in DEPRECATED.items()
        for feature, remedy in remedies.items()
    ],
    *[
        ({"imageType": {"Original": {theirs: value}}}, "put it into 'setting'")
        for theirs, (value, _) in PARAMETERS.items()
        if theirs not in OVERRIDABLE
    ],
]


@pytest.mark.parametrize(("params", "remedy"), CANNOT_HONOUR, ids=lambda value: json.dumps(value)[:70])
def test_what_cannot_be_honoured_says_so(params: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=r"known to PyRadiomics, but") as caught:
        from_pyradiomics(params)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("params", [params for params, _ in CANNOT_HONOUR], ids=lambda value: json.dumps(value)[:70])
def test_what_cannot_be_honoured_is_known_to_pyradiomics(params: dict[str, Any], radiomics: Any) -> None:
    extractor(params)


positive = st.floats(1e-6, 1e6)
overridable = st.fixed_dictionaries(
    {},
    optional={
        "distances": st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
        "symmetricalGLCM": st.booleans() | st.none(),
        "weightingNorm": st.sampled_from([None, "manhattan", "euclidean", "infinity", "no_weighting"]),
        "gldm_a": st.integers(0, 50),
        "voxelArrayShift": st.integers(-5000, 5000),
    },
)
binning: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"binWidth": positive | st.integers(1, 100)}, optional={"binCount": st.none()}),
    st.fixed_dictionaries({"binCount": st.integers(1, 32767)}, optional={"binWidth": st.none()}),
)
others = st.fixed_dictionaries(
    {},
    optional={
        "label": st.integers(1, 255),
        "resegmentRange": st.none() | st.lists(st.floats(-1e6, 1e6) | st.integers(-9, 9), min_size=1, max_size=2),
        "resegmentMode": st.sampled_from(["absolute", "relative", "sigma"]),
        "resegmentShape": st.booleans() | st.none(),
        "normalize": st.booleans() | st.none(),
        "normalizeScale": positive,
        "removeOutliers": st.none() | positive,
        "minimumROIDimensions": st.integers(1, 3),
        "minimumROISize": st.none() | st.integers(1, 10**6),
        **{key: st.just(value) for key, value in WITHOUT_EFFECT.items()},
    },
)
feature_classes = st.fixed_dictionaries(
    {}, optional={name: st.none() | st.lists(st.sampled_from(FEATURES[name]), max_size=4) for name in CLASSES[2]}
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(overridable, binning, st.booleans(), overridable, others, st.none() | feature_classes)
def test_parameters_that_pyradiomics_accepts_mean_the_same_here(
    radiomics: Any,
    own: dict[str, Any],
    bins: dict[str, Any],
    bins_in_image_type: bool,
    override: dict[str, Any],
    rest: dict[str, Any],
    feature_class: dict[str, Any] | None,
) -> None:
    if bins_in_image_type:
        override = {**override, **bins}
    else:
        own = {**own, **bins}
    params: dict[str, Any] = {"setting": {**own, **rest}, "imageType": {"Original": override}}
    if feature_class is not None:
        params["featureClass"] = feature_class
    reference = extractor(params)
    ours = from_pyradiomics(params)

    # The defaults that PyRadiomics keeps where each setting is read, not in one place
    effective: dict[str, Any] = {
        "binWidth": None if "binCount" in bins and bins["binCount"] is not None else 25,
        "symmetricalGLCM": True,
        "gldm_a": 0,
        "voxelArrayShift": 0,
        "resegmentMode": "absolute",
        "resegmentShape": False,
    }
    effective.update(reference.settings)
    effective.update(reference.enabledImagetypes["Original"])
    for theirs, name in SPELLING.items():
        expected: Any = effective.get(theirs)
        if theirs in ("symmetricalGLCM", "resegmentShape", "normalize"):
            expected = bool(expected)
        if theirs == "distances":
            expected = tuple(expected)
        if theirs == "resegmentRange" and expected is not None:
            expected = tuple(sorted(expected))
        assert getattr(ours, name) == expected, theirs
    enabled = {name: features for name, features in reference.enabledFeatures.items() if name != "shape"}
    assert ours.selected() == tuple(
        (name, feature)
        for name, feature in PAIRS
        if name in enabled and (not enabled[name] or feature in enabled[name])
    )


@given(
    st.dictionaries(st.text(max_size=6) | st.sampled_from([*SPELLING, *WITHOUT_EFFECT, "setting", "imageType"]), junk)
)
def test_any_parameters_are_taken_or_refused_by_type_or_value_error(params: dict[str, Any]) -> None:
    try:
        taken = from_pyradiomics(params)
    except (TypeError, ValueError):
        return
    assert isinstance(taken, RadiomicsSettings)


# Files


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Any:
    def write_file(name: str, content: str | bytes) -> pathlib.Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.mark.parametrize("name", ["params.json", "PARAMS.JSON", "params.yaml", "params.yml", "params"])
def test_files(write: Any, name: str) -> None:
    if not name.lower().endswith("json"):
        pytest.importorskip("yaml", reason="PyYAML is not installed")
    params = {"setting": {"binWidth": 10, "label": 2}, "featureClass": {"glcm": ["MCC"], "ngtdm": None}}
    path = write(name, json.dumps(params))
    assert from_pyradiomics(path) == from_pyradiomics(str(path)) == from_pyradiomics(params)


def test_yaml(write: Any, radiomics: Any) -> None:
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = write(
        "params.yaml",
        "# as PyRadiomics' examples are written\n"
        "imageType:\n  Original: {}\n"
        "featureClass:\n  firstorder:  # all\n  glcm:\n    - 'MCC'\n  shape2D: []\n"
        "setting:\n  binWidth: 1e-3\n  resegmentRange: [-3, 1E+2]\n  normalize: true\n  distances: [1, 3]\n",
    )
    ours = from_pyradiomics(path)
    assert ours == RadiomicsSettings(
        bin_width=0.001,
        resegment_range=(-3, 100),
        normalize=True,
        distances=(1, 3),
        feature_class={"firstorder": None, "shape2D": None, "glcm": ["MCC"]},
    )
    reference = extractor(str(path)).settings
    assert (reference["binWidth"], reference["resegmentRange"]) == (0.001, [-3, 100])


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("bad.yaml", "setting: [1", ValueError, "malformed YAML"),
        ("bad.yaml", "a: b: c", ValueError, "malformed YAML"),
        ("tag.yaml", "!!python/object/apply:os.getcwd []", ValueError, "malformed YAML"),
        ("twice.yaml", "binWidth: 1\nbinWidth: 2\n", ValueError, "'binWidth' stands twice"),
        ("bad.json", "{", ValueError, "malformed JSON"),
        ("deep.json", "[" * 200_000, ValueError, "malformed JSON"),
        ("twice.json", '{"binWidth": 1, "binWidth": 2}', ValueError, "a key stands twice"),
        ("nan.json", '{"binWidth": NaN}', ValueError, "bin_width"),
        ("empty.yaml", "", ValueError, "empty file"),
        ("comment.yaml", "# nothing\n", TypeError, "expected a mapping"),
        ("list.json", "[1]", TypeError, "expected a mapping of PyRadiomics' settings, got list"),
        ("latin.yaml", b"label: \xff", ValueError, "readable YAML or JSON"),
        ("unknown.json", '{"binwidth": 1}', ValueError, "nearest known one is 'binWidth'"),
        ("type.json", '{"binWidth": "1"}', TypeError, "binWidth"),
    ],
)
def test_a_wrong_file_is_named(write: Any, name: str, content: Any, kind: type[Exception], message: str) -> None:
    if not name.endswith("json"):
        pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = write(name, content)
    with pytest.raises(kind, match=message) as caught:
        from_pyradiomics(path)
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(ValueError, match="readable YAML or JSON") as caught:
            from_pyradiomics(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="null"):
        from_pyradiomics("a\0b")


def test_without_pyyaml_the_extra_is_named_and_json_is_read(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ModuleNotFoundError, match=r"kacl-gpu\[io\]") as caught:
        from_pyradiomics(write("params.yaml", "binWidth: 1"))
    assert caught.value.name == "yaml"
    assert from_pyradiomics(write("params.json", '{"binWidth": 1}')).bin_width == 1
