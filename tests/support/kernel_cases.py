"""What the tests of the CPU kernels share: arrays in every memory layout, and cases of each kernel."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from minigrad.backend import cpu

TOLERANCE = {np.float16: 2e-2, np.float32: 2e-5, np.float64: 1e-12}
ONE, NONE = (1, 1), (0, 0)
few, many = settings(deadline=None, max_examples=25), settings(deadline=None, max_examples=100)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def arrays(draw, shape, dtype, integers=False):
    """A read-only array of this shape in some memory layout: kernels must take any, and change none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if integers:
        values = random.integers(-2, 3, shape).astype(dtype)
    else:
        values = random.uniform(-1, 1, shape).astype(dtype)
    layout = draw(st.sampled_from(["plain", "channels last", "batch last", "reversed", "strided", "broadcast"]))
    if layout == "batch last":
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 0, -1)), -1, 0)
    if layout == "channels last":
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)
    elif layout == "reversed":
        values = np.ascontiguousarray(values[..., ::-1])[..., ::-1]
    elif layout == "strided":
        wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        wide[..., ::2] = values
        values = wide[..., ::2]
    elif layout == "broadcast" and shape[0]:
        values = np.broadcast_to(values[:1], shape)
    values.flags.writeable = False
    return values


dtypes = st.sampled_from([np.float32, np.float64])
any_dtype = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def convolution_cases(draw, dtypes=dtypes):
    dtype, groups = draw(dtypes), draw(st.sampled_from([1, 1, 2, 3]))
    depth, outputs = draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel, stride, padding, dilation = draw(pairs(1, 3)), draw(pairs(1, 3)), draw(pairs(0, 3)), draw(pairs(1, 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [draw(st.integers(max(1, r - 2 * p), 9)) for r, p in zip(reach, padding, strict=True)]
    size[1] += draw(st.sampled_from([0, 30]))  # wide images are gathered plane by plane
    out = [(n + 2 * p - r) // s + 1 for n, p, r, s in zip(size, padding, reach, stride, strict=True)]
    batch = draw(st.integers(0, 4))
    x = draw(arrays((batch, groups * depth, *size), dtype))
    g = draw(arrays((batch, outputs, *out), dtype))
    w = draw(arrays((outputs, depth, *kernel), dtype))
    bias = draw(st.none() | arrays((outputs, 1), dtype))
    return x, w, None if bias is None else bias[:, 0], g, (stride, padding, dilation, groups)


@st.composite
def pooling_cases(draw, dtypes=dtypes, integers=False):
    dtype, kernel, stride = draw(dtypes), draw(pairs(1, 3)), draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = [draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True)]
    out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, padding, kernel, stride, strict=True)]
    batch, channels = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    x = draw(arrays((batch, channels, *size), dtype, integers))
    g = draw(arrays((batch, channels, *out), dtype))
    return x, g, (kernel, stride, padding)


@st.composite
def normalization_cases(draw, dtypes=dtypes):
    dtype, spatial = draw(dtypes), draw(st.lists(st.integers(1, 6), max_size=2))
    shape = (draw(st.integers(2, 5)), draw(st.integers(1, 5)), *spatial)
    x, g = draw(arrays(shape, dtype)), draw(arrays(shape, dtype))
    weight, bias = (draw(st.none() | arrays((shape[1], 1), dtype)) for _ in range(2))
    return x, g, *(None if a is None else a[:, 0] for a in (weight, bias))


def agree(ours, theirs, scale=1.0):
    __tracebackhide__ = True
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    tolerance = TOLERANCE[ours.dtype.type] * max(1.0, scale)
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=tolerance, atol=tolerance)


def inner(a, b):
    return float(np.sum(a.astype(np.float64) * b))


def random_array(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def all_results(batch=6):
    """Every CPU kernel's results on one case large enough for several blocks."""
    x = random_array(batch, 20, 24, 8).transpose(0, 3, 1, 2)
    w, bias = random_array(12, 8, 3, 3, seed=1), random_array(12, seed=2)
    pool = ((2, 2), (2, 2), NONE)
    depthwise = (ONE, ONE, ONE, 8)
    results = {}
    for how in ((ONE, ONE, ONE, 1), ((2, 2), ONE, ONE, 1)):
        y = results["conv2d", how] = cpu.conv2d(x, w, bias, *how)
        results["conv2d_input_grad", how] = cpu.conv2d_input_grad(y, w, x.shape, *how)
        results["conv2d_weight_grad", how] = cpu.conv2d_weight_grad(x, y, w.shape, *how)
    results["depthwise"] = cpu.conv2d(x, w[:8, :1], None, *depthwise)
    results["depthwise_weight_grad"] = cpu.conv2d_weight_grad(x, x, (8, 1, 3, 3), *depthwise)
    results["max_pool2d"], index = cpu.max_pool2d(x, *pool)
    results["index"] = index
    results["max_pool2d_scatter"] = cpu.max_pool2d_scatter(results["max_pool2d"], index, x.shape, *pool)
    results["max_pool2d_gather"] = cpu.max_pool2d_gather(x, index, *pool)
    results["avg_pool2d"] = cpu.avg_pool2d(x, *pool, True)
    results["avg_pool2d_input_grad"] = cpu.avg_pool2d_input_grad(results["avg_pool2d"], x.shape, *pool, True)
    results["batch_norm"], mean, results["var"], inv_std = cpu.batch_norm(x, bias[:8], bias[:8], 1e-5)
    backward = cpu.batch_norm_backward(x, x, bias[:8], mean, inv_std)
    results["channel_sum"] = cpu.channel_sum(x)
    results["dx"], results["dweight"], results["dbias"] = backward
    return results
