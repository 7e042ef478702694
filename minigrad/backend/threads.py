"""A small thread pool for NumPy kernels, with BLAS held to one thread inside them.

After this file you know how a kernel uses every core from plain Python. NumPy lets go of the
interpreter lock inside copies, ufuncs and BLAS calls, so threads that each work through blocks small
enough to stay in cache run side by side. BLAS brings threads of its own; two layers of threads
would fight over the cores, so while a kernel runs BLAS is held to one and the pool does the sharing.

Blocks go to whichever thread is free, for balance. A kernel that sums over blocks therefore gives each block
a place of its own for its part of the sum, and adds the parts in order afterwards: the result is the same for
every run and every number of threads.
"""

import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["cut", "get_num_threads", "matmul", "parallel", "scratch", "set_num_threads", "single_threaded_blas"]


def parallel(function: Callable[[Any], object], tasks: Sequence[Any]) -> None:
    """Call ``function(task)`` for every task, on the pool and on the calling thread.

    Returns when all calls have. If some raise, the tasks not yet begun are dropped and the error of
    the earliest task is raised here. Inside a task, a further ``parallel`` runs inline.
    """
    with single_threaded_blas():
        helpers = min(get_num_threads(), len(tasks)) - 1
        if helpers < 1 or getattr(_local, "inside", False):
            for task in tasks:
                function(task)
            return
        job = _Job(function, tasks)
        _pool.ask(job, helpers)
        _local.inside = True
        try:
            job.work()
        finally:
            _local.inside = False
        job.wait()


