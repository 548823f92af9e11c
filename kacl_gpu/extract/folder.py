"""Compute features of many images into one table: what ``kacl-gpu extract`` does.

Threads decode ahead while the device computes, images of one size together. Each result goes at once to a journal
beside the output, so that an interrupted run can go on; the table is written at the end, in the order of the input.
Needs the extra ``io``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
import torch

from kacl_gpu import RadiomicsSettings, __version__, feature_names
from kacl_gpu.devices import choose_device, count_processors
from kacl_gpu.errors import ImageError, InputError, OutputError
from kacl_gpu.io.boxes import BOX_COLUMNS, Box, Target, read_boxes
from kacl_gpu.io.folders import find_files, find_masks, match_names
from kacl_gpu.io.journal import Journal, lock
from kacl_gpu.io.pictures import Array, read_image, read_mask
from kacl_gpu.io.tables import progress, write_table
from kacl_gpu.radiomics.api import compute
from kacl_gpu.radiomics.regions import find_labels, list_labels, make_regions, reasons

MEMORY = 2**30  # bytes of decoded images that may wait to be computed


@dataclass(frozen=True)
class Summary:
    """Report what a run did.

    Attributes:
        regions: rows of the table.
        errors: rows of the table of errors.
        images: images that this run read; others were done by the run that it resumed.
        seconds: its time.
        out, errors_out: the two files; the second exists only if there are errors.
        subfolders: folders that were not looked into.

    Example:
        >>> Summary(2, 0, 1, 0.5, Path("a.csv"), Path("a.errors.csv")).regions
        2
    """

    regions: int
    errors: int
    images: int
    seconds: float
    out: Path
    errors_out: Path
    subfolders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Row:
    """Hold a row of either table: the box in pixels of the stored image if it is known, and features or a reason.

    Example:
        >>> Row("lung", None, reason="missing image").features is None
        True
    """

    label: str
    box: Box | None
    features: list[float] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Hold the rows of a target: one, or one per label of its mask.

    Example:
        >>> [row.label for row in Outcome(0, [Row("1", None, [0.5]), Row("2", None, [0.7])]).rows]
        ['1', '2']
    """

    target: int
    rows: list[Row]


