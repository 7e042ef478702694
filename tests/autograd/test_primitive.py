"""Ops of one's own: what a primitive may have, and what is said of one that is half done."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, autograd
from tests.support.makers import leaf


def test_an_op_without_a_rule_names_itself_and_the_argument(new_op):
    @new_op
    def halve(x, y):
        return x / 2 + y

    halve.defvjp(x=lambda g: g / 2)
    with pytest.raises(GradientError, match=r"halve has no vjp rule for its argument 'y'.*halve\.defvjp\(y="):
        halve(leaf(1.0), leaf(2.0)).backward()
    x = leaf(1.0)
    with pytest.raises(GradientError, match=r"halve has no jvp rule for its argument 'x'"):
        mg.push(halve(x, 1.0), x, np.float64(1))


def test_a_rule_that_asks_for_what_there_is_not_is_refused_when_stated(new_op):
    @new_op
    def op(x, *, power):
        return x**power

    with pytest.raises(TypeError, match=r"asks for 'y'.*may ask for x, out, power, x_shape"):
        op.defvjp(x=lambda g, y: g)
    with pytest.raises(TypeError, match=r"rule for 'z'"):
        op.defvjp(z=lambda g: g)


def test_a_name_can_be_given_to_one_op_only(new_op):
    with pytest.raises(ValueError, match=r"'exp' stands in the table already"):

        @new_op
        def exp(x):
            return x


def test_a_rule_with_a_wrong_shape_is_refused(new_op):
    @new_op(kind="elementwise")
    def wrong(x):
        return x * 1.0

    wrong.defvjp(x=lambda g: g[:1] * np.ones(3))
    with pytest.raises(ShapeError, match=r"gradient of shape \(3,\) for an argument of shape \(2,\)"):
        wrong(leaf(1.0, 2.0)).sum().backward()


def test_an_op_may_have_residuals_options_and_an_argument_without_gradient(new_op):
    @new_op(residuals=("rounded",))
    def scaled(x, mask=None, *, factor=2.0):
        rounded = np.round(x)
        return x * factor * (1 if mask is None else mask), rounded

    scaled.defvjp(x=lambda g, factor, rounded, mask: g * factor * rounded * (1 if mask is None else mask), mask=None)
    x = leaf(1.2, 2.7)
    scaled(x, factor=3.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 9])
    scaled(x, np.array([True, False])).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5, 9])
    with pytest.raises(TypeError, match=r"scaled.*\['fctor'\].*factor=2\.0"):
        scaled(x, fctor=1)
    with pytest.raises(TypeError, match=r"argument 'x' is missing"):
        scaled()


@pytest.mark.parametrize("kind", ["elementwise", "linear", "general"])
def test_an_op_without_rules_works_until_its_derivative_is_asked_for(new_op, kind):
    @new_op(kind=kind)
    def twice(x):
        return 2 * x

    x, other = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (twice(x) + other).sum()
    np.testing.assert_array_equal(twice(x).detach().numpy(), [2, 4])
    (g,) = autograd.grad(y, other, retain_graph=True)  # does not lead through it
    np.testing.assert_array_equal(g.numpy(), [1, 1])
    with pytest.raises(GradientError, match=r"twice has no vjp rule for its argument 'x'.*twice\.defvjp\(x="):
        y.backward()
    if kind != "linear":  # a linear op is its own jvp
        with pytest.raises(GradientError, match=r"twice has no jvp rule for its argument 'x'.*twice\.defjvp\(x="):
            mg.push(y, x, np.ones(2))


def test_an_op_that_gives_integers_cannot_be_differentiable(new_op):
    @new_op
    def signs(x):
        return (x > 0).astype(int)

    signs.defvjp(x=lambda g: g)
    with pytest.raises(TypeError, match=r"signs: its forward returned int64.*differentiable=False"):
        signs(leaf(1.0))
    assert signs(mg.tensor(1.0)).item() == 1


def test_an_option_before_an_array_is_an_array_and_the_last_parameters_are_options(new_op):
    @new_op(kind="elementwise")
    def scaled(a, n: int, b):
        return a * n + b

    @new_op(kind="elementwise")
    def shifted(x: mg.Tensor, by: int = 1, twice: bool = False):
        return x + (2 * by if twice else by)

    x = leaf(1.0, 2.0)
    assert scaled.options == {} and set(shifted.options) == {"by", "twice"}
    for found in (scaled(x, 2, x), scaled(a=x, n=2, b=x), scaled(x, n=2, b=x)):
        assert found.tolist() == [3, 6]
    for found in (shifted(x, 3, True), shifted(x, twice=True, by=3), shifted(by=3, x=x, twice=True)):
        assert found.tolist() == [7, 8]
