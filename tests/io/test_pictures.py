"""Grey images and label maps from pictures of every kind."""

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="the extra io is not installed")

from kacl_gpu.errors import ImageError
from kacl_gpu.io.pictures import read_image, read_mask
from tests.io.files import pixels, png_of_4_bits, png_of_16_bits, save


def test_grey_in_every_kind_of_picture(tmp_path):
    grey = pixels()
    alpha = pixels(seed=1)
    save(tmp_path / "l.png", grey)
    save(tmp_path / "rgb.png", np.stack([grey] * 3, -1))
    save(tmp_path / "rgba.png", np.stack([grey, grey, grey, alpha], -1))
    save(tmp_path / "la.png", np.stack([grey, alpha], -1))
    palette = Image.fromarray(grey).convert("P")  # Pillow's grey palette; its order is turned round below
    palette.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    palette.putdata((255 - grey).ravel().tolist())
    palette.save(tmp_path / "p.png")
    for name in ("l", "rgb", "rgba", "la", "p"):
        read, spacing = read_image(tmp_path / f"{name}.png")
        assert read.dtype == np.uint8
        assert spacing == (1.0, 1.0)
        np.testing.assert_array_equal(read, grey, name)
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png"), 255 - grey)

    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bit.png")[0], np.where(grey > 100, 255, 0))
    np.testing.assert_array_equal(read_mask(tmp_path / "bit.png"), grey > 100)

    for high, dtype in ((30000, np.int16), (65536, np.float32)):
        image = pixels(dtype=np.uint16, high=high)
        save(tmp_path / "deep.png", image)
        read, _ = read_image(tmp_path / "deep.png")
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, image)

    save(tmp_path / "grey.jpg", np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.jpg")[0], np.asarray(Image.open(tmp_path / "grey.jpg"))[..., 0]
    )


def test_colour_is_refused(tmp_path):
    save(tmp_path / "rgb.png", np.stack([pixels(), pixels(), pixels(seed=1)], -1))
    Image.fromarray(pixels()).convert("CMYK").save(tmp_path / "cmyk.jpg")
    for colour_type, channels in ((2, 3), (4, 2), (6, 4)):
        array = pixels(dtype=np.uint16, high=60000)
        (tmp_path / f"deep{colour_type}.png").write_bytes(png_of_16_bits(array, colour_type, channels))
    for file, words in {
        "rgb.png": "its colour channels differ",
        "cmyk.jpg": "CMYK",
        "deep2.png": "16-bit",
        "deep4.png": "16-bit",
        "deep6.png": "16-bit",
    }.items():
        with pytest.raises(ImageError, match=f"not a grey image: .*{words}"):
            read_image(tmp_path / file)


LABELS = np.zeros((40, 48), np.uint8)
LABELS[10:30, 8:40] = 255
FRAMES = {
    "a.png": {},
    "a.apng": {"format": "PNG"},
    "a.gif": {},
    "a.tif": {},
    "a.webp": {"lossless": True},
    "a.jpg": {"format": "MPO"},
    "picture": {"format": "PNG"},
    "tiff_named.png": {"format": "TIFF"},
    "gif_named.dcm": {"format": "GIF"},
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_several_frames_are_refused_whatever_the_name(tmp_path, name, read):
    first, second = Image.fromarray(pixels()), Image.fromarray(255 - pixels())
    first.save(tmp_path / name, save_all=True, append_images=[second], **FRAMES[name])
    with pytest.raises(ImageError, match="2 frames or pages in one file"):
        read(tmp_path / name)


LOSSLESS = {
    "a.png": {},
    "a.bmp": {},
    "a.gif": {},
    "a.tga": {},
    "a.pgm": {},
    "a.webp": {"lossless": True, "exact": True},
    "raw.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "deflate.tif": {"compression": "tiff_adobe_deflate"},
    "packbits.tif": {"compression": "packbits"},
    "webp_named.jpg": {"format": "WEBP", "lossless": True},
    "png_named.jpg": {"format": "PNG"},
}
LOSSY = {
    "a.jpg": {"quality": 75},
    "best.jpg": {"quality": 100},
    "a.webp": {"quality": 90},
    "jpeg.tif": {"compression": "jpeg"},
    "jpeg_named.png": {"format": "JPEG"},
    "webp_named.png": {"format": "WEBP"},
    "jpeg": {"format": "JPEG"},
    "a.jp2": {"irreversible": True},
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_pictures_without_loss(tmp_path, name):
    Image.fromarray(LABELS).save(tmp_path / name, **LOSSLESS[name])
    np.testing.assert_array_equal(read_image(tmp_path / name)[0], LABELS)
    if not name.endswith("gif"):  # whose labels are indices of a palette
        np.testing.assert_array_equal(read_mask(tmp_path / name), LABELS)


@pytest.mark.parametrize("name", LOSSY)
def test_label_maps_with_loss_are_refused(tmp_path, name):
    Image.fromarray(LABELS).save(tmp_path / name, **LOSSY[name])
    with pytest.raises(ImageError, match=r"a label map must be stored without loss, and this is .*; save it as PNG"):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "jpeg.tif", "jpeg_named.png"])
