"""The sums that run lengths, zones and dependences share: a matrix of counts by grey level i and size j."""

from typing import NamedTuple

from torch import Tensor


class SizeSums(NamedTuple):
    """Each (K, A) float64, the columns of ``ops.size_sums``; sums of counts, not divided by their number n."""

    n: Tensor
    entropy: Tensor
    small_low: Tensor  # times i^-2 j^-2
    small_high: Tensor  # times i^2 j^-2
    large_low: Tensor  # times i^-2 j^2
    large_high: Tensor  # times i^2 j^2
    low: Tensor  # times i^-2
    high: Tensor  # times i^2
    pixels: Tensor  # times j
    small: Tensor  # times j^-2
    large: Tensor  # times j^2
    level_squares: Tensor  # sum over i of (sum over j)^2
    size_squares: Tensor  # sum over j of (sum over i)^2
    level_variance: Tensor
    size_variance: Tensor
