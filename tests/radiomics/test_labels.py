"""Regions from label maps: one label, several or all of them; each cut to its own box first."""

import statistics
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu import GpuRadiomics, RadiomicsSettings, Status, gpu_radiomics
from kacl_gpu.radiomics import api
from kacl_gpu.radiomics.regions import NAMED_LABELS, find_labels, make_regions

F64 = torch.float64


def compute(images: Tensor, boxes: Any = None, **options: Any) -> Tensor:
    return gpu_radiomics(images, boxes, dtype=F64, **options)


@pytest.fixture
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 50)).astype(np.uint8))


@pytest.fixture
def masks() -> Tensor:
    """Return labels 2, 3 and 300 as ragged blobs; the second image has 3 alone, the third none."""
    rng = np.random.default_rng(1)
    maps = np.zeros((3, 40, 50), np.int32)
    for b, label, (y, x, h, w) in [(0, 300, (2, 5, 9, 8)), (0, 2, (20, 1, 15, 30)), (0, 3, (1, 30, 30, 19))]:
        maps[b, y : y + h, x : x + w][rng.random((h, w)) < 0.8] = label
    maps[1, 5:30, 7:44] = 3
    maps[0, 39, 49] = 300  # far from the rest of it
    return torch.from_numpy(maps)


ROWS = [(0, 2), (0, 3), (0, 300), (1, 3)]  # image and label, in the order of the result


@pytest.mark.parametrize(
    "dtype", [torch.int16, torch.uint16, torch.int32, torch.int64, torch.float16, torch.float32, F64], ids=str
)
@pytest.mark.parametrize("settings", [RadiomicsSettings(bin_count=16), RadiomicsSettings(resegment_range=(20, 200))])
def test_all_labels_are_those_of_calls_with_each(
    images: Tensor, masks: Tensor, dtype: torch.dtype, settings: RadiomicsSettings
) -> None:
    masks = masks.to(dtype)
    together = compute(images, masks=masks, labels="all", settings=settings)
    alone = [compute(images[b : b + 1], masks=masks[b : b + 1], labels=n, settings=settings)[0] for b, n in ROWS]
    assert torch.equal(together, torch.stack(alone))
    assert torch.equal(compute(images, masks=masks, labels=[300, 3, 17], settings=settings), together[1:])
    found = find_labels(masks)
    assert list(zip(found.boxes[:, 0].tolist(), found.labels.tolist())) == ROWS
    assert torch.equal(compute(images, found.boxes, masks=masks, labels=found.labels, settings=settings), together)
    binary = torch.stack([masks[b] == n for b, n in ROWS])
    assert torch.equal(compute(images[[b for b, _ in ROWS]], masks=binary, settings=settings), together)


def test_boxes_of_labels_are_those_of_numpy(masks: Tensor) -> None:
    found = find_labels(masks, [3, 300, 300, 9])
    for (b, x1, y1, x2, y2), label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True):
        rows, columns = np.nonzero(masks[b].numpy() == label)
        assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found.labels.tolist() == [3, 300, 3]
    assert [len(part) for part in find_labels(torch.zeros(2, 5, 5))] == [0, 0]
    assert compute(torch.zeros(2, 5, 5), masks=torch.zeros(2, 5, 5), labels="all").shape == (0, 102)
    assert find_labels(torch.ones(1, 2, 3, dtype=torch.bool)).boxes.tolist() == [[0, 0, 0, 3, 2]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint32, torch.uint64, F64], ids=str)
def test_labels_too_large_for_a_table(dtype: torch.dtype) -> None:
    maps = torch.zeros(1, 6, 6, dtype=torch.int64)
    maps[0, 1:4, 2:5], maps[0, 5, 5] = 2**31 + 5, 70_000
    assert find_labels(maps.to(dtype)).labels.tolist() == [70_000, 2**31 + 5]


