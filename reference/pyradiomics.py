"""PyRadiomics 3.0.1 behind the signature of :func:`kacl_gpu.gpu_radiomics`, and the matrices it counts.

Every image goes in cast to float64, as a 2D SimpleITK image: from integer images PyRadiomics makes bin edges in the
integer type (with NumPy 2 those of uint8 wrap around), and a one-slice volume with ``force2D`` tests the wrong axis.
Cropping, resegmentation, checks and discretisation are PyRadiomics' own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from radiomics import cMatrices, imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor
from radiomics.glcm import RadiomicsGLCM

from kacl_gpu.radiomics.names import SPELLING
from kacl_gpu.radiomics.settings import RadiomicsSettings

logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)  # silent, whoever listens


class RegionRefused(ValueError):
    """PyRadiomics computes no features for this region; the message is its own."""


class Matrices(NamedTuple):
    """Hold what PyRadiomics counts in one region, with a row for each grey level from 1 to Ng, present or not.

    levels : (h, w) grey levels in the bounding box of the region, 0 outside the region
    glcm : (A, Ng, Ng) pairs per direction, not symmetrised: level at p, level at p + offset
    offsets : (A, 2) the y, x offset of each direction of the GLCM; those longer than the box are not in it
    glrlm : (R, Ng, L) runs of each length, from 1; a direction in which no line holds two pixels is all 0
    run_offsets : (R, 2) the y, x offset of each direction of the GLRLM
    glszm : (Ng, S) zones of each size, from 1
    gldm : (Ng, 1 + neighbours) pixels by their number of dependent neighbours, from 0
    ngtdm : (Ng, 3) float64: pixels, sum of absolute differences, level

    All but ngtdm are int64.
    """

    levels: NDArray[np.int64]
    glcm: NDArray[np.int64]
    offsets: NDArray[np.int64]
    glrlm: NDArray[np.int64]
    run_offsets: NDArray[np.int64]
    glszm: NDArray[np.int64]
    gldm: NDArray[np.int64]
    ngtdm: NDArray[np.float64]


class _Extractor(RadiomicsFeatureExtractor):
    """Keeps the cropped image and mask that the feature classes receive."""

    def computeFeatures(self, image: Any, mask: Any, imageTypeName: str, **kwargs: Any) -> Any:  # noqa: N802, N803
        self.cropped = image, mask, kwargs
        return super().computeFeatures(image, mask, imageTypeName, **kwargs)


def to_pyradiomics(settings: RadiomicsSettings) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return PyRadiomics' settings and enabled features that mean what ``settings`` mean.

    Returns
    -------
    (dict, dict)
        Keyword arguments of ``RadiomicsFeatureExtractor``, and its ``enabledFeatures``.
    """
    parameters: dict[str, Any] = {"additionalInfo": False}
    for theirs, ours in SPELLING.items():
        value = getattr(settings, ours)
        if theirs in ("binWidth", "binCount") and value is None:
            continue
        parameters[theirs] = list(value) if isinstance(value, tuple) else value
    features: dict[str, list[str]] = {}
    for class_name, feature in settings.selected():
        features.setdefault(class_name, []).append(feature)
    return parameters, features


def pyradiomics_features(
    images: Any,
    boxes: Any = None,
    *,
    masks: Any = None,
    settings: RadiomicsSettings | None = None,
    spacing: Any = None,
    invalid: str = "raise",
) -> NDArray[np.float64]:
    """Return the features of K regions as PyRadiomics computes them.

    Parameters
    ----------
    images : array or tensor (B, H, W) or (B, 1, H, W)
    boxes : array or tensor (B, 4) or (K, 5), or a list of B arrays (L_i, 4); optional
        x1, y1, x2, y2 in pixels, the far edge exclusive; the image index first where there are five columns. Fractions
        grow outward, then boxes are clipped to the image.
    masks : array or tensor (B, H, W) of integers, optional
        Label maps. With boxes: the pixels of the label inside the box.
    settings : RadiomicsSettings, optional
    spacing : (y, x) or (B, 2), optional
        Size of a pixel; 1 if left out.
    invalid : "raise" or "nan"

    Returns
    -------
    (K, F) float64
        In the order of ``feature_names(settings)``.

    Raises
    ------
    RegionRefused
        With ``invalid="raise"``, at the first region that PyRadiomics refuses, with its message.
    """
    settings = settings or RadiomicsSettings()
    rows = []
    for row, (image, labels, pixel) in enumerate(_regions(images, boxes, masks, settings.label, spacing)):
        try:
            rows.append(_features(_execute(image, labels, pixel, settings)[0], settings))
        except RegionRefused as error:
            if invalid == "raise":
                raise RegionRefused(f"region {row}: {error}") from error
            rows.append(np.full(len(settings.selected()), np.nan))
    return np.array(rows, np.float64).reshape(-1, len(settings.selected()))


def pyradiomics_matrices(
    image: Any,
    box: Sequence[float] | None = None,
    *,
    mask: Any = None,
    settings: RadiomicsSettings | None = None,
    spacing: Sequence[float] | None = None,
) -> Matrices:
    """Return the matrices of one region (see :class:`Matrices`), counted by PyRadiomics on the arrays it builds itself.

    Parameters
    ----------
    image : (H, W)
    box : x1, y1, x2, y2, optional
    mask : (H, W) label map, optional
    settings, spacing : as in :func:`pyradiomics_features`

    Raises
    ------
    RegionRefused
        PyRadiomics refuses the region.
    """
    matrices = pyradiomics_region(image, box, mask=mask, settings=settings, spacing=spacing)[1]
    if matrices is None:
        raise RegionRefused("PyRadiomics counts nothing under these settings")
    return matrices


