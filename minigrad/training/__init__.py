"""Training a model: `loop` (fit and evaluate), `history` (what each epoch measured), `early_stopping`, `progress`."""

from minigrad.training.early_stopping import EarlyStopping
from minigrad.training.history import History
from minigrad.training.loop import TrainingError, evaluate, fit

__all__ = ["EarlyStopping", "History", "TrainingError", "evaluate", "fit"]


def __dir__() -> list[str]:
    return sorted(__all__)
