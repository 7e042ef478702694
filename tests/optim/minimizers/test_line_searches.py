"""Step lengths keep what each rule promises: sufficient decrease, the Wolfe conditions, a quadratic's exact minimum."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.optim.minimizers.direction import OneStep
from minigrad.optim.minimizers.line_search import Armijo, ExactQuadratic, FixedStep, StrongWolfe, line_search
from minigrad.optim.solve.objective import Objective
from minigrad.optim.solve.vectors import dot, norm


class Given(OneStep):
    """A direction that is what it is told to be."""

    def __init__(self, step):
        self.step = np.asarray(step, dtype=float)

    def along(self, here):
        return self.step


def start(fun, x0=(0.0,)):
    objective = Objective(fun, np.array(x0, dtype=float))
    return objective.at(objective.variables.start)


def recorded(objective):
    """A list that fills with the points at which the objective is computed from now on."""
    tried, at = [], objective.at

    def remember(x):
        tried.append(at(x))
        return tried[-1]

    objective.at = remember
    return tried


def polynomial(coefficients):
    """phi(t) = c0 + c1 t + c2 t^2 + ..., of the one number x."""

    def fun(x):
        value = 0.0 * x
        for c in reversed(coefficients):
            value = value * x + c
        return value.sum()

    return fun


small = st.floats(-5, 5).map(lambda x: round(x, 3))
rising = st.tuples(
    small,
    st.floats(0.01, 100).map(lambda x: -x),
    small,
    st.one_of(st.tuples(st.floats(0.05, 5)), st.tuples(small, st.floats(0.05, 5))),
).map(lambda parts: [*parts[:3], *parts[3]])
"""Cubics and quartics that fall at 0 and rise in the end."""

lengths = st.sampled_from([1e-4, 0.03, 1.0, 7.0, 1e3])


@given(rising, lengths, st.sampled_from([0.1, 0.4, 0.9]))
def test_strong_wolfe_conditions_hold_at_the_accepted_step(coefficients, length, c2):
    c1 = 1e-4
    here = start(polynomial(coefficients))
    new = StrongWolfe(c1, c2)(here, Given([length]))
    t = float(new.x[0]) / length
    slope, new_slope = float(here.g[0]) * length, float(new.g[0]) * length
    assert t > 0
    assert new.f <= here.f + c1 * t * slope
    assert abs(new_slope) <= c2 * abs(slope)


@given(rising, lengths)
def test_backtracking_ends_at_a_sufficient_decrease_and_not_before(coefficients, length):
    here = start(polynomial(coefficients))
    tried = recorded(here.objective)
    new = Armijo(1e-4)(here, Given([length]))
    fallen = [point.f <= here.f + 1e-4 * float(point.x[0]) * float(here.g[0]) for point in tried]
    assert fallen == [False] * (len(tried) - 1) + [True]
    assert new is tried[-1] and tried[0].x[0] == length


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_exact_step_ends_where_the_slope_along_the_direction_is_zero(n, seed):
    rng = np.random.default_rng(seed)
    root, b, x0, d = rng.standard_normal((n, n)), rng.standard_normal(n), rng.standard_normal(n), rng.standard_normal(n)
    A = root @ root.T + np.eye(n)
    here = start(lambda x: 0.5 * (x * (A @ x)).sum() - (b * x).sum(), x0)
    slope = float(here.g @ d)
    assume(abs(slope) > 1e-3)
    d = -d if slope > 0 else d
    new = ExactQuadratic()(here, Given(d))
    assert abs(float(new.g @ d)) <= 1e-9 * np.linalg.norm(A) * np.linalg.norm(d) * (1 + np.linalg.norm(new.x))
    assert here.objective.nfev == 2 and here.objective.nhev == 1


def test_exact_step_along_negative_curvature_still_goes_down():
    here = start(lambda x: (mg.cos(x)).sum(), [0.1])
    assert ExactQuadratic()(here, Given(-here.g)).f < here.f


def test_fixed_goes_where_it_is_told_even_up():
    here = start(lambda x: (x * x).sum(), [1.0])
    new = FixedStep(0.5)(here, Given([6.0]))
    assert new.x[0] == 4.0 and new.f == 16.0


@pytest.mark.parametrize("rule", [Armijo(), StrongWolfe(), ExactQuadratic()])
def test_no_search_goes_along_a_direction_that_leads_up(rule):
    here = start(lambda x: (x * x).sum(), [1.0])
    assert rule(here, Given([1.0])) is None
    assert here.objective.nfev == 1


@pytest.mark.parametrize("rule", [Armijo(), StrongWolfe(), ExactQuadratic()])
@pytest.mark.parametrize("length", [1.0, 1e3, 1e12])
def test_searches_turn_back_from_where_the_function_has_no_number(rule, length):
    here = start(lambda x: -mg.log(1 - x).sum() - 3 * x.sum(), [0.0])  # NaN beyond 1, infinite at 1; lowest at 2/3
    new = rule(here, Given([length]))
    assert new.f < here.f and 0 < new.x[0] < 1


@pytest.mark.parametrize("rule", [Armijo(), StrongWolfe()])
def test_searches_find_a_lower_point_beside_a_kink(rule):
    here = start(lambda x: (3 * mg.abs(x - 0.3) + x).sum(), [0.0])
    new = rule(here, Given([2.0]))
    assert new.f < here.f


def test_a_search_along_a_line_without_a_bottom_comes_to_an_end():
    here = start(lambda x: -x.sum())
    new = StrongWolfe()(here, Given([1.0]))
    assert new.f < -1e20 and here.objective.nfev < 40


def test_a_search_along_a_line_that_only_rises_comes_to_an_end():
    here = start(lambda x: mg.abs(x).sum(), [0.0])
    vars(here)["g"] = np.array([-1.0])  # a wrong derivative: what is promised is not kept anywhere
    for rule in (Armijo(), StrongWolfe()):
        assert rule(here, Given([1.0])) is None
    assert here.objective.nfev < 80


def test_gradients_are_computed_only_where_the_value_has_fallen():
    here = start(lambda x: (x**4).sum(), [1.0])
    tried = recorded(here.objective)
    StrongWolfe()(here, Given([-100.0]))
    assert len(tried) > 2
    assert ["g" in vars(point) for point in tried] == [point.f < here.f for point in tried]


def test_a_search_goes_on_by_slopes_where_values_are_level():
    """At 1 + 1e-8 the value of 1 + (x - 1)^2 differs from the lowest by 1e-16: no value tells the two apart."""
    here = start(lambda x: 1 + ((x - 1) ** 2).sum(), [1 + 1e-8])
    new = StrongWolfe()(here, Given([-1e-8]))
    assert abs(new.x[0] - 1) < 1e-14


@pytest.mark.parametrize("c1, c2", [(0.5, 0.1), (0.0, 0.9), (0.1, 1.0)])
def test_wolfe_constants_in_a_wrong_order_are_refused(c1, c2):
    with pytest.raises(ValueError, match="0 < c1 < c2 < 1"):
        StrongWolfe(c1, c2)


def test_line_searches_are_chosen_by_name_or_given():
    own = FixedStep(0.1)
    assert isinstance(line_search({"line_search": "Strong-Wolfe"}, "armijo"), StrongWolfe)
    assert isinstance(line_search({}, "armijo"), Armijo)
    assert line_search({"line_search": own}, "armijo") is own
    with pytest.raises(ValueError, match="fixed, armijo, exact, strong wolfe"):
        line_search({"line_search": "golden"}, "armijo")


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_lengths_survive_squares_out_of_range(scale):
    with np.errstate(all="ignore"):
        assert norm(scale * np.array([3.0, 4.0])) == pytest.approx(5 * scale)


def test_products_of_long_vectors_are_those_of_short_ones():
    v = np.random.default_rng(0).standard_normal(20_001)
    assert dot(v, v) == pytest.approx(float(np.sum(v * v)), rel=1e-12)
    assert norm(np.zeros(3)) > 0  # one may divide by it
