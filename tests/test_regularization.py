"""Regularizers, added to a loss and given to an optimizer: their formulas, identities and optimality conditions.

Claimed: penalties are the formulas of their docstrings; L2 and decoupled decay are one for SGD and two for Adam;
proximal L1 solves the lasso, with weights that are zero; max-norm is a projection; where="..." touches what it names
and nothing else; early stopping gives the best weights back.
"""

import math

import numpy as np
import pytest
import strict_backend
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataLoader, TensorDataset
from minigrad.early_stopping import EarlyStopping
from minigrad.serialization import load_state, save_state
from minigrad.training import evaluate, fit

# Zero, or far from where products lose bits.
finite = st.floats(-100, 100).map(lambda x: x if abs(x) > 1e-50 else 0.0)
amounts = st.floats(0, 10).map(lambda x: x if x > 1e-50 else 0.0)
weights = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=finite)


class Net(nn.Module):
    """Two layers alike, a norm, a head; float64."""

    def __init__(self, seed=0):
        super().__init__()
        mg.manual_seed(seed)
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)
        self.relu = nn.ReLU()
        self.double()

    def forward(self, x):
        return self.head(self.norm(self.relu(self.second(self.relu(self.first(x))))))


class Weights(nn.Module):
    """A model that is nothing but an array."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(mg.tensor(np.asarray(w, np.float64)))


def batch(seed=0, samples=12):
    rng = np.random.default_rng(seed)
    return mg.tensor(rng.standard_normal((samples, 3))), mg.tensor(rng.integers(0, 2, samples))


def arrays(model):
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def assert_close(found, expected, rtol=1e-12):
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=rtol, err_msg=name)


def gradients(penalty, model):
    model.zero_grad()
    value = penalty(model)
    value.backward()
    return value.item(), {name: None if p.grad is None else p.grad.numpy() for name, p in model.named_parameters()}


# --- penalties are their formulas ---


@given(weights, amounts, amounts)
def test_norm_penalties_and_their_gradients(w, l1, l2):
    model = Weights(w)
    for penalty, value, slope in [
        (nn.L2Penalty(l2), l2 / 2 * (w**2).sum(), l2 * w),
        (nn.L1Penalty(l1), l1 * np.abs(w).sum(), l1 * np.sign(w)),
        (nn.ElasticNet(l1, l2), l1 * np.abs(w).sum() + l2 / 2 * (w**2).sum(), l1 * np.sign(w) + l2 * w),
        (nn.L1Penalty(l1) + nn.L2Penalty(l2), l1 * np.abs(w).sum() + l2 / 2 * (w**2).sum(), l1 * np.sign(w) + l2 * w),
    ]:
        found, gradient = gradients(penalty, model)
        assert found == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(gradient["w"], slope, rtol=1e-12)


@given(weights, st.floats(0.1, 10))
def test_distance_to_given_weights(w0, strength):
    w = w0 + np.random.default_rng(0).standard_normal(w0.shape)
    distance = np.linalg.norm((w - w0).ravel())
    for penalty, value, slope in [
        (nn.WeightDistance({"w": w0}, strength), strength / 2 * distance**2, strength * (w - w0)),
        (nn.WeightDistance(Weights(w0), strength, squared=False), strength * distance, strength * (w - w0) / distance),
    ]:
        found, gradient = gradients(penalty, Weights(w))
        assert found == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(gradient["w"], slope, rtol=1e-10, atol=1e-12)
        at_home, gradient = gradients(penalty, Weights(w0))
        assert at_home == 0 and not gradient["w"].any()


def test_the_reference_is_a_copy_and_may_lack_the_head():
    model, x, y = Net(), *batch()
    penalty = nn.WeightDistance(model, 3.0, where=lambda name, p: not name.startswith("head"))
    before = arrays(model)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    nn.CrossEntropyLoss()(model(x), y).backward()
    optimizer.step()
    moved = sum(((arrays(model)[n] - before[n]) ** 2).sum() for n in before if not n.startswith("head"))
    assert moved > 0 and penalty(model).item() == pytest.approx(1.5 * moved, rel=1e-12)
    penalty.reference = {name: value for name, value in penalty.reference.items() if not name.startswith("head")}
    assert penalty(model).item() == pytest.approx(1.5 * moved, rel=1e-12)
    penalty.where = None
    with pytest.raises(ValueError, match=r"no head.weight, head.bias; choose others"):
        penalty(model)


@pytest.mark.parametrize("squared", [True, False])
def test_distance_between_layers_pulls_them_together(squared):
    model = Net()
    w, b = (
        model.first.weight.numpy() - model.second.weight.numpy(),
        model.first.bias.numpy() - model.second.bias.numpy(),
    )
    distance = math.sqrt((w**2).sum() + (b**2).sum())
    penalty = nn.LayerDistance("first", model.second, 2.0, squared=squared)
    value, gradient = gradients(penalty, model)
    assert value == pytest.approx(distance**2 if squared else 2 * distance, rel=1e-12)
    factor = 2.0 if squared else 2.0 / distance
    np.testing.assert_allclose(gradient["first.weight"], factor * w, rtol=1e-12)
    np.testing.assert_allclose(gradient["second.bias"], -factor * b, rtol=1e-12)
    only = nn.LayerDistance("first", "second", 2.0, where="weight")
    assert only(model).item() == pytest.approx((w**2).sum(), rel=1e-12)


def test_l1_on_activations_is_that_of_the_last_forward_pass():
    model, x, _ = Net(), *batch()
    sparse = nn.ActivationL1(model, nn.ReLU, 0.1)
    model(x + 1)  # a pass that nobody asked about is forgotten
    model(x)
    first = mg.relu(model.first(x))
    second = mg.relu(model.second(first))
    expected = 0.1 * (first.detach().numpy().sum() + second.detach().numpy().sum()) / len(x)
    value = sparse(model)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    assert model.first.weight.grad is not None and model.head.weight.grad is None
    with pytest.raises(RuntimeError, match="ask once for each forward pass"):
        sparse()
    model.eval()
    model(x)
    with pytest.raises(RuntimeError, match="in training mode"):
        sparse()
    model.train()
    sparse.remove()
    model(x)
    with pytest.raises(RuntimeError, match="in training mode"):
        sparse()


def test_l1_on_activations_makes_them_sparse():
    def share_of_zeros(strength):
        model, x, y = Net(), *batch(samples=60)
        sparse = nn.ActivationL1(model, "relu", strength)
        optimizer = optim.SGD(model.parameters(), lr=0.2)
        for _ in range(60):
            optimizer.zero_grad()
            (nn.CrossEntropyLoss()(model(x), y) + sparse(model)).backward()
            optimizer.step()
        return (mg.relu(model.second(mg.relu(model.first(x)))) < 1e-3).detach().numpy().mean()

    assert share_of_zeros(0.3) > share_of_zeros(0.0) + 0.2


def test_a_penalized_loss_is_plain_in_evaluation():
    model, (x, y) = Net(), batch()
    loss = nn.penalized(nn.functional.cross_entropy, nn.L2Penalty(1.0), model)
    model.eval()
    plain = nn.functional.cross_entropy(model(x), y).item()
    assert loss(model(x), y).item() == plain
    model.train()
    with_penalty = loss(model(x), y).item() - nn.functional.cross_entropy(model(x), y).item()
    assert with_penalty == pytest.approx(nn.L2Penalty(1.0)(model).item(), rel=1e-12)
    loader = DataLoader(TensorDataset(x, y), 12, prefetch=0)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    history = fit(model, loss, optimizer, loader, epochs=1, validation=loader, progress=False)
    expected, _ = evaluate(model, loader, nn.functional.cross_entropy)
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-12)
    assert history["train_loss"][0] > expected + 0.5


# --- which parameters ---


def test_parameters_are_chosen_by_pattern_patterns_or_predicate():
    model = Net()
    everything = [name for name, _ in model.named_parameters()]
    assert list(nn.select_parameters(model)) == everything
    assert list(nn.select_parameters(model, "*.weight")) == [n for n in everything if n.endswith("weight")]
    assert list(nn.select_parameters(model, ["head.*", "first.bias"])) == ["first.bias", "head.weight", "head.bias"]
    chosen = nn.select_parameters(model, nn.is_weight)
    assert list(chosen) == ["first.weight", "second.weight", "head.weight"]  # no norm.weight
    assert chosen["head.weight"] is model.head.weight
    with pytest.raises(ValueError, match=r"chooses none of the parameters of Net; they are first.weight"):
        nn.select_parameters(model, "layer1.*")
    with pytest.raises(TypeError, match="expected a pattern"):
        nn.select_parameters(model, [model.head])


@pytest.mark.parametrize(
    ("regularizer", "touched"),
    [
        (nn.L2Penalty(0.1, where="head.*"), {"head.weight", "head.bias"}),
        (optim.DecoupledDecay(0.1, where=nn.is_weight), {"first.weight", "second.weight", "head.weight"}),
        (optim.ProximalL1(0.1, where="*.bias"), {"first.bias", "second.bias", "norm.bias", "head.bias"}),
        (optim.MaxNorm(0.1, where=["first.*"]), {"first.weight", "first.bias"}),
        (optim.MaxNorm(0.1), {"first.weight", "second.weight", "head.weight"}),
    ],
    ids=lambda r: type(r).__name__,
)
def test_a_regularizer_touches_what_it_names_and_nothing_else(regularizer, touched):
    results = []
    for regularizers in ([], [regularizer]):
        model, (x, y) = Net(), batch()
        model.norm.bias.copy_(mg.ones(3))
        optimizer = optim.Regularized(optim.SGD(model.parameters(), lr=0.3), model, *regularizers)
        nn.CrossEntropyLoss()(model(x), y).backward()
        optimizer.step()
        results.append(arrays(model))
    plain, regularized = results
    assert {name for name in plain if not np.array_equal(plain[name], regularized[name])} == touched


def test_biases_and_norms_are_spared_decay_in_one_line():
    torch = pytest.importorskip("torch")
    model, (x, y) = Net(), batch()
    model.first.bias.requires_grad_(False)
    groups = optim.no_decay_groups(model, weight_decay=0.2)
    spared = [model.second.bias, model.norm.weight, model.norm.bias, model.head.bias]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in spared]
    optimizer = optim.AdamW(groups, lr=0.01)
    theirs = [[torch.tensor(p.detach().numpy().copy(), requires_grad=True) for p in g["params"]] for g in groups]
    reference = torch.optim.AdamW(
        [{"params": theirs[0], "weight_decay": 0.2}, {"params": theirs[1], "weight_decay": 0}], lr=0.01
    )
    for _ in range(20):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(model(x), y).backward()
        for group, peers in zip(groups, theirs, strict=True):
            for p, q in zip(group["params"], peers, strict=True):
                q.grad = torch.tensor(p.grad.numpy().copy())
        optimizer.step()
        reference.step()
    for group, peers in zip(groups, theirs, strict=True):
        for p, q in zip(group["params"], peers, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12)


def test_what_is_spared_can_be_said_and_empty_groups_are_left_out():
    model = Net()
    by_name = optim.no_decay_groups(model, 0.1, no_decay=["norm.*", "head.*"])
    assert [len(group["params"]) for group in by_name] == [4, 4]
    (only,) = optim.no_decay_groups(nn.Linear(2, 2, bias=False), 0.1)
    assert only["weight_decay"] == 0.1
    with pytest.raises(ValueError, match="weight_decay=-1"):
        optim.no_decay_groups(model, -1)


# --- L2 and decoupled decay ---

DECAY, RATE = 0.3, 0.05


def train(make_optimizer, penalty=None, steps=50, milestones=(20,)):
    """The weights after some steps, with a schedule; `make_optimizer(model)`."""
    model, (x, y) = Net(), batch()
    optimizer = make_optimizer(model)
    scheduler = optim.MultiStepLR(optimizer, milestones, gamma=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(model(x), y)
        (loss if penalty is None else loss + penalty(model)).backward()
        optimizer.step()
        scheduler.step()
    return arrays(model)


def regularized(kind, *regularizers, **options):
    return lambda model: optim.Regularized(kind(model.parameters(), lr=RATE, **options), model, *regularizers)


def test_for_sgd_l2_and_decoupled_decay_are_one():
    ways = [
        train(lambda model: optim.SGD(model.parameters(), lr=RATE, weight_decay=DECAY)),
        train(lambda model: optim.SGD(model.parameters(), lr=RATE), penalty=nn.L2Penalty(DECAY)),
        train(regularized(optim.SGD, nn.L2Penalty(DECAY))),
        train(regularized(optim.SGD, optim.DecoupledDecay(DECAY))),
    ]
    for way in ways[1:]:
        assert_close(way, ways[0], rtol=1e-11)
    without = train(lambda model: optim.SGD(model.parameters(), lr=RATE))
    assert max(np.abs(without[name] - ways[0][name]).max() for name in without) > 0.01


def test_for_sgd_with_momentum_they_are_two():
    """The penalty's gradient enters the buffer, and goes on pulling where the weights were."""
    coupled = train(regularized(optim.SGD, nn.L2Penalty(DECAY), momentum=0.9))
    decoupled = train(regularized(optim.SGD, optim.DecoupledDecay(DECAY), momentum=0.9))
    assert_close(coupled, train(lambda m: optim.SGD(m.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)), 1e-10)
    assert max(np.abs(coupled[name] - decoupled[name]).max() for name in coupled) > 1e-3


