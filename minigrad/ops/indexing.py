"""Indexing: reading parts of a tensor, writing parts of a new one, and sorting.

After this file you know that reading at an index and adding into zeros at that index are each other's vjp, and how the
engine keeps many small reads of one large tensor cheap: their gradients are added into one buffer (`defvjp_into`).
"""

from __future__ import annotations

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import DTypeLike, Index, Indices, Operand, TensorLike
from minigrad.backend import (
    BatchedArray,
    as_array,
    bare,
    device_of,
    index_shape,
    is_array,
    kernels,
    namespace,
    newest_level,
    read,
    to_device,
)
from minigrad.backend.scatter import add_at
from minigrad.ops.shapes import broadcast_to, check_axis, flip, whole

# --- reading and its adjoint ---


@primitive(symbol="[ ]", local="1 where read", kind="linear", view=True)
def _getitem(x: TensorLike, index: tuple) -> Tensor:
    return read(x, index)


@primitive(symbol="[ ]=", local="1 where written", kind="linear")
def _put(g: TensorLike, index: tuple, shape: tuple[int, ...]) -> Tensor:
    """Zeros of `shape` with g added at `index`; an element named twice gets the sum."""
    return kernels(g, *arrays_in(index)).put(g, index, shape)


_getitem.defvjp(x=lambda g, x_shape, index: _put(g, index=index, shape=x_shape))
_getitem.defvjp_into(x=lambda buffer, g, index: _add_into(buffer, g, index))


def _add_into(buffer, g, index):
    if newest_level(buffer, *index):
        return buffer + _put(g, index=index, shape=buffer.shape)
    add_at(buffer, g, index)
    return buffer


_put.defvjp(g=lambda g, index: _getitem(g, index=index))


@composite
def getitem(x: TensorLike, index: Index) -> Tensor:
    """x[index], with everything NumPy takes: ints, slices, ..., None, bool and integer arrays, and mixtures."""
    return _getitem(x, index=prepare_index(x, index))


def prepare_index(x, index) -> tuple:
    """An index as a tuple of what an array library takes, arrays in it on x's device.

    A graph keeps copies of the caller's arrays, which may be written to before backward.
    """
    array, kept = array_of(x), getattr(x, "requires_grad", False)
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(_index_part(array, part.copy() if kept and type(part) is np.ndarray else part) for part in parts)


def arrays_in(index: tuple) -> list:
    return [part for part in index if is_array(part)]


def _index_part(x, part):
    if part is None or part is Ellipsis or isinstance(part, (slice, int)):
        return part
    part = array_of(part)
    if isinstance(part, (list, tuple, range)):
        try:
            part = np.asarray(part, dtype=None if len(part) else np.intp)
        except ValueError as error:
            raise IndexError(
                f"getitem: cannot make one array of integers of this {type(part).__name__}: {error}"
            ) from None
    if not is_array(part) or part.dtype.kind not in "iub":
        kind = f"{part.dtype} array" if is_array(part) else type(part).__name__
        raise TypeError(
            f"an index may hold integers, slices, ..., None, and arrays of integers or bools, not a {kind}."
        )
    if part.ndim == 0 and part.dtype != bool and type(part) is not BatchedArray:
        return int(part)
    return part if namespace(part) is namespace(x) else to_device(part, device_of(x))


# --- writing, as functions ---


@primitive(symbol="[ ]=", local="1 where kept, 1 where written")
def _index_update(x: TensorLike, value: Operand, index: tuple) -> Tensor:
    return kernels(x, value, *arrays_in(index)).update(x, value, index)


def _zero_at(g, index):
    return _index_update(g, namespace(array_of(g)).zeros((), g.dtype), index=index)


_index_update.defvjp(x=_zero_at, value=lambda g, index: _getitem(g, index=index))
_index_update.defjvp(
    x=_zero_at,
    value=lambda t, x_shape, index: _index_update(_zeros(t, x_shape), t, index=index),
)


def _zeros(like, shape):
    return namespace(array_of(like)).zeros(shape, like.dtype)


