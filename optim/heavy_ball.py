"""Polyak's heavy ball: momentum as the theory of convex optimization writes it, a share of the last step."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

from .optimizer import Optimizer
from .options import check_curvatures, check_number
from .updates import MOMENTUM, Rule


class HeavyBall(Optimizer):
    """Polyak's heavy ball (Polyak 1964, "Some methods of speeding up the convergence of iteration methods").

    With the gradient g (`g + weight_decay * x` where there is weight decay, `-g` to maximize), a step does::

        x_next = x + momentum * (x - x_before) - lr * g

    What is kept is `x_before - x`, the last step: this is `SGD` with `lr_in_velocity=True`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    momentum : float
        How much of the last step is repeated, 0 or more, below 1 to make sense.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||x||^2` is added to g.
    maximize : bool
        Go uphill.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, nonfinite=nonfinite)

    @classmethod
    def from_curvature(cls, params: Iterable[Any], smallest: float, largest: float, **options: Any) -> HeavyBall:
        """With Polyak's best numbers for a quadratic whose Hessian's eigenvalues lie from `smallest` to `largest`.

        With their roots a and b, `lr = 4 / (a + b)^2` and `momentum = ((b - a) / (b + a))^2`; the error then falls
        about by the factor (b - a) / (b + a) a step.
        """
        low, high = check_curvatures("HeavyBall", smallest, largest)
        lr, momentum = 4 / (sqrt(low) + sqrt(high)) ** 2, ((sqrt(high) - sqrt(low)) / (sqrt(high) + sqrt(low))) ** 2
        return cls(params, lr, momentum, **options)

    def check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_number("HeavyBall", name, group[name], 0)

    def rule(self, group: dict[str, Any]) -> Rule:
        return MOMENTUM

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        return 1, group["momentum"], group["lr"]
