"""Pooling layers: MaxPool2d, AvgPool2d, AdaptiveAvgPool2d. They have no parameters; the ops do the work and the checks.

PyTorch's `ceil_mode`, dilated windows and returned indices are refused; its other options are supported.
"""

from __future__ import annotations

import minigrad as mg
from minigrad import Tensor

from .argument_checks import sizes
from .module import Module


def _refuse(layer: Module, **options: tuple[object, object]) -> None:
    """Raise ValueError for an option (value given, only value supported)."""
    for name, (given, supported) in options.items():
        if given != supported:
            raise ValueError(f"{type(layer).__name__}: {name}={given!r} is not supported; leave it at {supported!r}.")


class MaxPool2d(Module):
    """The largest value of each window.

    Parameters
    ----------
    kernel_size : int or pair
    stride : int or pair, optional
        The kernel's size if left out.
    padding : int or pair
        Counts as -inf; at most half of the kernel.
    dilation, return_indices, ceil_mode
        PyTorch's, refused if not at their defaults.

    Shapes
    ------
    x (N, C, H, W) or (C, H, W) gives (N, C, H', W') with H' = (H + 2 padding - kernel) // stride + 1.

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
        dilation: int = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        _refuse(self, dilation=(dilation, 1), return_indices=(return_indices, False), ceil_mode=(ceil_mode, False))
        sizes(self, "kernel_size", kernel_size, 2, 1)
        sizes(self, "stride", kernel_size if stride is None else stride, 2, 1)
        sizes(self, "padding", padding, 2, 0)
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride

    def forward(self, x: Tensor) -> Tensor:
        return mg.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation=1, ceil_mode=False"
        )


class AvgPool2d(Module):
    """The mean of each window.

    Parameters
    ----------
    kernel_size, stride, padding : as for MaxPool2d, but padding is zeros
    ceil_mode, divisor_override
        PyTorch's, refused if not at their defaults.
    count_include_pad : bool
        Whether the zeros of the padding are counted in the mean.
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
        _refuse(self, ceil_mode=(ceil_mode, False), divisor_override=(divisor_override, None))
        sizes(self, "kernel_size", kernel_size, 2, 1)
        sizes(self, "stride", kernel_size if stride is None else stride, 2, 1)
        sizes(self, "padding", padding, 2, 0)
        self.kernel_size, self.padding, self.count_include_pad = kernel_size, padding, count_include_pad
        self.stride = kernel_size if stride is None else stride

    def forward(self, x: Tensor) -> Tensor:
        return mg.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad)

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
