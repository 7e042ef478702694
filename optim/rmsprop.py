"""RMSprop: steps scaled by the root of a running mean of squared gradients, plain, centred, with either momentum.

After this file you know the four forms and what each adds; without its first mean and the correction of the bias, Adam
is this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .adaptive_updates import rmsprop
from .optimizer import Optimizer
from .options import check_flag, check_number
from .updates import Rule


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5 of "Neural networks for machine learning").

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), a step does::

        v <- alpha * v + (1 - alpha) * g^2
        a <- alpha * a + (1 - alpha) * g                 with centered: v - a^2, the variance, takes the place of v
        r = g / (sqrt(v) + eps)
        p <- p - lr * r                                  without momentum
        b <- momentum * b + r,  p <- p - lr * b          with momentum; with nesterov, p - lr * (r + momentum * b)

    This is PyTorch's form, but for Nesterov's, which PyTorch does not have. Lectures also write `r = g / sqrt(v + eps)`
    (`eps_inside_sqrt`), and `b <- momentum * b + lr * r, p <- p - b` (`lr_in_velocity`).

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    alpha : float
        How slowly the running means forget, 0 or more, below 1 to make sense.
    eps : float
        0 or more.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
    momentum : float
        How much of the buffer is kept each step, 0 or more.
    centered : bool
        Divide by the root of the variance instead of the mean square (Graves 2013, "Generating sequences with recurrent
        neural networks", equations 38 to 41). Where rounding makes a variance negative it counts as 0; PyTorch's root
        is NaN there.
    maximize : bool
        Go uphill.
    nesterov : bool
        Nesterov's momentum, in the form that needs the gradient only where one stands. Needs momentum.
    eps_inside_sqrt : bool
        Add epsilon under the root.
    lr_in_velocity : bool
        Whether the learning rate multiplies what enters the buffer, instead of the buffer; the two agree while the rate
        does not change.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    own_options = ("nesterov", "eps_inside_sqrt", "lr_in_velocity")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        nesterov: bool = False,
        eps_inside_sqrt: bool = False,
        lr_in_velocity: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
                "nesterov": nesterov,
                "eps_inside_sqrt": eps_inside_sqrt,
                "lr_in_velocity": lr_in_velocity,
            },
            nonfinite=nonfinite,
        )

    def check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            check_number("RMSprop", name, group[name], 0)
        for name in ("centered", "nesterov", "eps_inside_sqrt", "lr_in_velocity"):
            check_flag("RMSprop", name, group[name])
        if group["nesterov"] and not group["momentum"]:
            raise ValueError(
                "RMSprop: nesterov=True with momentum=0; expected a momentum above 0, such as 0.9, to look ahead along."
            )

    def rule(self, group: dict[str, Any]) -> Rule:
        momentum = ("nesterov" if group["nesterov"] else "momentum") if group["momentum"] else ""
        return rmsprop(bool(group["centered"]), bool(group["eps_inside_sqrt"]), momentum)

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float | None, ...]:
        lr, alpha, eps, mu = group["lr"], group["alpha"], group["eps"], group["momentum"]
        if not mu:
            return lr, alpha, 1 - alpha, eps
        if group["lr_in_velocity"]:
            return 1, alpha, 1 - alpha, eps, mu, lr
        return lr, alpha, 1 - alpha, eps, mu, None
