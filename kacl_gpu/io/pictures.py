"""Read grey images and label maps: PNG, JPEG, TIFF, BMP, WebP and other pictures; DICOM through `medical`.

Needs the extra ``io`` (Pillow, and pydicom where there is a DICOM file).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kacl_gpu.errors import ImageError
from kacl_gpu.io.medical import BROKEN, is_dicom, one_channel, read_dicom

Array = NDArray[np.generic]

LOSSLESS_FORMATS = ("PNG", "BMP", "DIB", "GIF", "PPM", "TGA", "PCX", "SGI", "SUN", "XBM")
# TIFF's tag 259: none, CCITT (three), LZW, deflate, PackBits, deflate of old, LZMA, Zstandard
LOSSLESS_TIFF = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)

PACKED = {"L;2": np.uint8(85), "L;4": np.uint8(17)}  # Pillow's factors for grey of two and four bits


def read_image(path: Path) -> tuple[Array, tuple[float, float]]:
    """Read one grey image with the values that SimpleITK, and so PyRadiomics, would give it.

    The content tells what kind of file it is, not the name. Transparency and the orientation tag are ignored; grey
    stored as colour or by a palette is taken; one bit is 0 and 255. DICOM: see `kacl_gpu.io.medical.read_dicom`.

    Args:
        path: picture or DICOM file.

    Returns:
        Pixels (H, W) in the smallest of uint8, int16, float32 and float64 that holds every value exactly, and the
        spacing (y, x) in millimetres, 1 for pictures.

    Raises:
        ImageError: missing, broken, cut off, in colour, or of several frames or pages.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.png")
        >>> Image.new("L", (3, 2), 7).save(path)
        >>> pixels, spacing = read_image(path)
        >>> pixels.tolist(), pixels.dtype.name, spacing
        ([[7, 7, 7], [7, 7, 7]], 'uint8', (1.0, 1.0))
    """
    if is_dicom(path):
        pixels, spacing = read_dicom(path)
    else:
        pixels, spacing = _read_picture(path, label_map=False), (1.0, 1.0)
    return _shrink_dtype(pixels), spacing


def read_mask(path: Path) -> Array:
    """Read one label map: the stored numbers, which for a palette are its indices, for one bit 0 and 1.

    Returns:
        Labels (H, W), uint8 or int32.

    Raises:
        ImageError: missing, broken, cut off, in colour, of several frames or pages, not of whole numbers, or stored
            with a lossy compression (JPEG, lossy WebP, ... in any container), whose noise would become labels.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.png")
        >>> Image.new("1", (3, 2), 1).save(path)
        >>> read_mask(path).tolist()
        [[1, 1, 1], [1, 1, 1]]
    """
    labels = read_dicom(path, label_map=True)[0] if is_dicom(path) else _read_picture(path, label_map=True)
    if labels.dtype in (np.bool_, np.uint8):
        return labels.astype(np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        integers = labels.astype(np.int32)
    if not np.array_equal(integers, labels):
        raise ImageError("not a label map: its values are not whole numbers of 32 bits")
    return integers


def _read_picture(path: Path, *, label_map: bool) -> Array:
    """Return the pixels (H, W) of a picture; of a label map the stored numbers, also those of palettes and bits."""
    try:
        if path.stat().st_size == 0:
            raise ImageError("cannot be read: the file is empty")
        with Image.open(path) as image:
            frames = int(getattr(image, "n_frames", 1))
            if frames > 1:
                raise ImageError(f"{frames} frames or pages in one file ({image.format}): only a single one is read")
            if label_map and (compression := _lossy_compression(image, path)):
                raise ImageError(
                    f"a label map must be stored without loss, and this is {compression}, which changes labels; "
                    "save it as PNG"
                )
            rawmode = _rawmode(image)
            if ";16" in rawmode and image.mode[0] not in "IF":
                # Pillow would keep the high byte and say nothing
                raise ImageError("not a grey image: 16-bit colour, or 16-bit grey with transparency")
            image.load()
            pixels = _grey(image, label_map=label_map)
            if image.format == "TIFF" and image.mode in ("1", "L") and rawmode.endswith(("I", "IR")):
                # Pillow inverts "white is zero", SimpleITK has the stored numbers
                pixels = pixels == 0 if pixels.dtype == np.bool_ else 255 - pixels.astype(np.uint8)
            if label_map and rawmode[:3] in PACKED:
                pixels = np.floor_divide(pixels.astype(np.uint8), PACKED[rawmode[:3]])
            return pixels
    except (ImageError, ImportError):
        raise
    except FileNotFoundError:
        raise ImageError("missing image") from None
    except UnidentifiedImageError:
        raise ImageError("cannot be read: neither DICOM nor a picture of a known format") from None
    except Image.DecompressionBombError:
        raise ImageError("cannot be read: more pixels than Pillow takes for safe") from None
    except OSError as error:  # a decoder's words, or the system's
        raise ImageError(f"cannot be read: {error.strerror or _words(error)}") from error
    except Exception as error:  # what a decoder raises on a broken file is not documented: SyntaxError, struct.error...
        raise ImageError(f"cannot be read: {BROKEN}") from error


def _rawmode(image: Image.Image) -> str:
    """Return how the pixels of an opened picture are stored, in Pillow's words, such as ``RGB;16B``."""
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _lossy_compression(image: Image.Image, path: Path) -> str:
    """Return the name of an opened picture's compression if it is not known to keep every value, else ''."""
    if image.format in LOSSLESS_FORMATS:
        return ""
    if image.format == "TIFF":
        code = int(getattr(image, "tag_v2", {}).get(259, 1))
        return "" if code in LOSSLESS_TIFF else f"TIFF with {image.info.get('compression', f'compression {code}')}"
    if image.format == "WEBP":
        return "" if _is_lossless_webp(path.read_bytes()) else "lossy WebP"
    return str(image.format)


def _is_lossless_webp(data: bytes) -> bool:
    """Return True if the pixels lie in a chunk VP8L; see Google's "WebP Container Specification"."""
    place = 12  # after RIFF, size and WEBP
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        place += 8 + size + size % 2
    return False


def _grey(image: Image.Image, *, label_map: bool) -> Array:
    if not label_map:
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        elif image.mode == "1":
            image = image.convert("L")
    pixels = np.asarray(image)
    if image.mode in ("LA", "PA"):
        return pixels[..., 0]
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return one_channel(pixels[..., :3])
    if pixels.ndim != 2:
        raise ImageError(f"not a grey image: {image.mode}")
    return pixels


def _words(error: Exception) -> str:
    """Return a decoder's own words if they are words."""
    words = " ".join(str(error).split())
    return words if re.fullmatch(r"[\w ,.()/%:-]+", words) and "object" not in words else BROKEN


def _shrink_dtype(pixels: Array) -> Array:
    """Return the same values in the smallest dtype that torch and gpu_radiomics take."""
    if pixels.dtype == np.uint8:
        return pixels
    for dtype in (np.int16, np.float32, np.float64):
        with np.errstate(invalid="ignore", over="ignore"):
            smaller = pixels.astype(dtype)
        if np.array_equal(smaller, pixels):
            return smaller
    return pixels.astype(np.float64)  # not finite: gpu_radiomics says where
