"""`fit` on a GPU, the strict stand-in: its captured steps are its eager ones, and what cannot be captured says so."""

import functools
import logging
import os
import signal

import numpy as np
import pytest

import minigrad as mg
from minigrad import generators, nn, optim
from minigrad.cuda import CaptureError
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn.functional import cross_entropy
from minigrad.training import TrainingError, fit
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 3, 44)
IMAGES = (rng.standard_normal((3, 1, 6, 6))[LABELS] + rng.standard_normal((44, 1, 6, 6))).astype("f4")


@pytest.fixture(autouse=True)
def cuda():
    with strict_backend.installed():
        yield


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "minigrad")
    return caplog


def network():
    mg.manual_seed(1)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(144, 3)).to("cuda")


def loader():
    return DataLoader(ArrayDataset(IMAGES, LABELS), 8, shuffle=True, seed=5)  # five batches of 8, and one of 4


def train(model=None, make=optim.Adam, schedule=None, epochs=4, loss=cross_entropy, **options):
    """A model that was trained, and its history."""
    model = network() if model is None else model
    optimizer = make(model.parameters())
    scheduler = None if schedule is None else schedule(optimizer)
    for name in ("before_step", "after_step", "callback"):
        if name in options:
            options[name] = options[name](model, optimizer)
    if options.pop("halved", False):
        options |= {"autocast": mg.amp.autocast("cuda"), "scaler": mg.amp.GradScaler(2.0**20, growth_interval=4)}
    options = {"validation": DataLoader(ArrayDataset(IMAGES, LABELS), 20), "progress": False, **options}
    history = fit(model, loss, optimizer, loader(), epochs=epochs, scheduler=scheduler, device="cuda", **options)
    return model, history, optimizer


def state(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def assert_same(found, expected, rtol=2e-5):
    (model, history, _), (other, expected_history, _) = found, expected
    for name, value in state(other).items():
        np.testing.assert_allclose(state(model)[name], value, rtol=rtol, atol=1e-6, err_msg=name)
    for column in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
        np.testing.assert_allclose(history[column], expected_history[column], rtol=rtol, err_msg=column)


def recordings(log):
    return [record.message.split(" for inputs")[0] for record in log.records if ": recorded" in record.message]


def onecycle(optimizer):
    return optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=24)


def muon(params):
    params = list(params)
    return optim.Muon([p for p in params if p.ndim == 2], lr=0.01)


def clipped(model, _):
    return lambda: optim.clip_grad_norm_(model.parameters(), 0.5)


def averaged(model, _):
    average = optim.swa_utils.AveragedModel(model)
    model.average = average.parameters  # not a child: a method
    return lambda: average.update_parameters(model)


WHOLE, PART = ["captured step training_step: recorded"], ["captured step gradients: recorded"]
CASES = {  # what is given to `train`, and what is captured: once for each size of batch
    "adam": ({}, WHOLE),
    "sgd, a rate for each batch": ({"make": functools.partial(optim.SGD, lr=0.01), "schedule": onecycle}, WHOLE),
    "a rate for each epoch": ({"schedule": lambda o: optim.lr_scheduler.StepLR(o, 1, 0.5)}, WHOLE),
    "plateau": ({"schedule": lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0)}, WHOLE),
    "clipping": ({"before_step": clipped}, PART),
    "averaging": ({"after_step": averaged}, PART),
    "muon": ({"make": muon}, PART),
    "lookahead": ({"make": lambda p: optim.Lookahead(optim.Adam(p), k=3)}, PART),
    "half precision": ({"halved": True}, WHOLE),
    "half precision, clipping": ({"halved": True, "before_step": clipped}, PART),
    "skipping": ({"make": functools.partial(optim.Adam, nonfinite="skip")}, WHOLE),
}


@pytest.mark.parametrize("name", CASES)
def test_captured_and_eager_training_are_the_same(name, log):
    options, expected = CASES[name]
    captured = train(**options)
    assert recordings(log) == 2 * expected
    log.clear()
    eager = train(**options, capture=False)
    assert not recordings(log)
    assert_same(captured, eager)


