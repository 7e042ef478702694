"""What an option may be: checks that raise with the name of who was called, what was given, and what was expected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import Tensor


def check_number(owner: str, name: str, value: Any, low: float, high: float = math.inf, *, high_excluded: bool = False):
    """Raise unless `value` is a finite number from `low` to `high`; the message says what was given and expected."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {name} must be a number, got {described(value)}.")
    fits = low <= value < high if high_excluded else low <= value <= high
    if not fits or not math.isfinite(value):
        if high == math.inf:
            expected = "a finite number" if low == -math.inf else f"a finite number, {low:g} or more"
        else:
            expected = f"from {low:g} to {high:g}{', without ' + format(high, 'g') if high_excluded else ''}"
        raise ValueError(f"{owner}: {name}={value}; expected {expected}.")


def check_flag(owner: str, name: str, value: Any) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {name} must be True or False, got {described(value)}.")


def check_pair(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is two numbers, each from 0 to below 1."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{owner}: {name} must be a pair of numbers such as (0.9, 0.999), got {value!r}.")
    for i, number in enumerate(value):
        check_number(owner, f"{name}[{i}]", number, 0, 1, high_excluded=True)


def check_choice(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the `choices`."""
    if value not in choices:
        raise ValueError(f"{owner}: {name}={value!r}; expected {' or '.join(map(repr, choices))}.")


def check_curvatures(owner: str, smallest: float, largest: float) -> tuple[float, float]:
    check_number(owner, "smallest", smallest, 0)
    check_number(owner, "largest", largest, smallest)
    if not largest > 0:
        raise ValueError(f"{owner}: largest={largest}; expected a curvature above 0.")
    return smallest, largest


def described(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, (Tensor, np.ndarray, dict, list)) else repr(value)
