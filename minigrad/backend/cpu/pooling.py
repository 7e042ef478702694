"""Pooling on the CPU: separable passes over blocks of images that stay in cache.

The maximum (or sum) over a window is taken along its rows first and then along its columns: kw + kh steps, each a
whole-array operation on long runs of memory, instead of kh * kw. The position of the maximum travels along as a
small integer. After this file you know how a max pool finds, keeps and uses its winners, and why its backward (scatter)
and the derivative of that (gather) are a linear map and its adjoint.
"""

from collections.abc import Iterator

import numpy as np

from minigrad.backend.conversion import lowest
from minigrad.backend.cpu.batch_last import is_batch_last
from minigrad.backend.threads import cut, parallel, scratch

__all__ = ["avg_pool2d", "avg_pool2d_input_grad", "max_pool2d", "max_pool2d_gather", "max_pool2d_scatter"]

Pair = tuple[int, int]

# Bytes of input in one block: read several times, so near the core that works on it, and yet long, since after each
# call into NumPy a thread waits for the interpreter lock. Of 128 KiB to 4 MiB, 2 MiB was fastest for the shapes in
# benchmarks/kernels.py (2 cores, 1 MiB of second-level cache each; 256 KiB took twice the time).
BLOCK_BYTES = 2 * 1024 * 1024
HEIGHT, WIDTH = 1, 2  # axes of a batch in the order of `_layout`


