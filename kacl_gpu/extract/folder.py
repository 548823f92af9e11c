"""Features of many images into one table: what ``kacl-gpu extract`` does.

Threads decode ahead while the device computes, images of one size together. What becomes of every region goes at once
to a journal beside the output, so that an interrupted run can go on; the table is written whole at the end, in the
order of the input. Needs the extra ``io``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kacl_gpu import RadiomicsSettings, __version__, feature_names, gpu_radiomics
from kacl_gpu.devices import choose_device, count_processors
from kacl_gpu.errors import ImageError, InputError
from kacl_gpu.io.boxes import BOX_COLUMNS, Box, Region, read_boxes
from kacl_gpu.io.pictures import Array, find_images, find_masks, read_image, read_mask
from kacl_gpu.io.tables import progress, write_table

MEMORY = 2**30  # bytes of decoded images that may wait to be computed


@dataclass(frozen=True)
class Summary:
    """What a run did: rows written, regions left out, images of this run, its seconds, and the two files."""

    regions: int
    errors: int
    images: int
    seconds: float
    out: Path
    errors_out: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a region: its box in pixels of the stored image, if it could be placed, and one of the others."""

    region: int
    box: Box | None
    features: list[float] | None = None
    reason: str | None = None


def extract(
    images: str | Path,
    out: str | Path,
    *,
    boxes: str | Path | None = None,
    masks: str | Path | None = None,
    settings: RadiomicsSettings | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    resume: bool = False,
) -> Summary:
    """Compute the radiomic features of every region and write them as one table, one row a region.

    The columns are image, label, x1, y1, x2, y2 (the box in pixels of the stored image, before it is clipped) and the
    features (float64) under PyRadiomics' names. The rows follow the box file, or, without one, the sorted names of the
    images. What cannot be computed stands in ``<stem of out>.errors.csv`` with the reason, and in no row.

    Args:
        images: folder of images (see `kacl_gpu.io.pictures.find_images`) or one image.
        out: ``.parquet`` or ``.csv``; appears at the end, whole, replacing a file of that name.
        boxes: box file (see `kacl_gpu.io.boxes.read_boxes`). None: one region an image.
        masks: folder of label maps of the images' size and stem; the region is the pixels of `settings.label`,
            inside the box where there is one. None: the box, or the whole image.
        settings: the defaults if None.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None: CUDA if there is any.
        batch_size: images computed together, at most; None: 64 on CUDA, 16 on the CPU.
        workers: threads that decode; None: as many as processors, 16 at most.
        resume: go on with an interrupted run of the same call; without it, what that run left is discarded.

    Returns:
        The summary. Progress goes to stderr.

    Raises:
        InputError: an argument or a file as a whole is unusable, or differs from the interrupted run.
    """
    started = time.monotonic()
    out = Path(out)
    settings = settings or RadiomicsSettings()
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"the output must end in .csv or .parquet: {out}")
    if out.is_dir():
        raise InputError(f"the output is a folder: {out}")
    if out.suffix.lower() == ".parquet":
        import pyarrow  # noqa: F401  (a missing one must not be found out at the end)
    chosen = choose_device(device)
    batch_size = (64 if chosen.type == "cuda" else 16) if batch_size is None else batch_size
    workers = min(count_processors(), 16) if workers is None else workers
    if batch_size < 1 or workers < 1:
        raise InputError(f"batch size and workers must be at least 1, got {batch_size} and {workers}")
    files = find_images(Path(images))
    mask_files = None if masks is None else find_masks(Path(masks))
    regions = [Region(name) for name in files] if boxes is None else read_boxes(Path(boxes))
    if boxes is None and masks is not None:
        regions = [dataclasses.replace(region, label=str(settings.label)) for region in regions]

    journal = Journal(out, _describe_run(regions, files, mask_files, settings, chosen), resume=resume)
    with closing(journal):
        todo = [(index, region) for index, region in enumerate(regions) if index not in journal.done]
        journal.add([Outcome(index, None, reason=region.problem) for index, region in todo if region.problem])
        waiting: dict[str, list[int]] = {}  # image -> its regions; images in the order of their first region
        for index, region in todo:
            if not region.problem:
                waiting.setdefault(region.image, []).append(index)
        load = partial(_load, regions, files, mask_files, settings.label)
        loaded = _ahead(load, waiting.items(), workers, batch_size)
        with progress("regions", len(regions), len(journal.done)) as bar, closing(loaded):
            for outcomes in _compute(loaded, settings, chosen, batch_size):
                journal.add(outcomes)
                bar.update(len(outcomes))
        table, errors = _tables(regions, journal.outcomes(), feature_names(settings))
    errors_out = out.with_name(f"{out.stem}.errors.csv")
    if len(errors):
        write_table(errors, errors_out)
    else:
        errors_out.unlink(missing_ok=True)
    write_table(table, out)
    journal.path.unlink(missing_ok=True)
    return Summary(len(table), len(errors), len(waiting), time.monotonic() - started, out, errors_out)


