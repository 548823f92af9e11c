"""Threads over regions: Ctrl-C, exceptions, and processes that are forked."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numba
import pytest
import torch

from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.cpu import _threads
from kacl_gpu.radiomics.cpu._threads import CELLS_ASIDE, for_each, for_each_region
from kacl_gpu.radiomics.volumes import half_offsets

MANY = CELLS_ASIDE * 100  # cells: whatever the number of tasks below, each counts as a long one


@numba.njit(nogil=True)
def spin(steps: int) -> float:
    x = 1.0
    for _ in range(steps):
        x = x * 1.0000001 + 1e-9
    return x


@pytest.fixture(scope="module")
def second() -> int:
    """Return how many steps of `spin` take a second at least."""
    spin(1)
    started = time.perf_counter()
    spin(10**7)
    return int(10**7 / (time.perf_counter() - started)) * 2


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("cells", [0, CELLS_ASIDE // 2, MANY])
def test_each_task_runs_once(threads: int, cells: int) -> None:
    done: list[int] = []
    for_each(done.append, 50, cells)
    assert sorted(done) == list(range(50))
    for_each(done.append, 0, cells)
    assert len(done) == 50


@pytest.mark.parametrize("count", [1, 20])
def test_ctrl_c_is_answered_while_a_compiled_loop_runs(threads: int, count: int, second: int) -> None:
    began = []

    def task(k: int) -> None:
        began.append(k)
        spin(4 * second)

    raised = []

    def interrupt() -> None:
        raised.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        for_each(task, count, MANY)
    assert time.monotonic() - raised[0] < 1
    seen = len(began)
    assert seen <= threads
    done: list[int] = []
    for_each(done.append, 20, MANY)  # does not wait for what still runs
    assert sorted(done) == list(range(20))
    assert time.monotonic() - raised[0] < 2
    time.sleep(0.1)
    assert len(began) == seen


def test_a_process_ends_while_a_compiled_loop_runs() -> None:
    code = (
        "import numba, sys\n"
        "from kacl_gpu.radiomics.cpu._threads import for_each\n"
        "@numba.njit(nogil=True)\n"
        "def spin(x):\n"
        "    while x > 0.0:\n"
        "        x = x * 1.5 % 7.0 + 1.0\n"
        "    return x\n"
        "spin(-1.0)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    for_each(lambda k: spin(1.0), 1, 1 << 40)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "ready\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    try:
        assert child.wait(30) == 130  # it would never end by itself
    finally:
        child.kill()
        child.stdout.close()


@pytest.mark.parametrize("cells", [0, CELLS_ASIDE // 2, MANY])
def test_an_exception_reaches_the_caller_and_no_further_task_begins(threads: int, cells: int) -> None:
    began = []

    def task(k: int) -> None:
        began.append(k)
        if k == 3:
            raise MemoryError("no room")
        time.sleep(0.01)

    with pytest.raises(MemoryError, match="no room"):
        for_each(task, 1000, cells)
    time.sleep(0.1)
    assert len(began) < 20


def run_forked(work: Callable[[], None], timeout: float) -> int | None:
    """Return the exit code of a forked process that does some work; None if it does not end in time."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("cells", [CELLS_ASIDE // 2, MANY])
