"""Read box files: NIH's own and plain ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kacl_gpu.errors import InputError

Box = tuple[float, float, float, float]  # x1, y1, x2, y2; the far edge exclusive

BOX_COLUMNS = ("x1", "y1", "x2", "y2")
PLAIN_COLUMNS = (BOX_COLUMNS, ("x", "y", "w", "h"), ("x", "y", "width", "height"))  # the first that a file has
NIH_FRAME = 1024  # NIH's boxes are in a frame of this side, whatever the size of the stored image


@dataclass(frozen=True)
class Target:
    """Describe a row that is asked for: a box on a named image, or without a box the image or what its mask marks.

    Attributes:
        image: name of the image as it was written down.
        label: any text; the mask's label if it is a number that stands for one.
        box: x1, y1, x2, y2 in `frame`.
        frame: side of the square frame that the box is given in; None: pixels of the stored image.
        problem: why the line of the box file holds no box.

    Example:
        >>> Target("a.png", "Mass", (0.0, 0.0, 512.0, 512.0), frame=1024).pixel_box(256, 256)
        (0.0, 0.0, 128.0, 128.0)
    """

    image: str
    label: str = ""
    box: Box | None = None
    frame: int | None = None
    problem: str = ""

    def pixel_box(self, height: int, width: int) -> Box:
        """Return the box in pixels of a stored image of this size; all of it if there is no box.

        Example:
            >>> Target("a.png", box=(0, 512, 1024, 1024), frame=1024).pixel_box(100, 200)
            (0.0, 50.0, 200.0, 100.0)
        """
        if self.box is None:
            return 0.0, 0.0, float(width), float(height)
        if self.frame is None:
            return self.box
        x1, y1, x2, y2 = self.box
        x, y = width / self.frame, height / self.frame
        return x1 * x, y1 * y, x2 * x, y2 * y


def read_boxes(path: Path) -> list[Target]:
    """Read a box file, known by its header.

    Either NIH's ``BBox_List_2017.csv`` as it is (``Image Index,Finding Label,Bbox [x,y,w,h],,,``: x, y, width and
    height in a frame of 1024 x 1024; its ``Infiltrate`` becomes ``Infiltration``, the name in ``Data_Entry_2017.csv``),
    or columns image, x1, y1, x2, y2 and, if wanted, label, in any order, in pixels of the stored image, the far edge
    exclusive. Instead of the corners the columns may be x, y, w, h or x, y, width, height. Other columns are ignored.
    Semicolons or tabs may stand for the commas; with semicolons a number may have a decimal comma.

    Returns:
        The targets in the order of the file. A line without four numbers becomes a target with a `problem`.

    Raises:
        InputError: missing file, another header (the message names its columns), a column twice, or no box at all.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "boxes.csv")
        >>> _ = path.write_text("image,x1,y1,x2,y2\\na.png,1,2,30,40\\n")
        >>> read_boxes(path)
        [Target(image='a.png', label='', box=(1.0, 2.0, 30.0, 40.0), frame=None, problem='')]
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            lines = [[field.strip() for field in line] for line in csv.reader(file, delimiter=delimiter)]
    except UnicodeDecodeError:
        raise InputError(f"cannot read the box file {path}: it is not text in UTF-8") from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the box file {path}: {reason}") from error
    header, *lines = [line for line in lines if any(line)] or [[]]
    names = [name.lower() for name in header]
    if names[:2] == ["image index", "finding label"] and len(names) > 2 and names[2].startswith("bbox"):
        targets = [_nih_target(line, delimiter) for line in lines]
    elif columns := next((columns for columns in PLAIN_COLUMNS if {"image", *columns} <= set(names)), None):
        if repeated := sorted({name for name in names if name and names.count(name) > 1}):
            raise InputError(f"{path} has a column twice: {', '.join(repeated)}")
        targets = [_plain_target(names, columns, line, delimiter) for line in lines]
    else:
        raise InputError(
            f"the header of {path} is neither NIH's nor has the columns image, x1, y1, x2, y2 or x, y, w, h (and "
            f"label); its columns: {', '.join(header) or 'none'}"
        )
    if not targets:
        raise InputError(f"no box in {path}")
    return targets


def _delimiter(header: str) -> str:
    """Return what parts the columns of a header."""
    return next((mark for mark in ";\t" if mark in header and header.count(mark) > header.count(",")), ",")


def _numbers(texts: Sequence[str], delimiter: str) -> Box | None:
    """Return four numbers, None if they are not that many or not numbers."""
    try:
        if any("_" in text for text in texts):  # which Python's own numbers may have
            return None
        x1, y1, x2, y2 = (float(text.replace(",", ".") if delimiter == ";" else text) for text in texts)
    except ValueError:
        return None
    return x1, y1, x2, y2


def _nih_target(line: list[str], delimiter: str) -> Target:
    image, label, *texts = [*line, "", "", ""][: max(6, len(line))]
    label = "Infiltration" if label == "Infiltrate" else label
    box = _numbers(texts[:4], delimiter)
    if box is None:
        return Target(image, label, problem=f"the box is not four numbers: {', '.join(texts[:4])}")
    x, y, w, h = box
    return Target(image, label, (x, y, x + w, y + h), NIH_FRAME)


def _plain_target(names: Sequence[str], columns: Sequence[str], line: list[str], delimiter: str) -> Target:
    fields: Mapping[str, str] = dict(zip(names, line, strict=False))
    image, label, texts = fields.get("image", ""), fields.get("label", ""), [fields.get(x, "") for x in columns]
    if any(line[len(names) :]):
        return Target(image, label, problem=f"the line has {len(line)} fields, the header {len(names)}")
    box = _numbers(texts, delimiter)
    if box is None:
        return Target(image, label, problem=f"the box is not four numbers: {', '.join(texts)}")
    if columns != BOX_COLUMNS:
        x, y, w, h = box
        box = x, y, x + w, y + h
    return Target(image, label, box)
