"""What a solver gives back: SciPy's fields, and in words why it stopped. The ways to end that all solvers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class OptimizeResult(dict):
    """The end of a run; a dict whose entries are attributes, as SciPy's class of that name.

    x : the solution, in the form of x0
    fun : the function's value there (residuals, for least squares)
    jac : the gradient there (the Jacobian, for least squares)
    nfev, njev, nhev : how many values, derivatives and second derivatives were computed
    nit : the number of iterations
    success, status, message : whether x is what was asked for, the reason as a number, and the reason in words
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this result has no {name!r}; it has {', '.join(self)}.") from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        indent = "\n" + " " * (width + 2)
        return "\n".join(f"{name:>{width}}: {str(value).replace(chr(10), indent)}" for name, value in self.items())


class Reason(NamedTuple):
    """Why a run ended. `status` is positive or zero for a success, as in SciPy's least_squares, and else negative."""

    status: int
    success: bool
    message: str


CONVERGED = Reason(1, True, "the gradient is below gtol")
COST_SETTLED = Reason(2, True, "the cost no longer changes: its relative change is below ftol")
STEP_SETTLED = Reason(3, True, "the point no longer moves: its relative change is below xtol")
AT_PRECISION = Reason(4, True, "no lower value can be told apart in floating point, and the gradient is at rounding")
PERFECT_FIT = Reason(5, True, "the residuals are zero")
STOPPED_BY_CALLBACK = Reason(-1, False, "the callback asked to stop")
TOO_MANY_ITERATIONS = Reason(-2, False, "the limit of iterations was reached; raise maxiter")
TOO_MANY_EVALUATIONS = Reason(-3, False, "the limit of evaluations was reached; raise max_nfev")
NOT_FINITE_AT_START = Reason(-4, False, "the function is NaN or infinite at x0; start where it is finite")
NOT_FINITE_GRADIENT = Reason(
    -5, False, "the derivative is NaN or infinite at the last point, where the value is finite"
)
NO_LOWER_POINT = Reason(
    -6, False, "no lower point was found along the direction, nor along the steepest one; is the function smooth?"
)
UNBOUNDED = Reason(-7, False, "the function falls without bound")
INTERRUPTED = Reason(-8, False, "interrupted; this is the last point that was reached")


def fields_of_the_end(
    problem: Any, nit: int, reason: Reason, counts: Sequence[str] = ("nfev", "njev", "nhev")
) -> dict[str, Any]:
    """The fields that say what a run cost, the problem's `counts` among them, and why it ended."""
    return {
        **{name: getattr(problem, name) for name in counts},
        "nit": nit,
        "success": reason.success,
        "status": reason.status,
        "message": reason.message,
    }
