"""Long sums: no op adds so many numbers one by one that the small ones are lost.

Claimed: whatever the axis and the layout in memory, a sum in float32 is within a few roundings of the sum in float64;
float16 is added in float32, also where the count itself is beyond float16; products that vanish or overflow on the way
have right values and derivatives.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backend import total

MANY = 300_000


def positive(*shape, dtype="f4"):
    return np.random.default_rng(0).random(shape, np.float32).astype(dtype)


def error(found, exact) -> float:
    """The largest relative error."""
    return float(np.abs(np.asarray(found, np.float64) / exact - 1).max())


def gradient(f, *arrays):
    tensors = [mg.tensor(x, requires_grad=True) for x in arrays]
    f(*tensors).backward()
    return [x.grad.numpy() for x in tensors]


LAYOUTS = {
    "rows": (lambda: positive(MANY, 2), 0),
    "the middle": (lambda: positive(2, MANY, 3), 1),
    "several leading axes": (lambda: positive(100, 60, 50, 2), (0, 1, 2)),
    "axes apart": (lambda: positive(MANY // 2, 3, 2), (0, 2)),
    "transposed": (lambda: positive(MANY, 2).T, 1),
    "images, channels last": (lambda: np.moveaxis(positive(3000, 10, 10, 4), -1, 1), (0, 2, 3)),
    "images, channels first": (lambda: positive(30000, 4, 3, 3), (0, 2, 3)),
    "every other column": (lambda: positive(MANY, 4)[:, ::2], 0),
    "backwards": (lambda: positive(MANY, 2)[::-1], 0),
    "all of a view": (lambda: positive(MANY, 4)[:, ::2], None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", ["sum", "mean", "var", "norm", "logsumexp"])
def test_a_long_reduction_in_float32_is_right_to_float32(op, layout):
    make, axis = LAYOUTS[layout]
    x = make()
    found = getattr(mg, op)(mg.tensor(x), axis=axis).numpy()
    assert found.dtype == np.float32
    exact = getattr(mg, op)(mg.tensor(x.astype("f8")), axis=axis).numpy()
    assert error(found, exact) < 5e-7


def test_a_mean_beyond_the_integers_of_float32():
    assert (total(np.broadcast_to(np.float32(1), (20_000_000, 2)), 0) == 20_000_000).all()


def test_the_gradient_of_what_was_broadcast_is_a_long_sum():
    x, w = positive(MANY, 2), positive(2)
    found = gradient(lambda x, w: (x * w).sum(), x, w)[1]
    assert error(found, x.sum(axis=0, dtype="f8")) < 5e-7
    found = gradient(lambda x, w, b: mg.linear(x, w, b).sum(), x, positive(3, 2), positive(3))
    assert error(found[2], MANY) < 1e-7


def test_the_gradient_of_what_vmap_shares_is_a_long_sum():
    x, w = positive(MANY, 2), mg.tensor(positive(2), requires_grad=True)
    mg.vmap(lambda row: row * w)(mg.tensor(x)).sum().backward()
    assert error(w.grad.numpy(), x.sum(axis=0, dtype="f8")) < 5e-7


@pytest.mark.parametrize(
    "form", ["ij,ij->j", "ij,ik->jk", "ij,ik,il->jkl", "ij->j", "ij,i->j", "ij,ij->", "ij,kj->", "ji,i->j"]
)
def test_long_sums_of_products_are_right_to_float32(form):
    columns = {"j": 2, "k": 3, "l": 2}
    shapes = [[columns.get(c, MANY) for c in term] for term in form.split("->")[0].split(",")]
    arrays = [np.random.default_rng(i).random(shape, np.float32) for i, shape in enumerate(shapes)]
    arrays[1:] = [x[:3] if form == "ij,kj->" else x for x in arrays[1:]]
    wide = [x.astype("f8") for x in arrays]
    assert error(mg.einsum(form, *map(mg.tensor, arrays)).numpy(), np.einsum(form, *wide)) < 2e-6
    found, exact = (gradient(lambda *xs: mg.einsum(form, *xs).sum(), *xs) for xs in (arrays, wide))
    for g, e in zip(found, exact, strict=True):
        assert error(g, e) < 2e-6


@pytest.mark.parametrize("f", [mg.matmul, mg.dot, lambda a, b: mg.einsum("ij,jk->ik", a, b), mg.tensordot, mg.linear])
def test_products_of_float16_are_added_in_float32(f):
    a, b = np.full((2, 5000), 0.01, "f2"), np.full((5000, 2), 1.0, "f2")
    b = b.T if f in (mg.linear, mg.tensordot) else b
    found = f(mg.tensor(a), mg.tensor(b))
    assert found.dtype == np.float16
    exact = 5000 * float(a[0, 0]) * (2 if f is mg.tensordot else 1)
    assert error(found.numpy(), exact) < 1e-3


@pytest.mark.parametrize("axis", [(0,), (1, 0), 2, (-1, 1), 3, (0, 0), "a"])
def test_a_sum_takes_the_axes_that_numpys_takes_and_refuses_the_others(axis):
    x = positive(40, 5, 7)
    try:
        expected = x.sum(axis=axis)
    except (ValueError, TypeError) as refused:
        with pytest.raises(type(refused)):
            total(x, axis)
    else:
        np.testing.assert_allclose(total(x, axis), expected, rtol=1e-6)


# --- float16 ---


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("op", ["mean", "var", "std", "norm", "max", "logsumexp"])
def test_float16_reductions_of_more_than_float16_can_count(op, axis):
    x = np.random.default_rng(0).normal(0, 3, (100_000, 1)).astype("f2")
    x[:70_000] = x.max() if op == "max" else x[:70_000]
    f = getattr(mg, op)
    wide = x.astype("f8")
    assert f(mg.tensor(x), axis=axis).dtype == np.float16
    assert error(f(mg.tensor(x), axis=axis).numpy(), f(mg.tensor(wide), axis=axis).numpy()) < 1e-3
    found, exact = gradient(lambda x: f(x, axis=axis).sum(), x)[0], gradient(lambda x: f(x, axis=axis).sum(), wide)[0]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype("f8"), exact, rtol=1e-3, atol=6e-8)  # the step of float16 near 0


def test_running_sums_of_float16_and_float32_do_not_stand_still():
    assert mg.cumsum(mg.ones(4096, dtype="f2"), 0).numpy()[-1] == 4096
    x = positive(MANY)
    assert error(mg.cumsum(mg.tensor(x), 0).numpy(), np.cumsum(x, dtype="f8")) < 1e-7


def test_float16_added_at_one_place_does_not_stand_still():
    index = np.zeros(4096, int)
    weight = mg.tensor(np.zeros((2, 3), "f2"), requires_grad=True)
    mg.embedding(index, weight).sum().backward()
    np.testing.assert_array_equal(weight.grad.numpy(), [[4096] * 3, [0] * 3])
    added = mg.scatter_add(mg.zeros(2, dtype="f2"), 0, index, mg.ones(4096, dtype="f2"))
    np.testing.assert_array_equal(added.numpy(), [4096, 0])


# --- numbers whose powers or products leave the range ---


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("ord", [1, 2, 3, 0.5, 2.5, np.inf])
@pytest.mark.parametrize("size, dtype", [(3e20, "f4"), (3e-25, "f4"), (3e200, "f8"), (3e-250, "f8"), (1e-44, "f4")])
def test_a_norm_and_its_gradient_do_not_depend_on_the_scale(size, dtype, ord, axis):
    x = np.array([3.0, -4.0, 1.0])
    small = np.finfo(dtype).tiny > size
    scaled = (x * size).astype(dtype)
    x = scaled.astype("f8") / size
    value = mg.norm(mg.tensor(scaled), ord, axis).numpy()
    np.testing.assert_allclose(value / size, mg.norm(mg.tensor(x), ord, axis).numpy(), rtol=0.2 if small else 2e-6)
    found = gradient(lambda x: mg.norm(x, ord, axis), scaled)[0]
    np.testing.assert_allclose(found, gradient(lambda x: mg.norm(x, ord, axis), x)[0], rtol=0.2 if small else 2e-6)


@pytest.mark.parametrize("ord", [0.3, 0.5, 0.9])
def test_the_gradient_of_a_norm_below_one_is_zero_at_zero_elements(ord):
    found = gradient(lambda x: mg.norm(x, ord), np.array([0.0, 3.0, -4.0]))[0]
    alone = gradient(lambda x: mg.norm(x, ord), np.array([3.0, -4.0]))[0]
    np.testing.assert_allclose(found, [0, *alone])


def test_a_running_product_that_vanishes_on_the_way_has_a_derivative():
    x = np.array([1e-25, 1e-25, 1e25], "f4")
    np.testing.assert_allclose(mg.cumprod(mg.tensor(x), 0).numpy(), [1e-25, 0, 1e-25], rtol=1e-6)
    np.testing.assert_allclose(gradient(lambda x: mg.cumprod(x, 0)[2], x)[0], [1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(gradient(mg.prod, x)[0], [1, 1, 0], rtol=1e-6)
    tangent = mg.jvp(lambda x: mg.cumprod(x, 0), (mg.tensor(x),), (mg.ones(3),))[1]
    np.testing.assert_allclose(tangent.numpy(), [1, 2e-25, 2], rtol=1e-6)
    found = gradient(lambda x: mg.cumprod(x, 0)[4], np.array([1e-30, 1e-30, 1, 1e30, 1e30], "f4"))[0]
    np.testing.assert_allclose(found, [1e30, 1e30, 1, 1e-30, 1e-30], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_running_product_of_a_0d_tensor(value):
    x = mg.tensor(value, dtype="f8", requires_grad=True)
    assert mg.gradcheck(lambda x: mg.cumprod(x, 0), x) and mg.gradgradcheck(lambda x: mg.cumprod(x, 0), x)


# --- infinite gradients, and NaN ---


@pytest.mark.parametrize("op", ["max", "min"])
def test_an_infinite_gradient_of_an_extreme_concerns_the_winners_only(op):
    x = np.array([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]) * (1 if op == "max" else -1)
    f = getattr(mg, op)
    found = gradient(lambda x: mg.sqrt(f(x, axis=1) * 0).sum(), x)[0]
    assert (np.isnan(found) | np.isinf(found)).tolist() == [[False, True, True], [True, False, False]]
    tangent = mg.jvp(lambda x: f(x, axis=1), (mg.tensor(x),), (mg.tensor([[np.inf, 1.0, 2.0], [1.0, np.inf, 0.0]]),))[1]
    np.testing.assert_array_equal(tangent.numpy(), [1.5, 1.0])


@pytest.mark.parametrize("op", ["max", "min"])
def test_a_nan_wins_and_takes_the_gradient(op):
    x = np.array([[1.0, np.nan, 3.0], [2.0, 1.0, 0.0]])
    found = gradient(lambda x: getattr(mg, op)(x, axis=1).sum(), x)[0]
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 0] if op == "max" else [0, 0, 1]])
