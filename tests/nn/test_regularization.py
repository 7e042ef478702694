"""Regularizers added to a loss: their formulas, what they touch, and how they differ from decay in the step.

Claimed: penalties are the formulas of their docstrings; L2 and decoupled decay are one for SGD and two for Adam;
where="..." touches what it names and nothing else.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataLoader, TensorDataset
from minigrad.training import evaluate, fit
from tests.support.regularization_makers import Net, Weights, amounts, arrays, assert_close, batch, gradients, weights

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
