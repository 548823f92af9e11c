"""On real hardware: exactness, determinism, no synchronisation, graphs, memory. Skipped where there is no GPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.kacl.boxes import components, heatmap_boxes
from kacl_gpu.kacl.byop import BYOP, look
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.memory import Bounds, zone_bound
from kacl_gpu.radiomics.regions import make_regions
from kacl_gpu.radiomics.volumes import discretise, half_offsets
from reference.check import feature_misses, our_matrices, ours
from reference.frozen import digests, load
from reference.regions import seeded
from reference.tolerance import deviations

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ROOT = Path(__file__).parents[2]
RANDOM_REGIONS, SEED = 10_000, 20_261_124
SETTINGS = {
    "count": RadiomicsSettings(bin_count=32),
    "width": RadiomicsSettings(bin_width=8.0, max_levels=64, weighting_norm="euclidean", gldm_a=1),
    "many levels": RadiomicsSettings(bin_count=120, distances=(1, 2), symmetrical_glcm=False),
    "everything": RadiomicsSettings(
        bin_count=16,
        normalize=True,
        remove_outliers=3.0,
        resegment_range=(-2.0, 2.0),
        resegment_mode="sigma",
        weighting_norm="manhattan",
        distances=(1, 3),
    ),
}


def batch(dtype: torch.dtype = torch.uint8, count: int = 6, size: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images on the GPU, smooth, noisy, flat and of few levels in turn, and boxes (B, 4) of every size."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    images = []
    for n in range(count):
        smooth = np.sin(5 * y + rng.normal()) + np.cos(7 * x + rng.normal()) + 0.1 * rng.normal(size=(size, size))
        images.append([smooth * 60 + 125, rng.uniform(0, 250, (size, size)), np.full((size, size), 77.0)][n % 3])
    images[-1] = np.round(images[0] / 80) * 80
    first = rng.integers(0, size - 30, (count, 2))
    boxes = np.concatenate([first, first + rng.integers(2, 30, (count, 2))], 1)
    boxes[0] = 0, 0, size, size
    stacked = torch.from_numpy(np.clip(np.stack(images), 0, 250))
    stacked = stacked if dtype.is_floating_point else stacked.round()
    return stacked.to(dtype).cuda(), torch.from_numpy(boxes).float().cuda()


def compute(images: Tensor, boxes: Any, **options: Any) -> Tensor:
    return gpu_radiomics(images, boxes, invalid="nan", **{"dtype": torch.float64, **options})


def scale_of(names: tuple[str, ...], row: np.ndarray) -> np.ndarray:
    """Return a bound on the sum of the absolute terms of the signed sums, from other features of the row."""
    value = dict(zip(names, row))
    scale = np.zeros(len(names))
    for name, bound in (
        ("original_firstorder_Skewness", "original_firstorder_Kurtosis"),
        ("original_glcm_ClusterShade", "original_glcm_ClusterProminence"),
    ):
        if name in value:  # E|d|^3 is at most (E d^4)^(3/4)
            scale[names.index(name)] = value.get(bound, 0.0) ** 0.75
    if "original_glcm_Imc1" in value:
        scale[names.index("original_glcm_Imc1")] = 2.0
    return np.nan_to_num(scale)


def assert_close_rows(ours_: Tensor, twin: Tensor, settings: RadiomicsSettings) -> None:
    names = feature_names(settings)
    for a, b in zip(ours_.numpy(force=True), twin.numpy(force=True), strict=True):
        far = deviations(names, a, b, scale_of(names, b))
        assert (far <= 1).all(), [(names[n], a[n], b[n]) for n in np.flatnonzero(far > 1)]


def assert_same_bits(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


# --- exact


@pytest.mark.parametrize("part", ["levels", "zones", "others"])
def test_gpu_repeats_the_tests_of_the_interpreter(part: str) -> None:
    """Every kernel and branch against its twin, on hardware, with guards around each tensor."""
    prefix = {"levels": ("levels", "first_order"), "zones": ("glszm", "glrlm", "neighbourhood", "sizes")}
    named = {name: [Path(__file__).with_name(f"test_{end}.py") for end in ends] for name, ends in prefix.items()}
    named["others"] = sorted({*Path(__file__).parent.glob("test_*.py")} - {f for fs in named.values() for f in fs})
    files = [str(path) for path in named[part]]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "interpreted",
        "--kernels-on",
        "cuda",
        *files,
    ]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.parametrize("part", range(10))
def test_gpu_frozen_regions(part: int) -> None:
    """Against the stored values of PyRadiomics."""
    for region, expected, digest in load()[part::10]:
        misses = [str(miss) for miss in feature_misses(region, expected, ours(region, "cuda"))]
        assert not misses, "\n".join([region.describe(), *misses])
        if digest:
            assert digests(our_matrices(region, "cuda")) == digest, region.describe()


@pytest.mark.parametrize("part", range(20))
def test_gpu_random_regions(part: int) -> None:
    """10,000 regions of every content, shape and setting against the CPU implementation."""
    for index in range(part, RANDOM_REGIONS, 20):
        region = seeded(SEED, index)
        there, here = ours(region, "cuda"), ours(region)
        names = feature_names(region.settings)
        far = deviations(names, there, here, scale_of(names, here))
        assert (far <= 1).all(), (index, [(names[n], there[n], here[n]) for n in np.flatnonzero(far > 1)])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int16, torch.int32, torch.float16, torch.bfloat16, torch.float32, torch.float64],
    ids=str,
)
def test_gpu_features_of_each_type(dtype: torch.dtype, settings: RadiomicsSettings) -> None:
    images, boxes = batch(dtype, size=90)
    masks = (torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8).cuda()
    for options in ({}, {"masks": masks}):
        there = compute(images, boxes, settings=settings, spacing=(0.7, 1.3), **options)
        here = {name: mask.cpu() for name, mask in options.items()}
        twin = compute(images.cpu(), boxes.cpu(), settings=settings, spacing=(0.7, 1.3), **here)
        assert bool(twin.isfinite().any())
        assert_close_rows(there, twin, settings)


def test_gpu_matrices_of_large_regions() -> None:
    """Integer matrices of regions of many tiles: smooth, noise, flat, few levels, and a spiral of one zone."""
    images, _ = batch(size=700)
    spiral = torch.zeros(700, 700, dtype=torch.uint8)
    for ring in range(0, 350, 2):
        spiral[ring, ring : 700 - ring] = spiral[ring : 700 - ring, 699 - ring] = 200
        spiral[699 - ring, ring : 700 - ring] = spiral[ring + 2 : 700 - ring, ring] = 200
        spiral[ring + 2, ring : ring + 2] = 200
    images = torch.cat([images, spiral[None].cuda()])
    settings = RadiomicsSettings(bin_count=32)
    results = []
    for device in ("cuda", "cpu"):
        regions = make_regions(images.to(device), None, torch.ones_like(images).to(device), None, labels=1)
        volumes = discretise(regions, None, settings, 32)
        bounds = Bounds.of_values(volumes.size, volumes.n_levels)
        where, near = (volumes.levels, volumes.start, volumes.size), half_offsets((1,))
        for offsets in (near, half_offsets((1, 2))):
            results.append(
                [*ops.neighbourhood(*where, offsets, 32, gldm_a=0, pairs=True, dependences=True, differences=True)]
            )
        results[-1] += [
            ops.glrlm(*where, near, 32, bounds.longest),
            ops.glszm(*where, near, 32, zone_bound(bounds.pixels, 32)),
            ops.level_histogram(*where, 32),
        ]
    for there, here in zip(results[:2], results[2:]):
        for a, b in zip(there, here, strict=True):
            assert torch.equal(a.cpu(), b)


def test_gpu_strides_and_rows() -> None:
    """Not contiguous, channels last, lists and rows of boxes, no region at all."""
    images, boxes = batch(torch.float32, size=90)
    settings = SETTINGS["count"]
    expected = compute(images, boxes, settings=settings)
    turned = images.transpose(1, 2).contiguous().transpose(1, 2)
    last = images[:, None].contiguous(memory_format=torch.channels_last)
    wide = torch.stack([images, images + 1], -1)[..., 0]
    rows = torch.cat([torch.arange(len(boxes), device="cuda")[:, None], boxes], 1)
    for same, given in ((turned, boxes), (last, boxes), (wide, rows), (images, list(boxes[:, None]))):
        assert_same_bits(compute(same, given, settings=settings), expected)
    assert compute(images, rows[:0], settings=settings).shape == (0, 102)


def test_gpu_bad_regions_are_named_and_isolated() -> None:
    images, _ = batch(torch.float32, size=90)
    images[1, 3, 3] = torch.nan
    rows = torch.tensor([[0, 0, 0, 50, 50], [1, 0, 0, 9, 9], [7, 0, 0, 9, 9], [3, 5, 5, 2, 9], [4, 3, 3, 60, 70]])
    table = compute(images, rows.cuda(), settings=SETTINGS["count"])
    assert table.isnan().all(1).tolist() == [False, True, True, True, False]
    assert_same_bits(table[[0, 4]], compute(images, rows[[0, 4]].cuda(), settings=SETTINGS["count"]))
    with pytest.raises(ValueError, match=r"3 of 5 regions .*row 1 .*NaN.*row 2 .*image index.*row 3 .*inverted"):
        gpu_radiomics(images, rows.cuda(), settings=SETTINGS["count"])
    with pytest.raises(ValueError, match="move them to one device"):
        gpu_radiomics(images, rows)


def test_gpu_operators_pass_opcheck() -> None:
    images, boxes = batch(size=40)
    planes = images[:, None]
    settings = RadiomicsSettings(bin_count=8)
    index, box, size, spacing, status = located = ops.locate(planes, boxes, None, None, voxel=[1.0, 1.0, 1.0])
    regions = make_regions(images, boxes, None, None)
    volumes = discretise(regions, None, settings, 8)
    where, near = (volumes.levels, volumes.start, volumes.size), half_offsets((1,))
    histogram = ops.level_histogram(*where, 8)
    everything = {"gldm_a": 0, "pairs": True, "dependences": True, "differences": True}
    glcm, _, ngtdm = ops.neighbourhood(*where, near, 8, **everything)
    runs, zones = ops.glrlm(*where, near, 8, 40), ops.glszm(*where, near, 8, 160)
    none = torch.empty((0, 0), dtype=torch.float64, device="cuda")
    options = {
        "total": len(volumes.levels), "narrow": True, "bin_width": 0.0, "bin_count": 8, "max_levels": 8, "labels": None,
        "normalize_scale": 1.0, "remove_outliers": 0.0, "resegment_range": [], "resegment_mode": "absolute",
        "resegment_shape": False, "minimum_roi_dimensions": 1, "minimum_roi_size": 0, "distances": [1],
        "force2d_dimension": -1,
    }  # fmt: skip
    assert len(located) == 5
    names = ["ngtdm/Coarseness", "ngtdm/Strength"]
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "locate": ((planes, boxes, None, None), {"voxel": [1.0, 1.0, 1.0]}),
        "image_moments": ((planes, None), {}),
        "label_boxes": ((planes, index, box, torch.tensor([[3, 9]], device="cuda")), {}),
        "discretise": ((planes, None, None, index, box, status, volumes.start, size), options),
        "largest_components": ((images.float(),), {"threshold": 0.5, "max_components": 3}),
        "level_histogram": ((*where, 8), {}),
        "first_order": (
            (planes, None, index, box, *where, histogram),
            {"normalize_scale": 1.0, "remove_outliers": 0.0, "shift": 0.0},
        ),
        "shape2d": ((volumes.levels, *where[1:], spacing), {}),
        "neighbourhood": ((*where, near, 8), everything),
        "glcm_sums": ((glcm, histogram, volumes.n_levels, none), {"symmetric": True, "mcc": True}),
        "ngtdm_sums": ((histogram, ngtdm), {}),
        "glrlm": ((*where, near, 8, 40), {}),
        "size_sums": ((runs, volumes.n_levels, none), {}),
        "glszm": ((*where, near, 8, 160), {}),
        "zone_sums": ((zones, 8), {}),
        "features": (
            ([ops.ngtdm_sums(histogram, ngtdm)], spacing, status),
            {"names": names, "dtype": torch.float32},
        ),
    }
    assert set(calls) == set(ops.KERNELS)
    for name, (arguments, keywords) in calls.items():
        # each value stands for itself: where it is NaN, comparing would need to know
        utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
        operator = getattr(torch.ops.kacl_gpu, name).default
        torch.library.opcheck(operator, arguments, keywords, test_utils=utilities)


# --- the same every time


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gpu_race_hunt(settings: RadiomicsSettings) -> None:
    """Repeat one call 200 times: equal bits."""
    images, boxes = batch(torch.float32, size=256)
    boxes[1:3] = torch.tensor([0.0, 0.0, 256.0, 256.0])
    expected = compute(images, boxes, settings=settings)
    for _ in range(200):
        assert_same_bits(compute(images, boxes, settings=settings), expected)


def thin_regions() -> list[np.ndarray]:
    """Many tiles, few of whose pixels share a line: a column, a row, a diagonal, scattered pixels; and a large maze."""
    rng = np.random.default_rng(0)
    scattered = (rng.random((1, 700, 700)) < 0.002) * rng.integers(1, 6, (1, 700, 700))
    maze = np.where(rng.random((1, 700, 700)) < 0.62, 1, 2)
    return [
        rng.integers(1, 6, (1, 9000, 1)),
        rng.integers(1, 6, (1, 1, 9000)),
        np.eye(300, dtype=np.int64)[None],
        scattered,
        maze,
    ]


def test_gpu_race_hunt_in_thin_regions() -> None:
    """Runs and zones that cross tiles everywhere, 200 times, equal to the CPU's."""
    from tests.kernels.interpreting import NEAR, pack

    volumes = thin_regions()
    levels, start, size = pack(volumes)
    where = levels.cuda(), start.cuda(), size.cuda()
    most = zone_bound(max(v.size for v in volumes), 5)
    runs, zones = ops.glrlm(levels, start, size, NEAR, 5, 9000), ops.glszm(levels, start, size, NEAR, 5, most)
    for _ in range(200):
        assert torch.equal(ops.glrlm(*where, NEAR, 5, 9000).cpu(), runs)
        assert torch.equal(ops.glszm(*where, NEAR, 5, most).cpu(), zones)


