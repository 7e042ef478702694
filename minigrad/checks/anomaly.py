"""Anomaly detection: the first NaN or infinity is reported where it was made, in the forward or the backward pass.

And a write past the engine to what a graph saved is found.

    with minigrad.detect_anomaly():
        loss = criterion(model(x), y)
        loss.backward()

After this file you know how an engine can be watched without a single check in its own paths: while a block is open,
the forwards of all ops and the three names in `_exchanges` are replaced by ones that look at the values that pass
through them; when the last block closes the originals are put back.
"""

from __future__ import annotations

import linecache
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from itertools import islice
from traceback import FrameSummary, StackSummary
from types import CodeType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from minigrad.autograd import forward, reverse
from minigrad.autograd.errors import GradientError
from minigrad.autograd.node import Node
from minigrad.autograd.plan import Op
from minigrad.autograd.primitive import EVERY_OP, Primitive
from minigrad.autograd.saved import check_versions
from minigrad.autograd.tensor import array_of
from minigrad.backend import bare, is_array, namespace
from minigrad.contexts import ContextDecorator


class AnomalyError(GradientError):
    """A NaN or an infinity, where it was made.

    op : name of the op
    phase : "forward", "backward", or "forward mode" for `push`
    argument : in the backward pass, the argument whose gradient it is
    filename, line : of the user's code that called the op; None where its forward ran outside of a block
    """

    op: str | None = None
    phase: str | None = None
    argument: str | None = None
    filename: str | None = None
    line: int | None = None


class detect_anomaly(ContextDecorator):
    """`with detect_anomaly():` the first NaN or infinity raises an error that says where it was made. Also a decorator.

    Checked are the result of each op, each gradient of a backward pass as it arrives, and each tangent in `push`, if
    they are floats; intermediate values inside of an op or rule are not. A NaN is always reported; if an input held one
    already, the error says that it came from outside. An infinity is reported if no input held one. Run the forward
    pass inside of the block too: that is when the lines are noted which errors of the backward pass name.

    An array that was saved for the backward pass is compared with what it was: a write to a part of `tensor.data`, or
    to a NumPy array that a tensor shares, which the engine cannot see, is a GradientError (for arrays on the host).

    Blocks may be nested: the innermost one's `inf` counts. As with `no_grad`, a block is for the thread that opened it.
    An op made inside of a block has its forward watched from the next block on. Inside of a block small programs are
    several times slower, loops that read a tensor element by element even more; outside of blocks there is no cost.

    Parameters
    ----------
    inf : bool
        False: only NaNs are reported, for programs that work with infinities, such as the -inf of an attention mask.

    Raises
    ------
    AnomalyError
        with the op, the phase, the ranges of what went in, and the line of your code that called the op.
    """

    def __init__(self, *, inf: bool = True):
        self.inf = inf

    def again(self) -> detect_anomaly:
        """The same block."""
        return detect_anomaly(inf=self.inf)

    def __enter__(self):
        _exchange()
        _here.blocks.append(self.inf)
        return self

    def __exit__(self, *exception):
        _here.blocks.pop()
        _put_back()


# --- the replacements in the engine while a block is open ---


def _exchanges() -> Iterator[tuple[Any, str, Callable]]:
    """(owner, name, replacement while a block is open): every place where this file reaches into the engine."""
    yield import_module("minigrad.autograd.primitive"), "Node", _node_with_place
    yield reverse, "_Pass", _WatchedPass
    yield forward, "push_through", _watched_push
    for op in list(EVERY_OP):
        if not hasattr(op.forward, "watched"):  # a block inside another finds them exchanged already
            yield op, "forward", _watched_forward(op, op.forward)


def _node_with_place(*fields) -> Node:
    """A new node, with the place in the user's code noted beside it."""
    node = Node(*fields)
    if _here.blocks:
        _places[node] = _place()
        _written[node] = id(node.saved), _marks(node.saved)
    return node


def _check_unwritten(node: Node) -> None:
    """Raise if what a node saved has been written to where the engine could not see it."""
    known, marks = _written.get(node, (None, ()))
    if known != id(node.saved):  # saved outside of a block, or computed again by a checkpoint
        return
    for name, before, now in zip(node.plan.names, marks, _marks(node.saved), strict=True):
        if before != now:
            what = "result" if name == "out" else f"saved {name!r}"
            raise GradientError(
                f"derivative through {node.op.name}: its {what} was written to after the forward pass, past minigrad: "
                "into tensor.data or into a NumPy array that a tensor shares. Make the tensor with minigrad.tensor, "
                f"which copies, or write after backward.\n{_shown(_places.get(node), node.op)}"
            )


