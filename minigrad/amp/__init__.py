"""Mixed precision: products and convolutions in half precision, everything else and the parameters in float32.

>>> scaler = mg.amp.GradScaler()
>>> with mg.amp.autocast("cuda"):
...     loss = loss_fn(model(x), y)
>>> scaler.scale(loss).backward()
>>> scaler.step(optimizer)
>>> scaler.update()

Names and meaning are PyTorch's. `autocast` says which ops compute in which dtype; `GradScaler` keeps small gradients
from becoming 0 in float16, whose smallest number is 6e-8.
"""

from .casting import autocast
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast"]


def __dir__() -> list[str]:
    return sorted(__all__)
