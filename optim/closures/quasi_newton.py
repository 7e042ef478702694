"""LBFGS and BFGS as optimizers of models: `minimize`'s methods of these names, with the options that a model needs.

>>> optimizer = optim.LBFGS(model.parameters())
>>> for _ in range(10):
...     loss = optimizer.step(lambda: mse_loss(model(x), y))  # the loss before the step
"""

from __future__ import annotations

from collections.abc import Iterable

from minigrad import Tensor

from ..minimizers.descent_methods import DESCENT_METHODS
from ..minimizers.direction import Direction
from ..minimizers.lbfgs import LBFGSDirection
from ..minimizers.steepest_descent import SteepestByOneNorm
from .descent_optimizer import DescentOptimizer, DescentParts, searched
from .option_checks import Group, given


class QuasiNewton(DescentOptimizer):
    """A direction that learns curvature from gradients, with the search that `line_search_fn` names."""

    def direction(self, group: Group) -> Direction:
        """The direction of this method, from the options."""
        raise NotImplementedError

    def parts(self, group: Group) -> DescentParts:
        return DescentParts(self.direction(group), searched(group, group["line_search_fn"]))

    def check(self, group: Group) -> None:
        super().check(group)
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
    Names, defaults and the first step, min(1, 1 / |g|_1) lr times -g, are `torch.optim.LBFGS`'s, but for three of the
    defaults. `line_search_fn` is None there: steps of a fixed,
    unchecked length, with which many models diverge. `max_eval` is 5/4 of `max_iter` there, which ends a step of few
    iterations in its first search. `tolerance_change` is not relative to the loss there, so that a fit stops where the
    loss is about 1e-7, however far it could go. The change between two calls of `step` teaches nothing here: where
    the data changed too, as with mini-batches, it is no curvature.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = "strong_wolfe",
    ):
        super().__init__(params, given(locals()))

    def direction(self, group: Group) -> Direction:
        return LBFGSDirection(group["history_size"], SteepestByOneNorm())


class BFGS(QuasiNewton):
    """BFGS with a strong Wolfe line search: L-BFGS that remembers every step, in an (n, n) matrix.

    For models of up to some thousand parameters. Options, and the closure, are `LBFGS`'s, without `history_size`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        line_search_fn: str | None = "strong_wolfe",
    ):
        super().__init__(params, given(locals()))

    def direction(self, group: Group) -> Direction:
        return DESCENT_METHODS["bfgs"].direction({})
