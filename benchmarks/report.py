"""docs/performance.md and its plots, from what the suite measured.

``python -m benchmarks.report [RUN.json]`` first takes over a run of the suite (``pytest benchmarks --benchmark-json``),
shortened to medians and quartiles, as benchmarks/results/cpu.json or gpu.json. A run in which a case failed, be it for
a wrong value, or that measured other code than its commit, is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
PROJECT, REFERENCE = "kacl_gpu", "PyRadiomics"
KINDS = ("firstorder", "shape2D", "glcm", "glrlm", "glszm", "ngtdm", "gldm")
AXES = {
    "batch": "regions",
    "region": "side of a region, pixels",
    "levels": "grey levels",
    "distances": "distances 1 to",
}
# Speed over PyRadiomics as others publish it, on their data and machines: nothing of it was measured here.
CLAIMS = (
    ("cuRadiomics", "143 times on whole images, 4.5 to 21 times on small regions", "first order and GLCM, on a GPU"),
    ("fastrad", "25 times", "on a GPU"),
    ("pyradiomics-cuda", "7 to 85 times", "shape, on a GPU"),
)

Case = dict[str, Any]


class Refused(ValueError):
    """A run that must not be published."""


def shorten(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of pytest-benchmark's JSON.

    Raises:
        Refused: a case failed, the code was not that of a commit, or nothing was measured.
    """
    if run["failed"]:
        raise Refused(f"{len(run['failed'])} cases failed, first {run['failed'][0]}")
    git = run["machine_info"]["git"]
    if git["commit"] is None or git["changed"]:
        raise Refused(f"what was measured is not in the commit: {', '.join(git['changed']) or 'no commit'}")
    if not run["benchmarks"]:
        raise Refused("nothing was measured")
    origin = {"date": run["datetime"][:10], "machine": run["machine_info"]["kacl_gpu"], "git": git}
    return {**origin, "skipped": run["skipped"], "cases": shorten_cases(run)}


def shorten_cases(run: Mapping[str, Any]) -> list[Case]:
    """Return of each case what it is, median, quartiles and number of its rounds."""
    cases = []
    for one in run["benchmarks"]:
        stats = {name: one["stats"][name] for name in ("median", "q1", "q3", "rounds")}
        extra = {key: rounded(value) for key, value in one["extra_info"].items()}
        cases.append({**extra, **stats})
    return cases


def rounded(value: Any) -> Any:
    """Return lists of seconds as their median and quartiles."""
    if isinstance(value, dict):
        return {key: [float(f"{q:.4g}") for q in np.percentile(times, (50, 25, 75))] for key, times in value.items()}
    return value


