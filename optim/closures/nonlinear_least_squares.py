"""GaussNewton and LevenbergMarquardt as optimizers of models, for closures that return residuals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from minigrad import Tensor

from ..fitting.fit_loop import FitLimits, fit_residuals
from ..fitting.fit_methods import FIT_METHODS
from ..fitting.local_model import Models
from ..fitting.scaling import LargestColumns
from ..fitting.trust import Trust
from ..solve.residuals import ResidualPoint
from ..solve.result import Reason
from .closure_optimizer import ClosureOptimizer
from .closure_residuals import ClosureResiduals
from .option_checks import Group, check_choice, given, without_matrix
from .step_watch import StepWatch, evaluations


@dataclass
class FitParts:
    """The pair that searches in one step."""

    models: Models
    trust: Trust


def parts_of(method: str) -> FitParts:
    """The models and the trust of a method of `least_squares`.

    Weights and biases begin near zero, which is no size to hold them to: "lm" measures them by the columns alone.
    """
    scaling = LargestColumns() if method == "lm" else None
    return FitParts(FIT_METHODS[method].models(scaling), FIT_METHODS[method].trust())


class FitOptimizer(ClosureOptimizer):
    """An optimizer whose closure gives residuals, which a method of `least_squares` makes small."""

    problem = ClosureResiduals

    def search(
        self, problem: ClosureResiduals, parts: FitParts, group: Group, watch: StepWatch
    ) -> tuple[ResidualPoint, int, Reason]:
        least = 4 * problem.variables.eps
        ftol, xtol, gtol = (max(group[name], least) for name in ("ftol", "xtol", "gtol"))
        limits = FitLimits(ftol, xtol, gtol, max_nfev=int(evaluations(group)))
        last, iterations, reason = fit_residuals(problem, parts.models, parts.trust, limits, watch)
        return last, iterations, watch.reason or reason

    def lowered(self, last: ResidualPoint) -> float:
        return last.cost


class GaussNewton(FitOptimizer):
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
        params: Iterable[Tensor] | Iterable[Group],
        max_iter: int = 20,
        max_eval: int | None = None,
        ftol: float = 1e-12,
        xtol: float = 1e-10,
        gtol: float = 1e-10,
    ):
        super().__init__(params, given(locals()))

    def parts(self, group: Group) -> FitParts:
        return parts_of("gauss-newton")


class LevenbergMarquardt(FitOptimizer):
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
        params: Iterable[Tensor] | Iterable[Group],
        max_iter: int = 20,
        max_eval: int | None = None,
        ftol: float = 1e-12,
        xtol: float = 1e-10,
        gtol: float = 1e-10,
        method: str = "lm",
        matrix_free: bool | None = None,
    ):
        super().__init__(params, given(locals()))

    def parts(self, group: Group) -> FitParts:
        return parts_of("matrix-free" if without_matrix(group) else group["method"])

    def check(self, group: Group) -> None:
        super().check(group)
        check_choice(self._name, "method", group["method"], ("lm", "levenberg", "marquardt"))
