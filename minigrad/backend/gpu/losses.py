"""Softmax-cross-entropy, by `cross_entropy.cu`: one launch each way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import int32, int64

from minigrad.backend import faults, plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.launching import MOST_BLOCKS, THREADS, Source, blocks_for
from minigrad.backend.gpu.workspace import counters
from minigrad.backend.plain.losses import no_such_class, nothing_to_average

CROSS_ENTROPY = Source("cross_entropy.cu")
WARPS = THREADS // 32
REDUCTIONS = {"none": int32(0), "sum": int32(1), "mean": int32(2)}  # the names NONE, SUM and MEAN of the kernel
OP = "cross_entropy"


def softmax_cross_entropy(
    scores: Array, target: Array, label_smoothing: float, reduction: str, ignore_index: int | None
) -> tuple[Array, Array, Any]:
    """(losses, softmax - truth, how many rows count) of scores (N, C) and a label for each row.

    The losses are those of the rows, or, by `reduction`, their "sum" or "mean". Labels that name no class, and a mean
    over labels that are all ignored, give NaN and are noted as faults.
    """
    if not CROSS_ENTROPY.takes(scores) or not scores.size:
        return plain.softmax_cross_entropy(scores, target, label_smoothing, reduction, ignore_index)
    xp, (rows, classes) = namespace(scores), scores.shape
    wide = np.dtype(np.float64 if scores.dtype.itemsize == 8 else np.float32)
    grid = (min(MOST_BLOCKS, -(-rows // WARPS)),)
    losses = xp.empty((rows,) if reduction == "none" else (), scores.dtype)
    slopes, counted, parts = xp.empty(scores.shape, wide), xp.empty((), wide), xp.empty((*grid, 2), wide)
    CROSS_ENTROPY.launch(
        "softmax_cross_entropy", scores, grid, (THREADS,),
        xp.ascontiguousarray(scores), xp.ascontiguousarray(target.astype(xp.int64, copy=False)),
        int64(rows), int32(classes), wide.type(label_smoothing),
        np.bool_(ignore_index is not None), int64(ignore_index or 0), REDUCTIONS[reduction],
        slopes, losses, counted, parts, counters(scores, 1), faults.record(scores),
        int32(faults.code(no_such_class, OP, classes, ignore_index)), int32(faults.code(nothing_to_average, OP)),
    )  # fmt: skip
    return losses, slopes, counted


def softmax_cross_entropy_backward(
    g: Array,
    slopes: Array,
    counted: Any,
    target: Array,
    label_smoothing: float,
    reduction: str,
    ignore_index: int | None,
) -> Array:
    """The gradient in the scores: softmax - truth, times g of each row, or of the sum or mean of all."""
    if not slopes.size:
        return plain.softmax_cross_entropy_backward(
            g, slopes, counted, target, label_smoothing, reduction, ignore_index
        )
    xp = namespace(g)
    dx = xp.empty(slopes.shape, g.dtype)
    CROSS_ENTROPY.launch(
        "softmax_cross_entropy_backward", g, blocks_for(slopes.size), (THREADS,),
        xp.ascontiguousarray(g), slopes, counted, int64(slopes.size), int32(slopes.shape[1]), REDUCTIONS[reduction], dx,
    )  # fmt: skip
    return dx
