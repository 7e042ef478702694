"""On a GPU: training steps captured as a whole, and memory.

`capture` records a training step once and replays it with one launch. `memory_summary` shows where the memory is,
`synchronize` waits for the device, `is_available` says whether there is one, and `set_tf32` is the one switch for the
precision of float32 products and convolutions. Out of memory is an `OutOfMemoryError`.
"""

from minigrad.backend import OutOfMemoryError
from minigrad.backend import cuda_is_available as is_available
from minigrad.backend.gpu.precision import set_tf32, tf32
from minigrad.cuda.capturing import CapturedStep, CaptureError, capture
from minigrad.cuda.pools import memory_summary, synchronize

__all__ = [
    "CaptureError",
    "CapturedStep",
    "OutOfMemoryError",
    "capture",
    "is_available",
    "memory_summary",
    "set_tf32",
    "synchronize",
    "tf32",
]


def __dir__() -> list[str]:
    return sorted(__all__)
