"""curve_fit: SciPy's results, and on linear models the textbook's formulas for the covariance."""

import functools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import minigrad as mg
from minigrad.optim import curve_fit
from minigrad.optim.fitting.covariance import covariance, deviations
from tests.support import strict_backend

seeds = st.integers(0, 2**32 - 1)
X = np.linspace(0, 4, 40)


def decay(x, a, b, c):
    """For Tensors, which numbers beside them become, and for arrays."""
    xp = mg if isinstance(x, mg.Tensor) else np
    return a * xp.exp(-b * x) + c


def observed(seed=0):
    return decay(X, 2.5, 1.3, 0.5) + 0.1 * np.random.default_rng(seed).standard_normal(X.size)


def random_covariance(seed, size=X.size):
    A = np.random.default_rng(seed).standard_normal((size, size)) / size**0.5
    return 0.01 * (A @ A.T + np.eye(size))


SIGMAS = {
    "none": None,
    "a number": 0.3,
    "one for each observation": 0.1 + 0.05 * X,
    "a covariance": random_covariance(1),
}


@pytest.mark.parametrize("absolute_sigma", [False, True])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_parameters_and_covariance_are_scipys(sigma, absolute_sigma):
    optimize = pytest.importorskip("scipy.optimize")
    options = {"sigma": SIGMAS[sigma], "absolute_sigma": absolute_sigma}
    best, cov = curve_fit(decay, X, observed(), **options)
    expected, expected_cov = optimize.curve_fit(decay, X, observed(), ftol=1e-15, xtol=1e-15, gtol=1e-15, **options)
    assert_allclose(best, expected, rtol=1e-7)
    assert_allclose(cov, expected_cov, rtol=1e-5)  # SciPy's derivative is by differences


@given(seeds, st.sampled_from(["none", "one for each observation", "a covariance"]), st.booleans())
def test_on_a_linear_model_the_formulas_hold(seed, sigma, absolute_sigma):
    """Generalised least squares (Aitken 1935): cov = (A'W A)^-1, the best A b = y in the norm of W = Sigma^-1."""
    random = np.random.default_rng(seed)
    A, y, given_sigma = random.standard_normal((X.size, 3)), random.standard_normal(X.size), SIGMAS[sigma]
    Sigma = np.eye(X.size) if given_sigma is None else given_sigma
    W = np.linalg.inv(np.diag(Sigma**2) if Sigma.ndim == 1 else Sigma)

    def model(columns, a, b, c):
        return columns @ mg.stack([a, b, c])

    best, cov = curve_fit(model, A, y, sigma=given_sigma, absolute_sigma=absolute_sigma)
    formula = np.linalg.inv(A.T @ W @ A)
    assert_allclose(best, formula @ A.T @ W @ y, rtol=1e-8, atol=1e-10)
    rest = A @ best - y
    scale = 1 if absolute_sigma else rest @ W @ rest / (X.size - 3)
    assert_allclose(cov, scale * formula, rtol=1e-9, atol=1e-12)


@given(seeds, st.floats(0, 6))
def test_deviations_do_not_lose_twice_the_digits(seed, spread):
    """Columns of any length: the deviations are those of the unscaled columns, divided by the lengths."""
    random = np.random.default_rng(seed)
    J, lengths = random.standard_normal((9, 4)), 2.0 ** np.round(random.uniform(-4, 4, 4) * spread)
    plain, rank = covariance(J)
    assert rank == 4
    assert_allclose(deviations(covariance(J * lengths)[0]), deviations(plain) / lengths, rtol=1e-12)


def test_a_flat_direction_has_no_finite_covariance():
    cov, rank = covariance(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]))
    assert rank == 1
    assert np.isinf(cov).all()
    with pytest.warns(RuntimeWarning, match="do not determine all 2 parameters"):
        best, cov = curve_fit(lambda x, a, b: (a + b) * x, X, 2 * X)
    assert np.isinf(cov).all()
    assert best.sum() == pytest.approx(2)
    with pytest.warns(RuntimeWarning, match="the 3 observations"):
        curve_fit(decay, X[:3], observed()[:3])


@pytest.mark.parametrize("loss", ["soft_l1", "cauchy"])
def test_bounds_and_robust_losses_are_scipys(loss):
    optimize = pytest.importorskip("scipy.optimize")
    options = {"bounds": ([0, 0, -1], [2.2, 5, 1]), "loss": loss, "f_scale": 0.1}
    best, cov = curve_fit(decay, X, observed(), **options)
    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
    expected, expected_cov = optimize.curve_fit(decay, X, observed(), **options, **tight)
    assert best[0] == 2.2
    assert_allclose(best, expected, rtol=1e-5)
    if loss == "soft_l1":  # for cauchy SciPy gives far residuals a weight of its own in J
        assert_allclose(cov, expected_cov, rtol=1e-3)


@pytest.mark.parametrize(
    "bounds", [(0, 3), (-np.inf, 3), (0, np.inf), ([0.1, -np.inf, -np.inf], [3, 4, np.inf])], ids=str
)
def test_without_p0_the_start_lies_within_the_bounds(bounds):
    best, _ = curve_fit(decay, X, observed(), bounds=bounds)
    assert_allclose(best, curve_fit(decay, X, observed())[0], rtol=1e-6)