@pytest.mark.parametrize("size", [(224, 224), (700, 333), (2048, 1024)])
def test_gpu_components_equal_the_cpus_every_time(size: tuple[int, int]) -> None:
    """Compare smooth maps, noise, a maze and values that are not finite, to the bit, 100 times."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((6, 1, 7, 7), generator=generator) ** 3
    noise = torch.rand((3, *size), generator=generator)
    noise[1] = (noise[1] < 0.62).float()
    noise[2, :, ::7] = torch.tensor([torch.nan, torch.inf, -torch.inf]).repeat(size[0])[: size[0], None]
    maps = torch.cat([torch.nn.functional.interpolate(coarse, size, mode="bilinear")[:, 0], noise])
    expected, there = components(maps, max_components=5), maps.cuda()
    for _ in range(100):
        for found, twin in zip(components(there, max_components=5), expected):
            assert_same_bits(found.cpu(), twin)
    assert_same_bits(heatmap_boxes(there).boxes.cpu(), heatmap_boxes(maps).boxes)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gpu_rows_do_not_depend_on_the_batch(settings: RadiomicsSettings) -> None:
    """Alone and among 64; laid out by box and by image; under a memory limit."""
    images, boxes = batch(count=64, size=120)
    table = compute(images, boxes, settings=settings)
    for k in (0, 1, 2, 33, 63):
        assert_same_bits(compute(images[k : k + 1], boxes[k : k + 1], settings=settings), table[k : k + 1])
    bad = table.isnan().all(1)
    packed = gpu_radiomics(images[~bad], boxes[~bad], settings=settings, dtype=torch.float64)
    assert_same_bits(packed, table[~bad])
    small = replace(settings, memory_limit=2**24)
    assert_same_bits(compute(images, boxes, settings=small), table)


# --- no waiting


def prepared(settings: RadiomicsSettings) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    images, boxes = batch(count=16)
    return images, boxes, lambda: compute(images, boxes, settings=settings, dtype=torch.float32)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gpu_does_not_synchronise(settings: RadiomicsSettings) -> None:
    *_, call = prepared(settings)
    call()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        table = call()
        with pytest.raises(RuntimeError, match="synchroniz"):
            table.sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gpu_graph_replays_equal_eager_calls(settings: RadiomicsSettings) -> None:
    images, boxes, call = prepared(settings)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        table = call()
    for seed in range(5):
        other_images, other_boxes = batch(count=16, seed=seed)
        images.copy_(other_images)
        boxes.copy_(other_boxes)
        table.fill_(7)
        graph.replay()
        assert_same_bits(table, call())


def test_gpu_boxes_and_their_features_without_synchronisation() -> None:
    """BYOP on the device, against the CPU; every kernel and operator of it, and no value to the host."""
    byop, generator = BYOP(), torch.Generator().manual_seed(0)
    given = {
        "images": (torch.rand((8, 1, 96, 96), generator=generator) * 255).to(torch.uint8),
        "activations": torch.randn((8, 16, 6, 6), generator=generator).relu(),
        "weight": torch.randn((4, 16), generator=generator),
        "disease": torch.tensor([0, 1, 2, 3, -1, 0, 1, 2]),
    }
    expected, moved = byop(**given), {name: value.cuda() for name, value in given.items()}
    byop(**moved)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = byop(**moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # the closed form sums in another order on the device, so a pixel beside the threshold may change sides
    assert (found.boxes.cpu() - expected.boxes).abs().max() <= 1
    alone = compute(moved["images"], found.boxes, settings=byop.settings, dtype=torch.float32)
    assert_same_bits(found.features[found.valid], alone[found.valid])
    assert torch.equal(found.valid.cpu(), expected.valid)


def test_gpu_graph_of_boxes_replays() -> None:
    """Record the boxes of a network's heatmaps into a graph."""
    generator = torch.Generator().manual_seed(1)
    activations, weight = (torch.randn(shape, generator=generator).cuda() for shape in ((8, 16, 6, 6), (4, 16)))
    disease = torch.arange(8).cuda() % 4

    def call() -> tuple[Tensor, ...]:
        maps, found = look(activations, weight, disease, (96, 80), 0.5, True)
        return (maps, *found)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = call()
    for _ in range(5):
        activations.copy_(torch.randn(activations.shape, generator=generator))
        graph.replay()
        for replayed, eager in zip(recorded, call()):
            assert_same_bits(replayed, eager)


def test_gpu_compiled_call_equals_eager() -> None:
    images, boxes, call = prepared(SETTINGS["count"])
    compiled = torch.compile(
        lambda i, b: compute(i, b, settings=SETTINGS["count"], dtype=torch.float32), fullgraph=True
    )
    assert_same_bits(compiled(images, boxes), call())


# --- memory


@pytest.mark.parametrize("invalid", ["nan", "raise"])
def test_gpu_memory_stays_under_the_limit(invalid: Any) -> None:
    limit = 192 * 2**20
    settings = RadiomicsSettings(bin_count=64, memory_limit=limit)
    images, _ = batch(count=4, size=800)
    rows = torch.tensor([[n % 2, 3.0, 4.0, 790.0, 780.0] for n in range(64)]).cuda()
    gpu_radiomics(images, rows[:2], settings=settings, invalid=invalid)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    gpu_radiomics(images, rows, settings=settings, invalid=invalid)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak < limit, f"{peak / 2**20:.0f} MiB"
