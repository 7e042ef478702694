"""RAdam: Adam whose first steps are plain momentum, until the variance of the gradients can be told."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

from .adaptive_updates import RADAM
from .optimizer import Optimizer
from .options import check_flag, check_number, check_pair
from .updates import Rule


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
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    betas : (float, float)
        How slowly the running means of g and of g^2 forget, each from 0 to below 1.
    eps : float
        0 or more.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
    decoupled_weight_decay : bool
        Decay the parameters themselves instead, as `AdamW` does: `p <- (1 - lr * weight_decay) * p` first.
    maximize : bool
        Go uphill.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True

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
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
            nonfinite=nonfinite,
        )

    def check(self, group: dict[str, Any]) -> None:
        for option in ("lr", "eps", "weight_decay"):
            check_number("RAdam", option, group[option], 0)
        check_pair("RAdam", "betas", group["betas"])
        check_flag("RAdam", "decoupled_weight_decay", group["decoupled_weight_decay"])

    def rule(self, group: dict[str, Any]) -> Rule:
        return RADAM

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float | None, ...]:
        beta1, beta2 = group["betas"]
        lr = group["lr"] / (1 - beta1**step)
        left = beta2**step
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * step * left / (1 - left)
        if rho <= 5:
            return lr, beta2, 1 - beta1, 1 - beta2, group["eps"], None
        rectified = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        return lr * rectified * sqrt(1 - left), beta2, 1 - beta1, 1 - beta2, group["eps"], 0
