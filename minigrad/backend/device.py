"""Which array library holds the data, and how data gets from one device to another.

After this file you know the one rule of the backends: *the array decides*. There is no global switch; an op asks
`namespace(x)` for NumPy or CuPy by the type of `x`, and `kernels(x)` for the functions that each library needs its own
version of. Data crosses between devices only where a caller wrote `to_device` or `to_numpy`, never inside an op.

This file holds the table of libraries; `libraries.py` and `batched/` enter NumPy, CuPy and the arrays of `vmap` in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from minigrad.backend.arrays import Array, Operand

NUMBERS = (bool, int, float)  # Python numbers: weak in promotion, and usable on every device
PLAIN: set[type] = {*NUMBERS, type(None)}  # the types of operands that need no conversion; `register` adds arrays


class DeviceError(RuntimeError):
    """A device that this machine does not have, or arrays of two devices in one op."""


class OutOfMemoryError(MemoryError):
    """The GPU has no memory left for an array: `minigrad.cuda.OutOfMemoryError`.

    Unused memory of the pool was given back to the device, and the array asked for once more, before it was raised.
    """


@dataclass(frozen=True)
class Backend:
    """One array library: its array type, its functions, its kernels, and the way in and out.

    `to_device(array, device)` takes a NumPy array or one of the library itself; `device_of(array)` names the array's
    device. `after_reading(array)`, if there is one, is called when the host has read from the array's device: it raises
    what was found wrong there in the meantime. A library that wraps the arrays of another one has `inside(array)`, the
    wrapped array; its `namespace` is a function of the other library's namespace. In a mixed call its arrays decide.
    """

    name: str
    array_type: type
    namespace: Any
    kernels: Callable[[], ModuleType]
    to_device: Callable[[Any, str], Any]  # Any: arrays of `array_type`, and arrays of NumPy on the way in
    to_numpy: Callable[[Any], np.ndarray]
    device_of: Callable[[Any], str]
    inside: Callable[[Any], Array] | None = None
    after_reading: Callable[[Array], None] | None = None


_BY_TYPE: dict[type, Backend] = {}
_NAMESPACE_BY_TYPE: dict[type, Any] = {}
_OVER_OTHERS: dict[type, Backend] = {}  # those with `inside`
_BY_MODULE: dict[str, Callable[[], Backend]] = {}  # libraries that are imported on first use, by their module's name
_BY_DEVICE: dict[str, Callable[[], Backend]] = {}  # the same, by their kind of device


def register(backend: Backend, *array_types: type) -> None:
    """Make arrays of `backend.array_type` (and of further `array_types`) find this backend."""
    for array_type in (backend.array_type, *array_types):
        _BY_TYPE[array_type] = backend
        PLAIN.add(array_type)
        if backend.inside is None:
            _NAMESPACE_BY_TYPE[array_type] = backend.namespace
        else:
            _OVER_OTHERS[array_type] = backend


def register_on_demand(find: Callable[[], Backend], *, module: str, device: str) -> None:
    """Enter a library that is imported on first use: `find` gives its backend, or raises DeviceError."""
    _BY_MODULE[module] = _BY_DEVICE[device] = find


def namespace(*arrays: Operand | None) -> Any:
    """The module (NumPy, CuPy) whose functions take these arrays; NumPy where all are Python numbers."""
    found = _NAMESPACE_BY_TYPE.get(type(arrays[0]))
    if found is not None and len(arrays) == 1:
        return found
    backend = backend_of(*arrays)
    if backend.inside is None:
        return backend.namespace
    inner = (backend.inside(array) if type(array) in _OVER_OTHERS else array for array in arrays)
    return backend.namespace(namespace(*inner))


def kernels(*arrays: Operand | None) -> ModuleType:
    """The kernels (convolution, pooling, batch-norm...) for arrays of this type; same names on every backend."""
    return backend_of(*arrays).kernels()


def backend_of(*arrays: Operand | None) -> Backend:
    """The backend of the first argument that is an array. Raises TypeError for a value of an unknown type."""
    if len(arrays) == 1 and type(arrays[0]) in _BY_TYPE:
        return _BY_TYPE[type(arrays[0])]
    for array in arrays:
        if type(array) in _OVER_OTHERS:
            return _OVER_OTHERS[type(array)]
    for array in arrays:
        if array is None or isinstance(array, NUMBERS):
            continue
        for base in type(array).__mro__:
            if base in _BY_TYPE:
                return _BY_TYPE[base]
        if find := _BY_MODULE.get(_top_module(array)):
            return find()
        raise TypeError(
            f"expected a Tensor, an array or a number, got {type(array).__name__}; "
            "make a Tensor of it with minigrad.tensor(...)"
        )
    return _BY_TYPE[np.ndarray]


def is_array(value: object) -> TypeGuard[Array]:
    """Whether some backend holds this value (NumPy scalars count; Python numbers and lists do not)."""
    return type(value) in _BY_TYPE or (_top_module(value) in _BY_MODULE and hasattr(value, "dtype"))


def _top_module(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def device_of(array: Array) -> str:
    """'cpu' or 'cuda:0' and so on."""
    return backend_of(array).device_of(array)


def to_device(array: Array, device: str) -> Array:
    """`array` on `device` ('cpu', 'cuda', 'cuda:1'); the same array if it is there already."""
    kind = device_kind(device)
    if type(array) in _OVER_OTHERS:
        return _OVER_OTHERS[type(array)].to_device(array, device)
    if kind == "cpu":
        backend = backend_of(array)
        host = backend.to_numpy(array)
        if backend.after_reading is not None:
            backend.after_reading(array)
        return host
    return _BY_DEVICE[kind]().to_device(array, device)


def item(array: Array) -> float | int | bool:
    """The only value of an array, as a Python number."""
    number: float | int | bool = array.item()
    after_reading = backend_of(array).after_reading
    if after_reading is not None:
        after_reading(array)
    return number


def device_kind(device: str) -> str:
    """'cpu' or 'cuda', of a device's name; a clear error for any other."""
    kind, _, index = device.partition(":") if isinstance(device, str) else (type(device).__name__, "", "")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        given = repr(device) if isinstance(device, str) else f"of type {kind}"
        raise DeviceError(f"no device {given}: expected 'cpu', 'cuda' or 'cuda:<number>'.")
    return kind


def cuda_is_available() -> bool:
    """Whether `device="cuda"` would work here: CuPy is installed and finds a GPU."""
    try:
        _BY_DEVICE["cuda"]()
    except DeviceError:
        return False
    return True
