"""A training step that is captured and replayed, on the strict stand-in: what it computes, and what it refuses."""

import contextlib
import gc
import logging

import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, cuda, nn, optim
from minigrad.backend.gpu import replay
from minigrad.nn.functional import cross_entropy
from tests.support import strict_backend
from tests.support.cuda import compiling, work

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")
xp = strict_backend.namespace


@pytest.fixture(autouse=True)
def on_the_stand_in():
    with strict_backend.installed():
        mg.manual_seed(0)
        yield


def small_net():
    layers = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    return nn.Sequential(*layers).to("cuda")


def batches(count, size=8, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x, y = rng.standard_normal((size, 1, 8, 8)).astype("f4"), rng.integers(0, 4, size)
        yield mg.tensor(x, device="cuda"), mg.tensor(y, device="cuda")


def training_step(model, optimizer):
    def step(x, y):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def trained(steps, captured, make=lambda params: optim.SGD(params, lr=0.05, momentum=0.9), net=small_net):
    """The losses, and the parameters and buffers in the end."""
    mg.manual_seed(0)
    model = net()
    step = training_step(model, make(model.parameters()))
    step = cuda.capture(step) if captured else step
    losses = [step(x, y).item() for x, y in batches(steps)]
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}


def assert_alike(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_50_captured_steps_are_50_eager_steps():
    found, expected = trained(50, captured=True), trained(50, captured=False)
    assert expected[0][-1] != expected[0][0]
    assert_alike(found, expected)


OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda params: optim.Adam(params, lr=0.01, amsgrad=True),
    "AdamW": lambda params: optim.AdamW(params, lr=0.01),
    "NAdam": lambda params: optim.NAdam(params, lr=0.01),
    "RAdam": lambda params: optim.RAdam(params, lr=0.01),
    "Adamax": lambda params: optim.Adamax(params, lr=0.01),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.05),
    "Adadelta": lambda params: optim.Adadelta(params),
    "RMSprop": lambda params: optim.RMSprop(params, lr=0.01, momentum=0.5),
    "Lion": lambda params: optim.Lion(params, lr=0.001),
}


def normalized_net():
    """With running statistics, and a stream of random numbers."""
    layers = (
        nn.Conv2d(1, 3, 3, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
    )
    return nn.Sequential(*layers, nn.Linear(27, 4)).to("cuda")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_same_steps_captured(name):
    """Bias corrections, counts, running statistics and dropout go on from replay to replay."""
    found = trained(20, captured=True, make=OPTIMIZERS[name], net=normalized_net)
    expected = trained(20, captured=False, make=OPTIMIZERS[name], net=normalized_net)
    assert_alike(found, expected)
    assert found[1]["1.num_batches_tracked"] == 20


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_schedule_changes_the_rate_from_replay_to_replay(name):
    results = []
    for captured in (True, False):
        mg.manual_seed(0)
        model = normalized_net()
        optimizer = OPTIMIZERS[name](model.parameters())
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=16)
        step = training_step(model, optimizer)
        step = cuda.capture(step) if captured else step
        losses = []
        for x, y in batches(15):
            losses.append(step(x, y).item())
            schedule.step()
        results.append((losses, {name: value.numpy() for name, value in model.state_dict().items()}))
    assert_alike(*results)


def test_mixed_precision_is_captured_with_its_skipped_steps():
    results = []
    for captured in (True, False):
        mg.manual_seed(0)
        model = small_net()
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        scaler = amp.GradScaler(init_scale=2.0**10, growth_interval=4)

        def step(x, y, model=model, optimizer=optimizer, scaler=scaler):
            optimizer.zero_grad()
            with amp.autocast("cuda"):
                loss = cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss

        run = cuda.capture(step) if captured else step
        losses = []
        for i, (x, y) in enumerate(batches(12)):
            losses.append(run(x * (np.inf if i in (5, 6) else 1), y).item())
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        results.append(([losses[i] for i in range(12) if i not in (5, 6)], weights))
        results[-1][1]["scale"] = scaler.get_scale()
    assert_alike(*results)
    assert results[0][1]["scale"] == results[1][1]["scale"]