def fitted_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Fit the exponent of y over x, by least squares of their logarithms over the upper half of the points.

    Below, a call costs more.
    """
    upper = slice(len(x) // 2 if len(x) > 3 else 0, None)
    return float(np.polyfit(np.log(x[upper]), np.log(y[upper]), 1)[0])


def milliseconds(case: Case) -> float:
    """Return the median milliseconds a region."""
    return 1e3 * float(case["median"]) / int(case["regions"])


def ratios(cases: Iterable[Case]) -> dict[str, float]:
    """Return how many times faster ours is than PyRadiomics in one process, by workload."""
    by_library = {(case["workload"], case["who"]): milliseconds(case) for case in cases if case["part"] == "workload"}
    return {
        work: by_library[work, REFERENCE] / time
        for (work, library), time in by_library.items()
        if library == PROJECT and (work, REFERENCE) in by_library
    }


def against(cases: Iterable[Case], part: str, of: str) -> list[tuple[Case, bool]]:
    """Return each case of a peer that ours has too, and whether the peer is faster.

    ``of`` names what both were timed on.
    """
    by_library = {(case[of], case["who"]): case for case in cases if case["part"] == part}
    return [
        (case, milliseconds(case) < milliseconds(by_library[subject, PROJECT]))
        for (subject, library), case in by_library.items()
        if library.split(",")[0] != PROJECT and (subject, PROJECT) in by_library
    ]


def number(value: float) -> str:
    """Format a number with three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(case: Case | None) -> str:
    """Format milliseconds per region: median (quartiles), and the rounds where they are few."""
    if case is None:
        return "-"
    scale = 1e3 / case["regions"]
    remark = f", {case['rounds']} rounds" if case["rounds"] < 20 else ""
    return f"{number(scale * case['median'])} ({number(scale * case['q1'])} to {number(scale * case['q3'])}{remark})"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(results: dict[str, dict[str, Any]], docs: Path = DOCS) -> None:
    """Write performance.md and figures/perf_*.png.

    Args:
        results: of :func:`shorten`, by device: cpu, gpu.
    """
    parts = [
        "# How fast\n",
        "Written by `python -m benchmarks.report` from `benchmarks/results/`; not to be edited. `make bench` measures"
        " on the CPU, `benchmarks/on_gpu.sh OUT` on a GPU; floors and figures of single kernels are in"
        " [kernels.md](kernels.md).\n",
    ]
    for device, result in results.items():
        parts += section(device, result, docs)
    if "gpu" not in results:
        parts.append("## On a GPU\n\nNot measured yet, for lack of one. [kernels.md](kernels.md) has predictions.\n")
    parts.append("## What others publish\n")
    parts.append("Speed over PyRadiomics, claimed on their data and machines; none of it measured here.\n")
    parts.append(grid(["library", "claim", "of what"], CLAIMS))
    (docs / "performance.md").write_text("\n".join(parts))


def section(device: str, result: Mapping[str, Any], docs: Path) -> list[str]:
    """Return the section of one run."""
    cases, machine, title = result["cases"], result["machine"], device.upper()
    kinds = {part: [case for case in cases if case["part"] == part] for part in ("workload", "class", "scaling")}
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    driver = f", driver {machine['driver']}, CUDA {machine['cuda']}" if machine["driver"] else ""
    parts = [
        f"## On the {title}\n",
        f"{result['date']}, {machine['processor']}; device {machine['device']}{driver}; {machine['threads']} threads;"
        f" commit {result['git']['commit']}; {versions}.\n",
        "All 102 features, 32 bins, distance 1, 8-bit images. Milliseconds a region: median (quartiles) of 20 rounds,"
        " or of as many as stand there. A round of ours is one call with all regions, other images in turn; of a peer a"
        " few regions of all sizes, others each time. Ours is compared with PyRadiomics' values before it is timed.\n",
        *workload_tables(kinds["workload"], title),
        not_measured(kinds["workload"], result["skipped"]),
        f"![milliseconds a region](figures/perf_{device}_workloads.png)\n",
        f"### Each feature class alone, {title}\n",
        f"On {kinds['class'][0]['workload']}. In brackets the features that agree with PyRadiomics to 1e-3; who is"
        " faster than ours is bold.\n",
        class_table(kinds["class"]),
        f"### How it grows, {title}\n",
        "16 regions of 100 x 110 pixels, 32 levels, distance 1, but for what changes; images of 1,024 and 2,048: 4. The"
        " exponent is fitted over the upper half of the points. Memory: the peak above what the process takes for"
        " regions of 8 x 8.\n",
        growth_table(cases),
        f"![time and memory](figures/perf_{device}_scaling.png)\n",
        *training_table(cases, title),
        *extraction_table(cases, title),
        *first_call(cases, title),
    ]
    if device == "cpu":
        parts += ["### Goals, on two cores\n", goals(cases)]
    picture(docs, f"perf_{device}_workloads", workload_figure(kinds["workload"]))
    picture(docs, f"perf_{device}_scaling", growth_figure(cases))
    return parts


