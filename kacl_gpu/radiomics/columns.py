"""The columns of every table that passes between operators, by name; tables are addressed by these names alone.

A table is a named tuple, and a constant holds the number of each of its columns, as ``GLCM.contrast``. Numba reads
these as they stand, kernels as ``tl.constexpr``. In the formulas of a class the same tuple holds the columns
themselves, each a float64 tensor, and the spacing, which is None among the numbers.

>>> ZONE
Zone(level=0, size=1, count=2)
>>> names_of(FirstOrderSums)[-2:], number_of_columns(FIRST_ORDER)
(('entropy', 'level_squares'), 17)
"""

from typing import Any, NamedTuple, TypeAlias

Column: TypeAlias = Any  # the number of a column, or in a formula the column, a tensor


class Box(NamedTuple):
    """Bounding box of a region in voxels of its image, the far edge exclusive: (K, 6) int64."""

    z0: Column
    y0: Column
    x0: Column
    z1: Column
    y1: Column
    x1: Column


class Corners(NamedTuple):
    """Box of a component in pixels of its map, the far edge exclusive: (B, M, 4) float32."""

    x1: Column
    y1: Column
    x2: Column
    y2: Column


class Size(NamedTuple):
    """Extent of a region in voxels: (K, 3) int64."""

    depth: Column
    height: Column
    width: Column


class Offset(NamedTuple):
    """Step to a neighbour in voxels: (A, 3)."""

    z: Column
    y: Column
    x: Column


class Spacing(NamedTuple):
    """Size of a voxel, z = 1 in 2D: (K, 3) or (B, 3) float64."""

    z: Column
    y: Column
    x: Column


class Moments(NamedTuple):
    """Mean and sample standard deviation of a whole image: (B, 2) float64."""

    mean: Column
    deviation: Column


class Zone(NamedTuple):
    """Zones of one level and one size in pixels, and how many they are: (K, T, 3) int32."""

    level: Column
    size: Column
    count: Column


class FirstOrderSums(NamedTuple):
    """Statistics of a region's intensities, and of its grey levels: (K, 17) float64.

    Formulas also see the spacing.
    """

    n: Column  # pixels
    energy: Column  # sum of (x + shift)^2
    minimum: Column
    maximum: Column
    mean: Column
    mad: Column  # mean absolute deviation
    robust_mad: Column  # the same of the pixels from the 10th to the 90th percentile
    m2: Column  # central moments
    m3: Column
    m4: Column
    p10: Column  # percentiles
    p25: Column
    p50: Column
    p75: Column
    p90: Column
    entropy: Column  # of the grey levels
    level_squares: Column  # sum over levels of n_i^2
    spacing_z: Column = None
    spacing_y: Column = None
    spacing_x: Column = None


class Shape2DSums(NamedTuple):
    """Outline of a mask by marching squares, and moments of its pixels: (K, 9) float64.

    Formulas also see the spacing.
    """

    n: Column  # pixels
    vertical: Column  # pieces of outline, one pixel long
    horizontal: Column
    diagonal: Column  # pieces half a pixel's diagonal long
    eight_areas: Column  # eight times the area, in pixels
    diameter: Column  # in units of the spacing
    yy: Column  # n^2 times the covariances of the pixels' indices
    xx: Column
    yx: Column
    spacing_z: Column = None
    spacing_y: Column = None
    spacing_x: Column = None


class ShapeSums(NamedTuple):
    """Surface of a mask by marching cubes, diameters, and axes of its voxels: (K, 10) float64.

    Formulas also see the spacing.
    """

    n: Column  # voxels
    area: Column  # of the surface, in units of the spacing
    volumes: Column  # 48 times the volume inside the surface, in voxels
    diameter: Column  # largest distance of two vertices, in units of the spacing
    diameter_slice: Column  # the same within a plane across z
    diameter_column: Column  # within one across y
    diameter_row: Column  # within one across x
    major: Column  # eigenvalues of the covariance of the voxels' centres, in units of the spacing
    minor: Column
    least: Column
    spacing_z: Column = None
    spacing_y: Column = None
    spacing_x: Column = None


