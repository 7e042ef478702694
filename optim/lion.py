"""Lion: every number moves by the same amount, in the direction that a mean of gradients points to.

After this file you know an optimizer found by a search over programs, that keeps one buffer and looks at signs alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .adaptive_updates import LION
from .optimizer import Optimizer
from .options import check_number, check_pair
from .updates import Rule


class Lion(Optimizer):
    """Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2): the sign of a mean.

    With the gradient g (`-g` to maximize), a step does::

        p <- (1 - lr * weight_decay) * p - lr * sign(beta1 * m + (1 - beta1) * g)
        m <- beta2 * m + (1 - beta2) * g

    Every number moves by lr, so lr should be some 3 to 10 times smaller than Adam's, and the weight decay as many times
    larger. One buffer instead of Adam's two. PyTorch has none; names and defaults are the paper's.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more: how far every number moves.
    betas : (float, float)
        How much of m is in the sign, and how slowly m forgets, each from 0 to below 1.
    weight_decay : float
        0 or more, decoupled.
    maximize : bool
        Go uphill.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, nonfinite=nonfinite)

    def check(self, group: dict[str, Any]) -> None:
        for option in ("lr", "weight_decay"):
            check_number("Lion", option, group[option], 0)
        check_pair("Lion", "betas", group["betas"])

    def rule(self, group: dict[str, Any]) -> Rule:
        return LION

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return group["lr"], beta1 / (1 - beta1), beta2
