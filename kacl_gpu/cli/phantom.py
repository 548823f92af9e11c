"""``kacl-gpu phantom``: synthetic radiographs."""

from __future__ import annotations

from collections.abc import Sequence

from .parser import Parser

DESCRIPTION = """\
Draw synthetic frontal chest radiographs with eight findings, in the layout of NIH ChestX-ray14: images, labels, and
boxes for some of them. They are drawings to try things on; they teach nothing about real radiographs.
"""

EXAMPLES = """\
  kacl-gpu phantom phantoms --images 2000
  kacl-gpu phantom phantoms --images 500 --size 128 --boxed 0.15 --seed 1
"""


def make_parser() -> Parser:
    """Return the parser of this command.

    Example:
        >>> make_parser().parse_args(["phantoms", "--images", "20"]).size
        256
    """
    parser = Parser("phantom", DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("out", metavar="OUT", help="folder to make")
    parser.add_argument("--images", metavar="N", type=int, required=True, help="number of images")
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="seed; equal seeds draw equal images (default: 0)"
    )
    parser.add_argument("--size", metavar="PIXELS", type=int, default=256, help="width and height of an image")
    parser.add_argument(
        "--boxed", metavar="SHARE", type=float, default=0.3, help="share of the images with a finding that get boxes"
    )
    parser.add_argument("--workers", metavar="N", type=int, help="processes that draw (default: one per processor)")
    return parser


def run(argv: Sequence[str]) -> int:
    """Draw phantoms; return the exit status.

    Example:
        >>> import tempfile
        >>> out = tempfile.mkdtemp() + "/phantoms"
        >>> run([out, "--images", "4", "--size", "64", "--workers", "1"])  # doctest: +ELLIPSIS
        /.../phantoms: 4 images of ... patients, ... boxes on ... of them; ... s
        0
    """
    arguments = make_parser().parse_args(list(argv)).as_dict()
    del arguments["config"]
    from kacl_gpu.kacl.data.phantom import make_phantoms

    summary = make_phantoms(**arguments)
    print(
        f"{arguments['out']}: {summary.images} images of {summary.patients} patients, {summary.boxes} boxes on "
        f"{summary.boxed_images} of them; {summary.seconds:.1f} s"
    )
    return 0
