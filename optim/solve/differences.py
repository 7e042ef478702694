"""Derivatives by differences, for functions that minigrad cannot differentiate: plain NumPy, or another library's.

After this file you know what they cost: a value for each unknown ("2-point", half of the digits), two of them
("3-point", two thirds), or one with complex numbers ("cs", all digits, where the function takes complex numbers and is
analytic: Squire and Trapp 1998, SIAM Review 40, 110-112).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from minigrad import Tensor, no_grad
from minigrad.backend import Array, to_device

from .bounds import Box
from .variables import Variables

SCHEMES = {"2-point": 1 / 2, "3-point": 1 / 3, "cs": None}
"""The power of the rounding unit that a step is long, times the size of x_j; SciPy's names."""

IMAGINARY = 1e-20


class Differentiable(Protocol):
    """What is asked of a problem."""

    fun: Any
    args: tuple
    owner: str
    variables: Variables
    box: Box | None

    def array(self, value: Any) -> Array: ...


class Differences:
    """The derivative (m, n) of `fun` by differences; its evaluations are not counted, as in SciPy's least_squares."""

    def __init__(self, scheme: str, owner: str):
        if scheme not in SCHEMES:
            raise ValueError(
                f"{owner}: jac={scheme!r}; expected a function, True, None, or one of {', '.join(SCHEMES)}."
            )
        self.scheme = scheme

    def __call__(self, problem: Differentiable, x: Array) -> Array:
        xp = problem.variables.xp
        columns = self._complex(problem, x) if self.scheme == "cs" else self._real(problem, x)
        return xp.stack(columns, axis=1)

    def _real(self, problem: Differentiable, x: Array) -> list[Array]:
        power = SCHEMES[self.scheme]
        assert power is not None
        here, host = self._value(problem, x), np.asarray(to_device(x, "cpu"))
        lengths = float(np.finfo(x.dtype).eps) ** power * np.where(host != 0, abs(host), 1)
        columns = []
        for j, h in enumerate(lengths.tolist()):
            ahead, behind = self._moved(problem, x, j, h), self._moved(problem, x, j, -h)
            if self.scheme == "2-point":
                to = ahead if ahead is not None else behind
                columns.append(x[:1] * 0 * here if to is None else (self._value(problem, to) - here) / (to[j] - x[j]))
                continue
            ends = [x if end is None else end for end in (behind, ahead)]
            low, high = (self._value(problem, end) for end in ends)
            columns.append((high - low) / (ends[1][j] - ends[0][j]))
        return columns

    def _moved(self, problem: Differentiable, x: Array, j: int, h: float) -> Array | None:
        """x with x_j moved by h, or None where that leaves the bounds."""
        to = x.copy()
        to[j] += h
        box = problem.box
        inside = box is None or bool((box.lower[j] <= to[j]) & (to[j] <= box.upper[j]))
        return to if inside else None

    def _complex(self, problem: Differentiable, x: Array) -> list[Array]:
        if problem.variables.as_tensors:
            raise ValueError(
                f"{problem.owner}: jac='cs' needs complex numbers, which Tensors are not; give x0 as arrays."
            )
        columns = []
        for j in range(x.size):
            to = x.astype(complex)
            to[j] += 1j * IMAGINARY
            columns.append(problem.variables.xp.imag(self._value(problem, to)) / IMAGINARY)
        return columns

    def _value(self, problem: Differentiable, x: Array) -> Array:
        variables = problem.variables
        make: Any = Tensor if variables.as_tensors else lambda array: array
        parts = zip(variables.chunks(x.copy()), variables.shapes, strict=True)
        with no_grad(), np.errstate(all="ignore"):
            value = problem.fun(variables.rebuild([make(part.reshape(shape)) for part, shape in parts]), *problem.args)
        return problem.array(value).reshape(-1)