def test_a_region_is_cut_to_the_box_of_its_label(images: Tensor, masks: Tensor) -> None:
    regions = make_regions(
        images, torch.tensor([[0, 0, 40, 50], [0, 0, 50, 40], [0, 0, 50, 40]]), masks, None, labels=3
    )
    assert regions.box[:2].tolist() == [[0, 1, 30, 1, 31, 40], [0, 5, 7, 1, 30, 44]]
    assert regions.size[:2].tolist() == [[1, 30, 10], [1, 25, 37]]
    assert regions.status.tolist() == [0, 0, int(Status.EMPTY)]


def test_negative_values_and_background_are_no_labels() -> None:
    maps = torch.tensor([[[-1, 0, 4], [4, 4, -(2**40)]]])
    assert find_labels(maps).labels.tolist() == [4]


def test_status(images: Tensor, masks: Tensor) -> None:
    """The codes of good and bad regions, with either way of treating the bad ones."""
    rows = torch.tensor([[0, 0, 0, 50, 40], [1, 5, 5, 6, 6], [2, 9, 9, 4, 4], [7, 0, 0, 9, 9]])
    table, status = compute(images, rows, invalid="nan", return_status=True)
    expected = [Status.OK, Status.SINGLE_PIXEL, Status.BOX_INVERTED, Status.IMAGE_INDEX]
    assert status.dtype == torch.int32 and [Status(code) for code in status.tolist()] == expected
    assert table.isnan().all(1).tolist() == [False, True, True, True]
    good, status = compute(images, rows[:1], return_status=True)
    assert status.tolist() == [0] and torch.equal(good, table[:1])


def test_words_name_the_labels_that_are_there(images: Tensor) -> None:
    maps = torch.zeros(3, 40, 50, dtype=torch.uint8)
    maps[0, 5:20, 5:20] = 255
    maps[1, :10, :10] = 1
    maps[2] = torch.arange(2000).reshape(40, 50) % 100 + 1
    with pytest.raises(
        ValueError, match=r"row 0 .*no pixel of label 1 in it: label 1 is not in the mask, which has 255; row 2"
    ):
        compute(images, masks=maps[[0, 1, 0]])
    with pytest.raises(ValueError, match=r"3 of 3.*which has 255;.*which has 1;.*which has 1, 2, .*, 10 and 90 more$"):
        compute(images, masks=maps, labels=200)
    boxes = torch.tensor([[0, 0, 50, 40], [20, 20, 40, 40], [0, 0, 50, 40]])
    with pytest.raises(ValueError, match=r"row 1 \(image 1, box \[20, 20, 40, 40\]\): no pixel of label 1 in it$"):
        compute(images, boxes, masks=maps.clamp(max=1))
    with pytest.raises(ValueError, match="label 1 is not in the mask, which has none"):
        compute(images[:1], masks=maps[:1] * 0)
    assert NAMED_LABELS == 10


BAD_LABELS: dict[str, tuple[Any, type[Exception], str]] = {
    "zero": (0, ValueError, "labels must be at least 1, got 0"),
    "fraction": (1.5, TypeError, r"labels must be an integer, several, or \"all\", got 1.5"),
    "flag": (True, TypeError, "got True"),
    "word": ("every", ValueError, "got 'every'"),
    "bad in list": ([1, -2], ValueError, "got -2"),
    "tensor of another length": (torch.tensor([1, 2]), ValueError, r"labels of shape \(2,\) for 3 regions"),
    "tensor of fractions": (torch.ones(3), TypeError, "labels must be integer, got torch.float32"),
}


def test_an_error_says_which_label_of_an_image_it_means(images: Tensor, masks: Tensor) -> None:
    masks[0, 0, 0] = 7
    words = r"^1 of 5 regions .*: row 2 \(image 0, box \[0, 0, 50, 40\], label 7\): it is a single pixel$"
    with pytest.raises(ValueError, match=words):
        compute(images, masks=masks, labels="all")


