"""Making tensors: from data, from a shape, and at random.

After this file you know the dtype rules: Python floats become float32, arrays keep their dtype, and tensors made from a
shape are float32 unless `dtype` is given. And you know that random numbers come from one generator per device, which
`manual_seed` restarts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.autograd.calls import explained
from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import Tensor, array_of, as_tensor
from minigrad.backend import Array, BatchedArray, as_array, check_dtype, device_of, namespace, to_device

# --- from data ---


def tensor(data: Any, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False) -> Tensor:
    """A new leaf holding a copy of `data`: numbers, nested lists, an array, or another tensor's values.

    Python floats become float32, ints int64, bools bool; arrays keep their dtype unless `dtype` is given.

    Raises
    ------
    TypeError
        For a dtype that is not held (float16/32/64, integers, bool), or `requires_grad` with one that is not a float.
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
    """A tensor that shares the array's memory: writing to one changes the other."""
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
        raise ShapeError(f"a shape is made of integers of at least 0, got {sizes}.")
    return tuple(int(n) for n in sizes)


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
    return _made(
        np.full(_shape(shape if isinstance(shape, (tuple, list)) else (shape,)), value, dtype), device, requires_grad
    )


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
    if dtype is None:
        dtype = np.int64 if all(isinstance(n, (int, np.integer)) for n in (start, stop, step)) else np.float32
    return _made(np.arange(start, stop, step, dtype=check_dtype(dtype)), device, requires_grad)


def linspace(
    start: float,
    stop: float,
    num: int = 50,
    dtype: DTypeLike = np.float32,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`num` numbers from start to stop, both included, at equal distances."""
    return _made(np.linspace(start, stop, num, dtype=check_dtype(dtype)), device, requires_grad)


def eye(
    n: int, m: int | None = None, dtype: DTypeLike = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones on the diagonal of an n by m (or n by n) matrix of zeros."""
    return _made(np.eye(n, m, dtype=check_dtype(dtype)), device, requires_grad)


def full_like(x: Tensor, value: float, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """One value in the shape, dtype and device of x."""
    dtype = x.dtype if dtype is None else check_dtype(dtype)
    return _made(namespace(array_of(x)).full(x.shape, value, dtype), None, requires_grad)


def zeros_like(x: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape, dtype and device of x."""
    return full_like(x, 0, dtype, requires_grad)


def ones_like(x: Tensor, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape, dtype and device of x."""
    return full_like(x, 1, dtype, requires_grad)


def rand_like(x: Tensor, requires_grad: bool = False) -> Tensor:
    """Uniform random numbers from [0, 1) in the shape, dtype and device of x."""
    return rand(*x.shape, dtype=x.dtype, device=x.device, requires_grad=requires_grad)


def randn_like(x: Tensor, requires_grad: bool = False) -> Tensor:
    """Normal random numbers in the shape, dtype and device of x."""
    return randn(*x.shape, dtype=x.dtype, device=x.device, requires_grad=requires_grad)


# --- at random ---

_generators: dict[str, Any] = {}
_seed: list[int | None] = [None]


def manual_seed(seed: int) -> None:
    """Restart the random numbers of every device: weights, dropout and `rand` repeat from here."""
    _seed[0] = seed
    _generators.clear()


def generator(device: str = "cpu") -> Any:
    """The random generator of a device: `numpy.random.Generator`, or CuPy's on a GPU."""
    if device not in _generators:
        probe = to_device(np.zeros(0), device)
        device = device_of(probe)  # "cuda" and "cuda:0" are one device, and draw from one stream
        if device not in _generators:
            _generators[device] = namespace(probe).random.default_rng(_seed[0])
    return _generators[device]


def remember_generators(devices: Iterable[str]) -> Callable[[], AbstractContextManager]:
    """A function that gives a context, in which random numbers repeat those that will be drawn from here on.

    A generator that cannot be copied, CuPy's, is started anew from a number that it draws, and then once more.
    """
    starts: dict[str, Callable] = {}
    for name in devices:
        current = generator(name)
        device = next(known for known, one in _generators.items() if one is current)
        if isinstance(current, np.random.Generator):
            starts[device] = partial(copy.deepcopy, copy.deepcopy(current))
        else:
            new = namespace(to_device(np.zeros(0), device)).random.default_rng
            starts[device] = partial(new, int(current.integers(0, 2**31)))
            _generators[device] = starts[device]()

    @contextmanager
    def repeated():
        outside = {device: _generators[device] for device in starts if device in _generators}
        _generators.update({device: start() for device, start in starts.items()})
        try:
            yield
        finally:
            _generators.update(outside)

    return repeated


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
    drawn = np.dtype(np.float32) if dtype == np.float16 else dtype
    array = getattr(generator(device), kind)(size=_shape(shape), dtype=drawn)
    return _made(namespace(array).asarray(array, dtype=dtype), None, requires_grad)


def randint(low: int, high: int, shape: int | Sequence[int], device: str = "cpu") -> Tensor:
    """Random int64 from low to high - 1."""
    return Tensor(
        generator(device).integers(low, high, size=_shape(shape if isinstance(shape, (tuple, list)) else (shape,)))
    )


def randperm(n: int) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    return Tensor(generator().permutation(n))


def check_probability(op: str, p: float) -> None:
    """Raise ValueError for a probability outside of [0, 1]."""
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: p={p}; a probability lies between 0 and 1.")


@explained
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element zero with probability p, the others times 1 / (1 - p), so that the mean stays (inverted dropout).

    Srivastava et al. 2014. Outside of training it returns x unchanged.
    """
    check_probability("dropout", p)
    if not training or p == 0:
        return as_tensor(x)
    return x * dropout_mask(x, p)


@explained
def dropout_mask(x: Tensor, p: float) -> Tensor:
    """The random factors of dropout for x: 0 with probability p, else 1 / (1 - p). Inside vmap each example's own."""
    check_probability("dropout_mask", p)
    kept = _drawn_like(x.data) >= p
    return Tensor(kept * x.dtype.type(1 / (1 - p) if p < 1 else 0))


def _drawn_like(array: Array) -> Array:
    """Uniform float32 numbers from [0, 1) in the array's shape, for each example of a vmap other ones."""
    if type(array) is not BatchedArray:
        return generator(device_of(array)).random(size=array.shape, dtype=np.float32)
    inside = array.array
    repeated = namespace(inside).broadcast_to(inside, (array.level.size, *array.shape))
    return BatchedArray(_drawn_like(repeated), array.level)
