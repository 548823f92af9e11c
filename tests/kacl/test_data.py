"""Data for KACL: the dataset, the split, the prepared folder and the loaders; with KACL_GPU_DATA on real X-rays."""

import inspect
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

pd = pytest.importorskip("pandas", reason="the extra io is not installed")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("tqdm")
pytest.importorskip("lightning", reason="the extra train is not installed")

import lightning

import kacl_gpu.kacl.data.dataset
import kacl_gpu.kacl.data.prepare
from kacl_gpu.cli.prepare import make_parser
from kacl_gpu.errors import InputError
from kacl_gpu.io.journal import lock
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.dataset import NIHChestXray14, resize
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, DISEASES, NO_FINDING, body_parts
from kacl_gpu.kacl.data.prepare import CHUNK, prepare
from kacl_gpu.kacl.data.split import read_split, split_patients, write_split
from tests.kacl.disk import on_small_disk

TABLE_2017 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"  # with the comma at the end of each line
)
TABLE_2020 = TABLE_2017.replace("Patient Gender", "Patient Sex").rstrip(",")
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def name_of(patient, follow_up=0):
    return f"{patient:08d}_{follow_up:03d}.png"


def grey(seed, size=32):
    """Noise on a slope."""
    noise = np.random.default_rng(seed).integers(0, 128, (size, size))
    return (noise + np.linspace(0, 127, size)).astype(np.uint8)


def row(patient, labels="No Finding", follow_up=0, age="058Y"):
    return f"{name_of(patient, follow_up)},{labels},{follow_up},{patient},{age},F,PA,2682,2749,0.143,0.168,"


def save(path, array, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).convert(mode).save(path)


def make(root, rows, boxes=(), images=None, size=32, table="Data_Entry_2017.csv", header=TABLE_2017):
    """Return a folder in NIH's layout; images are dealt over two of its folders."""
    names = [line.split(",")[0] for line in rows] if images is None else images
    for k, name in enumerate(names):
        save(root / f"images_{1 + k % 2:03d}" / "images" / name, grey(k, size))
    root.mkdir(exist_ok=True)
    (root / table).write_text("\n".join([header, *rows]) + "\n")
    if boxes:
        (root / "BBox_List_2017.csv").write_text("\n".join([BOX_HEADER, *boxes]) + "\n")
    return root


def box(patient, label, x, y, w, h):
    return f"{name_of(patient)},{label},{x},{y},{w},{h},,"


def real(name):
    folder = os.environ.get("KACL_GPU_DATA")
    if not folder:
        pytest.skip("KACL_GPU_DATA does not name a folder of real X-rays")
    return Path(folder) / name


# --- the dataset ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "header", "age"),
    [("Data_Entry_2017.csv", TABLE_2017, "018M"), ("Data_Entry_2017_v2020.csv", TABLE_2020, "1.5")],
)
def test_items_and_table(tmp_path, table, header, age):
    age = age if table == "Data_Entry_2017.csv" else "2"
    rows = [row(7, "Mass|Infiltration", age=age), row(3), row(9, "Hernia"), row(5, "Effusion|Emphysema")]
    rows = [line.rstrip(",") for line in rows] if header is TABLE_2020 else rows
    boxes = [
        box(7, "Infiltrate", 0, 0, 10, 10),
        box(7, "Infiltrate", 512, 256, 128, 64.5),
        box(7, "Mass", 100, 200, 300, 400),
    ]
    data = NIHChestXray14(make(tmp_path / "nih", rows, boxes, table=table, header=header), size=16)
    assert len(data) == 4
    assert data.diseases == DISEASES
    item = data[0]
    assert {name: (value.dtype, value.shape) for name, value in item.items()} == {
        "image": (torch.uint8, (1, 16, 16)),
        "labels": (torch.float32, (8,)),
        "findings": (torch.float32, (14,)),
        "normal": (torch.bool, ()),
        "boxes": (torch.float32, (8, 4)),
        "index": (torch.int64, ()),
    }
    assert [data[k]["index"].item() for k in range(4)] == [0, 1, 2, 3]
    assert [DISEASES[k] for k in item["labels"].nonzero()] == ["Infiltration", "Mass"]
    # 1024 -> 16: a 64th; the larger of the two
    torch.testing.assert_close(item["boxes"][3], torch.tensor([8, 4, 10, 4 + 64.5 / 64]))
    torch.testing.assert_close(item["boxes"][4], torch.tensor([100, 200, 400, 600]) / 64)
    assert item["boxes"].isfinite().all(1).tolist() == [name in ("Infiltration", "Mass") for name in DISEASES]
    assert data[1]["boxes"].isnan().all()
    assert [bool(data[k]["normal"]) for k in range(4)] == [False, True, False, False]

    assert data.table["image"].tolist() == [name_of(7), name_of(3), name_of(9), name_of(5)]
    assert data.table["patient"].tolist() == [7, 3, 9, 5]
    assert data.table["annotated"].tolist() == [True, False, False, False]
    assert data.table["age"].tolist() == [1.5 if header is TABLE_2017 else 2, 58, 58, 58]
    columns = ["sex", "view", "width", "height", "spacing_x", "spacing_y", "Mass", "Effusion"]
    assert data.table[columns].values[0].tolist() == ["F", "PA", 2682, 2749, 0.143, 0.168, 1, 0]
    assert data.findings == ALL_DISEASES
    assert [[ALL_DISEASES[f] for f in data[k]["findings"].nonzero()] for k in range(4)] == [
        ["Infiltration", "Mass"], [], ["Hernia"], ["Effusion", "Emphysema"],
    ]  # fmt: skip
    assert data.table["Hernia"].tolist() == [0, 0, 1, 0]
    assert data.boxes["row"].tolist() == [0, 0, 0]
    assert data.boxes["disease"].tolist() == ["Infiltration", "Infiltration", "Mass"]
    assert data.boxes[["x1", "y1", "x2", "y2"]].values[0].tolist() == [0, 0, 10 / 64, 10 / 64]
    assert str(data.inventory).endswith("4 images, 4 files, 4 usable; 3 boxes on 1 images")


