"""Shapes: the same numbers in another arrangement, repeated, padded, joined and split.

After this file you know that all of these are linear, that the vjp of each undoes the arrangement (a sum undoes
a repetition), and that most of them are compositions of a few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from minigrad.autograd.errors import AxisError, ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import Axis, Shape, TensorLike
from minigrad.backend import check_beside, namespace, total

# --- rearranging ---


@primitive(local="1", kind="linear", view=True)
def reshape(x: TensorLike, shape: Shape) -> Tensor:
    """x in another shape of the same size; one entry may be -1, to be worked out."""
    try:
        return x.reshape(shape)
    except ValueError:
        raise ShapeError(f"reshape: {x.size} elements of shape {x.shape} do not fit into shape {shape}.") from None


reshape.defvjp(x=lambda g, x_shape: g.reshape(x_shape))


@primitive(local="1", kind="linear", view=True)
def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in the order `axes`, or reversed for None (NumPy's meaning)."""
    if axes is not None and sorted(a % x.ndim if x.ndim else a for a in axes) != list(range(x.ndim)):
        raise ShapeError(f"transpose: axes {tuple(axes)} for shape {x.shape}; expected each of 0..{x.ndim - 1} once.")
    return x.transpose() if axes is None else x.transpose(axes)


def _transpose_back(g, axes):
    return g.transpose(None if axes is None else tuple(int(i) for i in np.argsort([a % g.ndim for a in axes])))


transpose.defvjp(x=lambda g, axes: g.transpose() if axes is None else _transpose_back(g, axes))


@composite
def permute(x: TensorLike, dims: Sequence[int]) -> Tensor:
    """`transpose` under PyTorch's name: x with its axes in the order `dims`."""
    return transpose(x, axes=tuple(dims))


