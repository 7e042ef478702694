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


# --- groups that come later, rates that make no sense, states that were damaged ---

EVERY = {
    "ConstantLR": {"total_iters": 4},
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 5]},
    "LinearLR": {"total_iters": 6},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": 9},
    "CosineAnnealingLR": {"T_max": 9, "eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "InverseTimeLR": {"decay": 0.5},
    "RobbinsMonroLR": {},
    "LambdaLR": {"lr_lambda": lambda t: 0.9**t},
    "MultiplicativeLR": {"lr_lambda": lambda t: 0.9},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3},
    "OneCycleLR": {"max_lr": 0.5, "total_steps": 30},
    "ReduceLROnPlateau": {"patience": 0},
}
MAKE = {
    name: lambda o, name=name, options=options: getattr(optim, name)(o, **options) for name, options in EVERY.items()
}
MAKE["SequentialLR"] = lambda o: optim.SequentialLR(o, [optim.LinearLR(o, total_iters=3), optim.StepLR(o, 2)], [3])
MAKE["ChainedScheduler"] = lambda o: optim.ChainedScheduler([optim.LinearLR(o, total_iters=3), optim.StepLR(o, 2)])


class Batches:
    batch_size = 8


MAKE["BatchSizeScheduler"] = lambda o: optim.BatchSizeScheduler(optim.StepLR(o, 2), Batches(), max_batch_size=64)


def advance(scheduler, steps):
    for _ in range(steps):
        scheduler.step(*([1.0] if getattr(scheduler, "watches", False) else []))


def one_group(library=mg, late=None):
    optimizer = (optim if library is mg else library.optim).SGD(
        [library.ones(1, requires_grad=True)], lr=0.1, momentum=0.9
    )
    return optimizer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["StepLR", "MultiStepLR", "ExponentialLR", "ConstantLR", "LinearLR", "PolynomialLR", "CosineAnnealingLR"]
)
@pytest.mark.parametrize("when", [0, 1, 3])
def test_a_group_added_later_is_scheduled_as_in_pytorch(name, when):
    torch = pytest.importorskip("torch")
    found = []
    for library, module in ((mg, optim), (torch, torch.optim.lr_scheduler)):
        optimizer = one_group(library)
        scheduler = getattr(module, name)(optimizer, **EVERY[name])
        for _ in range(when):
            optimizer.step()
            scheduler.step()
        optimizer.add_param_group({"params": [library.ones(1, requires_grad=True)], "lr": 0.4})
        rates = []
        for _ in range(5):
            optimizer.step()
            scheduler.step()
            rates.append([group["lr"] for group in optimizer.param_groups])
        found.append(rates)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", MAKE)
def test_no_schedule_leaves_a_group_added_later_alone(name):
    """One that is there from the start ends at another rate than it began with; so does one that comes later."""
    optimizer = one_group()
    scheduler = MAKE[name](optimizer)
    advance(scheduler, 1)
    optimizer.add_param_group({"params": [mg.ones(2, requires_grad=True)], "lr": 0.4})
    seen = set()
    for _ in range(6):
        advance(scheduler, 1)
        seen.add(optimizer.param_groups[1]["lr"])
    assert len(seen) > 1 or seen != {0.4}
    assert len(scheduler.get_last_lr()) == 2
    restored = MAKE[name]((other := one_group()) and other)
    other.add_param_group({"params": [mg.ones(2, requires_grad=True)], "lr": 0.4})
    restored.load_state_dict(scheduler.state_dict())
    other.load_state_dict(optimizer.state_dict())
    advance(scheduler, 3)
    advance(restored, 3)
    assert rates_and_momenta(optimizer) == rates_and_momenta(other)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LambdaLR", {"lr_lambda": [lambda t: 1.0, lambda t: 0.5]}),
        ("MultiplicativeLR", {"lr_lambda": [lambda t: 1.0, lambda t: 0.5]}),
        ("OneCycleLR", {"max_lr": [0.5, 0.1], "total_steps": 20}),
        ("CyclicLR", {"base_lr": [0.1, 0.2], "max_lr": 0.5, "step_size_up": 3}),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "base_momentum": [0.8, 0.7], "step_size_up": 3}),
        ("ReduceLROnPlateau", {"min_lr": [0.01, 0.1]}),
    ],
)
def test_a_group_added_later_is_refused_where_each_has_an_option_of_its_own(name, options):
    optimizer = two_groups(mg, "SGD")
    scheduler = getattr(optim, name)(optimizer, **options)
    optimizer.add_param_group({"params": [mg.ones(2, requires_grad=True)]})
    before = rates_and_momenta(optimizer)
    with pytest.raises(ValueError, match=f"{name}: parameter group 2 was added after"):
        advance(scheduler, 1)
    assert rates_and_momenta(optimizer) == before