def read_settings(path: str | Path) -> RadiomicsSettings:
    """Read a file of PyRadiomics' parameters; an unusable one is an InputError."""
    try:
        return RadiomicsSettings.from_pyradiomics(path)
    except (ValueError, TypeError) as error:
        raise InputError(" ".join(str(error).split())) from error  # which begins with the path


def _describe_run(
    regions: Sequence[Region],
    files: Mapping[str, Path],
    masks: Mapping[str, Path] | None,
    settings: RadiomicsSettings,
    device: torch.device,
) -> dict[str, Any]:
    """Everything that the table depends on, in full or as a digest; not the batch size, on which it does not depend."""
    names = sorted({region.image for region in regions})
    run = {
        "kacl_gpu": __version__,
        "torch": torch.__version__,
        "device": device.type,
        "settings": dataclasses.asdict(settings),
        "number of regions": len(regions),
        "boxes": _digest(dataclasses.astuple(region) for region in regions),
        "image files": _digest((name, _stamp(files.get(name))) for name in names),
        "mask files": None if masks is None else _digest((name, _stamp(masks.get(Path(name).stem))) for name in names),
    }
    return dict(json.loads(json.dumps(run)))  # as it is read from a journal: tuples are lists


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """Size in bytes and time of last change of a file; None if it is missing."""
    if path is None or not path.exists():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _digest(items: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item).encode())
    return f"sha256 {digest.hexdigest()[:16]}"


