"""The published problems are what was published: certified values reproduce, and both forms of a formula agree."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from tests.support.problems import mgh, nist

FITS = list(nist.PROBLEMS.values())
SUMS_OF_SQUARES = mgh.PROBLEMS
CHECKS = json.loads((Path(mgh.__file__).with_name("mgh_checks.json")).read_text())["problems"]


def complex_step(f, x):
    """The Jacobian (m, n) of `f`, exact to rounding: the imaginary part of f(x + ih) over h has no difference in it."""
    h = 1e-40
    return np.stack([f(x + 1j * h * e).imag / h for e in np.eye(x.size)], axis=1)


def deviations(problem):
    """Standard deviations of the parameters from QR of the Jacobian with its columns scaled to length one."""
    jacobian = complex_step(problem.residuals, problem.certified)
    lengths = np.linalg.norm(jacobian, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(jacobian / lengths)[1])
    return np.sqrt((inverse**2).sum(1) * problem.rss / problem.dof) / lengths


def fits(*, without=()):
    return pytest.mark.parametrize("fit", [f for f in FITS if f.name not in without], ids=lambda f: f.name)


all_sums = pytest.mark.parametrize("problem", SUMS_OF_SQUARES, ids=str)


# --- NIST ---


def test_all_27_are_here_in_nists_order():
    assert list(nist.PROBLEMS) == list(nist.MODELS)
    assert len(FITS) == 27


@fits(without=["Lanczos1"])
def test_the_certified_parameters_give_the_certified_sum_of_squares(fit):
    residuals = fit.residuals(fit.certified)
    assert residuals @ residuals == pytest.approx(fit.rss, rel=2e-10)  # all of its eleven digits, and two rounded ends


def test_the_certified_sum_of_squares_of_lanczos1_in_extended_precision():
    """Its residuals are 1e-13, less than what its parameters' eleven digits leave out: what is left after one linear
    correction of the parameters is compared, from data read as decimals."""
    if np.finfo(np.longdouble).eps > 2e-19:
        pytest.skip("no numbers of more than 64 bits on this machine")
    fit = nist.PROBLEMS["Lanczos1"]
    x, y = (np.array([np.longdouble(repr(float(v))) for v in values]) for values in (fit.x, fit.y))
    certified = np.array([np.longdouble(repr(float(v))) for v in fit.certified])
    residuals = fit.model(certified, x) - y
    base = np.linalg.qr(complex_step(fit.residuals, fit.certified))[0].astype(np.longdouble)
    for _ in range(2):  # once more takes away what the base's own rounding left
        residuals = residuals - base @ (base.T @ residuals)
    assert float(residuals @ residuals) == pytest.approx(fit.rss, rel=1e-3)


@fits()
def test_the_certified_deviations_are_those_of_the_jacobian_at_the_certified_parameters(fit):
    assert fit.deviation_digits(deviations(fit)) > 9


@fits()
def test_the_certified_parameters_are_a_minimum(fit):
    """A Gauss-Newton step from there stays within what eleven digits leave out, in units of the deviations."""
    jacobian, residuals = complex_step(fit.residuals, fit.certified), fit.residuals(fit.certified)
    step = np.linalg.lstsq(jacobian * fit.deviations, residuals, rcond=None)[0] * fit.deviations
    assert fit.digits(fit.certified - step) > 9


@fits()
@pytest.mark.parametrize("start", [0, 1])
def test_a_fit_is_the_same_function_on_tensors(fit, start):
    b = fit.starts[start]
    np.testing.assert_allclose(fit.residuals(mg.tensor(b)).numpy(), fit.residuals(b), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(fit.model(mg.tensor(b)).numpy(), fit.model(b), rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(fit.curve(fit.x, *b), fit.model(b))
    np.testing.assert_array_equal(fit.curve(mg.tensor(fit.x), *mg.tensor(b)).numpy(), fit.model(mg.tensor(b)).numpy())


@fits()
@pytest.mark.parametrize("start", [0, 1])
def test_the_jacobian_of_a_fit_is_that_of_complex_steps(fit, start):
    b = fit.starts[start]
    ours, exact = mg.jacobian(fit.residuals)(mg.tensor(b)).numpy(), complex_step(fit.residuals, b)
    assert np.abs((ours - exact) / np.abs(exact).max(0)).max() < 1e-12


def test_digits_are_those_of_the_worst_parameter():
    fit = nist.PROBLEMS["Misra1a"]
    assert fit.digits(fit.certified) == nist.MOST_DIGITS
    assert fit.digits(fit.certified * [1 + 1e-6, 1 + 1e-9]) == pytest.approx(6)
    assert fit.digits(mg.tensor(fit.certified * [1, 1 + 1e-3])) == pytest.approx(3)
    assert fit.digits(fit.certified * 100) == 0
    assert fit.digits([math.nan, fit.certified[1]]) == 0


LAYOUT = """NIST/ITL StRD
Dataset Name:  {fit.name}            ({fit.name}.dat)

