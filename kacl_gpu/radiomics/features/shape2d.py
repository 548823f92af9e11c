"""2D shape features (``radiomics.shape2D``)."""

import math

from torch import Tensor

from ..columns import Shape2DSums
from .spec import FeatureSpec, clamp, sqrt, where


def _surface(s: Shape2DSums) -> Tensor:
    """Return the area inside the outline."""
    return s.eight_areas / 8 * (s.spacing_y * s.spacing_x)


def _perimeter(s: Shape2DSums) -> Tensor:
    """Return the length of the outline."""
    y, x = s.spacing_y, s.spacing_x
    return s.vertical * y + s.horizontal * x + s.diagonal * (0.5 * sqrt(y * y + x * x))


def _major(s: Shape2DSums) -> Tensor:
    """Return n^2 times the larger eigenvalue of the covariance of the pixels' positions."""
    yy, xx = s.yy * (s.spacing_y * s.spacing_y), s.xx * (s.spacing_x * s.spacing_x)
    yx = s.yx * (s.spacing_y * s.spacing_x)
    return 0.5 * (yy + xx + sqrt((yy - xx) * (yy - xx) + 4 * (yx * yx)))


def _minor(s: Shape2DSums) -> Tensor:
    """Return n^2 times the smaller one, from the determinant: 0 for pixels on one line, whose terms are equal."""
    area = s.spacing_y * s.spacing_x
    determinant = clamp(s.yy * s.xx - s.yx * s.yx, min=0.0) * (area * area)
    major = _major(s)
    return where(major > 0, determinant / major, 0.0)


FEATURES: tuple[FeatureSpec[Shape2DSums], ...] = (
    FeatureSpec("Elongation", lambda s: sqrt(_minor(s) / _major(s))),
    FeatureSpec("MajorAxisLength", lambda s: 4 * sqrt(_major(s) / (s.n * s.n))),
    FeatureSpec("MaximumDiameter", lambda s: s.diameter),
    FeatureSpec("MeshSurface", _surface),
    FeatureSpec("MinorAxisLength", lambda s: 4 * sqrt(_minor(s) / (s.n * s.n))),
    FeatureSpec("Perimeter", _perimeter),
    FeatureSpec("PerimeterSurfaceRatio", lambda s: _perimeter(s) / _surface(s)),
    FeatureSpec("PixelSurface", lambda s: s.n * (s.spacing_y * s.spacing_x)),
    FeatureSpec("Sphericity", lambda s: 2 * sqrt(math.pi * _surface(s)) / _perimeter(s)),
)
