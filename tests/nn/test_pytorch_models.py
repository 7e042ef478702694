"""New weights and ready-made models against PyTorch's: distributions, and numbers and gradients over two batches."""

from collections import OrderedDict

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support.nn_cases import numbers
from tests.support.nn_peers import assert_agree, assert_same_gradients, assert_same_state, repr_of, torch

# --- initialisation ---

INITIALISERS = [
    ("uniform_", {"a": -1.0, "b": 3.0}),
    ("normal_", {"mean": 2.0, "std": 0.5}),
    ("trunc_normal_", {}),
    ("trunc_normal_", {"mean": 1.0, "std": 2.0, "a": 0.0, "b": 1.5}),
    ("xavier_uniform_", {}),
    ("xavier_uniform_", {"gain": 2.0}),
    ("xavier_normal_", {"gain": 0.5}),
    ("kaiming_uniform_", {}),
    ("kaiming_uniform_", {"a": 5**0.5}),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ("kaiming_normal_", {"a": 0.2, "mode": "fan_out"}),
    ("orthogonal_", {"gain": 1.5}),
    ("constant_", {"val": 0.3}),
    ("zeros_", {}),
    ("ones_", {}),
]


def quantiles(values):
    return np.quantile(values, [0.001, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999])


@pytest.mark.parametrize("shape", [(200, 300), (64, 32, 5, 5)], ids=str)
@pytest.mark.parametrize("name, options", INITIALISERS, ids=lambda v: str(v))
def test_an_initialiser_has_pytorchs_distribution(name, options, shape):
    mg.manual_seed(0)
    torch.manual_seed(0)
    ours = getattr(nn.init, name)(mg.zeros(shape), **options).numpy()
    theirs = getattr(torch.nn.init, name)(torch.zeros(shape), **options).numpy()
    spread = theirs.std() or 1e-7
    # 50,000 draws: the outer quantiles scatter by a tenth of the spread, the inner by a hundredth
    np.testing.assert_array_less(
        np.abs(quantiles(ours) - quantiles(theirs)), spread * np.array([0.25, 0.04, 0.03, 0.03, 0.03, 0.04, 0.25])
    )


@pytest.mark.parametrize("nonlinearity", nn.init.GAINS)
def test_gains_are_pytorchs(nonlinearity):
    for slope in (None, 0.3) if nonlinearity == "leaky_relu" else (None,):
        assert nn.init.calculate_gain(nonlinearity, slope) == pytest.approx(
            torch.nn.init.calculate_gain(nonlinearity, slope)
        )


@pytest.mark.parametrize(
    "name, args",
    [("Linear", (300, 200)), ("Conv1d", (40, 30, 9)), ("Conv2d", (20, 30, 5)), ("Conv2d", (40, 30, 5, 1, 0, 1, 2))]
    + [("ConvTranspose2d", (20, 30, 5)), ("Embedding", (300, 200)), ("BatchNorm2d", (50,))],
    ids=str,
)
def test_a_new_layer_starts_from_pytorchs_distribution(name, args):
    mg.manual_seed(0)
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args).state_dict()
    for key, tensor in getattr(nn, name)(*args).state_dict().items():
        ours, peer = tensor.numpy(), theirs[key].numpy()
        few = 4 / np.sqrt(ours.size)
        spread = peer.std() if peer.size > 1 else 0
        assert ours.std() == pytest.approx(spread, rel=few), key
        assert np.abs(ours).max() == pytest.approx(np.abs(peer).max(), rel=0.1 + few), key
        assert abs(ours.mean() - peer.mean()) <= few * spread, key


# --- models ---


def torch_mlp(sizes):
    layers = OrderedDict(flatten=torch.nn.Flatten())
    for i in range(1, len(sizes) - 1):
        layers |= {f"fc{i}": torch.nn.Linear(sizes[i - 1], sizes[i]), f"relu{i}": torch.nn.ReLU()}
    return torch.nn.Sequential(layers | {f"fc{len(sizes) - 1}": torch.nn.Linear(sizes[-2], sizes[-1])})


def torch_lenet5(channels, classes, kernel, paddings, features, normed):
    t = torch.nn
    layers = OrderedDict()
    for i, (before, after) in enumerate(((channels, 6), (6, 16)), start=1):
        layers[f"conv{i}"] = t.Conv2d(before, after, kernel, padding=paddings[i - 1])
        if normed:
            layers[f"norm{i}"] = t.BatchNorm2d(after)
        layers |= {f"relu{i}": t.ReLU(), f"pool{i}": t.MaxPool2d(2)}
    layers |= {"flatten": t.Flatten(), "fc1": t.Linear(features, 120), "relu3": t.ReLU()}
    return t.Sequential(layers | {"fc2": t.Linear(120, 84), "relu4": t.ReLU(), "fc3": t.Linear(84, classes)})


def torch_cnn(channels, classes, dropout):
    t = torch.nn
    layers = OrderedDict()
    widths = [channels, 32, 32, 64, 64, 128]
    for i in range(1, 6):
        layers[f"conv{i}"] = t.Conv2d(widths[i - 1], widths[i], 3, padding=1, bias=False)
        layers |= {f"norm{i}": t.BatchNorm2d(widths[i]), f"relu{i}": t.ReLU()}
        if i in (2, 4):
            layers[f"pool{i // 2}"] = t.MaxPool2d(2)
    layers |= {"mean": t.AdaptiveAvgPool2d(1), "flatten": t.Flatten()}
    return t.Sequential(layers | {"dropout": t.Dropout(dropout), "fc": t.Linear(128, classes)})


MODELS = {
    "mlp": (lambda: nn.mlp(20, 4, hidden=(16, 8)), lambda: torch_mlp([20, 16, 8, 4]), (6, 4, 5)),
    "mlp without hidden layers": (lambda: nn.mlp(20, 4, hidden=()), lambda: torch_mlp([20, 4]), (6, 20)),
    "lenet5 at 28": (
        lambda: nn.lenet5(),
        lambda: torch_lenet5(1, 10, 5, (2, 0), 400, False),
        (4, 1, 28, 28),
    ),
    "lenet5 at 32 with batch-norm": (
        lambda: nn.lenet5(3, 7, image_size=32, batch_norm=True),
        lambda: torch_lenet5(3, 7, 5, (0, 0), 400, True),
        (4, 3, 32, 32),
    ),
    "lenet5 at 8": (
        lambda: nn.lenet5(image_size=8),
        lambda: torch_lenet5(1, 10, 3, (1, 1), 64, False),
        (4, 1, 8, 8),
    ),
    "cnn": (lambda: nn.cnn(dropout=0.0), lambda: torch_cnn(3, 10, 0.0), (4, 3, 16, 12)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_pytorchs_over_two_training_batches_and_in_evaluation(name):
    torch.manual_seed(0)
    make, make_peer, shape = MODELS[name]
    ours, theirs = make(), make_peer()
    assert repr(ours) == repr_of(theirs)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    for seed, training in enumerate((True, True, False)):
        ours.train(training), theirs.train(training)
        ours.zero_grad(), theirs.zero_grad()
        x, labels = numbers(seed, *shape), np.random.default_rng(seed).integers(0, 4, shape[0])
        mine, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        loss = nn.CrossEntropyLoss()(ours(mine), mg.tensor(labels))
        loss_peer = torch.nn.CrossEntropyLoss()(theirs(peer), torch.tensor(labels))
        assert_agree(loss, loss_peer, "the loss")
        loss.backward()
        loss_peer.backward()
        assert_agree(mine.grad, peer.grad, "the gradient of the images")
        assert_same_gradients(ours, theirs)
        assert_same_state(ours, theirs)