def cut(count: int, size: int) -> list[slice]:
    """range(count) as chunks of at most `size`, as equal as possible, an even number of them if there are several.

    The chunks are the same for every number of threads, and so is a sum that is taken chunk by chunk.
    """
    size = max(1, size)
    chunks = -(-count // size)
    if 1 < chunks < count:
        chunks += chunks % 2  # three equal chunks would keep two threads busy for the time of four
    edges = [count * i // chunks for i in range(chunks + 1)] if chunks else []
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


# Multiply-adds of a product from which on it is done: on one thread; by BLAS's own threads; by ours.
ALONE, BY_BLAS, BY_US = 2**18, 2**23, 2**26


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b``, by as many threads as pays, of the kind that pays.

    After a threaded product OpenBLAS's threads keep a core busy for some 20 ms, waiting for more, and a kernel that
    follows finds that core taken: a convolution of 7.3 ms took 13 right after ``np.matmul``, 7.3 after ours (2 cores).
    So small products, those of a small CNN's last layers, stay on one thread, and large ones go to our pool. In
    between, where our threads wake too slowly to help, a network has no convolutions to speak of: (64, 784) @ (784,
    256) took 91 us with BLAS's threads, 160 with ours, 170 with one.
    """
    if a.dtype == b.dtype == np.float16:  # which BLAS does not have, and NumPy multiplies 160 times slower (256 x 256)
        return matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    if _adds_rows(a, b):
        return _by_parts(a, b)
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype or a.shape[1] != b.shape[0]:
        with single_threaded_blas():
            return np.matmul(a, b)
    (rows, inner), columns = a.shape, b.shape[1]
    work = rows * inner * columns
    if work < ALONE or BY_BLAS <= work < BY_US:
        return np.matmul(a, b)
    if work < BY_BLAS:
        with single_threaded_blas():
            return np.matmul(a, b)
    out = np.empty((rows, columns), a.dtype)
    if rows >= columns:
        parallel(lambda chunk: np.matmul(a[chunk], b, out=out[chunk]), cut(rows, 2**25 // (inner * columns)))
    else:
        chunks = cut(columns, 2**25 // (inner * rows))
        parallel(lambda chunk: np.matmul(a, b[:, chunk], out=out[:, chunk]), chunks)
    return out


# A vector times a matrix is a sum of rows, and BLAS adds those one after the other; it blocks products of matrices.
LONG, PART = 8192, 1024


def _adds_rows(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a @ b is a sum of many rows of b, or columns of a, that lie apart in memory."""
    inner = a.shape[-1]
    if inner < LONG or a.dtype.kind != "f" or a.dtype != b.dtype or inner != len(b) or max(a.ndim, b.ndim) > 2:
        return False
    by_rows = b.ndim == 2 and b.strides[0] > b.strides[1] and (a.ndim == 1 or len(a) == 1)
    return by_rows or (a.ndim == 2 and a.strides[1] > a.strides[0] and (b.ndim == 1 or b.shape[1] == 1))


def _by_parts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b`` as the sum of the products of parts of the inner axis (see `sums`)."""
    with single_threaded_blas():
        parts = [a[..., part] @ b[part] for part in cut(len(b), PART)]
    return np.stack(parts).sum(axis=0)


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, reused by the next call with this name on this thread.

    A block's temporaries are the same few hundred kilobytes over and over. Taken fresh each time they
    would cost page faults and push the block's data out of the cache.
    """
    buffers = _local.__dict__.setdefault("buffers", {})
    dtype = np.dtype(dtype)
    count = 1
    for size in shape:
        count *= size
    buffer = buffers.get((name, dtype))
    if buffer is None or buffer.size < count:
        buffer = buffers[name, dtype] = _aligned(count, dtype)
    return buffer[:count].reshape(shape)


def _aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An empty array that begins at a cache line: copies into it took 18 us instead of 25 (1.2 MB, one core)."""
    raw = np.empty(count + 64 // dtype.itemsize, dtype)
    start = -raw.ctypes.data % 64 // dtype.itemsize
    return raw[start : start + count]


def get_num_threads() -> int:
    """How many threads the kernels use, the calling one included."""
    return _pool.threads


def set_num_threads(count: int) -> None:
    """Let the kernels use ``count`` threads, the calling one included; 1 means no pool."""
    if count < 1:
        raise ValueError(f"set_num_threads: the number of threads must be at least 1, not {count}.")
    _pool.threads = int(count)


def _default_threads() -> int:
    asked = os.environ.get("MINIGRAD_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):  # the cores this process may use, not those the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Job:
    """One call of `parallel`: its tasks, handed out one at a time, and what went wrong in them."""

    def __init__(self, function: Callable[[Any], object], tasks: Sequence[Any]):
        self.function = function
        self.tasks = tasks
        self.next = 0
        self.unfinished = len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.lock = threading.Lock()
        self.done = threading.Lock()
        self.done.acquire()

    def work(self) -> None:
        """Take tasks until none is left. A thread that comes too late finds none and returns."""
        while True:
            with self.lock:
                index = self.next
                self.next += 1
            if index >= len(self.tasks):
                return
            try:
                if not self.errors:
                    self.function(self.tasks[index])
            except BaseException as error:
                self.errors[index] = error
            with self.lock:
                self.unfinished -= 1
                last = self.unfinished == 0
            if last:
                self.done.release()

    def wait(self) -> None:
        self.done.acquire()
        if self.errors:
            raise self.errors[min(self.errors)]


class _Pool:
    """Worker threads, started when first asked for, that wait for jobs on one queue."""

    def __init__(self) -> None:
        self.threads = _default_threads()
        self.forget_workers()

    def forget_workers(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self.workers = 0
        self.lock = threading.Lock()

    def ask(self, job: _Job, helpers: int) -> None:
        with self.lock:
            while self.workers < helpers:
                # daemon: an idle worker must not keep the interpreter from exiting
                threading.Thread(target=_serve, args=(self.jobs,), name="minigrad", daemon=True).start()
                self.workers += 1
        for _ in range(helpers):
            self.jobs.put(job)


def _serve(jobs: "queue.SimpleQueue[_Job]") -> None:
    _local.inside = True
    while True:
        job = jobs.get()
        job.work()
        del job  # an idle worker must not keep the last job's arrays alive


class _BlasLimit:
    """Counts the kernels that want BLAS held to one thread; the last to leave restores its threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.libraries: list[Any] | None = None
        self.before: list[int] = []

    def enter(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth > 1:
                return
            if self.libraries is None:
                self.libraries = _blas_libraries()
            # Setting the number on the library costs 1 us; threadpoolctl's threadpool_limits would look for
            # the loaded libraries anew each time, some ms (timeit, OpenBLAS 0.3.31).
            self.before = [library.get_num_threads() for library in self.libraries]
            for library in self.libraries:
                library.set_num_threads(1)

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                self.restore()

    def restore(self) -> None:
        for library, threads in zip(self.libraries or [], self.before, strict=True):
            library.set_num_threads(threads)


def _blas_libraries() -> list[Any]:
    try:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController().select(user_api="blas").lib_controllers
    except Exception:  # without it the kernels are right all the same, only slower
        return []


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Within the block, BLAS calls of any thread use one thread each."""
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()


def _after_fork_in_child() -> None:
    """A child process has no threads but the one that forked: begin with an empty pool."""
    _pool.forget_workers()
    _local.inside = False
    _blas.lock = threading.Lock()
    if _blas.depth:
        _blas.depth = 0
        _blas.restore()


_local = threading.local()
_blas = _BlasLimit()
_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
