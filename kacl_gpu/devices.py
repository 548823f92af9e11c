"""The device to compute on, and how many processors there are."""

from __future__ import annotations

import os

import torch

from .errors import InputError


def choose_device(name: str | None) -> torch.device:
    """Return the device of this name; without a name CUDA if there is any, else the CPU.

    Args:
        name: "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: there is no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"the device must be cpu, cuda or cuda:N: {name}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu, cuda or cuda:N: {name}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"no device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def count_processors() -> int:
    """Return the number of processors that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
