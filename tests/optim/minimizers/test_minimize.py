"""`minimize`: the line-search methods find minima, learn what the formulas say, and tell truly how a run ended."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.optim import OptimizeResult, minimize
from minigrad.optim.minimizers.descent_methods import Method
from minigrad.optim.minimizers.line_search import ExactQuadratic
from minigrad.optim.minimizers.nonlinear_cg import NonlinearCGDirection
from tests.support import strict_backend
from tests.support.problems import mgh

LINE_METHODS = ("gradient descent", "cg", "bfgs", "l-bfgs")
FAST = LINE_METHODS[1:]


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def rosenbrock_slope(x):
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return g


def quadratic(n, seed):
    """(fun, A, b) of x'Ax / 2 - b'x, positive definite."""
    rng = np.random.default_rng(seed)
    root, b = rng.standard_normal((n, n)), rng.standard_normal(n)
    A = root @ root.T + 0.5 * np.eye(n)
    return (lambda x: 0.5 * (x * (A @ x)).sum() - (b * x).sum()), A, b


# --- the test set of numerical analysts ---


@pytest.mark.parametrize(
    "method, any_minimum, global_minimum, median",
    [("bfgs", 42, 40, 47), ("l-bfgs", 41, 38, 47), ("cg", 40, 36, 122)],
)
def test_standard_starts_are_solved_with_default_settings(method, any_minimum, global_minimum, median):
    """The bars are those of the better known solvers, tight tolerances (SciPy, PyTorch); evaluations are SciPy's."""
    found, evaluations = [], []
    for problem in mgh.PROBLEMS:
        result = minimize(lambda x, p=problem: mg.sum(mg.square(p.residuals(x))), problem.x0, method=method)
        found.append(mgh.solved(problem, result.fun))
        evaluations.append(result.nfev)
    assert len(found) == 42
    assert sum(kind is not None for kind in found) >= any_minimum
    assert sum(kind == "global" for kind in found) >= global_minimum
    assert np.median(evaluations) <= median


@pytest.mark.parametrize("method", FAST)
def test_solutions_agree_with_scipy(method):
    optimize = pytest.importorskip("scipy.optimize")
    x0 = np.linspace(-1.5, 1.5, 8)
    theirs = optimize.minimize(rosenbrock, x0, jac=rosenbrock_slope, method="BFGS", options={"gtol": 1e-9})
    ours = minimize(rosenbrock, x0, method=method)
    assert ours.success and ours.status == 1 and np.abs(ours.jac).max() <= 2e-9
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-7)


def test_a_symmetric_start_does_not_end_at_a_saddle():
    """From (2, 2) the symmetric points lead to the saddle (0, 0); the minima are (1, -1) and (-1, 1)."""

    def fun(x):
        return (x[0] + x[1]) ** 2 + ((x[0] - x[1]) ** 2 / 4 - 1) ** 2

    for method in FAST:
        result = minimize(fun, [2.0, 2.0], method=method)
        assert result.fun < 1e-12, method


# --- bounds ---


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_between_bounds_a_quadratic_ends_where_scipys_does(n, seed):
    optimize = pytest.importorskip("scipy.optimize")
    fun, A, b = quadratic(n, seed)
    rng = np.random.default_rng(seed)
    low = rng.uniform(-1, 0, n)
    bounds = list(zip(low, low + rng.uniform(0, 1, n), strict=True))
    theirs = optimize.minimize(
        lambda x: 0.5 * x @ A @ x - b @ x, np.zeros(n), jac=lambda x: A @ x - b, bounds=bounds,
        method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-16},
    )  # fmt: skip
    ours = minimize(fun, np.zeros(n), bounds=bounds)
    assert ours.success and ours.method == "projected l-bfgs"
    assert all(low <= x <= high for x, (low, high) in zip(ours.x, bounds, strict=True))
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-6)