def test_boxes_are_cut_to_the_image_and_counted_once(tmp_path):
    boxes = [
        box(7, "Mass", 1000, -20, 40, 60),
        box(7, "Mass", 100, 200, 300, 400),
        box(7, "Mass", 100, 200, 300, 400),
        box(7, "mass", 100, 200, 300, 400),
        box(7, "Nodule", 100, 200, 300, 400),
        box(7, "Mass", 1000, 0, 999, 40),
        box(7, "Mass", 1024, 0, 10, 10),
        box(7, "Mass", -5, 0, 5, 10),
    ]
    data = NIHChestXray14(make(tmp_path / "nih", [row(7, "Mass|Nodule")], boxes))
    corners = (data.boxes[["x1", "y1", "x2", "y2"]] * 32).to_numpy().tolist()
    assert corners == [[1000, 0, 1024, 40], [100, 200, 400, 600], [100, 200, 400, 600]]
    assert data.boxes["disease"].tolist() == ["Mass", "Mass", "Nodule"]
    mass = f"{name_of(7)}: Mass"
    assert data.inventory.boxes == 3
    assert data.inventory.boxes_cut == (mass,)
    assert data.inventory.boxes_repeated == (mass, mass, mass)  # one of them only after it was cut
    assert data.inventory.boxes_malformed == (mass, mass)
    assert "3 boxes given again, counted once" in str(data.inventory)


def test_of_equal_boxes_the_first(tmp_path):
    boxes = [box(7, "Mass", 0, 0, 64, 64), box(7, "Mass", 512, 0, 64, 64), box(7, "Mass", 0, 512, 32, 64)]
    data = NIHChestXray14(make(tmp_path / "nih", [row(7, "Mass")], boxes))
    assert data[0]["boxes"][4].tolist() == [0, 0, 2, 2]


def test_diseases_and_normal(tmp_path):
    rows = [row(1), row(2, "Hernia"), row(3, "Mass|Hernia")]
    root = make(tmp_path / "nih", rows, [box(3, "Mass", 0, 0, 512, 512)])

    def normal(**kwargs):
        data = NIHChestXray14(root, **kwargs)
        return [bool(data[k]["normal"]) for k in range(len(data))]

    assert normal() == [True, False, False]
    assert normal(normal="none_of_the_diseases") == [True, True, False]
    assert normal(normal="none_of_the_diseases", diseases=ALL_DISEASES) == [True, False, False]
    data = NIHChestXray14(root, diseases=["Hernia", "Edema"])
    assert data[2]["labels"].tolist() == [1, 0]
    assert len(data.boxes) == 0  # of these diseases
    assert data.table["annotated"].tolist() == [False, False, True]  # of any
    assert NIHChestXray14(root, diseases=ALL_DISEASES)[2]["labels"].tolist() == [
        float(name in ("Mass", "Hernia")) for name in ALL_DISEASES
    ]
    nine = NIHChestXray14(root, diseases=["Mass", "No Finding"])
    assert [nine[k]["labels"].tolist() for k in range(3)] == [[0, 1], [0, 0], [1, 0]]
    assert nine[2]["boxes"].isfinite().all(1).tolist() == [True, False]
    loose = NIHChestXray14(root, diseases=["Mass", "No Finding"], normal="none_of_the_diseases")
    assert [loose[k]["labels"].tolist() for k in range(3)] == [[0, 1], [0, 1], [1, 0]]
    with pytest.raises(ValueError, match="unknown diseases: Masss"):
        NIHChestXray14(root, diseases=["Masss"])
    with pytest.raises(ValueError, match="once each"):
        NIHChestXray14(root, diseases=["Mass", "Mass"])
    with pytest.raises(ValueError, match="normal must be one of"):
        NIHChestXray14(root, normal="healthy")
    with pytest.raises(ValueError, match="at least 1"):
        NIHChestXray14(root, size=0)


def test_body_parts_are_data_that_users_extend():
    parts = body_parts(ALL_DISEASES).tolist()
    names = {part: {name for name, one in zip(ALL_DISEASES, parts) if one == part} for part in parts}
    assert {"Effusion", "Pneumothorax", "Pleural_Thickening"} in names.values()  # Zhang et al., AAAI 2020
    assert {"Cardiomegaly"} in names.values() and {"Hernia"} in names.values()
    assert len(names) == 4
    mine = body_parts(["Rib fracture", "Mass", "Effusion", NO_FINDING], {"Rib fracture": "bone", "Effusion": "lung"})
    assert mine[0] != mine[1] == mine[2] and mine[3] == -1
    with pytest.raises(InputError, match=r"no body part is known of Scoliosis: .*model.body_parts .*Scoliosis: PART"):
        body_parts(["Mass", "Scoliosis"], {"Rib fracture": "bone"})
    with pytest.raises(InputError, match="once each"):
        body_parts(["Mass", "Mass"])


def test_pixels_of_grey_and_rgba_and_the_size(tmp_path):
    root = make(tmp_path / "nih", [row(1), row(2), row(3)])
    save(root / "images_001" / "images" / name_of(1), grey(5), "RGBA")
    data = NIHChestXray14(root)
    assert data.size == 32
    np.testing.assert_array_equal(data[0]["image"][0], grey(5))
    np.testing.assert_array_equal(data[1]["image"][0], grey(1))
    np.testing.assert_array_equal(NIHChestXray14(root, size=20)[1]["image"][0], resize(grey(1), 20))
    assert data[1]["image"].is_contiguous()
    for name in ("image", "labels", "boxes"):
        data[1][name][:] = 1  # its own memory
    assert not data[1]["labels"].any()
    assert data[1]["boxes"].isnan().all()
    np.testing.assert_array_equal(data[1]["image"][0], grey(1))
    assert next(iter(torch.utils.data.DataLoader(data, 3)))["image"].shape == (3, 1, 32, 32)


def test_files_that_cannot_be_items(tmp_path):
    root = make(tmp_path / "nih", [row(k) for k in range(1, 6)])
    files = {path.name: path for path in root.glob("images_*/images/*")}
    save(files[name_of(2)], grey(0, 30))
    save(files[name_of(3)], np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8), "RGB")
    Image.fromarray(np.full((32, 32), 1000, np.int32).astype(np.uint16)).save(files[name_of(4)])
    files[name_of(5)].write_bytes(files[name_of(5)].read_bytes()[:200])
    data = NIHChestXray14(root)
    for k, reason in ((1, r"\(30, 30\) pixels, not 32 x 32"), (2, "colour"), (3, "8 bits"), (4, "cannot be read")):
        with pytest.raises(InputError, match=f"{name_of(k + 1)}.*{reason}"):
            data[k]
    with pytest.raises(IndexError):
        data[5]
    assert NIHChestXray14(root, size=32)[1]["image"].shape == (1, 32, 32)


