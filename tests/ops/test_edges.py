"""Where derivatives need a convention, or arithmetic its care: kinks, ties, zeros, infinities, nothing at all."""

import warnings

import numpy as np
import pytest
import scipy.special

import minigrad as mg
from minigrad import autograd
from tests.support.op_makers import close, equal, gradient

INF, NAN = np.inf, np.nan


def second(f, x):
    """The diagonal of f's second derivative, for an f that is elementwise."""
    x = mg.tensor(np.asarray(x, float), requires_grad=True)
    (g,) = autograd.grad(f(x).sum(), x, create_graph=True)
    if not g.requires_grad:
        return np.zeros(x.shape)
    (gg,) = autograd.grad(g.sum(), x, allow_unused=True)
    return np.zeros(x.shape) if gg is None else gg.numpy()


# --- kinks ---


def test_slopes_at_the_kinks_are_the_conventions_of_the_field():
    equal(gradient(mg.relu, [-1, 0, 2]), [0, 0, 1])
    equal(gradient(mg.abs, [-1, 0, 2]), [-1, 0, 1])
    equal(gradient(lambda x: mg.leaky_relu(x, 0.1), [-1, 0, 2]), [0.1, 0.1, 1])
    equal(gradient(mg.sign, [-1, 0, 2]), [0, 0, 0])


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu_has_the_slope_of_its_exponential_branch_at_zero(alpha):
    """With alpha 1 elu is smooth there, so anything but 1 would be wrong."""
    close(gradient(lambda x: mg.elu(x, alpha), [-1, 0, 1]), [alpha * np.exp(-1), alpha, 1])


def test_elu_does_not_overflow_on_the_side_it_does_not_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal(gradient(mg.elu, [1000.0, INF]), [1, 1])


def test_clip_counts_its_bounds_as_inside():
    equal(gradient(lambda x: mg.clip(x, -1, 1), [-2, -1, 0, 1, 2]), [0, 1, 1, 1, 0])
    equal(gradient(lambda x: mg.clip(x, -1), [-2, -1, 0]), [0, 1, 1])
    equal(gradient(lambda x: mg.clip(x, high=1), [0, 1, 2]), [1, 1, 0])


@pytest.mark.parametrize("op", [mg.maximum, mg.minimum])
def test_at_a_tie_maximum_and_minimum_give_each_side_half(op):
    a, b = gradient(op, [1, 2, 3], [2, 2, 2], seed=np.array([1.0, 3.0, 5.0]))
    equal(a + b, [1, 3, 5])
    assert a[1] == b[1] == 1.5


@pytest.mark.parametrize("op", [mg.max, mg.min, mg.amax, mg.amin])
def test_equal_extremes_share_the_gradient(op):
    x = np.array([[1, 5, 5], [2, 2, 2], [0, 1, 2]]) * (1 if op in (mg.max, mg.amax) else -1)
    seed = np.array([2.0, 3.0, 5.0])
    equal(gradient(lambda x: op(x, axis=1), x, seed=seed), [[0, 1, 1], [1, 1, 1], [0, 0, 5]])
    equal(gradient(lambda x: op(x), x), np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]]))


def test_sort_and_topk_keep_the_order_of_equals():
    weights = np.array([10.0, 20.0, 30.0])
    equal(gradient(lambda x: mg.sort(x) * weights, [2, 1, 1]), [30, 10, 20])
    values, indices = mg.topk(mg.tensor([1.0, 3.0, 3.0, 2.0]), 3)
    equal(values.numpy(), [3, 3, 2])
    equal(indices.numpy(), [1, 2, 3])


@pytest.mark.parametrize("dtype", ["u1", "i1", "i8", "?"])
def test_topk_ranks_integers_without_negating_them(dtype):
    x = np.array([0, 1, 1, 0], dtype) if dtype == "?" else np.array([0, 3, 100, np.iinfo(dtype).min], dtype)
    values, indices = mg.topk(mg.tensor(x), 4)
    np.testing.assert_array_equal(values.numpy(), np.sort(x)[::-1])
    np.testing.assert_array_equal(x[indices.numpy()], values.numpy())


# --- zeros ---


