"""A NaN or an infinity among the gradients is left to pass, skipped or raised, by one option of every optimizer.

Claimed: a skipped step changes nothing at all, wherever the number stands and whatever the shapes; large gradients
whose squares overflow are no infinities; an error names the parameters; and on a device raising waits once a step.
Skipping on a device is in tests/cuda/test_nonfinite.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from tests.support import strict_backend
from tests.support.optim_makers import leaves, run, values
from tests.support.optim_zoo import ZOO

BAD = [np.nan, np.inf, -np.inf]
SHAPES = [(3, 4), (1, 1), (70, 80)]


def gradients_for(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def assert_equal_states(a, b):
    assert a["param_groups"] == b["param_groups"] and a["state"].keys() == b["state"].keys()
    for i, entries in a["state"].items():
        assert entries.keys() == b["state"][i].keys()
        for key, value in entries.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(b["state"][i][key]))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ZOO)
def test_a_skipped_step_changes_nothing(name, bad):
    start = gradients_for(SHAPES, 1)
    good = [gradients_for(SHAPES, seed) for seed in range(2, 6)]
    spoiled = [g.copy() for g in good[1]]
    spoiled[2][33, 7] = bad
    params, others = leaves(*start), leaves(*start)
    optimizer = getattr(optim, name)(params, lr=0.01, weight_decay=0.1, nonfinite="skip")
    run(optimizer, params, good[:2])
    before, places = optimizer.state_dict(), values(params)
    run(optimizer, params, [spoiled])
    assert optimizer.skipped_steps == 1
    assert_equal_states(optimizer.state_dict(), before)
    for a, b in zip(values(params), places, strict=True):
        np.testing.assert_array_equal(a, b)
    run(optimizer, params, good[2:])
    run(getattr(optim, name)(others, lr=0.01, weight_decay=0.1), others, good)
    for a, b in zip(values(params), values(others), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ZOO)
def test_left_to_pass_it_spreads_in_its_parameter_only(name):
    params = leaves(*gradients_for(SHAPES, 1))
    spoiled = gradients_for(SHAPES, 2)
    spoiled[0][1, 1] = np.nan
    optimizer = getattr(optim, name)(params, lr=0.01)
    run(optimizer, params, [spoiled])
    assert optimizer.skipped_steps == 0
    assert np.isnan(values(params)[0][1, 1])
    for p in values(params)[1:]:
        assert np.all(np.isfinite(p))


@given(st.sampled_from(["f2", "f4", "f8"]), st.sampled_from([(), (5,), (3, 4), (200, 40)]), st.data())
def test_it_is_found_wherever_it_stands_and_nothing_else_is_taken_for_it(dtype, shape, data):
    g = np.full(shape, data.draw(st.sampled_from([0.0, 1.0, float(np.finfo(dtype).max), -float(np.finfo(dtype).max)])))
    bad = data.draw(st.sampled_from([None, *BAD]))
    if bad is not None:
        g[np.unravel_index(data.draw(st.integers(0, g.size - 1)), shape)] = bad
    (p,) = leaves(np.ones(shape, dtype))
    optimizer = optim.SGD([p], lr=0.0, nonfinite="skip")
    p.grad = mg.tensor(g.astype(dtype))
    optimizer.step()
    assert optimizer.skipped_steps == (bad is not None)


def test_raised_it_names_the_parameters_and_changes_nothing():
    params = leaves(*gradients_for([(3,), (2, 2), (4,)]))
    params[1].name = "fc.weight"
    optimizer = optim.Adam([{"params": params[:1]}, {"params": params[1:]}], nonfinite="raise")
    before = values(params)
    g = [np.ones(3), np.array([[np.nan, 1], [np.nan, np.inf]]), np.ones(4)]
    words = r"Adam.step.*of 1 parameters.*parameter 0 of group 1 \(fc.weight\), shape \(2, 2\): 2 NaN, 1 infinite.*skip"
    with pytest.raises(FloatingPointError, match=words):
        run(optimizer, params, [g])
    assert not optimizer.state
    for a, b in zip(values(params), before, strict=True):
        np.testing.assert_array_equal(a, b)
    run(optimizer, params, [[np.ones(3), None, np.ones(4)]])
    assert optimizer.state[params[0]]["step"] == 1


def test_the_option_is_checked():
    with pytest.raises(ValueError, match=r"nonfinite='ignore'.*'pass', 'skip', 'raise'"):
        optim.SGD(leaves(np.ones(2)), nonfinite="ignore")


def test_on_a_device_raising_waits_once_for_all_gradients():
    with strict_backend.installed():
        params = [mg.ones(n, n, device="cuda", requires_grad=True) for n in (2, 3, 4)]
        optimizer = optim.Adam(params, nonfinite="raise")
        for p in params:
            p.grad = mg.ones(*p.shape, device="cuda")
        with strict_backend.counted() as counts:
            optimizer.step()
        assert counts.waits.total() == 1
        params[1].grad = mg.tensor(np.full((3, 3), np.nan, "f4"), device="cuda")
        with pytest.raises(FloatingPointError, match="9 NaN, 0 infinite"):
            optimizer.step()
        assert optimizer.state[params[0]]["step"] == 1
