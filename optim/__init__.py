"""Optimizers and learning rate schedules, under PyTorch's names and with its defaults.

>>> optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
>>> for images, labels in loader:
...     loss = cross_entropy(model(images), labels)
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()

Everything public is named here.
"""

from .adam import Adam, AdamW
from .optimizer import Optimizer
from .schedules import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, StepLR
from .sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LRScheduler",
    "LinearLR",
    "OneCycleLR",
    "Optimizer",
    "StepLR",
]
