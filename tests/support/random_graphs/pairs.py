"""What is to be expected of a tensor: a `Pair` of it and the naive engine's Value, and how pairs lead to each other.

This is all that the machine keeps in mind while a random graph grows.
"""

from dataclasses import dataclass, field

import numpy as np

import minigrad as mg
from tests.support.naive_engine import Value

TOLERANCE = 1e-11  # relative to the largest number in the pass; seen: 1e-14


@dataclass(eq=False, repr=False)
class Pair:
    """A tensor of minigrad and the Value that it should be, with what else is to be expected of it.

    parents : the pairs it was computed from; none for a leaf, and for what was computed unrecorded
    tracked : whether gradients flow to it; None where that is minigrad's own business (is a zero gradient recorded?)
    order : how often one differentiated on the way to it
    needs_values : whether the way back through it needs its arguments' values, so that these must not be overwritten
    memory_of : the pair in whose memory it may lie, if it is a view
    grad, keeps_grad : what `.grad` should hold, and whether it should hold anything
    freed, stale : whether its saved values were freed by a backward pass, or overwritten
    hooks : (handle, factor, what the hook saw)
    versions : the Values of a leaf before it was overwritten, and the present one
    """

    name: str
    tensor: mg.Tensor
    value: Value
    parents: tuple = ()
    tracked: bool | None = False
    order: int = 0
    needs_values: bool = True
    memory_of: "Pair | None" = None
    grad: np.ndarray | None = None
    keeps_grad: bool = False
    freed: bool = False
    stale: bool = False
    hooks: list = field(default_factory=list)

    def __post_init__(self):
        self.versions = [self.value]
        self.before = self.tensor.data.copy()

    def __repr__(self):
        return f"{self.name}{list(self.shape)}"

    def _repr_pretty_(self, printer, cycle):
        printer.text(repr(self))  # hypothesis would write out all fields

    @property
    def shape(self):
        return self.value.shape

    @property
    def broken(self):
        return any(pair.freed or pair.stale for pair in ancestors([self]))

    def within(self, found):
        """What a pass of the naive engine found for this pair; None where it did not come by."""
        parts = [found[value] for value in self.versions if value in found]
        return sum(parts[1:], parts[0]) if parts else None


def ancestors(pairs):
    found, stack = set(pairs), list(pairs)
    while stack:
        new = set(stack.pop().parents) - found
        found |= new
        stack += new
    return found


def between(inputs, outputs):
    """The pairs that a walk from `outputs` to `inputs` goes through."""
    return {pair for pair in ancestors(outputs) if ancestors(pair.parents) & set(inputs)}


def close(found, expected, size, what):
    found = found.detach().numpy() if isinstance(found, mg.Tensor) else np.zeros(np.shape(expected))
    assert found.shape == np.shape(expected), f"{what}: shape {found.shape}, expected {np.shape(expected)}"
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * size, err_msg=what)


def largest_in(values):
    return max((np.abs(value.data).max(initial=0) for value in values), default=0)
