"""`kacl-gpu extract`, on images that the tests make and, with KACL_GPU_DATA, on real ones."""

import csv
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics

pd = pytest.importorskip("pandas", reason="the extra io is not installed")
pytest.importorskip("pyarrow")
pytest.importorskip("tqdm")
Image = pytest.importorskip("PIL.Image")

import kacl_gpu.extract.folder as extraction
from kacl_gpu.cli.main import main
from kacl_gpu.io.journal import lock
from kacl_gpu.radiomics.api import compute
from tests.io.files import full_disk, pixels, save, write_dicom

NIH_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
PLACE_COLUMNS = ["image", "label", "x1", "y1", "x2", "y2"]
FEATURES = list(feature_names())


def folder_of(path, count=6, **kwargs):
    """Return a folder of small images; name -> pixels."""
    images = {f"i{k:03d}.png": pixels(seed=k, **kwargs) for k in range(count)}
    for name, array in images.items():
        save(path / name, array)
    return images


def write_csv(path, header, *lines):
    path.write_text("\n".join([header, *(",".join(map(str, line)) for line in lines)]) + "\n")
    return path


def run(*arguments):
    return main(["extract", *map(str, arguments), "--device", "cpu"])


def table_of(path):
    return (
        pd.read_parquet(path)
        if path.suffix == ".parquet"
        else pd.read_csv(path, keep_default_na=False, float_precision="round_trip")
    )


def errors_of(path):
    return pd.read_csv(path.with_name(f"{path.stem}.errors.csv"), keep_default_na=False, float_precision="round_trip")


def row(array, box=None, mask=None, settings=RadiomicsSettings(), spacing=(1.0, 1.0)):
    """Return the features of one region straight from gpu_radiomics, on the array as it is, in float64."""
    height, width = array.shape
    image = torch.from_numpy(array.astype(np.float64))[None]
    boxes = torch.tensor([box or (0, 0, width, height)], dtype=torch.float64)
    masks = None if mask is None else torch.from_numpy(mask.astype(np.int32))[None]
    return gpu_radiomics(image, boxes, masks=masks, settings=settings, spacing=spacing, dtype=torch.float64)[0].numpy()


def assert_row(line, expected):
    np.testing.assert_array_equal(line[FEATURES].to_numpy(dtype=float), expected)


def assert_no_leftovers(out):
    assert [path.name for path in out.parent.glob(f"{out.name}.*")] == []


# --- what comes out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_whole_images_in_the_order_of_their_names(tmp_path, suffix, capsys):
    images = folder_of(tmp_path / "images")
    out = tmp_path / f"features{suffix}"
    (tmp_path / "features.errors.csv").write_text("of an earlier run\n")
    assert run(tmp_path / "images", "--out", out) == 0
    table = table_of(out)
    assert list(table.columns) == PLACE_COLUMNS + FEATURES
    assert list(table["image"]) == sorted(images)
    assert (table[PLACE_COLUMNS[1:]] == ["", 0, 0, 48, 40]).all(axis=None)
    assert (table[FEATURES].dtypes == np.float64).all()
    for _, line in table.iterrows():
        assert_row(line, row(images[line["image"]]))
    assert not (tmp_path / "features.errors.csv").exists()
    assert_no_leftovers(out)
    output = capsys.readouterr()
    assert "6 regions; 6 images in" in output.out
    assert "6/6" in output.err


def test_csv_is_unquoted_and_its_floats_come_back_to_the_bit(tmp_path):
    folder_of(tmp_path / "images", 3)
    for suffix in (".csv", ".parquet"):
        assert run(tmp_path / "images", "--out", tmp_path / f"features{suffix}") == 0
    text = (tmp_path / "features.csv").read_bytes()
    assert b'"' not in text
    assert b"\r" not in text
    assert text.split(b"\n")[0].decode() == ",".join(PLACE_COLUMNS + FEATURES)
    parquet = table_of(tmp_path / "features.parquet")
    pd.testing.assert_frame_equal(table_of(tmp_path / "features.csv"), parquet, check_exact=True, check_dtype=False)


def test_nih_layout_and_boxes_as_they_are(tmp_path):
    images = {f"{k:08d}_000.png": pixels(64, 128, seed=k) for k in range(4)}
    for place, (name, array) in enumerate(images.items()):
        save(tmp_path / "nih" / f"images_{1 + place % 2:03d}" / "images" / name, array)
    second, _, _, first = images
    boxes = write_csv(
        tmp_path / "BBox_List_2017.csv",
        NIH_HEADER,
        (first, "Infiltrate", 100.5, 200.25, 300, 400.125, "", "", ""),
        (second, "Mass", 0, 0, 1024, 1024),
        (first, "Pneumonia", 512, 512, 100, 100),
    )
    out = tmp_path / "features.csv"
    assert run(tmp_path / "nih", "--boxes", boxes, "--out", out) == 0
    table = table_of(out)
    assert list(table["image"]) == [first, second, first]
    assert list(table["label"]) == ["Infiltration", "Mass", "Pneumonia"]
    expected = [(100.5 / 8, 200.25 / 16, 400.5 / 8, 600.375 / 16), (0, 0, 128, 64), (64, 32, 612 / 8, 612 / 16)]
    assert [tuple(line) for line in table[PLACE_COLUMNS[2:]].to_numpy()] == expected
    for (_, line), box in zip(table.iterrows(), expected, strict=True):
        assert_row(line, row(images[line["image"]], box))


