"""LBFGS, BFGS, Newton, GaussNewton, LevenbergMarquardt: the second-order methods as optimizers of models.

After this file you know that each of them is a method of `minimize` or `least_squares`, a direction and a step rule,
with the options that a model needs. A class says which; what `step(closure)` does is in `steppers.py`.

>>> optimizer = optim.LBFGS(model.parameters())
>>> for _ in range(10):
...     loss = optimizer.step(lambda: mse_loss(model(x), y))  # the loss before the step
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad.backend import Array

from ..fitting.least_squares import METHODS as FITS
from ..fitting.matrix_free import Products
from ..fitting.trust import ScaledModel
from ..minimizers.descent_loop import Direction, StepRule
from ..minimizers.line_search import Fixed, line_search
from ..minimizers.minimize import METHODS as DESCENTS
from ..options import check_number
from ..solve.objective import Point
from .closure_optimizer import Downhill, Fitting
from .closure_problems import CurvedObjective

MANY = 1000
"""For more parameters than this no matrix is formed unless asked for: its decomposition would take most of the time."""


class QuasiNewton(Downhill):
    """A direction that learns curvature from gradients, with the search that `line_search_fn` names."""

    def direction(self, group: dict[str, Any]) -> Direction:
        raise NotImplementedError

    def parts(self, group: dict[str, Any]) -> SimpleNamespace:
        return SimpleNamespace(direction=self.direction(group), step_rule=searched(group, group["line_search_fn"]))

    def check(self, group: dict[str, Any]) -> None:
        check_numbers(self._name, group)
        searched(group, group["line_search_fn"])


class LBFGS(QuasiNewton):
    """Limited-memory BFGS with a strong Wolfe line search (Nocedal and Wright 2006, section 7.2).

    Parameters
    ----------
    params : iterable of Tensor
        One group only.
    lr : float
        The first length that a search tries, in the direction's own steps. Without a search, the length.
    max_iter : int
        Iterations of one call of `step`.
    max_eval : int, optional
        Evaluations of one call, after which it ends with the search under way; 2 `max_iter` + 10 if not given.
    tolerance_grad : float
        A step ends where no component of the gradient is larger.
    tolerance_change : float
        And where the loss changes by less, relative to itself, or no parameter changes by more.
    history_size : int
        How many iterations are remembered; memory is twice as many vectors as long as all parameters.
    line_search_fn : "strong_wolfe", "armijo", "exact" or None

    The closure returns the loss; it may also call zero_grad and backward before, as PyTorch's must.

    Notes
    -----
    Names and defaults are `torch.optim.LBFGS`'s but for three. `line_search_fn` is None there, steps of a fixed length
    that nobody checks, with which many models diverge. `max_eval` is 5/4 of `max_iter` there, which ends a step of few
    iterations in its first search. `tolerance_change` is not relative to the loss there, so that a fit stops where the
    loss is about 1e-7, however far it could go. And what changed between two calls of `step` is not learnt from: where
    the data changed too, as with mini-batches, it is no curvature.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = "strong_wolfe",
    ):
        super().__init__(params, given(locals()))

    def direction(self, group: dict[str, Any]) -> Direction:
        return DESCENTS["l-bfgs"].direction({"memory": group["history_size"]})


