"""The unknowns as one flat vector, which is what every solver moves, whatever form the user gave them in.

Solvers work on a one-dimensional array, on the host or on a GPU. The user's function sees Tensors, or a tuple, list or
dict of them, in the form that `x0` had.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.backend import Array, is_array, namespace
from minigrad.transforms.trees import flatten, flatten_like


class Variables:
    """The form of `x0`, and the ways between it and a flat vector.

    start : (n,) array, the flat vector of `x0`, a copy; integers become float64
    size : n, the number of unknowns
    eps : the rounding unit of the coarsest of the dtypes in `x0`
    """

    def __init__(self, x0: Any, owner: str):
        if isinstance(x0, Number) or _only_numbers(x0):
            x0 = np.asarray(x0, dtype=float)
        if is_array(x0):
            x0 = namespace(x0).atleast_1d(x0)
        leaves, self.rebuild = flatten(x0)
        self.tree = x0
        self.as_tensors = all(isinstance(leaf, Tensor) for leaf in leaves)  # else the result holds arrays
        arrays = [_float_array(leaf, owner) for leaf in leaves]
        if not arrays or not sum(array.size for array in arrays):
            raise ValueError(f"{owner}: x0 holds no numbers; give the point to start from.")
        self.shapes = [array.shape for array in arrays]
        self.dtypes = [array.dtype for array in arrays]
        self.eps = max(float(np.finfo(dtype).eps) for dtype in self.dtypes)
        self.xp = namespace(arrays[0])
        self.start = self.xp.concatenate([array.reshape(-1) for array in arrays])
        self.size = self.start.size
        self.ends = np.cumsum([array.size for array in arrays]).tolist()

    def chunks(self, x: Any) -> list:
        """The flat vector, an array or a Tensor, cut into one chunk for each leaf."""
        if len(self.ends) == 1:
            return [x]
        return [x[begin:end] for begin, end in zip([0, *self.ends[:-1]], self.ends, strict=True)]

    def leaves(self, x: Array) -> list[Array]:
        """The arrays that the flat vector is made of, views of it where dtypes allow."""
        if len(self.ends) == 1:
            return [x.reshape(self.shapes[0])]
        parts = zip(self.chunks(x), self.shapes, self.dtypes, strict=True)
        return [chunk.reshape(shape).astype(dtype, copy=False) for chunk, shape, dtype in parts]

    def tensors(self, x: Array) -> Any:
        """What the user's function is called with: Tensors in the form of `x0`."""
        return self.rebuild([Tensor(array) for array in self.leaves(x)])

    def given(self, x: Array) -> Any:
        """A copy of a vector in the form of `x0`: arrays where it held arrays, Tensors where it held Tensors."""
        make = Tensor if self.as_tensors else lambda array: array
        return self.rebuild([make(array) for array in self.leaves(x.copy())])

    def flat(self, leaves: Sequence[Array | Tensor]) -> Array:
        """The flat vector of one array or Tensor for each leaf."""
        arrays = [leaf.data if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        if len(arrays) == 1:
            return arrays[0].reshape(-1)
        return self.xp.concatenate([array.reshape(-1) for array in arrays])

    def flat_of(self, tree: Any, what: str) -> Array:
        """The flat vector of what the user gave in the form of `x0`, as by `jac=`; an error if the form differs."""
        if _only_numbers(tree) or (len(self.shapes) == 1 and not isinstance(tree, (tuple, list, dict))):
            leaves = [tree]
        else:
            leaves = flatten_like(self.tree, tree, what)
        vector = self.flat([self.xp.asarray(leaf.data if isinstance(leaf, Tensor) else leaf) for leaf in leaves])
        if vector.size != self.size:
            raise ValueError(f"{what} holds {vector.size} numbers, expected {self.size}, one for each in x0.")
        return vector.astype(self.start.dtype, copy=False)

    def spread(self, value: Any, what: str) -> Array:
        """The flat vector of one number for all unknowns, or of something in the form of `x0`."""
        number = value.data if isinstance(value, Tensor) else value
        if not isinstance(number, (dict, tuple, list)) and getattr(number, "size", 1) == 1:
            number = float(number.item() if hasattr(number, "item") else number)
            return self.xp.full(self.size, number, dtype=self.start.dtype)
        return self.flat_of(value, what)


def _only_numbers(x0: Any) -> bool:
    """Whether it is a list or tuple of plain numbers, which SciPy takes for an array."""
    return isinstance(x0, (list, tuple)) and bool(x0) and all(isinstance(x, Number) for x in x0)


def _float_array(leaf: Any, owner: str) -> Array:
    array = leaf.data if isinstance(leaf, Tensor) else leaf
    if not is_array(array):
        array = np.asarray(array)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise TypeError(f"{owner}: x0 holds {array.dtype}; expected real numbers, arrays or Tensors of them.")
    return array
