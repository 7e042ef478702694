"""The options of second-order optimizers of models: taken from a constructor's arguments, and checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..options import check_number

Group = dict[str, Any]
"""A parameter group: the parameters under "params", and the options by name."""

MANY = 1000
"""For more parameters than this no matrix is formed unless asked for: its decomposition would take most of the time."""


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options among the arguments of a constructor."""
    return {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__")}


def check_options(owner: str, group: Group) -> None:
    """Raise for an option whose value does not fit: a number from 0 on, a count from 1 on, a flag that may be None."""
    for name in ("max_iter", "max_eval", "history_size"):
        value, least = group.get(name), 2 if name == "max_eval" else 1  # the first evaluation is that of the start
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
        if name in group and not whole and not (name == "max_eval" and value is None):
            raise ValueError(f"{owner}: {name}={value!r}; expected a whole number, {least} or more.")
    for name in ("lr", "alpha", "tolerance_grad", "tolerance_change", "ftol", "xtol", "gtol"):
        if name in group:
            check_number(owner, name, group[name], 0)
    if "matrix_free" in group:
        check_choice(owner, "matrix_free", group["matrix_free"], (None, True, False))


def check_choice(owner: str, name: str, value: Any, choices: tuple) -> None:
    """Raise unless the value is one of the choices."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{owner}: {name}={value!r}; expected one of {', '.join(map(repr, choices))}.")


def without_matrix(group: Group) -> bool:
    """Whether to work without a matrix: as asked, or by the number of parameters."""
    chosen = group["matrix_free"]
    return sum(p.size for p in group["params"]) > MANY if chosen is None else bool(chosen)
