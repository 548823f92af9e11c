"""The labels and boxes of a data set in one form for all formats, and an inventory of what does not fit.

Needs the extra ``io``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import BOX_COLUMNS, Target
from kacl_gpu.io.folders import match_names
from kacl_gpu.kacl.data.diseases import NO_FINDING


@dataclass(frozen=True)
class Annotations:
    """Hold what the files of a data set say.

    Attributes:
        source: file of the labels.
        box_file: file of the boxes, or None.
        findings: names of all findings.
        table: one row per image: image, patient, labels (those that are positive, with ``|``), normal (bool), a column
            for each finding with 1, 0, or -1 for uncertain, and further columns of the format.
        targets: boxes; their labels are names of findings, others are left out later.
    """

    source: Path
    box_file: Path | None
    findings: tuple[str, ...]
    table: pd.DataFrame
    targets: Sequence[Target] = ()


@dataclass(frozen=True)
class Inventory:
    """List contents of a folder, and the files, rows and boxes that do not fit; boxes are named ``image: label``."""

    table: Path
    box_file: Path | None
    images: int  # rows of the table
    files: int
    usable: int  # rows with a file: the dataset
    annotated: int  # of these, images with at least one usable box
    boxes: int  # usable, of any finding
    without_file: tuple[str, ...]  # rows, left out
    without_row: tuple[str, ...]  # files, left out
    unreadable: tuple[str, ...]  # left out when the folder was prepared, see its errors.csv
    boxes_without_image: tuple[str, ...]  # left out
    boxes_unknown: tuple[str, ...]  # of a label that is no finding, left out
    boxes_malformed: tuple[str, ...]  # no four numbers, no area, or outside the image; left out
    boxes_repeated: tuple[str, ...]  # the same box of the same finding again, counted once
    boxes_cut: tuple[str, ...]  # reaching beyond the image, cut to it
    boxes_unlabelled: tuple[str, ...]  # of a finding that the table does not give the image; kept

    def __str__(self) -> str:
        boxes = f"{self.boxes} boxes on {self.annotated} images" if self.box_file else "no file of boxes"
        problems = {
            "images in the table without a file, left out": self.without_file,
            "files without a row in the table, left out": self.without_row,
            "images that could not be read, left out": self.unreadable,
            "boxes without an image, left out": self.boxes_without_image,
            "boxes of an unknown finding, left out": self.boxes_unknown,
            "boxes malformed or outside the image, left out": self.boxes_malformed,
            "boxes given again, counted once": self.boxes_repeated,
            "boxes that reach beyond the image, cut to it": self.boxes_cut,
            "boxes of a finding that the table does not give the image, kept": self.boxes_unlabelled,
        }
        lines = [f"{self.table}: {self.images} images, {self.files} files, {self.usable} usable; {boxes}"]
        lines += [f"{len(names)} {words}: {first_names(names)}" for words, names in problems.items() if names]
        return "\n  ".join(lines)


def place_boxes(
    targets: Iterable[Target],
    table: pd.DataFrame,
    findings: Collection[str],
    size: int,
    stored_size: Callable[[int], tuple[int, int]],
) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """Return boxes in pixels of images that are resized to a square, cut to the image and each once.

    Args:
        targets: boxes, in pixels of the stored image or in a frame of their own.
        table: rows with image and a column for each finding.
        findings: names that the label of a box may have.
        size: side of the resized images in pixels.
        stored_size: gives height and width of the stored image of a row; only asked where a box is in its pixels.

    Returns:
        image, row (of the table), disease, x1, y1, x2, y2, in the order of the targets; and the names of the boxes that
        do not fit, as in `Inventory`.

    Example:
        >>> table = pd.DataFrame({"image": ["a.png"], "Mass": [1]})
        >>> targets = [Target("a.png", "Mass", (10, 10, 60, 30))] * 2
        >>> boxes, problems = place_boxes(targets, table, ["Mass"], 100, lambda row: (50, 50))
        >>> boxes[["disease", "x1", "y1", "x2", "y2"]].to_numpy().tolist()
        [['Mass', 20.0, 20.0, 100.0, 60.0]]
        >>> problems["boxes_cut"], problems["boxes_repeated"]
        (('a.png: Mass',), ('a.png: Mass',))
    """
    kinds = ("without_image", "unknown", "malformed", "repeated", "cut", "unlabelled")
    problems: dict[str, list[str]] = {f"boxes_{kind}": [] for kind in kinds}
    targets = list(targets)
    rows = {image: row for row, image in enumerate(table["image"])}
    images = match_names({target.image for target in targets}, rows)[0]
    labels = {name: table[name].to_numpy() for name in findings}
    places: dict[tuple[Any, ...], None] = {}
    for target in targets:
        name = f"{target.image}: {target.label}"
        if target.label not in labels:
            problems["boxes_unknown"].append(name)
            continue
        if target.image not in images:
            problems["boxes_without_image"].append(name)
            continue
        image = images[target.image]
        row = rows[image]
        height, width = (target.frame, target.frame) if target.frame else stored_size(row)
        x1, y1, x2, y2 = target.box or (math.nan,) * 4
        box = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        if not all(map(math.isfinite, (x1, y1, x2, y2))) or box[0] >= box[2] or box[1] >= box[3]:
            problems["boxes_malformed"].append(name)
            continue
        x, y = size / width, size / height
        place = (image, row, target.label, box[0] * x, box[1] * y, box[2] * x, box[3] * y)
        if place in places:
            problems["boxes_repeated"].append(name)
            continue
        places[place] = None
        if box != (x1, y1, x2, y2):
            problems["boxes_cut"].append(name)
        if labels[target.label][row] != 1:
            problems["boxes_unlabelled"].append(name)
    boxes = pd.DataFrame([*places], columns=["image", "row", "disease", *BOX_COLUMNS])
    boxes = boxes.astype({"row": int, **dict.fromkeys(BOX_COLUMNS, float)})  # an empty table has no types
    return boxes, {kind: tuple(names) for kind, names in problems.items()}


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these files in a folder, whatever the case of the letters, or None.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "data_entry_2017.csv").touch()
        >>> find_file(root, ["Data_Entry_2017.csv"]).name
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


def read_texts(path: Path) -> pd.DataFrame:
    """Read a CSV or a Parquet file as text without blanks around it, missing values as empty strings.

    Raises:
        InputError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.parquet")
        >>> pd.DataFrame({"image": ["a.png"], "Mass": [1.0], "patient": [7], "age": [None]}).to_parquet(path)
        >>> read_texts(path).to_dict("records")
        [{'image': 'a.png', 'Mass': '1', 'patient': '7', 'age': ''}]
    """
    if path.suffix.lower() != ".parquet":
        table = read_csv(path)
    else:
        try:
            table = pd.read_parquet(path)
        except Exception as error:  # pyarrow's own errors are many
            raise InputError(f"cannot read {path}: {error}") from error
        table = table.rename(columns=str).map(_text)
    return table.rename(columns=str.strip).apply(lambda column: column.str.strip())


def _text(value: Any) -> str:
    """Return a value of a Parquet file as a CSV would have it; a list of labels with ``|``."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return "|".join(map(str, value))
    if pd.isna(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    is_integer = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value)) if is_integer else str(value)


