"""The errors of minigrad: ShapeError is a ValueError, GradientError and DeviceError are RuntimeErrors."""

from __future__ import annotations

import numpy as np


class ShapeError(ValueError):
    """Shapes that do not fit; the message gives them, what was expected, and what to do."""


class AxisError(ShapeError, np.exceptions.AxisError):
    """An axis that a tensor does not have. It can be caught as NumPy's AxisError and as an IndexError too."""

    def __init__(self, message: str):
        ValueError.__init__(self, message)

    __str__ = ValueError.__str__


class GradientError(RuntimeError):
    """A derivative that cannot be had: no rule, a freed graph, an array changed since it was saved."""


TAKEN_OUT_IN_A_RULE = (
    "a derivative rule that is being recorded took numbers out of a tensor, by float(), item(), numpy(), tolist() or "
    "a function of Python's math: the next derivative would lose this term in silence. Use ops in the rule, on the "
    "Tensor itself; where a constant is meant say x.detach() first."
)
