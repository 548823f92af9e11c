"""The networks of KACL: what turns a grey image, or a row of radiomic features, into a representation.

Needs the extra ``train`` (torchvision).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch import distributed as dist

from kacl_gpu.errors import InputError

ENCODERS = ("resnet18", "resnet50", "densenet121")

# ImageNet's (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) averaged over the colours: grey has one mean and one
# deviation. Where torchvision would normalise each colour by its own, the input differs by 0.21 at most.
GREY_MEAN = 0.449
GREY_STD = 0.226


def normalise(images: Tensor, max_value: float = 255.0) -> Tensor:
    """Raw intensities -> input of :class:`ImageEncoder`: ``(images / max_value - GREY_MEAN) / GREY_STD``.

    Args:
        images: (B, H, W) or (B, 1, H, W), any integer or floating dtype.
        max_value: the intensity that stands for white. The dtype does not tell: an 8-bit image that was augmented is
            a float image of 0 to 255.

    Returns:
        (B, 1, H, W), float32.

    Raises:
        TypeError: the images are bool or complex.
        ValueError: another shape, or max_value is not positive.
    """
    if images.dtype == torch.bool or images.is_complex():
        raise TypeError(f"images must be integer or floating, got {images.dtype}")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images must be (B, H, W) or (B, 1, H, W), got {tuple(images.shape)}")
    if not max_value > 0:
        raise ValueError(f"max_value must be positive, got {max_value}")
    return (images.float() / max_value - GREY_MEAN) / GREY_STD


class ImageEncoder(nn.Module):
    """A torchvision network up to its global average pooling, for grey images.

    The first convolution's weights are summed over the colours, which gives what the network would give for the grey
    image in all three of them. The classifier is dropped.

    Args:
        name: one of `ENCODERS`.
        weights: "imagenet": torchvision's IMAGENET1K_V1, downloaded or from torch's cache; a path: a state dict of
            the torchvision network, in colour or grey, with or without its classifier, or of this module; None:
            torchvision's random initialisation.

    Attributes:
        features: the network; its output is what is pooled, so it is the layer for Grad-CAM.
        channels: C.

    Raises:
        InputError: an unknown name, or weights that cannot be had, read or used.
    """

    def __init__(self, name: str = "resnet18", weights: str | Path | None = None) -> None:
        super().__init__()
        if name not in ENCODERS:
            raise InputError(f"unknown encoder: {name}; known are {', '.join(ENCODERS)}")
        network = torchvision.models.get_model(name, weights=None)
        layers: OrderedDict[str, nn.Module]
        if name.startswith("densenet"):
            # torchvision applies the last ReLU as a function, outside `features`
            layers = OrderedDict([*network.features.named_children(), ("relu5", nn.ReLU(inplace=True))])
            first = "conv0"
            self.channels: int = network.classifier.in_features
        else:
            layers = OrderedDict(item for item in network.named_children() if item[0] not in ("avgpool", "fc"))
            first = "conv1"
            self.channels = network.fc.in_features
        layers[first] = _grey(layers[first])
        self.features = nn.Sequential(layers)
        if weights is not None:
            source, state = _imagenet(name) if weights == "imagenet" else (str(weights), _read(Path(weights)))
            self._load(state, f"features.{first}.weight", f"{source} does not fit {name}")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            images: (B, 1, H, W), floating, from :func:`normalise`; taken in the dtype of the weights.

        Returns:
            The activations (B, C, h, w), h and w being about H and W over 32, and their mean over the pixels (B, C).

        Raises:
            ValueError: another shape or dtype.
        """
        if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
            raise ValueError(f"images must be floating (B, 1, H, W), got {images.dtype} {tuple(images.shape)}")
        activations = self.features(images.to(next(self.parameters()).dtype))
        return activations, activations.mean((2, 3))

    def _load(self, state: Mapping[str, Tensor], first: str, problem: str) -> None:
        """Load a state dict of torchvision's or of our own; `first` is the weight of the first convolution."""
        given: dict[str, Tensor] = {}
        for key, value in state.items():
            if key.startswith(("fc.", "classifier.")):
                continue
            # the published DenseNets are older than the rule that a module's name has no dot
            key = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key)
            given[key if key.startswith("features.") else f"features.{key}"] = value
        if first in given and given[first].ndim == 4 and given[first].shape[1] == 3:
            given[first] = given[first].sum(1, keepdim=True)
        own = self.state_dict()
        # which old files lack, and load_state_dict makes up for
        missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
        unknown = [key for key in given if key not in own]
        differing = [key for key in own if key in given and own[key].shape != given[key].shape]
        kinds = (("missing", missing), ("unknown", unknown), ("of another shape", differing))
        if any(keys for _, keys in kinds):
            words = [f"{len(keys)} tensors {kind} ({keys[0]}, ...)" for kind, keys in kinds if keys]
            raise InputError(f"{problem}: {'; '.join(words)}")
        self.load_state_dict(given)


def _grey(convolution: nn.Module) -> nn.Conv2d:
    """The same convolution for one channel, its weights summed over the colours."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is None
    size, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    grey = nn.Conv2d(1, convolution.out_channels, size, stride, padding, bias=False)  # type: ignore[arg-type]
    grey.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))
    return grey


def _imagenet(name: str) -> tuple[str, Mapping[str, Tensor]]:
    """The address of torchvision's ImageNet weights, and their state dict."""
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.url, weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, HTTPException, RuntimeError) as error:  # no network, a broken connection, another hash
        raise InputError(
            f"cannot get the ImageNet weights of {name} ({error}): download {weights.url} where there is a network "
            "and give the path of that file as the weights, or begin without weights"
        ) from error


