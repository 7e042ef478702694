"""A context manager as a decorator holds where the decorated code runs, and nowhere else."""

import asyncio
import functools
import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad.checks import anomaly


def watching() -> bool:
    """Whether a detect_anomaly block is open in this thread."""
    return bool(anomaly._here.blocks)


SWITCHES = {
    "no_grad()": (mg.no_grad(), lambda: not mg.is_grad_enabled()),
    "no_grad": (mg.no_grad, lambda: not mg.is_grad_enabled()),
    "set_grad_enabled(False)": (mg.set_grad_enabled(False), lambda: not mg.is_grad_enabled()),
    "detect_anomaly()": (mg.detect_anomaly(), watching),
}


@pytest.fixture(params=SWITCHES)
def switch(request):
    """(a decorator, a function that says whether its context is open); nothing may be left open."""
    decorator, is_on = SWITCHES[request.param]
    yield decorator, is_on
    assert not is_on()


def test_a_function(switch):
    decorate, is_on = switch

    @decorate
    def f(x, *, y=2):
        """Its docstring."""
        return is_on(), x, y

    assert f(1, y=3) == (True, 1, 3) and f.__name__ == "f" and f.__doc__ == "Its docstring."


def test_a_generator_is_inside_at_each_step_and_its_caller_is_not(switch):
    decorate, is_on = switch
    seen = []

    @decorate
    def steps():
        seen.append(is_on())
        try:
            got = yield "first"
            seen.append(is_on())
            try:
                yield got
            except KeyError:
                seen.append(is_on())
                yield "caught"
        finally:
            seen.append(is_on())
        return "done"

    made = steps()
    assert next(made) == "first" and not is_on()
    assert made.send("sent") == "sent" and not is_on()
    assert made.throw(KeyError()) == "caught" and not is_on()
    with pytest.raises(StopIteration) as end:
        next(made)
    assert end.value.value == "done" and seen == [True] * 4 and inspect.isgeneratorfunction(steps)


def test_a_generator_that_is_closed_or_fails_leaves_nothing_open(switch):
    decorate, is_on = switch
    seen = []

    @decorate
    def steps():
        try:
            yield 1
            raise ValueError("inside")
        finally:
            seen.append(is_on())

    closed, failing = steps(), steps()
    next(closed), next(failing)
    closed.close()
    with pytest.raises(ValueError, match="inside"):
        next(failing)
    assert seen == [True, True] and not is_on()
    unused = steps()
    unused.close()
    assert len(seen) == 2


def test_generators_of_two_modes_taken_in_turn_do_not_mix():
    def modes():
        for _ in range(3):
            yield mg.is_grad_enabled()

    off, on = mg.no_grad(modes)(), mg.enable_grad(modes)()
    with mg.no_grad():
        assert [*zip(off, on, strict=True)] == [(False, True)] * 3 and not mg.is_grad_enabled()


def test_a_generator_is_delegated_to(switch):
    decorate, is_on = switch

    @decorate
    def inner():
        yield is_on()
        return 5

    def outer():
        found = yield from inner()
        yield found, is_on()

    assert [*outer()] == [True, (5, False)]


def test_a_coroutine(switch):
    decorate, is_on = switch
    seen = []

    @decorate
    async def work(name):
        for _ in range(3):
            seen.append(is_on())
            await asyncio.sleep(0)
        return name

    async def main():
        tasks = [asyncio.create_task(work(name)) for name in "ab"]
        for _ in range(4):
            seen.append(not is_on())
            await asyncio.sleep(0)
        return [await task for task in tasks]

    assert asyncio.run(main()) == ["a", "b"] and all(seen) and len(seen) == 10
    assert inspect.iscoroutinefunction(work)


def test_a_coroutine_that_fails_or_is_cancelled(switch):
    decorate, is_on = switch
    seen = []

    @decorate
    async def work():
        try:
            await asyncio.sleep(10)
        finally:
            seen.append(is_on())

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return is_on()

    assert asyncio.run(main()) is False and seen == [True]


def test_an_asynchronous_generator(switch):
    decorate, is_on = switch
    seen = []

    @decorate
    async def steps():
        try:
            for i in range(3):
                await asyncio.sleep(0)
                seen.append(is_on())
                try:
                    seen.append((yield i) or True)
                except KeyError:
                    seen.append(is_on())
        finally:
            seen.append(is_on())

    async def main():
        assert [i async for i in steps()] == [0, 1, 2]
        made = steps()
        assert await made.asend(None) == 0 and not is_on()
        assert await made.asend("sent") == 1
        assert await made.athrow(KeyError()) == 2
        await made.aclose()
        return is_on()

    assert asyncio.run(main()) is False and all(seen) and "sent" in seen
    assert inspect.isasyncgenfunction(steps)


def test_methods_partials_and_callable_objects(switch):
    decorate, is_on = switch

    class Thing:
        @decorate
        def method(self):
            return self, is_on()

        @decorate
        @staticmethod
        def static(x):
            return x, is_on()

        @decorate
        @classmethod
        def of_class(cls):
            yield cls, is_on()

        @property
        @decorate
        def value(self):
            return is_on()

        def __call__(self):
            yield is_on()

    thing = Thing()
    assert thing.method() == (thing, True) and Thing.static(1) == (1, True) and thing.value
    assert [*Thing.of_class()] == [(Thing, True)]
    assert decorate(functools.partial(Thing.static, 2))() == (2, True)
    assert [*decorate(Thing())()] == [True]


@pytest.mark.parametrize("target", [type("Model", (), {}), property(lambda self: 1), 3])
def test_classes_and_what_cannot_be_called_are_refused(target):
    for decorate in (mg.no_grad(), mg.enable_grad(), mg.detect_anomaly()):
        with pytest.raises(TypeError, match=r"as a decorator: expected a function.*methods"):
            decorate(target)


def test_set_grad_enabled_without_its_argument_is_refused():
    with pytest.raises(TypeError, match=r"@set_grad_enabled\(True\)"):

        @mg.set_grad_enabled
        def f():
            pass


def test_what_a_generator_computes_has_no_graph():
    x = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.no_grad()
    def halves(x):
        while True:
            x = x / 2
            yield x

    for y, _ in zip(halves(x), range(3), strict=False):
        assert not y.requires_grad and (x * 2).requires_grad
    np.testing.assert_array_equal(y.numpy(), [1 / 8, 1 / 4])
