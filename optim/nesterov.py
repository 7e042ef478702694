"""Nesterov's accelerated gradient in its three forms: Nesterov, NAGC for convex losses, NAGSC for strongly convex ones.

All are one method seen from two places. It has two sequences, y and x = y + ahead: the gradient is taken at x, y moves
to `x - lr * g`, and x runs ahead of it by mu times y's last move. The look-ahead form lets you stand at y and go ahead
for the gradient; the rewritten form lets you stand at x, where the gradient is needed. Nesterov, NAG-C and NAG-SC
differ in mu only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any, ClassVar

from minigrad import Tensor, enable_grad, no_grad
from minigrad.backend.gpu.replay import refuse_capture

from ._update import Formula
from .optimizer import Optimizer
from .options import check_curvatures, check_flag, number, options_of


def running_ahead(p, g, ahead, *, lr, mu):  # at x: y moves to x - lr * g, and x to mu times that move further
    move = lr * g
    ahead = mu * (ahead - move)
    return p - (move - ahead), ahead


def looking_ahead(p, g, ahead, *, lr, mu):  # the same seen from y, with p at y + ahead: y moves to p - lr * g
    move = lr * g
    ahead = mu * (ahead - move)
    return p - move, ahead


class _Accelerated(Optimizer):
    """What Nesterov's methods share. The state of a parameter x is `ahead`, x - y; subclasses say how large mu is.

    With `look_ahead` the parameters are the y's, and `step` needs a closure, which it calls with the parameters moved
    to the x's.
    """

    counts_steps = True
    checks: ClassVar = {"look_ahead": check_flag, "strong_convexity": number(0)}

    def momentum(self, group: dict[str, Any], step: int) -> float:
        """mu of this step, counted from 1."""
        raise NotImplementedError

    def formula(self, group: dict[str, Any]) -> Formula:
        return looking_ahead if group["look_ahead"] else running_ahead

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, float]:
        return {"lr": group["lr"], "mu": self.momentum(group, step)}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient by one step, see `Optimizer.step`.

        With `look_ahead` the closure, which computes the loss, calls backward and returns the loss, is called with the
        parameters moved ahead. If it raises, or the step is skipped, they are put back; so is a parameter that got no
        gradient.
        """
        if not any(group["look_ahead"] for group in self.param_groups):
            return super().step(closure)
        refuse_capture(f"{self._name}.step with look_ahead")
        if closure is None:
            raise TypeError(
                f"{self._name}.step: with look_ahead=True it needs a closure that computes the loss and calls "
                "backward, for the gradient is taken elsewhere than where the parameters are; or use look_ahead=False, "
                "the same method seen from there."
            )
        left = self._move_ahead()
        try:
            with enable_grad():
                loss = closure()
            skipped = self.skipped_steps
            super().step()
            if self.skipped_steps == skipped:
                left = {p: place for p, place in left.items() if p.grad is None}
        finally:
            with no_grad():
                for p, place in left.items():
                    p.copy_(place)
        return loss

    def _move_ahead(self) -> dict[Tensor, Tensor]:
        """Move the parameters that have one by their `ahead`; returns copies of them as they were."""
        left = {}
        with no_grad():
            for group in self.param_groups:
                for p in group["params"] if group["look_ahead"] else ():
                    if p in self._state:
                        left[p] = p.detach().clone()
                        p.copy_(left[p] + Tensor(self._state[p]["ahead"]))
        return left


