"""Every op and composite is called like any Python function: by position and by name alike."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Tensor
from minigrad.autograd.primitive import Primitive
from tests.support.op_cases import CASES, SUBJECTS

few = settings(max_examples=max(settings.default.max_examples // 10, 1))
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
every_case = pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in CASES if key in SUBJECTS])


def named_and_rest(subject, call) -> tuple[dict, tuple]:
    """The call's arguments by name, and those of `*operands`, which have none."""
    bound = inspect.signature(subject).bind(*call.args, **call.options)
    variadic = {p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_POSITIONAL}
    rest = tuple(value for name in variadic for value in bound.arguments.get(name, ()))
    return {name: value for name, value in bound.arguments.items() if name not in variadic}, rest


def by_position(subject, named: dict) -> tuple[list, dict]:
    """The arguments by position as far as the signature goes; a composite's keyword-only ones stay by name.

    An op's options can be given by position too, in the order of its signature.
    """
    parameters = inspect.signature(subject).parameters.values()
    kinds = (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY) if isinstance(subject, Primitive) else POSITIONAL
    listed = [p for p in parameters if p.kind in kinds]
    while listed and listed[-1].name not in named:
        listed.pop()
    values = [named.get(p.name, p.default) for p in listed]
    return values, {name: value for name, value in named.items() if name not in {p.name for p in listed}}


def assert_same(found, expected):
    found, expected = (list(y) if isinstance(y, (list, tuple)) else [y] for y in (found, expected))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape
        if isinstance(a, Tensor):
            assert a.requires_grad == b.requires_grad
            a, b = a.detach().numpy(), b.detach().numpy()
        np.testing.assert_array_equal(a, b)


@every_case
@few
@given(st.data())
def test_arguments_by_name_mean_what_they_mean_by_position(key, data):
    subject = SUBJECTS[key]
    drawn = data.draw(CASES[key].calls)
    tracked = drawn.with_tensors([Tensor(x).requires_grad_() for x in drawn.variables()], Tensor)
    for call in (tracked, drawn):  # of Tensors, and of arrays alone
        named, rest = named_and_rest(subject, call)
        with np.errstate(all="ignore"):
            expected = call(subject)
            if rest:  # `*operands` have no names, and neither has einsum's text before them
                first = [named.pop("subscripts")] if "subscripts" in named else []
                assert_same(subject(*first, *rest, **named), expected)
                continue
            assert_same(subject(**named), expected)
            values, options = by_position(subject, named)
            assert_same(subject(*values, **options), expected)


def test_a_sum_may_be_written_in_any_of_these_ways():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    for y in (mg.sum(x, 0), mg.sum(x, axis=0), mg.sum(x=x, axis=0), mg.sum(axis=0, x=x), mg.sum(x, 0, False), x.sum(0)):
        assert y.tolist() == [4, 6] and y.requires_grad
    assert mg.add(a=x, b=1).tolist() == mg.add(x, b=1).tolist() == [[2, 3], [4, 5]]
    assert mg.exp(x=x).tolist() == mg.exp(x).tolist()


@every_case
def test_a_name_that_the_signature_does_not_have_is_an_error_that_names_it(key):
    with pytest.raises(TypeError, match=r"no_such_option|missing"):
        SUBJECTS[key](no_such_option=1)
