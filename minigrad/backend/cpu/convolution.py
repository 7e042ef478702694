"""Convolution on the CPU, in cache: gather windows, one matrix product, a block of the batch at a time.

A convolution is a matrix product once every window of the image is a row of a matrix (im2col: Chellapilla et al.,
"High performance convolutional neural networks for document processing", 2006). For a whole batch that matrix is
kh*kw times the images and lives in main memory, and moving it costs more than the product. Here it exists for one
block of images at a time, is written and read while still in the core's cache, and blocks go to a pool of threads.

After this file you know why channels-last images suit this (a window's row is then kw*C contiguous numbers), and why
a convolution's three functions are one linear map seen from three sides:

    y  = conv2d(x, w)                 windows(x) @ w
    dw = conv2d_weight_grad(x, g)     windows(x).T @ g
    dx = conv2d_input_grad(g, w)      g @ w.T, added back to where the windows came from; with stride 1 this is again
                                      a convolution, of g with the kernel turned by 180 degrees
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minigrad.backend.cpu import batch_last
from minigrad.backend.threads import cut, parallel, scratch

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

Pair = tuple[int, int]

# Bytes of window matrix in one block. A block should stay near the core that works on it, and yet be long: after each
# call into NumPy a thread waits for the interpreter lock, so calls of a few microseconds stall each other. Of 256 KiB
# to 6 MiB, 2 to 4 MiB was fastest for the shapes in benchmarks/kernels.py (2 cores, 1 MiB of second-level cache each).
BLOCK_BYTES = 2 * 1024 * 1024
# A weight gradient is a sum over blocks; it is summed in at most this many parts, whatever the number of threads.
WEIGHT_GRAD_PARTS = 8


def conv2d(x, weight, bias, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> np.ndarray:
    """Cross-correlation of images x (N, C, H, W) with weight (O, C/groups, kh, kw), plus bias (O,) or None.

    Any strides in; the result (N, O, oh, ow) lies channels-last in memory.
    """
    if x.dtype == np.float16:
        return _in_float32(conv2d, x, weight, bias, stride, padding, dilation, groups)
    slide = _Slide.of(x.shape, weight.shape, stride, padding, dilation, groups)
    if batch_last.pays(x.shape, weight.shape, groups):
        return batch_last.conv2d(x, weight, bias, slide)
    if slide.depth == 1 and groups == len(weight) > 1:
        return _depthwise(x, weight, bias, slide)
    y = np.empty((slide.batch, *slide.out, len(weight)), x.dtype)
    matrix = _weight_matrix(weight, slide)
    images = x.transpose(0, 2, 3, 1)
    bias_row = None if bias is None else np.tile(bias, slide.out[1])  # long rows: one inner loop per row, not per pixel

    def block(part: _Block) -> None:
        out = y[part.images, part.rows]
        np.matmul(_window_matrix(images, part, slide), matrix, out=_by_group(out, groups))
        if bias_row is not None:
            rows = out.reshape(-1, len(bias_row))
            np.add(rows, bias_row, out=rows)

    parallel(block, slide.blocks(x.itemsize))
    return y.transpose(0, 3, 1, 2)


def conv2d_input_grad(g, weight, x_shape, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> np.ndarray:
    """The adjoint of `conv2d` in x: from g (N, O, oh, ow) the array dx of shape x_shape, channels-last in memory.

    It is also the forward of a transposed convolution.
    """
    if g.dtype == np.float16:
        return _in_float32(conv2d_input_grad, g, weight, x_shape, stride, padding, dilation, groups)
    if batch_last.pays(x_shape, weight.shape, groups):
        slide = _Slide.of(x_shape, weight.shape, stride, padding, dilation, groups)
        return batch_last.conv2d_input_grad(g, weight, x_shape, slide)
    reach = tuple(d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True))
    if stride == (1, 1) and padding[0] <= reach[0] and padding[1] <= reach[1]:
        turned = _turned(weight, groups)
        return conv2d(g, turned, None, stride, (reach[0] - padding[0], reach[1] - padding[1]), dilation, groups)
    slide = _Slide.of(x_shape, weight.shape, stride, padding, dilation, groups)
    dx = np.zeros((x_shape[0], x_shape[2], x_shape[3], x_shape[1]), g.dtype)
    matrix = _weight_matrix(weight, slide, planes=False).transpose(0, 2, 1)
    gradients = g.transpose(0, 2, 3, 1)

    def block(part: _Block) -> None:
        padded = scratch("padded", (_length(part.images), *slide.padded, x_shape[1]), g.dtype)
        padded.fill(0)
        for step in slide.row_steps(part, g.itemsize):  # row after row, since neighbouring windows overlap
            shape = (_length(step.images), _length(step.rows), slide.out[1], groups, *slide.kernel, slide.depth)
            windows = scratch("windows", shape, g.dtype)
            by_group = windows.reshape(-1, groups, slide.kernel_size).transpose(1, 0, 2)
            np.matmul(_by_group(_dense(gradients[step.images, step.rows], "gradient"), groups), matrix, out=by_group)
            _add_windows(windows, padded[:, step.rows.start * stride[0] :], slide)
        (top, left), (height, width) = slide.padding, slide.size
        dx[part.images] = padded[:, top : top + height, left : left + width]

    parallel(block, slide.image_blocks(g.itemsize))
    return dx.transpose(0, 3, 1, 2)


def conv2d_weight_grad(x, g, weight_shape, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> np.ndarray:
    """The adjoint of `conv2d` in weight: from x and g (N, O, oh, ow) the array dw of shape weight_shape."""
    if x.dtype == np.float16:
        return _in_float32(conv2d_weight_grad, x, g, weight_shape, stride, padding, dilation, groups)
    slide = _Slide.of(x.shape, weight_shape, stride, padding, dilation, groups)
    if batch_last.pays(x.shape, weight_shape, groups):
        return batch_last.conv2d_weight_grad(x, g, weight_shape, slide)
    if slide.depth == 1 and groups == weight_shape[0] > 1:
        return _depthwise_weight_grad(x, g, slide)
    blocks = slide.blocks(x.itemsize)
    parts = min(WEIGHT_GRAD_PARTS, len(blocks))
    sums = np.zeros((parts, groups, slide.kernel_size, weight_shape[0] // groups), x.dtype)
    images, gradients = x.transpose(0, 2, 3, 1), g.transpose(0, 2, 3, 1)

    def sum_part(part: int) -> None:
        product = scratch("product", sums.shape[1:], x.dtype)
        for block in blocks[part::parts]:
            windows = _window_matrix(images, block, slide)
            gradient = _by_group(_dense(gradients[block.images, block.rows], "gradient"), groups)
            np.matmul(windows.transpose(0, 2, 1), gradient, out=product)
            np.add(sums[part], product, out=sums[part])

    parallel(sum_part, range(parts))
    return _weight_from_matrix(sums.sum(axis=0), weight_shape, slide)


# ---------------------------------------------------------------------------------------------------------------------
# Depthwise: every channel has a kernel of its own. No matrix product to win from, so no windows are gathered: kh * kw
# shifted views of the images, each times one number per channel.


def _depthwise(x, weight, bias, slide: "_Slide") -> np.ndarray:
    y = np.empty((slide.batch, *slide.out, slide.channels), x.dtype)
    images = x.transpose(0, 2, 3, 1)
    # One number per channel, repeated along an output row to give long inner loops.
    taps = np.repeat(weight[:, 0].transpose(1, 2, 0)[:, :, None], slide.out[1], axis=2)

    def block(part: _Block) -> None:
        out = y[part.images, part.rows]
        out[...] = 0 if bias is None else bias
        product = scratch("product", out.shape, x.dtype)
        for i, j, pixels in _shifted(_padded_rows(images, part, slide), len(out[0]), slide):
            np.multiply(pixels, taps[i, j], out=product)
            np.add(out, product, out=out)

    parallel(block, slide.blocks(x.itemsize, copies=4))
    return y.transpose(0, 3, 1, 2)


def _depthwise_weight_grad(x, g, slide: "_Slide") -> np.ndarray:
    images, gradients = x.transpose(0, 2, 3, 1), g.transpose(0, 2, 3, 1)
    blocks = slide.blocks(x.itemsize, copies=4)
    sums = np.zeros((len(blocks), *slide.kernel, slide.channels))

    def sum_block(number: int) -> None:
        part = blocks[number]
        gradient = _dense(gradients[part.images, part.rows], "gradient")
        product = scratch("product", gradient.shape, x.dtype)
        rows = product.reshape(len(gradient) * len(gradient[0]), -1)
        ones = np.ones(len(rows), x.dtype)
        for i, j, pixels in _shifted(_padded_rows(images, part, slide), len(gradient[0]), slide):
            np.multiply(pixels, gradient, out=product)
            sums[number, i, j] = (ones @ rows).reshape(-1, slide.channels).sum(axis=0)

    parallel(sum_block, range(len(blocks)))
    return np.ascontiguousarray(sums.sum(axis=0).transpose(2, 0, 1)[:, None], dtype=x.dtype)


def _shifted(padded, rows: int, slide: "_Slide"):
    """For each place (i, j) in the kernel, the pixels there under a block's windows: a view (n, rows, ow, C)."""
    (sh, sw), (dh, dw) = slide.stride, slide.dilation
    for i in range(slide.kernel[0]):
        for j in range(slide.kernel[1]):
            down = slice(i * dh, i * dh + sh * (rows - 1) + 1, sh)
            yield i, j, padded[:, down, j * dw : j * dw + sw * (slide.out[1] - 1) + 1 : sw]


