"""The array kernels: the CPU's blocked bodies against whole-batch ones, against naive loops, and against themselves.

The bodies in backend/gpu run on NumPy arrays too and are written independently, so each is the other's oracle. What is
linear is held to its adjoint; what could depend on the number of threads is run with several.
"""

import itertools
import os
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.backend import cpu, gpu, threads
from minigrad.backend.cpu import batch_last, convolution, normalization, pooling

TOLERANCE = {np.float16: 2e-2, np.float32: 2e-5, np.float64: 1e-12}
ONE, NONE = (1, 1), (0, 0)

few, many = settings(deadline=None, max_examples=25), settings(deadline=None, max_examples=100)


@pytest.fixture(autouse=True, params=["tuned blocks", "tiny blocks", "batch last"])
def path(request, monkeypatch):
    """Small cases fit one block of the tuned size; a tiny size sends them down the paths of large ones.

    "batch last" also sends every convolution that can go there down the path of few channels and large batches.
    """
    if request.param != "tuned blocks":
        for module in (batch_last, convolution, normalization, pooling):
            monkeypatch.setattr(module, "BLOCK_BYTES", 700)
    if request.param == "batch last":
        monkeypatch.setattr(batch_last, "pays", lambda x_shape, weight_shape, groups: groups == 1 and x_shape[0] > 0)
    return request.param


@pytest.fixture
def restore_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------------------------
# What is drawn


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


# ---------------------------------------------------------------------------------------------------------------------
# Convolution


