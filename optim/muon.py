"""Muon: momentum whose step has all its singular values near 1, by matrix products alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any, ClassVar

from minigrad.backend import Array, namespace

from ._update import Formula
from .optimizer import Optimizer
from .options import check_number, number, options_of

ADJUSTMENTS: dict[str | None, Callable[[int, int], float]] = {
    None: lambda rows, columns: sqrt(max(1, rows / columns)),
    "original": lambda rows, columns: sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * sqrt(max(rows, columns)),
}
"""By what the learning rate of a (rows, columns) matrix is multiplied."""


def orthogonalized(g: Array, steps: int, coefficients: Sequence[float], eps: float) -> Array:
    """About U V^T of the singular value decomposition g = U S V^T, shape (m, n), by Newton-Schulz's iteration.

    Each step maps every singular value s to `a s + b s^3 + c s^5`. The coefficients of Muon are chosen for steepness at
    0 instead of convergence to 1: after five steps values from 0.01 of g's norm on are within about 0.7 and 1.2.
    """
    xp, (a, b, c) = namespace(g), coefficients
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / xp.maximum(xp.sqrt((x * x).sum()), eps)  # the norm is at least the largest singular value
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def muon(p, g, b, *, lr, momentum, ns_coefficients, eps, nesterov=True, ns_steps=5, adjust_lr_fn=None):
    """Jordan et al. 2024, on whole matrices."""
    b = b + (1 - momentum) * (g - b)
    u = momentum * (b - g) + g if nesterov else b
    if u.size:
        u = orthogonalized(u, ns_steps, ns_coefficients, eps)
    return p - ADJUSTMENTS[adjust_lr_fn](*p.shape) * (lr * u), b


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").

    With the gradient g of a matrix p, a step does::

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
    lr, maximize, nonfinite
        See `Optimizer`.
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

    Raises
    ------
    ValueError
        A parameter that is no matrix; an option out of range.
    TypeError
        An option of the wrong type.
    """

    decoupled = True
    elementwise = False
    checks: ClassVar = {"momentum": number(0, 1)}
    buffer_names: ClassVar = {"b": "momentum_buffer"}
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
        super().__init__(params, options_of(locals()), nonfinite=nonfinite)

    def check(self, group: dict[str, Any]) -> None:
        for i, p in enumerate(group["params"]):
            if p.ndim != 2:
                raise ValueError(
                    f"Muon: parameter {i} of a group has shape {p.shape}; expected matrices. Give biases, embeddings "
                    "and filters to another optimizer, such as AdamW."
                )
        super().check(group)
        coefficients, steps = group["ns_coefficients"], group["ns_steps"]
        if not isinstance(coefficients, (tuple, list)) or len(coefficients) != 3:
            raise TypeError(f"Muon: ns_coefficients must be three numbers, got {coefficients!r}.")
        for i, coefficient in enumerate(coefficients):
            check_number("Muon", f"ns_coefficients[{i}]", coefficient, float("-inf"))
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise TypeError(f"Muon: ns_steps must be an int, got {steps!r}.")
        if not 1 <= steps < 100:
            raise ValueError(f"Muon: ns_steps={steps}; expected from 1 to 99.")
        chosen = group["adjust_lr_fn"]
        if not isinstance(chosen, (str, type(None))) or chosen not in ADJUSTMENTS:
            expected = ", ".join(map(repr, ADJUSTMENTS))
            raise ValueError(f"Muon: adjust_lr_fn={chosen!r}; expected one of {expected}.")

    def formula(self, group: dict[str, Any]) -> Formula:
        return muon
