"""Names for what ops take, as signatures show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from minigrad.autograd.tensor import Tensor

Operand: TypeAlias = "Tensor | Any"
"""What an op computes with: a Tensor, an array of a backend, or a number."""

Axis: TypeAlias = "int | tuple[int, ...] | None"
"""One axis, several, or None for all; negative numbers count from the last."""

Shape: TypeAlias = "int | Sequence[int]"
"""The length of each axis; an int for a single one."""

Index: TypeAlias = "Tensor | Any"
"""Whole numbers that name elements: a Tensor or array of integers, or an int."""
