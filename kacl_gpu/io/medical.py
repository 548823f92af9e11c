"""Read single-frame DICOM files. Needs pydicom, and for some compressions the decoders of the extra ``dicom``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kacl_gpu.errors import ImageError

Array = NDArray[np.generic]

BROKEN = "the file is broken or cut off"  # for what a decoder says only in Python's words

# transfer syntaxes that keep every value, beside the uncompressed ones: RLE, JPEG lossless (two), JPEG-LS lossless,
# JPEG 2000 lossless, HTJ2K lossless (two), JPEG XL lossless
LOSSLESS = frozenset(
    f"1.2.840.10008.1.2.{number}" for number in ("5", "4.57", "4.70", "4.80", "4.90", "4.201", "4.202", "4.110")
)
# without a preamble a file begins with an element of group 8 (or 2): tag, then a VR or a length below 2^16
_BARE = re.compile(rb"[\x02\x08]\x00.\x00(?:[A-Z]{2}|..\x00\x00)|\x00[\x02\x08]\x00.[A-Z]{2}", re.DOTALL)


def is_dicom(path: Path) -> bool:
    """Return True if a file begins as DICOM does, with a preamble or, as in old exports, without.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "IM0001")
        >>> _ = path.write_bytes(bytes(128) + b"DICM")
        >>> is_dicom(path)
        True
    """
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:  # a folder, missing, or not readable
        return False
    return start[128:] == b"DICM" or _BARE.match(start) is not None


def read_dicom(path: Path, *, label_map: bool = False) -> tuple[Array, tuple[float, float]]:
    """Read one grey image as SimpleITK would, or the stored numbers of a label map.

    The values are those after the modality transformation (RescaleSlope and RescaleIntercept, 1 and 0 if missing or
    empty; or its table). MONOCHROME1, where the smallest value is to be shown white, is inverted over the range of its
    BitsStored before that, as SimpleITK does (2.5 tried), so that dense tissue is bright in every radiograph. Palette
    colours are looked up. The window (VOI) is not applied.

    Args:
        path: file with or without a preamble.
        label_map: return the stored numbers, of a palette its indices, and refuse lossy compressions.

    Returns:
        Pixels (H, W) and the spacing (y, x) in millimetres: PixelSpacing, else ImagerPixelSpacing, else 1. (SimpleITK
        does not look at PixelSpacing in CR and DX images, only at ImagerPixelSpacing.)

    Raises:
        ImageError: missing, broken, cut off, in colour, of several frames, without pixels, or compressed in a way that
            needs a decoder which is not installed.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> pixels, spacing = read_dicom(Path(get_testdata_file("CT_small.dcm")))
        >>> pixels.shape, float(pixels.max()), spacing
        ((128, 128), 1167.0, (0.661468, 0.661468))
    """
    import pydicom

    try:
        data = pydicom.dcmread(path, force=True)  # a preamble is not required
        return _read(data, label_map)
    except (ImageError, ImportError):
        raise
    except FileNotFoundError:
        raise ImageError("missing image") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or BROKEN}") from error
    except Exception as error:  # what a decoder raises on a broken file is not documented
        raise ImageError(f"cannot be read: {_words(error)}") from error


def one_channel(pixels: Array) -> Array:
    """Return the grey image (H, W) of one that is stored as colour (H, W, 3).

    Raises:
        ImageError: its channels differ.

    Example:
        >>> one_channel(np.full((1, 2, 3), 5)).tolist()
        [[5, 5]]
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise ImageError("not a grey image: its colour channels differ")
    return red


def _read(data: Any, label_map: bool) -> tuple[Array, tuple[float, float]]:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    if not any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        kind = getattr(data.get("SOPClassUID"), "name", "")
        raise ImageError(f"DICOM without pixels{f': {kind}' if kind else ''}")
    frames = _number(data.get("NumberOfFrames"), "NumberOfFrames", 1)
    if frames > 1:
        raise ImageError(f"multi-frame DICOM ({frames:g} frames): only single-frame images are read")
    _check_compression(data, label_map)
    pixels = data.pixel_array
    if label_map:
        return (one_channel(pixels) if pixels.ndim == 3 else pixels), (1.0, 1.0)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        if "RedPaletteColorLookupTableDescriptor" not in data:
            raise ImageError("palette colours without the palette: the stored numbers are no intensities")
        pixels = apply_color_lut(pixels, data)
    if pixels.ndim == 3:
        pixels = one_channel(pixels)
    if data.PhotometricInterpretation == "MONOCHROME1":
        # lowest + highest value: 2^bits - 1 if unsigned, -1 if signed
        pixels = (-1 if data.PixelRepresentation else 2**data.BitsStored - 1) - pixels.astype(np.int64)
    if data.get("ModalityLUTSequence"):
        return apply_modality_lut(pixels, data), _spacing(data)
    slope = _number(_value(data, "RescaleSlope"), "RescaleSlope", 1) or 1.0  # SimpleITK takes 0 for 1
    intercept = _number(_value(data, "RescaleIntercept"), "RescaleIntercept", 0)
    if (slope, intercept) != (1, 0):
        pixels = pixels.astype(np.float64) * slope + intercept
    return pixels, _spacing(data)


def _check_compression(data: Any, label_map: bool) -> None:
    """Raise if no decoder is installed for the pixels, or if those of a label map have been compressed with loss."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(data, "file_meta"):
        data.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = data.file_meta.TransferSyntaxUID
    if label_map and ((syntax.is_compressed and syntax not in LOSSLESS) or data.get("LossyImageCompression") == "01"):
        raise ImageError(
            "a label map must be stored without loss, and this has been compressed with loss "
            f"({syntax.name}), which changes labels"
        )
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(f"cannot be read: pixels of the transfer syntax {syntax.name}") from None
    if not decoder.is_available:
        raise ImageError(f'{syntax.name} needs a decoder that is not installed: pip install "kacl-gpu[dicom]"')


def _datasets(data: Any) -> Iterator[Any]:
    """Return the places where rescaling and spacing may stand: the file itself, then an enhanced image's groups."""
    yield data
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (data.get(groups) or [])[:1]:
            for name in ("PixelValueTransformationSequence", "PixelMeasuresSequence"):
                yield from (group.get(name) or [])[:1]


def _value(data: Any, name: str) -> Any:
    """Return the first value of an element that is not empty, None if there is none."""
    for dataset in _datasets(data):
        try:
            value = dataset.get(name)
        except (TypeError, ValueError, OverflowError):  # text where DICOM wants a decimal number
            raise ImageError(f"{name} is not a number") from None
        if value not in (None, "") and not (isinstance(value, str) and not value.strip()):
            return value
    return None


def _number(value: Any, name: str, default: float) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ImageError(f"{name} is not a number: {value}") from None
    if not math.isfinite(number):
        raise ImageError(f"{name} is not finite: {value}")
    return number


def _spacing(data: Any) -> tuple[float, float]:
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        value = _value(data, name)
        if value is None or (not isinstance(value, str) and hasattr(value, "__len__") and len(value) == 0):
            continue
        if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
            raise ImageError(f"{name} is not two numbers above 0: {value}")
        y, x = (_number(number, name, 0) for number in value)
        if not (y > 0 and x > 0):
            raise ImageError(f"{name} is not two numbers above 0: {value}")
        return y, x
    return 1.0, 1.0


def _words(error: Exception) -> str:
    """Return pydicom's own words on one line; words of ours for an error of Python's that says nothing to a user."""
    if type(error) in (AttributeError, NotImplementedError, RuntimeError, ValueError) and "object" not in str(error):
        return " ".join(str(error).split()) or BROKEN
    return BROKEN
