"""``kacl-gpu evaluate`` on phantoms, from a run of ``kacl-gpu fit`` to the report, and on what is degenerate."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

pytest.importorskip("lightning")

from kacl_gpu.cli.main import main
from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.data.diseases import DISEASES
from kacl_gpu.kacl.data.phantom import make_phantoms
from kacl_gpu.kacl.data.split import split_patients, write_split
from kacl_gpu.kacl.evaluation import published, report
from kacl_gpu.kacl.evaluation.document import Document
from kacl_gpu.kacl.evaluation.published import published_auc, published_localisation
from kacl_gpu.kacl.evaluation.report import evaluate
from kacl_gpu.kacl.evaluation.validation import IOU_THRESHOLDS
from kacl_gpu.kacl.training.fit import fit
from tests.kacl.disk import on_small_disk
from tests.kacl.evaluating import untrained

SIZE = 64


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    make_phantoms(folder, images=200, size=SIZE, seed=2, boxed=0.5, workers=1)
    return folder


@pytest.fixture(scope="module")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint as training writes it."""
    out = tmp_path_factory.mktemp("run")
    options = {
        "data.root": phantoms, "data.size": SIZE, "data.batch_size": 16, "data.workers": 0, "model.weights": "null",
        "model.warmup_epochs": 0, "trainer.max_epochs": 1, "trainer.limit_train_batches": 4, "panels_every": 0,
        "trainer.enable_progress_bar": "false", "trainer.enable_model_summary": "false",
        "trainer.accelerator": "cpu", "out": out,
    }  # fmt: skip
    fit([f"--{name}={value}" for name, value in options.items()])
    return out / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def other_boxes(phantoms: Path) -> Path:
    """Return boxes of two further sources, on every ill image."""
    table = pd.read_csv(phantoms / "Data_Entry_2017.csv", index_col=False)
    lines = ["image,source,label,x,y,w,h"]
    for k, (image, findings) in enumerate(table[["Image Index", "Finding Labels"]].itertuples(index=False)):
        if findings != "No Finding":
            lines.append(f"{image},{('First', 'Second')[k % 2]},{findings.split('|')[0].lower()},200,300,400,100")
    path = phantoms.parent / "others.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def out(phantoms: Path, trained: Path, other_boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a trained model beside one of another size, with other diseases, split and order of them."""
    folder = tmp_path_factory.mktemp("report")
    second = untrained(folder / "second.ckpt", phantoms, seed=5, size=48, diseases=["Hernia", *DISEASES[:0:-1]])
    words = ["evaluate", "--checkpoint", trained, "--data", phantoms, "--out", folder / "out", "--compare", second]
    words += ["--boxes", other_boxes, "--bootstrap", 50, "--workers", 0, "--device", "cpu", "--seed", 3]
    assert main([str(word) for word in words]) == 0
    return folder / "out"


