"""Grey images and label maps from files: PNG, JPEG and DICOM, in one folder or in the layout of NIH ChestX-ray14.

Needs the extra ``io`` (Pillow, and pydicom where there is a DICOM file).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kacl_gpu.errors import ImageError, InputError

Array = NDArray[np.generic]

PICTURES = (".png", ".jpg", ".jpeg")
DICOM = (".dcm", ".dicom")


def find_images(path: Path) -> dict[str, Path]:
    """Find the images of a folder, sorted by name.

    Looked at are the folder's own files and those of ``images/``, ``images_*/`` and ``images_*/images/`` in it, which
    is how NIH ChestX-ray14 comes. A DICOM file is known by its suffix or, under any other name, by its preamble.

    Args:
        path: folder, or a single image file.

    Returns:
        File name -> path.

    Raises:
        InputError: no such folder, no image in it, or two images of one name.
    """
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise InputError(f"no such file or folder: {path}")
    found: dict[str, Path] = {}
    for folder in (path, path / "images", *sorted(path.glob("images_*")), *sorted(path.glob("images_*/images"))):
        for file in _image_files(folder):
            if file.name in found:
                raise InputError(f"two images of one name: {found[file.name]} and {file}")
            found[file.name] = file
    if not found:
        raise InputError(f"no PNG, JPEG or DICOM image in {path}, {path / 'images'} or {path / 'images_*' / 'images'}")
    return dict(sorted(found.items()))


def find_masks(folder: Path) -> dict[str, Path]:
    """Find the label maps of a folder: stem of the file name -> path.

    Raises:
        InputError: no such folder, no image in it, or two label maps of one stem.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    found: dict[str, Path] = {}
    for file in sorted(_image_files(folder)):
        if file.stem in found:
            raise InputError(f"two label maps of one name: {found[file.stem]} and {file}")
        found[file.stem] = file
    if not found:
        raise InputError(f"no PNG, JPEG or DICOM label map in {folder}")
    return found


def read_image(path: Path) -> tuple[Array, tuple[float, float]]:
    """Read one grey image with the values that SimpleITK, and so PyRadiomics, would give it.

    Transparency and the orientation tag are ignored; grey stored as colour is taken; one bit is 0 and 255. DICOM: the
    values after the modality transformation (RescaleSlope and RescaleIntercept, or its table). MONOCHROME1, where the
    smallest value is to be shown white, is inverted over the range of its BitsStored before that, as SimpleITK does
    (2.5 tried), so that dense tissue is bright in every radiograph. The window (VOI) is not applied.

    Args:
        path: PNG, JPEG or DICOM file.

    Returns:
        Pixels (H, W) in the smallest of uint8, int16, float32 and float64 that holds every value exactly, and the
        spacing (y, x) in millimetres: DICOM's PixelSpacing, else its ImagerPixelSpacing, else 1. (SimpleITK does not
        look at PixelSpacing in CR and DX images, only at ImagerPixelSpacing.)

    Raises:
        ImageError: missing, broken, truncated, in colour, or of several frames.
    """
    if _is_dicom(path):
        pixels, spacing = _read_dicom(path, stored=False)
    else:
        pixels, spacing = _read_picture(path, stored=False), (1.0, 1.0)
    return _smallest(pixels), spacing


def read_mask(path: Path) -> Array:
    """Read one label map: the stored numbers, which for a palette are its indices, for one bit 0 and 1.

    Returns:
        Labels (H, W), uint8 or int32.

    Raises:
        ImageError: missing, broken, truncated, in colour, of several frames, or not of whole numbers.
    """
    labels = _read_dicom(path, stored=True)[0] if _is_dicom(path) else _read_picture(path, stored=True)
    if labels.dtype in (np.bool_, np.uint8):
        return labels.astype(np.uint8)
    whole = labels.astype(np.int32)
    if not np.array_equal(whole, labels):
        raise ImageError("not a label map: its values are not whole numbers of 32 bits")
    return whole