@pytest.mark.parametrize(("shape", "size"), [((1024, 1024), 256), ((256, 256), 224), ((100, 100), 37), ((40, 60), 24)])
def test_resize_is_bilinear_and_antialiased(shape, size):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = F.interpolate(
        torch.from_numpy(pixels)[None, None].double(), (size, size), mode="bilinear", antialias=True
    ).round()
    assert np.abs(resize(pixels, size) - expected[0, 0].numpy()).max() <= 1
    plain = F.interpolate(torch.from_numpy(pixels)[None, None].double(), (size, size), mode="bilinear")
    if size < 0.8 * shape[0]:
        assert np.abs(resize(pixels, size) - plain[0, 0].numpy()).max() > 10  # which the tolerance tells apart


def test_what_is_missing_is_reported(tmp_path):
    rows = [row(1, "Mass"), row(2), row(3), row(4)]
    boxes = [
        box(1, "Mass", 0, 0, 100, 100),
        box(1, "Nodule", 0, 0, 100, 100),
        box(2, "Tumour", 0, 0, 100, 100),
        box(3, "Mass", 0, 0, 100, 100),
        box(8, "Mass", 0, 0, 100, 100),
        box(2, "Mass", 0, 0, 0, 100),
        box(2, "Mass", "x", 0, 1, 100),
        box(2, "Mass", "nan", 0, 1, 100),
        box(2, "Mass", 0, "-inf", 1, "inf"),
        box(2, "Mass", 1024, 0, 10, 10),
        f"{name_of(2)},Mass,1,2",
    ]
    root = make(tmp_path / "nih", rows, boxes, images=[name_of(1), name_of(2), name_of(4), name_of(6)])
    data = NIHChestXray14(root)
    report = data.inventory
    assert data.table["image"].tolist() == [name_of(1), name_of(2), name_of(4)]
    assert (report.images, report.files, report.usable, report.annotated, report.boxes) == (4, 4, 3, 1, 2)
    assert report.without_file == (name_of(3),)
    assert report.without_row == (name_of(6),)
    assert report.boxes_without_image == (f"{name_of(3)}: Mass", f"{name_of(8)}: Mass")
    assert report.boxes_unknown == (f"{name_of(2)}: Tumour",)
    assert report.boxes_malformed == (f"{name_of(2)}: Mass",) * 6
    assert report.boxes_cut == report.boxes_repeated == ()
    assert report.boxes_unlabelled == (f"{name_of(1)}: Nodule",)
    assert data.boxes["disease"].tolist() == ["Mass", "Nodule"]
    text = str(report)
    assert f"1 images in the table without a file, left out: {name_of(3)}" in text
    assert f"6 boxes malformed or outside the image, left out: {name_of(2)}: Mass, " in text
    assert text.count("\n") == 6
    # the right pixels beside the row, though the rows and the files do not agree
    np.testing.assert_array_equal(data[2]["image"][0], grey(2))

    (root / "BBox_List_2017.csv").unlink()
    bare = NIHChestXray14(root)
    assert bare.inventory.box_file is None
    assert "no file of boxes" in str(bare.inventory)
    assert not bare.table["annotated"].any()
    assert len(bare.boxes) == 0
    assert bare[0]["boxes"].isnan().all()


def test_folders_that_hold_nothing_usable(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        NIHChestXray14(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no table of labels in .*empty"):
        NIHChestXray14(tmp_path / "empty")
    with pytest.raises(InputError, match=r"no image \(PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM\)"):
        NIHChestXray14(make(tmp_path / "no_images", [row(1)], images=[]))
    with pytest.raises(InputError, match=f"no image of .* 1 rows .{name_of(1)}., 1 images .{name_of(2)}"):
        NIHChestXray14(make(tmp_path / "others", [row(1)], images=[name_of(2)]))
    root = make(tmp_path / "twice", [row(1)])
    save(root / "images" / name_of(1), grey(0))
    with pytest.raises(InputError, match="two images of one name"):
        NIHChestXray14(root)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(1), row(2), row(1)], f"more than one row for 1 images: {name_of(1)}"),
        ([row(1), row(2, "Masss")], f"impossible labels of {name_of(2)}: Masss"),
        ([row(1), row(2, "")], f"impossible labels of {name_of(2)}"),
        ([row(1), row(2, "No Finding|Mass")], f"impossible labels of {name_of(2)}"),
        ([row(1), row(2).replace(",2,058Y", ",two,058Y")], f"not a number: {name_of(2)}"),
        ([row(1), name_of(2)], f"not a number: {name_of(2)}"),
    ],
)
def test_tables_that_contradict_themselves(tmp_path, rows, reason):
    with pytest.raises(InputError, match=reason.replace("|", r"\|")):
        NIHChestXray14(make(tmp_path / "nih", rows, images=[name_of(1), name_of(2)]))


@pytest.mark.filterwarnings("ignore:Length of header:pandas.errors.ParserWarning")
def test_files_of_another_kind(tmp_path):
    root = make(tmp_path / "nih", [row(1)], header="name,label")
    with pytest.raises(InputError, match="lacks the columns Image Index, Patient ID, Finding Labels"):
        NIHChestXray14(root)
    (root / "Data_Entry_2017.csv").write_bytes(b"")
    with pytest.raises(InputError, match="cannot read"):
        NIHChestXray14(root)
    root = make(tmp_path / "plain_boxes", [row(1)])
    (root / "BBox_List_2017.csv").write_text(f"image,label,x1,y1,x2,y2\n{name_of(1)},Mass,1,1,9,9\n")
    with pytest.raises(InputError, match="not NIH's"):
        NIHChestXray14(root)


def test_select(tmp_path):
    rows = [row(k, "Mass") for k in range(1, 6)]
    boxes = [box(5, "Mass", 0, 0, 320, 320), box(2, "Mass", 0, 0, 640, 640), box(2, "Mass", 0, 0, 64, 64)]
    data = NIHChestXray14(make(tmp_path / "nih", rows, boxes))
    part = data.select([4, 0, 1])
    assert part.table["patient"].tolist() == [5, 1, 2]
    assert part.boxes[["image", "row"]].to_numpy().tolist() == [[name_of(5), 0], [name_of(2), 2], [name_of(2), 2]]
    for k, whole in enumerate((4, 0, 1)):
        assert part[k]["index"] == k
        for name in ("image", "labels", "boxes", "normal"):
            torch.testing.assert_close(part[k][name], data[whole][name], equal_nan=True)
    assert len(data) == 5
    assert len(data.boxes) == 3
    assert len(data.select([])) == 0
    for wrong in ([5], [-1], [1, 1]):
        with pytest.raises(ValueError, match="rows must be"):
            data.select(wrong)


