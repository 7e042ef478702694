"""Nothing of a graph outlives its use, and nothing needs the garbage collector: shown with the collector off."""

import gc
import weakref

import pytest

import minigrad as mg
from minigrad import nn


@pytest.fixture(autouse=True)
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nodes_of(*tensors):
    """Weak references to every node that these tensors lead to."""
    found, stack = {}, [t.node for t in tensors]
    while stack:
        node = stack.pop()
        if node is not None and node not in found:
            found[node] = weakref.ref(node)
            stack.extend(node.parents)
    return list(found.values())


def alive(references):
    return [reference() for reference in references if reference() is not None]


def leaf(*shape):
    return mg.randn(*shape, dtype=mg.float64, requires_grad=True)


def test_after_backward_a_graph_dies_with_its_last_tensor():
    x = leaf(3, 4)
    y = (mg.tanh(x) @ leaf(4, 2)).sum()
    nodes = nodes_of(y)
    y.backward()
    assert len(alive(nodes)) == 5  # y still stands, with what it was made of
    del y
    assert alive(nodes) == [x.node]


@pytest.mark.parametrize("keep", ["grad", "leaf"])
def test_a_gradient_with_a_graph_of_its_own_makes_no_cycle(keep):
    x = leaf(5)
    y = (x * x * x).sum()
    y.backward(create_graph=True)
    nodes = nodes_of(y, x.grad)
    assert len(alive(nodes)) > 8
    if keep == "leaf":  # dropping the gradient frees its graph though the leaf lives on
        del y
        x.grad = None
        assert alive(nodes) == [x.node]
    else:  # dropping the leaf and the output frees all but what the gradient needs, and dropping that the rest
        gradient = x.grad
        del x, y
        assert alive(nodes)
        del gradient
        assert alive(nodes) == []


def test_dropping_the_leaf_frees_the_graph_of_the_gradient_it_keeps():
    x = leaf(5)
    y = (x * x * x).sum()
    y.backward(create_graph=True)
    nodes = nodes_of(y, x.grad)
    del x, y
    assert alive(nodes) == []


def test_a_retained_gradient_with_a_graph_makes_no_cycle():
    x = leaf(5)
    h = mg.exp(x)
    h.retain_grad()
    y = (h * h).sum()
    y.backward(create_graph=True)
    nodes = nodes_of(y, h.grad, x.grad)
    del x, h, y
    assert alive(nodes) == []


def test_second_derivatives_of_a_network_leave_nothing_behind():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    scores = model(mg.randn(4, 1, 6, 6))
    loss = mg.nn.functional.cross_entropy(scores, mg.tensor([0, 1, 2, 0]))
    loss.backward(create_graph=True)
    penalty = sum((p.grad * p.grad).sum() for p in model.parameters())
    nodes = nodes_of(loss, penalty)
    assert len(alive(nodes)) > 50
    penalty.backward()
    del scores, loss, penalty
    model.zero_grad()
    leaves = {p.node for p in model.parameters()}
    assert set(alive(nodes)) == leaves
    del leaves, model
    assert alive(nodes) == []


def test_an_error_in_the_middle_of_backward_leaves_nothing_behind():
    x = leaf(3)
    y = mg.exp(x)
    z = (y * y).sum()
    nodes = nodes_of(z)

    def refuse(gradient):
        raise RuntimeError("stop")

    y.register_hook(refuse)
    with pytest.raises(RuntimeError, match="stop"):
        z.backward()
    del x, y, z
    assert alive(nodes) == []


def test_saved_arrays_are_free_after_backward_while_the_output_lives():
    x = leaf(1000)
    y = mg.exp(x)
    saved = weakref.ref(y.data)
    z = y.sum()
    del y
    assert saved() is not None  # exp's rule keeps its output
    z.backward()
    assert saved() is None and z.data is not None
