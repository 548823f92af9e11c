"""``kacl-gpu extract``: features of many images into one table."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from kacl_gpu.errors import InputError

from .main import fail
from .parser import Parser

DESCRIPTION = """\
Compute PyRadiomics' features for every region of many images, on a GPU or the CPU, and write one table.

IMAGES are folders of images, image files, or patterns such as 'scans/*.tif', one or several: PNG, JPEG, TIFF, BMP,
WebP, GIF or DICOM, known by their content. In a folder the layout of NIH ChestX-ray14 (images_001/images/ ...
images_012/images/) is known, too. Images must be grey and have a single frame.
"""

NOTES = """\
the table:
  one row per region, in the order of the box file (or of the images' names): image, label, x1, y1, x2, y2 (the box in
  pixels of the stored image), then the features under PyRadiomics' names. The file appears when all is computed.
  Regions that could not be computed, and files of a folder that are no images, are listed with the reason in
  features.errors.csv beside features.parquet.

names:
  Names in a box file and names of label maps may have another folder, suffix or case than those of the images, as long
  as it is clear which image is meant.

exit status:
  0 all regions computed   1 a file could not be written   2 wrong use
  3 some regions could not be computed   130 interrupted: go on with --resume
"""

EXAMPLES = """\
  kacl-gpu extract images/ --out features.csv
  kacl-gpu extract ChestXray14/ --boxes BBox_List_2017.csv --out features.parquet
  kacl-gpu extract patients/ --recursive --masks organs/ --labels all --out features.csv
  kacl-gpu extract ct_slices/ --masks lung_masks/ --settings params.yaml --device cuda:1 --out features.parquet
"""


def make_parser() -> Parser:
    """Return the parser of this command.

    Example:
        >>> make_parser().parse_args(["scans/", "--out", "features.csv"]).images
        ['scans/']
    """
    parser = Parser("extract", DESCRIPTION, notes=NOTES, examples=EXAMPLES)
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="folders, image files or patterns")
    parser.add_argument("--out", metavar="FILE", required=True, help="table to write, ending in .parquet or .csv")
    parser.add_argument(
        "--boxes",
        metavar="FILE",
        help="box file: NIH's BBox_List_2017.csv, or a CSV with the columns image, x1, y1, x2, y2 (pixels of the "
        "stored image, x2 and y2 exclusive) and optionally label (default: the whole image)",
    )
    parser.add_argument(
        "--masks",
        metavar="FOLDER",
        help="label maps named like the images (suffixes may differ); the region is the label that the setting "
        "`label` names, 1 by default, inside the box where there is one",
    )
    parser.add_argument(
        "--labels",
        metavar="LABEL",
        nargs="+",
        help="labels of the masks that are regions: numbers, or all; one row per label that a mask has (default: the "
        "setting `label`)",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="look for images and label maps in all subfolders, too"
    )
    parser.add_argument("--settings", metavar="FILE", help="parameter file in PyRadiomics' format, YAML or JSON")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        help="largest number of images that are computed together (default: 64 on CUDA, 16 on the CPU)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="threads that decode images (default: one per processor, at most 16)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run; without it, the results of that run are discarded",
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Extract features; return the exit status.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.linear_gradient("L").save(folder / "a.png")
        >>> run([str(folder), "--out", str(folder / "features.csv")])  # doctest: +ELLIPSIS
        /.../features.csv: 1 regions; 1 images in ... s (... images/s)
        0
    """
    arguments = make_parser().parse_args(list(argv))
    from kacl_gpu.extract.folder import extract, read_settings

    # of broken files: the table of errors says what is wrong with them
    warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\b")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    out = Path(arguments.out)
    try:
        summary = extract(
            arguments.images,
            out,
            boxes=arguments.boxes,
            masks=arguments.masks,
            labels=_parse_labels(arguments.labels),
            recursive=arguments.recursive,
            settings=None if arguments.settings is None else read_settings(arguments.settings),
            device=arguments.device,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            resume=arguments.resume,
        )
    except KeyboardInterrupt:
        partial = out.with_name(f"{out.name}.partial")
        hint = f"; {partial} keeps the results so far: the same command with --resume goes on"
        return fail("extract", f"interrupted{hint if partial.exists() else ''}", 130)
    rate = summary.images / summary.seconds
    print(f"{out}: {summary.regions} regions; {summary.images} images in {summary.seconds:.1f} s ({rate:.1f} images/s)")
    if summary.errors:
        print(f"{summary.errors_out}: {summary.errors} regions could not be computed", file=sys.stderr)
    if summary.subfolders:
        names = ", ".join(str(folder) for folder in summary.subfolders[:3])
        ellipsis = ", ..." if len(summary.subfolders) > 3 else ""
        print(f"not looked into without --recursive: {names}{ellipsis}", file=sys.stderr)
    return 3 if summary.errors else 0


def _parse_labels(words: Sequence[str] | None) -> list[int] | str | None:
    """Return the labels that a user typed, also with commas: numbers, or "all"."""
    if words is None:
        return None
    parts = [part for word in words for part in word.split(",") if part]
    if parts == ["all"]:
        return "all"
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise InputError(f"--labels must be whole numbers, or all, got {' '.join(words)}") from None
