"""The files of NIH ChestX-ray14: the CSVs as published, and as copies spell them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import NIH_FRAME, Target, read_boxes
from kacl_gpu.kacl.data.annotations import (
    Annotations,
    find_file,
    first_names,
    fold,
    need_columns,
    need_images_once,
    read_csv,
)
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, NO_FINDING

# The first that exists is read: the newer table has ages corrected; the last one is that of Kaggle's sample of 5,606
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")
BOXES = ("BBox_List_2017.csv", "BBox_List_2017_Official_NIH.csv")
COLUMNS = {
    "Image Index": "image",
    "Patient ID": "patient",
    "Finding Labels": "labels",
    "Follow-up #": "follow_up",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "Patient Sex": "sex",
    "View Position": "view",
    # The published header names two columns each, unquoted, so that the comma parts them
    "OriginalImage[Width": "width",
    "Height]": "height",
    "OriginalImagePixelSpacing[x": "spacing_x",
    "y]": "spacing_y",
    "OriginalImageWidth": "width",
    "OriginalImageHeight": "height",
    "OriginalImagePixelSpacing_x": "spacing_x",
    "OriginalImagePixelSpacing_y": "spacing_y",
}
NEEDED = tuple(COLUMNS)[:3]
LABELS = {fold(name): name for name in (NO_FINDING, *ALL_DISEASES)}
LABELS["infiltrate"] = "Infiltration"
YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "D": 1 / 365.25}  # 2017 writes ages as 058Y, 013M or 011D; 2020 in years


def read_nih(root: Path) -> Annotations:
    """Read the tables of labels and boxes in a folder of NIH ChestX-ray14.

    Raises:
        InputError: there is no table of labels, or a table cannot be used, see `read_table`.
    """
    source = find_file(root, TABLES)
    if source is None:
        raise InputError(f"no table of labels in {root}: neither {' nor '.join(TABLES)}")
    table = read_table(source)
    box_file = find_file(root, BOXES)
    return Annotations(source, box_file, ALL_DISEASES, table, read_nih_boxes(box_file) if box_file else ())


def read_table(path: Path) -> pd.DataFrame:
    """Read ``Data_Entry_2017.csv``: those of `COLUMNS` that it has, then normal, and 0/1 for each of fourteen diseases.

    Labels are known whatever their case, with blanks for underscores, and ``Infiltrate`` for Infiltration.

    Raises:
        InputError: unreadable, without the columns of image, patient and labels, a label that is none of the
            fourteen, a patient that is no number, or an image twice.
    """
    raw = read_csv(path).rename(columns=str.strip)
    need_columns(path, raw, NEEDED)
    table = raw.rename(columns=COLUMNS)[[COLUMNS[name] for name in COLUMNS if name in raw]]
    table = table.apply(lambda column: column.str.strip())
    if len(wrong := table["image"][~table["patient"].str.fullmatch(r"\d+")]):
        raise InputError(f"{path}: the patient of {len(wrong)} images is not a number: {first_names(wrong)}")
    need_images_once(path, table)
    table["patient"] = table["patient"].astype(int)
    if "age" in table:
        age = table["age"].str.extract(r"^(\d+)([YMD]?)$")
        table["age"] = pd.to_numeric(age[0]) * age[1].map(YEARS)
    for name in {"follow_up", "width", "height", "spacing_x", "spacing_y"} & set(table.columns):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    every = [{canonical_label(label) for label in labels.split("|")} for labels in table["labels"]]
    known = {NO_FINDING, *ALL_DISEASES}
    for image, labels in zip(table["image"], every):
        if not labels <= known or (NO_FINDING in labels and len(labels) > 1):
            raise InputError(f"{path}: impossible labels of {image}: {', '.join(sorted(labels))}")
    table["labels"] = ["|".join(map(canonical_label, labels.split("|"))) for labels in table["labels"]]
    table["normal"] = table["labels"] == NO_FINDING
    for disease in ALL_DISEASES:
        table[disease] = [int(disease in labels) for labels in every]
    return table


def canonical_label(label: str) -> str:
    """Return a label as NIH's table writes it; an unknown one as it is.

    Example:
        >>> canonical_label("pleural thickening"), canonical_label("no finding"), canonical_label("Cold")
        ('Pleural_Thickening', 'No Finding', 'Cold')
    """
    return LABELS.get(fold(label), label.strip())


def read_nih_boxes(path: Path) -> list[Target]:
    """Read ``BBox_List_2017.csv``, with labels as NIH's table writes them.

    Raises:
        InputError: unreadable, or with another header than NIH's.
    """
    targets = read_boxes(path)
    if any(target.box and target.frame != NIH_FRAME for target in targets):
        raise InputError(f"the header of {path} is not NIH's")
    return [replace(target, label=canonical_label(target.label), frame=NIH_FRAME) for target in targets]
