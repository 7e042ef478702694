"""The metrics of a run: losses and accuracies, added up batch by batch and stored epoch by epoch.

Means are taken over samples and not over batches, because the last batch of an epoch may be smaller.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minigrad.autograd.tensor import Tensor
from minigrad.serialization import replace_file
from minigrad.training.counting import Counting

COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds")


class History:
    """The metrics of a run, one row an epoch.

    Attributes
    ----------
    rows : list of dict
        One an epoch, with the keys `epoch` (from 1), `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `lr`
        and `seconds`; None where a metric was not measured.
    best_epoch : int or None
        The epoch that was best by the validation's accuracy (or loss, without classes), else by the training loss.
    interrupted : bool
        Whether Ctrl-C ended the run.
    stopped_early : bool
        Whether it ended because no metric improved for `patience` epochs.
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
        """Write the rows as a table with a header; None is written as an empty cell. The file is whole at every moment.

        Raises OSError where it cannot be written.
        """
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows(self.rows)
        replace_file(Path(path), text.getvalue().encode())
        return Path(path)

    def __repr__(self) -> str:
        last = "".join(f", {k}={v:.4g}" for k, v in self.rows[-1].items() if v is not None) if self.rows else ""
        return f"History({len(self)} epochs{last})"


class Totals:
    """Loss and accuracy over what was seen so far: samples, or the labels that count, by the weights of classes."""

    def __init__(self, loss: float = 0.0, correct: int = 0, samples: float = 0, classified: int = 0):
        self.loss, self.correct, self.samples, self.classified = loss, correct, samples, classified

    def add(self, loss: float, output: Tensor, target: Tensor, counting: Counting) -> None:
        """Add a batch: its loss, and, if outputs are scores of classes, how many predictions are right."""
        amount = counting.denominator(target)
        self.loss += loss if counting.reduction == "sum" else loss * amount
        self.samples += amount
        right, classified = counting.predictions(output, target)
        self.correct += right
        self.classified += classified

    def means(self) -> tuple[float, float | None]:
        """(loss, accuracy), the accuracy None if nothing was classified."""
        accuracy = self.correct / self.classified if self.classified else None
        return self.loss / self.samples if self.samples else 0.0, accuracy
