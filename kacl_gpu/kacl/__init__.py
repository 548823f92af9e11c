"""KACL (Han et al., WACV 2022): contrastive learning on chest X-rays with radiomic features from a feedback loop."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boxes import components, heatmap_boxes
    from .byop import BYOP, Positives
    from .cam import GradCAM, check_head_cam, head_cam, heatmaps
    from .data.datamodule import ChestXrays
    from .data.dataset import ChestXrayTable, NIHChestXray14
    from .encoders import ImageEncoder, OwnEncoder, Projector, RadiomicEncoder, standardise
    from .losses import alignment, contrastive_loss, cross_entropy, draw_disease, focal_loss
    from .model import KACL
    from .normaliser import FeatureNormaliser

__all__ = [
    "BYOP",
    "KACL",
    "ChestXrayTable",
    "ChestXrays",
    "FeatureNormaliser",
    "GradCAM",
    "ImageEncoder",
    "NIHChestXray14",
    "OwnEncoder",
    "Positives",
    "Projector",
    "RadiomicEncoder",
    "alignment",
    "check_head_cam",
    "components",
    "contrastive_loss",
    "cross_entropy",
    "draw_disease",
    "focal_loss",
    "head_cam",
    "heatmap_boxes",
    "heatmaps",
    "standardise",
]

# BYOP and the losses need nothing but torch; the others need the extra `train`, and are slow to import
_HOMES = {
    "boxes": ("components", "heatmap_boxes"),
    "byop": ("BYOP", "Positives"),
    "cam": ("GradCAM", "check_head_cam", "head_cam", "heatmaps"),
    "data.datamodule": ("ChestXrays",),
    "data.dataset": ("ChestXrayTable", "NIHChestXray14"),
    "encoders": ("ImageEncoder", "OwnEncoder", "Projector", "RadiomicEncoder", "standardise"),
    "losses": ("alignment", "contrastive_loss", "cross_entropy", "draw_disease", "focal_loss"),
    "model": ("KACL",),
    "normaliser": ("FeatureNormaliser",),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
