"""The thread pool: every task once, errors come through, and BLAS gets its threads back."""

import os
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.backend import threads
from tests.support.kernel_cases import all_results, many, random_array

pytestmark = pytest.mark.usefixtures("path")


@many
@given(st.integers(0, 50), st.integers(1, 60))
def test_cut_covers_everything_once(count, size):
    pieces = threads.cut(count, size)
    assert [i for piece in pieces for i in range(count)[piece]] == list(range(count))
    assert all(0 < piece.stop - piece.start <= size for piece in pieces)


def test_parallel_does_every_task_once_on_several_threads(restore_threads):
    threads.set_num_threads(3)
    done, seen, both = [], set(), threading.Barrier(2, timeout=10)

    def task(number):
        if number < 2:
            both.wait()  # passes only if two threads work at the same time
        seen.add(threading.get_ident())
        done.append(number)

    threads.parallel(task, range(20))
    assert sorted(done) == list(range(20))
    assert len(seen) >= 2


def test_parallel_raises_the_error_of_a_task_and_stays_usable(restore_threads):
    threads.set_num_threads(2)

    def fail(number):
        if number >= 3:
            raise ZeroDivisionError(f"task {number}")

    with pytest.raises(ZeroDivisionError, match="task 3"):
        threads.parallel(fail, range(50))
    done = []
    threads.parallel(done.append, range(5))
    assert sorted(done) == list(range(5))


def test_parallel_inside_parallel_runs_inline(restore_threads):
    threads.set_num_threads(2)
    done = []

    def outer(number):
        here = threading.get_ident()
        threads.parallel(lambda inner: done.append((number, inner, threading.get_ident() == here)), range(3))

    threads.parallel(outer, range(4))
    assert sorted(done) == [(i, j, True) for i in range(4) for j in range(3)]


def test_an_idle_pool_keeps_no_arrays_alive(restore_threads):
    threads.set_num_threads(3)
    array = np.zeros(1000)
    alive = weakref.ref(array)

    def task(number, array=array):
        array.sum()

    threads.parallel(task, range(8))
    del array, task
    deadline = time.monotonic() + 10
    while alive() is not None and time.monotonic() < deadline:
        time.sleep(0.001)  # a worker that woke late may still be looking at the finished job
    assert alive() is None


def test_blas_has_its_threads_back_after_a_kernel_even_one_that_fails():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def counts():
        return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]

    before, inside = counts(), []
    with pytest.raises(KeyError), threads.single_threaded_blas():
        inside = counts()
        raise KeyError
    assert all(count == 1 for count in inside)
    assert counts() == before


def test_set_num_threads_refuses_less_than_one():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        threads.set_num_threads(0)


@pytest.mark.parametrize(
    "shapes",
    [
        ((300, 200), (200, 100)),  # on one thread
        ((20, 900), (900, 700)),  # by BLAS
        ((450, 400), (400, 500)),  # by our threads, by rows
        ((300, 400), (400, 600)),  # and by columns
        ((3, 4, 5), (5, 6)),
        ((7,), (7,)),
    ],
)
def test_matmul_is_numpys(shapes):
    a, b = (random_array(*shape, dtype=np.float64) for shape in shapes)
    np.testing.assert_allclose(threads.matmul(a, b), a @ b, rtol=1e-12, atol=1e-10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_pool_works_in_a_forked_child(restore_threads):
    threads.set_num_threads(2)
    expected = all_results()
    child = os.fork()
    if child == 0:  # no pytest in here: leave by os._exit whatever happens
        status = 1
        try:
            results = all_results()
            status = 0 if all(np.array_equal(results[name], expected[name]) for name in expected) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), (64, 784)),
    "cnn": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(864, 10)),
        ),
        (64, 1, 28, 28),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_training_is_the_same_to_the_bit_with_any_number_of_our_threads(name, restore_threads):
    def trained(count):
        threads.set_num_threads(count)
        mg.manual_seed(0)
        make, shape = MODELS[name]
        model, inputs, labels = make(), mg.randn(*shape), mg.randint(0, 10, shape[:1])
        optimizer = optim.Adam(model.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        return [value.numpy().copy() for value in model.state_dict().values()]

    expected = trained(1)
    for count in (2, 3):
        for found, value in zip(trained(count), expected, strict=True):
            np.testing.assert_array_equal(found, value)