def _read(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file."""
    if not path.is_file():
        raise InputError(f"no such file of weights: {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch.load raises on a broken or unsafe file is not documented
        raise InputError(f"cannot read the weights in {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"no state dict (names to tensors) in {path}")
    return state


class Projector(nn.Sequential):
    """Two-layer MLP with ReLU: (K, in_features) -> (K, out). The paper does not state the widths."""

    def __init__(self, in_features: int, hidden: int = 512, out: int = 128) -> None:
        super().__init__(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out))


class RadiomicEncoder(nn.Sequential):
    """Three-layer MLP with ReLU: (K, in_features) -> (K, out). The paper does not state the widths.

    A ReLU follows the last layer too: without it that layer and the projector's first would be one linear map, and the
    image encoder's representation is not negative either.
    """

    def __init__(self, in_features: int, hidden: int = 512, out: int = 512) -> None:
        widths = (in_features, hidden, hidden, out)
        super().__init__(*(layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())))
        self.channels = out


class FeatureNormaliser(nn.Module):
    """Radiomic features -> input of :class:`RadiomicEncoder`: (K, F) -> (K, F + 1).

    Radiomic features span 1e-8 to 1e9, with long tails, so the logarithm ``sign(x) log1p(|x|)`` comes first. It is then
    standardised by running statistics, and not by those of the batch: the row of a region must not depend on its
    neighbours. Training updates the statistics before it uses them, so that training and evaluation apply one map, from
    the first batch on. They are kept in float64 as count, mean and sum of squared deviations of each feature and merged
    by the pairwise formula of Chan, Golub and LeVeque (1983), over the ranks too where torch.distributed is
    initialised: every rank then has to call this together. The boxes that the features come from drift while the
    network learns: `horizon` caps the count, so that older regions fade.

    A value that is not finite becomes 0, the mean. gpu_radiomics gives NaN for whole rows (regions that cannot be
    computed), so one last column, the share of such values in the row, tells as much as an indicator a value would.
    A feature that is constant but for rounding becomes 0, and nothing exceeds `limit`, so that no degenerate feature
    dominates. Nothing waits for the host. No gradient flows through.

    Args:
        in_features: F.
        horizon: regions that the statistics remember; 10,000 are some 150 batches.
        limit: bound of the standardised values.

    Raises:
        ValueError: in_features below 1, or horizon or limit not positive.
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
        """Follows the module to another device, but not to another dtype: the statistics would be rounded."""
        for name in ("count", "mean", "squares"):
            buffer = getattr(self, name)
            setattr(self, name, buffer.to(fn(buffer.new_empty(0)).device))
        return self

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Normalise, and in training mode learn from these features first.

        Args:
            features: (K, F), floating; K may be 0.

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
        # Relative to the mean: a float32 feature that never changes still differs in its last bits. On chest X-rays
        # the feature that varies least (Idmn) has 1e-3.
        varies = deviation > 1e-6 * self.mean.abs() + 1e-12
        z = ((x - self.mean) / torch.where(varies, deviation, 1)).clamp(-self.limit, self.limit)
        z = torch.where(valid & varies, z, 0)
        return torch.cat([z, 1 - valid.double().mean(1, keepdim=True)], 1).to(features.dtype)

    def _update(self, x: Tensor, valid: Tensor) -> None:
        count = valid.sum(0).double()
        mean = torch.where(valid, x, 0).sum(0) / count.clamp(min=1)
        squares = torch.where(valid, x - mean, 0).square().sum(0)
        parts = [torch.stack([count, mean, squares])]
        if dist.is_available() and dist.is_initialized():
            gathered = [torch.empty_like(parts[0]) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, parts[0])
            parts = gathered
        # the ranks in their order: all come to the same numbers, to the bit
        counts, means, all_squares = torch.stack([torch.stack([self.count, self.mean, self.squares]), *parts]).unbind(1)
        count = counts.sum(0)
        mean = (counts * means).sum(0) / count.clamp(min=1)
        squares = (all_squares + counts * (means - mean).square()).sum(0)
        kept = count.clamp(max=self.horizon)
        self.count.copy_(kept)
        self.mean.copy_(mean)
        self.squares.copy_(squares * kept / count.clamp(min=1))


def synchronise_batchnorm(module: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """Make batch normalisation take its statistics over all processes, so that n of them train as one does.

    On CUDA this is ``nn.SyncBatchNorm.convert_sync_batchnorm``. That refuses tensors of the CPU; there, every
    ``nn.BatchNorm2d`` becomes a :class:`SynchronisedBatchNorm2d`. State dicts have the same keys before and after, and
    without torch.distributed nothing changes.

    Args:
        module: changed in place, unless it is itself a batch normalisation.
        device: where it will train; None: where its first parameter is.

    Returns:
        The module.
    """
    if device is None:
        parameter = next(module.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
    if torch.device(device).type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SynchronisedBatchNorm2d  # which has no state of its own: parameters and hooks stay
    return module


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that, in training, takes mean and variance over the batches of all processes, on any device.

    The gradient is that of the sum of the processes' losses, as for ``nn.SyncBatchNorm``. All processes must call it
    together, forward and backward.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        self._check_input_dim(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        n = x.new_full((1,), x.numel() // x.shape[1])
        total = _AllReduce.apply(torch.cat([x.sum((0, 2, 3)), n]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        # a second pass over the deviations: the mean of the squares less the square of the mean would cancel
        x = x - mean[:, None, None]
        variance = _AllReduce.apply(x.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        x = x * (variance + self.eps).rsqrt()[:, None, None]
        if self.weight is not None:
            x = x * self.weight[:, None, None]
        if self.bias is not None:
            x = x + self.bias[:, None, None]
        return x.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class _AllReduce(torch.autograd.Function):
    """Sum over the processes. (That of torch.distributed.nn is deprecated from torch 2.15 on.)"""

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
