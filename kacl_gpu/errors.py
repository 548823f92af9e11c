"""Errors that the command line turns into one line."""

import re
from typing import Any, get_args


class InputError(ValueError):
    """Raise where a request cannot be carried out at all; the message says why in one line."""


class OutputError(InputError):
    """Raise where a result cannot be written (full disk, no permission); the message names the file and the reason."""


class ImageError(ValueError):
    """Raise where one image or label map cannot be used; the message is the reason, without the file's name."""


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise unless a setting is one of its choices.

    Args:
        name: name of the setting.
        value: its value.
        choices: a ``Literal`` of the values that it can have.

    Raises:
        InputError: it is another one.

    Example:
        >>> from typing import Literal
        >>> check_choice("loss", "hinge", Literal["focal", "cross_entropy"])
        Traceback (most recent call last):
            ...
        kacl_gpu.errors.InputError: loss must be one of focal, cross_entropy, got hinge
    """
    if value not in get_args(choices):
        raise InputError(f"{name} must be one of {', '.join(map(str, get_args(choices)))}, got {value}")


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the message of an error on one line, cut to a length.

    Example:
        >>> one_line(ValueError("two" + chr(10) + "lines"))
        'two lines'
    """
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= limit else f"{words[:limit]} ..."


def plain_words(message: str) -> str:
    r"""Return what a parser of arguments says, in one line and in plain words.

    Args:
        message: words of argparse or jsonargparse.

    Example:
        >>> plain_words('Parser key "data.size": Expected a <class \'int\'>. Got value: large')
        '--data.size: expected int, got large'
    """
    line = " ".join(message.split())
    line = re.sub(r"""Parser key ["']([\w.]+)["']( element \d+)?:""", r"--\1\2:", line)
    line = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", line)
    return re.sub(r"Expected an? (.+?)\. Got value:", r"expected \1, got", line)