Data:          1 Response  (y)
               {fit.level} Level of Difficulty

        Start 1     Start 2           Parameter     Standard Deviation
{parameters}

Residual Sum of Squares:                    {fit.rss:.10E}
Number of Observations:                           {fit.y.size}

Data:  y               x
{data}
"""


def as_published(fit, response=lambda y: y):
    """A data file in NIST's layout."""
    columns = zip(*fit.starts, fit.certified, fit.deviations, strict=True)
    parameters = [f"  b{i} = {a:.10g}  {b:.10g}  {c:.10E}  {d:.10E}" for i, (a, b, c, d) in enumerate(columns, 1)]
    rows = np.column_stack([response(fit.y), np.atleast_2d(fit.x).T])
    data = ["  ".join(f"{value:.15E}" for value in row) for row in rows]
    return LAYOUT.format(fit=fit, parameters="\n".join(parameters), data="\n".join(data)).replace("\n", "\r\n")


@pytest.mark.parametrize("name", ["ENSO", "Nelson", "Rat43"])
def test_a_file_of_nists_reads_as_what_is_kept(name, tmp_path):
    fit = nist.PROBLEMS[name]
    text = as_published(fit, np.exp if name == "Nelson" else lambda y: y)
    (tmp_path / f"{name}.dat").write_text(text)
    read = nist.load(tmp_path)
    assert list(read) == [name]
    for part in ("x", "y", "certified", "deviations", "starts"):
        np.testing.assert_allclose(getattr(read[name], part), getattr(fit, part), rtol=1e-14)
    assert (read[name].level, read[name].rss, read[name].dof) == (fit.level, fit.rss, fit.dof)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda text: text.replace("Dataset Name:", "Name:"), "Dataset Name"),
        (lambda text: text.replace("BoxBOD", "BoxBED"), "none of NIST's 27"),
        (lambda text: text[: text.rindex("E")].rpartition("\n")[0], "of 6 observations"),
    ],
)
def test_a_file_that_is_not_nists_is_refused(spoil, said):
    with pytest.raises(ValueError, match=said):
        nist.parse(spoil(as_published(nist.PROBLEMS["BoxBOD"])))


# --- Moré, Garbow, Hillstrom ---


def test_42_sizes_of_35_problems():
    assert len(SUMS_OF_SQUARES) == 42
    assert {problem.number for problem in SUMS_OF_SQUARES} == set(range(1, 36))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check['number']} n={len(check['checks'][0]['x'])}")
def test_residuals_are_those_of_another_rendering(check):
    size = len(check["checks"][0]["x"])
    problem = next(p for p in SUMS_OF_SQUARES if (p.number, p.n) == (check["number"], size))
    assert problem.m == check["m"]
    np.testing.assert_allclose(problem.x0, check["checks"][0]["x"], rtol=1e-15, atol=1e-16)
    for point in check["checks"]:
        r = problem.residuals(np.array(point["x"]))
        weighted = np.arange(1, r.size + 1) * r
        assert r @ r == pytest.approx(point["sums"][0], rel=1e-12)
        assert weighted.sum() == pytest.approx(point["sums"][1], abs=1e-12 * np.abs(weighted).sum())


