"""Faults that are found on the device, and kept there until the host reads something anyway.

To raise an error at the call that is wrong, the host would have to wait for the device at every call. Instead a kernel
that meets, say, a label that names no class writes it into a record in device memory, four integers, and lets the
result be NaN. Whenever the host reads an array, and so waits for it, it looks at the record too, and raises the error.

The record holds: the first row at fault (NO_ROW if there is none), a code that says what kind of fault it is (0 for
none), and two numbers for the message. The first fault stays until it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from minigrad.backend.arrays import Array
from minigrad.backend.device import backend_of, device_of, namespace

NO_ROW = 2**63 - 1
FOUND_LATER = (
    "(Found on the GPU, which was not waited for: the call at fault is this one or an earlier one. With device='cpu' "
    "the error comes from the call itself.)"
)

_records: dict[tuple[Any, str], Array] = {}
_codes: dict[tuple[Hashable, ...], int] = {}
_errors: dict[int, Callable[..., Exception]] = {}


def record(like: Array) -> Array:
    """The record (int64) of the device of `like`."""
    key = namespace(like), device_of(like)
    if key not in _records:
        _records[key] = namespace(like).zeros(4, "int64")
        _clear(_records[key])
    return _records[key]


def code(error: Callable[..., Exception], *details: Hashable) -> int:
    """The number that stands in the record for `error(*details, first, second)`, the two numbers being the record's."""
    key = error, *details
    if key not in _codes:
        _codes[key] = len(_codes) + 1
        _errors[_codes[key]] = partial(error, *details)
    return _codes[key]


def note(wrong: Array, number: int, first: Any = 0, second: Any = 0) -> None:
    """Write a fault into the record where `wrong`, a bool without axes, is true: array code, for want of a kernel.

    `number` is the fault's code; `first` and `second` are integers, or integer arrays without axes.
    """
    xp, found = namespace(wrong), record(wrong)
    new = wrong & (found[1] == 0)
    for place, value in ((2, first), (3, second), (1, number)):
        found[place : place + 1] = xp.where(new, value, found[place])


def look(array: Array) -> None:
    """Raise the error of a fault on the device of `array`, if there is one. The host waits for the device."""
    found = _records.get((namespace(array), device_of(array)))
    if found is None:
        return
    numbers = backend_of(found).to_numpy(found)
    if not numbers[1]:
        return
    _clear(found)
    error = _errors[int(numbers[1])](int(numbers[2]), int(numbers[3]))
    error.args = (f"{error} {FOUND_LATER}",)
    raise error


def _clear(found: Array) -> None:
    found[...] = 0
    found[:1] = NO_ROW
