"""Every optimizer, with all its options, against the formulas of the papers.

Claimed: 200 steps in float64 follow a few lines of NumPy to 1e-12; so do steps for any mix of shapes, dtypes, memory
layouts and missing gradients, on a device without waiting for it, and with any number of threads; and a run saved and
restored, in a file or as JSON, goes on bit by bit.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import optim
from minigrad.backend import threads
from minigrad.optim import optimizer as walk
from tests.support import strict_backend
from tests.support.optim_makers import (
    LAYOUTS,
    SHAPES,
    assert_close,
    check_against_the_formula,
    check_on_cuda,
    check_restored_runs,
    check_that_a_step_does_not_wait,
    check_threads_and_blocks,
    leaves,
    run,
    values,
)
from tests.support.optim_zoo import CASES, ELEMENTWISE, ZOO, by_formula, combinations, shapes_for


def random_arrays(shapes, rows, seed=0):
    """Parameters, and as many rows of gradients."""
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal(shape) for shape in shapes]
    return start, [[rng.standard_normal(shape) for shape in shapes] for _ in range(rows)]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_200_steps_in_float64_follow_the_formula(name, options):
    start, gradients = random_arrays(shapes_for(name, (), (4,), (3, 5), (6, 2)), 200)
    gradients[0][-1] = gradients[7][0] = None
    params = leaves(*start)
    run(getattr(optim, name)(params, lr=0.01, **options), params, gradients)
    assert_close(values(params), by_formula(name, {"lr": 0.01, **options}, start, gradients), 1e-12)


@pytest.mark.parametrize("name", ZOO)
def test_defaults_are_those_that_the_formula_was_written_with(name):
    start, gradients = random_arrays(shapes_for(name, (4,), (3, 5)), 20)
    params = leaves(*start)
    run(getattr(optim, name)(params), params, gradients)
    assert_close(values(params), by_formula(name, {}, start, gradients), 1e-12)


# --- however the parameters lie in memory ---


@st.composite
def situations(draw):
    name = draw(st.sampled_from(sorted(ZOO)))
    options = {"lr": 0.05, **draw(st.sampled_from(list(combinations(name))))}
    shapes = shapes_for(name, *draw(st.lists(st.sampled_from(SHAPES), max_size=5)), (4, 3))
    # In float32 the sign of a number that is all but 0 may be another, and what Muon does to small singular values
    # multiplies their error by a thousand.
    kinds = ["f8"] if name in ("Lion", "Muon") else ["f4", "f8"]
    dtypes = [draw(st.sampled_from(kinds)) for _ in shapes]
    layouts = [draw(st.sampled_from(sorted(LAYOUTS))) for _ in shapes]
    row = st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes))
    return name, options, shapes, dtypes, layouts, draw(st.lists(row, min_size=1, max_size=5)), draw(st.integers(0))


@given(situations())
@settings(max_examples=150)
def test_steps_follow_the_formulas_for_any_mix_of_shapes_dtypes_layouts_and_missing_gradients(situation):
    check_against_the_formula(situation, by_formula, {"f4": 5e-5, "f8": 1e-12})


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_threads_and_blocks_leave_no_trace_in_the_result(name, monkeypatch):
    options = list(combinations(name))[-1]
    start, gradients = random_arrays([(70, 300), (40,), (30000,)], 3)
    divisions = [(1, walk.CHUNK, 1), (3, 5000, 1), (3, 10**9, 10**9)]
    check_threads_and_blocks(name, options, start, gradients, divisions, monkeypatch)


# --- on a device ---


def assert_follows_the_formulas_on_cuda(name, options):
    start, gradients = random_arrays(shapes_for(name, (3, 4), (5,), (), (100, 60)), 4)
    check_on_cuda(name, options, by_formula, start, gradients)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_steps_follow_the_formulas_on_a_strict_device_without_waiting_for_it(name, options):
    with strict_backend.installed():
        assert_follows_the_formulas_on_cuda(name, options)
        check_that_a_step_does_not_wait(name, options, steps_before=1)


@pytest.mark.skipif(not mg.cuda_is_available(), reason="no CuPy with a GPU here")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_fused_kernels_follow_the_formulas(name, options):
    assert_follows_the_formulas_on_cuda(name, options)


# --- saved and restored ---


def as_json(state):
    """There and back again, with arrays as lists of numbers."""

    def plain(value):
        return {"array": value.tolist(), "dtype": str(value.dtype)} if isinstance(value, mg.Tensor) else value

    def arrays(entry):
        return mg.tensor(entry["array"], dtype=entry["dtype"]) if "array" in entry else entry

    return json.loads(json.dumps(state, default=plain), object_hook=arrays)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_saved_and_restored_goes_on_bit_by_bit(name, options, tmp_path):
    start, gradients = random_arrays(shapes_for(name, (3, 4), (), (80, 70), (6,), (2, 2)), 9)
    start = [a.astype("f4") for a in start]
    gradients = [[g.astype("f4") for g in row] for row in gradients]
    gradients[1][-1] = None  # so that the parameters have taken different numbers of steps

    check_restored_runs(name, options, start, gradients, tmp_path / "state.safetensors", as_json)


@pytest.mark.parametrize("name", ZOO)
def test_a_parameter_without_a_gradient_is_left_alone_and_begins_when_it_has_one(name):
    start, gradients = random_arrays([(3, 2), (3, 2)], 6)
    params = leaves(*start)
    optimizer = getattr(optim, name)(params, lr=0.1, weight_decay=0.1)
    run(optimizer, params, [[g, None] for g, _ in gradients[:3]])
    np.testing.assert_array_equal(params[1].detach().numpy(), start[1])
    assert params[1] not in optimizer.state
    run(optimizer, params, [[None, g] for _, g in gradients[3:]])
    alone = leaves(start[1])
    run(getattr(optim, name)(alone, lr=0.1, weight_decay=0.1), alone, [[g] for _, g in gradients[3:]])
    np.testing.assert_array_equal(params[1].detach().numpy(), alone[0].detach().numpy())


# --- what is refused ---

BAD_OPTIONS = [
    ("Adagrad", {"lr_decay": -1}, ValueError, "lr_decay=-1.*0 or more"),
    ("Adagrad", {"initial_accumulator_value": -0.1}, ValueError, "initial_accumulator_value"),
    ("Adagrad", {"eps_inside_sqrt": 1}, TypeError, "eps_inside_sqrt must be True or False"),
    ("Adadelta", {"rho": 1.5}, ValueError, "rho=1.5.*0 to 1"),
    ("Adadelta", {"eps": float("nan")}, ValueError, "eps"),
    ("RMSprop", {"alpha": -0.1}, ValueError, "alpha"),
    ("RMSprop", {"centered": "yes"}, TypeError, "centered"),
    ("RMSprop", {"nesterov": True}, ValueError, "nesterov=True with momentum=0"),
    ("Adam", {"bias_correction": 0}, TypeError, "bias_correction"),
    ("Adamax", {"betas": (0.9, 1)}, ValueError, r"Adamax: betas\[1\]"),
    ("NAdam", {"momentum_decay": -1}, ValueError, "NAdam: momentum_decay"),
    ("RAdam", {"decoupled_weight_decay": None}, TypeError, "RAdam: decoupled_weight_decay"),
    ("Lion", {"betas": 0.9}, TypeError, "Lion: betas must be a pair"),
    ("HeavyBall", {"momentum": -0.5}, ValueError, "HeavyBall: momentum"),
    ("Nesterov", {"look_ahead": 1}, TypeError, "Nesterov: look_ahead"),
    ("NAGC", {"lr": "fast"}, TypeError, "NAGC: lr must be a number"),
    ("NAGSC", {"lr": 0.1, "strong_convexity": 11}, ValueError, "strong_convexity=11.*at most 1 / lr = 10"),
    ("Muon", {"momentum": 1.1}, ValueError, "Muon: momentum=1.1"),
    ("Muon", {"ns_steps": 100}, ValueError, "ns_steps=100; expected from 1 to 99"),
    ("Muon", {"ns_steps": 2.0}, TypeError, "ns_steps must be an int"),
    ("Muon", {"ns_coefficients": (1, 2)}, TypeError, "three numbers"),
    ("Muon", {"adjust_lr_fn": "adam"}, ValueError, "adjust_lr_fn='adam'.*'original', 'match_rms_adamw'"),
]


@pytest.mark.parametrize(("name", "options", "kind", "words"), BAD_OPTIONS)
def test_options_that_make_no_sense_are_refused_by_name_in_the_constructor_and_in_groups(name, options, kind, words):
    (p,) = leaves(np.ones((2, 2)))
    with pytest.raises(kind, match=words):
        getattr(optim, name)([p], **options)
    with pytest.raises(kind, match=words):
        getattr(optim, name)([{"params": [p], **options}])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 3, 3)])
def test_muon_refuses_what_is_no_matrix(shape):
    with pytest.raises(ValueError, match=r"expected matrices.*AdamW"):
        optim.Muon(leaves(np.ones((2, 2)), np.ones(shape)))


def test_a_state_of_an_older_version_that_lacks_the_options_of_our_own_is_loaded_and_leaves_them_as_they_are():
    (p,) = leaves(np.ones(2))
    optimizer = optim.Adam([p], eps_inside_sqrt=True)
    run(optimizer, [p], [[np.ones(2)]])
    state = optimizer.state_dict()
    for option in ("bias_correction", "eps_inside_sqrt", "decoupled_weight_decay"):
        del state["param_groups"][0][option]
    other = optim.Adam([p], eps_inside_sqrt=True, bias_correction=False)
    other.load_state_dict(state)
    assert other.param_groups[0]["eps_inside_sqrt"] and not other.param_groups[0]["bias_correction"]
    del state["param_groups"][0]["eps"]
    with pytest.raises(ValueError, match="lacks eps"):
        other.load_state_dict(state)


@pytest.mark.parametrize("count", [1, 3])
def test_muon_shares_many_matrices_out_among_threads(count):
    start, gradients = random_arrays([(30, 20), (5, 60), (40, 40), (3, 3), (64, 2)], 4)
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(count)
        params = leaves(*start)
        run(optim.Muon(params, lr=0.1), params, gradients)
    finally:
        threads.set_num_threads(before)
    assert_close(values(params), by_formula("Muon", {"lr": 0.1}, start, gradients), 1e-12)


def test_muon_takes_matrices_without_rows_and_without_gradient():
    params = leaves(np.ones((0, 3)), np.ones((2, 2)))
    run(optim.Muon(params, lr=0.1, weight_decay=0), params, [[np.ones((0, 3)), np.zeros((2, 2))]] * 2)
    np.testing.assert_array_equal(values(params)[1], np.ones((2, 2)))
