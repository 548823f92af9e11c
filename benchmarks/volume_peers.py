"""Other libraries on regions of volumes: ``python benchmarks/volume_peers.py NAME FILE.npz``, by a peer's interpreter.

It reads regions, computes all of them a few times, and prints one line of JSON: version, the features of each region by
PyRadiomics' names, and the seconds of every round. Like :mod:`benchmarks.peers` it needs nothing of the project: NumPy
alone is imported here.

All get the same regions, cut out of their volumes with a margin of one voxel, and bins of width 25. What a library
needs before (images of its own types) is prepared outside what is timed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

TEXTURE = ("glcm", "glrlm", "glszm", "ngtdm", "gldm")
ALL = ("firstorder", "shape", *TEXTURE)
BIN_WIDTH = 25.0


class Part(NamedTuple):
    """A region with a margin: intensities (D, H, W), which voxels belong to it, 0 or 1, and the spacing z, y, x."""

    values: NDArray[Any]
    inside: NDArray[np.uint8]
    spacing: tuple[float, float, float]


class PyRadiomics:
    """PyRadiomics 3.0.1 on the regions, so that it has no volume to look through for them."""

    package = "pyradiomics"
    stated = "execute() on images in memory, log off"
    prefix = "radiomics"

    def __init__(self, options: dict[str, Any]) -> None:
        importlib.import_module(self.prefix).setVerbosity(60)
        self.sitk = importlib.import_module("SimpleITK")
        self.sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        extractors = importlib.import_module(f"{self.prefix}.featureextractor")
        self.extractor = extractors.RadiomicsFeatureExtractor(binWidth=BIN_WIDTH, additionalInfo=False)
        self.extractor.enabledFeatures = {name: [] for name in ALL}

    def prepare(self, part: Part) -> Any:
        image = self.sitk.GetImageFromArray(part.values.astype(np.float64))
        mask = self.sitk.GetImageFromArray(part.inside)
        for one in (image, mask):
            one.SetSpacing([float(side) for side in part.spacing[::-1]])
        return image, mask

    def run(self, prepared: Any) -> dict[str, float]:
        values = self.extractor.execute(*prepared)
        return {name.removeprefix("original_"): float(np.real(value)) for name, value in values.items()}


class FlashRadiomics(PyRadiomics):
    """Flash-Radiomics on the CPU; what it would write to a file after each region is left out."""

    package = "flash-radiomics"
    stated = "SimpleITK images in memory, no HDF5 file, log off"

    def __init__(self, options: dict[str, Any]) -> None:
        library = importlib.import_module("flash_radiomics")
        library.setVerbosity(60)
        self.sitk = importlib.import_module("SimpleITK")
        self.extractor = library.RadiomicsFeatureExtractor(
            backend="cpu", num_threads=options["threads"], binWidth=BIN_WIDTH, additionalInfo=False
        )
        self.extractor.disableAllFeatures()
        for name in ALL:
            self.extractor.enableFeatureClassByName(name)

    def run(self, prepared: Any) -> dict[str, float]:
        case = self.extractor.preprocess_case(*prepared, label=1)
        values = self.extractor.extract_from_preprocessed(case)
        return {
            name.removeprefix("original_"): float(value)
            for name, value in values.items()
            if name.startswith("original_")
        }


class FastRad:
    """fastrad: PyTorch, on the CPU here."""

    package = "fastrad"
    stated = "tensors in memory"

    def __init__(self, options: dict[str, Any]) -> None:
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(options["threads"])
        self.library = importlib.import_module("fastrad")
        self.names = {name.lower(): name for name in options["names"]}

    def prepare(self, part: Part) -> Any:
        image, mask = (self.torch.from_numpy(array).float() for array in (part.values.astype(np.float32), part.inside))
        settings = self.library.FeatureSettings([*ALL], BIN_WIDTH, "cpu", spacing=part.spacing)
        extractor = self.library.FeatureExtractor(settings)
        return extractor, self.library.MedicalImage(image, part.spacing), self.library.Mask(mask, part.spacing)

    def run(self, prepared: Any) -> dict[str, float]:
        extractor, image, mask = prepared
        values = extractor.extract(image, mask)
        renamed = {}
        for name, value in values.items():
            plain = name.replace("th_p", "p").replace("_", "").replace(":", "_").lower()
            if plain in self.names:
                renamed[self.names[plain]] = float(value)
        return renamed


class Pictologics:
    """Pictologics: Numba; definitions of the IBSI, in which GLCM and GLRLM are of one matrix of all directions."""

    package = "pictologics"
    stated = "arrays in memory; compiled and warmed up; merged GLCM and GLRLM; the levels of PyRadiomics, made by it"
    # Codes of the IBSI that it writes in another way than the project's formulas do
    ALIASES: ClassVar[dict[str, str]] = {"KE2A": "KE2M", "P001": "5QRC", "1PFV": "1PR1"}

    def __init__(self, options: dict[str, Any]) -> None:
        os.environ["PICTOLOGICS_NUM_THREADS"] = str(options["threads"])
        self.features = importlib.import_module("pictologics.features")
        self.morphology = importlib.import_module("pictologics.features.morphology")
        self.loader = importlib.import_module("pictologics.loader")
        self.discretise = importlib.import_module("pictologics.preprocessing").discretise_image
        self.ibsi = options["ibsi"]

    def prepare(self, part: Part) -> Any:
        values = np.ascontiguousarray(part.values.T.astype(float))
        inside = np.ascontiguousarray(part.inside.T)
        geometry = {"spacing": part.spacing[::-1], "origin": (0.0, 0.0, 0.0)}
        return values, inside, self.loader.Image(array=inside, **geometry)

    def run(self, prepared: Any) -> dict[str, float]:
        values, inside, mask = prepared
        x = values[inside > 0]
        low = np.floor(x.min() / BIN_WIDTH) * BIN_WIDTH
        levels = self.discretise(values, "FBS", roi_mask=inside, bin_width=BIN_WIDTH, min_val=low)
        n_bins = int(levels[inside > 0].max())
        found: dict[str, float] = {}
        found |= self.features.calculate_intensity_features(x)
        found |= self.features.calculate_intensity_histogram_features(levels[inside > 0], n_bins)
        families = ["glcm", "glrlm", "glszm", "ngtdm", "ngldm"]
        found |= self.features.calculate_all_texture_features(levels, inside, n_bins, families=families)
        found |= self.morphology.calculate_morphology_features(mask)
        named = {}
        for name, value in found.items():
            code = name.rsplit("_", 1)[1]
            code = self.ALIASES.get(code, code)
            if code in self.ibsi:
                named[self.ibsi[code]] = float(value)
        if "firstorder_Kurtosis" not in named and "intensity_kurtosis_IPH6" in found:
            named["firstorder_Kurtosis"] = float(found["intensity_kurtosis_IPH6"]) + 3.0  # the IBSI's is the excess
        return named


PEERS: dict[str, Any] = {
    "PyRadiomics": PyRadiomics,
    "Pictologics": Pictologics,
    "fastrad": FastRad,
    "Flash-Radiomics": FlashRadiomics,
}


def main() -> None:
    name, path = sys.argv[1:3]
    out = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    os.dup2(2, 1)
    with np.load(path) as file:
        options = json.loads(str(file["options"]))
        parts = [
            Part(file[f"values{n}"], file[f"inside{n}"], tuple(file["spacing"].tolist()))
            for n in range(options["regions"])
        ]
    peer = PEERS[name](options)
    prepared = [peer.prepare(part) for part in parts]
    values = [peer.run(one) for one in prepared]  # compiles, fills caches
    wall, cpu = [], []
    for _ in range(options["rounds"]):
        started, begun = time.perf_counter(), time.process_time()
        for one in prepared:
            peer.run(one)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - begun)
    version = importlib.metadata.version(peer.package)
    out.write(json.dumps({"version": version, "stated": peer.stated, "values": values, "wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main()
