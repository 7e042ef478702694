"""Schedules that are one formula, `rate(base, t)`: the rate after t steps of a group that began with `base`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import cos, pi, prod
from typing import Any, ClassVar

from ..optimizer import Optimizer
from ..options import check_number, number
from .base import LRScheduler, check_function, check_optimizer, check_whole, for_groups, whole

# --- what options may be ---


def check_milestones(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is a list of whole numbers."""
    if not isinstance(value, list):
        raise TypeError(f"{owner}: {name} must be a list of whole numbers, got {value!r}.")
    for milestone in value:
        check_whole(owner, name, milestone, 0)


def check_start(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is above 0, up to 1."""
    check_number(owner, name, value, 0, 1)
    if value == 0:
        raise ValueError(f"{owner}: {name}=0 would waste the first step; expected a number above 0, up to 1.")


def check_power(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is above 1/2, up to 1."""
    check_number(owner, name, value, 0, 1)
    if value <= 0.5:
        raise ValueError(
            f"{owner}: {name}={value}; expected more than 0.5, up to 1, or the squares of the rates would not have a "
            "finite sum."
        )


# --- rates that fall in steps ---


class ConstantLR(LRScheduler):
    """`base * factor` until t = `total_iters`, then `base`. (A rate that never changes needs no schedule.)"""

    factor: float
    total_iters: int
    checks: ClassVar = {"factor": number(0, 1), "total_iters": whole(1)}

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1):
        self.set_options(factor=factor, total_iters=total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.factor if t < self.total_iters else base


class StepLR(LRScheduler):
    """The rate times `gamma` every `step_size` steps: `base * gamma^(t // step_size)`."""

    step_size: int
    gamma: float
    checks: ClassVar = {"step_size": whole(1), "gamma": number(0)}

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.set_options(step_size=step_size, gamma=gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times `gamma` at each of the `milestones`: `base * gamma^(number of milestones up to t)`.

    A milestone given twice counts twice.
    """

    milestones: list[int]
    gamma: float
    checks: ClassVar = {"milestones": check_milestones, "gamma": number(0)}

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        milestones = list(milestones)
        check_milestones("MultiStepLR", "milestones", milestones)
        self.set_options(milestones=sorted(milestones), gamma=gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** bisect_right(self.milestones, t)


# --- rates that fall smoothly ---


class LinearLR(LRScheduler):
    """From `base * start_factor` in a straight line to `base * end_factor` at t = `total_iters`, then constant.

    From below, it is the linear warm-up of Goyal et al. 2017 ("Accurate, large minibatch SGD", section 2.2); put it
    before another schedule with `SequentialLR`, or multiply it with one by `ChainedScheduler`.
    """

    start_factor: float
    end_factor: float
    total_iters: int
    checks: ClassVar = {"start_factor": check_start, "end_factor": number(0, 1), "total_iters": whole(1)}

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        self.set_options(start_factor=start_factor, end_factor=end_factor, total_iters=total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        share = min(t, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class ExponentialLR(LRScheduler):
    """The rate times `gamma` at every step: `base * gamma^t`."""

    gamma: float
    checks: ClassVar = {"gamma": number(0)}

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.set_options(gamma=gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma**t


class PolynomialLR(LRScheduler):
    """`base * (1 - t / total_iters)^power`, zero from t = `total_iters` on."""

    total_iters: int
    power: float
    checks: ClassVar = {"total_iters": whole(1), "power": number(0)}

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.set_options(total_iters=total_iters, power=power)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * (1 - min(t, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from `base` down to `eta_min` at t = `T_max`, and up again beyond it.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5, without the restarts.
    """

    T_max: int
    eta_min: float
    checks: ClassVar = {"T_max": whole(1), "eta_min": number(0)}

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.set_options(T_max=T_max, eta_min=eta_min)
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

    decay: float
    checks: ClassVar = {"decay": number(0)}

    def __init__(self, optimizer: Optimizer, decay: float, last_epoch: int = -1):
        self.set_options(decay=decay)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base / (1 + self.decay * t)


class RobbinsMonroLR(LRScheduler):
    """`base / k^power` at the k-th step, k = t + 1: rates whose sum diverges while the sum of their squares does not.

    These are the conditions under which stochastic approximation converges (Robbins & Monro 1951, "A stochastic
    approximation method", who take power 1: the sequence a / k). They hold for powers above 1/2, up to 1. PyTorch has
    no such schedule.
    """

    power: float
    checks: ClassVar = {"power": check_power}

    def __init__(self, optimizer: Optimizer, power: float = 1.0, last_epoch: int = -1):
        self.set_options(power=power)
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

    def _join(self, i: int, group: dict[str, Any]) -> None:
        self.functions = [*self.functions, self.shared("lr_lambda", list(self.functions), i)]
        self.base_lrs.append(group["initial_lr"])
        self._rates.append(group["lr"])


class MultiplicativeLR(LambdaLR):
    """The rate times `lr_lambda(t)` at step t = 1, 2, ...: `base * lr_lambda(1) * ... * lr_lambda(t)`."""

    overwrites = False

    def rates_at(self, t: int) -> list[float]:
        pairs = zip(self.base_lrs, self.functions, strict=True)
        return [base * prod(function(k) for k in range(1, t + 1)) for base, function in pairs]

    def take_over(self) -> None:
        """Go on from the rate that is found, times `lr_lambda(0)`: so PyTorch does it."""
        self.join_new_groups()
        pairs = zip(self.optimizer.param_groups, self.functions, strict=True)
        self.base_lrs = [group["lr"] * function(0) for group, function in pairs]
        self.begin()

    def _next_rates(self) -> list[float]:
        t = self.last_epoch
        if t == 0:
            return list(self.base_lrs)
        return [rate * function(t) for rate, function in zip(self._rates, self.functions, strict=True)]
