"""A wrong definition of an op is told what is wrong: where it is defined if it can be seen there, else when it runs."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, autograd


def leaf(*values):
    return mg.tensor(np.asarray(values), requires_grad=True)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda g, y: g * y, r"a rule asks for 'y'; it may ask for x, out, x_shape"),
        (lambda x: 2 * x, r"takes \(x\); its first parameter is the gradient"),
        (lambda: 2, r"takes \(\); its first parameter is the gradient"),
    ],
)
def test_a_rule_is_looked_at_when_it_is_stated(new_op, rule, message):
    @new_op
    def op(x):
        return x * 1

    for state in (lambda: op.defvjp(x=rule), lambda: op.defjvp(x=rule), lambda: op.defvjp_fused(rule)):
        with pytest.raises(TypeError, match="op: .*" + message):
            state()
    with pytest.raises(TypeError, match=r"a rule for 'z'; the arguments are \('x',\)"):
        op.defvjp(z=lambda g: g)


def test_a_kind_that_there_is_not_is_refused(new_op):
    with pytest.raises(ValueError, match="kind='elementwize'; expected one of 'elementwise'"):

        @new_op(kind="elementwize")
        def op(x):
            return x


@pytest.mark.parametrize("result", [None, 1.0, (np.ones(1), np.ones(1))], ids=["nothing", "a number", "a tuple"])
def test_a_forward_gives_one_array(new_op, result):
    @new_op
    def op(x):
        return result

    with pytest.raises(TypeError, match="op: its forward is to return one array, it returned"):
        op(leaf(1.0))


def test_a_forward_gives_the_residuals_it_names(new_op):
    @new_op(residuals=("mask",))
    def op(x):
        return x * 1  # of two rows, which must not be taken for a result and a residual

    with pytest.raises(TypeError, match=r"its result and.* mask; it returned ndarray"):
        op(leaf([1.0], [2.0]))


@pytest.mark.parametrize("result", [lambda g: None, lambda g: 0, lambda g: np.ones(4)])
def test_a_rule_that_gives_something_else_is_named(new_op, result):
    @new_op(kind="elementwise")
    def op(x):
        return x * 1

    op.defvjp(x=result)
    with pytest.raises((AttributeError, ShapeError)) as caught:
        op(leaf(1.0, 2.0)).sum().backward()
    assert any("in the vjp rule of op for its argument 'x' (2,)" in note for note in caught.value.__notes__)


def test_a_numpy_function_in_a_rule_is_found_out_by_the_second_derivative(new_op):
    @new_op(kind="elementwise")
    def op(x):
        return np.sin(x)

    op.defvjp(x=lambda g, x: g * np.cos(x))
    x = leaf(1.0)
    assert autograd.grad(op(x), x)[0].item() == np.cos(1.0)
    with pytest.raises(TypeError) as caught:
        autograd.grad(op(x), x, create_graph=True)
    assert any("never with NumPy's functions" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("rule", [lambda g, a, b: g * b, lambda g, a, b: (g * b,)])
def test_one_rule_for_all_gives_one_gradient_for_each(new_op, rule):
    @new_op
    def op(a, b):
        return a * b

    op.defvjp_fused(rule)
    with pytest.raises(GradientError, match="tuple of 2 gradients, one for each of a, b"):
        op(leaf(1.0, 2.0), leaf(3.0, 4.0)).sum().backward()


def test_one_rule_for_all_without_a_reference_has_no_second_derivative(new_op):
    @new_op
    def op(a, b):
        return a * b

    op.defvjp_fused(lambda g, a, b: (g * b, g * a))
    a, b = leaf(2.0), leaf(3.0)
    assert [g.item() for g in autograd.grad(op(a, b), [a, b])] == [3, 2]
    with pytest.raises(GradientError, match=r"op has no second derivative.*reference=op_composed"):
        autograd.grad(op(a, b), [a, b], create_graph=True)
    with pytest.raises(GradientError, match="op has no jvp rule for its argument 'a'"):
        mg.push(op(a, b), a, np.ones(1))


def test_a_missing_jvp_rule_names_the_kind_that_makes_it_unnecessary(new_op):
    @new_op
    def op(x):
        return x * 2

    op.defvjp(x=lambda g: g * 2)
    x = leaf(1.0)
    with pytest.raises(GradientError, match=r"op\.defjvp\(x=lambda t, .*kind='elementwise' is enough"):
        mg.push(op(x), x, np.ones(1))