class Page(HTMLParser):
    """Words, pictures, tables and whatever a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "img":
            self.pictures.append(str(given["src"]))
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.open.append(tag)
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.tables[-1][-1][-1] += data


def read(out: Path, name: str) -> Any:
    return pd.read_csv(out / "tables" / f"{name}.csv", keep_default_na=True)


def test_the_html_needs_nothing_else(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = Page(text)
    assert len(page.pictures) == 5 and page.links == page.pictures
    for source, name in zip(page.pictures, ("roc", "localisation", "confusion", "figure_5", "effects")):
        kind, data = source.split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == (out / "figures" / f"{name}.png").read_bytes()
    assert "url(" not in text and "@import" not in text
    markdown_ = (out / "report.md").read_text()
    assert re.findall(r"!\[[^]]+\]\(([^)]+)\)", markdown_) == [
        f"figures/{name}.png" for name in ("roc", "localisation", "confusion", "figure_5", "effects")
    ]
    assert len(re.findall(r"^\|:-+\|", markdown_, re.MULTILINE)) == len(page.tables)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower()


def test_the_table_of_classification(out: Path, phantoms: Path) -> None:
    """Against scikit-learn on the raw predictions, and against the split itself."""
    cases: Any = pd.read_parquet(out / "predictions.parquet")
    data = ChestXrays(phantoms, size=SIZE, seed=0)
    data.setup()
    assert cases["image"].drop_duplicates().tolist() == data.test.table["image"].tolist()
    assert not set(cases["image"]) & set(data.train.table["image"])
    rows = {row[0]: row for row in Page((out / "report.html").read_text()).tables[0]}
    aucs = []
    for name in DISEASES:
        part = cases[cases["disease"] == name]
        assert rows[name][1] == str(part["label"].sum())
        if 0 < part["label"].sum() < len(part):
            aucs.append(roc_auc_score(part["label"], part["probability"]))
            assert rows[name][2].startswith(f"{aucs[-1]:.3f}")
        else:
            assert rows[name][2] == "- no positives"
    assert rows["mean"][2].startswith(f"{np.mean(aucs):.3f} (")
    beside = [table for table in Page((out / "report.html").read_text()).tables if table[0] == ["", *DISEASES, "mean"]]
    (printed,) = beside
    assert [row[0] for row in printed[1:3]] == ["this model", "comparison"]
    assert printed[1][1:] == [rows[name][2].split(" ")[0] for name in (*DISEASES, "mean")]
    assert printed[2][1] == "-"  # the other model does not know this disease
    expected = published_auc()
    assert len(expected) == 8 + 4 and len(printed) == 3 + 12
    for line, row in zip(expected.to_dict("records"), printed[3:]):
        digits = [*(f"{line[name]:.2f}" for name in DISEASES), f"{line['Mean']:.3f}"]  # as printed
        assert row == [f"{line['system']}, not comparable", *digits]

    validation: Any = pd.read_parquet(out / "predictions_validation.parquet")
    assert set(validation["image"]) == set(data.validation.table["image"])
    points = read(out, "operating_points").set_index("disease")
    assert len(points) >= 2
    for name, point in points.iterrows():
        part, tuned = cases[cases["disease"] == name], validation[validation["disease"] == name]
        assert point["threshold"] in tuned["probability"].to_numpy()
        called = part["probability"] >= point["threshold"]
        assert point["sensitivity"] == pytest.approx(called[part["label"] == 1].mean())
        assert rows[str(name)][3] == f"{point['threshold']:.3f}"


def test_the_tables_of_localisation(out: Path) -> None:
    tables = Page((out / "report.html").read_text()).tables
    overlaps = read(out, "overlaps")
    truth: Any = pd.read_parquet(out / "true_boxes.parquet")
    boxes: Any = pd.read_parquet(out / "boxes.parquet")
    assert len(overlaps) == len(truth) > 30 and (overlaps["top"] <= overlaps["best"]).all()
    found = [table for table in tables if table[0][2:3] == ["IoU\xa0>\xa00.1"]]
    assert len(found) == 2 + 2 * 2  # both protocols of NIH's boxes, and of each other source
    for table, column in zip(found, ("top", "best")):
        rows = {row[0]: row for row in table}
        for name, part in overlaps.groupby("disease"):
            assert rows[str(name)][1] == str(len(part))
            for t, cell in zip(IOU_THRESHOLDS, rows[str(name)][2:]):
                assert cell.split(" (")[0] == f"{(part[column] > t).mean():.2f}"
        every = rows["all together"]
        assert every[1] == str(len(overlaps)) and every[-1].startswith(f"{overlaps[column].mean():.2f} (")
        assert {"comparison, mean", "comparison, all together"} <= set(rows)
    assert set(boxes["image"]) >= set(truth["image"]) and set(boxes["disease"]) == set(DISEASES)
    assert boxes[[*BOX_COLUMNS]].to_numpy().max() <= SIZE


def test_boxes_that_nobody_trained_stand_beside_the_network(out: Path, phantoms: Path) -> None:
    """Whole image and middle half by hand; mean boxes of the training images by a loop; in both protocols' tables."""
    truth: Any = pd.read_parquet(out / "true_boxes.parquet")
    data = ChestXrays(phantoms, size=SIZE, seed=0)
    data.setup()
    means = data.train.boxes.groupby("disease")[[*BOX_COLUMNS]].mean()
    every = data.train.boxes[[*BOX_COLUMNS]].mean()
    shares: dict[str, list[float]] = {"whole image": [], "middle half": [], "mean training box": []}
    for row in truth.to_dict("records"):
        x1, y1, x2, y2 = (row[name] for name in BOX_COLUMNS)
        trained = means.loc[row["disease"]] if row["disease"] in means.index else every
        boxes = [(0, 0, SIZE, SIZE), (SIZE / 4, SIZE / 4, 3 * SIZE / 4, 3 * SIZE / 4), tuple(trained)]
        for values, (a1, b1, a2, b2) in zip(shares.values(), boxes):
            common = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            values.append(common / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - common))
    table = read(out, "localisation_baselines")
    assert set(table["boxes"]) == {*shares, "map that knows the box (2 x 2)"}
    for name, values in shares.items():
        for protocol in ("top box", "best of all components"):
            part = table[(table["boxes"] == name) & (table["protocol"] == protocol)].set_index(["disease", "measure"])
            for t in IOU_THRESHOLDS:
                expected = np.mean(np.array(values) > t)
                assert part.loc[("all together", f"iou > {t}"), "value"] == pytest.approx(expected)
            assert part.loc[("all together", "mean iou"), "value"] == pytest.approx(np.mean(values))
    assert table["low"].notna().all() and (table["low"] < table["high"]).any()
    found = [page for page in Page((out / "report.html").read_text()).tables if page[0][2:3] == ["IoU\xa0>\xa00.1"]]
    for page in found:
        rows = {row[0] for row in page}
        assert {f"{name}, {group}" for name in set(table["boxes"]) for group in ("mean", "all together")} <= rows


