"""Regularizers given to an optimizer: optimality conditions, projections, and the step around them.

Claimed: proximal L1 solves the lasso, with weights that are zero; max-norm is a projection; each goes by the rate of
its group, and is saved and restored with the optimizer.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import nn, optim
from minigrad.serialization import load_state, save_state
from minigrad.training.early_stopping import EarlyStopping
from tests.support import strict_backend
from tests.support.regularization_makers import Net, Weights, amounts, arrays, assert_close, batch, finite, weights

# --- proximal steps ---


def prox(regularizer, w, lr=1.0):
    model = Weights(w)
    regularizer.after_step(model.w, lr)
    return arrays(model)["w"]


@given(weights, amounts, amounts, st.floats(0.01, 2))
def test_the_proximal_step_solves_its_problem(w, l1, l2, lr):
    """u minimises lr (l1 |u| + l2 / 2 u^2) + (u - w)^2 / 2 just if w - u - lr l2 u lies in lr l1 times |u|'s slopes."""
    u = prox(optim.ProximalElasticNet(l1, l2), w, lr)
    pull = w - u - lr * l2 * u
    away = u != 0
    np.testing.assert_allclose(pull[away], lr * l1 * np.sign(u[away]), rtol=1e-9, atol=1e-9)
    assert np.all(np.abs(pull[~away]) <= lr * l1 * (1 + 1e-12) + 1e-12)
    np.testing.assert_array_equal(prox(optim.ProximalL1(l1), w, lr) == 0, np.abs(w) <= lr * l1)


@given(hnp.arrays(np.float64, (2, 6), elements=finite), st.floats(0, 50), st.floats(0.5, 100))
def test_proximal_steps_bring_points_nearer_and_not_apart(pair, l1, limit):
    for regularizer in (optim.ProximalL1(l1), optim.MaxNorm(limit)):
        a, b = (prox(regularizer, row[None]) for row in pair)
        assert np.linalg.norm(a - b) <= np.linalg.norm(pair[0] - pair[1]) * (1 + 1e-12) + 1e-12


def lasso(design, target, strength, steps, regularizers=(), penalty=None):
    """Minimise ||X w - y||^2 / (2 n) + strength |w| by gradient steps of the largest safe length."""
    n = len(target)
    model = Weights(np.zeros(design.shape[1]))
    rate = n / np.linalg.norm(design, 2) ** 2
    optimizer = optim.Regularized(optim.SGD(model.parameters(), lr=rate), model, *regularizers)
    x, y = mg.tensor(design), mg.tensor(target)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (mg.square(x @ model.w - y)).sum() / (2 * n)
        (loss if penalty is None else loss + penalty(model)).backward()
        optimizer.step()
    return arrays(model)["w"]


