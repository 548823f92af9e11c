"""What to compute and how: PyRadiomics' settings under snake_case names, checked where they enter.

The defaults and meanings are those of PyRadiomics 3.0.1 (``radiomics/featureextractor.py``,
``radiomics/schemas/paramSchema.yaml`` and the documentation page "Customizing the Extraction").
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from .names import CLASSES, DEPRECATED, FEATURES, FIRST_ORDER_OF_LEVELS, NAMED_ONLY, SPELLING, nearest, unknown
from .pyradiomics import read, translate

_LARGEST_LEVEL = 2**15 - 1  # grey levels are stored in 16 bits, signed

FeatureSelection: TypeAlias = (
    Mapping[str, Collection[str] | None] | Sequence[str] | Sequence[tuple[str, Collection[str] | None]] | None
)


@dataclass(frozen=True, kw_only=True)
class RadiomicsSettings:
    """Hold the settings of :func:`kacl_gpu.gpu_radiomics`: immutable, hashable, equal when they mean the same.

    Meanings and defaults are those of PyRadiomics 3.0.1 ("Customizing the Extraction"), whose spelling stands in
    brackets.

    Attributes:
        bin_width: width of a grey-level bin in units of the image, above 0; 25 unless ``bin_count`` is given, then
            None (``binWidth``).
        bin_count: number of grey-level bins from the smallest to the largest value of a region, 1 to 32767; None by
            default: bins of fixed width (``binCount``).
        force2d: restrict the neighbours, runs and zones of textures to one plane of a volume, whose matrices add up the
            planes; without effect on 2D images; False by default (``force2D``).
        force2d_dimension: the axis across these planes: 0, z; 1, y; 2, x; 0 by default (``force2Ddimension``).
        distances: in pixels (infinity norm), at which GLCM, NGTDM and GLDM look for neighbours; each at least 1, no two
            alike; (1,) by default (``distances``).
        symmetrical_glcm: count each pair of the GLCM in both directions; True by default (``symmetricalGLCM``).
        weighting_norm: None, "manhattan", "euclidean", "infinity" or "no_weighting": the norm, in units of the spacing,
            of the distances d by which the directions of the GLCM (by exp(-d^2)) and of the GLRLM (by d) are weighted
            and summed into one matrix; "no_weighting" sums with weight 1. None by default: features are computed for
            each direction and averaged (``weightingNorm``).
        gldm_a: largest difference of grey levels that counts as dependent in the GLDM, at least 0; 0 by default
            (``gldm_a``).
        voxel_array_shift: added to the values, in units of the image, for firstorder Energy, TotalEnergy and
            RootMeanSquared; 0 by default (``voxelArrayShift``).
        label: the value that marks a region in ``masks``, at least 1; 1 by default (``label``).
        resegment_range: one threshold (lower) or two (lower and upper), inclusive, stored sorted: pixels outside leave
            the region; None by default: all stay (``resegmentRange``).
        resegment_mode: the unit of the thresholds: "absolute", that of the image; "relative", the region's maximum;
            "sigma", standard deviations from the region's mean; "absolute" by default (``resegmentMode``).
        resegment_shape: shape features see the resegmented region too; False by default (``resegmentShape``).
        normalize: bring each whole image to mean 0 and standard deviation 1 first; False by default (``normalize``).
        normalize_scale: factor on the normalised image, above 0; 1 by default (``normalizeScale``).
        remove_outliers: clip the normalised image, before it is scaled, to this many standard deviations, above 0;
            without effect unless ``normalize``; None by default: no clipping (``removeOutliers``).
        minimum_roi_dimensions: in how many dimensions a region must extend over more than one pixel, 1 to 3, which no
            region of an image does; 2 by default (``minimumROIDimensions``).
        minimum_roi_size: a region must have more pixels than this, at least 1; None by default: any number
            (``minimumROISize``).
        feature_class: the classes to compute, each with the names of its features (None or empty: all of the class), or
            just the classes; None or empty, the default: all seven, with shape2D of images and shape of volumes. Stored
            as a tuple of pairs, or None. The order of the output is the frozen one, whatever the order here
            (``featureClass``). Compactness1, Compactness2 and SphericalDisproportion of shape, which PyRadiomics
            deprecates, are computed only where they are named.
        max_levels: upper bound on the grey levels of a region, 1 to 32767; a region that needs more is invalid. None by
            default: as many as fit. (Not in PyRadiomics.)
        max_region: upper bound on the box of a region in voxels, (depth, height, width), or (height, width) of images,
            stored with depth 1; a larger region is invalid. Volumes on a GPU need it where a call must not wait for the
            device, for blocks of that size are then laid out for each region. None by default: any size. (Not in
            PyRadiomics.)
        memory_limit: bytes of working memory that one call may take, at least 1, whatever the number of regions; 2 GiB
            by default. Beside it, on the CPU each thread takes some 60 bytes per pixel of its region, and bfloat16
            images are copied whole, as float32. (Not in PyRadiomics.)

    Raises:
        TypeError: a value of the wrong type; the message names the setting, the value and what was expected.
        ValueError: a value out of range, both ``bin_width`` and ``bin_count``, or an unknown class or feature, with the
            nearest known one.

    Example:
        >>> settings = RadiomicsSettings(bin_count=32, feature_class={"glcm": ["Contrast"]})
        >>> settings.selected(dimensions=2), settings.bin_width
        ((('glcm', 'Contrast'),), None)
        >>> RadiomicsSettings.from_pyradiomics({"binCount": 32, "distances": [1, 2]}).distances
        (1, 2)
    """

    bin_width: float | None = None
    bin_count: int | None = None
    force2d: bool = False
    force2d_dimension: int = 0
    distances: tuple[int, ...] = (1,)
    symmetrical_glcm: bool = True
    weighting_norm: Literal["manhattan", "euclidean", "infinity", "no_weighting"] | None = None
    gldm_a: int = 0
    voxel_array_shift: float = 0.0
    label: int = 1
    resegment_range: tuple[float, ...] | None = None
    resegment_mode: Literal["absolute", "relative", "sigma"] = "absolute"
    resegment_shape: bool = False
    normalize: bool = False
    normalize_scale: float = 1.0
    remove_outliers: float | None = None
    minimum_roi_dimensions: int = 2
    minimum_roi_size: int | None = None
    feature_class: FeatureSelection = None
    max_levels: int | None = None
    max_region: tuple[int, ...] | None = None
    memory_limit: int = 2 * 2**30

    def __post_init__(self) -> None:
        def check(name: str, convert: Any, *limits: Any) -> None:
            object.__setattr__(self, name, convert(name, getattr(self, name), *limits))

        if self.bin_width is not None and self.bin_count is not None:
            raise ValueError(
                f"bin_width={self.bin_width!r} and bin_count={self.bin_count!r} (binWidth and binCount in PyRadiomics) "
                "are both given: expected one of them. Where dataclasses.replace changes to a bin count, pass "
                "bin_width=None too, and the other way round"
            )
        if self.bin_width is None and self.bin_count is None:
            object.__setattr__(self, "bin_width", 25.0)
        check("bin_width", _optional(_positive))
        check("bin_count", _optional(_integer), 1, _LARGEST_LEVEL)
        check("force2d", _flag)
        check("force2d_dimension", _integer, 0, 2)
        check("distances", _distances)
        check("symmetrical_glcm", _flag)
        check("weighting_norm", _optional(_choice), "manhattan", "euclidean", "infinity", "no_weighting")
        check("gldm_a", _integer, 0)
        check("voxel_array_shift", _number)
        check("label", _integer, 1)
        check("resegment_range", _optional(_thresholds))
        check("resegment_mode", _choice, "absolute", "relative", "sigma")
        check("resegment_shape", _flag)
        check("normalize", _flag)
        check("normalize_scale", _positive)
        check("remove_outliers", _optional(_positive))
        check("minimum_roi_dimensions", _integer, 1, 3)
        check("minimum_roi_size", _optional(_integer), 1)
        check("feature_class", _feature_class)
        check("max_levels", _optional(_integer), 1, _LARGEST_LEVEL)
        check("max_region", _optional(_extent))
        check("memory_limit", _integer, 1)

    @property
    def _chosen(self) -> Mapping[str, tuple[str, ...] | None] | None:
        """Return the stored selection as a mapping; None: everything."""
        stored = cast("tuple[tuple[str, tuple[str, ...] | None], ...] | None", self.feature_class)
        return None if stored is None else dict(stored)

    def by_class(self, dimensions: int = 2) -> Mapping[str, tuple[str, ...]]:
        """Return the features to compute of each class that has any, in the frozen order of the output.

        Args:
            dimensions: 2 of images, 3 of volumes.

        Raises:
            ValueError: a class that describes regions of the other dimensions is selected.
        """
        if dimensions not in CLASSES:
            raise ValueError(f"dimensions must be 2 (images) or 3 (volumes), got {dimensions!r}")
        chosen = self._chosen
        if chosen is None:
            return {name: FEATURES[name] for name in CLASSES[dimensions]}
        for name in chosen:
            if name not in CLASSES[dimensions]:
                here, there = ("2D images", "volumes") if dimensions == 2 else ("volumes", "2D images")
                right = "shape2D" if dimensions == 2 else "shape"
                raise ValueError(f"feature class {name!r} describes regions of {there}: use {right!r} for {here}")
        return {name: tuple(features or FEATURES[name]) for name, features in chosen.items()}

    def selected(self, dimensions: int = 2) -> tuple[tuple[str, str], ...]:
        """Return the (class, feature) pairs to compute, in the frozen order of the output; 102 or 107 by default.

        Args, Raises: see :meth:`by_class`.
        """
        return tuple((name, feature) for name, features in self.by_class(dimensions).items() for feature in features)

    @cached_property
    def needs_levels(self) -> bool:
        """Return True if a feature needs grey levels: without, the range of the intensities does not matter."""
        chosen = self._chosen
        if chosen is None:
            return True
        first_order = chosen.get("firstorder", ()) if "firstorder" in chosen else ()
        names = FEATURES["firstorder"] if first_order is None else first_order
        return bool(set(names) & set(FIRST_ORDER_OF_LEVELS) or chosen.keys() - {"firstorder", "shape", "shape2D"})

    @classmethod
    def from_pyradiomics(cls, params: Mapping[str, Any] | str | os.PathLike[str]) -> RadiomicsSettings:
        """Read PyRadiomics' own settings: what its ``RadiomicsFeatureExtractor`` takes.

        Settings without effect on the features of an unfiltered image (``interpolator``, ``padDistance``, ``preCrop``,
        those of filters, ...) are accepted and ignored. Settings of ``imageType: Original``
        that feature classes read (``binWidth``, ``binCount``, ``distances``, ``symmetricalGLCM``, ``weightingNorm``,
        ``gldm_a``, ``voxelArrayShift``) override those of ``setting``, as they do there. One difference: without a
        ``featureClass``, the flat form leaves out shape2D there; here every form computes all seven classes.

        Args:
            params: the flat settings (``{"binWidth": 10}``), the nested parameters (``setting``, ``featureClass``,
                ``imageType``, ``voxelSetting``), or the path of a YAML or JSON (``.json``) file of either.

        Raises:
            TypeError: a value, a section or ``params`` itself of the wrong type.
            ValueError: a file that is missing or malformed; an unknown setting, image type, class or feature, with the
                nearest known one; one that PyRadiomics knows and that cannot be honoured here, with the remedy; a value
                out of range.
            ModuleNotFoundError: a YAML file where PyYAML is not installed: ``pip install "kacl-gpu[io]"``.
        """
        if isinstance(params, Mapping):
            return cls(**translate(params))
        if not isinstance(params, (str, os.PathLike)):
            raise TypeError(
                f"params: expected a mapping or the path of a YAML or JSON file, got {type(params).__name__} {params!r}"
            )
        path = os.fsdecode(params)
        content = read(path)
        try:
            return cls(**translate(content))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {error}") from error


# Checks of one value: each takes the setting's name and the value, and returns the value as a plain Python object.


def _wrong(kind: type[Exception], name: str, expected: str, value: object) -> Exception:
    spelling = next((theirs for theirs, ours in SPELLING.items() if ours == name and theirs != ours), None)
    called = name if spelling is None else f"{name} ({spelling} in PyRadiomics)"
    return kind(f"{called}: expected {expected}, got {value!r}")


def _optional(convert: Any) -> Any:
    return lambda name, value, *limits: None if value is None else convert(name, value, *limits)


def _integer(name: str, value: object, low: int, high: int = 2**63 - 1) -> int:
    expected = f"an integer of at least {low}" if high == 2**63 - 1 else f"an integer from {low} to {high}"
    # bool is an Integral in Python, but True as a count or a label is a mistake
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise _wrong(TypeError, name, expected, value)
    integer = int(value)
    if not low <= integer <= high:
        raise _wrong(ValueError, name, expected, value)
    return integer


def _number(name: str, value: object, expected: str = "a finite number") -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _wrong(TypeError, name, expected, value)
    try:
        number = float(value)
    except OverflowError:  # an int or a fraction beyond the largest float64
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(ValueError, name, expected, value)
    return number


def _positive(name: str, value: object) -> float:
    expected = "a finite number above 0"
    number = _number(name, value, expected)
    if number <= 0:
        raise _wrong(ValueError, name, expected, value)
    return number


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise _wrong(TypeError, name, "True or False", value)
    return bool(value)


def _choice(name: str, value: object, *choices: str) -> str:
    expected = "one of " + ", ".join(map(repr, choices))
    if not isinstance(value, str):
        raise _wrong(TypeError, name, expected, value)
    if value not in choices:
        raise ValueError(f"{_wrong(ValueError, name, expected, value)}; the nearest is {nearest(value, choices)!r}")
    return str(value)


def _sequence(name: str, value: object, expected: str) -> list[Any]:
    if isinstance(value, np.ndarray):
        value = value.tolist()  # a number for an array without dimensions
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _wrong(TypeError, name, expected, value)
    return list(value)


def _distances(name: str, value: object) -> tuple[int, ...]:
    expected = "a sequence of different integers of at least 1"
    distances = tuple(_integer(name, item, 1) for item in _sequence(name, value, expected))
    if not distances or len(set(distances)) < len(distances):
        raise _wrong(ValueError, name, expected, value)
    return distances


def _extent(name: str, value: object) -> tuple[int, ...]:
    """Return depth, height and width; of two numbers the depth is 1."""
    expected = "two or three integers of at least 1, (height, width) or (depth, height, width)"
    sides = tuple(_integer(name, item, 1) for item in _sequence(name, value, expected))
    if len(sides) not in (2, 3):
        raise _wrong(ValueError, name, expected, value)
    return (1, *sides)[-3:]


def _thresholds(name: str, value: object) -> tuple[float, ...]:
    expected = "one or two finite thresholds"
    # PyRadiomics sorts them too; sorted here, equal settings compare equal
    thresholds = tuple(sorted(_number(name, item) for item in _sequence(name, value, expected)))
    if len(thresholds) not in (1, 2):
        raise _wrong(ValueError, name, expected, value)
    return thresholds


def _feature_class(name: str, value: object) -> tuple[tuple[str, tuple[str, ...] | None], ...] | None:
    """Return the selection in its one stored form.

    Pairs in the frozen order, None for all features and for all classes.
    """
    expected = 'a mapping of classes to feature names, or a sequence of classes such as ("firstorder", "glcm")'
    if value is None:
        return None
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        pairs = [(item, None) if isinstance(item, str) else item for item in _sequence(name, value, expected)]
    chosen: dict[str, tuple[str, ...] | None] = {}
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise _wrong(TypeError, name, expected, value)
        class_name, features = pair
        _known_class(class_name)
        if class_name in chosen:
            raise ValueError(f"{name}: the class {class_name!r} stands twice in {value!r}, expected once")
        chosen[class_name] = _features_of(name, class_name, features)
    chosen = {class_name: chosen[class_name] for class_name in FEATURES if class_name in chosen}
    stored = tuple(chosen.items())
    all_of_each = all(features is None for _, features in stored)
    return None if all_of_each and tuple(chosen) in ((), CLASSES[2]) else stored


def _features_of(name: str, class_name: str, features: object) -> tuple[str, ...] | None:
    if features is None:
        return None
    if isinstance(features, (str, bytes, Mapping)) or not isinstance(features, Collection):
        raise _wrong(TypeError, f"{name}[{class_name!r}]", "a sequence of feature names, or None for all", features)
    known = _known_features(class_name)
    for feature in features:
        if not isinstance(feature, str):
            raise _wrong(TypeError, f"{name}[{class_name!r}]", "names of features", features)
        if feature in known:
            continue
        remedy = DEPRECATED.get(class_name, {}).get(feature)
        if remedy is not None:
            raise ValueError(f"feature {feature!r} of {class_name} is known to PyRadiomics, but deprecated: {remedy}")
        raise unknown(f"{class_name} feature", feature, known)
    selected = tuple(feature for feature in known if feature in features)
    return None if selected in ((), FEATURES[class_name]) else selected


def _known_features(class_name: str) -> tuple[str, ...]:
    """Return the features of a class, those computed only where they are named among them, in PyRadiomics' order."""
    if class_name not in NAMED_ONLY:
        return FEATURES[class_name]
    # that of the names of PyRadiomics' methods
    return tuple(sorted((*FEATURES[class_name], *NAMED_ONLY[class_name]), key="get{}FeatureValue".format))


def _known_class(class_name: str) -> None:
    if class_name not in FEATURES:
        raise unknown("feature class", class_name, tuple(FEATURES))
