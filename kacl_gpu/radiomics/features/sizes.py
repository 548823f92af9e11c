"""The sums that run lengths, zones and dependences share: a matrix of counts by grey level i and size j."""

from typing import NamedTuple

from torch import Tensor

from .spec import central_moments, inner, numbers, squares


class SizeSums(NamedTuple):
    """Each (K, A) float64; sums of counts, not divided by their number n."""

    entropy: Tensor
    small_low: Tensor  # times i^-2 j^-2
    small_high: Tensor  # times i^2 j^-2
    large_low: Tensor  # times i^-2 j^2
    large_high: Tensor  # times i^2 j^2
    n: Tensor
    low: Tensor  # times i^-2
    high: Tensor  # times i^2
    pixels: Tensor  # times j
    small: Tensor  # times j^-2
    large: Tensor  # times j^2
    level_squares: Tensor  # sum over i of (sum over j)^2
    size_squares: Tensor  # sum over j of (sum over i)^2
    level_variance: Tensor
    size_variance: Tensor


def size_sums(by_level: Tensor, by_size: Tensor, sizes: Tensor, joint: Tensor) -> SizeSums:
    """Marginals (K, A, ng) and (K, A, S), the sizes (K or 1, S) they stand for, joint sums (K, A, 5)."""
    i = numbers(1, by_level.shape[-1], by_level)
    j2 = sizes * sizes
    return SizeSums._make([
        *joint.unbind(-1),
        *inner(by_level, i.new_ones(len(i)), 1 / (i * i), i * i),
        *inner(by_size, sizes, 1 / j2, j2),
        squares(by_level),
        squares(by_size),
        central_moments(by_level, i)[1],
        central_moments(by_size, sizes)[1],
    ])  # fmt: skip
