"""LRScheduler: how a formula for the rate becomes PyTorch's `scheduler.step()`, and the checks that schedules share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import inf
from types import FunctionType
from typing import Any, ClassVar

import numpy as np

from minigrad.autograd import explain_constructor
from minigrad.backend.gpu.replay import refuse_capture

from ..optimizer import Optimizer
from ..options import Check, check_choice, check_number
from ..saved_state import CLASS


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
    checks: ClassVar[dict[str, Check]] = {}
    """What each option and each number of the state may be: the constructor and `load_state_dict` ask the same."""
    for_each_group: ClassVar[tuple[str, ...]] = ("base_lrs", "_rates")
    """The attributes that are lists with an entry for each parameter group."""

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

    def set_options(self, **options: Any) -> None:
        """Check options by `checks`, and keep them as attributes."""
        for name, value in options.items():
            self.checks[name](type(self).__name__, name, value)
            setattr(self, name, value)

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
        """Set the next learning rate.

        Raises ValueError for a rate that is negative, NaN or infinite; no rate is then changed. A parameter group that
        was added in the meantime is scheduled from here on, from its own rate; where each group was given an option or
        a function of its own, there is none for it, and ValueError says so.
        """
        refuse_capture(f"{type(self).__name__}.step")
        self.join_new_groups()
        self.last_epoch += 1
        try:
            rates = self._next_rates()
            changed = [
                now if self.overwrites else self._with_changes_by_others(group["lr"], before, now)
                for group, before, now in zip(self.optimizer.param_groups, self._rates, rates, strict=True)
            ]
            self._check_rates(rates)
            self._check_rates(changed)
        except OverflowError:
            self.last_epoch -= 1
            raise ValueError(f"{type(self).__name__}: the learning rate grows beyond all numbers.") from None
        except Exception:
            self.last_epoch -= 1
            raise
        for group, rate in zip(self.optimizer.param_groups, changed, strict=True):
            group["lr"] = rate
        self._rates = rates
        self._remember()

    def join_new_groups(self) -> None:
        """Take in the parameter groups that the optimizer was given since the last step."""
        groups = self.optimizer.param_groups
        known = len(getattr(self, self.for_each_group[0])) if self.for_each_group else len(groups)
        if len(groups) < known:
            raise ValueError(
                f"{type(self).__name__}: the optimizer had {known} parameter groups and has {len(groups)} now; make a "
                "new schedule after taking one away."
            )
        for i in range(known, len(groups)):
            groups[i].setdefault("initial_lr", groups[i]["lr"])
            self._join(i, groups[i])

    def _join(self, i: int, group: dict[str, Any]) -> None:
        """Take in one group. What it has is `lr`: the height that it would have reached had it been there at t = 0."""
        self.base_lrs.append(group["initial_lr"])
        self._rates.append(self.rate(group["initial_lr"], max(self.last_epoch, 0)))

    def shared(self, name: str, values: list[Any], i: int) -> Any:
        """The value that all groups have in common, for a new one; ValueError where they differ."""
        if any(value is not values[0] and value != values[0] for value in values):
            raise ValueError(
                f"{type(self).__name__}: parameter group {i} was added after the schedule was made, and {name} has a "
                "value for each of the others; make a new schedule with a value for it too."
            )
        return values[0]

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as the last step set it."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions; numbers, strings and lists, so fit for JSON.

        Of a callable object (not a plain function) in the place of a function its attributes are kept, as in PyTorch.
        `class` is the schedule's name, so that the state is not given to another.
        """
        self.join_new_groups()
        state = {key: value for key, value in self.__dict__.items() if key not in ("optimizer", "functions")}
        state = {key: list(value) if isinstance(value, list) else value for key, value in state.items()}
        if self.functions:
            state["functions"] = [None if isinstance(f, FunctionType) else dict(vars(f)) for f in self.functions]
        return {**state, CLASS: type(self).__name__}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. The rates themselves are the optimizer's: load its state too.

        Raises ValueError or TypeError, and changes nothing, for the state of another schedule, of another number of
        parameter groups, or with a value that the constructor would refuse.
        """
        self.check_state(state_dict)
        self._take_state(state_dict)

    def check_state(self, state_dict: Any) -> None:
        """Raise for a state that does not fit; see `load_state_dict`."""
        name = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{name}: got {type(state_dict).__name__}; expected what state_dict() gave.")
        own, of = self.state_dict(), state_dict.get(CLASS, type(self).__name__)
        unknown, missing = set(state_dict) - set(own) - {"interval"}, set(own) - set(state_dict) - {"interval", CLASS}
        if of != type(self).__name__ or unknown or missing:
            raise ValueError(
                f"{name}: the state is of {of}, and has {sorted(map(str, state_dict))}; expected one of "
                f"{type(self).__name__}, with {sorted(own)}. Is it that of another schedule?"
            )
        for key, value in state_dict.items():
            check = {**STATE_CHECKS, **self.checks}.get(key)
            if check is not None:
                check(name, key, value)
            if key in (*self.for_each_group, "_last_lr"):
                self._check_list(name, key, value)
        for function, attributes in zip(self.functions, self._kept(state_dict), strict=True):
            if attributes is not None and not (isinstance(attributes, dict) and hasattr(function, "__dict__")):
                raise ValueError(f"{name}: functions holds {attributes!r}; expected None or a dict of attributes.")

    def _check_list(self, name: str, key: str, value: Any) -> None:
        groups = len(self.optimizer.param_groups)
        if not isinstance(value, (list, tuple)) or len(value) != groups:
            found = f"{len(value)} values" if isinstance(value, (list, tuple)) else repr(value)
            raise ValueError(
                f"{name}: {found} in {key} for {groups} parameter groups; build the optimizer as it was when the state "
                "was saved."
            )
        for one in value:
            check_number(name, key, one, 0)

    def _kept(self, state_dict: Mapping[str, Any]) -> Sequence[Any]:
        given = state_dict.get("functions", ())
        if not isinstance(given, (list, tuple)) or len(given) != len(self.functions):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: functions is {given!r}; expected a list of "
                f"{len(self.functions)}."
            )
        return given

    def _take_state(self, state_dict: Mapping[str, Any]) -> None:
        for function, attributes in zip(self.functions, self._kept(state_dict), strict=True):
            if attributes is not None:
                vars(function).update(attributes)
        taken = {key: value for key, value in state_dict.items() if key not in ("functions", CLASS)}
        self.__dict__.update({k: list(v) if isinstance(v, (list, tuple)) else v for k, v in taken.items()})

    def changed_options(self, state_dict: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
        """The constructor's options that differ in a state, with the value there and the value here."""
        named = [name for name in inspect.signature(type(self)).parameters if name in self.checks]
        given = state_dict or {}
        return {
            name: (given[name], getattr(self, name))
            for name in named
            if name in given and given[name] != getattr(self, name)
        }

    # --- for schedules that are made of others ---

    def begin(self) -> None:
        """Set the rates to those of t = 0, whatever they are now, and count from there."""
        self.join_new_groups()
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base
        self.restart()

    def take_over(self) -> None:
        """Begin at the point where another schedule has ended."""
        self.begin()

    def restart(self) -> None:
        """Count from t = 0 again; what others did to the rates stays."""
        self.join_new_groups()
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

    def _check_rates(self, rates: Sequence[Any]) -> None:
        for i, rate in enumerate(rates):
            is_number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
            if not is_number or not 0 <= rate < inf:
                raise ValueError(
                    f"{type(self).__name__}: the learning rate of group {i} would be {rate!r} after {self.last_epoch} "
                    "steps; expected a finite number, 0 or more. No rate was changed."
                )

    def _remember(self) -> None:
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


# --- checks ---


def whole(low: int) -> Check:
    """The check for a whole number of at least `low`."""
    return lambda owner, name, value: check_whole(owner, name, value, low)


def one_of(*choices: str) -> Check:
    """The check for one of some words."""
    return lambda owner, name, value: check_choice(owner, name, value, choices)


STATE_CHECKS: dict[str, Check] = {"last_epoch": whole(-1), "interval": one_of("epoch", "batch")}
"""What is in the state of every schedule."""


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
