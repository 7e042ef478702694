"""Schedules against PyTorch: every one of them with every option, 200 steps, to 1e-12; alone, chained, in sequence,
restored in the middle; and the momentum that is cycled with them.

PyTorch mostly multiplies the rate of the step before; here each rate comes from a closed formula. That the two agree
is the check of both.
"""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.serialization import load_state, save_state

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 200


class Waves:
    """A factor with a memory: as a callable object its attributes are part of the state."""

    def __init__(self):
        self.calls = 0

    def __call__(self, t):
        self.calls += 1
        return 1 + 0.001 * (self.calls % 7) + 0.01 * math.sin(t)


SCHEDULES = [
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 30}),
    ("StepLR", {"step_size": 30, "gamma": 0.5}),
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 50, "gamma": 1.5}),
    ("MultiStepLR", {"milestones": [30, 80]}),
    ("MultiStepLR", {"milestones": [80, 30, 80, 150], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.97}),
    ("ExponentialLR", {"gamma": 1.01}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "end_factor": 0.7, "total_iters": 90}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 90}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 120, "power": 2.0}),
    ("PolynomialLR", {"total_iters": 300, "power": 0.5}),
    ("CosineAnnealingLR", {"T_max": 200}),
    ("CosineAnnealingLR", {"T_max": 33, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 30}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 3, "eta_min": 0.01}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 20}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 7, "step_size_down": 16, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": [0.01, 0.1], "max_lr": [0.5, 0.2], "step_size_up": 9, "mode": "exp_range", "gamma": 0.99}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 9, "scale_fn": lambda c: 1 / c}),
    (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 0.5,
            "step_size_up": 9,
            "scale_fn": lambda t: 0.98**t,
            "scale_mode": "iterations",
            "base_momentum": 0.7,
            "max_momentum": 0.99,
        },
    ),
    ("CyclicLR", {"base_lr": 0.0, "max_lr": 0.5, "step_size_up": 20, "cycle_momentum": False}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS}),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 10, "steps_per_epoch": 20, "pct_start": 0.25, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 250, "anneal_strategy": "linear", "final_div_factor": 7.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS, "three_phase": True, "cycle_momentum": False}),
    (
        "OneCycleLR",
        {
            "max_lr": [0.5, 0.1],
            "total_steps": STEPS,
            "three_phase": True,
            "base_momentum": [0.7, 0.8],
            "max_momentum": [0.99, 0.9],
        },
    ),
    ("LambdaLR", {"lr_lambda": lambda t: 0.95**t}),
    ("LambdaLR", {"lr_lambda": [lambda t: 1 / (1 + t), lambda t: 1 + math.cos(t)]}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.99}),
    ("MultiplicativeLR", {"lr_lambda": [lambda t: 1 + 0.1 * math.sin(t), lambda t: 0.97]}),
]
CASES = [pytest.param(name, options, id=f"{name} {list(options)}") for name, options in SCHEDULES]

