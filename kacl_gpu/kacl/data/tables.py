"""Tables of labels and boxes: one's own, and those of CheXpert, VinDr-CXR and the RSNA pneumonia challenge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from kacl_gpu.errors import InputError, check_choice
from kacl_gpu.io.boxes import Target, read_boxes
from kacl_gpu.kacl.data.annotations import (
    Annotations,
    find_file,
    first_names,
    fold,
    join_labels,
    need_columns,
    need_images_once,
    read_texts,
)
from kacl_gpu.kacl.data.diseases import NO_FINDING

Format = Literal["table", "chexpert", "vindr", "rsna"]
Missing = Literal["ignored", "negative"]

FURTHER = {"age": float, "sex": str, "view": str, "width": float, "height": float}  # columns that are kept
RESERVED = {"image", "patient", "labels", "normal", *FURTHER, fold(NO_FINDING)}

CHEXPERT_TABLES = ("train.csv", "CheXpert-v1.0/train.csv", "CheXpert-v1.0-small/train.csv")
CHEXPERT = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
VINDR_TABLES = ("annotations/image_labels_train.csv", "image_labels_train.csv", "train.csv")
RSNA_TABLES = ("stage_2_train_labels.csv", "stage_1_train_labels.csv")
RSNA = ("Pneumonia",)
RSNA_FRAME = 1024  # side of all images of the challenge, in whose pixels its boxes are


def read_annotations(
    root: Path,
    format: Format,
    *,
    table: str | Path | None = None,
    boxes: str | Path | None = None,
    findings: Sequence[str] | None = None,
    missing: Missing = "ignored",
) -> Annotations:
    """Read the labels and boxes of a data set.

    Args:
        root: folder of the data set.
        format: table: see `read_table`; chexpert, vindr, rsna: see `read_chexpert`, `read_vindr`, `read_rsna`.
        table: file of the labels, in the working directory or in `root`; None: the published name.
        boxes: file of the boxes, likewise; None: the published name, or none.
        findings: names of all findings, if they are not to be taken from the table; only of the format table.
        missing: meaning of a blank label in an image that is not normal: ignored (as an uncertain one, -1) or negative.

    Raises:
        InputError: a file is missing or cannot be used, or a setting is not one of the format.
    """
    check_choice("format", format, Format)
    check_choice("missing", missing, Missing)
    if format == "table":
        if table is None:
            raise InputError("data.format table needs data.table: a CSV or Parquet file with columns image and patient")
        box_file = None if boxes is None else _find(root, (boxes,), "boxes")
        return read_table(_find(root, (table,), "labels"), box_file, findings=findings, missing=missing)
    if findings is not None:
        raise InputError(f"data.findings is for data.format table; {format} has findings of its own")
    if format in ("chexpert", "rsna") and boxes is not None:
        raise InputError(f"data.boxes is for data.format table and vindr; {format} has no file of boxes of its own")
    if format == "chexpert":
        return read_chexpert(_find(root, CHEXPERT_TABLES if table is None else (table,), "labels"), missing=missing)
    if format == "vindr":
        source = _find(root, VINDR_TABLES if table is None else (table,), "labels")
        published = source.with_name(source.name.replace("image_labels", "annotations"))
        box_file = _find(root, (boxes,), "boxes") if boxes is not None else published if published.is_file() else None
        return read_vindr(source, box_file)
    return read_rsna(_find(root, RSNA_TABLES if table is None else (table,), "labels"))


def _find(root: Path, names: Sequence[str | Path], purpose: str) -> Path:
    """Return the first file that exists, named from the working directory or from the folder."""
    for name in names:
        for path in (Path(name), root / name):
            if path.is_file():
                return path
    raise InputError(f"no table of {purpose}: neither {' nor '.join(map(str, names))}, in {root} or as it stands")


def read_table(
    path: Path, box_file: Path | None = None, *, findings: Sequence[str] | None = None, missing: Missing = "ignored"
) -> Annotations:
    """Read a table of one's own.

    It has the columns image (a name, with or without folder and suffix) and patient (any text), and the labels in one
    of two forms: a column labels with names and ``|`` between them, or a column for each finding with 1, 0, -1 for
    uncertain, or nothing. "No Finding" is a name or a column like others; without it, an image is normal if none of its
    findings is positive, uncertain or ignored. Columns age (years), sex, view, width and height (of the image whose
    pixels the boxes are in, if it is not the stored one) are kept; others are not read.

    Args:
        path: CSV or Parquet.
        box_file: boxes, see `kacl_gpu.io.boxes.read_boxes`; their label is the name of a finding.
        findings: names of the columns, or of all that the lists may name. None: all columns that have no other meaning
            and hold nothing but labels, or all names in the lists.
        missing: see `read_annotations`.

    Raises:
        InputError: a file cannot be read; a column is missing; an image twice; a label that is none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = path.write_text("image,patient,labels\\na.png,1,Mass|Rib fracture\\nb.png,2,No Finding\\n")
        >>> read_table(path).table[["image", "normal", "Mass", "Rib fracture"]].to_numpy().tolist()
        [['a.png', False, 1, 1], ['b.png', True, 0, 0]]
    """
    raw = read_texts(path)
    if "patient" not in raw and "image" in raw:
        raise InputError(
            f"{path} lacks the column patient, by which images are split: add it, with the image's name if each "
            "patient has one image"
        )
    need_columns(path, raw, ("image", "patient"))
    need_images_once(path, raw)
    if "labels" in raw:
        labels, normal = _from_lists(path, raw, findings)
    else:
        labels, normal = _from_columns(path, raw, findings)
    table = _with_labels(raw, labels, normal, missing)
    names = tuple(map(str, labels))
    spelling = {fold(name): name for name in names}
    targets = [] if box_file is None else [_named(target, spelling) for target in read_boxes(box_file)]
    return Annotations(path, box_file, names, table, targets)


def _named(target: Target, spelling: dict[str, str]) -> Target:
    """Return a box with its label as the table spells it."""
    label = spelling.get(fold(target.label), target.label)
    return Target(target.image, label, target.box, target.frame, target.problem)


def _from_lists(
    path: Path, raw: pd.DataFrame, findings: Sequence[str] | None
) -> tuple[pd.DataFrame, pd.Series[bool] | None]:
    """Return a column per finding, NaN where nothing is said, and which images are normal, from lists of names."""
    lists = [[name.strip() for name in cell.split("|") if name.strip()] for cell in raw["labels"]]
    no_finding = fold(NO_FINDING)
    every = dict.fromkeys(name for names in lists for name in names if fold(name) != no_finding)
    names = sorted(every) if findings is None else [name for name in findings if fold(name) != no_finding]
    known = {fold(name) for name in names} | {no_finding}
    for image, labels in zip(raw["image"], lists):
        folded = {fold(name) for name in labels}
        if not folded <= known or (no_finding in folded and len(folded) > 1):
            allowed = "" if folded <= known else f"; data.findings names {', '.join(names)}"
            raise InputError(f"{path}: impossible labels of {image}: {', '.join(labels)}{allowed}")
    if not names:
        raise InputError(f"{path} names no finding in its column labels")
    each = [{fold(name) for name in labels} for labels in lists]
    columns = {name: [float(fold(name) in labels) if labels else np.nan for labels in each] for name in names}
    normal = pd.Series([no_finding in labels for labels in each])
    return pd.DataFrame(columns), normal if normal.any() else None


def _from_columns(
    path: Path, raw: pd.DataFrame, findings: Sequence[str] | None
) -> tuple[pd.DataFrame, pd.Series[bool] | None]:
    """Return a column per finding, NaN where nothing is said, and which images are normal, from columns."""
    if findings is None:
        names = [name for name in map(str, raw) if name and fold(name) not in RESERVED and _is_label(raw[name]).all()]
        if not names:
            raise InputError(
                f"{path} has neither a column labels nor one with nothing but 1, 0, -1 and blanks; "
                f"its columns: {', '.join(raw.columns)}"
            )
    else:
        names = [name for name in findings if fold(name) != fold(NO_FINDING)]
        need_columns(path, raw, names)
    labels = pd.DataFrame({name: _numbers(path, raw, name) for name in names})
    column = next((name for name in map(str, raw) if fold(name) == fold(NO_FINDING)), None)
    if column is None:
        return labels, None
    normal = _numbers(path, raw, column) == 1
    if (contradictions := normal & (labels == 1).any(axis=1)).any():
        raise InputError(f"{path}: images with a finding and {column}: {first_names(raw['image'][contradictions])}")
    return labels, normal


def _is_label(column: pd.Series[str]) -> pd.Series[bool]:
    """Return True for 1, 0, -1 and blanks, as whole numbers or not."""
    return column.isin(["", "1", "0", "-1", "1.0", "0.0", "-1.0"])


def _numbers(path: Path, raw: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return a column of labels as numbers, NaN for blanks."""
    if not (known := _is_label(raw[name])).all():
        row = (~known).to_numpy().argmax()
        raise InputError(
            f"{path}: the label {name} of {raw['image'][row]} is {raw[name][row]!r}, neither 1, 0, -1 nor blank"
        )
    return pd.to_numeric(raw[name], errors="coerce")


