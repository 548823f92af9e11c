"""``kacl-gpu evaluate``: the measures of a checkpoint on a data set, as a report to read and tables to compute with."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from kacl_gpu import __version__
from kacl_gpu.devices import choose_device
from kacl_gpu.errors import InputError, OutputError
from kacl_gpu.io.boxes import BOX_COLUMNS, NIH_FRAME
from kacl_gpu.io.journal import lock
from kacl_gpu.io.tables import write_table

from ..data.datamodule import ChestXrays
from ..data.dataset import ChestXrayImages
from ..data.split import SPLITS
from ..model import KACL
from . import baselines, explain, figures, measures
from .document import Document
from .measures import ALL, BEST, MEAN, TOP
from .predictions import Checkpoint, Predictions, load_checkpoint, open_data, other_boxes, predict, true_boxes
from .published import (
    NOT_COMPARABLE,
    is_full_set,
    published_auc,
    published_localisation,
    published_note,
    published_rows,
)
from .validation import IOU_THRESHOLDS

FEW_PATIENTS = 5  # with fewer an interval says little
STRONGEST = 5  # features of a disease in the report; all are in the table

MODEL, OTHER = "this model", "comparison"
PROTOCOLS = {
    TOP: "The prediction for an image and disease is the component of the heatmap with the largest total activation.",
    BEST: "Of all components of the heatmap the one counts that overlaps most, which the true box chooses, as in the "
    "authors' published script: an upper bound.",
}
ACCURACIES = ("", "boxes", *(f"IoU\N{NO-BREAK SPACE}>\N{NO-BREAK SPACE}{t}" for t in IOU_THRESHOLDS), "mean IoU")
POINTS = (
    "Pointing game: a case is an image and a disease that it has boxes of, and right where the heatmap is highest "
    "inside one. Average precision (COCO's rules): all components of all diseases on the images with boxes are "
    "detections, ranked by the probability "
    "of the disease and their share of the activation; a disease that an image is labelled with, but has no box of, is "
    "left out there."
)


@dataclass(frozen=True)
class Evaluated:
    """Hold a model, its images, its predictions, and the true boxes in the pixels of these images."""

    checkpoint: Checkpoint
    images: ChestXrayImages
    predictions: Predictions
    truth: pd.DataFrame


@dataclass(frozen=True)
class Baselines:
    """Hold boxes beside those of the network, by name, and the words that explain them."""

    boxes: dict[str, pd.DataFrame]
    words: str


def evaluate(
    checkpoint: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    split: str = "test",
    split_file: str | Path | None = None,
    boxes: str | Path | None = None,
    boxes_frame: float = NIH_FRAME,
    compare: str | Path | None = None,
    batch_size: int = 32,
    workers: int = 2,
    device: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    encoder: nn.Module | None = None,
) -> Path:
    """Evaluate a checkpoint of ``kacl-gpu fit`` and write a report.

    The images, their size, the diseases and the split are those of the checkpoint, so that no test image was trained
    on. OUT receives report.md, report.html (with the pictures in it), figures/, tables/ (the numbers of the report)
    and the raw predictions (Parquet; places are in pixels of the images as the model saw them).

    Args:
        checkpoint: checkpoint to evaluate.
        data: folder in the layout of NIH ChestX-ray14, or of ``kacl-gpu prepare``.
        out: folder to make.
        split: the set to evaluate: test, validation or train.
        split_file: another split than that of the checkpoint.
        boxes: boxes of another source, evaluated by themselves, see `kacl_gpu.kacl.evaluation.predictions.other_boxes`.
        boxes_frame: side in pixels of the square frame in which these boxes are.
        compare: a second checkpoint, on the same images.
        batch_size: number of images computed together.
        workers: number of processes that read images.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None: CUDA if there is any.
        bootstrap: number of draws of patients for the intervals; 0: no intervals.
        seed: seed of these draws and of the choice of normal images for the features.
        encoder: module of one's own that the checkpoint was trained with, see `KACL`.

    Returns:
        The HTML file.

    Raises:
        InputError: an argument, the checkpoint or the data cannot be used; OUT holds something.
        OutputError: OUT cannot be written, for instance on a full disk; it is removed.

    Example:
        >>> evaluate(checkpoint, phantoms, "report", bootstrap=0, workers=0, device="cpu").name
        test: 29 images
        validation, for the thresholds: 4 images
        figures and tables
        'report.html'
    """
    out = Path(out)
    if split not in SPLITS:
        raise InputError(f"split must be {', '.join(SPLITS)}: {split}")
    if bootstrap < 0:
        raise InputError(f"bootstrap must be at least 0, got {bootstrap}")
    _check_free(out)
    chosen = choose_device(device)
    loading: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
    trained = load_checkpoint(checkpoint, chosen, encoder)
    second = None if compare is None else load_checkpoint(compare, chosen)
    if second and not {*trained.model.diseases} & {*second.model.diseases}:
        raise InputError(f"{trained.path} and {second.path} have no disease in common")
    module = open_data(trained, data, split_file=split_file, **loading)
    images: ChestXrayImages = getattr(module, split)
    if not len(images):
        raise InputError(f"the split has no images for {split}")
    notes = _notes(trained, module, split, data, split_file)

    sources, words = (None, "") if boxes is None else other_boxes(boxes, images, boxes_frame)
    localised = [*true_boxes(images)["image"], *([] if sources is None else sources["image"])]
    print(f"{split}: {len(images)} images", flush=True)
    model = Evaluated(trained, images, predict(trained.model, images, localised, **loading), true_boxes(images))
    comparison = None
    if second is not None:
        notes += _trained_on(second, images, data)
        same = _same_images(second, images, data)
        print(f"{split}, comparison: {len(same)} images", flush=True)
        comparison = Evaluated(second, same, predict(second.model, same, localised, **loading), true_boxes(same))
    chooses = split == "test" and len(module.validation) > 0
    if chooses:
        print(f"validation, for the thresholds: {len(module.validation)} images", flush=True)
    choosing = predict(trained.model, module.validation, **loading) if chooses else model.predictions

    with _output_folder(out):
        report = Document(out, f"Evaluation of {trained.path.name}")
        report.facts(_facts(model, comparison, split, data, bootstrap, seed), notes)
        report.add(f"What the folder holds: {escape(' '.join(str(images.inventory).split()))}.")
        full = is_full_set(module.train.table, module.validation.table, module.test.table)
        training = true_boxes(module.train)
        print("figures and tables", flush=True)
        draws: dict[str, Any] = {"draws": bootstrap, "seed": seed}
        _classification(report, model, comparison, choosing, chooses, full, draws)
        _localisation(report, model, comparison, training, full, draws)
        if sources is not None:
            _other_sources(report, model, sources, words, Path(str(boxes)), training, draws)
        _features(report, model, chosen, seed)
        raw = {
            "predictions": model.predictions.cases,
            "boxes": model.predictions.boxes,
            "peaks": model.predictions.peaks,
            "true_boxes": model.truth,
        }
        raw |= {"predictions_validation": choosing.cases} if chooses else {}
        raw |= {"other_boxes": sources} if sources is not None else {}
        if comparison is not None:
            raw |= {
                "comparison_predictions": comparison.predictions.cases,
                "comparison_boxes": comparison.predictions.boxes,
                "comparison_peaks": comparison.predictions.peaks,
            }
        return report.write(raw)


@contextmanager
def _output_folder(out: Path) -> Iterator[None]:
    """Make the folder of a report; remove it if something in it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with lock(out):
            _check_free(out)
            out.mkdir(exist_ok=True)
            try:
                yield
            except (OSError, OutputError):
                shutil.rmtree(out, ignore_errors=True)
                raise
    except (OSError, OutputError) as error:
        words = error if isinstance(error, OutputError) else f"cannot write {error.filename or out}: {error.strerror}"
        raise OutputError(f"{words}; nothing is kept: make room, or choose another --out") from error