def test_by_default_nothing_is_captured_on_the_cpu_and_what_is_asked_for_there_is_an_error(log):
    train(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).to("cuda"), capture=True)
    log.clear()
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    fit(model, cross_entropy, optim.SGD(model.parameters()), loader(), epochs=4, progress=False)
    assert not log.records
    with pytest.raises(ValueError, match=r"capture=True, but the model is on the CPU.*model\.to\('cuda'\)"):
        fit(model, cross_entropy, optim.SGD(model.parameters()), loader(), epochs=1, capture=True)
    with pytest.raises(ValueError, match=r"capture=True, but micro_batches=2"):
        train(capture=True, micro_batches=2)
    train(micro_batches=2, epochs=1)
    assert "not captured: micro_batches=2 divides by numbers" in log.text
    model = network()
    with pytest.raises(ValueError, match=r"capture=True, but the model is a function, no Module"):
        fit(lambda x: model(x), cross_entropy, optim.SGD(model.parameters()), loader(), epochs=1, capture=True)
    with pytest.raises(ValueError, match=r"capture='yes'; expected True, False, or None"):
        train(capture="yes")


def reading(output, target):
    loss = cross_entropy(output, target)
    return loss if loss.item() > 0 else loss * 2


def test_a_loss_that_reads_a_number_is_trained_with_eagerly_as_if_nothing_had_been_tried(log):
    found = train(loss=reading)
    said = [record.message for record in log.records if record.levelno == logging.WARNING]
    assert len(said) == 2 and all("loss.item() > 0" in text for text in said)
    assert said[0].endswith("now without the optimizer's step.")
    assert said[1].endswith("training goes on without capture.")
    assert_same(found, train(loss=reading, capture=False), rtol=0)
    with pytest.raises(CaptureError, match=r"gradients cannot be captured.*loss\.item\(\) > 0"):
        train(loss=reading, capture=True)


def test_most_steps_are_a_replay():
    with strict_backend.counted() as counts:
        train(epochs=6, validation=None)
    assert counts.launches["graph"] == 36 - 2 * 2, counts.launches


def test_a_failed_recording_takes_back_what_it_has_counted():
    """Dropout's place, the optimizer's steps, and numbers drawn on the host: a step that fails counts nothing."""
    model = network()
    optimizer = optim.Adam(model.parameters())
    x, labels = mg.tensor(IMAGES[:8], device="cuda"), mg.tensor(LABELS[:8], device="cuda")

    @mg.cuda.capture
    def step():
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()
        optimizer.step()
        mg.rand(2)
        return float(x.sum())

    step(), step()
    random = generators.generator("cpu").bit_generator.state
    before = generators.state_of_stream("cuda:0"), optimizer.state[model[0].weight]["step"]
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    for _ in range(2):
        with pytest.raises(CaptureError):
            step()
        assert (generators.state_of_stream("cuda:0"), optimizer.state[model[0].weight]["step"]) == before
        assert generators.generator("cpu").bit_generator.state == random
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), weights[name])


def a_schedule(model, optimizer):
    return optim.lr_scheduler.StepLR(optimizer, 1).step


def a_sequence_of_schedules(model, optimizer):
    parts = [optim.lr_scheduler.StepLR(optimizer, 1), optim.lr_scheduler.ConstantLR(optimizer)]
    return optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[9]).step


def a_plateau(model, optimizer):
    schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return lambda: schedule.step(1.0)


def a_lookahead(model, optimizer):
    return optim.Lookahead(optimizer).step


def a_regularized_optimizer(model, optimizer):
    return optim.Regularized(optimizer, model, lambda model: (model[5].weight ** 2).sum()).step


COUNTING = [a_schedule, a_sequence_of_schedules, a_plateau, a_lookahead, a_regularized_optimizer]


