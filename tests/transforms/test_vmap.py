"""vmap against a loop: for every op in the table, for its derivatives, nested, and with all that functions may take."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Tensor
from minigrad.autograd.levels import give_to_all, levels_of
from tests.support.op_cases import CASES, SUBJECTS, every_case, every_differentiable_case, floats, results
from tests.support.strategies import seeds, shapes
from tests.support.transform_makers import agree

few = settings(max_examples=max(settings.default.max_examples // 6, 1))
FACTORS = (1.0, 0.97, 1.02)  # examples are these multiples of what was drawn

# Shapes of these depend on values: they cannot be the same for all examples, and say so.
SHAPED_BY_VALUES: set[str] = set()


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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_case
@settings(max_examples=max(settings.default.max_examples // 15, 1))
@given(st.data())
def test_a_value_marked_as_the_same_for_all_examples_counts_as_shared(key, data):
    """Second derivatives bring such values in anywhere: their hidden axis has size 1."""
    case = drawn(data, key)
    if case is None or len(case[3]) == sum(axis == 0 for axis in case[3]):
        return
    call, _, stacked, axes = case
    f = applied(call, SUBJECTS[key])
    differing = axes.index(0)

    def marked(*xs):
        level = next(levels_of(xs[differing]))
        return f(*(x if axis == 0 else give_to_all(x, level=level) for x, axis in zip(xs, axes, strict=True)))

    found, expected = (mg.vmap(g, in_axes=axes)(*stacked) for g in (marked, f))
    for i, (y, z) in enumerate(zip(found, expected, strict=True)):
        agree(y.numpy(), z.numpy(), f"result {i}")


# --- every argument at any of two levels, integers too ---

OUTER, INNER = 2, 3


def slots_of(call):
    """The places of all arrays among the arguments, of floats, integers and bools: (argument, part or None)."""
    places = []
    for i, arg in enumerate(call.args):
        parts = enumerate(arg) if isinstance(arg, list) else [(None, arg)]
        places += [(i, j) for j, part in parts if isinstance(part, np.ndarray)]
    return places


def with_slots(call, places, values):
    args = [list(arg) if isinstance(arg, list) else arg for arg in call.args]
    for (i, j), value in zip(places, values, strict=True):
        if j is None:
            args[i] = value
        else:
            args[i][j] = value
    return replace(call, args=tuple(args))


def varied(x, outer, inner):
    """(..., *x.shape): another array for each place, floats near x, and integers and bools of x in another order."""

    def at(k):
        return x * (1 + 0.02 * k) if x.dtype.kind == "f" else np.roll(x.ravel(), k).reshape(x.shape)

    rows = [np.stack([at(i + 2 * j) for j in range(INNER)]) if inner else at(i) for i in range(OUTER)]
    return np.stack(rows) if outer else rows[0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_case
@settings(max_examples=max(settings.default.max_examples // 10, 1))
@given(st.data(), seeds())
def test_two_vmaps_of_an_op_are_two_loops_whichever_argument_belongs_to_which(key, data, random):
    call = data.draw(CASES[key].calls)
    places = slots_of(call)
    if not places:
        return
    levels = [(bool(random.integers(2)), bool(random.integers(2))) for _ in places]
    levels[random.integers(len(places))] = (True, bool(random.integers(2)))
    place = random.integers(len(places))
    levels[place] = (levels[place][0], True)
    arrays = [call.args[i] if j is None else call.args[i][j] for i, j in places]
    stacked = [varied(x, *level) for x, level in zip(arrays, levels, strict=True)]
    f = lambda *xs: tuple(results(with_slots(call, places, xs)(SUBJECTS[key])))  # noqa: E731

    def two_loops(f):
        def one(i, j):
            rows = zip(stacked, levels, strict=True)
            return f(*(Tensor(np.asarray((x[i] if o else x)[j] if n else (x[i] if o else x))) for x, (o, n) in rows))

        return [[one(i, j) for j in range(INNER)] for i in range(OUTER)]

    def two_vmaps(f):
        outer, inner = (tuple(0 if level[k] else None for level in levels) for k in (0, 1))
        return mg.vmap(mg.vmap(f, in_axes=inner), in_axes=outer)(*map(Tensor, map(np.asarray, stacked)))

    try:
        expected = two_loops(f)
    except (ValueError, IndexError):  # a permuted index or an argument that may not change, such as a window
        return
    masks = [level for x, level in zip(arrays, levels, strict=True) if x.dtype == bool]
    if key[1] in ("getitem", "index_update", "index_add") and any(map(any, masks)):
        with pytest.raises(TypeError, match="mask that differs from example to example"):
            two_vmaps(f)
        return
    for k, y in enumerate(two_vmaps(f)):
        agree(y.numpy(), np.stack([np.stack([row[k].numpy() for row in rows]) for rows in expected]), f"result {k}")
    numbers = tuple(i for i, x in enumerate(arrays) if x.dtype.kind == "f")
    if not CASES[key].differentiable or not numbers:
        return

    def value(*xs):
        return sum((y * np.cos(np.arange(y.size)).reshape(y.shape)).sum() for y in floats(f(*xs)))

    gradient = mg.grad(value, argnums=numbers)
    each = two_loops(gradient)
    together = two_vmaps(gradient)
    total = mg.grad(lambda *xs: two_sums(value, levels)(*xs), argnums=numbers)(*map(Tensor, map(np.asarray, stacked)))
    for k, i in enumerate(numbers):
        one_by_one = np.stack([np.stack([row[k].numpy() for row in rows]) for rows in each])
        agree(together[k].numpy(), one_by_one, f"gradient by argument {i}", 1e-8)
        shared = tuple(axis for axis in (0, 1) if not levels[i][axis])
        agree(total[k].numpy(), one_by_one.sum(axis=shared), f"gradient of the sum by argument {i}", 1e-8)


def two_sums(f, levels):
    outer, inner = (tuple(0 if level[k] else None for level in levels) for k in (0, 1))
    return lambda *xs: mg.vmap(mg.vmap(f, in_axes=inner), in_axes=outer)(*xs).sum()


# --- indices ---


@st.composite
def indices_in_parts(draw, shape):
    """Parts of an index of this shape, in mixtures of all kinds; arrays come with examples in front, or without."""
    wide = draw(st.lists(st.integers(1, 3), max_size=2))
    parts, rest = [], list(shape)
    dots = draw(st.integers(0, len(shape))) if draw(st.booleans()) else None
    count = draw(st.integers(0, len(shape)))
    dots = None if dots is None or dots > count else dots
    axes = range(count) if dots is None else [*range(dots), *range(len(rest) - count + dots, len(rest))]
    for place in range(count + 1):
        if place == dots:
            parts.append(("same", Ellipsis))
        if draw(st.integers(0, 4)) == 0:
            parts.append(("same", draw(st.sampled_from([None, None, True, np.True_]))))
        if place < count:
            parts.append(draw(_index_part_of(rest[axes[place]], tuple(wide))))
    return parts


@st.composite
def _index_part_of(draw, size, wide):
    kind = draw(st.sampled_from(["slice", "number", "same array", "own array", "own array", "own number", "mask"]))
    if kind == "slice" or not size:
        return "same", draw(st.slices(size))
    if kind == "number":
        return "same", draw(st.integers(-size, size - 1))
    random = draw(seeds())
    if kind == "mask":  # one true element broadcasts with arrays of every width
        return "same", random.permutation(np.arange(size) == 0)
    lead = wide[draw(st.integers(0, len(wide))) :] if kind != "own number" else ()
    shape = tuple(n if draw(st.booleans()) else 1 for n in lead)
    if kind == "same array":
        return "same", random.integers(-size, size, shape)
    return "own", random.integers(-size, size, (len(FACTORS), *shape))


@settings(max_examples=5 * settings.default.max_examples)
@given(st.data(), seeds(), st.booleans(), st.booleans())
def test_reading_writing_and_adding_at_any_index_is_the_loop(data, random, x_differs, value_differs):
    n = len(FACTORS)
    shape = data.draw(shapes(max_dims=3, max_side=3))
    parts = data.draw(indices_in_parts(shape))
    own = [part for kind, part in parts if kind == "own"]
    x = random.standard_normal((n, *shape) if x_differs else shape)

    def index(i, of_each=None):
        mine = iter(of_each if of_each is not None else [part[i] for part in own])
        return tuple(next(mine) if kind == "own" else part for kind, part in parts)

    def at(array, i, differs):
        return np.asarray(array[i] if differs else array)

    try:
        read = np.stack([at(x, i, x_differs)[index(i)] for i in range(n)])
    except IndexError:  # arrays of widths that do not broadcast
        return
    value = random.standard_normal(read.shape if value_differs else read.shape[1:])
    axes = (0 if x_differs else None, 0 if value_differs else None, *(0 for _ in own))
    tensors = [Tensor(np.asarray(a)) for a in (x, value, *own)]
    if all(axis is None for axis in axes):
        return

    def rows(f):
        """The stacked results of f(i, x, value) one by one; None where it raises."""
        try:
            ones = ((i, Tensor(at(x, i, x_differs)), Tensor(at(value, i, value_differs))) for i in range(n))
            return [f(*one) for one in ones]
        except ValueError as error:
            return error

    for name, f in {
        "read": lambda x, v, index: x[index],
        "add": lambda x, v, index: mg.index_add(x, index, v),
        "update": lambda x, v, index: mg.index_update(x, index, v),
    }.items():

        def of_tensors(x, v, *mine, f=f):
            return f(x, v, index(0, mine))

        expected = rows(lambda i, x, v, f=f: f(x, v, index(i)).numpy())
        if isinstance(expected, ValueError):  # an element named twice, which has no update
            with pytest.raises(ValueError, match="more than once"):
                mg.vmap(of_tensors, in_axes=axes)(*tensors)
            continue
        agree(mg.vmap(of_tensors, in_axes=axes)(*tensors).numpy(), np.stack(expected), name)
        weights = Tensor(random.standard_normal(expected[0].shape))

        def number(x, v, *mine, f=of_tensors, weights=weights):
            return (mg.sin(f(x, v, *mine)) * weights).sum()

        each = rows(lambda i, x, v, f=number: mg.grad(f, (0, 1))(x, v, *(Tensor(np.asarray(p[i])) for p in own)))
        together = mg.vmap(mg.grad(number, (0, 1)), in_axes=axes)(*tensors)
        total = mg.grad(lambda *xs, f=number: mg.vmap(f, in_axes=axes)(*xs).sum(), (0, 1))(*tensors)
        for k, differs in enumerate((x_differs, value_differs)):
            one_by_one = np.stack([gradients[k].numpy() for gradients in each])
            agree(together[k].numpy(), one_by_one, f"gradient of {name} by {'xv'[k]}")
            agree(total[k].numpy(), one_by_one if differs else one_by_one.sum(axis=0), f"gradient of all, {name}")


A, B = np.array([[0, 1], [1, 0], [-1, -1]]), np.array([1, 0])  # A: an index for each example, B: one for all


@pytest.mark.parametrize(
    "index",
    [
        lambda a: (a, Ellipsis, B),  # dots for an axis, and further down for none: even then they part the arrays
        lambda a: (None, a, Ellipsis, B, B),
        lambda a: (None, B, Ellipsis, a, 1),
        lambda a: (slice(1), a, Ellipsis, 0),
        lambda a: (slice(1), 1, Ellipsis, a),
        lambda a: (Ellipsis, a, B),
        lambda a: (a, B, Ellipsis),
        lambda a: (a, None, B),
        lambda a: (0, slice(None), a),
        lambda a: (slice(None), a, None, True, Ellipsis),
        lambda a: (True, Ellipsis, a),
    ],
)
def test_axes_that_arrays_make_stand_where_numpy_puts_them(index, random):
    x = random.standard_normal((2, 2, 2))
    found = mg.vmap(lambda a: Tensor(x)[index(a)])(Tensor(A))
    np.testing.assert_array_equal(found.numpy(), np.stack([x[index(a)] for a in A]))
    xs = Tensor(np.stack([x, x + 1, 2 * x]))
    both = mg.vmap(lambda x, a: x[index(a)])(xs, Tensor(A))
    np.testing.assert_array_equal(both.numpy(), np.stack([xs.numpy()[i][index(a)] for i, a in enumerate(A)]))
    shared = mg.vmap(lambda x: x[index(B)])(xs)
    np.testing.assert_array_equal(shared.numpy(), np.stack([row[index(B)] for row in xs.numpy()]))
    nested = mg.vmap(lambda x: mg.vmap(lambda a: x[index(a)])(Tensor(A)))(xs)
    np.testing.assert_array_equal(nested.numpy(), np.stack([[row[index(a)] for a in A] for row in xs.numpy()]))
