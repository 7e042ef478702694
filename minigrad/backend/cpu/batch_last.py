"""Convolution of many small images with few channels: the batch innermost in memory.

Channels-last images give im2col runs of kw * C contiguous numbers. With one or six channels, as in LeNet, a run is a
handful of numbers, and NumPy spends its time on starting runs. Here arrays are stored (C, H, W, N): a run is then a
whole output row of all images, ow * N numbers, whatever the number of channels. The caller still sees NCHW: strides
carry the layout, elementwise ops keep it, and pooling follows it.

After this file you know the second classical order for convolutions on small images (Krizhevsky's cuda-convnet, 2012),
in which the weight matrix is the left factor: y = w @ windows, dw = g @ windows.T, windows' gradient = w.T @ g.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.backend.threads import cut, parallel, scratch

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "is_batch_last", "pays"]

FEW = 16  # channels on either side; with more, the runs of the other layout are long enough
BLOCK_BYTES = 1024 * 1024  # of windows in one block of output rows


def pays(x_shape, weight_shape, groups: int) -> bool:
    """Whether a convolution has so few channels, and so large a batch, that this layout is the faster one."""
    return groups == 1 and max(x_shape[1], weight_shape[0]) <= FEW and x_shape[0] >= FEW


def is_batch_last(x) -> bool:
    """Whether an array (N, C, H, W) lies in memory with the batch innermost."""
    return x.shape[0] > 1 and x.strides[0] == x.itemsize and x.strides[1] != x.itemsize


def conv2d(x, weight, bias, slide) -> np.ndarray:
    """As `convolution.conv2d`; `slide` holds the geometry. The result lies batch-last in memory."""
    source, matrix = _padded(x, slide), weight.reshape(len(weight), -1)
    y = np.empty((len(weight), *slide.out, slide.batch), x.dtype)

    def block(rows: slice) -> None:
        out = y[:, rows].reshape(len(weight), -1)  # a view: the rows of one channel are contiguous
        np.matmul(matrix, _windows(source, rows, slide), out=out)
        if bias is not None:
            np.add(out, bias[:, None], out=out)

    parallel(block, _blocks(slide, x.itemsize))
    return y.transpose(3, 0, 1, 2)


def conv2d_weight_grad(x, g, weight_shape, slide) -> np.ndarray:
    """As `convolution.conv2d_weight_grad`.

    A product of two wide matrices into a tiny one is what BLAS does worst. Taken output row by output row it is done
    three to five times faster: 0.12 ms against 0.69 for (6, 50176) @ (50176, 25) (NumPy 2.4, one core).
    """
    source, gradient = _padded(x, slide), _dense(g)
    sums = np.empty((slide.out[0], slide.kernel_size, weight_shape[0]), x.dtype)

    def block(rows: slice) -> None:
        part = gradient[:, rows].reshape(weight_shape[0], rows.stop - rows.start, -1)
        windows = _windows(source, rows, slide).reshape(slide.kernel_size, rows.stop - rows.start, -1)
        np.matmul(windows.transpose(1, 0, 2), part.transpose(1, 2, 0), out=sums[rows])

    parallel(block, _blocks(slide, x.itemsize))
    return np.ascontiguousarray(sums.sum(axis=0).T).reshape(weight_shape)


def conv2d_input_grad(g, weight, x_shape, slide) -> np.ndarray:
    """As `convolution.conv2d_input_grad`: windows' gradients, added back to where the windows came from (col2im).

    Each thread takes some of the input channels: only a channel's own windows are added to it.
    """
    gradient = _dense(g).reshape(len(weight), -1)
    (sh, sw), (dh, dw), (oh, ow) = slide.stride, slide.dilation, slide.out
    (top, left), (height, width) = slide.padding, slide.size
    dx = np.empty((slide.channels, height, width, slide.batch), g.dtype)

    def channel(c: int) -> None:
        matrix = np.ascontiguousarray(weight[:, c].reshape(len(weight), -1).T)
        windows = scratch("windows", (len(matrix), gradient.shape[1]), g.dtype)
        np.matmul(matrix, gradient, out=windows)
        windows = windows.reshape(*slide.kernel, oh, ow, slide.batch)
        bare = slide.padding == (0, 0)
        padded = dx[c] if bare else scratch("padded", (*slide.padded, slide.batch), g.dtype)
        padded.fill(0)
        for i in range(slide.kernel[0]):
            for j in range(slide.kernel[1]):
                target = padded[i * dh : i * dh + sh * (oh - 1) + 1 : sh, j * dw : j * dw + sw * (ow - 1) + 1 : sw]
                np.add(target, windows[i, j], out=target)
        if not bare:
            dx[c] = padded[top : top + height, left : left + width]

    parallel(channel, range(slide.channels))
    return dx.transpose(3, 0, 1, 2)


def _windows(source, rows: slice, slide) -> np.ndarray:
    """The windows of some output rows as a matrix (C * kh * kw, rows * ow * N)."""
    c, h, w, n = source.strides
    (sh, sw), (dh, dw) = slide.stride, slide.dilation
    shape = (slide.channels, *slide.kernel, rows.stop - rows.start, slide.out[1], slide.batch)
    view = as_strided(source[:, rows.start * sh :], shape, (c, dh * h, dw * w, sh * h, sw * w, n), writeable=False)
    gathered = scratch("windows", shape, source.dtype)
    np.copyto(gathered, view)
    return gathered.reshape(slide.kernel_size, -1)


def _padded(x, slide) -> np.ndarray:
    """The images as a contiguous (C, H, W, N), with zeros around them."""
    if slide.padding == (0, 0):
        return _dense(x)
    padded = np.zeros((slide.channels, *slide.padded, slide.batch), x.dtype)
    (top, left), (height, width) = slide.padding, slide.size
    padded[:, top : top + height, left : left + width] = x.transpose(1, 2, 3, 0)
    return padded


def _dense(x) -> np.ndarray:
    """x (N, C, H, W) as a contiguous (C, H, W, N): x itself if it has that layout."""
    return np.ascontiguousarray(x.transpose(1, 2, 3, 0))


def _blocks(slide, itemsize: int) -> list[slice]:
    """The output rows in blocks of about BLOCK_BYTES of windows."""
    row_bytes = slide.kernel_size * slide.out[1] * slide.batch * itemsize
    return cut(slide.out[0], BLOCK_BYTES // max(1, row_bytes))
