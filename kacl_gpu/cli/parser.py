"""The argument parser of every command: errors in one line, examples at the end of the help."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from typing import NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter

from kacl_gpu.errors import plain_words


class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keep the lines of description and examples, and name a default only where there is one."""

    def _get_help_string(self, action: Action) -> str:
        words = action.help or ""
        if action.required and action.option_strings:
            return f"{words} (required)"
        has_default = action.default not in (None, False, SUPPRESS) and bool(action.option_strings)
        return f"{words} (default: %(default)s)" if has_default and "default:" not in words else words


class Parser(ArgumentParser):
    """Parser of one command.

    Args:
        command: name of the command, as in ``kacl-gpu extract``.
        description: sentences that the help begins with.
        notes: text that the help ends with, before the examples.
        examples: command lines, one or more.

    Example:
        >>> parser = Parser("count", "Count images.", examples="  kacl-gpu count scans/")
        >>> _ = parser.add_argument("--size", type=int, default=224, help="width and height")
        >>> print(parser.format_help())  # doctest: +ELLIPSIS
        usage: kacl-gpu count ...
          --size SIZE           width and height (default: 224)
        <BLANKLINE>
        examples:
          kacl-gpu count scans/
        <BLANKLINE>
    """

    def __init__(self, command: str, description: str, *, examples: str, notes: str = "") -> None:
        super().__init__(
            prog=f"kacl-gpu {command}",
            description=description,
            epilog=f"{notes}\nexamples:\n{examples}".lstrip(),
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--config", metavar="FILE", action=ActionConfigFile, help="YAML file with any of these settings, by name"
        )
        (printing,) = (action for action in self._actions if action.dest == "print_config")
        printing.help = "print the settings as YAML and exit"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with status 2 and the message in one line."""
        # arguments are named as they are typed, not as they are stored
        typed = {action.dest: (action.option_strings or [str(action.metavar)])[0] for action in self._actions}
        line = re.sub(r"^--(\w+)(?=[: ])", lambda match: typed.get(match[1], match[0]), plain_words(message))
        start, colon, names = line.partition("required: ")
        if colon:
            names = ", ".join(typed.get(name, name) for name in names.split(", "))
        self.exit(2, f"{self.prog}: error: {start}{colon}{names} (see {self.prog} --help)\n")
