"""The engine: what backward and grad do to which tensors, to any order, and what no_grad and detach cut off."""

import ast
import inspect
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, autograd
from minigrad.autograd.reverse import simple_backward
from tests.support.makers import leaf

# --- backward ---


def test_gradients_add_up_over_uses_and_over_passes():
    x = leaf(3.0)
    (x * x + x).backward()
    assert x.grad.item() == 7
    (2 * x).backward()
    assert x.grad.item() == 9
    x.grad = None
    (2 * x).backward()
    assert x.grad.item() == 2


def test_a_gradient_somebody_kept_does_not_change_under_them():
    x = leaf(1.0, 2.0)
    x.sum().backward()
    kept = x.grad
    x.sum().backward()
    np.testing.assert_array_equal(kept.numpy(), [1, 1])
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2])


def test_a_diamond_is_walked_once():
    x = leaf(1.5)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y * 0.5 + y * 0.5
    y.backward()
    assert x.grad.item() == 1


def test_a_second_backward_names_retain_graph():
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(GradientError, match=r"multiply.*freed.*retain_graph=True"):
        y.backward()
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12


def test_a_part_shared_with_a_freed_graph_is_refused_too():
    x = leaf(2.0)
    shared = mg.exp(x)
    (shared * 2).backward()
    with pytest.raises(GradientError, match=r"exp.*retain_graph"):
        (shared * 3).backward()


def test_only_a_single_number_has_a_gradient_of_its_own():
    x = leaf(1.0, 2.0)
    with pytest.raises(GradientError, match=r"shape \(2,\).*sum\(\)\.backward\(\)"):
        (x * 2).backward()
    (x * 2).backward(mg.tensor([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 20])
    x.grad = None
    mg.reshape(x * x, (2, 1))[:1].backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 0])


def test_the_gradient_to_start_from_must_have_the_roots_shape():
    x = leaf(1.0, 2.0)
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        (x * 2).backward(np.ones(3))


def test_backward_from_what_needs_no_gradient_says_so():
    with pytest.raises(GradientError, match=r"shape \(2,\).*requires_grad=True"):
        mg.tensor([1.0, 2.0]).backward()


def test_a_leaf_may_be_its_own_root_and_does_not_keep_the_seed_itself():
    x, seed = leaf(1.0, 2.0), np.array([3.0, 4.0])
    x.backward(seed)
    np.testing.assert_array_equal(x.grad.numpy(), seed)
    assert not np.shares_memory(x.grad.data, seed)


@pytest.mark.parametrize("create_graph", [False, True])
def test_leaves_that_get_the_same_gradient_do_not_share_its_memory(create_graph):
    a, b, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), np.array([1.0, 1.0])
    (a + b).backward(seed, create_graph=create_graph)
    for one, other in ((a.grad.data, b.grad.data), (a.grad.data, seed), (b.grad.data, seed)):
        assert create_graph or not np.shares_memory(one, other)
    np.testing.assert_array_equal(a.grad.detach().numpy(), [1, 1])


def test_a_retained_gradient_and_a_leafs_do_not_share_memory():
    x = leaf(1.0, 2.0)
    y = (x + 0.0).retain_grad()
    y.reshape(2, 1).backward(np.ones((2, 1)))
    np.testing.assert_array_equal(y.grad.numpy(), [1, 1])
    assert not np.shares_memory(y.grad.data, x.grad.data)


def test_gradients_flow_in_each_tensors_own_dtype():
    weight, bias = leaf(1.0, 2.0, dtype="f4"), leaf(1.0, dtype="f2")
    data = mg.tensor(np.array([3.0, 4.0]))
    y = (weight * data + bias).sum()
    assert y.dtype == np.float64
    y.backward()
    assert weight.grad.dtype == np.float32 and bias.grad.dtype == np.float16
    np.testing.assert_array_equal(weight.grad.numpy(), [3, 4])
    (g,) = autograd.grad((weight * data).sum(), weight, create_graph=True)
    assert g.dtype == np.float32


def test_broadcast_arguments_get_gradients_of_their_own_shape():
    a, b = leaf(np.ones((2, 1, 3))), leaf(np.ones((4, 1)))
    (a * b).sum().backward()
    assert a.grad.shape == (2, 1, 3) and b.grad.shape == (4, 1)
    np.testing.assert_array_equal(b.grad.numpy(), np.full((4, 1), 6))


