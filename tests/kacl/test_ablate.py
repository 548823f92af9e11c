"""``kacl-gpu ablate``: cells that are trained once, and their comparison against plain loops."""

import math
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

pytest.importorskip("lightning")

from kacl_gpu.cli.main import main
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.training import ablate
from kacl_gpu.kacl.training.fit import fit


def unpadded(text: str) -> str:
    """Markdown without the blanks that align its columns."""
    return re.sub(" +", " ", text)


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {"variant": name, "seed": seed, "epoch": 3, "test/auc": random.random(), "test/iou": random.random()}
        for name in ("base", "focal", "full")
        for seed in range(4)
    ]
    return pd.DataFrame(rows[:-1])  # full has not been run with the last seed


def test_summary(table: pd.DataFrame) -> None:
    assert len(ablate.summary(table)) == 6
    for row in ablate.summary(table).to_dict("records"):
        name, measure = row["variant"], row["measure"]
        values = [cell[measure] for cell in table.to_dict("records") if cell["variant"] == name]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        assert (row["runs"], row["mean"], row["std"]) == pytest.approx((len(values), mean, deviation))


def test_pairs(table: pd.DataFrame) -> None:
    """The t-test and the adjustment from their formulas."""
    found = ablate.pairs(table, ["test/auc", "test/iou", "test/none"])
    assert [(row.a, row.b) for row in found.itertuples()] == [
        ("base", "focal"),
        ("base", "full"),
        ("focal", "full"),
    ] * 2
    for measure, rows in found.groupby("measure"):
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
    found = ablate.pairs(same, ["test/auc"])
    assert len(found) == 3 and found[["p", "p_adjusted"]].isna().all(axis=None) and (found["difference"] == 0).all()
    assert "| auc | focal less base | 4 | +0.000 | +0.000 to +0.000 | - | - |" in unpadded(
        ablate.markdown(ablate.summary(same), found)
    )
    one = table[table["seed"] == 0]
    assert ablate.pairs(one).empty
    auc = table["test/auc"][0]
    assert f"| auc | {auc:.3f} |" in unpadded(ablate.markdown(ablate.summary(one), ablate.pairs(one)))


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    make_phantoms(tmp_path / "phantoms", images=120, size=64, seed=3, boxed=0.4, workers=1)
    options: dict[str, Any] = {
        "data.root": tmp_path / "phantoms", "data.size": 64, "data.batch_size": 16, "data.workers": 0,
        "model.weights": "null", "model.warmup_epochs": 0, "model.hidden": 16, "trainer.max_epochs": 1,
        "trainer.limit_train_batches": 2, "trainer.accelerator": "cpu", "panels_every": 0,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items()]
    variants = ["base", "full"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    return ["ablate", f"--out={tmp_path / 'out'}", "--variants", *variants, "--seeds", "0", "4", *words, *quiet]


def test_an_ablation_that_is_interrupted(given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do nothing again that was done; the tables hold what each cell's test images say."""
    out, cells = tmp_path / "out", 0

    def interrupted(argv: list[str]) -> Any:
        nonlocal cells
        cells += 1
        if cells == 3:
            raise KeyboardInterrupt
        return fit(argv)

    monkeypatch.setattr("kacl_gpu.kacl.training.ablate.fit", interrupted)
    assert main(given) == 130
    assert list(pd.read_csv(out / "cells.csv")["variant"]) == ["base", "full"]
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/*/test.csv")}
    assert main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    table = pd.read_csv(out / "cells.csv")
    assert [*zip(table["variant"], table["seed"])] == [("base", 0), ("base", 4), ("full", 0), ("full", 4)]
    for row in table.to_dict("records"):
        cell = out / row["variant"] / f"seed_{row['seed']}"
        config = (cell / "config.yaml").read_text()
        assert (
            f"byop: {str(row['variant'] == 'full').lower()}" in config and f"seed_everything: {row['seed']}" in config
        )
        (tested,) = pd.read_csv(cell / "test.csv").to_dict("records")
        assert {name: row[name] for name in tested} == pytest.approx(tested, nan_ok=True)
        assert 0 <= row["test/auc"] <= 1 and row["epoch"] == 0
    assert len({*table["test/auc"]}) == 4  # four different runs
    written = unpadded((out / "ablation.md").read_text())
    assert "| test images | base (2) | full (2) |" in written and "full less base" in written


def test_the_best_checkpoint_is_tested_and_anew_after_more_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, last = (tmp_path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.parent.mkdir()
    for path, epoch in ((best, 5), (last, 7)):
        empty = {name: {} for name in ("state_dict", "hyper_parameters", "datamodule_hyper_parameters")}
        torch.save({"epoch": epoch, **empty}, path)
    tested: list[str] = []

    class Trainer:
        is_global_zero = True

        def test(self, model: Any, data: Any, ckpt_path: str, verbose: bool) -> list[dict[str, float]]:
            tested.append(Path(ckpt_path).name)
            return [{"test/auc": 0.6}]

    made = SimpleNamespace(trainer=Trainer(), model=None, datamodule=None)
    monkeypatch.setattr("kacl_gpu.kacl.training.ablate.fit", lambda argv: made)
    for change, expected in (
        (lambda: None, ["best.ckpt"]),
        (lambda: None, ["best.ckpt"]),  # done
        (lambda: os.utime(last, (2**31, 2**31)), ["best.ckpt"] * 2),  # trained on
        (best.unlink, ["best.ckpt"] * 2 + ["last.ckpt"]),  # no validation had an AUC
    ):
        change()
        assert ablate.train(tmp_path, []) and tested == expected
        epoch = 7 if tested[-1] == "last.ckpt" else 5
        assert pd.read_csv(tmp_path / "test.csv").to_dict("records") == [{"epoch": epoch, "test/auc": 0.6}]


def test_what_cannot_be_ablated(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is trained."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("model: {temperature: 0}")
    at = given.index("--seeds")
    for change, words in (
        ([*given[:at], "nowhere.yaml", *given[at:]], "no such file of settings: nowhere.yaml"),
        (
            [*given[:at], "base", *given[at:]],
            "variants must be named, and once each: base, full, base",
        ),
        ([*given, "--seeds", "1", "1"], "seeds must be named, and once each: 1, 1"),
        ([*given[:at], str(wrong), *given[at:]], "temperature must be above 0"),
        ([*given, "--no.such=1"], "no.such"),
        ([*given, "--out"], "--out"),
    ):
        assert main(change) == 2, words
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