def test_plain_boxes_any_column_order_and_quoted_names(tmp_path):
    images = folder_of(tmp_path / "images", 2)
    save(tmp_path / "images" / "a, b.png", images["i000.png"])
    boxes = write_csv(tmp_path / "b.csv", "\ufeffY2,x1,source,y1,x2,image", (30, 3, "me", 4, 20, "i001.png"), ("",))
    with boxes.open("a") as file:
        file.write('31,3,me,4,20,"a, b.png"\n')
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--boxes", boxes, "--out", out) == 0
    table = table_of(out)
    assert table[PLACE_COLUMNS].to_numpy().tolist() == [["i001.png", "", 3, 4, 20, 30], ["a, b.png", "", 3, 4, 20, 31]]
    assert_row(table.loc[0], row(images["i001.png"], (3, 4, 20, 30)))
    assert_row(table.loc[1], row(images["i000.png"], (3, 4, 20, 31)))


def test_folder_that_holds_images_and_single_file(tmp_path):
    images = folder_of(tmp_path / "set" / "images", 2)
    assert run(tmp_path / "set", "--out", tmp_path / "all.csv") == 0
    assert list(table_of(tmp_path / "all.csv")["image"]) == sorted(images)
    assert run(tmp_path / "set" / "images" / "i001.png", "--out", tmp_path / "one.csv") == 0
    one = table_of(tmp_path / "one.csv")
    assert list(one["image"]) == ["i001.png"]
    assert_row(one.loc[0], row(images["i001.png"]))


def test_images_of_many_sizes_and_types_come_out_in_order(tmp_path):
    generator = np.random.default_rng(5)
    images = {}
    for k in range(23):
        height, width = ((20, 30), (30, 20), (25, 25))[generator.integers(3)]
        images[f"i{k:03d}.png"] = pixels(height, width, k, *((np.uint8, 256), (np.uint16, 5000))[k % 2])
    for name, array in images.items():
        save(tmp_path / "images" / name, array)
    order = generator.permutation(list(images))
    boxes = write_csv(tmp_path / "b.csv", "image,x1,y1,x2,y2", *((name, 2, 3, 18.5, 17.5) for name in order))
    out = tmp_path / "features.parquet"
    assert run(tmp_path / "images", "--boxes", boxes, "--out", out, "--batch-size", 3, "--workers", 4) == 0
    table = table_of(out)
    assert list(table["image"]) == list(order)
    for _, line in table.iterrows():
        assert_row(line, row(images[line["image"]], (2, 3, 18.5, 17.5)))


def test_settings_in_pyradiomics_format(tmp_path):
    pytest.importorskip("yaml")
    images = folder_of(tmp_path / "images", 2)
    parameters = tmp_path / "params.yaml"
    parameters.write_text("setting:\n  binCount: 8\nfeatureClass:\n  glcm: [Contrast]\n  firstorder:\n")
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--settings", parameters, "--out", out) == 0
    settings = RadiomicsSettings(bin_count=8, feature_class={"firstorder": None, "glcm": ["Contrast"]})
    names = list(feature_names(settings))
    table = table_of(out)
    assert list(table.columns) == PLACE_COLUMNS + names
    np.testing.assert_array_equal(table.loc[1, names].to_numpy(float), row(images["i001.png"], settings=settings))


# --- files ----------------------------------------------------------------------------------------------------------


