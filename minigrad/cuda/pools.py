"""The memory of the GPU, in words, and waiting for the GPU. Its arrays get memory in `backend/gpu/allocation.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import namespace, to_device
from minigrad.backend.gpu.allocation import summary


def library() -> Any:
    """CuPy. Raises DeviceError where there is none, or no GPU."""
    return namespace(to_device(np.zeros(0, np.float32), "cuda"))


def synchronize() -> None:
    """Wait until the current GPU has done all that was launched. Raises DeviceError where there is no GPU."""
    library().cuda.Device().synchronize()


def memory_summary() -> str:
    """How much memory of the current GPU is in use, held for reuse, and free, as text with a line for each pool.

        device            80.0 GiB in all, 79.6 GiB free
        pool              310.0 MiB held: 212.4 MiB used, 97.6 MiB unused
        step train        96.0 MiB held: 2.1 MiB used, 93.9 MiB unused

    "In all" and "free" are the device's, whoever uses it. "Held" is what a pool took from the device, "used" what
    arrays lie in (each rounded up to 512 bytes), "unused" what is kept for the next array. A pool with a limit has it
    at the end. A captured step has a pool of its own, for as long as it lives; what is unused there its graphs write to
    at each replay.

    Raises DeviceError where there is no GPU, which says how to install CuPy.
    """
    return summary(library())