def test_the_paper_s_table_of_boxes_stands_beside_ours(out: Path) -> None:
    tables = Page((out / "report.html").read_text()).tables
    (table,) = (page for page in tables if page[0] == ["IoU >", "", *DISEASES, "mean"])
    overlaps = read(out, "overlaps")
    printed = published_localisation()
    for level in IOU_THRESHOLDS:
        rows = {row[1]: row[2:] for row in table if row[0] == str(level)}
        for line in printed[printed["iou_above"] == level].to_dict("records"):
            expected = [*(f"{line[name]:.2f}" for name in DISEASES), f"{line['Mean']:.3f}"]
            assert rows[f"{line['system']}, not comparable"] == expected
        for name, cell in zip(DISEASES, rows["this model, top box"]):
            part = overlaps.loc[overlaps["disease"] == name, "top"]
            assert cell == (f"{(part > level).mean():.3f}" if len(part) else "-")
        assert len(rows) == (2 + 2 + 4) + (printed["iou_above"] == level).sum()


def test_diseases_of_few_patients_are_named(out: Path) -> None:
    text = (out / "report.md").read_text()
    parts = text.split("## Localisation")
    cases, truth = (pd.read_parquet(out / f"{name}.parquet") for name in ("predictions", "true_boxes"))
    named = 0
    for part, rows in ((parts[0], cases[cases["label"] == 1]), (parts[1], truth)):
        patients = {name: {*rows.loc[rows["disease"] == name, "patient"]} for name in DISEASES}
        few = [name for name in DISEASES if 0 < len(patients[name]) < 5]
        assert (f"Fewer than 5 patients have {', '.join(few)}: " in part) if few else ("Fewer than" not in part)
        named += len(few)
    assert named > 0
    assert report._few(truth, {"draws": 0, "seed": 0}) == ""


