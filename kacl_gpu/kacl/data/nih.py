"""The files of NIH ChestX-ray14: the CSVs as published and as copies spell them, the images, and an inventory."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import BOX_COLUMNS, NIH_FRAME, read_boxes
from kacl_gpu.io.folders import match_names
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
LABELS = {name.casefold().replace(" ", "_"): name for name in (NO_FINDING, *ALL_DISEASES)}
LABELS["infiltrate"] = "Infiltration"
YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "D": 1 / 365.25}  # 2017 writes ages as 058Y, 013M or 011D; 2020 in years


@dataclass(frozen=True)
class Inventory:
    """The contents of a folder, and the files, rows and boxes that do not fit; boxes are named ``image: label``."""

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
        boxes = f"{self.boxes} boxes on {self.annotated} images" if self.box_file else f"no {BOXES[0]}, so no boxes"
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
        lines += [f"{len(names)} {what}: {first_names(names)}" for what, names in problems.items() if names]
        return "\n  ".join(lines)


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these files in a folder, whatever the case of the letters, or None.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "data_entry_2017.csv").touch()
        >>> find_file(root, TABLES).name
        'data_entry_2017.csv'
    """
    files = {path.name.casefold(): path for path in sorted(root.iterdir(), reverse=True) if path.is_file()}
    return next((files[name.casefold()] for name in names if name.casefold() in files), None)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV as text, missing values as empty strings.

    Raises:
        InputError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.csv")
        >>> _ = path.write_text("image,row" + chr(10) + "a.png,0" + chr(10))
        >>> read_csv(path).to_dict("records")
        [{'image': 'a.png', 'row': '0'}]
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
        return table.fillna("")  # in lines that are cut off
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def read_table(path: Path) -> pd.DataFrame:
    """Read ``Data_Entry_2017.csv``: those of `COLUMNS` that it has, then a column 0/1 for each of fourteen diseases.

    Labels are known whatever their case, with blanks for underscores, and ``Infiltrate`` for Infiltration.

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
        raise InputError(f"{path} has more than one row for {len(twice)} images: {first_names(twice)}")
    if len(wrong := table["image"][~table["patient"].str.fullmatch(r"\d+")]):
        raise InputError(f"{path}: the patient of {len(wrong)} images is not a number: {first_names(wrong)}")
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
    for disease in ALL_DISEASES:
        table[disease] = [int(disease in labels) for labels in every]
    return table


def canonical_label(label: str) -> str:
    """Return a label as NIH's table writes it; an unknown one as it is.

    Example:
        >>> canonical_label("pleural thickening"), canonical_label("no finding"), canonical_label("Cold")
        ('Pleural_Thickening', 'No Finding', 'Cold')
    """
    return LABELS.get(label.strip().casefold().replace(" ", "_"), label.strip())


def read_box_file(path: Path | None, table: pd.DataFrame, size: int) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """Read the boxes on images of a table, in pixels of images of this size, and the names of those that do not fit."""
    rows = {image: row for row, image in enumerate(table["image"])}
    kept = []
    problems: dict[str, list[str]] = {
        "boxes_without_image": [],
        "boxes_unknown": [],
        "boxes_malformed": [],
        "boxes_unlabelled": [],
    }
    regions = read_boxes(path) if path else []
    images = match_names({region.image for region in regions}, rows)[0]
    for region in regions:
        if region.box and region.frame != NIH_FRAME:
            raise InputError(f"the header of {path} is not NIH's")
        x1, y1, x2, y2 = region.box or (math.nan,) * 4
        name, label = f"{region.image}: {region.label}", canonical_label(region.label)
        inside = max(x1, 0) < min(x2, NIH_FRAME) and max(y1, 0) < min(y2, NIH_FRAME)
        if not (inside and all(map(math.isfinite, (x1, y1, x2, y2)))):
            problems["boxes_malformed"].append(name)
        elif label not in ALL_DISEASES:
            problems["boxes_unknown"].append(name)
        elif region.image not in images:
            problems["boxes_without_image"].append(name)
        else:
            image = images[region.image]
            if not table[label][rows[image]]:
                problems["boxes_unlabelled"].append(name)
            kept.append((image, rows[image], label, *region.pixel_box(size, size)))
    boxes = pd.DataFrame(kept, columns=["image", "row", "disease", *BOX_COLUMNS])
    boxes = boxes.astype({"row": int, **dict.fromkeys(BOX_COLUMNS, float)})  # an empty table has no types
    return boxes, {name: tuple(names) for name, names in problems.items()}


def first_names(names: Collection[str] | pd.Series[str], count: int = 3) -> str:
    """Return the first few of many names.

    Example:
        >>> first_names(["a", "b", "c", "d"])
        'a, b, c, ...'
    """
    first = list(names)[:count]
    return ", ".join(first) + (", ..." if len(names) > count else "")
