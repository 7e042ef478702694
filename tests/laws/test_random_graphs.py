"""Random graphs: minigrad and a naive engine grow the same graph, step by step, and must agree on everything.

A step is an op, a view, a hook, a leaf overwritten, a pass backward or forward (see `random_graphs`). After each, the
values, the gradients, the flags that say what is recorded and the graphs that are refused must be those of the naive
engine, and nothing that was handed to minigrad may have been written to. Gradients that were recorded join the graph
as any other tensor, so the machine comes by derivatives of higher order, and by mixtures of both modes, on its own.

The last part of the file plants bugs into minigrad and asks that the machine finds each of them.
"""

from functools import wraps

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import minigrad as mg
from minigrad import GradientError, autograd, ops
from minigrad.autograd import contributions, reverse
from minigrad.autograd.grad_mode import set_grad_enabled
from minigrad.autograd.primitive import OPS
from tests.support import naive_engine as naive
from tests.support.naive_engine import Value
from tests.support.random_graphs import RandomGraphs

RandomGraphs.TestCase.settings = settings(max_examples=2 * settings.default.max_examples, stateful_step_count=50)
TestRandomGraphs = RandomGraphs.TestCase


@pytest.mark.parametrize("function", naive.DERIVATIVES)
def test_the_naive_engines_table_of_derivatives_agrees_with_a_complex_step(function, random):
    """Its other two kinds of op are a matrix and a product; so this is all that could be wrong in it."""
    x = Value(random.uniform(0.2, 1.5, 20), tracked=True)
    gradient = naive.pull_back([naive.apply(function, x)], [np.ones(20)])[x]
    np.testing.assert_allclose(gradient.data, function(x.data + 1e-20j).imag / 1e-20, rtol=1e-12)


# --- what the machine has found, in its shortest form ---


def leaf(*values):
    return mg.tensor(np.array(values[0] if len(values) == 1 else values, float), requires_grad=True)


def test_grad_in_a_computed_tensor_leaves_the_graph_above_it_whole():
    x = leaf(1.0, 2.0)
    y = x * x
    autograd.grad((y * 3).sum(), y)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4])


def test_grad_leaves_the_graph_of_an_output_whole_that_depends_on_no_input():
    x, y = leaf(1.0, 2.0), leaf(3.0)
    apart = mg.exp(x).sum()
    autograd.grad([apart, y * y], y)
    apart.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.exp([1.0, 2.0]))


def test_cotangents_of_an_output_given_twice_are_added_up_on_record_under_no_grad_too():
    x, y = leaf(1.0), leaf(3.0)
    with mg.no_grad():
        (gradient,) = autograd.grad([x, x], x, [y, y], create_graph=True)
    assert autograd.grad(gradient, y)[0].item() == 2


def test_a_part_of_a_single_number_adds_to_a_gradient_that_is_there_already():
    x = leaf(2.0)
    part = x[None]
    (x * 1.0 + x * 3.0 + part.sum()).backward()
    assert x.grad.item() == 5


@pytest.mark.parametrize("cut", [lambda x: x.detach(), mg.no_grad()(lambda x: x[:])], ids=["detach", "no_grad"])
def test_a_leaf_overwritten_under_a_tensor_cut_off_from_it_is_seen(cut):
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (cut(x) * w).sum()
    x.copy_(np.zeros(2))
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


# --- the machine finds what is wrong ---


def spoil(monkeypatch, op, rules, argument, change):
    """Plant another rule, made from the right one, into an op."""
    rule = getattr(op, rules)[argument]
    monkeypatch.setitem(getattr(op, rules), argument, wraps(rule)(change(rule)))
    monkeypatch.setattr(op, "plans", {})


def around(monkeypatch, name, before=None, after=None):
    """Plant code before or after a method of the backward pass; it is given the method's arguments."""
    method = getattr(reverse._Pass, name)

    def planted(self, *args):
        before and before(self, *args)
        result = method(self, *args)
        after and after(self, *args)
        return result

    monkeypatch.setattr(reverse._Pass, name, planted)


def wrong_rule(monkeypatch):
    spoil(monkeypatch, ops.tanh, "vjp_rules", "x", lambda rule: lambda g, out: g * (1 - out))


def slightly_wrong_rule(monkeypatch):
    spoil(monkeypatch, ops.exp, "vjp_rules", "x", lambda rule: lambda g, out: rule(g, out) * (1 + 1e-9))


def wrong_tangent(monkeypatch):
    spoil(monkeypatch, ops.prod, "jvp_rules", "x", lambda rule: lambda t, *saved: rule(t, *saved) * 1.5)


