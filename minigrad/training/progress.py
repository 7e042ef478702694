"""A progress bar, a printed line for each epoch, and a Ctrl-C that waits for the batch to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any


class StopRequest:
    """Inside the with-block the first Ctrl-C sets `asked`; a second one interrupts at once, as usual.

    A batch that is interrupted in its middle leaves some parameters updated and others not. Signals reach the main
    thread only; in any other, nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = False
        self.before: Any = None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.before)
        print("\nStopping after this batch; Ctrl-C again to stop at once.", flush=True)


class ProgressBar:
    """tqdm's bar for the epoch under way, with loss, accuracy and time left; a printed line for each finished epoch."""

    def __init__(self, shown: bool, epochs: int):
        self.shown, self.epochs = shown, epochs
        self.bar: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def begin(self, epoch: int, batch: int, length: int | None) -> None:
        """Start the bar of an epoch, counted from 0, at a batch."""
        if self.shown:
            from tqdm.auto import tqdm

            # disable=None: no bar where the output is not a terminal, as in a log file
            title = f"epoch {epoch + 1}/{self.epochs}"
            self.bar = tqdm(total=length, initial=batch, desc=title, leave=False, disable=None)

    def show(self, means: Callable[[], tuple[float, float | None]]) -> None:
        """Advance by one batch; `means()` gives loss and accuracy, and is called only when the bar is redrawn."""
        if self.bar is None or self.bar.disable:
            return
        if time.time() - self.bar.last_print_t >= self.bar.mininterval:
            self.bar.set_postfix_str(_metrics(*means()), refresh=False)
        self.bar.update()

    def epoch_done(self, row: dict[str, Any], best: bool) -> None:
        """Print an epoch's metrics, with a star for the best epoch so far."""
        self._close()
        if not self.shown:
            return
        parts = [f"epoch {row['epoch']:{len(str(self.epochs))}}/{self.epochs}"]
        for part in ("train", "val"):
            if row[f"{part}_loss"] is not None:
                parts.append(f"{part} {_metrics(row[f'{part}_loss'], row[f'{part}_accuracy'])}")
        print(" | ".join([*parts, f"{row['seconds']:.1f} s"]) + (" *" if best else ""), flush=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _metrics(loss: float, accuracy: float | None) -> str:
    return f"loss {loss:.4f}" + ("" if accuracy is None else f", accuracy {accuracy:.2%}")