def pyradiomics_region(
    image: Any,
    box: Sequence[float] | None = None,
    *,
    mask: Any = None,
    settings: RadiomicsSettings | None = None,
    spacing: Sequence[float] | None = None,
) -> tuple[NDArray[np.float64], Matrices | None]:
    """Return features (F,) and matrices of one region from one execution; see :func:`pyradiomics_matrices`.

    The matrices are None where PyRadiomics has features, but may refuse to count: no distance fits into the region and
    no selected class looks that far, or shape2D is the only class and nothing says that grey levels can be made.
    """
    settings = settings or RadiomicsSettings()
    boxes = None if box is None else np.asarray(box, np.float64)[None]
    masks = None if mask is None else _array(mask)[None]
    (arguments,) = _regions(_array(image)[None], boxes, masks, settings.label, spacing)
    values, extractor = _execute(*arguments, settings)
    only_shape = {class_name for class_name, _ in settings.selected()} == {"shape2D"}
    return _features(values, settings), None if only_shape else _matrices(*extractor.cropped)


def _array(values: Any, dtype: Any = None) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype)


def _regions(
    images: Any, boxes: Any, masks: Any, label: int, spacing: Any
) -> list[tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]]:
    """Return image, label map and spacing of each region."""
    images = _array(images).astype(np.float64)
    if images.ndim == 4:
        images = images[:, 0]
    masks = None if masks is None else _array(masks)
    spacing = np.broadcast_to(np.ones(2) if spacing is None else _array(spacing, np.float64), (len(images), 2))
    if boxes is None:
        return [(image, mask, pixel) for image, mask, pixel in zip(images, masks, spacing, strict=True)]
    if isinstance(boxes, (list, tuple)):
        boxes = [(index, *box) for index, of_image in enumerate(boxes) for box in _array(of_image).reshape(-1, 4)]
    else:
        boxes = _array(boxes)
        if boxes.shape[1] == 4:
            boxes = np.column_stack([np.arange(len(boxes)), boxes])
    height, width = images.shape[1:]
    regions = []
    for index, *box in np.asarray(boxes, np.float64).reshape(-1, 5):
        x1, y1 = (max(int(np.floor(corner)), 0) for corner in box[:2])
        x2, y2 = (min(int(np.ceil(corner)), size) for corner, size in zip(box[2:], (width, height), strict=True))
        labels = np.zeros((height, width), np.uint8 if label < 256 else np.uint32)
        if box[0] < box[2] and box[1] < box[3]:  # else it holds nothing, and PyRadiomics finds no label
            labels[y1:y2, x1:x2] = label
        if masks is not None:
            labels[masks[int(index)] != label] = 0
        regions.append((images[int(index)], labels, spacing[int(index)]))
    return regions


def _execute(
    image: NDArray[np.float64], labels: NDArray[Any], spacing: NDArray[np.float64], settings: RadiomicsSettings
) -> tuple[Any, _Extractor]:
    """Return PyRadiomics' result, and the extractor behind it."""
    parameters, features = to_pyradiomics(settings)
    labels = labels.astype(np.uint32)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if (labels == settings.label).all():
            # PyRadiomics refuses a mask without background. Padding must not enter the statistics of normalisation,
            # so that goes first.
            if settings.normalize:
                normalised = imageoperations.normalizeImage(sitk.GetImageFromArray(image), **parameters)
                image = sitk.GetArrayFromImage(normalised)
                parameters["normalize"] = False
            image, labels = np.pad(image, 1), np.pad(labels, 1)
        sitk_image, sitk_labels = sitk.GetImageFromArray(image), sitk.GetImageFromArray(labels)
        for one in (sitk_image, sitk_labels):
            one.SetSpacing([float(size) for size in spacing[::-1]])
        extractor = _Extractor(**parameters)
        extractor.enabledFeatures = features
        try:
            return extractor.execute(sitk_image, sitk_labels), extractor
        except (ValueError, RuntimeError) as error:
            raise RegionRefused(str(error)) from error


def _features(values: Any, settings: RadiomicsSettings) -> NDArray[np.float64]:
    return np.array([values[f"original_{name}_{feature}"] for name, feature in settings.selected()], np.float64)


def _matrices(image: Any, mask: Any, parameters: dict[str, Any]) -> Matrices | None:
    texture = RadiomicsGLCM(image, mask, **parameters)  # every texture class discretises in the same way
    levels, region = texture.imageArray, texture.maskArray
    ng = texture.coefficients["Ng"]
    distances = np.array(parameters["distances"])
    if distances.min() >= max(levels.shape):
        return None
    flat = (False, 0)  # force2D, force2Ddimension
    glcm, offsets = cMatrices.calculate_glcm(levels, region, distances, ng, *flat)
    glrlm, run_offsets = cMatrices.calculate_glrlm(levels, region, ng, max(levels.shape), *flat)
    glszm = cMatrices.calculate_glszm(levels, region, ng, int(region.sum()), *flat)
    gldm = cMatrices.calculate_gldm(levels, region, distances, ng, parameters["gldm_a"], *flat)
    ngtdm = cMatrices.calculate_ngtdm(levels, region, distances, ng, *flat)
    # Twice as many columns as a pixel can have neighbours: the rest is empty.
    neighbours = gldm.shape[2] // 2
    assert not gldm[..., neighbours + 1 :].any()
    return Matrices(
        np.where(region, levels, 0).astype(np.int64),
        glcm[0].transpose(2, 0, 1).astype(np.int64),
        offsets.astype(np.int64),
        glrlm[0].transpose(2, 0, 1).astype(np.int64),
        run_offsets.astype(np.int64),
        glszm[0].astype(np.int64),
        gldm[0, :, : neighbours + 1].astype(np.int64),
        ngtdm[0],
    )
