"""Fits from starts that know nothing: how many of forty are solved, and that no failure is called a success."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.optim import curve_fit, least_squares
from minigrad.optim.fitting.fit_methods import FIT_METHODS
from tests.support.problems import bad_starts


def test_more_than_nine_in_ten_bad_starts_lead_to_the_known_minimum():
    """SciPy's best method, lm, solves 24 of them (`python benchmarks/second_order.py --sets starts`)."""
    found = [least_squares(problem.residuals, problem.start) for problem in bad_starts.PROBLEMS]
    solved = [problem.is_solved(end.x) for problem, end in zip(bad_starts.PROBLEMS, found, strict=True)]
    assert len(solved) == 40
    assert sum(solved) >= 37


@pytest.mark.parametrize("method", ["lm", "levenberg", "marquardt", "gauss-newton"])
def test_no_end_is_called_a_success_that_is_none(method):
    false = []
    for problem in bad_starts.PROBLEMS[::2] if method != "lm" else bad_starts.PROBLEMS:
        found = least_squares(problem.residuals, problem.start, method=method)
        if found.success and not problem.is_stationary(found.x):
            false.append((problem.name, found.cost, found.message))
    assert not false


RUNAWAYS = [[1, -1, 1], [-3, -0.7, -1], [-1, -1, -1], [1, -0.5, 0], [5, -0.7, 0]]
"""Starts of a exp(-b x) + c from which b goes to zero, a and c to infinity: a straight line, and no fit."""


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("start", RUNAWAYS, ids=str)
def test_a_start_with_the_wrong_sign_leads_to_the_minimum_and_not_to_infinity(start, noise, unit):
    x = np.linspace(0.1, 10, 40)
    y = 3 * np.exp(-0.7 * x) + 1 + noise * np.sin(1.7 * np.arange(40) ** 2)
    best, cov = curve_fit(lambda x, a, b, c: a * mg.exp(-b * x) + c, x * unit, y, p0=start * np.array([1, 1 / unit, 1]))
    np.testing.assert_allclose(best * [1, unit, 1], [3, 0.7, 1], rtol=0.05 if noise else 1e-6)
    assert (np.sqrt(np.diag(cov)) < 0.1 * abs(best)).all()


@pytest.mark.parametrize("method", ["lm", "marquardt", "levenberg", "gauss-newton"])
def test_no_run_to_infinity_is_called_a_success(method):
    """With b held below zero a straight line is the lowest that there is, and its place is at infinity."""
    x = mg.Tensor(np.linspace(0.1, 10, 40))
    y = 3 * mg.exp(-0.7 * x) + 1
    found = least_squares(lambda p: p[0] * mg.exp(mg.exp(p[1]) * x) + p[2] - y, [1.0, -1.0, 1.0], method=method)
    assert not found.success


@pytest.mark.parametrize("problem", bad_starts.PROBLEMS, ids=lambda problem: problem.name)
def test_the_known_minima_are_minima(problem):
    """The cost near the truth is no lower, whatever small step is taken."""
    random = np.random.default_rng(0)
    truth = np.asarray(problem.truth, dtype=float)
    for _ in range(20):
        assert problem.cost(truth * (1 + 1e-3 * random.standard_normal(truth.size))) >= problem.minimum


def test_a_fit_on_a_plateau_says_which_parameters_do_nothing():
    """A peak of fixed height lies beside the data, too far for any derivative, and among them it would only do harm."""
    x = mg.Tensor(np.linspace(0, 1, 50))
    y = mg.Tensor(2 + 0.1 * np.sin(9.0 * np.arange(50)))
    found = least_squares(lambda p: 5 * mg.exp(-((x + 300 - p[0]) ** 2)) + p[1] - y, [3.0, 0.0])
    assert not found.success
    assert "no longer change with parameter 0" in found.message
    assert found.cost == pytest.approx(0.5 * float(((y - y.mean()) ** 2).sum()))


