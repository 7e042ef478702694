"""Hooks and retained gradients: what a hook sees, what it may return, and what an error in it leaves behind."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import ShapeError, autograd
from tests.support.makers import leaf


def test_hooks_run_in_order_and_replace():
    x = leaf(1.0, 2.0)
    y, seen = x * 2, []
    y.register_hook(lambda g: seen.append(("first", g.numpy().tolist())))
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(("third", g.numpy().tolist())))
    y.sum().backward()
    assert seen == [("first", [1, 1]), ("third", [10, 10])]
    np.testing.assert_array_equal(x.grad.numpy(), [20, 20])


def test_a_hook_sees_the_whole_gradient_once():
    x, seen = leaf(2.0), []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * x + x).backward()
    assert seen == [5]


def test_hooks_can_be_removed_and_removed_again():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g * 100)
    other = x.register_hook(lambda g: g * 2)
    handle.remove()
    handle.remove()
    (x * 1.0).backward()
    assert x.grad.item() == 2
    other.remove()
    (x * 1.0).backward()
    assert x.grad.item() == 3


def test_a_hook_that_changes_the_shape_is_refused():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match=r"hook returned shape \(\).*\(2,\)"):
        x.sum().backward()


def test_hooks_are_part_of_a_recorded_backward_pass():
    x = leaf(3.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = autograd.grad(y, x, create_graph=True)  # 2x * x
    (gg,) = autograd.grad(g, x)
    assert (g.item(), gg.item()) == (18, 12)


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor():
    x = leaf(2.0)
    y = (x * x).retain_grad()
    z = y * 3
    z.backward()
    assert y.grad.item() == 3 and z.grad is None
    for wrong in (lambda t: t.retain_grad(), lambda t: t.register_hook(print)):
        with pytest.raises(ValueError, match=r"requires_grad_\(\)"):
            wrong(mg.tensor(1.0))


@pytest.mark.parametrize("given", [[10, 20], np.array([10, 20]), np.array([10.0, 20.0], "f2"), mg.tensor([10.0, 20.0])])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hooks_gradient_is_brought_to_its_tensors_dtype(given, create_graph):
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: given)
    (x * 2).sum().backward(create_graph=create_graph)
    assert x.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.detach().numpy(), [10, 20])


@pytest.mark.parametrize(
    "given, error, words",
    [(2.0, ShapeError, r"hook returned shape \(\).*\(2,\)"), ("twice", TypeError, "dtype"), ({}, TypeError, "dtype")],
)
def test_a_hook_that_returns_no_gradient_is_refused(given, error, words):
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: given)
    with pytest.raises(error, match=words):
        (x * 2).sum().backward()
    assert x.grad is None and mg.is_grad_enabled()


def test_a_hook_must_be_a_function():
    with pytest.raises(TypeError, match=r"register_hook\(\): expected a function of the gradient, got str"):
        leaf(1.0).register_hook("print")


def test_an_error_in_a_hook_comes_through_and_leaves_the_engine_as_it_was():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: 1 / 0)
    for create_graph in (False, True):
        with pytest.raises(ZeroDivisionError):
            (x * 2).backward(create_graph=create_graph)
    handle.remove()
    (x * 2).backward()
    assert x.grad.item() == 2 and mg.is_grad_enabled()


def test_hooks_may_take_numbers_out_while_the_pass_is_recorded():
    x, seen = leaf(0.5), []
    y = x * x
    y.register_hook(lambda g: seen.append((g.item(), float(x), y.numpy().tolist())))
    (g,) = autograd.grad(mg.sin(y), x, create_graph=True)
    assert seen == [(math.cos(0.25), 0.5, 0.25)] and g.requires_grad
