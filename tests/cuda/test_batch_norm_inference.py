"""Batch-norm by given statistics on a GPU: one launch each way, against NumPy in float64; and its derivatives."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backend import cpu, gpu, plain
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(8, 3, 5, 7), (16, 32, 8, 8), (5, 33, 3, 1), (1, 1), (100, 65), (700, 6), (3, 40, 4), (3000, 2), (0, 4)]
ROUNDING = {"f2": 2e-3, "f4": 2e-6, "f8": 1e-14}
EPS = 1e-3


@pytest.fixture(params=[0, 1, 7])
def device(request, monkeypatch):
    monkeypatch.setattr(compiling, "order", request.param)
    with strict_backend.installed():
        yield


def on_device(*arrays):
    return [None if array is None else mg.tensor(array, device="cuda").data for array in arrays]


def case(shape, dtype, affine=True, far=0.0):
    """(g, x, mean, variance, weight, bias)"""
    rng = np.random.default_rng(len(shape) + shape[1])
    channels = shape[1]
    mean = rng.uniform(-1, 1, channels) + far
    x = rng.standard_normal(shape) * 2 + along(mean, np.empty(shape))
    variance, weight, bias = (
        rng.uniform(0.2, 3, channels),
        rng.uniform(0.5, 1.5, channels),
        rng.uniform(-1, 1, channels),
    )
    arrays = (rng.standard_normal(shape), x, mean, variance, *((weight, bias) if affine else (None, None)))
    return [None if array is None else array.astype(dtype) for array in arrays]


def along(values, x):
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def exact(x, mean, variance, weight, bias, relu=False):
    """The result in float64."""
    x, mean, variance = (array.astype("f8") for array in (x, mean, variance))
    y = (x - along(mean, x)) / np.sqrt(along(variance, x) + EPS)
    y = y if weight is None else y * along(weight.astype("f8"), x)
    y = y if bias is None else y + along(bias.astype("f8"), x)
    return np.maximum(y, 0) if relu else y


def exact_gradients(g, x, mean, variance, weight, y):
    """(dx, dmean, dvariance, dweight, dbias) in float64, and for each the sum of the absolute terms it consists of."""
    g = g.astype("f8") if y is None else np.where(y != 0, g, 0).astype("f8")
    x, mean, variance = (array.astype("f8") for array in (x, mean, variance))
    axes, inverse = (0, *range(2, x.ndim)), 1 / np.sqrt(variance + EPS)
    scale = inverse if weight is None else inverse * weight.astype("f8")
    product = g * (x - along(mean, x)) * along(inverse, x)

    def found(g, product, sign):
        sums, products = g.sum(axes), product.sum(axes)
        return g * along(scale, x), sign * sums * scale, sign * products * scale * inverse / 2, products, sums

    return zip(found(g, product, -1), found(np.abs(g), np.abs(product), 1), strict=True)


def assert_close(ours, wanted, terms, dtype):
    error = np.abs(ours.astype("f8") - wanted)
    assert (error <= ROUNDING[dtype] * terms + float(np.finfo(dtype).smallest_subnormal)).all(), error.max()


every = pytest.mark.parametrize


def each_case(test):
    test = every("shape", SHAPES, ids=str)(every("dtype", ROUNDING)(test))
    return every("affine", [True, False])(every("relu", [False, True])(test))


@each_case
def test_forward(shape, dtype, affine, relu, device):
    _, *given = case(shape, dtype, affine)
    compiling.launches.clear()
    found = gpu.batch_norm_inference(*on_device(*given), EPS, relu)
    assert [name for name, *_ in compiling.launches] == ["batch_norm_inference"] * bool(given[0].size)
    terms = np.abs(exact(*given)) + 2  # of (x - mean) * scale and of the bias
    assert_close(found.host, exact(*given, relu), terms, dtype)
    assert found.dtype == dtype and found.shape == shape


@each_case
def test_backward(shape, dtype, affine, relu, device):
    g, x, mean, variance, weight, bias = case(shape, dtype, affine)
    y = exact(x, mean, variance, weight, bias, True).astype(dtype) if relu else None
    given = g, x, mean, variance, weight
    compiling.launches.clear()
    found = gpu.batch_norm_inference_backward(*on_device(*given), EPS, *on_device(y))
    assert [name for name, *_ in compiling.launches] == ["batch_norm_inference_backward"]
    for ours, (wanted, terms) in zip(found, exact_gradients(*given, y), strict=True):
        assert_close(ours.host, wanted, terms, dtype)
        assert ours.dtype == dtype and ours.shape == wanted.shape


@each_case
def test_the_plain_body_and_the_cpus(shape, dtype, affine, relu):
    g, *given = case(shape, dtype, affine)
    x, mean, variance, weight, _ = given
    for body in (plain, cpu):
        found = body.batch_norm_inference(*given, EPS, relu)
        assert_close(found, exact(*given, relu), np.abs(exact(*given)) + 2, dtype)
        assert found.dtype == dtype and found.shape == shape
    y = exact(*given, True).astype(dtype) if relu else None
    found = plain.batch_norm_inference_backward(g, x, mean, variance, weight, EPS, y)
    for ours, (wanted, terms) in zip(found, exact_gradients(g, x, mean, variance, weight, y), strict=True):
        assert_close(ours, wanted, terms * 4, dtype)
        assert ours.dtype == dtype


@every("body", [plain, cpu, gpu])
def test_a_mean_far_from_zero_costs_no_more_digits_than_the_input_lost(body, device):
    _, *given = case((500, 5), "f4", far=1e4)
    found = body.batch_norm_inference(*(on_device(*given) if body is gpu else given), EPS)
    np.testing.assert_allclose(found.host if body is gpu else found, exact(*given), rtol=1e-5, atol=1e-5)


def test_a_nan_stays_through_the_relu_and_in_its_place(device):
    _, x, *given = case((6, 3, 2, 2), "f4")
    x[1, 2, 0, 1] = np.nan
    found = gpu.batch_norm_inference(*on_device(x, *given), EPS, True).host
    assert np.isnan(found[1, 2, 0, 1]) and np.isnan(found).sum() == 1


def test_arguments_of_several_dtypes_give_the_widest(device):
    _, x, mean, variance, weight, bias = case((4, 3), "f4")
    found = gpu.batch_norm_inference(*on_device(x.astype("f2"), mean, variance.astype("f8"), weight, bias), EPS)
    assert found.dtype == "f8"
    np.testing.assert_allclose(found.host, exact(x.astype("f2"), mean, variance, weight, bias), rtol=1e-6)


@every("relu", [False, True])
@every("where", ["cpu", "cuda"])
@every("shape", [(4, 3), (2, 3, 2, 2)], ids=str)
def test_first_and_second_derivatives_are_pytorchs(shape, where, relu):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    numbers = [rng.standard_normal(shape), *(rng.uniform(0.5, 2, 3) for _ in range(4))]
    direction = rng.standard_normal(shape)

    def both(grad, function, inputs, along, squares):
        first = grad((function(*inputs) * along).sum(), inputs, create_graph=True)
        return [*first, *grad(squares(first), inputs[:-1])]  # the bias is in no first derivative

    normalize = mg.ops.batch_norm_inference_relu if relu else mg.batch_norm_inference
    with strict_backend.installed():
        inputs = [mg.tensor(array, device=where, requires_grad=True) for array in numbers]
        ours = both(
            mg.autograd.grad, lambda *a: normalize(*a, EPS), inputs, mg.tensor(direction, device=where),
            lambda first: sum((mg.square(part)).sum() for part in first),
        )  # fmt: skip
        ours = [part.numpy() for part in ours]

    def theirs(x, mean, variance, weight, bias):
        mean, variance, weight, bias = (t.reshape(1, -1, *[1] * (x.ndim - 2)) for t in (mean, variance, weight, bias))
        y = (x - mean) / torch.sqrt(variance + EPS) * weight + bias
        return torch.relu(y) if relu else y

    inputs = [torch.tensor(array, requires_grad=True) for array in numbers]
    expected = both(
        torch.autograd.grad, theirs, inputs, torch.tensor(direction), lambda first: sum((p**2).sum() for p in first)
    )
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-11, atol=1e-12)


@every("layer", [nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())], ids=["alone", "with ReLU"])
def test_a_layer_in_evaluation_is_one_node_and_one_launch_each_way(layer, device):
    layer = layer.to("cuda").eval()
    x = mg.tensor(case((2, 3, 4, 4), "f4")[1], device="cuda", requires_grad=True)
    with strict_backend.counted() as forward:
        y = layer(x)
    assert list(forward.launches) in (["batch_norm_inference"], ["ascontiguousarray", "batch_norm_inference"])
    assert y.node.plan.op.name.startswith("batch_norm_inference") and y.node.parents[0] is x.node
    y = layer(y)  # channels-last from here on
    with strict_backend.counted() as backward:
        y.backward(mg.ones_like(y))
    assert backward.launches["batch_norm_inference_backward"] == 2
    layer.to("cpu")
