"""The command ``kacl-gpu``. What a subcommand needs is imported when it runs, so that help comes at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kacl_gpu import __version__

EXTRA = ("PIL", "matplotlib", "pandas", "pyarrow", "pydicom", "tqdm", "yaml")  # modules that the extra `io` brings

EXTRACT = """\
Compute PyRadiomics' features for every region of many images, on a GPU or the CPU, and write one table.

IMAGES is a folder of PNG, JPEG or DICOM images, a folder that holds images/, the layout of NIH ChestX-ray14
(images_001/images/ ... images_012/images/), or a single image. Images must be grey.
"""

EXTRACT_NOTES = """\
the table:
  one row a region, in the order of the box file (or of the images' names): image, label, x1, y1, x2, y2 (the box in
  pixels of the stored image), then the features under PyRadiomics' names. It appears at the end, whole.
  What could not be computed is listed with the reason in features.errors.csv beside features.parquet.

exit status:
  0 all regions computed   2 wrong use   3 some regions could not be computed   130 interrupted: go on with --resume

examples:
  kacl-gpu extract images/ --out features.csv
  kacl-gpu extract ChestXray14/ --boxes BBox_List_2017.csv --out features.parquet
  kacl-gpu extract ct_slices/ --masks lung_masks/ --settings params.yaml --device cuda:1 --out features.parquet
"""

DEMO = """\
Make 24 synthetic chest radiographs with lesions, extract the features of every lesion with the same code as
`kacl-gpu extract`, print a part of the table, and draw a picture.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kacl-gpu", description="Radiomic features on GPUs, equal to PyRadiomics'.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    extract = commands.add_parser(
        "extract",
        help="features of a folder of images, into one table",
        description=EXTRACT,
        epilog=EXTRACT_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    extract.add_argument("images", metavar="IMAGES", help="folder of images, or one image")
    extract.add_argument("--out", metavar="FILE", required=True, help="table to write: .parquet or .csv")
    extract.add_argument(
        "--boxes",
        metavar="FILE",
        help="NIH's BBox_List_2017.csv as it is, or a CSV with columns image, x1, y1, x2, y2 (pixels of the stored "
        "image, x2 and y2 exclusive) and, if wanted, label; without it: the whole image",
    )
    extract.add_argument(
        "--masks",
        metavar="FOLDER",
        help="label maps named like the images (suffixes may differ); the setting label, 1 if not given, picks the "
        "region; with --boxes: the label inside the box",
    )
    extract.add_argument("--settings", metavar="FILE", help="parameters in PyRadiomics' format, YAML or JSON")
    extract.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda if there is any)")
    extract.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        help="images of one size computed together (default: 64 on CUDA, 16 on the CPU)",
    )
    extract.add_argument(
        "--workers", metavar="N", type=int, help="threads that decode images (default: one a processor, at most 16)"
    )
    extract.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run; without it, what that run left is dropped"
    )

    demo = commands.add_parser("demo", help="the same on radiographs that it makes itself", description=DEMO)
    demo.add_argument("--out", metavar="FOLDER", default="demo_output", help="folder to write (default: demo_output)")
    demo.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda if there is any)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; those of the process if None.

    Returns:
        Exit status: 0, 2 wrong use, 3 some regions could not be computed, 130 interrupted.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as error:  # argparse ends with --help, --version and wrong use
        return int(error.code or 0)
    try:
        return _demo(arguments) if arguments.command == "demo" else _extract(arguments)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRA:
            raise
        return _fail(arguments, f'{name} is not installed: pip install "kacl-gpu[io]"', 1)


def _extract(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out)
    try:
        from kacl_gpu.extract import extract, read_settings
        from kacl_gpu.images import InputError

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
        except InputError as error:
            return _fail(arguments, f"error: {error}", 2)
    except KeyboardInterrupt:
        partial = out.with_name(f"{out.name}.partial")
        kept = f"; {partial} keeps what is done: the same command with --resume goes on" if partial.exists() else ""
        return _fail(arguments, f"interrupted{kept}", 130)
    rate = summary.images / summary.seconds
    print(f"{out}: {summary.regions} regions; {summary.images} images in {summary.seconds:.1f} s ({rate:.1f} images/s)")
    if summary.errors:
        print(f"{summary.errors_out}: {summary.errors} regions could not be computed", file=sys.stderr)
    return 3 if summary.errors else 0


def _demo(arguments: argparse.Namespace) -> int:
    from kacl_gpu.demo import demo
    from kacl_gpu.images import InputError

    try:
        demo(Path(arguments.out), device=arguments.device)
    except InputError as error:
        return _fail(arguments, f"error: {error}", 2)
    except KeyboardInterrupt:
        return _fail(arguments, "interrupted", 130)
    return 0


def _fail(arguments: argparse.Namespace, message: str, status: int) -> int:
    print(f"kacl-gpu {arguments.command}: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
