"""What the tests of the optimizers with closures share: small models, and every kind of optimizer for them."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.optim import BFGS, LBFGS, GaussNewton, LevenbergMarquardt, Newton

KINDS = {
    "LBFGS": (LBFGS, {}),
    "LBFGS, 3 pairs, armijo": (LBFGS, {"history_size": 3, "line_search_fn": "armijo", "lr": 0.5}),
    "BFGS": (BFGS, {}),
    "Newton": (Newton, {}),
    "Newton, products": (Newton, {"matrix_free": True}),
    "Newton, line search": (Newton, {"step_rule": "strong_wolfe", "alpha": 0.1}),
    "GaussNewton": (GaussNewton, {}),
    "LM": (LevenbergMarquardt, {}),
    "LM, marquardt": (LevenbergMarquardt, {"method": "marquardt"}),
    "LM, products": (LevenbergMarquardt, {"matrix_free": True}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind, params, **more):
    cls, options = KINDS[kind]
    return cls(params, **{**options, **more})


# --- small problems: parameters, what predicts, and data ---

X = np.linspace(-2, 2, 60)[:, None]
Y = np.sin(2 * X) + 0.3 * X**2


class Curve:
    """The network 1-10-1 that fits Y, and all losses that were computed with it."""

    def __init__(self, seed=0, dtype=np.float64, device="cpu", width=10):
        numbers = np.random.default_rng(seed)
        arrays = [numbers.uniform(-1, 1, shape) for shape in ((width, 1), (width,))]
        arrays += [0.3 * numbers.uniform(-1, 1, shape) for shape in ((1, width), (1,))]
        self.params = [mg.tensor(a.astype(dtype), device=device, requires_grad=True) for a in arrays]
        self.x, self.y = (mg.tensor(a.astype(dtype), device=device) for a in (X, Y))
        self.losses = []

    def residuals(self):
        w, b, v, c = self.params
        r = mg.tanh(self.x @ w.T + b) @ v.T + c - self.y
        self.losses.append((r.detach() ** 2).mean().item())
        return r

    def loss(self):
        return (self.residuals() ** 2).mean()

    def closure(self, optimizer):
        return self.residuals if isinstance(optimizer, (GaussNewton, LevenbergMarquardt)) else self.loss

    def values(self):
        return np.concatenate([p.detach().numpy().reshape(-1) for p in self.params])


def curve_for(kind, **options):
    """Gauss-Newton, which is not damped, gets a small network, and data from another one that is not far off."""
    if kind != "GaussNewton":
        return Curve(**options)
    model = Curve(seed=3, width=2, **options)
    for p, factor in zip(model.params, (1, 1, 10, 1), strict=True):
        p.copy_(p.detach() * factor * 1.2)
    model.y = mg.tensor((model.residuals() + model.y).detach())
    for p in model.params:
        p.copy_(p.detach() / 1.2)
    model.losses.clear()
    return model


class Classes:
    """Logistic regression with a penalty: convex, so that there is one answer."""

    def __init__(self, dtype=np.float64):
        numbers = np.random.default_rng(1)
        x = numbers.standard_normal((80, 5)) * [1, 2, 5, 0.5, 1]
        labels = (x @ [1, -1, 0.3, 2, 0] + numbers.standard_normal(80) > 0).astype(float)
        self.x, self.labels = mg.tensor(x.astype(dtype)), mg.tensor(labels.astype(dtype))
        self.w = mg.zeros(5, dtype=dtype).requires_grad_()
        self.b = mg.tensor(np.zeros((), dtype), requires_grad=True)
        self.params = [self.w, self.b]

    def loss_at(self, w, b):
        z = self.x @ w + b
        return (mg.log1p(mg.exp(-mg.abs(z))) + mg.maximum(z, 0) - z * self.labels).mean() + 0.01 * (w @ w)

    def loss(self):
        return self.loss_at(self.w, self.b)