def extract(
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    boxes: str | Path | None = None,
    masks: str | Path | None = None,
    labels: int | Sequence[int] | str | None = None,
    recursive: bool = False,
    settings: RadiomicsSettings | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    resume: bool = False,
) -> Summary:
    """Compute the radiomic features of every region and write them as one table, one row per region.

    The columns are image, label, x1, y1, x2, y2 (the box in pixels of the stored image, before it is clipped) and the
    features (float64) under PyRadiomics' names. The rows follow the box file, or, without one, the sorted names of the
    images. Each region that cannot be computed, and each file of a folder that cannot be read, stands in
    ``<stem of out>.errors.csv`` with the reason, and in no row.

    Args:
        images: folders of images, image files or glob patterns, one or several (see
            `kacl_gpu.io.folders.find_files`).
        out: ``.parquet`` or ``.csv``; appears at the end, complete, replacing a file of that name.
        boxes: box file (see `kacl_gpu.io.boxes.read_boxes`); its names are matched with those of the images (see
            `kacl_gpu.io.folders.match_names`). None: one region per image.
        masks: folder of label maps of the images' size and names; a region is the pixels of a label, inside the box
            where there is one. None: the box, or the whole image.
        labels: which labels of the masks are regions: a number, several, or "all": a row for each that a map has.
            Not together with `boxes`. None: `settings.label`.
        recursive: look for images and masks in all subfolders, too.
        settings: the defaults if None.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None: CUDA if there is any.
        batch_size: images computed together, at most; None: 64 on CUDA, 16 on the CPU.
        workers: threads that decode; None: as many as processors, 16 at most.
        resume: go on with an interrupted run of the same call; without it, what that run left is discarded.

    Returns:
        The summary. Progress goes to stderr.

    Raises:
        InputError: an argument or a file as a whole is unusable, differs from the interrupted run, or another run is
            writing `out`.
        OutputError: a file cannot be written, for instance on a full disk; the message says what is kept.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.linear_gradient("L").save(folder / "a.png")
        >>> settings = RadiomicsSettings(feature_class={"firstorder": ["Mean"]})
        >>> summary = extract(folder, folder / "features.csv", settings=settings, device="cpu")
        >>> print(summary.out.read_text(), end="")
        image,label,x1,y1,x2,y2,original_firstorder_Mean
        a.png,,0.0,0.0,256.0,256.0,127.5
    """
    start = time.monotonic()
    out = Path(out)
    settings = settings or RadiomicsSettings()
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"the output must end in .csv or .parquet: {out}")
    if out.is_dir():
        raise InputError(f"the output is a folder: {out}")
    if out.suffix.lower() == ".parquet":
        import pyarrow  # noqa: F401  (a missing one must not be found out at the end)
    torch_device = choose_device(device)
    batch_size = (64 if torch_device.type == "cuda" else 16) if batch_size is None else batch_size
    workers = min(count_processors(), 16) if workers is None else workers
    if batch_size < 1 or workers < 1:
        raise InputError(f"batch size and workers must be at least 1, got {batch_size} and {workers}")
    chosen_labels = _check_labels(labels, settings, boxes, masks)

    errors_out = out.with_name(f"{out.stem}.errors.csv")
    leftovers = [out.with_name(f"{path.name}{end}") for path in (out, errors_out) for end in ("", ".tmp", ".partial")]
    inputs_beside = [Path(path) for path in (boxes, masks) if path is not None]
    with lock(out):
        inputs = [images] if isinstance(images, (str, Path)) else list(images)
        exclude = [*leftovers, *inputs_beside, out.with_name(f"{out.name}.lock")]
        image_files = find_files(inputs, recursive=recursive, exclude=exclude)
        files = {**image_files.images, **image_files.others}
        mask_files = None if masks is None else find_masks(Path(masks), recursive=recursive)
        targets = [Target(name) for name in sorted(files)] if boxes is None else read_boxes(Path(boxes))
        cases = _Cases(targets, files, mask_files, chosen_labels)
        names = feature_names(settings)
        journal = Journal(
            out.with_name(f"{out.name}.partial"),
            {**_describe_run(settings, torch_device), "labels": chosen_labels, **cases.describe()},
            partial(_parse_outcome, targets=len(targets), features=len(names)),
            resume=resume,
        )
        finished = {outcome.target for outcome in journal.records()}
        try:
            with closing(journal):
                pending = cases.by_image(index for index in range(len(targets)) if index not in finished)
                stream = _load_ahead(cases.load, pending.items(), workers, batch_size)
                with progress("regions", len(targets), len(finished)) as bar, closing(stream):
                    for outcomes in _compute(stream, settings, torch_device, batch_size):
                        journal.add(map(dataclasses.asdict, outcomes))
                        finished.update(outcome.target for outcome in outcomes)
                        bar.update(len(outcomes))
                table, errors = _tables(targets, journal.records(), names)
            if len(errors):
                write_table(errors, errors_out)
            else:
                errors_out.unlink(missing_ok=True)
            write_table(table, out)
        except OutputError as error:
            raise OutputError(
                f"{error}; {journal.path} keeps {len(finished)} of {len(targets)} regions: make room, then the same "
                "command with --resume goes on"
            ) from error
        journal.remove()
    seconds = time.monotonic() - start
    return Summary(len(table), len(errors), len(pending), seconds, out, errors_out, tuple(image_files.subfolders))


def read_settings(path: str | Path) -> RadiomicsSettings:
    """Read a file of PyRadiomics' parameters.

    Raises:
        InputError: it cannot be used.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "parameters.json")
        >>> _ = path.write_text('{"setting": {"binCount": 32}}')
        >>> read_settings(path).bin_count
        32
    """
    try:
        return RadiomicsSettings.from_pyradiomics(path)
    except (ValueError, TypeError) as error:
        raise InputError(" ".join(str(error).split())) from error  # which begins with the path


def _check_labels(labels: object, settings: RadiomicsSettings, boxes: object, masks: object) -> list[int] | str:
    """Return the labels to look for, as a list or "all"."""
    if labels is None:
        return [settings.label]
    if masks is None:
        raise InputError("labels need masks: give the folder of the label maps")
    if boxes is not None:
        raise InputError("labels cannot be chosen together with boxes: the region is the setting label inside each box")
    if labels == "all":
        return "all"
    numbers = [labels] if isinstance(labels, int) else list(labels) if isinstance(labels, Sequence) else []
    if not numbers or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in numbers):
        raise InputError(f'labels must be "all" or whole numbers above 0, got {labels!r}')
    return sorted(set(numbers))


