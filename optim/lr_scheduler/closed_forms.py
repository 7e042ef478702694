"""Schedules that are one formula, `rate(base, t)`: the rate after t steps of a group that began with `base`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import cos, pi, prod
from typing import Any

from ..optimizer import Optimizer
from ..options import check_number
from .base import LRScheduler, check_function, check_optimizer, check_whole, for_groups

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
