"""The checks of the interpreter themselves, and how a tile finds its region."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

from kacl_gpu.kernels import common

pytestmark = pytest.mark.interpreted


@triton.jit
def copy(source, target, n, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(target + index, tl.load(source + index, mask=index < n), mask=index < n)


@triton.jit
def find(start, regions, out):
    tile = tl.program_id(0)
    tl.store(out + tile, common.region_of(start, regions, tile * 1024))


def test_finds_pointers_outside(request: pytest.FixtureRequest) -> None:
    source, target = torch.arange(10), torch.empty(10, dtype=torch.int64)
    common.launch(copy, (1,), source, target, 10, BLOCK=16)
    assert torch.equal(source, target)
    with pytest.raises(Exception, match=r"outside the tensors|beside a tensor"):
        common.launch(copy, (1,), source, target[:5].clone(), 10, BLOCK=16)
    one, other = torch.empty((2, 5), dtype=torch.int64)
    for arguments in ((source, one), (other, one)):  # into the rest of its storage, also where that is of the launch
        with pytest.raises(Exception, match=r"outside the tensors|beside a tensor"):
            common.launch(copy, (1,), *arguments, 10 if arguments[0] is source else 6, BLOCK=16)
    if not request.config.getoption("kernels_on"):  # on hardware reading is not noticed
        for short in (source[:5].clone(), source[:5]):
            with pytest.raises(Exception, match="outside the tensors"):
                common.launch(copy, (1,), short, target, 10, BLOCK=16)


def test_tensors_that_overlap_stay_together() -> None:
    """And what is written arrives: in a part of a storage, between elements, beside tensors without any."""
    numbers = torch.arange(12)
    common.launch(copy, (1,), numbers[:6], numbers[6:], 6, BLOCK=8)
    assert numbers.tolist() == [*range(6), *range(6)]
    common.launch(copy, (1,), numbers, numbers[1:], 1, BLOCK=8)  # the same storage, an element apart
    assert numbers.tolist() == [0, 0, *range(2, 6), *range(6)]
    common.launch(copy, (1,), numbers[:0], numbers[12:], 0, BLOCK=8)
    common.launch(copy, (1,), torch.arange(3, 4).expand(8), numbers[::2], 1, BLOCK=8)
    assert numbers.tolist() == [3, 0, *range(2, 6), *range(6)]


TESTS_OF_EACH_OUTCOME = """
import pytest
def test_good(): pass
def test_bad(): assert False
def test_left_out(): pytest.skip("not here")
@pytest.fixture
def broken(): raise OSError
def test_with_it(broken): pass
@pytest.fixture
def broken_afterwards():
    yield
    raise OSError
def test_left_out_with_it(broken_afterwards): pytest.skip("not here")
"""


def test_outcomes_of_the_children_are_told_apart(tmp_path: Path) -> None:
    from tests.conftest import outcomes_in

    (tmp_path / "test_it.py").write_text(TESTS_OF_EACH_OUTCOME)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml=results.xml", "test_it.py"]
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    outcomes = outcomes_in(tmp_path / "results.xml")
    assert {name.removeprefix("test_it.test_"): outcome for name, (outcome, _) in outcomes.items()} == {
        "good": "passed",
        "bad": "failure",
        "left_out": "skipped",
        "with_it": "error",
        "left_out_with_it": "error",
    }
    assert "not here" in outcomes["test_it.test_left_out"][1]


@pytest.mark.parametrize("blocks", [[1], [1, 1, 1], [0, 2, 0, 0, 3, 1], [5, 0], [1] * 33])
def test_a_tile_finds_its_region(blocks: list[int]) -> None:
    end = torch.cumsum(torch.tensor(blocks), 0)
    start = (end - torch.tensor(blocks)) * 1024
    out = torch.empty(int(end[-1]), dtype=torch.int64)
    common.launch(find, (len(out),), start, len(blocks), out)
    for tile, region in enumerate(out.tolist()):
        last = region == len(blocks) - 1
        assert start[region] <= tile * 1024 and (last or tile * 1024 < start[region + 1])
