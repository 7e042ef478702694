"""How the formula of an optimizer becomes passes over NumPy arrays, or one CUDA kernel.

Read `formula` first: what a formula is, and the formulas around it (weight decay, `maximize`). Then `tape`, where it
is run once on symbols; `numpy_passes`, which turns the tape into calls of NumPy that need hardly any memory;
`kernel_text`, which writes the same tape as one CUDA kernel, and `one_launch`, which launches it. How an optimizer
walks through its parameters with them is in `optim/optimizer.py`.
"""

from .formula import Formula, arguments, climbing, root, with_decoupled_decay, with_weight_decay
from .kernel_text import cuda_text
from .numpy_passes import Passes, compiled, passes
from .one_launch import ROWS, Launches, empty_table, tables, tape_for
from .tape import Tape, trace

__all__ = [
    "ROWS",
    "Formula",
    "Launches",
    "Passes",
    "Tape",
    "arguments",
    "climbing",
    "compiled",
    "cuda_text",
    "empty_table",
    "passes",
    "root",
    "tables",
    "tape_for",
    "trace",
    "with_decoupled_decay",
    "with_weight_decay",
]


def __dir__() -> list[str]:
    return sorted(__all__)
