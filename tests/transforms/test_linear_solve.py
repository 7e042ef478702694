"""Derivatives through iterative solvers: against differences, the direct solver, and each other in both modes."""

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradientError, autograd
from minigrad import linalg as la
from minigrad.linalg import iterative

RANDOM = np.random.default_rng(5)
SQUARE, VECTOR, COLUMNS = RANDOM.standard_normal((4, 4)), RANDOM.standard_normal(4), RANDOM.standard_normal((4, 2))
TALL, LONG = RANDOM.standard_normal((6, 4)), RANDOM.standard_normal(6)
IDENTITY = mg.eye(4, dtype=float)


def tracked(*arrays):
    return [mg.tensor(x, requires_grad=True) for x in arrays]


def positive(s):
    return s @ s.T + IDENTITY


def dominant(s):
    return s + 8 * IDENTITY


def dense(apply, b):
    """A direct solver by products: the matrix column by column. The simplest that a user could bring."""
    columns = [apply(e if b.ndim == 1 else np.repeat(e[:, None], b.shape[1], 1)) for e in np.eye(len(b))]
    return np.linalg.solve(np.stack([c if b.ndim == 1 else c[:, 0] for c in columns], axis=1), b)


def nested(s, b):
    """A made of tensors that come from each other, and from the right-hand side."""
    q = 0.2 * s

    def solve(apply, r):
        return iterative.jacobi(apply, r, diagonal=8 + 0 * r, rtol=0.0, maxiter=100).x

    return la.custom_linear_solve(lambda v: 0.1 * (s @ (v * b.sum())) + q @ v + 8 * v, b, solve, rtol=1e-12)


SOLVERS = {  # name -> (iterative, direct, arguments)
    "cg": (lambda s, b: la.cg(positive(s), b, rtol=1e-13), lambda s, b: la.solve(positive(s), b), (SQUARE, VECTOR)),
    "cg, columns": (
        lambda s, b: la.cg(positive(s), b, rtol=1e-13),
        lambda s, b: la.solve(positive(s), b),
        (SQUARE, COLUMNS),
    ),
    "cg, function, M, x0": (
        lambda s, b: la.cg(lambda v: s @ (s.T @ v) + v, b, rtol=1e-13, M=lambda r: r / 2, x0=np.ones(4)),
        lambda s, b: la.solve(positive(s), b),
        (SQUARE, VECTOR),
    ),
    "jacobi": (
        lambda s, b: la.jacobi(dominant(s), b, rtol=1e-13),
        lambda s, b: la.solve(dominant(s), b),
        (SQUARE, COLUMNS),
    ),
    "jacobi, function": (
        lambda s, b: la.jacobi(lambda v: s @ v + 8 * v, b, rtol=1e-13, diagonal=dominant(s).diagonal()),
        lambda s, b: la.solve(dominant(s), b),
        (SQUARE, VECTOR),
    ),
    "gauss_seidel": (
        lambda s, b: la.gauss_seidel(dominant(s), b, rtol=1e-13),
        lambda s, b: la.solve(dominant(s), b),
        (SQUARE, VECTOR),
    ),
    "custom, nested": (
        nested,
        lambda s, b: la.solve(0.1 * s * b.sum() + 0.2 * s + 8 * IDENTITY, b),
        (SQUARE, VECTOR),
    ),
    "lsmr": (lambda a, b: la.lsmr(a, b, rtol=1e-12), la.lstsq, (TALL, LONG)),
    "lsmr, damped, wide": (
        lambda a, b: la.lsmr(a.T, b, damp=0.5, rtol=1e-12),
        lambda a, b: a @ la.solve(a.T @ a + 0.25 * IDENTITY, b),
        (TALL, VECTOR),
    ),
    "lsmr, function": (
        lambda a, b: la.lsmr(lambda x: 1e3 * (a @ x), b, size=4, rtol=1e-12),
        lambda a, b: la.lstsq(1e3 * a, b),
        (TALL, LONG),
    ),
}
every_solver = pytest.mark.parametrize("name", SOLVERS)
every_square_solver = pytest.mark.parametrize("name", [name for name in SOLVERS if "lsmr" not in name])


@every_solver
def test_values_and_two_derivatives_agree_with_differences_and_the_direct_solver(name):
    solver, direct, arrays = SOLVERS[name]
    np.testing.assert_allclose(solver(*arrays_as_tensors(arrays)).numpy(), direct(*arrays_as_tensors(arrays)).numpy())
    assert mg.gradcheck(solver, tracked(*arrays))
    assert mg.gradgradcheck(solver, tracked(*arrays))


def arrays_as_tensors(arrays):
    return [mg.tensor(x) for x in arrays]


