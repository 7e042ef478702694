"""Newton's method as an optimizer of models, by the Hessian of the loss or by products with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minigrad import Tensor

from ..minimizers.descent_methods import DESCENT_METHODS
from .closure_objective import CurvedObjective
from .descent_optimizer import DescentOptimizer, DescentParts, searched
from .option_checks import Group, given, without_matrix


class Newton(DescentOptimizer):
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

    The closure returns the loss, and must not call backward: its graph is differentiated twice.
    """

    problem = CurvedObjective

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
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

    def parts(self, group: Group) -> DescentParts:
        names = ("trust-exact", "trust-ncg") if group["step_rule"] == "trust_region" else ("newton", "newton-cg")
        method = DESCENT_METHODS[names[without_matrix(group)]]
        options: dict[str, Any] = {"alpha": group["alpha"]}
        if group["step_rule"] != "trust_region":
            options["line_search"] = searched(group, group["step_rule"])
        return DescentParts(method.direction(options), method.step_rule(options))

    def check(self, group: Group) -> None:
        super().check(group)
        if group["step_rule"] != "trust_region":
            searched(group, group["step_rule"])
        if group["alpha"] and (group["step_rule"] == "trust_region" or without_matrix(group)):
            raise ValueError(
                f"{self._name}: alpha={group['alpha']} is for steps by a line search with the matrix; "
                "say step_rule='strong_wolfe' and matrix_free=False too, or leave alpha out."
            )
