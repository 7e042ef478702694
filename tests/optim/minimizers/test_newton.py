"""Runs of Newton's method and its kin: to known minima, from saddles, through troubles. See also test_newton_steps."""

import itertools
import math
import statistics

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import functional as F
from minigrad.optim.minimizers.curved_direction import CurvedDirection
from minigrad.optim.minimizers.descent_methods import DESCENT_METHODS
from minigrad.optim.minimizers.hessian_free import Composite, gauss_newton_products
from minigrad.optim.minimizers.minimize import minimize
from minigrad.optim.minimizers.newton import NewtonDirection
from minigrad.optim.minimizers.newton_cg import NewtonCGDirection
from minigrad.optim.minimizers.positive_definite import REPAIRS
from minigrad.optim.solve.objective import Objective
from tests.support import strict_backend
from tests.support.problems.mgh import PROBLEMS, solved

NEWTON_METHODS = {
    name: method for name, method in DESCENT_METHODS.items() if isinstance(method.direction({}), CurvedDirection)
}
OF_ANY_FUNCTION = [name for name in NEWTON_METHODS if name != "hessian-free"]
every_method = pytest.mark.parametrize("method", OF_ANY_FUNCTION)


def solve_by(method, fun, x0, **how):
    options = {"maxiter": 300, **how.pop("options", {})}
    return minimize(fun, x0, method=NEWTON_METHODS[method], options=options, **how)


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


# --- runs ---


@every_method
def test_a_convex_quadratic_is_solved_in_one_exact_step(method, random):
    """With conjugate gradients, which stop early, in a few."""
    A = random.standard_normal((6, 6))
    A, b = mg.tensor(A @ A.T + np.eye(6)), mg.tensor(random.standard_normal(6))
    options = {"initial_trust_radius": 1e3} if "trust" in method else {}
    result = solve_by(method, lambda x: x @ A @ x / 2 - b @ x, np.zeros(6), options=options)
    assert result.success
    np.testing.assert_allclose(result.x, np.linalg.solve(A.data, b.data), rtol=1e-6)
    assert result.nit == 1 or ("cg" in method and result.nit <= 12)


@pytest.mark.parametrize("method", ["newton", "trust-exact"])
def test_the_error_on_rosenbrocks_function_is_squared_by_each_step(method):
    errors = []
    solve_by(method, rosenbrock, [-1.2, 1.0], callback=lambda x: errors.append(np.linalg.norm(x - 1)))
    last = [e for e in errors if 1e-13 < e < 0.1]
    assert len(last) >= 3
    assert all(later <= 100 * earlier**2 + 1e-13 for earlier, later in itertools.pairwise(last))


@pytest.mark.parametrize("method", ["newton-cg", "trust-ncg"])
def test_truncated_newton_converges_faster_than_linearly(method):
    errors = []
    solve_by(method, rosenbrock, [-1.2, 1.0], callback=lambda x: errors.append(np.linalg.norm(x - 1)))
    assert errors[-1] < 1e-8 and errors[-1] / errors[-2] < 1e-3


def test_alpha_shortens_the_step_as_the_formula_says(random):
    """(H + alpha I)^-1 g; the error along an eigenvector of eigenvalue h falls by alpha / (alpha + h)."""
    xs = []
    solve_by(
        *("newton", lambda x: x @ x * 1.5, [1.0, -2.0]),
        options={"alpha": 1.0, "line_search": "fixed"},
        callback=lambda x: xs.append(x.copy()),
    )
    np.testing.assert_allclose(xs[:3], [[0.25, -0.5], [1 / 16, -1 / 8], [1 / 64, -1 / 32]], rtol=1e-12)


