"""What a user may do between two steps of an optimizer, and what is refused.

Claimed: a run saved and restored goes on bit by bit; parameters are written in place and may be given another array or
dtype; gradients and buffers are freed at once; and options, parameters and states that make no sense are refused by
name and change nothing.
"""

import gc
import math
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.optim import optimizer as walk
from tests.support.optim_makers import CASES, check_restored_runs, leaves, run, values

# --- what may happen between two steps ---


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_saved_and_restored_goes_on_bit_by_bit(name, options, tmp_path):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (), (80, 70), (6,)]
    start = [rng.standard_normal(s).astype("f4") for s in shapes]
    gradients = [[rng.standard_normal(s).astype("f4") for s in shapes] for _ in range(9)]
    gradients[1][3] = None  # so that the parameters have taken different numbers of steps

    check_restored_runs(name, options, start, gradients, tmp_path / "state.safetensors")


def test_a_parameter_without_a_gradient_is_left_alone_and_its_steps_are_not_counted():
    (p, q) = leaves(np.ones(3), np.ones(3))
    optimizer = optim.AdamW([p, q], lr=0.1)
    run(optimizer, [p, q], [[np.ones(3), None]] * 3)
    np.testing.assert_array_equal(q.detach().numpy(), np.ones(3))
    assert q not in optimizer.state
    run(optimizer, [p, q], [[None, np.ones(3)]])
    assert (optimizer.state[p]["step"], optimizer.state[q]["step"]) == (3, 1)


@pytest.mark.parametrize("size", [3, walk.SMALL + 10])
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
    for size in (2, walk.SMALL + 1):
        (w,) = leaves(np.ones(size))
        optimizer = optim.SGD([w], lr=0.1)
        loss = (w * w).sum()
        loss.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(mg.GradientError, match="changed in place"):
            loss.backward()


@pytest.mark.parametrize("size", [3, walk.SMALL + 1])
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
    (p,) = leaves(np.ones(walk.SMALL + 1))
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


# --- states that were damaged, or are another optimizer's ---

EVERY = {name: getattr(optim, name) for name in optim.__all__ if isinstance(getattr(optim, name), type)}
EVERY = {name: c for name, c in EVERY.items() if issubclass(c, optim.Optimizer) and name not in ("Optimizer",)}
MADE = {name: c for name, c in EVERY.items() if name not in ("Lookahead", "Regularized")}


def stepped(name):
    """An optimizer of two matrices that has taken a step, and has a state."""
    params = leaves(np.ones((2, 2)), np.ones((2, 3)))
    optimizer = MADE[name](params)

    def closure():
        optimizer.zero_grad()
        parts = [(p * p - 2).reshape((-1,)) for p in params]
        if name in ("GaussNewton", "LevenbergMarquardt"):
            return mg.cat(parts)
        loss = sum((part * part).sum() for part in parts)
        if name not in ("Newton", "BFGS"):
            loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer, params


