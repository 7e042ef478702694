"""Lookahead: k steps forward, one step back, around any optimizer.

Claimed: it follows the paper's algorithm around every optimizer; with alpha 1 it is the optimizer inside, bit by bit;
its state saved and restored goes on bit by bit; and it can stand wherever an optimizer is expected.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.serialization import load_state, save_state
from tests.support.optim_makers import leaves, run, values
from tests.support.optim_zoo import ZOO, by_formula

SHAPES = [(3, 4), (2, 2), (80, 70)]


def random_arrays(rows, shapes=SHAPES):
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in shapes]
    return start, [[rng.standard_normal(shape) for shape in shapes] for _ in range(rows)]


@pytest.mark.parametrize("name", ["SGD", "Lion", "Adagrad"])
def test_it_follows_the_papers_algorithm(name):
    """By formulas whose state does not look at the parameters, so that it can be carried over the slow steps."""
    start, gradients = random_arrays(23)
    params = leaves(*start)
    run(optim.Lookahead(getattr(optim, name)(params, lr=0.1), k=4, alpha=0.3), params, gradients)
    for column, phi in enumerate(start):
        rows = [row[column : column + 1] for row in gradients]
        theta = phi
        for t in range(1, len(rows) + 1):
            steps = [by_formula(name, {"lr": 0.1}, [np.zeros_like(phi)], rows[:n])[0] for n in (t - 1, t)]
            theta = theta + steps[1] - steps[0]
            if t % 4 == 0:
                theta = phi = phi + 0.3 * (theta - phi)
        np.testing.assert_allclose(values(params)[column], theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ZOO)
def test_with_alpha_1_it_is_the_optimizer_inside_and_with_alpha_0_it_stays(name):
    start, gradients = random_arrays(8)
    plain, wrapped, still = leaves(*start), leaves(*start), leaves(*start)
    run(getattr(optim, name)(plain, lr=0.01), plain, gradients)
    run(optim.Lookahead(getattr(optim, name)(wrapped, lr=0.01), k=1, alpha=0), still, [])
    run(optim.Lookahead(getattr(optim, name)(wrapped, lr=0.01), k=3, alpha=1), wrapped, gradients)
    run(optim.Lookahead(getattr(optim, name)(still, lr=0.01), k=4, alpha=0), still, gradients)
    for a, b, c, d in zip(values(plain), values(wrapped), values(still), start, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-13)
        np.testing.assert_allclose(c, d, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("stop", [4, 5, 6])
def test_a_run_saved_and_restored_goes_on_bit_by_bit(name, stop, tmp_path):
    start, gradients = random_arrays(14)
    gradients[0][1] = None

    def make(arrays):
        params = leaves(*arrays)
        return params, optim.Lookahead(getattr(optim, name)(params, lr=0.01), k=3)

    params, optimizer = make(start)
    run(optimizer, params, gradients[:stop])
    save_state(tmp_path / "state.safetensors", optimizer.state_dict())
    snapshot, middle = optimizer.state_dict(), values(params)
    run(optimizer, params, gradients[stop:])
    for state in (load_state(tmp_path / "state.safetensors"), snapshot):
        again, other = make(middle)
        other.load_state_dict(state)
        run(other, again, gradients[stop:])
        for a, b in zip(values(params), values(again), strict=True):
            np.testing.assert_array_equal(a, b)


def test_it_stands_where_an_optimizer_does():
    start, gradients = random_arrays(6)
    params = leaves(*start)
    optimizer = optim.Lookahead(optim.SGD(params[:2], lr=1.0), k=2)
    schedule = optim.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.add_param_group({"params": params[2:], "lr": 0.25})
    for row in gradients[:3]:
        run(optimizer, params, [row])
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == optimizer.optimizer.param_groups[0]["lr"] == 0.125
    assert "Lookahead(k=2, alpha=0.5" in repr(optimizer) and "SGD(" in repr(optimizer)
    (x,) = leaves(np.array([3.0]))
    inside = optim.Lookahead(optim.SGD([x], lr=0.25), k=2)

    def closure():
        inside.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    assert inside.step(closure).item() == 9
    inside.step(closure)
    np.testing.assert_allclose(values([x])[0], [3 + 0.5 * (0.75 - 3)])


def test_a_model_loaded_after_it_was_made_is_not_pulled_back_to_where_it_was():
    (p,) = leaves(np.zeros(2))
    optimizer = optim.Lookahead(optim.SGD([p], lr=0.1), k=1, alpha=0.5)
    p.copy_(mg.tensor(np.array([10.0, 20.0])))
    run(optimizer, [p], [[np.ones(2)]])
    np.testing.assert_allclose(values([p])[0], [9.95, 19.95])


def test_skipped_steps_do_not_count_and_a_parameter_without_gradients_is_left_alone():
    p, q = leaves(np.zeros(2), np.ones(2))
    optimizer = optim.Lookahead(optim.SGD([p, q], lr=1.0, nonfinite="skip"), k=2)
    run(optimizer, [p, q], [[np.ones(2), None], [np.full(2, np.nan), None]])
    assert (optimizer.steps, optimizer.skipped_steps) == (1, 1)
    np.testing.assert_array_equal(values([p])[0], [-1, -1])
    run(optimizer, [p, q], [[np.ones(2), None]])
    np.testing.assert_array_equal(values([p, q]), [[-1, -1], [1, 1]])


def test_what_makes_no_sense_is_refused():
    (p,) = leaves(np.ones(2))
    inside = optim.SGD([p])
    for arguments, kind, words in [
        ((p,), TypeError, "expected an Optimizer"),
        ((inside, 0), ValueError, "k=0; expected 1 or more"),
        ((inside, 2.0), TypeError, "k must be an int"),
        ((inside, 5, 1.5), ValueError, "alpha=1.5.*0 to 1"),
    ]:
        with pytest.raises(kind, match=words):
            optim.Lookahead(*arguments)
    optimizer = optim.Lookahead(inside, k=2)
    with pytest.raises(ValueError, match="'lookahead' not found"):
        optimizer.load_state_dict(inside.state_dict())
    run(optimizer, [p], [[np.ones(2)]])
    state = optimizer.state_dict()
    (r,) = leaves(np.ones(3))
    with pytest.raises(ValueError, match=r"slow weights of parameter 0 have shape \(2,\)"):
        optim.Lookahead(optim.SGD([r])).load_state_dict(state)
