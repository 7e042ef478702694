"""Graphs of many nodes: how deep one may grow, when it is freed, and what memory it takes."""

import gc
import tracemalloc
import weakref

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.autograd import reverse
from tests.support.makers import leaf


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