def test_a_replay_is_one_launch_and_two_copies_and_waits_for_nothing():
    model = small_net()
    step = cuda.capture(training_step(model, optim.SGD(model.parameters(), lr=0.05)))
    for x, y in batches(4):
        with strict_backend.counted() as counts:
            step(x, y)
    assert counts.launches == {"ndarray.__setitem__": 2, "graph": 1}, counts
    assert not counts.waits and not counts.uploads


def test_results_hold_nothing_before_the_replay_and_are_overwritten_by_the_next():
    double = cuda.capture(lambda x: (x * 2, {"sum": x.sum()}))
    x = mg.ones(3, device="cuda")
    double(x), double(x)
    y, rest = double(x)
    assert y.numpy().tolist() == [2, 2, 2] and rest["sum"].item() == 3 and y.grad_fn is None
    again, _ = double(x + 1)
    assert again is y and y.numpy().tolist() == [4, 4, 4]


def test_each_kind_of_arguments_has_a_graph_of_its_own_up_to_a_limit(caplog):
    calls = []

    @cuda.capture(limit=2, warmup=1)
    def scaled(x, factor=1.0):
        calls.append(x.shape)
        return x * factor

    for _ in range(3):
        for size, factor in ((2, 1.0), (2, 3.0), (4, 3.0)):
            assert scaled(mg.ones(size, device="cuda"), factor=factor).numpy().tolist() == [factor] * size
    assert scaled.graphs == 2 and scaled.__name__ == "scaled"
    assert calls == [(2,), (2,), (4,), (2,), (2,), (4,), (4,)], "an eager call and a recording for each of two kinds"
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1 and "2 kinds of arguments are captured" in said[0]


def test_dtype_memory_order_and_a_place_in_a_tuple_are_part_of_the_kind():
    add = cuda.capture(lambda pair: pair[0] + pair[1], warmup=1)
    a = np.arange(6.0).reshape(2, 3)
    here = mg.tensor(a, device="cuda")
    for _ in range(3):
        for pair in ((here, here), (here.T, here.T), [here, here], (here.astype("f4"), here)):
            np.testing.assert_array_equal(add(pair).numpy(), pair[0].numpy() * 2)
    assert add.graphs == 4


def test_inputs_of_the_host_are_sent_to_the_buffers():
    model = nn.Linear(3, 2).to("cuda")
    predict = cuda.capture(lambda x: model(x))
    for i in range(5):
        x = np.full((4, 3), i, "f4")
        expected = x @ model.weight.numpy().T + model.bias.numpy()
        np.testing.assert_allclose(predict(x).numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(predict(mg.tensor(x)).numpy(), expected, rtol=1e-6)
    assert predict.graphs == 1


def test_on_the_cpu_the_function_runs_as_it_is():
    add = cuda.capture(lambda x: x + 1)
    x = mg.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="needs a gradient"):
        add(x.to("cuda"))
    assert add(mg.ones(2)).device == "cpu" and add.graphs == 0


def test_the_modes_of_visible_modules_are_part_of_the_kind():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).to("cuda")

    @cuda.capture
    def predict(x):
        return model(x)

    x = mg.ones(2, 3, device="cuda")
    for _ in range(3):
        model.train()
        predict(x)
        model.eval()
        np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)
    assert predict.graphs == 2


def test_dropout_draws_what_it_draws_eagerly():
    def net():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 4)).to("cuda")

    assert_alike(trained(8, captured=True, net=net), trained(8, captured=False, net=net))


class Trainer:
    def __init__(self):
        self.weight = nn.Parameter(mg.ones(2, device="cuda"))

    @cuda.capture
    def step(self, x):
        return self.weight * x


def test_a_method_can_be_captured():
    one, two = Trainer(), Trainer()
    two.weight.data[...] = 5.0
    x = mg.ones(2, device="cuda")
    for _ in range(4):
        assert one.step(x).numpy().tolist() == [1, 1] and two.step(x).numpy().tolist() == [5, 5]


def test_a_captured_step_inside_of_another_is_part_of_it():
    inner = cuda.capture(lambda x: x + 1)
    outer = cuda.capture(lambda x: inner(x) * 2)
    for i in range(5):
        assert outer(mg.full((2,), float(i), device="cuda")).numpy().tolist() == [2 * (i + 1)] * 2
    assert outer.graphs == 1


# --- what cannot be captured ---


def waits(x):
    return x * float(x.sum())


