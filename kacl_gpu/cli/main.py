"""The command ``kacl-gpu``. What a subcommand needs is imported when it runs, so that help comes at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kacl_gpu import __version__

# modules that the extras bring
IO = ("PIL", "matplotlib", "pandas", "pyarrow", "pydicom", "tqdm", "yaml")
TRAIN = (
    "docstring_parser",
    "jsonargparse",
    "lightning",
    "markdown",
    "pycocotools",
    "scipy",
    "sklearn",
    "tensorboard",
    "torchmetrics",
    "torchvision",
    "typeshed_client",
)

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

PREPARE = """\
Decode and shrink all images of a data set in the layout of NIH ChestX-ray14 once, into one array of 8-bit pixels that
training maps into memory, so that an epoch does not wait for PNG decoding. OUT can stand for DATA in `kacl-gpu fit`.
"""

PHANTOM = """\
Draw synthetic frontal chest radiographs with eight findings, in the layout of NIH ChestX-ray14: images, labels, and
boxes for a part of them. They are drawings, to try things on; nothing about real radiographs can be learnt from them.
"""

EVALUATE = """\
Evaluate a checkpoint: AUC of each disease, accuracy of boxes, what the network looks at, and the radiomic features that
move with a disease, with intervals, beside what the paper reports. OUT receives report.html, report.md, tables,
pictures and the raw predictions. Split, diseases and size of the images are those that the checkpoint was trained with.
"""

ABLATE = """\
Train several configurations with several seeds each, and compare them on the test images: the paper's Table 3. All
other arguments are those of `kacl-gpu fit`. OUT/VARIANT/seed_S holds each run; OUT/ablation.md the comparison. The same
command goes on where an earlier one was interrupted.
"""

DEMO = """\
Draw synthetic chest radiographs, train KACL on them for some minutes (seconds on a GPU), print the AUC of each finding
and how well Grad-CAM finds it, and draw a picture.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kacl-gpu", description="Radiomics on GPUs, equal to PyRadiomics', and training with it.")
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

    commands.add_parser("fit", help="train KACL: see kacl-gpu fit --help", add_help=False)  # reads its own arguments

    evaluate = commands.add_parser("evaluate", help="report on a checkpoint", description=EVALUATE)
    evaluate.add_argument("--checkpoint", metavar="FILE", required=True, help="of kacl-gpu fit")
    evaluate.add_argument("--data", metavar="DATA", required=True, help="folder as for kacl-gpu fit, or prepared")
    evaluate.add_argument("--out", metavar="OUT", required=True, help="folder to make")
    evaluate.add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="images to evaluate (default: test)"
    )
    evaluate.add_argument("--split-file", metavar="FILE", help="another split than the checkpoint's")
    evaluate.add_argument(
        "--boxes",
        metavar="FILE",
        help="boxes of other sources, evaluated apart: CSV with the columns image, label, x, y, w, h, in NIH's frame "
        "of 1024 x 1024, and, if wanted, source",
    )
    evaluate.add_argument("--compare", metavar="FILE", help="second checkpoint, to compare with on the same images")
    evaluate.add_argument("--batch-size", metavar="N", type=int, default=32, help="images at once (default: 32)")
    evaluate.add_argument("--workers", metavar="N", type=int, default=2, help="processes that read images (default: 2)")
    evaluate.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda if there is any)")
    evaluate.add_argument(
        "--bootstrap",
        metavar="N",
        type=int,
        default=1000,
        help="draws of patients for intervals (default: 1000; 0: none)",
    )
    evaluate.add_argument("--seed", metavar="S", type=int, default=0, help="of what is drawn (default: 0)")

    ablate = commands.add_parser("ablate", help="train variants and compare", description=ABLATE, allow_abbrev=False)
    ablate.add_argument("--out", metavar="OUT", required=True, help="folder to write")
    ablate.add_argument(
        "--variants",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[Path("configs/variants") / f"{name}.yaml" for name in ("base", "focal", "byop", "full", "chexnet")],
        help="settings of each variant (default: the paper's five, in configs/variants)",
    )
    ablate.add_argument(
        "--seeds", metavar="S", nargs="+", type=int, default=[0, 1, 2], help="of the runs (default: 0 1 2)"
    )

    prepare = commands.add_parser("prepare", help="shrink a data set for training", description=PREPARE)
    prepare.add_argument("data", metavar="DATA", help="folder with the images and Data_Entry_2017.csv")
    prepare.add_argument("--out", metavar="OUT", required=True, help="folder to make")
    prepare.add_argument("--size", metavar="PIXELS", type=int, default=256, help="side of an image (default: 256)")
    prepare.add_argument("--workers", metavar="N", type=int, help="processes that decode (default: one a processor)")
    prepare.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run; without it, what that run left is dropped"
    )

    phantom = commands.add_parser("phantom", help="draw synthetic radiographs", description=PHANTOM)
    phantom.add_argument("out", metavar="OUT", help="folder to make")
    phantom.add_argument("--images", metavar="N", type=int, required=True, help="how many")
    phantom.add_argument("--seed", metavar="S", type=int, default=0, help="equal seeds, equal images (default: 0)")
    phantom.add_argument("--size", metavar="PIXELS", type=int, default=256, help="side of an image (default: 256)")
    phantom.add_argument(
        "--boxed",
        metavar="SHARE",
        type=float,
        default=0.3,
        help="of the images with a finding, with boxes (default: 0.3)",
    )
    phantom.add_argument("--workers", metavar="N", type=int, help="processes that draw (default: one a processor)")

    demo = commands.add_parser("demo", help="train on radiographs that it draws itself", description=DEMO)
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
    argv = sys.argv[1:] if argv is None else list(argv)
    run = {
        "extract": _extract, "fit": _fit, "evaluate": _evaluate, "ablate": _ablate, "prepare": _prepare,
        "phantom": _phantom, "demo": _demo,
    }  # fmt: skip
    try:
        # fit reads its own arguments, and ablate hands on what it does not know
        if argv[:1] == ["fit"]:
            arguments = argparse.Namespace(command="fit", argv=argv[1:])
        elif argv[:1] == ["ablate"]:
            arguments, others = _parser().parse_known_args(argv)
            arguments.argv = others
        else:
            arguments = _parser().parse_args(argv)
    except SystemExit as error:  # argparse ends with --help, --version and wrong use
        return int(error.code or 0)
    try:
        from kacl_gpu.errors import InputError

        try:
            return run[arguments.command](arguments)
        except InputError as error:
            return _fail(arguments, f"error: {error}", 2)
        except SystemExit as error:  # so does the parser of fit
            return int(error.code or 0)
    except KeyboardInterrupt:
        goes_on = ": the same command with --resume goes on" if arguments.command in ("fit", "prepare") else ""
        return _fail(arguments, f"interrupted{goes_on}", 130)
    except ModuleNotFoundError as error:
        return _missing(arguments, error)


