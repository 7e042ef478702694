"""Adadelta: Adagrad with a memory that fades, without a learning rate: it measures its steps by those it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .adaptive_updates import ADADELTA
from .optimizer import Optimizer
from .options import check_number
from .updates import Rule


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, "ADADELTA: an adaptive learning rate method", algorithm 1).

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), a step does::

        v <- rho * v + (1 - rho) * g^2
        delta = sqrt(u + eps) / sqrt(v + eps) * g
        u <- rho * u + (1 - rho) * delta^2
        p <- p - lr * delta

    Epsilon is inside both roots, in the paper, in lectures and in PyTorch alike; u begins at 0, so it also is what gets
    the first step going. The paper has no learning rate: `lr=1`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        0 or more; 1 is the method as published.
    rho : float
        How slowly both means forget, from 0 to 1.
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
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, nonfinite=nonfinite)

    def check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number("Adadelta", name, group[name], 0)
        check_number("Adadelta", "rho", group["rho"], 0, 1)

    def rule(self, group: dict[str, Any]) -> Rule:
        return ADADELTA

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        return group["lr"], group["rho"], 1 - group["rho"], group["eps"]
