"""Predictions, and every figure made of them, against scikit-learn, COCO's rules written out, and plain loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

pytest.importorskip("lightning")

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.kacl.boxes import components
from kacl_gpu.kacl.cam import head_cam, heatmaps
from kacl_gpu.kacl.data.diseases import DISEASES
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.evaluation.measures import (
    ALL,
    BEST,
    MEAN,
    TOP,
    Bootstrap,
    auc,
    auc_difference,
    average_precision,
    confusion,
    localisation,
    operating_points,
    overlaps,
    pointing,
    roc,
    thresholds,
    weighted_auc,
)
from kacl_gpu.kacl.evaluation.predictions import (
    Checkpoint,
    load_checkpoint,
    open_data,
    other_boxes,
    predict,
    true_boxes,
)
from tests.kacl.evaluating import untrained

CPU = torch.device("cpu")
SIZE = 64
# Both sum some hundred numbers in double precision, in different orders
CLOSE = 1e-12


def random_cases(seed: int, images: int = 60, diseases: tuple[str, ...] = DISEASES[:3]) -> Any:
    """Return predictions with ties, of patients with one to four images."""
    random = np.random.default_rng(seed)
    number = len(diseases)
    label = random.random(images * number) < 0.3
    return pd.DataFrame(
        {
            "image": np.repeat([f"{k:03}.png" for k in range(images)], number),
            "patient": np.repeat(random.integers(0, images // 2, images), number),
            "disease": np.tile(diseases, images),
            "label": label.astype(int),
            "probability": np.clip(0.2 * label + random.integers(0, 12, len(label)) / 15, 0, 1),
        }
    )


def random_boxes(random: np.random.Generator, number: int) -> np.ndarray:
    low = random.integers(0, SIZE - 8, (number, 2))
    return np.concatenate([low, np.minimum(low + random.integers(6, 50, (number, 2)), SIZE)], 1).astype(float)


def random_places(seed: int, cases: Any) -> tuple[Any, Any, Any]:
    """True boxes, up to three of an image and disease; predicted ones, sometimes none; peaks, sometimes none."""
    random = np.random.default_rng(seed)
    truth, boxes, peaks = [], [], []  # type: list[Any], list[Any], list[Any]
    for image, patient, disease, label in cases[["image", "patient", "disease", "label"]].itertuples(index=False):
        key = (image, patient, disease)
        if label > 0 and random.random() < 0.7:
            truth += [(*key, *box) for box in random_boxes(random, random.integers(1, 4))]
        total = np.sort(random.uniform(0.02, 1.2, random.integers(0, 5)))[::-1]
        boxes += [(*key, k, total[k], False, *box) for k, box in enumerate(random_boxes(random, len(total)))]
        peaks += [(*key, *(random.integers(0, SIZE, 2) + 0.5 if random.random() < 0.9 else (np.nan, np.nan)))]
    keys = ["image", "patient", "disease"]
    return (
        pd.DataFrame(truth, columns=[*keys, *BOX_COLUMNS]),
        pd.DataFrame(boxes, columns=[*keys, "rank", "total", "fallback", *BOX_COLUMNS]),
        pd.DataFrame(peaks, columns=[*keys, "x", "y"]),
    )


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """By counting pixels."""
    first, second = np.zeros((2, SIZE, SIZE), bool)
    for mask, (x1, y1, x2, y2) in ((first, a), (second, b)):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    return (first & second).sum() / (first | second).sum()


def drawn(patients: Any, draw: np.ndarray) -> np.ndarray:
    """Return which rows a draw of patients (counts, in their order) consists of, as often as they were drawn."""
    counts = dict(zip(np.unique(patients), draw))
    return np.repeat(np.arange(len(patients)), [counts[patient] for patient in patients])


def by_disease(table: Any) -> Any:
    return table.set_index("disease")


# --- the bootstrap


def test_patients_are_drawn_and_not_images() -> None:
    patients = np.array([7, 3, 3, 9, 7, 7, 1])
    weights = np.concatenate([*Bootstrap(patients, 500, seed=1).weights()])
    assert weights.shape == (500, 7)
    assert (weights[:, 1] == weights[:, 2]).all() and (weights[:, 0] == weights[:, [4, 5]].T).all()
    of_patients = weights[:, [6, 1, 0, 3]]
    assert (of_patients.sum(1) == 4).all()
    # each patient is drawn once a sample in the mean: 500 samples of 4 have a standard error of 0.04
    assert of_patients.mean(0) == pytest.approx([1, 1, 1, 1], abs=0.2) and of_patients.max() >= 3
    again, other = Bootstrap(patients, 500, seed=1), Bootstrap(patients, 500, seed=2)
    assert (np.concatenate([*again.weights(limit=30)]) == weights).all()  # in parts of four draws
    assert (np.concatenate([*other.weights()]) != weights).any()
    assert list(Bootstrap([], 10).weights()) == []


# --- classification


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 8))
def test_weighted_auc_is_that_of_scikit_learn(seed: int, number: int, distinct: int) -> None:
    random = np.random.default_rng(seed)
    scores, labels = random.integers(0, distinct, number) / 7, random.random(number) < 0.5
    weights = random.integers(0, 4, (5, number)).astype(float)
    for ours, weight in zip(weighted_auc(scores, labels, weights), weights):
        if (weight * labels).sum() and (weight * ~labels).sum():
            assert ours == pytest.approx(roc_auc_score(labels, scores, sample_weight=weight), abs=CLOSE)
        else:
            assert np.isnan(ours)


def test_auc_and_its_intervals() -> None:
    """Each draw made out of copies of rows, and scikit-learn for it."""
    cases = random_cases(0)
    found = by_disease(auc(cases, draws=40, seed=5))
    values, samples = [], []
    for name in DISEASES[:3]:
        rows = cases[cases["disease"] == name].reset_index(drop=True)
        sampler = Bootstrap(rows["patient"], 40, seed=5)
        ill, well = (rows.loc[rows["label"] == label, "probability"].to_numpy() for label in (1, 0))
        values.append((np.sign(ill[:, None] - well) + 1).mean() / 2)  # pair by pair, ties half
        parts = [rows.iloc[drawn(rows["patient"], draw)] for draw in sampler.counts]
        samples.append([roc_auc_score(part["label"], part["probability"]) for part in parts])
        ours = found.loc[name]
        assert ours["auc"] == pytest.approx(values[-1], abs=CLOSE)
        assert [ours["low"], ours["high"]] == pytest.approx(np.percentile(samples[-1], [2.5, 97.5]), abs=CLOSE)
        assert (ours["images"], ours["positives"], ours["draws"]) == (60, rows["label"].sum(), 40)
    mean = found.loc[MEAN]
    assert mean["auc"] == pytest.approx(np.mean(values), abs=CLOSE)
    expected = np.percentile(np.mean(samples, 0), [2.5, 97.5])
    assert [mean["low"], mean["high"]] == pytest.approx(expected, abs=CLOSE)


def test_a_class_without_positives_is_said_to_be_one() -> None:
    cases = random_cases(1)
    none, all_ = DISEASES[0], DISEASES[1]
    cases.loc[cases["disease"] == none, "label"] = 0
    cases.loc[cases["disease"] == all_, "label"] = 1
    found = by_disease(auc(cases, draws=20))
    assert found["note"].tolist() == ["no positives", "no negatives", "", f"without {none}, {all_}"]
    assert found["auc"].isna().tolist() == [True, True, False, False]
    assert found.loc[MEAN, "auc"] == found.loc[DISEASES[2], "auc"]
    assert found.loc[MEAN, "low"] == found.loc[DISEASES[2], "low"] > 0
    assert set(roc(cases)["disease"]) == set(thresholds(cases)) == {DISEASES[2]}
    points = operating_points(cases, thresholds(cases), draws=5)
    assert points["disease"].tolist() == [DISEASES[2]]
    no_points = operating_points(cases, {}, draws=5)  # as of validation images without a disease that has both
    assert no_points.empty and [*no_points.columns] == [*points.columns]

    nothing = by_disease(auc(cases[cases["disease"] != DISEASES[2]], draws=20))
    assert nothing["auc"].isna().all() and nothing.loc[MEAN, "note"] == f"without {none}, {all_}"


def test_uncertain_labels_count_nowhere() -> None:
    """As if the cases of this disease were not there: scikit-learn and plain counts on the others."""
    cases = random_cases(4)
    random = np.random.default_rng(1)
    uncertain = random.random(len(cases)) < 0.2
    cases.loc[uncertain, "label"] = -1
    table = by_disease(auc(cases, draws=20))
    points = by_disease(operating_points(cases, thresholds(cases), draws=20))
    other = cases.assign(probability=random.random(len(cases)))
    difference = by_disease(auc_difference(cases, other, draws=20))
    for name in DISEASES[:3]:
        known = (cases["disease"] == name) & ~uncertain
        part = cases[known]
        assert table.loc[name, ["images", "positives"]].tolist() == [len(part), part["label"].sum()]
        assert table.loc[name, "auc"] == roc_auc_score(part["label"], part["probability"])
        draws = [
            roc_auc_score(part["label"], part["probability"], sample_weight=row[known[cases["disease"] == name]])
            for weights in Bootstrap(cases.loc[cases["disease"] == name, "patient"], 20).weights()
            for row in weights
        ]
        assert table.loc[name, ["low", "high"]].tolist() == pytest.approx([*np.percentile(draws, [2.5, 97.5])], CLOSE)
        assert difference.loc[name, "other"] == roc_auc_score(part["label"], other.loc[known, "probability"])
        counts = ["true_positives", "false_negatives", "false_positives", "true_negatives"]
        called = part["probability"] >= points.loc[name, "threshold"]
        expected = [(called[part["label"] == 1] == c).sum() for c in (True, False)]
        expected += [(called[part["label"] == 0] == c).sum() for c in (True, False)]
        assert points.loc[name, counts].tolist() == expected
        # the thresholds without those cases are the same
        assert thresholds(part)[name] == points.loc[name, "threshold"]
    assert table.loc[MEAN, "positives"] == cases[cases["label"] == 1]["image"].nunique()
    truth, boxes, _ = random_places(4, cases)
    boxes_elsewhere = boxes[
        ~boxes.set_index(["image", "disease"]).index.isin(cases[uncertain].set_index(["image", "disease"]).index)
    ]
    pd.testing.assert_frame_equal(
        average_precision(cases, truth[truth["image"].isin(cases["image"])], boxes)[["disease", "ap_0.1"]],
        average_precision(cases, truth, boxes_elsewhere)[["disease", "ap_0.1"]],
    )


def test_few_positives_leave_draws_out() -> None:
    """One patient with the disease is in a draw with probability 1 - 1/e."""
    cases = random_cases(2, diseases=DISEASES[:1])
    cases["label"] = 0
    cases.loc[0, "label"] = 1
    one = by_disease(auc(cases, draws=300)).loc[DISEASES[0]]
    assert 300 * 0.55 < one["draws"] < 300 * 0.71 and one["low"] <= one["auc"] <= one["high"]


def test_thresholds_and_what_they_give() -> None:
    cases = random_cases(3)
    chosen = thresholds(cases)
    found = by_disease(operating_points(cases, chosen, draws=30, seed=2))
    for name in DISEASES[:3]:
        rows = cases[cases["disease"] == name].reset_index(drop=True)
        ill, p = rows["label"].to_numpy(bool), rows["probability"].to_numpy()
        youden = {t: (p[ill] >= t).mean() - (p[~ill] >= t).mean() for t in p}
        assert youden[chosen[name]] == pytest.approx(max(youden.values()), abs=CLOSE)
        ours = found.loc[name]
        called = p >= chosen[name]
        assert ours["true_positives"] == sum(1 for x, y in zip(called, ill) if x and y)
        assert ours["false_negatives"] == sum(1 for x, y in zip(called, ill) if not x and y)
        assert ours["false_positives"] == sum(1 for x, y in zip(called, ill) if x and not y)
        assert ours["true_negatives"] == sum(1 for x, y in zip(called, ill) if not x and not y)
        assert ours["sensitivity"] == pytest.approx(called[ill].mean(), abs=CLOSE)
        assert ours["specificity"] == pytest.approx((~called[~ill]).mean(), abs=CLOSE)
        parts = [drawn(rows["patient"], draw) for draw in Bootstrap(rows["patient"], 30, seed=2).counts]
        for kind, of, right in (("sensitivity", ill, called), ("specificity", ~ill, ~called)):
            sample = [right[part][of[part]].mean() for part in parts]
            expected = np.percentile(sample, [2.5, 97.5])
            assert [ours[f"{kind}_low"], ours[f"{kind}_high"]] == pytest.approx(expected, abs=CLOSE)


def test_a_threshold_is_a_probability_also_of_a_classifier_that_is_always_wrong() -> None:
    cases = random_cases(3, diseases=DISEASES[:1])
    cases["probability"] = np.where(cases["label"] == 1, 0.2, 0.7)
    assert thresholds(cases) == {DISEASES[0]: 0.2}


def test_the_difference_of_two_models_is_paired() -> None:
    ours, other = random_cases(4), random_cases(4)
    other["probability"] = np.random.default_rng(9).permutation(other["probability"])
    found = by_disease(auc_difference(ours, other, draws=25, seed=3))
    differences, samples = [], []
    for name in DISEASES[:3]:
        a, b = (table[table["disease"] == name].reset_index(drop=True) for table in (ours, other))
        both = [roc_auc_score(table["label"], table["probability"]) for table in (a, b)]
        differences.append(both[0] - both[1])
        sample = []
        for draw in Bootstrap(a["patient"], 25, seed=3).counts:
            rows = drawn(a["patient"], draw)
            parts = [table.iloc[rows] for table in (a, b)]
            x, y = (roc_auc_score(part["label"], part["probability"]) for part in parts)
            sample.append(x - y)
        samples.append(sample)
        assert found.loc[name, ["auc", "other", "difference"]].tolist() == pytest.approx(
            [*both, differences[-1]], abs=CLOSE
        )
    low, high = np.percentile(np.mean(samples, 0), [2.5, 97.5])
    assert found.loc[MEAN, ["difference", "low", "high"]].tolist() == pytest.approx(
        [np.mean(differences), low, high], abs=CLOSE
    )
    a, b = (table.assign(label=table["label"].where(table["disease"] != DISEASES[0], 0)) for table in (ours, other))
    fewer = by_disease(auc_difference(a, b, draws=25))  # a disease without positives is not in the mean
    assert np.isnan(fewer.loc[DISEASES[0], "difference"])
    assert fewer.loc[MEAN, "difference"] == pytest.approx(np.mean(differences[1:]), abs=CLOSE)
    part = other[other["disease"] == DISEASES[1]]
    assert auc_difference(ours, part, draws=5)["disease"].tolist() == [DISEASES[1], MEAN]
    with pytest.raises(ValueError, match="no disease in common"):
        auc_difference(ours, other.assign(disease="Hernia" + other["disease"]), draws=5)
    with pytest.raises(ValueError, match="same images"):
        auc_difference(ours, other[other["image"] != "000.png"], draws=5)


# --- localisation


def test_localisation_by_loops() -> None:
    cases = random_cases(5)
    truth, boxes, _ = random_places(5, cases)
    found = overlaps(truth, boxes)
    tops: list[float] = []
    bests: list[float] = []
    for true in truth.itertuples(index=False):
        same = boxes[(boxes["image"] == true.image) & (boxes["disease"] == true.disease)]
        each = [overlap(true[3:], box) for box in same.sort_values("rank")[[*BOX_COLUMNS]].itertuples(index=False)]
        tops.append(each[0] if each else 0.0)
        bests.append(max(each, default=0.0))
    assert found["top"].tolist() == pytest.approx(tops, abs=CLOSE)
    assert found["best"].tolist() == pytest.approx(bests, abs=CLOSE)
    assert (found["predicted"] == 0).any() and truth.duplicated(["image", "disease"]).any()

    table: Any = localisation(found, draws=30, seed=4).set_index(["protocol", "measure", "disease"]).sort_index()
    sampler = Bootstrap(found["patient"], 30, seed=4)
    for protocol, values in ((TOP, np.array(tops)), (BEST, np.array(bests))):
        for measure in ("mean iou", *(f"iou > {t}" for t in (0.1, 0.3, 0.7))):
            right: Any = values if measure == "mean iou" else values > float(measure.split()[-1])
            groups = {name: (truth["disease"] == name).to_numpy() for name in DISEASES[:3]}

            def of(rows: np.ndarray, right: Any = right, groups: dict = groups) -> list[float]:
                parts = [right[rows][group[rows]].mean() for group in groups.values()]
                return [*parts, float(np.mean(parts)), right[rows].mean()]

            names = [*groups, MEAN, ALL]
            ours = table.loc[(protocol, measure)].loc[names]
            assert ours["value"].tolist() == pytest.approx(of(np.arange(len(right))), abs=CLOSE)
            sample = [of(drawn(found["patient"], draw)) for draw in sampler.counts]
            low, high = np.percentile(sample, [2.5, 97.5], axis=0)
            assert ours["low"].tolist() == pytest.approx(low, abs=CLOSE)
            assert ours["high"].tolist() == pytest.approx(high, abs=CLOSE)
            assert ours["number"].tolist() == [*(int(group.sum()) for group in groups.values()), *[len(truth)] * 2]


def test_a_mean_is_of_draws_that_have_every_disease() -> None:
    """One patient with the only box of a disease is in a draw with probability 1 - 1/e."""
    rows = [(f"{k}.png", k, DISEASES[k == 0], 0.2 * (k == 0)) for k in range(20)]
    found: Any = pd.DataFrame(rows, columns=["image", "patient", "disease", "top"])
    table = localisation(found.assign(best=found["top"]), draws=300)
    top = by_disease(table[(table["protocol"] == TOP) & (table["measure"] == "mean iou")])
    assert 300 * 0.55 < top.loc[DISEASES[1], "draws"] == top.loc[MEAN, "draws"] < 300 * 0.71
    assert top.loc[ALL, "draws"] == 300
    assert top.loc[MEAN, ["low", "value", "high"]].tolist() == pytest.approx([0.1] * 3)


def test_an_overlap_of_the_threshold_itself_is_not_above_it() -> None:
    row: list[Any] = ["a", 1, "Mass", 0.0, 0, 10, 10]
    truth = pd.DataFrame([row], columns=["image", "patient", "disease", *BOX_COLUMNS])
    boxes = truth.assign(rank=0, total=1.0, fallback=False, x2=5.0)
    table = localisation(overlaps(truth, boxes), draws=3).set_index(["measure", "disease", "protocol"])["value"]
    assert table["iou > 0.4", "Mass", TOP] == 1 and table["iou > 0.5", "Mass", TOP] == 0


def test_the_pointing_game_by_a_loop() -> None:
    cases = random_cases(6)
    truth, _, peaks = random_places(6, cases)
    hits: dict[str, list[bool]] = {}
    for peak in peaks.itertuples(index=False):
        same = truth[(truth["image"] == peak.image) & (truth["disease"] == peak.disease)]
        inside = [box.x1 <= peak.x < box.x2 and box.y1 <= peak.y < box.y2 for box in same.itertuples(index=False)]
        if inside:
            hits.setdefault(peak.disease, []).append(any(inside))
    found = by_disease(pointing(truth, peaks, draws=10))
    for name, each in hits.items():
        assert found.loc[name, "value"] == pytest.approx(np.mean(each), abs=CLOSE)
        assert found.loc[name, "number"] == len(each)
        assert 0 <= found.loc[name, "low"] <= found.loc[name, "value"] <= found.loc[name, "high"] <= 1
    assert found.loc[ALL, "value"] == pytest.approx(np.mean([hit for each in hits.values() for hit in each]), abs=CLOSE)
    assert peaks["x"].isna().any()


@pytest.mark.parametrize("x, y, hit", [(2.0, 3, 1), (10.0, 3, 0), (2.0, 9, 0), (9.5, 8.5, 1), (1.5, 8.5, 0)])
def test_the_far_edges_of_a_box_are_outside_it(x: float, y: float, hit: int) -> None:
    truth = pd.DataFrame([["a", 1, "Mass", 2.0, 3.0, 10.0, 9.0]], columns=["image", "patient", "disease", *BOX_COLUMNS])
    peaks = pd.DataFrame([["a", 1, "Mass", x, y]], columns=["image", "patient", "disease", "x", "y"])
    assert (pointing(truth, peaks, draws=2)["value"] == hit).all()


def coco(detections: list[tuple[float, str, tuple]], truth: dict[str, list[tuple]], level: float) -> float:
    """Average precision by COCO's rules: greedy by score, precision at 101 recalls, each the best at it or beyond."""
    taken = {image: [False] * len(boxes) for image, boxes in truth.items()}
    right = []
    for _, image, box in sorted(detections, key=lambda item: -item[0]):
        free = [
            (overlap(box, true), k)
            for k, true in enumerate(truth.get(image, []))
            if not taken[image][k] and overlap(box, true) >= level
        ]
        if free:
            taken[image][max(free)[1]] = True
        right.append(bool(free))
    found = np.cumsum(right)
    recall, precision = found / sum(map(len, truth.values())), found / np.arange(1, len(right) + 1)
    return float(np.mean([max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)]))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_by_the_rules_of_coco(seed: int) -> None:
    cases = random_cases(seed, images=30)
    cases["probability"] = np.random.default_rng(seed).permutation(len(cases)) / len(cases)  # no ties
    truth, boxes, _ = random_places(seed, cases)
    found = by_disease(average_precision(cases, truth, boxes, (0.1, 0.3)))
    boxed, values = {*zip(truth["image"], truth["disease"])}, []
    probability = cases.set_index(["image", "disease"])["probability"].to_dict()
    label = cases.set_index(["image", "disease"])["label"].to_dict()
    for name in DISEASES[:3]:
        detections = []
        for box in boxes[boxes["disease"] == name].itertuples(index=False):
            key = (box.image, name)
            largest = boxes[(boxes["image"] == box.image) & (boxes["disease"] == name)]["total"].max()
            if box.image in set(truth["image"]) and (key in boxed or not label[key]):
                detections.append((probability[key] * box.total / largest, box.image, tuple(box)[6:]))
        of = truth[truth["disease"] == name]
        true = {image: [tuple(row)[3:] for row in part.itertuples(index=False)] for image, part in of.groupby("image")}
        values.append([coco(detections, true, level) for level in (0.1, 0.3)])
        # torchmetrics gives float32, and COCO's own overlaps are computed in float64 from boxes in float32
        assert found.loc[name, ["ap_0.1", "ap_0.3"]].tolist() == pytest.approx(values[-1], abs=1e-6)
        assert found.loc[name, "boxes"] == len(of) and found.loc[name, "detections"] == len(detections)
    assert found.loc[MEAN, ["ap_0.1", "ap_0.3"]].tolist() == pytest.approx(np.mean(values, 0), abs=1e-6)
    assert 0.01 < found.loc[MEAN, "ap_0.1"] < 0.99


