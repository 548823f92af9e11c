"""``gpu_radiomics``: the whole pipeline."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias, overload

import torch
from torch import Tensor, nn

from . import ops
from .checks import Boxes, Spacing
from .features.glcm import log_weights
from .features.spec import lengths
from .groups import make_groups
from .memory import Bounds, chunks, fitting, matrix_chunks, max_levels, zone_bound
from .regions import Images, Labels, Regions
from .settings import RadiomicsSettings
from .volumes import LevelVolumes, discretise, flat_axis, half_offsets

Spans: TypeAlias = tuple[Tensor, Tensor]  # (K,) each: largest less smallest intensity, highest grey level

ONE_LEVEL = (
    "bin_width = {:g} leaves one grey level in every region, of intensities that differ: texture features say nothing "
    "then. Use bin_count=32, or a bin_width that fits the intensities (images scaled to [0, 1] often need 1/255 of the "
    "usual one)."
)


def feature_names(settings: RadiomicsSettings = RadiomicsSettings(), dimensions: int = 2) -> tuple[str, ...]:
    """Return the names of the F columns of :func:`gpu_radiomics` under these settings, as PyRadiomics spells them.

    Args:
        settings: those of the call.
        dimensions: 2 for images, 3 for volumes.

    Raises:
        ValueError: a class that describes regions of the other dimensions is selected.

    Example:
        >>> feature_names(RadiomicsSettings(feature_class={"glcm": ["Contrast"], "firstorder": ["Mean"]}))
        ('original_firstorder_Mean', 'original_glcm_Contrast')
        >>> len(feature_names()), len(feature_names(dimensions=3))
        (102, 107)
    """
    return tuple(f"original_{name}_{feature}" for name, feature in settings.selected(dimensions))


@overload
def gpu_radiomics(
    images: Images,
    boxes: Boxes | None = None,
    *,
    masks: Images | None = None,
    labels: Labels | None = None,
    settings: RadiomicsSettings = RadiomicsSettings(),
    spacing: Spacing | None = None,
    invalid: Literal["raise", "nan"] = "raise",
    return_status: Literal[False] = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor: ...


@overload
def gpu_radiomics(
    images: Images,
    boxes: Boxes | None = None,
    *,
    masks: Images | None = None,
    labels: Labels | None = None,
    settings: RadiomicsSettings = RadiomicsSettings(),
    spacing: Spacing | None = None,
    invalid: Literal["raise", "nan"] = "raise",
    return_status: Literal[True],
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]: ...


def gpu_radiomics(
    images: Images,
    boxes: Boxes | None = None,
    *,
    masks: Images | None = None,
    labels: Labels | None = None,
    settings: RadiomicsSettings = RadiomicsSettings(),
    spacing: Spacing | None = None,
    invalid: Literal["raise", "nan"] = "raise",
    return_status: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute PyRadiomics' features of many regions of a batch of grey images or volumes, on the images' device.

    Args:
        images: images (B, H, W) or (B, 1, H, W), volumes (B, 1, D, H, W), any real dtype; or a list of images (H, W) or
            volumes (D, H, W) of any sizes.
        boxes: x1, y1, x2, y2 in pixels, of volumes x1, y1, z1, x2, y2, z2 in voxels, the far edge exclusive; fractions
            grow outward to whole pixels, what lies beyond the image is cut off. (B, 4) or (B, 6): one box per image;
            (K, 5) or (K, 7): the image's index first; or a list of B tensors (L_i, 4) or (L_i, 6).
        masks: label maps of the shape of the images, or a list of them; a region is then the pixels of its label in its
            box, or in its whole image if there are no boxes.
        labels: which labels of the masks are regions. One number: that label in every box or image; a tensor (K,) of
            integers: one per region; without boxes also several numbers or "all": a row for each of them that an image
            has, by image, then by label (see :func:`kacl_gpu.radiomics.regions.find_labels`). Default:
            ``settings.label``.
        settings: what to compute and how: PyRadiomics' settings under snake_case names.
        spacing: size of a pixel as (y, x), of a voxel as (z, y, x), finite and above 0, for all images or one row per
            image (B, 2) or (B, 3); 1 if left out. Where the call must not wait for a device (see docs/architecture.md):
            numbers, or a tensor on that device, whose values are then not errors of the call but make their regions
            invalid.
        invalid: what becomes of a region that cannot be computed (no pixel, one pixel, not finite, ...): "raise" names
            all of them in one ValueError; "nan" fills their rows with NaN and leaves the others as they are.
        return_status: return the status of each region, too.
        dtype: of the result, torch.float32 or torch.float64; all is computed in float64.

    Returns:
        (K, F) features, one row per region, columns as :func:`feature_names` lists them for 2 or 3 dimensions. No
        gradient flows through it.
        With ``return_status`` also (K,) int32, the code of each region's :class:`Status`, 0 where it was computed.

    Raises:
        ValueError, TypeError: naming the argument and what was expected, or the regions that cannot be computed.

    Example:
        >>> image = torch.arange(64).reshape(1, 8, 8)
        >>> settings = RadiomicsSettings(feature_class={"firstorder": ["Maximum", "Mean"]})
        >>> gpu_radiomics(image, torch.tensor([[1, 1, 5, 4]]), settings=settings)
        tensor([[28.0000, 18.5000]])
        >>> volume = torch.arange(512).reshape(1, 1, 8, 8, 8)
        >>> gpu_radiomics(volume, torch.tensor([[1, 1, 0, 5, 4, 2]]), settings=settings)
        tensor([[92.0000, 50.5000]])
    """
    _check_arguments(settings, invalid, dtype)
    static = _is_static(images, settings, invalid)
    if labels is not None and masks is None:
        raise ValueError("labels given without masks: pass the label maps that hold them")
    labels = settings.label if labels is None else labels
    located = make_groups(*(images, boxes, masks, spacing), labels=labels, settings=settings, check_values=not static)
    spans: list[Spans] = []
    tables = [_compute_parts(regions, settings, dtype, static, spans) for regions in located.groups]
    _warn_of_one_level(spans, settings)
    table, status = located.join(tables)
    if invalid == "raise" and bool(status.any()):
        raise ValueError(located.describe(status, settings))
    return (table, status) if return_status else table