def test_nih_mini_as_pandas_reads_it():
    root = real("nih_mini")
    data = NIHChestXray14(root, size=224)
    table = pd.read_csv(root / "Data_Entry_2017.csv")
    boxes = pd.read_csv(root / "BBox_List_2017.csv", skiprows=1, header=None).iloc[:, :6]
    boxes.columns = ["image", "disease", "x", "y", "w", "h"]
    assert len(data) == 851 == len(table)
    assert data.table["image"].tolist() == table["Image Index"].tolist()
    assert data.table["patient"].tolist() == table["Patient ID"].tolist()
    labels = np.stack([data._labels[k] for k in range(851)])
    for k, name in enumerate(DISEASES):
        np.testing.assert_array_equal(labels[:, k], table["Finding Labels"].str.contains(name))
    np.testing.assert_array_equal(data.table["normal"], table["Finding Labels"] == "No Finding")
    assert data.table["annotated"].sum() == boxes["image"].nunique() == 38
    assert len(data.boxes) == len(boxes) == 43
    np.testing.assert_allclose(data.boxes["x1"], boxes["x"] * 224 / 1024)
    np.testing.assert_allclose(data.boxes["y2"], (boxes["y"] + boxes["h"]) * 224 / 1024)
    assert data.boxes["disease"].tolist() == boxes["disease"].replace("Infiltrate", "Infiltration").tolist()
    assert str(data.inventory).count("\n") == 0  # nothing is missing
    stored = NIHChestXray14(root)
    assert stored.size == 256
    for k in range(0, 851, 50):
        image = Image.open(root / "images" / table["Image Index"][k])
        np.testing.assert_array_equal(stored[k]["image"][0], np.asarray(image))
        assert data[k]["normal"] == (table["Finding Labels"][k] == "No Finding")
    split = split_patients(data.table, seed=0)
    assert not (set(data.table["patient"][split == "train"]) & set(data.table["patient"][split == "test"]))
    assert pd.crosstab(split, data.table["annotated"])[True].to_dict() == {"train": 8, "validation": 0, "test": 30}


# --- the split ------------------------------------------------------------------------------------------------------


def table_of(sizes, boxed):
    """Return a table of patients with so many images, the first few of them annotated."""
    rows = [
        (name_of(patient, k), patient, k < count)
        for patient, (size, count) in enumerate(zip(sizes, boxed))
        for k in range(size)
    ]
    return pd.DataFrame(rows, columns=["image", "patient", "annotated"]).astype({"annotated": bool})


def shares(split):
    return split.value_counts(normalize=True).reindex(["train", "validation", "test"], fill_value=0).to_numpy()


patients = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=40)


@settings(max_examples=40, deadline=None)
@given(patients=patients, seed=st.integers(-5, 2**40), order=st.randoms(use_true_random=False))
def test_no_patient_in_two_sets_and_the_order_of_rows_does_not_matter(patients, seed, order):
    table = table_of(*(zip(*patients) if patients else ((), ())))
    split = split_patients(table, seed)
    assert split.index.equals(table.index)
    assert split.name == "split"
    assert set(split) <= {"train", "validation", "test"}
    assert (split.groupby(table["patient"]).nunique() == 1).all()
    assert "validation" not in set(split[table["annotated"]])
    rows = list(table.index)
    order.shuffle(rows)
    shuffled = split_patients(table.loc[rows], seed)
    assert shuffled.loc[table.index].tolist() == split.tolist()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_shares_are_those_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(0.3, 1500)  # a third of the patients with one image, as in NIH's
    table = table_of(sizes, np.where(rng.random(1500) < 0.05, 1, 0))
    split = split_patients(table, seed)
    boxed = table["annotated"]
    # the patients of one image, dealt last, even them out
    unannotated = split[~boxed].value_counts()
    assert np.abs(unannotated - (~boxed).sum() * pd.Series({"train": 0.7, "validation": 0.1, "test": 0.2})).max() < 2
    np.testing.assert_allclose(shares(split[boxed]), [0.2, 0, 0.8], atol=1 / boxed.sum())
    # large and small patients alike
    large = table.groupby("patient")["image"].transform("size") >= 4
    np.testing.assert_allclose(shares(split[~boxed & large]), [0.7, 0.1, 0.2], atol=0.05)


