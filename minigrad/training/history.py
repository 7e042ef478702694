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
from minigrad.backend import Array, kernels, namespace, to_device
from minigrad.serialization import replace_file
from minigrad.training.counting import Counting, are_scores_of_classes

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


class TotalsThere:
    """Totals of batches on a GPU, added up there and read only when they are asked for.

    Attributes
    ----------
    sums : array (4,), float64
        On the device: loss, samples, correct and classified, as in `Totals`. It stays the same array as long as this
        object lives, so that a recorded step can go on adding to it.
    """

    def __init__(self, like: Array):
        self.sums = namespace(like).zeros(4, "float64")

    def begin(self, totals: Totals) -> None:
        """Start from these totals."""
        numbers = (totals.loss, totals.samples, totals.correct, totals.classified)
        self.sums[...] = 0
        for place, number in enumerate(numbers):
            if number:
                self.sums[place : place + 1] = float(number)

    def add(self, loss: Tensor, output: Tensor, target: Tensor, counting: Counting) -> None:
        """Add a batch: its loss, and, if outputs are scores of classes, how many predictions are right."""
        is_sum, value = counting.reduction == "sum", loss.data.reshape(())
        if target.ndim == 1 and counting.weight is None and are_scores_of_classes(output, target):
            add = kernels(self.sums).add_metrics
            add(self.sums, value, output.data, target.data, counting.ignore_index, is_sum)
            return
        xp, amount = namespace(self.sums), counting.denominator_there(target)
        value = value.astype("float64", copy=False)
        if not isinstance(amount, int):
            value = xp.where(amount == 0, 0, value)  # a mean over no labels is NaN, and nothing to add
        numbers = (value if is_sum else value * amount, amount, *counting.counted_predictions(output, target))
        for place, number in enumerate(numbers):
            xp.add(self.sums[place : place + 1], number, out=self.sums[place : place + 1])

    def read(self) -> Totals:
        """The totals on the host, which waits for them."""
        sums: Any = to_device(self.sums, "cpu")
        loss, samples, correct, classified = sums.tolist()
        return Totals(loss, int(correct), samples, int(classified))
