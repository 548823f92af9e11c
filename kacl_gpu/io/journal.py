"""Keep a journal of a run, so that it can go on after an interruption, and lock an output while it is written.

Every command that can be resumed keeps its journal here. Needs filelock, which torch requires.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from kacl_gpu.errors import InputError, OutputError

Record = TypeVar("Record")


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold the right to write an output: a lock on ``<out>.lock``, which the system releases if the process dies.

    Raises:
        InputError: another process holds it, or the folder of `out` is missing.
        OutputError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp(), "features.csv")
        >>> with lock(out):  # doctest: +ELLIPSIS
        ...     with lock(out):
        ...         pass
        Traceback (most recent call last):
        kacl_gpu.errors.InputError: another run is writing ...
    """
    place = out.absolute()  # "." has no name
    path = place.with_name(f"{place.name}.lock")
    if not out.parent.is_dir():  # which some versions of filelock would create
        raise InputError(f"cannot write {out}: No such file or directory: {out.parent}")
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing {out}: wait until it ends, or choose another output") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file; the next run takes over what is left
            path.unlink(missing_ok=True)
        file_lock.release()


class Journal(Generic[Record]):
    """Keep the records of a run in a file of JSON lines: first a description of the run, then one line per record.

    Lines are handed to the system as they are written, so a killed process loses at most the line that it was writing.
    Floats are written in full and read back to the bit. A line that is cut off or foreign is passed over, with a word
    on stderr, so its work is done again.

    Args:
        path: of the file.
        run: everything that the results depend on, as JSON knows it (a tuple becomes a list).
        parse: makes a record of the object in a line; raises KeyError, TypeError or ValueError if it is foreign.
        resume: go on with the journal that is there, if any; without it, that one is discarded.

    Raises:
        InputError: the journal that is there is of another run (the message says what differs), or is no journal.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "squares.partial")
        >>> journal = Journal(path, {"power": 2}, lambda line: (line["number"], line["square"]), resume=False)
        >>> journal.add([{"number": 3, "square": 9}])
        >>> journal.close()
        >>> journal = Journal(path, {"power": 2}, lambda line: (line["number"], line["square"]), resume=True)
        >>> list(journal.records())
        [(3, 9)]
        >>> journal.remove()
    """

    def __init__(
        self, path: Path, run: Mapping[str, Any], parse: Callable[[dict[str, Any]], Record], *, resume: bool
    ) -> None:
        self.path, self._parse = path, parse
        description: dict[str, Any] = json.loads(json.dumps(run))
        try:
            if not resume:
                path.unlink(missing_ok=True)
            # unbuffered, so that what a full disk refuses is not written again when the file is closed
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            if path.stat().st_size:
                self._check(description)
            else:
                self.add([description])
        except BaseException:
            self._file.close()
            if path.stat().st_size == 0:
                path.unlink()
            raise

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write records, as objects that `parse` understands; all of them, or after a failure none.

        Raises:
            OutputError: they cannot be written; the file holds what it held before.

        Example:
            >>> import tempfile
            >>> journal = Journal(Path(tempfile.mkdtemp(), "a.partial"), {}, lambda line: line["n"], resume=False)
            >>> journal.add([{"n": 1}, {"n": 2}])
            >>> list(journal.records())
            [1, 2]
            >>> journal.remove()
        """
        self._write(b"".join(json.dumps(record).encode() + b"\n" for record in records))

    def records(self) -> Iterator[Record]:
        """Return the records so far, in the order in which they were added, from the file."""
        return (record for _, record in self._lines() if record is not None)

    def close(self) -> None:
        """Close the file, which stays for a run that resumes this one."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file: the run is complete."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        end, remainder = os.fstat(self._file.fileno()).st_size, memoryview(data)
        try:
            while remainder:
                remainder = remainder[self._file.write(remainder) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _check(self, run: dict[str, Any]) -> None:
        """Compare the description with this run's; say which lines are no records; end an unfinished one."""
        with self.path.open("rb") as file:
            first = file.readline()
        recorded = _object(first)
        if recorded is None:
            raise InputError(
                f"cannot resume: {self.path} does not begin with the description of a run, so it is cut off or not "
                "a journal; leave out --resume to start anew"
            )
        if different := differences(recorded, run):
            raise InputError(
                f"cannot resume: {self.path} is of another run ({'; '.join(different)}); "
                "leave out --resume to start anew"
            )
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                self._write(b"\n")  # the next record begins a line of its own
        if rejects := [number for number, record in self._lines() if record is None]:
            lines = ", ".join(map(str, rejects[:10])) + (", ..." if len(rejects) > 10 else "")
            print(
                f"{self.path}: {len(rejects)} of its lines (line {lines}) are cut off or foreign and are passed over; "
                "what they stood for is done again",
                file=sys.stderr,
            )

    def _lines(self) -> Iterator[tuple[int, Record | None]]:
        """Return number, from 1, and record of each line but the first; None in place of what is not a record."""
        with self.path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if number == 1 or not text.strip():
                    continue
                line = _object(text)
                try:
                    record = None if line is None else self._parse(line)
                except (KeyError, TypeError, ValueError):
                    record = None
                yield number, record


def _object(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a line, None if there is anything else or a part of one."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return what differs between two descriptions of a run, in words.

    Example:
        >>> differences({"size": 16}, {"size": 17})
        ['size was 16, is 17']
    """
    words = []
    for key in dict.fromkeys((*recorded, *current)):
        old, new = recorded.get(key), current.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            words += differences(old, new)
        elif old != new and all(str(value).startswith("sha256") for value in (old, new)):
            words.append(f"the {key} have changed")
        elif old != new:
            words.append(f"{key} was {old}, is {new}")
    return words
