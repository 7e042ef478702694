"""PyTorch's database of optimizers: twenty steps of each on one small problem in both libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import optim

from .comparing import Finding, blamed
from .translation import ours, torch

STEPS = 20
AGREE = 1e-10
"""How far parameters of size 1 may be apart after the steps in float64; each step rounds to 1e-16 some ten times."""

SHAPES = {"Muon": [(3, 4), (4, 2)]}
"""Muon is for matrices; the others get a bias too."""


def loss(ops: Any, parameters: list) -> Any:
    """A network of two layers on eight points; smooth, with no parameter at rest."""
    random = np.random.default_rng(1)
    points, targets = random.standard_normal((8, 3)), random.standard_normal((8, 2))
    first, second, *bias = parameters
    hidden = ops.tensor(points) @ first
    hidden = hidden + bias[0] if bias else hidden
    return ((ops.tanh(hidden) @ second - ops.tensor(targets)) ** 2).mean()


def steps(ops: Any, parameters: list, optimizer: Any) -> list[np.ndarray]:
    def closure():
        optimizer.zero_grad()
        value = loss(ops, parameters)
        value.backward()
        return value

    for _ in range(STEPS):
        optimizer.step(closure)
    return [np.array(p.detach().numpy()) for p in parameters]


def compare_optimizers(name: str, options: dict[str, Any]) -> Finding | None:
    random = np.random.default_rng(0)
    start = [random.standard_normal(shape) for shape in SHAPES.get(name, [(3, 4), (4, 2), (4,)])]
    theirs = [torch.tensor(array, requires_grad=True) for array in start]
    mine = [mg.tensor(array, requires_grad=True) for array in start]
    wanted = steps(torch, theirs, getattr(torch.optim, name)(theirs, **_new(options)))
    try:
        taken = {key: ours(value) for key, value in options.items()}
        given = steps(mg, mine, getattr(optim, name)(mine, **taken))
    except Exception as error:
        return blamed(error)
    apart = max(np.abs(a - b).max() for a, b in zip(given, wanted, strict=True))
    moved = max(np.abs(a - b).max() for a, b in zip(start, wanted, strict=True))
    assert moved > 1e-5, "a problem on which nothing moves shows nothing"
    return None if apart < AGREE else Finding("value", f"{apart} apart after {STEPS} steps")


def _new(options: dict[str, Any]) -> dict[str, Any]:
    """Tensors among the options as new ones, since an optimizer may write to its rate."""
    return {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in options.items()}