# --- grad ---


def test_grad_leaves_dot_grad_alone():
    x = leaf(3.0)
    (g,) = autograd.grad(x * x, x)
    assert g.item() == 6 and x.grad is None


def test_grad_of_inputs_that_are_not_leaves_and_of_related_tensors():
    x = leaf(2.0)
    y = x * x
    z = y * x
    dz_dx, dz_dy = autograd.grad(z, [x, y])
    assert (dz_dx.item(), dz_dy.item()) == (12, 2)
    y = x * x
    (only_y,) = autograd.grad(y * x, y)
    assert only_y.item() == 2


def test_grad_of_a_tensor_in_itself_is_one():
    x = leaf(2.0)
    y = x * 3
    assert [g.item() for g in autograd.grad(y, [y, x])] == [1, 3]


def test_grad_of_several_outputs_is_the_sum():
    x = leaf(1.0, 2.0)
    (g,) = autograd.grad([x * 2, (x * x).sum()], x, [np.array([1.0, 10.0]), None])
    np.testing.assert_array_equal(g.numpy(), [4, 24])


def test_an_unused_input_is_an_error_unless_allowed():
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(GradientError, match=r"input number 1.*allow_unused=True"):
        autograd.grad(x * 2, [x, y])
    g, nothing = autograd.grad(x * 2, [x, y], allow_unused=True)
    assert g.item() == 2 and nothing is None


def test_grad_counts_cotangents_and_wants_tensors():
    x = leaf(1.0)
    with pytest.raises(ValueError, match=r"2 outputs but 1 grad_outputs"):
        autograd.grad([x * 2, x * 3], x, [1.0])
    with pytest.raises(TypeError, match=r"expected a Tensor, got float"):
        autograd.grad(x * 2, 1.0)
    with pytest.raises(GradientError, match=r"requires_grad=True"):
        autograd.grad(x * 2, mg.tensor(1.0))


def test_grad_walks_only_between_inputs_and_outputs(new_op):
    visited = []

    @new_op(kind="elementwise")
    def noticed(x):
        return x * 1.0

    noticed.defvjp(x=lambda g: visited.append(1) or g)
    x, y = leaf(1.0), leaf(2.0)
    middle = x * y
    total = noticed(y) + middle + noticed(middle)
    autograd.grad(total, x, retain_graph=True)
    assert len(visited) == 1, "the branch that leads to y alone was walked"
    total.backward()
    assert len(visited) == 3


# --- any order ---


def test_the_fourth_derivative_of_sin_is_sin():
    x = leaf(0.3, 1.0, -2.0)
    derivative = mg.sin(x)
    for expected in (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin):
        (derivative,) = autograd.grad(derivative.sum(), x, create_graph=True)
        np.testing.assert_allclose(derivative.detach().numpy(), expected(x.detach().numpy()), rtol=1e-12)


def test_derivatives_of_a_polynomial_end_in_zero():
    x = leaf(2.0)
    y, values = x**3, []
    for _ in range(5):
        (y,) = autograd.grad(y, x, create_graph=True, allow_unused=True)
        values.append(0 if y is None else y.item())
        if y is None or not y.requires_grad:
            break
    assert values[:3] == [12, 12, 6] and not any(values[3:])


def test_backward_with_create_graph_gives_gradients_that_can_be_differentiated():
    x = leaf(2.0)
    (x * x * x).backward(create_graph=True)
    assert x.grad.requires_grad and x.grad.item() == 12
    (second,) = autograd.grad(x.grad, x)
    assert second.item() == 12


def test_a_gradient_penalty_reaches_the_weights():
    x, w = leaf(1.0, -2.0), leaf(0.5, 0.3)
    (g,) = autograd.grad(mg.tanh(x * w).sum(), x, create_graph=True)
    (g * g).sum().backward()
    t = np.tanh([0.5, -0.6])
    wv, xv = np.array([0.5, 0.3]), np.array([1.0, -2.0])
    slope = wv * (1 - t * t)
    expected = 2 * slope * ((1 - t * t) + wv * (-2 * t * (1 - t * t) * xv))
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12)


