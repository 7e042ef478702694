"""RMSprop: steps scaled by the root of a running mean of squared gradients, plain, centred, with either momentum.

Without its first mean and the correction of the bias, Adam is this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import maximum

from ._update import Formula, root
from .optimizer import Optimizer
from .options import check_flag, number, options_of


def rmsprop(p, g, v, *, lr, alpha, eps, eps_inside_sqrt=False):  # Tieleman & Hinton 2012
    v = alpha * v + (1 - alpha) * g**2
    return p - lr * (g / root(v, eps, eps_inside_sqrt)), v


def centered(p, g, v, a, *, lr, alpha, eps, eps_inside_sqrt=False):  # Graves 2013, equations 38 to 41
    v, a, variance = moments(g, v, a, alpha)
    return p - lr * (g / root(variance, eps, eps_inside_sqrt)), v, a


def rmsprop_momentum(p, g, v, b, *, lr, alpha, eps, momentum, share, eps_inside_sqrt=False, nesterov=False):
    v = alpha * v + (1 - alpha) * g**2
    move, b = coasted(g / root(v, eps, eps_inside_sqrt), b, momentum, share, nesterov)
    return p - lr * move, v, b


def centered_momentum(p, g, v, a, b, *, lr, alpha, eps, momentum, share, eps_inside_sqrt=False, nesterov=False):
    v, a, variance = moments(g, v, a, alpha)
    move, b = coasted(g / root(variance, eps, eps_inside_sqrt), b, momentum, share, nesterov)
    return p - lr * move, v, a, b


def moments(g, v, a, alpha):
    """The running means of g^2 and of g, and the variance; where rounding makes that negative it counts as 0."""
    v = alpha * v + (1 - alpha) * g**2
    a = a + (1 - alpha) * (g - a)
    return v, a, maximum(v - a**2, 0)


def coasted(r, b, momentum, share, nesterov):
    """What a step r becomes with momentum, and the buffer."""
    r = share * r
    b = momentum * b + r
    # r + momentum * b, in an order that needs one scratch array
    return (momentum * (r / momentum + b) if nesterov else b), b


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5 of "Neural networks for machine learning").

    With the gradient g, a step does::

        v <- alpha * v + (1 - alpha) * g^2
        a <- alpha * a + (1 - alpha) * g                 with centered: v - a^2, the variance, takes the place of v
        r = g / (sqrt(v) + eps)
        p <- p - lr * r                                  without momentum
        b <- momentum * b + r,  p <- p - lr * b          with momentum; with nesterov, p - lr * (r + momentum * b)

    This is PyTorch's form, but for Nesterov's, which PyTorch does not have. Lectures also write `r = g / sqrt(v + eps)`
    (`eps_inside_sqrt`), and `b <- momentum * b + lr * r, p <- p - b` (`lr_in_velocity`).

    Parameters
    ----------
    params, lr, weight_decay, eps, maximize, eps_inside_sqrt, nonfinite
        See `Optimizer`.
    alpha : float
        How slowly the running means forget, 0 or more, below 1 to make sense.
    momentum : float
        How much of the buffer is kept each step, 0 or more.
    centered : bool
        Divide by the root of the variance instead of the mean square (Graves 2013, "Generating sequences with recurrent
        neural networks", equations 38 to 41). Where rounding makes a variance negative it counts as 0; PyTorch's root
        is NaN there.
    nesterov : bool
        Nesterov's momentum, in the form that needs the gradient only where one stands. Needs momentum.
    lr_in_velocity : bool
        Whether the learning rate multiplies what enters the buffer, instead of the buffer; the two agree while the rate
        does not change.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    own_options = ("nesterov", "eps_inside_sqrt", "lr_in_velocity")
    checks: ClassVar = {"alpha": number(0), "centered": check_flag}
    buffer_names: ClassVar = {"v": "square_avg", "a": "grad_avg", "b": "momentum_buffer"}

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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and not group["momentum"]:
            raise ValueError(
                "RMSprop: nesterov=True with momentum=0; expected a momentum above 0, such as 0.9, to look ahead along."
            )

    def formula(self, group: dict[str, Any]) -> Formula:
        if group["momentum"]:
            return centered_momentum if group["centered"] else rmsprop_momentum
        return centered if group["centered"] else rmsprop

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        asked = {name: group[name] for name in ("lr", "alpha", "eps", "eps_inside_sqrt")}
        if not group["momentum"]:
            return asked
        rates = {"lr": 1, "share": group["lr"]} if group["lr_in_velocity"] else {"share": 1}
        return {**asked, "momentum": group["momentum"], "nesterov": group["nesterov"], **rates}
