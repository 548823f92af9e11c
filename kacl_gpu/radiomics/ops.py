"""The operators: the only place where a device chooses an implementation.

Each is a ``torch.library`` operator whose body is the CPU implementation (:mod:`kacl_gpu.radiomics.cpu`, Numba). On
CUDA tensors a Triton launcher of :mod:`kacl_gpu.kernels` takes its place (``KERNELS``). On those of another device, and
without Triton, the body runs on host copies and the results go back.
(``torch.library.custom_op`` would import torch._dynamo at the first call, which takes seconds; ``define`` does not.)

A *packed level buffer* is flat: region k is the D x H x W block of ``size[k]`` that begins at ``start[k]``, 0 outside
the region, levels from 1. ``offsets`` lists one half of the neighbourhood as z, y, x triples, flat, each
lexicographically positive; the other half are their opposites. A = len(offsets) / 3.
"""

from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec

# torch.library.infer_schema knows typing's Sequence, and up to some version after 2.6 not that of collections.abc
from typing import Any, ParamSpec, Sequence, TypeVar  # noqa: UP035

import numpy as np
import torch
from torch import Tensor

from .columns import (
    BOX,
    CORNERS,
    FIRST_ORDER,
    GLCM,
    MOMENTS,
    NGTDM,
    OFFSET,
    SHAPE,
    SHAPE2D,
    SIZE,
    SIZES,
    SPACING,
    ZONE,
    number_of_columns,
)

I64, F64 = torch.int64, torch.float64
P = ParamSpec("P")
R = TypeVar("R")
# Written out where torch.library.infer_schema does not know a type: lists of strings
SCHEMAS = {"features": "(Tensor[] sums, Tensor spacing, Tensor status, *, str[] names, ScalarType dtype) -> Tensor"}


def _operator(body: Callable[P, R]) -> Callable[P, R]:
    """Define ``kacl_gpu::<name>`` with this signature and body, and return a function that calls it."""
    name = f"kacl_gpu::{body.__name__}"
    schema = SCHEMAS.get(body.__name__) or torch.library.infer_schema(body, mutates_args=())
    torch.library.define(name, schema)
    torch.library.impl(name, "default", body)
    overload = getattr(torch.ops.kacl_gpu, body.__name__).default

    @wraps(body)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = overload(*args, **kwargs)
        return result

    return call


