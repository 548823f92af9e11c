"""NIH ChestX-ray14 as a dataset: from the folder as downloaded, or from what `kacl_gpu.kacl.data.prepare` made of it.

Source: Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised
Classification and Localization of Common Thorax Diseases", CVPR 2017. Needs the extra ``io``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from kacl_gpu.errors import ImageError, InputError
from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.io.folders import find_images, match_names
from kacl_gpu.io.pictures import read_image
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, DISEASES, NO_FINDING, check_diseases
from kacl_gpu.kacl.data.nih import (
    BOXES,
    TABLES,
    Inventory,
    find_file,
    first_names,
    read_box_file,
    read_csv,
    read_table,
)

Normal = Literal["no_finding", "none_of_the_diseases"]

ARRAY, INDEX, ERRORS = "images.npy", "index.csv", "errors.csv"  # a prepared folder; the index is written last


def check_root(root: Path) -> None:
    """Raise an InputError if the folder of a data set is not there."""
    if not root.is_dir():
        unfinished = root.name and root.with_name(f"{root.name}.partial").is_dir()
        raise InputError(f"no such folder: {root}{' (its preparation is unfinished: resume it)' if unfinished else ''}")


class NIHChestXray14(Dataset[dict[str, Tensor]]):
    """NIH ChestX-ray14, or a part of it.

    Attributes:
        diseases: the C names of the classes, in the order of the labels.
        findings: the F names of everything that the data knows, in the order of the findings: NIH's fourteen.
        table: one row per item, in the order of the published table: image, patient, labels (as published), normal,
            annotated (has a usable box of any finding), a column 0/1 for each finding and "No Finding" (as normal), and
            what the table has of follow_up, age (years), sex, view, width, height (of the original image), spacing_x
            and spacing_y (mm).
        boxes: all boxes of these diseases on these images: image, row (of `table`), disease, x1, y1, x2, y2 in pixels
            of the returned image, the far edge exclusive.
        inventory: contents of the whole folder, and the files, rows and boxes that do not fit.
        size: side S of the images in pixels.
    """

    diseases: tuple[str, ...]
    findings: tuple[str, ...]
    table: pd.DataFrame
    boxes: pd.DataFrame
    inventory: Inventory
    size: int

    def __init__(
        self,
        root: str | Path,
        *,
        size: int | None = None,
        diseases: Sequence[str] = DISEASES,
        normal: Normal = "no_finding",
    ) -> None:
        """Read the tables and see which images are there.

        Args:
            root: folder with the CSVs and the images, in the layout as downloaded (see
                `kacl_gpu.io.folders.find_images`), or a folder made by `kacl_gpu.kacl.data.prepare.prepare`. Boxes
                are only read from ``BBox_List_2017.csv``, which may be missing.
            size: side that images are resized to, see `resize`; one that is not square is stretched, its boxes with
                it. None: as stored, which must be square and of one size.
            diseases: names of the classes: findings, see `kacl_gpu.kacl.data.diseases`, and perhaps "No Finding", whose
                label is `normal`.
            normal: which images count as normal, those labelled No Finding or all that have none of the `diseases`.
                (The paper's counts fit neither.)

        Raises:
            InputError: the folder holds nothing usable, or its files contradict each other; an unknown or repeated
                disease.
            ValueError: another `normal`, a size below 1.
        """
        root = Path(root)
        self.findings = ALL_DISEASES
        check_diseases(diseases, self.findings)
        if normal not in ("no_finding", "none_of_the_diseases"):
            raise ValueError(f"normal must be no_finding or none_of_the_diseases: {normal}")
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        check_root(root)
        source = find_file(root, TABLES)
        if source is None:
            raise InputError(f"no table of labels in {root}: neither {' nor '.join(TABLES)}")
        table = read_table(source)

        self.diseases = tuple(diseases)
        self.root = root
        self._pixels: NDArray[np.uint8] | None = None  # the prepared array, opened in each process by itself
        self.prepared = (root / INDEX).exists()
        files: Mapping[str, Path | int]
        unreadable: tuple[str, ...] = ()
        if self.prepared:
            files, unreadable = _read_index(root)
        elif (root / ARRAY).exists():
            raise InputError(f"{root} has {ARRAY} but no {INDEX}: its preparation is unfinished")
        else:
            files = find_images(root)
        matches = match_names(table["image"], files)[0]
        matched = table["image"].isin(list(matches))
        usable = table[matched].reset_index(drop=True)
        if usable.empty:
            raise InputError(
                f"no image of {source} is in {root}: {len(table)} rows ({first_names(table['image'])}), "
                f"{len(files)} images ({first_names(files)})"
            )
        self._files: list[Any] = [files[matches[name]] for name in usable["image"]]  # paths, or rows of the array
        self.as_stored = size is None
        self.size = size or self._stored(0).shape[0]

        box_file = find_file(root, BOXES)
        boxes, problems = read_box_file(box_file, usable, self.size)
        annotated = usable["image"].isin(boxes["image"])
        labels = usable[[name for name in self.diseases if name != NO_FINDING]]
        usable["normal"] = usable["labels"] == NO_FINDING if normal == "no_finding" else (labels == 0).all(axis=1)
        usable["annotated"] = annotated
        usable[NO_FINDING] = usable["normal"].astype(int)
        self.table = usable
        self.boxes = boxes[boxes["disease"].isin(self.diseases)].reset_index(drop=True)
        broken = match_names(table["image"], unreadable)[0]
        missing = table["image"][~matched & ~table["image"].isin(list(broken))]
        self.inventory = Inventory(
            table=source,
            box_file=box_file,
            images=len(table),
            files=len(files) + len(unreadable),
            usable=len(usable),
            annotated=int(annotated.sum()),
            boxes=len(boxes),
            without_file=tuple(missing),
            without_row=tuple(sorted({*files, *unreadable} - {*matches.values(), *broken.values()})),
            unreadable=unreadable,
            **problems,
        )
        self._fill()

    def _fill(self) -> None:
        """Make the tensors of labels and boxes from the tables."""
        rows, classes = self.boxes["row"].to_numpy(), self.boxes["disease"].map(self.diseases.index).to_numpy(int)
        corners = self.boxes[list(BOX_COLUMNS)].to_numpy(float)
        area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        boxes = np.full((len(self.table), len(self.diseases), 4), np.nan, np.float32)
        for k in np.argsort(-area, kind="stable")[::-1]:  # the largest last, so that it stays; of equals, the first
            boxes[rows[k], classes[k]] = corners[k]
        self._labels = self.table[list(self.diseases)].to_numpy(np.float32)
        self._findings = self.table[list(self.findings)].to_numpy(np.float32)
        self._normal = self.table["normal"].to_numpy(bool)
        self._boxes = boxes

    def select(self, rows: ArrayLike) -> NIHChestXray14:
        """Return the dataset of these rows of `table` only, in this order; `table`, `boxes` and ``index`` count anew.

        Raises:
            ValueError: a row that is not there, or is named twice.
        """
        chosen = np.asarray(rows, np.int64).reshape(-1)
        if len(np.unique(chosen)) < len(chosen) or np.any((chosen < 0) | (chosen >= len(self))):
            raise ValueError(f"rows must be between 0 and {len(self) - 1}, and each named once")
        part = copy.copy(self)
        part.table = self.table.iloc[chosen].reset_index(drop=True)
        part._files = [self._files[row] for row in chosen]
        places = np.full(len(self), -1)
        places[chosen] = np.arange(len(chosen))
        boxes = self.boxes.assign(row=places[self.boxes["row"].to_numpy()])
        part.boxes = boxes[boxes["row"] >= 0].sort_values("row", kind="stable").reset_index(drop=True)
        part._fill()
        return part

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one image.

        Returns:
            image: (1, S, S) uint8, intensities as stored; labels: (C,) float32, 1, 0, or -1 for an uncertain one;
            findings: (F,) float32, the same for all findings; normal: () bool; boxes: (C, 4) float32, x1, y1, x2, y2 in
            pixels of this image, the far edge exclusive, the largest box of each disease, NaN where it has none;
            index: () int64, the row of `table`.

        Raises:
            InputError: the file is broken, or of another size where the size is to be as stored.
        """
        row = range(len(self))[index]
        pixels = self._stored(row)
        if pixels.shape != (self.size, self.size):
            if self.as_stored:
                raise InputError(f"{self._files[row]} has {pixels.shape} pixels, not {self.size} x {self.size}")
            pixels = resize(pixels, self.size)
        return {
            "image": torch.tensor(pixels)[None],  # copies all: a mapped array cannot be written to, tables must not be
            "labels": torch.tensor(self._labels[row]),
            "findings": torch.tensor(self._findings[row]),
            "normal": torch.tensor(self._normal[row]),
            "boxes": torch.tensor(self._boxes[row]),
            "index": torch.tensor(row),
        }

    def _stored(self, row: int) -> NDArray[np.uint8]:
        """Return pixels (H, W) of an image as stored."""
        if self.prepared:
            if self._pixels is None:
                self._pixels = open_prepared(self.root)
            return self._pixels[self._files[row]]
        try:
            return read_pixels(self._files[row])
        except ImageError as error:
            raise InputError(f"{self._files[row]}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # a mapped array would be pickled whole, for each worker


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Read an 8-bit grey image (H, W).

    Raises:
        ImageError: see `kacl_gpu.io.pictures.read_image`; or not of 8 bits.
    """
    pixels, _ = read_image(path)
    if pixels.dtype != np.uint8:
        raise ImageError(f"not an image of 8 bits: {pixels.dtype}, {pixels.min()} to {pixels.max()}")
    return pixels.astype(np.uint8, copy=False)


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize (H, W) to (size, size): bilinear, with antialiasing where it shrinks.

    Pillow's: it computes in whole numbers, so every machine gives the same pixels.

    Example:
        >>> resize(np.zeros((4, 6), np.uint8), 2).shape
        (2, 2)
    """
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def open_prepared(root: Path) -> NDArray[np.uint8]:
    """Map the array (N, S, S) of a prepared folder, to be read only.

    Raises:
        InputError: missing, cut short, or something else.
    """
    try:
        pixels = np.load(root / ARRAY, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot open {root / ARRAY}: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2]:
        raise InputError(f"{root / ARRAY} is not of (N, S, S) uint8 but of {pixels.shape} {pixels.dtype}")
    return pixels


def _read_index(root: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Image -> row of the array of a prepared folder, and the images that could not be read."""
    index = read_csv(root / INDEX)
    rows = pd.to_numeric(index["row"], errors="coerce") if {"row", "image"} <= {*index} else pd.Series(dtype=float)
    count = len(open_prepared(root))
    if len(rows) < len(index) or not rows.isin(range(count)).all() or index["image"].duplicated().any():
        raise InputError(f"{root / INDEX} does not fit {root / ARRAY} of {count} images")
    errors = tuple(read_csv(root / ERRORS)["image"]) if (root / ERRORS).exists() else ()
    return dict(zip(index["image"], rows.astype(int).tolist())), errors