def workload_tables(cases: list[Case], title: str) -> list[str]:
    """Return the tables of each workload, and what each peer is."""
    works = {case["workload"]: case["pixels"] for case in cases}
    people = [*dict.fromkeys(case["who"] for case in cases)]
    by_library = {(case["workload"], case["who"]): case for case in cases}
    winners = {(case["workload"], case["who"]) for case, wins in against(cases, "workload", "workload") if wins}
    times = ratios(cases)
    rows, losses = [], []
    for work, pixels in works.items():
        case = by_library.get((work, PROJECT))
        cells = [cell(by_library.get((work, library))) for library in people]
        for n, library in enumerate(people):
            if case and (work, library) in winners:
                cells[n] = f"**{cells[n]}**"
                losses.append(
                    f"{library} on {work}, {milliseconds(case) / milliseconds(by_library[work, library]):.1f} times"
                )
        rows.append([work, f"{pixels:,.0f}", *cells, f"{times[work]:.0f}" if work in times else "-"])
    wins = f"Ours is behind: {'; '.join(losses)} (bold)." if losses else "No peer is ahead of ours on any of them."
    about = []
    for library in people:
        if library.split(",")[0] == PROJECT:
            continue
        one = next(case for case in cases if case["who"] == library)
        agreement = f"{one['agree']} of {one['computes']}"
        about.append([library, one["version"], agreement, f"{one['loading']:.1f}", one["stated"]])
    return [
        f"### Workloads, {title}\n",
        grid(["regions", "mean pixels", *people, f"{REFERENCE} / {PROJECT}"], rows),
        f"{wins}\n",
        grid(["peer", "version", "agree, of those it computes", "loading, s", "how it is called"], about),
        "Agreement is on two regions of the first workload, to 1e-3 of the value, under PyRadiomics' definitions. A"
        " peer that computes fewer of the 102 features, or others, is timed for what it computes: its time is no better"
        " than that. Loading is not in the times.\n",
    ]


def not_measured(cases: list[Case], skipped: Mapping[str, str]) -> str:
    """Return which workloads each peer was not timed on, and why."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for work in dict.fromkeys(case["workload"] for case in cases):
        for name, reason in skipped.items():
            if name.startswith("test_workload[") and name.endswith(f"-{work}]"):
                library = name.removeprefix("test_workload[").removesuffix(f"-{work}]")
                by_reason.setdefault((library, reason), []).append(work)
    words = [f"{library} on {', '.join(works)} ({reason})" for (library, reason), works in sorted(by_reason.items())]
    return f"Not measured: {'; '.join(words) or 'nothing'}.\n"


def goals(cases: list[Case]) -> str:
    """Return the project's goals on two cores, and what was measured."""
    work = {(case["workload"], case["who"]): case for case in cases if case["part"] == "workload"}
    times, rows = ratios(cases), []
    for (name, library), case in work.items():
        if library == PROJECT and "Grad-CAM" in name and name in times:
            rows.append((f"{name}: 20 times PyRadiomics", f"{times[name]:.0f} times", times[name] >= 20))
        if library == PROJECT and "official boxes" in name:
            rows.append((f"{name}: 5 ms a region", f"{number(milliseconds(case))} ms", milliseconds(case) < 5))
    for part, of, words in (("workload", "workload", "every workload"), ("class", "kind", "every class alone")):
        leads = [not wins for _, wins in against(cases, part, of)]
        rows.append((f"ahead of every peer on {words}", f"{sum(leads)} of {len(leads)} cases", all(leads)))
    for case in cases:
        if case["part"] == "first call":
            for (start, (seconds, *_)), limit in zip(case["times"].items(), (5, 1)):
                rows.append((f"first call, {start}: {limit} s", f"{number(seconds)} s", seconds <= limit))
    rates = {(case["title"], case["what"]): case["images"] / case["median"] for case in cases if "what" in case}
    for title in dict.fromkeys(title for title, _ in rates):
        share = rates[title, "to a Parquet file"] / rates[title, "decoding alone"]
        rows.append((f"extraction, {title}: 90 % of decoding alone", f"{100 * share:.0f} %", share >= 0.9))
    return grid(
        ["goal", "measured", "met"], [[goal, measured, "yes" if met else "**no**"] for goal, measured, met in rows]
    )


