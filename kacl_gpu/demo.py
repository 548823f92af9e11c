"""``kacl-gpu demo``: the main job on chest radiographs that it draws itself.

The radiographs are drawings, not data: lungs, ribs, heart, spine and four kinds of lesion of known place, enough to see
that boxes land where they should and that features tell the kinds apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from kacl_gpu.extract import extract, read_settings

Plane = NDArray[np.float64]  # (SIZE, SIZE)

SIZE = 512
IMAGES = 24
LESIONS = ("Nodule", "Mass", "Consolidation", "Effusion")
SHOWN = {  # of the 102 features, those in the picture, the first five of them in the printed table too
    "firstorder_Mean": "mean",
    "firstorder_Entropy": "entropy",
    "shape2D_MaximumDiameter": "diameter",
    "glcm_Contrast": "GLCM contrast",
    "ngtdm_Busyness": "busyness",
    "glcm_Correlation": "GLCM correlation",
    "glszm_ZonePercentage": "zone percentage",
    "gldm_DependenceEntropy": "dependence entropy",
}

# across from left to right, down from top to bottom, both -1 to 1
DOWN, ACROSS = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]


def demo(out: Path, device: str | None = None) -> None:
    """Draw the radiographs, extract the features of their lesions, print a part of the table and draw a picture.

    Args:
        out: folder for the images, the box file, the settings, the table and the picture; made if missing.
        device: as for `kacl_gpu.extract.extract`.
    """
    images, boxes, settings = out / "images", out / "boxes.csv", out / "params.yaml"
    table_file, picture = out / "features.csv", out / "demo.png"
    images.mkdir(parents=True, exist_ok=True)
    print(f"drawing {IMAGES} radiographs with lesions in {images}", flush=True)
    lines = []
    for number in range(IMAGES):
        pixels, found = radiograph(np.random.default_rng(number), [LESIONS[number % len(LESIONS)]])
        name = f"chest_{number:02d}.png"
        Image.fromarray(pixels).save(images / name)
        lines += [(name, *box, label) for label, box in found]
    pd.DataFrame(lines, columns=["image", "x1", "y1", "x2", "y2", "label"]).to_csv(boxes, index=False)
    settings.write_text("setting:\n  binCount: 32\nimageType:\n  Original: {}\n")

    print(f"kacl-gpu extract {images} --boxes {boxes} --settings {settings} --out {table_file}", flush=True)
    summary = extract(images, table_file, boxes=boxes, settings=read_settings(settings), device=device, batch_size=8)
    table = pd.read_csv(table_file)

    shown = table.rename(columns={f"original_{name}": title for name, title in SHOWN.items()})
    columns = ["image", "label", *list(SHOWN.values())[:5]]
    print(shown[columns].head(8).to_string(index=False, float_format="{:.3f}".format))
    print(f"... {len(table)} regions x {sum(table.columns.str.startswith('original_'))} features")
    draw(table, images, picture)
    print(f"table:   {summary.out}\npicture: {picture}")


def radiograph(
    random: np.random.Generator, lesions: list[str]
) -> tuple[NDArray[np.uint8], list[tuple[str, tuple[int, int, int, int]]]]:
    """Draw one chest radiograph.

    Args:
        random: what differs from one patient to the next.
        lesions: labels out of `LESIONS`.

    Returns:
        Pixels (SIZE, SIZE), uint8, and the label and box (x1, y1, x2, y2; far edge exclusive) of each lesion.
    """
    wide, tall, shift = random.normal(1, 0.025), random.normal(1, 0.025), random.normal(0, 0.02)
    x, y = (ACROSS - shift) / wide, DOWN / tall
    side = np.abs(x)

    half = 0.20 + 0.74 * _soft(y + 0.80, 0.06)  # of the body's width: neck, then shoulders and chest
    body = _soft(half - side, 0.015)
    heart = _soft(1 - np.hypot((x - 0.13 + 0.25 * (y - 0.25)) / 0.34, (y - 0.24) / 0.36), 0.06)
    diaphragm = 0.32 + 0.15 * ((side - 0.42) / 0.34) ** 2 + 0.05 * (x > 0)
    lung = _soft(1 - np.abs((side - 0.40 - 0.06 * y) / 0.31) ** 2.3 - np.abs((y + 0.12) / 0.70) ** 2.8, 0.07)
    lung *= _soft(diaphragm - y, 0.018) * (1 - 0.93 * heart) * (1 - 0.75 * np.exp(-((x / 0.15) ** 4)))
    hilum = np.exp(-(np.hypot((side - 0.18) / 0.30, (y + 0.02) / 0.35) ** 2))

    # attenuation of the beam, which a radiograph shows white
    density = body * (0.50 + 0.16 * np.sqrt(np.clip(1 - (side / half) ** 2, 0, 1)) + 0.012 * _texture(random, 1.6))
    density += lung * (-0.50 + 0.05 * hilum + (0.020 + 0.035 * hilum) * _texture(random, 1.2))
    density += 0.10 * heart + 0.10 * np.exp(-((x / 0.17) ** 4)) * body
    density += np.exp(-((x / 0.075) ** 6)) * (0.045 + 0.03 * np.cos(y * np.pi / 0.125) ** 4) * body
    density += body * _bones(side, y)

    found = []
    for label in lesions:
        where, added = _lesion(random, label, x, y, lung, diaphragm)
        density += added
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        found.append((label, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)))
    grey = 268 * np.clip(density, 0, 1) ** 0.9 + random.normal(0, 2.2, density.shape)
    return np.clip(grey, 0, 255).astype(np.uint8), found


def _bones(side: Plane, y: Plane) -> Plane:
    """Ribs, which repeat downwards, and collarbones."""
    out = np.clip(side - 0.08, 0, None)
    back = np.abs((y + 0.10 * out - 0.50 * out**1.7) % 0.135 - 0.0675) / 0.026
    front = np.abs((y + 0.55 * side) % 0.155 - 0.0775) / 0.030
    collar = (y + 0.58 + 0.25 * side - 0.10 * np.sin(3.2 * side)) / 0.032
    return (
        0.075
        * np.exp(-(back**4))
        * (0.65 + 0.5 * np.clip(back, 0, 1) ** 2)
        * _soft(0.65 - y, 0.1)
        * _soft(side - 0.09, 0.02)
        + 0.030 * np.exp(-(front**4)) * _soft(side - 0.28, 0.04) * _soft(0.25 - y, 0.1)
        + 0.100 * np.exp(-(collar**4)) * _soft(side - 0.07, 0.02)
    ) * _soft(0.84 - side, 0.02)


def _lesion(
    random: np.random.Generator, label: str, x: Plane, y: Plane, lung: Plane, diaphragm: Plane
) -> tuple[NDArray[np.bool_], Plane]:
    """Where a lesion is, and the attenuation that it adds."""
    here = x * random.choice((-1, 1)) > 0
    if label == "Effusion":  # fluid at the bottom, higher along the wall
        depth = y - random.uniform(0.08, 0.22) + 0.55 * np.clip(np.abs(x) - 0.35, 0, None) ** 1.4
        return (depth > 0) & (lung > 0.5) & here, 0.42 * _soft(depth, 0.012) * lung * here
    radius = random.uniform(*{"Nodule": (0.035, 0.06), "Mass": (0.10, 0.15), "Consolidation": (0.17, 0.24)}[label])
    room = (lung > 0.97) & here & (y > -0.5) & (np.abs(np.abs(x) - 0.40) < 0.14) & (y < diaphragm - 1.2 * radius)
    row, column = random.choice(np.argwhere(room))
    over, down = x - x[row, column], y - y[row, column]
    angle = np.arctan2(down, over)
    bumps = sum(random.normal(0, 0.12 / k) * np.cos(k * angle + random.uniform(0, 2 * np.pi)) for k in range(2, 7))
    distance = np.hypot(over, down) / (radius * (1 + bumps))
    if label == "Consolidation":
        return distance < 1.05, 0.30 * _soft(1 - distance, 0.10) * (0.65 + 0.3 * np.tanh(_texture(random, 1.5))) * lung
    return distance < 1.05, (1.6 * radius + 0.10) * np.clip(1 - distance**2, 0, 1) ** 0.4 * np.sqrt(lung)


def _soft(inside: Plane, width: float) -> Plane:
    """1 where `inside` is positive, 0 where it is negative, over an edge of this width."""
    return np.asarray(0.5 + 0.5 * np.tanh(inside / (2 * width)))


def _texture(random: np.random.Generator, slope: float) -> Plane:
    """Noise whose spectrum falls as frequency to the power -slope, of mean 0 and standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((SIZE, SIZE))) * frequency**-slope, (SIZE, SIZE))
    return np.asarray(noise / noise.std())


