"""Optimizers on a GPU, executed on the CPU, against the same optimizers on the host.

Claimed: every formula gives the host's numbers to the bit in float32 and float64, whatever the sizes, the memory order
and the dtype of gradients; and a step is one launch for as many parameters as arguments have room for.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.backend.gpu import replay
from minigrad.backend.gpu.many_tensors import layout
from minigrad.optim import optimizer as steps
from tests.support import strict_backend
from tests.support.cuda import compiling
from tests.support.optim_zoo import ELEMENTWISE, combinations

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(3, 4), (), (1025,), (0, 2), (2, 3, 2, 2), (40, 60), (1, 1)]


def some(name):
    """Three of an optimizer's combinations of options, far from each other."""
    found = list(combinations(name))
    return found[:: max(1, len(found) // 2)]


CASES = [pytest.param(name, options, id=f"{name} {options}") for name in ELEMENTWISE for options in some(name)]


def trained(name, options, device, dtype="f4", count=20, shapes=SHAPES, before_step=None):
    """Parameters after some steps with gradients that do not depend on anything, and the optimizer."""
    rng = np.random.default_rng(0)
    params = [mg.tensor(np.asarray(rng.standard_normal(s), dtype), device=device, requires_grad=True) for s in shapes]
    optimizer = getattr(optim, name)(params, **options)
    for step in range(count):
        for p in params:
            p.grad = mg.tensor(np.asarray(rng.standard_normal(p.shape), dtype), device=device)
        if before_step:
            before_step(step, optimizer)
        optimizer.step()
    return params, optimizer


def assert_same(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_twenty_steps_give_the_numbers_of_the_host(name, options, monkeypatch):
    monkeypatch.setattr(compiling, "order", len(str(options)) % 3 * 7)
    expected, theirs = trained(name, options, "cpu")
    with strict_backend.installed():
        compiling.launches.clear()
        found, ours = trained(name, options, "cuda")
        assert [kernel for kernel, *_ in compiling.launches] == ["update"] * 20
        assert_same(found, expected)
        for p, q in zip(found, expected, strict=True):
            mine, others = ours.state[p], theirs.state[q]
            assert mine.keys() == others.keys()
            for key, value in others.items():
                is_buffer = hasattr(mine[key], "host")
                np.testing.assert_array_equal(mine[key].host if is_buffer else mine[key], value)


def test_a_step_neither_waits_nor_uploads_and_launches_once():
    with strict_backend.installed():
        params, optimizer = trained("Adam", {"amsgrad": True}, "cuda", count=1)
        with strict_backend.counted() as counts:
            optimizer.step()
    assert dict(counts.launches) == {"update": 1} and not counts.waits and not counts.uploads
    assert len(params) == len(SHAPES)


def test_more_parameters_than_arguments_have_room_for_take_more_launches():
    room = layout(4)["size"].shape[0]
    shapes = [(1 + i % 5,) for i in range(2 * room + 1)]
    expected, _ = trained("Adam", {}, "cpu", count=3, shapes=shapes)
    with strict_backend.installed():
        compiling.launches.clear()
        found, _ = trained("Adam", {}, "cuda", count=3, shapes=shapes)
        assert len(compiling.launches) == 3 * 3
        assert_same(found, expected)


def test_a_schedule_and_groups_with_options_of_their_own():
    def change(step, optimizer):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)

    expected, _ = trained("AdamW", {}, "cpu", before_step=change)
    with strict_backend.installed():
        found, _ = trained("AdamW", {}, "cuda", before_step=change)
        assert_same(found, expected)


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_dtypes(dtype):
    options = {"lr": 0.01, "momentum": 0.9}
    expected, _ = trained("SGD", options, "cpu", dtype)
    with strict_backend.installed():
        found, _ = trained("SGD", options, "cuda", dtype)
        # In float16 the host rounds after each operation, the kernel once a step: 20 roundings of numbers up to 4.
        for p, q in zip(found, expected, strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=0, atol=20 * 4 * 2**-11 if dtype == "f2" else 0)


def test_gradients_of_another_memory_order_or_dtype_are_copied_by_one_launch_each():
    a, g = (np.random.default_rng(seed).standard_normal((4, 3, 5, 2)).astype("f4") for seed in (0, 1))
    with strict_backend.installed():
        p = mg.tensor(a, device="cuda", requires_grad=True)
        optimizer = optim.Adam([p])
        last = mg.tensor(np.ascontiguousarray(np.moveaxis(g, 1, -1)), device="cuda")
        for gradient, copies in ((last.data.transpose(0, 3, 1, 2), 1), (mg.tensor(g, device="cuda").data, 0)):
            p.grad = mg.Tensor(gradient)
            optimizer.step()
            with strict_backend.counted() as counts:
                optimizer.step()
            assert counts.total == 1 + copies and counts.launches["update"] == 1
        found = p.numpy()
    q = mg.tensor(a, requires_grad=True)
    other = optim.Adam([q])
    for _ in range(4):
        q.grad = mg.tensor(g)
        other.step()
    np.testing.assert_array_equal(found, q.numpy())


def test_parameters_that_lie_channels_last():
    a, g = (np.random.default_rng(seed).standard_normal((4, 5, 2, 3)).astype("f4") for seed in (0, 1))
    with strict_backend.installed():
        p = mg.Tensor(mg.tensor(a, device="cuda").data.transpose(0, 3, 1, 2)).requires_grad_()
        optimizer = optim.Adam([p])
        p.grad = mg.Tensor(mg.tensor(g, device="cuda").data.transpose(0, 3, 1, 2))
        optimizer.step()
        with strict_backend.counted() as counts:
            optimizer.step()
        assert counts.total == 1
        found = p.numpy()
    q = mg.tensor(np.moveaxis(a, -1, 1), requires_grad=True)
    q.grad, other = mg.tensor(np.moveaxis(g, -1, 1)), optim.Adam([q])
    other.step()
    other.step()
    np.testing.assert_array_equal(found, q.numpy())


class Recording:
    """In the place of a capture: `replay` hands out arrays, and fills them before each of the replays."""

    def __init__(self, monkeypatch):
        self.making = []
        monkeypatch.setattr(steps, "changing", self.changing)
        for module in (steps, replay):
            monkeypatch.setattr(module, "is_recording", lambda: True)

    def changing(self, like, make, form, holds):
        array = strict_backend.StrictArray(np.zeros_like(form))
        self.making.append((make, array))
        assert holds()
        return array

    def fill(self):
        """What a replay begins with."""
        for make, array in self.making:
            array.host[...] = make()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_captured_step_follows_schedules_and_counts(name, monkeypatch):
    """What was launched while the step was recorded is launched again, with the numbers of each replay."""

    def change(step, optimizer):
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)

    shapes = [(3, 4), (1025,)]
    expected, _ = trained(name, {"lr": 0.01}, "cpu", count=12, shapes=shapes, before_step=change)
    with strict_backend.installed():
        found, optimizer = trained(name, {"lr": 0.01}, "cuda", count=2, shapes=shapes, before_step=change)
        recording, launched = Recording(monkeypatch), []
        monkeypatch.setattr(compiling.RawKernel, "__call__", lambda *call, **options: launched.append((call, options)))
        rng = np.random.default_rng(0)
        for shape in 3 * shapes:  # what `trained` has drawn
            rng.standard_normal(shape)
        change(2, optimizer)
        gradients = [p.grad.data for p in found]
        optimizer.step()
        monkeypatch.undo()
        for step in range(2, 12):
            change(step, optimizer)
            for g in gradients:
                g.host[...] = rng.standard_normal(g.shape)
            recording.fill()
            for (kernel, *args), options in launched:
                kernel(*args, **options)
        assert_same(found, expected)
        assert optimizer.state[found[0]]["step"] == 12


def test_what_cannot_be_captured_says_so(monkeypatch):
    with strict_backend.installed():
        p = mg.ones(3, 4, device="cuda", requires_grad=True)
        p.grad = mg.ones(3, 4, device="cuda")
        optimizer = optim.Muon([p])
        optimizer.step()
        Recording(monkeypatch)
        with pytest.raises(
            RuntimeError, match=r"Muon\.step of whole arrays.*takes numbers from the host and cannot be captured"
        ):
            optimizer.step()
    assert replay.changing(p.data, lambda: np.zeros(1), np.zeros(1)) is None
