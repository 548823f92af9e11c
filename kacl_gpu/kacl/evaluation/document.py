"""A report that is written as Markdown, and as one HTML file with the pictures in it that needs no network."""

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
from matplotlib.figure import Figure

from kacl_gpu.io.tables import write_table

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.6rem } h2 { margin-top: 2.6rem; border-bottom: 1px solid #d0d7de } h3 { margin-top: 1.8rem }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0 }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e7eb; text-align: right }
th:first-child, td:first-child { text-align: left; min-width: 8rem } thead th { border-bottom: 2px solid #57606a }
td em { color: #57606a } img { max-width: 100%; height: auto; margin: .6rem 0 }
code { background: #f3f4f6; padding: .1rem .25rem; border-radius: 3px; overflow-wrap: anywhere }
blockquote { margin: .8rem 0; padding: .1rem 1rem; border-left: 4px solid #bf8700; background: #fff8e5 }
"""


class Report:
    """Text with tables and pictures, which becomes a Markdown file and an HTML file that needs no other."""

    def __init__(self, out: Path, title: str) -> None:
        self.out = out
        self.title = title
        self.parts = [f"# {escape(title)}"]
        self.tables = 0
        for name in ("figures", "tables"):
            (out / name).mkdir()

    def add(self, *paragraphs: str) -> None:
        """Add text, in Markdown; empty paragraphs are left out."""
        self.parts += filter(None, paragraphs)

    def facts(self, settings: Mapping[str, Any], notes: Sequence[str]) -> None:
        """What was evaluated, into the text and into run.json, and what the reader must know of it."""
        (self.out / "run.json").write_text(json.dumps({**settings, "notes": [*notes]}, indent=2, default=str) + "\n")
        self.add("\n".join(f"- {name.replace('_', ' ')}: `{value}`" for name, value in settings.items()))
        self.add(*(f"> {note}" for note in notes))

    def grid(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table of words."""
        safe = str.maketrans({"&": "&amp;", "<": "&lt;", "|": "\\|"})
        lines = [[word.translate(safe) for word in line] for line in (header, *rows)]
        lines.insert(1, ["---", *["---:"] * (len(header) - 1)])
        self.add("\n".join(f"| {' | '.join(line)} |" for line in lines))

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write numbers to tables/NAME.csv."""
        write_table(table, self.out / "tables" / f"{name}.csv")

    def picture(self, name: str, figure: Figure, words: str) -> None:
        """Write figures/NAME.png and add it."""
        figure.savefig(self.out / "figures" / f"{name}.png", dpi=120)
        self.add(f"![{words}](figures/{name}.png)")

    def write(self, raw: Mapping[str, pd.DataFrame]) -> Path:
        """Write the raw predictions and both reports; returns the HTML file, which is written last."""
        for name, table in raw.items():
            write_table(table, self.out / f"{name}.parquet")
        self.add("## Files")
        self.add(
            "The raw predictions, to compute everything here again: "
            + ", ".join(f"`{name}.parquet`" for name in raw)
            + ". Places are in pixels of the images as the model saw them, far edges exclusive. The numbers of all "
            "tables are in `tables/`, the pictures in `figures/`, the settings in `run.json`."
        )
        text = "\n\n".join(self.parts) + "\n"
        (self.out / "report.md").write_text(text, encoding="utf-8")
        body = markdown.markdown(text, extensions=["tables"])
        body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        body = re.sub(r'src="([^"]+)"', lambda found: f'src="{self._inline(found[1])}"', body)
        page = (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(self.title)}</title>\n'
            f'<meta name="viewport" content="width=device-width">\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\n'
            "</body>\n</html>\n"
        )
        path = self.out / "report.html"
        path.write_text(page, encoding="utf-8")
        return path

    def _inline(self, name: str) -> str:
        kind = mimetypes.guess_type(name)[0]
        return f"data:{kind};base64,{base64.b64encode((self.out / name).read_bytes()).decode()}"
