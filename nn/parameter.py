"""Parameter: a tensor that belongs to a module and is trained.

A parameter is a leaf tensor and nothing more: its class tells a Module, on assignment, to register it.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import Tensor


class Parameter(Tensor):
    """A leaf tensor that a Module registers on assignment and an optimizer trains.

    Parameters
    ----------
    data : Tensor, array, or numbers
        Shares memory with a Tensor or array, so give each parameter one of its own.
    requires_grad : bool
        False for a frozen parameter.

    Raises
    ------
    TypeError
        For integers or bools with requires_grad=True.
    """

    __slots__ = ()

    def __init__(self, data: ArrayLike, requires_grad: bool = True):
        super().__init__(mg.as_tensor(data).data)
        self.requires_grad_(requires_grad)

    def _assigned(self, result: Tensor) -> Tensor:
        # A frozen parameter is a place as well, as those of an average of models are: `p *= 0.9` writes to it.
        return super()._assigned(result) if self.requires_grad or result.requires_grad else self.copy_(result)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"
