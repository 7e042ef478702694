"""One table: for every op and every composite, how to call it and who else knows the answer.

`CASES[table, name]` is a `Case`; `table` is "OPS" or "COMPOSITES". laws/test_op_table.py walks both tables of the
engine and this one, and fails for an op without a case or a case without an op.
"""

import pytest

import minigrad.ops
from minigrad.autograd.primitive import COMPOSITES, OPS
from tests.support.op_cases import elementwise, indexing, linalg, products, reductions, shapes
from tests.support.op_cases.case import Call, Case, is_variable

FAMILIES = (elementwise, reductions, shapes, indexing, products, linalg)

CASES: dict[tuple[str, str], Case] = {}
for _family in FAMILIES:
    for _table in ("OPS", "COMPOSITES"):
        for _name, _case in getattr(_family, _table).items():
            if (_table, _name) in CASES:
                raise ValueError(f"two cases for {_table}[{_name!r}]")
            CASES[_table, _name] = _case


def subjects() -> dict:
    """Everything in the engine's tables, by (table, name); ops that a test or a user added are not ours to test.

    The ops at the border of a vmap give no ordinary arrays; transforms/test_vmap.py is about them.
    """
    ours = {
        ("OPS", name): op
        for name, op in OPS.items()
        if op.forward.__module__.startswith("minigrad.") and op.forward.__module__ != "minigrad.autograd.levels"
    }
    return ours | {("COMPOSITES", name): function for name, function in COMPOSITES.items()}


SUBJECTS = subjects()


def named(keys):
    """Parametrize a test by `key`, a (table, name) of this table each."""
    return pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in keys])


every_case = named(key for key in CASES if key in SUBJECTS)
every_differentiable_case = named(key for key, case in CASES.items() if key in SUBJECTS and case.differentiable)


def results(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def floats(value) -> list:
    """The results that a gradient can flow from."""
    return [y for y in results(value) if y.dtype.kind == "f"]
