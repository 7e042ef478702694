"""What may be written to, and how: a leaf under no_grad, `data`, an array; everything else is a value.

Claimed: an operator that assigns never leaves a leaf unchanged in silence; it writes to it under no_grad, as PyTorch's
does, and is refused elsewhere. Values keep theirs. `data` takes arrays of the tensor's own form, and the graph notices.
"""

import operator

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, ShapeError, Tensor, nn
from tests.support.makers import leaf

ARITHMETIC = "iadd isub imul itruediv ifloordiv imod ipow".split()
ALL = [*ARITHMETIC, "imatmul", "iand", "ior", "ixor"]


def assigned(name, x, y):
    return getattr(operator, name)(x, y)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_an_operator_that_assigns_is_refused_on_a_leaf_and_writes_to_it_under_no_grad(name):
    x, factor = leaf(1.5, 2.0, -4.0), np.array([2.0, 3.0, 2.0])
    with pytest.raises(GradientError, match=r"leaf.*no_grad.*copy_"):
        assigned(name, x, factor)
    assert x.tolist() == [1.5, 2, -4]
    memory, expected = x.data, assigned(name, x.detach().numpy().copy(), factor)
    with mg.no_grad():
        result = assigned(name, x, mg.tensor(factor))
    assert result is x and x.data is memory and x.is_leaf and x.requires_grad
    np.testing.assert_array_equal(x.data, expected)


def test_the_loop_that_trained_nothing_trains():
    """A step written by hand is SGD's."""
    model, points = nn.Linear(3, 2), mg.ones(4, 3)
    (model(points) ** 2).sum().backward()
    expected = [p.detach().numpy() - np.float32(0.1) * p.grad.numpy() for p in model.parameters()]
    with pytest.raises(GradientError):
        for p in model.parameters():
            p -= 0.1 * p.grad
    with mg.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    for p, value in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-6)


def test_a_square_leaf_under_matmul_and_a_single_number():
    x, s = leaf([1.0, 2.0], [3.0, 4.0]), mg.tensor(3.0, requires_grad=True)
    with pytest.raises(GradientError):
        x @= x.detach()
    with mg.no_grad():
        y, t = x, s
        y @= x.detach()
        t /= 2
    assert x.tolist() == [[7, 10], [15, 22]] and s.item() == 1.5 and s.dtype == np.float32


def test_a_leaf_keeps_its_shape_and_dtype():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with mg.no_grad():
        x *= np.float64(2) * np.ones(2)
        assert x.dtype == np.float32
        with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3, 2\)"):
            x += np.ones((3, 2))
    assert x.tolist() == [2, 4]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("recorded", [True, False])
def test_on_a_value_it_gives_the_name_a_new_tensor(name, recorded):
    a, b = np.array([[6, 3], [2, 5]]), np.array([[3, 1], [1, 2]])
    x = mg.tensor(a)
    with mg.set_grad_enabled(recorded):
        y = assigned(name, x, b)
    assert y is not x and x.tolist() == a.tolist()
    np.testing.assert_array_equal(
        y.numpy(), getattr(operator, name[1:] if name[1:] not in ("and", "or") else name[1:] + "_")(a, b)
    )


def test_on_a_computed_tensor_it_is_an_op_of_the_graph():
    x = leaf(1.0, 2.0)
    y = z = x * 3
    y *= x
    assert z.tolist() == [3, 6] and y.tolist() == [3, 12]
    y.sum().backward()
    assert x.grad.tolist() == [6, 12]


def test_the_points_of_a_transform_are_values():
    """f is a function of x alone, whatever names it uses inside."""

    def f(x):
        x *= x
        x += 1
        return x.sum()

    x = mg.tensor([1.0, 2.0])
    assert mg.grad(f)(x).tolist() == [2, 4] and x.tolist() == [1, 2]
    assert mg.hessian(f)(x).tolist() == [[2, 0], [0, 2]]
    assert mg.jvp(f, (x,), (mg.ones(2),))[1].item() == 6


