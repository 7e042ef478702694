"""The update rules themselves: what one step does to the numbers, for NumPy and for CuPy.

Every rule stands here twice, side by side. `body` works on arrays: it turns the gradient g into the step d that will
be subtracted from the parameter, writing only into d and the rule's own buffers, so that nothing is allocated; it
uses nothing but operators and ufuncs, and so runs on any array library. `kernel` is the same as the text of one fused
CuPy kernel: on a GPU the memory is read once instead of once an operation. After this file you know what SGD, momentum
and Nesterov's forms compute (`adaptive_updates.py` has the rules that scale each number's step), and nothing about how
parameters are walked through (`pieces.py`) or what options mean (`sgd.py`, `momentum.py`).

All rules share what happens around them: `g -> pull * p + g` before (weight decay coupled to the gradient; with
`- g` to maximise), `p -> keep * p` (weight decay decoupled from it), and `p -> p - d` after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from minigrad.backend import Array


@dataclass(frozen=True)
class Rule:
    """One update rule.

    `buffers` names the arrays it keeps for each parameter, `numbers` the coefficients it is given at each step (None
    for a factor of 1 that need not be multiplied by); the body is called as `body(xp, d, g, *numbers, *buffers)`,
    followed by as many scratch arrays like d as `spare` says, and the kernel knows all by these names, and the
    parameter as p. A rule whose `kernel` is None is not elementwise: its body is given every parameter by itself, in
    its shape, on every device.
    """

    name: str
    buffers: tuple[str, ...]
    numbers: tuple[str, ...]
    body: Callable[..., None]
    kernel: str | None
    spare: int = 0


def sgd(xp, d, g, lr):
    xp.multiply(g, lr, out=d)


def momentum(xp, d, g, lr, mu, gain, buffer):
    buffer *= mu
    if gain is None:
        buffer += g
    else:
        xp.multiply(g, gain, out=d)
        buffer += d
    xp.multiply(buffer, lr, out=d)


def nesterov(xp, d, g, lr, mu, gain, buffer):
    buffer *= mu
    if gain is None:
        buffer += g
        xp.multiply(buffer, mu, out=d)
        d += g
    else:  # wanted: gain * g + mu * buffer. In this order it takes no second scratch array.
        xp.multiply(g, gain, out=d)
        buffer += d
        d /= mu
        d += buffer
        d *= mu
    d *= lr


def running_ahead(xp, d, g, lr, mu, ahead):
    """For x = y + ahead, the gradient at x: y moves to x - lr * g, and x to mu times that move further."""
    xp.multiply(g, lr, out=d)
    ahead -= d
    ahead *= mu
    d -= ahead


def looking_ahead(xp, d, g, lr, mu, ahead):
    """The same seen from y, with p moved to y + ahead for the gradient: y moves to p - lr * g."""
    xp.multiply(g, lr, out=d)
    ahead -= d
    ahead *= mu


SGD = Rule("sgd", (), ("lr",), sgd, "p -= lr * g;")
MOMENTUM = Rule(
    "momentum",
    ("momentum_buffer",),
    ("lr", "mu", "gain"),
    momentum,
    "momentum_buffer = mu * momentum_buffer + gain * g; p -= lr * momentum_buffer;",
)
NESTEROV = Rule(
    "nesterov",
    ("momentum_buffer",),
    ("lr", "mu", "gain"),
    nesterov,
    "momentum_buffer = mu * momentum_buffer + gain * g; p -= lr * (gain * g + mu * momentum_buffer);",
)
RUNNING_AHEAD = Rule(
    "running_ahead", ("ahead",), ("lr", "mu"), running_ahead, "ahead = mu * (ahead - lr * g); p -= lr * g - ahead;"
)
LOOKING_AHEAD = Rule(
    "looking_ahead", ("ahead",), ("lr", "mu"), looking_ahead, "ahead = mu * (ahead - lr * g); p -= lr * g;"
)


@dataclass(frozen=True)
class Around:
    """What is done around a rule: `g -> pull * p + g` (or `- g`), and `p -> keep * p`. None: nothing to do."""

    maximize: bool
    pull: Any
    keep: Any

    def gradient(self, xp: Any, scratch: Array, p: Array, g: Array) -> Array:
        """The gradient that the rule is given; in `scratch` if anything was done to it."""
        if self.pull is not None:
            xp.multiply(p, self.pull, out=scratch)
            return xp.subtract(scratch, g, out=scratch) if self.maximize else xp.add(scratch, g, out=scratch)
        return xp.negative(g, out=scratch) if self.maximize else g


def numbers_for(dtype: np.dtype, numbers: tuple[float | None, ...]) -> tuple[np.ndarray | None, ...]:
    """Coefficients as 0-d arrays: a ufunc call takes 0.2 us with one, 0.5 us with a Python float (timeit, 16x16)."""
    return tuple(None if number is None else np.array(number, dtype) for number in numbers)


@cache
def cuda_kernel(rule: Rule) -> Callable[..., Any]:
    """The rule as one fused kernel: `kernel(g, *numbers, sign, pull, keep, p, *buffers)` changes p and the buffers."""
    import cupy

    inputs, outputs, operation = cuda_text(rule)
    typed = [", ".join(f"T {name}" for name in names) for names in (inputs, outputs)]
    return cupy.ElementwiseKernel(*typed, operation, name=f"minigrad_{rule.name}")


def cuda_text(rule: Rule) -> tuple[list[str], list[str], str]:
    """Inputs, what is changed, and the CUDA statements that one element's update is made of."""
    inputs = ["gradient", *rule.numbers, "sign", "pull", "keep"]
    return inputs, ["p", *rule.buffers], f"T g = sign * gradient + pull * p; p *= keep; {rule.kernel}"
