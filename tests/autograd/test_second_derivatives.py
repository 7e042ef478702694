"""A second derivative is there or refused: a rule that leaves the graph gives an error, never a constant."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, Tensor, autograd, nn
from tests.support.makers import leaf


@pytest.mark.parametrize("function", [np.tanh, lambda x: np.where(x > 0, x, 0)], ids=["ufunc", "where"])
def test_a_rule_that_cannot_take_tensors_raises_and_never_loses_a_second_derivative(new_op, function):
    """A rule that calls NumPy works on arrays; on Tensors it must not return an answer held constant."""

    @new_op(kind="elementwise")
    def mine(x):
        return x * function(x)

    mine.defvjp(x=lambda g, x: g * function(x))
    x = leaf(0.5)
    mine(x).backward()
    with pytest.raises((TypeError, GradientError)):
        autograd.grad(mine(x), x, create_graph=True)


# x -> x^3 with a rule that loses the derivative of 3 x^2 by taking numbers out of a Tensor
LOSING_RULES = {
    "float": lambda g, x: g * (3 * float(x) ** 2),
    "item": lambda g, x: g * (3 * x.item() ** 2),
    "int": lambda g, x: g * (3 * (int(x * 1e15) / 1e15) ** 2),
    "complex": lambda g, x: g * (3 * abs(complex(x)) ** 2),
    "math": lambda g, x: g * (3 * math.pow(x, 2)),
    "tolist": lambda g, x: g * (3 * x.tolist() ** 2),
    "format": lambda g, x: g * (3 * float(f"{x:.17g}") ** 2),
    "a NumPy scalar": lambda g, x: g * (3 * np.float64(x) ** 2),
    "numpy()": lambda g, x: g * (3 * x.numpy() ** 2) if isinstance(x, Tensor) else g * (3 * x**2),
    "of the gradient": lambda g, x: float(g) * (3 * x * x),
}


@pytest.mark.parametrize("name", LOSING_RULES)
def test_a_rule_that_takes_numbers_out_of_tensors_gives_no_second_derivative(new_op, name):
    @new_op(kind="elementwise")
    def cube(x):
        return x**3

    cube.defvjp(x=LOSING_RULES[name])
    x = leaf(0.5)
    cube(x).backward()
    np.testing.assert_allclose(x.grad.item(), 0.75, rtol=1e-12)
    with pytest.raises((GradientError, TypeError), match=r"detach\(\)"):
        autograd.grad(cube(x) ** 2, x, create_graph=True)
    if name != "of the gradient":  # a tangent to start from is a constant
        with pytest.raises((GradientError, TypeError), match=r"detach\(\)"):
            mg.push(cube(x), x, np.float64(1), create_graph=True)
    assert mg.is_grad_enabled() and f"{x:.1f} {float(x)}" == "0.5 0.5", "the refusal stayed on"


def test_a_rule_may_look_at_tensors_branch_on_them_and_hold_them_constant_in_words(new_op):
    seen = []

    @new_op(kind="elementwise")
    def cube(x):
        return x**3

    def rule(g, x):
        seen.append(repr(x))
        if x and x > 0 and not (x == 1).any() and x.detach().item() < 1:
            return g * (3 * x * x)
        raise AssertionError("the wrong branch")

    cube.defvjp(x=rule)
    x = leaf(0.5)
    (g,) = autograd.grad(cube(x), x, create_graph=True)
    (gg,) = autograd.grad(g, x)
    assert (g.item(), gg.item()) == (0.75, 3) and "cube" not in seen[0]


@pytest.fixture
def cube_with_residual(new_op):
    @new_op(residuals=("slope", "positive"))
    def cube(x, y=None):
        return x**3 + (0 if y is None else y), 3 * x * x, x > 0

    cube.defvjp(x=lambda g, slope, positive: g * slope * (2 * positive - 1), y=lambda g: g)
    cube.defjvp(x=lambda t, slope, positive: t * slope * (2 * positive - 1), y=lambda t: t)
    return cube


def test_a_rule_that_uses_a_residual_gives_the_first_derivative_and_refuses_the_second(cube_with_residual):
    x, y = leaf(0.5), leaf(0.25)
    for first in (
        lambda: autograd.grad(cube_with_residual(x, y), [x, y], create_graph=True),
        lambda: mg.push([cube_with_residual(x, y), y * 1.0], [x, y], [np.ones(()), np.ones(())], create_graph=True),
    ):
        g, _ = first()
        assert g.item() in (0.75, 1.75)
        with pytest.raises(GradientError, match=r"no second derivative.*'slope'.*reference.*bools or integers"):
            autograd.grad(g, x)


def test_a_derivative_that_does_not_lead_through_the_residual_is_given(cube_with_residual):
    x, y = leaf(0.5), leaf(0.25)
    (g,) = autograd.grad(cube_with_residual(x, y) * mg.sin(y), y, create_graph=True)
    (gg,) = autograd.grad(g, y)  # d/dy (sin y + (x^3 + y) cos y)
    np.testing.assert_allclose(gg.item(), 2 * np.cos(0.25) - (0.125 + 0.25) * np.sin(0.25), rtol=1e-12)


def test_a_residual_of_integers_or_bools_counts_as_constant(new_op):
    @new_op(residuals=("positive",))
    def cubed_size(x):
        positive = x > 0
        return np.where(positive, x**3, -(x**3)), positive

    cubed_size.defvjp(x=lambda g, x, positive: g * (3 * x * x) * (2 * positive - 1.0))
    cubed_size.defjvp(x=lambda t, x, positive: t * (3 * x * x) * (2 * positive - 1.0))
    mg.gradgradcheck(cubed_size, leaf(0.5, -0.7))


@pytest.mark.parametrize("p", [0.0, 1.0, 0.3])
def test_no_mixed_derivative_of_cross_entropy_is_lost_where_it_is_bounded(p):
    torch = pytest.importorskip("torch")

    def mixed(library, loss):
        given = library.tensor(np.array([p]), requires_grad=True)
        target = library.tensor(np.array([0.4]), requires_grad=True)
        (slope,) = library.autograd.grad(loss(given, target), given, create_graph=True)
        return library.autograd.grad(slope, target)[0].item()

    theirs = mixed(torch, torch.nn.functional.binary_cross_entropy)
    np.testing.assert_allclose(mixed(mg, nn.functional.binary_cross_entropy), theirs, rtol=1e-6)


PRODUCTS = {  # x, and the slope of [1, 2, 3] times the gradient of sum(cumprod(x)), from the polynomial by hand
    "an overflow on the way": ([1e200, 1e200, 1e-300], [3e200, 3e200, 3e200]),
    "infinite at first": ([np.inf, 2.0, 3.0], [14.0, np.inf, np.inf]),
    "infinite in the middle": ([2.0, np.inf, 3.0], [np.inf, 10.0, np.inf]),
    "infinite at last": ([2.0, 3.0, np.inf], [np.inf, np.inf, 7.0]),
    "finite": ([1.5, 2.0, 3.0], [14.0, 8.5, 5.0]),
    "zeros": ([0.0, 0.0, 3.0], [8.0, 4.0, 0.0]),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.filterwarnings("ignore:overflow")
def test_running_products_have_second_derivatives_where_products_overflow(name):
    """Of f = a + ab + abc and v = (1, 2, 3): (H v) = (2 (1 + c) + 3 b, 1 + c + 3 a, b + 2 a)."""
    values, expected = PRODUCTS[name]
    x = mg.tensor(np.array(values), requires_grad=True)
    (g,) = mg.autograd.grad(mg.cumprod(x, axis=0).sum(), x, create_graph=True)
    (found,) = mg.autograd.grad((g * mg.tensor(np.array([1.0, 2.0, 3.0]))).sum(), x)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)