@composite
def moveaxis(x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """x with the axes `source` moved to the places `destination`; the others keep their order."""
    sources = [check_axis("moveaxis", a, x.ndim) for a in _tuple(source)]
    places = [check_axis("moveaxis", a, x.ndim) for a in _tuple(destination)]
    if len(set(sources)) != len(sources) or len(set(places)) != len(places) or len(sources) != len(places):
        raise ShapeError(
            f"moveaxis: source {source} and destination {destination} must name equally many different axes."
        )
    order = [a for a in range(x.ndim) if a not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(x, axes=tuple(order))


@composite
def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """x with two axes exchanged."""
    order = list(range(x.ndim))
    a, b = check_axis("swapaxes", axis1, x.ndim), check_axis("swapaxes", axis2, x.ndim)
    order[a], order[b] = order[b], order[a]
    return transpose(x, axes=tuple(order))


@composite
def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """x without its axes of size 1, or without those named in `axis`, which must have size 1."""
    if axis is None:
        return reshape(x, shape=tuple(size for size in x.shape if size != 1))
    axes = {check_axis("squeeze", a, x.ndim) for a in _tuple(axis)}
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(f"squeeze: axis {axis} of shape {x.shape} does not have size 1, so it cannot be removed.")
    return reshape(x, shape=tuple(size for i, size in enumerate(x.shape) if i not in axes))


@composite
def expand_dims(x: TensorLike, axis: int | tuple[int, ...]) -> Tensor:
    """x with new axes of size 1 at the places `axis` of the result."""
    ndim = x.ndim + len(_tuple(axis))
    axes = {check_axis("expand_dims", a, ndim) for a in _tuple(axis)}
    if len(axes) != len(_tuple(axis)):
        raise ShapeError(f"expand_dims: axis {axis} names a place twice.")
    sizes = iter(x.shape)
    return reshape(x, shape=tuple(1 if i in axes else next(sizes) for i in range(ndim)))


@composite
def flatten(x: TensorLike, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """x with the axes start_dim to end_dim, both included, joined into one."""
    if x.ndim == 0:
        return reshape(x, shape=(1,))
    first, last = check_axis("flatten", start_dim, x.ndim), check_axis("flatten", end_dim, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim} for shape {x.shape}.")
    joined = math.prod(x.shape[first : last + 1])
    return reshape(x, shape=(*x.shape[:first], joined, *x.shape[last + 1 :]))


@composite
def ravel(x: TensorLike) -> Tensor:
    """x as one line, row by row."""
    return reshape(x, shape=(-1,))


@primitive(local="1", kind="linear", view=True)
def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """x in reverse order along `axis` (an int, a tuple, or None for all)."""
    return namespace(x).flip(x, axis)


flip.defvjp(x=lambda g, axis: flip(g, axis=axis))


@primitive(local="1", kind="linear")
def roll(x: TensorLike, shift: int | tuple[int, ...], axis: Axis = None) -> Tensor:
    """x shifted along `axis`; elements that leave at one end enter at the other. None shifts the flattened x."""
    for step in _tuple(shift):
        whole("roll", "shift", step)
    return namespace(x).roll(x, shift, axis)


roll.defvjp(
    x=lambda g, shift, axis: roll(
        g, shift=tuple(-s for s in shift) if isinstance(shift, (tuple, list)) else -shift, axis=axis
    )
)

# --- repeating ---


@primitive(local="1", kind="linear", view=True)
def broadcast_to(x: TensorLike, shape: Shape) -> Tensor:
    """x repeated to `shape`, by NumPy's broadcasting."""
    try:
        return namespace(x).broadcast_to(x, shape)
    except ValueError:
        raise ShapeError(
            f"broadcast_to: shape {x.shape} does not broadcast to {shape}: sizes must match from the right, or be 1."
        ) from None


broadcast_to.defvjp(x=lambda g: g)  # the engine sums it back, as it does for every op that broadcasts


@composite
def tile(x: TensorLike, reps: int | Sequence[int]) -> Tensor:
    """x laid out side by side `reps` times along each axis."""
    reps = _tuple(reps)
    ndim = max(x.ndim, len(reps))
    reps = (1,) * (ndim - len(reps)) + reps
    sizes = (1,) * (ndim - x.ndim) + x.shape
    paired = [n for pair in zip(reps, sizes, strict=True) for n in pair]
    spaced = [n for size in sizes for n in (1, size)]
    result = tuple(r * n for r, n in zip(reps, sizes, strict=True))
    return reshape(broadcast_to(reshape(x, shape=tuple(spaced)), shape=tuple(paired)), shape=result)


@composite
def repeat(x: TensorLike, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element of x `repeats` times (an int, or one for each) along `axis`; of the flattened x for None."""
    if axis is None:
        x, axis = ravel(x), 0
    axis = check_axis("repeat", axis, x.ndim)
    which = np.repeat(np.arange(x.shape[axis]), repeats)
    return x[(slice(None),) * axis + (which,)]


# --- padding, joining, splitting ---


@primitive(local="1 inside")
def _pad_constant(x: TensorLike, *, widths: tuple[tuple[int, int], ...], value: float = 0) -> Tensor:
    return namespace(x).pad(x, widths, constant_values=value) if widths else namespace(x).copy(x)


_pad_constant.defvjp(x=lambda g, x_shape, widths: g[_inside(widths, x_shape)])
_pad_constant.defjvp(x=lambda t, widths: _pad_constant(t, widths=widths))


def _inside(widths, shape):
    return tuple(slice(before, before + size) for (before, _), size in zip(widths, shape, strict=True))


@composite
def pad(x: TensorLike, pad_width: int | Sequence, mode: str = "constant", constant_values: float = 0) -> Tensor:
    """x with values added at the ends of its axes, as `numpy.pad`; modes constant, edge, reflect, symmetric and wrap.

    `pad_width` is an int, a pair (before, after), or one pair for each axis.
    """
    try:
        pairs = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    except ValueError:
        raise ShapeError(
            f"pad: pad_width {pad_width} for shape {x.shape}; expected an int, a pair, or {x.ndim} pairs."
        ) from None
    if pairs.size and pairs.dtype.kind not in "iu":
        raise TypeError(f"pad: pad_width {pad_width}; expected integers, got {pairs.dtype}.")
    if (pairs < 0).any():
        raise ShapeError(f"pad: pad_width {pad_width} has negative entries; cut with slices, as in x[1:].")
    widths = tuple((int(before), int(after)) for before, after in pairs)
    if mode == "constant":
        check_beside(array_of(x), constant_values)
        return _pad_constant(x, widths=widths, value=constant_values)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            which = np.pad(np.arange(x.shape[axis]), (before, after), mode=mode)  # type: ignore[call-overload]
            x = x[(slice(None),) * axis + (which,)]
    return x  # type: ignore[return-value]


@primitive(local="1")
def _concatenate(*arrays: TensorLike, axis: int) -> Tensor:
    return namespace(*arrays).concatenate(arrays, axis=axis)


def _part(g, arrays_shapes, position, axis):
    axis = axis % g.ndim
    start = sum(shape[axis] for shape in arrays_shapes[:position])
    return g[(slice(None),) * axis + (slice(start, start + arrays_shapes[position][axis]),)]


def _place(t, arrays_shapes, position, axis):
    axis = axis % t.ndim
    before = sum(shape[axis] for shape in arrays_shapes[:position])
    after = sum(shape[axis] for shape in arrays_shapes[position + 1 :])
    return _pad_constant(t, widths=tuple((before, after) if i == axis else (0, 0) for i in range(t.ndim)))


_concatenate.defvjp(arrays=_part)
_concatenate.defjvp(arrays=_place)


@composite
def concatenate(tensors: Sequence[TensorLike], axis: int | None = 0) -> Tensor:
    """Tensors joined along an axis they have; all other sizes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ShapeError("concatenate: an empty list; give at least one tensor.")
    if axis is None:
        tensors, axis = [ravel(x) for x in tensors], 0
    axis = check_axis("concatenate", axis, tensors[0].ndim)
    rests = {x.shape[:axis] + x.shape[axis + 1 :] for x in tensors}
    if len(rests) != 1 or len({x.ndim for x in tensors}) != 1:
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise ShapeError(f"concatenate: shapes {shapes} must agree in all but axis {axis}.")
    return _concatenate(*tensors, axis=axis)


cat = concatenate


@composite
def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    tensors = list(tensors)
    if not tensors or len({x.shape for x in tensors}) != 1:
        shapes = ", ".join(str(x.shape) for x in tensors) or "none"
        raise ShapeError(f"stack: expected tensors of one shape, got {shapes}.")
    return concatenate([expand_dims(x, axis) for x in tensors], axis=axis)


@composite
def split(x: TensorLike, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """x cut along `axis` into a list: so many equal parts, or before each of the given indices (as numpy.split)."""
    axis = check_axis("split", axis, x.ndim)
    size = x.shape[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        parts = int(indices_or_sections)
        if parts <= 0 or size % parts:
            raise ShapeError(f"split: axis {axis} of size {size} does not divide into {parts} equal parts.")
        cuts = [size // parts * i for i in range(parts + 1)]
    else:
        cuts = [0, *indices_or_sections, size]
    before = (slice(None),) * axis
    return [x[(*before, slice(start, stop))] for start, stop in pairwise(cuts)]


# --- triangles and diagonals ---


@primitive(local="1 below", kind="linear")
def tril(x: TensorLike, k: int = 0) -> Tensor:
    """x with zeros above its k-th diagonal, over the last two axes."""
    return namespace(x).tril(x, whole("tril", "k", k))


tril.defvjp(x=lambda g, k: tril(g, k=k))


@primitive(local="1 above", kind="linear")
def triu(x: TensorLike, k: int = 0) -> Tensor:
    """x with zeros below its k-th diagonal, over the last two axes."""
    return namespace(x).triu(x, whole("triu", "k", k))


triu.defvjp(x=lambda g, k: triu(g, k=k))


@composite
def diagonal(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal over two axes, as the last axis of the result (NumPy's meaning)."""
    a, b = check_axis("diagonal", axis1, x.ndim), check_axis("diagonal", axis2, x.ndim)
    offset = whole("diagonal", "offset", offset)
    if a == b:
        raise ShapeError(f"diagonal: axis1 and axis2 are both {axis1}; expected two different axes.")
    moved = transpose(x, axes=(*(i for i in range(x.ndim) if i not in (a, b)), a, b))
    rows, columns = moved.shape[-2:]
    start = max(0, -offset)
    stop = start + max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    i = namespace(array_of(moved)).arange(start, stop)
    return moved[..., i, i + offset]


@composite
def trace(x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of the diagonal over two axes."""
    return total(diagonal(x, offset, axis1, axis2), -1)


# --- axes ---


def check_axis(op: str, axis: int, ndim: int) -> int:
    """An axis from 0 to ndim - 1, negative ones counted from the end; an error that names op and range."""
    axis = whole(op, "axis", axis)
    if not -ndim <= axis < ndim:
        expected = f"expected {-ndim} to {ndim - 1}" if ndim else "a single number has none"
        raise AxisError(f"{op}: axis {axis} for a tensor of {ndim} axes; {expected}.")
    return axis % ndim


def whole(op: str, name: str, value) -> int:
    """An option that is an integer; TypeError for floats, which NumPy would cut off, for bools, and for all else."""
    if not is_whole(value):
        given = f"a {type(value).__name__}" if hasattr(value, "shape") else repr(value)
        hint = "; give the tensors as a list, [x, y]" if isinstance(value, Tensor) else ""
        raise TypeError(f"{op}: {name}={given}; expected an integer{hint}.")
    return int(value)


def is_whole(value) -> bool:
    """Whether a value is an integer; True and False are not meant as one."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _tuple(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