def max_pool2d(x, kernel: Pair, stride: Pair, padding: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of windows of x (N, C, H, W), and which position in its window each came from.

    Padding counts as the smallest number of the dtype, minus infinity for floats, and never wins. Positions count row
    by row from 0; among equals the first wins, and a NaN wins over every number (the last NaN, as in PyTorch).
    """
    order, back = _layout(x)
    images = x.transpose(order)
    shape = _pooled(images.shape, kernel, stride, padding)
    y = np.empty(shape, x.dtype)
    index: np.ndarray = np.empty(shape, _index_type(kernel))

    def block(part: slice) -> None:
        _maxima(images[part], y[part], index[part], kernel, stride, padding)
        if y[part].size and not np.isfinite(np.min(y[part])):  # rare, so the common case pays one look only
            _maxima(images[part], y[part], index[part], kernel, stride, padding, careful=True)

    parallel(block, _blocks(images))
    return y.transpose(back), index.transpose(back)


def max_pool2d_scatter(g, index, x_shape, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Each g (N, C, oh, ow) added to its winner's place in an array of x_shape: the backward of `max_pool2d`."""
    order, back = _layout(index)
    gradients, winners = g.transpose(order), index.transpose(order)
    dx = np.zeros([x_shape[axis] for axis in order], g.dtype)
    overlap = kernel[0] > stride[0] or kernel[1] > stride[1]

    def block(part: slice) -> None:
        gradient = _dense(gradients[part], "gradient")
        for position, there, here in _positions(dx.shape, gradients.shape, kernel, stride, padding):
            mask = _mask(winners[part][here], position, g.itemsize)
            target, bits = dx[part][there], gradient[here].view(mask.dtype)
            if overlap:
                won = np.bitwise_and(bits, mask, out=mask).view(g.dtype)
                np.add(target, won, out=target)
            else:
                np.bitwise_and(bits, mask, out=target.view(mask.dtype))

    parallel(block, _blocks(dx))
    return dx.transpose(back)


def max_pool2d_gather(t, index, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """The winners' values out of t (N, C, H, W): the adjoint of `max_pool2d_scatter`."""
    order, back = _layout(index)
    values, winners = t.transpose(order), index.transpose(order)
    y = np.zeros(winners.shape, t.dtype)

    def block(part: slice) -> None:
        value = _dense(values[part], "value")
        for position, there, here in _positions(values.shape, winners.shape, kernel, stride, padding):
            mask = _mask(winners[part][here], position, t.itemsize)
            np.bitwise_and(value[there].view(mask.dtype), mask, out=mask)
            target = y[part][here].view(mask.dtype)
            np.bitwise_or(target, mask, out=target)

    parallel(block, _blocks(values))
    return y.transpose(back)


def avg_pool2d(x, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> np.ndarray:
    """Means of windows of x (N, C, H, W). Padding counts as zero in the sum, and in the count if so asked."""
    if x.dtype == np.float16:
        return avg_pool2d(x.astype(np.float32), kernel, stride, padding, count_include_pad).astype(np.float16)
    order, back = _layout(x)
    images = x.transpose(order)
    y = np.zeros(_pooled(images.shape, kernel, stride, padding), x.dtype)
    share = _share(images.shape, y.shape, kernel, stride, padding, count_include_pad).astype(x.dtype)

    def block(part: slice) -> None:
        source, sums = images[part], y[part]
        rows = scratch("rows", (*source.shape[:2], *y.shape[2:]), x.dtype)
        rows.fill(0)
        for there, here in _offsets(WIDTH, source.shape, rows.shape, kernel, stride, padding):
            np.add(rows[here], source[there], out=rows[here])
        for there, here in _offsets(HEIGHT, rows.shape, sums.shape, kernel, stride, padding):
            np.add(sums[here], rows[there], out=sums[here])
        np.multiply(sums, share, out=sums)

    parallel(block, _blocks(images))
    return y.transpose(back)


def avg_pool2d_input_grad(g, x_shape, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> np.ndarray:
    """The adjoint of `avg_pool2d`: each g (N, C, oh, ow) shared out over its window, in an array of x_shape."""
    if g.dtype == np.float16:
        wide = g.astype(np.float32)
        return avg_pool2d_input_grad(wide, x_shape, kernel, stride, padding, count_include_pad).astype(np.float16)
    order, back = _layout(g)
    gradients = g.transpose(order)
    dx = np.zeros([x_shape[axis] for axis in order], g.dtype)
    share = _share(dx.shape, gradients.shape, kernel, stride, padding, count_include_pad).astype(g.dtype)

    def block(part: slice) -> None:
        target = dx[part]
        shared = scratch("shared", gradients[part].shape, g.dtype)
        rows = scratch("rows", (*target.shape[:2], *gradients.shape[2:]), g.dtype)
        rows.fill(0)
        np.multiply(gradients[part], share, out=shared)
        for there, here in _offsets(HEIGHT, rows.shape, shared.shape, kernel, stride, padding):
            np.add(rows[there], shared[here], out=rows[there])
        for there, here in _offsets(WIDTH, target.shape, rows.shape, kernel, stride, padding):
            np.add(target[there], rows[here], out=target[there])

    parallel(block, _blocks(dx))
    return dx.transpose(back)


# ---------------------------------------------------------------------------------------------------------------------
# The running maximum and the position of the winner


def _maxima(images, y, index, kernel: Pair, stride: Pair, padding: Pair, careful: bool = False) -> None:
    """Fill y and index for a block of channels-last images: along the rows, then along the columns.

    `careful` also handles NaN, and windows that hold only -inf.
    """
    shape = (*images.shape[:2], *y.shape[2:])
    rows, column = scratch("rows", shape, images.dtype), scratch("column", shape, index.dtype)
    _race(images, None, rows, column, WIDTH, kernel, stride, padding, careful)
    _race(rows, column, y, index, HEIGHT, kernel, stride, padding, careful)


def _race(source, column, best, index, axis, kernel: Pair, stride: Pair, padding: Pair, careful: bool) -> None:
    """Let the values of source in a window along one axis compete; best takes the winner, index its position.

    Positions only grow along the way, so that index follows by a maximum, which NumPy runs many times faster than a
    masked copy. In the second race `column` holds the positions won in the first.
    """
    leads, position = scratch("leads", best.shape, bool), scratch("position", best.shape, index.dtype)
    uncontested = padding[axis - 1] == 0 and not careful  # the first offset then is in every window: it leads
    if not uncontested:
        best.fill(lowest(best.dtype))
        index.fill(0)
    if careful:
        _enter_first_pixels(source, column, best, index, axis, kernel, stride, padding)
    for offset, (there, here) in enumerate(_offsets(axis, source.shape, best.shape, kernel, stride, padding)):
        value = source[there]
        if uncontested and offset == 0:
            np.copyto(best, value)
            np.copyto(index, 0 if column is None else column[there])
            continue
        if axis == WIDTH and stride[1] > 1:  # single pixels lie apart: a copy passes over them faster than a ufunc
            value = scratch("value", value.shape, source.dtype)
            np.copyto(value, source[there])
        lead, place = leads[here], position[here]
        np.greater(value, best[here], out=lead)
        if careful:
            np.logical_or(lead, value != value, out=lead)  # a NaN
        np.maximum(value, best[here], out=best[here])
        if column is None:
            np.multiply(lead, index.dtype.type(offset), out=place)
        else:
            np.add(column[there], index.dtype.type(offset * kernel[1]), out=place)
            np.multiply(place, lead, out=place)
        np.maximum(index[here], place, out=index[here])


def _enter_first_pixels(source, column, best, index, axis, kernel: Pair, stride: Pair, padding: Pair) -> None:
    """Start each window with its first pixel outside the padding, so that -inf wins in a window of -inf alone."""
    corner = np.arange(best.shape[axis]) * stride[axis - 1] - padding[axis - 1]
    first = np.maximum(corner, 0)
    best[...] = source.take(first, axis)
    offset = (first - corner).astype(index.dtype)
    if column is None:
        index[...] = offset[:, None]
    else:
        index[...] = offset[:, None, None] * index.dtype.type(kernel[1]) + column.take(first, axis)


# ---------------------------------------------------------------------------------------------------------------------
# Where windows lie


def _offsets(axis: int, source, pooled, kernel: Pair, stride: Pair, padding: Pair) -> Iterator[tuple]:
    """For each offset in a window along an axis: the slices of source at that offset, and of the windows they are in.

    Windows that reach into the padding at this offset are left out, so that padding takes no part. An offset at
    which no window has anything gives two empty slices.
    """
    size, count = source[axis], pooled[axis]
    k, s, p = kernel[axis - 1], stride[axis - 1], padding[axis - 1]
    before = (slice(None),) * axis
    for offset in range(k):
        first = max(0, -((offset - p) // s))  # the first window whose s * window + offset - p is not negative
        stop = max(first, min(count, (size - 1 - offset + p) // s + 1))
        start = first * s + offset - p
        yield (*before, slice(start, start + s * (stop - first), s)), (*before, slice(first, stop))


def _positions(source, pooled, kernel: Pair, stride: Pair, padding: Pair) -> Iterator[tuple]:
    """For each position in a window, row by row: its number, its slices of source, and of which windows."""
    columns = list(_offsets(WIDTH, source, pooled, kernel, stride, padding))
    for i, (row_there, row_here) in enumerate(_offsets(HEIGHT, source, pooled, kernel, stride, padding)):
        for j, (there, here) in enumerate(columns):
            yield i * kernel[1] + j, (*row_there, there[WIDTH]), (*row_here, here[WIDTH])


def _share(source, pooled, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> np.ndarray:
    """One over the number of pixels that each window counts, broadcastable against the pooled images."""
    if count_include_pad:
        return np.full((1, 1, 1), 1 / (kernel[0] * kernel[1]))
    counts = []
    for axis in (HEIGHT, WIDTH):
        count = np.zeros(pooled[axis])
        for _, here in _offsets(axis, source, pooled, kernel, stride, padding):
            count[here[axis]] += 1
        counts.append(count)
    return 1 / (counts[0][:, None, None] * counts[1][None, :, None])


def _pooled(shape, kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, ...]:
    batch, *size, channels = shape
    out = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)]
    return (batch, *out, channels)


def _index_type(kernel: Pair) -> type:
    return np.uint8 if kernel[0] * kernel[1] <= 256 else np.int32


def _mask(winners, position: int, itemsize: int) -> np.ndarray:
    """All bits set where this position won, none elsewhere, as integers as wide as the numbers they will select.

    Selecting by `&` is exact for inf and NaN, where multiplying by 0 is not, and far faster than a masked copy: 25 us
    against 270 for 8 images of 16x16x32 (numpy 2.4, one core).
    """
    won = np.equal(winners, position, out=scratch("won", winners.shape, bool))
    mask = scratch("mask", winners.shape, f"i{itemsize}")
    np.copyto(mask, won.view(np.int8))
    return np.negative(mask, out=mask)


def _layout(x) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of axes in which to work on x (N, C, H, W), and the way back: its innermost axis last.

    Channels-last, unless the batch is innermost (see `batch_last.py`). To pooling an image of all channels and a
    channel of all images are the same thing.
    """
    return ((1, 2, 3, 0), (3, 0, 1, 2)) if is_batch_last(x) else ((0, 2, 3, 1), (0, 3, 1, 2))


def _dense(block, name: str) -> np.ndarray:
    """The block itself if each pixel is contiguous, else a copy in this thread's scratch."""
    if block.strides[-1] == block.itemsize:
        return block
    copy = scratch(name, block.shape, block.dtype)
    np.copyto(copy, block)
    return copy


def _blocks(images) -> list[slice]:
    """Several images to a block, so that a block amortises its Python."""
    size = images[0].nbytes if len(images) else 1
    return cut(len(images), BLOCK_BYTES // max(1, size))