def rule_that_writes_to_its_gradient(monkeypatch):
    def in_place(g):
        mine = isinstance(g, np.ndarray) and g.flags.writeable
        return np.negative(g, out=g) if mine else -g

    spoil(monkeypatch, ops.negative, "vjp_rules", "x", lambda rule: in_place)


def forward_that_writes_to_its_argument(monkeypatch):
    monkeypatch.setattr(ops.cos, "forward", lambda x: np.cos(x, out=x) if x.ndim else np.cos(x))


def wrong_reference(monkeypatch):
    reference = OPS["batch_norm"].reference
    monkeypatch.setattr(OPS["batch_norm"], "reference", lambda *args, **options: reference(*args, **options) * 1.5)


def unbroadcast_that_forgets_an_axis(monkeypatch):
    unbroadcast = contributions.unbroadcast

    def forgetful(gradient, shape):
        """Along the last axis of size 1 it takes the first part and not the sum."""
        for axis in range(-1, -len(shape) - 1, -1):
            if shape[axis] == 1 < gradient.shape[axis]:
                return unbroadcast(gradient[(..., slice(0, 1), *[slice(None)] * (-axis - 1))], shape)
        return unbroadcast(gradient, shape)

    monkeypatch.setattr(contributions, "unbroadcast", forgetful)


def second_use_that_replaces_the_first(monkeypatch):
    def forget(self, node, *_):
        if node in self.pending:
            self.pending[node] = self.pending[node] * 0

    around(monkeypatch, "arrive", before=forget)


def second_pass_that_replaces_the_first(monkeypatch):
    true_store = contributions.store

    def forget_and_store(node, gradient):
        owner = node.grad_owner and node.grad_owner()
        if owner is not None:
            owner.grad = None
        true_store(node, gradient)

    monkeypatch.setattr(reverse, "store", forget_and_store)


def sum_in_place_in_a_buffer_that_others_hold(monkeypatch):
    around(monkeypatch, "arrive", after=lambda self, node, *_: self.owned.add(node))


def gradients_that_share_memory(monkeypatch):
    monkeypatch.setattr(reverse, "its_own", lambda gradient, _: gradient)


def hooks_ignored(monkeypatch):
    monkeypatch.setattr(reverse, "run_hooks", lambda node, gradient: gradient)


def hooks_that_stay(monkeypatch):
    monkeypatch.setattr(mg.HookHandle, "__init__", lambda self, remove: setattr(self, "remove", lambda: None))


def overwriting_unseen(monkeypatch):
    monkeypatch.setattr(reverse, "check_versions", lambda node: None)


def saved_values_held_constant(monkeypatch):
    monkeypatch.setattr(reverse, "saved_as_tensors", lambda node: node.saved)


def nodes_taken_first_come_first_served(monkeypatch):
    monkeypatch.setattr(reverse, "heappush", lambda heap, item: heap.append(item))
    monkeypatch.setattr(reverse, "heappop", lambda heap: heap.pop(0))


def graphs_never_freed(monkeypatch):
    around(monkeypatch, "run", before=lambda self, *_: setattr(self, "retain_graph", True))


def no_grad_that_records(monkeypatch):
    monkeypatch.setattr(set_grad_enabled, "__enter__", lambda self: self.previous.append((True, False)))


def detach_that_does_not(monkeypatch):
    monkeypatch.setattr(mg.Tensor, "detach", lambda self: self[...])


def repeats_in_an_index_lost(monkeypatch):
    def write_once(buffer, values, index):
        buffer[index] += values

    monkeypatch.setattr(ops.indexing, "add_at", write_once)


BUGS = [
    wrong_rule,
    slightly_wrong_rule,
    wrong_tangent,
    rule_that_writes_to_its_gradient,
    forward_that_writes_to_its_argument,
    wrong_reference,
    unbroadcast_that_forgets_an_axis,
    second_use_that_replaces_the_first,
    second_pass_that_replaces_the_first,
    sum_in_place_in_a_buffer_that_others_hold,
    gradients_that_share_memory,
    hooks_ignored,
    hooks_that_stay,
    overwriting_unseen,
    saved_values_held_constant,
    nodes_taken_first_come_first_served,
    graphs_never_freed,
    no_grad_that_records,
    detach_that_does_not,
    repeats_in_an_index_lost,
]

searching = settings(
    max_examples=1000,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_the_machine_finds(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(RandomGraphs, settings=searching)