def same(a, b):
    """Whether two states are equal in every number."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "shape"):
        return np.array_equal(*(x.numpy() if hasattr(x, "numpy") else x for x in (a, b)))
    return a == b


def damaged(state):
    """(what, a copy of the state with one thing wrong) for everything that may be wrong in a state."""
    (group, *_), entries = state["param_groups"], state["state"]
    for option, value in group.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for wrong in (NAN, "1", None if option != "max_eval" else "x", [value]):
                yield f"{option}={wrong!r}", {**state, "param_groups": [{**group, option: wrong}]}
    if "lr" in group:
        yield "lr=-1", {**state, "param_groups": [{**group, "lr": -1}]}
        yield "no lr", {**state, "param_groups": [{k: v for k, v in group.items() if k != "lr"}]}
    yield "no params", {**state, "param_groups": [{k: v for k, v in group.items() if k != "params"}]}
    yield "one twice", {**state, "param_groups": [{**group, "params": [0, 0]}]}
    yield "params of text", {**state, "param_groups": [{**group, "params": ["a", "b"]}]}
    yield "groups of text", {**state, "param_groups": ["a"]}
    yield "no groups", {"state": entries}
    yield "no state", {"param_groups": [group]}
    yield "a list", [1, 2]
    yield "state a list", {**state, "state": [1]}
    yield "entries a list", {**state, "state": {0: [1]}}
    yield "a parameter more", {**state, "state": {**entries, 7: {}}}
    yield "a name that is no number", {**state, "state": {**entries, "x": {}}}
    yield "unknown entries", {**state, "state": {**entries, 0: {**entries.get(0, {}), "unheard": mg.ones(2, 2)}}}
    for key, value in entries.get(0, {}).items():
        for wrong in ("text", {}, mg.ones(9)) if hasattr(value, "numpy") else (NAN, "text", {}):
            yield f"{key}: {wrong!r}", {**state, "state": {**entries, 0: {**entries[0], key: wrong}}}


@pytest.mark.parametrize("name", MADE)
def test_a_damaged_state_is_refused_by_the_optimizers_name_and_changes_nothing(name):
    optimizer, params = stepped(name)
    before, state = values(params), optimizer.state_dict()
    state["param_groups"] = [dict(group) for group in state["param_groups"]]
    for what, wrong in damaged(optimizer.state_dict()):
        with pytest.raises((ValueError, TypeError), match=name) as caught:
            optimizer.load_state_dict(wrong)
            pytest.fail(f"{name} took a state with {what}")
        assert "load_state_dict" in str(caught.value), what
        assert same(optimizer.state_dict(), state), what
    assert same(before, values(params))
    optimizer.load_state_dict(state)
    assert same(optimizer.state_dict(), state)


@pytest.mark.parametrize("name", MADE)
def test_no_optimizer_takes_the_state_of_another(name):
    optimizer, _ = stepped(name)
    before = optimizer.state_dict()
    for other in MADE.keys() - {name}:
        with pytest.raises(ValueError, match=rf"{name}\.load_state_dict: .*{other}"):
            optimizer.load_state_dict(stepped(other)[0].state_dict())
    assert same(optimizer.state_dict(), before)


def test_a_lion_does_not_take_the_rate_and_the_buffers_of_an_adamw_without_its_name():
    state = stepped("AdamW")[0].state_dict()
    del state["class"]  # as PyTorch's are
    lion = stepped("Lion")[0]
    with pytest.raises(ValueError, match="eps, which Lion does not know"):
        lion.load_state_dict(state)
    state["param_groups"] = lion.state_dict()["param_groups"]
    with pytest.raises(ValueError, match="exp_avg_sq, which Lion does not know"):
        lion.load_state_dict(state)


@pytest.mark.parametrize("change", [{"k": 0}, {"k": "5"}, {"alpha": NAN}, {"alpha": 2}, {"steps": -1}, {"steps": 9}])
def test_a_damaged_state_of_lookahead_is_refused(change):
    (p,) = leaves(np.ones(2))
    ahead = optim.Lookahead(optim.SGD([p], lr=0.1))
    run(ahead, [p], [[np.ones(2)]])
    state = ahead.state_dict()
    with pytest.raises((ValueError, TypeError), match="Lookahead"):
        ahead.load_state_dict({**state, "lookahead": {**state["lookahead"], **change}})
    for slow in ({3: mg.ones(2)}, {-1: mg.ones(2)}, {"x": mg.ones(2)}, {0: mg.ones(3)}, {0: "text"}):
        with pytest.raises(ValueError, match="slow weights"):
            ahead.load_state_dict({**state, "lookahead": {**state["lookahead"], "slow": slow}})
    assert same(ahead.state_dict(), state)


# --- options, for every optimizer ---

FREE = {"dampening", "ns_coefficients"}  # numbers of any sign


@pytest.mark.parametrize("name", MADE)
def test_no_optimizer_takes_an_option_that_is_no_sensible_number(name):
    def make(**options):
        return MADE[name](leaves(np.ones((2, 2))), **options)

    for option, default in make().param_groups[0].items():
        if option == "params":
            continue
        wrongs = [NAN, "text", object(), np.ones(2), [NAN, NAN]]
        if isinstance(default, bool):
            wrongs += [1, None]
        elif isinstance(default, (int, float)):
            wrongs += [math.inf, True] + ([] if option in FREE else [-1])
        for wrong in wrongs:
            with pytest.raises((ValueError, TypeError)):
                make(**{option: wrong})
                pytest.fail(f"{name}: {option}={wrong!r} was taken")


def test_a_step_without_any_gradient_warns_once():
    (p,) = leaves(np.ones(2))
    optimizer = optim.Adam([p])
    with pytest.warns(UserWarning, match=r"Adam.step: none of the 1 parameters has a gradient.*backward"):
        optimizer.step()
    optimizer.step()  # a second warning would be an error here
    run(optimizer, [p], [[np.ones(2)]])
