"""Frozen reference values: what PyRadiomics gives for generated regions, kept where it does not install.

``python -m reference.frozen`` says whether ``frozen.npz``, of images, and ``frozen_volumes.npz`` hold what PyRadiomics
gives now; ``--write`` writes them anew. The regions are stored as data, not as seeds: random streams change with NumPy.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kacl_gpu import RadiomicsSettings, feature_names
from reference.check import Expected, expect
from reference.regions import Region, seeded, seeded_volume


class _File(NamedTuple):
    """A file of frozen regions: how many, from which seed, in images of how many pixels at most."""

    path: Path
    regions: int
    seed: int
    most_pixels: int
    draw: Callable[[int, int], Region]


FILES = {
    2: _File(Path(__file__).with_name("frozen.npz"), 150, 2022, 130, seeded),
    3: _File(Path(__file__).with_name("frozen_volumes.npz"), 100, 2026, 250, seeded_volume),
}
PATH, REGIONS = FILES[2].path, FILES[2].regions
_CANCELLING = ("original_firstorder_Skewness", "original_glcm_ClusterShade", "original_glcm_Imc1")


def load(dimensions: int = 2) -> list[tuple[Region, Expected, dict[str, str]]]:
    """Return the frozen regions, what is expected of each, and the digests of its matrices (see :func:`digests`)."""
    names = feature_names(dimensions=dimensions)
    frozen = []
    with np.load(FILES[dimensions].path) as file:
        values = iter(file["values"])
        for index, entry in enumerate(json.loads(str(file["entries"]))):
            given: dict[str, Any] = entry["settings"]
            changed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            region = Region(
                file[f"image{index}"],
                None if entry["box"] is None else tuple(entry["box"]),
                file[f"mask{index}"] if entry["mask"] else None,
                None if entry["spacing"] is None else tuple(entry["spacing"]),
                RadiomicsSettings(**changed),
                entry["kind"],
            )
            row = np.full(len(names), np.nan) if entry["invalid"] else next(values)
            scale = np.zeros(len(names))
            for name, absolute in entry["scale"].items():
                scale[names.index(name)] = absolute
            expected = Expected(entry["invalid"], row, scale, entry["undefined"], {})
            frozen.append((region, expected, entry["digests"]))
    return frozen


def digests(matrices: Mapping[str, NDArray]) -> dict[str, str]:
    """Return a digest of each of the matrices of :func:`reference.check.our_matrices`, one for all directions."""
    joined: dict[str, Any] = {}
    for what, matrix in sorted(matrices.items()):
        content = f"{what} {matrix.shape}".encode() + matrix.astype("<i8").tobytes()
        joined.setdefault(what.split()[0], hashlib.sha256()).update(content)
    return {what: digest.hexdigest()[:16] for what, digest in joined.items()}


def generate(dimensions: int = 2) -> dict[str, NDArray]:
    """Return the content of the file of regions of these dimensions, from PyRadiomics."""
    names = feature_names(dimensions=dimensions)
    _, regions, seed, most_pixels, draw = FILES[dimensions]
    entries: list[dict[str, Any]] = []
    arrays: dict[str, NDArray] = {}
    rows = []
    for index in range(10 * regions):
        region = draw(seed, index)
        if region.image.size > most_pixels or region.settings.feature_class is not None:
            continue
        expected = expect(region)
        changed = {
            field.name: getattr(region.settings, field.name)
            for field in dataclasses.fields(region.settings)
            if getattr(region.settings, field.name) != field.default
        }
        entry = {
            "box": region.box,
            "mask": region.mask is not None,
            "spacing": region.spacing,
            "settings": changed,
            "kind": region.kind,
            "invalid": expected.invalid,
            "scale": {name: expected.scale[names.index(name)] for name in _CANCELLING},
            "undefined": expected.undefined,
            "digests": digests(expected.matrices),
        }
        arrays[f"image{len(entries)}"] = region.image
        if region.mask is not None:
            arrays[f"mask{len(entries)}"] = region.mask
        if expected.invalid is None:
            rows.append(expected.values)
        entries.append(entry)
        if len(entries) == regions:
            break
    return {"entries": np.array(json.dumps(entries)), "values": np.array(rows), **arrays}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reference.frozen", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files")
    options = parser.parse_args()
    differ = False
    for dimensions, (path, regions, *_) in FILES.items():
        content = generate(dimensions)
        if options.write:
            np.savez_compressed(path, **content)  # type: ignore[arg-type]
            print(f"wrote {regions} regions, {path.stat().st_size // 1024} KiB, to {path}")
            continue
        with np.load(path) as file:
            same = set(file) == set(content) and all(
                # sums and logarithms differ in their last digits between processors and versions of NumPy
                np.allclose(file[name], content[name], rtol=1e-12, atol=0, equal_nan=True)
                if name == "values"
                else np.array_equal(file[name], content[name], equal_nan=content[name].dtype.kind == "f")
                for name in content
            )
        print(f"{path} {'holds what PyRadiomics gives' if same else 'differs from what PyRadiomics gives now'}")
        differ |= not same
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
