"""Batch normalisation on the CPU: one pass for the statistics, one for the result, each block by block in cache.

Ioffe and Szegedy, "Batch Normalization" (2015), algorithm 1. After this file you know how to add up a variance
without losing it to rounding, in a single pass and in parts that can be added in any grouping.
"""

import numpy as np

from minigrad.backend import plain
from minigrad.backend.cpu.batch_last import is_batch_last
from minigrad.backend.sums import sum_leading
from minigrad.backend.threads import cut, parallel, scratch

__all__ = ["batch_norm", "batch_norm_backward", "batch_norm_inference", "channel_sum"]

# Bytes of input in one block: read several times, so near the core that works on it, and yet long, since after each
# call into NumPy a thread waits for the interpreter lock. Of 128 KiB to 4 MiB, 2 MiB was fastest for the shapes in
# benchmarks/kernels.py (2 cores, 1 MiB of second-level cache each; 256 KiB took twice the time).
BLOCK_BYTES = 2 * 1024 * 1024
# Numbers to a row of a block, at most. Adding one number per channel took 54 us a MiB with 32 numbers to a row, 36 with
# 1024 and 26 with 16384 (numpy 2.4, timeit).
ROW = 16384
# With means of more standard deviations than this the mean is taken off first, one pass more over a block: x * scale
# and mean * scale would each be rounded, to so many times the precision of their difference.
FAR = 16


def batch_norm(x, weight, bias, eps: float, relu: bool = False, observe=None) -> tuple[np.ndarray, ...]:
    """Normalise x (N, C, ...) over all axes but 1, then scale by weight and shift by bias, (C,) each or None.

    Returns y like x (channels-last in memory) and, shaped (C,), the mean, the biased variance and
    1/sqrt(variance + eps); for float16 these three are float32. `relu` puts a ReLU behind it, and `observe` is
    told mean and variance.
    """
    if x.dtype == np.float16:
        wide = batch_norm(x.astype(np.float32), _wide(weight), _wide(bias), eps, relu, observe)
        return wide[0].astype(np.float16), *wide[1:]
    pixels = _Pixels(x)
    mean, var = _moments(pixels)
    inv_std = 1 / np.sqrt(var + eps)
    y = _normalised(pixels, mean, inv_std, weight, bias, relu)
    mean, var, inv_std = (a.astype(x.dtype) for a in (mean, var, inv_std))
    if observe is not None:
        observe(mean, var)
    return y, mean, var, inv_std


def batch_norm_inference(x, mean, variance, weight, bias, eps: float, relu: bool = False) -> np.ndarray:
    """Normalise x (N, C, ...) by given statistics (C,), then scale, shift and, with `relu`, put a ReLU behind it."""
    given = [value for value in (mean, variance, weight, bias) if value is not None]
    if not x.size or x.dtype == np.float16 or any(value.dtype != x.dtype for value in given):
        return plain.batch_norm_inference(x, mean, variance, weight, bias, eps, relu)
    inv_std = 1 / np.sqrt(variance.astype(np.float64) + eps)
    return _normalised(_Pixels(x), mean.astype(np.float64), inv_std, weight, bias, relu)


def _normalised(pixels: "_Pixels", mean, inv_std, weight, bias, relu: bool) -> np.ndarray:
    """(x - mean) * inv_std * weight + bias, and ReLU, in one pass, block by block; mean and inv_std in float64."""
    x = pixels.array
    scale = inv_std if weight is None else inv_std * weight
    far = bool((np.abs(mean) * inv_std > FAR).any())
    near = mean.astype(x.dtype) if far else np.zeros_like(mean)
    shift = (near - mean) * scale if bias is None else bias + (near - mean) * scale
    near_row, scale_row, shift_row = pixels.row(near), pixels.row(scale), pixels.row(shift)
    y = pixels.like()

    def block(part: slice) -> None:
        out, rows = y.rows(part), pixels.rows(part)
        if far:
            rows = np.subtract(rows, near_row, out=out)
        np.multiply(rows, scale_row, out=out)
        np.add(out, shift_row, out=out)
        if relu:
            np.maximum(out, 0, out=out)

    parallel(block, pixels.blocks)
    return y.array


def batch_norm_backward(g, x, weight, mean, inv_std, y=None) -> tuple[np.ndarray, ...]:
    """Gradients (dx, dweight, dbias) of `batch_norm` in x, weight and bias, given g for its result, and y after a ReLU.

    With xhat = (x - mean) * inv_std and means over all axes but 1:

        dbias = sum(g),   dweight = sum(g * xhat),
        dx = weight * inv_std * (g - mean(g) - xhat * mean(g * xhat))       (Ioffe and Szegedy, section 3, simplified)
    """
    if y is not None:
        g = np.where(y != 0, g, g.dtype.type(0))
    if x.dtype == np.float16:
        wide = batch_norm_backward(g.astype(np.float32), x.astype(np.float32), _wide(weight), mean, inv_std)
        return tuple(a.astype(np.float16) for a in wide)
    pixels, gradients = _Pixels(x), _Pixels(g, name="gradient")
    mean_row = pixels.row(mean)
    sums = np.zeros((2, len(pixels.blocks), x.shape[1]))

    def add_up(numbered: tuple[int, slice]) -> None:
        number, part = numbered
        gradient = gradients.rows(part)
        product = scratch("product", gradient.shape, x.dtype)
        np.subtract(pixels.rows(part), mean_row, out=product)
        np.multiply(product, gradient, out=product)
        sums[0, number] = pixels.sum(gradient)
        sums[1, number] = pixels.sum(product)

    parallel(add_up, list(enumerate(pixels.blocks)))
    dbias, dot = sums.sum(axis=1)
    dweight = dot * inv_std
    # dx = scale * g - slope * (x - mean) - level, with the two constants taken together
    count = max(1, pixels.count)
    scale = inv_std.astype(np.float64) if weight is None else inv_std * weight.astype(np.float64)
    slope, level = scale * inv_std * dweight / count, scale * dbias / count
    scale_row, slope_row, constant_row = (pixels.row(a) for a in (scale, slope, mean * slope - level))
    dx = pixels.like()

    def block(part: slice) -> None:
        out = dx.rows(part)
        along = scratch("product", out.shape, x.dtype)
        np.multiply(pixels.rows(part), slope_row, out=along)
        np.multiply(gradients.rows(part), scale_row, out=out)
        np.subtract(out, along, out=out)
        np.add(out, constant_row, out=out)

    parallel(block, pixels.blocks)
    return dx.array, dweight.astype(x.dtype), dbias.astype(x.dtype)


