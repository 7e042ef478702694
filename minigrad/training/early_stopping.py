"""Early stopping: watch a metric, store the weights it was best with, and say when to stop.

The model to use afterwards is the best one, not the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.autograd.tensor import Tensor
from minigrad.training.protocols import Resumable


class EarlyStopping:
    """Store a model's best weights; stop when `patience` steps in a row have brought no better metric.

    >>> stopping = EarlyStopping(model, patience=5)
    >>> while not stopping.exhausted:
    ...     train_for_an_epoch()
    ...     stopping.step(validation_loss())
    >>> stopping.restore()

    Limiting the number of steps keeps the weights near where they began: for a quadratic loss it is a form of L2
    regularization (Goodfellow, Bengio & Courville 2016, "Deep learning", section 7.8). `training.fit` has it built in.

    Parameters
    ----------
    model : Module
    patience : int, optional
        None: never stop, but store the best weights.
    mode : {"min", "max"}
        Whether lower is better, as for a loss, or higher, as for an accuracy.
    min_delta : float
        By how much a metric must be better than the best to count.

    Attributes
    ----------
    best : float
        The best metric so far; infinite before the first.
    since : int
        Steps since then.
    weights : dict of Tensor, or None
        A copy of the model's state from then.
    """

    def __init__(self, model: Resumable, patience: int | None = None, mode: str = "min", min_delta: float = 0.0):
        if mode not in ("min", "max"):
            raise ValueError(f"EarlyStopping: mode={mode!r}; expected 'min' or 'max'.")
        whole = isinstance(patience, (int, np.integer)) and not isinstance(patience, bool)
        if patience is not None and (not whole or patience < 1):
            raise ValueError(f"EarlyStopping: patience={patience!r}; expected a whole number, 1 or more, or None.")
        if (
            isinstance(min_delta, bool)
            or not isinstance(min_delta, (int, float, np.number))
            or not 0 <= min_delta < math.inf
        ):
            raise ValueError(f"EarlyStopping: min_delta={min_delta!r}; expected a finite number, 0 or more.")
        self.model, self.patience, self.mode, self.min_delta = model, patience, mode, min_delta
        self.best = math.inf if mode == "min" else -math.inf
        self.since = 0
        self.weights: dict[str, Tensor] | None = None

    def step(self, metric: float) -> bool:
        """Whether a new metric is the best so far; the weights are then stored. NaN is never the best."""
        gain = self.best - float(metric) if self.mode == "min" else float(metric) - self.best
        if not gain > self.min_delta:
            self.since += 1
            return False
        self.best, self.since = float(metric), 0
        self.weights = {name: Tensor(t.data.copy()) for name, t in self.model.state_dict().items()}
        return True

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self.patience is not None and self.since >= self.patience

    def restore(self) -> None:
        """Put the best weights back; does nothing before the first step."""
        if self.weights is not None:
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The state to continue from, for `serialization.save_state`."""
        return {"best": self.best, "since": self.since, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`. ValueError, and nothing is changed, for one that does not fit the model."""
        name = "EarlyStopping.load_state_dict"
        if not isinstance(state, Mapping) or set(state) != {"best", "since", "weights"}:
            found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{name}: got {found}; expected best, since, weights.")
        best, since, weights = state["best"], state["since"], state["weights"]
        if isinstance(best, bool) or not isinstance(best, (int, float)) or math.isnan(best):
            raise ValueError(f"{name}: best={best!r}; expected a number.")
        if isinstance(since, bool) or not isinstance(since, int) or since < 0:
            raise ValueError(f"{name}: since={since!r}; expected a whole number, 0 or more.")
        if weights is not None:
            check_weights(self.model, weights, name)
        self.best, self.since, self.weights = best, since, weights


def check_weights(model: Resumable, weights: Any, owner: str) -> None:
    """Raise ValueError unless these are weights of this model, by names and shapes."""
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = weights if isinstance(weights, Mapping) else {}
    given = {name: getattr(value, "shape", None) for name, value in found.items()}
    if own != given:
        odd = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise ValueError(f"{owner}: the best weights are of another model; {', '.join(odd[:5])} do not fit.")
