"""`fit` with captured steps, on the strict stand-in: what eager steps compute, and what cannot be captured."""

import logging
import os
import signal

import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, cuda, generators, nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn import functional as F
from minigrad.training import TrainingError, fit
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 3, 44)
POINTS = (2 * rng.standard_normal((3, 8))[LABELS] + rng.standard_normal((44, 8))).astype("f4")


@pytest.fixture(autouse=True)
def on_the_stand_in():
    with strict_backend.installed():
        yield


def parts(optimizer=lambda params: optim.AdamW(params, lr=0.02), epochs=4):
    """A net with dropout and batch-norm; batches of 8, and one of 4."""
    mg.manual_seed(7)
    layers = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
    model = nn.Sequential(*layers).to("cuda")
    moves = optimizer(model.parameters())
    return {
        "model": model,
        "loss": F.cross_entropy,
        "optimizer": moves,
        "train_loader": DataLoader(ArrayDataset(POINTS, LABELS), 8, shuffle=True, seed=3, device="cuda"),
        "progress": False,
        "epochs": epochs,
    }


def assert_same(found, expected):
    """Histories and models of two runs, and the place in the stream of dropout."""
    (history, model, stream), (other, others_model, others_stream) = found, expected
    for column in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
        if other[column][0] is not None:
            np.testing.assert_allclose(history[column], other[column], rtol=1e-5, err_msg=column)
    others = others_model.state_dict()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), others[name].numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    assert stream == others_stream


def ran(run, **options):
    return fit(**{**run, **options}), run["model"], generators.state_of_stream("cuda:0")


def with_validation(run):
    run["validation"] = DataLoader(ArrayDataset(POINTS[:20], LABELS[:20]), 8, device="cuda")


def with_one_cycle(run):
    run["scheduler"] = optim.OneCycleLR(run["optimizer"], 0.05, epochs=4, steps_per_epoch=6)


def with_plateau(run):
    run["scheduler"] = optim.ReduceLROnPlateau(run["optimizer"], patience=0, factor=0.3)


def with_clipping(run):
    run["before_step"] = lambda: optim.clip_grad_norm_(run["model"].parameters(), 0.2)


def with_average(run):
    averaged = optim.AveragedModel(run["model"])
    run["after_step"] = lambda: averaged.update_parameters(run["model"])


def with_half(run):
    run["autocast"], run["scaler"] = amp.autocast("cuda"), amp.GradScaler(2.0**8, growth_interval=4)


def with_half_and_clipping(run):
    with_half(run)
    with_clipping(run)


def with_decay_begun_late(run):
    run["optimizer"].param_groups[0]["weight_decay"] = 0.0

    def callback(history):
        run["optimizer"].param_groups[0]["weight_decay"] = 0.1 if len(history) >= 3 else 0.0

    run["callback"], run["epochs"] = callback, 6


def with_frozen_layer(run):
    def callback(history):
        if len(history) == 3:
            for p in run["model"][0].parameters():
                p.requires_grad_(False)
                p.grad = None

    run["callback"], run["epochs"] = callback, 6


SGD = lambda params: optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True)  # noqa: E731
CHANGES = [
    *(with_validation, with_one_cycle, with_plateau, with_clipping, with_average, with_half, with_half_and_clipping),
    *(with_decay_begun_late, with_frozen_layer),
]


@pytest.mark.parametrize("optimizer", [None, SGD], ids=["AdamW", "SGD"])
@pytest.mark.parametrize("change", CHANGES)
def test_captured_and_eager_runs_are_the_same(change, optimizer, caplog):
    results = []
    for capture in (None, False):
        run = parts() if optimizer is None else parts(optimizer)
        change(run)
        with caplog.at_level(logging.INFO, "minigrad"):
            results.append(ran(run, capture=capture))
    assert_same(*results)
    shapes = [r.message for r in caplog.records if "recorded for inputs" in r.message]
    assert any("(8, 8)" in line for line in shapes) and any("(4, 8)" in line for line in shapes), shapes
    assert not [r.message for r in caplog.records if r.levelno >= logging.WARNING]


