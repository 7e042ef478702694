"""What is done to all gradients in one launch, executed on the CPU against NumPy.

Looking for NaN and infinities, clipping, taking out a loss's scale, and changing it. What optimizers make of a verdict
is in test_nonfinite.py.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.backend.gpu import gradients as on_device
from minigrad.backend.gpu.many_tensors import batches, launch
from tests.support import strict_backend
from tests.support.cuda import compiling, guarding
from tests.support.strict_backend import StrictArray

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_one_number_is_found_wherever_it_stands(dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    largest = np.finfo(dtype).max
    with strict_backend.installed():
        arrays = [mg.tensor(np.full(s, largest, dtype), device="cuda").data for s in [(1024,), (0,), (2, 1025), (3,)]]
        verdict, skipped = on_device.new_verdict(arrays[0]), 0
        for array, place in ((None, 0), (0, 0), (0, 1023), (2, 0), (2, 1024), (2, 2049), (3, 2)):
            for bad in (np.nan, np.inf, -np.inf) if array is not None else (1,):
                if array is not None:
                    arrays[array].host.flat[place] = bad
                on_device.look_for_nonfinite(arrays, verdict)
                skipped += array is not None
                assert verdict.host.tolist() == [array is not None, skipped, 0]
                if array is not None:
                    arrays[array].host.flat[place] = -largest


def test_the_last_block_hears_of_what_every_thread_has_found(monkeypatch):
    """In many orders: that a block counts itself before all its threads have looked shows in few of them."""
    with strict_backend.installed():
        array = mg.ones(2048, device="cuda").data
        for order in range(3, 403, 2):
            monkeypatch.setattr(compiling, "order", order)
            place, verdict = 1024 + 77 * order % 1024, on_device.new_verdict(array)
            array.host[place] = np.nan
            on_device.look_for_nonfinite([array], verdict)
            assert verdict.host.tolist() == [1, 1, 0], f"order {order}"
            array.host[place] = 1


@pytest.mark.parametrize("known", [[0, 5, 0], [1, 0, 0]])
@pytest.mark.parametrize("bad", [False, True])
def test_a_verdict_that_was_passed_before_counts_too(bad, known):
    with strict_backend.installed():
        array = mg.tensor(np.array([1, np.nan if bad else 2], "f4"), device="cuda").data
        verdict, before = mg.tensor([0, 3, 0], dtype="int32", device="cuda").data, np.array(known, "i4")
        on_device.look_for_nonfinite([array], verdict, mg.tensor(before, device="cuda").data)
        skip = int(bad or known[0])
        assert verdict.host.tolist() == [skip, 3 + skip, 0]


def test_only_the_gradients_are_looked_at():
    """And not what a kernel that writes would write to."""
    with strict_backend.installed():
        given, others = ([mg.tensor(np.full(3, n, "f4"), device="cuda").data] for n in (2, np.nan))
        [batch] = batches(on_device.TENSORS, [given, others])
        verdict, counter = on_device.new_verdict(given[0]), mg.zeros(1, device="cuda").astype("uint32").data
        parts, result = mg.zeros(1, device="cuda", dtype="float64").data, mg.zeros(1, device="cuda").data
        final = np.bool_(True)
        launch(on_device.FILE, "look_for_nonfinite", on_device.DEFINES, given[0], batch, None, final, verdict, counter)
        launch(
            on_device.FILE, "norm_of_all", on_device.DEFINES, given[0], batch,
            np.int32(0), final, parts, counter, result,
        )  # fmt: skip
        assert verdict.host[0] == 0 and result.host[0] == np.float32(np.sqrt(12))


def test_many_gradients_of_several_dtypes_take_a_launch_for_as_many_as_arguments_have_room_for():
    room = on_device.TENSORS["size"].shape[0]
    with strict_backend.installed():
        arrays = [mg.ones(3, device="cuda", dtype="float64" if i == 5 else "float32").data for i in range(room + 2)]
        verdict = on_device.new_verdict(arrays[0])
        for bad in (0, 5, room + 1):
            arrays[bad].host[1] = np.nan
            with strict_backend.counted() as counts:
                on_device.look_for_nonfinite(arrays, verdict)
            assert counts.total == 3 if room + 1 > room else 2
            assert verdict.host[0] == 1
            arrays[bad].host[1] = 1
        on_device.look_for_nonfinite(arrays, verdict)
        assert verdict.host.tolist() == [0, 3, 0]


# --- clipping ---


def gradients(device, dtype, scale):
    rng = np.random.default_rng(3)
    params = [mg.zeros(*s, device=device, dtype=dtype, requires_grad=True) for s in [(3, 4), (2500,), (0,), (1,)]]
    for p in params:
        p.grad = mg.tensor((rng.standard_normal(p.shape) * scale).astype(dtype), device=device)
    return params


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 0.0])
def test_clipping_by_the_norm(scale, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    with strict_backend.installed():
        params = gradients("cuda", dtype, scale)
        wide = [p.grad.numpy().astype("f8") for p in params]
        with strict_backend.counted() as counts:
            norm = optim.clip_grad_norm_(params, 2.0)
        assert dict(counts.launches) == {"norm_of_all": 1, "clip_by_norm": 1} | (
            {"zeros": 1} if counts.launches["zeros"] else {}
        )
        assert not counts.waits and not counts.uploads
        expected = np.sqrt(sum((g**2).sum() for g in wide))
        unit = {"float16": 2.0**-10, "float32": 3e-7, "float64": 1e-14}[dtype]
        np.testing.assert_allclose(norm.numpy(), expected, rtol=3e-7 if dtype != "float64" else 1e-14)
        factor = min(1, 2.0 / (expected + 1e-6))
        for p, g in zip(params, wide, strict=True):
            np.testing.assert_allclose(
                p.grad.numpy(), g * factor, rtol=unit, atol=2.0**-25 if dtype == "float16" else 0
            )
            assert p.grad.dtype == p.dtype


def test_a_norm_of_infinity_makes_zeros_and_of_nan_makes_nan():
    with strict_backend.installed():
        for bad, others in ((np.inf, 0.0), (np.nan, np.nan)):
            params = gradients("cuda", "float32", 1.0)
            params[0].grad.data.host[1, 1] = bad
            norm = optim.clip_grad_norm_(params, 2.0)
            np.testing.assert_equal(norm.item(), bad)
            np.testing.assert_array_equal(params[1].grad.numpy(), np.full(2500, others))
            assert np.isnan(params[0].grad.numpy()[1, 1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_clipping_by_value(dtype):
    with strict_backend.installed():
        params = gradients("cuda", dtype, 1.0)
        params[0].grad.data.host[0, :3] = np.nan, np.inf, -np.inf
        before = [p.grad.numpy() for p in params]
        with strict_backend.counted() as counts:
            optim.clip_grad_value_(params, 0.5)
        assert dict(counts.launches) == {"clip_by_value": 1} and not counts.waits
        for p, g in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), np.clip(g, -0.5, 0.5))


EACH = {  # kernel: its numbers, and what becomes of 1
    "unscale": ((np.full(1, 4, "f4"),), 0.25),
    "clip_by_value": ((np.float32(0.5),), 0.5),
    "clip_by_norm": ((np.full(1, 7, "f4"), np.float32(2), np.float32(1), np.float32(1e-38)), 0.25),
}


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("entry", EACH)
def test_nothing_beside_a_gradient_is_written(entry, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    numbers, expected = EACH[entry]
    with strict_backend.installed():
        sources, targets = ([guarding.Amid(np.ones(n, "f4"), 7.0) for n in (1024, 5, 2049)] for _ in range(2))
        given, made = ([StrictArray(each.array) for each in kind] for kind in (sources, targets))
        [batch] = batches(on_device.TENSORS, [given, made])
        numbers = [mg.tensor(n, device="cuda").data if n.ndim else n for n in numbers]
        launch(on_device.FILE, entry, on_device.DEFINES, given[0], batch, *numbers)
        assert all(each.is_intact() for each in (*sources, *targets))
        for each in targets:
            np.testing.assert_array_equal(each.array, np.float32(expected))


@pytest.mark.parametrize("order", [0, 1, 7])
def test_nothing_beside_a_gradient_is_read(order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    with strict_backend.installed():
        arrays = [StrictArray(guarding.Amid(np.ones(n, "f4"), np.nan).array) for n in (1024, 5, 0, 2048, 1)]
        verdict = on_device.new_verdict(arrays[0])
        on_device.look_for_nonfinite(arrays, verdict)
        assert verdict.host.tolist() == [0, 0, 0]
        np.testing.assert_allclose(on_device.norm(arrays).host, np.sqrt(1024 + 5 + 2048 + 1), rtol=1e-7)


# --- the scale of a loss ---


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_unscaling_divides_every_number_by_the_scale(dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in [(1024,), (0,), (2, 1025), (3,)]]
    arrays[2][1, 3:6] = np.nan, np.inf, -np.inf
    with strict_backend.installed():
        scale = mg.tensor(np.float32(1024.0), device="cuda").data
        found = on_device.unscale([mg.tensor(a, device="cuda").data for a in arrays], scale)
        for ours, a in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(ours.host, a / a.dtype.type(1024))


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("good_steps", [0, 1, 2, 3])
@pytest.mark.parametrize("scale", [8.0, 3e38])
def test_a_scale_grows_after_enough_good_steps_in_a_row_and_shrinks_at_once(scale, good_steps, skip):
    """As torch.amp.GradScaler: to infinity it does not grow; whether the last step was skipped is in the verdict."""
    with strict_backend.installed():
        ours = mg.tensor(np.float32(scale), device="cuda").data
        tracker = mg.tensor(np.int32(good_steps), device="cuda").data
        verdict = mg.tensor(np.array([skip, 5, 0], "i4"), device="cuda").data
        on_device.update_scale(ours, tracker, verdict, 3.0, 0.25, 3)
        grows = not skip and good_steps == 2
        expected = scale * 0.25 if skip else 24.0 if grows and scale == 8 else scale
        assert ours.host == np.float32(expected)
        assert tracker.host == (0 if skip or grows else good_steps + 1)
        assert verdict.host.tolist() == [skip, 5, 0]
