"""The examples, run as a user runs them."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.serialization import load

EXAMPLES = Path(__file__).parents[2] / "examples"
PNG = b"\x89PNG"


def run(*arguments, script="train_cnn.py", **environment):
    """Run an example in a process of its own; with `rc`, the text of its output and of its errors."""
    command = [sys.executable, EXAMPLES / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def accuracy(done):
    assert done.returncode == 0, done.stderr
    return float(re.search(r"test accuracy ([\d.]+)%", done.stdout)[1]) / 100


@pytest.fixture(scope="module")
def epoch(tmp_path_factory):
    """One epoch on digits: what it printed, and its folder."""
    out = tmp_path_factory.mktemp("train_cnn")
    return run("--epochs", 1, "--out", out), out


def test_one_epoch_on_digits_learns_and_writes_its_files(epoch):
    done, out = epoch
    assert accuracy(done) > 0.5
    assert {"last.safetensors", "best.safetensors", "metrics.csv", "graph.dot"} <= set(os.listdir(out))
    with (out / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["epoch"] == "1" and 0 < float(row["train_accuracy"]) <= 1
    assert "conv1" in (out / "graph.dot").read_text()
    assert load(out / "best.safetensors")["conv1.weight"].shape == (6, 1, 5, 5)


def test_the_curves_are_a_picture(epoch):
    pytest.importorskip("matplotlib")
    assert (epoch[1] / "curves.png").read_bytes()[:4] == PNG


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(epoch, tmp_path):
    results = []
    for seed in (0, 1):
        assert run("--epochs", 1, "--seed", seed, "--quiet", "--out", tmp_path / str(seed)).returncode == 0
        results.append(load(tmp_path / str(seed) / "best.safetensors"))
    first = load(epoch[1] / "best.safetensors")
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor.numpy(), results[0][name].numpy(), err_msg=name)
    assert not np.allclose(first["conv1.weight"].numpy(), results[1]["conv1.weight"].numpy())


def test_a_finished_run_resumed_is_tested_again_and_trained_no_more(epoch):
    done, out = epoch
    again = run("--epochs", 1, "--out", out, "--resume", "--quiet")
    assert accuracy(again) == accuracy(done)
    without_drawing_program = "graph.svg is left out"
    assert len([line for line in again.stdout.splitlines() if not line.startswith(without_drawing_program)]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "mlp", "--augment", "none", "--validate"],
        ["--model", "mlp", "--lr", "0.01", "--batch-size", "200"],
    ],
)
def test_options(arguments):
    assert accuracy(run("--epochs", 1, "--quiet", *arguments)) > 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "imagenet"], "choose from.*digits"),
        (["--epochs", "0"], "0 is not 1 or more"),
        (["--lr", "-1"], "-1 is not a number above 0"),
        (["--resume"], "--resume needs --out"),
        (["--out", ""], "--out: is empty; give the name of a folder"),
        (["--out", __file__], "is a file; give the name of a folder"),
        (["--out", __file__ + "/below"], "is a file; give the name of a folder"),
    ],
)
def test_bad_arguments_are_explained(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert re.search(words, done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_explained():
    done = run("--epochs", 1, "--out", "/proc/self/nothing")
    assert done.returncode == 1
    assert re.search("/proc/self/nothing.*a folder that can be written to", done.stderr, re.DOTALL)
    assert "Traceback" not in done.stderr


def test_a_run_that_does_not_fit_is_explained(epoch, tmp_path):
    shutil.copytree(epoch[1], tmp_path / "run")
    done = run("--epochs", 2, "--out", tmp_path / "run", "--resume")
    assert done.returncode == 1
    assert re.search("a cycle of 23 steps, this one has 46.*as many epochs", done.stderr, re.DOTALL)
    assert "Traceback" not in done.stderr