def test_a_parameter_that_nothing_depends_on_is_no_plateau():
    found = least_squares(lambda p: mg.stack([p[0] - 1, p[0] - 2, p[1] * 0]), [4.0, 5.0])
    assert found.success
    assert "rank 1 of 2" in found.message


@pytest.mark.parametrize("method", FIT_METHODS)
def test_a_slope_that_is_nan_makes_a_step_shorter(method):
    """sqrt(p) is finite at 0, where a first step of Gauss-Newton's length 2 leads, and its slope is not."""

    def residuals(p):
        return mg.concatenate([mg.sqrt(abs(p - 1)) + 0.5 * (p - 1) - 1, p * 0])

    found = least_squares(residuals, [3.0], method=method)
    assert np.isfinite(found.x).all()
    assert "derivative is NaN" not in found.message


def test_a_logistic_written_by_hand_overflows_and_is_fitted():
    """e^u / (1 + e^u) is 1 at u = 700, and its slope NaN beyond 710."""
    x = np.linspace(0, 100, 40)
    y = 3 / (1 + np.exp(-0.2 * (x - 50)))
    best, _ = curve_fit(lambda x, a, b, c: a * (1 - 1 / (1 + mg.exp(b * (x - c)))), x, y)
    np.testing.assert_allclose(best, [3, 0.2, 50], rtol=1e-8)


X = np.linspace(0, 4, 20)
LOST = {
    "float": lambda x, a, b, c: a * mg.exp(-float(b) * x) + c,
    "item": lambda x, a, b, c: a * mg.exp(-x * b.item()) + c,
    "math": lambda x, a, b, c: a * mg.exp(-x) * math.exp(b) + c,
}


@pytest.mark.parametrize("way", LOST)
def test_a_parameter_whose_graph_is_lost_is_told(way):
    with pytest.raises(mg.GradientError, match=r"number 1 of x0 .* float\(\), \.item\(\)"):
        curve_fit(LOST[way], X, 2.5 * np.exp(-1.3 * X) + 0.5)


@pytest.mark.parametrize(
    "residuals",
    [lambda p: float((p * p).sum()), lambda p: [p[0].item() - 1], lambda p: p.numpy()],
    ids=["float", "item", "numpy"],
)
def test_residuals_without_a_graph_are_told(residuals):
    with pytest.raises(mg.GradientError, match=r"least_squares: the function returned"):
        least_squares(residuals, [1.0, 2.0])


@pytest.mark.parametrize(
    "residuals",
    [
        lambda p: mg.where(p > 5, p - 7, p * 0 + 2),  # constant here
        lambda p: p**2 if p[0].item() > -9 else p,  # a number taken out to look at
        lambda p: mg.relu(p - 3) + p * 0 * float(p[0]),
    ],
    ids=["mask", "control", "kink"],
)
def test_honest_constants_and_looks_raise_nothing(residuals):
    least_squares(residuals, [3.0, 3.0])


def test_a_model_in_numpy_is_told_what_to_do_and_fitted_by_differences():
    def model(x, a, b, c):
        return a * np.exp(-b * x) + c

    y = model(X, 2.5, 1.3, 0.5)
    with pytest.raises(TypeError, match=r'mg\.exp for np\.exp.*jac="2-point"'):
        curve_fit(model, X, y)
    for jac, digits in (("2-point", 1e-7), ("3-point", 1e-9), ("cs", 1e-12)):
        np.testing.assert_allclose(curve_fit(model, X, y, jac=jac)[0], [2.5, 1.3, 0.5], rtol=digits)
    bounded = curve_fit(model, X, y, jac="2-point", bounds=(0, [2.0, 5, 5]), method="trf")[0]
    np.testing.assert_allclose(bounded, curve_fit(mg_model, X, y, bounds=(0, [2.0, 5, 5]))[0], rtol=1e-6)


def mg_model(x, a, b, c):
    return a * mg.exp(-b * x) + c