def sparse_problem(columns, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.where(np.arange(columns) % 3 == 0, rng.standard_normal(columns) * 2, 0)
    design = rng.standard_normal((rows, columns))
    return design, design @ truth + 0.1 * rng.standard_normal(rows)


@pytest.mark.parametrize("strength", [0.01, 0.3, 100.0])
def test_on_an_orthogonal_design_one_proximal_step_is_the_lasso(strength):
    design, target = sparse_problem(9)
    design = np.linalg.qr(design)[0] * math.sqrt(len(target))  # X^T X = n I
    correlation = design.T @ target / len(target)
    expected = np.sign(correlation) * np.maximum(np.abs(correlation) - strength, 0)
    found = lasso(design, target, strength, 1, [optim.ProximalL1(strength)])
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_proximal_l1_meets_the_conditions_of_the_lasso_with_weights_that_are_zero(seed):
    design, target = sparse_problem(9, seed=seed)
    strength = 0.4
    w = lasso(design, target, strength, 2000, [optim.ProximalL1(strength)])
    correlation = design.T @ (target - design @ w) / len(target)
    zero = w == 0
    assert 2 <= zero.sum() <= 8
    np.testing.assert_allclose(correlation[~zero], strength * np.sign(w[~zero]), atol=1e-10)
    assert np.all(np.abs(correlation[zero]) <= strength)
    by_gradient = lasso(design, target, strength, 2000, penalty=nn.L1Penalty(strength))
    assert np.all(by_gradient != 0)  # swinging about zero, and never there

    def objective(u):
        return np.sum((design @ u - target) ** 2) / (2 * len(target)) + strength * np.abs(u).sum()

    assert objective(w) < objective(by_gradient)


def test_the_proximal_elastic_net_meets_its_conditions():
    design, target = sparse_problem(9)
    w = lasso(design, target, 0.0, 2000, [optim.ProximalElasticNet(0.4, 0.2)])
    pull = design.T @ (target - design @ w) / len(target) - 0.2 * w
    np.testing.assert_allclose(pull[w != 0], 0.4 * np.sign(w[w != 0]), atol=1e-10)
    assert np.all(np.abs(pull[w == 0]) <= 0.4) and (w == 0).any()


# --- max-norm ---


@given(weights, st.floats(0.01, 200))
def test_max_norm_shortens_rows_keeps_directions_and_does_nothing_twice(w, limit):
    found = prox(optim.MaxNorm(limit), w)
    before, after = (np.linalg.norm(x.reshape(len(x), -1), axis=1) for x in (w, found))
    assert np.all(after <= limit * (1 + 1e-12))
    np.testing.assert_allclose(after, np.minimum(before, limit), rtol=1e-12)
    rows = found.reshape(len(w), -1) * before[:, None], w.reshape(len(w), -1) * after[:, None]
    np.testing.assert_allclose(*rows, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found[before <= limit], w[before <= limit])
    np.testing.assert_allclose(prox(optim.MaxNorm(limit), found), found, rtol=1e-12)


def test_max_norm_of_vectors_and_numbers_is_that_of_the_whole():
    np.testing.assert_allclose(prox(optim.MaxNorm(1.0), [3.0, 4.0]), [0.6, 0.8], rtol=1e-12)
    np.testing.assert_allclose(prox(optim.MaxNorm(1.0), -3.0), -1.0)
    np.testing.assert_allclose(prox(optim.ProximalL1(1.0), -3.0), -2.0)


# --- around the step ---


def test_regularizers_go_by_the_rate_of_each_group_at_each_step():
    model = nn.Module()
    model.a, model.b = nn.Parameter(mg.tensor(np.array([5.0]))), nn.Parameter(mg.tensor(np.array([5.0])))
    groups = [{"params": [model.a], "lr": 1.0}, {"params": [model.b], "lr": 0.1}]
    optimizer = optim.Regularized(optim.SGD(groups), model, optim.ProximalL1(1.0))
    scheduler = optim.StepLR(optimizer, 1, gamma=0.5)
    for _ in range(2):
        model.a.grad = model.b.grad = mg.tensor(np.zeros(1))
        optimizer.step()
        scheduler.step()
    assert arrays(model)["a"] == pytest.approx(5 - 1 - 0.5) and arrays(model)["b"] == pytest.approx(5 - 0.1 - 0.05)


def test_a_parameter_without_a_gradient_is_left_alone():
    model = Net()
    before = arrays(model)
    everything = [nn.L2Penalty(1.0), optim.DecoupledDecay(0.5), optim.ProximalL1(0.5), optim.MaxNorm(0.01)]
    optimizer = optim.Regularized(optim.SGD(model.parameters(), lr=0.1), model, *everything)
    optimizer.step()
    assert_close(arrays(model), before, 0)
    model.head.bias.grad = mg.tensor(np.ones(2))
    optimizer.step()
    changed = {name for name, value in arrays(model).items() if not np.array_equal(value, before[name])}
    assert changed == {"head.bias"}
    assert model.first.weight.grad is None


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_step_that_is_not_taken_is_not_regularized_either(nonfinite):
    model = Weights([1.0, 2.0])
    inside = optim.SGD(model.parameters(), lr=0.1, nonfinite=nonfinite)
    optimizer = optim.Regularized(inside, model, optim.DecoupledDecay(0.5), optim.ProximalL1(0.5), nn.L2Penalty(1.0))
    model.w.grad = mg.tensor(np.array([math.nan, 1.0]))
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError):
            optimizer.step()
    else:
        optimizer.step()
        assert optimizer.skipped_steps == 1
    np.testing.assert_array_equal(arrays(model)["w"], [1.0, 2.0])


def test_a_closure_is_called_before_its_gradients_are_changed():
    one, other = Weights([1.0, -2.0]), Weights([1.0, -2.0])
    a = optim.Regularized(optim.SGD(one.parameters(), lr=0.1), one, nn.L2Penalty(0.5))
    b = optim.SGD(other.parameters(), lr=0.1, weight_decay=0.5)

    def closure(model, optimizer):
        optimizer.zero_grad()
        loss = (model.w * model.w * model.w).sum()
        loss.backward()
        return loss

    assert a.step(lambda: closure(one, a)).item() == b.step(lambda: closure(other, b)).item()
    assert_close(arrays(one), arrays(other))


