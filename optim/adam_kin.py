"""Adam's kin: Adamax, NAdam and RAdam.

After this file you know what each changes about Adam: the root of the mean square into a largest value, the momentum
into Nesterov's, and the first steps into plain momentum until the variance can be told.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any, ClassVar

from .adaptive_updates import ADAMAX, NADAM, RADAM
from .optimizer import Optimizer, check_flag, check_number, check_pair
from .updates import Rule


class _WithBetas(Optimizer):
    """What the optimizers of this file share: the checks of their options, as far as they have them."""

    counts_steps = True

    def check(self, group: dict[str, Any]) -> None:
        for option in {"lr", "eps", "weight_decay", "momentum_decay"} & group.keys():
            check_number(self._name, option, group[option], 0)
        check_pair(self._name, "betas", group["betas"])
        if "decoupled_weight_decay" in group:
            check_flag(self._name, "decoupled_weight_decay", group["decoupled_weight_decay"])


class Adamax(_WithBetas):
    """AdaMax (Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 2): Adam by the largest.

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), step t does::

        m <- beta1 * m + (1 - beta1) * g                 u <- max(beta2 * u, |g| + eps)
        p <- p - lr / (1 - beta1^t) * m / u

    As in PyTorch, epsilon is added to |g|, against 0 / 0; the paper has none: `eps=0`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more: the most that a number moves in one step.
    betas : (float, float)
        How slowly m and u forget, each from 0 to below 1.
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

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, nonfinite=nonfinite)

    def rule(self, group: dict[str, Any]) -> Rule:
        return ADAMAX

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return group["lr"] / (1 - beta1**step), beta2, 1 - beta1, group["eps"]


class NAdam(_WithBetas):
    """NAdam (Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2 with the schedule of section 3.2).

    With Adam's m and v of the gradient g, step t does::

        mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2)               M_t = mu_1 * ... * mu_t
        n = mu_(t+1) / (1 - M_(t+1)) * m + (1 - mu_t) / (1 - M_t) * g
        p <- p - lr * n / (sqrt(v / (1 - beta2^t)) + eps)

    The product M is part of the state, so betas may change on the way.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    betas : (float, float)
        How slowly the running means of g and of g^2 forget, each from 0 to below 1.
    eps : float
        0 or more, outside of the root.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
    momentum_decay : float
        0 or more: how fast mu rises from half of beta1 to all of it.
    decoupled_weight_decay : bool
        Decay the parameters themselves instead, as `AdamW` does: `p <- (1 - lr * weight_decay) * p` first.
    maximize : bool
        Go uphill.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    carried: ClassVar = {"mu_product": 1.0}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
            nonfinite=nonfinite,
        )

    def rule(self, group: dict[str, Any]) -> Rule:
        return NADAM

    def numbers_carrying(self, group: dict[str, Any], step: int, carried: dict[str, float]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        mu, after = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = carried["mu_product"] = carried["mu_product"] * mu
        of_g, of_m = (1 - mu) / (1 - product), after / (1 - product * after)
        c2 = sqrt(1 - beta2**step)
        return group["lr"] * of_g * c2, of_m / of_g, beta2, 1 - beta1, 1 - beta2, c2 * group["eps"]


class RAdam(_WithBetas):
    """RAdam (Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", algorithm 2).

    With Adam's m and v of the gradient g, step t does::

        rho_max = 2 / (1 - beta2) - 1                    rho = rho_max - 2 * t * beta2^t / (1 - beta2^t)
        p <- p - lr * m / (1 - beta1^t)                                                          while rho <= 5
        p <- p - lr * r * m / (1 - beta1^t) * sqrt(1 - beta2^t) / (sqrt(v) + eps)                from then on
        r^2 = (rho - 4) (rho - 2) rho_max / ((rho_max - 4) (rho_max - 2) rho)

    As in PyTorch the threshold is 5, the paper's 4, and epsilon is added to the uncorrected root.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    betas : (float, float)
        How slowly the running means of g and of g^2 forget, each from 0 to below 1.
    eps : float
        0 or more.
    weight_decay : float
        0 or more; the gradient of `weight_decay / 2 * ||p||^2` is added to g.
    decoupled_weight_decay : bool
        Decay the parameters themselves instead, as `AdamW` does: `p <- (1 - lr * weight_decay) * p` first.
    maximize : bool
        Go uphill.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
            nonfinite=nonfinite,
        )

    def rule(self, group: dict[str, Any]) -> Rule:
        return RADAM

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float | None, ...]:
        beta1, beta2 = group["betas"]
        lr = group["lr"] / (1 - beta1**step)
        left = beta2**step
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * step * left / (1 - left)
        if rho <= 5:
            return lr, beta2, 1 - beta1, 1 - beta2, group["eps"], None
        rectified = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        return lr * rectified * sqrt(1 - left), beta2, 1 - beta1, 1 - beta2, group["eps"], 0
