"""LBFGS, BFGS, Newton, GaussNewton, LevenbergMarquardt: second-order methods that train models by `step(closure)`."""

import statistics

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minigrad as mg
from minigrad import optim
from minigrad.nn import functional as F
from minigrad.optim import BFGS, LBFGS, GaussNewton, LevenbergMarquardt, Newton
from minigrad.optim.closures.option_checks import MANY
from minigrad.optim.minimizers.descent_methods import DESCENT_METHODS
from minigrad.optim.minimizers.lbfgs import LBFGSDirection
from minigrad.optim.minimizers.minimize import minimize
from minigrad.optim.minimizers.steepest_descent import SteepestByOneNorm
from minigrad.serialization import load_state, save_state
from minigrad.transforms.trace import Graph
from tests.support import strict_backend
from tests.support.closure_models import Classes, Curve, X, Y, curve_for, every_kind, make

LOSS_CLASSES = [LBFGS, BFGS, Newton]


# --- what they find ---


@pytest.mark.parametrize("cls", LOSS_CLASSES)
def test_logistic_regression_ends_where_minimize_and_scipy_end(cls):
    scipy_optimize = pytest.importorskip("scipy.optimize")
    problem = Classes()
    found = minimize(lambda p: problem.loss_at(p[:5], p[5]), np.zeros(6), method="trust-exact", tol=1e-12)

    def value(p):
        z = problem.x.numpy() @ p[:5] + p[5]
        return (np.logaddexp(0, z) - z * problem.labels.numpy()).mean() + 0.01 * p[:5] @ p[:5]

    theirs = scipy_optimize.minimize(value, np.zeros(6), method="BFGS", options={"gtol": 1e-9})
    optimizer = cls(problem.params, max_iter=200, tolerance_grad=1e-10, tolerance_change=0)
    optimizer.step(problem.loss)
    assert optimizer.result.success
    mine = np.append(problem.w.numpy(), problem.b.numpy())
    assert_allclose(mine, found.x, atol=1e-7)
    assert_allclose(mine, theirs.x, atol=1e-4)
    assert optimizer.result.fun == pytest.approx(theirs.fun, abs=1e-9)


@pytest.mark.parametrize(("cls", "method"), [(LBFGS, "l-bfgs"), (BFGS, "bfgs"), (Newton, "trust-exact")])
@pytest.mark.parametrize("count", [1, 7])
def test_a_step_goes_the_way_of_minimize(cls, method, count):
    """The derivatives come from the closure's graph there and from a function's here; the steps are the same."""
    model, twin = Curve(), Curve()
    sizes = np.cumsum([p.size for p in twin.params])[:-1].tolist()

    def loss(flat):
        pieces = [flat[a:b].reshape(p.shape) for a, b, p in zip([0, *sizes], [*sizes, None], twin.params, strict=True)]
        w, b, v, c = pieces
        return ((mg.tanh(twin.x @ w.T + b) @ v.T + c - twin.y) ** 2).mean()

    if cls is LBFGS:  # begins with PyTorch's first step
        method = (lambda options: LBFGSDirection(100, SteepestByOneNorm()), DESCENT_METHODS[method].step_rule)
    found = minimize(loss, model.values(), method=method, options={"maxiter": count})
    optimizer = cls(model.params, max_iter=count)
    optimizer.step(model.loss)
    assert_allclose(model.values(), found.x, rtol=1e-7, atol=1e-9)
    assert (optimizer.result.nit, optimizer.result.nfev) == (found.nit, found.nfev)


@pytest.mark.parametrize("cls", [GaussNewton, LevenbergMarquardt])
def test_a_linear_model_is_fitted_by_one_exact_step(cls, random):
    x, y = random.standard_normal((30, 4)), random.standard_normal((30, 2))
    model = mg.nn.Linear(4, 2)
    for p in model.parameters():
        p.replace_data(p.detach().numpy().astype(np.float64))
    x_, y_ = mg.tensor(x), mg.tensor(y)
    optimizer = cls(model.parameters(), max_iter=1 if cls is GaussNewton else 20)
    optimizer.step(lambda: model(x_) - y_)
    expected = np.linalg.lstsq(np.hstack([x, np.ones((30, 1))]), y, rcond=None)[0]
    assert_allclose(model.weight.numpy(), expected[:4].T, atol=1e-12)
    assert_allclose(model.bias.numpy(), expected[4], atol=1e-12)


