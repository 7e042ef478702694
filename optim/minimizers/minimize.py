"""`minimize`: the public function, from what the user asked for to the result of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..solve.bounds import box_of_pairs
from ..solve.callbacks import Callback
from ..solve.objective import Objective, Point
from ..solve.problem import Derivative
from ..solve.result import TOO_MANY_EVALUATIONS, OptimizeResult, fields_of_the_end
from .descent_loop import DescentLimits, descend
from .descent_methods import ALIASES, DESCENT_METHODS, Method
from .method_options import Options, OptionValues

SYNONYMS = {"maxfun": "maxfev", "maxcor": "memory", "disp": "verbose"}
"""SciPy's names of options, and ours."""

MANY = 1000
"""From this many variables on, the method chosen for you keeps no matrix."""


def minimize(
    fun: Callable,
    x0: Any,
    args: tuple = (),
    method: str | Method | None = None,
    jac: Derivative = None,
    hess: Callable | None = None,
    hessp: Callable | None = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable | None = None,
    options: OptionValues | None = None,
) -> OptimizeResult:
    """The x near `x0` at which `fun(x, *args)` is least, locally.

    Parameters
    ----------
    fun : callable
        From x, Tensors in the form of x0, to one number. Its derivatives come from the engine.
    x0 : array, Tensor, number, or a tuple, list or dict of them
        Where to start.
    args : tuple
        Further arguments of `fun`, `jac`, `hess` and `hessp`.
    method : str or Method, optional
        A name in `DESCENT_METHODS` or SciPy's name for it, in letters of any size; or a pair of your own. If not given:
        BFGS; L-BFGS between bounds and for 1000 variables or more.
    jac : callable, True or str, optional
        The gradient, if you have it, in the form of x0; True where `fun` returns (value, gradient); "2-point",
        "3-point" or "cs" (complex step): by differences, whose evaluations are not counted. The functions then get
        arrays where x0 held arrays, and may be plain NumPy.
    hess, hessp : callable, optional
        `hess(x, *args)`, the (n, n) Hessian, and `hessp(x, v, *args)`, its product with a vector, for methods that use
        them.
    bounds : optional
        For "l-bfgs": a pair (lowest, highest) for each number, None for no bound; or an object with `lb` and `ub`; for
        a dict x0 a dict of pairs.
    constraints : ()
        Only for SciPy's order of arguments; there are none here.
    tol : float, optional
        `options["gtol"]` by another name.
    callback : callable, optional
        Called after each iteration, with the x reached; or, where its parameter is called `intermediate_result`, with
        an OptimizeResult of x and fun. It stops the run by raising StopIteration or returning True.
    options : mapping, optional
        gtol : stop where no component of the gradient is larger (default about 1e-9 in float64, 1e-4 in float32)
        maxiter : iterations allowed (default 200 for each variable, at least 2000)
        maxfev : evaluations allowed (default: no limit); the search under way is finished
        verbose (or disp) : print a line for each iteration
        return_all : keep every iterate, in `result.allvecs`
        line_search : "strong wolfe", "armijo", "exact" (for a quadratic along the line), "fixed", or a step rule of
            your own; with "fixed", `step_length`
        memory : steps that L-BFGS, and the preconditioner of conjugate gradients, remember (20)
        beta : "hz", "pr+" or "fr", for conjugate gradients
        damping : for BFGS, mix in a step without curvature rather than leave it out

    Returns
    -------
    OptimizeResult
        x (in the form of x0), fun, jac (the gradient, in that form), nfev, njev, nhev, nit, success, status, message,
        method; hess_inv from the quasi-Newton methods: a matrix for BFGS, an operator for L-BFGS.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit. Troubles of the function on the way, such as NaN, are reported by `success` and
        `message`. An exception that the function raises passes through.
    """
    if constraints is not None and (not isinstance(constraints, (tuple, list)) or len(constraints)):
        raise ValueError(
            "minimize: constraints are not supported; use bounds with method='l-bfgs', other variables that keep to "
            "them, or a penalty in the function."
        )
    if tol is not None and not tol >= 0:
        raise ValueError(f"minimize: tol={tol!r}; expected a number from 0 on.")
    given = {SYNONYMS.get(name, name): value for name, value in (options or {}).items() if value is not None}
    if tol is not None:
        given.setdefault("gtol", tol)
    objective = Objective(fun, x0, args, jac, hess, hessp)
    name, chosen = choose(method, objective, bounds)
    asked = Options(given)
    direction, step_rule = chosen.direction(asked), chosen.step_rule(asked)
    watcher = DescentWatcher(objective, callback, asked.get("verbose", False), asked.get("return_all", False))
    for limit in ("gtol", "maxiter", "maxfev"):
        if limit in given and not given[limit] >= 0:
            raise ValueError(f"minimize: {limit}={given[limit]!r}; expected a number from 0 on.")
    limits = DescentLimits(
        gtol=asked.get("gtol", objective.eps ** (4 / 7)),
        maxiter=asked.get("maxiter", max(2000, 200 * objective.variables.size)),
        max_nfev=asked.get("maxfev", math.inf),
    )
    asked.check(f"minimize: method {name!r}")
    with np.errstate(all="ignore"):  # where the function overflows, a shorter step is taken
        last, iterations, reason = descend(objective, direction, step_rule, limits, watcher)
    if reason is TOO_MANY_EVALUATIONS:  # by the name of the option here
        reason = reason._replace(message="the limit of evaluations was reached; raise maxfev")
    result = OptimizeResult(
        x=objective.variables.given(last.x),
        fun=last.f,
        jac=objective.variables.given(last.g) if last.is_finite else None,
        **fields_of_the_end(objective, iterations, reason),
        method=name,
    )
    if hasattr(direction, "hess_inv"):
        result["hess_inv"] = direction.hess_inv
    if watcher.return_all:
        result["allvecs"] = watcher.iterates
    if watcher.verbose:
        print(f"{name}: {reason.message}; {iterations} iterations, {objective.nfev} evaluations", flush=True)
    return result


