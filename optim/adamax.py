"""Adamax: Adam with the largest gradient lately in the place of the root of the mean square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .adaptive_updates import ADAMAX
from .optimizer import Optimizer
from .options import check_number, check_pair
from .updates import Rule


class Adamax(Optimizer):
    """AdaMax (Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 2): Adam by the largest.

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), step t does::

        m <- beta1 * m + (1 - beta1) * g                 u <- max(beta2 * u, |g| + eps)
        p <- p - lr / (1 - beta1^t) * m / u

    As in PyTorch, epsilon is added to |g|, against 0 / 0; the paper has none: `eps=0`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more: the most that a number moves in one step.
    betas : (float, float)
        How slowly m and u forget, each from 0 to below 1.
    eps : float
        0 or more.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
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
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, nonfinite=nonfinite)

    def check(self, group: dict[str, Any]) -> None:
        for option in ("lr", "eps", "weight_decay"):
            check_number("Adamax", option, group[option], 0)
        check_pair("Adamax", "betas", group["betas"])

    def rule(self, group: dict[str, Any]) -> Rule:
        return ADAMAX

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return group["lr"] / (1 - beta1**step), beta2, 1 - beta1, group["eps"]
