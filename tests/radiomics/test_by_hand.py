"""Matrices of images of 4 x 4 pixels and of a volume of 2 x 3 x 3 voxels, and features taken from them.

All are small enough to be counted with a pencil.

The first image is the example of Haralick, Shanmugam and Dinstein (Textural Features for Image Classification, 1973),
with levels from 1 instead of 0. Rows of a matrix are levels; "down right" is the offset of one row and one column.
"""

from fractions import Fraction

import numpy as np
import pytest

from kacl_gpu import RadiomicsSettings
from reference.check import names_of, our_matrices, ours
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

# Two slices; the voxels of each level touch one another, but for some across the slices only.
VOLUME = np.array(
    [
        [
            [1, 1, 2],
            [1, 2, 2],
            [3, 3, 2],
        ],
        [
            [1, 2, 2],
            [1, 1, 3],
            [3, 3, 3],
        ],
    ],
    np.uint8,
)


def region(image: np.ndarray, **wanted: object) -> Region:
    """Return the whole image as a region; in bins of width 1 its values are its levels."""
    settings = RadiomicsSettings(bin_width=1, **wanted)
    corners = (*(0,) * image.ndim, *image.shape[::-1])
    return Region(image, corners, None, None, settings, "written by hand")


def features(image: np.ndarray, class_name: str, **wanted: object) -> dict[str, float]:
    prefix, of = f"original_{class_name}_", region(image, **wanted)
    row = zip(names_of(of), ours(of).tolist(), strict=True)
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


# --- a volume


def test_glcm_of_a_volume_by_hand() -> None:
    """Count the pairs of each of 13 directions in one sense: rows are the level at p, columns that at p + offset."""
    symmetric = our_matrices(region(VOLUME))
    once = our_matrices(region(VOLUME, symmetrical_glcm=False))
    pairs = {
        # Within a slice: 12 along each axis, 8 along each diagonal of the two slices together
        "glcm 0 0 1": [[2, 3, 1], [0, 2, 0], [0, 1, 3]],
        "glcm 0 1 0": [[2, 1, 3], [1, 2, 2], [0, 0, 1]],
        "glcm 0 1 1": [[1, 2, 3], [0, 1, 1], [0, 0, 0]],
        "glcm 0 1 -1": [[1, 0, 1], [2, 1, 2], [0, 0, 1]],
        # From one slice to the next: the nine pairs at the same place are 1-1, 1-2, 2-2; 1-1, 2-1, 2-3; 3-3, 3-3, 2-3
        "glcm 1 0 0": [[2, 1, 0], [1, 1, 2], [0, 0, 2]],
        # a row farther down or up, a column farther right or left: six each
        "glcm 1 1 0": [[2, 0, 1], [0, 0, 3], [0, 0, 0]],
        "glcm 1 -1 0": [[1, 0, 0], [0, 2, 1], [2, 0, 0]],
        "glcm 1 0 1": [[1, 2, 0], [0, 0, 1], [0, 0, 2]],
        "glcm 1 0 -1": [[1, 0, 0], [2, 1, 1], [0, 0, 1]],
        # Along the diagonals of space, four each: to the lower right 1-1, 1-3; 1-3, 2-3
        "glcm 1 1 1": [[1, 0, 2], [0, 0, 1], [0, 0, 0]],
        "glcm 1 1 -1": [[1, 0, 0], [1, 0, 2], [0, 0, 0]],
        "glcm 1 -1 1": [[0, 1, 0], [0, 1, 0], [1, 0, 1]],
        "glcm 1 -1 -1": [[0, 0, 0], [2, 1, 0], [1, 0, 0]],
    }
    for matrices in (symmetric, once):  # the sums, not the matrix, add the opposite
        assert {name for name in matrices if name.startswith("glcm")} == set(pairs)
        for name, expected in pairs.items():
            counted = np.zeros((3, 3), np.int64)
            counted[:, : matrices[name].shape[1]] = matrices[name]
            assert counted.tolist() == expected, name


