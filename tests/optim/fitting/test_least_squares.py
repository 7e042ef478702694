"""least_squares: linear problems in one step, the step as a least-squares problem of its own, scaling, robust losses,
and bounds. How runs end is in optim/fitting/test_ends.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import minigrad as mg
from minigrad.optim import least_squares
from minigrad.optim.fitting.bounded_model import BoxedModel
from minigrad.optim.fitting.fit_methods import FIT_METHODS
from minigrad.optim.fitting.linear_model import LinearModel
from minigrad.optim.fitting.matrix_free import ProductModel
from minigrad.optim.fitting.robust_loss import LOSSES, RobustResiduals
from minigrad.optim.fitting.scaling import LargestColumns, ScaledModels
from minigrad.optim.solve.bounds import Box
from minigrad.optim.solve.residuals import Residuals
from minigrad.optim.solve.vectors import column_norms
from tests.support import strict_backend

BOUNDED = [name for name, method in FIT_METHODS.items() if method.takes_bounds]
seeds = st.integers(0, 2**32 - 1)


def rosenbrock(x):
    return mg.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def decay(seed=0, outliers=0):
    """Residuals of a * exp(-b t) + c on noisy data, for Tensors and for arrays."""
    random = np.random.default_rng(seed)
    t = np.linspace(0, 4, 50)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * random.standard_normal(t.size)
    y[:: 50 // outliers if outliers else 51] += 3 * (outliers > 0)
    on_tensors = mg.Tensor(t), mg.Tensor(y)

    def residuals(p):
        xp, (x, seen) = (mg, on_tensors) if isinstance(p, mg.Tensor) else (np, (t, y))
        return p[0] * xp.exp(-p[1] * x) + p[2] - seen

    return residuals


def linear_problem(seed, m=12, n=4, spread=3.0):
    """A, b and the point of residuals A x - b around a random x, the columns of A of very different lengths."""
    random = np.random.default_rng(seed)
    A = random.standard_normal((m, n)) * 10 ** random.uniform(-spread, spread, n)
    b, x = random.standard_normal(m), random.standard_normal(n)
    return A, b, Residuals(lambda p: mg.Tensor(A) @ p - mg.Tensor(b), x).at(x)


# --- steps ---


@given(seeds)
def test_a_linear_problem_takes_one_gauss_newton_step(seed):
    A, b, here = linear_problem(seed)
    step = LinearModel(here, column_norms(A), column_norms(A)).gauss_newton()
    scaled, *_ = np.linalg.lstsq(A / column_norms(A), b)
    assert_allclose(step.to, scaled / column_norms(A), rtol=1e-9)
    found = least_squares(lambda p: mg.Tensor(A) @ p - mg.Tensor(b), here.x, method="gauss-newton")
    assert found.success
    assert found.nit <= 2  # the second one finds nothing left to gain


@given(seeds, st.floats(-6, 6))
def test_a_damped_step_solves_the_augmented_least_squares_problem(seed, exponent):
    """min |J p + r|^2 + lambda |D p|^2, written as one matrix over another (Moré 1978, equation 3.4)."""
    A, _, here = linear_problem(seed, spread=1.0)
    D, damping = np.random.default_rng(seed).uniform(0.1, 10, 4), 10.0**exponent
    step = LinearModel(here, D, column_norms(A)).damped(damping)
    augmented = np.vstack([A, np.sqrt(damping) * np.diag(D)])
    p, *_ = np.linalg.lstsq(augmented, -np.append(here.r, np.zeros(4)))
    assert_allclose(step.to - here.x, p, rtol=1e-8, atol=1e-8 * np.abs(here.x).max())
    assert_allclose(step.length, np.linalg.norm(D * p), rtol=1e-7)
    assert_allclose(step.slope, here.g @ p, rtol=1e-7)
    assert_allclose(step.gain, here.cost - 0.5 * np.sum((A @ p + here.r) ** 2), rtol=1e-6, atol=1e-12 * here.cost)


@given(seeds, st.floats(-6, 1))
def test_a_step_within_a_radius_has_that_length_or_is_the_whole_step(seed, exponent):
    A, _, here = linear_problem(seed)
    model = LinearModel(here, column_norms(A), column_norms(A))
    whole = model.gauss_newton().length
    radius = whole * 10**exponent
    step = model.within(radius, 0.0)
    assert step.length == pytest.approx(min(radius, whole), rel=0.11)
    assert (model.damping == 0) == (step.length == whole)


class ExactModel(ProductModel):
    LEAST_EXACT = MOST_EXACT = 1e-13


@given(seeds)
def test_a_matrix_free_step_is_the_step_with_the_matrix(seed):
    A, b, here = linear_problem(seed, spread=0.5)
    expected = LinearModel(here, np.ones(4), column_norms(A)).damped(0.3)
    without = Residuals(lambda p: mg.Tensor(A) @ p - mg.Tensor(b), here.x).at(here.x)
    step = ExactModel(without).damped(0.3)
    assert_allclose(step.to - here.x, expected.to - here.x, rtol=1e-7, atol=1e-8 * expected.length)
    assert_allclose([step.length, step.slope, step.gain], [expected.length, expected.slope, expected.gain], rtol=1e-6)
    assert "J" not in vars(without)


@given(seeds, st.floats(-3, 3))
def test_a_step_in_a_box_stays_there_and_promises_no_more_than_the_best_one(seed, exponent):
    optimize = pytest.importorskip("scipy.optimize")
    A, _, here = linear_problem(seed, spread=0.5)
    random = np.random.default_rng(seed)
    box = Box(here.x - random.uniform(0, 0.5, 4), here.x + random.uniform(0, 0.5, 4), np)
    step = BoxedModel(box, here, np.ones(4), column_norms(A)).damped(10.0**exponent)
    assert (box.lower <= step.to).all() and (step.to <= box.upper).all()
    best = optimize.lsq_linear(A, A @ here.x - here.r, (box.lower, box.upper), tol=1e-12)
    assert step.gain <= here.cost - best.cost + 1e-9 * here.cost


@given(seeds)
def test_the_units_of_x_make_no_difference(seed):
    """Moré's scaling: with x = c y, c powers of two, all iterates are the same to the bit."""
    c = 2.0 ** np.random.default_rng(seed).integers(-20, 20, 3)
    residuals, start = decay(seed), np.array([1.0, 1.0, 1.0])
    plain, scaled = [], []
    least_squares(residuals, start, callback=lambda x: plain.append(x))
    least_squares(lambda y: residuals(y * mg.Tensor(c)), start / c, callback=lambda y: scaled.append(y * c))
    assert len(plain) > 3
    assert_allclose(scaled[:4], plain[:4], rtol=1e-10)


