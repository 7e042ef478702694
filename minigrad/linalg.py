"""Linear algebra with derivatives of any order, under NumPy's names: what stands in `minigrad.ops.linalg`."""

from minigrad.ops.linalg import *  # noqa: F403
from minigrad.ops.linalg import __all__ as __all__
