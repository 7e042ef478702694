"""Convolution as whole-batch array code: one gather of windows, one matrix product.

A GPU wants few, large calls, so nothing is cut into blocks here. After this file you have seen convolution in its
shortest form (im2col) and its adjoint (col2im); backend/cpu/convolution.py is the same mathematics, cut to fit a cache.
"""

from minigrad.backend.device import namespace

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """Cross-correlation of images x (N, C, H, W) with weight (O, C/groups, kh, kw), plus bias (O,) or None."""
    xp = namespace(x)
    windows = _windows(xp, _wide(xp, x), weight.shape, stride, padding, dilation, groups)
    batch, rows, columns = windows.shape[1:4]
    kernels = _by_output(_wide(xp, weight), groups)
    y = windows.reshape(groups, batch * rows * columns, kernels.shape[2]) @ kernels.swapaxes(1, 2)
    y = y.swapaxes(0, 1).reshape(batch, rows, columns, len(weight))
    if bias is not None:
        y = y + bias
    return xp.ascontiguousarray(y, dtype=x.dtype).transpose(0, 3, 1, 2)


def conv2d_input_grad(g, weight, x_shape, stride, padding, dilation, groups):
    """The adjoint of `conv2d` in x, and the forward of a transposed convolution."""
    xp = namespace(g)
    (batch, _, rows, columns), (_, depth, kh, kw) = g.shape, weight.shape
    kernels = _by_output(_wide(xp, weight), groups)
    windows = _by_group(_wide(xp, g), groups) @ kernels
    windows = windows.reshape(groups, batch, rows, columns, kh, kw, depth)
    (height, width), (top, left) = x_shape[2:], padding
    dx = xp.zeros((batch, height + 2 * top, width + 2 * left, groups, depth), windows.dtype)
    for i in range(kh):
        for j in range(kw):
            there = dx[:, _places(i, 0, rows, stride, dilation), _places(j, 1, columns, stride, dilation)]
            there += xp.moveaxis(windows[..., i, j, :], 0, 3)
    dx = dx[:, top : top + height, left : left + width].reshape(batch, height, width, groups * depth)
    return xp.ascontiguousarray(dx, dtype=g.dtype).transpose(0, 3, 1, 2)


def conv2d_weight_grad(x, g, weight_shape, stride, padding, dilation, groups):
    """The adjoint of `conv2d` in weight."""
    xp = namespace(x)
    outputs, depth, kh, kw = weight_shape
    windows = _windows(xp, _wide(xp, x), weight_shape, stride, padding, dilation, groups)
    gradients = _by_group(_wide(xp, g), groups)
    dw = gradients.swapaxes(1, 2) @ windows.reshape(groups, gradients.shape[1], depth * kh * kw)
    dw = dw.reshape(outputs, kh, kw, depth).transpose(0, 3, 1, 2)
    return xp.ascontiguousarray(dw, dtype=x.dtype)


def _windows(xp, x, weight_shape, stride, padding, dilation, groups):
    """All windows of x, channels last: (groups, N, oh, ow, kh, kw, C/groups), in memory of their own."""
    batch, channels, height, width = x.shape
    (top, left), kernel = padding, weight_shape[2:]
    padded = xp.zeros((batch, height + 2 * top, width + 2 * left, channels), x.dtype)
    padded[:, top : top + height, left : left + width] = x.transpose(0, 2, 3, 1)
    rows, columns = (
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded.shape[1:3], kernel, stride, dilation, strict=True)
    )
    n, h, w, c = padded.strides
    view = xp.lib.stride_tricks.as_strided(
        padded,
        (groups, batch, rows, columns, *kernel, channels // groups),
        (c * (channels // groups), n, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1], c),
    )
    return xp.ascontiguousarray(view)


def _by_output(weight, groups):
    """weight (O, C/groups, kh, kw) as matrices (groups, O / groups, kh * kw * C/groups)."""
    outputs, depth, kh, kw = weight.shape
    return weight.transpose(0, 2, 3, 1).reshape(groups, outputs // groups, kh * kw * depth)


def _by_group(g, groups):
    """g (N, O, oh, ow) as matrices (groups, N * oh * ow, O / groups)."""
    batch, outputs, rows, columns = g.shape
    pixels = g.reshape(batch, groups, outputs // groups, rows, columns).transpose(1, 0, 3, 4, 2)
    return pixels.reshape(groups, batch * rows * columns, outputs // groups)


def _places(offset, axis, count, stride, dilation):
    """Where `count` windows have their `offset`-th number, along one axis of the padded image."""
    first = offset * dilation[axis]
    return slice(first, first + stride[axis] * (count - 1) + 1, stride[axis])


def _wide(xp, array):
    """Floats of 16 bits are computed in float32."""
    return array.astype(xp.float32) if array.dtype.name in ("float16", "bfloat16") else array
