"""Standardisation of radiomic features by running statistics, the same in every process."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch import distributed as dist

from .distributed import is_distributed


class FeatureNormaliser(nn.Module):
    """Standardise radiomic features (K, F) for :class:`~kacl_gpu.kacl.encoders.RadiomicEncoder`: (K, F + 1).

    Radiomic features span 1e-8 to 1e9, with long tails, so the logarithm ``sign(x) log1p(|x|)`` comes first. It is then
    standardised by running statistics, and not by those of the batch: the row of a region must not depend on its
    neighbours. Training updates the statistics before it uses them, so that training and evaluation apply one map, from
    the first batch on. They are kept in float64 as count, mean and sum of squared deviations of each feature and merged
    by the pairwise formula of Chan, Golub and LeVeque (1983), over the ranks too if torch.distributed is
    initialised: every rank then has to call this together. The boxes that the features come from drift while the
    network learns: `horizon` caps the count, so that older regions fade.

    A value that is not finite becomes 0, the mean. gpu_radiomics gives NaN for whole rows (regions that cannot be
    computed), so one last column, the share of such values in the row, tells as much as an indicator per value would.
    A feature that is constant but for rounding becomes 0, and nothing exceeds `limit`, so that no degenerate feature
    dominates. The host never waits for the device. No gradient flows through.

    Args:
        in_features: F, at least 1.
        horizon: number of regions that the statistics remember; 10,000 are some 150 batches.
        limit: bound on the absolute standardised value.

    Raises:
        ValueError: in_features below 1, or horizon or limit not positive.

    Example:
        >>> normaliser = FeatureNormaliser(2)
        >>> normaliser(torch.tensor([[0.0, 5.0], [1.0, 5.0]]))
        tensor([[-1.,  0.,  0.],
                [ 1.,  0.,  0.]])
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, in_features: int, horizon: float = 10_000, limit: float = 10.0) -> None:
        super().__init__()
        if in_features < 1 or not horizon > 0 or not limit > 0:
            raise ValueError(f"not positive: in_features {in_features}, horizon {horizon} or limit {limit}")
        self.in_features = in_features
        self.out_features = in_features + 1
        self.horizon = horizon
        self.limit = limit
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros(in_features, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FeatureNormaliser:
        """Follow the module to another device, but not to another dtype, in which the statistics would be rounded."""
        for name in ("count", "mean", "squares"):
            buffer = getattr(self, name)
            setattr(self, name, buffer.to(fn(buffer.new_empty(0)).device))
        return self

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Standardise features; in training mode, update the statistics with them first.

        Args:
            features: (K, F), floating point; K may be 0.

        Returns:
            (K, F + 1), the dtype of the features.

        Raises:
            ValueError: another shape or dtype.
        """
        if features.ndim != 2 or features.shape[1] != self.in_features or not features.is_floating_point():
            expected = f"floating (K, {self.in_features})"
            raise ValueError(f"features must be {expected}, got {features.dtype} {tuple(features.shape)}")
        valid = features.isfinite()
        x = torch.where(valid, features, 0).double()
        x = x.sign() * x.abs().log1p()
        if self.training:
            self._update(x, valid)
        deviation = (self.squares / self.count.clamp(min=1)).sqrt()
        # Relative to the mean, for a float32 feature that never changes still differs in its last bits. (On chest
        # X-rays the feature that varies least, Idmn, has 1e-3.)
        varies = deviation > 1e-6 * self.mean.abs() + 1e-12
        z = ((x - self.mean) / torch.where(varies, deviation, 1)).clamp(-self.limit, self.limit)
        z = torch.where(valid & varies, z, 0)
        return torch.cat([z, 1 - valid.double().mean(1, keepdim=True)], 1).to(features.dtype)

    def _update(self, x: Tensor, valid: Tensor) -> None:
        """Merge the statistics with those of the valid values of x, over all processes."""
        count = valid.sum(0).double()
        mean = torch.where(valid, x, 0).sum(0) / count.clamp(min=1)
        squares = torch.where(valid, x - mean, 0).square().sum(0)
        batches = [torch.stack([count, mean, squares])]
        if is_distributed():
            gathered = [torch.empty_like(batches[0]) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, batches[0])
            batches = gathered
        # Merged in the order of the ranks, so that all processes have the same bits
        merged = torch.stack([torch.stack([self.count, self.mean, self.squares]), *batches])
        counts, means, all_squares = merged.unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count.clamp(min=1)
        squares = (all_squares + counts * (means - mean).square()).sum(0)
        weight = count.clamp(max=self.horizon)
        self.count.copy_(weight)
        self.mean.copy_(mean)
        self.squares.copy_(squares * weight / count.clamp(min=1))
