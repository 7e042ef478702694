"""How a least-squares fit ends: an honest word where a problem has no answer, and an answer where it has an odd
shape."""

import os
import signal
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose

import minigrad as mg
from minigrad.optim import least_squares
from minigrad.optim.fitting.fit_methods import FIT_METHODS

WITH_MATRIX = [name for name, method in FIT_METHODS.items() if method.scaling]


def rosenbrock(x):
    return mg.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


HOPELESS = {
    "NaN at x0": (lambda p: mg.log(p), [-1.0, 2.0], "NaN or infinite at x0"),
    "infinite at x0": (lambda p: 1 / p, [0.0, 2.0], "NaN or infinite at x0"),
    "squares overflow": (lambda p: 1e200 * p, [1.0, 2.0], "give them in a larger unit"),
    "squares underflow": (lambda p: 1e-200 * p, [1.0, 2.0], "give them in a smaller unit"),
    "infinite derivative": (lambda p: mg.sqrt(p) - 1, [0.0, 2.0], "derivative is NaN or infinite"),
    "constant": (lambda p: p * 0 + 1, [1.0, 2.0], "no residual changes with x"),
    "plateau": (lambda p: mg.stack([mg.exp(-(p[0] ** 2)) - 1, p[0] * 0 + 1]), [40.0], "no residual changes with x"),
}


@pytest.mark.parametrize("method", FIT_METHODS)
@pytest.mark.parametrize("trouble", HOPELESS)
def test_a_start_that_leads_nowhere_is_told(trouble, method):
    residuals, start, words = HOPELESS[trouble]
    with np.errstate(all="raise"):
        found = least_squares(residuals, start, method=method)
    assert not found.success
    assert words in found.message
    assert_allclose(found.x, start)


@pytest.mark.parametrize("method", FIT_METHODS)
def test_what_can_be_solved_is_solved_whatever_its_shape(method):
    two = mg.tensor([1.0, 2.0], dtype="float64")
    cases = {
        "not defined on the way": (lambda p: mg.log(p) - mg.log(two), [30.0, 0.1]),
        "more unknowns than residuals": (lambda p: mg.stack([p[0] * p[1] - 1, p[2] - 2 * p[3]]), [1.0, 5.0, 1.0, 1.0]),
        "residuals that are zero": (lambda p: p - two, [1.0, 2.0]),
        "a column of zeros": (lambda p: mg.stack([p[0] - 1, p[0] ** 2 - 1, p[1] * 0]), [4.0, 5.0]),
        "huge residuals": (lambda p: 1e140 * (p - two), [4.0, 5.0]),
        "huge unknowns": (lambda p: p * 1e-100 - two, [4e100, 5e100]),
        "one number": (lambda p: p**2 - 2, 3.0),
        "rank one": (lambda p: (p[0] + p[1]) * two - 2 * two, [1.0, 5.0]),
    }
    for name, (residuals, start) in cases.items():
        with np.errstate(all="raise"):
            found = least_squares(residuals, start, method=method)
            size = np.abs(residuals(mg.Tensor(np.atleast_1d(start))).numpy()).max()
        assert found.success, name
        assert np.abs(found.fun).max() <= 1e-8 * size, name


@pytest.mark.parametrize("method", WITH_MATRIX)
def test_a_jacobian_without_full_rank_is_told_and_the_step_is_the_shortest(method):
    t = mg.tensor([1.0, 2.0, 3.0], dtype="float64")
    found = least_squares(lambda p: (p[0] + p[1]) * t - (t + 1), [1.0, 5.0], method=method)
    assert found.success
    assert "rank 1 of 2" in found.message
    assert np.isinf(found.cov).all()
    assert_allclose(found.x - [1, 5], [(10 / 7 + 0 - 6 + 0) / 2] * 2, rtol=1e-6)