@pytest.mark.parametrize("make", COUNTING, ids=lambda make: make.__name__)
def test_what_counts_on_the_host_is_refused_in_a_captured_step(make):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    call, images = make(model, optimizer), mg.tensor(IMAGES[:8], device="cuda")

    @mg.cuda.capture
    def step(images):
        optimizer.zero_grad()
        model(images).sum().backward()
        call()

    step(images), step(images)
    rate = optimizer.param_groups[0]["lr"]
    with pytest.raises(CaptureError, match=r"takes numbers from the host and cannot be captured.*(call|step)\("):
        step(images)
    assert optimizer.param_groups[0]["lr"] == rate


def test_a_forward_hook_would_not_be_called_and_is_not_left_out_in_silence(log):
    model, seen = network(), []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    train(model, validation=None, epochs=2)
    assert len(seen) == 12
    assert "the forward hook of a Conv2d would not be called in replays" in log.text


def freeze(model, optimizer):
    def callback(history):
        model[0].requires_grad_(len(history) != 2)

    return callback


def add_a_group(model, optimizer):
    def callback(history):
        if len(history) == 2:
            optimizer.add_param_group({"params": list(model[5].parameters()), "lr": 0.1})

    return callback


def load_the_optimizer(model, optimizer):
    saved = []

    def callback(history):
        saved.append(optimizer.state_dict())
        if len(history) == 3:
            optimizer.load_state_dict(saved[1])

    return callback


def exchange_a_layer(model, optimizer):
    def callback(history):
        if len(history) == 2:
            model[2] = nn.Tanh()

    return callback


def grow(model, optimizer):
    def callback(history):
        if len(history) == 2:
            model.append(nn.Dropout(0.2))

    return callback


def decay(model, optimizer):
    def callback(history):
        optimizer.param_groups[0]["betas"] = (0.5, 0.9)

    return callback


def replace_weights(model, optimizer):
    def callback(history):
        model[5].weight.replace_data(model[5].weight.detach().data * 0.5)

    return callback


def decay_begun_late(model, optimizer):
    optimizer.param_groups[0]["weight_decay"] = 0.0

    def callback(history):
        optimizer.param_groups[0]["weight_decay"] = 0.1 if len(history) >= 3 else 0.0

    return callback


CHANGES = [decay_begun_late, freeze, add_a_group, load_the_optimizer, exchange_a_layer, grow, decay, replace_weights]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_a_callback_changes_between_epochs_is_not_missed(change):
    def first_layers(params):
        return optim.Adam(list(params)[:4] if change is add_a_group else params)

    options = {"make": first_layers, "callback": change, "epochs": 6}
    found, expected = train(**options, capture=True), train(**options, capture=False)
    assert_same(found, expected)


@pytest.mark.parametrize("capture", [True, False])
def test_a_resumed_run_with_dropout_is_the_one_that_was_never_stopped(capture, tmp_path):
    whole = train(capture=capture)
    train(capture=capture, epochs=2, out=tmp_path)
    mg.manual_seed(99)
    model = network()
    mg.manual_seed(98)  # the state of the stream comes from the file
    resumed = train(model, capture=capture, out=tmp_path, resume=True)
    assert_same(resumed, whole, rtol=0)


def test_a_loss_that_is_no_number_ends_the_run():
    images = IMAGES.copy()
    images[40] = np.nan
    model = network()
    data = DataLoader(ArrayDataset(images, LABELS), 8)
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, at batch 6 or before it"):
        fit(model, cross_entropy, optim.SGD(model.parameters()), data, epochs=9, device="cuda", progress=False)


@pytest.mark.parametrize("halved", [False, True])
def test_a_run_stopped_in_an_epoch_and_resumed_is_the_uninterrupted_one(halved, tmp_path):
    steps = []

    def stop():
        steps.append(1)
        if len(steps) == 15:
            os.kill(os.getpid(), signal.SIGINT)

    whole = train(halved=halved)
    _, stopped, _ = train(halved=halved, out=tmp_path, after_step=lambda *_: stop)
    assert stopped.interrupted and len(steps) == 15
    assert_same(train(halved=halved, out=tmp_path, resume=True), whole)
