"""Share the regions of a call among threads, so that Ctrl-C is answered while they compute."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import torch

CELLS_FOR_A_THREAD = 1 << 14
COMPILED = 16  # times as many cells a task counts for that is compiled as a whole: hardly any of its time is Python's
CELLS_ASIDE = 1 << 20  # a task of so many may take long enough for somebody to lose patience
SHARED = 1 << 19  # voxels from which on a region is divided among the threads


class Threads:
    """Daemon threads that run what is submitted to them.

    Unlike those of `concurrent.futures`, a process does not wait for them at its end: after Ctrl-C one may be deep in
    a compiled loop.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._jobs: SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = SimpleQueue()
        for _ in range(number):
            threading.Thread(target=self._serve, name="kacl_gpu", daemon=True).start()

    def submit(self, work: Callable[[], None]) -> "Future[None]":
        """Run ``work()`` in one of the threads."""
        future: Future[None] = Future()
        self._jobs.put((future, work))
        return future

    def dismiss(self) -> None:
        """Let each thread end after what it is doing."""
        for _ in range(self._number):
            self._jobs.put(None)

    def _serve(self) -> None:
        while job := self._jobs.get():
            future, work = job
            try:
                work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            del job, future, work  # an idle thread must not keep the arrays of the last call alive


_pools: dict[tuple[int, int], Threads] = {}
_lock = threading.Lock()  # held while jobs are handed to a pool or a pool is dismissed, so that no job comes too late


def _renew_lock() -> None:
    """Let a forked child begin with a free lock: the thread that held it exists in the parent only."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _threads(pid: int, number: int) -> Threads:
    """Return the threads of a process: keyed by its id, for a forked child inherits the object but not its threads."""
    if (pid, number) not in _pools:
        _pools[pid, number] = Threads(number)
    return _pools[pid, number]


def for_each(task: Callable[[int], None], count: int, cells: int) -> None:
    """Run ``task(k)`` for k in 0 ... count - 1 on torch's number of threads, each k in one of them.

    Tasks on few ``cells`` (in all) spend their time in Python, where threads only wait for each other: they run in the
    calling thread alone. Python answers Ctrl-C in the main thread, between two of its own instructions; so the main
    thread takes no long tasks itself, but waits for those that do. After an exception no further task begins. One that
    is running then goes on to its end in the background, for compiled loops cannot be stopped.
    """
    threads = min(torch.get_num_threads(), count) if cells >= CELLS_FOR_A_THREAD * count else 1
    aside = cells >= CELLS_ASIDE * count > 0 and threading.current_thread() is threading.main_thread()
    if threads <= 1 and not aside:
        for k in range(count):
            task(k)
        return
    indices = itertools.count()  # next() of it is atomic, so whoever is free takes the next region
    stopped = threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set() and (k := next(indices)) < count:
                task(k)
        except BaseException:
            stopped.set()
            raise

    helpers = threads if aside else threads - 1
    key = os.getpid(), helpers
    with _lock:
        pool = _threads(*key)
        futures = [pool.submit(work) for _ in range(helpers)]
    try:
        if not aside:
            work()
        for future in futures:
            future.result()
    except BaseException:
        stopped.set()
        with _lock:
            if _pools.get(key) is pool:
                del _pools[key]  # the next call gets threads that are not busy with this one
            pool.dismiss()
        raise


def for_each_region(task: Callable[[int, int], None], voxels: Sequence[int]) -> None:
    """Run ``task(k, parts)`` for regions of so many voxels each, which counts for loops that are compiled as a whole.

    Small regions come in one part each, and threads take one after the other. Large ones follow one by one in as many
    parts as there are threads; the task shares these by :func:`for_each`.
    """
    threads, total = torch.get_num_threads(), sum(voxels)
    if threads == 1 or total < SHARED:
        for_each(lambda k: task(k, 1), len(voxels), total * COMPILED)
        return
    small = [k for k, n in enumerate(voxels) if n < SHARED]
    for_each(lambda n: task(small[n], 1), len(small), sum(voxels[k] for k in small) * COMPILED)
    for k, n in enumerate(voxels):
        if n >= SHARED:
            task(k, threads)