def naive_conv2d(x, w, bias, stride, padding, dilation, groups):
    """The definition, one output number at a time."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *((p, p) for p in padding)])
    (batch, _, height, width), (outputs, depth, kh, kw) = x.shape, w.shape
    rows = (height - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((batch, outputs, rows, columns))
    for n, o, i, j in np.ndindex(y.shape):
        group = o // (outputs // groups)
        top, left = i * stride[0], j * stride[1]
        down, across = (slice(a, a + d * k, d) for a, d, k in zip((top, left), dilation, (kh, kw), strict=True))
        y[n, o, i, j] = np.sum(x[n, group * depth : (group + 1) * depth, down, across] * w[o])
    return y if bias is None else y + bias[:, None, None]


@few
@given(convolution_cases())
def test_conv2d_is_its_definition(case):
    x, w, bias, _, how = case
    for kernels in (cpu, gpu):
        y = kernels.conv2d(x, w, bias, *how)
        assert y.dtype == x.dtype
        agree(y.astype(np.float64), naive_conv2d(x, w, bias, *how), scale=2e7 if x.dtype == np.float32 else 10)


@many
@given(convolution_cases(any_dtype))
def test_conv2d_and_its_gradients_agree_between_backends(case):
    x, w, bias, g, how = case
    scale = np.sqrt(g.size + w.size)
    agree(cpu.conv2d(x, w, bias, *how), gpu.conv2d(x, w, bias, *how), scale)
    agree(cpu.conv2d_input_grad(g, w, x.shape, *how), gpu.conv2d_input_grad(g, w, x.shape, *how), scale)
    agree(cpu.conv2d_weight_grad(x, g, w.shape, *how), gpu.conv2d_weight_grad(x, g, w.shape, *how), scale)


@pytest.mark.parametrize("kernels", [cpu, gpu])
@many
@given(case=convolution_cases(st.just(np.float64)))
def test_conv2d_gradients_are_its_adjoints(kernels, case):
    x, w, _, g, how = case
    forward = inner(kernels.conv2d(x, w, None, *how), g)
    assert inner(x, kernels.conv2d_input_grad(g, w, x.shape, *how)) == pytest.approx(forward, rel=1e-9, abs=1e-9)
    assert inner(w, kernels.conv2d_weight_grad(x, g, w.shape, *how)) == pytest.approx(forward, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "stride", "padding", "size"),
    [(3, 32, 3, 1, 1, 32), (1, 6, 5, 1, 2, 28), (6, 16, 5, 1, 0, 14), (32, 8, 1, 1, 0, 16), (8, 8, 3, 2, 1, 17)],
)
def test_conv2d_of_the_usual_shapes_agrees_between_backends(channels, outputs, kernel, stride, padding, size):
    x = random_array(5, size, size, channels).transpose(0, 3, 1, 2)
    w, bias = random_array(outputs, channels, kernel, kernel, seed=1), random_array(outputs, seed=2)
    how = ((stride, stride), (padding, padding), ONE, 1)
    y = cpu.conv2d(x, w, bias, *how)
    g = random_array(*y.shape, seed=3)
    agree(y, gpu.conv2d(x, w, bias, *how), scale=20)
    agree(cpu.conv2d_input_grad(g, w, x.shape, *how), gpu.conv2d_input_grad(g, w, x.shape, *how), scale=20)
    agree(cpu.conv2d_weight_grad(x, g, w.shape, *how), gpu.conv2d_weight_grad(x, g, w.shape, *how), scale=100)


# ---------------------------------------------------------------------------------------------------------------------
# Pooling


def naive_max_pool2d(x, kernel, stride, padding):
    """One window at a time; the first of the greatest, the last NaN; never the padding."""
    rows, columns = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], padding, kernel, stride, strict=True))
    y, index = np.empty((*x.shape[:2], rows, columns), x.dtype), np.empty((*x.shape[:2], rows, columns), int)
    for n, c, i, j in np.ndindex(y.shape):
        best = None
        for position, (di, dj) in enumerate(itertools.product(*map(range, kernel))):
            row, column = i * stride[0] + di - padding[0], j * stride[1] + dj - padding[1]
            if not (0 <= row < x.shape[2] and 0 <= column < x.shape[3]):
                continue
            value = x[n, c, row, column]
            if best is None or value > best or np.isnan(value):
                best, winner = value, position
        y[n, c, i, j], index[n, c, i, j] = best, winner
    return y, index


@many
@given(pooling_cases(any_dtype, integers=True), st.booleans())
def test_max_pool2d_is_its_definition_with_ties_and_nan(case, with_nan):
    x, _, how = case
    if with_nan:
        x = np.where(x == 1, np.nan, np.where(x == -2, -np.inf, x)).astype(x.dtype)
    expected, winners = naive_max_pool2d(x, *how)
    for kernels in (cpu, gpu):
        y, index = kernels.max_pool2d(x, *how)
        assert y.dtype == x.dtype
        assert index.dtype == np.uint8
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(kernels.max_pool2d_gather(x, index, *how), expected)
        np.testing.assert_array_equal(index, winners)


@many
@given(pooling_cases(any_dtype))
def test_max_pool2d_scatter_and_gather_agree_between_backends_and_are_adjoint(case):
    x, g, how = case
    _, index = cpu.max_pool2d(x, *how)
    dx, picked = cpu.max_pool2d_scatter(g, index, x.shape, *how), cpu.max_pool2d_gather(x, index, *how)
    agree(dx, gpu.max_pool2d_scatter(g, index, x.shape, *how))
    agree(picked, gpu.max_pool2d_gather(x, index, *how))
    assert inner(dx, x) == pytest.approx(inner(g, picked), rel=1e-2 if x.dtype == np.float16 else 1e-5, abs=0.05)


def test_max_pool2d_scatter_keeps_infinite_gradients_to_their_winners():
    x = random_array(1, 2, 4, 4)
    for stride in (1, 2):
        _, index = cpu.max_pool2d(x, (2, 2), (stride, stride), NONE)
        g = np.full(index.shape, np.inf, np.float32)
        dx = cpu.max_pool2d_scatter(g, index, x.shape, (2, 2), (stride, stride), NONE)
        assert not np.isnan(dx).any()


@many
@given(pooling_cases(any_dtype), st.booleans())
def test_avg_pool2d_agrees_between_backends_and_with_its_adjoint(case, count_include_pad):
    x, g, how = case
    y = cpu.avg_pool2d(x, *how, count_include_pad)
    dx = cpu.avg_pool2d_input_grad(g, x.shape, *how, count_include_pad)
    agree(y, gpu.avg_pool2d(x, *how, count_include_pad))
    agree(dx, gpu.avg_pool2d_input_grad(g, x.shape, *how, count_include_pad), scale=5)
    assert inner(y, g) == pytest.approx(inner(x, dx), rel=1e-2 if x.dtype == np.float16 else 1e-5, abs=0.05)


# ---------------------------------------------------------------------------------------------------------------------
# Batch normalisation


@many
@given(normalization_cases(any_dtype))
def test_batch_norm_agrees_between_backends(case):
    x, g, weight, bias = case
    ours, theirs = cpu.batch_norm(x, weight, bias, 1e-3), gpu.batch_norm(x, weight, bias, 1e-3)
    for mine, its in zip(ours, theirs, strict=True):
        agree(mine, its, scale=100)
    mean, inv_std = ours[1], ours[3]
    backward = (kernels.batch_norm_backward(g, x, weight, mean, inv_std) for kernels in (cpu, gpu))
    for mine, its in zip(*backward, strict=True):
        agree(mine, its, scale=1000)


@many
@given(normalization_cases(any_dtype))
def test_channel_sum_is_a_sum_over_all_axes_but_one(case):
    x = case[0]
    exact = x.astype(np.float64).sum(axis=tuple(a for a in range(x.ndim) if a != 1))
    for kernels in (cpu, gpu):
        agree(kernels.channel_sum(x), exact.astype(x.dtype), scale=20)


@many
@given(normalization_cases(st.just(np.float64)))
def test_batch_norm_backward_is_the_slope_of_its_forward(case):
    x, g, weight, bias = case
    along, step = random_array(*x.shape, dtype=np.float64), 1e-6
    _, mean, _, inv_std = cpu.batch_norm(x, weight, bias, 0.1)
    dx, dweight, dbias = cpu.batch_norm_backward(g, x, weight, mean, inv_std)
    there, back = (cpu.batch_norm(x + h * along, weight, bias, 0.1)[0] for h in (step, -step))
    assert inner(dx, along) == pytest.approx(inner(g, there - back) / (2 * step), rel=1e-5, abs=1e-5)
    ones = np.ones(x.shape[1])
    plain = cpu.batch_norm(x, None, None, 0.1)[0]
    assert inner(dweight, ones) == pytest.approx(inner(plain, g), rel=1e-9, abs=1e-9)
    assert inner(dbias, ones) == pytest.approx(float(np.sum(g)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kernels", [cpu, gpu])
@pytest.mark.parametrize("mean", [0.0, 100.0, 10000.0])
def test_batch_norm_of_a_large_mean_loses_no_more_than_the_input_did(kernels, mean):
    x = (random_array(16, 4, 20, 20) + mean).astype(np.float32)
    exact = x.astype(np.float64)
    y, found, var, _ = kernels.batch_norm(x, None, None, 0.0)
    axes = (0, 2, 3)
    np.testing.assert_allclose(var, exact.var(axis=axes), rtol=1e-5)
    np.testing.assert_allclose(found, exact.mean(axis=axes), rtol=1e-6, atol=1e-6)
    normal = (exact - exact.mean(axis=axes, keepdims=True)) / exact.std(axis=axes, keepdims=True)
    np.testing.assert_allclose(y, normal, atol=1e-5 + 3e-7 * mean)


def test_batch_norm_of_blocks_with_outlying_beginnings_keeps_its_variance():
    x = random_array(8, 3, 16, 16)
    x[:, :, 0] += 1000  # what the rough mean of a block is taken from
    _, _, var, _ = cpu.batch_norm(x, None, None, 0.0)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 2, 3)), rtol=2e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Every kernel: empty batches, memory layout, threads


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


@pytest.mark.parametrize("count", [1, 3, 5])
def test_results_do_not_depend_on_the_number_of_threads(restore_threads, monkeypatch, count):
    for module in (convolution, normalization, pooling):
        monkeypatch.setattr(module, "BLOCK_BYTES", 16384)
    threads.set_num_threads(2)
    expected = all_results()
    threads.set_num_threads(count)
    for name, result in all_results().items():
        np.testing.assert_array_equal(result, expected[name], err_msg=str(name))


def test_images_come_out_channels_last_in_memory_or_batch_last_where_asked(path):
    for name, result in all_results().items():
        if result.ndim == 4 and "weight" not in name[0] and "weight" not in str(name):
            ungrouped = name[0].startswith("conv") and name[1][-1] == 1
            order = (1, 2, 3, 0) if path == "batch last" and ungrouped else (0, 2, 3, 1)
            assert result.transpose(order).flags.c_contiguous, name


def test_an_empty_batch_gives_empty_images_and_zero_gradients():
    for name, result in all_results(batch=0).items():
        assert result.shape[0] == 0 or not np.any(result[np.isfinite(result)] if "var" in name else result), name


# ---------------------------------------------------------------------------------------------------------------------
# The thread pool


@many
@given(st.integers(0, 50), st.integers(1, 60))
def test_cut_covers_everything_once(count, size):
    pieces = threads.cut(count, size)
    assert [i for piece in pieces for i in range(count)[piece]] == list(range(count))
    assert all(0 < piece.stop - piece.start <= size for piece in pieces)


def test_parallel_does_every_task_once_on_several_threads(restore_threads):
    threads.set_num_threads(3)
    done, seen, both = [], set(), threading.Barrier(2, timeout=10)

    def task(number):
        if number < 2:
            both.wait()  # passes only if two threads work at the same time
        seen.add(threading.get_ident())
        done.append(number)

    threads.parallel(task, range(20))
    assert sorted(done) == list(range(20))
    assert len(seen) >= 2


def test_parallel_raises_the_error_of_a_task_and_stays_usable(restore_threads):
    threads.set_num_threads(2)

    def fail(number):
        if number >= 3:
            raise ZeroDivisionError(f"task {number}")

    with pytest.raises(ZeroDivisionError, match="task 3"):
        threads.parallel(fail, range(50))
    done = []
    threads.parallel(done.append, range(5))
    assert sorted(done) == list(range(5))


def test_parallel_inside_parallel_runs_inline(restore_threads):
    threads.set_num_threads(2)
    done = []

    def outer(number):
        here = threading.get_ident()
        threads.parallel(lambda inner: done.append((number, inner, threading.get_ident() == here)), range(3))

    threads.parallel(outer, range(4))
    assert sorted(done) == [(i, j, True) for i in range(4) for j in range(3)]


def test_an_idle_pool_keeps_no_arrays_alive(restore_threads):
    threads.set_num_threads(3)
    array = np.zeros(1000)
    alive = weakref.ref(array)

    def task(number, array=array):
        array.sum()

    threads.parallel(task, range(8))
    del array, task
    deadline = time.monotonic() + 10
    while alive() is not None and time.monotonic() < deadline:
        time.sleep(0.001)  # a worker that woke late may still be looking at the finished job
    assert alive() is None


def test_blas_has_its_threads_back_after_a_kernel_even_one_that_fails():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def counts():
        return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]

    before, inside = counts(), []
    with pytest.raises(KeyError), threads.single_threaded_blas():
        inside = counts()
        raise KeyError
    assert all(count == 1 for count in inside)
    assert counts() == before


def test_set_num_threads_refuses_less_than_one():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        threads.set_num_threads(0)


@pytest.mark.parametrize(
    "shapes",
    [
        ((300, 200), (200, 100)),  # on one thread
        ((20, 900), (900, 700)),  # by BLAS
        ((450, 400), (400, 500)),  # by our threads, by rows
        ((300, 400), (400, 600)),  # and by columns
        ((3, 4, 5), (5, 6)),
        ((7,), (7,)),
    ],
)
def test_matmul_is_numpys(shapes):
    a, b = (random_array(*shape, dtype=np.float64) for shape in shapes)
    np.testing.assert_allclose(threads.matmul(a, b), a @ b, rtol=1e-12, atol=1e-10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_pool_works_in_a_forked_child(restore_threads):
    threads.set_num_threads(2)
    expected = all_results()
    child = os.fork()
    if child == 0:  # no pytest in here: leave by os._exit whatever happens
        status = 1
        try:
            results = all_results()
            status = 0 if all(np.array_equal(results[name], expected[name]) for name in expected) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch as a second opinion


@given(convolution_cases(), pooling_cases(integers=True), normalization_cases(), st.booleans())
@few
def test_kernels_are_pytorchs(convolution_case, pooling_case, normalization_case, count_include_pad):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def tensor(array):
        return None if array is None else torch.tensor(np.ascontiguousarray(array)).requires_grad_()

    x, w, bias, g, how = convolution_case
    tx, tw = tensor(x), tensor(w)
    if len(x):
        y = functional.conv2d(tx, tw, tensor(bias), *how)
        y.backward(torch.tensor(np.ascontiguousarray(g)))
        agree(cpu.conv2d(x, w, bias, *how), y.detach().numpy(), 20)
        agree(cpu.conv2d_input_grad(g, w, x.shape, *how), tx.grad.numpy(), 20)
        agree(cpu.conv2d_weight_grad(x, g, w.shape, *how), tw.grad.numpy(), 50)

    x, g, how = pooling_case
    if len(x):
        tx = tensor(x)
        y = functional.max_pool2d(tx, *how)
        y.backward(torch.tensor(np.ascontiguousarray(g)))
        ours, index = cpu.max_pool2d(x, *how)
        np.testing.assert_array_equal(ours, y.detach().numpy())
        agree(cpu.max_pool2d_scatter(g, index, x.shape, *how), tx.grad.numpy())
        y = functional.avg_pool2d(tx, *how, count_include_pad=count_include_pad)
        agree(cpu.avg_pool2d(x, *how, count_include_pad), y.detach().numpy())

    x, g, weight, bias = normalization_case
    tx = tensor(x)
    y = functional.batch_norm(tx, None, None, tensor(weight), tensor(bias), training=True, eps=1e-2)
    y.backward(torch.tensor(np.ascontiguousarray(g)))
    ours, mean, _, inv_std = cpu.batch_norm(x, weight, bias, 1e-2)
    agree(ours, y.detach().numpy(), 100)
    agree(cpu.batch_norm_backward(g, x, weight, mean, inv_std)[0], tx.grad.numpy(), 1000)


def test_the_order_of_nan_and_ties_in_max_pool2d_is_pytorchs():
    torch = pytest.importorskip("torch")
    nan = np.nan
    for row in ([nan, 1, 2, nan], [1, nan, 2, 3], [3, 3, 3, 3], [0, 2, 2, 1], [nan, nan, nan, 1]):
        x = np.array(row, np.float32).reshape(1, 1, 2, 2)
        _, index = torch.nn.functional.max_pool2d(torch.tensor(x), 2, return_indices=True)
        assert cpu.max_pool2d(x, (2, 2), (2, 2), NONE)[1].item() == index.item()
