"""Pooling layers: MaxPool2d, AvgPool2d, AdaptiveAvgPool2d. They have no parameters; the ops work and check."""

from __future__ import annotations

import minigrad as mg
from minigrad import Tensor

from .argument_checks import check_windows, sizes
from .module import Module


class MaxPool2d(Module):
    """The largest value of each window.

    Parameters
    ----------
    kernel_size : int or pair
    stride : int or pair, optional
        The kernel's size if left out.
    padding : int or pair
        Counts as -inf; at most half of the kernel.
    dilation : int or pair
        The distance of a window's pixels.
    return_indices : bool
        Whether the result is (values, indices); an index is the winner's place in its image, counted row by row.
    ceil_mode : bool
        Whether the last windows may reach over the border, if they begin before it.

    Shapes
    ------
    x (N, C, H, W) or (C, H, W) gives (N, C, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1) / stride + 1,
    rounded down, or up with ceil_mode.

    Raises
    ------
    ShapeError
        When called with an image smaller than the window.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        check_windows(self, kernel_size, stride, padding, dilation)
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return mg.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window.

    Parameters
    ----------
    kernel_size, stride, padding : as for MaxPool2d, but padding is zeros
    ceil_mode : bool
        As for MaxPool2d; what lies beyond the padding is not counted.
    count_include_pad : bool
        Whether the zeros of the padding are counted in the mean.
    divisor_override : int, optional
        What each window's sum is divided by, in place of the number of its pixels.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        check_windows(self, kernel_size, stride, padding)
        self.kernel_size, self.padding, self.ceil_mode = kernel_size, padding, ceil_mode
        self.stride = kernel_size if stride is None else stride
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        return mg.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means over windows that cover the image, whatever its size, so that the output has the size asked for.

    `output_size` is an int, or a pair in which None keeps the input's size; 1 is the mean over the whole image.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]):
        super().__init__()
        pair = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        sizes(self, "output_size", tuple(1 if n is None else n for n in pair), 2, 1)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return mg.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