def test_boxes_of_other_sources_stand_by_themselves(out: Path, other_boxes: Path) -> None:
    given: Any = pd.read_parquet(out / "other_boxes.parquet")
    lines = pd.read_csv(other_boxes)
    evaluated: Any = pd.read_parquet(out / "predictions.parquet")
    assert len(given) == lines["image"].isin(evaluated["image"]).sum() > 0
    assert given[[*BOX_COLUMNS]].drop_duplicates().to_numpy().tolist() == [[12.5, 18.75, 37.5, 25.0]]
    for source in ("First", "Second"):
        assert len(read(out, f"{source}_overlaps")) == (given["source"] == source).sum()
    truth: Any = pd.read_parquet(out / "true_boxes.parquet")
    assert len(read(out, "overlaps")) == len(truth) and "source" not in truth


def test_the_comparison_sees_the_same_images(out: Path) -> None:
    ours: Any = pd.read_parquet(out / "predictions.parquet")
    theirs: Any = pd.read_parquet(out / "comparison_predictions.parquet")
    assert ours["image"].drop_duplicates().tolist() == theirs["image"].drop_duplicates().tolist()
    boxes: Any = pd.read_parquet(out / "comparison_boxes.parquet")
    assert boxes[[*BOX_COLUMNS]].to_numpy().max() <= 48  # in pixels of its own images
    difference = read(out, "auc_difference").set_index("disease")
    assert difference.index.tolist() == [*DISEASES[1:], "mean"]  # those that both know
    for name in DISEASES[1:]:
        values = []
        for table in (ours, theirs):
            part = table[table["disease"] == name]
            values.append(roc_auc_score(part["label"], part["probability"]) if part["label"].any() else np.nan)
        expected = [*values, values[0] - values[1]]
        assert difference.loc[name, ["auc", "other", "difference"]].tolist() == pytest.approx(expected, nan_ok=True)
    compared = read(out, "comparison_overlaps")
    assert set(compared["disease"]) == set(read(out, "overlaps")["disease"]) - {DISEASES[0]}
    run = json.loads((out / "run.json").read_text())
    (note,) = [note for note in run["notes"] if "advantage" in note]
    assert 0 < int(re.findall(r"trained on (\d+) of these", note)[0]) < run["images"]
    assert run["set"] == "test" and run["bootstrap"] == 50 and run["seed"] == 3


