"""Passes: a tape as calls of NumPy that write into arrays that are not read again.

`m + gain * (g - m)` is three calls. The first result needs a scratch array, the second is written over the first, and
the third over m itself:

    subtract(g, m, out=scratch_0)
    multiply(gain, scratch_0, out=scratch_0)
    add(m, scratch_0, out=m)

So a step allocates nothing, and what it touches stays in the core's cache. Adam takes 12 passes and 1 scratch array, as
many as by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from .tape import Operation, Tape

SLOW_IN_PLACE = ("sign",)
"""Into its own operand NumPy takes twelve times as long (16,640 random numbers, 75 us instead of 6)."""


@dataclass(frozen=True, eq=False)
class Passes:
    """The calls that make one step. `calls` are operations whose results are arrays that exist.

    Attributes
    ----------
    scratch : int
        How many arrays like p they need besides.
    """

    tape: Tape
    calls: tuple[Operation, ...]
    scratch: int

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The names of all arrays: p, g, the buffers, and the scratch arrays."""
        return (*self.tape.arrays, *map(scratch_name, range(self.scratch)))

    @cached_property
    def text(self) -> str:
        """The calls as a Python function of the arrays and the numbers."""
        lines = [f"    {name}({', '.join(operands)}, out={out})" for out, name, operands in self.calls]
        head = f"def {self.tape.name}_step({', '.join((*self.arrays, *self.tape.numbers))}):"
        return "\n".join([head, *(lines or ["    pass"]), ""])

    @cached_property
    def packed_text(self) -> str:
        """The same for many parameters whose gradients and buffers lie side by side in flat arrays.

        `flat` holds those arrays, `parts` for each the list of the parameters' shares in it. The parameters themselves
        lie elsewhere, so that a pass that touches p is a loop over them; flat[0] is not used.
        """
        lines = []
        for out, name, operands in self.calls:
            touched = [array for array in dict.fromkeys((*operands, out)) if array in self.arrays]
            call = f"{name}({', '.join(operands)}, out={out})"
            if "p" not in touched:
                lines.append(f"    {call}")
                continue
            call = f"{name}({', '.join(f'{x}_' if x in touched else x for x in operands)}, out={out}_)"
            each, lists = ", ".join(f"{x}_" for x in touched), [f"{x}_parts" for x in touched]
            over = lists[0] if len(lists) == 1 else f"zip({', '.join(lists)})"
            lines += [f"    for {each} in {over}:", f"        {call}"]
        body = "\n".join(lines or ["    pass"])
        head = [f"def {self.tape.name}_step({', '.join(('flat', 'parts', *self.tape.numbers))}):"]
        for i, array in enumerate(self.arrays):
            head += [f"    {array} = flat[{i}]"] if array != "p" else []
            head += [f"    {array}_parts = parts[{i}]"] if f"{array}_parts" in body else []
        return "\n".join([*head, body, ""])


@lru_cache(maxsize=1024)
def compiled(calls: Passes, xp: Any, packed: bool = False) -> Callable[..., None]:
    """The text of the passes, or their `packed_text`, as a function that calls the array library `xp`."""
    namespace: dict[str, Any] = {call.name: getattr(xp, call.name) for call in calls.calls}
    text = calls.packed_text if packed else calls.text
    exec(compile(text, f"<passes of {calls.tape.name}>", "exec"), namespace)  # the name stands in warnings
    return namespace[f"{calls.tape.name}_step"]


@lru_cache(maxsize=1024)
def passes(tape: Tape, ones: frozenset[str] = frozenset(), gradient_is_ours: bool = False) -> Passes:
    """Find out where each result of a tape is written.

    Parameters
    ----------
    tape : Tape
    ones : frozenset of str
        The numbers that are 1 at this step: multiplying by them is left out.
    gradient_is_ours : bool
        Whether g is a copy, which may be written over.
    """
    operations: list[Operation] = []
    alias: dict[str, str] = {}
    for result, name, operands in tape.operations:
        operands = tuple(alias.get(x, x) for x in operands)
        factors = _factors(name, operands, ones)
        if factors and result not in tape.results:
            alias[result] = factors[0]
        else:
            operations.append(Operation(result, name, operands))

    targets = dict(zip(tape.results, (array for array in tape.arrays if array != "g"), strict=True))
    end = len(operations)
    last_use = {x: i for i, operation in enumerate(operations) for x in (operation.result, *operation.operands)}
    last_use.update(dict.fromkeys(tape.results, end))
    last_use["g"] = last_use.get("g", -1) if gradient_is_ours else end
    place = {array: array for array in tape.arrays}  # of each value, the array that it lies in
    taken = {array for array in tape.arrays if last_use.get(array, -1) >= 0}
    calls, scratch = [], 0
    for i, (result, name, operands) in enumerate(operations):
        read = tuple(place.get(x, x) for x in operands)
        free = [place[x] for x in dict.fromkeys(operands) if x in place and last_use[x] == i]
        taken.difference_update(free)
        banned = read if name in SLOW_IN_PLACE else ()
        wanted = [targets[result]] if result in targets else free
        unused = [*(["g"] if gradient_is_ours else []), *map(scratch_name, range(scratch + 1))]
        # Of the free operands a scratch array first: the array of a buffer may be wanted soon for what it becomes.
        candidates = [*sorted(wanted, key=lambda array: array in targets.values()), *unused]
        out = next(array for array in candidates if array not in taken and array not in banned)
        scratch += out == scratch_name(scratch)
        taken.add(out)
        place[result] = out
        calls.append(Operation(out, name, read))
        if last_use[result] == i:
            taken.discard(out)
    for result, target in targets.items():
        if place[result] != target:  # what the target held was needed until now
            calls.append(Operation(target, "positive", (place[result],)))
    return Passes(tape, tuple(calls), scratch)


def _factors(name: str, operands: tuple[str, ...], ones: frozenset[str]) -> list[str]:
    """What is left of a product or quotient by 1: its other operand. An empty list for anything else."""
    if name == "multiply" and operands[0] in ones:
        return [operands[1]]
    if name in ("multiply", "divide") and operands[1] in ones:
        return [operands[0]]
    return []


def scratch_name(i: int) -> str:
    return f"scratch_{i}"
