"""``glcm_sums`` under Triton's interpreter against the CPU implementation."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kacl_gpu.kernels.common import launch
from kacl_gpu.kernels.glcm import glcm_sums, second_value
from kacl_gpu.radiomics import ops
from tests.kernels.interpreting import NEAR, awkward, close, pack, same

pytestmark = pytest.mark.interpreted

NONE = torch.empty((0, 0), dtype=torch.float64)
MCC = 7


def inputs(volumes: list[np.ndarray], ng: int) -> tuple[Tensor, Tensor, Tensor]:
    where = pack(volumes, dtype=torch.int16)
    n_levels = torch.tensor([int(v.max()) for v in volumes])
    return (
        ops.neighbourhood(*where, NEAR, ng, gldm_a=0, pairs=True, dependences=False, differences=False)[0],
        ops.level_histogram(*where, ng),
        n_levels,
    )


def both(*tensors: Tensor, symmetric: bool, mcc: bool = True) -> tuple[Tensor, Tensor]:
    """Return the sums of the kernels and of the CPU."""
    return glcm_sums(*tensors, symmetric=symmetric, mcc=mcc), ops.glcm_sums(*tensors, symmetric=symmetric, mcc=mcc)


def agree(ours: Tensor, twin: Tensor, ng: int) -> None:
    """Compare sums; the covariance and the third moment, which have signs, in units of their largest terms."""
    unit = torch.ones(29, dtype=torch.float64)
    unit[6], unit[18] = ng**2, ng**3
    close(ours / unit, twin / unit, relative=1e-11, absolute=1e-13)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "ng, regions", [(1, slice(13)), (2, slice(13)), (6, slice(13)), (32, slice(4, 9)), (33, slice(4, 6))]
)
def test_glcm_sums(ng: int, regions: slice, symmetric: bool) -> None:
    counts, histogram, n_levels = inputs(awkward(ng)[regions], ng)
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(-rng.uniform(0, 3, (len(n_levels), 4)))
    weights[-1] -= 1e4  # the heaviest direction counts, not the figure
    for w in (NONE, weights):
        ours, twin = both(counts, histogram, n_levels, w, symmetric=symmetric)
        agree(ours, twin, ng)
        assert bool((twin[..., 0] == 0).any()) or ng >= 32
    if ng == 6:
        roomy = torch.nn.functional.pad(counts, (0, 34, 0, 34)), torch.nn.functional.pad(histogram, (0, 34))
        options = {"symmetric": symmetric, "mcc": True}
        same(glcm_sums(*roomy, n_levels, NONE, **options), glcm_sums(counts, histogram, n_levels, NONE, **options))
        alone = glcm_sums(counts[4:5], histogram[4:5], n_levels[4:5], weights[4:5], **options)
        same(alone, glcm_sums(counts, histogram, n_levels, weights, **options)[4:5])


def test_glcm_sums_of_many_levels() -> None:
    levels = np.random.default_rng(0).integers(1, 71, (1, 20, 20))
    levels[0, :, 10:] = levels[0, :, :10]  # some structure
    counts, histogram, n_levels = inputs([levels], 70)
    for symmetric in (True, False):
        ours, twin = both(counts[:, :1].contiguous(), histogram, n_levels, NONE, symmetric=symmetric)
        agree(ours, twin, 70)


def test_glcm_sums_of_255_levels() -> None:
    """As many as 8 bits hold; few of them occur, so that it does not take long."""
    levels = np.random.default_rng(0).choice([1, 2, 9, 31, 130, 250, 255], (1, 12, 12))
    counts, histogram, n_levels = inputs([levels], 255)
    ours, twin = both(counts[:, :1].contiguous(), histogram, n_levels, NONE, symmetric=True)
    agree(ours, twin, 255)


@triton.jit
def second(diagonal, beside, out, n, SYMMETRIC: tl.constexpr):
    tl.store(out, second_value(n, diagonal, beside, SYMMETRIC))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_second_value_of_any_scale(scale: float, symmetric: bool) -> None:
    """Minors of 40 rows pass the range of float64 unless they are scaled on the way."""
    n = 40
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 1, (n, n))
    tridiagonal = np.triu(np.tril(matrix + matrix.T, 1), -1) * scale
    if not symmetric:  # no negative eigenvalues
        tridiagonal += 10 * scale * np.eye(n)
    diagonal, beside = np.zeros(n + 1), np.zeros(n + 2)
    diagonal[:n], beside[1:n] = np.diag(tridiagonal), np.diag(tridiagonal, 1)
    out = torch.empty(1, dtype=torch.float64)
    launch(second, (1,), torch.from_numpy(diagonal), torch.from_numpy(beside), out, n, SYMMETRIC=symmetric)
    expected = np.sort(abs(np.linalg.eigvalsh(tridiagonal)))[-2]
    assert out.item() == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("n", [3, 40])
def test_mcc_of_separate_parts(n: int) -> None:
    """Levels that only meet themselves: all singular values are 1; and levels that meet all others alike: 0."""
    apart = torch.diag(torch.arange(1, n + 1, dtype=torch.int32)) * 100
    alike = torch.full((n, n), 3, dtype=torch.int32)
    counts = torch.stack([apart, alike])[:, None]
    histogram, n_levels = torch.ones((2, n), dtype=torch.int32), torch.tensor([n, n])
    for symmetric in (True, False):
        ours, twin = both(counts, histogram, n_levels, NONE, symmetric=symmetric)
        agree(ours, twin, n)
        torch.testing.assert_close(ours[:, 0, 7], torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_glcm_of_nothing() -> None:
    counts = torch.empty((0, 4, 3, 3), dtype=torch.int32)
    empty = torch.empty((0, 3), dtype=torch.int32), torch.empty(0, dtype=torch.int64)
    assert glcm_sums(counts, *empty, NONE, symmetric=True, mcc=True).shape == (0, 4, 29)


@pytest.mark.parametrize("symmetric", [True, False])
def test_glcm_sums_without_mcc(symmetric: bool) -> None:
    """Only the column of MCC differs: it is NaN."""
    tables = *inputs(awkward(33)[2:6], 33), NONE
    complete, partial = both(*tables, symmetric=symmetric), both(*tables, symmetric=symmetric, mcc=False)
    for ours, expected in zip(partial, complete):
        assert bool(expected[..., MCC].isfinite().any())
        expected[..., MCC] = torch.nan
        same(ours, expected)


@pytest.mark.parametrize("symmetric", [True, False])
def test_directions_without_pairs_have_no_weight(symmetric: bool) -> None:
    """A single row has pairs along itself alone, however far apart: exp(-1600) beside the others would be 0."""
    counts, histogram, n_levels = inputs([np.array([[[1, 3, 2, 2, 1, 4]]])], 4)
    weights = torch.full((1, 4), -1600.0, dtype=torch.float64)
    weights[counts.sum((2, 3)) == 0] = -1.0
    ours, twin = both(counts, histogram, n_levels, weights, symmetric=symmetric)
    agree(ours, twin, 4)
    assert bool((twin[..., 0] > 0).all())