def test_most_steps_are_a_replay():
    run = parts(epochs=6)
    seen = []
    run["after_step"] = lambda: seen.append(strict_backend.traffic.copy())
    with strict_backend.counted() as counts:
        fit(**run)
    assert counts.launches["graph"] == 36 - 2 * 2, counts.launches


def waiting(output, target):
    return F.cross_entropy(output, target) * (1.0 if output.sum().item() < 1e9 else 2.0)


def drawing_on_the_host(output, target):
    return F.cross_entropy(output + mg.randn(*output.shape).to("cuda") * 0.1, target)


@pytest.mark.parametrize("loss", [waiting, drawing_on_the_host])
def test_a_loss_that_waits_falls_back_as_if_never_tried(loss, caplog):
    found = ran({**parts(), "loss": loss})
    told = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == 1 and "not captured from here on" in told[0] and loss.__name__ not in told[0].split("(")[0]
    expected = ran({**parts(), "loss": loss}, capture=False)
    assert_same(found, expected)
    with pytest.raises(cuda.CaptureError, match="cannot be captured"):
        fit(**{**parts(), "loss": loss}, capture=True)


def test_a_failed_recording_takes_back_what_it_has_counted():
    """Dropout's place, the optimizer's steps, and numbers drawn on the host: a step that fails counts nothing."""
    run = parts()
    model, optimizer = run["model"], run["optimizer"]
    x, labels = mg.tensor(POINTS[:8], device="cuda"), mg.tensor(LABELS[:8], device="cuda")

    @cuda.capture
    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        mg.rand(2)
        return float(x.sum())

    step(), step()
    random = generators.generator("cpu").bit_generator.state
    before = generators.state_of_stream("cuda:0"), optimizer.state[model[0].weight]["step"]
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    for _ in range(2):
        with pytest.raises(cuda.CaptureError):
            step()
        assert (generators.state_of_stream("cuda:0"), optimizer.state[model[0].weight]["step"]) == before
        assert generators.generator("cpu").bit_generator.state == random
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), weights[name])


def test_micro_batches_hooks_and_functions_run_eagerly_and_say_so(caplog):
    hooked = parts()
    hooked["model"][0].register_forward_hook(lambda *_: None)
    function = parts()
    function["model"] = Wrapped(function["model"])
    for run, reason in ((parts() | {"micro_batches": 2}, "micro_batches"), (hooked, "hooks"), (function, "no Module")):
        caplog.clear()
        fit(**{**run, "epochs": 1})
        assert [r for r in caplog.records if reason in r.message and r.levelno == logging.WARNING]
        with pytest.raises(ValueError, match=f"capture=True.*{reason}"):
            fit(**run, capture=True)


class Wrapped:
    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)

    def __getattr__(self, name):
        return getattr(self.model, name)


def test_an_optimizer_of_whole_arrays_steps_outside():
    results = [ran(parts(lambda params: optim.Lookahead(optim.SGD(params, lr=0.1))), capture=c) for c in (True, False)]
    assert_same(*results)


def test_capture_is_checked():
    run = parts()
    with pytest.raises(TypeError, match="capture='yes'"):
        fit(**run, capture="yes")
    run["model"].to("cpu")
    with pytest.raises(ValueError, match="lies on"):
        fit(**run, capture=True)


def test_a_loss_that_is_nan_is_told():
    run = parts()
    points = POINTS.copy()
    points[20] = np.nan
    run["train_loader"] = DataLoader(ArrayDataset(points, LABELS), 8, device="cuda")
    with pytest.raises(TrainingError, match="loss is nan in epoch 1"):
        fit(**run)


@pytest.mark.parametrize("change", [with_validation, with_half])
def test_a_run_stopped_in_an_epoch_and_resumed_is_the_uninterrupted_one_with_dropout(tmp_path, change):
    whole, first, second = parts(), parts(), parts()
    for run in (whole, first, second):
        change(run)
    mg.manual_seed(5)
    expected = ran(whole)
    steps = []

    def stop():
        steps.append(1)
        if len(steps) == 15:
            os.kill(os.getpid(), signal.SIGINT)

    mg.manual_seed(5)
    assert fit(**first, out=tmp_path, after_step=stop).interrupted
    mg.manual_seed(99)
    found = ran(second, out=tmp_path, resume=True)
    assert_same(found, expected)
