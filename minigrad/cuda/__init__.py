"""On a GPU: training steps captured as a whole, and memory.

`capture` records a training step once and replays it with one launch. `memory_summary` shows where the memory is,
`synchronize` waits for the device, `is_available` says whether there is one. Out of memory is an `OutOfMemoryError`.
"""

from minigrad.backend import cuda_is_available as is_available
from minigrad.cuda.capturing import CapturedStep, CaptureError, capture
from minigrad.cuda.pools import OutOfMemoryError, memory_summary, synchronize

__all__ = [
    "CaptureError",
    "CapturedStep",
    "OutOfMemoryError",
    "capture",
    "is_available",
    "memory_summary",
    "synchronize",
]


def __dir__() -> list[str]:
    return sorted(__all__)
