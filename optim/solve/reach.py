"""Whether a function depends on its unknowns through recorded ops: looked at once, at the first point.

A function that ends in float(), or takes a number out of a Tensor on the way, has a graph that leads nowhere, or only
to some of the unknowns. Its gradient is then zero, or a part of itself, and a solver would say with good conscience
that it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import Tensor, no_grad
from minigrad.autograd.errors import GradientError
from minigrad.autograd.grad_mode import grad_mode
from minigrad.autograd.node import nodes_between
from minigrad.backend import Array, to_device
from minigrad.transforms.trace import Trace

from .problem import Problem

MOST_COMPARED = 50
"""With more unknowns than this derivatives are not compared with differences one by one."""

AGREE, DIFFER = 0.02, 0.1
"""Differences are believed if they agree by this, relatively; a derivative that differs by more from them is wrong."""

MEND = (
    "Leave out float(), .item(), .numpy(), detach() and math.* on the way: mg.exp, mg.log and their kin record what "
    "they do."
)


def traced(problem: Problem, x: Array) -> tuple[Trace, bool]:
    """`fun` recorded at x, and whether its derivative is in doubt: at the first point, where numbers were taken out of
    Tensors on the way, or no path leads from the unknowns to the result (which may still be an honest constant)."""
    before = grad_mode.taken_out
    try:
        given = problem.variables.tensors(x), *problem.args
        trace = Trace(problem.fun, given, {}, (0,), owner=problem.owner, judge_paths=False)
    except TypeError as error:
        if problem.nfev == 1 and _runs_on_arrays(problem, x):
            raise TypeError(
                f"{problem.owner}: the function is written for NumPy's arrays, and was given Tensors ({error}). Write "
                'mg.exp for np.exp, mg.sin for np.sin and so on; or say jac="2-point" for derivatives by differences.'
            ) from error
        raise
    return trace, problem.nfev == 1 and (grad_mode.taken_out > before or not _has_path(trace))


def _has_path(trace: Trace) -> bool:
    """Whether anything of the result was computed from the unknowns by recorded ops."""
    sinks = [y.node for y in trace.outputs if y.node is not None]
    return bool(nodes_between([x.node for x in trace.inputs if x.node is not None], sinks))


def _runs_on_arrays(problem: Problem, x: Array) -> bool:
    """Whether the function takes NumPy's arrays in place of Tensors."""
    try:
        with no_grad(), np.errstate(all="ignore"):
            value = problem.fun(problem.variables.rebuild(problem.variables.leaves(x.copy())), *problem.args)
    except Exception:
        return False
    return not isinstance(value, Tensor)


def compare_derivative(problem: Problem, x: Array, derivative: Array, value: Callable[[Any], Array]) -> None:
    """Raise where a derivative, (n,) or (m, n), lacks a part that differences show.

    Without doubt only: one-sided differences of two lengths must agree, so that kinks and rounding accuse nobody.
    `value` makes a flat array of what the function returns.
    """
    x, derivative = (np.asarray(to_device(array, "cpu")) for array in (x, derivative))
    if x.size > MOST_COMPARED or not np.isfinite(derivative).all():
        return
    xp = problem.variables.xp

    def at(point: Array) -> Array:
        with no_grad(), np.errstate(all="ignore"):
            result = problem.fun(problem.variables.tensors(xp.asarray(point)), *problem.args)
            return np.asarray(to_device(value(result), "cpu"), dtype=float)

    here = at(x)
    for j in range(x.size):
        h = float(np.finfo(x.dtype).eps) ** (1 / 3) * (abs(float(x[j])) or 1.0)
        slopes = []
        for step in (h, -h, 4 * h):
            moved = x.copy()
            moved[j] += step
            slopes.append((at(moved) - here) / float(moved[j] - x[j]))
        size = float(np.linalg.norm(slopes[0]))
        spread = max(float(np.linalg.norm(slope - slopes[0])) for slope in slopes)
        missing = float(np.linalg.norm(slopes[0] - derivative[..., j]))
        if np.isfinite(size) and spread <= AGREE * size and missing > DIFFER * size:
            raise GradientError(
                f"{problem.owner}: the result does not depend on number {j} of x0 through recorded ops, or only in "
                f"part, though it changes with it: its derivative would be lost. {MEND}"
            )
