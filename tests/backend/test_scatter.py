"""Adding at an index, with more axes than NumPy's `add.at` takes without a crash: the same sums as with few."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import autograd
from minigrad.backend import scatter

LONG = [33, 40, 63, 64]


def deep(shape, ndim):
    """The shape with axes of size 1 put in after the first."""
    return shape[:1] + (1,) * (ndim - len(shape)) + shape[1:]


@pytest.mark.parametrize("ndim", LONG)
@pytest.mark.parametrize("order", ["C", "F"])
def test_many_axes_are_added_to_as_few_are(ndim, order):
    random = np.random.default_rng(0)
    rows = np.array([2, 0, 2, -1])
    values, few = random.standard_normal((4, 5)), random.standard_normal((3, 5))
    many = np.array(few.reshape(deep((3, 5), ndim)), order=order)
    scatter.add_at(many, values.reshape(deep((4, 5), ndim)), (rows,))
    scatter.add_at(few, values, (rows,))
    np.testing.assert_allclose(many.reshape(few.shape), few, rtol=1e-14)


@pytest.mark.parametrize("ndim", LONG)
def test_an_index_of_many_axes_adds_each_value(ndim):
    buffer = np.zeros(3)
    scatter.add_at(
        buffer, np.arange(4.0).reshape(deep((4,), ndim)), (np.array([0, 2, 2, 0]).reshape(deep((4,), ndim)),)
    )
    assert buffer.tolist() == [3, 0, 3]


@pytest.mark.parametrize("ndim", LONG)
def test_masks_slices_and_broadcast_values_of_many_axes(ndim):
    buffer = np.zeros(deep((3, 2), ndim), "i8")
    scatter.add_at(buffer, np.int64(2), (slice(0, 2),))
    scatter.add_at(buffer, np.array([5]), (np.array([True, False, True]),))
    assert buffer.reshape(3, 2).tolist() == [[7, 7], [2, 2], [5, 5]]


READS = {
    "rows": lambda x: x[np.array([0, 0])],
    "diagonal": mg.diagonal,
    "sort": lambda x: mg.sort(x, axis=0),
    "take_along_axis": lambda x: mg.take_along_axis(x, np.zeros(x.shape, int), 0),
    "topk": lambda x: mg.topk(x, 1, axis=0)[0],
    "max": lambda x: x.max(axis=0),
    "index_add": lambda x: mg.index_add(x, ([0, 0],), 1.0),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("ndim", [33, 62])
def test_gradients_reach_through_reads_of_many_axes(name, ndim):
    """Once and twice, in reverse and in forward mode."""
    x = mg.tensor(np.full(deep((1,), ndim), 3.0), requires_grad=True)
    y = READS[name](x)
    uses = y.size
    (g,) = autograd.grad((y**2).sum(), x, create_graph=True)
    expected = {"rows": 2 * 6, "index_add": 2 * (3 + 2)}.get(name, 6)
    assert g.item() == expected
    (gg,) = autograd.grad(g.sum(), x)
    assert gg.item() == 2 * uses
    assert mg.push(READS[name](x), x, np.ones(x.shape))[0].numpy().sum() == uses


def test_many_axes_inside_vmap():
    x = mg.tensor(np.full(deep((2, 1), 64), 3.0), requires_grad=True)
    mg.vmap(lambda x: x[np.array([0, 0])])(x).sum().backward()
    assert x.grad.numpy().ravel().tolist() == [2, 2]