def _marks(saved: tuple) -> list:
    """A checksum of each saved value, as far as it is arrays on the host."""
    return [_mark(value) for value in saved]


def _mark(value: Any) -> Any:
    value = bare(array_of(value))
    if isinstance(value, (tuple, list)):
        return [_mark(part) for part in value]
    return zlib.crc32(value.tobytes()) if type(value) is np.ndarray else None


def _watched_forward(op: Primitive, run: Callable) -> Callable:
    @wraps(run)
    def watched(*arrays, **options):
        if _is_off():
            return run(*arrays, **options)
        with _inside(op):
            result = run(*arrays, **options)
        given = dict(zip(_argument_names(op, len(arrays)), arrays, strict=False))
        _look(op, "forward", result[0] if isinstance(result, tuple) else result, given, options)
        return result

    watched.watched = True  # type: ignore[attr-defined]
    return watched


class _WatchedPass(reverse._Pass):
    """A backward pass that looks at each gradient when it has arrived."""

    def pull(self, node, gradient):
        if _is_off():
            return super().pull(node, gradient)
        if node.saved is not None:
            check_versions(node)
            _check_unwritten(node)
        with _inside(_Rules(node, gradient, self)):
            return super().pull(node, gradient)

    def arrive(self, node, gradient, *source):
        before = self.copy_of_pending(node)
        super().arrive(node, gradient, *source)
        self.look(node, before, gradient)

    def pull_into(self, node, *rest):
        before = self.copy_of_pending(node)
        super().pull_into(node, *rest)
        self.look(node, before)

    def copy_of_pending(self, node):
        """What has arrived so far: the next gradient may be added to it in place."""
        before = self.pending.get(node)
        return bare(array_of(before)).copy() if _is_at_work(self) and before is not None else None

    def look(self, node, before, contribution=None):
        if not _is_at_work(self):
            return  # a gradient to start from, or a pass inside a rule
        rules = _here.inside
        given = {"incoming gradient": rules.gradient, **_saved(rules.node)}
        if before is not None:
            given["its gradient from other uses"] = before
        argument, op = rules.argument_of(node), rules.node.op
        _look(op, "backward", self.pending[node], given, node=rules.node, argument=argument, contribution=contribution)


_push_through = forward.push_through


def _watched_push(node, moving, *rest):
    """`forward.push_through`, whose result, a tangent, is looked at."""
    if _is_off():
        return _push_through(node, moving, *rest)
    if node.saved is not None:
        check_versions(node)
        _check_unwritten(node)
    with _inside(_Rules(node)):
        tangent = _push_through(node, moving, *rest)
    names = _argument_names(node.op, len(node.parents))
    tangents = {f"tangent of {name}": moving.get(p) for name, p in zip(names, node.parents, strict=True)}
    _look(node.op, "forward mode", tangent, tangents | _saved(node), node=node)
    return tangent


class _Rules:
    """The derivative rules of one node at work: which gradient came in, and which walk runs them."""

    def __init__(self, node: Node, gradient: Any = None, walk: reverse._Pass | None = None):
        self.node, self.gradient, self.walk = node, gradient, walk
        self.arrived: Counter[Node] = Counter()

    def argument_of(self, parent: Node) -> str:
        """The name of the argument whose gradient has just arrived: x * x has two that are one node."""
        positions = [i for i, *_ in self.node.plan.steps if self.node.parents[i] is parent]
        positions = positions or [i for i, other in enumerate(self.node.parents) if other is parent]  # a fused vjp
        turn, self.arrived[parent] = self.arrived[parent], self.arrived[parent] + 1
        return _argument_names(self.node.op, len(self.node.parents))[positions[turn]]


# --- opening and closing ---


class _Here(threading.local):
    """The state of this thread."""

    def __init__(self) -> None:
        self.blocks: list[bool] = []  # of each open block, whether infinities are reported
        self.inside: Primitive | _Rules | None = None  # the op or rule that runs; the ops that it calls are not checked