class Journal:
    """The outcomes of a run so far, in ``<out>.partial``: a JSON line that describes the run, then one a region.

    Lines are handed to the system as they are made, so a killed process loses nothing but the line it was writing.
    Floats are written in full and read back to the bit.
    """

    def __init__(self, out: Path, run: dict[str, Any], *, resume: bool) -> None:
        """Begin the journal of `out`, or with `resume` go on with the one that lies there if it is of the same run."""
        self.path = out.with_name(f"{out.name}.partial")
        self.done: set[int] = set()
        try:
            if not resume:
                self.path.unlink(missing_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error
        before = next(self._lines(), None)
        if before is None:
            self._append([run])
            return
        if differences := _differences(before, run):
            self._file.close()
            raise InputError(
                f"cannot resume: {self.path} is of another run ({'; '.join(differences)}); "
                "leave out --resume to start anew"
            )
        self.done = {outcome.region for outcome in self.outcomes()}

    def close(self) -> None:
        self._file.close()

    def add(self, outcomes: Sequence[Outcome]) -> None:
        self._append([vars(outcome) for outcome in outcomes])
        self.done.update(outcome.region for outcome in outcomes)

    def outcomes(self) -> Iterator[Outcome]:
        """All outcomes so far, from the file."""
        lines = self._lines()
        next(lines)
        return (Outcome(**line) for line in lines)

    def _append(self, records: Sequence[dict[str, Any]]) -> None:
        self._file.write(b"".join(json.dumps(record).encode() + b"\n" for record in records))
        self._file.flush()

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The lines from the beginning; one that was never finished is cut off."""
        place = 0
        self._file.seek(place)
        for text in self._file:
            try:
                if not text.endswith(b"\n"):
                    raise ValueError
                line = json.loads(text)
            except ValueError:
                self._file.truncate(place)
                return
            yield line
            place += len(text)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions of a run, in words."""
    differences = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            differences += _differences(old, new)
        elif old != new and all(str(value).startswith("sha256") for value in (old, new)):
            differences.append(f"the {key} have changed")
        elif old != new:
            differences.append(f"{key} was {old}, is {new}")
    return differences


@dataclass
class _Loaded:
    """A decoded image, the regions to compute on it, and the outcome of those that it settles already."""

    pixels: Array
    mask: Array | None
    spacing: tuple[float, float]
    regions: list[tuple[int, Box]]
    failed: list[Outcome]

    @property
    def size(self) -> int:
        return self.pixels.nbytes + (0 if self.mask is None else self.mask.nbytes)

    @property
    def kind(self) -> tuple[object, ...]:
        """Images of one kind can be stacked."""
        return self.pixels.shape, self.pixels.dtype, None if self.mask is None else self.mask.dtype


def _load(
    regions: Sequence[Region],
    files: Mapping[str, Path],
    masks: Mapping[str, Path] | None,
    label: int,
    job: tuple[str, list[int]],
) -> _Loaded:
    """Decode an image and its mask and place the boxes on it; runs in the threads."""
    name, indices = job
    try:
        if name not in files:
            raise ImageError("missing image")
        pixels, spacing = read_image(files[name])
    except ImageError as error:
        # without the size of the image a box in NIH's frame cannot be placed
        boxes = [None if regions[index].frame else regions[index].box for index in indices]
        failed = [Outcome(index, box, reason=str(error)) for index, box in zip(indices, boxes, strict=True)]
        return _Loaded(np.zeros((0, 0)), None, (1.0, 1.0), [], failed)
    height, width = pixels.shape
    placed = [(index, regions[index].pixels(height, width)) for index in indices]
    if masks is None:
        return _Loaded(pixels, None, spacing, placed, [])
    try:
        if Path(name).stem not in masks:
            raise ImageError("missing")
        mask = read_mask(masks[Path(name).stem])
        if mask.shape != pixels.shape:
            raise ImageError(f"{mask.shape[0]} x {mask.shape[1]} pixels for an image of {height} x {width}")
    except ImageError as error:
        failed = [Outcome(index, box, reason=f"mask: {error}") for index, box in placed]
        return _Loaded(pixels, None, spacing, [], failed)
    # without a box file, the box is that of the label
    placed = [(index, box if regions[index].box else _bounds(mask == label) or box) for index, box in placed]
    return _Loaded(pixels, mask, spacing, placed, [])


def _bounds(inside: NDArray[np.bool_]) -> Box | None:
    """The smallest box around the pixels of a mask (H, W), None if there is none."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0) if len(rows) else None


def _ahead(
    load: Callable[[tuple[str, list[int]]], _Loaded],
    jobs: Iterable[tuple[str, list[int]]],
    workers: int,
    batch_size: int,
) -> Generator[_Loaded, None, None]:
    """Decode in threads, in order, a batch ahead of who takes the images; less where that would pass `MEMORY`.

    Threads, for Pillow lets go of the interpreter while it decodes, and they need no shared memory and leave no
    process behind.
    """
    waiting: deque[Future[_Loaded]] = deque()
    largest = 1
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(load, job))
                while len(waiting) > max(workers, min(batch_size + workers, MEMORY // largest)):
                    image = waiting.popleft().result()
                    largest = max(largest, image.size)
                    yield image
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # interrupted: nobody waits for the rest


def _compute(
    loaded: Iterable[_Loaded], settings: RadiomicsSettings, device: torch.device, batch_size: int
) -> Iterator[list[Outcome]]:
    """Outcomes of images as they come, computed a batch of one size at a time."""
    kinds: dict[tuple[object, ...], list[_Loaded]] = {}
    for image in loaded:
        if image.failed:
            yield image.failed
        if not image.regions:
            continue
        batch = kinds.setdefault(image.kind, [])
        batch.append(image)
        held = [image for batch in kinds.values() for image in batch]
        if len(batch) == batch_size:
            yield _outcomes(kinds.pop(image.kind), settings, device)
        elif len(held) >= 4 * batch_size or sum(image.size for image in held) > MEMORY:
            most = max(kinds, key=lambda kind: sum(image.size for image in kinds[kind]))
            yield _outcomes(kinds.pop(most), settings, device)
    for batch in kinds.values():
        yield _outcomes(batch, settings, device)


def _outcomes(images: Sequence[_Loaded], settings: RadiomicsSettings, device: torch.device) -> list[Outcome]:
    """Outcomes of all regions of images of one kind, in one call where none of them is invalid."""
    pixels = torch.from_numpy(np.stack([image.pixels for image in images])).to(device)
    masks = None
    if images[0].mask is not None:
        masks = torch.from_numpy(np.stack([image.mask for image in images if image.mask is not None])).to(device)
    spacing = torch.tensor([image.spacing for image in images], dtype=torch.float64)
    rows = [(place, index, box) for place, image in enumerate(images) for index, box in image.regions]

    def outcomes(rows: Sequence[tuple[int, int, Box]]) -> list[Outcome]:
        first, last = rows[0][0], rows[-1][0] + 1  # the images of these rows
        boxes = torch.tensor([(place - first, *box) for place, _, box in rows], dtype=torch.float64, device=device)
        try:
            table = gpu_radiomics(
                pixels[first:last],
                boxes,
                masks=None if masks is None else masks[first:last],
                settings=settings,
                spacing=spacing[first:last],
                dtype=torch.float64,
            )
        except ValueError as error:
            if len(rows) > 1:  # halve until the invalid region stands alone: no other row depends on what is beside it
                middle = len(rows) // 2
                return outcomes(rows[:middle]) + outcomes(rows[middle:])
            # the number of the row is that of this call, and the box stands in its own columns: the reason is the rest
            reason = " ".join(str(error).split()).rpartition("]): ")[2]
            return [Outcome(rows[0][1], rows[0][2], reason=reason)]
        return [Outcome(index, box, features) for (_, index, box), features in zip(rows, table.tolist(), strict=True)]

    return outcomes(rows)


def _tables(
    regions: Sequence[Region], outcomes: Iterable[Outcome], names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of features and that of errors, both in the order of the regions."""
    boxes = np.full((len(regions), 4), np.nan)
    features = np.full((len(regions), len(names)), np.nan)
    reasons: dict[int, str] = {}
    for outcome in outcomes:
        if outcome.box is not None:
            boxes[outcome.region] = outcome.box
        if outcome.features is not None:
            features[outcome.region] = outcome.features
        else:
            reasons[outcome.region] = outcome.reason or ""
    table = pd.DataFrame({"image": [region.image for region in regions], "label": [region.label for region in regions]})
    table[list(BOX_COLUMNS)] = boxes
    bad = sorted(reasons)
    errors = table.loc[bad].assign(reason=[reasons[index] for index in bad])
    table = pd.concat([table, pd.DataFrame(features, columns=list(names))], axis=1)
    return table.drop(index=bad), errors
