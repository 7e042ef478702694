"""Training on a GPU, the strict stand-in: no step waits for it, and the history is that of the CPU."""

import functools
import io
import itertools
import os
import signal

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn import functional as F
from minigrad.training import TrainingError, evaluate, fit
from minigrad.training import run as runs
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 3, 60)
POINTS = (2 * rng.standard_normal((3, 8))[LABELS] + rng.standard_normal((60, 8))).astype("f4")
WEIGHT = np.array([0.2, 1.0, 3.0], "f4")


@pytest.fixture(autouse=True)
def cuda():
    with strict_backend.installed():
        yield "cuda"


# --- whole runs ---


def classifier():
    layers = [nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)]
    return nn.Sequential(*layers)


def pixels():
    return nn.Conv2d(2, 3, 1)


IGNORING = np.where(np.arange(60) % 4 == 0, -100, LABELS)
IMAGES = rng.standard_normal((20, 2, 4, 3)).astype("f4")
PIXEL_LABELS = rng.integers(0, 3, (20, 4, 3))
PIXEL_LABELS[:7, 0] = 1

RUNS = {  # model, loss, inputs and targets
    "cross-entropy": (classifier, lambda: F.cross_entropy, POINTS, LABELS),
    "smoothed": (classifier, lambda: nn.CrossEntropyLoss(label_smoothing=0.1), POINTS, LABELS),
    "labels ignored": (classifier, lambda: nn.CrossEntropyLoss(), POINTS, IGNORING),
    "sum": (classifier, lambda: nn.CrossEntropyLoss(reduction="sum"), POINTS, IGNORING),
    "weighted": (classifier, lambda: nn.CrossEntropyLoss(WEIGHT), POINTS, IGNORING),
    "pixels": (pixels, lambda: nn.CrossEntropyLoss(ignore_index=1), IMAGES, PIXEL_LABELS),
    "lambda": (classifier, lambda: lambda o, t: F.cross_entropy(o, t) * 2, POINTS, LABELS),
    "partial": (classifier, lambda: functools.partial(F.cross_entropy, ignore_index=2), POINTS, LABELS),
    "small labels": (classifier, lambda: F.cross_entropy, POINTS, LABELS.astype("u1")),
    "regression": (lambda: nn.Linear(8, 1), lambda: F.mse_loss, POINTS, POINTS @ np.arange(8, dtype="f4")[:, None]),
    "probabilities": (
        lambda: nn.Sequential(nn.Linear(8, 1), nn.Sigmoid()),
        lambda: nn.BCELoss(),
        POINTS,
        (LABELS[:, None] > 1).astype("f4"),
    ),
}


def parts(name, device):
    make, loss, inputs, targets = RUNS[name]
    mg.manual_seed(7)
    model, loss = make().to(device), loss()
    if isinstance(loss, nn.Module):
        loss.to(device)
    train = DataLoader(ArrayDataset(inputs[:-5], targets[:-5]), 8, shuffle=True, seed=3)
    return {
        "model": model,
        "loss": loss,
        "optimizer": optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        "train_loader": train,
        "validation": DataLoader(ArrayDataset(inputs[-18:], targets[-18:]), 7),
        "progress": False,
        "device": device,
    }


