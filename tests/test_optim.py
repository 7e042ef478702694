"""Optimizers and schedules: the papers' formulas, PyTorch's numbers, and what a user may do between two steps."""

import gc
import itertools
import math
import weakref

import numpy as np
import pytest
import strict_backend
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from minigrad.backend import threads
from minigrad.optim import pieces
from minigrad.serialization import load_state, save_state

OPTIMIZERS = {
    "SGD": {
        "momentum": [0, 0.9],
        "dampening": [0, 0.3],
        "weight_decay": [0, 0.1],
        "nesterov": [False, True],
        "maximize": [False, True],
    },
    "Adam": {
        "betas": [(0.9, 0.999), (0.5, 0.9)],
        "weight_decay": [0, 0.1],
        "amsgrad": [False, True],
        "maximize": [False, True],
    },
    "AdamW": {"eps": [1e-8, 1e-3], "weight_decay": [0, 0.1], "amsgrad": [False, True], "maximize": [False, True]},
}
"""For each optimizer the options tried, in all combinations that are allowed."""


def combinations(name):
    grid = OPTIMIZERS[name]
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        if not (options.get("nesterov") and (not options["momentum"] or options["dampening"])):
            yield options


CASES = [pytest.param(name, options, id=f"{name} {options}") for name in OPTIMIZERS for options in combinations(name)]


def leaves(*arrays):
    return [mg.tensor(array, requires_grad=True) for array in arrays]


def run(optimizer, params, gradients):
    """Give the parameters each row of gradients in turn, None for no gradient, with a step after each row."""
    for row in gradients:
        optimizer.zero_grad()
        for p, g in zip(params, row, strict=True):
            if g is not None:
                p.grad = mg.tensor(g)
        optimizer.step()


def values(params):
    return [p.detach().numpy().copy() for p in params]


def assert_close(found, expected, rtol):
    """Within rtol of the largest entry."""
    for a, b in zip(found, expected, strict=True):
        scale = np.max(np.abs(b), initial=0)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)


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


SHAPES = [(), (1,), (0,), (7,), (3, 5), (2, 3, 4), (pieces.SMALL + 1,), (70, 90)]
LAYOUTS = {
    "C": lambda a: a,
    "Fortran": lambda a: np.array(a, order="F"),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: a[::-1].copy()[::-1] if a.ndim else a,
}


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
    name, options, shapes, dtypes, layouts, present, seed = situation
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal(s).astype(d) for s, d in zip(shapes, dtypes, strict=True)]
    params = [mg.Tensor(LAYOUTS[x](a.copy())).requires_grad_() for x, a in zip(layouts, start, strict=True)]
    # Away from 0: Adam divides by sqrt(v) + eps, where float32 has few digits of v left.
    gradients = [
        [
            (rng.choice([-1, 1], s) * rng.uniform(0.1, 1, s)).astype(d) if here else None
            for s, d, here in zip(shapes, dtypes, row, strict=True)
        ]
        for row in present
    ]
    run(getattr(optim, name)(params, **options), params, gradients)
    exact = [[None if g is None else g.astype("f8") for g in row] for row in gradients]
    expected = by_formula(name, options, [a.astype("f8") for a in start], exact)
    for p, e, d in zip(params, expected, dtypes, strict=True):
        assert p.dtype == d
        assert_close(values([p]), [e], {"f4": 2e-5, "f8": 1e-12}[d])


