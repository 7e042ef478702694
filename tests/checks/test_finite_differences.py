"""The checker is checked: every kind of wrong derivative we could think of must fail it, and right ones must pass."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradcheckError, Tensor
from minigrad.autograd.primitive import Primitive


def op(forward, kind="general", vjp=None, jvp=None, **properties):
    """An op outside of the table, with these rules."""
    made = Primitive(forward, kind=kind, **properties)
    made.defvjp(**(vjp or {}))
    made.defjvp(**(jvp or {}))
    return made


def points(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [mg.tensor(random.uniform(0.5, 1.5, shape), requires_grad=True) for shape in shapes]


def cube(**rules):
    return op(lambda x: x * x * x, **rules)


def product(**rules):
    return op(lambda a, b: a * b, **rules)


RIGHT = {
    "cube": (cube(kind="elementwise", vjp={"x": lambda g, x: g * (3 * x * x)}), [(3,)]),
    "product": (product(kind="elementwise", vjp={"a": lambda g, b: g * b, "b": lambda g, a: g * a}), [(2, 3), (3,)]),
    "a constant": (lambda x: mg.tensor(np.ones(2)), [(2,)]),
    "nothing": (mg.exp, [(0, 3)]),
    "a single number": (mg.exp, [()]),
    "several results, one of integers": (lambda x: mg.topk(x, 2), [(4,)]),
    "an unused argument": (lambda x, y: x * x, [(2,), (3,)]),
    "tiny values": (lambda x: mg.sin(x) * 1e-12, [(3,)]),
    "huge values": (lambda x: mg.sin(x) * 1e12, [(3,)]),
    "a nearly constant function": (lambda x: 1e6 + x * 1e-6, [(3,)]),
}

WRONG = {
    "the sign": (cube(kind="elementwise", vjp={"x": lambda g, x: -g * (3 * x * x)}), [(3,)]),
    "a factor": (cube(kind="elementwise", vjp={"x": lambda g, x: g * (2 * x * x)}), [(3,)]),
    "a factor near one": (cube(kind="elementwise", vjp={"x": lambda g, x: g * (3.0001 * x * x)}), [(3,)]),
    "a missing term": (op(lambda x: x * x + x, "elementwise", {"x": lambda g, x: g * (x + x)}), [(3,)]),
    "swapped arguments": (
        product(kind="elementwise", vjp={"a": lambda g, a: g * a, "b": lambda g, b: g * b}),
        [(3,), (3,)],
    ),
    "one argument of two": (
        product(kind="elementwise", vjp={"a": lambda g, b: g * b, "b": lambda g, a: g * (a + 0.01)}),
        [(3,), (3,)],
    ),
    "an argument said to have no gradient": (
        product(kind="elementwise", vjp={"a": lambda g, b: g * b, "b": None}),
        [(3,), (3,)],
    ),
    "elements in the wrong order": (op(lambda x: x * 2, "elementwise", {"x": lambda g: 2 * g[::-1]}), [(4,)]),
    "an error that cancels in sums": (
        op(lambda x: x * 2, "elementwise", {"x": lambda g: 2 * g + np.array([1.0, -1.0, 0, 0]) * g.sum()}),
        [(4,)],
    ),
    "one element of many": (
        op(lambda x: x * 2, "elementwise", {"x": lambda g: 2 * g * (np.arange(50) != 17)}),
        [(50,)],
    ),
    "a mean that forgets to divide": (
        op(lambda x: x.mean(), vjp={"x": lambda g, x_shape: np.full(x_shape, g)}, jvp={"x": lambda t: t.mean()}),
        [(4,)],
    ),
    "a result cut off from its input": (lambda x: Tensor(np.sin(x.data)), [(3,)]),
    "part of the result cut off": (lambda x: x * x.detach(), [(3,)]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_derivative_passes(name):
    f, shapes = RIGHT[name]
    assert mg.gradcheck(f, points(*shapes)) is True
    assert mg.gradgradcheck(f, points(*shapes)) is True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_derivative_fails(name, seed):
    f, shapes = WRONG[name]
    with pytest.raises(GradcheckError, match=r"reverse mode.*random direction.*finite differences"):
        mg.gradcheck(f, points(*shapes, seed=seed), seed=seed)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_derivative_fails_at_any_scale(name, scale):
    """A checker with an absolute tolerance lets tiny wrong gradients through."""
    f, shapes = WRONG[name]
    with pytest.raises(GradcheckError):
        mg.gradcheck(lambda *xs: f(*xs) * scale, points(*shapes))


def test_a_wrong_jvp_alone_fails_in_forward_mode_only():
    right = {"x": lambda g, x: g * (3 * x * x)}
    f = cube(vjp=right, jvp={"x": lambda t, x: t * (2 * x * x)})
    with pytest.raises(GradcheckError, match="forward mode"):
        mg.gradcheck(f, points((3,)))
    assert mg.gradcheck(f, points((3,)), forward=False)
    with pytest.raises(GradcheckError, match="reverse mode"):
        mg.gradcheck(cube(vjp={"x": lambda g, x: g * x}, jvp=right), points((3,)))


def test_a_rule_without_its_jvp_is_an_error_not_a_pass():
    with pytest.raises(mg.GradientError, match="no jvp rule"):
        mg.gradcheck(cube(vjp={"x": lambda g, x: g * (3 * x * x)}), points((3,)))


HELD_CONSTANT = {
    "detached": lambda g, x: g * (3 * mg.ops.square(x if isinstance(x, np.ndarray) else x.detach())),
    "in NumPy": lambda g, x: g * (3 * np.asarray(getattr(x, "data", x)) ** 2),
    "in part": lambda g, x: g * (3 * x * (x if isinstance(x, np.ndarray) else x.detach())),
    "the cotangent": lambda g, x: (g if isinstance(g, np.ndarray) else g.detach()) * (3 * x * x),
}


@pytest.mark.parametrize("name", HELD_CONSTANT)
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_rule_right_once_but_holding_a_term_constant_fails_the_second_check(name, scale):
    f = cube(kind="elementwise", vjp={"x": HELD_CONSTANT[name]})
    x = points((3,))
    assert mg.gradcheck(lambda x: f(x) * scale, x)
    with pytest.raises(GradcheckError):
        mg.gradgradcheck(lambda x: f(x) * scale, x)


def test_a_wrong_second_derivative_of_one_argument_fails():
    f = product(
        kind="elementwise",
        vjp={"a": lambda g, b: g * b, "b": lambda g, a: g * (a if isinstance(a, np.ndarray) else a.detach())},
    )
    with pytest.raises(GradcheckError):
        mg.gradgradcheck(f, points((3,), (3,)))


@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("check", [mg.gradcheck, mg.gradgradcheck])
def test_inputs_that_are_not_float64_are_refused(check, dtype):
    x = mg.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    with pytest.raises(TypeError, match=rf"input 0 is {x.dtype}.*float64"):
        check(mg.exp, x)
    y = mg.tensor([1.0, 2.0], dtype="f8", requires_grad=True)
    with pytest.raises(TypeError, match="input 1"):
        check(mg.multiply, [y, x])


@pytest.mark.parametrize("check", [mg.gradcheck, mg.gradgradcheck])
def test_with_nothing_to_check_it_says_so(check):
    with pytest.raises(ValueError, match="none of the inputs requires a gradient"):
        check(mg.exp, mg.tensor(np.ones(2)))


def test_inputs_without_gradients_and_of_other_kinds_stay_as_they_are():
    (x,) = points((3,))
    held = mg.tensor(np.array([1.0, 2.0, 3.0]))
    assert mg.gradcheck(lambda x, held, index: (x * held)[index], [x, held, mg.tensor([0, 0, 2])])
    assert mg.gradgradcheck(lambda x, power: x**power, [x, 3])


def test_the_checks_leave_inputs_and_their_gradients_alone():
    x, y = points((3,), (3,))
    before = x.numpy().copy()
    mg.gradcheck(mg.multiply, [x, y])
    mg.gradgradcheck(mg.multiply, [x, y])
    np.testing.assert_array_equal(x.numpy(), before)
    assert x.grad is None and y.grad is None


def test_the_checks_work_inside_no_grad():
    with mg.no_grad():
        assert mg.gradcheck(mg.exp, points((3,)))
        assert mg.gradgradcheck(mg.exp, points((3,)))
