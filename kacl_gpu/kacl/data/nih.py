"""The CSVs of NIH ChestX-ray14 as published, and a report of what goes with them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import BOX_COLUMNS, NIH_FRAME, read_boxes
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, NO_FINDING

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")  # the first that is there: the newer has ages corrected
BOXES = "BBox_List_2017.csv"
COLUMNS = {
    "Image Index": "image",
    "Patient ID": "patient",
    "Finding Labels": "findings",
    "Follow-up #": "follow_up",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "Patient Sex": "sex",
    "View Position": "view",
    # the header names two columns each, unquoted, so the comma parts them
    "OriginalImage[Width": "width",
    "Height]": "height",
    "OriginalImagePixelSpacing[x": "spacing_x",
    "y]": "spacing_y",
}
NEEDED = tuple(COLUMNS)[:3]
YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "D": 1 / 365.25}  # 2017 writes ages as 058Y, 013M or 011D; 2020 in years


@dataclass(frozen=True)
class Report:
    """What a folder holds and what it lacks; names are file names, boxes are ``image: label``."""

    table: Path
    box_file: Path | None
    images: int  # rows of the table
    files: int
    usable: int  # rows with a file: the dataset
    annotated: int  # of these, images with at least one usable box
    boxes: int  # usable, of any disease
    without_file: tuple[str, ...]  # rows, left out
    without_row: tuple[str, ...]  # files, left out
    unreadable: tuple[str, ...]  # left out when the folder was prepared, see its errors.csv
    boxes_without_image: tuple[str, ...]  # left out
    boxes_unknown: tuple[str, ...]  # of a disease that is none of the 14, left out
    boxes_malformed: tuple[str, ...]  # no four numbers, no area, or outside the image; left out
    boxes_unlabelled: tuple[str, ...]  # of a disease that the table does not give the image; kept

    def __str__(self) -> str:
        boxes = f"{self.boxes} boxes on {self.annotated} images" if self.box_file else f"no {BOXES}, so no boxes"
        problems = {
            "images in the table without a file, left out": self.without_file,
            "files without a row in the table, left out": self.without_row,
            "images that could not be read, left out": self.unreadable,
            "boxes without an image, left out": self.boxes_without_image,
            "boxes of an unknown disease, left out": self.boxes_unknown,
            "boxes malformed, left out": self.boxes_malformed,
            "boxes of a disease that the table does not give the image, kept": self.boxes_unlabelled,
        }
        lines = [f"{self.table}: {self.images} images, {self.files} files, {self.usable} usable; {boxes}"]
        lines += [f"{len(names)} {what}: {some(names)}" for what, names in problems.items() if names]
        return "\n  ".join(lines)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV as text, what is missing as empty; an unreadable one is an InputError."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
        return table.fillna("")  # lines cut short
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def read_table(path: Path) -> pd.DataFrame:
    """Read ``Data_Entry_2017.csv``: the columns of `COLUMNS` that it has, then one 0/1 a disease, for all fourteen.

    Raises:
        InputError: unreadable, without the columns of image, patient and labels, a label that is none of the
            fourteen, a patient that is no number, or an image twice.
    """
    raw = read_csv(path).rename(columns=str.strip)
    table = raw.rename(columns=COLUMNS)[[COLUMNS[name] for name in COLUMNS if name in raw]]
    if lacking := [name for name in NEEDED if name not in raw]:
        raise InputError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(raw.columns) or 'none'}")
    table = table.apply(lambda column: column.str.strip())
    if len(twice := table["image"][table["image"].duplicated()]):
        raise InputError(f"{path} has more than one row for {len(twice)} images: {some(twice)}")
    if len(wrong := table["image"][~table["patient"].str.fullmatch(r"\d+")]):
        raise InputError(f"{path}: the patient of {len(wrong)} images is not a number: {some(wrong)}")
    table["patient"] = table["patient"].astype(int)
    if "age" in table:
        age = table["age"].str.extract(r"^(\d+)([YMD]?)$")
        table["age"] = pd.to_numeric(age[0]) * age[1].map(YEARS)
    for name in {"follow_up", "width", "height", "spacing_x", "spacing_y"} & set(table.columns):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    found = [{label.strip() for label in findings.split("|")} for findings in table["findings"]]
    known = {NO_FINDING, *ALL_DISEASES}
    for image, labels in zip(table["image"], found):
        if not labels <= known or (NO_FINDING in labels and len(labels) > 1):
            raise InputError(f"{path}: impossible labels of {image}: {', '.join(sorted(labels))}")
    for disease in ALL_DISEASES:
        table[disease] = [int(disease in labels) for labels in found]
    return table


def read_box_file(root: Path, table: pd.DataFrame, size: int) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """The boxes on images of the table, in pixels of images of this size, and those that are not as they should be."""
    rows = {image: row for row, image in enumerate(table["image"])}
    kept = []
    problems: dict[str, list[str]] = {
        "boxes_without_image": [],
        "boxes_unknown": [],
        "boxes_malformed": [],
        "boxes_unlabelled": [],
    }
    for region in read_boxes(root / BOXES) if (root / BOXES).is_file() else []:
        if region.box and region.frame != NIH_FRAME:
            raise InputError(f"the header of {root / BOXES} is not NIH's")
        x1, y1, x2, y2 = region.box or (math.nan,) * 4
        name = f"{region.image}: {region.label}"
        inside = max(x1, 0) < min(x2, NIH_FRAME) and max(y1, 0) < min(y2, NIH_FRAME)
        if not (inside and all(map(math.isfinite, (x1, y1, x2, y2)))):
            problems["boxes_malformed"].append(name)
        elif region.label not in ALL_DISEASES:
            problems["boxes_unknown"].append(name)
        elif region.image not in rows:
            problems["boxes_without_image"].append(name)
        else:
            if not table[region.label][rows[region.image]]:
                problems["boxes_unlabelled"].append(name)
            kept.append((region.image, rows[region.image], region.label, *region.pixels(size, size)))
    boxes = pd.DataFrame(kept, columns=["image", "row", "disease", *BOX_COLUMNS])
    boxes = boxes.astype({"row": int, **dict.fromkeys(BOX_COLUMNS, float)})  # which no row would tell
    return boxes, {name: tuple(names) for name, names in problems.items()}


def some(names: Collection[str] | pd.Series[str], count: int = 3) -> str:
    """The first few of many names."""
    first = list(names)[:count]
    return ", ".join(first) + (", ..." if len(names) > count else "")
