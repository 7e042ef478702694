"""Iterative solvers: their iterates against textbook formulas, SciPy and identities; how they say that they failed."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ShapeError
from minigrad import linalg as la
from minigrad.linalg import iterative
from tests.support import strict_backend
from tests.support.strategies import seeds

RANDOM = np.random.default_rng(11)


def orthogonal(random, n):
    return np.linalg.qr(random.standard_normal((n, n)))[0]


def with_eigenvalues(random, values):
    q = orthogonal(random, len(values))
    a = (q * values) @ q.T
    return (a + a.T) / 2


@st.composite
def positive_systems(draw, max_size=8, condition=100.0):
    """(A, b): A symmetric positive definite with at most that condition, b a vector or columns."""
    random, n = draw(seeds()), draw(st.integers(1, max_size))
    columns = draw(st.sampled_from([None, 1, 3]))
    a = with_eigenvalues(random, condition ** random.uniform(0, 1, n))
    return a, random.standard_normal(n if columns is None else (n, columns))


def iterates(solver, a, b, **options):
    found = []
    solution = solver(a, b, callback=lambda x: found.append(x.copy()), **options)
    return found, solution


def refuses(error, words, function, *args, **options):
    with pytest.raises(error, match=words):
        function(*args, **options)


def spectral_radius(g):
    return np.abs(np.linalg.eigvals(g)).max()


# --- conjugate gradients ---


@given(positive_systems(), st.booleans(), st.sampled_from(["f4", "f8"]))
def test_cg_solves_positive_definite_systems(system, as_function, dtype):
    a, b = (x.astype(dtype) for x in system)
    rtol = 1e-3 if dtype == "f4" else 1e-10
    before = a.copy(), b.copy()
    solution = iterative.cg((lambda v: a @ v) if as_function else a, b, rtol=rtol)
    assert solution.converged and solution.reason == "converged" and solution.direction is None
    assert solution.x.dtype == dtype and solution.x.shape == b.shape
    residual = np.linalg.norm(b - a @ solution.x, axis=0)
    assert (residual <= 1.1 * rtol * np.linalg.norm(b, axis=0) + 1e-30).all()
    np.testing.assert_allclose(solution.residual_norm, residual, rtol=0.1, atol=100 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


@given(seeds(), st.integers(1, 8), st.integers(1, 4))
def test_cg_ends_after_as_many_steps_as_there_are_different_eigenvalues(random, n, different):
    a = with_eigenvalues(random, 1.0 + np.arange(n) % different)
    solution = iterative.cg(a, random.standard_normal(n), rtol=1e-11)
    assert solution.converged and solution.iterations <= min(n, different)


@given(positive_systems(max_size=12))
def test_cg_brings_the_error_down_in_the_norm_of_a_and_the_iterate_up_in_length(system):
    """Hestenes & Stiefel 1952, theorems 4.3 and 6.3; Steihaug 1983, theorem 2.1, from x = 0."""
    a, b = system
    exact = np.linalg.solve(a, b)
    found, _ = iterates(iterative.cg, a, b, rtol=1e-6)
    errors = [np.sqrt(((x - exact) * (a @ (x - exact))).sum(axis=0)) for x in [np.zeros_like(b), *found]]
    lengths = [np.linalg.norm(x, axis=0) for x in [np.zeros_like(b), *found]]
    for after, before in zip(errors[1:], errors, strict=False):
        assert (after <= before * (1 + 1e-10) + 1e-13).all()
    for after, before in zip(lengths[1:], lengths, strict=False):
        # The directions lose their orthogonality by rounding, so that a late step may shorten x: by 4e-10 was seen.
        assert (after >= before * (1 - 1e-8)).all()


@given(positive_systems())
def test_cg_with_the_inverse_for_preconditioner_takes_one_step(system):
    a, b = system
    assert iterative.cg(a, b, M=np.linalg.inv(a), rtol=1e-9).iterations == 1


@given(positive_systems(), seeds())
def test_preconditioned_cg_is_cg_on_the_system_transformed_by_a_factor_of_m(system, random):
    """With M = C C', the iterates are C times those of C'AC y = C'b (Saad 2003, section 9.2)."""
    a, b = system
    c = np.eye(len(a)) + 0.2 * random.standard_normal(a.shape) / len(a)
    ours, _ = iterates(iterative.cg, a, b, M=lambda r: c @ (c.T @ r), maxiter=3, rtol=1e-9)
    plain, _ = iterates(iterative.cg, c.T @ a @ c, c.T @ b, maxiter=3, rtol=0.0)
    for x, y in zip(ours, plain, strict=False):
        np.testing.assert_allclose(x, c @ y, rtol=1e-6, atol=1e-7)


