"""Adagrad: a rate for each number, from the squares of all its gradients. Their sum only grows, so steps shrink."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .adaptive_updates import adagrad
from .optimizer import Optimizer
from .options import check_flag, check_number
from .updates import Rule


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic
    optimization", with the diagonal matrix).

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), step t does::

        s <- s + g^2
        p <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    This is PyTorch's form; `eps_inside_sqrt` gives the other one that is taught, `g / sqrt(s + eps)`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more: how far each number moves in the first step.
    lr_decay : float
        0 or more; 1 / (1 + lr_decay * k) cooling of the rate on top.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
    initial_accumulator_value : float
        What s begins with, 0 or more; above 0 it keeps the first steps small.
    eps : float
        0 or more.
    maximize : bool
        Go uphill.
    eps_inside_sqrt : bool
        Add epsilon to s under the root.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    own_options = ("eps_inside_sqrt",)

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
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
                "eps_inside_sqrt": eps_inside_sqrt,
            },
            nonfinite=nonfinite,
        )

    def check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            check_number("Adagrad", name, group[name], 0)
        check_flag("Adagrad", "eps_inside_sqrt", group["eps_inside_sqrt"])

    def rule(self, group: dict[str, Any]) -> Rule:
        return adagrad(bool(group["eps_inside_sqrt"]))

    def first_values(self, group: dict[str, Any]) -> dict[str, float]:
        value = group["initial_accumulator_value"]
        return {"sum": value} if value else {}

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        return group["lr"] / (1 + (step - 1) * group["lr_decay"]), group["eps"]
