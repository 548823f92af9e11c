"""Tables of raw predictions of a checkpoint on a data set, the input of `measures`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader

from kacl_gpu.errors import InputError, one_line
from kacl_gpu.io.boxes import BOX_COLUMNS, NIH_FRAME, read_boxes
from kacl_gpu.io.tables import progress

from ..boxes import Boxes, components
from ..checkpoints import SETTINGS_OF_DATA, read_checkpoint
from ..data.annotations import first_names, read_csv
from ..data.datamodule import ChestXrays
from ..data.dataset import ChestXrayImages
from ..data.diseases import NO_FINDING
from ..model import KACL

NEEDED_SETTINGS = ("root", "size", "diseases", "normal", "split_file", "seed")  # of the data, in a checkpoint
COMPONENTS = 64  # boxes a heatmap at most: more than one of 7 x 7 activations, enlarged, can have


@dataclass(frozen=True)
class Checkpoint:
    """Hold a trained model and the settings of the data that it was trained with."""

    path: Path
    model: KACL
    data: dict[str, Any]  # the settings of `kacl_gpu.kacl.data.datamodule.ChestXrays`
    epoch: int  # counted from 0
    fingerprint: str | None  # of the split; None: the checkpoint does not say


@dataclass(frozen=True)
class Predictions:
    """Hold the predictions of a model. Places are in pixels of the images as it saw them, far edges exclusive.

    Attributes:
        cases: image, patient, disease, label (1, 0, or -1: uncertain), probability; a row for each image and disease,
            in this order.
        boxes: image, patient, disease, rank, total, fallback, x1, y1, x2, y2; the components of the heatmap of each
            disease, of the images that were asked for. Rank 0 is the box that training would take; it is a fallback,
            the whole image, if the heatmap shows nothing. total: the activation of the component, summed.
        peaks: image, patient, disease, x, y: the middle of the pixel where the heatmap is highest, the first in reading
            order; missing where it is constant.
        grid: height and width of the network's last activations; None if no heatmap was asked for.
    """

    cases: pd.DataFrame
    boxes: pd.DataFrame
    peaks: pd.DataFrame
    grid: tuple[int, int] | None = None


class ComponentBoxes(NamedTuple):
    """Hold the boxes of a batch of heatmaps, one entry for each of their n components."""

    heatmap: np.ndarray  # (n,) int64: its place in the batch
    rank: np.ndarray  # (n,) int64: 0 for the box that training would take
    total: np.ndarray  # (n,) float32: activation of the component, summed
    fallback: np.ndarray  # (n,) bool: the heatmap shows nothing, and the box is the whole image
    boxes: np.ndarray  # (n, 4) float32: x1, y1, x2, y2


def load_checkpoint(path: str | Path, device: torch.device, encoder: nn.Module | None = None) -> Checkpoint:
    """Load a checkpoint of ``kacl-gpu fit``, or of a `KACL` that was trained in Python.

    Args:
        path: the file.
        device: device of the model.
        encoder: module that the model was made with, where it is not one by name: a checkpoint holds the weights alone.

    Raises:
        InputError: missing, unreadable, from something else, or its weights do not fit its settings.

    Example:
        >>> loaded = load_checkpoint(checkpoint, torch.device("cpu"))  # runs/nih/checkpoints/best.ckpt, say
        >>> loaded.epoch, loaded.data["size"]
        (0, 32)
    """
    path = Path(path)
    saved = read_checkpoint(path)
    try:
        own: dict[str, Any] = {} if encoder is None else {"encoder": encoder}
        model = KACL.load_from_checkpoint(path, map_location=device, weights_only=True, **own)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # RuntimeError of other weights, TypeError of other settings, KeyError, ...
        raise InputError(f"the weights and settings in {path} are not those of this KACL: {one_line(error)}") from error
    data = {name: value for name, value in saved[SETTINGS_OF_DATA].items() if not name.startswith("_")}
    if lacking := [name for name in NEEDED_SETTINGS if name not in data]:
        raise InputError(f"not a checkpoint of kacl-gpu fit: {SETTINGS_OF_DATA} in {path} lack {', '.join(lacking)}")
    if not isinstance(data.get("diseases"), (list, tuple)) or list(data["diseases"]) != model.diseases:
        raise InputError(f"{path}: the model's diseases are not its data's")
    state = saved.get(ChestXrays.__name__, {})
    fingerprint = state.get("split") if isinstance(state, dict) else None
    return Checkpoint(path, model.eval(), data, saved["epoch"], fingerprint)


def open_data(
    checkpoint: Checkpoint,
    root: str | Path,
    *,
    split_file: str | Path | None = None,
    batch_size: int = 32,
    workers: int = 2,
) -> ChestXrays:
    """Return the images under ``root``, of the size and with the diseases and the split of the checkpoint, set up.

    Args:
        split_file: another split than the checkpoint's own.

    Raises:
        InputError: see `ChestXrays`; the split file of the training is not there.

    Example:
        >>> data = open_data(load_checkpoint(checkpoint, torch.device("cpu")), phantoms, workers=0)
        >>> sum(len(images) for images in (data.train, data.validation, data.test))
        60
    """
    settings = {**checkpoint.data, "root": root, "batch_size": batch_size, "workers": workers}
    file = settings["split_file"] = split_file or settings.get("split_file")
    if file is not None and not Path(file).is_file():
        asked = "" if split_file else f", which {checkpoint.path} was trained with: give its place as --split-file"
        raise InputError(f"no such split file: {file}{asked}")
    try:
        data = ChestXrays(**settings)
        data.setup()
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        words = f"the settings of the data in {checkpoint.path} are not those of this version"
        raise InputError(f"{words}: {one_line(error)}") from error
    return data


def predict(
    model: KACL, images: ChestXrayImages, localised: Collection[str] = (), *, batch_size: int = 32, workers: int = 0
) -> Predictions:
    """Run a model over images.

    "No Finding" as a class has a probability, and no region: no boxes, no peaks.

    Args:
        model: on its device; it is put into evaluation mode.
        images: with the diseases of the model.
        localised: names of the images whose heatmaps, of all diseases, become boxes and peaks.
        batch_size: number of images computed together.
        workers: number of processes that read them; 0: this one.

    Raises:
        InputError: a probability is NaN.

    Example:
        >>> from kacl_gpu.kacl.data.dataset import NIHChestXray14
        >>> images = NIHChestXray14(phantoms)  # the folder of `kacl-gpu phantom`
        >>> tables = predict(KACL(weights=None).eval(), images, images.table["image"][:1])
        >>> len(tables.cases) == 8 * len(images), {*tables.peaks["image"]} == {images.table["image"][0]}, tables.grid
        (True, True, (1, 1))
    """
    model.eval()
    names = model.diseases
    regional = [d for d, name in enumerate(names) if name != NO_FINDING]
    rows: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    regions: list[tuple[np.ndarray, ...]] = []  # row, disease, rank, total, fallback, box
    highest: list[tuple[np.ndarray, ...]] = []  # row, disease, place
    grid: tuple[int, int] | None = None
    is_localised = images.table["image"].isin([*localised]).to_numpy(bool)
    loader = DataLoader(images, batch_size, num_workers=workers)
    with torch.inference_mode():
        for batch in progress("batches", len(loader), items=loader):
            pixels, index = batch["image"].to(model.device), batch["index"].numpy()
            activations, pooled = model.encoder(pixels)
            rows.append(index)
            probabilities.append(model.classifier(pooled).double().sigmoid().cpu().numpy())  # float32 would tie at 1
            chosen = is_localised[index]
            if not chosen.any():
                continue
            part = activations[torch.from_numpy(chosen).to(model.device)]
            grid = part.shape[2], part.shape[3]
            for d in regional:
                disease = torch.full((len(part),), d, device=model.device)
                maps, top = model.look(part, disease, (pixels.shape[-2], pixels.shape[-1]))
                k, *columns = component_boxes(maps, top, model.settings.threshold)
                regions.append((index[chosen][k], np.full(len(k), d), *columns))
                highest.append((index[chosen], np.full(len(part), d), _peaks(maps)))
    numbers = _joined(probabilities)
    if wrong := int((~np.isfinite(numbers)).reshape(len(images), -1).any(1).sum()) if len(images) else 0:
        raise InputError(
            f"the model gives NaN for {wrong} of {len(images)} images: its activations overflow; "
            "take a checkpoint of an earlier epoch"
        )
    return Predictions(
        _cases(images, names, _joined(rows), numbers),
        _placed(images, names, regions, ("rank", "total", "fallback", *BOX_COLUMNS)),
        _placed(images, names, highest, ("x", "y")),
        grid,
    )


def component_boxes(heatmaps: torch.Tensor, top: Boxes, threshold: float) -> ComponentBoxes:
    """Return the boxes of all components of heatmaps, at most `COMPONENTS` of each, the box of training first.

    Args:
        heatmaps: (B, H, W).
        top: of `kacl_gpu.kacl.boxes.heatmap_boxes`, for these heatmaps and this threshold.
        threshold: as of `kacl_gpu.kacl.boxes.components`.

    Example:
        >>> from kacl_gpu.kacl.boxes import heatmap_boxes
        >>> heatmaps = torch.tensor([[[1.0, 0.0, 0.9]]])
        >>> component_boxes(heatmaps, heatmap_boxes(heatmaps), 0.5).boxes.tolist()
        [[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]]
    """
    every = components(heatmaps, threshold, COMPONENTS)
    boxes = torch.cat([top.boxes[:, None], every.boxes[:, 1:]], 1).cpu().numpy()
    heatmap, rank = (~np.isnan(boxes).any(2)).nonzero()
    total, fallback = every.total.cpu().numpy()[heatmap, rank], top.fallback.cpu().numpy()[heatmap]
    return ComponentBoxes(heatmap, rank, total, fallback, boxes[heatmap, rank])


def true_boxes(images: ChestXrayImages) -> pd.DataFrame:
    """Return all true boxes of images: image, patient, disease, x1, y1, x2, y2, in pixels of the returned images.

    Example:
        >>> from kacl_gpu.kacl.data.dataset import NIHChestXray14
        >>> images = NIHChestXray14(phantoms)  # the folder of `kacl-gpu phantom`
        >>> [*true_boxes(images).columns]
        ['image', 'patient', 'disease', 'x1', 'y1', 'x2', 'y2']
    """
    patients = images.table["patient"].to_numpy()[images.boxes["row"].to_numpy()]
    table = images.boxes[["image", "disease", *BOX_COLUMNS]].reset_index(drop=True)
    table.insert(1, "patient", patients)
    return table


def other_boxes(path: str | Path, images: ChestXrayImages, frame: float = NIH_FRAME) -> tuple[pd.DataFrame, str]:
    """Read boxes of another source than NIH's list on these images.

    A label names a disease if it is that of one of the images' diseases, or has it in brackets, whatever the case, with
    blanks for underscores: ``LungOpacity(pneumonia)`` is Pneumonia.

    Args:
        path: a CSV with the columns image, label, x, y, w, h and, if wanted, source; or a list in NIH's format.
        images: the images that are evaluated.
        frame: side in pixels of the square frame in which the boxes of the CSV are, whatever the size of the stored
            images; NIH's lists are in one of 1024 x 1024.

    Returns:
        The table of :func:`true_boxes` with a column source, the file's name if it tells none; and what was left out,
        in words.

    Raises:
        InputError: unreadable, other columns, numbers that are none, a frame that is not positive, or another one than
            NIH's for its list; or no box of these diseases on these images.

    Example:
        >>> from kacl_gpu.kacl.data.dataset import NIHChestXray14
        >>> images = NIHChestXray14(phantoms)  # the folder of `kacl-gpu phantom`
        >>> path = Path("opacities.csv")
        >>> header, image = "image,label,x,y,w,h" + chr(10), images.table["image"][0]
        >>> _ = path.write_text(header + f"{image},LungOpacity(pneumonia),0,0,512,512")
        >>> table, words = other_boxes(path, images)
        >>> table[["disease", "x2"]].to_numpy().tolist(), words
        ([['Pneumonia', 16.0]], '1 of 1 boxes used; 0 are on images that are not evaluated here')
    """
    path = Path(path)
    if not 0 < frame < np.inf:
        raise InputError(f"boxes_frame must be positive and finite, got {frame}")
    table = read_csv(path)
    if {"image", "label", "x", "y", "w", "h"} <= {*table.columns}:
        x, y, w, h = (pd.to_numeric(table[name], errors="coerce") for name in ("x", "y", "w", "h"))
        places = pd.DataFrame({"x1": x, "y1": y, "x2": x + w, "y2": y + h})
        table = table[["image", "label"]].assign(source=table.get("source", path.name))
    else:
        regions = read_boxes(path)
        if frame != NIH_FRAME:
            raise InputError(f"boxes_frame is for a CSV with the columns image, label, x, y, w, h, which {path} is not")
        if any(region.box and region.frame != NIH_FRAME for region in regions):
            raise InputError(f"{path} must be NIH's list or have the columns image, label, x, y, w, h")
        places = pd.DataFrame([region.box or (np.nan,) * 4 for region in regions], columns=[*BOX_COLUMNS])
        names = [(region.image, region.label, path.name) for region in regions]
        table = pd.DataFrame(names, columns=["image", "label", "source"])
    usable = (places["x1"] < places["x2"]) & (places["y1"] < places["y2"]) & np.isfinite(places.to_numpy()).all(axis=1)
    if not usable.all():
        wrong = table.loc[~usable, "image"]
        raise InputError(f"{path}: {len(wrong)} boxes without four numbers or an area: {first_names(wrong)}")
    table = pd.concat([table, places * (images.size / frame)], axis=1)
    table["disease"] = [_disease(label, images.diseases) for label in table["label"]]
    patient = dict(zip(images.table["image"], images.table["patient"]))
    evaluated = table["image"].isin([*patient])
    usable_boxes = table[evaluated & (table["disease"] != "")].reset_index(drop=True)
    if usable_boxes.empty:
        raise InputError(
            f"{path}: no box of {', '.join(images.diseases)} on the {len(images)} images that are evaluated"
        )
    unknown = sorted({*table.loc[evaluated & (table["disease"] == ""), "label"]})
    absent = int((~evaluated).sum())
    words = f"{len(usable_boxes)} of {len(table)} boxes used; {absent} are on images that are not evaluated here"
    words += f"; labels that are no disease of the model: {', '.join(unknown)}" if unknown else ""
    usable_boxes.insert(1, "patient", usable_boxes["image"].map(patient))
    return usable_boxes[["source", "image", "patient", "disease", *BOX_COLUMNS]], words


# --- pieces


def _peaks(maps: torch.Tensor) -> np.ndarray:
    """Return x, y (B, 2) of the middle of the highest pixel of maps (B, H, W); NaN if none is above 0."""
    flat = maps.flatten(1)
    place = flat.argmax(1)
    xy = torch.stack([place % maps.shape[2], place // maps.shape[2]], 1) + 0.5
    return np.asarray(torch.where(flat.amax(1, keepdim=True) > 0, xy, torch.nan).cpu())


def _cases(images: ChestXrayImages, names: Sequence[str], rows: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the table of cases of rows (n,) and their probabilities (n, D)."""
    table = images.table.iloc[rows.astype(int)]
    number = len(names)
    return pd.DataFrame(
        {
            "image": np.repeat(table["image"].to_numpy(), number),
            "patient": np.repeat(table["patient"].to_numpy(), number),
            "disease": np.tile(np.array(names, object), len(table)),
            "label": table[[*names]].to_numpy(int).ravel(),
            "probability": probabilities.ravel(),
        }
    )


