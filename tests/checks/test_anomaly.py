"""detect_anomaly: the first NaN or infinity is reported at the right op, argument and line, and nothing is left behind.

The table TROUBLES in anomaly_troubles.py is walked; what it cannot hold stands here.
"""

import contextlib
import gc
import inspect
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import GradientError, Tensor, autograd
from minigrad.autograd import forward, reverse
from minigrad.autograd.primitive import EVERY_OP, OPS, Binary, Primitive, Unary
from minigrad.checks import anomaly
from minigrad.checks.anomaly import AnomalyError, detect_anomaly
from tests.support import strict_backend
from tests.support.anomaly_troubles import TROUBLES, leaf
from tests.support.op_cases import CASES, SUBJECTS
from tests.support.strict_backend import traffic

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns too, of what we report


BACKWARD = [name for name, case in TROUBLES.items() if case.phase == "backward"]


@pytest.mark.parametrize("name", TROUBLES)
def test_the_error_names_op_phase_argument_and_line(name):
    TROUBLES[name].check()


@pytest.mark.parametrize("name", BACKWARD)
def test_a_recorded_backward_pass_is_watched_as_well(name):
    TROUBLES[name].check(create_graph=True)


@pytest.mark.parametrize("name", TROUBLES)
def test_outside_of_a_block_nothing_is_reported(name):
    TROUBLES[name].run()
    TROUBLES[name].run(create_graph=True)


# --- the test of the tests: an engine whose watching is broken fails the table ---


true_trouble, true_place = anomaly._not_finite, anomaly._Place
BREAK = {
    "nothing is found": ("_not_finite", lambda value: None),
    "infinities are not found": ("_not_finite", lambda value: "NaN" if true_trouble(value) == "NaN" else None),
    "infinities count as NaN": ("_not_finite", lambda value: true_trouble(value) and "NaN"),
    "every infinity is excused": ("_holding", lambda what, values: list(values)),
    "forwards are not watched": ("_watched_forward", lambda op, run: run),
    "backward passes are not watched": ("_WatchedPass", reverse._Pass),
    "pushes are not watched": ("_watched_push", forward.push_through),
    "places are not noted": ("_node_with_place", anomaly.Node),
    "places are a line off": ("_Place", lambda code, at, line, through: true_place(code, at, line + 1, through)),
    "minigrad's frames count as the user's": ("_NOT_THE_USERS", ()),
    "all arguments are the first": ("_argument_names", lambda op, count: [op.argument_names[0]] * count),
}


@pytest.mark.parametrize("name", BREAK)
def test_an_engine_that_is_watched_badly_is_found_out(name, monkeypatch):
    monkeypatch.setattr(anomaly, *BREAK[name])
    wrong = []
    for case in TROUBLES.values():
        try:
            case.check()
        except (AssertionError, pytest.fail.Exception) as error:
            wrong.append(error)
    assert wrong, f"although {name}, every case of the table passed"


# --- what is in no table: rules of all forms ---


def line_of(words: str) -> int:
    """The line of this file that ends in a comment of these words."""
    with open(__file__, encoding="utf-8") as lines:
        (found,) = [i for i, line in enumerate(lines, 1) if line.rstrip().endswith(f"# {words}")]
    return found


@pytest.mark.parametrize("guilty", ["a", "b"])
def test_of_two_arguments_that_are_one_tensor_the_right_one_is_named(new_op, guilty):
    @new_op(kind="elementwise")
    def both(a, b):
        return a + b

    both.defvjp(**{name: (lambda g: g * np.float32(np.nan)) if name == guilty else (lambda g: g) for name in "ab"})
    x = leaf(1.0)
    with pytest.raises(AnomalyError, match=f"its argument '{guilty}'"), detect_anomaly():
        both(x, x).backward()


@pytest.mark.parametrize("first", [True, False])
def test_an_in_place_rule_is_watched(new_op, first):
    @new_op
    def head(x):
        return x[:1].copy()

    def into(buffer, g, x):
        buffer[:1] += g / x[:1]
        return buffer

    head.defvjp(x=lambda g: NotImplemented)
    head.defvjp_into(x=into)
    x = leaf(0.0, 1.0)
    with pytest.raises(AnomalyError, match="head, backward: Inf") as caught, detect_anomaly():
        y = head(x)  # the call of an in-place rule
        (y if first else y + x[1:] * 3.0).backward(np.ones(1))
    assert caught.value.argument == "x" and caught.value.line == line_of("the call of an in-place rule")


def test_a_joint_rule_tells_its_arguments_apart(new_op):
    @new_op
    def joined(a, b, c):
        return a + b + c

    joined.defvjp_fused(lambda g: (g, g, g / 0.0))
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(AnomalyError, match="its argument 'c'"), detect_anomaly():
        joined(x, y, x).backward()


