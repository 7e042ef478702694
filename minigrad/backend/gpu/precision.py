"""The one switch for TF32, which matrix products and convolutions share.

TF32 is float32 with 10 bits of mantissa in place of 23: the tensor cores multiply it some eight times as fast, with
three correct digits. It concerns float32 only. float16 and bfloat16 are always multiplied as they are and added up in
float32.
"""

from __future__ import annotations

_on = False


def set_tf32(on: bool) -> None:
    """Let float32 products and convolutions on a GPU round their operands to TF32, or not (as it is at first)."""
    global _on
    if not isinstance(on, bool):
        raise TypeError(f"set_tf32: expected True or False, got {on!r}.")
    _on = on


def tf32() -> bool:
    """Whether float32 products and convolutions on a GPU may round their operands to TF32."""
    return _on
