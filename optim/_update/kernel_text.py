"""One CUDA kernel of a tape: on a GPU the memory is read once instead of once an operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .tape import Tape

IN_CUDA = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "positive": "{}",
    "sqrt": "sqrt({})",
    "absolute": "fabs({})",
    "exp": "exp({})",
    "log": "log({})",
    "tanh": "tanh({})",
    "sign": "minigrad::sign<T>({})",
    "maximum": "minigrad::maximum<T>({}, {})",
    "minimum": "minigrad::minimum<T>({}, {})",
}

FUNCTIONS = """
namespace minigrad {  // as in NumPy, a NaN stays
template <typename T> __device__ T sign(T a) { return a > T(0) ? T(1) : a < T(0) ? T(-1) : a; }
template <typename T> __device__ T maximum(T a, T b) { return a >= b || a != a ? a : b; }
template <typename T> __device__ T minimum(T a, T b) { return a <= b || a != a ? a : b; }
}
"""


@lru_cache(maxsize=1024)
def cuda_kernel(tape: Tape) -> Callable[..., Any]:
    """The fused kernel: `kernel(g, *numbers, p, *buffers)` changes p and the buffers."""
    import cupy

    inputs, outputs, statements = cuda_text(tape)
    typed = [", ".join(f"T {name}" for name in names) for names in (inputs, outputs)]
    return cupy.ElementwiseKernel(*typed, statements, name=f"minigrad_{tape.name}", preamble=FUNCTIONS)


def cuda_text(tape: Tape) -> tuple[list[str], list[str], str]:
    """Inputs, what is changed, and the CUDA statements that one element's update is made of; `T` is its type."""
    uses = Counter(x for operation in tape.operations for x in operation.operands)
    text: dict[str, str] = {}  # of results that are read once, which are written where they are read
    statements = []
    for result, name, operands in tape.operations:
        written = IN_CUDA[name].format(*(text.get(x, x) for x in operands))
        if uses[result] == 1 and result not in tape.results:
            text[result] = f"({written})" if name in ("add", "subtract", "multiply", "divide", "negative") else written
        else:
            statements.append(f"const T {result} = {written};")
    outputs = [array for array in tape.arrays if array != "g"]
    changes = [(array, result) for array, result in zip(outputs, tape.results, strict=True) if array != result]
    statements += [f"{array} = {result};" for array, result in changes]
    return ["g", *tape.numbers], outputs, "\n".join(statements)