def channel_sum(x) -> np.ndarray:
    """The sum of x (N, C, ...) over all axes but 1, shaped (C,): a bias's gradient.

    BLAS adds up long rows: for channels-last x this takes a tenth of the time of ``x.sum(axis=(0, 2, 3))``, which adds
    C numbers at a time (0.84 ms against 0.07 for 64x32x32x32, numpy 2.4), and rounds less.
    """
    if x.dtype == np.float16:
        return channel_sum(x.astype(np.float32)).astype(np.float16)
    if x.ndim == 4 and is_batch_last(x):
        return x.transpose(1, 2, 3, 0).reshape(x.shape[1], -1).sum(axis=1)
    pixels = _Pixels(x)
    sums = np.zeros((len(pixels.blocks), pixels.channels))

    def add_up(numbered: tuple[int, slice]) -> None:
        number, part = numbered
        sums[number] = pixels.sum(pixels.rows(part))

    parallel(add_up, list(enumerate(pixels.blocks)))
    return sums.sum(axis=0).astype(x.dtype)


def _moments(pixels: "_Pixels") -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over all pixels, in float64.

    Each block subtracts a rough mean of its own, then takes the mean and the sum of squared deviations from the shifted
    numbers; blocks are combined by the pairwise formula (both: Chan, Golub and LeVeque, "Algorithms for computing
    the sample variance", 1983, equations 1.7 and 2.1). The mean of a sixteenth of some numbers is within sqrt(15)
    of their deviations from the mean of all, whatever the numbers are, so cancellation loses at most four bits.
    """
    blocks = len(pixels.blocks)
    counts, means, squares = np.zeros((blocks, 1)), *np.zeros((2, blocks, pixels.channels))

    def block(numbered: tuple[int, slice]) -> None:
        number, part = numbered
        rows = pixels.rows(part)
        counts[number] = count = rows.size // pixels.channels
        sample = rows[: -(-len(rows) // 16)]
        rough = (pixels.sum(sample) * (pixels.channels / sample.size)).astype(rows.dtype)
        shifted = scratch("product", rows.shape, rows.dtype)
        np.subtract(rows, pixels.row(rough), out=shifted)
        total = pixels.sum(shifted)
        np.multiply(shifted, shifted, out=shifted)
        means[number] = rough + total / count
        squares[number] = np.maximum(pixels.sum(shifted) - total * total / count, 0)

    parallel(block, list(enumerate(pixels.blocks)))
    count = max(1, pixels.count)
    mean = (counts * means).sum(axis=0) / count
    return mean, (squares + counts * (means - mean) ** 2).sum(axis=0) / count


class _Pixels:
    """An array (N, C, ...) cut into blocks of images, each seen as a matrix with many whole pixels to a row.

    With one pixel to a row, a ufunc that adds a number per channel would run its inner loop over C numbers at a time.
    """

    def __init__(self, array, name: str = "pixels"):
        self.array = array
        self.name = name
        self.last = np.moveaxis(array, 1, -1)
        self.channels = array.shape[1]
        self.count = array.size // max(1, self.channels)
        each = self.count // max(1, len(array))  # pixels of one image
        self.fold = next((f for f in range(ROW // max(1, self.channels), 1, -1) if each % f == 0), 1)
        images = len(array) if array.size else 0
        self.blocks = cut(images, BLOCK_BYTES // max(1, array.itemsize * self.channels * each))

    def like(self) -> "_Pixels":
        """A fresh array of the same shape, channels-last in memory."""
        return _Pixels(np.moveaxis(np.empty(self.last.shape, self.array.dtype), -1, 1))

    def rows(self, part: slice) -> np.ndarray:
        """A block as (rows, fold * C): a view where memory allows, else a copy in this thread's scratch."""
        block = self.last[part]
        if not block.flags.c_contiguous:
            copy = scratch(self.name, block.shape, block.dtype)
            np.copyto(copy, block)
            block = copy
        return block.reshape(-1, self.fold * self.channels)

    def row(self, channel: np.ndarray) -> np.ndarray:
        """A number per channel, repeated to fit a row."""
        return np.tile(channel.astype(self.array.dtype), self.fold)

    def sum(self, rows: np.ndarray) -> np.ndarray:
        """Sums over the pixels of some rows, shaped (C,): down the rows by BLAS, the rest in float64."""
        return sum_leading(rows).astype(np.float64).reshape(self.fold, self.channels).sum(axis=0)


def _wide(array):
    return None if array is None else array.astype(np.float32)
