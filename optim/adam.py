"""Adam and AdamW: steps scaled for each number by running means of the gradient and of its square.

After this file you know the forms in which Adam is written (with and without the correction of its bias, epsilon
inside or outside of the root, decay coupled or not), and which option gives which; `adam_kin.py` has its descendants.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

from .adaptive_updates import adam
from .optimizer import Optimizer
from .options import check_flag, check_number, check_pair
from .updates import Rule


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1).

    With the gradient g (`g + weight_decay * p` where there is weight decay, `-g` to maximize), step t does::

        m <- beta1 * m + (1 - beta1) * g                 v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Epsilon stands outside of the root and is added after the correction of the bias, as in algorithm 1 and in PyTorch.
    (The shorter form at the end of section 2 of the paper adds it to the uncorrected root: its epsilon-hat is ours
    times sqrt(1 - beta2^t).) `eps_inside_sqrt` gives the other form that is taught, `sqrt(v / (1 - beta2^t) + eps)`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, see `Optimizer`.
    lr : float
        The learning rate, 0 or more: about the most that a number moves in one step.
    betas : (float, float)
        How slowly the running means of g and of g^2 forget, each from 0 to below 1.
    eps : float
        0 or more.
    weight_decay : float
        0 or more; coupled: the gradient of `weight_decay / 2 * ||p||^2` is added to g, and so is scaled like the rest.
        `AdamW` decays the parameters instead.
    amsgrad : bool
        Divide by the root of the largest v so far (Reddi, Kale & Kumar 2018, "On the convergence of Adam and beyond").
        As in PyTorch the largest uncorrected v is kept, and its bias corrected when it is used; the paper corrects
        none: `bias_correction=False`.
    maximize : bool
        Go uphill.
    decoupled_weight_decay : bool
        Decay the parameters themselves, which makes this `AdamW`.
    bias_correction : bool
        False leaves out both divisions by `1 - beta^t`: m and v begin at 0 and are taken as they are, so that the first
        steps are larger, by (1 - beta1) / sqrt(1 - beta2), 3.2 with the default betas, and the mean takes some
        1 / (1 - beta2) steps to be one.
    eps_inside_sqrt : bool
        Add epsilon to v under the root. It then is of the size of g^2: 1e-16 there does what 1e-8 does outside.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    # The last is PyTorch's, but states of some age lack it.
    own_options = ("bias_correction", "eps_inside_sqrt", "decoupled_weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        eps_inside_sqrt: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
                "bias_correction": bias_correction,
                "eps_inside_sqrt": eps_inside_sqrt,
            },
            nonfinite=nonfinite,
        )

    def check(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        for option in ("lr", "eps", "weight_decay"):
            check_number(name, option, group[option], 0)
        check_pair(name, "betas", group["betas"])
        for option in ("amsgrad", "decoupled_weight_decay", "bias_correction", "eps_inside_sqrt"):
            check_flag(name, option, group[option])

    def rule(self, group: dict[str, Any]) -> Rule:
        return adam(bool(group["amsgrad"]), bool(group["eps_inside_sqrt"]))

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        (beta1, beta2), lr, eps = group["betas"], group["lr"], group["eps"]
        if not group["bias_correction"]:
            return lr, beta2, 1 - beta1, 1 - beta2, eps
        # lr * m / c1 / (sqrt(v) / c2 + eps) = (lr * c2 / c1) * m / (sqrt(v) + c2 * eps): two passes fewer.
        c2 = sqrt(1 - beta2**step)
        share = c2 * c2 if group["eps_inside_sqrt"] else c2
        return lr * c2 / (1 - beta1**step), beta2, 1 - beta1, 1 - beta2, share * eps


class AdamW(Adam):
    """Adam with weight decay decoupled from the gradient.

    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2: first
    `p <- p - lr * weight_decay * p`, then Adam's step. As in PyTorch the decay is scaled by the learning rate of the
    moment, where the paper scales it by the schedule alone.

    Parameters and errors as for `Adam`; `weight_decay` is 0.01 unless given.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        eps_inside_sqrt: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            bias_correction=bias_correction,
            eps_inside_sqrt=eps_inside_sqrt,
            nonfinite=nonfinite,
        )
