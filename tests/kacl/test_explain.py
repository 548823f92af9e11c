"""Effect sizes of radiomic features: against loops and scipy, and on images in which it is known what differs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

pytest.importorskip("lightning")

from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.kacl.byop import BYOP_SETTINGS
from kacl_gpu.kacl.data.dataset import NIHChestXray14
from kacl_gpu.kacl.evaluation.explain import CONTROLS, FEWEST, PREDICTED, TRUE, controls, effects, explain, features
from kacl_gpu.kacl.evaluation.predictions import true_boxes
from kacl_gpu.radiomics.api import feature_names, gpu_radiomics

CPU = torch.device("cpu")
SIZE = 48
HEADER = "Image Index,Finding Labels,Patient ID,View Position"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> NIHChestXray14:
    """Noise that is the same in all images but for a bright square in each Mass; a Nodule is nothing at all."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    table, boxes = [HEADER], ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    for k in range(90):
        label = ("Mass", "Nodule", "No Finding")[0 if k < 15 else 1 if k < 30 else 2]
        patient = k - 30 if 30 <= k < 45 else k  # those with a Mass have a normal image too
        pixels = random.integers(60, 120, (SIZE, SIZE))
        x, y, w, h = (*random.integers(0, 28, 2), *random.integers(8, 20, 2))
        if label == "Mass":
            pixels[y : y + h, x : x + w] += 40
        name = f"{k:03}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(root / name)
        table.append(f"{name},{label},{patient},{'AP' if k % 3 else 'PA'}")
        if label != "No Finding":
            boxes.append(f"{name},{label},{','.join(str(value * 1024 / SIZE) for value in (x, y, w, h))},,,")
    (root / "Data_Entry_2017.csv").write_text("\n".join(table))
    (root / "BBox_List_2017.csv").write_text("\n".join(boxes))
    return NIHChestXray14(root)


def predicted(truth: pd.DataFrame) -> pd.DataFrame:
    """Return for each true box a prediction that is one pixel off."""
    return truth.assign(rank=0, total=1.0, fallback=False, x2=truth["x2"] - 1)


def test_features_are_those_of_each_box_alone(images: NIHChestXray14) -> None:
    truth = true_boxes(images)
    regions = truth.iloc[[5, 2, 2, 20, 9]].reset_index(drop=True)
    regions.loc[3, [*BOX_COLUMNS]] = [3.5, 4.2, 20.7, 30.1]
    regions.loc[4, [*BOX_COLUMNS]] = [50.0, 50, 60, 60]  # outside
    found = features(images, regions, CPU, batch_size=2)
    assert [*found] == [*feature_names(BYOP_SETTINGS)]
    names = [*images.table["image"]]
    for ours, region in zip(found.to_numpy(), regions.to_dict("records")):
        pixels = images[names.index(region["image"])]["image"][None]
        box = torch.tensor([[region[name] for name in BOX_COLUMNS]])
        alone = gpu_radiomics(pixels, box, settings=BYOP_SETTINGS, invalid="nan", dtype=torch.float64)
        np.testing.assert_array_equal(ours, alone[0].numpy())
    assert found.isna().all(axis=1).tolist() == [False] * 4 + [True]


def test_controls_are_the_same_places_in_normal_images(images: NIHChestXray14) -> None:
    regions = true_boxes(images)
    found = controls(images, regions, seed=3)
    table = images.table.set_index("image")
    assert len(found) == CONTROLS * len(regions)
    for k, part in found.groupby("control_of"):
        region = regions.loc[k]
        assert part["image"].nunique() == CONTROLS
        assert (part[[*BOX_COLUMNS]] == region[[*BOX_COLUMNS]].astype(float)).all(axis=None)
        assert (part["disease"] == region["disease"]).all() and (part["patient"] != region["patient"]).all()
        assert table.loc[part["image"], "normal"].all()
        assert (table.loc[part["image"], "view"] == table.loc[region["image"], "view"]).all()
    assert found["image"].nunique() > 30
    assert controls(images, regions, seed=3).equals(found) and not controls(images, regions, seed=4).equals(found)
    few = images.select([0, 1, 30, 31, 32])  # of patients 0, 1, 0, 1, 2; PA, AP, PA, AP, AP
    assert controls(few, true_boxes(few))[["image", "control_of"]].to_numpy().tolist() == [["032.png", 1]]
    assert controls(images.select(range(30)), regions).empty