def test_levenberg_marquardt_leaves_adam_far_behind_in_as_many_evaluations():
    model, twin = Curve(), Curve()
    optimizer = LevenbergMarquardt(model.params)
    while optimizer.func_evals < 300:
        optimizer.step(model.residuals)
    best = np.inf
    for lr in (0.003, 0.01, 0.03, 0.1):
        twin = Curve()
        adam = optim.Adam(twin.params, lr=lr)
        for _ in range(optimizer.func_evals):
            adam.zero_grad()
            twin.loss().backward()
            adam.step()
        best = min(best, *twin.losses)
    assert min(model.losses) < best / 1e4, (min(model.losses), best)


def test_lbfgs_needs_about_the_evaluations_of_pytorchs():
    """Both with strong Wolfe: until the loss of the network is below 1e-3, over several starts; and no worse an end."""
    torch = pytest.importorskip("torch")

    def evaluations_of_torch(seed):
        twin = Curve(seed)
        params = [torch.tensor(p.detach().numpy(), requires_grad=True) for p in twin.params]
        x, y = torch.tensor(X), torch.tensor(Y)
        optimizer, losses = torch.optim.LBFGS(params, line_search_fn="strong_wolfe"), []

        def closure():
            w, b, v, c = params
            optimizer.zero_grad()
            loss = ((torch.tanh(x @ w.T + b) @ v.T + c - y) ** 2).mean()
            loss.backward()
            losses.append(loss.item())
            return loss

        for _ in range(10):
            optimizer.step(closure)
        return losses

    ours, theirs = [], []
    for seed in range(8):
        model = Curve(seed)
        optimizer = LBFGS(model.params)
        for _ in range(10):
            optimizer.step(model.loss)
        ours.append(model.losses)
        theirs.append(evaluations_of_torch(seed))
        assert ours[-1][0] == pytest.approx(theirs[-1][0], rel=1e-12)
    needed = [statistics.median(int(np.argmax(np.array(run) < 1e-3)) for run in runs) for runs in (ours, theirs)]
    assert needed[0] <= 1.25 * needed[1], needed
    ends = [statistics.median(min(run) for run in runs) for runs in (ours, theirs)]
    assert ends[0] <= 2 * ends[1], ends


def test_lbfgs_ends_where_pytorchs_ends_on_a_convex_loss():
    torch = pytest.importorskip("torch")
    problem = Classes()
    w, b = (torch.tensor(p.detach().numpy(), requires_grad=True) for p in problem.params)
    x, labels = torch.tensor(problem.x.numpy()), torch.tensor(problem.labels.numpy())
    options = {"max_iter": 200, "tolerance_grad": 1e-10, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    theirs = torch.optim.LBFGS([w, b], **options)

    def closure():
        theirs.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ w + b, labels) + 0.01 * (w @ w)
        loss.backward()
        return loss

    theirs.step(closure)
    ours = LBFGS(problem.params, **options)
    ours.step(problem.loss)
    assert_allclose(problem.w.numpy(), w.detach().numpy(), atol=1e-6)  # theirs ends where the gradient is 3e-9
    assert ours.result.nfev <= 1.25 * theirs.state[w]["func_evals"]


def test_without_a_search_steps_have_the_length_lr():
    long, short = Curve(), Curve()
    LBFGS(long.params, lr=1.0, max_iter=1, line_search_fn=None).step(long.loss)
    LBFGS(short.params, lr=0.25, max_iter=1, line_search_fn=None).step(short.loss)
    start = Curve().values()
    assert_allclose(short.values() - start, 0.25 * (long.values() - start), rtol=1e-10)


def test_newton_leaves_a_saddle():
    w = mg.tensor(np.array([1.0, 0.0]), requires_grad=True)
    optimizer = Newton([w], max_iter=50)
    optimizer.step(lambda: w[0] ** 2 + (w[1] ** 2 - 1) ** 2 + 1e-3 * w[1])
    assert optimizer.result.success
    assert_allclose(abs(w.detach().numpy()), [0, 1], atol=1e-2)


