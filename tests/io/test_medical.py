"""Grey images and label maps from DICOM files."""

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="the extra io is not installed")
pytest.importorskip("PIL.Image")

from kacl_gpu.errors import ImageError
from kacl_gpu.io.medical import is_dicom
from kacl_gpu.io.pictures import read_image, read_mask
from tests.io.files import pixels, write_dicom

DICOM_CASES: dict[str, tuple[np.ndarray, dict[str, object]]] = {
    "unsigned": (pixels(dtype=np.uint16, high=4096), {}),
    "signed, rescaled": (
        pixels(dtype=np.int16, high=4096) - np.int16(2000),
        {"RescaleSlope": 2, "RescaleIntercept": -1024, "PixelSpacing": [0.2, 0.1]},
    ),
    "fractions": (pixels(dtype=np.uint16, high=4096), {"RescaleSlope": 0.1, "RescaleIntercept": 3}),
    "inverted": (
        pixels(dtype=np.uint16, high=4096),
        {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "RescaleIntercept": 7},
    ),
    "inverted, signed": (pixels(dtype=np.int16) - np.int16(50), {"PhotometricInterpretation": "MONOCHROME1"}),
    "detector spacing": (
        pixels(),
        {"ImagerPixelSpacing": [0.15, 0.16], "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1"},
    ),
}


