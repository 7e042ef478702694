"""How a matrix (rows, channels) is shared out among the threads of a launch: the host's side of `channels.cuh`."""

from __future__ import annotations

from numpy import int32, int64

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.launching import MOST_BLOCKS, THREADS
from minigrad.backend.gpu.workspace import counters

WARPS = THREADS // 32
ROWS_A_WARP = 32  # at least, of a sum; fewer would make more blocks than there is work for
MOST_PARTS = 64  # blocks along the rows of a sum, whose parts the last one joins


class Shares:
    """The shares of an array (rows, ..., channels), contiguous.

    Attributes
    ----------
    sizes : tuple
        The arguments `rows, channels, lanes` of a kernel.
    of_sum, of_each : tuple of int
        The grids: for a sum over the rows, and for what is done to each number.
    """

    def __init__(self, pixels: Array):
        self.channels = pixels.shape[-1]
        self.rows = pixels.size // max(1, self.channels)
        lanes = 32
        while lanes // 2 >= max(1, self.channels):
            lanes //= 2
        self.sizes = int64(self.rows), int32(self.channels), int32(lanes)
        across, rows_at_once = -(-self.channels // lanes), WARPS * (32 // lanes)
        down = -(-self.rows // rows_at_once)
        self.of_sum = across, min(MOST_PARTS, max(1, -(-down // ROWS_A_WARP)))
        self.of_each = across, min(max(1, MOST_BLOCKS // max(1, across)), down)

    def workspace(self, like: Array, numbers: int) -> tuple[Array, Array]:
        """(parts, arrived) for a sum of so many numbers a channel."""
        dtype = "float64" if like.dtype.itemsize == 8 else "float32"
        return namespace(like).empty((self.of_sum[1], self.channels, numbers), dtype), counters(like, self.of_sum[0])
