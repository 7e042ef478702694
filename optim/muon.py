"""Muon: momentum whose step has all its singular values near 1.

After this file you know how a matrix is orthogonalised by matrix products alone, and how a rule that is not elementwise
is told to the optimizers: `kernel=None`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import sqrt
from typing import Any

from minigrad.backend import Array

from .optimizer import Optimizer
from .options import check_flag, check_number
from .updates import Rule

ADJUSTMENTS = {
    "original": lambda rows, columns: sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * sqrt(max(rows, columns)),
}
"""By what the learning rate of a (rows, columns) matrix is multiplied."""


def orthogonalized(xp: Any, g: Array, steps: int, a: Any, b: Any, c: Any, eps: Any) -> Array:
    """About U V^T of the singular value decomposition g = U S V^T, shape (m, n), by Newton-Schulz's iteration.

    Each step maps every singular value s to `a s + b s^3 + c s^5`. The coefficients of Muon are chosen for steepness at
    0 instead of convergence to 1: after five steps values from 0.01 of g's norm on are within about 0.7 and 1.2.
    """
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / xp.maximum(xp.sqrt((x * x).sum()), eps)  # the norm is at least the largest singular value
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


@cache
def rule_of(nesterov: bool, steps: int, adjustment: str) -> Rule:
    """Muon's rule; what is no number at each step is part of it."""
    scale = ADJUSTMENTS[adjustment]

    def body(xp, d, g, lr, momentum, gain, a, b, c, eps, buffer):
        xp.subtract(g, buffer, out=d)
        d *= gain
        buffer += d
        if nesterov:
            xp.subtract(buffer, g, out=d)
            d *= momentum
            d += g
        else:
            d[...] = buffer
        if d.size:
            d[...] = orthogonalized(xp, d, steps, a, b, c, eps)
        d *= lr
        d *= scale(*d.shape)

    numbers = ("lr", "momentum", "gain", "a", "b", "c", "eps")
    return Rule("muon", ("momentum_buffer",), numbers, body, kernel=None)


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").

    With the gradient g of a matrix p (`-g` to maximize), a step does::

        b <- momentum * b + (1 - momentum) * g
        u = momentum * b + (1 - momentum) * g            without nesterov, u = b
        p <- (1 - lr * weight_decay) * p - lr * sqrt(max(1, rows / columns)) * NS(u)

    where NS divides u by its norm and applies `ns_steps` times `X <- a X + b (X X^T) X + c (X X^T)^2 X`, which brings
    all singular values near 1: directions that are rare in the gradients count as much as frequent ones.

    For the weights of hidden layers; biases, gains, embeddings and the last layer are for another optimizer, such as
    `AdamW`. Names and defaults are PyTorch's, but the iteration is done in the parameters' dtype, where PyTorch's is in
    bfloat16 whatever that is.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize, matrices all: see `Optimizer`.
    lr : float
        The learning rate, 0 or more.
    weight_decay : float
        0 or more, decoupled; scaled by `lr` without its adjustment.
    momentum : float
        From 0 to 1.
    nesterov : bool
        Mix the gradient into the mean once more.
    ns_coefficients : (float, float, float)
        a, b, c.
    eps : float
        The least that u is divided by.
    ns_steps : int
        1 to 99.
    adjust_lr_fn : {"original", "match_rms_adamw"} or None
        What the rate of a matrix is multiplied by: sqrt(max(1, rows / columns)), as in the formula (None too), or
        0.2 sqrt(max(rows, columns)), with which a step is as large as AdamW's (Liu et al. 2025, "Muon is scalable for
        LLM training").
    maximize : bool
        Go uphill.
    nonfinite : {"pass", "skip", "raise"}
        What to do about a NaN or an infinity among the gradients, see `Optimizer`.

    Raises
    ------
    ValueError
        A parameter that is no matrix; an option out of range.
    TypeError
        An option of the wrong type.
    """

    decoupled = True
    own_options = ("maximize",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        maximize: bool = False,
        nonfinite: str = "pass",
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_coefficients": ns_coefficients,
                "eps": eps,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
                "maximize": maximize,
            },
            nonfinite=nonfinite,
        )

    def check(self, group: dict[str, Any]) -> None:
        for i, p in enumerate(group["params"]):
            if p.ndim != 2:
                raise ValueError(
                    f"Muon: parameter {i} of a group has shape {p.shape}; expected matrices. Give biases, embeddings "
                    "and filters to another optimizer, such as AdamW."
                )
        for name in ("lr", "weight_decay", "eps"):
            check_number("Muon", name, group[name], 0)
        check_number("Muon", "momentum", group["momentum"], 0, 1)
        check_flag("Muon", "nesterov", group["nesterov"])
        coefficients, steps = group["ns_coefficients"], group["ns_steps"]
        if not isinstance(coefficients, (tuple, list)) or len(coefficients) != 3:
            raise TypeError(f"Muon: ns_coefficients must be three numbers, got {coefficients!r}.")
        for i, number in enumerate(coefficients):
            check_number("Muon", f"ns_coefficients[{i}]", number, float("-inf"))
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise TypeError(f"Muon: ns_steps must be an int, got {steps!r}.")
        if not 1 <= steps < 100:
            raise ValueError(f"Muon: ns_steps={steps}; expected from 1 to 99.")
        if group["adjust_lr_fn"] not in (None, *ADJUSTMENTS):
            expected = ", ".join(map(repr, ADJUSTMENTS))
            raise ValueError(f"Muon: adjust_lr_fn={group['adjust_lr_fn']!r}; expected None or one of {expected}.")

    def rule(self, group: dict[str, Any]) -> Rule:
        return rule_of(bool(group["nesterov"]), group["ns_steps"], group["adjust_lr_fn"] or "original")

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float, ...]:
        return group["lr"], group["momentum"], 1 - group["momentum"], *group["ns_coefficients"], group["eps"]
