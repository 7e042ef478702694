"""A bias with ReLU, and sums of channels, on a GPU: executed on the CPU, against NumPy in float64."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backend import gpu
from minigrad.backend.gpu import workspace
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [
    (8, 3, 5, 7),
    (64, 32, 8, 8),
    (5, 40, 3, 1),
    (1, 1),
    (300, 1),
    (513, 65),
    (2000, 6),
    (3, 33, 4),
    (0, 3),
    (3, 0, 2),
]
ROUNDING = {"f2": 1e-3, "f4": 3e-7, "f8": 1e-14}


@pytest.fixture(params=[0, 1, 7], autouse=True)
def device(request, monkeypatch):
    monkeypatch.setattr(compiling, "order", request.param)
    with strict_backend.installed():
        yield


def on_device(*arrays):
    return [mg.tensor(array, device="cuda").data for array in arrays]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sum(shape, dtype):
    x = (np.random.default_rng(0).standard_normal(shape) + 1).astype(dtype)
    for _ in range(2):  # twice: the counters have gone back to 0
        found = gpu.channel_sum(*on_device(x))
    expected = x.astype("f8").sum(axis=(0, *range(2, x.ndim)))
    np.testing.assert_allclose(found.host, expected, rtol=ROUNDING[dtype])


@pytest.mark.parametrize("shape", [(64, 32, 8, 8), (513, 65)])
def test_the_last_block_finds_the_parts_of_all_others(shape, monkeypatch):
    """In many orders: that a block counts itself before all its parts are there shows in few of them."""
    x = (np.random.default_rng(0).standard_normal(shape) + 1).astype("f4")
    expected = x.astype("f8").sum(axis=(0, *range(2, x.ndim)))
    for order in range(2, 10):
        monkeypatch.setattr(compiling, "order", order + 8 * compiling.order)
        np.testing.assert_allclose(gpu.channel_sum(*on_device(x)).host, expected, rtol=3e-7, err_msg=f"order {order}")


def test_more_columns_of_blocks_than_there_are_counters_at_hand(monkeypatch):
    monkeypatch.setattr(workspace, "COUNTERS", 2)
    x = (np.random.default_rng(0).standard_normal((700, 97)) + 1).astype("f4")
    np.testing.assert_allclose(gpu.channel_sum(*on_device(x)).host, x.astype("f8").sum(0), rtol=3e-7)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_relu_and_its_backward(shape, dtype):
    rng = np.random.default_rng(1)
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    bias = rng.standard_normal(shape[1]).astype(dtype)
    x.flat[:2] = np.nan, -np.inf
    along = bias.astype("f8").reshape(1, -1, *[1] * (len(shape) - 2))
    with np.errstate(invalid="ignore"):
        expected = np.maximum(x + along, 0)
    y = gpu.bias_relu(*on_device(x, bias))
    np.testing.assert_allclose(y.host, expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    dx, dbias = gpu.bias_relu_backward(*on_device(g, y.host))
    slopes = np.where(y.host != 0, g, 0)  # a NaN keeps its gradient
    np.testing.assert_array_equal(dx.host, slopes)
    whole = slopes.astype("f8").sum(axis=(0, *range(2, len(shape))))
    size = np.abs(slopes.astype("f8")).sum(axis=(0, *range(2, len(shape))))
    assert (np.abs(dbias.host - whole) <= ROUNDING[dtype] * size + 1e-300).all()


def test_each_is_one_launch():
    x, bias, g = on_device(*(np.ones(shape, "f4") for shape in ((4, 5, 3, 3), (5,), (4, 5, 3, 3))))
    launched = len(compiling.launches)
    gpu.bias_relu_backward(g, gpu.bias_relu(x, bias))
    assert [name for name, *_ in compiling.launches[launched:]] == ["bias_relu", "bias_relu_backward"]