def test_a_forked_process_has_threads_of_its_own(cells: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for_each(lambda k: time.sleep(0.01), 20, cells)  # the threads of this process are running
        done: list[int] = []

        def work() -> None:
            for_each(done.append, 20, cells)
            assert sorted(done) == list(range(20))

        assert run_forked(work, 30) == 0
    finally:
        torch.set_num_threads(before)


def test_a_failing_call_leaves_no_job_of_another_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the moment when a thread finds the pool and its jobs in it, another thread dismisses the pool."""
    find = _threads._threads

    def find_slowly(pid: int, number: int) -> _threads.Threads:
        pool = find(pid, number)
        if threading.current_thread().name == "slow":
            time.sleep(0.5)
        return pool

    monkeypatch.setattr(_threads, "_threads", find_slowly)
    done: list[int] = []
    slow = threading.Thread(target=lambda: for_each(done.append, 4, 1 << 18), name="slow", daemon=True)

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            for_each(lambda k: k // 0, 4, 1 << 18)

    failing = threading.Thread(target=fail, daemon=True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        slow.start()
        time.sleep(0.2)
        failing.start()
        failing.join(20)
        slow.join(20)
    finally:
        torch.set_num_threads(before)
    assert not slow.is_alive() and not failing.is_alive()
    assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.parametrize("number", [1, 3])
def test_large_regions_are_divided_and_small_ones_are_not(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "SHARED", 100)
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    parts: dict[int, int] = {}
    try:
        for_each_region(lambda k, n: parts.update({k: n}), [99, 100, 1, 5000])
    finally:
        torch.set_num_threads(before)
    assert parts == {0: 1, 1: number, 2: 1, 3: number}


def matrices(volume: torch.Tensor, offsets: list[int], threads: int) -> list[torch.Tensor]:
    """Return all integer matrices of one volume, computed by so many threads."""
    packed = volume.flatten(), torch.zeros(1, dtype=torch.int64), torch.tensor([volume.shape])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        wanted = {"gldm_a": 1, "pairs": True, "dependences": True, "differences": True}
        tables = ops.neighbourhood(*packed, offsets, 3, **wanted)
        runs = ops.glrlm(*packed, offsets, 3, max(volume.shape))
        return [*tables, runs, ops.glszm(*packed, offsets, 3, volume.numel())]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("filled", [0.0, 0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("size", [(1, 40, 9), (12, 9, 7), (3, 30, 30), (30, 1, 1), (1, 1, 30), (2, 2, 5000)])
def test_the_matrices_of_a_divided_region_are_those_of_one_thread(
    size: tuple[int, int, int], filled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_threads, "SHARED", 1)
    generator = torch.Generator().manual_seed(5)
    levels = torch.randint(1, 4, size, generator=generator)
    inside = torch.rand(size, generator=generator) < filled
    volume = (levels * inside).to(torch.uint8)
    in_space = half_offsets((1,), dimensions=3)
    triples = [in_space[n : n + 3] for n in range(0, len(in_space), 3)]
    plane = [[step for o in triples if o[axis] == 0 for step in o] for axis in range(3)]
    for offsets in (in_space, *plane):
        expected = matrices(volume, offsets, 1)
        for threads in (2, 3, 7):
            assert all(torch.equal(a, b) for a, b in zip(matrices(volume, offsets, threads), expected))


PEAK = """
import sys, torch
from kacl_gpu import RadiomicsSettings, gpu_radiomics
torch.set_num_threads(int(sys.argv[1]))
shape = 1, 1, 400, 512, 512
image, mask = torch.empty(shape, dtype=torch.int16), torch.zeros(shape, dtype=torch.bool)
noise = (torch.randn((1024, 1024), generator=torch.Generator().manual_seed(3)) * 60).to(torch.int16)
in_plane = ((torch.arange(512)[:, None] - 256) / 150) ** 2 + ((torch.arange(512) - 256) / 110) ** 2
for z in range(400):
    image[0, 0, z] = noise[z : z + 512, (7 * z) % 512 :][:, :512]
    mask[0, 0, z] = in_plane + ((z - 200) / 155) ** 2 < 1
small = (slice(None), slice(None), slice(190, 210), slice(200, 300), slice(200, 300))
gpu_radiomics(image[small], masks=mask[small])  # compiled
print(int(mask.sum()))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
def peak(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
before = peak("VmRSS")
table = gpu_radiomics(image, masks=mask, dtype=torch.float64)
print(peak("VmHWM") - before, RadiomicsSettings().memory_limit)
print(table.numpy().tobytes().hex())
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs the peak of memory as Linux has it")
def test_an_organ_of_ten_million_voxels_keeps_within_the_memory_limit() -> None:
    rows = []
    for number in ("1", "3"):
        done = subprocess.run([sys.executable, "-c", PEAK, number], capture_output=True, text=True, check=True)
        voxels, peak, limit, row = done.stdout.split()
        assert int(voxels) > 10_000_000
        assert int(peak) < int(limit)
        rows.append(row)
    assert rows[0] == rows[1]
