"""``kacl-gpu evaluate``: a report on a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from .parser import Parser

DESCRIPTION = """\
Evaluate a checkpoint: AUC of each disease, accuracy of the boxes, what the network looks at, and the radiomic features
that move with a disease, with intervals, beside the paper's figures. OUT receives report.html, report.md, tables,
pictures and the raw predictions. Split, diseases and image size are those that the checkpoint was trained with.
"""

EXAMPLES = """\
  kacl-gpu evaluate --checkpoint runs/nih/checkpoints/best.ckpt --data ChestXray14 --out report
  kacl-gpu evaluate --checkpoint runs/full.ckpt --compare runs/base.ckpt --data nih224 --out comparison
"""


def make_parser() -> Parser:
    """Return the parser of this command.

    Example:
        >>> make_parser().parse_args(["--checkpoint", "best.ckpt", "--data", "nih224", "--out", "report"]).data
        'nih224'
    """
    parser = Parser("evaluate", DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("--checkpoint", metavar="FILE", required=True, help="checkpoint that kacl-gpu fit wrote")
    parser.add_argument(
        "--data",
        metavar="DATA",
        required=True,
        help="folder in the layout of NIH ChestX-ray14, or one that kacl-gpu prepare made",
    )
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to make")
    parser.add_argument(
        "--split", choices=("test", "validation", "train"), default="test", help="set of images to evaluate"
    )
    parser.add_argument("--split-file", metavar="FILE", help="split to use instead of the checkpoint's")
    parser.add_argument(
        "--boxes",
        metavar="FILE",
        help="boxes of another source, evaluated separately: CSV with the columns image, label, x, y, w, h, and "
        "optionally source",
    )
    parser.add_argument(
        "--boxes-frame",
        metavar="N",
        type=float,
        default=1024,
        help="side in pixels of the square frame in which these boxes are (default: 1024, NIH's)",
    )
    parser.add_argument("--compare", metavar="FILE", help="second checkpoint, evaluated on the same images")
    parser.add_argument("--batch-size", metavar="N", type=int, default=32, help="images per batch")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes that read images")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    parser.add_argument(
        "--bootstrap",
        metavar="N",
        type=int,
        default=1000,
        help="patient resamplings for the intervals; 0: no intervals",
    )
    parser.add_argument(
        "--seed",
        metavar="S",
        type=int,
        default=0,
        help="seed of resampling and of the choice of normal images (default: 0)",
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Evaluate; return the exit status."""
    arguments = make_parser().parse_args(list(argv)).as_dict()
    del arguments["config"]
    from kacl_gpu.kacl.evaluation.report import evaluate

    print(evaluate(**arguments))
    return 0