def test_glcm_features_of_a_volume_by_hand() -> None:
    """Contrast: the sum of (i - j)^2 over the pairs above, by their number; then the mean of 13 directions."""
    sums = [(8, 12), (16, 12), (15, 8), (8, 8), (4, 9), (7, 6), (9, 6), (3, 6), (3, 6), (9, 4), (5, 4), (3, 4), (6, 4)]
    expected = sum(Fraction(*of_direction) for of_direction in sums) / 13
    assert features(VOLUME, "glcm")["Contrast"] == pytest.approx(float(expected), rel=1e-12)
    # merged, all directions are one matrix
    merged = Fraction(sum(number for number, _ in sums), sum(number for _, number in sums))
    contrast = features(VOLUME, "glcm", weighting_norm="no_weighting")["Contrast"]
    assert contrast == pytest.approx(float(merged), rel=1e-12)
    # in planes only the first four directions
    in_plane = sum(Fraction(*of_direction) for of_direction in sums[:4]) / 4
    assert features(VOLUME, "glcm", force2d=True)["Contrast"] == pytest.approx(float(in_plane), rel=1e-12)


def test_glrlm_of_a_volume_by_hand() -> None:
    matrices = our_matrices(region(VOLUME))
    runs = {
        # Columns are lengths 1, 2, 3. In rows: 1 1, 2 | 1, 2 2 | 3 3, 2 and 1, 2 2 | 1 1, 3 | 3 3 3
        "glrlm 0 0 1": [[2, 2, 0], [2, 2, 0], [1, 1, 1]],
        # In columns: 1 1, 3 | 1, 2, 3 | 2 2 2 and 1 1, 3 | 2, 1, 3 | 2, 3 3
        "glrlm 0 1 0": [[2, 2, 0], [3, 0, 1], [4, 1, 0]],
        # From slice to slice: 1 1 | 1, 2 | 2 2; 1 1 | 2, 1 | 2, 3; 3 3 | 3 3 | 2, 3
        "glrlm 1 0 0": [[2, 2], [4, 1], [2, 2]],
        # To the lower right behind: 1 1 | 1, 3 | 1, 3 | 2, 3, and ten voxels without a partner
        "glrlm 1 1 1": [[4, 1], [6, 0], [6, 0]],
    }
    for name, expected in runs.items():
        assert matrices[name].tolist() == expected, name
    assert len([name for name in matrices if name.startswith("glrlm")]) == 13


def test_glrlm_features_of_a_volume_by_hand() -> None:
    # Of 18 voxels: runs in a slice, between slices, along the diagonals of space
    numbers = [11, 13, 16, 15, 13, 16, 15, 16, 15, 17, 17, 15, 17]
    percentage = features(VOLUME, "glrlm")["RunPercentage"]
    assert percentage == pytest.approx(sum(numbers) / 13 / 18, rel=1e-12)
    in_plane = features(VOLUME, "glrlm", force2d=True)["RunPercentage"]
    assert in_plane == pytest.approx(sum(numbers[:4]) / 4 / 18, rel=1e-12)


