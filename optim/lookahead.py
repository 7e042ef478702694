"""Lookahead: an optimizer around another, that now and then goes back part of the way it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import Tensor, no_grad, tensor
from minigrad.backend.gpu.replay import refuse_capture

from .optimizer import Optimizer
from .options import check_number
from .saved_state import is_whole
from .wrapper import OptimizerWrapper


class Lookahead(OptimizerWrapper):
    """Lookahead (Zhang, Lucas, Hinton & Ba 2019, "Lookahead optimizer: k steps forward, 1 step back", algorithm 1).

    The optimizer inside moves the parameters, the fast weights. After every k of its steps::

        slow <- slow + alpha * (fast - slow)             fast <- slow

    Its buffers, momentum say, are kept. Between those moments the parameters are the fast weights; for an evaluation
    take it at a multiple of k steps.

    Parameters
    ----------
    optimizer : Optimizer
        Any. Its groups and options, `param_groups`, `defaults`, `nonfinite`, are this one's too.
    k : int
        How many fast steps make a slow one, 1 or more.
    alpha : float
        How far the slow weights follow, from 0 to 1. With 1, nothing is changed.

    Attributes
    ----------
    optimizer : Optimizer
    steps : int
        How many fast steps were taken since the last slow one.

    Raises
    ------
    TypeError, ValueError
        Not an optimizer, or an option out of range.

    Notes
    -----
    A parameter's slow weights begin where it is at its first step with a gradient, so a model may be loaded before.

    >>> optimizer = optim.Lookahead(optim.Adam(model.parameters()), k=5, alpha=0.5)
    """

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5):
        super().__init__(optimizer)
        check_lookahead(k, alpha)
        self.k, self.alpha, self.steps = k, alpha, 0
        self._slow: dict[Tensor, Tensor] = {}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a fast step, and a slow one if it is time; a step that was skipped does not count."""
        refuse_capture("Lookahead.step")
        new = [p for p in self._all_params() if p not in self._slow]
        starts = {p: p.detach().clone() for p in new if closure is not None or p.grad is not None}
        skipped = self.skipped_steps
        loss = self.optimizer.step(closure)
        if self.skipped_steps != skipped:
            return loss
        self._slow |= {p: start for p, start in starts.items() if p.grad is not None}
        self.steps += 1
        if self.steps == self.k:
            self.steps = 0
            self._take_slow_step()
        return loss

    def _take_slow_step(self) -> None:
        with no_grad():
            for p, slow in self._slow.items():
                self._slow[p] = slow + self.alpha * (p.detach() - slow)
                p.copy_(self._slow[p])

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside, and under `lookahead` k, alpha, steps and the slow weights by index."""
        slow = {i: tensor(self._slow[p]) for i, p in enumerate(self._all_params()) if p in self._slow}
        own = {"k": self.k, "alpha": self.alpha, "steps": self.steps, "slow": slow}
        return {**self.optimizer.state_dict(), "lookahead": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`, see `Optimizer.load_state_dict`. Nothing is changed by one that does not fit."""
        if "lookahead" not in state_dict:
            raise ValueError(
                "Lookahead.load_state_dict: 'lookahead' not found; is this the state of the optimizer inside? "
                "Load that into lookahead.optimizer."
            )
        own, params = state_dict["lookahead"], self._all_params()
        if (
            not isinstance(own, dict)
            or own.keys() != {"k", "alpha", "steps", "slow"}
            or not isinstance(own["slow"], dict)
        ):
            raise ValueError("Lookahead.load_state_dict: 'lookahead' must hold k, alpha, steps and the dict slow.")
        check_lookahead(own["k"], own["alpha"])
        if not is_whole(own["steps"]) or own["steps"] >= own["k"]:
            raise ValueError(
                f"Lookahead.load_state_dict: steps={own['steps']!r}; expected from 0 to below k={own['k']}."
            )
        slow, of_index = {}, {name: p for i, p in enumerate(params) for name in (i, str(i))}
        for i, value in own["slow"].items():
            if i not in of_index or getattr(value, "shape", None) != of_index[i].shape:
                raise ValueError(
                    f"Lookahead.load_state_dict: slow weights of parameter {i} have shape "
                    f"{getattr(value, 'shape', None)}, but the parameters are {[p.shape for p in params]}."
                )
            p = of_index[i]
            slow[p] = tensor(value, dtype=p.dtype, device=p.device)
        self.optimizer.load_state_dict({key: value for key, value in state_dict.items() if key != "lookahead"})
        self.k, self.alpha, self.steps, self._slow = own["k"], own["alpha"], own["steps"], slow

    def words(self) -> str:
        return f"k={self.k}, alpha={self.alpha}"


def check_lookahead(k: Any, alpha: Any) -> None:
    """Raise unless k is a whole number, 1 or more, and alpha a number from 0 to 1."""
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"Lookahead: k must be an int, got {k!r}.")
    if k < 1:
        raise ValueError(f"Lookahead: k={k}; expected 1 or more.")
    check_number("Lookahead", "alpha", alpha, 0, 1)