@pytest.mark.parametrize("repair", REPAIRS)
def test_negative_curvature_does_not_break_the_line_search(repair):
    """x^4 - x^2 + y^2 - 3 xy has an indefinite Hessian at the start."""
    result = solve_by(
        "newton", lambda x: x[0] ** 4 - x[0] ** 2 + x[1] ** 2 - 3 * x[0] * x[1], [0.1, 0.0], options={"repair": repair}
    )
    a = math.sqrt(3.25 / 2)  # y = 3 x / 2, 4 x^3 = 6.5 x
    assert result.success and abs(result.x) == pytest.approx([a, 1.5 * a], rel=1e-6)


def from_a_saddle(x):
    return x[0] ** 2 - x[1] ** 2 + x[1] ** 4


@every_method
@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0), (1e-3, 1e-12)])
def test_newton_leaves_a_saddle(method, start):
    """On the axis y = 0 the gradient, and so every step without a look at curvature, leads into the saddle."""
    result = solve_by(method, from_a_saddle, start)
    assert result.success and abs(result.x) == pytest.approx([0, math.sqrt(0.5)], abs=1e-6)


@every_method
def test_a_saddle_is_left_to_the_side_that_is_lower(method):
    """Down to the left lies a hollow, to the right a wall of NaN."""
    result = solve_by(method, lambda x: mg.log(1 - x[0] * 50) * 0 - x[0] ** 2 + x[0] ** 4, [0.0])
    assert result.success and result.x[0] == pytest.approx(-math.sqrt(0.5), rel=1e-6)


# --- troubles: a result with a true message, whatever happens ---


@every_method
@pytest.mark.parametrize(
    ("fun", "start", "success", "words"),
    [
        (lambda x: 0 * x.sum() + 3, [1.0, 2.0], True, "gradient is below gtol"),
        (lambda x: mg.log(x).sum(), [-1.0, 2.0], False, "NaN or infinite at x0"),
        (lambda x: 1 / (x @ x), [0.0, 0.0], False, "NaN or infinite at x0"),
        (lambda x: mg.sqrt(x).sum(), [0.0, 1.0], False, "derivative is NaN or infinite"),
        (lambda x: x.sum(), [1.0, 2.0], False, "falls without bound"),
        (lambda x: -(x @ x), [0.0, 0.0], False, "falls without bound"),
        (lambda x: (x.sum() - 1) ** 2, [3.0, 4.0], True, ""),  # a valley: the Hessian has rank 1
        (lambda x: x[0] ** 2 + x[1], [1.0, 1.0], False, "falls without bound"),  # and no curvature where it falls
        (lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, [0.0, 0.0], True, ""),  # no curvature at all: cannot be told
        (lambda x: ((x - 1) ** 4).sum(), [3.0, 4.0], True, "gradient is below gtol"),  # a singular minimum
        (lambda x: (x - mg.log(x)).sum(), [1e-3, 50.0], True, "gradient is below gtol"),  # NaN beyond a wall
        (lambda x: mg.exp(x * x).sum(), [2.0, -5.0], True, "gradient is below gtol"),  # values up to 1e10
    ],
)
def test_every_end_is_told_in_words(method, fun, start, success, words):
    result = solve_by(method, fun, start)
    assert result.success is success, result.message
    assert words in result.message
    assert np.isfinite(result.x).all()
    assert (success is False) or np.isfinite(result.fun)


@every_method
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_second_derivatives_that_are_no_numbers_are_named(method, bad):
    given = {"hessp": lambda x, v: v * bad} if "cg" in method else {"hess": lambda x: np.full((2, 2), bad)}
    result = solve_by(method, rosenbrock, [-1.2, 1.0], **given)
    assert not result.success and "Hessian is NaN or infinite" in result.message


@every_method
def test_one_point_without_second_derivatives_is_stepped_over(method):
    """|x|^1.5 + y^2 at x = 0, y = 1: the Hessian has an infinite entry, and the way down leads elsewhere."""
    result = solve_by(method, lambda x: mg.abs(x[0] - 0.2 * (1 - x[1])) ** 1.5 + x[1] ** 2, [0.0, 1.0])
    assert abs(result.x[1]) < 1e-3 and abs(result.x[0] - 0.2) < 1e-2


