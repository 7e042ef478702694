"""Gradients of what has none are refused in words, and an error leaves nothing behind."""

import contextlib
import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, autograd
from tests.support.makers import leaf

# --- gradients of what has none ---

NO_GRADIENT = {
    "integers": (
        lambda: autograd.grad(leaf(1.0) * 2, mg.tensor([1, 2])),
        ["int64", "floating-point", ".astype(float)"],
    ),
    "a comparison": (lambda: (leaf(1.0, 2.0) > 1).sum().backward(), ["int64", "comparisons", "floating-point"]),
    "a cast to integers": (lambda: leaf(1.0, 2.0).astype("i8").sum().backward(), ["int64", "pass none on"]),
    "an argmax": (lambda: mg.argmax(leaf(1.0, 2.0)).backward(), ["int64", "indices"]),
    "what was computed under no_grad": (lambda: mg.no_grad()(mg.exp)(leaf(1.0)).backward(), ["outside of no_grad()"]),
    "what was detached": (lambda: mg.exp(leaf(1.0)).detach().backward(), ["requires_grad=True"]),
    "an input that is not tracked": (lambda: autograd.grad(leaf(1.0) * 2, mg.ones(2)), ["an input", "(2,)"]),
    "no numbers at all": (lambda: mg.exp(mg.zeros(0, requires_grad=True)).backward(), ["(0,)", "single number"]),
    "an output of several numbers": (lambda: autograd.grad(leaf(1.0, 2.0) * 2, leaf(1.0)), ["(2,)", ".sum()"]),
    "an input that is not used": (
        lambda: autograd.grad(leaf(1.0) * 2, leaf(1.0)),
        ["input number 0", "allow_unused=True", "materialize_grads=True"],
    ),
    "push after the graph was freed": (
        lambda: [(y.backward(), mg.push(y, x, np.float64(1))) for x in [leaf(1.0)] for y in [x * x]],
        ["derivative through multiply", "freed", "retain_graph=True"],
    ),
}


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_gradient_that_is_not_there_is_refused_in_words(name):
    call, words = NO_GRADIENT[name]
    with pytest.raises(GradientError) as caught:
        call()
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert mg.is_grad_enabled()


@pytest.mark.parametrize("create_graph", [False, True])
def test_unused_inputs_give_none_or_zeros_as_pytorchs(create_graph):
    torch = pytest.importorskip("torch")
    values = np.array([[1.0, 2.0]], "f4"), np.array([3.0], "f8")

    def both(library, **options):
        x, unused = (library.tensor(v, requires_grad=True) for v in values)
        grad = library.autograd.grad
        return grad((x * x).sum(), [x, unused], create_graph=create_graph, **options)

    for options in ({"materialize_grads": True}, {"allow_unused": True, "materialize_grads": True}):
        for ours, theirs in zip(both(mg, **options), both(torch, **options), strict=True):
            np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy(), strict=True)
    assert both(mg, allow_unused=True)[1] is None and both(torch, allow_unused=True)[1] is None
    for library, error in ((mg, GradientError), (torch, RuntimeError)):
        with pytest.raises(error):
            both(library)
        with pytest.raises(ValueError, match="materialize_grads=True"):
            both(library, allow_unused=False, materialize_grads=True)


def test_a_gradient_put_there_by_hand_must_have_its_tensors_dtype():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"a float64 Tensor of shape \(2,\), got int64"):
        x.grad = mg.tensor([1, 2])


# --- what an error leaves behind ---

FAILING = {
    "shapes that do not broadcast": lambda: mg.ones(2) + mg.ones(3),
    "shapes that an op refuses": lambda: mg.ones((2, 3)) @ mg.ones((2, 3)),
    "something that is no array": lambda: mg.exp("a"),
    "an axis that is not there": lambda: mg.sum(mg.ones(2), axis=3),
    "a backward pass": lambda: (leaf(1.0, 2.0) * 2).backward(),
    "a rule without a number": lambda: autograd.grad(leaf(1.0) * 2, leaf(1.0)),
}


@pytest.mark.parametrize("name", FAILING)
def test_an_error_is_freed_without_the_garbage_collector(name):
    """One raised from itself would be a cycle, and keep the frames that it passed, and their arrays, alive."""

    def fail():
        with contextlib.suppress(Exception):
            FAILING[name]()
            pytest.fail("no error")

    fail()
    gc.collect()
    gc.disable()
    try:
        fail()
        assert gc.collect() == 0, "objects that only the garbage collector could free"
    finally:
        gc.enable()


@pytest.mark.parametrize("returned", [None, 3.0, [1.0]])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_that_returns_no_array_is_named_with_its_argument(returned, create_graph):
    @mg.primitive
    def doubled(x):
        return 2 * x

    doubled.defvjp(x=lambda g: returned)
    with pytest.raises(
        mg.ShapeError, match=r"^doubled: its vjp rule for 'x' returned .*expected an array of shape \(2,\)"
    ):
        doubled(leaf(1.0, 2.0)).sum().backward(create_graph=create_graph)
    doubled.defjvp(x=lambda t: None)
    with pytest.raises(TypeError, match=r"^doubled: its jvp rule for 'x' returned None"):
        mg.jvp(doubled, (mg.ones(2),), (mg.ones(2),))


def test_an_error_inside_of_a_rule_stays_the_rules_own():
    @mg.primitive
    def doubled(x):
        return 2 * x

    doubled.defvjp(x=lambda g: None.shape)
    with pytest.raises(AttributeError, match="no attribute 'shape'"):
        doubled(leaf(1.0)).sum().backward()


def test_a_name_is_a_string_or_none():
    x = leaf(1.0)
    with pytest.raises(TypeError, match="name: expected a string or None, got 5"):
        x.name = 5
    with pytest.raises(TypeError, match="draw: name=5"):
        mg.graph.draw(x * 2, name=5)
    x.name = "x"
    x.name = None
    assert x.name is None