def test_for_adam_they_are_two_and_decoupled_it_is_adamw():
    coupled = train(regularized(optim.Adam, nn.L2Penalty(DECAY)))
    decoupled = train(regularized(optim.Adam, optim.DecoupledDecay(DECAY)))
    assert_close(coupled, train(lambda m: optim.Adam(m.parameters(), lr=RATE, weight_decay=DECAY)), 1e-9)
    assert_close(decoupled, train(lambda m: optim.AdamW(m.parameters(), lr=RATE, weight_decay=DECAY)), 1e-11)
    assert max(np.abs(coupled[name] - decoupled[name]).max() for name in coupled) > 0.01


def test_adams_first_step_shows_the_difference():
    """Coupled, a decay is normalised away: every number moves by lr. Decoupled, it moves by lr * decay * w more."""
    w = np.array([1.0, 10.0, -3.0])
    g = np.array([1e-3, -2.0, 5.0])
    moved = []
    for regularizer in (nn.L2Penalty(1e-6), optim.DecoupledDecay(0.1)):
        model = Weights(w)
        model.w.grad = mg.tensor(g)
        optim.Regularized(optim.Adam(model.parameters(), lr=0.01, eps=0), model, regularizer).step()
        moved.append(arrays(model)["w"] - w)
    np.testing.assert_allclose(moved[0], -0.01 * np.sign(g), rtol=1e-9)
    np.testing.assert_allclose(moved[1], -0.01 * np.sign(g) - 0.001 * w, rtol=1e-9)


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


