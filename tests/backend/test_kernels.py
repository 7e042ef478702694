"""The array kernels: the CPU's blocked bodies against whole-batch ones, against naive loops, and against themselves.

The bodies in backend/plain run on NumPy arrays too and are written independently: each is the other's oracle. What is
linear is held to its adjoint; what could depend on the number of threads is run with several.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.backend import cpu, plain, threads
from minigrad.backend.cpu import convolution, normalization, pooling
from tests.support.kernel_cases import (
    NONE,
    ONE,
    agree,
    all_results,
    any_dtype,
    convolution_cases,
    few,
    inner,
    many,
    normalization_cases,
    pooling_cases,
    random_array,
)

pytestmark = pytest.mark.usefixtures("path")


# --- convolution ---


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
    for kernels in (cpu, plain):
        y = kernels.conv2d(x, w, bias, *how)
        assert y.dtype == x.dtype
        agree(y.astype(np.float64), naive_conv2d(x, w, bias, *how), scale=2e7 if x.dtype == np.float32 else 10)


@many
@given(convolution_cases(any_dtype))
def test_conv2d_and_its_gradients_agree_between_backends(case):
    x, w, bias, g, how = case
    scale = np.sqrt(g.size + w.size)
    agree(cpu.conv2d(x, w, bias, *how), plain.conv2d(x, w, bias, *how), scale)
    agree(cpu.conv2d_input_grad(g, w, x.shape, *how), plain.conv2d_input_grad(g, w, x.shape, *how), scale)
    agree(cpu.conv2d_weight_grad(x, g, w.shape, *how), plain.conv2d_weight_grad(x, g, w.shape, *how), scale)


@pytest.mark.parametrize("kernels", [cpu, plain])
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
    agree(y, plain.conv2d(x, w, bias, *how), scale=20)
    agree(cpu.conv2d_input_grad(g, w, x.shape, *how), plain.conv2d_input_grad(g, w, x.shape, *how), scale=20)
    agree(cpu.conv2d_weight_grad(x, g, w.shape, *how), plain.conv2d_weight_grad(x, g, w.shape, *how), scale=100)


# --- pooling ---


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
    for kernels in (cpu, plain):
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
    agree(dx, plain.max_pool2d_scatter(g, index, x.shape, *how))
    agree(picked, plain.max_pool2d_gather(x, index, *how))
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
    agree(y, plain.avg_pool2d(x, *how, count_include_pad))
    agree(dx, plain.avg_pool2d_input_grad(g, x.shape, *how, count_include_pad), scale=5)
    assert inner(y, g) == pytest.approx(inner(x, dx), rel=1e-2 if x.dtype == np.float16 else 1e-5, abs=0.05)


# --- batch normalisation ---


@many
@given(normalization_cases(any_dtype))
def test_batch_norm_agrees_between_backends(case):
    x, g, weight, bias = case
    ours, theirs = cpu.batch_norm(x, weight, bias, 1e-3), plain.batch_norm(x, weight, bias, 1e-3)
    for mine, its in zip(ours, theirs, strict=True):
        agree(mine, its, scale=100)
    mean, inv_std = ours[1], ours[3]
    backward = (kernels.batch_norm_backward(g, x, weight, mean, inv_std) for kernels in (cpu, plain))
    for mine, its in zip(*backward, strict=True):
        agree(mine, its, scale=1000)


@many
@given(normalization_cases(any_dtype))
def test_channel_sum_is_a_sum_over_all_axes_but_one(case):
    x = case[0]
    exact = x.astype(np.float64).sum(axis=tuple(a for a in range(x.ndim) if a != 1))
    for kernels in (cpu, plain):
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


@pytest.mark.parametrize("kernels", [cpu, plain])
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


@pytest.mark.parametrize("kernels", [cpu, plain])
@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4, 1e6, -8e6])
def test_batch_norm_takes_a_large_mean_off_before_it_scales(kernels, mean):
    x = np.array([[0, 3], [1, 0], [2, 6]], np.float32) + np.float32(mean)  # exact
    exact = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    bias = np.array([0.5, -1], np.float32)
    y = kernels.batch_norm(x, np.ones(2, np.float32), bias, 0.0)[0]
    np.testing.assert_allclose(y, exact / exact.std(axis=0) + bias, rtol=1e-6, atol=1e-6)


def test_batch_norm_of_blocks_with_outlying_beginnings_keeps_its_variance():
    x = random_array(8, 3, 16, 16)
    x[:, :, 0] += 1000  # what the rough mean of a block is taken from
    _, _, var, _ = cpu.batch_norm(x, None, None, 0.0)
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 2, 3)), rtol=2e-6)


# --- every kernel: empty batches, memory layout, threads ---


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


# --- PyTorch as a second opinion ---


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
