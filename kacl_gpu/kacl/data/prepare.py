"""Decode and shrink all images once, so that an epoch is not bound by PNG decoding: ``kacl-gpu prepare``.

A prepared folder holds ``images.npy``, (N, S, S) uint8, one row per file in the order of names; ``index.csv``, the row,
name and stored size of each image; ``errors.csv``, the files that could not be read, whose rows are zero; copies
of the CSVs; and ``prepared.json``, the description of its source.

It is made in ``<out>.partial`` and renamed at the end, so a folder of that name is complete. Rows are on the disk
before the journal ``done.jsonl`` says that they are done.
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL

from kacl_gpu.devices import count_processors
from kacl_gpu.errors import ImageError, InputError, OutputError
from kacl_gpu.io.folders import find_images
from kacl_gpu.io.journal import Journal, differences, lock
from kacl_gpu.io.tables import atomic_file, progress, write_table
from kacl_gpu.kacl.data.annotations import Inventory, read_csv
from kacl_gpu.kacl.data.dataset import ARRAY, ERRORS, INDEX, NIHChestXray14, open_prepared, read_pixels, resize

CHUNK = 32  # images decoded, written and marked as done together
DESCRIPTION, JOURNAL = "prepared.json", "done.jsonl"


@dataclass(frozen=True)
class Prepared:
    """Hold the outcome of a run: images in the index, files left out, images decoded by this run and its seconds."""

    out: Path
    images: int
    errors: int
    decoded: int
    seconds: float
    inventory: Inventory

    def __str__(self) -> str:
        rate = f", {self.decoded} in {self.seconds:.1f} s ({self.decoded / max(self.seconds, 1e-9):.0f} images/s)"
        errors = f", {self.errors} unreadable (see {self.out / ERRORS})" if self.errors else ""
        return f"{self.images} images in {self.out}{errors}{rate if self.decoded else ''}"


@dataclass(frozen=True)
class _Chunk:
    """Hold the results of the files from row `first` on: width and height, or the reason why one cannot be read."""

    first: int
    results: list[tuple[int, int] | str]

    @classmethod
    def parse(cls, images: int, line: dict[str, Any]) -> _Chunk:
        """Return the chunk in a line of the journal of a run with so many images.

        Raises:
            KeyError, TypeError, ValueError: the line is foreign.
        """
        first, results = int(line["first"]), []
        for result in line["results"]:
            if not isinstance(result, str):
                width, height = result
                result = int(width), int(height)
            results.append(result)
        if first % CHUNK or not 0 < len(results) == min(CHUNK, images - first):
            raise ValueError("not the rows of a chunk")
        return cls(first, results)


def prepare(
    root: str | Path, out: str | Path, *, size: int = 224, workers: int | None = None, resume: bool = False
) -> Prepared:
    """Decode and shrink all images of a folder into an array that `NIHChestXray14` reads as it reads the folder.

    Read at `size`, both give the same pixels. (At another size they differ a little: this array is resized again.)

    Args:
        root: the folder, see `NIHChestXray14`.
        out: the folder to make; must not exist, or be empty.
        size: side of the images in pixels, see `kacl_gpu.kacl.data.dataset.resize`; 224 is the default of training.
        workers: number of processes that decode; 1: this one alone; None: as many as processors.
        resume: go on with an interrupted run of the same call; a complete one is left as it is. Without it, the rest of
            an interrupted run is discarded.

    Returns:
        The summary. Progress goes to stderr.

    Raises:
        InputError: there is nothing to prepare, `out` is taken, another run is writing it, or the interrupted run was
            of other images or another size.
        OutputError: the folder cannot be written, for instance on a full disk; the message says what is kept.
    """
    started = time.monotonic()
    root, out = Path(root), Path(out)
    workers = count_processors() if workers is None else workers
    if workers < 1 or size < 1:
        raise InputError(f"size and workers must be at least 1, got {size} and {workers}")
    if not out.name:
        raise InputError(f"cannot make the folder {out}, which is there already: choose another --out")
    # Opened first, so that a folder that cannot be used is refused before the work and not after it
    source = NIHChestXray14(root, size=size)
    if source.prepared:
        raise InputError(f"{root} is prepared already")
    files = find_images(root)
    run = _describe_run(root, files, size)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    with lock(out):
        if resume and (out / DESCRIPTION).exists():
            _check_complete(out, run)
            decoded = 0
        else:
            if out.exists() and not (out.is_dir() and not any(out.iterdir())):
                raise InputError(f"{out} exists already")
            decoded = _make(out, files, run, source.inventory, workers, resume=resume)
    images = len(read_csv(out / INDEX))
    return Prepared(out, images, len(files) - images, decoded, time.monotonic() - started, source.inventory)


def _describe_run(root: Path, files: dict[str, Path], size: int) -> dict[str, Any]:
    """Return everything that the array depends on."""
    stamps = [(name, (status := path.stat()).st_size, status.st_mtime_ns) for name, path in files.items()]
    return {
        "source": str(root.resolve()),
        "size": size,
        "images": len(files),
        "files": f"sha256 {hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}",
        "pillow": PIL.__version__,  # which decodes and resizes
    }


def _check_complete(out: Path, run: dict[str, Any]) -> None:
    """Raise unless a complete folder is of this run; remove the journal that a killed run may have left in it."""
    path = out / DESCRIPTION
    try:
        description = json.loads(path.read_text())
        if not isinstance(description, dict):
            raise ValueError("it is not a description")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot resume: {path} is cut off or damaged ({error}); prepare into another folder"
        ) from error
    if different := differences(description, run):
        raise InputError(f"cannot resume: {out} is of another run ({'; '.join(different)})")
    (out / JOURNAL).unlink(missing_ok=True)


def _make(
    out: Path, files: dict[str, Path], run: dict[str, Any], inventory: Inventory, workers: int, *, resume: bool
) -> int:
    """Make the folder, or go on with it; return the number of images decoded."""
    # Not a name inside `out`, which must never look complete
    work = out.with_name(f"{out.name}.partial")
    resume = resume and (work / JOURNAL).exists()
    try:
        if not resume:
            _begin(work, run)
        with closing(Journal(work / JOURNAL, run, partial(_Chunk.parse, len(files)), resume=resume)) as journal:
            if resume:
                _check_array(work, run)
            decoded = _decode(work, list(files.values()), run, journal, workers)
            results = [result for chunk in _sorted(journal) for result in chunk.results]
        _finish(work, list(files), results, run, inventory)
        work.rename(out)
        (out / JOURNAL).unlink()
    except (OutputError, OSError) as error:
        words = error if isinstance(error, OutputError) else f"cannot write {work}: {error.strerror or error}"
        rows = _count_rows(work, len(files))
        if not rows:
            _remove(work)
            raise OutputError(f"{words}; nothing is kept: make room, or choose another --out") from error
        rest = f"{rows} of {len(files)} images are kept in {work}"
        raise OutputError(f"{words}; {rest}: make room, and the same command with --resume goes on") from error
    return decoded


def _count_rows(work: Path, images: int) -> int:
    """Return the number of images that are done according to the journal, in whatever state the folder is."""
    try:
        lines = (work / JOURNAL).read_bytes().splitlines()[1:]
        return sum(len(_Chunk.parse(images, json.loads(line)).results) for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _sorted(journal: Journal[_Chunk]) -> list[_Chunk]:
    """Return the chunks that are done, each once, by their rows."""
    return [chunk for _, chunk in sorted({chunk.first: chunk for chunk in journal.records()}.items())]


def _decode(work: Path, files: Sequence[Path], run: dict[str, Any], journal: Journal[_Chunk], workers: int) -> int:
    """Fill the rows of the array that are not done; return the number of images decoded."""
    done = {chunk.first for chunk in _sorted(journal)}
    todo = [first for first in range(0, len(files), CHUNK) if first not in done]
    finished = sum(len(files[first : first + CHUNK]) for first in done)
    jobs = [(first, files[first : first + CHUNK]) for first in todo]
    with (
        progress("images", len(files), finished) as bar,
        closing(_run(partial(_fill, work / ARRAY, run["size"]), jobs, workers)) as chunks,
    ):
        for chunk in chunks:
            journal.add([vars(chunk)])
            bar.update(len(chunk.results))
    return len(files) - finished


def _begin(work: Path, run: dict[str, Any]) -> None:
    """Make an empty folder with an array of zeros, for which the room on the disk is reserved."""
    if work.exists():
        names = {DESCRIPTION, JOURNAL, ARRAY, INDEX, ERRORS}
        names |= {f"{name}.tmp" for name in names}
        if not work.is_dir() or any(p.name not in names and p.suffix != ".csv" for p in work.iterdir()):
            raise InputError(f"{work} is in the way: it is not an unfinished preparation")
        # Without a journal nothing is resumed
        (work / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(work)
    work.mkdir(parents=True)
    shape = (run["images"], run["size"], run["size"])
    try:
        with (work / ARRAY).open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            end = file.tell() + int(np.prod(shape))
            file.truncate(end)
            _reserve(file.fileno(), end)
    except OSError as error:
        needed = f"{np.prod(shape) / 2**20:.0f} MiB are needed"
        raise OutputError(f"cannot write {work / ARRAY}: {error.strerror or error} ({needed})") from error


def _reserve(file: int, size: int) -> None:
    """Reserve the room of a file on the disk, if the system can do that."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise


def _check_array(work: Path, run: dict[str, Any]) -> None:
    """Raise if the array of an interrupted run is not as that run began it."""
    shape = (run["images"], run["size"], run["size"])
    try:
        same = open_prepared(work).shape == shape
    except InputError:
        same = False
    if not same:
        raise InputError(
            f"cannot resume: {work / ARRAY} is missing, cut off or of another shape than {shape}; leave out --resume "
            "to start anew"
        )


def _remove(work: Path) -> None:
    """Remove the folder of a run of which nothing is kept."""
    for name in (JOURNAL, ARRAY):
        (work / name).unlink(missing_ok=True)
    if work.is_dir() and not any(work.iterdir()):
        work.rmdir()


def _run(
    fill: partial[_Chunk], jobs: Sequence[tuple[int, Sequence[Path]]], workers: int
) -> Generator[_Chunk, None, None]:
    """Return chunks as they are done, in this process or in others."""
    if workers == 1 or len(jobs) < 2:
        yield from (fill(*job) for job in jobs)
        return
    # Forked from a process that has only imported, for in this one torch may have threads
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(fill, *job) for job in jobs]):
                yield future.result()
        finally:
            # After an interruption nobody waits for the rest
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is killed, which the pool itself would not see to."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _fill(array: Path, size: int, first: int, files: Sequence[Path]) -> _Chunk:
    """Decode and shrink files into the rows from `first` on, and wait until these are on the disk."""
    rows = np.zeros((len(files), size, size), np.uint8)
    results: list[tuple[int, int] | str] = []
    for row, path in zip(rows, files):
        try:
            pixels = read_pixels(path)
        except ImageError as error:
            results.append(str(error))
            continue
        row[:] = pixels if pixels.shape == row.shape else resize(pixels, size)
        results.append((pixels.shape[1], pixels.shape[0]))
    # Not through a memory map, in which a full disk is a bus error
    try:
        with array.open("r+b") as file:
            file.seek(-(_rows(array) - first) * size * size, os.SEEK_END)
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {array}: {error.strerror or error}") from error
    return _Chunk(first, results)


def _rows(array: Path) -> int:
    """Return the number of rows of the array in a file."""
    return len(np.load(array, mmap_mode="r"))


def _finish(
    work: Path,
    names: Sequence[str],
    results: Sequence[tuple[int, int] | str],
    run: dict[str, Any],
    inventory: Inventory,
) -> None:
    """Write the tables beside the array; the index, which makes the folder readable, last."""
    images = [
        (row, name, *r) for row, (name, r) in enumerate(zip(names, results, strict=True)) if not isinstance(r, str)
    ]
    errors = [(name, reason) for name, reason in zip(names, results) if isinstance(reason, str)]
    for path in filter(None, (inventory.table, inventory.box_file)):
        shutil.copyfile(path, work / path.name)
    with atomic_file(work / DESCRIPTION) as file:
        file.write((json.dumps(run, indent=2) + "\n").encode())
    if errors:
        write_table(pd.DataFrame(errors, columns=["image", "reason"]), work / ERRORS)
    write_table(pd.DataFrame(images, columns=["row", "image", "source_width", "source_height"]), work / INDEX)