class Nesterov(_Accelerated):
    """Nesterov's momentum with a constant mu (Nesterov 1983; in this form Sutskever et al. 2013, "On the importance of
    initialization and momentum in deep learning", equations 3 and 4).

    With the gradient g, a step does::

        v <- momentum * v - lr * g(p + momentum * v)          the look-ahead form, look_ahead=True
        p <- p + v

        v_new = momentum * v - lr * g(p)                      the rewritten form, for p + momentum * v
        p <- p + v_new + momentum * (v_new - v)

    The second is the first, told of the point where the gradient is taken: its p is the first's p + momentum * v. The
    state is `ahead`, momentum * v. `SGD(nesterov=True, lr_in_velocity=True)` is the rewritten form too;
    `SGD(nesterov=True)` lets a change of the rate scale past steps as well.

    Parameters
    ----------
    params, lr, weight_decay, maximize, nonfinite
        See `Optimizer`.
    momentum : float
        0 or more, below 1 to make sense.
    look_ahead : bool
        Which form. True: `step` needs a closure, and between steps the parameters are where the method has arrived.
        False: they are where the next gradient is needed.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number; a step without a closure with `look_ahead`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        look_ahead: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def momentum(self, group: dict[str, Any], step: int) -> float:
        return group["momentum"]


class NAGC(_Accelerated):
    """Nesterov's accelerated gradient for convex functions (Nesterov 1983; with k / (k + 3) as in Su, Boyd & Candes
    2016, "A differential equation for modeling Nesterov's accelerated gradient method", equation 1).

    From x_0 = y_0, with the gradient g at x_k, step k = 0, 1, ... does::

        y_(k+1) = x_k - lr * g                  x_(k+1) = y_(k+1) + k / (k + 3) * (y_(k+1) - y_k)

    If g is Lipschitz with constant L and lr <= 1 / L, the loss at y_k is within `2 ||x_0 - x*||^2 / (lr (k + 1)^2)` of
    the least. The parameters are the x's, or, with `look_ahead` and a closure, the y's; the state `ahead` is x - y.

    Parameters, errors as for `Nesterov`, without `momentum`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        look_ahead: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def momentum(self, group: dict[str, Any], step: int) -> float:
        return (step - 1) / (step + 2)


class NAGSC(_Accelerated):
    """Nesterov's accelerated gradient for strongly convex functions (Nesterov 2004, "Introductory lectures on convex
    optimization", 2.2.22; Shi, Du, Jordan & Su 2022, "Understanding the acceleration phenomenon via high-resolution
    differential equations", equation 1.3).

    From x_0 = y_0, with the gradient g at x_k, a step does::

        y_(k+1) = x_k - lr * g                  x_(k+1) = y_(k+1) + (1 - r) / (1 + r) * (y_(k+1) - y_k)
        r = sqrt(strong_convexity * lr)

    If the loss minus `strong_convexity / 2 * ||x||^2` is convex, g is Lipschitz with constant L, and lr = 1 / L, then r
    is 1 / sqrt(condition number), and the distance to the least loss falls by 1 - r a step. The parameters are the x's,
    or, with `look_ahead` and a closure, the y's; the state `ahead` is x - y.

    Parameters
    ----------
    params, lr, weight_decay, maximize, look_ahead, nonfinite
        See `Nesterov`.
    strong_convexity : float
        The least curvature of the loss, 0 or more, and at most 1 / lr. With 0 the momentum is 1.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        strong_convexity: float = 1.0,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        look_ahead: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    @classmethod
    def from_curvature(cls, params: Iterable[Any], smallest: float, largest: float, **options: Any) -> NAGSC:
        """For a loss whose curvature lies from `smallest` to `largest`: lr = 1 / largest, r^2 = smallest / largest."""
        check_curvatures("NAGSC", smallest, largest)
        return cls(params, 1 / largest, smallest, **options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        lr, least = group["lr"], group["strong_convexity"]
        if lr * least > 1 + 1e-12:
            raise ValueError(
                f"NAGSC: strong_convexity={least} with lr={lr}; expected at most 1 / lr = {1 / lr:g}, for no curvature "
                "is larger than the largest, and lr should be 1 over that."
            )

    def momentum(self, group: dict[str, Any], step: int) -> float:
        root = sqrt(group["strong_convexity"] * group["lr"])
        return (1 - root) / (1 + root)
