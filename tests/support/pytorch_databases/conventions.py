"""Where minigrad and PyTorch differ on purpose: in which samples, how, and why.

A row must be exact. Every sample that it describes has to differ in the way it says, and there has to be one; so a row
that is no longer true fails, and none can hide more than it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .translation import torch

Given = Mapping[str, Any]
"""The arguments of a call, by PyTorch's names."""


@dataclass(frozen=True)
class Convention:
    """`kind` is one of `comparing.Finding`'s; `holds` says for which samples of these ops."""

    ops: str
    kind: str
    holds: Callable[[Given], bool]
    reason: str


def _first(given: Given) -> Any:
    return next(iter(given.values()))


def has(*names: str) -> Callable[[Given], bool]:
    """One of these arguments is given."""
    return lambda given: any(given.get(name) is not None for name in names)


def zero_d(given: Given) -> bool:
    first = _first(given)
    return isinstance(first, torch.Tensor) and first.ndim == 0


def _axes(value: Any) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def wide_axis(given: Given) -> bool:
    """squeeze names an axis whose size is not 1."""
    x = _first(given)
    return x.ndim > 0 and "dim" in given and any(x.shape[a] != 1 for a in _axes(given["dim"]))


def negative_width(given: Given) -> bool:
    return min(given["pad"]) < 0


def empty_vector_among_matrices(given: Given) -> bool:
    return len({t.ndim for t in given["tensors"]}) > 1


def some_rank_lost(given: Given) -> bool:
    """rtol=1 keeps no singular value at all."""
    tolerance = given.get("rtol")
    return tolerance is not None and float(tolerance) >= 1 and _first(given).numel() > 0


def an_integer_bound(given: Given) -> bool:
    return given["x"].dtype == torch.float32 and any(
        isinstance(bound, torch.Tensor) and not bound.is_floating_point()
        for bound in (given.get("min"), given.get("max"))
    )


ZERO_D = "a 0-d tensor has no axis, as in NumPy; PyTorch takes it for a vector of one element"
NO_FACTOR = "NumPy's add and subtract have no factor: write a + alpha * b"

CONVENTIONS = [
    Convention("add sub", "option", has("alpha"), NO_FACTOR),
    Convention("gather index_add index_select logsumexp scatter_add topk", "refusal", zero_d, ZERO_D),
    Convention(
        "gather",
        "refusal",
        lambda given: given["index"].ndim == 2 and given["x"].ndim == 1,
        "an empty index of another rank: PyTorch lets it pass",
    ),
    Convention("clamp", "value", an_integer_bound, "float32 with int32 is float64, by NumPy's rules of promotion"),
    Convention("argsort sort squeeze transpose", "refusal", zero_d, ZERO_D),
    Convention(
        "cumsum cumprod", "value", zero_d, "the running sums of a number are a vector of one element, as in NumPy"
    ),
    Convention(
        "nn.functional.batch_norm",
        "refusal",
        lambda given: given["x"].ndim == 1,
        "x is (N, C) or (N, C, ...); PyTorch lets an empty vector pass",
    ),
    Convention("squeeze", "refusal", wide_axis, "an axis that is named has to have size 1, as in NumPy"),
    Convention(
        "nn.functional.pad constant_pad_nd",
        "refusal",
        negative_width,
        "a width of padding is at least 0, as in NumPy; slices cut",
    ),
    Convention(
        "cat",
        "refusal",
        empty_vector_among_matrices,
        "PyTorch leaves out vectors of length 0 whatever the rank of the others, and calls that legacy itself",
    ),
    Convention(
        "norm:nuc",
        "refusal",
        lambda given: True,
        "`norm` is the norm of vectors; the nuclear norm is the sum of linalg.svdvals, as the error says",
    ),
    Convention(
        "tensordot",
        "refusal",
        lambda given: given["a"].shape == (1, 1, 1),
        "sizes that are summed over must agree, as in NumPy; PyTorch broadcasts a 1",
    ),
    Convention(
        "nn.functional.multi_margin_loss",
        "refusal",
        lambda given: given["input"].ndim == 0 or given["target"].shape == (1,),
        "scores are (N, C) or (C,), a single row's label a number; PyTorch takes one number for scores of one class",
    ),
    Convention(
        "nn.functional.batch_norm",
        "refusal",
        lambda given: given.get("momentum", 0.1) < 0,
        "running statistics move towards the batch's: a negative momentum is refused, also where it is not used",
    ),
    Convention(
        "nn.functional.dropout2d",
        "refusal",
        lambda given: given["x"].ndim != 4,
        "(C, H, W) is refused since PyTorch reads it as (N, C, L), and warns that this will change",
    ),
    Convention(
        "linalg.pinv",
        "refusal",
        some_rank_lost,
        "a pseudoinverse has no derivative where singular values count as zero; PyTorch gives one all the same",
    ),
    Convention(
        "linalg.pinv:singular",
        "refusal",
        lambda given: (
            math.prod(given["a"].shape[:-2]) > 0
            and min(given["a"].shape[-2], given["b"].shape[-2]) > given["a"].shape[-1]
        ),
        "a product of tall and wide factors is short of rank: pinv jumps there for all but the changes of its factors",
    ),
    Convention(
        "linalg.svd",
        "refusal",
        lambda given: given["full_matrices"],
        "the vectors that full_matrices=True adds are not unique and have no derivative",
    ),
]
"""Differences in the samples of the database of ops."""