@pytest.mark.parametrize("low, high", [(-2, 0.5), (1.5, 3), (-np.inf, 0.9), (None, None)])
def test_between_bounds_rosenbrock_ends_where_scipys_does(low, high):
    optimize = pytest.importorskip("scipy.optimize")
    x0, bounds = np.linspace(-1, 2, 6), [(low, high)] * 6
    theirs = optimize.minimize(
        rosenbrock, x0, jac=rosenbrock_slope, bounds=bounds, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-16}
    )
    ours = minimize(rosenbrock, x0, method="L-BFGS-B", bounds=bounds)
    assert ours.success and ours.fun <= theirs.fun + 1e-9


def test_bounds_may_be_an_object_or_a_dict_of_pairs():
    class Box:
        lb, ub = [-1, -1], 0.5

    target = np.array([2.0, -3.0])
    boxed = minimize(lambda x: ((x - target) ** 2).sum(), [0.0, 0.0], bounds=Box())
    np.testing.assert_allclose(boxed.x, [0.5, -1])
    start = {"w": mg.zeros(2, dtype=mg.float64), "b": mg.tensor(0.0, dtype=mg.float64)}
    named = minimize(
        lambda p: ((p["w"] - target) ** 2).sum() + (p["b"] - 1) ** 2, start, bounds={"w": (0, None), "b": (None, 0.25)}
    )
    np.testing.assert_allclose(named.x["w"].numpy(), [2, 0], atol=1e-8)
    assert named.x["b"].item() == 0.25


@pytest.mark.parametrize(
    "bounds, words",
    [([(0, 1)], "expected 2 pairs"), ([(1, 0), (0, 1)], "bound 0 is"), ({"w": (0, 1)}, "keys of a dict x0")],
)
def test_wrong_bounds_are_refused(bounds, words):
    with pytest.raises(ValueError, match=words):
        minimize(rosenbrock, [0.0, 0.0], bounds=bounds)


def test_methods_without_bounds_say_so():
    with pytest.raises(ValueError, match="'bfgs' knows no bounds"):
        minimize(rosenbrock, [0.0, 0.0], method="BFGS", bounds=[(0, 1)] * 2)


# --- forms of x0 and of derivatives ---


def test_a_dict_of_tensors_comes_back_as_it_was_given():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), rng.standard_normal(30)

    def loss(p):
        return mg.mean((mg.tensor(X) @ p["w"] + p["b"] - mg.tensor(y)) ** 2)

    start = {"w": mg.zeros(3, dtype=mg.float64), "b": mg.tensor(0.0, dtype=mg.float64)}
    result = minimize(loss, start, method="l-bfgs")
    exact = np.linalg.lstsq(np.column_stack([X, np.ones(30)]), y, rcond=None)[0]
    np.testing.assert_allclose(result.x["w"].numpy(), exact[:3], atol=1e-7)
    assert result.x["b"].shape == () and abs(result.x["b"].item() - exact[3]) < 1e-7
    assert result.jac["w"].shape == (3,) and isinstance(result.fun, float)
    assert start["w"].numpy().tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", LINE_METHODS)
def test_given_gradients_make_the_same_steps_as_the_engines(method):
    options = {"maxiter": 15, "return_all": True}
    engine = minimize(rosenbrock, [-1.2, 1.0], method=method, options=options)
    plain = minimize(rosenbrock, [-1.2, 1.0], method=method, jac=rosenbrock_slope, options=options)
    both = minimize(
        lambda x: (rosenbrock(x), rosenbrock_slope(x)), [-1.2, 1.0], method=method, jac=True, options=options
    )
    np.testing.assert_allclose(engine.allvecs, plain.allvecs, rtol=1e-6)
    np.testing.assert_allclose(plain.allvecs, both.allvecs, rtol=1e-12)
    assert (engine.nfev, engine.njev, engine.nit) == (plain.nfev, plain.njev, plain.nit)


