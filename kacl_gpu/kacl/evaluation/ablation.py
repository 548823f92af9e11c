"""Tables and text of an ablation: variants, seeds and checkpoints compared, whether radiomic features matter, and the
paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from kacl_gpu.errors import InputError, one_line

from .baselines import KNOWING
from .document import markdown_table
from .published import published_auc, published_localisation, published_note, published_rows
from .validation import IOU_THRESHOLDS

MEASURES = ("test/auc", "test/iou", "test/localisation_0.1", "test/localisation_0.3", "test/localisation_0.5")
BEST, LAST, UNTRAINED = "best", "last", "none"  # checkpoints; boxes that nobody trained have none
FACTS = ("variant", "seed", "checkpoint", "epoch", "full_set", "note")  # columns of a cell beside its measures

ROUNDING = 1e-9  # differences of shares that are equal, as one box in 35, differ by less; those that differ, by more

Settings = Mapping[str, Mapping[str, Any]]


def cells(out: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the measures of the complete cells: of their checkpoints, then of boxes that nobody trained.

    Boxes that nobody trained depend on the data, and the map that knows the box on its resolution too. They stand once
    per seed; where the data of variants differ, the variant is added to the name.

    Returns:
        variant, seed, checkpoint (best, last; none for boxes that nobody trained), epoch (of the checkpoint, from 0),
        full_set (the data are the whole of NIH ChestX-ray14), note, and the measures, ``test/...``.

    Raises:
        InputError: a table of a cell is damaged.

    Example:
        >>> import tempfile
        >>> cell = Path(tempfile.mkdtemp(), "base", "seed_3")
        >>> cell.mkdir(parents=True)
        >>> _ = (cell / "test.csv").write_text("variant,checkpoint,test/auc" + chr(10) + "base,best,0.7")
        >>> cells(cell.parents[1], ["base", "full"]).to_dict("records")
        [{'variant': 'base', 'seed': 3, 'checkpoint': 'best', 'test/auc': 0.7}]
    """
    parts = []
    for order, name in enumerate(names):
        for path in (out / name).glob("seed_*/test.csv"):
            try:
                part = pd.read_csv(path)
                if lacking := {"variant", "checkpoint"} - {*part.columns}:
                    raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
            except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
                words = f"cannot read {path}: it is cut off or damaged ({one_line(error)})"
                raise InputError(f"{words}: delete it, and the same command tests that cell again") from error
            parts.append(part.assign(order=order, cell=name, seed=int(path.parent.name.removeprefix("seed_"))))
    table = pd.concat(parts, ignore_index=True)
    untrained = table["checkpoint"] == UNTRAINED
    table.loc[untrained, "order"] = len(names)
    measures = measures_of(table)
    alike = table[["variant", "seed", "checkpoint", *measures]].round(6)
    table = table[~(untrained & alike.duplicated())]
    differing = table["checkpoint"].eq(UNTRAINED) & table.duplicated(["variant", "seed", "checkpoint"], keep=False)
    table.loc[differing, "variant"] += ", data of " + table.loc[differing, "cell"]
    place = {name: k for k, name in enumerate((BEST, LAST, UNTRAINED))}
    table = (
        table.assign(place=table["checkpoint"].map(place))
        .sort_values(["order", "seed", "place"], kind="stable")
        .reset_index(drop=True)
    )
    return table[[name for name in FACTS if name in table] + measures]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds (NaN for one): variant, checkpoint, measure, runs, mean, std.

    Args:
        table: table of :func:`cells`.

    Example:
        >>> rows = {"variant": ["base"] * 2, "seed": [0, 1], "checkpoint": ["best"] * 2, "test/auc": [0.6, 0.8]}
        >>> summary(pd.DataFrame(rows))["mean"].tolist()
        [0.7]
    """
    long = table.melt(["variant", "checkpoint"], measures_of(table), "measure").dropna(subset="value")
    grouped = long.groupby(["variant", "checkpoint", "measure"], sort=False)["value"]
    return grouped.agg(runs="count", mean="mean", std="std").reset_index()


def pairs(table: pd.DataFrame, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """Compare each two variants, and each with boxes that nobody trained, seed by seed, by the paired t-test.

    Args:
        table: table of :func:`cells`.
        measures: columns of it to compare.

    Returns:
        measure, checkpoint (best with best, last with last), a, b, seeds (that both have), difference (b less a, the
        mean), low, high (its 95 % confidence interval), p (two-sided; NaN where all differences are equal), and
        p_adjusted: over the pairs of a measure and checkpoint, by Benjamini and Hochberg (1995). Pairs with fewer than
        two seeds in common are left out, and so is the map that knows the box. The interval is of repetitions on one
        data set; other patients would differ by more.

    Example:
        >>> rows = {"variant": ["base", "base", "full", "full"], "seed": [0, 1, 0, 1], "checkpoint": "best"}
        >>> table = pd.DataFrame({**rows, "test/auc": [0.6, 0.7, 0.65, 0.76]})
        >>> pairs(table)[["a", "b", "difference"]].round(3).to_numpy().tolist()
        [['base', 'full', 0.055]]
    """
    rows = []
    for measure in measures:
        for checkpoint in (BEST, LAST):
            if measure not in table:
                continue
            # The ceiling of the resolution is no competitor
            competing = ~table["variant"].str.startswith(KNOWING)
            part = table[competing & table["checkpoint"].isin([checkpoint, UNTRAINED])]
            untrained = {*part.loc[part["checkpoint"] == UNTRAINED, "variant"]}
            wide = part.pivot(index="seed", columns="variant", values=measure)
            compared = []
            for a, b in combinations(part["variant"].unique(), 2):
                if a in untrained:  # they come last, so b is too
                    continue
                # A variant less the boxes, and a later variant less an earlier one
                a, b = (b, a) if b in untrained else (a, b)
                if row := _paired(wide[a], wide[b]):
                    compared.append({"measure": measure, "checkpoint": checkpoint, "a": a, "b": b, **row})
            tested = [row for row in compared if not np.isnan(row["p"])]
            for row, p in zip(tested, stats.false_discovery_control([row["p"] for row in tested]) if tested else ()):
                row["p_adjusted"] = float(p)
            rows += compared
    columns = ["measure", "checkpoint", "a", "b", "seeds", "difference", "low", "high", "p", "p_adjusted"]
    return pd.DataFrame(rows, columns=columns)


def controls(settings: Settings) -> pd.DataFrame:
    """Return the variants that differ from another one in the radiomic features alone.

    Args:
        settings: of each variant, the sections of a run's configuration, such as model, data and trainer.

    Returns:
        real (a variant with BYOP and its own image's features), control, features (shuffled or constant), of each pair
        whose model, data and trainer are equal but for ``model.positive_features``.

    Example:
        >>> settings = {"byop": {"model": {"byop": True, "positive_features": "real"}}}
        >>> settings["mixed"] = {"model": {"byop": True, "positive_features": "shuffled"}}
        >>> controls(settings).to_dict("records")
        [{'real': 'byop', 'control': 'mixed', 'features': 'shuffled'}]
    """
    rows = []
    for real in byop_variants(settings):
        for control in settings:
            features = settings[control]["model"].get("positive_features")
            if features != "real" and _without_features(settings[real]) == _without_features(settings[control]):
                rows.append({"real": real, "control": control, "features": features})
    return pd.DataFrame(rows, columns=["real", "control", "features"])


def byop_variants(settings: Settings) -> list[str]:
    """Return the variants that are trained with BYOP and the radiomic features of each image itself.

    Example:
        >>> byop_variants({"base": {"model": {"byop": False}}, "full": {"model": {"byop": True}}})
        ['full']
    """
    return [
        name
        for name, sections in settings.items()
        if sections["model"].get("byop") and sections["model"].get("positive_features", "real") == "real"
    ]


def _without_features(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two variants must have in common to be a pair of real features and a control."""
    model = {key: value for key, value in sections["model"].items() if key != "positive_features"}
    return {"model": model, "data": sections.get("data"), "trainer": sections.get("trainer")}


def _paired(a: pd.Series[Any], b: pd.Series[Any]) -> dict[str, float]:
    """Return the test of b less a over the seeds that both have; nothing if there are fewer than two."""
    both = pd.concat([a, b], axis=1).dropna().to_numpy()
    if len(both) < 2:
        return {}
    y, x = both.T
    row = {"seeds": len(both), "difference": float((x - y).mean())}
    if np.ptp(x - y) > ROUNDING:
        tested = stats.ttest_rel(x, y)
        interval = tested.confidence_interval()
        return row | {"low": float(interval.low), "high": float(interval.high), "p": float(tested.pvalue)}
    # the same difference for every seed, up to rounding, has no deviation to test against
    return row | {"low": row["difference"], "high": row["difference"], "p": float("nan")}


def measures_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of cells that are measures.

    Example:
        >>> measures_of(pd.DataFrame(columns=["variant", "test/auc"]))
        ['test/auc']
    """
    return [str(name) for name in table.columns if str(name).startswith("test/")]


# --- text


def markdown(table: pd.DataFrame, compared: pd.DataFrame, settings: Settings) -> str:
    """Return the tables as text: whether radiomic features help, then AUC and boxes beside the paper's, and pairs.

    Args:
        table: table of :func:`cells`.
        compared: table of :func:`pairs`.
        settings: of each variant, see :func:`controls`.

    Example:
        >>> rows = {"variant": ["base", "base", "full", "full"], "seed": [0, 1, 0, 1], "checkpoint": "best"}
        >>> table = pd.DataFrame({**rows, "test/auc": [0.6, 0.7, 0.65, 0.76]})
        >>> settings = {name: {"model": {"byop": name == "full"}} for name in ("base", "full")}
        >>> print(markdown(table, pairs(table), settings).splitlines()[2][:68])
        - `full`: nothing can be said about whether its radiomic features he
    """
    full = bool(table["full_set"].all()) if "full_set" in table else False
    paragraphs = [*_headline(compared, settings), *_auc_tables(table, full), *_box_tables(table, full)]
    paragraphs += _pair_tables(table, compared)
    return "\n\n".join(paragraphs) + "\n"


def _headline(compared: pd.DataFrame, settings: Settings) -> list[str]:
    """Return the differences of real features and their controls, and a sentence made of each interval."""
    real = byop_variants(settings)
    if not real:
        return []
    matched = controls(settings)
    rows, sentences = [], []
    for name in real:
        shuffled = False
        for _, control, features in matched[matched["real"] == name].itertuples(index=False):
            # the order in which the variants were named decides which is a
            forward = compared[(compared["a"] == control) & (compared["b"] == name)]
            backward = compared[(compared["a"] == name) & (compared["b"] == control)]
            ends = {"difference": "difference", "low": "high", "high": "low"}
            backward = backward.assign(**{name: 0 - backward[other] for name, other in ends.items()})
            both = pd.concat([forward, backward])
            for checkpoint, part in both.groupby("checkpoint", sort=False):
                records = part.to_dict("records")
                rows += [
                    [_short(row["measure"]), f"{name} less {control}", str(features), str(checkpoint),
                     *_difference_words(row), verdict(row)]
                    for row in records
                ]  # fmt: skip
                if features == "shuffled":
                    shuffled = True
                    sentences.append(f"- {_sentence(name, control, str(checkpoint), records)}")
        if not shuffled:
            ran = "shuffled" in {*matched.loc[matched["real"] == name, "features"]}
            reason = "it has fewer than two seeds in common with its control" if ran else "its control was not run"
            sentences.append(
                f"- `{name}`: nothing can be said about whether its radiomic features help, for {reason} (the same "
                "settings with `model.positive_features: shuffled`)."
            )
    paragraphs = ["## Do the radiomic features matter?", "\n".join(sentences)]
    if rows:
        header = ["measure", "real less control", "features of the control", "checkpoint", "seeds", "difference",
                  "95 % interval", "p", "real features"]  # fmt: skip
        paragraphs += [
            markdown_table(header, rows),
            "Paired t-test over the seeds, without adjustment. A control is trained like the real variant, but with "
            "the features of another image (shuffled) or the same for all (constant): the contrastive loss is there, "
            "the knowledge is not. Each sentence above says what its interval says: above 0, below 0, or neither.",
        ]
    return paragraphs


def verdict(row: Mapping[str, Any]) -> str:
    """Return what a paired interval of a measure, of which more is better, says: helps, hurts, or no difference shown.

    Args:
        row: low, high and p of a row of :func:`pairs`; p is NaN where the differences have no deviation.

    Example:
        >>> verdict({"low": 0.001, "high": 0.02, "p": 0.03}), verdict({"low": -0.01, "high": 0.02, "p": 0.5})
        ('helps', 'no difference shown')
    """
    if np.isnan(row["p"]):
        return "cannot be tested"
    return "helps" if row["low"] > 0 else "hurts" if row["high"] < 0 else "no difference shown"


def _sentence(name: str, control: str, checkpoint: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdicts over the measures in one sentence."""
    words = {
        "helps": "real radiomic features help in {}",
        "hurts": "real radiomic features hurt in {}",
        "no difference shown": "no difference is shown in {}",
        "cannot be tested": "the difference is the same for every seed, so nothing can be tested, in {}",
    }
    parts = []
    for kind, template in words.items():
        measures = [
            f"{_short(row['measure'])} ({row['difference']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f})"
            for row in rows
            if verdict(row) == kind
        ]
        parts += [template.format(", ".join(measures))] if measures else []
    seeds = max(row["seeds"] for row in rows)
    return f"`{name}` less `{control}`, {checkpoint} checkpoint, {seeds} seeds: {'; '.join(parts)}."


def _auc_tables(table: pd.DataFrame, full: bool) -> list[str]:
    """Return the AUC of each disease, ours and the paper's."""
    trained = table[table["checkpoint"] != UNTRAINED]
    diseases = [name.removeprefix("test/auc_") for name in measures_of(table) if name.startswith("test/auc_")]
    columns = [*(f"test/auc_{name}" for name in diseases), "test/auc"]
    rows = [[_label(key, part), *_cells(part, columns)] for key, part in _grouped(trained)]
    return [
        "## AUC, beside the paper's Tables 1 and 3",
        markdown_table(["test images", *diseases, "mean"], [*rows, *published_rows(published_auc(), diseases, full)]),
        f"Mean ± standard deviation over the runs (their number in brackets). {published_note(full)}",
    ]


def _box_tables(table: pd.DataFrame, full: bool) -> list[str]:
    """Return the accuracy of boxes: all together, then of each disease and beside the paper's Table 2."""
    if "test/iou" not in table:
        return []
    columns = [*(f"test/localisation_{t}" for t in IOU_THRESHOLDS), "test/iou"]
    rows = [[_label(key, part), *_cells(part, columns)] for key, part in _grouped(table)]
    paragraphs = [
        "## Boxes, all test boxes together",
        markdown_table(["share right at", *(f"IoU > {t}" for t in IOU_THRESHOLDS), "mean IoU"], rows),
        "Whole image, middle half (of each side) and mean training box (of each disease) are boxes that nobody "
        "trained: a variant localises if it is better than these. The map that knows the box is the ceiling of the "
        "resolution: the true box drawn on the grid of the network's last layer by area, then resized and thresholded "
        "like a heatmap. A case is the largest true box of an image and disease.",
    ]
    if "note" in table:
        notes = table.loc[table["note"].notna() & (table["note"] != ""), ["note", "seed"]].drop_duplicates()
        paragraphs += [f"Seed {seed}: {note}" for note, seed in notes.itertuples(index=False)]
    keys = [name.removeprefix("test/iou_") for name in measures_of(table) if name.startswith("test/iou_")]
    diseases = [name for name in keys if name != "mean"]
    # The last checkpoint only where there is no best one
    has_best = {*table.loc[table["checkpoint"] == BEST, "variant"]}
    shown = table[(table["checkpoint"] != LAST) | ~table["variant"].isin(has_best)]
    published = published_localisation()
    rows = []
    for level in IOU_THRESHOLDS:
        columns = [f"test/localisation_{level}_{name}" for name in (*diseases, "mean")]
        rows += [[f"{level}", _label(key, part), *_cells(part, columns)] for key, part in _grouped(shown)]
        printed = published_rows(published[published["iou_above"] == level], diseases, full)
        rows += [[f"{level}", *words] for words in printed]
    return [
        *paragraphs,
        "## Boxes of each disease, beside the paper's Table 2",
        markdown_table(["IoU >", "test images", *diseases, "mean"], rows),
        f"The last checkpoints are in summary.csv. {published_note(full)}",
    ]


def _pair_tables(table: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """Return the pairs with the first variant and with boxes that nobody trained; all pairs are in pairs.csv."""
    untrained = {*table.loc[table["checkpoint"] == UNTRAINED, "variant"]}
    shown = compared[(compared["a"] == table["variant"].iloc[0]) | compared["a"].isin(untrained)]
    if shown.empty:
        return []
    rows = [
        [_short(row["measure"]), f"{row['b']} less {row['a']}", row["checkpoint"], *_difference_words(row),
         "-" if np.isnan(row["p_adjusted"]) else f"{row['p_adjusted']:.3f}"]
        for row in shown.to_dict("records")
    ]  # fmt: skip
    header = ["measure", "compared", "checkpoint", "seeds", "difference", "95 % interval", "p", "adjusted"]
    return [
        "## Differences from the first variant, and from boxes that nobody trained",
        markdown_table(header, rows),
        "Paired t-test over the seeds; adjusted by Benjamini and Hochberg over all pairs of a measure and checkpoint, "
        "which are in pairs.csv.",
    ]


def _grouped(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Return the rows of each variant and checkpoint, in their order."""
    return [((str(a), str(b)), part) for (a, b), part in table.groupby(["variant", "checkpoint"], sort=False)]


def _label(key: tuple[str, str], part: pd.DataFrame) -> str:
    """Return variant, checkpoint and number of runs, in words."""
    variant, checkpoint = key
    return f"{variant} ({len(part)})" if checkpoint == UNTRAINED else f"{variant}, {checkpoint} ({len(part)})"


def _cells(part: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return mean and deviation of each column over the rows, in words."""
    cells = []
    for name in columns:
        values = part[name].dropna() if name in part else pd.Series(dtype=float)
        deviation = f" ± {values.std():.3f}" if len(values) > 1 else ""
        cells.append(f"{values.mean():.3f}{deviation}" if len(values) else "-")
    return cells


def _difference_words(row: Mapping[str, Any]) -> list[str]:
    """Return seeds, difference, interval and p of a row of pairs, in words."""
    words = [f"{row['seeds']}", f"{row['difference']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}"]
    return [*words, "-" if np.isnan(row["p"]) else f"{row['p']:.3f}"]


def _short(measure: str) -> str:
    """Return the name of a measure without its stage."""
    return measure.removeprefix("test/")