def _image_files(folder: Path) -> Iterator[Path]:
    """The images directly in a folder that may be missing; hidden files are left out."""
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if not file.name.startswith(".") and (file.suffix.lower() in PICTURES or _is_dicom(file)) and file.is_file():
            yield file


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in DICOM:
        return True
    if path.suffix.lower() in PICTURES:
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:  # a folder, or not ours to read
        return False


def _read_picture(path: Path, *, stored: bool) -> Array:
    """Pixels (H, W) of a PNG or JPEG; `stored`: the numbers themselves, of palette and one-bit images too."""
    try:
        with Image.open(path) as image:
            rawmode = str(image.tile[0].args) if image.tile else ""
            if ";16B" in rawmode and image.mode not in ("I;16", "I"):
                # Pillow would keep the high byte and say nothing
                raise ImageError("not a grey image: 16-bit colour, or 16-bit grey with transparency")
            image.load()
            return _grey(image, stored=stored)
    except (ImageError, ImportError):
        raise
    except FileNotFoundError:
        raise ImageError("missing image") from None
    except Exception as error:  # what a decoder raises on a broken file is not documented: SyntaxError, struct.error...
        raise ImageError(f"cannot be read: {_reason(error, path)}") from error


def _grey(image: Image.Image, *, stored: bool) -> Array:
    if image.mode == "P" and not stored:
        image = image.convert("RGB")
    elif image.mode == "1" and not stored:
        image = image.convert("L")
    pixels = np.asarray(image)
    if image.mode == "LA":
        return pixels[..., 0]
    if image.mode in ("RGB", "RGBA"):
        return _one_channel(pixels[..., :3])
    if pixels.ndim != 2:
        raise ImageError(f"not a grey image: {image.mode}")
    return pixels


def _one_channel(pixels: Array) -> Array:
    """Grey stored as colour (H, W, 3) -> (H, W)."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        raise ImageError("not a grey image: its colour channels differ")
    return red


def _read_dicom(path: Path, *, stored: bool) -> tuple[Array, tuple[float, float]]:
    """Pixels (H, W) and spacing (y, x) of a DICOM file; `stored`: the numbers themselves, not what they stand for."""
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut

    try:
        data = pydicom.dcmread(path)
        frames = int(data.get("NumberOfFrames") or 1)
        if frames > 1:
            raise ImageError(f"multi-frame DICOM ({frames} frames): only single-frame images are read")
        pixels = data.pixel_array
        if pixels.ndim == 3:
            pixels = _one_channel(pixels)
        if stored:
            return pixels, (1.0, 1.0)
        if data.PhotometricInterpretation == "MONOCHROME1":
            # lowest + highest value: 2^bits - 1 if unsigned, -1 if signed
            pixels = (-1 if data.PixelRepresentation else 2**data.BitsStored - 1) - pixels.astype(np.int64)
        spacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing") or (1.0, 1.0)
        return apply_modality_lut(pixels, data), (float(spacing[0]), float(spacing[1]))
    except (ImageError, ImportError):
        raise
    except FileNotFoundError:
        raise ImageError("missing image") from None
    except Exception as error:  # see _read_picture
        raise ImageError(f"cannot be read: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path) -> str:
    """The decoder's words on one line, without the path, which the report names anyway."""
    words = " ".join(str(error).replace(f"'{path}'", "").replace(str(path), "").split())
    return words or type(error).__name__


def _smallest(pixels: Array) -> Array:
    """The same values in the smallest dtype that torch and gpu_radiomics take."""
    if pixels.dtype == np.uint8:
        return pixels
    for dtype in (np.int16, np.float32, np.float64):
        with np.errstate(invalid="ignore", over="ignore"):
            smaller = pixels.astype(dtype)
        if np.array_equal(smaller, pixels):
            return smaller
    return pixels.astype(np.float64)  # not finite: gpu_radiomics says where