def test_short_steps_in_a_narrow_bend_are_no_success():
    """Powell's badly scaled function (More-Garbow-Hillstrom 3) with loose tolerances, in units that do not fit."""

    def residuals(x):
        return mg.stack([1e4 * x[0] * x[1] - 1, mg.exp(-x[0]) + mg.exp(-x[1]) - 1.0001])

    loose = {"ftol": 1e-5, "xtol": 1e-5, "gtol": 1e-5}
    found = least_squares(residuals, [0.0, 1.0], method="levenberg", **loose)
    assert (found.success, found.cost > 1e-3) == (False, True)
    assert "too short" in found.message
    found = least_squares(residuals, [0.0, 1.0])
    assert found.success
    assert found.cost < 1e-20


@pytest.mark.parametrize("method", FIT_METHODS)
def test_a_wrong_derivative_is_no_success(method):
    found = least_squares(lambda p: p - np.array([1.0, 2]), [4.0, 5], jac=lambda p: -np.eye(2), method=method)
    assert not found.success
    assert "no lower point" in found.message


@pytest.mark.parametrize("method", FIT_METHODS)
def test_the_callback_sees_every_step_and_may_stop(method):
    costs = []

    def callback(intermediate_result):
        assert intermediate_result.cost == pytest.approx(0.5 * np.sum(intermediate_result.fun**2))
        costs.append(intermediate_result.cost)
        if intermediate_result.nit == 3:
            raise StopIteration

    found = least_squares(rosenbrock, [-1.2, 1.0], method=method, callback=callback)
    assert (found.nit, found.success, found.cost) == (3, False, costs[-1])
    assert costs == sorted(costs, reverse=True)
    assert "callback" in found.message


def test_an_interrupt_keeps_what_was_reached():
    seen = []

    def callback(x):
        seen.append(x)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    found = least_squares(rosenbrock, [-1.2, 1.0], callback=callback)
    assert not found.success
    assert "interrupted" in found.message
    assert any((found.x == x).all() for x in seen)


def test_evaluations_are_counted_and_limited(capsys):
    calls = []

    def counted(x):
        calls.append(1)
        return rosenbrock(x)

    found = least_squares(counted, [-1.2, 1.0], verbose=2)
    assert found.nfev == len(calls)
    assert len(capsys.readouterr().out.splitlines()) == found.nit + 2
    short = least_squares(counted, [-1.2, 1.0], max_nfev=5)
    assert (short.success, short.nfev) == (False, 5)
    assert "max_nfev" in short.message


def test_memory_without_a_matrix_is_linear_in_the_parameters():
    """Twenty-odd vectors; a Jacobian of 20,000 unknowns would take 6 GB."""

    def peak(n):
        target = mg.Tensor(np.random.default_rng(0).standard_normal(n))
        tracemalloc.start()
        found = least_squares(
            lambda x: (x + 0.1 * x**3 - target, 0.5 * (x[1:] - x[:-1])), np.zeros(n), method="matrix-free"
        )
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.success
        assert found.jac is None and found.cov is None
        return most / n

    assert peak(20_000) <= 1.1 * peak(2_000) <= 400 * 1.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "nelder-mead"}, "no method 'nelder-mead'; there are lm"),
        ({"loss": "l1"}, "expected one of linear"),
        ({"f_scale": 0}, "f_scale=0"),
        ({"bounds": (2, 3)}, "x0 lies outside"),
        ({"bounds": (3, 2)}, "below its upper"),
        ({"bounds": 3}, r"expected \(lower, upper\)"),
        ({"bounds": (0, 2), "method": "gauss-newton"}, "knows no bounds"),
        ({"x_scale": "rows"}, "x_scale='rows'"),
        ({"x_scale": [1.0, 0.0]}, "positive"),
        ({"ftol": -1}, "ftol=-1"),
        ({"max_nfev": 0}, "max_nfev=0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        least_squares(rosenbrock, [1.2, 1.0], **options)


@pytest.mark.parametrize(
    ("residuals", "error", "words"),
    [
        (lambda x: (x > 0) * 1, TypeError, "int64, which have no derivative"),
        (lambda x: None, ValueError, "returned no residuals"),
        (lambda x: x[:0], ValueError, "returned no residuals"),
    ],
)
def test_a_function_that_gives_no_residuals_is_told_so(residuals, error, words):
    with pytest.raises(error, match=words):
        least_squares(residuals, [1.2, 1.0])
