"""Chest X-rays with labels and boxes for PyTorch Lightning. Needs the extras ``io`` and ``train``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, distributed
from torch.utils.data import DataLoader, DistributedSampler

from kacl_gpu.errors import InputError, check_choice
from kacl_gpu.kacl.data.annotations import Annotations
from kacl_gpu.kacl.data.augment import Augment, Augmented, EpochSampler
from kacl_gpu.kacl.data.dataset import WHITE, ChestXrayImages, ChestXrayTable, NIHChestXray14, Normal, check_root
from kacl_gpu.kacl.data.diseases import ALL_DISEASES, DISEASES, check_diseases
from kacl_gpu.kacl.data.split import read_split, split_patients, write_split
from kacl_gpu.kacl.data.tables import Missing, read_annotations

Batch = dict[str, Tensor]
DataFormat = Literal["nih", "table", "chexpert", "vindr", "rsna"]


class ChestXrays(LightningDataModule):
    """Provide training, validation and test images in batches, by the paper's split.

    The order of training depends on seed and epoch alone, so a resumed run repeats it, and several processes share the
    batches of one process: batch by batch the same images, if `batch_size` times the number of processes is the same.
    Images that do not fill a batch are left out of that epoch. Validation and test keep the order of the table, every
    image once; with several processes the sampler repeats up to one image fewer than there are processes, so that all
    have equally many. Annotated images are part of training as the split has them.

    Attributes:
        findings: names of everything that the data knows, in the order of the findings.
        train, validation, test: the datasets, after `setup`.
        fingerprint: hash of the images and the set of each; equal splits have equal fingerprints.
        data_fingerprint: hash of the images, patients, labels and boxes.
    """

    train: ChestXrayImages
    validation: ChestXrayImages
    test: ChestXrayImages
    fingerprint: str
    data_fingerprint: str

    def __init__(
        self,
        root: str | Path,
        *,
        format: DataFormat = "nih",
        table: str | Path | None = None,
        boxes: str | Path | None = None,
        findings: Sequence[str] | None = None,
        missing: Missing = "ignored",
        max_value: float = WHITE,
        size: int = 224,
        diseases: Sequence[str] | None = None,
        normal: Normal = "no_finding",
        split_file: str | Path | None = None,
        augment: Augment = "none",
        seed: int = 0,
        batch_size: int = 64,
        workers: int = 2,
    ) -> None:
        """Keep the arguments; of formats other than nih the tables are read, no image is.

        Args:
            root: folder of the images: NIH ChestX-ray14 as downloaded, or made by ``kacl-gpu prepare``; for other
                formats with any subfolders.
            format: layout of the data: nih; table, a table of your own; chexpert, vindr or rsna, the published tables
                of CheXpert, VinDr-CXR and the RSNA pneumonia challenge.
            table: file of the labels, CSV or Parquet, as it stands or in the root; needed for format table, else the
                published name is the default.
            boxes: CSV file of the boxes for format table (columns image, label, and x1, y1, x2, y2 or x, y, w, h) or
                vindr.
            findings: names of all findings of a table of your own; by default all columns of labels, or all names in
                its lists.
            missing: meaning of a blank label in an image that is not normal: ignored, as an uncertain one (-1), or
                negative.
            max_value: intensity of white, by which the network's input is divided: 255 for images of 8 bits, 4095 of
                12, 65535 of 16. Radiomics are computed on the stored intensities.
            size: side of the images in pixels, to which they are resized. Images that were prepared at this size are
                not resized again.
            diseases: names of the diseases to classify, in the order of the labels: any findings, by default the
                paper's eight of NIH ChestX-ray14 and all findings of other data; "No Finding" may be one of them, whose
                label is that an image is normal.
            normal: images that count as normal: those labelled No Finding (no_finding), or all that have none of the
                diseases (none_of_the_diseases).
            split_file: CSV file with the split, written if it does not exist. Without it the split is drawn from the
                seed each time.
            augment: change of the training images in each epoch, the boxes with them: none (the paper's), light
                (rotation by up to 5 degrees, shift by up to 5 % and scale by up to 5 %), or strong (twice that, and
                mirrored every second time).
            seed: seed of the split, if it is drawn, of the order of training and of the augmentation.
            batch_size: number of images in a batch of one process.
            workers: number of processes that read images, for each of the three loaders; 0: the training process
                itself.

        Raises:
            InputError: size or batch_size below 1, workers below 0, a setting that is not one of the format, a table
                that cannot be used, or a disease that the data do not know.

        Example:
            >>> ChestXrays("ChestXray14", batch_size=16).hparams["size"]
            224
        """
        super().__init__()
        for name, number, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("size", size, 1)):
            if number < least:
                raise InputError(f"{name} must be at least {least}, got {number}")
        if not max_value > 0:
            raise InputError(f"max_value must be positive, got {max_value}")
        for setting, value, choices in (
            ("format", format, DataFormat),
            ("missing", missing, Missing),
            ("normal", normal, Normal),
            ("augment", augment, Augment),
        ):
            check_choice(setting, value, choices)
        self.root = Path(root)
        self.annotations: Annotations | None = None
        if format == "nih":
            of_tables = {"table": table, "boxes": boxes}
            if foreign := [f"data.{name}" for name, value in of_tables.items() if value is not None]:
                raise InputError(
                    f"{', '.join(foreign)}: not for NIH ChestX-ray14, whose files have names of their own; a table of "
                    "your own needs data.format table"
                )
            if max_value != WHITE:
                raise InputError(f"the images of NIH ChestX-ray14 have 8 bits, so max_value is 255, not {max_value}")
            self.findings: tuple[str, ...] = ALL_DISEASES
        else:
            check_root(self.root)
            self.annotations = read_annotations(
                self.root,
                format,
                table=table,
                boxes=boxes,
                findings=findings if format == "table" else None,
                missing=missing,
            )
            self.findings = self.annotations.findings
        if findings is not None and tuple(findings) != self.findings:
            raise InputError(
                f"data.findings is for data.format table; the findings of {format} are {', '.join(self.findings)}"
            )
        self.diseases = tuple((DISEASES if format == "nih" else self.findings) if diseases is None else diseases)
        check_diseases(self.diseases, self.findings)
        # In a checkpoint; plain types, which load without running code
        self.save_hyperparameters(
            {
                "root": str(root),
                "format": format,
                "table": None if table is None else str(table),
                "boxes": None if boxes is None else str(boxes),
                "findings": list(self.findings),
                "missing": missing,
                "max_value": float(max_value),
                "size": size,
                "diseases": list(self.diseases),
                "normal": normal,
                "split_file": None if split_file is None else str(split_file),
                "augment": augment,
                "seed": seed,
                "batch_size": batch_size,
                "workers": workers,
            }
        )
        self.prepare_data_per_node = False  # global rank zero alone writes the split file
        self.max_value = float(max_value)
        self.size = size
        self.normal: Normal = normal
        self.split_file = None if split_file is None else Path(split_file)
        self.augment: Augment = augment
        self.seed = seed
        self.batch_size = batch_size
        self.workers = workers

    def prepare_data(self) -> None:
        """Write the split file if it does not exist; Lightning calls this in one process, and the others wait."""
        if self.split_file is not None and not self.split_file.exists():
            table = self.open().table
            write_split(self.split_file, table, split_patients(table, self.seed))

    def setup(self, stage: str | None = None) -> None:
        """Open the three datasets, whatever the stage.

        Raises:
            InputError: see `NIHChestXray14`, `ChestXrayTable` and `kacl_gpu.kacl.data.split.read_split`; the split file
                is missing; in one of several processes something of this, or other images, labels, boxes or sets than
                in the first.
        """
        problem = None
        try:
            images = self.open()
            split = self._split(images.table)
            if self.annotations is not None:
                images[0]  # of more than 8 bits?
        except InputError as error:
            problem = error
        if problem is None:
            rows = sorted(zip(images.table["image"], split))
            self.fingerprint = hashlib.sha256(repr(rows).encode()).hexdigest()
            self.data_fingerprint = _fingerprint(images)
            _compare_processes({"split": self.fingerprint, "data": self.data_fingerprint})
        else:
            _compare_processes({"problem": str(problem)})
            raise problem
        rank_zero_info(str(images.inventory))
        if images.prepared and images.stored_side != self.size:
            rank_zero_info(
                f"the images were prepared at {images.stored_side} pixels and are resized to {self.size} each time "
                f"they are read: kacl-gpu prepare --size {self.size} saves that"
            )
        self.train, self.validation, self.test = (
            images.select((split == name).to_numpy().nonzero()[0]) for name in ("train", "validation", "test")
        )

    def _split(self, table: pd.DataFrame) -> pd.Series[str]:
        """Return the set of each image, from the file if one is named."""
        if self.split_file is None:
            return split_patients(table, self.seed)
        if not self.split_file.exists():
            raise InputError(
                f"no such split file: {self.split_file}: prepare_data writes it in the first process only, so it must "
                "lie in a folder that all nodes share, or be copied to each"
            )
        return read_split(self.split_file, table)

    def state_dict(self) -> dict[str, Any]:
        """Return the identity of the training data beyond the settings, for a checkpoint."""
        return {"split": self.fingerprint, "data": self.data_fingerprint, "images_a_step": self._images_a_step()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise InputError if this data would not go on as that of the checkpoint did."""
        saved, current = state_dict, self.state_dict()
        if saved["split"] != current["split"]:
            raise InputError("the checkpoint was trained on another split, or on other images")
        if saved["data"] != current["data"]:
            raise InputError("the checkpoint was trained with other labels, patients or boxes of the same images")
        if saved["images_a_step"] != current["images_a_step"]:
            raise InputError(
                f"the checkpoint was trained with {saved['images_a_step']} images a step over all processes, "
                f"now it would be {current['images_a_step']}: change data.batch_size"
            )

    def _images_a_step(self) -> int:
        shared = distributed.is_available() and distributed.is_initialized()
        return self.batch_size * (distributed.get_world_size() if shared else 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training images; raise InputError if they do not fill one batch."""
        images = self.train if self.augment == "none" else Augmented(self.train, self.augment, self.seed)
        loader = self._loader(images, training=True)
        if not len(loader):
            raise InputError(f"{len(self.train)} training images do not fill a batch of {self.batch_size} a process")
        return loader

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the validation images."""
        return self._loader(self.validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the test images."""
        return self._loader(self.test)

    def open(self) -> ChestXrayImages:
        """Return all images as one dataset.

        Raises:
            InputError: see `NIHChestXray14` and `ChestXrayTable`.
        """
        if self.annotations is None:
            return NIHChestXray14(self.root, size=self.size, diseases=self.diseases, normal=self.normal)
        return ChestXrayTable(
            self.root,
            annotations=self.annotations,
            size=self.size,
            diseases=self.diseases,
            normal=self.normal,
            max_value=self.max_value,
        )

    def _loader(self, images: ChestXrayImages | Augmented, *, training: bool = False) -> DataLoader[Batch]:
        shared = distributed.is_available() and distributed.is_initialized()
        kind = EpochSampler if isinstance(images, Augmented) else DistributedSampler
        sampler: DistributedSampler[Batch] = kind(
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


def _fingerprint(images: ChestXrayImages) -> str:
    """Return a hash of the images, patients, labels and boxes, in whatever order."""
    columns = ["image", "patient", "normal", *images.findings]
    table = images.table[columns].sort_values("image")
    boxes = images.boxes.drop(columns="row").sort_values(["image", "disease", "x1", "y1", "x2", "y2"])
    texts = [frame.to_csv(index=False, float_format="%.6g") for frame in (table, boxes)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def _compare_processes(own: dict[str, str]) -> None:
    """Raise in every process of a group unless all opened the same data, with the same split."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    each: list[dict[str, str]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(each, own)
    for rank, other in enumerate(each):
        if "problem" in other:
            raise InputError(f"process {rank}: {other['problem']}")
    for name in ("data", "split"):
        if ranks := [str(rank) for rank, other in enumerate(each) if other[name] != each[0][name]]:
            raise InputError(
                f"process {', '.join(ranks)} of {len(each)} has {_DIFFERENCES[name]} than process 0: "
                "make the folder and the split file of all nodes the same"
            )


_DIFFERENCES = {"data": "other images, labels or boxes", "split": "another split"}
