"""The stand-in's `cupy.cuda`: streams, graphs, pools and pinned memory, under CuPy's names."""

from __future__ import annotations

from types import SimpleNamespace

from tests.support.cuda import memory, work
from tests.support.cuda.memory import (
    CUDARuntimeError,
    Memory,
    MemoryPointer,
    MemoryPool,
    PinnedMemoryPointer,
    alloc_pinned_memory,
    get_allocator,
    set_allocator,
    using_allocator,
)
from tests.support.cuda.work import Event, Graph, Stream, get_current_stream

__all__ = [
    "Device",
    "Event",
    "Graph",
    "Memory",
    "MemoryPointer",
    "MemoryPool",
    "PinnedMemoryPointer",
    "Stream",
    "alloc_pinned_memory",
    "get_allocator",
    "get_current_stream",
    "is_available",
    "memory",
    "runtime",
    "set_allocator",
    "using_allocator",
]


class Device:
    """The one GPU there is; `with array.device:` makes it the current one."""

    def __init__(self, device: int | None = None):
        self.id = device or 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None: ...

    def synchronize(self) -> None:
        work.wait("synchronize")

    @property
    def mem_info(self) -> tuple[int, int]:
        return memory.memory_info()


def is_available() -> bool:
    return True


runtime = SimpleNamespace(
    getDevice=lambda: 0, getDeviceCount=lambda: 1, memGetInfo=memory.memory_info, CUDARuntimeError=CUDARuntimeError
)