class BFGS(QuasiNewton):
    """BFGS with a strong Wolfe line search: L-BFGS that forgets nothing, in an (n, n) matrix.

    For models of up to some thousand parameters. Options, and the closure, are `LBFGS`'s, without `history_size`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        line_search_fn: str | None = "strong_wolfe",
    ):
        super().__init__(params, given(locals()))

    def direction(self, group: dict[str, Any]) -> Direction:
        return DESCENTS["bfgs"].direction({})


class Newton(Downhill):
    """Newton's method, with the Hessian of the loss, or with products with it.

    Parameters
    ----------
    lr, max_iter, max_eval, tolerance_grad, tolerance_change
        As for `LBFGS`. `lr` is for line searches; a trust region finds its radius by itself, and keeps it.
    step_rule : "trust_region", "strong_wolfe", "armijo" or None
        How far to go. The trust region needs no positive definite Hessian, which models seldom have, and leaves
        saddles. A line search, or None for steps of the fixed length `lr`, goes along the step of a Hessian that was
        made positive definite.
    alpha : float
        For line searches: added to the diagonal of every Hessian.
    matrix_free : bool, optional
        Solve for the step by conjugate gradients, from products with the Hessian. If not given: for more than 1000
        parameters. It does without alpha.

    The closure returns the loss, and must not call backward: its record is differentiated twice.
    """

    problem = CurvedObjective

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        step_rule: str | None = "trust_region",
        alpha: float = 0.0,
        matrix_free: bool | None = None,
    ):
        super().__init__(params, given(locals()))

    def parts(self, group: dict[str, Any]) -> SimpleNamespace:
        names = ("trust-exact", "trust-ncg") if group["step_rule"] == "trust_region" else ("newton", "newton-cg")
        method = DESCENTS[names[without_matrix(group)]]
        options: dict[str, Any] = {"alpha": group["alpha"]}
        if group["step_rule"] != "trust_region":
            options["line_search"] = searched(group, group["step_rule"])
        return SimpleNamespace(direction=method.direction(options), step_rule=method.step_rule(options))

    def check(self, group: dict[str, Any]) -> None:
        check_numbers(self._name, group)
        check_choice(self._name, "matrix_free", group["matrix_free"], (None, True, False))
        if group["step_rule"] != "trust_region":
            searched(group, group["step_rule"])
        if group["alpha"] and (group["step_rule"] == "trust_region" or without_matrix(group)):
            raise ValueError(
                f"{self._name}: alpha={group['alpha']} is for steps by a line search with the matrix; "
                "say step_rule='strong_wolfe' and matrix_free=False too, or leave alpha out."
            )


class GaussNewton(Fitting):
    """Gauss-Newton with a line search, for residuals: steps from a decomposition of their Jacobian.

    Parameters
    ----------
    params, max_iter, max_eval
        As for `LBFGS`.
    ftol, xtol, gtol : float
        A step ends where the relative change of the cost, that of the parameters, or the cosine between residuals and
        columns of the Jacobian is smaller, as `least_squares` does.

    The closure returns the residuals, such as model(x) - y, a Tensor of any shape or a tree of them, and does not call
    backward. Half the sum of their squares is what is lowered. The Jacobian is (residuals, parameters).
    """

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 20,
        max_eval: int | None = None,
        ftol: float = 1e-12,
        xtol: float = 1e-10,
        gtol: float = 1e-10,
    ):
        super().__init__(params, given(locals()))

    def parts(self, group: dict[str, Any]) -> SimpleNamespace:
        return fitting_parts("gauss-newton")

    def check(self, group: dict[str, Any]) -> None:
        check_numbers(self._name, group)


class LevenbergMarquardt(Fitting):
    """Levenberg-Marquardt, for residuals: Gauss-Newton steps that are damped as far as the model of them fails.

    Parameters
    ----------
    params, max_iter, max_eval, ftol, xtol, gtol
        As for `GaussNewton`. The region, or the damping, is kept from step to step.
    method : "lm", "levenberg" or "marquardt"
        Moré's trust region, or a damping by lambda |p|^2 or lambda |D p|^2; see `least_squares`.
    matrix_free : bool, optional
        Solve for the step by LSMR, from products with the Jacobian, with Levenberg's damping whatever the `method`;
        memory is then linear in the number of parameters. If not given: for more than 1000 parameters.

    The closure is `GaussNewton`'s.
    """

    def __init__(
        self,
        params: Iterable[Any],
        max_iter: int = 20,
        max_eval: int | None = None,
        ftol: float = 1e-12,
        xtol: float = 1e-10,
        gtol: float = 1e-10,
        method: str = "lm",
        matrix_free: bool | None = None,
    ):
        super().__init__(params, given(locals()))

    def parts(self, group: dict[str, Any]) -> SimpleNamespace:
        return fitting_parts("matrix-free" if without_matrix(group) else group["method"])

    def check(self, group: dict[str, Any]) -> None:
        check_numbers(self._name, group)
        check_choice(self._name, "method", group["method"], ("lm", "levenberg", "marquardt"))
        check_choice(self._name, "matrix_free", group["matrix_free"], (None, True, False))


# --- parts ---


class Scaled:
    """A direction with `lr` times the step, so that a search begins there."""

    def __init__(self, direction: Direction, lr: float):
        self.direction, self.lr = direction, lr

    def along(self, here: Point) -> Array:
        return self.lr * self.direction.along(here)


class Searched:
    """A line search that begins at `lr` times the direction's step."""

    def __init__(self, search: Any, lr: float):
        self.search, self.lr = search, lr

    def __call__(self, here: Point, direction: Direction) -> Any:
        return self.search(here, direction if self.lr == 1 else Scaled(direction, self.lr))


def searched(group: Mapping[str, Any], name: str | None) -> StepRule:
    """The step rule of a name in PyTorch's manner; None is a fixed length."""
    if name is None:
        return Fixed(group["lr"])
    return Searched(line_search({"line_search": name}, name), group["lr"])


def fitting_parts(method: str) -> SimpleNamespace:
    """The model at a point, and the trust in it, of a method of `least_squares`."""
    scaling, trust = FITS[method].scaling, FITS[method].trust
    return SimpleNamespace(model_at=Products() if scaling is None else ScaledModel(scaling()), trust=trust())


def without_matrix(group: Mapping[str, Any]) -> bool:
    """Whether to form no matrix: as asked, or by the number of parameters."""
    chosen = group["matrix_free"]
    return sum(p.size for p in group["params"]) > MANY if chosen is None else bool(chosen)


# --- options ---


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options among the arguments of a constructor."""
    return {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__")}


def check_numbers(owner: str, group: Mapping[str, Any]) -> None:
    """Raise for an option that must be a number from 0 on, or a count from 1 on, and is not."""
    for name in ("max_iter", "max_eval", "history_size"):
        value, least = group.get(name), 2 if name == "max_eval" else 1  # the first evaluation is that of the start
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
        if name in group and not whole and not (name == "max_eval" and value is None):
            raise ValueError(f"{owner}: {name}={value!r}; expected a whole number, {least} or more.")
    for name in ("lr", "alpha", "tolerance_grad", "tolerance_change", "ftol", "xtol", "gtol"):
        if name in group:
            check_number(owner, name, group[name], 0)


def check_choice(owner: str, name: str, value: Any, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{owner}: {name}={value!r}; expected one of {', '.join(map(repr, choices))}.")