def draw(table: pd.DataFrame, images: Path, out: Path) -> None:
    """Draw the first region of each label: the image with its box, the region, and some of its features.

    The bars are standard scores over all regions of `table`, so that features of any unit share an axis; the values
    stand beside them.
    """
    import matplotlib

    matplotlib.use("agg")  # no display needed
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    names = [f"original_{name}" for name in SHOWN]
    scores = (table[names] - table[names].mean()) / table[names].std()
    first = table.groupby("label", sort=False).head(1).index
    yellow, ink = "#ffd400", "#20262e"
    figure, axes = plt.subplots(
        3,
        len(first),
        figsize=(3.6 * len(first), 10.2),
        height_ratios=(3.5, 2.4, 3),
        layout="constrained",
        squeeze=False,
    )
    for (whole, region, bars), index in zip(axes.T, first, strict=True):
        row = table.loc[index]
        x1, y1, x2, y2 = (int(row[name]) for name in ("x1", "y1", "x2", "y2"))
        with Image.open(images / row["image"]) as file:
            pixels = np.asarray(file)
        whole.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        whole.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=yellow, linewidth=2))
        whole.set_title(f"{row['label']}", fontsize=13, fontweight="bold", color=ink)
        whole.set_xlabel(row["image"], fontsize=9, color=ink)
        region.imshow(pixels[y1:y2, x1:x2], cmap="gray")
        region.set_xlabel(f"{x2 - x1} x {y2 - y1} pixels", fontsize=9, color=ink)
        for axis, colour in ((whole, ink), (region, yellow)):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(color=colour, linewidth=2 if axis is region else 0.5)
        values = scores.loc[index].to_numpy()
        bars.barh(range(len(names)), values, color=np.where(values < 0, "#8fa8c8", "#2f6db5"), height=0.72)
        for place, name in enumerate(names):
            bars.text(4.15, place, f"{row[name]:.3g}", ha="right", va="center", fontsize=9, color=ink)
        bars.set(xlim=(-3.2, 4.2), ylim=(len(names) - 0.5, -0.5), xticks=(-2, 0, 2))
        bars.set_yticks(range(len(names)), SHOWN.values() if bars is axes[2, 0] else [""] * len(names), fontsize=10)
        bars.tick_params(length=0, colors=ink)
        bars.spines[["top", "right", "left", "bottom"]].set_visible(False)
        bars.axvline(0, color=ink, linewidth=0.8)
        bars.set_xlabel("standard score over all regions; value at the right", fontsize=8, color=ink)
    figure.suptitle(
        f"kacl-gpu demo: {len(table)} regions of synthetic radiographs, {len(SHOWN)} of 102 features", fontsize=14
    )
    figure.savefig(out, dpi=110, facecolor="white")
    plt.close(figure)
