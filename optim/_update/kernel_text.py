"""One CUDA kernel of a tape: on a GPU the memory is read once instead of once an operation, for all parameters at once.

The kernel is minigrad/backend/gpu/optimizer.cu, in which STEP is what the tape does to one element.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from minigrad.backend.gpu.many_tensors import defined, layout

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
KEYWORDS = """
    alignas alignof auto bool case catch char class const constexpr default delete do double enum explicit export extern
    float friend goto inline int long mutable namespace new operator private protected public register short signed
    sizeof static struct switch template this throw try typedef typename union unsigned using virtual void volatile a x
""".split()
"""Names that a formula may give its arguments and a kernel may not: C++'s own, and two that optimizer.cu uses."""


def row_length(tape: Tape) -> int:
    """How many numbers a step takes: whether the tape is to be followed at all, and the tape's."""
    return 1 + len(tape.numbers)


@lru_cache(maxsize=1024)
def defines(tape: Tape, rows: int) -> str:
    """What stands in front of optimizer.cu to make it the kernel of a tape, for numbers in so many rows."""
    return defined(
        ARRAYS=len(tape.arrays),
        NUMBERS=len(tape.numbers),
        ROWS=rows,
        TENSORS=layout_for(tape, rows)["size"].shape[0],
        STEP="\\\n    " + " \\\n    ".join(cuda_text(tape)),
    )


def layout_for(tape: Tape, rows: int):
    """The struct of addresses that leaves room for the numbers."""
    return layout(len(tape.arrays), others=8 * (1 + rows * row_length(tape)))


def cuda_text(tape: Tape) -> list[str]:
    """The CUDA statements that one element's update is made of.

    The array `a` holds the element of p, g and each buffer, the array `x` the tape's numbers; `T` is their type.
    """
    named = {name: f"{name}_" if name in KEYWORDS else name for name in (*tape.arrays, *tape.numbers)}
    statements = [
        f"{'const T' if array == 'g' else 'T&'} {named[array]} = a[{i}];" for i, array in enumerate(tape.arrays)
    ]
    statements += [f"const T {named[number]} = x[{i}];" for i, number in enumerate(tape.numbers)]
    uses = Counter(operand for operation in tape.operations for operand in operation.operands)
    text = dict(named)  # and of results that are read once, which are written where they are read
    for result, name, operands in tape.operations:
        written = IN_CUDA[name].format(*(text.get(operand, operand) for operand in operands))
        if uses[result] == 1 and result not in tape.results:
            text[result] = f"({written})" if name in ("add", "subtract", "multiply", "divide", "negative") else written
        else:
            statements.append(f"const T {result} = {written};")
    outputs = [array for array in tape.arrays if array != "g"]
    changes = [(named[array], result) for array, result in zip(outputs, tape.results, strict=True) if array != result]
    return [*statements, *(f"{array} = {result};" for array, result in changes)]
