"""Measures of classification and localisation, from tables to tables, with intervals over patients.

The tables are those of `predictions`: ``cases`` (a row for each image and disease), ``truth`` (each true
box), ``boxes`` (each predicted one), ``peaks`` (the highest place of each heatmap). A measure that cannot be computed
is NaN, stands beside the reason, and is left out of every mean. A label of -1 is uncertain: the case counts neither as
positive nor as negative.

Intervals are of 95 %, percentiles of a bootstrap that draws patients and not images (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 13): the images of a patient resemble each other. A draw in which a figure
does not exist, such as an AUC without a positive, is left out; the column ``draws`` says how many were used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from torchmetrics.detection import MeanAveragePrecision

from kacl_gpu.io.boxes import BOX_COLUMNS

from ..data.diseases import ALL_DISEASES
from .validation import IOU_THRESHOLDS, iou

Numbers = NDArray[np.float64]

MEAN, ALL = "mean", "all together"  # rows beside those of diseases: of their figures; of all cases
TOP, BEST = "top box", "best of all components"  # the protocols of localisation
AP_THRESHOLDS = (0.1, 0.3, 0.5)


class Bootstrap:
    """Draw patients with replacement; the weight of a row is how often its patient was drawn.

    Args:
        patients: (N,), the patient of each row.
        draws: number of samples of patients; 0: no intervals.
        seed: equal seeds and patients give equal samples.

    Example:
        >>> (weights,) = Bootstrap([7, 7, 9], draws=2).weights()
        >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())
        ((2, 3), True)
    """

    def __init__(self, patients: ArrayLike, draws: int = 1000, seed: int = 0) -> None:
        names, self.codes = np.unique(np.asarray(patients), return_inverse=True)
        self.counts = np.zeros((0, 0), np.uint16)  # (draws, patients)
        if len(names):
            share = np.full(len(names), 1 / len(names))
            self.counts = np.random.default_rng(seed).multinomial(len(names), share, draws).astype(np.uint16)

    def weights(self, limit: int = 2**22) -> Iterator[Numbers]:
        """Yield the weights (b, N) of the draws in turn, at most ``limit`` numbers at once, or those of one draw."""
        step = max(1, limit // max(len(self.codes), 1))
        for first in range(0, len(self.counts), step):
            yield self.counts[first : first + step, self.codes].astype(float)


def interval(draws: Numbers) -> dict[str, float]:
    """Return low and high of the values (draws,) that are finite, NaN if none is, and their number as draws.

    Example:
        >>> interval(np.array([1.0, 3.0, np.nan]))
        {'low': 1.05, 'high': 2.95, 'draws': 2}
    """
    finite = draws[np.isfinite(draws)]
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (np.nan, np.nan)
    return {"low": float(low), "high": float(high), "draws": len(finite)}


# --- classification


def weighted_auc(scores: Numbers, labels: NDArray[np.bool_], weights: Numbers) -> Numbers:
    """Return the area under the receiver operating curve by ranks, ties counting half, for many weightings of cases.

    For the bootstrap: scikit-learn takes one weighting at a time and sorts the cases anew for each, 200 times as
    long for 200 cases, 7 times for 25,000.

    Args:
        scores: (N,), labels: (N,), weights: (B, N), not negative.

    Returns:
        (B,), NaN if a weighting leaves no positive or no negative.

    Example:
        >>> weighted_auc(np.array([0.1, 0.9]), np.array([False, True]), np.ones((1, 2)))
        array([1.])
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of each group of equal scores
    if not len(starts):
        return np.full(len(weights), np.nan)
    weights, labels = weights[:, order], labels[order]
    positive = np.add.reduceat(weights * labels, starts, axis=1)
    negative = np.add.reduceat(weights * ~labels, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    with np.errstate(invalid="ignore"):
        return (positive * below).sum(1) / (positive.sum(1) * negative.sum(1))


def auc(cases: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return the AUC of each disease, in the order of the table, and the mean of those that have one.

    Returns:
        disease, images (whose label is certain), positives, auc, low, high, draws, and note: the reason if there is no
        AUC.

    Example:
        >>> cases = pd.DataFrame({"image": ["a", "b", "c"], "patient": [1, 2, 3], "disease": "Mass"})
        >>> cases["label"], cases["probability"] = [1, 0, 0], [0.9, 0.2, 0.4]
        >>> auc(cases, draws=0)[["disease", "auc"]].to_dict("list")
        {'disease': ['Mass', 'mean'], 'auc': [1.0, 1.0]}
    """
    score, label, patients = _wide(cases)
    values, samples = _aucs(score, label, Bootstrap(patients, draws, seed))
    rows = []
    for name, value, sample in zip(label.columns, values, samples.T):
        images, positives = int((label[name] >= 0).sum()), int((label[name] > 0).sum())
        row = {"disease": name, "images": images, "positives": positives, "auc": value, **interval(sample)}
        rows.append({**row, "note": _reason(positives, images)})
    used = np.isfinite(values)
    mean = {"disease": MEAN, "images": len(label), "positives": int((label.to_numpy() > 0).any(1).sum())}
    mean |= {"auc": float(values[used].mean()) if used.any() else np.nan, **interval(_mean(samples[:, used]))}
    left_out = ", ".join(np.asarray(label.columns)[~used])
    rows.append({**mean, "note": f"without {left_out}" if left_out else ""})
    return pd.DataFrame(rows)


def auc_difference(cases: pd.DataFrame, other: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return the AUC of a model less that of another one, on the same images and diseases.

    Paired: each draw of patients is the same for both.

    Returns:
        disease, auc, other, difference, low, high (of the difference), draws; the mean is over the diseases that both
        have an AUC of.

    Raises:
        ValueError: they have not the same images in the same order, or another label of one, or no disease in common.

    Example:
        >>> cases = pd.DataFrame({"image": ["a", "b", "c"], "patient": [1, 2, 3], "disease": "Mass"})
        >>> cases["label"], cases["probability"] = [1, 0, 0], [0.9, 0.2, 0.4]
        >>> auc_difference(cases, cases.assign(probability=[0.3, 0.2, 0.4]), draws=0)["difference"].tolist()
        [0.5, 0.5]
    """
    score, label, patients = _wide(cases)
    other_score, other_label, _ = _wide(other)
    common = [name for name in label.columns if name in other_label.columns]
    if not common:
        raise ValueError("the models have no disease in common")
    if not label[common].equals(other_label[common]):
        raise ValueError("the models were not evaluated on the same images")
    sampler = Bootstrap(patients, draws, seed)
    a, a_samples = _aucs(score[common], label[common], sampler)
    b, b_samples = _aucs(other_score[common], label[common], sampler)
    used = np.isfinite(a)
    rows = [
        {"disease": name, "auc": x, "other": y, "difference": x - y, **interval(sample)}
        for name, x, y, sample in zip(common, a, b, (a_samples - b_samples).T)
    ]
    x, y = (float(values[used].mean()) if used.any() else np.nan for values in (a, b))
    sample = _mean((a_samples - b_samples)[:, used])
    return pd.DataFrame([*rows, {"disease": MEAN, "auc": x, "other": y, "difference": x - y, **interval(sample)}])


def roc(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the receiver operating curve of each disease that has one: disease, fpr, tpr, threshold.

    Example:
        >>> cases = pd.DataFrame({"image": ["a", "b", "c"], "patient": [1, 2, 3], "disease": "Mass"})
        >>> cases["label"], cases["probability"] = [1, 0, 0], [0.9, 0.2, 0.4]
        >>> roc(cases)["tpr"].tolist()
        [0.0, 1.0, 1.0]
    """
    score, label, _ = _wide(cases)
    curves = []
    for name in label.columns:
        known = label[name] >= 0
        if not _reason(int((label[name] > 0).sum()), int(known.sum())):
            fpr, tpr, threshold = roc_curve(label.loc[known, name], score.loc[known, name])
            curves.append(pd.DataFrame({"disease": name, "fpr": fpr, "tpr": tpr, "threshold": threshold}))
    return (
        pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["disease", "fpr", "tpr", "threshold"])
    )


def thresholds(cases: pd.DataFrame) -> dict[str, float]:
    """Return the probability with the largest sensitivity + specificity (Youden, 1950) of each disease with a curve.

    Example:
        >>> cases = pd.DataFrame({"image": ["a", "b", "c"], "patient": [1, 2, 3], "disease": "Mass"})
        >>> cases["label"], cases["probability"] = [1, 0, 0], [0.9, 0.2, 0.4]
        >>> thresholds(cases)
        {'Mass': 0.9}
    """
    chosen = {}
    for name, curve in roc(cases).groupby("disease", sort=False):
        best = (curve["tpr"] - curve["fpr"]).to_numpy()[1:].argmax() + 1  # the first point is at no probability
        chosen[str(name)] = float(curve["threshold"].to_numpy()[best])
    return chosen


POINT_COLUMNS = [
    "disease", "threshold", "true_positives", "false_negatives", "false_positives", "true_negatives",
    *(f"{kind}{end}" for kind in ("sensitivity", "specificity") for end in ("", "_low", "_high")),
]  # fmt: skip


def operating_points(
    cases: pd.DataFrame, chosen: Mapping[str, float], draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return sensitivity and specificity of "at least this probability" for the diseases that have a threshold.

    Returns:
        disease, threshold, true_positives, false_negatives, false_positives, true_negatives, and sensitivity and
        specificity, each with ``_low`` and ``_high``; missing where there is no case.

    Example:
        >>> cases = pd.DataFrame({"image": ["a", "b", "c"], "patient": [1, 2, 3], "disease": "Mass"})
        >>> cases["label"], cases["probability"] = [1, 0, 0], [0.9, 0.2, 0.4]
        >>> points = operating_points(cases, {"Mass": 0.3}, draws=0)
        >>> points[["sensitivity", "specificity"]].to_dict("records")
        [{'sensitivity': 1.0, 'specificity': 0.5}]
    """
    score, label, patients = _wide(cases)
    names = [name for name in label.columns if name in chosen]
    ill, well = (label[names].to_numpy() == value for value in (1, 0))
    called = score[names].to_numpy() >= np.array([chosen[name] for name in names])
    kinds = {"sensitivity": (ill & called, ill), "specificity": (well & ~called, well)}
    samples: dict[str, list[Numbers]] = {kind: [] for kind in kinds}
    for weights in Bootstrap(patients, draws, seed).weights():
        for kind, (right, counted) in kinds.items():
            with np.errstate(invalid="ignore"):
                samples[kind].append((weights @ right) / (weights @ counted))
    rows = []
    for d, name in enumerate(names):
        row: dict[str, object] = {"disease": name, "threshold": chosen[name]}
        row["true_positives"], row["false_negatives"] = (int((ill & x)[:, d].sum()) for x in (called, ~called))
        row["false_positives"], row["true_negatives"] = (int((well & x)[:, d].sum()) for x in (called, ~called))
        for kind, (right, counted) in kinds.items():
            number = int(counted[:, d].sum())
            row[kind] = right[:, d].sum() / number if number else np.nan
            ends = interval(np.concatenate([part[:, d] for part in samples[kind]] or [np.empty(0)]))
            row |= {f"{kind}_low": ends["low"], f"{kind}_high": ends["high"]}
        rows.append(row)
    return pd.DataFrame(rows, columns=POINT_COLUMNS)


# --- localisation


def overlaps(truth: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Return the overlap of each true box with the predictions for its image and disease.

    Returns:
        The table ``truth`` and: top (intersection over union with the first prediction), best (with the one that
        overlaps most), predicted (their number). 0 if there is none.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=2, y2=2)
        >>> boxes = truth.assign(rank=0, x1=1, x2=3)
        >>> overlaps(truth, boxes)["top"].round(3).tolist()
        [0.333]
    """
    keys = ["image", "disease"]
    left = truth.reset_index(drop=True).reset_index(names="true")
    both = left.merge(boxes[[*keys, "rank", *BOX_COLUMNS]], on=keys, suffixes=("", "_predicted"))
    both["iou"] = _iou(both[[*BOX_COLUMNS]], both[[f"{name}_predicted" for name in BOX_COLUMNS]])
    out = left.drop(columns="true")
    out["top"] = both[both["rank"] == 0].set_index("true")["iou"].reindex(left.index).fillna(0.0)
    grouped = both.groupby("true")["iou"]
    out["best"] = grouped.max().reindex(left.index).fillna(0.0)
    out["predicted"] = grouped.size().reindex(left.index).fillna(0).astype(int)
    return out


def localisation(
    overlapping: pd.DataFrame, draws: int = 1000, seed: int = 0, levels: Sequence[float] = IOU_THRESHOLDS
) -> pd.DataFrame:
    """Return the accuracy of boxes: the share of true boxes whose overlap is above each level, and the mean overlap.

    Each true box is a case, also if an image has several of one disease, as in the authors' published script and in
    Wang et al. (CVPR 2017).

    Args:
        overlapping: table of :func:`overlaps`.
        levels: of the intersection over union.

    Returns:
        protocol, disease (those that have boxes, then the mean of them, then all together), measure (``iou > T``,
        or ``mean iou``), number (of boxes), value, low, high, draws.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=2, y2=2)
        >>> boxes = truth.assign(rank=0, x1=1, x2=3)
        >>> table = localisation(overlaps(truth, boxes), draws=0, levels=[0.3])
        >>> table.loc[0, ["protocol", "measure"]].tolist(), float(table.loc[0, "value"])
        (['top box', 'iou > 0.3'], 1.0)
    """
    columns = {
        (protocol, measure): values
        for protocol, overlap in ((TOP, overlapping["top"]), (BEST, overlapping["best"]))
        for measure, values in (
            *((f"iou > {level}", (overlap > level).to_numpy(float)) for level in levels),
            ("mean iou", overlap.to_numpy(float)),
        )
    }
    table = _means(columns, overlapping, draws, seed)
    return table.rename(columns={"first": "protocol", "second": "measure"})


def pointing(truth: pd.DataFrame, peaks: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Play the pointing game: return the share of images and diseases whose heatmap is highest inside any true box.

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, without their margin of 15 pixels. A
    heatmap without a highest place (constant) misses.

    Returns:
        disease, number (of images with boxes of it), value, low, high, draws; rows as in :func:`localisation`.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=2, y2=2)
        >>> boxes = truth.assign(rank=0, x1=1, x2=3)
        >>> peaks = pd.DataFrame({"image": ["a"], "disease": ["Mass"], "x": [1.5], "y": [0.5]})
        >>> pointing(truth, peaks, draws=0)["value"].tolist()
        [1.0, 1.0, 1.0]
    """
    keys = ["image", "disease"]
    both = truth.merge(peaks[[*keys, "x", "y"]], on=keys, how="left")
    hit = both["x"].between(both["x1"], both["x2"], inclusive="left")
    both["hit"] = hit & both["y"].between(both["y1"], both["y2"], inclusive="left")
    pairs = both.groupby([*keys, "patient"], sort=False)["hit"].any().reset_index()
    table = _means({("", "hit"): pairs["hit"].to_numpy(float)}, pairs, draws, seed)
    return table.drop(columns=["first", "second"])


def average_precision(
    cases: pd.DataFrame, truth: pd.DataFrame, boxes: pd.DataFrame, levels: Sequence[float] = AP_THRESHOLDS
) -> pd.DataFrame:
    """Return the average precision of the predicted boxes as detections, by COCO's rules (torchmetrics).

    Over the images that have a true box of any disease. Detections are all components of the heatmaps of all diseases
    there; a component's score is the probability of its disease times its share of the largest component's total
    activation. Diseases that an image is labelled with, or uncertain of (-1), but has no box of are left out there:
    nobody knows where they are. A detection is right at an overlap of at least the level.

    Returns:
        disease (those with true boxes, then the mean), boxes, detections, and ``ap_<level>`` for each.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> cases = truth.assign(label=1, probability=0.9)
        >>> truth = truth.assign(x1=0, y1=0, x2=2, y2=2)
        >>> average_precision(cases, truth, truth.assign(rank=0, total=1.0), [0.5])["ap_0.5"].tolist()
        [1.0, 1.0]
    """
    names = ordered(truth["disease"])
    if not names:
        return pd.DataFrame(columns=["disease", "boxes", "detections", *(f"ap_{level}" for level in levels)])
    images = [*dict.fromkeys(truth["image"])]
    labels = cases.set_index(["image", "disease"])[["label", "probability"]]
    keys = ["image", "disease"]
    shown = boxes[boxes["image"].isin(images) & boxes["disease"].isin(names)].join(labels, on=keys)
    boxed = truth.set_index(keys).index
    shown = shown[(shown["label"] == 0) | shown.set_index(keys).index.isin(boxed)]
    first = shown.groupby(keys)["total"].transform("max")
    # a fallback to the whole image has no activation; it is its disease's only detection
    shown = shown.assign(
        score=shown["probability"] * np.where(first > 0, shown["total"] / first.where(first > 0, 1), 1)
    )

    def listed(table: pd.DataFrame, scored: bool) -> list[dict[str, torch.Tensor]]:
        """Return the boxes of each image as torchmetrics takes them."""
        parts = dict([*table.groupby("image")])
        out = []
        for image in images:
            part = parts.get(image, table.iloc[:0])
            codes = part["disease"].map(names.index).to_numpy(np.int64)
            entry = {
                "boxes": torch.tensor(part[[*BOX_COLUMNS]].to_numpy(np.float32)),
                "labels": torch.tensor(codes),
            }
            if scored:
                entry["scores"] = torch.tensor(part["score"].to_numpy(np.float32))
            out.append(entry)
        return out

    rows = {
        name: {"boxes": int((truth["disease"] == name).sum()), "detections": int((shown["disease"] == name).sum())}
        for name in names
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("disease").reset_index()
    for level in levels:
        metric = MeanAveragePrecision(iou_thresholds=[level], class_metrics=True)
        metric.warn_on_many_detections = False
        metric.update(listed(shown, True), listed(truth, False))
        result = metric.compute()
        by_class = dict(zip(result["classes"].reshape(-1).tolist(), result["map_per_class"].reshape(-1).tolist()))
        table[f"ap_{level}"] = [by_class[k] for k in range(len(names))]
    mean = {
        "disease": MEAN,
        **table.drop(columns="disease").mean(),
        "boxes": table["boxes"].sum(),
        "detections": table["detections"].sum(),
    }
    return pd.concat([table, pd.DataFrame([mean])], ignore_index=True)


def confusion(truth: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Return the overlap of true boxes with the boxes of each disease that the network is asked for.

    Returns:
        (true diseases, diseases asked for): the mean overlap of true boxes with the top box of the disease asked for in
        the same image. A network that tells places apart has its largest values on the diagonal.

    Example:
        >>> truth = pd.DataFrame({"image": ["a"], "patient": [1], "disease": ["Mass"]})
        >>> truth = truth.assign(x1=0, y1=0, x2=2, y2=2)
        >>> boxes = truth.assign(rank=0, x1=1, x2=3)
        >>> float(confusion(truth, boxes).round(3).loc["Mass", "Mass"])
        0.333
    """
    top = boxes.loc[boxes["rank"] == 0, ["image", "disease", *BOX_COLUMNS]]
    both = truth.merge(top, on="image", suffixes=("", "_predicted"))
    both["iou"] = _iou(both[[*BOX_COLUMNS]], both[[f"{name}_predicted" for name in BOX_COLUMNS]])
    table = both.pivot_table("iou", "disease", "disease_predicted", "mean")
    return table.loc[ordered(table.index), ordered(table.columns)]


# --- pieces


def ordered(names: Iterable[str]) -> list[str]:
    """Return each disease once, those of NIH ChestX-ray14 in its order, then others by name.

    Example:
        >>> ordered(["Mass", "Scoliosis", "Atelectasis", "Mass"])
        ['Atelectasis', 'Mass', 'Scoliosis']
    """
    place = {name: k for k, name in enumerate(ALL_DISEASES)}
    return sorted({*names}, key=lambda name: (place.get(name, len(place)), name))


def _wide(cases: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, Numbers]:
    """Return probabilities and labels (images, diseases), in the order of the table, and the patient of each image.

    Labels are 1, 0, or -1: uncertain.
    """
    names = [*dict.fromkeys(cases["disease"])]
    images = [*dict.fromkeys(cases["image"])]
    score, label = (
        cases.pivot(index="image", columns="disease", values=column).loc[images, names]
        for column in ("probability", "label")
    )
    patients = cases.drop_duplicates("image")["patient"].to_numpy()
    return score.astype(float), label.astype(int), patients


def _aucs(score: pd.DataFrame, label: pd.DataFrame, sampler: Bootstrap) -> tuple[Numbers, Numbers]:
    """Return the AUC of each disease (D,), NaN if there is none, and those of the draws (draws, D)."""
    scores, labels = score.to_numpy(), label.to_numpy()
    columns = [(s[y >= 0], y[y >= 0] > 0, np.flatnonzero(y >= 0)) for s, y in zip(scores.T, labels.T)]
    values = np.array([roc_auc_score(y, s) if 0 < y.sum() < len(y) else np.nan for s, y, _ in columns])
    parts = [
        np.stack([weighted_auc(s, y, weights[:, known]) for s, y, known in columns], 1) for weights in sampler.weights()
    ]
    return values, np.concatenate(parts) if parts else np.empty((0, len(values)))


def _mean(samples: Numbers) -> Numbers:
    """Return the mean over D of draws (draws, D); NaN if one is missing: the mean of the others is another measure."""
    return samples.mean(1) if samples.shape[1] else np.empty(0)


def _means(columns: Mapping[tuple[str, str], Numbers], rows: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """Return the means of columns (N,) by disease, the mean of those, and the mean of all rows, with their intervals.

    Args:
        columns: (N,) each, by two names.
        rows: disease and patient of each row.

    Returns:
        first, second, disease, number, value, low, high, draws.
    """
    names = ordered(rows["disease"])
    values = np.stack([*columns.values()], 1)  # (N, K)
    groups = [(rows["disease"] == name).to_numpy() for name in names]

    def means(weights: Numbers) -> Numbers:
        """Return the means (b, D + 2, K) of weightings (b, N)."""
        with np.errstate(invalid="ignore"):
            parts = [(weights[:, g] @ values[g]) / weights[:, g].sum(1, keepdims=True) for g in groups]
            every = (weights @ values) / weights.sum(1, keepdims=True)
        return np.stack([*parts, np.mean(parts, 0), every], 1)

    if not names:
        return pd.DataFrame(columns=["first", "second", "disease", "number", "value", "low", "high", "draws"])
    overall = means(np.ones((1, len(rows))))[0]
    samples = np.concatenate(
        [np.empty((0, *overall.shape)), *map(means, Bootstrap(rows["patient"], draws, seed).weights())]
    )
    numbers = [*(int(g.sum()) for g in groups), len(rows), len(rows)]
    return pd.DataFrame(
        {"first": first, "second": second, "disease": name, "number": number, "value": overall[d, k]}
        | interval(samples[:, d, k])
        for k, (first, second) in enumerate(columns)
        for d, (name, number) in enumerate(zip([*names, MEAN, ALL], numbers))
    )


def _iou(a: pd.DataFrame, b: pd.DataFrame) -> Numbers:
    """Return the intersection over union of boxes, row by row."""
    first, second = (torch.tensor(table.to_numpy(float)) for table in (a, b))
    return np.asarray(iou(first, second))


def _reason(positives: int, images: int) -> str:
    """Return the reason why there is no AUC; empty if there is one."""
    return "no positives" if not positives else "no negatives" if positives == images else ""
