"""Stochastic gradient descent, with momentum in PyTorch's form or in that of the papers, and Nesterov's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .optimizer import Optimizer
from .options import check_flag, check_number
from .updates import MOMENTUM, NESTEROV, Rule
from .updates import SGD as PLAIN


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins & Monro 1951), optionally with momentum.

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), step t does::

        b <- momentum * b + (1 - dampening) * g          (b <- g in the first step)
        p <- p - lr * b                                  or, with nesterov,  p - lr * (g + momentum * b)

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    momentum : float
        How much of the buffer is kept each step, 0 or more, usually below 1 (Polyak 1964, "Some methods of speeding up
        the convergence of iteration methods").
    dampening : float
        How much less than the whole of a gradient enters the buffer; without momentum it does nothing.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
    nesterov : bool
        Look ahead along the buffer (Nesterov 1983, in the form of Sutskever et al. 2013, "On the importance of
        initialization and momentum in deep learning", equations 3 and 4). Needs momentum and no dampening.
    maximize : bool
        Go uphill.
    lr_in_velocity : bool
        Which form of momentum. False is PyTorch's, above: the learning rate multiplies the buffer, so that a change of
        it takes hold at once. True is that of the papers and of lectures, where it multiplies the gradient that enters
        the velocity, `v <- momentum * v - lr * g`, `p <- p + v`, and past steps keep the rate they were taken
        with; the buffer is then -v. The two agree while the rate does not change.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    own_options = ("lr_in_velocity",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        lr_in_velocity: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "lr_in_velocity": lr_in_velocity,
            },
            nonfinite=nonfinite,
        )

    def check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_number("SGD", name, group[name], 0)
        check_number("SGD", "dampening", group["dampening"], float("-inf"))
        for name in ("nesterov", "lr_in_velocity"):
            check_flag("SGD", name, group[name])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov=True with momentum={group['momentum']} and dampening={group['dampening']}; "
                "expected a momentum above 0 and no dampening."
            )

    def rule(self, group: dict[str, Any]) -> Rule:
        if not group["momentum"]:
            return PLAIN
        return NESTEROV if group["nesterov"] else MOMENTUM

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float | None, ...]:
        lr, momentum = group["lr"], group["momentum"]
        if not momentum:
            return (lr,)
        gain = 1 - group["dampening"] if step > 1 else 1
        if group["lr_in_velocity"]:
            return 1, momentum, gain * lr
        return lr, momentum, None if gain == 1 else gain
