"""minigrad.nn against PyTorch: the same arguments, the same state, the same numbers and gradients.

Both libraries are given the layers and losses of support/nn_cases.py. What is claimed: names, argument order and
defaults agree, a PyTorch state_dict loads, and outputs, losses and all gradients agree to 1e-5 in float32.
"""

import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support.nn_cases import LAYERS, LOSSES, chances, loss_label, numbers, smoothed
from tests.support.nn_peers import (
    assert_agree,
    assert_same_gradients,
    assert_same_state,
    both,
    repr_of,
    run_both,
    torch,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")


# --- layers ---


@pytest.mark.parametrize("name, args, options, shape", LAYERS)
def test_a_layer_is_pytorchs_in_training_and_in_evaluation(name, args, options, shape):
    ours, theirs = both(name, args, options)
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        ours.zero_grad(), theirs.zero_grad()
        run_both(ours, theirs, numbers(mode, *shape))
        assert_same_gradients(ours, theirs)
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("name, args, options, shape", LAYERS)
def test_a_layer_is_shown_as_pytorch_shows_it(name, args, options, shape):
    ours, theirs = both(name, args, options)
    assert repr(ours) == repr_of(theirs)


@pytest.mark.parametrize("padding_idx", [None, 0, 2, -1])
def test_an_embedding_is_pytorchs_and_its_padding_row_learns_nothing(padding_idx):
    ours, theirs = both("Embedding", (6, 3), {"padding_idx": padding_idx})
    assert repr(ours) == repr(theirs)
    indices = np.array([[0, 2, 5], [5, 5, 1]])
    y, z = ours(mg.tensor(indices)), theirs(torch.tensor(indices))
    assert_agree(y, z, "the output")
    cotangent = numbers(0, 2, 3, 3)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    assert_same_gradients(ours, theirs)


def test_dropout_drops_as_much_and_keeps_the_mean_as_pytorchs():
    mg.manual_seed(0)
    x = np.ones((400, 500), np.float32)
    ours = nn.Dropout(0.3)(mg.tensor(x)).numpy()
    theirs = torch.nn.Dropout(0.3)(torch.tensor(x)).numpy()
    assert set(np.unique(ours)) == set(np.unique(theirs)) == {0, np.float32(1 / 0.7)}
    assert abs((ours == 0).mean() - 0.3) < 0.01
    assert_agree(nn.Dropout(1.0)(mg.tensor(x)), torch.nn.Dropout(1.0)(torch.tensor(x)), "dropout of everything")


# --- losses ---


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", LOSSES, ids=map(loss_label, LOSSES))
def test_a_loss_and_its_gradient_are_pytorchs(loss, reduction):
    name, options, (x, t) = loss
    arrays = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    theirs = getattr(torch.nn, name)(reduction=reduction, **arrays)
    ours = getattr(nn, name)(reduction=reduction, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    mine, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(mine, mg.tensor(t)), theirs(peer, torch.tensor(t))
    assert y.dtype == np.float32
    assert_agree(y, z, "the loss")
    cotangent = numbers(4, *y.shape)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    # element by element: the ends of BCELoss have gradients of 1e12 beside those of size 1
    np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "BCELoss", "BCEWithLogitsLoss", "MSELoss", "HuberLoss"])
def test_the_gradient_of_a_target_of_floats_is_pytorchs(name):
    x, t = smoothed((4, 5)) if name == "CrossEntropyLoss" else chances(4, 5)
    mine, peer = mg.tensor(t, requires_grad=True), torch.tensor(t, requires_grad=True)
    getattr(nn, name)()(mg.tensor(x), mine).backward()
    getattr(torch.nn, name)()(torch.tensor(x), peer).backward()
    assert_agree(mine.grad, peer.grad, "the gradient of the target")


# --- signatures ---

CLASSES = sorted({c.values[0] for c in LAYERS} | {name for name, _, _ in LOSSES} | {"Embedding", "Sequential"})
OURS_IS_STRICTER = {("Softmax", "dim"), ("LogSoftmax", "dim")}  # PyTorch's guess for None is deprecated there


@pytest.mark.parametrize("name", CLASSES)
def test_arguments_have_pytorchs_names_order_and_defaults(name):
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters
    ours = inspect.signature(getattr(nn, name).__init__).parameters
    by_position = [p for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if name not in ("Identity", "Sequential"):
        assert [p.name for p in by_position] == list(theirs)[: len(by_position)], "positional arguments"
    for p in ours.values():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and (name, p.name) not in OURS_IS_STRICTER:
            assert p.name in theirs, f"{p.name} is no argument of PyTorch's {name}"
            assert p.default == theirs[p.name].default, f"the default of {p.name}"


LOSS_FUNCTIONS = [name for name in nn.functional.__all__ if "loss" in name or "entropy" in name]


@pytest.mark.parametrize("name", [*LOSS_FUNCTIONS, "batch_norm", "softplus", "dropout"])
def test_functions_take_pytorchs_arguments_in_its_order_with_its_defaults(name):
    theirs = list(FUNCTION_SIGNATURES.get(name) or signature_of(getattr(torch.nn.functional, name)))
    ours = list(inspect.signature(getattr(nn.functional, name)).parameters.values())
    by_position = [p.name for p in ours[1:] if p.kind is p.POSITIONAL_OR_KEYWORD]  # the first is sometimes called x
    assert by_position == [p.name for p in theirs][1 : len(by_position) + 1]
    defaults = {p.name: p.default for p in theirs}
    for p in ours[1:]:
        assert p.name in defaults and p.default == defaults[p.name], p.name


def signature_of(function):
    return inspect.signature(function).parameters.values()


# PyTorch's softplus is built in, without a signature to look at; this is the one of its documentation.
FUNCTION_SIGNATURES = {"softplus": list(signature_of(lambda input, beta=1, threshold=20: None))}
