"""Adam and AdamW: steps scaled for each number by running means of the gradient and of its square.

The forms in which Adam is written (with and without the correction of its bias, epsilon inside or outside of the root,
decay coupled or not) are options.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from numpy import maximum

from ._update import Formula, root
from .optimizer import Optimizer
from .options import check_flag, options_of


def adam(p, g, m, v, *, lr, beta1, beta2, eps, eps_inside_sqrt=False):  # Kingma & Ba 2015, algorithm 1
    m, v = moments(g, m, v, beta1, beta2)
    return p - lr * (m / root(v, eps, eps_inside_sqrt)), m, v


def amsgrad(p, g, m, v, largest, *, lr, beta1, beta2, eps, eps_inside_sqrt=False):  # Reddi et al. 2018, algorithm 2
    m, v = moments(g, m, v, beta1, beta2)
    largest = maximum(largest, v)
    return p - lr * (m / root(largest, eps, eps_inside_sqrt)), m, v, largest


def moments(g, m, v, beta1, beta2):
    """The running means of g and of g^2."""
    return m + (1 - beta1) * (g - m), beta2 * v + (1 - beta2) * g**2


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1).

    With the gradient g, step t does::

        m <- beta1 * m + (1 - beta1) * g                 v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Epsilon stands outside of the root and is added after the correction of the bias, as in algorithm 1 and in PyTorch.
    (The shorter form at the end of section 2 of the paper adds it to the uncorrected root: its epsilon-hat is ours
    times sqrt(1 - beta2^t).) `eps_inside_sqrt` gives the other form that is taught, `sqrt(v / (1 - beta2^t) + eps)`.

    Parameters
    ----------
    params, maximize, nonfinite
        See `Optimizer`.
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
    decoupled_weight_decay : bool
        Decay the parameters themselves, which makes this `AdamW`.
    bias_correction : bool
        False leaves out both divisions by `1 - beta^t`: m and v begin at 0 and are taken as they are, so that the first
        steps are larger, by (1 - beta1) / sqrt(1 - beta2), 3.2 with the default betas, and the mean takes some
        1 / (1 - beta2) steps to be one.
    eps_inside_sqrt : bool
        Add epsilon to v under the root. It then is of the size of g^2: 1e-16 there does what 1e-8 does outside.

    Raises
    ------
    ValueError, TypeError
        An option out of range, or not a number.
    """

    counts_steps = True
    # The last is PyTorch's, but states of some age lack it.
    own_options = ("bias_correction", "eps_inside_sqrt", "decoupled_weight_decay")
    checks: ClassVar = {"amsgrad": check_flag, "bias_correction": check_flag}
    buffer_names: ClassVar = {"m": "exp_avg", "v": "exp_avg_sq", "largest": "max_exp_avg_sq"}

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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def formula(self, group: dict[str, Any]) -> Formula:
        return amsgrad if group["amsgrad"] else adam

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        (beta1, beta2), lr, eps, inside = group["betas"], group["lr"], group["eps"], group["eps_inside_sqrt"]
        if group["bias_correction"]:
            # lr * m / c1 / (sqrt(v) / c2 + eps) = (lr * c2 / c1) * m / (sqrt(v) + c2 * eps): two passes fewer.
            c2 = math.sqrt(1 - beta2**step)
            lr, eps = lr * c2 / (1 - beta1**step), (c2 * c2 if inside else c2) * eps
        return {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "eps_inside_sqrt": inside}


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
        super().__init__(params, **options_of(locals()), decoupled_weight_decay=True, nonfinite=nonfinite)
