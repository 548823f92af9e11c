"""Tables of labels and boxes: one's own, and synthetic files in the layouts of CheXpert, VinDr-CXR and RSNA."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas", reason="the extra io is not installed")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("pydicom")
pytest.importorskip("lightning", reason="the extra train is not installed")

from kacl_gpu.errors import InputError
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.dataset import ChestXrayTable, read_pixels, read_size, resize
from kacl_gpu.kacl.data.diseases import body_parts
from kacl_gpu.kacl.data.split import split_patients
from kacl_gpu.kacl.model import KACL
from kacl_gpu.kacl.training.fit import command, fit
from tests.io.files import write_dicom


def grey(seed, height=24, width=32, white=255):
    return (
        np.random.default_rng(seed)
        .integers(0, white + 1, (height, width))
        .astype(np.uint8 if white < 256 else np.uint16)
    )


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def root(tmp_path):
    for k, name in enumerate(("a", "b", "c", "d")):
        picture(tmp_path / "xrays" / f"{name}.png", grey(k))
    return tmp_path / "xrays"


def items(data):
    return [data[k] for k in range(len(data))]


def labels(data):
    return [item["labels"].tolist() for item in items(data)]


# --- one's own ------------------------------------------------------------------------------------------------------


COLUMNS = """image,patient,sex,Mass,Rib fracture,No Finding
a.png,P1,0,1,0,0
b.png,P2,1,0,-1,0
c.png,P2,0,,1,
d.png,P 3,1,,,1
"""


def test_columns_of_labels(root):
    write(root / "labels.csv", COLUMNS)
    data = ChestXrayTable(root, table="labels.csv", size=16)
    assert data.findings == data.diseases == ("Mass", "Rib fracture")  # sex is 0 and 1 too
    assert labels(data) == [[1, 0], [0, -1], [-1, 1], [0, 0]]
    assert [item["findings"].tolist() for item in items(data)] == labels(data)
    assert [bool(item["normal"]) for item in items(data)] == [False, False, False, True]
    assert data.table["patient"].tolist() == ["P1", "P2", "P2", "P 3"]
    assert data.table["labels"].tolist() == ["Mass", "", "Rib fracture", "No Finding"]
    assert data.table["sex"].tolist() == ["0", "1", "0", "1"]
    assert data[0]["image"].dtype == torch.uint8
    np.testing.assert_array_equal(data[0]["image"][0], resize(grey(0), 16))
    assert data[0]["boxes"].isnan().all() and data[0]["boxes"].shape == (2, 4)
    negative = ChestXrayTable(root, table="labels.csv", size=16, missing="negative")
    assert labels(negative) == [[1, 0], [0, -1], [0, 1], [0, 0]]
    some = ChestXrayTable(
        root, table="labels.csv", size=16, diseases=["Rib fracture", "No Finding"], findings=["Rib fracture"]
    )
    assert some.findings == ("Rib fracture",)
    assert labels(some) == [[0, 0], [-1, 0], [1, 0], [0, 1]]


def test_lists_of_labels(root):
    write(root / "labels.csv", "image,patient,labels\na,1, Mass | Rib fracture\nb,2,no finding\nc,3,\nd,4,Mass\n")
    data = ChestXrayTable(root, table="labels.csv", size=16)
    assert data.findings == ("Mass", "Rib fracture")
    assert labels(data) == [[1, 1], [0, 0], [-1, -1], [1, 0]]
    assert data.table["normal"].tolist() == [False, True, False, False]
    named = ChestXrayTable(root, table="labels.csv", size=16, findings=["Scoliosis", "Rib fracture", "Mass"])
    assert labels(named)[0] == [0, 1, 1]


def test_without_no_finding_an_image_without_findings_is_normal(root):
    write(root / "labels.csv", "image,patient,Mass,Nodule\na,1,0,0\nb,2,0,-1\nc,3,0,\nd,4,1,0\n")
    data = ChestXrayTable(root, table="labels.csv", size=16)
    assert data.table["normal"].tolist() == [True, False, False, False]
    negative = ChestXrayTable(root, table="labels.csv", size=16, missing="negative")
    assert negative.table["normal"].tolist() == [True, False, True, False]
    only = ChestXrayTable(root, table="labels.csv", size=16, diseases=["Mass"], normal="none_of_the_diseases")
    assert only.table["normal"].tolist() == [True, True, True, False]


@pytest.mark.parametrize("lists", [False, True])
def test_parquet_is_read_as_csv_is(root, lists):
    table = {"image": ["a.png", "b.png"], "patient": [7, 8], "age": [61.5, None]}
    kinds = {"labels": [["Mass", "Nodule"], ["Mass"]]} if lists else {"Mass": [1.0, None], "Nodule": [True, False]}
    pd.DataFrame(table | kinds).to_parquet(root / "labels.parquet")
    lines = ("labels", "Mass|Nodule", "Mass") if lists else ("Mass,Nodule", "1,1", ",0")
    write(root / "labels.csv", "image,patient,age,{}\na.png,7,61.5,{}\nb.png,8,,{}\n".format(*lines))
    one, other = (ChestXrayTable(root, table=f"labels.{kind}", size=16) for kind in ("parquet", "csv"))
    pd.testing.assert_frame_equal(one.table, other.table)


def test_boxes_follow_stored_sizes(root):
    """The images are 32 x 24 and become 16 x 16; the largest of several boxes is the one of the tensor."""
    write(root / "labels.csv", "image,patient,Mass,Nodule\na.png,1,1,1\nb.png,2,1,0\nc.png,3,0,0\nd.png,4,0,1\n")
    rows = [
        "a.png,Mass,0,0,4,6",
        "a.png,mass,8,12,16,12",
        "xrays/a.png,Mass,8,12,16,12",
        "b.png,Mass,24,-4,20,10",
        "d,Rash,0,0,1,1",
    ]
    write(root / "boxes.csv", "\n".join(["image,label,x,y,w,h", *rows]))
    data = ChestXrayTable(root, table="labels.csv", boxes="boxes.csv", size=16)
    assert data.boxes[["row", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [
        [0, 0, 0, 2, 4],
        [0, 4, 8, 12, 16],
        [1, 12, 0, 16, 4],
    ]
    assert data[0]["boxes"][0].tolist() == [4, 8, 12, 16]
    assert data[0]["boxes"][1].isnan().all()
    assert data.inventory.boxes_unknown == ("d: Rash",)
    assert data.inventory.boxes_repeated == ("xrays/a.png: Mass",)
    assert data.inventory.boxes_cut == ("b.png: Mass",)
    assert data.table["annotated"].tolist() == [True, True, False, False]
    part = data.select([1, 0])
    assert isinstance(part, ChestXrayTable) and part.boxes["row"].tolist() == [0, 1, 1]

    text = (root / "labels.csv").read_text().splitlines()  # boxes in the pixels of an image twice as large
    write(root / "large.csv", "\n".join([f"{text[0]},width,height", *(f"{line},64,48" for line in text[1:])]))
    large = ChestXrayTable(root, table="large.csv", boxes="boxes.csv", size=16)
    assert large[0]["boxes"][0].tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize("suffix", ["png", "tif", "dcm"])
@pytest.mark.parametrize("white", [4095, 65535])
def test_images_of_more_than_8_bits(tmp_path, suffix, white):
    """Their values are kept; the network divides them by max_value."""
    pixels = grey(1, 16, 16, white)
    pixels[0, 0] = white
    path = tmp_path / f"a.{suffix}"
    if suffix == "dcm":
        write_dicom(path, pixels)
    else:
        picture(path, pixels)
    write(tmp_path / "labels.csv", "image,patient,Mass\na,1,1\n")
    with pytest.raises(InputError, match=f"a.{suffix}: not an image of 8 bits: .* to {white}.*max_value"):
        ChestXrayTable(tmp_path, table="labels.csv")
    if white == 65535:
        with pytest.raises(InputError, match=r"reach 65535.*max_value, 4095"):
            ChestXrayTable(tmp_path, table="labels.csv", max_value=4095)
    data = ChestXrayTable(tmp_path, table="labels.csv", max_value=white)
    assert data.max_value == white
    assert data[0]["image"].dtype == torch.float32
    np.testing.assert_array_equal(data[0]["image"][0], pixels)
    small = ChestXrayTable(tmp_path, table="labels.csv", max_value=white, size=8)[0]["image"][0].numpy()
    np.testing.assert_array_equal(small, np.rint(small))
    want = torch.nn.functional.interpolate(
        torch.tensor(pixels)[None, None].double(), (8, 8), mode="bilinear", antialias=True
    )
    assert np.abs(small - want[0, 0].numpy()).max() <= 0.51
    assert read_size(path) == (16, 16)


def test_a_dicom_file_of_8_bits(tmp_path):
    pixels = grey(1, 12, 16)
    write_dicom(tmp_path / "a.dcm", pixels)
    write(tmp_path / "labels.csv", "image,patient,Mass\na,1,1\n")
    write(tmp_path / "boxes.csv", "image,label,x1,y1,x2,y2\na,Mass,0,0,8,12\n")
    data = ChestXrayTable(tmp_path, table="labels.csv", boxes="boxes.csv", size=16)
    assert data[0]["image"].dtype == torch.uint8
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.dcm"), pixels)
    assert data[0]["boxes"].tolist() == [[0, 0, 8, 16]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,labels\na,Mass\n", "lacks the column patient, by which images are split: add it"),
        ("name,patient\na,1\n", "lacks the columns image; it has name, patient"),
        ("image,patient,Mass\na,1,1\na,1,0\n", "more than one row for 1 images: a"),
        ("image,patient,Mass\na,1,1\nb,,0\n", "no patient in line 3"),
        ("image,patient,Mass\n,1,1\n", "no image in line 2"),
        ("image,patient,note\na,1,ill\n", "neither a column labels nor one with nothing but 1, 0, -1 and blanks"),
        ("image,patient,labels\na,1,Mass|No Finding\n", "impossible labels of a: Mass, No Finding"),
        ("image,patient,labels\na,1,No Finding\n", "names no finding"),
        ("image,patient,Mass,No Finding\na,1,1,1\n", "images with a finding and No Finding: a"),
        ("image,patient,Mass\nz,1,1\n", "no image of .*labels.csv is in"),
    ],
)
def test_tables_that_cannot_be_used(root, text, words):
    write(root / "labels.csv", text)
    with pytest.raises(InputError, match=words):
        ChestXrayTable(root, table="labels.csv", size=16)


def test_settings_that_cannot_be(root):
    write(root / "labels.csv", "image,patient,Mass,Nodule\na,1,1,7\n")
    for options, words in (
        ({"table": None}, r"data\.format table needs data\.table"),
        ({"table": "other.csv"}, r"no table of labels: neither other\.csv, in "),
        ({"boxes": "none.csv"}, "no table of boxes: neither none.csv"),
        ({"findings": ["Mass", "Nodule"]}, r"the label Nodule of a is '7', neither 1, 0, -1 nor blank"),
        ({"findings": ["Mass", "Rash"]}, "lacks the columns Rash"),
        ({"diseases": ["Rash"]}, "unknown diseases: Rash; the data know Mass, No Finding"),
        ({"format": "rsna", "findings": ["Mass"]}, "rsna has findings of its own"),
        ({"format": "rsna", "boxes": "b.csv"}, "rsna has no file of boxes"),
        ({"format": "chexpert"}, "lacks the columns Path, No Finding"),
        ({"max_value": 0}, "max_value must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            ChestXrayTable(root, **{"table": "labels.csv", "size": 16} | options)
    write(root / "lists.csv", "image,patient,labels\na,1,Rash\n")
    with pytest.raises(InputError, match=r"impossible labels of a: Rash; data\.findings names Mass"):
        ChestXrayTable(root, table="lists.csv", size=16, findings=["Mass"])
    (root / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cannot read .*broken\.parquet"):
        ChestXrayTable(root, table="broken.parquet", size=16)


# --- published tables -----------------------------------------------------------------------------------------------


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def test_chexpert(tmp_path):
    root = tmp_path / "CheXpert-v1.0-small"
    paths = [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study2/view2_lateral.jpg",
    ]
    for k, path in enumerate(paths):
        picture(root / path, np.full((20, 24), 40 * k + 20, np.uint8))
    lines = [
        "Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        "Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        "Male,87,Lateral,,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    ]
    write(
        root / "train.csv", "\n".join([CHEXPERT, *(f"CheXpert-v1.0-small/{p},{line}" for p, line in zip(paths, lines))])
    )
    for top in (root, tmp_path):
        data = ChestXrayTable(top, format="chexpert", size=16, diseases=["Lung Opacity", "Edema", "Support Devices"])
        assert len(data.findings) == 13
        assert labels(data) == [[0, 0, 1], [1, -1, -1], [1, -1, -1]]
        assert data.table["normal"].tolist() == [True, False, False]
        assert data.table["patient"].tolist() == ["patient00001", "patient00002", "patient00002"]
        assert data.table["view"].tolist() == ["AP", "PA", "Lateral"]
        assert data.table["age"].tolist() == [68, 87, 87] and data.table["sex"].tolist() == ["Female", "Male", "Male"]
        assert [item["image"].float().mean().round().item() for item in items(data)] == [20, 60, 100]
    assert labels(
        ChestXrayTable(root, format="chexpert", size=16, missing="negative", diseases=["Fracture", "Pneumonia"])
    ) == [
        [0, 0],
        [1, 0],
        [1, 0],
    ]
    split = split_patients(data.table, 0)
    assert split[1] == split[2]


VINDR = "Aortic enlargement,Cardiomegaly,Nodule/Mass,Pneumonia,Other diseases,No finding"


def vindr(root):
    for k, name in enumerate(("i1", "i2", "i3")):
        pixels = grey(k, 40, 20, 4095)
        (root / "train").mkdir(parents=True, exist_ok=True)
        write_dicom(root / "train" / f"{name}.dicom", pixels)
    votes = [
        "i1,R9,1,0,1,0,0,0", "i1,R10,1,0,0,0,0,0", "i1,R8,0,0,0,0,0,0",
        "i2,R9,0,0,0,0,0,1", "i2,R10,0,0,0,0,0,1", "i2,R8,0,0,0,0,0,1",
        "i3,R1,0,1,0,0,0,0", "i3,R2,0,1,0,0,0,0", "i3,R3,0,1,0,0,0,0",
    ]  # fmt: skip
    write(root / "annotations" / "image_labels_train.csv", "\n".join([f"image_id,rad_id,{VINDR}", *votes]))
    boxes = [
        "i1,R9,Aortic enlargement,2,4,10,20", "i1,R10,Aortic enlargement,2.5,4,10,20", "i1,R9,Nodule/Mass,0,0,4,4",
        "i2,R9,No finding,,,,", "i2,R10,No finding,,,,", "i2,R8,No finding,,,,", "i3,R1,Cardiomegaly,1,1,19,39",
    ]  # fmt: skip
    return write(
        root / "annotations" / "annotations_train.csv",
        "\n".join(["image_id,rad_id,class_name,x_min,y_min,x_max,y_max", *boxes]),
    )


def test_vindr(tmp_path):
    vindr(tmp_path)
    data = ChestXrayTable(tmp_path, format="vindr", size=40, max_value=4095)
    assert data.findings == ("Aortic enlargement", "Cardiomegaly", "Nodule/Mass", "Pneumonia", "Other diseases")
    assert labels(data) == [[1, 0, -1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]  # one of three is uncertain
    assert data.table["normal"].tolist() == [False, True, False]
    assert data.boxes[["image", "disease", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [
        ["i1", "Aortic enlargement", 4, 4, 20, 20],
        ["i1", "Aortic enlargement", 5, 4, 20, 20],
        ["i3", "Cardiomegaly", 2, 1, 38, 39],
    ]
    assert data.inventory.boxes_unknown == data.inventory.boxes_unlabelled == ()
    # the test's labels are the consensus, without readers
    lines = (tmp_path / "annotations" / "image_labels_train.csv").read_text().splitlines()
    test = [f"image_id,{VINDR}", *(",".join(line.split(",")[:1] + line.split(",")[2:]) for line in lines[1::3])]
    write(tmp_path / "annotations" / "image_labels_test.csv", "\n".join(test))
    one = ChestXrayTable(tmp_path, format="vindr", table="annotations/image_labels_test.csv", size=40, max_value=4095)
    assert labels(one)[0] == [1, 0, 1, 0, 0] and one.inventory.box_file is None


def test_the_challenge_of_vindr(tmp_path):
    """Its train.csv has boxes only, with another order of columns and a class number."""
    path = vindr(tmp_path)
    rows = pd.read_csv(path)
    rows["class_id"] = 0
    rows.loc[len(rows)] = ["i1", "R8", "No finding", None, None, None, None, 14]
    rows.loc[len(rows)] = ["i3", "R2", "Cardiomegaly", 0, 0, 20, 40, 3]
    rows.loc[len(rows)] = ["i3", "R3", "No finding", None, None, None, None, 14]
    order = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    rows[order].to_csv(tmp_path / "train.csv", index=False)
    data = ChestXrayTable(tmp_path, format="vindr", table="train.csv", size=40, max_value=4095)
    assert data.findings == ("Aortic enlargement", "Cardiomegaly", "Nodule/Mass")
    assert labels(data) == [[1, 0, -1], [0, 0, 0], [0, 1, 0]]
    assert data.table["normal"].tolist() == [False, True, False]
    assert len(data.boxes) == 4


def test_body_parts_of_published_findings():
    names = [
        "Aortic enlargement",
        "Atelectasis",
        "Calcification",
        "Cardiomegaly",
        "Clavicle fracture",
        "Consolidation",
        "Edema",
        "Emphysema",
        "Enlarged PA",
        "ILD",
        "Infiltration",
        "Lung Opacity",
        "Lung cavity",
        "Lung cyst",
        "Mediastinal shift",
        "Nodule/Mass",
        "Pleural effusion",
        "Pleural thickening",
        "Pneumothorax",
        "Pulmonary fibrosis",
        "Rib fracture",
        "Other lesion",
        "COPD",
        "Lung tumor",
        "Pneumonia",
        "Tuberculosis",
        "Other diseases",
        "No finding",
    ][:-1]
    assert len(names) == 27
    parts = dict(zip(names, body_parts(names).tolist()))
    assert parts["Rib fracture"] == parts["Clavicle fracture"] != parts["Pleural effusion"] == parts["Pneumothorax"]
    chexpert = CHEXPERT.split(",")[6:]
    assert len(chexpert) == 13 == len(body_parts(chexpert))


def test_rsna(tmp_path):
    folder = tmp_path / "stage_2_train_images"
    folder.mkdir()
    for k, name in enumerate(("0004cfab", "00436515", "00569f44")):
        write_dicom(folder / f"{name}.dcm", grey(k, 64, 64))
    lines = [
        "0004cfab,,,,,0",
        "00436515,264.0,152.0,256.0,512.0,1",
        "00436515,562.0,152.0,256.0,453.0,1",
        "00569f44,,,,,0",
    ]
    write(tmp_path / "stage_2_train_labels.csv", "\n".join(["patientId,x,y,width,height,Target", *lines]))
    data = ChestXrayTable(tmp_path, format="rsna", size=32)
    assert data.findings == ("Pneumonia",) and labels(data) == [[0], [1], [0]]
    assert data.table["normal"].tolist() == [True, False, True]
    assert (data.boxes[["x1", "y1", "x2", "y2"]] * 32).to_numpy().tolist() == [
        [264, 152, 520, 664],
        [562, 152, 818, 605],
    ]
    assert data[1]["boxes"].tolist() == [[264 / 32, 152 / 32, 520 / 32, 664 / 32]]
    classes = [
        "0004cfab,No Lung Opacity / Not Normal",
        "00436515,Lung Opacity",
        "00436515,Lung Opacity",
        "00569f44,Normal",
    ]
    write(tmp_path / "stage_2_detailed_class_info.csv", "\n".join(["patientId,class", *classes]))
    detailed = ChestXrayTable(tmp_path, format="rsna", size=32)
    assert detailed.table["normal"].tolist() == [False, False, True]
    assert labels(detailed) == [[0], [1], [0]]
    write(
        tmp_path / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target\n0004cfab,,,,,0\n0004cfab,1,1,2,2,1\n"
    )
    with pytest.raises(InputError, match="with and without the target: 0004cfab"):
        ChestXrayTable(tmp_path, format="rsna", size=32)


# --- the data module ------------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path):
    """Twenty patients of two images; 16 bits."""
    lines = []
    for k in range(40):
        picture(tmp_path / "cohort" / f"{k:02d}.png", grey(k, 16, 20, 65535))
        lines.append(f"{k:02d},patient {k // 2},{k % 2},{-1 if k % 5 == 0 else 0}")
    write(tmp_path / "cohort" / "labels.csv", "\n".join(["image,patient,Mass,Scoliosis", *lines]))
    boxes = [f"{k:02d},Mass,2,2,8,9" for k in range(1, 40, 8)]
    write(tmp_path / "cohort" / "boxes.csv", "\n".join(["image,label,x1,y1,x2,y2", *boxes]))
    return tmp_path / "cohort"


def opened(root, **options):
    module = ChestXrays(root, **{"size": 16, "batch_size": 4, "workers": 0} | options)
    module.prepare_data()
    module.setup()
    return module


def test_a_table_in_the_data_module(cohort):
    settings = {"format": "table", "table": "labels.csv", "boxes": "boxes.csv", "max_value": 65535}
    module = opened(cohort, **settings)
    assert module.diseases == module.findings == ("Mass", "Scoliosis")
    sets = [module.train, module.validation, module.test]
    assert sum(map(len, sets)) == 40 and all(len(part) for part in sets)
    patients = [set(part.table["patient"]) for part in sets]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].dtype == torch.float32 and batch["image"].max() > 255
    assert batch["labels"].shape == batch["findings"].shape == (4, 2) and batch["boxes"].shape == (4, 2, 4)
    again = ChestXrays(**module.hparams)
    again.setup()
    assert (again.fingerprint, again.data_fingerprint) == (module.fingerprint, module.data_fingerprint)
    again.load_state_dict(module.state_dict())
    text = (cohort / "labels.csv").read_text()
    write(cohort / "labels.csv", text.replace("00,patient 0,0", "00,patient 0,1"))
    other = opened(cohort, **settings)
    assert other.fingerprint == module.fingerprint
    with pytest.raises(InputError, match="trained with other labels, patients or boxes"):
        other.load_state_dict(module.state_dict())
    part = opened(cohort, **settings, diseases=["Mass", "No Finding"])
    assert part.diseases == ("Mass", "No Finding") and part.findings == ("Mass", "Scoliosis")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "nih", "table": "labels.csv"}, r"data.table: not for NIH ChestX-ray14.*data\.format table"),
        ({"format": "nih", "max_value": 4095}, "have 8 bits"),
        (
            {"format": "nih", "findings": ["Mass"]},
            r"data\.findings is for data\.format table; the findings of nih are A",
        ),
        ({"format": "table"}, r"needs data\.table"),
        ({"format": "table", "table": "none.csv"}, "no table of labels"),
        ({"format": "chexpert"}, r"no table of labels: neither train\.csv nor"),
        ({"format": "table", "table": "labels.csv", "diseases": ["Rash"]}, "unknown diseases: Rash"),
        ({"format": "table", "table": "labels.csv", "max_value": 0}, "max_value must be positive"),
    ],
)
def test_settings_of_the_data_module_that_cannot_be(cohort, options, words):
    with pytest.raises(InputError, match=words):
        ChestXrays(cohort, **options)


def test_images_of_other_intensities_are_refused_before_training(cohort):
    module = ChestXrays(cohort, format="table", table="labels.csv", size=16)
    with pytest.raises(InputError, match=r"00\.png: not an image of 8 bits: .*max_value is 255"):
        module.setup()


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ChestXrays(tmp_path / "nowhere", format="table", table="labels.csv")


PROCESS = """
import sys
import torch.distributed as dist
from kacl_gpu.kacl.data.datamodule import ChestXrays
rank, store, root, runs = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
for run in runs:
    table, split = run.split("|")[rank].split(":")
    try:
        module = ChestXrays(root, format="table", table=table, size=16, max_value=65535, split_file=split)
        module.setup()
        print("equal", module.fingerprint)
    except Exception as error:
        print(type(error).__name__, error)
