"""Transforms in the world around them: tracked tensors, no_grad, memory, dtypes, errors; functions made at random."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GradientError, ShapeError, Tensor
from minigrad.autograd.node import recipes
from minigrad.transforms.jacobians import jacobian_matrix
from minigrad.transforms.trace import Trace
from tests.support.strategies import seeds
from tests.transforms.test_derivatives import T, close

# --- what a function closes over ---


@pytest.fixture
def w():
    return T([0.5, -1, 2], requires_grad=True)


def test_a_gradient_penalty_reaches_the_weights_that_a_function_closes_over(w):
    x = T([1, 2, -3])
    gradient = mg.grad(lambda x: (w * x**3).sum())(x)
    close(gradient, 3 * w.detach() * x**2)
    (gradient**2).sum().backward()
    close(w.grad, 2 * 9 * w.detach() * x**4)
    assert x.grad is None


@pytest.mark.parametrize(
    ("name", "derive"),
    {
        "value": lambda f, x, v: mg.value_and_grad(lambda x: (f(x) * v).sum())(x)[0],
        "grad": lambda f, x, v: mg.grad(lambda x: (f(x) * v).sum())(x),
        "vjp": lambda f, x, v: mg.vjp(f, x)[1](v)[0],
        "vjp's value": lambda f, x, v: mg.vjp(f, x)[0],
        "jvp": lambda f, x, v: mg.jvp(f, (x,), (v,))[1],
        "linearize": lambda f, x, v: mg.linearize(f, x)[1](v),
        "jacobian": lambda f, x, v: mg.jacobian(f)(x) @ v,
        "hessian": lambda f, x, v: mg.hessian(lambda x: (f(x) * f(x)).sum())(x) @ v,
        "hvp": lambda f, x, v: mg.hvp(lambda x: (f(x) * f(x)).sum(), x, v),
        "ggn_vp": lambda f, x, v: mg.ggn_vp(f, x, v, lambda y: (y**4).sum()),
        "vmap": lambda f, x, v: mg.vmap(lambda a: f(x * a))(v),
        "vmap of grad": lambda f, x, v: mg.vmap(mg.grad(lambda x: f(x).sum()))(mg.stack([x, v])),
        "checkpoint": lambda f, x, v: mg.checkpoint(f)(x) * v,
        "aux": lambda f, x, v: mg.grad(lambda x: ((x * v).sum(), f(x)), has_aux=True)(x)[1],
    }.items(),
)
def test_every_result_is_differentiable_in_what_was_tracked_before(name, derive, w, random):
    """By the weights that f closes over, by the point, and by the vector; by backward and by nested transforms."""
    x, v = T(random.standard_normal(3)), T(random.standard_normal(3))

    def value(w, x, v):
        return mg.sin(derive(lambda x: mg.tanh(w * x) * x.sum(), x, v)).sum()

    exact = mg.grad(value, (0, 1, 2))(w.detach(), x, v)
    leaves = [w, x.clone().requires_grad_(), v.clone().requires_grad_()]
    value(*leaves).backward()
    for i, (leaf, nested) in enumerate(zip(leaves, exact, strict=True)):
        alone = leaf.detach().requires_grad_()
        y = value(*(alone if i == j else z.detach() for j, z in enumerate(leaves)))
        if y.requires_grad:
            y.backward()
        close(mg.zeros_like(x) if alone.grad is None else alone.grad, nested, what=f"{name} {i}, the others untracked")
        step = 1e-6 * np.cos(np.arange(3))
        moved = [[z.detach() + sign * step * (i == j) for j, z in enumerate(leaves)] for sign in (1, -1)]
        difference = (value(*moved[0]) - value(*moved[1])).item() / 2e-6
        found = float((nested.numpy() * np.cos(np.arange(3))).sum())
        assert abs(found - difference) < 1e-6 * (1 + abs(difference)), f"{name} by argument {i}"
        close(leaf.grad if leaf.grad is not None else mg.zeros_like(leaf.detach()), nested, what=f"{name} {i}")


def test_the_callers_gradients_are_left_alone(w):
    (w**2).sum().backward()
    before = w.grad
    x = T([1, 2, 3], requires_grad=True)
    for transform in (mg.grad, mg.value_and_grad, mg.hessian, mg.jacobian):
        transform(lambda x: (w * x).sum() ** 2)(x)
        transform(lambda w: (w * x).sum() ** 2)(w)
    mg.hvp(lambda x: (w * x).sum() ** 2, x, w)
    mg.jvp(lambda x: w * x, (x,), (w,))
    mg.vjp(lambda x: w * x, x)[1](w)
    assert w.grad is before and x.grad is None


def test_a_graph_that_a_function_closes_over_can_still_go_backward():
    """A transform frees what its own walk is done with, and nothing else."""
    w = T([1, 2], requires_grad=True)
    hidden = mg.exp(w)
    with mg.no_grad():
        close(mg.grad(lambda x: (x * hidden).sum())(T([3, 4])), np.exp([1, 2]))
    close(mg.grad(lambda x: (x * hidden).sum())(T([3, 4])), np.exp([1, 2]))
    (hidden**2).sum().backward()
    close(w.grad, 2 * np.exp(2 * np.array([1, 2.0])))


# --- no_grad ---


def test_under_no_grad_derivatives_are_numbers_that_remember_nothing(w):
    with mg.no_grad():
        results = [
            mg.grad(lambda x: (w * x**2).sum())(w),
            mg.hessian(lambda x: (w * x**3).sum())(w),
            mg.jvp(lambda x: w * x, (w,), (w,))[1],
            mg.vjp(lambda x: w * x, w)[1](w)[0],
            mg.vmap(mg.grad(lambda x: w.sum() * x**2))(w),
        ]
    weights = w.detach().numpy()
    close(results[0], 2 * weights * weights)
    close(results[1], np.diag(6 * weights * weights))
    close(results[2], weights * weights)
    close(results[4], 2 * weights.sum() * weights)
    assert not any(y.requires_grad for y in results)
    assert mg.is_grad_enabled()


def test_inside_a_function_no_grad_makes_a_derivative_a_constant():
    def f(x):
        with mg.no_grad():
            slope = mg.grad(lambda y: y**3)(x)
        return slope * x

    close(mg.grad(f)(T(2)), T(12), what="3x^2 as a number")
    close(mg.grad(lambda x: mg.grad(lambda y: y**3)(x) * x)(T(2)), T(36), what="3x^3")


def test_pull_and_push_obey_the_mode_of_their_own_call(w):
    pull, push = mg.vjp(lambda x: w * x, w)[1], mg.linearize(lambda x: w * x, w)[1]
    with mg.no_grad():
        assert not pull(w)[0].requires_grad and not push(w).requires_grad
        late = mg.vjp(lambda x: x**3, w)[1]
    assert pull(w)[0].requires_grad and push(w).requires_grad
    v = T([1, 2, 3], requires_grad=True)
    late(v)[0].sum().backward()
    close(v.grad, 3 * w.detach() ** 2, what="linear in the cotangent, whenever the graph was made")


def test_a_function_that_fails_leaves_the_mode_as_it_was():
    def fails(x):
        x * x
        raise KeyError("mine")

    for transform in (mg.grad, mg.jacobian, mg.hessian, mg.vmap, mg.checkpoint, lambda f: mg.vmap(mg.grad(f))):
        for mode in (mg.no_grad, mg.enable_grad):
            with mode():
                enabled = mg.is_grad_enabled()
                with pytest.raises(KeyError, match="mine"):
                    transform(fails)(T([1.0], requires_grad=True))
                assert mg.is_grad_enabled() == enabled
    close(mg.grad(lambda x: mg.vmap(lambda a: a**2)(x).sum())(T([1, 2])), T([2, 4]), what="and all works on")


# --- memory ---


ROUNDS = {
    "grad": lambda f, x: mg.grad(f)(x),
    "value_and_grad": lambda f, x: mg.value_and_grad(f)(x),
    "aux": lambda f, x: mg.grad(lambda x: (f(x), x * x), has_aux=True)(x),
    "vjp": lambda f, x: mg.vjp(f, x)[1](T(1)),
    "jvp": lambda f, x: mg.jvp(f, (x,), (x,)),
    "linearize": lambda f, x: mg.linearize(f, x)[1](x),
    "jacobian": lambda f, x: mg.jacobian(f)(x),
    "jacobian forward": lambda f, x: mg.jacobian(f, mode="forward")(x),
    "hessian": lambda f, x: mg.hessian(f)(x),
    "hvp": lambda f, x: mg.hvp(f, x, x),
    "ggn_vp": lambda f, x: mg.ggn_vp(f, x, x, lambda y: y**2),
    "grad of grad": lambda f, x: mg.grad(lambda x: mg.grad(f)(x).sum())(x),
    "vmap": lambda f, x: mg.vmap(f)(mg.stack([x, x])),
    "vmap of hessian": lambda f, x: mg.vmap(mg.hessian(f))(mg.stack([x, x])),
    "grad of vmap": lambda f, x: mg.grad(lambda xs: mg.vmap(f)(xs).sum())(mg.stack([x, x])),
    "checkpoint": lambda f, x: mg.hessian(mg.checkpoint(mg.checkpoint(f)))(x),
    "checkpoint of vmap": lambda f, x: mg.grad(mg.checkpoint(lambda x: mg.vmap(f)(mg.stack([x, x])).sum()))(x),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_nothing_of_a_trace_outlives_its_results(name):
    """No cycle, so no garbage collector is needed: once a transform has returned, its nodes and arrays are gone."""
    seen = []

    def f(x):
        y = mg.exp(x * x)
        for thing in (x, y, x.node, y.node, y.data):
            if thing is not None and hasattr(type(thing), "__weakref__"):
                seen.append(weakref.ref(thing))
        return y.sum()

    gc.collect()
    gc.disable()
    try:
        result = ROUNDS[name](f, T([1, 2]))
        alive = [type(ref()).__name__ for ref in seen if ref() is not None]
        assert seen and not alive, f"{name} keeps {alive}"
        assert not len(recipes)
        del result
    finally:
        gc.enable()


# --- dtypes ---


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_derivatives_stay_in_the_dtype_of_their_point(dtype):
    x, m = Tensor(np.array([0.5, -1, 2], dtype)), Tensor(np.eye(3, dtype=dtype))

    def f(x):
        return mg.tanh(x) * (m @ x).sum() + 2.0 * x

    def of_one(x):
        return (f(x) ** 2).mean()

    wide = x.astype(np.float64)
    results = [
        mg.grad(of_one)(x),
        *mg.value_and_grad(of_one)(x),
        *mg.jvp(f, (x,), (wide,)),
        mg.vjp(f, x)[1](wide)[0],
        mg.jacobian(f)(x),
        mg.jacobian(f, mode="reverse")(x),
        mg.hessian(of_one)(x),
        mg.hvp(of_one, x, wide),
        mg.ggn_vp(f, x, x, of_one),
        mg.vmap(mg.grad(of_one))(mg.stack([x, x])),
        mg.grad(mg.checkpoint(of_one))(x),
    ]
    assert [y.dtype for y in results] == [dtype] * len(results)
    mixed = mg.grad(lambda p: (p[0] * p[1]).sum())((x, wide))
    assert [g.dtype for g in mixed] == [dtype, np.float64]


# --- errors ---


@pytest.mark.parametrize("values", [np.arange(3), np.array([True, False]), 3, True])
def test_integers_are_refused_and_told_where_to_go(values):
    for transform in (mg.grad, mg.jacobian, mg.hessian):
        with pytest.raises(TypeError, match=r"argument 1 holds (int64|bool).*argnums.*astype\(float\)"):
            transform(lambda x, y: (x * y).sum(), 1)(T(1), values)
    with pytest.raises(TypeError, match="argument 0 holds"):
        mg.jvp(lambda x: x, (values,), (values,))
    with pytest.raises(TypeError, match="argument 0 holds"):
        mg.vjp(lambda x: x, values)
    close(mg.grad(lambda x, n: (x * n).sum())(T(1), np.arange(3)), T(3), what="beside a float they are welcome")


def test_results_without_a_derivative_are_refused_not_called_zero():
    for kind in ("int64", "bool"):
        with pytest.raises(GradientError, match=f"returned {kind}, and integers and bools have no derivative"):
            mg.grad(lambda x, kind=kind: x.astype(kind).sum().astype(kind))(T([1.5, 2]))
        with pytest.raises(GradientError, match="integers or bools"):
            mg.jacobian(lambda x, kind=kind: x.astype(kind))(T([1.5, 2]))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: x * 2, r"returned \*, where \* has shape \(2,\); a gradient is that of a single number"),
        (lambda x: (x.sum(), x), r"returned \(\*, \*\), where \* has shape \(\) and \(2,\).*has_aux=True"),
        (lambda x: {"loss": x.sum()}, r"returned \{'loss': \*\}"),
        (lambda x: None, r"returned None; a gradient is that of a single number"),
    ],
)
def test_a_gradient_of_more_than_a_number_is_refused(f, words):
    for transform in (mg.grad, mg.value_and_grad, lambda f: lambda x: mg.hvp(f, x, x)):
        with pytest.raises(GradientError, match=words):
            transform(f)(T([1, 2]))


def test_a_result_of_one_element_has_a_gradient_whatever_its_shape():
    close(mg.grad(lambda x: (x**2).sum().reshape(1, 1))(T([1, 2])), T([2, 4]))


def test_what_a_function_does_not_depend_on_has_gradient_zero():
    x, unused = T([1, 2]), {"a": mg.zeros(2, 3), "b": T(1)}
    close(mg.grad(lambda x, u: x.sum(), 1)(x, unused), {"a": mg.zeros(2, 3), "b": T(0)})
    close(mg.grad(lambda x: T(3))(x), T([0, 0]))
    close(mg.jacobian(lambda x: T([1, 2, 3]))(x), T(np.zeros((3, 2))))
    close(mg.vjp(lambda x, u: (x, T(1)), x, T(5))[1]((x, T(2))), (x, T(0)))
    close(mg.jvp(lambda x: (x, T([1, 2, 3])), (x,), (x,))[1], (x, T([0, 0, 0])))
    close(mg.hessian(lambda x: x.sum())(x), T(np.zeros((2, 2))))
    close(mg.hvp(lambda x: x.sum(), x, x), T([0, 0]))


def test_vectors_that_do_not_fit_are_refused():
    def f(p):
        return p["a"].sum(), p["a"] * p["b"]

    p, y = {"a": T([1, 2]), "b": T(3)}, (T(1), T([1, 2]))
    pull, push = mg.vjp(f, p)[1], mg.linearize(f, p)[1]
    for call, error, words in (
        (lambda: pull(y[0]), TypeError, r"the cotangent has the form \*, but \(\*, \*\) was expected"),
        (lambda: pull((y[0], y[0])), ShapeError, r"the cotangent has shape \(\) where \(2,\) was expected"),
        (lambda: push({"a": p["a"]}), TypeError, r"the tangent has the form \(\{'a': \*\}\)"),
        (lambda: mg.jvp(f, (p,), (p, p)), TypeError, "the tangent has the form"),
        (lambda: mg.jvp(f, (p,), ({"a": T(1), "b": T(1)},)), ShapeError, r"shape \(\) where \(2,\)"),
        (lambda: mg.jvp(f, p, p), TypeError, "jvp: primals must be a tuple .* got dict"),
        (lambda: mg.jvp(f, (p,), p), TypeError, "jvp: tangents must be a tuple"),
        (lambda: mg.hvp(lambda x: (x**2).sum(), T([1, 2]), T([1])), ShapeError, r"the vector has shape \(1,\)"),
        (lambda: mg.ggn_vp(lambda x: x, T([1, 2]), T([1])), ShapeError, r"shape \(1,\) where \(2,\)"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match='mode=\'fwd\'; expected "forward", "reverse" or None'):
        mg.jacobian(mg.sin, mode="fwd")
    for size in (0, -2):
        with pytest.raises(ValueError, match=f"chunk_size={size}; expected a positive number"):
            mg.jacobian(mg.sin, chunk_size=size)
        with pytest.raises(ValueError, match="chunk_size"):
            mg.hessian(mg.sin, chunk_size=size)


def test_transformed_functions_keep_their_names():
    def area(x):
        """Of a square."""
        return (x * x).sum()

    for transform in (mg.grad, mg.value_and_grad, mg.jacobian, mg.hessian, mg.vmap, mg.checkpoint):
        assert transform(area).__name__ == "area" and transform(area).__doc__ == "Of a square."


# --- functions made at random ---

UNARY = [mg.sin, mg.tanh, mg.exp, mg.sigmoid, mg.softplus, mg.arctan, lambda x: mg.log(2 + x * x), lambda x: x**3 / 3]
UNARY += [lambda x: mg.cumsum(x, axis=0), lambda x: mg.flip(x, axis=0), lambda x: mg.softmax(x, axis=0), mg.square]
UNARY += [
    lambda x: mg.logsumexp(x, axis=0, keepdims=True) + x,
    lambda x: x[np.array([2, 0, 0])],
    lambda x: x - x.mean(),
]
BINARY = [mg.add, mg.multiply, mg.subtract, lambda a, b: a / (1 + b * b), mg.logaddexp, lambda a, b: mg.outer(a, b) @ b]
BINARY += [lambda a, b: mg.where(np.array([True, False, True]), a, b), lambda a, b: a * mg.dot(a, b)]
BINARY += [lambda a, b: mg.arctan2(a, 2 + b * b), lambda a, b: mg.index_add(a, np.array([0, 2, 2]), b)]


@st.composite
def functions(draw):
    """A function of two vectors of size 3 with a vector as result: a few ops in a row, each on earlier values."""
    steps = []
    for count in range(2, 2 + draw(st.integers(1, 5))):
        unary = draw(st.booleans())
        op = draw(st.sampled_from(UNARY if unary else BINARY))
        steps.append((op, [draw(st.integers(0, count - 1)) for _ in range(1 if unary else 2)]))

    def f(x, y):
        values = [x, y]
        for op, places in steps:
            values.append(op(*(0.5 * values[i] for i in places)))
        return values[-1] + values[-2] * values[-1]

    return f


@given(functions(), seeds())
def test_derivatives_of_functions_made_at_random(f, random):
    x, y, u, v = (T(random.uniform(-1, 1, 3)) for _ in range(4))
    c = T(random.standard_normal(3))

    def value(x, y):
        return (f(x, y) * c).sum()

    def at(t):
        return value(x + t * u, y + t * v)

    h = 1e-4
    first = float(((at(h) - at(-h)) * 8 - (at(2 * h) - at(-2 * h))) / (12 * h))
    gx, gy = mg.grad(value, (0, 1))(x, y)
    found = float((gx * u).sum() + (gy * v).sum())
    scale = 1 + abs(first)
    assert abs(found - first) < 1e-8 * scale, "the gradient against differences"
    pushed = mg.jvp(f, (x, y), (u, v))[1]
    close((pushed * c).sum(), T(found), 1e-9, "forward against reverse mode")
    assert abs(float(mg.grad(at)(T(0))) - first) < 1e-8 * scale

    slopes = [mg.grad(value, (0, 1))(x + t * u, y + t * v) for t in (h, -h, 2 * h, -2 * h)]
    blocks = mg.hessian(value, (0, 1))(x, y)
    for i, row in enumerate(blocks):
        near, far = slopes[0][i] - slopes[1][i], slopes[2][i] - slopes[3][i]
        difference = (near * 8 - far) / (12 * h)
        close(row[0] @ u + row[1] @ v, difference, 1e-7, "the Hessian against differences of gradients")
    close(blocks[0][1], blocks[1][0].T, 1e-9, "symmetry")
    along = mg.grad(mg.grad(at))(T(0))
    close(along, u @ (blocks[0][0] @ u) + 2 * (u @ (blocks[0][1] @ v)) + v @ (blocks[1][1] @ v), 1e-9)

    close(mg.grad(mg.checkpoint(value), (0, 1))(x, y), (gx, gy), 1e-12, "checkpoint")
    close(mg.hessian(mg.checkpoint(value), (0, 1))(x, y), blocks, 1e-12, "checkpoint")
    xs = mg.stack([x, u, v])
    rows = [mg.hessian(value)(xs[i], y) for i in range(3)]
    close(mg.vmap(mg.hessian(value), in_axes=(0, None))(xs, y), mg.stack(rows), 1e-9, "vmap")


@pytest.mark.parametrize("rows", [1, 3], ids=["more columns than rows", "more rows than columns"])
def test_the_jacobian_as_one_matrix_is_its_blocks_side_by_side(rows):
    def f(t):
        return t["a"][0] * t["b"] * t["a"].sum(), (t["a"] * mg.arange(3.0 * rows).reshape(rows, 3)).sum(1), mg.ones(2)

    def only_the_second(t):
        return f(t)[1]

    tree = {"a": mg.tensor([1.0, 2.0, 3.0], dtype="f8"), "b": mg.tensor([[4.0], [5.0]], dtype="f8")}
    for function in (f, only_the_second):
        with mg.no_grad():
            found = jacobian_matrix(Trace(function, (tree,), {}, (0,)))
        blocks = mg.jacobian(function)(tree)
        lines = blocks if isinstance(blocks, tuple) else (blocks,)
        sizes = {name: x.size for name, x in tree.items()}
        expected = [[line[name].numpy().reshape(-1, sizes[name]) for name in tree] for line in lines]
        np.testing.assert_allclose(found, np.block(expected), rtol=1e-14, atol=0)