def test_dicom_by_hand(tmp_path):
    array = pixels(dtype=np.int16, high=4096)
    spaced = {"RescaleSlope": 2, "RescaleIntercept": -1024, "PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [9, 9]}
    write_dicom(tmp_path / "images" / "scan", array, **spaced)  # known by its preamble, without a suffix
    write_dicom(tmp_path / "images" / "b.dcm", array)
    write_dicom(tmp_path / "images" / "c.dcm", np.stack([array, array]), NumberOfFrames=2)
    (tmp_path / "images" / "d.dcm").write_bytes((tmp_path / "images" / "b.dcm").read_bytes()[:1500])
    (tmp_path / "images" / "e.dcm").write_bytes(b"no DICOM")
    (tmp_path / "images" / "notes.txt").write_text("not an image\n")
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--out", out) == 3
    table = table_of(out)
    assert list(table["image"]) == ["b.dcm", "scan"]
    assert_row(table.loc[0], row(array))
    assert_row(table.loc[1], row(2.0 * array - 1024, spacing=(0.2, 0.1)))
    errors = errors_of(out).set_index("image")["reason"]
    assert list(errors.index) == ["c.dcm", "d.dcm", "e.dcm", "notes.txt"]
    assert errors["c.dcm"] == "multi-frame DICOM (2 frames): only single-frame images are read"
    assert errors["d.dcm"].startswith("cannot be read: ")
    for name in ("e.dcm", "notes.txt"):
        assert errors[name] == "cannot be read: neither DICOM nor a picture of a known format"


def test_two_images_of_one_name(tmp_path, capsys):
    folder_of(tmp_path / "images_001" / "images", 1)
    folder_of(tmp_path / "images_002" / "images", 1)
    assert run(tmp_path, "--out", tmp_path / "features.csv") == 2
    message = capsys.readouterr().err
    for place in ("images_001", "images_002"):
        assert str(tmp_path / place / "images" / "i000.png") in message


# --- masks ----------------------------------------------------------------------------------------------------------


def labels(height=40, width=48):
    """Label 1 an ellipse, 2 a rectangle, 3 nowhere."""
    y, x = np.mgrid[:height, :width]
    mask = (((x - 20) / 12) ** 2 + ((y - 18) / 9) ** 2 < 1).astype(np.uint8)
    mask[30:36, 25:45] = 2
    return mask


def test_masks_alone_and_with_boxes(tmp_path):
    images = folder_of(tmp_path / "images", 3)
    for name in images:
        save(tmp_path / "masks" / name, labels())
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--masks", tmp_path / "masks", "--out", out) == 0
    table = table_of(out)
    ys, xs = np.nonzero(labels() == 1)
    assert (table[PLACE_COLUMNS[1:]] == [1, xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).all(axis=None)
    for _, line in table.iterrows():
        assert_row(line, row(images[line["image"]], mask=labels()))

    boxes = write_csv(tmp_path / "b.csv", "image,x1,y1,x2,y2,label", ("i001.png", 5, 5, 20, 20, "left"))
    assert run(tmp_path / "images", "--masks", tmp_path / "masks", "--boxes", boxes, "--out", out) == 0
    table = table_of(out)
    assert table[PLACE_COLUMNS].to_numpy().tolist() == [["i001.png", "left", 5, 5, 20, 20]]
    assert_row(table.loc[0], row(images["i001.png"], (5, 5, 20, 20), labels()))


def test_label_of_the_settings_and_what_is_wrong_with_masks(tmp_path):
    images = folder_of(tmp_path / "images", 6)
    masks = tmp_path / "masks"
    save(masks / "i000.png", labels())
    save(masks / "i001.png", labels()[:-1])
    save(masks / "i002.png", np.minimum(labels(), 1))
    (masks / "i004.png").write_bytes(b"nothing")
    save(masks / "i005.png", np.stack([labels(), labels(), 0 * labels()], -1))
    parameters = tmp_path / "params.json"
    parameters.write_text('{"setting": {"label": 2}}')
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--masks", masks, "--settings", parameters, "--out", out) == 3
    table = table_of(out)
    assert table[PLACE_COLUMNS].to_numpy().tolist() == [["i000.png", 2, 25, 30, 45, 36]]
    assert_row(table.loc[0], row(images["i000.png"], mask=labels(), settings=RadiomicsSettings(label=2)))
    reasons = errors_of(out).set_index("image")["reason"]
    assert list(reasons.index) == ["i001.png", "i002.png", "i003.png", "i004.png", "i005.png"]
    assert reasons["i001.png"] == "mask: 39 x 48 pixels for an image of 40 x 48"
    assert reasons["i002.png"] == "label 2 is not in the mask, which has 1"
    assert reasons["i003.png"].startswith("mask: missing: there are i00")
    assert reasons["i004.png"].startswith("mask: cannot be read: ")
    assert reasons["i005.png"] == "mask: not a grey image: its colour channels differ"


# --- what is wrong with single regions ------------------------------------------------------------------------------


def test_bad_regions_are_listed_and_the_rest_goes_on(tmp_path, capsys):
    images = folder_of(tmp_path / "images", 5)
    data = (tmp_path / "images" / "i001.png").read_bytes()
    (tmp_path / "images" / "i001.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "images" / "i002.png").write_bytes(b"")
    box = (4, 4, 20, 20)
    boxes = write_csv(
        tmp_path / "b.csv",
        "image,x1,y1,x2,y2,label",
        ("i000.png", *box, "good"),
        ("i001.png", *box, "truncated"),
        ("i000.png", 48, 4, 60, 20, "outside"),
        ("i002.png", *box, "empty"),
        ("i009.png", *box, "missing"),
        ("i003.png", 20, 4, 4, 20, "inverted"),
        ("i003.png", -5, -5, 20.5, 20, "clipped"),
        ("i003.png", "nan", 4, 20, 20, "nan"),
        ("i004.png", "left", 4, 20, 20, "words"),
        ("i004.png", 4, 4, 20, "", "short"),
        ("i004.png", 4, 4, 5, 5, "pixel"),
        ("i004.png", *box, "last"),
    )
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--boxes", boxes, "--out", out, "--batch-size", 4) == 3
    table = table_of(out)
    assert list(table["label"]) == ["good", "clipped", "last"]
    assert_row(table.loc[0], row(images["i000.png"], box))
    assert_row(table.loc[1], row(images["i003.png"], (-5, -5, 20.5, 20)))
    assert_row(table.loc[2], row(images["i004.png"], box))
    errors = errors_of(out)
    assert list(errors.columns) == [*PLACE_COLUMNS, "reason"]
    reasons = errors.set_index("label")["reason"].to_dict()
    assert list(reasons) == ["truncated", "outside", "empty", "missing", "inverted", "nan", "words", "short", "pixel"]
    assert reasons["truncated"].startswith("cannot be read: ")
    assert reasons["empty"] == "cannot be read: the file is empty"
    assert reasons["missing"].startswith("missing image: there are i00")
    assert reasons["outside"] == "the box lies outside its image of 40 x 48 (height x width)"
    assert reasons["inverted"] == "the box is empty or inverted, expected x2 > x1 and y2 > y1"
    assert reasons["nan"] == "the box is not finite"
    assert reasons["words"] == "the box is not four numbers: left, 4, 20, 20"
    assert reasons["short"] == "the box is not four numbers: 4, 4, 20, "
    assert reasons["pixel"] == "it is a single pixel"
    assert errors.loc[errors["label"] == "missing", PLACE_COLUMNS[2:]].to_numpy(float).tolist() == [[4, 4, 20, 20]]
    assert f"{tmp_path / 'features.errors.csv'}: 9 regions" in capsys.readouterr().err
    assert_no_leftovers(out)


def test_reasons_are_those_of_gpu_radiomics(tmp_path):
    """Each reason is the end of the message that gpu_radiomics gives for that region alone."""
    images = folder_of(tmp_path / "images", 1)
    rows = [(48.0, 4.0, 60.0, 20.0), (20.0, 4.0, 4.0, 20.0), (np.inf, 4.0, 20.0, 20.0), (4.0, 4.0, 5.0, 5.0)]
    boxes = write_csv(tmp_path / "b.csv", "image,x1,y1,x2,y2", *(("i000.png", *box) for box in rows))
    assert run(tmp_path / "images", "--boxes", boxes, "--out", tmp_path / "features.csv") == 3
    for box, reason in zip(rows, errors_of(tmp_path / "features.csv")["reason"], strict=True):
        with pytest.raises(ValueError, match="1 of 1 regions") as error:
            row(images["i000.png"], box)
        assert str(error.value).endswith(f"]): {reason}")


def test_bad_regions_are_computed_in_one_call_with_good_ones(tmp_path, monkeypatch):
    images = folder_of(tmp_path / "images", 1)
    boxes = [(k, 3, k + 10 * (k % 2), 20) for k in range(30)]
    lines = [("i000.png", *box) for box in boxes]
    calls = Interrupter(1)
    monkeypatch.setattr(extraction, "compute", calls)
    out = tmp_path / "features.csv"
    assert (
        run(tmp_path / "images", "--boxes", write_csv(tmp_path / "b.csv", "image,x1,y1,x2,y2", *lines), "--out", out)
        == 3
    )
    assert calls.regions == 30
    assert errors_of(out)[PLACE_COLUMNS[2:]].to_numpy().tolist() == [[*box] for box in boxes[::2]]
    for (_, line), box in zip(table_of(out).iterrows(), boxes[1::2], strict=True):
        assert_row(line, row(images["i000.png"], box))


def test_nothing_but_errors(tmp_path):
    folder_of(tmp_path / "images", 1)
    boxes = write_csv(tmp_path / "b.csv", NIH_HEADER, ("x.png", "Mass", 1, 2, 3, 4))
    out = tmp_path / "features.parquet"
    assert run(tmp_path / "images", "--boxes", boxes, "--out", out) == 3
    table = table_of(out)
    assert len(table) == 0
    assert list(table.columns) == PLACE_COLUMNS + FEATURES
    # a box in NIH's frame has no place on an image of unknown size
    assert errors_of(out).to_numpy().tolist() == [
        ["x.png", "Mass", "", "", "", "", "missing image: there are i000.png"]
    ]


# --- wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": "nowhere"}, ["no such file or folder", "nowhere"]),
        ({"images": "empty"}, ["no image (PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM) in empty or its images*"]),
        ({"--out": "features.txt"}, [".csv or .parquet", "features.txt"]),
        ({"--out": "nowhere/features.csv"}, ["cannot write", "nowhere", "No such file or directory"]),
        ({"--out": "folder.csv"}, ["is a folder", "folder.csv"]),
        ({"--boxes": "nowhere.csv"}, ["box file", "nowhere.csv"]),
        ({"--boxes": "header.csv"}, ["header.csv", "its columns: image, source, label, left, top, w, h"]),
        ({"--boxes": "none.csv"}, ["no box in", "none.csv"]),
        ({"--masks": "nowhere"}, ["no such folder", "nowhere"]),
        ({"--settings": "nowhere.yaml"}, ["nowhere.yaml"]),
        ({"--settings": "wrong.json"}, ["wrong.json", "binWidht", "binWidth"]),
        ({"--device": "tpu"}, ["cpu, cuda or cuda:N", "tpu"]),
        ({"--device": "cuda:99"}, ["cuda:99"]),
        ({"--batch-size": "0"}, ["batch size", "at least 1"]),
        ({"--workers": "0"}, ["workers", "at least 1"]),
        ({"--batch-size": "many"}, ["--batch-size", "many"]),
        ({"--bogus": "1"}, ["--bogus"]),
    ],
)
def test_wrong_use_ends_with_2_and_one_line(tmp_path, monkeypatch, capsys, change, words):
    monkeypatch.chdir(tmp_path)
    folder_of(Path("images"), 1)
    Path("empty").mkdir()
    Path("folder.csv").mkdir()
    write_csv(Path("header.csv"), "image,source,label,left,top,w,h", ("i000.png", "RSNA", "Opacity", 1, 2, 3, 4))
    write_csv(Path("none.csv"), "image,x1,y1,x2,y2")
    Path("wrong.json").write_text('{"binWidht": 5}')
    files = sorted(Path().rglob("*"))
    options = {"--out": "features.csv", **change}
    images = options.pop("images", "images")
    assert main(["extract", images, *(word for option in options.items() for word in option)]) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message
    assert sorted(Path().rglob("*")) == files


def test_help(capsys):
    for arguments in (
        ["--help"],
        ["extract", "--help"],
        ["demo", "--help"],
        ["prepare", "--help"],
        ["phantom", "--help"],
        ["--version"],
    ):
        assert main(arguments) == 0
        assert "kacl-gpu" in capsys.readouterr().out
    assert main([]) == 2


def test_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    folder_of(tmp_path / "images", 1)
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "kacl_gpu.extract.folder")
    assert run(tmp_path / "images", "--out", tmp_path / "features.csv") == 1
    assert 'pandas is not installed: pip install "kacl-gpu[io]"' in capsys.readouterr().err


