"""Pooling as whole-batch array code: one step for each of the kh * kw positions in a window.

After this file you have seen pooling in its shortest form; backend/cpu/pooling.py is the same mathematics, arranged for
a cache. Images are channels-last inside, (N, C, H, W) to the caller.
"""

from minigrad.backend.conversion import lowest
from minigrad.backend.device import namespace

__all__ = ["avg_pool2d", "avg_pool2d_input_grad", "max_pool2d", "max_pool2d_gather", "max_pool2d_scatter"]


def max_pool2d(x, kernel, stride, padding):
    """Maxima of windows of x (N, C, H, W), and the position in its window that each came from.

    Padding never wins; among equals the first wins; the last NaN wins over every number. As in PyTorch.
    """
    xp = namespace(x)
    shape = _pooled(x.shape, kernel, stride, padding)
    padded = _pad(xp, x, padding, lowest(x.dtype))
    inside = _pad(xp, xp.ones((1, 1, *x.shape[2:]), bool), padding, False)
    index_type = xp.uint8 if kernel[0] * kernel[1] <= 256 else xp.int32
    best, index, found = xp.full(shape, lowest(x.dtype), x.dtype), xp.zeros(shape, index_type), xp.zeros(shape, bool)
    for position, there in _positions(shape, kernel, stride):
        value, real = padded[there], inside[there]
        wins = real & (~found | (value > best) | (value != value))
        best = xp.where(wins, value, best)
        index = xp.where(wins, index_type(position), index)
        found = found | real
    return best.transpose(0, 3, 1, 2), index.transpose(0, 3, 1, 2)


def max_pool2d_scatter(g, index, x_shape, kernel, stride, padding):
    """Each g (N, C, oh, ow) added to its winner's place in an array of x_shape: the backward of `max_pool2d`."""
    xp = namespace(g)
    gradients, winners = g.transpose(0, 2, 3, 1), index.transpose(0, 2, 3, 1)
    dx = _zeros(xp, x_shape, padding, g.dtype)
    for position, there in _positions(gradients.shape, kernel, stride):
        dx[there] += xp.where(winners == position, gradients, gradients.dtype.type(0))
    return _crop(xp, dx, x_shape, padding)


def max_pool2d_gather(t, index, kernel, stride, padding):
    """The winners' values out of t (N, C, H, W): the adjoint of `max_pool2d_scatter`."""
    xp = namespace(t)
    winners, padded = index.transpose(0, 2, 3, 1), _pad(xp, t, padding, 0)
    y = xp.zeros(winners.shape, t.dtype)
    for position, there in _positions(winners.shape, kernel, stride):
        y = xp.where(winners == position, padded[there], y)
    return y.transpose(0, 3, 1, 2)


def avg_pool2d(x, kernel, stride, padding, count_include_pad):
    """Means of windows of x (N, C, H, W). Padding counts as zero in the sum, and in the count if so asked."""
    xp = namespace(x)
    shape = _pooled(x.shape, kernel, stride, padding)
    padded = _pad(xp, _wide(xp, x), padding, 0)
    total = xp.zeros(shape, padded.dtype)
    for _, there in _positions(shape, kernel, stride):
        total += padded[there]
    counts = _counts(xp, x.shape, shape, kernel, stride, padding, count_include_pad)
    return (total / counts).astype(x.dtype, copy=False).transpose(0, 3, 1, 2)


def avg_pool2d_input_grad(g, x_shape, kernel, stride, padding, count_include_pad):
    """The adjoint of `avg_pool2d`: each g (N, C, oh, ow) shared out over its window, in an array of x_shape."""
    xp = namespace(g)
    gradients = _wide(xp, g).transpose(0, 2, 3, 1)
    counts = _counts(xp, x_shape, gradients.shape, kernel, stride, padding, count_include_pad)
    shared = (gradients / counts).astype(gradients.dtype, copy=False)
    dx = _zeros(xp, x_shape, padding, gradients.dtype)
    for _, there in _positions(gradients.shape, kernel, stride):
        dx[there] += shared
    return _crop(xp, dx, x_shape, padding).astype(g.dtype, copy=False)


def _counts(xp, x_shape, shape, kernel, stride, padding, count_include_pad):
    """How many pixels each window's mean counts, broadcastable against the channels-last pooled images."""
    if count_include_pad:
        return kernel[0] * kernel[1]
    inside = _pad(xp, xp.ones((1, 1, *x_shape[2:]), xp.float32), padding, 0)
    return sum(inside[there] for _, there in _positions(shape, kernel, stride))


def _positions(shape, kernel, stride):
    """For each position in a window, row by row: its number, and its slices of the padded images."""
    _, rows, columns, _ = shape
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            down = slice(i, i + stride[0] * (rows - 1) + 1, stride[0])
            across = slice(j, j + stride[1] * (columns - 1) + 1, stride[1])
            yield i * kernel[1] + j, (slice(None), down, across)


def _pooled(x_shape, kernel, stride, padding):
    batch, channels, *size = x_shape
    out = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)]
    return (batch, *out, channels)


def _zeros(xp, x_shape, padding, dtype):
    batch, channels, height, width = x_shape
    return xp.zeros((batch, height + 2 * padding[0], width + 2 * padding[1], channels), dtype)


def _pad(xp, x, padding, value):
    padded = _zeros(xp, x.shape, padding, x.dtype)
    padded.fill(value)
    padded[:, padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]] = x.transpose(0, 2, 3, 1)
    return padded


def _crop(xp, padded, x_shape, padding):
    (top, left), (height, width) = padding, x_shape[2:]
    return xp.ascontiguousarray(padded[:, top : top + height, left : left + width]).transpose(0, 3, 1, 2)


def _wide(xp, array):
    """float16 is computed in float32."""
    return array.astype(xp.float32) if array.dtype == xp.float16 else array
