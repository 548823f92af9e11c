"""Matrices of images of 4 x 4 pixels, small enough to be counted with a pencil, and features taken from them.

The first image is the example of Haralick, Shanmugam and Dinstein (Textural Features for Image Classification, 1973),
with levels from 1 instead of 0. Rows of a matrix are levels; "down right" is the offset of one row and one column.
"""

from fractions import Fraction

import numpy as np
import pytest

from kacl_gpu import RadiomicsSettings, feature_names
from reference.check import our_matrices, ours
from reference.regions import Region

HARALICK = np.array(
    [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [1, 3, 3, 3],
        [3, 3, 4, 4],
    ],
    np.uint8,
)

# Level 1 touches itself over corners, and the pixel at the lower left stands alone.
CORNERS = np.array(
    [
        [1, 2, 1, 3],
        [2, 1, 3, 3],
        [2, 2, 1, 1],
        [1, 3, 3, 1],
    ],
    np.uint8,
)


def region(image: np.ndarray) -> Region:
    """Return the whole image as a region; in bins of width 1 its values are its levels."""
    return Region(image, (0, 0, 4, 4), None, None, RadiomicsSettings(bin_width=1), "written by hand")


def features(image: np.ndarray, class_name: str) -> dict[str, float]:
    prefix = f"original_{class_name}_"
    row = zip(feature_names(RadiomicsSettings()), ours(region(image)).tolist(), strict=True)
    return {name.removeprefix(prefix): value for name, value in row if name.startswith(prefix)}


def test_glcm_by_hand() -> None:
    """Count each pair in both directions, as the paper does (its P_H, P_V, P_LD and P_RD)."""
    matrices = our_matrices(region(HARALICK))
    pairs = {
        # Twelve pairs of neighbours in a row: 1-1 twice (4 with their opposites), 1-2 twice, ...
        "glcm 0 1": [[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]],
        "glcm 1 0": [[6, 0, 2, 0], [0, 4, 2, 0], [2, 2, 2, 2], [0, 0, 2, 0]],
        # Nine pairs down right, nine down left
        "glcm 1 1": [[2, 1, 3, 0], [1, 2, 1, 0], [3, 1, 0, 2], [0, 0, 2, 0]],
        "glcm 1 -1": [[4, 1, 0, 0], [1, 2, 2, 0], [0, 2, 4, 1], [0, 0, 1, 0]],
    }
    assert {name for name in matrices if name.startswith("glcm")} == set(pairs)
    for name, expected in pairs.items():
        once = np.zeros((4, 4), np.int64)
        once[:, : matrices[name].shape[1]] = matrices[name]
        assert (once + once.T).tolist() == expected, name


def test_glcm_features_by_hand() -> None:
    glcm = features(HARALICK, "glcm")
    # Contrast of a direction: (i - j)^2 over the pairs above, by their number; then the mean of four directions
    contrast = (
        Fraction(4 * 1 + 2 * 4 + 2 * 1, 24) + Fraction(4 * 4 + 4 * 1 + 4 * 1, 24) + Fraction(32, 18) + Fraction(8, 18)
    ) / 4
    assert glcm["Contrast"] == pytest.approx(float(contrast), rel=1e-12)
    # JointEnergy: squares of the entries by the square of their sum
    energy = (Fraction(16 + 4 + 1 + 4 + 16 + 1 + 36 + 1 + 1 + 4, 576) + Fraction(36 + 4 + 16 + 4 + 4 * 4 + 4, 576)) / 4
    energy += (
        Fraction(4 + 1 + 9 + 1 + 4 + 1 + 9 + 1 + 4 + 4, 324) + Fraction(16 + 1 + 1 + 4 + 4 + 4 + 16 + 1 + 1, 324)
    ) / 4
    assert glcm["JointEnergy"] == pytest.approx(float(energy), rel=1e-12)
    # MaximumProbability: the largest entry of each
    largest = (Fraction(6, 24) + Fraction(6, 24) + Fraction(3, 18) + Fraction(4, 18)) / 4
    assert glcm["MaximumProbability"] == pytest.approx(float(largest), rel=1e-12)


def test_glrlm_by_hand() -> None:
    matrices = our_matrices(region(HARALICK))
    runs = {
        # Columns are lengths 1, 2, 3. In rows: 1 1, 2 2 | 1 1, 2 2 | 1, 3 3 3 | 3 3, 4 4
        "glrlm 0 1": [[1, 2, 0], [0, 2, 0], [0, 1, 1], [0, 1, 0]],
        # In columns: 1 1 1, 3 | 1 1, 3 3 | 2 2, 3, 4 | 2 2, 3, 4
        "glrlm 1 0": [[0, 1, 1], [0, 2, 0], [3, 1, 0], [2, 0, 0]],
        # Down right: 3 | 1, 3 | 1, 3, 4 | 1 1, 3, 4 | 1, 2, 3 | 2 2 | 2
        "glrlm 1 1": [[3, 1], [2, 1], [5, 0], [2, 0]],
        # Down left: 1 | 1 1 | 2, 1 1 | 2 2, 3 3 | 2, 3 3 | 3, 4 | 4
        "glrlm 1 -1": [[1, 2], [2, 1], [1, 2], [2, 0]],
    }
    assert {name: matrix.tolist() for name, matrix in matrices.items() if name.startswith("glrlm")} == runs


def test_glrlm_features_by_hand() -> None:
    glrlm = features(HARALICK, "glrlm")
    # 8, 10, 14 and 11 runs of 16 pixels
    assert glrlm["RunPercentage"] == pytest.approx((8 + 10 + 14 + 11) / 4 / 16, rel=1e-12)
    # LongRunEmphasis: length^2 over the runs, by their number
    emphasis = (
        Fraction(1 + 6 * 4 + 9, 8) + Fraction(5 + 4 * 4 + 9, 10) + Fraction(12 + 2 * 4, 14) + Fraction(6 + 5 * 4, 11)
    ) / 4
    assert glrlm["LongRunEmphasis"] == pytest.approx(float(emphasis), rel=1e-12)


def test_glszm_by_hand() -> None:
    """Pixels of one level that touch at a side or a corner make a zone. Columns are sizes 1, 2, ..."""
    zones = our_matrices(region(HARALICK))["glszm"].tolist()
    assert zones == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]
    zones = our_matrices(region(CORNERS))["glszm"].tolist()
    assert zones == [[1, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0]]


def test_glszm_features_by_hand() -> None:
    glszm = features(CORNERS, "glszm")
    # Zones of 1 and 6, of 4, of 2 and 3 pixels
    assert glszm["ZonePercentage"] == pytest.approx(5 / 16, rel=1e-12)
    assert glszm["LargeAreaEmphasis"] == pytest.approx((1 + 36 + 16 + 4 + 9) / 5, rel=1e-12)
    assert glszm["GrayLevelNonUniformity"] == pytest.approx((2**2 + 1**2 + 2**2) / 5, rel=1e-12)
    assert glszm["ZoneVariance"] == pytest.approx(66 / 5 - (16 / 5) ** 2, rel=1e-12)


def test_ngtdm_by_hand() -> None:
    """Differences between a pixel and the mean of its neighbours (3 at a corner, 5 at a side, else 8), by level."""
    assert our_matrices(region(HARALICK))["ngtdm"].tolist() == [5, 4, 5, 2]  # pixels n_i
    s = [
        Fraction(0)
        + Fraction(2, 5)
        + Fraction(2, 5)
        + Fraction(6, 8)
        + Fraction(6, 5),  # level 1: |1 - 3/3|, |1 - 7/5|, |1 - 7/5|, |1 - 14/8|, |1 - 11/5|
        Fraction(2, 5)
        + Fraction(0)
        + Fraction(1, 8)
        + Fraction(2, 5),  # level 2: |2 - 8/5|, |2 - 6/3|, |2 - 17/8|, |2 - 12/5|
        Fraction(6, 8)
        + Fraction(2, 8)
        + Fraction(0)
        + Fraction(2, 3)
        + Fraction(1, 5),  # level 3: 18/8, 22/8, 15/5, 7/3, 14/5
        Fraction(4, 5) + Fraction(2, 3),  # level 4: 16/5, 10/3
    ]
    n = [Fraction(5), Fraction(4), Fraction(5), Fraction(2)]
    ngtdm = features(HARALICK, "ngtdm")
    p = [number / 16 for number in n]
    assert ngtdm["Coarseness"] == pytest.approx(float(1 / sum(a * b for a, b in zip(p, s, strict=True))), rel=1e-12)
    spread = sum(p[i] * p[j] * (i - j) ** 2 for i in range(4) for j in range(4)) / (4 * 3)
    assert ngtdm["Contrast"] == pytest.approx(float(spread * sum(s) / 16), rel=1e-12)
    differences = sum(abs((i + 1) * p[i] - (j + 1) * p[j]) for i in range(4) for j in range(4))
    weighted = sum(a * b for a, b in zip(p, s, strict=True))
    assert ngtdm["Busyness"] == pytest.approx(float(weighted / differences), rel=1e-12)


def test_gldm_by_hand() -> None:
    """Count for each pixel itself and those of its eight neighbours that have its level. Columns are 1, 2, ..."""
    dependences = our_matrices(region(HARALICK))["gldm"].tolist()
    assert dependences == [
        [0, 0, 1, 2, 2],  # level 1: 4 4 over 5 5 over 3
        [0, 0, 0, 4, 0],  # level 2: 4 4 over 4 4
        [0, 1, 1, 3, 0],  # level 3: 4 4 2 over 3 4
        [0, 2, 0, 0, 0],  # level 4: 2 2
    ]


def test_gldm_features_by_hand() -> None:
    gldm = features(HARALICK, "gldm")
    # Columns add up to 3 of size 2, 2 of size 3, 9 of size 4, 2 of size 5
    emphasis = Fraction(3, 4) + Fraction(2, 9) + Fraction(9, 16) + Fraction(2, 25)
    assert gldm["SmallDependenceEmphasis"] == pytest.approx(float(emphasis / 16), rel=1e-12)
    assert gldm["LargeDependenceEmphasis"] == pytest.approx((3 * 4 + 2 * 9 + 9 * 16 + 2 * 25) / 16, rel=1e-12)
    assert gldm["DependenceNonUniformity"] == pytest.approx((3**2 + 2**2 + 9**2 + 2**2) / 16, rel=1e-12)
