"""The training loop: epochs with a progress bar, validation, checkpoints, and going on where a run was stopped.

After this file you know what belongs to the state of a run (weights, the optimizer's buffers, the schedule, the place
in the data, the random numbers, the metrics so far): save all of it, and a run that was stopped goes on to exactly the
numbers it would have reached.

>>> history = fit(model, cross_entropy, optimizer, train_loader, epochs=10, validation=val_loader, out="runs/first")
>>> test_loss, test_accuracy = evaluate(model, test_loader, cross_entropy)
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import generators, serialization
from minigrad.autograd.grad_mode import enable_grad, no_grad
from minigrad.autograd.tensor import Tensor
from minigrad.data import micro_batches as split
from minigrad.training.early_stopping import EarlyStopping
from minigrad.training.history import COLUMNS, History, Totals
from minigrad.training.progress import ProgressBar, StopRequest
from minigrad.training.protocols import Batches, Loss, Model, Optimizer, Resumable, Scheduler


class TrainingError(RuntimeError):
    """Training that cannot go on: a loss that is NaN or infinite."""


def evaluate(
    model: Callable[[Tensor], Tensor], loader: Batches, loss: Loss, *, device: str | None = None
) -> tuple[float, float | None]:
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
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    train_loader: Batches,
    *,
    epochs: int,
    validation: Batches | None = None,
    scheduler: Scheduler | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    patience: int | None = None,
    progress: bool = True,
    device: str | None = None,
    callback: Callable[[History], Any] | None = None,
    before_step: Callable[[], Any] | None = None,
    after_step: Callable[[], Any] | None = None,
    micro_batches: int = 1,
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
        How many in all, including those before a resume.
    validation : iterable of (inputs, targets), optional
        Evaluated after each epoch; decides which epoch is the best.
    scheduler : LRScheduler, optional
        Stepped after each epoch, or after each batch if its `interval` is "batch" (OneCycleLR). ReduceLROnPlateau is
        shown the loss of the epoch (for mode "max" the accuracy): the validation's, without one the training's.
    out : path, optional
        A folder for `last.safetensors` (all that is needed to go on), `best.safetensors` (the weights of the best epoch
        under their own names) and `metrics.csv`.
    resume : bool
        Go on from `last.safetensors` in `out`, if it is there: with the same loader, model and options the result is
        exactly that of a run which was never stopped (on a GPU but for random numbers drawn there, as by dropout).
    patience : int, optional
        Stop when no epoch was better than the best for so many epochs, and put the best weights back.
    progress : bool
        Show a bar with loss, accuracy and the time left, and a line for each epoch.
    device : str, optional
        Where to move each batch; the model is not moved.
    callback : function, optional
        Called with the History after each epoch; True ends the training.
    before_step : function, optional
        Called after each backward pass, before the optimizer's step, to change the gradients:
        `lambda: clip_grad_norm_(model.parameters(), 1.0)`.
    after_step : function, optional
        Called after each step of the optimizer, for what follows the weights:
        `lambda: averaged.update_parameters(model)` keeps an average of them (`optim.AveragedModel`).
    micro_batches : int
        Cut each batch into so many chunks that go through the model one after another, and add their gradients up: the
        step of the whole batch, in the memory of a chunk. (Batch-norm sees the chunks.)

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
    _check_options(epochs, patience, micro_batches, resume, out)
    folder = None if out is None else Path(out)
    run = _Run(model, loss, optimizer, train_loader, scheduler, validation, folder, device)
    run.before_step, run.after_step, run.chunks, run.best.patience = before_step, after_step, micro_batches, patience
    if resume and folder is not None and (folder / "last.safetensors").exists():
        run.load(folder)
    history = run.history
    with _mode(model, training=True), StopRequest() as stop, ProgressBar(progress, epochs) as bar:
        while run.epoch < epochs:
            if run.best.exhausted:
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
    if patience is not None:
        run.best.restore()
    return history


class _Run:
    """A run of training: everything that must be saved so that it can continue."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Optimizer,
        loader: Batches,
        scheduler: Scheduler | None,
        validation: Batches | None,
        out: Path | None,
        device: str | None,
    ):
        self.model, self.loss, self.optimizer, self.loader = model, loss, optimizer, loader
        self.scheduler, self.validation, self.out, self.device = scheduler, validation, out, device
        self.epoch = 0  # finished
        self.totals, self.seconds = Totals(), 0.0  # of the epoch under way
        self.history = History()
        self.best = EarlyStopping(model, mode="max")
        self.before_step: Callable[[], Any] | None = None
        self.after_step: Callable[[], Any] | None = None
        self.chunks = 1

    def train_epoch(self, bar: ProgressBar, stop: StopRequest) -> bool:
        """One pass over the data, or what is left of it; False if it was stopped before its end."""
        began = time.perf_counter()
        length = len(self.loader) if isinstance(self.loader, Sized) else None
        batch = self.loader.state_dict().get("batch", 0) if isinstance(self.loader, Resumable) else 0
        bar.begin(self.epoch, batch, length)
        for inputs, targets in _batches(self.loader, self.device):
            batch += 1
            self.train_batch(inputs, targets, batch)
            bar.show(self.totals.means)
            if stop.asked and batch != length:
                self.seconds += time.perf_counter() - began
                if isinstance(self.loader, Resumable):
                    self.save()  # here: the loader knows its place only as long as the loop is not left
                return False
        self.seconds += time.perf_counter() - began
        if not self.totals.samples:
            raise ValueError("fit: the training loader gave no batches; expected at least one (inputs, targets).")
        return True

    def train_batch(self, inputs: Tensor, targets: Tensor, batch: int) -> None:
        """One step, by the gradients of all chunks."""
        self.optimizer.zero_grad()
        for (chunk, wanted), share in split((inputs, targets), self.chunks):
            self.train_chunk(chunk, wanted, share, batch)
        if self.before_step is not None:
            self.before_step()
        self.optimizer.step()
        if self.after_step is not None:
            self.after_step()
        if self.scheduler is not None and getattr(self.scheduler, "interval", None) == "batch":
            self.scheduler.step()

    def train_chunk(self, inputs: Tensor, targets: Tensor, share: float, batch: int) -> None:
        """Add a chunk's part of the batch's gradient."""
        output = self.model(inputs)
        loss = self.loss(output, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {self.epoch + 1}, batch {batch}, at a learning rate of "
                f"{self.rate():.3g}. Usual reasons: a learning rate that is too high, a logarithm or root of something "
                "not positive, or NaN in the data."
            )
        (loss if share == 1 else loss * share).backward()
        self.totals.add(value, output, targets)

    def finish_epoch(self) -> bool:
        """Validate, write the row, step the schedule; whether this epoch is the best so far."""
        began = time.perf_counter()
        train_loss, train_accuracy = self.totals.means()
        val_loss = val_accuracy = None
        if self.validation is not None:
            val_loss, val_accuracy = evaluate(self.model, self.validation, self.loss, device=self.device)
        rate = self.rate()
        self.step_schedule(
            loss=train_loss if val_loss is None else val_loss,
            accuracy=train_accuracy if self.validation is None else val_accuracy,
        )
        self.epoch += 1
        seconds = round(self.seconds + time.perf_counter() - began, 3)
        row = (self.epoch, train_loss, train_accuracy, val_loss, val_accuracy, rate, seconds)
        self.history.rows.append(dict(zip(COLUMNS, row, strict=True)))
        self.totals, self.seconds = Totals(), 0.0
        score = val_accuracy if val_accuracy is not None else -(train_loss if val_loss is None else val_loss)
        improved = self.best.step(score)
        if improved:
            self.history.best_epoch = self.epoch
        return improved

    def step_schedule(self, loss: float, accuracy: float | None) -> None:
        """Step a schedule that counts epochs; one that watches a metric is given it."""
        if self.scheduler is None or getattr(self.scheduler, "interval", "epoch") != "epoch":
            return
        if getattr(self.scheduler, "watches", False):
            self.scheduler.step(loss if getattr(self.scheduler, "mode", "min") == "min" else accuracy)
        else:
            self.scheduler.step()

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
            "loader": self.loader.state_dict() if isinstance(self.loader, Resumable) else None,
            "random": generators.generator("cpu").bit_generator.state,
            "epoch": self.epoch,
            "under way": [*vars(self.totals).values(), self.seconds],
            "history": self.history.rows,
            "best": [self.best.best, self.history.best_epoch],
        }
        if best:
            metrics = {key: f"{value}" for key, value in self.history.rows[-1].items() if value is not None}
            serialization.save(self.out / "best.safetensors", self.best.weights or {}, metrics)
        serialization.save_state(self.out / "last.safetensors", state)
        self.history.to_csv(self.out / "metrics.csv")

    def load(self, folder: Path) -> None:
        """Continue from the files of the run."""
        path = folder / "last.safetensors"
        state = serialization.load_state(path)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            for part, name in ((self.scheduler, "scheduler"), (self.loader, "loader")):
                if state[name] is not None and isinstance(part, Resumable):
                    part.load_state_dict(state[name])
        except ValueError as error:
            raise ValueError(
                f"resuming from {path}: {error}\nBuild the model, optimizer and loader as in the first run, "
                "or begin anew in another folder."
            ) from error
        generators.generator("cpu").bit_generator.state = state["random"]
        self.epoch = state["epoch"]
        *totals, self.seconds = state["under way"]
        self.totals = Totals(*totals)
        self.best.best, best_epoch = state["best"]
        self.best.since = self.epoch - (best_epoch or 0)
        self.history.rows, self.history.best_epoch = state["history"], best_epoch
        if best_epoch is not None and (folder / "best.safetensors").exists():
            self.best.weights = serialization.load(folder / "best.safetensors")


# --- around the loop ---


def _check_options(epochs: object, patience: object, micro_batches: object, resume: bool, out: object) -> None:
    for name, value in (("epochs", epochs), ("patience", patience), ("micro_batches", micro_batches)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
        if not whole and not (name == "patience" and value is None):
            raise ValueError(f"fit: {name}={value!r}; expected a whole number, 1 or more.")
    if resume and out is None:
        raise ValueError("fit: resume=True without out=...; give the folder of the run to go on with.")


def _batches(loader: Batches, device: str | None) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(f"expected batches of (inputs, targets), got {type(batch).__name__} of another form.")
        inputs, targets = batch if device is None else [part.to(device) for part in batch]
        yield inputs, targets


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