@composite
def index_update(x: TensorLike, index: Index, value: Operand) -> Tensor:
    """A new tensor: x with x[index] = value. Each element may be named once only; use index_add where they repeat."""
    index = prepare_index(x, index)
    if x.dtype.kind != "f" and getattr(value, "requires_grad", False):
        raise TypeError(f"index_update: values with gradients for a tensor of {x.dtype}, which has none; use x.astype.")
    if _names_twice(x, index):
        raise ValueError(
            "index_update: the index names an element more than once, so which value wins is not defined; "
            "use index_add, or make the index unique."
        )
    return _index_update(x, _value_like(x, value), index=index)


@composite
def index_add(x: TensorLike, index: Index, value: Operand) -> Tensor:
    """A new tensor: x with x[index] += value, an element named several times being added to several times."""
    index = prepare_index(x, index)
    _check_in_range("index_add", x.shape, index)
    values = broadcast_to(_value_like(x, value), shape=index_shape(x.shape, index))
    return x + _put(values, index=index, shape=x.shape)


def _check_in_range(op: str, shape, index) -> None:
    """Raise IndexError for integers that name no element, as reading there does; adding to rows would wrap around."""
    if all(isinstance(part, np.ndarray) for part in arrays_in(index)):
        try:
            np.broadcast_to(np.int8(0), shape)[index]
        except IndexError as error:
            raise IndexError(f"{op}: {error}") from None


def _value_like(x, value):
    if isinstance(value, Tensor) or is_array(value):
        return value if isinstance(value, Tensor) else as_array(value)
    return namespace(array_of(x)).asarray(as_array(value, x.dtype))


def _names_twice(x, index) -> bool:
    if not any(is_array(part) and part.dtype != bool for part in index):
        return False
    xp = namespace(array_of(x))
    named = bare(read(xp.arange(x.size).reshape(x.shape), index).reshape((-1,)))
    named.sort(axis=-1)  # under vmap, each example's by itself
    return bool((named[..., 1:] == named[..., :-1]).any())


# --- along an axis ---


@composite
def take(x: TensorLike, indices: Indices, axis: int | None = None) -> Tensor:
    """The elements (or slices along `axis`) at the integers in `indices`; of the flattened x for axis None."""
    if axis is None:
        x, axis = x.reshape((-1,)), 0
    axis = check_axis("take", axis, x.ndim)
    return getitem(x, (slice(None),) * axis + (_integers("take", indices),))


@composite
def take_along_axis(x: TensorLike, indices: Indices, axis: int) -> Tensor:
    """out[..., j, ...] = x[..., indices[..., j, ...], ...] along `axis`; the other axes broadcast (as numpy)."""
    places = _integers("take_along_axis", indices)
    if places.ndim != x.ndim:
        raise ShapeError(f"take_along_axis: indices of {places.ndim} axes for a tensor of {x.ndim}; they must agree.")
    axis = check_axis("take_along_axis", axis, x.ndim)
    return getitem(x, _grid(x, places, axis, x.shape))


@composite
def gather(x: TensorLike, dim: int, index: Indices) -> Tensor:
    """PyTorch's gather: out[i][j] = x[index[i][j]][j] for dim 0; `index` may be smaller along the other axes."""
    places = _integers("gather", index)
    axis = check_axis("gather", dim, x.ndim)
    _check_gather("gather", x.shape, places.shape, axis)
    return getitem(x, _grid(x, places, axis, places.shape))


@composite
def scatter_add(x: TensorLike, dim: int, index: Indices, src: TensorLike) -> Tensor:
    """PyTorch's scatter_add, as a function: a new x with x[index[i][j]][j] += src[i][j] for dim 0."""
    places = _integers("scatter_add", index)
    axis = check_axis("scatter_add", dim, x.ndim)
    _check_gather("scatter_add", x.shape, places.shape, axis)
    if src.ndim != x.ndim or any(n > m for n, m in zip(places.shape, src.shape, strict=True)):
        raise ShapeError(
            f"scatter_add: src of shape {src.shape} for an index of shape {places.shape}; expected as many axes, each "
            "at least as large as the index's."
        )
    used = src[tuple(slice(0, n) for n in places.shape)]
    return index_add(x, _grid(x, places, axis, places.shape), used)


