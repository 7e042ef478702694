"""The options of optimizers: where they come from, and what each may be.

An option is declared once, in the signature of a constructor, which hands all of them on with `options_of(locals())`.
What it may be is said in `CHECKS`, by its name, or in the `checks` of its class. The checks raise with the name of who
was called, what was given, and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import Tensor

Check = Callable[[str, str, Any], None]
"""`check(owner, name, value)` raises TypeError or ValueError for a value that makes no sense."""


def options_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options among the arguments of an optimizer's constructor, given its `locals()`."""
    return {name: value for name, value in arguments.items() if name not in NOT_OPTIONS}


NOT_OPTIONS = ("self", "params", "nonfinite", "__class__")


# --- checks ---


def check_number(owner: str, name: str, value: Any, low: float, high: float = math.inf, *, high_excluded: bool = False):
    """Raise unless `value` is a finite number from `low` to `high`."""
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
    if not isinstance(value, str) or value not in choices:
        names = [repr(choice) for choice in choices]
        expected = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
        raise ValueError(f"{owner}: {name}={value!r}; expected {expected}.")


def check_curvatures(owner: str, smallest: float, largest: float) -> None:
    """Raise unless 0 <= smallest <= largest, and largest is above 0."""
    check_number(owner, "smallest", smallest, 0)
    check_number(owner, "largest", largest, smallest)
    if not largest > 0:
        raise ValueError(f"{owner}: largest={largest}; expected a curvature above 0.")


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """The check for a finite number from `low` to `high`."""
    return lambda owner, name, value: check_number(owner, name, value, low, high)


CHECKS: dict[str, Check] = {
    **dict.fromkeys(("lr", "momentum", "weight_decay", "eps"), number(0)),
    **dict.fromkeys(("maximize", "decoupled_weight_decay"), check_flag),
    **dict.fromkeys(("nesterov", "lr_in_velocity", "eps_inside_sqrt"), check_flag),
    "betas": check_pair,
}
"""What the options may be that several optimizers have."""


def described(value: Any) -> str:
    """A value in an error message: what it is, or itself if it is short."""
    return f"a {type(value).__name__}" if isinstance(value, (Tensor, np.ndarray, dict, list)) else repr(value)
