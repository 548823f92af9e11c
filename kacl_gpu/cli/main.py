"""Choose and run a command; turn errors into one line and an exit status.

A command's file is imported when it runs, so that ``kacl-gpu --help`` answers at once and each command needs only the
extras that it uses.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from kacl_gpu import __version__
from kacl_gpu.errors import InputError, OutputError

COMMANDS = {
    "extract": "compute the features of many images and write one table",
    "fit": "train KACL",
    "evaluate": "write a report on a checkpoint",
    "ablate": "train several variants and compare them",
    "prepare": "shrink a data set once, for faster training",
    "phantom": "draw synthetic chest radiographs to try things on",
    "demo": "extract features, train and draw a picture, in some minutes and without any data",
}
RESUMABLE = ("fit", "prepare", "extract")  # commands with --resume

# modules that an extra installs
IO = ("PIL", "jsonargparse", "matplotlib", "pandas", "pyarrow", "pydicom", "tqdm", "yaml")
TRAIN = (
    "docstring_parser",
    "jinja2",
    "lightning",
    "markdown",
    "pycocotools",
    "scipy",
    "sklearn",
    "tabulate",
    "tensorboard",
    "torchmetrics",
    "torchvision",
    "typeshed_client",
)

EPILOG = f"""\
commands:
{chr(10).join(f"  {name:<10}{words}" for name, words in COMMANDS.items())}

exit status:
  0 done   1 failed   2 wrong use   3 done, but some images or regions could not be used   130 interrupted

examples:
  kacl-gpu demo
  kacl-gpu extract images/ --out features.csv
  kacl-gpu fit --config nih --data.root ChestXray14 --out runs/nih
  kacl-gpu COMMAND --help
"""


class CommandParser(argparse.ArgumentParser):
    """Parser without jsonargparse, for what runs before an extra is needed, and for a part of a command's arguments.

    Example:
        >>> parser = CommandParser(prog="kacl-gpu")
        >>> _ = parser.add_argument("--out")
        >>> parser.parse_known_args(["--out", "runs", "--seed", "1"])
        (Namespace(out='runs'), ['--seed', '1'])
    """

    def error(self, message: str) -> NoReturn:
        """End with status 2 and the message in one line."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments of the command; None: those of the process.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong use, 3 some images or regions could not be used, 130 interrupted.

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        kacl-gpu ...
        0
    """
    owns_process = argv is None
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = CommandParser(
        prog="kacl-gpu",
        description="Compute PyRadiomics' features on a GPU or the CPU, and train networks with them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of the commands below")
    command = ""
    try:
        command = parser.parse_args(argv[:1]).command
        status = int(importlib.import_module(f"kacl_gpu.cli.{command}").run(argv[1:]))
        if status == 130 and owns_process:
            # a thread that still computes a region would slow down the interpreter's own end
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status
    except SystemExit as error:  # parsers end with --help, --version and wrong use
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except InputError as error:
        return fail(command, f"error: {error}", 1 if isinstance(error, OutputError) else 2)
    except KeyboardInterrupt:
        hint = ": the same command with --resume goes on" if command in RESUMABLE else ""
        return fail(command, f"interrupted{hint}", 130)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in (*IO, *TRAIN):
            raise
        extras = "io" if module in IO and command == "extract" else "io,train"
        return fail(command, f'{module} is not installed: pip install "kacl-gpu[{extras}]"', 1)
    except OSError as error:
        if error.strerror is None:
            raise
        place = f": {error.filename}" if error.filename else ""
        return fail(command, f"error: {error.strerror}{place}", 1)


def fail(command: str, message: str, status: int) -> int:
    """Write one line to stderr and return the exit status.

    Example:
        >>> fail("extract", "error: no such folder", 2)
        2
    """
    print(f"kacl-gpu {command}: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
