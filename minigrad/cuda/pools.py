"""The memory of the GPU: how much is held, by whom, and what an error says when there is none left."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad.backend import namespace, to_device

_private: list[tuple[str, weakref.ref[Any]]] = []  # the pools of captured steps, with their names


class OutOfMemoryError(MemoryError):
    """The GPU has no memory left for an array. What was held and not used has been given back to the device."""


def library() -> Any:
    """CuPy. Raises DeviceError where there is none, or no GPU."""
    return namespace(to_device(np.zeros(0, np.float32), "cuda"))


def synchronize() -> None:
    """Wait until the current GPU has done all that was launched. Raises DeviceError where there is no GPU."""
    library().cuda.Device().synchronize()


def memory_summary() -> str:
    """How much memory of the current GPU is in use, held for reuse, and free, in MiB; a line for each captured step.

    "Used" is what arrays lie in. "Held" is what was taken from the device: freed memory is kept for the next array.
    """
    return summary(library())


def summary(xp: Any) -> str:
    """`memory_summary`, of an array library."""
    free, total = xp.cuda.Device().mem_info
    lines = [f"device            {_mib(total)} in all, {_mib(free)} free"]
    for name, pool in pools(xp):
        lines.append(f"{name:<18}{_mib(pool.total_bytes())} held, {_mib(pool.used_bytes())} used")
    return "\n".join(lines)


def pools(xp: Any) -> list[tuple[str, Any]]:
    """The pools that arrays come from, with their names: the common one first, then those of captured steps."""
    private = [(f"step {name}", pool) for name, found in list(_private) if (pool := found()) is not None]
    return [("pool", xp.get_default_memory_pool()), *private]


def private_pool(xp: Any, name: str) -> Any:
    """A pool for what is captured as `name`; it is listed as long as it lives."""
    pool = xp.cuda.MemoryPool()
    entry = name, weakref.ref(pool)
    _private.append(entry)
    weakref.finalize(pool, _private.remove, entry)
    return pool


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


@contextmanager
def explained(xp: Any) -> Iterator[None]:
    """Out of memory inside is our error, with what was asked, held and free; unused memory is given back."""
    try:
        yield
    except xp.cuda.memory.OutOfMemoryError as error:
        held = summary(xp)
        for _, pool in pools(xp):
            pool.free_all_blocks()
        raise OutOfMemoryError(
            f"the GPU is out of memory. {error}\n{held}\n"
            "Use smaller batches (or the same in micro_batches), a smaller dtype, `minigrad.checkpoint` for parts of "
            "the model, or fewer shapes in captured steps; and see whether results of earlier steps are kept in a list."
        ) from error
