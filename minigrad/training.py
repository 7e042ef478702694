"""The training loop: epochs with a progress bar, validation, checkpoints, and going on where a run was stopped.

After this file you know what belongs to the state of a run (weights, the optimizer's buffers, the schedule, the place
in the data, the random numbers, the figures so far): save all of it, and a run that was stopped goes on to exactly the
numbers it would have reached.

>>> history = fit(model, cross_entropy, optimizer, train_loader, epochs=10, validation=val_loader, out="runs/first")
>>> test_loss, test_accuracy = evaluate(model, test_loader, cross_entropy)
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import creation, serialization
from minigrad.autograd import enable_grad, no_grad
from minigrad.progress import ProgressBar, StopRequest
from minigrad.tensor import Tensor

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds")


class TrainingError(RuntimeError):
    """Training that cannot go on: a loss that is no number."""


class History:
    """The figures of a run, one row an epoch.

    Attributes
    ----------
    rows : list of dict
        One an epoch, with the keys `epoch` (from 1), `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `lr`
        and `seconds`; None where there is no such figure.
    best_epoch : int or None
        The epoch that was best by the validation's accuracy (or loss, without classes), else by the training loss.
    interrupted : bool
        Whether Ctrl-C ended the run.
    stopped_early : bool
        Whether it ended because nothing got better for `patience` epochs.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), best_epoch: int | None = None):
        self.rows = [dict(row) for row in rows]
        self.best_epoch = best_epoch
        self.interrupted = self.stopped_early = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """One column, such as `history["val_accuracy"]`, as a list."""
        if column not in COLUMNS:
            raise KeyError(f"{column!r}: a history has the columns {', '.join(COLUMNS)}.")
        return [row[column] for row in self.rows]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the rows as a table with a header; what is None is left empty."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(self.rows)
        return path

    def __repr__(self) -> str:
        last = "".join(f", {k}={v:.4g}" for k, v in self.rows[-1].items() if v is not None) if self.rows else ""
        return f"History({len(self)} epochs{last})"


class Totals:
    """Loss and accuracy over the samples seen so far."""

    def __init__(self, loss: float = 0.0, correct: int = 0, samples: int = 0, classified: int = 0):
        self.loss, self.correct, self.samples, self.classified = loss, correct, samples, classified

    def add(self, loss: float, output: Tensor, target: Tensor) -> None:
        """Count a batch: its mean loss, and, where outputs are scores of classes, how many are right."""
        size = len(target) if target.ndim else 1
        self.loss += loss * size
        self.samples += size
        if output.ndim >= 2 and target.dtype.kind in "iu" and target.ndim == output.ndim - 1:
            self.correct += int((output.detach().argmax(axis=1) == target).sum())
            self.classified += target.size

    def means(self) -> tuple[float, float | None]:
        """(loss, accuracy), the accuracy None if nothing was classified."""
        accuracy = self.correct / self.classified if self.classified else None
        return self.loss / max(self.samples, 1), accuracy


def evaluate(model: Any, loader: Iterable, loss: Callable, *, device: str | None = None) -> tuple[float, float | None]:
    """The mean loss and the accuracy of a model over a loader, with dropout off and the running statistics in use.

    Parameters
    ----------
    model : Module, or any function
        Its mode, training or evaluation, is put back afterwards.
    loader : iterable of (inputs, targets)
    loss : function
        `loss(outputs, targets)`, the mean over a batch.
    device : str, optional
        Where to move each batch.

    Returns
    -------
    loss, accuracy : float, float or None
        Means over all samples, whatever the sizes of batches. The accuracy counts where the largest of the outputs
        (N, classes, ...) is at the integer targets (N, ...); None where they are something else.
    """
    totals = Totals()
    with no_grad(), _mode(model, training=False):
        for inputs, targets in _batches(loader, device):
            output = model(inputs)
            totals.add(loss(output, targets).item(), output, targets)
    if not totals.samples:
        raise ValueError("evaluate: the loader gave no batches; expected at least one (inputs, targets).")
    return totals.means()


def fit(
    model: Any,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Any,
    train_loader: Any,
    *,
    epochs: int,
    validation: Any = None,
    scheduler: Any = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    patience: int | None = None,
    progress: bool = True,
    device: str | None = None,
    callback: Callable[[History], Any] | None = None,
) -> History:
    """Train a model.

    Parameters
    ----------
    model : Module
    loss : function
        `loss(outputs, targets)`, the mean over a batch, a single number.
    optimizer : Optimizer
        Of the model's parameters.
    train_loader : iterable of (inputs, targets)
        Usually a DataLoader. One with `state_dict` and `load_state_dict` can be resumed.
    epochs : int
        How many in all; after a resume, those before count.
    validation : iterable of (inputs, targets), optional
        Evaluated after each epoch; decides which epoch is the best.
    scheduler : LRScheduler, optional
        Stepped after each epoch, or after each batch if its `interval` is "batch" (OneCycleLR).
    out : path, optional
        A folder for `last.safetensors` (all that is needed to go on), `best.safetensors` (the weights of the best epoch
        under their own names) and `metrics.csv`.
    resume : bool
        Go on from `last.safetensors` in `out`, if it is there: with the same loader, model and options the result is
        exactly that of a run which was never stopped (on a GPU but for random numbers drawn there, as by dropout).
    patience : int, optional
        Stop when nothing got better for so many epochs, and put the best weights back.
    progress : bool
        Show a bar with loss, accuracy and the time left, and a line for each epoch.
    device : str, optional
        Where to move each batch; the model is not moved.
    callback : function, optional
        Called with the History after each epoch; True ends the training.

    Returns
    -------
    History

    Raises
    ------
    TrainingError
        A loss that is NaN or infinite; says in which epoch and batch. The step is not taken.
    ValueError
        Options that make no sense.

    Notes
    -----
    Ctrl-C lets the batch under way finish, saves `last.safetensors` (if there is an `out`, and the loader can say where
    it is) and returns the History, with `interrupted` True; the script goes on, to its own evaluation, say. A second
    Ctrl-C interrupts at once, as usual; the files are then those of the last epoch.
    """
    _check_options(epochs, patience, resume, out)
    run = _Run(model, loss, optimizer, train_loader, scheduler, validation, None if out is None else Path(out), device)
    if resume and (run.out / "last.safetensors").exists():
        run.load()
    history = run.history
    with _mode(model, training=True), StopRequest() as stop, ProgressBar(progress, epochs) as bar:
        while run.epoch < epochs:
            if patience is not None and run.epoch - (history.best_epoch or 0) >= patience:
                history.stopped_early = True
                break
            if run.train_epoch(bar, stop):
                improved = run.finish_epoch()
                run.save(best=improved)
                bar.epoch_done(history.rows[-1], improved)
                if callback is not None and callback(history) is True:
                    break
            if stop.asked:
                history.interrupted = True
                break
    if patience is not None and run.best_weights is not None:
        model.load_state_dict(run.best_weights)
    return history


class _Run:
    """A training under way: everything that has to be saved for it to go on."""

    def __init__(self, model, loss, optimizer, loader, scheduler, validation, out, device):
        self.model, self.loss, self.optimizer, self.loader = model, loss, optimizer, loader
        self.scheduler, self.validation, self.out, self.device = scheduler, validation, out, device
        self.epoch = 0  # finished
        self.totals, self.seconds = Totals(), 0.0  # of the epoch under way
        self.history = History()
        self.best_score = -math.inf
        self.best_weights: dict[str, Tensor] | None = None

    def train_epoch(self, bar: ProgressBar, stop: StopRequest) -> bool:
        """One pass over the data, or what is left of it; False if it was stopped before its end."""
        began = time.perf_counter()
        length = len(self.loader) if hasattr(self.loader, "__len__") else None
        batch = self.loader.state_dict().get("batch", 0) if hasattr(self.loader, "state_dict") else 0
        bar.begin(self.epoch, batch, length)
        for inputs, targets in _batches(self.loader, self.device):
            batch += 1
            self.train_batch(inputs, targets, batch)
            bar.show(self.totals.means)
            if stop.asked and batch != length:
                self.seconds += time.perf_counter() - began
                if hasattr(self.loader, "state_dict"):
                    self.save()  # here: the loader knows its place only as long as the loop is not left
                return False
        self.seconds += time.perf_counter() - began
        if not self.totals.samples:
            raise ValueError("fit: the training loader gave no batches; expected at least one (inputs, targets).")
        return True

    def train_batch(self, inputs: Tensor, targets: Tensor, batch: int) -> None:
        """One step."""
        output = self.model(inputs)
        loss = self.loss(output, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {self.epoch + 1}, batch {batch}, at a learning rate of "
                f"{self.rate():.3g}. Usual reasons: a learning rate that is too high, a logarithm or root of something "
                "not positive, or NaN in the data."
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if getattr(self.scheduler, "interval", None) == "batch":
            self.scheduler.step()
        self.totals.add(value, output, targets)

    def finish_epoch(self) -> bool:
        """Validate, write the row, step the schedule; whether this epoch is the best so far."""
        began = time.perf_counter()
        train_loss, train_accuracy = self.totals.means()
        val_loss = val_accuracy = None
        if self.validation is not None:
            val_loss, val_accuracy = evaluate(self.model, self.validation, self.loss, device=self.device)
        rate = self.rate()
        if self.scheduler is not None and getattr(self.scheduler, "interval", "epoch") == "epoch":
            self.scheduler.step()
        self.epoch += 1
        seconds = round(self.seconds + time.perf_counter() - began, 3)
        row = (self.epoch, train_loss, train_accuracy, val_loss, val_accuracy, rate, seconds)
        self.history.rows.append(dict(zip(COLUMNS, row, strict=True)))
        self.totals, self.seconds = Totals(), 0.0
        score = val_accuracy if val_accuracy is not None else -(train_loss if val_loss is None else val_loss)
        if not score > self.best_score:
            return False
        self.best_score, self.history.best_epoch = score, self.epoch
        self.best_weights = {name: Tensor(t.data.copy()) for name, t in self.model.state_dict().items()}
        return True

    def rate(self) -> float:
        """The learning rate of the first group."""
        return self.optimizer.param_groups[0]["lr"]

    # --- checkpoints ---

    def save(self, best: bool = False) -> None:
        """Write the files of the run, if it has a folder."""
        if self.out is None:
            return
        state = {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": self.loader.state_dict() if hasattr(self.loader, "state_dict") else None,
            "random": creation.generator("cpu").bit_generator.state,
            "epoch": self.epoch,
            "under way": [*vars(self.totals).values(), self.seconds],
            "history": self.history.rows,
            "best": [self.best_score, self.history.best_epoch],
        }
        if best:
            figures = {key: f"{value}" for key, value in self.history.rows[-1].items() if value is not None}
            serialization.save(self.out / "best.safetensors", self.best_weights or {}, figures)
        serialization.save_state(self.out / "last.safetensors", state)
        self.history.to_csv(self.out / "metrics.csv")

    def load(self) -> None:
        """Go on from the files of the run."""
        path = self.out / "last.safetensors"
        state = serialization.load_state(path)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            for part, name in ((self.scheduler, "scheduler"), (self.loader, "loader")):
                if state[name] is not None and hasattr(part, "load_state_dict"):
                    part.load_state_dict(state[name])
        except ValueError as error:
            raise ValueError(
                f"resuming from {path}: {error}\nBuild the model, optimizer and loader as in the first run, "
                "or begin anew in another folder."
            ) from error
        creation.generator("cpu").bit_generator.state = state["random"]
        self.epoch = state["epoch"]
        *totals, self.seconds = state["under way"]
        self.totals = Totals(*totals)
        self.best_score, best_epoch = state["best"]
        self.history.rows, self.history.best_epoch = state["history"], best_epoch
        if best_epoch is not None and (self.out / "best.safetensors").exists():
            self.best_weights = serialization.load(self.out / "best.safetensors")


# --- around the loop ---


def _check_options(epochs: Any, patience: Any, resume: bool, out: Any) -> None:
    for name, value in (("epochs", epochs), ("patience", patience)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
        if not whole and not (name == "patience" and value is None):
            raise ValueError(f"fit: {name}={value!r}; expected a whole number, 1 or more.")
    if resume and out is None:
        raise ValueError("fit: resume=True without out=...; give the folder of the run to go on with.")


def _batches(loader: Iterable, device: str | None) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(f"expected batches of (inputs, targets), got {type(batch).__name__} of another form.")
        yield tuple(batch) if device is None else tuple(part.to(device) for part in batch)


@contextmanager
def _mode(model: Any, training: bool) -> Iterator[None]:
    """Put every module into a mode, and put back the mode that each had."""
    modes = [(module, module.training) for module in model.modules()] if hasattr(model, "modules") else []
    if modes:
        model.train(training)
    try:
        if training:
            with enable_grad():
                yield
        else:
            yield
    finally:
        for module, mode in modes:
            module.training = mode
