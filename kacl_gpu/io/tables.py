"""What commands that work through many files share: files that appear whole, a progress bar.

Needs the extra ``io`` (tqdm).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write: `path` is at every moment the file that was there or, after this context, the new one, whole."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet or CSV, whole or not at all."""
    with whole(path) as file:
        if path.suffix.lower() == ".parquet":
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False, lineterminator="\n")


def progress(unit: str, total: int, done: int = 0, over: Iterable[Any] | None = None) -> tqdm[Any]:
    """A progress bar on stderr, to be updated, or over something; a log file gets a line now and then instead."""
    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(
        over, total=total, initial=done, unit=f" {unit}", mininterval=interval, dynamic_ncols=True, file=sys.stderr
    )
