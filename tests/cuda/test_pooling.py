"""Pooling on a GPU, executed on the CPU, against PyTorch and against the array code in float64."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backend import gpu, plain
from minigrad.backend.gpu import launching, pooling
from tests.support import strict_backend
from tests.support.cuda import compiling
from tests.support.strict_backend import StrictArray

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

TOLERANCE = {"f2": 1e-3, "f4": 1e-6, "f8": 2e-15}  # up to 272 numbers are added one after the other
CASES = {  # shape, kernel, stride, padding
    "side by side": ((2, 3, 6, 8), (2, 2), (2, 2), (0, 0)),
    "overlapping": ((2, 5, 7, 6), (3, 3), (2, 2), (1, 1)),
    "one channel": ((3, 1, 5, 5), (2, 3), (1, 2), (1, 1)),
    "gaps between windows": ((1, 4, 9, 10), (2, 1), (3, 4), (0, 0)),
    "a row longer than a block": ((1, 70, 3, 9), (3, 2), (1, 1), (1, 0)),
    "the whole image": ((3, 37, 5, 4), (5, 4), (5, 4), (0, 0)),
    "the whole image and padding": ((2, 3, 3, 3), (5, 5), (5, 5), (1, 1)),
    "windows of 272 places": ((2, 2, 18, 17), (16, 17), (1, 1), (3, 2)),
    "no images": ((0, 3, 4, 4), (2, 2), (2, 2), (0, 0)),
}
every_order = pytest.mark.parametrize("order", [0, 1, 7])
every_dtype = pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
every_case = pytest.mark.parametrize("case", CASES)


def there(array):
    """On the device, channels-last in memory as layers hand images around."""
    if array.ndim < 4:
        return StrictArray(array.copy())
    return StrictArray(np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1))


def images(shape, dtype, seed=0):
    """Few different numbers, so that equals meet, and both zeros."""
    return (np.random.default_rng(seed).integers(-3, 4, shape) / 2 * np.float64(-1)).astype(dtype)


def the_only_launch(function, *args):
    compiling.launches.clear()
    found = function(*args)
    assert len(compiling.launches) == 1, compiling.launches
    return found


def same(found, expected):
    np.testing.assert_array_equal(found.host, expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape


@every_order
@every_dtype
@every_case
def test_max_pooling_is_that_of_the_array_code_to_the_bit(case, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    shape, *where = CASES[case]
    x = images(shape, dtype)
    values, winners = plain.max_pool2d(x, *where)
    launch = the_only_launch if x.size else lambda f, *args: f(*args)
    found, index = launch(gpu.max_pool2d, there(x), *where)
    same(found, values)
    same(index, winners)
    assert index.dtype == ("u1" if np.prod(where[0]) <= 256 else "i4")
    g = np.random.default_rng(1).integers(-8, 9, values.shape).astype(dtype)  # whose sums are exact
    scattered = launch(gpu.max_pool2d_scatter, there(g), index, shape, *where)
    same(scattered, plain.max_pool2d_scatter(g, winners, shape, *where))
    t = images(shape, dtype, seed=2)
    same(launch(gpu.max_pool2d_gather, there(t), index, *where), plain.max_pool2d_gather(t, winners, *where))


@every_dtype
@pytest.mark.parametrize("layout", ["channels first", "every second column", "broadcast"])
def test_any_layout_of_memory_is_taken(layout, dtype):
    x = images((3, 4, 6, 10), dtype)
    x = {"channels first": x, "every second column": x[..., ::2], "broadcast": np.broadcast_to(x[:1], x.shape)}[layout]
    where = ((3, 2), (2, 2), (1, 1))
    values, winners = plain.max_pool2d(x, *where)
    found, index = gpu.max_pool2d(StrictArray(x), *where)
    same(found, values)
    same(index, winners)
    same(gpu.max_pool2d_gather(StrictArray(x), StrictArray(winners), *where), values)
    g = {
        "channels first": values,
        "every second column": np.repeat(values, 2, axis=3)[..., ::2],
        "broadcast": np.broadcast_to(values[:1, :1], values.shape),
    }[layout]
    scattered = plain.max_pool2d_scatter(g, winners, x.shape, *where)
    same(the_only_launch(gpu.max_pool2d_scatter, StrictArray(g), there(winners), x.shape, *where), scattered)
    means = plain.avg_pool2d(x.astype("f8"), *where, False)
    np.testing.assert_allclose(
        gpu.avg_pool2d(StrictArray(x), *where, False).host, means, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@every_dtype
def test_the_last_nan_wins_the_first_of_equals_wins_and_padding_never_does(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[nan, 1, nan, 5], [2, nan, inf, inf], [-inf, -inf, 0.0, -0.0], [-inf, -inf, -0.0, 0.0]], dtype)
    x = np.stack([x, np.full_like(x, -inf)])[None]
    for where in (((2, 2), (2, 2), (0, 0)), ((3, 3), (1, 1), (1, 1))):
        values, winners = plain.max_pool2d(x, *where)
        found, index = gpu.max_pool2d(there(x), *where)
        same(found, values)
        same(index, winners)
        theirs = torch.nn.functional.max_pool2d(torch.tensor(x), *where)
        np.testing.assert_array_equal(found.host, theirs.numpy())
        np.testing.assert_array_equal(np.signbit(found.host), np.signbit(values))  # the first zero, whatever its sign


@every_order
@every_dtype
@pytest.mark.parametrize("count_include_pad", [True, False])
@every_case
def test_average_pooling_is_that_of_numpy_in_float64(case, count_include_pad, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    shape, *where = CASES[case]
    x = np.random.default_rng(0).uniform(1, 2, shape).astype(dtype)
    expected = plain.avg_pool2d(x.astype("f8"), *where, count_include_pad)
    launch = the_only_launch if x.size else lambda f, *args: f(*args)
    found = launch(gpu.avg_pool2d, there(x), *where, count_include_pad)
    assert found.dtype == x.dtype and found.shape == expected.shape
    np.testing.assert_allclose(found.host, expected, rtol=TOLERANCE[dtype])
    g = np.random.default_rng(1).uniform(1, 2, expected.shape).astype(dtype)
    spread = launch(gpu.avg_pool2d_input_grad, there(g), shape, *where, count_include_pad)
    expected = plain.avg_pool2d_input_grad(g.astype("f8"), shape, *where, count_include_pad)
    assert spread.dtype == g.dtype and spread.shape == shape
    np.testing.assert_allclose(spread.host, expected, rtol=TOLERANCE[dtype])


@every_dtype
def test_average_pooling_is_pytorchs(dtype):
    x = np.random.default_rng(3).standard_normal((2, 3, 7, 9)).astype(dtype)
    found = gpu.avg_pool2d(there(x), (3, 2), (2, 2), (1, 1), False)
    theirs = torch.nn.functional.avg_pool2d(torch.tensor(x).double(), (3, 2), 2, 1, count_include_pad=False)
    np.testing.assert_allclose(found.host, theirs.numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_nan_or_infinity_stays_in_the_windows_that_hold_it():
    x = np.ones((1, 1, 4, 6), "f4")
    x[0, 0, 0, 0], x[0, 0, 3, 5] = np.nan, np.inf
    found = gpu.avg_pool2d(there(x), (2, 2), (2, 2), (0, 0), True).host[0, 0]
    np.testing.assert_array_equal(found, [[np.nan, 1, 1], [1, 1, np.inf]])


@pytest.mark.parametrize("dtype", ["i4", "u1", "?"])
def test_integers_are_left_to_the_array_code(dtype):
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 4)).astype(dtype)
    where = ((2, 2), (2, 2), (0, 0))
    compiling.launches.clear()
    values, winners = gpu.max_pool2d(there(x), *where)
    assert not compiling.launches
    expected = plain.max_pool2d(x, *where)
    same(values, expected[0])
    same(winners, expected[1])


def test_half_of_a_million_is_added_in_float32():
    x = np.full((1, 2, 300, 300), 1.5, "f2")  # whose sum no float16 holds
    assert gpu.avg_pool2d(there(x), (300, 300), (300, 300), (0, 0), True).host.ravel().tolist() == [1.5, 1.5]


@pytest.mark.parametrize("shape", [(3, 40, 5, 7), (40, 5, 7)])
def test_the_mean_of_an_image_is_one_launch_each_way(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype("f4")
    with strict_backend.installed():
        leaf = mg.tensor(x, device="cuda", requires_grad=True)
        compiling.launches.clear()
        y = nn.AdaptiveAvgPool2d(1)(leaf)
        assert [name for name, *_ in compiling.launches] == ["mean_of_image"]
        strict_backend.traffic.clear()
        y.backward(mg.ones_like(y))
        assert [name for name, *_ in compiling.launches] == ["mean_of_image", "avg_pool_spread"]
        assert not strict_backend.traffic
        np.testing.assert_allclose(y.numpy()[..., 0, 0], x.astype("f8").mean(axis=(-2, -1)), rtol=1e-5)
        np.testing.assert_allclose(leaf.grad.numpy(), np.full(shape, 1 / 35), rtol=1e-6)


# --- bfloat16, which NumPy does not have: its bits in 16-bit integers ---


def bits_of(array):
    return torch.tensor(array).bfloat16().view(torch.int16).numpy().copy()


def numbers_of(bits):
    return torch.tensor(bits).view(torch.bfloat16).double().numpy()


def run_in_bfloat16(file, entry, shape, *args):
    """Launch a pooling kernel compiled for bfloat16; `shape` is (N, rows, columns, C), that of its result."""
    module = compiling.RawModule(code=launching.text_of(file), options=launching.options_for("bfloat16"))
    module.get_function(entry)(*pooling._a_block_a_row(shape), args)


def test_bfloat16_is_pooled_in_float32():
    where = (3, 2), (2, 1), (1, 1)
    x = numbers_of(bits_of(np.random.default_rng(0).standard_normal((2, 7, 6, 5)).astype("f4")))  # channels-last
    first = np.moveaxis(x, -1, 1)
    shape = pooling._pooled(first.shape, *where)
    windows = pooling._windows(first.shape, shape[1:3], *where)
    y, winners = np.zeros(shape, "i2"), np.zeros(shape, "u1")
    run_in_bfloat16("max_pool.cu", "max_pool", shape, bits_of(x), windows, y, winners, launching.NULL)
    values, index = plain.max_pool2d(first, *where)
    np.testing.assert_array_equal(np.moveaxis(numbers_of(y), -1, 1), values)
    np.testing.assert_array_equal(np.moveaxis(winners, -1, 1), index)
    dx = np.zeros(x.shape, "i2")
    steps = pooling._steps(np.moveaxis(y, -1, 1))
    run_in_bfloat16("max_pool.cu", "max_pool_scatter", x.shape, y, steps, winners, launching.NULL, windows, dx)
    scattered = plain.max_pool2d_scatter(values, index, first.shape, *where)
    np.testing.assert_allclose(np.moveaxis(numbers_of(dx), -1, 1), scattered, rtol=2**-8, atol=1e-6)
    run_in_bfloat16("avg_pool.cu", "avg_pool", shape, bits_of(x), windows, np.bool_(False), y)
    means = plain.avg_pool2d(first, *where, False)
    np.testing.assert_allclose(np.moveaxis(numbers_of(y), -1, 1), means, rtol=2**-8, atol=1e-6)
