"""RAdam: Adam whose first steps are plain momentum, until the variance of the gradients can be told."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import sqrt

from ._update import Formula
from .adam import moments
from .optimizer import Optimizer
from .options import options_of


def radam(p, g, m, v, *, lr, beta1, beta2, eps, rectified=True):  # Liu et al. 2020, algorithm 2
    m, v = moments(g, m, v, beta1, beta2)
    return p - lr * (m / (sqrt(v) + eps) if rectified else m), m, v


class RAdam(Optimizer):
    """RAdam (Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", algorithm 2).

    With Adam's m and v of the gradient g, step t does::

        rho_max = 2 / (1 - beta2) - 1                    rho = rho_max - 2 * t * beta2^t / (1 - beta2^t)
        p <- p - lr * m / (1 - beta1^t)                                                          while rho <= 5
        p <- p - lr * r * m / (1 - beta1^t) * sqrt(1 - beta2^t) / (sqrt(v) + eps)                from then on
        r^2 = (rho - 4) (rho - 2) rho_max / ((rho_max - 4) (rho_max - 2) rho)

    As in PyTorch the threshold is 5, the paper's 4, and epsilon is added to the uncorrected root.

    Parameters
    ----------
    params, lr, weight_decay, betas, eps, decoupled_weight_decay, maximize, nonfinite
        See `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    buffer_names: ClassVar = {"m": "exp_avg", "v": "exp_avg_sq"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return radam

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        lr, left, most = group["lr"] / (1 - beta1**step), beta2**step, 2 / (1 - beta2) - 1
        rho = most - 2 * step * left / (1 - left)
        rectified = rho > 5
        if rectified:
            r = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
            lr = lr * r * math.sqrt(1 - left)
        return {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": group["eps"], "rectified": rectified}
