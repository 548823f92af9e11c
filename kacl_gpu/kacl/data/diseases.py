"""Findings of chest X-rays, and the part of the body of each, which makes two findings hard to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kacl_gpu.errors import InputError

NO_FINDING = "No Finding"

# The chest knowledge graph of Zhang et al., "When Radiology Report Generation Meets Knowledge Graph", AAAI 2020, as the
# paper uses it (Han et al., WACV 2022, figure 4), for the fourteen labels of NIH ChestX-ray14
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

# Further names, of CheXpert and VinDr-CXR, by anatomy
PUBLISHED_PART = {
    "Lung Opacity": "lung",
    "Lung Lesion": "lung",
    "Pleural Effusion": "pleura",
    "Pleural Other": "pleura",
    "Enlarged Cardiomediastinum": "mediastinum",
    "Fracture": "bone",
    "Support Devices": "device",
    "Aortic enlargement": "mediastinum",
    "Enlarged PA": "mediastinum",
    "Mediastinal shift": "mediastinum",
    "Calcification": "lung",
    "COPD": "lung",
    "ILD": "lung",
    "Lung cavity": "lung",
    "Lung cyst": "lung",
    "Lung tumor": "lung",
    "Nodule/Mass": "lung",
    "Pulmonary fibrosis": "lung",
    "Tuberculosis": "lung",
    "Pleural effusion": "pleura",
    "Pleural thickening": "pleura",
    "Clavicle fracture": "bone",
    "Rib fracture": "bone",
    "Other lesion": "other",
    "Other disease": "other",
    "Other diseases": "other",
}

ALL_DISEASES = tuple(BODY_PART)  # the fourteen labels of Data_Entry_2017.csv
DISEASES = ALL_DISEASES[:8]  # those with boxes in BBox_List_2017.csv: the paper's


def body_parts(findings: Sequence[str], parts: Mapping[str, str] | None = None) -> Tensor:
    """Return the body part of each finding as an index (F,), int64; equal indices are equal parts.

    Args:
        findings: names of findings, once each. "No Finding" is allowed and has the index -1, of no part.
        parts: body parts of further findings, or other ones than `BODY_PART` and `PUBLISHED_PART` give; any words.

    Raises:
        InputError: no finding, one that is named twice, or one whose part is not known.

    Example:
        >>> body_parts(["Mass", "Effusion", "Nodule"])
        tensor([0, 1, 0])
        >>> body_parts(["Mass", "Scoliosis", "No Finding"], {"Scoliosis": "bone"})
        tensor([ 1,  0, -1])
    """
    if not findings or len(set(findings)) < len(findings):
        raise InputError(f"findings must be named, and once each: {', '.join(findings) or 'none'}")
    known = {**BODY_PART, **PUBLISHED_PART, **(parts or {})}
    if unknown := [name for name in findings if name not in known and name != NO_FINDING]:
        entries = ", ".join(f"{name}: PART" for name in unknown)
        raise InputError(
            f"no body part is known of {', '.join(unknown)}: name it in model.body_parts ({{{entries}}}), "
            f"or correct the spelling; known are {', '.join(known)}"
        )
    order = sorted({known[name] for name in findings if name != NO_FINDING})
    return torch.tensor([-1 if name == NO_FINDING else order.index(known[name]) for name in findings])


def check_diseases(diseases: Sequence[str], findings: Sequence[str]) -> None:
    """Raise unless diseases are named, once each, and are findings of the data or "No Finding".

    Raises:
        InputError: one is not.

    Example:
        >>> check_diseases(["Mass", "No Finding"], ALL_DISEASES)
    """
    if not diseases or len(set(diseases)) < len(diseases):
        raise InputError(f"diseases must be named, and once each: {', '.join(diseases) or 'none'}")
    if unknown := [name for name in diseases if name not in (*findings, NO_FINDING)]:
        raise InputError(f"unknown diseases: {', '.join(unknown)}; the data know {', '.join(findings)}, {NO_FINDING}")
