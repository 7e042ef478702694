"""Every optimizer that PyTorch has, against PyTorch.

Claimed: 200 steps in float64 on three problems are PyTorch's to 1e-12, with every option that it has, and so are steps
with given gradients for packed and large parameters, of which some have no gradient at times; names, order and values
of the defaults are PyTorch's; and its state can be gone on with.
"""

import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from tests.support.optim_makers import assert_close, leaves, run, values
from tests.support.optim_zoo import ZOO, combinations, in_pytorch, shapes_for

torch = pytest.importorskip("torch")
SHARED = [name for name in ZOO if hasattr(torch.optim, name)]
CASES = [(name, o) for name in SHARED for o in combinations(name) if in_pytorch(name, o)]


@pytest.fixture(autouse=True)
def all_in_float64(monkeypatch):
    """PyTorch keeps NAdam's product of momenta in the default dtype, and does Muon's iteration in bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    yield
    torch.set_default_dtype(before)


def theirs(name, params, options):
    own = {"lr_in_velocity", "eps_inside_sqrt", "bias_correction", "look_ahead"}
    own |= {"nesterov"} if name == "RMSprop" else set()
    own |= {"maximize"} if name == "Muon" else set()
    options = {key: value for key, value in options.items() if key not in own}
    return getattr(torch.optim, name)(params, **options)


def assert_same(ours, others):
    assert_close(values(ours), [p.detach().numpy() for p in others], 1e-12)


# --- three problems ---


def rosenbrock(ops, x):
    """In 2 x 2 numbers."""
    head, tail = x[0][:1], x[0][1:]
    return (100 * (tail - head * head) ** 2 + (1 - head) ** 2).sum()


def logistic_regression(ops, x):
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((20, 4)), rng.integers(0, 2, (20, 1)) * 2.0 - 1
    margins = (ops.tensor(features) @ x[0]) * ops.tensor(labels)
    return ops.log1p(ops.exp(-margins)).mean()


def network(ops, x):
    rng = np.random.default_rng(2)
    inputs, targets = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    hidden = ops.tensor(inputs) @ x[0]
    residual = ops.tanh(hidden if len(x) == 2 else hidden + x[2]) @ x[1] - ops.tensor(targets)
    return (residual * residual).mean()


PROBLEMS = {rosenbrock: [(2, 2)], logistic_regression: [(4, 1)], network: [(3, 5), (5, 2), (5,)]}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", SHARED)
def test_200_steps_in_float64_are_pytorchs(problem, name):
    start = [np.random.default_rng(3).standard_normal(shape) for shape in shapes_for(name, *PROBLEMS[problem])]
    for options in combinations(name):
        if not in_pytorch(name, options) or options["maximize"]:  # that is covered below
            continue
        # A rate at which none arrives: about the optimum Adam circles, and what is rounded differently grows.
        lr = 1 if name == "Adadelta" else 1e-4 if problem is rosenbrock else 1e-3
        options = {"lr": lr, **options}
        ours = leaves(*start)
        others = [torch.tensor(array, requires_grad=True) for array in start]
        pairs = [
            (mg, ours, getattr(optim, name)(ours, **options)),
            (torch, others, theirs(name, others, options)),
        ]
        for _ in range(200):
            for ops, params, optimizer in pairs:
                optimizer.zero_grad()
                problem(ops, params).backward()
                optimizer.step()
        assert_same(ours, others)
        assert max(np.abs(a - b).max() for a, b in zip(values(ours), start, strict=True)) > 1e-4


def steps(name, options, start, gradients):
    """Both libraries' parameters after steps with given gradients, None for none."""
    ours, others = leaves(*start), [torch.tensor(array, requires_grad=True) for array in start]
    run(getattr(optim, name)(ours, **options), ours, gradients)
    sign = -1 if name == "Muon" and options.get("maximize") else 1  # PyTorch's has no maximize
    continue_theirs(theirs(name, others, options), others, gradients, sign)
    return ours, others


def continue_theirs(optimizer, params, gradients, sign=1):
    for row in gradients:
        for p, g in zip(params, row, strict=True):
            p.grad = None if g is None else torch.tensor(sign * g)
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_packed_and_large_parameters_with_gradients_missing_at_times_are_pytorchs(name, options):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(s) for s in shapes_for(name, (), (3, 4), (70, 80), (5,), (30, 12), (300, 20))]
    gradients = [[rng.standard_normal(array.shape) for array in start] for _ in range(8)]
    gradients[0][-1] = gradients[2][1] = gradients[4][0] = gradients[4][2] = None
    ours, others = steps(name, {"lr": 0.01, **options}, start, gradients)
    assert_same(ours, others)


@pytest.mark.parametrize("name", SHARED)
def test_defaults_are_pytorchs_and_in_its_order(name):
    ours = inspect.signature(getattr(optim, name)).parameters
    expected = inspect.signature(getattr(torch.optim, name)).parameters
    switches = {"foreach", "capturable", "differentiable", "fused"}  # how PyTorch is to do it, not what
    for key, parameter in expected.items():
        if key not in switches:
            assert ours[key].default == parameter.default or key == "params", key
    by_place = [[k for k, v in s.items() if v.kind is v.POSITIONAL_OR_KEYWORD] for s in (ours, expected)]
    assert by_place[0] == [key for key in by_place[1] if key not in {*switches, "maximize"}]


@pytest.mark.parametrize("name", SHARED)
def test_a_run_begun_in_pytorch_can_be_gone_on_with(name):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in [(4, 3), (2, 5)]]
    gradients = [[rng.standard_normal(array.shape) for array in start] for _ in range(14)]
    for options in combinations(name):
        if not in_pytorch(name, options) or options["maximize"]:
            continue
        others = [torch.tensor(array, requires_grad=True) for array in start]
        optimizer = theirs(name, others, {"lr": 0.01, **options})
        continue_theirs(optimizer, others, gradients[:7])
        ours = leaves(*(p.detach().numpy() for p in others))
        mine = getattr(optim, name)(ours, **options)
        mine.load_state_dict(optimizer.state_dict())
        assert mine.param_groups[0]["lr"] == 0.01
        run(mine, ours, gradients[7:])
        continue_theirs(optimizer, others, gradients[7:])
        assert_same(ours, others)


def test_nadam_goes_on_as_pytorchs_when_its_betas_change_on_the_way():
    rng = np.random.default_rng(0)
    gradients = [[rng.standard_normal(5)] for _ in range(20)]
    ours, others = leaves(np.ones(5)), [torch.ones(5, requires_grad=True)]
    mine, optimizer = optim.NAdam(ours), torch.optim.NAdam(others)
    for i, row in enumerate(gradients):
        mine.param_groups[0]["betas"] = optimizer.param_groups[0]["betas"] = (0.95 - 0.04 * i, 0.99)
        run(mine, ours, [row])
        continue_theirs(optimizer, others, [row])
    assert_same(ours, others)