@pytest.mark.parametrize("cls", [Newton, LevenbergMarquardt])
def test_many_parameters_are_fitted_without_a_matrix(cls, random):
    n = MANY + 1
    x, y = mg.tensor(random.standard_normal((40, n))), mg.tensor(random.standard_normal(40))
    w = mg.zeros(n, dtype=np.float64).requires_grad_()
    optimizer = cls([w], max_iter=50)
    optimizer.step((lambda: ((x @ w - y) ** 2).mean()) if cls is Newton else (lambda: x @ w - y))
    assert optimizer.result.njev == 0 or cls is Newton
    shortest = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    assert_allclose(w.detach().numpy(), shortest, atol=1e-4)  # from zero, products reach the shortest solution only


# --- how a step goes ---


@every_kind
def test_several_short_steps_are_one_long_one(kind):
    """What was learnt is kept: the only difference is the evaluation that each step begins with."""
    one, many = curve_for(kind), curve_for(kind)
    make(kind, one.params, max_iter=6, max_eval=10**6).step(one.closure(make(kind, one.params)))
    optimizer = make(kind, many.params, max_iter=2, max_eval=10**6)
    for _ in range(3):
        optimizer.step(many.closure(optimizer))
    assert_array_equal(many.values(), one.values())
    assert optimizer.n_iter == 6 and optimizer.func_evals == len(many.losses) == len(one.losses) + 2


@every_kind
def test_a_step_returns_the_loss_before_it_and_tells_how_it_ended(kind):
    model = curve_for(kind)
    optimizer = make(kind, model.params, max_iter=3)
    assert optimizer.result is None
    first = optimizer.step(model.closure(optimizer))
    share = 30 if optimizer.problem.__name__ == "ClosureResiduals" else 1  # half a sum of 60 squares, not their mean
    assert not first.requires_grad and first.shape == ()
    assert first.item() == pytest.approx(share * model.losses[0])
    assert optimizer.result.nfev == len(model.losses) == optimizer.func_evals
    assert optimizer.result.nit == optimizer.n_iter <= 3
    model.loss()
    assert optimizer.result.fun == pytest.approx(share * model.losses[-1]) and model.losses[-1] < model.losses[0]
    assert "step again" in optimizer.result.message


@pytest.mark.parametrize("cls", [LBFGS, BFGS])
def test_a_closure_may_call_backward_or_leave_it(cls):
    plain, torch_like = Curve(), Curve()
    optimizer, twin = cls(plain.params), cls(torch_like.params)

    def closure():
        twin.zero_grad()
        loss = torch_like.loss()
        loss.backward()
        return loss

    def closure_with_numbers():
        return closure().item()

    for _ in range(2):
        optimizer.step(plain.loss)
        twin.step(closure)
    assert_array_equal(plain.values(), torch_like.values())
    assert all(p.grad is None for p in plain.params)
    gradients = mg.autograd.grad(torch_like.loss(), torch_like.params)
    for p, g in zip(torch_like.params, gradients, strict=True):
        assert_allclose(p.grad.numpy(), g.numpy(), rtol=1e-12)
    optimizer.step(plain.loss)
    assert isinstance(twin.step(closure_with_numbers), float)
    assert_array_equal(plain.values(), torch_like.values())


@every_kind
def test_parameters_keep_their_arrays_nodes_gradients_and_hooks(kind):
    model = curve_for(kind)
    seen = []
    for p in model.params:
        p.grad = mg.ones_like(p.detach())
        p.register_hook(seen.append)
    own = [(p.data, p.node, p.grad) for p in model.params]
    earlier = (model.params[0] ** 2).sum()
    optimizer = make(kind, model.params, max_iter=2)
    start = model.values()
    optimizer.step(model.closure(optimizer))
    assert not np.array_equal(model.values(), start)
    assert all(p.data is a and p.node is n and p.grad is g for p, (a, n, g) in zip(model.params, own, strict=True))
    with pytest.raises(mg.GradientError, match="changed in place"):
        earlier.backward()
    if make(kind, model.params).problem.__name__ != "ClosureResiduals":  # Jacobians are pushed forward, past hooks
        assert len(seen) >= 4
    seen.clear()
    model.loss().backward()
    assert len(seen) == 4