def test_a_group_taken_away_is_an_error():
    optimizer = two_groups(mg, "SGD")
    scheduler = optim.StepLR(optimizer, 2)
    del optimizer.param_groups[1]
    with pytest.raises(ValueError, match="had 2 parameter groups and has 1"):
        scheduler.step()


@pytest.mark.parametrize("wrong", [NAN, -9.0, math.inf, "0.1", None])
@pytest.mark.parametrize("name", ["LambdaLR", "MultiplicativeLR", "CyclicLR", "SequentialLR"])
def test_a_function_that_gives_no_rate_is_an_error_and_changes_no_rate(name, wrong):
    function = lambda t: wrong if t == 3 else 1.0  # noqa: E731
    optimizer = two_groups(mg, "SGD")
    scheduler = {
        "LambdaLR": lambda: optim.LambdaLR(optimizer, function),
        "MultiplicativeLR": lambda: optim.MultiplicativeLR(optimizer, function),
        "CyclicLR": lambda: optim.CyclicLR(
            optimizer, 0.1, 0.5, step_size_up=2, scale_fn=function, scale_mode="iterations"
        ),
        "SequentialLR": lambda: optim.SequentialLR(
            optimizer, [optim.ConstantLR(optimizer, 1.0, 1), optim.LambdaLR(optimizer, function)], [1]
        ),
    }[name]()
    advance(scheduler, 3 if name == "SequentialLR" else 2)
    before, state = rates_and_momenta(optimizer), scheduler.state_dict()
    for _ in range(2):  # the second time as the first: nothing was counted
        with pytest.raises((ValueError, TypeError)):
            scheduler.step()
        assert rates_and_momenta(optimizer) == before and scheduler.state_dict() == state


def test_a_rate_that_grows_beyond_all_numbers_is_an_error():
    scheduler = optim.ExponentialLR(two_groups(mg, "SGD"), gamma=1e200)
    scheduler.step()
    with pytest.raises(ValueError, match="ExponentialLR: the learning rate"):
        scheduler.step()


@pytest.mark.parametrize("name", MAKE)
def test_a_damaged_state_of_a_schedule_is_refused_and_changes_nothing(name):
    optimizer = one_group()
    scheduler = MAKE[name](optimizer)
    advance(scheduler, 2)
    before = scheduler.state_dict()
    other = one_group()
    other.add_param_group({"params": [mg.ones(2, requires_grad=True)]})
    wrongs = [
        [1],
        "text",
        {},
        MAKE[name](other).state_dict(),
        {**before, "class": "Another"},
        {**before, "unheard": 1},
        *({k: v for k, v in before.items() if k != key} for key in before if key not in ("class", "interval")),
        *({**before, key: wrong} for key in before for wrong in (NAN, "text", [NAN], [-1.0], {"x": 1}, object())),
    ]
    for wrong in wrongs:
        with pytest.raises((ValueError, TypeError), match="load_state_dict"):
            scheduler.load_state_dict(wrong)
            pytest.fail(f"{name} took {wrong}")
        assert scheduler.state_dict() == before
    scheduler.load_state_dict(before)
    assert scheduler.state_dict() == before


@pytest.mark.parametrize("name", MAKE)
def test_no_schedule_takes_the_state_of_another(name):
    for other in MAKE.keys() - {name}:
        with pytest.raises(ValueError, match="load_state_dict: "):
            MAKE[name](one_group()).load_state_dict(MAKE[other](one_group()).state_dict())


def test_a_cycle_is_not_made_longer_in_the_middle():
    optimizer = one_group()
    saved = optim.OneCycleLR(optimizer, 0.1, epochs=2, steps_per_epoch=5).state_dict()
    longer = optim.OneCycleLR(one_group(), 0.1, epochs=4, steps_per_epoch=5)
    with pytest.raises(ValueError, match=r"a cycle of 10 steps, this one has 20.*as many epochs"):
        longer.load_state_dict(saved)
