"""Launches for many arrays at once: the struct `Tensors` of tensors.cuh, filled and launched.

What an optimizer does to a parameter takes microseconds, as long as it takes to launch it. So one launch takes as many
parameters as its arguments, 4,096 bytes, have room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu import launching
from minigrad.backend.gpu.launching import NULL, REALS, THREADS
from minigrad.backend.gpu.streams import address

ARGUMENTS = 4096 - 128  # bytes that a launch may have, less some for pointers and single numbers
PER_BLOCK = 1024  # elements of a block, as in tensors.cuh


def can_launch(array: Array) -> bool:
    """Whether kernels for many arrays take this one: its library compiles CUDA, and its memory has no gaps."""
    known = array.dtype.name in REALS and hasattr(namespace(array), "RawModule")
    return known and _without_gaps(array)


def order_of(array: Array) -> tuple[tuple[int, int], ...]:
    """How an array lies in memory: size and stride of each axis, but for axes of size 1, whose strides say nothing."""
    strides = array.strides  # type: ignore[attr-defined]
    return tuple((n, stride) for n, stride in zip(array.shape, strides, strict=True) if n != 1)


def _without_gaps(array: Array) -> bool:
    expected = array.dtype.itemsize
    for stride, n in sorted((stride, n) for n, stride in order_of(array)):
        if array.size and stride != expected:
            return False
        expected *= n
    return True


def in_order_of(array: Array, like: Array) -> Array:
    """The array with dtype and memory order of `like`, which has its shape: itself, or a copy made by one launch."""
    if array.dtype == like.dtype and order_of(array) == order_of(like):
        return array
    copy = namespace(like).empty_like(like)
    copy[...] = array
    return copy


@cache
def layout(arrays: int, others: int = 0) -> np.dtype:
    """The struct `Tensors` for tensors of so many arrays, beside `others` bytes of further arguments."""
    room = (ARGUMENTS - others - 16) // (8 * arrays + 12)
    parts = [("arrays", "u8", (arrays, room)), ("size", "i8", (room,)), ("first_block", "i4", (room,)), ("count", "i4")]
    return np.dtype(parts, align=True)


class Batch:
    """The tensors of one launch.

    Attributes
    ----------
    struct : 0-d array of `layout`
    blocks : int
        How many blocks the launch has.
    """

    def __init__(self, struct: np.dtype, sizes: Sequence[int]):
        self.struct: Any = np.zeros((), struct)
        self.count = len(sizes)
        blocks = np.cumsum([0, *(-(-size // PER_BLOCK) for size in sizes)])
        self.struct["size"][: self.count] = sizes
        self.struct["first_block"][: self.count] = blocks[:-1]
        self.struct["count"] = self.count
        self.blocks = int(blocks[-1])

    def point(self, place: int, arrays: Sequence[Array]) -> None:
        """Say where each tensor's array number `place` lies."""
        self.struct["arrays"][place, : self.count] = [address(array) for array in arrays]


def batches(struct: np.dtype, arrays: Sequence[Sequence[Array]]) -> list[Batch]:
    """As many batches as tensors need; `arrays[k]` lists the arrays number k of all of them."""
    room = struct["size"].shape[0]
    made = []
    for start in range(0, len(arrays[0]), room):
        members = slice(start, start + room)
        batch = Batch(struct, [array.size for array in arrays[0][members]])
        for place, each in enumerate(arrays):
            batch.point(place, each[members])
        made.append(batch)
    return made


def launch(file: str, entry: str, defines: str, like: Array, batch: Batch, *args: Any, empty: bool = False) -> None:
    """Run a kernel for a batch. None is a null pointer. Nothing to do launches nothing, unless `empty`."""
    if not batch.blocks and not empty:
        return
    kernel = compiled(namespace(like), file, defines, like.dtype.name, entry)
    with like.device:
        kernel((max(1, batch.blocks),), (THREADS,), (batch.struct, *(NULL if arg is None else arg for arg in args)))


@cache
def compiled(xp: Any, file: str, defines: str, dtype: str, entry: str) -> Any:
    """The kernel `entry` of a file, with definitions in front of it, for a dtype."""
    return _module(xp, file, defines, dtype).get_function(entry)


@cache
def _module(xp: Any, file: str, defines: str, dtype: str) -> Any:
    code = defines + launching.text_of(file)
    return xp.RawModule(code=code, options=launching.options_for(dtype), backend="nvrtc")


def defined(**values: Any) -> str:
    """`#define NAME value`, a line each."""
    return "".join(f"#define {name} {value}\n" for name, value in values.items())