def test_threads_and_blocks_leave_no_trace_in_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape).astype("f4") for shape in [(700, 300), (40,), (pieces.BLOCK + 1,)]]
    gradients = [[rng.standard_normal(a.shape).astype("f4") for a in start] for _ in range(3)]
    results = []
    before = threads.get_num_threads()
    try:
        monkeypatch.setattr(pieces, "LARGE", 4000)
        for count, block, threaded in [(1, pieces.BLOCK, 1), (4, pieces.BLOCK, 1), (3, 5000, 1), (3, 10**9, 10**9)]:
            threads.set_num_threads(count)
            monkeypatch.setattr(pieces, "BLOCK", block)
            monkeypatch.setattr(pieces, "THREADED", threaded)
            params = leaves(*start)
            run(optim.Adam(params, weight_decay=0.1), params, gradients)
            results.append(values(params))
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def assert_follows_the_formulas_on_cuda(name, options):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in [(3, 4), (5,), (), (100, 60)]]
    gradients = [[rng.standard_normal(a.shape) for a in start] for _ in range(4)]
    params = [mg.tensor(a, device="cuda", requires_grad=True) for a in start]
    arrays = [p.data for p in params]
    optimizer = getattr(optim, name)(params, lr=0.01, **options)
    for row in gradients:
        for p, g in zip(params, row, strict=True):
            p.grad = mg.tensor(g, device="cuda")
        optimizer.step()
    assert all(p.data is array for p, array in zip(params, arrays, strict=True))
    expected = by_formula(name, {"lr": 0.01, **options}, start, gradients)
    assert_close([p.detach().numpy() for p in params], expected, 1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_follow_the_formulas_on_a_strict_device_without_waiting_for_it(name, options):
    with strict_backend.installed():
        assert_follows_the_formulas_on_cuda(name, options)
        (p,) = [mg.ones(3, 3, device="cuda", requires_grad=True)]
        optimizer = getattr(optim, name)([p], **options)
        p.grad = mg.ones(3, 3, device="cuda")
        strict_backend.traffic.clear()
        optimizer.step()
        assert not strict_backend.traffic


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
    (x,) = leaves(np.array([1.0, -2.0, 3.0]))
    optimizer = getattr(optim, name)([x], lr=0.01, **options)
    sign = -1 if options["maximize"] else 1
    for _ in range(50):
        optimizer.zero_grad()
        (sign * (x * x).sum()).backward()
        optimizer.step()
    assert (x * x).sum().item() < 14


# --- what may happen between two steps ---


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_saved_and_restored_goes_on_bit_by_bit(name, options, tmp_path):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (), (80, 70), (6,)]
    start = [rng.standard_normal(s).astype("f4") for s in shapes]
    gradients = [[rng.standard_normal(s).astype("f4") for s in shapes] for _ in range(9)]
    gradients[1][3] = None  # so that the parameters have taken different numbers of steps

    def make(arrays):
        params = leaves(*arrays)
        groups = [{"params": params[:2], "lr": 0.02}, {"params": params[2:]}]
        return params, getattr(optim, name)(groups, lr=0.01, **options)

    params, optimizer = make(start)
    run(optimizer, params, gradients[:4])
    save_state(tmp_path / "state.safetensors", optimizer.state_dict())
    snapshot, middle = optimizer.state_dict(), values(params)
    run(optimizer, params, gradients[4:])
    for state in (load_state(tmp_path / "state.safetensors"), snapshot):
        again, other = make(middle)
        other.load_state_dict(state)
        run(other, again, gradients[4:])
        for a, b in zip(values(params), values(again), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_parameter_without_a_gradient_is_left_alone_and_its_steps_are_not_counted():
    (p, q) = leaves(np.ones(3), np.ones(3))
    optimizer = optim.AdamW([p, q], lr=0.1)
    run(optimizer, [p, q], [[np.ones(3), None]] * 3)
    np.testing.assert_array_equal(q.detach().numpy(), np.ones(3))
    assert q not in optimizer.state
    run(optimizer, [p, q], [[None, np.ones(3)]])
    assert (optimizer.state[p]["step"], optimizer.state[q]["step"]) == (3, 1)


@pytest.mark.parametrize("size", [3, pieces.SMALL + 10])
def test_a_parameter_may_be_given_another_array_or_dtype_between_steps(size):
    g = np.linspace(0.1, 1, size)
    (p,), (q,) = leaves(np.ones(size)), leaves(np.ones(size))
    ours, plain = optim.Adam([p], lr=0.1), optim.Adam([q], lr=0.1)
    run(ours, [p], [[g]] * 2)
    run(plain, [q], [[g]] * 2)
    old = p.data
    p.data = old.copy()
    kept = old.copy()
    run(ours, [p], [[g]])
    run(plain, [q], [[g]])
    np.testing.assert_array_equal(old, kept)
    np.testing.assert_array_equal(p.data, q.data)
    p.replace_data(p.data.astype("f4"))
    run(ours, [p], [[g.astype("f4")]])
    run(plain, [q], [[g]])
    assert p.dtype == np.float32 and ours.state[p]["exp_avg"].dtype == np.float32
    np.testing.assert_allclose(p.data, q.data, rtol=1e-5)


def test_the_array_of_a_parameter_is_written_in_place_and_the_gradient_is_not():
    params = leaves(np.ones((80, 80)), np.ones(4))
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1)
    arrays = [p.data for p in params]
    g = [np.full(p.shape, 2.0) for p in params]
    for p, one in zip(params, g, strict=True):
        p.grad = mg.from_numpy(one)
    optimizer.step()
    for p, array, one in zip(params, arrays, g, strict=True):
        assert p.data is array
        np.testing.assert_array_equal(one, np.full(p.shape, 2.0))
        np.testing.assert_allclose(array, 1 - 0.1 * (2 + 0.1))