def need_columns(path: Path, table: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise an InputError unless a table has these columns."""
    if lacking := [name for name in names if name not in table]:
        raise InputError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns) or 'none'}")


def need_images_once(path: Path, table: pd.DataFrame) -> None:
    """Raise an InputError if an image is named twice, or has no name or no patient."""
    if len(repeated := table["image"][table["image"].duplicated()]):
        raise InputError(f"{path} has more than one row for {len(repeated)} images: {first_names(repeated)}")
    for column in ("image", "patient"):
        if len(empty := table.index[table[column] == ""]):
            raise InputError(f"{path} has no {column} in line {empty[0] + 2}, and in {len(empty)} lines in all")


def join_labels(table: pd.DataFrame, findings: Sequence[str], normal: pd.Series[bool]) -> list[str]:
    """Return the names of the positive findings of each row with ``|``, or "No Finding" for a normal one without any.

    Example:
        >>> join_labels(pd.DataFrame({"Mass": [1, 0], "Nodule": [1, 0]}), ["Mass", "Nodule"], pd.Series([False, True]))
        ['Mass|Nodule', 'No Finding']
    """
    positive = table[[*findings]].to_numpy() == 1
    names = np.array([*findings], object)
    return ["|".join(names[row]) or (NO_FINDING if one else "") for row, one in zip(positive, normal)]


def fold(name: str) -> str:
    """Return a name without its case, with underscores for blanks, to compare spellings.

    Example:
        >>> fold(" Pleural Thickening")
        'pleural_thickening'
    """
    return name.strip().casefold().replace(" ", "_")


def first_names(names: Collection[Any] | pd.Series[Any], count: int = 3) -> str:
    """Return the first few of many names.

    Example:
        >>> first_names(["a", "b", "c", "d"])
        'a, b, c, ...'
    """
    first = [str(name) for name in names][:count]
    return ", ".join(first) + (", ..." if len(names) > count else "")