# --- interruption ---------------------------------------------------------------------------------------------------


class Interrupter:
    """The computation, interrupted as by Ctrl-C in its n-th call; counts regions."""

    def __init__(self, calls):
        self.calls, self.regions = calls, 0

    def __call__(self, regions, settings, **kwargs):
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        self.regions += len(regions)
        return compute(regions, settings, **kwargs)


@pytest.fixture
def interrupted(tmp_path, monkeypatch, capsys):
    """Return a run of 10 images, one of them broken, that ends after 3 batches of 2.

    Returned are its arguments and a counter for later.
    """
    folder_of(tmp_path / "images", 10)
    (tmp_path / "images" / "i001.png").write_bytes(b"broken")
    arguments = [tmp_path / "images", "--out", tmp_path / "features.csv", "--batch-size", 2]
    (tmp_path / "features.csv").write_text("of an earlier run\n")
    monkeypatch.setattr(extraction, "compute", Interrupter(3))
    assert run(*arguments) == 130
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "features.csv").read_text() == "of an earlier run\n"
    assert not (tmp_path / "features.errors.csv").exists()
    counter = Interrupter(100)
    monkeypatch.setattr(extraction, "compute", counter)
    return arguments, counter


def test_resume_equals_an_uninterrupted_run(tmp_path, interrupted):
    arguments, counter = interrupted
    out = tmp_path / "features.csv"
    journal = tmp_path / "features.csv.partial"
    with journal.open("a") as file:
        file.write('{"region": 9, "box"')  # a line that a killed process did not finish
    assert run(*arguments, "--resume") == 3
    assert counter.regions == 9 - 6
    assert_no_leftovers(out)
    resumed, errors = out.read_bytes(), (tmp_path / "features.errors.csv").read_bytes()
    assert run(tmp_path / "images", "--out", out) == 3
    assert out.read_bytes() == resumed
    assert (tmp_path / "features.errors.csv").read_bytes() == errors


