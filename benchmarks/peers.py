"""Other libraries that compute radiomic features, each in a process of its own with an environment of its own.

``python -m benchmarks.peers`` makes the environments under ``.venv/peers``, once; a peer that does not install is left
out, with the reason. `Peer` is the end that the suite holds: it starts this file with the peer's interpreter, and the
two exchange lines of JSON. There a peer is a class with ``prepare``, outside what is timed, and ``run``, which is.

All peers get the same: regions cut out of their images, for all of them would otherwise look through the whole image;
those that count on a margin get one pixel of it. They keep their results until asked: no value crosses while time is
measured.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv" / "peers"
LIMIT = 20  # seconds that a peer may take to answer
TEXTURE = ("glcm", "glrlm", "glszm", "ngtdm", "gldm")
ALL = ("firstorder", "shape2D", *TEXTURE)


class Part(NamedTuple):
    """A region cut out of its image: pixels (h, w) uint8 and which of them belong to it (h, w) uint8, 0 or 1."""

    pixels: NDArray[np.uint8]
    inside: NDArray[np.uint8]

    def padded(self) -> Part:
        return Part(np.pad(self.pixels, 1), np.pad(self.inside, 1))


class PyRadiomics:
    """PyRadiomics 3.0.1, a region after another."""

    packages: ClassVar[tuple[str, ...]] = ()  # stands in the project's environment: the extra `reference`
    classes: ClassVar[tuple[str, ...]] = ALL
    version_of = "pyradiomics"
    stated = "SimpleITK images in memory, log off"

    def __init__(self, threads: int, device: str, settings: dict[str, Any], classes: list[str]) -> None:
        radiomics = importlib.import_module("radiomics")
        self.sitk = importlib.import_module("SimpleITK")
        radiomics.setVerbosity(60)
        self.sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        module = importlib.import_module("radiomics.featureextractor")
        parameters = {"binCount": settings["bins"], "distances": settings["distances"], "additionalInfo": False}
        self.extractor = module.RadiomicsFeatureExtractor(**parameters)
        self.extractor.enabledFeatures = {name: [] for name in classes}

    def prepare(self, part: Part) -> Any:
        pixels, inside = part.padded()  # a mask without background is refused
        image = self.sitk.GetImageFromArray(pixels.astype(np.float64))
        return image, self.sitk.GetImageFromArray(inside)

    def run(self, prepared: list[Any]) -> list[dict[str, float]]:
        return [self.rename(self.extractor.execute(image, mask)) for image, mask in prepared]

    @staticmethod
    def rename(values: dict[str, Any]) -> dict[str, float]:
        prefix = "original_"
        return {name.removeprefix(prefix): float(v) for name, v in values.items() if name.startswith(prefix)}


class ManyPyRadiomics:
    """As many processes of PyRadiomics as there are processors. SimpleITK images do not cross: they get arrays."""

    packages: ClassVar[tuple[str, ...]] = ()
    classes: ClassVar[tuple[str, ...]] = ALL
    version_of = "pyradiomics"
    stated = "a process for each core; arrays cross to them, features come back"

    def __init__(self, threads: int, device: str, settings: dict[str, Any], classes: list[str]) -> None:
        start = (threads, device, settings, classes)
        self.pool = ProcessPoolExecutor(threads, initializer=_begin, initargs=start)

    def prepare(self, part: Part) -> Part:
        return part

    def run(self, prepared: list[Part]) -> list[dict[str, float]]:
        return list(self.pool.map(_one, prepared))


_worker: PyRadiomics


def _begin(*arguments: Any) -> None:
    global _worker
    _worker = PyRadiomics(*arguments)


def _one(part: Part) -> dict[str, float]:
    return _worker.run([_worker.prepare(part)])[0]


class Pictologics:
    """Pictologics: Numba, on all cores where its regions are large enough; features after the IBSI, no 2D shape."""

    packages: ClassVar[tuple[str, ...]] = ("pictologics==0.9.0",)
    python: ClassVar[tuple[int, int]] = (3, 12)
    classes: ClassVar[tuple[str, ...]] = ("firstorder", *TEXTURE)
    version_of = "pictologics"
    compile = "import pictologics"  # for minutes, once: its loading is that of every later process
    stated = (
        "arrays in memory; compiled and warmed up; its functions, not its pipeline of files. GLCM and GLRLM are of one"
        " matrix of all directions, where PyRadiomics takes the mean of four"
    )
    # Codes of the IBSI that it writes in another way than the project's formulas do
    ALIASES: ClassVar[dict[str, str]] = {"KE2A": "KE2M", "P001": "5QRC", "1PFV": "1PR1"}
    FAMILIES: ClassVar[dict[str, str]] = {name: name for name in TEXTURE} | {"gldm": "ngldm"}

    def __init__(self, threads: int, device: str, settings: dict[str, Any], classes: list[str]) -> None:
        if settings["distances"] != [1]:
            raise ValueError("one distance only")
        os.environ["PICTOLOGICS_NUM_THREADS"] = str(threads)
        self.features = importlib.import_module("pictologics.features")
        self.discretise = importlib.import_module("pictologics.preprocessing").discretise_image
        self.bins, self.ibsi = settings["bins"], settings["ibsi"]
        self.first_order = "firstorder" in classes
        self.families = [self.FAMILIES[name] for name in classes if name in TEXTURE]

    def prepare(self, part: Part) -> Any:
        return tuple(np.ascontiguousarray(array.T[..., None]) for array in (part.pixels.astype(float), part.inside))

    def run(self, prepared: list[Any]) -> list[dict[str, float]]:
        return [self.rename(self.one(pixels, inside)) for pixels, inside in prepared]

    def one(self, pixels: Any, inside: Any) -> dict[str, float]:
        levels = self.discretise(pixels, "FBN", roi_mask=inside, n_bins=self.bins)
        values: dict[str, float] = {}
        if self.first_order:
            values |= self.features.calculate_intensity_features(pixels[inside > 0])
            values |= self.features.calculate_intensity_histogram_features(levels[inside > 0], self.bins)
        if self.families:
            values |= self.features.calculate_all_texture_features(levels, inside, self.bins, families=self.families)
        return values

    def rename(self, values: dict[str, float]) -> dict[str, float]:
        result = {}
        for name, value in values.items():
            code = name.rsplit("_", 1)[1]
            code = self.ALIASES.get(code, code)
            if code in self.ibsi:
                result[self.ibsi[code]] = float(value)
        if "firstorder_Kurtosis" not in result and "intensity_kurtosis_IPH6" in values:
            result["firstorder_Kurtosis"] = float(values["intensity_kurtosis_IPH6"]) + 3.0  # IBSI's is the excess
        return result


class FastRad:
    """fastrad: PyTorch, on the device of ours.

    It knows bins of a fixed width from a multiple of it. So its texture gets the region less its least intensity, and
    32 bins' width: PyRadiomics' levels. First order and shape, in a call before, get the region as it is.
    """

    packages: ClassVar[tuple[str, ...]] = ("fastrad==1.2.0", "loguru")
    target = True  # laid beside the project's environment, which has all else that it asks for
    classes: ClassVar[tuple[str, ...]] = ALL
    version_of = "fastrad"
    stated = (
        "tensors on the device; the region shifted so that its bins are PyRadiomics' 32. GLRLM is of 13 directions also"
        " in 2D"
    )
    FIRST = ("firstorder", "shape2D")

    def __init__(self, threads: int, device: str, settings: dict[str, Any], classes: list[str]) -> None:
        if settings["distances"] != [1]:
            raise ValueError("one distance only")
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.library = importlib.import_module("fastrad")
        self.bins, self.device = settings["bins"], device
        self.groups = [[name for name in classes if (name in self.FIRST) == first] for first in (True, False)]
        self.names = {name.lower(): name for name in settings["names"]}

    def prepare(self, part: Part) -> Any:
        pixels, inside = (self.torch.from_numpy(array).double()[None].to(self.device) for array in part.padded())
        values = pixels[inside > 0]
        low, high = float(values.min()), float(values.max())
        span = max(high - low, 1.0)
        shifted = (pixels - low).clamp(max=span * (1 - 1e-9))  # the greatest belongs to the last bin
        mask = self.library.Mask(inside)
        calls = []
        for classes, image in zip(self.groups, (pixels, shifted)):
            settings = self.library.FeatureSettings(
                [name.lower() for name in classes], span / self.bins, self.device, force2D=True
            )
            if classes:
                calls.append((self.library.FeatureExtractor(settings), self.library.MedicalImage(image), mask))
        return calls

    def run(self, prepared: list[Any]) -> list[dict[str, float]]:
        results = []
        for calls in prepared:
            result: dict[str, float] = {}
            for extractor, image, mask in calls:
                result |= extractor.extract(image, mask)
            results.append(result)
        if self.device.startswith("cuda"):
            self.torch.cuda.synchronize()
        return [self.rename(result) for result in results]

    def rename(self, values: dict[str, float]) -> dict[str, float]:
        result = {}
        for name, value in values.items():
            plain = name.replace("th_p", "p").replace("_", "").replace(":", "_").lower()
            if plain in self.names:
                result[self.names[plain]] = float(value)
        return result


class FlashRadiomics:
    """Flash-Radiomics: C, with threads, or CUDA. What it would write to a HDF5 file after each region is left out."""

    packages: ClassVar[tuple[str, ...]] = (
        "flash-radiomics==1.0.0",
        *("numpy", "h5py", "SimpleITK", "pykwalify", "PyWavelets", "scipy", "scikit-image", "scikit-learn", "trimesh"),
    )
    classes: ClassVar[tuple[str, ...]] = ALL
    version_of = "flash-radiomics"
    stated = "SimpleITK images in memory, no HDF5 file, log off"

    def __init__(self, threads: int, device: str, settings: dict[str, Any], classes: list[str]) -> None:
        library = importlib.import_module("flash_radiomics")
        library.setVerbosity(60)
        self.sitk = importlib.import_module("SimpleITK")
        backend = "cuda" if device.startswith("cuda") else "cpu"
        parameters = {"binCount": settings["bins"], "distances": settings["distances"], "additionalInfo": False}
        self.extractor = library.RadiomicsFeatureExtractor(backend=backend, num_threads=threads, **parameters)
        self.extractor.disableAllFeatures()
        for name in classes:
            self.extractor.enableFeatureClassByName(name)

    def prepare(self, part: Part) -> Any:
        pixels, inside = part.padded()
        return self.sitk.GetImageFromArray(pixels.astype(np.float64)), self.sitk.GetImageFromArray(inside)

    def run(self, prepared: list[Any]) -> list[dict[str, float]]:
        results = []
        for image, mask in prepared:
            case = self.extractor.preprocess_case(image, mask, label=1)
            results.append(PyRadiomics.rename(self.extractor.extract_from_preprocessed(case)))
        return results


class Nyxus:
    """Nyxus: C++; the regions of a round in two calls, in images of one size. Its 2D shape is of other definitions.

    Its own binning is from 0 to the greatest intensity. So texture gets PyRadiomics' levels, made before it is timed,
    in the mode that takes intensities for levels (``ibsi``), and first order the pixels.
    """

    packages: ClassVar[tuple[str, ...]] = ("nyxus==0.11.0",)
    classes: ClassVar[tuple[str, ...]] = ("firstorder", *TEXTURE)
    version_of = "nyxus"
    stated = (
        "arrays in memory, all regions of a round in a call for first order and one for texture, which gets 32 levels"
        " made before; tables of pandas come back. Its GLSZM has other zones"
    )
    NAMES: ClassVar[dict[str, dict[str, str]]] = {
        "firstorder": {
            "P10": "10Percentile",
            "P90": "90Percentile",
            "ENERGY": "Energy",
            "ENTROPY": "Entropy",
            "MAX": "Maximum",
            "INTERQUARTILE_RANGE": "InterquartileRange",
            "KURTOSIS": "Kurtosis",
            "MEAN": "Mean",
            "MEDIAN": "Median",
            "MEAN_ABSOLUTE_DEVIATION": "MeanAbsoluteDeviation",
            "MIN": "Minimum",
            "RANGE": "Range",
            "ROBUST_MEAN_ABSOLUTE_DEVIATION": "RobustMeanAbsoluteDeviation",
            "UNIFORMITY": "Uniformity",
            "ROOT_MEAN_SQUARED": "RootMeanSquared",
            "SKEWNESS": "Skewness",
            "VARIANCE_BIASED": "Variance",
        },
        "glcm": {
            "ACOR": "Autocorrelation",
            "CLUPROM": "ClusterProminence",
            "CLUSHADE": "ClusterShade",
            "ID": "Id",
            "CLUTEND": "ClusterTendency",
            "CONTRAST": "Contrast",
            "CORRELATION": "Correlation",
            "IDM": "Idm",
            "DIFAVE": "DifferenceAverage",
            "DIFENTRO": "DifferenceEntropy",
            "DIFVAR": "DifferenceVariance",
            "IDMN": "Idmn",
            "IDN": "Idn",
            "INFOMEAS1": "Imc1",
            "INFOMEAS2": "Imc2",
            "IV": "InverseVariance",
            "JAVE": "JointAverage",
            "ASM": "JointEnergy",
            "JE": "JointEntropy",
            "JMAX": "MaximumProbability",
            "SUMAVERAGE": "SumAverage",
            "SUMENTROPY": "SumEntropy",
            "JVAR": "SumSquares",
        },
        "glrlm": {
            "GLN": "GrayLevelNonUniformity",
            "GLNN": "GrayLevelNonUniformityNormalized",
            "GLV": "GrayLevelVariance",
            "HGLRE": "HighGrayLevelRunEmphasis",
            "LRE": "LongRunEmphasis",
            "SRE": "ShortRunEmphasis",
            "LRHGLE": "LongRunHighGrayLevelEmphasis",
            "LRLGLE": "LongRunLowGrayLevelEmphasis",
            "RE": "RunEntropy",
            "LGLRE": "LowGrayLevelRunEmphasis",
            "RLN": "RunLengthNonUniformity",
            "RP": "RunPercentage",
            "RLNN": "RunLengthNonUniformityNormalized",
            "RV": "RunVariance",
            "SRHGLE": "ShortRunHighGrayLevelEmphasis",
            "SRLGLE": "ShortRunLowGrayLevelEmphasis",
        },
        "glszm": {
            "GLN": "GrayLevelNonUniformity",
            "GLNN": "GrayLevelNonUniformityNormalized",
            "GLV": "GrayLevelVariance",
            "HGLZE": "HighGrayLevelZoneEmphasis",
            "LAE": "LargeAreaEmphasis",
            "SAE": "SmallAreaEmphasis",
            "LAHGLE": "LargeAreaHighGrayLevelEmphasis",
            "LALGLE": "LargeAreaLowGrayLevelEmphasis",
            "LGLZE": "LowGrayLevelZoneEmphasis",
            "SZN": "SizeZoneNonUniformity",
            "ZE": "ZoneEntropy",
            "SZNN": "SizeZoneNonUniformityNormalized",
            "ZP": "ZonePercentage",
            "ZV": "ZoneVariance",
            "SAHGLE": "SmallAreaHighGrayLevelEmphasis",
            "SALGLE": "SmallAreaLowGrayLevelEmphasis",
        },
        "ngtdm": {name.upper(): name for name in ("Busyness", "Coarseness", "Complexity", "Contrast", "Strength")},
        "gldm": {
            "DE": "DependenceEntropy",
            "DN": "DependenceNonUniformity",
            "DNN": "DependenceNonUniformityNormalized",
            "DV": "DependenceVariance",
            "GLN": "GrayLevelNonUniformity",
            "GLV": "GrayLevelVariance",
            "HGLE": "HighGrayLevelEmphasis",
            "LGLE": "LowGrayLevelEmphasis",
            "LDE": "LargeDependenceEmphasis",
            "LDHGLE": "LargeDependenceHighGrayLevelEmphasis",
            "LDLGLE": "LargeDependenceLowGrayLevelEmphasis",
            "SDE": "SmallDependenceEmphasis",
            "SDHGLE": "SmallDependenceHighGrayLevelEmphasis",
            "SDLGLE": "SmallDependenceLowGrayLevelEmphasis",
        },
    }

    def __init__(self, threads: int, device: str, settings: dict[str, Any], classes: list[str]) -> None:
        if settings["distances"] != [1]:
            raise ValueError("one distance only")
        library = importlib.import_module("nyxus")
        self.bins = settings["bins"]
        self.columns = {
            self.column(kind, name): f"{kind}_{feature}"
            for kind in classes
            for name, feature in self.NAMES[kind].items()
        }
        of_pixels = {*self.NAMES["firstorder"]} - {"ENTROPY", "UNIFORMITY"}
        self.groups = []  # of features with what they are computed on: 0 pixels, 1 levels
        for levels in (0, 1):
            names = [name for name in self.columns if (name in of_pixels) != levels]
            if names:
                nyxus = library.Nyxus(names, ibsi=bool(levels), n_feature_calc_threads=threads)
                nyxus.set_metaparam("glcm/offset=1")
                self.groups.append((nyxus, names, levels))

    @staticmethod
    def column(kind: str, name: str) -> str:
        if kind == "firstorder":
            return name
        return f"{kind.upper()}_{name}" + ("_AVE" if kind in ("glcm", "glrlm") else "")

    def prepare(self, part: Part) -> tuple[Part, NDArray[Any]]:
        edges = np.histogram_bin_edges(part.pixels[part.inside > 0], self.bins)
        return part, np.minimum(np.digitize(part.pixels, edges), self.bins)

    def stack(self, prepared: list[tuple[Part, NDArray[Any]]]) -> NDArray[np.uint32]:
        """Return (3, K, H, W): pixels, levels and masks of regions in images of one size."""
        shape = np.max([part.pixels.shape for part, _ in prepared], 0)
        images = np.zeros((3, len(prepared), *shape), np.uint32)
        for n, (part, levels) in enumerate(prepared):
            height, width = part.pixels.shape
            images[:, n, :height, :width] = part.pixels, levels, part.inside
        return images

    def run(self, images: NDArray[np.uint32]) -> list[dict[str, float]]:
        names = [str(n) for n in range(images.shape[1])]
        results: list[dict[str, float]] = [{} for _ in names]
        for nyxus, columns, kind in self.groups:
            rows = nyxus.featurize(images[kind], images[2], names, list(names))[columns].to_numpy()
            for values, row in zip(results, rows):
                values |= {self.columns[column]: float(value) for column, value in zip(columns, row)}
        return results


PEERS: dict[str, Any] = {
    "PyRadiomics": PyRadiomics,
    "PyRadiomics, all cores": ManyPyRadiomics,
    "Pictologics": Pictologics,
    "Flash-Radiomics": FlashRadiomics,
    "Nyxus": Nyxus,
    "fastrad": FastRad,
}


def serve(name: str) -> None:
    """Run the peer's end of the pipe: a line of JSON in, one out."""
    version = importlib.import_module("importlib.metadata").version(PEERS[name].version_of)
    out = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    os.dup2(2, 1)
    peer: Any = None
    rounds: list[Any] = []
    values: list[dict[str, float]] = []
    for line in sys.stdin:
        message = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if message["do"] == "start":
                peer = PEERS[name](message["threads"], message["device"], message["settings"], message["classes"])
                answer = {"version": version, "stated": peer.stated}
            elif message["do"] == "prepare":
                with np.load(message["file"]) as file:
                    parts = parts_of(file["images"], file["rows"], file.get("masks"))
                prepared = [peer.prepare(part) for part in parts]
                rounds = [[prepared[n] for n in one] for one in message["rounds"]]
                if hasattr(peer, "stack"):
                    rounds = [peer.stack(one) for one in rounds]
            elif message["do"] == "run":
                values = peer.run(rounds[message["round"]])
            elif message["do"] == "values":
                answer = {"values": values}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def parts_of(images: Any, rows: Any, masks: Any = None) -> list[Part]:
    """Return regions cut out of images (B, H, W).

    Rows (K, 5) of image index and box, and masks (B, H, W) if there are any.
    """
    parts = []
    for index, *box in rows:
        (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        place = int(index), slice(y1, y2), slice(x1, x2)
        inside = np.ones((y2 - y1, x2 - x1), np.uint8) if masks is None else masks[place].astype(np.uint8)
        parts.append(Part(np.ascontiguousarray(images[place]), np.ascontiguousarray(inside)))
    return parts


class PeerError(RuntimeError):
    """A peer cannot do what it was asked, in its own words."""


class Peer:
    """The end in the suite. A process for each: that is how long the libraries' threads and settings last.

    Args:
        settings: ``bins``, ``distances``, ``ibsi`` (code -> name) and ``names`` of the features.
    """

    def __init__(
        self, name: str, threads: int, device: str, settings: dict[str, Any], classes: tuple[str, ...] = ALL
    ) -> None:
        self.name = name
        self.classes = tuple(kind for kind in classes if kind in PEERS[name].classes)
        self.file = tempfile.NamedTemporaryFile(suffix=".npz")  # noqa: SIM115  (closed with the peer)
        command, environment = interpreter(name)
        environment |= {"OMP_NUM_THREADS": str(threads)} if threads == 1 else {}
        self.process = subprocess.Popen(
            [*command, str(Path(__file__).resolve()), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        start = time.perf_counter()
        answer = self.ask(do="start", threads=threads, device=device, settings=settings, classes=list(self.classes))
        self.loading = time.perf_counter() - start
        self.version, self.stated = answer["version"], answer["stated"]
        self.seconds_a_pixel = 0.0  # as the suite finds it

    def ask(self, **message: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], LIMIT)[0]:
                self.process.kill()
                self.process.wait()
                raise PeerError(f"{self.name}: no answer within {LIMIT} s")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer

    def prepare(self, images: Any, rows: Any, masks: Any, rounds: list[list[int]]) -> None:
        """Hand over regions, and which of them each round computes."""
        np.savez(self.file.name, images=images, rows=rows, **({} if masks is None else {"masks": masks}))
        self.ask(do="prepare", file=self.file.name, rounds=rounds)

    def run(self, number: int) -> None:
        """Compute a round: what is timed, with some 0.1 ms for the two lines of JSON."""
        self.ask(do="run", round=number)

    def values(self) -> list[dict[str, float]]:
        """Return the features of the last round under PyRadiomics' names, without ``original_``."""
        return list(self.ask(do="values")["values"])

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.file.close()


def interpreter(name: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment variables of a peer's Python."""
    peer, environment = PEERS[name], dict(os.environ)
    folder = ENVIRONMENTS / peer.version_of
    if not peer.packages:
        return [sys.executable], environment
    if getattr(peer, "target", False):
        return [sys.executable], {**environment, "PYTHONPATH": str(folder)}
    environment.pop("PYTHONPATH", None)
    return [str(folder / "bin" / "python")], environment


def find_python(lowest: tuple[int, int] | None) -> str | None:
    """Return an interpreter of at least this version: this one, or one that is found by its name or by pyenv."""
    if lowest is None or sys.version_info[:2] >= lowest:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(lowest[1], lowest[1] + 3)]
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.*/bin/python"))
    for candidate in [*names, *map(str, pyenv)]:
        ask = [candidate, "-c", f"import sys; sys.exit(sys.version_info[:2] < {lowest})"]
        try:
            if subprocess.run(ask, capture_output=True).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


def install(name: str) -> str:
    """Make a peer's environment if it is not there. The reason why there is none, or ''."""
    peer = PEERS[name]
    folder = ENVIRONMENTS / peer.version_of
    ready = folder / ".ready"
    requirements = "\n".join(peer.packages)
    if not peer.packages:
        try:
            importlib.import_module("radiomics")
        except ImportError as error:
            return str(error)
        return ""
    if ready.exists() and ready.read_text() == requirements:
        return ""
    python = find_python(getattr(peer, "python", None))
    if python is None:
        return f"no Python {'.'.join(map(str, peer.python))} or newer here"
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    if getattr(peer, "target", False):
        # it asks for a newer Python, and runs on this one
        laid = ["--no-deps", "--ignore-requires-python", "--upgrade", "--target", str(folder)]
        commands = [[sys.executable, *pip, *laid, *peer.packages]]
    else:
        commands = [
            [python, "-m", "venv", "--clear", str(folder)],
            [str(folder / "bin" / "python"), *pip, *peer.packages],
        ]
    for command in commands:
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode:
            return (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
    if hasattr(peer, "compile"):
        subprocess.run([str(folder / "bin" / "python"), "-c", peer.compile], capture_output=True)
    ready.write_text(requirements)
    return ""


def available() -> dict[str, str]:
    """Return every peer, and why it is not here, or ''; `main` looks for them."""
    file = ENVIRONMENTS / "missing.json"
    missing = json.loads(file.read_text()) if file.exists() else {}
    return {name: missing.get(name, "") for name in PEERS}


def main() -> None:
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    missing = {name: reason for name in PEERS if (reason := install(name))}
    (ENVIRONMENTS / "missing.json").write_text(json.dumps(missing, indent=1))
    for name in PEERS:
        print(f"{name}: {'not here: ' + missing[name] if name in missing else 'ready'}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    else:
        main()