@every_kind
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 5, 9])
def test_when_the_closure_breaks_off_the_last_accepted_point_is_kept(kind, error, call):
    model, twin = curve_for(kind), curve_for(kind)
    optimizer, other = make(kind, model.params), make(kind, twin.params, max_iter=1)
    accepted, evaluations = [twin.values()], [1]
    while evaluations[-1] < 20:
        other.step(twin.closure(other))
        accepted.append(twin.values())
        evaluations.append(evaluations[-1] + other.result.nfev - 1)
    own = [p.data for p in model.params]
    compute = model.closure(optimizer)

    def closure():
        if len(model.losses) == call - 1:
            raise error
        return compute()

    with pytest.raises(error):
        optimizer.step(closure)
    before_call = [x for x, count in zip(accepted, evaluations, strict=True) if count < max(call, 2)]
    assert_array_equal(model.values(), before_call[-1])
    assert all(p.data is array for p, array in zip(model.params, own, strict=True))
    optimizer.step(compute)  # and it goes on
    assert min(model.losses) < model.losses[0] or call == 1


@every_kind
def test_a_saved_state_goes_on_to_the_identical_numbers(kind, tmp_path):
    model, twin = curve_for(kind), curve_for(kind)
    optimizer = make(kind, model.params, max_iter=3)
    for _ in range(2):
        optimizer.step(model.closure(optimizer))
    save_state(tmp_path / "state.safetensors", optimizer.state_dict())
    for p, q in zip(twin.params, model.params, strict=True):
        p.copy_(q.detach())
    resumed = make(kind, twin.params, max_iter=50)
    resumed.load_state_dict(load_state(tmp_path / "state.safetensors"))
    assert resumed.param_groups[0]["max_iter"] == 3
    assert (resumed.n_iter, resumed.func_evals) == (optimizer.n_iter, optimizer.func_evals)
    before = len(model.losses)
    for _ in range(3):
        optimizer.step(model.closure(optimizer))
        resumed.step(twin.closure(resumed))
        assert_array_equal(twin.values(), model.values())
    assert twin.losses == model.losses[before:]
    fresh = curve_for(kind)
    for p, q in zip(fresh.params, model.params, strict=True):
        p.copy_(q.detach())
    forgetful = make(kind, fresh.params, max_iter=3)
    forgetful.step(fresh.closure(forgetful))
    optimizer.step(model.closure(optimizer))
    if kind not in ("GaussNewton", "Newton, line search"):  # these learn nothing from step to step
        assert not np.array_equal(fresh.values(), model.values())


@every_kind
def test_a_state_is_a_copy(kind):
    model = curve_for(kind)
    optimizer = make(kind, model.params, max_iter=2)
    optimizer.step(model.closure(optimizer))
    state = optimizer.state_dict()

    def numbers(value):
        if isinstance(value, (list, tuple)):
            return [numbers(part) for part in value]
        return value.numpy().tolist() if isinstance(value, mg.Tensor) else value

    before = {key: numbers(value) for key, value in state["state"][0].items()}
    optimizer.step(model.closure(optimizer))
    assert {key: numbers(value) for key, value in state["state"][0].items()} == before
    assert optimizer.state[model.params[0]]["n_iter"] == optimizer.n_iter


def test_limits_are_kept():
    model = Curve()
    optimizer = LBFGS(model.params, max_iter=3)
    optimizer.step(model.loss)
    assert optimizer.result.nit == 3
    optimizer.param_groups[0] |= {"max_iter": 100, "max_eval": 7}
    optimizer.step(model.loss)
    assert 7 <= optimizer.result.nfev <= 9 and "max_eval" in optimizer.result.message
    optimizer.param_groups[0] |= {"tolerance_change": 0.5, "max_eval": None}
    optimizer.step(model.loss)
    assert optimizer.result.success and "tolerance_change" in optimizer.result.message
    optimizer.param_groups[0]["tolerance_grad"] = 1e3
    optimizer.step(model.loss)
    assert optimizer.result.nit == 0 and "gradient" in optimizer.result.message


def test_a_schedule_sets_the_first_length_of_searches():
    model = Curve()
    optimizer = LBFGS(model.params, max_iter=2)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step(model.loss)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.5
    before = model.values()
    optimizer.step(model.loss)
    assert not np.array_equal(before, model.values())


@every_kind
def test_a_parameter_that_is_not_used_stays(kind):
    model = curve_for(kind)
    unused = mg.tensor(np.ones(3), requires_grad=True)
    optimizer = make(kind, [unused, *model.params], max_iter=5)
    optimizer.step(model.closure(optimizer))
    assert min(model.losses) < model.losses[0]
    # Where J has a column of zeros, singular vectors have rounding there, which small singular values are divided into.
    assert_allclose(unused.detach().numpy(), 1, rtol=1e-11)


