"""Nesterov's method seen from both of its points, and what the theory says of it and of the heavy ball.

Claimed: the look-ahead form and the rewritten form are one sequence, x = y + ahead, for every momentum and while the
rate changes; each is what the papers write, with gradients of a loss; the rates of convergence are those proven; and a
step that cannot be taken leaves the parameters where they were.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from tests.support.optim_makers import leaves, values

METHODS = {
    "Nesterov": ({"lr": 0.05, "momentum": 0.9}, lambda k, lr: 0.9),
    "NAGC": ({"lr": 0.05}, lambda k, lr: k / (k + 3)),
    "NAGSC": (
        {"lr": 0.05, "strong_convexity": 0.5},
        lambda k, lr: (1 - np.sqrt(0.5 * lr)) / (1 + np.sqrt(0.5 * lr)),
    ),
}


def wavy(p):
    """Not convex, and with a gradient that says where one is."""
    return (mg.sin(3 * p) + 0.5 * p * p).sum()


def slope(x):
    return 3 * np.cos(3 * x) + x


def closure_for(optimizer, p, loss=wavy, seen=None):
    def closure():
        if seen is not None:
            seen.append(values([p])[0])
        optimizer.zero_grad()
        value = loss(p)
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("shape", [(), (5,), (90, 80)])
@pytest.mark.parametrize("name", METHODS)
def test_the_look_ahead_form_and_the_rewritten_form_are_one_sequence(name, shape):
    options, momentum = METHODS[name]
    start = np.random.default_rng(0).standard_normal(shape)
    (y,), (x,) = leaves(start), leaves(start)
    ahead_form = getattr(optim, name)([y], look_ahead=True, **options)
    rewritten = getattr(optim, name)([x], **options)
    seen, exact_y, exact_x = [], start, start
    for k in range(60):
        lr = 0.05 if k < 30 else 0.01
        ahead_form.param_groups[0]["lr"] = rewritten.param_groups[0]["lr"] = lr
        ahead_form.step(closure_for(ahead_form, y, seen=seen))
        np.testing.assert_allclose(seen[-1], values([x])[0], rtol=0, atol=1e-12)  # the gradient was taken at x
        rewritten.step(closure_for(rewritten, x))
        before, exact_y = exact_y, exact_x - lr * slope(exact_x)
        exact_x = exact_y + momentum(k, lr) * (exact_y - before)
        for optimizer, p in [(ahead_form, y), (rewritten, x)]:
            ahead = optimizer.state[p]["ahead"]
            here = values([p])[0]
            np.testing.assert_allclose(here if p is y else here - ahead, exact_y, rtol=0, atol=1e-12)
            np.testing.assert_allclose(here + ahead if p is y else here, exact_x, rtol=0, atol=1e-12)


def test_they_are_the_lectures_formulas_with_a_velocity():
    """v <- mu v - lr g(p + mu v), p <- p + v; and for q = p + mu v: q <- q + v_new + mu (v_new - v)."""
    start = np.array([0.7, -1.2, 2.0])
    (p,), (q,) = leaves(start), leaves(start)
    ahead_form, rewritten = optim.Nesterov([p], 0.05, 0.9, look_ahead=True), optim.Nesterov([q], 0.05, 0.9)
    exact_p, exact_q, v, w = start, start, 0, 0
    for _ in range(50):
        v = 0.9 * v - 0.05 * slope(exact_p + 0.9 * v)
        exact_p = exact_p + v
        w, old = 0.9 * w - 0.05 * slope(exact_q), w
        exact_q = exact_q + w + 0.9 * (w - old)
        ahead_form.step(closure_for(ahead_form, p))
        rewritten.step(closure_for(rewritten, q))
        np.testing.assert_allclose(values([p, q]), [exact_p, exact_q], rtol=0, atol=1e-12)


# --- rates ---


def quadratic_of(curvatures):
    return lambda p: (mg.tensor(curvatures) * p * p).sum() / 2


@given(st.floats(2, 1000), st.integers(0, 100))
def test_nag_sc_from_the_condition_number_is_as_fast_as_proven(condition, seed):
    """f(y_k) - f* <= (1 - 1/sqrt(kappa))^k (f(x_0) - f* + mu/2 ||x_0 - x*||^2): Nesterov 2004, theorem 2.2.3."""
    curvatures = np.geomspace(2.0, 2.0 * condition, 6)
    start = np.random.default_rng(seed).standard_normal(6)
    (p,) = leaves(start)
    optimizer = optim.NAGSC.from_curvature([p], 2.0, 2.0 * condition, look_ahead=True)
    r = 1 / np.sqrt(condition)
    assert optimizer.momentum(optimizer.param_groups[0], 1) == pytest.approx((1 - r) / (1 + r), rel=1e-12)
    loss = quadratic_of(curvatures)
    bound = loss(p).item() + (start**2).sum()
    for _ in range(60):
        optimizer.step(closure_for(optimizer, p, loss))
        bound *= 1 - r
        assert loss(p).item() <= bound * (1 + 1e-9) + 1e-25


@given(st.integers(0, 100))
def test_nag_c_is_as_fast_as_proven_where_gradient_descent_is_not(seed):
    """f(y_k) - f* <= 2 ||x_0 - x*||^2 / (s (k + 1)^2): Su, Boyd & Candes 2016, equation 2."""
    curvatures = np.geomspace(1e-6, 1.0, 40)
    start = np.random.default_rng(seed).standard_normal(40)
    loss = quadratic_of(curvatures)
    (p,), (q,) = leaves(start), leaves(start)
    fast, slow = optim.NAGC([p], 1.0, look_ahead=True), optim.SGD([q], 1.0)
    for k in range(1, 200):
        fast.step(closure_for(fast, p, loss))
        slow.step(closure_for(slow, q, loss))
        assert loss(p).item() <= 2 * (start**2).sum() / (k + 1) ** 2
    assert loss(p).item() < 0.5 * loss(q).item()


@pytest.mark.parametrize("condition", [4.0, 100.0, 2500.0])
def test_the_heavy_ball_from_curvature_falls_by_the_root_of_its_momentum_a_step(condition):
    curvatures = np.geomspace(3.0, 3.0 * condition, 5)
    (p,) = leaves(np.ones(5))
    optimizer = optim.HeavyBall.from_curvature([p], 3.0, 3.0 * condition)
    rate = (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(rate**2)
    steps = round(10 * np.sqrt(condition))
    for _ in range(steps):
        optimizer.step(closure_for(optimizer, p, quadratic_of(curvatures)))
    size = np.linalg.norm(values([p])[0])
    assert 1e-3 * rate**steps < size < 10 * steps * rate**steps  # double roots bring the factor k


def test_no_curvature_at_all_is_refused():
    params = leaves(np.ones(2))
    for make in (optim.HeavyBall.from_curvature, optim.NAGSC.from_curvature):
        with pytest.raises(ValueError, match="largest=0"):
            make(params, 0, 0)
        with pytest.raises(ValueError, match=r"largest=1.*2 or more"):
            make(params, 2, 1)


# --- the look-ahead form's closure ---


def begun(**options):
    params = leaves(np.ones(3), np.full(2, 2.0))
    optimizer = optim.Nesterov(params, lr=0.1, look_ahead=True, **options)
    optimizer.step(lambda: run_backward(params))
    return params, optimizer


def run_backward(params):
    loss = sum((p * p).sum() for p in params)
    loss.backward()
    return loss


def test_a_step_without_a_closure_is_refused():
    _, optimizer = begun()
    with pytest.raises(TypeError, match=r"closure.*look_ahead=False"):
        optimizer.step()


def test_a_closure_that_raises_leaves_the_parameters_where_they_were():
    params, optimizer = begun()
    before = values(params)

    def closure():
        assert not np.array_equal(values(params)[0], before[0])
        raise RuntimeError("no batch")

    with pytest.raises(RuntimeError, match="no batch"):
        optimizer.step(closure)
    for a, b in zip(values(params), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_parameter_that_got_no_gradient_and_one_whose_step_is_skipped_stand_where_they_were():
    params, optimizer = begun(nonfinite="skip")
    before = values(params)

    def gradients(*given):
        def closure():
            for p, g in zip(params, given, strict=True):
                p.grad = None if g is None else mg.tensor(g)

        return closure

    optimizer.step(gradients(np.ones(3), None))
    np.testing.assert_array_equal(values(params)[1], before[1])
    assert not np.array_equal(values(params)[0], before[0])
    before = values(params)
    optimizer.step(gradients(np.array([1.0, np.nan, 1.0]), np.ones(2)))
    assert optimizer.skipped_steps == 1
    for a, b in zip(values(params), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_groups_may_differ_in_form():
    start = np.array([0.5, -0.4])
    y, x = leaves(start, start)
    both = optim.Nesterov([{"params": [y], "look_ahead": True}, {"params": [x]}], lr=0.05)
    (alone,) = leaves(start)
    reference = optim.Nesterov([alone], lr=0.05)
    for _ in range(20):
        both.step(closure_for(both, y, lambda _: wavy(y) + wavy(x)))
        reference.step(closure_for(reference, alone))
    np.testing.assert_allclose(values([x])[0], values([alone])[0], rtol=1e-13)
    np.testing.assert_allclose(values([y])[0] + both.state[y]["ahead"], values([alone])[0], rtol=1e-12)