def _check_free(out: Path) -> None:
    """Raise an InputError if something is at the place of the output."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already: choose another --out")


# --- the sections


def _classification(
    report: Document,
    model: Evaluated,
    comparison: Evaluated | None,
    choosing: Predictions,
    chosen_apart: bool,
    full: bool,
    draws: Mapping[str, Any],
) -> None:
    """Add AUC, operating points, the paper's Tables 1 and 3, the comparison, and the curves."""
    report.add("## Classification")
    table = measures.auc(model.predictions.cases, **draws)
    points = measures.operating_points(model.predictions.cases, measures.thresholds(choosing.cases), **draws)
    report.table("auc", table)
    report.table("operating_points", points)
    at = points.set_index("disease").to_dict("index") if len(points) else {}
    rows = []
    for row in table.to_dict("records"):
        point = at.get(row["disease"])
        words = [_name(row["disease"]), f"{row['positives']}", _cell(row["auc"], row["low"], row["high"])]
        words[2] += f" *{row['note']}*" if row["note"] else ""
        if point:
            words += [f"{point['threshold']:.3f}"]
            words += [
                _cell(*(point[f"{kind}{end}"] for end in ("", "_low", "_high")))
                for kind in ("sensitivity", "specificity")
            ]
        rows.append([*words, *["-"] * (6 - len(words))])
    report.grid(["", "positives", "AUC", "threshold", "sensitivity", "specificity"], rows)
    source = "the validation images" if chosen_apart else "these images themselves, so both figures are too good"
    report.add(
        f"Of {len(model.images)} images of {model.images.table['patient'].nunique()} patients. {_intervals(draws)} The "
        f"threshold is the probability that makes sensitivity + specificity largest on {source}; "
        "there is none where these have no positive or no negative. Uncertain labels (-1) are left out.",
        _few(model.predictions.cases.query("label == 1"), draws),
    )
    curves = {MODEL: measures.roc(model.predictions.cases)}
    values = {MODEL: dict(zip(table["disease"], table["auc"]))}
    if comparison is not None:
        difference = measures.auc_difference(model.predictions.cases, comparison.predictions.cases, **draws)
        report.table("auc_difference", difference)
        report.add(f"### Against `{comparison.checkpoint.path}`")
        report.grid(
            ["AUC", MODEL, OTHER, "difference"],
            [
                [
                    _name(row["disease"]),
                    _cell(row["auc"]),
                    _cell(row["other"]),
                    _cell(row["difference"], row["low"], row["high"], "+.3f"),
                ]
                for row in difference.to_dict("records")
            ],
        )
        report.add("The interval of the difference is paired: each draw of patients is the same for both models.")
        curves[OTHER] = measures.roc(comparison.predictions.cases)
        values[OTHER] = dict(zip(difference["disease"], difference["other"]))
    diseases = model.checkpoint.model.diseases
    report.add("### Beside the paper's Tables 1 and 3: AUC of each disease")
    rows = [_numbers_row(f"**{name}**", at, diseases) for name, at in values.items()]
    report.grid(["", *diseases, MEAN], [*rows, *published_rows(published_auc(), diseases, full)])
    report.add(published_note(full))
    if len(curves[MODEL]):
        report.add("### Receiver operating curves")
        report.table("roc", pd.concat([table.assign(model=name) for name, table in curves.items()]))
        report.picture("roc", figures.roc_curves(curves, points, values), "Receiver operating curves")
        report.add("The number is the AUC; the dot is the threshold of the table.")


