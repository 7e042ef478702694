"""Where rules meet what lies around the ops: devices, the border of vmap, float16, arrays in odd places of memory."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd
from tests.support import strict_backend
from tests.support.op_makers import close, equal, gradient

# --- between devices, and into vmap and out of it ---


def test_a_move_between_devices_is_differentiated_twice():
    with strict_backend.installed():
        x = mg.tensor([1.0, 2.0], requires_grad=True)
        weight = mg.tensor([3.0, 4.0], device="cuda")
        y = ((x.to("cuda") ** 3) * weight).to("cpu").sum()
        (g,) = autograd.grad(y, x, create_graph=True)
        (gg,) = autograd.grad(g.sum(), x)
        assert g.device == gg.device == "cpu"
        equal(g.detach().numpy(), [9, 48])
        equal(gg.numpy(), [18, 48])


def test_large_and_negative_integers_are_added_on_a_device_to_the_last_digit():
    with strict_backend.installed():
        x = mg.tensor([2**60 + 1, 5], dtype="i8", device="cuda")
        added = mg.index_add(x, [0, 0, 1], mg.tensor([2**60, 2, -7], dtype="i8", device="cuda"))
        assert added.tolist() == [2**61 + 3, -2]


@pytest.mark.parametrize("into", [0, 1, -1])
@pytest.mark.parametrize("out", [0, 1, -1])
def test_gradients_cross_the_border_of_vmap_along_any_axis(into, out):
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    f = mg.vmap(lambda x: x * x, in_axes=into, out_axes=out)
    seed = np.cos(np.arange(x.size)).reshape(np.moveaxis(x, into, out).shape)
    close(gradient(f, x, seed=seed), 2 * x * np.moveaxis(seed, out, into))


def test_what_all_examples_share_is_differentiated_twice():
    w = mg.tensor(2.0, dtype="f8", requires_grad=True)
    y = mg.vmap(lambda x: w**3 * x)(mg.tensor(np.array([1.0, 2.0, 4.0]))).sum()
    (g,) = autograd.grad(y, w, create_graph=True)
    (gg,) = autograd.grad(5 * g, w)
    equal(g.detach().numpy(), 3 * 4 * 7)
    equal(gg.numpy(), 5 * 6 * 2 * 7)


def test_each_example_adds_up_the_gradients_of_its_reads():
    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    found = mg.vmap(mg.grad(lambda x: x[0] * x[1] + x[1] * x[2] + x[1]))(mg.tensor(x)).numpy()
    equal(found, [[2, 5, 2], [5, 11, 5]])


def test_each_example_adds_up_the_gradients_of_reads_at_places_of_its_own():
    x, places = mg.tensor(np.zeros(4)), mg.tensor(np.array([0, 2]))
    for f, expected in (
        (lambda x, i: x[i] + x[i] + x[i + 1], [[2, 1, 0, 0], [0, 0, 2, 1]]),
        (lambda x, i: x[i] + x[0] + x[0], [[3, 0, 0, 0], [2, 0, 1, 0]]),
        (lambda x, i: x[0] + x[0] + x[i], [[3, 0, 0, 0], [2, 0, 1, 0]]),
    ):
        equal(mg.vmap(lambda i, f=f: mg.grad(lambda x: f(x, i))(x))(places).numpy(), expected)


# --- in float16, and otherwise in memory ---


def test_a_bias_of_a_convolution_gets_the_sum_over_images_that_lie_last_in_memory():
    random = np.random.default_rng(0)
    x, weight, bias = (
        mg.tensor(random.standard_normal(s), requires_grad=True) for s in ((5, 2, 3, 3), (4, 2, 1, 1), 4)
    )
    y = mg.conv2d(x, weight, bias)
    seed = random.standard_normal((4, 3, 3, 5)).transpose(3, 0, 1, 2)
    y.backward(seed)
    close(bias.grad.numpy(), seed.sum(axis=(0, 2, 3)))


def test_float16_gradients_of_images_are_exact_where_the_numbers_are():
    random = np.random.default_rng(0)

    def whole(*shape):
        return random.integers(-3, 4, shape).astype("f2")

    arrays, seed = (whole(2, 2, 4, 4), whole(2, 2, 3, 3), whole(2)), whole(2, 2, 2, 2)
    for f, given in ((mg.conv2d, arrays), (lambda x: mg.avg_pool2d(x, 2), arrays[:1])):
        narrow, wide = ([mg.tensor(a.astype(t), requires_grad=True) for a in given] for t in ("f2", "f8"))
        for xs in (narrow, wide):
            f(*xs).backward(seed.astype(xs[0].dtype))
        for found, expected in zip(narrow, wide, strict=True):
            assert found.grad.dtype == np.float16
            equal(found.grad.numpy(), expected.grad.numpy())


def test_float16_gradients_of_batch_norm_are_those_of_float64_rounded():
    random = np.random.default_rng(0)
    arrays = (random.standard_normal((4, 2, 3)), random.uniform(0.5, 2, 2), random.standard_normal(2))
    seed = random.standard_normal((4, 2, 3)).astype("f2")
    narrow, wide = ([mg.tensor(a.astype("f2").astype(t), requires_grad=True) for a in arrays] for t in ("f2", "f8"))
    for xs in (narrow, wide):
        mg.batch_norm(*xs).backward(seed.astype(xs[0].dtype))
    for found, expected in zip(narrow, wide, strict=True):
        np.testing.assert_allclose(found.grad.numpy().astype(float), expected.grad.numpy(), rtol=1e-2, atol=4e-3)