_here = _Here()
_lock = threading.Lock()
_open_blocks = 0  # in all threads
_put_aside: list[tuple[Any, str, Any]] = []


def _exchange() -> None:
    global _open_blocks
    with _lock:
        for owner, name, ours in _exchanges():
            theirs = getattr(owner, name)
            if theirs is not ours:
                _put_aside.append((owner, name, theirs))
                setattr(owner, name, ours)
        _open_blocks += 1


def _put_back() -> None:
    global _open_blocks
    with _lock:
        _open_blocks -= 1
        while not _open_blocks and _put_aside:
            setattr(*_put_aside.pop())


def _is_off() -> bool:
    return not _here.blocks or _here.inside is not None


def _is_at_work(walk: reverse._Pass) -> bool:
    """Whether it is this walk that runs the rules being watched."""
    return isinstance(_here.inside, _Rules) and _here.inside.walk is walk


@contextmanager
def _inside(what: Primitive | _Rules) -> Iterator[None]:
    _here.inside = what
    try:
        yield
    finally:
        _here.inside = None


# --- looking ---


def _look(op, phase, result, given, options=None, *, node=None, argument=None, contribution=None) -> None:
    """Raise if `result` holds a NaN, or an infinity that no input holds."""
    trouble = _not_finite(result)
    if trouble is None or (trouble == "Inf" and not _here.blocks[-1]):
        return
    if trouble == "Inf" and (_holding("isinf", given) or _holding("isinf", options or {})):
        return
    summed = contribution is not None and not _not_finite(contribution)
    place = _place() if node is None else _places.get(node)
    raise _report(op, phase, argument, trouble, result, given, summed, place)


def _not_finite(value: Any) -> str | None:
    """'NaN', 'Inf' or None; of arrays on a device one number is fetched, where all is well."""
    for x in _floats(value):
        if not namespace(x).isfinite(x).all():
            return "NaN" if namespace(x).isnan(x).any() else "Inf"
    return None


def _holding(what: str, values: dict[str, Any]) -> list[str]:
    """The names of the values in which there is a number for which `what` (isnan, isinf) is true."""
    return [n for n, value in values.items() if any(getattr(namespace(x), what)(x).any() for x in _floats(value))]


def _floats(value: Any) -> Iterator[Any]:
    """The arrays of floats, and Python's floats, that a value consists of; inside of `vmap` of all examples at once."""
    value = bare(array_of(value))
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _floats(part)
    elif isinstance(value, float) or (is_array(value) and value.dtype.kind == "f"):
        yield value


def _argument_names(op: Op, count: int) -> list[str]:
    return [f"{op.argument_names[0]}[{i}]" for i in range(count)] if op.variadic else list(op.argument_names)


def _saved(node: Node) -> dict[str, Any]:
    """What the node's rules were given beside the gradient, as far as it is numbers."""
    if node.saved is None:
        return {}
    values = dict(zip(node.plan.names, node.saved, strict=True))
    if node.op.variadic and (whole := values.pop(node.op.argument_names[0], None)):
        values |= zip(_argument_names(node.op, len(whole)), whole, strict=True)
    arguments = node.op.argument_names
    return {f"saved {name}": value for name, value in values.items() if is_array(value) or name in arguments}


# --- the place in the user's code ---


class _Place(NamedTuple):
    """A call in the user's code."""

    code: CodeType
    instruction: int
    line: int
    through: tuple[str, ...]  # the functions of minigrad that led from there to the op
    derivative_of: tuple[str, ...] = ()  # for an op that a rule ran on Tensors: the ops it differentiates


_places: WeakKeyDictionary[Node, _Place | None] = WeakKeyDictionary()
_written: WeakKeyDictionary[Node, tuple[int, list]] = WeakKeyDictionary()  # which saved values, and their checksums
_NOT_THE_USERS = ("minigrad", "contextlib")  # contextlib: between a function under a context and its caller


