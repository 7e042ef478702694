"""A run of training: one epoch, one batch, and everything that must be saved so that it can go on."""

from __future__ import annotations

import math
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from minigrad import generators, serialization
from minigrad.autograd.tensor import Tensor
from minigrad.data import micro_batches as split
from minigrad.data.microbatching import chunks_of
from minigrad.serialization import CheckpointError
from minigrad.training import run_folder
from minigrad.training.counting import Counting, measured_shares
from minigrad.training.early_stopping import EarlyStopping, check_weights
from minigrad.training.evaluation import evaluate
from minigrad.training.fit_arguments import batches_of, single_number
from minigrad.training.history import COLUMNS, History, Totals, TotalsThere
from minigrad.training.progress import ProgressBar, StopRequest
from minigrad.training.protocols import Batches, Loss, Model, Optimizer, Resumable, Scaler, Scheduler
from minigrad.training.run_folder import TrainingError

SECONDS_BETWEEN_READS = 0.5  # of the totals on a GPU, for the progress bar
USUAL_REASONS = (
    "Usual reasons: a learning rate that is too high, a logarithm or root of something not positive, or NaN in the "
    "data."
)


class Run:
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
        self.counting = Counting(loss)
        self.given = run_folder.options_of(optimizer)
        self.id = uuid.uuid4().hex  # tells the files of this run from those of others
        self.epoch = 0  # finished
        self.totals, self.seconds = Totals(), 0.0  # of the epoch under way; on a GPU, what was last read from it
        self.there: TotalsThere | None = None  # where a GPU adds them up
        self.last_read = -math.inf  # when, in seconds of time.perf_counter
        self.history = History()
        self.best = EarlyStopping(model, mode="max")
        self.before_step: Callable[[], Any] | None = None
        self.after_step: Callable[[], Any] | None = None
        self.chunks = 1
        self.autocast: AbstractContextManager[Any] = nullcontext()  # entered for each forward pass and its loss
        self.scaler: Scaler | None = None
        self.batch = 0  # of the epoch under way
        self.take_step: Callable[[Tensor, Tensor], Any] = self.step

    def train_epoch(self, bar: ProgressBar, stop: StopRequest) -> bool:
        """One pass over the data, or what is left of it; False if it was stopped before its end."""
        began = time.perf_counter()
        length = len(self.loader) if isinstance(self.loader, Sized) else None
        batch = self.loader.state_dict().get("batch", 0) if isinstance(self.loader, Resumable) else 0
        bar.begin(self.epoch, batch, length)
        first = batch
        for inputs, targets in batches_of("fit", self.loader, self.device):
            self.batch = batch = batch + 1
            self.train_batch(inputs, targets)
            bar.show(partial(self.means, batch))
            if stop.asked and batch != length:
                self.read_totals(batch)
                self.seconds += time.perf_counter() - began
                if isinstance(self.loader, Resumable):
                    self.save()  # here: the loader knows its place only as long as the loop is not left
                return False
        self.read_totals(batch)
        self.seconds += time.perf_counter() - began
        if batch == first and not self.totals.samples:
            raise ValueError(
                "fit: the training loader gave no batches; expected at least one (inputs, targets). A generator can be "
                "gone through once only: give a DataLoader, or a list."
            )
        return True

    def train_batch(self, inputs: Tensor, targets: Tensor) -> None:
        """One step, and of a schedule that counts batches."""
        self.take_step(inputs, targets)
        if self.scheduler is not None and getattr(self.scheduler, "interval", None) == "batch":
            self.scheduler.step()

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Model, loss, backward, totals, optimizer. On a GPU the host reads nothing here, so it waits for nothing."""
        self.find_gradients(inputs, targets)
        self.update()

    def find_gradients(self, inputs: Tensor, targets: Tensor) -> None:
        """All of a step but the optimizer's."""
        self.optimizer.zero_grad()
        self.add_gradients(self.forward(inputs), targets, 1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's outputs."""
        with self.autocast:
            return self.model(inputs)

    def update(self) -> None:
        """Move the weights by the gradients."""
        if self.before_step is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            self.before_step()
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.after_step is not None:
            self.after_step()

    def step_by_chunks(self, inputs: Tensor, targets: Tensor) -> None:
        """One step, by the gradients of all chunks."""
        self.optimizer.zero_grad()
        counting = self.counting
        if counting.known:
            options = {
                "reduction": counting.reduction,
                "ignore_index": counting.ignore_index,
                "weight": counting.weight,
            }
            for (chunk, wanted), share in split((inputs, targets), self.chunks, **options):
                self.add_gradients(self.forward(chunk), wanted, share)
        else:
            self.train_measured(inputs, targets)
        self.update()

    def train_measured(self, inputs: Tensor, targets: Tensor) -> None:
        """The gradients of all chunks, for a loss that does not say what its mean divides by."""
        if len(inputs) != len(targets):
            raise ValueError(f"fit: {len(inputs)} inputs with {len(targets)} targets; expected as many.")
        places = chunks_of(len(targets), self.chunks)
        shares: list[float] = []
        for i, place in enumerate(places):
            output = self.forward(inputs[place])
            shares = shares or measured_shares(
                lambda o, t: single_number("fit", self.loss(o, t)), output, targets, places
            )
            if shares[i]:
                self.add_gradients(output, targets[place], shares[i])

    def add_gradients(self, output: Tensor, targets: Tensor, share: float) -> None:
        """Add a chunk's part of the batch's gradient."""
        with self.autocast:
            loss = single_number("fit", self.loss(output, targets))
        if loss.device != "cpu":
            self.scaled(loss, share).backward()
            self.totals_there(loss).add(loss, output, targets, self.counting)
            return
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {self.epoch + 1}, batch {self.batch}, at a learning rate of "
                f"{self.rate():.3g}. {USUAL_REASONS}"
            )
        self.scaled(loss, share).backward()
        self.totals.add(value, output, targets, self.counting)

    def scaled(self, loss: Tensor, share: float) -> Tensor:
        """What goes backward: a chunk's share of the loss, by the scale of half precision."""
        loss = loss if share == 1 else loss * share
        return loss if self.scaler is None else self.scaler.scale(loss)

    def on_cpu(self) -> bool:
        """Whether the parameters are all on the CPU."""
        return all(p.device == "cpu" for group in self.optimizer.param_groups for p in group["params"])

    # --- totals on a GPU ---

    def totals_there(self, loss: Tensor) -> TotalsThere:
        """Where the totals of this epoch are added up, begun with those of a run that was resumed."""
        if self.there is None:
            self.there = TotalsThere(loss.data)
            self.there.begin(self.totals)
        return self.there

    def means(self, batch: int) -> tuple[float, float | None]:
        """Loss and accuracy of the epoch so far; from a GPU they are read twice a second at most."""
        if time.perf_counter() - self.last_read >= SECONDS_BETWEEN_READS:
            self.read_totals(batch)
        return self.totals.means()

    def read_totals(self, batch: int) -> None:
        """Have the totals after this batch on the host, too. From a GPU they are read, and the host waits for it."""
        if self.there is None:
            return
        totals = self.there.read()
        self.last_read = time.perf_counter()
        if not math.isfinite(totals.loss):
            raise TrainingError(
                f"the loss is {totals.loss} in epoch {self.epoch + 1}, at batch {batch} or before it, at a learning "
                f"rate of {self.rate():.3g}: a GPU is not waited for at each batch, and steps have been taken since. "
                "To find the batch, train with device='cpu'; to find the op, inside `with minigrad.detect_anomaly():`. "
                f"{USUAL_REASONS}"
            )
        self.totals = totals

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
        if self.there is not None:
            self.there.begin(self.totals)
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

    def begin(self, folder: Path, resume: bool) -> None:
        """Go on with the run in the folder, if that was asked for and there is one."""
        if resume and (folder / run_folder.LAST).exists():
            self.load(folder)
        else:
            run_folder.warn_of_another_run(folder)

    def save(self, best: bool = False) -> None:
        """Write the files of the run, if it has a folder; the state first, for the reason given in `run_folder`."""
        if self.out is None:
            return
        state = {
            "run": self.id,
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "given": self.given,
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": self.loader.state_dict() if isinstance(self.loader, Resumable) else None,
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "random": generators.generator("cpu").bit_generator.state,
            "streams": {device: list(state) for device, state in generators.states_of_streams().items()},
            "epoch": self.epoch,
            "under way": [*vars(self.totals).values(), self.seconds],
            "history": self.history.rows,
            "best": [self.best.best, self.history.best_epoch],
        }
        serialization.save_state(self.out / run_folder.LAST, state)
        if best:
            run_folder.save_best(self.out, self.best.weights or {}, self.id, self.history.rows[-1])
        self.history.to_csv(self.out / run_folder.METRICS)

    def load(self, folder: Path) -> None:
        """Continue from the files of the run; what does not fit is an error, and nothing has then changed."""
        path = folder / run_folder.LAST
        state = run_folder.load_last(folder)
        named = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "loader": self.loader}
        if self.scaler is not None or state.get("scaler") is not None:
            named["scaler"] = self.scaler
        parts = {name: part for name, part in named.items() if isinstance(part, Resumable)}
        before = {name: _copied(part.state_dict()) for name, part in parts.items()}
        random, streams = generators.generator("cpu").bit_generator.state, generators.states_of_streams()
        try:
            for name in named:
                _check_there(name, state.get(name), parts.get(name))
            changed: dict[str, Any] = getattr(self.scheduler, "changed_options", lambda state: {})(state["scheduler"])
            for name, part in parts.items():
                part.load_state_dict(state[name])
            begun = [dict(group) for group in state.get("given", self.given)]
            told = list(run_folder.changed_options(self.given, begun, run_folder.options_of(self.optimizer)))
            _draw_from(state["random"], state.get("streams", {}))
            progress = _progress_of(state)
            weights = self.best_weights(folder, state, *progress)
        except Exception as error:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            _draw_from(random, streams)
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(
                f"resuming from {path}: {what}\nBuild the model, optimizer and loader as in the first run, "
                "or begin anew in another folder."
            ) from error
        if changed:
            differences = ", ".join(f"{name}={ours!r} (saved: {saved!r})" for name, (saved, ours) in changed.items())
            warnings.warn(
                f"fit: the schedule goes on as it was saved, whatever was given now: {differences}. For other options "
                "begin anew in another folder.",
                stacklevel=4,
            )
        if told:
            warnings.warn(
                f"fit: the optimizer goes on as it was saved, whatever was given now: {', '.join(told)}. For other "
                "options begin anew in another folder, or set optimizer.param_groups[0][...] in the callback.",
                stacklevel=4,
            )
        self.id, self.given = state.get("run", self.id), begun
        self.epoch, self.totals, self.seconds = progress
        self.best.best, best_epoch = state["best"]
        self.best.since = self.epoch - (best_epoch or 0)
        self.history.rows, self.history.best_epoch, self.best.weights = state["history"], best_epoch, weights
        self.history.to_csv(folder / run_folder.METRICS)  # a kill may have left that of an epoch before

    def best_weights(
        self, folder: Path, state: dict[str, Any], epoch: int, totals: Totals, seconds: float
    ) -> dict[str, Tensor] | None:
        """The weights of the best epoch; from the file, or, where a kill came before it was written, from the state."""
        _, best_epoch = state["best"]
        if best_epoch is None:
            return None
        run = state.get("run", self.id)
        try:
            weights = run_folder.load_best(folder, run, best_epoch)
            check_weights(self.model, weights, f"{folder / run_folder.BEST}")
            return weights
        except ValueError as error:
            if best_epoch == epoch and not totals.samples:
                weights = _copied(state["model"])
                run_folder.save_best(folder, weights, run, state["history"][-1])
                return weights
            if self.best.patience is not None:
                raise CheckpointError(
                    f"{error}. With patience the best weights are to be put back at the end: put the right file back, "
                    "or go on without patience, which keeps the last weights."
                ) from error
            warnings.warn(f"fit: {error}. Those weights are lost; training goes on from the last ones.", stacklevel=5)
            return None


