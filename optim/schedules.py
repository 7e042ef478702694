"""Learning rate schedules: the rate as a function of how often `step()` was called.

A schedule is one formula, `rate(base, t)`: the learning rate after t steps of a group that began with `base`. After
this file you know each formula, and how the base class turns it into PyTorch's `scheduler.step()`. Schedules that go
up and down again stand in `cycles.py`, those made of others in `combined.py`, the one that watches the loss in
`plateau.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from math import cos, inf, pi, prod
from types import FunctionType
from typing import Any

from .optimizer import Optimizer, check_number


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


# --- rates that fall in steps ---


class ConstantLR(LRScheduler):
    """`base * factor` until t = `total_iters`, then `base`. (A rate that never changes needs no schedule.)"""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1):
        check_number("ConstantLR", "factor", factor, 0, 1)
        check_whole("ConstantLR", "total_iters", total_iters, 1)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.factor if t < self.total_iters else base


class StepLR(LRScheduler):
    """The rate times `gamma` every `step_size` steps: `base * gamma^(t // step_size)`."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        check_whole("StepLR", "step_size", step_size, 1)
        check_number("StepLR", "gamma", gamma, 0)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times `gamma` at each of the `milestones`: `base * gamma^(number of milestones up to t)`.

    A milestone given twice counts twice.
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones = sorted(milestones)
        for milestone in self.milestones:
            check_whole("MultiStepLR", "milestones", milestone, 0)
        check_number("MultiStepLR", "gamma", gamma, 0)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** bisect_right(self.milestones, t)


# --- rates that fall smoothly ---


class LinearLR(LRScheduler):
    """From `base * start_factor` in a straight line to `base * end_factor` at t = `total_iters`, then constant.

    From below, it is the linear warm-up of Goyal et al. 2017 ("Accurate, large minibatch SGD", section 2.2); put it
    before another schedule with `SequentialLR`, or multiply it with one by `ChainedScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        check_number("LinearLR", "start_factor", start_factor, 0, 1)
        check_number("LinearLR", "end_factor", end_factor, 0, 1)
        check_whole("LinearLR", "total_iters", total_iters, 1)
        if start_factor == 0:
            raise ValueError("LinearLR: start_factor=0 would waste the first step; expected a number above 0, up to 1.")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        share = min(t, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class ExponentialLR(LRScheduler):
    """The rate times `gamma` at every step: `base * gamma^t`."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        check_number("ExponentialLR", "gamma", gamma, 0)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma**t


class PolynomialLR(LRScheduler):
    """`base * (1 - t / total_iters)^power`, zero from t = `total_iters` on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        check_whole("PolynomialLR", "total_iters", total_iters, 1)
        check_number("PolynomialLR", "power", power, 0)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * (1 - min(t, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from `base` down to `eta_min` at t = `T_max`, and up again beyond it.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5, without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        check_whole("CosineAnnealingLR", "T_max", T_max, 1)
        check_number("CosineAnnealingLR", "eta_min", eta_min, 0)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    @property
    def floor(self) -> float:  # type: ignore[override]
        return self.eta_min

    def rate(self, base: float, t: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * t / self.T_max)) / 2


class InverseTimeLR(LRScheduler):
    """Cooling: `base / (1 + decay * t)`. PyTorch has none; elsewhere it is called inverse time decay.

    The rate is halved at t = 1 / decay, and falls as 1 / t in the end.
    """

    def __init__(self, optimizer: Optimizer, decay: float, last_epoch: int = -1):
        check_number("InverseTimeLR", "decay", decay, 0)
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base / (1 + self.decay * t)


class RobbinsMonroLR(LRScheduler):
    """`base / k^power` at the k-th step, k = t + 1: rates whose sum diverges while the sum of their squares does not.

    These are the conditions under which stochastic approximation converges (Robbins & Monro 1951, "A stochastic
    approximation method", who take power 1: the sequence a / k). They hold for powers above 1/2, up to 1. PyTorch has
    no such schedule.
    """

    def __init__(self, optimizer: Optimizer, power: float = 1.0, last_epoch: int = -1):
        check_number("RobbinsMonroLR", "power", power, 0, 1)
        if power <= 0.5:
            raise ValueError(
                f"RobbinsMonroLR: power={power}; expected more than 0.5, up to 1, or the squares of the rates "
                "would not have a finite sum."
            )
        self.power = power
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base / (t + 1) ** self.power


# --- rates by functions of yours ---


class LambdaLR(LRScheduler):
    """`base * lr_lambda(t)`; one function, or a list with one for each group."""

    overwrites = True

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1):
        check_optimizer(type(self).__name__, optimizer)
        self.functions = for_groups(type(self).__name__, "lr_lambda", lr_lambda, optimizer)
        for function in self.functions:
            check_function(type(self).__name__, "lr_lambda", function)
        super().__init__(optimizer, last_epoch)

    def rates_at(self, t: int) -> list[float]:
        return [base * function(t) for base, function in zip(self.base_lrs, self.functions, strict=True)]


class MultiplicativeLR(LambdaLR):
    """The rate times `lr_lambda(t)` at step t = 1, 2, ...: `base * lr_lambda(1) * ... * lr_lambda(t)`."""

    overwrites = False

    def rates_at(self, t: int) -> list[float]:
        pairs = zip(self.base_lrs, self.functions, strict=True)
        return [base * prod(function(k) for k in range(1, t + 1)) for base, function in pairs]

    def take_over(self) -> None:
        """Go on from the rate that is found, times `lr_lambda(0)`: so PyTorch does it."""
        pairs = zip(self.optimizer.param_groups, self.functions, strict=True)
        self.base_lrs = [group["lr"] * function(0) for group, function in pairs]
        self.begin()

    def _next_rates(self) -> list[float]:
        t = self.last_epoch
        if t == 0:
            return list(self.base_lrs)
        return [rate * function(t) for rate, function in zip(self._rates, self.functions, strict=True)]


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
