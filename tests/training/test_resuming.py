"""A run that is killed, damaged, mixed up with another or given other parts: never the wrong weights in silence."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minigrad as mg
from minigrad import nn, optim, serialization
from minigrad.data import ArrayDataset, DataLoader
from minigrad.generators import generator
from minigrad.nn.functional import cross_entropy
from minigrad.serialization import CheckpointError, load, load_metadata
from minigrad.training import fit

rng = np.random.default_rng(0)
POINTS = rng.standard_normal((40, 6)).astype("f4")
LABELS = rng.integers(0, 3, 40)


def parts(epochs=4, optimizer=optim.AdamW, schedule="StepLR", seed=0):
    mg.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
    optimizer = optimizer(model.parameters(), lr=0.02)
    loader = DataLoader(ArrayDataset(POINTS[:30], LABELS[:30]), 10, shuffle=True, seed=seed)
    scheduler = {
        "StepLR": lambda: optim.StepLR(optimizer, 2),
        "Cosine": lambda: optim.CosineAnnealingLR(optimizer, epochs),
        "OneCycleLR": lambda: optim.OneCycleLR(optimizer, 0.05, epochs=epochs, steps_per_epoch=3),
        None: lambda: None,
    }[schedule]()
    run = {"model": model, "loss": cross_entropy, "optimizer": optimizer, "train_loader": loader}
    validation = DataLoader(ArrayDataset(POINTS[30:], LABELS[30:]), 10)
    return {**run, "scheduler": scheduler, "validation": validation, "progress": False}


def weights(run):
    return {name: t.numpy().copy() for name, t in run["model"].state_dict().items()}


def assert_same(a, b):
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def snapshot(run):
    state = [dict(run["model"].state_dict()), run["optimizer"].state_dict(), run["train_loader"].state_dict()]
    state += [None if run["scheduler"] is None else run["scheduler"].state_dict()]
    return json.dumps(state, default=lambda t: np.asarray(t.numpy()).tolist())


@pytest.fixture
def halfway(tmp_path):
    """A folder of a run that was stopped after two epochs of four."""
    fit(**parts(), epochs=4, out=tmp_path / "run", callback=lambda history: len(history) == 2)
    return tmp_path / "run"


# --- the best weights ---


def test_best_weights_that_are_gone_are_never_replaced_by_others_in_silence(tmp_path):
    """After the best epoch others came, so that they stand nowhere but in the file."""
    run = parts(schedule=None)
    history = fit(**run, epochs=40, patience=3, out=tmp_path)
    assert history.best_epoch < len(history)
    expected = weights(run)
    again = parts(schedule=None)
    fit(**again, epochs=40, patience=3, out=tmp_path, resume=True)
    assert_same(weights(again), expected)
    other = tmp_path / "other"
    fit(**parts(schedule=None, seed=5), epochs=history.best_epoch, out=other)
    for damage, words in [
        (lambda: (tmp_path / "best.safetensors").unlink(), "is gone.*put the right file back"),
        (lambda: shutil.copy(other / "best.safetensors", tmp_path / "best.safetensors"), "is of another run"),
        (lambda: serialization.save(tmp_path / "best.safetensors", {"w": np.ones(1)}), "expected epoch"),
        (lambda: (tmp_path / "best.safetensors").write_bytes(b"nonsense"), "not a complete safetensors"),
    ]:
        damage()
        fresh = parts(schedule=None)
        before = snapshot(fresh)
        with pytest.raises(CheckpointError, match=f"(?s){words}"):
            fit(**fresh, epochs=40, patience=3, out=tmp_path, resume=True)
        assert snapshot(fresh) == before
        with pytest.warns(UserWarning, match="Those weights are lost"):
            fit(**parts(schedule=None), epochs=len(history), out=tmp_path, resume=True)


def test_best_weights_of_another_model_are_refused(halfway):
    state = load_metadata(halfway / "best.safetensors")
    serialization.save(halfway / "best.safetensors", {"w": np.ones(2)}, state)
    last = serialization.load_state(halfway / "last.safetensors")
    last["under way"][2] = 5  # an epoch is under way: the weights of the best are in no other file
    serialization.save_state(halfway / "last.safetensors", last)
    with pytest.raises(CheckpointError, match="of another model"):
        fit(**parts(), epochs=4, patience=3, out=halfway, resume=True)


@pytest.mark.parametrize("lost", ["best.safetensors", "metrics.csv"])
def test_a_kill_between_the_files_of_an_epoch_loses_nothing(lost, tmp_path):
    """`last` is written first; what it says of the epoch that was best is enough to write the rest."""
    whole = parts()
    expected = fit(**whole, epochs=4, patience=9, out=tmp_path / "whole")
    folder = tmp_path / "run"
    fit(**parts(), epochs=4, out=folder, callback=lambda history: len(history) == 1)
    (folder / lost).write_bytes(b"")
    run = parts()
    found = fit(**run, epochs=4, patience=9, out=folder, resume=True)
    assert found.best_epoch == expected.best_epoch
    assert_same(weights(run), weights(whole))
    assert_same(load_file(folder / "best.safetensors"), load_file(tmp_path / "whole" / "best.safetensors"))
    with (folder / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]


PROGRAM = """
import sys, warnings
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.training.test_resuming import *
run = parts(epochs=400, schedule=None)
print("begins", flush=True)
fit(**run, epochs=400, out=Path({out!r}), resume=True, callback=lambda history: print(len(history), flush=True))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_run_that_is_killed_again_and_again_has_whole_files_and_goes_on(tmp_path):
    program = PROGRAM.format(root=str(os.path.abspath(".")), out=str(tmp_path))
    seen = 0
    for i in range(3):
        child = subprocess.Popen([sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(4 + i):
            line = child.stdout.readline()
        child.kill()
        child.communicate()
        assert line.strip().isdigit() and int(line) > seen  # it went on where the last one was killed
        with (tmp_path / "metrics.csv").open() as file:
            assert len(list(csv.DictReader(file))) >= seen
        seen = int(line)
        load(tmp_path / "last.safetensors")
        load(tmp_path / "best.safetensors")
    (tmp_path / ".last.safetensors.99999.part").write_bytes(b"half")
    (tmp_path / ".metrics.csv.99999.part").write_bytes(b"half")
    fit(**parts(400, schedule=None), epochs=1, out=tmp_path, resume=True)
    assert sorted(os.listdir(tmp_path)) == ["best.safetensors", "last.safetensors", "metrics.csv"]


# --- other parts than in the first run ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": None}, "the saved run had one, StepLR, and now there is scheduler=None"),
        ({"schedule": "Cosine"}, "StepLR.*CosineAnnealingLR.*another schedule"),
        ({"optimizer": optim.Lion}, r"Lion\.load_state_dict: the state is that of AdamW"),
        ({"optimizer": optim.SGD}, "the state is that of AdamW"),
    ],
)
def test_other_parts_than_in_the_first_run_are_refused_and_nothing_is_changed(change, words, halfway):
    files = {name: (halfway / name).read_bytes() for name in os.listdir(halfway)}
    run = parts(**change)
    before, random = snapshot(run), generator("cpu").bit_generator.state
    with pytest.raises(ValueError, match=rf"(?s)resuming from .*last\.safetensors: .*{words}.*another folder"):
        fit(**run, epochs=4, out=halfway, resume=True)
    assert snapshot(run) == before and generator("cpu").bit_generator.state == random
    assert files == {name: (halfway / name).read_bytes() for name in os.listdir(halfway)}


