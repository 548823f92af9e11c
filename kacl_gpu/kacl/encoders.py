"""The networks of KACL: encoders of grey images and of radiomic features, and projectors.

Needs the extra ``train`` (torchvision); timm's networks and weights without a network need the extra ``pretrained``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torchvision
from torch import Tensor, nn

from kacl_gpu.errors import InputError, one_line

from .cam import POOLED_LINEAR, check_head_cam
from .checkpoints import check_finite
from .weights import PACKAGED, imagenet_weights, packaged_weights, read_weights

# ImageNet's (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) averaged over the colours: grey has one mean and one
# deviation. Where torchvision would normalise each colour by its own, the input differs by 0.21 at most.
GREY_MEAN = 0.449
GREY_STD = 0.226

# Its input is (x - 127) / 128
PACKAGED_MEAN, PACKAGED_STD = 127 / 255, 128 / 255
HEAD_OF_PACKAGED = 2  # tensors of the classifier, at the end of the file

SIDE = 64  # pixels of the image on which a network is checked

# How the encoder is called in the settings of a checkpoint that was trained with a module of the user's own
OWN_MODULE = "a module of your own"


if TYPE_CHECKING:
    Encoder = str | nn.Module
else:
    Encoder = str  # the command line takes names only


def standardise(images: Tensor, max_value: float = 255.0, *, mean: float = GREY_MEAN, std: float = GREY_STD) -> Tensor:
    """Return raw intensities as a pretrained network takes them: ``(images / max_value - mean) / std``.

    Args:
        images: (B, H, W) or (B, 1, H, W), any integer or floating dtype.
        max_value: intensity of white, above 0. It does not follow from the dtype: an 8-bit image that was augmented
            is a float image of 0 to 255.
        mean: mean of the network's training images, of which white is 1; the default is ImageNet's in grey.
        std: their standard deviation.

    Returns:
        (B, 1, H, W), float32.

    Raises:
        TypeError: the images are bool or complex.
        ValueError: another shape, or max_value is not positive.

    Example:
        >>> standardise(torch.full((1, 2, 2), 255, dtype=torch.uint8))[0, 0, 0]
        tensor([2.4381, 2.4381])
    """
    if images.dtype == torch.bool or images.is_complex():
        raise TypeError(f"images must be integer or floating, got {images.dtype}")
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images must be (B, H, W) or (B, 1, H, W), got {tuple(images.shape)}")
    if not max_value > 0:
        raise ValueError(f"max_value must be positive, got {max_value}")
    return (images.float() / max_value - mean) / std


class ImageEncoder(nn.Module):
    """Encode raw grey images by a network of torchvision or timm up to its global average pooling.

    The first convolution's weights are summed over the colours, so that the output is that of the network for the grey
    image in all three of them. The classifier is dropped. That the network is what Grad-CAM's closed form needs, a
    linear layer on globally average-pooled activations, is checked by running it once, in double precision.

    Args:
        name: a network of ``torchvision.models``; ``timm/NAME``; or, for a name that torchvision does not have, timm's
            NAME alone.
        weights: "imagenet": torchvision's IMAGENET1K_V1 or timm's default weights, downloaded or from the cache, and
            for `PACKAGED` those of the extra ``pretrained``, without a download; a path: a file with a state dict of
            the network, in colour or grey, with or without its classifier, or of this module (see `read_weights` for
            the forms that are known); None: a random initialisation.
        stride: pixels of the image for each pixel of the activations, 32 or 16. 16: the last halving is replaced by
            dilation, which leaves the weights as they are. Without squeeze-and-excitation every second activation
            is that of stride 32.
        last_layer: name of the layer whose output is pooled, as ``layer3`` of resnet18; what comes after it is dropped.
            None: the last one before the pooling.
        last_frozen: name of the last layer that keeps its initial weights and is not trained, nor are those before it.
            None: all are trained.

    Attributes:
        features: the network; its output is pooled, so it is the layer for Grad-CAM.
        channels: C.
        mean, std: of the standardised input, where white is 1.
        max_value: intensity of white in the raw images, 255 unless it is set.

    Raises:
        InputError: an unknown name, a network that does not end in a pooled linear layer or does not have this stride,
            or weights that cannot be downloaded, read or used.

    Example:
        >>> activations, pooled = ImageEncoder("resnet18", stride=16)(torch.zeros(2, 1, 64, 64))
        >>> activations.shape, pooled.shape
        (torch.Size([2, 512, 4, 4]), torch.Size([2, 512]))
    """

    def __init__(
        self,
        name: str = "resnet18",
        weights: str | Path | None = None,
        *,
        stride: Literal[32, 16] = 32,
        last_layer: str | None = None,
        last_frozen: str | None = None,
    ) -> None:
        super().__init__()
        self.frozen: list[str] = []
        if stride not in (32, 16):
            raise InputError(f"stride must be 32 or 16, got {stride}")
        library, short = _library(name)
        self.mean, self.std, self.max_value = GREY_MEAN, GREY_STD, 255.0
        fetched = weights == "imagenet" and library == "timm" and short != PACKAGED
        if library == "timm":
            network = _timm_network(short, stride, pretrained=fetched)
            settings: Any = network.default_cfg
            self.mean, self.std = (sum(settings[key]) / 3 for key in ("mean", "std"))
            if short == PACKAGED:
                self.mean, self.std = PACKAGED_MEAN, PACKAGED_STD
        else:
            network = torchvision.models.get_model(short, weights=None)
        self.features = self._up_to_pooling(network, name)
        if weights is not None and not fetched:
            first = f"{_first_convolution(self.features)[0]}.weight"
            source, state = str(weights), {}
            if weights != "imagenet":
                state = read_weights(Path(weights), first)
            elif short == PACKAGED:
                source, state = packaged_weights()
            else:
                source, state = imagenet_weights(short)
            self._load(state, f"features.{first}", source, name)
        if last_layer is not None:
            self.channels = _end_at(self.features, last_layer, name)
        if stride == 16 and library == "torchvision" and _stride(self.features) == 32:
            _dilate(self.features, name)
        if (own_stride := _stride(self.features)) != stride:
            layer = f" at {last_layer}" if last_layer else ""
            raise InputError(
                f"{name} has stride {own_stride}{layer}, not {stride}: take the other stride, another "
                "encoder or another last_layer"
            )
        if last_frozen is not None:
            self.frozen = [*_siblings(self.features, last_frozen, name)[0], last_frozen]
            for part in self.frozen:
                self.features.get_submodule(part).requires_grad_(False)
            self.train()

    def train(self, mode: bool = True) -> ImageEncoder:
        """Set the mode; frozen layers stay in evaluation mode, so that their statistics do not change either."""
        super().train(mode)
        for part in self.frozen:
            self.features.get_submodule(part).eval()
        return self

    def standardise(self, images: Tensor) -> Tensor:
        """Return raw images as the network takes them, see :func:`standardise`."""
        return standardise(images, self.max_value, mean=self.mean, std=self.std)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            images: (B, 1, H, W) or (B, H, W), raw intensities from 0 to `max_value` of any integer or floating dtype;
                after standardising they have the dtype of the weights.

        Returns:
            The activations (B, C, h, w), h and w being about H and W over the stride, and their mean over the pixels
            (B, C).

        Raises:
            TypeError, ValueError: another dtype or shape.
        """
        activations = self.features(self.standardise(images).to(next(self.parameters()).dtype))
        return activations, activations.mean((2, 3))

    def _up_to_pooling(self, network: nn.Module, name: str) -> nn.Module:
        """Set `channels`; return the network for grey images without its pooling and classifier, both checked."""
        linear = next((part for part in reversed([*network.modules()]) if isinstance(part, nn.Linear)), None)
        if linear is None:
            raise InputError(f"{name} is no encoder for KACL: {POOLED_LINEAR}")
        self.channels = linear.in_features
        pooled: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
        network.eval().double()
        # Not from the global generator, whose later numbers must not depend on this check
        grey = torch.randn((1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        try:
            with torch.no_grad():
                logits = network(grey.expand(-1, 3, -1, -1))
                handle.remove()
                _make_grey(network)
                features = _cut(network, linear)
                activations = features(grey)
                check_head_cam(activations, nn.Identity(), pooled[0])
                check_head_cam(activations, linear, logits)
        except Exception as error:  # whatever a network raises that is built in another way
            reason = "" if isinstance(error, InputError) else f" ({one_line(error)})"
            raise InputError(f"{name} is no encoder for KACL{reason}: {POOLED_LINEAR}") from error
        return features.float().train()

    def _load(self, state: Mapping[str, Tensor], first: str, source: str, name: str) -> None:
        """Load a state dict of the network or of this module; `first` is the weight of the first convolution."""
        check_finite(state, source)
        own = self.state_dict()
        if name.endswith(PACKAGED) and "_conv_stem.weight" in state and len(state) == len(own) + HEAD_OF_PACKAGED:
            # Both list the same layers in the same order
            state = dict(zip((key.removeprefix("features.") for key in own), state.values()))
        loaded: dict[str, Tensor] = {}
        for key, value in state.items():
            key = key.removeprefix("features.")
            if key.startswith(("fc.", "classifier.", "head.")):
                continue
            # The published DenseNets are older than the rule that a module's name has no dot
            key = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key)
            loaded[f"features.{key}"] = value
        if first in loaded and loaded[first].ndim == 4 and loaded[first].shape[1] == 3:
            loaded[first] = _sum_of_colours(loaded[first])
        # Files older than num_batches_tracked lack it, and load_state_dict makes up for that
        missing = [key for key in own if key not in loaded and not key.endswith("num_batches_tracked")]
        unknown = [key for key in loaded if key not in own]
        differing = [key for key in own if key in loaded and own[key].shape != loaded[key].shape]
        kinds = (("missing", missing), ("unknown", unknown), ("of another shape", differing))
        if any(keys for _, keys in kinds):
            words = [f"{len(keys)} tensors {kind} ({keys[0]}, ...)" for kind, keys in kinds if keys]
            raise InputError(f"{source} does not fit {name}: {'; '.join(words)}")
        self.load_state_dict(loaded)


class OwnEncoder(nn.Module):
    """Encode raw grey images by a module of the user's own, checked like a network by name.

    Args:
        module: maps raw images (B, 1, H, W), floating, to activations (B, C, h, w), or to these and their mean over the
            pixels (B, C). It standardises its input itself.

    Attributes:
        features: the module.
        channels: C.

    Raises:
        InputError: the module cannot encode a grey image of 224 x 224, or does not end in average pooling.

    Example:
        >>> activations, pooled = OwnEncoder(nn.Conv2d(1, 4, 3))(torch.zeros(2, 1, 8, 8))
        >>> activations.shape, pooled.shape
        (torch.Size([2, 4, 6, 6]), torch.Size([2, 4]))
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.features = module
        training = [part.training for part in module.modules()]
        module.eval()
        noise = torch.rand((2, 1, 224, 224), generator=torch.Generator().manual_seed(0)) * 255
        try:
            with torch.no_grad():
                activations, pooled = self(noise.to(next(module.parameters(), noise).device))
                check_head_cam(activations, nn.Identity(), pooled)
        except Exception as error:  # whatever the module raises
            reason = "" if isinstance(error, InputError) else f" ({one_line(error)})"
            raise InputError(
                f"the module {type(module).__name__} is no encoder for KACL{reason}: it must map raw grey images "
                f"(B, 1, H, W) to activations (B, C, h, w), which are averaged and classified; {POOLED_LINEAR}"
            ) from error
        finally:
            for part, mode in zip(module.modules(), training):
                part.training = mode
        self.channels: int = activations.shape[1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations of raw images (B, 1, H, W) and their mean over the pixels."""
        parameter = next(self.parameters(), None)
        output = self.features(images.to(torch.float32 if parameter is None else parameter.dtype))
        return output if isinstance(output, tuple) else (output, output.mean((2, 3)))


def make_encoder(
    encoder: str | nn.Module,
    weights: str | Path | None = None,
    stride: Literal[32, 16] = 32,
    last_layer: str | None = None,
    last_frozen: str | None = None,
) -> ImageEncoder | OwnEncoder:
    """Return the encoder that a setting names, or that is made of a module.

    Raises:
        InputError: see :class:`ImageEncoder` and :class:`OwnEncoder`; or the name is that which a checkpoint has of a
            module that it does not hold.

    Example:
        >>> make_encoder(nn.Conv2d(1, 4, 3)).channels, make_encoder("resnet18").channels
        (4, 512)
    """
    if isinstance(encoder, nn.Module):
        return OwnEncoder(encoder)
    if encoder.startswith(OWN_MODULE):
        raise InputError(
            f"the encoder was {encoder}, which a checkpoint does not hold: give it again, as in "
            "KACL.load_from_checkpoint(path, encoder=module)"
        )
    return ImageEncoder(encoder, weights, stride=stride, last_layer=last_layer, last_frozen=last_frozen)


def _library(name: str) -> tuple[str, str]:
    """Return the library of a network, "torchvision" or "timm", and its name there.

    Example:
        >>> _library("resnet18"), _library("timm/resnet18")
        (('torchvision', 'resnet18'), ('timm', 'resnet18'))
    """
    if name in torchvision.models.list_models(module=torchvision.models):
        return "torchvision", name
    short = name.removeprefix("timm/")
    if find_spec("timm") is None:
        raise InputError(
            f"unknown encoder: {name}; torchvision does not have it, and timm is not installed: pip install "
            "'kacl-gpu[pretrained]'"
        )
    import timm

    if not timm.is_model(short):
        close = timm.list_models(f"*{short}*") or torchvision.models.list_models(torchvision.models, f"*{short}*")
        words = f"; did you mean {', '.join(close[:5])}?" if close and short else ""
        raise InputError(f"unknown encoder: {name}; neither torchvision.models nor timm has it{words}")
    return "timm", short


def _timm_network(name: str, stride: int, pretrained: bool) -> nn.Module:
    """Return a network of timm for colour images."""
    import timm

    options: dict[str, Any] = {} if stride == 32 else {"output_stride": stride}
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # timm and its hub raise their own errors, and those of the network's class
        if pretrained:
            raise InputError(
                f"cannot get the weights of timm's {name} ({one_line(error)}): download them where there is a network "
                "and give the path of a file of torch.save as the weights, take tf_efficientnet_lite0 with "
                "'kacl-gpu[pretrained]', which needs none, or begin without weights"
            ) from error
        raise InputError(f"timm cannot build {name} with stride {stride} ({one_line(error)})") from error
    return network


def _cut(network: nn.Module, linear: nn.Module) -> nn.Module:
    """Return a network without its global pooling and what follows, under the names that it has in state dicts."""
    if hasattr(network, "reset_classifier"):  # timm's
        network.reset_classifier(0, "")  # type: ignore[operator]
        return network
    parts = OrderedDict(
        (name, child)
        for name, child in network.named_children()
        if not isinstance(child, nn.AdaptiveAvgPool2d) and all(part is not linear for part in child.modules())
    )
    if len(parts) == 1:
        parts = OrderedDict(next(iter(parts.values())).named_children())
    if isinstance(network, torchvision.models.DenseNet):
        # torchvision applies the last ReLU as a function, outside `features`
        parts["relu5"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


def _stride(features: nn.Module) -> int:
    """Return the pixels of the image for each pixel of the activations."""
    with torch.no_grad():
        side = features.eval()(torch.zeros(1, 1, SIDE, SIDE)).shape[-1]
    features.train()
    return SIDE // int(side)


def _end_at(features: nn.Module, layer: str, name: str) -> int:
    """Replace what comes after a layer of a network by nothing; return the channels of the layer's output."""
    later = _siblings(features, layer, name)[1]
    outputs: list[Tensor] = []
    keep = lambda _, inputs, output: outputs.append(output.clone())  # noqa: E731 - a later layer may write into it
    handle = features.get_submodule(layer).register_forward_hook(keep)
    for part in later:
        parent, _, last = part.rpartition(".")
        setattr(features.get_submodule(parent), last, nn.Identity())
    noise = torch.randn((1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = features.eval()(noise)
    features.train()
    handle.remove()
    if len(outputs) != 1 or not torch.equal(output, outputs[0]):
        raise InputError(f"{name} cannot end at {layer}: its output does not go through the later layers alone")
    return int(output.shape[1])


def _siblings(features: nn.Module, layer: str, name: str) -> tuple[list[str], list[str]]:
    """Return the names of the modules before and after a layer of a network, in and beside all that it is part of."""
    if not layer or layer not in dict(features.named_modules()):
        layers = [part for part, _ in features.named_modules() if part and part.count(".") < 2]
        raise InputError(f"{name} has no layer {layer!r}; it has {', '.join(layers)}")
    before, after = [], []
    path = layer.split(".")
    for depth, step in enumerate(path):
        parent = ".".join(path[:depth])
        children = [child for child, _ in features.get_submodule(parent).named_children()]
        full = [f"{parent}.{child}" if parent else child for child in children]
        before += full[: children.index(step)]
        after += full[children.index(step) + 1 :]
    return before, after


def _first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the name and the module of the convolution that sees the image."""
    return next((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d))


def _make_grey(network: nn.Module) -> None:
    """Make the first convolution one for one channel, its weights summed over the colours."""
    _, convolution = _first_convolution(network)
    convolution.weight = nn.Parameter(_sum_of_colours(convolution.weight.detach()))
    convolution.in_channels = 1


def _sum_of_colours(weight: Tensor) -> Tensor:
    """Return a convolution's weight (C, 3, h, w) for an image that is the same in all colours: (C, 1, h, w)."""
    return weight.double().sum(1, keepdim=True).to(weight.dtype)


def _dilate(features: nn.Module, name: str) -> None:
    """Replace the last halving of the resolution by dilation in what follows (the à trous algorithm)."""
    runs: list[tuple[str, nn.Module, int, int]] = []

    def record(part: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            runs.append((part, module, inputs[0].shape[-1], output.shape[-1]))

        return hook

    kinds = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
    handles = [
        module.register_forward_hook(record(part))
        for part, module in features.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        side = features.eval()(torch.zeros(1, 1, SIDE, SIDE)).shape[-1]
    features.train()
    for handle in handles:
        handle.remove()
    for part, module, side_in, side_out in runs:
        halves = side_in == 2 * side and side_out == side
        if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
            if halves:
                module.stride = (1, 1)
            elif side_in == side_out == side:
                module.dilation = tuple(2 * d for d in module.dilation)
                module.padding = tuple(2 * p for p in module.padding)
        elif halves and isinstance(module, nn.AvgPool2d) and module.kernel_size == module.stride == 2:
            parent, _, last = part.rpartition(".")
            pool = nn.Sequential(nn.ReplicationPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, stride=1))
            setattr(features.get_submodule(parent), last, pool)
        elif halves:
            raise InputError(f"{name} has no stride 16: its last halving is a {type(module).__name__}")


class Projector(nn.Sequential):
    """Project (K, in_features) to (K, out) by a two-layer MLP with ReLU, whose widths the paper does not state.

    Example:
        >>> Projector(512)(torch.zeros(3, 512)).shape
        torch.Size([3, 128])
    """

    def __init__(self, in_features: int, hidden: int = 512, out: int = 128) -> None:
        super().__init__(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out))


class RadiomicEncoder(nn.Sequential):
    """Encode radiomic features (K, in_features) to (K, out) by a three-layer MLP with ReLU.

    The paper does not state the widths. A ReLU follows the last layer too: without it that layer and the projector's
    first would be one linear map, and the image encoder's representation is not negative either.

    Example:
        >>> RadiomicEncoder(103)(torch.zeros(3, 103)).shape
        torch.Size([3, 512])
    """

    def __init__(self, in_features: int, hidden: int = 512, out: int = 512) -> None:
        widths = (in_features, hidden, hidden, out)
        super().__init__(*(layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())))
        self.channels = out