def test_backward_after_a_step_through_an_old_graph_is_refused():
    for size in (2, pieces.SMALL + 1):
        (w,) = leaves(np.ones(size))
        optimizer = optim.SGD([w], lr=0.1)
        loss = (w * w).sum()
        loss.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(mg.GradientError, match="changed in place"):
            loss.backward()


@pytest.mark.parametrize("size", [3, pieces.SMALL + 1])
def test_zero_grad_frees_the_gradient(size):
    (p,) = leaves(np.ones(size))
    optimizer = optim.Adam([p])
    (p * p).sum().backward()
    gone = weakref.ref(p.grad.data)
    optimizer.step()
    optimizer.zero_grad()
    assert p.grad is None
    assert gone() is None


def test_an_optimizer_that_is_dropped_frees_its_buffers_at_once():
    (p,) = leaves(np.ones(pieces.SMALL + 1))
    optimizer = optim.Adam([p])
    run(optimizer, [p], [[np.ones(p.shape)]])
    buffer = weakref.ref(optimizer.state[p]["exp_avg"])
    gc.disable()
    try:
        del optimizer
        assert buffer() is None
    finally:
        gc.enable()


def test_zero_grad_to_zeros_leaves_gradients_that_were_kept():
    (p,) = leaves(np.ones(2))
    (p * p).sum().backward()
    kept = p.grad
    optim.SGD([p]).zero_grad(set_to_none=False)
    np.testing.assert_array_equal(p.grad.numpy(), [0, 0])
    np.testing.assert_array_equal(kept.numpy(), [2, 2])