class GlcmSums(NamedTuple):
    """Sums over the pairs of each direction as probabilities p: (K, A, 29) float64.

    x and y are the levels of a pair's two pixels; h are entropies in bits; k = |x - y|, and top the highest level.
    """

    total: Column  # pairs, the only sum that is not divided by them
    energy: Column  # sum of p^2
    hxy: Column
    hxy1: Column
    hxy2: Column
    maximum: Column  # largest p
    covariance: Column
    mcc_square: Column  # square of the maximal correlation coefficient
    hx: Column
    hy: Column
    h_sum: Column  # of x + y
    h_difference: Column  # of k
    mean_x: Column
    mean_y: Column
    variance_x: Column
    variance_y: Column
    sum_mean: Column  # mean and central moments of x + y
    sum_m2: Column
    sum_m3: Column
    sum_m4: Column
    difference_mean: Column  # mean and variance of k
    difference_m2: Column
    contrast: Column  # sum of p k^2
    inverse: Column  # p / (1 + k)
    inverse_square: Column  # p / (1 + k^2)
    inverse_normalised: Column  # p / (1 + k / top)
    inverse_square_normalised: Column  # p / (1 + k^2 / top^2)
    inverse_variance: Column  # p / k^2, k = 0 left out
    flat: Column  # 1 where the whole region has one grey level, else 0


class SizeSums(NamedTuple):
    """Sums over a matrix of counts by grey level i and size j: (K, A, 15) or (K, 15) float64.

    Of runs, zones and dependences; not divided by their number n.
    """

    n: Column
    entropy: Column  # of the counts divided by n
    small_low: Column  # counts times i^-2 j^-2
    small_high: Column  # times i^2 j^-2
    large_low: Column  # times i^-2 j^2
    large_high: Column  # times i^2 j^2
    low: Column  # times i^-2
    high: Column  # times i^2
    pixels: Column  # times j
    small: Column  # times j^-2
    large: Column  # times j^2
    level_squares: Column  # sum over i of (sum over j)^2
    size_squares: Column  # sum over j of (sum over i)^2
    level_variance: Column
    size_variance: Column


class NgtdmSums(NamedTuple):
    """Sums over the n_i pixels and the differences s_i of each level i: (K, 8) float64."""

    n: Column  # pixels
    levels: Column  # how many levels occur
    variance: Column  # of the levels
    s: Column  # sum of s_i
    ns: Column  # sum of n_i s_i
    products: Column  # over pairs of levels that occur, |i n_i - j n_j|
    complexity: Column  # over pairs, |i - j| (n_i s_i + n_j s_j) / (n_i + n_j)
    strength: Column  # over pairs, (n_i + n_j) (i - j)^2


def names_of(table: Any) -> tuple[str, ...]:
    """Return the names of a table's columns, without the spacing that its formulas see beside them."""
    return tuple(name for name in table._fields if name not in table._field_defaults)


def number_of_columns(table: Any) -> int:
    """Return the number of columns of a table."""
    return len(names_of(table))


COUNT = 0  # in every table of sums: pixels, pairs, runs or zones of a direction; 0 if it has none
BOX = Box(*range(6))
CORNERS = Corners(*range(4))
SIZE = Size(*range(3))
OFFSET = Offset(*range(3))
SPACING = Spacing(*range(3))
MOMENTS = Moments(*range(2))
ZONE = Zone(*range(3))
FIRST_ORDER = FirstOrderSums(*range(17))
SHAPE2D = Shape2DSums(*range(9))
SHAPE = ShapeSums(*range(10))
GLCM = GlcmSums(*range(29))
SIZES = SizeSums(*range(15))
NGTDM = NgtdmSums(*range(8))
