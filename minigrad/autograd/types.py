"""The words of signatures: what a caller passes to an op, and what a Tensor's methods take.

Given Tensors, an op gives a Tensor; given arrays alone, as by the rules of an ordinary backward pass, an array.
Inside of a primitive's forward all operands are arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import DTypeLike

from minigrad.backend import Array, Operand

if TYPE_CHECKING:
    from minigrad.autograd.tensor import Tensor

__all__ = ["Axis", "DTypeLike", "Index", "Indices", "Operand", "Pair", "Shape", "TensorLike"]

TensorLike: TypeAlias = "Tensor | Array"
"""A Tensor, or an array that is treated as one without a gradient. An `Operand` may be a Python number too."""

Axis: TypeAlias = int | tuple[int, ...] | None
"""One axis, several, or None for all; negative ones count from the end."""

Shape: TypeAlias = int | Sequence[int]
"""The sizes of the axes; a single int is the size of a single axis."""

Pair: TypeAlias = int | Sequence[int]
"""One number for height and width, or one for each."""

Indices: TypeAlias = "int | Sequence[int] | Tensor | Array"
"""Integers that name places along an axis."""

Index: TypeAlias = "int | slice | EllipsisType | Tensor | Array | Sequence[Any] | None"
"""What may stand in the brackets of x[...]: ints, slices, `...`, None, arrays of ints or bools, or a tuple of these."""
