"""Operations over all processes of a training run: sums and gathering with gradients, and batch normalisation.

``torch.distributed.nn.functional`` is deprecated from torch 2.15 on, and its successors are private.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def is_distributed() -> bool:
    """Return True if a default process group exists.

    Example:
        >>> is_distributed()
        False
    """
    return dist.is_available() and dist.is_initialized()


class AllReduce(torch.autograd.Function):
    """Sum a tensor over the processes; the gradient is summed too."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient


class AllGather(torch.autograd.Function):
    """Concatenate (B, ...) of each process to (processes * B, ...) by rank; the gradient is summed over processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # A copy, for autograd may still use the tensor that it passed
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)


def synchronise_batchnorm(module: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """Make batch normalisation take its statistics over all processes, so that n of them train as one does.

    On CUDA this is ``nn.SyncBatchNorm.convert_sync_batchnorm``. That refuses tensors of the CPU; there, every
    ``nn.BatchNorm2d`` becomes a :class:`SynchronisedBatchNorm2d`. State dicts have the same keys before and after, and
    without torch.distributed nothing changes.

    Args:
        module: changed in place, unless it is itself a batch normalisation.
        device: device of the training; None: that of the module's first parameter.

    Returns:
        The module.

    Example:
        >>> type(synchronise_batchnorm(nn.Sequential(nn.BatchNorm2d(3)), "cpu")[0]).__name__
        'SynchronisedBatchNorm2d'
    """
    if device is None:
        parameter = next(module.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
    if torch.device(device).type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            # The new class has no state of its own, so parameters and hooks stay
            child.__class__ = SynchronisedBatchNorm2d
    return module


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that, in training, takes mean and variance over the batches of all processes.

    Works on any device, where ``nn.SyncBatchNorm`` needs CUDA. The gradient is that of the sum of the processes'
    losses, as for ``nn.SyncBatchNorm``. All processes must call it together, forward and backward.

    Example:
        >>> SynchronisedBatchNorm2d(3).eval()(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) per channel."""
        if not (self.training and is_distributed() and dist.get_world_size() > 1):
            return super().forward(input)
        self._check_input_dim(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        n = x.new_full((1,), x.numel() // x.shape[1])
        total = AllReduce.apply(torch.cat([x.sum((0, 2, 3)), n]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        # A second pass over the deviations: the mean of the squares less the square of the mean would cancel
        x = x - mean[:, None, None]
        variance = AllReduce.apply(x.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._update(mean.detach(), variance.detach() * count / (count - 1))
        x = x * (variance + self.eps).rsqrt()[:, None, None]
        if self.weight is not None:
            x = x * self.weight[:, None, None]
        if self.bias is not None:
            x = x + self.bias[:, None, None]
        return x.to(input.dtype)

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)