@pytest.mark.parametrize("method", FAST)
def test_float32_stops_by_itself(method):
    result = minimize(rosenbrock, mg.tensor([-1.2, 1.0], dtype=mg.float32), method=method)
    assert result.success and result.x.dtype == mg.float32
    np.testing.assert_allclose(result.x.numpy(), [1, 1], atol=1e-3)


@pytest.mark.parametrize("x0", [0.0, [0.0], mg.tensor(0.0), np.zeros(1), (0.0,)])
def test_one_number_may_be_given_in_any_form(x0):
    result = minimize(lambda x: (x - 3) ** 2 + 1, x0)
    assert result.success and abs(float(np.asarray(mg.as_tensor(result.x).numpy()).reshape(-1)[0]) - 3) < 1e-4


def test_further_arguments_reach_the_function():
    assert abs(minimize(lambda x, a, b: ((x - a) ** 2).sum() + b, 0.0, args=(2.0, 5.0)).fun - 5) < 1e-12
    assert abs(minimize(lambda x, a: ((x - a) ** 2).sum(), 0.0, args=2.0).x[0] - 2) < 1e-6


@pytest.mark.parametrize("method", [*LINE_METHODS, "bounded"])
def test_methods_work_on_a_device_that_refuses_host_arrays(method):
    bounds = [(-2, 2)] * 2 if method == "bounded" else None
    how = {"method": "l-bfgs" if bounds else method, "bounds": bounds, "options": {"maxiter": 25, "return_all": True}}
    here = minimize(rosenbrock, mg.tensor([-1.2, 1.0], dtype=mg.float64), **how)
    with strict_backend.installed():
        there = minimize(rosenbrock, mg.tensor([-1.2, 1.0], dtype=mg.float64, device="cuda"), **how)
        assert there.x.device.startswith("cuda") and there.nfev == here.nfev
        for ours, theirs in zip(there.allvecs, here.allvecs, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9)
        if method == "l-bfgs":
            there.hess_inv.todense()


# --- troubles ---

BASIC = {
    "flat": (lambda x: 0 * x.sum() + 3, [1.0, 2.0], True, "gradient is below"),
    "NaN at the start": (lambda x: mg.log(x).sum(), [-1.0, 2.0], False, "NaN or infinite at x0"),
    "infinite at the start": (lambda x: (1 / x).sum(), [0.0, 2.0], False, "NaN or infinite at x0"),
    "a slope of NaN at the start": (lambda x: mg.sqrt(x**2).sum(), [0.0, 1.0], False, "derivative is NaN"),
    "falls as a parabola": (lambda x: -(x**2).sum(), [1.0, 1.0], False, "without bound"),
    "falls as a line": (lambda x: -x.sum(), [1.0, 1.0], False, "without bound"),
    "falls to minus infinity": (lambda x: -mg.exp(x).sum(), [1.0, 1.0], False, "without bound"),
    "lowest at infinity": (lambda x: mg.exp(-x).sum(), [0.0, 1.0], True, "gradient is below"),
    "a wall of NaN": (lambda x: (mg.sqrt(x) - 0.1).sum() ** 2 + (x**2).sum(), [4.0, 4.0], True, ""),
    "a logarithmic barrier": (lambda x: (10 * x - mg.log(x) - mg.log(1 - x)).sum(), [0.5, 0.999], True, ""),
    "tiny x": (lambda x: ((1e10 * x - 1) ** 2).sum(), [5.0, -0.3], True, ""),
    "a huge value": (lambda x: 1e12 * (((x - 1) ** 2).sum() + 1), [5.0, -0.3], True, ""),
    "a huge slope": (lambda x: 1e30 * ((x - 1) ** 4).sum(), [5.0, -0.3], True, ""),
    "steps are flat": (lambda x: mg.floor(x).sum() + 0 * x.sum(), [20.5, 3.0], True, "gradient is below"),
    "one number for a value": (lambda x: (x - 3) ** 2, [1.0], True, ""),
}