@every_kind
def test_float32_stays_float32_and_reaches_its_digits(kind):
    model = curve_for(kind, dtype=np.float32)
    optimizer = make(kind, model.params, max_iter=100)
    for _ in range(3):
        optimizer.step(model.closure(optimizer))
    assert all(p.dtype == np.float32 for p in model.params)
    assert min(model.losses) < 1e-2
    state = optimizer.state_dict()["state"][0].values()
    assert all(value.dtype == np.float32 for value in state if isinstance(value, mg.Tensor))


@every_kind
def test_parameters_of_two_precisions_keep_theirs(kind):
    model = curve_for(kind)
    model.params[1].replace_data(model.params[1].detach().numpy().astype(np.float32))
    optimizer = make(kind, model.params, max_iter=5)
    optimizer.step(model.closure(optimizer))
    assert [p.dtype for p in model.params] == [np.float64, np.float32, np.float64, np.float64]
    assert min(model.losses) < model.losses[0]


@every_kind
def test_a_model_on_the_device_takes_the_same_way(kind):
    """On the stand-in for CuPy, which refuses to mix host and device. Other sums round otherwise, and Newton's steps
    make that larger: the ways may part by ten times what a change of the first weights in their last digits does."""
    model, changed = curve_for(kind), curve_for(kind)
    changed.params[0].replace_data(changed.params[0].detach().numpy() * (1 + 1e-15))
    for one in (model, changed):
        optimizer = make(kind, one.params, max_iter=3)
        optimizer.step(one.closure(optimizer))
    apart = 10 * np.abs(changed.values() - model.values()).max()
    assert apart < 1e-5
    with strict_backend.installed():
        twin = curve_for(kind, device="cuda")
        other = make(kind, twin.params, max_iter=3)
        other.step(twin.closure(other))
        state = other.state_dict()
        other.load_state_dict(state)
        assert all(p.device.startswith("cuda") for p in twin.params)
        assert_allclose(twin.values(), model.values(), rtol=1e-12, atol=apart)
        other.step(twin.closure(other))


def test_batches_of_other_data_do_not_become_curvature():
    """Pairs come from two points of one step only, on the same data."""
    w = mg.tensor(np.ones(3), requires_grad=True)
    target = [0.0]
    optimizer = LBFGS([w], max_iter=1)
    for target[0] in (0.0, 100.0, -100.0):
        optimizer.step(lambda: ((w - target[0]) ** 2).sum())
    for s, y, _ in optimizer.learnt["direction.pairs"]:
        assert_allclose(y, 2 * s, rtol=1e-9)


# --- the graph below it ---


def test_a_record_is_travelled_both_ways(random):
    x = mg.tensor(random.standard_normal(3), requires_grad=True)
    unused = mg.tensor(random.standard_normal(2), requires_grad=True)
    A = mg.tensor(random.standard_normal((4, 3)))
    record = Graph([x, unused], [F.relu(A @ x), x.sum()])
    v, u = mg.tensor(random.standard_normal(3)), mg.tensor(random.standard_normal(4))
    pushed, summed = record.push([v, None])
    pulled, nothing = record.pull([u, None])
    J = A.numpy() * (A.numpy() @ x.detach().numpy() > 0)[:, None]
    assert_allclose(pushed.numpy(), J @ v.numpy())
    assert_allclose(summed.item(), v.numpy().sum())
    assert_allclose(pulled.numpy(), u.numpy() @ J)
    assert_array_equal(nothing.numpy(), 0)


@pytest.mark.parametrize("lr", [1.0, 0.1])
@pytest.mark.parametrize("size", [0.01, 100.0])
def test_the_first_step_of_lbfgs_is_pytorchs(size, lr):
    """min(1, 1 / |g|_1) lr times -g, for gradients shorter and longer than one."""
    torch = pytest.importorskip("torch")
    start = size * np.array([1.0, -2.0, 3.0])
    theirs, ours = torch.tensor(start, requires_grad=True), mg.tensor(start, requires_grad=True)
    optimizer = torch.optim.LBFGS([theirs], lr=lr, max_iter=1)

    def closure():
        optimizer.zero_grad()
        loss = (theirs**4 / size**2 + theirs**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    optim.LBFGS([ours], lr=lr, max_iter=1, line_search_fn=None).step(lambda: (ours**4 / size**2 + ours**2).sum())
    assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-14)
