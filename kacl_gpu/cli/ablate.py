"""``kacl-gpu ablate``: several variants, several seeds each, compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .main import CommandParser

DESCRIPTION = """\
Train several configurations with several seeds each, and compare them on the test images, as in the paper's Table 3.
All other arguments are those of kacl-gpu fit. OUT/VARIANT/seed_S receives each run, OUT/ablation.md the comparison. The
same command goes on where an earlier one was interrupted.
"""

# Whether BYOP helps can only be said of a variant and its shuffled control
VARIANTS = ["base", "focal", "byop", "byop_shuffled", "full", "full_shuffled", "chexnet"]

EXAMPLES = """\
examples:
  kacl-gpu ablate --out runs/ablation --config nih --data.root ChestXray14
  kacl-gpu ablate --out runs/two --variants base mine.yaml --seeds 0 1 --config phantom --data.root phantoms
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this command, which leaves the arguments of ``kacl-gpu fit`` alone.

    argparse's, because jsonargparse parses all arguments or none: its `parse_known_args` raises NotImplementedError.

    Example:
        >>> arguments, fit_arguments = make_parser().parse_known_args(["--out", "runs", "--config", "nih"])
        >>> arguments.seeds, fit_arguments
        ([0, 1, 2], ['--config', 'nih'])
    """
    parser = CommandParser(
        prog="kacl-gpu ablate",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to write")
    parser.add_argument(
        "--variants",
        metavar="CONFIG",
        nargs="+",
        default=VARIANTS,
        help="settings of each variant: a name or a YAML file (default: the paper's, and controls whose radiomic "
        f"features are those of other images: {' '.join(VARIANTS)})",
    )
    parser.add_argument(
        "--seeds", metavar="S", nargs="+", type=int, default=[0, 1, 2], help="seeds of each variant (default: 0 1 2)"
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Train and compare; return the exit status."""
    arguments, fit_arguments = make_parser().parse_known_args(argv)
    from kacl_gpu.kacl.training.ablate import ablate

    ablate(arguments.variants, arguments.seeds, Path(arguments.out), fit_arguments)
    print(f"{arguments.out}/ablation.md")
    return 0