def _localisation(
    report: Document,
    model: Evaluated,
    comparison: Evaluated | None,
    training: pd.DataFrame,
    full: bool,
    draws: Mapping[str, Any],
) -> None:
    """Add the accuracy of boxes beside that of boxes nobody trained, the paper's Table 2, and what follows from boxes.

    Args:
        training: true boxes of the training images.
        full: the data are the full set.
    """
    report.add("## Localisation")
    if model.truth.empty:
        report.add("None of these images has a true box, so there is nothing to localise.")
        return
    tables = {MODEL: _localised(report, "", model.predictions, model.truth, draws)}
    if comparison is not None:
        truth = comparison.truth[comparison.truth["disease"].isin(model.checkpoint.model.diseases)]
        tables[OTHER] = _localised(report, "comparison_", comparison.predictions, truth, draws)
    fallback = model.truth.merge(model.predictions.boxes.query("rank == 0"), on=["image", "disease"])["fallback"].mean()
    report.add(
        f"{len(model.truth)} true boxes on {model.truth['image'].nunique()} images. Share of them whose overlap with "
        f"the prediction (intersection over union, IoU) is above a threshold. {_intervals(draws)} The mean is over the "
        "diseases that have boxes. Each true box is a case, also where an image has several of one disease. For "
        f"{fallback:.0%} of them the heatmap shows nothing, and the whole image counts as the prediction.",
        _few(model.truth, draws),
    )
    beside = _baselines(model, model.truth, training)
    untrained = {
        name: measures.localisation(measures.overlaps(model.truth, boxes), **draws)
        for name, boxes in beside.boxes.items()
    }
    report.table("localisation_baselines", pd.concat([table.assign(boxes=name) for name, table in untrained.items()]))
    report.add(beside.words)
    for protocol, words in PROTOCOLS.items():
        report.add(f"### Protocol: {protocol}", words)
        rows = [_accuracy_row(_name(name), part) for name, part in _by_disease(tables[MODEL], protocol)]
        for name, part in _by_disease(tables[OTHER], protocol) if OTHER in tables else ():
            if name in (MEAN, ALL):
                rows.append(_accuracy_row(f"**{OTHER}, {name}**", part))
        report.grid(ACCURACIES, [*rows, *_baseline_rows(untrained, protocol)])
    report.add("### Beside the paper's Table 2: share of boxes right, of each disease")
    diseases = model.checkpoint.model.diseases
    report.grid(["IoU >", "", *diseases, MEAN], _table_2(tables, untrained, diseases, full))
    report.add(published_note(full), "By which of the two protocols the paper's boxes were counted is not known here.")
    lines = {
        f"{name}, {protocol}, {MEAN}": _line(table, protocol, MEAN)
        for name, table in tables.items()
        for protocol in (TOP, BEST)
    }
    lines |= {f"{name}, {MEAN}": _line(table, TOP, MEAN)[["threshold", "value"]] for name, table in untrained.items()}
    table = published_localisation()
    table = table[table["system"].str.startswith("KACL")].rename(columns={"iou_above": "threshold", "Mean": "value"})
    lines[f"KACL as published{'' if full else f', {NOT_COMPARABLE}'}"] = table[["threshold", "value"]]
    report.picture("localisation", figures.localisation_curves(lines), "Accuracy of localisation over the threshold")

    report.add("### Pointing game and average precision")
    _points(report, "", model, model.truth, draws)
    report.add(POINTS)
    report.add("### Confusion of boxes")
    confusion = measures.confusion(model.truth, model.predictions.boxes)
    report.table("confusion", confusion.reset_index())
    report.picture(
        "confusion", figures.box_confusion(confusion), "Mean overlap of true boxes with those of other diseases"
    )
    report.add(
        "Mean overlap of the true boxes of a disease (row) with the top box in the same image when the network is "
        "asked for each disease (column). A network that tells places apart has its largest values where both are the "
        "same (bold)."
    )
    _figure_5(report, model, comparison)


