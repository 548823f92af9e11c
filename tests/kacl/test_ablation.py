"""The comparison of an ablation, against plain loops; and what its text says of radiomic features."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

pytest.importorskip("lightning")

from kacl_gpu.errors import InputError
from kacl_gpu.kacl.evaluation import ablation
from kacl_gpu.kacl.evaluation.published import published_localisation


def unpadded(text: str) -> str:
    """Markdown without the blanks that align its columns."""
    return re.sub(" +", " ", text)


def settings(*names: str, **features: str) -> dict[str, Any]:
    """Return settings of variants without BYOP, and of variants with it and these features."""
    plain = {name: {"model": {"byop": False, "loss": name}} for name in names}
    return plain | {
        name: {"model": {"byop": True, "positive_features": value}, "data": {"size": 64}, "trainer": {"max_epochs": 3}}
        for name, value in features.items()
    }


def measured(values: dict[str, list[float]], checkpoint: str = "best", measure: str = "test/auc") -> pd.DataFrame:
    """Return cells of one measure: the value of each seed of each variant."""
    rows = [
        {"variant": name, "seed": seed, "checkpoint": checkpoint, measure: value}
        for name, column in values.items()
        for seed, value in enumerate(column)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {
            "variant": name,
            "seed": seed,
            "checkpoint": "best",
            "epoch": 3,
            "test/auc": random.random(),
            "test/iou": random.random(),
        }
        for name in ("base", "focal", "full")
        for seed in range(4)
    ]
    return pd.DataFrame(rows[:-1])  # full has not been run with the last seed


def test_summary(table: pd.DataFrame) -> None:
    assert len(ablation.summary(table)) == 6
    for row in ablation.summary(table).to_dict("records"):
        name, measure = row["variant"], row["measure"]
        values = [cell[measure] for cell in table.to_dict("records") if cell["variant"] == name]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        assert (row["runs"], row["mean"], row["std"]) == pytest.approx((len(values), mean, deviation))


def test_pairs(table: pd.DataFrame) -> None:
    """The t-test and the adjustment from their formulas."""
    compared = ablation.pairs(table, ["test/auc", "test/iou", "test/none"])
    assert {*compared["checkpoint"]} == {"best"}
    assert [(row.a, row.b) for row in compared.itertuples()] == [
        ("base", "focal"),
        ("base", "full"),
        ("focal", "full"),
    ] * 2
    for measure, rows in compared.groupby("measure"):
        values = {(row["variant"], row["seed"]): row[measure] for row in table.to_dict("records")}
        for row in rows.to_dict("records"):
            seeds = [seed for seed in range(4) if (row["a"], seed) in values and (row["b"], seed) in values]
            d = np.array([values[row["b"], seed] - values[row["a"], seed] for seed in seeds])
            error = d.std(ddof=1) / math.sqrt(len(d))
            half = stats.t.ppf(0.975, len(d) - 1) * error
            p = 2 * stats.t.sf(abs(d.mean()) / error, len(d) - 1)
            expected = {
                "seeds": len(d),
                "difference": d.mean(),
                "low": d.mean() - half,
                "high": d.mean() + half,
                "p": p,
            }
            assert {name: row[name] for name in expected} == pytest.approx(expected)
        p = sorted(rows["p"])
        for row in rows.to_dict("records"):
            adjusted = min(len(p) * p[k] / (k + 1) for k in range(len(p)) if p[k] >= row["p"])
            assert row["p_adjusted"] == pytest.approx(min(adjusted, 1))


def test_pairs_that_cannot_be_tested(table: pd.DataFrame) -> None:
    """No deviation: no p; one seed: no pair. The tables are printed all the same."""
    same = table.assign(**{"test/auc": 0.5})
    compared = ablation.pairs(same, ["test/auc"])
    assert (
        len(compared) == 3
        and compared[["p", "p_adjusted"]].isna().all(axis=None)
        and (compared["difference"] == 0).all()
    )
    text = unpadded(ablation.markdown(same, compared, settings("base", "focal", "full")))
    assert "| auc | focal less base | best | 4 | +0.000 | +0.000 to +0.000 | - | - |" in text
    one = table[table["seed"] == 0]
    assert ablation.pairs(one).empty
    auc = table["test/auc"][0]
    text = unpadded(ablation.markdown(one, ablation.pairs(one), settings("base", "focal", "full")))
    assert f"| base, best (1) | {auc:.3f} |" in text


def test_best_is_compared_with_best_and_boxes_of_nobody_with_both(table: pd.DataFrame) -> None:
    last = table.assign(checkpoint="last", **{"test/auc": 1 - table["test/auc"]})
    boxes = pd.concat(
        measured({name: values}, "none", "test/iou")
        for name, values in (("whole image", [0.1, 0.2, 0.3, 0.1]), ("middle half", [0.2, 0.2, 0.1, 0.5]),
                             ("map that knows the box (4 x 4)", [0.6] * 4))
    )  # fmt: skip
    compared = ablation.pairs(pd.concat([table, last, boxes], ignore_index=True))
    auc = compared[compared["measure"] == "test/auc"].set_index(["checkpoint", "a", "b"])["difference"]
    assert len(auc) == 6  # boxes of nobody have no AUC
    for key in (("base", "focal"), ("base", "full"), ("focal", "full")):
        assert auc[("best", *key)] == pytest.approx(-auc[("last", *key)])
    rows = compared[compared["measure"] == "test/iou"]
    assert len(rows) == 2 * (3 + 3 * 2)
    assert not any(a in ("whole image", "middle half") and b in ("whole image", "middle half")
                   for a, b in zip(rows["a"], rows["b"]))  # fmt: skip
    (row,) = rows[(rows["a"] == "middle half") & (rows["b"] == "focal") & (rows["checkpoint"] == "last")].to_dict(
        "records"
    )
    focal = last[last["variant"] == "focal"]["test/iou"].to_numpy()
    assert row["difference"] == pytest.approx(np.mean(focal - [0.2, 0.2, 0.1, 0.5]))


def test_controls_differ_in_the_features_alone() -> None:
    given = settings(
        "base", byop="real", byop_shuffled="shuffled", byop_constant="constant", other="shuffled", full="real"
    )
    given["other"]["model"]["temperature"] = 0.1
    given["full"]["model"]["loss"] = "focal"
    assert ablation.byop_variants(given) == ["byop", "full"]
    assert ablation.controls(given).to_numpy().tolist() == [
        ["byop", "byop_shuffled", "shuffled"],
        ["byop", "byop_constant", "constant"],
    ]
    for section, key in (("data", "size"), ("trainer", "max_epochs")):
        changed = settings(byop="real", byop_shuffled="shuffled")
        changed["byop_shuffled"][section][key] = 1
        assert ablation.controls(changed).empty


@pytest.mark.parametrize("first", [True, False], ids=["real first", "control first"])
@pytest.mark.parametrize(
    "shift, words",
    [(0.1, "real radiomic features help in auc"), (-0.1, "real radiomic features hurt in auc"),
     (0.001, "no difference is shown in auc")],
)  # fmt: skip
def test_what_is_said_of_the_features_is_what_the_interval_says(shift: float, words: str, first: bool) -> None:
    """Real less shuffled by a plain paired t-test, whichever was named first."""
    shuffled = np.array([0.60, 0.65, 0.58, 0.70])
    real = shuffled + shift + np.array([0.01, -0.01, 0.02, -0.02])
    columns = {"byop": [*real], "byop_shuffled": [*shuffled]}
    columns = columns if first else dict([*columns.items()][::-1])
    table = measured(columns)
    features = {name: "shuffled" if "shuffled" in name else "real" for name in columns}
    text = unpadded(ablation.markdown(table, ablation.pairs(table), settings(**features)))
    d = real - shuffled
    half = stats.t.ppf(0.975, 3) * d.std(ddof=1) / 2
    interval = f"{d.mean() - half:+.3f} to {d.mean() + half:+.3f}"
    assert f"`byop` less `byop_shuffled`, best checkpoint, 4 seeds: {words} ({d.mean():+.3f}, {interval})." in text
    kind = {"help": "helps", "hurt": "hurts"}.get(words.split()[3], "no difference shown")
    assert f"| auc | byop less byop_shuffled | shuffled | best | 4 | {d.mean():+.3f} | {interval} |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| auc | byop less byop_shuffled | shuffled")]
    assert row.endswith(f"| {kind} |")
    others = {"helps", "hurts"} - {kind}
    assert not any(f" {word} |" in text for word in others)
    assert "nothing can be said" not in text


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"byop": [0.9, 0.9], "byop_constant": [0.1, 0.2]}, "its control was not run"),
        ({"byop": [0.9, 0.9], "byop_shuffled": [0.1]}, "it has fewer than two seeds in common with its control"),
        ({"byop": [0.9, 0.9]}, "its control was not run"),
    ],
)
def test_nothing_is_said_of_features_without_the_shuffled_control(columns: dict[str, list[float]], reason: str) -> None:
    """However far byop is ahead of everything else."""
    table = measured({"base": [0.5, 0.55], **columns})
    features = {name: name.partition("_")[2] or "real" for name in columns}
    text = ablation.markdown(table, ablation.pairs(table), settings("base", **features))
    assert f"`byop`: nothing can be said about whether its radiomic features help, for {reason}" in text
    assert "features help in" not in text.split("## AUC")[0]


def test_equal_differences_cannot_be_tested() -> None:
    table = measured({"byop": [0.75, 0.75], "byop_shuffled": [0.5, 0.5]})
    text = ablation.markdown(table, ablation.pairs(table), settings(byop="real", byop_shuffled="shuffled"))
    assert "nothing can be tested, in auc" in text and "help in" not in text
    same = measured({"byop": [0.75, 0.5], "byop_shuffled": [0.75, 0.5]})
    for columns in ({"byop": "real", "byop_shuffled": "shuffled"}, {"byop_shuffled": "shuffled", "byop": "real"}):
        table = same.sort_values("variant", ascending=[*columns] == sorted(columns), kind="stable", ignore_index=True)
        text = ablation.markdown(table, ablation.pairs(table), settings(**columns))
        assert "+0.000, +0.000 to +0.000" in text and "-0.000" not in text


def test_differences_that_are_equal_up_to_rounding_cannot_be_tested() -> None:
    """One box of 35 more for every seed would have a p of nothing, from the last bits."""
    shares = {"variant": ["base"] * 3 + ["byop"] * 3, "seed": [0, 1, 2] * 2, "checkpoint": "best"}
    values = np.array([0, 4, 1, 1, 5, 2]) / 35
    assert np.ptp(values[3:] - values[:3]) > 0
    (row,) = ablation.pairs(pd.DataFrame({**shares, "test/localisation_0.3": values})).to_dict("records")
    assert np.isnan(row["p"]) and row["low"] == row["high"] == row["difference"] == pytest.approx(1 / 35)
    assert ablation.verdict(row) == "cannot be tested"


def test_no_byop_no_headline(table: pd.DataFrame) -> None:
    text = ablation.markdown(table, ablation.pairs(table), settings("base", "focal", "full"))
    assert text.startswith("## AUC") and "radiomic" not in text


def test_the_paper_stands_beside_ours_disease_by_disease() -> None:
    parts = [
        measured({"base": [0.6, 0.8]}, measure=measure)[f"{measure}"]
        for measure in ("test/auc_Mass", "test/auc", "test/iou", "test/iou_Mass", "test/localisation_0.3_Mass")
    ]
    table = pd.concat([measured({"base": [0.6, 0.8]})[["variant", "seed", "checkpoint"]], *parts], axis=1)
    for full in (True, False):
        text = unpadded(ablation.markdown(table.assign(full_set=full), ablation.pairs(table), settings("base")))
        mark = "" if full else ", not comparable"
        assert "| base, best (2) | 0.700 ± 0.141 | 0.700 ± 0.141 |" in text
        assert f"| *KACL (Han et al. 2022){mark}* | *0.87* | *0.838* |" in text
        assert f"| *KACL's variant base{mark}* | *0.69* | *0.740* |" in text
        assert "| 0.3 | base, best (2) | 0.700 ± 0.141 | - |" in text
        for line in published_localisation().to_dict("records"):
            words = f"| {line['iou_above']} | *{line['system']}{mark}* | *{line['Mass']:.2f}* | *{line['Mean']:.3f}* |"
            assert words in text
        assert ("not comparable" in text) is not full


def test_cells_of_other_data_have_boxes_of_their_own(tmp_path: Any) -> None:
    """Boxes that nobody trained stand once per seed, unless the variants' data differ."""
    for name, iou in (("base", 0.2), ("full", 0.2), ("small", 0.3)):
        for seed in (0, 1):
            rows = [
                {"variant": name, "checkpoint": "best", "test/iou": 0.5},
                {"variant": "whole image", "checkpoint": "none", "test/iou": iou if seed else 0.2},
            ]
            folder = tmp_path / name / f"seed_{seed}"
            folder.mkdir(parents=True)
            pd.DataFrame(rows).to_csv(folder / "test.csv", index=False)
    table = ablation.cells(tmp_path, ["full", "base", "small"])
    assert table["variant"].tolist()[:6] == ["full", "full", "base", "base", "small", "small"]
    assert table[["variant", "seed", "test/iou"]].to_numpy().tolist()[6:] == [
        ["whole image", 0, 0.2],
        ["whole image, data of full", 1, 0.2],
        ["whole image, data of small", 1, 0.3],
    ]


def test_a_damaged_table_is_named(tmp_path: Any) -> None:
    path = tmp_path / "base" / "seed_0" / "test.csv"
    path.parent.mkdir(parents=True)
    for content, words in (("", "No columns"), ("epoch,test/auc\n3,0.5\n", "it lacks checkpoint, variant")):
        path.write_text(content)
        with pytest.raises(InputError, match=f"test.csv: it is cut off or damaged .*{words}.*: delete it"):
            ablation.cells(tmp_path, ["base"])