def _with_labels(
    raw: pd.DataFrame, labels: pd.DataFrame, normal: pd.Series[bool] | None, missing: Missing
) -> pd.DataFrame:
    """Return image, patient, labels, normal, the findings without blanks, and the further columns."""
    table = raw[["image", "patient"]].copy()
    blank = 0 if missing == "negative" else -1
    if normal is None:
        normal = (labels.fillna(blank) == 0).all(axis=1)
    healthy = labels.where(labels.notna() | ~normal.to_numpy()[:, None], 0)
    labels = healthy.fillna(blank).astype(int)
    table["labels"] = join_labels(labels, [*labels], normal)
    table["normal"] = normal.to_numpy(bool)
    for name, kind in FURTHER.items():
        if name in raw:
            table[name] = pd.to_numeric(raw[name], errors="coerce") if kind is float else raw[name]
    return pd.concat([table, labels], axis=1)


def read_chexpert(path: Path, *, missing: Missing = "ignored") -> Annotations:
    """Read ``train.csv`` or ``valid.csv`` of CheXpert.

    Its columns are Path (``CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg``), Sex, Age,
    Frontal/Lateral, AP/PA, and fourteen labels, 1, 0, -1 or blank, the first of them No Finding. An image with No
    Finding is normal; it may have Support Devices. The view is the frontal one's AP or PA, or Lateral.

    Source: Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison",
    AAAI 2019.

    Raises:
        InputError: the file cannot be read, or is not in this form.
    """
    raw = read_texts(path)
    need_columns(path, raw, ("Path", NO_FINDING, *CHEXPERT))
    raw = raw.rename(columns={"Path": "image", "Sex": "sex", "Age": "age"})
    raw["patient"] = raw["image"].str.extract(r"(patient\d+)", expand=False).fillna("")
    if len(wrong := raw["image"][raw["patient"] == ""]):
        raise InputError(f"{path}: no patient in the paths of {len(wrong)} images: {first_names(wrong)}")
    if {"Frontal/Lateral", "AP/PA"} <= {*raw}:
        raw["view"] = raw["AP/PA"].where(raw["Frontal/Lateral"] != "Lateral", "Lateral")
    need_images_once(path, raw)
    labels = pd.DataFrame({name: _numbers(path, raw, name) for name in CHEXPERT})
    table = _with_labels(raw, labels, _numbers(path, raw, NO_FINDING) == 1, missing)
    return Annotations(path, None, CHEXPERT, table)