def test_what_a_rule_does_on_the_way_to_a_finite_gradient_is_its_own_affair(new_op):
    @new_op(kind="elementwise")
    def safe(x):
        return np.where(x > 0, np.log(x), 0.0).astype(x.dtype)

    safe.defvjp(x=lambda g, x: g * mg.where(x > 0, 1 / x, 0.0))
    for create_graph in (False, True):
        x = leaf(0.0, 2.0)
        with detect_anomaly():
            safe(x).backward(np.ones(2), create_graph=create_graph)
        np.testing.assert_array_equal(x.grad.detach().numpy(), [0, 0.5])


def test_a_forward_outside_of_the_block_leaves_the_line_unknown_and_says_why():
    y = mg.sqrt(leaf(0.0))
    with pytest.raises(AnomalyError, match=r"outside of a detect_anomaly\(\) block") as caught, detect_anomaly():
        y.backward()
    assert (caught.value.op, caught.value.argument, caught.value.line) == ("sqrt", "x", None)


def test_a_gradient_that_is_not_finite_to_start_from_is_found_in_the_first_rule():
    with pytest.raises(AnomalyError, match="incoming gradient held NaN already"), detect_anomaly():
        (leaf(1.0) * 2.0).backward(np.float32(np.nan))


# --- infinities ---


def test_an_infinity_is_reported_once_and_not_where_it_went_in():
    x = leaf(1.0, 2.0, 3.0)
    mask = np.array([True, False, True])
    with detect_anomaly():
        scores = mg.where(mask, x, -np.inf)
        loss = mg.logsumexp(mg.maximum(scores, mg.pad(x[:2], (0, 1), constant_values=-np.inf)) * 2.0)
        mg.softmax(scores).sum().backward(retain_graph=True)
        loss.backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", ["an_operator", "a_slope_that_is_infinite", "a_sum_over_uses"])
def test_infinities_are_let_pass_on_demand(name):
    with detect_anomaly(inf=False):
        TROUBLES[name].run()
        with pytest.raises(AnomalyError), detect_anomaly(inf=True):
            TROUBLES[name].run()
        TROUBLES[name].run()


@pytest.mark.parametrize("name", ["an_op_outside_of_its_domain", "a_branch_not_taken", "forward_mode"])
def test_nans_are_reported_all_the_same(name):
    if name == "forward_mode":
        with detect_anomaly(inf=False):
            return TROUBLES[name].run()  # its trouble is an infinity
    with pytest.raises(AnomalyError, match="NaN in"), detect_anomaly(inf=False):
        TROUBLES[name].run()


def test_results_without_gradients_are_not_looked_at():
    x = mg.tensor([np.nan, np.inf, 1.0])
    with detect_anomaly():
        assert mg.isnan(x).tolist() == [True, False, False]
        assert mg.isfinite(x).any() and (x > 0).any() and mg.argmax(mg.tensor([1, 2])).item() == 1


# --- everything else is as it was ---


def results_and_derivatives(key, call):
    """Values, gradients, recorded gradients and tangents of one call, as arrays."""
    subject, random = SUBJECTS[key], np.random.default_rng(5)
    tensors = [mg.tensor(x, requires_grad=True) for x in call.variables()]
    ys = call.with_variables(tensors)(subject)
    ys = [y for y in (ys if isinstance(ys, (list, tuple)) else [ys]) if y.requires_grad]
    vs = [random.standard_normal(y.shape) for y in ys]
    us = [random.standard_normal(x.shape) for x in tensors]
    found = [*ys, *mg.push(ys, tensors, us)]
    found += autograd.grad(ys, tensors, vs, create_graph=True, allow_unused=True)
    found += autograd.grad(ys, tensors, vs, allow_unused=True)
    return [None if t is None else t.detach().numpy() for t in found]


