"""Image files that tests write."""

import struct
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image


def pixels(height=40, width=48, seed=0, dtype=np.uint8, high=256):
    """Noise on a slope, so that features differ between regions."""
    noise = np.random.default_rng(seed).integers(0, high // 2, (height, width))
    return (noise + np.linspace(0, high // 2 - 1, width)).astype(dtype)


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)


def png(height, width, bits, colour_type, lines):
    """Return a PNG that Pillow cannot write; `lines` are the packed pixels, each line after a byte of 0."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_of_16_bits(array, colour_type, channels):
    """Grey and alpha (4), colour (2), colour and alpha (6) of 16 bits."""
    lines = b"".join(b"\0" + np.repeat(line, channels).astype(">u2").tobytes() for line in array)
    return png(len(array), len(array[0]), 16, colour_type, lines)


def png_of_4_bits(array):
    """Grey of four bits; an even number of columns."""
    lines = b"".join(b"\0" + (line[::2] << 4 | line[1::2]).astype(np.uint8).tobytes() for line in array)
    return png(len(array), len(array[0]), 4, 0, lines)


def write_dicom(path, array, **elements):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = elements.pop("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2")  # CT
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = array.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * array.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(array.dtype.kind == "i")
    data.PixelData = array.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path)


@contextmanager
def full_disk(size):
    """Let no file of this process grow beyond a size meanwhile, as a full disk would (not pytest's output either)."""
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