@pytest.mark.parametrize("case", DICOM_CASES)
def test_dicom_equals_simpleitk(tmp_path, case):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    array, elements = DICOM_CASES[case]
    elements = {"RescaleSlope": 1, "RescaleIntercept": 0, **elements}
    write_dicom(tmp_path / "a.dcm", array, **elements)
    image, spacing = read_image(tmp_path / "a.dcm")
    reference = sitk.ReadImage(str(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image, sitk.GetArrayFromImage(reference)[0])
    assert spacing == reference.GetSpacing()[1::-1]


def change(path, edit):
    """Write a file anew after a change to its data set, without pydicom's checks of the values."""
    data = pydicom.dcmread(path)
    edit(data)
    data.save_as(path)


def set_raw(name, vr, value):
    """Return a change that gives an element these bytes."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    tag = Tag(name)

    def edit(data):
        data[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return edit


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", [None, "", "  "], ids=["missing", "empty", "blank"])
def test_empty_and_missing_rescaling_is_1_and_0(tmp_path, name, value):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    array = pixels(dtype=np.uint16, high=4000)
    elements = {"RescaleSlope": 2, "RescaleIntercept": 5}
    del elements[name]
    write_dicom(tmp_path / "a.dcm", array, **elements)
    if value is not None:
        change(tmp_path / "a.dcm", set_raw(name, "DS", value.encode()))
    expected = array + 5.0 if name == "RescaleSlope" else 2.0 * array
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm")[0], expected)
    if value != "":  # SimpleITK takes only empty values so
        write_dicom(tmp_path / "a.dcm", array, **{"RescaleSlope": 1, "RescaleIntercept": 0, **elements})
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm")))[0], expected)


def test_a_slope_of_0_is_1_as_simpleitk_has_it(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    write_dicom(tmp_path / "a.dcm", pixels(), RescaleSlope=0, RescaleIntercept=3)
    read = read_image(tmp_path / "a.dcm")[0]
    np.testing.assert_array_equal(read, pixels() + 3.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm")))[0], read)


@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagerPixelSpacing"])
@pytest.mark.parametrize("value", [b"abc ", b"1\\2\\3 ", b"nan ", b"inf ", b"1,5 "])
def test_numbers_that_are_none_are_named(tmp_path, name, value):
    write_dicom(tmp_path / "a.dcm", pixels())
    change(tmp_path / "a.dcm", set_raw(name, "DS", value))
    with pytest.raises(ImageError, match=f"^{name} is not "):
        read_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("value", [b"0\\0 ", b"-1\\1", b"0.5 "])
def test_a_spacing_that_is_none_is_named(tmp_path, value):
    write_dicom(tmp_path / "a.dcm", pixels())
    change(tmp_path / "a.dcm", set_raw("PixelSpacing", "DS", value))
    with pytest.raises(ImageError, match="PixelSpacing is not two numbers above 0"):
        read_image(tmp_path / "a.dcm")


def test_an_empty_spacing_is_passed_over(tmp_path):
    write_dicom(tmp_path / "a.dcm", pixels(), ImagerPixelSpacing=[0.3, 0.2])
    change(tmp_path / "a.dcm", set_raw("PixelSpacing", "DS", b""))
    assert read_image(tmp_path / "a.dcm")[1] == (0.3, 0.2)
    write_dicom(tmp_path / "a.dcm", pixels())
    change(tmp_path / "a.dcm", set_raw("PixelSpacing", "DS", b""))
    assert read_image(tmp_path / "a.dcm")[1] == (1.0, 1.0)


def test_rescaling_and_spacing_in_the_groups_of_an_enhanced_image(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    values, measures, group = Dataset(), Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", "-1024", "HU"
    measures.PixelSpacing = [0.5, 0.25]
    group.PixelValueTransformationSequence = Sequence([values])
    group.PixelMeasuresSequence = Sequence([measures])
    write_dicom(tmp_path / "a.dcm", pixels(), NumberOfFrames=1, SharedFunctionalGroupsSequence=Sequence([group]))
    read, spacing = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read, 2.0 * pixels() - 1024)
    assert spacing == (0.5, 0.25)


def palette(red, green, blue, bits=16):
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in (("Red", red), ("Green", green), ("Blue", blue)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{name}PaletteColorLookupTableData"] = table.astype(np.uint16 if bits == 16 else np.uint8).tobytes()
    return elements


def test_palettes(tmp_path):
    ramp = np.arange(256)[::-1] * 257
    write_dicom(tmp_path / "grey.dcm", pixels(), **palette(ramp, ramp, ramp))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.dcm")[0], (255 - pixels().astype(int)) * 257)
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.dcm"), pixels())  # a label map's indices are its labels
    write_dicom(tmp_path / "grey.dcm", pixels(), **palette(ramp % 256, ramp % 256, ramp % 256, bits=8))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.dcm")[0], 255 - pixels())
    write_dicom(tmp_path / "colour.dcm", pixels(), **palette(ramp, np.roll(ramp, 80), ramp))
    with pytest.raises(ImageError, match="not a grey image: its colour channels differ"):
        read_image(tmp_path / "colour.dcm")
    write_dicom(tmp_path / "none.dcm", pixels(), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(ImageError, match="palette colours without the palette"):
        read_image(tmp_path / "none.dcm")


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_without_preamble_and_suffix(tmp_path, implicit, little):
    array = pixels(dtype=np.uint16, high=4000)
    write_dicom(tmp_path / "a.dcm", array)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    bare = pydicom.dataset.Dataset()
    for element in data:
        bare.add(element)
    bare["PixelData"].VR = "OW"
    if not little:
        bare.PixelData = array.astype(">u2").tobytes()
    pydicom.dcmwrite(tmp_path / "IM0001", bare, implicit_vr=implicit, little_endian=little)
    assert b"DICM" not in (tmp_path / "IM0001").read_bytes()[:200]
    assert is_dicom(tmp_path / "IM0001")
    np.testing.assert_array_equal(read_image(tmp_path / "IM0001")[0], array)
    np.testing.assert_array_equal(read_mask(tmp_path / "IM0001"), array)


@pytest.mark.parametrize("content", [b"", b"notes\n", b"image,x1\n", b"\x1f\x8b\x08\x00", b"PK\x03\x04", bytes(200)])
def test_other_files_are_no_dicom(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not is_dicom(tmp_path / "a")


def test_what_is_no_image_is_said(tmp_path):
    write_dicom(tmp_path / "a.dcm", pixels(), SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    change(tmp_path / "a.dcm", lambda data: data.pop("PixelData"))
    with pytest.raises(ImageError, match="DICOM without pixels: RT Structure Set Storage"):
        read_image(tmp_path / "a.dcm")
    write_dicom(tmp_path / "b.dcm", np.stack([pixels()] * 3), NumberOfFrames=3)
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match="multi-frame DICOM \\(3 frames\\)"):
            read(tmp_path / "b.dcm")


REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel",
            "PhotometricInterpretation")  # fmt: skip


@pytest.mark.parametrize("name", REQUIRED)
def test_reasons_are_words(tmp_path, name):
    for edit in (lambda data: data.pop(name), lambda data: setattr(data, name, None)):
        write_dicom(tmp_path / "a.dcm", pixels(dtype=np.uint16))
        change(tmp_path / "a.dcm", edit)
        try:
            read_image(tmp_path / "a.dcm")
        except ImageError as error:
            words = ("Error", "NoneType", "object", "tuple", "0x", "subscript", "unsupported operand", "int()")
            assert not any(word in str(error) for word in words), error


def test_label_maps_with_loss_are_refused(tmp_path):
    labels = np.where(pixels() > 100, 255, 0).astype(np.uint8)
    write_dicom(tmp_path / "a.dcm", labels, LossyImageCompression="01")
    with pytest.raises(ImageError, match="a label map must be stored without loss"):
        read_mask(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm")[0], labels)
    write_dicom(tmp_path / "a.dcm", labels)
    change(tmp_path / "a.dcm", lambda data: data.compress(pydicom.uid.RLELossless))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.dcm"), labels)


def test_a_jpeg_in_dicom_is_refused_as_a_label_map(tmp_path):
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    labels = np.where(pixels() > 100, 255, 0).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(labels).save(file, format="JPEG")

    def compress(data):
        data.PixelData = encapsulate([file.getvalue()])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    write_dicom(tmp_path / "a.dcm", labels)
    change(tmp_path / "a.dcm", compress)
    with pytest.raises(ImageError, match=r"a label map must be stored without loss.*JPEG Baseline"):
        read_mask(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm")[0], np.asarray(Image.open(file)))


COMPRESSIONS = {
    "JPEG lossless": ("1.2.840.10008.1.2.4.57", "JPEGLosslessProcess14"),
    "JPEG lossless, first order": ("1.2.840.10008.1.2.4.70", "JPEGLosslessProcess14_1"),
    "JPEG-LS lossless": ("1.2.840.10008.1.2.4.80", "JPEGLSLossless"),
    "JPEG 2000 lossless": ("1.2.840.10008.1.2.4.90", "JPEG2000Lossless"),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_compressions_without_loss(tmp_path, name, dtype):
    gdcm = pytest.importorskip("gdcm", reason="the extra dicom is not installed")
    array = pixels(dtype=dtype, high=256 if dtype == np.uint8 else 4096)
    write_dicom(tmp_path / "a.dcm", array)
    uid, kind = COMPRESSIONS[name]
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(tmp_path / "a.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "b.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "b.dcm").file_meta.TransferSyntaxUID == uid
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm")[0], array)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.dcm"), array)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_missing_decoder_names_the_extra(tmp_path, monkeypatch, name):
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import Decoder

    def compress(data):
        data.PixelData = encapsulate([b"data"])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = COMPRESSIONS[name][0]

    write_dicom(tmp_path / "a.dcm", pixels())
    change(tmp_path / "a.dcm", compress)
    with pytest.raises(ImageError, match=r"cannot be read|needs a decoder"):
        read_image(tmp_path / "a.dcm")  # broken, where there is one
    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(
        ImageError, match=r'JPEG.* needs a decoder that is not installed: pip install "kacl-gpu\[dicom\]"'
    ):
        read_image(tmp_path / "a.dcm")