@every_solver
def test_third_derivatives_are_those_of_the_direct_solver(name):
    solver, direct, arrays = SOLVERS[name]
    directions = [mg.tensor(RANDOM.standard_normal(x.shape)) for x in arrays]

    def third(f):
        value = lambda s, b: (f(s, b) ** 3).sum()  # noqa: E731
        for _ in range(2):
            value = along(value, directions)
        return [g.numpy() for g in mg.grad(value, (0, 1))(*arrays_as_tensors(arrays))]

    for ours, exact in zip(third(solver), third(direct), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=1e-7 * np.abs(exact).max())


def along(value, directions):
    """The derivative of a function of two Tensors along a direction, as a function of them."""

    def derivative(s, b):
        gradients = mg.grad(value, (0, 1))(s, b)
        return sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))

    return derivative


@every_solver
def test_the_modes_can_be_nested(name):
    solver, direct, arrays = SOLVERS[name]
    inputs, moved = arrays_as_tensors(arrays), arrays_as_tensors([np.cos(x) for x in arrays])

    def reverse_over_forward(f):
        return mg.grad(lambda *points: (mg.jvp(f, points, moved)[1] ** 2).sum(), (0, 1))(*inputs)

    def forward_over_forward(f):
        return [mg.jvp(lambda *points: mg.jvp(f, points, moved)[1], inputs, moved)[1]]

    for way in (reverse_over_forward, forward_over_forward):
        for ours, exact in zip(way(solver), way(direct), strict=True):
            np.testing.assert_allclose(ours.numpy(), exact.numpy(), rtol=1e-7, atol=1e-9)


@every_square_solver
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_a_batch_of_systems_is_solved_and_differentiated_under_vmap(name, axes):
    solver, direct, arrays = SOLVERS[name]
    batched = [np.stack([x, 1.1 * x, 0.7 * x]) if axis == 0 else x for x, axis in zip(arrays, axes, strict=True)]

    def after(f):
        inputs = tracked(*batched)
        return autograd.grad((mg.vmap(f, axes)(*inputs) ** 2).sum(), inputs)

    def inside(f):
        gradient = mg.grad(lambda s, b: (f(s, b) ** 2).sum(), (0, 1))
        return mg.vmap(gradient, axes)(*arrays_as_tensors(batched))

    for way in (after, inside):
        for ours, exact in zip(way(solver), way(direct), strict=True):
            np.testing.assert_allclose(ours.numpy(), exact.numpy(), rtol=1e-8, atol=1e-10)


@every_square_solver
def test_jacobians_and_hessians_go_through(name):
    solver, direct, arrays = SOLVERS[name]
    s, b = arrays_as_tensors(arrays)
    for transform in (mg.jacobian, lambda f: mg.hessian(lambda x: (f(x) ** 3).sum())):
        ours, exact = transform(lambda x: solver(s, x))(b), transform(lambda x: direct(s, x))(b)
        np.testing.assert_allclose(ours.numpy(), exact.numpy(), rtol=1e-7, atol=1e-9)


def test_gauss_seidel_sweeps_the_transposed_matrix_so_that_it_converges_too():
    """Swept from the first unknown on, this one's transpose diverges."""

    def radius(a):
        return np.abs(np.linalg.eigvals(np.eye(3) - np.linalg.solve(np.tril(a), a))).max()

    random = np.random.default_rng(0)
    matrices = (random.standard_normal((3, 3)) + 1.5 * np.eye(3) for _ in range(10_000))
    a = next(a for a in matrices if radius(a) < 0.7 and radius(a.T) > 1.2 and np.linalg.cond(a) < 20)
    assert mg.gradcheck(lambda a, b: la.gauss_seidel(a, b, rtol=1e-13), tracked(a, VECTOR[:3]))


def test_checkpoint_and_float32_go_through():
    s, b = tracked(SQUARE, VECTOR)
    solver = SOLVERS["cg, function, M, x0"][0]
    plain = autograd.grad((solver(s, b) ** 2).sum(), (s, b))
    again = autograd.grad((mg.checkpoint(solver)(s, b) ** 2).sum(), (s, b))
    for x, y in zip(plain, again, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-12)
    small = mg.tensor(VECTOR, dtype="float32", requires_grad=True)
    for name in ("cg", "gauss_seidel"):
        x = getattr(la, name)(positive(s.detach()).astype("float32"), small, rtol=1e-4)
        assert x.dtype == np.float32
        x.sum().backward()
    assert small.grad.dtype == np.float32
    x = la.lsmr(mg.tensor(TALL, dtype="float32"), mg.tensor(LONG, dtype="float32"), rtol=1e-4)
    np.testing.assert_allclose(x.numpy(), np.linalg.lstsq(TALL, LONG, rcond=None)[0], atol=1e-3)


# --- a solver of one's own ---