def test_the_seed_draws():
    table = table_of([1] * 400, [0] * 400)
    first, again, other = (split_patients(table, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    # two independent draws agree on 0.49 + 0.01 + 0.04 of the patients
    assert 0.4 < (first == other).mean() < 0.68


def test_images_of_annotated_patients_count():
    table = table_of([11] * 10 + [1] * 100, [1] * 10 + [0] * 100)
    split = split_patients(table, 0)
    assert split[table["annotated"]].value_counts().to_dict() == {"test": 8, "train": 2}
    # 80 of their 100 unannotated images are in test already, more than a fifth of 200; the other 120 go 7 to 1
    assert split[~table["annotated"]].value_counts().to_dict() == {"train": 105, "test": 80, "validation": 15}
    with pytest.raises(ValueError, match="add up to 1"):
        split_patients(table, 0, annotated={"train": 0.5, "validation": 0, "test": 0.6})
    with pytest.raises(ValueError, match="shares must be of"):
        split_patients(table, 0, unannotated={"train": 1})


def test_split_file(tmp_path):
    table = table_of([3] * 20, [1] * 4 + [0] * 16)
    split = split_patients(table, 3)
    path = tmp_path / "split.csv"
    write_split(path, table.sample(frac=1, random_state=0), split.sample(frac=1, random_state=0))
    assert [file.name for file in tmp_path.iterdir()] == ["split.csv"]
    text = path.read_text()
    assert text.startswith(f"image,patient,annotated,split\n{name_of(0)},0,1,{split[0]}\n")
    pd.testing.assert_series_equal(read_split(path, table), split, check_dtype=False)
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(read_split(path, shuffled), split[shuffled.index], check_dtype=False)

    lines = text.splitlines()
    other = {"train": "test", "test": "train", "validation": "train"}[split[0]]
    for change, reason in {
        "\n".join([*lines, f"{name_of(90)},90,0,train"]): f"1 images that the data have not: {name_of(90)}",
        "\n".join(lines[:-2]): f"2 images of the data missing: {name_of(19, 1)}, {name_of(19, 2)}",
        "\n".join([*lines, lines[-1]]): "1 images twice",
        text.replace(f"0,1,{split[0]}", f"0,1,{other}", 1): "1 patients in more than one set: 0",
        text.replace(f"0,1,{split[0]}", "0,1,exam", 1): "1 images of an unknown set",
        text.replace(f"0,1,{split[0]}", f"5,1,{split[0]}", 1): "1 images of another patient",
        text.replace(f"0,1,{split[0]}", f"0,0,{split[0]}", 1): "1 images annotated there or here only",
        text.replace("patient", "person"): "lacks the columns patient",
    }.items():
        path.write_text(change)
        with pytest.raises(InputError, match=reason):
            read_split(path, table)
    with pytest.raises(InputError, match="cannot read"):
        read_split(tmp_path / "nowhere.csv", table)


# --- the prepared folder --------------------------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(prepared, plain):
    pd.testing.assert_frame_equal(prepared.table, plain.table)
    pd.testing.assert_frame_equal(prepared.boxes, plain.boxes)
    for a, b in zip(prepared, plain):
        for name in b:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, equal_nan=True)


def test_prepared_is_read_as_the_folder_is(tmp_path, capsys):
    rows = [row(9 - k, "Mass") for k in range(9)]
    boxes = [box(3, "Mass", 0, 0, 320, 320), box(12, "Mass", 0, 0, 640, 640)]
    root = make(tmp_path / "nih", rows, boxes, images=[name_of(k) for k in range(1, 9)] + [name_of(20)])
    save(root / "images_001" / "images" / name_of(1), grey(50, 48), "RGBA")
    done = prepare(root, tmp_path / "out", size=24, workers=1)
    assert "9/9" in capsys.readouterr().err
    assert (done.images, done.errors, done.decoded) == (9, 0, 9)
    assert str(done).startswith(f"9 images in {tmp_path / 'out'}, 9 in ")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["BBox_List_2017.csv", "Data_Entry_2017.csv", "images.npy", "index.csv", "prepared.json"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    index = pd.read_csv(tmp_path / "out" / "index.csv")
    assert list(index.columns) == ["row", "image", "source_width", "source_height"]
    assert index["image"].tolist() == [name_of(k) for k in (*range(1, 9), 20)]
    assert index["source_width"].tolist() == [48] + [32] * 8
    array = np.load(tmp_path / "out" / "images.npy", mmap_mode="r")
    assert (array.shape, array.dtype) == ((9, 24, 24), np.uint8)
    prepared, plain = NIHChestXray14(tmp_path / "out"), NIHChestXray14(root, size=24)
    assert prepared.size == 24
    assert_same(prepared, plain)
    ours, theirs = (vars(data.inventory) | {"table": 0, "box_file": 0} for data in (prepared, plain))
    assert ours == theirs
    assert theirs["without_row"] == (name_of(20),)
    assert theirs["without_file"] == (name_of(9),)
    np.testing.assert_array_equal(
        NIHChestXray14(tmp_path / "out", size=12)[0]["image"][0], resize(plain[0]["image"][0].numpy(), 12)
    )
    prepared[0]
    assert len(pickle.dumps(prepared)) < len(pickle.dumps(plain)) + 500  # the array does not go along to the workers
    assert_same(pickle.loads(pickle.dumps(prepared)), plain)


def test_images_prepared_at_the_size_of_training_are_not_resized_again(tmp_path, monkeypatch, caplog):
    default = inspect.signature(ChestXrays).parameters["size"].default
    assert inspect.signature(prepare).parameters["size"].default == default
    assert make_parser().get_default("size") == default
    root = make(tmp_path / "nih", [row(k) for k in range(1, 13)])
    prepare(root, tmp_path / "out", size=24, workers=1)
    calls = []
    real_resize = kacl_gpu.kacl.data.dataset.resize

    def counted(pixels, size):
        calls.append(size)
        return real_resize(pixels, size)

    monkeypatch.setattr(kacl_gpu.kacl.data.dataset, "resize", counted)
    caplog.set_level("INFO")

    def read_at(size):
        module = ChestXrays(tmp_path / "out", size=size, workers=0)
        module.setup()
        assert module.train[0]["image"].shape == (1, size, size)
        return len(calls)

    assert read_at(24) == 0
    assert "resized" not in caplog.text
    assert read_at(20) == 1
    assert "prepared at 24 pixels and are resized to 20 each time they are read" in caplog.text


def test_bad_files_are_listed_and_left_out(tmp_path):
    root = make(tmp_path / "nih", [row(k) for k in range(1, 6)])
    bad = root / "images_001" / "images" / name_of(3)
    bad.write_bytes(b"no picture")
    done = prepare(root, tmp_path / "out", size=32, workers=1)
    assert (done.images, done.errors) == (4, 1)
    errors = pd.read_csv(tmp_path / "out" / "errors.csv")
    assert errors["image"].tolist() == [name_of(3)]
    assert errors["reason"][0].startswith("cannot be read")
    assert not np.load(tmp_path / "out" / "images.npy")[2].any()
    prepared = NIHChestXray14(tmp_path / "out")
    assert prepared.table["patient"].tolist() == [1, 2, 4, 5]
    assert (prepared.inventory.unreadable, prepared.inventory.without_file) == ((name_of(3),), ())
    assert "1 images that could not be read, left out" in str(prepared.inventory)
    assert_same(prepared, NIHChestXray14(root).select([0, 1, 3, 4]))


def test_prepare_refuses(tmp_path, monkeypatch):
    root = make(tmp_path / "nih", [row(k) for k in range(1, 4)])
    with pytest.raises(InputError, match="at least 1"):
        prepare(root, tmp_path / "out", workers=0)
    prepare(root, tmp_path / "out", size=16, workers=1)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        prepare(root, tmp_path / "out", size=16, workers=1)
    with pytest.raises(InputError, match=r"cannot make the folder \., which is there already"):
        prepare(root, ".")
    assert prepare(root, tmp_path / "out", size=16, resume=True).decoded == 0
    with pytest.raises(InputError, match="prepared already"):
        prepare(tmp_path / "out", tmp_path / "again", size=16)
    with pytest.raises(InputError, match=r"cannot resume: .*\(size was 16, is 17\)"):
        prepare(root, tmp_path / "out", size=17, resume=True)
    os.utime(root / "images_001" / "images" / name_of(1), (1, 1))
    with pytest.raises(InputError, match=r"cannot resume: .*\(the files have changed"):
        prepare(root, tmp_path / "out", size=16, resume=True)
    assert contents(tmp_path / "out") == before
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "mine.partial" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        prepare(root, tmp_path / "mine", workers=1)
    with pytest.raises(InputError, match="preparation is unfinished"):
        NIHChestXray14(tmp_path / "mine")


def test_prepared_folders_that_are_not_whole(tmp_path):
    prepare(make(tmp_path / "nih", [row(k) for k in range(1, 4)]), tmp_path / "out", size=16, workers=1)
    index = (tmp_path / "out" / "index.csv").read_text()
    for text in (index.replace("2,", "3,"), index.replace("row", "line"), index + index.splitlines()[1]):
        (tmp_path / "out" / "index.csv").write_text(text)
        with pytest.raises(InputError, match="does not fit"):
            NIHChestXray14(tmp_path / "out")
    (tmp_path / "out" / "index.csv").unlink()
    with pytest.raises(InputError, match="unfinished"):
        NIHChestXray14(tmp_path / "out")
    (tmp_path / "out" / "index.csv").write_text(index)
    array = tmp_path / "out" / "images.npy"
    array.write_bytes(array.read_bytes()[:-1])
    with pytest.raises(InputError, match="cannot open"):
        NIHChestXray14(tmp_path / "out")
    np.save(array, np.zeros((3, 16, 15), np.uint8))
    with pytest.raises(InputError, match=r"not of \(N, S, S\)"):
        NIHChestXray14(tmp_path / "out")


KILLED_AT_A_LINE = """
import os, signal, sys
from pathlib import Path
from kacl_gpu.kacl.data import nih, prepare
prepare.CHUNK = 2
root, base, points = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def child(work):
    # a process of its own, which does `work` and says how that ended
    if (pid := os.fork()) == 0:
        sys.stderr = open(os.devnull, "w")
        os._exit(work())
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

def run(out, die_at=None, resume=False):
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename not in (prepare.__file__, nih.__file__):
            return None
        if event == "line":
            lines += 1
            if lines == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    def work():
        if not resume:
            sys.settrace(trace)
        prepare.prepare(root, base / out, size=8, workers=1, resume=resume)
        sys.settrace(None)
        (base / "lines").write_text(str(lines))
        return 0
    return child(work)

def contents(out):
    return {path.name: path.read_bytes() for path in (base / out).iterdir()}

assert run("whole") == 0
whole, count = contents("whole"), int((base / "lines").read_text())
unfinished = 0
for k in range(points):
    out = f"out{k}"
    assert run(out, die_at=1 + k * (count - 1) // (points - 1)) == -signal.SIGKILL
    if (base / out).exists():
        assert {**contents(out), "done.jsonl": b""} == {**whole, "done.jsonl": b""}, out
    else:
        unfinished += 1
    assert run(out, resume=True) == 0, out
    assert contents(out) == whole, out
    assert not (base / f"{out}.partial").exists()
print(count, unfinished)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_line_and_resumed(tmp_path):
    root = make(tmp_path / "nih", [row(k) for k in range(1, 7)], [box(1, "Mass", 0, 0, 320, 320)], size=10)
    (root / "images_001" / "images" / name_of(3)).write_bytes(b"no picture")
    command = [sys.executable, "-W", "ignore", "-c", KILLED_AT_A_LINE, str(root), str(tmp_path), "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    lines, unfinished = map(int, done.stdout.split())
    assert lines > 100
    assert unfinished >= 7  # all points but those after the renaming


def descendants(pid):
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_killed_with_its_processes_and_resumed(tmp_path):
    count = 10 * CHUNK
    root = make(tmp_path / "nih", [row(k) for k in range(count)], images=[])
    (root / "images").mkdir()
    for k in range(8):
        save(tmp_path / f"{k}.png", grey(k, 384))
    for k in range(count):
        os.link(tmp_path / f"{k % 8}.png", root / "images" / name_of(k))
    call = "import sys; from kacl_gpu.kacl.data.prepare import prepare; prepare(*sys.argv[1:], size=64, workers=2)"
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", call, str(root), str(out)], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    marks = tmp_path / "out.partial" / "done.jsonl"
    end = time.monotonic() + 120
    while not (marks.exists() and marks.read_bytes().count(b"\n") > 1) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.002)
    started = descendants(process.pid)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    done = [json.loads(line)["first"] for line in marks.read_text().splitlines()[1:]]
    assert 0 < len(done) < 10
    while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(started) >= 3  # a server and two workers, which end with it
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    # what is marked as done is in the file
    array = np.load(tmp_path / "out.partial" / "images.npy", mmap_mode="r")
    for first in done:
        assert array[first : first + CHUNK].any(axis=(1, 2)).all()
    resumed = prepare(root, out, size=64, workers=1, resume=True)
    assert resumed.decoded == (10 - len(done)) * CHUNK
    prepare(root, tmp_path / "whole", size=64, workers=1)
    assert contents(out) == contents(tmp_path / "whole")


# --- copies of the data set


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("Data_Entry_2017.csv", "images-224/images-224"),
        ("Data_Entry_2017.csv", "images-224"),
        ("data_entry_2017.csv", "images/images"),
        ("sample_labels.csv", "sample/images"),
        ("Data_Entry_2017_v2020.csv", "."),
    ],
)
def test_layouts_of_common_copies(tmp_path, table, folder):
    root = tmp_path / "nih"
    for k in (1, 2):
        save(root / folder / name_of(k), grey(k))
    (root / table).write_text("\n".join([TABLE_2017, row(1, "Mass"), row(2)]))
    (root / "BBox_List_2017_Official_NIH.csv").write_text(f"{BOX_HEADER}\n{box(1, 'Mass', 0, 0, 320, 320)}\n")
    data = NIHChestXray14(root)
    assert data.table["patient"].tolist() == [1, 2] and len(data.boxes) == 1
    assert torch.equal(data[0]["image"][0], torch.from_numpy(grey(1)))
    prepare(root, tmp_path / "out", size=32, workers=1)
    assert_same(NIHChestXray14(tmp_path / "out"), data)


def test_one_image_in_two_folders_is_refused(tmp_path):
    root = make(tmp_path / "nih", [row(1)])
    save(root / "images-224" / name_of(1), grey(1))
    with pytest.raises(InputError, match=r"two images of one name: .*keep one of the folders"):
        NIHChestXray14(root)


def test_a_folder_without_images_names_where_they_were_looked_for(tmp_path):
    (tmp_path / "Data_Entry_2017.csv").write_text(f"{TABLE_2017}\n{row(1)}\n")
    with pytest.raises(InputError, match=r"no .*image.* in .*images\*/images\*"):
        NIHChestXray14(tmp_path)


def test_other_spellings(tmp_path):
    """JPEG copies, folders before names, labels of another case, the columns of Kaggle's sample."""
    root = tmp_path / "nih"
    for k in range(1, 4):
        save(root / "images" / name_of(k).replace("png", "jpg"), np.full((32, 32), 40 * k, np.uint8))
    header = TABLE_2017.replace("OriginalImage[Width,Height]", "OriginalImageWidth,OriginalImageHeight")
    header = header.replace("OriginalImagePixelSpacing[x,y]", "OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y")
    rows = [row(1, "pleural thickening|Infiltrate"), row(2, "no finding"), f"images/{row(3, 'MASS')}"]
    (root / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]))
    boxes = [box(1, "Pleural Thickening", 0, 0, 320, 320), box(3, "mass", 0, 0, 64, 64)]
    (root / "BBox_List_2017.csv").write_text("\n".join([BOX_HEADER, *boxes]))
    data = NIHChestXray14(root, diseases=ALL_DISEASES)
    assert [data[k]["image"][0, 0, 0].item() for k in range(3)] == [40, 80, 120]
    assert data.table["labels"].tolist() == ["Pleural_Thickening|Infiltration", "No Finding", "Mass"]
    assert data.boxes["disease"].tolist() == ["Pleural_Thickening", "Mass"] and data.boxes["row"].tolist() == [0, 2]
    assert data.table["spacing_y"].tolist() == [0.168] * 3 and data.table["width"].tolist() == [2682] * 3
    assert not data.inventory.without_file and not data.inventory.without_row


