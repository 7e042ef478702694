"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any, ClassVar

from .adaptive_updates import NADAM
from .optimizer import Optimizer
from .options import check_flag, check_number, check_pair
from .updates import Rule


class NAdam(Optimizer):
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

    counts_steps = True
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

    def check(self, group: dict[str, Any]) -> None:
        for option in ("lr", "eps", "weight_decay", "momentum_decay"):
            check_number("NAdam", option, group[option], 0)
        check_pair("NAdam", "betas", group["betas"])
        check_flag("NAdam", "decoupled_weight_decay", group["decoupled_weight_decay"])

    def rule(self, group: dict[str, Any]) -> Rule:
        return NADAM

    def numbers_carrying(self, group: dict[str, Any], step: int, carried: dict[str, float]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        mu, after = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        product = carried["mu_product"] = carried["mu_product"] * mu
        of_g, of_m = (1 - mu) / (1 - product), after / (1 - product * after)
        c2 = sqrt(1 - beta2**step)
        return group["lr"] * of_g * c2, of_m / of_g, beta2, 1 - beta1, 1 - beta2, c2 * group["eps"]
