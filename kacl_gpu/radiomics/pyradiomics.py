"""PyRadiomics' parameters, from its dictionaries and files, as arguments of :class:`RadiomicsSettings`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .names import SPELLING, unknown

# Those that feature classes read, so that an image type can override them; the others act before the image types part.
_FEATURE_CLASS_SETTINGS = (
    "binWidth",
    "binCount",
    "distances",
    "symmetricalGLCM",
    "weightingNorm",
    "gldm_a",
    "voxelArrayShift",
)
# Known to PyRadiomics, and without effect on the 2D features of an unfiltered image whose mask fits it.
_WITHOUT_EFFECT = (
    "geometryTolerance",
    "correctMask",
    "additionalInfo",
    "preCrop",
    "padDistance",
    "interpolator",
    "sigma",
    "wavelet",
    "level",
    "start_level",
    "gradientUseSpacing",
    "lbp2DRadius",
    "lbp2DSamples",
    "lbp2DMethod",
    "lbp3DLevels",
    "lbp3DIcosphereRadius",
    "lbp3DIcosphereSubdivision",
)
_VOXEL_SETTINGS = ("kernelRadius", "maskedKernel", "initValue", "voxelBatch", "voxelBased")
_CONDITIONAL = ("resampledPixelSpacing", "label_channel")
_KNOWN_SETTINGS = (*SPELLING, *_WITHOUT_EFFECT, *_VOXEL_SETTINGS, *_CONDITIONAL)
_SECTIONS = ("setting", "featureClass", "imageType", "voxelSetting")
_IMAGE_TYPES = (
    "Original",
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
# What PyRadiomics makes of a null: its truth tests read False, its tests for None leave the default alone.
_NULL_IS_FALSE = ("symmetricalGLCM", "resegmentShape", "normalize", "force2D")
_NULL_IS_DEFAULT = (
    "binWidth",
    "binCount",
    "weightingNorm",
    "resegmentRange",
    "removeOutliers",
    "minimumROISize",
)


def translate(params: object) -> dict[str, Any]:
    """Return PyRadiomics' parameters, flat or nested, as keyword arguments of RadiomicsSettings.

    Raises:
        TypeError, ValueError: see :meth:`RadiomicsSettings.from_pyradiomics`.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"expected a mapping of PyRadiomics' settings, got {type(params).__name__} {params!r}")
    nested = any(section in params for section in _SECTIONS)
    if nested:
        for key in params:
            if key in _KNOWN_SETTINGS:
                raise ValueError(f"setting {key!r} stands beside {', '.join(_SECTIONS)}: expected inside 'setting'")
            if key not in _SECTIONS:
                raise unknown("section", key, _SECTIONS)

    settings = dict(_section(params, "setting") if nested else params)
    for key in settings:
        if key not in _KNOWN_SETTINGS:
            raise unknown("setting", key, _KNOWN_SETTINGS if nested else (*_KNOWN_SETTINGS, *_SECTIONS))
    voxel_settings = _section(params, "voxelSetting") if nested else {}
    for key in voxel_settings:
        if key not in _VOXEL_SETTINGS:
            raise unknown("setting of voxelSetting", key, _VOXEL_SETTINGS)
    for key in (*settings, *voxel_settings):
        if key in _VOXEL_SETTINGS:
            raise ValueError(
                f"setting {key!r} is known to PyRadiomics, but it belongs to voxel-based extraction, which is not done "
                "here: leave it out to compute features of whole regions"
            )
    if settings.get("label_channel") not in (None, 0):
        raise ValueError(
            f"setting label_channel={settings['label_channel']!r} is known to PyRadiomics, but masks here have one "
            "channel: pass that channel as the mask"
        )
    # An interpolator of None switches resampling off in PyRadiomics
    if settings.get("resampledPixelSpacing") is not None and settings.get("interpolator", "default") is not None:
        raise ValueError(
            f"setting resampledPixelSpacing={settings['resampledPixelSpacing']!r} is known to PyRadiomics, but images "
            "are not resampled here: resample images and masks first, pass their new spacing, and leave it out"
        )
    settings.update(_original_image_settings(_section(params, "imageType") if nested else {}))

    arguments: dict[str, Any] = {}
    for theirs, ours in SPELLING.items():
        if theirs not in settings:
            continue
        value = settings[theirs]
        if value is None and theirs in _NULL_IS_FALSE:
            value = False
        if value is not None or theirs not in _NULL_IS_DEFAULT:
            arguments[ours] = value
    if nested:
        arguments["feature_class"] = _section(params, "featureClass")
    return arguments


def _original_image_settings(image_types: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the settings of the unfiltered image; every other image type is refused."""
    for image_type in image_types:
        if image_type not in _IMAGE_TYPES:
            raise unknown("image type", image_type, _IMAGE_TYPES)
        if image_type != "Original":
            raise ValueError(
                f"image type {image_type!r} is known to PyRadiomics, but filters are not applied here: filter the "
                "images first, and leave it out"
            )
    overrides = _section(image_types, "Original")
    for key in overrides:
        if key not in _KNOWN_SETTINGS:
            raise unknown("setting of image type 'Original'", key, _KNOWN_SETTINGS)
        if key not in (*_FEATURE_CLASS_SETTINGS, *_WITHOUT_EFFECT):
            raise ValueError(
                f"setting {key!r} of image type 'Original' is known to PyRadiomics, but it acts before the image types "
                "part, so that it cannot be honoured there: put it into 'setting'"
            )
    return dict(overrides)


def _section(params: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    section = params.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise TypeError(f"{name}: expected a mapping, got {type(section).__name__} {section!r}")
    return section


def read(path: str) -> object:
    """Return the content of a YAML or JSON file; a key that stands twice is refused, as PyRadiomics does in YAML."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null character in the path
        raise ValueError(f"{path}: expected a readable YAML or JSON file of PyRadiomics' settings: {error}") from error
    if not text.strip():
        raise ValueError(f"{path}: expected PyRadiomics' settings, got an empty file")
    return _read_json(path, text) if path.lower().endswith(".json") else _read_yaml(path, text)


def _read_json(path: str, text: str) -> object:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            raise ValueError(f"a key stands twice among {[key for key, _ in pairs]}")
        return content

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: malformed JSON: {error}") from error


def _read_yaml(path: str, text: str) -> object:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{path}: reading YAML needs PyYAML, which is not installed: pip install "kacl-gpu[io]", or use JSON',
            name="yaml",
        ) from error

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"the key {key.value!r} stands twice", key.start_mark
                        )
                    keys.add(key.value)
            return super().construct_mapping(node, deep)

    # YAML 1.2, which PyRadiomics reads, knows 1e-3 as a number; PyYAML's YAML 1.1 wants 1.0e-3.
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2020-99-99
        raise ValueError(f"{path}: malformed YAML: {error}") from error
