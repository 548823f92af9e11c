"""Decode and shrink all images once, so that an epoch is not bound by PNG decoding: ``kacl-gpu prepare``.

A prepared folder holds ``images.npy``, (N, S, S) uint8, one row a file in the order of their names; ``index.csv``, the
row, name and stored size of each image; ``errors.csv``, the files that could not be read, whose rows are zero; copies
of the CSVs; and ``prepared.json``, what it was made of.

It is made in ``<out>.partial`` and renamed at the end, so what has the name is complete. Rows are flushed to the disk
before ``done.jsonl`` says that they are done.
"""

from __future__ import annotations

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
from kacl_gpu.errors import ImageError, InputError
from kacl_gpu.io.pictures import find_images
from kacl_gpu.io.tables import atomic_file, progress, write_table
from kacl_gpu.kacl.data.dataset import ARRAY, ERRORS, INDEX, NIHChestXray14, read_pixels, resize
from kacl_gpu.kacl.data.nih import Report, read_csv

CHUNK = 32  # images decoded, flushed and marked as done together
RUN, DONE = "prepared.json", "done.jsonl"


@dataclass(frozen=True)
class Prepared:
    """What became of a run: images in the index, files left out, images of this run and its seconds."""

    out: Path
    images: int
    errors: int
    decoded: int
    seconds: float
    report: Report

    def __str__(self) -> str:
        rate = f", {self.decoded} in {self.seconds:.1f} s ({self.decoded / max(self.seconds, 1e-9):.0f} images/s)"
        errors = f", {self.errors} unreadable (see {self.out / ERRORS})" if self.errors else ""
        return f"{self.images} images in {self.out}{errors}{rate if self.decoded else ''}"


@dataclass(frozen=True)
class _Chunk:
    """What became of the files from row `first` on: width and height, or the reason."""

    first: int
    results: list[tuple[int, int] | str]


def prepare(
    root: str | Path, out: str | Path, *, size: int = 256, workers: int | None = None, resume: bool = False
) -> Prepared:
    """Decode and shrink all images of a folder into an array that `NIHChestXray14` reads as it reads the folder.

    Read at `size`, both give the same pixels. (At another size they do not quite: this array is resized again.)

    Args:
        root: the folder, see `NIHChestXray14`.
        out: the folder to make; must not exist, or be empty.
        size: side of the images in pixels, see `kacl_gpu.kacl.data.dataset.resize`.
        workers: processes that decode; 1: this one. None: as many as processors.
        resume: go on with an interrupted run of the same call, or, where it is complete, leave it as it is; without
            it, what an interrupted run left is discarded.

    Returns:
        The summary. Progress goes to stderr.

    Raises:
        InputError: nothing to prepare, `out` is taken, or the interrupted run was of other images or another size.
    """
    started = time.monotonic()
    root, out = Path(root), Path(out)
    workers = count_processors() if workers is None else workers
    if workers < 1 or size < 1:
        raise InputError(f"size and workers must be at least 1, got {size} and {workers}")
    source = NIHChestXray14(root, size=size)  # raises before the work and not after it
    if source.prepared:
        raise InputError(f"{root} is prepared already")
    files = find_images(root)
    run = _describe_run(root, files, size)
    # not a name inside `out`, which must never look complete
    work = out.with_name(f"{out.name}.partial")

    if resume and (out / RUN).exists():
        _check_same(out / RUN, run)
        (out / DONE).unlink(missing_ok=True)
        decoded = 0
    else:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"{out} exists already")
        decoded = _decode(work, list(files.values()), run, workers, resume=resume)
        _finish(work, list(files), source.report)
        work.rename(out)
        (out / DONE).unlink()
    images = len(read_csv(out / INDEX))
    return Prepared(out, images, len(files) - images, decoded, time.monotonic() - started, source.report)


def _describe_run(root: Path, files: dict[str, Path], size: int) -> dict[str, Any]:
    """Everything that the array depends on."""
    stamps = [(name, (status := path.stat()).st_size, status.st_mtime_ns) for name, path in files.items()]
    return {
        "source": str(root.resolve()),
        "size": size,
        "images": len(files),
        "files": f"sha256 {hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}",
        "pillow": PIL.__version__,  # which decodes and resizes
    }


