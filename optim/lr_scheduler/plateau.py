"""ReduceLROnPlateau: lower the rate when a metric stops improving. The one schedule that is not a function of time."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

from minigrad.backend.gpu.replay import refuse_capture

from ..optimizer import Optimizer
from ..options import check_number, number
from .base import LRScheduler, check_optimizer, numbers_for_groups, one_of, whole


def check_best(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is a metric, or an infinity, where none was seen."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(f"{owner}: {name}={value!r}; expected a number.")


class ReduceLROnPlateau(LRScheduler):
    """The rate times `factor` when more than `patience` steps in a row brought no new best. Call `step(metric)`.

    A metric is a new best if it is below the best one (above it, for mode "max") by more than `threshold`: of the best
    for threshold_mode "rel", `best * (1 -+ threshold)`, or as it stands for "abs", `best -+ threshold`. NaN never is.
    "Halve the rate whenever the loss has not fallen" is `factor=0.5, patience=0, threshold=0`.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
    factor : float
        From 0 to below 1.
    patience : int
        How many steps without a new best are put up with.
    threshold : float
    threshold_mode : {"rel", "abs"}
    cooldown : int
        For so many steps after a reduction nothing is counted.
    min_lr : float, or a list with one for each group
    eps : float
        A rate is left alone that would be lowered by no more than this.

    Notes
    -----
    `training.fit` calls `step` with the validation's loss (for mode "max", its accuracy), or the training's.
    """

    watches = True  # `step` takes a metric
    mode: str
    factor: float
    patience: int
    cooldown: int
    threshold: float
    threshold_mode: str
    eps: float
    for_each_group = ("min_lrs",)
    checks: ClassVar = {
        "mode": one_of("min", "max"),
        "threshold_mode": one_of("rel", "abs"),
        "factor": lambda owner, name, value: check_number(owner, name, value, 0, 1, high_excluded=True),
        **dict.fromkeys(("threshold", "eps"), number(0)),
        **dict.fromkeys(("patience", "cooldown", "num_bad_epochs", "cooldown_counter"), whole(0)),
        "best": check_best,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ):
        name = "ReduceLROnPlateau"
        check_optimizer(name, optimizer)
        self.optimizer = optimizer
        self.set_options(mode=mode, factor=factor, patience=patience, cooldown=cooldown)
        self.set_options(threshold=threshold, threshold_mode=threshold_mode, eps=eps)
        self.min_lrs = numbers_for_groups(name, "min_lr", min_lr, optimizer)
        self.best = inf if mode == "min" else -inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._remember()

    def step(self, metrics: Any = None) -> None:
        """Look at the metric, a number or a Tensor of one, and lower the rates if it is time."""
        if metrics is None:
            raise TypeError("ReduceLROnPlateau.step: expected the metric to watch, as in scheduler.step(val_loss).")
        refuse_capture("ReduceLROnPlateau.step")
        self.join_new_groups()
        value = float(metrics)
        self.last_epoch += 1
        if self.is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._remember()

    def is_better(self, value: float) -> bool:
        """Whether this would be a new best."""
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            mark = self.best + sign * self.threshold
        else:
            mark = self.best * (1 + sign * self.threshold)
        return sign * value > sign * mark

    def rates_at(self, t: int) -> list[float]:
        raise TypeError("ReduceLROnPlateau: its rates depend on what it is shown, so they cannot be told beforehand.")

    def _join(self, i: int, group: dict[str, Any]) -> None:
        self.min_lrs.append(self.shared("min_lr", self.min_lrs, i))

    def _reduce(self) -> None:
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lower = max(group["lr"] * self.factor, lowest)
            if group["lr"] - lower > self.eps:
                group["lr"] = lower