def _describe_run(settings: RadiomicsSettings, device: torch.device) -> dict[str, Any]:
    """Return everything beside the files that the table depends on; not the batch size, on which it does not."""
    return {
        "kacl_gpu": __version__,
        "torch": torch.__version__,
        "device": device.type,
        "settings": dataclasses.asdict(settings),
    }


def _parse_outcome(line: dict[str, Any], *, targets: int, features: int) -> Outcome:
    """Return the outcome in a line of the journal.

    Raises:
        KeyError, TypeError, ValueError: it is none, or not one of a run with so many targets and features.
    """
    outcome = Outcome(line["target"], [Row(**row) for row in line["rows"]])
    for row in outcome.rows:
        if row.box is not None and len(row.box) != 4:
            raise ValueError("a box is four numbers")
        if (row.features is None) == (row.reason is None):
            raise ValueError("a row has either features or a reason")
        if row.features is not None and len(row.features) != features:
            raise ValueError("another number of features")
        [float(number) for number in (*(row.box or ()), *(row.features or ()))]
    if not outcome.rows or outcome.target not in range(targets):
        raise ValueError("no row, or no such target")
    return outcome


@dataclass
class _Image:
    """Hold a decoded image, its regions, and the outcomes of targets that are settled already."""

    pixels: Array = field(default_factory=lambda: np.zeros((0, 0)))
    mask: Array | None = None
    spacing: tuple[float, float] = (1.0, 1.0)
    regions: list[_Request] = field(default_factory=list)
    settled: list[Outcome] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return self.pixels.nbytes + (0 if self.mask is None else self.mask.nbytes)

    @property
    def kind(self) -> tuple[object, ...]:
        """Return what is equal for images that can be stacked."""
        return self.pixels.shape, self.pixels.dtype, None if self.mask is None else self.mask.dtype


@dataclass(frozen=True)
class _Request:
    """Hold what a row of the table asks for: its target, the text of its label, the label's number and the box."""

    target: int
    text: str
    number: int
    box: Box


class _Cases:
    """Hold the targets of a run with the files that belong to them.

    Args:
        targets: rows that are asked for.
        files: name -> path of each image.
        mask_files: name -> path of each label map; None: no masks.
        labels: labels that are regions where a target has no box; where it has one, the first of them.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        files: Mapping[str, Path],
        mask_files: Mapping[str, Path] | None,
        labels: list[int] | str,
    ) -> None:
        self.targets, self.files, self.mask_files, self.labels = targets, files, mask_files, labels
        self.images, self.missing = match_names((target.image for target in targets), files)
        self.masks: dict[str, str] = {}
        self.missing_masks: dict[str, str] = {}
        if mask_files is not None:
            self.masks, self.missing_masks = match_names(self.images.values(), mask_files)

    def describe(self) -> dict[str, Any]:
        """Return the number of targets, and digests of them and of their files' sizes and times."""
        names = sorted({target.image for target in self.targets})
        images = [(name, self.images.get(name)) for name in names]
        masks = [(name, None if image is None else self.masks.get(image)) for name, image in images]
        return {
            "number of regions": len(self.targets),
            "boxes": _digest(dataclasses.astuple(target) for target in self.targets),
            "image files": _digest((*pair, _stamp(self.files, pair[1])) for pair in images),
            "mask files": None
            if self.mask_files is None
            else _digest((*pair, _stamp(self.mask_files, pair[1])) for pair in masks),
        }

    def by_image(self, indices: Iterable[int]) -> dict[str, list[int]]:
        """Return name of image -> indices of its targets; images in the order of their first target."""
        groups: dict[str, list[int]] = {}
        for index in indices:
            groups.setdefault(self.targets[index].image, []).append(index)
        return groups

    def load(self, job: tuple[str, list[int]]) -> _Image:
        """Decode an image and its mask, and place the regions of its targets on it; runs in the threads."""
        name, indices = job
        settled = [self._fail(index, self.targets[index].problem) for index in indices if self.targets[index].problem]
        indices = [index for index in indices if not self.targets[index].problem]
        if not indices:
            return _Image(settled=settled)
        try:
            if name in self.missing:
                raise ImageError(_word_missing("image", self.missing[name]))
            pixels, spacing = read_image(self.files[self.images[name]])
        except ImageError as error:
            return _Image(settled=settled + [self._fail(index, str(error)) for index in indices])
        shape = height, width = pixels.shape
        if self.mask_files is None:
            regions = [
                _Request(index, self.targets[index].label, 1, self.targets[index].pixel_box(height, width))
                for index in indices
            ]
            return _Image(pixels, None, spacing, regions, settled)
        try:
            mask = self._read_mask(self.images[name], shape)
        except ImageError as error:
            outcomes = [self._fail(index, f"mask: {error}", shape) for index in indices]
            return _Image(settled=settled + outcomes)
        image = _Image(pixels, mask, spacing, [], settled)
        for index in indices:
            target = self.targets[index]
            if target.box is not None:
                image.regions.append(
                    _Request(index, target.label, int(self.labels[0]), target.pixel_box(height, width))
                )
            elif regions := _label_regions(index, mask, self.labels):
                image.regions += regions
            else:
                image.settled.append(self._fail(index, _word_labels(mask, self.labels), shape))
        return image

    def _read_mask(self, image: str, shape: tuple[int, ...]) -> Array:
        """Return the label map of an image of this shape.

        Raises:
            ImageError: it is missing, unusable or of another shape.
        """
        assert self.mask_files is not None
        if image in self.missing_masks:
            raise ImageError(self.missing_masks[image])
        mask = read_mask(self.mask_files[self.masks[image]])
        if mask.shape != shape:
            raise ImageError(f"{mask.shape[0]} x {mask.shape[1]} pixels for an image of {shape[0]} x {shape[1]}")
        return mask

    def _fail(self, index: int, reason: str, shape: tuple[int, ...] | None = None) -> Outcome:
        """Return the outcome of a target that cannot be computed on an image of this shape, None if it is unknown."""
        target, label = self.targets[index], self.targets[index].label
        if target.box is None and self.mask_files is not None and self.labels != "all" and len(self.labels) == 1:
            label = str(self.labels[0])
        # without the size of the image a box in NIH's frame cannot be placed
        box = target.pixel_box(shape[0], shape[1]) if shape else None if target.frame else target.box
        return Outcome(index, [Row(label, box, reason=reason)])


