"""Schedules that rise and fall: cosine with warm restarts, cyclic rates, one cycle, and momentum the other way.

These set rates of their own instead of multiplying: a cycle is given by its lowest and its highest rate. Momentum,
where it is cycled, is high while the rate is low, so that a step is about as long throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, floor, pi
from typing import Any, ClassVar

from ..optimizer import Optimizer
from ..options import check_flag, check_number, number
from .base import LRScheduler, check_function, check_optimizer, check_whole, numbers_for_groups, one_of, whole


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from `base` down to `eta_min`, again and again; each period `T_mult` times as long as the last.

    Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5. The weights at the end
    of each period can be averaged or used together (Huang et al. 2017, "Snapshot ensembles").
    It counts epochs; with `scheduler.interval = "batch"` the training loop `fit` steps it after each batch.

    Parameters
    ----------
    optimizer : Optimizer
    T_0 : int
        The length of the first period.
    T_mult : int
        1 or more.
    eta_min : float
    """

    overwrites = True
    T_0: int
    T_mult: int
    eta_min: float
    checks: ClassVar = {"T_0": whole(1), "T_mult": whole(1), "eta_min": number(0), "time": number(-1)}

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        self.set_options(T_0=T_0, T_mult=T_mult, eta_min=eta_min)
        self.time: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: float) -> float:
        since, period = self.place(t)
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * since / period)) / 2

    def place(self, t: float) -> tuple[float, int]:
        """(steps since the last restart, length of the period) after t steps."""
        if self.T_mult == 1:
            return t % self.T_0, self.T_0
        period = self.T_0
        while t >= period:
            t, period = t - period, period * self.T_mult
        return t, period

    def step(self, epoch: float | None = None) -> None:
        """Set the next rate, or that of `epoch`, which may be a fraction: `step(epoch + i / batches)`."""
        if epoch is not None:
            check_number("CosineAnnealingWarmRestarts", "epoch", epoch, 0)
        before = self.time, self.last_epoch
        self.time = self.time + 1 if epoch is None else epoch
        self.last_epoch = floor(self.time) - 1
        try:
            super().step()
        except Exception:
            self.time, self.last_epoch = before
            raise

    def restart(self) -> None:
        self.time = -1
        super().restart()

    def _next_rates(self) -> list[float]:
        return [self.rate(base, self.time) for base in self.base_lrs]


class _Cycle(LRScheduler):
    """What CyclicLR and OneCycleLR share: the momentum (of Adam: beta1) goes the other way."""

    interval = "batch"
    overwrites = True

    for_each_group: ClassVar[tuple[str, ...]] = ("base_lrs", "_rates", "base_momentums", "max_momentums")

    def _prepare_momentum(self, optimizer: Optimizer, cycle: bool, base: Any, highest: Any) -> None:
        name = type(self).__name__
        check_flag(name, "cycle_momentum", cycle)
        self.cycle_momentum = cycle
        self.base_momentums = numbers_for_groups(name, "base_momentum", base, optimizer, 1)
        self.max_momentums = numbers_for_groups(name, "max_momentum", highest, optimizer, 1)
        if cycle and not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ValueError(
                f"{name}: {type(optimizer).__name__} has neither momentum nor betas to cycle; say cycle_momentum=False."
            )

    def momentum(self, lowest: float, highest: float, t: int) -> float:
        """The momentum after t steps."""
        raise NotImplementedError

    def step(self) -> None:
        super().step()
        if not self.cycle_momentum:
            return
        ranges = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
        for group, lowest, highest in ranges:
            momentum = self.momentum(lowest, highest, self.last_epoch)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def _check_rates(self, rates: Sequence[Any]) -> None:
        super()._check_rates(rates)
        for lowest, highest in zip(self.base_momentums, self.max_momentums, strict=True) if self.cycle_momentum else ():
            check_number(type(self).__name__, "the momentum", self.momentum(lowest, highest, self.last_epoch), 0, 1)

    def _join(self, i: int, group: dict[str, Any]) -> None:
        """A new group's own rate is not used, as those of the others are not."""
        for name in ("base_momentums", "max_momentums"):
            values = getattr(self, name)
            values.append(self.shared(name, values, i))


