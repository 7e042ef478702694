"""`least_squares`: the public function, from what the user asked for to the result of a fit.

A call becomes the residuals, perhaps weighted by a robust loss, a model of them at each point, a rule of how far to
trust it, and limits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..solve.bounds import Box, box_between
from ..solve.callbacks import Callback
from ..solve.problem import Derivative
from ..solve.residuals import ResidualPoint, ResidualProblem, Residuals
from ..solve.result import OptimizeResult, Reason, fields_of_the_end
from ..solve.variables import Variables
from .bounded_model import BoxedModel
from .covariance import covariance
from .fit_loop import FitLimits, fit_residuals
from .fit_methods import ALIASES, FIT_METHODS, FitMethod
from .linear_model import LinearModel
from .local_model import Models
from .other_starts import Ended, believed, is_doubtful, lower_end
from .robust_loss import LOSSES, RobustResiduals
from .scaling import Scaling, UserScale, WeightedColumns

UNBOUNDED = (-float("inf"), float("inf"))


def least_squares(
    fun: Callable,
    x0: Any,
    jac: Derivative = None,
    bounds: Any = UNBOUNDED,
    method: str | None = "lm",
    ftol: float | None = 1e-12,
    xtol: float | None = 1e-10,
    gtol: float | None = 1e-10,
    x_scale: Any = None,
    loss: str | Callable = "linear",
    f_scale: float = 1.0,
    *,
    max_nfev: int | None = None,
    args: tuple = (),
    kwargs: dict[str, Any] | None = None,
    callback: Callable | None = None,
    verbose: int = 0,
) -> OptimizeResult:
    """The x near `x0` at which half the sum of squares of `fun(x, *args)` is least, locally.

    Parameters
    ----------
    fun : callable
        From x, Tensors in the form of x0, to the residuals: a Tensor of any shape, or a tuple, list or dict of them.
        The Jacobian comes from the engine.
    x0 : array, Tensor, number, or a tuple, list or dict of them
        Where to start.
    jac : callable, True or str, optional
        The Jacobian (m, n), if you have it; True where `fun` returns (residuals, jacobian); "2-point", "3-point" or
        "cs" (complex step): by differences, whose evaluations are not counted. The functions then get arrays where x0
        held arrays, and may be plain NumPy.
    bounds : (lower, upper), optional
        Each a number or in the form of x0; or an object with `lb` and `ub`.
    method : str
        "lm" : Levenberg-Marquardt as Moré's trust region (1978), which every default here is chosen for
        "levenberg" : damping by lambda |p|^2 (1944)
        "marquardt" : damping by lambda |D p|^2, D^2 = diag(J'J) (1963)
        "gauss-newton" : no damping, a line search
        "matrix-free" : damping by lambda |p|^2, steps by LSMR; memory linear in the number of parameters
        Bounds go with the first three. SciPy's names "trf" and "dogbox" are taken for "lm", which has bounds here.
    ftol : float or None
        Stop when a step brings, and is expected to bring, a relative fall of the cost below this. None: no such test.
    xtol : float or None
        Stop when steps are shorter than this, relative to x (lengths measured as the method measures them).
    gtol : float or None
        Stop when the cosine of the angle between the residuals and each column of J is smaller. All three are MINPACK's
        tests; none is taken below four times the rounding unit.
    x_scale : number, array in the form of x0, or "jac", optional
        The size that a change of each variable has. "jac", which "lm" does by itself: from the columns of J.
    loss : str or callable
        "linear", "soft_l1", "huber", "cauchy" or "arctan"; or a function of z = (r / f_scale)^2 (m,) that gives rho(z),
        rho'(z) and rho''(z) as the rows of (3, m).
    f_scale : float
        Residuals that are larger count as outliers for a robust loss.
    max_nfev : int, optional
        Evaluations allowed; by default 200 (n + 1) for a run, and twice as many in all where others follow it.
    args, kwargs : tuple, dict
        Further arguments of `fun` and `jac`.
    callback : callable, optional
        Called after each step, with the x reached; or, where its parameter is called `intermediate_result`, with an
        OptimizeResult of x, fun, cost and nit. It stops the fit by raising StopIteration or returning True.
    verbose : int
        1: print how the fit ended; 2: also a line for each step.

    Returns
    -------
    OptimizeResult
        x : the solution, in the form of x0
        cost, fun : half the sum of squares (or the robust cost), and the residuals (m,)
        jac : the Jacobian there (m, n), its rows weighted where the loss is robust; None for "matrix-free"
        grad, optimality : the gradient (n,), and the largest of its components that bounds leave free
        active_mask : (n,) -1, 0 or 1: at the lower bound, free, at the upper one
        cov : (n, n) covariance, s^2 (J'J)^-1 with s^2 = 2 cost / (m - n); infinite where J lacks rank or m <= n
        nfev, njev, nit : evaluations of residuals and of Jacobians, and steps
        success, status, message : whether x is a solution, a number, and the reason in words

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit. Troubles of the function on the way, such as NaN, are reported by
        `success` and `message`.
    """
    asked = "lm" if method is None else str(method).lower()
    method = ALIASES.get(asked, asked)
    chosen = _chosen(method)
    plain = Residuals(_with(fun, kwargs), x0, args, _with(jac, kwargs))
    problem: ResidualProblem = plain if _is_linear(loss, f_scale) else RobustResiduals(plain, loss, f_scale)
    box = box_between(bounds, plain.variables, "least_squares")
    plain.box = box
    models = _models(chosen, method, x_scale, box, plain.variables)
    watcher = FitWatcher(problem, callback, verbose)
    limits = _limits(plain, ftol, xtol, gtol, max_nfev)
    with np.errstate(all="ignore"):  # NaN and infinity are looked for, and reported in words
        end = _fitted(problem, chosen, models, limits, watcher, box)
        result = _result(end.here, end.nit, end.reason, box, with_matrix=chosen.scaling is not None)
    if asked in ("trf", "dogbox"):
        result["message"] += f" ({asked!r} was taken for 'lm')"
    if verbose:
        print(
            f"{method}: {result.message}; {result.nit} steps, {result.nfev} evaluations, cost {result.cost:.6g}",
            flush=True,
        )
    return result


def _fitted(
    problem: ResidualProblem,
    chosen: FitMethod,
    models: Callable[[], Models],
    limits: FitLimits,
    watch: FitWatcher,
    box: Box,
) -> Ended:
    """The end of the fit; of the best one, where the first ended in a place that is no answer."""

    def begin(start: ResidualPoint | None, below: float, nit: int, max_nfev: float) -> Ended:
        def seen(here: ResidualPoint, nit: int) -> bool:
            return here.cost < below and watch(here, nit)

        within = limits._replace(max_nfev=max_nfev)
        return Ended(*fit_residuals(problem, models(), chosen.trust(), within, seen, start, nit))

    end = begin(None, float("inf"), 0, limits.max_nfev)
    if chosen.scaling is None:
        return end
    if chosen.tries_other_starts and is_doubtful(end):
        end = lower_end(end, begin, models, problem, box, limits.in_all)
    return believed(end, box)


# --- what was asked for ---


def _with(function: Any, kwargs: dict[str, Any] | None) -> Any:
    """The function with these arguments given; what is no function as it is."""
    return partial(function, **kwargs) if kwargs and callable(function) else function


def _chosen(method: str) -> FitMethod:
    if method not in FIT_METHODS:
        raise ValueError(f"least_squares: no method {method!r}; there are {', '.join(FIT_METHODS)}.")
    return FIT_METHODS[method]


def _is_linear(loss: str | Callable, f_scale: float) -> bool:
    if (isinstance(loss, str) and loss not in LOSSES) or not (isinstance(loss, str) or callable(loss)):
        raise ValueError(f"least_squares: loss={loss!r}; expected one of {', '.join(LOSSES)}, or a function.")
    if not f_scale > 0:
        raise ValueError(f"least_squares: f_scale={f_scale!r}; expected a positive number, the size of an outlier.")
    return loss == "linear"


def _models(chosen: FitMethod, name: str, x_scale: Any, box: Box, variables: Variables) -> Callable[[], Models]:
    """What makes the linear model at a point, made anew for each run."""
    if not box.is_everything and not chosen.takes_bounds:
        raise ValueError(f"least_squares: method {name!r} knows no bounds; use method='lm', or leave the bounds out.")
    if chosen.scaling is None and x_scale is not None:
        raise ValueError(f"least_squares: method {name!r} takes no x_scale; scale the variables inside of fun.")
    scaling = None if x_scale is None else _scaling(x_scale, variables)
    model = LinearModel if box.is_everything else partial(BoxedModel, box)
    return lambda: chosen.models(scaling and scaling(), model)


def _scaling(x_scale: Any, variables: Variables) -> Callable[[], Scaling]:
    if isinstance(x_scale, str):
        if x_scale != "jac":
            raise ValueError(f"least_squares: x_scale={x_scale!r}; expected numbers, or 'jac'.")
        return WeightedColumns
    scale = variables.spread(x_scale, "least_squares: x_scale")
    if not bool(((scale > 0) & (scale < float("inf"))).all()):
        raise ValueError("least_squares: x_scale must hold positive numbers, the size that a change of each has.")
    return partial(UserScale, scale)


def _limits(
    problem: Residuals, ftol: float | None, xtol: float | None, gtol: float | None, max_nfev: int | None
) -> FitLimits:
    least = 4 * problem.variables.eps
    for name, tolerance in (("ftol", ftol), ("xtol", xtol), ("gtol", gtol)):
        if tolerance is not None and not tolerance >= 0:
            raise ValueError(
                f"least_squares: {name}={tolerance!r}; expected a number from 0 on, or None for no such test."
            )
    usual = 200 * (problem.variables.size + 1)
    if max_nfev is not None and not max_nfev > 0:
        raise ValueError(f"least_squares: max_nfev={max_nfev!r}; expected a positive number of evaluations.")
    ftol, xtol, gtol = (-1.0 if t is None else max(float(t), least) for t in (ftol, xtol, gtol))
    return FitLimits(ftol, xtol, gtol, usual if max_nfev is None else max_nfev, max_nfev or 2 * usual)


# --- what comes back ---


def _result(last: ResidualPoint, nit: int, reason: Reason, box: Box, with_matrix: bool) -> OptimizeResult:
    problem = last.problem
    m, n = last.unweighted.size, last.x.size
    jac, grad, cov, message = None, None, None, reason.message
    if last.is_finite:
        jac = last.J if with_matrix else None
        grad = last.g
    if jac is not None:
        cov, rank = covariance(jac)
        if rank == n:
            cov = cov * (2 * last.cost / (m - n)) if m > n else problem.variables.xp.full_like(cov, float("inf"))
        if rank < n and reason.success:
            message += f"; the Jacobian has rank {rank} of {n} there, so x is one of many that fit as well"
    optimality = float("nan") if grad is None else float(abs(box.projected(last.x, grad)).max())
    return OptimizeResult(
        x=problem.variables.given(last.x),
        cost=last.cost,
        fun=last.unweighted,
        jac=jac,
        grad=grad,
        optimality=optimality,
        active_mask=box.active(last.x),
        cov=cov,
        **fields_of_the_end(problem, nit, reason._replace(message=message), counts=("nfev", "njev")),
    )


class FitWatcher:
    """What looks on at a fit: the printed line, and the user's callback, which may stop it."""

    def __init__(self, problem: ResidualProblem, callback: Callable | None, verbose: int):
        self.problem, self.lines = problem, verbose >= 2
        self.callback = Callback(callback, problem.variables, "least_squares")
        if self.lines:
            print("step  evaluations              cost", flush=True)

    def __call__(self, here: ResidualPoint, nit: int) -> bool:
        if self.lines:
            print(f"{nit:4d}  {self.problem.nfev:11d}  {here.cost:16.9g}", flush=True)
        return self.callback(here.x, fun=here.unweighted.copy(), cost=here.cost, nit=nit)
