"""The engine's record: hooks, changes in place, how long it may grow and when it is freed, ops of one's own."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, Tensor, autograd
from minigrad.autograd import reverse


def leaf(*values, dtype="f8"):
    return mg.tensor(np.asarray(values if len(values) > 1 else values[0], dtype), requires_grad=True)


# --- hooks and retained gradients ---


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


# --- changes in place ---


def test_a_leaf_changed_between_forward_and_backward_is_an_error_that_names_the_op():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.name = "weight"
    y = (x * w).sum()
    w.copy_([5.0, 6.0])
    with pytest.raises(GradientError, match=r"multiply.*weight.*changed in place"):
        y.backward()
    with pytest.raises(GradientError, match=r"changed in place"):
        mg.push(y, x, np.ones(2))


def test_a_change_of_what_backward_does_not_need_is_fine():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (x + w).sum()
    w.copy_([5.0, 6.0])
    y.backward()
    z = (x * w).sum()
    z.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 7])


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x.reshape(4),
        lambda x: x[0],
        lambda x: x.reshape(4).T[1:],
        lambda x: mg.flip(x[None].swapaxes(0, 1), axis=0),
        lambda x: mg.einsum("ij->ji", x),
        lambda x: x.broadcast_to(3, 2, 2),
    ],
)
def test_a_change_is_seen_through_views_of_the_leaf(view):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    part = view(x)
    y = (part * part).sum()
    x.copy_(np.zeros((2, 2)))
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


# --- size: depth, length, memory ---


def test_a_long_chain_is_walked_and_freed_without_recursion(deep):
    n = 1_000_000 if deep else 200_000
    x = leaf(1.0)
    y = x
    for _ in range(n):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1
    del y


def test_a_long_chain_is_freed_without_a_backward_pass_too():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    watch = weakref.ref(y)
    del y
    assert watch() is None


def test_a_graph_is_freed_without_the_garbage_collector():
    class Big(np.ndarray):
        """An array that can be watched."""

    gc.disable()
    try:
        x = leaf(np.ones(3))
        big = np.ones(3).view(Big)
        watch = weakref.ref(big)
        y = (mg.exp(x * Tensor(np.ones(3)) * 2.0)).sum()
        y.node.saved = (big,)
        del big
        assert watch() is not None
        del y
        assert watch() is None, "a reference cycle keeps the graph alive"
    finally:
        gc.enable()


def test_saved_values_are_freed_by_the_backward_pass():
    x = leaf(np.ones(1000))
    y = mg.exp(x)
    z = (y * y).sum()
    node = z.node.parents[0]
    assert node.saved is not None
    z.backward()
    assert node.saved is None


def test_only_what_a_rule_names_is_kept():
    x, w = leaf(np.ones(4)), mg.tensor(np.ones(4))
    assert (x + w).node.saved == ()
    assert len((x * w).node.saved) == 1 and (x * w).node.saved[0] is w.data
    assert mg.exp(x).node.plan.names == ("out",)
    assert mg.sum(x).node.plan.names == ("axis", "keepdims", "x_shape") or "x" not in mg.sum(x).node.plan.names


def test_reading_a_tensor_element_by_element_costs_memory_linear_in_its_length():
    """Each read's gradient as a full array would take n^2 numbers: 32 MB here."""
    n = 2000
    x = leaf(np.arange(n, dtype=float))
    total = mg.stack([x[i] * float(i) for i in range(n)]).sum()
    tracemalloc.start()
    total.backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(x.grad.numpy(), np.arange(n))
    assert peak < 200 * n * 8, f"{peak} bytes at the peak for {n} reads"


def test_reading_in_a_loop_allocates_one_gradient_buffer(monkeypatch):
    x, made = leaf(np.zeros(500)), []
    total = sum((x[i] for i in range(500)), mg.tensor(0.0))
    real = reverse._Pass.buffer

    def counted(self, node, like):
        made.append(id(real(self, node, like)))
        return real(self, node, like)

    monkeypatch.setattr(reverse._Pass, "buffer", counted)
    total.backward()
    assert len(made) == 500 and len(set(made)) == 1
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(500))


# --- ops of the user's own ---


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
