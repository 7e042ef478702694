"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import sqrt

from ._update import Formula
from .adam import moments
from .optimizer import Optimizer
from .options import number, options_of


def nadam(p, g, m, v, *, lr, ratio, beta1, beta2, eps):  # Dozat 2016, algorithm 2; with one g goes `ratio` of m
    m, v = moments(g, m, v, beta1, beta2)
    return p - lr * ((ratio * m + g) / (sqrt(v) + eps)), m, v


class NAdam(Optimizer):
    """NAdam (Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2 with the schedule of section 3.2).

    With Adam's m and v of the gradient g, step t does::

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)               M_t = mu_1 * ... * mu_t
        n = mu_(t+1) / (1 - M_(t+1)) * m + (1 - mu_t) / (1 - M_t) * g
        p <- p - lr * n / (sqrt(v / (1 - beta2^t)) + eps)

    The product M is part of the state, so betas may change on the way.

    Parameters
    ----------
    params, lr, weight_decay, betas, eps, decoupled_weight_decay, maximize, nonfinite
        See `Optimizer`.
    momentum_decay : float
        0 or more: how fast mu rises from half of beta1 to all of it.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    checks: ClassVar = {"momentum_decay": number(0)}
    buffer_names: ClassVar = {"m": "exp_avg", "v": "exp_avg_sq"}
    scalar_state: ClassVar = {"mu_product": 1.0}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return nadam

    def next_coefficients(self, group: dict[str, Any], step: int, scalars: dict[str, float]) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        mu, after = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = scalars["mu_product"] = scalars["mu_product"] * mu
        of_g, of_m = (1 - mu) / (1 - product), after / (1 - product * after)
        c2 = math.sqrt(1 - beta2**step)
        lr, eps = group["lr"] * of_g * c2, c2 * group["eps"]
        return {"lr": lr, "ratio": of_m / of_g, "beta1": beta1, "beta2": beta2, "eps": eps}
