"""Where the windows of a pooling lie: how many there are, where each begins, and how far they reach over the border.

After this file you know PyTorch's rules for windows: a window that is not full is left out, unless `ceil_mode` asks for
it and it begins inside of the image or the padding before it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.types import Pair
from minigrad.ops.convolution import pair


class Windows(NamedTuple):
    """Windows over an image of (height, width); each field is a pair for the two directions."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    number: tuple[int, ...]
    beyond: tuple[int, int]  # how many rows and columns the last windows reach over the padded image

    def starts(self, axis: int) -> np.ndarray:
        """The first pixel of each window, negative in the padding."""
        return np.arange(self.number[axis]) * self.stride[axis] - self.padding[axis]

    def counted(self, axis: int, padding_too: bool) -> np.ndarray:
        """How many pixels of the image (or of its padding too) each window holds along an axis; dilation 1."""
        starts, margin = self.starts(axis), self.padding[axis] if padding_too else 0
        ends = np.minimum(starts + self.kernel[axis], self.image[axis] + margin)
        return ends - np.maximum(starts, -margin)


def windows(
    op: str,
    shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Windows:
    """The windows of a pooling over images of shape (N, C, H, W); ShapeError where there are none."""
    if len(shape) != 4:
        raise ShapeError(f"{op}: input {shape}; expected (N, C, H, W) or (C, H, W).")
    kernel = pair(f"{op}: kernel_size", kernel_size, 1)
    step = kernel if stride is None or stride == () else pair(f"{op}: stride", stride, 1)
    around, apart = pair(f"{op}: padding", padding, 0), pair(f"{op}: dilation", dilation, 1)
    return _laid(op, (shape[2], shape[3]), kernel, step, around, apart, bool(ceil_mode))


@lru_cache(maxsize=256)  # a model asks for the same windows in every step
def _laid(op: str, image, kernel, step, around, apart, ceil_mode: bool) -> Windows:
    extent = _each(lambda k, d: d * (k - 1) + 1, kernel, apart)
    if any(2 * p > e for p, e in zip(around, extent, strict=True)):
        raise ShapeError(
            f"{op}: padding {around} is more than half of the kernel {kernel}: some windows would be empty."
        )
    number = _each(lambda n, e, s, p: _number(n, e, s, p, ceil_mode), image, extent, step, around)
    for i, name in enumerate(("height", "width")):
        if number[i] < 1 or not image[i]:
            raise ShapeError(
                f"{op}: a kernel of {name} {extent[i]} for an image of {image[i]} with padding {around[i]}: "
                "the window is larger than the image. Use a smaller kernel."
            )
    beyond = _each(lambda n, m, s, e, p: max(0, (n - 1) * s + e - (m + 2 * p)), *(number, image, step, extent, around))
    return Windows(image, kernel, step, around, apart, number, beyond)


def _number(size: int, extent: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """How many windows there are along an axis."""
    steps = size + 2 * padding - extent
    if not ceil_mode:
        return steps // stride + 1
    number = -(-steps // stride) + 1
    return number - 1 if (number - 1) * stride >= size + padding else number


def _each(function, *pairs) -> tuple[int, int]:
    """A function of the heights, and of the widths."""
    height, width = (function(*values) for values in zip(*pairs, strict=True))
    return height, width
