"""Reading and writing at an index, for many examples at once.

After this file you know the one difficulty of hiding an axis: where an index holds arrays, NumPy puts the axes that
they make in the place of the first of them, or in front of all if a slice stands between them. Behind a hidden axis
both places change, and the axes have to be moved to where one example would have them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend.batched.array import BatchedArray, Level, bare, is_at, newest_level, physical
from minigrad.backend.device import is_array, kernels, namespace

Move = tuple[int, int, int]  # of so many axes, from where to where
BASIC = frozenset({int, slice, type(None), type(Ellipsis)})  # what in an index makes no difficulty


def read(x: Any, index: tuple) -> Any:
    """x[index], where x, or arrays in the index, or both, may be batched."""
    if x.__class__ is BatchedArray and BASIC.issuperset([part.__class__ for part in index]):
        return BatchedArray(x.array[(slice(None), *index)], x.level)
    level = newest_level(x, *index)
    if level is None:
        return x[index]
    index, shape = _no_single_truths(index, x.shape, x)
    x = x if shape == x.shape else x.reshape(shape)
    array = x.array if is_at(x, level) else x[None]
    places, move = _places(array.shape, index, level)
    return BatchedArray(_moved(read(array, places), *move), level)


def put(values: Any, index: tuple, shape: tuple[int, ...]) -> BatchedArray:
    """Zeros of `shape` with the values added at `index`, each example by itself."""
    level, size = _examples(values, *index)
    index, wide = _no_single_truths(index, shape, values)
    places, move = _places((size, *wide), index, level)
    values = _written(values, level, (size, *index_shape(wide, index)), move)
    result = kernels(values, *places).put(values, places, (size, *wide))
    return BatchedArray(result.reshape((size, *shape)), level)


def update(x: Any, value: Any, index: tuple) -> BatchedArray:
    """A copy of x with the value written at `index`, each example by itself."""
    level, size = _examples(x, value, *index)
    index, wide = _no_single_truths(index, x.shape, x)
    array = x.array if is_at(x, level) else x[None]
    array = namespace(array).broadcast_to(array, (size, *x.shape)).reshape((size, *wide))
    places, move = _places(array.shape, index, level)
    value = _written(value, level, (size, *index_shape(wide, index)), move)
    result = kernels(array, value, *places).update(array, value, places)
    return BatchedArray(result.reshape((size, *x.shape)), level)


def index_shape(shape: tuple[int, ...], index: tuple) -> tuple[int, ...]:
    """The shape of x[index] for x of this shape, without reading anything."""
    index, shape = _no_single_truths(index, shape)
    parts = (np.zeros(part.shape, np.intp) if is_array(part) else part for part in spelled_out(index, len(shape)))
    return np.broadcast_to(np.zeros((), bool), shape)[tuple(parts)].shape


def spelled_out(index: tuple, ndim: int) -> tuple:
    """The index with `...` as slices and masks as the places where they are true.

    A `...` that covers no axis is kept: NumPy still separates the arrays to its left from those to its right.
    """
    ends = index if any(part is Ellipsis for part in index) else (*index, Ellipsis)
    used = sum(
        part.ndim if _is_mask(part) else 0 if part is None or part is Ellipsis or _is_truth(part) else 1
        for part in index
    )
    parts: list[Any] = []
    for part in ends:
        if part is Ellipsis:
            parts += [slice(None)] * (ndim - used) or [Ellipsis]
        elif _is_mask(part):
            parts += part.nonzero()
        else:
            parts.append(part)
    return tuple(parts)


def _no_single_truths(index: tuple, shape: tuple[int, ...], x: Any = None) -> tuple[tuple, tuple[int, ...]]:
    """The same index without single Trues and Falses: each is a new axis of size 1, of which one or none is read.

    What takes their place lies where x does.
    """
    xp = namespace(bare(x))
    if not any(_is_truth(part) for part in index):
        return index, shape
    index = spelled_out(index, len(shape))
    parts, sizes, rest = [], [], list(shape)
    for part in index:
        if _is_truth(part):
            parts.append(xp.arange(int(bool(part))))
            sizes.append(1)
        else:
            parts.append(part)
            if part is not None and part is not Ellipsis:
                sizes.append(rest.pop(0))
    return tuple(parts), tuple(sizes)


def _is_truth(part: object) -> bool:
    return isinstance(part, bool) or (is_array(part) and part.ndim == 0 and part.dtype == bool)


def _is_mask(part: object) -> bool:
    if part.__class__ is BatchedArray and part.dtype == bool:
        raise TypeError(
            "inside vmap a mask that differs from example to example would give results of different sizes; "
            "keep the shape and use minigrad.where(mask, x, 0)."
        )
    return is_array(part) and part.dtype == bool and part.ndim > 0


def _examples(*values: Any) -> tuple[Level, int]:
    """The newest level, and how many examples the arrays of it hold: one, or all."""
    level = newest_level(*values)
    return level, max(value.array.shape[0] for value in values if is_at(value, level))


def _places(shape: tuple[int, ...], index: tuple, level: Level) -> tuple[tuple, Move]:
    """The index into an array of `shape`, examples in front, and the move that its result needs."""
    index = spelled_out(index, len(shape) - 1)
    widths = [part.ndim for part in index if is_array(part)]
    if not widths:
        return (slice(None), *index), (0, 0, 0)
    width = max(widths)
    pointing = [i for i, part in enumerate(index) if is_array(part) or isinstance(part, int)]
    first = sum(part is not Ellipsis for part in index[: pointing[0]])
    together = pointing[-1] - pointing[0] == len(pointing) - 1
    if not any(is_at(part, level) for part in index):
        return (slice(None), *index), (0, 0, 0) if together else (width, 0, 1)  # the examples back to the front
    xp = namespace(*(part for part in index if is_array(part)))
    examples = xp.arange(shape[0]).reshape((-1,) + (1,) * width)
    parts = (physical(part, level, width) for part in index)
    return (examples, *parts), (1, 1 + first, width) if together else (0, 0, 0)


def _written(value: Any, level: Level, shape: tuple[int, ...], move: Move) -> Any:
    """The value broadcast to the shape of the part to be written, its axes in the order of the index."""
    value = physical(value, level, len(shape) - 1)
    start, stop, count = move
    return _moved(namespace(value).broadcast_to(value, shape), stop, start, count)


def _moved(array: Any, start: int, stop: int, count: int) -> Any:
    """`count` neighbouring axes moved from `start` to `stop`."""
    if start == stop or not count:
        return array
    axes = range(count)
    return namespace(array).moveaxis(array, tuple(start + i for i in axes), tuple(stop + i for i in axes))
