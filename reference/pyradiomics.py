"""PyRadiomics 3.0.1 behind the signature of :func:`kacl_gpu.gpu_radiomics`, and the matrices it counts.

Every image goes in cast to float64, as a SimpleITK image of its own dimensions: from integer images PyRadiomics makes
bin edges in the integer type (with NumPy 2 those of uint8 wrap around), and a one-slice volume with ``force2D`` tests
the wrong axis. Cropping, resegmentation, checks and discretisation are PyRadiomics' own. Of volumes, it asks for the
eigenvalues of a general matrix, which rounding makes complex at times: the real part is taken. It counts vertices of
meshes in 32 bits, which boxes above 2.4e8 voxels overflow: none is given to it.
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

    levels : (h, w) or (d, h, w) grey levels in the bounding box of the region, 0 outside the region
    glcm : (A, Ng, Ng) pairs per direction, not symmetrised: level at p, level at p + offset
    offsets : (A, 2) the y, x or (A, 3) the z, y, x offset of each direction of the GLCM; those longer than the box are
        not in it
    glrlm : (R, Ng, L) runs of each length, from 1; a direction in which no line holds two pixels is all 0
    run_offsets : (R, 2) or (R, 3) the offset of each direction of the GLRLM
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


def to_pyradiomics(settings: RadiomicsSettings, dimensions: int = 2) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return PyRadiomics' settings and enabled features that mean what ``settings`` mean of 2D images or of volumes.

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
    if dimensions == 2:  # an image is the plane itself, whichever axis it was cut along
        parameters["force2D"] = False
    features: dict[str, list[str]] = {}
    for class_name, feature in settings.selected(dimensions):
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
    images : array or tensor (B, H, W) or (B, 1, H, W); volumes (B, 1, D, H, W); or a list of (H, W) or (D, H, W)
    boxes : array or tensor (B, 4) or (K, 5), of volumes (B, 6) or (K, 7), or a list of B arrays (L_i, 4) or (L_i, 6)
        x1, y1, x2, y2 or x1, y1, z1, x2, y2, z2 in voxels, the far edge exclusive; the image index first where there is
        one column more. Fractions grow outward, then boxes are clipped to the image. Optional.
    masks : integers of the form of the images, optional
        Label maps. With boxes: the pixels of the label inside the box.
    settings : RadiomicsSettings, optional
    spacing : (y, x) or (z, y, x), or a row for each image, optional
        Size of a pixel or voxel; 1 if left out.
    invalid : "raise" or "nan"

    Returns
    -------
    (K, F) float64
        In the order of ``feature_names(settings, dimensions)``.

    Raises
    ------
    RegionRefused
        With ``invalid="raise"``, at the first region that PyRadiomics refuses, with its message.
    """
    settings = settings or RadiomicsSettings()
    rows = []
    of_images = _as_list(images)
    dimensions = of_images[0].ndim if of_images else 2
    number = len(settings.selected(dimensions))
    maps = None if masks is None else _as_list(masks)
    for row, (image, labels, pixel) in enumerate(_regions(of_images, boxes, maps, settings.label, spacing)):
        try:
            rows.append(_features(_execute(image, labels, pixel, settings)[0], settings, dimensions))
        except RegionRefused as error:
            if invalid == "raise":
                raise RegionRefused(f"region {row}: {error}") from error
            rows.append(np.full(number, np.nan))
    return np.array(rows, np.float64).reshape(-1, number)


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
    image : (H, W) or (D, H, W)
    box : x1, y1, x2, y2 or x1, y1, z1, x2, y2, z2, optional
    mask : label map of the image's shape, optional
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
    no selected class looks that far, or shape is the only class and nothing says that grey levels can be made.
    """
    settings = settings or RadiomicsSettings()
    boxes = None if box is None else np.asarray(box, np.float64)[None]
    masks = None if mask is None else [_array(mask)]
    image = _array(image)
    (arguments,) = _regions([image], boxes, masks, settings.label, spacing)
    values, extractor = _execute(*arguments, settings)
    only_shape = settings.by_class(image.ndim).keys() <= {"shape", "shape2D"}
    return _features(values, settings, image.ndim), None if only_shape else _matrices(*extractor.cropped)


def _array(values: Any, dtype: Any = None) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype)


def _as_list(images: Any) -> list[NDArray[Any]]:
    """Return a batch of images, or a list of them, as a list of (H, W) or (D, H, W)."""
    if isinstance(images, (list, tuple)):
        return [_array(image) for image in images]
    images = _array(images)
    return [*(images[:, 0] if images.ndim > 3 else images)]


def _regions(
    images: list[NDArray[Any]], boxes: Any, masks: list[NDArray[Any]] | None, label: int, spacing: Any
) -> list[tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]]:
    """Return image, label map and spacing of each region."""
    images = [image.astype(np.float64) for image in images]
    dimensions = images[0].ndim if images else 2
    sides = 2 * dimensions
    spacing = _array(1.0 if spacing is None else spacing, np.float64)
    spacing = np.broadcast_to(spacing, (len(images), dimensions))
    if boxes is None:
        assert masks is not None
        return [*zip(images, masks, spacing, strict=True)]
    if isinstance(boxes, (list, tuple)):
        boxes = [(index, *box) for index, of_image in enumerate(boxes) for box in _array(of_image).reshape(-1, sides)]
    else:
        boxes = _array(boxes)
        if boxes.shape[1] == sides:
            boxes = np.column_stack([np.arange(len(boxes)), boxes])
    regions = []
    for index, *box in np.asarray(boxes, np.float64).reshape(-1, sides + 1):
        image = images[int(index)]
        near, far = box[:dimensions][::-1], box[dimensions:][::-1]  # in the order of the axes
        labels = np.zeros(image.shape, np.uint8 if label < 256 else np.uint32)
        if all(low < high for low, high in zip(near, far, strict=True)):  # else PyRadiomics finds no label
            low = [max(int(np.floor(corner)), 0) for corner in near]
            high = [min(int(np.ceil(corner)), size) for corner, size in zip(far, image.shape, strict=True)]
            labels[tuple(map(slice, low, high))] = label
        if masks is not None:
            labels[masks[int(index)] != label] = 0
        regions.append((image, labels, spacing[int(index)]))
    return regions


def _execute(
    image: NDArray[np.float64], labels: NDArray[Any], spacing: NDArray[np.float64], settings: RadiomicsSettings
) -> tuple[Any, _Extractor]:
    """Return PyRadiomics' result, and the extractor behind it."""
    parameters, features = to_pyradiomics(settings, image.ndim)
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


def _features(values: Any, settings: RadiomicsSettings, dimensions: int) -> NDArray[np.float64]:
    names = (f"original_{name}_{feature}" for name, feature in settings.selected(dimensions))
    return np.array([np.real(values[name]) for name in names], np.float64)


def _matrices(image: Any, mask: Any, parameters: dict[str, Any]) -> Matrices | None:
    texture = RadiomicsGLCM(image, mask, **parameters)  # every texture class discretises in the same way
    levels, region = texture.imageArray, texture.maskArray
    ng = texture.coefficients["Ng"]
    distances = np.array(parameters["distances"])
    flat = parameters["force2D"], parameters["force2Ddimension"]
    plane = [size for axis, size in enumerate(levels.shape) if not (flat[0] and axis == flat[1])]
    if distances.min() >= max(plane) or max(plane) == 1:
        return None
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