def _check_there(name: str, saved: Any, part: Any) -> None:
    """Raise ValueError for a part of the run that was saved and is missing now, or the other way round."""
    if (saved is None) == (part is None):
        return
    now = f"{name}=None or without a state" if part is None else f"a {type(part).__name__}"
    then = "none" if saved is None else "one" + (f", {saved['class']}" if "class" in saved else "")
    raise ValueError(
        f"the {name}: the saved run had {then}, and now there is {now}; give the same as in the first run."
    )


def _draw_from(random: dict[str, Any], streams: Mapping[str, Any]) -> None:
    """Put random numbers back where they stood: NumPy's generator, and the stream of each GPU."""
    generators.generator("cpu").bit_generator.state = random
    for device, state in streams.items():
        generators.set_state_of_stream(device, state)


def _progress_of(state: dict[str, Any]) -> tuple[int, Totals, float]:
    """Epochs finished, and of the one under way the totals and the seconds; the rest of the state is checked too."""
    *totals, seconds = state["under way"]
    epoch, rows = state["epoch"], state["history"]
    best, best_epoch = state["best"]
    whole = isinstance(epoch, int) and not isinstance(epoch, bool) and epoch == len(rows)
    if not whole or any(not isinstance(row, dict) or set(row) != set(COLUMNS) for row in rows):
        raise CheckpointError(f"its history of {len(rows)} rows does not fit {epoch!r} epochs; the file is damaged.")
    if not isinstance(best, (int, float)) or best_epoch not in (None, *range(1, epoch + 1)):
        raise CheckpointError(f"its best epoch is {best_epoch!r}, of {epoch}; the file is damaged.")
    if len(totals) != 4 or any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in (*totals, seconds)):
        raise CheckpointError(f"its sums of the epoch under way are {state['under way']!r}; the file is damaged.")
    return epoch, Totals(*totals), seconds


def _copied(state: Any) -> Any:
    """A state whose tensors share no memory with those it was made from."""
    if isinstance(state, Tensor):
        return Tensor(state.data.copy())
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return state
