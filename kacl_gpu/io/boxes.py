"""Box files: NIH's own and plain ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kacl_gpu.errors import InputError

Box = tuple[float, float, float, float]  # x1, y1, x2, y2; the far edge exclusive

BOX_COLUMNS = ("x1", "y1", "x2", "y2")
NIH_FRAME = 1024  # NIH's boxes are in a frame of this side, whatever the size of the stored image


@dataclass(frozen=True)
class Region:
    """A row to be computed: a box on a named image, or, without a box, the whole image or what its mask marks."""

    image: str
    label: str = ""
    box: Box | None = None
    frame: int | None = None  # side of the frame that the box is given in; None: pixels of the stored image
    problem: str = ""  # why the line of the box file holds no box

    def pixels(self, height: int, width: int) -> Box:
        """The box in pixels of a stored image of this size."""
        if self.box is None:
            return 0.0, 0.0, float(width), float(height)
        if self.frame is None:
            return self.box
        x1, y1, x2, y2 = self.box
        x, y = width / self.frame, height / self.frame
        return x1 * x, y1 * y, x2 * x, y2 * y


def read_boxes(path: Path) -> list[Region]:
    """Read a box file, known by its header.

    Either NIH's ``BBox_List_2017.csv`` as it is (``Image Index,Finding Label,Bbox [x,y,w,h],,,``: x, y, width and
    height in a frame of 1024 x 1024; its ``Infiltrate`` becomes ``Infiltration``, the name in ``Data_Entry_2017.csv``),
    or columns image, x1, y1, x2, y2 and, if wanted, label, in any order, in pixels of the stored image, the far edge
    exclusive. Other columns are ignored.

    Returns:
        The regions in the order of the file. A line without four numbers becomes a region with a `problem`.

    Raises:
        InputError: missing file, another header (the message names its columns), or no box at all.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[field.strip() for field in line] for line in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the box file {path}: {error}") from error
    header, *lines = [line for line in lines if any(line)] or [[]]
    names = [name.lower() for name in header]
    if names[:2] == ["image index", "finding label"] and len(names) > 2 and names[2].startswith("bbox"):
        regions = [_nih_region(line) for line in lines]
    elif {"image", *BOX_COLUMNS} <= set(names):
        regions = [_plain_region(dict(zip(names, line, strict=False))) for line in lines]
    else:
        raise InputError(
            f"the header of {path} is neither NIH's nor has the columns image, x1, y1, x2, y2 (and label); "
            f"its columns: {', '.join(header) or 'none'}"
        )
    if not regions:
        raise InputError(f"no box in {path}")
    return regions


def _nih_region(line: list[str]) -> Region:
    image, label, *numbers = [*line, "", "", ""][: max(6, len(line))]
    label = "Infiltration" if label == "Infiltrate" else label
    try:
        x, y, w, h = map(float, numbers[:4])
    except ValueError:
        return Region(image, label, problem=f"the box is not four numbers: {', '.join(numbers[:4])}")
    return Region(image, label, (x, y, x + w, y + h), NIH_FRAME)


def _plain_region(line: Mapping[str, str]) -> Region:
    image, label, numbers = line.get("image", ""), line.get("label", ""), [line.get(name, "") for name in BOX_COLUMNS]
    try:
        x1, y1, x2, y2 = map(float, numbers)
    except ValueError:
        return Region(image, label, problem=f"the box is not four numbers: {', '.join(numbers)}")
    return Region(image, label, (x1, y1, x2, y2))
