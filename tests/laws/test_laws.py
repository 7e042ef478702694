"""Laws: what is true of derivatives whatever the function, and what theorems about a function say of its derivatives.

No reference is needed where a law is known. The first part holds for every op in the table: the chain rule, the product
rule, linearity, the symmetry of second and third derivatives. The second differentiates both sides of equations:
sin^2 + cos^2 = 1, Euler's theorem on homogeneous functions, and what does not change when its argument is shifted or
turned. All numbers are exact but for rounding: there is no step, as in differences, that could hide a small error.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import autograd
from minigrad.autograd import forward, reverse
from minigrad.autograd.primitive import Primitive
from minigrad.transforms.batched_tangents import push_together
from tests.support.law_cases import FLOWS, HOMOGENEOUS, IDENTITIES
from tests.support.op_cases import CASES, SUBJECTS, floats
from tests.support.strategies import seeds

TOLERANCE = 1e-9
few = settings(max_examples=max(settings.default.max_examples // 12, 1))
some = settings(max_examples=max(settings.default.max_examples // 6, 1))


# --- derivatives of functions of arrays, as lists of arrays ---


def leaves(xs):
    return [mg.tensor(x, requires_grad=True) for x in xs]


def zeros_for_none(found, like):
    return [np.zeros(x.shape) if g is None else g.detach().numpy() for g, x in zip(found, like, strict=True)]


def values(f, xs):
    return [y.detach().numpy() for y in f(leaves(xs))]


def pull(f, xs, vs):
    """The cotangents vs of f(xs), pulled back to the xs."""
    tensors = leaves(xs)
    return zeros_for_none(autograd.grad(f(tensors), tensors, list(vs), allow_unused=True), xs)


def push(f, xs, us):
    """The tangents us of the xs, pushed forward to f(xs)."""
    tensors = leaves(xs)
    ys = f(tensors)
    return zeros_for_none(mg.push(ys, tensors, list(us)), ys)


def gradients(scalar, tensors):
    """Of a scalar in tensors, recorded, zeros where it does not depend on one."""
    found = [None] * len(tensors)
    if scalar.requires_grad:
        found = autograd.grad(scalar, tensors, create_graph=True, allow_unused=True)
    return [mg.zeros(x.shape, dtype="f8") if g is None else g for g, x in zip(found, tensors, strict=True)]


def along(tensors, directions):
    return sum(((t * d).sum() for t, d in zip(tensors, directions, strict=True)), mg.tensor(np.zeros(())))


def random_like(random, arrays):
    return [np.asarray(random.standard_normal(np.shape(a))) for a in arrays]


def combination(a, xs, b, ys):
    return [a * x + b * y for x, y in zip(xs, ys, strict=True)]


def dot(gs, us):
    """(their inner product as a list of one array, the size of its terms)."""
    terms = [g.detach().numpy() * u for g, u in zip(gs, us, strict=True)]
    return [np.asarray(sum(t.sum() for t in terms))], sum(np.abs(t).sum() for t in terms)


def agree(message, found, expected, size=1.0):
    """Whether two lists of arrays agree, relative to the largest number in them, or to `size` if that is larger."""
    size = max([1.0, size, *(np.abs(e).max(initial=0) for e in [*found, *expected])])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * size, err_msg=message)


# --- laws for every op: of a function f of a list of tensors, at xs; each gives what must agree ---


def pulling_back_is_linear(f, xs, random):
    v, w = (random_like(random, values(f, xs)) for _ in range(2))
    yield pull(f, xs, combination(2.5, v, -0.5, w)), combination(2.5, pull(f, xs, v), -0.5, pull(f, xs, w))


def pushing_forward_is_linear(f, xs, random):
    u, w = (random_like(random, xs) for _ in range(2))
    yield push(f, xs, combination(2.5, u, -0.5, w)), combination(2.5, push(f, xs, u), -0.5, push(f, xs, w))


def a_tangent_is_the_sum_over_the_arguments(f, xs, random):
    us = random_like(random, xs)
    each = [push(f, xs, [u if i == j else 0 * u for j, u in enumerate(us)]) for i in range(len(xs))]
    yield push(f, xs, us), [sum(parts) for parts in zip(*each, strict=True)]


def derivatives_of_a_composition_are_composed(f, xs, random):
    """Backward and forward, through g(f(x)) at once and in two graphs."""
    g = outer_function(random)
    ys = values(f, xs)
    ws, us = random_like(random, values(g, ys)), random_like(random, xs)
    yield pull(lambda xs: g(f(xs)), xs, ws), pull(f, xs, pull(g, ys, ws))
    yield push(lambda xs: g(f(xs)), xs, us), push(g, ys, push(f, xs, us))


def directions_pushed_together_move_as_each_alone(f, xs, random):
    tensors = leaves(xs)
    ys = f(tensors)
    for i, x in enumerate(tensors):
        us = random.standard_normal((3, *x.shape))
        together = push_together(ys, x, us)
        alone = [push(f, xs, [u if j == i else np.zeros(np.shape(z)) for j, z in enumerate(xs)]) for u in us]
        stacked = [np.stack(parts) for parts in zip(*alone, strict=True)]
        yield [np.zeros(t.shape) if y is None else y for y, t in zip(together, stacked, strict=True)], stacked


def the_jacobian_of_a_composition_is_the_product_of_jacobians(f, xs, random):
    """That of the whole row by row, by reverse mode; those of the parts column by column, by forward mode."""
    g = outer_function(random)
    ys = values(f, xs)
    if max(count(xs), count(ys), count(values(g, ys))) <= 12:
        rows = np.array([flat(pull(lambda xs: g(f(xs)), xs, unit)) for unit in units(values(g, ys))])
        inner = np.array([flat(push(f, xs, unit)) for unit in units(xs)]).reshape(count(xs), count(ys))
        outer = np.array([flat(push(g, ys, unit)) for unit in units(ys)]).reshape(count(ys), len(rows))
        yield [rows.reshape(len(rows), count(xs))], [outer.T @ inner.T]


def a_product_has_the_derivative_of_leibniz(f, xs, random):
    """(a.x) f(x), of which the first factor has the gradient a."""
    direction = random_like(random, xs)
    vs = random_like(random, values(f, xs))
    factor = sum(float((a * x).sum()) for a, x in zip(direction, xs, strict=True))
    inner = sum(float((v * y).sum()) for v, y in zip(vs, values(f, xs), strict=True))
    found = pull(lambda xs: [y * along(xs, direction) for y in f(xs)], xs, vs)
    yield found, combination(factor, pull(f, xs, vs), inner, direction)


def second_derivatives_are_symmetric(f, xs, random):
    """<u, H v> = <v, H u>, and H v by reverse mode twice is H v by forward mode over reverse mode."""
    u, v = (random_like(random, xs) for _ in range(2))
    tensors, gradient = recorded_gradient(f, xs, random)
    hu, hv = (gradients(along(gradient, direction), tensors) for direction in (u, v))
    (uhv, size), (vhu, _) = dot(hv, u), dot(hu, v)
    yield uhv, vhu, size
    tracked = [i for i, g in enumerate(gradient) if g.requires_grad]
    if tracked:
        forward = mg.push([gradient[i] for i in tracked], tensors, v)
        yield zeros_for_none(forward, [xs[i] for i in tracked]), [hv[i].detach().numpy() for i in tracked]


def third_derivatives_are_symmetric(f, xs, random):
    u, v, w = (random_like(random, xs) for _ in range(3))
    tensors, gradient = recorded_gradient(f, xs, random)

    def along_three(first, second, third):
        once = gradients(along(gradient, first), tensors)
        return dot(gradients(along(once, second), tensors), third)

    (uvw, size), (wuv, _), (vuw, _) = along_three(u, v, w), along_three(w, u, v), along_three(v, u, w)
    yield [*uvw, *uvw], [*wuv, *vuw], size


LAWS = [
    pulling_back_is_linear,
    pushing_forward_is_linear,
    a_tangent_is_the_sum_over_the_arguments,
    derivatives_of_a_composition_are_composed,
    directions_pushed_together_move_as_each_alone,
    the_jacobian_of_a_composition_is_the_product_of_jacobians,
    a_product_has_the_derivative_of_leibniz,
    second_derivatives_are_symmetric,
    third_derivatives_are_symmetric,
]


def outer_function(random):
    """A function of a list of tensors of any shapes, in which all elements matter to each other."""
    name = random.choice(["sines", "times the sum", "matrix"])
    if name == "sines":
        return lambda ys: [mg.sin(y) for y in ys]
    if name == "times the sum":
        return lambda ys: [y * sum(mg.sin(z).sum() for z in ys) for y in ys]
    return lambda ys: [np.cos(np.arange(2.0 * y.size)).reshape(2, y.size) @ mg.tanh(y.reshape(-1)) for y in ys]


def recorded_gradient(f, xs, random):
    """(tensors, the recorded gradient in them) of a random sum of sines of f: curved even where f is linear."""
    tensors = leaves(xs)
    ys = f(tensors)
    return tensors, gradients(along([mg.sin(y) for y in ys], random_like(random, ys)), tensors)


def count(arrays):
    return sum(np.size(a) for a in arrays)


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def units(arrays):
    """One list of arrays of these shapes for each element: 1 there, 0 elsewhere."""
    for row in np.eye(count(arrays)):
        cuts = np.split(row, np.cumsum([np.size(a) for a in arrays])[:-1])
        yield [cut.reshape(np.shape(a)) for cut, a in zip(cuts, arrays, strict=True)]


def function_of(call, subject):
    return lambda tensors: floats(call.with_variables(tensors)(subject))


every_differentiable_op = pytest.mark.parametrize(
    "key",
    [pytest.param(key, id=".".join(key)) for key, case in CASES.items() if key in SUBJECTS and case.differentiable],
)


@every_differentiable_op
@few
@given(st.data())
def test_laws_of_differentiation(key, data):
    call, random = data.draw(CASES[key].calls), data.draw(seeds())
    f = function_of(call, SUBJECTS[key])
    for law in LAWS:
        for claim in law(f, call.variables(), random):
            agree(f"for {key[1]} it does not hold that {law.__name__.replace('_', ' ')}", *claim)


@every_differentiable_op
@few
@given(st.data())
def test_derivatives_of_separate_calls_do_not_meet(key, data):
    """Two calls of an op in one graph, of other shapes and options, are derived as each by itself; as is their sum."""
    calls, random = [data.draw(CASES[key].calls) for _ in range(2)], data.draw(seeds())
    fs, xs = [function_of(call, SUBJECTS[key]) for call in calls], [call.variables() for call in calls]
    vs, us = (
        [random_like(random, values(f, x)) for f, x in zip(fs, xs, strict=True)],
        [random_like(random, x) for x in xs],
    )
    n, message = len(xs[0]), f"two calls of {key[1]} in one graph change each other's derivatives"

    def both(tensors):
        return fs[0](tensors[:n]) + fs[1](tensors[n:])

    agree(message, pull(both, xs[0] + xs[1], vs[0] + vs[1]), pull(fs[0], xs[0], vs[0]) + pull(fs[1], xs[1], vs[1]))
    agree(message, push(both, xs[0] + xs[1], us[0] + us[1]), push(fs[0], xs[0], us[0]) + push(fs[1], xs[1], us[1]))


# --- each law finds a derivative that breaks it ---


def held(x):
    return x.data if isinstance(x, mg.Tensor) else x


WRONG_RULES = {  # of a b c in its argument a
    pulling_back_is_linear: {"vjp": lambda g, b, c: abs(g) * b * c},
    pushing_forward_is_linear: {"jvp": lambda t, b, c: abs(t) * b * c},
    a_tangent_is_the_sum_over_the_arguments: {"jvp": lambda t, b, c: t * b * c + 1},
    the_jacobian_of_a_composition_is_the_product_of_jacobians: {"jvp": lambda t, b, c: t * b * c * 2},
    second_derivatives_are_symmetric: {"vjp": lambda g, b, c: g * held(b) * c},
    third_derivatives_are_symmetric: {"vjp": lambda g, b, c: g * right_but_for_its_derivative(b, c)},
}


def right_but_for_its_derivative(b, c):
    """b c, whose derivative in b holds c constant."""
    op = Primitive(lambda b, c: b * c)
    op.defvjp(b=lambda g, c: g * held(c), c=lambda g, b: g * b)
    op.defjvp(b=lambda g, c: g * c, c=lambda g, b: g * b)
    return op(b, c)


def breaks(law, f, random):
    xs = [random.uniform(0.5, 2, 3) for _ in range(3)]
    with pytest.raises(AssertionError):
        for _ in range(20):
            for claim in law(f, xs, random):
                agree("broken", *claim)


@pytest.mark.parametrize("law", WRONG_RULES, ids=lambda law: law.__name__)
def test_a_wrong_rule_breaks_the_law(law, random):
    op = Primitive(lambda a, b, c: a * b * c)
    right = {"a": lambda g, b, c: g * b * c, "b": lambda g, a, c: g * a * c, "c": lambda g, a, b: g * a * b}
    wrong = {form: right | {"a": rule} for form, rule in WRONG_RULES[law].items()}
    op.defvjp(**wrong.get("vjp", right))
    op.defjvp(**wrong.get("jvp", right))
    breaks(law, lambda xs: [op(*xs)], random)


@pytest.mark.parametrize(
    "law, forgets",
    [
        (a_product_has_the_derivative_of_leibniz, lambda node: True),
        (derivatives_of_a_composition_are_composed, lambda node: node.plan is not None),
    ],
    ids=["of leibniz", "of compositions"],
)
def test_an_engine_that_forgets_the_first_of_two_uses_breaks_the_law(law, forgets, random, monkeypatch):
    arrive = reverse._Pass.arrive

    def forgetful(self, node, *gradient):
        if forgets(node) and node in self.pending:
            self.pending[node] = self.pending[node] * 0
        arrive(self, node, *gradient)

    monkeypatch.setattr(reverse._Pass, "arrive", forgetful)
    breaks(law, lambda xs: [xs[0] * xs[1] + mg.sin(xs[2])], random)


def test_directions_that_are_not_aligned_break_the_law(random, monkeypatch):
    monkeypatch.setattr(forward, "_aligned", lambda tangents, ndim: tangents)
    breaks(directions_pushed_together_move_as_each_alone, lambda xs: [xs[0].sum() * xs[1] + xs[2]], random)


# --- equations, differentiated ---


def every(table):
    return pytest.mark.parametrize("name", table)


def drawn(random, domain, shapes):
    return [np.asarray(random.uniform(*domain, shape)) for shape in shapes]


def up_to_second_order(f, xs, weights, direction):
    """(values, the gradient of their weighted sum, its derivative by reverse and by forward mode, their tangent)."""
    tensors = leaves(xs)
    y = f(*tensors)
    gradient = gradients((y * weights).sum() + along(tensors, xs) * 0, tensors)
    again = gradients(along(gradient, direction) + along(tensors, xs) * 0, tensors)
    forward = mg.push([g + 0 * x for g, x in zip(gradient, tensors, strict=True)], tensors, direction)
    (tangent,) = mg.push(y + along(tensors, xs) * 0, tensors, direction)
    return {
        "value": [y],
        "gradient": gradient,
        "second derivative by reverse mode": again,
        "second derivative by forward mode": forward,
        "tangent": [tangent],
    }


@every(IDENTITIES)
@some
@given(random=seeds())
def test_two_ways_to_write_a_function_have_the_same_derivatives(name, random):
    this, that, domain, shapes = IDENTITIES[name]
    xs = drawn(random, domain, shapes)
    direction = random_like(random, xs)
    (weights,) = random_like(random, [this(*leaves(xs))])
    left, right = (up_to_second_order(f, xs, weights, direction) for f in (this, that))
    for what in left:
        found, expected = ([t.detach().numpy() for t in side[what]] for side in (left, right))
        agree(f"{name}: the two sides differ in their {what}", found, expected)


@every(HOMOGENEOUS)
@some
@given(random=seeds())
def test_eulers_theorem_on_homogeneous_functions(name, random):
    """f(t x) = t^k f(x), derived in t at 1: J x = k f, x . gradient = k f, and H x = (k - 1) gradient."""
    f, degree, domain, shapes = HOMOGENEOUS[name]
    xs = drawn(random, domain, shapes)
    (weights,) = random_like(random, [f(*leaves(xs))])
    found = {what: [t.detach().numpy() for t in ts] for what, ts in up_to_second_order(f, xs, weights, xs).items()}
    (y,), gradient = found["value"], found["gradient"]
    product = sum((g * x).sum() for g, x in zip(gradient, xs, strict=True))
    agree(f"{name}: J x is not {degree} f", found["tangent"], [degree * y])
    agree(f"{name}: x . gradient is not {degree} f", [product], [degree * (weights * y).sum()])
    for mode in ("reverse", "forward"):
        second = found[f"second derivative by {mode} mode"]
        agree(f"{name}: H x is not {degree - 1} times the gradient", second, [(degree - 1) * g for g in gradient])


@every(FLOWS)
@some
@given(random=seeds())
def test_what_a_flow_leaves_alone_has_no_derivative_along_it(name, random):
    f, flow, effect, shapes = FLOWS[name]
    xs = drawn(random, (-2.0, 2.0), shapes)
    (y,) = values(lambda tensors: [f(*tensors)], xs)
    moves, expected = flow(*xs), 0 * y if effect is None else effect(y)
    (weights,) = random_like(random, [y])
    (tangent,) = push(lambda tensors: [f(*tensors)], xs, moves)
    gradient = pull(lambda tensors: [f(*tensors)], xs, [weights])
    product = sum((g * move).sum() for g, move in zip(gradient, moves, strict=True))
    agree(f"{name}: the tangent along the flow", [tangent], [expected])
    agree(f"{name}: the gradient along the flow", [product], [(weights * expected).sum()])
