"""Features of each class: a literal tuple of names and formulas per file, one code for every device."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ..columns import FirstOrderSums, GlcmSums, NgtdmSums, Shape2DSums, ShapeSums, SizeSums
from . import firstorder, glcm, gldm, glrlm, glszm, ngtdm, shape, shape2d
from .spec import FeatureSpec, evaluate

# Class name -> its features, and the table of sums that their formulas see
CLASSES: dict[str, tuple[tuple[FeatureSpec[Any], ...], Any]] = {
    "firstorder": (firstorder.FEATURES, FirstOrderSums),
    "shape": (shape.FEATURES, ShapeSums),
    "shape2D": (shape2d.FEATURES, Shape2DSums),
    "glcm": (glcm.FEATURES, GlcmSums),
    "glrlm": (glrlm.FEATURES, SizeSums),
    "glszm": (glszm.FEATURES, SizeSums),
    "ngtdm": (ngtdm.FEATURES, NgtdmSums),
    "gldm": (gldm.FEATURES, SizeSums),
}

__all__ = ["CLASSES", "evaluate", "group_by_class"]


def group_by_class(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return the classes and their features of names "<class>/<feature>", in the order given.

    >>> group_by_class(["glcm/Contrast", "glcm/Id", "ngtdm/Busyness"])
    [('glcm', ['Contrast', 'Id']), ('ngtdm', ['Busyness'])]
    """
    pairs = (name.split("/") for name in names)
    return [(name, [feature for _, feature in group]) for name, group in groupby(pairs, key=lambda pair: pair[0])]
