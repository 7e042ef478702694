"""What the directions of `minimize` learn from their steps is what the formulas say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.optim import minimize
from minigrad.optim.minimizers.bfgs import BFGSDirection, damped, update_inverse
from minigrad.optim.minimizers.curvature_pairs import CurvaturePair, two_loops
from minigrad.optim.minimizers.lbfgs import LBFGSDirection
from minigrad.optim.minimizers.line_search import ExactQuadratic, StrongWolfe
from minigrad.optim.minimizers.nonlinear_cg import NonlinearCGDirection
from minigrad.optim.solve.objective import Objective


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quadratic(n, seed):
    """(fun, A, b) of x'Ax / 2 - b'x, positive definite."""
    rng = np.random.default_rng(seed)
    root, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    A = root @ root.T + 0.5 * np.eye(n)
    return (lambda x: 0.5 * (x * (A @ x)).sum() - (b * x).sum()), A, b


def iterates(direction, fun, x0, steps, rule=None):
    """The points of so many steps, from the objects themselves."""
    objective = Objective(fun, x0)
    here, points, rule = objective.at(objective.variables.start), [], rule or ExactQuadratic()
    for _ in range(steps):
        new = rule(here, direction)
        direction.learn(here, new)
        points.append(new)
        here = new
    return points


def from_the_gradient(direction):
    """The direction, made to begin with -g to the last digit, as the textbook's iterates do."""
    direction.steepest.unscaled = True
    return direction


@given(st.integers(1, 7), st.integers(0, 10**6), st.sampled_from(["hz", "pr+", "fr"]))
def test_conjugate_gradients_end_on_a_quadratic_after_n_exact_steps(n, seed, beta):
    fun, A, b = quadratic(n, seed)
    last = iterates(from_the_gradient(NonlinearCGDirection(beta)), fun, np.zeros(n), n)[-1]
    np.testing.assert_allclose(last.x, np.linalg.solve(A, b), atol=1e-7 * (1 + np.abs(np.linalg.solve(A, b)).max()))


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_bfgs_with_exact_steps_is_conjugate_gradients_on_a_quadratic(n, seed):
    fun, A, b = quadratic(n, seed)
    ours = iterates(from_the_gradient(BFGSDirection()), fun, np.zeros(n), n)
    x, r = np.zeros(n), b.copy()
    d = r.copy()
    for point in ours:  # linear conjugate gradients, Hestenes and Stiefel 1952
        alpha = (r @ r) / (d @ A @ d)
        x, r_new = x + alpha * d, r - alpha * (A @ d)
        d, r = r_new + (r_new @ r_new) / (r @ r) * d, r_new
        np.testing.assert_allclose(point.x, x, atol=1e-7 * (1 + np.abs(x).max()))


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_bfgs_learns_the_inverse_hessian_of_a_quadratic_in_n_exact_steps(n, seed):
    fun, A, _ = quadratic(n, seed)
    direction = BFGSDirection()
    iterates(direction, fun, np.ones(n), n)
    np.testing.assert_allclose(direction.hess_inv @ A, np.eye(n), atol=1e-5)


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_inverse_update_is_the_formula_and_fulfils_the_secant_equation(n, seed):
    rng = np.random.default_rng(seed)
    root, s, y = rng.standard_normal((n, n)), rng.standard_normal(n), rng.standard_normal(n)
    y = y if s @ y > 0 else -y
    H, rho = root @ root.T + np.eye(n), 1 / (s @ y)
    expected = (np.eye(n) - rho * np.outer(s, y)) @ H @ (np.eye(n) - rho * np.outer(y, s)) + rho * np.outer(s, s)
    update_inverse(H, CurvaturePair(s, y, float(s @ y)))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(H, expected, atol=1e-10 * scale)
    np.testing.assert_allclose(H @ y, s, atol=1e-9 * scale * np.linalg.norm(y))
    assert (H == H.T).all()


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 10**6))
def test_two_loops_are_the_dense_updates_from_the_same_start(n, count, seed):
    rng = np.random.default_rng(seed)
    steps, v = rng.standard_normal((count, n)), rng.standard_normal(n)
    A = np.diag(rng.uniform(0.5, 2, n))
    pairs = [CurvaturePair(s, A @ s, float(s @ A @ s)) for s in steps]
    H = 0.7 * np.eye(n)
    for s, y, curvature in pairs:
        update_inverse(H, CurvaturePair(s, y, curvature))
    np.testing.assert_allclose(two_loops(pairs, v, scale=0.7), H @ v, rtol=1e-7, atol=1e-8 * np.abs(H).max())


def test_lbfgs_with_memory_for_all_steps_is_bfgs_from_the_same_matrix(monkeypatch):
    x0, steps = np.array([-1.2, 1.0, -0.5, 0.8]), 25

    def same_start(self, here):
        first = self.pairs[0] if self.pairs else None
        scale = first and first.curvature / (first.y @ first.y)
        return -two_loops(self.pairs, here.g, scale) if first else self.steepest.along(here)

    monkeypatch.setattr(LBFGSDirection, "along", same_start)
    full = iterates(BFGSDirection(), rosenbrock, x0, steps, StrongWolfe())
    limited = iterates(LBFGSDirection(memory=steps), rosenbrock, x0, steps, StrongWolfe())
    np.testing.assert_allclose([p.x for p in full], [p.x for p in limited], atol=1e-6)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**30])
def test_bfgs_does_not_notice_the_scale_of_the_function(factor):
    """From the second step on; powers of two, so that rounding is the same. The first one is given here."""

    def first_step(direction, scale):
        direction.H = np.eye(2) * (1e-3 / scale)
        return direction

    one = iterates(first_step(BFGSDirection(), 1.0), rosenbrock, [-1.2, 1.0], 20, StrongWolfe())
    other = iterates(
        first_step(BFGSDirection(), factor), lambda x: factor * rosenbrock(x), [-1.2, 1.0], 20, StrongWolfe()
    )
    np.testing.assert_allclose([p.x for p in one], [p.x for p in other], rtol=1e-9)


def test_damping_keeps_curvature_where_a_step_had_none():
    rng = np.random.default_rng(0)
    for _ in range(50):
        s, y, root = rng.standard_normal(4), rng.standard_normal(4), rng.standard_normal((4, 4))
        H = root @ root.T + 0.1 * np.eye(4)
        mixed = damped(s, y, H @ y)
        assert mixed @ y >= 0.2 * (y @ H @ y) * (1 - 1e-9)
    assert minimize(rosenbrock, [-1.2, 1.0], method="bfgs", options={"damping": True}).success


def test_results_carry_the_inverse_hessian():
    fun, A, _ = quadratic(5, 3)
    matrix = minimize(fun, np.ones(5), method="bfgs", options={"line_search": "exact"}).hess_inv
    operator = minimize(fun, np.ones(5), method="l-bfgs").hess_inv
    np.testing.assert_allclose(matrix, np.linalg.inv(A), rtol=1e-3, atol=1e-3)
    dense = operator.todense()
    assert operator.shape == (5, 5)
    np.testing.assert_allclose(dense, dense.T, atol=1e-10)
    np.testing.assert_allclose(operator @ np.arange(5.0), dense @ np.arange(5.0))
    np.testing.assert_allclose(np.asarray(operator), dense)
    with pytest.raises(ValueError, match=r"expected \(5,\)"):
        operator.matvec(np.ones(4))
