"""Schedules: the formula and the steps agree; those that PyTorch lacks follow their papers; they nest, begin again, and
trade the rate for the size of the batch; and the training loop steps each as it should be.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataError, DataLoader, TensorDataset
from minigrad.serialization import load_state, save_state
from minigrad.training import fit

FORMULAS = [
    ("ConstantLR", {"factor": 0.5, "total_iters": 7}),
    ("StepLR", {"step_size": 6, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [3, 9, 9]}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 9}),
    ("PolynomialLR", {"total_iters": 15, "power": 1.5}),
    ("CosineAnnealingLR", {"T_max": 8, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 4, "mode": "triangular2"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30}),
    ("InverseTimeLR", {"decay": 0.25}),
    ("RobbinsMonroLR", {}),
    ("RobbinsMonroLR", {"power": 0.75}),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t * t)}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 1 - 0.01 * t}),
]


def make_optimizer(rates=(0.1, 0.3), **options):
    groups = [{"params": [mg.ones(2, requires_grad=True)], "lr": rate} for rate in rates]
    return optim.SGD(groups, momentum=0.9, **options)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def make(name, options):
    optimizer = make_optimizer()
    return optimizer, getattr(optim, name)(optimizer, **options)


def taken(optimizer, scheduler, steps):
    """The rates of each step, taken one by one."""
    seen = [rates(optimizer)]
    for _ in range(steps):
        scheduler.step()
        seen.append(rates(optimizer))
    return np.array(seen)


@pytest.mark.parametrize(("name", "options"), FORMULAS, ids=[f"{n} {list(o)}" for n, o in FORMULAS])
def test_the_formula_and_the_steps_agree(name, options):
    optimizer, scheduler = make(name, options)
    foreseen = np.array([scheduler.rates_at(t) for t in range(31)])
    assert rates(optimizer) == list(foreseen[0])  # looking ahead changed nothing
    np.testing.assert_allclose(taken(optimizer, scheduler, 30), foreseen, rtol=1e-13)


def test_a_sequence_can_be_foreseen_too():
    optimizer = make_optimizer()
    parts = [optim.LinearLR(optimizer, total_iters=5), optim.ExponentialLR(optimizer, 0.9), optim.StepLR(optimizer, 4)]
    scheduler = optim.SequentialLR(optimizer, parts, [5, 12])
    foreseen = [scheduler.rates_at(t) for t in range(31)]
    np.testing.assert_allclose(taken(optimizer, scheduler, 30), foreseen, rtol=1e-13)


# --- what PyTorch has not ---


@given(st.floats(1e-4, 10), st.floats(0, 5))
def test_cooling_is_one_over_one_plus_eps_k(base, eps):
    optimizer = make_optimizer([base])
    found = taken(optimizer, optim.InverseTimeLR(optimizer, decay=eps), 50)[:, 0]
    np.testing.assert_allclose(found, base / (1 + eps * np.arange(51)), rtol=1e-12)


@given(st.floats(1e-4, 10), st.floats(0.51, 1))
def test_robbins_and_monros_rates_are_a_over_k(base, power):
    optimizer = make_optimizer([base])
    found = taken(optimizer, optim.RobbinsMonroLR(optimizer, power), 50)[:, 0]
    np.testing.assert_allclose(found, base * np.arange(1, 52) ** -power, rtol=1e-12)


def test_with_rates_a_over_k_sgd_is_the_running_mean():
    """Minimising E (w - x)^2 / 2 from samples x with rate 1 / k: w is the mean of those seen, whatever the start."""
    samples = np.random.default_rng(0).standard_normal(200)
    w = mg.tensor(np.array([7.0]), requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    scheduler = optim.RobbinsMonroLR(optimizer)
    for k, x in enumerate(samples, 1):
        optimizer.zero_grad()
        (0.5 * mg.square(w - x)).sum().backward()
        optimizer.step()
        scheduler.step()
        assert w.item() == pytest.approx(samples[:k].mean(), abs=1e-12)


def test_halving_whenever_the_loss_has_not_fallen():
    optimizer = make_optimizer([0.8])
    scheduler = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0)
    seen = []
    for loss in [5, 4, 4, 3, 3.5, 3.2, 2]:
        scheduler.step(loss)
        seen += rates(optimizer)
    assert seen == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1, 0.1]


# --- combining ---


def test_combinations_nest():
    """A sequence in a chain in a sequence: each begins where its turn comes, and the factors multiply."""
    optimizer = make_optimizer([1.0])
    inner = optim.SequentialLR(
        optimizer, [optim.ConstantLR(optimizer, 0.5, 100), optim.ExponentialLR(optimizer, 0.5)], [2]
    )
    chain = optim.ChainedScheduler([inner, optim.StepLR(optimizer, 3, gamma=0.1)])
    warmup = optim.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    scheduler = optim.SequentialLR(optimizer, [warmup, chain], [3])
    found = taken(optimizer, scheduler, 8)[:, 0]
    # t = 2 of the chain: the inner sequence sets the rate of its second part; the steps of 0.1 stay multiplied.
    expected = [0.25, 0.5, 0.75, 0.5, 0.5, 1.0, 0.05, 0.025, 0.0125]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_rate_that_you_change_stays_changed_by_the_same_factor():
    optimizer = make_optimizer([1.0])
    scheduler = optim.CosineAnnealingLR(optimizer, T_max=10)
    for _ in range(3):
        scheduler.step()
    optimizer.param_groups[0]["lr"] *= 0.5
    for t in range(4, 11):
        scheduler.step()
        assert rates(optimizer)[0] == pytest.approx(0.25 * (1 + math.cos(math.pi * t / 10)), abs=1e-15)


def test_a_sequence_counts_batches_if_one_of_its_schedules_does():
    optimizer = make_optimizer()
    by_epoch = [optim.LinearLR(optimizer), optim.StepLR(optimizer, 3)]
    assert optim.SequentialLR(optimizer, by_epoch, [4]).interval == "epoch"
    cycle = optim.CyclicLR(optimizer, 0.1, 0.2, 5)
    assert optim.SequentialLR(optimizer, [by_epoch[0], cycle], [4]).interval == "batch"
    assert optim.ChainedScheduler([by_epoch[1]]).interval == "epoch"


# --- a growing batch ---


def make_loader(samples=64, **options):
    data = TensorDataset(mg.arange(samples), mg.arange(samples))
    return DataLoader(data, **{"batch_size": 4, "prefetch": 0, **options})


@given(st.floats(0.3, 0.95), st.integers(1, 5), st.sampled_from([None, 20]))
def test_the_noise_scale_is_that_of_the_falling_rate(gamma, first, limit):
    """Rate / batch size follows the schedule exactly; until the batch meets its limit the rate all but stays."""
    optimizer, plain, loader = make_optimizer(), make_optimizer(), make_loader(batch_size=first)
    scheduler = optim.BatchSizeScheduler(optim.ExponentialLR(optimizer, gamma), loader, limit)
    reference = optim.ExponentialLR(plain, gamma)
    for _ in range(12):
        size = loader.batch_size
        np.testing.assert_allclose(np.array(rates(optimizer)) / size, np.array(rates(plain)) / first, rtol=1e-12)
        wanted = first * 0.1 / rates(plain)[0]
        assert size == max(1, min(round(wanted), limit or 64))
        if wanted < (limit or 64):
            assert abs(rates(optimizer)[0] / 0.1 - 1) <= 0.5 / wanted + 1e-12  # what rounding leaves
        scheduler.step()
        reference.step()


def test_steps_of_the_batch_become_fewer_and_its_rate_stays():
    """The five-fold steps of the paper: three learning rate decays become three batch sizes, at one rate."""
    optimizer, loader = make_optimizer([0.1]), make_loader(samples=1000)
    scheduler = optim.BatchSizeScheduler(optim.MultiStepLR(optimizer, [2, 4, 6], gamma=0.2), loader, 100)
    seen = []
    for _ in range(8):
        seen.append((loader.batch_size, len(loader), round(rates(optimizer)[0], 12)))
        scheduler.step()
    # At 500 the limit of 100 is passed: from there on the rate falls.
    assert seen == [(4, 250, 0.1)] * 2 + [(20, 50, 0.1)] * 2 + [(100, 10, 0.1)] * 2 + [(100, 10, 0.02)] * 2


def test_a_growing_batch_is_restored_with_its_loader(tmp_path):
    def build():
        optimizer, loader = make_optimizer(), make_loader(shuffle=True, seed=3)
        return optimizer, loader, optim.BatchSizeScheduler(optim.ExponentialLR(optimizer, 0.6), loader)

    def epoch(optimizer, loader, scheduler):
        batches = [tuple(x.tolist()) for x, _ in loader]
        scheduler.step()
        return batches, rates(optimizer), loader.batch_size

    first = build()
    for _ in range(3):
        epoch(*first)
    save_state(tmp_path / "s.safetensors", [part.state_dict() for part in (first[0], first[2], first[1])])
    second = build()
    saved = load_state(tmp_path / "s.safetensors")
    for part, state in zip((second[0], second[2], second[1]), saved, strict=True):
        part.load_state_dict(state)
    for _ in range(4):
        assert epoch(*first) == epoch(*second)


def test_a_pass_under_way_keeps_its_size_and_every_sample_comes_once():
    loader = make_loader(samples=10, batch_size=3, shuffle=True, seed=0, prefetch=2)
    seen, sizes = [], []
    for x, _ in loader:
        loader.batch_size = 5
        seen += x.tolist()
        sizes.append(loader.state_dict()["batch_size"])
    assert sizes == [3, 3, 3, 5]  # after the last batch the state is that of the next pass
    assert sorted(seen) == list(range(10))
    assert [len(x) for x, _ in loader] == [5, 5]


def test_a_size_that_fits_not_the_data_or_the_place_in_it_is_refused():
    loader = make_loader(samples=10, batch_size=3, drop_last=True)
    with pytest.raises(DataError, match="leaves nothing of 10 samples in batches of 11"):
        loader.batch_size = 11
    assert loader.batch_size == 3
    for _ in loader:
        state = loader.state_dict()
        break
    loader.load_state_dict(state)
    with pytest.raises(DataError, match="goes on from batch 1"):
        loader.batch_size = 5
    loader.batch_size = 3


# --- in the training loop ---


class Recorder:
    def __init__(self):
        self.rates = []

    def __call__(self, history):
        self.rates.append(history["lr"][-1])


def regression(seed=0, batch_size=8):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((32, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]])).astype(np.float32)
    mg.manual_seed(0)
    return nn.Linear(3, 1), DataLoader(TensorDataset(mg.tensor(x), mg.tensor(y)), batch_size, prefetch=0)


def test_fit_shows_the_loss_to_a_schedule_that_watches_it():
    model, loader = regression()
    optimizer = optim.SGD(model.parameters(), lr=0.0)  # nothing gets better
    optimizer.param_groups[0]["lr"] = 1e-30
    scheduler = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, eps=0)
    history = fit(model, nn.MSELoss(), optimizer, loader, epochs=7, scheduler=scheduler, progress=False)
    assert history["lr"] == [1e-30, 1e-30, 1e-30, 5e-31, 5e-31, 2.5e-31, 2.5e-31]
    assert scheduler.best == pytest.approx(history["train_loss"][0])


def test_fit_shows_the_validations_accuracy_to_one_that_watches_for_a_maximum():
    mg.manual_seed(0)
    model = nn.Linear(2, 3)
    data = DataLoader(TensorDataset(mg.rand(12, 2), mg.randint(0, 3, 12)), 6, prefetch=0)
    optimizer = optim.SGD(model.parameters(), lr=1e-30)
    scheduler = optim.ReduceLROnPlateau(optimizer, mode="max", patience=3)
    history = fit(
        model, nn.CrossEntropyLoss(), optimizer, data, epochs=2, validation=data, scheduler=scheduler, progress=False
    )
    assert scheduler.best == history["val_accuracy"][0]


def test_a_run_with_a_growing_batch_stopped_and_resumed_is_the_run_that_was_not(tmp_path):
    def run(out, epochs, resume=False):
        model, loader = regression(batch_size=4)
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        scheduler = optim.BatchSizeScheduler(optim.StepLR(optimizer, 1, gamma=0.5), loader)
        fit(
            model,
            nn.MSELoss(),
            optimizer,
            loader,
            epochs=epochs,
            scheduler=scheduler,
            progress=False,
            out=out,
            resume=resume,
        )
        return model.weight.numpy(), loader.batch_size

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 4, resume=True)
    np.testing.assert_array_equal(whole[0], resumed[0])
    assert whole[1] == resumed[1] == 32


# --- what is refused ---


def test_schedules_refuse_what_makes_no_sense():
    optimizer, other = make_optimizer(), make_optimizer()
    step = optim.StepLR(optimizer, 2)
    plateau = optim.ReduceLROnPlateau(optimizer)
    adagrad_like = optim.Adam([mg.ones(1, requires_grad=True)])
    adagrad_like.defaults.pop("betas")
    for build, kind, words in [
        (lambda: optim.ConstantLR(optimizer, factor=2), ValueError, "factor=2"),
        (lambda: optim.ConstantLR(optimizer, total_iters=0), ValueError, "total_iters=0"),
        (lambda: optim.MultiStepLR(optimizer, [3, 1.5]), ValueError, "milestones=1.5"),
        (lambda: optim.ExponentialLR(optimizer, -1), ValueError, "gamma"),
        (lambda: optim.PolynomialLR(optimizer, 0), ValueError, "total_iters"),
        (lambda: optim.InverseTimeLR(optimizer, -0.1), ValueError, "decay"),
        (lambda: optim.RobbinsMonroLR(optimizer, 0.5), ValueError, "finite sum"),
        (lambda: optim.LambdaLR(optimizer, 0.5), TypeError, "function of the step"),
        (lambda: optim.MultiplicativeLR(optimizer, [abs]), ValueError, "1 values in lr_lambda for 2"),
        (lambda: optim.CosineAnnealingWarmRestarts(optimizer, 0), ValueError, "T_0"),
        (lambda: optim.CosineAnnealingWarmRestarts(optimizer, 3, 1.5), ValueError, "T_mult"),
        (lambda: optim.CosineAnnealingWarmRestarts(optimizer, 3).step(-1), ValueError, "epoch=-1"),
        (lambda: optim.CyclicLR(optimizer, 0.1, 0.2, mode="square"), ValueError, "'triangular2'"),
        (lambda: optim.CyclicLR(optimizer, 0.1, [0.2]), ValueError, "1 values in max_lr"),
        (lambda: optim.CyclicLR(adagrad_like, 0.1, 0.2), ValueError, "cycle_momentum=False"),
        (lambda: optim.ReduceLROnPlateau(optimizer, mode="lowest"), ValueError, "'min' or 'max'"),
        (lambda: optim.ReduceLROnPlateau(optimizer, factor=1.0), ValueError, "factor=1"),
        (lambda: plateau.step(), TypeError, r"step\(val_loss\)"),
        (lambda: plateau.rates_at(3), TypeError, "beforehand"),
        (lambda: optim.SequentialLR(optimizer, [step], [3]), ValueError, "one milestone less"),
        (lambda: optim.SequentialLR(optimizer, [step, step, step], [3, 3]), ValueError, "milestones=3.*4 or more"),
        (lambda: optim.SequentialLR(other, [step], []), ValueError, "another optimizer"),
        (lambda: optim.SequentialLR(optimizer, [step, plateau], [3]), TypeError, "takes no metric"),
        (lambda: optim.ChainedScheduler([]), ValueError, "at least one"),
        (lambda: optim.BatchSizeScheduler(step, [1, 2]), TypeError, "batch_size"),
        (lambda: optim.BatchSizeScheduler(step, make_loader(), 2), ValueError, "max_batch_size=2"),
        (
            lambda: optim.BatchSizeScheduler(optim.CyclicLR(optimizer, 0.1, 0.2), make_loader()),
            ValueError,
            "counts batches",
        ),
        (
            lambda: optim.ChainedScheduler([step]).load_state_dict({"schedulers": []}),
            ValueError,
            "of 0 schedules, this has 1",
        ),
    ]:
        with pytest.raises(kind, match=words):
            build()


def test_pytorchs_module_of_schedules_has_the_same_names():
    assert all(getattr(optim, name) is getattr(optim.lr_scheduler, name) for name in optim.lr_scheduler.__all__)
