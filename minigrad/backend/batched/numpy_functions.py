"""The array library of batched arrays: NumPy's functions by name, working on every example at once.

After this file you know which functions work inside `vmap`: elementwise ones, linear algebra, which
takes leading axes anyway, and the table here, in each of which an axis is shifted past the hidden one.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from minigrad.backend.batched.array import BatchedArray, elementwise, is_at, newest_level, physical, shifted
from minigrad.backend.device import kernels, namespace

# Names of constants, types, and functions that make new arrays: the library's own are used unchanged.
PLAIN = frozenset(
    "zeros ones full empty eye arange linspace float16 float32 float64 int8 int16 int32 int64 uint8 uint64 intp bool_ "
    "inf nan pi e newaxis finfo ndarray dtype".split()
)
ELEMENTWISE = frozenset("where clip round nan_to_num isclose".split())  # beside NumPy's ufuncs


class BatchedNamespace:
    """What `namespace(x)` gives for a batched array; `inner` is the library of the array behind it."""

    def __init__(self, inner: Any, family: str = ""):
        self.inner, self.family = inner, family

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _function(self.inner, self.family, name)


@cache
def batched_namespace(inner: Any) -> BatchedNamespace:
    return BatchedNamespace(inner)


@cache
def _function(inner: Any, family: str, name: str) -> Any:
    if family == "linalg":
        return partial(_matrices, getattr(inner.linalg, name))
    if name in ELEMENTWISE or isinstance(getattr(np, name, None), np.ufunc):
        return partial(_elementwise, getattr(inner, name))
    if name in ("array", "asarray", "ascontiguousarray"):
        return partial(_made_array, getattr(inner, name))
    if name in TABLE:
        return TABLE[name]
    if name == "linalg":
        return BatchedNamespace(inner, "linalg")
    if name in PLAIN:
        return getattr(inner, name)
    raise NotImplementedError(
        f"vmap: numpy.{name} has no form for many examples at once. Write it with functions that have one (elementwise "
        f"ones, linear algebra, {', '.join(sorted(TABLE))}), or without vmap, as in "
        "minigrad.stack([f(example) for example in x])."
    )


def _elementwise(function, *values: Any, **options: Any) -> Any:
    if newest_level(*values) is None:
        return function(*values, **options)
    return elementwise(function, *values, **options)


def _matrices(function, *arrays: Any, **options: Any) -> Any:
    """A function of matrices, which takes any number of leading axes; a tuple of results stays one."""
    level = newest_level(*arrays)
    if level is None:
        return function(*arrays, **options)
    ndim = max(array.ndim for array in arrays if hasattr(array, "ndim"))
    whole = [physical(array, level, ndim) for array in arrays]
    if len(whole) > 1:  # of solve, which in CuPy does not broadcast
        batch = np.broadcast_shapes(*(array.shape[:-2] for array in whole))
        whole = [namespace(array).broadcast_to(array, (*batch, *array.shape[-2:])) for array in whole]
    result = function(*whole, **options)
    if isinstance(result, tuple):
        return tuple(BatchedArray(part, level) for part in result)
    return BatchedArray(result, level)


# --- functions with axes ---


def move(x: Any, source: Any, destination: Any) -> Any:
    """moveaxis, of batched arrays and others."""
    if x.__class__ is not BatchedArray:
        return namespace(x).moveaxis(x, source, destination)
    array = move(x.array, shifted(source, x.ndim), shifted(destination, x.ndim))
    return BatchedArray(array, x.level)


def _along(name: str):
    """A function that runs along one axis and keeps it."""

    def run(x, axis=None, **options):
        inner = getattr(namespace(x.array), name)
        if axis is None:
            x, axis = x.reshape((x.size,)), 0
        if x.ndim == 0:  # axis 0 or -1 of a single number, as NumPy allows it
            return BatchedArray(inner(x.array[:, None], axis=1, **options), x.level)
        return BatchedArray(inner(x.array, axis=1 + axis % x.ndim, **options), x.level)

    return run


def _method(name: str):
    def call(x, *args, **options):
        return getattr(x, name)(*args, **options)

    return call


def _flip(x, axis=None):
    axes = shifted(axis, x.ndim)
    return BatchedArray(namespace(x.array).flip(x.array, axes) if axes else x.array, x.level)


def _roll(x, shift, axis=None):
    if axis is None:
        flat = x.reshape((x.size,))
        return _roll(flat, shift, 0).reshape(x.shape)
    axes = shifted(axis, x.ndim)
    shift = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    return BatchedArray(namespace(x.array).roll(x.array, shift, axes), x.level)


def _broadcast_to(x, shape):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    array = physical(x, x.level, len(shape))
    return BatchedArray(namespace(array).broadcast_to(array, array.shape[:1] + shape), x.level)


def _pad(x, pad_width, **options):
    widths = ((0, 0), *(tuple(pair) for pair in pad_width))
    return BatchedArray(namespace(x.array).pad(x.array, widths, **options), x.level)


def _concatenate(arrays, axis=0):
    level = newest_level(*arrays)
    examples = max(a.array.shape[0] for a in arrays if is_at(a, level))
    parts = [a.array if is_at(a, level) else a[None] for a in arrays]
    parts = [namespace(a).broadcast_to(a, (examples, *a.shape[1:])) for a in parts]
    return BatchedArray(namespace(*parts).concatenate(parts, axis=1 + axis % arrays[0].ndim), level)


def _like(name: str):
    def make(x, **options):
        return BatchedArray(getattr(namespace(x.array), name)(x.array, **options), x.level)

    return make


def _made_array(function, x, dtype=None):
    """array, asarray and ascontiguousarray: a batched array is copied, in the dtype asked for."""
    if x.__class__ is not BatchedArray:
        return function(x, dtype=dtype)
    return x.copy() if dtype is None else x.astype(dtype)


def _triangle(name: str):
    def cut(x, k=0):
        return BatchedArray(getattr(namespace(x.array), name)(x.array, k), x.level)

    return cut


def einsum(subscripts: str, *operands):
    """einsum with an explicit result and no dots: one more letter for the examples."""
    level = newest_level(*operands)
    left, _, result = subscripts.partition("->")
    letter = next(c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in subscripts)
    shared = [o for o in operands if is_at(o, level) and o.array.shape[0] == 1 != level.size]
    arrays, terms = [], []
    for term, operand in zip(left.split(","), operands, strict=True):
        one = any(operand is o for o in shared)
        arrays.append(operand.array[0] if one else physical(operand, level))
        terms.append(letter + term if is_at(operand, level) and not one else term)
    batched = any(term.startswith(letter) for term in terms)
    out = kernels(*arrays).einsum(f"{','.join(terms)}->{letter + result if batched else result}", *arrays)
    return BatchedArray(out if batched else out[None], level)


TABLE: dict[str, Any] = {
    "moveaxis": move,
    "flip": _flip,
    "roll": _roll,
    "broadcast_to": _broadcast_to,
    "pad": _pad,
    "concatenate": _concatenate,
    "einsum": einsum,
    "matmul": lambda a, b: a @ b,
    **{name: _along(name) for name in "cumsum cumprod argsort sort".split()},
    **{name: _like(name) for name in "zeros_like ones_like empty_like full_like".split()},
    **{name: _triangle(name) for name in "tril triu".split()},
    **{
        name: _method(name)
        for name in "sum mean prod max min any all argmax argmin reshape transpose swapaxes astype copy".split()
    },
}
