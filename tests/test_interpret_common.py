"""The checks of the interpreter themselves, and how a tile finds its region."""

import pytest
import torch
import triton
import triton.language as tl

from kacl_gpu.kernels import common


@triton.jit
def copy(source, target, n, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(target + index, tl.load(source + index, mask=index < n), mask=index < n)


@triton.jit
def find(start, regions, out):
    tile = tl.program_id(0)
    tl.store(out + tile, common.region_of(start, regions, tile * 1024))


def test_interpret_finds_pointers_outside(request: pytest.FixtureRequest) -> None:
    source, target = torch.arange(10), torch.empty(10, dtype=torch.int64)
    common.launch(copy, (1,), source, target, 10, BLOCK=16)
    assert torch.equal(source, target)
    with pytest.raises(Exception, match=r"outside the tensors|beside a tensor"):
        common.launch(copy, (1,), source, target[:5].clone(), 10, BLOCK=16)
    if not request.config.getoption("kernels_on"):  # on hardware reading is not noticed
        with pytest.raises(Exception, match="outside the tensors"):
            common.launch(copy, (1,), source[:5].clone(), target, 10, BLOCK=16)


@pytest.mark.parametrize("blocks", [[1], [1, 1, 1], [0, 2, 0, 0, 3, 1], [5, 0], [1] * 33])
def test_interpret_a_tile_finds_its_region(blocks: list[int]) -> None:
    end = torch.cumsum(torch.tensor(blocks), 0)
    start = (end - torch.tensor(blocks)) * 1024
    out = torch.empty(int(end[-1]), dtype=torch.int64)
    common.launch(find, (len(out),), start, len(blocks), out)
    for tile, region in enumerate(out.tolist()):
        last = region == len(blocks) - 1
        assert start[region] <= tile * 1024 and (last or tile * 1024 < start[region + 1])
