"""Threads that compute at once: no gradient, random number or hook is lost, and none is seen twice.

The interpreter is made to switch threads a thousand times as often as it does by itself, so that a race shows.
"""

import sys
import threading

import numpy as np
import pytest

import minigrad as mg
from tests.support.makers import leaf

COUNT = 8


@pytest.fixture(autouse=True)
def switching_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(function, count=COUNT) -> list:
    """function(i) in threads that start together; their results, or the error of one."""
    results, errors, start = [None] * count, [], threading.Barrier(count)

    def run(i):
        try:
            start.wait(10)
            results[i] = function(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    return results


def test_backward_into_one_leaf_adds_every_gradient():
    w = leaf(1.0, 2.0)
    in_threads(lambda i: [(w * float(i)).sum().backward() for _ in range(150)])
    assert w.grad.tolist() == [150 * sum(range(COUNT))] * 2


def test_a_retained_gradient_in_the_middle_of_a_shared_graph_adds_every_gradient():
    x = leaf(1.0, 2.0)
    y = (x * 3).retain_grad()
    in_threads(lambda i: [(y * 2).sum().backward(retain_graph=True) for _ in range(100)])
    assert y.grad.tolist() == [2 * 100 * COUNT] * 2 and x.grad.tolist() == [6 * 100 * COUNT] * 2


DRAWS = {
    "rand": lambda: mg.rand(3),
    "randn": lambda: mg.randn(2, dtype="f8"),
    "randint": lambda: mg.randint(0, 2**40, (2,)),
    "randperm": lambda: mg.randperm(20),
    "dropout_mask": lambda: mg.dropout_mask(mg.ones(40), 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", range(3))
def test_threads_draw_the_numbers_of_one_stream_each_once(name, seed):
    draw = DRAWS[name]
    mg.manual_seed(seed)
    expected = [draw().tolist() for _ in range(3 * COUNT)]
    mg.manual_seed(seed)
    found = [x for part in in_threads(lambda i: [draw().tolist() for _ in range(3)]) for x in part]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("nested", [False, True])
def test_a_checkpoint_draws_again_what_it_drew_whatever_other_threads_drew(nested):
    def work(_):
        for _ in range(20):
            x, seen = mg.tensor(np.ones(20), requires_grad=True), []

            def f(x):
                factors = mg.dropout(mg.ones_like(x), 0.5) * mg.rand(20)
                seen.append(factors.tolist())  # noqa: B023
                return x * factors

            def outer(x):
                return f(x) + mg.checkpoint(f)(x)

            mg.checkpoint(outer if nested else f)(x * 1.0).sum().backward()
            first = 2 if nested else 1
            assert all(again in seen[:first] for again in seen)
            np.testing.assert_allclose(x.grad.numpy(), np.sum(seen[:first], axis=0))

    in_threads(work)


def test_hooks_registered_at_once_are_all_called():
    x, calls = leaf(1.0), []
    in_threads(lambda i: [x.register_hook(lambda g: calls.append(1)) for _ in range(50)])
    (x * 2).sum().backward()
    assert len(calls) == 50 * COUNT


def test_an_op_called_for_the_first_time_by_all_at_once(new_op):
    for _ in range(5):

        @new_op(kind="elementwise")
        def threefold(x):
            return 3 * x

        threefold.defvjp(x=lambda g: 3 * g)
        x = leaf(1.0, 2.0)
        in_threads(lambda i: threefold(x).sum().backward())  # noqa: B023
        assert x.grad.tolist() == [3 * COUNT] * 2


def test_writes_to_many_leaves_at_once_are_all_noticed():
    pairs = [(x, (x * x).sum()) for x in (leaf(1.0, 2.0) for _ in range(COUNT * 20))]
    in_threads(lambda i: [x.copy_([0.0, 0.0]) for x, _ in pairs[i::COUNT]])
    for _, y in pairs:
        with pytest.raises(mg.GradientError, match="changed in place"):
            y.backward()


@pytest.mark.parametrize("seed", ["a", None, 1.5, mg.ones(1), -1])
def test_a_seed_is_an_integer_of_at_least_0(seed):
    mg.manual_seed(5)
    expected = mg.rand(2).tolist()
    mg.manual_seed(np.int64(5))
    with pytest.raises((TypeError, ValueError), match="manual_seed: expected an integer of at least 0"):
        mg.manual_seed(seed)
    assert mg.rand(2).tolist() == expected
