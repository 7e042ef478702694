"""Lion: every number moves by the same amount, in the direction that a mean of gradients points to.

It was found by a search over programs, keeps one buffer and looks at signs alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import sign

from ._update import Formula
from .optimizer import Optimizer
from .options import options_of


def lion(p, g, m, *, lr, beta1, beta2):  # Chen et al. 2023, algorithm 2
    c = beta1 / (1 - beta1) * m + g  # its sign is that of beta1 * m + (1 - beta1) * g
    m = g + beta2 * (m - g)
    return p - lr * sign(c), m


class Lion(Optimizer):
    """Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2): the sign of a mean.

    With the gradient g, a step does::

        p <- (1 - lr * weight_decay) * p - lr * sign(beta1 * m + (1 - beta1) * g)
        m <- beta2 * m + (1 - beta2) * g

    Every number moves by lr, so lr should be some 3 to 10 times smaller than Adam's, and the weight decay as many times
    larger. One buffer instead of Adam's two. PyTorch has none; names and defaults are the paper's.

    Parameters
    ----------
    params, maximize, nonfinite
        See `Optimizer`.
    lr : float
        The learning rate, 0 or more: how far every number moves.
    betas : (float, float)
        How much of m is in the sign, and how slowly m forgets, each from 0 to below 1.
    weight_decay : float
        0 or more, decoupled.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    decoupled = True
    buffer_names: ClassVar = {"m": "exp_avg"}

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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return lion

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, float]:
        beta1, beta2 = group["betas"]
        return {"lr": group["lr"], "beta1": beta1, "beta2": beta2}