@pytest.mark.parametrize("method", [*LINE_METHODS, None])
@pytest.mark.parametrize("trouble", BASIC)
@pytest.mark.filterwarnings("error")
def test_troubles_are_told_and_never_raised(trouble, method):
    fun, x0, success, words = BASIC[trouble]
    result = minimize(fun, x0, method=method)
    assert result.success == success, result
    assert words in result.message
    assert np.isfinite(result.x).all() and result.nfev < 1000
    assert np.isfinite(result.fun) or "x0" in result.message


@pytest.mark.parametrize("method", FAST)
def test_kinks_end_near_the_lowest_point_or_say_that_there_is_no_lower_one(method):
    for fun in (lambda x: mg.abs(x).sum(), lambda x: mg.abs(x[0] - x[1]) + 0.1 * (x**2).sum()):
        result = minimize(fun, [1.0, -0.3], method=method)
        assert result.success or "is the function smooth?" in result.message
        assert result.fun < 1e-5 and result.nfev < 1000


@pytest.mark.parametrize("method", FAST)
def test_a_large_constant_hides_the_last_digits_and_the_result_says_so_or_has_them(method):
    result = minimize(lambda x: 1e6 + rosenbrock(x), [-1.2, 1.0], method=method)
    assert result.success and result.status in (1, 4)
    np.testing.assert_allclose(result.x, [1, 1], atol=1e-3)


def test_a_wrong_gradient_is_not_called_a_success():
    result = minimize(lambda x: x @ x, np.ones(3), jac=lambda x: -x)
    assert not result.success and "no lower point" in result.message


def test_rounding_ends_a_run_as_a_success_only_with_a_small_gradient():
    """A tolerance that cannot be reached: the run ends by itself, at the minimum."""
    A = np.diag(10.0 ** np.arange(5))
    result = minimize(lambda x: 1 + ((x - 1) * (A @ (x - 1))).sum(), np.zeros(5), options={"gtol": 0.0})
    assert result.success and (result.status == 4 or not result.jac.any())
    np.testing.assert_allclose(result.x, 1, atol=1e-7)


def test_limits_are_kept_and_told():
    few = minimize(rosenbrock, [-1.2, 1.0], options={"maxiter": 3})
    assert few.nit == 3 and not few.success and "maxiter" in few.message
    less = minimize(rosenbrock, [-1.2, 1.0], options={"maxfev": 10})
    assert 10 <= less.nfev <= 40 and not less.success and "evaluations" in less.message


def test_an_interrupted_run_gives_what_it_has():
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return rosenbrock(x)

    result = minimize(fun, [-1.2, 1.0])
    assert not result.success and "interrupted" in result.message
    assert result.fun < rosenbrock(np.array([-1.2, 1.0])) and result.nit > 3


def test_an_exception_of_the_function_passes_through():
    with pytest.raises(ZeroDivisionError):
        minimize(lambda x: x.sum() / 0 if x.data[0] < 0 else 1 / 0, [1.0])


# --- callback, trace, options ---


