"""One sample of PyTorch's database, asked of both libraries: values, then gradients, then second derivatives."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg

from .translation import NotTaken, Peer, leaves, torch, translate

TOLERANCES = {"float64": (1e-12, 1e-11, 1e-9), "float32": (2e-5, 2e-4, 2e-3), "float16": (1e-3, 1e-3, 1e-3)}
"""For values, gradients and second derivatives, relative to the largest number of the array that is compared.

Both libraries add up to a few hundred products, in another order, and divide by numbers down to 1e-2; each derivative
adds such a step. float32 has 9 digits less than float64, and no second derivatives are compared in it. float16 is only
what an op of another dtype is converted to.
"""

SMALL = 1e-3
"""Where all numbers of an array are smaller, they are compared as if the largest were this: what is left of numbers of
size 1 that cancel is rounding."""

ANSWERS = (TypeError, ValueError, IndexError, mg.GradientError, mg.linalg.LinAlgError)
NAMES_ITS_OP = re.compile(r"[A-Za-z_]\w*(\(\))?: ")


class Finding(NamedTuple):
    """Where the two differ.

    kind is "option" (a parameter that minigrad lacks), "refusal" (an error that names its op), "crash" (any other
    error), "value", "gradient" or "second".
    """

    kind: str
    text: str


class Question(NamedTuple):
    """The same call in both libraries: what to call, with what, and which of that wants gradients."""

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    our_inputs: list
    their_inputs: list
    gradients: bool
    second: bool


def compare(op: Any, peer: Peer, sample: Any) -> Finding | None:
    """One sample of the database of ops: None where the libraries agree."""
    try:
        values, options = translate(peer, (sample.input, *sample.args), sample.kwargs)
    except NotTaken as missing:
        return Finding("option", f"no parameter {missing}")
    ask, finish = peer.theirs or op, sample.output_process_fn_grad
    return answer(
        Question(
            ours=lambda: finish(peer.ours(*values, **options)),
            theirs=lambda: finish(ask(sample.input, *sample.args, **sample.kwargs)),
            our_inputs=requiring_gradients((values, options), mg.Tensor),
            their_inputs=requiring_gradients((sample.input, sample.args, sample.kwargs), torch.Tensor),
            gradients=op.supports_autograd,
            second=op.supports_gradgrad,
        )
    )


def answer(question: Question) -> Finding | None:
    """The first thing in which the libraries differ."""
    wanted = _arrays(question.theirs(), torch.Tensor)
    try:
        given = _arrays(question.ours(), mg.Tensor)
        return _differ_in_values(given, wanted) or _differ_in_gradients(question, given, wanted)
    except Exception as error:
        return blamed(error)


def blamed(error: Exception) -> Finding:
    """An error as a finding: a refusal says which op refuses, and anything else is a crash from inside."""
    text = f"{type(error).__name__}: {error}"
    refuses = isinstance(error, ANSWERS) and NAMES_ITS_OP.match(str(error))
    return Finding("refusal" if refuses else "crash", text)


def requiring_gradients(value: Any, kind: type) -> list:
    """The tensors in a value of which gradients are wanted."""
    return [leaf for leaf in leaves(value, kind) if leaf.requires_grad]


def _arrays(answer: Any, kind: type) -> list:
    """The tensors of an answer, or the number that it is."""
    return [np.asarray(answer)] if isinstance(answer, (bool, int, float)) else leaves(answer, kind)


def _differ_in_values(given: list, wanted: list) -> Finding | None:
    if len(given) != len(wanted):
        return Finding("value", f"{len(given)} results for {len(wanted)}")
    return _first("value", given, wanted, 0)


def _differ_in_gradients(question: Question, given: list, wanted: list) -> Finding | None:
    ours, theirs = question.our_inputs, question.their_inputs
    pairs = [(a, b) for a, b in zip(given, wanted, strict=True) if getattr(b, "requires_grad", False)]
    if not (question.gradients and theirs and pairs):
        return None
    second = question.second and all(x.dtype == torch.float64 for x in theirs)
    ys, zs = zip(*pairs, strict=True)
    ours_along, theirs_along = _cotangents(zs, requires_grad=second)
    wanted = torch.autograd.grad(zs, theirs, theirs_along, create_graph=second, allow_unused=True)
    given = _gradients(ys, ours, ours_along, create_graph=second)
    found = _first("gradient", given, _filled(wanted, theirs), 1)
    if found or not second:
        return found
    zs, ours, theirs = [g for g in wanted if _is_recorded(g)], [*ours, *ours_along], [*theirs, *theirs_along]
    if not zs:
        return None
    ys = [g for g, peer in zip(given, wanted, strict=True) if _is_recorded(peer)]
    ours_along, theirs_along = _cotangents(zs, requires_grad=False)
    wanted = torch.autograd.grad(zs, theirs, theirs_along, allow_unused=True)
    return _first("second", _gradients(ys, ours, ours_along), _filled(wanted, theirs), 2)


def _is_recorded(gradient: Any) -> bool:
    return gradient is not None and gradient.requires_grad


def _cotangents(tensors, requires_grad: bool) -> tuple[list, list]:
    """Random directions in the shapes of PyTorch's tensors, for both libraries."""
    random = np.random.default_rng(0)
    arrays = [np.asarray(random.standard_normal(t.shape), str(t.dtype).removeprefix("torch.")) for t in tensors]
    return tuple([kind.tensor(array, requires_grad=requires_grad) for array in arrays] for kind in (mg, torch))


def _gradients(outputs, inputs, along, create_graph: bool = False) -> list:
    """minigrad's; zeros of what the outputs do not depend on, also where no output is recorded at all."""
    recorded = [(y, v) for y, v in zip(outputs, along, strict=True) if y.requires_grad]
    if not recorded:
        return _filled([None] * len(inputs), inputs)
    ys, vs = zip(*recorded, strict=True)
    return list(mg.autograd.grad(ys, inputs, vs, create_graph=create_graph, materialize_grads=True))


def _filled(gradients, inputs) -> list:
    return [
        np.zeros(tuple(x.shape), _array(x).dtype) if g is None else g for g, x in zip(gradients, inputs, strict=True)
    ]


def _first(kind: str, given, wanted, order: int) -> Finding | None:
    """The first pair of arrays that differ, as a finding."""
    for i, (a, b) in enumerate(zip(given, wanted, strict=True)):
        text = difference(a, b, order)
        if text:
            return Finding(kind, f"{kind} {i}: {text}")
    return None


def difference(given: Any, wanted: Any, order: int = 0) -> str | None:
    """How an array differs from the wanted one in shape, dtype or numbers; None where it does not."""
    a, b = _array(given), _array(wanted)
    if a.shape != b.shape:
        return f"shape {a.shape}; expected {b.shape}"
    if a.dtype != b.dtype:
        return f"dtype {a.dtype}; expected {b.dtype}"
    with np.errstate(all="ignore"):
        wrong = (a != b) & ~((a != a) & (b != b))
        if b.dtype.kind == "f":
            largest = np.abs(b[np.isfinite(b)]).max(initial=SMALL)
            wrong &= ~(np.abs(a - b) <= TOLERANCES[b.dtype.name][order] * largest)
    return f"{a[wrong][:4]}; expected {b[wrong][:4]}, largest {np.abs(b).max()}" if wrong.any() else None


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return np.asarray(value.detach().numpy(force=True))
    return np.asarray(value.numpy() if isinstance(value, mg.Tensor) else value)
