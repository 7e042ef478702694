"""Python's and NumPy's values into arrays, with our dtypes.

Python floats become float32; arrays keep their dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.backend.device import Array, backend_of, is_array, to_device


class RangeError(OverflowError, ValueError):
    """A number that a dtype cannot hold; NumPy's OverflowError, and a ValueError as other wrong values are."""


DTYPES = tuple(np.dtype(t) for t in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"))
HELD = frozenset("efd?bhilqBHILQ")
"""NumPy's letters for these dtypes, on every platform: looked up sooner than a dtype is compared."""


def check_dtype(dtype: DTypeLike) -> np.dtype:
    """A dtype as NumPy's; TypeError, with the list of supported ones, for any other. `float` means float32."""
    try:
        found = None if dtype is None else np.dtype(np.float32 if dtype is float else dtype)
    except TypeError:
        found = None
    if found is None or found not in DTYPES:  # to NumPy None is float64, and in any list that has it
        raise TypeError(f"dtype {dtype!r} is not supported; expected one of {', '.join(map(str, DTYPES))}.")
    return found


def as_array(data: Any, dtype: DTypeLike | None = None, device: str | None = None) -> Array:
    """An array of `data`: arrays keep their dtype and memory, Python floats become float32, ints int64, bools bool.

    Numbers and lists that an integer `dtype` cannot hold are a RangeError. An array is cast, as by its `astype`.
    """
    dtype = None if dtype is None else check_dtype(dtype)
    if not is_array(data):
        if isinstance(data, (list, tuple)) and any(hasattr(part, "requires_grad") for part in data):
            raise TypeError("a list of Tensors is not data; join them with minigrad.stack or minigrad.concatenate.")
        from_numbers = not hasattr(data, "__array__")
        given = data
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise ValueError(f"cannot make one array of this {type(data).__name__}: {error}") from error
        if from_numbers and dtype is None and data.dtype == np.float64:
            dtype = np.dtype(np.float32)
        if from_numbers and dtype is not None and dtype.kind in "iu" and data.dtype != dtype:
            data = _exact(data, given)
            _check_fits(data, dtype)
            data = data.astype(dtype)
    if data.dtype not in DTYPES:
        if backend_of(data).name != "cpu" or data.dtype.newbyteorder("=") not in DTYPES:
            raise TypeError(f"dtype {data.dtype} is not supported; expected one of {', '.join(map(str, DTYPES))}.")
        dtype = dtype or data.dtype.newbyteorder("=")
    if dtype is not None and data.dtype != dtype:
        data = data.astype(dtype)
    return data if device is None else to_device(data, device)


def check_beside(x: Any, number: Any) -> None:
    """Raise RangeError where a Python number does not fit the integers beside it, whose dtype the result has."""
    if isinstance(number, (int, float)) and is_array(x) and x.dtype.kind in "iu":
        _check_fits(np.asarray(number), x.dtype)


def _exact(made: np.ndarray, given: Any) -> np.ndarray:
    """Python's integers as they are where NumPy made float64 of them: together they fit neither int64 nor uint64."""
    if made.dtype != np.float64 or not (np.absolute(made) >= 2**53).any():
        return made
    numbers = np.asarray(given, dtype=object)
    return numbers if all(isinstance(n, int) for n in numbers.flat) else made


def _check_fits(numbers: np.ndarray, dtype: np.dtype) -> None:
    """Raise RangeError unless an integer dtype holds all the numbers, floats without their fractions."""
    if not numbers.size or not (numbers.dtype.kind in "iuf" or all(isinstance(n, int) for n in numbers.flat)):
        return
    limits = np.iinfo(dtype)
    for n in (numbers.min(), numbers.max()):
        whole = int(n) if -np.inf < n < np.inf else n  # exact, where a float64 would round the limits of int64
        if not limits.min <= whole <= limits.max:
            raise RangeError(
                f"{n} does not fit {dtype}, which holds {limits.min} to {limits.max}; take a wider dtype, "
                "as in x.astype('int64')."
            )


def lowest(dtype: np.dtype) -> Any:
    """The number of a dtype that is larger than no other: minus infinity, False, or the smallest integer."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else int(np.iinfo(dtype).min)
