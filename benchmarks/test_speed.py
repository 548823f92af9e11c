"""pytest-benchmark suite: the whole call, and each operator on one workload. ``make bench``."""

from typing import Any

import pytest
import torch

from benchmarks.workloads import Workload, heatmap_boxes_224, workloads
from kacl_gpu import gpu_radiomics
from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.levels import discretise, half_offsets
from kacl_gpu.radiomics.memory import Bounds, zone_bound
from kacl_gpu.radiomics.regions import make_regions


@pytest.mark.parametrize("workload", workloads(), ids=lambda w: w.name)
def test_all_features(benchmark: Any, workload: Workload) -> None:
    images, rows, settings = workload.images, workload.rows, workload.settings
    table = benchmark.pedantic(
        gpu_radiomics, (images, rows), {"settings": settings}, rounds=7, iterations=1, warmup_rounds=1
    )
    benchmark.extra_info.update(regions=len(rows), pixels=workload.mean_pixels, threads=torch.get_num_threads())
    assert bool(table.isfinite().all())


@pytest.mark.parametrize("name", ["glrlm", "glszm", "neighbourhood", "level_histogram", "first_order", "shape2d"])
def test_operator(benchmark: Any, name: str) -> None:
    workload, near, ng = heatmap_boxes_224(), half_offsets((1,)), 32
    regions = make_regions(workload.images, workload.rows, None, None)
    volumes = discretise(regions, None, workload.settings, ng)
    bounds = Bounds.of_values(volumes.size, volumes.n_levels)
    where = volumes.levels, volumes.start, volumes.size
    arguments: dict[str, tuple[Any, ...]] = {
        "glrlm": (*where, near, ng, bounds.longest),
        "glszm": (*where, near, ng, zone_bound(bounds.pixels, ng)),
        "neighbourhood": (*where, near, ng, 0, True, True),
        "level_histogram": (*where, ng),
        "first_order": (
            regions.images,
            None,
            regions.image_index,
            regions.box,
            *where,
            ops.level_histogram(*where, ng),
            1.0,
            0.0,
            0.0,
        ),
        "shape2d": (*where, regions.spacing),
    }
    result = benchmark.pedantic(getattr(ops, name), arguments[name], rounds=7, iterations=1, warmup_rounds=1)
    assert result is not None