def test_the_picture_shows_boxes_of_both_colours(out: Path) -> None:
    with Image.open(out / "figures" / "figure_5.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((255, 212, 0), (229, 38, 43)):
        assert (drawn == colour).all(1).sum() > 300


def test_features_can_be_computed_again(out: Path) -> None:
    effects = read(out, "effects")
    measured: Any = pd.read_parquet(out / "features.parquet")
    row = effects.loc[effects["delta"].abs().idxmax()]
    part = measured[(measured["boxes"] == row["boxes"]) & (measured["disease"] == row["disease"])][
        ["control_of", row["feature"]]
    ]
    ill, normal = (
        part.loc[rows, row["feature"]].to_numpy() for rows in (part["control_of"] < 0, part["control_of"] >= 0)
    )
    assert np.sign(ill[:, None] - normal).mean() == pytest.approx(row["delta"])


def test_a_split_is_known_again_or_not(out: Path, phantoms: Path, trained: Path, tmp_path: Path) -> None:
    made = ChestXrays(phantoms, size=SIZE, seed=0)
    made.setup()
    table = pd.concat([part.table for part in (made.train, made.validation, made.test)])
    write_split(tmp_path / "split.csv", table, split_patients(table, 77))
    options: dict[str, Any] = {"split_file": tmp_path / "split.csv", "split": "validation", "bootstrap": 0}
    evaluate(trained, phantoms, tmp_path / "other", **options, workers=0, device="cpu")
    own, other = (json.loads((folder / "run.json").read_text()) for folder in (out, tmp_path / "other"))
    assert own["notes"][0] == "The images and their split are those of the training (by their fingerprint)."
    assert "The split is not that of the training" in other["notes"][0] and "split.csv" in other["notes"][0]
    found = read(tmp_path / "other", "auc")
    assert found[["low", "high"]].isna().all(axis=None) and (found["draws"] == 0).all()
    assert "(" not in Page((tmp_path / "other" / "report.html").read_text()).tables[0][1][2]
    # the paper's split has no annotated image in the validation
    text = (tmp_path / "other" / "report.md").read_text()
    assert "None of these images has a true box" in text and "on these images themselves" in text
    assert not (tmp_path / "other" / "predictions_validation.parquet").exists()


def test_one_class_and_empty_boxes(phantoms: Path, tmp_path: Path) -> None:
    """All images with one and the same disease, and a list of boxes of which none is usable."""
    root = tmp_path / "data"
    root.mkdir()
    lines = (phantoms / "Data_Entry_2017.csv").read_text().splitlines()
    chosen = [line.split(",") for line in lines[1:80]]
    rows = [",".join([fields[0], "Mass", *fields[2:]]) for fields in chosen]
    (root / "Data_Entry_2017.csv").write_text("\n".join([lines[0], *rows]))
    boxes = [f"{fields[0]},Mass,10,10,0,0,,," for fields in chosen]
    (root / "BBox_List_2017.csv").write_text("\n".join(["Image Index,Finding Label,Bbox [x,y,w,h],,,", *boxes]))
    files = {path.name: path for path in phantoms.glob("images_*/images/*.png")}
    for fields in chosen:
        (root / fields[0]).symlink_to(files[fields[0]])
    checkpoint = untrained(tmp_path / "a.ckpt", root, diseases=["Mass"])
    evaluate(checkpoint, root, tmp_path / "out", workers=0, bootstrap=10, device="cpu")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "*no negatives*" in text and "*without Mass*" in text
    assert "None of these images has a true box" in text and "No disease has 5 boxes" in text
    assert "79 boxes malformed or outside the image, left out" in text
    assert not list((tmp_path / "out" / "figures").iterdir())


def test_published_rows_beside_the_full_set(
    phantoms: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ChestXrays(phantoms, size=SIZE, seed=0)
    data.setup()
    table = pd.concat([part.table for part in (data.train, data.validation, data.test)])
    numbers = {"images": 200, "patients": table["patient"].nunique(), "annotated": int(table["annotated"].sum())}
    monkeypatch.setattr(published, "FULL_SET", numbers)
    assert published.is_full_set(table)
    for name in numbers:
        monkeypatch.setattr(published, "FULL_SET", {**numbers, name: numbers[name] + 1})
        assert not published.is_full_set(table)
    monkeypatch.setattr(published, "FULL_SET", numbers)
    evaluate(trained, phantoms, tmp_path / "out", split="validation", workers=0, bootstrap=0, device="cpu")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "*KACL (Han et al. 2022)*" in text and "not comparable" not in text


def test_other_encoders(phantoms: Path, tmp_path: Path) -> None:
    """A finer stride has a finer ceiling; a module of one's own is given again."""
    fine = untrained(tmp_path / "fine.ckpt", phantoms, encoder="resnet18", stride=16)
    evaluate(fine, phantoms, tmp_path / "fine", workers=0, bootstrap=0, device="cpu")
    table = read(tmp_path / "fine", "localisation_baselines")
    overall = table[(table["disease"] == "all together") & (table["measure"] == "mean iou")].set_index("boxes")["value"]
    assert "map that knows the box (4 x 4)" in overall.index
    assert overall["map that knows the box (4 x 4)"].max() > overall["whole image"].max()
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 9, stride=8), torch.nn.BatchNorm2d(6), torch.nn.ReLU())
    own = untrained(tmp_path / "own.ckpt", phantoms, encoder=module)
    with pytest.raises(InputError, match="encoder"):
        evaluate(own, phantoms, tmp_path / "without", workers=0, device="cpu")
    evaluate(own, phantoms, tmp_path / "own", workers=0, bootstrap=0, device="cpu", encoder=module)
    assert "map that knows the box (7 x 7)" in (tmp_path / "own" / "report.md").read_text()


