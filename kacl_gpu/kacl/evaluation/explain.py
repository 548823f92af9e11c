"""Effect sizes of radiomic features inside the boxes of each disease, against the same places in normal images.

A box of Cardiomegaly is large, in the middle, and bright; one of a Nodule is small. Compared with the boxes of other
diseases, most features would tell size and place and nothing of the disease. So the features of a box are compared with
those of the same box put on normal images, of other patients, and of the same view (AP or PA) where the table has it:
size, place and view are the same on both sides, and so are the features of the box's shape, which are left out. What
stays are the disease and whatever else distinguishes the images that have it: what else is wrong with them, tubes and
cables, the exposure.

The effect size is Cliff's delta (Cliff, "Dominance statistics: ordinal analyses to answer ordinal questions",
Psychological Bulletin 114, 1993): the probability that the feature is larger in the disease, less the probability that
it is smaller; from -1 to 1. It is of ranks, as features span many orders of magnitude with long tails, and comes from
the statistic U of the Mann-Whitney test beside it. The p values are adjusted over all diseases and features together
(Benjamini and Hochberg, 1995). They take boxes for independent, which several boxes of a patient are not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import stats

from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.radiomics.api import feature_names, gpu_radiomics
from kacl_gpu.radiomics.settings import RadiomicsSettings

from ..byop import BYOP_SETTINGS
from ..data.dataset import ChestXrayImages
from .measures import ordered

CONTROLS = 4  # normal images for each box
FEWEST = 5  # boxes of a disease: fewer are not compared
TRUE, PREDICTED = "true boxes", "predicted boxes"
COLUMNS = (
    "boxes", "disease", "feature", "number", "controls", "median", "median_normal", "delta", "p", "p_adjusted",
)  # fmt: skip


def explain(
    images: ChestXrayImages, truth: pd.DataFrame, boxes: pd.DataFrame, *, device: torch.device, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return effect sizes over the true boxes, and over the top boxes that were predicted in their place.

    Args:
        images: with the boxes' images and the normal ones.
        truth, boxes: of `kacl_gpu.kacl.evaluation.predictions`; a fallback to the whole image is no box here.
        device: that computes the features.
        seed: of the choice of normal images.

    Returns:
        The table of :func:`effects` of both kinds of boxes, named in its column ``boxes``; and the features that it was
        made of: boxes, disease, image, control_of (the row, counted among those of this kind of boxes, whose box was
        put on this normal image; -1 for the disease itself), x1 ... y2, and the features under PyRadiomics' names.

    Example:
        >>> from kacl_gpu.kacl.data.dataset import NIHChestXray14
        >>> from kacl_gpu.kacl.evaluation.predictions import true_boxes
        >>> images = NIHChestXray14(phantoms)  # the folder of `kacl-gpu phantom`
        >>> truth = true_boxes(images).query("disease == 'Pneumonia'")
        >>> table, _ = explain(images, truth, truth.assign(rank=0, fallback=False), device=torch.device("cpu"))
        >>> [*dict.fromkeys(table["boxes"])]
        ['true boxes', 'predicted boxes']
    """
    keys = ["image", "patient", "disease"]
    top = boxes[(boxes["rank"] == 0) & ~boxes["fallback"].astype(bool)]
    top = truth[keys].drop_duplicates().merge(top, on=keys)
    compared, measured = [], []
    for kind, regions in ((TRUE, truth), (PREDICTED, top)):
        number = regions.groupby("disease")["image"].transform("size")
        regions = regions.loc[number >= FEWEST, [*keys, *BOX_COLUMNS]].reset_index(drop=True)
        rows = pd.concat([regions.assign(control_of=-1), controls(images, regions, seed)], ignore_index=True)
        table = pd.concat([rows, features(images, rows, device)], axis=1)
        compared.append(effects(table).assign(boxes=kind))
        measured.append(table.assign(boxes=kind))
    order = ["boxes", "disease", "image", "control_of", *BOX_COLUMNS, *feature_names(BYOP_SETTINGS)]
    return pd.concat(compared, ignore_index=True)[[*COLUMNS]], pd.concat(measured, ignore_index=True)[order]


