"""Averages of weights: AveragedModel and update_bn, as in torch.optim.swa_utils.

Claimed: even and exponential averages, of parameters alone or with buffers, are PyTorch's to 1e-12 and the formulas';
batch-norm's statistics computed anew are those of all the data; and an average saved and restored goes on bit by bit.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim import swa_utils
from minigrad.training import fit
from tests.support import strict_backend


def network(library):
    return library.Sequential(library.Linear(3, 4), library.BatchNorm1d(4), library.Tanh(), library.Linear(4, 2))


def models(count, seed=0):
    """State dicts of a network as it might be after so many epochs."""
    rng = np.random.default_rng(seed)
    shapes = {name: value.shape for name, value in network(nn).state_dict().items() if value.dtype.kind == "f"}
    return [{name: rng.uniform(0.5, 1.5, shape) for name, shape in shapes.items()} for _ in range(count)]


KINDS = {
    "even": lambda utils: {},
    "even, by function": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "even, by function for lists": lambda utils: {"multi_avg_fn": utils.get_swa_multi_avg_fn()},
    "exponential": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.9)},
    "exponential, one by one": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.7)},
    "with buffers": lambda utils: {"use_buffers": True},
    "exponential, with buffers": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(), "use_buffers": True},
    "by a function of one's own": lambda utils: {"avg_fn": lambda averaged, current, n: (averaged + current) / 2},
}


@pytest.fixture
def torch():
    """Set to float64, in which it then computes 1 / (n + 1) too."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.parametrize("kind", KINDS)
def test_averages_are_pytorchs(kind, torch):
    ours, theirs = network(nn).double(), network(torch.nn).double()
    averaged = swa_utils.AveragedModel(ours, **KINDS[kind](swa_utils))
    expected = torch.optim.swa_utils.AveragedModel(theirs, **KINDS[kind](torch.optim.swa_utils))
    for state in models(6):
        ours.load_state_dict(state, strict=False)
        theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)
        averaged.update_parameters(ours)
        expected.update_parameters(theirs)
    found = averaged.state_dict()
    assert list(found) == list(expected.state_dict())
    for name, value in expected.state_dict().items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), rtol=1e-12, err_msg=name)
    x = np.random.default_rng(1).standard_normal((5, 3))
    np.testing.assert_allclose(
        averaged.eval()(mg.tensor(x)).detach().numpy(), expected.eval()(torch.tensor(x)).detach().numpy(), rtol=1e-12
    )


def test_the_even_average_is_the_mean_and_the_exponential_one_its_formula():
    model = nn.Linear(3, 2).double()
    even = swa_utils.AveragedModel(model)
    exponential = optim.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.8))
    weights = np.random.default_rng(0).standard_normal((9, 2, 3))
    ema = weights[0]
    for i, w in enumerate(weights):
        model.weight.copy_(mg.tensor(w))
        even.update_parameters(model)
        exponential.update_parameters(model)
        ema = 0.8 * ema + 0.2 * w if i else w
    np.testing.assert_allclose(even.module.weight.detach().numpy(), weights.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(exponential.module.weight.detach().numpy(), ema, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(model.weight.detach().numpy(), weights[-1])
    assert even.n_averaged.item() == 9


def test_an_average_saved_and_restored_goes_on_bit_by_bit():
    states = models(5)
    model = network(nn).double()
    averaged = swa_utils.AveragedModel(model)
    for state in states[:3]:
        model.load_state_dict(state, strict=False)
        averaged.update_parameters(model)
    again = swa_utils.AveragedModel(network(nn).double())
    again.load_state_dict({name: value.numpy().copy() for name, value in averaged.state_dict().items()})
    for state in states[3:]:
        model.load_state_dict(state, strict=False)
        averaged.update_parameters(model)
        again.update_parameters(model)
    for name, value in averaged.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), value.numpy())


def test_batch_norms_statistics_are_computed_anew_and_everything_else_is_as_before(torch):
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((8, 3)) * 3 + 1 for _ in range(4)]
    ours, theirs = network(nn).double(), network(torch.nn).double()
    (state,) = models(1)
    ours.load_state_dict(state, strict=False)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)
    ours.eval()
    ours._modules["3"].train()
    swa_utils.update_bn([(mg.tensor(x), None) for x in batches[:2]] + [mg.tensor(x) for x in batches[2:]], ours)
    torch.optim.swa_utils.update_bn([torch.tensor(x) for x in batches], theirs)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-12, err_msg=name)
    norm = ours._modules["1"]
    assert norm.momentum == 0.1
    assert [m.training for m in ours._modules.values()] == [False, False, False, True]
    np.testing.assert_allclose(
        norm.running_mean.numpy(), (np.concatenate(batches) @ state["0.weight"].T + state["0.bias"]).mean(0), rtol=1e-10
    )


def test_a_loader_that_fails_leaves_momentum_and_modes_as_they_were():
    model = network(nn).eval()

    def loader():
        yield mg.ones(4, 3)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        swa_utils.update_bn(loader(), model)
    assert model._modules["1"].momentum == 0.1 and not any(m.training for m in model.modules())
    swa_utils.update_bn([mg.ones(4, 3)], nn.Linear(3, 2))  # nothing to do is no error


def test_on_a_device_an_update_waits_for_nothing():
    with strict_backend.installed():
        model = nn.Linear(3, 2)
        averaged = swa_utils.AveragedModel(model, device="cuda", multi_avg_fn=swa_utils.get_ema_multi_avg_fn())
        model.to("cuda")
        averaged.update_parameters(model)
        strict_backend.traffic.clear()
        for _ in range(3):
            averaged.update_parameters(model)
        assert not strict_backend.traffic
        assert averaged.n_averaged.item() == 4


def test_what_makes_no_sense_is_refused():
    model = nn.Linear(3, 2)
    function = swa_utils.get_ema_avg_fn()
    with pytest.raises(TypeError, match="expected a Module"):
        swa_utils.AveragedModel(model.weight)
    with pytest.raises(ValueError, match="both avg_fn and multi_avg_fn"):
        swa_utils.AveragedModel(model, avg_fn=function, multi_avg_fn=swa_utils.get_swa_multi_avg_fn())
    for make in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match=r"decay=1.1"):
            make(1.1)
    averaged = swa_utils.AveragedModel(model)
    with pytest.raises(ValueError, match="the average was made of one with"):
        averaged.update_parameters(nn.Linear(2, 2))
    assert averaged.n_averaged.item() == 0


def test_fit_updates_an_average_after_each_step():
    rng = np.random.default_rng(0)
    batches = [(mg.tensor(rng.standard_normal((4, 3))), mg.tensor(rng.integers(0, 2, 4))) for _ in range(5)]
    mg.manual_seed(0)
    model = nn.Linear(3, 2).double()
    averaged, weights = swa_utils.AveragedModel(model), []

    def after_step():
        weights.append(model.weight.numpy().copy())
        averaged.update_parameters(model)

    optimizer = optim.SGD(model.parameters(), lr=0.5)
    fit(model, nn.CrossEntropyLoss(), optimizer, batches, epochs=2, progress=False, after_step=after_step)
    assert len(weights) == 10
    np.testing.assert_allclose(averaged.module.weight.numpy(), np.mean(weights, axis=0), rtol=1e-12)
