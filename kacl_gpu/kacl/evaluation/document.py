"""A document that is written as Markdown, and as one HTML file with the pictures in it that needs no network."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import markdown
import pandas as pd
import tabulate  # noqa: F401 - pandas writes Markdown by it
from jinja2 import Environment
from matplotlib.figure import Figure

from kacl_gpu.io.tables import atomic_file, write_table

from .figures import save_figure

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.6rem } h2 { margin-top: 2.6rem; border-bottom: 1px solid #d0d7de } h3 { margin-top: 1.8rem }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0 }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e7eb; text-align: right }
th:first-child, td:first-child { text-align: left; min-width: 8rem } thead th { border-bottom: 2px solid #57606a }
td em { color: #57606a } img { max-width: 100%; height: auto; margin: .6rem 0 }
code { background: #f3f4f6; padding: .1rem .25rem; border-radius: 3px; overflow-wrap: anywhere }
blockquote { margin: .8rem 0; padding: .1rem 1rem; border-left: 4px solid #bf8700; background: #fff8e5 }
</style>
</head>
<body>
{{ body | safe }}
</body>
</html>
"""
FACTS = """\
{% for name, value in facts.items() %}- {{ name | replace("_", " ") }}: `{{ value }}`
{% endfor %}"""
FILES = """\
The raw predictions, to compute everything here again: {% for name in names %}`{{ name }}.parquet`\
{{ ", " if not loop.last }}{% endfor %}. Places are in pixels of the images as the model saw them, far edges \
exclusive. The numbers of all tables are in `tables/`, the pictures in `figures/`, the settings in `run.json`."""


class Document:
    """Collect text, tables and pictures, and write them as a Markdown file and as an HTML file that needs no other.

    Args:
        out: folder to write, without ``figures/`` and ``tables/``.
        title: heading of the document.

    Raises:
        OutputError: from every method, if a file cannot be written.

    Example:
        >>> import tempfile
        >>> document = Document(Path(tempfile.mkdtemp()), "Evaluation")
        >>> document.grid(["", "AUC"], [["Mass", "0.812"]])
        >>> document.write({}).name
        'report.html'
    """

    def __init__(self, out: Path, title: str) -> None:
        self.out = out
        self.title = title
        self.paragraphs = [f"# {escape(title)}"]
        for name in ("figures", "tables"):
            (out / name).mkdir()

    def add(self, *paragraphs: str) -> None:
        """Add paragraphs in Markdown; empty ones are left out."""
        self.paragraphs += filter(None, paragraphs)

    def facts(self, facts: Mapping[str, Any], notes: Sequence[str]) -> None:
        """Add the settings of the evaluation and notes for the reader, and write both to run.json."""
        content = json.dumps({**facts, "notes": [*notes]}, indent=2, default=str) + "\n"
        self._write("run.json", content)
        self.add(_render(FACTS, facts=facts).rstrip(), *(f"> {note}" for note in notes))

    def grid(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table of words."""
        self.add(markdown_table(header, rows))

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write numbers to tables/NAME.csv."""
        write_table(table, self.out / "tables" / f"{name}.csv")

    def picture(self, name: str, figure: Figure, words: str) -> None:
        """Write figures/NAME.png and add it, with words that describe it."""
        save_figure(figure, self.out / "figures" / f"{name}.png", dpi=120)
        self.add(f"![{words}](figures/{name}.png)")

    def write(self, raw: Mapping[str, pd.DataFrame]) -> Path:
        """Write the raw predictions and both forms of the document; return the HTML file, which is written last."""
        for name, table in raw.items():
            write_table(table, self.out / f"{name}.parquet")
        self.add("## Files", _render(FILES, names=[*raw]))
        text = "\n\n".join(self.paragraphs) + "\n"
        self._write("report.md", text)
        body = markdown.markdown(text, extensions=["tables"])
        body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        body = re.sub(r'src="([^"]+)"', lambda match: f'src="{self._inline(match[1])}"', body)
        return self._write("report.html", _render(PAGE, autoescape=True, title=self.title, body=body))

    def _write(self, name: str, content: str) -> Path:
        with atomic_file(self.out / name) as file:
            file.write(content.encode())
        return self.out / name

    def _inline(self, name: str) -> str:
        kind = mimetypes.guess_type(name)[0]
        return f"data:{kind};base64,{base64.b64encode((self.out / name).read_bytes()).decode()}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of words in Markdown, the first column to the left and the others to the right.

    Example:
        >>> print(markdown_table(["", "AUC"], [["Mass", "0.8"]]))
        |      |   AUC |
        |:-----|------:|
        | Mass |   0.8 |
    """
    safe = str.maketrans({"&": "&amp;", "<": "&lt;", "|": "\\|"})
    columns = [word.translate(safe) for word in header]
    table = pd.DataFrame([[word.translate(safe) for word in row] for row in rows], columns=columns)
    alignment = ["left", *["right"] * (len(columns) - 1)]
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=alignment if len(table) else None))


def _render(template: str, *, autoescape: bool = False, **values: Any) -> str:
    """Fill a template; with `autoescape`, as HTML."""
    environment = Environment(autoescape=autoescape, keep_trailing_newline=True)
    return environment.from_string(template).render(**values)
