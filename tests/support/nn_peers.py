"""Comparisons of a module with PyTorch's; a test file that imports this is skipped where PyTorch is not installed."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support.nn_cases import numbers

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def assert_agree(ours, theirs, what):
    """To 1e-5 of the largest number, or of 1."""
    ours, theirs = (t.detach().numpy() for t in (ours, theirs))
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, PyTorch {theirs.shape}"
    scale = max(1.0, np.abs(theirs).max(initial=0))
    off = np.abs(ours - theirs).max(initial=0) / scale
    assert off < 1e-5, f"{what} differs from PyTorch's by {off:.2e} of {scale:.3g}"


def assert_same_gradients(ours, theirs):
    peers = dict(theirs.named_parameters())
    assert list(peers) == [name for name, _ in ours.named_parameters()]
    for name, parameter in ours.named_parameters():
        assert_agree(parameter.grad, peers[name].grad, f"the gradient of {name}")


def assert_same_state(ours, theirs):
    peers = theirs.state_dict()
    assert list(peers) == list(ours.state_dict())
    for name, tensor in ours.state_dict().items():
        assert_agree(tensor, peers[name], f"the state's {name}")


def both(name, args=(), options=None):
    """Our module and PyTorch's, with PyTorch's (randomly moved) state in both."""
    theirs = getattr(torch.nn, name)(*args, **(options or {}))
    ours = getattr(nn, name)(*args, **(options or {}))
    share_state(ours, theirs)
    return ours, theirs


def repr_of(theirs):
    """PyTorch's repr, without an option of batch-norm that it shows from 2.13 on, where that says nothing new."""
    return re.sub(r"(affine=(\w+)), bias=\2", r"\1", repr(theirs))


def share_state(ours, theirs):
    state = theirs.state_dict()
    for i, (key, value) in enumerate(state.items()):
        if key.endswith("running_var"):
            value.copy_(torch.from_numpy(numbers(i, *value.shape) ** 2 + 0.5))
        elif value.dtype == torch.float32 and value.ndim == 1:
            value.copy_(torch.from_numpy(numbers(i, *value.shape) * 0.3 + 0.5))
    ours.load_state_dict({key: value.numpy() for key, value in state.items()})


def run_both(ours, theirs, x, cotangent_seed=1):
    mine, peer = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(mine), theirs(peer.clone())  # a clone: some of PyTorch's layers overwrite their input
    assert_agree(y, z, "the output")
    cotangent = numbers(cotangent_seed, *y.shape)
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    assert_agree(mine.grad, peer.grad, "the gradient of the input")
