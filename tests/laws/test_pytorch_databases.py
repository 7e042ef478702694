"""PyTorch's own test databases, asked of minigrad: every sample agrees, or differs as a table of conventions says.

`op_db` holds samples for each op: broadcasting, 0-d and empty tensors, strides, every option. For every name that both
libraries have: values, gradients along a random cotangent, and in float64 their derivatives along another. It also has
inputs that PyTorch refuses; minigrad either gives them a meaning or says which of its ops refuses them.
"""

import warnings
from collections import Counter

import pytest

import minigrad as mg
from minigrad import linalg
from minigrad.nn import functional

torch = pytest.importorskip("torch")

from tests.support.pytorch_databases.comparing import blamed, compare  # noqa: E402
from tests.support.pytorch_databases.conventions import ALIASES, CONVENTIONS, LEFT_OUT  # noqa: E402
from tests.support.pytorch_databases.ops import PEERS  # noqa: E402
from tests.support.pytorch_databases.samples import database, errors, full_name, samples  # noqa: E402
from tests.support.pytorch_databases.translation import NotTaken, bound, translate  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own about what it deprecates


@pytest.fixture(scope="module")
def op_db():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return database("op_db")


@pytest.fixture(scope="module")
def counts():
    """What was compared, printed at the end (pytest -s)."""
    counted = Counter()
    yield counted
    print("\n" + ", ".join(f"{number:,} {what}" for what, number in counted.items()))


def entries(op_db, name):
    """The database's ops that this key of PEERS speaks for."""
    found = [op for op in op_db if name == full_name(op) or (name == op.name and full_name(op) not in PEERS)]
    return found or pytest.skip(f"this PyTorch's database has no {name}")


def conventions_of(op):
    return [row for row in CONVENTIONS if {op.name, full_name(op)} & set(row.ops.split())]


def expected(rows, given):
    """The row that speaks of these arguments."""
    return next((row for row in rows if row.holds(given)), None)


@pytest.mark.parametrize("name", PEERS)
def test_every_sample_agrees_or_a_convention_says_how_it_differs(op_db, counts, deep, name):
    for op in entries(op_db, name):
        rows, used = conventions_of(op), []
        drawn, all_drawn = samples(op, (torch.float64, torch.float32), deep)
        for sample in drawn:
            row = expected(rows, bound(PEERS[name], (sample.input, *sample.args), sample.kwargs))
            found = compare(op, PEERS[name], sample)
            used.append(row)
            assert (found and found.kind) == (row and row.kind), told(op, sample, found, row)
        counts["ops and variants"] += 1
        counts["samples"] += len(drawn)
        counts["samples under a convention"] += sum(row is not None for row in used)
        if all_drawn:
            idle = [row.reason for row in rows if row not in used and full_name(op) in row.ops.split()]
            assert not idle, f"{full_name(op)}: no sample differs any more by {idle}"


def told(op, sample, found, row):
    arguments = ", ".join(shown(value) for value in (sample.input, *sample.args, sample.kwargs))
    return f"{full_name(op)}({arguments}): {found or 'agrees'}, although the table says: {row and row.reason}"


def shown(value):
    """Tensors by dtype and shape."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={shown(part)}" for name, part in value.items()) + "}"
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, (list, tuple)) else repr(value)


@pytest.mark.parametrize("name", PEERS)
def test_what_pytorch_refuses_has_a_meaning_or_is_refused_by_name(op_db, counts, name):
    for op in entries(op_db, name):
        for error in errors(op):
            sample = error.sample_input
            try:
                values, options = translate(PEERS[name], (sample.input, *sample.args), sample.kwargs)
            except (NotTaken, TypeError, ValueError):  # an option we lack, complex numbers, more axes than NumPy has
                continue
            counts["inputs that PyTorch refuses"] += 1
            try:
                PEERS[name].ours(*values, **options)
            except Exception as raised:
                found = blamed(raised)
                assert found.kind == "refusal", told(op, sample, found, None)


def test_every_convention_is_about_an_op_that_is_compared():
    assert not {name.partition(":")[0] for row in CONVENTIONS for name in row.ops.split()} - {
        name.partition(":")[0] for name in PEERS
    }


def test_every_name_that_both_have_is_compared_or_left_out_with_a_reason(op_db):
    known = {op.name for op in op_db}
    aliases = {alias.name: op.name for op in op_db for alias in op.aliases} | ALIASES
    here = [f"nn.functional.{name}" for name in functional.__all__] + [f"linalg.{name}" for name in linalg.__all__]
    here += [*mg.__all__, *(name for name in dir(mg.Tensor) if name.startswith("__") or name[0] != "_")]
    shared = {name if name in known else aliases[name] for name in here if name in known or name in aliases}
    compared = {name.partition(":")[0] for name in PEERS} | set(LEFT_OUT)
    assert len(shared) > 150
    assert not sorted(shared - compared)
    assert not sorted(set(LEFT_OUT) - shared)
