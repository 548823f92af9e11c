"""``kacl-gpu ablate``: cells that are trained and tested once; their comparison is in test_ablation.py."""

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("lightning")

from kacl_gpu.cli.ablate import make_parser
from kacl_gpu.cli.main import main
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.evaluation.ablation import byop_variants, controls
from kacl_gpu.kacl.training import ablate
from kacl_gpu.kacl.training.fit import command, fit
from kacl_gpu.kacl.training.parser import find_config


def unpadded(text: str) -> str:
    """Markdown without the blanks that align its columns."""
    return re.sub(" +", " ", text)


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
    half: Any = pd.read_csv(out / "cells.csv")
    assert half.loc[half["checkpoint"] == "best", "variant"].tolist() == ["base", "full"]
    done = {path: path.stat().st_mtime_ns for path in out.glob("*/*/test.csv")}
    assert main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    everything: Any = pd.read_csv(out / "cells.csv")
    assert not everything["full_set"].any()
    table = everything[everything["checkpoint"] == "best"]
    assert [*zip(table["variant"], table["seed"])] == [("base", 0), ("base", 4), ("full", 0), ("full", 4)]
    for row in table.to_dict("records"):
        cell = out / row["variant"] / f"seed_{row['seed']}"
        config = (cell / "config.yaml").read_text()
        assert (
            f"byop: {str(row['variant'] == 'full').lower()}" in config and f"seed_everything: {row['seed']}" in config
        )
        tested: Any = pd.read_csv(cell / "test.csv")
        assert tested["checkpoint"].tolist() == ["best", "last", *["none"] * 4]
        for name in (name for name in tested if str(name).startswith("test/")):
            assert row[name] == pytest.approx(tested[name][0], nan_ok=True)
            assert tested[name][0] == pytest.approx(tested[name][1], nan_ok=True)  # one epoch: best and last are equal
        assert 0 <= row["test/auc"] <= 1 and row["epoch"] == 0
    assert len({*table["test/auc"]}) == 4  # four different runs
    written = unpadded((out / "ablation.md").read_text())
    assert "| base, best (2) |" in written and "| full, last (2) |" in written and "full less base" in written
    assert "KACL (Han et al. 2022), not comparable" in written
    assert (
        "`full`: nothing can be said about whether its radiomic features help, for its control was not run" in written
    )
    # once per seed, though each variant measured them
    untrained = everything[everything["checkpoint"] == "none"]
    names = ["whole image", "middle half", "mean training box", "map that knows the box (2 x 2)"]
    assert [*zip(untrained["variant"], untrained["seed"])] == [(name, seed) for seed in (0, 4) for name in names]
    for seed in (0, 4):
        data = ChestXrays(tmp_path / "phantoms", size=64, seed=seed)
        data.setup()
        overlap, diseases = [], []
        for row in range(len(data.test)):
            boxes = data.test[row]["boxes"].numpy()
            for d in np.flatnonzero(~np.isnan(boxes[:, 0])):
                x1, y1, x2, y2 = boxes[d]
                common = max(min(x2, 48) - max(x1, 16), 0) * max(min(y2, 48) - max(y1, 16), 0)
                overlap.append(common / ((x2 - x1) * (y2 - y1) + 32 * 32 - common))
                diseases.append(data.test.diseases[d])
        measured = untrained[(untrained["seed"] == seed) & (untrained["variant"] == "middle half")].iloc[0]
        assert len(overlap) > 5 and measured["test/iou"] == pytest.approx(np.mean(overlap))
        by_disease = pd.Series(np.array(overlap) > 0.1).groupby(diseases).mean()
        assert measured["test/localisation_0.1_mean"] == pytest.approx(by_disease.mean())
        for name, value in by_disease.items():
            assert measured[f"test/localisation_0.1_{name}"] == pytest.approx(value)
    for row in table.to_dict("records"):  # the trainer's own measure of all boxes is that of the diseases' cases
        parts = [row[name] for name in row if name.startswith("test/iou_") and name != "test/iou_mean"]
        assert np.nanmean(parts) == pytest.approx(row["test/iou_mean"])


def test_shipped_controls_are_those_of_their_variants() -> None:
    """Read from the settings that a run would have, defaults included."""
    names = ("base", "byop", "byop_constant", "byop_shuffled", "byop_middle")
    settings = {
        name: command(["--data.root=x", "--model.weights=null", "--config", find_config(name)]).config.as_dict()
        for name in names
    }
    assert controls(settings).to_numpy().tolist() == [
        ["byop", "byop_constant", "constant"],
        ["byop", "byop_shuffled", "shuffled"],
    ]


def test_best_and_last_are_tested_and_anew_after_more_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "byop" / "seed_3"
    best, last = (folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.parent.mkdir(parents=True)

    def save(path: Path, epoch: int) -> None:
        empty = {name: {} for name in ("state_dict", "hyper_parameters", "datamodule_hyper_parameters")}
        torch.save({"epoch": epoch, **empty}, path)

    save(best, 5)
    save(last, 7)
    tested: list[str] = []

    class Trainer:
        is_global_zero = True

        def test(self, model: Any, data: Any, ckpt_path: str, verbose: bool) -> list[dict[str, float]]:
            tested.append(Path(ckpt_path).name)
            return [{"test/auc": 0.6 if Path(ckpt_path).name == "best.ckpt" else 0.7}]

    none = torch.full((2, 1, 4), torch.nan)
    model = SimpleNamespace(predictions={"boxes": none, "true_boxes": none}, diseases=["Mass"])
    part = SimpleNamespace(table=pd.DataFrame({"image": ["a"], "patient": [1], "annotated": [False]}))
    data = SimpleNamespace(train=part, validation=part, test=part)
    done = SimpleNamespace(trainer=Trainer(), model=model, datamodule=data)
    monkeypatch.setattr("kacl_gpu.kacl.training.ablate.fit", lambda argv: done)

    def rows() -> Any:
        assert ablate.train(folder, [])
        return pd.read_csv(folder / "test.csv").to_dict("records")

    common = {"variant": "byop", "full_set": False}
    expected = [
        {**common, "checkpoint": "best", "epoch": 5, "test/auc": 0.6},
        {**common, "checkpoint": "last", "epoch": 7, "test/auc": 0.7},
    ]
    assert rows() == expected and tested == ["best.ckpt", "last.ckpt"]
    assert rows() == expected and len(tested) == 2  # done
    os.utime(last, (2**31, 2**31))  # trained on
    assert rows() == expected and len(tested) == 4
    save(last, 5)  # of the same epoch: equal, so tested once
    os.utime(last, (2**31, 2**31))
    assert [row["epoch"] for row in rows()] == [5, 5] and tested[4:] == ["best.ckpt"]
    best.unlink()  # no validation had an AUC
    assert rows() == [{**common, "checkpoint": "last", "epoch": 5, "test/auc": 0.7}]


def test_byop_has_its_shuffled_control_by_default() -> None:
    settings = {
        name: command(["--data.root=x", "--model.weights=null", "--config", find_config(name)]).config.as_dict()
        for name in make_parser().get_default("variants")
    }
    matched = controls(settings)
    assert matched["real"].tolist() == byop_variants(settings) == ["byop", "full"]
    assert {*matched["features"]} == {"shuffled"}


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
