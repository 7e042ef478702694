"""What a case says about an op: how to call it, what NumPy or SciPy make of the same call, and what else holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.strategies import broadcastable_shapes, shapes


@dataclass(frozen=True)
class Call:
    """Arguments for an op. Arrays of floats among them, or in lists among them, are the variables to derive by."""

    args: tuple
    options: dict = field(default_factory=dict)

    def variables(self) -> list[np.ndarray]:
        found = []
        for arg in self.args:
            found += [part for part in (arg if isinstance(arg, list) else [arg]) if is_variable(part)]
        return found

    def with_variables(self, values) -> Call:
        """The same call with other arrays or Tensors in the places of the variables."""
        values = iter(values)

        def swap(arg):
            if isinstance(arg, list):
                return [next(values) if is_variable(part) else part for part in arg]
            return next(values) if is_variable(arg) else arg

        return replace(self, args=tuple(swap(arg) for arg in self.args))

    def with_tensors(self, variables, tensor: Callable) -> Call:
        """The same call with these variables, and Tensors for every array among the arguments, of integers too."""
        call = self.with_variables(variables)

        def wrap(arg):
            if isinstance(arg, list):
                return [wrap(part) for part in arg]
            return tensor(arg) if isinstance(arg, (np.ndarray, np.generic)) else arg

        return replace(call, args=tuple(wrap(arg) for arg in call.args))

    def __call__(self, function: Callable) -> Any:
        return function(*self.args, **self.options)


def is_variable(value) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f"


@dataclass(frozen=True)
class Case:
    """One op, as the tests see it.

    calls : strategy of Calls with float64 arrays at points where the op is smooth
    reference : the same function of NumPy arrays; None where nobody else has it
    complex_reference : a form of it that is analytic, for derivatives by a complex step
    dtypes : dtypes of the variables for which values are compared
    result_dtype : function of the variables' dtypes; None: as NumPy promotes them, or the reference's for integers
    differentiable : whether a gradient flows
    distinct : values must stay distinct (no views that repeat a value)
    mixed : whether the variables may have different dtypes
    """

    calls: st.SearchStrategy
    reference: Callable | None = None
    complex_reference: Callable | None = None
    dtypes: tuple[str, ...] = ("f2", "f4", "f8")
    result_dtype: Callable | None = None
    differentiable: bool = True
    distinct: bool = False
    mixed: bool = True


UNLIKE = ((2, 3), (3, 2), (4, 2, 3), (2, 3, 4), (3, 1, 2), (5,))
PARTNERS = (((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 3), (3,)), ((2, 1), (3,)), ((), (3, 2)), ((4, 2, 3), (2, 1)))


def boxes(min_dims=0, min_side=0):
    """`shapes`, whose draws are mostly of no or one element, and among them some whose sizes all differ.

    With few elements an error that only some of them have goes by; with equal sizes, an axis mistaken for another.
    """
    unlike = [shape for shape in UNLIKE if len(shape) >= min_dims and min(shape) >= min_side]
    return st.one_of(shapes(min_dims=min_dims, min_side=min_side), st.sampled_from(unlike))


def partners(min_side=0):
    """Pairs of shapes that broadcast together, likewise."""
    return st.one_of(broadcastable_shapes(min_side=min_side), st.sampled_from(PARTNERS))


def calls(*args, **options) -> st.SearchStrategy:
    """Calls whose arguments and options are drawn from these strategies; what is no strategy stands as it is."""

    def strategy(value):
        return value if isinstance(value, st.SearchStrategy) else st.just(value)

    return st.builds(
        Call,
        st.tuples(*(strategy(arg) for arg in args)),
        st.fixed_dictionaries({name: strategy(value) for name, value in options.items()}),
    )