def _baselines(model: Evaluated, truth: pd.DataFrame, training: pd.DataFrame) -> Baselines:
    """Return boxes that nobody trained, and those of a map that knows the box, in place of the model's predictions.

    Args:
        model: that the grid, the threshold and the size of the images are taken of.
        truth: true boxes on its images.
        training: true boxes of the training images.
    """
    size, settings, grid = model.images.size, model.checkpoint.model.settings, model.predictions.grid
    assert grid is not None  # there are true boxes, so their images were localised
    boxes, note = baselines.baseline_boxes(truth, training, grid, size, settings.threshold, settings.shrink_whole_image)
    words = (
        f"Boxes that nobody trained stand below: the {baselines.WHOLE_IMAGE}; its {baselines.MIDDLE_HALF} (of each "
        f"side); and each disease's {baselines.MEAN_BOX}, over {len(training)} boxes. A network localises if it is "
        f"better than these. The {baselines.knowing_name(grid)} is the ceiling of the map's resolution: the true boxes "
        "drawn on the grid of the network's last layer by area, then resized and thresholded like its heatmaps. "
    )
    return Baselines(boxes, words + note)


def _baseline_rows(tables: Mapping[str, pd.DataFrame], protocol: str) -> list[list[str]]:
    """Return the rows of a protocol's table for boxes beside those of the network: their mean, and all together."""
    return [
        _accuracy_row(f"{name}, {group}", part)
        for name, table in tables.items()
        for group, part in _by_disease(table, protocol)
        if group in (MEAN, ALL)
    ]


