"""The paper's split into training, validation and test, by patient, and the file that shares it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from kacl_gpu.errors import InputError
from kacl_gpu.io.tables import write_table
from kacl_gpu.kacl.data.annotations import first_names, read_csv

SPLITS = ("train", "validation", "test")
UNANNOTATED = {"train": 0.7, "validation": 0.1, "test": 0.2}  # Han et al., WACV 2022, section 4
ANNOTATED = {"train": 0.2, "validation": 0.0, "test": 0.8}


def split_patients(
    table: pd.DataFrame,
    seed: int,
    *,
    unannotated: Mapping[str, float] = UNANNOTATED,
    annotated: Mapping[str, float] = ANNOTATED,
) -> pd.Series[str]:
    """Draw a split: all images of a patient together, the ratios those of images, as closely as whole patients allow.

    First the patients with an annotated image are dealt out, by their annotated images; then the others, so that all
    unannotated images, those of the former too, come to their ratio. (Where the former alone have too many
    in a set, the others go to the other sets.) Patients are dealt in an order drawn from the seed, each to the set
    that is furthest from full, those of one image last to even out. The split depends on seed and images alone, not
    on the order of the rows, the machine or the version of a library.

    Args:
        table: columns image, patient and annotated (bool), as in `kacl_gpu.kacl.data.dataset.NIHChestXray14.table`.
        seed: any integer.
        unannotated: the share of each set of the unannotated images.
        annotated: the share of each set of the annotated images.

    Returns:
        ``train``, ``validation`` or ``test`` for each row, named ``split``, with the table's index.

    Raises:
        ValueError: shares that are negative, of other sets, or do not add up to 1.

    Example:
        >>> images = [f"{k}.png" for k in range(10)]
        >>> table = pd.DataFrame({"image": images, "patient": range(10), "annotated": False})
        >>> split_patients(table, seed=0).value_counts().to_dict()
        {'train': 7, 'test': 2, 'validation': 1}
    """
    for shares in (unannotated, annotated):
        if set(shares) != set(SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
            raise ValueError(f"shares must be of {', '.join(SPLITS)}, not negative, and add up to 1: {dict(shares)}")
    images = table.groupby("patient")["annotated"].agg(["sum", "size"]).astype(int)
    boxed = images["sum"][images["sum"] > 0]
    chosen = _deal(boxed, annotated, dict.fromkeys(SPLITS, 0), seed)
    rest = images["size"] - images["sum"]
    sets = boxed.index.map(chosen)
    dealt = {name: int(rest[boxed.index[sets == name]].sum()) for name in SPLITS}
    chosen |= _deal(rest.drop(boxed.index), unannotated, dealt, seed)
    return table["patient"].map(chosen).astype(str).rename("split")


def _deal(
    images: pd.Series[int], shares: Mapping[str, float], dealt: Mapping[str, int], seed: int
) -> dict[object, str]:
    """Return the set of each patient, for patients with so many images each, where the sets hold some already."""
    total = int(images.sum()) + sum(dealt.values())
    goal = {name: share * total for name, share in shares.items() if share > 0}
    held = dict(dealt)
    chosen: dict[object, str] = {}

    def lot(patient: object) -> bytes:
        return hashlib.sha256(f"{seed} {patient}".encode()).digest()

    counts = dict(zip(images.index.tolist(), map(int, images)))
    for patient, count in sorted(counts.items(), key=lambda item: (item[1] == 1, lot(item[0]))):
        # of two equally empty sets the larger; the patient's own images do not count, or the small sets would only
        # get patients of few
        name = min(goal, key=lambda name: (held[name] / goal[name], -goal[name]))
        held[name] += count
        chosen[patient] = name
    return chosen


def write_split(path: str | Path, table: pd.DataFrame, split: Iterable[str]) -> None:
    """Write image, patient, annotated (0 or 1) and split of each row, sorted by image; whole or not at all."""
    path = Path(path)
    rows = table[["image", "patient", "annotated"]].assign(split=list(split)).sort_values("image")
    rows["annotated"] = rows["annotated"].astype(int)
    write_table(rows, path)


def read_split(path: str | Path, table: pd.DataFrame) -> pd.Series[str]:
    """Read a split for the rows of a table.

    Returns:
        As `split_patients`.

    Raises:
        InputError: unreadable; an image of the file that is not in the table, or the other way round, or twice;
            another patient of an image; one annotated here and not there (the box files differ); an unknown set;
            a patient in two sets.
    """
    path = Path(path)
    rows = read_csv(path)
    if lacking := [name for name in ("image", "patient", "annotated", "split") if name not in rows]:
        raise InputError(f"{path} lacks the columns {', '.join(lacking)}")
    check = _Check(path)
    check("images twice", rows["image"][rows["image"].duplicated()])
    check("images of an unknown set", rows["image"][~rows["split"].isin(SPLITS)])
    check("images that the data have not", rows["image"][~rows["image"].isin(table["image"])])
    check("images of the data missing", table["image"][~table["image"].isin(rows["image"])])
    rows = rows.set_index("image").loc[table["image"]]
    check("images of another patient", rows.index[rows["patient"] != table["patient"].astype(str).to_numpy()])
    annotated = table["annotated"].astype(int).astype(str).to_numpy()
    check("images annotated there or here only", rows.index[rows["annotated"] != annotated])
    sets = rows.groupby("patient")["split"].nunique()
    check("patients in more than one set", sets.index[sets > 1])
    return pd.Series(rows["split"].to_numpy(), index=table.index, name="split", dtype=str)


class _Check:
    """Raise an error where a split does not fit the data."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, problem: str, names: Iterable[str]) -> None:
        if names := list(names):
            raise InputError(f"the split {self.path} does not fit: {len(names)} {problem}: {first_names(names)}")