def watson(x):
    """As printed: two sums for each of 29 residuals, and two residuals more."""
    n, residuals = len(x), []
    for i in range(1, 30):
        t = i / 29
        slope = sum((j - 1) * x[j - 1] * t ** (j - 2) for j in range(2, n + 1))
        residuals.append(slope - sum(x[j - 1] * t ** (j - 1) for j in range(1, n + 1)) ** 2 - 1)
    return [*residuals, x[0], x[1] - x[0] ** 2 - 1]


def penalty2(x):
    n, a = len(x), 1e-5
    residuals = [x[0] - 0.2]
    for i in range(2, n + 1):
        y = math.exp(i / 10) + math.exp((i - 1) / 10)
        residuals.append(a**0.5 * (math.exp(x[i - 1] / 10) + math.exp(x[i - 2] / 10) - y))
    residuals += [a**0.5 * (math.exp(x[i - n] / 10) - math.exp(-0.1)) for i in range(n + 1, 2 * n)]
    return [*residuals, sum((n - j + 1) * x[j - 1] ** 2 for j in range(1, n + 1)) - 1]


def brown_almost_linear(x):
    return [v + sum(x) - (len(x) + 1) for v in x[:-1]] + [math.prod(x) - 1]


def broyden_banded(x):
    n, residuals = len(x), []
    for i in range(1, n + 1):
        near = [j for j in range(max(1, i - 5), min(n, i + 1) + 1) if j != i]
        residuals.append(x[i - 1] * (2 + 5 * x[i - 1] ** 2) + 1 - sum(x[j - 1] * (1 + x[j - 1]) for j in near))
    return residuals


def chebyquad(x):
    """The mean of cos(i arccos(2x - 1)) less the integral of that polynomial from 0 to 1."""
    means = [np.mean(np.cos(i * np.arccos(2 * x - 1))) for i in range(1, len(x) + 1)]
    integrals = [0 if i % 2 else -1 / (i * i - 1) for i in range(1, len(x) + 1)]
    return np.subtract(means, integrals)


AS_PRINTED = {20: watson, 24: penalty2, 27: brown_almost_linear, 31: broyden_banded, 35: chebyquad}


@pytest.mark.parametrize("problem", [p for p in SUMS_OF_SQUARES if p.number in AS_PRINTED], ids=str)
def test_residuals_in_vectors_are_those_printed_as_sums(problem, random):
    x = random.uniform(0.1, 0.9, problem.n)
    np.testing.assert_allclose(problem.residuals(x), AS_PRINTED[problem.number](x), rtol=1e-12, atol=1e-13)


@all_sums
def test_scipy_ends_at_a_known_minimum(problem):
    """The start of Biggs is moved a little: it lies on a line of symmetry, where rounding decides where a run goes."""
    optimize = pytest.importorskip("scipy.optimize")
    start = problem.x0 + (0.01 * np.arange(6) if problem.name == "Biggs EXP6" else 0)

    def jacobian(x):
        return complex_step(problem.residuals, x)

    with np.errstate(all="ignore"):
        end = optimize.least_squares(
            problem.residuals, start, jacobian, method="lm", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=5000
        )
    assert mgh.solved(problem, 2 * end.cost) is not None


MINIMIZERS = {
    1: (1, 1),
    2: (5, 4),
    4: (1e6, 2e-6),
    5: (3, 0.5),
    7: (1, 0, 0),
    11: (50, 25, 1.5),
    12: (1, 10, 1),
    13: (0, 0, 0, 0),
    14: (1, 1, 1, 1),
    18: (1, 10, 1, 5, 4, 3),
    21: (1,) * 10,
    22: (0,) * 12,
    25: (1,) * 10,
    26: (0,) * 10,
    27: (1,) * 10,
    32: (-1,) * 10,
}