# --- full disks, files that are cut off


def test_no_room_for_the_array(tmp_path):
    """Told before any image is decoded; nothing is left."""
    root = make(tmp_path / "nih", [row(k) for k in range(40)])
    script = (
        "import os, sys; from kacl_gpu.cli.main import main; os.chdir(sys.argv[1])\n"
        "status = main(['prepare', sys.argv[2], '--out', 'out', '--size', '128', '--workers', sys.argv[3]])\n"
        "print(os.listdir()); sys.exit(status)"
    )
    for workers in (1, 2):
        done = on_small_disk(tmp_path / "small", "300k", script, root, workers)
        assert done.returncode == 1, done
        (said,) = done.stderr.splitlines()
        assert re.search(r"prepare: error: cannot write .*images\.npy: No space left.*1 MiB.*nothing is kept", said)
        assert done.stdout.splitlines()[-1] == "[]"


FILLS_UP = """
import os, subprocess, sys
from pathlib import Path
from kacl_gpu.errors import OutputError
from kacl_gpu.kacl.data import prepare
folder, root = Path(sys.argv[1]), Path(sys.argv[2])
prepare.CHUNK, prepare._reserve = 2, lambda file, size: None  # a file system that cannot reserve room
try:
    prepare.prepare(root, folder / "out", size=128, workers=1)
except OutputError as error:
    print(error)
print(sorted(path.name for path in folder.iterdir()), sorted(path.name for path in (folder / "out.partial").iterdir()))
subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
print(prepare.prepare(root, folder / "out", size=128, workers=1, resume=True).decoded)
print(hash((folder / "out" / "images.npy").read_bytes()) == hash(Path(sys.argv[3]).read_bytes()))
"""


