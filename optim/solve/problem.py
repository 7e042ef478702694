"""What a function to minimize and residuals to fit have in common: the unknowns, given derivatives, and the counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.backend import Array

from .bounds import Box
from .differences import Differences
from .variables import Variables

Derivative = Callable | bool | str | None
"""How a derivative may be given; see `Problem`."""


class Problem:
    """`fun(x, *args)` as a function of one flat vector, and how often it was computed.

    Parameters
    ----------
    fun : callable
        From Tensors in the form of x0. With `jac` given, it gets arrays where x0 held arrays, so that a plain NumPy
        function will do.
    x0 : array, Tensor, or a tuple, list or dict of them
    args : tuple
        Further arguments of `fun` and of the derivatives.
    jac : callable, True, str or None
        The derivative; True where `fun` returns (value, derivative); a name in `SCHEMES`: by differences; None: the
        engine's.
    owner : str, optional
        Whose name errors carry; `asker` if not given.

    Attributes
    ----------
    nfev, njev, nhev : how many values, derivatives and Hessians (or products with them) were computed
    eps : the rounding unit of the coarsest dtype met, in x or in the value
    """

    returns = "(value, derivative)"
    """What `fun` must return with jac=True, in words."""
    box: Box | None = None
    """The bounds of x, where there are any."""

    asker = "the solver"
    """The public function that poses problems of this kind."""

    def __init__(self, fun: Callable, x0: Any, args: Any = (), jac: Derivative = None, owner: str | None = None):
        self.owner, self.fun = owner or self.asker, fun
        self.jac = Differences(jac, self.owner) if isinstance(jac, str) else jac
        check_functions(self.owner, fun=fun, jac=None if jac is True else self.jac)
        self.args = args if isinstance(args, tuple) else (args,)
        self.variables = Variables(x0, self.owner)
        self.eps = self.variables.eps
        self.nfev = self.njev = self.nhev = 0

    def note_rounding_of(self, dtype: np.dtype) -> None:
        """A value of a coarser dtype than x has its rounding."""
        self.eps = max(self.eps, float(np.finfo(dtype).eps))

    def call_given(self, x: Array) -> tuple[Any, Any]:
        """`fun` as the user means it beside a `jac`: its value, and the derivative if it came along, else None."""
        value = self.fun(self.variables.given(x), *self.args)
        if self.jac is not True:
            return value, None
        if not isinstance(value, tuple) or len(value) != 2:
            raise TypeError(f"{self.owner}: with jac=True the function must return {self.returns}.")
        return value

    def given_derivative(self, x: Array, returned: Any) -> Any:
        """The user's derivative at x: what `fun` returned beside the value, or what `jac` says."""
        self.njev += 1
        if self.jac is True:
            return returned
        if isinstance(self.jac, Differences):
            return self.jac(self, x)
        with np.errstate(all="ignore"):
            return self.jac(self.variables.given(x), *self.args)  # type: ignore[misc,operator]

    def array(self, value: Any) -> Array:
        """The array of a Tensor, or of anything that makes one where x lies."""
        return value.data if isinstance(value, Tensor) else self.variables.xp.asarray(value)


def check_functions(owner: str, **functions: Any) -> None:
    """Raise for an argument that should be a function, or None, and is neither."""
    for name, given in functions.items():
        if not (callable(given) or given is None):
            raise TypeError(f"{owner}: {name} must be a function, got {given!r}.")