def test_images_may_be_lossy(tmp_path, name):
    Image.fromarray(LABELS).save(tmp_path / name, **LOSSY[name])
    assert abs(read_image(tmp_path / name)[0].astype(int) - LABELS).max() < 60


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_16_bits_in_tiff(tmp_path, byte_order):
    image = pixels(dtype=np.uint16, high=60000)
    Image.fromarray(image.astype(f"{byte_order}u2")).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], image)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), image)


def test_numbers_of_32_bits_in_tiff(tmp_path):
    real = pixels().astype(np.float32) / 7
    Image.fromarray(real).save(tmp_path / "real.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "real.tif")[0], real)
    for values in (real, np.full((4, 5), np.nan, np.float32), np.full((4, 5), 1e20, np.float32)):
        Image.fromarray(values).save(tmp_path / "real.tif")
        with pytest.raises(ImageError, match="its values are not whole numbers of 32 bits"):
            read_mask(tmp_path / "real.tif")
    integers = np.arange(-3, 17, dtype=np.int32).reshape(4, 5) * 70_000
    Image.fromarray(integers).save(tmp_path / "integers.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "integers.tif"), integers)


def test_label_maps_of_four_bits(tmp_path):
    """Pillow spreads them over 0 to 255; a label map has the stored numbers."""
    four = (pixels() % 16).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png_of_4_bits(four))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), four)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], four * 17)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_])
def test_white_is_zero_in_tiff(tmp_path, dtype):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    tifffile = pytest.importorskip("tifffile")
    values = (pixels() > 100).astype(dtype) if dtype == np.bool_ else pixels().astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), values)
    if dtype != np.bool_:
        read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif")))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], read)


def test_a_coloured_palette_is_refused_as_an_image_and_read_as_labels(tmp_path):
    palette = Image.fromarray(LABELS % 3).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.putdata((LABELS.ravel() % 3).tolist())
    palette.save(tmp_path / "a.png")
    palette.save(tmp_path / "a.gif")
    palette.save(tmp_path / "a.tif")
    for name in ("a.png", "a.gif", "a.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), LABELS % 3)
    palette.putdata(((LABELS > 0) + 1).ravel().tolist())
    for name in ("b.png", "b.gif", "b.tif"):
        palette.save(tmp_path / name)
        with pytest.raises(ImageError, match="not a grey image: its colour channels differ"):
            read_image(tmp_path / name)


INTERNALS = ("Error", "0x", "object", "unpack", "tuple", "NoneType", "dtype", "index out", "b'", "Errno", "Traceback")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp", "a.gif"])
def test_reasons_are_words(tmp_path, name):
    save(tmp_path / name, pixels())
    data = (tmp_path / name).read_bytes()
    generator = np.random.default_rng(0)
    files = [data[:length] for length in (0, 1, 5, 12, 20, 30, 60, len(data) // 2, len(data) - 10)]
    for _ in range(20):
        bytes_ = np.frombuffer(data, np.uint8).copy()
        bytes_[generator.integers(4, min(len(data), 200), 3)] = generator.integers(0, 256, 3)
        files.append(bytes_.tobytes())
    reasons = set()
    for content in files:
        (tmp_path / name).write_bytes(content)
        for read in (read_image, read_mask):
            try:
                read(tmp_path / name)
            except ImageError as error:
                reasons.add(str(error))
    assert "cannot be read: the file is empty" in reasons
    for reason in reasons:
        assert reason and "\n" not in reason
        assert not any(word in reason for word in INTERNALS), reason


def test_what_is_no_picture_and_what_is_missing(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match="cannot be read: neither DICOM nor a picture of a known format"):
            read(tmp_path / "a.nii.gz")
        with pytest.raises(ImageError, match="missing image"):
            read(tmp_path / "b.png")
        with pytest.raises(ImageError, match="cannot be read: Is a directory"):
            read(tmp_path)