def _fake(operator: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the shapes that an operator returns, for tracing."""
    register: Callable[[Callable[P, R]], Callable[P, R]] = torch.library.register_fake(f"kacl_gpu::{operator.__name__}")
    return register


def _on_host(name: str, *arguments: Any, **settings: Any) -> Any:
    """Call ``cpu.<name>`` with NumPy views of the tensors, or of host copies if they lie elsewhere."""
    from . import cpu

    def array(value: Any) -> Any:
        if isinstance(value, Tensor):
            return (value if value.is_cpu else value.cpu()).numpy()
        return (
            [array(v) for v in value] if isinstance(value, list) and value and isinstance(value[0], Tensor) else value
        )

    device = next(a.device for a in arguments if isinstance(a, Tensor))
    settings = {key: array(value) for key, value in settings.items()}
    result = getattr(cpu, name)(*map(array, arguments), **settings)
    results = [torch.from_numpy(r) for r in (result if isinstance(result, tuple) else (result,))]
    if device.type != "cpu":
        results = [r.to(device) for r in results]
    return tuple(results) if isinstance(result, tuple) else results[0]


def _triples(offsets: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array(offsets, np.int64).reshape(-1, len(OFFSET))


@_operator
def image_moments(images: Tensor, image_size: Tensor | None) -> Tensor:
    """Return mean and sample standard deviation of whole images (B, D, H, W) -> (B, 2) float64.

    ``image_size`` (B, 3) int64: the depth, height and width of each image of a padded batch; None: all of the batch.
    """
    return _on_host("image_moments", images, image_size)


@_fake(image_moments)
def _(images: Tensor, image_size: Any) -> Tensor:
    return images.new_empty((images.shape[0], len(MOMENTS)), dtype=F64)


@_operator
def locate(
    images: Tensor, boxes: Tensor | None, spacing: Tensor | None, image_size: Tensor | None, *, voxel: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Locate each region in images (B, D, H, W).

    Args: boxes in 2D (K, 5) of image index, x1, y1, x2, y2, or (B, 4) of one box per image; in 3D (K, 7) of image
    index, x1, y1, z1, x2, y2, z2, or (B, 6); or none: whole images. Fractions grow outward; what lies beyond the image
    is cut off. spacing (B, 3) float64 z, y, x: the size of the voxels of each image, or one ``voxel`` for all.
    image_size (B, 3) int64: the depth, height and width of each image of a padded batch; None: all of the batch.

    Returns: image index (K,) int64; box (K, 6) int64 z0, y0, x0, z1, y1, x1; size (K, 3) int64 depth, height, width;
    spacing (K, 3) float64, 1 where it is not finite and above 0; status (K,) int32. Where the region is invalid, index,
    box and size are as of nothing in image 0, and where its image does not exist, the spacing is that of image 0.
    """
    return _on_host("locate", images, boxes, spacing, image_size, voxel=voxel)


@_fake(locate)
def _(
    images: Tensor, boxes: Any, spacing: Any, image_size: Any, *, voxel: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    k = images.shape[0] if boxes is None else boxes.shape[0]
    index, status = images.new_empty(k, dtype=I64), images.new_empty(k, dtype=torch.int32)
    box, size = index.new_empty((k, len(BOX))), index.new_empty((k, len(SIZE)))
    return index, box, size, index.new_empty((k, len(SPACING)), dtype=F64), status


@_operator
def label_boxes(masks: Tensor, image_index: Tensor, box: Tensor, labels: Tensor) -> Tensor:
    """Find the smallest box around each of L labels within K boxes of label maps (B, D, H, W), reading each box once.

    Args: image_index (K,); box (K, 6) z0, y0, x0, z1, y1, x1 inside the image; labels (1, L), the same for all boxes,
    or (K, L); int64, ascending along a row.

    Returns: (K, L, 6) int64 z0, y0, x0, z1, y1, x1; zeros for a label that its box does not hold.
    """
    return _on_host("label_boxes", masks, image_index, box, labels)


@_fake(label_boxes)
def _(masks: Tensor, image_index: Tensor, box: Tensor, labels: Tensor) -> Tensor:
    return labels.new_empty((box.shape[0], labels.shape[1], len(BOX)))


@_operator
def discretise(
    images: Tensor,
    masks: Tensor | None,
    moments: Tensor | None,
    image_index: Tensor,
    box: Tensor,
    status: Tensor,
    start: Tensor,
    size: Tensor,
    *,
    labels: Tensor | None,
    total: int,
    narrow: bool,
    bin_width: float,
    bin_count: int,
    max_levels: int,
    normalize_scale: float,
    remove_outliers: float,
    resegment_range: Sequence[float],
    resegment_mode: str,
    resegment_shape: bool,
    minimum_roi_dimensions: int,
    minimum_roi_size: int,
    distances: Sequence[int],
    force2d_dimension: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Check each region and write its grey levels.

    Args: images (B, D, H, W); masks (B, D, H, W) label maps or None; moments (B, 2) to normalise by, or None;
    image_index (K,); box (K, 6) z0, y0, x0, z1, y1, x1; status (K,) int32, regions with another than 0 are passed over;
    start (K,), size (K, 3) and total: the packed buffer; labels (K,) int64: which label of its map each region is;
    narrow: uint8 levels instead of int16; bin_count 0: by bin_width, and both 0: one level, whatever the intensities;
    remove_outliers, minimum_roi_size 0 and resegment_range, distances empty: not asked for. One of ``distances`` must
    fit into the region's extent, that along ``force2d_dimension`` (-1: none) left out.

    Returns: levels (total,); the mask for shape features (total,) uint8 where a range resegments, else empty; highest
    level present (K,) int64, 0 for a region that cannot be computed; largest less smallest intensity (K,) float64;
    status (K,) int32.
    """
    return _on_host(
        "discretise",
        *(images, masks, moments, image_index, box, status, start, size),
        labels=labels,
        total=total,
        narrow=narrow,
        bin_width=bin_width,
        bin_count=bin_count,
        max_levels=max_levels,
        normalize_scale=normalize_scale,
        remove_outliers=remove_outliers,
        resegment_range=resegment_range,
        resegment_mode=resegment_mode,
        resegment_shape=resegment_shape,
        minimum_roi_dimensions=minimum_roi_dimensions,
        minimum_roi_size=minimum_roi_size,
        distances=distances,
        force2d_dimension=force2d_dimension,
    )


@_fake(discretise)
def _(images: Tensor, masks: Any, moments: Any, image_index: Tensor, box: Tensor, status: Tensor, start: Tensor,
      size: Tensor, *, total: int, narrow: bool, resegment_range: Sequence[float], **_: Any) -> Any:  # fmt: skip
    levels = images.new_empty(total, dtype=torch.uint8 if narrow else torch.int16)
    shape_mask = images.new_empty(total if len(resegment_range) else 0, dtype=torch.uint8)
    return levels, shape_mask, torch.empty_like(start), torch.empty_like(start, dtype=F64), torch.empty_like(status)


@_operator
def level_histogram(levels: Tensor, start: Tensor, size: Tensor, ng: int) -> Tensor:
    """Count the pixels per grey level of a packed level buffer: (K, ng) int32."""
    return _on_host("level_histogram", levels, start, size, ng)


@_fake(level_histogram)
def _(levels: Tensor, start: Tensor, size: Tensor, ng: int) -> Tensor:
    return levels.new_empty((start.shape[0], ng), dtype=torch.int32)


@_operator
def first_order(
    images: Tensor,
    moments: Tensor | None,
    image_index: Tensor,
    box: Tensor,
    levels: Tensor,
    start: Tensor,
    size: Tensor,
    histogram: Tensor,
    *,
    normalize_scale: float,
    remove_outliers: float,
    shift: float,
) -> Tensor:
    """Compute statistics of the intensities where the level is above 0: (K, 17) float64, NaN for an empty region.

    Columns: n, sum of (x + shift)^2, minimum, maximum, mean, mean absolute deviation, the same of the pixels from the
    10th to the 90th percentile, central moments 2, 3, 4, percentiles 10, 25, 50, 75, 90; and of the grey levels, whose
    ``histogram`` is (K, ng): entropy, sum of squares.
    """
    return _on_host(
        "first_order",
        *(images, moments, image_index, box, levels, start, size, histogram),
        normalize_scale=normalize_scale,
        remove_outliers=remove_outliers,
        shift=shift,
    )


@_fake(first_order)
def _(images: Tensor, moments: Any, image_index: Tensor, *_: Any, **__: Any) -> Tensor:
    return images.new_empty((image_index.shape[0], number_of_columns(FIRST_ORDER)), dtype=F64)


@_operator
def shape2d(mask: Tensor | None, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    """Measure outline by marching squares and moments of a packed mask (any value above 0 is inside): (K, 9) float64.

    Without a mask, of full boxes.

    The blocks have depth 1. ``spacing`` (K, 3) z, y, x. Columns: pixels; vertical, horizontal, diagonal pieces of
    outline (of length 1, 1 and half a pixel's diagonal); eight times the area in pixels; maximum diameter (in units of
    spacing); pixels squared times the covariances yy, xx, yx of the pixels' indices.
    """
    return _on_host("shape2d", mask, start, size, spacing)


@_fake(shape2d)
def _(mask: Any, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    return spacing.new_empty((start.shape[0], number_of_columns(SHAPE2D)))


@_operator
def shape(mask: Tensor | None, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    """Measure surface by marching cubes, diameters and axes of a packed mask (above 0 is inside): (K, 10) float64.

    Without a mask, of full boxes.

    ``spacing`` (K, 3) z, y, x. Columns: voxels; area of the surface; 48 times the volume inside it, in voxels, from the
    centre of the voxel before the first one of the mask's own box; maximum diameter, and the maxima within planes
    across z, y and x; eigenvalues of the covariance of the voxels' centres, largest first. In units of spacing.
    """
    return _on_host("shape", mask, start, size, spacing)


@_fake(shape)
def _(mask: Any, start: Tensor, size: Tensor, spacing: Tensor) -> Tensor:
    return spacing.new_empty((start.shape[0], number_of_columns(SHAPE)))


@_operator
def neighbourhood(
    levels: Tensor,
    start: Tensor,
    size: Tensor,
    offsets: Sequence[int],
    ng: int,
    *,
    gldm_a: int,
    pairs: bool,
    dependences: bool,
    differences: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Count those of GLCM, GLDM and NGTDM that are asked for; all see the same neighbours.

    Returns: with ``pairs`` (level at p, level at p + offset) inside each region, (K, A, ng, ng) int32, not made
    symmetric; with ``dependences`` counts (K, ng, 1 + 2 A) int32 of pixels of level i, column d for d dependent
    neighbours; with ``differences`` (K, ng, 1 + 2 A) int64, the sum of |c * i - S| over the pixels of level i with c
    neighbours inside whose levels add up to S. A matrix that is not asked for has no rows.
    """
    return _on_host(
        "neighbourhood",
        *(levels, start, size, _triples(offsets), ng),
        gldm_a=gldm_a,
        pairs=pairs,
        dependences=dependences,
        differences=differences,
    )


@_fake(neighbourhood)
def _(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, *, gldm_a: int, pairs: bool,
      dependences: bool, differences: bool) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    k, directions = start.shape[0], len(offsets) // len(OFFSET)
    columns = 1 + 2 * directions
    glcm = levels.new_empty((k if pairs else 0, directions, ng, ng), dtype=torch.int32)
    gldm = levels.new_empty((k if dependences else 0, ng, columns), dtype=torch.int32)
    return glcm, gldm, levels.new_empty((k if differences else 0, ng, columns), dtype=I64)


@_operator
def glcm_sums(
    counts: Tensor, histogram: Tensor, n_levels: Tensor, log_weights: Tensor, *, symmetric: bool, mcc: bool
) -> Tensor:
    """Compute the sums that GLCM features need of ``counts`` (K, A, ng, ng) as probabilities p: (K, A, 29) float64.

    ``histogram`` (K, ng) and ``n_levels`` (K,): pixels per grey level, and the highest one. ``log_weights`` (K, A):
    directions are summed under these weights before anything else, so that A becomes 1; empty: each stands for itself.
    ``symmetric`` adds the transpose first. Without ``mcc`` column 7, which takes most of the time, is NaN.

    Columns: 0 total count; sum of p^2, HXY, HXY1, HXY2, largest p, covariance, square of the maximal correlation
    coefficient; 8 entropies of p_x, p_y, p_{x+y}, p_{x-y}; 12 means and variances of x and of y (mean, mean, variance,
    variance); 16 mean and central moments 2, 3, 4 of x + y; 20 mean and variance of k = |x - y|; 22 sums of p times
    k^2, 1 / (1 + k), 1 / (1 + k^2), 1 / (1 + k / top), 1 / (1 + k^2 / top^2), 1 / k^2 (0 at 0), where top is the
    highest level; 28 whether the region has a single grey level (1 or 0). A direction without pairs has total 0, its
    column 28, and NaN between.
    """
    return _on_host("glcm_sums", counts, histogram, n_levels, log_weights, symmetric=symmetric, mcc=mcc)


@_fake(glcm_sums)
def _(counts: Tensor, histogram: Tensor, n_levels: Tensor, log_weights: Tensor, **_: Any) -> Tensor:
    regions, directions = counts.shape[:2]
    return counts.new_empty((regions, 1 if log_weights.shape[0] else directions, len(GLCM)), dtype=F64)


@_operator
def glrlm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_run: int) -> Tensor:
    """Count runs by level and length: (K, A, ng, max_run) int32.

    A direction with no two pixels on one line stays empty.
    """
    return _on_host("glrlm", levels, start, size, _triples(offsets), ng, max_run)


@_fake(glrlm)
def _(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_run: int) -> Tensor:
    return levels.new_empty((start.shape[0], len(offsets) // len(OFFSET), ng, max_run), dtype=torch.int32)


@_operator
def glszm(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_zones: int) -> Tensor:
    """List zones as a table (K, max_zones, 3) int32 of level, size, count; by size, then level; unused rows are 0.

    A region of n pixels has at most min(n, sqrt(2 n ng)) different pairs of level and size.
    """
    return _on_host("glszm", levels, start, size, _triples(offsets), ng, max_zones)


@_fake(glszm)
def _(levels: Tensor, start: Tensor, size: Tensor, offsets: Sequence[int], ng: int, max_zones: int) -> Tensor:
    return levels.new_empty((start.shape[0], max_zones, len(ZONE)), dtype=torch.int32)


@_operator
def largest_components(maps: Tensor, *, threshold: float, max_components: int) -> tuple[Tensor, Tensor]:
    """Return the 8-connected components above a threshold of maps (B, H, W) float32, by descending total.

    Of at most 2^21 pixels, so that totals can be ordered in 64 bits. Each map counts from its smallest finite value, 0,
    to its largest, 1, of which ``threshold`` is a part; what is not finite is below. Values are summed in
    fixed point (2^-20), so that the order of summation does not matter. Of equal totals the one that begins further up,
    then further left, comes first.

    Returns, with M = ``max_components``: boxes (B, M, 4) float32 x1, y1, x2, y2, the far edge exclusive; totals (B, M)
    float32. A place without a component has the box of the whole map and the total -1.
    """
    return _on_host("largest_components", maps, threshold=threshold, max_components=max_components)


@_fake(largest_components)
def _(maps: Tensor, *, threshold: float, max_components: int) -> tuple[Tensor, Tensor]:
    totals = maps.new_empty((maps.shape[0], max_components))
    return maps.new_empty((*totals.shape, len(CORNERS))), totals


@_operator
def ngtdm_sums(histogram: Tensor, differences: Tensor) -> Tensor:
    """Sum n (K, ng) pixels per level and the (K, ng, C) integers of :func:`neighbourhood`: (K, 8) float64.

    With s_i, the sum over neighbour counts c of differences / c. Columns: pixels; levels that occur; variance of the
    levels; sums of s_i and of n_i s_i; and over pairs of levels that occur |i n_i - j n_j|,
    |i - j| (n_i s_i + n_j s_j) / (n_i + n_j), (n_i + n_j) (i - j)^2.
    """
    return _on_host("ngtdm_sums", histogram, differences)


@_fake(ngtdm_sums)
def _(histogram: Tensor, differences: Tensor) -> Tensor:
    return histogram.new_empty((histogram.shape[0], len(NGTDM)), dtype=F64)


@_operator
def size_sums(counts: Tensor, n_levels: Tensor, weights: Tensor) -> Tensor:
    """Sum ``counts`` (K, A, ng, S) by grey level i and size j = 1 ... S, per direction: (K, A, 15) float64.

    ``weights`` (K, A): directions are summed under these weights first, so that A becomes 1; empty: each for itself.

    Columns: total n; entropy; sums of counts times i^-2 j^-2, i^2 j^-2, i^-2 j^2, i^2 j^2, i^-2, i^2, j, j^-2, j^2;
    sums of squares by level and by size; variance of the levels and of the sizes.
    """
    return _on_host("size_sums", counts, n_levels, weights)


@_fake(size_sums)
def _(counts: Tensor, n_levels: Tensor, weights: Tensor) -> Tensor:
    regions, directions = counts.shape[:2]
    return counts.new_empty((regions, 1 if weights.shape[0] else directions, len(SIZES)), dtype=F64)


@_operator
def zone_sums(zones: Tensor, ng: int) -> Tensor:
    """Compute the columns of :func:`size_sums` of a table of zones (K, T, 3) of level, size, count: (K, 15) float64."""
    return _on_host("zone_sums", zones, ng)


@_fake(zone_sums)
def _(zones: Tensor, ng: int) -> Tensor:
    return zones.new_empty((zones.shape[0], len(SIZES)), dtype=F64)


@_operator
def features(
    sums: Sequence[Tensor], spacing: Tensor, status: Tensor, *, names: Sequence[str], dtype: torch.dtype
) -> Tensor:
    """Evaluate the formulas of the features: (K, F) of ``dtype``, NaN in the rows whose ``status`` (K,) is not 0.

    ``names``: "<class>/<feature>", those of one class side by side; ``sums``: for each class in turn the columns
    (K, A, C) or (K, C) of its ``Sums`` but for the spacing, which is (K, 3) z, y, x. A feature is the mean over the
    directions whose first column is above 0; NaN if there is none, unless its formula says else.
    """
    return _on_host("features", sums, spacing, status, names=names, dtype=dtype)


@_fake(features)
def _(sums: Any, spacing: Tensor, status: Tensor, *, names: Sequence[str], dtype: torch.dtype) -> Tensor:
    return spacing.new_empty((spacing.shape[0], len(names)), dtype=dtype)


# operator -> the file of kacl_gpu.kernels whose launcher of the same name serves CUDA tensors
KERNELS = {
    "discretise": "levels",
    "features": "features",
    "first_order": "first_order",
    "glcm_sums": "glcm",
    "glrlm": "glrlm",
    "glszm": "glszm",
    "image_moments": "levels",
    "label_boxes": "labels",
    "largest_components": "components",
    "level_histogram": "levels",
    "locate": "regions",
    "neighbourhood": "neighbourhood",
    "ngtdm_sums": "neighbourhood",
    "shape": "shape",
    "shape2d": "shape2d",
    "size_sums": "sizes",
    "zone_sums": "glszm",
}


def _on_cuda(name: str, file: str) -> None:
    @cache
    def launcher() -> Callable[..., Any]:
        return getattr(import_module(f"kacl_gpu.kernels.{file}"), name)  # imports Triton: not before the first call

    def call(*arguments: Any, **settings: Any) -> Any:
        device = next(a.device for a in reversed(arguments) if isinstance(a, Tensor))
        if device.index == torch.cuda.current_device():
            return launcher()(*arguments, **settings)
        with torch.cuda.device(device):  # Triton launches on the current one
            return launcher()(*arguments, **settings)

    torch.library.impl(f"kacl_gpu::{name}", "cuda", call)


if find_spec("triton"):
    for _name, _file in KERNELS.items():
        _on_cuda(_name, _file)