@every_method
@pytest.mark.parametrize("fun", [lambda x: ((x - 1) ** 4).sum(), rosenbrock, lambda x: (x * x).sum() + 1])
def test_a_tolerance_that_cannot_be_reached_is_no_hang(method, fun):
    """Steps that change nothing but rounding must end the run, not repeat."""
    result = solve_by(method, fun, [-1.2, 1.0], options={"gtol": 0.0, "maxfev": 3000})
    assert result.nfev < 3000 + 100 and max(abs(result.jac)) < 1e-6


def test_at_a_kink_the_run_ends_and_says_so():
    result = solve_by("trust-exact", lambda x: mg.abs(x - 0.3).sum(), [1.0, -0.5])
    assert result.fun < 1e-6 and (result.success or "smooth" in result.message)


# --- what is given, in what form ---


@every_method
def test_float32_stays_float32(method):
    result = solve_by(method, rosenbrock, np.array([-1.2, 1.0], np.float32))
    assert result.success and result.x.dtype == np.float32
    np.testing.assert_allclose(result.x, 1, atol=1e-2)


@every_method
def test_a_dict_of_tensors_comes_back_as_one(method):
    x0 = {"a": mg.tensor([[1.0, 2.0]]), "b": mg.tensor(3.0)}
    result = solve_by(method, lambda p: ((p["a"] - 5) ** 2).sum() + (p["b"] * p["a"].sum() - 1) ** 2, x0)
    assert result.success and isinstance(result.x["a"], mg.Tensor) and result.x["a"].shape == (1, 2)
    np.testing.assert_allclose(result.x["a"].data, 5, rtol=1e-6)
    np.testing.assert_allclose(result.x["b"].data, 0.1, rtol=1e-5)


@every_method
def test_given_derivatives_are_used(method):
    def slope(x):
        return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])

    def curvature(x):
        return np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])

    engine = solve_by(method, rosenbrock, [-1.2, 1.0])
    hess = solve_by(method, rosenbrock, [-1.2, 1.0], jac=slope, hess=curvature)
    assert hess.nit == engine.nit and hess.success
    if "cg" in method:
        hessp = solve_by(method, rosenbrock, [-1.2, 1.0], jac=slope, hessp=lambda x, v: curvature(x) @ v)
        assert hessp.nit == engine.nit
    with pytest.raises(ValueError, match="second derivatives"):
        solve_by(method, rosenbrock, [-1.2, 1.0], jac=slope)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NewtonDirection(alpha=-1), "alpha must be"),
        (lambda: NewtonDirection(repair="ldl"), "one of 'cholesky', 'shift', 'eigenvalues'"),
        (lambda: NewtonCGDirection(0), "max_products"),
    ],
)
def test_wrong_options_are_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@every_method
def test_a_run_on_the_device_takes_the_same_way(method):
    """On the stand-in for CuPy, which refuses to mix host and device."""
    expected = solve_by(method, rosenbrock, mg.tensor([-1.2, 1.0], dtype="float64"))
    with strict_backend.installed():
        result = solve_by(method, rosenbrock, mg.tensor([-1.2, 1.0], dtype="float64", device="cuda"))
        assert result.nit == expected.nit and result.x.device == mg.ones(1, device="cuda").device
        np.testing.assert_allclose(result.x.numpy(), expected.x.numpy(), rtol=1e-9)


# --- Hessian-free ---


def network(random):
    """A small network, its loss and its weights as a flat vector."""
    x = random.standard_normal((30, 4))
    x, labels = mg.tensor(x), mg.tensor(x[:, :3].argmax(1))

    def logits(w):
        return mg.tanh(x @ w[:20].reshape(4, 5)) @ w[20:].reshape(5, 3)

    return Composite(logits, lambda z: F.cross_entropy(z, labels)), random.standard_normal(35) / 2


