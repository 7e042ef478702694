"""Transforms: signatures as in JAX, and derivatives of derivatives.

The oracles are mathematics (exact derivatives, symmetry, inner products), differences, and one transform against
another that reaches the same number by another way. What transforms leave behind stands in transforms/test_edges.py.
"""

import math
import warnings
from collections import OrderedDict, namedtuple
from functools import partial

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError
from minigrad.transforms.trees import flatten, form, map_leaves
from tests.support.transform_makers import T, close

Pair = namedtuple("Pair", "first second")


def smooth(x, y):
    """A number that depends on both in a way without symmetry: no derivative of any order is zero."""
    return (mg.sin(x) * mg.exp(0.3 * y)).sum() * (x * x * y).mean() + mg.tanh(x[0] * y[-1])


@pytest.fixture
def xy(random):
    return T(random.standard_normal(3)), T(random.standard_normal(3))


# --- signatures ---


def test_argnums_are_an_int_or_a_sequence_from_either_end(xy):
    by_x, by_y = mg.grad(smooth)(*xy), mg.grad(smooth, 1)(*xy)
    assert np.abs(by_x.numpy() - by_y.numpy()).min() > 1e-3
    for first, second in ((0, 1), (-2, -1), (np.int64(0), np.int32(-1))):
        close(mg.grad(smooth, first)(*xy), by_x)
        close(mg.grad(smooth, argnums=second)(*xy), by_y)
        close(mg.grad(smooth, (second, first))(*xy), (by_y, by_x))
        close(mg.jacobian(smooth, [first, second])(*xy), (by_x, by_y))
        close(mg.value_and_grad(smooth, (second,))(*xy), (smooth(*xy), (by_y,)))
    assert mg.grad(smooth, ())(*xy) == ()


@pytest.mark.parametrize("transform", [mg.grad, mg.value_and_grad, mg.jacobian, mg.hessian])
def test_argnums_that_name_no_argument_or_one_twice_are_refused(transform, xy):
    for argnums, words in ((2, "argnums=2 .* 2 positional"), ((0, -3), "by position"), ((1, -1), "twice")):
        with pytest.raises(ValueError, match=words):
            transform(smooth, argnums)(*xy)
    with pytest.raises(ValueError, match="called with 1 positional"):
        transform(smooth, 1)(xy[0], y=xy[1])


def test_keyword_arguments_are_passed_on_and_not_differentiated(xy):
    close(mg.grad(smooth)(xy[0], y=xy[1]), mg.grad(smooth)(*xy))
    close(mg.hessian(smooth)(xy[0], y=xy[1]), mg.hessian(smooth)(*xy))
    close(mg.grad(lambda x, *, n, how: getattr(x**n, how)())(T([1, 2]), n=3, how="sum"), T([3, 12]))


def test_aux_is_handed_through_beside_every_result(xy):
    more = {"kept": xy[0], "text": "as it is", "none": None}

    def f(x, y):
        return smooth(x, y), more | {"inside": x * y}

    def checked(aux):
        assert aux["text"] == "as it is" and aux["none"] is None and aux["kept"].numpy() is not None
        close(aux["inside"], xy[0] * xy[1])
        assert not aux["inside"].requires_grad

    x, y = xy
    gradient, aux = mg.grad(f, has_aux=True)(x, y)
    close(gradient, mg.grad(smooth)(x, y)), checked(aux)
    (value, aux), gradient = mg.value_and_grad(f, 1, has_aux=True)(x, y)
    close((value, gradient), mg.value_and_grad(smooth, 1)(x, y)), checked(aux)
    value, pull, aux = mg.vjp(f, x, y, has_aux=True)
    close((value, pull(T(2))), (smooth(x, y), mg.vjp(smooth, x, y)[1](T(2)))), checked(aux)
    value, tangent, aux = mg.jvp(f, (x, y), (y, x), has_aux=True)
    close((value, tangent), mg.jvp(smooth, (x, y), (y, x))), checked(aux)
    value, push, aux = mg.linearize(f, x, y, has_aux=True)
    close((value, push(y, x)), mg.jvp(smooth, (x, y), (y, x))), checked(aux)
    for transform in (mg.jacobian, mg.hessian):
        result, aux = transform(f, (0, 1), has_aux=True)(x, y)
        close(result, transform(smooth, (0, 1))(x, y)), checked(aux)


