"""Convolution layers: Conv1d, Conv2d, ConvTranspose2d.

The three share one construction. padding="same" with an even kernel, or padding by reflection, is a `pad` before a
convolution without padding.
"""

from __future__ import annotations

import math

from numpy.typing import DTypeLike

import minigrad as mg
from minigrad import ShapeError, Tensor

from .argument_checks import expect_floats, positive, sizes
from .linear import new_parameter, reset_weight_and_bias
from .module import Module

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class _Convolution(Module):
    """The part that all convolution layers share: checked arguments, and parameters."""

    axes = 2
    transposed = False
    output_padding: tuple[int, ...] = ()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | str | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        kind = type(self).__name__
        positive(self, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{kind}: in_channels={in_channels} and out_channels={out_channels}; both must be divisible by "
                f"groups={groups}."
            )
        if padding_mode not in PADDING_MODES or (self.transposed and padding_mode != "zeros"):
            expected = ["zeros"] if self.transposed else list(PADDING_MODES)
            raise ValueError(f"{kind}: padding_mode={padding_mode!r}; expected one of {', '.join(expected)}.")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = sizes(self, "kernel_size", kernel_size, self.axes, 1)
        self.stride = sizes(self, "stride", stride, self.axes, 1)
        self.dilation = sizes(self, "dilation", dilation, self.axes, 1)
        self.padding_mode = padding_mode
        self.padding = padding if isinstance(padding, str) else sizes(self, "padding", padding, self.axes, 0)
        self._before = self._pad_widths()
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = new_parameter((first, second // groups, *self.kernel_size), device, dtype)
        self.register_parameter("bias", new_parameter((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        reset_weight_and_bias(self)

    def _pad_widths(self) -> tuple[tuple[int, int], ...] | None:
        """(before, after) for each image axis, to pad before the convolution; None where its own zeros suffice."""
        if self.padding == "same" and not self.transposed:
            if max(self.stride) > 1:
                raise ValueError(f"{type(self).__name__}: padding='same' needs stride 1, got {self.stride}.")
            reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            widths = tuple((r // 2, r - r // 2) for r in reach)
        elif self.padding == "valid" and not self.transposed:
            widths = ((0, 0),) * self.axes
        elif isinstance(self.padding, str):
            names = "an integer" if self.transposed else "an integer, 'same' or 'valid'"
            raise ValueError(f"{type(self).__name__}: padding={self.padding!r}; expected {names}.")
        else:
            widths = tuple((p, p) for p in self.padding)
        even = all(before == after for before, after in widths)
        self._own_padding = tuple(p for p, _ in widths) if even and self.padding_mode == "zeros" else (0,) * self.axes
        return None if self.padding_mode == "zeros" and even else widths

    def _prepared(self, x: Tensor) -> Tensor:
        """The input, checked, and padded where the convolution itself cannot pad."""
        expect_floats(self, x, self.weight)
        if x.ndim not in (self.axes + 1, self.axes + 2) or x.shape[-self.axes - 1] != self.in_channels:
            shape = ", ".join("HW" if self.axes == 2 else "L")
            raise ShapeError(
                f"{type(self).__name__}: input {x.shape}; expected (N, {self.in_channels}, {shape}) or "
                f"({self.in_channels}, {shape}): {self.in_channels} channels, before the "
                f"{'height and width of the image' if self.axes == 2 else 'length of the sequence'}."
            )
        if self._before is None:
            return x
        return mg.pad(x, ((0, 0),) * (x.ndim - self.axes) + self._before, mode=PADDING_MODES[self.padding_mode])

    def multiply_adds(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        dense = input_shape if self.transposed else output_shape
        return math.prod(dense) * math.prod(self.weight.shape[1:])

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}",
            f"padding={self.padding}" if self.padding != (0,) * self.axes else "",
            f"dilation={self.dilation}" if self.dilation != (1,) * self.axes else "",
            f"output_padding={self.output_padding}" if any(self.output_padding) else "",
            f"groups={self.groups}" if self.groups != 1 else "",
            "" if self.bias is not None else "bias=False",
            f"padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "",
        ]
        return ", ".join(part for part in parts if part)


class Conv2d(_Convolution):
    """2-d convolution (cross-correlation) with a bias per output channel.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or pair
    padding : int, pair, "same" (for stride 1: the output is as large as the input) or "valid" (none)
    groups : int
        The channels are split into this number of groups, each convolved by itself.
    bias : bool
    padding_mode : {"zeros", "reflect", "replicate", "circular"}

    Shapes
    ------
    x (N, in_channels, H, W) or (in_channels, H, W) gives (N, out_channels, H', W') with
    H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1. weight (out_channels, in_channels / groups, height,
    width), bias (out_channels,); both start uniform on +-1/sqrt(fan_in), PyTorch's default.

    Raises
    ------
    ShapeError
        For another number of channels, or a kernel larger than the padded image.
    TypeError
        If x has another dtype than the weight.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._convolved(self._prepared(x), self.bias)

    def followed_by_relu(self, x: Tensor) -> Tensor:
        """relu(self(x)), with bias and ReLU in one launch where x lies on a GPU."""
        if self.bias is None or x.ndim != 4:
            return mg.relu(self(x))
        return mg.bias_relu(self._convolved(self._prepared(x), None), self.bias)

    def _convolved(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return mg.conv2d(x, self.weight, bias, self.stride, self._own_padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """1-d convolution: x (N, in_channels, L), weight (out_channels, in_channels / groups, size); else as Conv2d."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self._prepared(x)
        return mg.conv1d(x, self.weight, self.bias, self.stride, self._own_padding, self.dilation, self.groups)


class ConvTranspose2d(_Convolution):
    """Transposed 2-d convolution: the gradient of Conv2d with respect to its input, as a layer that enlarges images.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, groups, bias, dilation : as for Conv2d
    output_padding : int or pair
        Added to the output's size on one side. A strided Conv2d maps several sizes to one; this chooses among them.

    Shapes
    ------
    x (N, in_channels, H, W) gives (N, out_channels, H', W') with
    H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1.
    weight (in_channels, out_channels / groups, height, width).
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self.output_padding = sizes(self, "output_padding", output_padding, self.axes, 0)

    def forward(self, x: Tensor) -> Tensor:
        return mg.conv_transpose2d(
            self._prepared(x),
            self.weight,
            self.bias,
            self.stride,
            self._own_padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )
