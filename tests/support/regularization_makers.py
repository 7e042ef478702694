"""Small models, and what the tests of regularizers look at in them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import nn

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