def test_the_published_numbers() -> None:
    """Printed means are those of the printed diseases, to the rounding of both, in every row of the tables."""
    means = published_auc().set_index("system")["Mean"]
    assert means.loc[["KACL (Han et al. 2022)", "Rajpurkar et al. 2017 (CheXNet)"]].tolist() == [0.838, 0.828]
    variants = [f"KACL's variant {name}" for name in ("base", "focal", "byop", "full")]
    assert means.loc[variants].tolist() == [0.740, 0.765, 0.806, 0.838]
    for table in (published_auc(), published_localisation()):
        assert (table[[*DISEASES]].mean(axis=1) - table["Mean"]).abs().max() < 0.005 + 0.0005
        assert table.notna().all(axis=None)
    assert [*published_localisation().groupby("iou_above").size()] == [4, 3, 4, 3, 4, 3, 4]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"checkpoint": "/none.ckpt"}, "no such checkpoint: /none.ckpt"),
        ({"data": "/nowhere"}, "no such folder: /nowhere"),
        ({"data": "."}, "no table of labels in"),
        ({"boxes": "/none.csv"}, "cannot read /none.csv"),
        ({"compare": "/none.ckpt"}, "no such checkpoint: /none.ckpt"),
        ({"split-file": "/none.csv"}, "no such split file: /none.csv"),
        ({"device": "abacus"}, "device"),
        ({"bootstrap": -1}, "bootstrap must be at least 0"),
        ({"batch-size": 0}, "batch_size must be at least 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"split": "all"}, "invalid choice"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    phantoms: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    words: str,
) -> None:
    given = {"checkpoint": trained, "data": phantoms, "out": tmp_path / "out", "device": "cpu"} | change
    if given["data"] == ".":
        given["data"] = tmp_path
    assert main(["evaluate", *(f"--{name}={value}" for name, value in given.items())]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kacl-gpu evaluate: error: ") and words in said
    assert not (tmp_path / "out").exists()


def test_models_of_other_diseases_are_not_compared(phantoms: Path, trained: Path, tmp_path: Path) -> None:
    other = untrained(tmp_path / "a.ckpt", phantoms, diseases=["Hernia"])
    with pytest.raises(InputError, match="no disease in common"):
        evaluate(trained, phantoms, tmp_path / "out", compare=other, device="cpu")


def test_what_is_there_is_not_overwritten(phantoms: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InputError, match="exists already"):
            evaluate(trained, phantoms, out, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk(phantoms: Path, trained: Path, tmp_path: Path) -> None:
    """One line, and nothing is left."""
    script = (
        "import os, sys; from kacl_gpu.cli.main import main; status = main(sys.argv[2:])\n"
        "print(os.listdir(sys.argv[1])); sys.exit(status)"
    )
    given = {"checkpoint": trained, "data": phantoms, "out": tmp_path / "small" / "out", "device": "cpu"}
    given |= {"workers": 0, "bootstrap": 0}
    words = [f"--{name}={value}" for name, value in given.items()]
    done = on_small_disk(tmp_path / "small", "60k", script, "evaluate", *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.search(r"error: cannot write .*No space left on device; nothing is kept", done.stderr.splitlines()[-1])
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    made = Document(tmp_path, "a <b> & c.ckpt")
    made.grid(["a|b", "c"], [["x|y", "1"], ["<script>alert(1)</script>", "2"]])
    text = made.write({}).read_text()
    assert "<title>a &lt;b&gt; &amp; c.ckpt</title>" in text
    (table,) = Page(text).tables
    assert [row[0] for row in table[:2]] == ["a|b", "x|y"]


def test_pictures_are_whole(tmp_path: Path) -> None:
    made = Document(tmp_path, "x")
    figure = Figure()
    figure.subplots().plot([0, 1])
    made.picture("line", figure, "a line")
    page = Page(made.write({}).read_text())
    with Image.open(io.BytesIO(base64.b64decode(page.pictures[0].split(",")[1]))) as picture:
        assert picture.size[0] > 400
    assert torch.is_inference_mode_enabled() is False
