"""Features of a region against sums written out, and torchvision's own on sides that the stride divides."""

import pytest
import torch

torchvision = pytest.importorskip("torchvision", reason="the extra train is not installed")

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate

from kacl_gpu.kacl.attention import pool_box, pool_heatmap


def activations(height: int = 3, width: int = 4, images: int = 3) -> torch.Tensor:
    values = torch.rand(images, 5, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return values.requires_grad_()


def test_pooling_under_a_heatmap_is_the_weighted_mean() -> None:
    a, maps = activations(), torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    pooled = pool_heatmap(a, interpolate(maps[:, None], scale_factor=8, mode="nearest")[:, 0])
    for v in range(3):
        weights = (maps[v] / maps[v].sum()).detach()
        expected = sum(a[v, :, y, x] * weights[y, x] for y in range(3) for x in range(4))
        torch.testing.assert_close(pooled[v], expected, rtol=1e-6, atol=0)
    gradients = torch.autograd.grad(pooled[:, 0].sum(), [a, maps], allow_unused=True)
    torch.testing.assert_close(gradients[0][1, 0], (maps[1] / maps[1].sum()).double(), rtol=1e-6, atol=0)
    assert gradients[1] is None


def test_pooling_under_a_heatmap_of_zeros_or_ones_is_the_mean() -> None:
    a = activations()
    maps = torch.stack([torch.zeros(24, 32), torch.ones(24, 32), torch.eye(24, 32)])
    torch.testing.assert_close(pool_heatmap(a, maps)[:2], a.mean((2, 3))[:2], rtol=1e-6, atol=0)
    assert (pool_heatmap(a, maps)[2] - a[2].mean((1, 2))).abs().max() > 0.01


def test_pooling_of_whole_cells_is_their_mean() -> None:
    """Cells of 10 x 20 pixels, boxes along their edges; a scale for each side."""
    a, boxes = activations(), torch.tensor([[20.0, 0, 80, 20], [0.0, 10, 20, 20], [0.0, 0, 80, 30]])
    expected = torch.stack([a[0, :, :2, 1:].mean((1, 2)), a[1, :, 1, 0], a[2].mean((1, 2))])
    torch.testing.assert_close(pool_box(a, boxes, (30, 80)), expected, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda x: pool_box(x, boxes, (30, 80)), a)


def test_no_value_goes_to_the_host() -> None:
    """Fake CUDA tensors have no values: whatever asks for one fails."""
    with FakeTensorMode():
        a, boxes = torch.empty(3, 5, 7, 7, device="cuda"), torch.empty(3, 4, device="cuda")
        for pooled in (pool_heatmap(a, torch.empty(3, 64, 64, device="cuda")), pool_box(a, boxes, (64, 64))):
            assert (pooled.shape, pooled.device.type) == ((3, 5), "cuda")


def test_pooling_of_any_box_is_torchvisions() -> None:
    generator = torch.Generator().manual_seed(2)
    a = activations(7, 7, 40)
    low = torch.rand(40, 2, generator=generator) * 200
    boxes = torch.cat([low, low + torch.rand(40, 2, generator=generator) * 150 + 1], 1)  # some beyond the image
    theirs = torchvision.ops.roi_align(a, list(boxes.double()[:, None]), 1, 1 / 32, aligned=True)[:, :, 0, 0]
    torch.testing.assert_close(pool_box(a, boxes, (224, 224)), theirs, rtol=1e-5, atol=1e-7)
    assert pool_box(a.detach().half(), boxes, (224, 224)).dtype == torch.float32
    assert (pool_box(a, torch.zeros(40, 4), (224, 224)) == 0).all()
