"""Predict the time of each kernel from the work that it must do: ``python -m benchmarks.model``.

Writes the tables of docs/kernels.md anew. The default call: 8-bit images, boxes, 32 bins, all 102 features; the kernels
that only other calls reach; and volumes of 16 bits with a mask, 32 bins, all 107 features. Counts of instructions are
read off the binaries for sm_90, of which each loop is counted as often as it goes round (roughly, where loops of a
region lie within each other); in volumes those of kernels that 2D has too are its own, some of them raised by an
estimate, and those of shape are estimates. The fractions of atomics that remain after merging, the numbers of zones and
the longest runs were measured on the CPU, on NIH chest X-rays with their official boxes and whole, on drawn images for
the boxes in 224 x 224, and on boxes of a CT of the chest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- written by python -m benchmarks.model -->", "<!-- end of the model -->"
REGIONS, LEVELS = 64, 32
MATRIX = LEVELS * LEVELS  # cells of the GLCM of a direction, of which there are four


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
    """A workload of some regions, 64 if nothing else is said: what is in them, in the mean."""

    name: str
    pixels: float  # of all regions
    image: int  # side of the images, and of the blocks that the regions lie in
    side: int  # of a region
    pairs: float  # atomics left after merging: of the four pairs of a pixel, each
    dependences: float
    runs: float  # ends of runs a pixel, as many as changes of level down a column
    zones: int  # rows of the table of zones
    large: int  # zones of 64 pixels and more
    longest: int  # run
    regions: int = REGIONS
    depth: int = 1  # of the images, and of the blocks

    @property
    def block_pixels(self) -> float:
        return float(self.regions * self.depth * self.image**2)

    @property
    def most_zones(self) -> int:
        """Return the rows that the table of zones has room for."""
        return math.isqrt(2 * self.depth * self.image**2 * LEVELS)


LOADS = (
    Load("64 Grad-CAM boxes in 224 x 224", 64 * 11_358, 224, 110, 0.85, 0.88, 0.63, 430, 19, 11),
    Load("64 official boxes in 1024 x 1024", 64 * 103_837, 1024, 322, 0.62, 0.79, 0.41, 760, 190, 49),
    Load("64 whole images of 1024 x 1024", 64 * 1024**2, 1024, 1024, 0.31, 0.50, 0.18, 1790, 870, 585),
)
VOLUMES = (  # whose blocks are as large as the regions
    Load("64 lesions of 32 x 32 x 32", 64 * 32**3, 32, 32, 0.59, 0.88, 0.41, 430, 38, 32, depth=32),
    Load("an organ of 256 x 256 x 256", 256**3, 256, 256, 0.28, 0.57, 0.15, 1540, 3900, 256, regions=1, depth=256),
)
HALF = 13  # directions of a volume


def fill_bytes(load: Load) -> float:
    """Return the zeros of a region in the default call, the largest first; and its place."""
    zones = 12 * load.most_zones + 4 * (LEVELS + load.most_zones) + 4 * (64 * LEVELS + 1)
    small = 4 * 256 + 4 * LEVELS + 80 + 16 + 8  # counts of values, histogram, measures, lines, place
    return 4 * 4 * LEVELS * load.image + zones + 4 * 4 * MATRIX + (4 + 8) * 9 * LEVELS + small


def cell_instructions(matrices: int, sizes: float, longest: float) -> float:
    """Return the instructions of ``sum_cells``.

    Once over all sizes by level, once over those up to the longest, 128 at a time.
    """
    blocks, filled = math.ceil(sizes / 128), math.ceil(longest / 128)
    return matrices * 128 * (800 + 8 * (287 + 55 * blocks) + filled * (107 + 8 * 559))


def line_pairs(load: Load) -> float:
    """Return the pairs of ``compare_lines``: blocks of 32 half lines against those that follow."""
    blocks = math.ceil((2 * load.side + 1) / 32)
    return blocks * (blocks + 1) / 2


def end_points(load: Load) -> float:
    """Return the ends of rows of the planes across one axis of a volume, integer and half planes."""
    return 2 * (2 * load.side + 1) ** 2


class Work(NamedTuple):
    """Work of one kernel, or of all memory fills together."""

    name: str
    what: str  # must be done
    bytes: float = 0  # a pixel: read and written at least
    instructions: float = 0  # of a thread, a pixel
    tiles: int = 0  # programs a tile of 1024 pixels
    chain: float = 0  # cycles that follow one another in one program
    step: float = 0  # the same, a pixel of a region's side
    launches: int = 1
    region_bytes: Callable[[Load], float] = lambda load: 0.0  # and what there is to do for each region, or image
    region_instructions: Callable[[Load], float] = lambda load: 0.0
    of_images: bool = False  # every pixel of the images, not only those of the regions

    def pixels(self, load: Load) -> float:
        return load.block_pixels if self.of_images else load.pixels

    def atomics(self, load: Load) -> float:
        """Return atomics per pixel."""
        name = self.name.split()[0]
        return {
            "measure": 7 / 1024,
            "extend_boxes": 12 / 1024,
            "count_cubes": 40 / 1024,
            "count_levels": 30 / 1024,
            "count_values": 100 / 1024,
            "count_nearest": 4 * load.pairs + load.dependences + load.runs,
            "count_nearest_in_space": HALF * load.pairs + load.dependences + load.runs,
            "count_neighbourhood": 12 * load.pairs + load.dependences + load.runs,
            "count_runs": self.tiles * load.runs,
            "join_nearest": 0.5 * load.runs,
            "join_nearest_in_space": load.runs,
            "join_zones": 0.5 * load.runs,
            "count_zones": load.runs,
            "list_zones": 0.3 * load.runs,
            "count_digits": 2.0,  # all keys, then those that begin like a percentile
            "trace": 10 / 1024,
            "sum_components": 10 / 1024,
        }.get(name, 0.0)

    def traffic(self, load: Load) -> float:
        """Return the bytes that are moved."""
        return self.bytes * self.pixels(load) + load.regions * self.region_bytes(load)

    def executed(self, load: Load) -> float:
        """Return the instructions of warps."""
        return (self.instructions * self.pixels(load) + load.regions * self.region_instructions(load)) / 32

    def floor(self, load: Load, device: Device) -> float:
        """Return the seconds to move the bytes."""
        return self.traffic(load) / device.bandwidth

    def predicted(self, load: Load, device: Device) -> float:
        """Return the seconds predicted.

        Launches, programs that find nothing, the slowest of bytes, instructions and atomics, the chain.

        Where each region has a program, the chain is that program, beside which the others run.
        """
        busy = max(
            self.floor(load, device),
            self.executed(load) / device.instructions,
            self.atomics(load) * self.pixels(load) / device.atomics,
        )
        idle = self.tiles * (load.block_pixels - self.pixels(load)) / 1024 * IDLE / device.resident
        chain = (self.chain + self.step * load.side) / device.clock
        work = busy + chain if self.instructions else max(busy, chain)
        return self.launches * device.launch + idle + work


# Chains: what is read off the loops of the binaries, some 600 cycles a dependent read of memory, 250 a reduction
WORK = (
    Work("fills", "zeros for what is counted, places of the regions", launches=12, region_bytes=fill_bytes),
    Work(
        "clip_boxes", "boxes to whole pixels", chain=1_500,
        region_bytes=lambda _: 16 + 84, region_instructions=lambda _: 194,
    ),
    Work("measure", "least, largest, extent, number", 1, 101, 1, 3_000),
    Work(
        "set_edges", "bins of a region", chain=6_000,
        region_bytes=lambda _: 60 + 52, region_instructions=lambda _: 128 * 512,
    ),
    Work("write_levels", "compare with edges, write levels", 2, 169, 1, 4_000),
    Work("count_levels", "histogram of levels", 1, 26, 1, 2_500),
    Work("count_values", "histogram of intensities", 2, 110, 1, 3_000),
    Work(
        "summarise_counts", "moments and percentiles of 256 values", chain=10_000,
        region_bytes=lambda _: 4 * 256 + 4 * LEVELS + 8 * 17, region_instructions=lambda _: 128 * 2_060,
    ),
    Work(
        "measure_boxes", "shape of boxes", chain=1_500,
        region_bytes=lambda _: 24 + 16 + 72, region_instructions=lambda _: 321,
    ),
    Work("count_nearest", "four pairs, eight neighbours a pixel", 1, 200, 1, 11_000),
    Work(
        "sum_pairs", "marginals and sums of four matrices of 32 x 32", chain=25_000,
        region_bytes=lambda _: 4 * ((4 + 8) * MATRIX + 8 * 5 * LEVELS + 8 * 29),
        region_instructions=lambda _: 4 * 128 * 9_000,
    ),
    Work(
        "correlate", "31 reflections, 11 rounds of 32 minors for 32 shifts", chain=68_000,
        region_bytes=lambda _: 4 * (8 * MATRIX + 2 * 8 * (LEVELS + 1) + 8),
        region_instructions=lambda _: 4 * 32 * 35_000,
    ),
    Work("find_lines", "two pixels on a line, once", 1, 70, 1, 2_500),
    Work("count_runs", "each pixel once in each of four directions", 1, 4 * 31, 4, 3_000, 125),
    Work(
        "sum_cells", "sums of four matrices of levels and runs", chain=15_000, step=42,
        region_bytes=lambda load: 4 * (4 * LEVELS * load.image + 8 * 15),
        region_instructions=lambda load: cell_instructions(4, load.image, load.longest),
    ),
    Work("begin_zones", "runs along rows, within tiles", 10, 72, 1, 3_000),
    Work("join_nearest", "at most two unions a pixel", 5, 250, 1, 8_000),
    Work("count_zones", "root and size", 13, 150, 1, 5_000),
    Work("list_zones", "roots to tables", 9, 67, 1, 3_500),
    Work(
        "sort_zones", "zones of 64 pixels and more, each among all", tiles=1, chain=2_500,
        region_bytes=lambda load: 16 * load.large + 4,
        region_instructions=lambda load: 32 * (load.large / 16) * (180 + 326 * load.large / 64),
    ),
    Work(
        "write_zones", "table of zones of a region", chain=8_000,
        region_bytes=lambda load: 4 * 64 * LEVELS + 8 * load.large + 12 * load.zones,
        region_instructions=lambda load: 128 * (1_532 + 463 * (load.large // 1024)),
    ),
    Work(
        "sum_zones", "sums of up to sqrt(2 N Ng) zones", chain=3_000, step=60,
        region_bytes=lambda load: 12 * load.zones + 4 * (LEVELS + load.zones) + 8 * 15,
        region_instructions=lambda load: 128 * (900 + (157 + 423) * math.ceil(load.zones / 256)),
    ),
    Work(
        "pair_sums", "32 x 32 pairs of levels", chain=10_000,
        region_bytes=lambda _: 4 * LEVELS + 8 * 9 * LEVELS + 64, region_instructions=lambda _: 128 * 5_500,
    ),
    Work(
        "add_blocks", "NGTDM of a region", chain=4_000,
        region_bytes=lambda _: 64 + 4 * LEVELS + 64, region_instructions=lambda _: 32 * 431,
    ),
    Work(
        "sum_cells (GLDM)", "sums of a matrix of levels and dependences", chain=15_000,
        region_bytes=lambda _: 4 * 9 * LEVELS + 8 * 15, region_instructions=lambda _: cell_instructions(1, 9, 9),
    ),
    Work(
        "evaluate", "102 formulas", chain=8_000,
        region_bytes=lambda _: 8 * 240 + 20 + 4 * 102, region_instructions=lambda _: 8_300,
    ),
)  # fmt: skip

FLOATS, MASKS, NORMALISED = "float32 images", "masks", "`normalize`"
HEATMAPS = "`heatmap_boxes`"
IN_SIGMA, WEIGHTED, ASYMMETRIC = "`resegment_mode` sigma", "`weighting_norm`", "not `symmetrical_glcm`"
REACH, VOLUME, PLANES = "two `distances`", "volumes", "`force2d` along x or y"
SHAPE = "`shape` of volumes"
# when, and what; bytes of sums by tile: 8 for each 1024 pixels of a block
ELSEWHERE = (
    (NORMALISED, Work("image_sums", "sums of whole images", 1, 78, 1, 3_000, of_images=True)),
    (NORMALISED, Work(
        "end_moments", "mean and deviation of an image", chain=9_000,
        region_bytes=lambda load: 4 * 8 * load.image**2 / 1024 + 16,
        region_instructions=lambda load: 128 * (600 + 155 * load.image**2 / 1024 / 128),
    )),
    (IN_SIGMA, Work(
        "set_thresholds", "mean, then deviation of a region", chain=16_000, launches=2,
        region_bytes=lambda load: 2 * (64 + 8 * load.pixels / load.regions / 1024 + 32),
        region_instructions=lambda load: 128 * (700 + 2 * 37 * load.pixels / load.regions / 1024 / 128),
    )),
    (FLOATS, Work("count_digits", "five times 8 bits of each intensity", 5 * 5, 5 * 92, 5, 5 * 3_500, launches=5)),
    (FLOATS, Work(
        "pick_digits", "12 order statistics, five times", chain=5 * 12_000, launches=5,
        region_bytes=lambda _: 5 * (2 * 4 * 12 * 256 + 2 * 24 * 16), region_instructions=lambda _: 5 * 128 * 6_900,
    )),
    (FLOATS, Work(
        "begin_columns", "mean and percentiles of a region", chain=15_000,
        region_bytes=lambda load: 2 * 8 * load.pixels / load.regions / 1024 + 4 * LEVELS + 8 * 16 + 8 * 17,
        region_instructions=lambda load: 128 * (1_600 + 2 * 31 * load.pixels / load.regions / 1024 / 128),
    )),
    (FLOATS, Work("sum_deviations", "powers of deviations, then about the middle", 2 * 5, 191, 2, 8_000, launches=2)),
    (FLOATS, Work(
        "end_columns", "central moments of a region", chain=20_000, step=30, launches=2,
        region_bytes=lambda load: 9 * 8 * load.pixels / load.regions / 1024 + 8 * 8,
        region_instructions=lambda load: 128 * (1_400 + 9 * 31 * load.pixels / load.regions / 1024 / 128),
    )),
    (MASKS, Work("extend_boxes", "ends of runs, looked up among the labels", 1, 108, 1, 3_000, of_images=True)),
    (MASKS, Work("trace", "squares of four pixels, sums of coordinates", 1, 745, 1, 6_000)),
    (MASKS, Work(
        "compare_lines", "vertices of all pairs of half lines", chain=5_000, step=190,
        region_bytes=lambda load: 8 * (2 * load.side + 1) + 8 * 16,
        region_instructions=lambda load: 128 * (600 + 525 * line_pairs(load)),
    )),
    (MASKS, Work(
        "end_shape", "shape of a region", chain=3_000,
        region_bytes=lambda _: 80 + 8 * 16 + 24 + 16 + 72, region_instructions=lambda _: 32 * 386,
    )),
    (WEIGHTED, Work(
        "set_weights", "which directions have pairs", chain=12_000,
        region_bytes=lambda _: 4 * (4 * MATRIX + 8 + 8), region_instructions=lambda _: 128 * (382 + 3 * (258 + 3 * 68)),
    )),
    (WEIGHTED, Work(
        "combine", "weighted sum of four matrices", chain=5_000,
        region_bytes=lambda _: (4 * 4 + 8) * MATRIX, region_instructions=lambda _: 4 * 128 * (398 + 3 * 81),
    )),
    (ASYMMETRIC, Work(
        "square_rows", "four matrices of 32 x 32, each times its transpose", chain=20_000,
        region_bytes=lambda _: 4 * 2 * 8 * MATRIX,
        region_instructions=lambda _: 4 * 4 * 128 * (90 + 8 * (130 + 4 * 71)),
    )),
    (VOLUME, Work("count_nearest_in_space", "13 pairs, 26 neighbours a voxel", 1, 530, 1, 20_000)),
    (VOLUME, Work("join_nearest_in_space", "at most six unions a voxel", 5, 800, 1, 15_000)),
    (REACH, Work("count_neighbourhood", "twelve pairs, 24 neighbours a pixel", 1, 12 * 76 + 24 * 60 + 106, 1, 60_000)),
    (SHAPE, Work("count_cubes", "kinds of cubes, sums of places", 1, 300, 1, 6_000)),
    (SHAPE, Work(
        "measure_planes", "ends of rows of all planes, pairs of them", 4, 250, 1, 20_000,
        region_instructions=lambda load: 24 * 6 * load.side * (2 * load.side) ** 2 / 2,
    )),
    (SHAPE, Work(
        "find_reach", "extreme points along diagonals", chain=6_000,
        region_bytes=lambda load: 4 * end_points(load), region_instructions=lambda load: 150 * end_points(load),
    )),
    (SHAPE, Work(
        "list_points", "points that may be the furthest", chain=6_000,
        region_bytes=lambda load: 4 * end_points(load), region_instructions=lambda load: 200 * end_points(load),
    )),
    (SHAPE, Work(
        "compare_points", "pairs of such points", chain=6_000,
        region_bytes=lambda load: 4 * 46 * load.side,
        region_instructions=lambda load: 15 * (46 * load.side) ** 2 / 2,
    )),
    (SHAPE, Work(
        "sum_boxes", "shape of boxes", chain=1_500, region_bytes=lambda _: 24 + 24 + 8 * 80,
        region_instructions=lambda _: 600,
    )),
    (PLANES, Work("join_zones", "unions with neighbours before a pixel", 5, 350, 1, 8_000)),
    (HEATMAPS, Work("measure_maps", "least and largest of whole maps", 4, 18, 1, 3_000, of_images=True)),
    (HEATMAPS, Work("begin_components", "above the threshold, runs along rows", 9, 157, 1, 4_000, of_images=True)),
    (HEATMAPS, Work("sum_components", "totals and extents at the roots", 13, 330, 1, 7_000)),
    (HEATMAPS, Work(
        "pick_components", "the largest of a map", chain=8_000,
        region_bytes=lambda _: 4 * 24 + 20, region_instructions=lambda _: 128 * 494,
    )),
)  # fmt: skip


def in_volume(name: str, instructions: float = 0, factor: float = 1, bytes_: float = 0) -> Work:
    """Return the work of a kernel in the call on volumes, whose matrices have HALF directions.

    Args:
        name: of the kernel in the tables of 2D.
        instructions: a voxel; 0: as many as a pixel takes.
        factor: multiple of what a region needs in 2D.
        bytes_: a voxel; 0: as many as a pixel takes.
    """
    work = next(work for work in (*WORK, *(work for _, work in ELSEWHERE)) if work.name == name)
    region_bytes, region_instructions = work.region_bytes, work.region_instructions
    return work._replace(
        bytes=bytes_ or work.bytes,
        instructions=instructions or work.instructions,
        region_bytes=lambda load: factor * region_bytes(load),
        region_instructions=lambda load: factor * region_instructions(load),
    )


def volume_fill_bytes(load: Load) -> float:
    """Return the zeros of a region of a volume in the call, and its place."""
    zones = 12 * load.most_zones + 4 * (LEVELS + load.most_zones) + 4 * (1024 if load.regions == 1 else 64) * LEVELS
    small = 4 * 16 * 256 + 4 * LEVELS + 80 + 24 + 4 * HALF + 8  # digits, histogram, measures, box, lines, place
    return 4 * HALF * LEVELS * load.image + zones + 4 * HALF * MATRIX + (4 + 8) * 27 * LEVELS + small


FOUR_OF_FIVE = 4 / 5  # digits of 16 bits beside those of float32
VOLUME_WORK = (
    Work("fills", "zeros for what is counted, places of the regions", launches=14, region_bytes=volume_fill_bytes),
    in_volume("clip_boxes"),
    in_volume("extend_boxes", 85),
    in_volume("measure", 125, bytes_=3),
    in_volume("set_edges"),
    in_volume("write_levels", 195, bytes_=4),
    in_volume("count_levels"),
    in_volume("count_digits", FOUR_OF_FIVE * 5 * 92, bytes_=4 * 3)._replace(what="four times 8 bits of each intensity"),
    in_volume("pick_digits", factor=FOUR_OF_FIVE)._replace(what="12 order statistics, four times"),
    in_volume("begin_columns")._replace(chain=15_000, step=300),
    in_volume("sum_deviations", bytes_=2 * 3),
    in_volume("end_columns")._replace(chain=20_000, step=1_350),
    *(in_volume(name) for name in ("count_cubes", "measure_planes", "find_reach", "list_points", "compare_points")),
    in_volume("end_shape", factor=10),
    in_volume("count_nearest_in_space"),
    in_volume("sum_pairs", factor=HALF / 4)._replace(what="marginals and sums of 13 matrices of 32 x 32"),
    in_volume("correlate", factor=HALF / 4),
    in_volume("find_lines"),
    in_volume("count_runs", HALF * 38)._replace(tiles=HALF, what="each voxel once in each of 13 directions"),
    in_volume("sum_cells", factor=HALF / 4)._replace(what="sums of 13 matrices of levels and runs"),
    in_volume("begin_zones"),
    in_volume("join_nearest_in_space"),
    in_volume("count_zones"),
    in_volume("list_zones"),
    in_volume("sort_zones")._replace(what="zones that are not in the table, each among all"),
    in_volume("write_zones", factor=2),
    in_volume("sum_zones"),
    in_volume("pair_sums", factor=3),
    in_volume("add_blocks"),
    in_volume("sum_cells (GLDM)"),
    in_volume("evaluate")._replace(what="107 formulas"),
)


def figure(microseconds: float) -> str:
    """Format a number with one digit after the point where that says more."""
    return f"{microseconds:.0f}" if microseconds >= 9.95 else f"{microseconds:.1f}" if microseconds >= 0.05 else "0"


def of_each(pixel: float, region: float) -> str:
    """Format a pixel's figure, or to three digits a region's."""
    return f"{pixel:g} a pixel" if pixel else f"{float(f'{region:.3g}'):,.0f} a region" if region else ""


def row(work: Work, first: list[str]) -> str:
    """Return a line of a table; times in microseconds."""
    largest = LOADS[-1]
    cells = [*first, f"`{work.name}`", work.what]
    cells.append(of_each(work.bytes, work.region_bytes(largest)))
    cells.append(of_each(work.instructions, work.region_instructions(largest)))
    cells.append(f"{work.atomics(largest):.2f}" if work.atomics(largest) else "")
    cells += [figure(1e6 * work.floor(largest, d)) for d in (V100, H200)]
    cells += [f"{1e6 * work.predicted(load, H200):.0f}" for load in LOADS]
    return "| " + " | ".join(cells) + " |"


def table() -> list[str]:
    """Return the lines of the docs, predictions in microseconds."""
    largest = LOADS[-1]
    head = ["kernel", "what must be done", "bytes", "instructions", "atomics a pixel"]
    head += [f"floor {d.name}, whole images" for d in (V100, H200)]
    head += [f"predicted {H200.name}: {load.name}" for load in LOADS]
    names, rule = "| " + " | ".join(head) + " |", "|---" * len(head) + "|"
    lines = [names, rule, *(row(work, []) for work in WORK)]
    totals = [sum(work.predicted(load, device) for work in WORK) for device in (H200, V100) for load in LOADS]
    floors = [f"{1e6 * sum(w.floor(largest, d) for w in WORK):.0f}" for d in (V100, H200)]
    launches, traffic = sum(work.launches for work in WORK), sum(work.traffic(largest) for work in WORK) / 1e6
    own = [f"**{1e6 * t:.0f}**" for t in totals[:3]]
    lines.append(
        f"| **all, {launches} launches** | | {traffic:,.0f} MB | | | {' | '.join(floors)} | {' | '.join(own)} |"
    )
    lines += ["", f"The same predicted for a V100: {', '.join(f'{1e3 * t:.2f} ms' for t in totals[3:])}."]
    copies = [2 * largest.pixels / device.bandwidth for device in (V100, H200)]
    lines.append(
        f"Copying the input of the last takes {1e6 * copies[0]:.0f} us on a V100, {1e6 * copies[1]:.0f} us on an H200: "
        f"the prediction for the H200 is {totals[2] / copies[1]:.0f} times that."
    )
    lines += ["", "Kernels that only other calls reach, for the same pixels and 32 levels:", ""]
    lines += [f"| with {names}", f"|---{rule}"]
    return [*lines, *(row(work, [condition]) for condition, work in ELSEWHERE), *volume_table()]


def volume_table() -> list[str]:
    """Return the lines of the docs about volumes, in microseconds."""
    head = ["kernel", "what must be done", "instructions", "atomics a voxel"]
    head += [f"{what}: {load.name}" for load in VOLUMES for what in (f"floor {H200.name}", f"predicted {H200.name}")]
    lines = ["", "Volumes of 16 bits with a mask, 32 bins, all 107 features:", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    largest = VOLUMES[-1]
    for work in VOLUME_WORK:
        atomics = f"{work.atomics(largest):.2f}" if work.atomics(largest) else ""
        instructions = of_each(work.instructions, work.region_instructions(largest)).replace("pixel", "voxel")
        times = [seconds for load in VOLUMES for seconds in (work.floor(load, H200), work.predicted(load, H200))]
        cells = [f"`{work.name}`", work.what, instructions, atomics, *(figure(1e6 * seconds) for seconds in times)]
        lines.append("| " + " | ".join(cells) + " |")
    launches = sum(work.launches for work in VOLUME_WORK)

    def totals(load: Load, device: Device) -> tuple[float, float]:
        floor, predicted = (
            sum(method(work, load, device) for work in VOLUME_WORK) for method in (Work.floor, Work.predicted)
        )
        return floor, predicted

    cells = [
        f"{1e6 * floor:.0f} | **{1e6 * predicted:.0f}**" for floor, predicted in (totals(v, H200) for v in VOLUMES)
    ]
    lines.append(f"| **all, {launches} launches** | | | | {' | '.join(cells)} |")
    on_v100 = [f"{1e3 * p:.2f} ms over a floor of {1e3 * f:.2f} ms" for f, p in (totals(v, V100) for v in VOLUMES)]
    return [*lines, "", f"The same predicted for a V100: {', '.join(on_v100)}."]


def split_document(document: Path, begin: str, end: str) -> tuple[str, list[str], str]:
    """Split a document at a generated part: the text up to and with its mark, its lines, the text after it."""
    head, tail = document.read_text().split(f"{begin}\n")
    lines, foot = tail.split(f"{end}\n")
    return f"{head}{begin}\n", lines.splitlines(), f"{end}\n{foot}"


def table_in_docs() -> tuple[str, list[str], str]:
    """Return the tables of docs/kernels.md, between what stands before and after them."""
    return split_document(DOCS, BEGIN, END)


def main() -> None:
    head, _, foot = table_in_docs()
    DOCS.write_text(head + "\n".join(table()) + "\n" + foot)


if __name__ == "__main__":
    main()
