"""The training loop: epochs with a progress bar, validation, checkpoints, and going on where a run was stopped.

After this file you know what belongs to the state of a run (weights, the optimizer's buffers, the schedule, the place
in the data, the random numbers, the metrics so far): save all of it, and a run that was stopped goes on to exactly the
numbers it would have reached.

>>> history = fit(model, cross_entropy, optimizer, train_loader, epochs=10, validation=val_loader, out="runs/first")
>>> test_loss, test_accuracy = evaluate(model, test_loader, cross_entropy)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from minigrad.training import run_folder
from minigrad.training.captured_steps import CapturedSteps, way_of_stepping
from minigrad.training.evaluation import evaluate, mode_of
from minigrad.training.fit_arguments import check_loader, check_options, check_parts
from minigrad.training.history import History
from minigrad.training.progress import ProgressBar, StopRequest
from minigrad.training.protocols import Batches, Loss, Model, Optimizer, Scaler, Scheduler
from minigrad.training.run import Run
from minigrad.training.run_folder import TrainingError

__all__ = ["TrainingError", "evaluate", "fit"]


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
    autocast: AbstractContextManager[Any] | None = None,
    scaler: Scaler | None = None,
    capture: bool | None = None,
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
        under their own names) and `metrics.csv`. A kill leaves each of them whole. One run at a time may write to it.
    resume : bool
        Go on from `last.safetensors` in `out`, if it is there: with the same loader, model and options the result is
        exactly that of a run which was never stopped (but for what `rand` and its like draw on a GPU; dropout's numbers
        go on). What does not fit is an error, and nothing is then changed.
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
        step of the whole batch, in the memory of a chunk. (Batch-norm sees the chunks.) Each chunk counts by what the
        loss divides by, ignored labels, weights of classes and sums included; of a function that is not in
        `minigrad.nn` this is measured, by the loss alone at the whole batch's targets.
        A loss that does not add up over chunks (the root of a mean, samples that are compared) is a ValueError.
    autocast : context, optional
        Entered for each forward pass and its loss: `amp.autocast("cuda")` has them compute in half precision.
        Validation stays as it is.
    scaler : GradScaler, optional
        Scales the loss, and leaves out steps whose gradients overflow: `amp.GradScaler()`. Its state belongs to the
        run. `before_step` sees unscaled gradients.
    capture : bool, optional
        Whether the step is captured into a CUDA graph and replayed with one launch, see `minigrad.cuda.capture`. Unless
        given, it is on a GPU; a step that cannot be is taken as usual, with a word in the log "minigrad.training". True
        makes that a CaptureError, and False captures nothing. In replays the Python code of the model and of the loss
        does not run: give False if it counts, logs or decides anything. `before_step` and `after_step` always run.

    Returns
    -------
    History

    Raises
    ------
    TrainingError
        A loss that is NaN or infinite; says in which epoch and batch. The step is not taken. (On a GPU, which is not
        waited for at each batch, it is found when the totals are next read: at the end of the epoch, or when the bar is
        drawn. Steps have been taken since then.) Or another run is writing to `out`.
    CheckpointError
        The run in `out` is damaged, or does not fit; it is a ValueError.
    ValueError, TypeError
        Options that make no sense; the optimizer of another model; a Dataset without a loader; capture=True on a CPU
        or with micro_batches.
    CaptureError
        With capture=True a step that cannot be captured, as it waits for the GPU; names the op and the line.
    OSError
        `out` cannot be written to; says why and what to do.

    Warns
    -----
    UserWarning
        A run begun anew in the folder of another, which it overwrites; `best.safetensors` gone or another run's.
        On resuming, options of the optimizer or schedule that are not those of the first run: the saved ones are kept.

    Notes
    -----
    Ctrl-C lets the batch under way finish, saves `last.safetensors` (if there is an `out`, and the loader can say where
    it is) and returns the History, with `interrupted` True; the script goes on, to its own evaluation, say. A second
    Ctrl-C interrupts at once, as usual; the files are then those of the last epoch.
    """
    check_options(epochs, patience, micro_batches, resume, out, capture)
    check_parts(model, loss, optimizer)
    for what, loader in (("training loader", train_loader), ("validation", validation)):
        if loader is not None:
            check_loader(f"fit: the {what}", loader)
    folder = None if out is None else Path(out)
    run = Run(model, loss, optimizer, train_loader, scheduler, validation, folder, device)
    run.before_step, run.after_step, run.chunks, run.best.patience = before_step, after_step, micro_batches, patience
    run.scaler, run.autocast = scaler, run.autocast if autocast is None else autocast
    run.take_step = way_of_stepping(run, capture)
    with run_folder.held(folder):
        if folder is not None:
            run.begin(folder, resume)
        _train(run, epochs, progress, callback)
    if patience is not None:
        run.best.restore()
    return run.history


def _train(run: Run, epochs: int, progress: bool, callback: Callable[[History], Any] | None) -> None:
    """Epochs until there are enough, or something ends them before."""
    history = run.history
    with mode_of(run.model, training=True), StopRequest() as stop, ProgressBar(progress, epochs) as bar:
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
                if isinstance(run.take_step, CapturedSteps):
                    run.take_step.look_again()  # the callback may have changed the model
            if stop.asked:
                history.interrupted = True
                break
