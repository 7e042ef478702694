"""Learning rate schedules: the rate as a function of how often `step()` was called.

A schedule is one formula, `rate(base, t)`: the learning rate after t steps of a group that began with `base`. After
this file you know each formula, and how the base class turns it into PyTorch's `scheduler.step()`.
"""

from __future__ import annotations

from math import cos, inf, pi
from typing import Any

from .optimizer import Optimizer, check_flag, check_number


class LRScheduler:
    """What all schedules share. To add one, write `rate`; with options, keep them as attributes that JSON can hold.

    Making a schedule sets the rate for t = 0; each `step()`, called after the optimizer's, sets the next. `interval`
    says how often that is meant to be: "epoch" or "batch".

    A rate that something else changed in the meantime, a second schedule or you, stays changed by the same factor.

    Parameters
    ----------
    optimizer : Optimizer
    last_epoch : int
        How many steps were taken before; -1 to begin. Otherwise each group must hold its `initial_lr`, as it does
        after `optimizer.load_state_dict`.
    """

    interval = "epoch"

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{name}: expected an Optimizer, got {type(optimizer).__name__}.")
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
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._rates = list(self.base_lrs) if last_epoch == -1 else [g["lr"] for g in optimizer.param_groups]
        self._last_lr: list[float] = []
        self.last_epoch = last_epoch
        self.step()

    def rate(self, base: float, t: int) -> float:
        """The learning rate after t steps of a group that began with `base`."""
        raise NotImplementedError

    def step(self) -> None:
        """Set the next learning rate."""
        self.last_epoch += 1
        groups = self.optimizer.param_groups
        rates = [self.rate(base, self.last_epoch) for base in self.base_lrs]
        for group, before, now in zip(groups, self._rates, rates, strict=False):
            by_others = group["lr"] / before if before and group["lr"] != before else 1
            group["lr"] = now * by_others
        self._rates = rates
        self._last_lr = [group["lr"] for group in groups]

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group, as the last step set it."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer; numbers, strings and lists, so fit for JSON."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. The rates themselves are the optimizer's: load its state too."""
        unknown, missing = set(state_dict) - set(self.state_dict()), set(self.state_dict()) - set(state_dict)
        if unknown or missing:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state has {sorted(state_dict)}; expected "
                f"{sorted(self.state_dict())}. Is it that of another schedule?"
            )
        self.__dict__.update(state_dict)


class StepLR(LRScheduler):
    """The rate times `gamma` every `step_size` steps: `base * gamma^(t // step_size)`."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        check_whole("StepLR", "step_size", step_size, 1)
        check_number("StepLR", "gamma", gamma, 0)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class LinearLR(LRScheduler):
    """From `base * start_factor` in a straight line to `base * end_factor` at t = `total_iters`, then constant."""

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


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from `base` down to `eta_min` at t = `T_max`, and up again beyond it.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5, without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        check_whole("CosineAnnealingLR", "T_max", T_max, 1)
        check_number("CosineAnnealingLR", "eta_min", eta_min, 0)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * t / self.T_max)) / 2


class OneCycleLR(LRScheduler):
    """One cycle: the rate up to `max_lr` and down to nearly nothing, the momentum the other way. Step every batch.

    Smith & Topin 2018, "Super-convergence: very fast training of neural networks using large learning rates", in
    PyTorch's form.

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float, or a list with one for each group
        The highest rate. The groups' own rates are not used.
    total_steps : int, or epochs and steps_per_epoch
        The length of the cycle in batches. A step beyond it raises ValueError.
    pct_start : float
        The share of the cycle in which the rate rises.
    anneal_strategy : {"cos", "linear"}
        How it goes from one rate to the next.
    cycle_momentum : bool
        Whether the momentum (of Adam: beta1) falls from `max_momentum` to `base_momentum` while the rate rises.
    div_factor, final_div_factor : float
        The first rate is `max_lr / div_factor`, the last is the first divided by `final_div_factor`.
    three_phase : bool
        Go down as long as up, to the first rate, and from there to the last in what remains.
    """

    interval = "batch"

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: how long is the cycle? Give total_steps, or epochs and steps_per_epoch.")
            check_whole("OneCycleLR", "epochs", epochs, 1)
            check_whole("OneCycleLR", "steps_per_epoch", steps_per_epoch, 1)
            total_steps = epochs * steps_per_epoch
        check_whole("OneCycleLR", "total_steps", total_steps, 1)
        check_number("OneCycleLR", "pct_start", pct_start, 0, 1)
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            check_number("OneCycleLR", name, value, 0)
            if value == 0:
                raise ValueError(f"OneCycleLR: {name}=0; expected a number above 0.")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy={anneal_strategy!r}; expected 'cos' or 'linear'.")
        for name, value in (("cycle_momentum", cycle_momentum), ("three_phase", three_phase)):
            check_flag("OneCycleLR", name, value)
        if cycle_momentum and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ValueError(
                f"OneCycleLR: {type(optimizer).__name__} has neither momentum nor betas; use cycle_momentum=False."
            )
        self.total_steps, self.anneal_strategy, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        # Where each phase ends, and between which of (first, highest, last) it goes.
        turn = pct_start * total_steps - 1
        self.phases = [(turn, "first", "highest"), (2 * turn, "highest", "first"), (total_steps - 1, "first", "last")]
        if not three_phase:
            self.phases = [(turn, "first", "highest"), (total_steps - 1, "highest", "last")]
        momenta = {"base_momentum": base_momentum, "max_momentum": max_momentum}
        self.momenta = [self._for_groups(optimizer, name, value) for name, value in momenta.items()]
        rates = self._for_groups(optimizer, "max_lr", max_lr)
        if last_epoch == -1:
            for group, highest in zip(optimizer.param_groups, rates, strict=True):
                group["initial_lr"] = group["lr"] = highest / div_factor
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        levels = {"first": base, "highest": base * self.div_factor, "last": base / self.final_div_factor}
        return self._between(levels, t)

    def step(self) -> None:
        if self.last_epoch >= self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {self.last_epoch + 1} of a cycle of {self.total_steps}. It counts batches, so "
                "total_steps = epochs * len(train_loader)."
            )
        super().step()
        if not self.cycle_momentum:
            return
        for group, low, high in zip(self.optimizer.param_groups, *self.momenta, strict=False):
            momentum = self._between({"first": high, "highest": low, "last": high}, self.last_epoch)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def _between(self, levels: dict[str, float], t: int) -> float:
        i = next((i for i, (end, *_) in enumerate(self.phases) if t <= end), len(self.phases) - 1)
        end, before, after = self.phases[i]
        begin = self.phases[i - 1][0] if i else 0.0
        share = (t - begin) / (end - begin) if end != begin else 1.0
        if self.anneal_strategy == "linear":
            return levels[before] + (levels[after] - levels[before]) * share
        return levels[after] + (levels[before] - levels[after]) * (1 + cos(pi * share)) / 2

    @staticmethod
    def _for_groups(optimizer: Optimizer, name: str, value: Any) -> list[float]:
        groups = len(optimizer.param_groups)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * groups
        if len(values) != groups:
            raise ValueError(f"OneCycleLR: {len(values)} values in {name} for {groups} parameter groups.")
        for one in values:
            check_number("OneCycleLR", name, one, 0, inf if name == "max_lr" else 1)
        return values


def check_whole(owner: str, name: str, value: Any, low: int) -> None:
    """Raise unless `value` is a whole number of at least `low`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{owner}: {name}={value!r}; expected a whole number, {low} or more.")
