"""``kacl-gpu extract``: features of many images into one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .main import fail
from .parser import Parser

DESCRIPTION = """\
Compute PyRadiomics' features for every region of many images, on a GPU or the CPU, and write one table.

IMAGES is a folder of PNG, JPEG or DICOM images, a folder that holds images/, the layout of NIH ChestX-ray14
(images_001/images/ ... images_012/images/), or a single image. Images must be grey.
"""

NOTES = """\
the table:
  one row per region, in the order of the box file (or of the images' names): image, label, x1, y1, x2, y2 (the box in
  pixels of the stored image), then the features under PyRadiomics' names. The file appears when all is computed.
  Regions that could not be computed are listed with the reason in features.errors.csv beside features.parquet.

exit status:
  0 all regions computed   2 wrong use   3 some regions could not be computed   130 interrupted: go on with --resume
"""

EXAMPLES = """\
  kacl-gpu extract images/ --out features.csv
  kacl-gpu extract ChestXray14/ --boxes BBox_List_2017.csv --out features.parquet
  kacl-gpu extract ct_slices/ --masks lung_masks/ --settings params.yaml --device cuda:1 --out features.parquet
"""


def make_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser("extract", DESCRIPTION, notes=NOTES, examples=EXAMPLES)
    parser.add_argument("images", metavar="IMAGES", help="folder of images, or one image")
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
    """Extract features; return the exit status."""
    arguments = make_parser().parse_args(list(argv))
    from kacl_gpu.extract.folder import extract, read_settings

    out = Path(arguments.out)
    try:
        summary = extract(
            arguments.images,
            out,
            boxes=arguments.boxes,
            masks=arguments.masks,
            settings=None if arguments.settings is None else read_settings(arguments.settings),
            device=arguments.device,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            resume=arguments.resume,
        )
    except KeyboardInterrupt:
        partial = out.with_name(f"{out.name}.partial")
        kept = f"; {partial} keeps the results so far: the same command with --resume goes on"
        return fail("extract", f"interrupted{kept if partial.exists() else ''}", 130)
    rate = summary.images / summary.seconds
    print(f"{out}: {summary.regions} regions; {summary.images} images in {summary.seconds:.1f} s ({rate:.1f} images/s)")
    if summary.errors:
        print(f"{summary.errors_out}: {summary.errors} regions could not be computed", file=sys.stderr)
    return 3 if summary.errors else 0