def test_a_schedule_that_was_not_there_is_refused(tmp_path):
    fit(**parts(schedule=None), epochs=1, out=tmp_path)
    with pytest.raises(ValueError, match="the saved run had none, and now there is a StepLR"):
        fit(**parts(), epochs=2, out=tmp_path, resume=True)


def test_more_epochs_than_the_cycle_had_say_what_to_do(tmp_path):
    fit(**parts(schedule="OneCycleLR"), epochs=4, out=tmp_path)
    with pytest.raises(ValueError, match=r"a cycle of 12 steps, this one has 24.*as many epochs"):
        fit(**parts(8, schedule="OneCycleLR"), epochs=8, out=tmp_path, resume=True)


def test_other_options_of_a_schedule_are_told(tmp_path):
    fit(**parts(schedule="Cosine"), epochs=2, out=tmp_path)
    with pytest.warns(UserWarning, match=r"goes on as it was saved.*T_max=8 \(saved: 4\)"):
        fit(**parts(8, schedule="Cosine"), epochs=3, out=tmp_path, resume=True)


@pytest.mark.parametrize("schedule", ["StepLR", "Cosine", None])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lr": 0.5}, r"lr=0\.5 \(saved: 0\.02\)"),
        ({"betas": (0.5, 0.9)}, r"betas=\(0\.5, 0\.9\) \(saved: \(0\.9, 0\.999\)\)"),
        ({"weight_decay": 0.3, "eps": 1e-3}, r"eps=0\.001 \(saved: 1e-08\).*weight_decay=0\.3 \(saved: 0\.01\)"),
    ],
)
def test_other_options_of_the_optimizer_are_told(options, told, schedule, tmp_path):
    fit(**parts(schedule=schedule), epochs=2, out=tmp_path)
    other = parts(optimizer=lambda params, lr: optim.AdamW(params, **{"lr": lr, **options}), schedule=schedule)
    with pytest.warns(UserWarning, match=rf"optimizer goes on as it was saved.*{told}.*begin anew in another folder"):
        fit(**other, epochs=3, out=tmp_path, resume=True)


