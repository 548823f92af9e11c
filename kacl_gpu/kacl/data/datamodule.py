"""NIH ChestX-ray14 for PyTorch Lightning. Needs the extras ``io`` and ``train``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler

from kacl_gpu.errors import InputError
from kacl_gpu.kacl.data.dataset import NIHChestXray14, Normal
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, DISEASES, check_diseases
from kacl_gpu.kacl.data.split import read_split, split_patients, write_split

Batch = dict[str, Tensor]


class ChestXrays(LightningDataModule):
    """Provide training, validation and test images of NIH ChestX-ray14 in batches, by the paper's split.

    The order of training depends on seed and epoch alone, so a resumed run repeats it, and several processes share the
    batches of one process: batch by batch the same images, if `batch_size` times the number of processes is the same.
    Images that do not fill a batch are left out of that epoch. Validation and test keep the order of the table, every
    image once; with several processes the sampler repeats up to one image fewer than there are processes, so that all
    have equally many. Annotated images are part of training as the split has them.

    Attributes:
        findings: names of everything that the data knows, in the order of the findings.
        train, validation, test: the datasets, after `setup`.
        fingerprint: hash of the images and the set of each; equal splits have equal fingerprints.
    """

    train: NIHChestXray14
    validation: NIHChestXray14
    test: NIHChestXray14
    fingerprint: str

    def __init__(
        self,
        root: str | Path,
        *,
        size: int = 224,
        diseases: Sequence[str] = DISEASES,
        normal: Normal = "no_finding",
        split_file: str | Path | None = None,
        seed: int = 0,
        batch_size: int = 64,
        workers: int = 2,
    ) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            root: folder of NIH ChestX-ray14 as downloaded, or made by ``kacl-gpu prepare``.
            size: side of the images in pixels, to which they are resized.
            diseases: names of the diseases to classify, in the order of the labels: the paper's eight, or any of the
                fourteen; "No Finding" may be one of them, whose label is that an image is normal.
            normal: images that count as normal: those labelled No Finding (no_finding), or all that have none of the
                diseases (none_of_the_diseases).
            split_file: CSV file with the split, written if it does not exist. Without it the split is drawn from the
                seed each time.
            seed: seed of the split, if it is drawn, and of the order of training.
            batch_size: number of images in a batch of one process.
            workers: number of processes that read images, for each of the three loaders; 0: the training process
                itself.

        Raises:
            InputError: size or batch_size below 1, workers below 0, or a disease that the data do not know.

        Example:
            >>> ChestXrays("ChestXray14", batch_size=16).hparams["size"]
            224
        """
        super().__init__()
        for name, number, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("size", size, 1)):
            if number < least:
                raise InputError(f"{name} must be at least {least}, got {number}")
        check_diseases(diseases, ALL_DISEASES)
        # In a checkpoint; plain types, which load without running code
        self.save_hyperparameters(
            {
                "root": str(root),
                "size": size,
                "diseases": list(diseases),
                "normal": normal,
                "split_file": None if split_file is None else str(split_file),
                "seed": seed,
                "batch_size": batch_size,
                "workers": workers,
            }
        )
        self.prepare_data_per_node = False  # global rank zero alone writes the split file
        self.root = Path(root)
        self.size = size
        self.diseases = tuple(diseases)
        self.findings = ALL_DISEASES
        self.normal: Normal = normal
        self.split_file = None if split_file is None else Path(split_file)
        self.seed = seed
        self.batch_size = batch_size
        self.workers = workers

    def prepare_data(self) -> None:
        """Write the split file if it does not exist; Lightning calls this in one process, and the others wait."""
        if self.split_file is not None and not self.split_file.exists():
            table = self._open().table
            write_split(self.split_file, table, split_patients(table, self.seed))

    def setup(self, stage: str | None = None) -> None:
        """Open the three datasets, whatever the stage.

        Raises:
            InputError: see `NIHChestXray14` and `kacl_gpu.kacl.data.split.read_split`.
        """
        images = self._open()
        rank_zero_info(str(images.inventory))
        if self.split_file is not None and self.split_file.exists():
            split = read_split(self.split_file, images.table)
        else:
            split = split_patients(images.table, self.seed)
        rows = sorted(zip(images.table["image"], split))
        self.fingerprint = hashlib.sha256(repr(rows).encode()).hexdigest()
        self.train, self.validation, self.test = (
            images.select((split == name).to_numpy().nonzero()[0]) for name in ("train", "validation", "test")
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the identity of the training data beyond the settings, for a checkpoint."""
        return {"split": self.fingerprint, "images_a_step": self._images_a_step()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise InputError if this data would not go on as that of the checkpoint did."""
        before, now = state_dict, self.state_dict()
        if before["split"] != now["split"]:
            raise InputError("the checkpoint was trained on another split, or on other images")
        if before["images_a_step"] != now["images_a_step"]:
            raise InputError(
                f"the checkpoint was trained with {before['images_a_step']} images a step over all processes, "
                f"now it would be {now['images_a_step']}: change data.batch_size"
            )

    def _images_a_step(self) -> int:
        shared = distributed.is_available() and distributed.is_initialized()
        return self.batch_size * (distributed.get_world_size() if shared else 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training images; raise InputError if they do not fill one batch."""
        loader = self._loader(self.train, training=True)
        if not len(loader):
            raise InputError(f"{len(self.train)} training images do not fill a batch of {self.batch_size} a process")
        return loader

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.test)

    def _open(self) -> NIHChestXray14:
        return NIHChestXray14(self.root, size=self.size, diseases=self.diseases, normal=self.normal)

    def _loader(self, images: NIHChestXray14, *, training: bool = False) -> DataLoader[Batch]:
        shared = distributed.is_available() and distributed.is_initialized()
        sampler: DistributedSampler[Batch] = DistributedSampler(
            images,
            num_replicas=distributed.get_world_size() if shared else 1,
            rank=distributed.get_rank() if shared else 0,
            shuffle=training,
            seed=self.seed,
            drop_last=training,
        )
        return DataLoader(
            images,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.workers > 0,
            drop_last=training,
        )