def test_confusion_by_a_loop() -> None:
    cases = random_cases(7)
    truth, boxes, _ = random_places(7, cases)
    found = confusion(truth, boxes)
    assert found.index.tolist() == found.columns.tolist() == [*DISEASES[:3]]
    for true_name in DISEASES[:3]:
        for asked in DISEASES[:3]:
            each = [
                overlap(tuple(true)[3:], tuple(box)[6:])
                for true in truth[truth["disease"] == true_name].itertuples(index=False)
                for box in boxes[(boxes["disease"] == asked) & (boxes["rank"] == 0)].itertuples(index=False)
                if box.image == true.image
            ]
            assert found.loc[true_name, asked] == pytest.approx(np.mean(each), abs=CLOSE)


def test_no_boxes_at_all() -> None:
    cases = random_cases(8)
    truth, boxes, peaks = random_places(8, cases)
    none = truth.iloc[:0]
    assert localisation(overlaps(none, boxes), draws=5).empty and pointing(none, peaks, draws=5).empty
    assert average_precision(cases, none, boxes).empty and confusion(none, boxes).empty
    unseen = overlaps(truth, boxes.iloc[:0])
    assert (unseen[["top", "best", "predicted"]] == 0).all(axis=None)
    assert (localisation(unseen, draws=5)["value"] == 0).all()