COMPOSED = {
    "warm-up, then a cosine": lambda o, s: s.SequentialLR(
        o, [s.LinearLR(o, start_factor=0.1, total_iters=20), s.CosineAnnealingLR(o, T_max=180, eta_min=1e-3)], [20]
    ),
    "four in a row": lambda o, s: s.SequentialLR(
        o,
        [
            s.ConstantLR(o, factor=0.1, total_iters=200),
            s.ExponentialLR(o, gamma=0.98),
            s.MultiplicativeLR(o, lr_lambda=lambda t: 0.99),
            s.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=2),
        ],
        [20, 70, 130],
    ),
    "steps, then a cycle": lambda o, s: s.SequentialLR(
        o, [s.StepLR(o, 10), s.CyclicLR(o, base_lr=0.01, max_lr=0.3, step_size_up=15)], [45]
    ),
    "a product in front": lambda o, s: s.SequentialLR(
        o, [s.MultiplicativeLR(o, lr_lambda=lambda t: 0.9 + 0.01 * t), s.PolynomialLR(o, total_iters=100)], [15]
    ),
    "two at once": lambda o, s: s.ChainedScheduler(
        [s.ConstantLR(o, factor=0.1, total_iters=20), s.ExponentialLR(o, gamma=0.99)]
    ),
    "four at once": lambda o, s: s.ChainedScheduler(
        [
            s.LinearLR(o, start_factor=0.2, total_iters=50),
            s.CosineAnnealingLR(o, T_max=60),  # with an eta_min PyTorch's rate would fall below 0, which ours refuses
            s.MultiStepLR(o, milestones=[40, 90], gamma=0.5),
            s.MultiplicativeLR(o, lr_lambda=lambda t: 1 - 0.001 * t),
        ],
        optimizer=o,
    ),
    "one that overwrites": lambda o, s: s.ChainedScheduler(
        [s.ExponentialLR(o, gamma=0.9), s.LambdaLR(o, lr_lambda=lambda t: 0.95**t), s.StepLR(o, 25)]
    ),
    "at once but not chained": lambda o, s: s.StepLR(o, 25) and s.PolynomialLR(o, total_iters=150),
}


def two_groups(library, kind):
    params = [library.ones(1, requires_grad=True), library.ones(2, requires_grad=True)]
    cls = getattr(optim if library is mg else library.optim, kind)
    options = {"momentum": 0.9} if kind == "SGD" else {}
    return cls([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.3}], lr=0.1, **options)


def figures(optimizer):
    return [(g["lr"], g.get("momentum", 0), *g.get("betas", ())) for g in optimizer.param_groups]


def assert_same(ours, scheduler, theirs, reference, t):
    """To 1e-12 of the value, or, where the value is nearly zero, of a rate of 0.1."""
    np.testing.assert_allclose(figures(ours), figures(theirs), rtol=1e-12, atol=1e-13, err_msg=f"t = {t}")
    np.testing.assert_allclose(scheduler.get_last_lr(), reference.get_last_lr(), rtol=1e-12, atol=1e-13)


def make_both(build, kind):
    ours, theirs = two_groups(mg, kind), two_groups(torch, kind)
    return ours, build(ours, optim), theirs, build(theirs, torch.optim.lr_scheduler)


def builder(name, options):
    return lambda optimizer, module: getattr(module, name)(optimizer, **options)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_200_steps_are_pytorchs(name, options, kind):
    ours, scheduler, theirs, reference = make_both(builder(name, options), kind)
    for t in range(STEPS):
        assert_same(ours, scheduler, theirs, reference, t)
        scheduler.step()
        reference.step()


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", COMPOSED)
def test_200_steps_of_composed_schedules_are_pytorchs(name, kind):
    ours, scheduler, theirs, reference = make_both(COMPOSED[name], kind)
    for t in range(STEPS):
        assert_same(ours, scheduler, theirs, reference, t)
        scheduler.step()
        reference.step()


@pytest.mark.parametrize("stop", [1, 20, 77])
@pytest.mark.parametrize(
    "build", [*(builder(*case) for case in SCHEDULES), *COMPOSED.values()], ids=[*(c[0] for c in SCHEDULES), *COMPOSED]
)
def test_restored_in_the_middle_the_rest_is_pytorchs(build, stop, tmp_path):
    ours, scheduler, theirs, reference = make_both(build, "SGD")
    for _ in range(stop):
        scheduler.step()
        reference.step()
    save_state(tmp_path / "s.safetensors", [ours.state_dict(), scheduler.state_dict()])
    ours, scheduler = (other := two_groups(mg, "SGD")), build(other, optim)
    saved = load_state(tmp_path / "s.safetensors")
    ours.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    for t in range(stop, STEPS):
        assert_same(ours, scheduler, theirs, reference, t)
        scheduler.step()
        reference.step()


