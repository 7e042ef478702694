"""Transforms: functions that take a function and return its derivative, or its form for many examples.

Read `trees` (arguments of any form) and `trace` (a function called once, as a graph), then `derivatives`: each of them
is a walk over that graph. `vectorization` has vmap, `jacobians` runs derivatives under it, `checkpointing` trades time
for memory. `linear_solve` and `iterative_solvers` differentiate solutions, and are public in `minigrad.linalg`.
"""

from minigrad.transforms.checkpointing import checkpoint, is_recomputing, surrounded_by
from minigrad.transforms.derivatives import ggn_vp, grad, hvp, jvp, linearize, value_and_grad, vjp
from minigrad.transforms.jacobians import hessian, jacobian
from minigrad.transforms.vectorization import all_examples, vmap

__all__ = [
    "all_examples",
    "checkpoint",
    "ggn_vp",
    "grad",
    "hessian",
    "hvp",
    "is_recomputing",
    "jacobian",
    "jvp",
    "linearize",
    "surrounded_by",
    "value_and_grad",
    "vjp",
    "vmap",
]


def __dir__() -> list[str]:
    return sorted(__all__)