dist.destroy_process_group()
"""


def test_processes_compare_their_data_and_split(tmp_path, cohort):
    """Two processes, as on two nodes: with one data set, another label, another split, and without a split file."""
    split, swapped, none = (tmp_path / f"{name}.csv" for name in ("split", "swapped", "none"))
    opened(cohort, format="table", table="labels.csv", max_value=65535, split_file=split)
    text = (cohort / "labels.csv").read_text()
    write(cohort / "other.csv", text.replace("00,patient 0,0", "00,patient 0,1"))
    write(swapped, split.read_text().replace("train", "?").replace("test", "train").replace("?", "test"))
    runs = [
        f"labels.csv:{split}|{second}"
        for second in (f"labels.csv:{split}", f"other.csv:{split}", f"labels.csv:{swapped}", f"labels.csv:{none}")
    ]
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    options: dict = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
        "text": True,
        "cwd": Path(__file__).parents[2],
    }
    own = [[str(rank), str(tmp_path / "store"), str(cohort), *runs] for rank in (0, 1)]
    started = [subprocess.Popen([*command, *arguments], **options) for arguments in own]
    first, second = (process.communicate(timeout=300)[0].splitlines() for process in started)
    assert first == second and len(first) == 4
    same, data, sets, missing = first
    assert same.startswith("equal ")
    assert data.startswith("InputError process 1 of 2 has other images, labels or boxes than process 0: make the fol")
    assert sets.startswith("InputError process 1 of 2 has another split than process 0")
    assert missing.startswith(f"InputError process 1: no such split file: {none}: prepare_data writes it")


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_network_sees_intensities_by_white():
    torch.manual_seed(0)
    deep = KACL(weights=None, max_value=65535).eval()
    plain = KACL(weights=None).eval()
    plain.load_state_dict(deep.state_dict())
    images = torch.randint(0, 65536, (2, 1, 64, 64)).float()
    torch.testing.assert_close(deep(images), plain(images / 257), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(deep(images), plain(images), rtol=0.1)


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    """The files of docs/kacl.md, "Your own data", on drawn images of 16 bits."""
    text = (Path(__file__).parents[2] / "docs" / "kacl.md").read_text()
    section = text.split("## Your own data")[1].split("\n## ")[0]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    header, *lines = blocks["csv"].strip().splitlines()
    rows = [line.split(",") for line in lines]
    boxes = ["image,label,x1,y1,x2,y2"]
    for k in range(48):
        image, _, *rest = rows[k % len(rows)]
        pixels = grey(k, 64, 64, 60000)
        if rest[0] == "1":
            pixels[20:40, 10:50] //= 4
            boxes.append(f"{k}_{image},Cardiomegaly,10,20,50,40")
        picture(tmp_path / "xrays" / f"{k}_{image}", pixels)
        lines[k:] = [",".join([f"{k}_{image}", f"patient {k}", *rest])]
    write(tmp_path / "xrays" / "labels.csv", "\n".join([header, *lines]))
    write(tmp_path / "xrays" / "boxes.csv", "\n".join(boxes))
    write(tmp_path / "mine.yaml", blocks["yaml"])
    (line,) = [line for line in blocks["bash"].splitlines() if line.startswith("kacl-gpu fit")]
    small = "--data.size=48 --data.batch_size=8 --data.workers=0 --model.weights=null --trainer.max_epochs=2"
    quiet = "--trainer.enable_progress_bar=false --trainer.accelerator=cpu --panels_every=1"
    run = fit([*shlex.split(line)[2:], "--model.warmup_epochs=1", *small.split(), *quiet.split()])
    assert run.model.diseases == run.model.findings == ["Cardiomegaly", "Scoliosis"]
    assert run.model.encoder.max_value == run.model.hparams["max_value"] == 65535
    assert run.model.body_parts.unique().numel() == 2
    metrics = pd.read_csv(tmp_path / "runs" / "mine" / "metrics.csv")
    assert len(metrics) == 2 and np.isfinite(metrics["train/contrastive"][1])
    assert metrics["train/invalid"][1] == 0
    checkpoint = KACL.load_from_checkpoint(tmp_path / "runs" / "mine" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint.encoder.max_value == 65535


def test_a_finding_without_a_body_part(cohort):
    settings = "--data.format=table --data.table=labels.csv --data.max_value=65535 --model.weights=null"
    with pytest.raises(InputError, match=r"no body part is known of Scoliosis: name it in model\.body_parts"):
        command([f"--data.root={cohort}", *settings.split(), "--trainer.logger=false", "--trainer.accelerator=cpu"])