def test_a_function_with_aux_must_return_a_pair():
    for out in (T(1), (T(1),), [T(1), T(2)], (T(1), T(2), T(3))):
        with pytest.raises(TypeError, match="must return a pair"):
            mg.grad(lambda x, out=out: out, has_aux=True)(T(1))


@pytest.mark.parametrize(
    "pack",
    [
        lambda a, b: (a, b),
        lambda a, b: [a, [b]],
        lambda a, b: {"w": a, "deep": {"b": (b, None)}, "empty": ()},
        lambda a, b: OrderedDict(b=b, a=a),
        lambda a, b: Pair(a, Pair(None, b)),
    ],
)
def test_arguments_and_results_are_trees(pack, xy):
    """Every transform of f on trees gives, in the argument's form, what it gives of the leaves one by one."""
    x, y = xy

    def leaves(tree):
        a, b = flatten(tree)[0]
        return (b, a) if isinstance(tree, OrderedDict) else (a, b)

    def f(tree):
        return smooth(*leaves(tree))

    def g(tree):
        a, b = leaves(tree)
        return pack(mg.sin(a) * b, (a * b * b).sum())

    tree, direction = pack(x, y), pack(y * y, x + 1)
    assert type(mg.grad(f)(tree)) is type(tree)
    close(mg.grad(f)(tree), pack(*mg.grad(smooth, (0, 1))(x, y)))
    close(mg.jvp(f, (tree,), (direction,))[1], mg.jvp(smooth, (x, y), (y * y, x + 1))[1])
    blocks = mg.hessian(smooth, (0, 1))(x, y)
    close(mg.hessian(f)(tree), pack(*(pack(*row) for row in blocks)))
    product = [row[0] @ (y * y) + row[1] @ (x + 1) for row in blocks]
    close(mg.hvp(f, tree, direction), pack(*product))

    jacobian = {mode: mg.jacobian(g, mode=mode)(tree) for mode in (None, "forward", "reverse")}
    for mode in jacobian:
        close(jacobian[mode], jacobian[None], what=f"mode {mode}")
    value, pull = mg.vjp(g, tree)
    close(value, g(tree))
    (pulled,) = pull(map_leaves(lambda y: y * 0 + 2, value))
    pushed = mg.jvp(g, (tree,), (direction,))[1]
    inner = sum((2 * t).sum() for t in flatten(pushed)[0])
    close(inner, sum((a * b).sum() for a, b in zip(flatten(pulled)[0], flatten(direction)[0], strict=True)))
    assert form(pulled) == form(tree) and form(pushed) == form(value)


def test_keys_of_a_direction_may_come_in_any_order():
    def f(p):
        return (p["a"] ** 2 * p["b"]).sum()

    at, along = {"a": T(1), "b": T(2)}, {"b": T(5), "a": T(3)}
    close(mg.hvp(f, at, along), {"a": T(2 * 2 * 3 + 2 * 5), "b": T(2 * 3)})
    close(mg.jvp(f, (at,), (along,))[1], T(4 * 3 + 5))
    close(mg.vjp(lambda p: {"s": p["a"], "t": 3 * p["b"]}, at)[1]({"t": T(1), "s": T(2)})[0], {"a": T(2), "b": T(3)})


def test_numbers_and_arrays_are_taken_for_tensors():
    close(mg.grad(lambda x: x**3)(2.0), np.float32(12))
    close(mg.grad(lambda x: (x**3).sum())(np.array([1.0, 2.0])), T([3, 12]))
    close(mg.hessian(lambda x: x**3)(2.0), np.float32(12))
    close(mg.jvp(lambda x: x**2, (3.0,), (0.5,))[1], np.float32(3))
    close(mg.grad(lambda x: T(3))(T(1)), T(0), what="a constant function")
    close(mg.jacobian(lambda x: (x, T(2)))(T(1)), (T(1), T(0)), what="a constant result")