@pytest.mark.parametrize("what", BAD_LABELS)
def test_bad_labels(images: Tensor, masks: Tensor, what: str) -> None:
    labels, error, message = BAD_LABELS[what]
    with pytest.raises(error, match=message):
        compute(images, masks=masks, labels=labels)


def test_several_labels_need_maps_without_boxes_and_a_host_that_may_wait(
    images: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = torch.tensor([[0, 0, 50, 40]] * 3)
    with pytest.raises(ValueError, match=r"labels=\[2, 3\] with boxes"):
        compute(images, boxes, masks=masks, labels=[2, 3])
    with pytest.raises(ValueError, match="labels given without masks"):
        compute(images, boxes, labels=[2, 3])
    with pytest.raises(ValueError, match=r'labels="all": masks hold 0\.5, which is no whole number'):
        compute(images, masks=masks.double() + 0.5, labels="all")
    for large in (np.inf, 1e30):
        with pytest.raises(ValueError, match=r'labels="all": masks hold (inf|1e\+30), which is no whole number'):
            compute(images, masks=masks.double().masked_fill(masks == 3, large), labels="all")
    monkeypatch.setattr(api, "_is_static", lambda *_: True)
    with pytest.raises(ValueError, match="would wait for the device"):
        compute(images, masks=masks, labels="all", invalid="nan", settings=RadiomicsSettings(bin_count=8))


@pytest.mark.parametrize("label", [0, -3])
def test_a_tensor_of_labels_below_1(label: int, images: Tensor, masks: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that names the row; where the call must not wait, a region without pixels, though the map has 0."""
    labels, options = torch.tensor([3, label, 3]), {"masks": masks, "invalid": "nan", "return_status": True}
    with pytest.raises(ValueError, match=rf"labels must be at least 1, got {label} in row 1: 0 is outside"):
        compute(images, labels=labels, **options)
    settings = RadiomicsSettings(feature_class={"firstorder": ["Mean"]})
    _, expected = compute(images, labels=torch.tensor([3, 77, 3]), settings=settings, **options)
    monkeypatch.setattr(api, "_is_static", lambda *_: True)
    table, status = compute(images, labels=labels, settings=settings, **options)
    assert status.tolist() == expected.tolist() == [0, Status.EMPTY, Status.EMPTY]
    assert table.isnan().flatten().tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64], ids=str)
def test_nan_is_no_label(dtype: torch.dtype, images: Tensor, masks: Tensor) -> None:
    holed = masks.to(dtype)
    holed[1, 7, 9:11] = torch.nan
    words = r"masks hold NaN \(2 pixels, the first in image 1, row 7, column 9\)"
    for call in (lambda: compute(images, masks=holed, labels=3), lambda: find_labels(holed)):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_module_takes_labels_too(images: Tensor, masks: Tensor) -> None:
    module = GpuRadiomics(RadiomicsSettings(bin_count=8), dtype=F64)
    assert torch.equal(
        module(images, masks=masks, labels="all"), compute(images, masks=masks, labels="all", settings=module.settings)
    )


def test_200_labels_cost_what_200_boxes_cost() -> None:
    """Within 20 %: the median of ratios of calls in turn, as a single run may meet a busy or an idle processor."""
    image = torch.randint(0, 255, (1, 1024, 1024), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros((1, 1024, 1024), dtype=torch.int32)
    for k in range(200):
        y, x = k // 20 * 100, k % 20 * 50
        masks[0, y : y + 40, x : x + 40] = k + 1
    settings = RadiomicsSettings(bin_count=32)
    boxes = find_labels(masks).boxes

    def seconds(**arguments: Any) -> float:
        start = time.process_time()
        table = gpu_radiomics(image, settings=settings, **arguments)
        took = time.process_time() - start
        assert len(table) == 200
        return took

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds(boxes=boxes)  # compiles
        pairs = [(seconds(boxes=boxes), seconds(masks=masks, labels="all")) for _ in range(15)]
    finally:
        torch.set_num_threads(threads)
    assert statistics.median(cost / price for price, cost in pairs) < 1.2, pairs
