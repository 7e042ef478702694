"""The tests as functions to call: which there are, which of them run a rule, and whether one fails.

After this file you know how a mutant is judged: the tests of its own ops first, those that find most errors leading,
then whatever else was seen to run the function; the first failure ends it. Hypothesis draws what it draws in the
default profile, but does not shrink what fails.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import Phase, settings

from tests import conftest  # noqa: F401  (registers the profiles)
from tests.backend import conftest as kernels
from tests.mutation.units import Unit
from tests.support import strict_backend

MODULES = (
    "tests.laws.test_op_table",
    "tests.ops.test_edges",
    "tests.ops.test_seams",
    "tests.autograd.test_reverse",
    "tests.transforms.test_vmap",
    "tests.transforms.test_vmap_functions",
    "tests.laws.test_strict_backend",
    "tests.backend.test_kernels",
    "tests.backend.test_threads",
    "tests.ops.linalg.test_values",
    "tests.ops.linalg.test_edges",
    "tests.ops.linalg.test_borders",
    "tests.transforms.test_iterative_solvers",
    "tests.transforms.test_linear_solve",
)
FIRST = (
    "test_forward_and_reverse_mode",
    "test_derivatives",
    "test_second",
    "test_values",
    "test_gradients_share",
    "test_rules",
)
"""The tests of an op that find most, in this order."""

SECONDS = 30
"""Processor time after which a test of a mutant counts as hanging. The slowest, of a right rule, take one."""


@dataclass
class Check:
    """One test with one set of parameters; `subject` is the (table, name) of the op it is about, if it says so."""

    name: str
    subject: tuple | None
    run: Callable[[], None]
    seconds: float = 0.0
    seen: set[str] = field(default_factory=set)


@cache
def checks() -> dict[str, Check]:
    """Every test of `MODULES` that can be called without pytest, by name."""
    profile = settings.get_profile("default")
    quick = {"phases": [Phase.explicit, Phase.generate], "database": None, "report_multiple_bugs": False}
    settings.register_profile("mutation", profile, print_blob=False, **quick)
    settings.load_profile("mutation")
    return {check.name: check for module in MODULES for check in _checks_of(importlib.import_module(module))}


def _checks_of(module) -> Iterator[Check]:
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        sets = [_parameter_sets(mark) for mark in marks]
        if "device" in inspect.signature(test).parameters:
            sets.append(DEVICES)
        for i, chosen in enumerate(itertools.product(*sets)):
            given = {k: v for part in chosen for k, v in part.items()}
            needed = [p for p in inspect.signature(test).parameters if p not in given]
            if all(p in FIXTURES for p in needed):
                label = ".".join(given["key"]) if "key" in given else str(i) if sets else ""
                for path in PATHS if module.__name__.startswith("tests.backend.") else ("",):
                    around = partial(_kernels_on, path) if path else nullcontext
                    around = strict_backend.installed if "device" in given else around
                    run = partial(_run_with_fixtures, test, given, needed, around)
                    yield Check(f"{module.__name__}::{name}[{label}{path}]", given.get("key"), run)


PATHS = ("tuned blocks", "tiny blocks", "batch last")
DEVICES = [{"device": "cpu"}, {"device": "cuda"}]
"""What the fixtures `path` of backend/conftest.py and `device` of ops/linalg/test_edges.py go through."""


@contextmanager
def _kernels_on(path: str) -> Iterator[None]:
    """What the fixture `path` of backend/conftest.py does for each of its tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        inspect.unwrap(kernels.path)(SimpleNamespace(param=path), monkeypatch)
        yield


def _run_with_fixtures(test, given: dict, needed: list[str], around) -> None:
    with ExitStack() as stack:
        stack.enter_context(around())
        test(**given, **{name: stack.enter_context(FIXTURES[name]()) for name in needed})


@contextmanager
def _cuda() -> Iterator[str]:
    with strict_backend.installed():
        strict_backend.traffic.clear()
        yield "cuda"


FIXTURES = {
    "random": lambda: nullcontext(np.random.default_rng(0)),
    "deep": lambda: nullcontext(False),
    "cuda": _cuda,
    "monkeypatch": pytest.MonkeyPatch.context,
}
"""What tests ask pytest for; one that asks for anything else is left out."""


def _parameter_sets(mark) -> list[dict]:
    """What a `parametrize` gives, one dict for each set of parameters."""
    names, values = mark.args
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    sets = []
    for value in values:
        if hasattr(value, "marks"):  # pytest.param
            parts = value.values
        else:
            parts = value if len(names) > 1 else (value,)
        sets.append(dict(zip(names, parts, strict=True)))
    return sets


def own_checks(unit: Unit) -> list[Check]:
    """The tests of the ops whose rules lead to a function."""

    def rank(check: Check) -> int:
        test = check.name.partition("::")[2]
        return next((i for i, start in enumerate(FIRST) if test.startswith(start)), len(FIRST))

    subjects = {("OPS", op) for op in unit.ops}
    return sorted((c for c in checks().values() if c.subject in subjects), key=rank)


def further_checks(unit: Unit, seconds: float = 30) -> list[Check]:
    """What else was seen to run a function (see `watch`): `seconds` in all.

    Tests of special cases come first, then those that walk the table, the quickest of each first.
    """
    own = {check.name for check in own_checks(unit)}
    others = [c for c in checks().values() if unit.name in c.seen and c.name not in own]
    others.sort(key=lambda check: (check.subject is not None, check.seconds))
    total = itertools.accumulate(check.seconds for check in others)
    return [check for check, sum_so_far in zip(others, total, strict=True) if sum_so_far <= seconds]


# --- running ---


class TooLong(BaseException):
    """A test ran longer than any should. (Not an Exception: what is tested must not catch it.)"""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLong after so much processor time, which, unlike the clock's, other processes do not use up."""

    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def failure(check: Check) -> str | None:
    """How a test fails: "check" (it says that something is wrong), "error", "time"; None if it passes."""
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check.run()
    except (AssertionError, pytest.fail.Exception):
        return "check"
    except pytest.skip.Exception:
        return None
    except TooLong:
        return "time"
    except Exception:
        return "error"
    return None


def first_failure(candidates: Iterable[Check]) -> tuple[str | None, str | None]:
    """(name of the first check that fails, how); (None, None) if all pass."""
    for check in candidates:
        how = failure(check)
        if how:
            return check.name, how
    return None, None


def watch(units: Iterable[Unit], candidates: Iterable[Check]) -> list[str]:
    """Run tests as they are and note which functions each runs, and how long it takes; names those that fail."""
    by_code = {id(unit.function.__code__): unit.name for unit in units}
    failed = []
    for check in candidates:

        def note(frame, event, _, check=check):
            if event == "call" and id(frame.f_code) in by_code:
                check.seen.add(by_code[id(frame.f_code)])

        check.seen.clear()
        start = time.process_time()
        sys.setprofile(note)
        try:
            how = failure(check)
        finally:
            sys.setprofile(None)
        check.seconds = time.process_time() - start
        if how:
            failed.append(check.name)
    return failed
