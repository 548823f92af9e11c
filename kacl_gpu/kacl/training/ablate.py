"""``kacl-gpu ablate``: the paper's Table 3: several configurations, each trained with several seeds, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kacl_gpu.errors import InputError
from kacl_gpu.io.boxes import BOX_COLUMNS
from kacl_gpu.io.tables import atomic_file, write_table

from ..boxes import has_box
from ..checkpoints import read_checkpoint
from ..evaluation.ablation import (
    BEST,
    FACTS,
    LAST,
    UNTRAINED,
    Settings,
    cells,
    markdown,
    measures_of,
    pairs,
    summary,
)
from ..evaluation.baselines import MEAN_BOX, baseline_boxes
from ..evaluation.measures import overlaps
from ..evaluation.predictions import true_boxes
from ..evaluation.published import is_full_set
from ..evaluation.validation import IOU_THRESHOLDS, iou
from .fit import Command, command, fit
from .parser import find_config, shipped_configs


def ablate(variants: Sequence[str | Path], seeds: Sequence[int], out: Path, argv: Sequence[str]) -> None:
    """Train each variant with each seed, test its best and its last checkpoint, and compare the variants.

    OUT receives a folder for each cell, OUT/VARIANT/seed_S, with what `fit` writes and test.csv; and
    after each cell anew cells.csv, summary.csv, pairs.csv (see `cells`, `summary` and `pairs` in
    `kacl_gpu.kacl.evaluation.ablation`) and ablation.md.
    The same call goes on where an earlier one was interrupted; cells that are done are not trained again. The split
    into training and test is drawn from the seed, as are the first weights; equal seeds have the same split.

    Args:
        variants: settings of each variant, a file or the name of a shipped one, read after those of ``argv``; the
            stem of the file is the variant's name.
        seeds: of the runs of each variant.
        out: folder to write.
        argv: all other arguments, those of ``kacl-gpu fit``.

    Raises:
        InputError: a variant is named twice or is not there, the seeds are not usable, or see `fit`.

    Example:
        >>> ablate(["base"], [0], Path("ablation"), settings)  # ["--data.root=phantoms", ...], as of `fit`
        base, seed 0: ablation/base/seed_0
        >>> sorted(path.name for path in Path("ablation").iterdir())
        ['ablation.md', 'base', 'cells.csv', 'pairs.csv', 'summary.csv']
    """
    files = [Path(find_config(str(variant))) for variant in variants]
    names = [file.stem for file in files]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise InputError(
            f"no such file of settings: {', '.join(missing)}; shipped ones: {', '.join(shipped_configs())}"
        )
    for kind, values in (("variants", names), ("seeds", seeds)):
        if not values or len({*values}) < len(values):
            raise InputError(f"{kind} must be named, and once each: {', '.join(map(str, values)) or 'none'}")
    # A mistake in the last one is told before the first one is trained
    settings = {path.stem: command([*argv, "--config", str(path)]).config.as_dict() for path in files}
    for seed in seeds:
        for path in files:
            cell = out / path.stem / f"seed_{seed}"
            print(f"{path.stem}, seed {seed}: {cell}", flush=True)
            if train(cell, [*argv, "--config", str(path), f"--seed_everything={seed}"]):
                publish(out, settings)


# --- one cell


def train(cell: Path, argv: Sequence[str]) -> bool:
    """Train one cell, or go on with it, and write the measures of the test images to test.csv.

    test.csv has a row for the best checkpoint (none where no validation had an AUC) and one for the last; below them
    rows for boxes that nobody trained, on the same true boxes: the largest of each image and disease.

    Returns:
        True if this process is the one that writes.

    Example:
        >>> train(Path("ablation", "base", "seed_0"), [*settings, "--config=base", "--seed_everything=0"])
        True
        >>> pd.read_csv("ablation/base/seed_0/test.csv")["variant"][-2:].tolist()
        ['mean training box', 'map that knows the box (1 x 1)']
    """
    run = fit([*argv, f"--out={cell}", "--resume"])
    paths = {name: cell / "checkpoints" / f"{name}.ckpt" for name in (BEST, LAST)}
    table = cell / "test.csv"
    if not table.exists() or table.stat().st_mtime < paths[LAST].stat().st_mtime:
        data = run.datamodule
        rows: dict[str, dict[str, Any]] = {}
        for name, path in paths.items():
            if path.exists():
                epoch = read_checkpoint(path)["epoch"]  # counted from 0
                tested = rows.get(BEST)
                # Both are written at the end of an epoch, so of the same one they are equal
                measures = tested if tested and tested["epoch"] == epoch else test(run, path)
                rows[name] = {**measures, "epoch": epoch, "variant": cell.parent.name, "checkpoint": name}
        full = is_full_set(data.train.table, data.validation.table, data.test.table)
        if run.trainer.is_global_zero:
            written = pd.DataFrame([*rows.values(), *baseline_rows(run)]).assign(full_set=full)
            write_table(written[[name for name in FACTS if name in written] + measures_of(written)], table)
    return run.trainer.is_global_zero


def test(run: Command, checkpoint: Path) -> dict[str, float]:
    """Return the measures of a checkpoint on the test images, those of boxes also disease by disease.

    Args:
        run: command that trained; its model holds the predictions afterwards.
        checkpoint: its file.

    Example:
        >>> run = fit([*settings, "--out=run", "--resume"])
        >>> measures = test(run, Path("run/checkpoints/last.ckpt"))
        >>> "test/auc" in measures, "test/localisation_0.1_mean" in measures
        (True, True)
    """
    (measures,) = run.trainer.test(run.model, run.datamodule, ckpt_path=str(checkpoint), verbose=False)
    tables, diseases = run.model.predictions, np.array(run.model.diseases, object)
    boxed = has_box(tables["true_boxes"])
    overlap = iou(tables["boxes"][boxed], tables["true_boxes"][boxed]).numpy()
    return {**measures, **accuracies(overlap, diseases[boxed.nonzero()[:, 1].numpy()])}


def accuracies(overlap: NDArray[np.floating], disease: NDArray[np.object_]) -> dict[str, float]:
    """Return the accuracy of boxes under the names of a test: all boxes together, each disease's, and their mean.

    Args:
        overlap: (n,), intersection over union of each true box with the prediction.
        disease: (n,), name of its disease.

    Returns:
        ``test/iou`` and ``test/localisation_T``, each alone, with ``_DISEASE``, and with ``_mean`` (over the diseases);
        nothing if there is no box.

    Example:
        >>> measures = accuracies(np.array([0.2, 0.4, 0.6]), np.array(["Mass", "Mass", "Hernia"], object))
        >>> [round(measures[f"test/localisation_0.3{end}"], 2) for end in ("", "_Mass", "_Hernia", "_mean")]
        [0.67, 0.5, 1.0, 0.75]
    """
    if not len(overlap):
        return {}
    columns = {"iou": overlap} | {f"localisation_{t}": (overlap > t).astype(float) for t in IOU_THRESHOLDS}
    measures = {}
    for name, values in columns.items():
        means: pd.Series[Any] = pd.Series(values).groupby(disease).mean()
        measures[f"test/{name}"] = float(values.mean())
        measures |= {f"test/{name}_{key}": float(value) for key, value in means.items()}
        measures[f"test/{name}_mean"] = float(np.mean(means))
    return measures


def baseline_rows(run: Command) -> list[dict[str, Any]]:
    """Return the accuracy of boxes that nobody trained, and of a map that knows the box, on the boxes of a test.

    Args:
        run: command whose model was tested.

    Example:
        >>> run = fit([*settings, "--out=run", "--resume"])
        >>> _ = test(run, Path("run/checkpoints/last.ckpt"))
        >>> [row["variant"] for row in baseline_rows(run)][:2]
        ['whole image', 'middle half']
    """
    model, data = run.model, run.datamodule
    tables, images = model.predictions, data.test
    boxed = has_box(tables["true_boxes"])
    if not boxed.any():
        return []
    row, column = boxed.nonzero(as_tuple=True)
    index = tables["index"][row].numpy()
    truth = pd.DataFrame(tables["true_boxes"][boxed].double().numpy(), columns=[*BOX_COLUMNS])
    truth = truth.assign(image=index, patient=0, disease=np.array(model.diseases, object)[column.numpy()])
    training = true_boxes(data.train)
    assert model.grid is not None  # it was tested
    threshold, shrink = model.settings.threshold, model.settings.shrink_whole_image
    boxes, note = baseline_boxes(truth, training, model.grid, images.size, threshold, shrink)
    rows = []
    for name, table in boxes.items():
        compared = overlaps(truth, table)
        measures = accuracies(compared["top"].to_numpy(), compared["disease"].to_numpy(object))
        rows.append({"variant": name, "checkpoint": UNTRAINED, **measures, "note": note if name == MEAN_BOX else ""})
    return rows


def publish(out: Path, settings: Settings) -> None:
    """Write the tables of the cells that are complete.

    Args:
        out: folder of the cells.
        settings: of each variant, see `kacl_gpu.kacl.evaluation.ablation.controls`.

    Example:
        >>> cell = Path("two", "base", "seed_3")
        >>> cell.mkdir(parents=True)
        >>> _ = (cell / "test.csv").write_text("variant,checkpoint,test/auc" + chr(10) + "base,best,0.7")
        >>> publish(Path("two"), {"base": {"model": {"byop": False}}})
        >>> sorted(path.name for path in Path("two").glob("*.csv"))
        ['cells.csv', 'pairs.csv', 'summary.csv']
    """
    table = cells(out, [*settings])
    compared = pairs(table)
    write_table(table, out / "cells.csv")
    write_table(summary(table), out / "summary.csv")
    write_table(compared, out / "pairs.csv")
    with atomic_file(out / "ablation.md") as file:
        file.write(markdown(table, compared, settings).encode())
