"""Formulas: what one step of an optimizer does to a parameter, as the paper has it.

    def adam(p, g, m, v, *, lr, beta1, beta2, eps):
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g**2
        return p - lr * (m / (sqrt(v) + eps)), m, v

A formula takes the parameter p, its gradient g and the buffers kept for it, and returns what the parameter and the
buffers become. Keywords without a default are coefficients, numbers that may change at every step; keywords with a
default choose between forms. On arrays a formula is an ordinary function. On the symbols of `tape.py` it is traced.

Weight decay and `maximize` are formulas around a formula.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple

from numpy import sqrt

Formula = Callable[..., Any]


class Arguments(NamedTuple):
    """The names of a formula's arguments besides p and g."""

    buffers: tuple[str, ...]
    coefficients: tuple[str, ...]
    choices: dict[str, Any]
    """With their defaults."""


@lru_cache(maxsize=1024)
def arguments(formula: Formula) -> Arguments:
    """What a formula takes besides p and g; of a formula around another, what both take."""
    inner = getattr(formula, "__wrapped__", None)
    buffers, coefficients, choices = arguments(inner) if inner is not None else Arguments((), (), {})
    own = list(inspect.signature(formula, follow_wrapped=False).parameters.values())
    keywords = [a for a in own if a.kind is a.KEYWORD_ONLY]
    return Arguments(
        (*buffers, *(a.name for a in own[2:] if a.kind is a.POSITIONAL_OR_KEYWORD)),
        (*coefficients, *(a.name for a in keywords if a.default is a.empty)),
        {**choices, **{a.name: a.default for a in keywords if a.default is not a.empty}},
    )


# --- formulas around a formula ---


@lru_cache(maxsize=1024)
def climbing(formula: Formula) -> Formula:
    """The formula that goes uphill: `maximize`."""

    @wraps(formula)
    def uphill(p, g, *buffers, **keywords):
        return formula(p, -g, *buffers, **keywords)

    return uphill


@lru_cache(maxsize=1024)
def with_weight_decay(formula: Formula) -> Formula:
    """Weight decay coupled to the gradient: the gradient of `weight_decay / 2 * ||p||^2` is added to g."""

    @wraps(formula)
    def decayed(p, g, *buffers, weight_decay, **keywords):
        return formula(p, g + weight_decay * p, *buffers, **keywords)

    return decayed


@lru_cache(maxsize=1024)
def with_decoupled_decay(formula: Formula) -> Formula:
    """Weight decay decoupled from the gradient: the parameter is multiplied by a decay factor first."""

    @wraps(formula)
    def decayed(p, g, *buffers, decay_factor, **keywords):
        return formula(decay_factor * p, g, *buffers, **keywords)

    return decayed


# --- what several formulas say ---


def root(v: Any, eps: Any, inside: bool) -> Any:
    """The root of a mean of squares, with epsilon outside of it, or `inside`: papers, lectures and libraries differ."""
    return sqrt(v + eps) if inside else sqrt(v) + eps
