"""What tests of the evaluation share: a checkpoint as training writes it, of a network that learnt nothing."""

from pathlib import Path

import lightning
import torch

from kacl_gpu.kacl.data.datamodule import ChestXrays
from kacl_gpu.kacl.model import KACL


def untrained(path: Path, root: Path, *, seed: int = 0, size: int = 64, **settings: object) -> Path:
    """Write a checkpoint whose images are those under ``root``; the settings are those of the model."""
    torch.manual_seed(seed)
    model = KACL(weights=None, **settings).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # so that probabilities differ, and heatmaps are not all alike
    data = ChestXrays(root, size=size, diseases=model.diseases, seed=seed, batch_size=8, workers=0)
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
        "epoch": 0,
        "pytorch-lightning_version": lightning.__version__,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
    return path
