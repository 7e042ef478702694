"""Making tensors: from data, from a shape, and at random.

After this file you know the dtype rules: Python floats become float32, arrays keep their dtype, and tensors made from a
shape are float32 unless `dtype` is given. And you know that random numbers come from one generator per device (see
`generators`), which `manual_seed` restarts.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.autograd.calls import explained
from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor, array_of, as_tensor
from minigrad.autograd.types import TensorLike
from minigrad.backend import (
    NUMBERS,
    Array,
    BatchedArray,
    RangeError,
    as_array,
    check_dtype,
    device_of,
    kernels,
    namespace,
    to_device,
)
from minigrad.backend.plain.dropout import Place
from minigrad.generators import drawn, next_place

# --- from data ---


def tensor(data: Any, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A new leaf holding a copy of `data`: numbers, nested lists, an array, or another tensor's values.

    Python floats become float32, ints int64, bools bool; arrays keep their dtype unless `dtype` is given.

    Raises
    ------
    TypeError
        For a dtype that is not held (float16/32/64, integers, bool), or `requires_grad` with one that is not a float.
    OverflowError
        For numbers that an integer `dtype` does not hold, NaN among them. Of a float it takes the whole part.
    DeviceError
        For `device="cuda"` without CuPy or a GPU.
    """
    source = data.data if isinstance(data, Tensor) else data
    array = as_array(source, dtype, device)
    if array is source or getattr(array, "base", None) is not None:
        array = array.copy()
    if array.ndim == 0 and isinstance(array, np.ndarray):
        array = array[()]  # a NumPy scalar: arithmetic on it is five times faster than on a 0-d array
    return Tensor(array).requires_grad_(requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: writing to one changes the other.

    A write between a forward and its backward pass would give a wrong gradient, and cannot be seen; only
    `detect_anomaly` finds it. `tensor(array)` copies.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy: expected a numpy.ndarray, got {type(array).__name__}; use minigrad.tensor(...).")
    return Tensor(as_array(array))


# --- from a shape ---


def _made(array: Array, device: str | None, requires_grad: bool) -> Tensor:
    return Tensor(array if device is None else to_device(array, device)).requires_grad_(requires_grad)


def _shape(sizes: tuple | list) -> tuple[int, ...]:
    """`zeros(2, 3)` and `zeros((2, 3))` mean the same."""
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in sizes):
        raise ShapeError(f"a shape is made of integers of at least 0, got {reprlib.repr(sizes)}.")
    return tuple(int(n) for n in sizes)


def _count(what: str, n: int) -> int:
    """A number of things, checked."""
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"{what} is {n!r}; expected an integer of at least 0.")
    return int(n)


