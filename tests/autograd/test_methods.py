"""Methods are ops: the same parameters, defaults and first sentence, written out so that an editor shows them."""

import inspect

import pytest

import minigrad as mg
from minigrad.autograd.methods import TensorMethods

AXES_IN_BRACKETS_OR_NOT = {"reshape", "view", "transpose", "permute", "broadcast_to", "expand"}
OTHER_NAMES = {"unsqueeze": "expand_dims", "backward": None}
METHODS = [name for name, value in vars(TensorMethods).items() if inspect.isfunction(value) and name[0] != "_"]


def parameters(function) -> list[tuple[str, object]]:
    """(name, default) of all parameters but the first; the second operand of a method is called `other`."""
    _, *rest = inspect.signature(function).parameters.values()
    return [("b" if p.name == "other" else p.name, p.default) for p in rest]


def test_the_methods_are_many():
    assert len(METHODS) >= 75


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_parameters_of_its_op(name):
    op = OTHER_NAMES.get(name, name)
    if op is None or name in AXES_IN_BRACKETS_OR_NOT:
        return
    op = getattr(mg, op)
    assert parameters(getattr(mg.Tensor, name)) == parameters(getattr(op, "forward", op))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_opens_with_the_sentence_of_its_op(name):
    documented = inspect.getdoc(getattr(mg.Tensor, name))
    if name in ("view", "expand", "unsqueeze"):
        assert documented.startswith("PyTorch's name for")
    elif name == "backward":
        assert "autograd.backward" in documented
    else:
        assert documented == inspect.getdoc(getattr(mg, name)).splitlines()[0]


@pytest.mark.parametrize("name", [n for n in vars(TensorMethods) if n.startswith("__") and n.endswith("__")])
def test_an_operator_gives_a_tensor(name):
    method = vars(TensorMethods)[name]
    if inspect.isfunction(method) and name not in ("__iter__", "__hash__"):
        assert inspect.signature(method).return_annotation == "Tensor"
