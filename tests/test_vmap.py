"""vmap against a loop: for every op in the table, for its derivatives, nested, and with all that functions may take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import CASES, SUBJECTS
from strategies import seeds
from test_ops import floats, named, results

import minigrad as mg
from minigrad import Tensor

few = settings(max_examples=max(settings.default.max_examples // 6, 1))
FACTORS = (1.0, 0.97, 1.02)  # examples are these multiples of what was drawn

# Shapes of these depend on values: they cannot be the same for all examples, and say so.
SHAPED_BY_VALUES: set[str] = set()

every_case = named(key for key in CASES if key in SUBJECTS)
every_differentiable_case = named(key for key, case in CASES.items() if key in SUBJECTS and case.differentiable)


def examples_of(call, chosen):
    """(calls one by one, stacked variables, in_axes): the chosen variables differ, the others are shared."""
    variables = call.variables()
    rows = [[x * f if i in chosen else x for i, x in enumerate(variables)] for f in FACTORS]
    stacked = [np.stack([row[i] for row in rows]) if i in chosen else x for i, x in enumerate(variables)]
    axes = tuple(0 if i in chosen else None for i in range(len(variables)))
    return rows, [Tensor(np.asarray(x)) for x in stacked], axes


def applied(call, subject):
    """The subject as a function of the call's variables, with a tuple of results."""
    return lambda *variables: tuple(results(call.with_tensors(variables, Tensor)(subject)))


def weighted(call, subject):
    """A single number made of all float results, each element with a weight of its own."""

    def value(*variables):
        total = 0.0
        for i, y in enumerate(floats(call.with_tensors(variables, Tensor)(subject))):
            total = total + (y * Tensor(np.cos(np.arange(y.size) + i).reshape(y.shape))).sum()
        return total

    return value


def drawn(data, key):
    call = data.draw(CASES[key].calls)
    count = len(call.variables())
    if not count:
        return None
    chosen = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    return call, *examples_of(call, chosen)


def agree(found, expected, what, rtol=1e-9):
    found, expected = np.asarray(found), np.asarray(expected)
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else np.zeros(0)
    scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * scale, err_msg=what)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_case
@few
@given(st.data())
def test_vmap_of_an_op_is_the_loop_over_its_examples(key, data):
    case = drawn(data, key)
    if case is None:
        return
    call, rows, stacked, axes = case
    f = applied(call, SUBJECTS[key])
    one_by_one = [f(*(Tensor(x) for x in row)) for row in rows]
    together = mg.vmap(f, in_axes=axes)(*stacked)
    for i, y in enumerate(together):
        assert y.dtype == one_by_one[0][i].dtype
        agree(y.numpy(), np.stack([result[i].numpy() for result in one_by_one]), f"result {i}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_differentiable_case
@few
@given(st.data(), seeds())
def test_vmap_of_the_derivatives_of_an_op_is_the_loop_over_its_examples(key, data, seed):
    case = drawn(data, key)
    if case is None:
        return
    call, rows, stacked, axes = case
    f = weighted(call, SUBJECTS[key])
    numbers = tuple(range(len(axes)))
    gradient = mg.grad(f, argnums=numbers)
    together = mg.vmap(gradient, in_axes=axes)(*stacked)
    one_by_one = [gradient(*(Tensor(x) for x in row)) for row in rows]
    for i, g in enumerate(together):
        agree(g.numpy(), np.stack([result[i].numpy() for result in one_by_one]), f"gradient by variable {i}")

    # the same examples from outside: what is shared gets the sum
    total = mg.grad(lambda *xs: mg.vmap(f, in_axes=axes)(*xs).sum(), argnums=numbers)(*stacked)
    for i, g in enumerate(total):
        each = np.stack([result[i].numpy() for result in one_by_one])
        agree(g.numpy(), each if axes[i] == 0 else each.sum(axis=0), f"gradient of the sum by variable {i}")

    # forward mode, and second derivatives, along a direction
    random = np.random.default_rng(seed)
    along = [Tensor(random.standard_normal(x.shape)) for x in rows[0]]
    pushed = mg.vmap(lambda *xs: mg.jvp(f, xs, along)[1], in_axes=axes)(*stacked)
    agree(pushed.numpy(), [mg.jvp(f, [Tensor(x) for x in row], along)[1].numpy() for row in rows], "jvp")
    second = mg.vmap(lambda *xs: mg.jvp(gradient, xs, along)[1], in_axes=axes)(*stacked)
    one_by_one = [mg.jvp(gradient, [Tensor(x) for x in row], along)[1] for row in rows]
    for i, h in enumerate(second):
        agree(h.numpy(), np.stack([result[i].numpy() for result in one_by_one]), f"second derivative {i}", 1e-8)