# --- predictions


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    make_phantoms(folder, images=90, size=SIZE, seed=1, boxed=0.6, workers=1)
    return folder


@pytest.fixture(scope="module")
def checkpoint(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(untrained(tmp_path_factory.mktemp("run") / "last.ckpt", phantoms), CPU)


def test_predictions_are_those_of_single_images(phantoms: Path, checkpoint: Checkpoint) -> None:
    images = open_data(checkpoint, phantoms, workers=0).test
    truth = true_boxes(images)
    found = predict(checkpoint.model, images, set(truth["image"]), batch_size=7)
    assert found.cases["image"].tolist() == [name for name in images.table["image"] for _ in DISEASES]
    assert found.cases["disease"].tolist() == [*DISEASES] * len(images)
    assert len(truth) > 5 and set(found.boxes["image"]) == set(found.peaks["image"]) == set(truth["image"])
    model = checkpoint.model
    fallbacks = 0
    for row in range(len(images)):
        item, name = images[row], images.table["image"][row]
        with torch.no_grad():
            activations, pooled = model.encoder(item["image"][None])
            probability = torch.sigmoid(model.classifier(pooled).double())[0]
        cases = found.cases[found.cases["image"] == name]
        # convolutions of another batch size sum in another order
        assert cases["probability"].tolist() == pytest.approx(probability.tolist(), abs=1e-5)
        assert cases["label"].tolist() == item["labels"].tolist()
        assert set(cases["patient"]) == {images.table["patient"][row]}
        if name not in set(truth["image"]):
            continue
        for d, disease in enumerate(DISEASES):
            maps = heatmaps(head_cam(activations, model.classifier.weight, torch.tensor([d])), (SIZE, SIZE))
            boxes = found.boxes[(found.boxes["image"] == name) & (found.boxes["disease"] == disease)]
            (peak,) = found.peaks[(found.peaks["image"] == name) & (found.peaks["disease"] == disease)].to_dict(
                "records"
            )
            expected = components(maps, 0.5, 64)
            number = int((~expected.boxes[0, :, 0].isnan()).sum())
            assert boxes["rank"].tolist() == [*range(max(number, 1))]
            if number == 0:
                fallbacks += 1
                assert boxes[["fallback", *BOX_COLUMNS]].to_numpy().tolist() == [[True, 0, 0, SIZE, SIZE]]
                assert np.isnan(peak["x"])
                continue
            assert not boxes["fallback"].any()
            # a pixel that is just above the threshold can be just below it in another batch
            assert boxes[[*BOX_COLUMNS]].to_numpy() == pytest.approx(expected.boxes[0, :number].numpy(), abs=1)
            assert boxes["total"].tolist() == pytest.approx(expected.total[0, :number].tolist(), rel=1e-3)
            assert peak["x"] % 1 == peak["y"] % 1 == 0.5  # the middle of a pixel
            y, x = np.unravel_index(int(maps[0].argmax()), (SIZE, SIZE))
            assert maps[0, int(peak["y"]), int(peak["x"])] == pytest.approx(float(maps[0, y, x]), abs=1e-4)
    assert 0 < fallbacks < len(found.peaks) / 2


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_boxes_by_the_threshold_of_the_model(phantoms: Path, tmp_path: Path, threshold: float) -> None:
    """All components, not the first one alone, which a lower or higher threshold makes larger or smaller."""
    checkpoint = load_checkpoint(untrained(tmp_path / "a.ckpt", phantoms, size=192, threshold=threshold), CPU)
    data = open_data(checkpoint, phantoms, workers=0)
    model, images = checkpoint.model, data.test.select(range(6))
    boxes = predict(model, images, images.table["image"]).boxes
    differ = 0
    for row in range(len(images)):
        with torch.no_grad():
            activations, _ = model.encoder(images[row]["image"][None])
        for d, name in enumerate(model.diseases):
            maps = heatmaps(head_cam(activations, model.classifier.weight, torch.tensor([d])), (192, 192))
            wanted, other = (
                expected.boxes[0][~expected.boxes[0].isnan().any(1)]
                for expected in (components(maps, threshold, 64), components(maps, 0.5, 64))
            )
            found = boxes[(boxes["image"] == images.table["image"][row]) & (boxes["disease"] == name)]
            found = torch.tensor(found[~found["fallback"].astype(bool)][[*BOX_COLUMNS]].to_numpy(np.float32))
            assert torch.equal(found, wanted)
            differ += len(wanted) > 1 and not torch.equal(wanted, other)
    assert differ > 3


def test_a_model_that_gives_no_number(phantoms: Path, tmp_path: Path) -> None:
    """Weights that are finite, whose sums are not."""
    checkpoint = load_checkpoint(untrained(tmp_path / "a.ckpt", phantoms), CPU)
    data = open_data(checkpoint, phantoms, workers=0)
    with torch.no_grad():
        checkpoint.model.classifier.weight[:, ::2] = 3e38
        checkpoint.model.classifier.weight[:, 1::2] = -3e38
        checkpoint.model.encoder.features.get_parameter("layer4.1.bn2.weight").mul_(1e3)
    with pytest.raises(InputError, match=r"the model gives NaN for \d+ of 4 images"):
        predict(checkpoint.model, data.test.select(range(4)))


def test_boxes_of_a_network_that_sees_nothing(phantoms: Path, tmp_path: Path) -> None:
    """Its heatmaps are constant: the whole image, no peak, and figures all the same."""
    made = load_checkpoint(untrained(tmp_path / "a.ckpt", phantoms, shrink_whole_image=True), CPU)
    torch.nn.init.zeros_(made.model.classifier.weight)
    images = open_data(made, phantoms, workers=0).test
    truth = true_boxes(images)
    found = predict(made.model, images, set(truth["image"]))
    assert found.boxes["fallback"].all() and (found.boxes["rank"] == 0).all() and (found.boxes["total"] == 0).all()
    corners = found.boxes[[*BOX_COLUMNS]].to_numpy()
    assert corners == pytest.approx(np.tile(np.array([24, 24, 200, 200]) * SIZE / 224, (len(corners), 1)))
    assert found.peaks[["x", "y"]].isna().all(axis=None) and (pointing(truth, found.peaks, draws=3)["value"] == 0).all()
    assert average_precision(found.cases, truth, found.boxes)["ap_0.1"].notna().all()


def test_no_image_is_localised(phantoms: Path, checkpoint: Checkpoint) -> None:
    images = open_data(checkpoint, phantoms, workers=0).test
    found = predict(checkpoint.model, images)
    assert found.boxes.empty and found.peaks.empty and len(found.cases) == 8 * len(images)
    nothing = predict(checkpoint.model, images.select([]))
    assert nothing.cases.empty and [*nothing.cases] == [*found.cases]


def test_all_true_boxes_are_there(phantoms: Path, checkpoint: Checkpoint) -> None:
    """Also the smaller ones of an image and disease, which training leaves out; by the published list itself."""
    images = open_data(checkpoint, phantoms, workers=0).test
    lines: Any = pd.read_csv(phantoms / "BBox_List_2017.csv", header=None, skiprows=1).iloc[:, :6]
    lines = lines[lines[0].isin(images.table["image"])].sort_values([0, 1, 2])
    truth = true_boxes(images)
    ours = truth.assign(disease=truth["disease"].replace("Infiltration", "Infiltrate"))
    ours = ours.sort_values(["image", "disease", "x1"])
    assert ours["image"].tolist() == lines[0].tolist() and ours["disease"].tolist() == lines[1].tolist()
    corners = np.stack([lines[2], lines[3], lines[2] + lines[4], lines[3] + lines[5]], 1).astype(float) * SIZE / 1024
    assert ours[[*BOX_COLUMNS]].to_numpy() == pytest.approx(corners)


def test_boxes_of_other_sources(phantoms: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    images = open_data(checkpoint, phantoms, workers=0).test
    first, second = images.table["image"][:2]
    file = tmp_path / "boxes.csv"
    lines = [
        f"{first},A,LungOpacity(pneumonia),0,16,32,64",
        f"{first},B,mass,512,512,512,512",
        f"{second},B,Diffuse Nodule,0,0,10,10",
        "elsewhere.png,B,Mass,0,0,10,10",
    ]
    file.write_text("\n".join(["image,source,label,x,y,w,h", *lines]))
    table, words = other_boxes(file, images)
    scale = SIZE / 1024
    patient = images.table["patient"][0]
    assert table.to_numpy().tolist() == [
        ["A", first, patient, "Pneumonia", 0, 16 * scale, 32 * scale, 80 * scale],
        ["B", first, patient, "Mass", SIZE / 2, SIZE / 2, SIZE, SIZE],
    ]
    assert words.startswith("2 of 4 boxes used; 1 are on images") and words.endswith("Diffuse Nodule")
    for frame in (SIZE, 512.0):
        scaled = other_boxes(file, images, frame)[0][[*BOX_COLUMNS]]
        np.testing.assert_array_equal(scaled, table[[*BOX_COLUMNS]] * (1024 / frame))
    for frame in (0, -1, np.nan, np.inf):
        with pytest.raises(InputError, match="boxes_frame must be positive and finite"):
            other_boxes(file, images, frame)
    with pytest.raises(InputError, match="boxes_frame is for a CSV with the columns"):
        other_boxes(phantoms / "BBox_List_2017.csv", images, 512)
    nih, _ = other_boxes(phantoms / "BBox_List_2017.csv", images)
    order = ["image", "disease", *BOX_COLUMNS]
    pd.testing.assert_frame_equal(
        *(table.sort_values(order, ignore_index=True) for table in (nih.drop(columns="source"), true_boxes(images)))
    )
    assert set(nih["source"]) == {"BBox_List_2017.csv"}

    file.write_text("image,x1,y1,x2,y2\na.png,0,0,1,1\n")
    with pytest.raises(InputError, match=r"boxes\.csv must be NIH's list or have the columns"):
        other_boxes(file, images)
    file.write_text(f"image,label,x,y,w,h\n{first},Mass,0,0,1,1\n{first},Mass,0,0,none,1\n")
    with pytest.raises(InputError, match="1 boxes without four numbers or an area"):
        other_boxes(file, images)
    file.write_text("image,label,x,y,w,h\nelsewhere.png,Mass,0,0,1,1\n")
    with pytest.raises(InputError, match=r"no box of .* on the"):
        other_boxes(file, images)
    with pytest.raises(InputError, match="cannot read"):
        other_boxes(tmp_path / "none.csv", images)


# --- what cannot be


def test_checkpoints_that_are_none(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.ckpt", CPU)
    (tmp_path / "text.ckpt").write_text("text")
    with pytest.raises(InputError, match=r"cannot read the checkpoint .*text\.ckpt: it is not a file of torch\.save"):
        load_checkpoint(tmp_path / "text.ckpt", CPU)
    (tmp_path / "code.ckpt").write_text("import numpy as np\n")  # torch would advise to run it
    with pytest.raises(InputError, match=r"code\.ckpt: it is not a file of torch\.save, or is damaged$"):
        load_checkpoint(tmp_path / "code.ckpt", CPU)
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(InputError, match="lacks hyper_parameters, datamodule_hyper_parameters"):
        load_checkpoint(tmp_path / "bare.ckpt", CPU)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"encoder": "resnet50"}, "weights and settings"),
        ({"diseases": list(DISEASES[:5])}, "weights and settings"),
        ({"byop": True}, "weights and settings"),
    ],
)
def test_a_checkpoint_of_another_configuration(
    phantoms: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = untrained(tmp_path / "a.ckpt", phantoms, byop=False)
    saved = torch.load(path, weights_only=True)
    saved["hyper_parameters"] |= change
    torch.save(saved, path)
    with pytest.raises(InputError, match=words):
        load_checkpoint(path, CPU)


def test_data_that_are_none(phantoms: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_data(checkpoint, tmp_path / "none")
    with pytest.raises(InputError, match="no table of labels"):
        open_data(checkpoint, tmp_path)
    with pytest.raises(InputError, match=r"no such split file: .*none\.csv$"):
        open_data(checkpoint, phantoms, split_file=tmp_path / "none.csv")
    checkpoint = Checkpoint(checkpoint.path, checkpoint.model, {**checkpoint.data, "split_file": "gone.csv"}, 0, None)
    with pytest.raises(InputError, match=r"gone\.csv, which .* was trained with: give its place as --split-file"):
        open_data(checkpoint, phantoms)