def uploads(x):
    return x + mg.tensor(np.ones(2, "f4"), device="cuda")


def masks(x):
    return x[x > 0]


@pytest.mark.parametrize(
    "function, line", [(waits, "float(x.sum())"), (uploads, "mg.tensor(np.ones"), (masks, "x[x > 0]")]
)
def test_a_wait_or_an_upload_is_an_error_that_names_the_line_and_all_goes_on(function, line):
    step = cuda.capture(function)
    x = mg.ones(2, device="cuda")
    eager = [step(x).numpy() for _ in range(2)]
    for _ in range(2):
        with pytest.raises(cuda.CaptureError, match="cannot be captured") as caught:
            step(x)
        assert line in str(caught.value) and f"{__file__}:" in str(caught.value), caught.value
    assert not replay.is_recording() and work.Stream.current() is work.Stream.null
    np.testing.assert_array_equal(function(x).numpy(), eager[0])
    double = cuda.capture(lambda x: x * 2)
    assert [double(x).numpy().tolist() for _ in range(4)] == [[2, 2]] * 4 and double.graphs == 1


def test_an_op_that_waits_is_named():
    step = cuda.capture(lambda x: mg.where(x > 0, x, x)[x > 0])
    x = mg.ones(2, device="cuda")
    step(x), step(x)
    with pytest.raises(cuda.CaptureError, match=r"in \w*(getitem|index)\w*"):
        step(x)


def test_with_fallback_such_a_step_runs_eagerly(caplog):
    step = cuda.capture(waits, fallback=True)
    x = mg.ones(2, device="cuda")
    assert [step(x).numpy().tolist() for _ in range(5)] == [[2, 2]] * 5
    assert step.graphs == 0 and sum("runs eagerly from now on" in record.message for record in caplog.records) == 1


def test_an_error_of_the_users_ends_the_capture_and_training_goes_on():
    model = small_net()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    fails = [False]

    @cuda.capture
    def step(x, y):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        if fails[0]:
            raise KeyError("mine")
        optimizer.step()
        return loss

    (first, second, third, fourth) = batches(4)
    step(*first), step(*second)
    before = [p.numpy().copy() for p in model.parameters()]
    fails[0] = True
    with pytest.raises(KeyError, match="mine"):
        step(*third)
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters()), "gradients of the recording are left"
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    fails[0] = False
    assert np.isfinite(step(*third).item()) and step.graphs == 1
    assert np.isfinite(step(*fourth).item())


def test_a_tensor_that_is_given_another_array_is_named():
    total = nn.Parameter(mg.zeros(2, device="cuda"), requires_grad=False)

    @cuda.capture
    def step(x):
        total.data = total.data + x.data
        return x * 1

    x = mg.ones(2, device="cuda")
    step(x), step(x)
    with pytest.raises(cuda.CaptureError, match=r"another array.*copy_"):
        step(x)
    assert total.numpy().tolist() == [2, 2]


def test_parameters_with_new_arrays_are_captured_anew(caplog):
    model = nn.Linear(2, 2).to("cuda")
    predict = cuda.capture(lambda x: model(x))
    x = mg.ones(1, 2, device="cuda")
    for _ in range(3):
        predict(x)
    model.weight.data = model.weight.data * 2
    np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)
    assert "captured anew" in caplog.text


def test_arguments_of_capture_are_checked():
    with pytest.raises(TypeError, match="expected a function"):
        cuda.capture(3)
    with pytest.raises(ValueError, match="warmup=0"):
        cuda.capture(waits, warmup=0)