def test_saved_and_restored_the_sequence_goes_on(tmp_path):
    def build():
        model = Net()
        regularizers = optim.ProximalL1(0.01), optim.MaxNorm(0.5), nn.L2Penalty(0.1)
        return model, optim.Regularized(optim.Adam(model.parameters(), lr=0.05), model, *regularizers)

    def steps(model, optimizer, count):
        x, y = batch()
        for _ in range(count):
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(model(x), y).backward()
            optimizer.step()

    first = build()
    steps(*first, 10)
    save_state(tmp_path / "s.safetensors", [dict(first[0].state_dict()), first[1].state_dict()])
    second = build()
    saved = load_state(tmp_path / "s.safetensors")
    second[0].load_state_dict(saved[0])
    second[1].load_state_dict(saved[1])
    steps(*first, 10)
    steps(*second, 10)
    assert_close(arrays(first[0]), arrays(second[0]), 0)


def test_a_graph_that_saved_the_old_weights_will_not_go_back_over_the_new():
    model = Weights([[1.0, 2.0]])
    loss = (model.w * model.w).sum()
    optim.MaxNorm(0.1).after_step(model.w, 1.0)
    with pytest.raises(mg.GradientError, match=r"changed|written|in place"):
        loss.backward()


def test_on_a_gpu_nobody_waits_and_the_numbers_are_the_same():
    everything = [optim.DecoupledDecay(0.1), optim.ProximalElasticNet(0.1, 0.2), optim.MaxNorm(0.8), nn.L2Penalty(0.3)]
    results = []
    with strict_backend.installed():
        for device in ("cpu", "cuda"):
            model = Weights(np.random.default_rng(0).standard_normal((4, 5))).to(device)
            optimizer = optim.Regularized(optim.SGD(model.parameters(), lr=0.1), model, *everything)
            for _ in range(3):
                model.w.grad = mg.tensor(np.ones((4, 5)), device=device)
                before = strict_backend.traffic.copy()
                optimizer.step()
                assert strict_backend.traffic == before
            results.append(model.w.detach().numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


def test_what_makes_no_sense_is_refused():
    model = Net()
    sgd = optim.SGD(model.parameters(), lr=0.1)
    for call, kind, words in [
        (lambda: nn.L2Penalty(-1), ValueError, "L2Penalty: strength=-1"),
        (lambda: nn.ElasticNet(0.1, math.nan), ValueError, "strength=nan"),
        (lambda: nn.WeightDistance([1, 2], 0.1), TypeError, "mapping from names"),
        (lambda: nn.WeightDistance({"w": np.ones(3)}, 1)(Weights(np.ones(2))), mg.ShapeError, r"\(2,\) and \(3,\)"),
        (lambda: nn.LayerDistance("first", "third", 0.1)(model), ValueError, "no module 'third'; it has first, second"),
        (lambda: nn.LayerDistance("first", "head", 0.1)(model), mg.ShapeError, "no distance"),
        (lambda: nn.LayerDistance("first", "relu", 0.1)(model), ValueError, "a ReLU, has no weight, bias"),
        (lambda: nn.ActivationL1(model, nn.Tanh, 0.1), ValueError, "none of the modules of Net"),
        (lambda: optim.ProximalL1(-0.1), ValueError, "ProximalL1: l1=-0.1"),
        (lambda: optim.MaxNorm(0), ValueError, "limit=0"),
        (lambda: optim.DecoupledDecay("1"), TypeError, "rate must be a number"),
        (lambda: optim.Regularized(model, sgd), TypeError, "an Optimizer to wrap, got a Net"),
        (lambda: optim.Regularized(sgd, model, 0.1), TypeError, "a StepRegularizer or a penalty, got a float"),
        (lambda: optim.Regularized(sgd, model, optim.ProximalL1(0.1, "conv*")), ValueError, "chooses none"),
        (lambda: EarlyStopping(model, patience=0), ValueError, "patience=0"),
        (lambda: EarlyStopping(model, mode="least"), ValueError, "'min' or 'max'"),
        (lambda: EarlyStopping(model).load_state_dict({}), ValueError, "expected best, since, weights"),
    ]:
        with pytest.raises(kind, match=words):
            call()