# --- derivatives of derivatives ---


def nth(f, n):
    for _ in range(n):
        f = mg.grad(f)
    return f


@pytest.mark.parametrize("n", range(6))
def test_the_nth_derivative_by_nested_grads(n):
    x = 0.7
    close(nth(mg.sin, n)(T(x)), T(math.sin(x + n * math.pi / 2)), what="sin")
    close(nth(lambda x: mg.exp(2 * x), n)(T(x)), T(2**n * math.exp(2 * x)), what="exp(2x)")
    close(nth(lambda x: 1 / x, n)(T(x)), T((-1) ** n * math.factorial(n) / x ** (n + 1)), what="1/x")
    coefficients = np.array([2.0, -1, 0.5, 3, -2, 1])

    def polynomial(x):
        return sum(c * x**k for k, c in enumerate(coefficients))

    exact = np.polynomial.Polynomial(coefficients).deriv(n) if n else np.polynomial.Polynomial(coefficients)
    close(nth(polynomial, n)(T(x)), T(exact(x)), what="a polynomial")


def forward(f):
    return lambda x: mg.jvp(f, (x,), (T(1),))[1]


@pytest.mark.parametrize("order", range(16))
def test_reverse_and_forward_mode_nest_in_every_order(order):
    f = mg.sin
    for place in range(4):
        f = forward(f) if order >> place & 1 else mg.grad(f)
    close(f(T(0.3)), T(math.sin(0.3)), what="the fourth derivative of sin")


@pytest.mark.parametrize("inner", [mg.grad, forward])
@pytest.mark.parametrize("outer", [mg.grad, forward])
def test_perturbations_are_not_confused(outer, inner):
    """The classics (Siskind & Pearlmutter 2005): an inner derivative must not see the outer variable move."""
    close(outer(lambda x: x * inner(lambda y: x + y)(T(1)))(T(2)), T(1))
    close(outer(lambda x: x * inner(lambda y: x * y)(T(1)))(T(2)), T(4))
    close(outer(lambda x: x * inner(lambda y: x * y)(x))(T(2)), T(4))
    close(outer(lambda x: inner(lambda y: x * y**2)(x) * x)(T(3)), T(2 * 3 * 9))
    close(outer(lambda x: inner(lambda y: outer(lambda z: x * y * z * z)(x))(x))(T(3)), T(2 * 2 * 3))
    detached = outer(lambda x: x * inner(lambda y: x.detach() * y)(T(1)))(T(2))
    close(detached, T(2), what="what is detached counts as constant")


def test_a_gradient_of_a_function_that_takes_a_gradient_step():
    """d/dlr of f(x - lr f'(x)), for f = x^4: -f'(y) f'(x)."""

    def f(x):
        return (x**4).sum()

    def after_step(rate, x):
        return f(x - rate * mg.grad(f)(x))

    x = np.array([0.5, -0.3])
    y = x - 0.1 * 4 * x**3
    close(mg.grad(after_step)(T(0.1), T(x)), T(-(4 * y**3 * 4 * x**3).sum()))
    close(mg.grad(after_step, 1)(T(0.1), T(x)), T(4 * y**3 * (1 - 0.1 * 12 * x**2)))


