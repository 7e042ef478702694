"""Training a model. Read `protocols` (what `fit` is given), `history` (the metrics), `early_stopping`, then `loop`.

`loop` has `fit` and `evaluate`; `progress` shows the bar and listens for Ctrl-C.
"""

from minigrad.training.early_stopping import EarlyStopping
from minigrad.training.history import History
from minigrad.training.loop import TrainingError, evaluate, fit

__all__ = ["EarlyStopping", "History", "TrainingError", "evaluate", "fit"]


def __dir__() -> list[str]:
    return sorted(__all__)