def _missing(arguments: argparse.Namespace, error: ModuleNotFoundError) -> int:
    name = (error.name or "").partition(".")[0]
    if name not in (*IO, *TRAIN):
        raise error
    extras = "io" if name in IO and arguments.command == "extract" else "io,train"
    return _fail(arguments, f'{name} is not installed: pip install "kacl-gpu[{extras}]"', 1)


def _extract(arguments: argparse.Namespace) -> int:
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
        kept = f"; {partial} keeps what is done: the same command with --resume goes on" if partial.exists() else ""
        return _fail(arguments, f"interrupted{kept}", 130)
    rate = summary.images / summary.seconds
    print(f"{out}: {summary.regions} regions; {summary.images} images in {summary.seconds:.1f} s ({rate:.1f} images/s)")
    if summary.errors:
        print(f"{summary.errors_out}: {summary.errors} regions could not be computed", file=sys.stderr)
    return 3 if summary.errors else 0


def _fit(arguments: argparse.Namespace) -> int:
    from kacl_gpu.kacl.training.fit import fit

    fit(arguments.argv)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from kacl_gpu.kacl.evaluation.report import evaluate

    given = {name: value for name, value in vars(arguments).items() if name != "command"}
    print(evaluate(**given))
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    from kacl_gpu.kacl.training.ablate import ablate

    ablate(arguments.variants, arguments.seeds, Path(arguments.out), arguments.argv)
    print(f"{arguments.out}/ablation.md")
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    from kacl_gpu.kacl.data.prepare import prepare

    sizes = {"size": arguments.size, "workers": arguments.workers, "resume": arguments.resume}
    done = prepare(arguments.data, arguments.out, **sizes)
    print(f"{done.inventory}\n{done}")
    return 3 if done.errors else 0


def _phantom(arguments: argparse.Namespace) -> int:
    from kacl_gpu.kacl.data.phantom import make_phantoms

    names = ("images", "seed", "size", "boxed", "workers")
    made = make_phantoms(arguments.out, **{name: getattr(arguments, name) for name in names})
    print(
        f"{arguments.out}: {made.images} images of {made.patients} patients, {made.boxes} boxes on {made.boxed_images} "
        f"of them; {made.seconds:.1f} s"
    )
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from kacl_gpu.cli.demo import demo

    demo(Path(arguments.out), device=arguments.device)
    return 0


def _fail(arguments: argparse.Namespace, message: str, status: int) -> int:
    print(f"kacl-gpu {arguments.command}: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