def test_gauss_newton_products_are_those_of_the_dense_matrices(random):
    fun, w = network(random)
    J = mg.jacobian(lambda w: fun.model(w).reshape(-1))(mg.tensor(w)).data
    z = fun.model(mg.tensor(w))
    H = mg.hessian(lambda z: fun.loss(z.reshape(30, 3)))(z.reshape(-1)).data
    product = gauss_newton_products(Objective(fun, w).at(w))
    v = random.standard_normal(35)
    np.testing.assert_allclose(product(v), J.T @ (H @ (J @ v)), atol=1e-12)


def test_hessian_free_fits_logistic_regression_as_scipy_does(random):
    optimize = pytest.importorskip("scipy.optimize")
    x, labels = random.standard_normal((100, 5)), random.integers(0, 3, 100)

    def plain(w):
        z = x @ w.reshape(5, 3)
        return (np.log(np.exp(z).sum(1)) - z[np.arange(100), labels]).mean()

    theirs = optimize.minimize(plain, np.zeros(15), method="BFGS", options={"gtol": 1e-8})
    fun = Composite(lambda w: mg.tensor(x) @ w, lambda z: F.cross_entropy(z, mg.tensor(labels)))
    ours = solve_by("hessian-free", fun, np.zeros((5, 3)))
    assert ours.success and ours.fun == pytest.approx(theirs.fun, abs=1e-10)
    shift = ours.x.mean(1, keepdims=True)  # the loss does not change along it
    np.testing.assert_allclose(
        ours.x - shift, theirs.x.reshape(5, 3) - theirs.x.reshape(5, 3).mean(1)[:, None], atol=1e-4
    )


def test_hessian_free_trains_a_network(random):
    fun, w = network(random)
    result = solve_by("hessian-free", fun, w, options={"maxiter": 60})
    assert result.fun < 0.1 * fun(mg.tensor(w)).item()


def test_hessian_free_says_what_it_needs():
    with pytest.raises(TypeError, match="Composite"):
        solve_by("hessian-free", rosenbrock, [-1.2, 1.0])


# --- the test set ---


def ends(method, factor=1.0):
    """For each problem: where the run ended, and its evaluations."""
    found = []
    for problem in PROBLEMS:
        x0 = problem.x0 * factor if problem.x0.any() or factor == 1 else np.full(problem.n, factor)
        result = minimize(lambda x, p=problem: (p.residuals(x) ** 2).sum(), x0, method=NEWTON_METHODS[method])
        found.append((solved(problem, result.fun), result.nfev))
    kinds, evaluations = zip(*found, strict=True)
    return sum(kind is not None for kind in kinds), kinds.count("global"), statistics.median(evaluations)


@pytest.mark.parametrize(
    ("method", "known", "best", "evaluations"),
    [("trust-exact", 42, 40, 16), ("newton", 41, 39, 16), ("newton-cg", 42, 40, 24), ("trust-ncg", 41, 39, 24)],
)
def test_known_minima_of_the_more_garbow_hillstrom_set(method, known, best, evaluations):
    """SciPy's trust-exact: 42, 40, 16; Newton-CG: 37, 35, 24. Numbers 2 and 26 end in local minima for all solvers."""
    at_known, at_best, median = ends(method)
    assert at_known >= known and at_best >= best and median <= evaluations


@pytest.mark.parametrize(("factor", "known", "best"), [(10, 37, 36), (100, 33, 31)])
def test_from_far_away_no_fewer_are_solved_than_by_scipy(factor, known, best, deep):
    """The numbers are those of SciPy 1.17's trust-exact, gtol 1e-9, exact derivatives."""
    if not deep:
        pytest.skip("a minute: run with MINIGRAD_TEST_PROFILE=deep")
    at_known, at_best, _ = ends("trust-exact", factor)
    assert at_known >= known and at_best >= best
