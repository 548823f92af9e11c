"""2D shape features (``radiomics.shape2D``)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .spec import FeatureSpec, evaluate


class Sums(NamedTuple):
    """Each (K,) float64, in units of the spacing."""

    pixel_surface: Tensor
    surface: Tensor
    perimeter: Tensor
    diameter: Tensor
    major: Tensor  # eigenvalues of the covariance of the pixels' positions
    minor: Tensor


FEATURES: tuple[FeatureSpec[Sums], ...] = (
    FeatureSpec("Elongation", lambda s: torch.sqrt(s.minor / s.major)),
    FeatureSpec("MajorAxisLength", lambda s: 4 * torch.sqrt(s.major)),
    FeatureSpec("MaximumDiameter", lambda s: s.diameter),
    FeatureSpec("MeshSurface", lambda s: s.surface),
    FeatureSpec("MinorAxisLength", lambda s: 4 * torch.sqrt(s.minor)),
    FeatureSpec("Perimeter", lambda s: s.perimeter),
    FeatureSpec("PerimeterSurfaceRatio", lambda s: s.perimeter / s.surface),
    FeatureSpec("PixelSurface", lambda s: s.pixel_surface),
    FeatureSpec("Sphericity", lambda s: 2 * torch.sqrt(math.pi * s.surface) / s.perimeter),
)


def shape2d(statistics: Tensor, spacing: Tensor, names: Sequence[str]) -> Tensor:
    """(K, 9) of ``ops.shape2d``, (K, 2) spacing -> (K, F) float64."""
    n, vertical, horizontal, diagonal, eight_areas, diameter, yy, xx, yx = statistics.unbind(1)
    y, x = spacing.unbind(1)
    area = y * x
    perimeter = vertical * y + horizontal * x + diagonal * (0.5 * torch.sqrt(y * y + x * x))
    # The smaller eigenvalue from the determinant, which for pixels on one line is a difference of equal numbers: 0.
    determinant = torch.clamp(yy * xx - yx * yx, min=0.0) * (area * area)
    yy, xx, yx = yy * (y * y), xx * (x * x), yx * area
    major = 0.5 * (yy + xx + torch.sqrt((yy - xx) * (yy - xx) + 4 * (yx * yx)))
    minor = torch.where(major > 0, determinant / major, 0.0)
    sums = Sums(n * area, eight_areas / 8 * area, perimeter, diameter, major / (n * n), minor / (n * n))
    return evaluate(FEATURES, sums, names)