@pytest.mark.parametrize(
    "key", [pytest.param(k, id=".".join(k)) for k, case in CASES.items() if k in SUBJECTS and case.differentiable]
)
@settings(max_examples=max(settings.default.max_examples // 12, 2))
@given(st.data())
def test_every_op_is_watched_without_a_false_alarm_and_gives_the_same_bits(key, data):
    call = data.draw(CASES[key].calls)
    expected = results_and_derivatives(key, call)
    with detect_anomaly():
        found = results_and_derivatives(key, call)
    for there, here in zip(expected, found, strict=True):
        np.testing.assert_array_equal(here, there)


SMOOTH = [mg.sin, mg.tanh, mg.sigmoid, mg.square, lambda x: x * x, lambda x: x + 0.5 * mg.cos(x), lambda x: x.sum() * x]


@given(
    before=st.lists(st.sampled_from(SMOOTH), max_size=6),
    after=st.lists(st.sampled_from(SMOOTH), max_size=6),
    phase=st.sampled_from(["forward", "backward"]),
    create_graph=st.booleans(),
    bad=st.sampled_from([np.nan, np.inf]),
)
def test_a_poisoned_op_anywhere_in_a_chain_is_the_one_that_is_named(before, after, phase, create_graph, bad):
    poison = Primitive(lambda x: x * (bad if phase == "forward" else 1.0), kind="elementwise")
    poison.defvjp(x=lambda g: g * bad)
    poison.name = "poison"
    EVERY_OP.add(poison)
    x = leaf(0.3, -0.4, dtype="f8")
    with pytest.raises(AnomalyError) as caught, detect_anomaly():
        y = x
        for function in before:
            y = function(y)
        y = poison(y)  # the poisoned call
        for function in after:
            y = function(y)
        (y * np.array([1.0, 3.0])).sum().backward(create_graph=create_graph)
    assert (caught.value.op, caught.value.phase) == ("poison", phase)
    assert caught.value.line == line_of("the poisoned call")


# --- opening, closing, and what stays ---

PLAIN_PASS = reverse._Pass


def everything_in_the_engine() -> dict:
    """Every attribute of every op, class and module that an op or a pass goes through, by place."""
    modules = [inspect.getmodule(owner) for owner in (Primitive, autograd.backward, forward.push, Tensor, anomaly.Node)]
    classes = [Primitive, Unary, Binary, PLAIN_PASS, Tensor, anomaly.Node, *{type(op) for op in OPS.values()}]
    owners = [*modules, *classes, *OPS.values()]
    return {(id(owner), name): value for owner in owners for name, value in vars(owner).items()}


def assert_the_same(found: dict, expected: dict):
    changed = [place for place in expected.keys() | found.keys() if found.get(place) is not expected.get(place)]
    assert not changed, f"{len(changed)} attributes of the engine were not put back"


@pytest.fixture
def untouched():
    """Fails the test unless it leaves every attribute of the engine the object that it was."""
    mg.sin(leaf(1.0)).backward(create_graph=True)
    before = everything_in_the_engine()
    yield before
    assert_the_same(everything_in_the_engine(), before)


def test_a_block_exchanges_what_it_needs_and_puts_it_back(untouched):
    with detect_anomaly():
        inside = everything_in_the_engine()
        assert sum(inside[place] is not value for place, value in untouched.items()) == len(OPS) + 3
        with detect_anomaly(inf=False):
            assert_the_same(everything_in_the_engine(), inside)
        assert_the_same(everything_in_the_engine(), inside)


def test_an_exception_inside_closes_the_block(untouched):
    for name in ("an_operator", "a_joint_rule", "forward_mode", "an_op_in_a_hook"):
        TROUBLES[name].check()
        assert not anomaly._here.blocks and anomaly._here.inside is None
    with pytest.raises(ZeroDivisionError), detect_anomaly(), detect_anomaly():
        _ = 1 / 0


def test_after_a_report_the_block_goes_on_watching():
    with detect_anomaly():
        for name in ("an_operator", "a_joint_rule", "forward_mode", "an_operator", "a_joint_rule"):
            with pytest.raises(AnomalyError):
                TROUBLES[name].run()


def test_it_is_a_decorator_that_may_call_itself(untouched):
    @detect_anomaly(inf=False)
    def count_down(n):
        assert len(anomaly._here.blocks) == 4 - n
        return n and count_down(n - 1)

    count_down(3)

    @detect_anomaly()
    def bad():
        return leaf(1.0) / 0.0

    with pytest.raises(AnomalyError, match="divide"):
        bad()


def test_a_block_watches_its_own_thread_and_outlives_those_of_others(untouched):
    theirs_is_open, ours_is_done, seen = threading.Event(), threading.Event(), []

    def other():
        TROUBLES["an_operator"].run()  # while the main thread's block is open: not watched
        with detect_anomaly():
            theirs_is_open.set()
            ours_is_done.wait(5)
            try:
                TROUBLES["a_joint_rule"].run()
            except AnomalyError as error:
                seen.append(error.op)

    thread = threading.Thread(target=other)
    with detect_anomaly():
        thread.start()
        theirs_is_open.wait(5)
    TROUBLES["an_operator"].run()
    ours_is_done.set()
    thread.join()
    assert seen == ["batch_norm"]


def test_an_op_made_inside_of_a_block_is_watched_backward_at_once_and_forward_from_the_next_block_on(new_op):
    with detect_anomaly():

        @new_op(kind="elementwise")
        def late(x):
            return x / 0.0

        late.defvjp(x=lambda g: g / 0.0)
        unwatched = late.forward
        y = late(leaf(1.0))
        with pytest.raises(AnomalyError, match="late, backward"):
            y.backward()
        with pytest.raises(AnomalyError, match="late, forward"), detect_anomaly():
            late(leaf(1.0))
    assert late.forward is unwatched


class Watched(np.ndarray):
    """An array that can be watched."""


def test_graphs_and_arrays_are_freed_without_the_garbage_collector(monkeypatch):
    # An op's first call refuses results that are no plain array, as `Watched` is.
    monkeypatch.setattr("minigrad.autograd.primitive.check_result", lambda op, out: None)
    gc.collect()
    gc.disable()
    try:
        noted = len(anomaly._places)
        with detect_anomaly():
            x, factor = leaf(1.0, 2.0, 3.0, dtype="f8"), Tensor(np.ones(3))
            factor.replace_data(np.ones(3).view(Watched))
            watch = weakref.ref(factor.data)
            y = mg.exp(x * factor).sum()
            assert len(anomaly._places) == noted + 3
            y.backward(create_graph=True)
            x.grad = None
            del factor
            assert watch() is not None
            del y
            assert watch() is None and len(anomaly._places) == noted
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "name", ["an_operator", "a_layer_in_a_model", "a_joint_rule", "a_sum_over_uses", "forward_mode"]
)
def test_a_report_leaves_nothing_for_the_garbage_collector(name):
    def report():
        with contextlib.suppress(AnomalyError), detect_anomaly():
            TROUBLES[name].run()
            pytest.fail("no report")

    report()
    gc.collect()
    gc.disable()
    try:
        noted = len(anomaly._places)
        report()
        assert len(anomaly._places) == noted
        assert gc.collect() == 0, "objects that only the garbage collector could free"
    finally:
        gc.enable()


def test_a_long_chain_is_walked_and_freed_without_recursion():
    gc.collect()
    x = y = leaf(1.0)
    noted = len(anomaly._places)
    with detect_anomaly():
        for _ in range(20_000):
            y = y + 1.0
        y.backward()
    assert x.grad.item() == 1
    del y
    assert len(anomaly._places) == noted


# --- on a device ---


def test_on_a_device_one_number_is_fetched_for_each_array_looked_at():
    with strict_backend.installed():
        x = mg.tensor(np.ones((3, 2)), device="cuda", requires_grad=True)
        with detect_anomaly():
            traffic.clear()
            y = mg.tanh(x * 2.0).sum()
            assert traffic == {"bool": 3}
            y.backward()
            assert traffic == {"bool": 6}


@pytest.mark.parametrize(
    "name", ["an_operator", "a_slope_that_is_infinite", "one_of_many_operands", "a_module_of_the_users_own"]
)
def test_errors_on_a_device_say_the_same(name, monkeypatch):
    here = TROUBLES[name].check()
    make = mg.tensor
    with strict_backend.installed():
        monkeypatch.setattr(mg, "tensor", lambda data, **options: make(data, device="cuda", **options))
        there = TROUBLES[name].check()
    assert there == here


# --- writes that the engine cannot see ---

HIDDEN_WRITES = {
    "a part of data": lambda x, array: x.data.__setitem__(0, 9.0),
    "all of data": lambda x, array: x.data.fill(9.0),
    "a view of data": lambda x, array: x.T.data.__setitem__(0, 9.0),
    "the source of from_numpy": lambda x, array: array.__setitem__(0, 9.0),
}


@pytest.mark.parametrize("name", HIDDEN_WRITES)
@pytest.mark.parametrize("derive", [lambda y, x: y.backward(), lambda y, x: mg.push(y, x, np.ones(2))])
def test_a_write_past_the_engine_is_found_and_named(name, derive):
    def run():
        array = np.array([3.0, 4.0])
        x, shared = leaf(1.0, 2.0), mg.from_numpy(array)
        y = (x * shared * x).sum()
        HIDDEN_WRITES[name](x, array)
        derive(y, x)

    run()  # unseen elsewhere, as documented
    words = r"multiply: its saved '[ab]' was written to[\s\S]*test_anomaly"
    with pytest.raises(GradientError, match=words), detect_anomaly():
        run()


def test_a_write_that_the_engine_sees_is_its_own_error_in_a_block_too():
    with pytest.raises(GradientError, match="changed in place"), detect_anomaly():
        x = leaf(1.0, 2.0)
        y = (x * x).sum()
        x.copy_([0.0, 0.0])
        y.backward()
