"""The errors of minigrad: ShapeError is a ValueError, GradientError and DeviceError are RuntimeErrors."""

from __future__ import annotations


class ShapeError(ValueError):
    """Shapes that do not fit; the message gives them, what was expected, and what to do."""


class GradientError(RuntimeError):
    """A derivative that cannot be had: no rule, a freed graph, an array changed since it was saved."""


TAKEN_OUT_IN_A_RULE = (
    "a derivative rule that is being recorded took numbers out of a tensor, by float(), item(), numpy(), tolist() or "
    "a function of Python's math: the next derivative would lose this term in silence. Use ops in the rule, on the "
    "Tensor itself; where a constant is meant say x.detach() first."
)