def test_power_at_a_zero_base():
    for exponent in (2, 3, 1, 0, 2.0, 1.5):
        expected = [exponent * 0.0 ** (exponent - 1) if exponent else 0.0, exponent * 2.0 ** (exponent - 1)]
        close(gradient(lambda x, p=exponent: x**p, [0, 2]), expected)
        base, slope = gradient(mg.power, [0, 2], [exponent, exponent])
        close(base, expected)
        close(slope, [0, 2.0**exponent * np.log(2)])
    with np.errstate(divide="ignore"):
        assert not np.isfinite(gradient(lambda x: x**0.5, [0.0])).any()


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4])
def test_powers_second_derivative_at_a_zero_base(exponent):
    expected = exponent * (exponent - 1) * np.array([0.0, 2.0]) ** max(exponent - 2, 0)
    close(second(lambda x: x**exponent, [0, 2]), expected)
    close(second(lambda x: x ** float(exponent), [0, 2]), expected)
    close(second(lambda x: mg.power(x, np.array([exponent, exponent], float)), [0, 2]), expected)


def test_a_zero_base_and_a_python_number_as_base():
    equal(gradient(lambda p: mg.power(0.0, p), [0, 1, 2]), [0, 0, 0])
    equal(gradient(lambda p: mg.power(np.zeros(3), p), [0, 1, 2]), [0, 0, 0])
    close(gradient(lambda p: 2**p, [1, 2]), np.log(2) * np.array([2, 4]))


def test_a_negative_base_has_no_slope_in_its_exponent():
    assert np.isnan(gradient(lambda p: mg.power(-2.0, p), [2.0])).all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(gradient(lambda p: mg.power(np.array([-2.0]), p), [2.0])).all()


def test_power_at_a_zero_base_with_a_negative_exponent_is_infinitely_steep():
    with np.errstate(divide="ignore"):
        for exponent in (-1, -2, -0.5, -1.0):
            assert gradient(lambda x, p=exponent: x**p, [0.0]) == -INF
            base, slope = gradient(mg.power, [0.0], [exponent])
            assert base == slope == -INF, "PyTorch's values"
            assert gradient(lambda p: mg.power(0.0, p), [float(exponent)]) == -INF
            assert abs(second(lambda x, p=exponent: x**p, [0.0])) == INF
            assert abs(second(lambda x, p=exponent: mg.power(x, np.array([float(p)])), [0.0])) == INF
        base, slope = gradient(mg.power, [-0.0], [-1.0])
        assert (base, slope) == (-INF, INF)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("exponent", [0.1, 0.3, 0.7, 1.3, 2.3, -0.3, -0.7])
def test_a_power_and_its_slope_agree_on_the_exponent(dtype, exponent):
    """x^p has p as a number of x's dtype, and so must its slope; p - 1 rounded would be off by log(x) roundings."""
    p = float(np.dtype(dtype).type(exponent))
    x = np.array([0.02, 0.5, 3.0, 60.0] if dtype == "f2" else [1e-20, 1e-3, 3.0, 1e20], dtype)
    expected = p * x.astype(np.longdouble) ** (np.longdouble(p) - 1)
    t = mg.tensor(x, requires_grad=True)
    (t**exponent).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "a, b, slope", [(1.0, 0.1, -9), (-1.0, 0.1, 10), (1.0, -0.1, 10), (0.6, 0.2, -2), (5.5, 2.0, -2), (-5.5, 2.0, 3)]
)
def test_remainders_slope_in_the_divisor_is_the_quotient_that_the_forward_took(a, b, slope):
    a_slope, b_slope = gradient(mg.remainder, [a], [b])
    assert (a_slope, b_slope) == (1, slope)
    assert abs(a + slope * b - a % b) < 1e-15


@pytest.mark.parametrize("order", [1, 2])
def test_the_angle_of_the_origin_has_the_slope_zero(order):
    equal(np.stack(gradient(mg.arctan2, [0.0, -0.0], [0.0, 0.0])), np.zeros((2, 2)))
    equal(np.stack(gradient(mg.hypot, [0.0, -0.0], [0.0, 0.0])), np.zeros((2, 2)))
    equal(second(lambda y: mg.arctan2(y, 0 * y), [0.0]), [0.0])