def test_forward_over_reverse_is_a_hessian_vector_product():
    x, v = leaf(0.5, 1.5), np.array([1.0, -2.0])
    (g,) = autograd.grad(mg.prod(mg.sin(x)), x, create_graph=True)
    (hv,) = mg.push(g, x, v)
    s, c = np.sin([0.5, 1.5]), np.cos([0.5, 1.5])
    hessian = np.array([[-s[0] * s[1], c[0] * c[1]], [c[0] * c[1], -s[0] * s[1]]])
    np.testing.assert_allclose(hv.numpy(), hessian @ v, rtol=1e-12)


def test_push_wants_a_tangent_for_each_input_and_gives_none_for_what_stands_still():
    x, y = leaf(2.0), leaf(3.0)
    with pytest.raises(ValueError, match="1 inputs but 2 tangents"):
        mg.push(x * y, x, [1.0, 2.0])
    moved, still = mg.push([x * y, y * 2], x, np.float64(1))
    assert moved.item() == 3 and still is None


# --- no_grad ---


def test_grad_mode_nests_and_comes_back_after_an_exception():
    x = leaf(1.0)
    with mg.no_grad():
        assert not (x * 2).requires_grad
        with mg.enable_grad():
            assert (x * 2).requires_grad
        assert not mg.is_grad_enabled()
        with pytest.raises(RuntimeError), mg.enable_grad():
            raise RuntimeError
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_grad_mode_comes_back_after_a_failed_backward(new_op):
    @new_op(kind="elementwise")
    def failing(x):
        return x * 1.0

    failing.defvjp(x=lambda g: 1 / 0)
    for create_graph in (False, True):
        for mode in (mg.no_grad, mg.enable_grad):
            y = failing(leaf(1.0))
            with mode():
                before = mg.is_grad_enabled()
                with pytest.raises(ZeroDivisionError):
                    y.backward(create_graph=create_graph)
                assert mg.is_grad_enabled() == before


def test_no_grad_is_a_decorator_that_may_call_itself():
    @mg.no_grad()
    def count_down(n):
        assert not mg.is_grad_enabled()
        return n and count_down(n - 1)

    count_down(3)
    assert mg.is_grad_enabled()


def test_grad_mode_belongs_to_the_thread():
    seen = []
    with mg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(mg.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_decorated_function_in_two_threads_at_once_restores_each_ones_mode():
    inside, leave = threading.Barrier(2), threading.Event()
    modes = {}

    @mg.no_grad()
    def work(name):
        inside.wait(5)
        if name == "first out":
            return
        leave.wait(5)

    def run(name, outer):
        with mg.set_grad_enabled(outer):
            work(name)
            modes[name] = mg.is_grad_enabled()
            leave.set()

    threads = [
        threading.Thread(target=run, args=("first out", True)),
        threading.Thread(target=run, args=("last out", False)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert modes == {"first out": True, "last out": False}


def test_detach_cuts_and_shares():
    x = leaf(1.0, 2.0)
    y = x * 3
    cut = y.detach()
    assert not cut.requires_grad and np.shares_memory(cut.data, y.data)
    (y * cut).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [9, 18])


# --- the algorithm in fifteen lines ---


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: (mg.tanh(x @ w) * x.sum(axis=1, keepdims=True) + w[0]).sum(),
        lambda x, w: mg.logsumexp(mg.exp(x) @ w * x[:, :1]) / (w * w).mean(),
        lambda x, w: (mg.where(x > 0, x, x * x) @ w + x.max(axis=0)[:3]).prod(),
    ],
)
def test_the_simple_backward_is_the_engines(f):
    random = np.random.default_rng(0)
    x, w = (mg.tensor(random.standard_normal(shape), requires_grad=True) for shape in ((4, 3), (3, 3)))
    y = f(x, w)
    simple = simple_backward(y)
    y.backward()
    for tensor in (x, w):
        np.testing.assert_allclose(simple[tensor.node], tensor.grad.numpy(), rtol=1e-13)


def test_the_simple_backward_is_fifteen_lines():
    (function,) = ast.parse(inspect.getsource(simple_backward)).body
    assert function.end_lineno - function.body[1].lineno + 1 <= 15
