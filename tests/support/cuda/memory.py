"""The memory of the stand-in's GPU: how much of it the live arrays take, pools as CuPy's, pinned memory of the host.

Arrays of the stand-in lie in the memory of NumPy. What is kept here are the books: each array that has memory of its
own is entered in a pool, and taken out when NumPy frees it. A pool keeps what was freed for the next arrays, as CuPy's
does, but never breaks it into pieces that are too small. Beyond the limit there is an error: "out of memory" can be
tested.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from tests.support.cuda import work

UNIT = 512  # bytes; CuPy's pool gives out multiples of it
TOTAL = 80 * 2**30  # bytes of memory that the device has


class OutOfMemoryError(MemoryError):
    """CuPy's, with its words."""

    def __init__(self, size: int, total: int, limit: int = 0):
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited}).")


class CUDARuntimeError(RuntimeError):
    """CuPy's: what CUDA itself answers."""

    def __init__(self, status: int):
        self.status = status
        super().__init__("cudaErrorMemoryAllocation: out of memory")


class Memory:
    """Memory straight from the device, with CUDA's error where there is none. Only pools keep books."""

    def __init__(self, size: int):
        if memory_info()[0] < size:
            raise CUDARuntimeError(2)


class MemoryPointer:
    """CuPy's: a place in memory."""

    def __init__(self, mem: Any, offset: int):
        self.mem = mem


class Block:
    """What a pool gave out."""

    def __init__(self, pool: MemoryPool, size: int):
        self.pool, self.size = pool, size


class MemoryPool:
    """CuPy's MemoryPool, as far as its books go."""

    all: ClassVar[weakref.WeakSet[MemoryPool]] = weakref.WeakSet()

    def __init__(self, allocator: Any = None):
        self._used = self._held = self._limit = self.peak = 0
        self._allocator = allocator or (lambda size: MemoryPointer(Memory(size), 0))
        MemoryPool.all.add(self)

    def malloc(self, size: int) -> Block:
        """Enter `size` bytes; CuPy gives a pointer to them."""
        size = -(-size // UNIT) * UNIT
        if not self._grows_for(size):
            self.free_all_blocks()
            gc.collect()
            self.free_all_blocks()
            if not self._grows_for(size):
                raise OutOfMemoryError(size, self._held, self._limit)
        self._used += size
        self._held = max(self._held, self._used)
        self.peak = max(self.peak, self._used)
        return Block(self, size)

    def _grows_for(self, size: int) -> bool:
        """Take from the device what is missing; as in CuPy, another error than CUDA's own goes to the caller."""
        more = max(0, self._used + size - self._held)
        if not more:
            return True
        if self._limit and self._held + more > self._limit:
            return False
        try:
            self._allocator(more)
        except CUDARuntimeError:
            return False
        return True

    def release(self, block: Block) -> None:
        self._used -= block.size

    def used_bytes(self) -> int:
        return self._used

    def total_bytes(self) -> int:
        return self._held

    def free_bytes(self) -> int:
        return self._held - self._used

    def n_free_blocks(self) -> int:
        return int(self._held > self._used)

    def free_all_blocks(self, stream: Any = None) -> None:
        self._held = self._used

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        self._limit = int(size or (fraction or 0) * TOTAL)

    def get_limit(self) -> int:
        return self._limit


default_pool = MemoryPool()
_allocator: Callable[[int], Any] = default_pool.malloc
_here = threading.local()
_entered: dict[int, Any] = {}


@contextmanager
def using_allocator(allocator: Callable[[int], Any] | None = None) -> Iterator[None]:
    """New arrays of this thread come from another pool, given by its `malloc`."""
    outer, _here.allocator = getattr(_here, "allocator", None), allocator
    try:
        yield
    finally:
        _here.allocator = outer


def get_allocator() -> Callable[[int], Any]:
    return getattr(_here, "allocator", None) or _allocator


def set_allocator(allocator: Callable[[int], Any] | None = None) -> None:
    global _allocator
    _allocator = allocator or default_pool.malloc


def enter(host: np.ndarray) -> None:
    """Enter the memory that an array of the device lies in, unless it is the memory of one that was entered."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    key = id(host)
    if key in _entered:
        return
    stream = work.Stream.current()
    if stream.notes is not None:
        stream.kept.append(host)
    block = get_allocator()(host.nbytes)

    def leave(_: Any) -> None:
        del _entered[key]
        block.pool.release(block)

    _entered[key] = weakref.ref(host, leave)


def memory_info(device: int = 0) -> tuple[int, int]:
    """(free, total) bytes of the device."""
    return TOTAL - sum(pool.total_bytes() for pool in MemoryPool.all), TOTAL


# --- memory of the host that the device can read ---

_pinned: list[weakref.ref[np.ndarray]] = []


class PinnedMemoryPointer(np.ndarray):
    """CuPy's: a buffer of bytes, with the address `ptr`."""

    @property
    def ptr(self) -> int:
        return self.ctypes.data


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    memory = np.full(size, 0xCD, np.uint8).view(PinnedMemoryPointer)
    _pinned.append(weakref.ref(memory, _pinned.remove))
    return memory


def is_pinned(host: np.ndarray) -> bool:
    return any((memory := found()) is not None and np.may_share_memory(memory, host) for found in list(_pinned))


def copy_to_device(array: np.ndarray, host: np.ndarray) -> None:
    """From pinned memory the copy is made later and may be captured; from any other memory the host waits for it."""
    if is_pinned(host):
        if work.Stream.current().notes is not None:
            work.launch("copy from pinned memory", lambda: np.copyto(array, host))
        else:
            work.launch_later("copy from pinned memory", lambda: np.copyto(array, host))
        return
    work.upload("an array in pageable memory")
    work.run_queued()
    np.copyto(array, host)
