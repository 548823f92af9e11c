"""Volumes that are not as they should be: an error that names what was wrong, or the status of the region."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kacl_gpu import RadiomicsSettings, feature_names, gpu_radiomics
from kacl_gpu.radiomics.regions import find_labels
from kacl_gpu.radiomics.status import Status

VOLUMES = torch.from_numpy(np.random.default_rng(0).integers(0, 200, (2, 1, 6, 9, 8)).astype(np.int16))
MASKS = (VOLUMES > 60).to(torch.uint8)
BOXES = torch.tensor([[0.0, 0, 0, 7, 8, 6], [1.0, 2, 3, 8, 9, 6]])  # x, y, z, x, y, z
IMAGES = VOLUMES[:, :, 0]
PLAIN_BOXES = torch.tensor([[0.0, 0, 7, 8], [1.0, 2, 8, 9]])
SINGLE = [volume[0] for volume in VOLUMES]

Call = Callable[[], object]


def compute(*arguments: Any, **options: Any) -> Tensor:
    return gpu_radiomics(*arguments, **options)


# Call -> words that its error must have, in any order
CALLS: dict[str, tuple[Call, tuple[str, ...]]] = {
    "2D boxes of volumes": (lambda: compute(VOLUMES, PLAIN_BOXES), ("boxes", "volumes", "(B, 6)", "(2, 4)")),
    "2D rows of volumes": (lambda: compute(VOLUMES, torch.zeros(3, 5)), ("boxes", "volumes", "(K, 7)", "(3, 5)")),
    "2D boxes in a list": (lambda: compute(VOLUMES, [PLAIN_BOXES, PLAIN_BOXES]), ("boxes[0]", "6", "(2, 4)")),
    "3D boxes of images": (lambda: compute(IMAGES, BOXES), ("boxes", "2D", "(B, 4)", "(2, 6)")),
    "3D rows of images": (lambda: compute(IMAGES, torch.zeros(3, 7)), ("boxes", "2D", "(K, 5)", "(3, 7)")),
    "boxes of 2D for a list of volumes": (lambda: compute(SINGLE, PLAIN_BOXES), ("boxes", "volumes", "(2, 4)")),
    "another number of boxes": (lambda: compute(VOLUMES, BOXES[:1]), ("1 boxes", "2 images", "(K, 7)")),
    "boxes of three images for two": (lambda: compute(SINGLE, [BOXES] * 3), ("3", "2 images")),
    "spacing of two numbers": (lambda: compute(VOLUMES, BOXES, spacing=(1.0, 2.0)), ("spacing", "(z, y, x)", "(2,)")),
    "spacing of three numbers in 2D": (
        lambda: compute(IMAGES, PLAIN_BOXES, spacing=(1.0, 2.0, 3.0)), ("spacing", "(y, x)", "(3,)"),
    ),
    "spacing of another count": (
        lambda: compute(VOLUMES, BOXES, spacing=torch.ones(5, 3)), ("spacing", "(2, 3)", "(5, 3)"),
    ),
    "spacing below 0": (lambda: compute(VOLUMES, BOXES, spacing=(1.0, -2.0, 1.0)), ("spacing", "above 0", "-2")),
    "ranks mixed in a list": (lambda: compute([SINGLE[0], IMAGES[0, 0]], BOXES), ("images[1]", "dimensions", "2", "3")),
    "dtypes mixed in a list": (
        lambda: compute([SINGLE[0], SINGLE[1].float()], BOXES), ("images[1]", "dtype", "float32", "int16"),
    ),
    "no tensor in a list": (lambda: compute([SINGLE[0], np.zeros((3, 4, 5))], BOXES), ("images[1]", "ndarray")),
    "a batch in a list": (lambda: compute([VOLUMES], BOXES), ("images[0]", "(D, H, W)", "(2, 1, 6, 9, 8)")),
    "an empty list": (lambda: compute([], BOXES), ("images", "empty list")),
    "masks of another depth": (
        lambda: compute(VOLUMES, masks=MASKS[:, :, :5]), ("masks", "(2, 5, 9, 8)", "(2, 6, 9, 8)"),
    ),
    "masks of another rank": (lambda: compute(VOLUMES, masks=MASKS[:, 0]), ("masks",)),
    "a mask of another shape in a list": (
        lambda: compute(SINGLE, masks=[MASKS[0, 0], MASKS[1, 0, 1:]]), ("masks[1]", "(5, 9, 8)", "(6, 9, 8)"),
    ),
    "too few masks": (lambda: compute(SINGLE, masks=[MASKS[0, 0]]), ("masks", "2 images", "1")),
    "a tensor of masks for a list": (lambda: compute(SINGLE, masks=MASKS), ("masks", "list")),
    "a list of masks for a tensor": (lambda: compute(VOLUMES, masks=[MASKS[0, 0]] * 2), ("masks", "list")),
    "NaN in a mask": (
        lambda: compute(VOLUMES, masks=MASKS.float().masked_fill(MASKS > 0, torch.nan)),
        ("masks", "NaN", "slice", "row", "column"),
    ),
    "shape in 2D": (
        lambda: compute(IMAGES, PLAIN_BOXES, settings=RadiomicsSettings(feature_class=["shape"])),
        ("'shape'", "shape2D", "2D"),
    ),
    "shape2D in 3D": (
        lambda: compute(VOLUMES, BOXES, settings=RadiomicsSettings(feature_class=["shape2D", "glcm"])),
        ("'shape2D'", "'shape'", "volumes"),
    ),
    "names of shape in 2D": (lambda: feature_names(RadiomicsSettings(feature_class=["shape"])), ("'shape'", "shape2D")),
    "names of four dimensions": (lambda: feature_names(dimensions=4), ("dimensions", "2", "3", "4")),
    "two channels": (lambda: compute(VOLUMES.expand(2, 2, 6, 9, 8), BOXES), ("channels", "2")),
    "six dimensions": (lambda: compute(VOLUMES[None], BOXES), ("images", "(B, 1, D, H, W)")),
    "neither boxes nor masks": (lambda: compute(SINGLE), ("boxes", "masks")),
    "force2d_dimension": (lambda: RadiomicsSettings(force2d_dimension=3), ("force2d_dimension", "force2Ddimension")),
    "force2d": (lambda: RadiomicsSettings(force2d=1), ("force2d", "force2D", "True or False")),
    "max_region of one number": (lambda: RadiomicsSettings(max_region=(3,)), ("max_region", "depth", "(3,)")),
    "max_region of 0": (lambda: RadiomicsSettings(max_region=(3, 0, 4)), ("max_region", "at least 1", "0")),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_error_names_what_was_wrong(name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


# Arguments of a call on VOLUMES, the row that cannot be computed -> its status and words of the error
ROWS: dict[str, tuple[dict[str, Any], int, Status, tuple[str, ...]]] = {
    "inverted in z": (
        {"boxes": torch.tensor([[0, 0, 0, 7, 8, 6], [1, 2, 5, 8, 9, 5]])}, 1, Status.BOX_INVERTED, ("z2 > z1",),
    ),
    "outside in z": (
        {"boxes": torch.tensor([[0, 0, 6, 7, 8, 9], [1, 2, 3, 8, 9, 6]])}, 0, Status.BOX_OUTSIDE, ("6 x 9 x 8",),
    ),
    "not finite": (
        {"boxes": torch.tensor([[0, 0, 0, 7, 8, 6], [1, 2, torch.nan, 8, 9, 6]])}, 1, Status.BOX_NOT_FINITE, (),
    ),
    "no such image": (
        {"boxes": torch.tensor([[0.0, 0, 0, 0, 7, 8, 6], [2, 1, 2, 3, 8, 9, 6]])}, 1, Status.IMAGE_INDEX, ("image",),
    ),
    "one voxel": (
        {"boxes": torch.tensor([[0, 0, 0, 1, 1, 1], [1, 2, 3, 8, 9, 6]])}, 0, Status.SINGLE_PIXEL, ("single",),
    ),
    "one slice": (
        {
            "boxes": torch.tensor([[0, 0, 0, 7, 8, 1], [1, 2, 3, 8, 9, 6]]),
            "settings": RadiomicsSettings(minimum_roi_dimensions=3),
        }, 0, Status.TOO_FEW_DIMENSIONS, ("minimum_roi_dimensions", "3"),
    ),
    "a label that is not there": ({"masks": MASKS * torch.tensor([1, 2]).reshape(2, 1, 1, 1, 1).to(torch.uint8)},
                                  1, Status.EMPTY, ("label 1", "2")),
    "larger than max_region": (
        {"boxes": BOXES, "settings": RadiomicsSettings(max_region=(5, 9, 9))}, 0, Status.TOO_LARGE, ("max_region",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("form", ["batch", "list"])
def test_region_that_cannot_be_computed(name: str, form: str) -> None:
    """One region has a status, the other the same bits as without it; the error names row and reason."""
    options, row, expected, words = ROWS[name]
    options = dict(options)
    images: Any = VOLUMES
    if form == "list":
        images = SINGLE
        if "masks" in options:
            options["masks"] = [mask[0] for mask in options["masks"]]
    table, status = gpu_radiomics(images, invalid="nan", return_status=True, **options)
    assert status.tolist() == [expected if k == row else 0 for k in range(2)]
    assert table.isnan().all(1).tolist() == [k == row for k in range(2)]
    with pytest.raises(ValueError) as caught:
        gpu_radiomics(images, **options)
    missing = [word for word in (f"row {row}", *words) if word not in str(caught.value)]
    assert not missing, str(caught.value)


@pytest.mark.parametrize("form", ["batch", "list"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_voxels_that_are_not_finite(value: float, form: str) -> None:
    """One of many regions holds the voxel: it alone is invalid, the others have the same bits as without it."""
    clean = VOLUMES.float()
    spoilt = clean.clone()
    spoilt[1, 0, 3, 4, 5] = value
    boxes = torch.tensor([[b, x, y, z, x + 3, y + 4, z + 2] for b in range(2) for x, y, z in
                          ((0, 0, 0), (4, 3, 2), (5, 5, 4), (3, 1, 3))]).double()  # fmt: skip
    inside = [
        bool(b == 1 and x <= 5 < x + 3 and y <= 4 < y + 4 and z <= 3 < z + 2) for b, x, y, z, *_ in boxes.tolist()
    ]
    assert 0 < sum(inside) < 4
    both = [[one[0] for one in images] if form == "list" else images for images in (clean, spoilt)]
    good = gpu_radiomics(both[0], boxes)
    table, status = gpu_radiomics(both[1], boxes, invalid="nan", return_status=True)
    assert status.tolist() == [Status.NOT_FINITE * wrong for wrong in inside]
    kept = torch.tensor(inside).logical_not()
    assert torch.equal(table[kept], good[kept])
    with pytest.raises(ValueError, match=f"{sum(inside)} of 8 regions .* NaN or infinite"):
        gpu_radiomics(both[1], boxes)


def test_no_depth() -> None:
    """A volume without slices has no regions to compute; a batch without volumes has no rows."""
    flat = torch.zeros((1, 1, 0, 8, 8))
    table, status = gpu_radiomics(flat, torch.tensor([[0, 0, 0, 4, 4, 1]]), invalid="nan", return_status=True)
    assert status.tolist() == [Status.BOX_OUTSIDE]
    assert bool(table.isnan().all())
    with pytest.raises(ValueError, match="outside its image of 0 x 8 x 8"):
        gpu_radiomics(flat, torch.tensor([[0, 0, 0, 4, 4, 1]]))
    assert len(gpu_radiomics(flat, masks=torch.zeros((1, 1, 0, 8, 8), dtype=torch.uint8), labels="all")) == 0
    with pytest.raises(ValueError, match="row 0"):
        gpu_radiomics([torch.zeros((0, 8, 8))], torch.tensor([[0, 0, 0, 4, 4, 1]]))
    empty = gpu_radiomics(torch.zeros((0, 1, 5, 8, 8)), torch.zeros((0, 6)))
    assert empty.shape == (0, 107)
    assert gpu_radiomics(VOLUMES, torch.zeros((0, 7))).shape == (0, 107)


def test_max_region_of_two_numbers_is_of_images() -> None:
    chosen = RadiomicsSettings(max_region=(7, 7), bin_width=50)
    _, status = gpu_radiomics(IMAGES, PLAIN_BOXES, settings=chosen, invalid="nan", return_status=True)
    assert status.tolist() == [Status.TOO_LARGE, Status.OK]


def test_labels_of_volumes_that_are_not_there() -> None:
    """A label that no image has makes no row; asked for as the only one it is named with those that there are."""
    masks = torch.zeros(VOLUMES.shape, dtype=torch.int32)
    masks[1, 0, 2:5, 2:7, 1:6] = 12
    assert gpu_radiomics(VOLUMES, masks=masks, labels=[5, 7]).shape == (0, 107)
    assert gpu_radiomics(VOLUMES, masks=masks, labels=[5, 12]).shape == (1, 107)
    found = find_labels(masks)
    assert found.labels.tolist() == [12]
    assert found.boxes.tolist() == [[1, 1, 2, 2, 6, 7, 5]]
    with pytest.raises(ValueError, match="label 5 is not in the mask, which has 12"):
        gpu_radiomics(VOLUMES[1:], masks=masks[1:], labels=5)
