"""The findings of NIH ChestX-ray14 and the part of the body of each, which makes two diseases hard to tell apart.

The parts are those of the chest knowledge graph of Zhang et al., "When Radiology Report Generation Meets Knowledge
Graph", AAAI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NO_FINDING = "No Finding"

BODY_PART = {
    "Atelectasis": "lung",
    "Cardiomegaly": "heart",
    "Effusion": "pleura",
    "Infiltration": "lung",
    "Mass": "lung",
    "Nodule": "lung",
    "Pneumonia": "lung",
    "Pneumothorax": "pleura",
    "Consolidation": "lung",
    "Edema": "lung",
    "Emphysema": "lung",
    "Fibrosis": "lung",
    "Pleural_Thickening": "pleura",
    "Hernia": "mediastinum",
}

ALL_DISEASES = tuple(BODY_PART)  # the fourteen labels of Data_Entry_2017.csv
DISEASES = ALL_DISEASES[:8]  # those with boxes in BBox_List_2017.csv: the paper's


def body_parts(diseases: Sequence[str]) -> Tensor:
    """Return the body part of each disease as an index (C,), int64; equal indices are equal parts.

    Raises:
        ValueError: none, one that is named twice, or one that NIH ChestX-ray14 does not know.

    Example:
        >>> body_parts(["Mass", "Effusion", "Nodule"])
        tensor([1, 3, 1])
    """
    if not diseases or len(set(diseases)) < len(diseases):
        raise ValueError(f"diseases must be named, and once each: {', '.join(diseases) or 'none'}")
    unknown = [name for name in diseases if name not in BODY_PART]
    if unknown:
        raise ValueError(f"unknown diseases: {', '.join(unknown)}; known are {', '.join(BODY_PART)}")
    parts = sorted(set(BODY_PART.values()))
    return torch.tensor([parts.index(BODY_PART[name]) for name in diseases])
