"""The folder of a run: one run at a time writes to it, its files say whose they are, and nothing is left lying about.

`last.safetensors` is written before `best.safetensors`. A run that is killed between the two finds the weights of the
best epoch in `last`, so that at no moment the best weights are lost, or are those of another epoch without saying so.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minigrad import serialization
from minigrad.serialization import CheckpointError
from minigrad.training.protocols import Optimizer

try:
    import fcntl
except ImportError:  # on Windows, where no lock is taken
    fcntl = None  # type: ignore[assignment]

LAST, BEST, METRICS = "last.safetensors", "best.safetensors", "metrics.csv"
RUN, EPOCH = "run", "epoch"


class TrainingError(RuntimeError):
    """Training that cannot go on: a loss that is NaN or infinite, or a folder that another run is writing to."""


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Make the folder, see that it can be written to, and keep other runs out while inside.

    Raises
    ------
    OSError
        It cannot be made or written to; says why and what to do.
    TrainingError
        Another run is writing to it.
    """
    if folder is None:
        yield
        return
    serialization.replace_file(folder / ".minigrad")
    with suppress(OSError):
        os.unlink(folder / ".minigrad")
    lock = _lock(folder)
    try:
        _remove_leftovers(folder)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A lock on the folder itself, which the system takes off when the process ends, however it does."""
    if fcntl is None:
        return None
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
        raise TrainingError(
            f"fit: another run is writing to {folder} at this moment; two would overwrite each other's files. Give "
            "each run a folder of its own, out=..., or wait for the other to end."
        ) from None
    except OSError:  # a file system without locks
        os.close(place)
        return None
    return place


def _remove_leftovers(folder: Path) -> None:
    """Half-written files of runs that were killed; the lock says that nobody is writing them."""
    for name in (LAST, BEST, METRICS):
        for part in folder.glob(f".{name}.*.part"):
            with suppress(OSError):
                part.unlink()


def warn_of_another_run(folder: Path) -> None:
    """Say that a run which begins anew will overwrite the files of one that was there before."""
    there = [name for name in (LAST, BEST) if (folder / name).exists()]
    if there:
        warnings.warn(
            f"fit: {folder} holds {' and '.join(there)} of another run, which this one, begun anew, overwrites. To go "
            "on with that run say resume=True; to keep it, give another folder.",
            stacklevel=4,
        )


def load_last(folder: Path) -> dict[str, Any]:
    """The state of the run; CheckpointError for one that `fit` has not written."""
    path = folder / LAST
    state = serialization.load_state(path)
    needed = {"model", "optimizer", "scheduler", "loader", "random", "epoch", "under way", "history", "best"}
    missing = needed - state.keys() if isinstance(state, dict) else needed
    if missing:
        raise CheckpointError(
            f"{path} holds no run of fit: it lacks {', '.join(sorted(missing))}. Expected what fit(..., out=...) wrote."
        )
    return state


def save_best(folder: Path, weights: dict[str, Any], run: str, row: dict[str, Any]) -> None:
    """Write the weights of the best epoch, with its metrics and whose they are."""
    metrics = {key: f"{value}" for key, value in row.items() if value is not None}
    serialization.save(folder / BEST, weights, {**metrics, RUN: run})


def load_best(folder: Path, run: str, epoch: int) -> dict[str, Any]:
    """The weights of this run's best epoch. CheckpointError says what is wrong with the file, if they are not in it."""
    path = folder / BEST
    if not path.exists():
        raise CheckpointError(f"{path} is gone, which held the weights of epoch {epoch}, the best so far")
    found = serialization.load_metadata(path)
    if found.get(RUN, run) != run:
        raise CheckpointError(f"{path} is of another run than {LAST}, so its weights are not those of epoch {epoch}")
    if found.get(EPOCH) != str(epoch):
        raise CheckpointError(f"{path} holds the weights of epoch {found.get(EPOCH)}; expected epoch {epoch}, the best")
    return serialization.load(path)


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of each group as they were given: of a rate that a schedule changes, the one it begins with."""
    rates = [{"lr": group["initial_lr"]} if "initial_lr" in group else {} for group in optimizer.param_groups]
    return [
        {name: value for name, value in group.items() if name not in ("params", "initial_lr")} | rate
        for group, rate in zip(optimizer.param_groups, rates, strict=True)
    ]


def changed_options(
    given: list[dict[str, Any]], begun: list[dict[str, Any]], saved: list[dict[str, Any]]
) -> Iterator[str]:
    """Options given now that are neither those the run began with nor those it had when it was saved.

    An option that a schedule or the user's callback moves on the way is given as in the first run, and is no change.
    """
    for number, (now, first, last) in enumerate(zip(given, begun, saved, strict=True)):
        group = f" in group {number}" if len(given) > 1 else ""
        for name, value in now.items():
            kept = last.get(name, value)
            if not _same(value, kept) and not _same(value, first.get(name, kept)):
                yield f"{name}={value!r} (saved: {kept!r}){group}"


def _same(a: Any, b: Any) -> bool:
    """Whether two options are the same; a file has lists for tuples."""
    return list(a) == list(b) if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) else bool(a == b)