def _table_2(
    tables: Mapping[str, pd.DataFrame], untrained: Mapping[str, pd.DataFrame], diseases: Sequence[str], full: bool
) -> list[list[str]]:
    """Return the rows of the paper's Table 2: for each threshold models, baselines, and the systems compared there."""
    published = published_localisation()
    rows = []
    for level in IOU_THRESHOLDS:
        lines = [
            (f"**{name}, {protocol}**", table, protocol) for name, table in tables.items() for protocol in PROTOCOLS
        ]
        lines += [(name, table, TOP) for name, table in untrained.items()]
        for name, table, protocol in lines:
            part = table[(table["protocol"] == protocol) & (table["measure"] == f"iou > {level}")]
            rows.append([f"{level}", *_numbers_row(name, dict(zip(part["disease"], part["value"])), diseases)])
        printed = published[published["iou_above"] == level]
        rows += [[f"{level}", *words] for words in published_rows(printed, diseases, full)]
    return rows


def _localised(
    report: Document, prefix: str, predictions: Predictions, truth: pd.DataFrame, draws: Mapping[str, Any]
) -> pd.DataFrame:
    """Write overlaps and accuracy of boxes to tables/, and return the latter."""
    overlaps = measures.overlaps(truth, predictions.boxes)
    table = measures.localisation(overlaps, **draws)
    report.table(f"{prefix}overlaps", overlaps)
    report.table(f"{prefix}localisation", table)
    return table


def _points(report: Document, prefix: str, model: Evaluated, truth: pd.DataFrame, draws: Mapping[str, Any]) -> None:
    """Add the table of the pointing game and of average precision."""
    pointing = measures.pointing(truth, model.predictions.peaks, **draws)
    precision = measures.average_precision(model.predictions.cases, truth, model.predictions.boxes)
    report.table(f"{prefix}pointing", pointing)
    report.table(f"{prefix}average_precision", precision)
    at = precision.set_index("disease").to_dict("index")
    levels = [name for name in precision.columns if name.startswith("ap_")]
    rows = []
    for row in pointing.to_dict("records"):
        words = [_name(row["disease"]), f"{row['number']}", _cell(row["value"], row["low"], row["high"])]
        rows.append([*words, *(_cell(at[row["disease"]][name]) if row["disease"] in at else "-" for name in levels)])
    report.grid(["", "cases", "pointing game", *(name.replace("ap_", "AP at IoU ") for name in levels)], rows)


def _figure_5(report: Document, model: Evaluated, comparison: Evaluated | None) -> None:
    """Add original, comparison and this model of each disease's first image with a box, in the order of the table."""
    known = {*(model if comparison is None else comparison).checkpoint.model.diseases}
    diseases = [name for name in model.checkpoint.model.diseases if name in known]
    truth = model.truth
    first = truth.drop_duplicates("disease").set_index("disease")["image"]
    shown = [(name, first[name]) for name in diseases if name in first.index]
    if not shown:
        return
    places = dict(zip(model.images.table["image"], range(len(model.images))))
    rows = []
    for name, evaluated in ((OTHER, comparison), (MODEL, model)):
        if evaluated is not None:
            rows.append((name, *_look(evaluated.checkpoint.model, evaluated.images, shown)))
    picture = figures.comparison(
        torch.stack([model.images[places[image]]["image"] for _, image in shown]),
        rows,
        [
            truth.loc[(truth["image"] == image) & (truth["disease"] == name), [*BOX_COLUMNS]].to_numpy()
            for name, image in shown
        ],
        [f"{name}\n{image}" for name, image in shown],
    )
    report.add("### Where the network looks (as in Figure 5 of the paper)")
    report.picture("figure_5", picture, "Radiographs, heatmaps, true boxes in yellow and predicted ones in red")
    report.add(
        "Of each disease the first image with a box, in the order of the table, so that none was picked. True boxes "
        "are yellow, the top box is red."
    )


