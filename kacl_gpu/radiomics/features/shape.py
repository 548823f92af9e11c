"""3D shape features (``radiomics.shape``)."""

import math

from torch import Tensor

from ..columns import ShapeSums
from .spec import FeatureSpec, sqrt, where


def _volume(s: ShapeSums) -> Tensor:
    """Return the volume inside the surface."""
    return s.volumes / 48 * (s.spacing_z * s.spacing_y * s.spacing_x)


def _cube_root(x: Tensor) -> Tensor:
    """Return the cube root of values from 1e-40 to 1e40, 0 of 0, by arithmetic and square roots alone.

    x^(1/4 + 1/16 + 1/64) is some per cent away, and each of Newton's steps squares what is left.
    """
    fourth = sqrt(sqrt(x))
    sixteenth = sqrt(sqrt(fourth))
    root = fourth * sixteenth * sqrt(sqrt(sixteenth))
    for _ in range(6):
        root = (2 * root + x / (root * root)) / 3
    return where(x > 0, root, 0.0)


def _compactness(s: ShapeSums) -> Tensor:
    """Return 36 pi V^2 / A^3, which is 1 of a ball."""
    volume = _volume(s)
    return 36 * math.pi * (volume * volume) / (s.area * s.area * s.area)


FEATURES: tuple[FeatureSpec[ShapeSums], ...] = (
    FeatureSpec("Elongation", lambda s: sqrt(s.minor / s.major), "Q3CK"),
    FeatureSpec("Flatness", lambda s: sqrt(s.least / s.major), "N17B"),
    FeatureSpec("LeastAxisLength", lambda s: 4 * sqrt(s.least), "7J51"),
    FeatureSpec("MajorAxisLength", lambda s: 4 * sqrt(s.major), "TDIC"),
    FeatureSpec("Maximum2DDiameterColumn", lambda s: s.diameter_column),
    FeatureSpec("Maximum2DDiameterRow", lambda s: s.diameter_row),
    FeatureSpec("Maximum2DDiameterSlice", lambda s: s.diameter_slice),
    FeatureSpec("Maximum3DDiameter", lambda s: s.diameter, "L0JK"),
    FeatureSpec("MeshVolume", _volume, "RNU0"),
    FeatureSpec("MinorAxisLength", lambda s: 4 * sqrt(s.minor), "P9VJ"),
    FeatureSpec("Sphericity", lambda s: _cube_root(_compactness(s)), "QCFX"),
    FeatureSpec("SurfaceArea", lambda s: s.area, "C0JK"),
    FeatureSpec("SurfaceVolumeRatio", lambda s: s.area / _volume(s), "2PR5"),
    FeatureSpec("VoxelVolume", lambda s: s.n * (s.spacing_z * s.spacing_y * s.spacing_x), "YEKZ"),
    # PyRadiomics has deprecated these: computed only where they are named
    FeatureSpec("Compactness1", lambda s: _volume(s) / sqrt(math.pi * (s.area * s.area * s.area)), "SKGS"),
    FeatureSpec("Compactness2", _compactness, "BQWJ"),
    FeatureSpec("SphericalDisproportion", lambda s: 1 / _cube_root(_compactness(s)), "KRCK"),
)