def _check_gather(op, shape, index_shape, axis):
    if len(shape) != len(index_shape):
        raise ShapeError(
            f"{op}: an index of shape {index_shape} for shape {shape}; expected as many axes, {len(shape)}. "
            "unsqueeze or reshape brings axes into line."
        )
    if not all(i == axis or n <= m for i, (n, m) in enumerate(zip(index_shape, shape, strict=True))):
        raise ShapeError(
            f"{op}: an index of shape {index_shape} for shape {shape}; "
            f"other than along axis {axis} it may not be larger."
        )


def _grid(x, indices, axis, shape) -> tuple:
    """Index arrays that leave every axis in place but `axis`, where `indices` says."""
    xp = namespace(array_of(x))
    places = []
    for i, n in enumerate(shape):
        line = xp.arange(n).reshape(tuple(n if j == i else 1 for j in range(len(shape))))
        places.append(indices if i == axis else line)
    return tuple(places)


def _integers(op: str, indices):
    indices = array_of(indices)
    indices = indices if is_array(indices) else np.asarray(indices, dtype=None if np.size(indices) else np.intp)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{op}: expected integer indices, got {indices.dtype}.")
    return indices


@composite
def embedding(indices: Indices, weight: TensorLike) -> Tensor:
    """The rows of `weight` (vocabulary, features) that `indices` name; shape indices.shape + (features,)."""
    rows = _integers("embedding", indices)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: a weight of shape {weight.shape}; expected (vocabulary, features).")
    check_range("embedding", rows, weight.shape[0], "row of the weight")
    return getitem(weight, rows.reshape((-1,))).reshape((*rows.shape, *weight.shape[1:]))


def check_range(op: str, indices, limit: int, what: str) -> None:
    """Raise IndexError if an integer is not in 0..limit-1. On a GPU this waits for it; NumPy would wrap or crash."""
    if indices.size:
        lowest, highest = int(bare(indices).min()), int(bare(indices).max())
        if lowest < 0 or highest >= limit:
            wrong = lowest if lowest < 0 else highest
            raise IndexError(f"{op}: index {wrong} names no {what}; expected 0 to {limit - 1}.")


@primitive(differentiable=False)
def one_hot(indices: TensorLike, num_classes: int | None = None, dtype: DTypeLike = np.float32) -> Tensor:
    """Rows of zeros with a one where `indices` says: shape indices.shape + (num_classes,)."""
    xp = namespace(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"one_hot: expected integer indices, got {indices.dtype}.")
    if num_classes is None:
        num_classes = int(bare(indices).max()) + 1 if indices.size else 0
    num_classes = whole("one_hot", "num_classes", num_classes)
    check_range("one_hot", indices, num_classes, "class")
    return (xp.asarray(indices)[..., None] == xp.arange(num_classes)).astype(dtype)


# --- sorting ---


@primitive(differentiable=False)
def argsort(x: TensorLike, axis: int = -1) -> Tensor:
    """The indices that put x in rising order along `axis`; equal values keep their order."""
    return namespace(x).argsort(x, axis=axis, kind="stable")


@composite
def sort(x: TensorLike, axis: int | None = -1) -> Tensor:
    """x in rising order along `axis` (of the flattened x for None)."""
    if axis is None:
        x, axis = x.reshape((-1,)), 0
    axis = check_axis("sort", axis, x.ndim)
    return take_along_axis(x, argsort(x, axis=axis), axis)


def _falling(x, axis):
    """The indices that put x in falling order, equal values keeping theirs; -x would turn unsigned integers around."""
    return x.shape[axis] - 1 - flip(argsort(flip(x, axis=axis), axis=axis), axis=axis)


@composite
def topk(x: TensorLike, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) values along `axis`, best first, and their indices, as (values, indices)."""
    axis, k = check_axis("topk", axis, x.ndim), whole("topk", "k", k)
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"topk: k={k} for axis {axis} of size {x.shape[axis]}; expected 0 to {x.shape[axis]}.")
    order = _falling(x, axis) if largest else argsort(x, axis=axis)
    indices = getitem(order, (slice(None),) * axis + (slice(0, k),))
    return take_along_axis(x, indices, axis), indices