@pytest.mark.parametrize("number", MINIMIZERS)
def test_the_published_minimizer_has_the_smallest_known_sum_of_squares(number):
    problem = next(p for p in SUMS_OF_SQUARES if p.number == number)
    r = problem.residuals(np.array(MINIMIZERS[number], dtype=float))
    assert r @ r == pytest.approx(problem.minima[0], abs=1e-25)
    assert mgh.solved(problem, r @ r) == "global"


PUBLISHED = {6: 124.362, 8: 8.21487e-3, 9: 1.12793e-8, 10: 87.9458, 15: 3.07505e-4, 16: 85822.2, 17: 5.46489e-5}
PUBLISHED |= {19: 4.01377e-2, (20, 6): 2.28767e-3, (20, 9): 1.39976e-6, (20, 12): 4.72238e-10}
PUBLISHED |= {(23, 4): 2.24997e-5, (23, 10): 7.08765e-5, (24, 4): 9.37629e-6, (24, 10): 2.93660e-4}
PUBLISHED |= {33: 20 * 19 / (2 * 41), 34: (20**2 + 3 * 20 - 6) / (2 * 37), (35, 8): 3.51687e-3}


@pytest.mark.parametrize("key", PUBLISHED, ids=str)
def test_minima_carry_on_the_digits_that_are_published(key):
    number, n = key if isinstance(key, tuple) else (key, None)
    problem = next(p for p in SUMS_OF_SQUARES if p.number == number and n in (None, p.n))
    assert problem.minima[0] == pytest.approx(PUBLISHED[key], rel=1e-5 if number != 34 else 1e-12)


def test_the_global_minimum_comes_first_and_minima_are_told_apart():
    for problem in SUMS_OF_SQUARES:
        assert list(problem.minima) == sorted(problem.minima)
        kinds = [mgh.solved(problem, value) for value in problem.minima]
        assert kinds == ["global", "local", "local"][: len(kinds)]
        assert mgh.solved(problem, problem.residuals(problem.x0) @ problem.residuals(problem.x0)) is None
        assert mgh.solved(problem, math.nan) is None


@all_sums
def test_a_sum_of_squares_is_the_same_function_on_tensors(problem):
    for x in (problem.x0, problem.x0 + 0.01 * np.sin(np.arange(problem.n) + 1)):
        np.testing.assert_allclose(
            problem.residuals(mg.tensor(x)).numpy(), problem.residuals(x), rtol=1e-12, atol=1e-13
        )


@all_sums
def test_the_jacobian_of_a_sum_of_squares_is_that_of_complex_steps(problem):
    x = problem.x0 + 0.01 * np.sin(np.arange(problem.n) + 1)  # no zeros, and no two alike
    ours, exact = mg.jacobian(problem.residuals)(mg.tensor(x)).numpy(), complex_step(problem.residuals, x)
    assert ours.shape == (problem.m, problem.n)
    assert np.abs(ours - exact).max() < 1e-12 * np.abs(exact).max()


@all_sums
def test_the_hessian_of_a_sum_of_squares_is_the_difference_of_gradients(problem):
    x = problem.x0 + 0.01 * np.sin(np.arange(problem.n) + 1)
    direction = np.cos(np.arange(problem.n))
    h = 1e-6 * max(1, np.abs(x).max())

    def f(x):
        r = problem.residuals(x)
        return (r * r).sum()

    def gradient(x):
        return 2 * complex_step(problem.residuals, x).T @ problem.residuals(x)

    product = mg.hvp(f, mg.tensor(x), mg.tensor(direction)).numpy()
    difference = (gradient(x + h * direction) - gradient(x - h * direction)) / (2 * h)
    assert np.abs(product - difference).max() < 1e-5 * np.abs(product).max()
