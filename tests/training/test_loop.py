"""The training loop: what it reports is so, and a run that is stopped and resumed is the run that was not."""

import csv
import io
import os
import signal
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import ArrayDataset, DataLoader
from minigrad.nn.functional import cross_entropy, mse_loss
from minigrad.serialization import CheckpointError, load, load_metadata
from minigrad.training import TrainingError, evaluate, fit
from minigrad.training.history import COLUMNS

rng = np.random.default_rng(0)
CENTRES = 2 * rng.standard_normal((3, 8)).astype("f4")
LABELS = rng.integers(0, 3, 60)
POINTS = (CENTRES[LABELS] + rng.standard_normal((60, 8))).astype("f4")
TRAIN, VALIDATION = ArrayDataset(POINTS[:42], LABELS[:42]), ArrayDataset(POINTS[42:], LABELS[42:])


def jitter(points, random):
    return points + random.standard_normal(points.shape).astype("f4") / 10


def parts(epochs=6, optimizer="Adam", schedule="OneCycleLR", seed=3, **loader):
    """A run with everything that has a state: batch-norm, dropout, moments, a schedule, shuffling, augmentation."""
    mg.manual_seed(7)
    layers = [nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)]
    model = nn.Sequential(*layers)
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    optimizer = getattr(optim, optimizer)(model.parameters(), lr=0.02, **options)
    train = DataLoader(TRAIN, 8, shuffle=True, **{"seed": seed, "transform": jitter, **loader})
    scheduler = {
        "OneCycleLR": lambda: optim.OneCycleLR(optimizer, 0.05, epochs=epochs, steps_per_epoch=len(train)),
        "StepLR": lambda: optim.StepLR(optimizer, 2),
        None: lambda: None,
    }[schedule]()
    run = {"model": model, "loss": cross_entropy, "optimizer": optimizer, "train_loader": train}
    return {**run, "scheduler": scheduler, "validation": DataLoader(VALIDATION, 10), "progress": False}