def test_a_frozen_parameter_is_written_to_as_an_average_of_models_needs_it():
    average, model = nn.Linear(2, 1), nn.Linear(2, 1)
    average.requires_grad_(False)
    expected = [
        0.9 * a.detach().numpy() + 0.1 * p.detach().numpy()
        for a, p in zip(average.parameters(), model.parameters(), strict=True)
    ]
    with mg.no_grad():
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a *= 0.9
            a += 0.1 * p
    for a, value in zip(average.parameters(), expected, strict=True):
        np.testing.assert_allclose(a.numpy(), value, rtol=1e-6)
    p, b = average.weight, average.weight
    b += leaf([1.0, 1.0])  # what needs gradients is never written
    assert b is not p and b.requires_grad and not p.requires_grad


def test_a_graph_that_saved_the_old_values_does_not_go_back():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    with mg.no_grad():
        x += 1
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


# --- data ---


def test_data_takes_an_array_of_the_same_form_and_an_operator():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.data -= 0.5 * x.grad
    assert x.tolist() == [0, 0]
    x.data = mg.tensor([3.0, 4.0])
    assert type(x.data) is np.ndarray and x.detach().tolist() == [3, 4]
    s = mg.tensor(2.0, requires_grad=True)
    (s * s).backward()
    s.data -= 0.25 * s.grad
    assert s.item() == 1 and s.dtype == np.float32


REFUSED = {
    "another shape": (np.zeros(3, "f4"), ShapeError, r"shape \(3,\).*shape \(2,\)"),
    "a shape that broadcasts": (np.zeros((), "f4"), ShapeError, r"shape \(\).*shape \(2,\)"),
    "another dtype": (np.zeros(2), ShapeError, "float64.*float32"),
    "integers": (np.zeros(2, int), ShapeError, "int64.*float32"),
    "a list": ([1.0, 2.0], TypeError, "list"),
    "a number": (1.0, TypeError, "float"),
    "None": (None, TypeError, "NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(
    "make", [lambda: mg.tensor([1.0, 2.0], requires_grad=True), lambda: nn.Parameter(np.ones(2, "f4"), False)]
)
def test_data_refuses_what_is_not_of_the_tensors_form(name, make):
    value, error, words = REFUSED[name]
    x = make()
    old = x.data
    with pytest.raises(error, match=words):
        x.data = value
    assert x.data is old


@pytest.mark.parametrize(
    "write", [lambda x: setattr(x, "data", x.data * 2), lambda x: x.data.__imul__(2) is setattr(x, "data", x.data)]
)
def test_giving_a_leaf_other_data_is_a_write(write):
    x = leaf(1.0, 2.0)
    y = mg.checkpoint(mg.exp)(x).sum()
    write(x)
    with pytest.raises(GradientError, match="changed in place"):
        y.backward()


def test_requires_grad_can_be_assigned():
    x = mg.tensor([1.0])
    x.requires_grad = True
    assert x.requires_grad
    x.requires_grad = False
    assert not x.requires_grad
    with pytest.raises(TypeError, match="floating-point"):
        mg.tensor([1]).requires_grad = True
    with pytest.raises(ValueError, match="detach"):
        (leaf(1.0) * 2).requires_grad = False


# --- arrays beside tensors ---


def test_an_array_takes_the_values_of_a_tensor_but_not_in_place_of_its_gradient():
    x, a = leaf(1.0, 2.0), np.array([1.0, 1.0])
    b = a
    b += x.detach()
    assert b is a and a.tolist() == [2, 3]
    with pytest.raises(GradientError, match=r"lose the gradients.*array \+ tensor"):
        b += x
    with mg.no_grad():
        b -= x
    assert a.tolist() == [1, 1]


@pytest.mark.parametrize("function", [np.exp, np.add.reduce, np.frexp, lambda x: np.add(1.0, 1.0, out=x)])
def test_functions_of_numpy_are_refused_by_name(function):
    x = leaf(1.0, 2.0)
    with pytest.raises(TypeError, match=r"numpy.* of a Tensor would leave no graph"):
        function(x)


def test_cupy_is_told_that_a_tensor_takes_the_operation():
    """CuPy asks the instance, NumPy the class."""
    assert mg.ones(2).__array_ufunc__ is None and callable(Tensor.__array_ufunc__)
