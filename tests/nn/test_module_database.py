"""PyTorch's database of modules: every layer and loss that both libraries have, with PyTorch's own inputs for it.

Claimed: with the same constructor arguments and weights, in training and in evaluation: the output, the gradients of
inputs and parameters, their derivatives, and what is in the state afterwards.
"""

import warnings

import pytest

from minigrad import nn

torch = pytest.importorskip("torch")

from tests.support.pytorch_databases.conventions import MODULE_CONVENTIONS  # noqa: E402
from tests.support.pytorch_databases.modules import compare_modules, inputs  # noqa: E402
from tests.support.pytorch_databases.samples import database  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = [name for name in nn.__all__ if isinstance(getattr(torch.nn, name, None), type)]
NOT_IN_THE_DATABASE = {
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d"), "random; tests/nn/test_dropout.py"),
    **dict.fromkeys(("Module", "ModuleList", "Parameter", "Sequential"), "no layers"),
    **dict.fromkeys(("Flatten", "Identity"), "tests/nn/test_layers.py"),
}


@pytest.fixture(scope="module")
def module_db():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {entry.module_cls.__name__: entry for entry in database("module_db")}


def test_every_layer_that_both_have_is_in_the_database_or_tested_elsewhere(module_db):
    assert {name for name in NAMES if name not in module_db} == set(NOT_IN_THE_DATABASE)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_IN_THE_DATABASE])
def test_every_input_agrees_or_a_convention_says_how_it_differs(module_db, name):
    rows, used = [row for row in MODULE_CONVENTIONS if name in row.ops.split()], []
    for training, sample in ((mode, sample) for mode in (True, False) for sample in inputs(module_db[name], mode)):
        given = {"desc": sample.desc, "training": training, **sample.constructor_input.kwargs}
        given["target"] = sample.forward_input.args[-1] if "Loss" in name else None
        row = next((row for row in rows if row.holds(given)), None)
        found = compare_modules(module_db[name], sample, training)
        told = (
            f"{name} ({sample.desc}, {training=}): {found or 'agrees'}, although the table says: {row and row.reason}"
        )
        assert (found and found.kind) == (row and row.kind), told
        used.append(row)
    assert used and not [row.reason for row in rows if row not in used], "conventions that no sample needs"