def _check_same(path: Path, run: dict[str, Any]) -> None:
    before = json.loads(path.read_text())
    if differences := [f"{key} was {before.get(key)}, is {run[key]}" for key in run if before.get(key) != run[key]]:
        raise InputError(f"cannot resume: {path.parent} is of another run ({'; '.join(differences)})")


def _decode(work: Path, files: Sequence[Path], run: dict[str, Any], workers: int, *, resume: bool) -> int:
    """Fill the array, as far as it is not done; returns the number of images decoded."""
    if resume and (work / RUN).exists():
        _check_same(work / RUN, run)
    else:
        _begin(work, run)
    done = {chunk.first for chunk in _chunks(work / DONE)}
    todo = [first for first in range(0, len(files), CHUNK) if first not in done]
    finished = sum(len(files[first : first + CHUNK]) for first in done)
    jobs = [(first, files[first : first + CHUNK]) for first in todo]
    with (
        (work / DONE).open("a") as marks,
        progress("images", len(files), finished) as bar,
        closing(_run(partial(_fill, work / ARRAY, run["size"]), jobs, workers)) as chunks,
    ):
        for chunk in chunks:
            marks.write(json.dumps(vars(chunk)) + "\n")
            marks.flush()
            bar.update(len(chunk.results))
    return len(files) - finished


def _begin(work: Path, run: dict[str, Any]) -> None:
    """An empty folder with the array, all zero, and at last the description, without which nothing is resumed."""
    if work.exists():
        ours = {RUN, f"{RUN}.tmp", DONE, ARRAY, INDEX, f"{INDEX}.tmp", ERRORS, f"{ERRORS}.tmp"}
        if not work.is_dir() or any(p.name not in ours and p.suffix != ".csv" for p in work.iterdir()):
            raise InputError(f"{work} is in the way: it is not an unfinished preparation")
        (work / RUN).unlink(missing_ok=True)
        shutil.rmtree(work)
    work.mkdir(parents=True)
    shape = (run["images"], run["size"], run["size"])
    np.lib.format.open_memmap(work / ARRAY, mode="w+", dtype=np.uint8, shape=shape).flush()
    with atomic_file(work / RUN) as file:
        file.write((json.dumps(run, indent=2) + "\n").encode())


def _chunks(path: Path) -> list[_Chunk]:
    """The chunks that are done; a line that was never finished is cut off."""
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        os.truncate(path, len(whole))
    chunks = [_Chunk(**json.loads(line)) for line in whole.splitlines()]
    return sorted(chunks, key=lambda chunk: chunk.first)


def _run(
    fill: partial[_Chunk], jobs: Sequence[tuple[int, Sequence[Path]]], workers: int
) -> Generator[_Chunk, None, None]:
    """Chunks as they are done, in this process or in others."""
    if workers == 1 or len(jobs) < 2:
        yield from (fill(*job) for job in jobs)
        return
    # not forked from this process, where torch has threads, but from one that has only imported
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_end_with_parent) as pool:
        try:
            for future in as_completed([pool.submit(fill, *job) for job in jobs]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)  # interrupted: nobody waits for the rest


def _end_with_parent() -> None:
    """End this process when its parent is killed, which the pool itself would not see to."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _fill(array: Path, size: int, first: int, files: Sequence[Path]) -> _Chunk:
    """Decode and shrink files into the rows from `first` on, and flush them."""
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
    images = np.lib.format.open_memmap(array, mode="r+")
    images[first : first + len(files)] = rows
    images.flush()
    return _Chunk(first, results)


def _finish(work: Path, names: Sequence[str], report: Report) -> None:
    """The tables beside the array; the index, which makes the folder readable, last."""
    results = [result for chunk in _chunks(work / DONE) for result in chunk.results]
    images = [
        (row, name, *r) for row, (name, r) in enumerate(zip(names, results, strict=True)) if not isinstance(r, str)
    ]
    errors = [(name, reason) for name, reason in zip(names, results) if isinstance(reason, str)]
    for path in filter(None, (report.table, report.box_file)):
        shutil.copyfile(path, work / path.name)
    if errors:
        write_table(pd.DataFrame(errors, columns=["image", "reason"]), work / ERRORS)
    write_table(pd.DataFrame(images, columns=["row", "image", "source_width", "source_height"]), work / INDEX)