# --- early stopping ---


@given(st.lists(st.floats(-5, 5) | st.just(math.nan), min_size=1, max_size=12), st.integers(1, 4), st.booleans())
def test_early_stopping_gives_back_the_best_weights_of_those_seen(figures, patience, rising):
    model = Weights([0.0])
    stopping = EarlyStopping(model, patience, mode="max" if rising else "min")
    seen = []
    for i, figure in enumerate(figures):
        if stopping.exhausted:
            break
        model.w.copy_(mg.tensor(np.array([float(i)])))
        best = stopping.step(figure)
        seen.append(figure)
        assert best == (stopping.since == 0)
    sign = 1 if rising else -1
    ranked = [(sign * f, -i) for i, f in enumerate(seen) if not math.isnan(f)]
    best = -max(ranked)[1] if ranked else None
    stopped = len(seen) - 1 - (best if best is not None else -1) >= patience
    assert stopping.exhausted == stopped
    stopping.restore()
    assert arrays(model)["w"][0] == (len(seen) - 1 if best is None else best)


def test_small_gains_do_not_count_and_the_state_can_be_saved(tmp_path):
    model = Weights([0.0])
    stopping = EarlyStopping(model, patience=2, min_delta=0.1)
    assert [stopping.step(f) for f in (1.0, 0.95, 0.85)] == [True, False, True]
    stopping.step(0.84)
    save_state(tmp_path / "s.safetensors", stopping.state_dict())
    other = EarlyStopping(Weights([3.0]), patience=2, min_delta=0.1)
    other.load_state_dict(load_state(tmp_path / "s.safetensors"))
    other.step(0.83)
    assert other.exhausted and other.best == 0.85
    other.restore()
    assert arrays(other.model)["w"][0] == 0.0