def test_the_angle_of_a_point_at_infinity_is_flat():
    for y, x in ((1.0, INF), (INF, 1.0), (INF, INF), (-INF, 2.0)):
        equal(np.stack(gradient(mg.arctan2, [y], [x])), np.zeros((2, 1)))


# --- infinite gradients ---

SELECTIONS = {  # functions that do not depend on x at x = point: whatever arrives, x gets nothing
    "relu": (mg.relu, -1.0),
    "relu at 0": (mg.relu, 0.0),
    "abs at 0": (mg.abs, 0.0),
    "clip above": (lambda x: mg.clip(x, -1, 1), 2.0),
    "clip below": (lambda x: mg.clip(x, -1), -2.0),
    "clip with arrays": (lambda x: mg.clip(x, np.array([-1.0]), np.array([1.0])), 2.0),
    "maximum": (lambda x: mg.maximum(x, 1.0), 0.0),
    "minimum": (lambda x: mg.minimum(1.0, x), 2.0),
    "where": (lambda x: mg.where(x > 0, x, 1.0), -1.0),
    "where not": (lambda x: mg.where(x < 0, 1.0, x), -1.0),
    "sign": (mg.sign, 1.5),
    "floor": (mg.floor, 1.5),
    "round": (mg.round, 1.4),
}


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(1,), (3, 2)])
@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_infinite_gradient_stops_where_a_value_was_not_chosen(name, shape, dtype):
    """sqrt(relu(x)) at -1: the root's slope is infinite, and a mask of zeros times infinity would be NaN."""
    f, point = SELECTIONS[name]
    x = mg.tensor(np.full(shape, point, dtype), requires_grad=True)
    f(x).backward(np.full(shape, INF, dtype))
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros(shape))
    y = f(x)
    (pushed,) = mg.push(y, x, np.full(shape, INF, dtype))
    np.testing.assert_array_equal(pushed.numpy(), np.zeros(shape))
    (recorded,) = autograd.grad(f(x), x, np.full(y.shape, INF, dtype), create_graph=True)
    np.testing.assert_array_equal(recorded.detach().numpy(), np.zeros(shape))


def test_the_root_of_a_rectified_number_has_no_slope_on_the_left():
    with np.errstate(divide="ignore"):
        for root in (mg.sqrt, lambda x: x**0.5, lambda x: mg.norm(x, 2, 0)):
            equal(gradient(lambda x, root=root: root(mg.relu(x)), [-1.0]), [0])


