"""Sums that do not lose small numbers to a large running total, and the wider dtype in which to take them.

After this file you know why the order of additions matters. A running total of n numbers rounds n times, and once it is
2^24 times as large as what is added, float32 stands still. NumPy adds in pairs along the innermost axis in memory, but
one row after the other along every other axis. Here those rows are added in blocks of at most 256, and then the sums
of the blocks: the error grows with the logarithm of n (Higham, "The accuracy of floating point summation", 1993).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from minigrad.backend.threads import single_threaded_blas

__all__ = ["sum_leading", "total", "wide"]

SMALL = 512  # numbers whose order of additions hardly matters
ROWS = 128  # added one after the other
BLOCK = 64  # rows of a block, where there are more
ONE_THREAD = 9216  # numbers up to which OpenBLAS multiplies by a vector on one thread (its interface/gemv.c)
LARGE = 2**16  # numbers from which on it pays to hold BLAS to one thread, which takes 8 us

add_up: Any = np.add.reduce  # what NumPy's method calls, 0.2 us sooner


def total(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`x.sum(axis, keepdims)` without the rounding of one long running total; float16 is added in float32.

    Integers, Tensors, and arrays of other libraries sum themselves: CuPy adds in a tree.
    """
    if type(x) is not np.ndarray or x.dtype.kind != "f":
        return x.sum(axis=axis, keepdims=keepdims)
    if x.dtype.itemsize == 2:
        return total(x.astype(np.float32), axis, keepdims).astype(x.dtype)
    ndim = x.ndim
    if x.size <= SMALL or ndim < 2 or ((axis is None or axis == -1 or axis == ndim - 1) and x.flags.c_contiguous):
        return add_up(x, axis=axis, keepdims=keepdims)
    if axis == 0 and x.flags.c_contiguous:
        out = sum_leading(x.reshape(len(x), -1))
        return out.reshape((1, *x.shape[1:]) if keepdims else x.shape[1:])
    axes = _axes(axis, ndim)
    if axes is None or math.prod(x.shape[a] for a in axes) <= ROWS:  # where it is None, NumPy says what is wrong
        return add_up(x, axis=axis, keepdims=keepdims)
    out = _in_order_of_memory(x, axes)
    return out.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else out


def sum_leading(x: np.ndarray) -> np.ndarray:
    """The sum of a contiguous float matrix over its rows.

    A product with ones, where BLAS takes one thread so that the result does not depend on their number: (64, 120) takes
    0.9 us, 3.0 with ``sum(axis=0)``; (50176, 16) takes 154 us, 2300 with ``sum(axis=0)``, and its largest relative
    error is 1.0e-7 for 7.9e-6 (float32, timeit).
    """
    if x.size < LARGE:
        return _sum_rows(x, by_blas=False)
    with single_threaded_blas():
        return _sum_rows(x, by_blas=True)


def wide(x: Any) -> Any:
    """x in a dtype whose sums and squares do not soon overflow: float16 as float32, integers and bools as float64."""
    if x.dtype.kind != "f":
        return x.astype(np.float64)
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _sum_rows(x: np.ndarray, by_blas: bool) -> np.ndarray:
    count, columns = x.shape
    if count <= ROWS or not columns:
        return _ones(count, x.dtype).dot(x) if by_blas or x.size <= ONE_THREAD else add_up(x, axis=0)
    blocks = count // BLOCK
    sums = _sum_rows(x[: blocks * BLOCK].reshape(BLOCK, blocks * columns), by_blas)
    whole = _sum_rows(sums.reshape(blocks, columns), by_blas)
    return whole if blocks * BLOCK == count else whole + _sum_rows(x[blocks * BLOCK :], by_blas)


@lru_cache(maxsize=512)
def _ones(count: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(count, dtype)


def _axes(axis: Any, ndim: int) -> tuple[int, ...] | None:
    """Axes from 0 to ndim - 1; None where they are out of range, named twice or no integers."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    if not all(isinstance(a, (int, np.integer)) for a in given):
        return None
    axes = tuple(int(a) + ndim if a < 0 else int(a) for a in given)
    return axes if len(set(axes)) == len(axes) and all(0 <= a < ndim for a in axes) else None


def _in_order_of_memory(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The sum over some axes: over those outermost in memory first, whose rows are long, the innermost in pairs."""
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    runs = [(reduced, list(run)) for reduced, run in groupby(order, lambda i: i in axes)]
    sizes = [math.prod(x.shape[i] for i in run) for _, run in runs]
    in_pairs = sizes[-1] if runs[-1][0] else 1
    if x.size < LARGE and math.prod(x.shape[i] for i in axes) <= ROWS * in_pairs:
        return add_up(x, axis=axes)
    y = np.ascontiguousarray(x.transpose(order))
    while any(reduced for reduced, _ in runs):
        place = next(i for i, (reduced, _) in enumerate(runs) if reduced)
        before, count, behind = math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :])
        y = _sum_middle(y.reshape(before, count, behind))
        del runs[place], sizes[place]
    kept = [i for _, run in runs for i in run]
    y = y.reshape([x.shape[i] for i in kept])
    return y.transpose([kept.index(i) for i in sorted(kept)])


def _sum_middle(x: np.ndarray) -> np.ndarray:
    """The sum of a contiguous (before, count, behind) over the axis in the middle."""
    before, count, behind = x.shape
    if behind == 1:
        return add_up(x[:, :, 0], axis=1)
    if before == 1:
        return sum_leading(x[0])
    if count <= ROWS:
        return add_up(x, axis=1)
    blocks = count // BLOCK
    rows = x[:, : blocks * BLOCK].reshape(before, BLOCK, blocks * behind)
    whole = _sum_middle(add_up(rows, axis=1).reshape(before, blocks, behind))
    return whole if blocks * BLOCK == count else whole + add_up(x[:, blocks * BLOCK :], axis=1)
