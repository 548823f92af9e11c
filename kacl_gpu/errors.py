"""Errors that the command line turns into one line."""


class InputError(ValueError):
    """Raise where a request cannot be carried out at all; the message says why in one line."""


class OutputError(InputError):
    """Raise where a result cannot be written (full disk, no permission); the message names the file and the reason."""


class ImageError(ValueError):
    """Raise where one image or label map cannot be used; the message is the reason, without the file's name."""