def test_the_hessian_by_every_way_there_is(xy):
    x, y = xy
    f = partial(smooth, y=y)
    hessian = mg.hessian(f)(x)
    by_differences = np.stack(
        [(mg.grad(f)(x + h).numpy() - mg.grad(f)(x - h).numpy()) / 2e-5 for h in map(T, 1e-5 * np.eye(3))], axis=1
    )
    np.testing.assert_allclose(hessian.numpy(), by_differences, rtol=1e-7, atol=1e-8)
    close(hessian, hessian.T, what="symmetry")
    for outer in ("forward", "reverse", None):
        close(mg.jacobian(mg.grad(f), mode=outer)(x), hessian, what=f"{outer} over reverse")
        close(mg.jacobian(mg.jacobian(f, mode="forward"), mode=outer)(x), hessian, what=f"{outer} over forward")
    for chunk in (1, 2, 5):
        close(mg.hessian(f, chunk_size=chunk)(x), hessian, what=f"chunk_size {chunk}")
    v = T([0.3, -1, 2])
    close(mg.hvp(f, x, v), hessian @ v)
    close(mg.jvp(mg.grad(f), (x,), (v,))[1], hessian @ v)
    close(mg.grad(lambda x: (mg.grad(f)(x) * v).sum())(x), hessian @ v)
    close(mg.grad(lambda x: mg.jvp(f, (x,), (v,))[1])(x), hessian @ v)
    close(mg.vjp(mg.grad(f), x)[1](v)[0], hessian @ v)
    close(mg.linearize(mg.grad(f), x)[1](v), hessian @ v)


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 100])
def test_a_jacobian_of_trees_in_both_modes_and_all_chunks(mode, chunk, random):
    a, b = random.standard_normal((2, 3)), random.standard_normal(3)

    def f(x, p):
        return {"product": x @ p["b"] * p["s"], "sum": x.sum(), "same": (p["b"], T([1, 2]))}

    found = mg.jacobian(f, (0, 1), mode=mode, chunk_size=chunk)(T(a), {"s": T(2), "b": T(b)})
    eye2, eye3 = np.eye(2), np.eye(3)
    by_b = {"s": np.zeros(3), "b": eye3}
    expected = {
        "product": (2 * eye2[:, :, None] * b, {"s": a @ b, "b": 2 * a}),
        "sum": (np.ones((2, 3)), {"s": np.zeros(()), "b": np.zeros(3)}),
        "same": ((np.zeros((3, 2, 3)), by_b), (np.zeros((2, 2, 3)), {"s": np.zeros(2), "b": np.zeros((2, 3))})),
    }
    close(found, map_leaves(T, expected))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobians_of_nothing_and_of_single_numbers(mode):
    none = mg.zeros(0, 2, dtype=np.float64)
    assert mg.jacobian(lambda x: x * 2, mode=mode)(none).shape == (0, 2, 0, 2)
    assert mg.jacobian(lambda x: x.sum(axis=0), mode=mode)(none).shape == (2, 0, 2)
    assert mg.jacobian(lambda x: x[:0], mode=mode)(T([1, 2])).shape == (0, 2)
    close(mg.jacobian(lambda x: x**2, mode=mode)(T(3)), T(6))
    close(mg.jacobian(lambda x: mg.stack([x, x**2]), mode=mode)(T(3)), T([1, 6]))
    close(mg.jacobian(lambda x: (x**2).sum(), mode=mode)(T([3, 4])), T([6, 8]))
    close(mg.jacobian(lambda x: (), mode=mode)(T(1)), ())
    assert mg.hessian(lambda x: x.sum() ** 2)(none).shape == (0, 2, 0, 2)
    close(mg.grad(lambda x: (x * 2).sum())(none), none)


def test_linearize_and_vjp_give_linear_maps_that_can_be_used_again(xy):
    def f(x, y):
        return mg.sin(x) * y, (x * y).sum()

    x, y = xy
    value, push = mg.linearize(f, x, y)
    again, pull = mg.vjp(f, x, y)
    close(value, f(x, y)), close(again, f(x, y))
    u, v = (T([1, -2, 0.5]), T([0.1, 0.2, 3])), (T([0.3, 1, -1]), T(2))
    for _ in range(3):
        close(push(*u), mg.jvp(f, (x, y), u)[1])
    close(push(*(2 * a for a in u)), map_leaves(lambda t: 2 * t, push(*u)))
    for _ in range(3):
        left = sum((a * b).sum() for a, b in zip(push(*u), v, strict=True))
        close(left, sum((a * b).sum() for a, b in zip(pull(v), u, strict=True)), what="<v, Ju> = <J'v, u>")
    close(mg.vmap(pull)((T(np.eye(3)), T(np.zeros(3))))[0], mg.jacobian(lambda x: f(x, y)[0])(x))
    close(mg.vmap(lambda t: push(t, mg.zeros_like(t)))(T(np.eye(3)))[0].T, mg.jacobian(lambda x: f(x, y)[0])(x))