def test_glszm_of_a_volume_by_hand() -> None:
    """In space each level is one zone of six voxels; in planes the zones end at the slice. Columns are sizes."""
    assert our_matrices(region(VOLUME))["glszm"].tolist() == [[0, 0, 0, 0, 0, 1]] * 3
    in_planes = our_matrices(region(VOLUME, force2d=True))["glszm"].tolist()
    # 1 1 / 1 and 1 / 1 1; 2 / 2 2 / 2 and 2 2; 3 3 and 3 / 3 3 3
    assert in_planes == [[0, 0, 2, 0], [0, 1, 0, 1], [0, 1, 0, 1]]
    # in planes from top to bottom, across the rows: rows 1 1 2 over 1 2 2, then 1 2 2 over 1 1 3, then 3 3 2 over 3 3 3
    across_rows = our_matrices(region(VOLUME, force2d=True, force2d_dimension=1))["glszm"].tolist()
    assert across_rows == [[0, 0, 2, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    # three zones of six voxels of 18
    glszm = features(VOLUME, "glszm")
    assert glszm["ZonePercentage"] == pytest.approx(3 / 18, rel=1e-12)
    assert glszm["LargeAreaEmphasis"] == pytest.approx(36, rel=1e-12)
    assert glszm["GrayLevelNonUniformity"] == pytest.approx(1, rel=1e-12)


def test_ngtdm_of_a_volume_by_hand() -> None:
    """Differences between a voxel and the mean of its neighbours: 7 at a corner, 11 at a side, 17 in the middle."""
    assert our_matrices(region(VOLUME))["ngtdm"].tolist() == [6, 6, 6]  # voxels n_i
    neighbours = {  # sum and number, by level
        1: [(9, 7), (18, 11), (21, 11), (9, 7), (21, 11), (35, 17)],
        2: [(13, 7), (34, 17), (24, 11), (17, 7), (17, 11), (13, 7)],
        3: [(14, 7), (24, 11), (23, 11), (14, 7), (24, 11), (16, 7)],
    }
    s = [sum(abs(level - Fraction(*one)) for one in of_level) for level, of_level in neighbours.items()]
    ngtdm = features(VOLUME, "ngtdm")
    assert ngtdm["Coarseness"] == pytest.approx(float(3 / sum(s)), rel=1e-12)  # p = 1/3 for each level
    # p_i p_j (i - j)^2 over all pairs of levels is 12/9; of three levels, six pairs
    assert ngtdm["Contrast"] == pytest.approx(float(Fraction(12, 9) / 6 * sum(s) / 18), rel=1e-12)


def test_gldm_of_a_volume_by_hand() -> None:
    """Count for each voxel itself and those of its 26 neighbours that have its level. Columns are 1, 2, ..."""
    dependences = our_matrices(region(VOLUME))["gldm"].tolist()
    assert dependences == [
        [0, 0, 0, 0, 0, 6],  # level 1: all six lie in a cube of 2 x 2 x 2
        [0, 0, 1, 0, 3, 2],  # level 2: 6 / 6 5 / 3 in the first slice, 5 5 in the second
        [0, 0, 0, 4, 0, 2],  # level 3: 4 6 in the first, 4 / 4 6 4 in the second
    ]
    # in planes: level 1: 3 3 / 3 twice; level 2: 3 / 4 4 / 3, 2 2; level 3: 2 2, 3 / 2 4 3
    in_planes = our_matrices(region(VOLUME, force2d=True))["gldm"].tolist()
    assert in_planes == [[0, 0, 6, 0], [0, 2, 2, 2], [0, 3, 2, 1]]
    gldm = features(VOLUME, "gldm")
    assert gldm["LargeDependenceEmphasis"] == pytest.approx((10 * 36 + 3 * 25 + 4 * 16 + 9) / 18, rel=1e-12)


def test_shape_by_hand() -> None:
    """Two voxels side by side: their mesh joins the middles of 20 edges between them and the outside."""
    pair = np.zeros((1, 1, 2), np.uint8)
    shape = features(pair, "shape", minimum_roi_dimensions=1, feature_class=["shape"])
    # ridges of one voxel: a prism of length 1 with the square cross-section of diagonal 1, and a pyramid at each end
    assert shape["MeshVolume"] == pytest.approx(1 / 2 + 2 * (1 / 2 * 1 / 2 / 3), rel=1e-12)
    slopes, sides = 4 * np.sqrt(1 / 2), 8 * np.sqrt(3) / 8
    assert shape["SurfaceArea"] == pytest.approx(slopes + sides, rel=1e-12)
    assert shape["VoxelVolume"] == 2
    assert shape["Maximum3DDiameter"] == 2
    assert shape["MajorAxisLength"] == pytest.approx(4 * 0.5, rel=1e-12)
    assert shape["MinorAxisLength"] == shape["LeastAxisLength"] == shape["Elongation"] == shape["Flatness"] == 0