def compute(
    regions: Regions, settings: RadiomicsSettings, *, dtype: torch.dtype, static: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute the features of located regions, in parts that keep within the memory limit.

    Args:
        regions: K regions.
        static: read no value on the host; every block is as large as an image then.

    Returns:
        (K, F) features, NaN in the rows of regions that cannot be computed; (K,) int32 codes of :class:`Status`.

    Example:
        >>> from kacl_gpu.radiomics.regions import make_regions
        >>> regions = make_regions(torch.arange(64).reshape(1, 8, 8), torch.tensor([[1, 1, 5, 4]]), None, None)
        >>> compute(regions, RadiomicsSettings(feature_class={"firstorder": ["Mean"]}), dtype=torch.float32)
        (tensor([[18.5000]]), tensor([0], dtype=torch.int32))
    """
    spans: list[Spans] = []
    table, status = _compute_parts(regions, settings, dtype, static, spans)
    _warn_of_one_level(spans, settings)
    return table, status


def _compute_parts(
    regions: Regions,
    settings: RadiomicsSettings,
    dtype: torch.dtype,
    static: bool,
    spans: list[Spans],
) -> tuple[Tensor, Tensor]:
    """Do what :func:`compute` does but for the warning, for which the spans of each part are appended."""
    image_moments = ops.image_moments(regions.images, regions.image_size) if settings.normalize else None
    limit = max_levels(regions, settings)
    tables, status = [], []
    for part in chunks(regions, settings, static):
        volumes = discretise(part, image_moments, settings, limit, static)
        bounds = Bounds.of_shape(part, limit, settings) if static else Bounds.of_values(volumes.size, volumes.n_levels)
        for k in matrix_chunks(part, bounds, settings):
            tables.append(compute_features(part[k], volumes.part(k), image_moments, settings, bounds, dtype))
        status.append(volumes.status)
        spans.append((volumes.span, volumes.n_levels))
    if len(status) == 1 and len(tables) == 1:
        return tables[0], status[0]
    return torch.cat(tables), torch.cat(status)


def compute_features(
    regions: Regions,
    volumes: LevelVolumes,
    image_moments: Tensor | None,
    settings: RadiomicsSettings,
    bounds: Bounds,
    dtype: torch.dtype,
) -> Tensor:
    """Compute the features (K, F) of K regions from their intensities, grey levels and outlines, class by class."""
    selected, plane = settings.by_class(regions.dimensions), flat_axis(regions.dimensions, settings)
    near = half_offsets((1,), regions.dimensions, plane)
    far = half_offsets(fitting(settings.distances, bounds.longest), regions.dimensions, plane)
    ng, longest, zones = bounds.ng, bounds.longest, zone_bound(bounds.pixels, bounds.ng)
    spacing, n_levels, norm = regions.spacing, volumes.n_levels, settings.weighting_norm
    packed = volumes.levels, volumes.start, volumes.size
    counted = any(name in selected for name in ("firstorder", "glcm", "ngtdm"))
    histogram = ops.level_histogram(*packed, ng) if counted else n_levels.new_empty((0, ng), dtype=torch.int32)
    pairs, dependences, differences = "glcm" in selected, "gldm" in selected, "ngtdm" in selected
    if pairs or dependences or differences:
        glcm, gldm, ngtdm = ops.neighbourhood(
            *(*packed, far, ng),
            gldm_a=settings.gldm_a,
            pairs=pairs,
            dependences=dependences,
            differences=differences,
        )
    sums = {}
    if "firstorder" in selected:
        sums["firstorder"] = ops.first_order(
            *(regions.images, image_moments, regions.image_index, regions.box, *packed, histogram),
            normalize_scale=settings.normalize_scale,
            remove_outliers=settings.remove_outliers or 0.0,
            shift=settings.voxel_array_shift,
        )
    if "shape" in selected:
        sums["shape"] = ops.shape(volumes.shape_mask, *packed[1:], spacing)
    if "shape2D" in selected:
        sums["shape2D"] = ops.shape2d(volumes.shape_mask, *packed[1:], spacing)
    if "glcm" in selected:
        weights = log_weights(far, spacing, norm)
        options = {"symmetric": settings.symmetrical_glcm, "mcc": "MCC" in selected["glcm"]}
        sums["glcm"] = ops.glcm_sums(glcm, histogram, n_levels, weights, **options)
    if "glrlm" in selected:
        runs = ops.glrlm(*packed, near, ng, longest)
        sums["glrlm"] = ops.size_sums(runs, n_levels, lengths(near, spacing, norm))
    if "glszm" in selected:
        sums["glszm"] = ops.zone_sums(ops.glszm(*packed, near, ng, zones), ng)
    if "ngtdm" in selected:
        sums["ngtdm"] = ops.ngtdm_sums(histogram, ngtdm)
    if "gldm" in selected:
        sums["gldm"] = ops.size_sums(gldm[:, None], n_levels, lengths(far, spacing, None))
    names = [f"{name}/{feature}" for name in sums for feature in selected[name]]
    return ops.features([*sums.values()], spacing, volumes.status, names=names, dtype=dtype)


class GpuRadiomics(nn.Module):
    """Hold the settings of :func:`gpu_radiomics` for use in a model; it has no parameters.

    Example:
        >>> radiomics = GpuRadiomics(RadiomicsSettings(feature_class={"shape2D": ["PixelSurface"]}))
        >>> radiomics(torch.rand(2, 16, 16), torch.tensor([[0, 0, 4, 4], [2, 2, 9, 5]]))
        tensor([[16.],
                [21.]])
    """

    def __init__(
        self,
        settings: RadiomicsSettings = RadiomicsSettings(),
        *,
        invalid: Literal["raise", "nan"] = "raise",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check_arguments(settings, invalid, dtype)
        self.settings, self.invalid, self.dtype = settings, invalid, dtype

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the columns of images; those of volumes are ``feature_names(settings, dimensions=3)``."""
        return feature_names(self.settings)

    def forward(
        self,
        images: Images,
        boxes: Boxes | None = None,
        masks: Images | None = None,
        spacing: Spacing | None = None,
        labels: Labels | None = None,
        *,
        return_status: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the features (K, F), with ``return_status`` also codes (K,): see :func:`gpu_radiomics`."""
        table, status = gpu_radiomics(
            *(images, boxes),
            masks=masks,
            labels=labels,
            settings=self.settings,
            spacing=spacing,
            invalid=self.invalid,
            return_status=True,
            dtype=self.dtype,
        )
        return (table, status) if return_status else table

    def extra_repr(self) -> str:
        """Return the settings for the printed module."""
        return f"{self.settings}, invalid={self.invalid!r}, dtype={self.dtype}"


def _is_static(images: Images, settings: RadiomicsSettings, invalid: str) -> bool:
    """Return True if the call must not synchronise.

    Levels are bounded, and in volumes the size of regions; errors become NaN; tensors are on a device.
    """
    bounded = settings.bin_count is not None or settings.max_levels is not None or not settings.needs_levels
    first = images[0] if isinstance(images, (list, tuple)) and images else images
    if not bounded or invalid != "nan" or not isinstance(first, Tensor) or first.device.type == "cpu":
        return False
    is_volume = first.ndim == (5 if first is images else 3)
    return not is_volume or settings.max_region is not None


def _check_arguments(settings: RadiomicsSettings, invalid: str, dtype: torch.dtype) -> None:
    if not isinstance(settings, RadiomicsSettings):
        raise TypeError(f"settings must be RadiomicsSettings, got {type(settings).__name__}: see from_pyradiomics")
    if invalid not in ("raise", "nan"):
        raise ValueError(f'invalid must be "raise" or "nan", got {invalid!r}')
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")


def _warn_of_one_level(parts: list[Spans], settings: RadiomicsSettings) -> None:
    """Warn where bins far wider than the intensities leave every region that is not flat a single grey level."""
    spans, n_levels = zip(*parts)
    if settings.bin_width is None or not settings.needs_levels or spans[0].device.type != "cpu":
        return  # on a device it would wait
    if bool((torch.cat(spans) > 0).any()) and not bool((torch.cat(n_levels) > 1).any()):
        warnings.warn(ONE_LEVEL.format(settings.bin_width), stacklevel=3)  # Python shows one text once per place
