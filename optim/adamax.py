"""Adamax: Adam with the largest gradient lately in the place of the root of the mean square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import maximum

from ._update import Formula
from .optimizer import Optimizer
from .options import options_of


def adamax(p, g, m, u, *, lr, beta1, beta2, eps):  # Kingma & Ba 2015, algorithm 2
    m = m + (1 - beta1) * (g - m)
    u = maximum(beta2 * u, abs(g) + eps)
    return p - lr * (m / u), m, u


class Adamax(Optimizer):
    """AdaMax (Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 2): Adam by the largest.

    With the gradient g, step t does::

        m <- beta1 * m + (1 - beta1) * g                 u <- max(beta2 * u, |g| + eps)
        p <- p - lr / (1 - beta1^t) * m / u

    As in PyTorch, epsilon is added to |g|, against 0 / 0; the paper has none: `eps=0`.

    Parameters
    ----------
    params, weight_decay, betas, eps, maximize, nonfinite
        See `Optimizer`.
    lr : float
        The learning rate, 0 or more: the most that a number moves in one step.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    buffer_names: ClassVar = {"m": "exp_avg", "u": "exp_inf"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return adamax

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        return {"lr": group["lr"] / (1 - beta1**step), "beta1": beta1, "beta2": beta2, "eps": group["eps"]}
