"""An array for each example, written as if there were one example: what a Tensor holds inside `vmap`.

After this file you know how `vmap` works: a function is run once, on arrays that hide a leading axis, the examples.
Shape, axes and indices are those of one example; every operation shifts them by one and works on all examples at once.
A value shared by all examples stays an ordinary array, or hides an axis of size 1, and broadcasts. Inside a second
`vmap` the hidden array is itself a BatchedArray; the newest level lies outermost.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from minigrad.backend.sums import total


class Level:
    """One `vmap`: how many examples, when it began on the clock of creation numbers, and whether it still runs."""

    __slots__ = ("open", "order", "size")

    def __init__(self, size: int, order: int):
        self.size, self.order, self.open = size, order, False


class _NumPysUfuncs:
    """How NumPy's ufuncs reach batched arrays. NumPy asks the type; CuPy asks the array, and None tells it to leave
    `cupy_array * batched` to the batched array's own `__rmul__` (NEP 13)."""

    def __get__(self, x, owner):
        return self.apply if x is None or isinstance(bare(x), np.ndarray) else None

    @staticmethod
    def apply(x, ufunc, method, *inputs, out=None, **options):
        # array += batched asks for out=array; Python then binds the name to what is returned
        if method != "__call__":
            raise NotImplementedError(f"vmap: numpy.{ufunc.__name__}.{method} has no form for many examples.")
        if ufunc is np.matmul:
            return kernels.matmul(*inputs)
        return elementwise(ufunc, *inputs, **options)


class BatchedShape(tuple):
    """The shape of one example: a tuple that also remembers the levels whose examples differ."""

    levels: tuple[Level, ...] = ()

    @classmethod
    def of(cls, x: BatchedArray) -> BatchedShape:
        inside = x.array.shape
        shape = cls(inside[1:])
        shape.levels = (x.level, *getattr(inside, "levels", ()))
        return shape


