"""Generated regions: images, shapes and settings of every kind, from a seed or from hypothesis.

Both draw through the same code, so both cover the same space. A region from a seed depends on NumPy's random streams;
:mod:`reference.frozen` therefore stores data, not seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kacl_gpu.radiomics.names import CLASSES
from kacl_gpu.radiomics.settings import RadiomicsSettings

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
Box = tuple[float, ...]  # x1, y1, x2, y2 or x1, y1, z1, x2, y2, z2


@dataclass(frozen=True)
class Region:
    """Hold one image, where its region is, and how to compute it.

    image : (H, W) or (D, H, W), of any real dtype
    box : x1, y1, x2, y2 or x1, y1, z1, x2, y2, z2 or None
    mask : label map of the image's shape or None; at least one of box and mask is given
    spacing : (y, x) or (z, y, x) or None
    settings : RadiomicsSettings
    kind : what was drawn, in words
    """

    image: NDArray[Any]
    box: Box | None
    mask: NDArray[Any] | None
    spacing: tuple[float, ...] | None
    settings: RadiomicsSettings
    kind: str

    @property
    def dimensions(self) -> int:
        """2 for a region of an image, 3 for one of a volume."""
        return self.image.ndim

    def pixels(self) -> NDArray[np.bool_]:
        """Return bool of the image's shape: the region before resegmentation, by the rules of ``gpu_radiomics``."""
        inside = np.ones(self.image.shape, bool) if self.mask is None else self.mask == self.settings.label
        if self.box is not None:
            low, high = self.box[: self.dimensions][::-1], self.box[self.dimensions :][::-1]  # in the order of the axes
            boxed = np.zeros(inside.shape, bool)
            if all(near < far for near, far in zip(low, high, strict=True)):  # an inverted box holds nothing
                sides = zip(low, high, strict=True)
                boxed[tuple(slice(max(int(np.floor(a)), 0), max(int(np.ceil(b)), 0)) for a, b in sides)] = True
            inside = inside & boxed
        return inside

    def describe(self) -> str:
        """Return everything needed to make this region again, as Python."""
        default = RadiomicsSettings()
        changed = [
            f"{field.name}={getattr(self.settings, field.name)!r}"
            for field in fields(self.settings)
            if getattr(self.settings, field.name) != getattr(default, field.name)
        ]
        mask = None if self.mask is None else f"np.array({self.mask.tolist()}, '{self.mask.dtype}')"
        return (
            f"Region(np.array({self.image.tolist()}, '{self.image.dtype}'), {self.box}, {mask}, {self.spacing}, "
            f"RadiomicsSettings({', '.join(changed)}), {self.kind!r})"
        )


class Draw(Protocol):
    """A source of choices."""

    def choice(self, options: Sequence[T]) -> T: ...

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""

    def number(self, low: float, high: float) -> float: ...


