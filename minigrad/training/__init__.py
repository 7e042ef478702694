"""Training a model. Read `protocols` (what `fit` is given), `history` (metrics), `early_stopping`, `run`, then `loop`.

`loop` has `fit`, which is epochs of a `run`, and `evaluation` has `evaluate`. `counting` says what a mean loss divides
by, `run_folder` keeps the files of a run, `progress` shows the bar and listens for Ctrl-C.
"""

from minigrad.training.early_stopping import EarlyStopping
from minigrad.training.history import History
from minigrad.training.loop import TrainingError, evaluate, fit

__all__ = ["EarlyStopping", "History", "TrainingError", "evaluate", "fit"]


def __dir__() -> list[str]:
    return sorted(__all__)