def test_callbacks_see_each_iterate_and_may_stop():
    seen = []

    def as_result(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 4:
            raise StopIteration

    result = minimize(rosenbrock, [-1.2, 1.0], callback=as_result)
    assert result.nit == 4 and "callback" in result.message and not result.success
    assert isinstance(seen[0], OptimizeResult) and [float(rosenbrock(r.x)) for r in seen] == [r.fun for r in seen]
    points = []
    result = minimize(rosenbrock, [-1.2, 1.0], callback=points.append, options={"return_all": True})
    np.testing.assert_array_equal(points, result.allvecs[1:])
    assert minimize(rosenbrock, [-1.2, 1.0], callback=lambda xk: True).nit == 1


def test_verbose_prints_a_line_for_each_iteration(capsys):
    result = minimize(rosenbrock, [-1.2, 1.0], options={"disp": True, "maxiter": 5})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and "function" in lines[0] and lines[1].split()[0] == "1"
    assert lines[-1].startswith("bfgs: the limit of iterations") and float(lines[5].split()[2]) == pytest.approx(
        result.fun
    )


@pytest.mark.parametrize(
    "given, ours",
    [
        ("BFGS", "bfgs"),
        ("L-BFGS-B", "l-bfgs"),
        ("CG", "cg"),
        ("Newton-CG", "newton-cg"),
        ("trust-exact", "trust-exact"),
    ],
)
def test_methods_answer_to_scipys_names(given, ours):
    result = minimize(rosenbrock, [-1.2, 1.0], method=given)
    assert result.method == ours and result.success


def test_the_method_is_chosen_by_size():
    assert minimize(lambda x: (x**2).sum(), np.ones(3)).method == "bfgs"
    assert minimize(lambda x: (x**2).sum(), np.ones(1000)).method == "l-bfgs"


def test_a_pair_of_your_own_is_a_method():
    pair = Method(lambda options: NonlinearCGDirection("pr+"), lambda options: ExactQuadratic())
    fun, A, b = quadratic(6, 1)
    result = minimize(fun, np.zeros(6), method=pair)
    np.testing.assert_allclose(result.x, np.linalg.solve(A, b), atol=1e-6)


def test_fixed_steps_are_those_of_gradient_descent():
    options = {"line_search": "fixed", "step_length": 0.1, "maxiter": 3, "return_all": True}
    result = minimize(lambda x: (x**2).sum(), [1.0, -2.0], method="gradient descent", options=options)
    np.testing.assert_allclose(result.allvecs, np.outer(0.8 ** np.arange(4), [1.0, -2.0]))


@pytest.mark.parametrize(
    "how, words",
    [
        ({"method": "simplex"}, "there are"),
        ({"options": {"stepsize": 1}}, "no option 'stepsize'; it has"),
        ({"options": {"memory": 0}, "method": "l-bfgs"}, "at least 1"),
        ({"options": {"beta": "dy"}, "method": "cg"}, "expected one of"),
    ],
)
def test_wrong_arguments_are_named(how, words):
    with pytest.raises(ValueError, match=words):
        minimize(rosenbrock, [0.0, 0.0], **how)


def test_wrong_functions_are_named():
    with pytest.raises(TypeError, match="callback must be a function"):
        minimize(rosenbrock, [0.0, 0.0], callback=3)
    with pytest.raises(TypeError, match="jac must be a function"):
        minimize(rosenbrock, [0.0, 0.0], jac=3)
    with pytest.raises(ValueError, match="expected a function, True, None, or one of 2-point"):
        minimize(rosenbrock, [0.0, 0.0], jac="4-point")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tol": np.nan}, "tol=nan"),
        ({"options": {"gtol": -1}}, "gtol=-1"),
        ({"constraints": [{"type": "eq"}]}, "constraints are not supported"),
        ({"method": "cg", "bounds": [(0, 1)] * 2}, "use method='l-bfgs'"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_with_a_way_out(options, words):
    with pytest.raises(ValueError, match=words):
        minimize(rosenbrock, [0.0, 0.0], **options)


@pytest.mark.parametrize("method", [None, "newton", "trust-exact", "l-bfgs", "cg"])
@pytest.mark.parametrize(
    "function", [lambda x: float((x * x).sum()), lambda x: (x * x).sum().item(), lambda x: mg.tensor(float(x[0] ** 2))]
)
def test_a_function_that_loses_its_graph_is_told(function, method):
    with pytest.raises(mg.GradientError, match=r"minimize: .*float\(\), \.item\(\)"):
        minimize(function, [3.0, 2.0], method=method)


def test_the_absolute_value_does_not_take_thousands_of_evaluations():
    for method in ("trust-exact", "trust-ncg", "gradient descent", "bfgs"):
        found = minimize(lambda x: abs(x).sum(), [3.0, -2.2], method=method)
        assert found.nfev <= 500
        assert found.fun <= 1e-7
