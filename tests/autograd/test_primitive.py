"""Ops of one's own: what a primitive may have, and what is said of one that is half done."""

import copy
import importlib
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import AnomalyError, GradientError, ShapeError, autograd
from minigrad.autograd.primitive import OPS
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


def scaling(factor, module=__name__):
    """A factory of ops, all of one name."""

    def scaled(x):
        return factor * x

    scaled.__module__ = module
    op = mg.primitive(kind="elementwise")(scaled)
    op.defvjp(x=lambda g: factor * g)
    return op


@pytest.mark.parametrize("module", [__name__, "__main__", "another_library"])
def test_ops_of_one_name_are_each_differentiable_and_the_table_keeps_the_last(new_op, module):
    """As a factory makes them, a notebook's cell run again, or importlib.reload."""
    double, triple = scaling(2.0), scaling(3.0, module)
    assert OPS["scaled"] is triple
    x = leaf(1.0, 2.0)
    double(triple(x)).sum().backward()
    assert x.grad.tolist() == [6, 6]
    mg.gradcheck(double, x)
    assert mg.push(triple(x), x, np.ones(2))[0].tolist() == [3, 3]
    assert "scaled" in str(mg.explain(double(triple(x)).sum(), x=x)) and mg.graph.draw(double(triple(x)).sum()).source
    with pytest.raises(AnomalyError, match="scaled, forward"), np.errstate(over="ignore"), mg.detect_anomaly():
        double(leaf(1e308))


def test_minigrads_own_op_keeps_its_place_in_the_table(new_op):
    @new_op(kind="elementwise")
    def exp(x):
        return x + 1

    exp.defvjp(x=lambda g: g)
    assert OPS["exp"] is mg.exp and exp is not mg.exp
    x = leaf(1.0, 2.0)
    (exp(x) + mg.exp(x)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 + np.exp([1.0, 2.0]))


def test_a_module_of_ops_may_be_loaded_again(tmp_path, monkeypatch, new_op):
    (tmp_path / "some_ops.py").write_text(
        "import minigrad as mg\n@mg.primitive(kind='linear')\ndef halved(x):\n    return x / 2\n"
        "halved.defvjp(x=lambda g: g / 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("some_ops")
    before = module.halved
    importlib.reload(module)
    assert module.halved is not before and OPS["halved"] is module.halved
    for op in (before, module.halved):
        mg.gradcheck(op, leaf(1.0, 2.0))
    assert copy.deepcopy(module.halved) is module.halved and pickle.loads(pickle.dumps(module.halved)) is module.halved
    assert pickle.loads(pickle.dumps([mg.exp, mg.matmul])) == [mg.exp, mg.matmul]


# --- what an op may not do ---


def writes_forward(x):
    x += 1
    return x * 2


def writes_into(x):
    np.exp(x, out=x)
    return x


@pytest.mark.parametrize("forward", [writes_forward, writes_into])
@pytest.mark.parametrize("kind", [{}, {"kind": "elementwise"}])
def test_an_op_that_writes_to_its_argument_is_an_error_and_changes_nothing(new_op, forward, kind):
    op = new_op(**kind)(forward)
    op.defvjp(x=lambda g: g)
    for x in (leaf(1.0, 2.0), mg.tensor([1.0, 2.0]), np.array([1.0, 2.0])):
        with pytest.raises(ValueError, match="read-only") as caught:
            op(x)
        assert "may not write to its arguments" in caught.value.__notes__[0]
        assert x.tolist() == [1, 2]


def test_a_rule_that_writes_to_what_it_is_given_is_an_error_and_changes_nothing(new_op):
    def writes_to_argument(g, x):
        x += 1
        return g * x

    def writes_to_gradient(g, x):
        g *= x
        return g

    for rule in (writes_to_argument, writes_to_gradient):

        @new_op(kind="elementwise")
        def op(x):
            return x * 1.0

        op.defvjp(x=rule)
        x = leaf(1.0, 2.0)
        with pytest.raises(ValueError, match="read-only") as caught:
            op(x).sum().backward()
        assert "may not write to what it is given" in caught.value.__notes__[0]
        assert x.tolist() == [1, 2] and x.grad is None


def test_a_fused_rule_and_many_operands_are_only_read_too(new_op):
    @new_op
    def total(*parts):
        parts[0][...] = 0
        return sum(parts)

    total.defvjp(parts=lambda g: g)
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match="read-only"):
        total(x, x)

    @new_op
    def product(a, b):
        return a * b

    def fused(g, a, b):
        a *= 2
        return g * b, g * a

    product.defvjp_fused(fused)
    with pytest.raises(ValueError, match="read-only"):
        product(x, x).sum().backward()
    assert x.tolist() == [1, 2]


def test_an_op_that_gives_back_its_argument_gives_one_that_can_be_written_to(new_op):
    op = new_op(kind="linear", view=True)(lambda x: x)
    op.defvjp(x=lambda g: g)
    weight = mg.nn.Parameter(op(mg.ones(3)))
    with mg.no_grad():
        weight += 1
    assert weight.tolist() == [2, 2, 2]


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


def test_creation_functions_follow_what_a_rule_runs_on(new_op):
    """They make Tensors, also where the rule runs on arrays."""

    @new_op
    def op(x):
        return x * 2 + mg.zeros_like(x)

    op.defvjp(x=lambda g, x: 2 * g * mg.ones_like(x) + mg.zeros(2, dtype="f8"))
    op.defjvp(x=lambda t, x: 2 * t + mg.full_like(x, 0.0))

    @new_op
    def fused(a, b):
        return a * b

    fused.defvjp_fused(lambda g, a, b: (g * b, g * a + mg.zeros_like(a)))
    x = leaf(1.0, 2.0)
    assert type(op(np.ones(2))) is np.ndarray and type(op(x.detach()).data) is np.ndarray
    assert mg.gradcheck(op, x) and mg.gradgradcheck(op, x)
    assert mg.vmap(mg.grad(lambda x: (op(x) ** 2).sum()))(mg.ones(3, 2, dtype="f8")).tolist() == [[8, 8]] * 3
    fused(x, x).sum().backward()
    assert x.grad.tolist() == [2, 4]
