"""Sums over the batch of each channel, by `channel_sums.cu`."""

from __future__ import annotations

from numpy import int32, int64

from minigrad.backend import plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.launching import THREADS, Source, channels_last
from minigrad.backend.gpu.workspace import counters

SUMS = Source("channel_sums.cu")
WARPS = THREADS // 32
ROWS_A_WARP = 32  # at least; fewer would make more blocks than there is work for
MOST_PARTS = 64  # blocks along the rows, whose parts the last one adds up


def channel_sum(x: Array) -> Array:
    """The sum of x (N, C, ...) over all axes but 1, shaped (C,): a bias's gradient."""
    if not SUMS.takes(x):
        return plain.channel_sum(x)
    xp, pixels = namespace(x), channels_last(x)
    channels = pixels.shape[-1]
    rows = pixels.size // max(1, channels)
    lanes, grid = shares(rows, channels)
    sums = xp.empty(channels, x.dtype)
    parts = xp.empty((grid[1], channels), xp.float64 if x.dtype.itemsize == 8 else xp.float32)
    SUMS.launch(
        "channel_sum", x, grid, (THREADS,),
        pixels, int64(rows), int32(channels), int32(lanes), parts, counters(x, grid[0]), sums,
    )  # fmt: skip
    return sums


def shares(rows: int, channels: int) -> tuple[int, tuple[int, int]]:
    """How a matrix (rows, channels) is shared out: lanes of a warp along the channels, and the grid."""
    lanes = 32
    while lanes // 2 >= max(1, channels):
        lanes //= 2
    down = -(-rows // (WARPS * ROWS_A_WARP * (32 // lanes)))
    return lanes, (-(-channels // lanes), min(MOST_PARTS, max(1, down)))