@pytest.mark.parametrize("way", ["vmap of jvp", "vmap of pull", "vmap of push", "jacobian"])
def test_derivatives_flow_through_a_jacobian_however_it_was_made(way, xy):
    x, y = xy

    def f(x):
        return mg.sin(x) * (x * y).sum()

    def jacobian(x):
        eye = T(np.eye(3))
        if way == "vmap of jvp":
            return mg.vmap(lambda v: mg.jvp(f, (x,), (v,))[1], out_axes=1)(eye)
        if way == "vmap of pull":
            return mg.vmap(mg.vjp(f, x)[1])(eye)[0]
        if way == "vmap of push":
            return mg.vmap(mg.linearize(f, x)[1], out_axes=-1)(eye)
        return mg.jacobian(f, chunk_size=2)(x)

    def by_hand(x):
        return mg.expand_dims(mg.cos(x) * (x * y).sum(), 1) * T(np.eye(3)) + mg.outer(mg.sin(x), y)

    close(jacobian(x), by_hand(x))
    for transform in (mg.grad, mg.hessian):
        found = transform(lambda x: mg.tanh(jacobian(x)).sum())(x)
        close(found, transform(lambda x: mg.tanh(by_hand(x)).sum())(x), 1e-9)


def test_the_gauss_newton_product_is_that_of_its_three_matrices(random):
    a, v = T(random.standard_normal((4, 3))), T(random.standard_normal(3))
    x = T(random.standard_normal(3))

    def f(x):
        return {"r": mg.tanh(a @ x), "s": (x**2).sum()}

    def loss(y):
        return (y["r"] ** 4).sum() * mg.exp(y["s"])

    def flat(y):
        return mg.concatenate([y["r"], y["s"].reshape(1)])

    J = mg.jacobian(lambda x: flat(f(x)))(x)
    H = mg.hessian(lambda z: loss({"r": z[:4], "s": z[4]}))(flat(f(x)))
    close(mg.ggn_vp(f, x, v), J.T @ (J @ v))
    close(mg.ggn_vp(f, x, v, loss), J.T @ (H @ (J @ v)))
    close(mg.ggn_vp(lambda x: a @ x, x, v, lambda y: (y**2).sum()), 2 * a.T @ (a @ v))
    close(mg.ggn_vp(lambda x: T([1.0]), x, v, lambda y: y.sum()), T(np.zeros(3)))

    def product(x):
        J = mg.jacobian(lambda x: flat(f(x)))(x)
        return (J.T @ (J @ v) * v).sum()

    close(mg.grad(lambda x: (mg.ggn_vp(f, x, v) * v).sum())(x), mg.grad(product)(x), what="and can be differentiated")


# --- numbers that left the graph ---


LOST = {
    "grad": lambda: mg.grad(lambda a, b: float(a) * b)(T(1), T(2)),
    "value_and_grad": lambda: mg.value_and_grad(lambda a: T(math.exp(a)))(T(1)),
    "jacobian": lambda: mg.jacobian(lambda a: T([a.item(), 1.0]))(T(1)),
    "jvp": lambda: mg.jvp(lambda a: T(a.numpy() ** 2), (T(1),), (T(1),)),
    "hessian": lambda: mg.hessian(lambda a: float(a) * a)(T(1)),
}


@pytest.mark.parametrize("name", LOST)
def test_a_result_that_lost_its_graph_on_the_way_is_told(name):
    with pytest.raises(GradientError, match=r"no recorded op leads from the arguments .*float\(\).*detach\(\)"):
        LOST[name]()


def test_a_part_of_the_arguments_that_lost_its_graph_is_told():
    with pytest.warns(UserWarning, match=r"from differentiated tensors \[0\] to the result"):
        mg.grad(lambda a, b: float(a) * b, (0, 1))(T(1), T(2))


def test_looking_at_values_is_no_loss():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(mg.grad(lambda a: a * a if a.item() > 0 else -a)(T(3)), T(6))
        close(mg.grad(lambda a: T(float(a.detach())))(T(3)), T(0), what="a constant on purpose")