@pytest.mark.parametrize("layout", ["C", "transposed", "strided", "broadcast"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_what_is_kept_of_an_array_keeps_every_bit(layout, dtype, random):
    x = np.array([[1.5, -0.0, INF], [-INF, NAN, 6e-8]], dtype)
    x = {"C": x, "transposed": x.T, "strided": np.repeat(x, 2, 1)[:, ::2], "broadcast": np.broadcast_to(x[0], (4, 3))}[
        layout
    ]
    kept = random.random(x.shape) < 0.5
    found = mg.ops.arithmetic.keep_where(kept, x)
    np.testing.assert_array_equal(found, np.where(kept, x, 0))
    assert found.dtype == x.dtype and found.base is None
    assert mg.ops.arithmetic.keep_where(True, 3.0) == 3.0


@pytest.mark.parametrize("op", [mg.maximum, mg.minimum])
def test_beside_nan_both_arguments_of_maximum_get_the_gradient(op):
    """PyTorch's convention; NaN passes relu and abs, too."""
    equal(np.stack(gradient(op, [NAN, 1.0], [1.0, NAN])), np.ones((2, 2)))
    equal(gradient(mg.relu, [NAN]), [1])


def test_powers_mixed_second_derivative_at_the_exponent_zero():
    """The slope in the base is b a^(b-1): zero at b = 0, but not constant there."""
    a, b = (mg.tensor([value], dtype="f8", requires_grad=True) for value in (4.0, 0.0))
    (slope,) = autograd.grad(mg.power(a, b).sum(), a, create_graph=True)
    equal(slope.detach().numpy(), [0])
    close(autograd.grad(slope.sum(), b)[0].numpy(), [0.25])


@pytest.mark.parametrize("values", [[0, 2, 3], [0, 0, 3], [0, 0, 0], [2, 3, 4]])
def test_products_are_differentiated_right_where_factors_are_zero(values):
    expected = [np.prod(np.delete(np.asarray(values, float), i)) for i in range(3)]
    close(gradient(mg.prod, values), expected)
    close(gradient(lambda x: mg.prod(x, axis=0), values), expected)
    x = mg.tensor(np.asarray(values, float), requires_grad=True)
    for f in (mg.prod, lambda x: mg.cumprod(x, 0)):
        mg.gradcheck(f, x)
        mg.gradgradcheck(f, x)


def test_third_derivatives_of_products_at_zero():
    x = mg.tensor(np.array([0.0, 2.0, 0.0, 3.0]), requires_grad=True)

    def slope(x):
        with mg.enable_grad():
            x = x.clone() if x.requires_grad else x.detach().requires_grad_()
            (g,) = autograd.grad(mg.cumprod(x, 0).sum(), x, create_graph=True)
        return g

    mg.gradgradcheck(slope, x)


def test_a_product_with_an_infinite_factor():
    equal(gradient(mg.prod, [INF, 2.0]), [2, INF])


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_norm_and_std_of_nothing_but_zeros_have_the_gradient_zero(axis):
    zeros = np.zeros((2, 3))
    for order in (1, 2, 3, 1.5, INF):
        equal(gradient(lambda x, order=order: mg.norm(x, order, axis), zeros), zeros)
    equal(gradient(lambda x: mg.std(x, axis), zeros + 3), zeros)
    x = mg.tensor(zeros, requires_grad=True)
    for f in (lambda x: mg.norm(x, 2, axis), lambda x: mg.std(x, axis)):
        (g,) = autograd.grad(f(x).sum(), x, create_graph=True)
        (gg,) = autograd.grad(g.sum(), x, allow_unused=True)
        assert np.isfinite(gg.numpy()).all()


def test_norm_with_some_zero_elements():
    for order in (1, 2, 3, 1.5):
        found = gradient(lambda x, order=order: mg.norm(x, order), [0, 3, -4])
        assert np.isfinite(found).all() and found[0] == 0, f"norm of order {order}: {found}"
    close(gradient(mg.norm, [0, 3, -4]), [0, 0.6, -0.8])


def test_var_and_std_take_away_the_correction():
    x = np.random.default_rng(0).standard_normal((3, 5))
    for correction in (0, 1, 2):
        close(mg.var(mg.tensor(x), 1, correction=correction).numpy(), np.var(x, 1, ddof=correction))
        close(mg.std(mg.tensor(x), correction=correction).numpy(), np.std(x, ddof=correction))


def test_index_reads_of_repeated_elements_add_up():
    equal(gradient(lambda x: x[[0, 0, 2, -1]], [1, 2, 3]), [2, 0, 2])
    equal(gradient(lambda x: x[np.array([0, 0, -3])], np.zeros((3, 2))), [[3, 3], [0, 0], [0, 0]])
    equal(gradient(lambda x: x[[0, -2, 0], [1, 1, 1]], np.zeros((2, 2))), [[0, 3], [0, 0]])
    equal(gradient(lambda x: x[np.array([[0, 1], [1, 1]])], np.zeros((3, 2))), [[1, 1], [3, 3], [0, 0]])
    equal(gradient(lambda x: mg.take(x, [1, 1, -1]), [1, 2]), [0, 3])
    equal(gradient(lambda w: mg.embedding([2, 2, 0], w), np.zeros((3, 2))), [[1, 1], [0, 0], [2, 2]])


@pytest.mark.parametrize("dtype", ["i1", "u1", "i8"])
def test_rows_may_be_named_from_either_end_and_by_small_integers(dtype):
    x = mg.tensor(np.zeros((200, 2)), requires_grad=True)
    index = np.array([0, 5, 100, 5] if dtype == "u1" else [0, 5, 100, -100], dtype)
    x[index].sum().backward()
    expected = np.zeros(200)
    np.add.at(expected, index, 1)
    equal(x.grad.numpy()[:, 0], expected)


def test_0d_bools_as_indices():
    for index in (True, False, np.bool_(True), np.array(False), (True, 0), (0, np.bool_(True))):
        x = np.arange(6.0).reshape(2, 3)
        found = mg.tensor(x)[index].numpy()
        np.testing.assert_array_equal(found, x[index])
        expected = np.zeros_like(x)
        np.add.at(expected, index, np.ones_like(x[index]))
        equal(gradient(lambda x, index=index: x[index], x), expected)
    assert mg.tensor(1.5)[True].shape == (1,)


# --- huge and infinite ---


def test_logsumexp_and_softmax_of_huge_scores():
    x = np.array([[1000.0, 1000.0], [-1000.0, -2000.0], [800.0, -800.0]])
    close(mg.logsumexp(mg.tensor(x), axis=1).numpy(), scipy.special.logsumexp(x, axis=1))
    close(gradient(lambda x: mg.logsumexp(x, axis=1), x), [[0.5, 0.5], [1, 0], [1, 0]])
    close(mg.softmax(mg.tensor(x)).numpy(), scipy.special.softmax(x, axis=1))
    close(mg.log_softmax(mg.tensor(x)).numpy(), scipy.special.log_softmax(x, axis=1))
    target = mg.tensor([0, 1, 0])
    close(gradient(lambda x: mg.softmax_cross_entropy(x, target), x), [[-0.5, 0.5], [1, -1], [0, 0]])


def test_minus_infinity_masks_a_score():
    x = np.array([[0.0, -INF, 0.0], [-INF, -INF, -INF]])
    with np.errstate(divide="ignore"):
        close(mg.logsumexp(mg.tensor(x), axis=1).numpy(), [np.log(2), -INF])
        close(gradient(lambda x: mg.logsumexp(x, axis=1), x), [[0.5, 0, 0.5], [0, 0, 0]])
        close(gradient(mg.logsumexp, x[1]), [0, 0, 0])
        close(second(lambda x: mg.logsumexp(x, axis=1), x), np.zeros((2, 3)))
    close(mg.softmax(mg.tensor(x[:1])).numpy(), [[0.5, 0, 0.5]])
    close(gradient(lambda x: mg.softmax(x) * np.array([1.0, 2.0, 4.0]), x[:1]), [[-0.75, 0, 0.75]])


@pytest.mark.parametrize("op", [mg.sigmoid, mg.softplus, mg.tanh, mg.silu, mg.gelu, mg.erf, mg.logaddexp])
def test_saturating_functions_neither_warn_nor_turn_to_nan(op):
    x = np.array([-1e4, -800.0, 800.0, 1e4])
    f = (lambda x: op(x, 0.0)) if op is mg.logaddexp else op
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slopes = gradient(f, x)
    low, high = (0, 1) if op in (mg.softplus, mg.silu, mg.gelu, mg.logaddexp) else (0, 0)
    close(slopes, [low, low, high, high])


def test_softplus_and_sigmoid_of_infinity():
    x = mg.tensor(np.array([-INF, INF]))
    equal(mg.softplus(x).numpy(), [0, INF])
    equal(mg.sigmoid(x).numpy(), [0, 1])
    equal(mg.logaddexp(x, 0.0).numpy(), [0, INF])


@pytest.mark.parametrize("op", [mg.relu, mg.abs, mg.maximum, mg.minimum, mg.clip, mg.max, mg.sum, mg.sigmoid, mg.exp])
def test_nan_goes_through(op):
    more = {mg.maximum: (0.0,), mg.minimum: (0.0,), mg.clip: (-1, 1)}.get(op, ())
    assert np.isnan(op(mg.tensor([NAN]), *more).numpy()).all()


def test_where_and_its_gradients_keep_the_branch_not_taken_out():
    x = mg.tensor([-1.0, 4.0], requires_grad=True)
    safe = mg.where(x > 0, x, 1.0)
    mg.where(x > 0, mg.sqrt(safe), 0.0).sum().backward()
    equal(x.grad.numpy(), [0, 0.25])


@pytest.mark.parametrize("op", [mg.where, mg.maximum, mg.minimum])
def test_choosing_with_python_numbers_keeps_float32(op):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = op(x > 1.5, x, 0.0) if op is mg.where else op(x, 1.5)
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32


# --- nothing, and single numbers ---

REDUCTIONS = [mg.sum, mg.prod, mg.norm, mg.any, mg.all]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_reductions_of_nothing_are_numpys(op, shape):
    reference = {mg.norm: lambda x, axis: np.sqrt(np.sum(x * x, axis=axis))}.get(op) or getattr(np, op.__name__)
    for axis in (None, *range(len(shape))):
        x = mg.tensor(np.ones(shape), requires_grad=True)
        y = op(x, axis=axis)
        np.testing.assert_array_equal(y.detach().numpy(), reference(np.ones(shape), axis=axis))
        if y.requires_grad:
            y.sum().backward()
            assert x.grad.shape == shape
            mg.gradcheck(lambda x, axis=axis: op(x, axis=axis), x)


@pytest.mark.parametrize("op", [mg.max, mg.min, mg.argmax])
def test_what_nothing_has_no_value_for_is_an_error_that_names_the_op(op):
    with pytest.raises(ValueError) as caught:
        op(mg.tensor(np.ones((2, 0))), axis=1)
    assert isinstance(caught.value, mg.ShapeError)
    with pytest.raises(mg.ShapeError, match=op.name):
        op(mg.tensor(np.ones(0)))
    assert op(mg.tensor(np.ones((0, 2))), axis=1).shape == (0,)
    assert op.name in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


@pytest.mark.parametrize("shape, axis", [((0,), 0), ((2, 0), 1), ((0, 3), 1), ((0, 3), 0)])
def test_softmax_and_its_kin_of_nothing(shape, axis):
    """The log of a sum of no powers is log 0; probabilities of no classes are none (as SciPy and PyTorch have it)."""
    x = mg.tensor(np.ones(shape), requires_grad=True)
    for along in (axis, None):
        y = mg.logsumexp(x, axis=along)
        assert y.shape == np.ones(shape).sum(axis=along).shape and np.isneginf(y.detach().numpy()).all()
        y.sum().backward()
        assert x.grad.shape == shape
    for f in (mg.softmax, mg.log_softmax):
        assert f(x, axis=axis).shape == shape
        assert mg.gradgradcheck(lambda x, f=f: f(x, axis=axis), x)
        each = mg.vmap(lambda row, f=f: f(row, axis=0))(mg.zeros(3, 0))
        assert each.shape == (3, 0)


@pytest.mark.parametrize("ord", [1, 2, 0.5, 3, INF])
def test_the_norm_of_nothing_is_zero(ord):
    x = mg.tensor(np.ones((2, 0)), requires_grad=True)
    y = mg.norm(x, ord, axis=1)
    np.testing.assert_array_equal(y.detach().numpy(), [0, 0])
    y.sum().backward()
    assert x.grad.shape == (2, 0)


def test_the_mean_of_nothing_is_nan_and_its_gradient_is_nothing():
    x = mg.tensor(np.ones(0), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = x.mean()
    assert np.isnan(y.item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y.backward()
    assert x.grad.shape == (0,)


@pytest.mark.parametrize(
    "op", [mg.exp, mg.sum, mg.prod, mg.max, mg.norm, mg.logsumexp, mg.reshape, mg.transpose, mg.clone]
)
def test_ops_take_0d_tensors(op):
    f = (lambda x: mg.reshape(x, (1, 1))) if op is mg.reshape else op
    x = mg.tensor(1.5, dtype="f8", requires_grad=True)
    assert mg.gradcheck(f, x) and mg.gradgradcheck(f, x)
    f(x).backward()
    assert x.grad.shape == () and x.grad.dtype == np.float64


@pytest.mark.parametrize("op", [mg.sum, mg.prod, mg.norm, mg.logsumexp, mg.mean, mg.max, mg.min, mg.amax, mg.amin])
@pytest.mark.parametrize("axis", [0, -1])
def test_reductions_of_0d_tensors_take_an_axis_as_numpys_do(op, axis):
    x = mg.tensor(1.5, dtype="f8", requires_grad=True)
    for keepdims in (False, True):
        assert op(x, axis=axis, keepdims=keepdims).item() == pytest.approx(1.5)
        assert mg.gradcheck(lambda x, keep=keepdims: op(x, axis=axis, keepdims=keep), x)
    with pytest.raises(np.exceptions.AxisError):
        op(x, axis=1)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", ["f2", "f4", "i8", "?"])
def test_the_mean_and_variance_of_a_0d_tensor_along_an_axis_are_those_of_one_number(dtype, axis):
    """PyTorch's mean takes the axis too; NumPy's does not, though its sum and maximum do."""
    x = mg.tensor(np.asarray(1, dtype))
    assert mg.mean(x, axis=axis).item() == 1 and mg.mean(x, axis=axis).dtype == np.mean(x.numpy()).dtype
    assert mg.var(x, axis=axis).item() == mg.std(x, axis=axis).item() == 0


# --- at the seams of shapes ---


def test_einsum_broadcasts_axes_of_size_1_in_either_operand():
    for a, b in (((2, 3), (1, 4)), ((2, 1), (3, 4)), ((1, 1), (1, 1))):
        xs = [mg.tensor(np.random.default_rng(0).standard_normal(s), requires_grad=True) for s in (a, b)]
        product = mg.einsum("ij,jk->ik", *xs)
        close(product.detach().numpy(), np.einsum("ij,jk->ik", *(x.detach().numpy() for x in xs)))
        assert mg.gradcheck(lambda a, b: mg.einsum("ij,jk->ik", a, b), xs)
        assert mg.gradgradcheck(lambda a, b: mg.einsum("ij,jk->ik", a, b), xs)


@pytest.mark.parametrize(
    "shapes",
    [((3,), (2, 3, 4)), ((2, 4, 3), (3,)), ((3,), (2, 5, 3, 4)), ((2, 1, 4, 3), (5, 3, 2)), ((4, 3), (2, 3, 2))],
)
def test_products_of_vectors_matrices_and_batches(shapes):
    a, b = (mg.tensor(np.random.default_rng(0).standard_normal(s), requires_grad=True) for s in shapes)
    assert mg.gradcheck(mg.matmul, [a, b]) and mg.gradgradcheck(mg.matmul, [a, b])


def test_take_along_axis_broadcasts_both_ways():
    x = np.arange(6.0).reshape(2, 1, 3)
    index = np.array([[[2], [0]]])
    found = mg.take_along_axis(mg.tensor(x), index, 2).numpy()
    np.testing.assert_array_equal(found, np.take_along_axis(x, index, 2))
    mg.gradcheck(lambda x: mg.take_along_axis(x, index, 2), mg.tensor(x, requires_grad=True))


def test_values_written_at_an_index_are_broadcast_and_their_gradients_summed():
    x, value = gradient(lambda x, v: mg.index_update(x, (slice(None), [0, 2]), v), np.zeros((2, 3)), [1.0])
    equal(x, [[0, 1, 0], [0, 1, 0]])
    equal(value, [4])
    _, value = gradient(lambda x, v: mg.index_update(x, x > -1, v), np.zeros((2, 3)), 1.0)
    equal(value, 6)


@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 2, 2)])
def test_batch_norm_is_differentiated_twice_in_every_argument(weight, bias, shape):
    random = np.random.default_rng(0)
    given = [random.standard_normal(shape), *(random.uniform(0.5, 2, 2) for wanted in (weight, bias) if wanted)]

    def f(x, *more):
        more = iter(more)
        return mg.batch_norm(x, next(more) if weight else None, next(more) if bias else None)

    inputs = [mg.tensor(a, requires_grad=True) for a in given]
    assert mg.gradcheck(f, inputs) and mg.gradgradcheck(f, inputs)


@pytest.mark.parametrize("function", [mg.batch_norm, mg.ops.batch_norm_relu])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 0), (2, 0, 3), (2, 0, 4, 4)])
def test_batch_norm_of_no_channels_is_empty(function, dtype, shape):
    x, weight = mg.zeros(shape, dtype=dtype, requires_grad=True), mg.zeros(0, dtype=dtype, requires_grad=True)
    y = function(x, weight, weight)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape and y.dtype == dtype and weight.grad.shape == (0,)