@pytest.mark.parametrize("schedule", ["StepLR", "Cosine", "OneCycleLR", None])
def test_options_that_were_moved_on_the_way_are_no_other_options(schedule, tmp_path):
    """A schedule moves rates and momenta, and a callback may: neither warns, in a new process or in the same."""
    first = parts(schedule=schedule)

    def stop(history):
        first["optimizer"].param_groups[0]["weight_decay"] = 0.2
        return len(history) == 2

    fit(**first, epochs=4, out=tmp_path, callback=stop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(**first, epochs=3, out=tmp_path, resume=True)
        fit(**parts(schedule=schedule), epochs=4, out=tmp_path, resume=True)


# --- damaged states ---


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", 7), ("epoch", "two"), ("history", []), ("history", [{}, {}]), ("history", 3), ("best", [0.5]),
        ("best", [None, 1]), ("best", [0.5, 9]), ("under way", [1, 2]), ("under way", ["a"] * 5), ("random", {}),
        ("random", None), ("random", {"bit_generator": "PCG64"}), ("model", {}), ("model", 3), ("optimizer", {}),
        ("optimizer", [1]), ("scheduler", {}), ("scheduler", 3), ("loader", {}), ("loader", [1]),
        ("given", 3), ("given", [1]), ("given", []),
    ],
)  # fmt: skip
def test_a_damaged_state_is_an_error_with_the_files_name_and_changes_nothing(key, value, halfway):
    path = halfway / "last.safetensors"
    state = serialization.load_state(path)
    without = {k: v for k, v in state.items() if k != key}
    for damaged in ({**state, key: value}, *([without] if key != "given" else [])):  # older files have none
        serialization.save_state(path, damaged)
        run = parts()
        before = snapshot(run)
        with pytest.raises(ValueError, match=r"last\.safetensors"):
            fit(**run, epochs=4, out=halfway, resume=True)
        assert snapshot(run) == before


def test_a_state_that_fit_has_not_written_is_refused(tmp_path):
    serialization.save_state(tmp_path / "last.safetensors", [1, 2])
    with pytest.raises(CheckpointError, match="holds no run of fit"):
        fit(**parts(), epochs=1, out=tmp_path, resume=True)
    save_file({"w": np.ones(2)}, tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="no state of training"):
        fit(**parts(), epochs=1, out=tmp_path, resume=True)


# --- folders ---


def test_a_run_begun_anew_in_the_folder_of_another_warns(halfway):
    with pytest.warns(UserWarning, match=r"holds last\.safetensors and best\.safetensors of another run"):
        fit(**parts(seed=3), epochs=1, out=halfway)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(**parts(seed=3), epochs=2, out=halfway, resume=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders")
def test_two_runs_at_once_in_one_folder_are_refused(tmp_path):
    def inner(history):
        with pytest.raises(RuntimeError, match="another run is writing to"):
            fit(**parts(), epochs=1, out=tmp_path)

    fit(**parts(), epochs=1, out=tmp_path, callback=inner)
    fit(**parts(), epochs=2, out=tmp_path, resume=True)


def test_a_place_that_is_no_folder_is_refused_before_the_first_epoch(tmp_path):
    (tmp_path / "file").write_text("mine")
    never = {**parts(), "loss": lambda *_: pytest.fail("trained")}
    for out, kind, words in [
        ("", ValueError, "out is an empty text"),
        (tmp_path / "file", OSError, "A part of this path is a file: choose another folder"),
        (tmp_path / "file" / "below", OSError, "choose another folder"),
    ]:
        with pytest.raises(kind, match=words):
            fit(**never, epochs=1, out=out)
    assert (tmp_path / "file").read_text() == "mine" and os.listdir(tmp_path) == ["file"]


def test_a_full_disk_says_so_and_the_run_goes_on_when_there_is_room(tmp_path, monkeypatch):
    whole = parts()
    fit(**whole, epochs=4)
    calls, fsync = [], os.fsync

    def full(place):
        calls.append(place)
        if len(calls) > 12:
            raise OSError(28, "No space left on device")
        fsync(place)

    monkeypatch.setattr(serialization.os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device.*Free some space"):
        fit(**parts(), epochs=4, out=tmp_path)
    monkeypatch.undo()
    again = parts()
    fit(**again, epochs=4, out=tmp_path, resume=True)
    assert_same(weights(again), weights(whole))
    assert not list(tmp_path.glob(".*"))
