"""`autocast`: the switch for computing in half precision where that is safe."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.contexts import ContextDecorator
from minigrad.ops import autocasting
from minigrad.ops.autocasting import switch

DEVICES = ("cuda", "cpu")
NO_BFLOAT16 = (
    'autocast: dtype="bfloat16" is not there yet: NumPy has no such dtype, and Tensors do not hold that of ml_dtypes. '
    "Use float16, with a GradScaler."
)


class autocast(ContextDecorator):
    """A context in which products and convolutions compute in half precision; also a decorator.

    Inside, `matmul`, `linear`, `einsum` and convolutions take float32 operands as float16, and their results are
    float16. Softmax, losses, normalisation, exponentials, logarithms, powers and sums take float16 as float32. Other
    ops compute in the dtype that they are given. Parameters stay float32 and get float32 gradients; their casts are
    kept until the outermost context is left. float64 is never touched.

    Leave the context before `backward()`: the backward pass uses the dtypes of the forward pass. A step of the
    optimizer belongs outside too.

    Parameters
    ----------
    device_type : "cuda" or "cpu"
        Tensors elsewhere are left alone.
    dtype : dtype or str
        float16, which is the default.
    enabled : bool
        False switches off, also within another `autocast`.

    Raises
    ------
    ValueError, TypeError
        Another device or dtype. bfloat16 is refused: Tensors do not hold it yet.
    """

    def __init__(self, device_type: str = "cuda", dtype: Any = None, enabled: bool = True):
        if device_type not in DEVICES:
            raise ValueError(f"autocast: device_type={device_type!r}; expected 'cuda' or 'cpu'.")
        if not isinstance(enabled, bool):
            raise TypeError(f"autocast: enabled={enabled!r}; expected True or False.")
        self.device_type, self.enabled, self.dtype = device_type, enabled, _half(dtype)
        self._before: list[tuple[Any, ...]] = []

    def again(self) -> autocast:
        return autocast(self.device_type, self.dtype, self.enabled)

    def __enter__(self) -> autocast:
        autocasting.install()
        self._before.append((switch.dtype, switch.device, switch.casts))
        if self.enabled:
            other = switch.casts is None or (switch.dtype, switch.device) != (self.dtype, self.device_type)
            switch.dtype, switch.device = self.dtype, self.device_type
            switch.casts = {} if other else switch.casts
        else:
            switch.dtype = None
        return self

    def __exit__(self, *_: object) -> None:
        switch.dtype, switch.device, switch.casts = self._before.pop()

    def __repr__(self) -> str:
        return f"autocast({self.device_type!r}, dtype={self.dtype.name!r}, enabled={self.enabled})"


def _half(dtype: Any) -> np.dtype:
    if dtype is None:
        return np.dtype(np.float16)
    if "bfloat16" in (dtype, getattr(dtype, "name", None), getattr(dtype, "__name__", None)):
        raise TypeError(NO_BFLOAT16)
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None  # type: ignore[assignment]
    if found != np.float16:
        raise TypeError(f"autocast: dtype={dtype!r}; expected float16.")
    return found