def controls(images: ChestXrayImages, regions: pd.DataFrame, seed: int = 0, number: int = CONTROLS) -> pd.DataFrame:
    """Put the boxes of regions on normal images drawn at random, of other patients, and of the same view if known.

    Args:
        regions: image, patient, disease, x1, y1, x2, y2.
        number: of normal images for each region; fewer where there are not as many.

    Returns:
        The same columns, and control_of: the row of ``regions``.

    Example:
        >>> from kacl_gpu.kacl.data.dataset import NIHChestXray14
        >>> images = NIHChestXray14(phantoms)  # the folder of `kacl-gpu phantom`
        >>> image, patient = images.table.loc[~images.table["normal"], ["image", "patient"]].iloc[0]
        >>> regions = pd.DataFrame({"image": [image], "patient": [patient], "disease": ["Mass"]})
        >>> controls(images, regions.assign(x1=0, y1=0, x2=9, y2=9), number=2)["control_of"].tolist()
        [0, 0]
    """
    table = images.table
    normal = table[table["normal"]].reset_index(drop=True)
    view = dict(zip(table["image"], table["view"])) if "view" in table else {}
    random = np.random.default_rng(seed)
    rows = []
    for k, region in enumerate(regions.to_dict("records")):
        usable = normal["patient"] != region["patient"]
        if view:
            usable &= normal["view"] == view[region["image"]]
        places = np.flatnonzero(usable)
        for place in random.permutation(places)[:number]:
            control = normal.loc[place, ["image", "patient"]].to_dict()
            rows.append({**region, **control, "control_of": k})
    return pd.DataFrame(rows, columns=[*regions.columns, "control_of"])


def features(
    images: ChestXrayImages,
    regions: pd.DataFrame,
    device: torch.device,
    settings: RadiomicsSettings = BYOP_SETTINGS,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Compute radiomic features of boxes, on the intensities as stored, at the size of the returned images.

    Args:
        regions: image, x1, y1, x2, y2.
        batch_size: images at once.

    Returns:
        A row for each region, in this order, NaN where a region has none; the columns are PyRadiomics' names.

    Example:
        >>> from kacl_gpu.kacl.data.dataset import NIHChestXray14
        >>> images = NIHChestXray14(phantoms)  # the folder of `kacl-gpu phantom`
        >>> regions = images.table[["image"]].assign(x1=4, y1=4, x2=20, y2=20)
        >>> settings = RadiomicsSettings(bin_count=32, feature_class={"firstorder": ["Mean"]})
        >>> features(images, regions, torch.device("cpu"), settings).shape
        (60, 1)
    """
    row = dict(zip(images.table["image"], range(len(images))))
    names = [*dict.fromkeys(regions["image"])]
    number = {name: k for k, name in enumerate(names)}
    place = regions["image"].map(number).to_numpy(int)
    corners = regions[[*BOX_COLUMNS]].to_numpy(float)
    columns = feature_names(settings)
    values = np.full((len(regions), len(columns)), np.nan)
    for first in range(0, len(names), batch_size):
        part = np.flatnonzero((place >= first) & (place < first + batch_size))
        pixels = torch.stack([images[row[name]]["image"] for name in names[first : first + batch_size]]).to(device)
        boxes = torch.tensor(np.column_stack([place[part] - first, corners[part]]), device=device)
        computed = gpu_radiomics(pixels, boxes, settings=settings, invalid="nan", dtype=torch.float64)
        values[part] = computed.cpu().numpy()
    return pd.DataFrame(values, columns=[*columns])


def effects(table: pd.DataFrame) -> pd.DataFrame:
    """Compare each disease's features with those of its controls.

    Args:
        table: disease, control_of (-1: not a control) and the features; rows without features are left out.

    Returns:
        disease, feature (of all classes but shape), number (of boxes), controls, the medians of both, delta, p
        (Mann-Whitney, two-sided) and p_adjusted; a disease without controls is left out.

    Example:
        >>> table = pd.DataFrame({"disease": "Mass", "control_of": [-1, -1, 0, 1]})
        >>> effects(table.assign(original_firstorder_Mean=[5.0, 6.0, 1.0, 2.0]))["delta"].tolist()
        [1.0]
    """
    names = [name for name in table.columns if str(name).startswith("original_") and "_shape2D_" not in str(name)]
    table = table[table[names].notna().all(axis=1)]
    parts = []
    for disease in ordered(table["disease"]):
        rows = table[table["disease"] == disease]
        control = (rows["control_of"] >= 0).to_numpy()
        ill, normal = rows.loc[~control, names].to_numpy(float), rows.loc[control, names].to_numpy(float)
        if not len(ill) or not len(normal):
            continue
        test = stats.mannwhitneyu(ill, normal, axis=0)
        delta = 2 * test.statistic / (len(ill) * len(normal)) - 1
        parts.append(
            pd.DataFrame(
                {
                    "disease": disease,
                    "feature": names,
                    "number": len(ill),
                    "controls": len(normal),
                    "median": np.median(ill, axis=0),
                    "median_normal": np.median(normal, axis=0),
                    "delta": delta,
                    "p": np.where(np.isnan(test.pvalue), 1.0, test.pvalue),  # all equal: NaN since SciPy 1.18
                }
            )
        )
    if not parts:
        return pd.DataFrame(columns=[*COLUMNS[1:]])
    compared = pd.concat(parts, ignore_index=True)
    return compared.assign(p_adjusted=stats.false_discovery_control(compared["p"]))
