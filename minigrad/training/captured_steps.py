"""Training steps on a GPU, captured where that is possible: the most of a step first, then less of it.

A captured step (`minigrad.cuda.capture`) runs no Python code when it is replayed. So what is the user's and may count
or decide, `before_step` and `after_step`, stays outside; and so does an optimizer whose numbers come from the host. The
model and the loss are taken into it. A step that cannot be captured says so when it is recorded, before it has changed
anything; the same batch then goes the next way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from minigrad.autograd.tensor import Tensor
from minigrad.cuda import CapturedStep, CaptureError, capture
from minigrad.training.run import Run

log = logging.getLogger("minigrad.training")


class CapturedSteps:
    """Takes the steps of a run, and remembers which ways have failed.

    Parameters
    ----------
    run : Run
    must : bool
        Raise CaptureError where a step cannot be captured, instead of taking it eagerly with a word in the log.
    """

    def __init__(self, run: Run, must: bool):
        self._run, self._must = run, must
        seen = [run.model, run.loss, run.optimizer]

        def training_step(inputs: Tensor, targets: Tensor) -> None:
            run.step(inputs, targets)

        def gradients(inputs: Tensor, targets: Tensor) -> None:
            run.find_gradients(inputs, targets)

        whole = run.before_step is None and run.after_step is None and getattr(run.optimizer, "capturable", False)
        self._ways: list[tuple[CapturedStep, Callable[[], Any] | None]] = [(capture(gradients, model=seen), run.update)]
        if whole:
            self._ways.insert(0, (capture(training_step, model=seen), None))

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        """Take a step."""
        while self._ways:
            captured, then = self._ways[0]
            try:
                captured(inputs, targets)
            except CaptureError as error:
                self._ways.pop(0)
                if self._must and not self._ways:
                    raise
                rest = "now without the optimizer's step" if self._ways else "training goes on without capture"
                log.warning("fit: %s; %s.", error, rest)
                continue
            if then is not None:
                then()
            return
        self._run.step(inputs, targets)

    def look_again(self) -> None:
        """Find the modules and tensors of the model anew."""
        for captured, _ in self._ways:
            captured.look_again()


def way_of_stepping(run: Run, wanted: bool | None) -> Callable[[Tensor, Tensor], Any]:
    """How `fit` takes its steps, as its option `capture` says."""
    eager = run.step_by_chunks if run.chunks > 1 else run.step
    if wanted is False or (wanted is None and run.on_cpu()):
        return eager
    reason = why_not(run)
    if reason is None:
        return CapturedSteps(run, must=bool(wanted))
    if wanted:
        raise ValueError(f"fit: capture=True, but {reason}. Change that, or leave the option out.")
    log.warning("fit: the steps are not captured: %s.", reason)
    return eager


def why_not(run: Run) -> str | None:
    """Why no step of this run can be captured, or None."""
    if run.on_cpu():
        return "the model is on the CPU, where there is nothing to capture; model.to('cuda') moves it"
    if run.chunks > 1:
        return f"micro_batches={run.chunks} divides by numbers that are read on the host"
    if not hasattr(type(run.model), "modules"):
        return f"the model is a {type(run.model).__name__}, no Module, so that what it works on is not known"
    return None
