"""What a Tensor does not hold is refused with a TypeError that says what it does, wherever it comes in."""

import datetime
import decimal
import fractions
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support.makers import leaf

ARRAYS = {
    "objects": np.array([1, "a"], object),
    "numbers as objects": np.array([1.5, 2.5], object),
    "complex": np.array([1j, 2]),
    "text": np.array(["a", "b"]),
    "bytes": np.array([b"a", b"b"]),
    "dates": np.array(["2020-01-01", "2020-01-02"], "M8[D]"),
    "spans": np.array([1, 2], "m8[s]"),
    "records": np.zeros(2, [("a", float)]),
    "longdouble": np.ones(2, np.longdouble),
}
NUMBERS = {
    "complex": 1j,
    "NumPy's complex": np.complex64(1j),
    "text": "a",
    "bytes": b"a",
    "None": None,
    "decimal": decimal.Decimal(1),
    "fraction": fractions.Fraction(1, 2),
    "date": datetime.date(2020, 1, 1),
    "dict": {},
    "set": {1},
    "object": object(),
    "too large": 10**30,
}
LISTS = {"text": ["a", "b"], "complex": [1j, 2.0], "None": [None, 1.0], "too large": [10**30, 1]}


@pytest.fixture(autouse=True)
def no_warnings():
    """NumPy warns where it casts complex numbers to real ones: nothing may get that far."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


CREATION = {
    "tensor": mg.tensor,
    "as_tensor": mg.as_tensor,
    "Tensor": mg.Tensor,
    "Parameter": nn.Parameter,
    "full": lambda x: mg.full((2,), x),
    "full_like": lambda x: mg.full_like(mg.ones(2), x),
    "copy_": lambda x: leaf(1.0, 2.0).copy_(x),
    "index_update": lambda x: mg.index_update(leaf(1.0, 2.0), slice(0, 2), x),
}


@pytest.mark.parametrize("make", CREATION)
@pytest.mark.parametrize("kind", [f"array of {k}" for k in ARRAYS] + [f"list of {k}" for k in LISTS] + list(NUMBERS))
def test_no_tensor_is_made_of_it(make, kind):
    arrays, lists = ({f"{what} of {k}": v for k, v in d.items()} for what, d in (("array", ARRAYS), ("list", LISTS)))
    with pytest.raises(TypeError, match=r"not supported; expected one of float16.*bool"):
        CREATION[make]((arrays | lists | NUMBERS)[kind])


OPS = {
    "add": lambda x, b: x + b,
    "subtract": lambda x, b: b - x,
    "multiply": lambda x, b: x * b,
    "divide": lambda x, b: b / x,
    "power": lambda x, b: x**b,
    "maximum": mg.maximum,
    "where": lambda x, b: mg.where(np.array([True, False]), x, b),
    "where, both": lambda x, b: mg.where(x > 0, b, b),
    "concatenate": lambda x, b: mg.concatenate([x, b]),
    "stack": lambda x, b: mg.stack([x, b]),
    "matmul": lambda x, b: x @ b,
}


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kind", ["numbers as objects", "complex", "longdouble"])
def test_no_result_is_of_it(op, kind, tracked):
    if op == "matmul" and kind == "numbers as objects":
        pytest.skip("a product of objects gives a number of Python's")
    x = leaf(1.0, 2.0).requires_grad_(tracked)
    OPS[op](x, np.ones(2)), x + 10**30  # a huge integer beside a float is a number like any other
    with pytest.raises(TypeError, match=r"not supported|does not hold|expected Tensors"):
        OPS[op](x, ARRAYS[kind])


@pytest.mark.parametrize("number", [1j, np.complex64(1j), np.longdouble(1)])
def test_no_number_makes_a_result_of_it(number):
    for x in (leaf(1.0, 2.0), mg.tensor([1.0, 2.0]), mg.tensor(1.0, requires_grad=True)):
        for op in (lambda a, b: a + b, lambda a, b: b * a, lambda a, b: a**b):
            with pytest.raises(TypeError, match=r"not supported|does not hold|expected Tensors"):
                op(x, number)


def test_integers_take_no_gradients_and_bounds_are_numbers():
    with pytest.raises(TypeError, match="floating-point"):
        mg.tensor([1, 2], requires_grad=True)
    with pytest.raises(ValueError, match="cannot make one array of this list"):
        mg.tensor([[1.0, 2.0], [3.0]])
    for call in (lambda b: mg.arange(b), lambda b: mg.arange(0, 3, b), lambda b: mg.linspace(0, b, 3)):
        for bound in (1j, "a", np.ones(2), decimal.Decimal(2)):
            with pytest.raises(TypeError, match="expected integers or floats"):
                call(bound)
