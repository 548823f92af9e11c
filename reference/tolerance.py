"""The only place of tolerances for features: how far ours may be from the reference."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ABSOLUTE = 1e-9
RELATIVE = 1e-6

# Square roots of a difference: near zero the squares are compared, in squares of this unit (1 if None).
ROOTS = {
    "original_glcm_MCC": None,
    "original_glcm_Imc2": None,
    "original_shape2D_Elongation": None,
    "original_shape2D_MinorAxisLength": "original_shape2D_MajorAxisLength",
}
SQUARES = 1e-14

# Signed sums that cancel (glcm ClusterShade, Imc1, firstorder Skewness): relative to the sum of their absolute terms.
CANCELLATION = 1e-12


def deviations(
    names: Sequence[str], ours: NDArray[np.float64], reference: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far ours is from the reference, as a multiple of what is tolerated: above 1 is a miss.

    Parameters
    ----------
    names : F names of features
    ours, reference : (F,)
    scale : (F,) sum of the absolute terms of those that cancel, 0 for the others

    Returns
    -------
    (F,) float64
        0 where both are NaN or equal, infinite where only one is NaN.
    """
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        result = abs(ours - reference) / (ABSOLUTE + RELATIVE * abs(reference) + CANCELLATION * scale)
        for name, unit in ROOTS.items():
            if name in names:
                at = names.index(name)
                squared = 1.0 if unit is None else reference[names.index(unit)] ** 2
                squares = abs(ours[at] ** 2 - reference[at] ** 2) / (SQUARES * squared)
                result[at] = min(result[at], squares)
    same = (ours == reference) | (np.isnan(ours) & np.isnan(reference))
    return np.where(same, 0.0, np.where(np.isfinite(result), result, np.inf))
