"""The user's function that looks on at a run, in either form that SciPy has, and how it stops the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minigrad.backend import Array

from .result import OptimizeResult
from .variables import Variables


class Callback:
    """`callback(x)`, or `callback(intermediate_result)` where that is the parameter's name; or None for no function."""

    def __init__(self, callback: Callable | None, variables: Variables, owner: str):
        if callback is not None and not callable(callback):
            raise TypeError(f"{owner}: callback must be a function, got {callback!r}.")
        self.callback, self.variables = callback, variables
        self.wants_result = callback is not None and _takes_result(callback)

    def __call__(self, x: Array, **fields: Any) -> bool:
        """Whether it asks to stop, by StopIteration or by returning True; `fields` are those of the result so far."""
        if self.callback is None:
            return False
        given = self.variables.given(x)
        try:
            if self.wants_result:
                return bool(self.callback(intermediate_result=OptimizeResult(x=given, **fields)))
            return bool(self.callback(given))
        except StopIteration:
            return True


def _takes_result(callback: Callable) -> bool:
    """Whether the only parameter is called `intermediate_result`: SciPy's test."""
    try:
        return set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (ValueError, TypeError):  # a built-in function such as list.append has no signature to look at
        return False
