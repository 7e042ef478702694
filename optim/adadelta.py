"""Adadelta: Adagrad with a memory that fades, without a learning rate: it measures its steps by those it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import sqrt

from ._update import Formula
from .optimizer import Optimizer
from .options import number, options_of


def adadelta(p, g, v, u, *, lr, rho, eps):  # Zeiler 2012, algorithm 1
    v = rho * v + (1 - rho) * g**2
    delta = sqrt((u + eps) / (v + eps)) * g
    u = rho * u + (1 - rho) * delta**2
    return p - lr * delta, v, u


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, "ADADELTA: an adaptive learning rate method", algorithm 1).

    With the gradient g, a step does::

        v <- rho * v + (1 - rho) * g^2
        delta = sqrt(u + eps) / sqrt(v + eps) * g
        u <- rho * u + (1 - rho) * delta^2
        p <- p - lr * delta

    Epsilon is inside both roots, in the paper, in lectures and in PyTorch alike; u begins at 0, so it also is what gets
    the first step going. The paper has no learning rate: `lr=1`.

    Parameters
    ----------
    params, weight_decay, eps, maximize, nonfinite
        See `Optimizer`.
    lr : float
        0 or more; 1 is the method as published.
    rho : float
        How slowly both means forget, from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    checks: ClassVar = {"rho": number(0, 1)}
    buffer_names: ClassVar = {"v": "square_avg", "u": "acc_delta"}

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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return adadelta
