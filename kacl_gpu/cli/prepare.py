"""``kacl-gpu prepare``: a data set as one array."""

from __future__ import annotations

from collections.abc import Sequence

from .parser import Parser

DESCRIPTION = """\
Decode and shrink all images of a data set in the layout of NIH ChestX-ray14 once, into one array of 8-bit pixels that
training maps into memory, so that an epoch does not wait for PNG decoding. Pass OUT as --data.root to kacl-gpu fit.
"""

EXAMPLES = """\
  kacl-gpu prepare ChestXray14 --out nih224 --size 224
  kacl-gpu prepare ChestXray14 --out nih320 --size 320 --resume
"""


def make_parser() -> Parser:
    """Return the parser of this command.

    Example:
        >>> make_parser().parse_args(["ChestXray14", "--out", "nih224"]).size
        224
    """
    parser = Parser("prepare", DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("data", metavar="DATA", help="folder with the images and Data_Entry_2017.csv")
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to make")
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        type=int,
        default=224,
        help="width and height of the result; 224 is what kacl-gpu fit trains at, and what is prepared at the size of "
        "training is not resized a second time",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes that decode images (default: one per processor)"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run; without it, the results of that run are discarded",
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Prepare a data set; return the exit status.

    Example:
        >>> import tempfile
        >>> from kacl_gpu.kacl.data.phantom import make_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> _ = make_phantoms(f"{folder}/phantoms", images=20, size=64, workers=1)
        >>> run([f"{folder}/phantoms", "--out", f"{folder}/small", "--size", "32", "--workers", "1"])
        ... # doctest: +ELLIPSIS
        /.../phantoms/Data_Entry_2017.csv: 20 images, 20 files, 20 usable; ... boxes on ... images
        20 images in /.../small, 20 in ... s (... images/s)
        0
    """
    arguments = make_parser().parse_args(list(argv))
    from kacl_gpu.kacl.data.prepare import prepare

    prepared = prepare(
        arguments.data, arguments.out, size=arguments.size, workers=arguments.workers, resume=arguments.resume
    )
    print(f"{prepared.inventory}\n{prepared}")
    return 3 if prepared.errors else 0
