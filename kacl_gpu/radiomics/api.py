"""``gpu_radiomics``: the whole pipeline."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor, nn

from . import ops
from .features.glcm import log_weights
from .features.spec import lengths
from .memory import Bounds, chunks, fitting, matrix_chunks, max_levels, zone_bound
from .regions import Boxes, Regions, Spacing, describe, make_regions
from .settings import RadiomicsSettings
from .volumes import LevelVolumes, discretise, half_offsets

_warned_under: object = None  # the warning filters in force at the last warning of _warn_of_one_level


def feature_names(settings: RadiomicsSettings = RadiomicsSettings()) -> tuple[str, ...]:
    """The names of the F columns of :func:`gpu_radiomics` under these settings, as PyRadiomics spells them."""
    return tuple(f"original_{name}_{feature}" for name, feature in settings.selected)


def gpu_radiomics(
    images: Tensor,
    boxes: Boxes | None = None,
    *,
    masks: Tensor | None = None,
    settings: RadiomicsSettings = RadiomicsSettings(),
    spacing: Spacing | None = None,
    invalid: Literal["raise", "nan"] = "raise",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """PyRadiomics' 2D features of many regions of a batch of grey images, computed on the images' device.

    Args:
        images: (B, H, W) or (B, 1, H, W), any real dtype.
        boxes: x1, y1, x2, y2 in pixels, the far edge exclusive; fractions grow outward to whole pixels, what lies
            beyond the image is cut off. (B, 4): one box an image; (K, 5): the image's index first; or a list of B
            tensors (L_i, 4).
        masks: (B, H, W) or (B, 1, H, W) label maps; a region is then the pixels of ``settings.label`` in its box, or
            in its whole image if there are no boxes.
        settings: what to compute and how: PyRadiomics' settings under snake_case names.
        spacing: size of a pixel as (y, x), finite and above 0, one pair or one row an image (B, 2); 1 if left out.
            Where the call must not wait for a device (see docs/architecture.md): two numbers, or a tensor on that
            device, whose values are then not errors of the call but make their regions invalid.
        invalid: what becomes of a region that cannot be computed (no pixel, one pixel, not finite, ...): "raise" names
            all of them in one ValueError; "nan" fills their rows with NaN and leaves the others as they are.
        dtype: of the result, torch.float32 or torch.float64; all is computed in float64.

    Returns:
        (K, F) features, one row a region, columns as :func:`feature_names` lists them. No gradient flows through it.

    Raises:
        ValueError, TypeError: naming the argument and what was expected, or the regions that cannot be computed.
    """
    _check_arguments(settings, invalid, dtype)
    static = _is_static(images, settings, invalid)
    regions = make_regions(images, boxes, masks, spacing, check_values=not static)
    moments = ops.image_moments(regions.images) if settings.normalize else None
    limit = max_levels(regions, settings)
    tables, seen = [], []
    for part in chunks(regions, settings, static):
        volumes = discretise(part, moments, settings, limit, static)
        bounds = Bounds.of_shape(part, limit) if static else Bounds.of_values(volumes.size, volumes.n_levels)
        for k in matrix_chunks(part, bounds, settings):
            tables.append(features_of(part[k], volumes.part(k), moments, settings, bounds, dtype))
        seen.append(volumes)
    _warn_of_one_level(seen, settings)
    if invalid == "raise":
        status = torch.cat([volumes.status for volumes in seen])
        if bool(status.any()):
            raise ValueError(describe(regions, boxes, status, settings, limit))
    return tables[0] if len(tables) == 1 else torch.cat(tables)


def features_of(
    regions: Regions,
    volumes: LevelVolumes,
    moments: Tensor | None,
    settings: RadiomicsSettings,
    bounds: Bounds,
    dtype: torch.dtype,
) -> Tensor:
    """Features (K, F) of K regions from their intensities, grey levels and outlines, class by class."""
    wanted = settings.by_class
    near, far = half_offsets((1,)), half_offsets(fitting(settings.distances, bounds.longest))
    ng, longest, zones = bounds.ng, bounds.longest, zone_bound(bounds.pixels, bounds.ng)
    spacing, n_levels, norm = regions.spacing, volumes.n_levels, settings.weighting_norm
    where = volumes.levels, volumes.start, volumes.size
    histogram = ops.level_histogram(*where, ng)
    pairs, differences = "glcm" in wanted, "ngtdm" in wanted or "gldm" in wanted
    if pairs or differences:
        glcm, gldm, ngtdm = ops.neighbourhood(
            *where, far, ng, gldm_a=settings.gldm_a, pairs=pairs, differences=differences
        )
    sums = {}
    if "firstorder" in wanted:
        of_image = regions.images, moments, regions.image_index, regions.box
        sums["firstorder"] = ops.first_order(
            *(*of_image, *where, histogram),
            normalize_scale=settings.normalize_scale,
            remove_outliers=settings.remove_outliers or 0.0,
            shift=settings.voxel_array_shift,
        )
    if "shape2D" in wanted:
        sums["shape2D"] = ops.shape2d(volumes.shape_mask, *where[1:], spacing)
    if "glcm" in wanted:
        weights = log_weights(far, spacing, norm)
        symmetric = settings.symmetrical_glcm
        sums["glcm"] = ops.glcm_sums(glcm, histogram, n_levels, weights, symmetric=symmetric, mcc=True)
    if "glrlm" in wanted:
        runs = ops.glrlm(*where, near, ng, longest)
        sums["glrlm"] = ops.size_sums(runs, n_levels, lengths(near, spacing, norm))
    if "glszm" in wanted:
        sums["glszm"] = ops.zone_sums(ops.glszm(*where, near, ng, zones), ng)
    if "ngtdm" in wanted:
        sums["ngtdm"] = ops.ngtdm_sums(histogram, ngtdm)
    if "gldm" in wanted:
        sums["gldm"] = ops.size_sums(gldm[:, None], n_levels, lengths(far, spacing, None))
    names = [f"{name}/{feature}" for name in sums for feature in wanted[name]]
    return ops.features([*sums.values()], spacing, volumes.status, names=names, dtype=dtype)


class GpuRadiomics(nn.Module):
    """:func:`gpu_radiomics` with its settings held, for use in a model; it has no parameters."""

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
        """The names of the columns."""
        return feature_names(self.settings)

    def forward(
        self,
        images: Tensor,
        boxes: Boxes | None = None,
        masks: Tensor | None = None,
        spacing: Spacing | None = None,
    ) -> Tensor:
        """See :func:`gpu_radiomics`: (K, F)."""
        return gpu_radiomics(
            images, boxes, masks=masks, settings=self.settings, spacing=spacing, invalid=self.invalid, dtype=self.dtype
        )

    def extra_repr(self) -> str:
        return f"{self.settings}, invalid={self.invalid!r}, dtype={self.dtype}"


def _is_static(images: Tensor, settings: RadiomicsSettings, invalid: str) -> bool:
    """Whether the host reads no value: where nothing may depend on one, and there is a device to wait for."""
    bounded = settings.bin_count is not None or settings.max_levels is not None
    return bounded and invalid == "nan" and isinstance(images, Tensor) and images.device.type != "cpu"


def _check_arguments(settings: RadiomicsSettings, invalid: str, dtype: torch.dtype) -> None:
    if not isinstance(settings, RadiomicsSettings):
        raise TypeError(f"settings must be RadiomicsSettings, got {type(settings).__name__}: see from_pyradiomics")
    if invalid not in ("raise", "nan"):
        raise ValueError(f'invalid must be "raise" or "nan", got {invalid!r}')
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")


def _warn_of_one_level(seen: list[LevelVolumes], settings: RadiomicsSettings) -> None:
    """Once, where bins far wider than the intensities leave regions that are not flat a single grey level each."""
    global _warned_under
    if settings.bin_width is None or seen[0].span.device.type != "cpu":  # elsewhere it would wait for the device
        return
    spans, n_levels = torch.cat([v.span for v in seen]), torch.cat([v.n_levels for v in seen])
    if not bool((spans > 0).any()) or bool((n_levels > 1).any()):
        return
    if _warned_under is not warnings.filters:  # a new ``catch_warnings`` hears it again
        _warned_under = warnings.filters
        warnings.warn(
            f"bin_width = {settings.bin_width:g} leaves one grey level in every region, of intensities that span "
            f"{float(spans.max()):g} at most: texture features say nothing then. Use bin_count=32, or a bin_width that "
            "fits the intensities (images scaled to [0, 1] often need 1/255 of the usual one).",
            stacklevel=3,
        )