class _Seeded:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def number(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def seeded(seed: int, index: int) -> Region:
    """Return region ``index`` of the sequence that ``seed`` starts; the same for the same version of NumPy."""
    return draw_region(_Seeded(np.random.default_rng([seed, index])))


def seeded_volume(seed: int, index: int) -> Region:
    """Return region ``index`` of a volume, of the sequence that ``seed`` starts; see :func:`seeded`."""
    return draw_volume(_Seeded(np.random.default_rng([seed, index])))


def regions() -> SearchStrategy[Region]:
    """Return a hypothesis strategy over the same space as :func:`seeded`."""
    return _strategy(draw_region)


def volumes() -> SearchStrategy[Region]:
    """Return a hypothesis strategy over the same space as :func:`seeded_volume`."""
    return _strategy(draw_volume)


def _strategy(make: Callable[[Draw], Region]) -> SearchStrategy[Region]:
    from hypothesis import strategies as st

    class Hypothesis:
        def __init__(self, draw: Callable[[SearchStrategy[Any]], Any]) -> None:
            self.draw = draw

        def choice(self, options: Sequence[T]) -> T:
            return self.draw(st.sampled_from(options))

        def integer(self, low: int, high: int) -> int:
            return self.draw(st.integers(low, high))

        def number(self, low: float, high: float) -> float:
            return self.draw(st.floats(low, high))

    return st.composite(lambda draw: make(Hypothesis(draw)))()


def draw_region(draw: Draw) -> Region:
    """Return one region from ``draw``."""
    rng = np.random.default_rng(draw.integer(0, 2**32 - 1))  # for the pixels alone
    height, width = draw.choice(_SIZES)(draw)
    content = draw.choice(tuple(CONTENTS))
    image = _content(draw, rng, content, (height, width))
    form = draw.choice(tuple(FORMS))
    inside = FORMS[form](draw, rng, height, width)
    label = draw.choice((1, 1, 1, 2, 255, 300))
    box, mask, how = _place(draw, rng, inside, label)
    spacing = draw.choice(_SPACINGS)(draw)
    settings = RadiomicsSettings(**_settings(draw, image.astype(np.float64), inside, label))
    return Region(image, box, mask, spacing, settings, f"{content}, {form} by {how}")


def draw_volume(draw: Draw) -> Region:
    """Return one region of a volume from ``draw``."""
    rng = np.random.default_rng(draw.integer(0, 2**32 - 1))  # for the voxels alone
    shape = draw.choice(_VOLUME_SIZES)(draw)
    content = draw.choice(tuple(CONTENTS))
    image = _as_type(draw, _content(draw, rng, content, shape))
    form = draw.choice(tuple(VOLUME_FORMS))
    inside = VOLUME_FORMS[form](draw, rng, shape)
    label = draw.choice((1, 1, 1, 2, 255, 300))
    box, mask, how = _place_in_volume(draw, rng, inside, label)
    spacing = draw.choice(_VOLUME_SPACINGS)(draw)
    chosen = _settings(draw, image.astype(np.float64), inside, label)
    if draw.integer(0, 7) == 0:
        chosen["bin_count"], chosen["bin_width"] = draw.choice(((255, None), (256, None), (1, None), (None, 1e6)))
    chosen["distances"] = draw.choice(_VOLUME_DISTANCES if inside.sum() < 2000 else ((1,), (1,), (2,)))
    if (chosen.get("bin_count") or 0) > 64 and chosen["distances"] != (1,):  # dozens of matrices of 255 x 255
        chosen["bin_count"] = 64
    chosen["force2d"] = draw.choice((True, False, False))
    chosen["force2d_dimension"] = draw.choice((0, 1, 2))
    if draw.integer(0, 24) == 0 and image.dtype.kind == "f":
        # one voxel that is no number, inside or outside
        place = draw.choice((inside, ~inside if not inside.all() else inside))
        image[tuple(np.argwhere(place)[draw.integer(0, int(place.sum()) - 1)])] = draw.choice((np.nan, np.inf))
        form += " not finite"
    return Region(image, box, mask, spacing, RadiomicsSettings(**chosen), f"{content}, {form} by {how}")


# Images

_SIZES = (
    lambda draw: (draw.integer(2, 12), draw.integer(2, 12)),
    lambda draw: (draw.integer(4, 12), draw.integer(4, 12)),
    lambda draw: (draw.integer(4, 10), draw.integer(4, 10)),
    lambda draw: (draw.integer(4, 10), draw.integer(4, 10)),
    lambda draw: (draw.integer(8, 22), draw.integer(8, 22)),
    lambda draw: draw.choice(((1, draw.integer(2, 20)), (draw.integer(2, 20), 1))),
)


def _smooth(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    places = np.indices(shape)
    waves = rng.normal(size=(3, 2 + len(shape)))
    along = [sum(0.3 * b * place for b, place in zip(wave[1:-1], places, strict=True)) for wave in waves]
    return sum(wave[0] * np.sin(angle + wave[-1]) for wave, angle in zip(waves, along, strict=True))


def _noise(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.normal(size=shape)


def _few(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.choice(rng.normal(size=draw.integer(2, 5)), size=shape)


def _bits(depth: int) -> Callable[..., NDArray[np.int16]]:
    def make(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int16]:
        if draw.choice((True, False)):
            return rng.integers(0, 2**depth, shape).astype(np.int16)
        smooth = _smooth(draw, rng, shape) + 0.2 * rng.normal(size=shape)
        return np.clip((smooth + 3) / 6 * 2**depth, 0, 2**depth - 1).astype(np.int16)

    return make


CONTENTS: dict[str, Callable[..., NDArray[Any]]] = {
    "smooth": _smooth,
    "noise": _noise,
    "flat": lambda draw, rng, shape: np.full(shape, rng.normal()),
    "few levels": _few,
    "small integers": lambda draw, rng, shape: rng.integers(0, draw.integer(2, 6), shape).astype(np.int16),
    "8 bit": lambda draw, rng, shape: _bits(8)(draw, rng, shape).astype(np.uint8),
    "12 bit": _bits(12),
    "negative": lambda draw, rng, shape: (_bits(12)(draw, rng, shape) - 3000).astype(np.int16),
    "offset": lambda draw, rng, shape: (
        draw.choice((_smooth, _noise, _few))(draw, rng, shape) + draw.choice((-1, 1)) * 10.0 ** draw.integer(1, 7)
    ),
    "scaled": lambda draw, rng, shape: (
        draw.choice((_smooth, _noise, _few))(draw, rng, shape) * 10.0 ** draw.choice((-12, -6, -3, 3, 6))
    ),
}


def _content(draw: Draw, rng: np.random.Generator, content: str, shape: tuple[int, ...]) -> NDArray[Any]:
    image = CONTENTS[content](draw, rng, shape)
    if image.dtype == np.float64 and content not in ("offset", "scaled"):
        image = image * draw.choice((1.0, 10.0, 100.0)) + draw.choice((0.0, 0.0, 100.0))
        image = image.astype(draw.choice((np.float64, np.float64, np.float32, np.float16)))
    return image


def _as_type(draw: Draw, image: NDArray[Any]) -> NDArray[Any]:
    """Return an image of whole numbers in one of the types that hold them."""
    if image.dtype.kind == "f":
        return image
    types = [
        dtype for dtype in ("bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float32", "float64")
        if (image.astype(dtype).astype(np.int64) == image).all()
    ]  # fmt: skip
    return image.astype(draw.choice(types))


# Shapes of regions, as (H, W) bool


def _rectangle(draw: Draw, rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    y1, x1 = draw.integer(0, height // 2), draw.integer(0, width // 2)
    y1, x1 = min(y1, height - 1), min(x1, width - 1)
    inside = np.zeros((height, width), bool)
    inside[y1 : draw.integer(min(y1 + 2, height), height), x1 : draw.integer(min(x1 + 2, width), width)] = True
    return inside


def _line(draw: Draw, rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    inside = np.zeros((height, width), bool)
    direction = draw.choice(("row", "column", "diagonal"))
    if direction == "row":
        inside[draw.integer(0, height - 1)] = True
    elif direction == "column":
        inside[:, draw.integer(0, width - 1)] = True
    else:
        np.fill_diagonal(inside, True)
    return inside


def _some_pixels(draw: Draw, rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    inside = np.zeros(height * width, bool)
    inside[rng.permutation(height * width)[: draw.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 7))]] = True
    return inside.reshape(height, width)


def _disc(draw: Draw, rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    middle = draw.number(0, height - 1), draw.number(0, width - 1)
    inside = ((y - middle[0]) / max(height, 2)) ** 2 + ((x - middle[1]) / max(width, 2)) ** 2 <= draw.number(0.05, 0.4)
    inside[int(middle[0]), int(middle[1])] = True
    return inside


def _scattered(draw: Draw, rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    inside = rng.random((height, width)) < draw.number(0.05, 0.95)
    inside[0, 0] |= not inside.any()
    return inside


FORMS: dict[str, Callable[..., NDArray[np.bool_]]] = {
    "rectangle": _rectangle,
    "whole image": lambda draw, rng, height, width: np.ones((height, width), bool),
    "line": _line,
    "a few pixels": _some_pixels,
    "disc": _disc,
    "scattered": _scattered,
    "rectangle with holes": lambda *args: _with_holes(_rectangle(*args), args[1]),
    "whole image with holes": lambda draw, rng, *shape: _with_holes(np.ones(shape, bool), rng),
    "several parts": lambda *args: _rectangle(*args) | _disc(*args) | _some_pixels(*args),
}


def _block(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    sides = []
    for size in shape:
        first = min(draw.integer(0, size // 2), size - 1)
        sides.append(slice(first, draw.integer(min(first + 2, size), size)))
    inside[tuple(sides)] = True
    return inside


def _part_of_volume(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a slice, a row or a column of voxels, or a diagonal of the volume or of a plane."""
    inside = np.zeros(shape, bool)
    fixed = draw.choice(((0,), (1,), (2,), (0, 1), (0, 2), (1, 2)))
    place = tuple(draw.integer(0, size - 1) if axis in fixed else slice(None) for axis, size in enumerate(shape))
    if draw.choice((True, True, False)):
        inside[place] = True
    else:
        n = min(shape)
        steps = [np.full(n, place[axis]) if axis in fixed[:1] else np.arange(n) for axis in range(3)]
        inside[tuple(steps) if draw.choice((True, False)) else (np.arange(n),) * 3] = True
    return inside


def _few_voxels(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.zeros(int(np.prod(shape)), bool)
    inside[rng.permutation(inside.size)[: draw.choice((1, 2, 2, 3, 3, 4, 5, 6, 8, 12))]] = True
    return inside.reshape(shape)


def _ball(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    middle = [draw.number(0, size - 1) for size in shape]
    from_middle = sum(
        ((place - centre) / max(size, 2)) ** 2
        for place, centre, size in zip(np.indices(shape), middle, shape, strict=True)
    )
    inside = from_middle <= draw.number(0.05, 0.4)
    inside[tuple(map(int, middle))] = True
    return inside


def _scattered_voxels(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = rng.random(shape) < draw.number(0.05, 0.95)
    inside[(0,) * len(shape)] |= not inside.any()
    return inside


VOLUME_FORMS: dict[str, Callable[..., NDArray[np.bool_]]] = {
    "block": _block,
    "whole volume": lambda draw, rng, shape: np.ones(shape, bool),
    "slice or line": _part_of_volume,
    "a few voxels": _few_voxels,
    "ball": _ball,
    "scattered": _scattered_voxels,
    "block with holes": lambda *args: _with_holes(_block(*args), args[1]),
    "ball with holes": lambda *args: _with_holes(_ball(*args), args[1]),
    "whole volume with holes": lambda draw, rng, shape: _with_holes(np.ones(shape, bool), rng),
    "several parts": lambda *args: _block(*args) | _ball(*args) | _few_voxels(*args),
}


def _with_holes(inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    holed = inside & (rng.random(inside.shape) > 0.15)
    return holed if holed.any() else inside


def _place(
    draw: Draw, rng: np.random.Generator, inside: NDArray[np.bool_], label: int
) -> tuple[Box | None, NDArray[Any] | None, str]:
    """Return box and mask that give the region ``inside``, where boxes can."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    y1, x1, y2, x2 = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    how = draw.choice(("mask", "box", "both"))
    if how == "box" and not inside[y1:y2, x1:x2].all():
        how = "both"
    box: Box | None = None
    if how != "mask":
        box = (x1, y1, x2, y2)
        if draw.choice((True, False)):  # fractions grow outward; what lies outside the image is clipped
            box = (x1 + draw.number(0, 0.99), y1 + draw.number(0, 0.99), x2 - draw.number(0, 0.99), y2)
            box = (box[0] if x1 else -0.5, box[1], max(box[2], box[0] + 0.001), y2 if y2 < len(inside) else y2 + 1.5)
    return box, *_label_map(draw, rng, inside, label, how)


def _place_in_volume(
    draw: Draw, rng: np.random.Generator, inside: NDArray[np.bool_], label: int
) -> tuple[Box | None, NDArray[Any] | None, str]:
    """Return box and mask that give the region ``inside``, where boxes can."""
    low, high = ([int(end(places)) for places in np.nonzero(inside)] for end in (np.min, np.max))
    how = draw.choice(("mask", "box", "both"))
    if how == "box" and not inside[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))].all():
        how = "both"
    box: Box | None = None
    if how != "mask":
        near, far = [float(a) for a in low], [float(b + 1) for b in high]
        if draw.choice((True, False)):  # fractions grow outward; what lies outside the volume is clipped
            near = [a + draw.number(0, 0.99) if a else -0.5 for a in near]
            far = [b - draw.number(0, 0.99) if b < n else b + 1.5 for b, n in zip(far, inside.shape, strict=True)]
            far = [max(b, a + 0.001) for a, b in zip(near, far, strict=True)]
        box = (*near[::-1], *far[::-1])
    return box, *_label_map(draw, rng, inside, label, how)


def _label_map(
    draw: Draw, rng: np.random.Generator, inside: NDArray[np.bool_], label: int, how: str
) -> tuple[NDArray[Any] | None, str]:
    if how == "box":
        return None, how
    if how == "both" and draw.choice((True, False)):
        # The mask reaches beyond the box
        inside = inside | (rng.random(inside.shape) < 0.3)
    mask = np.where(inside, label, rng.choice([0, 0, 7], size=inside.shape) if draw.choice((True, False)) else 0)
    return mask.astype(np.uint8 if label < 256 else np.int32), how


# Settings

_SPACINGS: tuple[Callable[[Draw], tuple[float, float] | None], ...] = (
    lambda draw: None,
    lambda draw: (1.0, 1.0),
    lambda draw: (0.143, 0.143),
    lambda draw: (draw.number(0.1, 3), draw.number(0.1, 3)),
    lambda draw: (0.7, 2.0),
    lambda draw: draw.choice(((30.0, 30.0), (5.0, 4.0), (12.0, 0.5), (0.001, 0.002))),
)
_VOLUME_SPACINGS: tuple[Callable[[Draw], tuple[float, ...] | None], ...] = (
    lambda draw: None,
    lambda draw: (1.0, 1.0, 1.0),
    lambda draw: (3.0, 0.7, 0.7),
    lambda draw: (draw.number(0.1, 3), draw.number(0.1, 3), draw.number(0.1, 3)),
    lambda draw: (0.8, 2.0, 1.3),
    lambda draw: draw.choice(
        ((5.0, 0.9, 0.9), (5.0, 4.0, 3.0), (30.0, 30.0, 30.0), (12.0, 0.5, 1.0), (1e-3, 2e-3, 1e-3))
    ),
)
_VOLUME_SIZES = (
    lambda draw: tuple(draw.integer(1, 6) for _ in range(3)),
    lambda draw: tuple(draw.integer(2, 6) for _ in range(3)),
    lambda draw: tuple(draw.integer(2, 8) for _ in range(3)),
    lambda draw: tuple(draw.integer(3, 10) for _ in range(3)),
    lambda draw: tuple(draw.integer(1, 24) for _ in range(3)),
    lambda draw: draw.choice(((1, 9, 8), (7, 1, 8), (8, 9, 1), (1, 1, 14), (1, 13, 1), (12, 1, 1))),
)
_VOLUME_DISTANCES = ((1,), (1,), (1,), (1,), (1,), (1,), (1,), (2,), (1, 2), (3, 1))
_DISTANCES = ((1,), (1,), (1,), (1,), (1,), (1,), (1,), (2,), (1, 2), (1, 2), (1, 3), (3, 1, 2), (2, 4), (7,))


def _settings(draw: Draw, image: NDArray[np.float64], inside: NDArray[np.bool_], label: int) -> dict[str, Any]:
    """Return keyword arguments of RadiomicsSettings that suit the intensities of the region."""
    x = image[inside]
    # in how many dimensions it extends, and what may be asked of that
    extends = sum(int(np.ptp(places)) > 0 for places in np.nonzero(inside))
    asked = {0: (*[1] * 8, 2), 1: (*[1] * 8, 2), 2: (*[1] * 3, *[2] * 8, 3), 3: (*[1] * 2, *[2] * 6, *[3] * 3)}
    chosen: dict[str, Any] = {
        "label": label,
        "distances": draw.choice(_DISTANCES),
        "symmetrical_glcm": draw.choice((True, True, False)),
        "weighting_norm": draw.choice((None, None, None, "manhattan", "euclidean", "infinity", "no_weighting")),
        "gldm_a": draw.choice((0, 0, 0, 1, 2, 5)),
        "voxel_array_shift": draw.choice((0.0, 0.0, 100.0, -7.5, 1000.0)),
        "minimum_roi_dimensions": draw.choice(asked[extends]),
        "minimum_roi_size": draw.choice((*[None] * 14, 1, max(1, len(x) // 3), max(1, len(x) - 1), len(x))),
    }
    spread = float(x.max() - x.min())
    # The one-pass variance that normalises loses digits far from zero, unless its sums are of integers
    whole, flat = bool((image == np.round(image)).all()), np.ptp(image) == 0
    if not (whole or flat or abs(image.mean()) < 1e3 * image.std()) or draw.choice((True, True, True, False)):
        chosen["normalize"] = False
        low, high = float(x.min()), float(x.max())
    else:
        chosen["normalize"] = True
        chosen["normalize_scale"] = draw.choice((1.0, 100.0, 33.3))
        chosen["remove_outliers"] = draw.choice((None, 3.0, 1.5, 0.7))
        spread = 3 * chosen["normalize_scale"]
        low, high = -spread / 2, spread / 2
    if draw.choice((True, False)):
        chosen["bin_count"] = draw.choice((draw.integer(1, 8), draw.integer(2, 20), 32, draw.integer(1, 255)))
    else:
        width = draw.choice((25.0, 1.0, 0.1, 0.7, 33.3, 5.0, 0.01))
        if not 0.2 < spread / width < 300:  # all in one level, or matrices too large to compare
            width = spread / draw.number(0.5, 60) if spread > 0 else 1.0
        chosen["bin_width"] = width
    if draw.choice((True, False, False, False)):
        chosen.update(_resegmentation(draw, x, low, high))
    if draw.integer(0, 19) == 0:
        chosen["feature_class"] = tuple({draw.choice(CLASSES[image.ndim]), draw.choice(CLASSES[image.ndim])})
    return chosen


def _resegmentation(draw: Draw, x: NDArray[np.float64], low: float, high: float) -> dict[str, Any]:
    mode = draw.choice(("absolute", "absolute", "relative", "sigma"))
    options: Sequence[Callable[[], tuple[float, ...]]]
    if mode == "absolute":
        options = (
            lambda: (low + draw.number(-0.1, 0.6) * (high - low),),
            lambda: (low + draw.number(-0.1, 0.4) * (high - low), low + draw.number(0.5, 1.1) * (high - low)),
            lambda: (float(np.sort(x)[len(x) // 4]), float(np.sort(x)[len(x) - 1 - len(x) // 4])),  # ties
        )
    elif mode == "relative":
        options = (lambda: (draw.number(-0.5, 0.9),), lambda: (1.0, draw.number(-0.5, 0.9)))
    else:
        options = (
            lambda: (draw.number(-2, 0.5),),
            lambda: (draw.number(-3, -0.3), draw.number(0.3, 3)),
            lambda: (-1.0, 1.0),
            lambda: (-3.0, 3.0),
        )
    return {
        "resegment_range": draw.choice(options)(),
        "resegment_mode": mode,
        "resegment_shape": draw.choice((True, False)),
    }
