"""Synthetic frontal chest radiographs in the layout of NIH ChestX-ray14: what ``kacl-gpu phantom`` writes.

They are drawings, not data: lungs, vessels, heart, ribs and the eight findings of `diseases.DISEASES` as lesions of
known place and texture, to try training and localisation on where no real images may go. Nothing but the lesions
depends on the label: anatomy, position, exposure, noise, age, sex and view are drawn without regard to it.

Lengths are in halves of the image's side: across from -1 (left; the patient's right) to 1, down from -1 (top) to 1.
Needs the extra ``io``.
"""

from __future__ import annotations

import csv
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kacl_gpu.devices import count_processors
from kacl_gpu.errors import InputError, OutputError
from kacl_gpu.io.boxes import NIH_FRAME
from kacl_gpu.io.tables import progress
from kacl_gpu.kacl.data.diseases import DISEASES, NO_FINDING

Plane = NDArray[np.float64]  # (size, size)
PixelBox = tuple[int, int, int, int]  # x1, y1, x2, y2; the far edge exclusive
Lesion = tuple[NDArray[np.bool_], Plane, Plane]  # where it is, what attenuation it adds, share of lung that it fills

ENTRY_HEADER = (  # the original's, in which two names hold a comma
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
FOLDERS = 12
FIELD = 400.0  # millimetres that the side of an image stands for
SMALLEST = 32  # pixels: below, a nodule is less than one
# Textures of lesions: the number of plane waves that a texture is made of, and their length
PATTERNS = {"striped": (1, 0.095), "granular": (24, 0.11), "reticular": (24, 0.20), "speckled": (24, 0.10)}
FEW = 64  # images that are drawn in the time that another process takes to start


@dataclass(frozen=True)
class Summary:
    """Numbers of the images written, their patients, the images that have boxes, and their boxes, and the seconds."""

    images: int
    patients: int
    boxed_images: int
    boxes: int
    seconds: float


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of a patient, which stays the same from one image to the next."""

    female: bool
    wide: float  # of the thorax, relative to the drawing
    tall: float
    heart: float  # half its width
    diaphragm: tuple[float, float]  # height of the dome, right and left
    chest_wall: float  # attenuation of soft tissue before and behind the lungs
    breast: float  # attenuation
    ribs: tuple[float, float, float]  # their distance, the place of the first, their attenuation
    collar: tuple[float, float]  # height of the collarbones at the breastbone, slope
    vessels: int  # seed of their tree
    gain: float
    gamma: float

    @classmethod
    def draw(cls, random: Generator) -> Anatomy:
        """Draw a patient at random."""
        female = bool(random.random() < 0.44)  # of the patients of ChestX-ray14
        base = random.normal(0.34, 0.05)
        return cls(
            female=female,
            wide=random.normal(1, 0.05),
            tall=random.normal(1, 0.05),
            heart=float(np.clip(random.normal(0.29, 0.025), 0.24, 0.34)),
            diaphragm=(base - random.uniform(0, 0.06), base + random.uniform(0, 0.03)),
            chest_wall=random.normal(0, 0.03),
            breast=random.uniform(0.02, 0.12) if female else 0.0,
            ribs=(random.uniform(0.125, 0.15), random.uniform(0, 0.15), random.uniform(0.05, 0.10)),
            collar=(random.normal(-0.53, 0.03), random.uniform(0.05, 0.3)),
            vessels=int(random.integers(2**31)),
            gain=random.normal(1, 0.06),
            gamma=math.exp(random.normal(0, 0.15)),
        )


@dataclass(frozen=True)
class _View:
    """The position of the patient in one image, and its exposure."""

    angle: float  # radians
    shift: tuple[float, float]
    scale: tuple[float, float]  # the patient's lengths in the image, across and down
    breath: float  # how much lower than usual the diaphragm is
    gain: float
    offset: float
    gamma: float
    noise: float  # standard deviation, grey levels

    @classmethod
    def draw(cls, random: Generator, anatomy: Anatomy) -> _View:
        zoom = random.normal(1, 0.04)
        return cls(
            angle=math.radians(random.normal(0, 2.5)),
            shift=(random.normal(0, 0.04), random.normal(0, 0.04)),
            scale=(zoom * anatomy.wide, zoom * anatomy.tall),
            breath=random.normal(0, 0.035),
            gain=anatomy.gain * random.normal(1, 0.06),
            offset=random.normal(0, 0.03),
            gamma=anatomy.gamma * math.exp(random.normal(0, 0.12)),
            noise=random.uniform(1.5, 5),
        )

    def to_patient(self, size: int) -> tuple[Plane, Plane]:
        """Return the patient's coordinates, across and down, of every pixel's centre."""
        steps = (np.arange(size) + 0.5) * (2 / size) - 1
        across, down = steps[None, :] - self.shift[0], steps[:, None] - self.shift[1]
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        return (cosine * across + sine * down) / self.scale[0], (cosine * down - sine * across) / self.scale[1]

    def to_pixels(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Return the pixels (..., 2) of the patient's coordinates (..., 2)."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        turned = points * self.scale @ np.array([[cosine, sine], [-sine, cosine]])
        return np.asarray((turned + self.shift + 1) * (size / 2))


@dataclass(frozen=True)
class _Plate:
    """The place at which a plate of airless lung has drawn up the diaphragm."""

    which: int  # side, -1 or 1
    place: float  # distance from the middle
    height: float

    @classmethod
    def draw(cls, random: Generator) -> _Plate:
        return cls(int(random.choice((-1, 1))), random.uniform(0.44, 0.58), random.uniform(0.03, 0.09))


@dataclass(frozen=True)
class _Chest:
    """The parts of a patient in an image, without lesions other than those that change their shape."""

    size: int
    view: _View
    x: Plane  # the patient's coordinates
    y: Plane
    side: Plane  # |x|
    edge: Plane  # of the lung seen from the mediastinum: 0 there, 1 at ribs and apex
    lung: Plane  # 0 to 1
    heart: Plane  # 0 to 1
    diaphragm: Plane  # its height
    bulge: Plane  # by how much it is drawn up

    @classmethod
    def build(cls, anatomy: Anatomy, view: _View, size: int, plate: _Plate | None) -> _Chest:
        x, y = view.to_patient(size)
        side = np.abs(x)
        heart = _soft(
            1 - np.hypot((x - 0.36 * anatomy.heart - 0.30 * (y - 0.22)) / anatomy.heart, (y - 0.22) / 0.34), 0.05
        )
        right, left = anatomy.diaphragm
        dome = right + (left - right) * _soft(x, 0.05) + view.breath
        dome += np.where(side > 0.42, 0.15, 0.06) * ((side - 0.42) / 0.34) ** 2
        bulge = np.zeros_like(x)
        if plate:
            bulge = plate.height * np.exp(-(((x * plate.which - plate.place) / 0.15) ** 2))
        across, down = (side - 0.39 - 0.07 * y) / 0.31, (y + 0.10) / 0.62
        lung = _soft(1 - np.abs(across) ** 2.3 - np.abs(down) ** 2.8, 0.05) * _soft(dome - bulge - y, 0.012)
        lung *= (1 - 0.94 * heart) * _soft(side - 0.10 - 0.05 * np.exp(-(((y + 0.05) / 0.2) ** 2)), 0.02)
        lung *= 1 - 0.9 * _soft(0.10 - np.hypot(x - 0.10, y + 0.28), 0.012)  # the arch of the aorta
        edge = np.clip(across, 0, None) ** 2.3 + np.clip(-down, 0, None) ** 2.8
        return cls(size, view, x, y, side, edge, lung, heart, dome - bulge, bulge)


def make_phantoms(
    out: str | Path, *, images: int, seed: int = 0, size: int = 256, boxed: float = 0.3, workers: int | None = None
) -> Summary:
    """Write synthetic chest radiographs in the layout of NIH ChestX-ray14, to be read by what reads the original.

    ``images_001/images/00000001_000.png`` ... (8-bit grey, spread over twelve folders in order),
    ``Data_Entry_2017.csv`` and ``BBox_List_2017.csv`` (boxes in the original's frame of 1024, whatever the size).
    About half of the images are No Finding, the others have one to three findings; a patient has several images with
    one anatomy and mostly the same findings. Pixels, labels and boxes of an image depend on seed, size and its number
    alone, not on `images` or `workers`: on one machine, with the same NumPy and Pillow, they are the same to the byte.

    Args:
        out: folder, made if missing; must be empty.
        images: number of images.
        seed: seed of everything that is drawn, 0 or more.
        size: side of an image in pixels, 32 or more.
        boxed: share of the images with a finding whose boxes are written, all of an image's or none.
        workers: number of processes; None: as many as processors, 1 for few images. More than one are spawned, so a
            script that calls this needs ``if __name__ == "__main__":``.

    Returns:
        The summary. Progress goes to stderr.

    Raises:
        InputError: an argument out of range, or a folder that is not empty or cannot be written.
    """
    started, out = time.monotonic(), Path(out)
    for name, value, least in (("images", images, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    if not 0 <= boxed <= 1:
        raise InputError(f"boxed must be a share from 0 to 1, got {boxed}")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"not an empty folder: {out}")
        for number in range(min(images, FOLDERS)):
            (out / _folder(number, min(images, FOLDERS))).mkdir(parents=True)
        plans = list(itertools.islice(_plans(seed), images))
        files = [out / _folder(number, images) / plan.name for number, plan in enumerate(plans)]
        found = list(_draw_all(files, plans, size, workers or min(count_processors(), -(-images // FEW))))
        return _write_tables(out, plans, found, size, boxed, started)
    except OSError as error:
        words = f"cannot write {error.filename or out}: {error.strerror}"
        raise OutputError(f"{words}; {out} is incomplete: empty it, make room, and run the command again") from error


@dataclass(frozen=True)
class _Plan:
    """One image to be drawn, and its line in the table."""

    patient: int
    follow_up: int
    age: int
    view: str
    findings: tuple[str, ...]
    anatomy: Anatomy
    seed: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def _plans(seed: int) -> Iterator[_Plan]:
    """Return the images of a seed, without end, patient by patient."""
    for patient in itertools.count(1):
        random = default_rng((seed, patient))
        anatomy, age = Anatomy.draw(random), int(np.clip(random.normal(47, 17), 3, 92))
        usual = _findings(random)
        for follow_up in range(min(int(random.geometric(0.4)), 12)):
            findings = usual if random.random() < 0.7 else _findings(random)
            view = "AP" if random.random() < 0.4 else "PA"
            yield _Plan(patient, follow_up, age + follow_up // 4, view, findings, anatomy, (seed, patient, follow_up))


def _findings(random: Generator) -> tuple[str, ...]:
    """None, one (mostly), two or three diseases, each as likely as another."""
    number = random.choice(4, p=(0.5, 0.36, 0.10, 0.04))
    return tuple(DISEASES[index] for index in sorted(random.choice(len(DISEASES), number, replace=False)))


def _folder(number: int, images: int) -> Path:
    return Path(f"images_{1 + number * FOLDERS // images:03d}", "images")


def _draw_all(
    files: Sequence[Path], plans: Sequence[_Plan], size: int, workers: int
) -> Iterator[list[tuple[str, PixelBox]]]:
    """Draw and save; the lesions of each image, in order."""
    draw = partial(_draw_one, size)
    if workers == 1:
        yield from progress("images", len(files), items=map(draw, files, plans))
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:  # a fork of a process with threads may hang
        yield from progress("images", len(files), items=pool.map(draw, files, plans, chunksize=8))


def _draw_one(size: int, file: Path, plan: _Plan) -> list[tuple[str, PixelBox]]:
    pixels, found = radiograph(default_rng(plan.seed), plan.findings, size, plan.anatomy)
    Image.fromarray(pixels).save(file)
    return found


def _write_tables(
    out: Path,
    plans: Sequence[_Plan],
    found: Sequence[list[tuple[str, PixelBox]]],
    size: int,
    boxed: float,
    started: float,
) -> Summary:
    """Both CSV files, as NIH writes them."""
    lines, boxes, ill, boxed_images = [], [], 0, 0
    for plan, lesions in zip(plans, found, strict=True):
        labels = "|".join(plan.findings) or NO_FINDING
        sex = "F" if plan.anatomy.female else "M"
        who = plan.follow_up, plan.patient, plan.age, sex, plan.view
        lines.append((plan.name, labels, *who, size, size, round(FIELD / size, 6), round(FIELD / size, 6)))
        if not lesions:
            continue
        ill += 1
        if math.floor(ill * boxed) > boxed_images:  # evenly, and whatever images follow
            boxed_images += 1
            for label, (x1, y1, x2, y2) in lesions:
                label = "Infiltrate" if label == "Infiltration" else label
                boxes.append((plan.name, label, *(value * NIH_FRAME / size for value in (x1, y1, x2 - x1, y2 - y1))))
    for name, header, rows in (("BBox_List_2017.csv", BOX_HEADER, boxes), ("Data_Entry_2017.csv", ENTRY_HEADER, lines)):
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            file.write(header + "\n")
            csv.writer(file, lineterminator="\n").writerows(rows)
    return Summary(len(plans), plans[-1].patient, boxed_images, len(boxes), time.monotonic() - started)


def radiograph(
    random: Generator, findings: Sequence[str], size: int = 256, anatomy: Anatomy | None = None
) -> tuple[NDArray[np.uint8], list[tuple[str, PixelBox]]]:
    """Draw one chest radiograph.

    Generators of one seed give the same patient, position, exposure and noise whatever the findings, so that two
    drawings differ by the lesions alone.

    Args:
        random: what the drawing depends on; its children are used (`Generator.spawn`), so that a second call with the
            same generator gives another image.
        findings: diseases out of `kacl_gpu.kacl.data.diseases.DISEASES`, in any order.
        size: side of the image in pixels, 32 or more.
        anatomy: the patient; drawn too if None.

    Returns:
        Pixels (size, size), uint8, dense tissue bright, and in the order of `DISEASES` the label and box (x1, y1, x2,
        y2 in pixels; the far edge exclusive) of each lesion: one a finding, two for an Effusion of both sides.

    Raises:
        ValueError: an unknown or repeated finding, or a size below 32.

    Example:
        >>> pixels, lesions = radiograph(default_rng(0), ["Mass"], size=64)
        >>> pixels.shape, [label for label, box in lesions]
        ((64, 64), ['Mass'])
    """
    unknown = [name for name in findings if name not in DISEASES]
    if unknown or len(set(findings)) < len(findings):
        raise ValueError(f"findings must be different ones of {', '.join(DISEASES)}; got {', '.join(findings)}")
    if size < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels, got {size}")
    patient, position, grain, *streams = random.spawn(3 + len(DISEASES))
    lesions = {name: stream for name, stream in zip(DISEASES, streams, strict=True) if name in findings}
    anatomy = anatomy or Anatomy.draw(patient)
    view = _View.draw(position, anatomy)

    plate = None
    if "Cardiomegaly" in lesions:
        anatomy = replace(anatomy, heart=anatomy.heart * lesions["Cardiomegaly"].uniform(1.2, 1.5))
    if "Atelectasis" in lesions and lesions["Atelectasis"].random() < 0.5:
        plate = _Plate.draw(lesions["Atelectasis"])
    chest = _Chest.build(anatomy, view, size, plate)

    density, air = _tissue(chest, anatomy), chest.lung.copy()
    found = []
    for name, stream in lesions.items():
        for region, added, airless in _lesions(name, stream, chest, plate):
            density += added
            air *= 1 - airless
            found.append((name, _bounds(region)))
    hilum = np.exp(-(np.hypot((chest.side - 0.16) / 0.28, (chest.y + 0.02) / 0.35) ** 2))
    texture = _texture(grain, size, 1.3)
    density += air * (0.13 * _vessels(chest, anatomy) + (0.012 + 0.015 * hilum) * texture + 0.05 * hilum)

    curve = np.clip(view.gain * density + view.offset, 0, 1.1)
    grey = 228 * curve**view.gamma + view.noise * grain.standard_normal((size, size))
    return np.clip(grey, 0, 255).astype(np.uint8), found


def _tissue(chest: _Chest, anatomy: Anatomy) -> Plane:
    """Attenuation without lung vessels and lesions; a radiograph shows it white."""
    x, y, side = chest.x, chest.y, chest.side
    half = 0.20 + 0.78 * _soft(y + 0.80 + 0.08 * side, 0.05)  # of the body's width: neck, then shoulders and chest
    body = _soft(half - side, 0.012)
    out = 0.62 + anatomy.chest_wall + 0.10 * np.sqrt(np.clip(1 - (side / half) ** 2, 0, 1))
    out += 0.16 * _soft(y - chest.diaphragm, 0.03)
    out += 0.10 * np.exp(-(((side - 0.85) / 0.25) ** 2) - ((y + 0.62) / 0.20) ** 2)  # shoulders
    out += anatomy.breast * _soft(1 - np.hypot((side - 0.45) / 0.34, (y - 0.30) / 0.28), 0.06)
    out -= 0.40 * chest.lung
    out += 0.10 * chest.heart + 0.12 * _band(x / 0.16)
    out += _band(x / 0.075) * (0.02 + 0.03 * np.square(np.cos(y * (np.pi / 0.125))))  # vertebrae
    out -= 0.09 * _band((x + 0.01) / 0.035) * _soft(-0.22 - y, 0.04)  # windpipe
    return np.asarray(body * (out + _bones(side, y, anatomy)))


def _bones(side: Plane, y: Plane, anatomy: Anatomy) -> Plane:
    """Return ribs, which repeat downwards, and collarbones."""
    apart, first, strength = anatomy.ribs
    out = np.clip(side - 0.08, 0, None)
    back = np.abs((y + first + 0.16 * out - 0.62 * out**1.8) % apart - apart / 2) / (0.19 * apart)
    front = np.abs((y + first - 0.75 * (0.7 - side)) % (1.15 * apart) - 0.575 * apart) / (0.21 * apart)
    height, slope = anatomy.collar
    collar = (y - height + slope * side - 0.06 * np.sin(6 * side)) / 0.03
    ribs = _band(back) * (0.6 + 0.6 * np.clip(back, 0, 1) ** 2) * _soft(0.62 - y, 0.08) * _soft(side - 0.09, 0.02)
    fronts = _band(front) * _soft(side - 0.30, 0.05) * _soft(0.40 - y, 0.08)
    collars = _band(collar) * _soft(side - 0.07, 0.02)
    inside = _soft(0.76 - 0.25 * np.clip(-0.3 - y, 0, None) - side, 0.015)
    return np.asarray(strength * (ribs + 0.5 * fronts) * inside + 0.09 * collars)


def _vessels(chest: _Chest, anatomy: Anatomy) -> Plane:
    """Return arteries and veins of both lungs, 0 to 1, thinner outwards."""
    random = default_rng(anatomy.vessels)
    lines = []
    for which in (-1, 1):
        directions = np.linspace(-1.35, 1.35, 8) + random.normal(0, 0.1, 8)
        start = np.array([0.15, 0.02]) + random.normal(0, (0.02, 0.05), (8, 2))
        branches = _branches(random, start, directions, 0.17, 0.020, 5)
        lines.append(branches * np.array([which, 1, which, 1, 1]))
    return _draw_lines(np.concatenate(lines), chest)


def _branches(
    random: Generator,
    start: NDArray[np.float64],
    directions: NDArray[np.float64],
    length: float,
    width: float,
    depth: int,
) -> NDArray[np.float64]:
    """Return trees (lines, 5) that fork from `start` (n, 2) in `directions` (n,), radians.

    A line is from x, y, to x, y, and width.
    """
    lines = []
    for _ in range(depth):
        steps = length * random.uniform(0.6, 1.4, len(start))[:, None]
        stop = start + steps * np.stack((np.cos(directions), np.sin(directions)), 1)
        lines.append(np.column_stack((start, stop, np.full(len(start), width))))
        start = np.concatenate((stop, stop))
        fork = random.uniform(0.1, 0.55, (2, len(directions))) * np.array([[-1], [1]])
        directions = (directions + fork).ravel()
        length, width = 0.78 * length, 0.72 * width
    return np.concatenate(lines)


def _draw_lines(lines: NDArray[np.float64], chest: _Chest) -> Plane:
    """Draw lines (n, 5) in the patient's coordinates, as grey 0 to 1, brighter the wider: tubes seen through."""
    fine = 2 * chest.size  # drawn at twice the size, for a smooth edge
    picture = Image.new("L", (fine, fine))
    pen = ImageDraw.Draw(picture)
    ends = chest.view.to_pixels(lines[:, :4].reshape(-1, 2, 2), fine).reshape(-1, 4)
    for place, width in sorted(zip(ends.tolist(), lines[:, 4].tolist(), strict=True), key=lambda line: line[1]):
        pen.line(place, fill=min(255, int(255 * (width / 0.02) ** 0.7)), width=max(1, round(width * fine / 2)))
    return np.asarray(picture.reduce(2), np.float64) / 255


def _lesions(name: str, random: Generator, chest: _Chest, plate: _Plate | None) -> list[Lesion]:
    """Return the lesions of a finding: one, or two for an Effusion of both sides."""
    if name == "Cardiomegaly":  # the heart is wide already
        nothing = np.zeros_like(chest.x)
        return [((chest.heart > 0.5) & (chest.y < chest.diaphragm + 0.06), nothing, nothing)]
    if plate and name == "Atelectasis":
        return [_plate(random, chest, plate)]
    which = int(random.choice((-1, 1)))
    if name == "Effusion":
        return [_effusion(random, chest, one) for one in ((-1, 1) if random.random() < 0.2 else (which,))]
    if name == "Pneumothorax":
        return [_pneumothorax(random, chest, which)]
    if name == "Atelectasis":
        return [_wedge(random, chest, which)]
    return [_opacity(name, random, chest, which)]


def _plate(random: Generator, chest: _Chest, plate: _Plate) -> Lesion:
    """Draw atelectasis: a plate of airless lung, and the diaphragm below it drawn up."""
    along = chest.x * plate.which - plate.place
    level = np.min(chest.diaphragm[np.abs(along) < 0.05]) - random.uniform(0.06, 0.20)
    tilt, long, thick = random.normal(0, 0.25), random.uniform(0.13, 0.22), random.uniform(0.025, 0.045)
    inside = 1 - np.square(np.square(along / long)) - ((chest.y - level - tilt * along) / thick) ** 2
    airless = _soft(inside, 0.12) * chest.lung * (along > -plate.place)
    lost = (chest.y > chest.diaphragm) & (chest.y < chest.diaphragm + chest.bulge) & (chest.bulge > 0.3 * plate.height)
    stripes = _pattern("striped", random, chest)
    return (airless > 0.4 * airless.max()) | lost, random.uniform(0.18, 0.32) * airless * stripes, 0.7 * airless


def _wedge(random: Generator, chest: _Chest, which: int) -> Lesion:
    """Draw atelectasis: a segment of airless lung from the hilum to the pleura, narrow for the volume it lost."""
    angle, half = random.uniform(-0.9, 0.9), random.uniform(0.10, 0.22)
    across = chest.x * which
    off = np.abs(np.arctan2(chest.y - 0.02, np.maximum(across - 0.12, 1e-3)) - angle)
    airless = _soft(np.where(across > 0.14, (half - off) / 0.15, -9), 0.12) * chest.lung
    stripes = _pattern("striped", random, chest)
    return airless > 0.4 * airless.max(), random.uniform(0.18, 0.32) * airless * stripes, 0.7 * airless


def _effusion(random: Generator, chest: _Chest, which: int) -> Lesion:
    """Fluid at the bottom, its surface a meniscus that is higher along the ribs."""
    here = chest.x * which > 0
    surface = chest.diaphragm[here].min() + 0.13 - random.uniform(0.12, 0.40)
    depth = chest.y - surface + 0.9 * np.clip(chest.side - 0.40, 0, None) ** 1.5 + 0.2 * np.clip(0.3 - chest.side, 0, 1)
    fluid = _soft(depth, 0.012) * chest.lung * here
    return fluid > 0.4 * fluid.max(), random.uniform(0.34, 0.46) * fluid, fluid


def _pneumothorax(random: Generator, chest: _Chest, which: int) -> Lesion:
    """Air between ribs and lung, without vessels, from the apex down, and the thin line of the pleura."""
    collapse = random.uniform(0.40, 0.75) * _soft(random.uniform(-0.25, 0.25) - chest.y, 0.08)
    gap = chest.edge - (1 - collapse)
    here = chest.lung * (chest.x * which > 0) * (collapse > 0.05)
    space = _soft(gap, 0.012) * here
    line = np.exp(-((gap / 0.025) ** 2)) * here * (collapse > 0.12)
    return space > 0.4 * space.max(), 0.09 * line - random.uniform(0.05, 0.10) * space, space


def _opacity(name: str, random: Generator, chest: _Chest, which: int) -> Lesion:
    """Nodule, Mass, Infiltration or Pneumonia: rounded, in one lung."""
    radius = random.uniform(*{"Nodule": (0.055, 0.10), "Mass": (0.13, 0.20)}.get(name, (0.17, 0.28)))
    room = (chest.lung > 0.9) & (chest.x * which > 0) & (chest.edge < 0.6) & (chest.y < chest.diaphragm - 0.8 * radius)
    row, column = random.choice(np.argwhere(room))
    centre = np.array([chest.x[row, column], chest.y[row, column]])
    over, down = chest.x - centre[0], (chest.y - centre[1]) / random.uniform(0.85, 1.3)
    angle = np.arctan2(down, over)
    lobes = {"Nodule": 0.03, "Mass": 0.12}.get(name, 0.16)
    rim = sum(random.normal(0, lobes / k**0.5) * np.cos(k * angle + random.uniform(0, 6.3)) for k in range(2, 7))
    distance = np.hypot(over, down) / (radius * np.clip(1 + rim, 0.5, 1.5))
    if name in ("Nodule", "Mass"):
        strength = random.uniform(0.12, 0.22) if name == "Nodule" else random.uniform(0.18, 0.32)
        solid = np.clip(1 - distance**2, 0, 1) ** 0.45 * np.sqrt(chest.lung)
        spots = _pattern("speckled", random, chest) if name == "Mass" else 1.0
        return (distance < 1.02) & (chest.lung > 0.1), strength * solid * spots, 0.5 * solid
    region = (distance < 1) & (chest.lung > 0.4)
    if name == "Infiltration":
        net = _soft(1 - distance, 0.14) * chest.lung * _pattern("reticular", random, chest)
        return region, random.uniform(0.14, 0.24) * net, 0.2 * net
    # airways stay open in the consolidated lung, and show as dark branches from the side of the hilum
    inwards = np.arctan2(0.02 - centre[1], which * 0.12 - centre[0])
    root = centre + 0.8 * radius * np.array([np.cos(inwards), np.sin(inwards)])
    airways = _branches(random, np.tile(root, (3, 1)), inwards + np.pi + np.array([-0.45, 0, 0.45]), 0.12, 0.013, 3)
    patch = _soft(1 - distance, 0.10) * chest.lung
    grains = _pattern("granular", random, chest)
    return region, random.uniform(0.20, 0.32) * patch * grains * (1 - 0.8 * _draw_lines(airways, chest)), 0.7 * patch


def _pattern(kind: str, random: Generator, chest: _Chest) -> Plane:
    """Return the texture of a lesion, a factor of its attenuation, of one scale in the patient at any image size.

    It is made of plane waves of one length: one of them gives stripes; many give a random field (Berry, J. Phys. A
    1977) whose blobs are grains, whose zeros are a net of lines, and whose peaks are speckles.

    Args:
        kind: a key of `PATTERNS`.
    """
    number, length = PATTERNS[kind]
    angle, phase = random.uniform(0, 2 * np.pi, (2, number, 1, 1))
    along = np.cos(angle) * chest.x + np.sin(angle) * chest.y
    field = np.cos(2 * np.pi / length * along + phase).sum(0) * math.sqrt(2 / number)  # of variance 1
    if kind == "speckled":
        return 0.6 + _soft(field - 1, 0.15)
    if kind == "reticular":
        return np.asarray(0.2 + 1.1 * np.exp(-np.square(field / 0.35)))
    return np.asarray(0.75 + 0.55 * np.tanh(1.5 * field))


def _soft(inside: Plane, width: float) -> Plane:
    """1 where `inside` is positive, 0 where it is negative, over an edge of this width."""
    return np.asarray(0.5 + 0.5 * np.tanh(inside / (2 * width)))


def _band(across: Plane) -> Plane:
    """1 within -1 to 1, 0 outside, over soft edges."""
    return np.asarray(np.exp(-np.square(np.square(across))))  # a power of 4 takes ten times as long


def _texture(random: Generator, size: int, slope: float) -> Plane:
    """Noise whose spectrum falls as frequency to the power -slope, of mean 0 and standard deviation 1."""
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((size, size))) * _falling(size, slope), (size, size))
    return np.asarray(noise / noise.std())


@lru_cache(maxsize=8)
def _falling(size: int, slope: float) -> Plane:
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    return np.asarray(frequency**-slope)


def _bounds(inside: NDArray[np.bool_]) -> PixelBox:
    """Return the smallest box around the pixels of a mask (size, size)."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
