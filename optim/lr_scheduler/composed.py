"""Schedules made of others: one after another, several at once, and a growing batch in the place of a falling rate.

Warm-up is put before any schedule in this way. And what matters to the noise of SGD is the rate divided by the size of
the batch, so a schedule of one is a schedule of the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from minigrad.backend.gpu.replay import refuse_capture

from ..optimizer import Optimizer
from ..options import number
from .base import LRScheduler, check_optimizer, check_whole, whole
from .closed_forms import check_milestones
from .plateau import ReduceLROnPlateau


class _Combined(LRScheduler):
    """What the schedules made of others share. Where one of these counts batches, the whole does."""

    for_each_group: ClassVar[tuple[str, ...]] = ()

    def _take(self, optimizer: Optimizer | None, schedulers: Sequence[LRScheduler]) -> None:
        name = type(self).__name__
        schedulers = list(schedulers)
        if not schedulers:
            raise ValueError(f"{name}: got no schedules; expected at least one.")
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
                raise TypeError(
                    f"{name}: schedule {i} is a {type(scheduler).__name__}; expected one whose step() takes no metric."
                )
        optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        check_optimizer(name, optimizer)
        for i, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{name}: schedule {i}, a {type(scheduler).__name__}, is that of another optimizer.")
        self.optimizer, self.schedulers = optimizer, schedulers
        if any(scheduler.interval == "batch" for scheduler in schedulers):
            self.interval = "batch"

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def check_state(self, state_dict: Any) -> None:
        given = state_dict.get("schedulers") if isinstance(state_dict, Mapping) else ()
        if not isinstance(given, (list, tuple)) or len(given) != len(self.schedulers):
            found = len(given) if isinstance(given, (list, tuple)) else repr(given)
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state is of {found} schedules, this has "
                f"{len(self.schedulers)}."
            )
        super().check_state(state_dict)
        for scheduler, state in zip(self.schedulers, given, strict=True):
            scheduler.check_state(state)

    def _take_state(self, state_dict: Mapping[str, Any]) -> None:
        super()._take_state({key: value for key, value in state_dict.items() if key != "schedulers"})
        for scheduler, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            scheduler._take_state(state)


class SequentialLR(_Combined):
    """One schedule after another: each takes over at its milestone, and begins at its own t = 0 there.

    >>> warmup = LinearLR(optimizer, start_factor=0.1, total_iters=5)
    >>> scheduler = SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, T_max=95)], milestones=[5])

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : list of LRScheduler
    milestones : list of int
        At which step the second takes over, the third, and so on: one less than there are schedules.
    """

    milestones: list[int]
    checks: ClassVar = {"milestones": check_milestones}

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ):
        self._take(optimizer, schedulers)
        self.milestones = list(milestones)
        if len(self.milestones) != len(self.schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(self.schedulers)} schedules with {len(self.milestones)} milestones; expected one "
                "milestone less than schedules, where the second begins, the third, ..."
            )
        for before, milestone in zip([0, *self.milestones], self.milestones, strict=False):
            check_whole("SequentialLR", "milestones", milestone, before + 1)
        check_whole("SequentialLR", "last_epoch", last_epoch, -1)
        self.last_epoch = last_epoch + 1
        self._begin_first()

    def step(self) -> None:
        refuse_capture("SequentialLR.step")
        t = self.last_epoch + 1
        current = self.schedulers[bisect_right(self.milestones, t)]
        if t in self.milestones:
            current.take_over()
        else:
            current.step()
        self.last_epoch = t
        self._remember()

    def rates_at(self, t: int) -> list[float]:
        i = bisect_right(self.milestones, t)
        return self.schedulers[i].rates_at(t - (self.milestones[i - 1] if i else 0))

    def begin(self) -> None:
        self.last_epoch = 0
        self._begin_first()

    restart = begin

    def _begin_first(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"])
        self.schedulers[0].begin()
        self._remember()


class ChainedScheduler(_Combined):
    """Several schedules at once, stepped in the order given: their factors multiply.

    As in PyTorch a schedule that overwrites the rate (see `LRScheduler`) undoes those before it.

    Parameters
    ----------
    schedulers : list of LRScheduler
    optimizer : Optimizer, optional
        The schedules' own, unless given.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        self._take(optimizer, schedulers)
        self._remember()

    def step(self) -> None:
        for scheduler in self.schedulers:
            scheduler.step()
        self._remember()

    def rates_at(self, t: int) -> list[float]:
        raise TypeError("ChainedScheduler: ask its schedules; how their rates combine depends on their order.")

    def begin(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"])
        self.restart()

    def restart(self) -> None:
        for scheduler in self.schedulers:
            scheduler.restart()
        self._remember()


def check_limit(owner: str, name: str, value: Any) -> None:
    """Raise unless `value` is a whole number, 1 or more, or None."""
    if value is not None:
        check_whole(owner, name, value, 1)


class BatchSizeScheduler(_Combined):
    """The batch grows by as much as a schedule would have lowered the rate.

    Smith, Kindermans, Ying & Le 2018, "Don't decay the learning rate, increase the batch size": the noise of SGD goes
    as rate / batch size, so that it falls in the same way, in fewer steps. At each step the batch becomes
    `first size * (first rate / scheduled rate)`, rounded to whole samples, at most `max_batch_size`; the rate makes up
    for what rounding and the limit leave: `rate / batch size` is exactly that of the schedule with its first batch
    size.

    Parameters
    ----------
    scheduler : LRScheduler
        Any that counts epochs, such as StepLR; of several groups the first decides.
    loader : DataLoader, or anything with a `batch_size` that can be set
        It goes over to the new size with its next pass.
    max_batch_size : int, optional
        Where memory ends; the paper stops at a tenth of the data. The number of samples, if the loader has a dataset.
    """

    for_each_group = ("_scheduled",)
    checks: ClassVar = {
        "batch_size": whole(1),
        "base_batch_size": whole(1),
        "max_batch_size": check_limit,
        "first_rate": number(0),
    }

    def __init__(self, scheduler: LRScheduler, loader: Any, max_batch_size: int | None = None):
        self._take(None, [scheduler])
        if not hasattr(loader, "batch_size"):
            raise TypeError(f"BatchSizeScheduler: expected a loader with a batch_size, got {type(loader).__name__}.")
        if scheduler.interval != "epoch":
            raise ValueError(
                f"BatchSizeScheduler: {type(scheduler).__name__} counts batches, but the size of a batch changes "
                "between epochs; choose a schedule by epochs."
            )
        if max_batch_size is None and hasattr(loader, "dataset"):
            max_batch_size = len(loader.dataset)
        if max_batch_size is not None:
            check_whole("BatchSizeScheduler", "max_batch_size", max_batch_size, loader.batch_size)
        self.loader = loader
        self.max_batch_size = max_batch_size
        self.base_batch_size = self.batch_size = loader.batch_size
        self.first_rate = scheduler.optimizer.param_groups[0]["initial_lr"]
        self._trade()

    def step(self) -> None:
        refuse_capture("BatchSizeScheduler.step")
        self.join_new_groups()
        (scheduler,) = self.schedulers
        for group, rate in zip(self.optimizer.param_groups, self._scheduled, strict=True):
            group["lr"] = rate
        scheduler.step()
        self._trade()

    def _join(self, i: int, group: dict[str, Any]) -> None:
        self._scheduled.append(group["lr"] * self.base_batch_size / self.batch_size)

    def _trade(self) -> None:
        """Turn the scheduled rates into a size of the batch and the rates that belong to it."""
        groups = self.optimizer.param_groups
        self._scheduled = [group["lr"] for group in groups]
        wanted = self.base_batch_size * self.first_rate / self._scheduled[0] if self._scheduled[0] else float("inf")
        largest = self.max_batch_size or wanted
        self.batch_size = max(1, int(min(largest, round(wanted) if wanted < largest else largest)))
        self.loader.batch_size = self.batch_size
        for group, rate in zip(groups, self._scheduled, strict=True):
            group["lr"] = rate * self.batch_size / self.base_batch_size
        self._remember()

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "loader"}

    def _take_state(self, state_dict: Mapping[str, Any]) -> None:
        self.loader.batch_size = state_dict["batch_size"]  # first: the loader may refuse
        super()._take_state(state_dict)
