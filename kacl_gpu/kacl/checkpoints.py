"""Files of tensors: reading what torch saved, and checkpoints of ``kacl-gpu fit`` with everything in them checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kacl_gpu.errors import InputError, one_line

SETTINGS_OF_MODEL, SETTINGS_OF_DATA = "hyper_parameters", "datamodule_hyper_parameters"


def read_tensors(path: Path, kind: str) -> Any:
    """Read a file that ``torch.save`` wrote, onto the CPU, without running code in it.

    Args:
        path: the file.
        kind: name of its contents for the messages, such as "checkpoint".

    Raises:
        InputError: missing, empty, cut off, of another kind, or with objects that only code can build.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "weights.pt")
        >>> torch.save({"bias": torch.zeros(2)}, path)
        >>> read_tensors(path, "state dict")
        {'bias': tensor([0., 0.])}
    """
    if not path.is_file():
        raise InputError(f"no such {kind}: {path}")
    if not path.stat().st_size:
        raise InputError(f"cannot read the {kind} {path}: the file is empty")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load does not document what it raises on a broken or unsafe file
        words = str(error)
        if any(
            sign in words for sign in ("Unsupported global", "Unsupported class", "allowed global", "Trying to call")
        ):
            reason = (
                "it holds Python objects besides tensors, and reading those would run code from the file; where you "
                "trust it, load it yourself and save the state dict alone: torch.save(model.state_dict(), FILE)"
            )
        elif "zip archive" in words or "central directory" in words or "EOF" in words or "Ran out of input" in words:
            reason = "it is cut off or damaged: copy or download it again"
        else:
            # not torch's advice to load it in an unsafe way
            detail = "" if "weights_only" in words else f" ({one_line(error)})"
            reason = f"it is not a file of torch.save, or is damaged{detail}"
        raise InputError(f"cannot read the {kind} {path}: {reason}") from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of ``kacl-gpu fit`` and check its parts.

    Returns:
        The checkpoint: ``state_dict``, ``hyper_parameters``, ``datamodule_hyper_parameters``, ``epoch`` (counted from
        0), and more that Lightning keeps there.

    Raises:
        InputError: see `read_tensors`; a part is missing or of another type, or a weight is NaN or infinite.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "last.ckpt")
        >>> torch.save({"state_dict": {}, SETTINGS_OF_MODEL: {"seed": 0}, SETTINGS_OF_DATA: {}, "epoch": 3}, path)
        >>> read_checkpoint(path)["epoch"]
        3
    """
    path = Path(path)
    saved = read_tensors(path, "checkpoint")
    if not isinstance(saved, dict):
        raise InputError(f"not a checkpoint of kacl-gpu fit: {path} holds a {type(saved).__name__}, not a dictionary")
    needed = ("state_dict", SETTINGS_OF_MODEL, SETTINGS_OF_DATA)
    if lacking := [name for name in needed if name not in saved]:
        raise InputError(f"not a checkpoint of kacl-gpu fit: {path} lacks {', '.join(lacking)}")
    for name in needed:
        if not isinstance(saved[name], Mapping) or not all(isinstance(key, str) for key in saved[name]):
            kind = type(saved[name]).__name__
            raise InputError(
                f"not a checkpoint of kacl-gpu fit: {name} in {path} is a {kind}, not a dictionary of names"
            )
    epoch = saved.setdefault("epoch", 0)
    if not isinstance(epoch, int) or epoch < 0:
        raise InputError(f"not a checkpoint of kacl-gpu fit: epoch in {path} is {epoch!r}, not a number of epochs")
    if wrong := [key for key, value in saved["state_dict"].items() if not isinstance(value, Tensor)]:
        raise InputError(f"not a checkpoint of kacl-gpu fit: {wrong[0]} in {path} is no tensor")
    check_finite(saved["state_dict"], str(path))
    return saved


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise InputError if a floating tensor of a state dict has a value that is NaN or infinite.

    Example:
        >>> check_finite({"weight": torch.tensor([1.0, float("nan")])}, "model.pt")
        Traceback (most recent call last):
            ...
        kacl_gpu.errors.InputError: model.pt has NaN or infinite values in 1 tensor (weight): take the weights of an \
earlier epoch, before the training diverged
    """
    wrong = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        number = f"{len(wrong)} tensors ({wrong[0]}, ...)" if len(wrong) > 1 else f"1 tensor ({wrong[0]})"
        remedy = "take the weights of an earlier epoch, before the training diverged"
        raise InputError(f"{source} has NaN or infinite values in {number}: {remedy}")