def choose(method: str | Method | None, objective: Objective, bounds: Any) -> tuple[str, Method]:
    """The name and the pair that the user means; sets the objective's bounds."""
    if isinstance(method, tuple):
        name, chosen = "your own", Method(*method)
    else:
        if method is None:
            name = "bfgs" if bounds is None and objective.variables.size < MANY else "l-bfgs"
        else:
            name = ALIASES.get(str(method).lower(), str(method).lower())
        if name not in DESCENT_METHODS:
            raise ValueError(f"minimize: no method {method!r}; there are {', '.join(DESCENT_METHODS)}.")
        chosen = DESCENT_METHODS[name]
    if bounds is None:
        return name, chosen
    if name not in ("l-bfgs", "projected l-bfgs"):
        raise ValueError(f"minimize: method {name!r} knows no bounds; use method='l-bfgs', or leave the bounds out.")
    objective.box = box_of_pairs(bounds, objective.variables, "minimize")
    objective.variables.start = objective.box.clip(objective.variables.start)
    return "projected l-bfgs", DESCENT_METHODS["projected l-bfgs"]


class DescentWatcher:
    """What looks on at a run: the printed line, the list of iterates, and the user's callback, which may stop it."""

    def __init__(self, objective: Objective, callback: Callable | None, verbose: bool, return_all: bool):
        self.objective, self.verbose, self.return_all = objective, verbose, return_all
        self.callback = Callback(callback, objective.variables, "minimize")
        self.iterates = [objective.variables.given(objective.variables.start)] if return_all else []
        if verbose:
            print("iteration  evaluations          function   largest slope", flush=True)

    def __call__(self, here: Point, iteration: int) -> bool:
        if self.return_all:
            self.iterates.append(self.objective.variables.given(here.x))
        if self.verbose:
            print(f"{iteration:9d}  {self.objective.nfev:11d}  {here.f:16.9g}  {here.steepness:14.3e}", flush=True)
        return self.callback(here.x, fun=here.f, nit=iteration)
