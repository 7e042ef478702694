"""Dropout (Srivastava et al. 2014): in training each element is dropped with probability p.

After this file you know why nothing has to be rescaled in evaluation: what is kept is divided by 1 - p already in
training ("inverted" dropout), so that the expectation is the same in both modes.
"""

from __future__ import annotations

import minigrad as mg
from minigrad import Tensor
from minigrad.nn.module import Module


class Dropout(Module):
    """Each element zero with probability p, the others divided by 1 - p; in evaluation the identity.

    Parameters
    ----------
    p : float
        From 0 to 1.
    inplace : bool
        Taken for PyTorch's sake; the result is a new tensor always.

    Raises
    ------
    ValueError
        For p outside of [0, 1].
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p={p}; the probability of dropping an element lies between 0 and 1.")
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        return mg.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