class CyclicLR(_Cycle):
    """Straight up from `base_lr` to `max_lr` and down again, for ever. Step every batch.

    Smith 2017, "Cyclical learning rates for training neural networks". In cycle c = 1, 2, ..., at the share s of the
    way up (or, after the top, of the way still to go down), the rate is `base_lr + (max_lr - base_lr) * s * scale`.

    Parameters
    ----------
    optimizer : Optimizer
    base_lr, max_lr : float, or a list with one for each group
        The groups' own rates are not used.
    step_size_up, step_size_down : int
        Batches on the way up and on the way down (as many as up, unless given).
    mode : {"triangular", "triangular2", "exp_range"}
        The scale: 1, 1 / 2^(c - 1), or gamma^t.
    gamma : float
    scale_fn : function, optional
        In place of `mode`, a scale of your own: of c, or of t with `scale_mode="iterations"`.
    scale_mode : {"cycle", "iterations"}
    cycle_momentum : bool
        Whether the momentum (of Adam: beta1) falls from `max_momentum` to `base_momentum` while the rate rises.
    base_momentum, max_momentum : float, or a list with one for each group
    """

    step_size_up: int
    step_size_down: int
    mode: str
    gamma: float
    scale_mode: str
    for_each_group = (*_Cycle.for_each_group, "lowest", "max_lrs")
    checks: ClassVar = {
        **dict.fromkeys(("step_size_up", "step_size_down"), whole(1)),
        "gamma": number(0),
        "mode": one_of("triangular", "triangular2", "exp_range"),
        "scale_mode": one_of("cycle", "iterations"),
        "cycle_momentum": check_flag,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ):
        check_optimizer("CyclicLR", optimizer)
        step_size_down = step_size_up if step_size_down is None else step_size_down
        self.set_options(step_size_up=step_size_up, step_size_down=step_size_down)
        self.set_options(mode=mode, gamma=gamma, scale_mode=scale_mode)
        if scale_fn is not None:
            check_function("CyclicLR", "scale_fn", scale_fn)
            self.functions = [scale_fn]
        self.lowest = numbers_for_groups("CyclicLR", "base_lr", base_lr, optimizer)
        self.max_lrs = numbers_for_groups("CyclicLR", "max_lr", max_lr, optimizer)
        self._prepare_momentum(optimizer, cycle_momentum, base_momentum, max_momentum)
        if last_epoch == -1:
            for group, lowest in zip(optimizer.param_groups, self.lowest, strict=True):
                group["lr"] = lowest
        super().__init__(optimizer, last_epoch)

    def bases(self) -> list[float]:
        return list(self.lowest)

    def _join(self, i: int, group: dict[str, Any]) -> None:
        lowest, highest = self.shared("base_lr", self.lowest, i), self.shared("max_lr", self.max_lrs, i)
        super()._join(i, group)
        self.lowest.append(lowest)
        self.max_lrs.append(highest)
        self.base_lrs.append(lowest)
        self._rates.append(group["lr"])

    def rates_at(self, t: int) -> list[float]:
        height = self.height(t)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def momentum(self, lowest: float, highest: float, t: int) -> float:
        return highest - (highest - lowest) * self.height(t)

    def height(self, t: int) -> float:
        """How far up after t steps, times the scale: 0 at `base_lr`, 1 at `max_lr`."""
        length = self.step_size_up + self.step_size_down
        cycles, place = divmod(t, length)
        share = place / self.step_size_up if place <= self.step_size_up else (length - place) / self.step_size_down
        return share * self.scale(cycles + 1, t)

    def scale(self, cycle: int, t: int) -> float:
        """What the height of a cycle, counted from 1, is multiplied by after t steps."""
        if self.functions:
            return self.functions[0](cycle if self.scale_mode == "cycle" else t)
        return {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": self.gamma**t}[self.mode]


def check_factor(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is a number above 0."""
    check_number(owner, name, value, 0)
    if value == 0:
        raise ValueError(f"{owner}: {name}=0; expected a number above 0.")


def check_phases(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is the list of where each phase ends, and between which levels it goes."""

    def is_phase(phase: Any) -> bool:
        levels = ("first", "highest", "last")
        return isinstance(phase, (list, tuple)) and len(phase) == 3 and all(level in levels for level in phase[1:])

    if not isinstance(value, (list, tuple)) or not value or any(not is_phase(phase) for phase in value):
        raise ValueError(f"{owner}: {name}={value!r}; expected a list of (end, level, level).")
    for end, *_ in value:
        check_number(owner, name, end, -1)


class OneCycleLR(_Cycle):
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
    base_momentum, max_momentum : float, or a list with one for each group
    div_factor, final_div_factor : float
        The first rate is `max_lr / div_factor`, the last is the first divided by `final_div_factor`.
    three_phase : bool
        Go down as long as up, to the first rate, and from there to the last in what remains.
    """

    total_steps: int
    anneal_strategy: str
    div_factor: float
    final_div_factor: float
    checks: ClassVar = {
        "total_steps": whole(1),
        "anneal_strategy": one_of("cos", "linear"),
        **dict.fromkeys(("div_factor", "final_div_factor"), check_factor),
        "cycle_momentum": check_flag,
        "phases": check_phases,
    }

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
        check_optimizer("OneCycleLR", optimizer)
        self.set_options(total_steps=total_steps, anneal_strategy=anneal_strategy)
        self.set_options(div_factor=div_factor, final_div_factor=final_div_factor)
        check_number("OneCycleLR", "pct_start", pct_start, 0, 1)
        check_flag("OneCycleLR", "three_phase", three_phase)
        # Where each phase ends, and between which of (first, highest, last) it goes.
        turn = pct_start * total_steps - 1
        self.phases = [(turn, "first", "highest"), (2 * turn, "highest", "first"), (total_steps - 1, "first", "last")]
        if not three_phase:
            self.phases = [(turn, "first", "highest"), (total_steps - 1, "highest", "last")]
        self._prepare_momentum(optimizer, cycle_momentum, base_momentum, max_momentum)
        rates = numbers_for_groups("OneCycleLR", "max_lr", max_lr, optimizer)
        if last_epoch == -1:
            for group, highest in zip(optimizer.param_groups, rates, strict=True):
                group["initial_lr"] = group["lr"] = highest / div_factor
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int) -> float:
        return self._between(
            {"first": base, "highest": base * self.div_factor, "last": base / self.final_div_factor}, t
        )

    def momentum(self, lowest: float, highest: float, t: int) -> float:
        return self._between({"first": highest, "highest": lowest, "last": highest}, t)

    def step(self) -> None:
        if self.last_epoch >= self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {self.last_epoch + 1} of a cycle of {self.total_steps}. It counts batches, so "
                "total_steps = epochs * len(train_loader)."
            )
        super().step()

    def check_state(self, state_dict: Any) -> None:
        super().check_state(state_dict)
        saved = state_dict["total_steps"]
        if saved != self.total_steps:
            raise ValueError(
                f"OneCycleLR.load_state_dict: the state is of a cycle of {saved} steps, this one has "
                f"{self.total_steps}. A cycle has its length from the start: go on with as many epochs, batches and "
                "samples as in the first run; or, to train longer, begin from the saved weights with a new schedule in "
                "another folder."
            )

    def _join(self, i: int, group: dict[str, Any]) -> None:
        base = self.shared("max_lr", self.base_lrs, i)
        super()._join(i, group)
        group["initial_lr"] = base
        self.base_lrs.append(base)
        self._rates.append(group["lr"])

    def _between(self, levels: dict[str, float], t: int) -> float:
        i = next((i for i, (end, *_) in enumerate(self.phases) if t <= end), len(self.phases) - 1)
        end, before, after = self.phases[i]
        begin = self.phases[i - 1][0] if i else 0.0
        share = 1.0 if t > end or end == begin else (t - begin) / (end - begin)  # the very last step is past the end
        if self.anneal_strategy == "linear":
            return levels[before] + (levels[after] - levels[before]) * share
        return levels[after] + (levels[before] - levels[after]) * (1 + cos(pi * share)) / 2
