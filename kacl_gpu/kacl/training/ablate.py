"""``kacl-gpu ablate``: the paper's Table 3: several configurations, each trained with several seeds, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from kacl_gpu.errors import InputError
from kacl_gpu.io.tables import atomic_file, write_table

from ..checkpoints import one_line, read_checkpoint
from ..evaluation.document import markdown_table
from .fit import command, fit
from .parser import find_config, shipped_configs

MEASURES = ("test/auc", "test/iou", "test/localisation_0.1", "test/localisation_0.3", "test/localisation_0.5")


def ablate(variants: Sequence[str | Path], seeds: Sequence[int], out: Path, argv: Sequence[str]) -> None:
    """Train each variant with each seed, test it where its validation was best, and compare the variants.

    OUT receives a folder for each cell, OUT/VARIANT/seed_S, with what `fit` writes and test.csv; and
    after each cell anew cells.csv (a row for each), summary.csv and pairs.csv (see `summary`, `pairs`) and ablation.md.
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
    """
    files = [Path(find_config(str(variant))) for variant in variants]
    names = [file.stem for file in files]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise InputError(
            f"no such file of settings: {', '.join(missing)}; shipped ones: {', '.join(shipped_configs())}"
        )
    for what, given in (("variants", names), ("seeds", seeds)):
        if not given or len({*given}) < len(given):
            raise InputError(f"{what} must be named, and once each: {', '.join(map(str, given)) or 'none'}")
    for path in files:  # a mistake in the last one is told before the first one is trained
        command([*argv, "--config", str(path)])
    for seed in seeds:
        for path in files:
            cell = out / path.stem / f"seed_{seed}"
            print(f"{path.stem}, seed {seed}: {cell}", flush=True)
            if train(cell, [*argv, "--config", str(path), f"--seed_everything={seed}"]):
                publish(out, names)


def train(cell: Path, argv: Sequence[str]) -> bool:
    """Train one cell, or go on with it, and write the measures of the test images to test.csv.

    Returns:
        True if this process is the one that writes.
    """
    made = fit([*argv, f"--out={cell}", "--resume"])
    best, last = (cell / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    checkpoint = best if best.exists() else last  # where no validation had an AUC
    table = cell / "test.csv"
    if not table.exists() or table.stat().st_mtime < last.stat().st_mtime:
        (measures,) = made.trainer.test(made.model, made.datamodule, ckpt_path=str(checkpoint), verbose=False)
        if made.trainer.is_global_zero:
            epoch = read_checkpoint(checkpoint)["epoch"]  # counted from 0
            write_table(pd.DataFrame([{"epoch": epoch, **measures}]), table)
    return made.trainer.is_global_zero


def cells(out: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return one row per complete cell, with variant, seed, and the measures of the test images."""
    rows = []
    for order, name in enumerate(names):
        for path in (out / name).glob("seed_*/test.csv"):
            seed = int(path.parent.name.removeprefix("seed_"))
            try:
                cell = pd.read_csv(path)
            except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
                words = f"cannot read {path}: it is cut off or damaged ({one_line(error)})"
                raise InputError(f"{words}: delete it, and the same command tests that cell again") from error
            rows.append(cell.assign(order=order, variant=name, seed=seed))
    table = pd.concat(rows).sort_values(["order", "seed"]).drop(columns="order")
    return table[["variant", "seed", *table.columns.drop(["variant", "seed"])]].reset_index(drop=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds (NaN for one) of each measure: variant, measure, runs, mean, std.

    Args:
        table: table of :func:`cells`.

    Example:
        >>> summary(pd.DataFrame({"variant": ["base"] * 2, "seed": [0, 1], "test/auc": [0.6, 0.8]}))["mean"].tolist()
        [0.7]
    """
    long = table.melt(["variant", "seed"], var_name="measure").dropna(subset="value")
    long = long[long["measure"].str.startswith("test/")]
    grouped = long.groupby(["variant", "measure"], sort=False)["value"]
    return grouped.agg(runs="count", mean="mean", std="std").reset_index()


def pairs(table: pd.DataFrame, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """Compare each two variants, seed by seed, by the paired t-test.

    Args:
        table: table of :func:`cells`.
        measures: columns of it to compare.

    Returns:
        measure, a, b, seeds (that both have), difference (b less a, the mean), low, high (its 95 % confidence
        interval), p (two-sided; NaN where all differences are equal), and p_adjusted: over the pairs of a measure, by
        Benjamini and Hochberg (1995). Pairs with fewer than two seeds in common are left out. The interval is of
        repetitions on one data set; other patients would differ by more.
    """
    rows = []
    for measure in measures:
        if measure not in table:
            continue
        wide = table.pivot(index="seed", columns="variant", values=measure)
        found = []
        for a, b in combinations(table["variant"].unique(), 2):
            both = wide[[a, b]].dropna()
            if len(both) < 2:
                continue
            x, y = both[b].to_numpy(), both[a].to_numpy()
            row = {"measure": measure, "a": a, "b": b, "seeds": len(both), "difference": float((x - y).mean())}
            if np.ptp(x - y) > 0:
                test = stats.ttest_rel(x, y)
                interval = test.confidence_interval()
                row |= {"low": float(interval.low), "high": float(interval.high), "p": float(test.pvalue)}
            else:  # the same difference for every seed has no deviation to test against
                row |= {"low": row["difference"], "high": row["difference"], "p": float("nan")}
            found.append(row)
        tested = [row for row in found if not np.isnan(row["p"])]
        for row, p in zip(tested, stats.false_discovery_control([row["p"] for row in tested]) if tested else ()):
            row["p_adjusted"] = float(p)
        rows += found
    columns = ["measure", "a", "b", "seeds", "difference", "low", "high", "p", "p_adjusted"]
    return pd.DataFrame(rows, columns=columns)


def publish(out: Path, names: Sequence[str]) -> None:
    """Write the tables of the cells that are complete."""
    table = cells(out, names)
    means, compared = summary(table), pairs(table)
    write_table(table, out / "cells.csv")
    write_table(means, out / "summary.csv")
    write_table(compared, out / "pairs.csv")
    with atomic_file(out / "ablation.md") as file:
        file.write(markdown(means, compared).encode())


def markdown(means: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Return the tables as text: variants in columns, mean and deviation over the seeds; and the pairs.

    Args:
        means: table of :func:`summary`.
        compared: table of :func:`pairs`.
    """
    cells: dict[tuple[str, str], str] = {}
    runs: dict[str, int] = {}
    for row in means.to_dict("records"):
        deviation = f" ± {row['std']:.3f}" if row["runs"] > 1 else ""
        cells[row["measure"], row["variant"]] = f"{row['mean']:.3f}{deviation}"
        runs[row["variant"]] = max(row["runs"], runs.get(row["variant"], 0))
    rows = [
        [measure.removeprefix("test/"), *(cells.get((measure, name), "-") for name in runs)]
        for measure in sorted(means["measure"].unique(), key=_order)
    ]
    paragraphs = [
        markdown_table(["test images", *(f"{name} ({number})" for name, number in runs.items())], rows),
        "Mean ± standard deviation over the runs (their number beside the name).",
    ]
    if len(compared):
        rows = []
        for row in compared.to_dict("records"):
            words = [row["measure"].removeprefix("test/"), f"{row['b']} less {row['a']}", str(row["seeds"])]
            words += [f"{row['difference']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}"]
            rows.append([*words, *("-" if np.isnan(p) else f"{p:.3f}" for p in (row["p"], row["p_adjusted"]))])
        paragraphs += [
            markdown_table(["measure", "compared", "seeds", "difference", "95 % interval", "p", "adjusted"], rows),
            "Paired t-test over the seeds; adjusted by Benjamini and Hochberg over the pairs of a measure.",
        ]
    return "\n\n".join(paragraphs) + "\n"


def _order(measure: str) -> tuple[int, str]:
    return (0 if measure == "test/auc" else 1 if measure.startswith("test/auc_") else 2), measure
