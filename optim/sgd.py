"""Stochastic gradient descent, with momentum in PyTorch's form or in that of the papers, and Nesterov's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ._update import Formula
from .optimizer import Optimizer
from .options import number, options_of


def sgd(p, g, *, lr):  # Robbins & Monro 1951
    return p - lr * g


def momentum(p, g, b, *, lr, momentum, gain):  # Polyak 1964
    b = momentum * b + gain * g
    return p - lr * b, b


def nesterov(p, g, b, *, lr, momentum):  # Sutskever et al. 2013, equations 3 and 4, for the point ahead
    b = momentum * b + g
    return p - lr * (g + momentum * b), b


def nesterov_in_velocity(p, g, b, *, lr, momentum):
    move = lr * g
    b = momentum * b + move
    return p - momentum * (move / momentum + b), b  # move + momentum * b, in an order that needs one scratch array


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins & Monro 1951), optionally with momentum.

    With the gradient g, step t does::

        b <- momentum * b + (1 - dampening) * g          (b <- g in the first step)
        p <- p - lr * b                                  or, with nesterov,  p - lr * (g + momentum * b)

    Parameters
    ----------
    params, lr, weight_decay, maximize, nonfinite
        See `Optimizer`.
    momentum : float
        How much of the buffer is kept each step, 0 or more, usually below 1 (Polyak 1964, "Some methods of speeding up
        the convergence of iteration methods").
    dampening : float
        How much less than the whole of a gradient enters the buffer; without momentum it does nothing.
    nesterov : bool
        Look ahead along the buffer (Nesterov 1983, in the form of Sutskever et al. 2013, "On the importance of
        initialization and momentum in deep learning", equations 3 and 4). Needs momentum and no dampening.
    lr_in_velocity : bool
        Which form of momentum. False is PyTorch's, above: the learning rate multiplies the buffer, so that a change of
        it takes hold at once. True is that of the papers and of lectures, where it multiplies the gradient that enters
        the velocity, `v <- momentum * v - lr * g`, `p <- p + v`, and past steps keep the rate they were taken
        with; the buffer is then -v. The two agree while the rate does not change.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    own_options = ("lr_in_velocity",)
    checks: ClassVar = {"dampening": number()}
    buffer_names: ClassVar = {"b": "momentum_buffer"}

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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov=True with momentum={group['momentum']} and dampening={group['dampening']}; "
                "expected a momentum above 0 and no dampening."
            )

    def formula(self, group: dict[str, Any]) -> Formula:
        if not group["momentum"]:
            return sgd
        if group["nesterov"]:
            return nesterov_in_velocity if group["lr_in_velocity"] else nesterov
        return momentum

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, float]:
        lr, mu = group["lr"], group["momentum"]
        if not mu:
            return {"lr": lr}
        if group["nesterov"]:
            return {"lr": lr, "momentum": mu}
        gain = 1 - group["dampening"] if step > 1 else 1
        if group["lr_in_velocity"]:
            return {"lr": 1, "momentum": mu, "gain": gain * lr}
        return {"lr": lr, "momentum": mu, "gain": gain}
