"""LRScheduler: how a formula for the rate becomes PyTorch's `scheduler.step()`, and the checks that schedules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from types import FunctionType
from typing import Any

from minigrad.autograd import explain_constructor

from ..optimizer import Optimizer
from ..options import check_number


class LRScheduler:
    """What all schedules share. To add one, write `rate`; with options, keep them as attributes that JSON can hold.

    Making a schedule sets the rate for t = 0; each `step()`, called after the optimizer's, sets the next. `interval`
    says how often that is meant to be, "epoch" or "batch", and can be set (`training.fit` goes by it).

    A rate that something else changed in the meantime, a second schedule or you, stays changed by the same factor; that
    is the product of two schedules. The schedules that PyTorch computes from the first rate alone, and so has overwrite
    such a change, do so here too: `overwrites` is True for LambdaLR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR.

    Parameters
    ----------
    optimizer : Optimizer
    last_epoch : int
        How many steps were taken before; -1 to begin. Otherwise each group must hold its `initial_lr`, as it does
        after `optimizer.load_state_dict`.
    """

    interval = "epoch"
    overwrites = False
    floor = 0.0  # what the rate tends to; the height above it is what a change by others multiplies
    functions: Sequence[Callable[..., float]] = ()  # the user's: they cannot be saved

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        explain_constructor(cls)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        name = type(self).__name__
        check_optimizer(name, optimizer)
        check_whole(name, "last_epoch", last_epoch, -1)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"{name}: last_epoch={last_epoch}, but group {i} has no initial_lr to count from; load the "
                    "optimizer's state first, or begin with last_epoch=-1."
                )
        self.base_lrs = self.bases()
        self._rates = list(self.base_lrs) if last_epoch == -1 else [g["lr"] for g in optimizer.param_groups]
        self._last_lr: list[float] = []
        self.last_epoch = last_epoch
        self.step()

    # --- what a schedule says ---

    def rate(self, base: float, t: int) -> float:
        """The learning rate after t steps of a group that began with `base`."""
        raise NotImplementedError

    def bases(self) -> list[float]:
        """The rate that each group begins with."""
        return [group["initial_lr"] for group in self.optimizer.param_groups]

    # --- what users call ---

    def rates_at(self, t: int) -> list[float]:
        """The rate of each group after t steps, straight from the formula; nothing is changed. For a plot, say."""
        return [self.rate(base, t) for base in self.base_lrs]

    def step(self) -> None:
        """Set the next learning rate."""
        self.last_epoch += 1
        rates = self._next_rates()
        for group, before, now in zip(self.optimizer.param_groups, self._rates, rates, strict=False):
            group["lr"] = now if self.overwrites else self._with_changes_by_others(group["lr"], before, now)
        self._rates = rates
        self._remember()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as the last step set it."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions; numbers, strings and lists, so fit for JSON.

        Of a callable object (not a plain function) in the place of a function its attributes are kept, as in PyTorch.
        """
        state = {key: value for key, value in self.__dict__.items() if key not in ("optimizer", "functions")}
        if self.functions:
            state["functions"] = [None if isinstance(f, FunctionType) else dict(vars(f)) for f in self.functions]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. The rates themselves are the optimizer's: load its state too."""
        unknown, missing = set(state_dict) - set(self.state_dict()), set(self.state_dict()) - set(state_dict)
        if unknown or missing:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state has {sorted(state_dict)}; expected "
                f"{sorted(self.state_dict())}. Is it that of another schedule?"
            )
        for function, attributes in zip(self.functions, state_dict.get("functions", ()), strict=True):
            if attributes is not None:
                vars(function).update(attributes)
        self.__dict__.update({key: value for key, value in state_dict.items() if key != "functions"})

    # --- for schedules that are made of others ---

    def begin(self) -> None:
        """Set the rates to those of t = 0, whatever they are now, and count from there."""
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["lr"] = base
        self.restart()

    def take_over(self) -> None:
        """Begin at the point where another schedule has ended."""
        self.begin()

    def restart(self) -> None:
        """Count from t = 0 again; what others did to the rates stays."""
        self.last_epoch, self._rates = -1, list(self.base_lrs)
        self.step()

    # --- inside ---

    def _next_rates(self) -> list[float]:
        return self.rates_at(self.last_epoch)

    def _with_changes_by_others(self, current: float, before: float, now: float) -> float:
        """What `now` becomes if the rate, which this schedule had set to `before`, is `current`."""
        if current == before:
            return now
        if before in (now, self.floor):
            return current + (now - before)
        return self.floor + (now - self.floor) * ((current - self.floor) / (before - self.floor))

    def _remember(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


# --- checks ---


def check_optimizer(owner: str, optimizer: Any) -> None:
    """Raise TypeError for what is no Optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{owner}: expected an Optimizer, got {type(optimizer).__name__}.")


def check_whole(owner: str, name: str, value: Any, low: int) -> None:
    """Raise unless `value` is a whole number of at least `low`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{owner}: {name}={value!r}; expected a whole number, {low} or more.")


def check_function(owner: str, name: str, value: Any) -> None:
    """Raise TypeError for what cannot be called."""
    if not callable(value):
        raise TypeError(f"{owner}: {name} must be a function of the step, got {type(value).__name__}.")


def for_groups(owner: str, name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """An option as a list with one entry for each group; ValueError for a list of another length."""
    groups = len(optimizer.param_groups)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
    if len(values) != groups:
        raise ValueError(f"{owner}: {len(values)} values in {name} for {groups} parameter groups.")
    return values


def numbers_for_groups(owner: str, name: str, value: Any, optimizer: Optimizer, high: float = inf) -> list[float]:
    """The same for numbers from 0 to `high`."""
    values = for_groups(owner, name, value, optimizer)
    for one in values:
        check_number(owner, name, one, 0, high)
    return values
