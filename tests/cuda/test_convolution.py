"""Convolution by windows.cu and a product of matrices, executed on the CPU, against NumPy in float64."""

import numpy as np
import pytest

from minigrad.backend import gpu, plain
from tests.support import strict_backend
from tests.support.cuda import compiling, convolutions
from tests.support.cuda.convolutions import EMPTY, GEOMETRIES, assert_convolution, parts
from tests.support.strict_backend import StrictArray, counted

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")


@pytest.fixture(autouse=True)
def on_the_stand_in():
    with strict_backend.installed():
        yield


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", [*GEOMETRIES, *EMPTY])
def test_convolution_and_its_gradients(name, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    assert_convolution(gpu, (GEOMETRIES | EMPTY)[name], dtype)


def launched(name, dtype="f4"):
    x, w, g, options = parts(GEOMETRIES[name], dtype)
    found = []
    for kernel, first, second, shape in (
        (gpu.conv2d, x, w, None), (gpu.conv2d_input_grad, g, w, x.shape), (gpu.conv2d_weight_grad, x, g, w.shape),
    ):  # fmt: skip
        with counted() as counts:
            kernel(StrictArray(first), StrictArray(second), shape, *options)
        found.append(dict(counts.launches))
    return found


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name, product", [("3x3", "cublasGemmEx"), ("two groups", "cublasGemmStridedBatchedEx")])
def test_each_direction_is_two_launches_and_copies_nothing(name, product, dtype):
    assert launched(name, dtype) == [
        {"gather_windows": 1, product: 1}, {product: 1, "add_windows": 1}, {"gather_windows": 1, product: 1},
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["one pixel", "one pixel of groups"])
def test_a_convolution_of_one_pixel_is_one_product(name):
    assert [sum(launches.values()) for launches in launched(name)] == [1, 1, 1]


def test_images_that_lie_channels_first_are_turned_once():
    x, w, _, options = parts(GEOMETRIES["3x3"], "f4")
    first = StrictArray(np.ascontiguousarray(x))
    with counted() as counts:
        found = gpu.conv2d(first, StrictArray(w), None, *options)
    assert counts.total == 3
    np.testing.assert_allclose(found.host, plain.conv2d(x, w, None, *options), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_a_bias_is_added(dtype):
    x, w, _, options = parts(GEOMETRIES["strided"], dtype)
    bias = np.arange(5).astype(dtype)
    found = gpu.conv2d(StrictArray(x), StrictArray(w), StrictArray(bias), *options)
    exact = plain.conv2d(*(a.astype("f8") for a in (x, w, bias)), *options)
    assert found.dtype == dtype
    error = convolutions.ERROR[dtype]  # relative; the sums are of 18 products and the bias, each of size 1 to 4
    np.testing.assert_allclose(found.host, exact, rtol=2 * error, atol=40 * error)


def test_the_images_gradient_in_float16_is_rounded_once():
    w = np.zeros((4096, 1, 3, 3), "f2")
    w[:, :, 0], w[:, :, 1] = 20, -20  # in the middle +81920 and -81920 meet, which float16 does not hold
    g = convolutions.last(np.ones((1, 4096, 3, 3), "f2"))
    found = gpu.conv2d_input_grad(StrictArray(g), StrictArray(w), (1, 1, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    assert found.host[0, 0, 1, 1] == 0


def test_nan_and_infinity_reach_exactly_the_windows_that_see_them():
    x = convolutions.last(np.zeros((1, 1, 5, 5), "f4"))
    x[0, 0, 0, 0], x[0, 0, 4, 4] = np.nan, np.inf
    found = gpu.conv2d(StrictArray(x), StrictArray(np.ones((1, 1, 3, 3), "f4")), None, (1, 1), (1, 1), (1, 1), 1)
    assert np.isnan(found.host[0, 0]).sum() == 4 and np.isnan(found.host[0, 0, :2, :2]).all()
    assert np.isinf(found.host[0, 0]).sum() == 4 and np.isinf(found.host[0, 0, 3:, 3:]).all()


def test_a_weight_whose_memory_is_turned_is_convolved_too():
    x, w, g, options = parts(GEOMETRIES["3x3"], "f4")
    turned = StrictArray(convolutions.last(w))
    for kernel, first, shape in ((gpu.conv2d, x, None), (gpu.conv2d_input_grad, g, x.shape)):
        exact = getattr(plain, kernel.__name__)(first, w, shape, *options)
        np.testing.assert_allclose(
            kernel(StrictArray(first), turned, shape, *options).host, exact, rtol=1e-4, atol=1e-5
        )


def test_integers_are_left_to_array_code():
    x, w = np.arange(18).reshape(1, 2, 3, 3), np.arange(8).reshape(1, 2, 2, 2)
    options = (1, 1), (0, 0), (1, 1), 1
    found = gpu.conv2d(StrictArray(x), StrictArray(w), None, *options)
    np.testing.assert_array_equal(found.host, plain.conv2d(x, w, None, *options))


def test_without_cublas_the_array_library_multiplies(monkeypatch):
    monkeypatch.setattr("minigrad.backend.gpu.cublas.find", lambda xp: None)
    for name in ("3x3", "two groups", "one pixel"):
        assert_convolution(gpu, GEOMETRIES[name], "f4")