def test_a_column_that_fades_loses_its_weight_slowly():
    scaling = LargestColumns()
    problem = Residuals(lambda x: mg.exp(x), [0.0])
    model_at = ScaledModels(scaling)
    assert model_at(problem.at(np.array([2.0]))).scale[0] == pytest.approx(np.exp(2))
    assert model_at(problem.at(np.array([-5.0]))).scale[0] == pytest.approx(0.97 * np.exp(2))
    assert model_at(problem.at(np.array([3.0]))).scale[0] == pytest.approx(np.exp(3))
    assert model_at.alone(problem.at(np.array([-5.0]))).scale[0] == pytest.approx(np.exp(-5))


@given(st.floats(-200, 200), seeds)
def test_lengths_of_columns_need_no_squares_within_range(exponent, seed):
    J = np.random.default_rng(seed).standard_normal((5, 3))
    with np.errstate(all="ignore"):
        norms = column_norms(J * 10.0**exponent)
    assert_allclose(norms, np.linalg.norm(J, axis=0) * 10.0**exponent, rtol=1e-12)


# --- solutions ---


@pytest.mark.parametrize("method", FIT_METHODS)
def test_every_method_solves_rosenbrock_and_a_noisy_fit(method):
    optimize = pytest.importorskip("scipy.optimize")
    found = least_squares(rosenbrock, [-1.2, 1.0], method=method)
    assert found.success
    assert_allclose(found.x, [1, 1], atol=1e-7)
    expected = optimize.least_squares(decay(), [1.0, 1, 1], method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    found = least_squares(decay(), [1.0, 1, 1], method=method)
    assert found.success
    assert_allclose(found.x, expected.x, rtol=1e-5)
    assert_allclose(found.cost, expected.cost, rtol=1e-9)


@pytest.mark.parametrize("x_scale", [1.0, [3.0, 1, 0.2], "jac"], ids=str)
@pytest.mark.parametrize("method", BOUNDED)
def test_another_scaling_is_another_way_to_the_same_point(method, x_scale):
    ways = []
    for scale in (None, x_scale):
        ways.append([])
        found = least_squares(decay(), [1.0, 3, 1], method=method, x_scale=scale, callback=ways[-1].append)
        assert found.success
    assert_allclose(ways[0][-1], ways[1][-1], rtol=1e-6)
    same = (method, x_scale) in (("lm", "jac"), ("levenberg", 1.0), ("marquardt", "jac"))  # the last: for two steps
    assert np.allclose(ways[0][1], ways[1][1], rtol=1e-9) == same


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("f_scale", [0.1, 1.0])
def test_robust_fits_are_scipys(loss, f_scale):
    optimize = pytest.importorskip("scipy.optimize")
    residuals = decay(outliers=7)
    found = least_squares(residuals, [2.0, 1, 1], loss=loss, f_scale=f_scale)
    expected = optimize.least_squares(
        residuals, [2.0, 1, 1], loss=loss, f_scale=f_scale, xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=3000
    )
    assert found.success
    assert_allclose(found.x, expected.x, rtol=1e-5)
    assert_allclose(found.cost, expected.cost, rtol=1e-10)
    assert_allclose(found.fun, expected.fun, atol=1e-5)
    if loss == "linear":
        assert_allclose(found.jac, expected.jac, atol=1e-5)


@given(seeds, st.sampled_from(list(LOSSES)[1:]))
def test_a_robust_costs_gradient_is_its_slope(seed, loss):
    random = np.random.default_rng(seed)
    problem = RobustResiduals(Residuals(decay(outliers=7), np.ones(3)), loss, 0.3)
    x, d, h = random.uniform(0.5, 2, 3), random.standard_normal(3), 1e-6
    slope = (problem.at(x + h * d).cost - problem.at(x - h * d).cost) / (2 * h)
    assert_allclose(problem.at(x).g @ d, slope, rtol=1e-5, atol=1e-7)
    here = problem.at(x)
    assert_allclose(here.r @ here.J, problem.at(x).g, rtol=1e-10, atol=1e-12)


@given(st.floats(-3, 6), st.sampled_from(list(LOSSES)[1:]))
def test_the_derivatives_of_a_loss_are_its_own(exponent, loss):
    z = np.array([10.0**exponent])
    if loss == "huber" and abs(exponent) < 1e-4:
        return  # a corner of rho'
    h = 1e-5 * z
    (rho, first, second), above, below = (LOSSES[loss](at, np) for at in (z, z + h, z - h))
    assert_allclose((above[0] - below[0]) / (2 * h), first, rtol=1e-6, atol=1e-9 / z[0])
    assert_allclose((above[1] - below[1]) / (2 * h), second, rtol=1e-6, atol=1e-9 / z[0])
    assert 0 < rho <= z


def test_a_loss_of_ones_own():
    ours = least_squares(decay(outliers=7), np.ones(3), loss=lambda z: (np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2))
    assert_allclose(ours.x, least_squares(decay(outliers=7), np.ones(3), loss="cauchy").x, rtol=1e-12)


@pytest.mark.parametrize("method", BOUNDED)
@given(seeds)
def test_bounded_fits_are_scipys(method, seed):
    """From inside the box, bounds near enough to the free solution to matter; linear, so that the answer is unique."""
    optimize = pytest.importorskip("scipy.optimize")
    A, b, _ = linear_problem(seed, spread=0.5)
    random = np.random.default_rng(seed)
    free = np.linalg.lstsq(A, b)[0]
    lower, upper = free - random.uniform(-0.3, 0.7, 4), free + 1
    found = least_squares(
        lambda p: mg.Tensor(A) @ p - mg.Tensor(b), (lower + upper) / 2, bounds=(lower, upper), method=method
    )
    best = optimize.lsq_linear(A, b, (lower, upper), method="bvls", tol=1e-15)
    assert found.success, found.message
    assert_allclose(found.x, best.x, rtol=1e-6, atol=1e-7)
    assert (found.active_mask == best.active_mask).all()
    assert found.optimality <= 1e-6


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "cauchy"])
def test_a_bounded_curved_fit_is_scipys(loss):
    optimize = pytest.importorskip("scipy.optimize")
    residuals, start, bounds = decay(outliers=7), [1.0, 3.0, 0.1], ([0, 2, -1], [2.0, 5, 0.4])
    found = least_squares(residuals, start, bounds=bounds, loss=loss, f_scale=0.1)
    expected = optimize.least_squares(
        residuals, start, bounds=bounds, loss=loss, f_scale=0.1, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    assert found.success
    assert_allclose(found.x, expected.x, rtol=1e-6)
    assert (found.active_mask == expected.active_mask).all()
    assert found.active_mask.any()


def test_a_bound_may_be_a_number_an_array_a_tensor_or_a_tree():
    start, one = {"a": np.array([3.0]), "b": mg.tensor(3.0)}, np.array([1.0])
    for low in (1, 1.0, one, mg.tensor([1.0]), {"a": one, "b": 1.0}, {"a": one, "b": mg.tensor(1.0)}):
        found = least_squares(lambda p: (p["a"], p["b"]), start, bounds=(low, np.inf))
        assert_allclose([found.x["a"][0], found.x["b"].item()], [1, 1])
    assert_allclose(least_squares(lambda x: x, [2.0], bounds=(one, [5.0])).x, [1])


# --- forms of x0 and of residuals ---


@pytest.mark.parametrize("method", FIT_METHODS)
def test_x_comes_back_in_the_form_of_x0(method):
    def residuals(p):
        return {"fit": p["w"] * 2 - mg.tensor([1.0, 3.0]), "prior": (p["b"] - 1,)}

    start = {"w": mg.zeros(2), "b": mg.tensor(5.0)}
    found = least_squares(residuals, start, method=method)
    assert found.success
    assert_allclose(found.x["w"].numpy(), [0.5, 1.5], rtol=1e-5)
    assert_allclose(found.x["b"].numpy(), 1, rtol=1e-5)
    assert found.x["w"].dtype == start["w"].dtype == np.float32


def test_a_given_jacobian_lets_the_function_be_plain_numpy():
    t, y = np.linspace(0, 1, 9), np.arange(9.0)

    def residuals(p, power):
        return p[0] * t**power + p[1] - y

    expected = np.polyfit(t**2, y, 1)
    jacobian = np.stack([t**2, np.ones(9)], 1)
    assert_allclose(least_squares(residuals, [0.0, 0], jac=lambda p, power: jacobian, args=(2,)).x, expected)
    both = least_squares(lambda p: (residuals(p, 2), jacobian), [0.0, 0], jac=True)
    assert_allclose(both.x, expected)


def test_residuals_on_a_device_stay_there():
    with strict_backend.installed():
        t = mg.tensor(np.linspace(0, 3, 30), device="cuda")
        y = mg.exp(-t) * 2 + 0.1 * mg.sin(9 * t)
        start = mg.tensor(np.array([1.0, 0.5]), device="cuda")
        for method in FIT_METHODS:
            for options in ({}, {"loss": "huber", "f_scale": 0.05}, {"bounds": (0, 1.5)}):
                if "bounds" in options and not FIT_METHODS[method].takes_bounds:
                    continue
                found = least_squares(lambda p: p[0] * mg.exp(-p[1] * t) - y, start, method=method, **options)
                assert found.success
                assert found.x.device == start.device