def metrics(history):
    """All but the times."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]


def assert_same_model(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy(), err_msg=name)


class InterruptAt:
    """The loss, which at a given call sends Ctrl-C, as often as asked."""

    def __init__(self, call, times=1):
        self.call, self.times, self.calls = call, times, 0

    def __call__(self, output, target):
        if mg.is_grad_enabled():
            self.calls += 1
            if self.calls == self.call:
                for _ in range(self.times):
                    os.kill(os.getpid(), signal.SIGINT)
        return cross_entropy(output, target)


# --- what it reports ---


def test_the_history_is_what_was_asked_for_and_the_model_learns():
    run = parts()
    history = fit(**run, epochs=6)
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert (history.rows[-1]["val_loss"], history.rows[-1]["val_accuracy"]) == evaluate(
        run["model"], run["validation"], cross_entropy
    )
    assert history["val_accuracy"][-1] >= 0.8
    assert history.best_epoch == 1 + int(np.argmax(history["val_accuracy"]))
    assert not history.interrupted and not history.stopped_early
    with pytest.raises(KeyError, match=r"test_loss.*val_loss"):
        history["test_loss"]


def test_evaluate_is_the_mean_over_samples_however_they_are_batched_and_changes_nothing():
    model = parts()["model"]
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    model.train()
    model[3].eval()
    results = [evaluate(model, DataLoader(VALIDATION, size), cross_entropy) for size in (1, 5, 7, 18)]
    assert [m.training for m in model] == [True, True, True, False, True] and model.training
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])
    model.eval()
    with mg.no_grad():
        scores = model(mg.tensor(VALIDATION.images)).numpy()
    logs = np.log(np.exp(scores).sum(1)) - scores[np.arange(18), VALIDATION.labels]
    for loss, accuracy in results:
        assert loss == pytest.approx(logs.mean(), rel=1e-5)
        assert accuracy == np.mean(scores.argmax(1) == VALIDATION.labels)
    assert all(p.grad is None for p in model.parameters())


def test_evaluate_puts_the_mode_back_when_the_loss_raises():
    model = parts()["model"].train()

    def broken(output, target):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        evaluate(model, DataLoader(VALIDATION, 10), broken)
    assert all(m.training for m in model.modules())
    assert mg.is_grad_enabled()


def test_regression_has_no_accuracy_and_needs_no_validation():
    mg.manual_seed(0)
    model = nn.Linear(8, 1)
    targets = POINTS @ np.arange(8, dtype="f4")[:, None]
    loader = DataLoader(ArrayDataset(POINTS, targets), 10, shuffle=True, seed=0)
    optimizer = optim.SGD(model.parameters(), lr=0.02)
    history = fit(model, mse_loss, optimizer, loader, epochs=30, progress=False)
    assert history["train_accuracy"] == history["val_loss"] == [None] * 30
    assert history["train_loss"][-1] < 1e-3 * history["train_loss"][0]
    assert history.best_epoch == 1 + int(np.argmin(history["train_loss"]))


def test_the_first_epochs_training_loss_is_the_mean_over_its_samples():
    mg.manual_seed(0)
    model = nn.Linear(8, 3)
    loader = DataLoader(TRAIN, 8)  # the last batch is smaller
    expected, _ = evaluate(model, loader, cross_entropy)
    history = fit(model, cross_entropy, optim.SGD(model.parameters(), lr=0), loader, epochs=1, progress=False)
    assert history["train_loss"] == [expected]


def test_files_of_a_run(tmp_path):
    run = parts()
    history = fit(**run, epochs=4, out=tmp_path / "new" / "folder")
    out = tmp_path / "new" / "folder"
    assert sorted(os.listdir(out)) == ["best.safetensors", "last.safetensors", "metrics.csv"]
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    best = parts()["model"]
    best.load_state_dict(load(out / "best.safetensors"))
    assert evaluate(best, run["validation"], cross_entropy)[1] == max(history["val_accuracy"])
    assert load_metadata(out / "best.safetensors")["epoch"] == str(history.best_epoch)
    fresh = parts()["model"]
    names = {f"model.{name}" for name in fresh.state_dict()}
    assert names < set(load_file(out / "last.safetensors"))


def test_progress_prints_a_line_an_epoch(capsys):
    fit(**{**parts(), "progress": True}, epochs=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("epoch 2/3 | train loss ") and "val loss" in lines[1] and "accuracy" in lines[1]


def test_the_bar_shows_figures_and_closes(monkeypatch):
    import tqdm.auto

    shown = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": False, "mininterval": 0, "file": io.StringIO()})
            shown.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    fit(**{**parts(), "progress": True}, epochs=2)
    assert [bar.n for bar in shown] == [6, 6] == [bar.total for bar in shown]
    assert "loss" in shown[0].postfix and "accuracy" in shown[0].postfix
    assert not Bar._instances


# --- stopped and resumed ---


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("schedule", ["OneCycleLR", "StepLR", None])
def test_a_run_resumed_between_epochs_is_the_run_that_was_not_stopped(optimizer, schedule, tmp_path):
    kind = {"optimizer": optimizer, "schedule": schedule}
    whole, first, second = (parts(**kind) for _ in range(3))
    mg.manual_seed(7)
    expected = fit(**whole, epochs=6, out=tmp_path / "whole")
    mg.manual_seed(7)
    fit(**first, epochs=6, out=tmp_path / "run", callback=lambda history: len(history) == 2)
    mg.manual_seed(12345)  # another process would have other random numbers
    found = fit(**second, epochs=6, out=tmp_path / "run", resume=True)
    assert metrics(found) == metrics(expected)
    assert found.best_epoch == expected.best_epoch
    assert_same_model(second["model"], whole["model"])
    for name in ("best", "last"):
        a, b = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "run"))
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=f"{name} {key}")


@pytest.mark.parametrize("call", [1, 3, 6, 9, 12, 20])  # in the middle of an epoch of 6 batches, and in its last batch
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_run_stopped_by_ctrl_c_at_any_batch_and_resumed_is_the_run_that_was_not_stopped(call, prefetch, tmp_path):
    whole, first, second = (parts(prefetch=prefetch) for _ in range(3))
    mg.manual_seed(7)
    expected = fit(**whole, epochs=4)
    mg.manual_seed(7)
    stopped = fit(**{**first, "loss": InterruptAt(call)}, epochs=4, out=tmp_path)
    assert stopped.interrupted
    assert len(stopped) == call // 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    mg.manual_seed(12345)
    found = fit(**second, epochs=4, out=tmp_path, resume=True)
    assert not found.interrupted
    assert metrics(found) == metrics(expected)
    assert_same_model(second["model"], whole["model"])


def test_a_seed_that_was_drawn_is_resumed_with_the_data(tmp_path):
    whole, second = parts(seed=None), parts(seed=None)
    assert whole["train_loader"].seed != second["train_loader"].seed
    fit(**whole, epochs=2, out=tmp_path)
    fit(**second, epochs=2, out=tmp_path, resume=True)
    assert whole["train_loader"].seed == second["train_loader"].seed
    assert_same_model(whole["model"], second["model"])


def test_a_second_ctrl_c_interrupts_at_once_and_leaves_the_last_epochs_files(tmp_path):
    whole, first, second = (parts() for _ in range(3))
    mg.manual_seed(7)
    fit(**whole, epochs=3)
    mg.manual_seed(7)
    with pytest.raises(KeyboardInterrupt):
        fit(**{**first, "loss": InterruptAt(9, times=2)}, epochs=3, out=tmp_path)
    assert all(m.training for m in first["model"].modules())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    fit(**second, epochs=3, out=tmp_path, resume=True)
    assert_same_model(second["model"], whole["model"])


def test_ctrl_c_without_a_folder_returns_the_figures_so_far():
    history = fit(**{**parts(), "loss": InterruptAt(15)}, epochs=6)
    assert history.interrupted and len(history) == 2


def test_resume_without_a_run_to_resume_begins_one(tmp_path):
    a, b = parts(), parts()
    mg.manual_seed(7)
    expected = fit(**a, epochs=2)
    mg.manual_seed(7)
    assert metrics(fit(**b, epochs=2, out=tmp_path, resume=True)) == metrics(expected)


def test_a_resumed_run_that_had_ended_trains_no_more(tmp_path):
    first, again = parts(), {**parts(), "loss": lambda *_: pytest.fail("trained on")}
    fit(**first, epochs=2, out=tmp_path)
    assert len(fit(**again, epochs=2, out=tmp_path, resume=True)) == 2
    assert_same_model(first["model"], again["model"])


def test_resuming_with_another_model_or_a_damaged_file_says_so(tmp_path):
    fit(**parts(), epochs=1, out=tmp_path)
    other = parts()
    other["model"] = nn.Linear(8, 3)
    other["optimizer"] = optim.Adam(other["model"].parameters())
    with pytest.raises(ValueError, match=r"(?s)resuming from .*last\.safetensors.*as in the first run"):
        fit(**other, epochs=2, out=tmp_path, resume=True)
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cut short"):
        fit(**parts(), epochs=2, out=tmp_path, resume=True)


def test_training_works_in_a_thread_where_no_signal_arrives():
    result = []
    thread = threading.Thread(target=lambda: result.append(fit(**parts(), epochs=1)))
    thread.start()
    thread.join()
    assert len(result[0]) == 1


# --- ended early ---


def test_patience_stops_and_puts_the_best_weights_back():
    run = parts(schedule=None)
    scores = []

    def worse_and_worse(history):
        scores.append(run["model"].state_dict()["0.weight"].numpy().copy())
        run["optimizer"].param_groups[0]["lr"] = 0.0 if len(history) < 2 else 5.0

    history = fit(**run, epochs=50, patience=3, callback=worse_and_worse)
    assert history.stopped_early and len(history) == history.best_epoch + 3 < 50
    np.testing.assert_array_equal(run["model"].state_dict()["0.weight"].numpy(), scores[history.best_epoch - 1])


def test_the_callback_sees_each_epoch_and_ends_training_with_true():
    seen = []
    history = fit(**parts(), epochs=6, callback=lambda h: seen.append(len(h)) or len(h) == 3)
    assert seen == [1, 2, 3] and len(history) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_stops_before_the_step_and_says_where(bad):
    run = parts(schedule=None)
    calls, before = [], {}

    def loss(output, target):
        if mg.is_grad_enabled():
            calls.append(1)
            if len(calls) == 8:
                before.update({n: t.numpy().copy() for n, t in run["model"].named_parameters()})
                return cross_entropy(output, target) * float(bad)
        return cross_entropy(output, target)

    with pytest.raises(TrainingError, match=rf"loss is {bad} in epoch 2, batch 2.*learning rate"):
        fit(**{**run, "loss": loss}, epochs=3)
    for name, p in run["model"].named_parameters():
        np.testing.assert_array_equal(p.numpy(), before[name])


def test_options_and_loaders_that_make_no_sense_are_refused():
    for options, words in [
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 2.5}, r"epochs=2\.5"),
        ({"epochs": 2, "patience": 0}, "patience=0"),
        ({"epochs": 2, "resume": True}, "resume=True without out"),
        ({"epochs": 1, "train_loader": []}, "no batches"),
        ({"epochs": 1, "validation": []}, "no batches"),
        ({"epochs": 1, "train_loader": DataLoader(ArrayDataset(POINTS), 4)}, r"batches of \(inputs, targets\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            fit(**{**parts(), **options})


def test_any_iterable_of_pairs_can_be_trained_on(tmp_path):
    batches = [(mg.tensor(POINTS[i : i + 10]), mg.tensor(LABELS[i : i + 10])) for i in range(0, 60, 10)]
    run = {**parts(), "train_loader": batches, "validation": None, "scheduler": None}
    history = fit(**run, epochs=3, out=tmp_path)
    assert len(history) == 3 and (tmp_path / "last.safetensors").exists()