# --- numbers that change ---


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("late", [False, True])
def test_changing_numbers_are_those_of_their_step_however_late_the_device_is(order, late, monkeypatch):
    """Three rounds of the ring; a `late` device runs a replay when the host has to wait for it, and no sooner."""
    monkeypatch.setattr(compiling, "order", order)
    steps = 3 * replay.SLOTS + 5
    count, kept = [0], xp.zeros((steps + 9, 3), "f8")
    place = xp.zeros(1, "i8")

    def make():
        count[0] += 1
        return np.array([count[0], -count[0]], np.float64)

    def make_integer():
        return np.array([2**53 + 2 * count[0]], np.uint64)

    @cuda.capture
    def step(x):
        numbers = replay.changing(x.data, make, np.zeros(2))
        if numbers is None:
            return x
        integer = replay.changing(x.data, make_integer, np.zeros(1, np.uint64))
        kept[place, :2] = numbers
        kept[place, 2:] = integer.astype("f8") - 2.0**53
        place[...] += 1
        return x

    x = mg.ones(1, device="cuda")
    step(x), step(x)
    step(x)  # the recording, and the first replay
    ahead = []
    [recorded] = [kind.recorded for kind in step._kinds.values()]
    with work.delayed() if late else contextlib.nullcontext():
        for _ in range(steps - 1):  # without the copies of inputs, for which the stand-in's device would catch up
            recorded.replay(step._surroundings)
            ahead.append(len(work._queue))
    assert not late or min(ahead[replay.SLOTS :]) >= replay.SLOTS // 2, "the host waited for more than it had to"
    expected = np.arange(1, steps + 1)
    np.testing.assert_array_equal(kept.get()[:steps], np.stack([expected, -expected, 2 * expected], 1))


def test_the_kernel_fetches_slot_after_slot():
    ring = np.arange(15, dtype="u8").reshape(3, 5) * 100
    ring[:, 0] = 4, 4, 2  # how many words follow
    places = [xp.asarray(array) for array in (ring, np.zeros(1, "u8"), np.zeros(4, "u8"))]
    expected = np.zeros(4, "u8")
    for turn in range(7):
        slots = places[0], np.int32(3), np.int32(5)
        replay.FETCH.launch("fetch", xp.zeros(1), (1,), (128,), *slots, *places[1:])
        count = ring[turn % 3, 0]
        expected[:count] = ring[turn % 3, 1 : 1 + count]
        assert places[2].get().tolist() == expected.tolist() and places[1].get().tolist() == [turn + 1]


def test_changing_numbers_have_a_fixed_form():
    numbers = replay.Numbers(xp.zeros(1, "f4"))
    with pytest.raises(TypeError, match="float64 or uint64"):
        numbers.add(list, np.zeros(2, "f4"))
    with pytest.raises(ValueError, match="there is room for"):
        numbers.add(list, np.zeros(replay.WORDS))
    sizes = [2, 3]
    numbers.add(lambda: np.zeros(sizes.pop(0)), np.zeros(2))
    assert sizes == [2, 3], "nothing is made before a replay"
    numbers.write()
    with pytest.raises(TypeError, match=r"expected 2 of float64, .* got float64\(3,\)"):
        numbers.write()
    assert replay.changing(xp.zeros(1), list, np.zeros(1)) is None, "nothing is recorded here"


# --- the stand-in itself ---


def test_what_is_launched_while_a_stream_captures_runs_when_the_graph_does():
    x, out = xp.asarray(np.arange(3.0)), xp.zeros(3)
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        y = x * 2
        z = y + x
        xp.add(z, 1.0, out=out)
        out[0] = 9.0
        assert np.isnan(y.host).all() and np.isnan(z.host).all() and out.host.tolist() == [0, 0, 0]
        for refused in (y.item, y.get, stream.synchronize, lambda: xp.asarray(np.ones(2)), lambda: bool(y[0] > 0)):
            with pytest.raises(RuntimeError, match="the current stream is capturing"):
                refused()
        graph = stream.end_capture()
    y = z = None  # the graph needs their memory all the same
    gc.collect()
    for start in (0.0, 5.0):
        x[...] = xp.arange(3) + start
        graph.launch()
        assert out.get().tolist() == [9, 3 * (start + 1) + 1, 3 * (start + 2) + 1]
    with pytest.raises(RuntimeError, match="legacy"):
        xp.cuda.Stream.null.begin_capture()


def test_copies_from_pinned_memory_run_late_and_others_are_uploads():
    memory = xp.cuda.alloc_pinned_memory(24)
    host = np.frombuffer(memory, np.float64, 3)
    x = xp.zeros(3)
    with work.delayed(), strict_backend.counted() as counts:
        host[...] = 1
        x.set(host)
        event = xp.cuda.get_current_stream().record()
        assert not event.done
        host[...] = 2
        event.synchronize()
        assert event.done and x.get().tolist() == [2, 2, 2], "the host wrote before the copy was made"
    assert counts.uploads == 0
    with strict_backend.counted() as counts:
        x.set(np.ones(3))
    assert counts.uploads == 1