def test_a_given_jacobian_lets_the_model_be_plain_numpy():
    def model(x, a, b):
        assert isinstance(x, np.ndarray)
        return a * np.exp(-b * x)

    def jac(x, a, b):
        return np.stack([np.exp(-b * x), -a * x * np.exp(-b * x)], 1)

    for sigma in SIGMAS.values():
        best, cov = curve_fit(model, X, observed(), sigma=sigma, jac=jac)
        expected, expected_cov = curve_fit(lambda x, a, b: a * mg.exp(-b * x), X, observed(), sigma=sigma)
        assert_allclose(best, expected, rtol=1e-9)
        assert_allclose(cov, expected_cov, rtol=1e-7)


def test_predictors_may_be_rows_lists_or_anything():
    two = np.stack([X, np.cos(X)])
    y = 2 * two[0] - 3 * two[1]
    for predictors in (two, two.tolist(), mg.Tensor(two)):
        assert_allclose(curve_fit(lambda x, a, b: a * x[0] + b * x[1], predictors, y)[0], [2, -3])
    table = {"line": mg.Tensor(two[0]), "wave": mg.Tensor(two[1])}
    assert_allclose(curve_fit(lambda x, a, b: a * x["line"] + b * x["wave"], table, y)[0], [2, -3])
    assert_allclose(curve_fit(lambda x, *p: p[0] * x + p[1], X, 2 * X + 1, p0=[0, 0])[0], [2, 1])
    assert_allclose(curve_fit(lambda x, a: a * x, [1, 2, 3], [2, 4, 6])[0], [2])


def test_full_output_has_scipys_five_parts():
    best, cov, info, message, status = curve_fit(decay, X, observed(), full_output=True)
    assert_allclose(info["fvec"], decay(X, *best) - observed(), atol=1e-12)
    assert info["nfev"] > 0
    assert (message, status) == (info.message, info.status)
    assert status > 0
    assert_allclose(cov, info.cov)


def test_data_on_a_device_stay_there():
    with strict_backend.installed():
        x, y = mg.tensor(X, device="cuda"), mg.tensor(observed(), device="cuda")
        best, cov = curve_fit(decay, x, y)
        matrix = mg.tensor(random_covariance(1), device="cuda")
        weighted, _ = curve_fit(decay, x, y, mg.tensor(np.ones(3), device="cuda"), sigma=matrix)
    expected, expected_cov = curve_fit(decay, X, observed())
    assert_allclose(best.get(), expected, rtol=1e-9)
    assert_allclose(cov.get(), expected_cov, rtol=1e-7)
    assert_allclose(weighted.numpy(), curve_fit(decay, X, observed(), sigma=random_covariance(1))[0], rtol=1e-9)


def test_a_fit_that_fails_says_why():
    with pytest.raises(RuntimeError, match="NaN or infinite at x0"):
        curve_fit(lambda x, a: mg.log(a) * x, X, X, p0=[-1.0])
    with pytest.raises(RuntimeError, match="raise max_nfev"):
        curve_fit(decay, X, observed(), max_nfev=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f": lambda x, a: a * mg.sum(x)}, r"shape \(\) for ydata \(40,\)"),
        ({"f": lambda x, *p: p[0] * x}, "give p0"),
        ({"xdata": np.where(X > 3, np.nan, X)}, "xdata holds NaN"),
        ({"ydata": np.full(40, np.inf)}, "ydata holds NaN"),
        ({"sigma": np.zeros(40)}, "not positive"),
        ({"sigma": np.ones(3)}, r"sigma has shape \(3,\)"),
        ({"sigma": -np.eye(40)}, "positive definite"),
        ({"sigma": np.eye(40) + 0.5 * np.eye(40, k=1)}, "symmetric positive definite"),
        ({"sigma": np.eye(40) + 0.5 * np.eye(40, k=-1)}, "symmetric positive definite"),
        ({"method": "matrix-free"}, "no Jacobian"),
    ],
    ids=lambda change: " ".join(change) if isinstance(change, dict) else "",
)
def test_arguments_that_do_not_fit_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        curve_fit(**{"f": decay, "xdata": X, "ydata": observed(), **change})


def line(x, a, b, c):
    return a * x + b + c


@pytest.mark.parametrize(
    "model",
    [lambda x, a, b, *, c=2.0: a * x + b + c, functools.partial(line, c=2.0), lambda x, a, b, **more: a * x + b + 2.0],
    ids=["keyword-only", "partial", "any keywords"],
)
def test_what_comes_by_keyword_is_no_parameter_as_in_scipy(model):
    y = 3 * X + 4
    assert_allclose(curve_fit(model, X, y)[0], [3, 2], rtol=1e-9)
    assert_allclose(scipy.optimize.curve_fit(model, X, y)[0], [3, 2], rtol=1e-6)


@pytest.mark.parametrize("jac", [None, "2-point"])
def test_a_model_without_a_return_is_told(jac):
    with pytest.raises(TypeError, match="f returned None"):
        curve_fit(lambda x, a, b: None, X, X, jac=jac)