class BatchedArray:
    """Arrays of one shape, one for each example of a `vmap`.

    array : the examples along axis 0, which may have size 1 where all are the same
    level : whose examples they are
    """

    __slots__ = ("array", "level")

    def __init__(self, array: Any, level: Level):
        self.array, self.level = array, level

    # --- what one example is ---

    shape = property(BatchedShape.of)
    ndim = property(lambda self: self.array.ndim - 1)
    size = property(lambda self: math.prod(self.shape))
    dtype = property(lambda self: self.array.dtype)
    base = property(lambda self: self.array)  # may share memory, as a view does
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.level.size} examples of {self.shape} {self.dtype}>"

    def _one_value(self, *_: Any) -> Any:
        if not self.level.open:
            raise TypeError(
                f"this value was kept from inside a vmap that has ended, and stands for its {self.level.size} "
                "examples; let the function given to vmap return it instead."
            )
        raise TypeError(
            f"inside vmap this value stands for {self.level.size} examples at once, so it cannot become one Python "
            "number, truth value or NumPy array; choose between values with minigrad.where, or look at it outside."
        )

    __bool__ = __int__ = __float__ = __index__ = item = tolist = _one_value

    def __array__(self, dtype=None, copy=None):
        self._one_value()

    # --- shapes ---

    def reshape(self, *shape) -> BatchedArray:
        shape = _spread(shape)
        if -1 in shape:
            known = math.prod(n for n in shape if n != -1)
            if not known or self.size % known:
                raise ValueError(f"cannot reshape an array of shape {self.shape} into {shape}")
            shape = tuple(self.size // known if n == -1 else n for n in shape)
        return self._like(self.array.reshape(self.array.shape[:1] + shape))

    def transpose(self, *axes) -> BatchedArray:
        axes = _spread(axes) if axes and axes[0] is not None else tuple(range(self.ndim))[::-1]
        return self._like(self.array.transpose((0, *(1 + a % self.ndim for a in axes))))

    def swapaxes(self, first: int, second: int) -> BatchedArray:
        return self._like(self.array.swapaxes(1 + first % self.ndim, 1 + second % self.ndim))

    def astype(self, dtype, copy: bool = True) -> BatchedArray:
        return self._like(self.array.astype(dtype, copy=copy))

    def copy(self) -> BatchedArray:
        return self._like(self.array.copy())

    def __getitem__(self, index) -> BatchedArray:
        return indexing.read(self, index if isinstance(index, tuple) else (index,))

    def _like(self, array: Any) -> BatchedArray:
        return BatchedArray(array, self.level)

    def __matmul__(self, other) -> BatchedArray:
        return kernels.matmul(self, other)

    def __rmatmul__(self, other) -> BatchedArray:
        return kernels.matmul(other, self)

    # --- reductions ---

    def argmax(self, axis=None, keepdims=False) -> BatchedArray:
        return _place_of("argmax", self, axis, keepdims)

    def argmin(self, axis=None, keepdims=False) -> BatchedArray:
        return _place_of("argmin", self, axis, keepdims)

    # --- NumPy's functions on these arrays (NEP 13 and 18) ---

    __array_ufunc__ = _NumPysUfuncs()

    def __array_function__(self, function, types, args, options):
        xp = numpy_functions.BatchedNamespace(np)
        home = xp.linalg if function.__module__ == "numpy.linalg" else xp
        return getattr(home, function.__name__)(*args, **options)


def _reduction(name: str):
    def plain(x, axis, keepdims):
        return getattr(x, name)(axis=axis, keepdims=keepdims)

    along = total if name == "sum" else plain

    def reduce(self, axis=None, keepdims=False):
        axes = shifted(axis, self.ndim)
        if not axes:  # of a single number each
            return self._like(along(self.array[..., None], -1, False))
        return self._like(along(self.array, axes, keepdims))

    return reduce


def _operator(function, reflected: bool):
    if reflected:
        return lambda self, other: elementwise(function, other, self)
    return lambda self, *other: elementwise(function, self, *other)


for _name in "sum mean prod max min any all".split():
    setattr(BatchedArray, _name, _reduction(_name))
for _name in "add sub mul truediv floordiv mod pow and_ or_ xor lt le gt ge eq ne neg pos abs invert".split():
    _function, _plain = getattr(operator, _name), _name.strip("_")
    setattr(BatchedArray, f"__{_plain}__", _operator(_function, False))
    if _plain in "add sub mul truediv floordiv mod pow and or xor".split():
        setattr(BatchedArray, f"__r{_plain}__", _operator(_function, True))


# --- levels ---


def newest_level(*values: object) -> Any:
    """The Level that began last among those of the values; None where none is batched."""
    newest: Level | None = None
    for value in values:
        if value.__class__ is BatchedArray and (newest is None or value.level.order > newest.order):
            newest = value.level
    return newest


def is_at(value: object, level: Level) -> bool:
    return value.__class__ is BatchedArray and value.level is level


def physical(value: Any, level: Level, ndim: int | None = None) -> Any:
    """The array behind a value, with axes of size 1 put behind the examples so that one example has `ndim` axes."""
    if not is_at(value, level):
        return value
    array = value.array
    if ndim is None or ndim == value.ndim:
        return array
    return array.reshape(array.shape[:1] + (1,) * (ndim - value.ndim) + array.shape[1:])


def elementwise(function, *values: Any, **options: Any) -> BatchedArray:
    """A function that works element by element and broadcasts, on all examples at once."""
    level = newest_level(*values)
    ndim = max(getattr(value, "ndim", 0) for value in values)
    return BatchedArray(function(*(physical(value, level, ndim) for value in values), **options), level)


def enter(x: Any, axis: int, level: Level) -> BatchedArray:
    """x with its `axis` hidden: the examples of `level` stand along it."""
    if x.__class__ is BatchedArray and x.level.order > level.order:  # a newer level stays outermost
        return BatchedArray(enter(x.array, 1 + axis % x.ndim, level), x.level)
    return BatchedArray(x if axis == 0 else numpy_functions.move(x, axis, 0), level)


def leave(x: Any, axis: int, level: Level) -> Any:
    """x with the examples of `level` in the open, along a new axis `axis`; repeated where all are the same."""
    if x.__class__ is BatchedArray and x.level is not level and x.level.order > level.order:
        return BatchedArray(leave(x.array, 1 + axis % (x.ndim + 1), level), x.level)
    array = x.array if is_at(x, level) else x[None]
    if array.shape[0] != level.size:
        array = namespace(array).broadcast_to(array, (level.size, *array.shape[1:]))
    return array if axis == 0 else numpy_functions.move(array, 0, axis)


def sum_examples(x: Any, level: Level) -> Any:
    """The sum of all examples of `level`: what a value gets back that was shared by them."""
    if x.__class__ is not BatchedArray:
        return x * level.size
    if x.level is not level:
        return BatchedArray(sum_examples(x.array, level), x.level)
    return total(x.array, 0) if x.array.shape[0] == level.size else x.array[0] * level.size


def give_to_all(x: Any, level: Level) -> BatchedArray:
    """x as the same for all examples of `level`: the hidden axis has size 1."""
    if x.__class__ is BatchedArray and x.level.order > level.order:
        return BatchedArray(give_to_all(x.array, level), x.level)
    return BatchedArray(x[None], level)


def bare(x: Any) -> Any:
    """The ordinary array under all levels: all examples of x at once, for checks that concern every one of them."""
    while x.__class__ is BatchedArray:
        x = x.array
    return x


# --- axes ---


def shifted(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` (None, an int, a tuple) of one example, as axes behind that of the examples."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(1 + a % ndim if ndim else 1 for a in axes) if ndim else ()


def _place_of(name: str, x: BatchedArray, axis: Any, keepdims: bool) -> BatchedArray:
    if axis is None or x.ndim == 0:
        flat = x.array.reshape((x.array.shape[0], x.size))
        place = getattr(flat, name)(axis=1)
        return BatchedArray(place.reshape(place.shape + (1,) * (x.ndim if keepdims else 0)), x.level)
    return BatchedArray(getattr(x.array, name)(axis=1 + axis % x.ndim, keepdims=keepdims), x.level)


def _spread(values: tuple) -> tuple:
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


from minigrad.backend.batched import indexing, kernels, numpy_functions  # noqa: E402  (they work on BatchedArray)
from minigrad.backend.device import namespace  # noqa: E402