def class_table(cases: list[Case]) -> str:
    people = [*dict.fromkeys(case["who"] for case in cases)]
    by_library = {(case["kind"], case["who"]): case for case in cases}

    wins = {(case["kind"], case["who"]) for case, wins in against(cases, "class", "kind") if wins}

    def entry(kind: str, library: str) -> str:
        case = by_library.get((kind, library))
        if case is None:
            return "-"
        time = f"**{number(milliseconds(case))}**" if (kind, library) in wins else number(milliseconds(case))
        return f"{time} ({case['agree']} of {case['computes']})"

    return grid(["class", *people], [[kind, *(entry(kind, library) for library in people)] for kind in KINDS])


def curves(cases: list[Case]) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Return the points of each curve, milliseconds a call and MiB at most."""
    (memory,) = (case["points"] for case in cases if case["part"] == "memory")
    peaks = {(curve, value): size / 2**20 for curve, value, size in memory}
    points: dict[str, tuple[list[float], list[float], list[float]]] = {}
    for case in cases:
        if case["part"] == "scaling":
            # regions of a call differ over the region's curve: per region there
            share = case["regions"] if case["curve"] == "region" else 1
            x, y, z = points.setdefault(case["curve"], ([], [], []))
            x.append(case["value"])
            y.append(1e3 * case["median"] / share)
            z.append(peaks[case["curve"], case["value"]] / share)
    return points


def growth_table(cases: list[Case]) -> str:
    rows = []
    for curve, (x, y, z) in curves(cases).items():
        points = [(a, b) for a, b in zip(x, z) if b >= 1]
        memory = f"{fitted_exponent(*zip(*points)):.2f}" if len(points) > 2 else "-"
        ends = f"{number(y[0])} to {number(y[-1])}"
        of = "a region" if curve == "region" else "a call"
        rows.append([f"{AXES[curve]}, {x[0]} to {x[-1]}", f"{ends} {of}", f"{fitted_exponent(x, y):.2f}",
                     f"{z[0]:.0f} to {z[-1]:.0f} {of}", memory])  # fmt: skip
    return grid(["over", "ms", "exponent of time", "MiB", "exponent of memory"], rows)


def training_table(cases: list[Case], title: str) -> list[str]:
    """Return the table of a step of KACL with ours and with PyRadiomics."""
    steps = [case for case in cases if case["part"] == "training"]
    if not steps:
        return []
    parts = [part for part in steps[0]["seconds"] if part != "data"]
    rows = []
    for case in steps:
        middle = [1e3 * case["seconds"][part][0] for part in parts]
        share = sum(1e3 * case["seconds"][part][0] for part in ("gradcam", "radiomics")) / sum(middle)
        rows.append([case["who"], *map(number, middle), number(sum(middle)), f"{100 * share:.1f} %"])
    header = ["radiomics by", *(f"{part}, ms" for part in parts), "sum", "Grad-CAM, boxes and radiomics"]
    return [
        f"### A training step of KACL, {title}\n",
        f"ResNet-18, {steps[0]['batch']} images of 224 x 224; medians of the parts. PyRadiomics is called image by"
        " image, as the paper's authors do, from the same place.\n",
        grid(header, rows),
    ]


def extraction_table(cases: list[Case], title: str) -> list[str]:
    """Return the table of `kacl-gpu extract`, beside decoding alone."""
    extractions = [case for case in cases if case["part"] == "extraction"]
    if not extractions:
        return []
    rates = {(case["title"], case["what"]): case["images"] / case["median"] for case in extractions}
    titles, stages = ([*dict.fromkeys(case[key] for case in extractions)] for key in ("title", "what"))
    rows = []
    for name in titles:
        combined = 1 / sum(1 / rates[name, stage] for stage in stages[:2])
        last = rates[name, stages[-1]]
        shares = [f"{100 * last / rates[name, stages[0]]:.0f} %", f"{100 * last / combined:.0f} %"]
        binds = min(stages[:2], key=lambda stage: rates[name, stage])
        rows.append([name, *(f"{rates[name, stage]:.0f}" for stage in stages), *shares, binds])
    header = [
        "whole images",
        *(f"{stage}, images/s" for stage in stages),
        "of decoding alone",
        "of both",
        "binds",
    ]
    return [
        f"### Bulk extraction with `kacl-gpu extract`, {title}\n",
        grid(header, rows),
        "Decoding and features each use all cores alone; 'of both' is beside what they come to one after the other.\n",
    ]


def first_call(cases: list[Case], title: str) -> list[str]:
    """Return the lines on the first call of a process."""
    parts = []
    for case in cases:
        if case["part"] == "first call":
            spent = [f"{start} {number(a)} ({number(b)} to {number(c)})" for start, (a, b, c) in case["times"].items()]
            words = (
                f"Seconds, of {case['rounds']} processes each, the import of Numba among them: {'; '.join(spent)}.\n"
            )
            parts += [f"### The first call of a process, {title}\n", words]
    return parts


def workload_figure(cases: list[Case]) -> Figure:
    works = [*dict.fromkeys(case["workload"] for case in cases)]
    people = [*dict.fromkeys(case["who"] for case in cases)]
    figure = Figure(figsize=(9, 1.0 + 1.15 * len(works)), layout="constrained")
    axis = figure.subplots()
    height = 0.85 / len(people)
    for n, library in enumerate(people):
        points = [(works.index(case["workload"]), milliseconds(case)) for case in cases if case["who"] == library]
        places = [place + (n - (len(people) - 1) / 2) * height for place, _ in points]
        axis.barh(places, [value for _, value in points], height, label=library)
    axis.set_yticks(range(len(works)), works)
    axis.invert_yaxis()
    lowest = 0.5 * min(milliseconds(case) for case in cases)
    axis.set(xscale="log", xlim=(lowest, None), xlabel="milliseconds a region (logarithmic)")
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def growth_figure(cases: list[Case]) -> Figure:
    by_curve = curves(cases)
    figure = Figure(figsize=(3 * len(by_curve), 5), layout="constrained")
    axes = figure.subplots(2, len(by_curve), squeeze=False)
    for column, (curve, (x, y, z)) in zip(axes.T, by_curve.items()):
        of = "a region" if curve == "region" else "a call"
        for axis, values, words in zip(column, (y, z), (f"ms {of}", f"MiB {of}")):
            axis.plot(x, values, marker="o")
            axis.set(xscale="log", yscale="log" if min(values) > 0 else "symlog", xlabel=AXES[curve], ylabel=words)
            if min(values) > 0:  # less than a decade has ticks too
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
                axis.yaxis.set_major_formatter("{x:g}")
            else:
                axis.set_ylim(0)
            axis.set_xticks(x, [str(value) for value in x], rotation=60, fontsize=7)
            axis.minorticks_off()
            axis.grid(color="0.9")
    return figure


def picture(docs: Path, name: str, figure: Figure) -> None:
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    figure.savefig(docs / "figures" / f"{name}.png", dpi=90)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="of the suite, to take over first")
    parser.add_argument("--docs", type=Path, default=DOCS)
    arguments = parser.parse_args()
    if arguments.run:
        try:
            short = shorten(json.loads(arguments.run.read_text()))
        except Refused as error:
            print(f"not published: {error}", file=sys.stderr)
            return 1
        device = "cpu" if short["machine"]["device"] == "cpu" else "gpu"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{device}.json").write_text(json.dumps(short, indent=1) + "\n")
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("[cg]pu.json"))}
    write(results, arguments.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