@given(positive_systems(max_size=12, condition=1e4))
def test_cg_makes_scipys_iterates(system):
    sparse = pytest.importorskip("scipy.sparse.linalg")
    a, b = system[0], system[1].reshape(len(system[0]), -1)[:, 0]
    theirs = []
    sparse.cg(a, b, rtol=1e-4, callback=lambda x: theirs.append(x.copy()))
    ours, _ = iterates(iterative.cg, a, b, rtol=1e-4)
    assert abs(len(ours) - len(theirs)) <= 1
    for x, y in list(zip(ours, theirs, strict=False))[:5]:
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-9)


def test_a_column_is_solved_as_if_it_were_alone():
    a, b = with_eigenvalues(RANDOM, np.linspace(1, 50, 9)), RANDOM.standard_normal((9, 3)) * [1e-8, 1, 1e8]
    b[:, 1] = a[:, 0]
    together = iterative.cg(a, b, rtol=1e-9)
    for column in range(3):
        alone = iterative.cg(a, b[:, column], rtol=1e-9)
        np.testing.assert_allclose(together.x[:, column], alone.x, rtol=1e-12, atol=1e-12 * np.abs(alone.x).max())
        assert alone.iterations <= together.iterations


@given(seeds(), st.integers(2, 8))
def test_cg_reports_a_direction_of_negative_curvature(random, n):
    a = with_eigenvalues(random, np.append(random.uniform(-2, -0.5), random.uniform(0.5, 3, n - 1)))
    b = random.standard_normal(n)
    found, solution = iterates(iterative.cg, a, b, rtol=1e-12)
    assert not solution.converged and "not positive definite" in solution.reason
    p = solution.direction
    assert p @ a @ p <= 0 and p @ b > 0  # and it leads down the model x'Ax/2 - b'x
    before = found[-2] if len(found) > 1 else np.zeros(n)
    np.testing.assert_array_equal(solution.x, before)
    assert p @ (b - a @ solution.x) > 0


def test_cg_goes_on_in_the_columns_that_are_not_bent():
    a = np.diag([1.0, 2.0, -3.0])
    b = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    solution = iterative.cg(a, b)
    np.testing.assert_allclose(solution.x[:, 0], [1, 0.5, 0])
    np.testing.assert_array_equal(solution.direction, [[0, 0], [0, 0], [0, 1]])
    assert not solution.converged


