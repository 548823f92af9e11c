"""The results that the paper prints: Tables 1, 2 and 3 of Han et al., WACV 2022, with every system compared there.

The numbers stand in ``paper/*.csv``, as printed. They are of the whole NIH ChestX-ray14, on the paper's own drawing of
the split; beside results on other data they are marked as not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

SOURCE = "Han et al., WACV 2022 (arXiv 2104.04968)"
# The whole of NIH ChestX-ray14: images, patients, and images with boxes
FULL_SET = {"images": 112_120, "patients": 30_805, "annotated": 880}
NOT_COMPARABLE = "not comparable"

PAPER = Path(__file__).parent / "paper"


def published_auc() -> pd.DataFrame:
    """Return the AUC of Table 1, and below that of the variants of Table 3: system, a column per disease, Mean.

    Example:
        >>> published_auc().set_index("system").loc["KACL (Han et al. 2022)", ["Mass", "Mean"]].tolist()
        [0.87, 0.838]
    """
    compared = pd.read_csv(PAPER / "table1_auc.csv").rename(columns={"method": "system"})
    variants = pd.read_csv(PAPER / "table3_ablation_auc.csv").rename(columns={"variant": "system"})
    variants["system"] = "KACL's variant " + variants["system"]
    return pd.concat([compared, variants], ignore_index=True)


def published_localisation() -> pd.DataFrame:
    """Return the shares of boxes of Table 2: iou_above, system, a column per disease, Mean.

    Example:
        >>> table = published_localisation()
        >>> table.loc[table["system"] == "KACL (Han et al. 2022)", "Mean"].tolist()
        [0.746, 0.633, 0.5, 0.385, 0.284, 0.206, 0.133]
    """
    return pd.read_csv(PAPER / "table2_localisation.csv").rename(columns={"method": "system"})


def is_full_set(*parts: pd.DataFrame) -> bool:
    """Return True if data are the whole of NIH ChestX-ray14, by the number of images, patients and annotated images.

    Args:
        parts: tables of the sets of a split, with the columns image, patient and annotated.

    Example:
        >>> is_full_set(pd.DataFrame({"image": ["a.png"], "patient": [1], "annotated": [False]}))
        False
    """
    table = pd.concat([part[["image", "patient", "annotated"]] for part in parts])
    numbers = {"images": table["image"].nunique(), "patients": table["patient"].nunique()}
    return {**numbers, "annotated": int(table["annotated"].sum())} == FULL_SET


def published_rows(table: pd.DataFrame, diseases: Sequence[str], full: bool) -> list[list[str]]:
    """Return published numbers in words, with the digits of the paper: the system, each disease, and the mean.

    Args:
        table: rows of :func:`published_auc` or :func:`published_localisation`.
        diseases: columns of the result; "-" stands for a disease that the paper does not have.
        full: the data beside which they stand are the full set; otherwise each row is marked as not comparable.

    Example:
        >>> published_rows(published_auc()[:1], ["Mass", "Hernia"], full=False)
        [['*Wang et al. 2017, not comparable*', '*0.71*', '-', '*0.718*']]
    """
    mark = "" if full else f", {NOT_COMPARABLE}"
    return [
        [
            f"*{row['system']}{mark}*",
            *(f"*{row[name]:.2f}*" if name in row else "-" for name in diseases),
            f"*{row['Mean']:.3f}*",
        ]
        for row in table.to_dict("records")
    ]


def published_note(full: bool) -> str:
    """Return what the published rows are, and whether results beside them can be compared.

    Args:
        full: see :func:`published_rows`.

    Example:
        >>> published_note(full=False)[-76:]
        '**These data have other numbers, so the published rows are not comparable.**'
    """
    rule = f"{FULL_SET['images']:,} images of {FULL_SET['patients']:,} patients, {FULL_SET['annotated']} with boxes"
    words = f"In italics: {SOURCE}, which is on NIH ChestX-ray14 ({rule}). Each mean is over the diseases of its row. "
    if full:
        return words + "These data have those numbers; the split is another drawing of the paper's shares."
    return words + f"**These data have other numbers, so the published rows are {NOT_COMPARABLE}.**"
