"""Schedules of the learning rate: PyTorch's numbers, alone and two at once, saved and restored, and what is refused."""

import itertools
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.serialization import load_state, save_state

NAN = math.nan
SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("StepLR", {"step_size": 1}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.01}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 9}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20}),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 4, "steps_per_epoch": 5, "pct_start": 0.25, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20, "anneal_strategy": "linear", "final_div_factor": 7.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20, "three_phase": True, "cycle_momentum": False}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "total_steps": 20, "three_phase": True, "max_momentum": 0.99}),
]


def two_groups(library, kind):
    make = library.ones
    params = [make(1, requires_grad=True), make(2, requires_grad=True)]
    cls = getattr(optim if library is mg else library.optim, kind)
    options = {"momentum": 0.9} if kind == "SGD" else {}
    return cls([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.3}], lr=0.1, **options)


def rates_and_momenta(optimizer):
    return [(g["lr"], g.get("momentum", 0), *g.get("betas", ())) for g in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedules_are_pytorchs(name, options, kind):
    torch = pytest.importorskip("torch")
    ours, theirs = two_groups(mg, kind), two_groups(torch, kind)
    scheduler = getattr(optim, name)(ours, **options)
    reference = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    for _ in range(20):
        np.testing.assert_allclose(rates_and_momenta(ours), rates_and_momenta(theirs), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(scheduler.get_last_lr(), reference.get_last_lr(), rtol=1e-10, atol=1e-12)
        theirs.step()
        scheduler.step()
        reference.step()


@pytest.mark.filterwarnings("ignore")
def test_two_schedules_on_one_optimizer_multiply_as_in_pytorch():
    torch = pytest.importorskip("torch")
    found = []
    for library, module in ((mg, optim), (torch, torch.optim.lr_scheduler)):
        optimizer = two_groups(library, "SGD")
        both = module.LinearLR(optimizer, total_iters=4), module.StepLR(optimizer, 3)
        rates = []
        for _ in range(10):
            rates.append([g["lr"] for g in optimizer.param_groups])
            optimizer.step()
            for scheduler in both:
                scheduler.step()
        found.append(rates)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_a_schedule_saved_and_restored_goes_on(name, options, tmp_path):
    def make():
        optimizer = two_groups(mg, "SGD")
        return optimizer, getattr(optim, name)(optimizer, **options)

    optimizer, scheduler = make()
    for _ in range(8):
        scheduler.step()
    save_state(tmp_path / "s.safetensors", [optimizer.state_dict(), scheduler.state_dict()])
    other, resumed = make()
    saved = load_state(tmp_path / "s.safetensors")
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for _ in range(8):
        assert rates_and_momenta(optimizer) == rates_and_momenta(other)
        scheduler.step()
        resumed.step()


def test_the_cosine_begins_at_the_rate_is_half_way_in_the_middle_and_ends_at_its_minimum():
    optimizer = two_groups(mg, "SGD")
    scheduler = optim.CosineAnnealingLR(optimizer, T_max=10, eta_min=0.02)
    seen = []
    for _ in range(11):
        seen.append(scheduler.get_last_lr()[0])
        scheduler.step()
    np.testing.assert_allclose([seen[0], seen[5], seen[10]], [0.1, 0.06, 0.02], rtol=1e-12)
    assert all(a > b for a, b in itertools.pairwise(seen))


def test_schedules_refuse_what_makes_no_sense():
    optimizer = two_groups(mg, "SGD")
    for make, kind, words in [
        (lambda: optim.StepLR(optimizer, 0), ValueError, "step_size=0"),
        (lambda: optim.StepLR(optimizer, 2, gamma=NAN), ValueError, "gamma"),
        (lambda: optim.StepLR([1], 2), TypeError, "expected an Optimizer, got list"),
        (lambda: optim.CosineAnnealingLR(optimizer, 2.5), ValueError, "T_max=2.5"),
        (lambda: optim.LinearLR(optimizer, start_factor=0), ValueError, "start_factor"),
        (lambda: optim.LinearLR(optimizer, end_factor=2), ValueError, "end_factor=2.*0 to 1"),
        (lambda: optim.OneCycleLR(optimizer, 0.1), ValueError, "total_steps"),
        (lambda: optim.OneCycleLR(optimizer, [0.1], total_steps=5), ValueError, "1 values in max_lr for 2"),
        (lambda: optim.OneCycleLR(optimizer, 0.1, total_steps=5, anneal_strategy="cubic"), ValueError, "cubic"),
        (lambda: optim.OneCycleLR(optimizer, 0.1, total_steps=5, pct_start=30), ValueError, "pct_start=30"),
        (lambda: optim.StepLR(two_groups(mg, "SGD"), 2, last_epoch=3), ValueError, "no initial_lr"),
    ]:
        with pytest.raises(kind, match=words):
            make()
    short = optim.OneCycleLR(optimizer, 0.1, total_steps=2)
    short.step()
    short.step()
    with pytest.raises(ValueError, match=r"step 3 of a cycle of 2"):
        short.step()
    with pytest.raises(ValueError, match="another schedule"):
        short.load_state_dict(optim.StepLR(two_groups(mg, "SGD"), 2).state_dict())