def test_a_disk_that_fills_up(tmp_path):
    """One line says what is kept; with more room the run goes on, to the same bytes."""
    root = make(tmp_path / "nih", [row(k) for k in range(40)])
    prepare(root, tmp_path / "whole", size=128, workers=1)
    done = on_small_disk(tmp_path / "small", "300k", FILLS_UP, root, tmp_path / "whole" / "images.npy")
    assert done.returncode == 0, done.stderr
    said, files, decoded, same = done.stdout.splitlines()
    words = re.search(r"images\.npy: No space left on device; (\d+) of 40 images are kept in .*--resume", said)
    assert words
    kept = int(words[1])
    assert 0 < kept < 40 and int(decoded) == 40 - kept and same == "True"
    assert files == "['out.partial'] ['done.jsonl', 'images.npy']"


def interrupted(tmp_path, monkeypatch):
    """Return a preparation that was interrupted after the first of two chunks; returns its source."""
    root = make(tmp_path / "nih", [row(k) for k in range(CHUNK + 3)], size=8)
    fill = kacl_gpu.kacl.data.prepare._fill

    def fails(array, size, first, files):
        if first:
            raise KeyboardInterrupt
        return fill(array, size, first, files)

    with monkeypatch.context() as patch:
        patch.setattr(kacl_gpu.kacl.data.prepare, "_fill", fails)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, tmp_path / "out", size=8, workers=1)
    return root


def test_an_interrupted_array_that_is_cut_off(tmp_path, monkeypatch):
    root = interrupted(tmp_path, monkeypatch)
    array = tmp_path / "out.partial" / "images.npy"
    content = array.read_bytes()
    for damage in (content[:-1], content[:40], b""):
        array.write_bytes(damage)
        with pytest.raises(InputError, match=r"cannot resume: .*images\.npy is missing, cut off .*leave out --resume"):
            prepare(root, tmp_path / "out", size=8, workers=1, resume=True)
    array.write_bytes(content)
    assert prepare(root, tmp_path / "out", size=8, workers=1, resume=True).decoded == 3