class Watched:
    """A model that notes, at the begin of each batch, what the host has waited for and uploaded until then."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, inputs):
        self.seen.append(dict(strict_backend.traffic))
        return self.model(inputs)

    def __getattr__(self, name):
        return getattr(self.model, name)


@pytest.mark.parametrize("name", RUNS)
def test_no_step_waits_and_nothing_is_uploaded_but_the_batch(name):
    run = parts(name, "cuda")
    watched = Watched(run["model"])
    fit(**{**run, "model": watched, "validation": None}, epochs=2, capture=False)
    batches = len(run["train_loader"])
    assert len(watched.seen) == 2 * batches
    for epoch in range(2):
        steps = watched.seen[epoch * batches + (epoch == 0) : (epoch + 1) * batches]  # the first step makes buffers
        for before, after in itertools.pairwise(steps):
            moved = {what: after[what] - before.get(what, 0) for what in after if after[what] != before.get(what, 0)}
            assert moved == {"upload": 2}, f"a step waited or uploaded: {moved}"


class WatchedLoader:
    """A loader that notes, before each batch, what the host has waited for and uploaded until then."""

    def __init__(self, loader):
        self.loader, self.seen = loader, []

    def __iter__(self):
        for batch in self.loader:
            self.seen.append(dict(strict_backend.traffic))
            yield batch


@pytest.mark.parametrize("name", RUNS)
def test_no_captured_step_waits_and_nothing_is_uploaded_but_the_batch(name):
    run = parts(name, "cuda")
    batches = len(run["train_loader"])
    watched = WatchedLoader(run["train_loader"])
    fit(**{**run, "train_loader": watched, "validation": None}, epochs=3, capture=True)
    for before, after in itertools.pairwise(watched.seen[2 * batches :]):
        moved = {what: after[what] - before.get(what, 0) for what in after if after[what] != before.get(what, 0)}
        assert moved == {"upload": 2}, f"a step waited or uploaded: {moved}"


@pytest.mark.parametrize("name", RUNS)
def test_no_batch_of_evaluate_waits(name):
    run = parts(name, "cuda")
    watched = Watched(run["model"])
    evaluate(watched, run["train_loader"], run["loss"], device="cuda")
    for before, after in itertools.pairwise(watched.seen[1:]):
        assert after == {**before, "upload": before["upload"] + 2}, (before, after)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("capture", [True, False])
def test_the_history_is_the_cpus(name, capture):
    here = fit(**parts(name, "cpu"), epochs=3)
    there = fit(**parts(name, "cuda"), epochs=3, capture=capture)
    assert here.best_epoch == there.best_epoch
    for column in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        a, b = here[column], there[column]
        assert [x is None for x in a] == [x is None for x in b], column
        if a[0] is not None:
            np.testing.assert_allclose(b, a, rtol=1e-4, err_msg=column)


def test_batches_whose_labels_are_all_ignored_are_left_out_by_evaluate_and_refused_by_fit():
    labels = LABELS.copy()
    labels[:8] = -100
    loader = DataLoader(ArrayDataset(POINTS, labels), 8)
    mg.manual_seed(0)
    model = classifier()
    expected = evaluate(model, loader, F.cross_entropy)
    found = evaluate(model.to("cuda"), loader, F.cross_entropy, device="cuda")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    weighted = functools.partial(F.cross_entropy, weight=mg.tensor(WEIGHT, device="cuda"))
    assert np.isfinite(evaluate(model, loader, weighted, device="cuda")).all()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="nothing to average"):
        fit(model, F.cross_entropy, optimizer, loader, epochs=1, progress=False, device="cuda")


def test_a_wrong_label_ends_fit_and_evaluate_with_the_cpus_error():
    labels = LABELS.copy()
    labels[20] = 3
    loader = DataLoader(ArrayDataset(POINTS, labels), 8)
    for device in ("cpu", "cuda"):
        model = classifier().to(device)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(IndexError, match="cross_entropy: label 3 for scores of 3 classes"):
            fit(model, F.cross_entropy, optimizer, loader, epochs=1, progress=False, device=device)
        with pytest.raises(IndexError, match="cross_entropy: label 3 for scores of 3 classes"):
            evaluate(model, loader, F.cross_entropy, device=device)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_told_at_the_end_of_the_epoch_with_what_to_do(bad):
    run = parts("cross-entropy", "cuda")
    calls = []

    def loss(output, target):
        calls.append(1)
        return F.cross_entropy(output, target) * (float(bad) if len(calls) == 10 else 1.0)

    words = r"(?s)loss is (inf|nan) in epoch 2, at batch 7 or before it.*learning rate.*device='cpu'.*detect_anomaly"
    with pytest.raises(TrainingError, match=words):
        fit(**{**run, "loss": loss, "validation": None}, epochs=3, capture=False)


def test_the_bar_reads_twice_a_second_at_most(monkeypatch):
    import tqdm.auto

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": False, "mininterval": 0, "file": io.StringIO()})

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    reads = []

    def read(self):
        reads.append(1)
        return original(self)

    original = runs.TotalsThere.read
    monkeypatch.setattr(runs.TotalsThere, "read", read)
    clock = [0.0]

    def tick():
        clock[0] += 0.01  # fewer than 0.5 s pass in an epoch of 7 batches, however often it is asked
        return clock[0]

    monkeypatch.setattr(runs.time, "perf_counter", tick)
    fit(**{**parts("cross-entropy", "cuda"), "progress": True, "validation": None}, epochs=2)
    assert len(reads) == 3, "the first batch, and the end of each epoch"


def test_a_run_stopped_and_resumed_reaches_the_same_totals(tmp_path):
    def stopping(call):
        calls = []

        def loss(output, target):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return F.cross_entropy(output, target)

        return loss

    whole, first, second = (parts("cross-entropy", "cuda") for _ in range(3))
    for run in (whole, first, second):
        run["validation"] = None
    expected = fit(**whole, epochs=2)
    assert fit(**{**first, "loss": stopping(10)}, epochs=2, out=tmp_path, capture=False).interrupted
    found = fit(**second, epochs=2, out=tmp_path, resume=True)
    np.testing.assert_allclose(found["train_loss"], expected["train_loss"], rtol=1e-6)
    assert found["train_accuracy"] == expected["train_accuracy"]