def test_effects_by_loops() -> None:
    random = np.random.default_rng(1)
    names = ["original_firstorder_Mean", "original_glcm_Contrast", "original_shape2D_Elongation"]
    rows = []
    for disease, shift in (("Mass", 1.0), ("Effusion", 0.0)):
        for k in range(12):
            rows.append({"disease": disease, "control_of": -1, names[0]: random.normal(shift)})
            rows += [{"disease": disease, "control_of": k, names[0]: random.normal()} for _ in range(3)]
    table: Any = pd.DataFrame(rows)
    table[names[1]] = random.integers(0, 4, len(table))  # with ties
    table[names[2]] = 1.0
    found: Any = effects(table).set_index(["disease", "feature"])
    assert found.index.tolist() == [(disease, name) for disease in ("Effusion", "Mass") for name in names[:2]]
    p = []
    for (disease, name), row in found.iterrows():
        part = table[table["disease"] == disease]
        ill, normal = (part.loc[rows, name].tolist() for rows in (part["control_of"] < 0, part["control_of"] >= 0))
        signs = [np.sign(x - y) for x in ill for y in normal]
        assert row["delta"] == pytest.approx(np.mean(signs), abs=1e-12)
        assert (row["number"], row["controls"]) == (12, 36)
        assert (row["median"], row["median_normal"]) == (np.median(ill), np.median(normal))
        p.append(stats.mannwhitneyu(ill, normal).pvalue)
    assert found["p"].tolist() == pytest.approx(p, rel=1e-12)
    order = np.argsort(p)
    adjusted, last = np.empty(4), 1.0
    for rank in range(3, -1, -1):  # Benjamini and Hochberg, step by step from the largest
        last = min(last, p[order[rank]] * 4 / (rank + 1))
        adjusted[order[rank]] = last
    assert found["p_adjusted"].tolist() == pytest.approx(adjusted, rel=1e-12)

    table.loc[0, names[0]] = np.nan  # a box without features
    assert effects(table)["number"].tolist() == [12, 12, 11, 11]
    constant = table.assign(**{names[1]: 3.0})
    same = effects(constant).set_index("feature").loc[names[1]]
    assert (same["delta"] == 0).all() and (same["p"] == 1).all()
    assert effects(table[table["control_of"] < 0]).empty and effects(table.iloc[:0]).empty


def test_what_differs_is_found_and_nothing_else(images: NIHChestXray14) -> None:
    truth = true_boxes(images)
    table: Any
    table, measured = explain(images, truth, predicted(truth), device=CPU, seed=1)
    assert [*dict.fromkeys(table["boxes"])] == [TRUE, PREDICTED]
    assert not table["feature"].str.contains("shape2D").any() and len(table) == 2 * 2 * 93
    by: Any = table.set_index(["boxes", "disease", "feature"]).sort_index()
    for kind in (TRUE, PREDICTED):
        for name in ("Mean", "Median", "Minimum", "RootMeanSquared"):
            row = by.loc[(kind, "Mass", f"original_firstorder_{name}")]
            assert row["delta"] > 0.9 and row["p_adjusted"] < 1e-4, name
        # noise of equal spread, with levels relative to the range in the box: its texture is the same
        assert abs(by.loc[(kind, "Mass", "original_glcm_Contrast"), "delta"]) < 0.4
        nothing = table[(table["boxes"] == kind) & (table["disease"] == "Nodule")]
        assert (nothing["p_adjusted"] > 0.05).all()
    assert set(measured["boxes"]) == {TRUE, PREDICTED}
    for _, part in measured.groupby("boxes"):
        part = part.reset_index(drop=True)
        case = part.loc[part["control_of"].clip(lower=0)].reset_index(drop=True)
        same = part[[*BOX_COLUMNS]].to_numpy() == case[[*BOX_COLUMNS]].to_numpy()
        assert same[part["control_of"] >= 0].all() and (part["control_of"] < 0).sum() == 30


def test_few_boxes_none_and_fallbacks(images: NIHChestXray14) -> None:
    truth = true_boxes(images)
    few = truth.drop(truth.index[truth["disease"] == "Nodule"][FEWEST - 1 :])
    table, _ = explain(images, few, predicted(few).assign(fallback=True), device=CPU)
    assert set(table["disease"]) == {"Mass"} and set(table["boxes"]) == {TRUE}
    enough = truth.drop(truth.index[truth["disease"] == "Nodule"][FEWEST:])
    table, _ = explain(images, enough, predicted(enough).assign(fallback=True), device=CPU)
    assert set(table["disease"]) == {"Mass", "Nodule"}
    none, measured = explain(images, truth.iloc[:0], predicted(truth).iloc[:0], device=CPU)
    assert none.empty and measured.empty and [*none] == [*table]
