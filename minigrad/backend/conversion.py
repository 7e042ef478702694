"""Python's and NumPy's values into arrays, with our dtypes.

Python floats become float32; arrays keep their dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minigrad.backend.device import Array, backend_of, is_array, to_device

DTYPES = tuple(np.dtype(t) for t in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"))


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
    """An array of `data`: arrays keep their dtype and memory, Python floats become float32, ints int64, bools bool."""
    dtype = None if dtype is None else check_dtype(dtype)
    if not is_array(data):
        if isinstance(data, (list, tuple)) and any(hasattr(part, "requires_grad") for part in data):
            raise TypeError("a list of Tensors is not data; join them with minigrad.stack or minigrad.concatenate.")
        from_numbers = not hasattr(data, "__array__")
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise ValueError(f"cannot make one array of this {type(data).__name__}: {error}") from error
        if from_numbers and dtype is None and data.dtype == np.float64:
            dtype = np.dtype(np.float32)
    if data.dtype not in DTYPES:
        if backend_of(data).name != "cpu" or data.dtype.newbyteorder("=") not in DTYPES:
            raise TypeError(f"dtype {data.dtype} is not supported; expected one of {', '.join(map(str, DTYPES))}.")
        dtype = dtype or data.dtype.newbyteorder("=")
    if dtype is not None and data.dtype != dtype:
        data = data.astype(dtype)
    return data if device is None else to_device(data, device)


def lowest(dtype: np.dtype) -> Any:
    """The number of a dtype that is larger than no other: minus infinity, False, or the smallest integer."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else int(np.iinfo(dtype).min)
