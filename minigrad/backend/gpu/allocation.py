"""Where the memory of arrays on a GPU comes from, and the error when there is none left.

CuPy asks one function, its allocator, for the memory of every array, whoever makes it: an op, a rule of backward, an
optimizer, a loader, a kernel that needs a workspace. `install` puts ours around CuPy's, so that out of memory is
noticed and put into words in one place. Captured steps have pools of their own (`private_pool`).

After this file you can say which memory may be given back when there is none left: the blocks that the common pool
keeps for later. A block of a private pool may look unused, but a captured graph writes to its address at each replay.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

from minigrad.backend.device import OutOfMemoryError

_private: list[tuple[str, weakref.ref[Any]]] = []  # the pools of captured steps, with their names

CUDA_ERROR_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation of driver_types.h

ADVICE = (
    "Use smaller batches (fit: micro_batches=... keeps the gradient the same), amp.autocast, minigrad.checkpoint for "
    "parts of the model, cache=False for the loader, or fewer shapes in captured steps; and see whether results of "
    "earlier steps are kept in a list. `minigrad.cuda.memory_summary()` shows what holds memory."
)


def install(xp: Any) -> None:
    """Have CuPy take memory from the allocator that it has now, with our error when there is none left."""
    allocator = xp.cuda.get_allocator()
    if not hasattr(allocator, "minigrads"):
        xp.cuda.set_allocator(guarded(xp, allocator))


def guarded(xp: Any, allocator: Callable[[int], Any]) -> Callable[[int], Any]:
    """The allocator, which tries once more after the common pool's unused blocks were given back, or says what is held.

    CuPy's pool gives back its own unused blocks before it raises, but not those of another pool.
    """

    def allocate(size: int) -> Any:
        try:
            return allocator(size)
        except Exception as error:
            if not _is_out_of_memory(xp, error):
                raise
        gc.collect()
        xp.get_default_memory_pool().free_all_blocks()
        try:
            return allocator(size)
        except Exception as error:
            if not _is_out_of_memory(xp, error):
                raise
            raise out_of_memory(xp, size, str(error)) from None

    allocate.minigrads = True  # type: ignore[attr-defined]
    return allocate


def _is_out_of_memory(xp: Any, error: Exception) -> bool:
    """Whether it is the error of CuPy's pool, or that of CUDA itself, which comes from memory without a pool."""
    if isinstance(error, xp.cuda.runtime.CUDARuntimeError):
        return bool(error.status == CUDA_ERROR_MEMORY_ALLOCATION)
    return isinstance(error, xp.cuda.memory.OutOfMemoryError)


def out_of_memory(xp: Any, size: int, details: str) -> OutOfMemoryError:
    """The error for `size` bytes that could not be had."""
    return OutOfMemoryError(f"the GPU is out of memory: {readable(size)} asked for. {details}\n{summary(xp)}\n{ADVICE}")


def summary(xp: Any) -> str:
    """`minigrad.cuda.memory_summary`, of an array library."""
    free, total = xp.cuda.Device().mem_info
    lines = [f"device            {readable(total)} in all, {readable(free)} free"]
    for name, pool in pools(xp):
        used, unused = readable(pool.used_bytes()), readable(pool.free_bytes())
        limit = f", limit {readable(pool.get_limit())}" if pool.get_limit() else ""
        lines.append(f"{name:<17} {readable(pool.total_bytes())} held: {used} used, {unused} unused{limit}")
    return "\n".join(lines)


def pools(xp: Any) -> list[tuple[str, Any]]:
    """The pools that arrays come from, with their names: the common one first, then those of captured steps."""
    private = [(f"step {name}", pool) for name, found in list(_private) if (pool := found()) is not None]
    return [("pool", xp.get_default_memory_pool()), *private]


def private_pool(xp: Any, name: str) -> Any:
    """A pool for what is captured as `name`; it is listed as long as it lives.

    Its memory comes from the device by way of `guarded`, whose error CuPy's pool lets through. At CuPy's own error the
    pool would give back its unused blocks, which earlier graphs of the step still write to.
    """
    pool = xp.cuda.MemoryPool(guarded(xp, lambda size: xp.cuda.MemoryPointer(xp.cuda.Memory(size), 0)))
    pool.set_limit(size=0)  # CUPY_GPU_MEMORY_LIMIT would set one, and at it the pool gives its unused blocks back
    entry = name, weakref.ref(pool)
    _private.append(entry)
    weakref.finalize(pool, _private.remove, entry)
    return pool


def readable(size: int) -> str:
    """Bytes in the largest unit that leaves a number of at least 1."""
    unit = next((u for u in (30, 20, 10) if size >> u), 0)
    if not unit:
        return f"{size} bytes"
    return f"{size / 2**unit:,.1f} {dict(zip((30, 20, 10), ('GiB', 'MiB', 'KiB'), strict=True))[unit]}"