def test_a_solver_of_another_library_serves():
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    matrix = sparse.csc_array(np.diag([4.0, 5, 6, 7]) + np.diag([1.0, 1, 2], 1))
    w = mg.tensor(VECTOR, requires_grad=True)

    def solve(w, b):
        scaled = matrix @ sparse.diags_array(w.detach().numpy())
        return la.custom_linear_solve(
            lambda v: mg.tensor(matrix.toarray()) @ (w * v),
            b,
            lambda apply, r: linalg.spsolve(scaled.tocsc(), r),
            lambda apply, r: linalg.spsolve(scaled.T.tocsc(), r),
            rtol=1e-12,
        )

    assert mg.gradcheck(solve, [w, mg.tensor(VECTOR + 3, requires_grad=True)])


def test_a_coarse_solver_is_corrected_and_a_wrong_one_told():
    a, b = mg.tensor(SQUARE + 8 * np.eye(4)), mg.tensor(VECTOR, requires_grad=True)

    def in_float32(apply, r):
        return dense(lambda v: apply(v).astype(np.float32), r).astype(np.float32)

    x = la.custom_linear_solve(lambda v: a @ v, b, in_float32, rtol=1e-13)
    np.testing.assert_allclose(x.detach().numpy(), np.linalg.solve(a.numpy(), VECTOR), rtol=1e-12)
    with pytest.raises(la.ConvergenceError, match="custom_linear_solve: a residual"):
        la.custom_linear_solve(lambda v: a @ v, b, lambda apply, r: r)
    half = la.custom_linear_solve(lambda v: a @ v, b, dense, transpose_solve=lambda apply, r: r / 100)
    with pytest.raises(la.ConvergenceError, match="transposed: a residual"):
        half.sum().backward()


# --- what has no derivative, or no solution ---


def test_cg_finds_out_in_the_derivative_that_a_matrix_is_not_symmetric():
    a = np.eye(3) + 0.1 * np.triu(np.ones((3, 3)), 1)
    x = la.cg(mg.tensor(a, requires_grad=True), mg.tensor(np.array([1.0, 0, 0])), rtol=1e-8)
    with pytest.raises(GradientError, match="A is not symmetric"):
        x[0].backward()  # an eigenvector of a, not of a'


def test_a_matrix_without_full_column_rank_has_a_solution_but_no_derivative():
    a = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    x = la.lsmr(mg.tensor(a, requires_grad=True), mg.tensor([1.0, 1.0, 1.0]), rtol=1e-8)
    np.testing.assert_allclose(x.detach().numpy(), [0.5, 0.5])
    with pytest.raises(la.ConvergenceError, match=r"lsmr: .*rank"):
        x[0].backward()


def test_an_operator_that_is_not_computed_by_ops_is_refused_where_gradients_are_asked_for():
    b = mg.tensor(VECTOR, requires_grad=True)
    with pytest.raises(GradientError, match="not computed from v by ops"):
        la.cg(lambda v: mg.tensor(v.numpy() * 2), b)
    with mg.no_grad():
        np.testing.assert_allclose(la.cg(lambda v: mg.tensor(v.numpy() * 2), b).numpy(), VECTOR / 2)


def test_an_affine_function_is_no_operator():
    with pytest.raises(la.ConvergenceError):
        la.cg(lambda v: 2 * v + 1, VECTOR)


def test_a_change_in_place_of_what_a_is_made_of_is_an_error():
    w, b = tracked(np.ones(4), VECTOR)
    x = la.cg(lambda v: w * v, b)
    with mg.no_grad():
        w.copy_(2 * w)
    with pytest.raises(GradientError, match="was changed in place after the solve"):
        x.sum().backward()
    with pytest.raises(GradientError, match="was changed in place after the solve"):
        mg.push(x, b, np.ones(4))


def test_a_gradient_of_one_half_of_the_arguments_leaves_the_other_alone():
    w, b = tracked(np.full(4, 2.0), VECTOR)
    (g,) = autograd.grad(la.cg(lambda v: w * v, b.detach()).sum(), w)
    np.testing.assert_allclose(g.numpy(), -VECTOR / 4)
    (g,) = autograd.grad(la.cg(lambda v: w.detach() * v, b).sum(), b)
    np.testing.assert_allclose(g.numpy(), np.full(4, 0.5))
    assert not la.cg(lambda v: w.detach() * v, b.detach()).requires_grad
    inputs = tracked(np.full(4, 2.0), VECTOR)
    (moved,) = mg.push(la.cg(lambda v: inputs[0] * v, inputs[1]), inputs[0], np.ones(4))
    np.testing.assert_allclose(moved.numpy(), -VECTOR / 4)


@every_solver
def test_a_solve_and_its_derivatives_leave_nothing_for_the_garbage_collector(name):
    solver, _, arrays = SOLVERS[name]
    gc.collect()
    gc.disable()
    try:
        inputs = tracked(*arrays)
        out = solver(*inputs)
        gradients = autograd.grad((out**2).sum(), inputs, create_graph=True)
        nodes = [weakref.ref(out.node), *(weakref.ref(g.node) for g in gradients)]
        autograd.grad(sum(g.sum() for g in gradients), inputs)
        del inputs, out, gradients
        assert all(node() is None for node in nodes)
    finally:
        gc.enable()