ALIASES = {
    **{"arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan"},
    **{"arctan2": "atan2", "arctanh": "atanh", "clip": "clamp", "concatenate": "cat", "divide": "div"},
    **{"equal": "eq", "expand_dims": "unsqueeze", "greater": "gt", "greater_equal": "ge", "less": "lt"},
    **{"less_equal": "le", "moveaxis": "movedim", "multiply": "mul", "negative": "neg", "not_equal": "ne"},
    **{"pad": "nn.functional.pad", "power": "pow", "repeat": "repeat_interleave", "subtract": "sub"},
    **{"swapaxes": "transpose", "take_along_axis": "take_along_dim", "linalg.expm": "matrix_exp"},
    **{"getitem": "__getitem__", "index_update": "index_put", "__rtruediv__": "__rdiv__"},
}
"""minigrad's names, which are NumPy's, for what PyTorch's database calls otherwise."""

LEFT_OUT = {
    "equal": "PyTorch's is one truth value, ours is NumPy's, elementwise: compared as `eq`",
}
"""Names of the database that minigrad has too and that mean something else."""

MODULE_CONVENTIONS: list[Convention] = [
    Convention(
        "BatchNorm1d BatchNorm2d",
        "refusal",
        lambda given: given["desc"] == "zero_batch" and given["training"],
        "an empty batch has no mean; PyTorch gives an empty result and leaves the running statistics",
    ),
    Convention(
        "CrossEntropyLoss",
        "refusal",
        lambda given: (
            given.get("reduction", "mean") == "mean"
            and bool((given["target"] == given.get("ignore_index", -100)).all())
        ),
        "the mean over no label at all is refused; PyTorch gives NaN",
    ),
]
"""Differences in the database of modules; arguments are those of the constructor, with `desc`,
`training` and, of a loss, `target`."""

OPTIMIZER_CONVENTIONS: list[Convention] = [
    Convention(
        "Adagrad LBFGS Muon SGD",
        "refusal",
        lambda given: isinstance(given.get("lr"), torch.Tensor),
        "a rate is a number: tensors as rates are for PyTorch's compiled and captured steps",
    ),
    Convention(
        "LBFGS",
        "value",
        lambda given: True,
        "our defaults search along the line and go on for longer, and curvature is not learnt between calls of step",
    ),
]
"""Differences in the database of optimizers; arguments are the options."""
