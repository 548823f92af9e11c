"""What each kernel must do, the floor that follows, and the time predicted: ``python -m benchmarks.model``.

Writes the table of docs/kernels.md anew. The default call: 8-bit images, boxes, 32 bins, all 102 features. Counts of
instructions are read off the binaries for sm_90; the fractions of atomics that remain after merging were measured on
the CPU, on NIH chest X-rays with their official boxes and whole, and on drawn images for the boxes in 224 x 224.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- written by python -m benchmarks.model -->", "<!-- end of the model -->"


class Device(NamedTuple):
    """Data sheets, but for the last two, which are guesses."""

    name: str
    bandwidth: float  # bytes/s
    instructions: float  # of a warp, /s: multiprocessors x 4 schedulers x clock
    clock: float  # Hz
    resident: float  # programs of 128 threads at once
    launch: float  # s, between the nodes of a graph
    atomics: float  # /s, to scattered words in the second cache


V100 = Device("V100", 900e9, 80 * 4 * 1.53e9, 1.53e9, 80 * 16, 2.5e-6, 40e9)
H200 = Device("H200", 4.8e12, 132 * 4 * 1.755e9, 1.755e9, 132 * 16, 1.5e-6, 100e9)
IDLE = 0.5e-6  # s, of a program that finds nothing to do; a guess


class Load(NamedTuple):
    """A workload: pixels in regions and in the blocks they lie in, side of a region, atomics left after merging."""

    name: str
    pixels: float
    block_pixels: float
    side: int
    pairs: float  # of the four pairs of a pixel, each
    dependences: float
    runs: float  # ends of runs a pixel, as many as changes of level down a column


LOADS = (
    Load("64 Grad-CAM boxes in 224 x 224", 64 * 11_358, 64 * 224**2, 110, 0.85, 0.88, 0.63),
    Load("64 official boxes in 1024 x 1024", 64 * 103_837, 64 * 1024**2, 322, 0.62, 0.79, 0.41),
    Load("64 whole images of 1024 x 1024", 64 * 1024**2, 64 * 1024**2, 1024, 0.31, 0.50, 0.18),
)


class Work(NamedTuple):
    """Of one kernel, or of all memory fills together."""

    name: str
    what: str  # must be done
    bytes: float = 0  # a pixel: read and written at least
    instructions: float = 0  # of a thread, a pixel
    tiles: int = 0  # programs a tile of 1024 pixels
    chain: float = 0  # cycles that follow one another in one program
    step: float = 0  # the same, a pixel of a region's side
    launches: int = 1

    def atomics(self, load: Load) -> float:
        """A pixel."""
        return {
            "measure": 7 / 1024,
            "count_levels": 30 / 1024,
            "count_values": 100 / 1024,
            "count_nearest": 4 * load.pairs + load.dependences + load.runs,
            "count_runs": 4 * load.runs,
            "join_nearest": 0.5 * load.runs,
            "count_zones": load.runs,
            "list_zones": 0.3 * load.runs,
        }.get(self.name, 0.0)

    def floor(self, load: Load, device: Device) -> float:
        """Seconds to move the bytes."""
        return self.bytes * load.pixels / device.bandwidth

    def predicted(self, load: Load, device: Device) -> float:
        """Seconds: launches, programs that find nothing, the slowest of bytes, instructions and atomics, the chain."""
        busy = max(
            self.floor(load, device),
            self.instructions * load.pixels / 32 / device.instructions,
            self.atomics(load) * load.pixels / device.atomics,
        )
        idle = self.tiles * (load.block_pixels - load.pixels) / 1024 * IDLE / device.resident
        return self.launches * device.launch + idle + busy + (self.chain + self.step * load.side) / device.clock


# Chains: what is read off the loops of the binaries, some 600 cycles a dependent read of memory, 250 a reduction
WORK = (
    Work("fills", "zeros for what is counted, places of the regions", launches=12),
    Work("clip_boxes", "boxes to whole pixels", chain=1_500),
    Work("measure", "least, largest, extent, number", 1, 101, 1, 3_000),
    Work("set_edges", "bins of a region", chain=6_000),
    Work("write_levels", "compare with edges, write levels", 2, 169, 1, 4_000),
    Work("count_levels", "histogram of levels", 1, 26, 1, 2_500),
    Work("count_values", "histogram of intensities", 2, 110, 1, 3_000),
    Work("of_counts", "moments and percentiles of 256 values", chain=10_000),
    Work("measure_boxes", "shape of boxes", chain=1_500),
    Work("count_nearest", "four pairs, eight neighbours a pixel", 1, 200, 1, 11_000),
    Work("sum_pairs", "marginals and sums of four matrices of 32 x 32", chain=25_000),
    Work("correlate", "31 reflections, 11 rounds of 32 minors for 32 shifts", chain=68_000),
    Work("find_lines", "two pixels on a line, once", 1, 70, 1, 2_500),
    Work("count_runs", "each pixel once in each of four directions", 1, 4 * 31, 4, 3_000, 125),
    Work("sum_cells", "sums of four matrices of levels and runs", chain=15_000, step=42),
    Work("begin_zones", "runs along rows, within tiles", 10, 72, 1, 3_000),
    Work("join_nearest", "at most two unions a pixel", 5, 250, 1, 8_000),
    Work("count_zones", "root and size", 13, 150, 1, 5_000),
    Work("list_zones", "roots to tables", 9, 67, 1, 3_500),
    Work("sort_zones", "zones of 64 pixels and more", tiles=1, chain=2_500),
    Work("write_zones", "table of zones of a region", chain=8_000),
    Work("sum_zones", "sums of up to sqrt(2 N Ng) zones", chain=3_000, step=60),
    Work("pair_sums", "32 x 32 pairs of levels", chain=10_000),
    Work("add_blocks", "NGTDM of a region", chain=4_000),
    Work("sum_cells (GLDM)", "sums of a matrix of levels and dependences", chain=15_000),
    Work("evaluate", "102 formulas", chain=8_000),
)


def table() -> list[str]:
    """The lines of the docs, predictions in microseconds."""
    whole = LOADS[-1]
    head = ["kernel", "what must be done", "bytes a pixel", "instructions", "atomics"]
    head += [f"floor {d.name}, whole images" for d in (V100, H200)]
    head += [f"predicted {H200.name}: {load.name}" for load in LOADS]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for work in WORK:
        cells = [f"`{work.name}`", work.what]
        cells += [f"{work.bytes:g}" if work.bytes else "", f"{work.instructions:g}" if work.instructions else ""]
        cells.append(f"{work.atomics(whole):.2f}" if work.atomics(whole) else "")
        cells += [f"{1e6 * work.floor(whole, d):.0f}" if work.bytes else "" for d in (V100, H200)]
        cells += [f"{1e6 * work.predicted(load, H200):.0f}" for load in LOADS]
        lines.append("| " + " | ".join(cells) + " |")
    totals = [sum(work.predicted(load, device) for work in WORK) for device in (H200, V100) for load in LOADS]
    floors = [f"{1e6 * sum(w.floor(whole, d) for w in WORK):.0f}" for d in (V100, H200)]
    launches = sum(work.launches for work in WORK)
    own = [f"**{1e6 * t:.0f}**" for t in totals[:3]]
    lines.append(f"| **all, {launches} launches** | | | | | {' | '.join(floors)} | {' | '.join(own)} |")
    lines += ["", f"The same predicted for a V100: {', '.join(f'{1e3 * t:.2f} ms' for t in totals[3:])}."]
    copies = [2 * whole.pixels / device.bandwidth for device in (V100, H200)]
    lines.append(
        f"Copying the input of the last takes {1e6 * copies[0]:.0f} us on a V100, {1e6 * copies[1]:.0f} us on an H200: "
        f"the prediction for the H200 is {totals[2] / copies[1]:.0f} times that."
    )
    return lines


def main() -> None:
    before, rest = DOCS.read_text().split(f"{BEGIN}\n")
    after = rest.split(f"{END}\n")[1]
    DOCS.write_text(f"{before}{BEGIN}\n" + "\n".join(table()) + f"\n{END}\n{after}")


if __name__ == "__main__":
    main()
