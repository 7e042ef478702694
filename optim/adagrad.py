"""Adagrad: a rate for each number, from the squares of all its gradients. Their sum only grows, so steps shrink."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ._update import Formula, root
from .optimizer import Optimizer
from .options import number, options_of


def adagrad(p, g, s, *, lr, eps, eps_inside_sqrt=False):  # Duchi, Hazan & Singer 2011, with the diagonal matrix
    s = s + g**2
    return p - lr * (g / root(s, eps, eps_inside_sqrt)), s


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic
    optimization", with the diagonal matrix).

    With the gradient g, step t does::

        s <- s + g^2
        p <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    This is PyTorch's form; `eps_inside_sqrt` gives the other one that is taught, `g / sqrt(s + eps)`.

    Parameters
    ----------
    params, weight_decay, eps, maximize, eps_inside_sqrt, nonfinite
        See `Optimizer`.
    lr : float
        The learning rate, 0 or more: how far each number moves in the first step.
    lr_decay : float
        0 or more; 1 / (1 + lr_decay * k) cooling of the rate on top.
    initial_accumulator_value : float
        What s begins with, 0 or more; above 0 it keeps the first steps small.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    own_options = ("eps_inside_sqrt",)
    checks: ClassVar = {"lr_decay": number(0), "initial_accumulator_value": number(0)}
    buffer_names: ClassVar = {"s": "sum"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        eps_inside_sqrt: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return adagrad

    def first_values(self, group: dict[str, Any]) -> dict[str, float]:
        value = group["initial_accumulator_value"]
        return {"sum": value} if value else {}

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        lr = group["lr"] / (1 + (step - 1) * group["lr_decay"])
        return {"lr": lr, "eps": group["eps"], "eps_inside_sqrt": group["eps_inside_sqrt"]}
