"""Chest X-rays with labels and boxes as datasets: NIH ChestX-ray14, and tables of one's own or published ones.

NIH ChestX-ray14 is read from the folder as downloaded, or from what `kacl_gpu.kacl.data.prepare` made of it. Source:
Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and
Localization of Common Thorax Diseases", CVPR 2017. Needs the extra ``io``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from kacl_gpu.errors import ImageError, InputError, check_choice
from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.io.folders import find_files, find_images, match_names
from kacl_gpu.io.medical import is_dicom
from kacl_gpu.io.pictures import read_image
from kacl_gpu.kacl.data.annotations import Annotations, Inventory, first_names, place_boxes, read_csv
from kacl_gpu.kacl.data.diseases import DISEASES, NO_FINDING, check_diseases
from kacl_gpu.kacl.data.nih import read_nih
from kacl_gpu.kacl.data.tables import Format, Missing, read_annotations

Normal = Literal["no_finding", "none_of_the_diseases"]
Pixels = NDArray[np.uint8] | NDArray[np.float32]
Images = TypeVar("Images", bound="ChestXrayImages")

ARRAY, INDEX, ERRORS = "images.npy", "index.csv", "errors.csv"  # a prepared folder; the index is written last
WHITE = 255.0  # intensity of white in images of 8 bits


def check_root(root: Path) -> None:
    """Raise an InputError if the folder of a data set is not there."""
    if not root.is_dir():
        unfinished = root.name and root.with_name(f"{root.name}.partial").is_dir()
        raise InputError(f"no such folder: {root}{' (its preparation is unfinished: resume it)' if unfinished else ''}")


class ChestXrayImages(Dataset[dict[str, Tensor]]):
    """Give chest X-rays with labels and boxes, or a part of them.

    Attributes:
        diseases: the C names of the classes, in the order of the labels.
        findings: the F names of everything that the data knows, in the order of the findings.
        table: one row per item, in the order of the table of the files: image, patient, labels (names with ``|``),
            normal, annotated (has a usable box of any finding), a column for each finding with 1, 0, or -1 for
            uncertain, "No Finding" (as normal), and what the files have of follow_up, age (years), sex, view, width,
            height (of the original image), spacing_x and spacing_y (mm).
        boxes: all boxes of the diseases on these images: image, row (of `table`), disease, x1, y1, x2, y2 in pixels
            of the returned image, cut to it, the far edge exclusive.
        inventory: contents of the whole folder, and the files, rows and boxes that do not fit.
        size: side S of the images in pixels.
        prepared: whether the images are those of a prepared folder.
        stored_side: height of the first image as stored, in a prepared folder the side of all; None if `size` was
            given for other images.
        max_value: intensity of white.
    """

    diseases: tuple[str, ...]
    findings: tuple[str, ...]
    table: pd.DataFrame
    boxes: pd.DataFrame
    inventory: Inventory
    size: int
    stored_side: int | None
    max_value: float

    def __init__(
        self,
        root: Path,
        annotations: Annotations,
        *,
        size: int | None,
        diseases: Sequence[str],
        normal: Normal,
        max_value: float,
        recursive: bool,
    ) -> None:
        """See which of the images are there, and place the boxes; `NIHChestXray14` and `ChestXrayTable` call this."""
        check_choice("normal", normal, Normal)
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if not max_value > 0:
            raise ValueError(f"max_value must be positive, got {max_value}")
        check_diseases(diseases, annotations.findings)
        self.root, self.diseases, self.findings = root, tuple(diseases), annotations.findings
        self.max_value = float(max_value)
        self._pixels: NDArray[np.uint8] | None = None  # the prepared array, opened in each process by itself
        self.prepared = (root / INDEX).exists()
        files: Mapping[str, Path | int]
        unreadable: tuple[str, ...] = ()
        if self.prepared:
            files, unreadable = _read_index(root)
        elif (root / ARRAY).exists():
            raise InputError(f"{root} has {ARRAY} but no {INDEX}: its preparation is unfinished")
        else:
            files = find_files([root], recursive=True).images if recursive else find_images(root)
        table = annotations.table
        matches = match_names(table["image"], files)[0]
        has_file = table["image"].isin(list(matches))
        usable = table[has_file].reset_index(drop=True)
        if usable.empty:
            raise InputError(
                f"no image of {annotations.source} is in {root}: {len(table)} rows ({first_names(table['image'])}), "
                f"{len(files)} images ({first_names(files)})"
            )
        self._files: list[Any] = [files[matches[name]] for name in usable["image"]]  # paths, or rows of the array
        self.as_stored = size is None
        # Not of other images, of which the first may be broken
        self.stored_side = self._stored(0).shape[0] if self.prepared or size is None else None
        self.size = int(size or self.stored_side or 0)

        sizes = usable[["height", "width"]].to_numpy(float) if {"height", "width"} <= {*usable} else None

        def stored_size(row: int) -> tuple[int, int]:
            if sizes is not None and np.isfinite(sizes[row]).all():
                return int(sizes[row, 0]), int(sizes[row, 1])
            return self._stored_size(row)

        boxes, problems = place_boxes(annotations.targets, usable, self.findings, self.size, stored_size)
        annotated = usable["image"].isin(boxes["image"])
        if normal == "none_of_the_diseases":
            usable["normal"] = (usable[[name for name in self.diseases if name != NO_FINDING]] == 0).all(axis=1)
        usable["annotated"] = annotated
        usable[NO_FINDING] = usable["normal"].astype(int)
        self.table = usable
        self.boxes = boxes[boxes["disease"].isin(self.diseases)].reset_index(drop=True)
        errors = match_names(table["image"], unreadable)[0]
        without_file = table["image"][~has_file & ~table["image"].isin(list(errors))]
        self.inventory = Inventory(
            table=annotations.source,
            box_file=annotations.box_file,
            images=len(table),
            files=len(files) + len(unreadable),
            usable=len(usable),
            annotated=int(annotated.sum()),
            boxes=len(boxes),
            without_file=tuple(without_file),
            without_row=tuple(sorted({*files, *unreadable} - {*matches.values(), *errors.values()})),
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

    def select(self: Images, rows: ArrayLike) -> Images:
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
            image: (1, S, S), intensities as stored, uint8 if `max_value` is 255, else float32; labels: (C,) float32,
            1, 0, or -1 for an uncertain one; findings: (F,) float32, the same for all findings; normal: () bool;
            boxes: (C, 4) float32, x1, y1, x2, y2 in pixels of this image, the far edge exclusive, the largest box of
            each disease, NaN where it has none; index: () int64, the row of `table`.

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

    def _stored(self, row: int) -> Pixels:
        """Return pixels (H, W) of an image as stored."""
        if self.prepared:
            if self._pixels is None:
                self._pixels = open_prepared(self.root)
            return self._pixels[self._files[row]]
        try:
            return read_pixels(self._files[row], self.max_value)
        except ImageError as error:
            raise InputError(f"{self._files[row]}: {error}") from error

    def _stored_size(self, row: int) -> tuple[int, int]:
        """Return height and width of an image as stored."""
        if self.prepared:
            return self._stored(row).shape
        try:
            return read_size(self._files[row])
        except ImageError as error:
            raise InputError(f"{self._files[row]}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}  # a mapped array would be pickled whole, for each worker


class NIHChestXray14(ChestXrayImages):
    """Give the images of NIH ChestX-ray14, or a part of them, with the attributes and items of `ChestXrayImages`."""

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
        check_root(root)
        annotations = read_nih(root)
        super().__init__(
            root, annotations, size=size, diseases=diseases, normal=normal, max_value=WHITE, recursive=False
        )


class ChestXrayTable(ChestXrayImages):
    """Give the chest X-rays of a table of one's own, of CheXpert, VinDr-CXR or RSNA's challenge, or a part of them.

    The attributes and items are those of `ChestXrayImages`.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png"):
        ...     Image.new("L", (40, 30), 7).save(root / name)
        >>> _ = (root / "labels.csv").write_text("image,patient,labels\\na,1,Mass\\nb,2,No Finding\\n")
        >>> _ = (root / "boxes.csv").write_text("image,label,x,y,w,h\\na,Mass,10,0,20,15\\n")
        >>> images = ChestXrayTable(root, table="labels.csv", boxes="boxes.csv", size=20)
        >>> images.findings, images[0]["labels"], images[0]["boxes"]
        (('Mass',), tensor([1.]), tensor([[ 5.,  0., 15., 10.]]))
    """

    def __init__(
        self,
        root: str | Path,
        *,
        format: Format = "table",
        table: str | Path | None = None,
        boxes: str | Path | None = None,
        findings: Sequence[str] | None = None,
        missing: Missing = "ignored",
        size: int | None = None,
        diseases: Sequence[str] | None = None,
        normal: Normal = "no_finding",
        max_value: float = WHITE,
        annotations: Annotations | None = None,
    ) -> None:
        """Read the tables and see which images are there.

        Args:
            root: folder with the images, which are looked for in all its subfolders too: pictures or DICOM files of 8
                to 16 bits.
            format: see `kacl_gpu.kacl.data.tables.read_annotations`, as for table, boxes, findings and missing.
            size: as in `NIHChestXray14`.
            diseases: names of the classes: findings, and perhaps "No Finding", whose label is `normal`. None: all
                findings.
            normal: as in `NIHChestXray14`; without any "No Finding", images without any finding are normal.
            max_value: intensity of white: 255 for images of 8 bits, 4095 of 12, 65535 of 16. Radiomics are computed on
                the intensities as they are stored, the network sees them divided by this.
            annotations: what the tables say, if they are read already.

        Raises:
            InputError: see `NIHChestXray14` and `read_annotations`.
            ValueError: another `normal`, a size below 1, a max_value that is not positive.
        """
        root = Path(root)
        check_root(root)
        if annotations is None:
            annotations = read_annotations(root, format, table=table, boxes=boxes, findings=findings, missing=missing)
        classes = annotations.findings if diseases is None else diseases
        super().__init__(
            root, annotations, size=size, diseases=classes, normal=normal, max_value=max_value, recursive=True
        )


def read_pixels(path: Path, max_value: float = WHITE) -> Pixels:
    """Read a grey image (H, W), uint8 if white is 255, else float32, which holds integers of 16 bits exactly.

    Raises:
        ImageError: see `kacl_gpu.io.pictures.read_image`; or an intensity above white; or, if white is 255, one that is
            negative or no whole number.
    """
    pixels, _ = read_image(path)
    lowest, highest = pixels.min(), pixels.max()
    if max_value == WHITE:
        if lowest < 0 or highest > max_value or not np.array_equal(integers := pixels.astype(np.uint8), pixels):
            raise ImageError(
                f"not an image of 8 bits: {pixels.dtype}, {lowest} to {highest}, and max_value is 255 (12 bits: 4095, "
                "16 bits: 65535)"
            )
        return integers
    if not highest <= max_value:
        raise ImageError(f"its intensities reach {highest}, more than max_value, {max_value:g}: set that to white")
    return pixels.astype(np.float32)


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width of a grey image without reading its pixels.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        if is_dicom(path):
            import pydicom

            data = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            return int(data.Rows), int(data.Columns)
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, AttributeError, ValueError) as error:
        raise ImageError(f"cannot be read: {error}") from error


def resize(pixels: Pixels, size: int) -> Pixels:
    """Resize (H, W) to (size, size): bilinear, with antialiasing where it shrinks.

    Pillow's: for uint8 it computes in whole numbers, so every machine gives the same pixels. Whole numbers in float32
    are rounded to whole numbers.

    Example:
        >>> resize(np.zeros((4, 6), np.uint8), 2).shape
        (2, 2)
    """
    resized = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    return np.rint(resized) if pixels.dtype != np.uint8 and np.array_equal(np.rint(pixels), pixels) else resized


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
    """Return the row of each image in the array of a prepared folder, and the images that could not be read."""
    index = read_csv(root / INDEX)
    rows = pd.to_numeric(index["row"], errors="coerce") if {"row", "image"} <= {*index} else pd.Series(dtype=float)
    count = len(open_prepared(root))
    if len(rows) < len(index) or not rows.isin(range(count)).all() or index["image"].duplicated().any():
        raise InputError(f"{root / INDEX} does not fit {root / ARRAY} of {count} images")
    errors = tuple(read_csv(root / ERRORS)["image"]) if (root / ERRORS).exists() else ()
    return dict(zip(index["image"], rows.astype(int).tolist())), errors