def read_vindr(path: Path, box_file: Path | None = None) -> Annotations:
    """Read the labels and boxes of VinDr-CXR, or of the Kaggle challenge that had a part of it.

    ``image_labels_train.csv`` has the columns image_id, rad_id and a 0 or 1 for each of 28 labels, one row for each of
    three readers; that of the test has one row per image, without rad_id. ``annotations_train.csv`` has image_id,
    rad_id, class_name, x_min, y_min, x_max, y_max, in pixels of the DICOM image. The challenge's ``train.csv`` has only
    the latter, with a row "No finding" of each reader who saw nothing.

    A finding is positive if more than half of the readers name it, negative if nobody does, else uncertain (-1). Boxes
    are kept of positive findings; each reader's is one. Patients are not published: each image is its own.

    Source: Nguyen et al., "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations", Scientific Data
    9, 2022.

    Raises:
        InputError: a file cannot be read, or is not in this form.
    """
    raw = read_texts(path)
    need_columns(path, raw, ("image_id",))
    boxes = None if box_file is None else read_texts(box_file)
    if "class_name" in raw:  # the challenge's
        box_file, boxes = path, raw
        names = sorted({*raw["class_name"]})
        opinions = raw.drop_duplicates(["image_id", "rad_id", "class_name"]).assign(vote=1.0)
        votes = opinions.pivot_table(index="image_id", columns="class_name", values="vote", aggfunc="sum", fill_value=0)
        readers = raw.groupby("image_id")["rad_id"].nunique()
    else:
        names = [name for name in raw if name not in ("image_id", "rad_id") and name]
        raw = raw.rename(columns={"image_id": "image"})
        each = pd.DataFrame({name: _numbers(path, raw, name).fillna(0) for name in names})
        votes = each.groupby(raw["image"], sort=False).sum()
        readers = raw.groupby("image", sort=False).size()
    share = votes.div(readers, axis=0)
    normal_column = next((name for name in names if fold(name) == fold(NO_FINDING)), None)
    findings = tuple(name for name in names if name != normal_column)
    labels = pd.DataFrame(np.select([share > 0.5, share == 0], [1, 0], -1), columns=[*share])
    normal = pd.Series(labels[normal_column] == 1) if normal_column else None
    images = [*share.index]
    table = _with_labels(
        pd.DataFrame({"image": images, "patient": images}), labels[[*findings]].astype(float), normal, "ignored"
    )
    targets: list[Target] = []
    if boxes is not None:
        assert box_file is not None
        need_columns(box_file, boxes, ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max"))
        positive = {image: {*text.split("|")} for image, text in zip(table["image"], table["labels"])}
        rows = boxes[
            [name in positive.get(image, {name}) for image, name in boxes[["image_id", "class_name"]].to_numpy()]
        ]
        rows = rows[[fold(name) != fold(NO_FINDING) for name in rows["class_name"]]]
        targets = _targets(rows, "image_id", "class_name", ("x_min", "y_min", "x_max", "y_max"))
    return Annotations(path, box_file, findings, table, targets)


def read_rsna(path: Path) -> Annotations:
    """Read ``stage_2_train_labels.csv`` of the RSNA Pneumonia Detection Challenge 2018.

    It has the columns patientId, x, y, width, height and Target, with a row for each box, or one row with Target 0.
    patientId names the image (``<patientId>.dcm``). Of ``stage_2_detailed_class_info.csv`` beside it, the class
    Normal tells the normal images; without that file those without Target are taken for normal.

    Source: Shih et al., "Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations
    of Possible Pneumonia", Radiology: Artificial Intelligence 1(1), 2019.

    Raises:
        InputError: a file cannot be read, or is not in this form; an image has and has not the target.
    """
    raw = read_texts(path)
    need_columns(path, raw, ("patientId", "x", "y", "width", "height", "Target"))
    raw = raw.rename(columns={"patientId": "image"})
    target = _numbers(path, raw, "Target").groupby(raw["image"], sort=False).agg(["min", "max"])
    if len(contradictions := target.index[target["min"] != target["max"]]):
        raise InputError(f"{path}: images with and without the target: {first_names(contradictions)}")
    images = [*target.index]
    labels = pd.DataFrame({RSNA[0]: target["max"].to_numpy()})
    normal = None
    classes = find_file(path.parent, [path.name.replace("train_labels", "detailed_class_info")])
    if classes is not None and classes != path:
        info = read_texts(classes)
        need_columns(classes, info, ("patientId", "class"))
        normal = pd.Series(target.index.isin(info["patientId"][info["class"] == "Normal"]))
    table = _with_labels(pd.DataFrame({"image": images, "patient": images}), labels, normal, "ignored")
    rows = raw[raw["Target"].str.startswith("1")].assign(label=RSNA[0])
    numbers = rows[["x", "y", "width", "height"]].apply(pd.to_numeric, errors="coerce")
    corners = rows.assign(x2=numbers["x"] + numbers["width"], y2=numbers["y"] + numbers["height"])
    targets = _targets(corners, "image", "label", ("x", "y", "x2", "y2"), frame=RSNA_FRAME)
    return Annotations(path, path, RSNA, table, targets)


def _targets(
    rows: pd.DataFrame, image: str, label: str, corners: Sequence[str], frame: int | None = None
) -> list[Target]:
    """Return the boxes in the rows of a table; one without four numbers becomes a target without a box."""
    numbers = rows[[*corners]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    return [
        Target(name, kind, (box[0], box[1], box[2], box[3]) if not np.isnan(box).any() else None, frame)
        for name, kind, box in zip(rows[image], rows[label], numbers.tolist())
    ]
