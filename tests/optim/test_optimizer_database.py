"""PyTorch's database of optimizers: each with every set of options that PyTorch tests it with, and those it refuses."""

import warnings

import pytest

import minigrad as mg
from minigrad import optim

torch = pytest.importorskip("torch")

from tests.support.pytorch_databases.comparing import blamed  # noqa: E402
from tests.support.pytorch_databases.conventions import OPTIMIZER_CONVENTIONS  # noqa: E402
from tests.support.pytorch_databases.optimizers import compare_optimizers  # noqa: E402
from tests.support.pytorch_databases.samples import database, restart  # noqa: E402
from tests.support.pytorch_databases.translation import ours  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = [
    name
    for name in optim.__all__
    if isinstance(getattr(torch.optim, name, None), type)
    and issubclass(getattr(torch.optim, name), torch.optim.Optimizer)
    and name != "Optimizer"
]


@pytest.fixture(scope="module")
def optim_db():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {entry.optim_cls.__name__: entry for entry in database("optim_db")}


@pytest.fixture(autouse=True)
def all_in_float64(monkeypatch):
    """PyTorch keeps NAdam's product of momenta in the default dtype, and does Muon's iteration in bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    yield
    torch.set_default_dtype(before)


def test_every_optimizer_that_both_have_is_in_the_database(optim_db):
    assert len(NAMES) >= 11 and set(NAMES) <= set(optim_db)


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_with_every_set_of_options_are_pytorchs(optim_db, name):
    rows, used = [row for row in OPTIMIZER_CONVENTIONS if name in row.ops.split()], []
    for sample in optim_db[name].optim_inputs_func("cpu", torch.float64):
        row = next((row for row in rows if row.holds(sample.kwargs)), None)
        found = compare_optimizers(name, sample.kwargs)
        told = f"{name} ({sample.desc}): {found or 'agrees'}, although the table says: {row and row.reason}"
        assert (found and found.kind) == (row and row.kind), told
        used.append(row)
    assert used and not [row.reason for row in rows if row not in used], "conventions that no sample needs"


@pytest.mark.parametrize("name", NAMES)
def test_what_pytorch_refuses_has_a_meaning_or_is_refused_by_name(optim_db, name):
    restart()
    for error in optim_db[name].optim_error_inputs_func("cpu", torch.float64):
        given = error.optimizer_error_input
        params = [torch.ones(2, 2, requires_grad=True)] if given.params is None else given.params
        try:
            params, options = translated(params), {key: translated(value) for key, value in given.kwargs.items()}
        except TypeError:  # a complex number
            continue
        try:
            getattr(optim, name)(params, **options)
        except Exception as raised:
            assert blamed(raised).kind == "refusal", f"{name} ({given.desc}): {raised!r}"


def translated(value):
    """Parameters in groups are dicts."""
    if isinstance(value, dict):
        return {key: translated(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(translated(part) for part in value)
    if isinstance(value, torch.nn.Parameter):
        return mg.nn.Parameter(ours(value.detach()))
    return ours(value)