def _place() -> _Place | None:
    """The call that is being run: the innermost frame outside of minigrad, or where the op being differentiated was."""
    if isinstance(_here.inside, _Rules):
        node = _here.inside.node
        origin = _places.get(node)
        return origin and origin._replace(derivative_of=(node.op.name, *origin.derivative_of))
    frame, through = sys._getframe(1), list[str]()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        name = frame.f_code.co_qualname
        is_public = not any(part.startswith(("_", "<")) for part in name.split("."))
        if is_public and frame.f_globals["__name__"] != "minigrad.autograd.methods":  # each calls an op of its name
            through.insert(0, name)
        frame = frame.f_back  # type: ignore[assignment]
    return frame and _Place(frame.f_code, frame.f_lasti, frame.f_lineno, tuple(through))


def _shown(place: _Place | None, op: Op) -> str:
    """The place as Python shows one in a traceback."""
    if place is None:
        return "Where it was called is not known, as its forward ran outside of a detect_anomaly() block.\n"
    derivative = "".join(f" in the derivative of {name}," for name in place.derivative_of)
    through = [name for name in place.through if name != op.name]
    file, function = place.code.co_filename, place.code.co_name
    linecache.checkcache(file)
    spans = islice(place.code.co_positions(), place.instruction // 2, None)
    _, end, column, end_column = next(spans, (None, None, None, None))
    summary = FrameSummary(file, place.line, function, end_lineno=end, colno=column, end_colno=end_column)
    lines = "".join(StackSummary.from_list([summary]).format())
    return f"Called{derivative}{' through ' + ', '.join(through) if through else ''} by:\n{lines}"


# --- words ---


def _report(op, phase, argument, trouble, result, given, summed, place) -> AnomalyError:
    """The error: what is wrong with which value, the inputs, the line of the call, and what to do."""
    given = {name: value for name, value in given.items() if value is not None}
    where, advice = "its result", _advice(trouble, phase, given)
    if argument is not None:
        where = f"the gradient of its argument {argument!r}"
    if summed:
        where = f"{where}, when it was added up in {result.dtype}"
        advice = (
            "What the rule gave was finite; summed over broadcast axes and over the tensor's uses, in its dtype, it is "
            "not. Scale the loss down, or compute in a wider dtype."
        )
    ranges = "".join(f"  {name}: {_described(value)}\n" for name, value in given.items())
    error = AnomalyError(
        f"{op.name}, {phase}: {trouble} in {where}.\n{ranges}  -> {_described(result)}\n{_shown(place, op)}{advice}"
    )
    error.op, error.phase, error.argument = op.name, phase, argument
    error.filename, error.line = place and place.code.co_filename, place and place.line
    return error


def _described(value: Any) -> str:
    """Shape, dtype and range of an array, and how many of its numbers are not finite."""
    value = bare(array_of(value))
    if not is_array(value):
        return str(value)
    xp = namespace(value)
    x = xp.asarray(value)
    kind = f"{x.dtype} {tuple(x.shape)}"
    if x.dtype.kind not in "fiu" or not x.size:
        return kind
    finite = x[xp.isfinite(x)] if x.dtype.kind == "f" else x
    words = [f"{float(finite.min()):.6g} to {float(finite.max()):.6g}" if finite.size else "no finite number"]
    if x.dtype.kind == "f":
        counts = {"NaN": int(xp.isnan(x).sum()), "Inf": int(xp.isinf(x).sum())}
        words += [f"{count} {name}" for name, count in counts.items() if count]
    return f"{kind}, {', '.join(words)}"


def _advice(trouble: str, phase: str, given: dict[str, Any]) -> str:
    """What it means, and what to do."""
    if trouble == "NaN" and (held := " and ".join(_holding("isnan", given))):
        return (
            f"{held} held NaN already, so it came in from outside: data, a parameter after a bad step, a hook, the "
            "gradient that the pass started from, or an op that was not watched."
        )
    if trouble == "NaN" and (held := " and ".join(_holding("isinf", given))):
        return f"{held} held an infinity: inf - inf, inf / inf and 0 * inf are NaN. Look at where that was made."
    allowed = " If infinities are meant, say detect_anomaly(inf=False)." if trouble == "Inf" else ""
    if phase == "forward":
        return (
            "All that went in was finite: keep it inside the op's domain and range (clip it, add an eps), "
            f"or use a stable form, as log_softmax is of log(softmax(x)).{allowed}"
        )
    return (
        "All that went in was finite, so the derivative is not, at these values: change the argument before the op "
        f"(clip it, add an eps, where(x > 0, x, 1)); a where() after it does not help, as 0 * inf is NaN.{allowed}"
    )