def test_step_calls_a_closure_with_gradients_enabled_and_returns_its_loss():
    (x,) = leaves(np.array([3.0]))
    optimizer = optim.SGD([x], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9
    np.testing.assert_allclose(x.detach().numpy(), [0], atol=1e-12)


def test_groups_keep_their_own_options_and_later_groups_join_in():
    p, q, r = leaves(np.zeros(1), np.zeros(1), np.zeros(1))
    optimizer = optim.SGD([{"params": [p]}, {"params": q, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [r], "momentum": 0.9, "lr": 1.0})
    run(optimizer, [p, q, r], [[np.ones(1)] * 3] * 2)
    np.testing.assert_allclose([x.item() for x in (p, q, r)], [-0.2, -1.0, -2.9])
    optimizer.param_groups[0]["lr"] = 0.0
    run(optimizer, [p, q, r], [[np.ones(1)] * 3])
    assert p.item() == pytest.approx(-0.2)


def test_a_state_in_any_memory_layout_and_dtype_can_be_loaded():
    shape = (80, 70)
    g = np.random.default_rng(0).standard_normal(shape).astype("f4")
    results = []
    for convert in (lambda a: a, lambda a: np.asfortranarray(a, dtype="f8"), lambda a: np.repeat(a, 2, 1)[:, ::2]):
        (p,) = leaves(np.ones(shape, "f4"))
        optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
        buffer = np.arange(5600, dtype="f4").reshape(shape)
        state = {0: {"momentum_buffer": convert(buffer)}}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        run(optimizer, [p], [[g]] * 3)
        results.append([*values([p]), optimizer.state[p]["momentum_buffer"]])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


# --- what is refused ---

NAN, INF = math.nan, math.inf
BAD_OPTIONS = [
    ("SGD", {"lr": NAN}, ValueError, "lr=nan"),
    ("SGD", {"lr": -0.1}, ValueError, "lr=-0.1.*0 or more"),
    ("SGD", {"lr": INF}, ValueError, "lr=inf"),
    ("SGD", {"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'"),
    ("SGD", {"lr": True}, TypeError, "lr must be a number"),
    ("SGD", {"momentum": -1}, ValueError, "momentum=-1"),
    ("SGD", {"dampening": NAN}, ValueError, "dampening"),
    ("SGD", {"weight_decay": -1e-4}, ValueError, "weight_decay"),
    ("SGD", {"nesterov": True}, ValueError, "nesterov.*momentum"),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "dampening"),
    ("SGD", {"nesterov": 1, "momentum": 0.9}, TypeError, "nesterov must be True or False"),
    ("SGD", {"maximize": "yes"}, TypeError, "maximize"),
    ("Adam", {"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]=1.0.*0 to 1"),
    ("Adam", {"betas": (-0.1, 0.9)}, ValueError, r"betas\[0\]"),
    ("Adam", {"betas": (NAN, 0.9)}, ValueError, r"betas\[0\]"),
    ("Adam", {"betas": 0.9}, TypeError, "pair of numbers"),
    ("Adam", {"eps": -1e-8}, ValueError, "eps"),
    ("Adam", {"amsgrad": None}, TypeError, "amsgrad"),
    ("AdamW", {"weight_decay": NAN}, ValueError, "AdamW: weight_decay=nan"),
]


@pytest.mark.parametrize(("name", "options", "kind", "words"), BAD_OPTIONS)
def test_options_that_make_no_sense_are_refused_by_name_in_the_constructor_and_in_groups(name, options, kind, words):
    (p,) = leaves(np.ones(2))
    with pytest.raises(kind, match=words):
        getattr(optim, name)([p], **options)
    with pytest.raises(kind, match=words):
        getattr(optim, name)([{"params": [p], **options}])


def test_parameters_that_cannot_be_optimized_are_refused():
    p, q = leaves(np.ones(2), np.ones(2))
    for params, kind, words in [
        ([], ValueError, "empty list of parameters"),
        ([{"params": []}], ValueError, "empty"),
        (p, TypeError, "list of Tensors"),
        (3, TypeError, "list of Tensors"),
        ([p, np.ones(2)], TypeError, "parameter 1 must be a Tensor, got a ndarray"),
        ([p * 2], TypeError, "was computed; only leaves"),
        ([mg.ones(2)], TypeError, "takes no gradient"),
        ([p, q, p], ValueError, "given before"),
        ([{"params": [p]}, {"params": [p]}], ValueError, "given before"),
        ([{"params": [p]}, q], TypeError, "parameter group is a dict"),
        ([{"parameters": [p]}], TypeError, '"params"'),
        ([{"params": [p], "learning_rate": 1}], ValueError, "unknown option 'learning_rate'.*lr, momentum"),
    ]:
        with pytest.raises(kind, match=words):
            optim.SGD(params)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    (p, q) = leaves(np.ones(2), np.ones((2, 2)))
    optimizer = optim.Adam([p, q])
    run(optimizer, [p, q], [[np.ones(2), np.ones((2, 2))]])
    good = optimizer.state_dict()
    (r,) = leaves(np.ones(3))
    other = optim.Adam([r])
    run(other, [r], [[np.ones(3)]])
    wrong_shape = {**good, "state": {**good["state"], 1: good["state"][0]}}
    for state, words in [
        (other.state_dict(), r"groups of \[1\].*\[2\]"),
        (optim.SGD([p, q]).state_dict(), "lacks amsgrad, betas, eps"),
        (wrong_shape, r"exp_avg of parameter 1 has shape \(2,\), expected shape \(2, 2\)"),
        ({"state": {}}, "param_groups"),
    ]:
        with pytest.raises(ValueError, match=words):
            optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == good["param_groups"]
    for i in good["state"]:
        np.testing.assert_array_equal(after["state"][i]["exp_avg"].numpy(), good["state"][i]["exp_avg"].numpy())


# --- schedules ---

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
