"""Convolutions of every geometry, and what they must give."""

from __future__ import annotations

import numpy as np

from minigrad.backend import plain
from tests.support.strict_backend import StrictArray

# (images, weight, stride, padding, dilation, groups)
GEOMETRIES = {
    "3x3": ((2, 3, 6, 5), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "lenet's first": ((3, 1, 12, 12), (6, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    "strided": ((2, 3, 9, 8), (5, 3, 3, 2), (2, 3), (1, 0), (1, 1), 1),
    "stride larger than the kernel": ((2, 3, 10, 11), (4, 3, 2, 2), (3, 4), (0, 1), (1, 1), 1),
    "dilated": ((2, 2, 9, 10), (3, 2, 3, 2), (1, 2), (2, 1), (2, 3), 1),
    "two groups": ((2, 4, 6, 6), (6, 2, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    "depthwise": ((2, 5, 6, 7), (5, 1, 3, 3), (1, 1), (1, 1), (1, 1), 5),
    "depthwise, two outputs a channel": ((2, 3, 6, 7), (6, 1, 3, 3), (2, 1), (1, 1), (1, 1), 3),
    "strided, dilated groups": ((2, 4, 11, 9), (4, 2, 2, 3), (2, 2), (1, 2), (3, 1), 2),
    "one pixel": ((2, 3, 4, 5), (6, 3, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    "one pixel of groups": ((2, 4, 4, 5), (6, 2, 1, 1), (1, 1), (0, 0), (1, 1), 2),
    "one pixel, strided": ((2, 3, 5, 5), (4, 3, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    "one pixel, padded": ((2, 3, 3, 3), (4, 3, 1, 1), (1, 1), (1, 1), (1, 1), 1),
    "a kernel as large as the image": ((3, 2, 5, 4), (4, 2, 5, 4), (1, 1), (0, 0), (1, 1), 1),
    "a kernel larger than the image": ((2, 2, 3, 3), (4, 2, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    "padding larger than the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), (1, 1), (3, 4), (1, 1), 1),
    "one number": ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    "many channels": ((2, 40, 5, 5), (33, 40, 3, 3), (1, 1), (1, 1), (1, 1), 1),
}
EMPTY = {
    "no images": ((0, 3, 6, 5), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "no channels": ((2, 0, 6, 5), (4, 0, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "no outputs": ((2, 3, 6, 5), (0, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
}
ERROR = {"f2": 1e-3, "f4": 1e-6, "f8": 1e-14}


def parts(geometry, dtype, seed=0):
    """Random images, weight, and gradient of the result, channels-last where images are."""
    images, weight, *options = geometry
    random = np.random.default_rng(seed).standard_normal
    x, w = last(random(images).astype(dtype)), random(weight).astype(dtype)
    g = last(random(plain.conv2d(x, w, None, *options).shape).astype(dtype))
    return x, w, g, options


def last(x):
    """The same numbers as a view (N, C, H, W) of a contiguous (N, H, W, C)."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def assert_close(found, exact, size, dtype):
    """`found` on the device is `exact`, but for rounding errors relative to the sum of the terms' sizes."""
    assert found.shape == exact.shape and found.dtype == dtype
    worst = abs(found.host - exact) - ERROR[dtype] * size
    assert (worst <= 0).all(), f"an error of {abs(found.host - exact).max():.1e}"


def assert_convolution(module, geometry, dtype):
    """The three kernels of a module against the array code in float64."""
    x, w, g, options = parts(geometry, dtype)
    on = StrictArray
    wide = [part.astype("f8") for part in (x, w, g)]
    for name, (first, second), shape in (
        ("conv2d", (0, 1), None),
        ("conv2d_input_grad", (2, 1), x.shape),
        ("conv2d_weight_grad", (0, 2), w.shape),
    ):
        given = (x, w, g)[first], (x, w, g)[second]
        exact = getattr(plain, name)(wide[first], wide[second], shape, *options)
        size = getattr(plain, name)(abs(wide[first]), abs(wide[second]), shape, *options)
        found = getattr(module, name)(on(given[0]), on(given[1]), shape, *options)
        assert_close(found, exact, size, dtype)
        if name != "conv2d_weight_grad" and exact.size:
            assert found.host.transpose(0, 2, 3, 1).flags.c_contiguous, f"{name}: images must come channels-last"
        elif exact.size:
            assert found.host.flags.c_contiguous