def _placed(
    images: ChestXrayImages, names: Sequence[str], parts: Sequence[tuple[np.ndarray, ...]], columns: Sequence[str]
) -> pd.DataFrame:
    """Return a table of places from parts (row, disease, ..., numbers (n, k)), sorted by image and disease."""
    if not parts:
        return pd.DataFrame(columns=["image", "patient", "disease", *columns])
    row, disease, *numbers, places = (np.concatenate(values) for values in zip(*parts))
    table = pd.DataFrame(dict(zip(columns, [*numbers, *places.astype(float).T])))
    table.insert(0, "image", images.table["image"].to_numpy()[row])
    table.insert(1, "patient", images.table["patient"].to_numpy()[row])
    table.insert(2, "disease", np.array(names, object)[disease])
    rank = numbers[0] if numbers else np.zeros(len(row))
    return table.iloc[np.lexsort((rank, disease, row))].reset_index(drop=True)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the parts, one behind the other; an empty array if there is none."""
    return np.concatenate(parts) if parts else np.empty(0)


def _disease(label: str, diseases: Sequence[str]) -> str:
    """Return the disease that a label of another source names; empty if it is none of these."""
    known = {name.casefold(): name for name in diseases}
    words = [label, *re.findall(r"\(([^()]*)\)", label)]
    return next((known[key] for word in words if (key := word.strip().replace(" ", "_").casefold()) in known), "")
