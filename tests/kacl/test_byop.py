"""BYOP: the boxes that it takes, and features equal to a call of gpu_radiomics on each image alone."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kacl_gpu import RadiomicsSettings, gpu_radiomics
from kacl_gpu.kacl.boxes import heatmap_boxes
from kacl_gpu.kacl.byop import BYOP
from kacl_gpu.kacl.cam import head_cam, heatmaps

SETTINGS = RadiomicsSettings(bin_count=32, feature_class={"firstorder": None, "glszm": None})


def batch(size: int = 60) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 1, size, size), dtype=torch.uint8, generator=generator)
    activations = torch.randn((5, 12, 4, 4), generator=generator).relu()
    weight = torch.randn((3, 12), generator=generator)
    true = torch.full((5, 3, 4), torch.nan)
    true[1, 2] = torch.tensor([5.0, 7.5, 30.25, 41.0])
    true[2, 0] = torch.tensor([0.0, 0.0, 10.0, 10.0])  # of a disease that is not asked for
    disease = torch.tensor([0, 2, 1, -1, 1])
    return {"images": images, "activations": activations, "weight": weight, "disease": disease, "true_boxes": true}


def test_boxes_and_features() -> None:
    given = batch()
    given["activations"][4] = 0  # nothing to see
    found = BYOP(settings=SETTINGS)(**given)
    maps = heatmaps(head_cam(given["activations"], given["weight"], given["disease"].clamp(min=0)), (60, 60))
    expected = heatmap_boxes(maps).boxes
    expected[1] = torch.tensor([5.0, 7.5, 30.25, 41.0])
    assert torch.equal(found.boxes[:3], expected[:3])
    assert found.boxes[4].tolist() == [0, 0, 60, 60]
    assert found.annotated.tolist() == [False, True, False, False, False]
    assert found.fallback.tolist() == [False, False, False, False, True]
    assert found.covers_image.tolist() == [False, False, False, False, True]
    assert found.valid.tolist() == [True, True, True, False, True]
    for k in (0, 1, 2, 4):
        alone = gpu_radiomics(given["images"][k : k + 1], expected[k : k + 1], settings=SETTINGS, invalid="nan")
        assert torch.equal(found.features[k : k + 1], alone)
    assert found.features[3].isnan().all()


def test_without_boxes_nothing_is_annotated() -> None:
    given = batch() | {"true_boxes": None}
    found = BYOP(settings=SETTINGS)(**given)
    assert not found.annotated.any() and found.valid.tolist() == [True, True, True, False, True]


def test_the_threshold_and_the_middle_of_the_image() -> None:
    given = batch()
    given["weight"] = given["weight"].abs()
    given["activations"] = torch.zeros((5, 12, 4, 4))
    given["activations"][:, :, 2, 2] = 1
    low, high = (BYOP(threshold, settings=SETTINGS)(**given).boxes[0] for threshold in (0.1, 0.9))
    assert (low[:2] < high[:2]).all() and (low[2:] > high[2:]).all()
    given["activations"] = torch.ones((5, 12, 4, 4))
    given["activations"][:, :, 0, 0] = 0.4  # all around it is the whole image
    whole = BYOP(shrink_whole_image=True, settings=SETTINGS)(**given)
    assert whole.covers_image.tolist() == [True, False, True, False, True]  # a true box, and an image without a disease
    assert (whole.boxes[0] > 0).all() and (whole.boxes[0] < 60).all()


def test_nothing_is_differentiated_and_the_parts_are_timed() -> None:
    given = batch()
    given["activations"].requires_grad_()
    parts = []

    class Part:
        def __init__(self, name: str) -> None:
            parts.append(name)

        def __enter__(self) -> None: ...
        def __exit__(self, *exception: object) -> None: ...

    found = BYOP(settings=SETTINGS)(**given, timed=Part)
    assert parts == ["gradcam", "radiomics"]
    assert not found.features.requires_grad and not list(BYOP().parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_intensities_are_taken_as_they_are(dtype: torch.dtype) -> None:
    given = batch()
    names = BYOP(settings=SETTINGS).feature_names
    found = BYOP(settings=SETTINGS)(**given)
    other = BYOP(settings=SETTINGS)(**given | {"images": given["images"].to(dtype) * 4 + 3})
    assert torch.equal(found.boxes, other.boxes)
    largest = names.index("original_firstorder_Maximum")
    assert torch.equal(found.features[:3, largest] * 4 + 3, other.features[:3, largest])


def test_no_value_goes_to_the_host() -> None:
    """On CUDA tensors without values, which nothing could be read from: the whole module, with all features."""
    with FakeTensorMode():
        given = {name: torch.empty_like(value, device="cuda") for name, value in batch().items()}
        found = BYOP()(**given)
        assert found.features.shape == (5, 102) and found.features.device.type == "cuda"
        assert found.boxes.shape == (5, 4) and found.valid.device.type == "cuda"


def test_heatmaps_of_ones_own() -> None:
    given = batch()
    maps = head_cam(given["activations"], given["weight"], given["disease"].clamp(min=0))
    byop = BYOP(settings=SETTINGS)
    wanted = byop(**given)
    arguments = given | {"activations": None, "weight": None}
    for own in (maps, maps * 3 + 1, heatmaps(maps, (60, 60))):  # the range does not matter, nor does the size
        found = byop(**arguments, heatmaps=own)
        assert torch.equal(found.boxes, wanted.boxes)
        for value, other in zip(found[2:6], wanted[2:6]):
            assert torch.equal(value, other)
        torch.testing.assert_close(found.features, wanted.features, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(found.heatmaps, wanted.heatmaps)
    elsewhere = torch.zeros(5, 3, 3)
    elsewhere[:, 0, 2] = 1
    found = byop(**arguments | {"true_boxes": None}, heatmaps=elsewhere)
    assert (found.boxes[:, 0] >= 30).all() and (found.boxes[:, 3] <= 30).all()


def test_heatmaps_that_cannot_be() -> None:
    given, byop = batch(), BYOP(settings=SETTINGS)
    maps = torch.rand(5, 4, 4)
    for arguments in (given | {"heatmaps": maps}, given | {"activations": None}, given | {"weight": None},
                      given | {"activations": None, "weight": None}):  # fmt: skip
        with pytest.raises(ValueError, match="BYOP needs either activations and weight, or heatmaps"):
            byop(**arguments)
    nothing = given | {"activations": None, "weight": None}
    with pytest.raises(ValueError, match=r"heatmaps must have the shape \(5, h, w\), got \(4, 4, 4\)"):
        byop(**nothing, heatmaps=maps[:4])
    with pytest.raises(TypeError, match="heatmaps must be floating point"):
        byop(**nothing, heatmaps=maps.int())