def test_without_resume_the_interrupted_run_is_discarded(tmp_path, interrupted):
    arguments, counter = interrupted
    assert run(*arguments) == 3
    assert counter.regions == 9
    assert len(table_of(tmp_path / "features.csv")) == 9
    assert_no_leftovers(tmp_path / "features.csv")


def test_resume_without_an_interrupted_run_begins(tmp_path):
    folder_of(tmp_path / "images", 2)
    assert run(tmp_path / "images", "--out", tmp_path / "features.csv", "--resume") == 0
    assert len(table_of(tmp_path / "features.csv")) == 2


@pytest.mark.parametrize("change", ["settings", "image", "boxes", "masks"])
def test_resume_of_another_run_is_refused(tmp_path, interrupted, capsys, change):
    journal = (tmp_path / "features.csv.partial").read_bytes()
    arguments = []
    if change == "settings":
        (tmp_path / "params.json").write_text('{"binWidth": 10}')
        arguments, words = ["--settings", tmp_path / "params.json"], "bin_width was 25.0, is 10.0"
    elif change == "image":
        save(tmp_path / "images" / "i007.png", pixels(41, 48))
        words = "the image files have changed"
    elif change == "boxes":
        boxes = write_csv(
            tmp_path / "b.csv", "image,x1,y1,x2,y2", *((f"i{k:03d}.png", 4, 4, 20, 20) for k in range(10))
        )
        arguments, words = ["--boxes", boxes], "the boxes have changed"
    else:
        save(tmp_path / "masks" / "i000.png", labels())
        arguments, words = ["--masks", tmp_path / "masks"], "mask files was None"
    assert run(*interrupted[0], "--resume", *arguments) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert words in message
    assert (tmp_path / "features.csv.partial").read_bytes() == journal


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killed_and_resumed_equals_an_uninterrupted_run(tmp_path):
    count = 240
    images = folder_of(tmp_path / "images", count, height=400, width=400)  # the last third outlives the signal by far
    (tmp_path / "images" / "i050.png").write_bytes(b"broken")
    complete, out = tmp_path / "whole.csv", tmp_path / "features.csv"
    assert run(tmp_path / "images", "--out", complete) == 3

    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    moment = random.Random(seed)
    command = [
        sys.executable,
        "-m",
        "kacl_gpu",
        "extract",
        tmp_path / "images",
        "--out",
        out,
        "--batch-size",
        "1",
    ]
    command += ["--device", "cpu", "--resume"]
    journal = tmp_path / "features.csv.partial"
    finished = 1
    for ending in (signal.SIGKILL, signal.SIGINT):
        finished = moment.randrange(finished + 1, finished + count // 3)
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a suite that runs in the background hands down that SIGINT is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 60
        while not (journal.exists() and journal.read_bytes().count(b"\n") > finished):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(moment.uniform(0, 0.01))
        process.send_signal(ending)
        _, output = process.communicate(timeout=60)
        assert process.returncode == (130 if ending == signal.SIGINT else -ending), output
        assert not out.exists()
        finished = journal.read_bytes().count(b"\n")
        assert finished < count, "ended before the signal came"
        if ending == signal.SIGINT:
            assert f"{journal} keeps the results so far: the same command with --resume goes on" in output
            assert "Traceback" not in output
    assert run(tmp_path / "images", "--out", out, "--resume", "--batch-size", 7) == 3
    assert out.read_bytes() == complete.read_bytes()
    assert out.with_name("features.errors.csv").read_bytes() == complete.with_name("whole.errors.csv").read_bytes()
    assert len(table_of(out)) == len(images) - 1
    assert_no_leftovers(out)


def test_a_failure_while_writing_leaves_the_old_output(tmp_path, monkeypatch, capsys):
    folder_of(tmp_path / "images", 2)
    out = tmp_path / "features.parquet"
    assert run(tmp_path / "images", "--out", out) == 0
    data = out.read_bytes()

    def refuse(self, file, **_):
        file.write(b"half of a table")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", refuse)
    capsys.readouterr()
    assert run(tmp_path / "images", "--out", out) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"cannot write {out}: No space left on device; {out}.partial keeps 2 of 2 regions: " in message
    assert "the same command with --resume goes on" in message
    assert out.read_bytes() == data
    assert sorted(path.name for path in tmp_path.glob("features.*")) == ["features.parquet", "features.parquet.partial"]
    monkeypatch.undo()
    monkeypatch.setattr(extraction, "compute", Interrupter(0))
    assert run(tmp_path / "images", "--out", out, "--resume") == 0  # nothing is computed again
    pd.testing.assert_frame_equal(table_of(out), pd.read_parquet(out))
    assert_no_leftovers(out)


@pytest.mark.parametrize("room", [10, 1500, 4000, 9000, 11000])
def test_a_full_disk_at_any_moment_ends_in_one_line(tmp_path, capsys, room):
    """Every file is cut off at this size: the journal's first line, a later one, the errors, the table."""
    folder_of(tmp_path / "images", 6)
    for k in range(100):
        (tmp_path / "images" / f"{k:03d}{'x' * 60}.png").write_bytes(b"broken")
    out = tmp_path / "out" / "features.csv"
    out.parent.mkdir()
    with full_disk(room):
        status = run(tmp_path / "images", "--out", out, "--batch-size", 2)
    assert status == 1
    error_text = capsys.readouterr().err.splitlines()[-1]
    assert "cannot write" in error_text and "File too large" in error_text and "Traceback" not in error_text
    assert [path.name for path in out.parent.glob("*.tmp")] == []
    if room > 1000:
        assert "keeps " in error_text and "--resume goes on" in error_text
        assert (out.parent / "features.csv.partial").exists()
    else:
        assert list(out.parent.iterdir()) == []
    assert run(tmp_path / "images", "--out", out, "--resume") == 3
    resumed, errors = out.read_bytes(), (out.parent / "features.errors.csv").read_bytes()
    assert run(tmp_path / "images", "--out", out) == 3
    assert out.read_bytes() == resumed
    assert (out.parent / "features.errors.csv").read_bytes() == errors
    assert_no_leftovers(out)


# --- real X-rays -----------------------------------------------------------------------------------------------------


def real_data():
    folder = os.environ.get("KACL_GPU_DATA")
    if not folder:
        pytest.skip("KACL_GPU_DATA does not name a folder of real X-rays")
    return Path(folder)


@pytest.mark.parametrize(("folder", "with_boxes"), [("nih_boxed_1024", True), ("nih_mini", True), ("nih_mini", False)])
def test_real_xrays(tmp_path, folder, with_boxes):
    data = real_data() / folder
    with (data / "BBox_List_2017.csv").open() as file:
        lines = list(csv.reader(file))[1:]
    out = tmp_path / "features.parquet"
    assert run(data, "--out", out, *(["--boxes", data / "BBox_List_2017.csv"] if with_boxes else [])) == 0
    table = table_of(out)
    if with_boxes:
        assert list(table["image"]) == [line[0] for line in lines]
        assert list(table["label"]) == [line[1].replace("Infiltrate", "Infiltration") for line in lines]
    else:
        assert list(table["image"]) == sorted(path.name for path in (data / "images").iterdir())
    assert not (tmp_path / "features.errors.csv").exists()
    for place in np.linspace(0, len(table) - 1, 5).astype(int):
        line = table.loc[place]
        with Image.open(data / "images" / line["image"]) as file:
            array = np.asarray(file.convert("RGBA"))[..., 0]
        box = None
        if with_boxes:
            x, y, w, h = map(float, lines[place][2:6])
            scale = array.shape[1] / 1024
            box = (x * scale, y * scale, (x + w) * scale, (y + h) * scale)
            assert tuple(line[PLACE_COLUMNS[2:]]) == box
        assert_row(line, row(array, box))


def test_a_line_too_short_to_name_its_image_is_listed(tmp_path):
    folder_of(tmp_path / "images", 1)
    boxes = write_csv(tmp_path / "b.csv", "label,x1,y1,x2,y2,image", ("q", 1, 1), ("r", 4, 4, 20, 20, "i000.png"))
    assert run(tmp_path / "images", "--boxes", boxes, "--out", tmp_path / "features.csv") == 3
    assert table_of(tmp_path / "features.csv")["label"].tolist() == ["r"]
    assert errors_of(tmp_path / "features.csv")["label"].tolist() == ["q"]


# --- several inputs, subfolders, labels -------------------------------------------------------------------------------


def test_what_lies_in_a_folder_is_computed_or_named(tmp_path, capsys):
    for name in ("a.png", "b.tif", "c.bmp", "d.webp", "e.gif"):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels()).save(path, **({"lossless": True} if name == "d.webp" else {}))
    (tmp_path / "images" / "f.nii.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    (tmp_path / "images" / "notes.txt").write_text("notes\n")
    save(tmp_path / "images" / "sub" / "g.png", pixels())
    assert run(tmp_path / "images", "--out", tmp_path / "images" / "features.csv") == 3
    assert list(table_of(tmp_path / "images" / "features.csv")["image"]) == [
        "a.png", "b.tif", "c.bmp", "d.webp", "e.gif",
    ]  # fmt: skip
    assert list(errors_of(tmp_path / "images" / "features.csv")["image"]) == ["f.nii.gz", "notes.txt"]
    assert f"not looked into without --recursive: {tmp_path / 'images' / 'sub'}" in capsys.readouterr().err
    # its own tables, of the run before, are no images either, and are not named
    assert run(tmp_path / "images", "--recursive", "--out", tmp_path / "images" / "features.csv") == 3
    assert list(table_of(tmp_path / "images" / "features.csv")["image"])[-1] == "sub/g.png"
    assert len(errors_of(tmp_path / "images" / "features.csv")) == 2


def test_several_inputs_patterns_and_subfolders_with_masks(tmp_path):
    for place in ("p1/a.png", "p2/a.png", "p2/deep/b.png"):
        save(tmp_path / "images" / place, pixels(seed=len(place)))
        save(tmp_path / "masks" / place, labels() if place != "p2/a.png" else np.minimum(labels(), 1))
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--recursive", "--masks", tmp_path / "masks", "--out", out) == 0
    assert list(table_of(out)["image"]) == ["p1/a.png", "p2/a.png", "p2/deep/b.png"]
    assert run(tmp_path / "images" / "p1", tmp_path / "images" / "p2" / "*", "--out", out, "--workers", 1) == 0
    first, second = (str(tmp_path / "images" / name) for name in ("p1/a.png", "p2/a.png"))
    assert list(table_of(out)["image"]) == [first, second, "b.png"]
    # a label map that could belong to either is given to none
    save(tmp_path / "flat" / "a.png", labels())
    images = [tmp_path / "images" / name for name in ("p1", "p2")]
    assert run(*images, "--masks", tmp_path / "flat", "--out", out) == 3
    assert len(table_of(out)) == 0
    assert errors_of(out)["reason"].str.startswith("mask: ambiguous: a.png could also belong to").all()


def test_a_mask_belongs_to_its_image_by_the_whole_name(tmp_path):
    for k in (1, 2):
        write_dicom(tmp_path / "images" / f"1.2.826.0.{k}", pixels())
    write_dicom(tmp_path / "masks" / "1.2.826.0.1", labels())
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--masks", tmp_path / "masks", "--out", out) == 3
    assert pd.read_csv(out, dtype=str)["image"].tolist() == ["1.2.826.0.1"]
    assert errors_of(out)["reason"].tolist() == ["mask: missing: there are 1.2.826.0.1"]


def test_names_of_a_box_file_with_folders_and_other_suffixes(tmp_path):
    images = folder_of(tmp_path / "images", 1)
    names = ["i000.png", "i000.jpg", "images/i000.png", r"C:\x\images\i000.png", str(tmp_path / "images" / "i000.png")]
    out = tmp_path / "features.csv"
    for name in names:
        boxes = write_csv(tmp_path / "b.csv", "image,x1,y1,x2,y2", (name, 4, 4, 20, 20))
        assert run(tmp_path / "images", "--boxes", boxes, "--out", out) == 0
        assert table_of(out)["image"].tolist() == [name]
        assert_row(table_of(out).loc[0], row(images["i000.png"], (4, 4, 20, 20)))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [(["all"], [1, 2, 300]), (["2", "300"], [2, 300]), (["2,300", "7"], [2, 300]), (["1"], [1])],
)
def test_labels(tmp_path, typed, expected):
    images = folder_of(tmp_path / "images", 3)
    maps = {"i000.png": labels().astype(np.int32), "i001.png": labels().astype(np.int32), "i002.png": 0 * labels()}
    maps["i000.png"][:5, :4] = 300
    maps["i001.png"][labels() == 2] = 1
    for name, mask in maps.items():
        save((tmp_path / "masks" / name).with_suffix(".tif"), mask)
    out = tmp_path / "features.csv"
    status = run(tmp_path / "images", "--masks", tmp_path / "masks", "--labels", *typed, "--out", out)
    assert status == 3
    table = table_of(out)
    rows = [("i000.png", label) for label in expected] + [("i001.png", 1)] * (1 in expected)
    assert list(zip(table["image"], table["label"])) == rows
    for (name, label), (_, line) in zip(rows, table.iterrows(), strict=True):
        ys, xs = np.nonzero(maps[name] == label)
        assert tuple(line[PLACE_COLUMNS[2:]]) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert_row(line, row(images[name], mask=maps[name], settings=RadiomicsSettings(label=label)))
    reasons = errors_of(out).set_index("image")["reason"]
    assert list(reasons.index) == ["i001.png"] * (1 not in expected) + ["i002.png"]
    assert "the mask" in reasons["i002.png"] and "no label" in reasons["i002.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "all"], "labels need masks"),
        (["--labels", "0", "--masks", "masks"], "above 0"),
        (["--labels", "all", "3", "--masks", "masks"], "--labels must be whole numbers, or all, got all 3"),
        (["--labels", "1.5", "--masks", "masks"], "got 1.5"),
        (["--labels", "all", "--masks", "masks", "--boxes", "b.csv"], "together with boxes"),
    ],
)
def test_labels_that_cannot_be(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    folder_of(Path("images"), 1)
    save(Path("masks") / "i000.png", labels())
    write_csv(Path("b.csv"), "image,x1,y1,x2,y2", ("i000.png", 4, 4, 20, 20))
    assert run("images", "--out", "features.csv", *arguments) == 2
    assert words in capsys.readouterr().err


def test_the_labels_that_are_there_are_named(tmp_path):
    folder_of(tmp_path / "images", 2)
    save(tmp_path / "masks" / "i000.png", np.where(labels() > 0, 255, 0).astype(np.uint8))
    save(tmp_path / "masks" / "i001.png", np.arange(2, 42).repeat(48).reshape(40, 48).astype(np.uint8))
    out = tmp_path / "features.csv"
    assert run(tmp_path / "images", "--masks", tmp_path / "masks", "--out", out) == 3
    assert errors_of(out)["reason"].tolist() == [
        "label 1 is not in the mask, which has 255",
        "label 1 is not in the mask, which has 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 30 more",
    ]
    assert run(tmp_path / "images", "--masks", tmp_path / "masks", "--labels", "1", "99", "--out", out) == 3
    assert errors_of(out)["reason"][0] == "none of the labels 1, 99 is in the mask, which has 255"


# --- one run at a time, and its end -----------------------------------------------------------------------------------


def test_two_runs_into_one_output(tmp_path, capsys):
    folder_of(tmp_path / "images", 1)
    out = tmp_path / "features.csv"
    with lock(out):
        assert run(tmp_path / "images", "--out", out) == 2
        assert f"another run is writing {out}" in capsys.readouterr().err
    assert run(tmp_path / "images", "--out", out) == 0
    assert_no_leftovers(out)


@pytest.mark.parametrize("change", ["image", "mask"])
def test_resume_after_a_file_changed_with_equal_size(tmp_path, monkeypatch, capsys, change):
    images = folder_of(tmp_path / "images", 4)
    for name in images:
        save(tmp_path / "masks" / name, labels())
    arguments = [tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "o.csv", "--batch-size", 1]
    monkeypatch.setattr(extraction, "compute", Interrupter(2))
    assert run(*arguments) == 130
    monkeypatch.undo()
    file = tmp_path / f"{change}s" / "i003.png"
    status = file.stat()
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert file.stat().st_size == status.st_size
    capsys.readouterr()
    assert run(*arguments, "--resume") == 2
    assert f"the {change} files have changed" in capsys.readouterr().err
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(*arguments, "--resume") == 0


def test_foreign_lines_in_the_journal_are_computed_again(tmp_path, interrupted, capsys):
    arguments, _ = interrupted
    journal = tmp_path / "features.csv.partial"
    lines = journal.read_bytes().splitlines(keepends=True)
    bad_lines = [
        b"hello\n",
        b'{"target": 99, "rows": []}\n',
        b'{"target": 9, "rows": [{"label": "", "box": null, "features": [1.0], "reason": null}]}\n',
        b'{"target": 9, "rows": [{"label": "", "box": [1, 2], "features": null, "reason": "x"}]}\n',
        lines[1][:40] + b"\n",
    ]
    journal.write_bytes(b"".join([lines[0], *bad_lines, *lines[2:]]))
    assert run(*arguments, "--resume") == 3
    assert "5 of its lines (line 2, 3, 4, 5, 6) are cut off or foreign" in capsys.readouterr().err
    resumed, errors = (tmp_path / "features.csv").read_bytes(), (tmp_path / "features.errors.csv").read_bytes()
    assert run(*arguments) == 3
    assert (tmp_path / "features.csv").read_bytes() == resumed
    assert (tmp_path / "features.errors.csv").read_bytes() == errors


SLOW_READER = """if True:
    import sys, time
    import kacl_gpu.extract.folder as folder
    from kacl_gpu.cli.main import main

    read_image = folder.read_image

    def read(path):
        if path.name != "i000.png":
            print("decoding", flush=True)
            time.sleep(60)
        return read_image(path)

    folder.read_image = read
    sys.exit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interruption_waits_for_no_image(tmp_path):
    folder_of(tmp_path / "images", 4)
    command = [
        sys.executable,
        "-c",
        SLOW_READER,
        "extract",
        tmp_path / "images",
        "--out",
        tmp_path / "o.csv",
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "decoding\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error_text = process.communicate(timeout=50)
    assert time.monotonic() - start < 5  # of 60; a process also has to end
    assert process.returncode == 130, error_text
    assert "--resume goes on" in error_text and "Traceback" not in error_text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_a_name_that_is_no_unicode(tmp_path):
    folder_of(tmp_path / "images", 1)
    os.rename(tmp_path / "images" / "i000.png", os.fsencode(tmp_path / "images") + b"/\xff.png")
    for suffix in (".csv", ".parquet"):
        assert run(tmp_path / "images", "--out", tmp_path / f"features{suffix}") == 0
        assert list(table_of(tmp_path / f"features{suffix}")["image"]) == ["\ufffd.png"]
