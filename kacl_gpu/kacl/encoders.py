"""The networks of KACL: encoders of grey images and of radiomic features, and projectors.

Needs the extra ``train`` (torchvision).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from kacl_gpu.errors import InputError

from .checkpoints import check_finite, read_tensors

ENCODERS = ("resnet18", "resnet50", "densenet121")

# Names under which training scripts keep a state dict, in the order in which they are looked for
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")

# ImageNet's (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) averaged over the colours: grey has one mean and one
# deviation. Where torchvision would normalise each colour by its own, the input differs by 0.21 at most.
GREY_MEAN = 0.449
GREY_STD = 0.226


def standardise(images: Tensor, max_value: float = 255.0) -> Tensor:
    """Return raw intensities as :class:`ImageEncoder` takes them: ``(images / max_value - GREY_MEAN) / GREY_STD``.

    Args:
        images: (B, H, W) or (B, 1, H, W), any integer or floating dtype.
        max_value: intensity of white, above 0. It does not follow from the dtype: an 8-bit image that was augmented
            is a float image of 0 to 255.

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
    return (images.float() / max_value - GREY_MEAN) / GREY_STD


class ImageEncoder(nn.Module):
    """Encode grey images by a torchvision network up to its global average pooling.

    The first convolution's weights are summed over the colours, so that the output is that of the network for the grey
    image in all three of them. The classifier is dropped.

    Args:
        name: one of `ENCODERS`.
        weights: "imagenet": torchvision's IMAGENET1K_V1, downloaded or from torch's cache; a path: a file with a state
            dict of the torchvision network, in colour or grey, with or without its classifier, or of this module (see
            `read_weights` for the forms that are known); None: torchvision's random initialisation.

    Attributes:
        features: the network; its output is pooled, so it is the layer for Grad-CAM.
        channels: C.

    Raises:
        InputError: an unknown name, or weights that cannot be downloaded, read or used.

    Example:
        >>> activations, pooled = ImageEncoder("resnet18")(torch.zeros(2, 1, 64, 64))
        >>> activations.shape, pooled.shape
        (torch.Size([2, 512, 2, 2]), torch.Size([2, 512]))
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
            if weights == "imagenet":
                source, state = _imagenet(name)
            else:
                source, state = str(weights), read_weights(Path(weights), f"{first}.weight")
            self._load(state, f"{first}.weight", source, name)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            images: (B, 1, H, W), floating, from :func:`standardise`; converted to the dtype of the weights.

        Returns:
            The activations (B, C, h, w), h and w being about H and W over 32, and their mean over the pixels (B, C).

        Raises:
            ValueError: another shape or dtype.
        """
        if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
            raise ValueError(f"images must be floating (B, 1, H, W), got {images.dtype} {tuple(images.shape)}")
        activations = self.features(images.to(next(self.parameters()).dtype))
        return activations, activations.mean((2, 3))

    def _load(self, state: Mapping[str, Tensor], first: str, source: str, name: str) -> None:
        """Load a state dict of torchvision's or of this module; `first` is the weight of the first convolution."""
        check_finite(state, source)
        loaded: dict[str, Tensor] = {}
        for key, value in state.items():
            key = key.removeprefix("features.")
            if key.startswith(("fc.", "classifier.")):
                continue
            # The published DenseNets are older than the rule that a module's name has no dot
            key = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key)
            loaded[f"features.{key}"] = value
        first = f"features.{first}"
        if first in loaded and loaded[first].ndim == 4 and loaded[first].shape[1] == 3:
            loaded[first] = loaded[first].sum(1, keepdim=True)
        own = self.state_dict()
        # Files older than num_batches_tracked lack it, and load_state_dict makes up for that
        missing = [key for key in own if key not in loaded and not key.endswith("num_batches_tracked")]
        unknown = [key for key in loaded if key not in own]
        differing = [key for key in own if key in loaded and own[key].shape != loaded[key].shape]
        kinds = (("missing", missing), ("unknown", unknown), ("of another shape", differing))
        if any(keys for _, keys in kinds):
            words = [f"{len(keys)} tensors {kind} ({keys[0]}, ...)" for kind, keys in kinds if keys]
            raise InputError(f"{source} does not fit {name}: {'; '.join(words)}")
        self.load_state_dict(loaded)


def _grey(convolution: nn.Module) -> nn.Conv2d:
    """Return the convolution for one channel, its weights summed over the colours."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is None
    size, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    grey = nn.Conv2d(1, convolution.out_channels, size, stride, padding, bias=False)  # type: ignore[arg-type]
    grey.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))
    return grey


def _imagenet(name: str) -> tuple[str, Mapping[str, Tensor]]:
    """Return the address of torchvision's ImageNet weights, and their state dict."""
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.url, weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, HTTPException, RuntimeError) as error:
        raise InputError(
            f"cannot get the ImageNet weights of {name} ({error}): download {weights.url} where there is a network "
            "and give the path of that file as the weights, or begin without weights"
        ) from error


def read_weights(path: Path, first: str) -> dict[str, Tensor]:
    """Read the state dict of a network from a file, under the names that the network has alone.

    Reimplementations of CheXNet and training frameworks save more than a state dict, and other names. Known are a state
    dict inside a dictionary (`WRAPPERS`), as in ``{"epoch": 7, "state_dict": ...}``, and a prefix before all names of
    the network, as in ``module.densenet121.features.conv0.weight`` (``module.`` comes from DataParallel); what has
    another prefix, such as a classifier outside the network, is left out.

    Args:
        path: a file that ``torch.save`` wrote.
        first: name of the first convolution's weight in the network, ``conv1.weight`` or ``conv0.weight``.

    Raises:
        InputError: unreadable, without a state dict, or with several networks.
    """
    state = _find_state(read_tensors(path, "file of weights"))
    if state is None:
        known = ", ".join(WRAPPERS)
        raise InputError(f"no state dict (names to tensors) in {path}, nor in it under one of the names {known}")
    prefixes = [key[: -len(first)] for key in state if key == first or key.endswith(f".{first}")]
    # A block's convolution has the same last name as the first one, and more before it
    outermost = [p for p in prefixes if not any(q != p and p.startswith(q) for q in prefixes)]
    outermost = [p for p in outermost if not re.search(r"layer\d|denseblock\d", p)]
    if len(outermost) > 1:
        raise InputError(
            f"{path} holds several networks, under the prefixes {', '.join(outermost)}: save one of them alone"
        )
    if not outermost or not outermost[0]:
        return state
    return {key[len(outermost[0]) :]: value for key, value in state.items() if key.startswith(outermost[0])}


def _find_state(content: object) -> dict[str, Tensor] | None:
    """Return the state dict that a file's content is or holds."""
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return dict(content)
    states = (_find_state(content[name]) for name in WRAPPERS if name in content)
    return next((state for state in states if state is not None), None)


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
