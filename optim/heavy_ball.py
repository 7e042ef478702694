"""Polyak's heavy ball: momentum as the theory of convex optimization writes it, a share of the last step."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any, ClassVar

from ._update import Formula
from .optimizer import Optimizer
from .options import check_curvatures, options_of


def heavy_ball(p, g, b, *, lr, momentum):  # Polyak 1964; b is the last step, backwards
    b = momentum * b + lr * g
    return p - b, b


class HeavyBall(Optimizer):
    """Polyak's heavy ball (Polyak 1964, "Some methods of speeding up the convergence of iteration methods").

    With the gradient g, a step does::

        x_next = x + momentum * (x - x_before) - lr * g

    The buffer is `x_before - x`, the last step: this is `SGD` with `lr_in_velocity=True`.

    Parameters
    ----------
    params, lr, weight_decay, maximize, nonfinite
        See `Optimizer`.
    momentum : float
        How much of the last step is repeated, 0 or more, below 1 to make sense.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    buffer_names: ClassVar = {"b": "momentum_buffer"}

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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    @classmethod
    def from_curvature(cls, params: Iterable[Any], smallest: float, largest: float, **options: Any) -> HeavyBall:
        """With Polyak's best coefficients for a quadratic whose Hessian's eigenvalues lie from `smallest` to `largest`.

        With their roots a and b, `lr = 4 / (a + b)^2` and `momentum = ((b - a) / (b + a))^2`; the error then falls
        about by the factor (b - a) / (b + a) a step.
        """
        check_curvatures("HeavyBall", smallest, largest)
        a, b = sqrt(smallest), sqrt(largest)
        return cls(params, 4 / (a + b) ** 2, ((b - a) / (b + a)) ** 2, **options)

    def formula(self, group: dict[str, Any]) -> Formula:
        return heavy_ball
