"""Batch-norm on a GPU: executed on the CPU, against NumPy in float64."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backend import gpu
from minigrad.backend.running_statistics import RunningStatistics
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(8, 3, 5, 7), (16, 32, 8, 8), (5, 33, 3, 1), (2, 1), (100, 65), (700, 6), (3, 40, 4), (3000, 2), (1, 24)]
ROUNDING = {"f2": 2e-3, "f4": 2e-6, "f8": 1e-14}
EPS = 1e-5


@pytest.fixture(params=[0, 1, 7], autouse=True)
def device(request, monkeypatch):
    monkeypatch.setattr(compiling, "order", request.param)
    with strict_backend.installed():
        yield


def on_device(*arrays):
    return [None if array is None else mg.tensor(array, device="cuda").data for array in arrays]


def case(shape, dtype, centre=0.5, affine=True):
    rng = np.random.default_rng(len(shape) + shape[1])
    x, g = (rng.standard_normal(shape) * 2 + centre).astype(dtype), rng.standard_normal(shape).astype(dtype)
    weight, bias = (rng.uniform(0.5, 1.5, shape[1]).astype(dtype) if affine else None for _ in range(2))
    return x, g, weight, bias


def exact(x, weight, bias):
    """(y, mean, variance, inv_std) in float64."""
    x, axes = x.astype("f8"), (0, *range(2, x.ndim))
    mean, variance = x.mean(axes), x.var(axes)
    inv_std = 1 / np.sqrt(variance + EPS)
    y = (x - along(mean, x)) * along(inv_std, x)
    y = y if weight is None else y * along(weight.astype("f8"), x)
    return y if bias is None else y + along(bias.astype("f8"), x), mean, variance, inv_std


def along(values, x):
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(shape, dtype, affine, relu):
    x, _, weight, bias = case(shape, dtype, affine=affine)
    found = gpu.batch_norm(*on_device(x, weight, bias), EPS, relu)
    expected = exact(x, weight, bias)
    expected = np.maximum(expected[0], 0) if relu else expected[0], *expected[1:]
    for ours, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.host, wanted, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert found[0].host.dtype == dtype and found[0].host.shape == shape


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(shape, dtype, affine, relu):
    x, g, weight, bias = case(shape, dtype, affine=affine)
    y, mean, _, inv_std = gpu.batch_norm(*on_device(x, weight, bias), EPS, relu)
    found = gpu.batch_norm_backward(*on_device(g, x, weight), mean, inv_std, y if relu else None)

    axes, wide = (0, *range(2, x.ndim)), x.astype("f8")
    slope = np.where(y.host != 0, g, 0).astype("f8") if relu else g.astype("f8")
    _, exact_mean, _, exact_inv = exact(x, weight, bias)
    xhat = (wide - along(exact_mean, x)) * along(exact_inv, x)
    dbias, dweight = slope.sum(axes), (slope * xhat).sum(axes)
    count = x.size // x.shape[1]
    scale = along(exact_inv * (1 if weight is None else weight.astype("f8")), x)
    dx = (slope - along(dbias / count, x) - xhat * along(dweight / count, x)) * scale
    terms = np.abs(slope * scale).max(), np.abs(slope * xhat).sum(axes).max(), np.abs(slope).sum(axes).max()
    for ours, wanted, largest in zip(found, (dx, dweight, dbias), terms, strict=True):
        relative = ROUNDING[dtype]  # of the largest term, as sums and differences cancel
        absolute = relative * largest + float(np.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(ours.host, wanted, rtol=relative, atol=absolute)


def test_a_mean_far_from_zero_costs_no_more_digits_than_the_input_lost():
    x, *_ = case((2000, 5), "f4", centre=1e4)
    y, mean, variance, _ = gpu.batch_norm(*on_device(x, None, None), EPS)
    expected = exact(x, None, None)
    np.testing.assert_allclose(mean.host, expected[1], rtol=1e-7)
    np.testing.assert_allclose(variance.host, expected[2], rtol=1e-6)
    np.testing.assert_allclose(y.host, expected[0], atol=1e-3)  # the mean is rounded to 1e-3, as float32 has it


def test_each_channel_keeps_the_digits_of_its_own_size():
    """Means of channels side by side that are far apart, or nearly 0."""
    rng = np.random.default_rng(0)
    centre, size = np.array([1e6, 1e-3, -1e6, 0, 0]), np.array([1, 1e-4, 10, 1e-6, 1e3])
    x = (centre + size * rng.standard_normal((1000, 5))).astype("f4")
    _, mean, variance, _ = gpu.batch_norm(*on_device(x, None, None), EPS)
    expected = exact(x, None, None)
    assert (np.abs(mean.host - expected[1]) <= 3e-7 * np.maximum(size, np.abs(centre))).all()
    np.testing.assert_allclose(variance.host, expected[2], rtol=1e-6)


def test_a_first_value_far_from_all_others_costs_no_digits():
    x, *_ = case((3000, 5), "f4", centre=1e4)
    x[0] = 0  # what is subtracted from all values
    _, mean, variance, _ = gpu.batch_norm(*on_device(x, None, None), EPS)
    expected = exact(x, None, None)
    np.testing.assert_allclose(mean.host, expected[1], rtol=1e-6)
    np.testing.assert_allclose(variance.host, expected[2], rtol=1e-6)


def test_constant_channels_have_variance_0_and_a_nan_stays_in_its_channel():
    x = np.full((50, 3), 7.0, "f4")
    x[4, 1] = np.nan
    y, mean, variance, _ = gpu.batch_norm(*on_device(x, None, None), EPS, True)
    assert (variance.host[[0, 2]] == 0).all() and (y.host[:, [0, 2]] == 0).all() and (mean.host[[0, 2]] == 7).all()
    assert np.isnan(y.host[:, 1]).all()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_layers_statistics_move_on_the_device_as_the_cpus_do(momentum):
    batches = [case((6, 4, 3, 3), "f4", centre=i)[0] for i in range(3)]
    found = {}
    for where in ("cpu", "cuda"):
        layer = nn.BatchNorm2d(4, momentum=momentum).to(where)
        layer(mg.tensor(batches[0], device=where))
        with strict_backend.counted() as counts:
            for batch in batches[1:]:
                layer(mg.tensor(batch, device=where))
        assert not counts.waits
        found[where] = {name: buffer.numpy() for name, buffer in layer.named_buffers()}
    assert found["cuda"]["num_batches_tracked"] == 3
    for name, expected in found["cpu"].items():
        np.testing.assert_allclose(found["cuda"][name], expected, rtol=1e-6)


def test_running_statistics_move_in_the_launches_of_the_forward():
    x, mean, variance = on_device(case((9, 3), "f4")[0], np.zeros(3, "f4"), np.ones(3, "f4"))
    launched = len(compiling.launches)
    gpu.batch_norm(x, None, None, EPS, False, RunningStatistics(mean, variance, 9, 0.1))
    assert [name for name, *_ in compiling.launches[launched:]] == ["batch_norm_moments", "batch_norm_apply"]
    assert (mean.host != 0).all()


def test_a_momentum_of_0_leaves_the_running_statistics_alone():
    x, mean, variance, batches = on_device(case((9, 3), "f4")[0], np.full(3, 2, "f4"), np.full(3, 5, "f4"), np.int64(3))
    gpu.batch_norm(x, None, None, EPS, False, RunningStatistics(mean, variance, 9, 0.0, batches))
    assert (mean.host == 2).all() and (variance.host == 5).all() and batches.host == 4


@pytest.mark.parametrize("rows", [100, 400, 700, 3000])
def test_running_statistics_move_once_however_many_blocks_find_the_moments(rows):
    x, *_ = case((rows, 3), "f8")
    pixels = np.repeat(x, 11, axis=1)  # 33 channels: of a warp each row, and a second column of blocks
    found, mean, variance = on_device(pixels, np.zeros(33), np.ones(33))
    gpu.batch_norm(found, None, None, EPS, False, RunningStatistics(mean, variance, rows, 0.25))
    np.testing.assert_allclose(mean.host, 0.25 * pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance.host, 0.75 + 0.25 * pixels.var(0, ddof=1), rtol=1e-12)
