"""Every method of `minimize` and `least_squares` on functions that make trouble.

Claimed: whatever the function, a run ends without an exception; `success` is said of finite results alone; and where
the message speaks of the gradient, the gradient, taken anew, is as small as it says.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.optim.fitting.fit_methods import FIT_METHODS
from minigrad.optim.minimizers.descent_methods import DESCENT_METHODS

NAN = float("nan")

FUNCTIONS = {
    "flat": (lambda x: (x * 0).sum() + 3.0, [1.0, 2.0]),
    "constant": (lambda x: mg.tensor(3.0), [1.0, 2.0]),
    "NaN": (lambda x: (x * NAN).sum(), [1.0, 2.0]),
    "infinite": (lambda x: (1 / (x * 0)).sum(), [1.0, 2.0]),
    "with a border": (lambda x: (x - mg.log(x)).sum(), [5.0, 0.01]),
    "lowest at its border": (lambda x: mg.sqrt(x - 1).sum(), [2.0, 5.0]),
    "a saddle ahead": (lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [1.0, 0.0]),
    "on a saddle": (lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [0.0, 0.0]),
    "unbounded": (lambda x: -(x**2).sum(), [1.0, 2.0]),
    "lowest at infinity": (lambda x: mg.exp(-x).sum(), [1.0, 2.0]),
    "with a kink": (lambda x: mg.abs(x).sum(), [1.0, 2.0]),
    "rank-deficient": (lambda x: (x[0] + x[1] - 1) ** 2, [4.0, 2.0]),
    "without a slope": (lambda x: mg.sqrt(x**2).sum(), [0.0, 0.0]),
    "huge": (lambda x: 1e300 * (x**2).sum(), [1e100, 1.0]),
    "unbounded beyond a flat place": (lambda x: x[0] ** 3 + x[1] ** 2, [1.0, 1.0]),
    "small beside its value": (lambda x: 1e20 + (x**2).sum(), [1.0, 1.0]),
}

RESIDUALS = {
    "flat": (lambda x: x * 0 + 1.0, [1.0, 2.0]),
    "constant": (lambda x: mg.tensor([1.0, 2.0, 3.0]), [1.0, 2.0]),
    "NaN": (lambda x: x * NAN, [1.0, 2.0]),
    "infinite": (lambda x: 1 / (x * 0), [1.0, 2.0]),
    "rank-deficient": (lambda x: mg.stack([x[0] + x[1] - 1, 2 * x[0] + 2 * x[1] - 3, x[0] + x[1]]), [1.0, 2.0]),
    "fewer than unknowns": (lambda x: x[:1] + x[1:2] * x[2:3] - 3, [1.0, 2.0, 3.0]),
    "a variable without effect": (lambda x: mg.stack([x[0] - 1, x[0] ** 2 - 2]), [3.0, 5.0]),
    "with a border": (lambda x: mg.log(x) - 1, [0.1, 8.0]),
    "zero": (lambda x: x - 1, [1.0, 1.0]),
    "huge": (lambda x: 1e200 * (x - 1), [3.0, 1.0]),
    "tiny": (lambda x: 1e-200 * (x - 1), [3.0, 1.0]),
    "without a slope": (lambda x: mg.sqrt(mg.abs(x)), [0.0, 1.0]),
}

SOLVABLE = {
    "flat", "constant", "with a border", "a saddle ahead", "on a saddle", "lowest at infinity", "rank-deficient",
    "small beside its value",
}  # fmt: skip
HOPELESS = {"NaN", "infinite", "lowest at its border", "without a slope"}
SOLVABLE_RESIDUALS = {"rank-deficient", "fewer than unknowns", "a variable without effect", "with a border", "zero"}
"""Of these every method must say that it succeeded; of the hopeless, and of all other residuals, that it failed."""

OF_ANY_FUNCTION = [name for name in DESCENT_METHODS if name != "hessian-free"]  # that one needs a Composite


@pytest.mark.parametrize("method", OF_ANY_FUNCTION)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_makes_trouble_ends_in_a_true_word(method, name):
    function, start = FUNCTIONS[name]
    bounds = [(-50, 50)] * 2 if method.startswith("projected") else None
    options = {"maxiter": 300}
    method = "l-bfgs" if bounds else method
    result = optim.minimize(function, start, method=method, bounds=bounds, options=options)
    assert result.message
    if name in SOLVABLE or name in HOPELESS:
        assert result.success == (name in SOLVABLE)
    if result.success:
        assert np.isfinite(result.fun) and np.isfinite(result.x).all()
        with np.errstate(all="ignore"):
            assert result.fun <= function(mg.tensor(start, dtype="f8")).item()
        if result.message == "the gradient is below gtol" and bounds is None:
            assert np.abs(mg.grad(function)(mg.Tensor(result.x)).numpy()).max() <= 1e-8


@pytest.mark.parametrize("loss", ["linear", "cauchy"])
@pytest.mark.parametrize("method", FIT_METHODS)
@pytest.mark.parametrize("name", RESIDUALS)
def test_residuals_that_make_trouble_end_in_a_true_word(method, name, loss):
    residuals, start = RESIDUALS[name]
    result = optim.least_squares(residuals, start, method=method, loss=loss)
    assert result.message and result.success == (name in SOLVABLE_RESIDUALS)
    if result.success:
        assert np.isfinite(result.cost) and np.isfinite(result.x).all()
        if result.message.startswith("the residuals are zero"):
            assert not residuals(mg.Tensor(result.x)).numpy().any()