def zeros(
    *shape: int | Sequence[int], dtype: DTypeLike = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of a shape, given as numbers or as a tuple."""
    return _made(np.zeros(_shape(shape), check_dtype(dtype)), device, requires_grad)


def ones(
    *shape: int | Sequence[int], dtype: DTypeLike = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones of a shape, given as numbers or as a tuple."""
    return _made(np.ones(_shape(shape), check_dtype(dtype)), device, requires_grad)


def full(
    shape: int | Sequence[int],
    value: float,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """One value in a shape; its dtype follows the value, floats being float32."""
    dtype = as_array(value).dtype if dtype is None else check_dtype(dtype)
    _check_fits("full", [value], dtype)
    return _made(
        np.full(_shape(shape if isinstance(shape, (tuple, list)) else (shape,)), value, dtype), device, requires_grad
    )


def _check_fits(op: str, numbers: Sequence[Any], dtype: np.dtype) -> None:
    """Raise RangeError where an integer dtype does not hold one of these numbers, which NumPy would wrap around."""
    try:
        as_array([n for n in numbers if isinstance(n, (*NUMBERS, np.number))], dtype)
    except RangeError as error:
        raise RangeError(f"{op}: {error}") from None


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from start (0 if left out) up to, not including, stop; integers of integers, else float32."""
    start, stop = (0, start) if stop is None else (start, stop)
    for bound in (start, stop, step):
        _check_number("arange", bound)
    if step == 0 or not all(math.isfinite(n) for n in (start, stop, step)):
        raise ValueError(f"arange: from {start} to {stop} in steps of {step}; expected finite numbers and a step.")
    if dtype is None:
        dtype = np.int64 if all(isinstance(n, (int, np.integer)) for n in (start, stop, step)) else np.float32
    try:
        numbers = np.arange(start, stop, step, dtype=check_dtype(dtype))
        as_array([start, start + step * (len(numbers) - 1)] if len(numbers) else [], dtype)
    except OverflowError:
        raise RangeError(f"arange: from {start} to {stop} in steps of {step} does not fit {np.dtype(dtype)}.") from None
    return _made(numbers, device, requires_grad)


def linspace(
    start: float,
    stop: float,
    num: int = 50,
    dtype: DTypeLike = np.float32,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`num` numbers from start to stop, both included, at equal distances."""
    num = _count("linspace: num", num)
    start, stop = (
        n.item() if isinstance(n, Tensor) and n.size == 1 and not n.requires_grad else n for n in (start, stop)
    )
    for bound in (start, stop):
        _check_number("linspace", bound)
    _check_fits("linspace", (start, stop), check_dtype(dtype))
    return _made(np.linspace(start, stop, num, dtype=check_dtype(dtype)), device, requires_grad)


def _check_number(op: str, value: Any) -> None:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{op}: expected integers or floats, got {value!r}.")


def eye(
    n: int, m: int | None = None, dtype: DTypeLike = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones on the diagonal of an n by m (or n by n) matrix of zeros."""
    n, m = _count("eye: n", n), None if m is None else _count("eye: m", m)
    return _made(np.eye(n, m, dtype=check_dtype(dtype)), device, requires_grad)


def full_like(
    x: Tensor, value: float, dtype: DTypeLike | None = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """One value in the shape of x, and in its dtype and on its device unless others are given."""
    dtype = x.dtype if dtype is None else check_dtype(dtype)
    _check_fits("full_like", [value], dtype)
    given = as_array(value)  # refuses what is no number; a Python number is float32 there, and keeps its digits below
    made: Any = namespace(array_of(x)).full(x.shape, value if isinstance(value, NUMBERS) else given, dtype)
    if isinstance(x, BatchedArray):
        return made  # inside of an op under vmap, where all are arrays
    return _made(made, device, requires_grad)


def zeros_like(
    x: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """Zeros in the shape of x, and in its dtype and on its device unless others are given."""
    return full_like(x, 0, dtype, requires_grad, device)


def ones_like(
    x: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """Ones in the shape of x, and in its dtype and on its device unless others are given."""
    return full_like(x, 1, dtype, requires_grad, device)


def rand_like(
    x: Tensor, requires_grad: bool = False, dtype: DTypeLike | None = None, device: str | None = None
) -> Tensor:
    """Uniform random numbers from [0, 1) in the shape of x, its dtype and on its device unless others are given."""
    return rand(
        *x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device, requires_grad=requires_grad
    )


def randn_like(
    x: Tensor, requires_grad: bool = False, dtype: DTypeLike | None = None, device: str | None = None
) -> Tensor:
    """Normal random numbers in the shape of x, and in its dtype and on its device unless others are given."""
    return randn(
        *x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device, requires_grad=requires_grad
    )


# --- at random ---


def rand(
    *shape: int | Sequence[int], dtype: DTypeLike = np.float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Uniform random numbers from [0, 1)."""
    return _random("random", shape, dtype, device, requires_grad)


def randn(
    *shape: int | Sequence[int], dtype: DTypeLike = np.float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Normal random numbers of mean 0 and standard deviation 1."""
    return _random("standard_normal", shape, dtype, device, requires_grad)


def _random(kind: str, shape, dtype, device, requires_grad) -> Tensor:
    dtype = check_dtype(dtype)
    if dtype.kind != "f":
        raise TypeError(f"random numbers are floats; dtype {dtype} is not. Use randint for integers.")
    size, wide = _shape(shape), np.dtype(np.float32) if dtype == np.float16 else dtype
    array = drawn(device, lambda generator: getattr(generator, kind)(size=size, dtype=wide))
    return _made(namespace(array).asarray(array, dtype=dtype), None, requires_grad)


def randint(
    low: int, high: int, shape: int | Sequence[int], device: str = "cpu", dtype: DTypeLike = np.int64
) -> Tensor:
    """Random integers from low to high - 1, int64 unless another dtype is given.

    Raises TypeError unless both are integers, ValueError if there is none between them or the dtype does not hold them.
    """
    for name, bound in (("low", low), ("high", high)):
        if not isinstance(bound, (int, np.integer)) or isinstance(bound, bool):
            raise TypeError(f"randint: {name} must be an integer, got {bound!r}.")
    if not low < high:
        raise ValueError(f"randint: low={low}, high={high}; expected high above low, since high itself is not drawn.")
    size = _shape(shape if isinstance(shape, (tuple, list)) else (shape,))
    _check_fits("randint", (int(low), int(high) - 1), check_dtype(dtype))
    return Tensor(drawn(device, lambda generator: generator.integers(low, high, size=size))).astype(check_dtype(dtype))


def randperm(n: int) -> Tensor:
    """The integers 0 to n - 1 in random order. Raises TypeError unless n is an integer, ValueError below 0."""
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool):
        raise TypeError(f"randperm: n must be an integer, got {n!r}.")
    if n < 0:
        raise ValueError(f"randperm: n={n}; expected 0 or more.")
    return Tensor(drawn("cpu", lambda generator: generator.permutation(n)))


@explained
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element zero with probability p, the others times 1 / (1 - p), so that the mean stays (inverted dropout).

    Srivastava et al. 2014. Outside of training it returns x unchanged.
    """
    _check_probability("dropout", p)
    if not training or p == 0:
        return as_tensor(x)
    if isinstance(x, Tensor) and x.dtype.kind == "f" and _has_stream(x.data):
        return _dropped(x, p=float(p), place=next_place(x.data))
    return x * dropout_mask(x, p)


@primitive(symbol="dropout", local="0 or 1/(1-p)", kind="linear")
def _dropped(x: TensorLike, *, p: float, place: Place) -> Tensor:
    """x with each element zero with probability p, else divided by 1 - p; which ones follows from the place alone.

    So the mask is not stored: its derivative, of any order and in both modes, is itself at the same place.
    """
    return kernels(x).drop(x, p, place)


_dropped.defvjp(x=lambda g, p, place: _dropped(g, p=p, place=place))


def _has_stream(array: Array) -> bool:
    """Whether dropout of this array takes numbers by their place: on a GPU, unless inside vmap."""
    return type(array) is not BatchedArray and device_of(array) != "cpu"


@explained
def dropout_mask(x: Tensor, p: float) -> Tensor:
    """The random factors of dropout for x: 0 with probability p, else 1 / (1 - p). Inside vmap each example's own.

    Raises ValueError for a p outside of [0, 1], TypeError for what is no number or no Tensor.
    """
    _check_probability("dropout_mask", p)
    if not isinstance(x, Tensor):
        raise TypeError(f"dropout_mask: expected a Tensor, got {type(x).__name__}; make one with minigrad.tensor(...).")
    return Tensor(_factors_like(x.data, p))


def _check_probability(owner: str, p: Any) -> None:
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"{owner}: p must be a number, got {p!r}.")
    if not 0 <= p <= 1:
        raise ValueError(f"{owner}: p={p}; a probability lies between 0 and 1.")


def _factors_like(array: Array, p: float) -> Array:
    """Factors of dropout in the array's shape, for each example of a vmap other ones."""
    if type(array) is BatchedArray:
        inside = array.array
        repeated = namespace(inside).broadcast_to(inside, (array.level.size, *array.shape))
        return BatchedArray(_factors_like(repeated, p), array.level)
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)  # an integer could not hold the factor
    if _has_stream(array):
        like = namespace(array).empty(array.shape, dtype)
        return kernels(like).drop_factors(like, float(p), next_place(array))
    uniform = drawn("cpu", lambda generator: generator.random(size=array.shape, dtype=np.float32))
    return (uniform >= p) * dtype.type(1 / (1 - p) if p < 1 else 0)