@pytest.mark.parametrize("name", ["LambdaLR", "MultiplicativeLR"])
def test_callable_objects_are_saved_with_their_attributes_as_in_pytorch(name):
    def build(optimizer, module):
        return getattr(module, name)(optimizer, lr_lambda=[Waves(), Waves()])

    ours, scheduler, theirs, reference = make_both(build, "SGD")
    for _ in range(20):
        scheduler.step()
        reference.step()
    saved = ours.state_dict(), scheduler.state_dict()
    ours, scheduler = (other := two_groups(mg, "SGD")), build(other, optim)
    ours.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    for t in range(20, 60):
        assert_same(ours, scheduler, theirs, reference, t)
        scheduler.step()
        reference.step()


@pytest.mark.parametrize("T_mult", [1, 2, 3])
def test_warm_restarts_at_fractions_of_an_epoch_are_pytorchs(T_mult):
    def build(optimizer, module):
        return module.CosineAnnealingWarmRestarts(optimizer, T_0=4, T_mult=T_mult, eta_min=0.01)

    ours, scheduler, theirs, reference = make_both(build, "SGD")
    for epoch in range(30):
        for batch in range(8):  # eighths are exact, so no restart is rounded away
            scheduler.step(epoch + batch / 8)
            reference.step(epoch + batch / 8)
            assert_same(ours, scheduler, theirs, reference, epoch + batch / 8)
    for t in range(20):
        scheduler.step()
        reference.step()
        assert_same(ours, scheduler, theirs, reference, t)


PLATEAU = [
    {},
    {"factor": 0.5, "patience": 0, "threshold": 0},
    {"factor": 0.5, "patience": 3, "cooldown": 4},
    {"mode": "max", "patience": 2, "threshold": 0.01},
    {"threshold_mode": "abs", "threshold": 0.02, "patience": 1},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.02, "patience": 1, "factor": 0.9},
    {"patience": 2, "min_lr": 0.01},
    {"patience": 2, "min_lr": [0.01, 0.2], "factor": 0.5},
    {"patience": 0, "factor": 0.7, "eps": 0.01},
]


def metrics(mode):
    """A loss that falls, stalls and jumps (or, for "max", minus it), with a NaN and an infinity on the way."""
    rng = np.random.default_rng(0)
    falling = np.exp(-np.arange(STEPS) / 40) + 0.05 * rng.standard_normal(STEPS) - 0.2
    falling[50], falling[90] = math.nan, math.inf
    return falling if mode == "min" else -falling


@pytest.mark.parametrize("stop", [None, 45])
@pytest.mark.parametrize("options", PLATEAU, ids=str)
def test_200_steps_on_a_plateau_are_pytorchs(options, stop, tmp_path):
    def build(optimizer, module):
        return module.ReduceLROnPlateau(optimizer, **options)

    ours, scheduler, theirs, reference = make_both(build, "SGD")
    for t, value in enumerate(metrics(options.get("mode", "min"))):
        if t == stop:
            save_state(tmp_path / "s.safetensors", [ours.state_dict(), scheduler.state_dict()])
            saved = load_state(tmp_path / "s.safetensors")
            ours, scheduler = (other := two_groups(mg, "SGD")), build(other, optim)
            ours.load_state_dict(saved[0])
            scheduler.load_state_dict(saved[1])
        scheduler.step(mg.tensor(value))
        reference.step(value)
        assert_same(ours, scheduler, theirs, reference, t)
    assert ours.param_groups[0]["lr"] < 0.1  # the example does reach a plateau


def test_arguments_and_defaults_are_pytorchs():
    import inspect

    for name in optim.lr_scheduler.__all__:
        theirs = getattr(torch.optim.lr_scheduler, name, None)
        if theirs is not None:
            found, expected = (inspect.signature(cls).parameters for cls in (getattr(optim, name), theirs))
            assert {n: p.default for n, p in found.items()} == {n: p.default for n, p in expected.items()}, name
            assert list(found) == list(expected), name