# ---------------------------------------------------------------------------------------------------------------------
# How a kernel slides over a batch of images


class _Block(NamedTuple):
    """A share of the output: some images, some of their rows."""

    images: slice
    rows: slice


class _Slide(NamedTuple):
    """The numbers of one convolution; every pair is (height, width)."""

    batch: int
    channels: int
    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    out: Pair

    @classmethod
    def of(cls, x_shape, weight_shape, stride, padding, dilation, groups) -> "_Slide":
        batch, channels, *size = x_shape
        kernel = tuple(weight_shape[2:])
        out = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        )
        return cls(batch, channels, tuple(size), kernel, stride, padding, dilation, groups, out)

    @property
    def depth(self) -> int:
        """Input channels that one output channel sees."""
        return self.channels // self.groups

    @property
    def kernel_size(self) -> int:
        """Numbers in one window of one group: the inner size of the matrix product."""
        return self.depth * self.kernel[0] * self.kernel[1]

    @property
    def padded(self) -> Pair:
        return (self.size[0] + 2 * self.padding[0], self.size[1] + 2 * self.padding[1])

    @property
    def planes(self) -> bool:
        """Whether windows are gathered plane by plane: with few channels an output row is a longer run than kw*C."""
        return self.kernel[1] * self.depth * self.groups < min(self.out[1], 32)

    def row_bytes(self, itemsize: int) -> int:
        return max(1, self.out[1] * self.groups * self.kernel_size * itemsize)

    def blocks(self, itemsize: int, copies: int | None = None) -> list[_Block]:
        """The output cut into blocks of about BLOCK_BYTES of windows: several images, or several rows of one.

        `copies` says how many numbers to count for each input number instead of kh * kw.
        """
        row_bytes = self.row_bytes(itemsize)
        if copies is not None:
            row_bytes = row_bytes * copies // (self.kernel[0] * self.kernel[1])
        rows = max(1, BLOCK_BYTES // max(1, row_bytes))
        if rows < self.out[0]:
            return [_Block(slice(n, n + 1), r) for n in range(self.batch) for r in cut(self.out[0], rows)]
        return [_Block(n, slice(0, self.out[0])) for n in cut(self.batch, rows // max(1, self.out[0]))]

    def image_blocks(self, itemsize: int) -> list[_Block]:
        """The same, but never cutting an image."""
        images = max(1, BLOCK_BYTES // (self.row_bytes(itemsize) * max(1, self.out[0])))
        return [_Block(n, slice(0, self.out[0])) for n in cut(self.batch, images)]

    def row_steps(self, block: _Block, itemsize: int) -> list[_Block]:
        """A block of whole images, taken some rows at a time."""
        rows = max(1, BLOCK_BYTES // (self.row_bytes(itemsize) * _length(block.images)))
        return [_Block(block.images, r) for r in cut(self.out[0], rows)]


def _length(part: slice) -> int:
    return part.stop - part.start


# ---------------------------------------------------------------------------------------------------------------------
# Matrices of windows and of weights. L counts a block's output pixels, K = depth * kh * kw.


def _window_matrix(images, block: _Block, slide: _Slide) -> np.ndarray:
    """The block's windows as matrices (groups, L, K); the columns in the order of `_weight_matrix`."""
    if slide.planes:
        gathered = _gather_planes(images, block, slide)
        return gathered.reshape(slide.groups, slide.kernel_size, -1).transpose(0, 2, 1)
    gathered = _gather_rows(images, block, slide)
    return gathered.reshape(-1, slide.groups, slide.kernel_size).transpose(1, 0, 2)


def _gather_rows(images, block: _Block, slide: _Slide) -> np.ndarray:
    """Windows as (n, rows, ow, groups, kh, kw, depth): runs of kw*C numbers without dilation and groups."""
    source = _padded_rows(images, block, slide)
    n, h, w, c = source.strides
    (sh, sw), (dh, dw) = slide.stride, slide.dilation
    shape = (len(source), _length(block.rows), slide.out[1], slide.groups, *slide.kernel, slide.depth)
    if slide.kernel == (1, 1) == slide.stride and source.flags.c_contiguous:
        return source.reshape(shape)  # a 1x1 convolution's windows are the pixels themselves
    windows = as_strided(source, shape, (n, sh * h, sw * w, slide.depth * c, dh * h, dw * w, c), writeable=False)
    gathered = scratch("windows", shape, images.dtype)
    np.copyto(gathered, windows)
    return gathered


def _gather_planes(images, block: _Block, slide: _Slide) -> np.ndarray:
    """Windows as (C, kh, kw, n, rows, ow), each run a row of an image's plane."""
    source = _padded_rows(images, block, slide, planes=True)
    n, h, w, c = source.strides
    (sh, sw), (dh, dw) = slide.stride, slide.dilation
    shape = (slide.channels, *slide.kernel, len(source), _length(block.rows), slide.out[1])
    windows = as_strided(source, shape, (c, dh * h, dw * w, n, sh * h, sw * w), writeable=False)
    gathered = scratch("windows", shape, images.dtype)
    np.copyto(gathered, windows)
    return gathered


def _padded_rows(images, block: _Block, slide: _Slide, planes: bool = False) -> np.ndarray:
    """The rows of (padded) images that a block's windows see, as a view (n, rows, width, C).

    `planes` asks for the copy, where one is made, to keep each channel's plane together.
    """
    first = block.rows.start * slide.stride[0] - slide.padding[0]
    last = (block.rows.stop - 1) * slide.stride[0] + slide.dilation[0] * (slide.kernel[0] - 1) + 1 - slide.padding[0]
    if slide.padding == (0, 0):
        source = images[block.images, first:last]
        dense = planes or source.strides[3] == source.itemsize
        return source if dense else _dense(source, "padded")
    shape = (_length(block.images), last - first, slide.padded[1], slide.channels)
    if planes:
        padded = scratch("padded", (shape[3], *shape[:3]), images.dtype).transpose(1, 2, 3, 0)
    else:
        padded = scratch("padded", shape, images.dtype)
    padded.fill(0)
    top, bottom = max(first, 0), min(last, slide.size[0])
    left = slide.padding[1]
    if top < bottom:
        padded[:, top - first : bottom - first, left : left + slide.size[1]] = images[block.images, top:bottom]
    return padded


def _add_windows(windows, padded, slide: _Slide) -> None:
    """Add windows (n, rows, ow, groups, kh, kw, depth) to their pixels in the padded images (col2im)."""
    n, rows, columns = windows.shape[:3]
    for i, j, pixels in _shifted(padded, rows, slide):
        target = pixels.reshape(n, rows, columns, slide.groups, slide.depth)
        np.add(target, windows[:, :, :, :, i, j], out=target)


def _by_group(pixels, groups: int) -> np.ndarray:
    """A dense block (n, rows, ow, O) as matrices (groups, L, O/groups)."""
    return pixels.reshape(-1, groups, pixels.shape[-1] // groups).transpose(1, 0, 2)


def _dense(block, name: str) -> np.ndarray:
    """The block itself if it is contiguous, else a copy in this thread's scratch of that name."""
    if block.flags.c_contiguous:
        return block
    copy = scratch(name, block.shape, block.dtype)
    np.copyto(copy, block)
    return copy


def _weight_matrix(weight, slide: _Slide, planes: bool | None = None) -> np.ndarray:
    """weight (O, depth, kh, kw) as matrices (groups, K, O/groups), K in the order the windows are gathered in."""
    grouped = weight.reshape(slide.groups, -1, *weight.shape[1:])
    planes = slide.planes if planes is None else planes
    ordered = grouped.transpose((0, 2, 3, 4, 1) if planes else (0, 3, 4, 2, 1))
    return np.ascontiguousarray(ordered).reshape(slide.groups, slide.kernel_size, -1)


def _weight_from_matrix(matrix, weight_shape, slide: _Slide) -> np.ndarray:
    """The inverse of `_weight_matrix`."""
    kh, kw = slide.kernel
    if slide.planes:
        weight = matrix.reshape(slide.groups, slide.depth, kh, kw, -1).transpose(0, 4, 1, 2, 3)
    else:
        weight = matrix.reshape(slide.groups, kh, kw, slide.depth, -1).transpose(0, 4, 3, 1, 2)
    return np.ascontiguousarray(weight).reshape(weight_shape)


def _turned(weight, groups: int) -> np.ndarray:
    """The kernel of the adjoint: turned by 180 degrees, inputs and outputs of each group exchanged."""
    outputs, depth, kh, kw = weight.shape
    grouped = weight[:, :, ::-1, ::-1].reshape(groups, outputs // groups, depth, kh, kw)
    return grouped.swapaxes(1, 2).reshape(groups * depth, outputs // groups, kh, kw)


def _in_float32(kernel, *arguments) -> np.ndarray:
    """BLAS has no float16: compute in float32 and round once at the end."""
    wide = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in arguments]
    return kernel(*wide).astype(np.float16)
