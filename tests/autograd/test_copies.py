"""Copies and pickles: of leaves, of models with their optimizers; whatever goes on from there does so alike."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from tests.support.makers import leaf

WAYS = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy}
every_way = pytest.mark.parametrize("again", WAYS.values(), ids=WAYS)


def with_a_gradient(x):
    (x * x).sum().backward()
    x.name = "weight"
    return x


LEAVES = {
    "a leaf": lambda: with_a_gradient(leaf(1.0, 2.0)),
    "a single number": lambda: with_a_gradient(mg.tensor(2.0, requires_grad=True)),
    "a parameter": lambda: with_a_gradient(nn.Parameter(np.ones((2, 3), "f4"))),
    "a frozen parameter": lambda: nn.Parameter(np.ones(2, "f2"), requires_grad=False),
    "no gradient": lambda: mg.tensor([1, 2]),
    "a leaf without values": lambda: mg.zeros(0, requires_grad=True),
}


@every_way
@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_comes_back_with_its_gradient_and_shares_nothing(name, again):
    x = LEAVES[name]()
    y = again(x)
    assert type(y) is type(x) and y.requires_grad == x.requires_grad and y.name == x.name and y.dtype == x.dtype
    np.testing.assert_array_equal(y.numpy(), x.numpy())
    assert (y.grad is None) == (x.grad is None)
    if x.grad is not None:
        np.testing.assert_array_equal(y.grad.numpy(), x.grad.numpy())
        before = x.grad.numpy().copy()
        (y * 1.0).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), before)
        np.testing.assert_array_equal(y.grad.numpy(), before + 1)
    if y.size and y.ndim:
        y.data[...] = 7
        assert not (x.numpy() == 7).any()


@every_way
def test_a_tensor_that_is_used_twice_is_one_tensor_afterwards(again):
    x = leaf(1.0)
    first, (second,) = again((x, [x]))
    assert first is second is not x


@every_way
def test_a_computed_tensor_is_refused_and_told_to_be_detached(again):
    with pytest.raises(ValueError, match=r"computed tensor.*detach\(\)|detach\(\) on a computed tensor"):
        again(leaf(1.0) * 2)


def test_a_shallow_copy_shares_the_values_and_takes_gradients_of_its_own():
    x = with_a_gradient(leaf(1.0, 2.0))
    y = copy.copy(x)
    assert y.data is x.data and y.grad.tolist() == x.grad.tolist()
    (y * 1.0).sum().backward()
    assert y.grad.tolist() == [3, 5] and x.grad.tolist() == [2, 4]
    z = x * 3
    copy.copy(z).sum().backward()
    assert x.grad.tolist() == [5, 7]


def test_a_gradient_with_a_graph_is_copied_without_it():
    x = leaf(1.0, 2.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad and not copy.deepcopy(x).grad.requires_grad


@every_way
def test_hooks_stay_with_the_original(again):
    layer = nn.Linear(2, 1)
    layer.handle = layer.weight.register_hook(lambda g: 0 * g)
    other = again(layer)
    other.handle.remove()
    for module, expected in ((layer, 0), (other, 1)):
        module(mg.ones(1, 2)).sum().backward()
        assert module.weight.grad.tolist() == [[expected] * 2]


OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": optim.RMSprop,
    "NAdam": optim.NAdam,
    "Lion": optim.Lion,
    "Lookahead": lambda ps: optim.Lookahead(optim.Adam(ps)),
    "LBFGS": optim.LBFGS,
}


@every_way
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_and_its_optimizer_go_on_as_they_would_have(name, again):
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = OPTIMIZERS[name](model.parameters())
    schedule = optim.lr_scheduler.StepLR(optimizer, 2)
    inputs, targets = mg.randn(16, 3), mg.randn(16, 1)

    def step(model, optimizer, schedule):
        def closure():
            optimizer.zero_grad()
            loss = ((model(inputs) - targets) ** 2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        schedule.step()

    for _ in range(3):
        step(model, optimizer, schedule)
    other = again((model, optimizer, schedule))
    before = [p.detach().numpy().copy() for p in model.parameters()]
    for _ in range(3):
        step(*other)
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), old, "the copy's steps moved the original")
    for _ in range(3):
        step(model, optimizer, schedule)
    for (key, p), q in zip(model.state_dict().items(), other[0].state_dict().values(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy(), key)


def gradient_of(model):
    """What a process does that was sent a model."""
    model(mg.ones(1, 2)).sum().backward()
    return model.weight


def test_a_spawned_process_takes_a_model_and_gives_back_a_parameter_with_its_gradient():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        weight = pool.apply(gradient_of, (nn.Linear(2, 1),))
    assert weight.requires_grad and weight.grad.tolist() == [[1, 1]]