ONE = np.ones(3)
FAILURES = {
    "maxiter": ({"maxiter": 1}, np.diag([1.0, 2, 3]), ONE, "after 1 iterations, .* times what the tolerance allows"),
    "no iteration": ({"maxiter": 0}, np.eye(3), ONE, "after 0 iterations"),
    "NaN in b": ({}, np.eye(3), ONE * np.nan, "NaN or infinity"),
    "NaN in A": ({}, np.eye(3) * np.nan, ONE, "NaN or infinity"),
    "infinity in A": ({}, np.diag([1, 1, np.inf]), ONE, "NaN or infinity"),
    "M not positive": ({"M": -np.eye(3)}, np.eye(3), ONE, "M is not positive definite"),
    "zero matrix": ({}, np.zeros((3, 3)), ONE, "A is not positive definite"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cg_says_why_it_failed_and_its_differentiable_form_raises(failure):
    options, a, b, words = FAILURES[failure]
    solution = iterative.cg(a, b, **options)
    assert not solution.converged
    refuses(la.ConvergenceError, words, la.cg, a, b, **options)
    assert re.search(words, solution.reason)


def test_a_start_at_the_solution_takes_no_iteration_and_zero_has_the_solution_zero():
    a = with_eigenvalues(RANDOM, [1.0, 2, 3])
    for solver in (iterative.cg, iterative.jacobi, iterative.gauss_seidel):
        started = solver(a, a @ ONE, x0=ONE.copy(), rtol=1e-12)
        assert started.converged and started.iterations == 0
        zero = solver(a, 0 * ONE)
        assert zero.converged and zero.iterations == 0 and not zero.x.any()


# --- Jacobi and Gauss-Seidel ---


def splitting(a, name):
    """The part of A that an iteration inverts."""
    return {"jacobi": np.diag(np.diag(a)), "forward": np.tril(a), "backward": np.triu(a)}[name]


STATIONARY = {
    "jacobi": iterative.jacobi,
    "forward": iterative.gauss_seidel,
    "backward": lambda *args, **options: iterative.gauss_seidel(*args, backward=True, **options),
}


@pytest.mark.parametrize("name", STATIONARY)
@given(seeds(), st.integers(2, 6), st.sampled_from([0.2, 0.5, 0.9, 1.2, 3.0]), st.sampled_from([None, 2]))
def test_a_stationary_iteration_converges_if_and_only_if_its_spectral_radius_is_below_1(
    name, random, n, scale, columns
):
    off = random.standard_normal((n, n)) * (1 - np.eye(n))
    d = np.diag(random.uniform(1, 2, n) * random.choice([-1, 1], n))
    a = d + off * (scale / spectral_radius(np.linalg.solve(d, off)))
    g = np.eye(n) - np.linalg.solve(splitting(a, name), a)
    radius = spectral_radius(g)
    assume(abs(radius - 1) > 0.02 and np.linalg.cond(a) < 1e4)
    b = random.standard_normal(n if columns is None else (n, columns))
    solution = STATIONARY[name](a, b, rtol=1e-9, maxiter=3000)
    assert solution.converged == (radius < 1)
    if solution.converged:
        np.testing.assert_allclose(solution.x, np.linalg.solve(a, b), rtol=1e-4, atol=1e-5)
    else:
        assert "must come to less than 1" in solution.reason or "not finite" in solution.reason


@pytest.mark.parametrize("name", STATIONARY)
@given(seeds(), st.integers(1, 6))
def test_the_error_of_a_stationary_iteration_is_a_power_of_its_matrix_times_the_first(name, random, n):
    a = random.standard_normal((n, n)) + 4 * np.eye(n)
    b, start = random.standard_normal((2, n))
    exact, g = np.linalg.solve(a, b), np.eye(n) - np.linalg.solve(splitting(a, name), a)
    found, _ = iterates(STATIONARY[name], a, b, x0=start, maxiter=5, rtol=0.0)
    for k, x in enumerate(found, 1):
        np.testing.assert_allclose(x - exact, np.linalg.matrix_power(g, k) @ (start - exact), rtol=1e-7, atol=1e-9)


def sweep(a, b, x, order):
    """Gauss-Seidel as it is told: each unknown in turn from the newest values of the others."""
    x = x.copy()
    for i in order:
        x[i] += (b[i] - a[i] @ x) / a[i, i]
    return x


@pytest.mark.parametrize("backward", [False, True])
def test_gauss_seidel_is_the_sweep_over_the_unknowns(backward):
    a, b = RANDOM.standard_normal((5, 5)) + 6 * np.eye(5), RANDOM.standard_normal(5)
    found, _ = iterates(iterative.gauss_seidel, a, b, maxiter=4, rtol=0.0, backward=backward)
    x = np.zeros(5)
    for y in found:
        x = sweep(a, b, x, range(5)[::-1] if backward else range(5))
        np.testing.assert_allclose(y, x, rtol=1e-12)


@given(positive_systems(condition=30.0))
def test_gauss_seidel_converges_for_every_positive_definite_matrix(system):
    a, b = system
    assert iterative.gauss_seidel(a, b, maxiter=20_000, rtol=1e-6).converged


def test_what_diverges_is_told_with_its_rate():
    a = np.array([[1.0, 2.0], [2.0, 1.0]])
    solution = iterative.jacobi(a, np.array([1.0, 0.0]), maxiter=20)
    assert not solution.converged and "multiplied it by 2," in solution.reason
    with pytest.raises(la.ConvergenceError, match="multiplied it by 2,"):
        la.jacobi(a, np.array([1.0, 0.0]), maxiter=20)
    forever = iterative.jacobi(a, np.array([1.0, 0.0]), maxiter=10_000)  # stops where numbers end
    assert forever.iterations < 2000 and "not finite" in forever.reason and "multiplied it by 2," in forever.reason


def test_a_zero_on_the_diagonal_is_an_error():
    a = np.array([[0.0, 1.0], [1.0, 0.0]])
    for solver in (iterative.jacobi, iterative.gauss_seidel, la.jacobi, la.gauss_seidel):
        refuses(la.LinAlgError, "zero on .*diagonal", solver, a, np.ones(2))


# --- LSMR ---


@st.composite
def least_squares(draw):
    """(A, b, damp): tall, square and wide, some without full rank."""
    random = draw(seeds())
    m, n, damp = draw(st.integers(1, 8)), draw(st.integers(1, 8)), draw(st.sampled_from([0.0, 0.3, 2.0]))
    rank = draw(st.integers(1, min(m, n)))
    u, v = orthogonal(random, m)[:, :rank], orthogonal(random, n)[:, :rank]
    return (u * random.uniform(0.3, 2, rank)) @ v.T, random.standard_normal(m), damp


def by_lstsq(a, b, damp):
    """The shortest of the solutions."""
    n = a.shape[1]
    tall, right = np.concatenate([a, damp * np.eye(n)]), np.concatenate([b, np.zeros(n)])
    return np.linalg.lstsq(tall, right, rcond=1e-10)[0], tall, right


@given(least_squares(), st.booleans())
def test_lsmr_finds_the_shortest_least_squares_solution(problem, as_function):
    a, b, damp = problem
    exact, tall, right = by_lstsq(*problem)
    if as_function:
        found = iterative.lsmr(lambda x: a @ x, b, adjoint=lambda u: a.T @ u, damp=damp, atol=1e-12, btol=1e-12)
    else:
        found = iterative.lsmr(a, b, damp=damp, atol=1e-12, btol=1e-12)
    np.testing.assert_allclose(found.x, exact, rtol=1e-7, atol=1e-8)
    s = right - tall @ found.x
    assert found.converged
    np.testing.assert_allclose(found.residual_norm, np.linalg.norm(s), rtol=1e-8, atol=1e-10)
    assert np.linalg.norm(tall.T @ s) <= 1e-9


@given(least_squares())
def test_lsmr_brings_the_gradient_down_and_starts_where_it_is_told(problem):
    a, b, damp = problem
    found, _ = iterates(iterative.lsmr, a, b, damp=damp, atol=1e-8, btol=1e-8)
    _, tall, right = by_lstsq(*problem)
    lengths = [np.linalg.norm(tall.T @ (right - tall @ x)) for x in [np.zeros(a.shape[1]), *found]]
    assert all(after <= before * (1 + 1e-9) + 1e-12 for after, before in zip(lengths[1:], lengths, strict=False))
    start = np.arange(a.shape[1]) / 3
    moved = iterative.lsmr(a, b, damp=damp, x0=start, atol=1e-12, btol=1e-12)
    np.testing.assert_allclose(moved.x, start + by_lstsq(a, b - a @ start, damp)[0], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("damp", [0.0, 0.5])
def test_lsmr_makes_scipys_iterates(damp):
    sparse = pytest.importorskip("scipy.sparse.linalg")
    a, b = RANDOM.standard_normal((30, 12)), RANDOM.standard_normal(30)
    for steps in range(1, 9):
        x, _, _, residual, gradient, *_ = sparse.lsmr(a, b, damp, atol=0, btol=0, conlim=0, maxiter=steps)
        ours = iterative.lsmr(a, b, damp=damp, atol=0, btol=0, maxiter=steps)
        np.testing.assert_allclose(ours.x, x, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose([ours.residual_norm, ours.gradient_norm], [residual, gradient], rtol=1e-8)
        assert not ours.converged and f"after {steps} iterations" in ours.reason
    count = sparse.lsmr(a, b, damp, atol=1e-8, btol=1e-8, conlim=0)[2]
    assert iterative.lsmr(a, b, damp=damp, atol=1e-8, btol=1e-8).iterations == count


def test_lsmr_tells_what_it_cannot_do():
    a = RANDOM.standard_normal((4, 3))
    assert iterative.lsmr(a, np.zeros(4)).iterations == 0
    assert iterative.lsmr(0 * a, np.ones(4)).converged  # zero is the shortest of all
    bad = iterative.lsmr(a, np.full(4, np.nan))
    assert not bad.converged and "NaN" in bad.reason
    refuses(TypeError, "adjoint=", iterative.lsmr, lambda x: x, np.ones(4))
    refuses(TypeError, "leave adjoint= away", iterative.lsmr, a, np.ones(4), adjoint=lambda u: u)
    refuses(ShapeError, r"\(4, 3\)", iterative.lsmr, a, np.ones(3))
    refuses(ShapeError, "one vector", iterative.lsmr, a, np.ones((4, 1)))
    refuses(ShapeError, "must map", iterative.lsmr, lambda x: x, np.ones(4), adjoint=lambda u: u[:2])


# --- what is given ---


@pytest.mark.parametrize("solver", [iterative.cg, iterative.jacobi, iterative.gauss_seidel, la.cg, la.jacobi])
def test_shapes_that_do_not_fit_are_named(solver):
    refuses(ShapeError, "square", solver, np.ones((2, 3)), np.ones(2))
    refuses(ShapeError, "right-hand side", solver, np.eye(3), np.ones(2))
    refuses(ShapeError, "one matrix", solver, np.ones((2, 3, 3)), np.ones(3))
    refuses(ShapeError, "start x0", solver, np.eye(3), np.ones(3), x0=np.ones(2))
    refuses(TypeError, "float16", solver, np.eye(3, dtype="f2"), np.ones(3, "f2"))


def test_operators_that_do_not_fit_are_named():
    refuses(ShapeError, r"made \(2,\)", iterative.cg, lambda v: v[:2], np.ones(3))
    refuses(ShapeError, r"made \(2,\)", la.cg, lambda v: v[:2], np.ones(3))
    refuses(TypeError, "minigrad.linalg.cg takes Tensors", iterative.cg, mg.eye(3), np.ones(3))
    refuses(TypeError, "lambda v: A @ v", iterative.cg, "A", np.ones(3))
    refuses(TypeError, "diagonal=", iterative.jacobi, lambda v: v, np.ones(3))
    refuses(ShapeError, "diagonal of shape", iterative.jacobi, lambda v: v, np.ones(3), diagonal=np.ones(2))
    refuses(TypeError, "expected a matrix", iterative.gauss_seidel, lambda v: v, np.ones(3))


def test_integers_become_floats():
    a, b = np.array([[4, 1], [1, 3]]), np.array([1, 2])
    for solver in (iterative.cg, iterative.jacobi, iterative.gauss_seidel, iterative.lsmr):
        x = solver(a, b).x
        assert x.dtype == np.float64
        np.testing.assert_allclose(x, [1 / 11, 7 / 11], rtol=1e-4)
    assert la.cg(a, b).dtype == np.float64


# --- devices ---


def test_solvers_run_on_the_device_and_the_host_waits_once_an_iteration():
    a, b = with_eigenvalues(RANDOM, np.linspace(1, 40, 12)) + 60 * np.eye(12), RANDOM.standard_normal((12, 2))
    rectangle = RANDOM.standard_normal((12, 5))
    with strict_backend.installed():

        def there(x):
            return mg.tensor(x, device="cuda").data

        for solver in (iterative.cg, iterative.jacobi, iterative.gauss_seidel):
            arrays = there(a), there(b)
            strict_backend.traffic.clear()
            found = solver(*arrays, rtol=1e-9)
            waits = sum(strict_backend.traffic.values())
            np.testing.assert_allclose(mg.as_tensor(found.x).numpy(), np.linalg.solve(a, b), rtol=1e-6, atol=1e-9)
            assert found.converged and found.iterations > 4 and waits <= found.iterations + 8, (waits, found.iterations)
        found = iterative.lsmr(there(rectangle), there(b[:, 0]), atol=1e-10)
        exact = np.linalg.lstsq(rectangle, b[:, 0], rcond=None)[0]
        np.testing.assert_allclose(mg.as_tensor(found.x).numpy(), exact, rtol=1e-6)
        x = mg.tensor(b, device="cuda", requires_grad=True)
        (g,) = mg.autograd.grad(la.cg(mg.tensor(a, device="cuda"), x, rtol=1e-10).sum(), x)
        np.testing.assert_allclose(g.numpy(), np.linalg.solve(a, np.ones_like(b)), rtol=1e-7)
