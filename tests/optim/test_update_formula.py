"""A formula, run once on symbols, becomes passes over arrays that compute what the formula says, and waste nothing.

Claimed: whatever a formula does to arrays and coefficients, its passes give to the bit what the formula gives on
arrays, for one parameter and for many packed together, also where multiplications by 1 are left out; the gradient is
written to only where it is a copy; the optimizers need as many passes and scratch arrays as by hand; and what a formula
cannot say is refused in words.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import exp, log, maximum, minimum, sign, sqrt, tanh

import minigrad as mg
from minigrad import optim
from minigrad.optim import adadelta, adam, lion, nadam, nesterov, rmsprop, sgd
from minigrad.optim import optimizer as walk
from minigrad.optim._update import arguments, climbing, compiled, passes, trace, with_decoupled_decay, with_weight_decay

SIZE = 11


def run_passes(tape, numbers, arrays, ones=frozenset(), gradient_is_ours=False):
    """What the passes make of copies of the arrays: p, g and the buffers."""
    calls = passes(tape, ones, gradient_is_ours)
    arrays = [array.copy() for array in arrays]
    scratch = [np.full(SIZE, np.nan, arrays[0].dtype) for _ in range(calls.scratch)]
    numbers = [np.array(number, arrays[0].dtype) for number in numbers]
    with np.errstate(all="ignore"):
        compiled(calls, np)(*arrays, *scratch, *numbers)
    return arrays


def run_packed(tape, numbers, arrays, ones=frozenset()):
    """The same with p in two parameters of their own, and everything else side by side."""
    calls = passes(tape, ones, gradient_is_ours=True)
    p, *flat = [array.copy() for array in arrays]
    flat += [np.full(SIZE, np.nan, p.dtype) for _ in range(calls.scratch)]
    members = [p[:4].copy(), p[4:].copy()]
    numbers = [np.array(number, p.dtype) for number in numbers]
    with np.errstate(all="ignore"):
        compiled(calls, np, packed=True)(
            [None, *flat], [members, *([array[:4], array[4:]] for array in flat)], *numbers
        )
    return [np.concatenate(members), *flat]


def by_hand(formula, coefficients, arrays):
    """What the formula gives on arrays."""
    with np.errstate(all="ignore"):
        p, *buffers = formula(*(array.copy() for array in arrays), **coefficients)
    return [p, *buffers]


def arrays_for(formula, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.1, 2, SIZE).astype(dtype) for _ in range(2 + len(arguments(formula).buffers))]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def check(formula, coefficients, dtype="f4", seed=0):
    """All ways to make a step agree to the bit."""
    arrays, tape = arrays_for(formula, dtype, seed), trace(formula)
    numbers = tape.evaluate(**coefficients)
    ones = frozenset(name for name, number in zip(tape.numbers, numbers, strict=True) if number == 1)
    expected = by_hand(formula, coefficients, arrays)
    for without in (frozenset(), ones):
        p, g, *buffers = run_passes(tape, numbers, arrays, without)
        np.testing.assert_array_equal(g, arrays[1])
        assert_same([p, *buffers], expected)
        p, _, *buffers = run_passes(tape, numbers, arrays, without, gradient_is_ours=True)
        assert_same([p, *buffers], expected)
        p, _, *buffers = run_packed(tape, numbers, arrays, without)
        assert_same([p, *buffers[: len(expected) - 1]], expected)


# --- any formula ---

BINARY = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, maximum, minimum]
UNARY = [lambda a: -a, abs, sqrt, lambda a: a**2, exp, tanh, sign, lambda a: log(abs(a) + 1), lambda a: 2 * a]


@st.composite
def formulas(draw):
    """Up to ten operations on p, g, two buffers and two coefficients; any three of the arrays are returned."""
    steps = draw(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 15), st.integers(0, 15)), max_size=10))
    returned = draw(st.tuples(*[st.integers(0, 15)] * 3))

    def formula(p, g, m, v, *, a, b):
        known, scalars = [p, g, m, v], [a, 1 - a, b, a * b]
        for kind, i, j in steps:
            if kind < len(UNARY):
                known.append(UNARY[kind](known[i % len(known)]))
            else:
                operands = known[i % len(known)], [*known, *scalars][j % (len(known) + 4)]
                known.append(BINARY[kind - len(UNARY)](*operands[:: 1 if i % 2 else -1]))
        return tuple(known[i % len(known)] for i in returned)

    return formula


@given(formulas(), st.sampled_from([0.25, 0.3, 1, 2]), st.sampled_from([0.9, 1]), st.sampled_from(["f2", "f4", "f8"]))
def test_passes_compute_what_the_formula_computes_to_the_bit(formula, a, b, dtype):
    check(formula, {"a": a, "b": b}, dtype)


def swapped(p, g, m, v):
    return p, v, m


def rotated(p, g, m, v):
    return m, v, p - g


def the_same_twice(p, g, m, v):
    m = m + g
    return m, m, m


def kept_gradient(p, g, before):
    return p - (g - before), g


def unchanged(p, g, m):
    return p, m


@pytest.mark.parametrize("formula", [swapped, rotated, the_same_twice, kept_gradient, unchanged])
def test_arrays_may_change_places(formula):
    check(formula, {})


def test_what_does_not_change_takes_no_pass():
    assert not passes(trace(unchanged)).calls


# --- coefficients ---


def test_arithmetic_of_coefficients_is_done_in_double_precision_before_any_pass():
    def formula(p, g, *, beta, t):
        return p - sqrt(1 - beta**t) / (1 - beta) * g

    tape = trace(formula)
    assert tape.evaluate(beta=0.999, t=3) == (np.sqrt(1 - 0.999**3) / (1 - 0.999),)
    assert len(passes(tape).calls) == 2


def test_numbers_of_numpy_are_numbers_and_do_not_widen_the_result():
    tape = trace(lambda p, g: p - np.float64(0.3) * g * np.int64(2))
    p, g = arrays_for(sgd.sgd, "f4")
    assert_same(run_packed(tape, tape.evaluate(), [p, g])[:1], [p - 0.3 * g * 2])


def test_a_product_by_one_is_left_out_and_so_is_what_only_it_needed():
    calls = passes(trace(sgd.momentum), frozenset({"gain", "lr"}))
    assert [call.name for call in calls.calls] == ["multiply", "add", "subtract"] and not calls.scratch


# --- passes and scratch arrays ---

COUNTS = [
    (sgd.sgd, {}, 2, 1),
    (sgd.momentum, {}, 5, 1),
    (sgd.nesterov, {}, 6, 1),
    (nesterov.running_ahead, {}, 5, 1),
    (adam.adam, {"eps_inside_sqrt": False}, 12, 1),
    (adam.adam, {"eps_inside_sqrt": True}, 12, 1),
    (adam.amsgrad, {"eps_inside_sqrt": False}, 13, 1),
    (adadelta.adadelta, {}, 15, 2),
    (lion.lion, {}, 8, 2),
    (nadam.nadam, {}, 14, 2),
    (rmsprop.centered_momentum, {"eps_inside_sqrt": False, "nesterov": True}, 20, 1),
    (with_weight_decay(adam.adam), {"eps_inside_sqrt": False}, 14, 2),
    (climbing(with_weight_decay(adam.adam)), {"eps_inside_sqrt": False}, 14, 2),
    (with_decoupled_decay(adam.adam), {"eps_inside_sqrt": False}, 13, 1),
]


@pytest.mark.parametrize(("formula", "choices", "calls", "scratch"), COUNTS)
def test_a_step_takes_as_many_passes_and_scratch_arrays_as_by_hand(formula, choices, calls, scratch):
    found = passes(trace(formula, tuple(choices.items())), frozenset({"share"}))
    assert (len(found.calls), found.scratch) == (calls, scratch)


def test_a_gradient_that_is_a_copy_serves_as_scratch():
    assert passes(trace(sgd.sgd), gradient_is_ours=True).scratch == 0
    assert passes(trace(climbing(with_weight_decay(adam.adam))), gradient_is_ours=True).scratch == 1


def test_a_formula_is_traced_once():
    assert trace(adam.adam) is trace(adam.adam)
    assert with_weight_decay(adam.adam) is with_weight_decay(adam.adam)
    assert trace(climbing(adam.adam)) is not trace(adam.adam)


# --- formulas around a formula ---


def test_what_stands_around_a_formula_is_what_it_says():
    p, g, b = arrays_for(sgd.momentum, "f8")
    options = {"lr": 0.1, "momentum": 0.9, "gain": 1}
    assert_same(climbing(sgd.momentum)(p, g, b, **options), sgd.momentum(p, -g, b, **options))
    decayed = with_weight_decay(sgd.momentum)(p, g, b, weight_decay=0.3, **options)
    assert_same(decayed, sgd.momentum(p, g + 0.3 * p, b, **options))
    decayed = with_decoupled_decay(sgd.momentum)(p, g, b, decay_factor=0.97, **options)
    assert_same(decayed, sgd.momentum(0.97 * p, g, b, **options))
    check(climbing(with_weight_decay(sgd.momentum)), {**options, "weight_decay": 0.3})
    check(climbing(with_decoupled_decay(sgd.momentum)), {**options, "decay_factor": 0.9})


# --- what is refused ---


def branching(p, g, *, lr):
    return p - lr * g if lr else p


def of_a_strange_function(p, g):
    return p - np.sin(g)


def cubed(p, g):
    return p - g**3


def returning_too_little(p, g, m):
    return p - m


def returning_a_number(p, g, *, lr):
    return lr


def with_an_array(p, g):
    return p - g * np.ones(3)


def summing(p, g):
    return p - np.add.reduce(g)


def with_a_reserved_name(p, g, flat):
    return p - flat, g


def comparing(p, g):
    return p if g > 0 else -p


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (branching, "branches on the value.*keyword with a default"),
        (of_a_strange_function, "does sin to arrays; expected one of add, subtract"),
        (cubed, "does power to arrays"),
        (returning_too_little, "returning_too_little returned 1 values; expected arrays: what p becomes, m"),
        (returning_a_number, "expected arrays"),
        (with_an_array, "computes with a ndarray"),
        (summing, r"calls add.reduce.*plain call"),
        (comparing, "does greater to arrays"),
        (with_a_reserved_name, "an argument called flat, which is reserved"),
    ],
)
def test_a_formula_that_cannot_be_traced_is_refused_in_words(formula, words):
    with pytest.raises(TypeError, match=words):
        trace(formula)


def test_a_coefficient_that_is_missing_or_unknown_is_an_error():
    with pytest.raises(TypeError, match="lr"):
        trace(sgd.sgd).evaluate()
    with pytest.raises(TypeError, match="gain"):
        trace(sgd.sgd).evaluate(lr=0.1, gain=1)


# --- an optimizer of one's own ---


def sign_momentum(p, g, m, *, lr, beta, dead_zone=False):
    m = beta * m + (1 - beta) * g
    return p - lr * (m / (abs(m) + 1) if dead_zone else sign(m)), m


class SignMomentum(optim.Optimizer):
    def __init__(self, params, lr=1e-3, beta=0.9, dead_zone=False, weight_decay=0.0, maximize=False):
        options = {"lr": lr, "beta": beta, "dead_zone": dead_zone, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, options)

    def formula(self, group):
        return sign_momentum


class AsItStands(SignMomentum):
    elementwise = False


@pytest.mark.parametrize("options", [{}, {"dead_zone": True, "weight_decay": 0.1, "maximize": True}])
@pytest.mark.parametrize("kind", [SignMomentum, AsItStands])
def test_an_optimizer_of_ones_own_moves_every_parameter_by_its_formula(kind, options):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype("f4") for shape in [(), (3,), (walk.SMALL + 1,), (0, 2)]]
    params = [mg.tensor(array, requires_grad=True) for array in start]
    optimizer = kind(params, lr=0.1, **options)
    expected, means = [array.copy() for array in start], [np.zeros_like(array) for array in start]
    for _ in range(5):
        gradients = [rng.standard_normal(array.shape).astype("f4") for array in start]
        for p, g in zip(params, gradients, strict=True):
            p.grad = mg.tensor(g)
        optimizer.step()
        for i, g in enumerate(gradients):
            if options:
                g = np.float32(0.1) * expected[i] - g
            expected[i], means[i] = sign_momentum(
                expected[i], g, means[i], lr=0.1, beta=0.9, dead_zone=options.get("dead_zone", False)
            )
    for p, e, m in zip(params, expected, means, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), e)
        np.testing.assert_array_equal(optimizer.state[p]["m"], m)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        (lambda p, g, *, lr: p - lr * g / np.linalg.norm(g), "calls norm.*elementwise = False"),
        (lambda p, g, *, lr: p - lr * np.mean(g), "calls mean"),
        (lambda p, g, *, lr: p - lr * np.clip(g, -1, 1), "calls clip.*maximum, minimum"),
        (lambda p, g, *, lr: p - lr * np.where(g > 0, 1, -1), "greater.*maximum, minimum or sign"),
        (lambda p, g, *, lr: p - lr * np.nan_to_num(g), "calls nan_to_num"),
    ],
)
def test_functions_of_whole_arrays_are_refused_and_not_taken_for_elementwise_ones(formula, words):
    with pytest.raises(TypeError, match=words):
        trace(formula)


def test_writing_in_place_in_a_formula_is_refused():
    def formula(p, g, *, lr):
        p -= lr * g
        return p

    with pytest.raises(TypeError, match=r"writes in place.*p = p - step"):
        trace(formula)