def test_foreign_lines_in_the_journal_are_passed_over(tmp_path, monkeypatch, capsys):
    """Their work is done again; without its first line the journal is refused."""
    root = interrupted(tmp_path, monkeypatch)
    journal = tmp_path / "out.partial" / "done.jsonl"
    description, chunk = journal.read_text().splitlines()
    foreign = (
        '{"first": 0, "results": [[8, 8]]}',
        '{"first": 1, "results": []}',
        '{"first": 32, "results": [[1]]}',
        "[]",
        "nothing",
        chunk[:-9],
    )
    journal.write_text("\n".join([description, *foreign]))
    done = prepare(root, tmp_path / "out", size=8, workers=1, resume=True)
    assert done.decoded == CHUNK + 3 and "6 of its lines" in capsys.readouterr().err
    prepare(root, tmp_path / "whole", size=8, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_description_that_is_cut_off(tmp_path):
    root = make(tmp_path / "nih", [row(1)], size=8)
    prepare(root, tmp_path / "out", size=8, workers=1)
    path = tmp_path / "out" / "prepared.json"
    for damage in (path.read_text()[:20], "", "[]"):
        path.write_text(damage)
        with pytest.raises(InputError, match=r"cannot resume: .*prepared\.json is cut off or damaged"):
            prepare(root, tmp_path / "out", size=8, workers=1, resume=True)


def test_two_runs_into_one_folder(tmp_path):
    root = make(tmp_path / "nih", [row(1)], size=8)
    with lock(tmp_path / "out"), pytest.raises(InputError, match="another run is writing"):
        prepare(root, tmp_path / "out", size=8, workers=1)
    assert prepare(root, tmp_path / "out", size=8, workers=1).images == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nih", "out"]


@pytest.mark.parametrize("number", ["nan", "inf", "", "-1", "1e99"])
def test_rows_of_a_prepared_index_that_are_no_rows(tmp_path, number):
    prepare(make(tmp_path / "nih", [row(k) for k in range(1, 4)], size=8), tmp_path / "out", size=8, workers=1)
    index = tmp_path / "out" / "index.csv"
    index.write_text(index.read_text().replace("2,", f"{number},", 1))
    with pytest.raises(InputError, match="does not fit"):
        NIHChestXray14(tmp_path / "out")


def test_real_x_rays_prepared(tmp_path):
    root = real("nih_boxed_1024")
    done = prepare(root, tmp_path / "out", size=256, workers=1)
    assert (done.images, done.errors) == (38, 0)
    prepared, plain = NIHChestXray14(tmp_path / "out"), NIHChestXray14(root, size=256)
    some = list(range(0, 38, 4))
    assert_same(prepared.select(some), plain.select(some))
    assert len(prepared.boxes) == 43


# --- the loaders ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nih(tmp_path_factory):
    rows = [row(k, "Mass" if k % 3 else "No Finding", follow_up) for k in range(40) for follow_up in range(2)]
    boxes = [box(k, "Mass", 0, 0, 320, 320) for k in (1, 2, 4, 5, 7)]
    return make(tmp_path_factory.mktemp("data") / "nih", rows, boxes, size=8)


def order(loader):
    return [batch["index"].tolist() for batch in loader]


def flat(batches):
    return [index for batch in batches for index in batch]


def opened(nih, **kwargs):
    module = ChestXrays(nih, size=8, batch_size=8, workers=0, **kwargs)
    module.prepare_data()
    module.setup()
    return module


def test_loaders(nih, tmp_path):
    module = opened(nih, split_file=tmp_path / "split.csv", seed=5)
    split = split_patients(NIHChestXray14(nih).table, 5)
    counts = split.value_counts()
    assert [len(part) for part in (module.train, module.validation, module.test)] == counts[
        ["train", "validation", "test"]
    ].tolist()
    assert pd.read_csv(tmp_path / "split.csv")["split"].tolist() == split.tolist()  # the rows are sorted by image

    loader = module.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        epochs.append(order(loader))
        seen = flat(epochs[-1])
        assert [len(batch) for batch in epochs[-1]] == [8] * (len(module.train) // 8)
        assert len(set(seen)) == len(seen)
    assert epochs[0] != epochs[1]
    resumed = opened(nih, split_file=tmp_path / "split.csv", seed=5).train_dataloader()
    resumed.sampler.set_epoch(1)
    assert order(resumed) == epochs[1]
    other = opened(nih, split_file=tmp_path / "split.csv", seed=6)
    assert other.train.table["image"].tolist() == module.train.table["image"].tolist()  # of the file
    assert order(other.train_dataloader()) != epochs[0]

    for part, loader in ((module.validation, module.val_dataloader()), (module.test, module.test_dataloader())):
        assert flat(order(loader)) == list(range(len(part)))
    batch = next(iter(module.test_dataloader()))
    assert batch["image"].shape == (8, 1, 8, 8)
    assert batch["labels"].shape == (8, 8)
    assert batch["boxes"].shape == (8, 8, 4)


def test_two_processes_share_an_epoch(nih, monkeypatch):
    module = opened(nih)
    one = module.train_dataloader()
    one.sampler.set_epoch(3)
    batches = order(one)
    module.batch_size = 4
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    halves, tests = [], []
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda *_, rank=rank: rank)
        loader = module.train_dataloader()
        loader.sampler.set_epoch(3)
        halves.append(order(loader))
        tests += flat(order(module.test_dataloader()))
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == [sorted(batch) for batch in batches]
    assert set(tests) == set(range(len(module.test)))
    assert len(tests) - len(module.test) <= 1


def test_under_a_trainer(nih, tmp_path):
    """Lightning tells the sampler the epoch, and a run resumed from a checkpoint goes on with the order."""

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen, self.validated = [], []

        def training_step(self, batch):
            self.seen.append((self.current_epoch, batch["index"].tolist()))
            return self.weight * batch["image"].float().mean()

        def validation_step(self, batch):
            self.validated += batch["index"].tolist()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(epochs, folder, checkpoint=None):
        model, module = Watch(), ChestXrays(nih, size=8, batch_size=8, workers=0, split_file=folder / "split.csv")
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(model, module, ckpt_path=checkpoint)
        trainer.save_checkpoint(folder / "last.ckpt")
        return model, module

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, module = fit(3, tmp_path / "a")
    fit(1, tmp_path / "b")
    resumed, _ = fit(3, tmp_path / "b", tmp_path / "b" / "last.ckpt")
    first, second, third = ([seen for epoch, seen in whole.seen if epoch == k] for k in range(3))
    assert first != second != third != first
    assert whole.seen[len(first) :] == resumed.seen
    loader = module.train_dataloader()
    loader.sampler.set_epoch(2)
    assert order(loader) == third
    assert whole.validated == list(range(len(module.validation))) * 3
    assert (tmp_path / "a" / "split.csv").read_bytes() == (tmp_path / "b" / "split.csv").read_bytes()


def test_loader_settings(nih, monkeypatch):
    module = opened(nih)
    module.workers = 2
    loader = module.val_dataloader()
    assert (loader.num_workers, loader.persistent_workers, loader.pin_memory) == (2, True, torch.cuda.is_available())
    assert flat(order(loader)) == list(range(len(module.validation)))
    with pytest.raises(ValueError, match="batch_size"):
        ChestXrays(nih, batch_size=0)
    module.batch_size = 1000
    with pytest.raises(InputError, match="do not fill a batch of 1000"):
        module.train_dataloader()


def test_arguments_have_help():
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(ChestXrays, "data")
    text = " ".join(parser.format_help().split())
    for line in (
        "as downloaded, or made by",
        "side of the images in pixels",
        "names of the diseases to classify",
        "CSV file with the split",
        "seed of the split,",
    ):
        assert line in text
    chosen = parser.parse_args(["--data.root", "nih", "--data.diseases", "[Mass, Hernia]", "--data.split_file=s.csv"])
    assert isinstance(parser.instantiate_classes(chosen).data, ChestXrays)
    assert parser.instantiate_classes(chosen).data.diseases == ("Mass", "Hernia")


@pytest.mark.parametrize("name", ["format", "normal", "missing", "augment"])
def test_choices_that_a_setting_does_not_have(name: str) -> None:
    wrong: dict[str, Any] = {name: "typo"}
    with pytest.raises(InputError, match=f"{name} must be one of .*, got typo"):
        ChestXrays("somewhere", **wrong)
