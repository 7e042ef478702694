"""Optimizers' rules: PyTorch's numbers, the papers' formulas, and what is claimed of the methods.

Claimed: steps in float64 are PyTorch's to 1e-12 with every allowed combination of options, and its state can be gone
on with; they follow the formulas for any mix of shapes, dtypes, memory layouts and missing gradients, with any number
of threads, and on a GPU without waiting for it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from minigrad.optim import optimizer as walk
from tests.support import strict_backend
from tests.support.optim_makers import (
    CASES,
    LAYOUTS,
    OPTIMIZERS,
    SHAPES,
    assert_close,
    check_against_the_formula,
    check_on_cuda,
    check_that_a_step_does_not_wait,
    check_the_way_down,
    check_threads_and_blocks,
    combinations,
    leaves,
    run,
    values,
)

# --- equal to PyTorch ---


def quadratic(ops, x):
    """Condition 1e4, and so flat in one direction."""
    return (ops.tensor(np.logspace(-2, 2, 6)) * x[0] * x[0]).sum() + (x[1] * x[1]).sum()


def logistic_regression(ops, x):
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((20, 4)), rng.integers(0, 2, 20) * 2.0 - 1
    margins = (ops.tensor(features) * x[0]).sum(1) * ops.tensor(labels) + x[1] * ops.tensor(labels)
    return ops.log1p(ops.exp(-margins)).mean()


def network(ops, x):
    rng = np.random.default_rng(2)
    inputs, targets = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    residual = ops.tanh(ops.tensor(inputs) @ x[0] + x[1]) @ x[2] - ops.tensor(targets)
    return (residual * residual).mean()


PROBLEMS = {quadratic: [(6,), ()], logistic_regression: [(4,), ()], network: [(3, 5), (5,), (5, 2)]}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_200_steps_in_float64_are_pytorchs(problem, name):
    torch = pytest.importorskip("torch")
    start = [np.random.default_rng(3).standard_normal(shape) for shape in PROBLEMS[problem]]
    for options in combinations(name):
        if options.pop("maximize"):  # covered below, with much else
            continue
        # A rate at which none arrives: about the optimum Adam circles, and what is rounded differently grows.
        options = {"lr": 1e-3, **options}
        ours = leaves(*start)
        theirs = [torch.tensor(array, requires_grad=True) for array in start]
        pairs = [
            (mg, ours, getattr(optim, name)(ours, **options)),
            (torch, theirs, getattr(torch.optim, name)(theirs, **options)),
        ]
        for _ in range(200):
            for ops, params, optimizer in pairs:
                optimizer.zero_grad()
                problem(ops, params).backward()
                optimizer.step()
        assert_close(values(ours), [p.detach().numpy() for p in theirs], 1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_packed_and_large_parameters_with_gradients_missing_at_times_are_pytorchs(name, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in [(), (3, 4), (70, 80), (5,), (300, 120)]]
    gradients = [[rng.standard_normal(array.shape) for array in start] for _ in range(8)]
    gradients[0][4] = gradients[2][1] = gradients[4][0] = gradients[4][2] = None
    ours = leaves(*start)
    run(getattr(optim, name)(ours, lr=0.01, **options), ours, gradients)
    theirs = [torch.tensor(array, requires_grad=True) for array in start]
    optimizer = getattr(torch.optim, name)(theirs, lr=0.01, **options)
    for row in gradients:
        for p, g in zip(theirs, row, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
    assert_close(values(ours), [p.detach().numpy() for p in theirs], 1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_pytorch_can_be_gone_on_with(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in [(4, 3), (2,)]]
    options = {"momentum": 0.9} if name == "SGD" else {"amsgrad": True}
    theirs = [torch.tensor(array, requires_grad=True) for array in start]
    optimizer = getattr(torch.optim, name)(theirs, lr=0.01, **options)
    gradients = [[rng.standard_normal(array.shape) for array in start] for _ in range(6)]

    def their_steps(rows):
        for row in rows:
            for p, g in zip(theirs, row, strict=True):
                p.grad = torch.tensor(g)
            optimizer.step()

    their_steps(gradients[:3])
    ours = leaves(*(p.detach().numpy() for p in theirs))
    mine = getattr(optim, name)(ours, lr=7.0, **options)
    saved = optimizer.state_dict()
    saved["param_groups"][0].setdefault("lr_in_velocity", False)  # an option that PyTorch does not have
    mine.load_state_dict(saved)
    run(mine, ours, gradients[3:])
    their_steps(gradients[3:])
    assert_close(values(ours), [p.detach().numpy() for p in theirs], 1e-12)


# --- equal to the formulas, however the parameters lie in memory ---


def by_formula(name, options, start, gradients):
    """Each parameter by itself, as in the papers, with new arrays at every step."""
    result = []
    for column, p in enumerate(start):
        buffer = m = v = highest = None
        t = 0
        for row in gradients:
            g = row[column]
            if g is None:
                continue
            t += 1
            lr, decay = options["lr"], options.get("weight_decay", 0)
            g = -g if options["maximize"] else g
            if name == "AdamW":
                p = p - lr * decay * p
            else:
                g = g + decay * p
            if name == "SGD":
                mu = options["momentum"]
                buffer = g if buffer is None or not mu else mu * buffer + (1 - options["dampening"]) * g
                p = p - lr * (g + mu * buffer if options["nesterov"] else buffer)
                continue
            beta1, beta2 = options.get("betas", (0.9, 0.999))
            m = (0 if m is None else beta1 * m) + (1 - beta1) * g
            v = (0 if v is None else beta2 * v) + (1 - beta2) * g * g
            highest = v if highest is None else np.maximum(highest, v)
            root = np.sqrt((highest if options["amsgrad"] else v) / (1 - beta2**t))
            p = p - lr * (m / (1 - beta1**t)) / (root + options.get("eps", 1e-8))
        result.append(p)
    return result


@st.composite
def situations(draw):
    name = draw(st.sampled_from(sorted(OPTIMIZERS)))
    options = {"lr": 0.05, **draw(st.sampled_from(list(combinations(name))))}
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=6))
    dtypes = [draw(st.sampled_from(["f4", "f8"])) for _ in shapes]
    layouts = [draw(st.sampled_from(sorted(LAYOUTS))) for _ in shapes]
    present = draw(
        st.lists(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)), min_size=1, max_size=5)
    )
    return name, options, shapes, dtypes, layouts, present, draw(st.integers(0, 2**32 - 1))


@given(situations())
@settings(max_examples=60)
def test_steps_follow_the_formulas_for_any_mix_of_shapes_dtypes_layouts_and_missing_gradients(situation):
    check_against_the_formula(situation, by_formula, {"f4": 2e-5, "f8": 1e-12})


def test_threads_and_blocks_leave_no_trace_in_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype("f4") for shape in [(700, 300), (40,), (walk.CHUNK + 1,)]]
    gradients = [[rng.standard_normal(a.shape).astype("f4") for a in start] for _ in range(3)]
    divisions = [(1, walk.CHUNK, 1), (4, walk.CHUNK, 1), (3, 5000, 1), (3, 10**9, 10**9)]
    check_threads_and_blocks("Adam", {"weight_decay": 0.1}, start, gradients, divisions, monkeypatch)


def assert_follows_the_formulas_on_cuda(name, options):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in [(3, 4), (5,), (), (100, 60)]]
    gradients = [[rng.standard_normal(a.shape) for a in start] for _ in range(4)]
    check_on_cuda(name, options, by_formula, start, gradients)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_follow_the_formulas_on_a_strict_device_without_waiting_for_it(name, options):
    with strict_backend.installed():
        assert_follows_the_formulas_on_cuda(name, options)
        check_that_a_step_does_not_wait(name, options)


@pytest.mark.skipif(not mg.cuda_is_available(), reason="no CuPy with a GPU here")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_fused_kernels_follow_the_formulas(name, options):
    assert_follows_the_formulas_on_cuda(name, options)


# --- claims about the methods ---


def test_both_forms_of_momentum_agree_until_the_rate_changes_and_then_follow_their_formulas():
    rng = np.random.default_rng(0)
    gradients = [[rng.standard_normal(5)] for _ in range(12)]
    for nesterov in (False, True):
        (p,), (q,) = leaves(np.ones(5)), leaves(np.ones(5))
        torchs = optim.SGD([p], lr=0.1, momentum=0.9, nesterov=nesterov)
        papers = optim.SGD([q], lr=0.1, momentum=0.9, nesterov=nesterov, lr_in_velocity=True)
        run(torchs, [p], gradients[:6])
        run(papers, [q], gradients[:6])
        assert_close(values([p]), values([q]), 1e-14)
        torchs.param_groups[0]["lr"] = papers.param_groups[0]["lr"] = 0.01
        run(torchs, [p], gradients[6:])
        run(papers, [q], gradients[6:])
        theta, v = np.ones(5), np.zeros(5)  # Sutskever et al. 2013, equations 1 and 2, 3 and 4
        for i, (g,) in enumerate(gradients):
            lr = 0.1 if i < 6 else 0.01
            v = 0.9 * v - lr * g
            theta = theta + (0.9 * v - lr * g if nesterov else v)
        assert_close(values([q]), [theta], 1e-13)
        assert not np.allclose(values([p]), theta, rtol=1e-3)


def test_the_first_step_of_adam_has_the_size_of_the_rate_whatever_the_size_of_the_gradient():
    for size in (1e-3, 1.0, 1e6):
        (p,) = leaves(np.zeros(3))
        run(optim.Adam([p], lr=0.01), [p], [[size * np.array([1.0, -2.0, 5.0])]])
        np.testing.assert_allclose(p.detach().numpy(), [-0.01, 0.01, -0.01], rtol=2e-5)


def test_adamw_decays_by_the_same_factor_what_adam_decays_by_the_same_step():
    start, zero = np.array([1.0, 100.0]), [[np.zeros(2)]]
    (decoupled,), (coupled,) = leaves(start), leaves(start)
    run(optim.AdamW([decoupled], lr=0.1, weight_decay=0.5), [decoupled], zero)
    run(optim.Adam([coupled], lr=0.1, weight_decay=0.5), [coupled], zero)
    np.testing.assert_allclose(decoupled.detach().numpy(), start * 0.95, rtol=1e-12)
    np.testing.assert_allclose(coupled.detach().numpy(), start - 0.1, rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_optimizer_goes_downhill_or_uphill(name, options):
    check_the_way_down(name, {**options, "lr": 0.01}, [1.0, -2.0, 3.0])
