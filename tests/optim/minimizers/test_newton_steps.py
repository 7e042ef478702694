"""Newton's steps: subproblems against their optimality conditions, repaired matrices, the radius."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.optim.minimizers.lanczos import negative_curvature
from minigrad.optim.minimizers.positive_definite import REPAIRS, modified_cholesky, solve_positive
from minigrad.optim.minimizers.quadratic_model import Spectrum
from minigrad.optim.minimizers.steihaug import steihaug
from minigrad.optim.minimizers.trust_region import TrustRegion, share_of_promise
from minigrad.optim.solve.interpolation import quadratic_share
from minigrad.optim.solve.objective import Objective

# --- the subproblem of a trust region ---


@st.composite
def models(draw, lowest=-3):
    """(H, g): eigenvalues that may repeat or be zero, a slope that may have no part along some eigenvectors."""
    n = draw(st.integers(1, 8))
    values = np.array(draw(st.lists(st.integers(lowest, 5), min_size=n, max_size=n)), float)
    shares = np.array(draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), float)
    vectors, _ = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 10**6))).standard_normal((n, n)))
    size = 10.0 ** draw(st.integers(-6, 6))
    return size * (vectors * values) @ vectors.T, 10.0 ** draw(st.integers(-6, 6)) * vectors @ shares


radii = st.sampled_from([1e-8, 1e-3, 0.1, 1.0, 30.0, 1e6])


def value(H, g, p):
    return g @ p + p @ H @ p / 2


@given(models(), radii)
def test_the_step_within_a_radius_fulfils_the_conditions_of_a_global_minimum(model, radius):
    """More & Sorensen 1983: (H + l I) p = -g with l >= 0, l (radius - |p|) = 0, H + l I positive semi-definite."""
    H, g = model
    H = (H + H.T) / 2
    p, predicted = Spectrum(H, g).within(radius)
    length, size = np.linalg.norm(p), np.linalg.norm(H, 2)
    rounding = 1e-7 * (np.linalg.norm(g) + size * length)
    assert length <= radius * (1 + 1e-7)
    assert predicted == pytest.approx(-value(H, g, p), rel=1e-6, abs=1e-7 * rounding * length)
    multiplier = max(0.0, -(g + H @ p) @ p / (p @ p)) if length > 0 else 0.0
    assert np.linalg.norm(H @ p + multiplier * p + g) <= rounding
    assert np.linalg.eigvalsh(H)[0] + multiplier >= -1e-7 * (size + multiplier)
    assert multiplier * (radius - length) <= 1e-6 * (size + multiplier) * radius


@given(models(), radii, st.integers(0, 10**6))
def test_no_other_step_within_the_radius_makes_the_model_lower(model, radius, seed):
    H, g = model
    _, predicted = Spectrum(H, g).within(radius)
    others = np.random.default_rng(seed).standard_normal((50, g.size))
    others *= radius / np.linalg.norm(others, axis=1, keepdims=True)
    lowest = min(value(H, g, p) for p in [*others, *(0.3 * others)])
    assert -predicted <= lowest + 1e-9 * abs(lowest)


def test_the_hard_case_goes_to_the_border_along_the_lowest_eigenvector():
    """The slope has no part along it, and the rest of the step is shorter than the radius."""
    p, predicted = Spectrum(np.diag([-2.0, 1.0, 4.0]), np.array([0.0, 3.0, 0.0])).within(5.0)
    assert abs(p) == pytest.approx([math.sqrt(24), 1.0, 0.0])  # (H + 2 I)^-1 g = (0, 1, 0)
    assert predicted == pytest.approx(-(-3 - 24 + 0.5))


def test_at_a_saddle_without_slope_the_step_goes_to_the_border():
    p, predicted = Spectrum(np.diag([2.0, -1.0]), np.zeros(2)).within(3.0)
    assert abs(p) == pytest.approx([0.0, 3.0]) and predicted == pytest.approx(4.5)


@given(models(lowest=1), st.sampled_from([1e-3, 1.0, 1e3]))
def test_steihaugs_step_is_newtons_or_ends_on_the_border(model, share):
    H, g = model
    if not g.any():
        return
    newton = np.linalg.solve(H, -g)
    radius = share * np.linalg.norm(newton)
    p, predicted = steihaug(lambda v: H @ v, g, radius, 1e-12, 100)
    assert predicted == pytest.approx(-value(H, g, p), rel=1e-6)
    if share > 1:
        np.testing.assert_allclose(p, newton, atol=1e-8 * np.linalg.norm(newton))
    else:
        assert np.linalg.norm(p) == pytest.approx(radius, rel=1e-6 if share < 1 else 0.2)


@given(models(), radii)
def test_steihaugs_step_is_as_good_as_the_best_steepest_one(model, radius):
    H, g = model
    length, curvature = np.linalg.norm(g), g @ H @ g
    if length == 0:
        return
    t = radius / length if curvature <= 0 else min(radius / length, length**2 / curvature)
    p, predicted = steihaug(lambda v: H @ v, g, radius, 0.1, 100)
    assert np.linalg.norm(p) <= radius * (1 + 1e-9)
    rounding = 1e-15 * np.linalg.norm(H) * radius**2  # of p'Hp, where p lies along a zero eigenvalue
    assert predicted >= -value(H, g, -t * g) * (1 - 1e-6) - rounding


# --- matrices made positive definite ---


@given(models(lowest=1))
def test_what_is_positive_definite_is_left_alone(model):
    H, g = model
    np.testing.assert_allclose(modified_cholesky(H), 0, atol=1e-12 * abs(H).max())
    np.testing.assert_allclose(H @ solve_positive(H, g), g, atol=1e-9 * np.linalg.norm(g))


@given(models())
def test_the_modified_matrix_is_positive_definite_and_not_far_off(model):
    H, _ = model
    e = modified_cholesky(H)
    assert (e >= 0).all()
    assert np.linalg.eigvalsh(H + np.diag(e))[0] > 0
    assert e.max() <= 20 * H.shape[0] ** 2 * abs(H).max() + (1 if not H.any() else 0)


@pytest.mark.parametrize("repair", REPAIRS)
@given(model=models())
def test_a_repaired_matrix_gives_a_direction_downhill(repair, model):
    H, g = model
    p = REPAIRS[repair](H, -g)
    assert np.isfinite(p).all()
    assert not g.any() or g @ p < 0


def test_a_badly_scaled_matrix_is_solved_to_all_digits():
    """Condition 1e24, and 3 after scaling."""
    scale = np.array([1e6, 1e-6])
    H = scale * np.array([[2.0, 1.0], [1.0, 2.0]]) * scale[:, None]
    np.testing.assert_allclose(solve_positive(H, 3 * scale), 1 / scale, rtol=1e-14)


@pytest.mark.parametrize("H", [np.diag([1.0, -1e-3]), np.zeros((2, 2)), np.ones((2, 2)) + np.diag([0, -1e-9])])
def test_what_is_not_positive_definite_is_seen(H):
    assert solve_positive(H, np.ones(2)) is None


# --- the radius ---


def test_the_radius_shrinks_more_the_worse_the_model_was():
    assert quadratic_share(-1.0, math.inf) == quadratic_share(-1.0, 1e9) == 0.1
    assert quadratic_share(-1.0, 1.0) == pytest.approx(0.25)  # the parabola -t + 2 t^2
    assert quadratic_share(-1.0, -0.5) == quadratic_share(-1.0, -3.0) == 0.5


def test_decreases_that_are_only_rounding_count_as_promised():
    at = Objective(lambda x: x[0] * 0 + 1e6, [1.0]).at
    assert share_of_promise(at(np.ones(1)), at(np.ones(1)), 1e-14) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"radius": math.inf}, {"max_radius": -1}, {"accept": 0.5}])
def test_a_region_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="TrustRegion"):
        TrustRegion(**wrong)


# --- the lowest eigenvalue ---


def test_lanczos_finds_the_one_negative_eigenvalue_of_many(random):
    vectors, _ = np.linalg.qr(random.standard_normal((200, 200)))
    values = np.append(np.linspace(0, 1, 199), -0.5)
    v = negative_curvature(lambda v: vectors @ (values * (v @ vectors)), np.zeros(200))
    assert np.linalg.norm(v) == pytest.approx(1)
    assert (v @ vectors) ** 2 @ values == pytest.approx(-0.5, rel=1e-3)
    assert negative_curvature(lambda v: vectors @ (abs(values) * (v @ vectors)), np.zeros(200)) is None
