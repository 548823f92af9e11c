"""The features: one file a class, each a literal tuple of names and formulas, one code for every device."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from . import firstorder, glcm, gldm, glrlm, glszm, ngtdm, shape2d
from .sizes import SizeSums
from .spec import FeatureSpec, evaluate

# class name -> its features, and the named tuple of sums that their formulas see
CLASSES: dict[str, tuple[tuple[FeatureSpec[Any], ...], Any]] = {
    "firstorder": (firstorder.FEATURES, firstorder.Sums),
    "shape2D": (shape2d.FEATURES, shape2d.Sums),
    "glcm": (glcm.FEATURES, glcm.Sums),
    "glrlm": (glrlm.FEATURES, SizeSums),
    "glszm": (glszm.FEATURES, SizeSums),
    "ngtdm": (ngtdm.FEATURES, ngtdm.Sums),
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
