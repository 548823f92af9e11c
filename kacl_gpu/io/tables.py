"""Write files that are complete or absent, tables among them, and show progress.

Needs the extra ``io`` (tqdm, pandas).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm

from kacl_gpu.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that takes its name only when it is complete and on the disk.

    Until then, and after any failure, `path` is what it was before; nothing is left beside it.

    Raises:
        OutputError: the file cannot be written, for instance on a full disk.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "greeting.txt")
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"hello")
        ...     path.exists()
        False
        >>> path.read_bytes()
        b'hello'
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # by its number: libraries put their own words, or none, in place of the system's
        raise OutputError(f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet (suffix ``.parquet``) or else CSV, completely or not at all.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import pandas, tempfile
        >>> path = Path(tempfile.mkdtemp(), "areas.csv")
        >>> write_table(pandas.DataFrame({"image": ["a.png"], "area": [12.5]}), path)
        >>> print(path.read_text(), end="")
        image,area
        a.png,12.5
    """
    with atomic_file(path) as file:
        if path.suffix.lower() == ".parquet":
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False, lineterminator="\n")


def progress(unit: str, total: int, initial: int = 0, items: Iterable[Any] | None = None) -> tqdm[Any]:
    """Return a progress bar on stderr; in a log file it prints a line every ten seconds instead.

    Args:
        unit: what is counted, in the plural.
        total: number of them.
        done: number of them that were done before.
        items: to iterate over; None: the caller updates the bar.

    Example:
        >>> list(progress("images", 2, items=["a.png", "b.png"]))
        ['a.png', 'b.png']
    """
    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(
        items, total=total, initial=initial, unit=f" {unit}", mininterval=interval, dynamic_ncols=True, file=sys.stderr
    )
