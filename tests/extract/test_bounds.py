"""Bounds on the memory that an extraction holds, and bad regions beside good images."""

import threading
import weakref

import numpy as np
import pytest
import torch

pytest.importorskip("pandas")
import pandas as pd

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.extract import folder
from kacl_gpu.extract.folder import extract

SIDE = 100


class Source:
    """Images for the names of empty files, and how many of them are held at most."""

    def __init__(self) -> None:
        self.count = self.peak = 0
        self.lock = threading.Lock()

    def read(self, path, *_, **__):
        image = np.random.default_rng(int(path.stem)).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
        with self.lock:
            self.count += 1
            self.peak = max(self.peak, self.count)
        weakref.finalize(image, self.release)
        return image, (1.0 + int(path.stem), 0.5)

    def release(self) -> None:
        with self.lock:
            self.count -= 1


@pytest.fixture
def source(monkeypatch) -> Source:
    source = Source()
    monkeypatch.setattr(folder, "read_image", source.read)
    return source


def files(path, count):
    path.mkdir()
    for n in range(count):
        (path / f"{n:02}.png").touch()
    return path


def test_images_that_wait_take_no_more_memory_than_allowed(tmp_path, monkeypatch, source) -> None:
    monkeypatch.setattr(folder, "MEMORY", 5 * SIDE * SIDE)
    settings = RadiomicsSettings(feature_class=("firstorder",))
    summary = extract(
        files(tmp_path / "in", 50), tmp_path / "out.csv", settings=settings, batch_size=20, workers=1, device="cpu"
    )
    assert summary.regions == 50
    # Five decoded ahead, six gathered for a batch, one on its way from here to there
    assert source.peak <= 12


def test_spacing_stays_with_its_image_beside_a_bad_region(tmp_path, source) -> None:
    rows = ["image,label,x1,y1,x2,y2"] + [f"{n:02}.png,a,{60 if n == 1 else 5},5,40,50" for n in range(5)]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    settings = RadiomicsSettings(feature_class=("shape2D", "firstorder"))
    extract(
        files(tmp_path / "in", 5), tmp_path / "out.csv", boxes=tmp_path / "boxes.csv", settings=settings, device="cpu"
    )
    table = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert table["image"].tolist() == ["00.png", "02.png", "03.png", "04.png"]
    for row in table.to_dict("records"):
        image, spacing = source.read(tmp_path / row["image"])
        expected = gpu_radiomics(
            torch.from_numpy(image)[None],
            torch.tensor([[5, 5, 40, 50]]),
            settings=settings,
            spacing=spacing,
            dtype=torch.float64,
        )
        assert [float(row[name]) for name in feature_names(settings)] == expected[0].tolist()