@torch.inference_mode()
def _look(model: KACL, images: ChestXrayImages, shown: Sequence[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return heatmaps and top boxes of diseases in images, both given by name."""
    places = dict(zip(images.table["image"], range(len(images))))
    pixels = torch.stack([images[places[image]]["image"] for _, image in shown]).to(model.device)
    disease = torch.tensor([model.diseases.index(name) for name, _ in shown], device=model.device)
    activations, _ = model.encoder(pixels)
    maps, (boxes, _, _) = model.look(activations, disease, (pixels.shape[-2], pixels.shape[-1]))
    return maps, boxes


def _other_sources(
    report: Document,
    model: Evaluated,
    sources: pd.DataFrame,
    words: str,
    path: Path,
    training: pd.DataFrame,
    draws: Mapping[str, Any],
) -> None:
    """Add the accuracy on boxes of other sources than NIH, source by source."""
    report.add(f"## Localisation on boxes of other sources: `{path.name}`")
    report.add(f"Not NIH's boxes, and in no figure above. {escape(words[0].upper() + words[1:])}.")
    if model.truth.empty:
        report.add(*PROTOCOLS.values(), POINTS)
    for source, truth in sources.groupby("source", sort=False):
        name, truth = re.sub(r"\W+", "_", str(source)), truth.reset_index(drop=True)
        report.add(f"### {escape(str(source))}")
        report.add(_few(truth, draws))
        table = _localised(report, f"{name}_", model.predictions, truth, draws)
        beside = _baselines(model, truth, training)
        tables = {
            kind: measures.localisation(measures.overlaps(truth, boxes), **draws)
            for kind, boxes in beside.boxes.items()
        }
        report.add(beside.words)
        for protocol in (TOP, BEST):
            report.add(f"Protocol: {protocol}.")
            rows = [_accuracy_row(_name(disease), part) for disease, part in _by_disease(table, protocol)]
            report.grid(ACCURACIES, [*rows, *_baseline_rows(tables, protocol)])
        _points(report, f"{name}_", model, truth, draws)


def _features(report: Document, model: Evaluated, device: torch.device, seed: int) -> None:
    """Add the features that move with a disease."""
    report.add("## Radiomic features and diseases")
    table, measured = explain.explain(model.images, model.truth, model.predictions.boxes, device=device, seed=seed)
    if table.empty:
        report.add(f"No disease has {explain.FEWEST} boxes and normal images to compare them with.")
        return
    report.table("effects", table)
    write_table(measured, report.out / "features.parquet")
    report.add(
        "Which features are larger (or smaller) inside the boxes of a disease than at the same places in normal images "
        "of other patients and of the same view. The effect size is Cliff's delta: the probability that the feature is "
        "larger in the disease less the probability that it is smaller. p: Mann-Whitney, adjusted by Benjamini and "
        f"Hochberg over all diseases and features. Diseases with fewer than {explain.FEWEST} boxes are left out. All "
        "features are in `tables/effects.csv`, the values themselves in `features.parquet`."
    )
    for kind, part in table.groupby("boxes", sort=False):
        report.add(f"### {str(kind).capitalize()}: the {STRONGEST} strongest of each disease")
        rows = []
        for disease, group in part.groupby("disease", sort=False):
            order = group["delta"].abs().sort_values(ascending=False, kind="stable").index
            strongest = group.reindex(order[:STRONGEST])
            for row in strongest.to_dict("records"):
                words = [f"{disease} ({row['number']} boxes)", f"`{row['feature'].removeprefix('original_')}`"]
                rows.append(
                    [
                        *words,
                        f"{row['delta']:+.2f}",
                        _p(row["p_adjusted"]),
                        f"{row['median']:.4g}",
                        f"{row['median_normal']:.4g}",
                    ]
                )
        report.grid(["", "feature", "delta", "adjusted p", "median", "median in normal images"], rows)
    report.add("### All features")
    report.picture("effects", figures.effect_map(table), "Effect sizes of features over diseases")


# --- what the reader must know


def _facts(
    model: Evaluated, comparison: Evaluated | None, split: str, data: str | Path, bootstrap: int, seed: int
) -> dict[str, Any]:
    trained = model.checkpoint
    facts = {
        "checkpoint": trained.path,
        "epochs": trained.epoch + 1,
        "data": data,
        "set": split,
        "images": len(model.images),
    }
    facts |= {"patients": model.images.table["patient"].nunique(), "size_of_images": model.images.size}
    facts |= {"comparison": comparison.checkpoint.path} if comparison is not None else {}
    return {**facts, "bootstrap": bootstrap, "seed": seed, "kacl_gpu": __version__, "torch": torch.__version__}


def _notes(
    trained: Checkpoint, module: ChestXrays, split: str, data: str | Path, split_file: str | Path | None
) -> list[str]:
    """Return notes on the source of the split, and whether it is that of the training."""
    present = getattr(module, "fingerprint", None)
    if trained.fingerprint is not None and present is not None:
        if trained.fingerprint == present:
            return ["The images and their split are those of the training (by their fingerprint)."]
        known = "**The split is not that of the training, or the images are others: some may have been trained on.**"
    else:
        known = "The checkpoint does not say whether these are the images and the split of its training."
    file = split_file or trained.data["split_file"]
    drawn = (
        f"read from `{file}`" if file else f"drawn anew from the seed {trained.data['seed']}: equal images, equal split"
    )
    notes = [f"{known} The split was {drawn}."]
    if Path(data).resolve() != Path(trained.data["root"]).resolve():
        notes.append(f"The model was trained on the images in `{trained.data['root']}`, which is another folder.")
    if split == "train":
        notes.append("**These are training images.**")
    return notes


def _trained_on(other: Checkpoint, images: ChestXrayImages, data: str | Path) -> list[str]:
    """Return a note if the comparison was trained on some of these images."""
    try:
        train = open_data(other, data).train.table["image"]
    except InputError:
        return [
            f"Which images `{other.path}` was trained with cannot be told: its split file is not there or does not fit."
        ]
    trained = int(images.table["image"].isin(train).sum())
    if not trained:
        return []
    words = f"was trained on {trained} of these {len(images)} images: it has an advantage"
    return [f"**By its own split the comparison {words}.**"]


def _same_images(other: Checkpoint, images: ChestXrayImages, data: str | Path) -> ChestXrayImages:
    """Return these images as another model sees them."""
    whole_set = ChestXrays(**{**other.data, "root": data}).open()
    place = dict(zip(whole_set.table["image"], range(len(whole_set))))
    return whole_set.select([place[name] for name in images.table["image"]])


# --- words


def _cell(value: float, low: float = float("nan"), high: float = float("nan"), form: str = ".3f") -> str:
    """Return a number and its interval, which is left out if it is a point, and is not broken over lines."""
    if pd.isna(value):
        return "-"
    text = f"{value:{form}}"
    return (
        text
        if pd.isna(low) or low == high
        else f"{text} ({low:{form}}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:{form}})"
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _name(disease: str) -> str:
    return f"**{disease}**" if disease in (MEAN, ALL) else disease


def _intervals(draws: Mapping[str, Any]) -> str:
    number = draws["draws"]
    return f"In brackets: 95 % intervals, {number} draws of patients (none where all draws agree)." if number else ""


def _few(rows: pd.DataFrame, draws: Mapping[str, Any]) -> str:
    """Return a note on the diseases in rows (disease, patient) that have too few patients for an interval."""
    patients = rows.groupby("disease")["patient"].nunique()
    few = measures.ordered(patients.index[patients < FEW_PATIENTS])
    if not few or not draws["draws"]:
        return ""
    return (
        f"Fewer than {FEW_PATIENTS} patients have {', '.join(few)}: draws of so few hardly differ, so that the "
        "intervals of these diseases, and of the mean with them, are too narrow."
    )


def _by_disease(table: pd.DataFrame, protocol: str) -> list[tuple[str, pd.DataFrame]]:
    part = table[table["protocol"] == protocol]
    return [(str(name), rows) for name, rows in part.groupby("disease", sort=False)]


def _accuracy_row(name: str, rows: pd.DataFrame) -> list[str]:
    at = rows.set_index("measure").to_dict("index")
    cells = [at[f"iou > {t}"] for t in IOU_THRESHOLDS] + [at["mean iou"]]
    return [name, f"{cells[0]['number']}", *(_cell(c["value"], c["low"], c["high"], ".2f") for c in cells)]


def _numbers_row(name: str, values: Mapping[str, float], diseases: Sequence[str]) -> list[str]:
    """Return a name, the number of each disease, and the mean, in words."""
    return [name, *(_cell(values.get(key, float("nan"))) for key in (*diseases, MEAN))]


def _line(table: pd.DataFrame, protocol: str, disease: str) -> pd.DataFrame:
    """Return the accuracy over the threshold, for the picture."""
    part = table[(table["protocol"] == protocol) & (table["disease"] == disease) & (table["measure"] != "mean iou")]
    return part.assign(threshold=part["measure"].str.split().str[-1].astype(float))