def _stamp(files: Mapping[str, Path], name: str | None) -> tuple[int, int] | None:
    """Return size in bytes and time of last change of a file, None if it is missing."""
    if name is None or not files[name].exists():
        return None
    status = files[name].stat()
    return status.st_size, status.st_mtime_ns


def _digest(items: Iterable[object]) -> str:
    """Return a short digest of items that JSON knows."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item).encode())
    return f"sha256 {digest.hexdigest()[:16]}"


def _word_missing(kind: str, reason: str) -> str:
    """Return a reason of `match_names` with what is missing in it."""
    return reason.replace("missing", f"missing {kind}", 1) if reason.startswith("missing") else f"{kind}: {reason}"


def _label_regions(target: int, mask: Array, labels: list[int] | str) -> list[_Request]:
    """Return a region for each of the labels that a map (H, W) has, ascending."""
    found_labels = find_labels(torch.from_numpy(mask)[None], labels)  # type: ignore[arg-type]
    return [
        _Request(target, str(label), label, (float(x1), float(y1), float(x2), float(y2)))
        for (_, x1, y1, x2, y2), label in zip(found_labels.boxes.tolist(), found_labels.labels.tolist(), strict=True)
    ]


def _word_labels(mask: Array, labels: list[int] | str) -> str:
    """Return that a map has none of the labels, and which it has."""
    found_labels = list_labels(np.unique(mask).tolist()) or "no label"
    if labels == "all":
        return f"the mask has {found_labels}, where a label is a number above 0"
    if len(labels) == 1:
        return f"label {labels[0]} is not in the mask, which has {found_labels}"
    return f"none of the labels {', '.join(map(str, labels))} is in the mask, which has {found_labels}"


def _load_ahead(
    load: Callable[[tuple[str, list[int]]], _Image],
    jobs: Iterable[tuple[str, list[int]]],
    workers: int,
    batch_size: int,
) -> Generator[_Image, None, None]:
    """Decode in threads, in order, a batch ahead of who takes the images; less where that would pass `MEMORY`.

    Threads, for Pillow lets go of the interpreter while it decodes, and they need no shared memory. Daemons, for a
    pool of the standard library waits at the end of an interrupted process until the last image is decoded.
    """
    queue: SimpleQueue[tuple[Future[_Image], tuple[str, list[int]]] | None] = SimpleQueue()
    waiting: deque[Future[_Image]] = deque()
    largest = 0  # bytes: until the first image is known, no more wait than threads decode

    def work() -> None:
        while (item := queue.get()) is not None:
            future, job = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(load(job))
                except BaseException as error:
                    future.set_exception(error)

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    try:
        for job in jobs:
            waiting.append(Future())
            queue.put((waiting[-1], job))
            while len(waiting) > max(workers, min(batch_size + workers, MEMORY // largest if largest else 0)):
                image = waiting.popleft().result()
                largest = max(largest, image.bytes)
                yield image
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:  # interrupted: nobody waits for the rest
            future.cancel()
        for _ in range(workers):
            queue.put(None)


def _compute(
    images: Iterable[_Image], settings: RadiomicsSettings, device: torch.device, batch_size: int
) -> Iterator[list[Outcome]]:
    """Return outcomes of images as they come, computed a batch of one size at a time."""
    kinds: dict[tuple[object, ...], list[_Image]] = {}
    for image in images:
        if image.settled:
            yield image.settled
        if not image.regions:
            continue
        batch = kinds.setdefault(image.kind, [])
        batch.append(image)
        backlog = [image for batch in kinds.values() for image in batch]
        if len(batch) == batch_size:
            yield _compute_batch(kinds.pop(image.kind), settings, device)
        elif len(backlog) >= 4 * batch_size or sum(image.bytes for image in backlog) > MEMORY:
            largest = max(kinds, key=lambda kind: sum(image.bytes for image in kinds[kind]))
            yield _compute_batch(kinds.pop(largest), settings, device)
    for batch in kinds.values():
        yield _compute_batch(batch, settings, device)


def _compute_batch(images: Sequence[_Image], settings: RadiomicsSettings, device: torch.device) -> list[Outcome]:
    """Return the outcomes of all targets of images of one kind."""
    regions = [(place, region) for place, image in enumerate(images) for region in image.regions]
    pixels = torch.from_numpy(np.stack([image.pixels for image in images])).to(device)
    boxes = torch.tensor([(place, *region.box) for place, region in regions], dtype=torch.float64, device=device)
    spacing = torch.tensor([image.spacing for image in images], dtype=torch.float64)
    masks = labels = None
    if images[0].mask is not None:
        masks = torch.from_numpy(np.stack([image.mask for image in images if image.mask is not None])).to(device)
        labels = torch.tensor([region.number for _, region in regions], device=device)
    located = make_regions(pixels, boxes, masks, spacing, labels=settings.label if labels is None else labels)
    # not gpu_radiomics, which would bound its memory by whole images rather than wait for a device
    table, status = compute(located, settings, dtype=torch.float64)
    words = reasons(located, status, settings)
    rows: dict[int, list[Row]] = {}
    for row, ((_, region), features) in enumerate(zip(regions, table.tolist(), strict=True)):
        result = Row(region.text, region.box, reason=words[row]) if row in words else None
        rows.setdefault(region.target, []).append(result or Row(region.text, region.box, features))
    return [Outcome(target, group) for target, group in rows.items()]


def _tables(
    targets: Sequence[Target], outcomes: Iterable[Outcome], names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of features and that of errors, both in the order of the targets."""
    # arrays, for lists of numbers would take four times the memory
    rows = {
        outcome.target: [
            (dataclasses.replace(row, features=None), np.array(row.features or ())) for row in outcome.rows
        ]
        for outcome in outcomes
    }
    heads: list[tuple[object, ...]] = []
    features: list[Array] = []
    errors: list[tuple[object, ...]] = []
    for target in sorted(rows):
        for row, numbers in rows[target]:
            name = os.fsencode(targets[target].image).decode(errors="replace")  # which need not be Unicode on a disk
            head = (name, row.label, *(row.box or (np.nan,) * 4))
            if row.reason is None:
                heads.append(head)
                features.append(numbers)
            else:
                errors.append((*head, row.reason))
    columns = ["image", "label", *BOX_COLUMNS]
    floats = dict.fromkeys(BOX_COLUMNS, np.float64)
    table = pd.DataFrame(heads, columns=columns).astype(floats)
    values = np.array(features, np.float64).reshape(len(heads), len(names))
    table = pd.concat([table, pd.DataFrame(values, columns=list(names))], axis=1)
    return table, pd.DataFrame(errors, columns=[*columns, "reason"]).astype(floats)
