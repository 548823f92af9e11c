"""The CPU implementation of every operator: plain loops compiled by Numba, one region at a time, threads over regions.

It is the readable definition, the CPU's fast path and the oracle of the GPU kernels in one. Arrays are NumPy's; the
functions here have the signatures of :mod:`kacl_gpu.radiomics.ops`. Importing this package imports Numba, so nothing
imports it before the first call on the CPU.
"""

from .components import largest_components
from .features import features
from .first_order import first_order
from .glcm import glcm_sums
from .glrlm import glrlm
from .glszm import glszm, zone_sums
from .labels import label_boxes
from .levels import discretise, image_moments, level_histogram
from .neighbourhood import neighbourhood, ngtdm_sums
from .regions import locate
from .shape import shape
from .shape2d import shape2d
from .sizes import size_sums

__all__ = [
    "discretise",
    "features",
    "first_order",
    "glcm_sums",
    "glrlm",
    "glszm",
    "image_moments",
    "label_boxes",
    "largest_components",
    "level_histogram",
    "locate",
    "neighbourhood",
    "ngtdm_sums",
    "shape",
    "shape2d",
    "size_sums",
    "zone_sums",
]
